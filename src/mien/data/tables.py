"""Read tables of paths: one labelled image per row, optionally with split, person, face box or annotators."""

import csv
import io
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mien._text import shorten
from mien.data import column_names
from mien.data.class_names import LABEL_ORDERS
from mien.data.column_names import simplified
from mien.data.contents import Problem, ReadOptions, check_room, split_named
from mien.data.folders import may_be_image
from mien.data.listings import Entry, FolderReader, Listing, check_boxes
from mien.errors import DataError, ImageError
from mien.labels import FERPLUS_COLUMNS, VOTES, canonical

_Progress = Callable[[int, int], None] | None
_Box = tuple[float, float, float, float]

#: Extensions of files that can be tables.
_SUFFIXES = (".csv", ".tsv", ".tab", ".psv", ".txt", ".lst", ".list")
#: Separators of columns, with their names for notes; None is white space, in lists without a header.
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", None: "spaces"}
#: Bytes that decide what a file is.
_START = 2**16
#: Files of a folder that are examined, and rows that decide where the images are.
_MOST_FILES, _SAMPLE = 200, 50
#: Immediate subfolders of a table's folder in which its images are searched.
_MOST_FOLDERS = 200
#: Characters of a label or the name of a group.
_LONGEST = 200

_ANNOTATORS = re.compile(
    r"^(label|annotator|annotation|rater|coder|labeler|labeller|emotion|expression|vote)0*\d+$"
)
_MISSING = frozenset(("", "nan", "null", "n/a"))
_OTHER_VOTES = {"contempt": "contempt", "unknown": "unknown", "nf": "not a face", "notaface": "not a face"}
_AFFECTNET = frozenset({"subdirectoryfilepath", "expression"})
#: Expressions of AffectNet that are not emotions.
AFFECTNET_OTHERS = {"8": "none", "9": "uncertain", "10": "no face"}
_SEPARATOR_LINE = re.compile(r"^sep=(.)\r?\n?$")
_ABSOLUTE = re.compile(r"^([A-Za-z]:)?/")

_ABSENT = "the file does not exist"
_ADVICE = "give the folder that the paths are relative to with images_dir (--images)"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of a table contain, by index.

    Args:
        names: As the header writes them; empty without a header.
        delimiter: Separates columns; None for white space.
        path: The path of the image.
        label: The label, or None if annotators or counts tell it.
        annotators: Labels of several annotators.
        counts: The vote that each column counts, by index.
        split: The split.
        group: The person or another group.
        box: Left and top, then width and height, or right and bottom.
        corners: Whether the box has right and bottom.
        unused: Remarks about columns that are not used.
    """

    names: tuple[str, ...]
    delimiter: str | None
    path: int
    label: int | None
    annotators: tuple[int, ...] = ()
    counts: Mapping[int, str] = field(default_factory=dict)
    split: int | None = None
    group: int | None = None
    box: tuple[int, ...] = ()
    corners: bool = False
    unused: tuple[str, ...] = ()

    @property
    def is_affectnet(self) -> bool:
        """Whether the header is that of AffectNet."""
        return _AFFECTNET.issubset(map(simplified, self.names))

    @property
    def needed(self) -> int:
        """The fields that a row has at least."""
        indices = (self.path, self.label, self.split, self.group, *self.annotators, *self.counts, *self.box)
        return 1 + max(index for index in indices if index is not None)

    def describe(self) -> str:
        """Return which columns are used, for a note."""

        def named(*indices: int) -> str:
            return ", ".join(
                f"'{self.names[index]}'" if self.names else f"column {index + 1}" for index in indices
            )

        parts = [f"images in {named(self.path)}"]
        if self.label is not None:
            parts.append(f"labels in {named(self.label)}")
        elif self.annotators:
            parts.append(f"labels by the majority of {named(*self.annotators)}")
        else:
            parts.append(f"labels by the largest of {named(*self.counts)}")
        if self.split is not None:
            parts.append(f"splits in {named(self.split)}")
        if self.group is not None:
            parts.append(f"persons in {named(self.group)}")
        if self.box:
            parts.append(f"face boxes in {named(*self.box)}")
        header = "" if self.names else "no header; "
        return f"{header}{', '.join(parts)}; columns are separated by {DELIMITERS[self.delimiter]}"


def may_be_table(name: str) -> bool:
    """Return whether a file has the extension of a table."""
    return name.lower().endswith(_SUFFIXES)


def is_votes(names: Iterable[str]) -> bool:
    """Return whether columns are those of FER+'s fer2013new.csv."""
    keys = {name.strip().lower() for name in names}
    return {"usage", "image name", *map(str.lower, FERPLUS_COLUMNS)} <= keys


def is_headed(start: bytes) -> bool:
    """Return whether the first bytes of a file are those of a table of paths with a header and rows."""
    text = _decode(start)
    delimiter, header = _split_header(text)
    return header is not None and len(_records(text, delimiter, 2)) > 1


