"""Sharpness of images at 48, 96 and 224 pixels, and where the audit's threshold of blur is.

    python benchmarks/audit_sizes.py fer2013.csv [--crops 200] [--faces 300] [--photos FOLDER]

Sharp images of three kinds: square crops of the photographs in scikit-image, scikit-learn and Matplotlib,
whose sides have at least 1.5 times the pixels of the largest size, so that they are reduced to every size;
the faces in these photographs; and synthetic faces without blur. FER2013 has faces of 48 pixels only:
enlarged, they are examples of blurred images. `--photos` adds photographs of a folder.

The expected share of false alarms at a size takes the sharpness of a face of FER2013 at 48 pixels, times how
much sharper or softer a random crop is at that size than at 48 pixels.
"""

import argparse
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageFilter
from skimage import data as skimage_data
from sklearn.datasets import load_sample_images

from mien.data import datasets, duplicates, recrops, synthetic
from mien.data.audit.images import blurred_below, sharpness
from mien.data.synthetic.faces import describe
from mien.data.synthetic.painting import paint
from mien.labels import EMOTIONS
from mien.vision import detectors, images

SIZES = (48, 64, 96, 128, 160, 224)
SHOWN = (48, 96, 224)


def photographs(folder: Path | None) -> dict[str, np.ndarray]:
    china, flower = load_sample_images().images
    found = {
        "astronaut": skimage_data.astronaut(),
        "camera": skimage_data.camera(),
        "coffee": skimage_data.coffee(),
        "rocket": skimage_data.rocket(),
        "china": china,
        "flower": flower,
        "grace_hopper": np.asarray(Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False))),
    }
    paths = [] if folder is None else sorted(path for path in folder.iterdir() if images.is_image_file(path))
    return found | {path.name: images.read(path) for path in paths}


def measured(stack: list[np.ndarray]) -> np.ndarray:
    return sharpness(np.stack(stack))


