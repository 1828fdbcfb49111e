"""Export a trained network to a file, and keep the file only if its predictions are those of the network.

`write_model` writes the ONNX file and card that mien itself runs; `write` also writes Keras' `.keras` and
`.h5` and LiteRT for phones. `convert` makes any of them from a finished run: it rebuilds the network from the
weights in the run's model file, so that the export has exactly these weights. Keras and LiteRT files take
pixels as float32 in [0, 255]; the order of their classes is in `labels.txt` beside them. LiteRT files can
have int8 weights, rounded by ai-edge-quantizer (docs/decisions/0025-litert-int8.md).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mien import _files
from mien._processes import log_level
from mien.data import synthetic
from mien.errors import InputError, MissingExtra, ModelError
from mien.models import initial_weights, model_files, networks
from mien.models.model_files import Card, Model, Parity
from mien.models.networks import install_command, load_keras, quietly
from mien.release import quantization
from mien.release.onnx_graph import feature_map, mean_weights, serialise, weights
from mien.training.runs import Run

if TYPE_CHECKING:
    import keras


#: What a network can be written as, and how each one's file ends.
FORMATS = {"onnx": ".onnx", "keras": ".keras", "h5": ".h5", "litert": ".tflite"}
#: Largest difference between two probabilities, file against network, with which an export is kept.
TOLERANCE = 1e-4
#: The same as a share of the largest logit, which counts where it is more. Float32 keeps seven digits, and a
#: network that has diverged has logits of many thousands, whose last digits decide.
RELATIVE = 5e-6
#: Largest difference that is allowed for any logits.
LOOSEST = 1e-2
#: Images that file and network are compared on, at least.
IMAGES = 1000

#: Images asked at once; the seed's network takes 9 MiB an image.
BATCH_SIZE = 64

Pixels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]


class Unlike(ModelError):
    """A file and the network that it was written from answer further apart than is allowed.

    Args:
        message: What is wrong, and what to do.
        content: The file.
    """

    def __init__(self, message: str, content: bytes = b"") -> None:
        super().__init__(message)
        self.content = content


@dataclass(frozen=True)
class Exported:
    """An exported file and how close its predictions are to those of the network.

    Args:
        path: The file.
        parity: How far its answers are from the network's.
        agreement: Of an int8 model's network: how it answers beside that model; None for others.
        rounding: Of an int8 export: how the file answers beside the network in float32; None for others.
    """

    path: Path
    parity: Parity
    agreement: Agreement | None = None
    rounding: Agreement | None = None


@dataclass(frozen=True)
class Agreement:
    """How a network in float32 and an int8 file of it answer on the same images.

    Args:
        images: How many.
        same: Share on which every head gives the same likeliest answer.
        mean_difference: Between two probabilities, absolute.
        largest_difference: Likewise.
    """

    images: int
    same: float
    mean_difference: float
    largest_difference: float


def convert(
    source: Run | Model,
    format: str,  # noqa: A002 - what Keras calls it, and what the command's option is
    to: str | os.PathLike[str] | None = None,
    *,
    int8: bool = False,
    at_least: int = IMAGES,
    progress: Progress | None = None,
) -> Exported:
    """Write the model of a finished run, or a shipped model, in one of four formats, with its calibration.

    Of an int8 model it is the network in float32, from the weights beside it. Predictions are compared on
    synthetic faces, because neither holds its training images.

    Args:
        source: The run, whose model file has the weights; or a loaded model.
        format: One of `FORMATS`.
        to: As in `write`; None for the folder `export` in the run, or for `<name>-export` here.
        int8: As in `write`.
        at_least: Number of synthetic faces to compare on.
        progress: Called with (images compared, images in all).

    Raises:
        RunError: The run has no model yet.
        InputError: `int8` is for another format than `litert`.
        ModelError: As in `write` and `rebuild`; or `to` is what a run ships, which only its training writes.
        MissingExtra: As in `write`.
    """
    if to is not None:
        place = Path(to)
    elif isinstance(source, Run):
        place = source.path / "export"
    else:
        place = Path(f"{source.card.name}-export")
    file_for(place, format)
    check_int8(format, int8=int8)
    if any(
        (folder.parent / "run.json").is_file()
        for folder in (place, place.parent)
        if folder.name == model_files.IN_RUN
    ):
        raise ModelError(
            f"{str(place)!r} is the model file of a run, which its evaluations belong to; choose another path"
        )
    if isinstance(source, Run):
        if not (source.model_folder / model_files.MODEL).is_file():
            raise model_files.unfinished(source.path)
        source = model_files.load(source.model_folder)
    model, card = rebuild(source), source.card
    images, _, _ = synthetic.sample(at_least, seed=0, size=card.size)
    if card.precision == "int8":
        # Its scores and its hash are the int8 file's.
        card = replace(card, precision="float32", made_from=card.sha256, metrics={})
    made = write(model, card, format, place, images=images, int8=int8, at_least=at_least, progress=progress)
    if source.card.precision != "int8":
        return made
    return replace(made, agreement=_agreement(source, _scaled(model, card), images))


def _agreement(shipped: Model, network: keras.Model, images: Pixels) -> Agreement:
    names = list(shipped.card.heads)
    ours = predict_network(network, images).reshape(len(images), len(names), -1)
    theirs = np.stack([*shipped.run_heads(images).values()], axis=1)
    return _agree(ours, theirs)


def _agree(ours: Probabilities, theirs: Probabilities) -> Agreement:
    """Compare probabilities `(n, heads, k)` of the same images."""
    difference = np.abs(ours - theirs)
    return Agreement(
        images=len(ours),
        same=float((ours.argmax(axis=2) == theirs.argmax(axis=2)).all(axis=1).mean()),
        mean_difference=float(difference.mean()),
        largest_difference=float(difference.max()),
    )


def rebuild(source: Model) -> keras.Model:
    """Return the Keras network of a model file with its weights, to train further or to convert.

    It has no calibration: temperature and logit biases are in the card. For an int8 model it has the weights
    beside the file, whose kernels are rounded to 8 bits with a scale for each channel.

    Raises:
        ModelError: The card names no network, the file has changed since it was loaded, or its weights are
            not those of the network.
        RecipeError: mien does not know the network.
        MissingExtra: Keras or onnx is not installed.
    """
    card = source.card
    name = card.recipe.get("network")
    if not isinstance(name, str):
        raise ModelError(
            f"the card of {card.name!r} does not name its network, so the model cannot be converted"
        )
    found = weights_of(source)
    model = networks.build(name, size=card.size, classes=len(card.labels), ferplus=len(card.heads) > 1)
    shapes = {variable.path: tuple(variable.shape) for variable in model.weights}
    if shapes != {path: value.shape for path, value in found.items()}:
        raise ModelError(f"the weights of {card.name!r} do not fit the network {name!r} that its card names")
    model.set_weights([found[variable.path] for variable in model.weights])
    return model


def weights_of(model: Model) -> dict[str, npt.NDArray[np.float32]]:
    """Return a model's weights by the names that Keras has for them: `stem_conv/kernel`.

    Args:
        model: A trained model in float32, whose file holds them; or in int8, with them beside it.

    Raises:
        ModelError: The weights do not exist or are damaged.
    """
    if model.card.precision == "int8":
        return initial_weights.read(model.path, model.card.sha256 or "")
    return weights(model.read())


def write(
    model: keras.Model,
    card: Card,
    format: str,  # noqa: A002 - what Keras calls it, and what the command's option is
    to: str | os.PathLike[str],
    *,
    images: Pixels,
    int8: bool = False,
    at_least: int = IMAGES,
    progress: Progress | None = None,
) -> Exported:
    """Write `model` in one of four formats, and keep it only if it answers as the network does.

    Args:
        model: A network from pixels `(n, size, size, 1)` in [0, 255] to probabilities.
        card: What the model is. Every format holds its temperatures and logit biases, as factors of the last
            weights except in ONNX; `litert` holds the first head alone.
        format: One of `FORMATS`.
        to: A folder, where the file is called `model` with the format's ending; or a file's name with that
            ending. `labels.txt` goes beside it.
        images: Images to compare on, `(n, size, size, 1)` uint8.
        int8: For `litert`: round the weights to int8, with a scale for each output channel. Activations are
            rounded when the file runs, with a scale for each image.
        at_least: Compare on this many; random pixels make up for missing `images`.
        progress: Called with (images compared, images in all).

    Raises:
        InputError: `int8` is for another format than `litert`.
        ModelError: The format is unknown or cannot be written here.
        Unlike: File and network differ by more than `compare` allows; or, with `int8`, their likeliest
            classes agree for less than `quantization.AGREEMENT` of the images.
        MissingExtra: Keras, onnx, LiteRT's interpreter or its quantizer is not installed.
    """
    file = file_for(to, format)
    check_int8(format, int8=int8)
    _check_place(file, card)
    if format == "onnx":
        made = write_model(model, card, to, images=images, at_least=at_least, progress=progress)
        _files.write(file.with_name(model_files.LABELS), model_files.listed(card.labels))
        assert made.card.parity is not None
        return Exported(file, made.card.parity)
    model = _scaled(in_float32(model), card)
    if format == "litert":
        model = _first_answer(model)
    images = _enough(images, card.size, at_least)
    content, answers = _keras_file(model, format, images, int8=int8)
    expected = predict_network(model, images, progress=progress)
    rounding = None
    if int8:
        rounding = _check_rounding(answers, expected)
        parity = Parity(
            images=len(images), largest_difference=rounding.largest_difference, against="Keras in float32"
        )
    else:
        parity = _compare_in_float32(answers, expected, model, images)
    _files.write(file.with_name(model_files.LABELS), model_files.listed(card.labels))
    _files.write(file, content)
    return Exported(file, parity, rounding=rounding)


def _check_rounding(answers: Probabilities, expected: Probabilities) -> Agreement:
    """Compare an int8 file's answers `(n, k)` with the network's; refuse as for an int8 ONNX file."""
    found = _agree(expected[:, np.newaxis], answers[:, np.newaxis])
    if not (found.same >= quantization.AGREEMENT and np.isfinite(answers).all()):
        raise Unlike(
            f"the int8 file predicts the class of the float32 network for {found.same:.2%} of "
            f"{found.images:,} images, and {quantization.AGREEMENT:.1%} are required, so nothing was "
            "written; export without --int8"
        )
    return found


def write_model(
    model: keras.Model,
    card: Card,
    to: str | os.PathLike[str],
    *,
    images: Pixels,
    at_least: int = IMAGES,
    progress: Progress | None = None,
) -> Model:
    """Write `model` as a model file, and keep it only if it predicts as the network does.

    A network trained in bfloat16 is compared in float32, with the same weights.

    Args:
        model: A network from pixels `(n, size, size, 1)` in [0, 255] to probabilities.
        card: What the model is, and the scaling of each head; its parity and hash are set here.
        to: A folder, or a name that ends in `.onnx`.
        images: Images to compare on, `(n, size, size, 1)` uint8; the more like real ones the better.
        at_least: Compare on this many; random pixels make up for missing `images`.
        progress: Called with (images compared, images in all).

    Raises:
        ModelError: The network cannot be written as ONNX, or the card does not match it.
        Unlike: The outputs of the file are not probabilities, or differ by more than `compare` allows.
        MissingExtra: Keras or onnx is not installed.
    """
    images = _enough(images, card.size, at_least)
    file = serialise(model, heads={head.output: head for head in card.heads.values()})
    weights_of_head = mean_weights(file)
    heads = {
        name: replace(head, weights=weights_of_head.get(head.output, "")) for name, head in card.heads.items()
    }
    card = replace(card, parity=None, heads=heads, feature_map=feature_map(file))
    try:
        written = model_files.of(file, card)
        network = _scaled(in_float32(model), card)
        answers, expected = [], []
        for start in range(0, len(images), BATCH_SIZE):
            batch = images[start : start + BATCH_SIZE]
            answers.append(np.hstack([*written.run_heads(batch).values()]))
            expected.append(predict_network(network, batch))
            if progress is not None:
                progress(start + len(batch), len(images))
        parity = _compare_in_float32(np.concatenate(answers), np.concatenate(expected), network, images)
    except ModelError as error:
        raise Unlike(str(error), file) from None
    return model_files.write(file, replace(card, parity=parity), to)


def compare(
    answers: Probabilities,
    expected: Probabilities,
    against: str,
    *,
    largest_logit: Callable[[], float] = lambda: 0.0,
) -> Parity:
    """Measure how far the predictions of a file are from those of the network.

    The limit is 1e-4, or 5e-6 times the largest logit if that is more, and 0.01 at most: the same large
    numbers added in another order have other last digits, which the softmax turns into differences.

    Args:
        answers: The file's.
        expected: The network's.
        against: What the network is called.
        largest_logit: Called where 1e-4 does not do; gives the largest logit of the network, absolute.

    Raises:
        Unlike: They are further apart.
    """
    difference = float(np.abs(answers - expected).max())
    allowed = TOLERANCE
    if not difference <= allowed:
        allowed = max(TOLERANCE, min(LOOSEST, RELATIVE * largest_logit()))
    if not difference <= allowed:
        raise Unlike(
            f"the exported file's probabilities differ by {difference:.2g} from those of {against}; "
            f"at most {allowed:.2g} is allowed, so nothing was written"
        )
    return Parity(images=len(answers), largest_difference=difference, against=against)


def _compare_in_float32(
    answers: Probabilities, expected: Probabilities, network: keras.Model, images: Pixels
) -> Parity:
    return compare(
        answers, expected, "Keras in float32", largest_logit=lambda: _largest_logit(network, images)
    )


def _largest_logit(model: keras.Model, images: Pixels) -> float:
    """Return the largest number, absolute, that a model's last softmax takes; 0 where it has none."""
    keras = networks.load_keras()
    largest = 0.0
    for tensor in model.outputs:
        last = tensor._keras_history.operation
        if not hasattr(last, "input"):
            continue
        before = predict_network(keras.Model(model.inputs[0], last.input), images).astype(np.float64)
        kernel, *bias = last.get_weights() or (np.eye(before.shape[-1]),)
        logits = before.reshape(-1, before.shape[-1]) @ kernel + (bias[0] if bias else 0.0)
        largest = max(largest, float(np.abs(logits[np.isfinite(logits)]).max(initial=0.0)))
    return largest


