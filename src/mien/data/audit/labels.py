"""Labels: how many images each class has, which labels are probably wrong, and what annotators voted."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mien.data.audit.findings import Finding, Material, Removal
from mien.data.datasets import Split
from mien.data.probabilities import Stored
from mien.errors import DataError
from mien.labels import VOTES

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


_NO_FACE = VOTES.index("not a face")


def faceless(material: Material) -> NDArray[np.intp]:
    """Return the images that more than half of their taggers call no face."""
    if material.votes is None:
        return np.empty(0, np.intp)
    return np.flatnonzero(material.votes[:, _NO_FACE] * 2 > material.votes.sum(axis=1))


def count_votes(material: Material) -> dict[str, int]:
    """Count what votes tell, where there are any."""
    if material.votes is None:
        return {}
    return {
        "without_face": len(faceless(material)),
        "label_without_vote": len(without_a_vote(material)),
        "label_unlike_plurality": _unlike_plurality(material),
    }


def vote_findings(material: Material) -> list[Finding]:
    """Tell of images without a face, and of labels that no tagger chose."""
    return [*_faceless(material), *_disagreement(material)]


def vote_removals(material: Material) -> list[Removal]:
    """List the training images without a face."""
    train = set(material.members("train").tolist())
    return [
        material.removal(place, "not a face by votes", _say(material, place))
        for place in faceless(material).tolist()
        if place in train
    ]


def without_a_vote(material: Material) -> NDArray[np.intp]:
    """Return the faces whose label none of their taggers chose."""
    if material.votes is None:
        return np.empty(0, np.intp)
    for_label = material.votes[np.arange(len(material.labels)), _columns(material)[material.labels]]
    return np.setdiff1d(
        np.flatnonzero((for_label == 0) & (material.votes.sum(axis=1) > 0)), faceless(material)
    )


def _unlike_plurality(material: Material) -> int:
    """Count the images whose label is not the one that most of their taggers chose; ties count as unlike."""
    assert material.votes is not None
    own = _columns(material)[material.labels]
    for_label = material.votes[np.arange(len(own)), own]
    others = material.votes.copy()
    others[np.arange(len(own)), own] = -1
    return int((for_label <= others.max(axis=1)).sum())


def _faceless(material: Material) -> list[Finding]:
    places = faceless(material)
    if not places.size:
        return []
    return [
        Finding(
            kind="without a face",
            severity="warning",
            evidence=f"{len(places):,} images are no face to more than half of their taggers.",
            advice="Leave them out: --exclusions lists those of train, --fix drops all.",
            cases=tuple(
                material.case([place], f"{material.tell(place)}; {_say(material, place)}")
                for place in places.tolist()
            ),
        )
    ]


def _disagreement(material: Material) -> list[Finding]:
    """Tell of the labels that no tagger chose, where there are votes."""
    places = without_a_vote(material)
    if material.votes is None or not places.size:
        return []
    ballots = material.votes[places]
    favourite = ballots.argmax(axis=1)
    votes = ballots.max(axis=1)
    order = np.argsort(-votes, kind="stable")
    cases = tuple(
        material.case(
            [places[place]],
            f"{material.tell(int(places[place]))}; {votes[place]:g} of {ballots[place].sum():g} votes for "
            f"{VOTES[favourite[place]]}",
        )
        for place in order.tolist()
    )
    share = len(places) / len(material.images)
    return [
        Finding(
            kind="label without a vote",
            severity="warning",
            evidence=f"{len(places):,} labels ({share:.1%}) were chosen by none of the image's taggers; "
            f"{_unlike_plurality(material):,} are not what most of them chose.",
            advice="Train on votes too, and judge a model by both: the label and what people see.",
            cases=cases,
        )
    ]


def _say(material: Material, place: int) -> str:
    assert material.votes is not None
    votes = material.votes[place]
    return f"{votes[_NO_FACE]:g} of {votes.sum():g} votes for no face"


def _columns(material: Material) -> NDArray[np.intp]:
    # Votes come with fer2013.csv alone, whose classes are emotions.
    return np.array([VOTES.index(label) for label in material.dataset.labels], np.intp)
