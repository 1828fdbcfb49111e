"""Targets of a training, by output: labels, shares of annotator votes, and a teacher's probabilities.

The output `answer` learns the labels. The output `ferplus`, which only recipes with `targets.ferplus` have,
learns the votes of FER+. With a teacher, each row holds two distributions: first the data's, then the
teacher's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.data.datasets import Dataset, Split
from mien.data.probabilities import SavedPredictions
from mien.errors import DataError
from mien.labels import EMOTIONS, VOTES
from mien.models.model_files import Card
from mien.training.recipes import Recipe, TargetSettings

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of train and val.

    Args:
        train: Targets of each training image by output.
        val: The same for validation.
        distils: Whether each row holds a teacher's distribution too.
        frequencies: Share of each of the k classes among the training labels.
    """

    train: dict[str, Floats]
    val: dict[str, Floats]
    distils: bool
    frequencies: tuple[float, ...]


def make_targets(
    dataset: Dataset, recipe: Recipe, teacher: SavedPredictions | None, *, views: bool = False
) -> Targets:
    """Return the targets of a training.

    Args:
        dataset: Has train and val.
        recipe: Its `targets` say how targets are made.
        teacher: Probabilities for the images of train; None for no distillation.
        views: Whether teachers answer views of the images. Then their columns of train are not made here.

    Raises:
        DataError: As `make_split_targets`; or the teacher's probabilities are for other images
            or lack an output.
    """
    train, val = dataset.split("train"), dataset.split("val")
    labels, settings = dataset.labels, recipe.targets
    taught: dict[str, Floats] | None = None
    if teacher is not None:
        taught = teacher.of(train.fingerprint, labels, n=len(train))
        taught["answer"] = taught.pop("probabilities")
        if settings.ferplus and "ferplus" not in taught:
            raise DataError(
                "the recipe trains a second output, and the teacher has probabilities for only one; set "
                "targets.ferplus=0, or name a teacher with both"
            )
    distils = teacher is not None or views
    return Targets(
        train=make_split_targets(train, labels, settings, teacher=taught, distils=distils and not views),
        val=make_split_targets(val, labels, settings, distils=distils),
        distils=distils,
        frequencies=tuple(float(x) for x in one_hot(train.labels, len(labels)).mean(axis=0)),
    )


def check_images(dataset: Dataset, recipe: Recipe) -> None:
    """Check that a data set has train and val, and images of the recipe's size.

    Raises:
        DataError: A split is missing, or its images have another size.
    """
    for name in ("train", "val"):
        split = dataset.split(name)
        if split.images.shape[1:] != (recipe.size, recipe.size, 1):
            raise DataError(
                f"split {name!r} has images of shape {split.images.shape[1:]}, the recipe's size is "
                f"{recipe.size}; load the data with size={recipe.size}"
            )


def make_split_targets(
    split: Split,
    labels: Sequence[str],
    settings: TargetSettings,
    *,
    teacher: dict[str, Floats] | None = None,
    distils: bool = False,
) -> dict[str, Floats]:
    """Return the targets of a split's images by output, each `(n, k)`, or `(n, 2 k)` with `distils`.

    Args:
        split: Labels `(n,)` and, if the settings use them, votes.
        labels: The k class names.
        settings: How targets are made.
        teacher: The teacher's probabilities `(n, k)` for each output.
        distils: Add the teacher's columns to each row. Without a teacher they are zeros, which add nothing to
            the loss, as on validation images.

    Raises:
        DataError: The settings use votes, and the split has none or has classes without votes.
    """
    truth = one_hot(split.labels, len(labels))
    targets = {"answer": truth}
    if settings.votes or settings.ferplus:
        seen = vote_shares(split, labels)
        targets["answer"] = ((1 - settings.votes) * truth + settings.votes * seen).astype(np.float32)
        if settings.ferplus:
            targets["ferplus"] = seen
    if distils:
        given = teacher or {name: np.zeros_like(target) for name, target in targets.items()}
        targets = {name: np.hstack([target, given[name]]) for name, target in targets.items()}
    return targets


def vote_shares(split: Split, labels: Sequence[str]) -> Floats:
    """Return the share of FER+'s votes that each of `labels` got, rows `(n, k)` that sum to 1.

    Votes for contempt, unknown and no face are left out. An image without other votes gets its label.

    Raises:
        DataError: The split has no votes, or a class that annotators could not choose.
    """
    if split.votes is None:
        raise DataError(
            f"the recipe learns from FER+ votes, and split {split.name!r} has none; add --votes, "
            "or set targets.votes=0 and targets.ferplus=0"
        )
    strange = [label for label in labels if label not in EMOTIONS]
    if strange:
        raise DataError(
            f"the recipe learns from FER+ votes, which have no class {strange[0]!r}; "
            "set targets.votes=0 and targets.ferplus=0"
        )
    votes = split.votes[:, [VOTES.index(label) for label in labels]]
    total = votes.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, votes / np.maximum(total, 1), one_hot(split.labels, len(labels)))
    return shares.astype(np.float32)


def frequencies(card: Card, head: str, train: Split) -> tuple[float, ...]:
    """Return the frequency of each label in the training targets of a head.

    Args:
        card: The card of the model.
        head: One of its output heads.
        train: The images that it learned from, with labels in the card's order.

    Returns:
        The share of each label, in the labels' order; they sum to 1. For a head that learned votes, the mean
        over images of their vote shares. If the recipe's `targets.balance` b removed part of the frequencies
        from the answers, and no calibration restored it, the frequencies to the power 1 - b.

    Raises:
        DataError: The head learned votes, and the split has none.
    """
    labels = one_hot(train.labels, len(card.labels))
    share = float(card.recipe.get("targets", {}).get("votes", 0.0))
    if card.head(head).output == "ferplus":
        share = 1.0
    seen = vote_shares(train, card.labels) if share else labels
    mean = ((1 - share) * labels + share * seen).mean(axis=0, dtype=np.float64)
    balance = float(card.recipe.get("targets", {}).get("balance", 0.0))
    if balance and card.head(head).output != "ferplus" and not any(card.head(head).logit_bias):
        mean = np.power(mean, 1 - balance, out=np.zeros_like(mean), where=mean > 0)
    return tuple(round(float(each), 6) for each in mean / mean.sum())


def mix_images(
    images: NDArray[np.uint8], targets: dict[str, Floats], alpha: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], dict[str, Floats]]:
    """Blend every image of a batch, and its targets, with another one of the batch (mixup).

    Args:
        images: `(n, s, s, 1)` uint8.
        targets: `(n, m)` each.
        alpha: Parameter of the Beta distribution of the other image's share; the smaller share is used.
        rng: Draws shares and partners.

    Source: Zhang et al. 2018, arXiv:1710.09412.
    """
    share, other = draw_mix(len(images), alpha, rng)
    wide = share[:, None, None, None]
    blended = np.rint(images * (1 - wide) + images[other] * wide).astype(np.uint8)
    flat = share[:, None]
    return blended, {name: target * (1 - flat) + target[other] * flat for name, target in targets.items()}


def draw_mix(count: int, alpha: float, rng: np.random.Generator) -> tuple[Floats, NDArray[np.int64]]:
    """Draw the other image's share `(count,)` in [0, 0.5], and its index `(count,)`, for each image."""
    share = rng.beta(alpha, alpha, count).astype(np.float32)
    return np.minimum(share, 1 - share), rng.permutation(count)


def one_hot(labels: NDArray[np.int64], classes: int) -> Floats:
    """Return labels `(n,)` as rows `(n, classes)` with a single 1."""
    return np.eye(classes, dtype=np.float32)[labels]
