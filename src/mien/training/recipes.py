"""Named training recipes as data: network, settings, and the measured score.

A recipe is frozen. To change one, use `override(recipe, ["epochs=5", "augment.rotation=15"])`; to read and
write it as TOML, use `parse` and `to_toml`. `RECIPES` has the named recipes; each states the command that
runs it and what was measured.
"""

import difflib
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from mien.errors import RecipeError

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


def _check_order(shares: tuple[float, float]) -> tuple[float, float]:
    if shares[0] > shares[1]:
        raise ValueError(f"the smallest share must be first, and {shares[0]:g} is above {shares[1]:g}")
    return shares


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes to a training face, sampled again for each image and epoch.

    Args:
        rotation: Degrees; the angle is uniform in ±rotation.
        zoom: Fraction; the scale is uniform in 1 ± zoom, sampled separately for x and y.
        zoom_together: Sample one scale for both axes instead, which keeps the proportions of the face.
        aspect: Fraction; x is scaled by a factor uniform in 1 ± aspect and y by its inverse, after the zoom.
        shift: Fraction of the side; uniform in ±shift, sampled separately for x and y.
        flip: Mirror left and right with a probability of 0.5.
        brightness: Fraction of the range; a grey offset uniform in ±brightness × 255.
        contrast: Fraction; the factor about the image's mean is uniform in 1 ± contrast.
        gamma: Grey levels in [0, 1] are raised to the power exp(g), where g is uniform in ±gamma.
        resolution: Fraction; with a probability of 0.5, a face is shrunk to a share of its side that is
            uniform in [1 - resolution, 1], and enlarged again.
        blur: Fraction of the side; with a probability of 0.5, a face is blurred, as by a lens out of focus,
            with a Gaussian whose standard deviation is uniform in [0, blur × side] pixels.
        noise: Fraction of the range; each face gets approximately normal noise on all pixels, whose standard
            deviation is uniform in [0, noise × 255] grey levels.
        erase: Probability of one erased rectangle, filled with noise.
        erase_area: Smallest and largest share of the image that a rectangle covers.
        fill: How uncovered pixels are filled: the nearest pixel, a reflection, or black.
        interpolation: `linear` blurs faces a little; `cubic` keeps them sharp.
        mixup: Blends each image and its target with another one of the batch; the share of the other is
            sampled from Beta(mixup, mixup) and is at most a half. 0 for no mixup.
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
    erase_area: Annotated[tuple[Fraction, Fraction], AfterValidator(_check_order)] = (0.02, 0.2)
    fill: Literal["nearest", "reflect", "black"] = "nearest"
    interpolation: Literal["linear", "cubic"] = "linear"
    mixup: NotNegative = 0.0


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """The targets that the network learns.

    Args:
        smoothing: Label smoothing: the share of each label that is spread evenly over all classes.
        votes: Share of the target that is the distribution of the FER+ votes instead of the label.
        ferplus: Weight of the loss of a second output, which learns the votes only; 0 for no second output.
        teacher: Share of the loss that compares with the probabilities of the teacher, if there is a teacher.
        temperature: Divides the logits of teacher and student in that share of the loss.
        balance: Strength of the logit adjustment by class frequencies, which makes the first
            output predict rare classes more often: 0 learns the frequencies, 1 predicts as if all classes
            were equally frequent. The validation loss is adjusted in the same way.
    """

    __pydantic_config__ = _STRICT

    smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    votes: Fraction = 0.0
    ferplus: NotNegative = 0.0
    teacher: Fraction = 0.7
    temperature: Positive = 3.0
    balance: Fraction = 0.0


