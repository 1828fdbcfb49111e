import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import builders
from builders import refused
from mien.data.datasets import Dataset
from mien.errors import MissingExtra, ModelError
from mien.evaluation.evaluation import Quantization
from mien.models import checks, model_files, networks
from mien.models.model_files import Card, Model
from mien.release import exporters, quantization

keras = networks.load_keras()
layers = keras.layers

# Keras 3.15 hands NumPy 2 its arrays in a way that NumPy warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

LABELS = ("left", "middle", "right")


@pytest.fixture(scope="module")
def faces() -> Dataset:
    from builders import blobs

    return blobs({"train": 192, "val": 300})


@pytest.fixture(scope="module")
def file(faces: Dataset) -> bytes:
    """A tiny network that has learnt which bar is bright, as a float32 file."""
    keras.utils.set_random_seed(0)
    model = networks.build("tiny", size=16, classes=3)
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    split = faces.split("train")
    model.fit(split.images.astype(np.float32), split.labels, batch_size=32, epochs=4, verbose=0)
    return exporters.serialise(model)


@pytest.fixture(scope="module")
def copy(file: bytes, faces: Dataset) -> bytes:
    return quantization.quantise(file, faces.split("train").images[:64])


def ready(model: bytes, size: int = 16, count: int = 3) -> Model:
    return model_files.of(model, Card(name="made", labels=tuple("abcdefg"[:count]), size=size), threads=1)


def smooth(n: int, size: int, seed: int = 0) -> np.ndarray:
    """Bright spots of any place and width, which are closer to faces than noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    centre, width = random.uniform(0, 1, (2, n, 1, 1)), random.uniform(0.05, 1, (n, 1, 1))
    spots = 255 * np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / width)
    return spots[..., None].astype(np.uint8)


def branched() -> Any:
    """A network with what the named ones lack: gates, groups, branches, norms that cannot be folded."""
    keras.utils.set_random_seed(0)
    pixels = layers.Input((24, 24, 1))
    x = layers.Rescaling(1 / 255, name="rescale")(pixels)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="wide")(x)
    x = layers.BatchNormalization(momentum=0.0, name="behind_relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depth")(x)
    x = layers.BatchNormalization(momentum=0.0, name="depth_norm")(x)
    x = layers.ReLU(max_value=6, name="relu6")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Conv2D(8, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Multiply(name="gated")([x, gate])
    left = layers.Conv2D(6, 3, padding="same", activation="silu", name="silu")(x)
    right = layers.Conv2D(6, 3, dilation_rate=2, groups=2, padding="same", activation="tanh", name="tanh")(x)
    x = layers.Concatenate(name="beside")([left, right])
    x = layers.MaxPooling2D(2, name="most")(x)
    x = layers.AveragePooling2D(2, name="means")(x)
    x = layers.Conv2D(8, 1, activation="relu", name="features")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(12, use_bias=False, name="rows")(x)
    x = layers.BatchNormalization(momentum=0.0, name="rows_norm")(x)
    x = layers.ReLU(name="rows_relu")(x)
    answer = layers.Dense(5, activation="softmax", name="answer")(x)
    model = builders.lively(keras.Model(pixels, answer, name="branched"))
    model(smooth(100, 24, seed=1).astype(np.float32), training=True)  # the norms learn what goes through them
    kernel, bias = model.get_layer("answer").get_weights()
    model.get_layer("answer").set_weights([3 * kernel, bias])
    return model


def kernels(model: bytes, tmp_path: Path) -> list[str]:
    """What ONNX Runtime makes of a model's operations when it loads it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it warns that what it writes is for this machine alone
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]


