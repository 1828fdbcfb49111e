"""Exclude listed images from training: duplicates of test images, wrong labels, images without a face."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien._text import shorten
from mien.data import csv_lists, image_cache
from mien.data.contents import Contents
from mien.errors import DataError

KEYS = ("row", "file", "sha256")
#: The name of an image that has no other, in `Split.files`.
_ROW = re.compile(r"row (\d+)")


@dataclass(frozen=True)
class Exclusion:
    """The training images that were left out for one reason.

    Args:
        reason: As in the lists.
        count: Number of images.
        files: Their names, as in `Split.files`, if they are known; not compared by `==`.
    """

    reason: str
    count: int
    files: tuple[str, ...] = field(default=(), compare=False)


def exclude(
    paths: Sequence[str | os.PathLike[str]], found: Contents, parts: Mapping[str, NDArray[np.intp]]
) -> tuple[NDArray[np.intp], tuple[Exclusion, ...], tuple[str, ...]]:
    """Return the training images that remain without those listed in csv files.

    Args:
        paths: Csv files with a column `row` (0-based data row of a csv of images, or of other data whose
            `Split.files` are `row 0`, `row 1`, …), `file` (as in `Split.files`) or `sha256` (of an image's
            pixels as loaded), and optionally `reason` or `kind`. If a line fills several columns, the first
            of them counts. If several lists name an image, the first list's reason counts.
        found: The images.
        parts: Indices into them by split; images are left out of `train` only.

    Returns:
        Indices of the remaining training images; counts by reason; notes about lines that name no image or
        images of other splits, and about lists without lines.

    Raises:
        DataError: A csv cannot be used, or none of its lines names an image.
    """
    train = set(parts.get("train", np.empty(0, np.intp)).tolist())
    reasons: dict[int, str] = {}
    notes: list[str] = []
    for path in paths:
        notes += _exclude(Path(path), found, train, reasons)
    left: dict[str, list[str]] = {}
    for index in sorted(reasons):
        left.setdefault(reasons[index], []).append(found.files[index])
    stay = np.array(sorted(train - reasons.keys()), np.intp)
    counted = tuple(Exclusion(reason, len(left[reason]), tuple(left[reason])) for reason in sorted(left))
    return stay, counted, tuple(notes)


def _exclude(path: Path, found: Contents, train: set[int], reasons: dict[int, str]) -> list[str]:
    """Add the training images that one csv names to `reasons`; return notes about its other lines."""
    lines = read(path, rows=bool(_rows(found)))
    names = _names(found, {key for _, key, _, _ in lines})
    unmatched = []
    elsewhere = 0
    for number, key, value, record in lines:
        if key == "row" and value.isdecimal():
            value = csv_lists.row_number(value, number, path.name)
        members = names[key].get(value.lower() if key == "sha256" else value, [])
        if not members:
            unmatched.append(f"{key} {value}")
        elif train.isdisjoint(members):
            elsewhere += 1
        for member in members:
            if member in train:
                reasons.setdefault(member, reason(record))
    if lines and len(unmatched) == len(lines):
        raise DataError(
            f"no line of '{path.name}' names an image of this data set ({shorten(unmatched)}); "
            "check that the list was made for it"
        )
    notes = []
    if not lines:
        notes.append(f"'{path.name}' has no lines, so it excludes nothing")
    if unmatched:
        notes.append(f"{len(unmatched):,} lines of '{path.name}' name no image: {shorten(unmatched)}")
    if elsewhere:
        notes.append(f"{elsewhere:,} lines of '{path.name}' name images outside train, which are kept")
    return notes


def read(path: str | os.PathLike[str], *, rows: bool = True) -> list[tuple[int, str, str, dict[str, str]]]:
    """Read a list of images to leave out.

    Args:
        path: The csv.
        rows: Whether the data set has rows, so that a list may name nothing else.

    Returns:
        For each line that names an image: its number, its key (`row`, `file` or `sha256`), the value, and all
        of its fields.

    Raises:
        DataError: The file cannot be read, has none of the three columns, or needs rows.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"'{path}' (--exclude) does not exist; check the path of the list")
    columns, records = csv_lists.read_list(csv_lists.text_of(path), path.name)
    keys = [key for key in KEYS if key in columns]
    if not keys:
        raise DataError(f"'{path.name}' has no column row, file or sha256; name the images by one of them")
    if keys == ["row"] and not rows:
        raise DataError(
            f"'{path.name}' names images by row, and the images of this data set have names; name them "
            "by file (as in Split.files) or sha256"
        )
    lines = []
    for number, record in records:
        key = next((key for key in keys if record.get(key)), None)
        if key is not None:
            lines.append((number, key, record[key], record))
    return lines


def reason(record: dict[str, str]) -> str:
    """Return why a line leaves its image out."""
    return record.get("reason") or record.get("kind") or "listed"


def _names(found: Contents, keys: set[str]) -> dict[str, dict[str, list[int]]]:
    """Return for each key the images that each value names."""
    names: dict[str, dict[str, list[int]]] = {key: {} for key in keys}
    if "row" in keys:
        names["row"] = _rows(found)
    if "file" in keys:
        names["file"] = {file: [index] for index, file in enumerate(found.files)}
    if "sha256" in keys:
        for index, face in enumerate(image_cache.each(found.faces)):
            names["sha256"].setdefault(hashlib.sha256(face.tobytes()).hexdigest(), []).append(index)
    return names


def _rows(found: Contents) -> dict[str, list[int]]:
    """Return the image of each row: of a csv of pixels, or by the names of images without other names."""
    if found.rows is not None:
        return {str(row): [index] for index, row in enumerate(found.rows)}
    matches = ((index, _ROW.fullmatch(file)) for index, file in enumerate(found.files))
    return {match[1]: [index] for index, match in matches if match is not None}
