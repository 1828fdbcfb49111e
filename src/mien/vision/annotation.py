"""Draw faces on an image: box, number, emotion and confidence, readable on any background.

Labels cover neither faces nor each other if the image has room.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mien.types import Box, Face
from mien.vision import fonts
from mien.vision.tracking import Tracked

#: Dark enough for white letters (contrast at least 4.5), and distinct for most kinds of colour vision.
COLOURS = {
    "angry": (176, 32, 32),
    "disgust": (84, 98, 20),
    "fear": (98, 52, 150),
    "happy": (152, 82, 0),
    "sad": (28, 84, 168),
    "surprise": (168, 30, 110),
    "neutral": (82, 82, 82),
}
_OTHER = (0, 104, 110)
_WHITE, _BLACK = (255, 255, 255), (16, 16, 16)

Colour = tuple[int, int, int]
#: left, top, right, bottom; right and bottom are the first pixels outside.
_Rect = tuple[int, int, int, int]

#: Share of white in the pale colour of an uncertain prediction.
_PALE = 0.72
#: Font sizes: the smallest in pixels; the smallest and largest as shares of the longer side of the image; and
#: the width of a face divided by its font size. A photo of 4,000 pixels, shown 1,300 pixels wide, has a font
#: of at least 14 pixels.
_SMALLEST, _SHARE_LEAST, _SHARE_MOST, _PER_FACE = 12, 1 / 90, 1 / 36, 6.5
#: Number of rows above and below a face for labels that are connected by a line.
_ROWS = 5
#: Maximum height of a label inside its own face, as a share of the face. Otherwise only the number is drawn.
_SMALL_INSIDE = 1 / 8


@dataclass(frozen=True)
class Mark:
    """The box and label of one face.

    Args:
        box: Position of the face.
        text: Text of the label.
        colour: Colour of the box and of the background of the label, RGB 0..255.
        uncertain: Whether the box is dashed, and box and label are pale.
        shorter: Shorter texts, the longest first, if there is no room for `text`.
        key: Identifies a person from frame to frame, for `Places`; empty if unknown.
    """

    box: Box
    text: str
    colour: Colour
    uncertain: bool = False
    shorter: tuple[str, ...] = ()
    key: str = ""


@dataclass(frozen=True)
class Label:
    """Position of the label of a mark.

    Args:
        text: Text of the mark, or a shorter one.
        points: Font size in pixels.
        box: Rectangle of the label, inside the image.
        line: Vertical line `(x, top, bottom)` between the label and its face; None if the label touches it.
    """

    text: str
    points: int
    box: Box
    line: tuple[int, int, int] | None = None


def mark(
    box: Box,
    emotion: str,
    confidence: float,
    *,
    before: str = "",
    uncertain: bool = False,
    classes: Sequence[str] = (),
) -> Mark:
    """Return the mark of a prediction: `happy 93%` in the colour of the emotion, `fear? 31%` if uncertain.

    Args:
        box: Position of the face.
        emotion: Any class; classes other than the seven emotions share one colour.
        confidence: Probability in [0, 1].
        before: Prefix of the text, such as the number of a person: `2: `. It is the key of the mark too.
        uncertain: Whether the prediction is uncertain.
        classes: All classes in the order of the model. If no font has the letters of `emotion`, the text is a
            transliteration that differs from those of the other classes, or `class 3`.
    """
    doubt = "?" if uncertain else ""
    word = fonts.names(classes)[emotion] if emotion in classes else fonts.drawable(emotion)
    named = f"{before}{word}{doubt}"
    shorter = [named]
    if len(word) > 5 and not (word != emotion and word.startswith("class ")):
        shorter.append(f"{before}{word[:4]}.{doubt}")
    number = before.rstrip(": ")
    if number:
        shorter.append(f"{number}{doubt}")
    colour = COLOURS.get(emotion, _OTHER)
    return Mark(box, f"{named} {confidence:.0%}", colour, uncertain, tuple(shorter), before)


def draw(
    image: NDArray[np.uint8], marks: Sequence[Mark | Face | Tracked], *, places: "Places | None" = None
) -> NDArray[np.uint8]:
    """Return a copy of an image with marks.

    Lines and letters grow with the image and the faces. `layout` places the labels.

    Args:
        image: `(h, w)` grey or `(h, w, 3)` RGB, 0..255.
        marks: Marks or faces to draw. A face gets its number (from 1 in the given order), emotion and
            confidence, and is uncertain if it has the flag `uncertain`. A tracked face gets its track number
            and smoothed emotion. If boxes overlap, the first is on top.
        places: Places of the labels in earlier frames of a video; pass the same object for each frame.

    Returns:
        `(h, w, 3)` RGB, 0..255.
    """
    canvas = Image.fromarray(image).convert("RGB")
    pen = ImageDraw.Draw(canvas)
    drawn = [_mark_of(each, number) for number, each in enumerate(marks, start=1)]
    for each in reversed(drawn):
        _frame(pen, each, _thickness(each.box, canvas.size))
    labels = layout(drawn, canvas.size, places=places)
    for each, label in zip(drawn, labels, strict=True):
        if label.line is not None:
            _join(pen, each, label.line, _thickness(each.box, canvas.size))
    for each, label in zip(drawn, labels, strict=True):
        _write(pen, each, label)
    return np.asarray(canvas)


def _mark_of(item: Mark | Face | Tracked, number: int) -> Mark:
    if isinstance(item, Mark):
        return item
    if isinstance(item, Tracked):
        box, scores, number, uncertain = item.face.box, item.smoothed, item.track, item.uncertain
    else:
        box, scores, uncertain = item.box, item.scores, "uncertain" in item.flags
    return mark(
        box, item.emotion, item.confidence, before=f"{number}: ", uncertain=uncertain, classes=tuple(scores)
    )


def layout(marks: Sequence[Mark], size: tuple[int, int], *, places: "Places | None" = None) -> list[Label]:
    """Return the place of the label of each mark.

    Marks are placed from left to right. The candidates are, in this order: above, below, right and left of
    the face; with a smaller font; with a shorter text; in rows further out; inside the face at its edge. The
    first candidate that covers neither a face nor another label wins, else the one that covers least, where
    another label counts most.

    Args:
        marks: The marks.
        size: Width and height of the image in pixels.
        places: Places of the labels in earlier frames; a label stays in its place if that is free.

    Returns:
        One label for each mark, in the given order.
    """
    ground = _Ground(size, [_rect(each.box) for each in marks])
    order = sorted(range(len(marks)), key=lambda place: (marks[place].box.left, place))
    placed: dict[int, Label] = {}
    for place in order:
        label = places.again(ground, place, marks[place]) if places is not None else None
        if label is None:
            label = _place(ground, place, marks[place])
        ground.take(label)
        placed[place] = label
    if places is not None:
        places.keep(marks, placed)
    return [placed[place] for place in range(len(marks))]


@dataclass(frozen=True)
class _Spot:
    """A candidate for the place of a label."""

    rect: _Rect
    line: tuple[int, int, int] | None = None


class _Ground:
    """The parts of an image that faces and labels cover."""

    def __init__(self, size: tuple[int, int], faces: Sequence[_Rect]) -> None:
        self.width, self.height = size
        self.faces = np.array(faces, np.int64).reshape(-1, 4)
        self.labels: list[_Rect] = []

    def take(self, label: Label) -> None:
        self.labels.append(_rect(label.box))
        if label.line is not None:
            x, top, bottom = label.line
            self.labels.append((x, top, x + 1, bottom))

    def first(self, spots: Sequence[_Spot], *, within: int | None = None) -> _Spot | None:
        """Return the first spot inside the image that covers nothing except the face `within`."""
        inside = [each for each in spots if self._inside(each.rect)]
        if not inside:
            return None
        faces = self.faces if within is None else np.delete(self.faces, within, axis=0)
        covered = self._covered(inside, faces) + self._covered(inside, self._taken())
        for each, area in zip(inside, covered, strict=True):
            if area == 0:
                return each
        return None

    def least(self, spots: Sequence[_Spot], own: int) -> _Spot:
        """Return the spot that covers least: labels count most, then other faces, then the own face."""
        others = np.delete(self.faces, own, axis=0)
        cost = (
            100 * self._covered(spots, self._taken())
            + 10 * self._covered(spots, others)
            + self._covered(spots, self.faces[own : own + 1])
        )
        return spots[int(cost.argmin())]

    def _taken(self) -> NDArray[np.int64]:
        return np.array(self.labels, np.int64).reshape(-1, 4)

    @staticmethod
    def covers(one: _Rect, other: _Rect) -> bool:
        """Return whether two rectangles have a common pixel."""
        return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]

    def _inside(self, rect: _Rect) -> bool:
        return rect[0] >= 0 and rect[1] >= 0 and rect[2] <= self.width and rect[3] <= self.height

    @staticmethod
    def _covered(spots: Sequence[_Spot], taken: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of pixels of the rectangles `(n, 4)` that each spot and its line cover."""
        rects = np.array([each.rect for each in spots], np.int64)
        lines = np.array(
            [(0, 0, 0, 0) if each.line is None else _along(each.line) for each in spots], np.int64
        )
        area = np.zeros(len(spots), np.int64)
        for parts in (rects, lines):
            low = np.maximum(parts[:, np.newaxis, :2], taken[np.newaxis, :, :2])
            high = np.minimum(parts[:, np.newaxis, 2:], taken[np.newaxis, :, 2:])
            area += np.prod(np.maximum(0, high - low), axis=2).sum(axis=1)
        return area


