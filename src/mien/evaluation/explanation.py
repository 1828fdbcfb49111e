"""Explain a prediction: which pixels of a face support an emotion. This needs only the model file.

    found = explanation.face(model, images.fit(pixels, 48))
    found.emotion, found.score, found.map     # (48, 48), 0..1
    explanation.sheet(face, found).save("why.png")

Two methods: `cam` (class activation map) reads what each cell of the last feature map adds to the answer; it
needs a head that is dense over the mean of the features, as most of mien's networks have. `occlusion` hides
one spot after the other and measures how far the probability falls; it works with every model and is slower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mien.errors import InputError
from mien.models import checks
from mien.models.card import FeatureMap
from mien.models.model_files import Model
from mien.models.priors import Adjustment, as_groups, as_prior
from mien.vision import fonts

Method = Literal["cam", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)
Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]
Map = NDArray[np.float32]

# The spot that occlusion hides, and how far it moves, in sides of the face (measured: docs/explain.md).
_SPOT, _STEP = 1 / 16, 1 / 16
# How far hidden pixels are blurred, in sides of the face: no feature of a face is left at that.
_BLUR = 1 / 6
#: Probability below which an emotion is close to nothing: hardly any of its map is painted.
NEAR_ZERO = 0.01
# A sum of probabilities is taken for this at least.
_LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Explanation:
    """Why a model gave one of its answers to a face.

    Args:
        emotion: The answer that is explained.
        scores: Probability of each emotion, in the model's order; they sum to 1.
        map: `(size, size)` float32 in [0, 1]: what each pixel did for the answer, the most being 1; pixels
            that did nothing for it or spoke against it are 0. All 0 where nothing speaks for the answer.
        method: How the map was made.
        head: Which of the model's heads answered.
    """

    emotion: str
    scores: Mapping[str, float]
    map: Map
    method: Method
    head: str

    @property
    def score(self) -> float:
        """The probability of the emotion that is explained."""
        return self.scores[self.emotion]

    @property
    def answer(self) -> str:
        """The likeliest emotion; of equal ones the first."""
        return max(self.scores, key=self.scores.__getitem__)

    @property
    def strength(self) -> float:
        """The probability of the explained emotion over that of the answer, in [0, 1]; 1 for the answer.

        Pictures are painted with the map times this, because the map alone reaches 1 for every emotion, also
        for one that the model gives 0 %.
        """
        return self.score / max(self.scores[self.answer], _LEAST)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds of an explanation: all but the map."""
        return {
            "emotion": self.emotion,
            "score": self.score,
            "answer": self.answer,
            "strength": self.strength,
            "scores": dict(self.scores),
            "method": self.method,
            "head": self.head,
        }


def face(
    model: Model,
    image: Pixels,
    *,
    emotion: str | None = None,
    head: str | None = None,
    method: Method | None = None,
    progress: Callable[[int, int], None] | None = None,
    balance: float | None = None,
    prior: Mapping[str, float] | str | None = None,
    groups: Mapping[str, Sequence[str]] | str | None = None,
) -> Explanation:
    """Explain the prediction of a model for one face.

    Args:
        model: The loaded model.
        image: `(size, size, 1)` uint8 in [0, 255], as `images.fit` and `images.cut` make it.
        emotion: Which answer to explain; None for the likeliest.
        head: Which of the model's heads answers; None for the one that `mien predict` takes: `ferplus`
            where the model has it, else the first.
        method: One of `METHODS`; None for `cam` where the model's head allows it, else `occlusion`.
        progress: Called with (faces run, faces in all); `cam` runs one.
        balance: As `mien.inference.predictor.Predictor` takes it; None for the card's choice.
        prior: As `mien.inference.predictor.Predictor` takes it.
        groups: As `mien.inference.predictor.Predictor` takes it; then a group can be explained.

    Raises:
        InputError: The emotion or method is unknown, the head does not allow `cam`, or balance, prior or
            groups are not valid for the model.
        ModelError: The image is of another shape or type, or the model has no such head.

    Source: cam: Zhou et al. 2016, arXiv:1512.04150; occlusion: Zeiler and Fergus 2014, arXiv:1311.2901.
    """
    if method is not None and method not in METHODS:
        raise InputError(f"{method!r} is not a method; choose from {', '.join(METHODS)}")
    head = model.card.photo_head(head)
    stated = model.card.head(head)
    prior, groups = as_prior(prior), as_groups(groups)
    balance = stated.balance_for(balance, prior)
    adjustment = Adjustment(balance=balance, prior=prior, groups=groups)
    adjustment.check(model.card.labels, stated.frequencies)
    names = adjustment.names(model.card.labels)
    single = model.run(image[np.newaxis], head=head, balance=balance, prior=prior)
    chances = adjustment.group(single, model.card.labels)[0]
    if emotion is not None and emotion not in names:
        raise InputError(f"the model has no emotion {emotion!r}; choose from {', '.join(names)}")
    index = int(chances.argmax()) if emotion is None else names.index(emotion)
    feature_map = model.card.feature_map
    if feature_map is None and method != "occlusion":
        raise InputError(
            f"the card of {model.card.name!r} has no feature_map, which the method cam needs; "
            "export the model again with mien export, or use the method occlusion"
        )
    if method == "cam" and not stated.weights:
        raise InputError(
            f"the model {model.card.name!r} does not predict from the mean of its features; use occlusion"
        )
    method = method or ("cam" if stated.weights else "occlusion")
    if method == "cam" and feature_map is not None:
        # How the logarithm of a sum of probabilities changes with each of their logits.
        share = single[0] * adjustment.members(model.card.labels)[:, index]
        weights = checks.read_weights(model.read(), stated.weights)
        evidence = _cam(model, image, weights, feature_map, share / max(float(share.sum()), _LEAST))
        if progress is not None:
            progress(1, 1)
    else:
        evidence = _occlusion(model, image, head, index, progress, adjustment)
    scores = {name: float(chance) for name, chance in zip(names, chances, strict=True)}
    return Explanation(names[index], scores, _normal(evidence), method, head)


