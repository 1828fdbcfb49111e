"""The Open Inference Protocol, version 2, over HTTP: crops in, probabilities out.

Names of the input and the outputs are those of the ONNX file, so that a client can use the same file in
Triton, KServe or OpenVINO Model Server. Numbers are JSON, or bytes behind the JSON (the binary tensor data
extension).

Source: the protocol's document `inference_rest.md`, and Triton's `extension_binary_data.md`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import __version__
from mien._text import quote
from mien.models.card import Card
from mien.server.payloads import RequestError, parse_json
from mien.server.settings import Limits

#: Header with the number of bytes of JSON, behind which binary data follow.
LENGTH = "Inference-Header-Content-Length"
INPUT, DATATYPE, VERSION = "images", "UINT8", "1"
#: Values of a JSON document beside the numbers of its input, and the longest id.
_VALUES, _LONGEST_ID = 200, 200


@dataclass(frozen=True)
class Output:
    """An output that a request asks for.

    Args:
        name: Its name in the ONNX file.
        head: The head of the card that it belongs to.
        binary: Whether its numbers are wanted as bytes.
    """

    name: str
    head: str
    binary: bool


@dataclass(frozen=True)
class Inference:
    """A request for an inference.

    Args:
        crops: `(n, size, size, 1)`, 0..255.
        outputs: The outputs that it asks for.
        id: What the answer has to repeat; None if nothing.
    """

    crops: NDArray[np.uint8]
    outputs: tuple[Output, ...]
    id: str | None


def server_metadata() -> dict[str, Any]:
    """Return the description of the server."""
    return {"name": "mien", "version": __version__, "extensions": ["binary_tensor_data"]}


def model_metadata(card: Card) -> dict[str, Any]:
    """Return the description of the model."""
    return {
        "name": card.name,
        "versions": [VERSION],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": INPUT, "datatype": DATATYPE, "shape": [-1, card.size, card.size, 1]}],
        "outputs": [
            {"name": head.output, "datatype": "FP32", "shape": [-1, len(card.labels)]}
            for head in card.heads.values()
        ],
    }


def check_model(card: Card, name: str, version: str) -> None:
    """Check that a path names the model of the server.

    Raises:
        RequestError: It names another one.
    """
    if name != card.name or version != VERSION:
        raise RequestError(
            404, f"the model {quote(name)} is not here; this server has {card.name!r}, version 1"
        )


def read(body: bytes, length: str, card: Card, limits: Limits) -> Inference:
    """Read a request.

    Args:
        body: The body.
        length: The header `LENGTH`; empty if the body is only JSON.
        card: The model's card.
        limits: How many crops there may be.

    Raises:
        RequestError: The request is damaged, too large, or does not fit the model.
    """
    split = len(body)
    if length:
        split = int(length) if length.isascii() and length.isdecimal() and len(length) < 12 else -1
        if not 0 <= split <= len(body):
            raise RequestError(
                400, f"the header {LENGTH} is {quote(length)}; it must be the bytes of the JSON"
            )
    numbers = limits.crops * card.size**2
    # A nested list has a bracket for each number, because the last dimension is 1.
    document = parse_json(body[:split], values=2 * numbers + _VALUES)
    if not isinstance(document, dict):
        raise RequestError(400, "the request must be a JSON object with inputs")
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise RequestError(400, f"the request must have one input, {INPUT}")
    crops = _crops(inputs[0], memoryview(body)[split:], card, limits)
    given = document.get("id")
    if given is not None and not (isinstance(given, str) and len(given) <= _LONGEST_ID):
        raise RequestError(400, f"the id must be a string of at most {_LONGEST_ID} characters")
    return Inference(crops, _outputs(document, card), given)


def write(
    request: Inference, answers: Mapping[str, NDArray[np.float32]], card: Card
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the bytes of its JSON if binary data follow.

    Args:
        request: The request.
        answers: Probabilities `(n, labels)` by head.
        card: The model's card.
    """
    listed, binary = [], []
    for output in request.outputs:
        answer = answers[output.head]
        tensor: dict[str, Any] = {"name": output.name, "datatype": "FP32", "shape": list(answer.shape)}
        if output.binary:
            content = answer.astype("<f4", copy=False).tobytes()
            tensor["parameters"] = {"binary_data_size": len(content)}
            binary.append(content)
        else:
            tensor["data"] = answer.ravel().tolist()
        listed.append(tensor)
    document: dict[str, Any] = {"model_name": card.name, "model_version": VERSION, "outputs": listed}
    if request.id is not None:
        document["id"] = request.id
    text = json.dumps(document, separators=(",", ":")).encode()
    return b"".join((text, *binary)), len(text) if binary else None


