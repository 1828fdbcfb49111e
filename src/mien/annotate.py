"""Draw faces onto an image: a box, what it shows and how surely, legible on any ground and at any size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mien.faces import Box, Face

#: Dark enough for white letters to stand on (contrast 4.5 and more), and apart for most colour-blind eyes.
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
_WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Mark:
    """What is drawn at one face.

    Args:
        box: Where.
        text: What is written beside it.
        colour: Of box and ground of the text, RGB 0..255.
    """

    box: Box
    text: str
    colour: tuple[int, int, int]


def mark(box: Box, emotion: str, confidence: float, *, before: str = "") -> Mark:
    """Return the mark of an answer: `happy 93%` in the emotion's colour.

    Args:
        box: Where the face is.
        emotion: Any label; those that are no emotion of mien's share one colour.
        confidence: In [0, 1].
        before: Stands first in the text, such as a person's number.
    """
    return Mark(box, f"{before}{emotion} {confidence:.0%}", COLOURS.get(emotion, _OTHER))


def draw(image: NDArray[np.uint8], marks: Sequence[Mark | Face]) -> NDArray[np.uint8]:
    """Return a copy of an image with marks on it.

    Lines and letters grow with the image. A text stands above its box, below it where there is no room, else
    inside; it is shrunk to the image's width.

    Args:
        image: `(h, w)` grey or `(h, w, 3)` RGB, 0..255.
        marks: What to draw; a face is drawn with its emotion and confidence. The first lies on top.

    Returns:
        `(h, w, 3)` RGB, 0..255.
    """
    canvas = Image.fromarray(image).convert("RGB")
    pen = ImageDraw.Draw(canvas)
    shorter, longer = sorted(canvas.size)
    thick = max(1, round((shorter * longer) ** 0.5 / 300))
    drawn = [
        each if isinstance(each, Mark) else mark(each.box, each.emotion, each.confidence) for each in marks
    ]
    for each in reversed(drawn):
        _frame(pen, each, thick)
    for each in reversed(drawn):
        _write(pen, each, canvas.size, thick)
    return np.asarray(canvas)


def _frame(pen: ImageDraw.ImageDraw, each: Mark, thick: int) -> None:
    box = each.box
    corners = (box.left, box.top, box.left + box.width - 1, box.top + box.height - 1)
    # A white edge on both sides, so that a dark line shows on a dark ground too.
    pen.rectangle(corners, outline=_WHITE, width=thick + 2)
    inner = (
        corners[0] + 1,
        corners[1] + 1,
        max(corners[2] - 1, corners[0] + 1),
        max(corners[3] - 1, corners[1] + 1),
    )
    pen.rectangle(inner, outline=each.colour, width=thick)


def _write(pen: ImageDraw.ImageDraw, each: Mark, size: tuple[int, int], thick: int) -> None:
    box, (width, height) = each.box, size
    points = float(max(10, 6 * thick + 6, min(28, box.width / 7)))
    room = 2 * thick
    font = ImageFont.load_default(points)
    left, top, right, bottom = font.getbbox(each.text)
    while right - left + 2 * room > width and points > 6:
        points -= 1
        font = ImageFont.load_default(points)
        left, top, right, bottom = font.getbbox(each.text)
    wide, high = right - left + 2 * room, bottom - top + 2 * room
    x = min(max(0, box.left), max(0, width - wide))
    y = box.top - high
    if y < 0:
        y = box.top + box.height if box.top + box.height + high <= height else max(0, box.top)
    pen.rectangle((x, y, x + wide - 1, y + high - 1), fill=each.colour)
    pen.text((x + room - left, y + room - top), each.text, fill=_WHITE, font=font)