def hide(image: Pixels, where: Floats) -> Pixels:
    """Hide a part of a face behind its own strong blur, which leaves brightness but no features.

    Args:
        image: `(size, size, 1)` uint8 in [0, 255].
        where: `(size, size)` in [0, 1]; 1 hides a pixel, 0 leaves it as it is.

    Returns:
        `(size, size, 1)`, 0..255.

    Source: Fong and Vedaldi 2017, arXiv:1704.03296.
    """
    hidden: Pixels = _hidden(image, where[np.newaxis])[0]
    return hidden


def _hidden(image: Pixels, spots: Floats) -> Pixels:
    radius = image.shape[0] * _BLUR
    blurred = np.asarray(Image.fromarray(image[:, :, 0]).filter(ImageFilter.GaussianBlur(radius)), np.float32)
    mixed = image[:, :, 0] * (1 - spots) + blurred * spots
    whole: Pixels = np.rint(mixed).astype(np.uint8)
    return whole[..., np.newaxis]


def _cam(model: Model, image: Pixels, weights: Map, place: FeatureMap, share: Floats) -> Map:
    """Return what each pixel's feature cell adds to the answer's logit above the mean of all logits.

    The mean of all logits is taken off because a softmax does not see it. Of a group of emotions, the mean of
    their logits counts, by `share` `(k,)`, which sums to 1.
    """
    features = model.features(image[np.newaxis])[0]
    cells = features @ (weights @ share - weights.mean(axis=1))
    down, right = (
        _spread(image.shape[0], count, first, step)
        for count, first, step in zip(cells.shape, place.first, place.step, strict=True)
    )
    evidence: Map = (down @ cells @ right.T).astype(np.float32)
    return evidence


def _spread(size: int, cells: int, first: float, step: float) -> NDArray[np.float64]:
    """Return the share `(size, cells)` of each cell in each pixel: linear between middles, flat beyond."""
    middles = first + step * np.arange(cells)
    return np.stack([np.interp(np.arange(size), middles, each) for each in np.eye(cells)], axis=1)


def _occlusion(
    model: Model,
    image: Pixels,
    head: str,
    index: int,
    progress: Callable[[int, int], None] | None,
    adjustment: Adjustment,
) -> Map:
    """Return by how much hiding each pixel's surroundings lowers the log-odds of an answer."""
    size = image.shape[0]
    pixels = np.arange(size)
    middles = np.arange(round(size * _STEP) / 2 - 0.5, size, max(1, round(size * _STEP)))
    across = np.exp(-(((pixels - middles[:, np.newaxis]) / (size * _SPOT)) ** 2) / 2)
    spots = np.einsum("iy,jx->ijyx", across, across).reshape(-1, size, size)
    hidden = np.concatenate([image[np.newaxis], _hidden(image, spots)])
    single = model.run(
        hidden, head=head, progress=progress, balance=adjustment.balance, prior=adjustment.prior
    )
    odds = _log_odds(adjustment.group(single, model.card.labels), index)
    falls = odds[0] - odds[1:]
    shares = np.tensordot(falls, spots, axes=1) / spots.sum(axis=0)
    evidence: Map = shares.astype(np.float32)
    return evidence


def _log_odds(chances: Floats, index: int) -> NDArray[np.float64]:
    least = np.finfo(np.float32).tiny
    others = np.delete(chances, index, axis=1).sum(axis=1, dtype=np.float64)
    odds: NDArray[np.float64] = np.log(np.maximum(chances[:, index], least)) - np.log(
        np.maximum(others, least)
    )
    return odds


def _normal(evidence: Map) -> Map:
    """Scale what speaks for an answer to [0, 1]; what speaks against it becomes 0."""
    most = evidence.max()
    return np.zeros_like(evidence) if most <= 0 else np.clip(evidence / most, 0, 1)


#: Side in pixels of the face on a sheet.
SIDE = 384
#: Height in pixels of a legend.
LEGEND = 48

# How much of a pixel the colour covers, from half of the most on; what is left shows the face through.
_COVER = 0.72
_PAPER, _INK, _EMPTY = (255, 255, 255), (32, 32, 32), (222, 222, 222)


@cache
def colours() -> Pixels:
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
    table: Pixels = np.rint(255 * encoded).astype(np.uint8)
    return table


def overlay(image: Pixels, explanations: Sequence[tuple[tuple[float, float, float], Explanation]]) -> Pixels:
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
    painted: Pixels = np.rint(mixed).astype(np.uint8)
    return painted


def _inside(length: int, start: float, side: float) -> NDArray[np.bool_]:
    middles = np.arange(length) + 0.5
    return (middles > start) & (middles < start + side)


def sheet(image: Pixels, explanation: Explanation) -> Image.Image:
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
            f"   (the prediction is {explanation.answer}, {_percent(explanation.scores[explanation.answer])})"
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
    """Return what a reader must know about the colours; empty for the predicted emotion itself."""
    if explanation.answer == explanation.emotion:
        return ""
    if explanation.score < NEAR_ZERO:
        return f"{explanation.emotion} has a probability close to 0, so the map is almost empty"
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
        pen.text((4, 25), "no support", _INK, font)
        most = "most support" if reach == 1 else "as much as for the prediction"
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