def in_float32(model: keras.Model) -> keras.Model:
    """Return `model` computing in float32 with the same weights; the model itself where it already does."""
    return model if all(layer.compute_dtype == "float32" for layer in model.layers) else _copy(model)


def _copy(model: keras.Model) -> keras.Model:
    def clone(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    copy = networks.load_keras().models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def _scaled(model: keras.Model, card: Card) -> keras.Model:
    """Return `model` with the card's temperatures and logit biases in its last weights: the same function."""
    if all(head.temperature == 1.0 and not head.logit_bias for head in card.heads.values()):
        return model
    copy = _copy(model)
    for tensor, head in zip(copy.outputs, card.heads.values(), strict=True):
        last = tensor._keras_history.operation
        if getattr(getattr(last, "activation", None), "__name__", "") != "softmax" or not last.get_weights():
            raise ModelError(
                f"the network's last layer {last.name!r} is not a dense layer with softmax, so it cannot "
                "have a temperature"
            )
        kernel, *bias = (weight / head.temperature for weight in last.get_weights())
        if head.logit_bias and not bias:
            raise ModelError(
                f"the network's last layer {last.name!r} has no bias, so it cannot have logit biases"
            )
        last.set_weights([kernel, *(each + np.array(head.logit_bias or 0.0, each.dtype) for each in bias)])
    return copy


def _first_answer(model: keras.Model) -> keras.Model:
    if len(model.outputs) == 1:
        return model
    return networks.load_keras().Model(model.inputs[0], model.outputs[0], name=model.name)


def _enough(images: Pixels, size: int, at_least: int) -> Pixels:
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 1):
        raise ModelError(
            f"the comparison needs uint8 images of shape ('n', {size}, {size}, 1), not {images.dtype} of "
            f"shape {images.shape}"
        )
    missing = max(at_least - len(images), 0)
    noise = np.random.default_rng(0).integers(0, 256, (missing, size, size, 1), np.uint8)
    return np.concatenate([images, noise])


