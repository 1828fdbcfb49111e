"""The zip format: the directory at the end, and the members it points to.

Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 to 4.5; the section stands beside each structure.
"""

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from mien.data.archives.limits import Limits, is_bomb
from mien.data.archives.names import FETCH, Member, Tree, is_junk, raise_limit, refused, safe
from mien.data.archives.streams import PIECE, bomb
from mien.errors import ArchiveError

_LOCAL = struct.Struct("<4s5H3L2H")  # 4.3.7
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # 4.3.12
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_LOCATOR64 = struct.Struct("<4sLQL")  # 4.3.15
_END = struct.Struct("<4s4H2LH")  # 4.3.16
_MAX_COMMENT = 2**16 - 1
_FULL16, _FULL32 = 2**16 - 1, 2**32 - 1

_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_SIZES_FOLLOW = 1 << 3
_PATCH = 1 << 5
_UTF8 = 1 << 11
_STORED, _DEFLATED = 0, 8
# 4.4.5, the ones that are met. bzip2, LZMA and PPMd are read by few and bound no memory or ratio.
_METHODS = {
    1: "shrink",
    6: "implode",
    9: "deflate64",
    12: "bzip2",
    14: "LZMA",
    93: "zstd",
    95: "xz",
    98: "PPMd",
}
_MULTI_DISK = "it is one part of several; join the parts into one zip first"
_DAMAGED = f"its zip directory is damaged or cut off; {FETCH}"


@dataclass(frozen=True, slots=True)
class _Directory:
    start: int
    end: int
    count: int


@dataclass(frozen=True, slots=True)
class _Entry:
    raw: bytes
    path: str
    folder: bool
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int


