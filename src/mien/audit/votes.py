"""What FER+'s taggers say of images and their labels."""

import numpy as np
from numpy.typing import NDArray

from mien.audit.finding import Finding, Material, Removal
from mien.emotions import VOTES

_NO_FACE = VOTES.index("not a face")


def faceless(material: Material) -> NDArray[np.intp]:
    """Return the images that more than half of their taggers call no face."""
    if material.votes is None:
        return np.empty(0, np.intp)
    return np.flatnonzero(material.votes[:, _NO_FACE] * 2 > material.votes.sum(axis=1))


def count(material: Material) -> dict[str, int]:
    """Count images without a face, where there are votes."""
    return {} if material.votes is None else {"without_face": len(faceless(material))}


def findings(material: Material) -> list[Finding]:
    """Tell of images without a face."""
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
                material.case(
                    [place], f"{material.where(place)}: {material.label(place)}; {_say(material, place)}"
                )
                for place in places.tolist()
            ),
        )
    ]


def removals(material: Material) -> list[Removal]:
    """List the training images without a face."""
    train = set(material.members("train").tolist())
    return [
        material.removal(place, "not a face by votes", _say(material, place))
        for place in faceless(material).tolist()
        if place in train
    ]


def _say(material: Material, place: int) -> str:
    assert material.votes is not None
    votes = material.votes[place]
    return f"{votes[_NO_FACE]:g} of {votes.sum():g} votes for no face"
