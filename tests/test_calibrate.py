import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import refused
from mien.errors import DataError
from mien.evaluation import calibration
from mien.evaluation.metrics import compute_metrics


def softmax(logits: np.ndarray) -> np.ndarray:
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    return chances / chances.sum(axis=1, keepdims=True)


def honest(n: int, k: int = 7, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels drawn from them: no temperature but 1 is right."""
    random = np.random.default_rng(seed)
    chances = softmax(random.normal(0, 2, (n, k)))
    labels = (chances.cumsum(axis=1) < random.random((n, 1))).sum(axis=1)
    return chances, np.minimum(labels, k - 1)


def surprise(chances: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(np.maximum(chances[np.arange(len(labels)), labels], 1e-12)).mean())


@pytest.mark.parametrize("sharpened", [0.4, 1.0, 1.7, 3.0])
def test_a_known_temperature_is_found_again(sharpened: float) -> None:
    chances, labels = honest(20_000)
    told = softmax(np.log(chances) * sharpened)
    assert calibration.fit(told, labels) == pytest.approx(sharpened, rel=0.03)
    # With every answer's true share as its label nothing is left to chance.
    assert calibration.fit(told, chances) == pytest.approx(sharpened, rel=1e-9)
    assert calibration.fit(told, 10 * chances) == pytest.approx(sharpened, rel=1e-9)


def test_what_applies_is_the_softmax_of_divided_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, 5))
    chances = softmax(logits).astype(np.float32)
    np.testing.assert_allclose(calibration.apply(chances, 2.5), softmax(logits / 2.5), atol=1e-6)
    np.testing.assert_allclose(calibration.apply(chances, 1.0), chances, atol=1e-6)
    assert (calibration.apply(chances, 7.0).argmax(axis=1) == chances.argmax(axis=1)).all()
    assert (
        calibration.apply(chances, 20.0).max() < chances.max() < calibration.apply(chances, 0.1).max() <= 1.0
    )


def test_known_offsets_are_found_again() -> None:
    chances, labels = honest(20_000)
    wanted = np.array([1.5, -0.5, 0.0, 0.3, -1.0, 0.2, -0.5])
    told = calibration.undo(chances, 1.6, wanted)
    np.testing.assert_allclose(calibration.apply(told, 1.6, wanted), chances, atol=1e-9)
    # With every answer's true share as its label only the pull towards 0 is left, as of one image.
    temperature, logit_bias = calibration.fit_logit_bias(told, chances)
    assert temperature == pytest.approx(1.6, rel=1e-3)
    np.testing.assert_allclose(logit_bias, wanted, atol=1e-2)
    assert sum(logit_bias) == pytest.approx(0, abs=1e-9)
    plain, shifted = (calibration.measure(told, labels, logit_bias=each) for each in (False, True))
    assert shifted.accuracy_before == plain.accuracy_before == plain.accuracy_after
    assert shifted.accuracy_after > plain.accuracy_after + 0.02
    assert shifted.nll_after < plain.nll_after
    assert shifted.ece_after < 0.02
    assert plain.logit_bias == ()
    assert len(shifted.logit_bias) == 7


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 40), k=st.integers(2, 5), seed=st.integers(0, 10**6), spread=st.floats(0.1, 8))
def test_no_step_from_fitted_offsets_is_better(n: int, k: int, seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    chances, labels = softmax(random.normal(0, spread, (n, k))), random.integers(0, k, n)

    def cost(temperature: float, logit_bias: np.ndarray) -> float:
        prior = float((logit_bias**2).sum()) / (2 * n)
        return surprise(calibration.apply(chances, temperature, logit_bias), labels) + prior

    temperature, found = calibration.fit_logit_bias(chances, labels)
    assert calibration.LOWEST - 1e-9 <= temperature <= calibration.HIGHEST + 1e-9
    least = cost(temperature, np.array(found))
    for _ in range(20):
        other = float(
            np.clip(temperature * np.exp(random.normal(0, 0.2)), calibration.LOWEST, calibration.HIGHEST)
        )
        assert least <= cost(other, found + random.normal(0, 0.2, k)) + 1e-6
        assert least <= cost(temperature, found + random.normal(0, 0.02, k)) + 1e-6


def test_a_class_without_images_keeps_a_finite_offset() -> None:
    chances, _ = honest(300)
    labels = np.arange(300) % 6  # never the last
    _, logit_bias = calibration.fit_logit_bias(chances, labels)
    assert -20 < logit_bias[6] < -1
    with refused(DataError, 7):
        calibration.apply(chances, 1.0, logit_bias[:3])
    with refused(DataError):
        calibration.apply(chances, 1.0, [np.nan] * 7)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 40), k=st.integers(2, 5), seed=st.integers(0, 10**6), spread=st.floats(0.1, 8))
def test_no_other_temperature_is_better(n: int, k: int, seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(0, spread, (n, k))
    chances, labels = softmax(logits), random.integers(0, k, n)
    best = calibration.fit(chances, labels, prior=0)
    least = surprise(calibration.apply(chances, best), labels)
    for other in np.geomspace(calibration.LOWEST, calibration.HIGHEST, 60):
        assert least <= surprise(calibration.apply(chances, float(other)), labels) + 1e-9


def test_votes_pull_towards_their_spread() -> None:
    chances, labels = honest(2_000)
    certain = np.eye(7)[labels]
    assert calibration.fit(chances, certain) == calibration.fit(chances, labels)
    unsure = 0.5 * certain + 0.5 / 7
    assert calibration.fit(chances, unsure) > calibration.fit(chances, certain) * 1.2


def test_the_ends_of_the_search() -> None:
    labels = np.array([0, 1, 2, 0])
    sure = np.eye(3)[labels]
    assert calibration.fit(sure * 0.8 + 0.2 / 3, labels, prior=0) == pytest.approx(calibration.LOWEST)
    wrong = np.roll(sure, 1, axis=1)
    assert calibration.fit(wrong, labels, prior=0) == pytest.approx(calibration.HIGHEST)
    assert calibration.fit(np.full((4, 3), 1 / 3), labels) == 1.0
    assert calibration.fit(np.ones((2, 1)), np.zeros(2, np.int64)) == 1.0


def few(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers of two classes, 72 % sure and all right."""
    labels = np.arange(n) % 2
    return np.where(np.eye(2)[labels] > 0, 0.72, 0.28), labels


def test_few_images_draw_the_temperature_towards_1() -> None:
    """With one logit the prior is worked out by hand: 18 right images, and 20 of which 72 % are right."""
    chances, labels = few(18)
    assert calibration.fit(chances, labels, prior=0) == pytest.approx(calibration.LOWEST)
    confidence = calibration.apply(chances, calibration.fit(chances, labels)).max(axis=1)
    np.testing.assert_allclose(confidence, (18 + 20 * 0.72) / 38, rtol=1e-9)
    drawn = [calibration.fit(chances, labels, prior=prior) for prior in (0, 1, 20, 500, 1e9)]
    assert drawn == sorted(drawn)
    assert drawn[-1] == pytest.approx(1, abs=1e-6)
    half = np.where(np.arange(18) < 9, labels, 1 - labels)
    confidence = calibration.apply(chances, calibration.fit(chances, half)).max(axis=1)
    np.testing.assert_allclose(confidence, (9 + 20 * 0.72) / 38, rtol=1e-9)


@pytest.mark.parametrize(
    ("n", "k", "prior"), [(1, 7, 20), (174, 7, 20), (175, 7, 0), (49, 2, 20), (50, 2, 0)]
)
def test_the_prior_ends_at_25_images_per_class(n: int, k: int, prior: float) -> None:
    assert calibration.weight(n, k) == prior
    chances, _ = honest(max(n, 2), k)
    labels = np.arange(max(n, 2)) % k
    found = calibration.measure(chances, labels, folds=2, logit_bias=True)
    assert found.prior == calibration.weight(max(n, 2), k)
    assert bool(found.logit_bias) == (found.prior == 0)
    if prior == 0:
        # Bit for bit what is fitted without a prior, in each fold too.
        assert found == calibration.measure(chances, labels, folds=2, logit_bias=True, prior=0)
        alone = calibration.measure(chances, labels, folds=2)
        assert alone == calibration.measure(chances, labels, folds=2, prior=0)
        assert (
            alone.temperature == calibration.fit(chances, labels) == calibration.fit(chances, labels, prior=0)
        )
    else:
        assert found == calibration.measure(chances, labels, folds=2)


def test_a_few_images_do_not_make_a_model_certain() -> None:
    """18 images whose label is the answer: cross-fitted, the model says at most what the prior allows."""
    chances, labels = few(18)
    bare, drawn = (calibration.measure(chances, labels, prior=prior) for prior in (0, None))
    assert (bare.temperature, bare.threshold) == (pytest.approx(calibration.LOWEST), pytest.approx(1))
    assert drawn.prior == calibration.PRIOR
    assert 0.8 < drawn.threshold < 0.9
    assert drawn.prior == 20


def test_zeros_of_a_float32_softmax_stay_finite() -> None:
    chances = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]], np.float32)
    labels = np.array([0, 2, 1])
    assert calibration.LOWEST <= calibration.fit(chances, labels) <= calibration.HIGHEST
    assert np.isfinite(calibration.apply(chances, 0.05)).all()
    measured = calibration.measure(np.tile(chances, (4, 1)), np.tile(labels, 4), folds=3)
    assert np.isfinite(measured.nll_before)
    assert np.isfinite(measured.nll_after)


