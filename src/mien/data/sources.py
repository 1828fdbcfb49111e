"""Read the labelled images of a source: class folders, an archive of them, or a csv such as fer2013.csv."""

import csv
import gzip
import io
import lzma
import math
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from mien.data import archives
from mien.errors import DataError, ImageError
from mien.labels import EMOTIONS, FERPLUS_COLUMNS, VOTES, canonical, order
from mien.vision import images

#: The three splits, in this order everywhere.
SPLITS = ("train", "val", "test")

#: Bytes of pixels above which a data set is refused: 3.7 million images of 48 × 48.
MAX_PIXEL_BYTES = 8 * 2**30

_SPELLINGS = {
    "train": ("train", "training", "trainset", "trainingset", "traindata", "trainingdata"),
    "val": ("val", "valid", "validate", "validation", "validationset", "valset", "dev", "publictest"),
    "test": ("test", "testing", "testset", "testdata", "privatetest", "eval", "evaluation"),
}
_MEANING = {spelling: split for split, spellings in _SPELLINGS.items() for spelling in spellings}


@dataclass(frozen=True)
class Problem:
    """A file or row that could not be used, and was skipped.

    Args:
        file: Its name relative to the source, or `row 17`.
        reason: Why, in one sentence.
        split: Its split; `""` if the source or the row names none.
    """

    file: str
    reason: str
    split: str = ""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Every readable image of a source, in the source's own deterministic order.

    Args:
        classes: Class names; labels are indices into them.
        faces: Images `(size, size, 1)` uint8.
        labels: The label of each face.
        splits: The split of each face; `""` if the source has no splits.
        files: The file or row of each face.
        declared: The splits that the source names, even if they have no readable image.
        rows: For csv sources, the 0-based data row of each face.
        votes: FER+ annotator votes `(n, 10)` float32.
        problems: Skipped files and rows.
        notes: Remarks for the user.
    """

    classes: tuple[str, ...]
    faces: Sequence[NDArray[np.uint8]]
    labels: NDArray[np.int64]
    splits: Sequence[str]
    files: Sequence[str]
    declared: frozenset[str]
    rows: Sequence[int] | None = None
    votes: NDArray[np.float32] | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def split_named(name: str) -> str | None:
    """Return the split of a name, or None; case, spaces, `_`, `-` and `.` do not matter."""
    return _MEANING.get(re.sub(r"[\s._-]+", "", name.lower()))


def check_room(images: int, size: int) -> None:
    """Refuse a data set whose pixels would not fit in memory, before they are all read.

    Raises:
        DataError: `images` of `size` × `size` are more than `MAX_PIXEL_BYTES`.
    """
    if images * size * size > MAX_PIXEL_BYTES:
        raise DataError(
            f"the data set has {images:,} images or more, which at {size} × {size} pixels is above the limit "
            f"of {MAX_PIXEL_BYTES // 2**30} GiB; take fewer images or a smaller size"
        )


def shorten(names: Sequence[str], most: int = 3) -> str:
    """Return the first few of many names for a message."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


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


_SUFFIXES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".avif",
    ".heic",
    ".heif",
    "",
}
_SHOWN = " ".join(sorted(_SUFFIXES - {""}))
_JUNK = {"__macosx", "thumbs.db", "desktop.ini"}

_Folders: TypeAlias = tuple[str, ...]


def is_junk(name: str) -> bool:
    """Return whether a file is hidden or made by an operating system."""
    return any(part.startswith(".") or part.lower() in _JUNK for part in name.split("/"))


def may_be_image(name: str) -> bool:
    """Return whether a file has the extension of an image, or none."""
    return _suffix(name) in _SUFFIXES


