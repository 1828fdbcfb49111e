"""Models written by hand as ONNX graphs, which need no Keras."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mien.data.datasets import Split
from mien.models import model_files

LABELS = ("happy", "sad", "surprise")
SIZE = 16


def convolution() -> onnx.ModelProto:
    """A network of one convolution, written by hand: a model needs no Keras."""
    random = np.random.default_rng(0)
    weights = {
        "conv/kernel": random.normal(0, 0.01, (4, 1, 3, 3)).astype(np.float32),
        "answer/kernel": random.normal(0, 1, (4, 3)).astype(np.float32),
        "answer/bias": np.array([0.1, 0.2, 0.3], np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "conv/kernel"], ["map"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["map"], ["bent"]),
        helper.make_node("Transpose", ["bent"], ["features"], perm=[0, 2, 3, 1]),
        helper.make_node("GlobalAveragePool", ["bent"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "answer/kernel", "answer/bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "hand",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIZE, SIZE, 1])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", SIZE, SIZE, 4]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


#: The file of `convolution`.
MODEL = convolution().SerializeToString()


def meter(name: str, edges: tuple[float, float], *, size: int = SIZE) -> bytes:
    """Return the file of a model that calls dark images happy, grey ones sad and bright ones surprise.

    Three lines over the mean pixel cross at the two `edges`.
    """
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Transpose", ["planes"], ["features"], perm=[0, 2, 3, 1]),
        helper.make_node("GlobalAveragePool", ["planes"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "kernel", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    low, high = edges
    weights = {
        "kernel": np.array([[0.0, 0.1, 0.2]], np.float32),
        "bias": np.array([0.0, -low / 10, -(low + high) / 10], np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "meter",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", size, size, 1])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", size, size, 1]),
        ],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    return model.SerializeToString()


def thermometer() -> model_files.Model:
    """Return the model of `meter` whose edges are at a third and two thirds of the range of pixels."""
    card = model_files.Card(name="hand", labels=LABELS, size=SIZE)
    return model_files.of(meter("thermometer", (85, 170)), card)


def split_of(pixels: list[int], labels: list[int]) -> Split:
    """Return a split of images that are each of one grey."""
    images = np.zeros((len(pixels), SIZE, SIZE, 1), np.uint8)
    images += np.array(pixels, np.uint8).reshape(-1, 1, 1, 1)
    return Split("val", images, np.array(labels, np.int64), None, tuple(map(str, pixels)))
