"""Training from the weights of another run: what is taken, what begins anew, and what is told of it."""

import multiprocessing
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dying
from builders import refused
from mien.cli import training
from mien.data.datasets import Dataset
from mien.errors import ModelError, RecipeError, RunError
from mien.evaluation import evaluator
from mien.evaluation.evaluation_log import find_role
from mien.models import model_files
from mien.release import exporters, model_cards
from mien.reports import evaluation_report
from mien.training import runs

pytest.importorskip("keras", reason="training needs mien[train]")

from mien.release import shipping
from mien.training import initialization, trainer

pytestmark = pytest.mark.usefixtures("small_exports")
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["mien.training.trainer", "conftest"])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> model_files.Model:
    """A model that has learnt its data well."""
    recipe = dying.recipe("epochs=6", "optimizer.ema=0", "checkpoints.minutes=5")
    return model_files.load(
        trainer.fit(dying.data(), recipe, out=tmp_path_factory.mktemp("base") / "first").model_folder
    )


def short(*settings: str) -> object:
    return dying.recipe("epochs=1", "optimizer.ema=0", "optimizer.learning_rate=0.001", *settings)


def other(make_blobs: Callable[..., Dataset], **options: object) -> Dataset:
    return make_blobs({"train": 60, "val": 30}, seed=9, **options)


def test_the_weights_are_those_that_ship(base: model_files.Model) -> None:
    model = trainer.build_network(dying.recipe(), classes=3, policy="float32")
    assert initialization.assign(initialization.load(base), model, dying.data().labels) == ()
    images = dying.data().split("val").images
    np.testing.assert_allclose(model.predict(images, verbose=0), base.run(images), atol=1e-5)


def test_a_training_goes_on_from_there_and_says_so(
    base: model_files.Model, tmp_path: Path, make_blobs: Callable[..., Dataset]
) -> None:
    data, notes = other(make_blobs, labels=dying.data().labels), []
    made = trainer.fit(data, short(), out=tmp_path / "second", base=base, on_note=notes.append)
    assert any("first" in note for note in notes)
    chance = trainer.fit(data, short(), out=tmp_path / "chance")
    assert made.history()[0]["loss"] < 0.5 * chance.history()[0]["loss"]

    shipped = base.card
    card = model_files.load(made.model_folder).card
    (first,) = card.base
    assert (first.name, first.sha256, first.data) == ("first", shipped.sha256, shipped.data)
    assert first.recipe == shipped.recipe
    assert card.learnt_from == (card.data, shipped.data)
    assert made.facts()["base"][0]["sha256"] == shipped.sha256
    assert model_files.load(chance.model_folder).card.base == ()

    third = trainer.fit(data, short(), out=tmp_path / "third", base=model_files.load(made.model_folder))
    assert [each.name for each in model_files.load(third.model_folder).card.base] == ["second", "first"]


def test_a_result_that_is_worse_than_its_start_says_so(base: model_files.Model, tmp_path: Path) -> None:
    """The training images have wrong labels, those of val the right ones, which the base knows."""
    data, notes, stages = dying.data(), [], []
    wrong = replace(data.split("train"), labels=(data.split("train").labels + 1) % 3)
    made = trainer.fit(
        replace(data, train=wrong),
        dying.recipe("epochs=2", "optimizer.ema=0"),
        out=tmp_path / "worse",
        base=base,
        on_note=notes.append,
        on_progress=lambda *each: stages.append(each),
    )
    assert stages[-1] == ("evaluating first on val", 40, 40)
    card = model_files.load(made.model_folder).card
    began = card.began
    assert began is not None
    first, second = (
        evaluator.evaluate(each, data.split("val"), labels=data.labels)
        for each in (base, model_files.load(made.model_folder))
    )
    assert (began.name, began.n, began.learnt) == ("first", 40, False)
    assert (began.accuracy, began.accuracy_interval) == (first.accuracy, first.accuracy_interval)
    assert (began.after, began.after_interval) == (second.accuracy, second.accuracy_interval)
    assert began.worse
    assert began.sentence in notes
    kept = made.facts()["began"]
    assert (kept["worse"], kept["accuracy"], kept["after"]) == (True, first.accuracy, second.accuracy)
    assert began.sentence in " ".join(model_cards.of_run(made).split())
    (row,) = training._beside(kept)
    assert f"{first.accuracy:.2%}" in row[1]
    assert [row] != training._beside(kept | {"worse": False}), "the table does not say that it is worse"
    told = evaluator.measure_all(
        [model_files.load(made.model_folder)],
        data,
        evaluator.predict(model_files.load(made.model_folder), data.split("val"), labels=data.labels),
    )
    assert told.models[0].began["worse"] is True
    assert any(
        "is worse after training than first" in each for each in evaluation_report._doubtful(told.models)
    )
    # A mean of both has other weights, of which this says nothing.
    mean = shipping.average(
        [model_files.load(made.model_folder), base], tmp_path / "mean", images=data.split("val").images
    )
    assert mean.card.began is None


