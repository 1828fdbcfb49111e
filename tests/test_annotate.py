"""Faces drawn onto images."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.labels import EMOTIONS
from mien.types import Box, Face, Flag
from mien.vision import annotation
from mien.vision.annotation import Label, Mark


def luminance(colour: tuple[int, int, int]) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = np.array(colour) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_white_letters_can_be_read_on_every_emotions_colour() -> None:
    assert set(annotation.COLOURS) == set(EMOTIONS)
    for colour in [*annotation.COLOURS.values(), annotation.mark(Box(0, 0, 1, 1), "own class", 1.0).colour]:
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
    drawn = annotation.draw(image, [face])
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
    drawn = annotation.draw(image, [Face(Box(100, 100, 80, 80), 0.9, {"sad": 1.0})])
    np.testing.assert_array_equal(drawn[200:], image[200:])
    np.testing.assert_array_equal(drawn[110:170, 110:170], image[110:170, 110:170])
    assert (drawn[70:100, 100:180] != image[70:100, 100:180]).any(), "the words stand above the box"


def test_words_find_room_below_or_inside() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    below = annotation.draw(image, [Face(Box(50, 0, 100, 100), None, {"fear": 1.0})])
    assert below[101:130].any()
    inside = annotation.draw(image, [Face(Box(0, 0, 300, 300), None, {"fear": 1.0})])
    assert inside[5:30, 5:60].any()


def test_grey_becomes_colour_and_marks_say_what_they_are_told() -> None:
    grey = np.full((100, 100), 128, np.uint8)
    assert annotation.draw(grey, []).shape == (100, 100, 3)
    made = annotation.mark(Box(1, 2, 3, 4), "happy", 0.934, before="2: ")
    assert made.text == "2: happy 93%"
    assert annotation.draw(grey, [made]).shape == (100, 100, 3)


# Where labels are


def shown(box: Box, emotion: str = "surprise", flags: tuple[Flag, ...] = ()) -> Face:
    rest = 0.13 / (len(EMOTIONS) - 1)
    return Face(box, 0.9, dict.fromkeys(EMOTIONS, rest) | {emotion: 0.87}, flags)


def covered(one: Box, other: Box) -> int:
    """Pixels that two rectangles share."""
    wide = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    high = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    return max(0, wide) * max(0, high)


def marks(boxes: Sequence[Box]) -> list[Mark]:
    return [
        annotation.mark(box, "surprise", 0.87, before=f"{number}: ")
        for number, box in enumerate(boxes, start=1)
    ]


def check(labels: Sequence[Label], boxes: Sequence[Box], size: tuple[int, int]) -> None:
    """No label covers another or a face, all are inside the image, and each begins with its number."""
    for one, other in itertools.combinations(labels, 2):
        assert not covered(one.box, other.box), (one, other)
    for number, label in enumerate(labels, start=1):
        assert not any(covered(label.box, box) for box in boxes), label
        assert label.box.left >= 0
        assert label.box.top >= 0
        assert label.box.left + label.box.width <= size[0]
        assert label.box.top + label.box.height <= size[1]
        assert label.text.split(":")[0].rstrip("?") == str(number)


SCENES = {
    "one": ((640, 480), [Box(200, 150, 90, 120)]),
    "five side by side": ((640, 360), [Box(60 + 101 * n, 120, 100, 120) for n in range(5)]),
    "five narrow ones": ((640, 360), [Box(60 + 41 * n, 120, 40, 50) for n in range(5)]),
    "five at the upper edge": ((640, 360), [Box(60 + 80 * n, 0, 80, 100) for n in range(5)]),
    "five in two sizes": ((640, 360), [Box(60 + 70 * n, 120 - 20 * (n % 2), 70, 90) for n in range(5)]),
    "corners": (
        (640, 480),
        [Box(0, 0, 120, 150), Box(520, 0, 120, 150), Box(0, 330, 120, 150), Box(520, 330, 120, 150)],
    ),
    "overlapping": ((640, 480), [Box(200, 150, 150, 180), Box(280, 180, 150, 180), Box(240, 240, 120, 150)]),
    "a class": ((1200, 800), [Box(30 + 110 * n, 60 + 140 * m, 60, 75) for m in range(5) for n in range(10)]),
    "4,000 pixels": ((4000, 3000), [Box(300, 400, 40, 50), Box(345, 400, 40, 50), Box(1000, 900, 600, 750)]),
}


@pytest.mark.parametrize("scene", SCENES)
def test_labels_cover_neither_faces_nor_each_other_where_there_is_room(scene: str) -> None:
    size, boxes = SCENES[scene]
    for order in (boxes, boxes[::-1]):
        check(annotation.layout(marks(order), size), order, size)


@pytest.mark.parametrize("scene", SCENES)
def test_nothing_is_drawn_into_faces_but_their_frames(scene: str) -> None:
    (width, height), boxes = SCENES[scene]
    if scene == "overlapping":
        return
    image = np.full((height, width, 3), 120, np.uint8)
    drawn = annotation.draw(image, [shown(box) for box in boxes])
    for box in boxes:
        edge = max(4, round((width * height) ** 0.5 / 300) + 3)
        inner = drawn[
            box.top + edge : box.top + box.height - edge, box.left + edge : box.left + box.width - edge
        ]
        assert (inner == 120).all()


def test_side_by_side_every_label_names_its_emotion() -> None:
    for scene in ("five side by side", "five narrow ones"):
        size, boxes = SCENES[scene]
        labels = annotation.layout(marks(boxes), size)
        assert all("surprise" in label.text for label in labels), labels
        for label, box in zip(labels, boxes, strict=True):
            # It touches its face, or a line joins the two.
            touching = Box(box.left - 1, box.top - 1, box.width + 2, box.height + 2)
            assert covered(label.box, touching) or label.line is not None
            if label.line is not None:
                x, top, bottom = label.line
                assert box.left <= x < box.left + box.width
                assert label.box.left <= x < label.box.left + label.box.width
                assert {top, bottom} & {box.top, box.top + box.height}
                assert {top, bottom} & {label.box.top, label.box.top + label.box.height}


@pytest.mark.parametrize("size", [(480, 480), (48, 48), (4000, 4000), (30, 400)])
def test_a_face_as_big_as_the_picture_has_its_label_inside(size: tuple[int, int]) -> None:
    box = Box(0, 0, *size)
    (label,) = annotation.layout(marks([box]), size)
    assert covered(label.box, box) == label.box.area
    assert label.text.startswith("1")
    if min(size) > 100:
        assert label.text == "1: surprise 87%"
        # At an edge, where there is no eye or mouth.
        assert label.box.top + label.box.height <= size[1] / 8 or label.box.top >= size[1] * 7 / 8


def test_letters_grow_with_the_picture_and_the_face() -> None:
    def points(width: int, face: int) -> int:
        size = width, width * 3 // 4
        (label,) = annotation.layout(marks([Box(width // 3, width // 3, face, face)]), size)
        return label.points

    # However small the face is: 14 pixels on a picture shown 1,300 pixels wide, never below 12.
    assert points(640, 40) >= 12
    assert points(4000, 40) >= 44
    assert points(4000, 40) < points(4000, 600)
    assert points(640, 40) < points(640, 200)


def test_without_room_labels_are_shortened_but_keep_the_number() -> None:
    size = 300, 160
    boxes = [Box(20 + 25 * n, 20 + 60 * m, 25, 58) for m in range(2) for n in range(10)]
    labels = annotation.layout(marks(boxes), size)
    assert {len(label.text) for label in labels} != {len("1: surprise 87%")}
    assert [label.text.split(":")[0] for label in labels] == [str(n) for n in range(1, 21)]
    for one, other in itertools.combinations(labels, 2):
        assert not covered(one.box, other.box)


def test_faces_are_numbered_from_1_in_the_order_given(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Mark] = []
    layout = annotation.layout

    def spy(given: Sequence[Mark], size: tuple[int, int], **options: annotation.Places | None) -> list[Label]:
        told.extend(given)
        return layout(given, size, **options)

    monkeypatch.setattr(annotation, "layout", spy)
    faces = [shown(Box(300, 100, 90, 90)), shown(Box(20, 100, 80, 80), "fear", ("uncertain", "small"))]
    annotation.draw(np.zeros((300, 500, 3), np.uint8), faces)
    assert [each.text for each in told] == ["1: surprise 87%", "2: fear? 87%"]


# Uncertain answers


def frame_of(flags: tuple[Flag, ...], ground: int, side: int) -> NDArray[np.bool_]:
    """Which pixels of the left, right and lower edge of a face's box are drawn on."""
    image = np.full((400, 400, 3), ground, np.uint8)
    drawn = annotation.draw(image, [shown(Box(100, 100, side, side), "sad", flags)])
    changed = (drawn != image).any(axis=-1)
    last = 100 + side - 1
    return np.array(
        [changed[100 : last + 1, 100], changed[100 : last + 1, last], changed[last, 100 : last + 1]]
    )


