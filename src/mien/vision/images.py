"""Read images from any source, and convert them to the input of a model.

    pixels = images.read("photo.jpg")                  # upright, (h, w) grey or (h, w, 3) RGB, uint8
    picture = images.picture("photo.jpg")              # pixels, and the size of the original
    face = images.fit(pixels, 48)                      # (48, 48, 1) uint8, the input of a model
    face = images.cut(pixels, (12.5, 8.0, 96.0), 48)   # the same for a square of the image

Training, evaluation and prediction all use this preprocessing.
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

#: Maximum number of pixels that are read at full size. Larger arrays, PIL images and files of most formats
#: are refused by their header, before any decoding.
MAX_PIXELS = 40_000_000

#: Maximum number of pixels for these formats; above `MAX_PIXELS` they are read at half the size or less.
MAX_LARGE = {"JPEG": 250_000_000, "PNG": 250_000_000, "HEIC": 90_000_000}

#: Maximum size of a file in bytes: 40 megapixels with four channels of 16 bits, and a header.
MAX_BYTES = 512 * 2**20

#: Formats that are read. The other readers of Pillow have most of its security faults.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")

Source: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | NDArray[Any] | Image.Image
)

_WANTED = f"mien reads {', '.join(FORMATS)} and HEIC"
#: Target for the longer side of a reduced image; an image is reduced by at least 2.
_LONGER = 4000
#: Maximum reduction factor, and maximum side; together they limit the size of a strip of a PNG file.
_MOST, _LONGEST_SIDE = 16, 65_535
#: Maximum pixels per byte of a large file. Plain white PNG files have 340 (RGB) to 8,000.
_PIXELS_PER_BYTE = {"JPEG": 300, "PNG": 300, "HEIC": 3000}
#: Maximum memory in bytes of a decoder that cannot decode line by line.
_MAX_BUFFER = 330 * 2**20
#: Maximum pixels of a HEIC file with more than 8 bits a channel, which needs twice the memory.
_MAX_DEEP = 50_000_000
#: Size in bytes above which a file is read while it is decoded.
_STREAM_ABOVE = 32 * 2**20
#: Number of rows that are copied at once.
_ROWS = 256
_GROUND = 255
#: File extensions of videos and archives, for the error message.
_VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
#: Tolerance for fractions outside 0..1, as resizing produces them; they are clipped.
_TOLERANCE = 0.1
_ORIENTATION = 0x0112
#: First bytes of JPEG, PNG, GIF, TIFF and BigTIFF files, and the possible header sizes of BMP.
_SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"),
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
)
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
_LARGEST_PADDED_SIDE = 4096
#: Brands (box `ftyp`) of HEIC files, of HEIC or AVIF files, and of AVIF files.
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEIF_BRANDS = {b"mif1", b"msf1", b"mif2"}
_AVIF_BRANDS = {b"avif", b"avis"}


@dataclass(frozen=True)
class Picture:
    """An image, reduced if it is large.

    Args:
        pixels: `(h, w)` grey or `(h, w, 3)` RGB, 0..255, upright.
        width: Width of the upright original in pixels.
        height: Height of the upright original in pixels.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int

    @property
    def scale(self) -> tuple[float, float]:
        """Factors (x, y) from coordinates in `pixels` to those of the original, at least 1."""
        return self.width / self.pixels.shape[1], self.height / self.pixels.shape[0]


def read(source: Source, *, channels: Literal["rgb", "bgr"] = "rgb") -> NDArray[np.uint8]:
    """Read an image and return its pixels, upright, as 8-bit grey or RGB.

    Images of more than `MAX_PIXELS` are reduced; use `picture` for the size of the original. Arguments and
    errors are as in `picture`.
    """
    return picture(source, channels=channels).pixels


