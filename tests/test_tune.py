"""The search for hyperparameters: spaces, trials that are claimed once, and what survives a kill."""

import importlib.util
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import builders
import dying
from builders import has_line, refused
from html_pages import Page
from mien import cli
from mien._processes import StopRequest
from mien.errors import DataError, InputError, MissingExtra, RecipeError, RunError, Stopped, TrainingError
from mien.labels import EMOTIONS
from mien.training import recipes, runs, search_spaces, studies
from mien.training.search_spaces import Choices, Range

needs_optuna = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("optuna", "keras")), reason="needs mien[cpu,tune]"
)
QUICK = recipes.get("quick")


# Spaces


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_the_default_space_of_each_recipe_is_valid_and_holds_the_recipe(name: str) -> None:
    recipe = recipes.get(name)
    space = search_spaces.default(recipe)
    assert search_spaces.parse(search_spaces.to_toml(space), recipe) == space
    own = search_spaces.values_of(recipe, space)
    assert all(each.contains(own[key]) for key, each in space.items())
    assert not [key for key in search_spaces.default(recipe, targets=False) if key.startswith("targets")]


def test_a_space_has_ranges_and_choices_of_the_settings_types() -> None:
    text = """
    network = { choices = ["small", "tiny"] }
    batch_size = { low = 32, high = 256, step = 32 }
    "optimizer.ema" = { choices = [0, 0.9] }
    [augment]
    rotation = { low = 0, high = 20 }
    flip = { choices = [true, false] }
    erase_area = { choices = [[0.02, 0.1], [0.02, 0.3]] }
    """
    space = search_spaces.parse(text, QUICK)
    assert space == {
        "network": Choices(("small", "tiny")),
        "batch_size": Range(32, 256, step=32),
        "optimizer.ema": Choices((0.0, 0.9)),
        "augment.rotation": Range(0.0, 20.0),
        "augment.flip": Choices((True, False)),
        "augment.erase_area": Choices(([0.02, 0.1], [0.02, 0.3])),
    }
    assert [space[key].is_whole for key in ("batch_size", "augment.rotation")] == [True, False]  # type: ignore[union-attr]
    assert search_spaces.parse(search_spaces.to_toml(space), QUICK) == space
    values = {"network": "tiny", "augment.flip": False, "augment.erase_area": [0.02, 0.3], "batch_size": 64}
    changed = search_spaces.apply(QUICK, values)
    assert search_spaces.values_of(changed, {key: space[key] for key in values}) == values
    assert Range(32, 256, step=32).contains(96)
    assert not Range(32, 256, step=32).contains(90)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("low = ", ("TOML",)),
        ("", ("empty",)),
        ("[optimizer]\nlerning_rate = { low = 1, high = 2 }", ("lerning_rate", "optimizer.learning_rate")),
        ("[optimiser]\nlearning_rate = { low = 1, high = 2 }", ("'optimiser'",)),
        ("[augment]\nerase = 0.5", ("augment.erase", "--set augment.erase=0.5")),
        ("[augment]\nerase = { low = 0.1, hihg = 0.5 }", ("augment.erase", "hihg", "'high'")),
        ("[augment]\nerase = { low = 0.1 }", ("augment.erase", "no high")),
        ("[augment]\nerase = { low = 0.5, high = 0.1 }", ("augment.erase", "low = 0.5")),
        ("[augment]\nerase = { low = 0.5, high = 0.5 }", ("augment.erase", "low = 0.5")),
        ("[augment]\nerase = { low = 0, high = 1.5 }", ("augment.erase=1.5",)),
        ("[augment]\nerase = { low = 0, high = inf }", ("augment.erase", "inf")),
        ('[augment]\nerase = { low = "0", high = 1 }', ("augment.erase", "'0'")),
        ("[augment]\nerase = { low = false, high = 1 }", ("augment.erase", "False")),
        ("[augment]\nerase = { low = 0, high = 1, step = 0 }", ("augment.erase", "step = 0")),
        ("[augment]\nerase = { low = 0, high = 1, step = 2 }", ("augment.erase", "step = 2")),
        ("[augment]\nerase = { low = 0, high = 1, choices = [1, 2] }", ("augment.erase", "choices")),
        ("[augment]\nflip = { low = 0, high = 1 }", ("augment.flip", "choices")),
        ("[optimizer]\nlearning_rate = { low = 0, high = 1, log = true }", ("learning_rate", "log")),
        ("[optimizer]\nlearning_rate = { low = 1, high = 2, log = 1 }", ("learning_rate", "log = 1")),
        (
            "[optimizer]\nlearning_rate = { low = 1, high = 2, log = true, step = 0.1 }",
            ("learning_rate", "step", "log"),
        ),
        ("batch_size = { low = 8, high = 16.5 }", ("batch_size", "16.5")),
        ("batch_size = { low = 8, high = 16, step = 0.5 }", ("batch_size", "0.5")),
        ("batch_size = { choices = [8, 16.5] }", ("batch_size=16.5",)),
        ("network = { choices = ['small', 'smal'] }", ("'smal'", "small")),
        ("network = { choices = ['small'] }", ("network", "two")),
        ("network = { choices = ['small', 'small'] }", ("network", "two")),
        ("network = { choices = 'small' }", ("network", "'small'")),
        ("network = { choices = ['small', 3] }", ("network", "3")),
        ("[augment]\nflip = { choices = [true, 'false'] }", ("augment.flip", "'false'")),
        ("[augment]\nfill = { choices = ['black', 'white'] }", ("augment.fill", "'white'")),
        ("epochs = { low = 2, high = 5 }", ("'epochs'", "--set")),
        ("seed = { low = 2, high = 5 }", ("'seed'",)),
        ("size = { choices = [32, 48] }", ("'size'",)),
        ("engine = { choices = ['host', 'device'] }", ("'engine'",)),
        ("about = { choices = ['a', 'b'] }", ("'about'",)),
        ("[checkpoints]\nkeep = { low = 2, high = 5 }", ("'checkpoints.keep'",)),
    ],
)
def test_a_bad_space_is_refused_in_one_sentence(text: str, names: tuple[str, ...]) -> None:
    with refused(RecipeError, *names):
        search_spaces.parse(text, QUICK)