def _check_place(file: Path, card: Card) -> None:
    """Refuse a place that has other labels."""
    if file.parent.exists() and not file.parent.is_dir():
        raise ModelError(
            f"{str(file.parent)!r} is a file; name a folder, or a file that ends in {file.suffix}"
        )
    there = file.with_name(model_files.LABELS)
    if there.is_file() and there.read_bytes() != model_files.listed(card.labels):
        raise ModelError(f"{str(there)!r} has other labels than the model; name another folder")


def file_for(to: str | os.PathLike[str], format: str) -> Path:  # noqa: A002 - as in `write`
    """Return the file that `to` means: itself, or a file in this folder.

    Raises:
        ModelError: The format is unknown; or `to` has the extension of another format and is not a folder.
    """
    if format not in FORMATS:
        raise ModelError(f"there is no format {format!r}; choose from {', '.join(FORMATS)}, web, triton")
    place, ending = Path(to), FORMATS[format]
    if place.suffix.lower() == ending and not place.is_dir():
        return place
    other = next((name for name, each in FORMATS.items() if each == place.suffix.lower()), None)
    if other is not None and not place.is_dir():
        raise ModelError(
            f"{str(place)!r} has the extension of the format {other}, and files of the format {format} end "
            f"in {ending}; use that extension, name a folder, or add --format {other}"
        )
    return place / f"model{ending}"


