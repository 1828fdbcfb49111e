"""A network as Keras' own files and as LiteRT, each read back and asked before it is kept.

These files take pixels as float32 in [0, 255] and hold the network as it was trained; the order of their
answers stands in `labels.txt` beside them.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mien.errors import MissingExtra, ModelError
from mien.models.networks import load_keras, quietly

if TYPE_CHECKING:
    import keras

#: Ending of each format's files.
SUFFIXES = {"keras": ".keras", "h5": ".h5", "litert": ".tflite"}
#: Images asked at once; the seed's network takes 9 MiB an image.
BATCH_SIZE = 64

Pixels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]


def make(model: keras.Model, kind: str, images: Pixels) -> tuple[bytes, Probabilities]:
    """Return a file of `model`, and what the file, read back, answers to `images`.

    Args:
        model: A network that computes in float32.
        kind: One of `SUFFIXES`.
        images: `(n, size, size, 1)` uint8 in [0, 255].

    Raises:
        ModelError: LiteRT is asked for on another backend than TensorFlow.
        MissingExtra: What runs LiteRT files is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"model{SUFFIXES[kind]}"
        with _quiet(), quietly() if kind == "litert" else contextlib.nullcontext():
            if kind == "litert":
                _require_tensorflow()
                _interpreter()  # what would be missed after the work is missed now
                model.export(file, format="litert", verbose=False)
            else:
                model.save(file)
            answers = _ask_litert(file, images) if kind == "litert" else ask(_read(file), images)
        return file.read_bytes(), answers


def ask(
    model: keras.Model, images: Pixels, *, progress: Callable[[int, int], None] | None = None
) -> Probabilities:
    """Return a model's probabilities `(n, k)` float32 for uint8 images, several answers side by side."""
    keras = load_keras()
    found = []
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE]
        answers = keras.tree.flatten(model(batch.astype(np.float32), training=False))
        found.append(np.hstack([keras.ops.convert_to_numpy(each) for each in answers]).astype(np.float32))
        if progress is not None:
            progress(start + len(batch), len(images))
    return np.concatenate(found)


def _read(file: Path) -> Any:
    return load_keras().models.load_model(file, compile=False)


def _require_tensorflow() -> None:
    backend = load_keras().backend.backend()
    if backend != "tensorflow":
        raise ModelError(
            f"Keras runs on {backend}, which cannot write LiteRT; "
            "run the export again with KERAS_BACKEND=tensorflow"
        )


def _ask_litert(file: Path, images: Pixels) -> Probabilities:
    interpreter = _interpreter()(model_path=str(file))
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE].astype(np.float32)
        interpreter.resize_tensor_input(source["index"], batch.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], batch)
        interpreter.invoke()
        found.append(interpreter.get_tensor(target["index"]))
    return np.concatenate(found)


def _interpreter() -> Any:
    """Return LiteRT's interpreter, or TensorFlow's older copy of it."""
    for package in ("ai_edge_litert.interpreter", "tensorflow.lite.python.interpreter"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(package).Interpreter
    raise MissingExtra("LiteRT", "litert")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Keras from advising against the format that was asked for."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
