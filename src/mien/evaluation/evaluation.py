"""The figures of an evaluation as one document: the content of `evaluate`, `ship`, cards and reports.

    evaluation = mien.evaluate(model, data=dataset, split="val").evaluation
    evaluation.accuracy, evaluation.accuracy_interval
    Evaluation.from_dict(evaluation.to_dict()) == evaluation

Fractions are in [0, 1], intervals are 95 %. These are types alone; the modules beside this one compute them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from mien.errors import DataError
from mien.models.card import Measured

if TYPE_CHECKING:
    from pydantic import TypeAdapter

#: Version of the document; it rises when a key changes its meaning or goes.
SCHEMA = 2

Interval = tuple[float, float]
Role = Literal["train", "val", "other", "unknown"]
Against = Literal["labels", "votes"]
IntervalBy = Literal["image", "group"]

#: Number of groups below which intervals by group are not reliable.
FEW_GROUPS = 10

_MEASURED = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece")
_WITH_INTERVAL = _MEASURED[:3]


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """The figures of one class; None if no image decides.

    Args:
        n: Images of this class.
        precision: Share of the answers with this label that are right; None if it was never answered.
        recall: Share of this class's images that are named right; None if it has no images.
        f1: Harmonic mean of the two; None if the class has no images.
        recall_interval: Wilson.
        precision_interval: Wilson.
        f1_interval: Wilson's of the share of images right among those that are of this class or were
            answered with it, j, carried over by F1 = 2 j / (1 + j).
    """

    n: int
    precision: float | None
    recall: float | None
    f1: float | None
    recall_interval: Interval | None
    precision_interval: Interval | None = None
    f1_interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The images whose highest probability is in one of the equal-width bins of [0, 1].

    Args:
        n: Images in the bin.
        confidence: Mean of their highest probabilities; None in an empty bin.
        accuracy: Share of them named right; None in an empty bin.
    """

    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often the answers are what most annotators of FER+ chose.

    Args:
        n: Images on which one of the model's classes got the most votes.
        share: Share of them answered with that class; of classes with equal votes the first counts.
        interval: Wilson.
        left_out: Images on which contempt, unknown, no face or a class of others got the most votes.
        ece: Expected calibration error against that class; None if it was not measured.
    """

    n: int
    share: float
    interval: Interval
    left_out: int
    ece: float | None = None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The main figures of an `Evaluation`, on some of its images; None for those that were not measured."""

    n: int
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    balanced_accuracy: float | None = None
    balanced_accuracy_interval: Interval | None = None
    nll: float | None = None
    brier: float | None = None
    ece: float | None = None
    agreement: Agreement | None = None


@dataclass(frozen=True, kw_only=True)
class Group:
    """The figures of one group of images, as in `Evaluation`.

    Args:
        name: As the csv has it.
        few: Whether there are so few images that the figures say little.
    """

    name: str
    n: int
    few: bool
    accuracy: float
    accuracy_interval: Interval
    balanced_accuracy: float
    balanced_accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval


@dataclass(frozen=True, kw_only=True)
class Groups:
    """The figures of every group.

    Args:
        file: The csv's name.
        column: The column that names groups.
        unlisted: Images that the csv gives no group; they are in none.
        groups: In the order of their names.
    """

    file: str
    column: str
    unlisted: int
    groups: tuple[Group, ...]