@dataclass(frozen=True, kw_only=True)
class Views:
    """Changed copies of the training images that teacher models answer.

    In each epoch, the student learns the answers to one view, from images that the recipe's own `augment`
    changes further.

    Args:
        count: Number of views; the first one is the image itself. 0 means that teachers answer the images
            only, and that the recipe can be used without teachers.
        seed: Seed of the views.
        augment: How views differ from the images.
    """

    __pydantic_config__ = _STRICT

    count: Annotated[int, Field(ge=0, le=10_000)] = 0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    augment: Augment = field(default_factory=Augment)


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The optimizer and its learning rate.

    Args:
        name: Keras' Adam, AdamW, or SGD with Nesterov momentum.
        learning_rate: The learning rate; with a schedule, its maximum.
        schedule: `constant`; `cosine` down to 1 %; `one-cycle`, which rises linearly during
            `warmup` and falls linearly to 1 % after it.
        warmup: Share of all steps during which the learning rate rises.
        momentum: Momentum of SGD.
        weight_decay: Per step, multiplied by the learning rate; on kernels only.
        ema: Momentum of the moving average of the weights, which is validated and exported, and of batch
            normalisation's statistics, if theirs is smaller; 0 for no average.
        clip_norm: Maximum global norm of the gradients; 0 for no limit.
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
    """Which weights and states a run keeps.

    Args:
        weights: Which weight files stay in `weights/`: those of all epochs, or of the last `keep` and of the
            best.
        keep: Number of the last epochs whose weight files stay if `weights` is `last`.
        minutes: Maximum time between two saved states, from which a stopped run continues.
    """

    __pydantic_config__ = _STRICT

    weights: Literal["all", "last"] = "last"
    keep: Count = 2
    minutes: Positive = 5.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of a training.

    Args:
        name: The name of the recipe, and of the run folder.
        network: One of `mien networks`.
        size: Side of the network's input in pixels.
        epochs: Number of passes over the training images.
        batch_size: Images per step.
        seed: Seed of initial weights, order, augmentation and dropout.
        precision: `auto` computes in bfloat16 if the processor supports it, else in float32.
        engine: Where batches are made: `host` makes each on the CPU; `device` keeps images and changes in the
            memory of a GPU or TPU, and needs the JAX backend; `auto` is `device` if there is one.
        select: The epoch whose weights are exported: the one with the lowest validation loss, with the
            highest validation accuracy, or the last one.
        about: A description in one line.
        command: The command that runs it.
        measured: The measured scores, with data, machine and date.
    """

    __pydantic_config__ = _STRICT

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
    network: str
    size: Annotated[int, Field(ge=16, le=512)] = 48
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 25
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 128
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 42
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    engine: Literal["auto", "host", "device"] = "auto"
    select: Literal["val_loss", "val_accuracy", "last"] = "val_loss"
    targets: TargetSettings = field(default_factory=TargetSettings)
    optimizer: Optimizer = field(default_factory=Optimizer)
    augment: Augment = field(default_factory=Augment)
    views: Views = field(default_factory=Views)
    stopping: Stopping = field(default_factory=Stopping)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    about: str = ""
    command: str = ""
    measured: str = ""


@dataclass(frozen=True)
class Brief:
    """A short form of a recipe's `measured`, for tables.

    Args:
        time: Duration of the training; empty if it was not measured.
        score: The measured score.
    """

    time: str = ""
    score: str = ""


_SEED = Recipe(
    name="seed",
    network="seed",
    epochs=25,
    batch_size=128,
    seed=42,
    optimizer=Optimizer(name="adam", learning_rate=0.001),
    augment=Augment(rotation=10, zoom=0.1, flip=True),
    stopping=Stopping(patience=10),
    checkpoints=Checkpoints(weights="all"),
    about="Baseline: the network and training of the project that mien is based on.",
    command="mien train DATA --recipe seed",
)

_QUICK = Recipe(
    name="quick",
    network="small",
    epochs=8,
    batch_size=64,
    targets=TargetSettings(smoothing=0.05),
    optimizer=Optimizer(name="sgd", learning_rate=0.2, schedule="one-cycle", warmup=0.25, weight_decay=3e-4),
    augment=Augment(rotation=8, zoom=0.08, shift=0.042, flip=True, interpolation="cubic"),
    stopping=Stopping(patience=0),
    select="last",
    about="A small residual network that trains on FER2013 in at most 10 minutes of CPU time.",
    command="mien train DATA --recipe quick",
    measured="60.1 ± 0.6 % of FER2013's PublicTest over 3 seeds, trained without exact and near duplicates "
    "of it, in 8m 36s of CPU time on two busy AVX2 cores, 2026-11-26",
)

_HUMAN = replace(
    _QUICK,
    name="human",
    epochs=26,
    targets=TargetSettings(smoothing=0.1, ferplus=1.0),
    optimizer=replace(_QUICK.optimizer, weight_decay=5e-4),
    augment=replace(_QUICK.augment, interpolation="linear", erase=0.25),
    about="The fastest recipe that reaches human accuracy on FER2013 (65 %); it learns labels and FER+ "
    "votes.",
    command="mien train fer2013.csv --recipe human --votes VOTES --exclude LIST",
    measured="65.4 ± 0.1 % of FER2013's PublicTest over 3 seeds, trained without exact and near duplicates "
    "of it, 80.4 % agreement with most annotators (one seed), in 27m to 29m of CPU time on two busy "
    "AVX2 cores, 2026-11-26",
)

_RELEASE = Recipe(
    name="release",
    network="large",
    epochs=75,
    batch_size=64,
    targets=TargetSettings(smoothing=0.1, ferplus=1.0, teacher=0.5, temperature=2.0, balance=0.3),
    optimizer=Optimizer(name="sgd", learning_rate=0.12, schedule="one-cycle", warmup=0.15, weight_decay=5e-4),
    augment=Augment(rotation=12, zoom=0.12, shift=0.0625, flip=True, brightness=0.1, contrast=0.2, erase=0.5),
    stopping=Stopping(patience=0),
    select="last",
    about="A large network that learns labels, FER+ votes and a teacher's probabilities, in 3 hours of CPU "
    "time.",
    command="mien train fer2013.csv --recipe release --votes VOTES --exclude LIST --teacher FILE",
    measured="66.7 % of FER2013's PublicTest (65.1 to 68.2), trained without exact and near duplicates of "
    "it, 82.2 % agreement with most annotators, in 3h 04m of CPU time on two AVX2 cores, 2026-11-22; "
    "its teacher took 1h 25m",
)

_POLISH = replace(
    _RELEASE,
    name="polish",
    epochs=12,
    optimizer=replace(_RELEASE.optimizer, learning_rate=0.03, warmup=0.0),
    augment=replace(_RELEASE.augment, contrast=0.5, interpolation="cubic", blur=0.02, noise=0.03),
    about="A final stage after `release`, with sharp, blurred and noisy faces as in photos.",
    command="mien train fer2013.csv --from RUN --recipe polish --votes VOTES --exclude LIST --teacher FILE",
    measured="67.7 % of FER2013's PublicTest (66.1 to 69.2), trained without exact and near duplicates of "
    "it, in 27m of CPU time after release on two AVX2 cores, 2026-11-23; 68.3 % if its weights are "
    "averaged with those of another seed and of release",
)

_FAST = replace(
    _RELEASE,
    name="fast",
    network="small",
    epochs=45,
    targets=replace(_RELEASE.targets, smoothing=0.05),
    augment=replace(_POLISH.augment, erase=0.25),
    about="A small network for video and slow machines, distilled from a larger one.",
    command="mien train fer2013.csv --recipe fast --votes VOTES --exclude LIST --teacher FILE",
    measured="65.3 ± 0.2 % of FER2013's PublicTest over 3 seeds, trained without exact and near duplicates "
    "of it, 81.5 % agreement with most annotators, in 51m of CPU time on two busy AVX2 cores, "
    "2026-11-26; the shipped model `fast` is from 2026-11-23, with linear interpolation and a final "
    "stage: 66.1 %",
)

_TUNE = replace(
    _QUICK,
    name="tune",
    epochs=10,
    batch_size=32,
    optimizer=replace(_QUICK.optimizer, learning_rate=0.02, warmup=0.1),
    augment=replace(_QUICK.augment, erase=0.25),
    select="val_loss",
    about="Fine-tuning of a trained model on your own faces and classes, in 10 epochs.",
    command="mien train DATA --from RUN",
    measured="79.4 ± 0.3 % of 1,484 faces in three own classes over 3 seeds, from `default` with 500 "
    "training faces, in a minute of CPU time, 2026-11-26; 50.9 ± 0.9 % from random weights, and 52.7 ± "
    "1.2 % with `quick` in 40 epochs",
)

_TEACHER = Recipe(
    name="teacher",
    network="resnet18",
    epochs=80,
    batch_size=512,
    targets=TargetSettings(smoothing=0.1, ferplus=1.0),
    optimizer=Optimizer(
        name="sgd",
        learning_rate=0.4,
        schedule="one-cycle",
        warmup=0.15,
        weight_decay=5e-4,
        ema=0.995,
        clip_norm=5.0,
    ),
    augment=Augment(
        rotation=15,
        zoom=0.15,
        shift=0.0833,
        flip=True,
        brightness=0.15,
        contrast=0.25,
        erase=0.5,
        mixup=0.2,
    ),
    stopping=Stopping(patience=0),
    select="last",
    about="For a GPU (KERAS_BACKEND=jax): a large residual network, as a teacher for smaller ones.",
    command="mien train fer2013.csv --recipe teacher --votes VOTES --exclude LIST --folds 5",
)

_TEACHER_VGG = replace(
    _TEACHER,
    name="teacher-vgg",
    network="vgg",
    about="A plain stack of convolutions, as a second teacher.",
    command=_TEACHER.command.replace("teacher", "teacher-vgg"),
)

_TEACHER_DENSE = replace(
    _TEACHER,
    name="teacher-dense",
    network="densenet",
    about="A densely connected network, as a third teacher.",
    command=_TEACHER.command.replace("teacher", "teacher-dense"),
)

_PATIENT_TEACHER = Recipe(
    name="patient-teacher",
    network="vgg",
    epochs=100,
    batch_size=256,
    targets=TargetSettings(smoothing=0.1, ferplus=1.0),
    optimizer=replace(_TEACHER.optimizer, learning_rate=0.2, warmup=0.2, ema=0.0),
    augment=Augment(
        rotation=15,
        zoom=0.16,
        zoom_together=True,
        aspect=0.08,
        shift=0.0833,
        flip=True,
        brightness=0.12,
        contrast=0.45,
        gamma=0.3,
        blur=0.02,
        noise=0.03,
        erase=0.5,
        mixup=0.2,
        interpolation="cubic",
    ),
    stopping=Stopping(patience=0),
    select="last",
    about="For a GPU (KERAS_BACKEND=jax): a teacher for patient; also with --set network=resnet18.",
    command="mien train fer2013.csv --recipe patient-teacher --votes VOTES --exclude LIST",
)

_PATIENT = Recipe(
    name="patient",
    network="xlarge",
    epochs=276,
    batch_size=256,
    targets=TargetSettings(smoothing=0.05, ferplus=1.0, teacher=0.85, temperature=1.0),
    optimizer=replace(_PATIENT_TEACHER.optimizer, learning_rate=0.25, warmup=0.1, weight_decay=2e-4),
    augment=Augment(blur=0.03, noise=0.06, erase=0.2),
    views=Views(
        count=60,
        # The teacher's changes, a little smaller, without those that spoil a picture.
        augment=replace(
            _PATIENT_TEACHER.augment, rotation=13, zoom=0.15, shift=0.073, blur=0, noise=0, erase=0, mixup=0
        ),
    ),
    stopping=Stopping(patience=0),
    select="last",
    about="For a GPU: learns what teachers answer to 60 views of each image, from worse copies of them.",
    command="mien train fer2013.csv --recipe patient --teacher RUN,RUN --votes VOTES --exclude LIST",
)

_PATIENT_FAST = replace(
    _PATIENT,
    name="patient-fast",
    network="small",
    epochs=98,
    about="As patient, for a small network.",
    command="mien train fer2013.csv --recipe patient-fast --teacher RUN,RUN --votes VOTES --exclude LIST",
)

_DEMO = Recipe(
    name="demo",
    network="tiny",
    epochs=8,
    batch_size=64,
    optimizer=Optimizer(name="sgd", learning_rate=0.1, schedule="one-cycle", warmup=0.25, weight_decay=5e-4),
    augment=Augment(shift=0.04, flip=True),
    stopping=Stopping(patience=0),
    select="last",
    about="A tiny residual network for synthetic faces, which mien demo trains.",
    command="mien demo",
    measured="90.9 % (88.5 to 92.8) of synthetic test faces, 4 % of the labels wrong on purpose, in 90 "
    "seconds for the whole demo on two AVX2 cores, 2026-11-23",
)

#: All named recipes.
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _SEED,
        _QUICK,
        _TUNE,
        _HUMAN,
        _RELEASE,
        _POLISH,
        _FAST,
        _TEACHER,
        _TEACHER_VGG,
        _TEACHER_DENSE,
        _PATIENT_TEACHER,
        _PATIENT,
        _PATIENT_FAST,
        _DEMO,
    )
}

#: Duration and score of each recipe, for tables.
BRIEF: dict[str, Brief] = {
    "seed": Brief(),
    "quick": Brief("8m 36s", "60.1 ± 0.6 %, PublicTest"),
    "tune": Brief("a minute", "79.4 ± 0.3 %, own classes"),
    "human": Brief("27m to 29m", "65.4 ± 0.1 %, PublicTest"),
    "release": Brief("3h 04m", "66.7 %, PublicTest"),
    "polish": Brief("27m more", "67.7 %, PublicTest"),
    "fast": Brief("51m", "65.3 ± 0.2 %, PublicTest"),
    "teacher": Brief(),
    "teacher-vgg": Brief(),
    "teacher-dense": Brief(),
    "patient-teacher": Brief(),
    "patient": Brief(),
    "patient-fast": Brief(),
    "demo": Brief("90s", "90.9 %, synthetic faces"),
}


_ADAPTER = TypeAdapter(Recipe)


def get(name: str) -> Recipe:
    """Return the recipe called `name`.

    Raises:
        RecipeError: There is no such recipe; the message suggests the most similar name.
    """
    if name in RECIPES:
        return RECIPES[name]
    raise RecipeError(f"{name!r} is not a recipe of mien; {_suggest(name, RECIPES)}")


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return `recipe` as nested dicts of plain values, as JSON and TOML take them."""
    values: dict[str, Any] = _ADAPTER.dump_python(recipe, mode="json")
    return values


