import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as judge

import builders
from builders import refused
from hand_models import LABELS, split_of, thermometer
from mien.data.datasets import Split
from mien.errors import DataError, ModelError
from mien.evaluation import evaluator
from mien.evaluation.metrics import compute_metrics, wilson_interval


def names(k: int) -> list[str]:
    return [f"c{index:03d}" for index in range(k)]


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 400), k=st.integers(2, 12), seed=st.integers(0, 1000))
def test_figures_are_scikit_learns(n: int, k: int, seed: int) -> None:
    chances, labels = builders.random_answers(n, k, seed)
    report = compute_metrics(chances, labels, names(k))
    answers, there = chances.argmax(axis=1), sorted(set(labels))
    one_hot = np.eye(k)[labels]
    expected = {
        "accuracy": judge.accuracy_score(labels, answers),
        "balanced_accuracy": judge.recall_score(labels, answers, average="macro", labels=there),
        "macro_f1": judge.f1_score(labels, answers, average="macro", labels=there),
        "nll": judge.log_loss(labels, chances, labels=range(k)),
        "brier": ((chances - one_hot) ** 2).sum() / n,
    }
    assert {name: getattr(report, name) for name in expected} == pytest.approx(expected, abs=1e-9)
    assert (np.array(report.confusion) == judge.confusion_matrix(labels, answers, labels=range(k))).all()
    precision, recall, f1, counts = judge.precision_recall_fscore_support(
        labels, answers, labels=range(k), zero_division=np.nan
    )
    for index, score in enumerate(report.per_class.values()):
        assert score.n == counts[index]
        assert score.precision == (None if np.isnan(precision[index]) else pytest.approx(precision[index]))
        assert score.recall == (None if score.n == 0 else pytest.approx(recall[index]))
        assert score.f1 == (None if score.n == 0 else pytest.approx(f1[index]))
    assert report.absent == tuple(name for name, n in zip(names(k), counts, strict=True) if n == 0)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_ece_is_its_definition(bins: int) -> None:
    chances, labels = builders.random_answers(2000, 4, 3)
    chances[:4] = np.eye(4)
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == labels
    expected = 0.0
    for index in range(bins):
        inside = (confidence > index / bins) & (confidence <= (index + 1) / bins)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    report = compute_metrics(chances, labels, names(4), bins=bins)
    assert report.ece == pytest.approx(expected, abs=1e-12)
    assert sum(each.n for each in report.reliability) == report.n
    assert len(report.reliability) == bins


