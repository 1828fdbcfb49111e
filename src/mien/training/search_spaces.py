"""Search spaces: which settings of a recipe a search changes, and between which values.

    [optimizer]
    learning_rate = { low = 0.05, high = 0.8, log = true }

    [augment]
    erase = { low = 0.0, high = 0.5 }
    interpolation = { choices = ["linear", "cubic"] }

A space in TOML has the form of a recipe, with a range or choices in place of each value. `parse` checks it
against the recipe that it changes. `default` is the space of a recipe if none is given.
"""

import difflib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import tomli_w

from mien.errors import RecipeError
from mien.models import networks
from mien.training import recipes
from mien.training.recipes import Recipe

#: Settings that a search cannot change, and why.
_FIXED = {
    "name": "does not change the training",
    "about": "does not change the training",
    "command": "does not change the training",
    "measured": "does not change the training",
    "engine": "does not change the training",
    "seed": "is not tuned, because a lucky seed does not help the next training",
    "size": "is the size of the loaded images, so it needs a study of its own for each value",
    "epochs": "is what pruning counts, so it is the same in all trials; change it with --set epochs=N",
}
_KEYS = ("low", "high", "log", "step", "choices")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Args:
        low: The smallest value.
        high: The largest value.
        log: Whether the logarithm is uniform, as for learning rates.
        step: Only `low` plus multiples of it; None for all numbers.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the numbers are whole."""
        return isinstance(self.low, int)

    def contains(self, value: Any) -> bool:
        """Return whether the search can choose a value."""
        if not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as TOML has them."""
        found: dict[str, Any] = {"low": self.low, "high": self.high}
        return found | ({"log": True} if self.log else {}) | ({"step": self.step} if self.step else {})


@dataclass(frozen=True)
class Choices:
    """Any of some values.

    Args:
        values: The values: texts, numbers, booleans or lists.
    """

    values: tuple[Any, ...]

    def contains(self, value: Any) -> bool:
        """Return whether the search can choose a value."""
        return value in self.values

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as TOML has them."""
        return {"choices": list(self.values)}


SearchSpace = Mapping[str, Range | Choices]


def parse(text: str, recipe: Recipe) -> dict[str, Range | Choices]:
    r"""Read a search space from TOML.

    Example:
        >>> from mien.training import recipes, search_spaces
        >>> text = "[augment]\nerase = { low = 0.0, high = 0.5 }"
        >>> search_spaces.parse(text, recipes.get("quick"))
        {'augment.erase': Range(low=0.0, high=0.5, log=False, step=None)}

    Args:
        text: The TOML.
        recipe: The recipe whose settings it changes.

    Returns:
        The range or choices of each setting, by its name with dots.

    Raises:
        RecipeError: The text is not TOML; a setting is unknown or cannot be searched; or its range or choices
            are not values of the setting.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"the search space is not valid TOML: {error}; correct it") from None
    return from_dict(values, recipe)


def from_dict(values: Mapping[str, Any], recipe: Recipe) -> dict[str, Range | Choices]:
    """Build a search space from nested dictionaries; see `parse`."""
    known = dict(recipes.list_settings(_as_checked(recipe)))
    space = {}
    for key, given in _flatten(values, known):
        if key in _FIXED or key.startswith("checkpoints."):
            raise RecipeError(
                f"the search space has {key!r}, which {_FIXED.get(key, _FIXED['name'])}; remove it"
            )
        if key not in known:
            recipes.override(recipe, [f"{key}=0"])  # names the most similar setting
        space[key] = _read(key, given, known[key], recipe)
    if not space:
        raise RecipeError(
            "the search space is empty; name at least one setting with low and high, or choices"
        )
    return space


def to_toml(space: SearchSpace) -> str:
    """Return a search space as TOML; `parse` reads it back equal."""
    return tomli_w.dumps(to_dict(space))


def to_dict(space: SearchSpace) -> dict[str, Any]:
    """Return a search space as nested dictionaries, in the form of the TOML."""
    nested: dict[str, Any] = {}
    for key, each in space.items():
        *groups, last = key.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = each.to_dict()
    return nested


def default(recipe: Recipe, *, targets: bool = True) -> dict[str, Range | Choices]:
    """Return the search space of a recipe, if none is given: up to five settings.

    The learning rate varies by a factor of 4 up and down, and the weight decay, if the recipe has one, by 5.
    Label smoothing is at most 0.2, the probability of erasing at most 0.5, and rotation at most twice that of
    the recipe, or 20 degrees.

    Args:
        recipe: The recipe.
        targets: Whether settings of `targets` may vary; they change what the validation loss measures.
    """
    rate, decay = recipe.optimizer.learning_rate, recipe.optimizer.weight_decay
    space: dict[str, Range | Choices] = {"optimizer.learning_rate": _around(rate, 4)}
    if decay:
        space["optimizer.weight_decay"] = _around(decay, 5)
    if targets:
        space["targets.smoothing"] = Range(0.0, max(0.2, recipe.targets.smoothing))
    space["augment.rotation"] = Range(0.0, min(180.0, 2.0 * recipe.augment.rotation or 20.0))
    space["augment.erase"] = Range(0.0, max(0.5, recipe.augment.erase))
    return space


