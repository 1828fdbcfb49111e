"""Read csv files that a person may have written, such as lists of images to exclude."""

import csv
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from mien.errors import DataError

_LARGEST_VOTES = 256 * 2**20


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
            f"'{path.name}' is above {_LARGEST_VOTES // 2**20} MiB; give the csv that belongs to these images"
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
            f"line {line} of {name!r} has a row number of {len(value):,} digits; rows are numbered from 0"
        )
    return str(int(value))


def _records(lines: "csv._reader", name: str) -> Iterator[tuple[int, list[str]]]:  # type: ignore[name-defined]
    try:
        for record in lines:
            if record:
                yield lines.line_num, record
    except csv.Error as error:
        raise DataError(f"line {lines.line_num} of {name!r} is not valid csv: {error}; correct it") from None
