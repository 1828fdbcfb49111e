"""Folds and searches on a Dask cluster: the same work as on one machine, whatever dies on the way."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import builders
import cluster_calls
import mien
from builders import has_line, refused
from mien import _dask, cli
from mien._processes import StopRequest
from mien.data import probabilities, synthetic
from mien.errors import DataError, InputError, Stopped, TrainingError
from mien.training import cluster_jobs, folds, runs

distributed = pytest.importorskip("distributed", reason="it comes with mien[cluster]")
needs_optuna = pytest.mark.skipif(
    importlib.util.find_spec("optuna") is None, reason="it comes with mien[tune]"
)
needs_keras = pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="it comes with mien[cpu]")
#: Of children as a user has them, which do not know `toy`.
SETTINGS = ("network=tiny", "size=24", "epochs=3", "batch_size=16")
TOY = ("network=toy", *SETTINGS[1:])


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_archive(
        tmp_path_factory.mktemp("faces") / "faces.zip", train=84, val=28, test=28, seed=0
    )


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    """A cluster of two workers on this machine, which can import what is in the folder of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", builders.python_path())
        with _dask.connect("local", workers=2) as client:
            yield client


def make(
    client: Any, function: Any, *, most: int = 2, stop: Any = None, needs: Any = None, **arguments: Any
) -> dict[str, Any]:
    """Make a call on the workers; return what it reported."""
    said: dict[str, Any] = {"notes": [], "progress": []}
    cluster_jobs.run(
        client,
        cluster_jobs.Call(
            cluster_calls.__name__, function.__name__, arguments, needs or cluster_jobs.Needs([])
        ),
        most=most,
        stop=stop or StopRequest(),
        saved="it is saved",
        on_progress=lambda *progress: said["progress"].append(progress),
        on_note=said["notes"].append,
    )
    return said


def test_calls_report_and_fail_as_in_this_process(workers: Any, tmp_path: Path) -> None:
    said = make(workers, cluster_calls.note, sentence="done")
    assert said["notes"] == ["done"]
    assert said["progress"]
    assert {what for what, _, _ in said["progress"]} <= {"work", "work; work"}
    with refused(DataError, "the data are bad"):
        make(workers, cluster_calls.fail)
    with refused(TrainingError, "RuntimeError", "no memory on the device"):
        make(workers, cluster_calls.crash, most=1)
    log = tmp_path / "log"
    said = make(workers, cluster_calls.die, most=1, log=log, times=1)
    assert len(log.read_text().splitlines()) == 2
    assert has_line("\n".join(said["notes"]), "-9", "memory")
    with refused(TrainingError, "3 trainings", "-9"):
        make(workers, cluster_calls.die, most=1, log=tmp_path / "other", times=99)


def test_a_signal_for_a_child_alone_costs_its_work_only(workers: Any, tmp_path: Path) -> None:
    said = make(workers, cluster_calls.stop_once, most=1, log=tmp_path / "log")
    assert len((tmp_path / "log").read_text().splitlines()) == 2
    assert has_line("\n".join(said["notes"]), "signal", "continues")


def test_a_worker_that_lacks_something_is_not_used(workers: Any, tmp_path: Path) -> None:
    here = [str(tmp_path)]
    for needs, names in (
        (cluster_jobs.Needs(here, ["no_such_package"]), ("no_such_package",)),
        (cluster_jobs.Needs([str(tmp_path / "none")]), (tmp_path / "none",)),
        (cluster_jobs.Needs(here, version="0.0.1"), ("0.0.1",)),
    ):
        with refused(InputError, "no worker can be used", *names):
            make(workers, cluster_calls.note, needs=needs, sentence="done")
    assert make(workers, cluster_calls.note, needs=cluster_jobs.Needs(here), sentence="done")["notes"] == [
        "done"
    ]


