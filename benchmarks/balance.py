"""What each balance costs and gains, also if classes were otherwise frequent, as Markdown.

    python benchmarks/balance.py [MODEL...] --data fer2013.csv [--votes FILE] [--clear] [--json FILE]

Every head of every model, and the geometric mean of two, is asked once; the tables are worked out from
these answers. A model whose card does not state frequencies is given those of the data's training split,
which are right if it was trained on these data. Shifts weight the images; they draw none.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mien import errors
from mien.data import datasets
from mien.evaluation import evaluator
from mien.evaluation.balance import balance_table, shift_table
from mien.models import model_files
from mien.models.priors import OFFERED
from mien.release import shipping


def main() -> None:
    """Ask every model, and print its two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models", nargs="*", default=list(model_files.SHIPPED), help="names, folders of models or .onnx files"
    )
    parser.add_argument("--data", required=True, help="labelled faces, such as fer2013.csv")
    parser.add_argument("--votes", help="FER+'s votes")
    parser.add_argument("--split", default="val", help="train, val or test [val]")
    parser.add_argument(
        "--clear", action="store_true", help="only images on which one choice has more votes than any other"
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    options = parser.parse_args()
    found = {}
    try:
        for name in options.models:
            found[name] = measure(name, options.data, options.votes, options.split, clear=options.clear)
    except errors.MienError as error:
        parser.error(str(error))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    for name, tables in found.items():
        print(f"### {name}\n")
        print("\n".join([*balances(tables["balance"]), "", *shifts(tables["shift"]), ""]))


def measure(
    name: str, data: str, votes: str | None, split: str, *, clear: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of both tables for one model."""
    model = model_files.load(name)
    faces = datasets.load(data, size=model.card.size, votes=votes)
    shares = {
        head: each.frequencies or measured(model.card, head, faces) for head, each in model.card.heads.items()
    }
    part = faces.split(split)
    if clear:
        if part.votes is None:
            raise errors.InputError("--clear needs --votes")
        two = np.sort(part.votes, axis=1)[:, -2:]
        part = part.take(two[:, 1] > two[:, 0])
    answers = []
    for head in model.card.heads:
        print(f"asking {name} as {head}", file=sys.stderr)
        answers.append(evaluator.predict(model, part, labels=faces.labels, head=head))
    return {
        "balance": [asdict(row) for row in balance_table(answers, shares)],
        "shift": [asdict(row) for row in shift_table(answers, shares)],
    }


def measured(card: model_files.Card, head: str, faces: datasets.Dataset) -> tuple[float, ...]:
    """Return the frequencies in the data's training split, in the order of the model's labels."""
    train = faces.split("train")
    if faces.labels != card.labels:
        raise errors.DataError("the data have other labels than the model, whose card states no frequencies")
    print(f"{card.name} states no frequencies as {head}; those of train are taken", file=sys.stderr)
    return shipping.frequencies(card, head, train)


def balances(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table of balances."""
    names = list(rows[0]["recall"])
    lines = [
        f"| head | against | n | T | right | balanced | ECE | {' | '.join(names)} |",
        "|---" * (7 + len(names)) + "|",
    ]
    for row in rows:
        recalls = ["–" if each is None else f"{each:.1%}" for each in row["recall"].values()]
        figures = [f"{row[key]:.1%}" for key in ("accuracy", "balanced_accuracy", "ece")]
        cells = [row["head"], row["against"], f"{row['n']:,}", f"{row['balance']:g}", *figures, *recalls]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def shifts(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table of shifts: in each cell the share answered right, and the calibration error."""
    lines = [
        f"| head | against | shift | {' | '.join(f'T = {balance:g}' for balance in OFFERED)} |",
        "|---" * (3 + len(OFFERED)) + "|",
    ]
    cells: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        shift = "all equal" if row["shift"] == "equal" else f"{row['shift']} × 3"
        told = cells.setdefault((row["head"], row["against"], shift), [])
        told.append(f"{row['accuracy']:.1%}, {row['ece']:.1%}")
    return [*lines, *(f"| {' | '.join((*key, *told))} |" for key, told in cells.items())]


if __name__ == "__main__":
    main()
