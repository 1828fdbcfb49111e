"""Probabilities out of folds: what networks say of training images that they did not learn from."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data import duplicates, probabilities
from mien.data.datasets import Dataset, Split
from mien.data.probabilities import Stored
from mien.errors import DataError, RunError
from mien.models import model as bundle
from mien.training.recipes import Recipe
from mien.training.runs import Run, open_run

#: What `fit` leaves beside the runs of its folds.
FILE = "out-of-fold.npz"

Fit = Callable[[Dataset, Path], Run]
Resume = Callable[[Run, Dataset], Run]


def predict_out_of_fold(
    dataset: Dataset,
    recipe: Recipe,
    folds: int,
    to: str | os.PathLike[str],
    *,
    fit: Fit,
    resume: Resume,
    say: Callable[[str], None],
) -> None:
    """Train once a fold without it, and ask each network about its fold.

    Folds that are done are kept, and one that was stopped goes on, so that the same call finishes the work.

    Args:
        dataset: Its train split is cut; the val split watches no training, each fold is its network's val.
        recipe: What each network is trained by.
        folds: How many.
        to: The folder of `fold-1`, `fold-2`...
        fit: Trains a fold's data into a folder.
        resume: Goes on with a fold.
        say: Takes a sentence.

    Raises:
        DataError: There are too few images, or a fold was trained with other votes.
        RunError: The folder holds runs of another recipe.
    """
    whole = dataset.split("train")
    say("comparing images, for those that are equal or near stay in one fold")
    parts = assign_folds(whole, dataset.labels, folds, seed=recipe.seed)
    answers: dict[str, NDArray[np.float32]] = {}
    for number, held in enumerate(parts, start=1):
        kept = np.setdiff1d(np.arange(len(whole)), held)
        part = replace(
            dataset, train=select(whole, kept), val=replace(select(whole, held), name="val"), test=None
        )
        say(f"fold {number} of {folds}: learns from {len(kept):,} images, is asked about {len(held):,}")
        made = _one(part, recipe, Path(to) / f"fold-{number}", fit=fit, resume=resume)
        shipped = bundle.load(made.bundle)
        for name, head in shipped.card.heads.items():
            found = shipped.run(whole.images[held], head=name)
            answers.setdefault(head.output, np.empty((len(whole), found.shape[1]), np.float32))[held] = found
    stored = Stored(whole.fingerprint, dataset.labels, answers, f"recipe {recipe.name}, out of {folds} folds")
    probabilities.write(Path(to) / FILE, stored)


def _one(part: Dataset, recipe: Recipe, path: Path, *, fit: Fit, resume: Resume) -> Run:
    if not path.exists():
        return fit(part, path)
    made = open_run(path)
    if made.recipe() != recipe:
        raise RunError(f"{path} is a run of another recipe; choose another folder with --out")
    if made.facts()["status"] != "done":
        return resume(made, part)
    if made.facts()["data"]["fingerprint"] != part.fingerprint:
        raise RunError(f"{path} was trained on other data; choose another folder with --out")
    made.check_votes(part.votes_fingerprint)
    return made


def assign_folds(split: Split, labels: Sequence[str], folds: int, *, seed: int) -> list[NDArray[np.intp]]:
    """Cut a split into folds: every class shared out evenly, images that are equal or near together.

    A network that learnt a copy of an image would know its label by heart, and the audit would believe it.
    Photographs that were cut otherwise may come apart, for to look for them among all takes too long.

    Returns:
        The indices of each fold, ascending; every image is in one of them.

    Raises:
        DataError: A class has fewer images that are no copies of one another than there are folds.
    """
    if folds < 2:
        raise DataError(f"folds is {folds}; at least 2 are needed, so that every image is left out once")
    copies = {int(group[0]): group.tolist() for group in duplicates.find(split.images).groups()}
    more = {index for group in copies.values() for index in group[1:]}
    groups = [copies.get(index, [index]) for index in range(len(split)) if index not in more]
    random = np.random.default_rng(seed)
    dealt: list[list[int]] = [[] for _ in range(folds)]
    for label, name in enumerate(labels):
        mine = [group for group in groups if split.labels[group[0]] == label]
        if len(mine) < folds:
            raise DataError(
                f"the class {name!r} has {len(mine)} training images that are no copies of one another, "
                f"too few for {folds} folds; ask for fewer folds, or add images"
            )
        shuffled = [mine[place] for place in random.permutation(len(mine)).tolist()]
        held = [0] * folds
        # The largest first, each to the fold that holds the fewest: so one crowd tips no scale.
        for group in sorted(shuffled, key=len, reverse=True):
            fold = held.index(min(held))
            dealt[fold] += group
            held[fold] += len(group)
    return [np.array(sorted(fold), np.intp) for fold in dealt]


def select(split: Split, members: NDArray[np.intp]) -> Split:
    """Return the images of a split that `members` index, in their order."""
    return Split(
        name=split.name,
        images=split.images[members],
        labels=split.labels[members],
        votes=None if split.votes is None else split.votes[members],
        files=tuple(split.files[member] for member in members.tolist()),
    )
