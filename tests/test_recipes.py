"""Recipes: frozen, typed, and there and back through TOML."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from builders import refused
from mien.errors import RecipeError
from mien.models import networks
from mien.training import recipes
from mien.training.recipes import RECIPES, Recipe

NAMES = sorted(RECIPES)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_goes_there_and_back(name: str) -> None:
    recipe = recipes.get(name)
    assert recipe.name == name
    assert recipes.parse(recipes.to_toml(recipe)) == recipe
    assert recipes.from_dict(json.loads(json.dumps(recipes.to_dict(recipe)))) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_says_what_it_is_and_names_a_network(name: str) -> None:
    recipe = recipes.get(name)
    assert recipe.network in networks.NETWORKS
    assert recipe.about
    assert recipe.command.startswith("mien ")


def test_the_seed_is_the_readmes() -> None:
    seed = recipes.get("seed")
    assert (seed.epochs, seed.batch_size, seed.seed, seed.size) == (25, 128, 42, 48)
    assert seed.optimizer == recipes.Optimizer(name="adam", learning_rate=0.001)
    assert seed.augment == recipes.Augment(rotation=10, zoom=0.1, flip=True)
    assert seed.stopping == recipes.Stopping(patience=10, min_delta=0)
    assert seed.checkpoints.weights == "all"
    assert seed.targets.smoothing == 0


def test_recipes_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipes.get("seed").epochs = 3  # type: ignore[misc]


def test_settings_change_a_copy() -> None:
    seed = recipes.get("seed")
    changed = recipes.override(
        seed,
        [
            "epochs=5",
            "augment.rotation = 15",
            "augment.flip=false",
            "optimizer.name=sgd",
            "augment.erase_area=[0.1, 0.3]",
            "name=mine",
        ],
    )
    assert (changed.epochs, changed.augment.rotation, changed.augment.flip) == (5, 15.0, False)
    assert (changed.optimizer.name, changed.augment.erase_area) == ("sgd", (0.1, 0.3))
    assert changed.name == "mine"
    assert seed == RECIPES["seed"]
    assert recipes.override(seed, []) == seed


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("epocs=5", "'epochs'"),
        ("augment.rotatoin=5", "'augment.rotation'"),
        ("zzzzzz=5", "name, network"),
        ("epochs", "key=value"),
        ("epochs=five", "epochs='five'"),
        ("epochs=0", "epochs=0"),
        ("epochs=2.5", "epochs=2.5"),
        ("optimizer.name=lion", "'adam', 'adamw'"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate=-1"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate=nan"),
        ("augment.zoom=1", "augment.zoom=1"),
        ("augment=5", "augment"),
        ("seed=-1", "seed=-1"),
        ("name=../up", "name="),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(setting: str, says: str) -> None:
    with refused(RecipeError, says):
        recipes.override(recipes.get("seed"), [setting])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "TOML"),
        ("epochs = 3", "name"),
        ('name = "a"\nnetwork = "seed"\nepoch = 3', "'epochs'"),
        ('name = "a"\nnetwork = "seed"\n[augment]\nrotate = 3', "'augment.rotation'"),
        ('name = "a"\nnetwork = 3', "network=3"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(text: str, says: str) -> None:
    with refused(RecipeError, says):
        recipes.parse(text)


def test_the_nearest_recipe_is_named() -> None:
    with refused(RecipeError, "'quick'"):
        recipes.get("quik")
    with refused(RecipeError, *recipes.RECIPES):
        recipes.get("zzz")


def test_a_recipe_of_ones_own_needs_but_a_name_and_a_network() -> None:
    assert recipes.parse('name = "mine"\nnetwork = "small"') == Recipe(name="mine", network="small")


def test_the_table_says_in_short_what_was_measured() -> None:
    assert recipes.BRIEF.keys() == recipes.RECIPES.keys()
    for name, brief in recipes.BRIEF.items():
        measured = recipes.RECIPES[name].measured
        assert bool(brief.score) == bool(brief.time) == bool(measured), name
        if measured:
            assert brief.score.partition("%")[0] in measured
            words = brief.time.replace(" more", "").replace("90s", "90 seconds")
            assert words in measured.replace("\n", " ")


def test_the_table_has_room_in_80_columns() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mien", "recipes"],
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.strip()]) <= len(recipes.RECIPES) + 4  # none is folded
    assert "mien recipes NAME" in lines[-1]
