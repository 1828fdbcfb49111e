"""Training: what it learns, what it leaves, and that no way of dying changes it."""

import importlib.util
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
import dying
from builders import has_line, refused
from mien import _files
from mien.data import probabilities
from mien.data.datasets import Dataset, Split
from mien.errors import DataError, MissingExtra, OutputError, RunError, TrainingError
from mien.evaluation import evaluator
from mien.inference.predictor import Predictor
from mien.labels import EMOTIONS
from mien.models import model_files, priors
from mien.release import exporters, model_cards
from mien.training import recipes, runs

pytest.importorskip("keras", reason="training needs mien[train]")

from mien.training import checkpoints, folds, optimization, targets, trainer
from mien.training.batches import BatchLoader
from mien.training.folds import assign_folds

pytestmark = pytest.mark.usefixtures("small_exports")
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["mien.training.trainer", "conftest"])

#: A kind of event and which of its kind kills the training; most are for `make slow`.
MOMENTS = [
    ("step", 8),
    ("write", 25),
    ("fsync", 16),
    ("rename", 8),
    *(
        pytest.param(moment, marks=pytest.mark.slow)
        for moment in (
            *(("step", 1), ("step", 4), ("step", 14), ("write", 12)),
            *(("fsync", 1), ("fsync", 21), ("rename", 3), ("rename", 13)),
        )
    ),
]


@dataclass(frozen=True, eq=False)
class Ending:
    """All of a run that must not depend on how often it died."""

    history: list[dict[str, float]]
    arrays: dict[str, Any]
    shipped: dict[str, Any]
    answers: Any


def ending(path: Path) -> Ending:
    made = runs.open_run(path)
    state, complaints = made.load()
    assert state is not None
    assert complaints == []
    rows = [{key: row[key] for key in row if key not in runs.CLOCKS} for row in made.history()]
    val = dying.data().split("val")
    return Ending(
        rows, dict(state.arrays), made.facts()["shipped"], model_files.load(made.model_folder).run(val.images)
    )


def assert_same(one: Ending, other: Ending) -> None:
    assert one.history == other.history
    assert one.shipped == other.shipped
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name], err_msg=name)
    np.testing.assert_array_equal(one.answers, other.answers)


def in_process(*arguments: Any) -> int | None:
    process = FORK.Process(target=dying.train, args=arguments)
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Ending:
    path = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert in_process(path) == 0
    return ending(path)


def test_the_same_seed_twice_is_the_same_to_the_bit(tmp_path: Path, uninterrupted: Ending) -> None:
    assert in_process(tmp_path / "run") == 0
    assert_same(ending(tmp_path / "run"), uninterrupted)


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: f"{moment[0]}-{moment[1]}")
def test_killed_and_resumed_is_as_if_never_killed(
    tmp_path: Path, uninterrupted: Ending, moment: tuple[str, int]
) -> None:
    path = tmp_path / "run"
    assert in_process(path, moment) == -signal.SIGKILL
    assert in_process(path) == 0
    assert_same(ending(path), uninterrupted)
    assert not list(path.rglob(".partial-*"))
    if importlib.util.find_spec("tensorboard"):
        _check_tensorboard(runs.open_run(path))


def _check_tensorboard(made: runs.Run) -> None:
    """Check that TensorBoard shows each value of the history once."""
    from tensorboard.backend.event_processing import event_accumulator

    rows, shown = made.history(), {}
    for split in ("train", "validation"):
        log = event_accumulator.EventAccumulator(str(made.tensorboard / split)).Reload()
        for tag in log.Tags()["scalars"]:
            column = tag.replace("epoch_", "val_" if split == "validation" else "")
            shown[column] = [(each.step, each.value) for each in log.Scalars(tag)]
    assert set(shown) == set(rows[0]) - {"epoch", *runs.CLOCKS}
    for column, values in shown.items():
        assert values == [(number + 1, pytest.approx(row[column])) for number, row in enumerate(rows)]


def _many_moments() -> list[tuple[str, int]]:
    drawn = random.Random(0)
    most = {"step": 15, "write": 50, "fsync": 50, "rename": 25}
    return [(kind, drawn.randint(1, most[kind])) for kind in most for _ in range(12)]


@pytest.mark.slow
@pytest.mark.parametrize("moment", _many_moments(), ids=lambda moment: f"{moment[0]}-{moment[1]}")
def test_killed_at_many_moments(tmp_path: Path, uninterrupted: Ending, moment: tuple[str, int]) -> None:
    path = tmp_path / "run"
    assert in_process(path, moment) == -signal.SIGKILL
    assert in_process(path) == 0
    assert_same(ending(path), uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(12))
def test_killed_again_and_again_at_any_time(tmp_path: Path, uninterrupted: Ending, number: int) -> None:
    path = tmp_path / "run"
    drawn = random.Random(number)
    for _ in range(3):
        process = FORK.Process(target=dying.train, args=(path,))
        process.start()
        process.join(drawn.uniform(0.5, 12))
        process.kill()
        process.join()
    assert in_process(path) == 0
    assert_same(ending(path), uninterrupted)


