"""The training loop that stays on a device, on Keras' JAX backend.

Images, targets and the epoch's random changes are in device memory. One jitted call makes many steps:
look up the images of a batch, change them, and train. The host draws the changes of the next epoch meanwhile,
and gets back the running metrics. Several devices share each batch.

What a step computes does not depend on how many steps a call makes, so a training that is stopped and
resumed is equal bit for bit to one that ran without a stop.
"""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from mien.data.image_cache import Pages, is_mapped
from mien.models import networks
from mien.models.model_files import Model
from mien.models.networks import load_keras
from mien.training import checkpoints, device_augmentation, initialization, targets
from mien.training.batches import Batch, BatchLoader
from mien.training.checkpoints import CheckpointCallback
from mien.training.recipes import Recipe, to_dict
from mien.training.teachers import OUTPUTS, Answer, by_onnx

keras = load_keras()

#: Share of the device's memory that the training images may take; more are copied there block by block.
RESIDENT_SHARE = 0.5
#: The same where the device does not know its memory, as the CPU, in bytes.
RESIDENT_BYTES = 2**31
#: Bytes of the images that are copied at a time.
BLOCK_BYTES = 2**27
#: Seconds that one call may take, after which progress is shown, and signals are seen.
CALL_SECONDS = 0.5

_VALIDATION_BATCH = 256
_VALIDATION_CALL = 32 * _VALIDATION_BATCH
#: Arrays are this much longer than they need to be, so that folds share one compiled function.
_ROWS_MULTIPLE = 4096
_STEPS_MULTIPLE = 16
#: Images that a teacher answers at a time.
_ANSWERS_MULTIPLE = 2048
#: Prefix of the draws of a view, which come before those of the recipe.
_VIEW = "view."


def is_accelerator() -> bool:
    """Return whether JAX has a device that is faster than the CPU."""
    return bool(jax.default_backend() != "cpu")


def find_devices() -> list[Any]:
    """Return the devices of this process that a training uses."""
    return list(jax.local_devices())


@contextmanager
def on_host() -> Iterator[None]:
    """Make arrays in the memory of the host.

    On an accelerator, each initialiser of a network would be compiled by itself.
    """
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        yield


class Tabulated(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc, name-defined]
    """Learning rates from a table, which is an argument of the compiled function and not part of it.

    Args:
        schedule: A Keras schedule, or one learning rate.
        steps: Number of steps of the training.
    """

    def __init__(self, schedule: Any, steps: int) -> None:
        if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            rates = jnp.full(steps + 1, float(schedule), jnp.float32)
        else:
            rates = jax.jit(jax.vmap(schedule))(jnp.arange(steps + 1))
        self.rates: Any = jnp.asarray(np.asarray(rates, np.float32))

    def __call__(self, step: Any) -> Any:
        """Return the learning rate at `step`, counted from 0; after the last step, the last one."""
        return jnp.take(self.rates, keras.ops.convert_to_tensor(step), mode="clip")

    def get_config(self) -> dict[str, Any]:
        """Return nothing; a table is not saved."""
        return {}


@dataclass(frozen=True, eq=False)
class Functions:
    """The compiled functions of a network, for all trainings with the same settings.

    Args:
        model: The Keras model that they were traced with. Its own weights are not used.
        devices: The devices that share a batch.
        train: (state, images, targets, teachers' answers, draws, rates, view, first, last) to the state after
            these steps.
        predict: (trainable, other variables, images `(m, b, s, s)`) to probabilities by output.
        score: (metrics variables, targets, probabilities) to loss and metrics.
    """

    model: Any
    devices: Sequence[Any]
    train: Any
    predict: Any
    score: Any


_functions: dict[str, Functions] = {}
_MOST_FUNCTIONS = 4