@dataclass(frozen=True, kw_only=True)
class SplitUse:
    """What the images were to the model, and how often they were scored.

    Args:
        role: `train` for images that the model learned from, `val` for the validation split of its training,
            `other` for neither, `unknown` if the model's card does not say.
        times: How often a run has scored these images, this time included; None if it is not counted.
        models: How many model files it scored on them.
        beside: Names of the runs in the same folder that were scored on them too.
        warnings: Why the score may be too high, one sentence each.
    """

    role: Role
    times: int | None = None
    models: int | None = None
    beside: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Memorised:
    """How many of the images the model learned from, by its hashes of them, and its score without them.

    Args:
        exact: Images that it learned from, pixel for pixel.
        near: Images that look like one it learned from: encoded again, brightened, blurred, mirrored, or
            moved by a pixel.
        n: The other images.
        accuracy: Share of these that are classified correctly; None without images.
        accuracy_interval: Wilson.
    """

    exact: int
    near: int
    n: int
    accuracy: float | None
    accuracy_interval: Interval | None

    @property
    def total(self) -> int:
        """Images that it learned from, or near copies of them."""
        return self.exact + self.near

    @property
    def most(self) -> bool:
        """Whether it learned from more than half of the images."""
        return self.total > self.n

    @property
    def warning(self) -> str:
        """Why the score is doubtful; empty if it is not."""
        if not self.total:
            return ""
        of = f"{self.total:,} of the {self.total + self.n:,} images"
        learned = (
            f"the model was trained on {of} (exact duplicates: {self.exact:,}, near duplicates: "
            f"{self.near:,})"
        )
        if self.accuracy is None or self.accuracy_interval is None:
            return f"{learned}, so this score does not measure the accuracy on new images"
        low, high = self.accuracy_interval
        rest = f"on the other {self.n:,}, the accuracy is {self.accuracy:.2%} ({low:.2%} to {high:.2%})"
        return f"{learned}, so the score may be too high; {rest}"


@dataclass(frozen=True, kw_only=True)
class TrainingOverlap:
    """Which images the training split holds too, and the figures without them.

    Args:
        checked: Whether the training split was searched.
        why: Why it was not; empty if it was.
        compared_with: Images of the training split.
        learned_from: Whether the model learned from this very split; None if its card does not say.
        exact: Images that training holds pixel for pixel.
        near: Images that it holds shifted, brightened, re-encoded or mirrored.
        recrops: Images whose photograph it holds, cropped differently; None if they were not searched for.
        without_exact: Figures without the first; None if no image is left or this was not measured.
        without_near: Figures without the first two.
        without_recrops: Figures without all three.
    """

    checked: bool = True
    why: str = ""
    compared_with: int | None = None
    learned_from: bool | None = None
    exact: int = 0
    near: int = 0
    recrops: int | None = None
    without_exact: Figures | None = None
    without_near: Figures | None = None
    without_recrops: Figures | None = None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a temperature, logit biases and a threshold change, cross-fitted.

    Args:
        n: Images.
        folds: Parts of the images; each was scored with what the others gave.
        temperature: What logits are to be divided by; fitted on all images.
        logit_bias: What is to be added to them then, `(k,)`, fitted on all images; empty for none.
        accuracy_before: Share named right as the model is.
        accuracy_after: The same with what the other folds gave; equal if there is no logit bias.
        ece_before: Expected calibration error as the model is.
        ece_after: The same with what the other folds gave.
        nll_before: Mean cross entropy with the labels as the model is, in nats.
        nll_after: The same with what the other folds gave.
        threshold: Confidence, after all that, under which an answer counts as uncertain.
        prior: The weight, in images, with which the temperature was drawn towards 1 because the images are
            few; 0 for none. Above 0 there is no logit bias.
        answered: Share of images at or above the threshold of the other folds.
        accuracy_answered: Share of these that are classified correctly; None without images.
        accuracy_answered_interval: Wilson.
    """

    n: int
    folds: int
    temperature: float
    logit_bias: tuple[float, ...]
    accuracy_before: float
    accuracy_after: float
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float
    threshold: float
    answered: float
    accuracy_answered: float | None
    accuracy_answered_interval: Interval | None
    prior: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How an int8 copy does beside its float32 file on the same images.

    Args:
        n: Images.
        agreement: Share of images that both give the same answer.
        accuracy_float32: Share that the float32 file names right.
        accuracy_int8: Share that the copy names right.
        accepted: Whether that is good enough for the copy to ship.
    """

    n: int
    agreement: float
    accuracy_float32: float
    accuracy_int8: float
    accepted: bool


