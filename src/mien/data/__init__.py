"""Labelled faces before training: archives, data sets, duplicates, audits, synthetic faces.

Needs NumPy and Pillow. Nothing here imports a training library.
"""

from mien._lazy import submodules

_MODULES = (
    "archives",
    "audit",
    "class_names",
    "contents",
    "csv_lists",
    "datasets",
    "division",
    "duplicates",
    "exclusions",
    "face_crops",
    "folders",
    "image_cache",
    "layouts",
    "listings",
    "pixel_tables",
    "probabilities",
    "recrops",
    "sources",
    "synthetic",
    "tables",
)

__getattr__, __dir__ = submodules(__name__, _MODULES)