def _is_header(names: Sequence[str]) -> bool:
    keys = [simplified(name) for name in names]
    if "pixels" in keys or is_votes(names):
        return False
    has_label = (
        any(key in column_names.LABELS for key in keys)
        or sum(bool(_ANNOTATORS.match(key)) for key in keys) > 1
        or len(_find_counts(names)) > 1
    )
    return has_label and any(key in column_names.PATHS or key in column_names.WEAK_PATHS for key in keys)


def _find_counts(names: Sequence[str]) -> dict[int, str]:
    """Return the columns that are named like emotions, by index."""
    counts = {}
    for index, name in enumerate(names):
        vote = None if name.strip().isdecimal() else canonical(name)
        if vote := vote or _OTHER_VOTES.get(simplified(name)):
            counts[index] = vote
    return counts if sum(canonical(vote) is not None for vote in counts.values()) > 1 else {}


def _encoding(start: bytes) -> str:
    return "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _decode(start: bytes) -> str:
    return start.decode(_encoding(start), errors="replace")


def _split_header(text: str) -> tuple[str, list[str] | None]:
    """Return the delimiter with which the first record is the header of a table of paths, and the header."""
    first, _, rest = text.partition("\n")
    if match := _SEPARATOR_LINE.match(first):
        header = _records(rest, match[1], 1)
        return match[1], header[0] if header and _is_header(header[0]) else None
    for delimiter in DELIMITERS:
        if delimiter is not None:
            header = _records(text, delimiter, 1)
            if header and _is_header(header[0]):
                return delimiter, header[0]
    return ",", None


def _records(text: str, delimiter: str | None, most: int) -> list[list[str]]:
    """Return the first records of a text that may be cut off; none if it is not a csv."""
    lines = io.StringIO(text, newline="")
    if delimiter is None:
        return list(islice(filter(None, (line.rsplit(None, 1) for line in lines)), most))
    try:
        return list(islice(filter(None, csv.reader(lines, delimiter=delimiter)), most))
    except csv.Error:
        return []


def assign(names: Sequence[str], delimiter: str, table: str) -> Columns:
    """Return what the columns of a header contain.

    Args:
        names: The header.
        delimiter: What separates its columns.
        table: The name of the table, for errors.

    Raises:
        DataError: Columns for the image or the label are missing, or there are two.
    """
    keys = [simplified(name) for name in names]

    def only(what: str, meanings: Iterable[str]) -> int | None:
        found = [index for index, key in enumerate(keys) if key in meanings]
        if len(found) > 1:
            both = ", ".join(f"'{names[index]}'" for index in found)
            raise DataError(f"'{table}' has several columns for {what}: {both}; remove or rename all but one")
        return found[0] if found else None

    path = only("the path", column_names.PATHS)
    path = only("the path", column_names.WEAK_PATHS) if path is None else path
    label = only("the label", column_names.LABELS)
    counts = _find_counts(names) if label is None else {}
    annotators = tuple(index for index, key in enumerate(keys) if _ANNOTATORS.match(key))
    shown = shorten(names, 12)
    if path is None:
        raise DataError(
            f"'{table}' has no column of paths, such as 'path' or 'file', or of 'pixels'; it has {shown}"
        )
    if label is None and len(annotators) < 2 and not counts:
        raise DataError(f"'{table}' has no column of labels, such as 'label' or 'emotion'; it has {shown}")
    if label is None and len(annotators) < 2 and (twice := _repeated(counts.values())):
        raise DataError(f"'{table}' has two columns for the votes {shorten(twice)}; remove one")
    box, corners = _find_box(keys, table)
    unused = []
    if not box and (single := [names[index] for index, key in enumerate(keys) if key in column_names.BOXES]):
        unused.append(
            f"the column '{single[0]}' of '{table}' is not used; write the face box in four columns, x y w h"
        )
    if label is not None and len(annotators) > 1:
        unused.append(
            f"the columns of annotators of '{table}' are not used, because '{names[label]}' has labels"
        )
    return Columns(
        names=tuple(names),
        delimiter=delimiter,
        path=path,
        label=label,
        annotators=annotators if label is None and len(annotators) > 1 else (),
        counts=counts if len(annotators) < 2 else {},
        split=only("the split", column_names.SPLITS),
        group=next(
            (found for name in column_names.GROUPS if (found := only("the person", (name,))) is not None),
            None,
        ),
        box=box,
        corners=corners,
        unused=tuple(unused),
    )


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _find_box(keys: Sequence[str], table: str) -> tuple[tuple[int, ...], bool]:
    """Return the four columns of the face box, whose names begin alike, and whether they are corners."""
    found = list(column_names.find_boxes(keys))
    if len(found) > 1:
        raise DataError(f"'{table}' has several face boxes; leave the four columns of one")
    return found[0] if found else ((), False)


