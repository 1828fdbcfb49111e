"""Write a model repository for servers of the Open Inference Protocol: Triton, KServe, OpenVINO Model Server.

Each head of a model becomes a folder with its own file, because these servers name an answer by its model:

    repository/
        default-fer2013-48/
            config.pbtxt
            labels.txt
            card.json
            1/model.onnx
        default-ferplus-48/
            ...

The format of `config.pbtxt` is Triton's model configuration:
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from mien import _files
from mien.data import synthetic
from mien.errors import MissingExtra, ModelError
from mien.models import model_files
from mien.models.card import to_json
from mien.models.model_files import Model, Parity
from mien.release.exporters import IMAGES, TOLERANCE, Exported

#: Largest batch that a server may make of the requests that wait.
MAX_BATCH = 64

_CONFIG = """\
# {about}
name: {name}
backend: "onnxruntime"
max_batch_size: {batch}
input [
  {{
    name: "images"
    data_type: TYPE_UINT8
    dims: [ {size}, {size}, 1 ]
  }}
]
output [
  {{
    name: {output}
    data_type: TYPE_FP32
    dims: [ {labels} ]
    label_filename: "labels.txt"
  }}
]
# Requests that wait are answered together; none waits for others.
dynamic_batching {{ }}
"""


def write_repository(
    model: Model,
    to: str | os.PathLike[str],
    *,
    at_least: int = IMAGES,
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write a model repository with a folder for each head of a model.

    The files are parts of the model's own file, in int8 if that is, and keep its calibration. Each is
    compared with the model on synthetic faces. Other folders in the repository stay as they are.

    Args:
        model: The model.
        to: The folder of the repository.
        at_least: Number of synthetic faces to compare on.
        progress: Called with (images compared, images in all).

    Raises:
        ModelError: The answers of a file differ from those of the model, or `to` is a file.
        MissingExtra: onnx is not installed.
        OutputError: A file cannot be written.
    """
    place = Path(to)
    if place.exists() and not place.is_dir():
        raise ModelError(f"{str(place)!r} is a file; name a folder for the model repository")
    card = model.card
    images, _, _ = synthetic.sample(at_least, seed=0, size=card.size)
    total = len(images) * len(card.heads)
    contents = {name: _only(model.content, head.output) for name, head in card.heads.items()}
    ours = model.run_heads(images)
    largest = 0.0
    for number, (name, content) in enumerate(contents.items(), start=1):
        theirs = _answers(content, card.heads[name].output, images)
        largest = max(largest, float(np.abs(theirs - ours[name]).max()))
        if progress is not None:
            progress(number * len(images), total)
    if largest > TOLERANCE:
        raise ModelError(
            f"the probabilities of {card.name} change by up to {largest:.1e} if each head is a file, and "
            f"{TOLERANCE:.0e} is allowed; use another version of onnx or onnxruntime"
        )
    for name, content in contents.items():
        _write_folder(place / f"{card.name}-{name}-{card.size}", model, name, content)
    return Exported(place, Parity(images=len(images), largest_difference=largest, against=card.name))


def _write_folder(folder: Path, model: Model, name: str, content: bytes) -> None:
    card = model.card
    head = card.heads[name]
    text = _CONFIG.format(
        about=f"{card.name}, head {name}: probabilities of {len(card.labels)} classes for grey face crops",
        name=_quote(folder.name),
        batch=MAX_BATCH,
        size=card.size,
        output=_quote(head.output),
        labels=len(card.labels),
    )
    digest = hashlib.sha256(content).hexdigest()
    part = replace(card, heads={name: head}, sha256=digest, made_from=card.sha256)
    with _files.writing(folder):
        (folder / "1").mkdir(parents=True, exist_ok=True)
    _files.write(folder / "1" / model_files.MODEL, content)
    _files.write(folder / model_files.LABELS, model_files.listed(card.labels))
    _files.write(folder / model_files.CARD, to_json(part).encode())
    _files.write(folder / "config.pbtxt", text.encode())


def _only(content: bytes, output: str) -> bytes:
    """Return a model file with one of its outputs, without the operations that only others need."""
    try:
        import onnx
        import onnx.utils
    except ImportError as error:
        raise MissingExtra("writing a model repository", "train") from error
    parts = onnx.utils.Extractor(onnx.load_from_string(content)).extract_model(["images"], [output])
    return bytes(parts.SerializeToString())


def _answers(content: bytes, output: str, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.concatenate(
        [
            session.run([output], {"images": images[start : start + MAX_BATCH]})[0]
            for start in range(0, len(images), MAX_BATCH)
        ]
    )


def _quote(text: str) -> str:
    """Return a string as protobuf's text format writes it, which is as JSON writes it."""
    return json.dumps(text, ensure_ascii=False)