def _crops(tensor: dict[str, Any], binary: memoryview, card: Card, limits: Limits) -> NDArray[np.uint8]:
    if tensor.get("name") != INPUT:
        raise RequestError(400, f"the input is {quote(str(tensor.get('name')))}; it must be {INPUT}")
    _refuse_shared_memory(tensor)
    if tensor.get("datatype") != DATATYPE:
        raise RequestError(
            400, f"the input {INPUT} is {quote(str(tensor.get('datatype')))}; it must be {DATATYPE}, 0 to 255"
        )
    shape, wanted = tensor.get("shape"), [card.size, card.size, 1]
    if not (
        isinstance(shape, list)
        and len(shape) == 4
        and all(type(side) is int for side in shape)
        and shape[1:] == wanted
        and shape[0] >= 1
    ):
        raise RequestError(
            400, f"the shape of {INPUT} must be [n, {card.size}, {card.size}, 1] with n of 1 or more"
        )
    if shape[0] > limits.crops:
        raise RequestError(
            413, f"the request has more than {limits.crops} crops; send them in several requests"
        )
    count = math.prod(shape)
    parameters = tensor.get("parameters", {})
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None:
        if size != count or type(size) is not int or len(binary) != count:
            raise RequestError(400, f"{INPUT} has {len(binary)} bytes; its shape needs {count}")
        return np.frombuffer(binary, np.uint8).reshape(shape)
    if len(binary):
        raise RequestError(400, f"{INPUT} has no binary_data_size, but {len(binary)} bytes follow the JSON")
    try:
        values = np.asarray(tensor.get("data"))
    except ValueError:
        raise RequestError(400, f"the data of {INPUT} are lists of different lengths") from None
    if values.dtype.kind not in "iu" or values.size != count:
        raise RequestError(400, f"the data of {INPUT} must be {count} whole numbers, as its shape says")
    if values.min() < 0 or values.max() > 255:
        raise RequestError(400, f"the data of {INPUT} must be from 0 to 255")
    return values.astype(np.uint8).reshape(shape)


def _outputs(document: dict[str, Any], card: Card) -> tuple[Output, ...]:
    heads = {head.output: name for name, head in card.heads.items()}
    default = _parameter(document, "binary_data_output")
    asked = document.get("outputs")
    if asked is None or asked == []:
        return tuple(Output(name, head, default) for name, head in heads.items())
    if not isinstance(asked, list) or len(asked) > len(heads):
        raise RequestError(400, f"the outputs must be a list with some of {', '.join(heads)}")
    found = []
    for each in asked:
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(name, str) or name not in heads:
            raise RequestError(
                400, f"the output {quote(str(name))} does not exist; there is {', '.join(heads)}"
            )
        _refuse_shared_memory(each)
        if _parameter(each, "classification"):
            raise RequestError(400, "the extension of classification is not supported; ask for probabilities")
        found.append(Output(name, heads[name], _parameter(each, "binary_data", default=default)))
    return tuple(found)


def _refuse_shared_memory(tensor: dict[str, Any]) -> None:
    if _parameter(tensor, "shared_memory_region"):
        raise RequestError(400, "the extension of shared memory is not supported; send the data")


def _parameter(document: dict[str, Any], name: str, *, default: bool = False) -> bool:
    parameters = document.get("parameters", {})
    return bool(parameters.get(name, default)) if isinstance(parameters, dict) else default
