"""Measure how many planted re-cropped duplicates the search finds, for each kind of change.

    python benchmarks/recrops_planted.py fer2013.csv [--copies 300] [--among 6000]

Some of a data set's validation images are cut, enlarged, shrunk, marked or turned, and looked for among its
training images, to which the originals were added. `found` counts images paired with their own original.
With `unchanged`, nothing is planted: pairs are those that the data set brings, for comparison.
"""

import argparse
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from mien.data import datasets, duplicates, recrops


def box(image: np.ndarray, left: float, top: float, side: float) -> np.ndarray:
    """Cut out a square in pixels, which may reach beyond the border, and fit it to the side it had."""
    size = len(image)
    padded = Image.fromarray(np.pad(image, 16, mode="edge"))
    part = (left + 16, top + 16, left + side + 16, top + side + 16)
    return np.asarray(padded.resize((size, size), Image.Resampling.BICUBIC, box=part))


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, "JPEG", quality=quality)
    return np.asarray(Image.open(packed))


def marked(image: np.ndarray) -> np.ndarray:
    """Lighten stripes across the middle, as a watermark does."""
    changed = image.astype(float)
    changed[22:28, 6:42:2] = changed[22:28, 6:42:2] * 0.6 + 255 * 0.4
    return changed.astype(np.uint8)


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    return np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BICUBIC))


WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "unchanged": lambda image: image,
    "cropped by 1 pixel on all sides": lambda image: box(image, 1, 1, 46),
    "cropped by 4 pixels on all sides": lambda image: box(image, 4, 4, 40),
    "cropped by 7 pixels on all sides": lambda image: box(image, 7, 7, 34),
    "4 pixels more on all sides": lambda image: box(image, -4, -4, 56),
    "8 pixels more on all sides": lambda image: box(image, -8, -8, 64),
    "3 pixels right": lambda image: box(image, -3, 0, 48),
    "6 pixels up": lambda image: box(image, 0, 6, 48),
    "cropped by 4, 3 right, mirrored, JPEG 75": lambda image: jpeg(box(image, 1, 4, 40)[:, ::-1], 75),
    "cropped by 3, watermark": lambda image: marked(box(image, 3, 3, 42)),
    "cropped by 3, rotated by 5°": lambda image: turned(box(image, 3, 3, 42), 5),
    "cropped by 3, rotated by 10°": lambda image: turned(box(image, 3, 3, 42), 10),
    "cropped by 10 pixels on all sides": lambda image: box(image, 10, 10, 28),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--copies", type=int, default=300, help="of each way")
    parser.add_argument("--among", type=int, help="training images looked among, the first; all if not said")
    options = parser.parse_args()
    data = datasets.load(options.data)
    val, train = data.split("val").images, data.split("train").images[: options.among]
    told = np.flatnonzero(val.std(axis=(1, 2, 3)) >= duplicates.FLAT)
    chosen = np.random.default_rng(0).choice(told, min(options.copies, len(told)), replace=False)
    among = np.concatenate([train, val[chosen]])
    print("| way | found | pairs with other images |")
    print("|---|---|---|")
    for name, change in WAYS.items():
        images = np.stack([change(val[place, :, :, 0]) for place in chosen])[..., np.newaxis]
        found = recrops.find(images, among)
        mine = found.other == len(train) + found.one
        print(
            f"| {name} | {len(np.unique(found.one[mine])) / len(chosen):.1%} | {(~mine).sum()} |", flush=True
        )


if __name__ == "__main__":
    main()
