"""What happens to each face, drawn from a recipe's settings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.errors import RecipeError
from mien.training.augmentation.random_numbers import PLACES, Words, key, words
from mien.training.recipes import Augment

Floats = npt.NDArray[np.float64]

_LARGEST_ASPECT = 1 / 0.3


@dataclass(frozen=True)
class Changes:
    """What happens to each of b faces, in this order.

    Args:
        rotation: Degrees `(b,)`; positive turns the face clockwise as one looks at it.
        zoom: Factors `(b, 2)` for x and y, in Keras' sense: a pixel of the result stands for that many of
            the original, so that 1.1 shows the face smaller, by 1 / 1.1, and 0.9 larger.
        flip: Booleans `(b,)`: mirrored left to right.
        shift: Pixels `(b, 2)` in the result; positive x moves the face right, positive y down.
        blur: Standard deviation `(b,)` of a Gaussian, in pixels; 0 for none.
        resolution: Share of the side `(b,)`, above 0, that the face is shrunk to before it is enlarged again;
            1 leaves it as it is.
        gamma: Exponents `(b,)` of the grey levels in [0, 1]; 1 changes nothing.
        contrast: Factors `(b,)` about the face's own mean.
        brightness: Grey levels `(b,)` to add.
        box: Rectangles `(b, 4)` to erase: left, top, width, height in pixels; width 0 for none.
        noise: One uint64 `(b,)` a face, from which the grey levels inside the rectangle follow.
        grain: Standard deviation `(b,)`, in grey levels, of the noise over the whole face.
        grain_noise: One uint64 `(b,)` a face, from which that noise follows.
    """

    rotation: Floats
    zoom: Floats
    flip: npt.NDArray[np.bool_]
    shift: Floats
    blur: Floats
    resolution: Floats
    gamma: Floats
    contrast: Floats
    brightness: Floats
    box: npt.NDArray[np.int64]
    noise: Words
    grain: Floats
    grain_noise: Words


def draw(
    indices: npt.NDArray[np.integer[Any]], settings: Augment, *, size: int, seed: int, epoch: int
) -> Changes:
    """Choose what happens to each image of `indices` in `epoch`.

    Every number has its own place in the hash, so that turning one setting on leaves the others' draws as
    they were.

    Args:
        indices: Integers `(b,)`, at least 0.
        settings: Ranges and probabilities.
        size: Side of the images in pixels.
        seed: The run's, at least 0.
        epoch: Counted from any start, at least 0.

    Raises:
        RecipeError: `settings.erase_area` has its smallest share above its largest, or `seed` or `epoch`
            is no integer in [0, 2**63).
    """
    smallest, largest = settings.erase_area
    if smallest > largest:
        raise RecipeError(
            f"augment.erase_area is ({smallest:g}, {largest:g}); the smallest share stands first, "
            f"so write ({largest:g}, {smallest:g})"
        )
    hashed = words(indices, key(seed, "seed"), key(epoch, "epoch"))
    # The upper 53 bits make a float in [0, 1) with nothing rounded, the same everywhere.
    chances = (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    chance = dict(zip(PLACES, chances, strict=True))
    even = dict(zip(PLACES, 2.0 * chances - 1.0, strict=True))
    zoom_y = even["zoom_x" if settings.zoom_together else "zoom_y"]
    scale = 1.0 + settings.zoom * np.stack([even["zoom_x"], zoom_y], axis=1)
    ratio = 1.0 + settings.aspect * even["aspect_ratio"]
    return Changes(
        rotation=settings.rotation * even["rotation"],
        zoom=scale * np.stack([ratio, 1.0 / ratio], axis=1),
        flip=(chance["flip"] < 0.5) & settings.flip,
        shift=settings.shift * size * np.stack([even["shift_x"], even["shift_y"]], axis=1),
        blur=settings.blur * size * np.maximum(even["blur"], 0.0),
        resolution=1.0 - settings.resolution * np.maximum(even["resolution"], 0.0),
        # Rounded, because another processor's exp may differ in the last bit.
        gamma=np.round(np.exp(settings.gamma * even["gamma"]), 9),
        contrast=1.0 + settings.contrast * even["contrast"],
        brightness=255.0 * settings.brightness * even["brightness"],
        box=_boxes(chance, settings, size),
        noise=hashed[PLACES.index("noise")],
        grain=255.0 * settings.noise * chance["grain"],
        grain_noise=hashed[PLACES.index("grain_noise")],
    )


def _boxes(chance: dict[str, Floats], settings: Augment, size: int) -> npt.NDArray[np.int64]:
    """Choose rectangles `(b, 4)`: left, top, width, height; width 0 where nothing is erased.

    The aspect, height by width, is spread evenly on a logarithmic scale, so that tall is as frequent as
    wide, and no further than the image is: a large share must be nearly square.
    """
    count = len(chance["erase"])
    if not settings.erase:
        return np.zeros((count, 4), np.int64)
    smallest, largest = settings.erase_area
    share = np.maximum(smallest + (largest - smallest) * chance["area"], 1.0 / size**2)
    bound = np.log(np.minimum(_LARGEST_ASPECT, 1.0 / share))
    # Rounded, because another processor's exp or log may differ in the last bit.
    aspect = np.round(np.exp(bound * (2.0 * chance["aspect"] - 1.0)), 9)
    height = np.clip(np.rint(size * np.sqrt(share * aspect)), 1, size)
    width = np.clip(np.rint(size * size * share / height), 1, size)
    left = np.floor(chance["left"] * (size - width + 1))
    top = np.floor(chance["top"] * (size - height + 1))
    boxes = np.stack([left, top, width, height], axis=1)
    return (boxes * (chance["erase"] < settings.erase)[:, np.newaxis]).astype(np.int64)
