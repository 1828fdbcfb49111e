"""Which of the images scored a model learnt from, by the hashes that it ships with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mien.evaluation.evaluation_log import Uses
from mien.evaluation.metrics import Interval, wilson
from mien.models import known_images as hashes
from mien.models.model import Bundle

if TYPE_CHECKING:
    from mien.evaluation.evaluator import Answers


@dataclass(frozen=True, kw_only=True)
class Known:
    """How many of the images scored a model learnt from, and its score without them. Fractions in [0, 1].

    Args:
        exact: Images that it learnt from, pixel for pixel.
        near: Images that look like one it learnt from: encoded again, brightened, blurred, mirrored, or moved
            by a pixel.
        n: Images that are neither.
        accuracy_without: Share of these named right; None where there are none.
        interval: Wilson, 95 %.
    """

    exact: int
    near: int
    n: int
    accuracy_without: float | None
    interval: Interval | None

    @property
    def total(self) -> int:
        """Images that it learnt from, or nearly."""
        return self.exact + self.near

    @property
    def most(self) -> bool:
        """Whether it learnt from more than half of the images."""
        return self.total > self.n

    @property
    def sentence(self) -> str:
        """What makes the score doubtful; empty where nothing does."""
        if not self.total:
            return ""
        of = f"{self.total:,} of the {self.total + self.n:,} images"
        said = f"the model learnt from {of} ({self.exact:,} equal, {self.near:,} nearly)"
        if self.accuracy_without is None or self.interval is None:
            return f"{said}: this score says nothing about new images"
        low, high = self.interval
        rest = f"{self.accuracy_without:.2%} ({low:.2%} to {high:.2%}) of the other {self.n:,} are right"
        return f"{said}, so the score may be too good; {rest}"


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


def known(models: Bundle | Sequence[Bundle], answers: "Answers") -> Known | None:
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
    return Known(
        exact=int(exact.sum()),
        near=int(near.sum()),
        n=n,
        accuracy_without=right / n if n else None,
        interval=wilson(right, n) if n else None,
    )


def warned(uses: Uses, found: Known | None) -> Uses:
    """Add to what is known of a score that the model learnt from some of the images; from most is `train`."""
    if found is None or not found.total or uses.role == "train":
        return uses
    role = "train" if found.most else uses.role
    return replace(uses, role=role, warnings=(*uses.warnings, found.sentence))