class Files:
    """Which files exist in a folder, and which of them can be read.

    Args:
        reader: Reads the folder.
        names: All files in the folder, relative to it, if they are known.
    """

    def __init__(self, reader: FolderReader, names: Sequence[str] = ()) -> None:
        self._reader = reader
        self._root = str(reader.root)
        self._listed: dict[str, dict[str, bool] | None] = {}
        self._names = names
        self._leaves: dict[str, list[str]] | None = None
        own = (str(reader.root.absolute()), os.path.realpath(reader.root))
        self._starts = tuple({start.replace(os.sep, "/").rstrip("/") + "/" for start in own})

    def relative(self, path: str) -> str | None:
        """Return a path relative to the folder if it is absolute and inside; None if it is outside."""
        for start in self._starts:
            if path.startswith(start):
                return path.removeprefix(start)
        return None

    def fault(self, name: str) -> str:
        """Return why a file cannot be read; `""` if it can."""
        folder, _, leaf = name.rpartition("/")
        if folder not in self._listed:
            self._listed[folder] = self._reader.listed(folder)
        listed = self._listed[folder]
        try:
            if listed is not None:
                if listed.get(leaf):
                    return ""
                # Some file systems find names in another case.
                if leaf not in listed and not os.path.lexists(f"{self._root}/{name}"):
                    return _ABSENT
            self._reader.path(name)
        except ImageError as error:
            return str(error)
        except (OSError, ValueError):
            return _ABSENT
        return ""

    def bases(self, paths: Sequence[str], first: Sequence[str]) -> list[str]:
        """Return the folders to which paths can be relative: `first`, then those that contain a path."""
        found = dict.fromkeys(first)
        if not self._names:
            return [*found, *self._reader.folders(_MOST_FOLDERS)]
        if self._leaves is None:
            self._leaves = {}
            for name in self._names:
                self._leaves.setdefault(_stem(name.rpartition("/")[2]), []).append(name)
        for path in paths:
            for name in self._leaves.get(_stem(path.rpartition("/")[2]), ()):
                for whole in (name, _stem(name)):
                    if f"/{whole}".endswith(f"/{path}"):
                        found[whole.removesuffix(path).strip("/")] = None
        return list(found)


def _stem(name: str) -> str:
    folder, slash, leaf = name.rpartition("/")
    return folder + slash + (leaf.rpartition(".")[0] or leaf)


class _Row(NamedTuple):
    number: int
    path: str
    label: str
    split: str
    group: str
    box: _Box | None
    votes: tuple[float, ...] | None


class _BadRowError(Exception):
    """A row cannot be used; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of paths that is not read yet.

    Args:
        path: The file.
        name: Its name, for notes and errors.
        columns: What its columns contain.
        skip: Lines before the first row.
        folder: The folder of the table, relative to the source.
        split: The split of its images if no column tells it.
    """

    path: Path
    name: str
    columns: Columns
    skip: int
    folder: str = ""
    split: str = ""


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_START)


def open_table(path: str | os.PathLike[str], name: str, folder: str, files: Files | None) -> Table | None:
    """Return the table of paths that a file is, or None if it is another kind of file.

    Args:
        path: The file.
        name: Its name, for notes and errors.
        folder: The folder of the table, relative to the source.
        files: The files of the source, which tell whether a list without a header names images.

    Raises:
        DataError: Two columns have the same meaning.
    """
    path = Path(path)
    start = _start_of(path)
    text = _decode(start)
    delimiter, header = _split_header(text)
    if header is not None:
        skip = 2 if _SEPARATOR_LINE.match(text.partition("\n")[0]) else 1
        return Table(path=path, name=name, columns=assign(header, delimiter, name), skip=skip, folder=folder)
    if files is None or "\0" in text[:1024]:
        return None
    for each in DELIMITERS:
        records = _records(text, each, _SAMPLE)
        if len(records) > 1 and len(start) == _START:
            records.pop()
        if records and len({len(record) for record in records}) == 1 and len(records[0]) > 1:
            paths = [_clean(record[0]) for record in records]
            if not all(map(_is_image_name, paths)):
                continue
            if _choose_base(paths, folder, files, name) is not None:
                columns = _columns_of_list(records, each, name)
                return Table(path=path, name=name, columns=columns, skip=0, folder=folder)
    return None


def _columns_of_list(records: Sequence[Sequence[str]], delimiter: str | None, name: str) -> Columns:
    """Return the columns of a list without a header: the path, the label, and perhaps the split."""
    width = len(records[0])
    splits = [index for index in range(1, width) if all(split_named(record[index]) for record in records)]
    labels = [index for index in range(1, width) if index not in splits[:1]]
    if len(labels) != 1:
        raise DataError(
            f"'{name}' has no header and {width} columns, so the column of the labels is unknown; "
            "add a first line such as path,label"
        )
    return Columns(
        names=(), delimiter=delimiter, path=0, label=labels[0], split=splits[0] if splits else None
    )


def _clean(path: str) -> str:
    """Return a path with `/`, without `./`."""
    path = path.strip().replace("\\", "/")
    if "//" in path or "./" in path:
        start = "/" if path.startswith("/") else ""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        path = start + "/".join(parts)
    return path


