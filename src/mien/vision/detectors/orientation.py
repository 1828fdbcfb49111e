"""Find out by how many quarter turns a photo must be turned so that its faces are upright.

Files without an EXIF orientation can hold photos that are turned by 90, 180 or 270 degrees. A detector finds
no face in them, or finds one with a low confidence, and the model then reads a turned face.

Source of the limits: `benchmarks/orientation.py`, docs/detect.md.
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.vision.detectors import Detector, Found, mtcnn

#: Confidence from which a face is taken as upright without another look.
SURE = 0.9
#: How much more evidence than the image as it is another orientation needs, and how much more confidence of
#: the detector alone.
MARGIN, SURER = 0.05, 0.02
#: The least evidence for another orientation. On pictures without a face the most was 0.55.
ENOUGH = 0.65
#: The smallest face that is looked for in the other orientations, as a share of the image's longer side.
_SHARE = 1 / 40


def quarter_turns(detector: Detector, image: NDArray[np.uint8], faces: list[Found], *, smallest: int) -> int:
    """Return by how many quarter turns clockwise an image must be turned so that its faces are upright.

    The image stays as it is (0) if the detector is sure of a face, or if MTCNN's last network finds the
    surest face most likely as it is. Otherwise the detector looks at the other three orientations. The
    evidence for an orientation is the mean of the detector's confidence in its surest face and of that
    network's likelihood. Another orientation needs enough evidence, more than the image as it is, and more
    of the detector's confidence.

    Args:
        detector: Finds the faces.
        image: `(h, w)` grey or `(h, w, 3)` RGB uint8, 0..255.
        faces: What the detector found in the image as it is.
        smallest: Width of the smallest face in pixels.

    Returns:
        0, 1, 2 or 3. 0 if no orientation has more evidence than the image as it is.
    """
    best = max(faces, key=lambda face: face.score, default=None)
    if best is not None and best.score >= SURE:
        return 0
    confidence, evidence = [0.0] * 4, [0.0] * 4
    if best is not None:
        likely = [_likelihood(image, best, turns) for turns in range(4)]
        if likely[0] == max(likely):
            return 0
        confidence[0], evidence[0] = best.score, (best.score + likely[0]) / 2
    # One look is enough for a photo, so the other orientations do not search tiles for tiny faces.
    width = max(smallest, math.ceil(_SHARE * max(image.shape[:2])))
    for turns in (1, 2, 3):
        turned = np.ascontiguousarray(np.rot90(image, -turns))
        surest = max(detector.find(turned, smallest=width), key=lambda face: face.score, default=None)
        if surest is not None:
            confidence[turns] = surest.score
            evidence[turns] = (surest.score + _likelihood(turned, surest, 0)) / 2
    most = int(np.argmax(evidence))
    better = evidence[most] >= max(ENOUGH, evidence[0] + MARGIN) and confidence[most] >= confidence[0] + SURER
    return most if better else 0


def turned(face: Found, turns: int, size: tuple[int, int]) -> Found:
    """Return where a face is after its image is turned.

    Args:
        face: A box in the image before it is turned.
        turns: Quarter turns clockwise; a negative number turns counterclockwise.
        size: Width and height of the image before it is turned, in pixels.
    """
    left, top, width, height = face.left, face.top, face.width, face.height
    across, down = size
    for _ in range(turns % 4):
        left, top, width, height = down - top - height, left, height, width
        across, down = down, across
    return Found(left, top, width, height, face.score)


def _likelihood(image: NDArray[np.uint8], face: Found, turns: int) -> float:
    """Return how likely a box is an upright face after some quarter turns clockwise, in [0, 1]."""
    side = max(face.width, face.height)
    left, top = int(face.left - side), int(face.top - side)
    right, bottom = int(face.left + face.width + side), int(face.top + face.height + side)
    patch = np.asarray(Image.fromarray(image).crop((left, top, right, bottom)).convert("RGB"))
    inside = Found(face.left - left, face.top - top, face.width, face.height, face.score)
    moved = turned(inside, turns, (right - left, bottom - top))
    return _second().likelihood(np.ascontiguousarray(np.rot90(patch, -turns)), moved)


@functools.cache
def _second() -> mtcnn.SecondOpinion:
    return mtcnn.second_opinion()
