"""Training speed, side by side: the script that mien grew out of, and `mien.training.trainer.fit`.

    python benchmarks/train_speed.py --network small --steps 20 --batch 64 --repeats 3
    python benchmarks/train_speed.py --network seed --steps 5 --batch 16 --repeats 3

Both sides train the same network with the same settings on the same images, the script from a folder of PNG
files through ImageDataGenerator, mien from its array. Each side runs twice a repeat, once on its own
input and once with one batch given again and again, each in a fresh process, in turns; the order turns round
with every repeat. Times run from the end of the last warm-up step to the end of the last step, and so hold
no start, tracing, validation or export. Needs mien[cpu] and scipy, which ImageDataGenerator asks for.

What the lines mean:
    images per CPU-second  over all threads of the process
    input, by repeating    1 − CPU time a step with one batch repeated / CPU time a step with real input
    input, as clocked      CPU time inside the input's own code / CPU time of the process
                           (steadier on a busy machine, for it compares nothing between two processes)
    share of peak          3 × the network's forward operations × images per CPU-second / the operations
                           per CPU-second of a large matrix product, in the same process and precision
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIDES = ("script", "mien")
INPUTS = ("real", "repeated")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="small", choices=("seed", "small", "tiny"))
    parser.add_argument("--steps", type=int, default=20, help="timed steps a process")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them")
    parser.add_argument("--batch", type=int, default=64, help="images a step")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--child", nargs=3, metavar=("SIDE", "INPUT", "DATA"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        side, source, data = options.child
        # On a line of its own: Keras' progress bar may stand before it.
        print("\n" + json.dumps(_child(side, source, Path(data), options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        _write_images(data, images=(options.warmup + options.steps) * options.batch)
        rounds = [_round(data, number, options) for number in range(options.repeats)]
    document = {
        "network": options.network,
        "batch": options.batch,
        "steps": options.steps,
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "summary": _summary(rounds),
        "rounds": rounds,
    }
    print(json.dumps(document, indent=2)) if options.json else _print(document)


# The parent: one data set, fresh processes in turns, ratios


def _write_images(data: Path, *, images: int) -> None:
    """Write grey noise as PNG files into class folders: train as many as asked, val and test a few."""
    from PIL import Image

    from mien.labels import EMOTIONS

    random = np.random.default_rng(0)
    for split, count in (("train", images), ("val", 14), ("test", 14)):
        for number in range(count):
            folder = data / split / EMOTIONS[number % len(EMOTIONS)]
            folder.mkdir(parents=True, exist_ok=True)
            face = random.integers(0, 256, (48, 48), np.uint8)
            Image.fromarray(face).save(folder / f"{number:06d}.png")


def _round(data: Path, number: int, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Run every side with every input once; every other round the other way round."""
    plan = [(side, source) for source in INPUTS for side in SIDES]
    measured = {}
    for side, source in plan if number % 2 == 0 else reversed(plan):
        print(f"repeat {number + 1} of {options.repeats}: {side}, {source} input", file=sys.stderr)
        command = [sys.executable, __file__, "--child", side, source, str(data)]
        for name in ("network", "steps", "warmup", "batch", "precision"):
            command += [f"--{name}", str(getattr(options, name))]
        environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.pop("TF_ENABLE_ONEDNN_OPTS", None)  # each side starts TensorFlow as its users would
        answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if answer.returncode:
            sys.exit(f"{side} with {source} input failed:\n{answer.stderr}")
        measured[f"{side}, {source}"] = json.loads(answer.stdout.splitlines()[-1])
    return measured