def _around(value: float, factor: float) -> Range:
    return Range(float(f"{value / factor:.3g}"), float(f"{value * factor:.3g}"), log=True)


def apply(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other values of some settings, by their names with dots.

    Raises:
        RecipeError: A setting is unknown, or its value is of the wrong type or out of range.
    """
    return recipes.override(recipe, [f"{key}={_text(value)}" for key, value in values.items()])


def values_of(recipe: Recipe, space: SearchSpace) -> dict[str, Any]:
    """Return the recipe's own values of the settings in a search space."""
    known = dict(recipes.list_settings(_as_checked(recipe)))
    return {key: known[key] for key in space}


def bounds(recipe: Recipe, space: SearchSpace) -> Iterator[tuple[str, Recipe]]:
    """Yield each setting with the recipe at each of its bounds or choices."""
    for key, each in space.items():
        for value in each.values if isinstance(each, Choices) else (each.low, each.high):
            yield key, apply(recipe, {key: value})


def _as_checked(recipe: Recipe) -> dict[str, Any]:
    """Return the values of a recipe with the types of their settings, such as 10.0 for a rotation of 10."""
    return recipes.to_dict(recipes.from_dict(recipes.to_dict(recipe)))


def _flatten(
    values: Mapping[str, Any], known: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield the settings of nested tables; a table that is not a group of settings is a setting."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and any(each.startswith(f"{key}.") for each in known):
            yield from _flatten(value, known, f"{key}.")
        else:
            yield key, value


def _read(key: str, given: Any, example: Any, recipe: Recipe) -> Range | Choices:
    """Return the range or the choices of one setting."""

    def refuse(what: str, advice: str) -> NoReturn:
        raise RecipeError(f"the search space of {key!r} {what}; {advice}")

    if not isinstance(given, dict):
        refuse(
            f"is {given!r}",
            f"write {{ low = …, high = … }} or {{ choices = […] }}, or --set {key}={_text(given)}",
        )
    for name in given:
        if name not in _KEYS:
            near = difflib.get_close_matches(name, _KEYS, n=1)
            refuse(f"has {name!r}", f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_KEYS)}")
    if "choices" in given:
        if len(given) > 1:
            refuse("has choices and a range", "keep one of them")
        return _read_choices(key, given["choices"], recipe, refuse)
    if isinstance(example, bool | str | list):
        refuse("has a range, and the setting is not a number", "list its values as choices")
    for name in ("low", "high"):
        if name not in given:
            refuse(f"has no {name}", "add it")
    for name in ("low", "high", "step"):
        value = given.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            refuse(f"has {name} = {value!r}", "write a number")
        if isinstance(example, int) and value != int(value):
            refuse(f"has {name} = {value}, and the setting is a whole number", "write a whole number")
    kind: Any = int if isinstance(example, int) else float
    low, high = kind(given["low"]), kind(given["high"])
    step, log = None if "step" not in given else kind(given["step"]), given.get("log", False)
    if not isinstance(log, bool):
        refuse(f"has log = {log!r}", "write true or false")
    if low >= high:
        refuse(f"has low = {low} and high = {high}", "low must be below high")
    if log and low <= 0:
        refuse(f"has low = {low} and log = true", "use a low above 0, or no log")
    if step is not None and log:
        refuse("has a step and log = true", "use one of them")
    if step is not None and not 0 < step <= high - low:
        refuse(f"has step = {step}", f"use a step above 0, and at most {high - low}")
    apply(recipe, {key: low})
    apply(recipe, {key: high})
    return Range(low, high, log, step)


def _read_choices(key: str, given: Any, recipe: Recipe, refuse: Any) -> Choices:
    if not isinstance(given, list) or not given:
        refuse(f"has choices = {given!r}", "write a list of values")
    checked = []
    for value in given:
        # Text is a value only of settings that are text: 'flip = "true"' would pass otherwise.
        changed = apply(recipe, {key: value})
        found = values_of(changed, {key: Choices(())})[key]
        if isinstance(value, str) != isinstance(found, str) or isinstance(value, bool) != isinstance(
            found, bool
        ):
            refuse(f"has the choice {value!r}", f"write values like {found!r}")
        if key == "network" and recipe.size < (least := networks.get(value).smallest):
            refuse(f"has the choice {value!r}, which takes images of at least {least} pixels", "remove it")
        checked.append(found)
    if any(value in checked[:place] for place, value in enumerate(checked)) or len(checked) < 2:
        refuse(f"has choices = {given!r}", "list at least two different values")
    return Choices(tuple(checked))


def _text(value: Any) -> str:
    """Return a value as `recipes.override` takes it: text without quotes, the others as TOML."""
    return json.dumps(value) if isinstance(value, bool | list | tuple) else str(value)