def test_after_a_signal_the_children_save(workers: Any, tmp_path: Path) -> None:
    stop = StopRequest()

    def interrupt() -> None:
        while len(list(tmp_path.glob("begun-*"))) < 2:
            time.sleep(0.05)
        stop.handle(signal.SIGINT, None)

    threading.Thread(target=interrupt, daemon=True).start()
    with refused(Stopped, "it is saved", "same command") as caught:
        make(workers, cluster_calls.wait, stop=stop, folder=tmp_path)
    assert caught.value.exit_code == 130
    assert len(list(tmp_path.glob("saved-*"))) == 2


@pytest.mark.long
def test_the_child_of_a_dead_worker_saves(workers: Any, tmp_path: Path) -> None:
    stop = StopRequest()

    def kill() -> None:
        while len(list(tmp_path.glob("begun-*"))) < 2:
            time.sleep(0.05)
        os.kill(next(iter(workers.run(os.getpid).values())), signal.SIGKILL)
        while not list(tmp_path.glob("saved-*")):
            time.sleep(0.05)
        stop.handle(signal.SIGTERM, None)

    threading.Thread(target=kill, daemon=True).start()
    with refused(Stopped):
        make(workers, cluster_calls.wait, stop=stop, folder=tmp_path)
    assert list(tmp_path.glob("saved-*"))


def test_workers_must_see_the_data_and_the_folder(workers: Any, tmp_path: Path) -> None:
    origin = {"source": str(tmp_path), "votes": None, "exclude": None}
    needs = cluster_jobs.check_workers(workers, origin, tmp_path, packages=["numpy"])
    assert needs == cluster_jobs.Needs([str(tmp_path)] * 2, ["numpy"])
    with refused(InputError, "path of the data"):
        cluster_jobs.check_workers(workers, {}, tmp_path)
    for options in (
        {"origin": origin, "folder": tmp_path / "none"},
        {"origin": {**origin, "votes": str(tmp_path / "none")}, "folder": tmp_path},
        {"origin": origin, "folder": tmp_path, "files": [str(tmp_path / "none")]},
    ):
        with refused(InputError, tmp_path / "none", "--out"):
            cluster_jobs.check_workers(workers, **options)  # type: ignore[arg-type]


@needs_keras
def test_workers_train_on_the_data_of_the_client_only(faces: Path, tmp_path: Path) -> None:
    from mien.training import recipes, trainer

    data = mien.load_dataset(faces, size=24)
    recipe = recipes.override(recipes.get("quick"), SETTINGS)
    with refused(DataError, faces, "other data"):
        trainer.join_folds(
            origin=data.origin,
            fingerprints=("another", None),
            recipe=recipe,
            folds=2,
            to=tmp_path,
            on_progress=print,
            on_note=print,
        )
    assert not list(tmp_path.iterdir())


def test_options_of_a_cluster_are_checked_before_the_data(
    away: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_dask, "_CONNECT", 2)
    for words, names in (
        (["train", "faces.zip", "--cluster", "local"], ("--cluster", "--folds")),
        (["train", "faces.zip", "--folds", "2", "--workers", "2"], ("--workers", "--cluster local")),
        (["train", "faces.zip", "--folds", "2", "--cluster", "local", "--workers", "0"], ("--workers", "0")),
        (["tune", "faces.zip", "--workers", "2"], ("--workers", "--cluster local")),
        (["train", "faces.zip", "--folds", "2", "--cluster", "nonsense"], ("nonsense", "scheduler")),
        (["tune", "faces.zip", "--cluster", "nonsense", "--workers", "2"], ("--workers", "own workers")),
        (["tune", "faces.zip", "--cluster", "nonsense"], ("nonsense", "scheduler")),
        (["train", "faces.zip", "--teacher", "fast,"], ("--teacher", "empty")),
    ):
        assert cli.run(words) == 2
        assert has_line(capsys.readouterr().err, *names)
    with refused(InputError, "cluster"):
        mien.train_folds("faces.zip", folds=2, cluster=3)  # type: ignore[arg-type]


# Trainings


