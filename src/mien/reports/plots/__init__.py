"""Draw what a training did and what its model is worth: PNG and SVG. The only room that knows matplotlib.

Figures are equal to the byte for equal numbers, hold no date and no path, and appear whole or not at all.
pyplot, its current figure and the user's backend and settings stay as they are.
"""

import json
from pathlib import Path

import numpy as np

from mien.data.datasets import Dataset, Split
from mien.errors import MissingExtra, RunError
from mien.training import augmentation as augment

try:
    # Every room behind this door needs it, and here alone its absence is told.
    import matplotlib.figure  # noqa: F401
except ImportError as error:
    raise MissingExtra("plotting", "plot") from error

from mien.reports.plots.calibration import reliability
from mien.reports.plots.confusion_matrices import confusion
from mien.reports.plots.curves import history
from mien.reports.plots.sample_sheets import samples
from mien.reports.plots.timeline import course
from mien.training.runs import Run

__all__ = ["confusion", "course", "history", "reliability", "run", "samples"]


#: Pairs of images on the sheet of training samples, for each class.
_PAIRS = 2


def run(made: Run, dataset: Dataset | None = None) -> list[Path]:
    """Draw a run's history, its samples, and the confusion and reliability of every split it was scored on.

    Args:
        made: The run; its figures are replaced.
        dataset: The run's data, for a sheet of its training images before and after augmentation.

    Returns:
        The files, in the order they were written.

    Raises:
        RunError: No epoch was finished yet, or a report is damaged.
        TrainingError: A file cannot be written.
        MissingExtra: There is a data set, and OpenCV is not installed to augment its images.
    """
    rows = made.history()
    # A training that was killed has a history, and nothing that ships.
    best = made.facts().get("shipped", {}).get("epoch")
    paths = history(rows, made.figures, title=made.name, best=best)
    for file in sorted(made.evaluation.glob("*.json")):
        try:
            report = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{file} is damaged: {error}; score the split again") from None
        paths += confusion(report, made.figures, name=file.stem)
        paths += reliability(report, made.figures, name=file.stem)
    if dataset is not None and dataset.train is not None:
        paths += _sheet(made, dataset, dataset.train)
    return paths


def _sheet(made: Run, dataset: Dataset, split: Split) -> list[Path]:
    chosen = np.concatenate(
        [np.flatnonzero(split.labels == number)[:_PAIRS] for number in range(len(dataset.labels))]
    )
    recipe = made.recipe()
    after = augment.batch(split.images, chosen, recipe.augment, seed=recipe.seed, epoch=0)
    names = [dataset.labels[number] for number in split.labels[chosen]]
    return samples(split.images[chosen], after, names, made.figures)
