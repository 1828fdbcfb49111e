"""What FER+'s taggers say of images and their labels."""

import numpy as np
from numpy.typing import NDArray

from mien.data.audit.findings import Finding, Material, Removal
from mien.labels import VOTES

_NO_FACE = VOTES.index("not a face")


def faceless(material: Material) -> NDArray[np.intp]:
    """Return the images that more than half of their taggers call no face."""
    if material.votes is None:
        return np.empty(0, np.intp)
    return np.flatnonzero(material.votes[:, _NO_FACE] * 2 > material.votes.sum(axis=1))


def count(material: Material) -> dict[str, int]:
    """Count what votes tell, where there are any."""
    if material.votes is None:
        return {}
    return {
        "without_face": len(faceless(material)),
        "label_without_vote": len(without_a_vote(material)),
        "label_unlike_plurality": _unlike_plurality(material),
    }


def findings(material: Material) -> list[Finding]:
    """Tell of images without a face, and of labels that no tagger chose."""
    return [*_faceless(material), *_disagreement(material)]


def removals(material: Material) -> list[Removal]:
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
