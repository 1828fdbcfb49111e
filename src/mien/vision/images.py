"""The one door for pixels: read an image from anywhere, turn it grey, fit or cut it to the network's input.

    pixels = images.read("photo.jpg")    # upright, (h, w) grey or (h, w, 3) RGB, uint8
    picture = images.picture("photo.jpg")  # the same pixels, and how large the photo is if they are fewer
    face = images.fit(pixels, 48)        # (48, 48, 1) uint8, what every network here takes
    face = images.cut(pixels, (12.5, 8.0, 96.0), 48)   # the same, of a square in it

There is no other preprocessing in mien: training, evaluation and prediction all come through here.
"""

import io
import math
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from mien.errors import ImageError
from mien.vision import large_images

#: Pixels up to which an image is read as it is. Arrays, PIL images and files of most formats with more are
#: refused by their header, before anything is decoded.
MAX_PIXELS = 40_000_000

#: Pixels up to which files of these formats are read, at half their size or less above `MAX_PIXELS`.
MAX_LARGE = {"JPEG": 250_000_000, "PNG": 250_000_000, "HEIC": 90_000_000}

#: Bytes above which a file is refused: 40 megapixels at 16 bits in four channels, and room for a header.
MAX_BYTES = 512 * 2**20

#: What is opened. Pillow's rarer readers are where its security faults are found.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")

Source: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | NDArray[Any] | Image.Image
)

_WANTED = f"mien reads {', '.join(FORMATS)} and HEIC"
#: What is read at a reduced size keeps a longer side of this, or is half as large as it was.
_LONGER = 4000
#: The most that a picture is reduced by, and its longest side; so a strip of a PNG is never large itself.
_MOST, _LONGEST_SIDE = 16, 65_535
#: Pixels that a large picture may have for each byte of its file. Plain white PNGs have 340 (RGB) to 8,000.
_A_BYTE = {"JPEG": 300, "PNG": 300, "HEIC": 3000}
#: Bytes that a decoder may hold of a picture that it cannot decode from line to line.
_HELD = 330 * 2**20
#: The same of a HEIC file with more than 8 bits a channel, which takes twice the memory.
_DEEP = 50_000_000
#: Bytes from which on a file is read as it is decoded, and not before.
_STREAMED = 32 * 2**20
_GROUND = 255
#: Endings of files that are sent to the room for videos.
_FILMS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp")
#: How far fractions may lie outside 0..1, as resizing leaves them, and still be fractions; they are cut off.
_BEYOND = 0.1
_ORIENTATION = 0x0112
#: How files of JPEG, PNG, GIF, TIFF and BigTIFF begin, and the sizes of headers that BMP has.
_SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"),
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
)
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
_LARGEST_PADDED_SIDE = 4096
#: Brands of files whose pictures are HEVC; those of AVIF are Pillow's.
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEIF_BRANDS = {b"mif1", b"msf1", b"mif2"}
_AVIF_BRANDS = {b"avif", b"avis"}


@dataclass(frozen=True)
class Picture:
    """An image, at a reduced size if it is a large one.

    Args:
        pixels: `(h, w)` grey or `(h, w, 3)` RGB, 0..255, upright.
        width: Of the upright original; w unless it is reduced.
        height: Of the upright original.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int

    @property
    def scale(self) -> tuple[float, float]:
        """What coordinates in `pixels` are multiplied by to be the original's, across and down; 1 or more."""
        return self.width / self.pixels.shape[1], self.height / self.pixels.shape[0]


def read(source: Source, *, channels: Literal["rgb", "bgr"] = "rgb") -> NDArray[np.uint8]:
    """Return the pixels of `picture`: one image, upright, as 8-bit grey or RGB.

    Files of more than `MAX_PIXELS` give fewer pixels than they have; `picture` says how many those are.

    Args:
        source: As for `picture`.
        channels: As for `picture`.

    Raises:
        ImageError: As `picture` does.
    """
    return picture(source, channels=channels).pixels