@pytest.mark.parametrize("ground", [0, 128, 255])
@pytest.mark.parametrize("side", [40, 90, 200])
def test_the_frame_is_dashed_for_uncertain_answers_only(ground: int, side: int) -> None:
    for flags in ((), ("small", "blurred", "cut")):
        # The white edge of a solid frame is not seen on white; the coloured line beside it is.
        assert ground == 255 or frame_of(flags, ground, side).all()
    for edge in frame_of(("uncertain",), ground, side):
        gaps = int((np.diff(edge.astype(int)) == -1).sum())
        assert gaps >= 2, "a line with gaps"
        assert edge[0], "corners are drawn"
        assert edge[-1], "corners are drawn"
        assert 0.4 < edge.mean() < 0.8


def test_an_uncertain_answer_is_pale_and_has_a_question_mark() -> None:
    sure = annotation.mark(Box(50, 100, 90, 90), "sad", 0.87, before="3: ")
    doubted = annotation.mark(Box(50, 100, 90, 90), "sad", 0.31, before="3: ", uncertain=True)
    assert (sure.text, doubted.text) == ("3: sad 87%", "3: sad? 31%")
    assert all("?" in text for text in doubted.shorter)
    assert not any("?" in text for text in sure.shorter)
    image = np.full((300, 300, 3), 60, np.uint8)
    grounds = []
    for each in (sure, doubted):
        (label,) = annotation.layout([each], (300, 300))
        grounds.append(annotation.draw(image, [each])[label.box.top + 1, label.box.left + 1])
    assert luminance(tuple(grounds[1])) > 3 * luminance(tuple(grounds[0]))