def test_the_command_refuses_before_it_reads_the_data(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.toml").write_text("[augment]\nerase = { low = 2, high = 1 }\n")
    Path("latin.toml").write_bytes(b"# \xe9\n")
    Path("loss.toml").write_text("[targets]\nsmoothing = { low = 0, high = 0.1 }\n")
    for words, names in (
        (["--space", "bad.toml"], ("bad.toml", "augment.erase")),
        (["--space", "latin.toml"], ("latin.toml", "UTF-8")),
        (["--space", "none.toml"], ("none.toml",)),
        (["--space", "loss.toml", "--metric", "val_loss"], ("targets.smoothing", "--metric")),
        (["--trials", "0"], ("--trials",)),
        (["--confirm", "-1"], ("--confirm",)),
        (["--seed", "-1"], ("--seed",)),
        (["--metric", "accuracy"], ("--metric", "val_accuracy")),
        (["--recipe", "quik"], ("quik",)),
    ):
        assert cli.run(["tune", "missing.zip", *words]) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1
        assert has_line(captured.err, *names), captured.err
    assert cli.run(["tune"]) == 2
    assert has_line(capsys.readouterr().err, "DATA")
    assert not Path("runs").exists()


def test_the_default_space_is_shown_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["tune", "--recipe", "release", "--show-space"]) == 0
    recipe = recipes.get("release")
    assert search_spaces.parse(capsys.readouterr().out, recipe) == search_spaces.default(recipe)
    assert cli.run(["tune", "--show-space", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["space"] == search_spaces.to_dict(search_spaces.default(QUICK))


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, away: Path) -> None:
    import mien

    monkeypatch.delitem(sys.modules, "mien.training.tuning", raising=False)
    monkeypatch.delattr(mien.training, "tuning", raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with refused(MissingExtra, "mien[tune]"):
        mien.tune("faces.zip")


# Searches, whose trials are trained in this process


@pytest.fixture
def threads() -> Iterator[None]:
    with builders.trials_in_threads(), builders.few_comparisons():
        yield


def recipe(*settings: str) -> Any:
    plain = ("stopping.patience=0", "checkpoints.minutes=5", "optimizer.ema=0", "epochs=2")
    return dying.recipe(*plain, *settings)


SPACE: dict[str, Range | Choices] = {
    "optimizer.learning_rate": Range(0.01, 0.2, log=True),
    "augment.rotation": Range(0.0, 20.0),
    "augment.flip": Choices((True, False)),
}


def search(path: Path, images: Any = None, chosen: Any = None, **options: Any) -> studies.StudyResult:
    from mien.training import tuning

    asked: dict[str, Any] = {"trials": 2, "space": SPACE, "metric": "val_accuracy", "prune": True}
    asked |= {"confirm": 1, "seed": 0, **options}
    return tuning.search(images or data(), chosen or recipe(), path, **asked)


def comparable(found: studies.StudyResult) -> list[Any]:
    """Everything of the trials that must not depend on how often the search died."""
    return [(each.number, each.state, each.values, each.score, each.epochs) for each in found.trials]


def data() -> Any:
    """Train, val and test; a network learns them in an epoch or two."""
    return builders.blobs({"train": 60, "val": 30, "test": 30}, labels=EMOTIONS[:3])


@pytest.fixture(scope="module")
def said() -> dict[str, list[Any]]:
    """What the search `whole` reported."""
    return {"results": [], "notes": []}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, said: dict[str, list[Any]]) -> studies.StudyResult:
    """A search that nobody stopped."""
    calls: dict[str, Any] = {"on_trial": said["results"].append, "on_note": said["notes"].append}
    path = tmp_path_factory.mktemp("whole") / "study"
    with builders.trials_in_threads(), builders.few_comparisons():
        return search(path, prune=False, origin={"source": "somewhere"}, **calls)


@needs_optuna
def test_a_search_leaves_the_best_recipe_and_never_reads_the_test_split(
    whole: studies.StudyResult, said: dict[str, list[Any]]
) -> None:
    assert [len(each.trials) for each in said["results"]] == [1, 2, 2, 2]
    assert [each.state for each in whole.trials] == ["complete", "complete"]
    assert whole.trials[0].values == search_spaces.values_of(recipe(), SPACE)
    best = recipes.parse(whole.best_file.read_text(encoding="utf-8"))
    assert best == whole.best_recipe
    assert search_spaces.values_of(best, SPACE) == whole.best.values  # type: ignore[union-attr]
    assert (best.name, best.seed, best.epochs) == ("quick-tuned", 42, 2)
    assert "1 seed" in best.measured
    assert [each.seed for each in whole.confirmed] == [43]
    found = sorted(whole.path.glob("*/t*/run.json"))
    assert len(found) == 3
    for path in found:
        facts = runs.open_run(path.parent).facts()
        assert set(facts["data"]["splits"]) == {"train", "val"}
        assert facts["data"]["fingerprint"] == replace(data(), test=None).fingerprint
        assert facts["data"]["origin"] == {"source": "somewhere"}
        assert not (path.parent / "checkpoints").exists()
        assert len(list((path.parent / "weights").iterdir())) <= 2
    assert [note for note in said["notes"] if "trial 2 of 2" in note]
    assert search_spaces.parse((whole.path / "space.toml").read_text(), recipe()) == SPACE


@needs_optuna
def test_a_search_that_is_finished_trains_nothing_and_can_be_extended(
    whole: studies.StudyResult, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.training import tuning

    with monkeypatch.context() as patched:
        patched.setattr(tuning, "_start", None)
        again = search(whole.path, prune=False)
    assert comparable(again) == comparable(whole)
    assert again.confirmed == whole.confirmed
    values = [each.values for each in whole.trials]
    assert all(value not in values[:place] for place, value in enumerate(values))


@needs_optuna
@pytest.mark.parametrize(
    "moment", [(2, 1), *(pytest.param(each, marks=pytest.mark.slow) for each in ((1, 2), (2, 2)))]
)
def test_a_search_that_died_continues_as_if_it_had_not(
    tmp_path: Path, whole: studies.StudyResult, threads: None, moment: tuple[int, int]
) -> None:
    def die(what: str, done: int, total: int) -> None:
        if what.startswith(f"trial {moment[0]} of") and f"epoch {moment[1]}/" in what:
            raise KeyboardInterrupt

    notes: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "study", prune=False, on_progress=die)
    found = search(tmp_path / "study", prune=False, on_note=notes.append)
    assert has_line("\n".join(notes), f"trial {moment[0]} was stopped")
    assert comparable(found) == comparable(whole)
    assert found.confirmed == whole.confirmed
    assert len(list((tmp_path / "study" / "trials").iterdir())) == 2


@needs_optuna
def test_a_trial_is_claimed_once_until_its_process_dies(
    tmp_path: Path, whole: studies.StudyResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.training import tuning

    def searcher() -> Any:
        return tuning._Search(
            path=tmp_path / "study",
            data=replace(data(), test=None),
            recipe=recipe(),
            space=SPACE,
            metric="val_accuracy",
            wanted=3,
            prune=False,
            seed=0,
            teacher=None,
            base=None,
            origin={},
            on_trial=tuning._ignore,
            on_progress=tuning._ignore,
            on_note=tuning._ignore,
            stop=StopRequest(),
        )

    with pytest.raises(KeyboardInterrupt), tuning._quiet():  # makes the folder
        search(tmp_path / "study", prune=False, on_progress=interrupt)
    one, two = searcher(), searcher()
    first, lock = one._claim()
    second, other = two._claim()
    third, last = one._claim()
    assert [first.number, second.number, third.number] == [0, 1, 2]
    assert two._claim() is None
    other.release()
    taken, other = one._claim()
    assert (taken.number, taken.params) == (1, second.params)
    assert one._claim() is None
    # The same seeds choose the same settings in another process, until results differ.
    assert first.params == {**whole.trials[0].values}

    def end_first(place: Path, hold: Any = tuning._hold) -> Any:
        if place.name == "trial-1.lock" and lock.is_locked:
            two.study.tell(0, 0.5)
            lock.release()
        return hold(place)

    # A trial that ends while another process looks for one is not taken over.
    monkeypatch.setattr(tuning, "_hold", end_first)
    assert one._claim() is None
    for each in (other, last):
        each.release()


def interrupt(what: str, done: int, total: int) -> None:
    raise KeyboardInterrupt


@needs_optuna
def test_a_trial_without_all_its_settings_gets_the_same_ones(tmp_path: Path, threads: None) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "study", space={"augment.rotation": Range(1.0, 2.0)}, on_progress=interrupt)
    journal = tmp_path / "study" / "journal.log"
    lines = journal.read_text().splitlines()
    place = next(place for place, line in enumerate(lines) if "param_name" in line)
    value = json.loads(lines[place])["param_value_internal"]
    # The process was killed before the setting was written, and a power cut left half of a line.
    journal.write_text("\n".join(lines[:place]) + "\n" + lines[place][:20])
    found = search(tmp_path / "study", space={"augment.rotation": Range(1.0, 2.0)}, trials=1, confirm=0)
    assert [each.values for each in found.trials] == [{"augment.rotation": value}]
    assert all(json.loads(line) for line in journal.read_text().splitlines())


@needs_optuna
def test_bad_trials_are_pruned_and_equal_ones_are_trained_once(tmp_path: Path, threads: None) -> None:
    rates = {"optimizer.learning_rate": Choices((0.05, 1e30))}
    found = search(tmp_path / "study", space=rates, trials=4, confirm=0, chosen=recipe("epochs=1"))
    trained = [each for each in found.trials if each.copied is None and each.state == "complete"]
    diverged = [each for each in found.trials if each.reason]
    assert [each.values["optimizer.learning_rate"] for each in trained] == [0.05]
    assert diverged
    assert {each.state for each in diverged} == {"pruned"}
    assert {each.score for each in found.trials if each.copied} <= {trained[0].score}
    with refused(TrainingError, "no trial"):
        search(
            tmp_path / "bad",
            space={"optimizer.learning_rate": Choices((1e29, 1e30))},
            trials=1,
            chosen=recipe("epochs=1"),
        )


@needs_optuna
def test_hyperband_prunes_what_is_worse(tmp_path: Path, threads: None) -> None:
    # One epoch at a learning rate of almost 0 learns nothing.
    space = {"optimizer.learning_rate": Choices((0.05, 1e-9, 1e-10, 1e-11, 1e-12))}
    found = search(tmp_path / "study", space=space, trials=3, confirm=0, chosen=recipe("epochs=3"))
    pruned = [each for each in found.trials if each.state == "pruned"]
    assert pruned
    for each in pruned:
        assert len(each.epochs) == 1
        assert each.values["optimizer.learning_rate"] < 0.05
        assert (
            runs.open_run(tmp_path / "study" / "trials" / f"trial-{each.number}").facts()["status"]
            == "pruned"
        )
    assert found.best is not None
    assert found.best.values["optimizer.learning_rate"] == 0.05
    assert len(found.trials[0].epochs) == 3


@needs_optuna
def test_another_search_in_the_folder_is_refused(tmp_path: Path, whole: studies.StudyResult) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").touch()
    with refused(RunError, "own", "--out"):
        search(tmp_path / "own")
    changes: dict[str, dict[str, Any]] = {
        "recipe": {"chosen": recipe("epochs=9")},
        "space": {"space": {"augment.flip": SPACE["augment.flip"]}},
        "metric": {"metric": "val_loss"},
        "prune": {"prune": True},
        "seed": {"seed": 1},
        "data": {"images": builders.blobs({"train": 30, "val": 30}, seed=1)},
    }
    for name, change in changes.items():
        with refused(RunError, name, str(whole.path), "--out"):
            search(whole.path, **({"prune": False} | change))


@needs_optuna
def test_folders_of_folds_and_searches_do_not_mix(tmp_path: Path, whole: studies.StudyResult) -> None:
    from mien.training import folds

    for name in ("claims", "fold-1", "fold-3"):
        (tmp_path / "folds" / name).mkdir(parents=True)
    with refused(RunError, "folds", "--out"):
        search(tmp_path / "folds")
    with refused(RunError, whole.path, "search", "--out"):
        folds.check_folder(whole.path, 2)
    with refused(RunError, "3 folds, not 2", "--folds 3"):
        folds.check_folder(tmp_path / "folds", 2)
    folds.check_folder(tmp_path / "folds", 3)


@needs_optuna
def test_views_without_a_teacher_are_refused_before_the_first_trial(tmp_path: Path) -> None:
    with refused(RecipeError, "views"):
        search(tmp_path / "study", space={"views.count": Range(1, 3)})
    assert not (tmp_path / "study").exists()


@needs_optuna
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"recipe": {"name": 3}}'])
def test_a_damaged_study_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "claims").mkdir()
    (tmp_path / "study.json").write_text(text)
    with refused(RunError, "study.json", "damaged"):
        search(tmp_path)


