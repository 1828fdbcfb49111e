"""A trained network becomes files that others can use, each proved to answer as the network does.

`bundle` writes the ONNX file and card that mien itself runs; `write` knows the other formats as well: Keras'
own `.keras` and `.h5`, and LiteRT for phones.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mien import bundle as bundles
from mien.bundle import Bundle, Card, Parity
from mien.errors import MissingExtra, ModelError
from mien.export.onnx_graph import serialise, weights

if TYPE_CHECKING:
    import keras

__all__ = ["TOLERANCE", "bundle", "serialise", "weights"]

#: Largest difference between two probabilities, file against network, with which an export is kept.
TOLERANCE = 1e-4
#: Images that file and network are compared on, at least.
IMAGES = 1000

Pixels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]


def bundle(
    model: keras.Model,
    card: Card,
    to: str | os.PathLike[str],
    *,
    images: Pixels,
    temperature: float = 1.0,
    at_least: int = IMAGES,
    progress: Callable[[int, int], None] | None = None,
) -> Bundle:
    """Write `model` as a bundle, and keep it only if it answers as the network does.

    A network trained in bfloat16 is compared as what it is in float32, with the same weights.

    Args:
        model: A network from pixels `(n, size, size, 1)` in [0, 255] to probabilities.
        card: What the model is; its temperature, parity and hash are set here.
        to: The bundle's folder.
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
    expected = _soften(_answers(in_float32(model), images, progress), temperature)
    file = serialise(model, temperature=temperature)
    card = replace(card, temperature=temperature, parity=None)
    answers = bundles.of(file, card).run(images)
    parity = compare(answers, expected, "Keras in float32")
    return bundles.write(file, replace(card, parity=parity), to)


def compare(answers: Probabilities, expected: Probabilities, against: str) -> Parity:
    """Measure how far a file's answers are from the network's.

    Raises:
        ModelError: Further than 1e-4, or not the same classes.
    """
    if answers.shape != expected.shape:
        raise ModelError(f"the file answers {answers.shape}, the network {expected.shape}; check the labels")
    difference = float(np.abs(answers - expected).max())
    if not difference <= TOLERANCE:
        raise ModelError(
            f"the exported file's probabilities differ by {difference:.2g} from those of {against}; "
            f"at most {TOLERANCE:g} is allowed, so nothing was written"
        )
    return Parity(images=len(answers), largest_difference=difference, against=against)


def in_float32(model: keras.Model) -> keras.Model:
    """Return `model` computing in float32 with the same weights; the model itself where it already does."""
    try:
        import keras
    except ImportError as error:
        raise MissingExtra("export", "train") from error
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model

    def clone(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
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


def _answers(
    model: keras.Model, images: Pixels, progress: Callable[[int, int], None] | None, *, batch_size: int = 250
) -> Probabilities:
    import keras

    found = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size].astype(np.float32)
        found.append(np.asarray(keras.ops.convert_to_numpy(model(batch, training=False)), np.float32))
        if progress is not None:
            progress(min(start + batch_size, len(images)), len(images))
    return np.concatenate(found)


def _soften(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Return what the softmax gives when its logits are divided by `temperature`."""
    if temperature == 1.0:
        return probabilities
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-300)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    softened: Probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return softened