def _is_image_name(path: str) -> bool:
    return "." in path.rpartition("/")[2] and may_be_image(path)


class _Base(NamedTuple):
    """What is put before and after a path of a table.

    Args:
        folder: A folder relative to the source; `""` for the source.
        suffix: The extension that the table leaves out.
    """

    folder: str
    suffix: str

    def complete(self, path: str) -> str:
        return (f"{self.folder}/{path}" if self.folder else path) + self.suffix


_ENDINGS = ("", ".jpg", ".png", ".jpeg", ".JPG", ".PNG", ".bmp", ".tif", ".tiff")


def _choose_base(paths: Sequence[str], folder: str, files: Files, table: str) -> _Base | None:
    """Return what the paths of a table are relative to; None if no file of a sample exists.

    A folder that is named like the split of the table is preferred, if at least half as many files of the
    sample exist in it as in the best folder.

    Raises:
        DataError: Two folders fit equally.
    """
    sample = [path for path in paths[:_SAMPLE] if path and ".." not in path.split("/")]
    if any(
        _ABSOLUTE.match(path) and files.relative(path) and not files.fault(files.relative(path) or "")
        for path in sample
    ):
        return _Base(folder, "")
    sample = [path for path in sample if not _ABSOLUTE.match(path)]
    bare = not any(map(_is_image_name, sample))
    own = list(dict.fromkeys((folder, "")))
    hits: dict[_Base, int] = {}
    for base in (
        _Base(place, ending)
        for place in files.bases(sample, own)
        for ending in (_ENDINGS if bare else _ENDINGS[:1])
    ):
        hits[base] = sum(not files.fault(base.complete(path)) for path in sample)
        if hits[base] == len(sample) > 0 and base.folder in own:
            return base
    most = max(hits.values(), default=0)
    if not most:
        return None
    best = [base for base, count in hits.items() if count == most]
    if split := _split_of(table):
        same = {base: count for base, count in hits.items() if 2 * count >= most and _is_in(base, split)}
        best = [base for base, count in same.items() if count == max(same.values())] or best
    if len(best) > 1 and best[0].folder not in own:
        shown = shorten([base.folder for base in best])
        raise DataError(f"the paths of '{table}' fit the folders {shown}; {_ADVICE}")
    return best[0]


def _is_in(base: _Base, split: str) -> bool:
    """Return whether one of the folders of a base is named like a split."""
    return any(split_named(part) == split for part in base.folder.split("/") if part)


def _open_rows(table: Table, progress: _Progress) -> Iterator[tuple[int, list[str]]]:
    """Yield the number from 0 and the fields of each row.

    Raises:
        DataError: The file is not text, or a line is not one of a csv.
    """
    total = table.path.stat().st_size
    start = _start_of(table.path)
    line = 0
    try:
        with (
            table.path.open("rb") as binary,
            io.TextIOWrapper(binary, encoding=_encoding(start), newline="") as file,
        ):
            records: Iterator[list[str]]
            if table.columns.delimiter is None:
                records = (text.rsplit(None, 1) for text in file)
            else:
                reader = csv.reader(file, delimiter=table.columns.delimiter)
                records = iter(reader)
            number = -table.skip
            for line, record in enumerate(records, start=1):
                if not record or not any(record):
                    continue
                if number >= 0:
                    yield number, record
                number += 1
                if progress and line % 4096 == 0:
                    progress(min(binary.tell(), total), total)
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{table.name}' is not text in UTF-8: {error.reason} after row {line}; save it as csv in UTF-8"
        ) from None
    except csv.Error as error:
        raise DataError(
            f"record {line + 1} of '{table.name}' is not a line of a csv: {error}; correct it, "
            "perhaps a quote is not closed"
        ) from None
    if progress:
        progress(total, total)


def _parse_row(number: int, record: Sequence[str], columns: Columns, known: Mapping[str, str] | None) -> _Row:
    """Return a row's fields.

    Args:
        number: The row, from 0.
        record: Its fields.
        columns: What the columns contain.
        known: The labels that there are, if the data set is known.

    Raises:
        _BadRowError: A field is missing or wrong.
    """
    if len(record) < columns.needed:
        raise _BadRowError(f"the row has {len(record)} fields; {columns.needed} are needed")
    if columns.names and len(record) > len(columns.names) and any(record[len(columns.names) :]):
        raise _BadRowError(f"the row has {len(record)} fields and the header {len(columns.names)}")
    path = _clean(record[columns.path])
    if not path:
        raise _BadRowError("the path is empty")
    if columns.label is not None:
        label, votes = _label(record[columns.label]), None
    elif columns.annotators:
        label, votes = _majority([record[index] for index in columns.annotators]), None
    else:
        label, votes = _counted(record, columns.counts)
    if known is not None and label not in known and label not in AFFECTNET_OTHERS:
        raise _BadRowError(f"the label is '{label[:20]}'; it is {', '.join(known)}")
    return _Row(
        number,
        path,
        label,
        "" if columns.split is None else record[columns.split].strip(),
        "" if columns.group is None else record[columns.group].strip()[:_LONGEST],
        _parse_box([record[index] for index in columns.box], corners=columns.corners),
        votes,
    )


