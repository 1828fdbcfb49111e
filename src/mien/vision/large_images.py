"""Read the headers of JPEG and PNG files, and decode large PNG files in strips, to limit the memory.

`mien.vision.images` uses this module.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n"
#: Number of channels by colour type of a PNG file.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
#: Colour type with 8-bit pixels by bytes per pixel; the filters depend on this number only.
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
#: Size of a strip in bytes before decoding.
_STRIP = 8 * 2**20
_PIECE = 2**18
#: Maximum size in bytes of the metadata of a PNG file that are searched for EXIF.
_MAX_METADATA = 4 * 2**20
#: Frame headers of JPEG: 0xC0 to 0xCF without those of tables.
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class Header:
    """The header of a JPEG or PNG file.

    Args:
        kind: `JPEG` or `PNG`.
        width: Width in pixels.
        height: Height in pixels.
        held: Memory in bytes that a decoder needs for the whole image at any scale; 0 if it decodes line by
            line.
        strips: Whether the image can be decoded in strips. JPEG files can always be decoded at a small scale.
    """

    kind: str
    width: int
    height: int
    held: int = 0
    strips: bool = True


def header(file: IO[bytes]) -> Header | None:
    """Return the header of a JPEG or PNG file; None for other or damaged files. Rewinds the file.

    Source: W3C PNG 11.2.2; ITU-T T.81 B.2.
    """
    start = file.read(33)
    found = None
    if start.startswith(_PNG) and start[12:16] == b"IHDR" and len(start) == 33:
        width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", start[16:29])
        apart = depth * _CHANNELS.get(colour, 0) // 8
        found = Header("PNG", width, height, strips=not interlaced and apart <= 4)
    elif start.startswith(b"\xff\xd8\xff"):
        file.seek(2)
        found = _jpeg(file)
    file.seek(0)
    return found


def _jpeg(file: IO[bytes]) -> Header | None:
    frame: bytes = b""
    several = False
    while True:
        byte = file.read(1)
        while byte and byte != b"\xff":
            byte = file.read(1)
        while byte == b"\xff":
            byte = file.read(1)
        length = file.read(2)
        if not byte or len(length) < 2:
            return None
        marker, count = byte[0], int.from_bytes(length) - 2
        if marker in _FRAMES or marker == 0xDA:
            content = file.read(max(0, count))
            if len(content) < max(6, count):
                return None
            if marker == 0xDA:
                break
            frame, several = content, marker in (0xC2, 0xC6, 0xCA, 0xCE)
        else:
            file.seek(max(0, count), io.SEEK_CUR)
    if len(frame) < 6 + 3 * frame[5] if frame else True:
        return None
    height, width = struct.unpack(">HH", frame[1:5])
    factors = [(each >> 4, each & 15) for each in frame[7 : 6 + 3 * frame[5] : 3]]
    wide, high = max(across for across, _ in factors), max(down for _, down in factors)
    # A first scan with fewer components than the frame: the decoder keeps everything, 2 bytes a value.
    several = several or content[0] < frame[5]
    if not (wide and high):
        return None
    held = sum(2 * width * height * across * down // (wide * high) for across, down in factors)
    return Header("JPEG", width, height, held=held if several else 0)


@dataclass(frozen=True)
class Strip:
    """Some rows of a PNG file.

    Args:
        data: A PNG file of these rows only.
        pixels: The rows, if they are 8-bit grey or RGB.
    """

    data: bytes
    pixels: NDArray[np.uint8] | None


class Png:
    """A PNG file that is read once, in strips.

    Args:
        file: The file at its beginning.
        rows: The number of rows of a strip is a multiple of this; the last strip can be smaller.
    """

    def __init__(self, file: IO[bytes], rows: int) -> None:
        self._file, self._rows = file, rows
        self._colours = b""
        self._metadata = b""
        self._plain = True

    def strips(self) -> Iterator[Strip]:
        """Yield the strips from top to bottom.

        Raises:
            ValueError: The file is damaged or truncated.
            zlib.error: The file is damaged.
        """
        self._file.seek(16)
        width, height, depth, colour, _, _, _ = struct.unpack(">IIBBBBB", self._file.read(13))
        bits = depth * _CHANNELS[colour]
        apart = max(1, bits // 8)
        across = (width * bits + 7) // 8
        self._file.seek(33)
        many = max(1, _STRIP // ((across + 1) * self._rows)) * self._rows
        above = bytes(across)
        held, done = bytearray(), 0
        for piece in self._inflated(height * (across + 1)):
            held += piece
            while done < height and len(held) >= (count := min(many, height - done)) * (across + 1):
                size = count * (across + 1)
                # The row above without a filter, then these rows; Pillow undoes their filters.
                filtered = bytes([0]) + above + bytes(held[:size])
                del held[:size]
                made = _png(across // apart, count + 1, 8, _COLOUR_TYPES[apart], filtered)
                with Image.open(io.BytesIO(made), formats=["PNG"]) as image:
                    raw = np.asarray(image).reshape(count + 1, across)[1:]
                above = raw[-1].tobytes()
                done += count
                if depth == 8 and colour in (0, 2) and self._plain:
                    shape = (count, width) if colour == 0 else (count, width, 3)
                    yield Strip(b"", raw.reshape(shape))
                else:
                    rows = np.pad(raw, ((0, 0), (1, 0))).tobytes()
                    yield Strip(_png(width, count, depth, colour, rows, self._colours), None)
        if done < height:
            raise ValueError("image file is truncated")

    def metadata(self) -> bytes:
        """Return a PNG file of one pixel with the metadata of this one; call it after all strips are read."""
        for kind, length in self._chunks():
            self._keep(kind, length)
        return _png(1, 1, 8, 0, b"\0\0", self._metadata)

    def _inflated(self, wanted: int) -> Iterator[bytes]:
        """Yield the decompressed image data in pieces, at most `wanted` bytes."""
        unpacked = zlib.decompressobj()
        for kind, length in self._chunks():
            if kind != b"IDAT":
                self._keep(kind, length)
                continue
            check = zlib.crc32(kind)
            while length:
                packed = self._file.read(min(length, _PIECE))
                if not packed:
                    raise ValueError("image file is truncated")
                length -= len(packed)
                check = zlib.crc32(packed, check)
                while packed and wanted and not unpacked.eof:
                    piece = unpacked.decompress(packed, min(wanted, 4 * _PIECE))
                    packed = unpacked.unconsumed_tail
                    wanted -= len(piece)
                    yield piece
            if self._file.read(4) != struct.pack(">I", check):
                raise ValueError("broken PNG file (chunk IDAT)")
            if not wanted:
                return

    def _chunks(self) -> Iterator[tuple[bytes, int]]:
        while len(begin := self._file.read(8)) == 8 and begin[4:] != b"IEND":
            yield begin[4:], int.from_bytes(begin[:4])

    def _keep(self, kind: bytes, length: int) -> None:
        """Skip a chunk; keep it if it defines colours or can hold the orientation."""
        colours = kind in (b"PLTE", b"tRNS")
        wanted = colours or kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
        if not wanted or length + len(self._metadata) > _MAX_METADATA:
            self._file.seek(length + 4, io.SEEK_CUR)
            return
        chunk = struct.pack(">I", length) + kind + self._file.read(length + 4)
        if colours:
            self._colours += chunk
            self._plain = self._plain and kind != b"tRNS"
        else:
            self._metadata += chunk


def _png(width: int, height: int, depth: int, colour: int, rows: bytes, more: bytes = b"") -> bytes:
    """Return a PNG file of filtered rows without compression."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    ends = (_chunk(b"IDAT", zlib.compress(rows, 0)), _chunk(b"IEND", b""))
    return b"".join((_PNG, _chunk(b"IHDR", head), more, *ends))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
