"""Write a Keras network as an ONNX graph that keeps the weights' names.

The graph takes raw pixels `images` uint8 `(n, size, size, 1)` and gives `probabilities` float32 `(n, k)`
and `features` float32 `(n, h, w, c)`; a network's second answer `ferplus` stands beside the first.

Every layer becomes the ONNX operation of the same meaning, and every weight an initialiser under its Keras
path (`stem_conv/kernel`), so that a network can be rebuilt from the file and trained further. Inside, feature
maps stand channels first, as ONNX has them.

Why not a converter: docs/decisions/0003-own-onnx-writer.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mien.errors import MissingExtra, ModelError
from mien.models import checks as onnx_file
from mien.models.model import Head
from mien.release.exporters.onnx_layers import WRITERS

if TYPE_CHECKING:
    import keras

#: The oldest versions that have every operation used here, so that old runtimes read the file too.
OPSET, IR_VERSION = 17, 8

Array = npt.NDArray[Any]


def serialise(model: keras.Model, *, heads: Mapping[str, Head] | None = None) -> bytes:
    """Return `model` as the bytes of an ONNX file that computes in float32.

    Args:
        model: A functional network from pixels `(n, s, s, 1)` to a softmax, with a layer `features`.
        heads: By output, whose temperature and offsets come before its softmax; the logits as they are
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
    """Return the weights of a bundle's ONNX file, named and shaped as in Keras.

    Args:
        file: The bytes of `model.onnx`.

    Raises:
        ModelError: The bytes are no ONNX file that a bundle may hold, or an int8 copy.
        MissingExtra: onnx is not installed.
    """
    onnx = _onnx()
    onnx_file.check(file)  # before onnx would follow a weight into another file
    graph = onnx.load_from_string(file).graph
    if any(node.op_type == "QuantizeLinear" for node in graph.node):
        raise ModelError(
            "the model is an int8 copy, whose weights are rounded; rebuild the float32 bundle it was made of"
        )
    kernels = {node.input[1]: node.doc_string for node in graph.node if node.op_type == "Conv"}
    found = {}
    for tensor in graph.initializer:
        if "/" not in tensor.name:  # a constant of the writer's, no weight of the network
            continue
        array = onnx.numpy_helper.to_array(tensor)
        if kernels.get(tensor.name) == "DepthwiseConv2D":
            # The channels in stand nowhere in an ONNX kernel but in the node's group.
            (group,) = (
                attribute.i
                for node in graph.node
                if len(node.input) > 1 and node.input[1] == tensor.name
                for attribute in node.attribute
                if attribute.name == "group"
            )
            array = array.reshape(group, -1, *array.shape[2:]).transpose(2, 3, 0, 1)
        elif tensor.name in kernels:
            array = array.transpose(2, 3, 1, 0)
        found[tensor.name] = np.ascontiguousarray(array)
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
            raise ModelError(
                f"the network uses its layer {operation.name!r} twice; mien exports it once only"
            )
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

    def finish(self) -> Any:
        """Return the whole model."""
        helper, floats = self.onnx.helper, self.onnx.TensorProto.FLOAT
        layer = next((each for each in self.model.layers if each.name == "features"), None)
        if layer is None or len(layer.output.shape) != 4:
            raise ModelError(
                "the network has no layer 'features' that gives a feature map; name its last one so"
            )
        if any(self.names.get(tensor) != name for tensor, name in self.answers.items()):
            raise ModelError("the network does not end in a softmax, so its answers are no probabilities")
        self.node("Transpose", [self.names[id(layer.output)]], "features", perm=[0, 2, 3, 1])
        pixels = helper.make_tensor_value_info(
            "images", self.onnx.TensorProto.UINT8, ["n", self.side, self.side, 1]
        )
        outputs = [
            *(
                helper.make_tensor_value_info(name, floats, ["n", self.classes])
                for name in self.answers.values()
            ),
            helper.make_tensor_value_info("features", floats, ["n", *layer.output.shape[1:]]),
        ]
        constants = [self.onnx.numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, self.model.name, [pixels], outputs, constants)
        file = helper.make_model(
            graph,
            producer_name="mien",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        self.onnx.checker.check_model(file)
        return file
