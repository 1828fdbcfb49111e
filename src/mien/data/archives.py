"""Read an archive safely; unpack it into a folder that is complete or absent.

`members(archive)` yields the files of a zip or tar one at a time, without a folder; `unpack(archive, to)`
writes them. The first bytes decide the format, never the name. `zipfile` and `tarfile` parse; this module
refuses what they accept and what does harm, before the first file is handed out or while it is decompressed.
docs/extract.md lists the refusals.
"""

import bz2
import errno
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from filelock import FileLock, Timeout

from mien import _files
from mien._text import quote
from mien.errors import ArchiveError, OutputError

#: mien's own record in an unpacked folder; a folder that was packed again contains it.
NOTE = ".mien-extract.json"

_FORMAT = 1
_PATIENCE = 600.0  # seconds to wait for another process that unpacks into the same folder
_PIECE = 2**20  # bytes handed on at once
_PART_BYTES = 255  # the longest name that ext4, APFS and NTFS all take
# A ratio above the limit is harmless below this size, and common: a black bitmap packs a thousandfold.
_RATIO_EXEMPT = 2**20
_ENTRY_BYTES = 128  # of an entry in a zip's directory, without its name
_MAX_HEADERS = 2**20  # bytes of tar headers before one file: pax records, long names
_MAX_PADDING = 2**24  # GNU tar pads to 10 KiB; the largest blocking factors in use, to a few MiB
# An xz file may ask for a dictionary of up to 4 GiB; `xz -9`, the largest preset, needs 65 MiB.
_XZ_MEMORY = 2**27

_KINDS = "a zip or tar (plain, gz, bz2 or xz)"
_REPACK = "pack the archive again without it"
_FETCH = "download the archive again"
_CUT_OFF = f"it is incomplete; {_FETCH}"
_VOLUMES = "it is one part of several; join the parts into one zip first"

_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"} | dict.fromkeys(
    (b"PK\3\4", b"PK\5\6", b"PK\7\x08"), "zip"
)
_FOREIGN = {b"7z\xbc\xaf": "7z", b"Rar!": "rar", b"\x28\xb5\x2f\xfd": "zstd", b"\x1f\x9d": "compress"}
_TOOLS = {"gz": "gunzip", "bz2": "bunzip2", "xz": "unxz"}
_ENCRYPTED, _PATCH, _UTF8 = 1 << 0 | 1 << 6 | 1 << 13, 1 << 5, 1 << 11
_TAR_TYPES = {b"S": "a sparse file", b"M": "part of a file of several volumes"} | dict.fromkeys(
    (b"1", b"2", b"3", b"4", b"6"), "a link or a device"
)
# What zipfile, tarfile and the decoders raise for damaged data; RuntimeError includes RecursionError.
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, OverflowError, RuntimeError, ValueError),
)

_JUNK = frozenset({".ds_store", "thumbs.db", "desktop.ini", NOTE})
_DRIVE = re.compile(r"[A-Za-z]:")
# Cc control, Cs half a surrogate pair, Zl and Zp line ends: none can be printed in one line.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
# These change the direction of text, so that a name reads as another one.
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits for one archive; the defaults leave room for the largest public sets of cropped faces.

    Args:
        entries: Files and folders, including folders that only a file's name implies.
        bytes: All files together, unpacked.
        file_bytes: One file, unpacked; `fer2013.csv` has 301 million bytes.
        ratio: Unpacked bytes per packed byte, of one file and of the whole; files and archives that unpack
            to less than 1 MiB are exempt. Photographs reach 2, csv files of pixels 4, deflate at most 1032.
        names_bytes: All names together, in UTF-8; it bounds the memory that names take.
        path_bytes: One name, in UTF-8. One part of it has at most 255 bytes.
        depth: Parts of one name.
    """

    entries: int = 200_000
    bytes: int = 16 * 2**30
    file_bytes: int = 512 * 2**20
    ratio: int = 100
    names_bytes: int = 16 * 2**20
    path_bytes: int = 1024
    depth: int = 32


_DEFAULTS = Limits()


@dataclass(frozen=True)
class Extraction:
    """An unpacked archive.

    Args:
        root: The folder, as it was given.
        files: Number of files in it, without mien's own record.
        bytes: Their bytes together.
        found_done: Whether an earlier run unpacked the same archive.
    """

    root: Path
    files: int
    bytes: int
    found_done: bool


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a zip or a tar (plain, gz, bz2, xz) by its first bytes, under any name.

    A compressed file that contains no tar, such as `fer2013.csv.gz`, is not an archive. A compressed file
    that is damaged at its start counts as an archive, so that reading it reports the damage.

    Args:
        path: Any path; a folder and a missing file are not archives.

    Raises:
        ArchiveError: The file cannot be opened.
    """
    if not Path(path).is_file():
        return False
    with _open(Path(path)) as file:
        kind = _sniff(file.read(tarfile.BLOCKSIZE))
        if kind in (None, "zip", "tar"):
            return kind is not None
        try:
            return _is_tar(_Stream(file, kind, _DEFAULTS).take(tarfile.BLOCKSIZE))
        except ArchiveError:
            return True


