"""One drawn face as numbers: its actions, head, pose and light."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mien.data.synthetic import action_units as actions
from mien.errors import DataError
from mien.labels import EMOTIONS

#: How hair lies: none, close to the skull, over the forehead, or down to the shoulders.
Hair = Literal["none", "short", "fringe", "long"]


@dataclass(frozen=True, kw_only=True)
class Head:
    """The shape and tones of a head at rest.

    Lengths are in half face heights: the chin lies about 1.1 below the middle of the face. Tones are
    reflectances in [0, 255].

    Args:
        width: Half the width at the cheekbones.
        jaw: Width of the jaw as a share of `width`.
        chin: How far the chin lies below the middle.
        eye_apart: From the middle to an eye's centre.
        eye_width: Half an eye's width.
        eye_open: Height of the upper lid over the line between an eye's corners.
        eye_tilt: How much higher an eye's outer corner lies than its inner one.
        brow: Height of the brows above the eyes.
        brow_thick: Thickness of the brows.
        brow_arch: How far the middle of a brow rises over its ends.
        nose: Half the width of the nose.
        nose_tip: How far the tip lies below the middle.
        mouth: Half the width of the mouth.
        mouth_down: How far the mouth lies below the middle.
        mouth_bow: How much lower the corners lie than the middle of the mouth at rest.
        lips: Thickness of each lip.
        lopsided: How much stronger actions are right of the middle than left of it, as a share.
        age: Depth of the folds that stay at rest, 0 to 1.
        gaze: Where the eyes look, right and down, as shares of their half width.
        skin: Tone of the skin.
        hair_tone: Tone of the hair.
        lip_tone: Tone of the lips as a share of the skin's.
        hair: How the hair lies.
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
    """Where the head stands before the camera, and what stands between them.

    Args:
        roll: Turn in the image's plane, radians clockwise.
        yaw: Turn to the image's right, radians.
        pitch: Nod down, radians.
        scale: Half face heights a half image side: 1 lets a face of 2 fill the image.
        right: Shift to the right as a share of the image's side.
        down: Shift downward as a share of the image's side.
        cover: Something that hides one side of the image: the side as an angle in radians, clockwise from the
            right, and how far from the centre it begins as a share of the image's side; None for nothing.
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
    """Everything that decides one drawn face's pixels.

    Args:
        emotion: What it shows.
        actions: Its action units.
        head: Whose face it is.
        view: Where it stands.
        light: How it is lit and taken.
    """

    emotion: str
    actions: actions.Actions
    head: Head
    view: View
    light: Light


def describe(emotion: str, *, seed: int | Sequence[int]) -> Face:
    """Draw the numbers of one face that shows `emotion`.

    Args:
        emotion: One of `mien.labels.EMOTIONS`.
        seed: One or more integers of at least 0; the same ones give the same face.

    Raises:
        DataError: There is no such emotion, or a seed is negative.
    """
    if emotion not in EMOTIONS:
        raise DataError(f"{emotion!r} is no emotion mien can draw; it draws {', '.join(EMOTIONS)}")
    check_seed(seed)
    rng = np.random.default_rng(seed)
    return Face(
        emotion=emotion,
        actions=actions.draw(emotion, rng),
        head=_head(rng),
        view=_view(rng),
        light=_light(rng),
    )


def check_seed(seed: int | Sequence[int]) -> None:
    """Refuse a seed that NumPy's generators cannot take.

    Raises:
        DataError: It is negative, or one of its integers is.
    """
    if np.min(seed) < 0:
        raise DataError(f"a seed is an integer of at least 0, not {seed}; choose one such as 0")


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
