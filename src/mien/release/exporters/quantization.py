"""An int8 copy of a bundle's ONNX file: smaller, faster, and answering almost the same.

Convolutions, dense layers and what stands between them compute on uint8 activations and int8 weights; the
softmax, and the temperature before it, stay in float32. The copy is written with QuantizeLinear and
DequantizeLinear around each operation, which every ONNX runtime can run and ONNX Runtime fuses into int8
kernels. It is for running: what was rounded away cannot be trained further.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.errors import ModelError
from mien.evaluation.evaluation import Quantization
from mien.models import checks as onnx_file
from mien.release.exporters import quantization_ranges as int8_round
from mien.release.exporters.onnx_folding import KERNELS, Array, Net, simplify
from mien.release.exporters.quantization_ranges import LARGEST, Inputs

#: Share of images on which an int8 copy must answer as the float32 file does, to be shipped in its place.
AGREEMENT = 0.985
#: Largest share of images by which it may name fewer right.
LOSS = 0.003

#: Operations between kernels that ONNX Runtime computes in int8.
_BETWEEN = frozenset(("Add", "AveragePool", "Concat", "GlobalAveragePool", "Mul", "Sigmoid"))
#: Operations that move values and change none, so that what they give has the range of what they take.
_MOVES = frozenset(("Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Transpose"))
#: Operations that are one with the kernel before them.
_FUSED = frozenset(("Clip", "Relu"))

_Scale = tuple[np.float32, np.uint8]


def acceptable(
    float_probabilities: npt.NDArray[np.floating[Any]],
    int8_probabilities: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.integer[Any]],
) -> Quantization:
    """Judge whether an int8 copy may ship in its float32 file's place.

    Args:
        float_probabilities: The file's answers, `(n, k)`.
        int8_probabilities: The copy's on the same images, `(n, k)`.
        labels: `(n,)` numbers in [0, k).

    Raises:
        ModelError: There are no images, or shapes do not fit together.
    """
    n = len(labels)
    shape = float_probabilities.shape
    if n == 0 or len(shape) != 2 or shape[0] != n or int8_probabilities.shape != shape:
        raise ModelError(
            f"answers of shapes {shape} and {int8_probabilities.shape} do not fit {n} labels; "
            "both files must be asked about the same labelled images"
        )
    before, after = float_probabilities.argmax(axis=1), int8_probabilities.argmax(axis=1)
    agreed = int((before == after).sum())
    right, still = int((before == labels).sum()), int((after == labels).sum())
    return Quantization(
        n=n,
        agreement=agreed / n,
        accuracy_float32=right / n,
        accuracy_int8=still / n,
        accepted=agreed >= AGREEMENT * n and right - still <= LOSS * n,
    )


def quantise(
    file: bytes,
    images: npt.NDArray[np.uint8],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> bytes:
    """Return an int8 copy of a model, with the same input, outputs and metadata.

    Weights are int8, 7 bits of it, with a scale for each output channel; activations are uint8 with a scale
    each. Ranges and rounding are chosen on `images`; 512 of them are enough, and take some seconds.

    Args:
        file: The bytes of a float32 bundle's `model.onnx`.
        images: Training images `(n, size, size, 1)` uint8 in [0, 255]; never those it will be judged on.
        progress: Called with (images done, images in all).

    Raises:
        ModelError: The file is no ONNX file a bundle may hold, is an int8 copy already or has nothing to
            quantise; or the images are none or of another shape.
        MissingExtra: onnx is not installed.

    Source: Jacob et al. 2018, arXiv:1712.05877; the rounding's sources stand in `int8_round`.
    """
    onnx_file.check(file)
    net = Net(file)
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in net.nodes):
        raise ModelError("the model is an int8 copy already; give the float32 file that it was made of")
    sides = [side.dim_value for side in net.proto.graph.input[0].type.tensor_type.shape.dim[1:]]
    if not len(images) or images.dtype != np.uint8 or list(images.shape[1:]) != sides:
        raise ModelError(
            f"an int8 copy is made with uint8 images of shape {('n', *sides)}, "
            f"not {images.dtype} of shape {images.shape}"
        )
    simplify(net)
    plan = _Plan(net)
    if not plan.kernels:
        raise ModelError("the model has no convolution or dense layer, so there is nothing to make int8")
    ranges, inputs = int8_round.observe(net, plan.measured, plan.kernels, images, progress=progress)
    scales = plan.known | {name: range_.scale() for name, range_ in ranges.items()}
    _write(net, plan, scales, inputs)
    net.onnx.checker.check_model(net.onnx.load_from_string(content := net.serialise()))
    return content


class _Plan:
    """What of a network becomes int8: `kernels`, and the activations that are rounded.

    `rounded` are all of these activations; `source` leads from one that was only moved to the one it was
    moved from, which has the same range; `known` have their scales already, `measured` need some.
    """

    def __init__(self, net: Net) -> None:
        self.kernels = [node for node in net.nodes if _is_kernel(net, node)]
        after, before = _reach(net, self.kernels)
        rounded: dict[str, None] = {}
        self.source: dict[str, str] = {}
        for node in net.nodes:
            inner = node.output[0] in before and all(
                name in after for name in node.input if name not in net.constants
            )
            if node.op_type in _MOVES and inner:
                self.source[node.output[0]] = node.input[0]
                rounded[node.input[0]] = None
            elif node.op_type in _BETWEEN and inner and not any(name in net.constants for name in node.input):
                rounded |= dict.fromkeys(node.input)
        for node in self.kernels:
            rounded[node.input[0]] = None
            name = node.output[0]
            # Without a rounding right behind it, a kernel is computed in float32.
            while len(then := net.consumers(name)) == 1 and then[0].op_type in _FUSED:
                name = then[0].output[0]
            if name in before:
                rounded[name] = None
        self.rounded = list(rounded)
        self.known = {
            node.output[0]: (np.float32(net.constants[node.input[1]]), np.uint8(net.constants[node.input[2]]))
            for node in net.nodes
            if node.op_type == "DequantizeLinear"
        }
        roots = dict.fromkeys(self.root(name) for name in self.rounded)
        self.measured = [name for name in roots if name not in self.known]

    def root(self, name: str) -> str:
        """Return the activation whose range `name` has."""
        while name in self.source:
            name = self.source[name]
        return name


def _is_kernel(net: Net, node: Any) -> bool:
    if node.op_type not in KERNELS or any(name not in net.constants for name in node.input[1:]):
        return False
    settings = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0} | net.settings(node)
    return node.op_type == "Conv" or list(settings.values()) == [0, 0, 1.0, 1.0]


def _reach(net: Net, kernels: list[Any]) -> tuple[set[str], set[str]]:
    """Return the activations that come after some kernel, and those that go into one."""
    outputs = {node.output[0] for node in kernels}
    after, before = set[str](), set[str]()
    for node in net.nodes:
        if node.output[0] in outputs or any(name in after for name in node.input):
            after.update(node.output)
    for node in reversed(net.nodes):
        if node.output[0] in outputs or any(name in before for name in node.output):
            before.update(name for name in node.input if name not in net.constants)
    return after, before


def _write(net: Net, plan: _Plan, scales: dict[str, _Scale], inputs: dict[str, Inputs]) -> None:
    """Put the roundings into the graph."""
    nodes: list[Any] = []
    rounded: dict[str, str] = {}
    for node in net.nodes:
        takes = [rounded.get(name, name) for name in node.input]
        if any(node is kernel for kernel in plan.kernels):
            step = float(scales[plan.root(node.input[0])][0])
            takes = [takes[0], *_write_weights(net, nodes, node, step, inputs.get(node.output[0]))]
        nodes.append(net.node(node.op_type, takes, node.output[0], **net.settings(node)))
        for name in node.output:
            if name in plan.known:
                continue
            if name in plan.rounded:
                root = plan.root(name)
                constants = _constants(net, root, *map(np.array, scales[root]))
                nodes.append(net.node("QuantizeLinear", [name, *constants], f"{name}/int8"))
                nodes.append(net.node("DequantizeLinear", [f"{name}/int8", *constants], f"{name}/float"))
                rounded[name] = f"{name}/float"
    net.nodes = nodes


def _write_weights(net: Net, nodes: list[Any], kernel: Any, step: float, inputs: Inputs | None) -> list[str]:
    """Round a kernel's weights and bias, and return the names under which it finds them."""
    axis = 0 if kernel.op_type == "Conv" else 1
    weights = np.moveaxis(net.constants[kernel.input[1]].astype(np.float64), axis, 0)
    flat = weights.reshape(len(weights), -1)
    bias = net.constants[kernel.input[2]].astype(np.float64) if len(kernel.input) > 2 else np.zeros(len(flat))
    # A bias is counted in steps of activation times weight, in 32 bits: of a channel with next to no weights
    # those steps would be too small to count it in.
    scales = np.maximum.reduce([np.abs(flat).max(axis=1) / LARGEST, np.abs(bias) / (step * 2**30)])
    scales = np.maximum(scales, 1e-12).astype(np.float32).astype(np.float64)
    whole, shift = int8_round.round_weights(flat, scales, inputs)
    whole = np.moveaxis(whole.reshape(weights.shape), 0, axis)
    steps = (scales * step).astype(np.float32)
    counted = np.clip(np.round((bias + shift) / steps), -(2**31) + 1, 2**31 - 1)
    names = []
    for name, value, scale, place in (
        (kernel.input[1], whole.astype(np.int8), scales.astype(np.float32), axis),
        (f"{kernel.output[0]}.bias", counted.astype(np.int32), steps, 0),
    ):
        net.constants[f"{name}/int8"] = value
        constants = _constants(net, name, scale, np.zeros(len(scale), value.dtype))
        output = f"{name}/float"
        nodes.append(net.node("DequantizeLinear", [f"{name}/int8", *constants], output, axis=place))
        names.append(output)
    return names


def _constants(net: Net, name: str, scale: Array, zero: Array) -> tuple[str, str]:
    """Keep the scale and zero point of `name`, and return their names."""
    net.constants |= {f"{name}/scale": scale, f"{name}/zero": zero}
    return f"{name}/scale", f"{name}/zero"
