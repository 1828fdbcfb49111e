"""What evaluate tells besides the main figures: surety, copies, groups, and how often a test was scored."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import filelock
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics as judge

import builders
from builders import has_line, refused
from mien import _files
from mien.data import synthetic
from mien.data.datasets import Split
from mien.errors import DataError, InputError, ModelError, OutputError, RunError
from mien.evaluation import calibration, evaluation_log, evaluator
from mien.evaluation.evaluation import SplitUse
from mien.evaluation.evaluation_log import LOG_FILE, Choices, find_choices, find_role, log_evaluation
from mien.evaluation.evaluator import VIEWS
from mien.evaluation.evaluator import make_views as views_of
from mien.evaluation.memorised import find_training_duplicates
from mien.evaluation.metrics import (
    GroupList,
    add_thresholds,
    at_chance,
    compute_metrics,
    evaluate_groups,
    find_plurality,
    majority_share,
    measure_selective_prediction,
    read_groups,
    risk_coverage_area,
    wilson_interval,
)
from mien.labels import VOTES
from mien.models import model_files, priors
from mien.training import recipes, runs


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 300), k=st.integers(2, 8), seed=st.integers(0, 1000), digits=st.integers(1, 6))
def test_selective_accuracy_is_that_of_the_surest_images(n: int, k: int, seed: int, digits: int) -> None:
    chances, labels = builders.random_answers(n, k, seed)
    chances = chances.round(digits)  # few digits make many images equally sure
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == labels
    points = measure_selective_prediction(chances, labels)
    for point in points:
        surest = confidence >= point.threshold
        assert point.n == surest.sum()
        assert point.coverage == point.n / n
        assert point.accuracy == right[surest].mean()
        assert point.interval == wilson_interval(int(right[surest].sum()), point.n)
    assert points[-1].n == n
    counts = [point.n for point in points]
    assert counts == sorted(set(counts))
    for asked in (0.05, 0.5, 1.0):
        assert any(point.coverage >= asked for point in points)


def test_area_under_the_curve_of_risk() -> None:
    chances, labels = builders.random_answers(400, 5, 1)
    order = np.argsort(-chances.max(axis=1), kind="stable")
    wrong = (chances.argmax(axis=1) != labels)[order]
    risks = np.cumsum(wrong) / np.arange(1, 401)
    ideal = np.cumsum(np.sort(wrong)) / np.arange(1, 401)
    area, best = risk_coverage_area(chances, labels)
    assert area == pytest.approx(risks.mean())
    assert best == pytest.approx(ideal.mean())
    same = np.full((10, 2), 0.5)
    area, best = risk_coverage_area(same, np.array([0] * 7 + [1] * 3))
    assert area == pytest.approx(0.3)
    assert best < area
    turned, _ = risk_coverage_area(same, np.array([1] * 3 + [0] * 7))
    assert turned == pytest.approx(0.3), "equally sure images have no order"


@pytest.mark.parametrize("coverage", [0.0, -0.5, 1.5])
def test_a_coverage_is_a_share(coverage: float) -> None:
    chances, labels = builders.random_answers(5, 2, 0)
    with refused(DataError):
        measure_selective_prediction(chances, labels, coverages=[coverage])
    with refused(DataError):
        risk_coverage_area(chances[:0], labels[:0])


def test_intervals_of_precision_and_f1() -> None:
    chances, labels = builders.random_answers(900, 4, 7)
    report = compute_metrics(chances, labels, "abcd")
    answers = chances.argmax(axis=1)
    for index, score in enumerate(report.per_class.values()):
        hits, answered = int(((answers == index) & (labels == index)).sum()), int((answers == index).sum())
        assert score.precision_interval == wilson_interval(hits, answered)
        jaccard = judge.jaccard_score(labels == index, answers == index)
        assert score.f1 == pytest.approx(2 * jaccard / (1 + jaccard))
        low, high = score.f1_interval or (1.0, 0.0)
        assert low < (score.f1 or 0) < high
    # Drawing images is drawing the counts of right, wrongly answered, missed and all other images.
    hits = (answers == 0) & (labels == 0)
    counts = [hits.sum(), ((answers == 0) & ~hits).sum(), ((labels == 0) & ~hits).sum()]
    counts.append(900 - sum(counts))
    drawn = np.random.default_rng(0).multinomial(900, np.array(counts) / 900, 4000)
    f1 = 2 * drawn[:, 0] / (2 * drawn[:, 0] + drawn[:, 1] + drawn[:, 2])
    low, high = np.percentile(f1, (2.5, 97.5))
    assert report.per_class["a"].f1_interval == pytest.approx((low, high), abs=(high - low) / 10)


def test_copies_are_found_upright_and_mirrored() -> None:
    random = np.random.default_rng(0)
    waves = random.normal(0, 1, (40, 6, 6))
    smooth = np.kron(waves, np.ones((4, 4)))
    images = np.clip(120 + 40 * smooth, 0, 255).astype(np.uint8)[:, :, :, None]
    train, test = images[:30], images[20:].copy()
    test[5:10] = train[:5, :, ::-1]
    found = find_training_duplicates(test, train)
    assert np.flatnonzero(found.exact).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(found.near).tolist() == [5, 6, 7, 8, 9]
    assert found.recrops is None
    assert np.flatnonzero(found.any).tolist() == list(range(10))


def test_photographs_cut_otherwise_are_found_where_they_are_asked_for() -> None:
    faces = synthetic.sample(14, seed=4, size=96)[0][:, :, :, 0]
    whole, part = (
        np.stack([Image.fromarray(face).resize((48, 48), Image.Resampling.BOX, box) for face in faces])
        for box in (None, (6, 8, 92, 94))
    )
    train, test = whole[:8, :, :, None], np.concatenate([whole[6:7], part[4:10]])[:, :, :, None]
    seen: list[tuple[int, int]] = []
    found = find_training_duplicates(
        test, train, include_recrops=True, progress=lambda done, total: seen.append((done, total))
    )
    assert found.recrops is not None
    assert np.flatnonzero(found.exact).tolist() == [0]
    assert np.flatnonzero(found.recrops).tolist() == [1, 2, 3, 4]
    assert np.flatnonzero(found.any).tolist() == [0, 1, 2, 3, 4]
    assert (seen, seen[-1]) == (sorted(seen), (100, 100))


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_groups_are_joined_by_row_or_file(tmp_path: Path) -> None:
    by_row = read_groups(write(tmp_path / "r.csv", "\ufeffrow, age \n007,old\n8,\n9,young\n,old\n"))
    assert (by_row.file, by_row.column) == ("r.csv", "age")
    assert by_row.groups == {"row 7": "old", "row 9": "young"}
    many = write(tmp_path / "f.csv", 'a,File,b\n1,"x, y.png",2\n3,z.png,4\n3,z.png,4\n')
    assert read_groups(f"{many}:b").groups == {"x, y.png": "2", "z.png": "4"}
    odd = write(tmp_path / "odd:name.csv", "file,one\nx,1\n")
    assert read_groups(odd).file == "odd:name.csv"
    assert read_groups(f"{odd}:one").column == "one"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ["row", "file"]),
        ("a,b\n1,2\n", ["row", "file"]),
        ("file\nx\n", ["'g.csv'"]),
        ("file,a,b\nx,1,2\n", ["a, b"]),
        ("file,a\nx,1\nx,2\n", ["'x'", "'1'", "'2'"]),
        ('file,a\nx,"1"2\n', ["line 2", "'g.csv'"]),
        ("row,a\n1,2\n" + "9" * 5000 + ",1\n", ["line 3", "'g.csv'", "5,000"]),
        ("row," + "a" * 200_000 + "\n1,2\n", ["line 1", "'g.csv'"]),
    ],
)
def test_lists_that_cannot_be_used_are_refused(tmp_path: Path, text: str, says: list[str]) -> None:
    with refused(DataError, *says):
        read_groups(write(tmp_path / "g.csv", text))


def test_files_that_are_no_lists_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write(tmp_path / "g.csv", "file,a\nx,1\n")
    with refused(DataError, "'c'"):
        read_groups(f"{good}:c")
    with refused(DataError, "absent.csv"):
        read_groups(tmp_path / "absent.csv")
    (tmp_path / "b.csv").write_bytes(b"file,a\n\xff,1\n")
    with refused(DataError, "b.csv"):
        read_groups(tmp_path / "b.csv")
    monkeypatch.setattr("mien.evaluation.metrics._MAX_BYTES", 5)
    with refused(DataError, "g.csv"):
        read_groups(good)


def test_each_group_has_the_figures_of_its_images() -> None:
    chances, labels = builders.random_answers(100, 3, 4)
    files = [f"row {index}" for index in range(100)]
    groups = {f"row {index}": "few" if index < 29 else "many" for index in range(90)} | {"row 900": "gone"}
    found = evaluate_groups(GroupList("g.csv", "age", groups), files, chances, labels, "abc")
    assert (found.file, found.column, found.unlisted) == ("g.csv", "age", 10)
    few, many = found.groups
    assert [(each.name, each.n, each.few) for each in (few, many)] == [("few", 29, True), ("many", 61, False)]
    answers = chances.argmax(axis=1)
    assert few.accuracy == judge.accuracy_score(labels[:29], answers[:29])
    assert many.macro_f1 == pytest.approx(judge.f1_score(labels[29:90], answers[29:90], average="macro"))
    assert many.balanced_accuracy == pytest.approx(
        judge.balanced_accuracy_score(labels[29:90], answers[29:90])
    )
    assert few.accuracy_interval[1] - few.accuracy_interval[0] > 0.2


def test_groups_that_do_not_fit_are_refused() -> None:
    chances, labels = builders.random_answers(201, 3, 4)
    files = [str(index) for index in range(201)]
    with refused(DataError, "'0'"):
        evaluate_groups(GroupList("g.csv", "a", {"x": "1"}), files, chances, labels, "abc")
    each = GroupList("g.csv", "a", {file: file for file in files})
    with refused(DataError, 201):
        evaluate_groups(each, files, chances, labels, "abc")


TRAIN, VAL, TEST, LATER = ("1" * 64, "2" * 64, "3" * 64, "4" * 64)


def card() -> model_files.Card:
    parts = {"train": TRAIN, "val": VAL, "test": TEST}
    splits = {name: model_files.Part(n=9, fingerprint=fingerprint) for name, fingerprint in parts.items()}
    data = model_files.Data(name="faces", fingerprint="5" * 64, splits=splits)
    return model_files.Card(name="hand", labels=("a", "b"), size=48, data=data)


def scored(fingerprint: str, model: str = "6" * 64) -> dict[str, object]:
    return {"fingerprint": fingerprint, "split": "test", "data": "faces", "n": 9, "sha256": model}


@pytest.fixture
def made(tmp_path: Path) -> runs.Run:
    return runs.create(recipes.get("quick"), {}, out=tmp_path / "runs" / "one")


def test_images_learnt_from_or_chosen_by_are_told_and_not_counted(made: runs.Run) -> None:
    for fingerprint, role in ((TRAIN, "train"), (VAL, "val")):
        told = log_evaluation(made, card(), **scored(fingerprint))
        assert (told.role, told.times) == (role, None)
        assert has_line(told.warnings[0], "test", role)
        assert role in find_role(card(), fingerprint, role).warnings[0]
    assert find_role(card(), TEST) == SplitUse(role="other")
    assert not (made.path / LOG_FILE).exists()
    # The whole that a fold was cut from, or images of the same data in another size.
    for split in ("train", "val"):
        whole = find_role(card(), LATER, split, "faces")
        assert whole.role == "unknown"
        assert has_line(whole.warnings[0], split, "faces")
        assert find_role(card(), LATER, split, "other faces").role == "other"
    assert find_role(card(), LATER, "test", "faces").role == "other"
    strange = find_role(replace(card(), data=None), TEST)
    assert strange.role == "unknown"
    assert strange.warnings


def test_scorings_are_counted_by_fingerprint_and_model(made: runs.Run) -> None:
    for times in (1, 2):
        told = log_evaluation(made, card(), **scored(TEST))
        assert told == SplitUse(role="other", times=times, models=1)
    assert log_evaluation(made, card(), **scored(LATER)).times == 1
    told = log_evaluation(made, card(), **scored(TEST, "7" * 64))
    assert (told.times, told.models) == (3, 2)
    assert has_line(told.warnings[0], "one", 2, 3)
    entries = json.loads((made.path / LOG_FILE).read_text())
    assert [each["split_fingerprint"] for each in entries] == [TEST, TEST, LATER, TEST]
    assert all(each["when"].endswith("+00:00") for each in entries)
    nameless = log_evaluation(made, replace(card(), data=None), **scored(TEST, "7" * 64))
    assert (nameless.role, nameless.times) == ("unknown", 4)


def test_runs_beside_that_saw_the_same_test_are_named(made: runs.Run) -> None:
    others = [runs.create(recipes.get("quick"), {}, out=made.path.parent / f"other-{i}") for i in range(5)]
    (made.path.parent / "stray").mkdir()
    (made.path.parent / "stray" / LOG_FILE).write_text("[]")
    log_evaluation(others[0], card(), **scored(LATER))
    assert log_evaluation(made, card(), **scored(TEST)).beside == ()
    assert has_line(log_evaluation(others[1], card(), **scored(TEST)).warnings[0], "one", "other-1")
    for other in others[2:]:
        log_evaluation(other, card(), **scored(TEST))
    told = log_evaluation(made, card(), **scored(TEST))
    assert told.beside == ("other-1", "other-2", "other-3", "other-4")
    assert has_line(told.warnings[0], "other-1, other-2, other-3 and 1 more", "one")


def test_a_damaged_count_beside_is_named_and_hides_nothing(made: runs.Run) -> None:
    for number, text in enumerate(("{", '[{"split_fingerprint": [], "model": "1"}]')):
        other = runs.create(recipes.get("quick"), {}, out=made.path.parent / f"other-{number}")
        (other.path / LOG_FILE).write_text(text)
    whole = runs.create(recipes.get("quick"), {}, out=made.path.parent / "whole")
    log_evaluation(whole, card(), **scored(TEST))
    told = log_evaluation(made, card(), **scored(TEST))
    assert (told.times, told.beside) == (1, ("whole",))
    for number in range(2):
        assert any(has_line(each, f"other-{number}", LOG_FILE) for each in told.warnings)
    assert log_evaluation(made, card(), **scored(TEST)).times == 2


def test_scorings_at_once_are_all_counted(made: runs.Run) -> None:
    threads = [
        threading.Thread(target=log_evaluation, args=(made, card()), kwargs=scored(TEST)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log_evaluation(made, card(), **scored(TEST)).times == 9


@pytest.mark.parametrize(
    "text", ["{", "{}", "[1]", '[{"model": 1}]', '[{"split_fingerprint": "1", "model": []}]']
)
def test_a_damaged_count_is_refused_and_kept(made: runs.Run, text: str) -> None:
    (made.path / LOG_FILE).write_text(text)
    with refused(RunError, LOG_FILE):
        log_evaluation(made, card(), **scored(TEST))
    assert (made.path / LOG_FILE).read_text() == text


def test_what_cannot_be_counted_is_said(made: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(_files, "write", refuse)
        with refused(OutputError, LOG_FILE):
            log_evaluation(made, card(), **scored(TEST))
    with monkeypatch.context() as patch:
        patch.setattr(evaluation_log, "_PATIENCE", 0.05)
        with (
            filelock.FileLock(made.path / f".{LOG_FILE}.lock"),
            refused(RunError, LOG_FILE),
        ):
            log_evaluation(made, card(), **scored(TEST))

    def unlocked(*given: object, **named: object) -> None:
        raise NotImplementedError

    with monkeypatch.context() as patch:
        patch.setattr(filelock, "FileLock", unlocked)
        with refused(RunError, LOG_FILE):
            log_evaluation(made, card(), **scored(TEST))
    lock = made.path / f".{LOG_FILE}.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()
    with refused(OutputError, LOG_FILE):
        log_evaluation(made, card(), **scored(TEST))
    assert not (made.path / LOG_FILE).exists()


def test_answers_on_some_images_are_judged_alone() -> None:
    votes = np.zeros((4, 10), np.float32)
    votes[:, VOTES.index("happy")] = 9
    votes[3] = 0
    images = np.zeros((4, 16, 16, 1), np.uint8)
    split = Split("test", images, np.array([0, 1, 1, 0]), votes, ("a", "b", "c", "d"))
    chances = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], np.float32)
    answers = evaluator.Predictions(split, ("happy", "sad"), chances, np.array([0, 1, 1, 0]))
    whole = evaluator.evaluate_predictions(answers)
    assert (len(answers), whole.n, whole.accuracy) == (4, 4, 3 / 4)
    assert whole.agreement is not None
    assert (whole.agreement.n, whole.agreement.share, whole.agreement.left_out) == (
        3,
        pytest.approx(2 / 3),
        1,
    )
    some = answers.take(np.array([True, False, True, False]))
    assert some.split.files == ("a", "c")
    assert evaluator.evaluate_predictions(some).accuracy == 1
    assert evaluator.evaluate_predictions(some).split_fingerprint == some.split.fingerprint
    last = evaluator.evaluate_predictions(answers.take(np.array([3])))
    assert last.agreement is None, "nobody voted for a class of the model"
    decided, _ = find_plurality(votes, ["awake"])
    assert not decided.any()


def test_groups_of_classes_are_judged_as_one() -> None:
    votes = np.zeros((4, 10), np.float32)
    for row, seen in enumerate(
        ({"sad": 3, "fear": 3, "happy": 4}, {"happy": 5}, {"contempt": 6, "sad": 5}, {})
    ):
        for name, count in seen.items():
            votes[row, VOTES.index(name)] = count
    truth = np.array([2, 0, 1, 1])
    split = Split("test", np.zeros((4, 16, 16, 1), np.uint8), truth, votes, tuple("abcd"))
    chances = np.array([[0.4, 0.3, 0.3], [0.45, 0.3, 0.25], [0.5, 0.2, 0.3], [0.6, 0.2, 0.2]], np.float32)
    answers = evaluator.Predictions(split, ("happy", "sad", "fear"), chances, truth)
    assert answers.group({}) is answers
    found = evaluator.evaluate_predictions(answers.group({"low": ("sad", "fear")}))
    assert found.labels == ("low", "happy")
    assert found.confusion == ((2, 1), (1, 0))
    assert found.class_groups == {"low": ("sad", "fear")}
    assert evaluator.evaluate_predictions(answers).accuracy == 1 / 4
    # 6 votes for `low` are more than 4; 6 for a class that no model has are more than 5.
    assert found.agreement is not None
    assert (found.agreement.n, found.agreement.share, found.agreement.left_out) == (2, 1 / 2, 2)
    # Nobody voted for the group that has the name of an emotion outside it.
    decided, number = find_plurality(votes, ["sad", "low"], {"sad": ("neutral",), "low": ("sad", "fear")})
    assert (decided.tolist(), number.tolist()) == ([True, False, False, False], [1, 0, 1, 0])
    with refused(InputError, "odd"):
        answers.group("low=odd")


def test_no_model_has_no_answer() -> None:
    with refused(ModelError):
        evaluator.predict_mean([], np.zeros((1, 48, 48, 1), np.uint8))


@pytest.mark.parametrize("size", [16, 48])
def test_views_are_the_image_mirrored_and_moved_to_its_corners(size: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 1), np.uint8)
    wide = max(1, round(size / 24))
    for number in VIEWS:
        views = list(views_of(images, number))
        assert len(views) == number
        assert {(view.shape, view.dtype) for view in views} == {(images.shape, images.dtype)}
        assert (views[0] == images).all()
        for upright, mirrored in zip(views[::2], views[1::2], strict=False):
            assert (mirrored == upright[:, :, ::-1]).all()
        assert len({view.tobytes() for view in views}) == number
    # The last corner is right and below: what was at the top left has moved there, its border behind it.
    last = views[-2]
    assert (last[:, wide:, wide:] == images[:, :-wide, :-wide]).all()
    assert (last[:, :wide, wide:] == images[:, :1, :-wide]).all()
    with refused(InputError, "1, 2", 10, 3):
        next(views_of(images, 3))


@pytest.mark.parametrize("number", [2, 10])
def test_answers_to_views_are_the_mean_over_views_and_models(number: int) -> None:
    models = [model_files.load("default"), model_files.load("fast")]
    images = np.random.default_rng(1).integers(0, 256, (5, 48, 48, 1), np.uint8)
    split = Split("val", images, np.zeros(5, np.int64), None, tuple("abcde"))
    told: list[tuple[int, int]] = []
    names = models[0].card.labels
    found = evaluator.predict(
        models, split, labels=names, views=number, progress=lambda done, of: told.append((done, of))
    )
    expected = np.mean([model.run(view) for view in views_of(images, number) for model in models], axis=0)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert found.views == evaluator.evaluate_predictions(found).views == number
    assert told[-1] == (2 * number * 5, 2 * number * 5)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


VAL = model_files.Data(
    name="faces", fingerprint="a" * 64, splits={"val": model_files.Part(n=3, fingerprint="b" * 64)}
)
NEW = model_files.Data(
    name="new", fingerprint="c" * 64, splits={"val": model_files.Part(n=3, fingerprint="d" * 64)}
)


def test_what_val_chose_follows_from_the_recipe_and_has_its_own_warning() -> None:
    warnings: dict[Choices, str] = {}
    for recipe, temperature, epoch, ended in (
        ({"select": "val_loss"}, 1.0, True, False),
        ({"select": "val_accuracy"}, 0.8, True, False),
        ({"select": "last"}, 1.0, False, False),
        ({"select": "last"}, 0.8, False, False),
        ({"select": "last", "stopping": {"patience": 3}}, 1.0, False, True),
        ({"select": "last", "stopping": {"patience": 0}}, 1.0, False, False),
        ({}, 1.0, None, False),
    ):
        head = model_files.Head(temperature=temperature)
        card = model_files.Card(
            name="m", labels=("x", "y"), size=48, data=VAL, recipe=recipe, heads={"labels": head}
        )
        expected = Choices(epoch=epoch, ended=ended, calibration=temperature != 1, threshold=False)
        assert find_choices(card, "b" * 64) == expected
        found = find_role(card, "b" * 64, "val", "faces")
        assert found.role == "val"
        (warning,) = found.warnings
        assert warnings.setdefault(expected, warning) == warning
    assert len(set(warnings.values())) == len(warnings) == 6


def test_val_of_what_a_model_began_from_follows_from_that_ones_recipe() -> None:
    """A model that keeps the last epoch began from one whose epoch the other val selected."""
    base = model_files.Base(name="first", sha256="e" * 64, data=VAL, recipe={"select": "val_loss"})
    head = model_files.Head(temperature=0.8, threshold=0.4)
    card = model_files.Card(
        name="m",
        labels=("x", "y"),
        size=48,
        data=NEW,
        recipe={"select": "last"},
        base=(base,),
        heads={"labels": head},
    )
    old, new = (find_choices(card, letter * 64) for letter in "bd")
    assert old == Choices(epoch=True, ended=False, calibration=False, threshold=False)
    assert new == Choices(epoch=False, ended=False, calibration=True, threshold=True)
    assert find_choices(card, "f" * 64) is None
    assert find_role(card, "b" * 64).role == "val"


def test_at_chance_is_when_the_interval_does_not_clear_the_most_frequent_label() -> None:
    """10 of 20 labels are the same; Wilson's lower end is 0.531 for 15 right, 0.481 for 14."""
    truth = np.repeat([0, 1, 2], [10, 5, 5])
    assert majority_share(truth) == 0.5
    for right, expected in ((14, True), (15, False), (20, False), (0, True)):
        given = np.where(np.arange(20) < right, truth, (truth + 1) % 3)
        assert at_chance(np.eye(3)[given], truth) is expected
        assert (wilson_interval(right, 20)[0] <= 0.5) is expected
    assert at_chance(np.empty((0, 3)), truth[:0])


def test_a_head_is_stated_with_a_threshold_for_every_balance() -> None:
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(3), 200)
    truth = chances.argmax(axis=1)
    shares = (0.5, 0.3, 0.2)
    found = add_thresholds(model_files.Head(temperature=0.7), chances, truth, ("a", "b", "c"), shares)
    assert (found.temperature, found.frequencies, found.at_chance) == (0.7, shares, False)
    for balance in priors.OFFERED:
        adjusted = priors.Adjustment(balance=balance).apply(chances, ("a", "b", "c"), shares)
        assert (adjusted.max(axis=1) >= found.threshold_at(balance)).sum() == 160
        assert found.threshold_at(balance) == calibration._threshold(adjusted.max(axis=1), 0.8)
    poor = add_thresholds(found, chances, (truth + 1) % 3, ("a", "b", "c"), shares)
    assert poor.at_chance
    assert {poor.threshold_at(balance) for balance in (0, 0.3, 1)} == {np.inf}
    assert poor.threshold == found.threshold
    none = add_thresholds(found, chances[:0], truth[:0], ("a", "b", "c"), shares)
    assert (none.threshold, none.thresholds, none.at_chance) == (None, {}, True)