def test_a_damaged_state_costs_one_generation_and_nothing_else(tmp_path: Path, uninterrupted: Ending) -> None:
    path = tmp_path / "run"
    assert in_process(path, ("step", 9)) == -signal.SIGKILL
    newest = sorted((path / "checkpoints").glob("state-*.npz"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    assert in_process(path) == 0
    damaged = [found for found in (path / "checkpoints").iterdir() if found.name == newest.name]
    for found in damaged:
        found.unlink()
    assert_same(ending(path), uninterrupted)


def _wait_for(condition: Callable[[], Any], *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """The data of dying.py as class folders."""
    from PIL import Image

    data = dying.data()
    for split in (data.train, data.val):
        for image, label, file in zip(split.images, split.labels, split.files, strict=True):
            place = tmp_path / "data" / split.name / data.labels[label] / Path(file).name
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[:, :, 0]).save(place)
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("number", "folds", "advice"),
    [
        (signal.SIGTERM, [], "continue with: mien train --resume {path}"),
        pytest.param(signal.SIGINT, [], "continue with: mien train --resume {path}", marks=pytest.mark.slow),
        (signal.SIGINT, ["--folds", "2"], "continue with: the same command"),
    ],
)
def test_a_signal_saves_and_ends_with_its_code(
    tmp_path: Path, folders: Path, number: signal.Signals, folds: list[str], advice: str
) -> None:
    settings = [
        word
        for setting in (*dying.SETTINGS, "epochs=2000", "stopping.patience=0")
        for word in ("--set", setting)
    ]
    out = tmp_path / "run"
    path = out / "fold-1" if folds else out
    command = builders.mien_command("train", str(folders), "--out", str(out), *folds, *settings)
    # JAX, which other tests import, asks for more words than a user gets.
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    _wait_for(lambda: (path / "history.csv").exists())
    process.send_signal(number)
    # 2,000 epochs would take many times as long.
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert output == ""
    assert errors.splitlines()[-1].endswith(advice.format(path=path)), errors
    state, complaints = runs.open_run(path).load()
    assert state is not None
    assert complaints == []


def _slow_steps(path: Path) -> None:
    """Train with steps that last longer than a signal may wait."""
    from mien.training import augmentation, checkpoints

    checkpoints.GRACE = 0.3
    checkpoints._LONG_STEP = 0.0
    quick = augmentation.augment_batch
    calls = 0

    def slow(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 7:  # the first is the start of averaged statistics; five are an epoch
            (path.parent / "stuck").touch()
            time.sleep(3600)
        return quick(*arguments, **options)

    augmentation.augment_batch = slow
    dying.train(path)


def test_a_signal_inside_a_long_step_saves_the_step_before(tmp_path: Path, uninterrupted: Ending) -> None:
    path = tmp_path / "run"
    process = FORK.Process(target=_slow_steps, args=(path,))
    process.start()
    _wait_for((tmp_path / "stuck").exists)
    time.sleep(0.5)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    process.join(30)
    assert process.exitcode == 128 + signal.SIGTERM
    assert in_process(path) == 0
    assert_same(ending(path), uninterrupted)


@pytest.mark.parametrize("again", ["the same command", "mien train --resume a\x1b[2Jb"])
def test_the_farewell_inside_a_long_step_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    written: list[bytes] = []
    endings: list[int] = []
    saved: list[bool] = []
    monkeypatch.setattr(checkpoints, "GRACE", 0.0)
    monkeypatch.setattr(checkpoints.os, "write", lambda place, text: written.append(text))
    monkeypatch.setattr(checkpoints.os, "_exit", endings.append)
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.send(bytes([signal.SIGTERM]))
        checkpoints.Stop(lambda: saved.append(True), again).watch(reader)
    assert (saved, endings) == ([True], [143])
    line = written[0].decode().splitlines()[-1]
    assert line.endswith("and saved; continue with: " + again.replace("\x1b", "\\x1b"))


@pytest.fixture(scope="session")
def taught(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[runs.Run, Dataset, list[trainer.Status], list[str]]:
    data = dying.data()
    statuses: list[trainer.Status] = []
    notes: list[str] = []
    recipe = dying.recipe("epochs=6", "optimizer.ema=0", "select=val_accuracy", "checkpoints.keep=1")
    with builders.few_comparisons(exporters.IMAGES):
        made = trainer.fit(
            data,
            recipe,
            runs=tmp_path_factory.mktemp("taught") / "runs",
            origin={"source": "somewhere"},
            on_status=statuses.append,
            on_note=notes.append,
        )
    return made, data, statuses, notes


def test_each_epoch_is_reported_once_also_after_a_stop_between_save_and_report(tmp_path: Path) -> None:
    recipe, seen = dying.recipe("epochs=4", "stopping.patience=0"), []

    def fail_at(epoch: int) -> Callable[[runs.Row], None]:
        def on_epoch(row: runs.Row) -> None:
            if row["epoch"] == epoch:
                raise KeyboardInterrupt
            seen.append(row)

        return on_epoch

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(dying.data(), recipe, out=tmp_path / "run", on_epoch=fail_at(2))
    made = runs.open_run(tmp_path / "run")
    assert [row["epoch"] for row in seen] == [1]
    assert [row["epoch"] for row in made.history()] == [1, 2]
    seen.clear()
    trainer.resume(made, dying.data(), on_epoch=fail_at(0))
    assert seen == made.history()
    assert len(seen) == 4
    seen.clear()
    trainer.resume(made, dying.data(), on_epoch=fail_at(0))
    assert seen == made.history()


def test_a_pruned_training_has_no_model_and_can_continue(tmp_path: Path) -> None:
    recipe, notes = dying.recipe("epochs=3", "stopping.patience=0"), []
    made = trainer.fit(
        dying.data(),
        recipe,
        out=tmp_path / "run",
        on_epoch=lambda row: row["epoch"] == 2,
        on_note=notes.append,
    )
    assert made.facts()["status"] == "pruned"
    assert len(made.history()) == 2
    assert has_line("\n".join(notes), "pruned", "2 of 3")
    with refused(RunError, "pruned", f"--resume {made.path}"):
        model_files.resolve(made.path)
    # The answer for the last epoch has no effect.
    trainer.resume(made, dying.data(), on_epoch=lambda row: row["epoch"] == 3)
    assert made.facts()["status"] == "done"
    whole = trainer.fit(dying.data(), recipe, out=tmp_path / "whole" / "run")
    assert made.facts()["shipped"] == whole.facts()["shipped"]


@pytest.fixture
def learnt(
    taught: tuple[runs.Run, Dataset, list[trainer.Status], list[str]], tmp_path: Path
) -> tuple[runs.Run, Dataset, list[trainer.Status], list[str]]:
    """A finished run of its own for each test, with what its training said."""
    made, *said = taught
    shutil.copytree(made.path, tmp_path / "runs" / made.name)
    return runs.open_run(tmp_path / "runs" / made.name), *said


def test_a_training_learns_and_leaves_a_whole_run(
    learnt: tuple[runs.Run, Dataset, list[trainer.Status], list[str]],
) -> None:
    made, data, statuses, notes = learnt
    assert made.name == "quick-1"
    facts = made.facts()
    history = made.history()
    best = checkpoints.best_epoch(history, "val_accuracy")
    assert facts["status"] == "done"
    assert facts["shipped"]["epoch"] == best + 1
    assert facts["data"]["fingerprint"] == data.fingerprint
    assert facts["data"]["origin"] == {"source": "somewhere"}
    assert facts["environment"]["keras"]
    assert any(f"weights of epoch {best + 1} of" in note for note in notes)

    shipped = model_files.load(made.model_folder)
    report = evaluator.evaluate(shipped, data.split("val"), labels=data.labels)
    assert report.accuracy == pytest.approx(history[best]["val_accuracy"])
    assert report.accuracy > 0.6
    assert shipped.card.metrics["val"].values["accuracy"] == report.accuracy
    assert shipped.card.parity is not None
    assert shipped.card.parity.images >= 1000
    assert shipped.card.recipe == recipes.to_dict(made.recipe())
    assert shipped.card.sha256 == facts["shipped"]["sha256"]
    assert str(made.path) not in (made.model_folder / "card.json").read_text()

    names = sorted(path.name for path in made.weights.iterdir())
    kept = {best + 1, len(history)}
    assert {int(name[2:5]) for name in names} == kept
    row = history[best]
    name = f"ep{best + 1:03d}-loss{row['loss']:.3f}-val_loss{row['val_loss']:.3f}.weights.h5"
    assert name in names

    assert statuses[-1].last == history[-1]
    assert all(0 <= status.step <= status.steps for status in statuses)
    assert (made.tensorboard / "train").exists() == bool(importlib.util.find_spec("tensorboard"))


def test_weight_files_load_in_plain_keras(
    learnt: tuple[runs.Run, Dataset, list[trainer.Status], list[str]],
) -> None:
    made, data, _, _ = learnt
    model = trainer.build_network(made.recipe(), classes=3, policy="float32")
    epoch = made.facts()["shipped"]["epoch"]
    model.load_weights(next(made.weights.glob(f"ep{epoch:03d}-*")))
    images = data.split("val").images
    ours = model_files.load(made.model_folder).run(images)
    np.testing.assert_allclose(model.predict(images, verbose=0), ours, atol=1e-4)


def test_a_finished_run_resumes_to_itself(
    learnt: tuple[runs.Run, Dataset, list[trainer.Status], list[str]],
) -> None:
    made, data, _, said = learnt
    before = made.facts()["shipped"], made.history()
    notes: list[str] = []
    with builders.few_comparisons(exporters.IMAGES):
        trainer.resume(made, data, on_note=notes.append)
    assert (made.facts()["shipped"], made.history()) == before
    assert ["already" in note for note in notes if note not in said] == [True]


def test_other_data_cannot_go_on(
    learnt: tuple[runs.Run, Dataset, list[trainer.Status], list[str]], make_blobs: Callable[..., Dataset]
) -> None:
    made = learnt[0]
    with refused(DataError):
        trainer.resume(made, make_blobs({"train": 150, "val": 40}, seed=5))


def other_votes(data: Dataset) -> Dataset:
    """The same images, and voters who saw something else in every second one."""
    for split in data.splits:
        split.votes[::2] = np.roll(split.votes[::2], 1, axis=1)
    return data


def without_votes(data: Dataset) -> Dataset:
    parts = {split.name: replace(split, votes=None) for split in data.splits}
    return replace(data, **parts)


def test_other_votes_cannot_go_on(
    learnt: tuple[runs.Run, Dataset, list[trainer.Status], list[str]],
) -> None:
    made, data, _, _ = learnt
    assert made.facts()["data"]["votes"] == data.votes_fingerprint
    with refused(DataError, data.votes_fingerprint[:12], "--votes"):
        trainer.resume(made, other_votes(dying.data()))
    with refused(DataError, "--votes"):
        trainer.resume(made, without_votes(data))
    facts = made.facts()
    made.update(data=facts["data"] | {"votes": None})
    with refused(DataError, "votes"):
        trainer.resume(made, data)


def test_a_run_older_than_the_fingerprint_of_votes_goes_on(
    learnt: tuple[runs.Run, Dataset, list[trainer.Status], list[str]],
) -> None:
    made = learnt[0]
    data = made.facts()["data"]
    del data["votes"]
    made.update(data=data)
    assert trainer.resume(made, other_votes(dying.data())).facts()["status"] == "done"


def test_a_changed_recipe_cannot_go_on(
    learnt: tuple[runs.Run, Dataset, list[trainer.Status], list[str]],
) -> None:
    made, data, _, _ = learnt
    changed = replace(made.recipe(), batch_size=16, epochs=9)
    (made.path / "recipe.toml").write_text(recipes.to_toml(changed))
    with refused(RunError, "epochs, batch_size"):
        trainer.resume(made, data)


def test_a_run_older_than_a_setting_goes_on(
    learnt: tuple[runs.Run, Dataset, list[trainer.Status], list[str]],
) -> None:
    made, data, _, _ = learnt
    facts = json.loads((made.path / "run.json").read_text())
    toml = (made.path / "recipe.toml").read_text()
    del facts["recipe"]["views"]
    toml, gone = re.subn(r"(?ms)^\[views\]\n.*?(?=^\[stopping\])", "", toml)
    assert gone == 1
    for place in ("noise", "fill"):  # quick leaves both at their defaults, as a run before them had it
        del facts["recipe"]["augment"][place]
        toml, gone = re.subn(rf"(?m)^{place} = .*\n", "", toml)
        assert gone == 1
    (made.path / "run.json").write_text(json.dumps(facts))
    (made.path / "recipe.toml").write_text(toml)
    assert trainer.resume(made, data).facts()["status"] == "done"
    facts["recipe"]["augment"]["noise"] = "loud"
    (made.path / "run.json").write_text(json.dumps(facts))
    with refused(RunError, "run.json", "augment.noise='loud'"):
        trainer.resume(made, data)


def test_a_state_of_another_network_is_refused() -> None:
    model = trainer.build_network(dying.recipe(), classes=3, policy="float32")
    with refused(TrainingError):
        checkpoints._assign(model.variables, [np.zeros(3)])


def test_two_trainings_of_one_folder_refuse(tmp_path: Path, make_blobs: Callable[..., Dataset]) -> None:
    recipe = dying.recipe()
    facts = {"data": {"fingerprint": dying.data().fingerprint}, "precision": "float32"}
    made = runs.create(recipe, facts, out=tmp_path / "run")
    with refused(RunError, "--resume"):
        trainer.fit(dying.data(), recipe, out=made.path)
    with made.lock(), refused(RunError, made.path):
        trainer.resume(made, dying.data())


def test_a_loss_that_is_no_number_stops_within_an_epoch(tmp_path: Path) -> None:
    recipe = dying.recipe("optimizer.learning_rate=1e30", "optimizer.ema=0")
    with refused(TrainingError, "learning rate 1e+30", "epoch 1"):
        trainer.fit(dying.data(), recipe, out=tmp_path / "run")
    made = runs.open_run(tmp_path / "run")
    assert made.facts()["status"] == "failed"
    assert not made.model_folder.exists()


def test_a_validation_loss_that_is_no_number_stops_before_it_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = checkpoints.CheckpointCallback.on_epoch_end

    def planted(self: Any, epoch: int, logs: dict[str, Any]) -> None:
        sound(self, epoch, logs | {"val_loss": float("inf")})

    monkeypatch.setattr(checkpoints.CheckpointCallback, "on_epoch_end", planted)
    with refused(TrainingError, "epoch 1", "inf"):
        trainer.fit(dying.data(), dying.recipe("select=last"), out=tmp_path / "run")
    made = runs.open_run(tmp_path / "run")
    assert made.facts()["status"] == "failed"
    assert not made.model_folder.exists()


@pytest.mark.parametrize("settings", [("optimizer.warmup=0", "select=last"), ("select=val_loss",)])
def test_a_real_divergence_is_named(tmp_path: Path, settings: tuple[str, ...]) -> None:
    recipe = dying.recipe("batch_size=150", "optimizer.learning_rate=1e30", "optimizer.ema=0", *settings)
    with refused(TrainingError, "learning rate 1e+30"):
        trainer.fit(dying.data(), recipe, out=tmp_path / "run")
    assert runs.open_run(tmp_path / "run").facts()["status"] == "failed"


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("kilobytes", [300, 1200])
def test_a_disk_that_fills_while_training_ends_in_a_sentence(tmp_path: Path, kilobytes: int) -> None:
    with builders.small_disk(tmp_path / "disk", kilobytes=kilobytes):
        path = tmp_path / "disk" / "run"
        with refused(OutputError, "mien train --resume"):
            trainer.fit(
                dying.data(), dying.recipe("network=tiny", "epochs=30", "checkpoints.weights=all"), out=path
            )
        state, complaints = runs.open_run(path).load()
        assert complaints == []
        assert (state is None) == (kilobytes == 300)


def test_when_it_diverges_later_the_best_model_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = checkpoints.CheckpointCallback.on_train_batch_end

    def planted(self: Any, batch: int, logs: dict[str, Any]) -> None:
        sound(self, batch, logs | {"loss": float("nan")} if self.epoch == 1 and batch == 2 else logs)

    monkeypatch.setattr(checkpoints.CheckpointCallback, "on_train_batch_end", planted)
    with refused(TrainingError, "epoch 2, step 3", "run"):
        trainer.fit(dying.data(), dying.recipe(), out=tmp_path / "run")
    made = runs.open_run(tmp_path / "run")
    assert made.facts()["status"] == "failed"
    assert made.facts()["shipped"]["epoch"] == 1
    assert model_files.load(made.model_folder).card.labels == ("angry", "disgust", "fear")


def test_a_network_that_no_file_can_stand_for_is_kept_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.release import exporters

    monkeypatch.setattr(exporters, "TOLERANCE", -1.0)
    monkeypatch.setattr(exporters, "LOOSEST", -1.0)
    with refused(TrainingError, "--set optimizer.learning_rate=0.0125", tmp_path / "run" / "diverged"):
        trainer.fit(dying.data(), dying.recipe("epochs=1"), out=tmp_path / "run")
    made = runs.open_run(tmp_path / "run")
    assert made.facts()["status"] == "failed"
    monkeypatch.undo()
    assert exporters.weights((made.path / "diverged" / "model.onnx").read_bytes())
    assert not (made.model_folder / "model.onnx").exists()
    assert trainer.resume(made, dying.data()).facts()["status"] == "done"


def test_training_stops_early_and_ships_the_best(tmp_path: Path) -> None:
    notes: list[str] = []
    recipe = dying.recipe("epochs=40", "stopping.patience=1", "stopping.min_delta=10", "optimizer.ema=0")
    made = trainer.fit(dying.data(), recipe, out=tmp_path / "run", on_note=notes.append)
    assert len(made.history()) == 2
    assert any(has_line(note, "epoch 2") for note in notes)


def test_averaged_weights_come_with_the_statistics_that_fit_them(
    tmp_path: Path, make_blobs: Callable[..., Dataset]
) -> None:
    import keras

    steep = ("learning_rate=0.2", "schedule=constant", "warmup=0", "ema=0.95")
    settings = ["network=tiny", "size=16", "batch_size=20", *(f"optimizer.{each}" for each in steep)]
    recipe = recipes.override(recipes.get("quick"), [*settings, "epochs=2"])
    data = make_blobs({"train": 300, "val": 90})
    made = trainer.fit(data, recipe, out=tmp_path / "run")
    model = trainer.build_network(recipe, classes=3, policy="float32")
    model.load_weights(next(made.weights.glob("ep002-*")))
    val = data.split("val")

    def surprise() -> float:
        found = np.asarray(model(val.images, training=False))
        return float(-np.log(found[np.arange(len(val)), val.labels]).mean())

    shipped = surprise()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(data.split("train").images, training=True)
    # With the statistics of the newest weights, 0.19 more.
    assert shipped < surprise() + 0.05


def test_a_split_that_is_missing_or_of_another_size_is_named(
    tmp_path: Path, make_blobs: Callable[..., Dataset]
) -> None:
    with refused(DataError, "val"):
        trainer.fit(make_blobs({"train": 30}), dying.recipe(), out=tmp_path / "a")
    with refused(DataError, "size=16"):
        trainer.fit(make_blobs({"train": 30, "val": 9}, size=24), dying.recipe(), out=tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_a_class_may_be_absent_from_val(tmp_path: Path) -> None:
    data = dying.data()
    val = data.split("val")
    thin = val.take(val.labels != 2)
    made = trainer.fit(replace(data, val=thin), dying.recipe("epochs=1"), out=tmp_path / "run")
    assert made.facts()["status"] == "done"


@pytest.mark.parametrize(("logit_bias", "power"), [((), 0.7), ((0.5, 0.0, -0.5), 1.0)])
def test_frequencies_leave_out_what_a_balanced_loss_took(logit_bias: tuple[float, ...], power: float) -> None:
    train_split = dying.data().split("train")
    card = model_files.load("fast").card
    head = replace(card.head("fer2013"), logit_bias=logit_bias)
    kept = replace(card, labels=("a", "b", "c"), recipe={"targets": {"balance": 0.3}})
    kept = replace(kept, heads={"labels": head})
    thin = train_split.take((train_split.labels != 2) | (np.arange(len(train_split)) % 5 == 0))
    counts = np.bincount(thin.labels, minlength=3) ** power
    found = targets.frequencies(kept, "labels", thin)
    np.testing.assert_allclose(found, counts / counts.sum(), atol=1e-6)


def test_a_run_has_thresholds_and_frequencies(tmp_path: Path) -> None:
    data, notes = dying.data(), []
    settings = ("targets.ferplus=1", "epochs=4", "optimizer.ema=0", "augment.flip=false")
    made = trainer.fit(data, dying.recipe(*settings), out=tmp_path / "run", on_note=notes.append)
    model, val, split = model_files.load(made.model_folder), data.split("val"), data.split("train")
    shares = np.bincount(split.labels) / len(split)
    for name, head in model.card.heads.items():
        np.testing.assert_allclose(head.frequencies, shares, atol=1e-6)
        assert not head.at_chance
        assert (head.temperature, head.logit_bias, head.balance) == (1, (), 0)
        assert list(head.thresholds) == ["0.25", "0.5", "0.75", "1"]
        for balance in priors.OFFERED:
            sure = model.run(val.images, head=name, balance=balance).max(axis=1)
            assert (sure >= head.threshold_at(balance)).sum() == 32
    assert not any("uncertain" in each for each in notes)
    assert made.facts()["shipped"]["at_chance"] == []
    flags = [face.flags for face in faces(model, val.images)]
    assert 0 < sum("uncertain" in each for each in flags) < len(flags)
    assert "| `run` | `fer2013` | " in model_cards.of_run(made)


def faces(model: model_files.Model, images: np.ndarray) -> list[Any]:
    predictor = Predictor(model, whole_image=True, balance=1)
    return [found.faces[0] for found in predictor.images(list(images[..., 0]))]


def test_a_model_at_chance_flags_all_its_answers(tmp_path: Path) -> None:
    """After one epoch with no step worth naming it answers one class in three."""
    data, notes = dying.data(), []
    settings = ("epochs=1", "optimizer.learning_rate=1e-9", "optimizer.ema=0")
    made = trainer.fit(data, dying.recipe(*settings), out=tmp_path / "run", on_note=notes.append)
    model = model_files.load(made.model_folder)
    assert model.card.head().at_chance
    assert len([each for each in notes if "uncertain" in each]) == 1
    assert made.facts()["shipped"]["at_chance"] == ["labels"]
    assert all("uncertain" in face.flags for face in faces(model, data.split("val").images))


def test_an_epoch_that_was_better_than_the_last_is_named() -> None:
    def row(loss: float, accuracy: float) -> dict[str, float]:
        return {"val_loss": loss, "val_accuracy": accuracy}

    assert trainer._find_better_epoch([row(0.5, 0.6), row(0.6, 0.5)], 1) == 0
    assert trainer._find_better_epoch([row(0.5, 0.5), row(0.6, 0.6)], 1) is None  # better in one alone
    assert trainer._find_better_epoch([row(0.6, 0.5), row(0.5, 0.6)], 1) is None
    assert trainer._find_better_epoch([row(0.5, 0.6), row(0.5, 0.6)], 1) is None


def test_bfloat16_trains_and_ships_in_float32(tmp_path: Path) -> None:
    made = trainer.fit(dying.data(), dying.recipe("precision=bfloat16", "epochs=2"), out=tmp_path / "run")
    assert made.facts()["precision"] == "mixed_bfloat16"
    parity = model_files.load(made.model_folder).card.parity
    assert parity is not None
    assert parity.largest_difference <= 1e-4


@pytest.mark.parametrize(
    ("flags", "policy"),
    [("fpu sse avx2", "float32"), ("fpu avx512_bf16 sse", "mixed_bfloat16"), ("-", "mixed_bfloat16")],
)
def test_precision_follows_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, policy: str
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    arm = "Features\t: fp asimd bf16"
    cpuinfo.write_text(f"processor : 0\n{arm if flags == '-' else 'flags : ' + flags}\nbugs : none\n")
    monkeypatch.setattr(trainer, "CPUINFO", cpuinfo)
    assert trainer.choose_precision("auto") == policy
    assert trainer.choose_precision("float32") == "float32"
    assert trainer.choose_precision("bfloat16") == "mixed_bfloat16"
    monkeypatch.setattr(trainer, "CPUINFO", tmp_path / "absent")
    assert trainer.choose_precision("auto") == "float32"


def wanted(data: Dataset) -> dict[str, np.ndarray]:
    return targets.make_split_targets(data.split("train"), data.labels, recipes.TargetSettings())


@pytest.mark.parametrize("images", [1, 5, 32, 33, 150])
def test_an_epoch_sees_every_image_in_batches_of_one_size(
    make_blobs: Callable[..., Dataset], images: int
) -> None:
    data = make_blobs({"train": images})
    feed = BatchLoader(data.split("train"), wanted(data), dying.recipe())
    batches = list(feed.batches(0, 0))
    assert len(batches) == feed.steps * feed.recipe.epochs
    assert {batch[0].shape[0] for batch in batches} == {min(32, images)}
    for epoch in range(feed.recipe.epochs):
        assert set(feed.order(epoch)) == set(range(images))
        assert len(feed.order(epoch)) < images + feed.batch_size


def test_batches_are_a_function_of_seed_epoch_and_step() -> None:
    feed = BatchLoader(dying.data().split("train"), wanted(dying.data()), dying.recipe())
    whole = list(feed.batches(0, 0))
    for epoch, step in ((0, 3), (1, 0), (2, 4)):
        rest = list(feed.batches(epoch, step))
        assert len(rest) == len(whole) - epoch * feed.steps - step
        for (image, target), (expected, answer) in zip(rest, whole[-len(rest) :], strict=True):
            np.testing.assert_array_equal(image, expected)
            np.testing.assert_array_equal(target, answer)
    other = BatchLoader(feed.split, feed.targets, dying.recipe("seed=1"))
    assert not np.array_equal(other.order(0), feed.order(0))
    assert not np.array_equal(feed.order(1), feed.order(0))


def voted(votes: list[list[float]], label: int = 0) -> Split:
    return Split(
        name="train",
        images=np.zeros((len(votes), 16, 16, 1), np.uint8),
        labels=np.full(len(votes), label, np.int64),
        votes=np.array(votes, np.float32),
        files=tuple(map(str, range(len(votes)))),
    )


def test_votes_become_targets() -> None:
    split = voted([[0, 0, 0, 3, 0, 0, 1, 2, 3, 1], [0] * 7 + [4, 3, 3]], label=6)
    settings = recipes.TargetSettings(votes=0.25, ferplus=1.0)
    found = targets.make_split_targets(split, EMOTIONS, settings)
    shares = np.zeros((2, 7), np.float32)
    shares[0, 3], shares[0, 6], shares[1, 6] = 0.75, 0.25, 1  # contempt and the like count for nothing
    np.testing.assert_allclose(found["ferplus"], shares)
    np.testing.assert_allclose(found["answer"], 0.75 * np.eye(7)[[6, 6]] + 0.25 * shares)
    fewer = targets.vote_shares(voted([[0, 0, 0, 3, 0, 0, 1, 2, 3, 1]]), ("happy", "neutral"))
    np.testing.assert_allclose(fewer, [[0.75, 0.25]])


def test_votes_that_are_not_there_are_asked_for(make_blobs: Callable[..., Dataset]) -> None:
    blobs = make_blobs({"train": 6})
    with refused(DataError, "--votes"):
        targets.vote_shares(blobs.split("train"), EMOTIONS)
    with refused(DataError, "'contempt'"):
        targets.vote_shares(voted([[1] * 10]), (*EMOTIONS, "contempt"))


def test_mixing_blends_images_and_targets_alike() -> None:
    rng = np.random.default_rng(0)
    images = np.arange(64, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    wanted = {"answer": np.arange(64, dtype=np.float32)[:, None]}
    blended, mixed = targets.mix_images(images, wanted, 0.4, rng)
    np.testing.assert_allclose(blended[:, 0, 0, 0], mixed["answer"][:, 0], atol=0.51)
    assert 0.01 < np.abs(mixed["answer"][:, 0] - np.arange(64)).mean() < 16


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distilling_is_cross_entropy_with_both(temperature: float) -> None:
    rng = np.random.default_rng(1)
    student, teacher = rng.dirichlet(np.ones(5), (2, 8)).astype(np.float32)
    truth = targets.one_hot(rng.integers(0, 5, 8), 5)
    loss = optimization.Distillation(smoothing=0.1, share=0.6, temperature=temperature)

    def soft(chances: np.ndarray) -> np.ndarray:
        powered = chances ** (1 / temperature)
        return powered / powered.sum(axis=1, keepdims=True)

    with_data = -((0.9 * truth + 0.02) * np.log(student)).sum(axis=1)
    with_teacher = -(soft(teacher) * np.log(soft(student))).sum(axis=1)
    expected = (0.4 * with_data + 0.6 * temperature**2 * with_teacher).mean()
    assert float(loss(np.hstack([truth, teacher]), student)) == pytest.approx(expected, rel=1e-4)
    # On validation images no teacher is given, and its share of the loss is none.
    alone = float(loss(np.hstack([truth, np.zeros_like(truth)]), student))
    assert alone == pytest.approx(0.4 * with_data.mean(), rel=1e-4)


@pytest.mark.parametrize("balance", [0.3, 1.0])
def test_a_balanced_loss_takes_the_frequencies_out_of_the_answer(balance: float) -> None:
    frequencies = np.array([0.7, 0.25, 0.05])
    compiled = optimization.loss_settings(
        recipes.TargetSettings(balance=balance), distils=False, frequencies=frequencies
    )
    truth = np.repeat(np.eye(3, dtype=np.float32), [70, 25, 5], axis=0)

    def cost(answer: np.ndarray) -> float:
        return float(compiled["loss"](truth, np.tile(answer.astype(np.float32), (100, 1))))

    # Of images that show nothing, the best answer is what the frequencies leave to be said.
    best = frequencies ** (1 - balance) / (frequencies ** (1 - balance)).sum()
    assert cost(best) == pytest.approx(-(frequencies * np.log(frequencies)).sum(), rel=1e-5)
    for change in ([0.05, -0.05, 0], [0, 0.04, -0.04], [-0.04, 0, 0.04]):
        assert cost(best + change) > cost(best)


def test_a_second_answer_learns_the_votes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = EMOTIONS[:3]

    def split(name: str, n: int) -> Split:
        seen = rng.integers(0, 3, n)
        images = rng.integers(0, 100, (n, 16, 16, 1)).astype(np.uint8)
        for index, place in enumerate(seen):
            images[index, :, 5 * place : 5 * place + 5] += 120
        votes = np.zeros((n, 10), np.float32)
        votes[np.arange(n), seen] = 10
        labels = (seen + 1) % 3  # the label is another thing than what people see
        return Split(name, images, labels.astype(np.int64), votes, tuple(map(str, range(n))))

    data = Dataset(root="made", labels=names, train=split("train", 120), val=split("val", 60), test=None)
    made = trainer.fit(
        data, dying.recipe("targets.ferplus=1", "epochs=5", "augment.flip=false"), out=tmp_path / "whole"
    )
    rows = made.history()
    assert {"ferplus_accuracy", "val_ferplus_accuracy"} <= rows[-1].keys()
    shipped = model_files.load(made.model_folder)
    assert list(shipped.card.heads) == ["fer2013", "ferplus"]
    val = data.split("val")
    for name, truth in (("fer2013", val.labels), ("ferplus", val.votes.argmax(axis=1))):
        share = (shipped.run(val.images, head=name).argmax(axis=1) == truth).mean()
        assert share > 0.8, name
    assert rows[-1]["val_accuracy"] == pytest.approx(
        (shipped.run(val.images).argmax(axis=1) == val.labels).mean(), abs=0.02
    )


def test_one_hot() -> None:
    np.testing.assert_array_equal(targets.one_hot(np.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])


def rows(*losses: float) -> list[runs.Row]:
    return [{"val_loss": loss, "val_accuracy": 1 - loss} for loss in losses]


def test_which_epoch_ships() -> None:
    assert checkpoints.best_epoch(rows(0.5, 0.3, 0.3, 0.4), "val_loss") == 1
    assert checkpoints.best_epoch(rows(0.5, 0.3, 0.3, 0.4), "val_accuracy") == 1
    assert checkpoints.best_epoch(rows(0.5, 0.3, 0.3, 0.4), "last") == 3


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "over"),
    [
        ((0.5, 0.4, 0.3), 1, 0.0, False),
        ((0.5, 0.4, 0.4), 1, 0.0, True),
        ((0.5, 0.6, 0.4, 0.5), 2, 0.0, False),
        ((0.5, 0.6, 0.4, 0.5, 0.5), 2, 0.0, True),
        ((0.5, 0.45, 0.41), 2, 0.1, True),
        ((0.5, 0.6, 0.7, 0.8), 0, 0.0, False),
    ],
)
def test_when_a_training_is_over(
    losses: tuple[float, ...], patience: int, min_delta: float, over: bool
) -> None:
    recipe = recipes.override(
        recipes.get("quick"), ["epochs=9", f"stopping.patience={patience}", f"stopping.min_delta={min_delta}"]
    )
    assert checkpoints.is_over(rows(*losses), recipe) is over
    assert checkpoints.is_over(rows(*losses), replace(recipe, epochs=len(losses)))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("schedule=constant",), {0: 1.0, 50: 1.0, 99: 1.0}),
        (("schedule=constant", "warmup=0.2"), {0: 0.01, 10: 0.505, 20: 1.0, 99: 1.0}),
        (("schedule=cosine",), {0: 1.0, 50: 0.505, 100: 0.01}),
        (("schedule=one-cycle", "warmup=0.2"), {0: 0.01, 20: 1.0, 60: 0.505, 100: 0.01}),
    ],
)
def test_learning_rates(settings: tuple[str, ...], expected: dict[int, float]) -> None:
    from mien.training import optimization

    recipe = recipes.override(
        recipes.get("seed"),
        ["optimizer.learning_rate=1.0", *(f"optimizer.{setting}" for setting in settings)],
    )
    rate = optimization._learning_rate(recipe.optimizer, steps=100)
    for step, value in expected.items():
        found = rate(step) if callable(rate) else rate
        assert float(found) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_kernels_alone_decay(name: str) -> None:
    from mien.training import optimization

    model = trainer.build_network(dying.recipe(), classes=3, policy="float32")
    settings = recipes.Optimizer(name=name, learning_rate=0.1, weight_decay=0.5)  # type: ignore[arg-type]
    optimizer = optimization.make_optimizer(settings, model, steps=10)
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    optimizer.apply([0 * variable for variable in model.trainable_variables])
    for variable in model.trainable_variables:
        value = np.array(variable)
        assert np.allclose(value, 0.95 if variable.name == "kernel" else 1.0, atol=1e-6), variable.path


