"""Bytes in order, plain or decompressed, never more at once than was asked for."""

import bz2
import lzma
import os
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

from mien.data.archives.limits import Limits, is_bomb
from mien.data.archives.names import FETCH, raise_limit
from mien.errors import ArchiveError

PIECE = 2**20  # bytes handed on at once; what a member takes in memory while it is written
_FEED = 2**16  # packed bytes given to a decoder at once; bounds how far a bomb gets before it is seen
_BUFFER = 2**18
# xz lets a file ask for up to 4 GiB of dictionary; `xz -9`, the largest preset, needs 65 MiB.
_XZ_MEMORY = 2**27

CUT_OFF = f"it is cut off; {FETCH}"


class Reader(Protocol):
    """A stream that knows where it is."""

    position: int

    def some(self, count: int) -> bytes:
        """Read up to `count` bytes; empty at the end."""

    def skip(self, count: int) -> None:
        """Go `count` bytes on."""


def take(reader: Reader, count: int) -> bytes:
    """Read exactly `count` bytes.

    Raises:
        ArchiveError: The stream ends before.
    """
    data = reader.some(count)
    while len(data) < count:
        more = reader.some(count - len(data))
        if not more:
            raise ArchiveError(CUT_OFF)
        data += more
    return data


class Plain:
    """A file as it is.

    Args:
        file: Read from its start.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.position = 0
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        file.seek(0)

    def some(self, count: int) -> bytes:
        """Read up to `count` bytes; empty at the end."""
        data = self._file.read(count)
        self.position += len(data)
        return data

    def skip(self, count: int) -> None:
        """Go `count` bytes on without reading them.

        Raises:
            ArchiveError: The file ends before.
        """
        self.position += count
        if self.position > self._size:
            raise ArchiveError(CUT_OFF)
        self._file.seek(self.position)


class Decoder(Protocol):
    """What bz2's and lzma's decompressors have in common."""

    @property
    def eof(self) -> bool:
        """Whether the packed stream has come to its end."""

    @property
    def needs_input(self) -> bool:
        """Whether only more packed bytes bring more."""

    @property
    def unused_data(self) -> bytes:
        """What came after the end."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take packed bytes in, give at most `max_length` out."""


class _Gzip:
    """Gives zlib's decompressor the face of bz2's and lzma's."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


DECODERS: dict[str, Callable[[], Decoder]] = {
    "gz": _Gzip,
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
}


class Packed:
    """A compressed file, decompressed in order, with its checksums verified and its ratio capped.

    Args:
        file: Read from its start.
        kind: `gz`, `bz2` or `xz`.
        limits: The caps.
    """

    def __init__(self, file: BinaryIO, kind: str, limits: Limits) -> None:
        self.position = 0
        self._file = file
        self._make = DECODERS[kind]
        self._decoder = self._make()
        self._limits = limits
        self._fed = 0
        self._made = 0
        self._buffer = b""
        self._at = 0
        file.seek(0)

    def some(self, count: int) -> bytes:
        """Read up to `count` bytes; empty at the end.

        Raises:
            ArchiveError: The stream is damaged, cut off, or a bomb.
        """
        if self._at == len(self._buffer):
            self._buffer, self._at = self._decompress(), 0
        data = self._buffer[self._at : self._at + count]
        self._at += len(data)
        self.position += len(data)
        return data

    def skip(self, count: int) -> None:
        """Decompress `count` bytes and drop them.

        Raises:
            ArchiveError: As `some`, or the stream ends before.
        """
        while count:
            data = self.some(min(count, _BUFFER))
            if not data:
                raise ArchiveError(CUT_OFF)
            count -= len(data)

    def _decompress(self) -> bytes:
        while not self._decoder.eof or self._next_stream():
            data = b""
            if self._decoder.needs_input:
                data = self._file.read(_FEED)
                self._fed += len(data)
            made = _decode(self._decoder, data)
            if made:
                self._made += len(made)
                if is_bomb(self._made, self._fed, self._limits):
                    raise bomb(self._made, self._fed)
                return made
            if not data and not self._decoder.eof:
                raise ArchiveError(CUT_OFF)
        return b""

    def _next_stream(self) -> bool:
        # `cat a.gz b.gz` is one stream by the formats' rules; so is padding with zeros.
        rest = self._decoder.unused_data
        while not rest.lstrip(b"\0"):
            rest = self._file.read(_FEED)
            self._fed += len(rest)
            if not rest:
                return False
        self._decoder = self._make()
        self._file.seek(-len(rest.lstrip(b"\0")), os.SEEK_CUR)
        self._fed -= len(rest.lstrip(b"\0"))
        return True


def _decode(decoder: Decoder, data: bytes) -> bytes:
    try:
        return decoder.decompress(data, _BUFFER)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise ArchiveError(f"its compressed data is damaged ({error}); {FETCH}") from error


def bomb(made: int, fed: int) -> ArchiveError:
    """Make the error for what unpacks to far more than it is."""
    return ArchiveError(
        f"it is a decompression bomb: {fed:,} bytes become {made:,} or more; {raise_limit('ratio')}"
    )
