"""Where a training begins that does not begin from chance: the weights of another run."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mien.errors import RecipeError, RunError
from mien.recipes import Recipe
from mien.run import Run
from mien.train import precision

#: The layers that answer: what they say belongs to the classes, all else to faces.
_ANSWERS = ("answer", "consensus")


@dataclass(frozen=True, eq=False)
class Start:
    """The weights of a run that ships, and where they come from.

    Args:
        recipe: What they were trained by; it says which network they are of.
        labels: Names of the classes that they answer in.
        weights: Of every layer, in the order of Keras' `get_weights`.
        base: The run, and before it those that it began from itself, as `mien.bundle.Base` has them.
    """

    recipe: Recipe
    labels: tuple[str, ...]
    weights: list[NDArray[Any]]
    base: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.base[0]["name"])


def of(made: Run) -> Start:
    """Read the weights that a run ships.

    Args:
        made: A run whose training is done.

    Raises:
        RunError: It has not shipped a model yet, or its saved states are gone or damaged.
    """
    known = made.facts()
    if "shipped" not in known:
        raise RunError(
            f"{made.name} has no model yet to begin from; finish it with: mien train --resume {made.path}"
        )
    state, _ = made.load()
    weights = [] if state is None else state.group("best")
    if not weights:
        raise RunError(
            f"{made.path / 'checkpoints'} holds no state of {made.name} any more, and its weights stand "
            "there; begin from another run, or from chance without --from"
        )
    try:
        data = {key: known["data"][key] for key in ("name", "fingerprint", "splits")}
        own = {"name": made.name, "sha256": known["shipped"]["sha256"], "data": data}
        return Start(made.recipe(), tuple(known["labels"]), weights, [own, *known.get("base", [])])
    except (KeyError, TypeError) as error:
        raise RunError(f"{made.path / 'run.json'} is damaged: {error!r}") from None


def check(start: Start, recipe: Recipe) -> None:
    """Make sure that a recipe trains the network that the weights are of.

    Raises:
        RecipeError: It trains another, or another size of it.
    """
    had = {"network": start.recipe.network, "size": start.recipe.size}
    for key, value in had.items():
        if (asked := getattr(recipe, key)) != value:
            raise RecipeError(
                f"{start.name} was trained with {key} {value}, the recipe asks for {key} {asked}; weights "
                f"fit their own network alone: --set {key}={value}, or begin from another run"
            )


def give(start: Start, model: Any, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Put the weights into a model of the same network.

    An answer in other classes than the run's keeps the weights that chance gave it, and so does an answer
    that the run does not have.

    Args:
        start: Whose weights.
        model: A Keras model, of the recipe that `check` saw.
        labels: Names of the classes that it answers in.

    Returns:
        The answers that begin from chance.
    """
    source = precision.build(start.recipe, classes=len(start.labels), policy="float32")
    source.set_weights(start.weights)
    given = {layer.name: layer.get_weights() for layer in source.layers}
    fresh = []
    for layer in model.layers:
        if layer.name in _ANSWERS and (layer.name not in given or labels != start.labels):
            fresh.append(layer.name)
        elif layer.weights:
            layer.set_weights(given[layer.name])
    return tuple(fresh)