def understand(
    faces: Mapping[str, NDArray[np.uint8] | str],
    *,
    others: Collection[str] = (),
    hidden: Collection[str] = (),
    empty: Collection[str] = (),
    is_image: Callable[[str], bool] = lambda _: False,
) -> Contents | None:
    """Sort faces into splits and classes by the folders in their names.

    A split is the deepest folder that has the name of a split and contains folders. A class is a folder
    directly in a split, or in the outer folder of everything; deeper files belong to that class.

    Args:
        faces: By name relative to the source, separated by `/`: the face, or why it could not be read.
        others: Files without the extension of an image. In a class folder they are a problem if their content
            is an image, else a note; elsewhere they are ignored.
        hidden: Hidden files and those that systems leave behind: a note in a class folder.
        empty: Empty folders.
        is_image: Returns whether one of `others`, or an unreadable file without an extension, begins like an
            image.

    Returns:
        Faces in the order of class, then name; None if no file is in a class folder.

    Raises:
        DataError: Two folders name one split, or one emotion within a split; a class folder of train is
            empty; or class folders have the names of splits.
    """
    notes: list[str] = []
    if runs := _runs(others):
        notes.append(f"{shorten(sorted('/'.join(run) for run in runs))} was trained by mien and is skipped")
        faces = {name: face for name, face in faces.items() if not _within(name, runs)}
        others = [name for name in others if not _within(name, runs)]
        empty = [folder for folder in empty if not _within(f"{folder}/", runs)]
    # A file without an extension may be a README, so it counts only if no other file does.
    telling = [name for name in faces if _suffix(name)]
    telling = telling or [name for name, face in faces.items() if not isinstance(face, str)]
    roots = _roots(telling, notes)
    unlike = {name for name, face in faces.items() if isinstance(face, str) and not _suffix(name)}
    unlike = {name for name in unlike if not is_image(name)}
    located = _locate_all(sorted(faces.keys() - unlike), roots) if telling else {}
    if not located:
        return None
    hollow = set(_locate_all((f"{folder}/" for folder in empty), roots).values()) - set(located.values())
    if bare := sorted(folder for split, folder in hollow if split in ("", "train")):
        raise DataError(f"the class folder {shorten(bare)} is empty; put images into it or remove it")
    classes, index = _classes({*located.values(), *hollow}, notes)
    if left := sorted(faces.keys() - located.keys() - unlike):
        notes.append(f"{len(left):,} images outside the class folders are left out: {shorten(left)}")
    order = sorted(located, key=lambda name: (index[located[name][1]], name))
    good = [(name, face) for name in order if not isinstance(face := faces[name], str)]
    bad = {name: why for name in located if isinstance(why := faces[name], str)}
    strays = set(_locate_all({*unlike, *hidden}, roots))
    within = {name: split for name, (split, _) in located.items()}
    for name, (split, _) in _locate_all(others, roots).items():
        if is_image(name):
            within[name] = split
            bad[name] = f"its name has none of the extensions {_SHOWN}"
        else:
            strays.add(name)
    if strays:
        one = len(strays) == 1
        count = "1 file that is not an image is" if one else f"{len(strays):,} files that are not images are"
        notes.append(f"{count} skipped: {shorten(sorted(strays))}")
    declared = {split for split, _ in located.values()} | {split_named(_leaf(folder)) for folder in empty}
    return Contents(
        classes=classes,
        faces=[face for _, face in good],
        labels=np.array([index[located[name][1]] for name, _ in good], np.int64),
        splits=[located[name][0] for name, _ in good],
        files=[name for name, _ in good],
        declared=frozenset(split for split in declared if split),
        problems=tuple(Problem(name, bad[name], within.get(name, "")) for name in sorted(bad)),
        notes=tuple(notes),
    )


def _runs(names: Collection[str]) -> set[_Folders]:
    """Return the folders of trainings, which may be among the images if someone trained there."""
    marks = (
        {_folders(name) for name in names if _leaf(name) == mark} for mark in ("run.json", "recipe.toml")
    )
    return set.intersection(*marks) - {()}


def _within(name: str, places: set[_Folders]) -> bool:
    folders = _folders(name)
    return any(folders[:depth] in places for depth in range(1, len(folders) + 1))


def _suffix(name: str) -> str:
    _, dot, suffix = _leaf(name).lower().rpartition(".")
    return dot + suffix if dot else ""


def _folders(name: str) -> _Folders:
    return tuple(name.split("/")[:-1])


