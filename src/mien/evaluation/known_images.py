"""Which of the images scored a model learnt from, by the hashes that it ships with."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mien.evaluation.evaluation import Memorised, SplitUse
from mien.evaluation.metrics import wilson
from mien.models import training_hashes as hashes
from mien.models.model import Bundle

if TYPE_CHECKING:
    from mien.evaluation.evaluator import Answers


def knows(
    models: Bundle | Sequence[Bundle], images: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None:
    """Say which images one of several models learnt from.

    Args:
        models: As they ship.
        images: `(n, size, size, 1)` uint8 in [0, 255], as they see them.

    Returns:
        `(n,)` whether one learnt from the same pixels; `(n,)` whether one learnt from a near copy, and none
        from the same. None where no model has hashes of what it learnt from.

    Raises:
        ModelError: The hashes of one are gone or damaged.
    """
    read = [hashes.read(each) for each in ([models] if isinstance(models, Bundle) else models)]
    # Models that learnt from the same images have the same hashes.
    kept = {hashes.pack(each)[0]: each for each in read if each is not None}
    if not kept:
        return None
    exact, near = np.zeros((2, len(images)), bool)
    for each in kept.values():
        equal, alike = each.find(images)
        exact |= equal
        near |= alike
    return exact, near & ~exact


def known(models: Bundle | Sequence[Bundle], answers: "Answers") -> Memorised | None:
    """Count the images that the models learnt from, and score the others.

    Args:
        models: Whose answers these are.
        answers: As `evaluate.answer` gives them.

    Returns:
        The counts; None where no model has hashes of what it learnt from.

    Raises:
        ModelError: The hashes of one are gone or damaged.
    """
    found = knows(models, answers.split.images)
    if found is None:
        return None
    exact, near = found
    new = ~(exact | near)
    n = int(new.sum())
    right = int((answers.probabilities.argmax(axis=1) == answers.truth)[new].sum())
    return Memorised(
        exact=int(exact.sum()),
        near=int(near.sum()),
        n=n,
        accuracy=right / n if n else None,
        accuracy_interval=wilson(right, n) if n else None,
    )


def warned(uses: SplitUse, found: Memorised | None) -> SplitUse:
    """Add to what is known of a score that the model learnt from some of the images; from most is `train`."""
    if found is None or not found.total or uses.role == "train":
        return uses
    role = "train" if found.most else uses.role
    return replace(uses, role=role, warnings=(*uses.warnings, found.warning))