def _summary(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Return each line's smallest, median and largest value over the rounds."""

    def over(value: Callable[[dict[str, dict[str, Any]]], float]) -> dict[str, float]:
        values = [value(measured) for measured in rounds]
        return {"min": min(values), "median": statistics.median(values), "max": max(values)}

    lines = {}
    for side in SIDES:
        real, repeated = f"{side}, real", f"{side}, repeated"
        for name in ("images_per_second", "cpu_seconds", "images_per_cpu_second"):
            lines[f"{side}: {name.replace('_', ' ')}"] = over(lambda m, n=name, r=real: m[r][n])
        lines[f"{side}: input, by repeating"] = over(
            lambda m, a=real, b=repeated: 1 - m[b]["cpu_seconds"] / m[a]["cpu_seconds"]
        )
        for name, label in (("input_share", "input, as clocked"), ("peak_share", "share of peak")):
            lines[f"{side}: {label}"] = over(lambda m, n=name, r=real: m[r][n])
    for name in ("images_per_second", "images_per_cpu_second"):
        lines[f"mien / script: {name.replace('_', ' ')}"] = over(
            lambda m, n=name: m["mien, real"][n] / m["script, real"][n]
        )
    return lines


def _print(document: dict[str, Any]) -> None:
    first = document["rounds"][0]["mien, real"]
    print(
        f"network {document['network']}, batch {document['batch']}, {document['steps']} steps, mien in "
        f"{first['precision']}, load {document['load']:.1f} on {document['cpus']} processors"
    )
    for name, peak in first["peaks"].items():
        print(f"matrix product in {name}: {peak / 1e9:.0f} GFLOP per CPU-second")
    print(f"{'':44}{'min':>10}{'median':>10}{'max':>10}")
    for name, values in document["summary"].items():
        print(f"{name:44}" + "".join(f"{values[key]:10.3g}" for key in ("min", "median", "max")))


# A child: one side, one kind of input


class _Measured(Exception):
    """The last timed step is done; what would follow is not measured."""


def _child(side: str, source: str, data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train one side until its timed steps are done, and return what they took."""
    if side == "mien":
        from mien.models.networks import load_keras

        keras = load_keras(options.network)  # first, for it decides how TensorFlow starts
    else:
        import keras
    from mien.models import networks

    clock = _Clock(options.warmup, options.steps)
    models: list[Any] = []
    fit = keras.Model.fit

    def timed_fit(model: Any, x: Any, *, callbacks: list[Any], **rest: Any) -> Any:
        models.append(model)
        callback = _callback(clock)
        return fit(model, _clocked(x, clock, source), callbacks=[*callbacks, callback], **rest)

    # Both sides end in Keras' fit. Its input and callbacks are all that is touched.
    keras.Model.fit = timed_fit
    with tempfile.TemporaryDirectory() as out, contextlib.suppress(_Measured):
        if side == "script":
            seed_script(data, Path(out), batch_size=options.batch, network=options.network)
        else:
            _mien(data, Path(out), options)
    model = models[-1]
    images = options.steps * options.batch
    seconds, cpu_seconds, input_seconds = clock.spent()
    mixed = any(layer.compute_dtype == "bfloat16" for layer in model.layers)
    precision = "bfloat16" if mixed else "float32"
    peaks = {name: _peak(name) for name in dict.fromkeys(("float32", precision))}
    work = 3 * networks.flops(model) * images
    return {
        "precision": precision,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "images_per_second": images / seconds,
        "images_per_cpu_second": images / cpu_seconds,
        "input_share": input_seconds / cpu_seconds,
        "peaks": peaks,
        "peak_share": work / cpu_seconds / peaks[precision],
    }


class _Clock:
    """Wall, CPU and input time, stamped at the end of every step.

    Args:
        warmup: Steps that are not timed.
        steps: Steps that are.
    """

    def __init__(self, warmup: int, steps: int) -> None:
        self.warmup = warmup
        self.last = warmup + steps
        self.input_seconds = 0.0
        self.stamps: list[tuple[float, float, float]] = []

    def stamp(self) -> None:
        self.stamps.append((time.perf_counter(), time.process_time(), self.input_seconds))
        if len(self.stamps) == self.last:
            raise _Measured

    def spent(self) -> tuple[float, ...]:
        """Return the wall, CPU and input seconds of the timed steps."""
        begin, end = self.stamps[self.warmup - 1], self.stamps[self.last - 1]
        return tuple(late - early for early, late in zip(begin, end, strict=True))


def _callback(clock: _Clock) -> Any:
    import keras

    class Stamp(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            clock.stamp()

    return Stamp()


def _clocked(x: Any, clock: _Clock, source: str) -> Any:
    """Return the input `x` of Keras' fit with a clock in it, or its first batch again and again."""
    import keras

    kept: list[Any] = []

    def take(get: Callable[[], Any]) -> Any:
        if source == "repeated" and kept:
            return kept[0]
        # The thread's own time: the clock does not count what Keras computes meanwhile.
        start = time.thread_time()
        batch = get()
        clock.input_seconds += time.thread_time() - start
        kept[:] = [batch]
        return batch

    if not isinstance(x, keras.utils.PyDataset):

        def batches() -> Iterator[Any]:
            iterator = iter(x)
            while True:
                yield take(lambda: next(iterator))

        return batches()

    class Clocked(keras.utils.PyDataset):  # type: ignore[misc, name-defined]
        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, index: int) -> Any:
            return take(lambda: x[index])

        def on_epoch_end(self) -> None:
            x.on_epoch_end()

    return Clocked()


def _peak(precision: str, *, side: int = 2048, tries: int = 6) -> float:
    """Return the operations a CPU-second of a product of two square matrices: the best of several."""
    import tensorflow as tf

    matrix = tf.cast(tf.random.normal((side, side)), precision)
    spent = []
    for _ in range(tries):
        start = time.process_time()
        float(tf.linalg.matmul(matrix, matrix)[0, 0])
        spent.append(time.process_time() - start)
    return 2 * side**3 / min(spent)


# The two sides


def _mien(data: Path, out: Path, options: argparse.Namespace) -> None:
    """Train recipe seed, with another network where one is named."""
    from mien.data import datasets
    from mien.training import recipes, trainer

    recipe = recipes.override(
        recipes.get("seed"),
        [
            f"network={options.network}",
            f"batch_size={options.batch}",
            f"precision={options.precision}",
        ],
    )
    trainer.fit(datasets.load(data, size=recipe.size), recipe, out=out / "run")


def seed_script(data: Path, out: Path, *, batch_size: int, network: str, seed: int = 42) -> None:
    """Train as the script does that mien grew out of, from its generators to its call of fit.

    Mended, and no more, where today's Keras refuses it: ImageDataGenerator comes from tensorflow.keras; the
    metric stands in a list; ModelCheckpoint has no `period`, and its files end in `.weights.h5`; the
    learning rate and the log folder, which it never defines, are Keras' default and a folder.
    """
    import tensorflow as tf
    from tensorflow.keras.callbacks import EarlyStopping, ModelCheckpoint, TensorBoard
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    from mien.models import networks

    # mien's networks rescale inside; the script's own does not.
    rescale = 1 / 255.0 if network == "seed" else None
    changes = ImageDataGenerator(rescale=rescale, rotation_range=10, zoom_range=0.1, horizontal_flip=True)
    plain = ImageDataGenerator(rescale=rescale)
    options = {
        "target_size": (48, 48),
        "color_mode": "grayscale",
        "class_mode": "categorical",
        "batch_size": batch_size,
        "shuffle": True,
        "seed": seed,
    }
    trainer = changes.flow_from_directory(directory=data / "train", **options)
    val = plain.flow_from_directory(directory=data / "val", **options)
    model = seed_network() if network == "seed" else networks.build(network)
    checkpoint = ModelCheckpoint(
        str(out / "weights") + "ep{epoch:03d}-loss{loss:.3f}-val_loss{val_loss:.3f}.weights.h5",
        monitor="val_loss",
        save_weights_only=True,
        save_best_only=False,
    )
    stopping = EarlyStopping(monitor="val_loss", min_delta=0, patience=10, verbose=1)
    model.compile(
        loss=tf.keras.losses.categorical_crossentropy,
        metrics=["acc"],
        optimizer=tf.keras.optimizers.Adam(learning_rate=0.001),
    )
    model.fit(
        trainer,
        validation_data=val,
        epochs=25,
        callbacks=[TensorBoard(log_dir=str(out / "logs")), stopping, checkpoint],
    )


def seed_network() -> Any:
    """Build the script's network: pixels in [0, 1], as its generator rescales them."""
    from tensorflow.keras import layers, models

    face = layers.Input(shape=(48, 48, 1))
    x = layers.Conv2D(256, 3, activation="relu", padding="same")(face)
    for filters in (512, 384, 192, 384):
        x = layers.Conv2D(filters, 3, activation="relu", padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D((2, 2))(x)
        x = layers.Dropout(0.4)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(256, activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.3)(x)
    answer = layers.Dense(7, activation="softmax")(x)
    return models.Model(face, answer, name="fer_model")


if __name__ == "__main__":
    main()