def test_without_keras_a_sentence_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['keras'] = None\n"
        "from mien.models import networks\n"
        "try: networks.load_keras()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith(MissingExtra.__name__)
    assert 'pip install "mien[cpu]"' in said


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs mien[jax]")
def test_the_jax_backend_trains_unchanged_and_resumes_to_the_bit(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import dying; from pathlib import Path\n"
        "for place in sys.argv[3:]:\n"
        "    dying.train(Path(place), ('step', 8) if sys.argv[2] == 'die' else None)\n"
        "assert 'tensorflow' not in sys.modules"
    )
    # What the first process compiled serves the second; and it compiles in a hurry.
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    }

    # JAX sets it where it is imported, which asks for more of TensorFlow's log.
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)

    def go(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, str(Path(__file__).parent), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert go("die", tmp_path / "killed" / "run").returncode == -signal.SIGKILL
    done = go("live", tmp_path / "killed" / "run", tmp_path / "whole" / "run")
    assert done.returncode == 0, done.stderr
    assert "oneDNN" not in done.stderr
    facts = runs.open_run(tmp_path / "whole" / "run").facts()
    assert facts["environment"]["backend"].startswith("jax")
    assert_same(ending(tmp_path / "killed" / "run"), ending(tmp_path / "whole" / "run"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs mien[jax]")
@pytest.mark.parametrize(
    "name",
    ["teacher", "teacher-vgg", "teacher-dense"],
)
def test_teachers_take_a_few_steps_in_bfloat16_on_the_jax_backend(tmp_path: Path, name: str) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import dying; from dataclasses import replace\n"
        "from pathlib import Path; from mien.training import recipes, trainer\n"
        "import numpy as np\n"
        "data = dying.data()\n"
        "dying.compare_few()\n"
        "data = replace(data, **{part.name: part.take(np.arange(8)) for part in data.splits})\n"
        "settings = ['size=16', 'epochs=2', 'batch_size=4', 'precision=bfloat16']\n"
        "recipe = recipes.override(recipes.get(sys.argv[3]), settings)\n"
        "trainer.fit(data, recipe, out=Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "run"), name]
    subprocess.run(command, env=os.environ | {"KERAS_BACKEND": "jax"}, capture_output=True, check=True)
    made = runs.open_run(tmp_path / "run")
    assert made.facts()["environment"]["backend"].startswith("jax")
    assert made.facts()["precision"] == "mixed_bfloat16"
    assert len(made.history()) == 2
    assert list(model_files.load(made.model_folder).card.heads) == ["fer2013", "ferplus"]


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_hold_every_image_once_and_copies_together(
    make_blobs: Callable[..., Dataset], folds: int
) -> None:
    whole = make_blobs({"train": 90}, size=24).split("train")
    images, labels = whole.images.copy(), whole.labels.copy()
    images[30] = images[0]
    images[31] = np.clip(images[0].astype(int) * 0.9 + 12, 0, 255).astype(np.uint8)
    images[45:60] = images[3]  # a crowd, labelled in three ways
    images[60] = images[4][:, ::-1]
    parts = assign_folds(replace(whole, images=images), ("left", "middle", "right"), folds, seed=1)
    assert sorted(np.concatenate(parts).tolist()) == list(range(90))
    home = {place: number for number, part in enumerate(parts) for place in part.tolist()}
    for together in ([0, 30, 31], [3, *range(45, 60)], [4, 60]):
        assert len({home[place] for place in together}) == 1
    again = assign_folds(replace(whole, images=images), ("left", "middle", "right"), folds, seed=1)
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))
    # The crowd counts as its first image's class; the others fill up around it.
    assert max(map(len, parts)) - min(map(len, parts)) <= 18
    for label in range(3):
        assert all((labels[part] == label).any() for part in parts)


def test_a_teacher_that_was_cut_short_is_refused(make_blobs: Callable[..., Dataset]) -> None:
    data = make_blobs({"train": 30, "val": 6})
    said = np.full((29, 3), 1 / 3, np.float32)
    short = probabilities.SavedPredictions(
        data.split("train").fingerprint, data.labels, {"probabilities": said}, "short"
    )
    with refused(DataError, 29, 30):
        targets.make_targets(data, recipes.get("quick"), short)


def test_too_few_different_images_for_the_folds_are_refused(make_blobs: Callable[..., Dataset]) -> None:
    whole = make_blobs({"train": 30}).split("train")
    images = whole.images.copy()
    images[::3] = images[0]
    images[3, 0, 0] ^= 1  # near the others of its class, and equal to none
    with refused(DataError, "'left'", 1, 2):
        folds.assign_folds(replace(whole, images=images), ("left", "middle", "right"), 2, seed=0)
    with refused(DataError, 2):
        folds.assign_folds(whole, ("left", "middle", "right"), 1, seed=0)


def test_folds_go_on_with_their_own_votes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dying.recipe("epochs=1", "targets.ferplus=1")
    made = trainer.train_folds(dying.data(), recipe, folds=2, out=tmp_path)
    before = made.read_bytes()
    for status in ("done", "training"):  # one is kept, the other goes on
        runs.open_run(tmp_path / "fold-1").update(status=status)
        with refused(DataError, "fold-1", "votes"):
            trainer.train_folds(other_votes(dying.data()), recipe, folds=2, out=tmp_path)
    made.unlink()
    assert trainer.train_folds(dying.data(), recipe, folds=2, out=tmp_path).read_bytes() == before


def test_a_fold_that_another_process_trains_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    lock = _files.hold(tmp_path / "claims" / "fold-1.lock")
    assert lock is not None
    said: list[str] = []

    def listen(sentence: str) -> None:
        said.append(sentence)
        if "waiting" in sentence:
            assert [each.name for each in tmp_path.glob("fold-*")] == ["fold-2"]
            lock.release()  # as if that process had died

    made = trainer.train_folds(dying.data(), dying.recipe("epochs=1"), folds=2, out=tmp_path, on_note=listen)
    assert made.is_file()
    assert [each for each in said if "waiting" in each] == ["waiting for 1 fold that other processes train"]


def test_folds_that_cannot_go_on_say_what_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dying.recipe("epochs=1", "optimizer.learning_rate=1e30", "optimizer.ema=0")
    with refused(TrainingError, "learning_rate=3.3e+29", "--out") as caught:
        trainer.train_folds(dying.data(), recipe, folds=2, out=tmp_path / "diverged")
    assert "--resume" not in str(caught.value)

    def full(self: runs.Run, state: runs.State) -> Path:
        raise OutputError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(runs.Run, "save", full)
        with refused(OutputError):
            trainer.train_folds(dying.data(), dying.recipe("epochs=1"), folds=2, out=tmp_path / "full")
    made = trainer.train_folds(dying.data(), dying.recipe("epochs=1"), folds=2, out=tmp_path / "full")
    assert made.is_file()


@pytest.mark.slow
def test_memory_does_not_grow(tmp_path: Path) -> None:
    resident: list[float] = []

    def measure(status: trainer.Status) -> None:
        if status.step == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident.append(pages * os.sysconf("SC_PAGE_SIZE"))

    recipe = dying.recipe("epochs=40", "stopping.patience=0")
    trainer.fit(dying.data(), recipe, out=tmp_path / "run", on_status=measure)
    assert len(resident) == 40
    assert resident[-1] < 1.05 * resident[3]


@pytest.mark.slow
@pytest.mark.real
def test_quick_reaches_its_score_on_fer2013(tmp_path: Path) -> None:
    source = os.environ.get("MIEN_FER2013")
    if not source:
        pytest.skip("set MIEN_FER2013 to FER2013's csv or archive")
    command = [sys.executable, "-m", "mien", "train", source, "--out", str(tmp_path / "run"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    document = json.loads(done.stdout)
    assert document["val"]["n"] == 3589
    assert document["val"]["accuracy"] >= 0.58
    assert document["cpu_seconds"] <= 660
    shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: replace(data, labels=("a\nb", *data.labels[1:])), "labels.0"),
        (lambda data: replace(data, labels=("$\\frac{$", *data.labels[1:])), "labels.0"),
        (lambda data: replace(data, labels=("\udcff", *data.labels[1:])), ""),
        (lambda data: replace(data, root="a\\b"), "data.name"),
    ],
)
def test_what_no_card_can_hold_is_refused_before_anything_is_trained(
    tmp_path: Path, change: Callable[[Any], Any], says: str
) -> None:
    with refused(DataError, says):
        trainer.fit(change(dying.data()), dying.recipe(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
