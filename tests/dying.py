"""A training that dies on purpose: run in a process of its own by the tests of resuming."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import builders

SETTINGS = [
    "network=toy",
    "size=16",
    "epochs=3",
    "batch_size=32",
    "stopping.patience=2",
    "select=val_loss",
    "optimizer.learning_rate=0.05",
    "optimizer.ema=0.92",
    "checkpoints.minutes=0.0005",
    "augment.rotation=20",
    "augment.erase=0.5",
    "augment.brightness=0.1",
]


#: What a killed training has on besides, for it has a state or an order too.
MORE = ("targets.ferplus=0.5", "augment.mixup=0.3")


def recipe(*settings: str) -> Any:
    """The recipe that dies, without what needs votes."""
    from mien.training import recipes

    builders.add_toy_network()
    return recipes.override(recipes.get("quick"), [*SETTINGS, *settings])


def data(*, train: int = 150, val: int = 40) -> Any:
    """The images that it learns, each with the votes of ten who agree with its label."""
    from mien.labels import EMOTIONS, VOTES

    found = builders.blobs({"train": train, "val": val}, labels=EMOTIONS[:3])
    for split in found.splits:
        votes = 10 * np.eye(len(VOTES), dtype=np.float32)[split.labels]
        object.__setattr__(split, "votes", votes)
    return found


def train(
    folder: Path,
    kill_at: tuple[str, int] | None = None,
    settings: tuple[str, ...] = (),
    base: Path | None = None,
) -> None:
    """Train into `folder`, going on where it holds a run; die at the n-th event of a kind, if told to."""
    from mien import _processes
    from mien.models import model_files
    from mien.training import runs, trainer

    _processes.claim_process()
    builders.add_toy_network()
    compare_few()
    if kill_at is not None:
        _arm(*kill_at)
    if folder.exists():
        trainer.resume(runs.open_run(folder), data())
    else:
        begin = None if base is None else model_files.load(base)
        trainer.fit(data(), recipe(*MORE, *settings), out=folder, base=begin)


def compare_few() -> None:
    """Compare file and network on few images, for good; a process that runs tests has `small_exports`."""
    from mien.release import exporters

    exporters.write_model.__kwdefaults__["at_least"] = 64


def _arm(kind: str, count: int) -> None:
    """Kill this process, as the system would, at the `count`-th event of a kind."""
    from mien.training import checkpoints

    left = count

    def deadly(function: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args, **options)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    if kind == "write":
        os.fsync = deadly(os.fsync, after=False)
    elif kind == "fsync":
        os.fsync = deadly(os.fsync, after=True)
    elif kind == "rename":
        Path.replace = deadly(Path.replace, after=True)
    elif kind == "step":
        checkpoints.CheckpointCallback.on_train_batch_end = deadly(
            checkpoints.CheckpointCallback.on_train_batch_end, after=True
        )
    else:
        raise ValueError(kind)
