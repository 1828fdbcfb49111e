"""Turn, scale, mirror and move faces: one affine warp an image, with one interpolation."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.errors import MissingExtra
from mien.training.augmentation.sampling import Changes

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

_FRAMED_AT_ONCE = 16
_IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

_lock = threading.Lock()
_inside = 0
_threads_before = 0


def matrices(changes: Changes, size: int) -> Floats:
    """Return `(b, 2, 3)` maps from a result's pixel (x, y) to the original's.

    Forward, a face is turned, scaled, mirrored, then shifted; here stands the way back.
    """
    angle = np.deg2rad(changes.rotation)
    cosine, sine = np.cos(angle), np.sin(angle)
    step_x = changes.zoom[:, 0] * np.where(changes.flip, -1.0, 1.0)
    step_y = changes.zoom[:, 1]
    linear = np.empty((len(angle), 2, 2))
    linear[:, 0, 0] = cosine * step_x
    linear[:, 0, 1] = sine * step_y
    linear[:, 1, 0] = -sine * step_x
    linear[:, 1, 1] = cosine * step_y
    centre = (size - 1) / 2
    matrices = np.empty((len(angle), 2, 3))
    # Rounded, because another processor's sine may differ in the last bit; and it makes quarter turns exact.
    matrices[:, :, :2] = np.round(linear, 9)
    moved = matrices[:, :, :2] @ (centre + changes.shift)[:, :, np.newaxis]
    matrices[:, :, 2] = np.round(centre - moved[:, :, 0], 9)
    return matrices


def warp(cv2: Any, faces: Images, matrices: Floats, *, fill: str, interpolation: str) -> Images:
    """Return new `(b, s, s)` faces, each looked up through its matrix."""
    moves = (matrices != _IDENTITY).any(axis=(1, 2))
    if not moves.any():
        return faces.copy()
    border = {
        "nearest": cv2.BORDER_REPLICATE,
        "reflect": cv2.BORDER_REFLECT,
        "black": cv2.BORDER_CONSTANT,
    }[fill]
    between = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}[interpolation]
    flags = between | cv2.WARP_INVERSE_MAP
    side = faces.shape[1:]
    results = np.empty(faces.shape, np.uint8)
    sources: Iterable[Images] = faces
    if fill == "nearest":
        wide = side[0] // 6
        sources = _framed(faces, wide)
        matrices = matrices + np.array([0.0, 0.0, wide])
    look_up = cv2.warpAffine
    # The one loop over images in Python: what it calls is bound outside, and passed by position.
    for face, matrix, result in zip(sources, matrices, results, strict=True):
        look_up(face, matrix, side, result, flags, border)
    return results


def _framed(faces: Images, wide: int) -> Iterator[Images]:
    """Yield each face in a frame of its border pixels, which holds until the next one is asked for.

    OpenCV is slow where it looks up a pixel outside the image; the frame saves more than it costs. Its width
    must follow from the size alone, so that a face's sums round alike in every batch. What reaches beyond
    it is OpenCV's to fill, with the same pixels. A few faces at a time keep the memory small, and so the
    allocator from handing it back and fetching it anew for every batch.
    """
    size = faces.shape[1]
    end = wide + size
    buffer = np.empty((_FRAMED_AT_ONCE, end + wide, end + wide), np.uint8)
    for start in range(0, len(faces), _FRAMED_AT_ONCE):
        some = faces[start : start + _FRAMED_AT_ONCE]
        framed = buffer[: len(some)]
        framed[:, wide:end, wide:end] = some
        framed[:, wide:end, :wide] = some[:, :, :1]
        framed[:, wide:end, end:] = some[:, :, -1:]
        framed[:, :wide] = framed[:, wide : wide + 1]
        framed[:, end:] = framed[:, end - 1 : end]
        yield from framed


@contextmanager
def one_thread(cv2: Any) -> Iterator[None]:
    """Keep OpenCV in the calling thread, and give its threads back afterwards.

    It wakes its workers for every image, even one of 48 pixels, which costs more than they bring. The number
    of threads is the process's: whoever comes in first among several callers lowers it, whoever leaves
    last restores it.
    """
    global _inside, _threads_before
    with _lock:
        if _inside == 0:
            _threads_before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                cv2.setNumThreads(_threads_before)


def opencv() -> Any:
    """Import OpenCV.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("training", "train") from error
    return cv2
