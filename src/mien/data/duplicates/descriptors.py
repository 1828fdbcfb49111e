"""Describe windows of images by their low frequencies, and sort them into cells where the alike meet."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_BLOCK = 2048


def blocks(count: int, size: int | None = None) -> Iterator[slice]:
    """Yield slices that cover `count` places, `size` at a time."""
    size = size or _BLOCK
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def waves(side: int) -> int:
    """Return how many frequencies along each axis tell windows of `side` pixels apart."""
    return int(np.clip(side // 5, 4, 8))


def describe(
    pixels: NDArray[np.uint8],
    chosen: NDArray[np.int64],
    window: tuple[int, int, int],
    *,
    mirrored: bool = False,
    count: int,
) -> NDArray[np.float32]:
    """Return the low frequencies of one window of each chosen image, of unit length: `(n, count² - 1)`.

    Frequencies are weighted by their own size, because faces, like all pictures, have about as much less
    in them, and without it a few of the lowest would decide alone. Two windows of one photograph have the
    same frequencies whatever their sides are.

    Args:
        pixels: `(m, s, s)`, 0..255.
        chosen: Which of them.
        window: Top, left and side of the window, in pixels, counted in the mirrored image where it is.
        mirrored: Mirror the images first.
        count: Frequencies along each axis.
    """
    top, left, side = window
    basis = np.cos(np.pi * np.outer(np.arange(count), np.arange(side) + 0.5) / side).astype(np.float32)
    basis[0] *= np.float32(0.5**0.5)
    weight = np.hypot(*np.mgrid[:count, :count]).astype(np.float32)
    vectors = np.empty((len(chosen), count * count - 1), np.float32)
    for part in blocks(len(chosen)):
        block = pixels[chosen[part]]
        if mirrored:
            block = block[:, :, ::-1]
        seen = block[:, top : top + side, left : left + side].astype(np.float32)
        spectrum = (basis @ seen @ basis.T) * weight
        vectors[part] = spectrum.reshape(len(seen), -1)[:, 1:]
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.maximum(length, np.finfo(np.float32).tiny)
    return vectors


def members(vectors: NDArray[np.float32], centres: NDArray[np.float32], most: int) -> list[NDArray[np.intp]]:
    """Return, for each centre, the vectors that have it among their `most` nearest."""
    most = min(most, len(centres))
    nearest = np.empty((len(vectors), most), np.int32)
    for part in blocks(len(vectors)):
        alike = vectors[part] @ centres.T
        nearest[part] = np.argpartition(alike, -most, axis=1)[:, -most:]
    order = np.argsort(nearest, axis=None, kind="stable")
    cuts = np.searchsorted(nearest.reshape(-1)[order], np.arange(1, len(centres)))
    return np.split(order // most, cuts)