def picture(source: Source, *, channels: Literal["rgb", "bgr"] = "rgb") -> Picture:
    """Read an image, upright, as 8-bit grey or RGB.

    The pixels of an image are identical for a path, bytes, a file object, an array and a PIL image. The EXIF
    orientation is applied; unreadable EXIF data count as upright. Animations and files with several pages
    give their first frame, a PIL image its current frame. Conversion of pixels by mode:

    - 1 (and boolean arrays): 0 and 255. L: unchanged. P, CMYK, YCbCr, LAB and HSV: RGB by Pillow.
    - LA, PA, RGBA, and any transparent colour: on white.
    - I;16 and uint16, and 16-bit colour files: the high byte, so values are scaled and never clipped.
    - I, F and other numeric arrays have no declared range. The range is the first of 0..1 (fractions only),
      0..255 and 0..65535 that contains all pixels. Fractions up to 0.1 outside 0..1, as resizing produces
      them, are clipped. Other negative, larger or non-finite values are an error.

    A JPEG, PNG or HEIC file of more than `MAX_PIXELS` is reduced by an integer from 2 to 16, within 600 MiB
    of memory, so that the longer side has 4,000 pixels if possible. JPEG is decoded at a scale of 2, 4 or 8;
    the others are averaged.

    Args:
        source: A path, the bytes of a file, a binary file object (read from its current position), a PIL
            image, or an array: `(h, w)`, `(h, w, 1)` grey, `(h, w, 2)` grey and alpha, `(h, w, 3)`,
            `(h, w, 4)`.
        channels: Order of colours in an array of three or four channels; OpenCV uses `bgr`.

    Returns:
        The picture; its array is a copy.

    Raises:
        ImageError: The format is not supported, the image is damaged, it has more than `MAX_PIXELS` or
            `MAX_LARGE` pixels, or it is a HEIC file and pillow-heif is not installed.
    """
    if isinstance(source, Image.Image):
        return _whole(_decode(source, "the image"))
    if isinstance(source, np.ndarray):
        return _whole(_from_array(source, channels))
    with _opened(source) as (name, file, size):
        if not size:
            raise ImageError(f"{name} is empty; {_WANTED}")
        if size > MAX_BYTES and (other := _other_kind(name)):
            raise ImageError(other)
        if size > MAX_BYTES:
            raise ImageError(f"{name} is larger than {MAX_BYTES // 2**20} MiB; shrink it first")
        try:
            return _from_file(name, file, size)
        except (ImageError, MemoryError):
            raise
        except UnidentifiedImageError as error:
            message = _other_kind(name) or f"{name} is damaged or not an image; {_WANTED}"
            raise ImageError(message) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageError(f"{name} has more than {MAX_PIXELS:,} pixels; shrink it first") from error
        except Exception as error:
            raise _damaged(name, error) from error


def is_image_file(path: str | os.PathLike[str]) -> bool | None:
    """Return whether a file starts like an image, or None if it cannot be read."""
    path = Path(path)
    try:
        if path.is_file():
            with path.open("rb") as file:
                return starts_like_image(file.read(64))
    except OSError:
        return None
    return None


