"""A network, data and files that tests build, each as small as its purpose allows."""

import contextlib
import ctypes
import dataclasses
import importlib
import importlib.util
import io
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from mien import labels
from mien.data import synthetic
from mien.data.datasets import Dataset, Split
from mien.models import networks
from mien.training import runs


def _toy(size: int, classes: int) -> Any:
    layers = networks.load_keras().layers
    pixels = layers.Input((size, size, 1), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(pixels)
    x = layers.Conv2D(6, 7, strides=6, padding="same", use_bias=False, name="stem_conv")(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="stem_norm")(x)
    x = layers.ReLU(name="features")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(0.1, name="dropout")(x)
    answer = layers.Dense(classes, activation="softmax", dtype="float32", name="answer")(x)
    return networks.load_keras().Model(pixels, answer, name="toy")


#: One convolution with everything that a training has to keep: batch statistics, dropout, two kinds of
#: weights. It trains in a third of the time of `tiny`, because TensorFlow traces a tenth of the operations.
TOY = networks.Network("toy", "one convolution, for tests", _toy, 16, parameters=3_013, flops=43_008)


def add_toy_network() -> None:
    """Let recipes name the network `toy` in this process."""
    networks.NETWORKS[TOY.name] = TOY


def mien_command(*words: str) -> list[str]:
    """Return the command line of `mien WORDS` in a new process that knows the network `toy`."""
    folder = str(Path(__file__).parent)
    code = (
        f"import sys; sys.path.insert(0, {folder!r}); import builders; builders.add_toy_network()\n"
        "from mien.__main__ import main; main()"
    )
    return [sys.executable, "-c", code, *words]


def measured(command: list[str]) -> list[str]:
    """Return a command of Python that measures its coverage too, if this process does."""
    import coverage

    current = coverage.Coverage.current()
    if current is None:
        return command
    options = ["--parallel-mode", "--branch", "--source=mien"]
    file = str(Path(current.get_option("run:data_file")).absolute())
    return [command[0], "-m", "coverage", "run", *options, f"--data-file={file}", *command[1:]]


def blobs(
    counts: dict[str, int],
    *,
    size: int = 16,
    labels: tuple[str, ...] = ("left", "middle", "right"),
    seed: int = 0,
) -> Dataset:
    """Return a data set that a network learns in seconds: the place of a bright bar tells the class."""
    rng = np.random.default_rng(seed)

    def split(name: str) -> Split | None:
        n = counts.get(name, 0)
        if not n:
            return None
        truth = np.arange(n) % len(labels)
        images = rng.integers(0, 120, (n, size, size, 1), dtype=np.uint8)
        width = size // len(labels)
        for index, label in enumerate(truth):
            images[index, :, label * width : (label + 1) * width] += 100
        return Split(
            name=name,
            images=images,
            labels=truth.astype(np.int64),
            votes=None,
            files=tuple(f"{name}/{labels[label]}/{index}.png" for index, label in enumerate(truth)),
        )

    return Dataset(
        root="blobs",
        labels=labels,
        train=split("train"),
        val=split("val"),
        test=split("test"),
        problems=(),
        excluded=(),
        notes=(),
    )


def faces_archive(to: Path) -> Path:
    """Write the archive of synthetic faces that `tests/data/tiny-run` was trained on."""
    return synthetic.write_archive(to, train=140, val=42, test=42, seed=0)


def faces_csv(folder: Path) -> tuple[Path, Path]:
    """Write synthetic faces as fer2013.csv and, as ferplus.csv, ten votes for the label of each."""
    rows, votes = ["emotion,pixels,Usage"], [",".join(("Usage", "Image name", *labels.FERPLUS_COLUMNS))]
    images, truth, _ = synthetic.sample(112, seed=0, size=48)
    for number, (image, label) in enumerate(zip(images, truth.tolist(), strict=True)):
        usage = "Training" if number < 70 else "PublicTest" if number < 91 else "PrivateTest"
        rows.append(f"{label},{' '.join(map(str, image.ravel().tolist()))},{usage}")
        seen = (10 * (name == labels.EMOTIONS[label]) for name in labels.FERPLUS_COLUMNS.values())
        votes.append(",".join((usage, "face.png", *map(str, seen))))
    (folder / "fer2013.csv").write_text("\n".join(rows) + "\n")
    (folder / "ferplus.csv").write_text("\n".join(votes) + "\n")
    return folder / "fer2013.csv", folder / "ferplus.csv"


def tiny_run(name: str, to: Path, data: Path) -> Path:
    """Copy a finished run of tests/data/ to the folder `to`; what it was trained on is in `data`."""
    made = runs.open_run(shutil.copytree(Path(__file__).parent / "data" / name, to))
    facts = made.facts()["data"]
    made.update(data=facts | {"origin": origin(facts["origin"], data)})
    return made.path


def origin(known: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return where a run's data came from as if they had been in `folder`."""
    moved = {key: str(folder / Path(known[key]).name) for key in ("source", "votes") if known[key]}
    return known | moved


@contextlib.contextmanager
def placeholder_figures() -> Iterator[None]:
    """Write random bytes instead of figures, whose drawing is half of the time of a small training."""
    from mien.reports import plots

    def save(figure: object, to: Path, stem: str, *, tight: bool = True) -> list[Path]:
        Path(to).mkdir(parents=True, exist_ok=True)
        paths = [Path(to) / f"{stem}{ending}" for ending in (".png", ".svg")]
        for path in paths:
            path.write_bytes(os.urandom(8))
        return paths

    with mock.patch.object(plots, "_save_figure", save):
        yield


@contextlib.contextmanager
def few_comparisons(images: int = 64) -> Iterator[None]:
    """Compare file and network on few images after an export; the tests of export compare on 1,000."""
    from mien.release import exporters, triton

    with contextlib.ExitStack() as changed:
        for function in (exporters.write_model, exporters.convert, exporters.write, triton.write_repository):
            changed.enter_context(mock.patch.dict(function.__kwdefaults__, at_least=images))
        yield


class TrialThread(threading.Thread):
    """Trains a trial of a search in this process, which knows the network `toy`."""

    exitcode = 0

    def __init__(self, context: Any, connection: Any, task: Any) -> None:
        from mien.training import trials

        super().__init__(target=trials.run, args=(connection, task))
        self.start()

    def terminate(self) -> None:
        """Do nothing: the search closes the connection, which ends the training at its next epoch."""


@contextlib.contextmanager
def trials_in_threads() -> Iterator[None]:
    """Train the trials of a search in this process, one at a time; nothing changes without Optuna."""
    if importlib.util.find_spec("optuna") is None:
        yield
        return
    from mien.training import tuning

    with mock.patch.object(tuning, "_start", TrialThread):
        yield


def python_path() -> str:
    """Return PYTHONPATH with the folder of this file before it."""
    return os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])