@needs_optuna
def test_what_the_data_cannot_train_is_refused_before_the_first_trial(tmp_path: Path) -> None:
    from mien.models import model_files

    with refused(DataError, "votes"):
        search(tmp_path / "study", space={"targets.ferplus": Range(0.0, 1.0)})
    with refused(DataError, "'val'"):
        search(tmp_path / "study", replace(data(), val=None))
    with refused(DataError, "size=48"):
        search(tmp_path / "study", None, recipe("size=48"))
    with refused(RecipeError, "'network'", "--from"):
        search(
            tmp_path / "study", space={"network": Choices(("tiny", "small"))}, base=model_files.load("fast")
        )
    assert not (tmp_path / "study").exists()


# Pages and output


def result(trials: int = 12, path: Path = Path("study")) -> studies.StudyResult:
    """A made-up result, as an input of pages and texts."""
    states = ("complete", "pruned", "complete", "failed", "running")
    made = []
    for number in range(1, trials + 1):
        state: Any = states[(number - 1) % 5] if number < 6 else "complete"
        epochs = tuple(
            0.4 + 0.01 * number + 0.05 * epoch for epoch in range({"complete": 3, "pruned": 1}.get(state, 0))
        )
        score = epochs[-1] if state == "complete" else None
        values = {"optimizer.learning_rate": 0.01 * number, "augment.flip": number % 2 == 0}
        reason = "ResourceExhaustedError: <b>out of memory</b>" if state == "failed" else ""
        made.append(studies.Trial(number, state, values, score, epochs, len(epochs), 12.3, None, reason))
    best = max((each for each in made if each.score), key=lambda each: each.score or 0, default=None)
    space = {"optimizer.learning_rate": Range(0.001, 1.0, log=True), "augment.flip": Choices((True, False))}
    return studies.StudyResult(
        path=path,
        recipe=replace(QUICK, epochs=3),
        space=space,
        metric="val_accuracy",
        wanted=20,
        trials=tuple(made),
        best=best,
        confirmed=(
            studies.Confirmation(43, 0.6),
            studies.Confirmation(44, 0.62),
            studies.Confirmation(45, None),
        ),
        importance={"optimizer.learning_rate": 0.75, "augment.flip": 0.25},
        data="faces <i>.zip",
        images={"train": 1000, "val": 3589},
    )


