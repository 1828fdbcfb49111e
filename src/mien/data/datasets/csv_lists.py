"""Lists of images as csv files that people write: read line by line, whatever stands in them."""

import csv
import io
from collections.abc import Iterator

from mien.errors import DataError

#: Digits above which a number counts no rows.
_LONGEST_ROW = 18


def read(
    text: str, name: str, *, strict: bool = False, lower: bool = True
) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Read a list.

    Args:
        text: The csv.
        name: Its name, for messages.
        strict: Refuse quotes in the wrong place.
        lower: Spell columns in lower case.

    Returns:
        The columns; and each line's number with its fields, stripped, those that the line has.

    Raises:
        DataError: A line is no line of a csv, or a field is too long; of lines as they are read.
    """
    lines = csv.reader(io.StringIO(text, newline=""), strict=strict)
    records = _records(lines, name)
    _, first = next(records, (0, []))
    columns = [each.strip().lower() if lower else each.strip() for each in first]
    return columns, (
        (number, dict(zip(columns, (each.strip() for each in record), strict=False)))
        for number, record in records
    )


def row(value: str, line: int, name: str) -> str:
    """Return the number of a row without leading zeros.

    Args:
        value: Decimal digits.
        line: Where they stand, for messages.
        name: In which file.

    Raises:
        DataError: There are more than any number of rows has.
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
        raise DataError(f"line {lines.line_num} of {name!r} is no line of a csv: {error}; mend it") from None
