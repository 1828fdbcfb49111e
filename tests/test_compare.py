"""Compare: the tests are those of the books, the words say what the figures say."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from sklearn import metrics as judge

from builders import has_line, refused
from hand_models import LABELS, SIZE, meter
from html_pages import Page
from mien import api, cli, errors
from mien.data import datasets
from mien.data.datasets import Split
from mien.evaluation import comparison
from mien.evaluation.evaluation import Evaluation
from mien.evaluation.evaluation_log import LOG_FILE
from mien.labels import EMOTIONS, VOTES
from mien.models import model_files
from mien.training import recipes, runs

Golden = Callable[[str, str], None]
NAMES = ("x", "y", "z")


def split(truth: np.ndarray, *, name: str = "val", votes: np.ndarray | None = None, seed: int = 0) -> Split:
    images = np.random.default_rng(seed).integers(0, 256, (len(truth), 8, 8, 1), np.uint8)
    return Split(
        name, images, truth.astype(np.int64), votes, tuple(f"{name}/{i}.png" for i in range(len(truth)))
    )


def answers(
    said: np.ndarray, name: str = "one", labels: tuple[str, ...] = NAMES, **more: object
) -> comparison.SidePredictions:
    """Answers that name each image `said`, surer from image to image."""
    k = len(labels)
    sure = np.linspace(0.5, 0.9, len(said))[:, None]
    chances = np.where(np.eye(k)[said] > 0, sure, (1 - sure) / (k - 1)).astype(np.float32)
    return comparison.SidePredictions(name, labels, chances, **more)  # type: ignore[arg-type]


def said_with(truth: np.ndarray, wrong: np.ndarray, k: int = 3) -> np.ndarray:
    return np.where(wrong, (truth + 1) % k, truth)


# The statistics


@settings(deadline=None)
@given(only_a=st.integers(0, 400), only_b=st.integers(0, 400))
def test_mcnemar_is_the_binomial_test_and_from_25_on_mid_p(only_a: int, only_b: int) -> None:
    found = comparison.mcnemar(only_a, only_b)
    n, fewer = only_a + only_b, min(only_a, only_b)
    exact = stats.binomtest(only_a, n).pvalue if n else 1.0
    if n < 25:
        assert (found.method, found.p) == ("exact", pytest.approx(exact, abs=1e-9))
    else:
        expected = 2 * stats.binom.cdf(fewer, n, 0.5) - stats.binom.pmf(fewer, n, 0.5)
        assert (found.method, found.p) == ("mid-p", pytest.approx(expected, abs=1e-9))
    assert found.p == comparison.mcnemar(only_b, only_a).p
    assert 0 <= found.p <= 1


def test_mcnemar_of_the_books() -> None:
    # Fagerland, Lydersen and Laake 2013, table 2: 1 and 7 discordant; exact 0.0703.
    assert comparison.mcnemar(1, 7).p == pytest.approx(0.0703, abs=5e-5)
    assert comparison.mcnemar(0, 0).p == 1
    assert comparison.mcnemar(0, 5).p == pytest.approx(2 * 0.5**5)
    # A million images do not overflow, and the normal curve is right there.
    z = (501_500 - 498_500) / 1e6**0.5
    assert comparison.mcnemar(501_500, 498_500).p == pytest.approx(2 * stats.norm.sf(z), rel=0.01)
    with refused(errors.DataError, -1):
        comparison.mcnemar(-1, 3)


@settings(deadline=None)
@given(data=st.data(), n=st.integers(1, 60))
def test_the_interval_of_shares_is_bonett_and_prices(data: st.DataObject, n: int) -> None:
    bits = st.lists(st.booleans(), min_size=n, max_size=n)
    one, other = np.array(data.draw(bits)), np.array(data.draw(bits))
    found = comparison.compare_shares(one, other)
    b, c = (int((one & ~other).sum()) + 1) / (n + 2), (int((other & ~one).sum()) + 1) / (n + 2)
    half = stats.norm.ppf(0.975) * np.sqrt((b + c - (b - c) ** 2) / (n + 2))
    assert found.interval == pytest.approx((max(-1, b - c - half), min(1, b - c + half)))
    low, high = found.interval
    assert low <= found.difference <= high
    back = comparison.compare_shares(other, one)
    assert (-back.interval[1], -back.interval[0]) == pytest.approx(found.interval)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 200), k=st.integers(2, 9), seed=st.integers(0, 999))
def test_the_figures_are_scikit_learns(n: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, a, b = random.integers(0, k, (3, n))
    accuracy, macro = comparison.bootstrap_differences(truth, a, b, k)
    there = sorted(set(truth.tolist()))
    for said, own in ((a, (accuracy.a, macro.a)), (b, (accuracy.b, macro.b))):
        expected = judge.f1_score(truth, said, average="macro", labels=there, zero_division=0)
        assert own == pytest.approx((judge.accuracy_score(truth, said), expected))
    assert accuracy.difference == pytest.approx(accuracy.a - accuracy.b)


def test_the_bootstrap_over_counts_is_the_bootstrap_over_images() -> None:
    random = np.random.default_rng(4)
    truth = random.integers(0, 4, 400)
    a = np.where(random.random(400) < 0.7, truth, random.integers(0, 4, 400))
    b = np.where(random.random(400) < 0.5, a, random.integers(0, 4, 400))
    naive = []
    for _ in range(1500):
        drawn = random.integers(0, 400, 400)
        own = truth[drawn]
        f1 = []
        for said in (a[drawn], b[drawn]):
            confusion = np.bincount(own * 4 + said, minlength=16).reshape(4, 4)
            sums = confusion.sum(axis=0) + confusion.sum(axis=1)
            f1.append((2 * confusion.diagonal() / sums).mean())
        naive.append(((a[drawn] == own).mean() - (b[drawn] == own).mean(), f1[0] - f1[1]))
    for found, figures in zip(
        comparison.bootstrap_differences(truth, a, b, 4), np.transpose(naive), strict=True
    ):
        expected = np.percentile(figures, (2.5, 97.5))
        assert found.interval == pytest.approx(expected, abs=0.1 * np.diff(expected)[0])
        assert (
            comparison.bootstrap_differences(truth, a, b, 4)[0]
            == comparison.bootstrap_differences(truth, a, b, 4)[0]
        )


def test_blocks_of_the_bootstrap_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    truth, a, b = random.integers(0, 3, (3, 90))
    whole = comparison.bootstrap_differences(truth, a, b, 3)
    monkeypatch.setattr("mien.evaluation.comparison._CELLS", 100)
    assert comparison.bootstrap_differences(truth, a, b, 3) == whole


@pytest.mark.parametrize(("n", "apart"), [(300, 60), (1000, 100), (3589, 500), (200, 12)])
def test_a_visible_difference_is_seen_four_times_of_five(n: int, apart: int) -> None:
    difference = comparison.detectable_difference(n, apart)
    assert difference is not None
    rate = apart / n
    random = np.random.default_rng(0)
    one, other = (rate + difference) / 2, (rate - difference) / 2
    drawn = random.multinomial(n, [one, other, 1 - rate], 3000)
    seen = np.mean([comparison.mcnemar(int(b), int(c)).p < 0.05 for b, c, _ in drawn])
    # The formula is of the normal curve; the test is a little more timid where few images part.
    assert seen == pytest.approx(0.8, abs=0.04 if apart > 20 else 0.12)


def test_a_visible_difference_shrinks_with_images_and_grows_with_parting() -> None:
    found = [comparison.detectable_difference(n, n // 10) for n in (100, 1000, 10_000)]
    assert found == sorted(found, reverse=True)
    assert comparison.detectable_difference(1000, 400) > comparison.detectable_difference(1000, 100)  # type: ignore[operator]
    # Models that never part: 8 images would have to be named right by one alone.
    assert comparison.detectable_difference(1000, 0) == pytest.approx(0.008, abs=0.001)
    assert comparison.detectable_difference(1000, 2) == comparison.detectable_difference(1000, 0)
    assert comparison.detectable_difference(3, 1) is None
    assert comparison.detectable_difference(3, 3) is None


def test_holm_holds() -> None:
    assert comparison.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert comparison.holm([]) == []
    assert comparison.holm([0.9, 0.8]) == [1, 1]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_turning_a_and_b_around_turns_the_answer(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, 120)
    one = answers(said_with(truth, random.random(120) < 0.2), "one")
    other = answers(said_with(truth, random.random(120) < 0.4), "other")
    part = split(truth)
    found = comparison.compare(one, other, part, labels=NAMES)
    back = comparison.compare(other, one, part, labels=NAMES)
    assert back.mcnemar.p == found.mcnemar.p
    low, high = found.accuracy.interval
    assert (back.accuracy.difference, back.accuracy.interval) == (-found.accuracy.difference, (-high, -low))
    assert {found.winner, back.winner} in ({"a", "b"}, {None})
    assert len(back.disagreements) == len(found.disagreements)


# The words


def compared(only_a: int, only_b: int, both: int, **more: object) -> comparison.Comparison:
    n = only_a + only_b + both
    truth = np.arange(n) % 3
    places = np.random.default_rng(0).permutation(n)
    a, b = truth.copy(), truth.copy()
    b[places[:only_a]] = (truth[places[:only_a]] + 1) % 3
    a[places[only_a : only_a + only_b]] = (truth[places[only_a : only_a + only_b]] + 1) % 3
    return comparison.compare(answers(a, "one"), answers(b, "other"), split(truth), labels=NAMES, **more)  # type: ignore[arg-type]


def words(*found: comparison.Comparison) -> str:
    """Return everything that comparisons say in words, for golden files."""
    return "\n\n".join("\n".join((each.verdict, *each.notes, *each.warnings)) for each in found) + "\n"


def test_a_clear_difference_is_called_one(golden: Golden) -> None:
    found = compared(60, 20, 220, data="faces")
    assert found.winner == "a"
    assert has_line(found.verdict, "faces", "val", "93.3%", "80.0%", "+13.3", "p < 0.0001")
    assert (found.a.right, found.b.right) == (280, 240)
    assert found.a.evaluation.accuracy == found.accuracy.a
    assert found.b.evaluation.macro_f1 == pytest.approx(found.macro_f1.b)
    document = json.loads(json.dumps(found.to_dict()))
    assert Evaluation.from_dict(document["b"]["evaluation"]) == found.b.evaluation
    turned = compared(20, 60, 220)
    assert turned.winner == "b"
    assert has_line(turned.verdict, "93.3%", "80.0%", "+13.3")
    golden("comparison/clear.txt", words(found, turned))


def test_chance_is_not_called_a_difference(golden: Golden) -> None:
    found, single = compared(22, 18, 160), compared(0, 0, 1)
    assert found.winner is None
    assert compared(0, 0, 30).winner is None
    golden("comparison/chance.txt", words(found, single))
    # All of five, and no more can be had, is still chance.
    assert compared(5, 0, 5).winner is None


def test_macro_f1_may_say_otherwise(golden: Golden) -> None:
    # One class is large and B's, two are small and A's.
    truth = np.array([0] * 900 + [1] * 50 + [2] * 50)
    a, b = truth.copy(), truth.copy()
    a[:100] = 1
    b[900:940] = 0
    b[950:990] = 0
    found = comparison.compare(answers(b, "wide"), answers(a, "fair"), split(truth), labels=NAMES)
    assert (found.accuracy.difference, found.winner) == (pytest.approx(0.02), None)
    a[:180] = 1
    found = comparison.compare(answers(b, "wide"), answers(a, "fair"), split(truth), labels=NAMES)
    assert found.winner == "a"
    fair = found
    assert has_line(found.notes[0], "wide", "x (+20.0)")
    assert has_line(found.notes[1], "fair", "y (+80.0), z (+80.0)")
    b = truth.copy()
    a = truth.copy()
    a[:30] = 1
    b[900:915] = 0
    found = comparison.compare(answers(b, "wide"), answers(a, "fair"), split(truth), labels=NAMES)
    assert found.winner == "a"
    golden("comparison/macro-f1.txt", words(fair, found))


def test_images_are_named_by_who_is_right_and_how_sure() -> None:
    truth = np.array([0, 0, 0, 0, 1])
    found = comparison.compare(
        answers(np.array([0, 0, 1, 1, 1]), "one"),
        answers(np.array([1, 1, 0, 2, 1]), "other"),
        split(truth),
        labels=NAMES,
    )
    assert [(each.place, each.right) for each in found.disagreements] == [
        (2, "b"),
        (1, "a"),
        (0, "a"),
        (3, None),
    ]
    last = found.disagreements[-1]
    assert (last.truth, last.a, last.b, last.file) == ("x", "y", "z", "val/3.png")
    assert last.confidence_a == pytest.approx(0.8)


def test_labels_are_matched_by_name_and_extra_classes_are_wrong() -> None:
    truth = np.array([0, 1, 2, 2])
    one = answers(np.array([2, 1, 0, 0]), "one", ("z", "y", "x"))
    other = answers(np.array([1, 2, 3, 0]), "other", ("w", "x", "y", "z"))
    found = comparison.compare(one, other, split(truth), labels=NAMES)
    assert (found.a.right, found.b.right) == (4, 3)
    assert found.labels == (*NAMES, "w")
    assert set(found.per_class) == set(NAMES)
    assert found.macro_f1.a == 1


def test_what_cannot_be_compared_is_refused() -> None:
    truth = np.array([0, 1])
    one = answers(truth, "one")
    with refused(errors.ModelError, "'z'", "small", "x, y"):
        comparison.compare(one, answers(truth, "small", ("x", "y")), split(truth), labels=NAMES)
    with refused(errors.DataError, "(3, 3)", 2):
        comparison.compare(one, answers(np.zeros(3, int), "long"), split(truth), labels=NAMES)
    with refused(errors.DataError):
        comparison.compare(one, one, split(np.zeros(0)), labels=NAMES)


def test_two_of_one_name_are_told_apart() -> None:
    truth = np.arange(6) % 3
    found = comparison.compare(answers(truth), answers(truth), split(truth), labels=NAMES)
    assert (found.a.name, found.b.name) == ("one (A)", "one (B)")
    found = comparison.compare(
        answers(truth, head="fer2013"), answers(truth, head="ferplus"), split(truth), labels=NAMES
    )
    assert (found.a.name, found.b.name) == ("one, head fer2013", "one, head ferplus")
    assert any("--head" in each for each in found.warnings)


def test_what_a_model_was_made_with_is_told(golden: Golden) -> None:
    truth = np.arange(30) % 3
    part = split(truth)
    clean = answers(truth, "clean", made_with={"f" * 64: "train"})
    chosen = answers(truth, "chosen", made_with={"0" * 64: "train", part.fingerprint: "val"})
    learnt = answers(truth, "learnt", made_with={part.fingerprint: "train"})
    own = answers(truth, "own", fingerprint="9" * 64, made_with={"9" * 64: "val"})
    unknown = answers(truth, "unknown")

    def told(a: comparison.SidePredictions, b: comparison.SidePredictions, **more: object) -> list[str]:
        return list(comparison.compare(a, b, more.get("part", part), labels=NAMES, data="faces").warnings)  # type: ignore[arg-type]

    assert told(clean, replace(clean, name="too")) == []
    kept, known = replace(chosen, selected=False), replace(own, selected=True)
    # Images left out of training change the fingerprint of train, and not its name.
    same = answers(truth, "same", data="faces", made_with={"1" * 64: "train"})
    cases = {
        "chosen": told(clean, chosen),
        "own, chosen": told(own, chosen),
        "chosen by its settings alone": told(clean, kept),
        "own, chosen, one by its epoch": told(known, kept),
        "learnt": told(clean, learnt),
        "unknown": told(unknown, clean),
        "same": told(same, clean, part=split(truth, name="train")),
    }
    assert [len(each) for each in cases.values()] == [1, 1, 1, 2, 1, 1, 1]
    golden("comparison/made-with.txt", "".join(f"{name}: {each}\n" for name in cases for each in cases[name]))


def test_votes_and_copies_are_parts_of_their_own(golden: Golden) -> None:
    labels = EMOTIONS
    truth = np.arange(70) % 7
    votes = np.zeros((70, 10), np.float32)
    votes[np.arange(70), [VOTES.index(labels[each]) for each in truth]] = 10
    votes[:7, VOTES.index("not a face")] = 11
    wrong = said_with(truth, np.arange(70) >= 40, 7)
    part = split(truth, votes=votes)
    copies = np.arange(70) < 20
    found = comparison.compare(
        answers(truth, "one", labels), answers(wrong, "other", labels), part, labels=labels, copies=copies
    )
    assert found.agreement is not None
    assert found.without_copies is not None
    assert (found.agreement.n, found.agreement.share.a, found.agreement.mcnemar.only_a) == (63, 1, 30)
    assert (found.without_copies.n, found.without_copies.share.b) == (50, pytest.approx(20 / 50))
    assert any(has_line(each, "one", "other", "100.0%", "52.4%") for each in found.notes)
    sides = answers(truth, "one", labels), answers(wrong, "other", labels)
    learnt = comparison.compare(*sides, part, labels=labels, copies=copies, learnt=True)
    same = answers(truth, "same", labels)
    alike = comparison.compare(answers(truth, "one", labels), same, part, labels=labels, copies=copies | True)
    assert alike.without_copies is None
    golden("comparison/votes-and-copies.txt", words(found, learnt, alike))
    none = comparison.compare(answers(truth, "one", labels), same, part, labels=labels, copies=copies & False)
    assert none.without_copies is None


def test_a_model_wins_only_where_it_wins_on_images_that_none_learnt_from() -> None:
    places = np.random.default_rng(0).permutation(300)
    learnt = np.zeros(300, bool)
    found = compared(60, 20, 220, data="faces", known=learnt)
    assert (found.winner, found.known, found.without_known, found.warnings) == (
        "a",
        0,
        None,
        compared(60, 20, 220, data="faces").warnings,
    )
    learnt[places[:50]] = True  # most of those that A alone names right
    found = compared(60, 20, 220, data="faces", known=learnt)
    assert (found.winner, found.known) == (None, 50)
    assert found.without_known is not None
    assert (found.without_known.n, found.without_known.mcnemar.only_a) == (250, 10)
    assert has_line(found.verdict, 50, 300)
    assert any(has_line(each, 50, 300) for each in found.warnings)
    learnt[:] = True
    found = compared(60, 20, 220, known=learnt)
    assert (found.winner, found.without_known) == (None, None)
    assert any("is not valid" in each for each in found.warnings)
    learnt[:] = False
    learnt[places[200:]] = True
    found = compared(60, 20, 220, known=learnt)
    assert found.winner == "a"
    assert any("the other 200" in each for each in found.warnings)


# From models, files and the command line


@pytest.fixture
def place(away: Path) -> Path:
    """Class folders, and two models in files: `good.onnx` is right, `bad.onnx` calls grey ones happy."""
    for name, count in (("train", 12), ("val", 60)):
        for index in range(count):
            label, level = (
                LABELS[index % 3],
                (40, 120, 220)[index % 3] + (index // 3 if name == "val" else 5),
            )
            file = away / "data" / name / label / f"{index:02}<b>.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            image = np.full((SIZE, SIZE), min(level, 255), np.uint8)
            Image.fromarray(image).save(file)
    card = model_files.Card(name="good", labels=LABELS, size=20)
    model_files.write(meter("good", (85, 170), size=20), card, "good.onnx")
    model_files.write(meter("bad", (150, 170)), replace(card, name="bad", size=SIZE), "bad.onnx")
    return away


Json = Callable[..., tuple[int, dict[str, object]]]


def test_the_command_compares_models_of_other_sizes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.run(["compare", "good.onnx", "bad.onnx", "--data", "data", "--html", "page.html", "--json"]) == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert document["winner"] == "a"
    test = {"only_a": 20, "only_b": 0, "p": 2 * 0.5**20, "method": "exact", "groups": None}
    assert document["mcnemar"] == test
    assert (document["a"]["name"], document["b"]["name"]) == ("good", "bad")
    assert {each["truth"] for each in document["disagreements"]} == {"sad"}
    assert document["html"] == "page.html"
    # Training images are as bright as three of val.
    assert document["without_copies"]["n"] == 57
    assert cli.run(["compare", "good.onnx", "bad.onnx", "--data", "data"]) == 0
    shown = capsys.readouterr().out
    assert has_line(shown, "good", "bad", "data", "val", "100.0%", "66.7%")
    assert has_line(shown, 20, 0)


def test_the_command_writes_a_page(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "good.onnx", "bad.onnx", "--data", "data", "--html"]
    assert cli.run([*command, "page.html"]) == 0
    page = Page((place / "page.html").read_text(encoding="utf-8"))
    assert page.tags.count("img") == 20
    assert "val/sad/01<b>.png" in page.text
    assert "page.html" in capsys.readouterr().out
    (place / "there").mkdir()
    assert cli.run([*command, "there"]) == 2
    assert "'there'" in capsys.readouterr().err


def test_a_folder_called_as_a_shipped_model_is_meant_by_its_dot(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "default").mkdir()
    (place / "default" / "model.onnx").write_bytes((place / "bad.onnx").read_bytes())
    assert cli.run(["compare", "./default", "bad.onnx", "--data", "data", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["a"]["name"], document["b"]["name"]) == ("bad (A)", "bad (B)")
    assert cli.run(["evaluate", "./default", "--data", "data", "--json"]) == 0
    own = json.loads(capsys.readouterr().out)["model"]
    assert own == hashlib.sha256((place / "bad.onnx").read_bytes()).hexdigest()
    # Nothing is called so here, and the package's model is not taken for it.
    for command in (["card"], ["compare", "bad.onnx", "--data", "data"], ["train", "data", "--from"]):
        assert cli.run([*command, "./fast"]) == 2
        assert "fast'" in capsys.readouterr().err


def test_a_folder_that_is_gone_holds_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert cli.run(["card", "./default"]) == 2
    assert "'./default'" in capsys.readouterr().err


def test_kept_probabilities_stand_for_a_model(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["evaluate", "bad.onnx", "--data", "data", "--probabilities", "bad.npz"]) == 0
    capsys.readouterr()
    assert cli.run(["compare", "bad.npz", "bad.onnx", "--data", "data", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["winner"] is None
    assert document["disagreements"] == []
    assert document["a"]["name"] == "bad (A)"
    assert cli.run(["compare", "bad.npz", "bad.npz", "--data", "data", "--size", str(SIZE)]) == 0
    capsys.readouterr()
    # The other model takes 20 pixels, and images of that size have another fingerprint.
    assert cli.run(["compare", "good.onnx", "bad.npz", "--data", "data"]) == 2
    assert has_line(capsys.readouterr().err, "bad.npz", "fingerprint")
    assert (
        cli.run(["compare", "bad.npz", "bad.npz", "--data", "data", "--size", "16", "--head", "ferplus"]) == 2
    )
    assert has_line(capsys.readouterr().err, "'ferplus'", "probabilities")


def test_a_run_knows_its_data(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = datasets.load("data", size=SIZE)
    facts = {"data": {"origin": {"source": str(place / "data"), "exclude": str(place / "gone.csv")}}}
    made = runs.create(replace(recipes.get("quick"), size=SIZE), facts, out=place / "mine")
    parts = {each.name: model_files.Part(n=len(each), fingerprint=each.fingerprint) for each in data.splits}
    card = model_files.Card(
        name="bad",
        labels=LABELS,
        size=SIZE,
        data=model_files.Data(name="data", fingerprint="0" * 64, splits=parts),
    )
    model_files.write(meter("bad", (150, 170)), card, made.model_folder)
    assert cli.run(["compare", "good.onnx", "mine", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["winner"], document["b"]["name"]) == ("a", "mine")
    assert has_line(document["warnings"][0], "mine", "val")
    # Images that chose nothing are counted each time, and told of where another run was scored on them.
    other = replace(card, data=model_files.Data(name="data", fingerprint="0" * 64, splits={}))
    model_files.write(meter("bad", (150, 170)), other, made.model_folder)
    assert cli.run(["compare", "good.onnx", "mine", "--json"]) == 0
    capsys.readouterr()
    model_files.write(meter("bad", (140, 170)), other, made.model_folder)
    assert cli.run(["compare", "good.onnx", "mine", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["warnings"]
    assert any(has_line(each, "mine", 2) for each in said)
    (made.path / LOG_FILE).write_text("nonsense")
    assert cli.run(["compare", "good.onnx", "mine", "--json"]) == 0
    assert LOG_FILE in capsys.readouterr().err
    model_files.write(meter("bad", (150, 170)), card, made.model_folder)
    # A list of exclusions matters to train alone, and this one is gone.
    assert cli.run(["compare", "good.onnx", "mine", "--split", "train"]) == 2
    assert cli.run(["compare", "mine", "mine", "--data", "data", "--split", "train"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("mine (A) and mine (B)\n")
    assert has_line("".join(shown.splitlines()[1:]), "mine (A)", "mine (B)"), "both were trained on these"
    assert cli.run(["compare", "good.onnx", "mine", "--split-seed", "3"]) == 2
    assert has_line(capsys.readouterr().err, "--split-seed", "--data")


def test_data_that_has_moved_is_read_as_the_run_records(place: Path) -> None:
    (place / "data" / "val").rename(place / "moved")  # without own splits
    data = datasets.load("moved", size=SIZE, rename="surprise=", seed=3)
    facts = {"data": {"origin": data.origin}}
    made = runs.create(replace(recipes.get("quick"), size=SIZE), facts, out=place / "mine")
    model_files.write(
        meter("mine", (150, 170)), model_files.Card(name="mine", labels=LABELS, size=SIZE), made.model_folder
    )
    (place / "moved").rename(place / "there")
    kept = data.split("val").fingerprint
    assert api.compare("mine", "mine", data="there").comparison.split_fingerprint == kept
    assert api.compare("mine", "good.onnx", data="there").comparison.split_fingerprint == kept
    assert api.compare("mine", "mine", data="there", seed=4).comparison.split_fingerprint != kept


def test_images_and_cache_of_a_run_may_move(place: Path) -> None:
    rows = [
        f"{path.relative_to('data')},{path.parent.name}" for path in sorted(Path("data/val").rglob("*.png"))
    ]
    Path("table.csv").write_text("\n".join(["path,label", *rows]))
    data = datasets.load("table.csv", size=SIZE, images_dir="data", cache="cache")
    facts = {"data": {"origin": data.origin, "splits": {}}}
    made = runs.create(replace(recipes.get("quick"), size=SIZE), facts, out=place / "mine")
    card = model_files.Card(name="mine", labels=LABELS, size=SIZE)
    model_files.write(meter("mine", (150, 170)), card, made.model_folder)
    shutil.rmtree("cache")
    Path("cache").write_text("a file")
    Path("data").rename("images")
    kept = data.split("val").fingerprint
    with refused(errors.InputError, "--images"):
        api.evaluate("mine")
    moved = {"images_dir": "images"}
    with refused(errors.OutputError, "--cache"):
        api.evaluate("mine", reading=moved)
    moved["cache"] = "cache2"
    assert api.evaluate("mine", reading=moved).evaluation.split_fingerprint == kept
    assert api.compare("mine", "mine", reading=moved).comparison.split_fingerprint == kept
    with refused(errors.InputError, "--map"):
        api.evaluate("mine", reading={**moved, "rename": "sad="})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["good.onnx", "bad.onnx"], "--data"),
        (["good.onnx", "nothing.onnx", "--data", "data"], "'nothing.onnx'"),
        (["good.onnx", "bad.onnx", "--data", "data", "--split", "test"], "'test'"),
        (["good.onnx", "bad.onnx", "--data", "data", "--head", "mine"], "'mine'"),
        (["good.onnx", "bad.onnx", "--data", "data", "--size", "9"], "--size"),
        (["good.onnx", "nothing.npz", "--data", "data"], "nothing.npz"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    place: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("mien: ")]
    assert len(lines) == 1
    assert said in lines[0]


def test_copies_are_those_that_the_models_learnt_from(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, label in enumerate(LABELS):
        shutil.copy(f"data/val/{label}/0{number}<b>.png", f"data/train/{label}/copy{number}.png")
    Path("gone.csv").write_text("file\ntrain/sad/copy1.png\ntrain/happy/copy0.png\n")
    data = datasets.load("data", size=SIZE, exclude="gone.csv")
    facts = {"data": {"origin": {"source": str(place / "data"), "exclude": [str(place / "gone.csv")]}}}
    made = runs.create(replace(recipes.get("quick"), size=SIZE), facts, out=place / "mine")
    parts = {each.name: model_files.Part(n=len(each), fingerprint=each.fingerprint) for each in data.splits}
    about = model_files.Data(name="data", fingerprint="0" * 64, splits=parts)
    card = model_files.Card(name="bad", labels=LABELS, size=SIZE, data=about)
    model_files.write(meter("bad", (150, 170)), card, made.model_folder)
    assert cli.run(["compare", "mine", "mine"]) == 0
    # Three images of val stand in train anyway.
    assert " 4 images" in capsys.readouterr().out
    assert cli.run(["compare", "mine", "bad.onnx"]) == 0
    assert " 4 images" in capsys.readouterr().out
    Path("gone.csv").unlink()
    assert cli.run(["compare", "mine", "mine"]) == 0
    captured = capsys.readouterr()
    assert " 6 images" in captured.out
    assert "gone.csv" in captured.err


def test_the_page_is_not_written_over_what_is_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("good.onnx").read_bytes()
    for page in ("good.onnx", "data/page.html"):
        assert cli.run(["compare", "good.onnx", "bad.onnx", "--data", "data", "--html", page]) == 2
        assert f"--html {page}" in capsys.readouterr().err
    assert Path("good.onnx").read_bytes() == before
    assert not Path("data/page.html").exists()
    facts = {"data": {"origin": {"source": str(place / "data"), "exclude": None}}}
    runs.create(replace(recipes.get("quick"), size=SIZE), facts, out=place / "mine")
    assert cli.run(["compare", "mine", "bad.onnx", "--html", "data/page.html"]) == 2
    assert "--html data/page.html" in capsys.readouterr().err


def test_comparing_needs_nothing_that_trains() -> None:
    script = (
        "import sys\n"
        "from mien.evaluation import comparison as compare\n"
        "compare.mcnemar(3, 4)\n"
        "heavy = {'keras', 'tensorflow', 'onnx', 'matplotlib', 'cv2', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_onnx_is_what_the_meter_is() -> None:
    onnx.checker.check_model(onnx.load_from_string(meter("good", (85, 170))))
