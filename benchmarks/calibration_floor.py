"""What calibration error would a perfectly calibrated model show on so few images?

    python benchmarks/calibration_floor.py fer2013.csv default fast

The expected calibration error is a sum of absolute differences, so chance alone makes it positive. Here
labels are drawn from each model's own probabilities on val, which makes the model perfectly calibrated by
construction, and the error is measured as mien measures it: mean and 95 % range over the draws, beside the
error on the true labels with the temperature and logit biases that four fifths of the images give to
the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mien.data import datasets
from mien.evaluation import calibration
from mien.evaluation.metrics import compute_metrics
from mien.models import model_files


def main() -> None:
    """Draw, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--draws", type=int, default=400)
    options = parser.parse_args()
    val = datasets.load(options.data).split("val")
    for name in options.models:
        model = model_files.load(name)
        chances = model.run(val.images)
        random = np.random.default_rng(0)
        drawn = [_error(chances, _draw(chances, random), model.card.labels) for _ in range(options.draws)]
        low, high = np.percentile(drawn, [2.5, 97.5])
        has = next(iter(model.card.heads.values()))
        raw = calibration.undo(chances, has.temperature, has.logit_bias)
        own = calibration.measure(raw, val.labels, logit_bias=bool(has.logit_bias)).ece_after
        print(
            f"{name}: {own:.2%} across folds, n = {len(val)}; "
            f"{np.mean(drawn):.2%} ({low:.2%} to {high:.2%}) if perfect"
        )


def _draw(chances: np.ndarray, random: np.random.Generator) -> np.ndarray:
    steps = chances.astype(np.float64).cumsum(axis=1)
    return (random.random((len(chances), 1)) * steps[:, -1:] > steps).sum(axis=1)


def _error(chances: np.ndarray, truth: np.ndarray, labels: tuple[str, ...]) -> float:
    return compute_metrics(chances, truth, labels).ece


if __name__ == "__main__":
    main()
