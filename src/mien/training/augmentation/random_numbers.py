"""Chance from a counter: each number is a hash of seed, epoch, index and its own place.

There is no generator with a state, so a face's numbers depend on nothing else in its batch.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from mien.errors import RecipeError

Words = npt.NDArray[np.uint64]

#: Each number's place in the hash. A new one takes the next place, so that old runs stay as they were.
PLACES = (
    "rotation",
    "zoom_x",
    "zoom_y",
    "shift_x",
    "shift_y",
    "flip",
    "brightness",
    "contrast",
    "erase",
    "area",
    "aspect",
    "left",
    "top",
    "noise",
    "grain",
    "grain_noise",
    "blur",
    "aspect_ratio",
    "gamma",
    "resolution",
)
_WEYL = np.uint64(0x9E3779B97F4A7C15)
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def key(value: int, what: str) -> np.uint64:
    """Return a seed or an epoch as the hash takes it.

    Raises:
        RecipeError: It is no integer in [0, 2**63).
    """
    if not 0 <= value < 2**63 or value != int(value):
        raise RecipeError(f"the {what} of augmentation is {value}; give an integer from 0 to 2**63 - 1")
    return np.uint64(value)


def words(indices: npt.NDArray[np.integer[Any]], seed: np.uint64, epoch: np.uint64) -> Words:
    """Hash (seed, epoch, index, place) to uint64 `(places, b)`.

    Source: the output function and increment of SplitMix64, Steele, Lea and Flood 2014,
    doi:10.1145/2660193.2660195; one round for each thing that goes in.
    """
    state = _mix(np.full(1, seed) + _WEYL)
    state = _mix((state ^ epoch) + _WEYL)
    state = _mix((state ^ indices.astype(np.uint64)) + _WEYL)
    places = np.arange(1, len(PLACES) + 1, dtype=np.uint64) * _WEYL
    return _mix(state + places[:, np.newaxis])


def random_bytes(seeds: Words, count: int) -> npt.NDArray[np.uint8]:
    """Return `(b, count)` bytes, all values equally likely, each row a function of its seed alone."""
    counters = np.arange(1, -(-count // 8) + 1, dtype=np.uint64) * _WEYL
    words = _mix(seeds[:, np.newaxis] + counters)
    # Little-endian by name, so that the bytes stand in the same order on every machine.
    return words.astype("<u8").view(np.uint8)[:, :count]


def _mix(words: Words) -> Words:
    for shift, factor in _MIX:
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words ^ (words >> np.uint64(31))
