"""Texts in pictures: every letter is drawn, or transliterated; none becomes an empty box."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from mien.evaluation import explanation as explain
from mien.types import Box, Face
from mien.vision import annotation, fonts

OWN = ("Wütend", "grün", "ярость", "怒り")
_CACHED = (fonts.drawable, fonts._names, fonts._covering, fonts._has, fonts._font, annotation._measure)


def clear() -> None:
    for each in _CACHED:
        each.cache_clear()


@pytest.fixture
def pillow_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without fonts, where only Pillow's own is left."""
    clear()
    monkeypatch.setattr(fonts, "_files", lambda: ())
    yield
    clear()


@pytest.fixture
def dejavu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with DejaVu Sans, which matplotlib brings."""
    matplotlib = pytest.importorskip("matplotlib")
    file = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    clear()
    monkeypatch.setattr(fonts, "_files", lambda: (file,))
    yield
    clear()


def has_box(text: str) -> bool:
    """Whether a letter of a text looks as a character does that no font has."""
    font = fonts.font(text, 20)
    box = font.getmask("\U0010ffff")
    return any(
        (font.getmask(each).size, bytes(font.getmask(each))) == (box.size, bytes(box))
        for each in text
        if each != " "
    )


def test_english_is_drawn_in_pillows_font_on_every_machine() -> None:
    text = "12: surprise? 93% (the answer is happy), class/3 …"
    assert fonts.drawable(text) == text
    assert fonts.is_default(text)
    assert fonts.font(text, 20).getmask(text).size == ImageFont.load_default(20).getmask(text).size
    assert not has_box(text)


@pytest.mark.usefixtures("pillow_alone")
@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Wütend", "Wutend"),
        ("Wu\u0308tend", "Wutend"),
        ("Spaß", "Spass"),
        ("Żółć, ærlig", "Zolc, aerlig"),
        ("a\nb", "a b"),
        ("怒", "U+6012"),
        ("a\x1b", "aU+001B"),
    ],
)
def test_letters_without_a_glyph_are_transliterated(text: str, written: str) -> None:
    assert fonts.drawable(text) == written
    assert fonts.drawable(written) == written
    assert not has_box(written)


@given(st.text(max_size=20))
def test_any_text_can_be_drawn(text: str) -> None:
    written = fonts.drawable(text)
    assert written.isprintable()
    assert not has_box(written)
    assert fonts.drawable(written) == written


@pytest.mark.usefixtures("pillow_alone")
def test_no_two_classes_are_written_alike() -> None:
    assert list(fonts.names(OWN).values()) == ["Wutend", "grun", "class 3", "class 4"]
    assert fonts.names(("Wutend", "Wütend")) == {"Wutend": "Wutend", "Wütend": "class 2"}
    assert fonts.names(("class 2", "怒")) == {"class 2": "class 1", "怒": "class 2"}


@pytest.mark.usefixtures("dejavu")
def test_diacritics_greek_and_cyrillic_are_drawn_where_a_font_has_them() -> None:
    texts = ("Wütend", "Żółć", "ярость", "θυμός", "Ångström – 9 %")
    for text in texts:
        assert fonts.drawable(text) == text
        assert not fonts.is_default(text)
        assert not has_box(text)
    assert fonts.drawable("Wu\u0308tend") == "Wütend"
    assert fonts.names(OWN) == {**{name: name for name in OWN[:3]}, "怒り": "class 4"}


@pytest.mark.parametrize("machine", ["pillow_alone", "dejavu"])
def test_a_marked_picture_names_own_classes_without_boxes(
    machine: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(machine)
    picture = np.full((300, 400, 3), 128, np.uint8)
    shown = fonts.names(OWN)
    for name in OWN:
        scores = {each: 0.7 if each == name else 0.1 for each in OWN}
        made = annotation.mark(Box(100, 100, 90, 90), name, 0.7, before="1: ", classes=OWN)
        assert made.text == f"1: {shown[name]} 70%"
        assert not any(has_box(text) for text in (made.text, *made.shorter))
        face = Face(Box(100, 100, 90, 90), 0.9, scores, ())
        np.testing.assert_array_equal(annotation.draw(picture, [face]), annotation.draw(picture, [made]))
    # A text that a caller makes is drawn without boxes as well.
    one, other = (annotation.Mark(Box(100, 100, 90, 90), text, (0, 0, 0)) for text in ("怒", "U+6012"))
    np.testing.assert_array_equal(annotation.draw(picture, [one]), annotation.draw(picture, [other]))


@pytest.mark.usefixtures("pillow_alone")
def test_a_sheet_writes_own_classes_without_boxes() -> None:
    face, grid = np.zeros((48, 48, 1), np.uint8), np.zeros((48, 48), np.float32)

    def sheet(names: tuple[str, ...]) -> Image.Image:
        scores = dict(zip(names, (0.5, 0.2, 0.2, 0.1), strict=True))
        return explain.sheet(face, explain.Explanation(names[3], scores, grid, "cam", "labels"))

    plain = ("Wutend", "grun", "class 3", "class 4")
    np.testing.assert_array_equal(np.asarray(sheet(OWN)), np.asarray(sheet(plain)))


def test_fonts_of_the_machine_are_readable_files_and_matplotlib_is_not_imported() -> None:
    code = "import sys; from mien.vision import fonts; fonts._files(); print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    for file in fonts._files():
        assert ImageFont.truetype(file, 12).getbbox("A")[2] > 0
