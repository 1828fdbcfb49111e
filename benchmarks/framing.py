"""How each detector's box lies about a face in FER2013's frame, and what the way back is worth.

    python benchmarks/framing.py fer2013.csv

Faces of Training are enlarged to 72 to 144 pixels a side and set into generated texture. Each detector looks
for them; the medians of the way from its box to the frame are its `CropTransform`. Faces of PublicTest are
then treated the same way, cut out by that transform, by the box itself and by the box with margins (both
squeezed into a square, as is common), and classified by the model in the package, like the original faces.
Accuracy is of the faces found; a face is missed where no box overlaps its frame by 0.2 of their union.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from PIL import Image

from detectors import overlap, textured
from mien.data import datasets
from mien.models import model_files
from mien.vision import detectors, images

SIDE = 224
MARGINS = (0.0, 0.1, 0.2, 0.3)


def scenes(faces: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, tuple[float, ...]]]:
    """Yield each face `(48, 48, 1)` in grey surroundings, and its frame: left, top, width, height."""
    for number, face in enumerate(faces):
        rng = np.random.default_rng([seed, number])
        ground = images.grey(textured(rng, SIDE, SIDE)).astype(np.float64)
        side = int(rng.integers(72, 145))
        large = np.asarray(Image.fromarray(face[:, :, 0]).resize((side, side), Image.Resampling.BICUBIC))
        x, y = (int(rng.integers(8, SIDE - side - 8)) for _ in range(2))
        edge = np.minimum(np.arange(side), np.arange(side)[::-1]) + 1
        mask = np.clip(np.minimum(edge[:, np.newaxis], edge) / 4, 0, 1)
        part = ground[y : y + side, x : x + side]
        ground[y : y + side, x : x + side] = part * (1 - mask) + large * mask
        yield np.rint(ground).astype(np.uint8), (x, y, side, side)


def looked_for(
    detector: detectors.Detector, faces: np.ndarray, seed: int
) -> list[tuple[np.ndarray, tuple[float, ...], detectors.Detection | None]]:
    """Return each scene, its frame and the box that shows its face best, None where there is none."""
    answers = []
    for image, frame in scenes(faces, seed):
        boxes = [face for face in detector.find(image, smallest=32) if overlap(face, frame) >= 0.2]
        answers.append((image, frame, max(boxes, key=lambda face: overlap(face, frame), default=None)))
    return answers


def framing(
    detector: detectors.Detector, faces: np.ndarray
) -> tuple[detectors.CropTransform, np.ndarray, int]:
    """Return the medians of the way from box to frame, their spread, and how many faces were missed."""
    ways = [
        (
            (frame[0] + frame[2] / 2 - box.left - box.width / 2) / box.width,
            (frame[1] + frame[3] / 2 - box.top - box.height / 2) / box.height,
            frame[2] / (box.width * box.height) ** 0.5,
        )
        for _, frame, box in looked_for(detector, faces, 0)
        if box is not None
    ]
    middle = np.median(ways, axis=0)
    spread = np.subtract(*np.percentile(ways, [75, 25], axis=0))
    return (
        detectors.CropTransform(*(round(float(each), 3) for each in middle)),
        spread,
        len(faces) - len(ways),
    )


def squeezed(image: np.ndarray, box: detectors.Detection, margin: float, size: int) -> np.ndarray:
    """Cut a box grown by `margin` on each side, and squeeze it into a square."""
    across, down = box.width * margin, box.height * margin
    corners = (box.left - across, box.top - down, box.left + box.width + across, box.top + box.height + down)
    out = 2 * SIDE
    padded = Image.fromarray(np.pad(image, out, mode="edge"))
    shifted = tuple(each + out for each in corners)
    return np.asarray(padded.resize((size, size), Image.Resampling.BILINEAR, box=shifted))[:, :, np.newaxis]


def scored(
    detector: detectors.Detector, way: detectors.CropTransform, faces: np.ndarray, truth: np.ndarray
) -> dict[str, float]:
    """Return the accuracy in percent of each way to cut, on the faces found."""
    model = model_files.load(threads=1)
    answers = looked_for(detector, faces, 1)
    found = [number for number, (_, _, box) in enumerate(answers) if box is not None]
    kept = [answers[number] for number in found]
    size = model.card.size
    ways = {"measured": np.stack([images.cut(image, way.square(box), size) for image, _, box in kept if box])}
    for margin in MARGINS:
        crops = [squeezed(image, box, margin, size) for image, _, box in kept if box]
        ways["the box" if margin == 0 else f"{margin:.0%} more".replace("%", " %")] = np.stack(crops)
    ways["as FER2013 has them"] = faces[found]
    scores = {
        name: float((model.run(crops).argmax(axis=1) == truth[found]).mean() * 100)
        for name, crops in ways.items()
    }
    return scores | {"missed": 100 - 100 * len(found) / len(faces)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", help="fer2013.csv")
    parser.add_argument("--train", type=int, default=3000, help="faces to measure on")
    parser.add_argument("--val", type=int, default=1200, help="faces to score on")
    parser.add_argument("--detector", nargs="+", default=detectors.NAMES)
    options = parser.parse_args()
    data = datasets.load(options.data)
    rng = np.random.default_rng(0)
    train, val = data.split("train"), data.split("val")
    some = rng.permutation(len(train.images))[: options.train]
    others = rng.permutation(len(val.images))[: options.val]
    for name in options.detector:
        detector = detectors.load(name)
        way, spread, missed = framing(detector, train.images[some])
        print(
            f"{name}: {way}, quartiles apart by {np.round(spread, 3)}, {missed} of {len(some)} missed",
            flush=True,
        )
        scores = scored(detector, way, val.images[others], val.labels[others])
        print(" | ".join(f"{key} {value:.1f} %" for key, value in scores.items()), flush=True)


if __name__ == "__main__":
    main()