def test_the_score_of_the_best_recipe_names_its_conditions() -> None:
    found = result()
    assert found.measured.startswith(
        "61.00 ± 1.41 % accuracy on 3,589 val images of faces <i>.zip over 2 seeds"
    )
    assert "12 trials" in found.measured
    assert "1 seed diverged" in found.measured
    alone = replace(found, confirmed=())
    assert "with one seed" in alone.measured
    assert replace(found, metric="val_loss").measured.startswith("0.6100 ± 0.0141 loss")
    assert replace(found, best=None).best_recipe is None


def test_the_page_of_a_search_is_whole_and_escapes(golden: Any) -> None:
    from mien.reports import pages

    text = pages.render_study(result())
    Page(text)
    golden("study.html", re.sub(r"\d{4}-\d\d-\d\d", "DATE", text))
    assert "<b>out" not in text
    assert "faces <i>" not in text
    assert text.count("<svg") == 3
    assert len(re.findall(r'<circle class="(dot|mark)"', text)) == 10
    for few in (result(1), replace(result(1), trials=(), best=None, importance={}, confirmed=())):
        text = pages.render_study(few)
        Page(text)
        assert not re.search(r"\bnan\b", text, re.IGNORECASE)


@needs_optuna
def test_the_command_prints_the_best_trials_or_json(
    away: Path, faces: Path, capsys: pytest.CaptureFixture[str], threads: None
) -> None:
    Path("space.toml").write_text("[optimizer]\nlearning_rate = { low = 0.01, high = 0.1, log = true }\n")
    Path("none.csv").write_text("file\n")
    words = ["tune", str(faces / "faces.zip"), "--space", "space.toml", "--trials", "2", "--confirm", "0"]
    words += ["--exclude", "none.csv"]
    for setting in ("network=toy", "size=16", "epochs=1", "optimizer.learning_rate=0.05"):
        words += ["--set", setting]
    assert cli.run([*words, "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    schema = json.loads(
        (Path(__file__).parents[1] / "docs" / "reference" / "schemas" / "study.json").read_text()
    )
    jsonschema = pytest.importorskip("jsonschema", reason="it comes with nbformat")
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["study"] == str(Path("runs/quick-study"))
    assert [each["number"] for each in document["trials"]] == [1, 2]
    assert document["trials"][0]["values"] == {"optimizer.learning_rate": 0.05}
    assert Path(document["report"]).is_file()
    assert has_line(captured.err, "trial 2 of 2")
    assert cli.run(words) == 0
    shown = capsys.readouterr().out
    assert has_line(shown, "mien train", "best.toml", f"--exclude {Path('none.csv').resolve()}")
    assert has_line(shown, "best: trial", "42 val images")


# Real processes


def command(faces: Path, *words: str) -> list[str]:
    settings = ("network=tiny", "size=24", "epochs=4", "batch_size=16")
    given = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "mien", "tune", str(faces / "faces.zip"), "--out", "study", *given, *words]


