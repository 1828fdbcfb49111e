"""Models that teach: views, what they answer to them, and the student's training."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import builders
import dying
from mien import _files, api, cli
from mien.data.probabilities import SavedPredictions
from mien.errors import DataError, InputError, OutputError, RecipeError, Stopped
from mien.models import model_files
from mien.training import augmentation, recipes, runs, teachers, trainer
from mien.training.batches import BatchLoader

VIEWS = (
    "views.count=3",
    "views.seed=5",
    "views.augment.rotation=20",
    "views.augment.flip=true",
    *(f"augment.{name}=0" for name in ("rotation", "zoom", "shift")),
    "augment.flip=false",
    "targets.ferplus=0.5",
)


def learner(*settings: str) -> Any:
    return dying.recipe(*VIEWS, "epochs=2", "optimizer.ema=0", *settings)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, small_exports: None) -> model_files.Model:
    """A model that learnt a little, with both heads."""
    out = tmp_path_factory.mktemp("teacher") / "run"
    trainer.fit(dying.data(), dying.recipe("targets.ferplus=0.5", "epochs=1", "optimizer.ema=0"), out=out)
    return model_files.load(out)


@pytest.fixture(scope="module")
def student(teacher: model_files.Model, tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    out = tmp_path_factory.mktemp("student") / "run"
    return trainer.fit(dying.data(), learner(), out=out, teacher=teachers.Teachers((teacher, teacher)))


def answers_of(run: runs.Run, teacher: model_files.Model, recipe: Any = None) -> teachers.ViewAnswers:
    data = dying.data()
    return teachers.answer_views(
        teachers.Teachers((teacher, teacher)),
        data.split("train"),
        data.labels,
        recipe or learner(),
        run.views,
    )


def test_a_student_learns_what_its_teachers_answer(student: runs.Run, teacher: model_files.Model) -> None:
    assert len(student.history()) == 2
    assert student.facts()["status"] == "done"
    assert student.facts()["teacher"]["about"] == "mean of 2 models: 'run', 'run'"
    assert model_files.load(student.path).card.teacher == student.facts()["teacher"]["about"]
    split, recipe = dying.data().split("train"), learner()
    for number in range(3):
        images = split.images
        if number:
            rows = np.arange(len(split))
            images = augmentation.augment_batch(images, rows, recipe.views.augment, seed=5, epoch=number)
        found = answers_of(student, teacher).answers["answer"][number]
        np.testing.assert_allclose(found, teacher.run(images, head="fer2013"), atol=1e-3)


def test_answers_are_kept_and_made_again_if_they_are_damaged(
    student: runs.Run, teacher: model_files.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = answers_of(student, teacher).answers
    asked = []
    monkeypatch.setattr(teachers, "by_onnx", lambda model: asked.append(model) or _by_onnx(model))
    answers_of(student, teacher)
    assert not asked
    files = sorted(student.views.iterdir())
    assert len(files) == 3
    files[1].write_bytes(files[1].read_bytes()[:100])
    again = answers_of(student, teacher).answers
    assert len(asked) == 2
    for name, rows in before.items():
        np.testing.assert_array_equal(rows, again[name])
    answers_of(student, teacher, learner("views.seed=6"))
    assert len(asked) == 4


_by_onnx = teachers.by_onnx


def test_progress_counts_the_images_of_each_block(
    teacher: model_files.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "_BLOCK", 16)
    data, seen = dying.data(), []
    split = data.split("train")
    teachers.answer_views(
        teachers.Teachers((teacher,)),
        split,
        data.labels,
        learner(),
        tmp_path / "views",
        progress=lambda *each: seen.append(each),
    )
    total = learner().views.count * len(split)
    assert seen == sorted(set(seen))
    assert {done for done, _ in seen} >= {16, 32, len(split), len(split) + 16, total}
    assert {of for _, of in seen} == {total}


def test_a_batch_holds_worse_copies_of_the_view_and_its_answers(
    student: runs.Run, teacher: model_files.Model
) -> None:
    recipe = learner("augment.erase=0", "augment.brightness=0")
    split, taught = dying.data().split("train"), answers_of(student, teacher)
    labels = {name: np.eye(3, dtype=np.float32)[split.labels] for name in ("answer", "ferplus")}
    feed = BatchLoader(split, labels, recipe, taught)
    images, wanted = next(feed.batches(1, 0))
    rows = feed.order(1)[:32]
    np.testing.assert_array_equal(images, teachers.view_images(split.images, rows, recipe.views, 1))
    np.testing.assert_array_equal(wanted["answer"][:, :3], labels["answer"][rows])
    np.testing.assert_array_equal(wanted["ferplus"][:, 3:], taught.answers["ferplus"][1, rows])
    noisy = BatchLoader(split, labels, learner("augment.noise=0.2"), taught)
    assert (next(noisy.batches(1, 0))[0] != images).mean() > 0.5
    assert taught.at(3) == 0


def test_what_stops_the_teachers_says_how_to_continue(
    teacher: model_files.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = teachers.Teachers((teacher, teacher))
    for number, (raised, error) in enumerate(
        ((KeyboardInterrupt(), Stopped), (OutputError("the disk is full"), OutputError))
    ):

        def fail(*arguments: Any, raised: BaseException = raised) -> None:
            raise raised

        with monkeypatch.context() as patched:
            patched.setattr(teachers, "_write", fail)
            with builders.refused(error, f"continue with: mien train --resume {tmp_path / str(number)}"):
                trainer.fit(dying.data(), learner(), out=tmp_path / str(number), teacher=taught)


def test_a_run_from_a_model_goes_on_if_it_is_stopped_while_teachers_answer(
    teacher: model_files.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = teachers.Teachers((teacher, teacher))
    options: dict[str, Any] = {"teacher": taught, "base": teacher}
    whole = trainer.fit(dying.data(), learner(), out=tmp_path / "whole", **options)

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(teachers, "_write", interrupt)
        with builders.refused(Stopped, f"continue with: mien train --resume {tmp_path / 'run'}"):
            trainer.fit(dying.data(), learner(), out=tmp_path / "run", **options)
    made = trainer.resume(runs.open_run(tmp_path / "run"), dying.data(), teacher=taught)
    rows = [[row["loss"], row["val_loss"]] for row in made.history()]
    assert rows == [[row["loss"], row["val_loss"]] for row in whole.history()]


def test_runs_share_answers_and_wait_for_each_other(
    student: runs.Run, teacher: model_files.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[model_files.Model] = []
    monkeypatch.setattr(teachers, "by_onnx", lambda model: asked.append(model) or _by_onnx(model))
    both, shared = teachers.Teachers((teacher, teacher)), tmp_path / "views"
    options: dict[str, Any] = {"teacher": both, "views": shared}
    one = trainer.fit(dying.data(), learner(), out=tmp_path / "one", **options)
    assert len(asked) == 2
    held = _files.hold(tmp_path / "views.lock")
    assert held is not None
    monkeypatch.setattr(_files, "time", SimpleNamespace(sleep=lambda seconds: held.release()))
    two = trainer.fit(dying.data(), learner(), out=tmp_path / "two", **options)
    assert not held.is_locked
    assert len(asked) == 2
    assert not one.views.exists()
    assert not two.views.exists()
    losses = [[row["loss"] for row in each.history()] for each in (student, one, two)]
    assert losses[0] == losses[1] == losses[2]


def test_a_stopped_student_goes_on_with_its_teachers(
    student: runs.Run, teacher: model_files.Model, tmp_path: Path
) -> None:
    class Enough(Exception):
        pass

    def leave(row: dict[str, float]) -> None:
        raise Enough

    taught = teachers.Teachers((teacher, teacher))
    with pytest.raises(Enough):
        trainer.fit(dying.data(), learner(), out=tmp_path / "run", teacher=taught, on_epoch=leave)
    made = runs.open_run(tmp_path / "run")
    with builders.refused(DataError, "--teacher"):
        trainer.resume(made, dying.data(), teacher=teachers.Teachers((teacher,)))
    trainer.resume(made, dying.data(), teacher=taught)
    rows = [[row["loss"], row["val_loss"]] for row in made.history()]
    assert rows == [[row["loss"], row["val_loss"]] for row in student.history()]


def test_teachers_that_do_not_fit_are_refused(
    teacher: model_files.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dying.data()

    def fit(recipe: Any, taught: Any, whole: Any = data) -> None:
        trainer.fit(whole, recipe, out=tmp_path / "run", teacher=taught)

    one = teachers.Teachers((teacher,))
    with builders.refused(DataError, "--set size=48"):
        teachers.check(
            teachers.Teachers((model_files.load("fast"),)), model_files.load("fast").card.labels, learner(), 9
        )
    with builders.refused(DataError, "classes"):
        fit(learner(), one, replace(data, labels=("calm", "sad", "tense")))
    with builders.refused(RecipeError, "views.count=0"):
        fit(learner(), SavedPredictions(data.split("train").fingerprint, data.labels, {}, ""))
    with builders.refused(RecipeError, "--teacher"):
        fit(learner(), None)
    monkeypatch.setattr(teachers, "MAX_BYTES", 150 * 3 * 2 * 2 * 2)
    with builders.refused(RecipeError, "views.count=2"):
        fit(learner(), one)
    assert not (tmp_path / "run").exists()


def test_the_command_takes_models_and_files(teacher: model_files.Model, tmp_path: Path) -> None:
    path = str(teacher.path)
    taught, names = api._read_teacher([path, "fast"])
    assert isinstance(taught, teachers.Teachers)
    assert [model.card.name for model in taught.models] == [teacher.card.name, "fast"]
    assert names == [str(teacher.path.resolve()), "fast"]
    with builders.refused(InputError, "--probabilities"):
        api._read_teacher([path, "some.npz"])
    assert cli.training._divide("fast,default") == ["fast", "default"]
    odd = tmp_path / "a,b"
    odd.mkdir()
    assert cli.training._divide(str(odd)) == [str(odd)]


@pytest.mark.parametrize("name", ["patient-teacher", "patient", "patient-fast"])
def test_recipes_of_patient_distillation_are_complete(name: str) -> None:
    recipe = recipes.get(name)
    assert recipes.parse(recipes.to_toml(recipe)) == recipe
    assert bool(recipe.views.count) == (name != "patient-teacher")
