"""Make an int8 copy of a model's ONNX file: smaller, faster, and with almost the same predictions.

Convolutions, dense layers and the operations between them compute on uint8 activations and int8 weights; the
softmax, and the temperature before it, stay in float32. The copy has QuantizeLinear and DequantizeLinear
around each operation, which every ONNX runtime can run and ONNX Runtime fuses into int8 kernels. It is for
inference: its rounded weights cannot be trained further.

Three steps: fold normalization and rescaling into the convolutions, observe activations on calibration
images, round weights so that the output of their layer changes least. Why not `onnxruntime.quantization`:
docs/decisions/0012-int8.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from mien.errors import MissingExtra, ModelError
from mien.evaluation.evaluation import Quantization
from mien.models import checks

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

#: Largest whole number of a weight. Processors without VNNI add two products of an activation (0 to 255) and
#: a weight in 16 bits: 2 × 255 × 64 fits, 2 × 255 × 127 does not, and what does not is cut off without a
#: word. With 64 every processor computes the same (measured: docs/lab-book/29-int8-fusion.md).
LARGEST = 64
#: Images run at once; every activation of a batch is held in memory.
BATCH = 8
#: Windows of an image that are looked at in each convolution, and values in each activation.
WINDOWS, VALUES = 24, 256
#: Share of the mean square that is added to every input's own, so that inputs which are always 0 do no harm.
DAMPING = 0.01
#: Columns rounded before what they leave is spread over the rest; it changes speed, never the result.
BLOCK = 128

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
#: Operations with weights of their own: input 0 is an activation, 1 the weights, 2 the bias.
KERNELS = ("Conv", "Gemm")
#: How mien's networks begin; a crop may be anywhere between.
_RESCALING = ["Cast", "Transpose", "Mul", "Add", "Conv"]
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
        ModelError: There are 0 images, or the shapes do not match.
    """
    n = len(labels)
    shape = float_probabilities.shape
    if n == 0 or len(shape) != 2 or shape[0] != n or int8_probabilities.shape != shape:
        raise ModelError(
            f"probabilities of shapes {shape} and {int8_probabilities.shape} do not fit {n} labels; both "
            "must be for the same labelled images"
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
    file: bytes, images: npt.NDArray[np.uint8], *, progress: Callable[[int, int], None] | None = None
) -> bytes:
    """Return an int8 copy of a model, with the same input, outputs and metadata.

    Weights are int8, of which they use 7 bits, with a scale for each output channel; activations are uint8
    with a scale each. `images` decide ranges and rounding; 512 are enough and take some seconds.

    Args:
        file: The bytes of a float32 model file.
        images: Training images `(n, size, size, 1)` uint8 in [0, 255]; never those that it is measured on.
        progress: Called with (images done, images in all).

    Raises:
        ModelError: The file is not a valid model file, is an int8 copy already or has nothing to quantize; or
            there are 0 images or they have another shape.
        MissingExtra: onnx is not installed.

    Source: Jacob et al. 2018, arXiv:1712.05877; for the rounding see `round_weights`.
    """
    checks.check(file)
    net = Net(file)
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in net.nodes):
        raise ModelError("the model is already int8; give the float32 file that it was made from")
    sides = [side.dim_value for side in net.proto.graph.input[0].type.tensor_type.shape.dim[1:]]
    if not len(images) or images.dtype != np.uint8 or list(images.shape[1:]) != sides:
        raise ModelError(
            f"quantization needs uint8 images of shape {('n', *sides)}, not {images.dtype} of shape "
            f"{images.shape}"
        )
    simplify(net)
    plan = _Plan(net)
    if not plan.kernels:
        raise ModelError("the model has no convolution or dense layer, so there is nothing to quantize")
    ranges, inputs = observe(net, plan.measured, plan.kernels, images, progress=progress)
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
    whole, shift = round_weights(flat, scales, inputs)
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


