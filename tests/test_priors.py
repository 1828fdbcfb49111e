"""Probabilities for images in which emotions are as frequent as stated."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.data import astronaut

import mien
from builders import has_line, refused
from mien import _tables, cli
from mien.cli import evaluation
from mien.data import datasets, synthetic
from mien.data.datasets import Split
from mien.errors import DataError, InputError, ModelError
from mien.evaluation import corruptions, evaluator
from mien.evaluation import explanation as explain
from mien.evaluation.balance import GEOMETRIC_MEAN, balance_table, shift_table
from mien.evaluation.evaluation import BalanceRow
from mien.evaluation.metrics import compute_metrics
from mien.inference import batches, video
from mien.inference.batches import spread
from mien.inference.predictor import Predictor
from mien.labels import EMOTIONS, VOTES, brief
from mien.models import model_files, priors
from mien.models.priors import Adjustment
from mien.types import Prediction

PHOTO: np.ndarray = np.ascontiguousarray(astronaut()[:320, :400])
LABELS = ("calm", "wild")
FREQUENCIES = (0.8, 0.2)
#: FER2013's, about.
REAL = (0.14, 0.015, 0.14, 0.25, 0.17, 0.11, 0.175)


def stated(**changes: Any) -> model_files.Model:
    """The default model, with frequencies on its card."""
    model = model_files.load("default", threads=1)
    heads = {name: replace(head, frequencies=REAL, **changes) for name, head in model.card.heads.items()}
    return model_files.of(model.read(), replace(model.card, heads=heads), path="stated.onnx", threads=1)


@pytest.fixture(scope="module")
def model() -> model_files.Model:
    return stated(thresholds={"0.5": 0.4, "1": 0.999})


@pytest.fixture
def file(model: model_files.Model, tmp_path: Path) -> Path:
    model_files.write(model_files.load("default").read(), model.card, tmp_path / "stated.onnx")
    return tmp_path / "stated.onnx"


@pytest.mark.parametrize(
    ("adjustment", "expected"),
    [
        (Adjustment(), (0.5, 0.5)),
        (Adjustment(balance=0.5), (1 / 3, 2 / 3)),  # one over the root of 0.8, and of 0.2
        (Adjustment(balance=1), (0.2, 0.8)),  # 0.625 and 2.5
        (Adjustment(prior={"calm": 0.2, "wild": 0.8}), (1 / 17, 16 / 17)),  # 0.125 and 2
        (Adjustment(prior={"calm": 8, "wild": 2}), (0.5, 0.5)),
        (Adjustment(prior={"calm": 1}), (1, 0)),
        (Adjustment(prior={"calm": 0, "wild": 3}), (0, 1)),
        (Adjustment(prior={"calm": 1.6e308, "wild": 0.4e308}), (0.5, 0.5)),
        (Adjustment(prior={"calm": 1e308, "wild": 1e-308}), (1, 0)),
    ],
)
def test_known_answers(adjustment: Adjustment, expected: tuple[float, float]) -> None:
    found = adjustment.apply(np.array([[0.5, 0.5]]), LABELS, FREQUENCIES)
    np.testing.assert_allclose(found, [expected], atol=1e-12)


@given(st.lists(st.floats(0.001, 1), min_size=3, max_size=3), st.floats(0, 1))
def test_rows_sum_to_one_and_a_balance_can_be_taken_in_two_steps(shares: list[float], balance: float) -> None:
    chances = np.array([shares]) / sum(shares)
    labels, frequencies = ("a", "b", "c"), (0.5, 0.3, 0.2)
    once = Adjustment(balance=balance).apply(chances, labels, frequencies)
    assert once.sum() == pytest.approx(1)
    half = Adjustment(balance=balance / 2)
    twice = half.apply(half.apply(chances, labels, frequencies), labels, frequencies)
    np.testing.assert_allclose(twice, once, atol=1e-9)


def test_float32_stays_and_nothing_changes_without_need() -> None:
    chances = np.array([[1, 0], [0, 1]], np.float32)
    assert Adjustment().apply(chances, LABELS, ()) is chances
    balanced = Adjustment(balance=1).apply(chances, LABELS, FREQUENCIES)
    assert balanced.dtype == np.float32
    np.testing.assert_allclose(balanced, chances, atol=1e-30)
    # Where all that the prior allows has a probability of 0, the prior alone is left.
    left = Adjustment(prior={"wild": 1}).apply(chances, LABELS, FREQUENCIES)
    np.testing.assert_array_equal(left, [[0, 1], [0, 1]])


def test_an_emotion_that_training_did_not_hold_gets_nothing() -> None:
    chances = np.array([[0.5, 0.4, 0.1]])
    found = Adjustment(balance=1).apply(chances, ("a", "b", "c"), (0.5, 0.5, 0.0))
    np.testing.assert_allclose(found, [[5 / 9, 4 / 9, 0]])


def test_groups_add_up_and_the_others_keep_their_names() -> None:
    adjustment = Adjustment(groups=priors.parse_groups("good=happy, bad=angry+sad"))
    labels = ("angry", "happy", "neutral", "sad")
    assert adjustment.names(labels) == ("good", "bad", "neutral")
    found = adjustment.group(np.array([[0.1, 0.2, 0.3, 0.4]]), labels)
    np.testing.assert_allclose(found, [[0.2, 0.5, 0.3]])
    assert adjustment.to_dict()["groups"] == {"good": ["happy"], "bad": ["angry", "sad"]}


def test_options_are_read() -> None:
    assert priors.parse_prior("angry=0.3, neutral=7e-1") == {"angry": 0.3, "neutral": 0.7}
    assert priors.parse_groups("a=b+c,d=e") == {"a": ("b", "c"), "d": ("e",)}


def test_a_prior_and_groups_may_be_the_command_lines_text(model: model_files.Model) -> None:
    images = np.zeros((1, 48, 48, 1), np.uint8)
    named = model.run(images, prior={"angry": 1, "sad": 1})
    np.testing.assert_array_equal(model.run(images, prior="angry=1,sad=1"), named)
    said = Predictor(model, whole_image=True, prior="angry=1", groups="a=angry,b=sad+happy")
    assert said.adjustment == Adjustment(prior={"angry": 1}, groups={"a": ("angry",), "b": ("sad", "happy")})
    assert priors.as_groups({"a": "angry", "b": ["sad", "happy"]}) == {"a": ("angry",), "b": ("sad", "happy")}
    why = explain.face(model, images[0], method="occlusion", prior="angry=1", groups="a=angry")
    assert why.emotion == "a"


@pytest.mark.parametrize(
    "options",
    [
        {"balance": "1"},
        {"min_confidence": None},
        {"min_confidence": "0.5"},
        {"smallest": "30"},
        {"prior": "angry"},
        {"prior": ["angry"]},
        {"groups": "angry"},
        {"groups": ["angry"]},
    ],
)
def test_an_option_of_another_type_is_an_input_error(
    model: model_files.Model, options: dict[str, Any]
) -> None:
    with refused(InputError):
        Predictor(model, whole_image=True, **options)


@pytest.mark.parametrize(
    "options", [{"balance": None}, {"balance": "1"}, {"prior": 3}, {"prior": {"sad": None}}]
)
def test_a_model_takes_no_option_of_another_type(model: model_files.Model, options: dict[str, Any]) -> None:
    with refused(InputError, *options):
        model.run(np.zeros((1, 48, 48, 1), np.uint8), **options)


@pytest.mark.parametrize(
    "fails",
    [
        lambda: Adjustment(balance=1.1),
        lambda: Adjustment(balance=-0.1),
        lambda: Adjustment(balance=float("nan")),
        lambda: Adjustment(balance=0.5, prior={"calm": 1}),
        lambda: Adjustment(prior={"calm": -1}),
        lambda: Adjustment(prior={"calm": float("inf")}),
        lambda: Adjustment(prior={"calm": 0.0, "wild": 0.0}),
        lambda: Adjustment(groups={"a": ("calm",), "b": ("calm",)}),
        lambda: Adjustment(groups={"a": ("calm", "calm")}),
        lambda: Adjustment(groups={"a": ()}),
        lambda: Adjustment(groups={"left": ("calm",)}),
        lambda: Adjustment(groups={"time": ("calm",)}),
        lambda: Adjustment(groups={"smoothed_calm": ("calm",)}),
        lambda: Adjustment(groups={"": ("calm",)}),
        lambda: Adjustment(groups={1: ("calm",)}),  # type: ignore[dict-item]
        lambda: Adjustment(prior={"odd": 1}).check(LABELS, FREQUENCIES),
        lambda: Adjustment(groups={"a": ("odd",)}).check(LABELS, FREQUENCIES),
        lambda: Adjustment(groups={"wild": ("calm",)}).check(LABELS, FREQUENCIES),
        lambda: Adjustment(balance=1).check(LABELS, ()),
        lambda: Adjustment(prior={"calm": 1}).check(LABELS, ()),
        lambda: Adjustment(prior={"wild": 1}).check(LABELS, (1.0, 0.0)),
        lambda: Adjustment(balance="1"),  # type: ignore[arg-type]
        lambda: Adjustment(balance=None),  # type: ignore[arg-type]
        lambda: Adjustment(prior=["calm"]),  # type: ignore[arg-type]
        lambda: Adjustment(prior={"calm": "1"}),  # type: ignore[dict-item]
        lambda: Adjustment(groups=3),  # type: ignore[arg-type]
        lambda: Adjustment(groups={"a": 3}),  # type: ignore[dict-item]
        lambda: Adjustment(groups={"a": (3,)}),  # type: ignore[dict-item]
        lambda: priors.as_prior("calm"),
        lambda: priors.as_prior(""),
        lambda: priors.as_groups("calm"),
        lambda: priors.parse_prior("angry"),
        lambda: priors.parse_prior("angry=much"),
        lambda: priors.parse_prior("angry=1,angry=2"),
        lambda: priors.parse_groups("a=b,a=c"),
        lambda: priors.parse_groups("=b"),
        lambda: priors.parse_groups("a=b++c"),
        lambda: priors.parse_groups("a=b+"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(fails: Any) -> None:
    with pytest.raises(InputError) as caught:
        fails()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["left", "flags", "time", "smoothed_calm"])
def test_a_class_with_the_name_of_a_column_is_refused_in_tables(name: str, tmp_path: Path) -> None:
    odd = stated()
    odd = replace(odd, card=replace(odd.card, labels=(name, *odd.card.labels[1:])))
    finder = Predictor(odd, whole_image=True)
    found = finder.image(PHOTO, name="a")
    assert set(found.faces[0].to_dict()["scores"]) == set(odd.card.labels)
    for fails in (
        found.rows,
        lambda: video.columns(finder.names),
        lambda: batches.predict_files([PHOTO], predictor=finder, to=tmp_path / "a.csv"),
    ):
        with refused(InputError, name, "--group"):
            fails()
    assert list(tmp_path.iterdir()) == []
    renamed = Predictor(odd, whole_image=True, groups={"one": (name,)})
    assert "one" in renamed.image(PHOTO, name="a").rows()[0]


def test_the_columns_of_all_tables_are_taken() -> None:
    for columns in (Prediction.columns(LABELS), video.columns(LABELS)):
        for name in set(columns) - set(LABELS):
            with refused(InputError, name):
                Adjustment(groups={name: LABELS})


def test_cards_keep_frequencies_and_old_ones_are_read(model: model_files.Model) -> None:
    assert model_files.parse(model_files.to_json(model.card)) == model.card
    old = json.loads(model_files.to_json(model.card))
    for head in old["heads"].values():
        for name in ("frequencies", "balance", "thresholds"):
            del head[name]
    for head in model_files.parse(json.dumps(old)).heads.values():
        assert (head.frequencies, head.balance, head.thresholds) == ((), 0.0, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"frequencies": (0.5, 0.5)},
        {"frequencies": (0.5,) * 7},
        {"frequencies": (), "balance": 0.5},
        {"thresholds": {"0.3": 0.5}},
        {"balance": 2.0},
    ],
)
def test_a_card_that_contradicts_itself_is_refused(model: model_files.Model, changes: dict[str, Any]) -> None:
    name = next(iter(model.card.heads))
    wrong = replace(model.card.heads[name], **changes)
    with pytest.raises(ModelError):
        model_files.to_json(replace(model.card, heads={name: wrong}))


def test_the_threshold_is_that_of_the_nearest_balance() -> None:
    head = model_files.Head(threshold=0.6, thresholds={"0.5": 0.4, "1": 0.3})
    found = [head.threshold_at(balance) for balance in (0, 0.2, 0.25, 0.3, 0.75, 0.8, 1)]
    assert found == [0.6, 0.6, 0.6, 0.4, 0.4, 0.3, 0.3]
    assert model_files.Head().threshold_at(1) is None


def test_a_model_answers_at_a_balance_and_with_a_prior(model: model_files.Model) -> None:
    faces = np.random.default_rng(0).integers(0, 255, (5, 48, 48, 1)).astype(np.uint8)
    plain = model.run(faces)
    expected = plain / np.array(REAL)
    np.testing.assert_allclose(
        model.run(faces, balance=1), expected / expected.sum(axis=1, keepdims=True), rtol=1e-4
    )
    only = model.run(faces, prior={"happy": 1, "sad": 1})
    assert (only[:, [EMOTIONS.index(name) for name in ("angry", "neutral")]] == 0).all()
    np.testing.assert_allclose(only.sum(axis=1), 1, atol=1e-6)
    bare = {name: replace(each, frequencies=()) for name, each in model.card.heads.items()}
    silent = model_files.of(model_files.load("default").read(), replace(model.card, heads=bare))
    with refused(InputError):
        silent.run(faces, balance=1)


def test_photos_are_answered_at_the_cards_balance_unless_told_otherwise(model: model_files.Model) -> None:
    chosen = stated(balance=0.5, thresholds={"0.5": 0.4, "1": 0.999})
    default = Predictor(chosen)
    assert (default.adjustment.balance, default.threshold) == (0.5, 0.4)
    told = Predictor(model, balance=0.5)
    plain = Predictor(model, balance=0)
    assert default.image(PHOTO) == told.image(PHOTO)
    assert Predictor(chosen, balance=0).image(PHOTO) == plain.image(PHOTO)
    prior = Predictor(chosen, prior={"happy": 1, "sad": 1})
    assert (prior.adjustment.balance, prior.threshold) == (0.0, chosen.card.head("ferplus").threshold)


def test_the_balance_in_use_decides_what_is_uncertain(model: model_files.Model) -> None:
    (sure,) = Predictor(model, balance=0.5).image(PHOTO).faces
    (unsure,) = Predictor(stated(thresholds={"1": 1.0}), balance=1).image(PHOTO).faces
    assert "uncertain" not in sure.flags
    assert "uncertain" in unsure.flags


def test_groups_are_what_faces_show(model: model_files.Model) -> None:
    groups = {"positive": ("happy",), "negative": ("angry", "disgust", "fear", "sad")}
    (face,) = Predictor(model, groups=groups).image(PHOTO).faces
    assert tuple(face.scores) == ("positive", "negative", "surprise", "neutral")
    assert face.emotion == "positive"
    assert sum(face.scores.values()) == pytest.approx(1, abs=1e-5)
    watched = video.make_predictor(model, groups=groups)
    assert watched.names == tuple(face.scores)


def test_processes_answer_as_one_does_at_a_balance(file: Path, tmp_path: Path) -> None:
    for number in range(2):
        Image.fromarray(PHOTO[:, :: 1 - 2 * number]).save(tmp_path / f"{number}.png")
    sources = [str(tmp_path / f"{number}.png") for number in range(2)]
    predictor = Predictor(file, balance=0.75, groups={"negative": ("angry", "sad")})
    assert list(spread(predictor, sources, workers=2)) == list(predictor.images(sources))


@pytest.mark.parametrize("method", ["cam", "occlusion"])
def test_explanations_are_of_the_stated_frequencies(file: Path, method: explain.Method) -> None:
    model = model_files.load(file, threads=1)
    crop = np.random.default_rng(0).integers(0, 255, (48, 48, 1)).astype(np.uint8)
    why = explain.face(model, crop, method=method, balance=1)
    expected = model.run(crop[None], head="ferplus", balance=1)[0]
    np.testing.assert_allclose(list(why.scores.values()), expected)
    alone = explain.face(model, crop, method=method, emotion="sad", balance=1)
    group = explain.face(model, crop, method=method, emotion="low", balance=1, groups={"low": ("sad",)})
    np.testing.assert_allclose(group.map, alone.map, atol=1e-5)
    assert group.score == pytest.approx(alone.score)


def test_the_commands_take_it(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "a.png"
    Image.fromarray(PHOTO).save(photo)

    def told(*words: str) -> Any:
        assert cli.run([*words, "--model", str(file), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    expected = Predictor(file, balance=1).image(photo).faces[0].scores
    (found,) = told("predict", str(photo), "--balance", "1")
    assert found["faces"][0]["scores"] == pytest.approx(expected, rel=1e-5)
    words = ("predict", str(photo), "--prior", "happy=1,sad=2", "--group", "good=happy")
    assert told(*words)[0]["faces"][0]["scores"].keys() == {"good", *EMOTIONS} - {"happy"}
    why = told("explain", str(photo), "--to", str(tmp_path / "why"), "--group", "good=happy")
    assert why["faces"][0]["emotion"] == "good"
    for wrong in (["--balance", "2"], ["--balance", "1", "--prior", "sad=1"], ["--group", "a=odd"]):
        assert cli.run(["predict", str(photo), "--model", str(file), *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_an_evaluation_of_groups(faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv, votes = (str(faces / name) for name in ("fer2013.csv", "ferplus.csv"))
    words = ["evaluate", "fast", "--data", csv, "--votes", votes]
    negative = ("angry", "disgust", "fear", "sad")

    def told(*more: str) -> Any:
        assert cli.run([*words, *more, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    plain, found = told(), told("--group", f"negative={'+'.join(negative)}")
    names = ["negative", "happy", "surprise", "neutral"]
    assert (found["labels"], found["class_groups"]) == (names, {"negative": list(negative)})
    assert plain["class_groups"] == {}
    val = datasets.load(csv).split("val")
    shares = dict(zip(EMOTIONS, model_files.load("fast", threads=1).run(val.images).T, strict=True))
    sums = np.stack([sum(shares[name] for name in negative), *(shares[name] for name in names[1:])])
    truth = [0 if EMOTIONS[label] in negative else names.index(EMOTIONS[label]) for label in val.labels]
    assert found["accuracy"] == (sums.argmax(axis=0) == truth).mean()
    assert {head["labels"] == names for head in found["heads"].values()} == {True}
    # All ten annotators chose the label.
    assert found["agreement"]["share"] == found["accuracy"]
    assert mien.evaluate("fast", data=csv, class_groups={"negative": negative}).evaluation.n == found["n"]
    assert cli.run([*words, "--group", "negative=angry+sad,positive=happy"]) == 0
    assert has_line(capsys.readouterr().out, "negative=angry+sad positive=happy")
    for wrong, told_of in (
        (("--group", "a=odd"), "odd"),
        (("--group", "a=sad", "--report", "r"), "--group"),
        (("--group", "a=sad", "--balance-table"), "--group"),
        (("--groups", "a=sad"), "use --group"),
    ):
        assert cli.run([*words, *wrong]) == 2
        assert has_line(capsys.readouterr().err, told_of)
    with refused(InputError, "class_groups"):
        mien.evaluate("fast", data=csv, groups={"negative": negative})  # type: ignore[arg-type]
    assert (
        cli.run([*words, "--group", "low=sad+fear", "--prior", "sad=1,fear=2,happy=1", "--table", "md"]) == 0
    )
    assert capsys.readouterr().out.count("prior sad 1 fear 2 happy 1, groups low=sad+fear") == 2


def test_corrupted_images_are_answered_like_the_others(model: model_files.Model) -> None:
    images, truth, _ = synthetic.sample(20, seed=0, size=48)
    split = Split("val", images, truth, None, tuple(map(str, range(20))))
    groups = {"negative": ("angry", "disgust", "fear", "sad")}
    plain = evaluator.predict(model, split, labels=EMOTIONS, balance=1)
    found = evaluator.measure_robustness([model], plain.group(groups))
    noisy = corruptions.corrupt(images, corruptions.CORRUPTIONS[found.rows[0].corruption], seed=0)
    other = evaluator.predict(model, replace(split, images=noisy), labels=EMOTIONS, balance=1).group(groups)
    assert found.rows[0].accuracy == evaluator.evaluate_predictions(other).accuracy
    with refused(InputError, "groups"):
        plain.group(groups).group({"all": ("negative", "happy")})
    with refused(InputError, "report"):
        evaluator.measure_all([model], None, plain)  # type: ignore[arg-type]
    everything = plain.group({"all": EMOTIONS})
    assert everything.probabilities.max() <= 1


def test_a_file_of_another_balance_is_not_gone_on_with(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, to = tmp_path / "a.png", tmp_path / "faces.csv"
    Image.fromarray(PHOTO).save(photo)
    facts = Predictor(file, balance=0.5).facts
    words = ["predict", str(photo), "--model", str(file), "--to", str(to), "--resume", "--balance"]
    with _tables.ResumableLog(tmp_path / ".faces.csv.log", facts, batches._parse, resume=False) as log:
        log.add({"source": "x", "problem": "none"})
    assert cli.run([*words, "1"]) == 2
    assert cli.run([*words, "0.5"]) == 0
    capsys.readouterr()


def answers(head: str, chances: list[list[float]], votes: np.ndarray | None) -> evaluator.Predictions:
    truth = np.array([0, 0, 0, 1])
    split = Split("val", np.zeros((4, 16, 16, 1), np.uint8), truth, votes, tuple("abcd"))
    return evaluator.Predictions(split, ("happy", "sad"), np.array(chances), truth, head=head)


CHANCES = [[0.9, 0.1], [0.6, 0.4], [0.95, 0.05], [0.7, 0.3]]
SHARES = {"fer2013": (0.75, 0.25), "ferplus": (0.75, 0.25)}


def test_the_table_holds_known_figures() -> None:
    rows = balance_table([answers("fer2013", CHANCES, None)], SHARES)
    assert [row.balance for row in rows] == [0, 0.25, 0.5, 0.75, 1]
    first, last = rows[0], rows[-1]
    # Without a balance all are called happy. With 1, 0.6 becomes 1/3 and 0.7 becomes 7/16: both are sad.
    assert (first.n, first.accuracy, first.balanced_accuracy) == (4, 0.75, 0.5)
    assert first.recall == {"happy": 1.0, "sad": 0.0}
    assert (last.accuracy, last.balanced_accuracy) == (pytest.approx(0.75), pytest.approx((2 / 3 + 1) / 2))
    report = compute_metrics(np.array(CHANCES), np.array([0, 0, 0, 1]), ("happy", "sad"))
    assert first.ece == pytest.approx(report.ece)


def test_heads_and_their_mean_are_judged_by_what_people_saw() -> None:
    votes = np.zeros((4, len(VOTES)))
    votes[:, VOTES.index("happy")] = (10, 4, 0, 2)
    votes[:, VOTES.index("sad")] = (0, 6, 0, 8)
    votes[2, VOTES.index("contempt")] = 10
    both = [answers("fer2013", CHANCES, votes), answers("ferplus", CHANCES, votes)]
    rows = balance_table(both, SHARES)
    kinds = list(dict.fromkeys((row.head, row.against) for row in rows))
    assert kinds == [
        ("fer2013", "labels"),
        ("fer2013", "votes"),
        ("ferplus", "votes"),
        (GEOMETRIC_MEAN, "votes"),
    ]
    found = {(row.head, row.against, row.balance): row for row in rows}
    assert (found["ferplus", "votes", 0].n, found["ferplus", "votes", 0].accuracy) == (3, 1 / 3)
    assert found["ferplus", "votes", 1].accuracy == 1
    # The geometric mean of two equal answers is that answer.
    mean, one = found[GEOMETRIC_MEAN, "votes", 0.5], found["ferplus", "votes", 0.5]
    assert (mean.accuracy, mean.ece) == (one.accuracy, pytest.approx(one.ece))


def test_shifted_figures_are_those_of_repeated_images() -> None:
    rows = shift_table([answers("fer2013", CHANCES, None)], SHARES)
    found = {(row.balance, row.shift): row for row in rows}
    # Each class counts a half: all of happy are right at 0 and none of sad.
    assert found[0, "equal"].accuracy == pytest.approx(0.5)
    assert found[1, "equal"].accuracy == pytest.approx((2 / 3 + 1) / 2)
    repeated = [0, 1, 2, 3, 3, 3]
    drawn = compute_metrics(np.array(CHANCES)[repeated], np.array([0, 0, 0, 1, 1, 1]), ("happy", "sad"))
    assert found[0, "sad"].accuracy == pytest.approx(drawn.accuracy)
    assert found[0, "sad"].ece == pytest.approx(drawn.ece)


def test_a_table_needs_one_model_and_its_frequencies() -> None:
    one = answers("fer2013", CHANCES, None)
    with pytest.raises(InputError):
        balance_table([one], {"fer2013": ()})
    with pytest.raises(InputError):
        balance_table([replace(one, balance=0.5)], SHARES)
    with refused(InputError, "groups"):
        balance_table([one.group({"low": ("sad",)})], SHARES)
    with pytest.raises(InputError):
        balance_table([replace(one, model="a b")], SHARES)
    with pytest.raises(DataError):
        balance_table([], SHARES)
    with pytest.raises(DataError):
        balance_table([answers("fer2013", CHANCES, np.zeros((4, len(VOTES))))], SHARES)


def test_evaluate_takes_a_balance_and_shows_the_table(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    lines = ["emotion,pixels,Usage"]
    for usage in ("Training", "PublicTest"):
        for label in range(7):
            pixels = " ".join(map(str, rng.integers(0, 255, 48 * 48)))
            lines.append(f"{label},{pixels},{usage}")
    data = tmp_path / "fer2013.csv"
    data.write_text("\n".join(lines) + "\n")
    words = ["evaluate", str(file), "--data", str(data)]
    assert cli.run([*words, "--balance-table", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["balance_table"]) == 15
    assert document["balance"] == 0
    assert document["balance_table"][0]["accuracy"] == pytest.approx(document["accuracy"])
    assert cli.run([*words, "--balance", "1", "--json"]) == 0
    balanced = json.loads(capsys.readouterr().out)
    assert balanced["accuracy"] == pytest.approx(document["balance_table"][4]["accuracy"])
    assert balanced["balance"] == 1
    assert cli.run([*words, "--balance-table", "--prior", "sad=1"]) == 2
    for other in ("--balance-table", "--robustness"):
        capsys.readouterr()
        assert cli.run([*words, other, "--table", "md"]) == 2
        assert has_line(capsys.readouterr().err, "--table", other)
    # What the model cannot do is found before the data is loaded.
    for wrong, named in (("--head", "nope"), ("--prior", "happ=1")):
        assert cli.run(["evaluate", str(file), "--data", "absent.csv", wrong, named]) == 2
        assert "absent.csv" not in capsys.readouterr().err
    assert cli.run([*words, "--balance-table"]) == 0
    shown = capsys.readouterr().out
    assert "geometric" in shown
    assert "…" not in shown  # the names of the seven emotions are complete


def test_similar_classes_have_different_headings_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["surprised-happy", "surprised-sad"]
    figures = dict.fromkeys(("accuracy", "balanced_accuracy", "ece"), 0.5)
    recall = dict.fromkeys(labels, 0.5)
    row = BalanceRow(head="labels", against="labels", n=2, balance=0.0, recall=recall, **figures)
    evaluation._print_balances([row], labels)
    out = capsys.readouterr().out
    heads = brief(labels, 8)
    assert len(set(heads)) == 2
    assert all(head in out for head in heads)
