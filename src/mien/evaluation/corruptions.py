"""Corruptions of face images with fixed strengths, to measure the robustness of a model.

images = corruptions.corrupt(split.images, "blur 2")     # one of CORRUPTIONS
images = corruptions.corrupt(split.images, corruptions.Corruption("blur", 1.5), seed=3)

Each is a pure function of images and seed with a fixed strength, so that figures can be compared. The random
changes of training are in `mien.training.augmentation`. Random numbers depend on the seed and on the index of
an image: the first hundred images are corrupted in the same way, however many follow.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from mien.errors import ImageError, InputError

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

#: Grey level of the square that covers part of a face.
COVER = 128
#: Images per block; more take memory and are not faster.
_BLOCK = 256


@dataclass(frozen=True)
class Kind:
    """One way to corrupt an image.

    Args:
        about: What is done, and what the strength counts.
        lowest: Smallest strength.
        highest: Largest strength.
        change: Makes `(n, size, size)` from as many images of float32 grey levels in [0, 255], a strength
            and the random generator; what it returns is rounded and cut to [0, 255].
    """

    about: str
    lowest: float
    highest: float
    change: Callable[[Floats, float, np.random.Generator], Floats]


@dataclass(frozen=True)
class Corruption:
    """One kind at one strength.

    Args:
        kind: One of `KINDS`.
        strength: In the unit that the kind's `about` names.

    Raises:
        InputError: There is no such kind, or the strength is out of its range.
    """

    kind: str
    strength: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"{self.kind!r} is not a kind of corruption; choose one of {', '.join(KINDS)}")
        kind = KINDS[self.kind]
        if not kind.lowest <= self.strength <= kind.highest:
            raise InputError(
                f"the strength of {self.kind} is {self.strength}; it must be between {kind.lowest:g} and "
                f"{kind.highest:g}"
            )

    @property
    def name(self) -> str:
        """Kind and strength, such as `blur 2`."""
        return f"{self.kind} {self.strength:g}"


def corrupt(images: Images, corruption: str | Corruption, *, seed: int = 0) -> Images:
    """Corrupt every image in the same way.

    Args:
        images: `(n, size, size, 1)` uint8 in [0, 255], grey. Lengths in pixels are those of these images.
        corruption: The name of one of `CORRUPTIONS`, or a `Corruption` of any strength.
        seed: At least 0; decides noise, directions and places, where the corruption has any.

    Returns:
        New images of the same shape and type.

    Raises:
        InputError: There is no corruption of this name, or the seed is negative.
        ImageError: The images are of another shape or type.
    """
    if isinstance(corruption, str):
        if corruption not in CORRUPTIONS:
            raise InputError(f"{corruption!r} is not a corruption; choose one of {', '.join(CORRUPTIONS)}")
        corruption = CORRUPTIONS[corruption]
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be at least 0")
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[3] != 1
        or len(set(images.shape[1:3])) > 1
    ):
        raise ImageError(
            f"corruptions need uint8 images of shape (n, size, size, 1), not {images.dtype} of shape "
            f"{images.shape}; make them with mien.vision.images"
        )
    change = KINDS[corruption.kind].change
    chance = np.random.default_rng(seed)
    corrupted = np.empty_like(images)
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK, :, :, 0].astype(np.float32)
        changed = change(block, corruption.strength, chance)
        corrupted[start : start + _BLOCK, :, :, 0] = np.rint(changed).clip(0, 255)
    return corrupted


def _brightness(images: Floats, levels: float, chance: np.random.Generator) -> Floats:
    return images + np.float32(levels)


def _contrast(images: Floats, factor: float, chance: np.random.Generator) -> Floats:
    means = images.mean(axis=(1, 2), keepdims=True)
    changed: Floats = means + np.float32(factor) * (images - means)
    return changed


def _blur(images: Floats, sigma: float, chance: np.random.Generator) -> Floats:
    radius = int(np.ceil(4 * sigma))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        side = images.shape[axis]
        near = np.arange(side)
        # Beyond the edge the last pixel is repeated.
        blurred = np.zeros_like(images)
        for weight, offset in zip(weights, offsets, strict=True):
            blurred += np.float32(weight) * images.take((near + offset).clip(0, side - 1), axis=axis)
        images = blurred
    return images


def _noise(images: Floats, deviation: float, chance: np.random.Generator) -> Floats:
    return images + np.float32(deviation) * chance.standard_normal(images.shape, np.float32)


def _jpeg(images: Floats, quality: float, chance: np.random.Generator) -> Floats:
    decoded = np.empty_like(images)
    for place, image in enumerate(images.astype(np.uint8)):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=round(quality))
        with Image.open(file) as opened:
            decoded[place] = np.asarray(opened)
    return decoded


def _shift(images: Floats, pixels: float, chance: np.random.Generator) -> Floats:
    quarter = np.floor(4 * chance.random(len(images)))
    across = pixels * np.select([quarter == 0, quarter == 2], [1.0, -1.0])
    down = pixels * np.select([quarter == 1, quarter == 3], [1.0, -1.0])
    x, y = _places(images)
    return _sample(images, x - across[:, None, None], y - down[:, None, None])


def _rotation(images: Floats, degrees: float, chance: np.random.Generator) -> Floats:
    sign = np.where(chance.random(len(images)) < 0.5, 1.0, -1.0)[:, None, None]
    cosine, sine = np.cos(np.radians(degrees)), sign * np.sin(np.radians(degrees))
    x, y = _places(images)
    centre = (images.shape[1] - 1) / 2
    x, y = x - centre, y - centre
    return _sample(images, centre + cosine * x + sine * y, centre - sine * x + cosine * y)


def _scale(images: Floats, factor: float, chance: np.random.Generator) -> Floats:
    centre = (images.shape[1] - 1) / 2
    x, y = _places(images)
    return _sample(images, centre + (x - centre) / factor, centre + (y - centre) / factor)


def _occlusion(images: Floats, share: float, chance: np.random.Generator) -> Floats:
    size = images.shape[1]
    side = round(size * share**0.5)
    corners = np.floor((size - side + 1) * chance.random((len(images), 2)))
    x, y = _places(images)
    left, top = corners[:, 0, None, None], corners[:, 1, None, None]
    covered = (x >= left) & (x < left + side) & (y >= top) & (y < top + side)
    return np.where(covered, np.float32(COVER), images)


def _places(images: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the x and y coordinate of every pixel, `(1, size, size)` each."""
    side = np.arange(images.shape[1], dtype=np.float64)
    x, y = np.meshgrid(side, side)
    return x[None], y[None]


