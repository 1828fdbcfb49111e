"""What probabilities are worth against the true labels: every figure of a report, from arrays alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.errors import DataError
from mien.labels import VOTES

#: Standard normal quantile of a two-sided 95 % interval.
Z = 1.959963984540054
#: Resamples of the bootstrap.
RESAMPLES = 2000

Interval = tuple[float, float]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How one class did; fractions in [0, 1], None where no image decides.

    Args:
        n: Images of this class.
        precision: Share of the answers with this label that are right; None if it was never answered.
        recall: Share of this class's images that are named right; None if it has no images.
        f1: Harmonic mean of the two; None if the class has no images.
        recall_interval: 95 %, Wilson.
        precision_interval: 95 %, Wilson.
        f1_interval: 95 %: Wilson's of the share of images right among those that are of this class or were
            answered with it, j, carried over by F1 = 2 j / (1 + j).
    """

    n: int
    precision: float | None
    recall: float | None
    f1: float | None
    recall_interval: Interval | None
    precision_interval: Interval | None = None
    f1_interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The images whose highest probability lies in one of the equal-width bins of [0, 1].

    Args:
        n: Images in the bin.
        confidence: Mean of their highest probabilities; None in an empty bin.
        accuracy: Share of them named right; None in an empty bin.
    """

    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often the answers are what most of FER+'s ten taggers saw.

    Args:
        n: Images on which one of the model's classes got the most votes.
        share: Share of them answered with that class; of classes with equal votes the first counts.
        interval: 95 %, Wilson.
        left_out: Images on which contempt, unknown, no face or a class of others got the most votes.
    """

    n: int
    share: float
    interval: Interval
    left_out: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a model's answers on labelled images are worth. Fractions in [0, 1]; intervals 95 %.

    Args:
        n: Images.
        labels: Names of the classes, in the order of `confusion`.
        accuracy: Share of images named right.
        accuracy_interval: Wilson.
        balanced_accuracy: Mean recall of the classes that have images.
        balanced_accuracy_interval: Bootstrap over images.
        macro_f1: Mean F1 of the classes that have images.
        macro_f1_interval: Bootstrap over images.
        per_class: Each label's own figures.
        confusion: Counts of images, `confusion[truth][answer]`.
        absent: Labels without images; they are left out of the means.
        nll: Mean negative log-likelihood of the true label, in nats.
        brier: Mean over images of the squared error summed over classes, in [0, 2].
        ece: Expected calibration error.
        reliability: The bins that `ece` is taken over.
        agreement: With the plurality of FER+'s taggers, where the split has votes.
        head: Which of the model's heads answered.
        bundle: sha256 of the model file; of several, one after the other.
        split: The split's name.
        split_fingerprint: sha256 over its pixels, labels and order.
        data: The data set's name.
        views: Of how many views of each image the probabilities are the mean.
        balance: At which they were answered (docs/priors.md).
        prior: With which they were answered; empty for none.
    """

    n: int
    labels: tuple[str, ...]
    accuracy: float
    accuracy_interval: Interval
    balanced_accuracy: float
    balanced_accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    nll: float
    brier: float
    ece: float
    per_class: dict[str, ClassScore]
    confusion: tuple[tuple[int, ...], ...]
    absent: tuple[str, ...]
    reliability: tuple[Bin, ...]
    agreement: Agreement | None = None
    head: str = ""
    bundle: str = ""
    split: str = ""
    split_fingerprint: str = ""
    data: str = ""
    views: int = 1
    balance: float = 0.0
    prior: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values, the metrics at the top level."""
        return asdict(self)


def metrics(
    probabilities: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.integer[Any]],
    names: Sequence[str],
    *,
    bins: int = 15,
    seed: int = 0,
) -> Report:
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
    return Report(
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
        ece=sum(
            each.n / n * abs(each.accuracy - each.confidence)
            for each in reliability
            if each.accuracy is not None and each.confidence is not None
        ),
        per_class={name: _class_score(confusion, index) for index, name in enumerate(names)},
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        absent=tuple(name for name, row in zip(names, confusion, strict=True) if not row.any()),
        reliability=reliability,
    )


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