def test_an_overconfident_model_is_mended() -> None:
    chances, labels = honest(5_000)
    told = softmax(np.log(chances) * 2)
    found = calibration.measure(told, labels)
    assert found.temperature == calibration.fit(told, labels) == pytest.approx(2, rel=0.05)
    assert found.n == 5_000
    assert found.folds == 5
    assert found.ece_before == compute_metrics(told, labels, "abcdefg").ece > 0.05
    assert found.ece_after < 0.02
    assert found.nll_before == pytest.approx(surprise(told, labels))
    assert found.nll_after < found.nll_before
    assert found.nll_after == pytest.approx(surprise(chances, labels), abs=0.002)
    # The threshold stands in what the model says after the temperature.
    confidence = calibration.apply(told, found.temperature).max(axis=1)
    assert (confidence >= found.threshold).mean() == pytest.approx(0.8)
    assert found.answered == pytest.approx(0.8, abs=0.02)
    kept = confidence >= found.threshold
    right = chances.argmax(axis=1) == labels
    assert found.accuracy_answered == pytest.approx(right[kept].mean(), abs=0.005)
    assert found.accuracy_answered > right.mean()
    assert found.accuracy_answered_interval is not None
    low, high = found.accuracy_answered_interval
    assert low < found.accuracy_answered < high
    assert high - low < 0.04


