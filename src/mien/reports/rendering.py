"""Render HTML and Markdown from the templates in `mien/reports/templates`.

Every value that a template prints is escaped for the format of the page, unless it is `Markup` already. If a
template uses a name that it was not given, that is an error, not an empty text.
"""

import base64
import functools
import io
import json
import os
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from mien import _files

#: What is written for a number that does not exist.
NO_NUMBER = "–"

#: Columns at which paragraphs of Markdown break.
_WIDTH = 118

_MARKUP = re.compile(r"([\\`*_\[\]<>#|~$&])")
#: What code cannot contain; and what would begin a list, a heading or HTML if a line broke before it.
_NO_CODE = re.compile(r"[`|\\]|\s[-+=#<>~*_]|\s\d+[.)]")
#: What turns a line of prose that happens to begin with it into a list or a heading.
_BLOCK = re.compile(r"^(\d*)(?:(?<=\d)([.)])(?=\s|$)|(?<!\d)([-+=]))", re.MULTILINE)
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")


def render(template: str, **values: Any) -> str:
    """Return a page.

    Args:
        template: The name of a file in `templates`, such as `audit.html.j2`.
        values: What the template prints.
    """
    markdown = template.endswith(".md.j2")
    return (_markdown() if markdown else _html()).get_template(template).render(values)


def write_page(path: str | os.PathLike[str], text: str) -> None:
    """Write a page; what UTF-8 cannot encode is written as an escape.

    Raises:
        OutputError: The file cannot be written.
    """
    _files.write(path, text.encode(errors="backslashreplace"))


def printable(text: str) -> str:
    """Return a text with everything that a page cannot show as an escape."""
    shown = text.encode(errors="backslashreplace").decode()
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in shown)


def one_line(text: str) -> str:
    """Return a text on one line, with what UTF-8 cannot encode as an escape."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def escape_markdown(text: str) -> Markup:
    """Return a text on one line so that Markdown shows it as it is."""
    return Markup(_MARKUP.sub(r"\\\1", one_line(text)))  # noqa: S704


def code(text: str) -> Markup:
    """Return a text as Markdown code, or as plain text if code cannot contain it."""
    line = one_line(text)
    return escape_markdown(line) if _NO_CODE.search(line) or not line else Markup(f"`{line}`")  # noqa: S704


def paragraph(text: str, width: int = _WIDTH) -> Markup:
    """Return Markdown as one paragraph whose lines are not too long and begin no list or heading."""
    lines = textwrap.fill(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)
    return Markup(_BLOCK.sub(lambda found: f"{found[1]}\\{found[2] or found[3]}", lines))  # noqa: S704


def bullet(text: str) -> Markup:
    """Return Markdown as one point of a list."""
    return Markup(f"- {paragraph(text, _WIDTH - 2)}".replace("\n", "\n  "))  # noqa: S704


def yaml(text: str) -> Markup:
    """Return a text as a quoted scalar of YAML."""
    quoted = json.dumps(text, ensure_ascii=False)
    return Markup(_NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted))  # noqa: S704


def picture(image: NDArray[np.uint8]) -> str:
    """Return an image, grey `(h, w, 1)` or RGB `(h, w, 3)`, as a data URI with its pixels, without loss."""
    packed = io.BytesIO()
    Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0]).save(packed, "PNG")
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"


def thousands(count: int) -> str:
    """Return a count with separators: `3,589`."""
    return f"{count:,}"


def listed(words: Sequence[str]) -> str:
    """Return words as a list in a sentence: `a, b and c`."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1] if words else "") if part)


def _percent(value: float | None, interval: Sequence[float] | None = None, *, digits: int = 1) -> str:
    """Return a fraction as percent, with its interval: `68.5% (67.0–70.0)`."""
    if value is None:
        return NO_NUMBER
    if interval is None:
        return f"{value:.{digits}%}"
    low, high = interval
    return f"{value:.1%} ({100 * low:.1f}–{100 * high:.1f})"


def _percent_in_markdown(
    value: float | None, interval: Sequence[float] | None = None, *, digits: int = 1
) -> str:
    """Return a fraction as percent, with its interval: `68.5 % (67.0 to 70.0)`."""
    if value is None:
        return NO_NUMBER
    shown = f"{100 * value:.{digits}f} %"
    return shown if interval is None else f"{shown} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def _fixed(value: float | None, digits: int) -> str:
    return NO_NUMBER if value is None else f"{value:.{digits}f}"


def _sentence(text: str) -> str:
    """Return a phrase as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


def _options(text: str) -> Markup:
    """Keep command-line options in a text, such as --fix, on one line."""
    parts = re.split(r"(--[a-z][a-z-]*)", printable(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if part.startswith("--") else part for part in parts
    )


def _environment(finalize: Any, filters: dict[str, Any]) -> Environment:
    made = Environment(
        loader=PackageLoader("mien.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"thousands": thousands, "fixed": _fixed, "listed": listed} | filters
    return made


@functools.cache
def _html() -> Environment:
    def visible(value: Any) -> Any:
        return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    filters = {"percent": _percent, "picture": picture, "sentence": _sentence, "options": _options}
    return _environment(visible, filters)


@functools.cache
def _markdown() -> Environment:
    def escaped(value: Any) -> Any:
        return escape_markdown(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    filters = {"percent": _percent_in_markdown, "code": code, "yaml": yaml}
    return _environment(escaped, filters | {"paragraph": paragraph, "bullet": bullet})