@dataclass(frozen=True, kw_only=True)
class TemperatureCheck:
    """Calibration with one temperature; figures as in `Evaluation`, None for those that were not measured.

    Args:
        name: Where the temperature comes from, such as `as shipped`.
        temperature: What logits are divided by; None for a mean of models.
        prior: The weight, in images, of the prior that it was fitted with; 0 for none.
    """

    name: str
    temperature: float | None
    prior: float
    nll: float
    brier: float | None
    ece: float
    reliability: tuple[Bin, ...] | None


@dataclass(frozen=True, kw_only=True)
class Point:
    """What is gained by answering only if the highest probability reaches a threshold.

    Args:
        coverage: Share of images answered, at least the given share: images of equal confidence are
            answered together.
        n: Images answered.
        threshold: The least confidence among them.
        accuracy: Share of them named right.
        interval: Wilson.
    """

    coverage: float
    n: int
    threshold: float
    accuracy: float
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class SelectivePrediction:
    """Accuracy on the images that the model is most sure about.

    Args:
        points: By ascending coverage.
        area: Area under the curve of risk against coverage.
        best_area: The same for a model of the same accuracy that is least sure wherever it is wrong.
    """

    points: tuple[Point, ...]
    area: float
    best_area: float


@dataclass(frozen=True, kw_only=True)
class CorruptionScore:
    """Accuracy under one corruption.

    Args:
        corruption: Its name, such as `blur 2`.
        kind: One of `mien.evaluation.corruptions.KINDS`.
        strength: In the unit of the kind.
        accuracy: Share of the corrupted images named right.
        interval: Wilson.
        loss: How much that is below the accuracy on the images as they are.
    """

    corruption: str
    kind: str
    strength: float
    accuracy: float
    interval: Interval
    loss: float


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Accuracy under each corruption of the robustness table.

    Args:
        seed: Of noise, directions and places.
        size: Pixels a side of the images.
        rows: One for each corruption.
        mean_of_kinds: Mean over kinds of the mean over their strengths.
    """

    seed: int
    size: int
    rows: tuple[CorruptionScore, ...]
    mean_of_kinds: float


@dataclass(frozen=True, kw_only=True)
class BalanceRow:
    """The figures of one output head at one balance.

    Args:
        head: The output head; `MEAN` for the geometric mean of both.
        balance: At which it answers.
        against: What counts as right: the labels, or the plurality of the annotators' votes.
        n: Images that count.
        accuracy: Share of them answered right; against votes, the agreement with most annotators.
        balanced_accuracy: Mean recall of the classes that have images.
        recall: Of each class; None for a class without images.
        ece: Expected calibration error over 15 bins.
    """

    head: str
    balance: float
    against: Against
    n: int
    accuracy: float
    balanced_accuracy: float
    recall: dict[str, float | None]
    ece: float


@dataclass(frozen=True, kw_only=True)
class Example:
    """An image and what the model answered.

    Args:
        place: The image's index in the split.
        file: Its name.
        label: Its label.
        answer: The likeliest class.
        confidence: The probability of that class.
        probabilities: Of every class.
    """

    place: int
    file: str
    label: str
    answer: str
    confidence: float
    probabilities: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class EvaluatedModel:
    """A model that gave the answers.

    Args:
        name: The model's name.
        sha256: Of its file.
        precision: What it computes in.
        recipe: The recipe that it was trained by; None if that is not known.
        learned_from: Name and fingerprint of the data it learned from; None if that is not known.
        excluded: Number of training images left out, by reason.
        temperature: Of the output head that answered.
        logit_bias: Of that head.
        threshold: Of that head; None if none was chosen.
        at_chance: Whether that head is no better than always answering the most frequent label.
        began: How the model does beside the one that its training started from; None if that was not
            measured.
        licence: Under what terms it may be used.
    """

    name: str
    sha256: str | None
    precision: str
    recipe: str | None
    learned_from: dict[str, str] | None
    excluded: dict[str, int]
    temperature: float
    logit_bias: tuple[float, ...]
    threshold: float | None
    at_chance: bool
    began: dict[str, Any] | None
    licence: str


@dataclass(frozen=True, kw_only=True)
class EvaluatedSplit:
    """A split of the data set.

    Args:
        n: Images.
        fingerprint: sha256 over pixels, labels and order.
    """

    n: int
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class EvaluatedData:
    """The data set that the split is part of.

    Args:
        name: The data set's name.
        fingerprint: sha256 over all splits.
        splits: Every split by name.
        unreadable: Images that could not be read.
        notes: What is notable about the data, one sentence each.
    """

    name: str
    fingerprint: str
    splits: dict[str, EvaluatedSplit]
    unreadable: int
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a model does on labelled images.

    The first figures are always there. What was not measured is None or empty.

    Example:
        >>> import mien
        >>> evaluation = mien.evaluate("fast", data="faces.zip").evaluation
        >>> low, high = evaluation.accuracy_interval
        >>> low <= evaluation.accuracy <= high
        True

    Args:
        n: Images.
        labels: Names of the classes, in the order of `confusion`.
        accuracy: Share of images named right.
        accuracy_interval: Wilson; with `interval_by` group, this and all others are a bootstrap over groups.
        balanced_accuracy: Mean recall of the classes that have images.
        balanced_accuracy_interval: Bootstrap over images.
        macro_f1: Mean F1 of the classes that have images.
        macro_f1_interval: Bootstrap over images.
        nll: Mean negative log-likelihood of the true label, in nats.
        brier: Mean over images of the squared error summed over classes, in [0, 2].
        ece: Expected calibration error.
        per_class: Each label's own figures.
        confusion: Counts of images, `confusion[truth][answer]`.
        absent: Labels without images; they are left out of the means.
        reliability: The bins that `ece` is taken over.
        agreement: With the plurality of FER+'s annotators, if the split has votes.
        head: The output head that answered.
        model: sha256 of the model file; of several, one after the other.
        split: The split's name.
        split_fingerprint: sha256 over its pixels, labels and order.
        data: The data set's name.
        views: Of how many views of each image the probabilities are the mean.
        balance: At which they were answered (docs/priors.md).
        prior: With which they were answered; empty for none.
        class_groups: Classes whose probabilities were added up, for each of `labels` that is a group.
        heads: The same images as answered by the model's other output heads.
        split_use: What the images were to the model, and how often they were scored.
        memorised: How many of the images the model learned from.
        groups: The figures of groups of the images.
        training_overlap: The figures without the images that the training split holds too.
        calibration: What the calibration in the file changes.
        quantization: How the int8 copy does.
        temperatures: Calibration with the model's temperature and with others.
        selective: Accuracy on the images that the model is most sure about.
        robustness: Accuracy on corrupted images.
        balance_table: Every output head at every balance that is offered.
        worst: Wrong answers with the least probability for the label.
        uncertain: Answers with the least confidence.
        models: The models that answered.
        dataset: The data set that the split is part of.
        preprocessing: What is done to the images.
        versions: Version of each program that took part.
        interval_by: What the intervals resample: images; or groups such as persons, if the split names them.
        interval_groups: Number of groups that were resampled; an image without a group counts as one. None
            if intervals are by image.
    """

    n: int
    labels: tuple[str, ...]
    accuracy: float
    accuracy_interval: Interval
    balanced_accuracy: float
    balanced_accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    nll: float
    brier: float
    ece: float
    per_class: dict[str, ClassScore]
    confusion: tuple[tuple[int, ...], ...]
    absent: tuple[str, ...]
    reliability: tuple[Bin, ...]
    agreement: Agreement | None = None
    head: str = ""
    model: str = ""
    split: str = ""
    split_fingerprint: str = ""
    data: str = ""
    views: int = 1
    balance: float = 0.0
    prior: dict[str, float] = field(default_factory=dict)
    class_groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    heads: "dict[str, Evaluation]" = field(default_factory=dict)
    split_use: SplitUse | None = None
    memorised: Memorised | None = None
    groups: Groups | None = None
    training_overlap: TrainingOverlap | None = None
    calibration: Calibration | None = None
    quantization: Quantization | None = None
    temperatures: tuple[TemperatureCheck, ...] = ()
    selective: SelectivePrediction | None = None
    robustness: Robustness | None = None
    balance_table: tuple[BalanceRow, ...] = ()
    worst: tuple[Example, ...] = ()
    uncertain: tuple[Example, ...] = ()
    models: tuple[EvaluatedModel, ...] = ()
    dataset: EvaluatedData | None = None
    preprocessing: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    interval_by: IntervalBy = "image"
    interval_groups: int | None = None

    @property
    def interval_note(self) -> str:
        """How the intervals were made, if they are by group; empty if they are by image."""
        if self.interval_by == "image" or self.interval_groups is None:
            return ""
        return describe_intervals("intervals are", self.interval_groups)

    @property
    def conditions(self) -> str:
        """What differs from one view as shipped: views, balance, prior and groups, each after a comma."""
        parts = [f"mean of {self.views} views"] if self.views > 1 else []
        if self.balance:
            parts.append(f"balance {self.balance:g}")
        if self.prior:
            parts.append("prior " + " ".join(f"{name} {share:g}" for name, share in self.prior.items()))
        if self.class_groups:
            groups = (f"{name}={'+'.join(members)}" for name, members in self.class_groups.items())
            parts.append(f"groups {' '.join(groups)}")
        return "".join(f", {part}" for part in parts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without the sections that were not measured."""
        return {"schema": SCHEMA} | _trimmed(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Evaluation":
        """Return the evaluation that `to_dict`, or JSON made from it, describes.

        Raises:
            DataError: A value is missing or of another type, or the document has another schema.
        """
        from pydantic import ValidationError

        document = dict(values)
        if (schema := document.pop("schema", None)) != SCHEMA:
            raise DataError(
                f"the evaluation has schema {schema!r}; this version of mien reads {SCHEMA}: evaluate again"
            )
        try:
            return _adapter().validate_json(json.dumps(document), strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise DataError(f"the evaluation is damaged at {place!r}: {first['msg']}") from None

    def figures(self) -> Figures:
        """Return the main figures alone."""
        return Figures(
            n=self.n,
            **{name: getattr(self, name) for name in (*_MEASURED, "agreement")},
            **{f"{name}_interval": getattr(self, f"{name}_interval") for name in _WITH_INTERVAL},
        )

    def summary(self) -> Measured:
        """Return the main figures as the card in a model file holds them."""
        values = {name: getattr(self, name) for name in _MEASURED}
        intervals = {name: getattr(self, f"{name}_interval") for name in _WITH_INTERVAL}
        if self.agreement is not None:
            values["agreement"] = self.agreement.share
            intervals["agreement"] = self.agreement.interval
        return Measured(n=self.n, values=values, intervals=intervals)


def describe_intervals(what: str, groups: int) -> str:
    """Return a statement that something is by group, and a warning if the groups are few."""
    note = f"{what} by group: {groups:,} groups are resampled"
    if groups < FEW_GROUPS:
        note += f"; with fewer than {FEW_GROUPS} groups, intervals are unreliable, and can be too narrow"
    return note


_SECTIONS = (
    *("heads", "split_use", "memorised", "groups", "training_overlap", "calibration", "quantization"),
    *("temperatures", "selective", "robustness", "balance_table", "worst", "uncertain", "models", "dataset"),
    *("preprocessing", "versions", "interval_groups"),
)


def _trimmed(values: dict[str, Any]) -> dict[str, Any]:
    """Return an evaluation's values without the sections that were not measured."""
    kept = {key: value for key, value in values.items() if value or key not in _SECTIONS}
    if "heads" in kept:
        kept["heads"] = {name: _trimmed(each) for name, each in kept["heads"].items()}
    return kept


@cache
def _adapter() -> "TypeAdapter[Evaluation]":
    from pydantic import TypeAdapter

    return TypeAdapter(Evaluation)
