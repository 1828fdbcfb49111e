"""Predictions for photos, folders, videos and webcams.

`predictor` answers for one image, `batches` for many files, with tables of the answers. One answer is a
`mien.types.Prediction`, and its `rows` are the columns of a csv. `cluster` predicts on many machines, `parts`
and `merging` write and join their tables. `video` and `webcam` follow people.

Needs NumPy, Pillow and ONNX Runtime; `video` needs the extra `video`, `cluster` the extra `cluster`.
"""

from mien._lazy import submodules

_MODULES = (
    "batches",
    "cluster",
    "image_files",
    "merging",
    "parts",
    "predictor",
    "tables",
    "video",
    "video_files",
    "webcam",
)

__getattr__, __dir__ = submodules(__name__, _MODULES)
