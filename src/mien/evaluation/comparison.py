"""Compare two models on the same images: paired tests, intervals and a verdict in words.

one, other = (comparison.predict_side(load_model(path), split) for path in ("runs/a/model", "runs/b/model"))
found = comparison.compare(one, other, split, labels=data.labels, data=data.root)
found.verdict                              # in words
found.winner, found.accuracy.interval      # "a", "b" or None
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from mien._text import format_p_value, format_points
from mien.data.probabilities import SavedPredictions
from mien.errors import DataError, ModelError
from mien.evaluation.clusters import Clusters, number_groups, percentiles, resample, sign_flip_test
from mien.evaluation.evaluation import Evaluation, Interval, IntervalBy, describe_intervals
from mien.evaluation.evaluation_log import find_choices
from mien.evaluation.evaluator import Predictions, evaluate_predictions, predict_mean
from mien.evaluation.metrics import RESAMPLES, Z, find_plurality, mean_recall_and_f1
from mien.models.model_files import ONE_HEAD, TWO_HEADS, Model

if TYPE_CHECKING:
    from mien.data.datasets import Split


#: Number of images that only one names right, from which the mid-p test replaces the exact test.
MANY = 25

#: The power with which a difference of the size `visible` is found.
POWER = 0.8

#: Standard normal quantile of `POWER`.
_Z_POWER = 0.8416212335729143

#: Cells of counts that one block of the bootstrap may hold.
_CELLS = 4_000_000

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """McNemar's test of whether two models are equally often right.

    Args:
        only_a: Images that only A names right.
        only_b: Images that only B names right.
        p: Two-sided p-value in [0, 1].
        method: `exact` or `mid-p`.
        groups: Number of groups in which the models differ, if the test is by group.
    """

    only_a: int
    only_b: int
    p: float
    method: Literal["exact", "mid-p"]
    groups: int | None = None

    def __str__(self) -> str:
        by = "" if self.groups is None else ", by group"
        return f"McNemar p {format_p_value(self.p)} ({self.method}{by})"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure of both models, and the difference. Fractions; the interval is 95 %.

    Args:
        a: A's.
        b: B's.
        difference: `a` - `b`.
        interval: Of the difference.
    """

    a: float
    b: float
    difference: float
    interval: Interval


def reverse(difference: Difference) -> Difference:
    """Return the difference B - A."""
    low, high = difference.interval
    return Difference(
        a=difference.b, b=difference.a, difference=-difference.difference, interval=(-high, -low)
    )


def mcnemar(only_a: int, only_b: int) -> McNemar:
    """Test whether two models are equally often right, from the images that only one names right.

    With fewer than 25 of these images the test is exact (twice the binomial tail). Otherwise it is the mid-p
    test, because the exact test is conservative. Neither uses a normal approximation.

    Args:
        only_a: Images that only A names right, at least 0.
        only_b: Images that only B names right, at least 0.

    Raises:
        DataError: A count is negative.

    Source: McNemar 1947, doi:10.1007/BF02295996; mid-p, Fagerland, Lydersen and Laake 2013,
        doi:10.1186/1471-2288-13-91.
    """
    if min(only_a, only_b) < 0:
        raise DataError(f"{min(only_a, only_b)} is not a count of images; it must be at least 0")
    n, fewer = only_a + only_b, min(only_a, only_b)
    logs = np.concatenate([[0.0], np.log(np.arange(1, n + 1)).cumsum()])
    k = np.arange(fewer + 1)
    chances = np.exp(logs[n] - logs[k] - logs[n - k] - n * math.log(2))
    p = 2 * float(chances.sum())
    if n >= MANY:
        return McNemar(only_a=only_a, only_b=only_b, p=min(1.0, p - float(chances[-1])), method="mid-p")
    return McNemar(only_a=only_a, only_b=only_b, p=min(1.0, p), method="exact")


