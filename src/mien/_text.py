"""Format numbers and words, and escape text for terminals, csv, Markdown and LaTeX."""

import os
import re
import shlex
import subprocess
import unicodedata
from collections.abc import Sequence

#: Stands for a number that does not exist.
MISSING = "–"
#: Characters of a quoted name that are shown at most.
_LONGEST_NAME = 100

_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~$&])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


def format_percent(
    value: float | None, interval: Sequence[float] | None = None, *, digits: int = 1, unit: str = "%"
) -> str:
    """Return a fraction in percent, with its confidence interval if there is one.

    >>> format_percent(0.685, (0.67, 0.7))
    '68.5% (67.0–70.0)'
    >>> format_percent(None)
    '–'
    """
    if value is None:
        return MISSING
    shown = f"{100 * value:.{digits}f}{unit}"
    if interval is None:
        return shown
    low, high = interval
    return f"{shown} ({100 * low:.{digits}f}–{100 * high:.{digits}f})"


def format_points(value: float) -> str:
    """Return a difference of fractions in percentage points, with its sign.

    >>> format_points(-0.0132)
    '−1.3'
    """
    shown = f"{100 * value:+.1f}"
    return "0.0" if shown in {"+0.0", "-0.0"} else shown.replace("-", "−")


def format_p_value(p: float) -> str:
    """Return a p-value with its relation sign.

    >>> format_p_value(0.00402), format_p_value(1e-9)
    ('= 0.004', '< 0.0001')
    """
    return "< 0.0001" if p < 0.0001 else f"= {p:.2g}" if p < 0.1 else f"= {p:.2f}"


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units.

    >>> format_duration(245)
    '4m 05s'
    """
    if not seconds < 360_000:
        return "long"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 60}m {whole % 60:02d}s" if whole >= 60 else f"{whole}s"


def format_setting(value: object) -> str:
    """Return the value of a recipe's setting with at most three digits: `0.123`, `true`, `cubic`."""
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower()


def pluralize(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun in the singular or the plural.

    >>> pluralize(1, "image"), pluralize(3589, "image"), pluralize(0, "copy", "copies")
    ('1 image', '3,589 images', '0 copies')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


_SINGULAR = {"are": "is", "have": "has", "were": "was", "differ": "differs"}


def agree(count: int, sentence: str) -> str:
    """Return a count and a sentence that begins with its noun; noun and verb are in the singular for 1.

    >>> agree(1, "images of train are blurred."), agree(2000, "images of train are blurred.")
    ('1 image of train is blurred.', '2,000 images of train are blurred.')
    """
    noun, *words = sentence.split(" ")
    verb = next((place for place, word in enumerate(words) if word in _SINGULAR), None)
    if count == 1 and verb is not None:
        noun, words[verb] = noun.removesuffix("s"), _SINGULAR[words[verb]]
    return " ".join([f"{count:,}", noun, *words])


def join_words(words: Sequence[str], conjunction: str = "and") -> str:
    """Return words as a list in a sentence.

    >>> join_words(["a", "b", "c"])
    'a, b and c'
    """
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


def format_command(words: Sequence[str]) -> str:
    """Return a command to copy into a shell, with double quotes if they are enough: Windows knows no others.

    >>> format_command(["mien", "train", "archive (4).zip"])
    'mien train "archive (4).zip"'
    >>> format_command(["mien", "train", "$x.zip"])
    "mien train '$x.zip'"
    """
    if os.name == "nt":
        return subprocess.list2cmdline(words)
    return " ".join(map(_quote_word, words))


def _quote_word(word: str) -> str:
    quoted = shlex.quote(word)
    return f'"{word}"' if word and quoted != word and not set(word) & set('"$`\\!') else quoted


def shorten(names: Sequence[str], most: int = 3) -> str:
    """Return the first few of many names for a message."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def quote(name: str) -> str:
    r"""Return a name from outside in quotes: ASCII on one line, and shortened if it is long.

    >>> quote("a\nb")
    "'a\\nb'"
    """
    text = ascii(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[:70]}...{text[-20:]}"


def make_encodable(text: str) -> str:
    """Return text with undecodable bytes of a file name as escapes, so that UTF-8 can encode it."""
    return text.encode("utf-8", "backslashreplace").decode()


def make_printable(text: str) -> str:
    """Return text with everything that cannot be printed as escapes, line breaks among them."""
    text = make_encodable(text)
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def join_lines(text: str) -> str:
    """Return printable text on one line, with one space for each run of white space."""
    return make_printable(" ".join(text.split()))


def escape_terminal(text: str, *, keep: str = "") -> str:
    """Return text with control characters as escapes, so that it cannot move the cursor.

    Args:
        text: The text.
        keep: Control characters that stay.
    """
    return "".join(
        repr(char)[1:-1] if unicodedata.category(char) == "Cc" and char not in keep else char for char in text
    )


def escape_formula(text: str) -> str:
    """Return a text cell of a csv file so that no spreadsheet runs it as a formula.

    >>> escape_formula("=1+1")
    "'=1+1"
    """
    if text == "-":
        return text
    formula = text.lstrip()[:1] in ("=", "+", "-", "@") or text[:1] in ("\t", "\r")
    return f"'{text}" if formula else text


def escape_markdown(text: str) -> str:
    r"""Return text on one line that Markdown shows as it is.

    >>> escape_markdown("a_b|c")
    'a\\_b\\|c'
    """
    return _MARKDOWN.sub(r"\\\1", join_lines(text))


def escape_latex(text: str) -> str:
    r"""Return text on one line that LaTeX shows as it is.

    >>> escape_latex("50 %")
    '50 \\%'
    """
    return "".join(_LATEX.get(char, char) for char in join_lines(text))
