"""Predictions for photos, folders, videos and webcams.

Needs NumPy, Pillow and ONNX Runtime; `video` needs the extra `video`.
"""

from mien._lazy import submodules

_MODULES = ("batches", "image_files", "predictor", "video", "video_files", "webcam")

__getattr__, __dir__ = submodules(__name__, _MODULES)
