"""The run's folder: whole files, two generations of states, one trainer at a time."""

import contextlib
import ctypes
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from builders import refused, small_disk
from mien import _files
from mien.errors import OutputError, RunError
from mien.training import recipes, runs
from mien.training.runs import State

RECIPE = recipes.get("quick")


def state(step: int, *, size: int = 100) -> State:
    rng = np.random.default_rng(step)
    return State(
        step=step,
        arrays={"variables/0000": rng.random(size, np.float32), "best/0000": np.arange(3)},
        facts={"history": [{"epoch": 1.0}], "spent": {"seconds": 0.1}},
    )


@pytest.fixture
def made(tmp_path: Path) -> runs.Run:
    return runs.create(RECIPE, {}, out=tmp_path / "run")


def test_runs_are_numbered_and_gaps_are_not_filled(tmp_path: Path) -> None:
    parent = tmp_path / "runs"
    names = [runs.create(RECIPE, {}, runs=parent).name for _ in range(3)]
    assert names == ["quick-1", "quick-2", "quick-3"]
    (parent / "quick-9").mkdir()
    (parent / "quick-old").mkdir()
    assert runs.create(RECIPE, {}, runs=parent).name == "quick-10"
    assert runs.create(recipes.get("seed"), {}, runs=parent).name == "seed-1"


def test_processes_that_begin_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mien.training import recipes, runs\n"
        "for _ in range(5): print(runs.create(recipes.get('quick'), {}, runs=Path(sys.argv[1])).name)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    names = [name for process in processes for name in process.communicate()[0].split()]
    assert len(names) == len(set(names)) == 15


def test_a_run_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        runs.create(RECIPE, {}, runs=tmp_path / "file")
    with refused(RunError, "file"):
        runs.create(RECIPE, {}, out=tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_knows_its_name_from_any_path(made: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.path)
    assert runs.Run(Path()).name == made.name == "run"


def test_reports_are_kept_by_split_and_other_datas_apart(made: runs.Run) -> None:
    made.update(data={"splits": {"val": {"n": 3, "fingerprint": "a" * 64}}})
    own = made.keep_report({"split": "val", "split_fingerprint": "a" * 64, "n": 3})
    other = made.keep_report({"split": "val", "split_fingerprint": "b" * 64, "n": 4})
    assert (own.name, other.name) == ("val.json", f"val-{'b' * 12}.json")


def test_recipe_comes_back_equal(made: runs.Run) -> None:
    assert made.recipe() == RECIPE
    assert runs.open_run(made.path).recipe() == RECIPE


def test_a_folder_that_holds_something_is_refused(tmp_path: Path, made: runs.Run) -> None:
    with refused(RunError, "run", "--resume"):
        runs.create(RECIPE, {}, out=made.path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with refused(RunError, "photos"):
        runs.create(RECIPE, {}, out=tmp_path / "photos")
    (tmp_path / "file").touch()
    with refused(RunError, "file"):
        runs.create(RECIPE, {}, out=tmp_path / "file")
    assert runs.create(RECIPE, {}, out=tmp_path / "new" / "deep").path.is_dir()


@pytest.mark.parametrize("what", ["absent", "empty", "file"])
def test_what_is_no_run_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "empty":
        path.mkdir()
    elif what == "file":
        path.touch()
    with refused(RunError, what):
        runs.open_run(path)


def test_facts_are_kept_and_a_file_that_is_gone_is_named(made: runs.Run) -> None:
    assert made.facts() == {"recipe": recipes.to_dict(RECIPE)}
    made.update(status="training", labels=["a", "b"])
    made.update(status="done")
    assert made.facts() == {"recipe": recipes.to_dict(RECIPE), "status": "done", "labels": ["a", "b"]}
    made.update(name="bad\udcff.png")
    assert made.facts()["name"] == "bad\udcff.png"
    (made.path / "run.json").unlink()
    with refused(RunError, "run.json"):
        made.facts()
    (made.path / "recipe.toml").unlink()
    with refused(RunError, "recipe.toml"):
        made.recipe()


def test_history_reads_back_to_the_bit(made: runs.Run) -> None:
    with refused(RunError, "run"):
        made.history()
    rng = np.random.default_rng(0)
    rows = [{column: float(value) for column, value in zip(runs.COLUMNS, rng.random(9), strict=True)}] * 2
    rows[0]["val_loss"] = float("inf")
    made.write_history(rows)
    assert made.history() == rows


def test_a_state_comes_back_to_the_bit(made: runs.Run) -> None:
    assert made.load() == (None, [])
    saved = state(7)
    made.save(saved)
    loaded, complaints = made.load()
    assert loaded is not None
    assert complaints == []
    assert loaded.step == 7
    assert loaded.facts == saved.facts
    assert set(loaded.arrays) == set(saved.arrays)
    for name, array in saved.arrays.items():
        np.testing.assert_array_equal(loaded.arrays[name], array)
        assert loaded.arrays[name].dtype == array.dtype
    np.testing.assert_array_equal(loaded.group("best")[0], np.arange(3))


def test_the_two_newest_states_stay(made: runs.Run) -> None:
    for step in (5, 9, 100, 12_345):
        made.save(state(step))
    names = sorted(path.name[:16] for path in (made.path / "checkpoints").iterdir())
    assert names == ["state-0000000100", "state-0000012345"]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "rename"])
