"""How far do 500 faces in classes of one's own get, with and without a trained model to begin from?

    python benchmarks/own_faces.py fer2013.csv --to own
    mien train own --from default --out from-default
    mien train own --recipe tune --set network=large --out from-chance
    mien train own --recipe quick --set epochs=40 --out quick
    mien evaluate from-default --split test

Writes faces of FER2013's PublicTest as class folders: 500 to train on, 300 for val, the others for test.
Faces with an exact, near or re-cropped duplicate in FER2013's Training are left out, for the
models in the package may have memorised them; looking for them takes minutes. The classes are three that no
model in the package answers in: negative (angry, disgust, fear, sad), neutral and positive (happy); surprise
is left out. With `--emotions` they are the seven emotions. `--train N` writes N faces to train on. Run again
with another `--set seed=N` for the spread.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from mien.data import datasets
from mien.evaluation.memorised import find_training_duplicates
from mien.labels import EMOTIONS

CLASSES = {"neutral": "neutral", "happy": "positive"} | dict.fromkeys(
    ("angry", "disgust", "fear", "sad"), "negative"
)
TRAIN, VAL = 500, 300


def main() -> None:
    """Write the folders and say how many faces are in each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--to", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--train", type=int, default=TRAIN, help="faces to train on")
    parser.add_argument("--emotions", action="store_true", help="keep the seven emotions as classes")
    options = parser.parse_args()
    classes = {emotion: emotion for emotion in EMOTIONS} if options.emotions else CLASSES
    found = datasets.load(options.data)
    faces = found.split("val")
    again = find_training_duplicates(faces.images, found.split("train").images, include_recrops=True)
    order = np.random.default_rng(0).permutation(len(faces))
    kept = [
        index
        for index in order.tolist()
        if found.labels[faces.labels[index]] in classes and not again.any[index]
    ]
    options.to.mkdir(parents=True)
    for place, index in enumerate(kept):
        part = "train" if place < options.train else "val" if place < options.train + VAL else "test"
        folder = options.to / part / classes[found.labels[faces.labels[index]]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(faces.images[index, :, :, 0]).save(folder / f"{index:04d}.png")
    print(f"{options.to}: {options.train} train, {VAL} val, {len(kept) - options.train - VAL} test")


if __name__ == "__main__":
    main()
