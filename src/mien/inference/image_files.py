"""Find the image files that a user names, and write images with their faces marked."""

import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien import _files
from mien.errors import ImageError, InputError
from mien.types import Box, Prediction
from mien.vision import annotation, images
from mien.vision.images import Source, is_image_file

#: Suffixes by which files in a folder are taken for images. A file with another suffix is one if its content
#: begins as an image does; a file that is named itself may have any.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif"),
)

#: Suffixes of images that mien does not read; in a folder they are passed over and told of.
UNREAD = (
    *(".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"),
    *(".psd", ".psb", ".svg", ".jxl", ".jp2", ".eps", ".tga", ".ico", ".xcf", ".exr", ".hdr"),
)


def check_sources(sources: object) -> None:
    """Make sure that `sources` is an iterable of images, and not one image.

    Otherwise the letters of a path, the rows of an array or the lines of a file would be taken for images.

    Raises:
        InputError: It is one image or not iterable.
    """
    one = isinstance(sources, str | bytes | bytearray | memoryview | os.PathLike | Image.Image)
    one = one or hasattr(sources, "read")
    if isinstance(sources, np.ndarray):
        # A stack of grey images has three dimensions too, and hardly ever a width of 3 or 4.
        one = sources.ndim < 3 or (sources.ndim == 3 and sources.shape[2] in (3, 4))
    if one or not isinstance(sources, Iterable):
        raise InputError(
            f"a list of images is expected, not one {type(sources).__name__}; put it into a list, such as "
            "[source]"
        )


def find(
    paths: Iterable[str],
    *,
    on_problem: Callable[[str, str], None] | None = None,
    on_skipped: Callable[[str], None] | None = None,
    on_other: Callable[[str], None] | None = None,
) -> list[str]:
    """Return the files that paths name: each file itself, a folder's images, what a pattern fits.

    Folders are searched to the bottom, in the order of names; files and folders whose name begins with a dot
    are passed over, and so is what is no file, such as a pipe; links to folders are not followed. A path that
    leads nowhere stays, and so does a folder that may not be looked into, for whoever reads it to complain
    of. A file that is named more than once stands once.

    Args:
        paths: As the user gave them; `~` is not expanded.
        on_problem: Called with a path that names no image, and why; without it that is an error.
        on_skipped: Called with each file of a folder that is an image by its name, of a kind in `UNREAD`.
        on_other: Called with each file of a folder that is hidden, or not an image by suffix or content.

    Raises:
        ImageError: A folder holds no image, or a pattern fits none.
        InputError: `paths` is one path, not a list.
    """
    check_sources(paths)
    files: dict[str, None] = {}
    for path in paths:
        found, reason = _files_of(path, on_skipped or _ignore, on_other or _ignore)
        files |= dict.fromkeys(found)
        if not found and on_problem is None:
            raise ImageError(reason)
        if not found and on_problem is not None:
            on_problem(path, reason)
    return list(files)


def _ignore(_: str) -> None:
    pass


def _files_of(
    path: str, on_skipped: Callable[[str], None], on_other: Callable[[str], None]
) -> tuple[list[str], str]:
    """Return the files that a path names, and why there are none where there are none."""
    place = Path(path)
    if place.is_dir():
        reason = f"{path!r} holds no image; mien takes files that end in {', '.join(SUFFIXES)}"
        return list(_below(place, on_skipped, on_other)), reason
    if os.path.lexists(path) or not glob.has_magic(path):
        return [path], ""
    fitting = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 a pattern may be absolute
    found: list[str] = []
    for each in fitting:
        place = Path(each)
        if place.is_dir():
            found += _below(place, on_skipped, on_other)
        elif lasting(place):
            found.append(each)
    return found, f"no image fits the pattern {path!r}; check it"


def _below(
    folder: Path, on_skipped: Callable[[str], None] = _ignore, on_other: Callable[[str], None] = _ignore
) -> Iterator[str]:
    closed: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if not lasting(path):
                continue
            suffix = "" if name.startswith(".") else path.suffix.lower()
            if suffix in UNREAD:
                on_skipped(str(path))
            elif suffix in SUFFIXES or (not name.startswith(".") and is_image_file(path)):
                yield str(path)
            else:
                on_other(str(path))
    yield from (os.fsdecode(error.filename) for error in closed)


