"""Out-of-fold probabilities: predictions for training images by networks that were not trained on them."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien import _files
from mien._text import pluralize
from mien.data import division, duplicates, probabilities
from mien.data.datasets import Dataset, Split
from mien.data.probabilities import SavedPredictions
from mien.errors import DataError, RunError
from mien.models import model_files
from mien.training.recipes import Recipe, without_texts
from mien.training.runs import Run, open_run
from mien.training.teachers import by_onnx

#: The file of probabilities beside the runs of the folds.
FILE = "out-of-fold.npz"
#: Seconds between two looks at folds that other processes train.
_WAIT = 0.5

Fit = Callable[[Dataset, Path], Run]
Resume = Callable[[Run, Dataset], Run]


def train_folds(
    dataset: Dataset,
    recipe: Recipe,
    folds: int,
    to: str | os.PathLike[str],
    *,
    fit: Fit,
    resume: Resume,
    say: Callable[[str], None],
) -> tuple[list[NDArray[np.intp]], list[Run]]:
    """Train one network for each fold on the other folds.

    Finished folds are kept, and a stopped one goes on. Processes that share the folder share the folds: each
    trains those that no other one trains, and waits for the others at the end.

    Args:
        dataset: Its train split is divided into folds. Each fold is the val split of its network.
        recipe: The recipe of every network.
        folds: Number of folds.
        to: The folder of `fold-1`, `fold-2` and so on.
        fit: Trains a fold into a folder.
        resume: Goes on with the training of a fold.
        say: Called with messages.

    Returns:
        The indices of each fold, and its run.

    Raises:
        DataError: There are too few images, or a fold was trained with other votes.
        RunError: The folder holds runs of another recipe, more folds, or a search.
        OutputError: The folder cannot be made.
    """
    whole = dataset.split("train")
    check_folder(to, folds)
    say("searching for duplicates, which must stay in one fold")
    parts = assign_folds(whole, dataset.labels, folds, seed=recipe.seed)
    claims = Path(to) / "claims"
    with _files.writing(claims):
        claims.mkdir(parents=True, exist_ok=True)
    made: dict[int, Run] = {}
    is_waiting = False
    while left := [number for number in range(folds) if number not in made]:
        before = len(made)
        for number in left:
            path = Path(to) / f"fold-{number + 1}"
            with _files.writing(claims):
                lock = _files.hold(claims / f"{path.name}.lock")
            if lock is None:
                continue
            try:
                part, name = _divide(dataset, parts[number]), f"fold {number + 1} of {folds}"
                is_done = _is_done(path)
                if not is_done:
                    trained, held = len(part.split("train")), len(parts[number])
                    say(f"{name}: trains on {trained:,} images, predicts {held:,}")
                made[number] = _one(part, recipe, path, fit=fit, resume=resume)
                if not is_done:
                    say(f"{name}: {_score(made[number])}")
            finally:
                lock.release()
        if len(made) == before:
            if not is_waiting:
                say(f"waiting for {pluralize(len(left), 'fold')} that other processes train")
            is_waiting = True
            time.sleep(_WAIT)
    return parts, [made[number] for number in range(folds)]


def predict_out_of_fold(
    dataset: Dataset,
    recipe: Recipe,
    to: str | os.PathLike[str],
    parts: Sequence[NDArray[np.intp]],
    made: Sequence[Run],
) -> None:
    """Predict each fold with the network that was not trained on it, and write the probabilities.

    Args:
        dataset: As for `train_folds`.
        recipe: The recipe of every network.
        to: The folder for the file.
        parts: The indices of each fold.
        made: The run of each fold.
    """
    whole = dataset.split("train")
    answers: dict[str, NDArray[np.float32]] = {}
    for held, run in zip(parts, made, strict=True):
        shipped = model_files.load(run.model_folder)
        for output, found in by_onnx(shipped)(whole.images[held]).items():
            answers.setdefault(output, np.empty((len(whole), found.shape[1]), np.float32))[held] = found
    stored = SavedPredictions(
        whole.fingerprint, dataset.labels, answers, f"recipe {recipe.name}, out of {len(parts)} folds"
    )
    probabilities.write(Path(to) / FILE, stored)


def _score(run: Run) -> str:
    """Return the accuracy of a network on the images that it predicts."""
    epoch = run.facts()["shipped"]["epoch"]
    return f"{run.history()[epoch - 1]['val_accuracy']:.1%} of its predictions are right"


def check_folder(to: str | os.PathLike[str], folds: int) -> None:
    """Check that a folder can hold the runs of folds.

    Raises:
        RunError: It is the folder of a search, or of more folds.
    """
    if (Path(to) / "study.json").exists():
        raise RunError(f"{to} is the folder of a search; choose another folder with --out")
    numbers = [path.name.removeprefix("fold-") for path in Path(to).glob("fold-*")]
    most = max((int(number) for number in numbers if number.isdecimal()), default=0)
    if most > folds:
        raise RunError(
            f"{to} holds {most} folds, not {folds}; repeat with --folds {most}, or choose another folder "
            "with --out"
        )


def count_unfinished(folds: int, to: str | os.PathLike[str]) -> int:
    """Return the number of folds in a folder that are not trained to the end."""
    return sum(not _is_done(Path(to) / f"fold-{number + 1}") for number in range(folds))


def _is_done(path: Path) -> bool:
    return path.exists() and open_run(path).facts()["status"] == "done"


def _divide(dataset: Dataset, held: NDArray[np.intp]) -> Dataset:
    """Return a data set whose val split is a fold, and whose train split is the other folds."""
    whole = dataset.split("train")
    kept = np.setdiff1d(np.arange(len(whole)), held)
    return replace(dataset, train=whole.take(kept), val=replace(whole.take(held), name="val"), test=None)


def _one(part: Dataset, recipe: Recipe, path: Path, *, fit: Fit, resume: Resume) -> Run:
    if not path.exists():
        return fit(part, path)
    made = open_run(path)
    if without_texts(made.recipe()) != without_texts(recipe):
        raise RunError(f"{path} was trained with another recipe; choose another folder with --out")
    if made.facts()["status"] != "done":
        return resume(made, part)
    if made.facts()["data"]["fingerprint"] != part.fingerprint:
        raise RunError(f"{path} was trained on other data; choose another folder with --out")
    made.check_votes(part.votes_fingerprint)
    return made


def assign_folds(split: Split, labels: Sequence[str], folds: int, *, seed: int) -> list[NDArray[np.intp]]:
    """Divide a split into folds with an even share of each class.

    Exact and near duplicates stay in one fold, because a network that learned from a duplicate of an image
    has memorised its label. The images of a person or other group stay in one fold too, if groups are known.
    Re-cropped duplicates are not searched for, because that takes too long.

    Returns:
        The indices of each fold, ascending; every image is in one of them.

    Raises:
        DataError: A class has fewer distinct images than there are folds; or, with groups, a fold would have
            no image, or all images of a class.
    """
    if folds < 2:
        raise DataError(f"folds is {folds}; at least 2 are needed")
    found = duplicates.find(split.images).groups()
    if split.groups is not None:
        return _whole_groups(split, labels, folds, found, seed=seed)
    copies = {int(group[0]): group.tolist() for group in found}
    more = {index for group in copies.values() for index in group[1:]}
    groups = [copies.get(index, [index]) for index in range(len(split)) if index not in more]
    random = np.random.default_rng(seed)
    dealt: list[list[int]] = [[] for _ in range(folds)]
    for label, name in enumerate(labels):
        mine = [group for group in groups if split.labels[group[0]] == label]
        if len(mine) < folds:
            raise DataError(
                f"the class {name!r} has {len(mine)} distinct training images, too few for {folds} folds; "
                "use fewer folds, or add images"
            )
        shuffled = [mine[place] for place in random.permutation(len(mine)).tolist()]
        held = [0] * folds
        # Largest groups first, each to the smallest fold, which keeps the folds even.
        for group in sorted(shuffled, key=len, reverse=True):
            fold = held.index(min(held))
            dealt[fold] += group
            held[fold] += len(group)
    return [np.array(sorted(fold), np.intp) for fold in dealt]


def _whole_groups(
    split: Split, labels: Sequence[str], folds: int, copies: Sequence[NDArray[np.int64]], *, seed: int
) -> list[NDArray[np.intp]]:
    """Return folds that keep groups of the split, and sets of copies, whole."""
    assert split.groups is not None
    groups = division.connect(
        len(split), (*division.sets_of(split.groups), *(each.tolist() for each in copies))
    )
    dealt = np.empty(len(split), np.intp)
    for group, fold in zip(
        groups, division.deal(groups, split.labels, [1 / folds] * folds, seed=seed), strict=True
    ):
        dealt[group] = fold
    counts = np.array(
        [np.bincount(split.labels[dealt == fold], minlength=len(labels)) for fold in range(folds)]
    )
    if not counts.any(axis=1).all():
        raise DataError(
            f"there are {len(groups):,} groups of images to keep together, too few for {folds} folds; use "
            "fewer folds"
        )
    for name, held in zip(labels, (counts > 0).sum(axis=0), strict=True):
        if held < 2:
            raise DataError(
                f"all images of the class {name!r} are in one fold, because they belong to one group or few; "
                "add images of other groups, or use fewer folds"
            )
    return [np.flatnonzero(dealt == fold) for fold in range(folds)]