def starts_like_image(start: bytes) -> bool:
    """Return whether a file starts like a format in `FORMATS` or HEIC.

    Only the signature is checked, so damaged images count too.

    Args:
        start: The first 64 bytes of the file, or fewer if it is shorter.

    Source: Pillow's plugins for these formats, and ISO/IEC 14496-12, 4.3 for AVIF and HEIC.
    """
    if start.startswith(_SIGNATURES):
        return True
    if start[:4] == b"RIFF":
        return start[8:12] == b"WEBP"
    # Many texts begin with "BM", so the size of the second header is checked too.
    if start[:2] == b"BM":
        return int.from_bytes(start[14:18], "little") in _BMP_HEADERS
    return _is_heic(start) or (start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis"))


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image in grey with the weights of Pillow.

    Args:
        image: `(h, w)` grey, returned unchanged, or `(h, w, 3)` RGB; 0..255.

    Returns:
        `(h, w)`: (19595 R + 38470 G + 7471 B + 32768) // 65536.

    Source: luma of ITU-R BT.601 in 16-bit fixed point.
    """
    if image.ndim == 2:
        return image
    return np.asarray(Image.fromarray(image).convert("L"))


def fit(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return an image as the input of a model: grey, square, `size` pixels a side.

    The shorter side is padded by repeating edge pixels, equally on both sides (an odd pixel goes right or
    below), so faces keep their proportions. Shrinking averages all pixels. An image of `size` × `size` is
    unchanged. An image with a side above 4096 is reduced to that before padding, which limits the memory.

    Args:
        image: `(h, w)` grey or `(h, w, 3)` RGB, 0..255, as `read` returns it.
        size: Side in pixels, at least 1.

    Returns:
        `(size, size, 1)`, 0..255.

    Source: BILINEAR of Pillow, a triangle filter as wide as the scale.
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
    """Return a square of an image as the input of a model: grey, `size` pixels a side.

    Edges can be between pixels. Outside the image, edge pixels repeat. Shrinking averages all pixels. For the
    square that is the whole image the result equals that of `fit`. A square with a side above 4096 pixels is
    reduced to that first.

    Args:
        image: `(h, w)` grey or `(h, w, 3)` RGB, 0..255, as `read` returns it.
        square: Left, top and side in pixels; it can extend beyond the image.
        size: Side of the result in pixels, at least 1.

    Returns:
        `(size, size, 1)`, 0..255.

    Raises:
        ImageError: The side is not positive, or a number is not finite.

    Source: BILINEAR of Pillow, a triangle filter as wide as the scale.
    """
    left, top, side = (float(number) for number in square)
    if not (side > 0 and np.isfinite([left, top, side]).all()):
        raise ImageError(
            f"the square of side {side} at ({left}, {top}) is invalid; "
            "give finite numbers and a positive side"
        )
    # The filter needs pixels around the square.
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
        _padding(left, side, part.shape[1], reach),
        _padding(top, side, part.shape[0], reach),
    )
    part = np.pad(part, (rows, columns), mode="edge")
    # Rounding can move the sum of two fractions beyond the image.
    box = (left, top, min(left + side, part.shape[1]), min(top + side, part.shape[0]))
    face = np.asarray(Image.fromarray(part).resize((size, size), Image.Resampling.BILINEAR, box=box))
    return face[:, :, np.newaxis]


def _padding(start: float, side: float, length: int, reach: int) -> tuple[float, tuple[int, int]]:
    """Return the start of a square in the padded image, and the padding before and after it."""
    # Further out, all pixels are equal.
    start = max(-side - reach, min(float(length + reach), start))
    before = math.ceil(-start) + reach if start < 0 else 0
    after = math.ceil(start + side - length) + reach if start + side > length else 0
    return start + before, (before, after)


def _reason(path: Path, error: OSError | ValueError) -> str:
    """Return why a file cannot be opened, and what to do."""
    if path.parts[:1] in (("http:",), ("https:",)):
        return "mien reads files only; download it first"
    if isinstance(error, FileNotFoundError):
        return "it does not exist; check the path"
    # Windows refuses the permission to open a folder.
    if isinstance(error, IsADirectoryError) or (os.name == "nt" and path.is_dir()):
        return "it is a folder; name one image, or use mien.predict_files for all images in it"
    if isinstance(error, PermissionError):
        return "permission denied; change its permissions, or copy it to a folder of your own"
    return f"{(error.strerror or error) if isinstance(error, OSError) else error}; check the path"


@contextmanager
def _opened(source: object) -> Iterator[tuple[str, IO[bytes], int]]:
    """Yield the name for messages, an open file, and its size, for a path, bytes or file object."""
    if isinstance(source, bytes | bytearray | memoryview):
        yield _buffered("the image", bytes(source))
        return
    if isinstance(source, str | os.PathLike):
        # pathlib does not accept paths of bytes.
        path = Path(os.fsdecode(source))
        name, data = f"'{path}'", b""
        try:
            with path.open("rb") as file:
                facts = os.fstat(file.fileno())
                streamed = stat.S_ISREG(facts.st_mode) and facts.st_size > _STREAM_ABOVE
                if not streamed:
                    data = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            raise ImageError(f"{name} cannot be read as an image: {_reason(path, error)}") from error
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
        raise ImageError(f"{name} cannot be read: {error}; open it again") from error
    if not isinstance(given, bytes):
        kind = "a file opened as text" if isinstance(given, str) else f"the type {type(source).__name__}"
        raise ImageError(
            f"{kind} cannot be read as an image; give a path, bytes, a binary file, an array or a PIL image"
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
            f"{name}: HEIC images need the extra 'heic'; run: pip install \"mien[heic]\""
        ) from error
    if opened.width * opened.height <= MAX_PIXELS:
        # Not by `_decode`, because pillow-heif removes the orientation from its result.
        return _whole(_turned(_decode(opened.image.to_pillow(), name), opened.turned))
    by = _reduced(name, "HEIC", opened.width, opened.height, size)
    if opened.depth > 8 and opened.width * opened.height > _MAX_DEEP:
        raise _too_many(name, opened.width, opened.height, f"HEIC files with 10 bits of up to {_MAX_DEEP:,}")
    whole = np.asarray(opened.image)
    rows = 64 * by
    strips = (_of_array(whole[top : top + rows], "rgb") for top in range(0, opened.height, rows))
    return _picture(_averaged(strips, by), opened.width, opened.height, opened.turned)


def _from_large(name: str, file: IO[bytes], size: int, header: large_images.Header) -> Picture:
    """Read a JPEG or PNG of more than `MAX_PIXELS` at a reduced size."""
    width, height = header.width, header.height
    by = _reduced(name, header.kind, width, height, size)
    if header.kind == "JPEG":
        if header.held > _MAX_BUFFER:
            most = width * height * _MAX_BUFFER // header.held // 1_000_000
            raise _too_many(name, width, height, f"progressive JPEG files like this of up to {most},000,000")
        # Not by Image.open, which has a limit of its own.
        with JpegImagePlugin.jpeg_factory(file, "") as image:
            image.draft("RGB", (width // by, height // by))
            image.load()
            turned = _orientation(image)
            smaller = (math.ceil(width / by), math.ceil(height / by))
            # The decoder reduces by 2, 4 or 8 only.
            shrunk = image if image.size == smaller else image.resize(smaller, Image.Resampling.BOX)
        return _picture(_to_pixels(shrunk, name), width, height, turned)
    if not header.strips:
        raise _too_many(
            name, width, height, "only PNG files without interlacing and without three channels of 16 bits"
        )
    png = large_images.Png(file, by)
    pixels = _averaged((_of_strip(strip, name) for strip in png.strips()), by)
    with Image.open(io.BytesIO(png.metadata()), formats=["PNG"]) as notes:
        return _picture(pixels, width, height, _orientation(notes))


def _of_strip(strip: large_images.Strip, name: str) -> NDArray[np.uint8]:
    if strip.pixels is not None:
        return strip.pixels
    with Image.open(io.BytesIO(strip.data), formats=["PNG"]) as image:
        image.load()
        return _to_pixels(image, name)


def _picture(pixels: NDArray[np.uint8], width: int, height: int, turned: int) -> Picture:
    """Return a reduced picture upright, with the size of the upright original."""
    if turned >= 5:
        width, height = height, width
    return Picture(_turned(pixels, turned), width, height)


def _averaged(strips: Iterable[NDArray[np.uint8]], by: int) -> NDArray[np.uint8]:
    return np.concatenate([np.asarray(Image.fromarray(strip).reduce(by)) for strip in strips])


def _reduced(name: str, kind: str, width: int, height: int, size: int) -> int:
    """Return the reduction factor of a large picture; refuse pictures that are too large or too dense."""
    if width * height > MAX_LARGE[kind]:
        raise _too_many(name, width, height, f"{kind} files of up to {MAX_LARGE[kind]:,}")
    if max(width, height) > _LONGEST_SIDE:
        raise _too_many(name, width, height, f"sides of up to {_LONGEST_SIDE:,}")
    if width * height > size * _PIXELS_PER_BYTE[kind]:
        raise _too_many(name, width, height, f"only files with more than {size:,} bytes for so many pixels")
    return min(_MOST, max(2, round(max(width, height) / _LONGER)))


def _too_many(name: str, width: int, height: int, what: str) -> ImageError:
    return ImageError(
        f"{name} is {width} × {height} pixels; above {MAX_PIXELS:,} pixels mien reads {what}, "
        "so shrink it first"
    )


def _other_kind(name: str) -> str | None:
    """Return what a file is by its name, and what to do with it, if it is not named like an image."""
    plain = name.rstrip("'").lower()
    if plain.endswith(_VIDEOS):
        return f"{name} is a video, not an image; use mien video"
    if plain.endswith(_ARCHIVES):
        return f"{name} is an archive, not an image; unpack it first, for example with mien extract"
    return None


def _decode(image: Image.Image, name: str) -> NDArray[np.uint8]:
    _check_size(image.width, image.height, name)
    try:
        image.load()
        # After load, because Pillow turns TIFF images upright and then removes the tag.
        turned = _orientation(image)
        pixels = _to_pixels(image, name)
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        # The readers of Pillow raise many kinds of errors for damaged data.
        raise _damaged(name, error) from error
    return _turned(pixels, turned)


def _turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    return pixels if orientation == 1 else _upright(pixels, orientation)


def _damaged(name: str, error: Exception) -> ImageError:
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return ImageError(f"{name} is damaged and cannot be decoded ({said[:120]}); save it again")


def _check_size(width: int, height: int, name: str) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{name} is {width} × {height} pixels, so it is empty")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} is {width} × {height} pixels; the limit is {MAX_PIXELS:,} pixels, except for JPEG, "
            "PNG and HEIC files; shrink it first"
        )


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data do not make an image unreadable
        return 1
    return orientation if orientation in range(2, 9) else 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return pixels upright for an EXIF orientation (CIPA DC-008, tag 0x0112)."""
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
    return _as_array(image)


def _as_array(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a grey or RGB image in less memory than `np.array`, which copies it twice."""
    pixels = np.empty((image.height, image.width, len(image.getbands())), np.uint8)
    for top in range(0, image.height, _ROWS):
        rows = image.crop((0, top, image.width, min(top + _ROWS, image.height)))
        pixels[top : top + _ROWS] = np.asarray(rows).reshape(rows.height, rows.width, -1)
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _on_ground(image: Image.Image) -> NDArray[np.uint8]:
    """Return a transparent image on a white background."""
    is_grey = image.mode in ("1", "L", "LA", "La")
    layer = image.convert("LA" if is_grey else "RGBA")
    ground = Image.new("L" if is_grey else "RGB", image.size, _GROUND if is_grey else (_GROUND,) * 3)
    ground.paste(layer.convert(ground.mode), mask=layer.getchannel("A"))
    return np.array(ground)


def _from_array(array: NDArray[Any], channels: str) -> NDArray[np.uint8]:
    if channels not in ("rgb", "bgr"):
        raise ImageError(f"channels is '{channels}'; the order of an array's colours must be 'rgb' or 'bgr'")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise ImageError(
            f"the array has the shape {array.shape}; an image is (h, w) or (h, w, channels) "
            "with 1 to 4 channels; give one image at a time"
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
    """Return values without a declared range, or with 16 bits, scaled to 0..255."""
    kind = values.dtype.kind
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if kind not in "uif":
        raise ImageError(f"{name} has pixels of type {values.dtype}; they must be integers or floats")
    if kind == "u" and values.dtype.itemsize == 2:
        return (values >> 8).astype(np.uint8)
    low, high = values.min(), values.max()
    if kind == "f" and low >= -_TOLERANCE and high <= 1 + _TOLERANCE:
        values = values.clip(0, 1)
        low, high = values.min(), values.max()
    # This form refuses NaN as well.
    if not (low >= 0 and high <= 65535):
        raise ImageError(
            f"{name} has values from {low} to {high}; scale them to 0..1, 0..255 or 0..65535 first"
        )
    if kind == "f":
        values = np.rint(values * 255 if high <= 1 else values)
    if high > 255:
        values = values.astype(np.uint16) >> 8
    return values.astype(np.uint8)


def _is_heic(start: bytes) -> bool:
    """Return whether a file is HEIC or HEIF, by its first 64 bytes.

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
    """A HEIC file with its header read: an image of pillow-heif, which is decoded when it is used."""

    width: int
    height: int
    #: Bits per channel.
    depth: int
    #: EXIF orientation that the decoder does not apply.
    turned: int
    image: Any


def _open_heic(data: bytes) -> _Heic:
    """Read the header of the primary image of a HEIC file.

    The decoder applies the rotation and mirroring of the file; by the standard, EXIF then only repeats them.
    Converters write files with an EXIF orientation only, so it counts if the file has no rotation.
    """
    import pillow_heif  # here, because it loads 20 MB of libraries

    file = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
    image = file[file.primary_index]
    turned = 1
    if not _heic_turns(data):
        turned = pillow_heif.misc.set_orientation(dict(image.info)) or 1
    width, height = image.size
    return _Heic(width, height, int(image.info["bit_depth"]), turned, image)


def _heic_turns(data: bytes) -> bool:
    """Return whether the file rotates or mirrors its images."""
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
