"""Files that appear whole or not at all, whenever the machine stops."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

import filelock


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that `path` holds the old content or the new, whole; its folder is made if need be.

    Raises:
        OSError: The disk is full, or the place cannot be written to; `path` is as it was.
    """
    fill(path, lambda partial: partial.write_bytes(data))


def fill(path: str | os.PathLike[str], make: Callable[[Path], object]) -> None:
    """Have `make` write a file beside `path`, and put it there once it is whole and on the disk.

    Args:
        path: Where the file goes.
        make: Writes the file whose path it is given, which has the same suffixes as `path`.

    Raises:
        OSError: As `write`; whatever else `make` raises passes through. `path` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    try:
        make(partial)
        _sync(partial)
        partial.replace(path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def hold(path: str | os.PathLike[str]) -> filelock.BaseFileLock | None:
    """Return a lock that is held in the file `path`; None where another process holds it.

    A lock whose holder died is taken over.

    Raises:
        OSError: The file cannot be created or opened.
    """
    lock: filelock.BaseFileLock = filelock.FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except NotImplementedError:
            # Some network drives know no advisory locks; there a file with the holder's id must do.
            lock = filelock.SoftFileLock(path)
            lock.acquire(timeout=0)
    except filelock.Timeout:
        # filelock also times out if the file cannot be created, as in /proc; creating another file beside it
        # raises the reason.
        if not os.path.lexists(path):
            _check_creates(Path(path))
        return None
    return lock


def _check_creates(path: Path) -> None:
    probe = path.with_name(f".partial-{path.name}")
    os.close(os.open(probe, os.O_CREAT | os.O_RDWR, 0o600))
    probe.unlink(missing_ok=True)


def let_go(lock: filelock.BaseFileLock) -> None:
    """Release a lock and delete its file, where that can be done."""
    with contextlib.suppress(OSError):
        # Before it is released, so that nobody holds a file that is about to go; Windows does not let us.
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def sweep(folder: str | os.PathLike[str]) -> None:
    """Delete what writers that died left half done, in `folder` and below; nobody may be writing there."""
    for partial in Path(folder).rglob(".partial-*"):
        partial.unlink(missing_ok=True)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make a rename in `folder` last through a power cut, where the system can."""
    if os.name != "posix":
        return
    try:
        _sync(Path(folder))
    except OSError as error:
        # Network drives refuse to sync a folder; the rename itself has happened.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise


def reason(error: OSError) -> str:
    """Say in a few words why a file could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return (error.strerror or str(error)).lower()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
