"""Lay one image over another by an affine map, and say how alike their details are then."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.data.duplicates.descriptors import blocks

#: Steps of Gauss-Newton on every second pixel, which show what is worth more, and then on every pixel.
_FIRST, _THEN = 6, 10

#: How far below what is enough details may correlate after the first steps.
_HOPE = 0.2

#: Standard deviation, in 48ths of the side, of the blur before images are laid over each other, and of the
#: one that takes away what is coarser than details.
_FINE, _COARSE = 0.7, 3.0

#: Part of the side that is left out along the border of the overlap when details are compared.
_RIM = 1 / 24

#: Part of the image that has to overlap.
_OVERLAP = 0.25

#: A map that enlarges or shrinks a side by more has lost its way.
_SCALE = 2.5

#: Pairs that are laid over each other at a time.
_PAIRS = 256

_Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Aligned:
    """Pairs of images, one laid over the other.

    Args:
        likeness: `(m,)` float32, correlation of the details where both overlap, in [-1, 1]; -1 where the
            overlap is too small or the map has lost its way.
        maps: `(m, 2, 3)` float32: (x, y, 1) in pixels of the fixed image to (x, y) of the moving one.
    """

    likeness: _Floats
    maps: _Floats


def align(
    moving: NDArray[np.uint8], fixed: NDArray[np.uint8], start: _Floats, *, enough: float = 0.0
) -> Aligned:
    """Lay each moving image over its fixed one.

    Gauss-Newton on the affine map, with a gain and an offset of brightness, on images that are slightly
    blurred (Lucas and Kanade 1981; Baker and Matthews 2004, forward additive). What is compared is what stays
    when the coarse light and shade is taken away: two faces have that in common, one photograph cut twice has
    its details too.

    Args:
        moving: `(m, s, s)` uint8.
        fixed: `(m, s, s)` uint8.
        start: `(m, 2, 3)` maps to begin from, as `Aligned.maps` has them.
        enough: Correlation of details that is asked for; where it is far off after a few steps, a pair is
            left as it is.
    """
    likeness = np.empty(len(moving), np.float32)
    maps = start.astype(np.float32).copy()
    for part in blocks(len(moving), _PAIRS):
        one, other = _blur(moving[part], _FINE), _blur(fixed[part], _FINE)
        found = _fit(one, other, maps[part], _FIRST, 2)
        alike = _likeness(one, other, found)
        good = np.flatnonzero(alike > enough - _HOPE)
        if good.size:
            found[good] = _fit(one[good], other[good], found[good], _THEN, 1)
            alike[good] = _likeness(one[good], other[good], found[good])
        maps[part], likeness[part] = found, alike
    return Aligned(likeness, maps)


def _blur(images: NDArray[np.generic], width: float) -> _Floats:
    """Blur by a Gaussian; what lies outside of the images counts as 0."""
    size = images.shape[1]
    place = np.arange(size)
    weights = np.exp(-(((place[:, None] - place) / (width * size / 48)) ** 2) / 2)
    weights /= weights[size // 2].sum()
    kernel = weights.astype(np.float32)
    return np.asarray(kernel @ images.astype(np.float32) @ kernel)


def _fit(one: _Floats, other: _Floats, maps: _Floats, steps: int, stride: int) -> _Floats:
    size = one.shape[1]
    down, across = _grid(size, stride)
    # In units of half a side, so that the six parameters are of one size.
    half = np.float32(size / 2)
    x, y = across / half, down / half
    slopes = np.gradient(one, axis=(1, 2))
    target = other[:, ::stride, ::stride].reshape(len(other), -1)
    for _ in range(steps):
        (seen, right, below), inside = _warp((one, slopes[1], slopes[0]), maps, stride)
        columns = (right * x, right * y, right, below * x, below * y, below, seen, np.ones_like(seen))
        design = np.stack(columns, axis=2) * inside[:, :, None]
        square = design.transpose(0, 2, 1) @ design
        square += (
            np.float32(1e-3)
            * np.eye(8, dtype=np.float32)
            * np.trace(square, axis1=1, axis2=2)[:, None, None]
            / 8
        )
        solved = np.linalg.solve(square, design.transpose(0, 2, 1) @ (target * inside)[:, :, None])[:, :, 0]
        gain = solved[:, 6]
        step = solved[:, :6] / np.where(np.abs(gain) > 0.1, gain, np.inf)[:, None]
        step = np.clip(step, -2, 2).reshape(-1, 2, 3)
        step[:, :, :2] /= half
        maps = (maps + step).astype(np.float32)
    return maps


def _grid(size: int, stride: int) -> tuple[_Floats, _Floats]:
    """Rows and columns of every pixel, or of every `stride`-th along each axis."""
    down, across = np.mgrid[:size:stride, :size:stride].astype(np.float32).reshape(2, -1)
    return down, across


def _warp(
    images: tuple[_Floats, ...], maps: _Floats, stride: int = 1
) -> tuple[list[_Floats], NDArray[np.bool_]]:
    """Sample stacks of images `(m, s, s)` where the maps say: `(m, p)` each, and which of it is inside."""
    count, size, _ = images[0].shape
    down, across = _grid(size, stride)
    x = maps[:, 0, :1] * across + maps[:, 0, 1:2] * down + maps[:, 0, 2:]
    y = maps[:, 1, :1] * across + maps[:, 1, 1:2] * down + maps[:, 1, 2:]
    inside = (x >= 0) & (x <= size - 1) & (y >= 0) & (y <= size - 1)
    x, y = np.clip(x, 0, size - 1.001), np.clip(y, 0, size - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    x -= left
    y -= top
    corner = top * size + left + np.arange(count, dtype=np.int32)[:, None] * (size * size)
    sampled = []
    for stack in images:
        flat = stack.reshape(-1)
        upper = flat.take(corner) * (1 - x) + flat.take(corner + 1) * x
        lower = flat.take(corner + size) * (1 - x) + flat.take(corner + (size + 1)) * x
        sampled.append(np.asarray(upper * (1 - y) + lower * y))
    return sampled, inside


def _likeness(one: _Floats, other: _Floats, maps: _Floats) -> _Floats:
    size = one.shape[1]
    (seen,), inside = _warp((one,), maps)
    mask = inside.reshape(one.shape)
    held = mask.astype(np.float32)
    reach = np.maximum(_blur(held, _COARSE), 1e-3)
    details = []
    for image in (seen.reshape(one.shape), other):
        details.append(image - _blur(image * held, _COARSE) / reach)
    mask = _shrunk(mask, max(1, round(_RIM * size)))
    number = np.maximum(mask.sum(axis=(1, 2)), 1)
    a, b = (
        np.where(mask, detail - ((detail * mask).sum(axis=(1, 2)) / number)[:, None, None], 0)
        for detail in details
    )
    spread = np.sqrt((a * a).sum(axis=(1, 2)) * (b * b).sum(axis=(1, 2)))
    alike = (a * b).sum(axis=(1, 2)) / np.maximum(spread, 1e-3)
    area = np.linalg.det(maps[:, :, :2].astype(np.float64))
    kept = (number >= _OVERLAP * size * size) & (np.abs(np.log(np.maximum(area, 1e-9))) < 2 * np.log(_SCALE))
    return np.where(kept, alike, -1).astype(np.float32)


def _shrunk(mask: NDArray[np.bool_], rim: int) -> NDArray[np.bool_]:
    """Take `rim` pixels away along the border of each mask, which counts as set outside of the image."""
    kept = mask.copy()
    size = mask.shape[1]
    for shift in range(1, rim + 1):
        for axis in (1, 2):
            low = [slice(None)] * 3
            high = [slice(None)] * 3
            low[axis], high[axis] = slice(0, size - shift), slice(shift, size)
            here = kept.copy()
            here[tuple(low)] &= mask[tuple(high)]
            here[tuple(high)] &= mask[tuple(low)]
            kept = here
    # What lies along the images' own border is compared with zeros by the blurs.
    kept[:, :rim] = kept[:, -rim:] = kept[:, :, :rim] = kept[:, :, -rim:] = False
    return kept
