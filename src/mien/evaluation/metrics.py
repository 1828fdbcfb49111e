"""What probabilities are worth against the true labels: every figure of a report, from arrays alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.errors import DataError
from mien.evaluation.evaluation import Bin, ClassScore, Evaluation, Interval
from mien.labels import VOTES

#: Standard normal quantile of a two-sided 95 % interval.
Z = 1.959963984540054
#: Resamples of the bootstrap.
RESAMPLES = 2000

Floats = npt.NDArray[np.float64]


def metrics(
    probabilities: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.integer[Any]],
    names: Sequence[str],
    *,
    bins: int = 15,
    seed: int = 0,
) -> Evaluation:
    """Measure what probabilities are worth against the true labels.

    Args:
        probabilities: `(n, k)`, each row summing to 1.
        labels: `(n,)` numbers in [0, k).
        names: The k class names.
        bins: Equal-width bins of the calibration error.
        seed: Of the bootstrap; it moves the two bootstrapped intervals in their last digits.

    Raises:
        DataError: There are no images, or shapes do not fit together.

    Source: ECE, Guo et al. 2017, arXiv:1706.04599; interval of a share, Wilson 1927,
        doi:10.1080/01621459.1927.10502953.
    """
    n, k = len(labels), len(names)
    if n == 0 or probabilities.shape != (n, k) or labels.min() < 0 or labels.max() >= k:
        raise DataError(
            f"probabilities of shape {probabilities.shape} do not fit {n} labels of {k} classes; "
            "one row an image and one column a class are needed"
        )
    chances = probabilities.astype(np.float64)
    answers = chances.argmax(axis=1)
    confusion = np.bincount(labels * k + answers, minlength=k * k).reshape(k, k)
    right = answers == labels
    truth = np.eye(k)[labels]
    balanced, macro = _means(confusion[None])
    balanced_interval, macro_interval = _bootstrap(confusion, seed)
    reliability = _reliability(chances.max(axis=1), right, bins)
    return Evaluation(
        n=n,
        labels=tuple(names),
        accuracy=float(right.mean()),
        accuracy_interval=wilson(int(right.sum()), n),
        balanced_accuracy=float(balanced[0]),
        balanced_accuracy_interval=balanced_interval,
        macro_f1=float(macro[0]),
        macro_f1_interval=macro_interval,
        # A float32 softmax can answer 0; the floor keeps one such image from making the mean infinite.
        nll=float(-np.log(np.maximum(chances[np.arange(n), labels], 1e-12)).mean()),
        brier=float(((chances - truth) ** 2).sum(axis=1).mean()),
        ece=_gap(reliability, n),
        per_class={name: _class_score(confusion, index) for index, name in enumerate(names)},
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        absent=tuple(name for name, row in zip(names, confusion, strict=True) if not row.any()),
        reliability=reliability,
    )


def expected_calibration_error(
    probabilities: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.integer[Any]], *, bins: int = 15
) -> float:
    """Return how far confidence is from accuracy, averaged over equal-width bins of confidence.

    Args:
        probabilities: `(n, k)`, each row summing to 1.
        labels: `(n,)` numbers in [0, k), at least one.
        bins: How many.

    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    chances = probabilities.astype(np.float64)
    reliability = _reliability(chances.max(axis=1), chances.argmax(axis=1) == labels, bins)
    return _gap(reliability, len(labels))


def plurality(
    votes: npt.NDArray[np.floating[Any]], names: Sequence[str]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return what most of FER+'s taggers saw.

    Args:
        votes: `(n, 10)`, how many taggers chose each of `emotions.VOTES`.
        names: The k class names.

    Returns:
        `(n,)` whether one of `names` got the most votes, or as many as anything else; `(n,)` its number, of
        equal ones the first.
    """
    columns = [VOTES.index(name) for name in names if name in VOTES]
    if not columns:
        return np.zeros(len(votes), bool), np.zeros(len(votes), np.int64)
    most = votes[:, columns].max(axis=1)
    decided = (most > 0) & (most >= np.delete(votes, columns, axis=1).max(axis=1, initial=0))
    numbers = np.array([names.index(VOTES[column]) for column in columns], np.int64)
    return decided, numbers[votes[:, columns].argmax(axis=1)]


def wilson(right: int, n: int) -> Interval:
    """Return the 95 % interval of a share of which `right` of `n` were counted."""
    share = right / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _class_score(confusion: npt.NDArray[np.int64], index: int) -> ClassScore:
    right = int(confusion[index, index])
    n, answered = int(confusion[index].sum()), int(confusion[:, index].sum())
    return ClassScore(
        n=n,
        precision=right / answered if answered else None,
        recall=right / n if n else None,
        f1=2 * right / (n + answered) if n else None,
        recall_interval=wilson(right, n) if n else None,
        precision_interval=wilson(right, answered) if answered else None,
        f1_interval=_f1_interval(right, n + answered - right) if n else None,
    )


def _f1_interval(right: int, either: int) -> Interval:
    low, high = wilson(right, either)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def _means(confusions: npt.NDArray[np.integer[Any]]) -> tuple[Floats, Floats]:
    """Return balanced accuracy and macro F1 of each of `(m, k, k)` confusions."""
    right = np.diagonal(confusions, axis1=1, axis2=2)
    return _means_of(right, confusions.sum(axis=2), confusions.sum(axis=1))


def _means_of(
    right: npt.NDArray[Any], n: npt.NDArray[Any], answered: npt.NDArray[Any]
) -> tuple[Floats, Floats]:
    there = n > 0
    classes = there.sum(axis=1)
    recall = np.where(there, right / np.maximum(n, 1), 0.0).sum(axis=1) / classes
    f1 = np.where(there, 2 * right / np.maximum(n + answered, 1), 0.0).sum(axis=1) / classes
    return recall, f1


def _bootstrap(confusion: npt.NDArray[np.int64], seed: int) -> tuple[Interval, Interval]:
    """Return 95 % percentile intervals of balanced accuracy and macro F1.

    Drawing n images with replacement is drawing the counts of the confusion's cells from a multinomial, so
    no image is touched again. Only cells that hold an image can be drawn.
    """
    k, n = len(confusion), int(confusion.sum())
    truth, answer = np.nonzero(confusion)
    counts = np.random.default_rng(seed).multinomial(n, confusion[truth, answer] / n, RESAMPLES)
    rows, columns = np.eye(k)[truth], np.eye(k)[answer]
    drawn = counts.astype(np.float64)
    means = _means_of(drawn @ (rows * columns), drawn @ rows, drawn @ columns)
    low, high = np.percentile(means, (2.5, 97.5), axis=1)
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def _gap(reliability: Sequence[Bin], n: int) -> float:
    return sum(
        each.n / n * abs(each.accuracy - each.confidence)
        for each in reliability
        if each.accuracy is not None and each.confidence is not None
    )


def _reliability(confidence: Floats, right: npt.NDArray[np.bool_], bins: int) -> tuple[Bin, ...]:
    # A bin holds its upper edge, as in Guo et al.
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = np.bincount(place, confidence, bins)
    hits = np.bincount(place, right, bins)
    return tuple(
        Bin(n=int(n), confidence=float(total / n), accuracy=float(hit / n))
        if n
        else Bin(n=0, confidence=None, accuracy=None)
        for n, total, hit in zip(counts, sums, hits, strict=True)
    )
