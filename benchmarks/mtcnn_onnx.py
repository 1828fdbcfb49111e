"""Write the three networks of MTCNN as ONNX files, from the weights in the package mtcnn 1.0.0.

    pip install --no-deps mtcnn==1.0.0 && pip install joblib lz4
    python benchmarks/mtcnn_onnx.py src/mien/models/weights/mtcnn

Needed once: mien ships what it writes. The weights are pickled, so each file's sha256 is checked before it is
opened; the package's own code, which needs TensorFlow, is never imported. The files take raw RGB pixels
`(n, h, w, 3)` uint8 and give `boxes`, the offsets of left, top, right and lower edge in sides of the square
that was looked at, and `faces`, how likely that is one. Where the third network sees eyes, nose and mouth is
left out.

Source: Zhang et al. 2016, arXiv:1604.02878; weights of github.com/ipazc/mtcnn, MIT.
"""

import hashlib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHA256 = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
#: Side of the pool after each convolution and how it is padded; None for no pool.
POOLS = {
    "pnet": [(2, "SAME_UPPER"), None, None],
    "rnet": [(3, "SAME_UPPER"), (3, "VALID"), None],
    "onet": [(3, "SAME_UPPER"), (3, "VALID"), (2, "SAME_UPPER"), None],
}
#: Side of what a network looks at; None where any size goes.
SIDES = {"pnet": None, "rnet": 24, "onet": 48}
#: As the oldest runtime that mien takes reads them, and older.
OPSET, IR = 17, 8


class Graph:
    """The nodes and weights of one network."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str | np.ndarray, output: str | None = None, **attributes: Any) -> str:
        """Add a node, its arrays as weights; return the name of what it gives."""
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        names = [each if isinstance(each, str) else self._weight(each) for each in inputs]
        self.nodes.append(helper.make_node(kind, names, [output], name=output, **attributes))
        return output

    def _weight(self, values: np.ndarray) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        return name


def read(name: str) -> list[np.ndarray]:
    """Return a network's weights in the order of its layers, after a check that they are the known ones."""
    found = find_spec("mtcnn")
    if found is None or found.origin is None:
        sys.exit("mtcnn is not installed; run: pip install --no-deps mtcnn==1.0.0")
    path = Path(found.origin).parent / "assets" / "weights" / f"{name}.lz4"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256[name]:
        sys.exit(f"{path.name} is not the file of mtcnn 1.0.0: its sha256 is {digest}")
    return list(joblib.load(path))


def built(name: str) -> onnx.ModelProto:
    """Return one network, its rescaling of pixels to -1..1 folded into the first convolution."""
    weights, graph = read(name), Graph()
    value = graph.add("Cast", "images", to=TensorProto.FLOAT)
    value = graph.add("Transpose", value, perm=[0, 3, 1, 2])
    for number, pool in enumerate(POOLS[name]):
        kernel, bias, slope = weights[:3]
        del weights[:3]
        kernel = kernel.transpose(3, 2, 0, 1).astype(np.float64)
        if number == 0:
            bias = bias - 127.5 / 128 * kernel.sum(axis=(1, 2, 3))
            kernel = kernel / 128
        value = graph.add("PRelu", graph.add("Conv", value, kernel, bias), slope.reshape(-1, 1, 1))
        if pool:
            side, padding = pool
            value = graph.add("MaxPool", value, kernel_shape=[side] * 2, strides=[2, 2], auto_pad=padding)
    heads = _dense if SIDES[name] else _convolved
    heads(graph, value, weights)
    return _model(graph, SIDES[name])


def _convolved(graph: Graph, value: str, weights: list[np.ndarray]) -> None:
    offsets, offsets_bias, classes, classes_bias = weights
    boxes = graph.add("Conv", value, offsets.transpose(3, 2, 0, 1), offsets_bias)
    graph.add("Transpose", boxes, perm=[0, 2, 3, 1], output="boxes")
    faces = graph.add("Conv", value, classes.transpose(3, 2, 0, 1), classes_bias)
    graph.add("Softmax", graph.add("Transpose", faces, perm=[0, 2, 3, 1]), axis=-1, output="faces")


def _dense(graph: Graph, value: str, weights: list[np.ndarray]) -> None:
    kernel, bias, slope, offsets, offsets_bias = weights[:5]
    classes, classes_bias = weights[-2:]
    # The package flattens width, height, channels; ONNX has channels, height, width.
    channels = kernel.shape[0] // 9
    kernel = kernel.reshape(3, 3, channels, -1).transpose(2, 1, 0, 3).reshape(kernel.shape)
    value = graph.add("PRelu", graph.add("Gemm", graph.add("Flatten", value), kernel, bias), slope)
    graph.add("Gemm", value, offsets, offsets_bias, output="boxes")
    graph.add("Softmax", graph.add("Gemm", value, classes, classes_bias), axis=-1, output="faces")


def _model(graph: Graph, side: int | None) -> onnx.ModelProto:
    seen = ["n", side or "h", side or "w", 3]
    cells = ["n", "rows", "columns"] if side is None else ["n"]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "mtcnn",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, seen)],
            [
                helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [*cells, 4]),
                helper.make_tensor_value_info("faces", TensorProto.FLOAT, [*cells, 2]),
            ],
            graph.weights,
        ),
        producer_name="mien",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    folder = Path(sys.argv[1])
    for name in SHA256:
        content = built(name).SerializeToString(deterministic=True)
        (folder / f"{name}.onnx").write_bytes(content)
        print(f'    "{name}": "{hashlib.sha256(content).hexdigest()}",  # {len(content):,} bytes')


if __name__ == "__main__":
    main()
