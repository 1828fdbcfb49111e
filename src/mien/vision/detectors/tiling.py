"""How large a detector sees an image: shrunk where that shows enough, in tiles where it does not."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.errors import ImageError, InputError
from mien.vision.detectors.detection import Found, Framing

#: Pixels of the longer side that an image is shrunk to, unless the smallest face demands more (measured:
#: docs/detect.md).
SIDE = 512
#: Pixels of the longer side above which one look becomes tiles, as the makers of libfacedetection advise.
TILE = 960
#: Pixels that neighbouring tiles share at least. A face that is larger is seen in the whole image.
SHARED = 192
#: Largest factor by which an image is enlarged for small faces.
LARGEST = 2.0
#: Overlap above which two boxes are one face: intersection over union, and over the smaller box.
SAME, WITHIN = 0.4, 0.75


@dataclass(frozen=True)
class Sight:
    """A detector: a function that finds faces in images of moderate size, led over images of any size.

    Args:
        name: What `load` calls it.
        framing: How its boxes lie about a face.
        look: Finds the faces of an RGB image `(h, w, 3)` of at most `TILE` pixels a side, those that are as
            wide as its second argument in pixels or wider.
        seen: Width in pixels of the smallest face that `look` finds reliably.
    """

    name: str
    framing: Framing
    look: Callable[[NDArray[np.uint8], float], list[Found]] = field(repr=False)
    seen: int

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name: another process loads the detector anew, because sessions cannot be sent."""
        from mien.vision import detectors as detect

        return detect.load, (self.name,)

    def find(self, image: NDArray[np.uint8], *, smallest: int) -> list[Found]:
        """Return the faces of an upright image, the largest first.

        Args:
            image: `(h, w)` grey or `(h, w, 3)` RGB, 0..255.
            smallest: Width in pixels below which faces need not be found. The smaller, the slower.

        Raises:
            ImageError: The array is no such image.
            InputError: `smallest` is below 1.
        """
        if smallest < 1:
            raise InputError(f"smallest is {smallest}; it is the width of a face in pixels, at least 1")
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
            raise ImageError(
                f"a detector takes (h, w) or (h, w, 3) uint8, not {image.dtype} of shape {image.shape}; "
                "read it with mien.vision.images"
            )
        if not image.size:
            raise ImageError(f"the image has the shape {image.shape}; an image has at least one pixel")
        picture = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
        longer = max(picture.size)
        whole, fine = min(1.0, SIDE / longer), min(LARGEST, self.seen / smallest)
        if longer * fine <= TILE:
            return merged(self._seen(picture, max(whole, fine), smallest))
        faces = self._seen(picture, whole, smallest)
        if min(picture.size) < smallest / 2:
            return merged(faces)  # no face of that size has room in it, however long it is
        for left, right in _spans(picture.width, TILE / fine, SHARED / fine):
            for top, bottom in _spans(picture.height, TILE / fine, SHARED / fine):
                tile = (left, top, right, bottom)
                found = self._seen(picture.crop(tile), fine, smallest)
                faces += _uncut(found, tile, picture.size)
        return merged(faces)

    def _seen(self, picture: Image.Image, scale: float, smallest: int) -> list[Found]:
        """Look at a picture shrunk or enlarged by `scale`; boxes are in its own pixels."""
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        shrunk = picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)
        across, down = picture.width / size[0], picture.height / size[1]
        return [
            Found(face.left * across, face.top * down, face.width * across, face.height * down, face.score)
            for face in self.look(np.asarray(shrunk), smallest * scale)
        ]


def merged(faces: list[Found]) -> list[Found]:
    """Return each face once, the largest first: of boxes that show the same one, the surest.

    Args:
        faces: What several looks at one image found, in its pixels.
    """
    kept: list[Found] = []
    for face in sorted(faces, key=lambda face: (-face.score, face.left, face.top, face.width, face.height)):
        if not any(_same(face, other) for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: (-face.width * face.height, face.left, face.top))


def _same(one: Found, other: Found) -> bool:
    width = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    height = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    if width <= 0 or height <= 0:
        return False
    shared, areas = width * height, (one.width * one.height, other.width * other.height)
    return shared > SAME * (sum(areas) - shared) or shared > WITHIN * min(areas)


def _uncut(faces: list[Found], tile: tuple[int, int, int, int], size: tuple[int, int]) -> Iterator[Found]:
    """Yield a tile's faces in the image's pixels, without those that a tile's inner edge cuts.

    Such a face stands whole in the next tile, or in the whole image.
    """
    left, top, right, bottom = tile
    for face in faces:
        # What is cut has its box at the edge or beyond, give or take a tenth of it.
        inside = (
            (left == 0 or face.left > 0.1 * face.width)
            and (top == 0 or face.top > 0.1 * face.height)
            and (right == size[0] or face.left + 1.1 * face.width < right - left)
            and (bottom == size[1] or face.top + 1.1 * face.height < bottom - top)
        )
        if inside:
            yield Found(face.left + left, face.top + top, face.width, face.height, face.score)


def _spans(length: int, span: float, shared: float) -> Iterator[tuple[int, int]]:
    """Cover `length` pixels by spans of one size that overlap by `shared` or more."""
    if length <= span:
        yield 0, length
        return
    count = math.ceil((length - shared) / (span - shared))
    for number in range(count):
        start = round(number * (length - span) / (count - 1))
        yield start, min(length, start + math.ceil(span))
