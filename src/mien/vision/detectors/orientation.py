"""Find the rotation in quarter turns that makes the faces of a photo upright.

Files without an EXIF orientation can hold photos that are turned by 90, 180 or 270 degrees. A detector finds
no face in them, or one with low confidence, and the model then classifies a turned face.

Source of the limits: `benchmarks/orientation.py`, docs/detect.md.
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.vision.detectors import Detection, Detector, mtcnn

#: Score from which a face counts as upright without a further check.
UPRIGHT_SCORE = 0.9
#: Minimum advantage of another orientation over the given one: in evidence, and in the score alone.
MARGIN, SCORE_MARGIN = 0.05, 0.02
#: Minimum evidence for another orientation. The maximum for pictures without a face was 0.55.
MIN_EVIDENCE = 0.65
#: Smallest face to find in the other orientations, as a share of the longer side of the image.
_SMALLEST_SHARE = 1 / 40


def quarter_turns(
    detector: Detector, image: NDArray[np.uint8], faces: list[Detection], *, smallest: int
) -> int:
    """Return the number of clockwise quarter turns that make the faces of an image upright.

    The result is 0 if a face has a high score, or if the last network of MTCNN finds the best face most
    likely without a turn. Otherwise the detector searches the other three orientations. The evidence for an
    orientation is the mean of the score of its best face and of the likelihood by that network. Another
    orientation wins if its evidence and its score exceed those of the given one by a margin.

    Args:
        detector: The detector.
        image: `(h, w)` grey or `(h, w, 3)` RGB uint8, 0..255.
        faces: The detections in the image as it is.
        smallest: Width of the smallest face in pixels.

    Returns:
        0, 1, 2 or 3.
    """
    best = max(faces, key=lambda face: face.score, default=None)
    if best is not None and best.score >= UPRIGHT_SCORE:
        return 0
    confidence, evidence = [0.0] * 4, [0.0] * 4
    if best is not None:
        likely = [_likelihood(image, best, turns) for turns in range(4)]
        if likely[0] == max(likely):
            return 0
        confidence[0], evidence[0] = best.score, (best.score + likely[0]) / 2
    # The other orientations are not searched for tiny faces, which would need tiles.
    width = max(smallest, math.ceil(_SMALLEST_SHARE * max(image.shape[:2])))
    for turns in (1, 2, 3):
        turned = np.ascontiguousarray(np.rot90(image, -turns))
        surest = max(detector.find(turned, smallest=width), key=lambda face: face.score, default=None)
        if surest is not None:
            confidence[turns] = surest.score
            evidence[turns] = (surest.score + _likelihood(turned, surest, 0)) / 2
    most = int(np.argmax(evidence))
    better = (
        evidence[most] >= max(MIN_EVIDENCE, evidence[0] + MARGIN)
        and confidence[most] >= confidence[0] + SCORE_MARGIN
    )
    return most if better else 0


def turned(face: Detection, turns: int, size: tuple[int, int]) -> Detection:
    """Return the box of a face after a turn of the image.

    Args:
        face: The box before the turn.
        turns: Quarter turns clockwise; a negative number turns counterclockwise.
        size: Width and height of the image before the turn, in pixels.
    """
    left, top, width, height = face.left, face.top, face.width, face.height
    across, down = size
    for _ in range(turns % 4):
        left, top, width, height = down - top - height, left, height, width
        across, down = down, across
    return Detection(left, top, width, height, face.score)


def _likelihood(image: NDArray[np.uint8], face: Detection, turns: int) -> float:
    """Return the likelihood in [0, 1] that a box shows an upright face after clockwise quarter turns."""
    side = max(face.width, face.height)
    left, top = int(face.left - side), int(face.top - side)
    right, bottom = int(face.left + face.width + side), int(face.top + face.height + side)
    patch = np.asarray(Image.fromarray(image).crop((left, top, right, bottom)).convert("RGB"))
    inside = Detection(face.left - left, face.top - top, face.width, face.height, face.score)
    moved = turned(inside, turns, (right - left, bottom - top))
    return _second().likelihood(np.ascontiguousarray(np.rot90(patch, -turns)), moved)


@functools.cache
def _second() -> mtcnn.SecondOpinion:
    return mtcnn.second_opinion()