def test_a_result_that_is_not_worse_says_nothing(
    base: model_files.Model, tmp_path: Path, make_blobs: Callable[..., Dataset]
) -> None:
    notes: list[str] = []
    data = other(make_blobs, labels=dying.data().labels)
    made = trainer.fit(
        data, short("optimizer.learning_rate=1e-9"), out=tmp_path / "same", base=base, on_note=notes.append
    )
    began = model_files.load(made.model_folder).card.began
    assert began is not None
    assert not began.worse
    assert not any("worse" in each for each in notes)
    assert not training._beside(made.facts()["began"])[0][1].endswith("worse")
    # In classes that the first cannot answer there is nothing to compare.
    strange = trainer.fit(other(make_blobs), short(), out=tmp_path / "strange", base=base)
    assert model_files.load(strange.model_folder).card.began is None
    assert training._beside(strange.facts()["began"]) == []


def test_what_the_first_learnt_from_is_no_measure_of_the_second(
    base: model_files.Model, tmp_path: Path, make_blobs: Callable[..., Dataset]
) -> None:
    made = trainer.fit(other(make_blobs), short(), out=tmp_path / "second", base=base)
    card = model_files.load(made.model_folder).card
    for name in ("train", "val"):
        assert find_role(card, dying.data().split(name).fingerprint).role == name
        assert find_role(card, other(make_blobs).split(name).fingerprint).role == name
    assert find_role(card, "0" * 64).role == "other"
    # Data that chose the first and taught the second have taught.
    val = dying.data().split("val")
    taught = replace(other(make_blobs), train=replace(val, name="train"))
    again = trainer.fit(replace(taught, labels=dying.data().labels), short(), out=tmp_path / "on", base=base)
    assert find_role(model_files.load(again.model_folder).card, val.fingerprint).role == "train"


@pytest.mark.parametrize(
    ("labels", "settings", "fresh"),
    [
        (("a", "b", "c"), (), ("answer",)),
        (("a", "b"), (), ("answer",)),
        (dying.data().labels, ("targets.ferplus=1",), ("ferplus",)),
    ],
)
def test_an_answer_that_the_run_does_not_have_begins_anew(
    base: model_files.Model, labels: tuple[str, ...], settings: tuple[str, ...], fresh: tuple[str, ...]
) -> None:
    recipe = dying.recipe(*settings)
    model = trainer.build_network(recipe, classes=len(labels), policy="float32")
    before = {layer.name: layer.get_weights() for layer in model.layers}
    assert initialization.assign(initialization.load(base), model, labels) == fresh
    given = {layer.name: layer.get_weights() for layer in exporters.rebuild(base).layers}
    for layer in model.layers:
        expected = before if layer.name in fresh else given
        for one, two in zip(layer.get_weights(), expected[layer.name], strict=True):
            np.testing.assert_array_equal(one, two, err_msg=layer.name)


