"""What a model says of a split: asked now, or kept in a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mien.data.probabilities import Stored
from mien.errors import ModelError
from mien.evaluation.evaluator import ask as answer
from mien.evaluation.evaluator import choices
from mien.models.model import ONE_HEAD, TWO_HEADS, Bundle

if TYPE_CHECKING:
    from mien.data.datasets import Split


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model says of a split's images.

    Args:
        name: What it is called.
        labels: Its classes.
        probabilities: `(n, len(labels))`, each row summing to 1.
        head: Which of its heads answered; empty where that is not known.
        model: sha256 of its file; empty where that is not known.
        fingerprint: Of the images as it was asked; another than the split's where it takes another size.
        data: Name of the data it was made with; empty where not known.
        made_with: The splits it was made with: name by fingerprint; empty where not known.
        selected: Whether the split asked about selected its epoch, or could end its training, where it is the
            validation split; None where that is not known.
    """

    name: str
    labels: tuple[str, ...]
    probabilities: npt.NDArray[np.float32]
    head: str = ""
    model: str = ""
    fingerprint: str = ""
    data: str = ""
    made_with: Mapping[str, str] = field(default_factory=dict)
    selected: bool | None = None


def ask(
    bundle: Bundle,
    split: "Split",
    *,
    head: str | None = None,
    name: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Answers:
    """Ask a model about a split.

    Args:
        bundle: The model as it ships.
        split: Images `(n, size, size, 1)` uint8 in [0, 255], of the size that it takes.
        head: Which of its heads answers; None for its first.
        name: What to call it; the card's name if empty.
        progress: Called with (images done, images in all).

    Raises:
        ModelError: It takes images of another size, or has no such head.
    """
    card = bundle.card
    chances = answer([bundle], split.images, head=head, progress=progress)
    chose = choices(card, split.fingerprint)
    splits = [(name, part) for data in card.learnt_from for name, part in data.splits.items()]
    return Answers(
        name=name or card.name,
        labels=card.labels,
        probabilities=chances,
        head=head or next(iter(card.heads)),
        model=card.sha256 or "",
        fingerprint=split.fingerprint,
        data="" if card.data is None else card.data.name,
        # Where one model learnt from what chose the other, train counts.
        made_with={
            part.fingerprint: name for name, part in sorted(splits, key=lambda each: each[0] == "train")
        },
        selected=None if chose is None else True if chose.epoch or chose.ended else chose.epoch,
    )


def stored(kept: Stored, split: "Split", *, head: str | None = None, name: str = "") -> Answers:
    """Take a model's answers from a file of probabilities instead of asking it.

    Args:
        kept: What `probabilities.read` returned.
        split: The images that they are for.
        head: As in `ask`; None for the first.
        name: What to call it; what the file says of itself if empty.

    Raises:
        DataError: They are for other images.
        ModelError: They hold no such head.
    """
    heads = {None: next(iter(TWO_HEADS.values()))} | ONE_HEAD | TWO_HEADS
    output = heads[head].output if head in heads else head or ""
    if output not in kept.answers:
        raise ModelError(
            f"the probabilities {name or kept.about!r} hold no head {head!r}; they have "
            f"{', '.join(kept.answers)}"
        )
    chances = kept.of(split.fingerprint, kept.labels, n=len(split))[output]
    return Answers(
        name=name or kept.about,
        labels=kept.labels,
        probabilities=chances,
        head=head or "",
        fingerprint=split.fingerprint,
    )
