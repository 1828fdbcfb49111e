"""How much better a model is where it is sure: accuracy against the share of images it answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.errors import DataError
from mien.evaluation.evaluation import Point
from mien.evaluation.metrics import wilson

#: Shares of images answered, at which accuracy is told.
COVERAGES = tuple(index / 20 for index in range(1, 21))


def selective(
    probabilities: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.integer[Any]],
    *,
    coverages: Sequence[float] = COVERAGES,
) -> tuple[Point, ...]:
    """Measure accuracy on the images that the model is most sure about.

    Args:
        probabilities: `(n, k)`, each row summing to 1.
        labels: `(n,)` numbers in [0, k).
        coverages: Shares of images to answer, above 0 and at most 1, ascending.

    Returns:
        A point for each coverage; one only for coverages that confidence cannot tell apart.

    Raises:
        DataError: There are no images, or a coverage is out of its range.
    """
    confidence, hits = _ordered(probabilities, labels)
    n = len(confidence)
    if not all(0 < coverage <= 1 for coverage in coverages):
        raise DataError("a coverage is a share of images: above 0 and at most 1")
    points = {}
    for coverage in coverages:
        threshold = confidence[int(np.ceil(coverage * n - 1e-9)) - 1]
        count = int(np.searchsorted(-confidence, -threshold, side="right"))
        right = int(hits[count - 1])
        points[count] = Point(
            coverage=count / n,
            n=count,
            threshold=float(threshold),
            accuracy=right / count,
            interval=wilson(right, count),
        )
    return tuple(points.values())


def area(
    probabilities: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.integer[Any]]
) -> tuple[float, float]:
    """Return the area under the curve of risk against coverage, and that of a perfect order.

    The risk at each coverage is the share of wrong answers among the images answered; the area is its mean
    over 1, 2, ... n images. A model of the same accuracy that is less sure wherever it is wrong would reach
    the second number.

    Source: Geifman, Uziel and El-Yaniv 2019, arXiv:1805.08206.
    """
    confidence, hits = _ordered(probabilities, labels)
    n = len(confidence)
    # Images of equal confidence have no order, so each has the risk that they share.
    _, start, counts = np.unique(-confidence, return_index=True, return_counts=True)
    ends = start + counts
    risk = 1 - hits[ends - 1] / ends
    best = np.maximum(np.arange(1, n + 1) - hits[-1], 0) / np.arange(1, n + 1)
    return float((risk * counts).sum() / n), float(best.mean())


def _ordered(
    probabilities: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.integer[Any]]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return confidences from the highest down, and how many of the first images are right, both `(n,)`."""
    if not len(labels):
        raise DataError("there are no images; there is nothing to measure")
    confidence = probabilities.max(axis=1).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    right = probabilities.argmax(axis=1) == labels
    return confidence[order], np.cumsum(right[order])
