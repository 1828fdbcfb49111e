"""Find the image files that a user names, and write images with their faces marked."""

import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien import _files
from mien.errors import ImageError, InputError
from mien.types import Box, Face, Prediction
from mien.vision import annotation, images
from mien.vision.images import Source, is_image_file

#: Extensions of images in folders. A file with another extension is an image if its content begins like one;
#: a file that the user names may have any extension.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif"),
)

#: Extensions of images that mien cannot read; in folders these files are skipped and reported.
UNREAD = (
    *(".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"),
    *(".psd", ".psb", ".svg", ".jxl", ".jp2", ".eps", ".tga", ".ico", ".xcf", ".exr", ".hdr"),
)


@dataclass(frozen=True)
class Shard:
    """A part of the files that a user names: those whose name has a hash with this remainder.

    Whether a file belongs to a shard depends on its name alone, so machines need no common listing, and a new
    file moves no other file to another shard.

    Example:
        >>> shards = [Shard.parse(f"{number}/3") for number in (1, 2, 3)]
        >>> [shard.has("2026/photo.jpg") for shard in shards].count(True)
        1

    Args:
        number: Number of the shard, from 1.
        count: Number of shards.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Return the shard that a text such as `3/8` names.

        Raises:
            InputError: It is not of this form, or out of range.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text) if isinstance(text, str) else None
        if found is None:
            raise InputError(f"the shard {text!r} must be two numbers such as 3/8, the third of eight shards")
        number, count = int(found[1]), int(found[2])
        if not 1 <= number <= count:
            raise InputError(
                f"the shard {text!r} does not exist; give a number from 1/{count} to {count}/{count}"
            )
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def has(self, name: str) -> bool:
        """Return whether a file belongs to the shard.

        Args:
            name: Its path below the folder that the user named, with slashes.
        """
        digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1


def check_sources(sources: object) -> None:
    """Check that `sources` is an iterable of images and not one image, such as a path or an array.

    Raises:
        InputError: It is one image or not iterable.
    """
    one = isinstance(sources, str | bytes | bytearray | memoryview | os.PathLike | Image.Image)
    one = one or hasattr(sources, "read")
    if isinstance(sources, np.ndarray):
        # A stack of grey images has three dimensions too, and hardly ever a width of 3 or 4.
        one = sources.ndim < 3 or (sources.ndim == 3 and sources.shape[2] in (3, 4))
    if one or not isinstance(sources, Iterable):
        raise InputError(f"sources must be a list of images, not one {type(sources).__name__}; pass [source]")


def find(
    paths: Iterable[str],
    *,
    on_problem: Callable[[str, str], None] | None = None,
    on_skipped: Callable[[str], None] | None = None,
    on_other: Callable[[str], None] | None = None,
    keep: Callable[[str], bool] | None = None,
) -> list[str]:
    """Return the image files that paths name: files, images in folders, and matches of patterns.

    Folders are searched recursively, in the order of names, without hidden files, pipes and links to folders.
    A path that does not exist and a folder that cannot be opened are returned, so that reading them reports
    the error. Each file is returned once.

    Args:
        paths: Files, folders and patterns; `~` is not expanded.
        on_problem: Called with a path that names no image, and the reason; None raises an error instead.
        on_skipped: Called with each file in a folder whose extension is in `UNREAD`.
        on_other: Called with each file in a folder that is hidden or not an image.
        keep: Called with the name of each file, which is its path below the folder that was named, with
            slashes; files for which it returns False are not opened and not returned. None keeps all.

    Raises:
        ImageError: A folder has no image, or a pattern matches none.
        InputError: `paths` is one path, not a list.
    """
    check_sources(paths)
    files: dict[str, None] = {}
    for path in paths:
        empty = True
        for found in _files_of(path, on_skipped or _ignore, on_other or _ignore, keep or _all):
            empty = False
            if found:  # empty if `keep` left the file out
                files[found] = None
        if not empty:
            continue
        if Path(path).is_dir():
            reason = f"{path!r} has no images; mien reads {', '.join(SUFFIXES)}"
        else:
            reason = f"no image matches the pattern {path!r}"
        if on_problem is None:
            raise ImageError(reason)
        on_problem(path, reason)
    return list(files)


def _ignore(_: str) -> None:
    pass


def _all(_: str) -> bool:
    return True


def _files_of(
    path: str,
    on_skipped: Callable[[str], None],
    on_other: Callable[[str], None],
    keep: Callable[[str], bool],
) -> Iterator[str]:
    """Yield the files that a path names; an empty text for an image that `keep` leaves out."""
    place = Path(path)
    if place.is_dir():
        yield from _below(place, on_skipped, on_other, keep)
        return
    if os.path.lexists(path) or not glob.has_magic(path):
        yield path if keep(path) else ""
        return
    fitting = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 a pattern may be absolute
    for each in fitting:
        place = Path(each)
        if place.is_dir():
            yield from _below(place, on_skipped, on_other, keep)
        elif not keep(each):
            yield ""
        elif lasting(place):
            yield each


def _below(
    folder: Path,
    on_skipped: Callable[[str], None] = _ignore,
    on_other: Callable[[str], None] = _ignore,
    keep: Callable[[str], bool] = _all,
) -> Iterator[str]:
    closed: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(os.path.relpath(place, folder)).as_posix() if files else ""
        for name in sorted(files):
            path = Path(place, name)
            if not keep(name if inside == "." else f"{inside}/{name}"):
                if not name.startswith(".") and path.suffix.lower() in SUFFIXES:
                    yield ""
                continue
            if not lasting(path):
                continue
            suffix = "" if name.startswith(".") else path.suffix.lower()
            if suffix in UNREAD:
                on_skipped(str(path))
            elif suffix in SUFFIXES or (not name.startswith(".") and is_image_file(path)):
                yield str(path)
            else:
                on_other(str(path))
    for error in closed:
        name = os.fsdecode(error.filename)
        yield name if keep(Path(os.path.relpath(name, folder)).as_posix()) else ""


def walk_order(path: str) -> tuple[tuple[bool, str], ...]:
    """Return what sorts paths as `find` does: the files of a folder by name, then its folders."""
    *folders, name = path.replace(os.sep, "/").split("/")
    return (*((True, folder) for folder in folders), (False, name))


def lasting(path: str | os.PathLike[str]) -> bool:
    """Return whether a path can be read more than once, or does not exist; a pipe can be read only once."""
    place = Path(path)
    return place.is_file() or not place.exists()


#: Quality of JPEG files.
QUALITY = 92
#: Bytes of a source's name in a file name, which stays under 255 bytes with its extension.
_LONGEST = 160
#: Ends of the names of files that `save` writes.
_SAVED = re.compile(r"\.(faces\.jpg|face\d+\.png)$")


def save(source: Source, prediction: Prediction, folder: str | os.PathLike[str]) -> list[Path]:
    """Write `NAME.faces.jpg`, the image with its faces marked, and each face as `NAME.face1.png` and so on.

    NAME is the source's name. If it has folders or characters that file names cannot have, a hash of the
    whole name follows, so that two sources never share files. A large image is written at the reduced size at
    which it is read. Faces of a rotated image are written upright.

    Args:
        source: The image, which is read again.
        prediction: The prediction of the image.
        folder: The folder to write to; it is created if it does not exist.

    Returns:
        The files that were written.

    Raises:
        ImageError: The image cannot be read again, for example because it is a pipe.
        InputError: A file cannot be written.
    """
    if isinstance(source, str | os.PathLike) and not lasting(Path(source)):
        raise ImageError(f"'{source}' is a pipe or a device, which can be read only once; name a file")
    picture, folder = images.picture(source), Path(folder)
    pixels, name = picture.pixels, _name(prediction.source)
    seen = _seen(picture, prediction)
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


def mark(picture: images.Picture, prediction: Prediction) -> NDArray[np.uint8]:
    """Return a copy of a picture with the faces of its prediction marked.

    Args:
        picture: The picture, perhaps reduced.
        prediction: Its prediction, in pixels of the original.

    Returns:
        `(h, w, 3)` RGB, 0..255, of the size of `picture.pixels`.
    """
    return annotation.draw(picture.pixels, _seen(picture, prediction))


def _seen(picture: images.Picture, prediction: Prediction) -> list[Face]:
    """Return the faces of a prediction in pixels of a picture that is perhaps reduced."""
    return [replace(face, box=_scaled(face.box, picture.scale)) for face in prediction.faces]


def is_saved(prediction: Prediction, folder: str | os.PathLike[str]) -> bool:
    """Return whether all files that `save` writes for a prediction are in `folder`."""
    name = _name(prediction.source)
    faces = (f"{name}.face{number}.png" for number in range(1, len(prediction.faces) + 1))
    return all((Path(folder) / file).is_file() for file in (f"{name}.faces.jpg", *faces))


def saved(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Return whether a path is, or links to, a file in `folder` with a name that `save` gives."""
    given, home = Path(path), Path(folder).resolve()
    return any(
        _SAVED.search(place.name) and place.parent.resolve() == home
        for place in (given, Path(os.path.realpath(given)))
    )


def _writer(pixels: NDArray[np.uint8]) -> Callable[[Path], None]:
    return lambda partial: Image.fromarray(pixels).save(partial, quality=QUALITY)


def _part(pixels: NDArray[np.uint8], box: Box, rotation: int) -> NDArray[np.uint8]:
    part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
    return np.ascontiguousarray(np.rot90(part, -rotation // 90))


def _scaled(box: Box, scale: tuple[float, float]) -> Box:
    """Return a box of the original image in pixels of the reduced image; at least 1 pixel."""
    if max(scale) == 1:
        return box
    (across, down), (left, top) = scale, (int(box.left / scale[0]), int(box.top / scale[1]))
    return Box(left, top, max(1, round(box.width / across)), max(1, round(box.height / down)))


def _name(source: str) -> str:
    """Return a file name that is unique to the source."""
    plain = re.sub(r"[^\w.() -]", "_", source.lstrip("./\\"))
    if plain == source and len(plain.encode()) <= _LONGEST:
        return plain
    digest = hashlib.sha256(source.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{plain.encode()[-_LONGEST:].decode(errors='ignore')}.{digest}"
