"""The Keras callback that saves history, best weights and states, and stops on signals."""

import math
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import _files
from mien._text import make_printable
from mien.errors import Stopped, TrainingError
from mien.models.networks import load_keras
from mien.training.batches import BatchLoader, to_keras
from mien.training.recipes import Recipe, Stopping
from mien.training.runs import Row, Run, State

keras = load_keras()

#: Seconds that a step may go on after a signal; then the state before the step is saved.
GRACE = 4.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Shows the cursor again, because a progress bar may have hidden it.
_FAREWELL = "\x1b[?25h\nmien: stopped inside a long step, and saved; continue with: "


class Stop:
    """Whether a signal asked the training to stop.

    Args:
        save_last: Saves the newest state in memory; called from another thread.
        again: The command that resumes the training, for the message.
    """

    def __init__(self, save_last: Callable[[], None], again: str) -> None:
        self.signal_number = 0
        self._save_last = save_last
        # A folder's name may contain control characters.
        self._again = make_printable(again)
        self._reached = threading.Event()

    def __bool__(self) -> bool:
        return self.signal_number != 0

    def reached(self) -> None:
        """Note that the training has seen the signal and saves by itself."""
        self._reached.set()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the signal, which the training sees at the end of its step."""
        self.signal_number = number

    def watch(self, wakeup: socket.socket) -> None:
        """Wait for a signal on `wakeup`; if the step takes longer than `GRACE`, save and end the process."""
        received = wakeup.recv(1)
        while received and received[0] not in _SIGNALS:
            received = wakeup.recv(1)
        if not received or self._reached.wait(GRACE):
            return
        self._save_last()
        os.write(2, f"{_FAREWELL}{self._again}\n".encode(errors="backslashreplace"))
        os._exit(128 + received[0])


@contextmanager
def listen_for_signals(save_last: Callable[[], None], again: str) -> Iterator[Stop]:
    """Listen for SIGINT and SIGTERM during the block; do nothing outside the main thread."""
    stop = Stop(save_last, again)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    old_handlers = {number: signal.signal(number, stop.handle) for number in _SIGNALS}
    old_wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=stop.watch, args=(reader,), daemon=True, name="mien-signals")
    watcher.start()
    try:
        yield stop
    finally:
        stop.reached()
        signal.set_wakeup_fd(old_wakeup)
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
        writer.close()  # ends the watcher's wait
        watcher.join()
        reader.close()


#: If steps take more seconds than this, the last state stays in memory, for a signal inside a step.
_LONG_STEP = 1.0

#: What Keras measures each epoch; the last two only if the network has a second output.
_MEASURED = (
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "ferplus_accuracy",
    "val_ferplus_accuracy",
)


@dataclass(frozen=True, kw_only=True)
class Status:
    """The progress of a training.

    Args:
        epoch: The current epoch, from 1.
        epochs: Largest number of epochs.
        step: Finished steps of this epoch.
        steps: Steps per epoch.
        images_per_second: Training speed in this epoch.
        seconds_left: Until the end of the last epoch, at this speed.
        loss: Mean of this epoch so far.
        accuracy: Mean of this epoch so far.
        last: The row of the last finished epoch, if any.
        memory: Bytes in use on the device; 0 if it is the CPU.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    images_per_second: float
    seconds_left: float
    loss: float
    accuracy: float
    last: Row | None
    memory: int = 0


@dataclass(frozen=True)
class Device:
    """What a training on a device does in its own way.

    Args:
        sync: Assigns the device's state to the variables of the model.
        memory: Returns the bytes in use.
    """

    sync: Callable[[], None]
    memory: Callable[[], int]


#: A device may finish an epoch in a fraction of a second. It saves its state after an epoch if that takes at
#: most this share of the time.
SAVING_SHARE = 0.05


def best_epoch(history: list[Row], select: str) -> int:
    """Return the index of the selected epoch: the first of equal ones."""
    if select == "last":
        return len(history) - 1
    sign = -1 if select == "val_accuracy" else 1
    return min(range(len(history)), key=lambda index: sign * history[index][select])


def is_over(history: list[Row], recipe: Recipe) -> bool:
    """Return whether a training with this history is finished."""
    return len(history) >= recipe.epochs or _stops_early(history, recipe.stopping)


def _stops_early(history: list[Row], stopping: Stopping) -> bool:
    best, waited = math.inf, 0
    for row in history:
        if row["val_loss"] < best - stopping.min_delta:
            best, waited = row["val_loss"], 0
        else:
            waited += 1
    return 0 < stopping.patience <= waited


