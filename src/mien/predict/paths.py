"""What `mien predict` is given: files, folders, patterns."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mien.errors import ImageError

#: Suffixes that files in a folder are taken for images by. A file that is named itself may have any.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def find(paths: Iterable[str]) -> list[str]:
    """Return the files that paths name: each file itself, a folder's images, what a pattern fits.

    Folders are searched to the bottom, in the order of names; files and folders whose name begins with a dot
    are passed over, links to folders are not followed. A path that leads nowhere stays, and so does a folder
    that may not be looked into, for whoever reads it to complain of. A file that is named more than once
    stands once.

    Args:
        paths: As the user gave them; `~` is not expanded.

    Raises:
        ImageError: A folder holds no image, or a pattern fits nothing.
    """
    return list(dict.fromkeys(file for path in paths for file in _files(path)))


def _files(path: str) -> Iterator[str]:
    place = Path(path)
    if place.is_dir():
        found = list(_below(place))
        if not found:
            raise ImageError(f"{path!r} holds no image; mien takes files that end in {', '.join(SUFFIXES)}")
        yield from found
    elif os.path.lexists(path) or not glob.has_magic(path):
        yield path
    else:
        fitting = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 a pattern may be absolute
        if not fitting:
            raise ImageError(f"no file fits the pattern {path!r}; check it")
        for each in fitting:
            yield from _below(Path(each)) if Path(each).is_dir() else [each]


def _below(folder: Path) -> Iterator[str]:
    closed: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield str(Path(place, name))
    yield from (os.fsdecode(error.filename) for error in closed)
