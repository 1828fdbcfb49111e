"""When an answer counts as uncertain: fitted on images that the model did not learn from."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.evaluation.metrics import wilson
from mien.evaluation.selective_prediction import selective
from mien.models import priors
from mien.models.model import Head

#: Share of the images that are answered at a threshold or above.
ANSWERED = 0.8


def at_chance(probabilities: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.integer[Any]]) -> bool:
    """Say whether nothing shows that a model is better than always answering the most frequent label.

    That is the case if the lower end of the 95 % interval (Wilson) of its accuracy is not above the share of
    the most frequent label among the same images.

    Args:
        probabilities: `(n, k)`, each row summing to 1.
        labels: `(n,)` numbers in [0, k).

    Returns:
        Whether that is so; True where there are no images.
    """
    n = len(labels)
    if not n:
        return True
    right = int((probabilities.argmax(axis=1) == labels).sum())
    return wilson(right, n)[0] <= majority(labels)


def majority(labels: npt.NDArray[np.integer[Any]]) -> float:
    """Return the share of the most frequent of labels `(n,)`, at least one."""
    return float(np.bincount(labels).max() / len(labels))


def stated(
    head: Head,
    probabilities: npt.NDArray[np.floating[Any]],
    truth: npt.NDArray[np.integer[Any]],
    labels: Sequence[str],
    frequencies: Sequence[float],
) -> Head:
    """Return a head with the frequencies, a threshold for each balance, and whether it is at chance.

    Args:
        head: Of which all else stays.
        probabilities: Its answers `(n, k)` as the file gives them, each row summing to 1.
        truth: `(n,)` numbers in [0, k), the right answers.
        labels: The k labels.
        frequencies: Of the training targets `(k,)`, summing to 1.

    Returns:
        The head; without thresholds where there are no images.
    """
    found = replace(head, frequencies=tuple(frequencies), at_chance=at_chance(probabilities, truth))
    if not len(truth):
        return replace(found, threshold=None, thresholds={})
    by_balance = {}
    for balance in priors.OFFERED:
        adjusted = priors.Adjustment(balance=balance).apply(probabilities, labels, frequencies)
        by_balance[f"{balance:g}"] = min(1.0, selective(adjusted, truth, coverages=[ANSWERED])[0].threshold)
    threshold = by_balance.pop("0")
    return replace(found, threshold=threshold, thresholds=by_balance)  # type: ignore[arg-type]