def _sample(images: Floats, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Floats:
    """Interpolate images bilinearly; beyond the edge the last pixel is repeated."""
    n, size, _ = images.shape
    # Sine and cosine leave 1e-15 beside whole numbers, which would mix in a neighbour.
    x, y = (np.broadcast_to(place, (n, size, size)).round(9).clip(0, size - 1) for place in (x, y))
    left, top = x.astype(np.intp), y.astype(np.intp)
    right, bottom = np.minimum(left + 1, size - 1), np.minimum(top + 1, size - 1)
    across, down = (x - left).astype(np.float32), (y - top).astype(np.float32)
    each = np.arange(n)[:, None, None]
    above = images[each, top, left] * (1 - across) + images[each, top, right] * across
    below = images[each, bottom, left] * (1 - across) + images[each, bottom, right] * across
    between: Floats = above * (1 - down) + below * down
    return between


#: Every kind of corruption.
KINDS: dict[str, Kind] = {
    "brightness": Kind("grey levels that are added; negative numbers darken", -255, 255, _brightness),
    "contrast": Kind("factor of the differences from the mean of the image", 0, 10, _contrast),
    "blur": Kind("standard deviation of a Gaussian blur, in pixels", 0.1, 20, _blur),
    "noise": Kind("standard deviation of Gaussian noise, in grey levels", 0, 255, _noise),
    "jpeg": Kind("JPEG quality", 1, 95, _jpeg),
    "shift": Kind("pixels of a shift left, right, up or down", 0, 1000, _shift),
    "rotation": Kind(
        "degrees of a rotation about the centre, clockwise or counter-clockwise", 0, 180, _rotation
    ),
    "scale": Kind("factor of the size, about the centre", 0.1, 10, _scale),
    "occlusion": Kind("share of the area that a grey square covers, at a random place", 0, 1, _occlusion),
}

_STRENGTHS: dict[str, tuple[float, ...]] = {
    "brightness": (-64, -32, 32, 64),
    "contrast": (0.25, 0.5, 1.5),
    "blur": (1, 2),
    "noise": (8, 16, 32),
    "jpeg": (30, 10),
    "shift": (2, 4, 8),
    "rotation": (15, 30),
    "scale": (0.75, 1.25),
    "occlusion": (0.1, 0.25),
}

#: The corruptions of the robustness table by name, weakest first within a kind; for 48 pixels a side.
CORRUPTIONS: dict[str, Corruption] = {
    corruption.name: corruption
    for kind, strengths in _STRENGTHS.items()
    for corruption in (Corruption(kind, strength) for strength in strengths)
}