def _leaf(name: str) -> str:
    return name.rpartition("/")[2]


def _locate_all(names: Iterable[str], roots: Mapping[_Folders, str]) -> dict[str, tuple[str, str]]:
    """Return the split and class folder of each file that is in one."""
    located = {}
    for name in names:
        folders = _folders(name)
        for depth in range(len(folders) - 1, -1, -1):
            if (split := roots.get(folders[:depth])) is not None:
                located[name] = split, folders[depth]
                break
    return located


def _roots(names: list[str], notes: list[str]) -> dict[_Folders, str]:
    """Return the folders whose subfolders are the classes, each with its split (`""` for none)."""
    places = {_folders(name) for name in names}
    tops: dict[_Folders, str] = {}
    for folders in places:
        for depth in range(len(folders) - 1, 0, -1):
            if split := split_named(folders[depth - 1]):
                tops[folders[:depth]] = split
                break
    if not tops and (wrong := sorted({part for folders in places for part in folders if split_named(part)})):
        raise DataError(
            f"the folders {shorten(wrong)} are named like splits and contain no class folders; "
            "arrange the images as in train/happy/1.png"
        )
    roots = _one_folder_a_split(tops, names, notes) if tops else {(): ""}
    below = [folders[len(top) :] for folders in places for top in roots if folders[: len(top)] == top]
    wrapping: _Folders = ()
    while True:
        depth = len(wrapping)
        firsts = {folders[depth] for folders in below if len(folders) > depth}
        goes_on = any(len(folders) > depth + 1 for folders in below)
        # A single folder that is named like an emotion is a class, whatever it contains.
        if len(firsts) != 1 or not goes_on or canonical(next(iter(firsts))):
            return {(*top, *wrapping): split for top, split in roots.items()}
        wrapping += (firsts.pop(),)


def _one_folder_a_split(tops: dict[_Folders, str], names: list[str], notes: list[str]) -> dict[_Folders, str]:
    """Refuse two folders for one split, unless their files have the same names."""
    kept: dict[_Folders, str] = {}
    for top in sorted(tops, key=lambda top: (len(top), top)):
        twin = next((other for other, split in kept.items() if split == tops[top]), None)
        if twin is None:
            kept[top] = tops[top]
            continue
        if _inside(top, names) != _inside(twin, names):
            raise DataError(
                f"the folders '{'/'.join(twin)}' and '{'/'.join(top)}' contain the split {tops[top]} and "
                "differ; merge them or remove one"
            )
        notes.append(f"'{'/'.join(top)}' contains the same names as '{'/'.join(twin)}' and is left out")
    return kept


def _inside(top: _Folders, names: list[str]) -> set[str]:
    start = "/".join(top) + "/"
    return {name.removeprefix(start) for name in names if name.startswith(start)}


