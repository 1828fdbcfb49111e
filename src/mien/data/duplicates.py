"""Find exact and near duplicates.

found = duplicates.find(images)            # (n, s, s, 1) uint8
found.first                                # (n,): the first image with the same pixels
found.pairs, found.similarity              # near duplicates, by the first of each
found.again(train, test)                   # which of train are in test again
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.data import image_cache
from mien.errors import DataError

#: Correlation above which two images are near duplicates, at the best shift, upright or mirrored.
NEAR = 0.98

#: Standard deviation in grey levels below which an image shows too little to compare.
FLAT = 6.0

#: Correlation of descriptors above which a pair is verified; docs/duplicates.md explains the choice.
_LIKELY = 0.78

#: Images up to which every pair of descriptors is compared.
_FEW = 4096

#: Number of cells that an image is in, and in which its shifted and mirrored views are looked for.
_HOMES, _VISITS = 3, 8

#: Most likely partners of an image in one cell and view: the most similar ones, and the first ones, which
#: link a crowd. Faces have few partners (docs/duplicates.md), frames of a film have all the others.
_BEST, _FIRST = 24, 8

#: Factor by which re-encoding increases the distance of a correlation from 1.
_NOISY = 3.0

#: Percent of the work that finds likely pairs; the rest verifies them.
_SEARCH = 60

_BLOCK = 2048
_SMALLEST = 12

_Progress = Callable[[int, int], None] | None
Pixels = NDArray[np.uint8]
Whole = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Duplicates:
    """The exact and near duplicates among n images.

    Args:
        first: `(n,)` int64, index of the first image with the same pixels, which may be its own.
        pairs: `(m, 2)` int64, ascending: near duplicates, each the `first` of its exact duplicates, the
            smaller index before the larger.
        similarity: `(m,)` float32, correlation of each pair at its best shift; just above the threshold for
            pairs that are near duplicates only if smoothed.
        mirrored: `(m,)` bool, whether one is the other's mirror image.
    """

    first: Whole
    pairs: Whole
    similarity: Floats
    mirrored: Bools

    def again(self, here: NDArray[np.intp], there: NDArray[np.intp]) -> tuple[Bools, Bools]:
        """Return which images have duplicates among others.

        Args:
            here: `(a,)` indices of images.
            there: `(b,)` indices of the images among which duplicates count.

        Returns:
            `(a,)` whether one of `there` is an exact duplicate; `(a,)` whether one is a near duplicate and
            none an exact one.
        """
        held = np.zeros(len(self.first), bool)
        held[self.first[there]] = True
        near = np.zeros(len(self.first), bool)
        for one, other in ((0, 1), (1, 0)):
            near[self.pairs[held[self.pairs[:, other]], one]] = True
        asked = self.first[here]
        return held[asked], near[asked] & ~held[asked]

    def groups(self, *, near: bool = True) -> tuple[Whole, ...]:
        """Return the sets of two or more exact duplicates or, with `near`, of images linked by near pairs.

        Each set is ascending, and the sets are in the order of their first images.
        """
        root = self.first.copy()
        for one, other in self.pairs if near else ():
            a, b = _root(root, int(one)), _root(root, int(other))
            root[max(a, b)] = min(a, b)
        # Parents come before children, so one pass finds every root.
        for index in range(len(root)):
            root[index] = root[root[index]]
        order = np.argsort(root, kind="stable")
        cuts = np.flatnonzero(np.diff(root[order])) + 1
        return tuple(group for group in np.split(order, cuts) if len(group) > 1)


def find(
    images: Pixels,
    *,
    near: float = NEAR,
    shift: int | None = None,
    flat: float = FLAT,
    seed: int = 0,
    progress: _Progress = None,
) -> Duplicates:
    """Find exact and near duplicates.

    Two images are near duplicates if their pixels correlate above `near` where they overlap, at the best
    shift of up to `shift` pixels along each axis, upright or mirrored; or above (1 + `near`) / 2 if both are
    smoothed, which removes what re-encoding adds. Brightness and contrast do not change a correlation. Images
    whose grey levels deviate by less than `flat` can be exact duplicates only.

    Not every pair is compared: each image's low frequencies, as a vector on the sphere, put it into a few of
    about sqrt(n) cells, and only images that share a cell are compared. The work grows with n ** 1.5.

    Args:
        images: `(n, s, s, 1)`, 0..255, s at least 12.
        near: Correlation in (0, 1).
        shift: Pixels, from 0 to a 24th of s; None for the largest, which is 2 at 48.
        flat: Grey levels.
        seed: Selects the images at the centres of the cells.
        progress: Called with (done, total) in percent.

    Returns:
        What was found; up to 4,096 distinct images every pair has been looked at, but in crowds: of an image
        that is like more than 32 others in a cell, the 24 most alike and the first 8.

    Raises:
        DataError: The images have another shape, or a setting is out of its range.
    """
    check(images, near)
    shift = _shift(images.shape[1], shift)
    first = _firsts(images)
    pixels = images[:, :, :, 0]
    distinct = np.flatnonzero(first == np.arange(len(first)))
    told = distinct[_deviation(pixels, distinct) >= flat]
    likely = _likely(pixels, told, shift, seed, progress)
    pairs, similarity, mirrored = _verified(pixels, likely, near, shift, flat, progress)
    if progress:
        progress(100, 100)
    return Duplicates(first, pairs, similarity, mirrored)


def check(images: Pixels, near: float, smallest: int = _SMALLEST) -> None:
    """Refuse what cannot be searched."""
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 1 or not len(images):
        raise DataError(f"the images have the shape {images.shape}; give (n, s, s, 1), one image or more")
    if images.dtype != np.uint8:
        raise DataError(f"the images are {images.dtype}; give uint8, 0..255")
    size = images.shape[1]
    if size < smallest:
        raise DataError(
            f"the images have {size} pixels a side; the search for duplicates needs at least "
            f"{smallest} pixels"
        )
    if not 0 < near < 1:
        raise DataError(f"near is {near}; it must be a correlation between 0 and 1, such as {NEAR}")


def _shift(size: int, shift: int | None) -> int:
    shift = size // 24 if shift is None else shift
    if not 0 <= shift <= size // 24:
        raise DataError(f"shift is {shift} pixels; it must be from 0 to {size // 24}, a 24th of the side")
    return shift


def _firsts(images: Pixels) -> Whole:
    seen: dict[bytes, int] = {}
    found = np.empty(len(images), np.int64)
    # A digest of 16 bytes in place of the pixels keeps the table small; 2**64 images would be needed before
    # two different ones are expected to share one.
    for index, key in enumerate(image_cache.digests(images)):
        found[index] = seen.setdefault(key, index)
    return found


def _deviation(pixels: Pixels, chosen: Whole) -> NDArray[np.float64]:
    deviation = np.empty(len(chosen))
    for part in blocks(len(chosen)):
        deviation[part] = pixels[chosen[part]].std(axis=(1, 2))
        image_cache.release(pixels)
    return deviation


def _likely(pixels: Pixels, chosen: Whole, shift: int, seed: int, progress: _Progress) -> Whole:
    """Return pairs of `chosen` images that may be near duplicates.

    Every view of an image is a vector: its centre, unshifted and shifted by half of `shift`, upright and
    mirrored. For every shift of up to `shift` between two copies, some view of one is at most half of `shift`
    away from the other's centre, along each axis. The pairs are as in `_Pairs.all`.
    """
    if len(chosen) < 2:
        return np.empty((0, 3), np.int64)
    half = (shift + 1) // 2
    # One vertical direction is enough: the other way round is the same pair with its images exchanged.
    views = [(half, across, mirrored) for across in sorted({-half, half}) for mirrored in (False, True)]
    side = pixels.shape[1] - 2 * shift
    count = waves(side)
    middle = describe(pixels, chosen, (shift, shift, side), count=count)
    looked = [
        describe(pixels, chosen, (shift + down, shift + across, side), mirrored=mirrored, count=count)
        for down, across, mirrored in views
    ]
    cells = 1 if len(chosen) <= _FEW else round(len(chosen) ** 0.5)
    centres = middle[np.random.default_rng(seed).choice(len(chosen), cells, replace=False)]
    homes = members(middle, centres, _HOMES)
    visits = [members(vectors, centres, _VISITS) for vectors in looked]
    met = _Pairs(len(pixels))
    for cell in range(cells):
        here = homes[cell]
        for (_, _, mirrored), vectors, guests in zip(views, looked, visits, strict=True):
            visitors = guests[cell]
            for part in blocks(len(visitors)):
                one, other = _partners(vectors[visitors[part]] @ middle[here].T)
                met.add(chosen[visitors[part][one]], chosen[here[other]], mirrored)
        if progress:
            progress(_SEARCH * (cell + 1) // cells, 100)
    return met.all()


def _partners(alike: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the likely pairs, those of a crowded row bounded."""
    likely = alike > _LIKELY
    crowded = np.flatnonzero(likely.sum(axis=1) > _BEST + _FIRST)
    if crowded.size:
        kept = likely[crowded] & (likely[crowded].cumsum(axis=1) <= _FIRST)
        best = np.argpartition(alike[crowded], -_BEST, axis=1)[:, -_BEST:]
        np.put_along_axis(kept, best, True, axis=1)
        likely[crowded] = kept
    one, other = np.nonzero(likely)
    return one, other