def test_a_calibrated_model_is_left_alone() -> None:
    chances, labels = honest(20_000)
    found = calibration.measure(chances, labels)
    assert found.temperature == pytest.approx(1, abs=0.03)
    assert found.ece_before < 0.01
    assert found.ece_after < 0.01


def test_no_fold_is_judged_by_what_itself_taught() -> None:
    """The one surprising image shows how hot it is only to the folds that it is not in."""
    chances = np.tile([0.9, 0.1], (6, 1))
    labels = np.array([0, 0, 0, 0, 0, 1])
    found = calibration.measure(chances, labels, folds=6, prior=0)
    alone = calibration.fit(chances[:5], labels[:5], prior=0)
    rest = calibration.fit(chances[:5], labels[1:], prior=0)
    assert alone == pytest.approx(calibration.LOWEST)
    surprises = [surprise(calibration.apply(chances[:1], rest), labels[:1])] * 5
    surprises.append(surprise(calibration.apply(chances[:1], alone), labels[5:]))
    assert found.nll_after == pytest.approx(np.mean(surprises))
    assert found.nll_after > found.nll_before
    # Fitted on all six, as a leak would be, it would look like a gain.
    assert surprise(calibration.apply(chances, found.temperature), labels) < found.nll_before


def test_no_fold_is_answered_by_its_own_threshold() -> None:
    confidence = np.array([0.95, 0.9, 0.8, 0.7, 0.6])
    chances = np.stack([confidence, 1 - confidence], axis=1)
    found = calibration.measure(chances, np.array([0, 1, 0, 1, 0]), folds=5, answered=0.5)
    # Each left out, the other four answer their upper two: only the upper two reach what they are asked for.
    assert found.answered == 2 / 5
    assert found.threshold == pytest.approx(
        calibration.apply(chances, found.temperature).max(axis=1)[2], rel=1e-12
    )