def lasting(path: str | os.PathLike[str]) -> bool:
    """Say whether what a path gives can be had again and again; who opens a pipe anew may wait for ever.

    A path that leads nowhere counts, for whoever reads it tells of it.
    """
    place = Path(path)
    return place.is_file() or not place.exists()


_QUALITY = 92
#: Bytes of a source's name that a file's name keeps; with what is put around it, it stays under 255.
_LONGEST = 160
#: How the names end that `save` gives.
_SAVED = re.compile(r"\.(faces\.jpg|face\d+\.png)$")


def save(source: Source, prediction: Prediction, folder: str | os.PathLike[str]) -> list[Path]:
    """Write `NAME.faces.jpg`, the image with its faces marked, and each face as `NAME.face1.png` and so on.

    NAME is the source's name; where that has folders in it, or what file names cannot hold, a hash of the
    whole name follows, so that no two sources share files. A large picture is written as it is read, at a
    reduced size. The faces of an image that was turned are written upright.

    Args:
        source: The image, to be read again.
        prediction: What was found in it.
        folder: Where to; it is made if need be.

    Returns:
        The files, each whole.

    Raises:
        ImageError: The image can no longer be read, or gives itself but once, as a pipe does.
        InputError: A file cannot be written.
    """
    if isinstance(source, str | os.PathLike) and not lasting(Path(source)):
        raise ImageError(f"'{source}' is a pipe or a device, which gives an image but once; name a file")
    picture, folder = images.picture(source), Path(folder)
    pixels, name = picture.pixels, _name(prediction.source)
    seen = [replace(face, box=_scaled(face.box, picture.scale)) for face in prediction.faces]
    faces = {
        folder / f"{name}.face{number}.png": _part(pixels, face.box, prediction.rotation)
        for number, face in enumerate(seen, start=1)
    }
    written: dict[Path, NDArray[np.uint8]] = {
        folder / f"{name}.faces.jpg": annotation.draw(pixels, seen),
        **faces,
    }
    for path, content in written.items():
        try:
            _files.fill(path, _writer(content))
        except OSError as error:
            raise InputError(f"'{path}' cannot be written: {_files.reason(error)}") from None
    return list(written)


def is_saved(prediction: Prediction, folder: str | os.PathLike[str]) -> bool:
    """Say whether all the files that `save` makes of a prediction are in `folder`."""
    name = _name(prediction.source)
    faces = (f"{name}.face{number}.png" for number in range(1, len(prediction.faces) + 1))
    return all((Path(folder) / file).is_file() for file in (f"{name}.faces.jpg", *faces))


def saved(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Say whether a path is, or leads to, a file in `folder` with a name that `save` gives."""
    given, home = Path(path), Path(folder).resolve()
    return any(
        _SAVED.search(place.name) and place.parent.resolve() == home
        for place in (given, Path(os.path.realpath(given)))
    )


def _writer(pixels: NDArray[np.uint8]) -> Callable[[Path], None]:
    return lambda partial: Image.fromarray(pixels).save(partial, quality=_QUALITY)


def _part(pixels: NDArray[np.uint8], box: Box, rotation: int) -> NDArray[np.uint8]:
    part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
    return np.ascontiguousarray(np.rot90(part, -rotation // 90))


def _scaled(box: Box, scale: tuple[float, float]) -> Box:
    """Return a box of the original in the pixels that were read; at least one pixel."""
    if max(scale) == 1:
        return box
    (across, down), (left, top) = scale, (int(box.left / scale[0]), int(box.top / scale[1]))
    return Box(left, top, max(1, round(box.width / across)), max(1, round(box.height / down)))


def _name(source: str) -> str:
    """Return a file's name that no other source has."""
    plain = re.sub(r"[^\w.() -]", "_", source.lstrip("./\\"))
    if plain == source and len(plain.encode()) <= _LONGEST:
        return plain
    digest = hashlib.sha256(source.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{plain.encode()[-_LONGEST:].decode(errors='ignore')}.{digest}"
