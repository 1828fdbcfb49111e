"""Score a bundle on a split: the file that ships, on images it did not learn from.

Accuracy counts every image once; balanced accuracy and macro F1 count every class once, and so show what
accuracy hides where classes differ in size. Every figure that has one stands with its 95 % interval.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mien.errors import DataError, ModelError
from mien.evaluation.balance import MEAN, BalanceRow, ShiftRow, balance_table, shift_table
from mien.evaluation.evaluation_log import USES, Choices, Uses, choices, count, role
from mien.evaluation.groups import FEW, Group, Groups, Listing, listing, members, separate
from mien.evaluation.known_images import Known, known, knows, warned
from mien.evaluation.metrics import (
    RESAMPLES,
    Agreement,
    Bin,
    ClassScore,
    Interval,
    Report,
    Z,
    metrics,
    plurality,
    wilson,
)
from mien.evaluation.selective_prediction import Point, area, selective
from mien.evaluation.test_time_augmentation import VIEWS
from mien.evaluation.test_time_augmentation import of as views_of
from mien.evaluation.training_copies import Copies, copies
from mien.evaluation.uncertainty import ANSWERED, at_chance, majority, stated
from mien.models.model import BATCH_SIZE, Bundle
from mien.models.priors import as_prior

if TYPE_CHECKING:
    from mien.data.datasets import Split

__all__ = [
    "ANSWERED",
    "FEW",
    "MEAN",
    "RESAMPLES",
    "USES",
    "VIEWS",
    "Agreement",
    "Answers",
    "BalanceRow",
    "Bin",
    "Choices",
    "ClassScore",
    "Copies",
    "Group",
    "Groups",
    "Interval",
    "Known",
    "Listing",
    "Point",
    "Report",
    "ShiftRow",
    "Uses",
    "Z",
    "agreement",
    "answer",
    "area",
    "ask",
    "at_chance",
    "balance_table",
    "choices",
    "copies",
    "count",
    "judge",
    "known",
    "knows",
    "listing",
    "majority",
    "members",
    "metrics",
    "plurality",
    "role",
    "score",
    "selective",
    "separate",
    "shift_table",
    "stated",
    "warned",
    "wilson",
]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of a split's images, beside what they are.

    Args:
        split: The images; its labels are numbers into the data set's own names, not into `names`.
        names: The model's k class names.
        probabilities: `(n, k)` float32, a column for each of `names`.
        truth: `(n,)` int64, numbers into `names`.
        head: Which of the model's heads answered.
        bundle: sha256 of the model file; of several, one after the other.
        data: The data set's name.
        views: Of how many views of each image the probabilities are the mean.
        balance: At which they were answered.
        prior: With which they were answered; empty for none.
    """

    split: "Split"
    names: tuple[str, ...]
    probabilities: npt.NDArray[np.float32]
    truth: npt.NDArray[np.int64]
    head: str = ""
    bundle: str = ""
    data: str = ""
    views: int = 1
    balance: float = 0.0
    prior: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> "Answers":
        """Return the answers on some images alone: those a mask `(n,)` names, or those at some indices."""
        return replace(
            self,
            split=self.split.take(which),
            probabilities=self.probabilities[which],
            truth=self.truth[which],
        )


def score(
    bundle: Bundle | Sequence[Bundle],
    split: "Split",
    *,
    labels: Sequence[str],
    head: str | None = None,
    data: str = "",
    views: int = 1,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], None] | None = None,
    balance: float = 0.0,
    prior: Mapping[str, float] | str | None = None,
) -> Report:
    """Measure how often `bundle` names the right class on `split`.

    Args:
        bundle: The model as it ships; or several with the same classes, whose probabilities are averaged.
        split: Images `(n, size, size, 1)` uint8 in [0, 255], and a number into `labels` for each.
        labels: The data set's class names, in its own order; they are matched with the bundle's by name.
        head: Which of the model's heads answers; None for its first.
        data: The data set's name, for the report.
        views: Of each image, one of `VIEWS`: as it is; mirrored too; those and both moved to four corners.
            The probabilities are their mean.
        batch_size: Images run at once; changes memory and speed, never the result.
        progress: Called with (images done, images in all).
        balance: As `mien.models.model.Bundle.run` takes it.
        prior: As `mien.models.model.Bundle.run` takes it.

    Returns:
        The figures, and what they were measured with.

    Raises:
        InputError: There is no such number of views, or balance or prior cannot be used with a model.
        ModelError: The data has a class that the bundle cannot answer, or images of another size; the model
            has no such head; or several models have different classes.
        DataError: The split has no images.
    """
    return judge(
        answer(
            bundle,
            split,
            labels=labels,
            head=head,
            data=data,
            views=views,
            batch_size=batch_size,
            progress=progress,
            balance=balance,
            prior=prior,
        )
    )


