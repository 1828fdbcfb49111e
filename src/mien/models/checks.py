"""Check the bytes of an ONNX file: whether a runtime can load it safely, and whether its checksums match.

An ONNX file is one protobuf message. Reading the few fields that matter here needs no package and happens
before any other program sees the bytes. The checks list what a model file may contain, not what it may not.

`write_card` puts three entries into the file's metadata: the card, the SHA-256 of the model, which is all of
the file except its metadata, and the SHA-256 of the card's text. So other programs may add metadata of their
own. A file with a card and without hashes is read without this check.

Source: onnx/onnx, `onnx.proto` (field numbers); protobuf.dev/programming-guides/encoding.
"""

import hashlib
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError

#: Operations that a model file may use. None of them makes a tensor of a size that is not in the file, runs
#: a part of the graph again, or reads anything but its inputs.
OPERATIONS = frozenset(
    (
        *("Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv", "DequantizeLinear"),
        *("Div", "Elu", "Flatten", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid"),
        *("HardSwish", "Identity", "LeakyRelu", "MatMul", "MaxPool", "Mul", "PRelu", "QuantizeLinear"),
        *("ReduceMean", "Relu", "Reshape", "Sigmoid", "Slice", "Softmax", "Sub", "Tanh", "Transpose"),
    )
)
#: Largest number in an operation's attributes: kernel sides, strides, pads, axes, groups.
MAX_ATTRIBUTE = 1 << 16
MAX_PAD = 256
MAX_NODES = 10_000

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_Field = tuple[int, int | memoryview]


def read_entry(model: bytes, key: str) -> bytes | None:
    """Return the value of `key` in the metadata of the file, or None.

    Raises:
        ModelError: The bytes are not a protobuf message.
    """
    for number, value in fields(memoryview(model)):
        if number == 14 and isinstance(value, memoryview):
            entry = dict(fields(value))
            if _bytes(entry.get(1)) == key.encode():
                return _bytes(entry.get(2))
    return None


def write_entry(model: bytes, key: str, value: bytes) -> bytes:
    """Return the file with `value` as the value of `key` in its metadata.

    Raises:
        ModelError: The bytes are not a protobuf message.
    """
    kept = bytearray()
    start = 0
    for number, content, end in _spans(memoryview(model)):
        entry = dict(fields(content)) if number == 14 and isinstance(content, memoryview) else {}
        if _bytes(entry.get(1)) != key.encode():
            kept += model[start:end]
        start = end
    return bytes(kept) + _message(14, _message(1, key.encode()) + _message(2, value))


def but_metadata(model: bytes) -> Iterator[memoryview]:
    """Yield the bytes of every field of the file, in order, except its metadata.

    Raises:
        ModelError: The bytes are not a protobuf message.
    """
    start, whole = 0, memoryview(model)
    for number, _, end in _spans(whole):
        if number != 14:
            yield whole[start:end]
        start = end


def check(model: bytes) -> None:
    """Check that the file is one plain graph of allowed operations with all of its weights.

    Raises:
        ModelError: It is not an ONNX file, or contains what a model file may not.
    """
    graphs = 0
    for number, value in fields(memoryview(model)):
        if number in (20, 25):
            raise ModelError("the model file has functions of its own; it must have one plain graph")
        if number == 7 and isinstance(value, memoryview):
            graphs += 1
            _check_graph(value, len(model))
    if graphs != 1:
        raise ModelError(f"the model file has {graphs} graphs instead of one; it is damaged")


def _check_graph(graph: memoryview, limit: int) -> None:
    nodes = 0
    for number, value in fields(graph):
        if number == 15:
            raise ModelError("the model file has sparse weights; it must have dense ones")
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            nodes += 1
            _check_node(value, limit)
        elif number == 5:
            _check_tensor(value, limit)
    if nodes > MAX_NODES:
        raise ModelError(f"the model has {nodes} operations; at most {MAX_NODES} are allowed")


def _check_node(node: memoryview, limit: int) -> None:
    for number, value in fields(node):
        if number == 4 and text(value) not in OPERATIONS:
            raise ModelError(f"the model uses the operation {text(value)!r}, which is not allowed")
        if number == 7 and text(value) not in ("", "ai.onnx"):
            raise ModelError(f"the model uses custom operations of {text(value)!r}, which is not allowed")
        if number == 5 and isinstance(value, memoryview):
            _check_attribute(value, limit)


def _check_attribute(attribute: memoryview, limit: int) -> None:
    found = list(fields(attribute))
    largest = MAX_PAD if any(n == 1 and text(v) == "pads" for n, v in found) else MAX_ATTRIBUTE
    for number, value in found:
        if number == 5 and isinstance(value, memoryview):
            _check_tensor(value, limit)
        elif number in (3, 8):
            for whole in integers(value):
                if not -largest <= whole <= largest:
                    raise ModelError(f"the model has the setting {whole}, above {largest}; it is damaged")
        elif number in (6, 9, 10, 11, 14, 15, 22, 23):
            raise ModelError("the model file has a graph inside an operation; it must have one plain graph")


def _check_tensor(tensor: memoryview, limit: int) -> None:
    elements = 1
    for number, value in fields(tensor):
        if number == 13 or (number == 14 and value != 0):
            raise ModelError("the model has weights in another file; the model file must contain all of them")
        if number == 1:
            for side in integers(value):
                elements *= side
                # Two 4-bit numbers share a byte; nothing packs denser.
                if not 0 <= elements <= 2 * limit:
                    raise ModelError("a weight is larger than the model file; it is damaged")


def text(value: int | memoryview) -> str:
    """Return a field of characters as text."""
    return bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else str(value)


def _bytes(value: int | memoryview | None) -> bytes | None:
    return bytes(value) if isinstance(value, memoryview) else None


def integers(value: int | memoryview) -> Iterator[int]:
    """Yield signed 64-bit numbers from a field that holds one, or many packed."""
    place = 0
    if isinstance(value, int):
        yield value - (1 << 64) if value >> 63 else value
        return
    while place < len(value):
        number, place = _varint(value, place)
        yield number - (1 << 64) if number >> 63 else number


def fields(message: memoryview) -> Iterator[_Field]:
    """Yield (number, value) of a message's fields; a value is a whole number or bytes.

    Raises:
        ModelError: The bytes are not a protobuf message.
    """
    for number, value, _ in _spans(message):
        yield number, value


def _spans(message: memoryview) -> Iterator[tuple[int, int | memoryview, int]]:
    """Yield (number, value, end) of every field; a group, which ONNX does not use, counts as damage."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        # Others cut longer tags to 32 bits, and would see another field than this walk does.
        if not 8 <= tag < 1 << 32:
            raise ModelError("the model file is not ONNX, or it is damaged")
        value: int | memoryview
        if kind == _VARINT:
            value, place = _varint(message, place)
        elif kind in (_BYTES, _FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
            if kind == _BYTES:
                length, place = _varint(message, place)
            value = message[place : place + length]
            if len(value) != length:
                raise ModelError("the model file is incomplete")
            place += length
        else:
            raise ModelError("the model file is not ONNX, or it is damaged")
        yield tag >> 3, value, place


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & ((1 << 64) - 1), place
    raise ModelError("the model file is not ONNX, or it is damaged")


def _message(number: int, content: bytes) -> bytes:
    return _encode(number << 3 | _BYTES) + _encode(len(content)) + content


def _encode(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


#: Keys of the card and of the two hashes.
KEY, MODEL_KEY, CARD_KEY = "mien.card", "mien.sha256.model", "mien.sha256.card"


def read_weights(model: bytes, name: str) -> NDArray[np.float32]:
    """Return weights of a model file by their name, in float32 also if the file has them in int8.

    Raises:
        ModelError: No weights have this name, or they are not as large as the file says.
    """
    found: dict[str, memoryview] = {}
    for number, graph in fields(memoryview(model)):
        for field, tensor in fields(graph) if number == 7 and isinstance(graph, memoryview) else ():
            if field == 5 and isinstance(tensor, memoryview):
                found |= {text(value): tensor for key, value in fields(tensor) if key == 8}
    if name in found:
        return _array(found[name], "<f4", name)
    whole, scale = found.get(f"{name}/int8"), found.get(f"{name}/scale")
    if whole is None or scale is None:
        raise ModelError(f"the model has no weights {name!r}, which its card names; export it again")
    weights: NDArray[np.float32] = _array(whole, "|i1", name) * _array(scale, "<f4", name)
    return weights


def _array(tensor: memoryview, kind: str, name: str) -> NDArray[np.float32]:
    sides = [side for number, value in fields(tensor) if number == 1 for side in integers(value)]
    raw = next((value for number, value in fields(tensor) if number == 9), b"")
    if isinstance(raw, int) or len(raw) != math.prod(sides) * np.dtype(kind).itemsize:
        raise ModelError(f"the model's weights {name!r} are not as large as the file says; it is damaged")
    return np.frombuffer(raw, kind).reshape(sides).astype(np.float32)


def write_card(model: bytes, card: bytes) -> bytes:
    """Return the file with `card` and the hashes inside, replacing those that it had.

    Raises:
        ModelError: The bytes are not a protobuf message.
    """
    entries = {KEY: card, MODEL_KEY: _model_hash(model), CARD_KEY: _hash(card)}
    for key, value in entries.items():
        model = write_entry(model, key, value)
    return model


def read_card(model: bytes, name: str) -> bytes:
    """Return the card inside a file after a check that the file is unchanged.

    Args:
        model: The file's bytes.
        name: Its name, for messages.

    Raises:
        ModelError: The bytes are not a protobuf message, hold no card, or are not those that were written.
    """
    try:
        card, *kept = (read_entry(model, key) for key in (KEY, MODEL_KEY, CARD_KEY))
        own = _model_hash(model)
    except ModelError as error:
        raise ModelError(f"{name!r} is not a model file: {error}") from None
    if kept != [None, None]:
        of_model, of_card = kept
        if of_model != own:
            raise _changed(name, "the checksum of its model does not match")
        if card is None or of_card != _hash(card):
            raise _changed(name, "the checksum of its card does not match")
    if card is None:
        raise ModelError(f"{name!r} has no model card; export the model with mien export")
    return card


def _model_hash(model: bytes) -> bytes:
    return _hash(*but_metadata(model))


def _hash(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest().encode()


def _changed(name: str, what: str) -> ModelError:
    return ModelError(f"{name!r} is damaged or was changed: {what}; download it or export it again")