def test_the_copy_answers_as_the_file_does(file: bytes, copy: bytes, faces: Dataset) -> None:
    split = faces.split("val")
    before, after = ready(file).run(split.images), ready(copy).run(split.images)
    verdict = quantization.acceptable(before, after, split.labels)
    assert verdict.accepted
    assert verdict.accuracy_float32 > 0.9
    assert np.abs(before - after).max() < 0.05
    assert not (before == after).all()
    features = ready(file).features(split.images), ready(copy).features(split.images)
    assert features[0].shape == features[1].shape
    assert np.abs(features[0] - features[1]).max() < 0.1 * features[0].max()
    assert np.corrcoef(features[0].ravel(), features[1].ravel())[0, 1] > 0.999


def test_the_copy_is_a_model_folder_with_the_files_own_names(
    file: bytes, copy: bytes, tmp_path: Path, faces: Dataset
) -> None:
    old, new = onnx.load_from_string(file), onnx.load_from_string(copy)
    assert list(new.graph.input) == list(old.graph.input)
    assert list(new.graph.output) == list(old.graph.output)
    assert (new.ir_version, new.opset_import) == (old.ir_version, old.opset_import)
    written = model_files.write(copy, Card(name="made", labels=LABELS, size=16), tmp_path / "copy")
    images = faces.split("val").images[:5]
    assert (model_files.load(tmp_path / "copy").run(images) == written.run(images)).all()
    carded = checks.write_entry(file, "theirs", b"kept")
    assert checks.read_entry(quantization.quantise(carded, images), "theirs") == b"kept"


def test_no_answer_depends_on_its_batch(copy: bytes, faces: Dataset) -> None:
    images, made = faces.split("val").images[:70], ready(copy)
    together = made.run(images, batch_size=64)
    for size in (1, 3, 70):
        np.testing.assert_allclose(made.run(images, batch_size=size), together, atol=1e-6)


def test_every_convolution_becomes_an_int8_kernel(copy: bytes, tmp_path: Path) -> None:
    found = kernels(copy, tmp_path)
    assert found.count("QLinearConv") == 9
    assert found.count("QLinearAdd") == 3
    assert found.count("QGemm") == 1
    # Nothing is left of normalisation, ReLU or rescaling, and only the features go back to float32.
    assert not {"Conv", "Gemm", "BatchNormalization", "Relu", "Add", "Mul", "Cast"} & set(found)
    assert found.count("DequantizeLinear") == 1
    assert found.count("QuantizeLinear") == 0
    assert found.count("Softmax") == 1


