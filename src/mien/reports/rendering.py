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
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from mien import _files, _text

#: Columns at which paragraphs of Markdown break.
_WIDTH = 118

#: What code cannot contain; and what would begin a list, a heading or HTML if a line broke before it.
_NO_CODE = re.compile(r"[`|\\]|\s[-+=#<>~*_]|\s\d+[.)]")
#: What turns a line of prose that happens to begin with it into a list or a heading.
_BLOCK = re.compile(r"^(\d*)(?:(?<=\d)([.)])(?=\s|$)|(?<!\d)([-+=]))", re.MULTILINE)
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


def render(template: str, **values: Any) -> str:
    """Return a page.

    Args:
        template: The name of a file in `templates`, such as `audit.html.j2`.
        values: What the template prints.
    """
    if not template.endswith(".md.j2"):
        return _html().get_template(template).render(values)
    text = _markdown().get_template(template).render(values)
    # Sections that are left out leave empty lines behind.
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def write_page(path: str | os.PathLike[str], text: str) -> None:
    """Write a page; what UTF-8 cannot encode is written as an escape.

    Raises:
        OutputError: The file cannot be written.
    """
    _files.write(path, text.encode(errors="backslashreplace"))


def plain(text: str) -> Markup:
    """Return a text so that Markdown shows it as it is; Markup is Markdown already."""
    return text if isinstance(text, Markup) else Markup(_text.escape_markdown(text))  # noqa: S704


def join_words(words: Iterable[str]) -> Markup:
    """Return texts or Markdown as a list in a sentence of Markdown."""
    return Markup(_text.join_words([plain(word) for word in words]))  # noqa: S704


def code(text: str) -> Markup:
    """Return a text as Markdown code, or as plain text if code cannot contain it."""
    line = _text.join_lines(str(text))
    plain = _NO_CODE.search(line) or not line
    return Markup(_text.escape_markdown(line) if plain else f"`{line}`")  # noqa: S704


def paragraph(text: str, width: int = _WIDTH) -> Markup:
    """Return Markdown as one paragraph whose lines are not too long and begin no list or heading."""
    lines = textwrap.fill(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)
    return Markup(_BLOCK.sub(lambda found: f"{found[1]}\\{found[2] or found[3]}", lines) + "\n")  # noqa: S704


def bullet(text: str) -> Markup:
    """Return Markdown as one point of a list."""
    lines = paragraph(text, _WIDTH - 2).rstrip("\n").replace("\n", "\n  ")
    return Markup(f"- {lines}\n")  # noqa: S704


def quoted(text: str) -> Markup:
    """Return a text as a string in quotes of JSON, Python and YAML."""
    string = json.dumps(text, ensure_ascii=False)
    return Markup(_NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", string))  # noqa: S704


def picture(image: NDArray[np.uint8]) -> str:
    """Return an image, grey `(h, w, 1)` or RGB `(h, w, 3)`, as a data URI with its pixels, without loss."""
    packed = io.BytesIO()
    Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0]).save(packed, "PNG")
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"


def thousands(count: int) -> str:
    """Return a count with separators: `3,589`."""
    return f"{count:,}"


def _fixed(value: float | None, digits: int) -> str:
    return _text.MISSING if value is None else f"{value:.{digits}f}"


def _sentence(text: str) -> str:
    """Return a phrase as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


def _options(text: str) -> Markup:
    """Keep command-line options in a text, such as --fix, on one line."""
    parts = re.split(r"(--[a-z][a-z-]*)", _text.make_printable(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if part.startswith("--") else part for part in parts
    )


def _environment(escape: Callable[[str], str], filters: dict[str, Callable[..., str]]) -> Environment:
    """Return an environment whose templates print every text through `escape`, except `Markup`."""

    def finalize(value: Any) -> Any:
        return escape(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    made = Environment(
        loader=PackageLoader("mien.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    made.filters |= {
        "fixed": _fixed,
        "percent": _text.format_percent,
        "thousands": thousands,
        **filters,
    }
    return made


@functools.cache
def _html() -> Environment:
    # Jinja escapes the result for HTML.
    return _environment(
        _text.make_printable, {"options": _options, "picture": picture, "sentence": _sentence}
    )


@functools.cache
def _markdown() -> Environment:
    return _environment(
        plain,
        {
            "bullet": bullet,
            "code": code,
            "join_words": join_words,
            "paragraph": paragraph,
            "percent": functools.partial(_text.format_percent, unit=" %"),
            "plain": plain,
            "quoted": quoted,
        },
    )