def mcnemar_by_group(right_a: Bools, right_b: Bools, named: Clusters) -> McNemar:
    """Test as `mcnemar` does, with the images of a group kept together (`clusters.sign_flip_test`).

    With fewer than 25 groups in which the models differ, the test is exact, otherwise mid-p.

    Args:
        right_a: `(n,)` whether A is right.
        right_b: `(n,)` whether B is right.
        named: `(n,)` the group of each image, as `clusters.number_groups` returns it.
    """
    only_a, only_b = right_a & ~right_b, right_b & ~right_a
    exact, middle, groups = sign_flip_test(only_a.astype(np.int64) - only_b, named)
    return McNemar(
        only_a=int(only_a.sum()),
        only_b=int(only_b.sum()),
        p=middle if groups >= MANY else exact,
        method="mid-p" if groups >= MANY else "exact",
        groups=groups,
    )


def compare_shares(right_a: Bools, right_b: Bools, named: Clusters | None = None) -> Difference:
    """Compare the accuracy of two models on the same n images, at least one.

    The interval is valid for few images too, and if no image is named right by only one model; a bootstrap
    would then have no width. With `named`, the group of each image `(n,)`, it is a bootstrap over groups; if
    that has no width, it is the interval for as many images as there are groups.

    Source: Bonett and Price 2012, doi:10.3102/1076998611411915: one is added to either count, two to n.
    """
    n = len(right_a)
    only_a, only_b = float((right_a & ~right_b).sum()), float((right_b & ~right_a).sum())
    a, b = float(right_a.mean()), float(right_b.mean())
    interval = None
    if named is not None:
        known, numbers = np.unique(named, return_inverse=True)
        drawn = resample(np.stack([right_a, right_b, np.ones(len(right_a), bool)], axis=1), numbers)
        if len(known) > 1:
            low, high = np.percentile((drawn[:, 0] - drawn[:, 1]) / drawn[:, 2], percentiles(len(known)))
            interval = None if low == high else (float(low), float(high))
        only_a, only_b, n = only_a / n * len(known), only_b / n * len(known), len(known)
    return Difference(a=a, b=b, difference=a - b, interval=interval or _bonett_price(only_a, only_b, n))


def _bonett_price(only_a: float, only_b: float, n: float) -> Interval:
    share_a, share_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    middle = share_a - share_b
    half = Z * math.sqrt(max(0.0, share_a + share_b - middle**2) / (n + 2))
    return max(-1.0, middle - half), min(1.0, middle + half)