def literally(model: bytes, images: np.ndarray) -> Any:
    """Answers of the file as it is written: rounded, and computed in float32 between the roundings."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"images": images})[0]


def test_no_sum_is_cut_off_in_an_int8_kernel(copy: bytes, faces: Dataset, tmp_path: Path) -> None:
    """White and black beside each other give the largest sums."""
    random = np.random.default_rng(0)
    harsh = np.where(random.random((64, 16, 16, 1)) < 0.7, 255, 0).astype(np.uint8)
    for images in (faces.split("val").images, harsh):
        assert np.abs(ready(copy).run(images) - literally(copy, images)).max() < 0.02


def test_weights_leave_room_for_16_bit_sums(copy: bytes) -> None:
    graph = onnx.load_from_string(copy).graph
    whole = [numpy_helper.to_array(each) for each in graph.initializer if each.name.endswith("kernel/int8")]
    assert len(whole) == 10
    assert all(each.dtype == np.int8 for each in whole)
    assert max(int(np.abs(each.astype(int)).max()) for each in whole) == 64
    assert 2 * 255 * 64 < 2**15
    for each in whole[:-1]:  # a scale for each channel: every one uses its range
        assert np.abs(each.astype(int)).max(axis=(1, 2, 3)).min() > 32


def test_a_network_of_branches_and_gates(tmp_path: Path) -> None:
    model, images = branched(), smooth(300, 24)
    file = exporters.serialise(model)
    copy = quantization.quantise(file, images[:200])
    before, after = ready(file, 24, 5).run(images[200:]), ready(copy, 24, 5).run(images[200:])
    assert np.ptp(before, axis=0).min() > 0.1
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.95
    assert np.abs(before - after).mean() < 0.04
    assert np.abs(literally(copy, images[200:]) - after).max() < 0.01
    found = kernels(copy, tmp_path)
    assert {"QLinearConv", "QLinearMul", "QLinearSigmoid", "QLinearConcat", "QGemm"} <= set(found)
    # What cannot be folded or has no int8 kernel is computed in float32, between two roundings.
    assert found.count("Tanh") == found.count("BatchNormalization") == 1
    assert "AveragePool" not in found


def second_head(file: bytes) -> bytes:
    """Give a model a second dense softmax, `ferplus`, with another temperature."""
    model = onnx.load_from_string(file)
    graph, random = model.graph, np.random.default_rng(0)
    dense = next(node for node in graph.node if node.op_type == "Gemm")
    (width,) = (each.dims[0] for each in graph.initializer if each.name == dense.input[1])
    for name, value in (
        ("second/kernel", random.normal(0, 1, (width, 3))),
        ("second/bias", random.normal(0, 0.1, 3)),
        ("second/temperature", np.array(2.0)),
    ):
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    graph.node.extend(
        (
            helper.make_node("Gemm", [dense.input[0], "second/kernel", "second/bias"], ["second/out"]),
            helper.make_node("Div", ["second/out", "second/temperature"], ["second/softened"]),
            helper.make_node("Softmax", ["second/softened"], ["ferplus"], axis=-1),
        )
    )
    graph.output.append(helper.make_tensor_value_info("ferplus", onnx.TensorProto.FLOAT, ["n", 3]))
    return bytes(model.SerializeToString())


def test_every_output_is_kept(file: bytes, faces: Dataset) -> None:
    both = second_head(file)
    copy = quantization.quantise(both, faces.split("train").images[:48])
    images = {"images": faces.split("val").images}
    names = ["probabilities", "features", "ferplus"]
    answers = []
    for model in (both, copy):
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        assert [each.name for each in session.get_outputs()] == names
        answers.append(session.run(names, images))
    for before, after in zip(*answers, strict=True):
        assert np.abs(before - after).max() < 0.1 * before.max()


@pytest.mark.parametrize(
    ("name", "size"), [("tiny", 16), ("tiny", 33), ("small", 48), ("small", 47), ("seed", 16)]
)
def test_folding_changes_no_answer(name: str, size: int) -> None:
    model = builders.lively(networks.build(name, size=size, classes=3))
    net = quantization.Net(exporters.serialise(model))
    images = smooth(8, size)
    expected = ready(net.serialise(), size).run(images)
    operations = len(net.nodes)
    quantization.simplify(net)
    assert len(net.nodes) < operations
    found = ready(net.serialise(), size).run(images)
    # The border of padded pixels is half a grey level off where black is no whole number of steps from 0.
    np.testing.assert_allclose(found, expected, atol=1e-6 if name == "seed" else 0.005)
    kinds = [node.op_type for node in net.nodes]
    assert kinds.count("BatchNormalization") == (5 if name == "seed" else 0)
    assert "Cast" not in kinds
    # A mean over a padded border cannot be folded: 33 pixels are halved to 17, 9 and 5.
    pools = {("tiny", 16): 0, ("tiny", 33): 2, ("small", 48): 1, ("small", 47): 2, ("seed", 16): 0}
    assert kinds.count("AveragePool") == pools[name, size]


def changed(file: bytes, change: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load_from_string(file)
    change(model)
    return bytes(model.SerializeToString())


def node_of(model: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == kind)


def rescaled_downwards(model: onnx.ModelProto) -> None:
    name = node_of(model, "Mul").input[1]
    tensor = next(each for each in model.graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), name))


def dense_turned(model: onnx.ModelProto) -> None:
    dense = node_of(model, "Gemm")
    tensor = next(each for each in model.graph.initializer if each.name == dense.input[1])
    tensor.CopyFrom(
        numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(tensor).T), tensor.name)
    )
    dense.attribute.append(helper.make_attribute("transB", 1))


def weights_shared(model: onnx.ModelProto) -> None:
    """Let a second operation use the first convolution's weights."""
    name = node_of(model, "Conv").input[1]
    model.graph.node.append(helper.make_node("Identity", [name], ["copied"]))


