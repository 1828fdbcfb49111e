"""A trained network becomes files that others can use, each proved to answer as the network does.

`bundle` writes the ONNX file and card that mien itself runs; `write` knows the other formats as well: Keras'
own `.keras` and `.h5`, and LiteRT for phones.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mien import bundle as bundles
from mien.bundle import Bundle, Card, Parity
from mien.errors import ModelError
from mien.export import keras_files
from mien.export.onnx_graph import serialise, weights
from mien.networks import load_keras

if TYPE_CHECKING:
    import keras

__all__ = [
    "FORMATS",
    "IMAGES",
    "TOLERANCE",
    "bundle",
    "compare",
    "in_float32",
    "serialise",
    "weights",
    "write",
]

#: What a network can be written as, and how each one's file ends.
FORMATS = {"onnx": ".onnx", **keras_files.SUFFIXES}
#: Largest difference between two probabilities, file against network, with which an export is kept.
TOLERANCE = 1e-4
#: Images that file and network are compared on, at least.
IMAGES = 1000

Pixels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]


def write(
    model: keras.Model,
    card: Card,
    format: str,  # noqa: A002 - what Keras calls it, and what the command's option is
    to: str | os.PathLike[str],
    *,
    images: Pixels,
    at_least: int = IMAGES,
) -> Path:
    """Write `model` in one of four formats, and keep it only if it answers as the network does.

    Args:
        model: A network from pixels `(n, size, size, 1)` in [0, 255] to probabilities.
        card: What the model is. `onnx` and `litert` hold its temperature; Keras' files are the network as
            it was trained.
        format: One of `FORMATS`.
        to: A folder, where the file is called `model` with the format's ending; or a file's name with that
            ending. `labels.txt` goes beside it.
        images: Images to compare on, `(n, size, size, 1)` uint8.
        at_least: Compare on this many; random pixels stand in where `images` are fewer.

    Returns:
        The file written.

    Raises:
        ModelError: The format is unknown or cannot be written here, or file and network differ by more
            than 1e-4.
        MissingExtra: Keras, onnx, or LiteRT's interpreter is not installed.
    """
    if format not in FORMATS:
        raise ModelError(f"{format!r} is no format mien exports; it exports {', '.join(FORMATS)}")
    place = Path(to)
    file = place if place.suffix == FORMATS[format] else place / f"model{FORMATS[format]}"
    if format == "onnx":
        bundle(model, card, to, images=images, temperature=card.temperature, at_least=at_least)
        _put(file.with_name(bundles.LABELS), bundles.listed(card.labels))
        return file
    model = in_float32(model)
    if format == "litert":
        model = _tempered(model, card.temperature)
    images = _enough(images, card.size, at_least)
    content, answers = keras_files.make(model, format, images)
    compare(answers, keras_files.ask(model, images), "Keras in float32")
    _put(file.with_name(bundles.LABELS), bundles.listed(card.labels))
    _put(file, content)
    return file


def bundle(
    model: keras.Model,
    card: Card,
    to: str | os.PathLike[str],
    *,
    images: Pixels,
    temperature: float = 1.0,
    at_least: int = IMAGES,
    progress: Progress | None = None,
) -> Bundle:
    """Write `model` as a bundle, and keep it only if it answers as the network does.

    A network trained in bfloat16 is compared as what it is in float32, with the same weights.

    Args:
        model: A network from pixels `(n, size, size, 1)` in [0, 255] to probabilities.
        card: What the model is; its temperature, parity and hash are set here.
        to: The bundle's folder, or a name that ends in `.onnx`.
        images: Images to compare on, `(n, size, size, 1)` uint8; the more like real ones the better.
        temperature: What logits are divided by.
        at_least: Compare on this many; random pixels stand in where `images` are fewer.
        progress: Called with (images compared, images in all).

    Raises:
        ModelError: The network cannot be written as ONNX; the card is not the network's; or file and
            network differ by more than 1e-4.
        MissingExtra: Keras or onnx is not installed.
    """
    images = _enough(images, card.size, at_least)
    file = serialise(model, temperature=temperature)
    card = replace(card, temperature=temperature, parity=None)
    written = bundles.of(file, card)
    network = _tempered(in_float32(model), temperature)
    answers, expected = [], []
    for start in range(0, len(images), keras_files.BATCH_SIZE):
        batch = images[start : start + keras_files.BATCH_SIZE]
        answers.append(written.run(batch))
        expected.append(keras_files.ask(network, batch))
        if progress is not None:
            progress(start + len(batch), len(images))
    parity = compare(np.concatenate(answers), np.concatenate(expected), "Keras in float32")
    return bundles.write(file, replace(card, parity=parity), to)


def compare(answers: Probabilities, expected: Probabilities, against: str) -> Parity:
    """Measure how far a file's answers are from the network's.

    Raises:
        ModelError: Further than 1e-4.
    """
    difference = float(np.abs(answers - expected).max())
    if not difference <= TOLERANCE:
        raise ModelError(
            f"the exported file's probabilities differ by {difference:.2g} from those of {against}; "
            f"at most {TOLERANCE:g} is allowed, so nothing was written"
        )
    return Parity(images=len(answers), largest_difference=difference, against=against)


def in_float32(model: keras.Model) -> keras.Model:
    """Return `model` computing in float32 with the same weights; the model itself where it already does."""
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model
    return _copy(model)


def _copy(model: keras.Model) -> keras.Model:
    def clone(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    copy = load_keras().models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def _tempered(model: keras.Model, temperature: float) -> keras.Model:
    """Return `model` with the temperature in its last weights, which is the same function.

    Raises:
        ModelError: The network's last layer is not a dense softmax, so there are no such weights.
    """
    if temperature == 1.0:
        return model
    copy = _copy(model)
    last = copy.layers[-1]
    if getattr(getattr(last, "activation", None), "__name__", "") != "softmax" or not last.get_weights():
        raise ModelError(
            f"the network's last layer {last.name!r} is not a dense softmax; it takes no temperature"
        )
    last.set_weights([weight / temperature for weight in last.get_weights()])
    return copy


def _enough(images: Pixels, size: int, at_least: int) -> Pixels:
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 1):
        raise ModelError(
            f"parity is measured on uint8 images of shape ('n', {size}, {size}, 1), "
            f"not {images.dtype} of shape {images.shape}"
        )
    missing = max(at_least - len(images), 0)
    noise = np.random.default_rng(0).integers(0, 256, (missing, size, size, 1), np.uint8)
    return np.concatenate([images, noise])


def _put(file: Path, content: bytes) -> None:
    try:
        bundles.put(file, content)
    except OSError as error:
        raise ModelError(f"{str(file)!r} cannot be written: {error.strerror}") from None
