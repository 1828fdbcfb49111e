"""Recognise an archive by what it holds, check it, and read its files."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

from mien.data.archives.limits import DEFAULTS, Limits
from mien.data.archives.names import Member, shown
from mien.data.archives.streams import Packed, Plain
from mien.data.archives.tar import BLOCK, Tar, is_header
from mien.data.archives.zip import Zip
from mien.errors import ArchiveError

_ZIP = (b"PK\3\4", b"PK\5\6", b"PK\7\x08")
_PACKED = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}
_FOREIGN = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x1f\x9d": "compress",
}
_KINDS = "a zip or tar (plain, gz, bz2 or xz)"


class Contents(Protocol):
    """What Zip and Tar have in common: everything is checked but the files' bytes."""

    folders: list[str]
    files: list[Member]

    def walk(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Yield every file with its bytes in pieces; take the pieces before the next file."""


def _sniff(head: bytes) -> str | None:
    """Name what begins with `head`: zip, tar, gz, bz2, xz or none of them."""
    if head.startswith(_ZIP):
        return "zip"
    for magic, kind in _PACKED.items():
        if head.startswith(magic):
            return kind
    return "tar" if is_header(head[:BLOCK]) else None


@contextmanager
def open_archive(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file for reading.

    Raises:
        ArchiveError: There is none, it is no regular file, or it cannot be opened.
    """
    try:
        # Opening a fifo would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            what = "a folder" if path.is_dir() else "no regular file"
            raise ArchiveError(f"{shown(str(path))} is {what}; give {_KINDS}")
        file = path.open("rb")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ArchiveError(f"{shown(str(path))} cannot be opened: {why}; give {_KINDS}") from error
    with file:
        yield file


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a zip or a tar (plain, gz, bz2, xz) by its first bytes, whatever its name.

    A compressed file that is no tar within, such as `fer2013.csv.gz`, is none; one that is damaged at its
    very start counts as one, so that reading it says what is wrong.

    Args:
        path: Any path; a folder, or one that does not exist, is no archive.

    Raises:
        ArchiveError: The file cannot be opened.
    """
    if not Path(path).is_file():
        return False
    with open_archive(Path(path)) as file:
        kind = _sniff(file.read(BLOCK))
        if kind in (None, "zip", "tar"):
            return kind is not None
        try:
            return is_header(Packed(file, kind, DEFAULTS).some(BLOCK))
        except ArchiveError:
            return True


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"{shown(name)} cannot be used: {error}") from error


def check(file: BinaryIO, name: str, limits: Limits) -> Contents:
    """Check everything that can be checked before a file is read.

    Args:
        file: The open archive; stays in use until the last file is read.
        name: What errors call it.
        limits: The caps.

    Raises:
        ArchiveError: The archive is not one, damaged, unsafe, beyond the limits, or of no use.
    """
    with _named(name):
        contents = _Named(_parse(file, limits), name)
        if not contents.files:
            raise ArchiveError("it holds no files; give the archive that holds the data")
        # An archive of nothing but archives holds no data, and is how a bomb hides its size.
        if all(_sniff(next(pieces, b"")) for _, pieces in contents.inner.walk()):
            inner = shown(contents.files[0].name)
            raise ArchiveError(
                f"it holds nothing but archives, such as {inner}; unpack it and give one of those"
            )
    return contents


def _parse(file: BinaryIO, limits: Limits) -> Contents:
    file.seek(0)
    head = file.read(BLOCK)
    kind = _sniff(head)
    if kind == "zip":
        return Zip(file, limits)
    if kind == "tar":
        return Tar(lambda: Plain(file), limits)
    if kind is None:
        foreign = next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None)
        raise ArchiveError(f"it is {f'a {foreign} file' if foreign else 'no archive'}; give {_KINDS}")
    if not is_header(Packed(file, kind, limits).some(BLOCK)):
        raise ArchiveError(f"it is one compressed file, not an archive; unpack it with {_TOOLS[kind]}")
    return Tar(lambda: Packed(file, kind, limits), limits)


_TOOLS = {"gz": "gunzip", "bz2": "bunzip2", "xz": "unxz"}


class _Named:
    """Contents whose errors name the archive, wherever its pieces are taken."""

    def __init__(self, inner: Contents, name: str) -> None:
        self.inner = inner
        self.folders = inner.folders
        self.files = inner.files
        self._name = name

    def walk(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Yield every file with its bytes in pieces; take the pieces before the next file."""
        with _named(self._name):
            for member, pieces in self.inner.walk():
                yield member, self._pieces(pieces)

    def _pieces(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        with _named(self._name):
            yield from pieces


def members(
    archive: str | os.PathLike[str],
    *,
    limits: Limits = DEFAULTS,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Read the files of an archive one at a time, without unpacking it.

    Every name and size is checked before the first file is yielded. Folders and junk (`__MACOSX/`,
    `.DS_Store`, `Thumbs.db`) are left out.

    Args:
        archive: A zip or tar (plain, gz, bz2, xz), whatever its name.
        limits: The caps; one file is in memory at a time, so `file_bytes` bounds that.
        progress: Called with (bytes read, bytes in all) after every file.

    Yields:
        Name and bytes; names are safe relative posix paths, in the order they are stored.

    Raises:
        ArchiveError: The archive is not one, damaged, unsafe, or beyond the limits.
    """
    path = Path(archive)
    with open_archive(path) as file:
        contents = check(file, path.name, limits)
        done, total = 0, sum(member.size for member in contents.files)
        for member, pieces in contents.walk():
            # Its buffer becomes the bytes without a copy, which joining the pieces would need.
            whole = BytesIO()
            whole.writelines(pieces)
            done += member.size
            if progress:
                progress(done, total)
            yield member.name, whole.getvalue()
