"""What a search for hyperparameters found: its trials, the best recipe, and how well that was confirmed."""

import datetime
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mien._text import pluralize
from mien.training import recipes, search_spaces
from mien.training.recipes import Recipe
from mien.training.search_spaces import SearchSpace

#: Files of a study.
BEST, REPORT = "best.toml", "report.html"
#: What trials are compared by.
Metric = Literal["val_accuracy", "val_loss"]


def format_score(metric: str, score: float) -> str:
    """Return a score as text.

    >>> format_score("val_accuracy", 0.1442), format_score("val_loss", 1.5)
    ('14.42%', '1.5000')
    """
    return f"{score:.2%}" if metric == "val_accuracy" else f"{score:.4f}"


@dataclass(frozen=True)
class Trial:
    """A trial of a search.

    Args:
        number: Its number, from 1.
        state: `complete`, `pruned`, `failed`, or `running` if it is being trained or was stopped.
        values: The settings that the search chose, by their names with dots.
        score: The metric of its model on val; None without a model.
        epochs: After each epoch, the metric of the model that the training would select then.
        epoch: The epoch of its model, or its last one.
        seconds: Duration of its epochs; 0 if it was copied.
        copied: The number of the trial with the same settings, whose result it has.
        reason: Why it failed.
    """

    number: int
    state: Literal["complete", "pruned", "failed", "running"]
    values: Mapping[str, Any]
    score: float | None
    epochs: tuple[float, ...]
    epoch: int | None = None
    seconds: float | None = None
    copied: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Confirmation:
    """The training of the best recipe with another seed.

    Args:
        seed: The seed.
        score: The metric of its model on val; None if the training failed.
    """

    seed: int
    score: float | None


@dataclass(frozen=True)
class StudyResult:
    """What a search found so far.

    Args:
        path: The folder of the study.
        recipe: The recipe that it started from.
        space: The search space.
        metric: What trials are compared by, on val: `val_accuracy` or `val_loss`.
        wanted: Number of trials that the search was asked for.
        trials: The trials, in the order of their numbers.
        best: The best trial, which has a model; None if there is none yet.
        confirmed: The trainings of the best recipe with other seeds.
        importance: Share of each setting in the difference between good and other trials, in [0, 1]; empty
            with fewer than 8 complete trials.
        data: Name of the data set.
        images: Number of images in train and in val.
    """

    path: Path
    recipe: Recipe
    space: SearchSpace
    metric: Metric
    wanted: int
    trials: tuple[Trial, ...]
    best: Trial | None
    confirmed: tuple[Confirmation, ...]
    importance: Mapping[str, float]
    data: str
    images: Mapping[str, int]

    @property
    def best_file(self) -> Path:
        """The file of the best recipe."""
        return self.path / BEST

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / REPORT

    @property
    def scores(self) -> list[float]:
        """The scores of the best recipe with other seeds."""
        return [each.score for each in self.confirmed if each.score is not None]

    @property
    def recipe_values(self) -> dict[str, Any]:
        """The recipe's own values of the settings in the space."""
        return search_spaces.values_of(self.recipe, self.space)

    def count(self, state: str) -> int:
        """Return the number of trials in a state."""
        return sum(each.state == state for each in self.trials)

    @property
    def best_recipe(self) -> Recipe | None:
        """The recipe of the best trial, with what was measured."""
        if self.best is None:
            return None
        return replace(
            search_spaces.apply(self.recipe, self.best.values),
            name=f"{self.recipe.name}-tuned",
            about=f"{self.recipe.name} with the best of {pluralize(len(self.trials), 'trial')} of mien tune.",
            command=f"mien train DATA --recipe {BEST}",
            measured=self.measured,
        )

    @property
    def measured(self) -> str:
        """What was measured, in one sentence; empty without a complete trial."""
        if self.best is None or self.best.score is None:
            return ""
        n, scores = self.images["val"], self.scores
        of = f"on {n:,} val images of {self.data}"
        why = f"selected on them among {pluralize(len(self.trials), 'trial')}, so the score is optimistic"
        day = datetime.datetime.now(tz=datetime.UTC).date()
        if not scores:
            return f"{self.format(self.best.score)} {self.unit} {of} with one seed, {why}, {day}"
        spread = f" ± {self.format(statistics.stdev(scores))}" if len(scores) > 1 else ""
        failed = len(self.confirmed) - len(scores)
        lost = f"; {pluralize(failed, 'seed')} diverged" if failed else ""
        return (
            f"{self.format(statistics.mean(scores))}{spread} {self.unit} {of} over "
            f"{pluralize(len(scores), 'seed')} that the search did not use; {why}{lost}, {day}"
        )

    @property
    def unit(self) -> str:
        """The unit of a formatted score, in a sentence."""
        return "% accuracy" if self.metric == "val_accuracy" else "loss"

    def format(self, score: float) -> str:
        """Return a score as text: percent without its sign, or a loss."""
        return format_score(self.metric, score).removesuffix("%")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold."""
        best, recipe, scores = self.best, self.best_recipe, self.scores
        return {
            "schema": 1,
            "study": str(self.path),
            "recipe": self.recipe.name,
            "metric": self.metric,
            "data": {"name": self.data, **self.images},
            "space": search_spaces.to_dict(self.space),
            "wanted": self.wanted,
            "trials": [
                {**vars(each), "values": dict(each.values), "epochs": list(each.epochs)}
                for each in self.trials
            ],
            "importance": dict(self.importance),
            "best": None
            if best is None or recipe is None
            else {
                "trial": best.number,
                "score": best.score,
                "file": str(self.best_file),
                "recipe": recipes.to_dict(recipe),
                "confirmed": [vars(each) for each in self.confirmed],
                "mean": statistics.mean(scores) if scores else None,
                "standard_deviation": statistics.stdev(scores) if len(scores) > 1 else None,
            },
            "report": str(self.report),
        }