@contextlib.contextmanager
def small_cluster_jobs() -> Iterator[None]:
    """Do small work on the workers of a cluster, whose children are processes that a test cannot patch.

    The children know `toy`. The cluster must have started with the folder of this file in PYTHONPATH.
    """
    from mien.training import cluster_jobs

    run = cluster_jobs.run

    def run_small(client: Any, call: Any, **options: Any) -> None:
        arguments = {"module": call.module, "function": call.function, "arguments": call.arguments}
        changes = {"module": __name__, "function": make_small_call.__name__, "arguments": arguments}
        run(client, dataclasses.replace(call, **changes), **options)

    with mock.patch.object(cluster_jobs, "run", run_small):
        yield


def make_small_call(
    *, module: str, function: str, arguments: dict[str, Any], on_progress: Any, on_note: Any
) -> None:
    """Make a call in the child of a worker, with small work."""
    add_toy_network()
    with few_comparisons(), placeholder_figures(), trials_in_threads():
        call = getattr(importlib.import_module(module), function)
        call(**arguments, on_progress=on_progress, on_note=on_note)


@contextlib.contextmanager
def small_work(*, figures: bool = False) -> Iterator[None]:
    """Make work smaller while documented commands run, whose sizes are a user's.

    A training takes one epoch: of `toy` from chance, and of `small` where it begins from `fast` or `default`.
    An export is compared on 200 images, and an archive of synthetic faces holds at most 112. The workers of a
    cluster do the same.

    Args:
        figures: Whether figures are drawn, and not placeholders.
    """
    from mien.models import model_files
    from mien.training import recipes, trainer

    fit, train_folds, archive = trainer.fit, trainer.train_folds, synthetic.write_archive

    def short(dataset: Dataset, recipe: Any, **options: Any) -> Any:
        changes, base = ["epochs=1"], options.get("base")
        if base is None:
            changes.append("network=toy")
        elif base.card.recipe["network"] != "toy":
            options["base"] = model_files.load("fast")
            changes.append("network=small")
        chosen = recipes.get(recipe) if isinstance(recipe, str) else recipe
        return fit(dataset, recipes.override(chosen, changes), **options)

    def short_folds(dataset: Dataset, recipe: Any, **options: Any) -> Path:
        # Here too, because the workers of a cluster train by the recipe that they are given.
        return train_folds(dataset, recipes.override(recipe, ["epochs=1", "network=toy"]), **options)

    def few(to: Any, *, train: int, val: int, test: int, **options: Any) -> Path:
        return archive(to, train=min(train, 70), val=min(val, 21), test=min(test, 21), **options)

    with contextlib.ExitStack() as changed:
        changed.enter_context(mock.patch.object(trainer, "fit", short))
        changed.enter_context(mock.patch.object(trainer, "train_folds", short_folds))
        changed.enter_context(mock.patch.object(synthetic, "write_archive", few))
        changed.enter_context(few_comparisons(200))  # of fewer, one is more than int8 may change
        changed.enter_context(trials_in_threads())
        # The workers of a cluster that a command starts know this file.
        changed.enter_context(mock.patch.dict(os.environ, PYTHONPATH=python_path()))
        changed.enter_context(small_cluster_jobs())
        if not figures:
            changed.enter_context(placeholder_figures())
        yield


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Return the file of an image, or of pixels."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


