"""Unpack into a folder that is complete or absent."""

import errno
import hashlib
import json
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mien.data.archives.limits import DEFAULTS, Limits
from mien.data.archives.names import NOTE, is_junk, shown
from mien.data.archives.reading import Contents, check, open_archive
from mien.errors import ArchiveError

_FORMAT = 1
_PATIENCE = 600.0  # seconds to wait for another process that unpacks into the same folder


@dataclass(frozen=True)
class Extraction:
    """An unpacked archive.

    Args:
        root: The folder, as it was given.
        files: Files in it, mien's own note left out.
        bytes: Their bytes together.
        found_done: It was there already, from this very archive.
    """

    root: Path
    files: int
    bytes: int
    found_done: bool


def unpack(
    archive: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    limits: Limits = DEFAULTS,
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """Unpack an archive into a folder that is complete or absent, at any moment and after any failure.

    The files are written into a hidden folder beside it, synced, and renamed. A folder that holds anything
    but this archive's files is left alone.

    Args:
        archive: A zip or tar (plain, gz, bz2, xz), whatever its name.
        to: The folder to make; absent, empty, or made from this archive before. Folders above it are made
            too.
        limits: The caps.
        progress: Called with (bytes written, bytes in all) after every file.

    Raises:
        ArchiveError: The archive is not one, damaged, unsafe or beyond the limits; the folder holds something
            else; or it cannot be written.
    """
    source, root = Path(archive), Path(to)
    target = Path(os.path.realpath(root))
    with open_archive(source) as file, _explained(source, root):
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        found = _find(root, target, digest)
        if found:
            _sweep(root, target)
            return found
        contents = check(file, source.name, limits)
        with _parents(target), _alone(root, target):
            # Whoever held the lock may have made the folder meanwhile.
            found = _find(root, target, digest)
            if found:
                return found
            try:
                _write(contents, target, digest, progress)
            except BaseException:
                # The first error is the one to tell; what cannot be removed now, the next run removes.
                with suppress(OSError):
                    shutil.rmtree(_partial(target))
                raise
    return Extraction(root, len(contents.files), sum(member.size for member in contents.files), False)


def _partial(target: Path) -> Path:
    # Two targets whose names share so much share the lock too.
    return target.with_name(f".{target.name[:40]}.mien-partial")


def _lock(target: Path) -> Path:
    return target.with_name(f".{target.name[:40]}.mien-lock")


@contextmanager
def _explained(source: Path, root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = "choose another folder"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "free some space or choose a folder on another disk"
        what = f"{shown(source.name)} cannot be unpacked into {shown(str(root))}"
        raise ArchiveError(f"{what}: {error.strerror or error}; {advice}") from error


@contextmanager
def _parents(target: Path) -> Iterator[None]:
    """Make the folders above; take them away again if the work fails."""
    missing = [folder for folder in target.parents if not folder.exists()]
    if not target.parents[len(missing)].is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "what lies above it is a file")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        # Another process may have put something there meanwhile; then they stay.
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()
        raise


@contextmanager
def _alone(root: Path, target: Path) -> Iterator[None]:
    """Let one process at a time work on `target`, and clear away what a process that died left beside it."""
    path = _lock(target)
    lock = FileLock(path, timeout=_PATIENCE)
    try:
        lock.acquire()
    except Timeout as error:
        raise ArchiveError(
            f"another process is unpacking into {shown(str(root))}; wait for it or choose another folder"
        ) from error
    try:
        if _partial(target).exists():
            shutil.rmtree(_partial(target))
        yield
    finally:
        # While it is held: whoever waits for the removed file sees that it has no name, and makes a new one.
        # Windows removes no open file, and filelock does it there.
        with suppress(PermissionError):
            path.unlink(missing_ok=True)
        lock.release()


def _sweep(root: Path, target: Path) -> None:
    """Clear away what a process left that died after it had made `target`."""
    if _partial(target).exists() or _lock(target).exists():
        with _alone(root, target):
            pass


def _find(root: Path, target: Path, digest: str) -> Extraction | None:
    """Look at what is in the target's place: nothing (None), this archive's files, or something else.

    Raises:
        ArchiveError: Something else.
    """
    if not target.exists():
        return None
    name, other = shown(str(root)), "move it away or choose another folder"
    if not target.is_dir():
        raise ArchiveError(f"{name} is a file, not a folder to unpack into; {other}")
    try:
        note = json.loads((target / NOTE).read_bytes())
        made, listing, files, size = note["archive"], note["listing"], int(note["files"]), int(note["bytes"])
    except FileNotFoundError as error:
        if not any(target.iterdir()):
            return None
        raise ArchiveError(f"{name} holds other files already; {other}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"{name} holds a {NOTE} that mien cannot read; {other}") from error
    if made != digest:
        raise ArchiveError(f"{name} was unpacked from another archive; {other}")
    if listing != _digest(_listed(target)):
        raise ArchiveError(f"{name} was unpacked from this archive and has changed since; {other}")
    return Extraction(root, files, size, True)


def _listed(target: Path) -> Iterator[str]:
    """Yield a line for every file below `target` but junk: its name and size."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(target / folder) as found:
            for item in found:
                path = f"{folder}{item.name}"
                if item.is_dir(follow_symlinks=False):
                    waiting.append(f"{path}/")
                elif not is_junk(path):
                    regular = item.is_file(follow_symlinks=False)
                    yield _line(path, item.stat(follow_symlinks=False).st_size if regular else "no file")


def _line(path: str, value: object) -> str:
    # Some disks of a Mac give names back in another normal form.
    return f"{unicodedata.normalize('NFC', path)}\0{value}\n"


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()


def _write(
    contents: Contents, target: Path, digest: str, progress: Callable[[int, int], None] | None
) -> None:
    """Write the files beside `target`, sync them, and rename."""
    partial = _partial(target)
    total = sum(member.size for member in contents.files)
    free = shutil.disk_usage(target.parent).free
    if free < total:
        raise OSError(errno.ENOSPC, f"it needs {total:,} bytes and the disk has {free:,} left")
    partial.mkdir()
    for folder in contents.folders:
        (partial / folder).mkdir()
    done = 0
    listing, tree = [], []
    for member, pieces in contents.walk():
        whole = hashlib.sha256()
        with (partial / member.name).open("xb", buffering=0) as file:
            for piece in pieces:
                whole.update(piece)
                file.write(piece)
            if not _SYNC:
                os.fsync(file.fileno())
        listing.append(_line(member.name, member.size))
        tree.append(_line(member.name, whole.hexdigest()))
        done += member.size
        if progress:
            progress(done, total)
    note = {
        "format": _FORMAT,
        "archive": digest,
        "files": len(listing),
        "bytes": total,
        "listing": _digest(listing),
        "tree": _digest(tree),
    }
    with (partial / NOTE).open("x", encoding="utf-8") as out:
        out.write(json.dumps(note, indent=2) + "\n")
        out.flush()
        os.fsync(out.fileno())
    _settle(partial, target)


# One sync for all: a sync for each of the 35,887 files of FER2013 takes longer than writing them.
_SYNC = hasattr(os, "sync")


def _settle(partial: Path, target: Path) -> None:
    if _SYNC:
        os.sync()
    if target.exists():
        # It is empty, or this fails; a rename over it would work on some systems only.
        target.rmdir()
    partial.rename(target)
    if os.name == "posix":
        parent = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
