"""What an explanation needs of an ONNX file: the weights of an answer, and where a feature cell looks.

Both are read from the file itself, so that a bundle explains itself without the program that trained it.

Source: onnx/onnx, `onnx.proto` (field numbers).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError
from mien.models import checks as onnx_file

#: Nodes that keep every value in its place.
_SAME = frozenset(
    (
        *("Add", "BatchNormalization", "Cast", "Clip", "Concat", "DequantizeLinear", "Div", "Elu", "Gelu"),
        *("HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mul", "PRelu", "QuantizeLinear", "Relu"),
        *("Sigmoid", "Sub", "Tanh"),
    )
)
_ROUNDED = ("QuantizeLinear", "DequantizeLinear", "Identity")
_WINDOWS = ("Conv", "MaxPool", "AveragePool")
#: Numbers of ONNX's element types that a bundle's weights have, as NumPy spells them, little-endian.
_TYPES = {1: "<f4", 2: "|u1", 3: "|i1", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}


@dataclass(frozen=True)
class Dense:
    """The weights that make an answer of the mean features.

    Args:
        weights: `(channels, labels)` float32; logit = mean feature @ weights + bias.
        bias: `(labels,)` float32.
        temperature: What logits are divided by before the softmax.
        offsets: `(labels,)` float32, added to the divided logits.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    temperature: float
    offsets: NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Where the cells of the feature map look: the middle of cell i lies at `first + step * i`.

    Args:
        first: Of rows and columns, in pixels of the input; a pixel's middle is its whole number.
        step: Of rows and columns, in pixels of the input.
    """

    first: tuple[float, float]
    step: tuple[float, float]


@dataclass(frozen=True)
class _Node:
    kind: str
    inputs: tuple[str, ...]
    settings: dict[str, Any]


class Graph:
    """The nodes and constants of a bundle's ONNX file.

    Args:
        model: The file's bytes, which a bundle has checked.

    Raises:
        ModelError: They are no ONNX file.
    """

    def __init__(self, model: bytes) -> None:
        self._producers: dict[str, _Node] = {}
        self._tensors: dict[str, NDArray[Any]] = {}
        for graph in _messages(memoryview(model), 7):
            for message in _messages(graph, 1):
                self._add(message)
            for message in _messages(graph, 5):
                name, values = _tensor(message)
                if values is not None:
                    self._tensors[name] = values

    def dense(self, output: str) -> Dense | None:
        """Return the weights of an answer that is dense over the mean of the features; None for others.

        Args:
            output: The ONNX name of the probabilities.
        """
        softmax = self._producers.get(output)
        if softmax is None or softmax.kind != "Softmax":
            return None
        temperature, offsets = 1.0, np.zeros(1, np.float32)
        node = self._producers.get(softmax.inputs[0])
        if node is not None and node.kind == "Add":
            added = self._constant(node.inputs[1])
            if added is None:
                return None
            offsets, node = added, self._producers.get(node.inputs[0])
        if node is not None and node.kind == "Div":
            divisor = self._constant(node.inputs[1])
            if divisor is None or divisor.size != 1:
                return None
            temperature, node = float(divisor.reshape(())), self._producers.get(node.inputs[0])
        if node is None or node.kind != "Gemm" or not self._is_mean_of_features(node.inputs[0]):
            return None
        weights = self._constant(node.inputs[1])
        bias = self._constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1)
        plain = all(node.settings.get(name, 1.0) == 1.0 for name in ("alpha", "beta"))
        if weights is None or bias is None or not plain or node.settings.get("transA"):
            return None
        weights = weights.T if node.settings.get("transB") else weights
        bias, offsets = (np.broadcast_to(each, weights.shape[1:]) for each in (bias, offsets))
        return Dense(
            weights.astype(np.float32), bias.astype(np.float32), temperature, offsets.astype(np.float32)
        )

    def grid(self) -> Grid | None:
        """Return where the feature cells look; None where the graph does not tell.

        A window of side k and stride s that begins p pixels before the map looks at (k - 1) / 2 - p first,
        then every s. Where ways of different reach are added, the middle of their middles counts.
        """
        features = self._producers.get("features")
        if features is None or features.kind != "Transpose":
            return None
        found: dict[str, tuple[NDArray[Any], NDArray[Any]] | None] = {}
        places = self._place(features.inputs[0], found)
        if places is None:
            return None
        first, step = places
        return Grid((float(first[0]), float(first[1])), (float(step[0]), float(step[1])))

    def _place(self, name: str, found: dict[str, Any]) -> tuple[NDArray[Any], NDArray[Any]] | None:
        if name == "images":
            return np.zeros(2), np.ones(2)
        if name not in found:
            found[name] = self._place_behind(name, found)
        place: tuple[NDArray[Any], NDArray[Any]] | None = found[name]
        return place

    def _place_behind(self, name: str, found: dict[str, Any]) -> tuple[NDArray[Any], NDArray[Any]] | None:
        node = self._producers.get(name)
        if node is None:
            return None
        if node.kind in _SAME:
            ways = [self._place(each, found) for each in node.inputs if self._constant(each) is None]
            before = [way for way in ways if way is not None]
            if not before or len(before) < len(ways) or any((way[1] != before[0][1]).any() for way in before):
                return None
            return np.mean([way[0] for way in before], axis=0), before[0][1]
        behind = self._place(node.inputs[0], found)
        if behind is None or (node.kind == "Transpose" and node.settings.get("perm") != [0, 3, 1, 2]):
            return None
        if node.kind == "Transpose":
            return behind
        first, step = behind
        if node.kind == "Slice":
            starts, axes = self._constant(node.inputs[1]), self._constant(node.inputs[3])
            if starts is None or axes is None or list(axes) != [2, 3] or (starts < 0).any():
                return None
            return first + starts * step, step
        if node.kind not in _WINDOWS or "kernel_shape" not in node.settings:
            return None
        sides = np.array(node.settings["kernel_shape"])
        reach = (sides - 1) * np.array(node.settings.get("dilations", [1, 1]))
        pads = np.array(node.settings.get("pads", [0, 0, 0, 0])[:2])
        return first + (reach / 2 - pads) * step, step * np.array(node.settings.get("strides", [1, 1]))

    def _is_mean_of_features(self, name: str) -> bool:
        pooled = self._producers.get(self._behind(name, (*_ROUNDED, "Flatten")))
        features = self._producers.get("features")
        if pooled is None or pooled.kind != "GlobalAveragePool" or features is None:
            return False
        if features.kind != "Transpose" or features.settings.get("perm") != [0, 2, 3, 1]:
            return False
        return self._behind(pooled.inputs[0], _ROUNDED) == self._behind(features.inputs[0], _ROUNDED)

    def _behind(self, name: str, kinds: tuple[str, ...]) -> str:
        node = self._producers.get(name)
        while node is not None and node.kind in kinds:
            name = node.inputs[0]
            node = self._producers.get(name)
        return name

    def _constant(self, name: str) -> NDArray[Any] | None:
        """Return a weight of the file, as floats where it is kept in int8."""
        if name in self._tensors:
            return self._tensors[name]
        node = self._producers.get(name)
        if node is None or node.kind != "DequantizeLinear":
            return None
        parts = [self._tensors.get(each) for each in node.inputs]
        if any(part is None for part in parts):
            return None
        whole, scale, *zero = (np.asarray(part, np.float32) for part in parts)
        offset = zero[0] if zero else np.float32(0)
        if scale.size > 1:
            shape = [1] * whole.ndim
            shape[node.settings.get("axis", 1) if whole.ndim > 1 else 0] = scale.size
            scale, offset = scale.reshape(shape), np.broadcast_to(offset, scale.shape).reshape(shape)
        floats: NDArray[Any] = (whole - offset) * scale
        return floats

    def _add(self, message: memoryview) -> None:
        inputs, outputs, kind, settings = [], [], "", {}
        for number, value in onnx_file.fields(message):
            if number == 1:
                inputs.append(onnx_file.text(value))
            elif number == 2:
                outputs.append(onnx_file.text(value))
            elif number == 4:
                kind = onnx_file.text(value)
            elif number == 5 and isinstance(value, memoryview):
                name, setting = _setting(value)
                settings[name] = setting
        node = _Node(kind, tuple(inputs), settings)
        self._producers.update(dict.fromkeys(outputs, node))


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, value in onnx_file.fields(message):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _setting(message: memoryview) -> tuple[str, Any]:
    """Return an attribute's name and value: a whole number, a list of them or a fraction; None for others."""
    name, value = "", None
    wholes: list[int] = []
    for number, content in onnx_file.fields(message):
        if number == 1:
            name = onnx_file.text(content)
        elif number == 2 and isinstance(content, memoryview):
            value = float(np.frombuffer(content, "<f4")[0])
        elif number == 3:
            (value,) = onnx_file.integers(content)
        elif number == 8:
            wholes += onnx_file.integers(content)
    return name, wholes or value


def _tensor(message: memoryview) -> tuple[str, NDArray[Any] | None]:
    """Return a weight's name and values; None where they are not kept as raw bytes of a known type."""
    sides: list[int] = []
    kind, name, raw = 0, "", None
    for number, value in onnx_file.fields(message):
        if number == 1:
            sides += onnx_file.integers(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8:
            name = onnx_file.text(value)
        elif number == 9:
            raw = value
    if kind not in _TYPES or not isinstance(raw, memoryview):
        return name, None
    values = np.frombuffer(raw, _TYPES[kind])
    if values.size != int(np.prod(sides, dtype=np.int64)):
        raise ModelError(f"the model's weight {name!r} is not as large as it says; it is damaged")
    return name, values.reshape(sides)
