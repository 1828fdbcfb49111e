"""The same function in fewer operations: what is done to an ONNX graph before its numbers are made int8.

A normalisation goes into the convolution before it, and a mean of pixels into the 1×1 convolution after it,
so that one rounding to int8 stands where two or three would. Both are exact but for float32's own rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.errors import MissingExtra

#: Operations with weights of their own: input 0 is an activation, 1 the weights, 2 the bias.
KERNELS = ("Conv", "Gemm")
#: How a network of mien's begins; a crop may stand anywhere between.
_RESCALING = ["Cast", "Transpose", "Mul", "Add", "Conv"]

Array = npt.NDArray[Any]


class Net:
    """An ONNX model taken apart.

    Args:
        file: Bytes that `onnx_file.check` has passed.

    `nodes` stand in an order in which they can run; `constants` are the initialisers by name.
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
    net.nodes[net.nodes.index(conv)] = net.node(
        "Conv",
        [pool.input[0], *conv.input[1:]],
        conv.output[0],
        kernel_shape=sides,
        strides=mean.get("strides", [1, 1]),
        pads=[0, 0, 0, 0],
    )
    net.nodes.remove(pool)


def _fold_pixels(net: Net) -> None:
    """Take the pixels, which are whole numbers from 0 to 255, as the uint8 activation they are.

    Rescaling is then the scale of that activation, a float32. Rounding the rescaled pixels anew would lose
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
