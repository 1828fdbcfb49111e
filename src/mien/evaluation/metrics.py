"""Metrics of probabilities and true labels, computed from arrays.

They cover accuracy, calibration error, selective prediction, uncertainty thresholds and groups of images.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.data import csv_lists
from mien.errors import DataError
from mien.evaluation.evaluation import Bin, ClassScore, Evaluation, Group, Groups, Interval, Point
from mien.labels import VOTES
from mien.models import priors
from mien.models.model_files import Head

#: Standard normal quantile of a two-sided 95 % interval.
Z = 1.959963984540054
#: Resamples of the bootstrap.
RESAMPLES = 2000
#: Bins of the calibration error.
BINS = 15

Floats = npt.NDArray[np.float64]
Probabilities = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]


def compute_metrics(
    probabilities: Probabilities, labels: Labels, names: Sequence[str], *, bins: int = BINS, seed: int = 0
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
            f"probabilities of shape {probabilities.shape} do not fit {n} labels of {k} classes; give one "
            "row per image and one column per class"
        )
    chances = probabilities.astype(np.float64)
    answers = chances.argmax(axis=1)
    confusion = np.bincount(labels * k + answers, minlength=k * k).reshape(k, k)
    right = answers == labels
    truth = np.eye(k)[labels]
    counts = confusion.diagonal()[None], confusion.sum(axis=1)[None], confusion.sum(axis=0)[None]
    balanced, macro = mean_recall_and_f1(*counts)
    balanced_interval, macro_interval = _bootstrap(confusion, seed)
    reliability = _reliability(chances.max(axis=1), right, bins)
    return Evaluation(
        n=n,
        labels=tuple(names),
        accuracy=float(right.mean()),
        accuracy_interval=wilson_interval(int(right.sum()), n),
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


def expected_calibration_error(probabilities: Probabilities, labels: Labels) -> float:
    """Return how far confidence is from accuracy, averaged over `BINS` equal-width bins of confidence.

    Args:
        probabilities: `(n, k)`, each row summing to 1.
        labels: `(n,)` numbers in [0, k), at least one.

    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    chances = probabilities.astype(np.float64)
    reliability = _reliability(chances.max(axis=1), chances.argmax(axis=1) == labels, BINS)
    return _gap(reliability, len(labels))


