"""How a model does on parts of a split that a csv tells apart, such as ages, sources or skin tones."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.data import sources
from mien.errors import DataError
from mien.evaluation.evaluation import Group, Groups
from mien.evaluation.metrics import metrics

#: Images below which a group's figures say little.
FEW = 30
#: Groups above which a column tells images apart rather than groups.
MOST = 200

_KEYS = ("row", "file")
#: The largest csv in bytes: a line for each of millions of images.
_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Listing:
    """Which group each image belongs to.

    Args:
        file: The csv's name.
        column: The column that names groups.
        groups: The group of each image, by its name as in `Split.files`.
    """

    file: str
    column: str
    groups: dict[str, str]


def listing(path: str | os.PathLike[str]) -> Listing:
    """Read which image belongs to which group.

    Args:
        path: A csv with a column `row` (0-based data row of a csv of images) or `file` (as in `Split.files`),
            and one that names groups; or such a csv, a colon, and that column's name. A line without a group
            is passed over.

    Raises:
        DataError: The file cannot be read, columns are missing or too many to choose from, or an image
            stands in two groups.
    """
    place, column = _parted(str(path))
    names, lines = sources.read_list(_text(place), place.name, strict=True, lower=False)
    key = next((name for name in names if name.lower() in _KEYS), None)
    if key is None:
        raise DataError(f"{place.name!r} has no column row or file; name the images by one of them")
    column = _column(place.name, [name for name in names if name != key], column)
    groups: dict[str, str] = {}
    for number, line in lines:
        value, group = line.get(key, ""), line.get(column, "")
        if not (value and group):
            continue
        row = key.lower() == "row" and value.isdecimal()
        image = f"row {sources.row_number(value, number, place.name)}" if row else value
        if groups.setdefault(image, group) != group:
            raise DataError(
                f"{place.name!r} puts {image!r} into the groups {groups[image]!r} and {group!r}; "
                "give every image one"
            )
    return Listing(place.name, column, groups)


def members(found: Listing, files: Sequence[str]) -> npt.NDArray[np.str_]:
    """Return the group of each image, empty for none: `(n,)`.

    Args:
        found: Which image belongs to which group.
        files: The n images' names, as in `Split.files`.

    Raises:
        DataError: No image has a group, or there are more than `MOST` groups.
    """
    of = np.array([found.groups.get(file, "") for file in files])
    counts = Counter(of[of != ""].tolist())
    if not counts:
        example = files[0] if len(files) else ""
        raise DataError(
            f"no line of {found.file!r} names an image of this split, such as {example!r}; "
            "check that it was made for this data"
        )
    if len(counts) > MOST:
        raise DataError(
            f"the column {found.column!r} makes {len(counts):,} groups, and {MOST} can be told apart; "
            "name another column, or join groups"
        )
    return of


def separate(
    found: Listing,
    files: Sequence[str],
    probabilities: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.integer[Any]],
    names: Sequence[str],
) -> Groups:
    """Measure every group by itself.

    Args:
        found: Which image belongs to which group.
        files: The n images' names, as in `Split.files`.
        probabilities: `(n, k)`, each row summing to 1.
        labels: `(n,)` numbers in [0, k).
        names: The k class names.

    Raises:
        DataError: No image has a group, or there are more than `MOST` groups.
    """
    of = members(found, files)
    return Groups(
        file=found.file,
        column=found.column,
        unlisted=int((of == "").sum()),
        groups=tuple(
            _group(name, probabilities[of == name], labels[of == name], names)
            for name in sorted({*of.tolist()} - {""})
        ),
    )


def _group(
    name: str,
    probabilities: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.integer[Any]],
    names: Sequence[str],
) -> Group:
    report = metrics(probabilities, labels, names)
    return Group(
        name=name,
        n=report.n,
        few=report.n < FEW,
        accuracy=report.accuracy,
        accuracy_interval=report.accuracy_interval,
        balanced_accuracy=report.balanced_accuracy,
        balanced_accuracy_interval=report.balanced_accuracy_interval,
        macro_f1=report.macro_f1,
        macro_f1_interval=report.macro_f1_interval,
    )


def _parted(given: str) -> tuple[Path, str | None]:
    """Part `FILE:COLUMN`; a file whose own name holds a colon is taken whole."""
    path, colon, column = given.rpartition(":")
    if not colon or not path or Path(given).exists():
        return Path(given), None
    return Path(path), column


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path.name!r} is larger than the {_MAX_BYTES:,} bytes that a list may have")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name!r} is no text in UTF-8: {error.reason}; save it as UTF-8") from None


def _column(file: str, others: list[str], column: str | None) -> str:
    if column is None and len(others) == 1:
        return others[0]
    if column in others:
        return column
    asked = "no column" if column is None else f"the column {column!r}, which is not there,"
    raise DataError(
        f"{asked} was named to tell groups of {file!r} by; it has {', '.join(others) or 'no other'}: "
        f"write {file}:COLUMN"
    )
