"""Where a data set comes from: a folder, an archive or a csv."""

import io
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mien.data import archives as extract
from mien.data.datasets import folders, tables
from mien.data.datasets.contents import Found, check_room, shorten
from mien.errors import DataError, ImageError
from mien.vision import images

_Progress = Callable[[int, int], None] | None


def read(
    source: Path, size: int, *, votes: Path | None, limits: extract.Limits | None, progress: _Progress
) -> Found:
    """Read every image of a folder, an archive or a csv.

    Raises:
        DataError: There are none, or the folders, columns or votes cannot be used.
        ArchiveError: The archive is damaged, unsafe or beyond `limits`.
    """
    try:
        return _read(source, size, votes, limits, progress)
    except OSError as error:
        raise DataError(f"'{source}' cannot be read: {error.strerror}; check its permissions") from error


def _read(
    source: Path, size: int, votes: Path | None, limits: extract.Limits | None, progress: _Progress
) -> Found:
    if source.is_dir():
        return _folder(source, size, votes, progress)
    if not source.is_file():
        raise DataError(
            f"'{source}' is no file or folder; give a folder, an archive or a csv of labelled faces"
        )
    if extract.is_archive(source):
        return _archive(source, size, votes, limits, progress)
    return _csv(source, source.name, size, votes, progress)


def _csv(path: Path, name: str, size: int, votes: Path | None, progress: _Progress) -> Found:
    with path.open("rb") as stream:
        total = path.stat().st_size
        return tables.read(stream, name=name, size=size, total=total, votes=votes, progress=progress)


def _folder(source: Path, size: int, votes: Path | None, progress: _Progress) -> Found:
    names, hidden, empty = _walk(source)
    candidates = [name for name in names if folders.may_be_image(name)]
    check_room(len(candidates), size)
    faces: dict[str, NDArray[np.uint8] | str] = {}
    for done, name in enumerate(candidates, start=1):
        faces[name] = _face_in(source / name, size)
        if progress:
            progress(done, len(candidates))
    others = [name for name in names if not folders.may_be_image(name)]
    found = folders.understand(
        faces,
        others=others,
        hidden=hidden,
        empty=empty,
        is_image=lambda name: _starts_like_image(source / name),
    )
    table = None
    if found is None or len(found.classes) < 2:
        table = next((name for name in _best_first(names) if _is_table(source / name)), None)
    if table is not None:
        return _csv(source / table, table, size, votes, progress)
    return _chosen(source, found, names, votes)


def _archive(
    source: Path, size: int, votes: Path | None, limits: extract.Limits | None, progress: _Progress
) -> Found:
    faces: dict[str, NDArray[np.uint8] | str] = {}
    csvs: dict[str, bytes] = {}
    names: list[str] = []
    hidden: list[str] = []
    pictures: set[str] = set()
    for name, data in extract.members(source, limits=limits or extract.Limits(), progress=progress):
        if folders.is_junk(name):
            if not folders.is_junk(name.rpartition("/")[0]):
                hidden.append(name)
            continue
        names.append(name)
        if images.starts_like_image(data[:64]):
            pictures.add(name)
        if folders.may_be_image(name):
            check_room(len(faces) + 1, size)
            faces[name] = _face(data, size)
        elif _best_first([name, *csvs])[:1] == [name] and tables.is_table(io.BytesIO(data)):
            # One is kept, because each may be as large as memory.
            csvs = {name: data}
    others = [name for name in names if name not in faces]
    found = folders.understand(faces, others=others, hidden=hidden, is_image=pictures.__contains__)
    if csvs and (found is None or len(found.classes) < 2):
        ((name, data),) = csvs.items()
        return tables.read(io.BytesIO(data), name=name, size=size, total=len(data), votes=votes)
    return _chosen(source, found, names, votes)


def _face_in(path: Path, size: int) -> NDArray[np.uint8] | str:
    if not path.is_file():
        return "it is no file, or a link to one that is gone"
    try:
        with path.open("rb") as file:
            data = file.read(images.MAX_BYTES + 1)
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    return _face(data, size)


def _starts_like_image(path: Path) -> bool:
    """Whether a file may be an image by its content; without a suffix also one that cannot be opened."""
    if not path.is_file():
        return not path.suffix
    try:
        with path.open("rb") as file:
            return images.starts_like_image(file.read(64))
    except OSError:
        return not path.suffix


def _face(data: bytes, size: int) -> NDArray[np.uint8] | str:
    try:
        return images.fit(images.read(data), size)
    except ImageError as error:
        return str(error)


def _walk(source: Path) -> tuple[list[str], list[str], list[str]]:
    """Every file's name, every hidden file's, every folder that holds nothing; each sorted.

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
        below[:] = sorted(name for name in below if not folders.is_junk(name))
        inside = PurePosixPath(Path(folder).relative_to(source).as_posix())
        kept = [str(inside / name) for name in files if not folders.is_junk(name)]
        names += kept
        hidden += [str(inside / name) for name in files if folders.is_junk(name)]
        if not kept and not below:
            empty.append(str(inside))
    return sorted(names), sorted(hidden), sorted(empty)


def _best_first(names: list[str]) -> list[str]:
    """Csv files, the likeliest to hold images first."""

    def rank(name: str) -> tuple[int, str]:
        word = name.lower().rpartition("/")[2]
        return (0 if "fer2013" in word else 1 if "icml" in word else 2, name)

    return sorted((name for name in names if name.lower().endswith(".csv")), key=rank)


def _is_table(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return tables.is_table(stream)


def _chosen(source: Path, found: Found | None, names: list[str], votes: Path | None) -> Found:
    """The class folders that were found, if there are any and nothing asked for a csv."""
    if found is None:
        held = f"it holds {shorten(names)}" if names else "it is empty"
        raise DataError(
            f"'{source.resolve().name}' has no images in class folders (as in train/happy/1.png) and no "
            f"fer2013.csv; {held}"
        )
    if votes is not None:
        raise DataError(
            f"the votes '{votes.name}' are joined by csv row, and the source has class folders; "
            "give fer2013.csv or icml_face_data.csv, or leave the votes out"
        )
    return found
