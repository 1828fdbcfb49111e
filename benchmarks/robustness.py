"""How well faces are read when they are corrupted: models of mien beside the network of the package fer.

    python benchmarks/robustness.py MODEL... --data fer2013.csv --json robustness.json

Accuracy on PublicTest, untouched and under each corruption of mien.evaluation.corruptions, with 95 % Wilson
intervals, as a Markdown table. Everybody is asked about the same pixels, corrupted at the data set's own 48
a side and then fitted to each network's input. A model with two heads of a face answers with FER2013's.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np

import contenders
import mien
from mien import errors
from mien.evaluation import corruptions


def main() -> None:
    """Ask, score and print."""
    parser = contenders.parser(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="decides noise, directions and places")
    parser.add_argument(
        "--only", nargs="+", type=_stated, metavar="DISTURBANCE", help='such as "blur 2", of any strength'
    )
    options = parser.parse_intermixed_args()
    if options.data is None:
        parser.error("name fer2013.csv with --data or MIEN_FER2013")
    try:
        document = _document(options)
    except errors.MienError as error:
        parser.error(str(error))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    print(_table(document))


def _stated(words: str) -> corruptions.Corruption:
    kind, _, strength = words.partition(" ")
    if not strength:
        raise argparse.ArgumentTypeError(f'{words!r} has no strength; name it too, such as "blur 2"')
    try:
        return corruptions.Corruption(kind, float(strength))
    except (ValueError, errors.MienError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _document(options: argparse.Namespace) -> dict[str, Any]:
    present = contenders.enter(options)
    split = contenders.public_test(options.data, present)
    asked = [None, *(options.only or corruptions.CORRUPTIONS.values())]
    rows = []
    for place, each in enumerate(asked, start=1):
        print(f"\r{place} of {len(asked)}: {each.name if each else 'clean':20}", end="", file=sys.stderr)
        images = corruptions.corrupt(split.images, each, seed=options.seed) if each else split.images
        scores = {one.name: contenders.score(one, images, split.labels) for one in present}
        kind, strength = (each.kind, each.strength) if each else ("clean", None)
        rows.append({"kind": kind, "strength": strength, "scores": scores})
    print(file=sys.stderr)
    return {
        "split": "PublicTest",
        "n": len(split),
        "fingerprint": split.fingerprint,
        "seed": options.seed,
        "mien": mien.__version__,
        "fer": None if options.without_fer else contenders.FER,
        "files": {each.name: each.file() for each in present},
        "rows": rows,
        "mean_of_kinds": {each.name: _mean(rows, each.name) for each in present},
        **contenders.machine(),
    }


def _mean(rows: list[dict[str, Any]], name: str) -> float:
    """Return the mean accuracy over kinds, each the mean of its strengths."""
    kinds: dict[str, list[float]] = {}
    for row in rows:
        if row["kind"] != "clean":
            kinds.setdefault(row["kind"], []).append(row["scores"][name]["accuracy"])
    return float(np.mean([np.mean(values) for values in kinds.values()]))


def _table(document: dict[str, Any]) -> str:
    names = list(document["mean_of_kinds"])
    lines = [
        f"Accuracy on {document['split']} in percent, n = {document['n']}, 95 % Wilson intervals, seed "
        f"{document['seed']}",
        "",
        "| corruption | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for row in document["rows"]:
        strength = "" if row["strength"] is None else f" {row['strength']:g}"
        cells = []
        for name in names:
            score = row["scores"][name]
            low, high = score["interval"]
            cells.append(f"{100 * score['accuracy']:.1f} ({100 * low:.1f}–{100 * high:.1f})")
        lines.append(f"| {row['kind']}{strength} | " + " | ".join(cells) + " |")
    means = (f"{100 * document['mean_of_kinds'][name]:.1f}" for name in names)
    lines.append("| mean of the kinds | " + " | ".join(means) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