def _find_functions(model: Any, recipe: Recipe, *, policy: str, about: Sequence[object]) -> Functions:
    """Return compiled functions, which folds and seeds of one recipe share."""
    rest = {"seed", "epochs", "name", "about", "command", "measured", "stopping", "checkpoints", "select"}
    settings = {name: value for name, value in to_dict(recipe).items() if name not in rest}
    settings["optimizer"] = {
        name: value
        for name, value in settings["optimizer"].items()
        if name not in ("learning_rate", "schedule", "warmup")
    }
    devices = find_devices()
    key = json.dumps([settings, policy, [str(each) for each in devices], *map(str, about)], sort_keys=True)
    if key not in _functions:
        while len(_functions) >= _MOST_FUNCTIONS:
            del _functions[next(iter(_functions))]
        _functions[key] = _compile(model, recipe, devices)
    return _functions[key]


def _compile(model: Any, recipe: Recipe, devices: Sequence[Any]) -> Functions:
    spread = NamedSharding(Mesh(np.array(devices), ("batch",)), PartitionSpec("batch"))

    def share(arrays: Any) -> Any:
        """Divide the first axis among the devices, if there are several; it need not be a multiple."""
        if len(devices) == 1:
            return arrays
        return jax.tree.map(lambda array: jax.lax.with_sharding_constraint(array, spread), arrays)

    def train(
        state: Any,
        images: Any,
        wanted: Any,
        taught: Any,
        draws: Any,
        rates: Any,
        view: Any,
        first: Any,
        last: Any,
    ) -> tuple[Any, ...]:
        schedule = model.optimizer.schedule
        kept, schedule.rates = schedule.rates, rates

        def step(number: Any, state: Any) -> Any:
            own = share({name: array[number] for name, array in draws.items()})
            faces = images[own["places" if "places" in own else "rows"]]
            of_view = {name[len(_VIEW) :]: each for name, each in own.items() if name.startswith(_VIEW)}
            if of_view:
                faces = device_augmentation.change_images(faces, of_view, recipe.views.augment)
            faces = device_augmentation.change_images(faces, own, recipe.augment)
            answers = {name: target[own["rows"]] for name, target in wanted.items()}
            for name, probabilities in taught.items():
                more = probabilities[view, own["rows"]].astype(jnp.float32)
                answers[name] = jnp.concatenate([answers[name], more], axis=1)
            if "share" in own:
                faces = device_augmentation.blend(faces, own["share"], own["other"])
                answers = {
                    name: target * (1 - own["share"][:, None]) + target[own["other"]] * own["share"][:, None]
                    for name, target in answers.items()
                }
            batch = share((faces[..., None], answers if len(answers) > 1 else answers["answer"]))
            return model.train_step(state, batch)[1]

        try:
            after: tuple[Any, ...] = jax.lax.fori_loop(first, last, step, state)
        finally:
            schedule.rates = kept
        return after

    def predict(trainable: Any, other: Any, images: Any) -> Any:
        def one(batch: Any) -> Any:
            return model.stateless_call(trainable, other, share(batch)[..., None], training=False)[0]

        return jax.lax.map(one, images)

    def score(metrics: Any, wanted: Any, probabilities: Any) -> Any:
        pairs = list(zip(model.metrics_variables, metrics, strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            loss = model.compute_loss(None, wanted, probabilities, training=False)
            return model.compute_metrics(None, wanted, probabilities) | {"loss": loss}

    return Functions(model, devices, jax.jit(train, donate_argnums=0), jax.jit(predict), jax.jit(score))


class Loop:
    """Train a model on a device.

    Args:
        model: A compiled Keras model; the `schedule` of its optimizer is `Tabulated`.
        feed: The training batches.
        validation: Images and targets.
        policy: The dtype policy of Keras with which the model was built.
        about: What else a compiled function depends on, such as class frequencies in the loss.
    """

    def __init__(
        self, model: Any, feed: BatchLoader, validation: Batch, *, policy: str, about: Sequence[object]
    ) -> None:
        self.model = model
        self.feed = feed
        self.recipe = feed.recipe
        sizes = {name: target.shape[1:] for name, target in feed.some_targets().items()}
        about = [*about, sizes, feed.batch_size, feed.split.images.shape[1:]]
        self.functions = _find_functions(model, self.recipe, policy=policy, about=about)
        self.devices = self.functions.devices
        mesh = Mesh(np.array(self.devices), ("batch",))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._state: list[Any] | None = None
        self._targets = self._put({name: _pad(target) for name, target in feed.targets.items()})
        taught = feed.taught.answers if feed.taught else {}
        self._taught = self._put({name: _pad(each, axis=1) for name, each in taught.items()})
        images = feed.split.images
        self._images = self._put(_pad(images[..., 0])) if self._fits(images) else None
        self._validation, wanted = validation
        self._wanted = self._put(wanted)
        fits = self._fits(images, self._validation)
        self._validation_parts = list(self._make_validation_parts()) if fits else None
        self._rates = self._put(_pad(np.asarray(model.optimizer.schedule.rates), 2**14))
        self._seconds, self._compiled = 0.0, False

    def _put(self, arrays: Any) -> Any:
        return jax.device_put(arrays, self._everywhere)

    def _fits(self, *images: NDArray[np.uint8]) -> bool:
        """Return whether images stay on the device."""
        known = self.devices[0].memory_stats() or {}
        limit = RESIDENT_SHARE * known["bytes_limit"] if "bytes_limit" in known else RESIDENT_BYTES
        return not any(map(is_mapped, images)) and sum(each.nbytes for each in images) <= limit

    def memory(self) -> int:
        """Return the bytes that this process uses on the first device; 0 if it does not know."""
        return int((self.devices[0].memory_stats() or {}).get("bytes_in_use", 0))

    def _groups(self) -> list[list[Any]]:
        model = self.model
        return [
            list(model.trainable_variables),
            list(model.non_trainable_variables),
            list(model.optimizer.variables),
            list(model.metrics_variables),
        ]

    def fit_part(self, callback: CheckpointCallback, callbacks: Sequence[Any]) -> None:
        """Train from the callback's epoch and step to the end.

        Args:
            callback: Records the training.
            callbacks: More Keras callbacks.
        """
        model, feed, recipe = self.model, self.feed, self.recipe
        every = keras.callbacks.CallbackList(
            [callback, *callbacks],
            add_history=False,
            add_progbar=False,
            model=model,
            verbose=0,
            epochs=recipe.epochs,
            steps=feed.steps,
        )
        callback.device = checkpoints.Device(sync=self.sync, memory=self.memory)
        blocks = Blocks(feed, streams=self._images is None)
        try:
            with checkpoints.listen_for_signals(callback.save_last, callback.again) as callback.stop:
                model.stop_training = False
                every.on_train_begin()
                for epoch in range(callback.epoch, recipe.epochs):
                    model.reset_metrics()
                    every.on_epoch_begin(epoch)
                    self.pull()
                    first, logs = callback.step, {}
                    for step in self.train(epoch, first, blocks):
                        logs = self.measured()
                        every.on_train_batch_end(step - first - 1, logs)
                    self.sync()
                    every.on_test_begin()
                    found = self.validate()
                    every.on_test_end(found)
                    every.on_epoch_end(epoch, logs | {f"val_{name}": value for name, value in found.items()})
                    if model.stop_training:
                        break
                every.on_train_end(logs)
        finally:
            blocks.close()

    def pull(self) -> None:
        """Copy the variables of the model to the device."""
        values = [[variable.value for variable in group] for group in self._groups()]
        # The training step takes these arrays for its results, so the model must not share them.
        self._state = jax.tree.map(jnp.copy, self._put(values))

    def sync(self) -> None:
        """Assign the device's state to the variables of the model."""
        if self._state is not None:
            for group, values in zip(self._groups(), self._state, strict=True):
                for variable, value in zip(group, jax.tree.map(jnp.copy, values), strict=True):
                    variable.assign(value)

    def train(self, epoch: int, step: int, blocks: "Blocks") -> Iterator[int]:
        """Train from a step of an epoch to its end; yield the number of finished steps after each call."""
        for block in blocks.of(epoch, step):
            images = self._images if block.images is None else self._put(block.images)
            draws = self._put(block.draws)
            while step < block.last:
                began = time.monotonic()
                end = min(block.last, step + self._steps_per_call())
                self._state = list(
                    self.functions.train(
                        tuple(self._state or ()),
                        images,
                        self._targets,
                        self._taught,
                        draws,
                        self._rates,
                        self.feed.taught.at(epoch) if self.feed.taught else 0,
                        step - block.first,
                        end - block.first,
                    )
                )
                jax.block_until_ready(self._state)
                # The first call also compiles, so it does not measure a step.
                if self._compiled:
                    self._seconds = (time.monotonic() - began) / (end - step)
                self._compiled = True
                step = end
                yield step

    def _steps_per_call(self) -> int:
        return max(1, int(CALL_SECONDS / self._seconds)) if self._seconds else 1

    def measured(self) -> dict[str, float]:
        """Return the metrics of the epoch so far."""
        variables = self.model.metrics_variables
        assert self._state is not None
        for variable, value in zip(variables, jax.device_get(self._state[3]), strict=True):
            variable.assign(value)
        return {name: float(value) for name, value in self.model.get_metrics_result().items()}

    def _make_validation_parts(self) -> Iterator[tuple[int, Any]]:
        """Yield numbers of validation images, each with these images on the device, `(m, b, s, s)`."""
        images = self._validation
        multiple = _VALIDATION_BATCH if len(images) <= _VALIDATION_CALL else _VALIDATION_CALL
        for start in range(0, len(images), _VALIDATION_CALL):
            part = images[start : start + _VALIDATION_CALL, ..., 0]
            padded = _pad(part, multiple)
            yield len(part), self._put(padded.reshape(-1, _VALIDATION_BATCH, *padded.shape[1:]))

    def validate(self) -> dict[str, float]:
        """Return loss and metrics of the model's present weights on the validation images."""
        trainable, other, _, metrics = (
            self._put([variable.value for variable in group]) for group in self._groups()
        )
        found = []
        for count, batches in self._validation_parts or self._make_validation_parts():
            answers = self.functions.predict(trainable, other, batches)
            found.append(jax.tree.map(partial(_unpad, count=count), answers))
        probabilities = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
        empty = [jnp.zeros_like(array) for array in metrics]
        logs = self.functions.score(empty, self._wanted, self._put(probabilities))
        return {name: float(value) for name, value in logs.items()}


@dataclass(frozen=True, eq=False)
class Block:
    """Steps whose images are on the device at the same time.

    Args:
        first: The first step in the epoch.
        last: The step after the last one.
        images: Their images `(steps × b, s, s)`; None if all training images are on the device.
        draws: Arrays `(steps, b, …)`.
    """

    first: int
    last: int
    images: NDArray[np.uint8] | None
    draws: dict[str, NDArray[Any]]


class Blocks:
    """Make the blocks of epochs, one ahead, in a thread.

    Args:
        feed: The training batches.
        streams: Whether the images of a block come with it.
    """

    def __init__(self, feed: BatchLoader, *, streams: bool) -> None:
        self.feed = feed
        size = feed.batch_size * feed.split.images[0].nbytes
        self.steps = max(1, BLOCK_BYTES // size) if streams else feed.steps
        self.streams = streams
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mien-draws")
        self._pages = Pages(feed.split.images)
        self._next: tuple[tuple[int, int], Future[Block]] | None = None

    def of(self, epoch: int, step: int) -> Iterator[Block]:
        """Yield the blocks of an epoch from the one with `step` on."""
        for first in range(step // self.steps * self.steps, self.feed.steps, self.steps):
            wanted = epoch, first
            found = self._next[1] if self._next and self._next[0] == wanted else self._begin(*wanted)
            block = found.result()
            after = (epoch, first + self.steps) if first + self.steps < self.feed.steps else (epoch + 1, 0)
            self._next = (after, self._begin(*after)) if after[0] < self.feed.recipe.epochs else None
            yield block

    def _begin(self, epoch: int, first: int) -> Future[Block]:
        return self._pool.submit(self._make, epoch, first)

    def _make(self, epoch: int, first: int) -> Block:
        feed, recipe = self.feed, self.feed.recipe
        last = min(first + self.steps, feed.steps)
        batch = feed.batch_size
        rows = feed.order(epoch)[first * batch : last * batch]
        size = feed.split.images.shape[1]
        draws = device_augmentation.draw_epoch(rows, recipe.augment, size=size, seed=recipe.seed, epoch=epoch)
        if feed.taught is not None and (view := feed.taught.at(epoch)):
            views = feed.taught.views
            of_view = device_augmentation.draw_epoch(
                rows, views.augment, size=size, seed=views.seed, epoch=view
            )
            draws |= {f"{_VIEW}{name}": array for name, array in of_view.items()}
        draws["rows"] = rows.astype(np.int32)
        images = None
        if self.streams:
            images = _pad(feed.split.images[rows, ..., 0], self.steps * batch)
            self._pages.read(len(rows))
            draws["places"] = np.arange(len(rows), dtype=np.int32)
        if recipe.augment.mixup:
            mixes = [
                targets.draw_mix(batch, recipe.augment.mixup, feed.mixing_generator(epoch, number * batch))
                for number in range(first, last)
            ]
            draws["share"] = np.concatenate([share for share, _ in mixes])
            draws["other"] = np.concatenate([other for _, other in mixes]).astype(np.int32)
        shaped = {name: array.reshape(last - first, batch, *array.shape[1:]) for name, array in draws.items()}
        multiple = self.steps if self.streams else _STEPS_MULTIPLE
        return Block(first, last, images, {name: _pad(array, multiple) for name, array in shaped.items()})

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _pad(array: NDArray[Any], multiple: int = _ROWS_MULTIPLE, *, axis: int = 0) -> NDArray[Any]:
    """Return an array with zeros after its end, so that its length along an axis is a multiple."""
    missing = -array.shape[axis] % multiple
    widths = [(0, missing if place == axis else 0) for place in range(array.ndim)]
    return np.pad(array, widths) if missing else array


def _unpad(array: Any, count: int) -> NDArray[Any]:
    """Return batches `(m, b, k)` as rows `(count, k)`."""
    return np.asarray(array).reshape(-1, array.shape[-1])[:count]


def make_answerer(model: Model) -> Answer:
    """Return how a model answers images: on the device if its weights are there, else by ONNX Runtime.

    A model whose file has a calibration is asked by ONNX Runtime.
    """
    heads = model.card.heads.values()
    network = model.card.recipe.get("network")
    plain = all(head.temperature == 1 and not any(head.logit_bias) for head in heads)
    if not plain or not isinstance(network, str):
        return by_onnx(model)
    with on_host():
        ferplus = any(head.output == "ferplus" for head in heads)
        built = networks.build(network, size=model.card.size, classes=len(model.card.labels), ferplus=ferplus)
        initialization.assign(initialization.load(model), built, model.card.labels)
    trainable, other = (
        jax.device_put([variable.value for variable in group], find_devices()[0])
        for group in (built.trainable_variables, built.non_trainable_variables)
    )
    call = jax.jit(lambda images: built.stateless_call(trainable, other, images, training=False)[0])

    def answer(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        found = call(_pad(images, _ANSWERS_MULTIPLE))
        if not isinstance(found, dict):
            return {"probabilities": np.asarray(found)[: len(images)]}
        return {OUTPUTS[name]: np.asarray(each)[: len(images)] for name, each in found.items()}

    return answer
