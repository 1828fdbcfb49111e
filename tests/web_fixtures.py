"""What the tests of the web page share: an exported site, photos, a web server and a browser."""

import functools
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import chromium
import mien
from mien.data import synthetic
from mien.errors import InputError
from mien.release import web_site

SCRIPTS = Path(__file__).parent / "web"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
needs_chromium = pytest.mark.skipif(chromium.PROGRAM is None, reason="Chromium is not installed")


@pytest.fixture(scope="session")
def runtime() -> Path:
    """The files of onnxruntime-web, from the cache of the user or from npm."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MIEN_CACHE", raising=False)
        try:
            return web_site.runtime_files()
        except InputError as error:
            pytest.skip(f"onnxruntime-web cannot be fetched: {error}")


@pytest.fixture(scope="session")
def site(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with the default model."""
    return web_site.write(mien.load_model(), tmp_path_factory.mktemp("web") / "site", ort=runtime).path


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the webcam of the browser shows."""
    return write_film(tmp_path_factory.mktemp("film") / "clip.y4m")


@pytest.fixture(scope="session")
def browser(film: Path) -> Iterator[chromium.Chromium]:
    with chromium.started(f"--use-file-for-fake-video-capture={film}") as running:
        yield running


@pytest.fixture(scope="session")
def predictor() -> mien.Predictor:
    return mien.Predictor(detector="mtcnn")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """The address of the site on Python's own web server."""
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def node(script: str, folder: Path, tasks: Sequence[dict[str, Any]], tmp_path: Path) -> str:
    """Run a script of tests/web with a folder and a file of tasks, and return what it prints."""
    listed = tmp_path / "tasks.json"
    listed.write_text(json.dumps(tasks))
    command = ["node", str(SCRIPTS / script), str(folder), str(listed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def astronaut() -> np.ndarray:
    import skimage.data

    photo: np.ndarray = skimage.data.astronaut()
    return photo


def drawn_photo(seed: int) -> np.ndarray:
    """A photo with one to four synthetic faces, `(h, w, 3)`."""
    rng = np.random.default_rng(seed)
    width, height = int(rng.integers(400, 1100)), int(rng.integers(300, 900))
    photo = np.full((height, width, 3), rng.integers(60, 200, 3), np.uint8)
    photo = np.clip(photo + rng.normal(0, 4, photo.shape), 0, 255).astype(np.uint8)
    for number in range(int(rng.integers(1, 5))):
        side = int(rng.integers(60, 240))
        left, top = int(rng.integers(0, width - side)), int(rng.integers(0, max(1, height - side)))
        emotion = mien.labels.EMOTIONS[number]
        face = synthetic.face(emotion, seed=seed * 10 + number, size=side)[:height]
        photo[top : top + side, left : left + side] = face[:, :, np.newaxis] * np.array([1, 0.9, 0.8])
    return photo


def photos(drawn: int) -> list[np.ndarray]:
    """The astronaut in several sizes and orientations, drawn photos, and pictures without a face."""
    whole = Image.fromarray(astronaut())
    return [
        astronaut(),
        astronaut()[::2, ::2],
        *(np.ascontiguousarray(np.rot90(astronaut(), turns)) for turns in (1, 2)),
        np.asarray(whole.rotate(15)),
        np.asarray(whole.resize((1300, 1300))),
        *(drawn_photo(seed) for seed in range(drawn)),
        np.random.default_rng(0).integers(0, 256, (300, 260, 3), np.uint8),
        np.zeros((20, 20, 3), np.uint8),
    ]


def write_film(to: Path, frames: int = 40) -> Path:
    """Write a film for the fake webcam of Chromium: the astronaut, who moves; 640 × 480 in YUV4MPEG2."""
    photo = Image.fromarray(astronaut()).resize((600, 600))
    with to.open("wb") as film:
        film.write(b"YUV4MPEG2 W640 H480 F20:1 Ip A1:1 C420jpeg\n")
        for number in range(frames):
            shift = abs(number - frames // 2)
            frame = Image.new("RGB", (640, 480), (90, 110, 130))
            frame.paste(photo, (10 + shift, 20 - shift))
            luma, blue, red = frame.convert("YCbCr").split()
            film.write(b"FRAME\n")
            film.write(luma.tobytes())
            film.write(b"".join(each.resize((320, 240)).tobytes() for each in (blue, red)))
    return to
