"""Read csv files with the pixels of one image per row, such as fer2013.csv, and their FER+ votes."""

import codecs
import csv
import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from mien._text import shorten
from mien.data.class_names import name_classes, note_removed
from mien.data.contents import Contents, Problem, ReadOptions, check_room, split_named
from mien.data.csv_lists import text_of
from mien.errors import DataError
from mien.labels import FERPLUS_COLUMNS, VOTES, canonical
from mien.vision import images

_LONGEST_LINE = 16 * 2**20

#: Characters of a label, a usage or the name of a column.
_LONGEST_WORD = 256

_NEEDED = ("emotion", "pixels")

_WANTED = (
    "give class folders, an archive of them, a csv with emotion, pixels and Usage, as fer2013.csv has, or a "
    "table with a column path and a column label"
)

#: Separators of columns.
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True)
class _Row:
    label: str
    split: str
    face: NDArray[np.uint8]
    side: int


class _BadRowError(Exception):
    """A row of the csv cannot be used; the message is the reason."""


def is_table(stream: BinaryIO) -> bool:
    """Return whether the first line of a csv names the columns of fer2013.csv."""
    stream = _in_utf8(stream)
    first = stream.readline(_LONGEST_LINE)
    return set(_NEEDED) <= set(_columns(first, _delimiter(first)))


def _in_utf8(stream: BinaryIO) -> BinaryIO:
    """Return a stream in UTF-8 if it begins with the byte order mark of UTF-16."""
    start = stream.read(2)
    stream.seek(0)
    if start not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return stream
    return cast(BinaryIO, codecs.EncodedFile(stream, "utf-8", "utf-16", errors="replace"))


def _delimiter(first: bytes) -> str:
    """Return what separates the columns of a first line."""
    return next((each for each in _DELIMITERS if set(_NEEDED) <= set(_split_names(first, each))), ",")


