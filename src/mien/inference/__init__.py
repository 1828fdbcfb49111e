"""Predictions for photos, folders, videos and webcams.

`predictor` answers for one image, `batches` for many files, with tables of the answers. One answer is a
`mien.types.Prediction`, and its `rows` are the columns of a csv. `merging` joins the tables of several
machines. `video` and `webcam` follow people.

Needs NumPy, Pillow and ONNX Runtime; `video` needs the extra `video`.
"""

from mien._lazy import submodules

_MODULES = ("batches", "image_files", "merging", "predictor", "video", "video_files", "webcam")

__getattr__, __dir__ = submodules(__name__, _MODULES)