def from_dict(values: dict[str, Any]) -> Recipe:
    """Build a recipe from nested dicts.

    Raises:
        RecipeError: A key is unknown, or a value of the wrong type or out of range.
    """
    try:
        recipe: Recipe = _ADAPTER.validate_python(values)
    except ValidationError as error:
        raise RecipeError(_explain(error)) from None
    return recipe


def to_toml(recipe: Recipe) -> str:
    """Return `recipe` as TOML; `parse` reads it back equal."""
    return tomli_w.dumps(to_dict(recipe))


def parse(text: str) -> Recipe:
    """Read a recipe from TOML.

    Raises:
        RecipeError: The text is not TOML, or not a recipe.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"the recipe is not valid TOML: {error}; correct it") from None
    return from_dict(values)


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Change single values of a recipe.

    Args:
        recipe: The recipe to start from; it is not changed.
        settings: `key=value` each; a key inside a group has a dot: `augment.rotation=15`.

    Raises:
        RecipeError: A setting has no `=`, its key is unknown (the nearest is named), or its value is
            of the wrong type or out of range.
    """
    values = to_dict(recipe)
    known = dict(list_settings(values))
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals:
            raise RecipeError(f"{setting!r} is not a setting; write key=value, such as epochs=5")
        if key not in known:
            raise RecipeError(f"{key!r} is not a setting of a recipe; {_suggest(key, known)}")
        *groups, last = key.split(".")
        place = values
        for group in groups:
            place = place[group]
        place[last] = _value(text.strip(), known[key])
    return from_dict(values)


def without_texts(recipe: Recipe) -> Recipe:
    """Return a recipe without its texts, which do not change the training."""
    return replace(recipe, about="", command="", measured="")


def list_settings(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name of each setting, with dots, and its value.

    Args:
        values: A recipe as `to_dict` returns it.
        prefix: What names begin with.
    """
    for key, value in values.items():
        if isinstance(value, dict):
            yield from list_settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _value(text: str, example: object) -> object:
    """Read `text` as TOML unless a string is wanted, so that `flip=true` and `epochs=5` need no quotes."""
    if isinstance(example, str):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _suggest(word: str, known: dict[str, Any]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _explain(error: ValidationError) -> str:
    """Name the first fault in one sentence, with the nearest known key where a key is unknown."""
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = dict(list_settings(to_dict(Recipe(name="any", network="any"))))
        return f"{key!r} is not a setting of a recipe; {_suggest(key, known)}"
    if fault["type"] in ("missing", "missing_argument"):
        return f"the recipe has no {key!r}; add it"
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"recipe setting {key}={fault.get('input')!r}: {message}"