def test_heads_that_are_left_behind_are_named(base: model_files.Model, tmp_path: Path) -> None:
    two = trainer.fit(dying.data(), short("targets.ferplus=1"), out=tmp_path / "two", base=base)
    notes: list[str] = []
    made = trainer.fit(
        dying.data(),
        short(),
        out=tmp_path / "one",
        base=model_files.load(two.model_folder),
        on_note=notes.append,
    )
    assert len(model_files.load(made.model_folder).card.heads) == 1
    assert any("has the heads fer2013 and ferplus" in note and "targets.ferplus=1" in note for note in notes)


def test_what_averaged_models_learnt_from_is_learnt_from(
    base: model_files.Model, tmp_path: Path, make_blobs: Callable[..., Dataset]
) -> None:
    data = other(make_blobs, labels=dying.data().labels)
    on = model_files.load(trainer.fit(data, short(), out=tmp_path / "on", base=base).model_folder)
    mean = shipping.average([base, on], tmp_path / "mean", images=data.split("val").images)
    assert [each.name for each in mean.card.averaged] == ["on"]
    third = make_blobs({"train": 60, "val": 30}, seed=11, labels=data.labels)
    card = model_files.load(trainer.fit(third, short(), out=tmp_path / "last", base=mean).model_folder).card
    assert {each.name for each in card.base} == {"first", "on"}
    assert find_role(card, data.split("train").fingerprint).role == "train"


def test_other_classes_are_named(
    base: model_files.Model, tmp_path: Path, make_blobs: Callable[..., Dataset]
) -> None:
    notes: list[str] = []
    data = other(make_blobs, labels=("calm", "tense"))
    made = trainer.fit(data, short(), out=tmp_path / "second", base=base, on_note=notes.append)
    assert any("answer starts with random weights" in note for note in notes)
    assert model_files.load(made.model_folder).card.labels == ("calm", "tense")


def test_killed_and_resumed_is_as_if_never_killed(base: model_files.Model, tmp_path: Path) -> None:
    def go(place: str, kill_at: tuple[str, int] | None = None) -> int | None:
        process = FORK.Process(
            target=dying.train, args=(tmp_path / place / "run", kill_at, ("epochs=2",), base.path)
        )
        process.start()
        process.join()
        return process.exitcode

    assert go("whole") == 0
    assert go("killed", ("step", 1)) == -signal.SIGKILL
    assert go("killed") == 0
    whole, killed = (runs.open_run(tmp_path / name / "run") for name in ("whole", "killed"))
    states = whole.load()[0], killed.load()[0]
    assert states[0] is not None
    assert states[1] is not None
    for name, array in states[0].arrays.items():
        np.testing.assert_array_equal(array, states[1].arrays[name], err_msg=name)
    assert whole.facts()["shipped"] == killed.facts()["shipped"]


def test_one_killed_before_its_weights_were_saved_is_not_resumed_from_chance(
    base: model_files.Model, tmp_path: Path
) -> None:
    made = trainer.fit(dying.data(), short(), out=tmp_path / "second", base=base)
    shutil.rmtree(made.path / "checkpoints")
    with refused(RunError, "second", "--from"):
        trainer.resume(made, dying.data())


def test_a_model_that_cannot_be_begun_from_is_named(
    base: model_files.Model, tmp_path: Path, make_blobs: Callable[..., Dataset]
) -> None:
    def begin(card: model_files.Card, *settings: str, data: Dataset | None = None) -> None:
        recipe = dying.recipe(*settings)
        trainer.fit(data or dying.data(), recipe, out=tmp_path / "second", base=replace(base, card=card))

    with refused(RecipeError, "first", "toy", "small"):
        begin(base.card, "network=small")
    with refused(RecipeError, "first", 16, 20):
        begin(base.card, "size=20", data=make_blobs({"train": 60, "val": 30}, size=20))
    for spoilt in (replace(base.card, data=None), replace(base.card, recipe={})):
        with refused(ModelError):
            begin(spoilt)
    light = replace(base.card, recipe=base.card.recipe | {"network": "light"})
    with refused(ModelError, "'light'"):
        begin(light, "network=light")
    assert not (tmp_path / "second").exists()
