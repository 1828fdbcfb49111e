"""Write a Keras network as an ONNX graph that keeps the weights' names.

The graph takes raw pixels `images` uint8 `(n, size, size, 1)` and gives `probabilities` float32 `(n, k)` and
`features` float32 `(n, h, w, c)`; a network's second head gives `ferplus`.

Each layer becomes the ONNX operation of the same meaning, and each weight an initializer under its Keras path
(`stem_conv/kernel`), so that a network can be rebuilt from the file and trained further. Inside, feature maps
are channels-first, as in ONNX. A writer appends to the graph what its layer does and returns the ONNX name of
the layer's output.

Why not a converter: docs/decisions/0003-own-onnx-writer.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mien.errors import MissingExtra, ModelError
from mien.models import checks
from mien.models.card import FeatureMap, Head

if TYPE_CHECKING:
    import keras


#: The oldest versions that have every operation used here, so that old runtimes read the file too.
OPSET, IR_VERSION = 17, 8

Array = npt.NDArray[Any]
#: Centre of the first cell and step from one cell to the next, rows and columns.
_Place = tuple[Array, Array]
#: Operations that keep every value in its place, and operations that move a window.
_POINTWISE = frozenset(
    (
        *("Add", "BatchNormalization", "Cast", "Clip", "Concat", "Div", "Elu", "Gelu", "HardSigmoid"),
        *("HardSwish", "Identity", "LeakyRelu", "Mul", "PRelu", "Relu", "Sigmoid", "Sub", "Tanh"),
    )
)
_WINDOWS = ("Conv", "MaxPool", "AveragePool")


def serialise(model: keras.Model, *, heads: Mapping[str, Head] | None = None) -> bytes:
    """Return `model` as the bytes of an ONNX file that computes in float32.

    Args:
        model: A functional network from pixels `(n, s, s, 1)` to a softmax, with a layer `features`.
        heads: By output, whose temperature and logit biases come before its softmax; the logits as they are
            where none is given.

    Raises:
        ModelError: A layer, or a setting of one, has no counterpart here; the message names it.
        MissingExtra: onnx is not installed.
    """
    graph = Graph(model, heads or {})
    for operation in model.operations:
        graph.add(operation)
    file: bytes = graph.finish().SerializeToString()
    return file


def weights(file: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights of a model file, named and shaped as in Keras.

    Args:
        file: The bytes of `model.onnx`.

    Raises:
        ModelError: The bytes are not a valid model file, or are an int8 copy.
        MissingExtra: onnx is not installed.
    """
    onnx = _onnx()
    checks.check(file)  # before onnx would follow a weight into another file
    graph = onnx.load_from_string(file).graph
    if any(node.op_type == "QuantizeLinear" for node in graph.node):
        raise ModelError("the model has int8 weights; use the float32 model that it was made from")
    kernels = {node.input[1]: node.doc_string for node in graph.node if node.op_type == "Conv"}
    found = {}
    for tensor in graph.initializer:
        if "/" not in tensor.name:  # a constant of the writer, not a weight of the network
            continue
        array = onnx.numpy_helper.to_array(tensor)
        if kernels.get(tensor.name) == "DepthwiseConv2D":
            # In ONNX the number of input channels is only in the node's group.
            (node,) = (each for each in graph.node if tensor.name in each.input[1:2])
            (group,) = (attribute.i for attribute in node.attribute if attribute.name == "group")
            array = array.reshape(group, -1, *array.shape[2:]).transpose(2, 3, 0, 1)
        elif tensor.name in kernels:
            array = array.transpose(2, 3, 1, 0)
        found[tensor.name] = np.ascontiguousarray(array)
    return found


