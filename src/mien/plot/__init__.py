"""Draw what a training did and what its model is worth: PNG and SVG. The only room that knows matplotlib.

Figures are equal to the byte for equal numbers, hold no date and no path, and appear whole or not at all.
pyplot, its current figure and the user's backend and settings stay as they are.
"""

import json
from pathlib import Path

from mien.errors import RunError
from mien.plot.calibration import reliability
from mien.plot.curves import history
from mien.plot.matrix import confusion
from mien.plot.sheet import samples
from mien.run import Run

__all__ = ["confusion", "history", "reliability", "run", "samples"]


def run(made: Run) -> list[Path]:
    """Draw a run's history, and the confusion and reliability of every split it was scored on.

    Args:
        made: The run; its figures are replaced.

    Returns:
        The files, in the order they were written.

    Raises:
        RunError: No epoch was finished yet, or a report is damaged.
        TrainingError: A file cannot be written.
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
    return paths
