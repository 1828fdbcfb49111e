"""Named training recipes as data: what to train, how, and the score it reached.

A recipe is frozen. Change one with `override(recipe, ["epochs=5", "augment.rotation=15"])`; read and write
it as TOML with `parse` and `to_toml`. `RECIPES` holds the named ones; each says the command that runs it and
what it measured.
"""

import difflib
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any

import tomli_w
from pydantic import TypeAdapter, ValidationError

from mien.errors import RecipeError
from mien.training.recipes.named import BRIEF, RECIPES, Brief
from mien.training.recipes.settings import Augment, Checkpoints, Optimizer, Recipe, Stopping, Targets

__all__ = [
    "BRIEF",
    "RECIPES",
    "Augment",
    "Brief",
    "Checkpoints",
    "Optimizer",
    "Recipe",
    "Stopping",
    "Targets",
    "from_dict",
    "get",
    "override",
    "parse",
    "to_dict",
    "to_toml",
]

_ADAPTER = TypeAdapter(Recipe)


def get(name: str) -> Recipe:
    """Return the recipe called `name`.

    Raises:
        RecipeError: There is none; the message names the nearest.
    """
    if name in RECIPES:
        return RECIPES[name]
    raise RecipeError(f"{name!r} is no recipe mien knows; {_suggest(name, RECIPES)}")


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return `recipe` as nested dicts of plain values, as JSON and TOML take them."""
    values: dict[str, Any] = _ADAPTER.dump_python(recipe, mode="json")
    return values


def from_dict(values: dict[str, Any]) -> Recipe:
    """Build a recipe from nested dicts.

    Raises:
        RecipeError: A key is unknown, or a value of the wrong type or out of range.
    """
    try:
        recipe: Recipe = _ADAPTER.validate_python(values)
    except ValidationError as error:
        raise RecipeError(_explain(error)) from None
    return recipe


def to_toml(recipe: Recipe) -> str:
    """Return `recipe` as TOML; `parse` reads it back equal."""
    return tomli_w.dumps(to_dict(recipe))


def parse(text: str) -> Recipe:
    """Read a recipe from TOML.

    Raises:
        RecipeError: The text is not TOML, or not a recipe.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"the recipe is not TOML: {error}") from None
    return from_dict(values)


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Change single values of a recipe.

    Args:
        recipe: The recipe to start from; it is left as it is.
        settings: `key=value` each; a key inside a group has a dot: `augment.rotation=15`.

    Raises:
        RecipeError: A setting has no `=`, its key is unknown (the nearest is named), or its value is
            of the wrong type or out of range.
    """
    values = to_dict(recipe)
    known = dict(_leaves(values))
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals:
            raise RecipeError(f"{setting!r} is no setting; write key=value, such as epochs=5")
        if key not in known:
            raise RecipeError(f"{key!r} is no setting of a recipe; {_suggest(key, known)}")
        *groups, last = key.split(".")
        place = values
        for group in groups:
            place = place[group]
        place[last] = _value(text.strip(), known[key])
    return from_dict(values)


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _value(text: str, example: object) -> object:
    """Read `text` as TOML unless a string is wanted, so that `flip=true` and `epochs=5` need no quotes."""
    if isinstance(example, str):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _suggest(word: str, known: dict[str, Any]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _explain(error: ValidationError) -> str:
    """Name the first fault in one sentence, with the nearest known key where a key is unknown."""
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = dict(_leaves(to_dict(Recipe(name="any", network="any"))))
        return f"{key!r} is no setting of a recipe; {_suggest(key, known)}"
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"recipe setting {key}={fault.get('input')!r}: {message}"
