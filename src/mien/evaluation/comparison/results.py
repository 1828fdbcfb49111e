"""What a comparison finds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mien.evaluation.comparison.paired_tests import Difference, McNemar

Winner = Literal["a", "b"]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two that are compared.

    Args:
        name: What it is called.
        head: Which of its heads answered.
        model: sha256 of its file.
        right: Images named right.
    """

    name: str
    head: str
    model: str
    right: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """A comparison on some of the images.

    Args:
        n: How many.
        share: Of them named right.
        mcnemar: Whether that differs by more than chance.
    """

    n: int
    share: Difference
    mcnemar: McNemar


@dataclass(frozen=True, kw_only=True)
class ClassDifference:
    """How two models do on the images of one class.

    Args:
        n: Images of the class.
        recall: Share of them named right; the interval is Bonett and Price's.
        p: McNemar's on them alone.
        p_held: The same, held up to as many tests as there are classes (Holm).
    """

    n: int
    recall: Difference
    p: float
    p_held: float


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """An image that the two name differently.

    Args:
        place: Its place in the split.
        file: Its name.
        truth: Its label.
        a: A's answer.
        b: B's answer.
        confidence_a: A's probability of its answer.
        confidence_b: B's probability of its answer.
        right: Who is: `a`, `b`, or None for neither.
    """

    place: int
    file: str
    truth: str
    a: str
    b: str
    confidence_a: float
    confidence_b: float
    right: Winner | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on the same images. Fractions in [0, 1]; intervals 95 %; differences are A's less B's.

    Args:
        data: The data set's name.
        split: The split's name.
        split_fingerprint: sha256 over its pixels, labels and order.
        n: Images.
        labels: The data's classes, and after them any that a model answers besides.
        a: The first.
        b: The second.
        accuracy: Share of images named right; the interval is bootstrapped over images, paired.
        macro_f1: Mean F1 of the classes that have images; likewise.
        mcnemar: Whether accuracy differs by more than chance.
        visible: Difference in accuracy that would have been seen four times of five; None for any.
        per_class: Recall in each class that has images.
        agreement: With most of FER+'s taggers, on the images that they decide; None without votes.
        without_copies: The same images without those that stand in the data's training split too; None
            where none does.
        copies_learnt: Whether both models learnt from that very split; else some may not have been learnt.
        disagreements: Images named differently: first those that one alone names right, the clearest first.
        known: Images that a model learnt from, by the hashes that it ships with; None where neither has any.
        without_known: The same without those; None where there are none, or no others.
        winner: Who is better on accuracy, if that was seen, and is seen without the known images too.
        verdict: All that in words.
        notes: Classes in which one is better; what votes say, and copies.
        warnings: What makes the comparison doubtful.
    """

    data: str
    split: str
    split_fingerprint: str
    n: int
    labels: tuple[str, ...]
    a: Side
    b: Side
    accuracy: Difference
    macro_f1: Difference
    mcnemar: McNemar
    visible: float | None
    per_class: Mapping[str, ClassDifference]
    agreement: Part | None
    without_copies: Part | None
    copies_learnt: bool
    disagreements: tuple[Disagreement, ...]
    known: int | None = None
    without_known: Part | None = None
    winner: Winner | None = None
    verdict: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values; names that are no UTF-8 with the escapes that JSON has for them."""
        document = asdict(self)
        for each in document["disagreements"]:
            each["file"] = each["file"].encode(errors="backslashreplace").decode()
        return document