@dataclass(frozen=True)
class _Kept:
    """A label of an earlier frame: below or inside its face, or with a line to it."""

    #: Of the face, when the place was chosen.
    box: Box
    #: Index of the text, from 0 for the longest.
    level: int
    points: int
    #: Pixels right, between the centres, and down, between the upper edges; if `below`, from the lower edge.
    middle: tuple[int, int]
    below: bool
    line: bool
    inside: bool
    #: Number of frames since the place was chosen.
    age: int = 0


class Places:
    """Keeps labels of a video in place, although the boxes of faces jitter from frame to frame.

    A label stays if its place is free within a few pixels, and the face neither moved by half of its width
    nor changed its size by a quarter. After 25 frames a shortened label can become longer again.
    """

    _TRIES = 25

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._used: dict[str, _Kept] = {}

    def again(self, ground: _Ground, place: int, each: Mark) -> Label | None:
        """Return the label in its earlier place, or None if it has none or cannot stay."""
        kept = self._kept.get(each.key)
        texts = (each.text, *each.shorter)
        if kept is None or not each.key or kept.level >= len(texts) or self._over(kept, each.box):
            return None
        text, own = texts[kept.level], _rect(each.box)
        wide, high = _measure(text, kept.points)
        x = (own[0] + own[2]) // 2 + kept.middle[0] - wide // 2
        y = own[3 if kept.below else 1] + kept.middle[1]
        spots = []
        for down in (0, 1, 2, 3, 4, 5, 6):
            for right in (0, -1, 1, -2, 2, -3, 3, -4, 4, -6, 6, -8, 8):
                left, top = x + right, y + (down if kept.below else -down)
                rect = (left, top, left + wide, top + high)
                spots.append(_Spot(rect, _line(rect, own) if kept.line else None))
        found = ground.first(spots, within=place if kept.inside else None)
        if found is None:
            return None
        self._used[each.key] = kept
        return _label(text, kept.points, found)

    def keep(self, marks: Sequence[Mark], labels: Mapping[int, Label]) -> None:
        """Remember the places of the labels of a frame."""
        kept: dict[str, _Kept] = {}
        for place, label in labels.items():
            each = marks[place]
            if each.key in self._used:
                # The chosen place counts, not the one that a moving neighbour forced.
                before = self._used[each.key]
                kept[each.key] = replace(before, age=before.age + 1)
            elif each.key:
                kept[each.key] = _kept(each, label)
        self._kept, self._used = kept, {}

    def _over(self, kept: _Kept, box: Box) -> bool:
        if (kept.level or kept.line) and kept.age >= self._TRIES:
            return True
        moved = max(
            abs(2 * (box.left - kept.box.left) + box.width - kept.box.width),
            abs(2 * (box.top - kept.box.top) + box.height - kept.box.height),
        )
        return moved > kept.box.width or not 0.8 < box.width / kept.box.width < 1.25