def _classes(located: set[tuple[str, str]], notes: list[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the class names in order, and the index of each class folder."""
    folders = sorted({folder for _, folder in located})
    meaning_of = {folder: canonical(folder) for folder in folders}
    if own := [folder for folder, meaning in meaning_of.items() if meaning is None]:
        if known := [folder for folder in folders if meaning_of[folder] is not None]:
            notes.append(
                f"{shorten(own)}: not an emotion; so all folders are own classes, {shorten(known)} too"
            )
        classes = order(folders)
        return classes, {folder: classes.index(folder) for folder in folders}
    for split in sorted({split for split, _ in located}):
        seen: dict[str | None, str] = {}
        for folder in sorted(folder for at, folder in located if at == split):
            if (other := seen.setdefault(meaning_of[folder], folder)) != folder:
                where = f" in {split}" if split else ""
                raise DataError(
                    f"the folders '{other}' and '{folder}' both mean {meaning_of[folder]}{where}; merge them"
                )
    meanings = {folder: meaning for folder, meaning in meaning_of.items() if meaning is not None}
    classes = order(sorted(set(meanings.values())))
    if all(folder.isdecimal() for folder in folders):
        read = ", ".join(f"{folder} {meaning}" for folder, meaning in meanings.items())
        notes.append(f"folders named by numbers are read as fer2013.csv's labels: {read}")
    return classes, {folder: classes.index(meaning) for folder, meaning in meanings.items()}


_LONGEST_LINE = 16 * 2**20
_LARGEST_VOTES = 256 * 2**20
_NEEDED = ("emotion", "pixels")
_WANTED = (
    "give class folders, an archive of them, or a csv with emotion, pixels and Usage, as fer2013.csv has"
)
#: Other separators of columns that some programs write.
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True)
class _Row:
    emotion: int
    split: str
    face: NDArray[np.uint8]
    side: int


class _BadRowError(Exception):
    """A row of the csv cannot be used; the message is the reason."""


def is_table(stream: BinaryIO) -> bool:
    """Return whether the first line of a csv names the columns of fer2013.csv."""
    return set(_NEEDED) <= set(_columns(stream.readline(_LONGEST_LINE)))


def read_table(
    stream: BinaryIO,
    *,
    name: str,
    size: int,
    total: int,
    votes: str | os.PathLike[str] | None,
    progress: Callable[[int, int], None] | None = None,
) -> Contents:
    """Read fer2013.csv, icml_face_data.csv or a similar csv.

    Args:
        stream: The csv, with columns `emotion` (0..6 or a name), `pixels` (0..255, separated by spaces, row
            after row of a square image) and optionally `Usage` (the split).
        name: The csv's name, for messages.
        size: Side of the faces in pixels.
        total: Bytes in the stream, for `progress`.
        votes: FER+ votes for the same rows.
        progress: Called with bytes done and `total`.

    Raises:
        DataError: A column is missing, or the votes are not for these rows.
    """
    if not total:
        raise DataError(f"'{name}' is empty; {_WANTED}")
    first = stream.readline(_LONGEST_LINE)
    columns = _columns(first)
    if missing := [column for column in _NEEDED if column not in columns]:
        if delimiter := next((each for each in _DELIMITERS if _is_split_by(first, each)), None):
            raise DataError(
                f"the columns of '{name}' are separated by {_DELIMITERS[delimiter]}; save the csv with commas"
            )
        raise DataError(
            f"'{name}' is not a folder or an archive, and its first line does not name the "
            f"column{'s' if len(missing) > 1 else ''} {shorten(missing)}; {_WANTED}"
        )
    good: list[_Row] = []
    rows: list[int] = []
    problems: list[Problem] = []
    declared: set[str] = set()
    done = row = 0
    while line := stream.readline(_LONGEST_LINE):
        done += len(line)
        if len(line) == _LONGEST_LINE:
            raise DataError(
                f"'{name}' has a line above {_LONGEST_LINE // 2**20} MiB; give a csv with one image a line"
            )
        if not line.strip():
            continue
        split = ""
        try:
            fields = _fields_of_row(line, columns)
            split = _split(fields, columns)
            # Before its pixels are read, because a split exists even if all of its rows are bad.
            declared |= {split} - {""}
            good.append(_row(fields, columns, split, size))
            rows.append(row)
        except _BadRowError as reason:
            problems.append(Problem(f"row {row}", str(reason), split))
        row += 1
        if row % 1024 == 0:
            check_room(len(good), size)
            if progress:
                progress(done, total)
    if progress:
        progress(total, total)
    ballots = None if votes is None else _votes_of(Path(votes), row, dict(zip(rows, good, strict=True)))
    return _found(good, rows, problems, declared=frozenset(declared), votes=ballots)


def _votes_of(path: Path, count: int, rows: dict[int, _Row]) -> NDArray[np.float32]:
    """Return the votes for the good rows among `count`.

    FER+ repeats each row's usage; if it is not the image's, the two files are in different orders.
    """
    votes, splits = read_votes(path, count)
    for number, row in rows.items():
        if row.split and splits[number] and row.split != splits[number]:
            raise DataError(
                f"row {number} of the votes '{path.name}' is in the split {splits[number]} and its image in "
                f"{row.split}; give the votes of the same csv in the same order"
            )
    return votes[list(rows)]


def _found(
    good: list[_Row],
    rows: list[int],
    problems: list[Problem],
    *,
    declared: frozenset[str],
    votes: NDArray[np.float32] | None,
) -> Contents:
    present = sorted({row.emotion for row in good})
    classes = tuple(EMOTIONS[number] for number in present)
    notes = []
    if len(sides := sorted({row.side for row in good})) > 1:
        notes.append(f"rows have images of different sizes: {', '.join(map(str, sides))} pixels")
    return Contents(
        classes=classes,
        faces=[row.face for row in good],
        labels=np.array([present.index(row.emotion) for row in good], np.int64),
        splits=[row.split for row in good],
        files=[f"row {row}" for row in rows],
        declared=declared,
        rows=rows,
        votes=votes,
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _is_split_by(first: bytes, delimiter: str) -> bool:
    """Return whether a first line names the needed columns if it is split by `delimiter`."""
    names = first.decode("utf-8-sig", errors="replace").split(delimiter)
    return set(_NEEDED) <= {name.strip().strip('"').lower() for name in names}


def _columns(first: bytes) -> dict[str, int]:
    """Return the index of each column by its name in lower case; `icml_face_data.csv` has spaces in them."""
    line = first.decode("utf-8-sig", errors="replace")
    try:
        names = _fields(line) if line else []
    except csv.Error:
        return {}
    if twice := {name for name in names if name in (*_NEEDED, "usage") and names.count(name) > 1}:
        raise DataError(f"the csv names the column {shorten(sorted(twice))} twice; leave one of each")
    return {name: place for place, name in enumerate(names)}


def _fields(line: str) -> list[str]:
    parts = next(csv.reader([line])) if '"' in line else line.split(",")
    return [part.strip().lower() for part in parts]


def _fields_of_row(line: bytes, columns: dict[str, int]) -> list[str]:
    try:
        fields = _fields(line.decode("utf-8"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _BadRowError(f"the row is not a line of a csv: {error}") from error
    if len(fields) < len(columns):
        raise _BadRowError(f"the row has {len(fields)} fields; the header has {len(columns)}")
    return fields


def _split(fields: list[str], columns: dict[str, int]) -> str:
    if "usage" not in columns:
        return ""
    usage = fields[columns["usage"]]
    if (split := split_named(usage)) is None:
        raise _BadRowError(f"the usage is '{usage[:20]}'; it is Training, PublicTest or PrivateTest")
    return split


def _row(fields: list[str], columns: dict[str, int], split: str, size: int) -> _Row:
    label = fields[columns["emotion"]]
    if (emotion := canonical(label)) is None:
        raise _BadRowError(f"the label is '{label[:20]}'; it is 0 to 6 or an emotion's name")
    pixels = _pixels(fields[columns["pixels"]])
    return _Row(EMOTIONS.index(emotion), split, images.fit(pixels, size), len(pixels))


def _pixels(text: str) -> NDArray[np.uint8]:
    try:
        values = np.fromstring(text, dtype=np.int64, sep=" ")
    except ValueError as error:
        raise _BadRowError("a pixel is not a whole number") from error
    # NumPy before 2.3 only warns, and stops, at text that is not a number.
    if values.size != text.count(" ") + 1 and values.size != len(text.split()):
        raise _BadRowError("a pixel is not a whole number")
    side = math.isqrt(values.size)
    if side == 0 or side * side != values.size:
        raise _BadRowError(
            f"the row has {values.size} pixels; a square image has 48 × 48 = 2304, or another square"
        )
    if values.min() < 0 or values.max() > 255:
        raise _BadRowError(f"pixels go from {values.min()} to {values.max()}; the range is 0..255")
    return values.astype(np.uint8).reshape(side, side)


def read_votes(path: str | os.PathLike[str], rows: int) -> tuple[NDArray[np.float32], list[str]]:
    """Read FER+'s annotator votes, and the split of each row if they name it.

    Args:
        path: fer2013new.csv as FER+ publishes it, plain or packed with xz or gzip.
        rows: Number of data rows of the csv of images; FER+ is joined by the order of rows, because the
            numbers in its image names are not rows.

    Returns:
        `(rows, 10)` number of annotators that chose each of `VOTES`; and `rows` splits, `""` if unnamed.

    Raises:
        DataError: It cannot be read, lacks a column, or has another number of rows.
    """
    path = Path(path)
    table = csv.reader(io.StringIO(text_of(path), newline=""))
    header = [name.strip().lower() for name in next(table, [])]
    wanted = {ours: theirs for theirs, ours in FERPLUS_COLUMNS.items()}
    if missing := [wanted[vote] for vote in VOTES if wanted[vote].lower() not in header]:
        raise DataError(
            f"the votes '{path.name}' lack the column {shorten(missing)}; FER+'s fer2013new.csv has it"
        )
    places = [header.index(wanted[vote].lower()) for vote in VOTES]
    records = [record for record in table if record]
    if len(records) != rows:
        raise DataError(
            f"the votes '{path.name}' have {len(records):,} rows and the images {rows:,}; give the votes "
            "of the same csv"
        )
    votes = np.empty((rows, len(places)), np.float32)
    splits = []
    for number, record in enumerate(records):
        try:
            votes[number] = [float(record[place]) for place in places]
            splits.append(split_named(record[header.index("usage")]) or "" if "usage" in header else "")
        except (ValueError, IndexError) as error:
            raise DataError(
                f"row {number} of the votes '{path.name}' is not ten numbers; correct it"
            ) from error
    if not (np.isfinite(votes).all() and (votes >= 0).all()):
        raise DataError(f"the votes '{path.name}' hold a number that is negative or not finite; correct it")
    return votes, splits


def text_of(path: str | os.PathLike[str]) -> str:
    """Return the text of a small csv file, plain or packed."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            magic = file.read(6)
        opener = lzma.open if magic == b"\xfd7zXZ\0" else gzip.open if magic[:2] == b"\x1f\x8b" else open
        with cast(BinaryIO, opener(path, "rb")) as stream:
            data = stream.read(_LARGEST_VOTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read as a csv: {error}; check the path") from error
    if len(data) > _LARGEST_VOTES:
        raise DataError(
            f"'{path.name}' is above {_LARGEST_VOTES // 2**20} MiB; give a csv that belongs to these images"
        )
    return text


#: Digits that the number of a row has at most.
_LONGEST_ROW = 18


def read_list(
    text: str, name: str, *, strict: bool = False, lower: bool = True
) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Read a csv list of images that a person may have written.

    Args:
        text: The csv.
        name: Its name, for messages.
        strict: Whether to refuse quotes in the wrong place.
        lower: Whether to return column names in lower case.

    Returns:
        The columns; and for each line its number and its stripped fields by column.

    Raises:
        DataError: A line is not valid csv, or a field is too long; raised when the line is read.
    """
    lines = csv.reader(io.StringIO(text, newline=""), strict=strict)
    records = _records(lines, name)
    _, first = next(records, (0, []))
    columns = [each.strip().lower() if lower else each.strip() for each in first]
    return columns, (
        (number, dict(zip(columns, (each.strip() for each in record), strict=False)))
        for number, record in records
    )


def row_number(value: str, line: int, name: str) -> str:
    """Return the number of a row without leading zeros.

    Args:
        value: Decimal digits.
        line: Their line, for messages.
        name: Their file, for messages.

    Raises:
        DataError: There are too many digits.
    """
    if len(value) > _LONGEST_ROW:
        raise DataError(
            f"line {line} of {name!r} names a row by {len(value):,} digits; name it by its number from 0"
        )
    return str(int(value))


def _records(lines: "csv._reader", name: str) -> Iterator[tuple[int, list[str]]]:  # type: ignore[name-defined]
    try:
        for record in lines:
            if record:
                yield lines.line_num, record
    except csv.Error as error:
        raise DataError(
            f"line {lines.line_num} of {name!r} is not a line of a csv: {error}; correct it"
        ) from None
