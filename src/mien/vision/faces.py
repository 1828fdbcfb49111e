"""Find the faces of an image and crop them: the same for predictions and for training data.

picture = images.picture("photo.jpg")
found = find_faces(detector, picture)             # the largest first
face = found.crop(detector, found.faces[0][1], 48)  # (48, 48, 1) uint8, the input of a model
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.types import Box
from mien.vision import images
from mien.vision.detectors import Detection, Detector, orientation
from mien.vision.images import Picture

#: Default width of the smallest face: in pixels, or as a share of the image's longer side, the larger one. So
#: one detection at 960 pixels or fewer is enough for any photo.
SMALLEST, SHARE = 30, 1 / 40


@dataclass(frozen=True)
class Detected:
    """The faces of an image before they are classified.

    Args:
        pixels: The image, rotated so that the faces are upright.
        faces: The largest first: the box of each face in the original, and the detection in `pixels`.
        rotation: Rotation of the pixels clockwise in degrees: 0, 90, 180 or 270.
    """

    pixels: NDArray[np.uint8]
    faces: tuple[tuple[Box, Detection], ...]
    rotation: int

    def crop(self, detector: Detector, face: Detection, size: int) -> NDArray[np.uint8]:
        """Return a face as the input of a model, `(size, size, 1)` in 0..255.

        Args:
            detector: The detector that found the face.
            face: A detection in `pixels`.
            size: Side of the result in pixels.
        """
        return images.cut(self.pixels, detector.crop.square(face), size)

    def square(self, detector: Detector, face: Detection) -> tuple[float, float, float]:
        """Return left, top and side of the crop of a face, in pixels of the image before the rotation."""
        left, top, side = detector.crop.square(face)
        upright = (self.pixels.shape[1], self.pixels.shape[0])
        back = orientation.turned(Detection(left, top, side, side, face.score), -self.rotation // 90, upright)
        return back.left, back.top, side


def find_faces(
    detector: Detector,
    picture: Picture,
    *,
    smallest: int | None = None,
    min_confidence: float = 0.0,
    auto_rotate: bool = True,
) -> Detected:
    """Return the faces of an image in the order of a prediction.

    Args:
        detector: The detector.
        picture: The image, as `mien.vision.images` reads it.
        smallest: Width of the smallest face in pixels of the original; None for `SMALLEST`, or `SHARE` of
            the longer side if that is more.
        min_confidence: Ignore faces with a lower confidence, in [0, 1].
        auto_rotate: If no upright face is found, try other orientations.

    Returns:
        The faces inside the image with enough confidence.
    """
    pixels, size, scale = picture.pixels, (picture.width, picture.height), picture.scale
    wanted = smallest or max(SMALLEST, math.ceil(SHARE * max(size)))
    width = max(1, math.floor(wanted / max(scale)))
    found = detector.find(pixels, smallest=width)
    turns = orientation.quarter_turns(detector, pixels, found, smallest=width) if auto_rotate else 0
    if turns:
        pixels = np.ascontiguousarray(np.rot90(pixels, -turns))
        found = detector.find(pixels, smallest=width)
    upright = (pixels.shape[1], pixels.shape[0])
    faces = [
        (box, face)
        for face in found
        if face.score >= min_confidence
        and (box := _inside(orientation.turned(face, -turns, upright), size, scale)) is not None
    ]
    return Detected(pixels, tuple(sorted(faces, key=lambda pair: -pair[0].area)), 90 * turns)


def _inside(face: Detection, size: tuple[int, int], scale: tuple[float, float]) -> Box | None:
    """Return the part of a detection inside the image, in whole pixels of the original."""
    (width, height), (across, down) = size, scale
    left, top = max(0, round(face.left * across)), max(0, round(face.top * down))
    right = min(width, round((face.left + face.width) * across))
    bottom = min(height, round((face.top + face.height) * down))
    if right <= left or bottom <= top:
        return None
    return Box(left, top, right - left, bottom - top)
