"""Maps as pictures: a colour scale whose steps look alike, laid over the face, and a legend."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mien.evaluation.explanation.maps import NEAR_ZERO, Explanation
from mien.vision import fonts

#: Side in pixels of the face on a sheet.
SIDE = 384
#: Height in pixels of a legend.
LEGEND = 48

# How much of a pixel the colour covers, from half of the most on; what is left shows the face through.
_COVER = 0.72
_PAPER, _INK, _EMPTY = (255, 255, 255), (32, 32, 32), (222, 222, 222)


@cache
def colours() -> NDArray[np.uint8]:
    """Return the 256 colours of a map, `(256, 3)` uint8 RGB, from 0 (dark violet) to 1 (bright yellow).

    Lightness rises evenly, so that the scale reads the same in grey and to colour-blind eyes, and equal
    steps of a value look equally large.

    Source: OKLab, Ottosson 2020, bottosson.github.io/posts/oklab.
    """
    share = np.linspace(0, 1, 256)
    lightness = 0.3 + 0.6 * share
    # Violet by way of red and orange to yellow. The chroma is nearly the most that sRGB has all along.
    hue = np.deg2rad(300 + 165 * share)
    a, b = 0.155 * np.cos(hue), 0.155 * np.sin(hue)
    cone = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=1,
    )
    linear = cone**3 @ np.array(
        [
            [4.0767416621, -1.2684380046, -0.0041960863],
            [-3.3077115913, 2.6097574011, -0.7034186147],
            [0.2309699292, -0.3413193965, 1.7076147010],
        ]
    )
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    table: NDArray[np.uint8] = np.rint(255 * encoded).astype(np.uint8)
    return table


def overlay(
    image: NDArray[np.uint8],
    explanations: Sequence[tuple[tuple[float, float, float], Explanation]],
) -> NDArray[np.uint8]:
    """Lay maps over an image, each scaled by its explanation's strength.

    So the map of an emotion that the model thinks unlikely is pale, and that of one at 0 % is not seen. The
    image is turned grey, so that every colour in the result is the map's. A pixel that did nothing stays as
    it is; where maps overlap the higher value counts.

    Args:
        image: `(h, w)` grey or `(h, w, 3)` RGB, 0..255, as `images.read` returns it.
        explanations: Each with its square in the image: left, top and side in pixels, as `images.cut` took.

    Returns:
        `(h, w, 3)` RGB, 0..255.
    """
    ground = Image.fromarray(image).convert("L")
    width, height = ground.size
    values = np.zeros((height, width), np.float32)
    for (left, top, side), explanation in explanations:
        size = explanation.map.shape[0]
        scale, scaled = size / side, np.float32(explanation.strength)
        # From a pixel of the image to the pixel of the map, whose edge goes on to the middle of the next.
        moved = Image.fromarray(np.pad(explanation.map * scaled, 1, mode="edge")).transform(
            (width, height),
            Image.Transform.AFFINE,
            (scale, 0, 1 - left * scale, 0, scale, 1 - top * scale),
            Image.Resampling.BILINEAR,
        )
        inside = _inside(height, top, side)[:, np.newaxis] & _inside(width, left, side)
        values = np.maximum(values, np.where(inside, np.asarray(moved), 0))
    values = np.clip(values, 0, 1)
    grey = np.asarray(ground, np.float32)[:, :, np.newaxis]
    cover = _COVER * np.minimum(1, 2 * values)[:, :, np.newaxis]
    mixed = grey * (1 - cover) + colours()[np.rint(values * 255).astype(int)] * cover
    painted: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return painted


def _inside(length: int, start: float, side: float) -> NDArray[np.bool_]:
    middles = np.arange(length) + 0.5
    return (middles > start) & (middles < start + side)


def sheet(image: NDArray[np.uint8], explanation: Explanation) -> Image.Image:
    """Draw a face beside its map, with the answer above and the scale of colours below.

    Args:
        image: `(size, size, 1)` uint8 in [0, 255], the face that was explained.
        explanation: What `face` said of it.
    """
    # The names of classes as the fonts of this machine can draw them.
    shown = fonts.names(tuple(explanation.scores))
    explanation = replace(
        explanation,
        emotion=shown[explanation.emotion],
        scores={shown[name]: score for name, score in explanation.scores.items()},
    )
    large = Image.fromarray(image[:, :, 0]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    painted = overlay(np.asarray(large), [((0, 0, SIDE), explanation)])
    edge, line = 16, 30
    page = Image.new("RGB", (2 * SIDE + 3 * edge, SIDE + edge + line + LEGEND + 8), _PAPER)
    pen = ImageDraw.Draw(page)
    other = explanation.answer != explanation.emotion
    words = f"{explanation.emotion} {_percent(explanation.score)}"
    if other:
        words += (
            f"   (the answer is {explanation.answer}, {_percent(explanation.scores[explanation.answer])})"
        )
    pen.text((edge, edge // 2 + 2), words, _INK, fonts.font(words, 20))
    top = edge // 2 + line
    page.paste(large, (edge, top))
    page.paste(Image.fromarray(painted), (2 * edge + SIDE, top))
    page.paste(legend(SIDE, explanation.strength), (2 * edge + SIDE, top + SIDE))
    below = [fonts.drawable(f"method {explanation.method}, head {explanation.head}")]
    if told := note(explanation):
        below.append(told)
    for number, words in enumerate(below):
        pen.text((edge, top + SIDE + 8 + 20 * number), words, _INK, _fitting(words, SIDE + edge // 2))
    return page


def note(explanation: Explanation) -> str:
    """Return what a reader must know of the colours; empty for the answer itself."""
    if explanation.answer == explanation.emotion:
        return ""
    if explanation.score < NEAR_ZERO:
        return f"{explanation.emotion} is close to nothing here, so hardly anything is painted"
    return (
        f"colours end at {explanation.strength:.0%}: {explanation.emotion} compared with {explanation.answer}"
    )


def legend(width: int, reach: float = 1.0) -> Image.Image:
    """Draw the scale of colours with words at its ends, `LEGEND` pixels high.

    Args:
        width: Pixels; the words are left out below 200.
        reach: Up to what share of the scale the map goes, in [0, 1]; colours beyond are left out. It is the
            explanation's strength. Below 1, the end of the scale is what the answer would reach.
    """
    strip = Image.new("RGB", (width, LEGEND), _PAPER)
    bar = Image.fromarray(np.repeat(colours()[np.newaxis], 14, axis=0))
    used = min(width, round(width * reach))
    pen, font = ImageDraw.Draw(strip), fonts.font("", 14)
    pen.rectangle((0, 8, width - 1, 21), fill=_EMPTY)
    if used:
        strip.paste(bar.resize((width, 14), Image.Resampling.NEAREST).crop((0, 0, used, 14)), (0, 8))
    if width >= 200:
        pen.text((4, 25), "did nothing for it", _INK, font)
        most = "did the most" if reach == 1 else "as much as for the answer"
        pen.text((width - 4, 25), most, _INK, font, anchor="ra")
    return strip


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= NEAR_ZERO or share == 0 else f"{share:.1%}"


def _fitting(text: str, width: int) -> fonts.Font:
    """Return the largest font of 14 pixels or less in which a line fits the width; 9 at least."""
    return next(
        (
            font
            for font in (fonts.font(text, points) for points in range(14, 9, -1))
            if font.getbbox(text)[2] <= width
        ),
        fonts.font(text, 9),
    )
