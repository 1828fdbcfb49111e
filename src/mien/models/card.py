"""The card of a model as one JSON document: its properties, training data and metrics."""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from mien.errors import ModelError

#: Largest card in bytes; a real one takes some kilobytes.
MAX_CARD_BYTES = 1 << 20

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Count = Annotated[int, Field(ge=0, le=2**53)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: A name, never a path: reports and cards travel, and the folders of the machine they come from do not.
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^/\\\x00-\x1f]+$")]
Labels = Annotated[tuple[Name, ...], Field(min_length=2, max_length=1000)]


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class Part:
    """One split of the data a model was made with.

    Args:
        n: Number of images.
        fingerprint: sha256 over pixels, labels and order.
    """

    n: Count
    fingerprint: Sha256


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class Data:
    """What a model was trained on.

    Args:
        name: The data set's name, never a path.
        fingerprint: sha256 over all of its splits.
        splits: Each split by name.
    """

    name: Name
    fingerprint: Sha256
    splits: dict[Name, Part] = field(default_factory=dict)


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class Base:
    """A trained model that another was made from, by its weights.

    Args:
        name: The model's name.
        sha256: Hash of the file that it shipped as.
        data: What it was trained on.
        recipe: The recipe it was trained by, as nested plain values; empty if unknown.
        teacher: The models it was distilled from; empty if none or unknown.
    """

    name: Name
    sha256: Sha256
    data: Data
    recipe: dict[str, Any] = field(default_factory=dict)
    teacher: str = ""


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class Measured:
    """Metrics of a model on one split.

    Args:
        n: Number of images.
        values: Each metric by name, such as `accuracy`.
        intervals: 95 % intervals (low, high) of those that have one.
    """

    n: Count
    values: dict[Name, float] = field(default_factory=dict)
    intervals: dict[Name, tuple[float, float]] = field(default_factory=dict)


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class Head:
    """An output head: one of the answers that a model gives to an image.

    Args:
        output: The ONNX output that holds its probabilities.
        about: What it answers, in one sentence.
        temperature: What its logits are divided by inside the file; 1 changes nothing.
        logit_bias: What is added to them then, one number for each label; empty if nothing is.
        threshold: Confidence below which an answer counts as uncertain; None if there is no threshold. For a
            run it is fitted on the validation images, which may have selected its epoch too.
        frequencies: How frequent each class is in the training targets, in the labels' order; they sum to 1.
            Empty if that is not known.
        balance: The balance for photographs unless the user names another one; see
            `mien.models.priors`.
        thresholds: The threshold at each other balance that is offered, by its text, such as `0.25`.
        weights: Name of the weights `(channels, labels)` in the ONNX file that turn the mean of the
            feature map into logits; empty if the logits are made in another way.
        at_chance: Whether the head is not measurably better on val than always answering the most frequent
            label (`mien.evaluation.metrics.at_chance`); then all its answers count as uncertain.
    """

    output: Literal["probabilities", "ferplus"] = "probabilities"
    about: str = ""
    temperature: Annotated[float, Field(ge=0.01, le=100.0)] = 1.0
    logit_bias: tuple[Annotated[float, Field(ge=-100.0, le=100.0)], ...] = ()
    threshold: Fraction | None = None
    frequencies: tuple[Fraction, ...] = ()
    balance: Fraction = 0.0
    thresholds: dict[Literal["0.25", "0.5", "0.75", "1"], Fraction] = field(default_factory=dict)
    weights: str = ""
    at_chance: bool = False

    def balance_for(self, balance: float | None, prior: object) -> float:
        """Return the balance of photographs: the given one; None means the card's, or 0 beside a prior."""
        if balance is not None:
            return balance
        return 0.0 if prior else self.balance

    def threshold_at(self, balance: float) -> float | None:
        """Return the threshold of the balance nearest to this one for which the card has one.

        Of two equally near, the lower balance counts. Of a head at chance it is infinite: no confidence
        reaches it.
        """
        if self.at_chance:
            return math.inf
        known: dict[float, float | None] = {0.0: self.threshold}
        known |= {float(text): value for text, value in self.thresholds.items()}
        return known[min(known, key=lambda each: (abs(each - balance), each))]