class _Pairs:
    """Pairs of images, each once, as one number each: the same pair meets in many cells."""

    def __init__(self, images: int) -> None:
        self._images = images
        self._known = np.empty(0, np.int64)
        self._new: list[Whole] = []
        self._count = 0

    def add(self, one: Whole, other: Whole, mirrored: bool) -> None:
        apart = one != other
        low, high = np.minimum(one, other)[apart], np.maximum(one, other)[apart]
        self._new.append((low * self._images + high) * 2 + mirrored)
        self._count += len(low)
        # In proportion to what is known, so that sorting again and again costs little.
        if self._count > max(_BLOCK * _BLOCK, len(self._known)):
            self._settle()

    def all(self) -> Whole:
        """Return `(m, 3)`: smaller index, larger index, mirrored 0 or 1; ascending."""
        self._settle()
        pair, mirrored = np.divmod(self._known, 2)
        return np.stack([*np.divmod(pair, self._images), mirrored], axis=1)

    def _settle(self) -> None:
        self._known = np.unique(np.concatenate([self._known, *self._new]))
        self._new, self._count = [], 0


def _verified(
    pixels: Pixels, likely: Whole, near: float, shift: int, flat: float, progress: _Progress
) -> tuple[Whole, Floats, Bools]:
    """Those of the likely pairs that are near, each once, with its correlation and whether it is mirrored."""
    alike = np.empty(len(likely), np.float32)
    pages = image_cache.Pages(pixels)
    for part in blocks(len(likely), 256):
        one = pixels[likely[part, 0]].astype(np.float32)
        other = pixels[likely[part, 1]].astype(np.float32)
        pages.read(2 * len(one))
        turned = likely[part, 2] == 1
        other[turned] = other[turned, :, ::-1]
        best = _best(one, other, shift, flat)
        unsure = np.flatnonzero((best <= near) & (best > 1 - _NOISY * (1 - near)))
        smooth = _best(_smooth(one[unsure]), _smooth(other[unsure]), shift, flat)
        # Half the distance to 1, because two different images grow more alike too when they are smoothed.
        best[unsure[smooth > (1 + near) / 2]] = np.nextafter(np.float32(near), np.float32(1))
        alike[part] = best
        if progress:
            progress(_SEARCH + (100 - _SEARCH) * part.stop // len(likely), 100)
    kept = np.flatnonzero(alike > near)
    # The better of upright and mirrored comes first, and unique keeps the first.
    kept = kept[np.argsort(-alike[kept], kind="stable")]
    pairs, place = np.unique(likely[kept, :2], axis=0, return_index=True)
    kept = kept[place]
    return pairs, alike[kept], likely[kept, 2] == 1


def _best(one: Floats, other: Floats, shift: int, flat: float) -> Floats:
    """Return the correlation `(m,)` in [-1, 1] of each pair of images `(m, s, s)` at its best shift.

    If the overlap is flat, noise would decide, and the correlation counts as 0.
    """
    one = one - one.mean(axis=(1, 2), keepdims=True)
    other = other - other.mean(axis=(1, 2), keepdims=True)
    size = one.shape[1]
    shifts = range(-shift, shift + 1)
    # Row k is 1 where an image overlaps with an image shifted by the k-th of `shifts`.
    inside = np.zeros((len(shifts), size), np.float32)
    for row, offset in zip(inside, shifts, strict=True):
        row[_overlap(offset, size)] = 1
    # The sums over every overlap, as two small products instead of 25 sums over rectangles.
    a, aa, b, bb = (inside @ values @ inside.T for values in (one, one * one, other, other * other))
    best = np.full(len(one), -1.0, np.float32)
    for i, down in enumerate(shifts):
        for j, across in enumerate(shifts):
            count = (size - abs(down)) * (size - abs(across))
            here = one[:, _overlap(-down, size), _overlap(-across, size)]
            there = other[:, _overlap(down, size), _overlap(across, size)]
            ab = np.einsum("nij,nij->n", here, there)
            mean_a, mean_b = a[:, -1 - i, -1 - j] / count, b[:, i, j] / count
            spread_a = aa[:, -1 - i, -1 - j] / count - mean_a**2
            spread_b = bb[:, i, j] / count - mean_b**2
            told = np.minimum(spread_a, spread_b) > (flat / 2) ** 2
            product = np.where(told, spread_a * spread_b, 1)
            alike = np.where(told, (ab / count - mean_a * mean_b) / np.sqrt(product), 0)
            np.maximum(best, alike.astype(np.float32), out=best)
    return best


def _overlap(offset: int, size: int) -> slice:
    return slice(max(0, offset), size + min(0, offset))


def _smooth(images: Floats) -> Floats:
    """Weigh each pixel with its neighbours by 1 2 1, down and across; the border falls away."""
    down = images[:, :-2] + 2 * images[:, 1:-1] + images[:, 2:]
    across = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    return np.asarray(across / np.float32(16))


def _root(parents: Whole, index: int) -> int:
    while parents[index] != index:
        parents[index] = index = int(parents[parents[index]])
    return index


def blocks(count: int, size: int | None = None) -> Iterator[slice]:
    """Yield slices that cover `count` places, `size` at a time."""
    size = size or _BLOCK
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def waves(side: int) -> int:
    """Return how many frequencies along each axis tell windows of `side` pixels apart."""
    return int(np.clip(side // 5, 4, 8))


def describe(
    pixels: Pixels, chosen: Whole, window: tuple[int, int, int], *, mirrored: bool = False, count: int
) -> Floats:
    """Return the low frequencies of one window of each chosen image, of unit length: `(n, count² - 1)`.

    Frequencies are weighted by their own size, because faces, like all pictures, have about as much less
    in them, and without it a few of the lowest would decide alone. Two windows of one photograph have the
    same frequencies for all sides.

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
        image_cache.release(pixels)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.maximum(length, np.finfo(np.float32).tiny)
    return vectors


def members(vectors: Floats, centres: Floats, most: int) -> list[NDArray[np.intp]]:
    """Return, for each centre, the vectors that have it among their `most` nearest."""
    most = min(most, len(centres))
    nearest = np.empty((len(vectors), most), np.int32)
    for part in blocks(len(vectors)):
        alike = vectors[part] @ centres.T
        nearest[part] = np.argpartition(alike, -most, axis=1)[:, -most:]
    order = np.argsort(nearest, axis=None, kind="stable")
    cuts = np.searchsorted(nearest.reshape(-1)[order], np.arange(1, len(centres)))
    return np.split(order // most, cuts)