def crops(photo: np.ndarray, count: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield random squares of at least 1.5 times the largest size."""
    grey = images.grey(photo)
    for _ in range(count):
        side = int(random.integers(int(1.5 * max(SIZES)), min(grey.shape) + 1))
        top, left = (int(random.integers(0, length - side + 1)) for length in grey.shape)
        yield grey[top : top + side, left : left + side]


def softened(image: np.ndarray, share: float) -> np.ndarray:
    """Blur by a Gaussian whose standard deviation is a share of the side."""
    blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(share * image.shape[0]))
    return np.asarray(blurred)


def at(stack: list[np.ndarray], size: int) -> list[np.ndarray]:
    return [images.fit(image, size)[:, :, 0] for image in stack]


def row(name: str, values: list[str]) -> None:
    print(f"| {name} | {' | '.join(values)} |", flush=True)


def quantiles(values: np.ndarray) -> str:
    return " ".join(f"{value:.2f}" for value in np.percentile(values, (0.1, 1, 50)))


def share(values: np.ndarray, size: int) -> str:
    return f"{np.mean(values < blurred_below(size)):.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--crops", type=int, default=200)
    parser.add_argument("--faces", type=int, default=300)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    photos = photographs(options.photos)
    large = {name: photo for name, photo in photos.items() if min(photo.shape[:2]) >= 1.5 * max(SIZES)}
    squares = {name: list(crops(photo, options.crops, random)) for name, photo in large.items()}
    every = [square for each in squares.values() for square in each]
    train = datasets.load(options.data).split("train").images[:, :, :, 0]
    train = train[train.std(axis=(1, 2)) >= duplicates.FLAT]
    faces = list(train[random.choice(len(train), 2000, replace=False)])
    base = measured(list(train))
    print(f"thresholds: {', '.join(f'{size}: {blurred_below(size):.3f}' for size in SIZES)}")

    print("\nSharpness: percentiles 0.1, 1 and 50, and the share below the threshold")
    row("images", [str(size) for size in SIZES])
    kinds: dict[str, list[np.ndarray]] = {}
    kinds["crops of photographs"] = every
    kinds["FER2013, enlarged beyond 48"] = faces
    by_size = {name: {size: measured(at(stack, size)) for size in SIZES} for name, stack in kinds.items()}
    for name, stack in squares.items():
        by_size[f"crops of {name}"] = {size: measured(at(stack, size)) for size in SIZES}
    for noise in (None, 0.0):
        name = "synthetic faces without blur" + ("" if noise is None else " and noise")
        by_size[name] = {}
        for size in SIZES:
            drawn = []
            for number in range(options.faces):
                face = describe(EMOTIONS[number % 7], seed=(options.seed, number))
                light = replace(face.light, blur=0.0, noise=face.light.noise if noise is None else noise)
                drawn.append(paint(replace(face, light=light), size=size))
            by_size[name][size] = measured(drawn)
    for name, values in by_size.items():
        row(name, [f"{quantiles(values[size])}; {share(values[size], size)}" for size in SIZES])

    print("\nExpected false alarms: FER2013's sharpness at 48 times the change of a random crop")
    change = {
        size: by_size["crops of photographs"][size] / by_size["crops of photographs"][48] for size in SIZES
    }
    row(
        "change: percentiles 1, 50, 99",
        [" ".join(f"{value:.2f}" for value in np.percentile(change[size], (1, 50, 99))) for size in SIZES],
    )
    for name in ("all", *squares):
        part = (
            change
            if name == "all"
            else {size: by_size[f"crops of {name}"][size] / by_size[f"crops of {name}"][48] for size in SIZES}
        )
        expected = {size: (base[:, None] * part[size][None, ::7]).ravel() for size in SIZES}
        row(f"{name}: 0.1 % are below", [f"{np.percentile(expected[size], 0.1):.3f}" for size in SIZES])
        row(f"{name}: below the threshold", [share(expected[size], size) for size in SIZES])

    print("\nFaces in the photographs: side of the crop, and sharpness")
    detector = detectors.load()
    for name, photo in photos.items():
        found = detector.find(np.ascontiguousarray(photo), smallest=60)
        for face in found[:1]:
            square = detector.crop.square(face)
            values = [float(measured([images.cut(photo, square, size)[:, :, 0]])[0]) for size in SIZES]
            row(f"{name}, {square[2]:.0f} pixels", [f"{value:.2f}" for value in values])

    print("\nShare found if the crops are blurred: standard deviation in percent of the side")
    for percent in (0.25, 0.5, 1, 2, 4):
        soft = [softened(square, percent / 100) for square in every[::5]]
        row(f"{percent} %", [share(measured(at(soft, size)), size) for size in SIZES])
    print("\nShare found if the crops have fewer pixels and are enlarged")
    for fraction in (0.75, 0.5, 0.25):
        values = []
        for size in SIZES:
            small = at(every[::5], round(size * fraction))
            values.append(share(measured(at(small, size)), size))
        row(f"{fraction:g} of the side", values)

    print("\nDuplicates of crops: share found, and pairs of two different photographs")
    chosen = [(name, square) for name, stack in squares.items() for square in stack[:40]]
    owner = np.array([list(squares).index(name) for name, _ in chosen])
    for way, change in {**NEAR, **RECROPPED}.items():
        find = near if way in NEAR else recrops.find
        values = []
        for size in SHOWN:
            originals = np.stack(at([square for _, square in chosen], size))[..., np.newaxis]
            copies = np.stack([change(image[:, :, 0]) for image in originals])[..., np.newaxis]
            found = find(copies, originals)
            mine = len(np.unique(found.one[found.one == found.other])) / len(chosen)
            values.append(f"{mine:.1%}; {int((owner[found.one] != owner[found.other]).sum())}")
        row(way, values)

    print("\nPairs among different synthetic faces: near duplicates, re-cropped duplicates")
    counts = []
    for size in SHOWN:
        drawn, _, _ = synthetic.sample(options.faces, seed=options.seed, size=size)
        again = recrops.find(drawn, drawn)
        counts.append(f"{len(duplicates.find(drawn).pairs)}, {int((again.one < again.other).sum())}")
    row("pairs", counts)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, "JPEG", quality=quality)
    return np.asarray(Image.open(packed))


def box(image: np.ndarray, margin: float) -> np.ndarray:
    """Cut a share of the side from every side, or add one, and fit the result to the size."""
    size = len(image)
    room = size // 3
    padded = Image.fromarray(np.pad(image, room, mode="edge"))
    ends = (room + margin * size, room + (1 - margin) * size)
    part = (ends[0], ends[0], ends[1], ends[1])
    return np.asarray(padded.resize((size, size), Image.Resampling.BICUBIC, box=part))


def moved(image: np.ndarray) -> np.ndarray:
    """Shift by a 24th of the side along both axes."""
    step, size = len(image) // 24, len(image)
    return np.pad(image, step, mode="edge")[:size, :size]


@dataclass(frozen=True)
class Pairs:
    """Indices of copies and of the originals that they are paired with."""

    one: np.ndarray
    other: np.ndarray


def near(copies: np.ndarray, originals: np.ndarray) -> Pairs:
    """Return pairs of exact and near duplicates of a copy and an original."""
    found = duplicates.find(np.concatenate([originals, copies]))
    count = len(originals)
    equal = [(int(first), place) for place, first in enumerate(found.first) if first != place]
    pairs = np.array([*equal, *found.pairs.tolist()], np.int64).reshape(-1, 2)
    across = (pairs[:, 0] < count) & (pairs[:, 1] >= count)
    return Pairs(pairs[across, 1] - count, pairs[across, 0])


NEAR = {
    "JPEG, quality 60": lambda image: jpeg(image, 60),
    "shifted by a 24th": moved,
    "mirrored, 5 % brighter, JPEG 75": lambda image: jpeg(
        np.clip(image[:, ::-1] * 1.05, 0, 255).astype(np.uint8), 75
    ),
}
RECROPPED = {
    "re-cropped by a 12th": lambda image: box(image, 1 / 12),
    "re-cropped by a 7th": lambda image: box(image, 1 / 7),
    "a 6th more on all sides": lambda image: box(image, -1 / 6),
}


if __name__ == "__main__":
    main()
