"""The named recipes, each with the command that runs it and what it measured."""

from dataclasses import dataclass, replace

from mien.training.recipes.settings import Augment, Checkpoints, Optimizer, Recipe, Stopping, Targets


@dataclass(frozen=True)
class Brief:
    """What a recipe's `measured` says, short enough for a table.

    Args:
        time: How long it took; empty where nothing was measured.
        score: What it reached.
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
    about="The network and training that mien grew out of, as its README has them.",
    command="mien train DATA --recipe seed",
)

_QUICK = Recipe(
    name="quick",
    network="small",
    epochs=8,
    batch_size=64,
    targets=Targets(smoothing=0.05),
    optimizer=Optimizer(name="sgd", learning_rate=0.2, schedule="one-cycle", warmup=0.25, weight_decay=3e-4),
    augment=Augment(rotation=8, zoom=0.08, shift=0.042, flip=True, interpolation="cubic"),
    stopping=Stopping(patience=0),
    select="last",
    about="A small residual network in at most ten CPU-minutes on FER2013.",
    command="mien train DATA --recipe quick",
    measured="60.1 ± 0.6 % of FER2013's PublicTest over 3 seeds, without its unchanged copies, in 8m 36s of "
    "CPU, two busy AVX2 cores, 2026-11-26",
)

_HUMAN = replace(
    _QUICK,
    name="human",
    epochs=26,
    targets=Targets(smoothing=0.1, ferplus=1.0),
    optimizer=replace(_QUICK.optimizer, weight_decay=5e-4),
    augment=replace(_QUICK.augment, interpolation="linear", erase=0.25),
    about="The shortest way to 65 % of FER2013, which is what people reach, on labels and FER+ votes.",
    command="mien train fer2013.csv --recipe human --votes VOTES --exclude LIST",
    measured="65.4 ± 0.1 % of FER2013's PublicTest over 3 seeds, without its unchanged copies, 80.4 % with "
    "most people (one seed), in 27m to 29m of CPU, two busy AVX2 cores, 2026-11-26",
)

_RELEASE = Recipe(
    name="release",
    network="large",
    epochs=75,
    batch_size=64,
    targets=Targets(smoothing=0.1, ferplus=1.0, teacher=0.5, temperature=2.0, balance=0.3),
    optimizer=Optimizer(name="sgd", learning_rate=0.12, schedule="one-cycle", warmup=0.15, weight_decay=5e-4),
    augment=Augment(rotation=12, zoom=0.12, shift=0.0625, flip=True, brightness=0.1, contrast=0.2, erase=0.5),
    stopping=Stopping(patience=0),
    select="last",
    about="The network that ships, on labels, FER+ votes and a teacher's word, in three hours of CPU.",
    command="mien train fer2013.csv --recipe release --votes VOTES --exclude LIST --teacher FILE",
    measured="66.7 % of FER2013's PublicTest (65.1 to 68.2) without its unchanged copies, "
    "82.2 % of the votes' labels, "
    "in 3h 04m of CPU, two AVX2 cores, 2026-11-22; its teacher took 1h 25m",
)

_POLISH = replace(
    _RELEASE,
    name="polish",
    epochs=12,
    optimizer=replace(_RELEASE.optimizer, learning_rate=0.03, warmup=0.0),
    augment=replace(_RELEASE.augment, contrast=0.5, interpolation="cubic", blur=0.02, noise=0.03),
    about="A last stage for `release`, on faces as sharp, blurred and grainy as photos have them.",
    command="mien train fer2013.csv --from RUN --recipe polish --votes VOTES --exclude LIST --teacher FILE",
    measured="67.7 % of FER2013's PublicTest (66.1 to 69.2) without its unchanged copies, "
    "27m of CPU after release, "
    "two AVX2 cores, 2026-11-23; averaged with another seed of itself and with release 68.3 %: what ships",
)

_FAST = replace(
    _RELEASE,
    name="fast",
    network="small",
    epochs=45,
    targets=replace(_RELEASE.targets, smoothing=0.05),
    augment=replace(_POLISH.augment, erase=0.25),
    about="The small network for video and weak machines, taught by the one that ships.",
    command="mien train fer2013.csv --recipe fast --votes VOTES --exclude LIST --teacher FILE",
    measured="65.3 ± 0.2 % of FER2013's PublicTest over 3 seeds, without its unchanged copies, 81.5 % with "
    "most people, in 51m of CPU, two busy AVX2 cores, 2026-11-26; what ships is of 2026-11-23, on linear "
    "interpolation, and has a last stage: 66.1 %",
)

_TUNE = replace(
    _QUICK,
    name="tune",
    epochs=10,
    batch_size=32,
    optimizer=replace(_QUICK.optimizer, learning_rate=0.02, warmup=0.1),
    augment=replace(_QUICK.augment, erase=0.25),
    select="val_loss",
    about="Ten epochs from a trained run, on faces and classes of one's own.",
    command="mien train DATA --from RUN",
    measured="79.4 ± 0.3 % of 1,484 faces in three classes of one's own over 3 seeds, from `default` and 500 "
    "faces, in a minute of CPU, 2026-11-26; from chance 50.9 ± 0.9 %, by `quick` in 40 "
    "epochs 52.7 ± 1.2 %",
)

_TEACHER = Recipe(
    name="teacher",
    network="resnet18",
    epochs=80,
    batch_size=512,
    targets=Targets(smoothing=0.1, ferplus=1.0),
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
    about="For a GPU (KERAS_BACKEND=jax): a large residual network that teaches those that ship.",
    command="mien train fer2013.csv --recipe teacher --votes VOTES --exclude LIST --folds 5",
)

_TEACHER_VGG = replace(
    _TEACHER,
    name="teacher-vgg",
    network="vgg",
    about="A plain stack of convolutions, to stand beside `teacher`.",
    command=_TEACHER.command.replace("teacher", "teacher-vgg"),
)

_TEACHER_DENSE = replace(
    _TEACHER,
    name="teacher-dense",
    network="densenet",
    about="A densely connected network, to stand beside `teacher`.",
    command=_TEACHER.command.replace("teacher", "teacher-dense"),
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
    about="A tiny residual network on drawn faces; what mien demo trains.",
    command="mien demo",
    measured="90.9 % (88.5 to 92.8) of drawn test faces, 4 % of the labels wrong on purpose, in a minute and "
    "a half for the whole demo, two AVX2 cores, 2026-11-23",
)

#: Every named recipe.
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
        _DEMO,
    )
}

#: What a table says of each.
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
    "demo": Brief("90s", "90.9 %, drawn faces"),
}
