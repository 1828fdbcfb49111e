"""The mean of several networks' weights, where they have one."""

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError
from mien.models.model import Base, Bundle, Card
from mien.release import exporters as export


def mean(models: Sequence[Bundle], to: str | os.PathLike[str], *, images: NDArray[np.uint8]) -> Bundle:
    """Write the network whose weights are the mean of several models' as a bundle.

    Networks that began from one another, or from one and the same, and went on for a while lie close enough
    for their mean to be a network too, often a better one than either (arXiv:2109.01903, arXiv:2203.05482).

    Args:
        models: Two or more trained models; the first in float32, as a run holds it, the others in int8 too
            if their weights stand beside them. What the others answer besides is left out.
        to: The bundle's folder.
        images: Images to compare file and network on, `(n, size, size, 1)` uint8.

    Returns:
        The bundle; its card is the first model's, with the others in `averaged` and what all began from, or
            were averaged with before, in `base`.

    Raises:
        ModelError: They are not of one network, one set of labels and one origin; or as in
            `export.weights_of` or `export.bundle`.
    """
    first, *others = models
    for other in others:
        _check_alike(first.card, other.card)
    averaged = tuple(map(_as_base, others))
    network = export.rebuild(first)
    found = [export.weights_of(model) for model in models]
    for model, own in zip(models, found, strict=True):
        shapes = {path: array.shape for path, array in own.items()}
        if any(shapes.get(variable.path) != tuple(variable.shape) for variable in network.weights):
            raise ModelError(
                f"the weights of {model.card.name!r} are not those of the network its card names"
            )
    for variable in network.weights:
        same = [each[variable.path] for each in found]
        variable.assign(np.mean(same, axis=0, dtype=np.float64).astype(np.float32))
    # Of one that began from another of them, the other's own card knows most.
    bases = {base.sha256: base for each in models for base in (*each.card.base, *each.card.averaged)}
    bases |= {base.sha256: base for base in averaged if base.sha256 in bases}
    card = replace(first.card, base=tuple(bases.values()), averaged=averaged, began=None, metrics={})
    return export.bundle(network, card, to, images=images)


def known_as(card: Card) -> set[str | None]:
    """Return the hashes that a model goes by: its file's, and that of what it was made of to ship."""
    return {card.sha256, card.made_from} - {None}


def _check_alike(first: Card, other: Card) -> None:
    # How sure each is of its answers is left aside: the mean is calibrated anew.
    outputs = [{head.output for head in card.heads.values()} for card in (first, other)]
    differ = {
        "labels": first.labels != other.labels,
        "size": first.size != other.size,
        "heads": not outputs[0] <= outputs[1],
    }
    for what, apart in differ.items():
        if apart:
            raise ModelError(
                f"{first.name!r} and {other.name!r} differ in their {what}, so their weights have no mean; "
                "average runs of one recipe's kind"
            )
    asked = [card.recipe.get("network") for card in (first, other)]
    origins = [known_as(card) | {base.sha256 for base in card.base} for card in (first, other)]
    if asked[0] != asked[1] or not origins[0] & origins[1]:
        raise ModelError(
            f"{first.name!r} and {other.name!r} did not begin from one another, nor from one model, so the "
            "mean of their weights is no network that was trained; average a run made with mien train --from "
            "and what it began from, or several that began from one"
        )


def _as_base(model: Bundle) -> Base:
    card = model.card
    if card.data is None or card.sha256 is None:
        raise ModelError(f"the card of {card.name!r} does not name its data; average runs of mien train")
    return Base(name=card.name, sha256=card.sha256, data=card.data, recipe=card.recipe, teacher=card.teacher)
