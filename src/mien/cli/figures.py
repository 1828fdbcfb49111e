"""The figures that commands write without being asked; without matplotlib, one sentence instead."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mien.cli import screen
from mien.errors import MissingExtra

if TYPE_CHECKING:
    from mien.data.datasets import Dataset
    from mien.training.runs import Run


def draw(made: "Run", dataset: "Dataset | None") -> list[str]:
    """Draw all figures of a run; returns their paths."""
    try:
        from mien.reports import plots as plot

        own = made.facts()["data"]["splits"]["train"]["fingerprint"]
        if dataset is not None and (dataset.train is None or dataset.train.fingerprint != own):
            screen.note(f"no samples are drawn: {dataset.root} is not what {made.name} was trained on")
            dataset = None
        paths = plot.run(made, dataset)
    except MissingExtra as error:
        screen.note(str(error))
        return []
    return [str(path) for path in paths]


def draw_report(made: "Run", path: Path) -> None:
    """Draw the figures of the report in `path`."""
    try:
        from mien.reports import plots as plot

        report = json.loads(path.read_text(encoding="utf-8"))
        plot.confusion(report, made.figures, name=path.stem)
        plot.reliability(report, made.figures, name=path.stem)
    except MissingExtra as error:
        screen.note(str(error))
