"""What a recipe is made of."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


def _ordered(shares: tuple[float, float]) -> tuple[float, float]:
    if shares[0] > shares[1]:
        raise ValueError(f"the smallest share stands first, and {shares[0]:g} is above {shares[1]:g}")
    return shares


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes to a training face, each drawn anew for every image and epoch.

    Args:
        rotation: Degrees; the angle is uniform in ±rotation.
        zoom: Fraction; the scale is uniform in 1 ± zoom, drawn apart for x and y.
        zoom_together: Draw one scale for both axes instead, which keeps the face's proportions.
        aspect: Fraction; x is scaled by a factor uniform in 1 ± aspect and y by its inverse, after the zoom.
        shift: Fraction of the side; uniform in ±shift, drawn apart for x and y.
        flip: Mirror left and right half the time.
        brightness: Fraction of the range; a grey offset uniform in ±brightness × 255.
        contrast: Fraction; the factor about the image's mean is uniform in 1 ± contrast.
        gamma: Grey levels in [0, 1] are raised to the power exp(g), where g is uniform in ±gamma.
        resolution: Fraction; every second face is shrunk to a share of its side that is uniform in
            [1 - resolution, 1], and enlarged again.
        blur: Fraction of the side; every second face is blurred, as by a lens that is not sharp, with a
            Gaussian whose standard deviation is uniform in [0, blur × side] pixels.
        noise: Fraction of the range; each face gets noise over all of it, close to normal, whose standard
            deviation is uniform in [0, noise × 255] grey levels.
        erase: Probability of one erased rectangle, filled with noise.
        erase_area: Smallest and largest share of the image that a rectangle covers.
        fill: What stands where the face was moved away: the nearest pixel, its mirror image, or black.
        interpolation: How pixels are found between pixels: `linear` blurs a face a little, so that training
            sees only blurred ones; `cubic` keeps it as sharp as it came.
        mixup: Blends each image, and its target, with another of its batch; the other's share is drawn from
            Beta(mixup, mixup) and is at most a half. 0 blends none.
    """

    __pydantic_config__ = _STRICT

    rotation: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0
    zoom: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    zoom_together: bool = False
    aspect: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    shift: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    flip: bool = False
    brightness: Fraction = 0.0
    contrast: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    gamma: Annotated[float, Field(ge=0.0, le=2.0)] = 0.0
    resolution: Annotated[float, Field(ge=0.0, le=0.9)] = 0.0
    blur: Annotated[float, Field(ge=0.0, le=0.25)] = 0.0
    noise: Fraction = 0.0
    erase: Fraction = 0.0
    erase_area: Annotated[tuple[Fraction, Fraction], AfterValidator(_ordered)] = (0.02, 0.2)
    fill: Literal["nearest", "reflect", "black"] = "nearest"
    interpolation: Literal["linear", "cubic"] = "linear"
    mixup: NotNegative = 0.0


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What an image's answer should be.

    Args:
        smoothing: Share of each label spread evenly over all classes.
        votes: Share of the label given up for the distribution of FER+'s votes.
        ferplus: Weight of a second answer's loss, which learns the votes alone; 0 for no second answer.
        teacher: Share of the loss that asks for the teacher's probabilities, where one is given.
        temperature: What the logits of teacher and student are divided by for that share.
        balance: How much of the classes' unequal frequencies training takes upon itself, so that the first
            answer favours rare classes more: 0 learns the frequencies too, 1 answers as if all classes were
            equally frequent. Validation loss is measured alike.
    """

    __pydantic_config__ = _STRICT

    smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    votes: Fraction = 0.0
    ferplus: NotNegative = 0.0
    teacher: Fraction = 0.7
    temperature: Positive = 3.0
    balance: Fraction = 0.0


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How weights move.

    Args:
        name: Keras' Adam, AdamW, or SGD with Nesterov momentum.
        learning_rate: The peak, where the schedule has one.
        schedule: `constant`; `cosine` down to a hundredth; `one-cycle`, a straight line up during
            `warmup` and down to a hundredth after it.
        warmup: Share of all steps during which the learning rate rises.
        momentum: SGD's.
        weight_decay: Per step and times the learning rate, on kernels alone.
        ema: Momentum of the moving average of weights that is validated and shipped, and of batch
            normalisation's statistics, if theirs is smaller; 0 for none.
        clip_norm: Largest norm of all gradients together; 0 for no limit.
    """

    __pydantic_config__ = _STRICT

    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Positive = 0.001
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    warmup: Fraction = 0.0
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    weight_decay: NotNegative = 0.0
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    clip_norm: NotNegative = 0.0


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When to stop before the last epoch.

    Args:
        patience: Epochs without a better validation loss before training stops; 0 never stops.
        min_delta: How much smaller a validation loss must be to count as better.
    """

    __pydantic_config__ = _STRICT

    patience: Annotated[int, Field(ge=0)] = 10
    min_delta: NotNegative = 0.0


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """What is kept of the way.

    Args:
        weights: Which weight files stay in `weights/`: of every epoch, or of the last `keep` and the best.
        keep: How many of the last epochs' weight files stay when `weights` is `last`.
        minutes: Largest time between two saved states, from which a killed run goes on.
    """

    __pydantic_config__ = _STRICT

    weights: Literal["all", "last"] = "last"
    keep: Count = 2
    minutes: Positive = 5.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training makes of a data set.

    Args:
        name: Its name, and the run folder's.
        network: One of `mien networks`.
        size: Side of the network's input in pixels.
        epochs: Times every training image is seen.
        batch_size: Images a step.
        seed: Decides initial weights, order, augmentation and dropout.
        precision: `auto` computes in bfloat16 where the processor has it, else in float32.
        select: Which epoch's weights ship: the one with the lowest validation loss, the highest
            validation accuracy, or the last.
        about: One line for people.
        command: What runs it.
        measured: What it reached, with data, machine and date.
    """

    __pydantic_config__ = _STRICT

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
    network: str
    size: Annotated[int, Field(ge=16, le=512)] = 48
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 25
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 128
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 42
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    select: Literal["val_loss", "val_accuracy", "last"] = "val_loss"
    targets: Targets = field(default_factory=Targets)
    optimizer: Optimizer = field(default_factory=Optimizer)
    augment: Augment = field(default_factory=Augment)
    stopping: Stopping = field(default_factory=Stopping)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    about: str = ""
    command: str = ""
    measured: str = ""