def test_a_damaged_state_is_noticed_and_the_one_before_is_used(made: runs.Run, damage: str) -> None:
    made.save(state(1))
    newest = made.save(state(2))
    data = bytearray(newest.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        newest.write_bytes(data)
    elif damage == "cut":
        newest.write_bytes(data[:-10])
    elif damage == "empty":
        newest.write_bytes(b"")
    else:
        newest.rename(newest.with_name("state-0000000009-abc.npz"))
    loaded, complaints = made.load()
    assert loaded is not None
    assert loaded.step == 1
    assert len(complaints) == 1


def test_when_every_state_is_damaged_it_says_so(made: runs.Run) -> None:
    made.save(state(1)).write_bytes(b"gone")
    with refused(RunError, "run"):
        made.load()


def test_a_state_of_another_kind_is_refused_though_its_hash_is_right(made: runs.Run) -> None:
    import hashlib

    data = b"not an archive at all"
    name = f"state-0000000001-{hashlib.sha256(data).hexdigest()}.npz"
    (made.path / "checkpoints").mkdir()
    (made.path / "checkpoints" / name).write_bytes(data)
    with refused(RunError):
        made.load()


def hold(path: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with runs.Run(path).lock():
        ready.set()
        import time

        time.sleep(60)


def test_one_process_trains_a_run_and_a_dead_one_holds_nothing(made: runs.Run) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(made.path, ready))
    process.start()
    assert ready.wait(30)
    with refused(RunError, "run"), made.lock():
        pass
    process.kill()
    process.join()
    with made.lock():
        pass


def test_where_advisory_locks_are_unknown_a_lock_file_does(
    made: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import filelock

    def unknown(self: object, **options: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", unknown)
    with made.lock():
        assert (made.path / "run.lock").exists()
        with refused(RunError, "run"), made.lock():
            pass


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    _files.write(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with refused(OutputError, "file"):
        _files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("kilobytes", [28, 30, 32, 40, 48, 60, 64, 72, 80, 96])
def test_on_a_full_disk_the_last_state_still_loads(tmp_path: Path, kilobytes: int) -> None:
    with small_disk(tmp_path / "disk", kilobytes=kilobytes):
        made = runs.create(RECIPE, {}, out=tmp_path / "disk" / "run")
        done = 0
        with contextlib.suppress(OutputError):
            for step in range(1, 8):
                made.save(state(step, size=500 * step))
                done = step
        loaded, complaints = made.load()
        assert complaints == []
        assert (loaded.step if loaded else 0) == done
        assert not list(made.path.rglob(".partial-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=64):
        made = runs.create(RECIPE, {}, out=tmp_path / "disk" / "run")
        made.save(state(1))
        ctypes.CDLL(None).mount(b"none", str(tmp_path / "disk").encode(), b"tmpfs", 1 | 32, None)
        with refused(OutputError):
            made.save(state(2))
        with refused(OutputError, "other"):
            runs.create(RECIPE, {}, out=tmp_path / "disk" / "other")
        with refused(RunError, "run"), made.lock():
            pass
        loaded, _ = made.load()
        assert loaded is not None
        assert loaded.step == 1


def test_damaged_files_of_a_run_are_told_in_one_sentence(tmp_path: Path) -> None:
    made = runs.create(recipes.get("quick"), {"data": {}}, out=tmp_path / "run")
    for content in ("{}", "[]", '{"data": 1, "recipe": {}}', "{"):
        (made.path / "run.json").write_text(content)
        with refused(RunError, "run.json"):
            made.facts()
    (made.path / "recipe.toml").write_bytes(b"\xff")
    with refused(RunError, "recipe.toml"):
        made.recipe()
    for content in ("epoch,loss\n1,a word\n", "epoch,loss\n1\n"):
        (made.path / "history.csv").write_text(content)
        with refused(RunError, "history.csv"):
            made.history()
