"""Initial weights of a training that starts from a trained model."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.datasets import Dataset
from mien.errors import ModelError, RecipeError
from mien.evaluation import evaluator
from mien.evaluation.evaluation_log import find_role
from mien.models.model_files import Model
from mien.release import exporters
from mien.training.recipes import Recipe

#: The output layers. They depend on the classes; all other layers do not.
_ANSWERS = ("answer", "ferplus")


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """The weights of a trained model and their origin.

    Args:
        name: The model's name.
        network: The name of its network.
        size: Side in pixels of that network's input.
        labels: Names of its classes.
        heads: Names of its output heads.
        weights: Float32 arrays by Keras path, such as `stem_conv/kernel`.
        base: The model, and then the models that it was made from, as fields of `model.Base`.
    """

    name: str
    network: str
    size: int
    labels: tuple[str, ...]
    heads: tuple[str, ...]
    weights: dict[str, NDArray[np.float32]]
    base: list[dict[str, Any]]


def load(base: Model) -> InitialWeights:
    """Load the weights of a model that a training starts from.

    Args:
        base: A model in float32, whose file holds the weights; or in int8, with a weights file beside it.

    Raises:
        ModelError: The weights are missing or damaged, or the card does not name network and data.
    """
    card = base.card
    network = card.recipe.get("network")
    if card.data is None or not isinstance(network, str):
        raise ModelError(
            f"the card of {card.name!r} does not name its network and data, so a training cannot start from "
            "it; use a model of mien train or mien ship"
        )
    own = {
        "name": card.name,
        "sha256": card.sha256,
        "data": asdict(card.data),
        "recipe": card.recipe,
        "teacher": card.teacher,
    }
    return InitialWeights(
        name=card.name,
        network=network,
        size=card.size,
        labels=card.labels,
        heads=tuple(card.heads),
        weights=exporters.weights_of(base),
        base=[own, *map(asdict, (*card.base, *card.averaged))],
    )


def check_recipe(start: InitialWeights, recipe: Recipe) -> None:
    """Check that a recipe trains the network that the weights belong to.

    Raises:
        RecipeError: It trains another network, or another input size.
    """
    for key in ("network", "size"):
        had, asked = getattr(start, key), getattr(recipe, key)
        if asked != had:
            raise RecipeError(
                f"{start.name} has {key} {had}, and the recipe has {key} {asked}; add --set {key}={had}, or "
                "start from another model"
            )


def evaluate_base(
    base: Model, dataset: Dataset, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any] | None:
    """Evaluate the model that a training starts from on val, to compare the result with it.

    Args:
        base: The model.
        dataset: The data of the training; its val has the input size of the model.
        progress: Called with (images done, images in all).

    Returns:
        The fields of `mien.models.model_files.Began` about that model; None if it does not have all of the
        classes.
    """
    val = dataset.split("val")
    if not set(dataset.labels) <= set(base.card.labels):
        return None
    report = evaluator.evaluate(base, val, labels=dataset.labels, progress=progress)
    return {
        "name": base.card.name,
        "n": report.n,
        "accuracy": report.accuracy,
        "accuracy_interval": list(report.accuracy_interval),
        "learnt": find_role(base.card, val.fingerprint).role == "train",
    }


def assign(start: InitialWeights, model: Any, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Assign the weights to a model of the same network.

    An output layer keeps its random weights if its classes differ, or if `start` does not have the layer.

    Args:
        start: The weights.
        model: A Keras model of the same network.
        labels: Names of its classes.

    Returns:
        Names of the output layers that keep random weights.

    Raises:
        ModelError: The weights do not fit the network.
    """
    fresh = []
    for layer in model.layers:
        paths = [variable.path for variable in layer.weights]
        known = all(path in start.weights for path in paths)
        if layer.name in _ANSWERS and (not known or labels != start.labels):
            fresh.append(layer.name)
            continue
        if not known or any(
            start.weights[variable.path].shape != tuple(variable.shape) for variable in layer.weights
        ):
            raise ModelError(f"the weights of {start.name!r} do not fit the network {start.network!r}")
        layer.set_weights([start.weights[path] for path in paths])
    return tuple(fresh)