@pytest.mark.parametrize("change", [rescaled_downwards, dense_turned, weights_shared])
def test_what_is_unusual_is_left_in_float32(
    file: bytes, faces: Dataset, change: Callable[[onnx.ModelProto], None]
) -> None:
    other = changed(file, change)
    images = faces.split("val").images
    copy = quantization.quantise(other, faces.split("train").images[:48])
    assert np.abs(ready(other).run(images) - ready(copy).run(images)).max() < 0.05


def test_a_channel_of_next_to_no_weights_keeps_its_bias() -> None:
    pixels = layers.Input((16, 16, 1))
    x = layers.Rescaling(1 / 255, name="rescale")(pixels)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="features")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(pixels, layers.Dense(3, activation="softmax", name="answer")(x), name="faint")
    kernel, _ = model.get_layer("features").get_weights()
    kernel[..., 1] *= 1e-15
    model.get_layer("features").set_weights([kernel, np.array([0.1, 2.0, 0.0, 3.0], np.float32)])
    file, images = exporters.serialise(model), smooth(40, 16)
    copy = quantization.quantise(file, images)
    assert np.abs(ready(file).run(images) - ready(copy).run(images)).max() < 0.02


def test_black_images_alone_still_make_a_copy(file: bytes) -> None:
    images = np.zeros((2, 16, 16, 1), np.uint8)
    copy = quantization.quantise(file, images)
    assert np.abs(ready(file).run(images) - ready(copy).run(images)).max() < 0.02


def test_progress_counts_images_and_the_copy_is_the_same_every_time(file: bytes, faces: Dataset) -> None:
    images, seen = faces.split("train").images[:20], []
    first = quantization.quantise(file, images, progress=lambda *each: seen.append(each))
    assert seen == [(8, 20), (16, 20), (20, 20)]
    assert first == quantization.quantise(file, images)


def test_rounding_by_what_is_seen_changes_sums_least() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(0, 1, (2_000, 150)) @ random.normal(0, 1, (150, 150)) + 0.5
    weights = random.normal(0, 1, (20, 150))
    scales = np.abs(weights).max(axis=1) / 8
    inputs = quantization.Inputs(np.zeros(150), np.zeros((150, 150)))
    inputs.add(rows[:1_000])
    inputs.add(rows[1_000:])
    nearest, none = quantization.round_weights(weights, scales, None)
    chosen, shift = quantization.round_weights(weights, scales, inputs)
    assert (chosen == np.round(chosen)).all()
    assert not none.any()

    def error(whole: np.ndarray, bias: np.ndarray) -> float:
        return float(((rows @ (weights - whole * scales[:, None]).T - bias) ** 2).mean())

    assert error(chosen, shift) < 0.6 * error(nearest, none)
    # The bias makes up for the mean, exactly.
    np.testing.assert_allclose((rows @ (weights - chosen * scales[:, None]).T).mean(axis=0), shift, atol=1e-9)


def test_blocks_change_no_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    weights, rows = random.normal(0, 1, (5, 30)), random.normal(0, 1, (100, 30))
    inputs = quantization.Inputs(np.zeros(30), np.zeros((30, 30)))
    inputs.add(rows)
    found = []
    for block in (1, 7, 30, 64):
        monkeypatch.setattr(quantization, "BLOCK", block)
        found.append(quantization.round_weights(weights, np.full(5, 0.05), inputs)[0])
    assert all((each == found[0]).all() for each in found)
    assert np.abs(found[0]).max() <= 64