def wait_for(process: subprocess.Popen[Any], file: Path, lines: int) -> None:
    while not file.is_file() or len(file.read_text().splitlines()) < lines:
        assert process.poll() is None, "it ended too early"
        time.sleep(0.05)


@needs_optuna
def test_a_trial_is_trained_in_a_process_of_its_own(tmp_path: Path) -> None:
    notes: list[str] = []
    chosen = recipe("network=tiny", "epochs=1")
    found = search(tmp_path / "study", None, chosen, trials=1, confirm=0, on_note=notes.append)
    assert [each.state for each in found.trials] == ["complete"]
    assert (
        found.trials[0].score == runs.open_run(found.path / "trials" / "trial-1").history()[0]["val_accuracy"]
    )
    score = f"{found.trials[0].score:.2%}"
    assert has_line("\n".join(notes), "trial 1 of 1", f"val_accuracy {score}", f"is trial 1 with {score}")
    assert not multiprocessing.active_children()


@needs_optuna
@pytest.mark.slow
def test_ctrl_c_saves_the_trial_and_the_same_command_continues(away: Path, faces: Path) -> None:
    words = command(faces, "--trials", "1", "--confirm", "0")
    first = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(first, Path("study/trials/trial-1/history.csv"), 3)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 130
    assert has_line(said, "same command")
    run = runs.open_run("study/trials/trial-1")
    state, _ = run.load()
    assert state is not None
    before = run.history()
    second = subprocess.run([*words, "--json"], capture_output=True, text=True, check=True, timeout=300)
    [trial] = json.loads(second.stdout)["trials"]
    assert trial["state"] == "complete"
    assert len(trial["epochs"]) == 4
    assert run.history()[: len(before)] == before
    assert has_line(second.stderr, "trial 1 was stopped")