def feature_map(file: bytes) -> FeatureMap:
    """Return where the cells of a network's feature map are in the image.

    A window of side k and stride s that begins p pixels before the map is centred on (k - 1) / 2 - p first,
    then every s. Where branches of different reach are added, the mean of their centres counts. If the graph
    does not tell, the cells share the image evenly.

    Args:
        file: The bytes of a float32 ONNX file of this writer.
    """
    onnx = _onnx()
    graph = onnx.load_from_string(file).graph
    producers = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found: dict[str, _Place | None] = {"images": (np.zeros(2), np.ones(2))}

    def place(name: str) -> _Place | None:
        if name not in found:
            found[name] = behind(producers[name]) if name in producers else None
        return found[name]

    def behind(node: Any) -> _Place | None:
        settings = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        before = [place(name) for name in node.input if name and name not in constants]
        known = [each for each in before if each is not None]
        if not known or len(known) < len(before) or any((step != known[0][1]).any() for _, step in known):
            return None
        first, step = np.mean([each for each, _ in known], axis=0), known[0][1]
        if node.op_type in _POINTWISE or (node.op_type, settings.get("perm")) == ("Transpose", [0, 3, 1, 2]):
            return first, step
        if node.op_type == "Slice":
            starts, axes = constants[node.input[1]], constants[node.input[3]]
            return (first + starts * step, step) if list(axes) == [2, 3] and (starts >= 0).all() else None
        if node.op_type not in _WINDOWS:
            return None
        reach = (np.array(settings["kernel_shape"]) - 1) * np.array(settings.get("dilations", [1, 1]))
        pads = np.array(settings.get("pads", [0, 0, 0, 0])[:2])
        return first + (reach / 2 - pads) * step, step * np.array(settings.get("strides", [1, 1]))

    side = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    (output,) = (each for each in graph.output if each.name == "features")
    cells = np.array([each.dim_value for each in output.type.tensor_type.shape.dim[1:3]])
    even = side / cells
    first, step = place(producers["features"].input[0]) or (even / 2 - 0.5, even)
    return FeatureMap(first=(float(first[0]), float(first[1])), step=(float(step[0]), float(step[1])))


def mean_weights(file: bytes) -> dict[str, str]:
    """Return, by output, the name of the weights of each head that is dense over the mean of the feature map.

    Args:
        file: The bytes of a float32 ONNX file of this writer.
    """
    graph = _onnx().load_from_string(file).graph
    producers = {name: node for node in graph.node for name in node.output}
    map_ = producers["features"].input[0]
    found = {}
    for output in graph.output:
        node = producers[output.name]
        while node is not None and node.op_type in ("Softmax", "Add", "Div"):
            node = producers.get(node.input[0])
        behind = node
        for kind in ("Gemm", "Flatten", "GlobalAveragePool"):
            if behind is None or behind.op_type != kind:
                break
            behind = producers.get(behind.input[0])
        else:
            if behind is producers[map_]:
                found[output.name] = node.input[1]
    return found


def _onnx() -> Any:
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise MissingExtra("writing ONNX", "train") from error
    return onnx