@lru_cache(maxsize=4096)
def _label(text: str) -> str:
    """Return a label; `3.0`, as some programs write whole numbers, is `3`."""
    label = text.strip()
    if label.lower() in _MISSING:
        raise _BadRowError("the label is empty")
    if "\n" in label or "\r" in label:
        raise _BadRowError("the label has a line break; perhaps a quote is not closed")
    if len(label) > _LONGEST or not label.isprintable():
        raise _BadRowError(f"the label has more than {_LONGEST} characters, or control characters")
    whole, point, zeros = label.partition(".")
    return whole if point and whole.isdecimal() and zeros and not zeros.strip("0") else label


def _majority(texts: Sequence[str]) -> str:
    labels = [_label(text) for text in texts if text.strip().lower() not in _MISSING]
    ranked = Counter(labels).most_common(2)
    if not ranked:
        raise _BadRowError("no annotator gives a label")
    if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
        raise _BadRowError(f"the annotators do not agree on one label: {shorten(sorted(labels), 10)}")
    return ranked[0][0]


def _counted(record: Sequence[str], counts: Mapping[int, str]) -> tuple[str, tuple[float, ...] | None]:
    """Return the vote with most annotators, and the votes if there is a column for each."""
    given = {vote: _number(record[index], f"the number of {vote}") for index, vote in counts.items()}
    if min(given.values()) < 0:
        raise _BadRowError("a number of annotators is negative")
    most = max(given.values())
    best = [vote for vote, count in given.items() if count == most]
    if not most or len(best) > 1:
        raise _BadRowError(
            f"the annotators do not agree on one label: {shorten(best, 10) if most else 'none'}"
        )
    if best[0] in ("unknown", "not a face"):
        raise _BadRowError(f"most annotators chose {best[0]}")
    return best[0], tuple(given[vote] for vote in VOTES) if given.keys() == set(VOTES) else None


def _number(text: str, what: str) -> float:
    text = text.strip()
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _BadRowError(f"{what} is '{text[:20]}', which is not a number")
    return number


def _parse_box(fields: Sequence[str], *, corners: bool) -> _Box | None:
    if not any(each.strip() for each in fields):
        return None
    left, top, third, fourth = (_number(each, "a number of the face box") for each in fields)
    width, height = (third - left, fourth - top) if corners else (third, fourth)
    if width <= 0 or height <= 0:
        raise _BadRowError(f"the face box {' '.join(each.strip()[:20] for each in fields)} is empty")
    return left, top, width, height


def explain(path: str | os.PathLike[str], name: str) -> None:
    """Refuse a file that is neither a table of paths nor one of pixels, if its header tells why.

    Raises:
        DataError: It has the columns of FER+'s votes, or only one of two columns that a table needs.
    """
    path = Path(path)
    text = _decode(_start_of(path))
    for delimiter in DELIMITERS:
        header = next(iter(_records(text, delimiter, 1)), []) if delimiter else []
        keys = {simplified(each) for each in header}
        if is_votes(header):
            raise DataError(
                f"'{name}' has the annotator votes of FER+ and no images; give fer2013.csv as the data and "
                "this file as its votes (--votes)"
            )
        if (
            len(header) > 1
            and "pixels" not in keys
            and keys.intersection((*column_names.PATHS, *column_names.LABELS))
        ):
            assign(header, delimiter or "", name)


def find_tables(source: str | os.PathLike[str], names: Sequence[str], options: ReadOptions) -> list[Table]:
    """Return the tables of paths in a folder that has no class folders.

    Args:
        source: The folder.
        names: Its files, relative to it.
        options: How to read it.

    Returns:
        One table; or several that are named like splits, with their splits.

    Raises:
        DataError: There are several others, or a table has two columns of the same meaning.
    """
    source = Path(source)
    candidates = sorted(filter(may_be_table, names), key=lambda name: (name.count("/"), name))[:_MOST_FILES]
    if not candidates:
        return []
    found = open_tables(source, candidates, names, options)
    if len(found) < 2:
        return found
    splits = [_split_of(table.name) for table in found]
    if all(splits) and len(set(splits)) == len(splits):
        return [replace(table, split=split) for table, split in zip(found, splits, strict=True)]
    raise DataError(
        f"'{source.resolve().name}' has several tables of images: "
        f"{shorten([table.name for table in found], 12)}; give one of them as the data, "
        "or name them train.csv and test.csv"
    )


