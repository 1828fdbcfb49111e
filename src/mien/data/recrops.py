"""Find images that show the same photograph as another, cropped larger, smaller or shifted.

found = recrops.recut(test, train)
found.one, found.other, found.likeness     # indices into test, indices into train
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.data.duplicates import FLAT, blocks, check, describe, members
from mien.errors import DataError

#: Correlation of details above which two images show one photograph; docs/duplicates.md says how it was
#: chosen.
SAME = 0.8

#: Pixels a side below which too little is seen of a photograph to be laid over another.
SMALLEST = 24

#: Pixels a side that larger images are reduced to.
_LARGEST = 48

#: Correlation of descriptors above which a pair is laid over each other.
_LIKELY = 0.78

#: Sides of the middle that an image is described by, in 48ths of its own, each with the sides of the windows
#: of others that are held against it: what one shows 1.4 times smaller to 1.6 times larger than the other.
_SIDES = {40: (28, 30, 32, 34, 36, 38, 40, 42, 44, 46, 48), 30: (36, 38, 40, 42, 44, 46, 48)}

#: How far from the middle a window lies at most, and from the next, in 48ths.
_FAR, _STEP = 6, 2

#: Frequencies along each axis.
_WAVES = 8

#: How many cells an image stands in, and in how many another's windows look for it.
_HOMES, _VISITS = 3, 8

#: Images up to which there is one cell.
_FEW = 2048

#: Images whose windows are looked up at a time, and pairs that are laid over each other at a time.
_CHUNK = 1024

#: Percent of the work that is done when every likely pair is known.
_SEARCH = 60

_Progress = Callable[[int, int], None] | None


@dataclass(frozen=True, eq=False)
class Recuts:
    """Pairs of images that show one photograph.

    Args:
        one: `(m,)` int64, places among the images asked about.
        other: `(m,)` int64, places among those that they were held against; pairs are ascending.
        likeness: `(m,)` float32, correlation of the details, above the threshold.
        mirrored: `(m,)` bool, whether one shows it mirrored.
    """

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    likeness: NDArray[np.float32]
    mirrored: NDArray[np.bool_]


@dataclass(frozen=True)
class _View:
    """A window of one image that is held against the middle of another, in pixels."""

    home: int
    top: int
    left: int
    side: int

    def map(self, size: int) -> NDArray[np.float32]:
        """Return the map from the other image's pixels to this one's, if both show the same there."""
        scale = self.side / self.home
        begin = (size - self.home) // 2
        left, top = (edge + (0.5 - begin) * scale - 0.5 for edge in (self.left, self.top))
        return np.array([[scale, 0, left], [0, scale, top]], np.float32)


def recut(
    images: NDArray[np.uint8],
    among: NDArray[np.uint8],
    *,
    same: float = SAME,
    flat: float = FLAT,
    seed: int = 0,
    progress: _Progress = None,
) -> Recuts:
    """Find images that show the same photograph as one of others, whatever part of it.

    Windows of each image, upright and mirrored, are held against the middle of each of the others by their
    low frequencies. What is alike is laid over each other by an affine map, and counts as one photograph
    where the details correlate above `same` on the overlap, a quarter of the image or more.

    The work grows with the number of `images` times the square root of `among`.

    Args:
        images: `(n, s, s, 1)` uint8, 0..255, s at least 24: those asked about, best the fewer.
        among: `(m, s, s, 1)` uint8: those they are held against.
        same: Correlation in (0, 1).
        flat: Grey levels of standard deviation; what deviates less shows nothing that could be compared.
        seed: Decides which images the cells are drawn around.
        progress: Called with (done, total) in percent.

    Returns:
        The pairs; equal images are among them.

    Raises:
        DataError: The images have another shape, or a setting is out of its range.
    """
    for side in (images, among):
        check(side, same, SMALLEST)
    size = images.shape[1]
    if among.shape[1] != size:
        raise DataError(f"images of {size} and of {among.shape[1]} pixels; load both in one size")
    views = _views(min(size, _LARGEST))
    likely = _Likely(len(among))
    asked, there = (np.flatnonzero(side.std(axis=(1, 2, 3)) >= flat) for side in (images, among))
    moving, fixed = _reduced(images[:, :, :, 0]), _reduced(among[:, :, :, 0])
    if len(there):
        _meet(likely, (moving, asked), (fixed, there), views, seed, progress)
    one, other, view, mirrored = likely.all()
    likeness = np.empty(len(one), np.float32)
    for part in blocks(len(one), _CHUNK):
        turned = moving[one[part]]
        turned[mirrored[part]] = turned[mirrored[part], :, ::-1]
        start = np.stack([views[number].map(moving.shape[1]) for number in view[part].tolist()])
        likeness[part] = align(turned, fixed[other[part]], start, enough=same).likeness
        if progress:
            progress(_SEARCH + (100 - _SEARCH) * part.stop // len(one), 100)
    if progress:
        progress(100, 100)
    kept = np.flatnonzero(likeness > same)
    return Recuts(one[kept], other[kept], likeness[kept], mirrored[kept])


def _reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images of at most 48 pixels a side, which show enough and cost a fraction."""
    if pixels.shape[1] <= _LARGEST:
        return pixels
    box = Image.Resampling.BOX
    return np.stack([np.asarray(Image.fromarray(each).resize((_LARGEST, _LARGEST), box)) for each in pixels])


def _views(size: int) -> tuple[_View, ...]:
    """Every window that is looked at, those of one side together."""

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


def _meet(
    likely: "_Likely",
    mine: tuple[NDArray[np.uint8], NDArray[np.int64]],
    theirs: tuple[NDArray[np.uint8], NDArray[np.int64]],
    views: tuple[_View, ...],
    seed: int,
    progress: _Progress,
) -> None:
    """Note the likely pairs of the images and the places chosen of them."""
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
    """Likely pairs, each with the view that shows it best."""

    def __init__(self, others: int) -> None:
        self._others = others
        self._pair: list[NDArray[np.int64]] = []
        self._alike: list[NDArray[np.float32]] = []
        self._code: list[NDArray[np.int64]] = []

    def add(
        self,
        one: NDArray[np.int64],
        other: NDArray[np.int64],
        alike: NDArray[np.float32],
        code: NDArray[np.int64],
    ) -> None:
        self._pair.append(one * self._others + other)
        self._alike.append(alike)
        self._code.append(code)

    def all(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return places of one and of the other, ascending, the view's number and whether it is mirrored."""
        pair = np.concatenate([np.empty(0, np.int64), *self._pair])
        alike = np.concatenate([np.empty(0, np.float32), *self._alike])
        code = np.concatenate([np.empty(0, np.int64), *self._code])
        # The best view of each pair comes first, and unique keeps the first.
        order = np.lexsort((code, -alike, pair))
        known, place = np.unique(pair[order], return_index=True)
        view, mirrored = np.divmod(code[order][place], 2)
        one, other = np.divmod(known, self._others)
        return one, other, view, mirrored == 1


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
