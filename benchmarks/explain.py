"""Do maps mark what matters? Hide the marked fifth of FER2013 faces, and as much elsewhere.

python benchmarks/explain.py fer2013.csv
"""

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.data import datasets
from mien.evaluation import explanation as explain
from mien.models import model_files

SHARE = 0.2


def marked(map_: NDArray[np.float32]) -> NDArray[np.float64]:
    chosen = np.zeros(map_.size)
    chosen[np.argsort(-map_.ravel(), kind="stable")[: int(map_.size * SHARE)]] = 1
    return chosen.reshape(map_.shape)


def elsewhere(where: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    rough = rng.normal(size=(6, 6)).astype(np.float32)
    smooth = np.asarray(Image.fromarray(rough).resize(where.shape, Image.Resampling.BICUBIC))
    return marked(np.where(where > 0, -np.inf, smooth))


def odds(chances: NDArray[np.float32]) -> NDArray[np.float64]:
    likely = chances.astype(np.float64).clip(1e-30)
    return np.log(likely) - np.log((1 - likely).clip(1e-7))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", type=Path)
parser.add_argument("--faces", type=int, default=150)
options = parser.parse_args()
split = datasets.load(options.data).split("val")
rng = np.random.default_rng(0)
faces = split.images[np.sort(rng.choice(len(split.images), options.faces, replace=False))]
model = model_files.load(threads=1)
before = model.run(faces, head="fer2013")
answers, rows = before.argmax(axis=1), np.arange(len(faces))
print("method     CPU ms a face   marked   elsewhere   of another face   marked wins")
for method in explain.METHODS:
    start = time.process_time()
    maps = [explain.face(model, face, head="fer2013", method=method).map for face in faces]
    spent = (time.process_time() - start) / len(faces) * 1000
    wheres = [marked(each) for each in maps]
    falls = []
    for chosen in (wheres, [elsewhere(each, rng) for each in wheres], wheres[1:] + wheres[:1]):
        hidden = np.stack([explain.hide(face, where) for face, where in zip(faces, chosen, strict=True)])
        after = model.run(hidden, head="fer2013")
        falls.append(odds(before[rows, answers]) - odds(after[rows, answers]))
    means = [float(each.mean()) for each in falls]
    print(
        f"{method:10s} {spent:13.0f} {means[0]:8.2f} {means[1]:11.2f} {means[2]:17.2f} "
        f"{np.mean(falls[0] > falls[1]):12.0%}"
    )
