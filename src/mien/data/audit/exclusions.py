"""The list of training images to leave out, as `mien train --exclude` takes it."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mien import _files as disk
from mien.data.audit.clean_copy import spreadsheet
from mien.data.audit.findings import Removal
from mien.data.datasets import csv_lists as lists
from mien.data.datasets import tables
from mien.errors import DataError

_KEYS = ("row", "file", "sha256")


def write(path: Path, removals: Sequence[Removal], *, also: Path | None = None) -> dict[str, int]:
    """Write the list.

    Args:
        path: The csv to write: columns `row` for a csv source or `file` for folders, `reason`, `evidence`.
        removals: The images, one line each; the first reason of an image counts.
        also: A list that was there before, whose lines come first.

    Returns:
        How many lines carry each reason.

    Raises:
        DataError: `also` cannot be used, or the list cannot be written.
    """
    lines = [] if also is None else _read(also)
    known = {(key, value) for key, value, _, _ in lines}
    for removal in removals:
        name = _name(removal)
        if name not in known:
            known.add(name)
            lines.append((*name, removal.reason, removal.evidence))
    keys = [key for key in _KEYS if any(line[0] == key for line in lines)] or ["file"]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*keys, "reason", "evidence"])
    for key, value, reason, evidence in lines:
        table.writerow([*(value if key == column else "" for column in keys), reason, spreadsheet(evidence)])
    try:
        disk.write(path, text.getvalue().encode(errors="backslashreplace"))
    except OSError as error:
        raise DataError(f"the exclusions cannot be written to '{path}': {disk.reason(error)}") from error
    return dict(Counter(reason for _, _, reason, _ in lines))


def _name(removal: Removal) -> tuple[str, str]:
    if row := re.fullmatch(r"row (\d+)", removal.file):
        return "row", row[1]
    # What train --exclude reads is cut at line ends and stripped of outer space, is UTF-8, and may pass
    # through a spreadsheet.
    plain = removal.file.splitlines() == [removal.file.strip()] and removal.file == spreadsheet(removal.file)
    if plain and removal.file.encode(errors="replace").decode() == removal.file:
        return "file", removal.file
    return "sha256", removal.sha256


def _read(path: Path) -> list[tuple[str, str, str, str]]:
    """Key, value, reason and evidence of each line of a list that was there before."""
    columns, records = lists.read(tables.text_of(path), path.name)
    keys = [key for key in _KEYS if key in columns]
    if not keys:
        raise DataError(f"'{path.name}' has no column row, file or sha256; name the images by one of them")
    lines = []
    for _, record in records:
        for key in keys:
            if value := record.get(key):
                reason = record.get("reason") or record.get("kind") or "listed"
                lines.append((key, value, reason, record.get("evidence", "")))
                break
    return lines
