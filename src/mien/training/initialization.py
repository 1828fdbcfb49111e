"""Where a training begins that does not begin from chance: the weights of a model that is trained."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.datasets import Dataset
from mien.errors import ModelError, RecipeError
from mien.evaluation import evaluator
from mien.evaluation.evaluation_log import find_role
from mien.models.model import Bundle
from mien.release import exporters
from mien.training.recipes import Recipe

#: The layers that answer: what they say belongs to the classes, all else to faces.
_ANSWERS = ("answer", "ferplus")


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """The weights of a trained model, and where they come from.

    Args:
        name: The model's name; a run's model has the run's.
        network: What network they are of.
        size: Side in pixels of that network's input.
        labels: Names of the classes that they answer in.
        heads: How a face can be read by them; by the labels, or by votes too.
        weights: Float32 arrays by the names that Keras has for them: `stem_conv/kernel`.
        base: The model, and before it those that it was made from itself, as `model.Base` has them.
    """

    name: str
    network: str
    size: int
    labels: tuple[str, ...]
    heads: tuple[str, ...]
    weights: dict[str, NDArray[np.float32]]
    base: list[dict[str, Any]]


def load(base: Bundle) -> InitialWeights:
    """Read the weights that a training can begin from.

    Args:
        base: A trained model in float32, whose file holds them; or in int8, with them beside it.

    Raises:
        ModelError: There are none, they are damaged, or the model's card does not say what it is.
    """
    card = base.card
    network = card.recipe.get("network")
    if card.data is None or not isinstance(network, str):
        raise ModelError(
            f"the card of {card.name!r} does not name its network and data, so no training can begin from it"
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
    """Make sure that a recipe trains the network that the weights are of.

    Raises:
        RecipeError: It trains another, or another size of it.
    """
    for key in ("network", "size"):
        had, asked = getattr(start, key), getattr(recipe, key)
        if asked != had:
            raise RecipeError(
                f"{start.name} was trained with {key} {had}, the recipe asks for {key} {asked}; weights fit "
                f"their own network alone: --set {key}={had}, or begin from another model"
            )


def evaluate_base(
    base: Bundle, dataset: Dataset, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any] | None:
    """Score a model that a training begins from on the validation images, to compare the result with.

    Args:
        base: The model.
        dataset: What is trained on; its val has the size that the model takes.
        progress: Called with (images done, images in all).

    Returns:
        The fields of `mien.models.model.Began` about that model; None where it does not answer in all of the
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
    """Put the weights into a model of the same network.

    An answer in other classes than the start's keeps the weights that chance gave it, and so does an answer
    that the start does not have.

    Args:
        start: Whose weights.
        model: A Keras model, of the recipe that `check` saw.
        labels: Names of the classes that it answers in.

    Returns:
        The answers that begin from chance.

    Raises:
        ModelError: The weights are not those of the network that they are said to be of.
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
            raise ModelError(f"the weights of {start.name!r} are not those of the network {start.network!r}")
        layer.set_weights([start.weights[path] for path in paths])
    return tuple(fresh)
