"""Leave listed images out of training: copies of test images, wrong labels, pictures without a face."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data import sources
from mien.data.sources import Found, shorten
from mien.errors import DataError

_KEYS = ("row", "file", "sha256")


@dataclass(frozen=True)
class Exclusion:
    """How many training images were left out for one reason.

    Args:
        reason: As the lists have it.
        count: How many.
        files: Their names, as in `Split.files`, where they are known; no part of what makes two equal.
    """

    reason: str
    count: int
    files: tuple[str, ...] = field(default=(), compare=False)


def exclude(
    paths: Sequence[Path], found: Found, parts: Mapping[str, NDArray[np.intp]]
) -> tuple[NDArray[np.intp], tuple[Exclusion, ...], tuple[str, ...]]:
    """Find the training images that stay when those listed in csv files are left out.

    Args:
        paths: Each a csv with a column `row` (0-based data row of a csv of images), `file` (as in
            `Split.files`) or `sha256` (of an image's pixels as loaded), and `reason` or `kind` if wanted. A
            line that fills several is taken by the first of them. An image that several lists name counts
            for the first list's reason.
        found: The images.
        parts: Indices into them by split. Only `train` is acted on.

    Returns:
        Indices of the training images that stay; counts by reason; notes about lines that name images of
        other splits, or none, and about lists without lines.

    Raises:
        DataError: A csv cannot be used, or none of its lines names an image.
    """
    train = set(parts.get("train", np.empty(0, np.intp)).tolist())
    reasons: dict[int, str] = {}
    notes: list[str] = []
    for path in paths:
        notes += _exclude(path, found, train, reasons)
    left: dict[str, list[str]] = {}
    for place in sorted(reasons):
        left.setdefault(reasons[place], []).append(found.files[place])
    stay = np.array(sorted(train - reasons.keys()), np.intp)
    counted = tuple(Exclusion(reason, len(left[reason]), tuple(left[reason])) for reason in sorted(left))
    return stay, counted, tuple(notes)


def _exclude(path: Path, found: Found, train: set[int], reasons: dict[int, str]) -> list[str]:
    """Add the training images that one csv names to `reasons`; returns notes about its other lines."""
    lines = _lines(path, with_rows=found.rows is not None)
    names = _names(found, {key for key, _, _ in lines})
    unmatched = []
    elsewhere = 0
    for key, value, reason in lines:
        members = names[key].get(value, [])
        if not members:
            unmatched.append(f"{key} {value}")
        elif train.isdisjoint(members):
            elsewhere += 1
        for member in members:
            if member in train:
                reasons.setdefault(member, reason)
    if lines and len(unmatched) == len(lines):
        raise DataError(
            f"no line of '{path.name}' names an image of this data set ({shorten(unmatched)}); "
            "check that the list was made for it"
        )
    notes = []
    if not lines:
        notes.append(f"'{path.name}' names no image, so nothing is left out by it")
    if unmatched:
        notes.append(f"{len(unmatched):,} lines of '{path.name}' name no image: {shorten(unmatched)}")
    if elsewhere:
        notes.append(f"{elsewhere:,} lines of '{path.name}' name images outside train, which stay")
    return notes


def _lines(path: Path, *, with_rows: bool) -> list[tuple[str, str, str]]:
    """Key, value and reason of each line."""
    columns, records = sources.read_list(sources.text_of(path), path.name)
    keys = [key for key in _KEYS if key in columns]
    if not keys:
        raise DataError(f"'{path.name}' has no column row, file or sha256; name the images by one of them")
    if keys == ["row"] and not with_rows:
        raise DataError(
            f"'{path.name}' names images by row, which only csv sources have; name them by file or sha256"
        )
    lines = []
    for number, record in records:
        filled = [(key, value) for key in keys if (value := record.get(key, ""))]
        if filled:
            key, value = filled[0]
            if key == "row" and value.isdecimal():
                value = sources.row_number(value, number, path.name)
            reason = record.get("reason") or record.get("kind") or "listed"
            lines.append((key, value.lower() if key == "sha256" else value, reason))
    return lines


def _names(found: Found, keys: set[str]) -> dict[str, dict[str, list[int]]]:
    """For each key in use, the images that each value names."""
    names: dict[str, dict[str, list[int]]] = {key: {} for key in keys}
    if "row" in keys:
        names["row"] = {str(row): [place] for place, row in enumerate(found.rows or ())}
    if "file" in keys:
        names["file"] = {file: [place] for place, file in enumerate(found.files)}
    if "sha256" in keys:
        for place, face in enumerate(found.faces):
            names["sha256"].setdefault(hashlib.sha256(face.tobytes()).hexdigest(), []).append(place)
    return names