@dataclass
class Range:
    """What values an activation took: the smallest and largest of all, never beyond 0, and some between."""

    low: float = 0.0
    high: float = 0.0
    some: list[Array] = field(default_factory=list)

    def add(self, values: Array, random: np.random.Generator) -> None:
        """Take note of one batch."""
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        places = random.integers(0, values.size, VALUES * len(values))
        self.some.append(values.reshape(-1)[places])

    def scale(self) -> tuple[np.float32, np.uint8]:
        """Return the step and the zero point whose rounding and clipping cost the least squared error."""
        if self.high == self.low:
            return np.float32(1.0), np.uint8(0)
        values = np.concatenate(self.some).astype(np.float64)
        best, chosen = np.inf, (np.float32(1.0), np.uint8(0))
        for share in np.linspace(0.3, 1.0, 36):
            step = np.float32((self.high - self.low) * share / 255)
            zero = round(-self.low * share / float(step))
            kept = (np.clip(np.round(values / step) + zero, 0, 255) - zero) * step
            error = float(((kept - values) ** 2).sum())
            if error < best:
                best, chosen = error, (step, np.uint8(zero))
        return chosen


@dataclass
class Inputs:
    """What a kernel is given: the sum of its inputs, of their products with each other, and their number."""

    sums: Floats
    products: Floats
    n: int = 0

    def add(self, rows: Array) -> None:
        """Take note of `(n, inputs)` rows, one a window."""
        self.sums += rows.sum(axis=0, dtype=np.float64)
        self.products += rows.T @ rows
        self.n += len(rows)


def observe(
    net: Net,
    activations: Sequence[str],
    kernels: Sequence[Any],
    images: npt.NDArray[np.uint8],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Range], dict[str, Inputs]]:
    """Run the network in float32 and take note of what goes through it.

    Args:
        net: The network; its activations are looked at by name.
        activations: Those that need a range.
        kernels: Nodes whose inputs are looked at as well; grouped convolutions are passed over.
        images: `(n, size, size, 1)` uint8.
        progress: Called with (images done, images in all).

    Returns:
        A range by activation, and what goes into a kernel by the name of its output.
    """
    names = list(dict.fromkeys([*activations, *(node.input[0] for node in kernels)]))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(net.serialise(names), options, providers=["CPUExecutionProvider"])
    (pixels,) = (each.name for each in session.get_inputs())
    random = np.random.default_rng(0)
    ranges, inputs = {name: Range() for name in activations}, dict[str, Inputs]()
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        values = dict(zip(names, session.run(names, {pixels: batch}), strict=True))
        for name, range_ in ranges.items():
            range_.add(values[name], random)
        for node in kernels:
            rows = _rows(net, node, values[node.input[0]], random)
            if rows is not None:
                k = rows.shape[1]
                inputs.setdefault(node.output[0], Inputs(np.zeros(k), np.zeros((k, k)))).add(rows)
        if progress is not None:
            progress(start + len(batch), len(images))
    return ranges, inputs


def _rows(net: Net, node: Any, values: Array, random: np.random.Generator) -> Array | None:
    """Return what some windows of a convolution see, `(windows, inputs)`; a dense layer sees whole rows."""
    if node.op_type == "Gemm":
        return values
    usual: dict[str, Any] = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "group": 1}
    settings = usual | net.settings(node)
    if settings["group"] != 1:
        return None
    top, left, bottom, right = settings["pads"]
    (down, across), (rate_y, rate_x) = settings["strides"], settings["dilations"]
    height, width = net.constants[node.input[1]].shape[2:]
    reach = ((height - 1) * rate_y + 1, (width - 1) * rate_x + 1)
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, ::down, ::across, ::rate_y, ::rate_x]
    n = WINDOWS * len(values)
    image, row, column = (random.integers(0, windows.shape[axis], n) for axis in (0, 2, 3))
    return windows[image, :, row, column].reshape(n, -1)


