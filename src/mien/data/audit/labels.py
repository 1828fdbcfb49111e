"""Labels: how many images each class has, which labels are probably wrong, and what annotators voted."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mien.data.audit.findings import Finding, Material, Removal
from mien.data.datasets import Split
from mien.data.probabilities import SavedPredictions
from mien.errors import DataError
from mien.labels import VOTES

#: Ratio of the largest to the smallest class of train from which the audit notes it.
UNEVEN = 10

#: Difference between the shares of classes in two splits, in [0, 1], from which the audit notes it.
UNLIKE = 0.1

_NO_FACE = VOTES.index("not a face")


def classes(material: Material) -> dict[str, dict[str, int]]:
    """Count the images of each class in each split."""
    found = {}
    for split in material.dataset.splits:
        counts = np.bincount(split.labels, minlength=len(material.dataset.labels))
        found[split.name] = dict(zip(material.dataset.labels, counts.tolist(), strict=True))
    return found


def count(material: Material) -> dict[str, int]:
    """Count what annotator votes find, by the names that `AuditReport.counts` has."""
    if material.votes is None:
        return {}
    return {
        "without_face": len(faceless(material)),
        "label_without_vote": len(without_vote(material)),
        "label_unlike_plurality": _unlike_plurality(material),
    }


def findings(material: Material) -> list[Finding]:
    """Return images that annotators call no face, labels without a vote, and uneven classes."""
    return [*_faceless(material), *_disagreement(material), *_balance(material), *_shares(material)]


def removals(material: Material) -> Iterator[Removal]:
    """Yield the training images that most annotators call no face."""
    for image in np.intersect1d(faceless(material), material.members("train")).tolist():
        yield material.removal(image, "not a face by votes", _votes_for_no_face(material, image))


def suspects(split: Split, stored: SavedPredictions, labels: tuple[str, ...]) -> NDArray[np.intp]:
    """Return the labels of a split that are probably wrong, by confident learning.

    An image counts as class k if its probability of k reaches the mean over the images labelled k; if several
    classes qualify, the most likely one counts. If that is not its label, the label is suspect.

    Args:
        split: Images with their labels.
        stored: Predictions by models that did not learn from these images.
        labels: The data set's class names.

    Returns:
        Indices into the split, the most suspect first: by how far the label's probability is below the
        greatest other one.

    Raises:
        DataError: The predictions are for other images or classes.

    Source: Northcutt et al. 2021, Confident Learning, arXiv:1911.00068.
    """
    given = _probabilities(split, stored, labels)
    own = given[np.arange(len(split)), split.labels]
    counts = np.bincount(split.labels, minlength=len(labels))
    # A class without images has no mean, and no image reaches it.
    usual = np.bincount(split.labels, weights=own, minlength=len(labels)) / np.maximum(counts, 1)
    usual[counts == 0] = np.inf
    reached = np.where(given >= usual, given, -1.0)
    chosen = reached.argmax(axis=1)
    doubted = np.flatnonzero((reached.max(axis=1) >= 0) & (chosen != split.labels))
    others = given.copy()
    others[np.arange(len(split)), split.labels] = -1
    margin = own - others.max(axis=1)
    return doubted[np.argsort(margin[doubted], kind="stable")]


def _probabilities(split: Split, stored: SavedPredictions, labels: tuple[str, ...]) -> NDArray[np.float32]:
    """Return the probabilities `(n, k)` of a split's images, in the order of `labels`."""
    arrays = stored.of(split.fingerprint, labels, n=len(split))
    if "probabilities" not in arrays:
        raise DataError("the file has no array 'probabilities'; give a file that mien train --folds wrote")
    return arrays["probabilities"]


