"""Files that appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from builders import refused
from mien import _files
from mien.errors import OutputError


def test_a_file_is_written_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.txt"
    _files.write(path, b"one")
    _files.write(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    path = tmp_path / "file"
    _files.write(path, b"old")

    def fail(descriptor: int) -> None:
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError if isinstance(failure, OSError) else KeyboardInterrupt):
        _files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_path_the_reason_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused(OutputError, tmp_path / "file" / "below", f"'{tmp_path / 'file'}'", ";") as caught:
        _files.write(tmp_path / "file" / "below", b"")
    assert isinstance(caught.value.__cause__, OSError)
    with refused(OutputError, "'folder'", "file exists", ";"), _files.writing("folder"):
        _files.write(tmp_path / "file" / "below", b"")
    with refused(OutputError, "mine"), _files.writing("folder"):
        raise OutputError("mine")


def test_a_maker_gets_a_name_of_the_same_kind(tmp_path: Path) -> None:
    seen: list[Path] = []

    def make(partial: Path) -> None:
        seen.append(partial)
        partial.write_text("made")

    _files.fill(tmp_path / "a.weights.h5", make)
    assert seen[0].name.endswith("a.weights.h5")
    assert seen[0].parent == tmp_path
    assert (tmp_path / "a.weights.h5").read_text() == "made"


def test_sweeping_takes_only_what_is_half_done(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ".partial-a").touch()
    (tmp_path / "in" / "whole").touch()
    _files.sweep(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "whole"]


def test_a_folder_that_will_not_sync_is_no_failure_but_a_broken_disk_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> None:
        def fsync(descriptor: int) -> None:
            raise OSError(number, "no")

        monkeypatch.setattr(os, "fsync", fsync)

    refuse(errno.EINVAL)
    _files.sync_folder(tmp_path)
    refuse(errno.EIO)
    with pytest.raises(OSError, match="no"):
        _files.sync_folder(tmp_path)
    monkeypatch.setattr(os, "name", "nt")
    _files.sync_folder(tmp_path)


def test_reasons_are_words() -> None:
    assert "full" in _files.reason(OSError(errno.ENOSPC, "No space left on device"))
    assert _files.reason(PermissionError(errno.EACCES, "Permission denied")) == "permission denied"
    assert _files.reason(OSError("odd")) == "odd"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="files cannot be created in /proc, on Linux")
def test_a_lock_that_cannot_be_made_is_not_a_lock_that_is_held(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        _files.hold("/proc/mien.lock")
    lock = _files.hold(tmp_path / "lock")
    assert lock is not None
    assert _files.hold(tmp_path / "lock") is None
    _files.let_go(lock)
    assert not list(tmp_path.iterdir())
