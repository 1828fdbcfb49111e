"""How well a model's file of hashes knows training images again, for each number of bits that may differ.

    python benchmarks/known_signatures.py fer2013.csv [--copies 1500]

Two things are measured for each limit. Planted copies: of some training images a changed copy is asked about,
and should be found. Other photographs: val is asked about, and what is found there beyond what
mien.data.duplicates finds as equal or near counts as false, unless it is a re-cropped duplicate
(mien.data.recrops.find).
"""

import argparse
import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from mien.data import datasets, duplicates, recrops
from mien.models import training_hashes
from mien.vision import images

LIMITS = (6, 8, 10, 12, 14, 16, 18, 20)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, "JPEG", quality=quality)
    return images.read(packed.getvalue())


def shifted(image: np.ndarray, down: int, across: int) -> np.ndarray:
    size = len(image)
    return np.pad(image, 2, mode="edge")[2 - down : 2 - down + size, 2 - across : 2 - across + size]


def brighter(image: np.ndarray, factor: float, more: int = 0) -> np.ndarray:
    return np.rint(np.clip(image.astype(float) * factor + more, 0, 255)).astype(np.uint8)


def blurred(image: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def resized(image: np.ndarray, side: int) -> np.ndarray:
    larger = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    return images.fit(np.asarray(larger), len(image))[:, :, 0]


WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG, quality 60": lambda image: jpeg(image, 60),
    "JPEG, quality 30": lambda image: jpeg(image, 30),
    "1 pixel left": lambda image: shifted(image, 0, -1),
    "1 pixel down and right": lambda image: shifted(image, 1, 1),
    "2 pixels up": lambda image: shifted(image, -2, 0),
    "30 % brighter": lambda image: brighter(image, 1.3),
    "30 % darker": lambda image: brighter(image, 0.7),
    "30 grey levels brighter": lambda image: brighter(image, 1, 30),
    "blurred, radius 1": lambda image: blurred(image, 1),
    "enlarged to 96 pixels and shrunk": lambda image: resized(image, 96),
    "mirrored": lambda image: image[:, ::-1],
    "mirrored, 1 down, JPEG 75": lambda image: jpeg(shifted(image[:, ::-1], 1, 0), 75),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--copies", type=int, default=1500, help="of each way")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = datasets.load(options.data)
    train, val = data.split("train").images, data.split("val").images
    made = training_hashes.of(train)
    name, content = training_hashes.pack(made)
    print(f"{name}: {len(content):,} bytes for {made.n:,} images, {len(made.signatures):,} signatures")
    start = time.perf_counter()
    made.find(val)
    print(f"{len(val):,} images of val are looked up in {time.perf_counter() - start:.1f} s")

    telling = np.flatnonzero(train.std(axis=(1, 2, 3)) >= duplicates.FLAT)
    chosen = train[np.random.default_rng(options.seed).choice(telling, options.copies, replace=False)]
    print("found, by bits that may differ\n| way |" + "".join(f" {limit} |" for limit in LIMITS))
    for way, change in WAYS.items():
        copies = np.stack([change(image[:, :, 0]) for image in chosen])[..., np.newaxis]
        least = made.apart(copies)
        rates = [(least <= limit).mean() for limit in LIMITS]
        print(f"| {way} |" + "".join(f" {rate:.1%} |" for rate in rates), flush=True)

    both = duplicates.find(np.concatenate([train, val]))
    equal, near = both.again(len(train) + np.arange(len(val)), np.arange(len(train)))
    least = made.apart(val)
    missed = [int((near & (least > limit)).sum()) for limit in LIMITS]
    beyond = {limit: (least <= limit) & ~equal & ~near for limit in LIMITS}
    widest = np.flatnonzero(beyond[LIMITS[-1]])
    recropped = np.zeros(len(val), bool)
    if len(widest):
        recropped[widest[recrops.find(val[widest], train).one]] = True
    print(f"val: mien.data.duplicates finds {equal.sum():,} equal and {near.sum():,} near of {len(val):,}")
    print("| near, not found |" + "".join(f" {count} |" for count in missed))
    print("| found beyond |" + "".join(f" {beyond[limit].sum()} |" for limit in LIMITS))
    print("| of these re-cropped |" + "".join(f" {(beyond[limit] & recropped).sum()} |" for limit in LIMITS))
    rest = [(beyond[limit] & ~recropped).mean() for limit in LIMITS]
    print("| false, share of val |" + "".join(f" {share:.2%} |" for share in rest))


if __name__ == "__main__":
    main()