def answer(
    bundle: Bundle | Sequence[Bundle],
    split: "Split",
    *,
    labels: Sequence[str],
    head: str | None = None,
    data: str = "",
    views: int = 1,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], None] | None = None,
    balance: float = 0.0,
    prior: Mapping[str, float] | str | None = None,
) -> Answers:
    """Ask a model about every image of a split; arguments and errors are those of `score`."""
    bundles = [bundle] if isinstance(bundle, Bundle) else list(bundle)
    known = bundles[0].card.labels
    strange = [label for label in labels if label not in known]
    if strange:
        raise ModelError(
            f"the data has the class {strange[0]!r}, which the model cannot answer; "
            f"it answers {', '.join(known)}"
        )
    order = np.array([known.index(label) for label in labels], np.int64)
    if len(split.labels) == 0:
        raise DataError(f"split {split.name!r} has no images; there is nothing to score")
    if split.labels.min() < 0 or split.labels.max() >= len(order):
        raise DataError(f"split {split.name!r} has labels beyond its {len(order)} classes")
    return Answers(
        split=split,
        names=known,
        probabilities=ask(
            bundles,
            split.images,
            head=head,
            views=views,
            batch_size=batch_size,
            progress=progress,
            balance=balance,
            prior=prior,
        ),
        truth=order[split.labels],
        head=head or next(iter(bundles[0].card.heads)),
        bundle=" ".join(each.card.sha256 or "" for each in bundles),
        data=data,
        views=views,
        balance=balance,
        prior=as_prior(prior),
    )


def judge(answers: Answers) -> Report:
    """Measure what answers are worth.

    Raises:
        DataError: There are none.
    """
    split = answers.split
    return replace(
        metrics(answers.probabilities, answers.truth, answers.names),
        agreement=None
        if split.votes is None
        else agreement(answers.probabilities, split.votes, answers.names),
        head=answers.head,
        bundle=answers.bundle,
        split=split.name,
        split_fingerprint=split.fingerprint,
        data=answers.data,
        views=answers.views,
        balance=answers.balance,
        prior=dict(answers.prior),
    )


def ask(
    bundles: Sequence[Bundle],
    images: npt.NDArray[np.uint8],
    *,
    head: str | None = None,
    views: int = 1,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], None] | None = None,
    balance: float = 0.0,
    prior: Mapping[str, float] | str | None = None,
) -> npt.NDArray[np.float32]:
    """Return the mean of several models' probabilities `(n, k)`, in the order of the first one's labels.

    Args:
        bundles: One model or more.
        images: `(n, size, size, 1)` uint8 in [0, 255].
        head: Which of the models' heads answers; None for the first of each.
        views: Of each image, as in `score`.
        batch_size: Images run at once; changes memory and speed, never the result.
        progress: Called with (images done, images in all), all models and views together.
        balance: As `mien.models.model.Bundle.run` takes it.
        prior: As `mien.models.model.Bundle.run` takes it.

    Raises:
        InputError: There is no such number of views, or balance or prior cannot be used with a model.
        ModelError: There is no model, the models have different classes or sizes, or no such head.
    """
    if not bundles:
        raise ModelError("no model was named; name one bundle at least")
    first = bundles[0].card.labels
    total = np.zeros((len(images), len(first)), np.float32)
    for bundle in bundles:
        if sorted(bundle.card.labels) != sorted(first):
            raise ModelError(
                f"the models answer different classes, {', '.join(first)} and "
                f"{', '.join(bundle.card.labels)}; their mean says nothing"
            )
    asked = views * len(bundles)
    for number, view in enumerate(views_of(images, views)):
        for place, bundle in enumerate(bundles):

            def done(
                count: int, of: int, before: int = (number * len(bundles) + place) * len(images)
            ) -> None:
                if progress is not None:
                    progress(before + count, of * asked)

            answers = bundle.run(
                view, head=head, batch_size=batch_size, progress=done, balance=balance, prior=prior
            )
            total += answers[:, [bundle.card.labels.index(label) for label in first]]
    total /= asked
    return total


def agreement(
    probabilities: npt.NDArray[np.floating[Any]], votes: npt.NDArray[np.floating[Any]], names: Sequence[str]
) -> Agreement | None:
    """Measure how often answers are what most of FER+'s taggers saw.

    Args:
        probabilities: `(n, k)`.
        votes: `(n, 10)`, how many taggers chose each of `emotions.VOTES`.
        names: The k class names.

    Returns:
        The agreement; None where no image's plurality is one of `names`.
    """
    decided, seen = plurality(votes, names)
    n = int(decided.sum())
    if n == 0:
        return None
    right = int((probabilities.argmax(axis=1) == seen)[decided].sum())
    return Agreement(n=n, share=right / n, interval=wilson(right, n), left_out=len(votes) - n)
