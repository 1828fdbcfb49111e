"""Facial emotion recognition, from an archive of labelled faces to a model you can trust and ship.

    import mien

    for face in mien.predict("photo.jpg").faces:
        print(face.box, face.emotion, face.confidence)

Each stage is a package: `mien.data`, `mien.training`, `mien.evaluation`, `mien.inference` and so on.
Functions and packages load when first used, so that using a model never imports a training library.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.api import (
        analyze_video,
        audit,
        compare,
        evaluate,
        explain,
        export,
        resume,
        ship,
        train,
        train_folds,
        tune,
        write_card,
    )
    from mien.data.datasets import Dataset, Split
    from mien.data.datasets import load as load_dataset
    from mien.errors import (
        ArchiveError,
        DataError,
        ImageError,
        InputError,
        MienError,
        MissingBackend,
        MissingExtra,
        ModelError,
        OutputError,
        RecipeError,
        RunError,
        Stopped,
        TrainingError,
        VideoError,
    )
    from mien.evaluation.evaluation import Evaluation
    from mien.inference.batches import predict_files
    from mien.inference.merging import merge_parts
    from mien.inference.predictor import Predictor, predict, predict_many
    from mien.models.model_files import load as load_model
    from mien.models.model_files import resolve
    from mien.server.processes import serve
    from mien.types import Box, Face, Prediction, Problem

__version__ = "0.1.0"

# ONNX Runtime 1.29 and later sends usage data to Microsoft from its import on, unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

#: The public functions and types, and where each is defined.
_PUBLIC = {
    "Box": ("types", "Box"),
    "Dataset": ("data.datasets", "Dataset"),
    "Evaluation": ("evaluation.evaluation", "Evaluation"),
    "Face": ("types", "Face"),
    "Prediction": ("types", "Prediction"),
    "Predictor": ("inference.predictor", "Predictor"),
    "Problem": ("types", "Problem"),
    "Split": ("data.datasets", "Split"),
    "analyze_video": ("api", "analyze_video"),
    "audit": ("api", "audit"),
    "compare": ("api", "compare"),
    "evaluate": ("api", "evaluate"),
    "explain": ("api", "explain"),
    "export": ("api", "export"),
    "load_dataset": ("data.datasets", "load"),
    "load_model": ("models.model_files", "load"),
    "merge_parts": ("inference.merging", "merge_parts"),
    "predict": ("inference.predictor", "predict"),
    "predict_files": ("inference.batches", "predict_files"),
    "predict_many": ("inference.predictor", "predict_many"),
    "resolve": ("models.model_files", "resolve"),
    "resume": ("api", "resume"),
    "serve": ("server.processes", "serve"),
    "ship": ("api", "ship"),
    "train": ("api", "train"),
    "train_folds": ("api", "train_folds"),
    "tune": ("api", "tune"),
    "write_card": ("api", "write_card"),
}
#: The errors, which `mien.errors` defines.
_ERRORS = (
    "ArchiveError",
    "DataError",
    "ImageError",
    "InputError",
    "MienError",
    "MissingBackend",
    "MissingExtra",
    "ModelError",
    "OutputError",
    "RecipeError",
    "RunError",
    "Stopped",
    "TrainingError",
    "VideoError",
)
_PACKAGES = (
    *("api", "data", "demo", "errors", "evaluation", "inference", "labels", "models", "release", "reports"),
    *("server", "training", "types", "vision"),
)

__all__ = [
    "ArchiveError",
    "Box",
    "DataError",
    "Dataset",
    "Evaluation",
    "Face",
    "ImageError",
    "InputError",
    "MienError",
    "MissingBackend",
    "MissingExtra",
    "ModelError",
    "OutputError",
    "Prediction",
    "Predictor",
    "Problem",
    "RecipeError",
    "RunError",
    "Split",
    "Stopped",
    "TrainingError",
    "VideoError",
    "__version__",
    "analyze_video",
    "audit",
    "compare",
    "evaluate",
    "explain",
    "export",
    "load_dataset",
    "load_model",
    "merge_parts",
    "predict",
    "predict_files",
    "predict_many",
    "resolve",
    "resume",
    "serve",
    "ship",
    "train",
    "train_folds",
    "tune",
    "write_card",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        module, attribute = _PUBLIC[name]
        return getattr(importlib.import_module(f"mien.{module}"), attribute)
    if name in _ERRORS:
        return getattr(importlib.import_module("mien.errors"), name)
    if name in _PACKAGES:
        return importlib.import_module(f"mien.{name}")
    raise AttributeError(f"module 'mien' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_PACKAGES})