class Graph:
    """An ONNX graph under construction; `names` maps a Keras tensor's id to its ONNX name."""

    def __init__(self, model: keras.Model, heads: Mapping[str, Head]) -> None:
        self.onnx = _onnx()
        self.model = model
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self.heads = heads
        self.names: dict[int, str] = {}
        (shape,) = (tuple(each.shape) for each in model.inputs)
        first, *rest = [tensor._keras_history.operation.name for tensor in model.outputs]
        if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 1 or rest not in ([], ["ferplus"]):
            raise ModelError(
                f"the network takes {shape} and has the outputs {', '.join([first, *rest])}; mien exports "
                "networks from square grey images (n, size, size, 1) to one output, or to a second, ferplus"
            )
        #: The ONNX name of each answer, by the id of its Keras tensor.
        self.answers = {
            id(tensor): name for tensor, name in zip(model.outputs, ["probabilities", *rest], strict=True)
        }
        self.side = int(shape[1])
        self.classes = int(model.outputs[0].shape[-1])

    def add(self, operation: Any) -> None:
        """Write one layer."""
        kind = type(operation).__name__
        writer = WRITERS.get(kind)
        if writer is None or not hasattr(operation, "get_weights"):
            raise ModelError(
                f"the network's layer {operation.name!r} is a {kind}, which mien cannot export; "
                f"it exports {', '.join(WRITERS)}"
            )
        if len(operation._inbound_nodes) != 1:
            raise ModelError(f"the network uses its layer {operation.name!r} twice, which mien cannot export")
        if getattr(operation, "data_format", "channels_last") != "channels_last":
            raise ModelError(
                f"the network's layer {operation.name!r} is channels_first; make it channels_last"
            )
        self.names[id(operation.output)] = writer(self, operation)

    def inputs(self, layer: Any) -> list[str]:
        """Return the ONNX names of what goes into `layer`."""
        tensors = layer.input if isinstance(layer.input, list | tuple) else [layer.input]
        return [self.names[id(tensor)] for tensor in tensors]

    def node(self, kind: str, inputs: list[str], output: str, *, doc: str = "", **settings: Any) -> str:
        """Append one operation and return the name of what it gives."""
        self.nodes.append(
            self.onnx.helper.make_node(kind, inputs, [output], name=output, doc_string=doc, **settings)
        )
        return output

    def constant(self, name: str, value: Any, kind: Any = np.float32) -> str:
        """Keep `value` as an initialiser of the type `kind` and return its name."""
        self.constants[name] = np.ascontiguousarray(np.asarray(value, kind))
        return name

    def weight(self, variable: Any, arrange: Callable[[Array], Array] = np.asarray) -> str:
        """Keep a Keras variable under its own path."""
        return self.constant(variable.path, arrange(np.asarray(variable.value).astype(np.float32)))

    def weighted(self, layer: Any, arrange: Callable[[Array], Array] = np.asarray) -> list[str]:
        """Return what goes into `layer`, its kernel, and its bias if it has one."""
        inputs = [*self.inputs(layer), self.weight(layer.kernel, arrange)]
        return [*inputs, self.weight(layer.bias)] if layer.use_bias else inputs

    def finish(self) -> Any:
        """Return the whole model."""
        helper, floats = self.onnx.helper, self.onnx.TensorProto.FLOAT
        layer = next((each for each in self.model.layers if each.name == "features"), None)
        if layer is None or len(layer.output.shape) != 4:
            raise ModelError(
                "the network has no layer 'features' that outputs a feature map; give the last convolution "
                "layer this name"
            )
        if any(self.names.get(tensor) != name for tensor, name in self.answers.items()):
            raise ModelError("the network does not end in a softmax, so its outputs are not probabilities")
        self.node("Transpose", [self.names[id(layer.output)]], "features", perm=[0, 2, 3, 1])
        pixels = helper.make_tensor_value_info(
            "images", self.onnx.TensorProto.UINT8, ["n", self.side, self.side, 1]
        )
        shapes = {name: ["n", self.classes] for name in self.answers.values()}
        shapes["features"] = ["n", *layer.output.shape[1:]]
        outputs = [helper.make_tensor_value_info(name, floats, shape) for name, shape in shapes.items()]
        constants = [self.onnx.numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, self.model.name, [pixels], outputs, constants)
        opsets = [helper.make_opsetid("", OPSET)]
        file = helper.make_model(graph, producer_name="mien", ir_version=IR_VERSION, opset_imports=opsets)
        self.onnx.checker.check_model(file)
        return file


def _input(graph: Graph, layer: Any) -> str:
    floats = graph.node("Cast", ["images"], f"{layer.name}/cast", to=graph.onnx.TensorProto.FLOAT)
    return graph.node("Transpose", [floats], f"{layer.name}/out", perm=[0, 3, 1, 2])


def _rescaling(graph: Graph, layer: Any) -> str:
    scale = graph.constant(f"{layer.name}.scale", float(layer.scale))
    offset = graph.constant(f"{layer.name}.offset", float(layer.offset))
    product = graph.node("Mul", [*graph.inputs(layer), scale], f"{layer.name}/product")
    return graph.node("Add", [product, offset], f"{layer.name}/out")