@contextlib.contextmanager
def refused(error: type[BaseException], *names: object) -> Iterator[Any]:
    """Expect `error` with a message of one line with each of `names` in it: an option, a file, a number."""
    import pytest

    with pytest.raises(error) as caught:
        yield caught
    message = str(caught.value)
    assert message
    assert "\n" not in message
    for name in map(str, names):
        assert name in message, f"{name!r} is not in: {message}"


def has_line(text: str, *names: object) -> bool:
    """Return whether one line of `text` has all of `names` in it."""
    return any(all(str(name) in line for name in names) for line in text.splitlines())


@contextlib.contextmanager
def small_disk(path: Path, *, kilobytes: int) -> Iterator[None]:
    """A disk of a few kilobytes, where the system lets us mount one."""
    import pytest

    path.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", str(path).encode(), b"tmpfs", 0, f"size={kilobytes}k".encode()) != 0:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        yield
    finally:
        libc.umount2(str(path).encode(), 2)


def random_answers(n: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` rows of probabilities of `k` classes that lean to the labels, and the labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, k, n)
    chances = random.dirichlet(np.ones(k), n)
    chances[np.arange(n), labels] += random.uniform(0, 0.5, n)
    return chances / chances.sum(axis=1, keepdims=True), labels


def lively(model: Any, seed: int = 0) -> Any:
    """Return `model` with statistics and biases like a trained one; fresh ones would hide most mistakes."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith(("beta", "bias", "moving_mean")):
            variable.assign(random.normal(0, 0.2, variable.shape))
    return model
