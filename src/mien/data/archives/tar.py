"""The tar formats: v7, ustar, pax and GNU, plain or within a compressed stream.

A tar has no directory. It is read through once for its headers, so that every name and size is checked before
the first file is handed out, and once more for the files.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar manual, "Basic Tar
Format".
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mien.data.archives.limits import Limits
from mien.data.archives.names import FETCH, Member, Tree, decode, is_junk, raise_limit, refused, safe
from mien.data.archives.streams import PIECE, Reader, take
from mien.errors import ArchiveError

BLOCK = 512
_END = bytes(BLOCK)
_DAMAGED = f"its tar headers are damaged; {FETCH}"
# What a header may say about the next one: a path, times, attributes of a Mac.
_MAX_NOTES = 2**20
# Headers a member may have: pax, GNU long name, GNU long link, its own.
_HEADERS_PER_ENTRY = 4
# GNU tar pads to 10 KiB; the largest blocking factors in use, to a few MiB.
_MAX_PADDING = 2**24

_FILES = b"0\x007"
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a fifo",
    b"M": "a part of a file of several volumes",
    b"S": "a sparse file",
}


@dataclass(frozen=True, slots=True)
class _Header:
    raw: bytes
    size: int
    kind: bytes


class Tar:
    """A tar whose headers have been checked, and whose stream has been read to its end.

    Args:
        restart: Makes a reader of the unpacked stream, from its start.
        limits: The caps.

    Attributes:
        folders: Every folder, a parent before its children.
        files: Every file but junk, in order.

    Raises:
        ArchiveError: The archive is damaged, unsafe, or beyond the limits.
    """

    def __init__(self, restart: Callable[[], Reader], limits: Limits) -> None:
        self._restart = restart
        tree = Tree(limits)
        self.files = list(_scan(restart(), tree, limits))
        self.folders = list(tree.folders)

    def walk(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Yield every file with its bytes in pieces; take the pieces before the next file."""
        reader = self._restart()
        for member in self.files:
            reader.skip(member.offset - reader.position)
            yield member, _pieces(reader, member.size)


def _pieces(reader: Reader, left: int) -> Iterator[bytes]:
    while left:
        piece = take(reader, min(left, PIECE))
        left -= len(piece)
        yield piece


def _scan(reader: Reader, tree: Tree, limits: Limits) -> Iterator[Member]:
    notes: dict[str, str] = {}
    headers = 0
    while (block := take(reader, BLOCK)) != _END:
        headers += 1
        if headers > _HEADERS_PER_ENTRY * limits.entries:
            raise ArchiveError(f"it holds more than {headers - 1:,} headers; {raise_limit('entries')}")
        header = _parse(block)
        if header.kind in b"xgLK":
            _note(header, reader, notes)
            continue
        name = notes.get("path") or decode(header.raw)
        size = _decimal(notes["size"]) if "size" in notes else header.size
        notes = {}
        if header.kind not in _FILES and header.kind != b"5":
            what = _REFUSED.get(header.kind, f"of the unknown type {header.kind.decode('latin-1')!a}")
            raise refused(name, f"is {what}")
        path = safe(name, limits)
        # Before ustar a folder was a file whose name ends with a slash.
        folder = header.kind == b"5" or name.endswith("/")
        if folder and size:
            raise refused(name, f"is a folder that says it has {size:,} bytes", FETCH)
        offset = reader.position
        if path and not is_junk(path):
            if folder:
                tree.add_folder(path)
            else:
                tree.add_file(path, size)
                yield Member(path, size, offset)
        reader.skip(_padded(size))
    if notes:
        raise ArchiveError(_DAMAGED)
    _drain(reader)


def _drain(reader: Reader) -> None:
    # To the end, because a compressed stream has its checksum there.
    padding = 0
    while piece := reader.some(PIECE):
        padding += len(piece)
        if piece.strip(b"\0"):
            raise ArchiveError(f"it goes on behind its end; {FETCH}")
        if padding > _MAX_PADDING:
            raise ArchiveError(f"it is padded with more than {_MAX_PADDING:,} bytes; {FETCH}")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def is_header(block: bytes) -> bool:
    """Tell whether 512 bytes carry a tar header's checksum."""
    if len(block) < BLOCK or not block[0]:
        return False
    try:
        stated = _octal(block[148:156])
    except ArchiveError:
        return False
    # The checksum counts its own eight bytes as spaces.
    return stated == sum(block) - sum(block[148:156]) + 8 * 0x20


def _parse(block: bytes) -> _Header:
    if not is_header(block):
        raise ArchiveError(_DAMAGED)
    raw = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:
        raw = _text(block[345:500]) + b"/" + raw
    return _Header(raw, _octal(block[124:136]), block[156:157])


def _text(field: bytes) -> bytes:
    text, _, rest = field.partition(b"\0")
    if rest.strip(b"\0"):
        raise refused(
            field.rstrip(b"\0").decode(errors="backslashreplace"), "hides bytes behind a NUL in its name"
        )
    return text


def _octal(field: bytes) -> int:
    if field[0] == 0x80:
        # GNU's way for sizes of 8 GiB and more; 0xff would be a negative number.
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0") or b"0"
    if digits.strip(b"01234567"):
        raise ArchiveError(_DAMAGED)
    return int(digits, 8)


def _decimal(text: str) -> int:
    # No size that fits a disk has more digits, and int() would take its time with a million.
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ArchiveError(_DAMAGED)
    return int(text)


def _note(header: _Header, reader: Reader, notes: dict[str, str]) -> None:
    """Read a header about the next one into `notes`."""
    if header.size > _MAX_NOTES:
        raise ArchiveError(
            f"one of its tar headers has {header.size:,} bytes, of {_MAX_NOTES:,} at most; {FETCH}"
        )
    data = take(reader, _padded(header.size))[: header.size]
    if header.kind == b"L":
        notes["path"] = decode(_text(data))
        return
    if header.kind == b"K":
        return
    for key, value in _records(data):
        if key.startswith(b"GNU.sparse."):
            raise ArchiveError("one of its members is a sparse file; pack the archive again without --sparse")
        if key in (b"path", b"size"):
            if header.kind == b"g":
                raise ArchiveError("it gives all its members one name or size; pack the archive again")
            notes[key.decode()] = decode(value)


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Split a pax header, `length key=value` and a newline each; the length counts itself."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 8)
        digits = data[at:space] if space >= 0 else b""
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise ArchiveError(_DAMAGED)
        yield key, value
        at = end
