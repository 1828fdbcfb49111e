"""Logs for TensorBoard, written by TensorBoard itself, which needs no TensorFlow for it."""

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from mien import _files
from mien.models.networks import load_keras
from mien.training.runs import CLOCKS, Row

keras = load_keras()

#: Columns of the history that are not curves.
_LEFT_OUT = ("epoch", *CLOCKS)


class TensorBoardCallback(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
    """Writes the rows of the history for TensorBoard after each epoch.

    The curves have the names that Keras' own callback gives them, such as `epoch_loss`, in one folder for
    `train` and one for `validation`. That callback imports TensorFlow on every backend. The step of a value
    is the epoch, from 1 on. A process begins with all rows, so that a resumed run has no gaps, and
    TensorBoard drops the earlier values.

    Args:
        folder: Where the folders of the logs go.
        history: The rows, to which another callback adds before this one is called.
    """

    def __init__(self, folder: str | os.PathLike[str], history: Sequence[Row]) -> None:
        super().__init__()
        self._folder = Path(folder)
        self._history = history
        self._written = 0
        self._name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the rows that are not written yet.

        Raises:
            OutputError: A file cannot be written.
        """
        rows = self._history[self._written :]
        for split in ("train", "validation"):
            self._write(self._folder / split / self._name, [_event(row, split) for row in rows])
        self._written = len(self._history)

    def _write(self, path: Path, events: Sequence[Any]) -> None:
        with _files.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                records = RecordWriter(file)
                for event in events if file.tell() else (*_head(), *events):
                    records.write(event.SerializeToString())


def _head() -> list[Any]:
    """Return the events that a file begins with: its version, and that it replaces the steps from 1 on."""
    return [
        Event(wall_time=time.time(), file_version="brain.Event:2"),
        Event(wall_time=time.time(), step=1, session_log=SessionLog(status=SessionLog.START)),
    ]


def _event(row: Row, split: str) -> Any:
    """Return the event with the values of one epoch and split."""
    values = []
    for name, value in row.items():
        if name not in _LEFT_OUT and name.startswith("val_") == (split == "validation"):
            tag = f"epoch_{name.removeprefix('val_')}"
            values.append(Summary.Value(tag=tag, simple_value=value))
    return Event(wall_time=time.time(), step=int(row["epoch"]), summary=Summary(value=values))
