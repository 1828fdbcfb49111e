"""How many planted copies the near-duplicate search finds, for each way of changing an image.

    python benchmarks/duplicates_planted.py fer2013.csv [--copies 300]

Of a data set's training images those that stand alone are taken; of some of them, others for each way, a
changed copy is added. A copy is found when it is paired with its original, mirrored or not; every other pair
that it is in is wrong.
"""

import argparse
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from mien.data import datasets, duplicates


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, "JPEG", quality=quality)
    return np.asarray(Image.open(packed))


def shifted(image: np.ndarray, down: int, across: int, border: str = "edge") -> np.ndarray:
    height, width = image.shape
    padded = np.pad(image, 8, mode=border)  # type: ignore[call-overload]
    return padded[8 - down : 8 - down + height, 8 - across : 8 - across + width]


def scaled(image: np.ndarray, factor: float) -> np.ndarray:
    return np.rint(np.clip(image * factor, 0, 255)).astype(np.uint8)


def contrasted(image: np.ndarray, factor: float) -> np.ndarray:
    mean = image.mean()
    return np.rint(np.clip((image - mean) * factor + mean, 0, 255)).astype(np.uint8)


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    grey = int(image.mean())
    return np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=grey))


def zoomed(image: np.ndarray, pixels: int) -> np.ndarray:
    side = len(image)
    cut = Image.fromarray(image).crop((pixels, pixels, side - pixels, side - pixels))
    return np.asarray(cut.resize((side, side), Image.Resampling.BILINEAR))


WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG, quality 95": lambda image: jpeg(image, 95),
    "JPEG, quality 75": lambda image: jpeg(image, 75),
    "JPEG, quality 60": lambda image: jpeg(image, 60),
    "JPEG, quality 40": lambda image: jpeg(image, 40),
    "10 % brighter": lambda image: scaled(image, 1.1),
    "10 % darker": lambda image: scaled(image, 0.9),
    "contrast × 0.8": lambda image: contrasted(image, 0.8),
    "contrast × 1.2": lambda image: contrasted(image, 1.2),
    "1 pixel left": lambda image: shifted(image, 0, -1),
    "2 pixels down": lambda image: shifted(image, 2, 0),
    "2 pixels up and 2 right": lambda image: shifted(image, -2, 2),
    "2 pixels up and 2 right, black border": lambda image: shifted(image, -2, 2, "constant"),
    "mirrored": lambda image: image[:, ::-1],
    "mirrored, 1 down, 5 % brighter, JPEG 75": lambda image: jpeg(
        scaled(shifted(image[:, ::-1], 1, 0), 1.05), 75
    ),
    "3 pixels right": lambda image: shifted(image, 0, 3),
    "turned by 2°": lambda image: turned(image, 2),
    "turned by 5°": lambda image: turned(image, 5),
    "1 pixel cut off all around": lambda image: zoomed(image, 1),
    "2 pixels cut off all around": lambda image: zoomed(image, 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--copies", type=int, default=300, help="of each way")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    images = datasets.load(options.data).split("train").images
    own = duplicates.find(images)
    alone = np.setdiff1d(np.flatnonzero(own.first == np.arange(len(images))), own.pairs)
    alone = alone[images[alone].std(axis=(1, 2, 3)) >= duplicates.FLAT]
    kept = images[alone]
    chosen = np.random.default_rng(options.seed).permutation(len(kept))
    chosen = chosen[: options.copies * len(WAYS)].reshape(len(WAYS), -1)
    copies = [
        change(kept[place, :, :, 0])
        for change, row in zip(WAYS.values(), chosen, strict=True)
        for place in row
    ]
    planted = np.concatenate([kept, np.stack(copies)[..., np.newaxis]])
    found = duplicates.find(planted)
    origin = np.concatenate([np.arange(len(kept)), chosen.ravel()])
    way = np.concatenate([np.full(len(kept), -1), np.repeat(np.arange(len(WAYS)), chosen.shape[1])])
    # A copy that is equal to its original stands under it, and in no pair.
    equal = [(int(first), place) for place, first in enumerate(found.first) if first != place]
    pairs = np.array([*equal, *found.pairs.tolist()], np.int64).reshape(-1, 2)
    right = origin[pairs[:, 0]] == origin[pairs[:, 1]]
    kinds = way[pairs]
    print(f"{len(kept):,} images that stand alone, {chosen.shape[1]:,} copies of each way")
    print("| way | found | wrong pairs |\n|---|---|---|")
    for number, name in enumerate(WAYS):
        here = (kinds == number).any(axis=1)
        print(f"| {name} | {(here & right).sum() / chosen.shape[1]:.1%} | {(here & ~right).sum()} |")
    print(f"| none: pairs of the others among themselves | | {((kinds == -1).all(axis=1) & ~right).sum()} |")


if __name__ == "__main__":
    main()
