"""Read images, find faces, track them from frame to frame, and draw them.

Needs NumPy, Pillow and ONNX Runtime; HEIC images need the extra `heic`.
`images` applies the EXIF orientation of a file; `detectors.orientation` finds the rotation of photos without
one.
"""

from mien._lazy import submodules

_MODULES = ("annotation", "detectors", "faces", "fonts", "images", "large_images", "tracking")

__getattr__, __dir__ = submodules(__name__, _MODULES)