def test_known_calibrations() -> None:
    always = np.tile([0.75, 0.25], (100, 1))
    labels = np.array([0] * 75 + [1] * 25)
    assert compute_metrics(always, labels, "ab").ece == pytest.approx(0)
    assert compute_metrics(always, labels * 0, "ab").ece == pytest.approx(0.25)
    sure = compute_metrics(np.eye(2), np.array([0, 1]), "ab")
    assert (sure.accuracy, sure.nll, sure.brier, sure.ece) == (1, 0, 0, 0)
    wrong = compute_metrics(np.eye(2), np.array([1, 0]), "ab")
    assert (wrong.accuracy, wrong.brier, wrong.ece) == (0, 2, 1)
    assert wrong.nll == pytest.approx(-np.log(1e-12))


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval(right: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(right, n) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(n - right, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_bootstrap_over_counts_is_the_bootstrap_over_images() -> None:
    chances, labels = builders.random_answers(300, 4, 5)
    answers = chances.argmax(axis=1)
    random = np.random.default_rng(1)
    balanced, macro = [], []
    for _ in range(1000):
        drawn = random.integers(0, 300, 300)
        confusion = np.bincount(labels[drawn] * 4 + answers[drawn], minlength=16).reshape(4, 4)
        right, n, answered = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
        balanced.append((right / n).mean())
        macro.append((2 * right / (n + answered)).mean())
    report = compute_metrics(chances, labels, names(4))
    # The ends of two bootstraps of 1,000 and 2,000 differ by less than a tenth of the width.
    for interval, naive in (
        (report.balanced_accuracy_interval, balanced),
        (report.macro_f1_interval, macro),
    ):
        low, high = np.percentile(naive, (2.5, 97.5))
        assert interval == pytest.approx((low, high), abs=(high - low) / 10)


def test_intervals_hold_their_figures_and_follow_the_seed() -> None:
    chances, labels = builders.random_answers(500, 7, 2)
    report = compute_metrics(chances, labels, names(7), seed=3)
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        low, high = getattr(report, f"{name}_interval")
        assert 0 <= low < getattr(report, name) < high <= 1
    assert compute_metrics(chances, labels, names(7), seed=3) == report
    other = compute_metrics(chances, labels, names(7), seed=4)
    assert other.macro_f1_interval != report.macro_f1_interval
    assert other.macro_f1 == report.macro_f1


def test_a_class_without_images_is_left_out_and_said() -> None:
    chances = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    report = compute_metrics(chances, np.array([0, 1, 1]), LABELS)
    assert report.absent == ("surprise",)
    score = report.per_class["surprise"]
    assert (score.n, score.precision, score.recall, score.f1, score.recall_interval) == (
        0,
        0,
        None,
        None,
        None,
    )
    assert report.balanced_accuracy == pytest.approx((1 + 1 / 2) / 2)
    assert report.macro_f1 == pytest.approx((1 + 2 / 3) / 2)
    never = compute_metrics(chances[:2], np.array([0, 2]), LABELS).per_class["surprise"]
    assert (never.precision, never.recall, never.f1) == (None, 0, 0)


def test_many_classes_are_no_burden() -> None:
    chances, labels = builders.random_answers(600, 300, 0)
    report = compute_metrics(chances, labels, names(300))
    assert report.n == 600
    assert report.balanced_accuracy_interval[0] < report.balanced_accuracy


@pytest.mark.parametrize(
    ("chances", "labels"),
    [
        (np.ones((0, 3)), []),
        (np.ones((2, 2)), [0, 1]),
        (np.ones((3, 3)), [0, 1]),
        (np.ones((2, 3)), [0, 3]),
        (np.ones((2, 3)), [0, -1]),
    ],
)
def test_what_does_not_fit_together_is_refused(chances: np.ndarray, labels: list[int]) -> None:
    with refused(DataError):
        compute_metrics(chances, np.array(labels, np.int64), LABELS)


def test_score_of_a_known_model() -> None:
    model = thermometer()
    faces = split_of([10, 20, 120, 130, 240, 250], [0, 1, 1, 1, 2, 0])
    seen: list[tuple[int, int]] = []
    report = evaluator.evaluate(
        model, faces, labels=LABELS, data="hand", progress=lambda *each: seen.append(each)
    )
    assert report.confusion == ((1, 0, 1), (1, 2, 0), (0, 0, 1))
    assert report.accuracy == pytest.approx(4 / 6)
    assert seen == [(6, 6)]
    assert report.model == model.card.sha256
    assert (report.split, report.split_fingerprint, report.data) == ("val", faces.fingerprint, "hand")


def test_labels_are_matched_by_name() -> None:
    model = thermometer()
    pixels = [10, 20, 120, 240]
    expected = evaluator.evaluate(model, split_of(pixels, [0, 0, 1, 2]), labels=LABELS)
    turned = evaluator.evaluate(model, split_of(pixels, [2, 2, 0, 1]), labels=("sad", "surprise", "happy"))
    assert expected.accuracy == 1
    assert turned.confusion == expected.confusion
    fewer = evaluator.evaluate(model, split_of(pixels[2:], [1, 0]), labels=("surprise", "sad"))
    assert fewer.accuracy == 1
    assert fewer.absent == ("happy",)


def test_what_cannot_be_scored_is_refused() -> None:
    model = thermometer()
    with refused(ModelError, "'contempt'", "--map"):
        evaluator.evaluate(model, split_of([1], [0]), labels=("happy", "contempt"))
    with refused(DataError):
        evaluator.evaluate(model, split_of([], []), labels=LABELS)
    for label in (-1, 3):
        with refused(DataError, 3):
            evaluator.evaluate(model, split_of([1], [label]), labels=LABELS)
    images = np.zeros((1, 48, 48, 1), np.uint8)
    with refused(ModelError, "(1, 48, 48, 1)"):
        evaluator.evaluate(model, Split("val", images, np.zeros(1, np.int64), None, ("a",)), labels=LABELS)


def test_the_report_is_plain_json() -> None:
    report = evaluator.evaluate(thermometer(), split_of([10, 120], [0, 1]), labels=LABELS)
    document = report.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == json.loads(json.dumps(document))
    for name in ("n", "accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece"):
        assert type(document[name]) in (int, float)
    assert len(document["accuracy_interval"]) == 2
    low, _ = wilson_interval(1, 1)
    assert document["per_class"]["happy"] == {
        "n": 1,
        "precision": 1.0,
        "recall": 1.0,
        "f1": 1.0,
        "recall_interval": wilson_interval(1, 1),
        "precision_interval": wilson_interval(1, 1),
        "f1_interval": pytest.approx((2 * low / (1 + low), 1)),
    }
    assert document["confusion"] == ((1, 0, 0), (0, 1, 0), (0, 0, 0))


def test_scoring_needs_nothing_that_trains() -> None:
    script = (
        "import sys\n"
        "from mien.evaluation import evaluator\n"
        "import numpy\n"
        "evaluator.compute_metrics(numpy.eye(2), numpy.arange(2), 'ab')\n"
        "heavy = {'keras', 'tensorflow', 'onnx', 'matplotlib', 'cv2', 'torch', 'jax'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_classes_that_begin_alike_have_different_heads_in_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mien.cli import evaluation

    names = ["surprised_low", "surprised_high", "sad"]
    truth = np.arange(30) % 3
    evaluation.print_evaluation(compute_metrics(np.eye(3)[truth], truth, names))
    out = capsys.readouterr().out
    (head,) = [line for line in out.splitlines() if "surpri…" in line]
    assert head.split() == ["class", "surpri…w", "surpri…h", "sad"]
    # The rows have the names in full.
    assert out.count("surprised_low") == 2
