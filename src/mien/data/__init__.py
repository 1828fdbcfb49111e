"""Labelled faces before training: data sets of many formats, archives, duplicates, audits, synthetic faces.

`datasets.load` reads a data set: `sources` finds its kind, and `folders`, `pixel_tables`, `tables`,
`layouts`, `columnar`, `huggingface` or `array_sources` read it. `division` makes the splits; `face_crops`
and `image_cache` cut faces from photographs and keep images in files.

Needs NumPy and Pillow. Nothing here imports a training library.
"""

from mien._lazy import submodules

_MODULES = (
    "archives",
    "array_sources",
    "audit",
    "class_names",
    "column_names",
    "columnar",
    "contents",
    "csv_lists",
    "datasets",
    "division",
    "duplicates",
    "exclusions",
    "face_crops",
    "folders",
    "huggingface",
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
