"""Facial emotion recognition, from an archive of labelled faces to a model you can trust and ship.

Each stage is a package: `mien.data`, `mien.training`, `mien.evaluation`, `mien.inference` and so on.
Modules load when first used, so that using a model never imports what trains one.
"""

from mien._lazy import submodules

__version__ = "0.1.0.dev0"

_PACKAGES = (
    "data",
    "demo",
    "errors",
    "evaluation",
    "inference",
    "labels",
    "models",
    "release",
    "reports",
    "training",
    "types",
    "vision",
)

__getattr__, __dir__ = submodules(__name__, _PACKAGES)