def bootstrap_differences(
    truth: Whole,
    a: Whole,
    b: Whole,
    classes: int,
    *,
    seed: int = 0,
    named: Clusters | None = None,
) -> tuple[Difference, Difference]:
    """Compare accuracy and macro F1 of two models on the same images.

    The paired bootstrap draws the counts of (truth, A's answer, B's answer) from a multinomial, which is
    the same as drawing n images with replacement. Both models are scored on the same draws.

    Args:
        truth: `(n,)` numbers in [0, classes).
        a: `(n,)` A's answers.
        b: `(n,)` B's answers.
        classes: Number of classes; those without images are left out of the mean.
        seed: Seed of the draws.
        named: `(n,)` the group of each image, to draw groups with replacement; None to draw images.

    Returns:
        The differences in accuracy and in macro F1, with percentile intervals.
    """
    if a.tobytes() > b.tobytes():
        # The same draws in either order, so that exchanging A and B only changes the sign.
        accuracy, macro = bootstrap_differences(truth, b, a, classes, seed=seed, named=named)
        return reverse(accuracy), reverse(macro)
    cells, counts = np.unique(np.stack([truth, a, b]), axis=1, return_counts=True)
    own = _accuracy_and_f1(cells, counts[None], classes)
    if named is None:
        n = int(counts.sum())
        random = np.random.default_rng(seed)
        block = max(1, _CELLS // len(counts))
        drawn = [
            _accuracy_and_f1(cells, random.multinomial(n, counts / n, min(block, RESAMPLES - start)), classes)
            for start in range(0, RESAMPLES, block)
        ]
        apart = np.concatenate([figures[:, 0] - figures[:, 1] for figures in drawn])
    else:
        one, other = (_resample_groups(truth, said, classes, named, seed) for said in (a, b))
        apart = one - other
    ends = (2.5, 97.5) if named is None else percentiles(int(named.max()) + 1)
    low, high = np.percentile(apart, ends, axis=0)
    accuracy, macro = (
        Difference(
            a=float(own[0, 0, place]),
            b=float(own[0, 1, place]),
            difference=float(own[0, 0, place] - own[0, 1, place]),
            interval=(float(low[place]), float(high[place])),
        )
        for place in (0, 1)
    )
    return accuracy, macro


def _accuracy_and_f1(cells: Whole, counts: npt.NDArray[np.integer[Any]], classes: int) -> Floats:
    """Return accuracy and macro F1 `(m, 2 models, 2 figures)` of `(m, cells)` counts."""
    truth = cells[0]
    drawn = counts.astype(np.float64)
    n = drawn @ np.eye(classes)[truth]
    there = n > 0
    figures = np.empty((len(drawn), 2, 2))
    for place, answers in enumerate(cells[1:]):
        hits = drawn @ (np.eye(classes)[truth] * (truth == answers)[:, None])
        answered = drawn @ np.eye(classes)[answers]
        f1 = np.where(there, 2 * hits / np.maximum(n + answered, 1), 0.0)
        figures[:, place, 0] = hits.sum(axis=1) / n.sum(axis=1)
        figures[:, place, 1] = f1.sum(axis=1) / there.sum(axis=1)
    return figures


def _resample_groups(truth: Whole, answers: Whole, classes: int, named: Clusters, seed: int) -> Floats:
    """Return accuracy and macro F1 `(RESAMPLES, 2)` on drawn groups; a seed draws the same for each model."""
    true, given = np.eye(classes, dtype=bool)[truth], np.eye(classes, dtype=bool)[answers]
    right, n, answered = np.split(
        resample(np.hstack([true & given, true, given]), named, seed=seed), 3, axis=1
    )
    accuracy = right.sum(axis=1) / n.sum(axis=1)
    return np.stack([accuracy, mean_recall_and_f1(right, n, answered)[1]], axis=1)


def detectable_difference(n: float, apart: float) -> float | None:
    """Return the difference in accuracy that is found with a power of 80 %, in (0, 1].

    Found means p < 0.05. The more images only one model names right, the larger the difference.

    Args:
        n: Images, at least 1.
        apart: Images that only one model names right, at most n.

    Returns:
        The difference; None if there are too few images for any.

    Source: Connor 1987, doi:10.2307/2531961, solved for the difference.
    """

    def needed(difference: float, rate: float) -> float:
        spread = Z * math.sqrt(rate) + _Z_POWER * math.sqrt(max(0.0, rate - difference**2))
        return (spread / difference) ** 2

    def least(rate: float | None) -> float | None:
        """Bisect for the smallest difference that n images can show; None without one."""
        low, high = 0.0, 1.0 if rate is None else rate
        if high == 0 or needed(high, rate or high) > n:
            return None
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if needed(middle, rate or middle) <= n else (middle, high)
        return high

    # If they disagree on too few images, they would have to disagree on more, all in favour of one model.
    found = least(apart / n)
    return least(None) if found is None else found


def holm(chances: list[float]) -> list[float]:
    """Return p-values adjusted for multiple tests.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    held = [0.0] * len(chances)
    reached = 0.0
    for place, index in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        reached = max(reached, min(1.0, chances[index] * (len(chances) - place)))
        held[index] = reached
    return held


@dataclass(frozen=True, eq=False)
class SidePredictions:
    """The predictions of one model for a split.

    Args:
        name: Its name in the comparison.
        labels: Its classes.
        probabilities: `(n, len(labels))`, each row summing to 1.
        head: The output head that answered; empty if that is not known.
        model: sha256 of its file; empty if that is not known.
        fingerprint: Of the images in its own input size.
        data: Name of the data it learned from; empty if that is not known.
        made_with: Names of the splits it was made with, by fingerprint; empty if they are not known.
        selected: Whether the split selected its epoch or could end its training; None if that is not known.
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


def predict_side(
    model: Model,
    split: "Split",
    *,
    head: str | None = None,
    name: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> SidePredictions:
    """Return a model's predictions for a split.

    Args:
        model: The model.
        split: Images `(n, size, size, 1)` uint8 in [0, 255], of its input size.
        head: The output head; None for the first.
        name: Its name in the comparison; empty for the card's name.
        progress: Called with (images done, images in all).

    Raises:
        ModelError: The images have another size, or the model has no such head.
    """
    card = model.card
    chances = predict_mean([model], split.images, head=head, progress=progress)
    chose = find_choices(card, split.fingerprint)
    splits = [(name, part) for data in card.learnt_from for name, part in data.splits.items()]
    return SidePredictions(
        name=name or card.name,
        labels=card.labels,
        probabilities=chances,
        head=head or next(iter(card.heads)),
        model=card.sha256 or "",
        fingerprint=split.fingerprint,
        data="" if card.data is None else card.data.name,
        # If images are train of one and val of another, train counts.
        made_with={
            part.fingerprint: name for name, part in sorted(splits, key=lambda each: each[0] == "train")
        },
        selected=None if chose is None else True if chose.epoch or chose.ended else chose.epoch,
    )


def read_side(
    kept: SavedPredictions, split: "Split", *, head: str | None = None, name: str = ""
) -> SidePredictions:
    """Return the predictions in a file of probabilities.

    Args:
        kept: The result of `probabilities.read`.
        split: The images that they belong to.
        head: The output head; None for the first.
        name: Its name in the comparison; empty for the name in the file.

    Raises:
        DataError: The probabilities are for other images.
        ModelError: The file has no such head.
    """
    heads = {None: next(iter(TWO_HEADS.values()))} | ONE_HEAD | TWO_HEADS
    output = heads[head].output if head in heads else head or ""
    if output not in kept.answers:
        raise ModelError(
            f"the probabilities {name or kept.about!r} have no head {head!r}; they have "
            f"{', '.join(kept.answers)}"
        )
    chances = kept.of(split.fingerprint, kept.labels, n=len(split))[output]
    return SidePredictions(
        name=name or kept.about,
        labels=kept.labels,
        probabilities=chances,
        head=head or "",
        fingerprint=split.fingerprint,
    )


Winner = Literal["a", "b"]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two that are compared.

    Args:
        name: Its name in the comparison.
        evaluation: Its own figures on the images.
    """

    name: str
    evaluation: Evaluation

    @property
    def head(self) -> str:
        """The output head that answered; empty if that is not known."""
        return self.evaluation.head

    @property
    def model(self) -> str:
        """sha256 of the model file; empty if that is not known."""
        return self.evaluation.model

    @property
    def right(self) -> int:
        """Number of images named right."""
        return sum(row[index] for index, row in enumerate(self.evaluation.confusion))


@dataclass(frozen=True, kw_only=True)
class Part:
    """A comparison on some of the images.

    Args:
        n: Images.
        share: Accuracy of both.
        mcnemar: Test of the difference.
    """

    n: int
    share: Difference
    mcnemar: McNemar


@dataclass(frozen=True, kw_only=True)
class ClassDifference:
    """The recall of two models in one class.

    Args:
        n: Images of the class.
        recall: Recall of both; the interval is Bonett and Price's.
        p: McNemar's test on these images.
        p_held: The same, adjusted for the number of classes (Holm).
    """

    n: int
    recall: Difference
    p: float
    p_held: float


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """An image that the models name differently.

    Args:
        place: Its index in the split.
        file: Its name.
        truth: Its label.
        a: A's answer.
        b: B's answer.
        confidence_a: A's probability of its answer.
        confidence_b: B's probability of its answer.
        right: Which one is right; None for neither.
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
    """Two models on the same images. Fractions in [0, 1]; intervals 95 %; differences are A - B.

    Args:
        data: The data set's name.
        split: The split's name.
        split_fingerprint: sha256 over its pixels, labels and order.
        n: Images.
        labels: The data's classes, then further classes of the models.
        a: The first model.
        b: The second model.
        accuracy: Accuracy of both; the interval is a paired bootstrap over images.
        macro_f1: Mean F1 of the classes that have images; the same interval.
        mcnemar: Test of the difference in accuracy.
        visible: Difference in accuracy that is found with a power of 80 %; None without one.
        per_class: Recall in each class that has images.
        agreement: Agreement with the plurality of annotators; None without votes.
        without_copies: Without images that the data's training split has too; None without such images.
        copies_learnt: Whether both models learned from that training split.
        disagreements: Images named differently: first those that only one names right, most confident first.
        known: Images that a model learned from, by the hashes that it ships with; None without hashes.
        without_known: Without these images; None without hashes, or if no image is left.
        winner: The model with the higher accuracy, if that is significant, also without memorised images.
        verdict: The result in words.
        notes: Classes in which one model is better, and the results on votes and without copies.
        warnings: Reasons to doubt the comparison.
        interval_by: What intervals and the test take together: images, or groups if the split names them.
        interval_groups: Number of groups; None by image.
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
    interval_by: IntervalBy = "image"
    interval_groups: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; file names that are not UTF-8 contain JSON escapes."""
        document = asdict(self)
        for name, side in (("a", self.a), ("b", self.b)):
            document[name]["evaluation"] = side.evaluation.to_dict()
        for each in document["disagreements"]:
            each["file"] = each["file"].encode(errors="backslashreplace").decode()
        return document


_PAIRED = ("difference (A - B)", "95 % interval")

#: p-value below which a difference is significant.
SEEN = 0.05


def _find_winner(accuracy: Difference, test: McNemar) -> Winner | None:
    """Return the model with the higher accuracy, if McNemar's test and the interval are significant."""
    low, high = accuracy.interval
    if test.p >= SEEN or low <= 0 <= high:
        return None
    return "a" if accuracy.difference > 0 else "b"


def _confirm_winner(found: Comparison) -> Winner | None:
    """Return the winner, if it also wins without memorised images."""
    if not found.known:
        return found.winner
    rest = found.without_known
    return found.winner if rest and _find_winner(rest.share, rest.mcnemar) == found.winner else None


def _describe_memorised(found: Comparison) -> Iterator[str]:
    """Report memorised images, and the result on the others."""
    if not found.known:
        return
    said = (
        f"{found.a.name} or {found.b.name} was trained on {found.known:,} of the {found.n:,} images or "
        "their near duplicates"
    )
    if found.without_known is None:
        yield f"{said}, so this comparison is not valid; compare on other images"
        return
    part = found.without_known
    p = format_p_value(part.mcnemar.p)
    yield f"{said}; accuracy on the other {part.n:,}: {_both(part.share)}, p {p}"


def _write_verdict(found: Comparison) -> str:
    """Return in one or two sentences whether one model is better."""
    where = f"{found.data}, split {found.split}" if found.data else f"split {found.split}"
    test = str(found.mcnemar)
    better, worse, apart = _ordered((found.a.name, found.b.name), found.accuracy)
    if found.winner is None and found.known and _find_winner(found.accuracy, found.mcnemar):
        return (
            f"{better} has a higher accuracy than {worse} on {where}: {_both(apart)}, {test}. But a model "
            f"was trained on {found.known:,} of the {found.n:,} images, and without them there is no "
            "significant difference."
        )
    if found.winner is None:
        return (
            f"No significant difference between {found.a.name} and {found.b.name} on {where}: accuracy "
            f"{_both(found.accuracy)}, {test}. {_power(found)}"
        )
    macro = found.macro_f1 if found.winner == "a" else reverse(found.macro_f1)
    sentence = f"{better} is better than {worse} on {where}: accuracy {_both(apart)}, {test}."
    if macro.interval[1] < 0:
        return f"{sentence} On macro F1 {worse} is better: {_both(macro)}."
    if macro.interval[0] <= 0:
        return f"{sentence} On macro F1 there is no significant difference: {_both(macro)}."
    return sentence


def _power(found: Comparison) -> str:
    if found.visible is None:
        return f"With {_images(found.n)} no difference can be significant."
    return (
        f"With {_images(found.n)} a difference of {100 * found.visible:.1f} points is detected with a power "
        f"of {POWER:.0%}; a smaller difference is possible."
    )


def _find_warnings(a: SidePredictions, b: SidePredictions, split: "Split", data: str) -> Iterator[str]:
    """Yield reasons to doubt the comparison, from names and fingerprints."""
    sides = (a, b)
    roles = [_roles(side, split, data) for side in sides]
    if learnt := [side.name for side, role in zip(sides, roles, strict=True) if "train" in role]:
        yield (
            f"{' and '.join(learnt)} {'was' if len(learnt) == 1 else 'were'} trained on these images, so "
            "the comparison is not valid; compare on images that neither model was trained on"
        )
    chosen = [side for side, role in zip(sides, roles, strict=True) if "val" in role and "train" not in role]
    for what, some in (
        ("epoch and settings", [side.name for side in chosen if side.selected is not False]),
        ("settings", [side.name for side in chosen if side.selected is False]),
    ):
        if some:
            yield (
                f"{' and '.join(some)} used these images as val, so {what} may have been chosen with them, "
                f"which favours {'it' if len(some) == 1 else 'both'}; compare on other images"
            )
    if unknown := [side.name for side in sides if not side.made_with]:
        yield (f"the training data of {' and '.join(unknown)} is not known, so it may contain these images")
    if _question(a.head) != _question(b.head):
        yield (
            f"{a.name} uses the head {a.head or 'of its file'} and {b.name} the head "
            f"{b.head or 'of its file'}, which predict different labels; choose one with --head"
        )


def _roles(side: SidePredictions, split: "Split", data: str) -> set[str]:
    """Return which splits of the model's training these images were."""
    ours = {split.fingerprint, side.fingerprint}
    roles = {name for fingerprint, name in side.made_with.items() if fingerprint in ours}
    # Exclusions change the fingerprint of train only.
    if split.name == "train" and side.data == data != "":
        roles.add("train")
    return roles


def _question(head: str) -> str:
    """Return the output of a head, whose name may differ between models."""
    heads = ONE_HEAD | TWO_HEADS
    return heads[head].output if head in heads else "probabilities"


def _write_notes(found: Comparison) -> Iterator[str]:
    """Yield the classes in which one model is better, and the results on votes and without copies."""
    names = found.a.name, found.b.name
    if found.interval_groups is not None:
        yield describe_intervals("the test and intervals are", found.interval_groups)
    for side, sign in ((found.a, 1), (found.b, -1)):
        ahead = [
            f"{label} ({format_points(sign * each.recall.difference)})"
            for label, each in found.per_class.items()
            if each.p_held < SEEN and sign * each.recall.difference > 0
        ]
        if ahead:
            yield f"{side.name} has a higher recall of {', '.join(ahead)}"
    if found.agreement is not None:
        better, worse, apart = _ordered(names, found.agreement.share)
        p = found.agreement.mcnemar.p
        says = f"{better} agrees with most annotators more often than {worse}"
        if p >= SEEN:
            says = f"no significant difference in the agreement of {better} and {worse} with most annotators"
        yield f"{says}: {_both(apart)}, p {format_p_value(p)}"
    if found.without_copies is not None:
        part = found.without_copies
        better, worse, apart = _ordered(names, part.share)
        where = "training" if found.copies_learnt else "the data's training split"
        yield (
            f"without the {found.n - part.n:,} images with duplicates in {where}, {better} compared with "
            f"{worse}: {_both(apart)}, p {format_p_value(part.mcnemar.p)}"
        )


def _ordered(names: tuple[str, str], apart: Difference) -> tuple[str, str, Difference]:
    """Return the better model, the worse one, and their difference."""
    return (*names, apart) if apart.difference > 0 else (*names[::-1], reverse(apart))


def _format_interval(difference: Difference) -> str:
    """Return an interval in percentage points: `0.4 to 2.2`."""
    return " to ".join(format_points(end).removeprefix("+") for end in difference.interval)


def _both(each: Difference) -> str:
    difference = format_points(each.difference)
    return f"{each.a:.1%} and {each.b:.1%}, {difference} points ({_format_interval(each)})"


def _images(n: int) -> str:
    return f"{n:,} images" if n > 1 else "one image"


def figure_rows(found: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of the main figures."""
    rows = [_row("accuracy", found.n, found.accuracy, found.mcnemar.p)]
    rows.append(_row("macro F1", found.n, found.macro_f1, None))
    for what, part in (
        ("agreement with annotators", found.agreement),
        ("without duplicates", found.without_copies),
    ):
        if part is not None:
            rows.append(_row(what, part.n, part.share, part.mcnemar.p))
    return ("what", "n", found.a.name, found.b.name, *_PAIRED, "p"), rows


def class_rows(found: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of the classes' figures."""
    rows = [_row(label, each.n, each.recall, each.p_held) for label, each in found.per_class.items()]
    adjusted = "p, adjusted for the number of classes (Holm)"
    return ("recall of", "n", found.a.name, found.b.name, *_PAIRED, adjusted), rows


def _row(what: str, n: int, each: Difference, p: float | None) -> tuple[str, ...]:
    apart = format_points(each.difference), _format_interval(each)
    shown = "" if p is None else format_p_value(p).removeprefix("= ")
    return what, f"{n:,}", f"{each.a:.1%}", f"{each.b:.1%}", *apart, shown


def compare(
    a: SidePredictions,
    b: SidePredictions,
    split: "Split",
    *,
    labels: Sequence[str],
    data: str = "",
    copies: Bools | None = None,
    learnt: bool = False,
    known: Bools | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare the predictions of two models for the same images.

    Args:
        a: Predictions of the first model.
        b: Predictions of the second model.
        split: The images, with numbers into `labels`, and votes if there are any.
        labels: The data set's class names, matched by name. Further classes of a model count as wrong.
        data: The data set's name.
        copies: `(n,)` whether the data's training split has the image too.
        learnt: Whether both models learned from exactly that training split.
        known: `(n,)` whether a model learned from each image, as `memorised.find_memorised` returns; None if
            not known.
        seed: Seed of the bootstrap.

    Raises:
        DataError: The split has no images, or the number of predictions differs.
        ModelError: A model lacks a class of the data.
    """
    if len(split) == 0:
        raise DataError(f"split {split.name!r} has no images to compare on")
    a, b = _rename_apart(a, b)
    names = tuple(dict.fromkeys((*labels, *a.labels, *b.labels)))
    said_a, said_b = (_predicted_classes(side, names, labels, len(split)) for side in (a, b))
    right_a, right_b = said_a == split.labels, said_b == split.labels
    named = number_groups(split.groups)
    test = _test(right_a, right_b, named)
    accuracy, macro = bootstrap_differences(split.labels, said_a, said_b, len(names), seed=seed, named=named)
    found = Comparison(
        data=data,
        split=split.name,
        split_fingerprint=split.fingerprint,
        n=len(split),
        labels=names,
        a=Side(name=a.name, evaluation=_evaluate_side(a, split, labels, data)),
        b=Side(name=b.name, evaluation=_evaluate_side(b, split, labels, data)),
        accuracy=accuracy,
        macro_f1=macro,
        mcnemar=test,
        visible=_detectable(right_a, right_b, named),
        per_class=_compare_classes(split.labels, right_a, right_b, labels, named),
        agreement=_compare_agreement(split, said_a, said_b, names, named),
        without_copies=_compare_rest(right_a, right_b, copies, named),
        copies_learnt=learnt,
        known=None if known is None else int(known.sum()),
        without_known=_compare_rest(right_a, right_b, known, named),
        disagreements=_list_disagreements(a, b, said_a, said_b, split, names),
        winner=_find_winner(accuracy, test),
        interval_by="image" if named is None else "group",
        interval_groups=None if named is None else int(named.max()) + 1,
        warnings=tuple(_find_warnings(a, b, split, data)),
    )
    warnings = (*found.warnings, *_describe_memorised(found))
    found = replace(found, winner=_confirm_winner(found), warnings=warnings)
    return replace(found, verdict=_write_verdict(found), notes=tuple(_write_notes(found)))


def _evaluate_side(side: SidePredictions, split: "Split", labels: Sequence[str], data: str) -> Evaluation:
    truth = np.array([side.labels.index(label) for label in labels], np.int64)[split.labels]
    answers = Predictions(split, side.labels, side.probabilities, truth, side.head, side.model, data)
    found = evaluate_predictions(answers)
    return replace(found, split_fingerprint=side.fingerprint or found.split_fingerprint)


def _rename_apart(a: SidePredictions, b: SidePredictions) -> tuple[SidePredictions, SidePredictions]:
    if a.name != b.name:
        return a, b
    if a.head and b.head and a.head != b.head:
        return replace(a, name=f"{a.name}, head {a.head}"), replace(b, name=f"{b.name}, head {b.head}")
    return replace(a, name=f"{a.name} (A)"), replace(b, name=f"{b.name} (B)")


def _predicted_classes(side: SidePredictions, names: Sequence[str], labels: Sequence[str], n: int) -> Whole:
    """Return each answer as a number into `names`."""
    if strange := [label for label in labels if label not in side.labels]:
        raise ModelError(
            f"the data has the class {strange[0]!r}, which {side.name} does not have; "
            f"it has {', '.join(side.labels)}"
        )
    if side.probabilities.shape != (n, len(side.labels)):
        raise DataError(
            f"{side.name} has probabilities of shape {side.probabilities.shape} for {n} images and "
            f"{len(side.labels)} classes; they must have one row per image and one column per class"
        )
    order = np.array([names.index(label) for label in side.labels], np.int64)
    said: Whole = order[side.probabilities.argmax(axis=1)]
    return said


def _test(right_a: Bools, right_b: Bools, named: Clusters | None) -> McNemar:
    if named is not None:
        return mcnemar_by_group(right_a, right_b, named)
    return mcnemar(int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum()))


def _detectable(right_a: Bools, right_b: Bools, named: Clusters | None) -> float | None:
    """Return `detectable_difference`; with groups for as many images as tell as much as these.

    Groups multiply the variance of the difference by the sum of squares over groups, divided by that over
    images (the design effect; Kish 1965).
    """
    apart = int((right_a != right_b).sum())
    effect = 1.0
    if named is not None and apart:
        sums = np.bincount(named, right_a.astype(np.int64) - right_b)
        effect = max(1.0, float((sums**2).sum()) / apart)
    return detectable_difference(len(right_a) / effect, apart / effect)


def _compare_part(right_a: Bools, right_b: Bools, chosen: Bools, named: Clusters | None) -> Part | None:
    one, other = right_a[chosen], right_b[chosen]
    if not one.size:
        return None
    own = None if named is None else named[chosen]
    return Part(n=len(one), share=compare_shares(one, other, own), mcnemar=_test(one, other, own))


def _compare_rest(
    right_a: Bools, right_b: Bools, left_out: Bools | None, named: Clusters | None
) -> Part | None:
    """Compare on all images but some; None if there are no such images."""
    if left_out is None or not left_out.any():
        return None
    return _compare_part(right_a, right_b, ~left_out, named)


def _compare_classes(
    truth: Whole, right_a: Bools, right_b: Bools, labels: Sequence[str], named: Clusters | None
) -> dict[str, ClassDifference]:
    parts = {
        label: _compare_part(right_a, right_b, truth == number, named) for number, label in enumerate(labels)
    }
    there = {label: part for label, part in parts.items() if part is not None}
    held = holm([part.mcnemar.p for part in there.values()])
    return {
        label: ClassDifference(n=part.n, recall=part.share, p=part.mcnemar.p, p_held=p)
        for (label, part), p in zip(there.items(), held, strict=True)
    }


def _compare_agreement(
    split: "Split", said_a: Whole, said_b: Whole, names: Sequence[str], named: Clusters | None
) -> Part | None:
    if split.votes is None:
        return None
    decided, seen = find_plurality(split.votes, names)
    return _compare_part(said_a == seen, said_b == seen, decided, named)


def _list_disagreements(
    a: SidePredictions, b: SidePredictions, said_a: Whole, said_b: Whole, split: "Split", names: Sequence[str]
) -> tuple[Disagreement, ...]:
    sure_a, sure_b = a.probabilities.max(axis=1), b.probabilities.max(axis=1)
    right_a, right_b = said_a == split.labels, said_b == split.labels
    # Most confident disagreements first.
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
