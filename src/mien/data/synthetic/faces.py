"""A synthetic face as numbers: its action units, head, pose and light, and the landmarks they give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from mien.errors import DataError
from mien.labels import EMOTIONS


@dataclass(frozen=True, kw_only=True)
class Actions:
    """How strongly each action unit is shown, 0 (not at all) to 1 (as far as it goes).

    Source: Ekman & Friesen, Facial Action Coding System, 1978; the units that move brows, lids, nose,
    cheeks, lips and jaw, under their numbers there.

    Args:
        au1: Inner brow raiser.
        au2: Outer brow raiser.
        au4: Brow lowerer.
        au5: Upper lid raiser.
        au6: Cheek raiser.
        au7: Lid tightener.
        au9: Nose wrinkler.
        au10: Upper lip raiser.
        au12: Lip corner puller.
        au15: Lip corner depressor.
        au17: Chin raiser.
        au20: Lip stretcher.
        au23: Lip tightener.
        au24: Lip pressor.
        au25: Lips part.
        au26: Jaw drop.
    """

    au1: float = 0.0
    au2: float = 0.0
    au4: float = 0.0
    au5: float = 0.0
    au6: float = 0.0
    au7: float = 0.0
    au9: float = 0.0
    au10: float = 0.0
    au12: float = 0.0
    au15: float = 0.0
    au17: float = 0.0
    au20: float = 0.0
    au23: float = 0.0
    au24: float = 0.0
    au25: float = 0.0
    au26: float = 0.0

    def scaled(self, factor: float) -> "Actions":
        """Return the same actions, each `factor` times as strong, at most 1."""
        return Actions(**{name: min(1.0, factor * getattr(self, name)) for name in NAMES})


#: The action units mien draws, in the order of their numbers.
NAMES = tuple(field.name for field in fields(Actions))


@dataclass(frozen=True)
class Prototype:
    """Which action units show an emotion.

    Args:
        always: Units every drawn face of this emotion shows.
        sometimes: Further units, each with the share of faces that show it.
    """

    always: tuple[str, ...]
    sometimes: Mapping[str, float]


#: Each emotion's units, after EMFACS (Friesen & Ekman 1983) as mien draws them.
PROTOTYPES: dict[str, Prototype] = {
    "angry": Prototype(("au4", "au7", "au23"), {"au5": 0.6, "au24": 0.5, "au17": 0.2, "au25": 0.15}),
    "disgust": Prototype(("au9", "au10"), {"au15": 0.5, "au17": 0.5, "au4": 0.3, "au25": 0.3}),
    "fear": Prototype(("au1", "au2", "au4", "au5", "au20", "au25"), {"au26": 0.5}),
    "happy": Prototype(("au6", "au12"), {"au25": 0.6, "au26": 0.15}),
    "sad": Prototype(("au1", "au4", "au15"), {"au17": 0.5, "au7": 0.15}),
    "surprise": Prototype(("au1", "au2", "au5", "au25", "au26"), {}),
    "neutral": Prototype((), {}),
}

_STRENGTH = (0.7, 1.0)
_SPREAD = (0.85, 1.15)
_RESTLESS = 0.04
_TALKING = 0.12


def draw(emotion: str, rng: np.random.Generator) -> Actions:
    """Draw how strongly a face that shows `emotion` shows each unit.

    One strength is drawn for the face and one for each unit about it. Every unit stirs a little on every
    face, and some faces have their lips parted as if they spoke, so that no unit alone gives an emotion away.
    """
    prototype = PROTOTYPES[emotion]
    strength = rng.uniform(*_STRENGTH)
    levels = np.abs(rng.normal(0.0, _RESTLESS, len(NAMES)))
    spread = rng.uniform(*_SPREAD, len(NAMES))
    chance = rng.random(len(NAMES))
    for place, name in enumerate(NAMES):
        if name in prototype.always or chance[place] < prototype.sometimes.get(name, 0.0):
            levels[place] = strength * spread[place]
    if rng.random() < _TALKING:
        parted = NAMES.index("au25")
        levels[parted] = max(levels[parted], rng.uniform(0.2, 0.7))
    return Actions(**dict(zip(NAMES, np.minimum(levels, 1.0).tolist(), strict=True)))


#: Hair: none, close to the skull, over the forehead, or down to the shoulders.
Hair = Literal["none", "short", "fringe", "long"]


@dataclass(frozen=True, kw_only=True)
class Head:
    """The shape and tones of a head at rest.

    Lengths are in half face heights: the chin is about 1.1 below the centre of the face. Tones are
    reflectances in [0, 255].

    Args:
        width: Half the width at the cheekbones.
        jaw: Width of the jaw as a share of `width`.
        chin: Distance of the chin below the centre.
        eye_apart: Distance of an eye's centre from the middle line.
        eye_width: Half an eye's width.
        eye_open: Height of the upper lid over the line between an eye's corners.
        eye_tilt: Height of an eye's outer corner over its inner one.
        brow: Height of the brows above the eyes.
        brow_thick: Thickness of the brows.
        brow_arch: Height of the middle of a brow over its ends.
        nose: Half the width of the nose.
        nose_tip: Distance of the tip below the centre.
        mouth: Half the width of the mouth.
        mouth_down: Distance of the mouth below the centre.
        mouth_bow: Distance of the corners below the middle of the mouth at rest.
        lips: Thickness of each lip.
        lopsided: How much stronger actions are on the right half than on the left, as a share.
        age: Depth of the folds at rest, 0 to 1.
        gaze: Where the eyes look, right and down, as shares of their half width.
        skin: Tone of the skin.
        hair_tone: Tone of the hair.
        lip_tone: Tone of the lips as a share of the skin's.
        hair: Kind of hair.
        beard: Darkness of a beard, 0 for none, to 1.
        glasses: Thickness of the rims of glasses; 0 for none.
    """

    width: float
    jaw: float
    chin: float
    eye_apart: float
    eye_width: float
    eye_open: float
    eye_tilt: float
    brow: float
    brow_thick: float
    brow_arch: float
    nose: float
    nose_tip: float
    mouth: float
    mouth_down: float
    mouth_bow: float
    lips: float
    lopsided: float
    age: float
    gaze: tuple[float, float]
    skin: float
    hair_tone: float
    lip_tone: float
    hair: Hair
    beard: float
    glasses: float


@dataclass(frozen=True, kw_only=True)
class View:
    """The pose of the head before the camera, and what covers it.

    Args:
        roll: Turn in the image's plane, radians clockwise.
        yaw: Turn to the image's right, radians.
        pitch: Nod down, radians.
        scale: Half face heights a half image side: 1 lets a face of 2 fill the image.
        right: Shift to the right as a share of the image's side.
        down: Shift downward as a share of the image's side.
        cover: A bar that hides one side of the image: the side as an angle in radians, clockwise from the
            right, and its distance from the centre as a share of the image's side; None for no bar.
    """

    roll: float
    yaw: float
    pitch: float
    scale: float
    right: float
    down: float
    cover: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Light:
    """Light, background and camera.

    Args:
        toward: Direction to the light: right, down, to the camera; of length 1.
        ambient: Share of the light that comes from everywhere.
        background: Tones at the left and right edge of the background, in [0, 255].
        shirt: Tone of the clothes, in [0, 255].
        brightness: Mean grey level that the camera sets, of 255.
        contrast: Standard deviation of the grey levels that the camera sets, of 255.
        blur: Standard deviation of the blur as a share of the image's side.
        noise: Standard deviation of the noise, in grey levels of 255.
        grain: Seed of the noise.
    """

    toward: tuple[float, float, float]
    ambient: float
    background: tuple[float, float]
    shirt: float
    brightness: float
    contrast: float
    blur: float
    noise: float
    grain: int


@dataclass(frozen=True, kw_only=True)
class Face:
    """All numbers that determine the pixels of one face.

    Args:
        emotion: Its emotion.
        actions: Its action units.
        head: Its head.
        view: Its pose.
        light: Its light and camera.
    """

    emotion: str
    actions: Actions
    head: Head
    view: View
    light: Light


def describe(emotion: str, *, seed: int | Sequence[int]) -> Face:
    """Draw the numbers of one face that shows `emotion`.

    Args:
        emotion: One of `mien.labels.EMOTIONS`.
        seed: One or more integers of at least 0; the same ones give the same face.

    Raises:
        DataError: The emotion is unknown, or a seed is negative.
    """
    if emotion not in EMOTIONS:
        raise DataError(f"{emotion!r} is not an emotion; give one of {', '.join(EMOTIONS)}")
    check_seed(seed)
    rng = np.random.default_rng(seed)
    return Face(
        emotion=emotion, actions=draw(emotion, rng), head=_head(rng), view=_view(rng), light=_light(rng)
    )


def check_seed(seed: int | Sequence[int]) -> None:
    """Check a seed for NumPy's generators.

    Raises:
        DataError: It is negative, or one of its integers is.
    """
    if np.min(seed) < 0:
        raise DataError(f"the seed is {seed}; give an integer of at least 0")


def _head(rng: np.random.Generator) -> Head:
    def between(low: float, high: float) -> float:
        return low + (high - low) * rng.random()

    skin = between(70.0, 225.0)
    width = between(0.74, 0.90)
    styles: tuple[Hair, ...] = ("none", "short", "short", "fringe", "long", "long")
    return Head(
        width=width,
        jaw=between(0.62, 0.86),
        chin=between(1.02, 1.18),
        eye_apart=width * between(0.41, 0.47),
        eye_width=between(0.16, 0.20),
        eye_open=between(0.065, 0.095),
        eye_tilt=between(-0.03, 0.04),
        brow=between(0.23, 0.31),
        brow_thick=between(0.045, 0.085),
        brow_arch=between(0.02, 0.07),
        nose=between(0.12, 0.19),
        nose_tip=between(0.22, 0.31),
        mouth=between(0.27, 0.35),
        mouth_down=between(0.56, 0.65),
        mouth_bow=between(-0.03, 0.03),
        lips=between(0.05, 0.10),
        lopsided=between(-0.18, 0.18),
        age=between(0.0, 1.0) ** 2,
        gaze=(between(-0.25, 0.25), between(-0.1, 0.15)),
        skin=skin,
        hair_tone=between(10.0, 110.0) if rng.random() < 0.75 else between(110.0, 215.0),
        lip_tone=between(0.6, 0.9),
        hair=styles[int(rng.integers(len(styles)))],
        beard=between(0.2, 0.8) if rng.random() < 0.12 else 0.0,
        glasses=between(0.025, 0.05) if rng.random() < 0.12 else 0.0,
    )


def _view(rng: np.random.Generator) -> View:
    def about(spread: float, limit: float) -> float:
        return float(np.clip(rng.normal(0.0, spread), -limit, limit))

    covered = rng.random() < 0.08
    cover = (float(rng.uniform(0.0, 2 * np.pi)), float(rng.uniform(0.28, 0.42)))
    return View(
        roll=np.radians(about(9.0, 24.0)),
        yaw=np.radians(about(12.0, 28.0)),
        pitch=np.radians(about(8.0, 18.0)),
        scale=float(rng.uniform(0.78, 0.98)),
        right=about(0.045, 0.10),
        down=about(0.045, 0.10),
        cover=cover if covered else None,
    )


def _light(rng: np.random.Generator) -> Light:
    around = rng.uniform(0.0, 2 * np.pi)
    slant = np.radians(rng.uniform(0.0, 70.0))
    return Light(
        toward=(
            float(np.sin(slant) * np.cos(around)),
            # Light from above is the rule, from below the exception.
            float(np.sin(slant) * (np.sin(around) * 0.75 - 0.25)),
            float(np.cos(slant)),
        ),
        ambient=float(rng.uniform(0.3, 0.65)),
        background=(float(rng.uniform(0.0, 255.0)), float(rng.uniform(0.0, 255.0))),
        shirt=float(rng.uniform(10.0, 245.0)),
        brightness=float(rng.uniform(95.0, 160.0)),
        contrast=float(rng.uniform(40.0, 64.0)),
        blur=float(rng.uniform(0.0, 0.014)),
        noise=float(rng.uniform(0.0, 7.0)),
        grain=int(rng.integers(2**32)),
    )


Point = tuple[float, float]


def landmarks(face: Face) -> dict[str, Point]:
    """Place the points that actions move.

    Returns:
        `left_` and `right_` (in the image) of `brow_inner`, `brow_middle`, `brow_outer`, `eye_inner`,
        `eye_outer`, `lid_upper`, `lid_lower`, `nostril`, `mouth`; and `lip_top`, `lip_upper`, `lip_lower`,
        `lip_bottom` down the middle of the mouth, `nose_tip`, `chin`.
    """
    head = face.head
    points: dict[str, Point] = {}
    for name, side in (("left", -1), ("right", 1)):
        for part, (x, y) in _half(face, side).items():
            points[f"{name}_{part}"] = (side * x, y)
    act = face.actions
    middle = head.mouth_down + 0.02 * act.au12 - 0.06 * act.au17 - 0.04 * act.au9 + 0.02 * act.au15
    thin = 1 - 0.45 * act.au23 - 0.45 * act.au24
    upper = middle - 0.03 * act.au25 - 0.09 * act.au10 - 0.05 * act.au26
    lower = middle + 0.09 * act.au25 + 0.30 * act.au26 + 0.03 * act.au12 * act.au25 - 0.02 * act.au10
    lower = max(lower, upper)
    full_upper = head.lips * (1 - 0.3 * act.au12 + 0.15 * act.au10)
    full_lower = head.lips * 1.25 * (1 - 0.2 * act.au12 + 0.25 * act.au17)
    points["lip_top"] = (0.0, upper - full_upper * max(0.15, thin))
    points["lip_upper"] = (0.0, upper)
    points["lip_lower"] = (0.0, lower)
    points["lip_bottom"] = (0.0, lower + full_lower * max(0.15, thin))
    points["nose_tip"] = (0.0, head.nose_tip - 0.03 * act.au9)
    points["chin"] = (0.0, head.chin + 0.20 * act.au26 - 0.03 * act.au17)
    return points


def _half(face: Face, side: int) -> dict[str, Point]:
    """Place one half's points as if it were the right one (x grows outward)."""
    head = face.head
    act = face.actions.scaled(1 + side * head.lopsided) if head.lopsided else face.actions
    eye_y = -0.12
    brow_y = eye_y - head.brow
    # The corrugator draws the brows together; where the frontalis lifts their inner ends, it loses.
    inner = -0.20 * act.au1 + 0.16 * act.au4 * (1 - 0.85 * act.au1) + 0.05 * act.au9
    bend = -0.10 * act.au1 * (1 - 0.7 * act.au4) - 0.11 * act.au2 + 0.10 * act.au4 + 0.06 * act.au9
    outer = -0.13 * act.au2 + 0.02 * act.au4 + 0.06 * act.au1 * act.au4 * (1 - act.au2)
    upper = head.eye_open * max(0.12, 1 + 0.95 * act.au5 - 0.45 * act.au7 - 0.3 * act.au6 - 0.3 * act.au9)
    lower = head.eye_open * (0.6 + 0.2 * act.au5 - 0.45 * act.au7 - 0.75 * act.au6 - 0.4 * act.au9)
    wide = 1 + 0.32 * act.au12 + 0.34 * act.au20 - 0.20 * act.au23 - 0.08 * act.au24
    wide -= 0.32 * act.au26 * (1 - act.au20) + 0.06 * act.au17
    corner = head.mouth_down + head.mouth_bow - 0.21 * act.au12 + 0.17 * act.au15 + 0.05 * act.au20
    return {
        "brow_inner": (head.eye_apart - 0.20 - 0.07 * act.au4, brow_y + 0.01 + inner),
        "brow_middle": (head.eye_apart + 0.02, brow_y - head.brow_arch + bend),
        "brow_outer": (head.eye_apart + 0.25, brow_y + 0.04 + outer),
        "eye_inner": (head.eye_apart - head.eye_width, eye_y + head.eye_tilt / 2),
        "eye_outer": (head.eye_apart + head.eye_width, eye_y - head.eye_tilt / 2),
        "lid_upper": (head.eye_apart, eye_y - upper),
        "lid_lower": (head.eye_apart, eye_y + max(lower, 0.02 - upper)),
        "nostril": (head.nose * (1 + 0.12 * act.au9 + 0.05 * act.au12), head.nose_tip - 0.05 * act.au9),
        "mouth": (head.mouth * wide, corner + 0.12 * act.au26 * (1 - act.au12)),
    }