class CheckpointCallback(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
    """Record one training, and restore an interrupted one.

    Args:
        run: The run that stores the record.
        recipe: Its recipe.
        feed: The training batches.
        state: The state to continue from; None at the beginning.
        on_status: Called a few times a second.
        report: Called with the history after each epoch that is saved; True ends the training.
        again: The command that resumes it, for the message.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        feed: BatchLoader,
        state: State | None,
        on_status: Callable[[Status], None] | None,
        report: Callable[[list[Row]], bool],
        *,
        again: str,
    ) -> None:
        super().__init__()
        self.run = run
        self.recipe = recipe
        self.feed = feed
        self.again = again
        self.stop = Stop(lambda: None, again)
        self.on_status = on_status
        self.report = report
        #: Set by a training on a device.
        self.device: Device | None = None
        self._saving_seconds = 0.0
        self.history: list[Row] = []
        self.best: list[NDArray[Any]] = []
        self.diverged = False
        self._candidate: list[NDArray[Any]] = []
        self._state = state
        self._metrics: dict[str, NDArray[Any]] = {}
        self._spent = {"seconds": 0.0, "cpu_seconds": 0.0}
        self.epoch, self.step = 0, 0
        self._first_step = 0
        self._last_step: State | None = None
        self._saved_at = self._shown_at = self._step_at = self._wall = time.monotonic()
        self._cpu = time.process_time()
        if state is not None:
            self.history = [dict(row) for row in state.facts["history"]]
            self.best = state.group("best")
            self.epoch, self.step = divmod(state.step, feed.steps)
            self._first_step = self.step

    def restore(self) -> None:
        """Assign the state's weights and optimizer to the model; its metrics follow when the epoch begins."""
        build_metrics(self.model, self.feed.some_targets())
        if self._state is not None:
            _assign(_variables(self.model), self._state.group("variables"))
            self._spent = dict(self._state.facts["spent"])

    def save(self) -> None:
        """Save the current state."""
        self.run.save(self._capture())

    def save_last(self) -> None:
        """Save the newest state in memory, after a signal inside a long step."""
        if self._last_step is not None:
            self.run.save(self._last_step)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clocks, and restore the metrics of an interrupted epoch."""
        if self._state is not None and self.step:
            _assign(self.model.metrics_variables, self._state.group("metrics"))
        self._state = None
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._step_at = self._wall

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the loss, the clock and signals."""
        logs = _plain(logs)
        self.step = self._first_step + batch + 1
        self._check(logs["loss"], f"loss in epoch {self.epoch + 1}, step {self.step}")
        now = time.monotonic()
        self._show(now, logs)
        if self.step < self.feed.steps:
            self._keep(now)
        elif self.stop and self.device is None:
            self._leave(self._last_step)
        self._step_at = time.monotonic()

    def _check(self, loss: float, which: str) -> None:
        if math.isfinite(loss):
            return
        self.diverged = True
        rate = self.recipe.optimizer.learning_rate
        raise TrainingError(
            f"the {which} is {loss}: the learning rate {rate} is too large for this network and data; try "
            f"--set optimizer.learning_rate={rate / 3:.2g}"
        )

    def _keep(self, now: float) -> None:
        """Save the state inside an epoch, or keep it in memory.

        Keras cannot continue from an epoch's last step, so the state before that step stays in memory until
        the validation is done.
        """
        if self.stop:
            self._leave(self._capture())
        if now - self._saved_at > 60 * self.recipe.checkpoints.minutes:
            self.run.save(self._capture())
            self._saved_at = time.monotonic()
        near_end = self.device is None and self.step == self.feed.steps - 1
        if now - self._step_at > _LONG_STEP or near_end:
            self._last_step = self._capture()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check for signals during validation, which may take minutes."""
        if self.stop:
            self._leave(self._last_step)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Keep the validated weights; with a moving average they differ from the trained ones."""
        self._candidate = self.model.get_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the row of the epoch, its weights and its final state."""
        logs = _plain(logs)
        self._check(logs["val_loss"], f"validation loss after epoch {epoch + 1}")
        clocks = self._clocks()
        row = {key: float(logs[key]) for key in _MEASURED if key in logs}
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        images = self.feed.steps * self.feed.batch_size
        self.history.append(
            {"epoch": float(epoch + 1), **row, "learning_rate": rate}
            | clocks
            | {"images_per_second": images / clocks["seconds"]}
        )
        if best_epoch(self.history, self.recipe.select) == epoch:
            self.best = self._candidate
        over = is_over(self.history, self.recipe)
        due = self._is_due(over=over)
        if due:
            self._write_weights(row)
        self.epoch, self.step, self._first_step = epoch + 1, 0, 0
        self._spent = {"seconds": 0.0, "cpu_seconds": 0.0}
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._last_step = None
        if due:
            self._save_epoch()
        self._show(time.monotonic(), logs)
        pruned = self.report(self.history)
        if pruned and not due:
            self._save_epoch()
        if pruned or over:
            self.model.stop_training = True
        elif self.stop:
            self._leave(None if due else self._capture())

    def _save_epoch(self) -> None:
        """Save state and history after an epoch, and measure how long that takes."""
        began = time.monotonic()
        self.run.save(self._capture())
        self._saved_at = time.monotonic()
        self.run.write_history(self.history)
        self._saving_seconds = time.monotonic() - began

    def _is_due(self, *, over: bool) -> bool:
        """Return whether weights and state are saved after this epoch."""
        if self.device is None or over or self.stop or self.recipe.checkpoints.weights == "all":
            return True
        return time.monotonic() - self._saved_at > self._saving_seconds / SAVING_SHARE

    def _leave(self, state: State | None) -> None:
        """End the training after a signal; None means that the last saved state is current."""
        self.stop.reached()
        if state is not None:
            self.run.save(state)
        raise Stopped(
            f"stopped in epoch {self.epoch + 1}, and saved; continue with: {self.again}",
            self.stop.signal_number,
        )

    def _clocks(self) -> dict[str, float]:
        return {
            "seconds": self._spent["seconds"] + time.monotonic() - self._wall,
            "cpu_seconds": self._spent["cpu_seconds"] + time.process_time() - self._cpu,
        }

    def _capture(self) -> State:
        if self.device is not None:
            self.device.sync()
        elif hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        arrays = _named("variables", [np.array(variable) for variable in _variables(self.model)])
        arrays |= _named("best", self.best)
        if self.step:
            arrays |= _named("metrics", [np.array(variable) for variable in self.model.metrics_variables])
        facts = {"history": self.history, "spent": self._clocks()}
        return State(step=self.epoch * self.feed.steps + self.step, arrays=arrays, facts=facts)

    def _write_weights(self, row: Row) -> None:
        """Write the validated weights as `epNNN-lossN-val_lossN.weights.h5`, and delete older files."""
        name = f"ep{self.epoch + 1:03d}-loss{row['loss']:.3f}-val_loss{row['val_loss']:.3f}.weights.h5"
        trained = self.model.get_weights()
        self.model.set_weights(self._candidate)
        try:
            with tempfile.TemporaryDirectory() as aside:
                # HDF5 ends the process if its disk is full, so it writes to a temporary file.
                file = Path(aside) / name
                self.model.save_weights(file)
                _files.write(self.run.weights / name, file.read_bytes())
        finally:
            self.model.set_weights(trained)
        if self.recipe.checkpoints.weights == "last":
            best = best_epoch(self.history, self.recipe.select) + 1
            _thin(self.run.weights, keep=self.recipe.checkpoints.keep, best=best)

    def _show(self, now: float, logs: dict[str, Any]) -> None:
        if self.on_status is None or (now - self._shown_at < 0.2 and self.step):
            return
        self._shown_at = now
        clocks = self._clocks()
        steps_here = self.step - self._first_step
        speed = steps_here * self.feed.batch_size / max(1e-9, now - self._wall) if steps_here else 0.0
        left = (self.recipe.epochs - self.epoch) * self.feed.steps - self.step
        last = self.history[-1] if self.history else None
        if not speed:
            speed = last["images_per_second"] if last else self.feed.batch_size / max(1e-9, clocks["seconds"])
        self.on_status(
            Status(
                epoch=min(self.epoch + 1, self.recipe.epochs),
                epochs=self.recipe.epochs,
                step=self.step,
                steps=self.feed.steps,
                images_per_second=speed,
                seconds_left=left * self.feed.batch_size / speed,
                loss=float(logs["loss"]),
                accuracy=float(logs["accuracy"]),
                last=last,
                memory=self.device.memory() if self.device else 0,
            )
        )


def build_metrics(model: Any, wanted: Mapping[str, NDArray[np.float32]]) -> None:
    """Create the variables of losses and metrics, which Keras otherwise creates on the first batch.

    Args:
        model: A compiled model.
        wanted: Targets `(n, m)` by output; the first ones are used.
    """
    some = {name: target[:1] for name, target in wanted.items()}
    classes = model.outputs[0].shape[-1]
    answers = {name: np.full((1, classes), 1 / classes, np.float32) for name in some}
    model.compute_loss(None, to_keras(some), to_keras(answers))
    model.compute_metrics(None, to_keras(some), to_keras(answers))


def _plain(logs: dict[str, Any] | None) -> dict[str, Any]:
    """Return Keras' logs with the names of a network with one output."""
    found = dict(logs or {})
    for prefix in ("", "val_"):
        if f"{prefix}answer_accuracy" in found:
            found[f"{prefix}accuracy"] = found.pop(f"{prefix}answer_accuracy")
    return found


def _variables(model: Any) -> list[Any]:
    """Return the variables of model and optimizer, each once, in an order that the network determines."""
    found = {id(variable): variable for variable in (*model.variables, *model.optimizer.variables)}
    metrics = {id(variable) for variable in model.metrics_variables}
    return [variable for key, variable in found.items() if key not in metrics]


def _named(kind: str, arrays: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {f"{kind}/{number:04d}": array for number, array in enumerate(arrays)}


def _assign(variables: list[Any], arrays: list[NDArray[Any]]) -> None:
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [array.shape for array in arrays]:
        raise TrainingError(
            "the saved state does not fit the network of the run's recipe; was recipe.toml changed, or is "
            "another version of Keras installed? Start a new training"
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _thin(folder: Path, *, keep: int, best: int) -> None:
    """Delete all weight files except the best epoch's and the last `keep`."""
    files = sorted(folder.glob("ep*.weights.h5"), key=lambda path: int(path.name[2:].split("-")[0]))
    for path in files[:-keep]:
        if not path.name.startswith(f"ep{best:03d}-"):
            path.unlink()