def check_int8(format: str, *, int8: bool) -> None:  # noqa: A002 - as in `write`
    """Refuse int8 weights for a format that is not `litert`.

    Raises:
        InputError: The format is another one.
    """
    if int8 and format != "litert":
        raise InputError(f"--int8 is for --format litert, not {format}; leave it out")


def _keras_file(
    model: keras.Model, kind: str, images: Pixels, *, int8: bool = False
) -> tuple[bytes, Probabilities]:
    """Return a file of a float32 network, and what the file, read back, answers to `images`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"model{FORMATS[kind]}"
        with _quiet(), quietly() if kind == "litert" else contextlib.nullcontext():
            if kind == "litert":
                _require_tensorflow()
                _interpreter()  # what would be missed after the work is missed now
                if int8:
                    _quantizer()
                model.export(file, format="litert", verbose=False)
                if int8:
                    file.write_bytes(_round_weights(file.read_bytes()))
                answers = _ask_litert(file, images)
            else:
                model.save(file)
                answers = predict_network(load_keras().models.load_model(file, compile=False), images)
        return file.read_bytes(), answers


def predict_network(
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


def _require_tensorflow() -> None:
    backend = load_keras().backend.backend()
    if backend == "tensorflow":
        return
    remedy = "run the export again with KERAS_BACKEND=tensorflow"
    if install := install_command("tensorflow"):
        remedy = f"run: {install}, and {remedy}"
    raise ModelError(f"Keras runs on {backend}, which cannot write LiteRT; {remedy}")


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


def _quantizer() -> Any:
    """Return the package that rounds the weights of LiteRT files."""
    try:
        return importlib.import_module("ai_edge_quantizer")
    except ImportError:
        raise MissingExtra("LiteRT in int8", "litert") from None


def _round_weights(content: bytes) -> bytes:
    """Return a LiteRT file with int8 weights, whose operations round their inputs when the file runs."""
    package = _quantizer()
    work = package.quantizer.Quantizer(content, package.recipe.dynamic_wi8_afp32())
    result = work.quantize(enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _quiet() -> contextlib.AbstractContextManager[None]:
    """Keep Keras from advising against the format that was asked for."""
    return log_level("absl", logging.ERROR)