def picture(source: Source, *, channels: Literal["rgb", "bgr"] = "rgb") -> Picture:
    """Read one image, upright, as 8-bit grey or RGB.

    The same image gives the same pixels to the last bit as a path, bytes, file object, array or PIL image.

    EXIF orientation is applied; EXIF that cannot be read counts as upright. Animations and many-page
    files give their first frame, a PIL image the frame it stands at. What becomes of each kind of pixel:

    - 1 (and boolean arrays): 0 and 255. L: as it is. P, CMYK, YCbCr, LAB and HSV: RGB by Pillow.
    - LA, PA, RGBA, and any transparent colour: laid on white.
    - I;16 and uint16: the high byte, so 16 bits are scaled and never clipped. 16-bit colour files alike.
    - I, F and other numeric arrays declare no range; theirs is the first of 0..1 (fractions only),
      0..255 and 0..65535 that holds every pixel; fractions up to 0.1 outside 0..1, as resizing leaves
      them, are cut off. Negative otherwise, larger or not finite: an error.

    A JPEG, PNG or HEIC file of more than `MAX_PIXELS` is read at a reduced size, within 600 MiB of memory: by
    a whole number from 2 to 16, so that the longer side keeps 4,000 pixels where it can. JPEG is decoded
    small, by 2, 4 or 8; the others are averaged.

    Args:
        source: A path, the bytes of a file, a binary file object (read from where it stands), a PIL image,
            or an array `(h, w)`, `(h, w, 1)` grey, `(h, w, 2)` grey and alpha, `(h, w, 3)`, `(h, w, 4)`.
        channels: Order of colours in an array of three or four channels; OpenCV's is `bgr`.

    Returns:
        The picture, in an array of its own.

    Raises:
        ImageError: It is no image mien reads, is damaged, has more than `MAX_PIXELS` pixels, or
            `MAX_LARGE` of a format that stands there, or is a HEIC file and pillow-heif is not installed.
    """
    if isinstance(source, Image.Image):
        return _whole(_decode(source, "the image"))
    if isinstance(source, np.ndarray):
        return _whole(_from_array(source, channels))
    with _held(source) as (name, file, size):
        if not size:
            raise ImageError(f"{name} is empty; {_WANTED}")
        if size > MAX_BYTES and _is_film(name):
            raise _film(name)
        if size > MAX_BYTES:
            raise ImageError(f"{name} is larger than {MAX_BYTES // 2**20} MiB; shrink it first")
        try:
            return _from_file(name, file, size)
        except (ImageError, MemoryError):
            raise
        except UnidentifiedImageError as error:
            if _is_film(name):
                raise _film(name) from error
            raise ImageError(f"{name} is not an image mien can read, or is damaged; {_WANTED}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageError(f"{name} has more than {MAX_PIXELS:,} pixels; shrink it first") from error
        except Exception as error:
            raise _damaged(name, error) from error


def starts_like_image(start: bytes) -> bool:
    """Say whether a file's first bytes are those of a format in `FORMATS` or of HEIC.

    It reads the signature alone, so a damaged image counts as one.

    Args:
        start: The first 64 bytes of the file, or all of them if there are fewer.

    Source: Pillow's plugins for these formats, and ISO/IEC 14496-12, 4.3 for AVIF and HEIC.
    """
    if start.startswith(_SIGNATURES):
        return True
    if start[:4] == b"RIFF":
        return start[8:12] == b"WEBP"
    # "BM" alone begins many texts, so the size of BMP's second header must be a known one too.
    if start[:2] == b"BM":
        return int.from_bytes(start[14:18], "little") in _BMP_HEADERS
    return _is_heic(start) or (start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis"))


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn an image grey, with Pillow's weights, so that a grey file and its RGB twin agree to the bit.

    Args:
        image: `(h, w)` grey, returned as it is, or `(h, w, 3)` RGB; 0..255.

    Returns:
        `(h, w)`: (19595 R + 38470 G + 7471 B + 32768) // 65536.

    Source: luma of ITU-R BT.601 in 16-bit fixed point.
    """
    if image.ndim == 2:
        return image
    return np.asarray(Image.fromarray(image).convert("L"))


def fit(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Make the network's input: grey, square, `size` pixels a side.

    A longer image is padded to a square by repeating its edge pixels, equally on both sides (an odd pixel
    goes right or below), so that faces keep their proportions. Shrinking averages every pixel. An image
    that is `size` × `size` already is unchanged to the bit. One with a side above 4096 is shrunk to that
    before it is padded, so that a long thin one cannot fill the memory.

    Args:
        image: `(h, w)` grey or `(h, w, 3)` RGB, 0..255, as `read` returns it.
        size: Pixels a side, at least 1.

    Returns:
        `(size, size, 1)`, 0..255.

    Source: Pillow's BILINEAR, a triangle filter as wide as the scale.
    """
    face = grey(image)
    longer = max(face.shape)
    if longer > _LARGEST_PADDED_SIDE:
        height, width = (max(1, round(side * _LARGEST_PADDED_SIDE / longer)) for side in face.shape)
        face = np.asarray(Image.fromarray(face).resize((width, height), Image.Resampling.BILINEAR))
        longer = _LARGEST_PADDED_SIDE
    if face.shape[0] != face.shape[1]:
        spare = [longer - side for side in face.shape]
        face = np.pad(face, [(space // 2, space - space // 2) for space in spare], mode="edge")
    if longer != size:
        face = np.asarray(Image.fromarray(face).resize((size, size), Image.Resampling.BILINEAR))
    return face[:, :, np.newaxis]


def cut(image: NDArray[np.uint8], square: tuple[float, float, float], size: int) -> NDArray[np.uint8]:
    """Cut a square out of an image as the network's input: grey, `size` pixels a side.

    Edges may lie between pixels. Beyond the image its edge pixels go on. Shrinking averages every pixel, and
    the square that is the whole image gives what `fit` gives. What is cut from a side above 4096 pixels is
    shrunk to that first.

    Args:
        image: `(h, w)` grey or `(h, w, 3)` RGB, 0..255, as `read` returns it.
        square: Left, top and side in pixels from the image's upper left corner; it may reach over the edges.
        size: Pixels a side, at least 1.

    Returns:
        `(size, size, 1)`, 0..255.

    Raises:
        ImageError: The side is not above 0, or one of the three is not finite.

    Source: Pillow's BILINEAR, a triangle filter as wide as the scale.
    """
    left, top, side = (float(number) for number in square)
    if not (side > 0 and np.isfinite([left, top, side]).all()):
        raise ImageError(
            f"a square of side {side} at ({left}, {top}) cannot be cut out; "
            "give finite numbers and a side above 0"
        )
    # The filter reaches over the square's edges, so a window around it is kept.
    reach = math.ceil(max(1.0, side / size)) + 1
    (first, end), (upper, lower) = (
        (
            max(0, min(length - 1, math.floor(start) - reach)),
            max(1, min(length, math.ceil(start + side) + reach)),
        )
        for start, length in ((left, image.shape[1]), (top, image.shape[0]))
    )
    part = grey(image[upper:lower, first:end])
    left, top = left - first, top - upper
    if side > _LARGEST_PADDED_SIDE:
        scale = _LARGEST_PADDED_SIDE / side
        kept = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
        part = np.asarray(Image.fromarray(part).resize(kept, Image.Resampling.BILINEAR))
        left, top, side = left * scale, top * scale, float(_LARGEST_PADDED_SIDE)
        reach = math.ceil(max(1.0, side / size)) + 1
    (left, columns), (top, rows) = (
        _beyond(left, side, part.shape[1], reach),
        _beyond(top, side, part.shape[0], reach),
    )
    part = np.pad(part, (rows, columns), mode="edge")
    # The sum of two fractions may lie a rounding beyond what is there.
    box = (left, top, min(left + side, part.shape[1]), min(top + side, part.shape[0]))
    face = np.asarray(Image.fromarray(part).resize((size, size), Image.Resampling.BILINEAR, box=box))
    return face[:, :, np.newaxis]


def _beyond(start: float, side: float, length: int, reach: int) -> tuple[float, tuple[int, int]]:
    """How many pixels to repeat before and after an axis, and where the square starts then."""
    # Further out there is nothing but the repeated pixel.
    start = max(-side - reach, min(float(length + reach), start))
    before = math.ceil(-start) + reach if start < 0 else 0
    after = math.ceil(start + side - length) + reach if start + side > length else 0
    return start + before, (before, after)


@contextmanager
def _held(source: object) -> Iterator[tuple[str, IO[bytes], int]]:
    """Give what a path, bytes or file object holds, at its begin; what to call it in a message; its bytes."""
    if isinstance(source, bytes | bytearray | memoryview):
        yield _buffered("the image", bytes(source))
        return
    if isinstance(source, str | os.PathLike):
        # A path of bytes is one to Python itself, and none to pathlib.
        path = Path(os.fsdecode(source))
        name, data = f"'{path}'", b""
        try:
            with path.open("rb") as file:
                facts = os.fstat(file.fileno())
                streamed = stat.S_ISREG(facts.st_mode) and facts.st_size > _STREAMED
                if not streamed:
                    data = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise ImageError(f"{name} cannot be read as an image: {why}; check the path") from error
        if not streamed:
            yield _buffered(name, data)
            return
        with path.open("rb") as file:
            yield name, file, facts.st_size
        return
    name = str(getattr(source, "name", "the image"))
    read_some = getattr(source, "read", None)
    try:
        given = read_some(MAX_BYTES + 1) if callable(read_some) else None
    except (OSError, ValueError) as error:
        raise ImageError(f"{name} cannot be read: {error}; open it anew") from error
    if not isinstance(given, bytes):
        kind = "a file opened as text" if isinstance(given, str) else f"a {type(source).__name__}"
        raise ImageError(
            f"{kind} is no source of an image; give a path, bytes, a binary file, an array or a PIL image"
        )
    yield _buffered(name, given)


def _buffered(name: str, data: bytes) -> tuple[str, IO[bytes], int]:
    return name, io.BytesIO(data), len(data)


def _whole(pixels: NDArray[np.uint8]) -> Picture:
    return Picture(pixels, pixels.shape[1], pixels.shape[0])


def _from_file(name: str, file: IO[bytes], size: int) -> Picture:
    start = file.read(64)
    file.seek(0)
    if _is_heic(start):
        return _from_heic(name, file.read(), size)
    header = large_images.header(file)
    if header is not None and header.width * header.height > MAX_PIXELS:
        return _from_large(name, file, size, header)
    with Image.open(file, formats=FORMATS) as image:
        return _whole(_decode(image, name))


def _from_heic(name: str, data: bytes, size: int) -> Picture:
    try:
        opened = _open_heic(data)
    except ImportError as error:
        raise ImageError(
            f"{name}: HEIC images need the extra 'heic'; run: pip install 'mien[heic]'"
        ) from error
    if opened.width * opened.height <= MAX_PIXELS:
        # Turned here and not by `_decode`, because pillow-heif takes the orientation out of what it gives.
        return _whole(_turned(_decode(opened.pillow(), name), opened.turned))
    by = _reduced(name, "HEIC", opened.width, opened.height, size)
    if opened.depth > 8 and opened.width * opened.height > _DEEP:
        raise _too_many(name, opened.width, opened.height, f"HEIC files with 10 bits of up to {_DEEP:,}")
    whole = opened.array()
    rows = 64 * by
    strips = (_of_array(whole[top : top + rows], "rgb") for top in range(0, opened.height, rows))
    return _picture(_averaged(strips, by), opened.width, opened.height, opened.turned)


def _from_large(name: str, file: IO[bytes], size: int, header: large_images.Header) -> Picture:
    """Read a JPEG or PNG of more than `MAX_PIXELS` at a reduced size."""
    width, height = header.width, header.height
    by = _reduced(name, header.kind, width, height, size)
    if header.kind == "JPEG":
        if header.held > _HELD:
            most = width * height * _HELD // header.held // 1_000_000
            raise _too_many(name, width, height, f"progressive JPEG files like this of up to {most},000,000")
        # Not by Image.open, which has a limit of its own.
        with JpegImagePlugin.jpeg_factory(file, "") as image:
            image.draft("RGB", (width // by, height // by))
            image.load()
            turned = _orientation(image)
            return _picture(_to_pixels(image, name), width, height, turned)
    if not header.strips:
        raise _too_many(name, width, height, "no PNG that is interlaced or has 16 bits in three channels")
    png = large_images.Png(file, by)
    pixels = _averaged((_of_strip(strip, name) for strip in png.strips()), by)
    with Image.open(io.BytesIO(png.noted()), formats=["PNG"]) as notes:
        return _picture(pixels, width, height, _orientation(notes))


def _of_strip(strip: large_images.Strip, name: str) -> NDArray[np.uint8]:
    if strip.pixels is not None:
        return strip.pixels
    with Image.open(io.BytesIO(strip.data), formats=["PNG"]) as image:
        image.load()
        return _to_pixels(image, name)


def _picture(pixels: NDArray[np.uint8], width: int, height: int, turned: int) -> Picture:
    """Turn what was reduced upright, and the size of the original with it."""
    if turned >= 5:
        width, height = height, width
    return Picture(_turned(pixels, turned), width, height)


def _averaged(strips: Iterable[NDArray[np.uint8]], by: int) -> NDArray[np.uint8]:
    return np.concatenate([np.asarray(Image.fromarray(strip).reduce(by)) for strip in strips])


def _reduced(name: str, kind: str, width: int, height: int, size: int) -> int:
    """Return what a large picture is reduced by.

    Raises:
        ImageError: It is too large, too long, or its file is too small to be a photo.
    """
    if width * height > MAX_LARGE[kind]:
        raise _too_many(name, width, height, f"{kind} files of up to {MAX_LARGE[kind]:,}")
    if max(width, height) > _LONGEST_SIDE:
        raise _too_many(name, width, height, f"sides of up to {_LONGEST_SIDE:,}")
    if width * height > size * _A_BYTE[kind]:
        raise _too_many(name, width, height, f"no file of so few bytes as {size:,}")
    return min(_MOST, max(2, max(width, height) // _LONGER))


def _too_many(name: str, width: int, height: int, what: str) -> ImageError:
    return ImageError(
        f"{name} is {width} × {height} pixels; above {MAX_PIXELS:,} pixels mien reads {what}, "
        "so shrink it first"
    )


def _is_film(name: str) -> bool:
    return name.rstrip("'").lower().endswith(_FILMS)


def _film(name: str) -> ImageError:
    return ImageError(f"{name} looks like a video, and this takes images; mien video takes it")


def _decode(image: Image.Image, name: str) -> NDArray[np.uint8]:
    _check_size(image.width, image.height, name)
    try:
        image.load()
        # After load, because Pillow turns a TIFF upright by itself and then drops its tag.
        turned = _orientation(image)
        pixels = _to_pixels(image, name)
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        # Each of Pillow's readers has its own errors (struct, zlib, Syntax, Key...) for damaged data.
        raise _damaged(name, error) from error
    return _turned(pixels, turned)


def _turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    return pixels if orientation == 1 else _upright(pixels, orientation)


def _damaged(name: str, error: Exception) -> ImageError:
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return ImageError(f"{name} is damaged and cannot be decoded ({said[:120]}); save it anew")


def _check_size(width: int, height: int, name: str) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{name} is {width} × {height} pixels; an image has at least one")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} is {width} × {height} pixels; mien reads up to {MAX_PIXELS:,} pixels of what is "
            "no JPEG, PNG or HEIC file, so shrink it first"
        )


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # A broken note about a picture is no reason to refuse the picture.
        return 1
    return orientation if orientation in range(2, 9) else 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo one of EXIF's eight orientations (CIPA DC-008, tag 0x0112)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _to_pixels(image: Image.Image, name: str) -> NDArray[np.uint8]:
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return _to_8_bit(np.asarray(image), name)
    if image.has_transparency_data:
        return _on_ground(image)
    if mode == "1":
        image = image.convert("L")
    elif mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return np.array(image)


def _on_ground(image: Image.Image) -> NDArray[np.uint8]:
    """Lay a transparent image on white, as a page would show it."""
    is_grey = image.mode in ("1", "L", "LA", "La")
    layer = image.convert("LA" if is_grey else "RGBA")
    ground = Image.new("L" if is_grey else "RGB", image.size, _GROUND if is_grey else (_GROUND,) * 3)
    ground.paste(layer.convert(ground.mode), mask=layer.getchannel("A"))
    return np.array(ground)


def _from_array(array: NDArray[Any], channels: str) -> NDArray[np.uint8]:
    if channels not in ("rgb", "bgr"):
        raise ImageError(f"channels is '{channels}'; an array's colours are in the order 'rgb' or 'bgr'")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise ImageError(
            f"the array has the shape {array.shape}; an image is (h, w) or (h, w, channels) "
            "with 1 to 4 channels, so give one image at a time"
        )
    _check_size(array.shape[1], array.shape[0], "the array")
    return _of_array(array, channels)


def _of_array(array: NDArray[Any], channels: str) -> NDArray[np.uint8]:
    pixels = np.array(array, order="C") if array.dtype == np.uint8 else _to_8_bit(array, "the array")
    if pixels.ndim == 2:
        return pixels
    depth = pixels.shape[2]
    if depth == 1:
        return pixels[:, :, 0]
    if channels == "bgr" and depth > 2:
        pixels = np.ascontiguousarray(pixels[:, :, [2, 1, 0, 3][:depth]])
    return pixels if depth == 3 else _on_ground(Image.fromarray(pixels))


def _to_8_bit(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Bring values without a declared range, or of 16 bits, to 0..255."""
    kind = values.dtype.kind
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if kind not in "uif":
        raise ImageError(f"{name} holds {values.dtype}; pixels are whole numbers or fractions")
    if kind == "u" and values.dtype.itemsize == 2:
        return (values >> 8).astype(np.uint8)
    low, high = values.min(), values.max()
    if kind == "f" and low >= -_BEYOND and high <= 1 + _BEYOND:
        values = values.clip(0, 1)
        low, high = values.min(), values.max()
    # Written so that NaN, which no comparison holds for, is refused.
    if not (low >= 0 and high <= 65535):
        raise ImageError(
            f"{name} holds values from {low} to {high}; "
            "pixels lie in 0..1, 0..255 or 0..65535, scale them first"
        )
    if kind == "f":
        values = np.rint(values * 255 if high <= 1 else values)
    if high > 255:
        values = values.astype(np.uint16) >> 8
    return values.astype(np.uint8)


def _is_heic(start: bytes) -> bool:
    """Say whether a file is HEIC or HEIF by its first bytes, of which 64 do.

    Source: ISO/IEC 23008-12, 10.2; ISO/IEC 14496-12, 4.3 (box `ftyp`).
    """
    if start[4:8] != b"ftyp":
        return False
    end = min(len(start), int.from_bytes(start[:4]))
    brands = {start[place : place + 4] for place in (8, *range(16, end - 3, 4))}
    if start[8:12] in _AVIF_BRANDS:
        return False
    return bool(brands & _HEIC_BRANDS) or (start[8:12] in _HEIF_BRANDS and not brands & _AVIF_BRANDS)


@dataclass(frozen=True)
class _Heic:
    """A file whose header is read and whose pixels are not.

    Args:
        width: Pixels, as the file is turned.
        height: Pixels.
        depth: Bits a channel.
        turned: EXIF's orientation, as far as the decoder does not turn the picture by itself.
        image: pillow-heif's.
    """

    width: int
    height: int
    depth: int
    turned: int
    image: Any

    def pillow(self) -> Image.Image:
        """Decode it."""
        image: Image.Image = self.image.to_pillow()
        return image

    def array(self) -> NDArray[np.uint8]:
        """Decode it without a second copy: `(h, w)` grey, `(h, w, 3)` or `(h, w, 4)`."""
        return np.asarray(self.image)


def _open_heic(data: bytes) -> _Heic:
    """Read the header of a file's main picture.

    The file's own turns and mirrors are applied by the decoder, and EXIF's orientation is then only a note of
    them, as the standard says. A file that has none is turned by EXIF, because converters leave it so.

    Raises:
        ImportError: pillow-heif is not installed.
        Exception: Whatever pillow-heif raises on damaged data.
    """
    import pillow_heif  # only here: it loads 20 MB of libraries

    file = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
    image = file[file.primary_index]
    turned = 1
    if not _heic_turns(data):
        turned = pillow_heif.misc.set_orientation(dict(image.info)) or 1
    width, height = image.size
    return _Heic(width, height, int(image.info["bit_depth"]), turned, image)


def _heic_turns(data: bytes) -> bool:
    """Say whether the file turns or mirrors its pictures."""
    end = 0
    while end + 8 <= len(data):
        size, kind = int.from_bytes(data[end : end + 4]), data[end + 4 : end + 8]
        if kind == b"meta":
            meta = data[end : end + size] if size else data[end:]
            return b"irot" in meta or b"imir" in meta
        if size < 8:
            break
        end += size
    return False