def read_table(
    stream: BinaryIO,
    *,
    name: str,
    total: int,
    options: ReadOptions,
    progress: Callable[[int, int], None] | None = None,
) -> Contents:
    """Read fer2013.csv, icml_face_data.csv or a similar csv.

    Args:
        stream: The csv, with columns `emotion` (0..6 or a name), `pixels` (0..255, separated by spaces, row
            after row of a square image) and optionally `Usage` (the split).
        name: The csv's name, for messages.
        total: Bytes in the stream, for `progress`.
        options: Size of the faces, FER+ votes for the same rows, and names of the classes.
        progress: Called with bytes done and `total`.

    Raises:
        DataError: A column is missing, the votes are not for these rows, or `group_from` is given.
    """
    if not total:
        raise DataError(f"'{name}' is empty; {_WANTED}")
    stream = _in_utf8(stream)
    first = stream.readline(_LONGEST_LINE)
    delimiter = _delimiter(first)
    columns = _columns(first, delimiter)
    if missing := [column for column in _NEEDED if column not in columns]:
        raise DataError(
            f"'{name}' is not a folder or an archive, and its first line does not name the "
            f"column{'s' if len(missing) > 1 else ''} {shorten(missing)}; {_WANTED}"
        )
    if options.group_from is not None:
        raise DataError(
            f"group-from needs the names of files, and the images of '{name}' have none; give a table "
            "of paths with a column person, or omit it"
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
                f"'{name}' has a line above {_LONGEST_LINE // 2**20} MiB; give a csv with one image per line"
            )
        if line.isspace():
            continue
        split = ""
        try:
            fields = _fields_of_row(line, columns, delimiter)
            split = _split(fields, columns)
            # Before its pixels are read, because a split exists even if all of its rows are bad.
            declared |= {split} - {""}
            good.append(_row(fields, columns, split, options))
            rows.append(row)
        except _BadRowError as reason:
            problems.append(Problem(f"row {row}", str(reason), split))
        row += 1
        if row % 1024 == 0:
            check_room(len(good), options)
            if progress:
                progress(done, total)
    if progress:
        progress(total, total)
    votes = None
    if options.votes is not None:
        votes = _votes_of(options.votes, row, dict(zip(rows, good, strict=True)))
    found = _found(good, rows, problems, options, declared=frozenset(declared), votes=votes)
    if delimiter == ",":
        return found
    how = f"'{name}' is read as a table of pixels; columns are separated by {_DELIMITERS[delimiter]}"
    return replace(found, notes=(how, *found.notes))


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
    options: ReadOptions,
    *,
    declared: frozenset[str],
    votes: NDArray[np.float32] | None,
) -> Contents:
    classes = name_classes((row.label for row in good), options.naming, known="FER2013")
    notes = list(classes.notes) if options.naming else []
    if left := [place for place, row in enumerate(good) if row.label not in classes.index]:
        notes.append(note_removed(len(left)))
        kept = sorted(set(range(len(good))) - set(left))
        good, rows = [good[place] for place in kept], [rows[place] for place in kept]
        votes = None if votes is None else votes[kept]
    if len(sides := sorted({row.side for row in good})) > 1:
        notes.append(f"rows have images of different sizes: {', '.join(map(str, sides))} pixels")
    return Contents(
        classes=classes.names,
        faces=[row.face for row in good],
        labels=np.array([classes.index[row.label] for row in good], np.int64),
        splits=[row.split for row in good],
        files=[f"row {row}" for row in rows],
        declared=declared,
        rows=rows,
        votes=votes,
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _split_names(first: bytes, delimiter: str) -> list[str]:
    line = first.decode("utf-8-sig", errors="replace")
    try:
        return _fields(line, delimiter) if line else []
    except csv.Error:
        return []


def _columns(first: bytes, delimiter: str) -> dict[str, int]:
    """Return the index of each column by its name in lower case; `icml_face_data.csv` has spaces in them."""
    names = _split_names(first, delimiter)
    if twice := {name for name in names if name in (*_NEEDED, "usage") and names.count(name) > 1}:
        raise DataError(f"the csv names the column {shorten(sorted(twice))} twice; remove one of them")
    return {name: place for place, name in enumerate(names)}


def _fields(line: str, delimiter: str) -> list[str]:
    parts = next(csv.reader([line], delimiter=delimiter)) if '"' in line else line.split(delimiter)
    # Pixels have no capitals, and most of the bytes.
    return [part.strip() if len(part) > _LONGEST_WORD else part.strip().lower() for part in parts]


def _fields_of_row(line: bytes, columns: dict[str, int], delimiter: str) -> list[str]:
    try:
        fields = _fields(line.decode("utf-8"), delimiter)
    except (UnicodeDecodeError, csv.Error) as error:
        raise _BadRowError(f"the row is not valid csv: {error}") from error
    if len(fields) < len(columns):
        raise _BadRowError(f"the row has {len(fields)} fields; the header has {len(columns)}")
    return fields


def _split(fields: list[str], columns: dict[str, int]) -> str:
    if "usage" not in columns:
        return ""
    usage = fields[columns["usage"]]
    if (split := split_named(usage)) is None:
        raise _BadRowError(f"the usage is '{usage[:20]}'; it must be Training, PublicTest or PrivateTest")
    return split


def _row(fields: list[str], columns: dict[str, int], split: str, options: ReadOptions) -> _Row:
    label = fields[columns["emotion"]]
    if not label or (not options.naming and canonical(label) is None):
        raise _BadRowError(f"the label is '{label[:20]}'; it must be 0 to 6 or the name of an emotion")
    text = fields[columns["pixels"]]
    key, face = options.faces.find(text)
    if face is not None:
        return _Row(label, split, face, math.isqrt(len(text.split())))
    pixels = _pixels(text)
    face = options.faces.keep(key, images.fit(pixels, options.size))
    return _Row(label, split, face, len(pixels))


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
            f"the row has {values.size} pixels; images must be square, such as 48 × 48 = 2304 pixels"
        )
    if values.min() < 0 or values.max() > 255:
        raise _BadRowError(f"pixels go from {values.min()} to {values.max()}; they must be 0..255")
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
                f"row {number} of the votes '{path.name}' must have ten numbers; correct it"
            ) from error
    if not (np.isfinite(votes).all() and (votes >= 0).all()):
        raise DataError(
            f"the votes '{path.name}' contain a number that is negative or not finite; correct it"
        )
    return votes, splits
