"""Markdown and the numbers in it. Names come from users, so whatever could be markup is escaped."""

import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

#: Columns at which paragraphs break.
WIDTH = 118
#: What stands where there is no number.
NONE = "–"

_MARKUP = re.compile(r"([\\`*_\[\]<>#|~$&])")
#: What code cannot hold; or what would begin a list, a heading or HTML where a line is broken before it.
_NO_CODE = re.compile(r"[`|\\]|\s[-+=#<>~*_]|\s\d+[.)]")
#: What makes a list or a heading of a line of prose that happens to begin with it.
_BLOCK = re.compile(r"^(\d*)(?:(?<=\d)([.)])(?=\s|$)|(?<!\d)([-+=]))", re.MULTILINE)
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")


def plain(text: str) -> str:
    """Return a user's text on one line, so that Markdown shows it as it is."""
    return _MARKUP.sub(r"\\\1", _line(text))


def code(text: str) -> str:
    """Return a user's text as code, or as plain text where code cannot hold it."""
    line = _line(text)
    return plain(line) if _NO_CODE.search(line) or not line else f"`{line}`"


def paragraph(*sentences: str) -> str:
    """Join sentences, without the empty ones, to a paragraph of lines that are not too long."""
    return _fold(" ".join(sentence for sentence in sentences if sentence))


def bullets(items: Iterable[str]) -> str:
    """Return a list, a point an item."""
    return "\n".join(f"- {_fold(item, WIDTH - 2)}".replace("\n", "\n  ") for item in items)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    """Return a table.

    Args:
        columns: The head; it and the cells are Markdown already.
        rows: Cells, as many in each row as there are columns.
        numbers: Whether all columns but the first hold numbers, which stand at the right.
    """
    rule = ["---", *(["---:" if numbers else "---"] * (len(columns) - 1))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))


def share(value: float | None, digits: int = 1) -> str:
    """Return a fraction as percent."""
    return NONE if value is None else f"{100 * value:.{digits}f} %"


def measured(value: float | None, interval: tuple[float, float] | None) -> str:
    """Return a fraction as percent with its interval: `68.5 % (67.0 to 70.0)`."""
    if value is None or interval is None:
        return share(value)
    low, high = interval
    return f"{share(value)} ({100 * low:.1f} to {100 * high:.1f})"


def count(n: int) -> str:
    """Return a number of things."""
    return f"{n:,}"


def listed(words: Sequence[str]) -> str:
    """Return words as they are said: `a, b and c`."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1] if words else "") if part)


def as_yaml(value: Any, indent: int = 0) -> str:
    """Return nested dicts and lists of plain values as YAML, every string in quotes."""
    space = "  " * indent
    if isinstance(value, dict):
        return "".join(f"{space}{key}:{_below(item, indent)}" for key, item in value.items())
    if isinstance(value, list):
        # A mapping begins on the line of its dash.
        return "".join(f"{space}- {as_yaml(item, indent + 1).lstrip(' ')}" for item in value)
    text = json.dumps(value, ensure_ascii=False)
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _below(value: Any, indent: int) -> str:
    """Return what stands after a key: a plain value beside it, all else under it."""
    return f"\n{as_yaml(value, indent + 1)}" if isinstance(value, dict | list) else f" {as_yaml(value)}"


def _line(text: str) -> str:
    """Return text on one line; what UTF-8 cannot hold, such as a file name's stray byte, as an escape."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def _fold(text: str, width: int = WIDTH) -> str:
    lines = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    return _BLOCK.sub(lambda found: f"{found[1]}\\{found[2] or found[3]}", lines)
