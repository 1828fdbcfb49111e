"""Faces drawn onto images."""

import numpy as np
import pytest

from mien import annotate, emotions
from mien.faces import Box, Face


def luminance(colour: tuple[int, int, int]) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = np.array(colour) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_white_letters_can_be_read_on_every_emotions_colour() -> None:
    assert set(annotate.COLOURS) == set(emotions.EMOTIONS)
    for colour in [*annotate.COLOURS.values(), annotate.mark(Box(0, 0, 1, 1), "own class", 1.0).colour]:
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5


@pytest.mark.parametrize("ground", [0, 90, 255])
@pytest.mark.parametrize("size", [(1, 1), (5, 400), (400, 5), (48, 48), (480, 640), (1500, 2000)])
def test_a_face_shows_on_any_ground_and_size_and_the_original_stays(
    ground: int, size: tuple[int, int]
) -> None:
    image = np.full((*size, 3), ground, np.uint8)
    before = image.copy()
    height, width = size
    face = Face(
        Box(width // 3, height // 3, max(1, width // 3), max(1, height // 3)), 0.9, {"happy": 0.9, "sad": 0.1}
    )
    drawn = annotate.draw(image, [face])
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    assert (drawn != image).any()
    # Dark and light stand side by side whatever the ground is.
    if min(size) >= 48:
        assert drawn.min(axis=2).min() < 90
        assert drawn.max(axis=2).max() > 200


def test_what_lies_far_from_faces_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (300, 400, 3)).astype(np.uint8)
    drawn = annotate.draw(image, [Face(Box(100, 100, 80, 80), 0.9, {"sad": 1.0})])
    np.testing.assert_array_equal(drawn[200:], image[200:])
    np.testing.assert_array_equal(drawn[110:170, 110:170], image[110:170, 110:170])
    assert (drawn[70:100, 100:180] != image[70:100, 100:180]).any(), "the words stand above the box"


def test_words_find_room_below_or_inside() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    below = annotate.draw(image, [Face(Box(50, 0, 100, 100), None, {"fear": 1.0})])
    assert below[101:130].any()
    inside = annotate.draw(image, [Face(Box(0, 0, 300, 300), None, {"fear": 1.0})])
    assert inside[5:30, 5:60].any()


def test_grey_becomes_colour_and_marks_say_what_they_are_told() -> None:
    grey = np.full((100, 100), 128, np.uint8)
    assert annotate.draw(grey, []).shape == (100, 100, 3)
    made = annotate.mark(Box(1, 2, 3, 4), "happy", 0.934, before="2: ")
    assert made.text == "2: happy 93%"
    assert annotate.draw(grey, [made]).shape == (100, 100, 3)