def doubts(material: Material, stored: SavedPredictions) -> list[Finding]:
    """Return the training labels that are probably wrong.

    Raises:
        DataError: The data set has no train split, or the predictions are for other images or classes.
    """
    split = material.dataset.split("train")
    labels = material.dataset.labels
    suspect = suspects(split, stored, labels)
    if not suspect.size:
        return []
    given = _probabilities(split, stored, labels)
    train = material.members("train")
    cases = []
    for image in suspect.tolist():
        own = int(split.labels[image])
        other = int(np.where(np.arange(len(labels)) == own, -1, given[image]).argmax())
        text = f"label {labels[own]} {given[image, own]:.0%}, {labels[other]} {given[image, other]:.0%}"
        cases.append(material.case([train[image]], text))
    return [
        Finding(
            kind="label errors",
            severity="warning",
            evidence=f"{len(suspect):,} of the {len(split):,} labels of train are probably wrong "
            f"({len(suspect) / len(split):.1%}), according to models that were not trained on these "
            "images.",
            advice="Check the first ones; correct the wrong labels, or exclude these images with mien "
            "train --exclude.",
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
                evidence=f"{split} has no image of {', '.join(missing)}, so this class cannot be evaluated.",
                advice=f"Add images of this class to {split}, or split the data again.",
            )
        elif split == "train" and counts[many] >= UNEVEN * counts[few]:
            yield Finding(
                kind="class balance",
                severity="note",
                evidence=f"train has {counts[many]:,} images of {many} and {counts[few]:,} of {few}, "
                f"{counts[many] / counts[few]:.0f} times fewer.",
                advice="Look at macro F1 and the recall of each class, because rare classes hardly affect "
                "accuracy.",
            )


def _shares(material: Material) -> Iterator[Finding]:
    counted = classes(material)
    train = counted.pop("train", None)
    if train is None:
        return
    total = sum(train.values())
    for split, counts in counted.items():
        images = sum(counts.values())
        distance = sum(abs(counts[name] / images - train[name] / total) for name in train) / 2
        # Samples of this size differ by about so much if their classes are the same.
        if distance > max(UNLIKE, 2 * (len(train) / images) ** 0.5):
            yield Finding(
                kind="splits differ in classes",
                severity="note",
                evidence=f"The shares of classes in {split} and train differ by {distance:.2f}, from 0 to 1.",
                advice="Compare balanced accuracy and macro F1, which do not depend on the shares.",
            )


def faceless(material: Material) -> NDArray[np.intp]:
    """Return the images that more than half of their annotators call no face."""
    if material.votes is None:
        return np.empty(0, np.intp)
    return np.flatnonzero(material.votes[:, _NO_FACE] * 2 > material.votes.sum(axis=1))


def without_vote(material: Material) -> NDArray[np.intp]:
    """Return the faces whose label none of their annotators chose."""
    if material.votes is None:
        return np.empty(0, np.intp)
    for_label = material.votes[np.arange(len(material.labels)), _columns(material)[material.labels]]
    return np.setdiff1d(
        np.flatnonzero((for_label == 0) & (material.votes.sum(axis=1) > 0)), faceless(material)
    )


def _unlike_plurality(material: Material) -> int:
    """Count the images whose label is not the choice of most annotators; ties count."""
    assert material.votes is not None
    own = _columns(material)[material.labels]
    for_label = material.votes[np.arange(len(own)), own]
    others = material.votes.copy()
    others[np.arange(len(own)), own] = -1
    return int((for_label <= others.max(axis=1)).sum())


def _faceless(material: Material) -> Iterator[Finding]:
    images = faceless(material)
    if images.size:
        yield Finding(
            kind="without a face",
            severity="warning",
            evidence=f"For {len(images):,} images, more than half of the annotators chose 'no face'.",
            advice="Exclude them: --exclusions lists those in train, --fix removes all of them.",
            cases=tuple(
                material.case([image], f"{material.describe(image)}; {_votes_for_no_face(material, image)}")
                for image in images.tolist()
            ),
        )


def _disagreement(material: Material) -> Iterator[Finding]:
    images = without_vote(material)
    if material.votes is None or not images.size:
        return
    votes = material.votes[images]
    most = votes.max(axis=1)
    cases = tuple(
        material.case(
            [images[index]],
            f"{material.describe(int(images[index]))}; {most[index]:g} of {votes[index].sum():g} votes for "
            f"{VOTES[votes[index].argmax()]}",
        )
        for index in np.argsort(-most, kind="stable").tolist()
    )
    share = len(images) / len(material.images)
    yield Finding(
        kind="label without a vote",
        severity="warning",
        evidence=f"No annotator chose the label of {len(images):,} images ({share:.1%}); "
        f"{_unlike_plurality(material):,} labels are not the most frequent choice of the annotators.",
        advice="Train on votes too, and evaluate a model by both the label and the votes.",
        cases=cases,
    )


def _votes_for_no_face(material: Material, image: int) -> str:
    assert material.votes is not None
    votes = material.votes[image]
    return f"{votes[_NO_FACE]:g} of {votes.sum():g} votes for no face"


def _columns(material: Material) -> NDArray[np.intp]:
    # Only fer2013.csv has votes, and its classes are emotions.
    return np.array([VOTES.index(label) for label in material.dataset.labels], np.intp)
