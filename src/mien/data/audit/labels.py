"""Labels: how many there are of each class, and which are probably wrong."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mien.data.audit.findings import Finding, Material
from mien.data.datasets import Split
from mien.data.probabilities import Stored
from mien.errors import DataError

#: Times that the largest class of train may be the smallest before it is worth a note.
UNEVEN = 10

#: Difference between the shares of classes in two splits, in [0, 1], from which they are called unlike.
UNLIKE = 0.1


def classes(material: Material) -> dict[str, dict[str, int]]:
    """Count the images of each class in each split."""
    found = {}
    for split in material.dataset.splits:
        counts = np.bincount(split.labels, minlength=len(material.dataset.labels))
        found[split.name] = dict(zip(material.dataset.labels, counts.tolist(), strict=True))
    return found


def findings(material: Material) -> list[Finding]:
    """Tell of classes that are rare, missing or of unlike shares."""
    return [*_balance(material), *_shares(material)]


def suspects(split: Split, stored: Stored, labels: tuple[str, ...]) -> NDArray[np.intp]:
    """Find the labels of a split that are probably wrong, by confident learning.

    An image counts as class k when its probability of k reaches what images labelled k have on average; of
    several such classes the likeliest is taken. Where that is not its label, the label is suspect.

    Args:
        split: Images with their labels.
        stored: Probabilities by models that did not learn from the image they speak of.
        labels: The data set's class names.

    Returns:
        Places in the split, the most suspect first: by how far the label's probability lies below the
        greatest other one.

    Raises:
        DataError: The probabilities are for other images or classes.

    Source: Northcutt et al. 2021, Confident Learning, arXiv:1911.00068.
    """
    given = probabilities(split, stored, labels)
    own = given[np.arange(len(split)), split.labels]
    counts = np.bincount(split.labels, minlength=len(labels))
    # A class without images has no average, and nothing reaches it.
    usual = np.bincount(split.labels, weights=own, minlength=len(labels)) / np.maximum(counts, 1)
    usual[counts == 0] = np.inf
    reached = np.where(given >= usual, given, -1.0)
    chosen = reached.argmax(axis=1)
    doubted = np.flatnonzero((reached.max(axis=1) >= 0) & (chosen != split.labels))
    others = given.copy()
    others[np.arange(len(split)), split.labels] = -1
    margin = own - others.max(axis=1)
    return doubted[np.argsort(margin[doubted], kind="stable")]


def probabilities(split: Split, stored: Stored, labels: tuple[str, ...]) -> NDArray[np.float32]:
    """Return the probabilities `(n, k)` of a split's images, in the order of `labels`.

    Raises:
        DataError: They are for other images or classes.
    """
    arrays = stored.of(split.fingerprint, labels, n=len(split))
    if "probabilities" not in arrays:
        raise DataError("the file holds no array 'probabilities'; give one that mien train --folds wrote")
    return arrays["probabilities"]


def doubts(material: Material, stored: Stored) -> list[Finding]:
    """Tell of the training labels that are probably wrong.

    Raises:
        DataError: There is no train, or the probabilities are for other images or classes.
    """
    split = material.dataset.split("train")
    labels = material.dataset.labels
    places = suspects(split, stored, labels)
    if not places.size:
        return []
    given = probabilities(split, stored, labels)
    train = material.members("train")
    cases = []
    for place in places.tolist():
        other = int(np.where(np.arange(len(labels)) == split.labels[place], -1, given[place]).argmax())
        says = (
            f"label {labels[int(split.labels[place])]} {given[place, split.labels[place]]:.0%}, "
            f"{labels[other]} {given[place, other]:.0%}"
        )
        cases.append(material.case([train[place]], says))
    return [
        Finding(
            kind="label errors",
            severity="warning",
            evidence=f"{len(places):,} of the {len(split):,} labels of train are "
            f"probably wrong ({len(places) / len(split):.1%}) to models that did not learn from them.",
            advice="Look at the first of them; correct what is wrong, or leave it out with train --exclude.",
            cases=tuple(cases),
        )
    ]


def _balance(material: Material) -> Iterator[Finding]:
    for split, counts in classes(material).items():
        few = min(counts, key=lambda name: counts[name])
        many = max(counts, key=lambda name: counts[name])
        if missing := [name for name, images in counts.items() if not images]:
            yield Finding(
                kind="class missing",
                severity="warning",
                evidence=f"{split} has no image of {', '.join(missing)}, so nothing is known of it there.",
                advice=f"Add images of it to {split}, or divide the data anew.",
            )
        elif split == "train" and counts[many] >= UNEVEN * counts[few]:
            yield Finding(
                kind="class balance",
                severity="note",
                evidence=f"train has {counts[many]:,} images of {many} and {counts[few]:,} of {few}, "
                f"{counts[many] / counts[few]:.0f} times fewer.",
                advice="Read macro F1 and each class's recall, for accuracy hardly sees rare classes.",
            )


def _shares(material: Material) -> Iterator[Finding]:
    counted = classes(material)
    train = counted.pop("train", None)
    if train is None:
        return
    total = sum(train.values())
    for split, counts in counted.items():
        images = sum(counts.values())
        apart = sum(abs(counts[name] / images - train[name] / total) for name in train) / 2
        # Samples of this size differ by about so much when their classes are the same.
        if apart > max(UNLIKE, 2 * (len(train) / images) ** 0.5):
            yield Finding(
                kind="splits unlike in classes",
                severity="note",
                evidence=f"The shares of classes in {split} and train differ by {apart:.2f}, from 0 to 1.",
                advice="Compare balanced accuracy and macro F1, which do not change with the shares.",
            )