class Zip:
    """A zip whose directory has been checked.

    Args:
        file: The open archive.
        limits: The caps.

    Attributes:
        folders: Every folder, a parent before its children.
        files: Every file but junk, in the order of their bytes.

    Raises:
        ArchiveError: The directory is damaged, unsafe, or beyond the limits.
    """

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._file = file
        directory = _find_directory(file)
        if directory.count > limits.entries:
            many = f"it holds {directory.count:,} entries, of {limits.entries:,} at most"
            raise ArchiveError(f"{many}; {raise_limit('entries')}")
        entries = sorted(_entries(file, directory, limits), key=lambda entry: entry.offset)
        self._entries: list[tuple[_Entry, int]] = []
        tree = Tree(limits)
        bounds = [*(entry.offset for entry in entries[1:]), directory.start]
        for entry, bound in zip(entries, bounds, strict=False):
            if entry.offset + _LOCAL.size + len(entry.raw) + entry.packed > bound:
                raise refused(entry.path, "overlaps what follows it", FETCH)
            if not entry.path or is_junk(entry.path):
                continue
            if entry.folder:
                tree.add_folder(entry.path)
            else:
                tree.add_file(entry.path, entry.size)
                self._entries.append((entry, bound))
        packed = os.fstat(file.fileno()).st_size
        if is_bomb(tree.bytes, packed, limits):
            raise bomb(tree.bytes, packed)
        self.folders = list(tree.folders)
        self.files = [Member(entry.path, entry.size, entry.offset) for entry, _ in self._entries]

    def walk(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Yield every file with its bytes in pieces; take the pieces before the next file."""
        for member, (entry, bound) in zip(self.files, self._entries, strict=True):
            yield member, _verified(self._file, entry, bound)


def _find_directory(file: BinaryIO) -> _Directory:
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - _END.size - _MAX_COMMENT))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    # A comment may hold the signature too: the record is the one whose comment ends with the file.
    while at >= 0 and (
        len(tail) - at < _END.size or _END.unpack_from(tail, at)[7] != len(tail) - at - _END.size
    ):
        at = tail.rfind(b"PK\5\6", 0, at)
    if at < 0:
        file.seek(0)
        if file.read(4) == b"PK\7\x08":
            raise ArchiveError(_MULTI_DISK)
        raise ArchiveError(f"it is cut off: no zip directory stands at its end; {FETCH}")
    _, disk, first_disk, here, count, length, start, _ = _END.unpack_from(tail, at)
    end = size - len(tail) + at
    if at >= _LOCATOR64.size and tail.startswith(b"PK\6\7", at - _LOCATOR64.size):
        narrow = (count, length, start)
        end, disk, first_disk, here, count, length, start = _find_wide(file, tail, at, end)
        for short, full, wide in zip(
            narrow, (_FULL16, _FULL32, _FULL32), (count, length, start), strict=True
        ):
            if short not in (full, wide):
                raise ArchiveError(_DAMAGED)
    if disk or first_disk or here != count:
        raise ArchiveError(_MULTI_DISK)
    if start + length != end:
        raise ArchiveError(_DAMAGED)
    return _Directory(start, end, count)


def _find_wide(file: BinaryIO, tail: bytes, at: int, end: int) -> tuple[int, int, int, int, int, int, int]:
    _, disk, offset, disks = _LOCATOR64.unpack_from(tail, at - _LOCATOR64.size)
    if disk or disks > 1:
        raise ArchiveError(_MULTI_DISK)
    if offset + _END64.size > end - _LOCATOR64.size:
        raise ArchiveError(_DAMAGED)
    file.seek(offset)
    signature, length, _, _, disk, first_disk, here, count, size, start = _END64.unpack(
        file.read(_END64.size)
    )
    # The record's own length leaves out its first 12 bytes.
    if signature != b"PK\6\6" or offset + 12 + length != end - _LOCATOR64.size:
        raise ArchiveError(_DAMAGED)
    return offset, disk, first_disk, here, count, size, start


def _entries(file: BinaryIO, directory: _Directory, limits: Limits) -> Iterator[_Entry]:
    file.seek(directory.start)
    left = directory.end - directory.start
    names = 0
    for _ in range(directory.count):
        header = file.read(_CENTRAL.size)
        left -= _CENTRAL.size
        if left < 0 or not header.startswith(b"PK\1\2"):
            raise ArchiveError(_DAMAGED)
        fields = _CENTRAL.unpack(header)
        name_length, extra_length, comment_length = fields[10:13]
        left -= name_length + extra_length + comment_length
        names += name_length
        if left < 0:
            raise ArchiveError(_DAMAGED)
        if names > limits.names_bytes:
            raise ArchiveError(
                f"its names take more than {limits.names_bytes:,} bytes; {raise_limit('names_bytes')}"
            )
        raw, extra = file.read(name_length), file.read(extra_length)
        file.seek(comment_length, os.SEEK_CUR)
        yield _entry(fields, raw, extra, limits)
    if left:
        raise ArchiveError(
            f"its zip directory holds more entries than the {directory.count:,} it counts; {FETCH}"
        )


def _entry(fields: tuple[int, ...], raw: bytes, extra: bytes, limits: Limits) -> _Entry:
    flags, method, crc, packed, size = fields[3], fields[4], *fields[7:10]
    disk, mode, offset = fields[13], fields[15] >> 16, fields[16]
    name = _decoded(raw, flags)
    path = safe(name, limits)
    size, packed, offset, disk = _widened(name, extra, size, packed, offset, disk)
    if disk:
        raise ArchiveError(_MULTI_DISK)
    if flags & _ENCRYPTED:
        raise refused(name, "is encrypted", "unpack it with its password and pack it again without")
    if method not in (_STORED, _DEFLATED) or flags & _PATCH:
        how = "as a patch" if flags & _PATCH else f"by {_METHODS.get(method, f'method {method}')}"
        raise refused(
            name, f"is packed {how}, not deflated or stored", "pack the archive again as a plain zip"
        )
    kind, folder = stat.S_IFMT(mode), name.endswith("/")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR and not folder):
        raise refused(name, f"is {_KINDS.get(kind, 'neither a file nor a folder')}")
    if folder and size:
        raise refused(name, f"is a folder that says it has {size:,} bytes", FETCH)
    if size != packed and method == _STORED:
        raise refused(name, f"says that {packed:,} packed bytes become {size:,}", FETCH)
    if is_bomb(size, packed, limits):
        raise refused(
            name, f"is a decompression bomb: {packed:,} bytes become {size:,}", raise_limit("ratio")
        )
    return _Entry(raw, path, folder, flags, method, crc, packed, size, offset)


_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder by its mode and a file by its name",
}


def _decoded(raw: bytes, flags: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        if flags & _UTF8:
            raise refused(raw.decode(errors="backslashreplace"), "has a name that is not UTF-8") from error
    # 4.4.4: without the flag a name is in code page 437, though many tools write UTF-8 all the same.
    return raw.decode("cp437")


def _widened(
    name: str, extra: bytes, size: int, packed: int, offset: int, disk: int
) -> tuple[int, int, int, int]:
    """Replace the numbers that are full by those of the zip64 field, 4.5.3."""
    values = [size, packed, offset, disk]
    full = [_FULL32, _FULL32, _FULL32, _FULL16]
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if tag == 1:
            field, used = extra[at : at + length], 0
            for which, width in enumerate((8, 8, 8, 4)):
                if values[which] == full[which]:
                    if used + width > len(field):
                        raise refused(name, "has a damaged zip64 field", FETCH)
                    values[which] = int.from_bytes(field[used : used + width], "little")
                    full[which] = -1
                    used += width
        at += length
    return values[0], values[1], values[2], values[3]


def _verified(file: BinaryIO, entry: _Entry, bound: int) -> Iterator[bytes]:
    """Yield the entry's bytes; check size and checksum as they come."""
    _check_header(file, entry, bound)
    # Some tools call an empty file deflated and pack it into no bytes at all.
    plain = entry.method == _STORED or not entry.packed
    pieces = _stored(file, entry) if plain else _inflated(file, entry)
    size = crc = 0
    for piece in pieces:
        size += len(piece)
        if size > entry.size:
            break
        crc = zlib.crc32(piece, crc)
        yield piece
    if size != entry.size:
        more = "more" if size > entry.size else "fewer"
        raise refused(entry.path, f"says it has {entry.size:,} bytes and has {more}", FETCH)
    if crc != entry.crc:
        raise refused(entry.path, "is damaged: its checksum differs", FETCH)


def _check_header(file: BinaryIO, entry: _Entry, bound: int) -> None:
    file.seek(entry.offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
        raise refused(entry.path, "is not where the zip directory says", FETCH)
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
    same = method == entry.method and not flags & _ENCRYPTED and file.read(name_length) == entry.raw
    if not flags & _SIZES_FOLLOW:
        same = (
            same and crc == entry.crc and packed in (entry.packed, _FULL32) and size in (entry.size, _FULL32)
        )
    if not same:
        raise refused(entry.path, "is another one in the zip directory than at its own place", FETCH)
    file.seek(extra_length, os.SEEK_CUR)
    if file.tell() + entry.packed > bound:
        raise refused(entry.path, "overlaps what follows it", FETCH)


def _stored(file: BinaryIO, entry: _Entry) -> Iterator[bytes]:
    left = entry.packed
    while left and (piece := file.read(min(left, PIECE))):
        left -= len(piece)
        yield piece


def _inflated(file: BinaryIO, entry: _Entry) -> Iterator[bytes]:
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    left = entry.packed
    while not decoder.eof:
        data = decoder.unconsumed_tail
        if not data:
            data = file.read(min(left, PIECE))
            left -= len(data)
        try:
            piece = decoder.decompress(data, PIECE)
        except zlib.error as error:
            raise refused(entry.path, f"is damaged ({error})", FETCH) from error
        if piece:
            yield piece
        elif not data and not decoder.eof:
            raise refused(entry.path, "is cut off", FETCH)
    if left or decoder.unused_data:
        raise refused(entry.path, "ends before its packed bytes do", FETCH)
