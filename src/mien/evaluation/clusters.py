"""Intervals by group: the groups of images, such as persons, are resampled instead of the images.

The images of a person resemble each other, so 300 images of 10 persons tell less about new persons than 300
images of 300 persons. Intervals over images do not show this; intervals over persons do.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.evaluation.evaluation import Evaluation, Interval
from mien.evaluation.metrics import RESAMPLES, Z, mean_recall_and_f1, wilson_interval

#: Counts that one block of the bootstrap may hold.
_CELLS = 4_000_000

Floats = npt.NDArray[np.float64]
Clusters = npt.NDArray[np.intp]


def number_groups(groups: Sequence[str] | None) -> Clusters | None:
    """Return the number of each image's group `(n,)`, from 0; None with fewer than two groups.

    Args:
        groups: The group of each image; an image without a group, `""`, is a group of its own. None if no
            groups are known.
    """
    if groups is None:
        return None
    numbers: dict[object, int] = {}
    keys = (group or place for place, group in enumerate(groups))
    found = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.intp)
    return found if len(numbers) > 1 else None


def resample(values: npt.NDArray[Any], clusters: Clusters, *, seed: int = 0) -> Floats:
    """Return sums over groups that are drawn with replacement, as many as there are: `(RESAMPLES, c)`.

    Args:
        values: `(n, c)` numbers of each image.
        clusters: `(n,)` the group of each image, as `number_groups` returns it.
        seed: Seed of the draws.

    Source: cluster bootstrap, Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x.
    """
    count = int(clusters.max()) + 1
    sums = np.stack(
        [np.bincount(clusters, column, minlength=count) for column in values.T.astype(np.float64)], axis=1
    )
    random = np.random.default_rng(seed)
    drawn = np.empty((RESAMPLES, sums.shape[1]))
    block = max(1, _CELLS // count)
    for start in range(0, RESAMPLES, block):
        part = drawn[start : start + block]
        times = [np.bincount(random.integers(count, size=count), minlength=count) for _ in part]
        part[:] = np.array(times, np.float64) @ sums
    return drawn


def percentiles(groups: int) -> tuple[float, float]:
    """Return the percentiles of resamples that are the ends of a 95 % interval, in percent.

    They are wider than 2.5 and 97.5, because a bootstrap over few groups is too narrow: with 5 groups 0.1 and
    99.9, with 20 groups 1.6 and 98.4.

    Args:
        groups: Number of groups, at least 2.

    Source: expanded percentiles, Hesterberg 2015, doi:10.1080/00031305.2015.1089789; the quantile of
        Student's t by its expansion in the degrees of freedom, Abramowitz and Stegun 1964, 26.7.5.
    """
    z, free = Z, groups - 1
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * free**3)
    tail = 50 * math.erfc(t * math.sqrt(groups / free / 2))
    return tail, 100 - tail


def share_interval(right: npt.NDArray[np.bool_], clusters: Clusters, *, seed: int = 0) -> Interval:
    """Return the 95 % interval of the share of images for which `right` `(n,)` is true, by group."""
    known, numbers = np.unique(clusters, return_inverse=True)
    drawn = resample(np.stack([right, np.ones(len(right), bool)], axis=1), numbers, seed=seed)
    return _share_interval(drawn[:, 0], drawn[:, 1], float(right.mean()), len(known))


def with_group_intervals(
    found: Evaluation,
    answers: npt.NDArray[np.int64],
    labels: npt.NDArray[np.integer[Any]],
    clusters: Clusters,
    *,
    seed: int = 0,
) -> Evaluation:
    """Return an evaluation with intervals by group.

    Args:
        found: The figures.
        answers: `(n,)` the predicted class of each image.
        labels: `(n,)` the true classes.
        clusters: `(n,)` the group of each image, as `number_groups` returns it.
        seed: Seed of the bootstrap.
    """
    k = len(found.labels)
    truth, given = np.eye(k, dtype=bool)[labels], np.eye(k, dtype=bool)[answers]
    drawn = resample(np.hstack([truth & given, truth, given]), clusters, seed=seed)
    right, true, told = np.split(drawn, 3, axis=1)
    groups = int(clusters.max()) + 1
    low, high = np.percentile(mean_recall_and_f1(right, true, told), percentiles(groups), axis=1)
    per_class = {}
    for place, (name, score) in enumerate(found.per_class.items()):
        hits, n, answered = (each[:, place] for each in (right, true, told))
        of_class, either = truth[:, place], truth[:, place] | given[:, place]
        if score.recall is not None:
            recall = _share_interval(hits, n, score.recall, _count(clusters, of_class))
            score = replace(score, recall_interval=recall)
        if score.precision is not None:
            count = _count(clusters, given[:, place])
            precision = _share_interval(hits, answered, score.precision, count)
            score = replace(score, precision_interval=precision)
        if score.f1 is not None:
            # By the share j of the images of either kind that are right: F1 = 2 j / (1 + j).
            j = score.f1 / (2 - score.f1)
            ends = _share_interval(hits, n + answered - hits, j, _count(clusters, either))
            score = replace(score, f1_interval=(2 * ends[0] / (1 + ends[0]), 2 * ends[1] / (1 + ends[1])))
        per_class[name] = score
    return replace(
        found,
        interval_by="group",
        interval_groups=groups,
        accuracy_interval=_share_interval(right.sum(axis=1), true.sum(axis=1), found.accuracy, groups),
        balanced_accuracy_interval=(float(low[0]), float(high[0])),
        macro_f1_interval=(float(low[1]), float(high[1])),
        per_class=per_class,
    )


def _count(clusters: Clusters, members: npt.NDArray[np.bool_]) -> int:
    return len(np.unique(clusters[members]))


def _share_interval(hits: Floats, n: Floats, share: float, groups: int) -> Interval:
    """Return the percentile interval of `hits / n`; if all resamples agree, Wilson's for as many groups."""
    there = n > 0
    if groups > 1:
        low, high = np.percentile(hits[there] / n[there], percentiles(groups))
        if low < high:
            return float(low), float(high)
    return wilson_interval(share * groups, groups)