def test_every_fold_holds_its_share_of_every_class() -> None:
    truth = np.repeat([0, 1, 2], [50, 13, 3])
    folds = list(calibration._folds(truth, 5, 0))
    assert (np.sum(folds, axis=0) == 1).all()
    for label in range(3):
        counts = [int((truth[fold] == label).sum()) for fold in folds]
        assert max(counts) - min(counts) <= 1
    assert sorted(int(fold.sum()) for fold in folds) == [13, 13, 13, 13, 14]
    again, other = calibration._folds(truth, 5, 0), calibration._folds(truth, 5, 1)
    assert all((a == b).all() for a, b in zip(folds, again, strict=True))
    assert any((a != b).any() for a, b in zip(folds, other, strict=True))


def test_the_same_seed_gives_the_same_figures() -> None:
    chances, labels = honest(300)
    found = calibration.measure(chances, labels, seed=3)
    assert found == calibration.measure(chances, labels, seed=3)
    assert found != calibration.measure(chances, labels, seed=4)
    assert json.loads(json.dumps(asdict(found)))["n"] == 300


def test_equally_sure_answers_are_answered_together() -> None:
    found = calibration.measure(np.tile([0.7, 0.3], (10, 1)), np.repeat([0, 1], [7, 3]), answered=0.2)
    assert found.answered == 1.0
    assert found.accuracy_answered == 0.7


def test_all_answered_and_one_class_alone() -> None:
    chances, _ = honest(50)
    labels = np.full(50, 3)
    found = calibration.measure(chances, labels, folds=2, answered=1.0)
    confidence = calibration.apply(chances, found.temperature).max(axis=1)
    assert found.threshold == confidence.min()
    assert found.accuracy_answered is not None


def test_none_answered_has_no_accuracy() -> None:
    """The first is the less sure one when both are sharpened, the second when both are flattened."""
    chances = np.array([[0.5, 0.49, 0.01], [0.4, 0.3, 0.3]])
    labels = np.array([2, 0])  # alone, the first asks for the highest temperature, the second for the lowest
    found = calibration.measure(chances, labels, folds=2, prior=0)
    assert found.answered == 0
    assert found.accuracy_answered is None
    assert found.accuracy_answered_interval is None


def test_votes_count_by_their_likeliest_class() -> None:
    chances, labels = honest(400)
    votes = np.eye(7)[labels] * 6 + 0.5
    found = calibration.measure(chances, votes)
    assert found.ece_before == calibration.measure(chances, labels).ece_before
    assert found.temperature > calibration.measure(chances, labels).temperature


@pytest.mark.parametrize(
    ("chances", "labels"),
    [
        (np.empty((0, 3)), np.empty(0, np.int64)),
        (np.ones(3), np.zeros(3, np.int64)),
        (np.full((2, 2), 0.6), np.zeros(2, np.int64)),
        (np.array([[1.5, -0.5]]), np.zeros(1, np.int64)),
        (np.array([[np.nan, 1.0]]), np.zeros(1, np.int64)),
        (np.full((2, 2), 0.5), np.array([0, 2])),
        (np.full((2, 2), 0.5), np.array([-1, 0])),
        (np.full((2, 2), 0.5), np.array([0.0, 1.0])),
        (np.full((2, 2), 0.5), np.zeros((2, 3))),
        (np.full((2, 2), 0.5), np.array([[1.0, 0.0], [0.0, 0.0]])),
        (np.full((2, 2), 0.5), np.array([[1.0, 0.0], [2.0, -1.0]])),
        (np.full((2, 2), 0.5), np.array([[1.0, 0.0], [np.nan, 1.0]])),
    ],
)
def test_what_does_not_fit_is_refused(chances: np.ndarray, labels: np.ndarray) -> None:
    for verb in (calibration.fit, calibration.fit_logit_bias, calibration.measure):
        with refused(DataError):
            verb(chances, labels)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"folds": 1}, 1),
        ({"folds": 11}, 11),
        ({"answered": 0.0}, 0),
        ({"answered": 1.1}, 1),
        ({"prior": -1.0}, 0),
        ({"prior": float("inf")}, 0),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, Any], says: int) -> None:
    with refused(DataError, says):
        calibration.measure(*honest(10), **settings)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_temperature_is_refused(temperature: float) -> None:
    with refused(DataError, 0):
        calibration.apply(np.array([[0.5, 0.5]]), temperature)
