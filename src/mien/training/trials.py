"""One training of a search, in a process of its own.

A process for each training keeps the memory of a long search flat, lets each network choose TensorFlow's
kernels, and turns a crash into one failed trial. The process reports each epoch to the search, which answers
whether to prune, and saves its state if the search dies.
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mien import _files, errors
from mien._processes import claim_process
from mien.data import datasets, image_cache
from mien.data.datasets import Dataset
from mien.data.probabilities import SavedPredictions
from mien.errors import MienError, RunError, TrainingError
from mien.models import networks
from mien.models.model_files import Model
from mien.training import runs
from mien.training.recipes import Recipe
from mien.training.studies import Metric
from mien.training.teachers import Teachers

if TYPE_CHECKING:
    from mien.training.checkpoints import Status

#: Seconds in which the process of a killed search saves its state and ends.
_ORPHAN_SECONDS = 60.0


@dataclass(frozen=True, eq=False)
class Task:
    """What one process trains.

    Args:
        folder: The folder of the run.
        lock: The file that the process locks.
        recipe: The recipe.
        data: Train and val; None if the process loads them with `origin`, because they are in a file.
        origin: The arguments of `datasets.load`.
        teacher: Probabilities to distil from, or models.
        base: The model to start from.
        views: The folder for the answers of teachers.
        metric: What each epoch reports.
    """

    folder: Path
    lock: Path
    recipe: Recipe
    data: Dataset | None
    origin: dict[str, Any]
    teacher: SavedPredictions | Teachers | None
    base: Model | None
    views: Path
    metric: Metric


@dataclass(frozen=True)
class Progress:
    """The progress of a training.

    Args:
        epoch: The current epoch, from 1.
        epochs: Number of epochs.
        step: Finished steps of the epoch.
        steps: Steps of the epoch.
    """

    epoch: int
    epochs: int
    step: int
    steps: int


@dataclass(frozen=True)
class Epoch:
    """An epoch that is finished; the process waits until the search answers whether to prune.

    Args:
        number: Its number, from 1.
        value: The metric of the model that the training would select now.
    """

    number: int
    value: float


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Args:
        status: `done`, `pruned`, or `failed` if the loss is not a number.
        value: The metric of the model; None without one.
        epoch: The epoch of the model, or the last one.
        seconds: Duration of the epochs.
        reason: Why it failed.
    """

    status: Literal["done", "pruned", "failed"]
    value: float | None
    epoch: int
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Failure:
    """An error that ended the process.

    Args:
        kind: Its class, in `mien.errors` if `is_own`.
        message: Its text.
        is_own: Whether mien raised it on purpose.
    """

    kind: str
    message: str
    is_own: bool

    def error(self) -> MienError:
        """Return the error, if mien raised it on purpose; a class of another module becomes `MienError`."""
        kind = getattr(errors, self.kind, MienError)
        found: MienError = kind.__new__(kind)
        found.args = (self.message,)
        return found


def is_shared(dataset: Dataset) -> bool:
    """Return whether a process loads the data again, because they are in a file that it can map too."""
    return image_cache.is_mapped(dataset.split("train").images) and bool(dataset.origin.get("source"))


def run(search: Connection, task: Task) -> None:
    """Train a task or continue its run, and report to `search`; the function of the process."""
    own_process = multiprocessing.parent_process() is not None
    if own_process:
        # The search gets the Ctrl-C, and sends SIGTERM.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        claim_process()
        threading.Thread(target=_end_with_parent, daemon=True).start()
    message: Outcome | Failure
    try:
        networks.load_keras(task.recipe.network)
        with _hold(task):
            message = _train(search, task)
    except MienError as error:
        message = Failure(type(error).__name__, str(error), is_own=True)
    except (BrokenPipeError, EOFError):  # the search has died; the epoch is saved
        return
    except (
        Exception
    ) as error:  # such as too little memory of a GPU: the trial fails, and the search continues
        message = Failure(type(error).__name__, str(error), is_own=False)
    with contextlib.suppress(BrokenPipeError):
        search.send(message)
    search.close()


def _end_with_parent() -> None:
    """Stop as after a signal if the search was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _hold(task: Task) -> Iterator[None]:
    """Hold the lock of a training; the process of a killed search may still save its state."""
    end = time.monotonic() + _ORPHAN_SECONDS
    while (lock := _files.hold(task.lock)) is None:
        if time.monotonic() > end:
            raise RunError(f"{task.folder} is being trained by another process; wait for it")
        time.sleep(0.1)
    try:
        yield
    finally:
        lock.release()


def _train(search: Connection, task: Task) -> Outcome:
    from mien.training import checkpoints, trainer

    rows: list[runs.Row] = []

    def value_of(history: list[runs.Row]) -> float:
        return history[checkpoints.best_epoch(history, task.recipe.select)][task.metric]

    def on_epoch(row: runs.Row) -> bool:
        rows.append(row)
        search.send(Epoch(len(rows), value_of(rows)))
        return bool(search.recv())

    def on_status(status: "Status") -> None:
        with contextlib.suppress(BrokenPipeError):  # the search has died, and a signal follows
            search.send(Progress(status.epoch, status.epochs, status.step, status.steps))

    made = runs.open_run(task.folder) if task.folder.exists() else None
    if made is not None and made.facts()["status"] in ("done", "pruned", "failed"):
        for row in made.history() if (made.path / "history.csv").exists() else ():
            on_epoch(row)
    else:
        if made is not None and made.load()[0] is None:
            shutil.rmtree(made.path)  # it was stopped before its first state
            made = None
        options: dict[str, Any] = {"teacher": task.teacher, "views": task.views}
        options |= {"on_status": on_status, "on_epoch": on_epoch}
        data = load(task.origin, task.recipe.size) if task.data is None else task.data
        try:
            if made is None:
                made = trainer.fit(
                    data, task.recipe, out=task.folder, base=task.base, origin=task.origin, **options
                )
            else:
                made = trainer.resume(made, data, **options)
        except TrainingError:
            made = runs.open_run(task.folder)
            if made.facts()["status"] != "failed":
                raise
    facts = made.facts()
    seconds = sum(row["seconds"] for row in rows)
    if facts["status"] == "done":
        epoch = facts["shipped"]["epoch"]
        return Outcome("done", rows[epoch - 1][task.metric], epoch, seconds)
    return Outcome(facts["status"], None, len(rows), seconds, facts.get("reason", ""))


def load(origin: Mapping[str, Any], size: int) -> Dataset:
    """Load train and val from the arguments of `datasets.load` that a run keeps; `teacher` is ignored."""
    known = {key: value for key, value in origin.items() if key != "teacher"}
    return replace(datasets.load(size=size, **known), test=None)