#: The only head of a model with one answer, and the two of a model with two.
ONE_HEAD = {"labels": Head(about="the labels of the data set")}
TWO_HEADS = {
    "fer2013": Head(about="the label of FER2013, which publications use"),
    "ferplus": Head(output="ferplus", about="the choice of ten FER+ annotators"),
}


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class Began:
    """Accuracy of a trained model and of the model that it started from, on the same images of val.

    Args:
        name: The name of the model that it started from.
        n: Number of images.
        accuracy: Accuracy of the model that it started from, with its first head.
        accuracy_interval: 95 %, Wilson.
        learnt: Whether that model was trained on these images, so that its accuracy is too high.
        after: Accuracy of the trained model, with its first head.
        after_interval: 95 %, Wilson.
    """

    name: Name
    n: Count
    accuracy: Fraction
    accuracy_interval: tuple[float, float]
    learnt: bool
    after: Fraction
    after_interval: tuple[float, float]

    @property
    def worse(self) -> bool:
        """Whether the trained model has a lower accuracy."""
        return self.after < self.accuracy

    @property
    def sentence(self) -> str:
        """The comparison as a sentence."""
        than = "worse than" if self.worse else "better than" if self.after > self.accuracy else "as good as"
        (low, high), (low_after, high_after) = self.accuracy_interval, self.after_interval
        said = (
            f"the trained model is {than} {self.name}, from which it started: its accuracy on the same "
            f"{self.n:,} images of val is {self.after:.1%} ({low_after:.1%} to {high_after:.1%}), and that "
            f"of {self.name} is {self.accuracy:.1%} ({low:.1%} to {high:.1%})"
        )
        return f"{said}; {self.name} was trained on these images" if self.learnt else said


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """Where the cells of the last feature map are in the image: cell i is centred on `first + step * i`.

    Args:
        first: Row and column of the pixel on which the first cell is centred.
        step: Rows and columns in pixels from one cell to the next.
    """

    first: tuple[float, float]
    step: tuple[float, float]


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class Parity:
    """How close the shipped file answers to the network it was written from.

    Args:
        images: Number of images compared.
        largest_difference: Largest absolute difference between two probabilities.
        against: What the file was compared with.
    """

    images: Count
    largest_difference: Fraction
    against: str


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class Fusion:
    """How differently an int8 file answers where the runtime does not fuse its operations.

    Args:
        images: Number of images compared.
        agreement: Share of them, and of all heads' answers, with the same likeliest class.
        largest_difference: Largest absolute difference between two probabilities.
        mean_difference: Mean absolute difference.
    """

    images: Count
    agreement: Fraction
    largest_difference: Fraction
    mean_difference: Fraction


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class Card:
    """Facts about a model: in a file beside the ONNX file and inside it.

    Args:
        name: The model's name; a trained model has its run's.
        labels: Names of the classes, in the order of the answers.
        size: Side in pixels of the square grey images it takes.
        schema: Version of this document.
        colour: How many channels, as a word; always grey.
        pixel_range: Lowest and highest pixel value; rescaling is inside the model.
        framing: How much around a face the training images show.
        precision: What it computes in.
        heads: Its output heads by name; the first is the default.
        feature_map: Where the cells of the feature map are, for class activation maps; None if the exporter
            did not write it.
        sha256: Hash of the bytes of `model.onnx`. Inside that file it is None, because a file cannot
            contain its own hash.
        made_from: The same of the model that this file was made of, calibrated and perhaps in int8.
        recipe: The recipe it was trained by, as nested plain values.
        teacher: The models it was distilled from; empty if none.
        data: What it was trained on.
        base: The models it started from: the one whose weights it took first, then that one's own.
        began: How it does beside the first of these on val; None where it started from random weights, the
            other model could not answer the images, or the weights were averaged since.
        averaged: The models whose weights were averaged with its own.
        excluded: Number of training images left out, by reason.
        metrics: How it did, by split.
        parity: How close the file answers to the network it was written from.
        fusion: How differently it answers where its int8 operations are not fused; None for float32.
        licence: The terms for use; empty if the author named none.
        versions: Version of each program that made it.
    """

    name: Name
    labels: Labels
    size: Annotated[int, Field(ge=16, le=512)]
    schema: Literal[1] = 1
    colour: Literal["grey"] = "grey"
    pixel_range: tuple[Literal[0], Literal[255]] = (0, 255)
    framing: str = "the whole image, as in the data set"
    precision: Literal["float32", "int8"] = "float32"
    heads: Annotated[dict[Name, Head], Field(min_length=1)] = field(default_factory=lambda: dict(ONE_HEAD))
    feature_map: FeatureMap | None = None
    sha256: Sha256 | None = None
    made_from: Sha256 | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    teacher: str = ""
    data: Data | None = None
    base: tuple[Base, ...] = ()
    began: Began | None = None
    averaged: tuple[Base, ...] = ()
    excluded: dict[str, Count] = field(default_factory=dict)
    metrics: dict[Name, Measured] = field(default_factory=dict)
    parity: Parity | None = None
    fusion: Fusion | None = None
    licence: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def learnt_from(self) -> tuple[Data, ...]:
        """All data it was trained on: its own, then those of the models it was made from; each once."""
        own = () if self.data is None else (self.data,)
        others = (base.data for base in (*self.base, *self.averaged))
        found = {data.fingerprint: data for data in (*own, *others)}
        return tuple(found.values())

    def head(self, name: str | None = None) -> Head:
        """Return one head, the default where none is named.

        Raises:
            ModelError: The model has no such head.
        """
        if name is None:
            return next(iter(self.heads.values()))
        if name not in self.heads:
            raise ModelError(f"the model {self.name!r} has no head {name!r}; it has {', '.join(self.heads)}")
        return self.heads[name]

    def photo_head(self, name: str | None = None) -> str:
        """Return which head answers photographs: the given one; None means `ferplus`, else the first."""
        if name is not None:
            return name
        return "ferplus" if "ferplus" in self.heads else next(iter(self.heads))