def members(
    archive: str | os.PathLike[str],
    *,
    limits: Limits = _DEFAULTS,
    only_if: Callable[[Sequence[str]], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Read the files of an archive one at a time, without unpacking it.

    Every name and size is checked before the first file is yielded. Folders and junk (`__MACOSX/`,
    `.DS_Store`, `Thumbs.db`) are left out.

    Args:
        archive: A zip or tar (plain, gz, bz2, xz), under any name.
        limits: One file is in memory at a time, so `file_bytes` bounds the memory.
        only_if: Called with the names of all files; if it returns False, no file is read.
        progress: Called with (bytes read, bytes in all) after every file.

    Yields:
        Name and content; names are safe relative posix paths, in the order in which they are stored.

    Raises:
        ArchiveError: The file is not an archive, or is damaged, unsafe, or beyond the limits.
    """
    path = Path(archive)
    with _open(path) as file:
        contents = _Contents(file, path.name, limits)
        if only_if is not None and not only_if([member.name for member in contents.tree.files]):
            return
        done = 0
        for member in contents.tree.files:
            # Its buffer becomes the bytes without a copy, which joining the pieces would need.
            whole = io.BytesIO()
            whole.writelines(contents.read(member))
            done += member.size
            if progress:
                progress(done, contents.tree.bytes)
            yield member.name, whole.getvalue()


def unpack(
    archive: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    limits: Limits = _DEFAULTS,
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """Unpack an archive into a folder that is complete or absent, at any moment and after any failure.

    The files are written into a hidden folder beside it, synced, and renamed. A folder that contains
    anything but this archive's files is left alone.

    Args:
        archive: A zip or tar (plain, gz, bz2, xz), under any name.
        to: The folder to create, with its parents; it may be empty or made from this archive before.
        limits: What the archive may contain.
        progress: Called with (bytes written, bytes in all) after every file.

    Raises:
        ArchiveError: The file is not an archive, or is damaged, unsafe or beyond the limits; or the folder
            contains something else.
        OutputError: The folder cannot be written.
    """
    source, root = Path(archive), Path(to)
    target = Path(os.path.realpath(root))
    with _open(source) as file, _reported(source, root):
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        found = _find(root, target, digest)
        if found:
            # Remove what a process left that died after it had made `target`.
            if _partial(target).exists() or _lock(target).exists():
                with _locked(root, target):
                    pass
            return found
        contents = _Contents(file, source.name, limits)
        with _parents(target), _locked(root, target):
            # The process that held the lock may have made the folder.
            found = _find(root, target, digest)
            if found:
                return found
            try:
                _write(contents, target, digest, progress)
            except BaseException:
                # The first error is the one to report; the next run removes what cannot be removed now.
                with suppress(OSError):
                    shutil.rmtree(_partial(target))
                raise
    return Extraction(root, len(contents.tree.files), contents.tree.bytes, False)


class _Member(NamedTuple):
    """One file of an archive: a safe relative posix path, its unpacked bytes, and where its content is."""

    name: str
    size: int
    place: Any


class _Contents:
    """The checked contents of an open archive, which errors call `name`; `tree` has its files and folders."""

    def __init__(self, file: BinaryIO, name: str, limits: Limits) -> None:
        self._name = name
        self.tree = _Tree(limits)
        with self._named():
            kind = _recognise(file, limits)
            if kind == "zip":
                self._pieces = _scan_zip(file, self.tree)
            else:
                self._pieces = _scan_tar(file, kind, self.tree)
            if not self.tree.files:
                raise ArchiveError("it contains no files; give the archive that contains the data")
            # An archive of nothing but archives contains no data, and is how a bomb hides its size.
            if all(_sniff(next(self.read(member), b"")) for member in self.tree.files):
                inner = quote(self.tree.files[0].name)
                raise ArchiveError(
                    f"it contains only archives, such as {inner}; unpack it and give one of those"
                )

    @contextmanager
    def _named(self, member: str | None = None) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            why = "".join(letter if letter.isprintable() else "?" for letter in str(error))
            what = "it" if member is None else f"member {quote(member)}"
            raise ArchiveError(
                f"{quote(self._name)} cannot be used: {what} is damaged ({why}); {_FETCH}"
            ) from error
        except ArchiveError as error:
            start = f"{quote(self._name)} cannot be used: "
            raise ArchiveError(start + str(error).removeprefix(start)) from error

    def read(self, member: _Member) -> Iterator[bytes]:
        """Yield a file's bytes in pieces; of a tar, ask for files in their order."""
        left = member.size
        with self._named(member.name):
            for piece in self._pieces(member):
                left -= len(piece)
                yield piece
            if left:
                raise ArchiveError(_CUT_OFF)


@contextmanager
def _open(path: Path) -> Iterator[io.BufferedReader]:
    try:
        # Opening a fifo would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            what = "a folder" if path.is_dir() else "not a regular file"
            raise ArchiveError(f"{quote(str(path))} is {what}; give {_KINDS}")
        file = path.open("rb")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ArchiveError(f"{quote(str(path))} cannot be opened: {why}; give {_KINDS}") from error
    with file:
        yield file


def _recognise(file: BinaryIO, limits: Limits) -> str:
    file.seek(0)
    head = file.read(tarfile.BLOCKSIZE)
    kind = _sniff(head)
    if kind is None:
        foreign = next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None)
        raise ArchiveError(f"it is {f'a {foreign} file' if foreign else 'not an archive'}; give {_KINDS}")
    if kind in _TOOLS and not _is_tar(_Stream(file, kind, limits).take(tarfile.BLOCKSIZE)):
        raise ArchiveError(f"it is one compressed file, not an archive; unpack it with {_TOOLS[kind]}")
    return kind


def _sniff(head: bytes) -> str | None:
    """Return what begins with `head`: zip, tar, gz, bz2, xz or None."""
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    return kind or ("tar" if _is_tar(head[: tarfile.BLOCKSIZE]) else None)


def _is_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _check_ratio(what: str, unpacked: int, packed: int, limits: Limits) -> None:
    if unpacked >= _RATIO_EXEMPT and unpacked > limits.ratio * packed:
        bomb = f"{what} is a decompression bomb: {packed:,} bytes become {unpacked:,} or more"
        raise _beyond(bomb, "ratio")


def _refused(name: str, why: str, advice: str = _REPACK) -> ArchiveError:
    return ArchiveError(f"member {quote(name)} {why}; {advice}")


def _beyond(what: str, limit: str) -> ArchiveError:
    return ArchiveError(f"{what}; if you trust it, raise {limit} in mien.data.archives.Limits")


class _Directory:
    """A zip file from which `zipfile` cannot read a directory of more entries than the limits allow."""

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._file, self._limits = file, limits
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        limits = self._limits
        if count > max(_PIECE, limits.names_bytes + _ENTRY_BYTES * limits.entries):
            raise _beyond(f"its zip directory has {count:,} bytes", "entries and names_bytes")
        data = self._file.read(count)
        if data.startswith(b"PK\1\2") and data.count(b"PK\1\2") > limits.entries:
            raise _beyond(f"it has more than {limits.entries:,} entries", "entries")
        return data


def _scan_zip(file: BinaryIO, tree: "_Tree") -> Callable[[_Member], Iterator[bytes]]:
    """Add the files of a zip to `tree`; return what reads one of them."""
    archive = _open_zip(file, tree.limits)
    entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    ends = [*(entry.header_offset for entry in entries[1:]), archive.start_dir]
    for entry, end in zip(entries, ends, strict=False):
        # `zipfile` cuts names at NUL, and takes the UTF-8 of tools that do not flag it for code page 437.
        name = entry.orig_filename
        if not entry.flag_bits & _UTF8:
            with suppress(UnicodeDecodeError):
                name = name.encode("cp437").decode()
        path = _safe(name, tree.limits)
        _check_entry(entry, name, tree.limits)
        if entry.header_offset + entry.compress_size > end:
            raise _refused(name, "overlaps the next member", _FETCH)
        if name.endswith("/"):
            tree.add_folder(path)
        else:
            tree.add_file(path, entry.file_size, entry)
    _check_ratio("it", tree.bytes, os.fstat(file.fileno()).st_size, tree.limits)

    def pieces(member: _Member) -> Iterator[bytes]:
        with archive.open(member.place) as content:
            while piece := content.read(_PIECE):
                yield piece

    return pieces


def _open_zip(file: BinaryIO, limits: Limits) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(cast(BinaryIO, _Directory(file, limits)))
    except zipfile.BadZipFile:
        file.seek(0)
        if file.read(4) == b"PK\7\x08":
            raise ArchiveError(_VOLUMES) from None
        raise
    # The end record: its signature, its number among the parts, the number of the part with the directory.
    file.seek(-22 - len(archive.comment), os.SEEK_END)
    parts = struct.unpack("<4x2H", file.read(8))
    if not {*parts, *(entry.volume for entry in archive.infolist())} <= {0, 0xFFFF}:
        raise ArchiveError(_VOLUMES)
    return archive


def _check_entry(entry: zipfile.ZipInfo, name: str, limits: Limits) -> None:
    if entry.flag_bits & _ENCRYPTED:
        raise _refused(name, "is encrypted", "unpack it with its password and pack it again without")
    # bzip2 and LZMA bound neither memory nor ratio; few tools write them.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & _PATCH:
        how = f"is packed by method {entry.compress_type}, not deflated or stored"
        raise _refused(name, how, "pack the archive again as a plain zip")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused(name, "is a link or a device")
    _check_ratio(f"member {quote(name)}", entry.file_size, entry.compress_size, limits)


def _scan_tar(file: BinaryIO, kind: str, tree: "_Tree") -> Callable[[_Member], Iterator[bytes]]:
    """Add the files of a tar to `tree`; return what reads one of them."""
    stream = _Stream(file, kind, tree.limits)
    archive: Any = tarfile.TarFile(fileobj=cast(BinaryIO, stream), encoding="utf-8")
    while entry := archive.next():
        # TarFile keeps every member and every global header; neither is needed again.
        archive.members.clear()
        archive.pax_headers.clear()
        stream.headers = 0
        path = _safe(entry.name, tree.limits)
        if not (entry.isreg() or entry.isdir()) or entry.issparse():
            special = tarfile.GNUTYPE_SPARSE if entry.issparse() else entry.type
            raise _refused(entry.name, f"is {_TAR_TYPES.get(special, f'of the unknown type {special!a}')}")
        if entry.isdir():
            tree.add_folder(path)
        else:
            tree.add_file(path, entry.size, entry.offset_data)
    stream.finish()

    def pieces(member: _Member) -> Iterator[bytes]:
        nonlocal stream
        if stream.tell() > member.place:
            stream = _Stream(file, kind, tree.limits)
        stream.seek(member.place)
        left = member.size
        while left and (piece := stream.take(min(left, _PIECE))):
            left -= len(piece)
            yield piece

    return pieces


class _Xz:
    """The content of an xz file; unlike `lzma.LZMAFile` it bounds the memory that the file may ask for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, size: int) -> bytes:
        made = b""
        while not made:
            data = b""
            if self._decoder.eof:
                # Streams may follow one another, with zeros between and behind them.
                data = self._decoder.unused_data.lstrip(b"\0")
                while not data and (more := self._file.read(_PIECE)):
                    data = more.lstrip(b"\0")
                if not data:
                    break
                self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
            elif self._decoder.needs_input and not (data := self._file.read(2**16)):
                raise EOFError
            made = self._decoder.decompress(data, size)
        return made


_OPENERS: dict[str, Callable[[BinaryIO], Any]] = {
    "tar": lambda file: file,
    "gz": lambda file: gzip.GzipFile(fileobj=file),
    "bz2": bz2.BZ2File,
    "xz": _Xz,
}


class _Stream:
    """The bytes of a tar, read forwards only; `tarfile` reads its headers from here."""

    def __init__(self, file: BinaryIO, kind: str, limits: Limits) -> None:
        file.seek(0)
        #: Bytes of headers that `tarfile` has read; to be set to 0 when a member is complete.
        self.headers = 0
        self._file, self._packed, self._limits = file, kind != "tar", limits
        self._content = _OPENERS[kind](file)
        self._position = self._next_check = 0
        self._last = b""

    def tell(self) -> int:
        """Return how many bytes were read or skipped."""
        return self._position

    def read(self, count: int) -> bytes:
        """Read a header of `count` bytes, or up to the end."""
        self.headers += count
        if self.headers > _MAX_HEADERS:
            raise ArchiveError(
                f"one of its members has more than {_MAX_HEADERS:,} bytes of headers; {_FETCH}"
            )
        self._last = self.take(count)
        return self._last

    def take(self, count: int) -> bytes:
        """Read `count` bytes, or up to the end."""
        data = self._some(count)
        while len(data) < count and (more := self._some(count - len(data))):
            data += more
        return data

    def _some(self, count: int) -> bytes:
        try:
            data: bytes = self._content.read(count)
        except EOFError as error:
            raise ArchiveError(_CUT_OFF) from error
        except (OSError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise ArchiveError(f"its compressed data is damaged ({error}); {_FETCH}") from error
        self._position += len(data)
        if self._packed and self._position >= self._next_check:
            _check_ratio("it", self._position, self._file.tell(), self._limits)
            self._next_check = self._position + 2**16
        return data

    def seek(self, position: int) -> None:
        """Skip to `position`."""
        if position < self._position:
            raise ArchiveError(f"its tar headers are damaged; {_FETCH}")
        if not self._packed:
            self._position = self._file.seek(position)
        while self._position < position and self._some(min(_PIECE, position - self._position)):
            pass

    def finish(self) -> None:
        """Read to the end, where a compressed stream has its checksum; refuse data after the archive."""
        if self._last != bytes(tarfile.BLOCKSIZE):
            short = len(self._last) < tarfile.BLOCKSIZE
            raise ArchiveError(_CUT_OFF if short else f"its tar headers are damaged; {_FETCH}")
        padding = 0
        while piece := self._some(_PIECE):
            padding += len(piece)
            if piece.strip(b"\0") or padding > _MAX_PADDING:
                raise ArchiveError(f"it has data after its end; {_FETCH}")


def _safe(name: str, limits: Limits) -> str:
    """Return a member's relative posix path, without a leading `./`; empty for the archive's own root."""
    for character in name if not name.isprintable() else "":
        if "\udc80" <= character <= "\udcff":
            raise _refused(name, "has a name that is not UTF-8")
        if unicodedata.category(character) in _UNPRINTABLE or character in _DIRECTION:
            raise _refused(name, f"has the control character {character!a} in its name")
    if "\\" in name:
        raise _refused(name, "has a backslash in its name, which separates folders on Windows")
    if not name or name.startswith("/"):
        raise _refused(name, "has an absolute path" if name else "has an empty name")
    path = name.removesuffix("/")
    while path.startswith("./"):
        path = path[2:]
    if path == ".":
        return ""
    parts = path.split("/")
    for part in parts:
        if part == "..":
            raise _refused(name, "leads out of the folder with '..'")
        if not part.strip(" .") or _DRIVE.match(part):
            raise _refused(name, f"has {part!r} in its path, which is not a valid name")
        if len(part.encode()) > _PART_BYTES:
            raise _refused(name, f"has a name of more than {_PART_BYTES} bytes")
    if len(parts) > limits.depth:
        raise _beyond(f"member {quote(name)} is {len(parts)} folders deep, limit {limits.depth}", "depth")
    if len(path.encode()) > limits.path_bytes:
        what = f"member {quote(name)} has a name of more than {limits.path_bytes} bytes"
        raise _beyond(what, "path_bytes")
    return path


def _is_junk(path: str) -> bool:
    """Return whether a safe path is what an operating system leaves behind."""
    name = path.rpartition("/")[2]
    return name.lower() in _JUNK or name.startswith("._") or "__MACOSX" in path.split("/")


def _folded(path: str) -> str:
    """Return the key under which the most forgiving file system stores a path."""
    if path.isascii():
        key = path.lower()
    else:
        # Canonical caseless match, Unicode 15 section 3.13, D145.
        key = unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())
    if "./" in key or " /" in key or key[-1] in " .":
        key = "/".join(part.rstrip(" .") for part in key.split("/"))
    return key


class _Tree:
    """The names and sizes of an archive; refuses those that cannot exist side by side on every disk."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        #: In the order in which they were added, without junk.
        self.files: list[_Member] = []
        #: Every folder, including implied ones, a parent before its children.
        self.folders: dict[str, None] = {}
        #: Of all files so far, unpacked.
        self.bytes = 0
        self._names_bytes = 0
        self._spelled: dict[str, str] = {}

    def add_file(self, path: str, size: int, place: object) -> None:
        if not path or _is_junk(path):
            return
        if size < 0:
            raise _refused(path, "has a negative size", _FETCH)
        if size > self.limits.file_bytes:
            what = f"member {quote(path)} has {size:,} bytes, limit {self.limits.file_bytes:,}"
            raise _beyond(what, "file_bytes")
        self.bytes += size
        if self.bytes > self.limits.bytes:
            raise _beyond(f"it unpacks to more than {self.limits.bytes:,} bytes", "bytes")
        self.add_folder(path.rpartition("/")[0])
        self._add(path)
        self.files.append(_Member(path, size, place))

    def add_folder(self, path: str) -> None:
        if path and path not in self.folders and not _is_junk(path):
            self.add_folder(path.rpartition("/")[0])
            self._add(path)
            self.folders[path] = None

    def _add(self, path: str) -> None:
        key, limits = _folded(path), self.limits
        other = self._spelled.get(key)
        if other == path:
            raise _refused(path, "occurs twice, or is both a file and a folder")
        if other is not None:
            both = f"and {quote(other)} are the same name on many disks"
            raise _refused(path, both, "rename one of the two")
        self._spelled[key] = path
        self._names_bytes += len(path.encode())
        if len(self._spelled) > limits.entries:
            raise _beyond(f"it contains more than {limits.entries:,} files and folders", "entries")
        if self._names_bytes > limits.names_bytes:
            raise _beyond(f"its names have more than {limits.names_bytes:,} bytes", "names_bytes")


def _partial(target: Path) -> Path:
    # Two targets with so long a common start share the lock too.
    return target.with_name(f".{target.name[:40]}.mien-partial")


def _lock(target: Path) -> Path:
    return target.with_name(f".{target.name[:40]}.mien-lock")


@contextmanager
def _reported(source: Path, root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = "choose another folder"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "free some space or choose a folder on another disk"
        what = f"{quote(source.name)} cannot be unpacked into {quote(str(root))}"
        raise OutputError(f"{what}: {error.strerror or error}; {advice}") from error


@contextmanager
def _parents(target: Path) -> Iterator[None]:
    """Make the parent folders; remove them again if the work fails."""
    missing = [folder for folder in target.parents if not folder.exists()]
    if not target.parents[len(missing)].is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "one of its parents is a file")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        # They stay if another process has put something there.
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()
        raise


@contextmanager
def _locked(root: Path, target: Path) -> Iterator[None]:
    """Let one process at a time work on `target`; remove what a process that died left beside it."""
    path = _lock(target)
    lock = FileLock(path, timeout=_PATIENCE)
    try:
        lock.acquire()
    except Timeout as error:
        raise ArchiveError(
            f"another process is unpacking into {quote(str(root))}; wait for it or choose another folder"
        ) from error
    try:
        if _partial(target).exists():
            shutil.rmtree(_partial(target))
        yield
    finally:
        # While it is locked: a process that waits for the removed file notices and makes a new one.
        # Windows cannot remove an open file; filelock does it there.
        with suppress(PermissionError):
            path.unlink(missing_ok=True)
        lock.release()


def _find(root: Path, target: Path, digest: str) -> Extraction | None:
    """Return the extraction of this archive in `target`, None if it is empty; refuse anything else in it."""
    if not target.exists():
        return None
    name, other = quote(str(root)), "move it away or choose another folder"
    if not target.is_dir():
        raise ArchiveError(f"{name} is a file, not a folder to unpack into; {other}")
    try:
        note = json.loads((target / NOTE).read_bytes())
        made, listing, files, size = note["archive"], note["listing"], int(note["files"]), int(note["bytes"])
    except FileNotFoundError as error:
        if not any(target.iterdir()):
            return None
        raise ArchiveError(f"{name} contains other files; {other}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"{name} contains a {NOTE} that mien cannot read; {other}") from error
    if made != digest:
        raise ArchiveError(f"{name} was unpacked from another archive; {other}")
    if listing != _digest(_listed(target)):
        raise ArchiveError(f"{name} was unpacked from this archive and has changed since; {other}")
    return Extraction(root, files, size, True)


def _listed(target: Path) -> Iterator[str]:
    """Yield a line with name and size for every file below `target`, without junk."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(target / folder) as found:
            for item in found:
                path = f"{folder}{item.name}"
                if item.is_dir(follow_symlinks=False):
                    waiting.append(f"{path}/")
                elif not _is_junk(path):
                    regular = item.is_file(follow_symlinks=False)
                    yield _line(path, item.stat(follow_symlinks=False).st_size if regular else "no file")


def _line(path: str, value: object) -> str:
    # Some disks of macOS return names in another normal form.
    return f"{unicodedata.normalize('NFC', path)}\0{value}\n"


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()


# One sync for all: a sync for each of the 35,887 files of FER2013 takes longer than writing them.
_SYNC = hasattr(os, "sync")


def _write(
    contents: _Contents, target: Path, digest: str, progress: Callable[[int, int], None] | None
) -> None:
    """Write the files beside `target`, sync them, and rename."""
    partial = _partial(target)
    free = shutil.disk_usage(target.parent).free
    if free < contents.tree.bytes:
        raise OSError(errno.ENOSPC, f"it needs {contents.tree.bytes:,} bytes and the disk has {free:,} left")
    partial.mkdir()
    for folder in contents.tree.folders:
        (partial / folder).mkdir()
    done = 0
    listing, tree = [], []
    for member in contents.tree.files:
        whole = hashlib.sha256()
        with (partial / member.name).open("xb", buffering=0) as file:
            for piece in contents.read(member):
                whole.update(piece)
                file.write(piece)
            if not _SYNC:
                os.fsync(file.fileno())
        listing.append(_line(member.name, member.size))
        tree.append(_line(member.name, whole.hexdigest()))
        done += member.size
        if progress:
            progress(done, contents.tree.bytes)
    note = {
        "format": _FORMAT,
        "archive": digest,
        "files": len(listing),
        "bytes": contents.tree.bytes,
        "listing": _digest(listing),
        "tree": _digest(tree),
    }
    with (partial / NOTE).open("xb", buffering=0) as out:
        out.write((json.dumps(note, indent=2) + "\n").encode())
        os.fsync(out.fileno())
    if _SYNC:
        os.sync()
    if target.exists():
        # It is empty, or this fails; a rename over it would work on some systems only.
        target.rmdir()
    partial.rename(target)
    _files.sync_folder(target.parent)