def test_black_letters_can_be_read_on_every_pale_colour() -> None:
    for colour in (*annotation.COLOURS.values(), annotation.mark(Box(0, 0, 1, 1), "own class", 1.0).colour):
        light, dark = luminance(annotation._pale(colour)), luminance(annotation._BLACK)
        assert (light + 0.05) / (dark + 0.05) >= 7


# Films


def test_labels_of_a_film_stay_where_they_are_though_boxes_tremble() -> None:
    def course(places: annotation.Places | None) -> list[list[tuple[bool, str]]]:
        random = np.random.default_rng(0)
        seen = []
        for _ in range(40):
            boxes = [
                Box(40 + 62 * n + int(random.integers(-2, 3)), 120 + int(random.integers(-2, 3)), 60, 75)
                for n in range(5)
            ]
            labels = annotation.layout(marks(boxes), (640, 360), places=places)
            check(labels, boxes, (640, 360))
            seen.append(
                [(label.box.top < box.top, label.text) for label, box in zip(labels, boxes, strict=True)]
            )
        return seen

    assert len({tuple(each) for each in course(annotation.Places())}) == 1
    assert len({tuple(each) for each in course(None)}) > 1, "without a memory they jump"


def test_a_label_that_cannot_stay_finds_another_place() -> None:
    places = annotation.Places()
    size = 640, 360
    (first,) = annotation.layout(marks([Box(200, 150, 90, 120)]), size, places=places)
    assert first.box.top + first.box.height <= 150
    # The face is at the upper edge now.
    (second,) = annotation.layout(marks([Box(205, 0, 90, 120)]), size, places=places)
    check([second], [Box(205, 0, 90, 120)], size)
    # Somebody else came to where the label was.
    boxes = [Box(200, 150, 90, 120), Box(200, 10, 90, 138)]
    check(annotation.layout(marks(boxes), size, places=places), boxes, size)


def test_a_shortened_label_is_written_in_full_again_once_there_is_room() -> None:
    places, size = annotation.Places(), (300, 160)
    boxes = [Box(20 + 25 * n, 20 + 60 * m, 25, 58) for m in range(2) for n in range(10)]
    crowded = annotation.layout(marks(boxes), size, places=places)
    short = next(place for place, label in enumerate(crowded) if "87%" not in label.text)
    alone = marks(boxes)[short]
    texts = [annotation.layout([alone], size, places=places)[0].text for _ in range(40)]
    assert texts[-1] == alone.text
    assert len(set(itertools.pairwise(texts))) <= 3, "it changes once"