def _kept(each: Mark, label: Label) -> _Kept:
    own, rect = _rect(each.box), _rect(label.box)
    below = rect[1] >= own[3]
    return _Kept(
        box=each.box,
        level=(each.text, *each.shorter).index(label.text),
        points=label.points,
        middle=(rect[0] + label.box.width // 2 - (own[0] + own[2]) // 2, rect[1] - own[3 if below else 1]),
        below=below,
        line=label.line is not None,
        inside=bool(_Ground.covers(rect, own)),
    )


def _line(rect: _Rect, own: _Rect) -> tuple[int, int, int] | None:
    """Return the line between a face and a label above or below it; None if they share no column."""
    low, most = max(rect[0], own[0]), min(rect[2], own[2]) - 1
    if low > most:
        return None
    x = (low + most) // 2
    return (x, rect[3], own[1]) if rect[3] <= own[1] else (x, own[3], rect[1])


def _along(line: tuple[int, int, int]) -> _Rect:
    x, top, bottom = line
    return x - 1, top, x + 2, bottom


def _rect(box: Box) -> _Rect:
    return box.left, box.top, box.left + box.width, box.top + box.height


def _place(ground: _Ground, place: int, each: Mark) -> Label:
    texts = (each.text, *each.shorter)
    sizes = _sizes(each.box, (ground.width, ground.height))
    own, words = _rect(each.box), texts[:-1] or texts
    # The number alone comes last, because it does not name the emotion.
    tries: list[tuple[str, int, str]] = []
    for text in words[:2]:
        tries += [(text, points, "beside") for points in sizes]
    tries += [(text, sizes[-1], "apart") for text in words[:2]]
    for text in words[2:]:
        tries += [(text, sizes[-1], kind) for kind in ("beside", "apart")]
    tries += [(text, points, "small inside") for text in words[:2] for points in sizes]
    tries += [(texts[-1], points, kind) for kind in ("beside", "apart") for points in sizes]
    tries += [(text, points, "inside") for text in texts for points in sizes]
    for text, points, kind in tries:
        wide, high = _measure(text, points)
        if kind == "beside":
            found = ground.first(list(_beside(own, wide, high, ground)))
        elif kind == "apart":
            found = ground.first(list(_apart(own, wide, high, ground)))
        elif kind == "inside" or high <= _SMALL_INSIDE * each.box.height:
            found = ground.first(list(_within(own, wide, high, ground)), within=place)
        else:
            found = None
        if found is not None:
            return _label(text, points, found)
    return _squeezed(ground, place, each, texts, sizes[-1])


def _squeezed(ground: _Ground, place: int, each: Mark, texts: Sequence[str], points: int) -> Label:
    """Return the label that covers least, if no place is free."""
    fitting = [
        text
        for text in texts
        if _measure(text, points)[0] <= ground.width and _measure(text, points)[1] <= ground.height
    ]
    if not fitting:
        text = texts[-1]
        while points > 5 and (_measure(text, points)[0] > ground.width):
            points -= 1
        wide, high = (
            min(a, b) for a, b in zip(_measure(text, points), (ground.width, ground.height), strict=True)
        )
        return _label(text, points, _Spot(_clamped(each.box.left, each.box.top, wide, high, ground)))
    text = fitting[-1]
    wide, high = _measure(text, points)
    own = _rect(each.box)
    spots = [
        *_beside(own, wide, high, ground),
        *_within(own, wide, high, ground),
        _Spot((own[0], own[1], own[0] + wide, own[1] + high)),
    ]
    clamped = [_Spot(_clamped(spot.rect[0], spot.rect[1], wide, high, ground)) for spot in spots]
    return _label(text, points, ground.least(clamped, place))


def _clamped(left: int, top: int, wide: int, high: int, ground: _Ground) -> _Rect:
    left = min(max(0, left), max(0, ground.width - wide))
    top = min(max(0, top), max(0, ground.height - high))
    return left, top, left + wide, top + high


def _label(text: str, points: int, spot: _Spot) -> Label:
    left, top, right, bottom = spot.rect
    return Label(text, points, Box(left, top, right - left, bottom - top), spot.line)


def _columns(own: _Rect, wide: int, ground: _Ground) -> list[int]:
    """Return left edges for a label above or below a face, with its centre over the face if possible."""
    left, _, right, _ = own
    low, high = left - wide // 2, right - wide // 2
    edges = [left, right - wide, (left + right - wide) // 2]
    for one, _, other, _ in ground.labels:
        edges += [other + 1, one - wide - 1]
    kept = [min(max(edge, low), high) if place < 3 else edge for place, edge in enumerate(edges)]
    kept = [edge for edge in kept if low <= edge <= high]
    # At the edge of the image a label can move further to stay inside.
    moved = [min(max(0, edge), max(0, ground.width - wide)) for edge in kept]
    return list(dict.fromkeys(moved))


def _beside(own: _Rect, wide: int, high: int, ground: _Ground) -> Iterator[_Spot]:
    """Yield the places that touch a face from outside: above, below, right, left."""
    left, top, right, bottom = own
    columns = _columns(own, wide, ground)
    for y in (top - high, bottom):
        for x in columns:
            yield _Spot((x, y, x + wide, y + high))
    for x in (right, left - wide):
        for y in (top, bottom - high, (top + bottom - high) // 2):
            y = min(max(0, y), max(0, ground.height - high))
            yield _Spot((x, y, x + wide, y + high))


def _apart(own: _Rect, wide: int, high: int, ground: _Ground) -> Iterator[_Spot]:
    """Yield places in rows further out, above and below, each with a line to the face."""
    left, top, right, bottom = own
    columns = _columns(own, wide, ground)
    gap = max(2, high // 4)
    for row in range(1, _ROWS + 1):
        off = row * (high + gap)
        for x in columns:
            low, most = max(left, x), min(right, x + wide) - 1
            if low > most:
                continue
            for middle in ((low + most) // 2, low + (most - low) // 4, most - (most - low) // 4):
                yield _Spot((x, top - high - off, x + wide, top - off), (middle, top - off, top))
                yield _Spot((x, bottom + off, x + wide, bottom + off + high), (middle, bottom, bottom + off))


def _within(own: _Rect, wide: int, high: int, ground: _Ground) -> Iterator[_Spot]:
    """Yield the places at the upper and the lower edge inside a face."""
    left, top, right, bottom = own
    for y in (top, bottom - high):
        for x in (left, right - wide):
            yield _Spot(_clamped(x, y, wide, high, ground))


def _sizes(box: Box, size: tuple[int, int]) -> list[int]:
    """Return the font sizes to try for a face, the best first."""
    longer = max(size)
    least = max(_SMALLEST, longer * _SHARE_LEAST)
    most = max(least, longer * _SHARE_MOST)
    best = min(max(least, box.width / _PER_FACE), most)
    return list(dict.fromkeys(round(each) for each in (best, math.sqrt(best * least), least)))


def _thickness(box: Box, size: tuple[int, int]) -> int:
    """Return the line width for a face in pixels."""
    width, height = size
    return max(1, min(round(math.sqrt(width * height) / 300), min(box.width, box.height) // 10))


def _pad(points: int) -> int:
    return max(2, points // 4)


@functools.lru_cache(4096)
def _measure(text: str, points: int) -> tuple[int, int]:
    """Return the width and height of a label in pixels, with its margin."""
    written = fonts.drawable(text)
    font = fonts.font(written, points)
    left, _, right, _ = font.getbbox(written)
    _, top, _, bottom = font.getbbox(_tallest(written))
    pad = _pad(points)
    return math.ceil(right - left) + 2 * pad, math.ceil(bottom - top) + 2 * pad


def _tallest(text: str) -> str:
    """Return the letters that define the line height; letters of other scripts can be taller."""
    return "Ag?%" if fonts.is_default(text) else "Ag?%" + text


def _pale(colour: Colour) -> Colour:
    red, green, blue = (round(part + _PALE * (255 - part)) for part in colour)
    return red, green, blue


def _frame(pen: ImageDraw.ImageDraw, each: Mark, thick: int) -> None:
    left, top, right, bottom = _rect(each.box)
    right, bottom = right - 1, bottom - 1
    if each.uncertain:
        for dash in _dashes((left, top, right, bottom), thick + 2):
            # A dark edge and a pale line: one of them is visible on any background.
            pen.rectangle(dash, fill=each.colour)
            inner = (dash[0] + 1, dash[1] + 1, dash[2] - 1, dash[3] - 1)
            if inner[0] <= inner[2] and inner[1] <= inner[3]:
                pen.rectangle(inner, fill=_pale(each.colour))
        return
    # White edges make the dark line visible on a dark background.
    pen.rectangle((left, top, right, bottom), outline=_WHITE, width=thick + 2)
    inner = (left + 1, top + 1, max(right - 1, left + 1), max(bottom - 1, top + 1))
    pen.rectangle(inner, outline=each.colour, width=thick)


def _dashes(corners: _Rect, wide: int) -> Iterator[_Rect]:
    """Yield the dashes of a frame as inclusive rectangles; each corner is drawn."""
    left, top, right, bottom = corners
    wide = min(wide, right - left + 1, bottom - top + 1)
    for first, last in _pieces(right - left + 1, wide):
        yield left + first, top, left + last, top + wide - 1
        yield left + first, bottom - wide + 1, left + last, bottom
    for first, last in _pieces(bottom - top + 1, wide):
        yield left, top + first, left + wide - 1, top + last
        yield right - wide + 1, top + first, right, top + last


def _pieces(length: int, wide: int) -> Iterator[tuple[int, int]]:
    """Yield the dashes of a side: dashes and gaps have about equal length, with dashes at both ends."""
    count = max(5, round(length / (2 * wide)))
    count -= 1 - count % 2
    for number in range(0, count, 2):
        first, last = round(length * number / count), round(length * (number + 1) / count) - 1
        if last >= first:
            yield first, last


def _join(pen: ImageDraw.ImageDraw, each: Mark, line: tuple[int, int, int], thick: int) -> None:
    x, top, bottom = line
    pen.line((x, top, x, bottom), fill=_WHITE, width=min(thick, 3) + 2)
    pen.line((x, top, x, bottom), fill=each.colour, width=min(thick, 3))


def _write(pen: ImageDraw.ImageDraw, each: Mark, label: Label) -> None:
    left, top, right, bottom = _rect(label.box)
    ground, ink, edge = (
        (_pale(each.colour), _BLACK, each.colour) if each.uncertain else (each.colour, _WHITE, _WHITE)
    )
    # Very small labels have no outline.
    outlined = min(label.box.width, label.box.height) > 4
    pen.rectangle((left, top, right - 1, bottom - 1), fill=ground, outline=edge if outlined else None)
    text = fonts.drawable(label.text)
    font = fonts.font(text, label.points)
    before, above = font.getbbox(text)[0], font.getbbox(_tallest(text))[1]
    pad = _pad(label.points)
    pen.text((left + pad - before, top + pad - above), text, fill=ink, font=font)
