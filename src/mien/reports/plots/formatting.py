"""Names and numbers as a figure can show them."""

import functools
import math
from collections.abc import Sequence

from matplotlib import font_manager

#: matplotlib brings this one, so that figures look alike everywhere.
FONT = "DejaVu Sans"
#: Asked in this order, where installed, for characters that `FONT` lacks.
_FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Nirmala UI",
    "Noto Sans JP",
    "Noto Sans KR",
    "Noto Serif CJK SC",
    "Noto Serif CJK JP",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "IPAGothic",
    "IPAexGothic",
    "TakaoGothic",
    "MS Gothic",
    "SimHei",
    "Noto Sans",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Sans Hebrew",
    "Noto Sans Thai",
    "Noto Emoji",
    "Segoe UI Symbol",
    "Segoe UI Emoji",
    "STIXGeneral",
)


@functools.cache
def families() -> tuple[str, ...]:
    """Return the font families to draw with, best first; all of them are installed."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return (FONT, *(name for name in _FALLBACKS if name in installed))


@functools.cache
def _known() -> frozenset[int]:
    """Return the code points that can be drawn, upright and bold."""
    weights = []
    for weight in ("normal", "bold"):
        known: set[int] = set()
        for family in families():
            wanted = font_manager.FontProperties(family=family, weight=weight)
            known.update(font_manager.get_font(font_manager.findfont(wanted)).get_charmap())
        weights.append(known)
    return frozenset(weights[0] & weights[1])


def plain(text: str) -> str:
    r"""Return `text` on one line, with what no font can draw written as an escape: `\u5feb`.

    Folders have names with line breaks, undecodable bytes and scripts that no installed font knows. Empty
    boxes would make two such classes look alike; escapes keep them apart.
    """
    line = " ".join(text.split())
    return "".join(
        character
        if character.isprintable() and ord(character) in _known()
        else character.encode("unicode_escape").decode("ascii")
        for character in line
    )


def shorten(text: str, most: int) -> str:
    """Cut the middle out of `text` so that `most` characters remain, the ellipsis among them."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 3
    return text[: most - 1 - tail] + "…" + (text[-tail:] if tail else "")


def names(labels: Sequence[str], most: int = 28) -> list[str]:
    """Return class names to draw, each at most `most` characters or little more, no two of them alike."""
    shown = [shorten(plain(label), most) for label in labels]
    return [
        f"{text} ({number})" if shown.count(text) > 1 else text for number, text in enumerate(shown, start=1)
    ]


def last_part(path: str) -> str:
    """Return what follows the last separator, so that no figure tells where a machine keeps its files."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def decimal(value: float) -> str:
    """Return a loss in four digits or so: `0.987`, `1.2e+06`."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    return f"{value:.3f}" if value == 0 or 0.001 <= abs(value) < 1000 else f"{value:.2g}"


def percent(value: float) -> str:
    """Return a fraction as percent with one decimal."""
    return f"{value:.1%}" if math.isfinite(value) else decimal(value)


def images(count: int) -> str:
    """Return a number of images in words: `1 image`, `3,589 images`."""
    return f"{count:,} image" if count == 1 else f"{count:,} images"


def brief(count: int) -> str:
    """Return a count in at most five characters, so that it fits a narrow bar: `987`, `12.3k`, `4M`."""
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}" if count < 999.5 * size else f"{count // size}{letter}"
    return str(count)