def test_a_range_holds_what_was_seen_and_cuts_off_what_is_rare() -> None:
    random = np.random.default_rng(0)
    even = quantization.Range()
    even.add(random.uniform(-1, 3, (50, 100)), random)
    step, zero = even.scale()
    assert float(step) == pytest.approx(4 / 255, rel=0.03)
    assert -float(zero) * float(step) == pytest.approx(-1, abs=0.05)
    rare = quantization.Range()
    values = random.exponential(1.0, (500, 2_000))
    values[0, 0] = 40
    rare.add(values, random)
    assert rare.high == 40
    assert 5 < float(rare.scale()[0]) * 255 < 16
    assert rare.scale()[1] == 0
    positive = quantization.Range()
    positive.add(np.full((2, 2), 7.0), random)
    assert positive.low == 0
    assert quantization.Range().scale() == (1.0, 0)


def test_a_verdict_stands_on_both_figures() -> None:
    labels = np.zeros(1000, np.int64)
    before = np.tile([0.9, 0.1], (1000, 1))

    def judged(*turned: int) -> Quantization:
        after = before.copy()
        after[list(turned)] = after[list(turned), ::-1]
        return quantization.acceptable(before, after, labels)

    assert dataclasses.asdict(judged()) == {
        "n": 1000,
        "agreement": 1.0,
        "accuracy_float32": 1.0,
        "accuracy_int8": 1.0,
        "accepted": True,
    }
    assert judged(*range(3)).accepted
    assert judged(*range(3)).accuracy_int8 == 0.997
    assert not judged(*range(4)).accepted
    labels[500:] = 1  # now what turns there is gained, and only the agreement speaks against it
    assert judged(*range(500, 515)).accepted
    assert judged(*range(500, 515)).agreement == 0.985
    assert not judged(*range(500, 516)).accepted
    assert judged(*range(500, 516)).accuracy_int8 > 0.5


@pytest.mark.parametrize(
    ("before", "after", "n"), [((0, 2), (0, 2), 0), ((3, 2), (3, 3), 3), ((3, 2), (3, 2), 4), ((3,), (3,), 3)]
)
def test_answers_that_do_not_fit_are_refused(before: tuple[int, ...], after: tuple[int, ...], n: int) -> None:
    with refused(ModelError):
        quantization.acceptable(np.ones(before), np.ones(after), np.zeros(n, np.int64))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((0, 16, 16, 1), np.uint8),
        np.zeros((4, 48, 48, 1), np.uint8),
        np.zeros((4, 16, 16), np.uint8),
        np.zeros((4, 16, 16, 1), np.float32),
    ],
)
def test_images_that_do_not_fit_are_refused(file: bytes, images: np.ndarray) -> None:
    with refused(ModelError, "uint8", "('n', 16, 16, 1)"):
        quantization.quantise(file, images)


def test_what_cannot_be_made_int8_is_refused(file: bytes, copy: bytes) -> None:
    images = np.zeros((1, 16, 16, 1), np.uint8)
    with refused(ModelError, "int8", "float32"):
        quantization.quantise(copy, images)
    with refused(ModelError):
        quantization.quantise(b"\x0b", images)
    pixels = helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["n", 16, 16, 1])
    answer = helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["n", 16, 16, 1])
    cast = helper.make_node("Cast", ["images"], ["features"], to=onnx.TensorProto.FLOAT)
    graph = helper.make_graph([cast], "empty", [pixels], [answer])
    empty = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    with refused(ModelError):
        quantization.quantise(empty.SerializeToString(), images)


def test_a_copy_is_not_trained_further(copy: bytes) -> None:
    with refused(ModelError, "int8", "float32"):
        exporters.weights(copy)


def test_without_onnx_the_extra_is_named(file: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with refused(MissingExtra, "mien[train]"):
        quantization.quantise(file, np.zeros((1, 16, 16, 1), np.uint8))


def test_importing_int8_loads_neither_keras_nor_onnx() -> None:
    script = (
        "import sys, mien.release.quantization\nassert not {'keras', 'tensorflow', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
