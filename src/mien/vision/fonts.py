"""Find fonts for text in pictures, and transliterate letters that no font has.

The font of Pillow has the letters of English only. Other text uses a font of the operating system or of
Matplotlib that has all letters, if there is one.
"""

import functools
import importlib.util
import os
import platform
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from PIL import ImageFont, features

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

#: Font files of operating systems and Matplotlib, in the order in which they are tried.
_NAMES = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "segoeui.ttf", "arial.ttf"),
    *("Arial Unicode.ttf", "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "wqy-zenhei.ttc", "msyh.ttc"),
    *("msgothic.ttc", "malgun.ttf", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc"),
)
#: Transliterations of letters that Unicode does not decompose into a plain letter and a mark.
_TRANSLITERATIONS = {
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
    "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i", "–": "-", "—": "-",
}  # fmt: skip
#: Font size in pixels for the comparison of glyphs, and a character that no font has.
_SIZE, _NONE = 24, "\U0010ffff"


def font(text: str, points: int) -> Font:
    """Return the font for a text: that of Pillow if it has all letters, else the first one that has.

    Args:
        text: A text from `drawable`.
        points: Size in pixels, at least 1.
    """
    return _font(_covering(text) or 0, points)


def is_default(text: str) -> bool:
    """Return whether the font of Pillow has all letters of a text."""
    return not _covering(text)


@functools.lru_cache(4096)
def drawable(text: str) -> str:
    """Return a text on one line with letters that one font has.

    A letter without a glyph is transliterated, such as ü to u and ß to ss. A letter without a transliteration
    becomes its code point, such as `U+6012`; `names` avoids this for classes.
    """
    return _transliterate(text)[0]


def names(classes: Sequence[str]) -> dict[str, str]:
    """Return a different text for each class that pictures can show.

    The text is that of `drawable`, or `class 3` with the number from 1 if a letter has no transliteration or
    another class has the same text.

    Args:
        classes: Names of all classes, in the order of the model.
    """
    return dict(_names(tuple(classes)))


@functools.lru_cache(64)
def _names(classes: tuple[str, ...]) -> dict[str, str]:
    found = {name: _transliterate(name) for name in classes}
    texts = [text for text, _ in found.values()]
    shown = {
        name: f"class {number}" if coded or (text != name and texts.count(text) > 1) else text
        for number, (name, (text, coded)) in enumerate(found.items(), start=1)
    }
    if len(set(shown.values())) == len(shown):
        return shown
    return {name: f"class {number}" for number, name in enumerate(found, start=1)}


def _transliterate(text: str) -> tuple[str, bool]:
    """Return `drawable` of a text, and whether it contains code points."""
    line = unicodedata.normalize("NFC", " ".join(text.split()))
    if _covering(line) is not None:
        return line, False
    tries = []
    for number in range(1 + len(_files())):
        parts = [each if _has(number, each) else _letters(number, each) for each in line]
        coded = sum(part is None for part in parts)
        changed = sum(part != each for part, each in zip(parts, line, strict=True))
        written = "".join(
            f"U+{ord(each):04X}" if part is None else part for part, each in zip(parts, line, strict=True)
        )
        tries.append((coded, changed, number, written))
    coded, _, _, written = min(tries)
    return written, coded > 0


def _letters(number: int, character: str) -> str | None:
    """Return the transliteration of a character, or None if a font lacks a letter of it."""
    parts = _TRANSLITERATIONS.get(character) or "".join(
        each for each in unicodedata.normalize("NFKD", character) if not unicodedata.combining(each)
    )
    if not parts and unicodedata.combining(character):
        return ""
    return parts if parts and all(_has(number, each) for each in parts) else None


@functools.lru_cache(4096)
def _covering(text: str) -> int | None:
    """Return the number of the first font that has all letters of a text; 0 is the font of Pillow."""
    if all(_has(0, each) for each in text):
        return 0
    return next(
        (number for number in range(1, 1 + len(_files())) if all(_has(number, each) for each in text)), None
    )


@functools.lru_cache(4096)
def _has(number: int, character: str) -> bool:
    """Return whether a font can draw a character."""
    if character == " ":
        return True
    if not character.isprintable() or (_needs_shaping(character) and not features.check("raqm")):
        return False
    return _picture(number, character) != _picture(number, _NONE)


def _needs_shaping(character: str) -> bool:
    """Return whether a character needs Raqm: from right to left, or a combining mark."""
    from_right = unicodedata.bidirectional(character) in ("R", "AL")
    return from_right or unicodedata.category(character) in ("Mn", "Mc", "Me")


def _picture(number: int, character: str) -> tuple[tuple[int, int], bytes]:
    mask = _font(number, _SIZE).getmask(character)
    return mask.size, bytes(mask)


@functools.lru_cache(256)
def _font(number: int, points: int) -> Font:
    if number == 0:
        return ImageFont.load_default(points)
    return ImageFont.truetype(_files()[number - 1], points)


@functools.cache
def _files() -> tuple[str, ...]:
    """Return the font files of this machine that Pillow can read, in the order of `_NAMES`."""
    found: dict[str, str] = {}
    for folder in _folders():
        for place, _, files in os.walk(folder):
            for name in sorted(set(files) & set(_NAMES)):
                found.setdefault(name, os.path.join(place, name))  # noqa: PTH118
    return tuple(found[name] for name in _NAMES if name in found and _is_readable(found[name]))


def _is_readable(file: str) -> bool:
    try:
        ImageFont.truetype(file, _SIZE)
    except OSError:
        return False
    return True


def _folders() -> list[Path]:
    """Return the font folders of Matplotlib, if it is installed, and of the operating system."""
    folders = []
    # Without an import of Matplotlib, which takes a second.
    spec = importlib.util.find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf")
    system, home = platform.uname().system, Path(os.path.expanduser("~"))  # noqa: PTH111 raises nothing
    if system == "Windows":
        local = os.environ.get("LOCALAPPDATA")
        windows = os.environ.get("WINDIR")
        folders += [Path(windows) / "Fonts"] if windows else []
        folders += [Path(local) / "Microsoft" / "Windows" / "Fonts"] if local else []
    elif system == "Darwin":
        folders += [home / "Library" / "Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    else:
        own = os.environ.get("XDG_DATA_HOME") or str(home / ".local" / "share")
        shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        folders += [Path(each) / "fonts" for each in (own, *shared.split(":")) if each]
    return folders