_ADAPTER = TypeAdapter(Card)


def to_json(card: Card) -> str:
    """Return `card` as indented JSON; `parse` reads it back equal.

    Raises:
        ModelError: A value is of the wrong type or out of range.
    """
    try:
        text = _ADAPTER.dump_json(card, indent=2, warnings="none").decode()
    except ValueError as error:
        raise ModelError(f"a name in the card is not valid text: {error}") from None
    parse(text)
    return text


def parse(text: str | bytes) -> Card:
    """Read a card from JSON, strictly: no unknown key, no number in quotes, nothing out of range.

    Raises:
        ModelError: The text is not the JSON of a card.
    """
    if len(text) > MAX_CARD_BYTES:
        raise ModelError(f"the card has {len(text)} bytes; a card has at most {MAX_CARD_BYTES}")
    try:
        card: Card = _ADAPTER.validate_json(text, strict=True)
    except ValidationError as error:
        raise ModelError(_explain(error)) from None
    if twice := sorted({label for label in card.labels if card.labels.count(label) > 1}):
        raise ModelError(f"the card names the label {twice[0]!r} twice; every label must have its own name")
    for name, head in card.heads.items():
        if head.logit_bias and len(head.logit_bias) != len(card.labels):
            raise ModelError(
                f"the card's head {name!r} has {len(head.logit_bias)} logit biases for {len(card.labels)} "
                "labels; it must have one for each, or none"
            )
        shares = head.frequencies
        if shares and (len(shares) != len(card.labels) or abs(sum(shares) - 1) > 1e-3):
            raise ModelError(
                f"the card's head {name!r} has {len(shares)} frequencies with the sum {sum(shares):.3f} for "
                f"{len(card.labels)} labels; it must have one for each, with the sum 1, or none"
            )
        if head.balance and not shares:
            raise ModelError(f"the card's head {name!r} has a balance but no frequencies, which it needs")
    return card


def without_hash(card: Card) -> Card:
    """Return `card` without the hash, as it is inside the ONNX file."""
    return replace(card, sha256=None)


def _explain(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    where = f" at {place!r}" if place else ""
    if fault["type"] == "missing":
        return f"the model card (card.json) has no {place!r}; restore the model from a copy, or ship it again"
    if fault["type"] == "json_invalid":
        return "the model card (card.json) is not JSON; restore the model from a copy, or ship it again"
    problem = fault["msg"].removeprefix("Value error, ")
    return f"the model card (card.json) is not valid{where}: {problem[0].lower()}{problem[1:]}"
