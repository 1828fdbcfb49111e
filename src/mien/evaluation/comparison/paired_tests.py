"""Paired statistics: two models asked about the same images, counted where one alone is right."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mien.errors import DataError
from mien.evaluation.evaluator import RESAMPLES, Interval, Z

#: Images that one alone names right, from which mid-p takes the place of the exact test.
MANY = 25

#: How often a difference of the size called visible is found: four times of five.
POWER = 0.8

#: Standard normal quantile of `POWER`.
_Z_POWER = 0.8416212335729143

#: Cells of counts that one block of the bootstrap may hold.
_CELLS = 4_000_000

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Whether being right differs by more than chance; only images that one alone names right decide.

    Args:
        only_a: Images that A names right and B does not.
        only_b: Images that B names right and A does not.
        p: Probability of a split at least as uneven, were both as often right; two-sided, in [0, 1].
        method: `exact` or `mid-p`.
    """

    only_a: int
    only_b: int
    p: float
    method: Literal["exact", "mid-p"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure of both, and A's less B's. Fractions; the interval is 95 %.

    Args:
        a: A's.
        b: B's.
        difference: `a` - `b`.
        interval: Of the difference.
    """

    a: float
    b: float
    difference: float
    interval: Interval


def turned(difference: Difference) -> Difference:
    """Return B's less A's."""
    low, high = difference.interval
    return Difference(
        a=difference.b, b=difference.a, difference=-difference.difference, interval=(-high, -low)
    )


def mcnemar(only_a: int, only_b: int) -> McNemar:
    """Test whether two models are as often right, from the images that one alone names right.

    Below 25 of these the test is exact: the binomial tail, doubled. From 25 on it is mid-p, which counts
    what was seen itself by half, for the exact test's p is larger than it need be. Neither takes the counts
    for a normal curve.

    Args:
        only_a: Images that A names right and B does not, at least 0.
        only_b: The other way round.

    Raises:
        DataError: A count is negative.

    Source: McNemar 1947, doi:10.1007/BF02295996; mid-p, Fagerland, Lydersen and Laake 2013,
        doi:10.1186/1471-2288-13-91.
    """
    if min(only_a, only_b) < 0:
        raise DataError(f"{min(only_a, only_b)} is no count of images; counts are 0 or more")
    n, fewer = only_a + only_b, min(only_a, only_b)
    logs = np.concatenate([[0.0], np.log(np.arange(1, n + 1)).cumsum()])
    k = np.arange(fewer + 1)
    chances = np.exp(logs[n] - logs[k] - logs[n - k] - n * math.log(2))
    p = 2 * float(chances.sum())
    if n >= MANY:
        return McNemar(only_a=only_a, only_b=only_b, p=min(1.0, p - float(chances[-1])), method="mid-p")
    return McNemar(only_a=only_a, only_b=only_b, p=min(1.0, p), method="exact")


def shares(right_a: npt.NDArray[np.bool_], right_b: npt.NDArray[np.bool_]) -> Difference:
    """Compare how often two models are right on the same n images, at least one.

    The interval holds for few images and for none that one alone names right, where a bootstrap would say
    that nothing is uncertain.

    Source: Bonett and Price 2012, doi:10.3102/1076998611411915: one is added to either count, two to n.
    """
    n = len(right_a)
    only_a = (int((right_a & ~right_b).sum()) + 1) / (n + 2)
    only_b = (int((right_b & ~right_a).sum()) + 1) / (n + 2)
    middle = only_a - only_b
    half = Z * math.sqrt(max(0.0, only_a + only_b - middle**2) / (n + 2))
    a, b = float(right_a.mean()), float(right_b.mean())
    return Difference(
        a=a, b=b, difference=a - b, interval=(max(-1.0, middle - half), min(1.0, middle + half))
    )


def bootstrap(
    truth: Whole, a: Whole, b: Whole, classes: int, *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[Difference, Difference]:
    """Compare accuracy and macro F1 of two models on the same images.

    Drawing n images with replacement is drawing the counts of (truth, A's answer, B's answer) from a
    multinomial, so no image is touched again; both models are scored on the same draw, which keeps what they
    have in common out of the interval.

    Args:
        truth: `(n,)` numbers in [0, classes).
        a: `(n,)` A's answers.
        b: `(n,)` B's answers.
        classes: How many there are; those without an image count for nothing.
        seed: Of the draws.
        resamples: How many.

    Returns:
        Of accuracy and of macro F1, with percentile intervals.
    """
    if a.tobytes() > b.tobytes():
        # The same draws whoever is called A, so that turning the question turns the answer.
        accuracy, macro = bootstrap(truth, b, a, classes, seed=seed, resamples=resamples)
        return turned(accuracy), turned(macro)
    cells, counts = np.unique(np.stack([truth, a, b]), axis=1, return_counts=True)
    n = int(counts.sum())
    random = np.random.default_rng(seed)
    block = max(1, _CELLS // len(counts))
    drawn = [
        _figures(cells, random.multinomial(n, counts / n, min(block, resamples - start)), classes)
        for start in range(0, resamples, block)
    ]
    own = _figures(cells, counts[None], classes)
    apart = np.concatenate([figures[:, 0] - figures[:, 1] for figures in drawn])
    low, high = np.percentile(apart, (2.5, 97.5), axis=0)
    accuracy, macro = (
        Difference(
            a=float(own[0, 0, place]),
            b=float(own[0, 1, place]),
            difference=float(own[0, 0, place] - own[0, 1, place]),
            interval=(float(low[place]), float(high[place])),
        )
        for place in (0, 1)
    )
    return accuracy, macro


def _figures(cells: Whole, counts: npt.NDArray[np.integer[Any]], classes: int) -> Floats:
    """Return accuracy and macro F1 `(m, 2 models, 2 figures)` of `(m, cells)` counts."""
    truth = cells[0]
    drawn = counts.astype(np.float64)
    n = drawn @ np.eye(classes)[truth]
    there = n > 0
    figures = np.empty((len(drawn), 2, 2))
    for place, answers in enumerate(cells[1:]):
        hits = drawn @ (np.eye(classes)[truth] * (truth == answers)[:, None])
        answered = drawn @ np.eye(classes)[answers]
        f1 = np.where(there, 2 * hits / np.maximum(n + answered, 1), 0.0)
        figures[:, place, 0] = hits.sum(axis=1) / n.sum(axis=1)
        figures[:, place, 1] = f1.sum(axis=1) / there.sum(axis=1)
    return figures


def visible(n: int, apart: int) -> float | None:
    """Return how large a difference in accuracy would have been seen four times of five, in (0, 1].

    Seen is p < 0.05. It hangs on how often the models part: the more images one alone names right, the
    larger a difference chance alone makes.

    Args:
        n: Images, at least 1.
        apart: Images that one alone names right, at most n.

    Returns:
        The difference; None where no difference at all would have been seen, for there are too few images.

    Source: Connor 1987, doi:10.2307/2531961, solved for the difference.
    """

    def needed(difference: float, rate: float) -> float:
        spread = Z * math.sqrt(rate) + _Z_POWER * math.sqrt(max(0.0, rate - difference**2))
        return (spread / difference) ** 2

    def least(rate: float | None) -> float | None:
        """Bisect for the difference that n images are enough for; None where none is."""
        low, high = 0.0, 1.0 if rate is None else rate
        if high == 0 or needed(high, rate or high) > n:
            return None
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if needed(middle, rate or middle) <= n else (middle, high)
        return high

    # Where they part on too few images for any difference to be seen, they would have to part on more,
    # all of them in favour of one.
    found = least(apart / n)
    return least(None) if found is None else found


def holm(chances: list[float]) -> list[float]:
    """Return p-values that hold although several things were tested.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    held = [0.0] * len(chances)
    reached = 0.0
    for place, index in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        reached = max(reached, min(1.0, chances[index] * (len(chances) - place)))
        held[index] = reached
    return held
