"""Read the labelled images of a source: class folders, an archive of them, or a csv of pixels."""

import io
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mien.data import archives
from mien.data.contents import Contents, check_room, shorten
from mien.data.folders import is_junk, may_be_image, understand
from mien.data.pixel_tables import is_table, read_table
from mien.errors import DataError, ImageError
from mien.vision import images

_Progress = Callable[[int, int], None] | None


def read(
    source: str | os.PathLike[str],
    size: int,
    *,
    votes: str | os.PathLike[str] | None,
    limits: archives.Limits | None,
    progress: _Progress,
) -> Contents:
    """Read every image of a folder, an archive or a csv.

    Raises:
        DataError: No image was found, or the folders, columns or votes cannot be used.
        ArchiveError: The archive is damaged, unsafe or beyond `limits`.
    """
    try:
        return _read(Path(source), size, None if votes is None else Path(votes), limits, progress)
    except OSError as error:
        raise DataError(f"'{source}' cannot be read: {error.strerror}; check its permissions") from error


def _read(
    source: Path, size: int, votes: Path | None, limits: archives.Limits | None, progress: _Progress
) -> Contents:
    if source.is_dir():
        return _folder(source, size, votes, progress)
    if not source.is_file():
        raise DataError(f"'{source}' does not exist; give a folder, an archive or a csv of labelled faces")
    if archives.is_archive(source):
        return _archive(source, size, votes, limits, progress)
    return _csv(source, source.name, size, votes, progress)


def _csv(path: Path, name: str, size: int, votes: Path | None, progress: _Progress) -> Contents:
    with path.open("rb") as stream:
        total = path.stat().st_size
        return read_table(stream, name=name, size=size, total=total, votes=votes, progress=progress)


def _folder(source: Path, size: int, votes: Path | None, progress: _Progress) -> Contents:
    names, hidden, empty = _walk(source)
    candidates = [name for name in names if may_be_image(name)]
    check_room(len(candidates), size)
    faces: dict[str, NDArray[np.uint8] | str] = {}
    for done, name in enumerate(candidates, start=1):
        faces[name] = _face_in(source / name, size)
        if progress:
            progress(done, len(candidates))
    others = [name for name in names if not may_be_image(name)]
    found = understand(
        faces,
        others=others,
        hidden=hidden,
        empty=empty,
        is_image=lambda name: _may_be_image(source / name),
    )
    table = None
    if found is None or len(found.classes) < 2:
        table = next((name for name in _best_first(names) if _is_table(source / name)), None)
    if table is not None:
        return _csv(source / table, table, size, votes, progress)
    return _chosen(source, found, names, votes)


def _archive(
    source: Path, size: int, votes: Path | None, limits: archives.Limits | None, progress: _Progress
) -> Contents:
    faces: dict[str, NDArray[np.uint8] | str] = {}
    csvs: dict[str, bytes] = {}
    names: list[str] = []
    hidden: list[str] = []
    pictures: set[str] = set()
    for name, data in archives.members(source, limits=limits or archives.Limits(), progress=progress):
        if is_junk(name):
            if not is_junk(name.rpartition("/")[0]):
                hidden.append(name)
            continue
        names.append(name)
        if images.starts_like_image(data[:64]):
            pictures.add(name)
        if may_be_image(name):
            check_room(len(faces) + 1, size)
            faces[name] = _face(data, size)
        elif _best_first([name, *csvs])[:1] == [name] and is_table(io.BytesIO(data)):
            # Only one is kept, because each may be large.
            csvs = {name: data}
    others = [name for name in names if name not in faces]
    found = understand(faces, others=others, hidden=hidden, is_image=pictures.__contains__)
    if csvs and (found is None or len(found.classes) < 2):
        ((name, data),) = csvs.items()
        return read_table(io.BytesIO(data), name=name, size=size, total=len(data), votes=votes)
    return _chosen(source, found, names, votes)


def _face_in(path: Path, size: int) -> NDArray[np.uint8] | str:
    if not path.is_file():
        return "it is not a file, or a broken link"
    try:
        with path.open("rb") as file:
            data = file.read(images.MAX_BYTES + 1)
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    return _face(data, size)


def _may_be_image(path: Path) -> bool:
    """Return whether a file is an image by its content, or by its missing extension if it cannot be read."""
    found = images.is_image_file(path)
    return not path.suffix if found is None else found


def _face(data: bytes, size: int) -> NDArray[np.uint8] | str:
    try:
        return images.fit(images.read(data), size)
    except ImageError as error:
        return str(error)


def _walk(source: Path) -> tuple[list[str], list[str], list[str]]:
    """Return the sorted names of files, hidden files and empty folders.

    Linked folders are followed once, hidden ones never.
    """
    names: list[str] = []
    hidden: list[str] = []
    empty: list[str] = []
    seen: set[str] = set()
    for folder, below, files in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not is_junk(name))
        inside = PurePosixPath(Path(folder).relative_to(source).as_posix())
        kept = [str(inside / name) for name in files if not is_junk(name)]
        names += kept
        hidden += [str(inside / name) for name in files if is_junk(name)]
        if not kept and not below:
            empty.append(str(inside))
    return sorted(names), sorted(hidden), sorted(empty)


def _best_first(names: list[str]) -> list[str]:
    """Return the csv files, those that most likely contain images first."""

    def rank(name: str) -> tuple[int, str]:
        word = name.lower().rpartition("/")[2]
        return (0 if "fer2013" in word else 1 if "icml" in word else 2, name)

    return sorted((name for name in names if name.lower().endswith(".csv")), key=rank)


def _is_table(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return is_table(stream)


def _chosen(source: Path, found: Contents | None, names: list[str], votes: Path | None) -> Contents:
    """Return the class folders, if there are any and nothing needs a csv."""
    if found is None:
        held = f"it contains {shorten(names)}" if names else "it is empty"
        raise DataError(
            f"'{source.resolve().name}' has no images in class folders (as in train/happy/1.png) and no "
            f"fer2013.csv; {held}"
        )
    if votes is not None:
        raise DataError(
            f"the votes '{votes.name}' belong to rows of a csv, and the source has class folders; "
            "give fer2013.csv or icml_face_data.csv, or leave the votes out"
        )
    return found
