"""The figures that commands write without being asked; without matplotlib, one sentence instead."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.cli import screen
from mien.errors import MissingExtra

if TYPE_CHECKING:
    from mien.dataset import Dataset
    from mien.run import Run

#: Pairs of images on the sheet of training samples, for each class.
_SAMPLES = 2


def draw(made: "Run", dataset: "Dataset | None") -> list[str]:
    """Draw all figures of a run; returns their paths."""
    import json

    try:
        from mien import plot

        title = made.name
        best = made.facts().get("shipped", {}).get("epoch")
        paths = plot.history(made.history(), made.figures, title=title, best=best)
        for report in sorted(made.evaluation.glob("*.json")):
            paths += _of_report(made, json.loads(report.read_text(encoding="utf-8")), report.stem)
        if dataset is not None and dataset.train is not None:
            paths += _samples(made, dataset)
    except MissingExtra as error:
        screen.note(str(error))
        return []
    return [str(path) for path in paths]


def draw_report(made: "Run", report: dict[str, Any], name: str) -> None:
    """Draw the figures of one evaluation of a run."""
    try:
        _of_report(made, report, name)
    except MissingExtra as error:
        screen.note(str(error))


def _of_report(made: "Run", report: dict[str, Any], name: str) -> list[Path]:
    from mien import plot

    return [
        *plot.confusion(report, made.figures, name=name),
        *plot.reliability(report, made.figures, name=name),
    ]


def _samples(made: "Run", dataset: "Dataset") -> list[Path]:
    import numpy as np

    from mien import augment, plot

    split = dataset.split("train")
    chosen = np.concatenate(
        [np.flatnonzero(split.labels == number)[:_SAMPLES] for number in range(len(dataset.labels))]
    )
    recipe = made.recipe()
    after = augment.batch(split.images, chosen, recipe.augment, seed=recipe.seed, epoch=0)
    names = [dataset.labels[number] for number in split.labels[chosen]]
    return plot.samples(split.images[chosen], after, names, made.figures)
