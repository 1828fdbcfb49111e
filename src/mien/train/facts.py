"""What a run and its card say of data, recipe and machine."""

import importlib
import os
import platform
from typing import Any

import numpy as np

from mien import __version__, bundle
from mien.dataset import Dataset
from mien.networks import load_keras
from mien.recipes import Recipe, to_dict
from mien.run import Run


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return what a run keeps of its data: names, counts and fingerprints."""
    splits = {split.name: split for split in (dataset.train, dataset.val, dataset.test) if split is not None}
    return {
        "name": dataset.root,
        "fingerprint": dataset.fingerprint,
        "splits": {
            name: {"n": len(split), "fingerprint": split.fingerprint} for name, split in splits.items()
        },
        "problems": [{"file": problem.file, "reason": problem.reason} for problem in dataset.problems],
        "excluded": {item.reason: item.count for item in dataset.excluded},
        "notes": list(dataset.notes),
    }


def card(made: Run, dataset: Dataset, recipe: Recipe) -> bundle.Card:
    """Return the card of what a run has trained, before anything was measured."""
    data = describe(dataset)
    known, teacher = made.facts()["environment"], made.facts().get("teacher")
    return bundle.Card(
        name=made.name,
        labels=dataset.labels,
        size=recipe.size,
        readings=dict(bundle.TWO_READINGS if recipe.targets.consensus else bundle.LABELS_READING),
        recipe=to_dict(recipe),
        teacher=teacher["about"] if teacher else "",
        data=bundle.Data(
            name=data["name"],
            fingerprint=data["fingerprint"],
            splits={name: bundle.Part(**part) for name, part in data["splits"].items()},
        ),
        excluded=data["excluded"],
        versions={name: known[name] for name in ("mien", "python", "keras", "backend", "numpy")},
    )


def environment() -> dict[str, Any]:
    """Return what a training computes with."""
    library = load_keras()
    backend = library.backend.backend()
    module = {"tensorflow": "tensorflow", "jax": "jax"}.get(backend)
    version = importlib.import_module(module).__version__ if module else ""
    return {
        "mien": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "keras": library.version(),
        "backend": f"{backend} {version}".strip(),
        "numpy": np.__version__,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "TensorFlow's default"),
    }
