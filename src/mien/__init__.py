"""Facial emotion recognition, from an archive of labelled faces to a model you can trust and ship.

Each stage is a module: `mien.dataset.load(...)`, `mien.train.fit(...)`, `mien.evaluate.score(...)`.
Modules load when first used, so that using a model never imports what trains one.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0.dev0"

_ROOMS = (
    "annotate",
    "arrays",
    "audit",
    "augment",
    "bundle",
    "calibrate",
    "card",
    "compare",
    "corrupt",
    "dataset",
    "demo",
    "detect",
    "disk",
    "drawn",
    "duplicates",
    "emotions",
    "errors",
    "evaluate",
    "explain",
    "export",
    "extract",
    "faces",
    "images",
    "networks",
    "plot",
    "predict",
    "priors",
    "probabilities",
    "recipes",
    "report",
    "run",
    "ship",
    "track",
    "train",
    "video",
    "webcam",
)

__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return importlib.import_module(f"mien.{name}")
    raise AttributeError(f"module 'mien' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
