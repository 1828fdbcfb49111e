"""Find images that show the same photograph as another, cropped larger, smaller or shifted.

found = recrops.find(test, train)
found.one, found.other, found.similarity     # indices into test, indices into train
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.data.duplicates import FLAT, blocks, check, describe, members
from mien.errors import DataError

#: Correlation of details above which two images show one photograph; docs/duplicates.md explains the choice.
SAME = 0.8

#: Pixels a side below which an image shows too little to align.
SMALLEST = 24

#: Pixels a side to which larger images are reduced.
_LARGEST = 48

#: Correlation of descriptors above which a pair is aligned.
_LIKELY = 0.78

#: Side of the central window that describes an image, in 48ths of its side, each with the sides of the other
#: image's windows that it is compared with: scales from 1 / 1.4 to 1.6.
_SIDES = {40: (28, 30, 32, 34, 36, 38, 40, 42, 44, 46, 48), 30: (36, 38, 40, 42, 44, 46, 48)}

#: Largest distance of a window from the centre, and distance between windows, in 48ths.
_FAR, _STEP = 6, 2

#: Frequencies along each axis.
_WAVES = 8

#: Number of cells that an image is in, and in which another image's windows look for it.
_HOMES, _VISITS = 3, 8

#: Number of images up to which there is one cell.
_FEW = 2048

#: Images whose windows are compared at a time, and pairs that are aligned at a time.
_CHUNK = 1024

#: Percent of the work that finds likely pairs; the rest aligns them.
_SEARCH = 60

_Progress = Callable[[int, int], None] | None
Pixels = NDArray[np.uint8]
Whole = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Recrops:
    """Pairs of images that show one photograph.

    Args:
        one: `(m,)` int64, indices into the first images.
        other: `(m,)` int64, indices into the images that they were compared with; pairs are ascending.
        similarity: `(m,)` float32, correlation of the details, above the threshold.
        mirrored: `(m,)` bool, whether one is mirrored.
    """

    one: Whole
    other: Whole
    similarity: NDArray[np.float32]
    mirrored: Bools


@dataclass(frozen=True)
class _View:
    """A window of one image that is compared with the centre of another, in pixels."""

    home: int
    top: int
    left: int
    side: int

    def map(self, size: int) -> NDArray[np.float32]:
        """Return the map from the other image's pixels to this one's, if both windows show the same."""
        scale = self.side / self.home
        begin = (size - self.home) // 2
        left, top = (edge + (0.5 - begin) * scale - 0.5 for edge in (self.left, self.top))
        return np.array([[scale, 0, left], [0, scale, top]], np.float32)


def find(
    images: Pixels,
    among: Pixels,
    *,
    same: float = SAME,
    flat: float = FLAT,
    seed: int = 0,
    progress: _Progress = None,
) -> Recrops:
    """Find images that show the same photograph as another image in a different crop.

    Windows of each image, upright and mirrored, are compared with the centre of each other image by their low
    frequencies. Similar pairs are aligned by an affine map. They show one photograph if their details
    correlate above `same` where they overlap, on at least a quarter of the image.

    The work grows with the number of `images` times the square root of `among`.

    Args:
        images: `(n, s, s, 1)` uint8, 0..255, s at least 24; the smaller of the two sets.
        among: `(m, s, s, 1)` uint8, the images to compare with.
        same: Correlation in (0, 1).
        flat: Standard deviation in grey levels below which an image shows too little to compare.
        seed: Selects the images at the centres of the cells.
        progress: Called with (done, total) in percent.

    Returns:
        The pairs; exact duplicates are among them.

    Raises:
        DataError: The images have another shape, or a setting is out of range.
    """
    for side in (images, among):
        check(side, same, SMALLEST)
    size = images.shape[1]
    if among.shape[1] != size:
        raise DataError(f"the images have {size} and {among.shape[1]} pixels a side; load both in one size")
    views = _views(min(size, _LARGEST))
    likely = _Likely(len(among))
    asked, there = (np.flatnonzero(side.std(axis=(1, 2, 3)) >= flat) for side in (images, among))
    moving, fixed = _reduced(images[:, :, :, 0]), _reduced(among[:, :, :, 0])
    if len(there):
        _compare(likely, (moving, asked), (fixed, there), views, seed, progress)
    one, other, view, mirrored = likely.all()
    similarity = np.empty(len(one), np.float32)
    for part in blocks(len(one), _CHUNK):
        turned = moving[one[part]]
        turned[mirrored[part]] = turned[mirrored[part], :, ::-1]
        start = np.stack([views[number].map(moving.shape[1]) for number in view[part].tolist()])
        similarity[part] = align(turned, fixed[other[part]], start, enough=same).similarity
        if progress:
            progress(_SEARCH + (100 - _SEARCH) * part.stop // len(one), 100)
    if progress:
        progress(100, 100)
    kept = np.flatnonzero(similarity > same)
    return Recrops(one[kept], other[kept], similarity[kept], mirrored[kept])


def _reduced(pixels: Pixels) -> Pixels:
    """Return images of at most 48 pixels a side, which suffice and are much faster."""
    if pixels.shape[1] <= _LARGEST:
        return pixels
    box = Image.Resampling.BOX
    return np.stack([np.asarray(Image.fromarray(each).resize((_LARGEST, _LARGEST), box)) for each in pixels])


def _views(size: int) -> tuple[_View, ...]:
    """Return every window to compare, those of one side together."""

    def scaled(length: int) -> int:
        return round(length * size / 48)

    views = []
    for home, sides in _SIDES.items():
        for side in sides:
            room = 48 - side
            offsets = range(room % (2 * _STEP) // 2, room + 1, _STEP)
            near = [scaled(offset) for offset in offsets if abs(offset - room / 2) <= _FAR]
            views += [_View(scaled(home), top, left, scaled(side)) for top in near for left in near]
    return tuple(views)


def _compare(
    likely: "_Likely",
    mine: tuple[Pixels, Whole],
    theirs: tuple[Pixels, Whole],
    views: tuple[_View, ...],
    seed: int,
    progress: _Progress,
) -> None:
    """Add the likely pairs of the chosen images to `likely`."""
    pixels, asked = mine
    others, there = theirs
    size = pixels.shape[1]
    cells = 1 if len(there) <= _FEW else round(len(there) ** 0.5)
    chosen = np.random.default_rng(seed).choice(len(there), cells, replace=False)
    kinds = sorted({(view.home, view.side) for view in views})
    steps = [(kind, part) for kind in kinds for part in blocks(len(asked), _CHUNK)]
    home = 0
    for done, (kind, part) in enumerate(steps, 1):
        if kind[0] != home:
            home = kind[0]
            begin = (size - home) // 2
            middle = describe(others, there, (begin, begin, home), count=_WAVES)
            centres = middle[chosen]
            homes = members(middle, centres, _HOMES)
        numbers = [number for number, view in enumerate(views) if (view.home, view.side) == kind]
        windows = [(number, mirrored) for number in numbers for mirrored in (False, True)]
        vectors = np.concatenate(
            [
                describe(
                    pixels,
                    asked[part],
                    (views[number].top, views[number].left, views[number].side),
                    mirrored=mirrored,
                    count=_WAVES,
                )
                for number, mirrored in windows
            ]
        )
        codes = np.array([number * 2 + mirrored for number, mirrored in windows])
        for here, guests in zip(homes, members(vectors, centres, _VISITS), strict=True):
            for few in blocks(len(guests)):
                alike = vectors[guests[few]] @ middle[here].T
                found = np.flatnonzero(alike.reshape(-1) > _LIKELY)
                row, column = np.divmod(found, len(here))
                window, place = np.divmod(guests[few][row], part.stop - part.start)
                likely.add(asked[part][place], there[here[column]], alike[row, column], codes[window])
        if progress:
            progress(_SEARCH * done // len(steps), 100)


class _Likely:
    """Likely pairs, each with its best view."""

    def __init__(self, others: int) -> None:
        self._others = others
        self._pair: list[Whole] = []
        self._alike: list[NDArray[np.float32]] = []
        self._code: list[Whole] = []

    def add(self, one: Whole, other: Whole, alike: NDArray[np.float32], code: Whole) -> None:
        self._pair.append(one * self._others + other)
        self._alike.append(alike)
        self._code.append(code)

    def all(self) -> tuple[Whole, Whole, Whole, Bools]:
        """Return indices of both images, ascending, the number of the view, and whether it is mirrored."""
        pair = np.concatenate([np.empty(0, np.int64), *self._pair])
        alike = np.concatenate([np.empty(0, np.float32), *self._alike])
        code = np.concatenate([np.empty(0, np.int64), *self._code])
        # The best view of each pair comes first, and unique keeps the first.
        order = np.lexsort((code, -alike, pair))
        known, place = np.unique(pair[order], return_index=True)
        view, mirrored = np.divmod(code[order][place], 2)
        one, other = np.divmod(known, self._others)
        return one, other, view, mirrored == 1


#: Gauss-Newton steps on every second pixel, which select pairs, and then on every pixel.
_FIRST, _THEN = 6, 10

#: How far below the threshold details may correlate after the first steps.
_HOPE = 0.2

#: Standard deviation, in 48ths of the side, of the blur before the alignment, and of the blur that removes
#: coarse structure.
_FINE, _COARSE = 0.7, 3.0

#: Share of the side that is ignored along the border of the overlap.
_RIM = 1 / 24

#: Share of the image that must overlap.
_OVERLAP = 0.25

#: Largest factor by which a valid map enlarges or shrinks a side.
_SCALE = 2.5

#: Pairs that are aligned at a time.
_PAIRS = 256

_Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Aligned:
    """Aligned pairs of images.

    Args:
        similarity: `(m,)` float32, correlation of the details where both overlap, in [-1, 1]; -1 if the
            overlap is too small or the map is not valid.
        maps: `(m, 2, 3)` float32: (x, y, 1) in pixels of the fixed image to (x, y) of the moving one.
    """

    similarity: _Floats
    maps: _Floats


def align(moving: Pixels, fixed: Pixels, start: _Floats, *, enough: float = 0.0) -> Aligned:
    """Align each moving image with its fixed one.

    Gauss-Newton on the affine map, with a gain and an offset of brightness, on slightly blurred images (Lucas
    and Kanade 1981; Baker and Matthews 2004, forward additive). The comparison ignores coarse light and
    shade, which any two faces share; two crops of one photograph share details too.

    Args:
        moving: `(m, s, s)` uint8.
        fixed: `(m, s, s)` uint8.
        start: `(m, 2, 3)` initial maps, like `Aligned.maps`.
        enough: Required correlation of details; a pair that is far below it after a few steps is given up.
    """
    similarity = np.empty(len(moving), np.float32)
    maps = start.astype(np.float32).copy()
    for part in blocks(len(moving), _PAIRS):
        one, other = _blur(moving[part], _FINE), _blur(fixed[part], _FINE)
        found = _fit(one, other, maps[part], _FIRST, 2)
        alike = _similarity(one, other, found)
        good = np.flatnonzero(alike > enough - _HOPE)
        if good.size:
            found[good] = _fit(one[good], other[good], found[good], _THEN, 1)
            alike[good] = _similarity(one[good], other[good], found[good])
        maps[part], similarity[part] = found, alike
    return Aligned(similarity, maps)


def _blur(images: NDArray[np.generic], width: float) -> _Floats:
    """Blur with a Gaussian; pixels outside the images count as 0."""
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
    ridge = np.float32(1e-3) * np.eye(8, dtype=np.float32)
    for _ in range(steps):
        (seen, right, below), inside = _warp((one, slopes[1], slopes[0]), maps, stride)
        columns = (right * x, right * y, right, below * x, below * y, below, seen, np.ones_like(seen))
        design = np.stack(columns, axis=2) * inside[:, :, None]
        square = design.transpose(0, 2, 1) @ design
        square += ridge * np.trace(square, axis1=1, axis2=2)[:, None, None] / 8
        solved = np.linalg.solve(square, design.transpose(0, 2, 1) @ (target * inside)[:, :, None])[:, :, 0]
        gain = solved[:, 6]
        step = solved[:, :6] / np.where(np.abs(gain) > 0.1, gain, np.inf)[:, None]
        step = np.clip(step, -2, 2).reshape(-1, 2, 3)
        step[:, :, :2] /= half
        maps = (maps + step).astype(np.float32)
    return maps


def _grid(size: int, stride: int) -> tuple[_Floats, _Floats]:
    """Return rows and columns of every pixel, or of every `stride`-th along each axis."""
    down, across = np.mgrid[:size:stride, :size:stride].astype(np.float32).reshape(2, -1)
    return down, across


def _warp(images: tuple[_Floats, ...], maps: _Floats, stride: int = 1) -> tuple[list[_Floats], Bools]:
    """Sample images `(m, s, s)` at the mapped pixels: return `(m, p)` each, and which are inside."""
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


def _similarity(one: _Floats, other: _Floats, maps: _Floats) -> _Floats:
    size = one.shape[1]
    (seen,), inside = _warp((one,), maps)
    mask = inside.reshape(one.shape)
    held = mask.astype(np.float32)
    reach = np.maximum(_blur(held, _COARSE), 1e-3)
    details = [image - _blur(image * held, _COARSE) / reach for image in (seen.reshape(one.shape), other)]
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


def _shrunk(mask: Bools, rim: int) -> Bools:
    """Remove `rim` pixels along the border of each mask; outside the image a mask counts as set."""
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
    # Along the border of the images, the blurs include zeros.
    kept[:, :rim] = kept[:, -rim:] = kept[:, :, :rim] = kept[:, :, -rim:] = False
    return kept
