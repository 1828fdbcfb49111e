"""Would another way to fit temperature and logit biases serve better than the one that `mien ship` takes?

    python benchmarks/calibration_fits.py fer2013.csv default fast

Each model's calibration is undone and fitted anew on PublicTest in other ways: on the images whose photograph
the model's training does not show alone, since confidence is for new faces; and with logit biases that are
pulled to 0 harder or not at all, since they cost rare classes their recall. Every image is judged with what
the other four folds gave; figures are means over draws of the folds. Images count as new as in
`mien ship`, so the lists that the models' training left out belong to the data (`--votes`, `--exclude`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from mien.data import datasets
from mien.evaluation import calibration
from mien.evaluation.memorised import find_training_duplicates
from mien.evaluation.metrics import compute_metrics
from mien.models import model_files

PULLS = (0.0, 1.0, 10.0, 70.0, 300.0, 1e6)
Fit = Callable[[NDArray, NDArray], tuple[float, tuple[float, ...]]]


def temperature_alone(probabilities: NDArray, labels: NDArray) -> tuple[float, tuple[float, ...]]:
    """Fit a temperature without a prior, and no logit biases."""
    return calibration.fit(probabilities, labels, prior=0.0), ()


def main() -> None:
    """Fit, judge and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--votes", type=Path)
    parser.add_argument("--exclude", type=Path, action="append", default=[])
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    data = datasets.load(options.data, votes=options.votes, exclude=options.exclude)
    val = data.split("val")
    print("comparing images", file=sys.stderr)
    new = ~find_training_duplicates(val.images, data.split("train").images, include_recrops=True).any
    everything = np.ones(len(val), bool)
    ways: list[tuple[str, Fit, NDArray]] = [
        ("a temperature, on all", temperature_alone, everything),
        ("a temperature, on new", temperature_alone, new),
        ("with logit biases, on all", calibration.fit_logit_bias, everything),
        ("with logit biases, on new", calibration.fit_logit_bias, new),
        *((f"logit biases pulled {pull:g} times, on all", pulled(pull), everything) for pull in PULLS),
    ]
    print(
        "| model | fitted | n | accuracy | macro F1 | NLL | ECE | disgust | fear "
        "| on new: accuracy | NLL | ECE |"
    )
    print(f"|---|---|{'---|' * 10}")
    for name in options.models:
        model = model_files.load(name)
        has = next(iter(model.card.heads.values()))
        raw = calibration.undo(model.run(val.images), has.temperature, has.logit_bias)
        for way, fit, part in ways:
            cells = row(raw, val.labels, model.card.labels, fit, part, new, draws=options.draws)
            print(f"| `{name}` | {way} | {int(part.sum()):,} | {' | '.join(cells)} |")


def pulled(pull: float) -> Fit:
    """Fit as `calibrate.fit_offsets` does, with its prior taken `pull` times."""

    def fit(chances: NDArray, truth: NDArray) -> tuple[float, tuple[float, ...]]:
        logits = np.log(np.maximum(chances, calibration.FLOOR))
        logits -= logits.mean(axis=1, keepdims=True)
        n, k = logits.shape
        wanted = np.eye(k)[truth]

        def surprise(at: NDArray) -> tuple[float, NDArray]:
            scaled = logits * at[0] + at[1:]
            scaled -= scaled.max(axis=1, keepdims=True)
            said = np.exp(scaled)
            total = said.sum(axis=1, keepdims=True)
            value = float((wanted * (np.log(total) - scaled)).sum() + pull * (at[1:] ** 2).sum() / 2)
            off = said / total - wanted
            return value / n, np.r_[(off * logits).sum(), off.sum(axis=0) + pull * at[1:]] / n

        bounds = [(1 / calibration.HIGHEST, 1 / calibration.LOWEST), *[(-5.0, 5.0)] * k]
        found = minimize(surprise, np.r_[1.0, np.zeros(k)], jac=True, method="L-BFGS-B", bounds=bounds).x
        return float(1 / found[0]), tuple(found[1:].tolist())

    return fit


def row(
    raw: NDArray,
    truth: NDArray,
    labels: tuple[str, ...],
    fit: Fit,
    part: NDArray,
    new: NDArray,
    *,
    draws: int,
) -> list[str]:
    """Return the figures of one way to fit, as cells of a table."""
    seen = []
    for seed in range(draws):
        after = np.empty_like(raw)
        for here in calibration._folds(truth, 5, seed):
            learnt = part & ~here
            after[here] = calibration.apply(raw[here], *fit(raw[learnt], truth[learnt]))
        whole, fresh = (compute_metrics(after[which], truth[which], labels) for which in (slice(None), new))
        recalls = [whole.per_class[name].recall for name in ("disgust", "fear")]
        figures = [whole.accuracy, whole.macro_f1, whole.nll, whole.ece, *recalls]
        seen.append([*figures, fresh.accuracy, fresh.nll, fresh.ece])
    means = np.mean(seen, axis=0)
    return [f"{value:.3f}" if place in (2, 7) else f"{value:.1%}" for place, value in enumerate(means)]


if __name__ == "__main__":
    main()
