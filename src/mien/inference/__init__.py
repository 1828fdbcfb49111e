"""A model in use: photos, folders, videos and webcams.

Needs NumPy, Pillow and ONNX Runtime; `video` needs the extra `video`.
"""

from mien._lazy import submodules

_MODULES = (
    "flags",
    "image_paths",
    "marked_images",
    "predictor",
    "saved_predictions",
    "video",
    "webcam",
    "workers",
)

__getattr__, __dir__ = submodules(__name__, _MODULES)