def round_weights(weights: Floats, scales: Floats, inputs: Inputs | None) -> tuple[Floats, Floats]:
    """Round weights to whole numbers of their scales, so that their sums over the inputs seen change least.

    Weights are rounded one input after another; what each leaves is made up for by the inputs not rounded
    yet, as far as they move together with it. What is left on the average goes into the bias.

    Args:
        weights: `(outputs, inputs)`.
        scales: `(outputs,)`, one step of each output's weights.
        inputs: What the weights are given; None rounds each weight to the nearest.

    Returns:
        Whole numbers `(outputs, inputs)` in ±64, and what to add to the bias `(outputs,)`.

    Source: Frantar et al. 2023, arXiv:2210.17323, algorithm 1; biases, Nagel et al. 2019, arXiv:1906.04721.
    """
    if inputs is None:
        return np.clip(np.round(weights / scales[:, None]), -LARGEST, LARGEST), np.zeros(len(weights))
    n_inputs = weights.shape[1]
    products = inputs.products / inputs.n
    products[np.diag_indices(n_inputs)] += DAMPING * np.diag(products).mean() + 1e-9
    spread = np.linalg.cholesky(np.linalg.inv(products)).T
    left, whole = weights.copy(), np.empty_like(weights)
    for start in range(0, n_inputs, BLOCK):
        end = min(start + BLOCK, n_inputs)
        errors = np.empty((len(weights), end - start))
        for index in range(start, end):
            whole[:, index] = np.clip(np.round(left[:, index] / scales), -LARGEST, LARGEST)
            error = (left[:, index] - whole[:, index] * scales) / spread[index, index]
            left[:, index:end] -= np.outer(error, spread[index, index:end])
            errors[:, index - start] = error
        left[:, end:] -= errors @ spread[start:end, end:]
    return whole, (weights - whole * scales[:, None]) @ (inputs.sums / inputs.n)


