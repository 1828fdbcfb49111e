"""Calibration: fit a temperature and logit biases, measure their effect, and choose a threshold.

A temperature divides the logits. It changes the confidence and not the answer. Offsets, one a
class, are added to the divided logits; they mend a model that favours some classes more than the labels do,
and change answers. What a fit is worth is measured on images it did not see: every figure here is taken fold
by fold.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.errors import DataError
from mien.evaluation.evaluation import Calibration
from mien.evaluation.metrics import expected_calibration_error, wilson_interval

#: The range of temperatures. Below it a model is nearly always certain, above it nearly uniform.
LOWEST, HIGHEST = 0.05, 20.0
#: Replaces a probability of 0: the smallest normal float32.
FLOOR = float(np.finfo(np.float32).tiny)
#: Images per class, on average, below which a fit is drawn towards a temperature of 1, without logit biases.
FEW = 25
#: The weight of that draw, in images (docs/calibrate.md).
PRIOR = 20.0

Floats = npt.NDArray[np.float64]
Probabilities = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]] | npt.NDArray[np.floating[Any]]


def weight(n: int, k: int) -> float:
    """Return the weight of the prior that a temperature is fitted with.

    Args:
        n: Images, at least 1.
        k: Classes, at least 1.

    Returns:
        `PRIOR` below `FEW` images per class on average, else 0.
    """
    return PRIOR if n < FEW * k else 0.0


def fit(probabilities: Probabilities, labels: Labels, *, prior: float | None = None) -> float:
    """Return the temperature under which the labels are the least surprising.

    The cross entropy is convex in one over the temperature, so its only minimum is found by halving.

    A temperature from few images is drawn towards 1, because it would vary too much: `prior` images are
    added with the logits of the real ones on average, whose labels are as frequent as the model says. That is
    the conjugate prior of this family, whose natural parameter is one over the temperature.

    Args:
        probabilities: `(n, k)` in [0, 1], each row summing to 1, of a model without a temperature.
        labels: `(n,)` numbers in [0, k); or votes or shares `(n, k)`, not negative, some in every row.
        prior: The weight of a temperature of 1, in images, at least 0; 0 for none. None for what `weight`
            returns.

    Returns:
        A number in [0.05, 20]; without a prior either end where nothing between is best, as with answers all
        right or all wrong. 1 where no temperature changes anything.

    Raises:
        DataError: There are no images, shapes or values do not fit, or the prior is negative or not finite.

    Source: Guo et al. 2017, arXiv:1706.04599; the prior is that of Diaconis and Ylvisaker 1979,
    doi:10.1214/aos/1176344611.
    """
    logits, targets = _checked(probabilities, labels)
    prior = _prior(prior, *logits.shape)
    wanted = float((targets * logits).sum(axis=1).mean())
    if prior:
        expected = float((_soften(logits, 1.0) * logits).sum(axis=1).mean())
        wanted = (len(logits) * wanted + prior * expected) / (len(logits) + prior)
    if np.ptp(logits, axis=1).max() == 0:
        return 1.0
    low, high = np.log(LOWEST), np.log(HIGHEST)
    for _ in range(50):
        middle = (low + high) / 2
        chances = _soften(logits, float(np.exp(middle)))
        # The slope of the cross entropy against one over the temperature; flat where all answers are right.
        if (chances * logits).sum(axis=1).mean() <= wanted:
            high = middle
        else:
            low = middle
    return float(np.exp((low + high) / 2))


def fit_logit_bias(probabilities: Probabilities, labels: Labels) -> tuple[float, tuple[float, ...]]:
    """Return temperature and logit biases under which the labels are the least surprising.

    The cross entropy is convex in one over the temperature and the logit biases together; Newton's method
    finds its minimum. A normal distribution of deviation 1 draws the biases towards 0, which says little
    beside some dozen images and keeps those of a class without images finite. They sum to 0. The temperature
    has no prior; `measure` fits no logit biases to few images. Arguments and errors are as in `fit`.

    Returns:
        A temperature in [0.05, 20], and a logit bias `(k,)`.

    Source: Alexandari et al. 2020, arXiv:1901.06852 (bias-corrected temperature scaling).
    """
    logits, targets = _checked(probabilities, labels)
    k = logits.shape[1]
    # Centred, because a constant added to all logits of an image changes no probability.
    logits = np.maximum(logits - logits.mean(axis=1, keepdims=True), np.log(FLOOR))
    bounds = np.r_[1 / HIGHEST, np.full(k, -np.inf)], np.r_[1 / LOWEST, np.full(k, np.inf)]
    found = np.r_[1 / fit(probabilities, labels, prior=0.0), np.zeros(k)]
    value, slope, curve = _bend(found, logits, targets)
    for _ in range(100):
        stuck = (found <= bounds[0] * (1 + 1e-9)) & (slope > 0) | (found >= bounds[1] * (1 - 1e-9)) & (
            slope < 0
        )
        step = np.zeros(k + 1)
        step[~stuck] = np.linalg.solve(curve[~stuck][:, ~stuck], -slope[~stuck])
        share = 1.0
        while share > 1e-6:
            tried = np.clip(found + share * step, *bounds)
            if (after := _bend(tried, logits, targets))[0] < value:
                break
            share /= 2
        else:
            break
        settled = value - after[0] < 1e-12
        found, (value, slope, curve) = tried, after
        if settled:
            break
    return float(1 / found[0]), tuple(float(bias) for bias in found[1:])


def apply(probabilities: Probabilities, temperature: float, logit_bias: Sequence[float] = ()) -> Floats:
    """Return the probabilities of the same model with its logits divided by `temperature`.

    Args:
        probabilities: `(n, k)` in [0, 1], each row summing to 1.
        temperature: Above 0; above 1 less certain, below 1 more.
        logit_bias: `(k,)`, added to the divided logits; none for nothing.

    Returns:
        `(n, k)` float64, each row summing to 1; without logit biases in the same order of likelihood.

    Raises:
        DataError: The temperature is not above 0, the number of logit biases is not k, or the
            probabilities are invalid.
    """
    return _soften(_logits(probabilities), temperature, logit_bias)


def undo(probabilities: Probabilities, temperature: float, logit_bias: Sequence[float] = ()) -> Floats:
    """Return the probabilities from which `apply`, with the same arguments and errors, made these."""
    return _soften(_logits(probabilities), 1 / temperature, [-bias * temperature for bias in logit_bias])


def measure(
    probabilities: Probabilities,
    labels: Labels,
    *,
    logit_bias: bool = False,
    folds: int = 5,
    seed: int = 0,
    answered: float = 0.8,
    prior: float | None = None,
) -> Calibration:
    """Fit temperature and threshold, and measure both on images that they were not fitted on.

    Every class is spread over the folds alike. Each fold is judged with the temperature, the logit biases
    and the threshold that the other folds give.

    Args:
        probabilities: `(n, k)` in [0, 1], each row summing to 1, of a model without a temperature.
        labels: `(n,)` numbers in [0, k); or votes or shares `(n, k)`, of which the likeliest class, the
            first among equals, counts as the right one.
        logit_bias: Fit logit biases beside the temperature; none are fitted with a prior.
        folds: Parts, from 2 to n.
        seed: Of the draw of the folds.
        answered: Share of images to be answered, above 0 and at most 1.
        prior: As in `fit`; the weight follows from all images, and is the same in every fold.

    Raises:
        DataError: As in `fit`; or the folds or the share do not fit.
    """
    logits, targets = _checked(probabilities, labels)
    n, truth = len(logits), targets.argmax(axis=1)
    if not 2 <= folds <= n:
        raise DataError(f"folds is {folds}; it must be from 2 to the number of images, {n}")
    if not 0 < answered <= 1:
        raise DataError(f"answered is {answered}; it must be above 0 and at most 1")
    prior = _prior(prior, *logits.shape)

    def learn(probabilities: Probabilities, labels: Labels) -> tuple[float, tuple[float, ...]]:
        if logit_bias and not prior:
            return fit_logit_bias(probabilities, labels)
        return fit(probabilities, labels, prior=prior), ()

    after, sure = np.empty_like(logits), np.empty(n, np.bool_)
    for here in _folds(truth, folds, seed):
        found = learn(probabilities[~here], targets[~here])
        after[here] = _soften(logits[here], *found)
        confidence = _soften(logits[~here], *found).max(axis=1)
        sure[here] = after[here].max(axis=1) >= _threshold(confidence, answered)
    found = learn(probabilities, targets)
    right = int((after.argmax(axis=1) == truth)[sure].sum())
    count = int(sure.sum())
    before = _soften(logits, 1.0)
    return Calibration(
        n=n,
        folds=folds,
        temperature=found[0],
        logit_bias=found[1],
        accuracy_before=float((before.argmax(axis=1) == truth).mean()),
        accuracy_after=float((after.argmax(axis=1) == truth).mean()),
        ece_before=expected_calibration_error(before, truth),
        ece_after=expected_calibration_error(after, truth),
        nll_before=_surprise(before, targets),
        nll_after=_surprise(after, targets),
        threshold=_threshold(_soften(logits, *found).max(axis=1), answered),
        answered=count / n,
        accuracy_answered=right / count if count else None,
        accuracy_answered_interval=wilson_interval(right, count) if count else None,
        prior=prior,
    )


def _checked(probabilities: Probabilities, labels: Labels) -> tuple[Floats, Floats]:
    """Return logits and targets, both `(n, k)`, each row of the targets summing to 1."""
    logits = _logits(probabilities)
    n, k = logits.shape
    if labels.shape == (n,) and np.issubdtype(labels.dtype, np.integer):
        if labels.min() < 0 or labels.max() >= k:
            raise DataError(f"labels from {labels.min()} to {labels.max()} do not fit {k} classes")
        return logits, np.eye(k)[labels]
    targets = labels.astype(np.float64)
    if targets.shape != (n, k):
        raise DataError(
            f"labels of shape {labels.shape} do not fit probabilities of shape {(n, k)}; give one integer "
            "or one row of shares per image"
        )
    sums = targets.sum(axis=1, keepdims=True)
    if not (np.isfinite(targets).all() and targets.min() >= 0 and sums.min() > 0):
        raise DataError("the shares of an image are negative, all 0 or not numbers; remove such images")
    return logits, targets / sums


def _logits(probabilities: Probabilities) -> Floats:
    if probabilities.ndim != 2 or 0 in probabilities.shape:
        raise DataError(
            f"probabilities of shape {probabilities.shape} are empty or not a table; give one row per image"
        )
    chances = probabilities.astype(np.float64)
    if not (np.isfinite(chances).all() and chances.min() >= 0 and abs(chances.sum(axis=1) - 1).max() < 1e-3):
        raise DataError("the probabilities are invalid: every row must be at least 0 and sum to 1")
    return np.log(np.maximum(chances, FLOOR))


def _prior(given: float | None, n: int, k: int) -> float:
    if given is None:
        return weight(n, k)
    if not 0 <= given < np.inf:
        raise DataError(f"the prior's weight is {given}; it must be a finite number of at least 0")
    return given


def _bend(at: Floats, logits: Floats, targets: Floats) -> tuple[float, Floats, Floats]:
    """Return cross entropy with its prior, slope and curvature at one over the temperature and k biases."""
    n, k = logits.shape
    scaled = logits * at[0] + at[1:]
    scaled -= scaled.max(axis=1, keepdims=True)
    chances = np.exp(scaled)
    total = chances.sum(axis=1, keepdims=True)
    chances /= total
    value = float(-(targets * (scaled - np.log(total))).sum() / n + (at[1:] ** 2).sum() / (2 * n))
    pulled = chances * logits
    slope = np.r_[((chances - targets) * logits).sum(), (chances - targets).sum(axis=0) + at[1:]] / n
    curve = np.zeros((k + 1, k + 1))
    curve[0, 0] = (pulled * logits).sum() - (pulled.sum(axis=1) ** 2).sum() + 1e-9 * n
    curve[0, 1:] = curve[1:, 0] = pulled.sum(axis=0) - chances.T @ pulled.sum(axis=1)
    curve[1:, 1:] = np.diag(chances.sum(axis=0) + 1) - chances.T @ chances
    return value, slope, curve / n


def _soften(logits: Floats, temperature: float, logit_bias: Sequence[float] = ()) -> Floats:
    if not 0 < temperature < np.inf:
        raise DataError(f"the temperature is {temperature}; it must be a finite number above 0")
    scaled = (logits - logits.max(axis=1, keepdims=True)) / temperature
    if len(logit_bias):
        if np.shape(logit_bias) != logits.shape[1:] or not np.isfinite(logit_bias).all():
            raise DataError(
                f"a logit bias of shape {np.shape(logit_bias)} does not fit {logits.shape[1]} classes; give "
                "one finite number for each class"
            )
        scaled = scaled + np.asarray(logit_bias, np.float64)
        scaled -= scaled.max(axis=1, keepdims=True)
    chances = np.exp(scaled)
    softened: Floats = chances / chances.sum(axis=1, keepdims=True)
    return softened


def _folds(truth: npt.NDArray[np.int64], folds: int, seed: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield which images are in each fold; classes and sizes differ by one image at most."""
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(truth))
    # Dealt out class after class, like cards, so that no fold is left without a hand.
    dealt = shuffled[np.argsort(truth[shuffled], kind="stable")]
    fold = np.empty(len(truth), np.int64)
    fold[dealt] = np.arange(len(truth)) % folds
    for index in range(folds):
        yield fold == index


def _threshold(confidence: Floats, answered: float) -> float:
    """Return the confidence that at least `answered` of the images reach."""
    count = int(np.ceil(answered * len(confidence) - 1e-9))
    return float(np.sort(confidence)[len(confidence) - count])


def _surprise(chances: Floats, targets: Floats) -> float:
    return float(-(targets * np.log(np.maximum(chances, 1e-12))).sum(axis=1).mean())
