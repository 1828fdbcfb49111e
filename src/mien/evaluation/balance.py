"""Figures at every balance, by output head, also for other class frequencies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mien.errors import DataError, InputError
from mien.evaluation.evaluation import Against, BalanceRow
from mien.evaluation.metrics import BINS, find_plurality
from mien.models.priors import OFFERED, Adjustment

if TYPE_CHECKING:
    from mien.evaluation.evaluator import Predictions


#: The name of the geometric mean of two heads.
GEOMETRIC_MEAN = "geometric mean"

Floats = npt.NDArray[np.floating[Any]]
Whole = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ShiftRow:
    """The figures of a `BalanceRow` for other class frequencies: images are weighted.

    Args:
        shift: `equal` for equal frequencies; or the class whose images count three times.
    """

    head: str
    balance: float
    against: Against
    shift: str
    accuracy: float
    ece: float


def balance_table(
    answers: Sequence["Predictions"], frequencies: Mapping[str, Sequence[float]]
) -> tuple[BalanceRow, ...]:
    """Measure every head, and the geometric mean of two, at every balance.

    If the split has votes, every head is measured against their plurality, and a head that learned labels
    against the labels as well. Otherwise all heads are measured against the labels.

    Args:
        answers: Predictions of one model for one split without a balance, one for each head.
        frequencies: Class frequencies of the training targets of each head, in the order of its labels.

    Raises:
        DataError: There are no predictions, or no image has a plurality in one of the classes.
        InputError: The predictions are of several models or have a balance, or frequencies are missing.
    """
    return tuple(
        _row(head, balance, against, chances[which], truth[which], answers[0].names)
        for head, balance, against, chances, truth, which in _cells(answers, frequencies)
    )


def shift_table(
    answers: Sequence["Predictions"], frequencies: Mapping[str, Sequence[float]]
) -> tuple[ShiftRow, ...]:
    """Measure the same with equal class frequencies, and with each class three times as frequent.

    Images are weighted. With each class in turn, its images count three times and the others once. Arguments
    and errors are as in `balance_table`.
    """
    rows = []
    for head, balance, against, chances, truth, which in _cells(answers, frequencies):
        names, right = answers[0].names, truth[which]
        counts = np.bincount(right, minlength=len(names))
        shifts = {"equal": np.divide(1.0, counts, out=np.zeros(len(names)), where=counts > 0)}
        shifts |= {name: 1.0 + 2.0 * np.eye(len(names))[index] for index, name in enumerate(names)}
        for shift, weights in shifts.items():
            accuracy, ece = _weighted(chances[which], right, weights[right])
            rows.append(
                ShiftRow(head=head, balance=balance, against=against, shift=shift, accuracy=accuracy, ece=ece)
            )
    return tuple(rows)


_Cell = tuple[str, float, Against, Floats, Whole, Bools]


def _cells(answers: Sequence["Predictions"], frequencies: Mapping[str, Sequence[float]]) -> list[_Cell]:
    """Return head, balance, kind of truth, probabilities, truth, and which images count."""
    if not answers or not len(answers[0]):
        raise DataError("there are no predictions for a balance table")
    first = answers[0]
    if " " in first.model:
        raise InputError("a balance table is for one model; name only one")
    if not all(each.adjustment.is_identity for each in answers):
        raise InputError(
            "a balance table needs predictions without a balance, without a prior and without groups"
        )
    missing = [each.head for each in answers if not frequencies.get(each.head)]
    if missing:
        raise InputError(
            f"the model card has no frequencies of the emotions in training for the head {missing[0]!r}; "
            "create the model again with mien ship"
        )
    truths: dict[Against, tuple[Whole, Bools]] = {"labels": (first.truth, np.ones(len(first), np.bool_))}
    if first.split.votes is not None:
        decided, seen = find_plurality(first.split.votes, first.names)
        if not decided.any():
            raise DataError(f"split {first.split.name!r} has votes, but for none of the model's classes")
        truths["votes"] = (seen, decided)
    of_votes = {each.head for each in answers if each.head == "ferplus"} | {GEOMETRIC_MEAN}
    cells: list[_Cell] = []
    for balance in OFFERED:
        adjustment = Adjustment(balance=balance)
        shown: dict[str, Floats] = {
            each.head: adjustment.apply(each.probabilities, each.names, frequencies[each.head])
            for each in answers
        }
        if len(answers) == 2:
            shown[GEOMETRIC_MEAN] = _geometric(*shown.values())
        for head, chances in shown.items():
            for against, (truth, which) in truths.items():
                if against == "labels" and head in of_votes and "votes" in truths:
                    continue
                cells.append((head, balance, against, chances, truth, which))
    # Rows of one head are adjacent.
    order = list(dict.fromkeys((cell[0], cell[2]) for cell in cells))
    return sorted(cells, key=lambda cell: order.index((cell[0], cell[2])))


def _geometric(one: Floats, two: Floats) -> Floats:
    least = float(np.finfo(np.float32).tiny)
    mean: Floats = np.sqrt(np.maximum(one, least).astype(np.float64) * np.maximum(two, least))
    mean /= mean.sum(axis=1, keepdims=True)
    return mean


def _row(
    head: str, balance: float, against: Against, chances: Floats, truth: Whole, names: Sequence[str]
) -> BalanceRow:
    answered = chances.argmax(axis=1)
    counts = np.bincount(truth, minlength=len(names))
    hits = np.bincount(truth[answered == truth], minlength=len(names))
    recall = {
        name: float(hit / count) if count else None
        for name, hit, count in zip(names, hits, counts, strict=True)
    }
    known = [each for each in recall.values() if each is not None]
    accuracy, ece = _weighted(chances, truth, np.ones(len(truth)))
    return BalanceRow(
        head=head,
        balance=balance,
        against=against,
        n=len(truth),
        accuracy=accuracy,
        balanced_accuracy=sum(known) / len(known),
        recall=recall,
        ece=ece,
    )


def _weighted(chances: Floats, truth: Whole, weights: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return accuracy and calibration error of images that count by their weights."""
    shares = weights / weights.sum()
    right = chances.argmax(axis=1) == truth
    confidence = chances.max(axis=1).astype(np.float64)
    # A bin holds its upper edge, as in `measures`.
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.bincount(place, shares * (right - confidence), BINS)
    return float(shares[right].sum()), float(np.abs(gaps).sum())