def open_tables(
    source: str | os.PathLike[str], candidates: Sequence[str], names: Sequence[str], options: ReadOptions
) -> list[Table]:
    """Return those of some files of a folder that are tables of paths.

    Lists without a header count only if no file has one.

    Args:
        source: The folder.
        candidates: The files, relative to it.
        names: All files in the folder.
        options: How to read it.

    Raises:
        DataError: A table has two columns of the same meaning.
    """
    source = Path(source)
    inside = [name for name in candidates if _stays_inside(source, name)]
    for files in (None, files_of(source, names, options)):
        opened = (open_table(source / name, name, _folder_of(name, options), files) for name in inside)
        if found := [table for table in opened if table is not None]:
            return found + (
                _headless_siblings(source, inside, found) if found[0].columns.is_affectnet else []
            )
    return []


def finds_images(
    source: str | os.PathLike[str], table: Table, names: Sequence[str], options: ReadOptions
) -> bool:
    """Return whether an image of the first rows of a table exists."""
    source = Path(source)
    rows = islice(_open_rows(table, None), _SAMPLE)
    place = table.columns.path
    paths = [_clean(record[place]) for _, record in rows if len(record) > place]
    return _choose_base(paths, table.folder, files_of(source, names, options), table.name) is not None


def find_unused(source: str | os.PathLike[str], names: Sequence[str]) -> dict[str, bool]:
    """Return the files of a folder that are like tables, and whether each is one of paths with a header."""
    source = Path(source)
    candidates = sorted(filter(may_be_table, names), key=lambda name: (name.count("/"), name))[:_MOST_FILES]
    starts = {name: _start_of(source / name) for name in candidates if _stays_inside(source, name)}
    return {name: is_headed(start) for name, start in starts.items() if is_like_table(name, start)}


def beside_classes(unused: Mapping[str, bool], names: Sequence[str]) -> list[str]:
    """Return the tables that class folders make useless.

    Args:
        unused: Files that are like tables, and whether each is one with a header. Without a header it does
            not count within a class folder or a training.
        names: All files.
    """
    if not unused:
        return []
    there = frozenset(names)
    places = {name.rpartition("/")[0] for name in names if _is_image_name(name)} - {""}
    folders = {name: name.rpartition("/")[0] for name in unused}
    return [
        name
        for name, headed in unused.items()
        if headed or (folders[name] not in places and f"{folders[name]}/run.json".lstrip("/") not in there)
    ]


def is_like_table(name: str, start: bytes) -> bool:
    """Return whether a file is probably meant as a table, also if it cannot be read as one.

    Args:
        name: Its name; .txt says little, so that half of the first rows must name images.
        start: Its first bytes.
    """
    if not may_be_table(name):
        return False
    if not name.lower().endswith(".txt") or is_headed(start):
        return True
    text = _decode(start)
    return any(_names_images(_records(text, delimiter, _SAMPLE)) for delimiter in DELIMITERS)


def _names_images(records: Sequence[Sequence[str]]) -> bool:
    named = [len(record) > 1 and any(_is_image_name(_clean(each)) for each in record) for record in records]
    return 2 * sum(named) >= len(records) > 0


def explain_unread(
    source: str | os.PathLike[str], names: Sequence[str], read: Collection[str] = ()
) -> list[str]:
    """Return why files that are like tables are not read, a sentence for each.

    Args:
        source: Their folder.
        names: Its files.
        read: Those that are read.
    """
    return [_why_unread(Path(source) / name, name) for name in find_unused(source, names) if name not in read]


def _why_unread(path: Path, name: str) -> str:
    text = _decode(_start_of(path))
    if not text.strip():
        return f"'{name}' is not read, because it is empty"
    if text.startswith("#"):
        return f"'{name}' is not read, because it begins with a comment; begin it with the names of columns"
    try:
        explain(path, name)
    except DataError as error:
        reason = str(error).removeprefix(f"'{name}' ")
        return f"'{name}' is not read, because it {reason}"
    records = [_records(text, delimiter, 2) for delimiter in DELIMITERS if delimiter]
    if max((len(each[0]) for each in records if each), default=0) < 2:
        return f"'{name}' is not read, because it has one column; give each image a path and a label"
    if any(each and any(map(_is_image_name, map(_clean, each[0]))) for each in records):
        return f"'{name}' is not read, because it has no header; begin it with the names of columns"
    first = text.strip().splitlines()[0][:60]
    return (
        f"'{name}' is not read, because its first line '{first}' does not name a column of paths and one of "
        "labels; write path and label there"
    )


def _headless_siblings(source: Path, candidates: Sequence[str], found: Sequence[Table]) -> list[Table]:
    """Return AffectNet's validation.csv if it has no header: it has the columns of training.csv."""
    first = found[0]
    more = []
    for name in candidates:
        if any(table.name == name for table in found) or not (
            _split_of(name) and _stays_inside(source, name)
        ):
            continue
        records = _records(_decode(_start_of(source / name)), first.columns.delimiter, 1)
        if records and len(records[0]) == len(first.columns.names) and may_be_image(records[0][0]):
            more.append(
                Table(path=source / name, name=name, columns=first.columns, skip=0, folder=first.folder)
            )
    return more


