"""Make the pictures of the documentation from drawn faces.

python docs/make_pictures.py [NAME...]

Needs the extras cpu, plot and video, and Chromium.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import av
import numpy as np
from PIL import Image

import mien
from mien.data import synthetic
from mien.data.synthetic.faces import Actions, Face
from mien.evaluation import calibration
from mien.vision import annotation, detectors, images

PICTURES = Path(__file__).parent / "pictures"
#: The faces of the group picture: an emotion and the seed of a face.
GROUP = (("happy", 8), ("surprise", 13), ("sad", 34), ("fear", 3))


def calm(emotion: str, seed: int) -> Face:
    """Return a drawn face from the front, in even light."""
    face = synthetic.describe(emotion, seed=seed)
    view = replace(face.view, roll=0.0, yaw=0.0, pitch=0.0, scale=0.92, right=0.0, down=0.0, cover=None)
    light = replace(face.light, blur=0.0, noise=2.0, background=(150, 150), brightness=140.0, contrast=52.0)
    return replace(face, view=view, light=light)


def group_picture() -> np.ndarray:
    """Return drawn faces side by side, as a grey picture."""
    tiles = [synthetic.paint(calm(emotion, seed), size=240) for emotion, seed in GROUP]
    return np.pad(np.hstack(tiles), ((20, 20), (0, 0)), mode="edge")


def blend(a: Actions, b: Actions, share: float) -> Actions:
    """Return the action units between two expressions."""
    values = {each.name: getattr(a, each.name) for each in fields(Actions)}
    for name, value in values.items():
        values[name] = (1 - share) * value + share * getattr(b, name)
    return Actions(**values)


def film(path: Path, seconds: int = 12, rate: int = 12) -> None:
    """Write a film of two drawn people whose expressions change."""
    plots = ((8, ("neutral", "happy", "surprise", "neutral")), (5, ("neutral", "sad", "angry", "neutral")))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 480, 240, "yuv420p"
        for number in range(seconds * rate):
            at = 3 * number / (seconds * rate - 1)
            tiles = []
            for seed, emotions in plots:
                faces = [calm(emotion, seed) for emotion in emotions]
                step = min(2, int(at))
                share = min(1.0, max(0.0, 2 * (at - step) - 0.5))
                mixed = blend(faces[step].actions, faces[step + 1].actions, share)
                tiles.append(synthetic.paint(replace(faces[0], actions=mixed), size=240))
            pixels = np.repeat(np.hstack(tiles)[:, :, np.newaxis], 3, axis=2)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        out.mux(stream.encode())


def screenshot(page: Path, target: Path, *, width: int = 1000, height: int = 1100) -> None:
    """Take a picture of an HTML page with Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("Chromium is not installed; install it, such as with: apt install chromium")
    size = f"--window-size={width},{height}"
    flags = ["--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu", size]
    command = [chromium, *flags, f"--screenshot={target}", page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def save(picture: Image.Image, name: str, *, colours: int = 200) -> None:
    """Save a picture with few colours, so that it is small."""
    PICTURES.mkdir(exist_ok=True)
    flat = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    flat.save(PICTURES / name, optimize=True)
    print(PICTURES / name, (PICTURES / name).stat().st_size)


def make_marked(_: Path) -> None:
    """Draw the group picture, and mark it."""
    pixels = group_picture()
    Image.fromarray(pixels).save(PICTURES / "faces.png", optimize=True)
    faces = mien.predict(PICTURES / "faces.png").faces
    save(Image.fromarray(annotation.draw(pixels, faces)), "marked.png")


def make_steps(work: Path) -> None:
    """Draw the steps from a photo to probabilities, with the numbers of one drawn face."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrow, Rectangle

    pixels = group_picture()
    detector = detectors.load()
    face = max(
        detector.find(np.repeat(pixels[..., np.newaxis], 3, axis=2), smallest=30), key=lambda f: f.left
    )
    left, top, side = detector.crop.square(face)
    crop = images.cut(pixels, (left, top, side), 48)
    model = mien.load_model("default")
    head = model.card.heads["ferplus"]
    calibrated = model.run(crop[np.newaxis], head="ferplus")
    raw = calibration.undo(calibrated, head.temperature or 1.0, head.logit_bias or ())
    balanced = model.run(crop[np.newaxis], head="ferplus", balance=head.balance)
    blue, orange = "#0b6bcb", "#f5a623"

    # In two rows, so that it can be read on a phone.
    figure = Figure(figsize=(7, 5.4), dpi=130)
    box = {"left": 0.02, "right": 0.94}
    above = figure.add_gridspec(1, 5, width_ratios=(1, 0.2, 0.8, 0.2, 0.5), top=0.87, bottom=0.54, **box)
    below = figure.add_gridspec(1, 3, wspace=0.6, top=0.36, bottom=0.02, left=0.12, right=0.94)
    pictures = [figure.add_subplot(above[number]) for number in range(5)]
    charts = [figure.add_subplot(below[number]) for number in range(3)]
    titles = (
        (pictures[0], 0.98, "1. detect\nbox and crop"),
        (pictures[2], 0.98, "2. crop\n48 × 48, grey"),
        (pictures[4], 0.98, "3. network"),
        (charts[0], 0.47, "probabilities\nof the network"),
        (charts[1], 0.47, "4. calibrate\nconfidence"),
        (charts[2], 0.47, "5. balance\nfrequencies"),
    )
    for axes, height, title in titles:
        place = axes.get_position()
        figure.text((place.x0 + place.x1) / 2, height, title, ha="center", va="top", fontsize=12)
    for axes in pictures:
        axes.axis("off")
    whole, first, small, second, network = pictures
    whole.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    whole.set_xlim(710, 959)
    whole.add_patch(Rectangle((face.left, face.top), face.width, face.height, fill=False, ec=orange, lw=2))
    whole.add_patch(Rectangle((left, top), side, side, fill=False, ec=blue, lw=2, ls="--"))
    small.imshow(crop[..., 0], cmap="gray", vmin=0, vmax=255)
    for arrow in (first, second):
        arrow.add_patch(
            FancyArrow(0.1, 0.5, 0.6, 0, width=0.01, head_width=0.06, head_length=0.25, color="#555")
        )
    for number in range(4):
        size = 0.9 - 0.2 * number
        network.add_patch(Rectangle((0.1 + 0.22 * number, 0.5 - size / 2), 0.12, size, color=blue))
    for chart, values in zip(charts, (raw[0], calibrated[0], balanced[0]), strict=True):
        chart.barh(model.card.labels, values, color=blue)
        chart.invert_yaxis()
        chart.set_xlim(0, 1)
        chart.set_xticks([])
        chart.spines[["top", "right", "bottom"]].set_visible(False)
        chart.tick_params(length=0, labelsize=10)
        for row, value in enumerate(values):
            chart.text(value + 0.03, row, f"{value:.0%}", va="center", fontsize=10)
    figure.savefig(work / "steps.png")
    with Image.open(work / "steps.png") as picture:
        save(picture, "steps.png")


def make_timeline(work: Path) -> None:
    """Plot the emotions in a film."""
    film(work / "film.mp4")
    mien.analyze_video(work / "film.mp4", fps=6, timeline=work / "timeline.png")
    with Image.open(work / "timeline.png") as picture:
        save(picture, "timeline.png")


def make_explanation(work: Path) -> None:
    """Explain the prediction for one drawn face."""
    Image.fromarray(synthetic.paint(calm("happy", 8), size=240)).save(work / "face.png")
    mien.explain(work / "face.png", to=work / "why", method="occlusion")
    for path in sorted((work / "why").glob("*.png")):
        print(path)
    with Image.open(sorted((work / "why").glob("*.png"))[0]) as picture:
        save(picture, "explanation.png")


def make_run(work: Path) -> None:
    """Train on drawn faces; make the curves, the confusion matrix and the page of a report."""
    archive = work / "faces.zip"
    synthetic.write_archive(archive, train=4900, val=700, test=700, seed=0)
    run = mien.train(archive, "quick", settings={"epochs": 8}, out=work / "run")
    for name, target in (("accuracy", "curves.png"), ("confusion-val", "confusion.png")):
        with Image.open(work / "run" / "figures" / f"{name}.png") as picture:
            save(picture, target)
    mien.evaluate(run.path, split="test", report=work / "report")
    screenshot(work / "report" / "report.html", work / "report.png")
    with Image.open(work / "report.png") as picture:
        save(picture, "report.png", colours=64)


def make_audit(work: Path) -> None:
    """Make the page of an audit."""
    mien.data.archives.unpack(
        synthetic.write_archive(work / "faces.zip", train=490, val=70, test=70, seed=0), work / "faces"
    )
    train = sorted((work / "faces").rglob("train/*/*.png"))
    for source in train[5::90]:  # training images in the test split
        shutil.copy(source, str(source).replace("/train/", "/test/").replace(".png", "-copy.png"))
    Image.new("L", (48, 48), 90).save(train[0].with_name("blank.png"))
    with Image.open(train[40]) as picture:
        picture.point(lambda level: level // 9).save(train[40].with_name("dark.png"))
    # A search for other crops of one photo would find drawn faces that are only alike.
    mien.audit(work / "faces", html=work / "audit.html", recrops=False)
    screenshot(work / "audit.html", work / "audit.png")
    with Image.open(work / "audit.png") as picture:
        save(picture, "audit.png", colours=64)


def make_web(work: Path) -> None:
    """Take a picture of the page that runs the model in the browser."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import chromium
    from mien.release import web_site

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Print no line for each request."""

    site = web_site.write(mien.load_model(), work / "site").path
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, chromium.started() as browser:
        Thread(target=server.serve_forever, daemon=True).start()
        page = browser.page()
        page.resize(900, 800)
        page.open(f"http://127.0.0.1:{server.server_port}/")
        page.choose_files("input[type=file]", PICTURES / "faces.png")
        page.wait("document.body.innerText.includes('surprise')")
        page.screenshot(work / "web.png")
        server.shutdown()
    with Image.open(work / "web.png") as picture:
        save(picture, "web.png", colours=128)


MAKERS: dict[str, Callable[[Path], None]] = {
    "marked": make_marked,
    "steps": make_steps,
    "timeline": make_timeline,
    "explanation": make_explanation,
    "run": make_run,
    "audit": make_audit,
    "web": make_web,
}


def main() -> None:
    """Make all pictures, or those that are named."""
    with tempfile.TemporaryDirectory() as work:
        for name in sys.argv[1:] or MAKERS:
            MAKERS[name](Path(work))


if __name__ == "__main__":
    main()