class Net:
    """An ONNX model taken apart.

    Args:
        file: Bytes that `checks.check` has passed.

    `nodes` are in an order in which they can run; `constants` are the initializers by name.
    """

    def __init__(self, file: bytes) -> None:
        try:
            import onnx
            import onnx.helper
            import onnx.numpy_helper
        except ImportError as error:
            raise MissingExtra("an int8 copy", "train") from error
        self.onnx = onnx
        self.proto = onnx.load_from_string(file)
        self.nodes: list[Any] = list(self.proto.graph.node)
        self.constants: dict[str, Array] = {
            tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in self.proto.graph.initializer
        }

    def producer(self, name: str) -> Any:
        """Return the node that gives `name`, or None."""
        return next((node for node in self.nodes if name in node.output), None)

    def consumers(self, name: str) -> list[Any]:
        """Return the nodes that take `name`."""
        return [node for node in self.nodes if name in node.input]

    def settings(self, node: Any) -> dict[str, Any]:
        """Return a node's attributes by name."""
        return {each.name: self.onnx.helper.get_attribute_value(each) for each in node.attribute}

    def node(self, kind: str, inputs: list[str], output: str, **settings: Any) -> Any:
        """Return a new node; it is in no graph yet."""
        return self.onnx.helper.make_node(kind, inputs, [output], name=output, **settings)

    def serialise(self, outputs: Iterable[str] | None = None) -> bytes:
        """Return the model's bytes, with other outputs where `outputs` names them."""
        proto = self.onnx.ModelProto()
        proto.CopyFrom(self.proto)
        graph = proto.graph
        del graph.node[:], graph.initializer[:]
        graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        graph.initializer.extend(
            self.onnx.numpy_helper.from_array(np.array(value, order="C"), name)
            for name, value in self.constants.items()
            if name in used
        )
        if outputs is not None:
            del graph.output[:]
            graph.output.extend(self.onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
        content: bytes = proto.SerializeToString()
        return content


def simplify(net: Net) -> None:
    """Fold normalisations, means and the pixels' rescaling into convolutions, where that is exact."""
    for node in list(net.nodes):
        if node.op_type == "BatchNormalization":
            _fold_normalisation(net, node)
    for node in list(net.nodes):
        if node.op_type == "AveragePool":
            _fold_mean(net, node)
    _fold_pixels(net)


def _own_weights(net: Net, node: Any) -> bool:
    """Whether the weights of `node` are constants that nothing else uses, so that they may change."""
    names = list(node.input[1:])
    return all(name in net.constants and len(net.consumers(name)) == 1 for name in names)


def _fold_normalisation(net: Net, norm: Any) -> None:
    """Scale and shift the kernel before instead."""
    before = net.producer(norm.input[0])
    if before is None or before.op_type not in KERNELS or len(net.consumers(norm.input[0])) != 1:
        return
    settings = net.settings(before)
    if not _own_weights(net, before) or (before.op_type == "Gemm" and settings):
        return
    gamma, beta, mean, variance = (net.constants[name].astype(np.float64) for name in norm.input[1:5])
    factor = gamma / np.sqrt(variance + net.settings(norm).get("epsilon", 1e-5))
    kernel, bias = before.input[1], before.input[2] if len(before.input) > 2 else f"{before.input[1]}.bias"
    shape = (-1, 1, 1, 1) if before.op_type == "Conv" else (1, -1)
    shift = net.constants.get(bias, np.zeros(1)) - mean
    net.constants[kernel] = (net.constants[kernel] * factor.reshape(shape)).astype(np.float32)
    net.constants[bias] = (beta + shift * factor).astype(np.float32)
    folded = net.node(before.op_type, [before.input[0], kernel, bias], norm.output[0], **settings)
    net.nodes[net.nodes.index(before)] = folded
    net.nodes.remove(norm)


def _fold_mean(net: Net, pool: Any) -> None:
    """Let the 1×1 convolution after a mean of pixels take the mean: more products, but one pass fewer."""
    after = net.consumers(pool.output[0])
    if len(after) != 1 or after[0].op_type != "Conv" or not _own_weights(net, after[0]):
        return
    (conv,), mean = after, net.settings(pool)
    kernel = net.constants[conv.input[1]]
    settings = {"group": 1, "strides": [1, 1], "pads": [0], **net.settings(conv)}
    plain = settings["group"] == 1 and list(settings["strides"]) == [1, 1] and not any(settings["pads"])
    # At a border a padded mean is over fewer pixels than elsewhere, which no one kernel can say.
    if kernel.shape[2:] != (1, 1) or not plain or any(mean.get("pads", ())) or mean.get("ceil_mode", 0):
        return
    sides = tuple(mean["kernel_shape"])
    net.constants[conv.input[1]] = np.tile(kernel / np.float32(np.prod(sides)), (1, 1, *sides))
    moves = {"kernel_shape": sides, "strides": mean.get("strides", [1, 1]), "pads": [0, 0, 0, 0]}
    inputs = [pool.input[0], *conv.input[1:]]
    net.nodes[net.nodes.index(conv)] = net.node("Conv", inputs, conv.output[0], **moves)
    net.nodes.remove(pool)


def _fold_pixels(net: Net) -> None:
    """Take the pixels, which are whole numbers from 0 to 255, as the uint8 activation they are.

    Rescaling is then the scale of that activation, a float32. Rounding the rescaled pixels again would lose
    half their levels wherever 0 falls between two of them, as with a rescaling to [-1, 1]. The zero point
    must be a whole number; what that leaves out goes into the bias, which is exact but where the convolution
    reaches over the image's border: there it is up to half a grey level off.
    """
    path: list[Any] = []
    name = net.proto.graph.input[0].name
    while len(after := net.consumers(name)) == 1 and (not path or path[-1].op_type != "Conv"):
        path.append(after[0])
        name = after[0].output[0]
    if [node.op_type for node in path if node.op_type != "Slice"] != _RESCALING:
        return
    kinds = {node.op_type: node for node in path}
    conv, factors = path[-1], [net.constants.get(kinds[kind].input[1]) for kind in ("Mul", "Add")]
    if any(factor is None or factor.size != 1 for factor in factors) or not _own_weights(net, conv):
        return
    scale, offset = (float(np.ravel(factor)[0]) for factor in factors if factor is not None)
    zero = round(-offset / scale) if scale > 0 else -1
    if not 0 <= zero <= 255 or len(conv.input) < 3:
        return
    moved, name = [], net.proto.graph.input[0].name
    for node in path:
        if node.op_type in ("Transpose", "Slice"):
            inputs, name = [name, *node.input[1:]], f"{node.output[0]}/raw"
            moved.append(net.node(node.op_type, inputs, name, **net.settings(node)))
    net.constants |= {"pixels/scale": np.array(scale, np.float32), "pixels/zero": np.array(zero, np.uint8)}
    moved.append(net.node("DequantizeLinear", [name, "pixels/scale", "pixels/zero"], conv.input[0]))
    missing = offset + scale * zero
    sums = net.constants[conv.input[1]].sum(axis=(1, 2, 3), dtype=np.float64)
    net.constants[conv.input[2]] = (net.constants[conv.input[2]] + sums * missing).astype(np.float32)
    net.nodes = [*moved, *(node for node in net.nodes if all(node is not old for old in path[:-1]))]