def _padding(layer: Any, kernel: tuple[int, int], strides: tuple[int, int]) -> list[int]:
    """Return the rows and columns to add: top, left, bottom, right.

    `same` pads what the last window lacks, the smaller half first; with a stride it depends on the size.

    Source: tensorflow.org/api_docs/python/tf/nn, notes on padding.
    """
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    before, after = [], []
    for side, width, stride in zip(layer.input.shape[1:3], kernel, strides, strict=True):
        missing = max((-(-side // stride) - 1) * stride + width - side, 0)
        before.append(missing // 2)
        after.append(missing - missing // 2)
    return [*before, *after]


def _conv(graph: Graph, layer: Any) -> str:
    kind = type(layer).__name__
    sides, dilation = tuple(layer.kernel_size), tuple(layer.dilation_rate)
    reach = tuple((side - 1) * rate + 1 for side, rate in zip(sides, dilation, strict=True))
    depthwise = kind == "DepthwiseConv2D"

    def arrange(kernel: Array) -> Array:
        if depthwise:
            return kernel.transpose(2, 3, 0, 1).reshape(-1, 1, *sides)
        return kernel.transpose(3, 2, 0, 1)

    output = graph.node(
        "Conv",
        graph.weighted(layer, arrange),
        f"{layer.name}/out",
        doc=kind,
        kernel_shape=sides,
        strides=tuple(layer.strides),
        dilations=dilation,
        group=int(layer.input.shape[-1]) if depthwise else layer.groups,
        pads=_padding(layer, reach, tuple(layer.strides)),
    )
    return _activate(graph, layer, layer.activation, output)


def _dense(graph: Graph, layer: Any) -> str:
    if len(layer.input.shape) != 2:
        raise ModelError(
            f"the network's layer {layer.name!r} is dense on a feature map; flatten or pool before it"
        )
    output = graph.node("Gemm", graph.weighted(layer), f"{layer.name}/out")
    return _activate(graph, layer, layer.activation, output)


def _normalise(graph: Graph, layer: Any) -> str:
    rank = len(layer.input.shape)
    if layer.axis not in (-1, rank - 1):
        raise ModelError(
            f"the network's layer {layer.name!r} normalises axis {layer.axis}; mien exports only the last "
            "axis"
        )
    ones = np.ones(int(layer.input.shape[-1]))
    gamma = graph.weight(layer.gamma) if layer.scale else graph.constant(f"{layer.name}.ones", ones)
    beta = (
        graph.weight(layer.beta)
        if layer.center
        else graph.constant(f"{layer.name}.zeros", np.zeros_like(ones))
    )
    moving = graph.weight(layer.moving_mean), graph.weight(layer.moving_variance)
    inputs = [*graph.inputs(layer), gamma, beta, *moving]
    return graph.node("BatchNormalization", inputs, f"{layer.name}/out", epsilon=float(layer.epsilon))


def _pool(graph: Graph, layer: Any) -> str:
    average = type(layer).__name__ == "AveragePooling2D"
    sides, strides = tuple(layer.pool_size), tuple(layer.strides)
    pads = _padding(layer, sides, strides)
    settings: dict[str, Any] = {"kernel_shape": sides, "strides": strides, "pads": pads}
    if average:  # Keras' mean is over the pixels inside the map; those added around it do not count
        settings["count_include_pad"] = 0
    kind = "AveragePool" if average else "MaxPool"
    return graph.node(kind, graph.inputs(layer), f"{layer.name}/out", **settings)


def _global_pool(graph: Graph, layer: Any) -> str:
    kind = "GlobalMaxPool" if "Max" in type(layer).__name__ else "GlobalAveragePool"
    output = graph.node(kind, graph.inputs(layer), f"{layer.name}/map")
    return output if layer.keepdims else graph.node("Flatten", [output], f"{layer.name}/out")


def _crop(graph: Graph, layer: Any) -> str:
    (top, bottom), (left, right) = layer.cropping
    height, width = layer.input.shape[1:3]
    starts = graph.constant(f"{layer.name}.starts", [top, left], np.int64)
    ends = graph.constant(f"{layer.name}.ends", [height - bottom, width - right], np.int64)
    axes = graph.constant(f"{layer.name}.axes", [2, 3], np.int64)
    return graph.node("Slice", [*graph.inputs(layer), starts, ends, axes], f"{layer.name}/out")


def _flatten(graph: Graph, layer: Any) -> str:
    (name,) = graph.inputs(layer)
    if len(layer.input.shape) == 4:  # Keras counts channels fastest, and so do the dense weights after it
        name = graph.node("Transpose", [name], f"{layer.name}/rows", perm=[0, 2, 3, 1])
    return graph.node("Flatten", [name], f"{layer.name}/out")


def _identity(graph: Graph, layer: Any) -> str:
    return graph.inputs(layer)[0]


def _fold(kind: str) -> Callable[[Graph, Any], str]:
    def write(graph: Graph, layer: Any) -> str:
        first, *rest = graph.inputs(layer)
        for place, name in enumerate(rest, start=1):
            last = place == len(rest)
            first = graph.node(kind, [first, name], f"{layer.name}/{'out' if last else place}")
        return first

    return write


def _concatenate(graph: Graph, layer: Any) -> str:
    rank = len(layer.output.shape)
    axis = layer.axis % rank
    if rank == 4:
        axis = (0, 2, 3, 1)[axis]
    return graph.node("Concat", graph.inputs(layer), f"{layer.name}/out", axis=axis)


def _relu(graph: Graph, layer: Any) -> str:
    if layer.negative_slope or layer.threshold:
        raise ModelError(
            f"the network's layer {layer.name!r} is a ReLU with a slope or threshold; use a plain ReLU"
        )
    (name,) = graph.inputs(layer)
    output = graph.node("Relu", [name], f"{layer.name}/out")
    if layer.max_value is None:
        return output
    limits = graph.constant(f"{layer.name}.zero", 0.0), graph.constant(f"{layer.name}.most", layer.max_value)
    return graph.node("Clip", [output, *limits], f"{layer.name}/most")


def _softmax(graph: Graph, layer: Any) -> str:
    return _soften(graph, layer, graph.inputs(layer)[0])


def _activation(graph: Graph, layer: Any) -> str:
    return _activate(graph, layer, layer.activation, graph.inputs(layer)[0])


def _activate(graph: Graph, layer: Any, activation: Any, name: str) -> str:
    kind = getattr(activation, "__name__", type(activation).__name__)
    if activation is None or kind == "linear":
        return name
    if kind == "softmax":
        return _soften(graph, layer, name)
    if kind in ("silu", "swish"):
        gate = graph.node("Sigmoid", [name], f"{layer.name}/gate")
        return graph.node("Mul", [name, gate], f"{layer.name}/silu")
    if kind not in _ACTIVATIONS:
        raise ModelError(
            f"the network's layer {layer.name!r} has the activation {kind!r}, which mien cannot export; "
            f"it exports linear, softmax, silu, {', '.join(_ACTIVATIONS)}"
        )
    return graph.node(_ACTIVATIONS[kind], [name], f"{layer.name}/{kind}")


def _soften(graph: Graph, layer: Any, name: str) -> str:
    """Write a softmax; one that gives the network's answers has its head's scaling before it."""
    if len(layer.output.shape) != 2:
        raise ModelError(
            f"the network's layer {layer.name!r} is a softmax on a feature map; mien exports only a softmax "
            "over classes"
        )
    output = graph.answers.get(id(layer.output))
    if output is None:
        return graph.node("Softmax", [name], f"{layer.name}/softmax", axis=-1)
    head = graph.heads.get(output, Head())
    temperature = graph.constant(f"{output}.temperature", head.temperature)
    logits = graph.node("Div", [name, temperature], f"{layer.name}/softened")
    if head.logit_bias:
        logit_bias = graph.constant(f"{output}.logit_bias", np.array(head.logit_bias, np.float32))
        logits = graph.node("Add", [logits, logit_bias], f"{layer.name}/biased")
    return graph.node("Softmax", [logits], output, axis=-1)


_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}

#: What writes each kind of layer: it takes the graph and the layer, and returns the ONNX name of the answer.
WRITERS: dict[str, Callable[[Graph, Any], str]] = {
    "InputLayer": _input,
    "Rescaling": _rescaling,
    "Conv2D": _conv,
    "DepthwiseConv2D": _conv,
    "BatchNormalization": _normalise,
    "ReLU": _relu,
    "Activation": _activation,
    "Softmax": _softmax,
    "MaxPooling2D": _pool,
    "AveragePooling2D": _pool,
    "GlobalAveragePooling2D": _global_pool,
    "GlobalMaxPooling2D": _global_pool,
    "Dropout": _identity,
    "SpatialDropout2D": _identity,
    "Cropping2D": _crop,
    "Flatten": _flatten,
    "Dense": _dense,
    "Add": _fold("Add"),
    "Multiply": _fold("Mul"),
    "Concatenate": _concatenate,
}