def _folder_of(name: str, options: ReadOptions) -> str:
    return "" if options.images is not None else name.rpartition("/")[0]


def _stays_inside(source: Path, name: str) -> bool:
    """Return whether a file of a folder is not elsewhere by a link."""
    try:
        FolderReader(source).path(name)
    except (ImageError, OSError, ValueError):
        return False
    return True


def _split_of(name: str) -> str:
    """Return the split that the name of a table, or its folder, tells; or `""`."""
    stem = _stem(name.rpartition("/")[2])
    words = [word for word in re.split(r"[\s_.\-]+", stem) if word]
    found = {split for word in (stem, *words) if (split := split_named(word))}
    if not found:
        found = {split for part in name.split("/")[:-1] if (split := split_named(part))}
    return found.pop() if len(found) == 1 else ""


def files_of(source: str | os.PathLike[str], names: Sequence[str], options: ReadOptions) -> Files:
    """Return the files that paths of tables in a folder can mean: in `options.images`, or in the folder.

    Args:
        source: The folder.
        names: All files in it, if they are known.
        options: How to read it.
    """
    source = Path(source)
    if options.images is not None:
        return Files(FolderReader(options.images))
    return Files(FolderReader(source), [name for name in names if may_be_image(name)])


def read_tables(
    source: str | os.PathLike[str],
    tables: Sequence[Table],
    options: ReadOptions,
    *,
    names: Sequence[str] = (),
    progress: _Progress = None,
) -> Listing:
    """List the images of tables of paths, and check that their files exist.

    Args:
        source: The folder that contains the tables.
        tables: At least one.
        options: `images` is the folder of the paths, if it is not that of the table.
        names: The files in `source`, if they are known.
        progress: Called with (done, total) bytes of a table.

    Raises:
        DataError: A table is not a csv or has no rows, or none of the files exists.
    """
    source = Path(source)
    files = files_of(source, names, options)
    affectnet = any(table.columns.is_affectnet for table in tables)
    gathered = _Gathered(files, LABEL_ORDERS["AffectNet"] if affectnet else None)
    for table in tables:
        gathered.add(table, options, progress)
    root = source if options.images is None else options.images
    how = "; ".join(gathered.how)
    if not gathered.entries and gathered.lost:
        first = gathered.first_lost
        assert first is not None
        raise DataError(
            f"none of the {gathered.lost:,} images of '{tables[0].name}' is in '{root.resolve().name}' "
            f"(the first: {first.file}: {first.reason}); {_ADVICE}"
        )
    entries = gathered.finish()
    notes = gathered.notes
    # A table that is named like a split is missed if it is not read.
    named = [name for name in names if may_be_table(name) and _split_of(name)]
    notes += explain_unread(source, named, [table.name for table in tables])
    if names and options.images is None:
        listed = gathered.listed
        if spare := [name for name in names if _is_image_name(name) and name not in listed]:
            notes.append(f"{len(spare):,} images that the table does not list are left out: {shorten(spare)}")
    return Listing(
        entries=entries,
        open=FolderReader(root),
        how=how,
        known="AffectNet" if affectnet else "",
        problems=tuple(gathered.problems),
        notes=tuple(notes),
    )


