"""How much of a score is owed to photographs that training holds too: models beside fer's network.

    python benchmarks/known_photographs.py [MODEL...] --data fer2013.csv [--without-fer] [--json FILE]

FER2013's PublicTest holds photographs that stand in its Training as well: unchanged or nearly so, cut out
otherwise, or not at all, as `mien audit` tells them apart. Each contender is scored on the three parts and on
the whole. A network that learnt from all of Training knows the first two; one that unchanged copies were left
out for, the second; what nobody can have learnt by heart is the third.
"""

import argparse
import json
import sys
from typing import Any

import numpy as np

import contenders
from mien import errors
from mien.data import datasets
from mien.evaluation.memorised import find_training_duplicates

PARTS = ("all", "exact or near duplicate in Training", "re-cropped in Training", "not in Training")


def main() -> None:
    """Part the images, score everybody on each part, and print."""
    parser = contenders.parser(__doc__)
    options = parser.parse_args()
    if options.data is None:
        parser.error("name fer2013.csv with --data or MIEN_FER2013")
    try:
        rows = _rows(options)
    except errors.MienError as error:
        parser.error(str(error))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"| part of PublicTest | images | {' | '.join(rows[0]['scores'])} |")
    print(f"|---|---|{'---|' * len(rows[0]['scores'])}")
    for row in rows:
        told = [
            f"{each['accuracy']:.1%} ({each['interval'][0]:.1%} to {each['interval'][1]:.1%})"
            for each in row["scores"].values()
        ]
        print(f"| {row['part']} | {row['n']:,} | {' | '.join(told)} |")


def _rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    present = contenders.enter(options)
    data = datasets.load(options.data)
    val = data.split("val")
    print("comparing images", file=sys.stderr)
    found = find_training_duplicates(val.images, data.split("train").images, include_recrops=True)
    copied = found.exact | found.near
    masks = (np.ones(len(val), bool), copied, found.any & ~copied, ~found.any)
    answers = {each.name: contenders.ask(each, val.images) for each in present}
    rows = []
    for part, mask in zip(PARTS, masks, strict=True):
        scores = {}
        for name, shares in answers.items():
            right = int((shares.argmax(axis=1) == val.labels)[mask].sum())
            scores[name] = contenders.share(right, int(mask.sum()))
        rows.append({"part": part, "n": int(mask.sum()), "scores": scores})
    return rows


if __name__ == "__main__":
    main()
