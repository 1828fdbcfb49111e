"""Measure how often photos that are turned are read upright, and how often upright photos are turned.

    python benchmarks/orientation.py --data fer2013.csv

Faces of FER2013's PublicTest are pasted at 48 and 140 pixels into pictures of 480 x 360 pixels with a smooth
random background. Each picture is shown in four orientations to `Predictor`. Only faces that the detector
finds in the upright picture count. The table also gives the CPU time with and without the search.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from mien.data import datasets
from mien.inference.predictor import Predictor
from mien.vision import detectors
from mien.vision.faces import SMALLEST

SIDES = (48, 140)


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="fer2013.csv")
    parser.add_argument("--count", type=int, default=100, help="faces of each size")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faces = datasets.load(options.data).val.images[..., 0]
    generator = np.random.default_rng(options.seed)
    chosen = faces[generator.choice(len(faces), options.count, replace=False)]
    searching, fixed = Predictor("fast"), Predictor("fast", auto_rotate=False)
    detector = detectors.load()
    print("| face | turned by | pictures | read upright | CPU ms, search | CPU ms, no search |")
    print("|---|---|---|---|---|---|")
    for side in SIDES:
        scenes = [scene(face, side, generator) for face in chosen]
        scenes = [each for each in scenes if detector.find(each, smallest=SMALLEST)]
        for turns in range(4):
            turned = [np.ascontiguousarray(np.rot90(each, turns)) for each in scenes]
            right = sum(searching.image(each).rotation == 90 * turns for each in turned)
            spent = [cpu(each, turned) for each in (searching, fixed)]
            share = f"{right / len(turned):.1%}"
            print(
                f"| {side} px | {90 * turns}° | {len(turned)} | {share} | {spent[0]:.0f} | {spent[1]:.0f} |"
            )


def scene(face: np.ndarray, side: int, generator: np.random.Generator) -> np.ndarray:
    """Return a picture `(360, 480, 3)` uint8 with a face somewhere in it."""
    coarse = generator.integers(60, 190, (12, 16, 3)).astype(np.uint8)
    picture = Image.fromarray(coarse).resize((480, 360), Image.Resampling.BICUBIC)
    left, top = generator.integers(10, 480 - side - 10), generator.integers(10, 360 - side - 10)
    shown = Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")
    picture.paste(shown, (int(left), int(top)))
    return np.asarray(picture)


def cpu(predictor: Predictor, pictures: list[np.ndarray]) -> float:
    """Return CPU milliseconds for one picture."""
    start = time.process_time()
    for each in pictures:
        predictor.image(each)
    return 1000 * (time.process_time() - start) / len(pictures)


if __name__ == "__main__":
    main()
