"""Does one model beat another? Both are asked about the same images, and only where they part decides.

one, other = (compare.ask(bundle.load(path), split) for path in ("runs/a/bundle", "runs/b/bundle"))
found = compare.weigh(one, other, split, labels=data.labels, data=data.root)
found.verdict                              # in words
found.winner, found.accuracy.interval      # "a", "b" or None
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mien.errors import DataError, ModelError
from mien.evaluation.comparison import wording as words
from mien.evaluation.comparison.paired_tests import (
    Difference,
    McNemar,
    bootstrap,
    holm,
    mcnemar,
    shares,
    visible,
)
from mien.evaluation.comparison.predictions import Answers, ask, stored
from mien.evaluation.comparison.results import ClassDifference, Comparison, Disagreement, Part, Side, Winner
from mien.evaluation.evaluator import plurality

if TYPE_CHECKING:
    from mien.data.datasets import Split

__all__ = [
    "Answers",
    "ClassDifference",
    "Comparison",
    "Difference",
    "Disagreement",
    "McNemar",
    "Part",
    "Side",
    "Winner",
    "ask",
    "bootstrap",
    "holm",
    "mcnemar",
    "shares",
    "stored",
    "visible",
    "weigh",
]


def weigh(
    a: Answers,
    b: Answers,
    split: "Split",
    *,
    labels: Sequence[str],
    data: str = "",
    copies: npt.NDArray[np.bool_] | None = None,
    learnt: bool = False,
    known: npt.NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare two models' answers to the same images.

    Args:
        a: The first model's.
        b: The second's.
        split: The images, with a number into `labels` for each; and votes, if any.
        labels: The data set's class names. Models are matched by name; classes that a model has besides
            count as wrong answers.
        data: The data set's name.
        copies: `(n,)` whether each image stands in the data's training split too.
        learnt: Whether both models learnt from that very split, so that nothing in it was left out.
        known: `(n,)` whether a model learnt from each image, as `evaluate.knows` says; None if not known.
        seed: Of the bootstrap.

    Raises:
        DataError: The split has no images, or answers are not for as many.
        ModelError: A model cannot answer a class of the data.
    """
    if len(split) == 0:
        raise DataError(f"split {split.name!r} has no images; there is nothing to compare on")
    a, b = _distinct(a, b)
    names = tuple(dict.fromkeys((*labels, *a.labels, *b.labels)))
    said_a, said_b = (_said(side, names, labels, len(split)) for side in (a, b))
    right_a, right_b = said_a == split.labels, said_b == split.labels
    test = mcnemar(int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum()))
    accuracy, macro = bootstrap(split.labels, said_a, said_b, len(names), seed=seed)
    found = Comparison(
        data=data,
        split=split.name,
        split_fingerprint=split.fingerprint,
        n=len(split),
        labels=names,
        a=Side(name=a.name, head=a.head, model=a.model, right=int(right_a.sum())),
        b=Side(name=b.name, head=b.head, model=b.model, right=int(right_b.sum())),
        accuracy=accuracy,
        macro_f1=macro,
        mcnemar=test,
        visible=visible(len(split), test.only_a + test.only_b),
        per_class=_classes(split.labels, right_a, right_b, labels),
        agreement=_agreement(split, said_a, said_b, names),
        without_copies=None if copies is None or not copies.any() else _part(right_a, right_b, ~copies),
        copies_learnt=learnt,
        known=None if known is None else int(known.sum()),
        without_known=None if known is None or not known.any() else _part(right_a, right_b, ~known),
        disagreements=_disagreements(a, b, said_a, said_b, split, names),
        winner=words.winner(accuracy, test),
        warnings=tuple(words.warnings(a, b, split, data)),
    )
    found = replace(
        found,
        winner=words.kept(found),
        warnings=(*found.warnings, *words.known(found)),
    )
    return replace(found, verdict=words.verdict(found), notes=tuple(words.notes(found)))


def _distinct(a: Answers, b: Answers) -> tuple[Answers, Answers]:
    if a.name != b.name:
        return a, b
    if a.head and b.head and a.head != b.head:
        return replace(a, name=f"{a.name} as {a.head}"), replace(b, name=f"{b.name} as {b.head}")
    return replace(a, name=f"{a.name} (A)"), replace(b, name=f"{b.name} (B)")


def _said(side: Answers, names: Sequence[str], labels: Sequence[str], n: int) -> npt.NDArray[np.int64]:
    """Return each answer as a number into `names`."""
    if strange := [label for label in labels if label not in side.labels]:
        raise ModelError(
            f"the data has the class {strange[0]!r}, which {side.name} cannot answer; "
            f"it answers {', '.join(side.labels)}"
        )
    if side.probabilities.shape != (n, len(side.labels)):
        raise DataError(
            f"{side.name} has answers of shape {side.probabilities.shape} for {n} images and "
            f"{len(side.labels)} classes; one row an image and one column a class are needed"
        )
    order = np.array([names.index(label) for label in side.labels], np.int64)
    said: npt.NDArray[np.int64] = order[side.probabilities.argmax(axis=1)]
    return said


def _part(
    right_a: npt.NDArray[np.bool_], right_b: npt.NDArray[np.bool_], chosen: npt.NDArray[np.bool_]
) -> Part | None:
    one, other = right_a[chosen], right_b[chosen]
    if not one.size:
        return None
    test = mcnemar(int((one & ~other).sum()), int((other & ~one).sum()))
    return Part(n=len(one), share=shares(one, other), mcnemar=test)


def _classes(
    truth: npt.NDArray[np.int64],
    right_a: npt.NDArray[np.bool_],
    right_b: npt.NDArray[np.bool_],
    labels: Sequence[str],
) -> dict[str, ClassDifference]:
    parts = {label: _part(right_a, right_b, truth == number) for number, label in enumerate(labels)}
    there = {label: part for label, part in parts.items() if part is not None}
    held = holm([part.mcnemar.p for part in there.values()])
    return {
        label: ClassDifference(n=part.n, recall=part.share, p=part.mcnemar.p, p_held=p)
        for (label, part), p in zip(there.items(), held, strict=True)
    }


def _agreement(
    split: "Split", said_a: npt.NDArray[np.int64], said_b: npt.NDArray[np.int64], names: Sequence[str]
) -> Part | None:
    if split.votes is None:
        return None
    decided, seen = plurality(split.votes, names)
    return _part(said_a == seen, said_b == seen, decided)


def _disagreements(
    a: Answers,
    b: Answers,
    said_a: npt.NDArray[np.int64],
    said_b: npt.NDArray[np.int64],
    split: "Split",
    names: Sequence[str],
) -> tuple[Disagreement, ...]:
    sure_a, sure_b = a.probabilities.max(axis=1), b.probabilities.max(axis=1)
    right_a, right_b = said_a == split.labels, said_b == split.labels
    # The surer both are of what they say, the clearer they part.
    clear = np.minimum(sure_a, sure_b)
    places = np.flatnonzero(said_a != said_b)
    order = np.lexsort((-clear[places], ~(right_a | right_b)[places]))
    return tuple(
        Disagreement(
            place=place,
            file=split.files[place],
            truth=names[int(split.labels[place])],
            a=names[int(said_a[place])],
            b=names[int(said_b[place])],
            confidence_a=float(sure_a[place]),
            confidence_b=float(sure_b[place]),
            right="a" if right_a[place] else "b" if right_b[place] else None,
        )
        for place in places[order].tolist()
    )