def find_plurality(
    votes: Probabilities, names: Sequence[str], groups: Mapping[str, Sequence[str]] | None = None
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return what most of FER+'s annotators chose.

    Args:
        votes: `(n, 10)`, how many annotators chose each of `labels.VOTES`.
        names: The k class names.
        groups: Classes whose votes are added up, for each of `names` that is a group.

    Returns:
        `(n,)` whether one of `names` got the most votes, or as many as anything else; `(n,)` its number, of
        equal ones the first.
    """
    members = [(groups or {}).get(name, (name,)) for name in names]
    columns = [[VOTES.index(each) for each in found if each in VOTES] for found in members]
    numbers = np.array([number for number, found in enumerate(columns) if found], np.int64)
    if not len(numbers):
        return np.zeros(len(votes), bool), np.zeros(len(votes), np.int64)
    sums = np.stack([votes[:, columns[number]].sum(axis=1) for number in numbers], axis=1)
    others = np.delete(votes, [column for found in columns for column in found], axis=1)
    most = sums.max(axis=1)
    decided = (most > 0) & (most >= others.max(axis=1, initial=0))
    return decided, numbers[sums.argmax(axis=1)]


def wilson_interval(right: float, n: int) -> Interval:
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
        recall_interval=wilson_interval(right, n) if n else None,
        precision_interval=wilson_interval(right, answered) if answered else None,
        f1_interval=_f1_interval(right, n + answered - right) if n else None,
    )


def _f1_interval(right: int, either: int) -> Interval:
    low, high = wilson_interval(right, either)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def mean_recall_and_f1(
    right: npt.NDArray[Any], n: npt.NDArray[Any], answered: npt.NDArray[Any]
) -> tuple[Floats, Floats]:
    """Return balanced accuracy and macro F1 `(m,)` of counts `(m, k)` of right images, images and answers."""
    there = n > 0
    classes = there.sum(axis=1)
    recall = np.where(there, right / np.maximum(n, 1), 0.0).sum(axis=1) / classes
    f1 = np.where(there, 2 * right / np.maximum(n + answered, 1), 0.0).sum(axis=1) / classes
    return recall, f1


def _bootstrap(confusion: npt.NDArray[np.int64], seed: int) -> tuple[Interval, Interval]:
    """Return 95 % percentile intervals of balanced accuracy and macro F1."""
    # Drawing n images with replacement is drawing the counts of the confusion's cells from a multinomial.
    k, n = len(confusion), int(confusion.sum())
    truth, answer = np.nonzero(confusion)
    counts = np.random.default_rng(seed).multinomial(n, confusion[truth, answer] / n, RESAMPLES)
    rows, columns = np.eye(k)[truth], np.eye(k)[answer]
    drawn = counts.astype(np.float64)
    means = mean_recall_and_f1(drawn @ (rows * columns), drawn @ rows, drawn @ columns)
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


#: Shares of images answered, at which accuracy is reported.
COVERAGES = tuple(index / 20 for index in range(1, 21))


def measure_selective_prediction(
    probabilities: Probabilities, labels: Labels, *, coverages: Sequence[float] = COVERAGES
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
    confidence, hits = _order_by_confidence(probabilities, labels)
    n = len(confidence)
    if not all(0 < coverage <= 1 for coverage in coverages):
        raise DataError("a coverage must be above 0 and at most 1")
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
            interval=wilson_interval(right, count),
        )
    return tuple(points.values())


def risk_coverage_area(probabilities: Probabilities, labels: Labels) -> tuple[float, float]:
    """Return the area under the curve of risk against coverage, and that of a perfect order.

    The risk at each coverage is the share of wrong answers among the images answered; the area is its mean
    over 1, 2, ... n images. A model of the same accuracy that is less sure wherever it is wrong would reach
    the second number.

    Source: Geifman, Uziel and El-Yaniv 2019, arXiv:1805.08206.
    """
    confidence, hits = _order_by_confidence(probabilities, labels)
    n = len(confidence)
    # Images of equal confidence have no order, so each has the risk that they share.
    _, start, counts = np.unique(-confidence, return_index=True, return_counts=True)
    ends = start + counts
    risk = 1 - hits[ends - 1] / ends
    best = np.maximum(np.arange(1, n + 1) - hits[-1], 0) / np.arange(1, n + 1)
    return float((risk * counts).sum() / n), float(best.mean())


def _order_by_confidence(
    probabilities: Probabilities, labels: Labels
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return confidences from the highest down, and how many of the first images are right, both `(n,)`."""
    if not len(labels):
        raise DataError("there are no images to evaluate")
    confidence = probabilities.max(axis=1).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    right = probabilities.argmax(axis=1) == labels
    return confidence[order], np.cumsum(right[order])


#: Share of the images that are answered at a threshold or above.
ANSWERED = 0.8


def at_chance(probabilities: Probabilities, labels: Labels) -> bool:
    """Return whether a model is not significantly better than always answering the most frequent label.

    That is so if the lower end of the 95 % interval (Wilson) of its accuracy is not above the share of the
    most frequent label among the same images.

    Args:
        probabilities: `(n, k)`, each row summing to 1.
        labels: `(n,)` numbers in [0, k).

    Returns:
        Whether that is so; True without images.
    """
    n = len(labels)
    if not n:
        return True
    right = int((probabilities.argmax(axis=1) == labels).sum())
    return wilson_interval(right, n)[0] <= majority_share(labels)


def majority_share(labels: Labels) -> float:
    """Return the share of the most frequent of labels `(n,)`, at least one."""
    return float(np.bincount(labels).max() / len(labels))


def add_thresholds(
    head: Head,
    probabilities: Probabilities,
    truth: Labels,
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
        The head; without thresholds if there are no images.
    """
    found = replace(head, frequencies=tuple(frequencies), at_chance=at_chance(probabilities, truth))
    if not len(truth):
        return replace(found, threshold=None, thresholds={})
    by_balance = {}
    for balance in priors.OFFERED:
        adjusted = priors.Adjustment(balance=balance).apply(probabilities, labels, frequencies)
        by_balance[f"{balance:g}"] = min(
            1.0, measure_selective_prediction(adjusted, truth, coverages=[ANSWERED])[0].threshold
        )
    threshold = by_balance.pop("0")
    return replace(found, threshold=threshold, thresholds=by_balance)  # type: ignore[arg-type]


#: Images below which a group's figures say little.
SMALL_GROUP = 30
#: Groups above which a column tells images apart rather than groups.
MOST_GROUPS = 200

_KEYS = ("row", "file")
#: The largest csv in bytes: a line for each of millions of images.
_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class GroupList:
    """Which group each image belongs to.

    Args:
        file: The csv's name.
        column: The column that names groups.
        groups: The group of each image, by its name as in `Split.files`.
    """

    file: str
    column: str
    groups: dict[str, str]


def read_groups(path: str | os.PathLike[str]) -> GroupList:
    """Read which image belongs to which group.

    Args:
        path: A csv with a column `row` (0-based data row of a csv of images) or `file` (as in `Split.files`),
            and one that names groups; or such a csv, a colon, and that column's name. A line without a group
            is ignored.

    Raises:
        DataError: The file cannot be read, columns are missing or too many to choose from, or an image
            is in two groups.
    """
    place, column = _split_argument(str(path))
    names, lines = csv_lists.read_list(_read_text(place), place.name, strict=True, lower=False)
    key = next((name for name in names if name.lower() in _KEYS), None)
    if key is None:
        raise DataError(f"{place.name!r} has no column row or file; name the images by one of them")
    column = _choose_column(place.name, [name for name in names if name != key], column)
    groups: dict[str, str] = {}
    for number, line in lines:
        value, group = line.get(key, ""), line.get(column, "")
        if not (value and group):
            continue
        row = key.lower() == "row" and value.isdecimal()
        image = f"row {csv_lists.row_number(value, number, place.name)}" if row else value
        if groups.setdefault(image, group) != group:
            raise DataError(
                f"{place.name!r} puts {image!r} into the groups {groups[image]!r} and {group!r}; give each "
                "image one group"
            )
    return GroupList(place.name, column, groups)


def assign_groups(found: GroupList, files: Sequence[str]) -> npt.NDArray[np.str_]:
    """Return the group of each image, empty for none: `(n,)`.

    Args:
        found: Which image belongs to which group.
        files: The n images' names, as in `Split.files`.

    Raises:
        DataError: No image has a group, or there are more than `MOST` groups.
    """
    of = np.array([found.groups.get(file, "") for file in files])
    counts = Counter(of[of != ""].tolist())
    if not counts:
        example = files[0] if len(files) else ""
        raise DataError(
            f"no line of {found.file!r} names an image of this split, such as {example!r}; "
            "check that it was made for this data"
        )
    if len(counts) > MOST_GROUPS:
        raise DataError(
            f"the column {found.column!r} has {len(counts):,} groups, and at most {MOST_GROUPS} are "
            "allowed; name another column, or merge groups"
        )
    return of


def evaluate_groups(
    found: GroupList, files: Sequence[str], probabilities: Probabilities, labels: Labels, names: Sequence[str]
) -> Groups:
    """Measure every group by itself.

    Args:
        found: Which image belongs to which group.
        files: The n images' names, as in `Split.files`.
        probabilities: `(n, k)`, each row summing to 1.
        labels: `(n,)` numbers in [0, k).
        names: The k class names.

    Raises:
        DataError: No image has a group, or there are more than `MOST` groups.
    """
    of = assign_groups(found, files)
    return Groups(
        file=found.file,
        column=found.column,
        unlisted=int((of == "").sum()),
        groups=tuple(
            _group(name, probabilities[of == name], labels[of == name], names)
            for name in sorted({*of.tolist()} - {""})
        ),
    )


def _group(name: str, probabilities: Probabilities, labels: Labels, names: Sequence[str]) -> Group:
    report = compute_metrics(probabilities, labels, names)
    return Group(
        name=name,
        n=report.n,
        few=report.n < SMALL_GROUP,
        accuracy=report.accuracy,
        accuracy_interval=report.accuracy_interval,
        balanced_accuracy=report.balanced_accuracy,
        balanced_accuracy_interval=report.balanced_accuracy_interval,
        macro_f1=report.macro_f1,
        macro_f1_interval=report.macro_f1_interval,
    )


def _split_argument(given: str) -> tuple[Path, str | None]:
    """Part `FILE:COLUMN`; a file whose own name holds a colon is taken whole."""
    path, colon, column = given.rpartition(":")
    if not colon or not path or Path(given).exists():
        return Path(given), None
    return Path(path), column


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path.name!r} is larger than the {_MAX_BYTES:,} bytes that are allowed for a list")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name!r} is not UTF-8 text: {error.reason}; save it as UTF-8") from None


def _choose_column(file: str, others: list[str], column: str | None) -> str:
    if column is None and len(others) == 1:
        return others[0]
    if column in others:
        return column
    asked = "a column is not named" if column is None else f"the column {column!r} does not exist"
    has = f"the columns {', '.join(others)}" if others else "no other columns"
    raise DataError(f"{asked} in {file!r}, which has {has}; name a column with groups as {file}:COLUMN")
