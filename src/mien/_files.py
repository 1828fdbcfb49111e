"""Write files atomically: a file is complete or absent, even after a power cut."""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType

import filelock

from mien.errors import InputError, OutputError

#: What to do if a file cannot be written, by the number of the system's error.
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space or choose another disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a folder that you can write to"),
}


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the content of a file atomically; create its folder if it does not exist.

    Raises:
        OutputError: The file cannot be written; `path` is unchanged.
    """
    fill(path, lambda partial: partial.write_bytes(data))


def fill(path: str | os.PathLike[str], make: Callable[[Path], object]) -> None:
    """Let `make` write a temporary file beside `path`, then move it to `path` atomically.

    Args:
        path: The file to write; its folder is created if it does not exist.
        make: Function that writes the file at the path it gets, which has the same suffixes as `path`.

    Raises:
        OutputError: The file cannot be written; `path` is unchanged. Other errors of `make` pass through.
    """
    path = Path(path)
    partial = path.with_name(f".partial-{path.name}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            make(partial)
            _sync(partial)
            partial.replace(path)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise an OSError of the block as the OutputError that `path` cannot be written.

    An OutputError of a file inside the folder `path` becomes one of the folder.
    """
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from error
    except OutputError as error:
        if isinstance(error.__cause__, OSError):
            raise _unwritable(path, error.__cause__) from error.__cause__
        raise


def _unwritable(path: str | os.PathLike[str], error: OSError) -> OutputError:
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        parent = next((parent for parent in Path(path).parents if os.path.lexists(parent)), None)
        if parent is not None and not parent.is_dir():
            return OutputError(
                f"'{os.fspath(path)}' cannot be written: '{parent}' is a file, not a folder; "
                "choose another path"
            )
    advice = _ADVICE.get(error.errno or 0, "choose another path")
    return OutputError(f"'{os.fspath(path)}' cannot be written: {reason(error)}; {advice}")


def hold(path: str | os.PathLike[str]) -> filelock.BaseFileLock | None:
    """Lock the file `path` and return the lock, or None if another process holds it.

    The lock of a process that died is free again.

    Raises:
        OSError: The file cannot be created or opened.
    """
    lock: filelock.BaseFileLock = filelock.FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except NotImplementedError:
            # Some network drives have no advisory locks.
            lock = filelock.SoftFileLock(path)
            lock.acquire(timeout=0)
    except filelock.Timeout:
        # filelock also times out if the file cannot be created, as in /proc. Creating another file there
        # raises the reason.
        if not os.path.lexists(path):
            _check_creates(Path(path))
        return None
    return lock


@contextlib.contextmanager
def hold_when_free(path: str | os.PathLike[str], *, seconds: float = 0.05) -> Iterator[None]:
    """Lock the file `path` during the block; wait while another process holds it.

    Args:
        path: The file, in a folder that exists.
        seconds: Between two tries.

    Raises:
        OutputError: The file cannot be created or opened.
    """
    while True:
        with writing(path):
            lock = hold(path)
        if lock is not None:
            break
        time.sleep(seconds)
    try:
        yield
    finally:
        lock.release()


def _check_creates(path: Path) -> None:
    probe = path.with_name(f".partial-{path.name}")
    os.close(os.open(probe, os.O_CREAT | os.O_RDWR, 0o600))
    probe.unlink(missing_ok=True)


def let_go(lock: filelock.BaseFileLock) -> None:
    """Release a lock and delete its file if possible."""
    with contextlib.suppress(OSError):
        # Before the release, so that no other process locks a file that is being deleted. Windows refuses.
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def sweep(folder: str | os.PathLike[str]) -> None:
    """Delete the temporary files of killed processes below `folder`; no process may be writing there."""
    for partial in Path(folder).rglob(".partial-*"):
        partial.unlink(missing_ok=True)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make a rename in `folder` durable, if the system supports it."""
    if os.name != "posix":
        return
    try:
        _sync(Path(folder))
    except OSError as error:
        # Network drives cannot sync a folder; the rename is done all the same.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise


def reason(error: OSError) -> str:
    """Return the reason of an error of the file system in a few words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return (error.strerror or str(error)).lower()


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path]) -> None:
    """Refuse outputs that would overwrite an input or write into an input folder.

    Args:
        outputs: The files and folders to write, by what messages call them: `--html page.html`.
        inputs: The files and folders that are read.

    Raises:
        InputError: An output is an input, another name of it or inside it; or two outputs are one file.
    """
    named = {what: path for what, path in outputs.items() if path is not None}
    for source in inputs:
        for what, path in named.items():
            if _overwrites(path, source):
                raise InputError(f"{what} would overwrite the input {source}; choose another path")
    seen: dict[Path, str] = {}
    for what, path in named.items():
        if (place := _resolved(path)) in seen:
            raise InputError(f"{what} and {seen[place]} are the same file; choose different paths")
        seen[place] = what


def _overwrites(output: Path, source: Path) -> bool:
    try:
        if not source.exists():
            return False
        # By identity too, because of links and of systems in which two spellings are one name.
        place = output.resolve()
        return place == source.resolve() or any(
            each.exists() and each.samefile(source) for each in (place, *place.parents)
        )
    except (OSError, RuntimeError):
        # The name is too long, or links form a ring: opening it reports the error.
        return False


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_path(name: str, value: object, *also: type, error: type[InputError] = InputError) -> None:
    """Check that an argument is a path or of another type that the function takes.

    Args:
        name: The argument.
        value: Its value.
        also: Other types; `NoneType` for an argument that may be omitted.
        error: The class of the error.

    Raises:
        InputError: It has another type.
    """
    if isinstance(value, (str, os.PathLike, *also)):
        return
    others = "".join(f" or a {each.__name__}" for each in also if each is not NoneType)
    raise error(f"{name} is of type {type(value).__name__}; give a path{others}")