@needs_keras
@pytest.mark.long
def test_folds_on_a_cluster_give_the_probabilities_of_this_machine(
    workers: Any, faces: Path, away: Path, small_exports: None
) -> None:
    options: dict[str, Any] = {"settings": TOY, "folds": 2}
    here = mien.train_folds(faces, out="here", **options)
    notes: list[str] = []
    options["cluster"] = workers.scheduler.address
    with builders.small_cluster_jobs():
        there = mien.train_folds(faces, out="there", on_note=notes.append, **options)
    assert there.images == here.images == 84
    assert probabilities.read(there.path).fingerprint == probabilities.read(here.path).fingerprint
    for number in (1, 2):
        one, other = (runs.open_run(f"{place}/fold-{number}") for place in ("here", "there"))
        assert one.facts()["data"]["fingerprint"] == other.facts()["data"]["fingerprint"]
        assert len(other.history()) == 3
    text = "\n".join(notes)
    assert has_line(text, "fold 1 of 2")
    assert has_line(text, "fold 2 of 2")
    before = there.path.read_bytes()
    again = mien.train_folds(faces, out="there", **options)
    assert again.path.read_bytes() == before


@needs_keras
@needs_optuna
@pytest.mark.long
def test_a_search_on_a_cluster_trains_each_trial_once(
    workers: Any, faces: Path, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tune", str(faces), "--out", "study", "--trials", "2", "--confirm", "1", "--json"]
    words += [word for each in TOY for word in ("--set", each)]
    with builders.small_cluster_jobs():
        assert cli.run([*words, "--cluster", workers.scheduler.address]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert [each["number"] for each in found["trials"]] == [1, 2]
    assert {each["state"] for each in found["trials"]} <= {"complete", "pruned"}
    assert [each["seed"] for each in found["best"]["confirmed"]] == [43]
    for number in (1, 2):
        assert err.count(f"trial {number} of 2: ") == 1
    assert Path("study/report.html").is_file()
    assert Path("study/best.toml").is_file()
    assert cli.run(words) == 0  # the same search without a cluster has nothing to do
    again = json.loads(capsys.readouterr().out)
    assert again["trials"] == found["trials"]
    assert again["best"]["confirmed"] == found["best"]["confirmed"]


@needs_keras
@pytest.mark.slow
def test_ctrl_c_saves_the_folds_and_the_same_command_continues(faces: Path, away: Path) -> None:
    words = [sys.executable, "-m", "mien", "train", str(faces), "--folds", "2", "--out", "folds", "--json"]
    words += [word for each in (*SETTINGS, "epochs=60") for word in ("--set", each)]
    words += ["--cluster", "local", "--workers", "2"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    histories = [Path(f"folds/fold-{number}/history.csv") for number in (1, 2)]
    while not all(file.is_file() and len(file.read_text().splitlines()) >= 3 for file in histories):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert has_line(err, "folds are saved", "same command")
    before = [runs.open_run(f"folds/fold-{number}").history() for number in (1, 2)]
    assert all(runs.open_run(f"folds/fold-{number}").load()[0] is not None for number in (1, 2))
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    for number, rows in zip((1, 2), before, strict=True):
        assert runs.open_run(f"folds/fold-{number}").history()[: len(rows)] == rows
    assert Path("folds", folds.FILE).is_file()


@needs_keras
@pytest.mark.slow
def test_two_processes_share_the_folds(faces: Path, away: Path) -> None:
    words = [sys.executable, "-m", "mien", "train", str(faces), "--folds", "2", "--out", "folds", "--json"]
    words += [word for each in SETTINGS for word in ("--set", each)]
    pair = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"]
    said = [each.communicate(timeout=600)[1] for each in pair]
    assert [each.returncode for each in pair] == [0, 0], said
    for number in (1, 2):
        assert sum(has_line(each, f"fold {number} of 2: trains on") for each in said) == 1
    assert Path("folds", folds.FILE).is_file()