def sign_flip_test(differences: npt.NDArray[np.integer[Any]], clusters: Clusters) -> tuple[float, float, int]:
    """Test whether two models are equally often right, with the images of a group kept together.

    If they are, exchanging the models' answers in a group changes only the sign of its sum. So the sum of all
    groups is compared with its distribution over all signs, which is computed without approximation. With one
    image in each group this is the exact test of McNemar.

    Args:
        differences: `(n,)` 1 if only A is right, -1 if only B, else 0.
        clusters: `(n,)` the group of each image.

    Returns:
        The exact two-sided p-value, the mid-p-value, and the number of groups whose sum is not 0.

    Source: randomisation test of paired data, Fisher 1935, The Design of Experiments, section 21; clustered
        pairs, Durkalski et al. 2003, doi:10.1002/sim.1438.
    """
    sums = np.bincount(clusters, differences).astype(np.int64)
    sizes, counts = np.unique(np.abs(sums[sums != 0]), return_counts=True)
    chances = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        spaced = np.zeros(2 * size * count + 1)
        spaced[:: 2 * size] = _binomial(count)
        chances = np.convolve(chances, spaced)
    # Entry k of the distribution is the sum k - middle.
    middle, found = len(chances) // 2, abs(int(sums.sum()))
    exact = 2 * float(chances[middle + found :].sum())
    return min(1.0, exact), min(1.0, exact - float(chances[middle + found])), int(counts.sum())


def _binomial(n: int) -> Floats:
    """Return the chances of 0 .. n heads of n fair coins."""
    logs = np.concatenate([[0.0], np.log(np.arange(1, n + 1)).cumsum()])
    chances: Floats = np.exp(logs[n] - logs - logs[::-1] - n * np.log(2))
    return chances