@needs_optuna
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_search_repeats_no_trial(away: Path, faces: Path, number: signal.Signals) -> None:
    words = command(faces, "--trials", "3", "--confirm", "1", "--no-prune")
    for file in ("trials/trial-1", "trials/trial-2", "confirm"):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if file == "confirm":
            while not (found := list(Path("study/confirm").glob("*/history.csv"))):
                assert process.poll() is None
                time.sleep(0.05)
            wait_for(process, found[0], 2)
        else:
            wait_for(process, Path("study") / file / "history.csv", 3)
        process.send_signal(number)
        assert process.wait(timeout=120) == (-number if number == signal.SIGKILL else 128 + number)
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, check=True, timeout=600)
    stopped = json.loads(done.stdout)
    whole = subprocess.run(
        [*[word if word != "study" else "whole" for word in words], "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    for each in (stopped, uninterrupted := json.loads(whole.stdout)):
        for trial in each["trials"]:
            del trial["seconds"]
    assert stopped["trials"] == uninterrupted["trials"]
    assert stopped["best"]["confirmed"] == uninterrupted["best"]["confirmed"]


@needs_optuna
@pytest.mark.slow
def test_two_processes_share_a_study(away: Path, faces: Path) -> None:
    words = command(faces, "--trials", "6", "--confirm", "2", "--json")
    pair = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [each.communicate(timeout=900) for each in pair]
    assert [each.returncode for each in pair] == [0, 0]
    trials = [re.findall(r"^· trial (\d+) of 6: ", notes, re.MULTILINE) for _, notes in said]
    assert sorted(map(int, trials[0] + trials[1])) == [1, 2, 3, 4, 5, 6]
    assert all(trials)
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout)
    assert [each["number"] for each in found["trials"]] == [1, 2, 3, 4, 5, 6]
    assert [each["seed"] for each in found["best"]["confirmed"]] == [43, 44]


@needs_optuna
@pytest.mark.slow
def test_memory_stays_flat_over_twenty_trials(away: Path, faces: Path) -> None:
    words = command(faces, "--trials", "20", "--confirm", "0", "--no-prune", "--set", "epochs=1")
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    resident: dict[int, float] = {}
    while process.poll() is None:
        done = len(list(Path("study/trials").glob("trial-*")))
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1] or 0)
        resident[done] = max(resident.get(done, 0), pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        time.sleep(0.05)
    assert process.returncode == 0
    assert set(resident) >= set(range(2, 21))
    # With the 8th complete trial Optuna imports scikit-learn, if it is installed, for importance.
    for first, last in ((2, 7), (9, 20)):
        assert resident[last] - resident[first] < 5, resident


@needs_optuna
def test_stopped_and_input_errors_are_of_their_classes(tmp_path: Path, threads: None) -> None:
    stop = StopRequest()
    stop.check("the trial is saved")
    stop.handle(signal.SIGTERM, None)
    with refused(Stopped, "the trial is saved", "same command") as caught:
        stop.check("the trial is saved")
    assert caught.value.exit_code == 143
    with refused(InputError, "--trials"):
        search(tmp_path / "study", trials=True)
