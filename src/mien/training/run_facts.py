"""What a run and its card say of data, recipe and machine."""

import importlib
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mien import __version__
from mien.data.datasets import Dataset
from mien.data.probabilities import Stored
from mien.errors import DataError, ModelError
from mien.models import model as bundle
from mien.models.networks import load_keras
from mien.training.recipes import Recipe, to_dict


def begin(
    dataset: Dataset,
    policy: str,
    *,
    origin: Mapping[str, Any],
    teacher: Stored | None,
    bases: Sequence[Mapping[str, Any]],
    began: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a run's `run.json` begins with.

    Args:
        dataset: What is trained on.
        policy: The dtype policy that it is trained in.
        origin: How the data can be loaded again.
        teacher: What it distils from, if it does.
        bases: The runs that it begins from, if it does, as `mien.models.model.Base` has them.
        began: How the first of them does on val, as `start.score` has it.
    """
    return {
        "schema": 1,
        "status": "training",
        "labels": list(dataset.labels),
        "precision": policy,
        "data": describe(dataset) | {"origin": dict(origin)},
        "teacher": None if teacher is None else {"about": teacher.about, "sha256": teacher.sha256},
        "base": list(bases),
        "began": None if began is None else dict(began),
        "environment": environment(),
    }


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return what a run keeps of its data: names, counts by split and class, and fingerprints."""
    splits = {split.name: split for split in (dataset.train, dataset.val, dataset.test) if split is not None}
    k = len(dataset.labels)
    return {
        # What is no UTF-8 in a folder's name stands in no JSON.
        "name": dataset.root.encode(errors="replace").decode(),
        "fingerprint": dataset.fingerprint,
        "votes": dataset.votes_fingerprint,
        "splits": {
            name: {"n": len(split), "fingerprint": split.fingerprint} for name, split in splits.items()
        },
        "classes": {
            name: dict(zip(dataset.labels, np.bincount(split.labels, minlength=k).tolist(), strict=True))
            for name, split in splits.items()
        },
        "problems": [{"file": problem.file, "reason": problem.reason} for problem in dataset.problems],
        "excluded": {item.reason: item.count for item in dataset.excluded},
        "notes": list(dataset.notes),
    }


def card(name: str, known: Mapping[str, Any], dataset: Dataset, recipe: Recipe) -> bundle.Card:
    """Return the card of what a run has trained, before anything was measured.

    Args:
        name: The run's.
        known: Its facts.
        dataset: What it was trained on.
        recipe: What it was trained by.
    """
    data, environment, teacher = describe(dataset), known["environment"], known.get("teacher")
    return bundle.Card(
        name=name,
        labels=dataset.labels,
        size=recipe.size,
        heads=dict(bundle.TWO_HEADS if recipe.targets.ferplus else bundle.ONE_HEAD),
        recipe=to_dict(recipe),
        teacher=teacher["about"] if teacher else "",
        data=_data(data),
        base=tuple(_base(base) for base in known.get("base", [])),
        excluded=data["excluded"],
        versions={name: environment[name] for name in ("mien", "python", "keras", "backend", "numpy")},
    )


def _base(known: Mapping[str, Any]) -> bundle.Base:
    return bundle.Base(
        name=known["name"],
        sha256=known["sha256"],
        data=_data(known["data"]),
        recipe=known.get("recipe", {}),
        teacher=known.get("teacher", ""),
    )


def _data(known: Mapping[str, Any]) -> bundle.Data:
    return bundle.Data(
        name=known["name"],
        fingerprint=known["fingerprint"],
        splits={name: bundle.Part(**part) for name, part in known["splits"].items()},
    )


def check(name: str, known: Mapping[str, Any], dataset: Dataset, recipe: Recipe) -> None:
    """Make sure, before anything is trained, that what is trained can have a card.

    Raises:
        DataError: A class, the data or the run has a name that a card cannot hold, or there is too much.
    """
    try:
        bundle.to_json(card(name, known, dataset, recipe))
    except ModelError as error:
        raise DataError(
            f"what is trained on {describe(dataset)['name']!r} could not be kept: {error}; rename the class, "
            "the data or the run, or leave fewer reasons in the exclusion lists"
        ) from None


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