class _Gathered:
    """The images of tables, row after row.

    Args:
        files: Which files exist.
        known: The labels of the data set, if it is known.
    """

    def __init__(self, files: Files, known: Mapping[str, str] | None) -> None:
        self._files = files
        self._known = known
        self.entries: list[Entry] = []
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.how: list[str] = []
        self.lost = 0
        self.first_lost: Problem | None = None
        self.listed: set[str] = set()
        self._seen: dict[tuple[str, _Box | None], list[int]] = {}
        self._rows: list[str] = []
        self._doubtful: set[tuple[str, _Box | None]] = set()
        self._shared: set[tuple[str, _Box | None]] = set()
        self._repeats = self._boxless = 0
        self._others: Counter[str] = Counter()

    def add(self, table: Table, options: ReadOptions, progress: _Progress) -> None:
        """Add the rows of a table."""
        rows: list[_Row] = []
        bad: list[str] = []
        for number, record in _open_rows(table, progress):
            try:
                rows.append(_parse_row(number, record, table.columns, self._known))
            except _BadRowError as reason:
                self._fail(f"row {number}", str(reason), "", table)
                bad += [_clean(each) for each in record[table.columns.path : table.columns.path + 1]]
            if number % 65536 == 0:
                check_room(len(self.entries) + len(rows), options)
        if not rows and not self.problems:
            raise DataError(
                f"'{table.name}' has no rows; add one for each image, below the names of the columns"
            )
        base = _choose_base([row.path for row in rows[:_SAMPLE]], table.folder, self._files, table.name)
        base = base or _Base(table.folder, "")
        self.listed.update(self._locate(path, base) for path in (*bad, *(row.path for row in rows)))
        table = self._without_empty_groups(rows, table, options)
        where = ""
        if options.images is not None or base.folder != table.folder:
            place = "/".join(
                filter(None, ("" if options.images is None else options.images.name, base.folder))
            )
            where = f"; paths are relative to '{place or '.'}'"
        where += f", without their extension {base.suffix}" if base.suffix else ""
        kind = "AffectNet's table of paths" if table.columns.is_affectnet else "a table of paths"
        split = f" of the split {table.split}" if table.split and table.columns.split is None else ""
        self.how.append(f"'{table.name}' is read as {kind}{split}: {table.columns.describe()}{where}")
        self.notes += table.columns.unused
        splits = self._splits(rows, table)
        check_boxes((row.box for row in rows), f"'{table.name}'")
        boxes = any(row.box is not None for row in rows)
        for row in rows:
            self._add_row(row, table, base, splits, boxes=boxes)

    def _locate(self, path: str, base: _Base) -> str:
        """Return the name of the file that a path means; an absolute path if it is outside the folder."""
        if not _ABSOLUTE.match(path):
            return base.complete(path)
        inside = self._files.relative(path)
        return path if inside is None else inside

    def _without_empty_groups(self, rows: Sequence[_Row], table: Table, options: ReadOptions) -> Table:
        """Return a table without its column of persons if that is empty; note empty cells."""
        column = table.columns.group
        empty = sum(not row.group for row in rows)
        if column is None or not empty:
            return table
        name = table.columns.names[column]
        if empty == len(rows):
            self.notes.append(f"the column '{name}' of '{table.name}' is empty and is not used")
            return replace(table, columns=replace(table.columns, group=None))
        if options.group_from is None:
            self.notes.append(
                f"{empty:,} of {len(rows):,} rows of '{table.name}' have no person in the column '{name}'; "
                "each of their images is divided like a person of its own"
            )
        return table

    def _splits(self, rows: Sequence[_Row], table: Table) -> Mapping[str, str | None] | None:
        """Return the split of each value of the column; None if it does not tell splits."""
        if table.columns.split is None:
            return None
        values = {row.split for row in rows}
        splits = {value: split_named(value) for value in values}
        if rows and not any(splits.values()):
            name = table.columns.names[table.columns.split]
            self.notes.append(
                f"the column '{name}' of '{table.name}' names no split and is not used: "
                f"{shorten(sorted(values))}"
            )
            return None
        return splits

    def _add_row(
        self, row: _Row, table: Table, base: _Base, splits: Mapping[str, str | None] | None, *, boxes: bool
    ) -> None:
        split = table.split if splits is None else splits[row.split]
        if split is None:
            self._fail(
                f"row {row.number}", f"the split is '{row.split[:20]}'; it is train, val or test", "", table
            )
            return
        if self._known is not None and row.label in AFFECTNET_OTHERS:
            self._others[row.label] += 1
            return
        path = row.path
        name = self._locate(path, base)
        if fault := self._files.fault(name):
            self.lost += 1
            problem = Problem(path[:_LONGEST], f"{fault} (row {row.number} of '{table.name}')", split)
            self.first_lost = self.first_lost or problem
            self.problems.append(problem)
            return
        key = (name, row.box)
        before = self._seen.setdefault(key, [])
        if before and self.entries[before[0]].label != row.label:
            self._doubtful.add(key)
        elif any(self.entries[index].split == split for index in before):
            self._repeats += 1
            return
        elif before:
            self._shared.add(key)
        before.append(len(self.entries))
        self._boxless += boxes and row.box is None
        self._rows.append(f"row {row.number}")
        self.entries.append(Entry(name, row.label, split, row.group, row.box, row.votes))

    def _fail(self, file: str, reason: str, split: str, table: Table) -> None:
        self.problems.append(Problem(file, f"{reason} ('{table.name}')", split))

    def finish(self) -> list[Entry]:
        """Return the images, without those that have two labels."""
        doubtful = {index for key in self._doubtful for index in self._seen[key]}
        for index in sorted(doubtful):
            entry = self.entries[index]
            self.problems.append(
                Problem(
                    entry.file, f"it has several labels ({self._rows[index]}: {entry.label})", entry.split
                )
            )
        if self._repeats:
            self.notes.append(f"{self._repeats:,} rows repeat another row and are skipped")
        if self._boxless:
            self.notes.append(f"{self._boxless:,} images have no face box, so the whole image is used")
        if self._others:
            self.notes.append(describe_others(self._others))
        if shared := sorted({name for name, _ in self._shared - self._doubtful}):
            self.notes.append(
                f"warning: {len(shared):,} images are in two or more splits: {shorten(shared)}; scores on "
                "them are too high"
            )
        return [entry for index, entry in enumerate(self.entries) if index not in doubtful]


def describe_others(counts: Mapping[str, int]) -> str:
    """Return a note about images of AffectNet without an emotion, by label."""
    shown = ", ".join(f"{count:,} {AFFECTNET_OTHERS[label]}" for label, count in sorted(counts.items()))
    return f"images of AffectNet without an emotion are left out: {shown}"
