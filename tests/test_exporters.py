import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import builders
from builders import refused
from mien.errors import InputError, MissingExtra, ModelError, RunError
from mien.models import model_files, networks
from mien.models.model_files import Card
from mien.release import exporters
from mien.training import recipes, runs

keras = networks.load_keras()
layers = keras.layers

# Keras 3.15 hands NumPy 2 its arrays in a way that NumPy warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


def images(n: int, size: int) -> np.ndarray:
    """Half noise, half smooth blobs, which is closer to faces."""
    random = np.random.default_rng(n)
    noise = random.integers(0, 256, (n - n // 2, size, size, 1))
    rows, columns = np.mgrid[:size, :size] / size
    centre, width = random.uniform(0, 1, (2, n // 2, 1, 1)), random.uniform(0.1, 1, (n // 2, 1, 1))
    blobs = 255 * np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / width)
    return np.concatenate([noise, blobs[..., None]]).astype(np.uint8)


def labels(count: int) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(count))


def at(temperature: float) -> dict[str, model_files.Head]:
    return {"labels": model_files.Head(temperature=temperature)}


def card(size: int = 16, count: int = 7, **settings: Any) -> Card:
    return Card(name="made", labels=labels(count), size=size, **settings)


def answers(model: Any, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(model(pixels.astype(np.float32), training=False)))


@pytest.fixture(scope="module")
def tiny() -> Any:
    networks.set_random_seed(1)  # with some kernels, no image gets one of the classes, which `varied` needs
    return builders.lively(networks.build("tiny", size=16))


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [("tiny", 48, 7), ("tiny", 33, 2), ("small", 48, 7), ("small", 19, 7), ("seed", 16, 3)],
)
def test_every_network_exports_within_tolerance(name: str, size: int, count: int, tmp_path: Path) -> None:
    model = builders.lively(networks.build(name, size=size, classes=count))
    pixels = images(24, size)
    made = exporters.write_model(model, card(size, count), tmp_path / name, images=pixels, at_least=0)
    assert made.card.parity is not None
    assert made.card.parity.images == 24
    assert made.card.parity.largest_difference < 1e-5
    found, expected = model_files.load(tmp_path / name).run(pixels), answers(model, pixels)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.001
    features = keras.Model(model.inputs[0], model.get_layer("features").output)
    np.testing.assert_allclose(made.features(pixels), answers(features, pixels), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(networks.NETWORKS))
def test_every_network_exports_within_tolerance_on_1000_images(name: str, tmp_path: Path) -> None:
    made = exporters.write_model(
        builders.lively(networks.build(name)), card(48), tmp_path / name, images=images(1000, 48)
    )
    assert made.card.parity is not None
    assert made.card.parity.images == 1000


def everything() -> Any:
    """A network with every layer and setting that can be exported."""
    pixels = layers.Input((24, 24, 1))
    x = layers.Rescaling(1 / 255, offset=-0.5, name="rescale")(pixels)
    x = layers.Cropping2D(((1, 2), (0, 3)), name="crop")(x)
    x = layers.Conv2D(8, (3, 5), strides=(2, 1), padding="same", name="wide")(x)
    x = layers.BatchNormalization(scale=False, name="unscaled")(x)
    x = layers.ReLU(max_value=6, name="relu6")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="silu", name="depth")(x)
    x = layers.BatchNormalization(center=False, epsilon=0.1, name="uncentred")(x)
    left = layers.Conv2D(6, 3, dilation_rate=2, padding="same", activation="tanh", name="dilated")(x)
    right = layers.Conv2D(6, 3, groups=2, padding="same", use_bias=False, name="grouped")(x)
    right = layers.Activation("sigmoid", name="gate")(right)
    x = layers.Multiply(name="times")([left, right])
    x = layers.Concatenate(name="beside")([x, left, right])
    x = layers.SpatialDropout2D(0.5, name="drop")(x)
    pooled = layers.AveragePooling2D(3, strides=2, padding="same", name="means")(x)
    most = layers.MaxPooling2D(3, strides=2, padding="same", name="most")(x)
    x = layers.Add(name="sum")([pooled, most, pooled])
    x = layers.Conv2D(4, 2, strides=2, padding="valid", activation="relu", name="features")(x)
    flat = layers.Flatten(name="flat")(x)
    flat = layers.Dense(9, activation="linear", name="rows")(flat)
    flat = layers.BatchNormalization(name="flat_norm")(flat)
    top = layers.GlobalMaxPooling2D(name="top")(x)
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="mean")(x)
    mean = layers.Flatten(name="flat_mean")(mean)
    weight = layers.Dense(4, use_bias=False, name="weight")(mean)
    weight = layers.Activation("softmax", name="attention")(weight)
    x = layers.Concatenate(axis=1, name="all")([flat, top, weight])
    x = layers.Flatten(name="flat_already")(x)
    x = layers.Dense(5, name="logits")(x)
    return builders.lively(keras.Model(pixels, layers.Softmax(name="answer")(x), name="everything"))


def test_every_layer_that_can_be_exported(tmp_path: Path) -> None:
    model, pixels = everything(), images(32, 24)
    made = exporters.write_model(model, card(24, 5), tmp_path / "all", images=pixels, at_least=0)
    np.testing.assert_allclose(made.run(pixels), answers(model, pixels), atol=1e-5)
    found = exporters.weights((tmp_path / "all" / "model.onnx").read_bytes())
    assert {name: value.shape for name, value in found.items()} == {
        variable.path: tuple(variable.shape) for variable in model.weights
    }
    for variable in model.weights:
        assert (found[variable.path] == variable.numpy()).all()


def test_weights_go_back_into_a_fresh_network(tiny: Any) -> None:
    found = exporters.weights(exporters.serialise(tiny))
    fresh = networks.build("tiny", size=16)
    fresh.set_weights([found[variable.path] for variable in fresh.weights])
    pixels = images(8, 16)
    assert (answers(fresh, pixels) == answers(tiny, pixels)).all()
    with refused(ModelError):
        exporters.weights(b"\x0b")


def test_normalisation_stays_apart_and_names_stay(tiny: Any) -> None:
    graph = onnx.load_from_string(exporters.serialise(tiny)).graph
    kinds = [node.op_type for node in graph.node]
    norms = sum(isinstance(layer, layers.BatchNormalization) for layer in tiny.layers)
    assert kinds.count("BatchNormalization") == norms > 0
    names = {each.name for each in graph.initializer}
    assert {"stem_conv/kernel", "stem_norm/moving_mean", "answer/kernel"} <= names
    assert [each.name for each in graph.input] == ["images"]


def test_few_images_are_joined_by_noise(tiny: Any, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = exporters.write_model(
        tiny, card(), tmp_path / "few", images=images(4, 16), progress=lambda *each: seen.append(each)
    )
    assert made.card.parity is not None
    assert made.card.parity.images == exporters.IMAGES == 1000
    assert seen[-1] == (1000, 1000)
    assert seen == sorted(seen)


def test_temperature_is_in_the_file(tiny: Any, tmp_path: Path) -> None:
    pixels = images(16, 16)
    made = exporters.write_model(tiny, card(heads=at(2.5)), tmp_path / "soft", images=pixels, at_least=0)
    logits = np.log(answers(tiny, pixels).astype(np.float64)) / 2.5
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(made.run(pixels), expected, atol=1e-5)
    assert model_files.load(tmp_path / "soft").card.head().temperature == 2.5
    unsoftened = exporters.weights((tmp_path / "soft" / "model.onnx").read_bytes())
    assert (unsoftened["answer/kernel"] == tiny.get_layer("answer").kernel.numpy()).all()
    with refused(ModelError):
        exporters.write_model(everything(), card(24, 5, heads=at(2.0)), tmp_path / "no", images=images(4, 24))


def test_offsets_are_in_the_file_and_come_after_the_temperature(tiny: Any, tmp_path: Path) -> None:
    pixels = images(16, 16)
    logit_bias = tuple(np.linspace(-1, 1, 7).tolist())
    heads = {"labels": model_files.Head(temperature=2.5, logit_bias=logit_bias)}
    made = exporters.write_model(tiny, card(heads=heads), tmp_path / "b", images=pixels, at_least=0)
    logits = np.log(answers(tiny, pixels).astype(np.float64)) / 2.5 + logit_bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(made.run(pixels), expected, atol=1e-5)
    assert model_files.load(tmp_path / "b").card.head().logit_bias == logit_bias
    known = card(heads=heads, recipe={"network": "tiny"})
    again = exporters.rebuild(exporters.write_model(tiny, known, tmp_path / "c", images=pixels, at_least=0))
    np.testing.assert_allclose(answers(again, pixels), answers(tiny, pixels), atol=1e-6)
    short = {"labels": model_files.Head(logit_bias=(1.0, 2.0))}
    with refused(ModelError):
        exporters.write_model(tiny, card(heads=short), tmp_path / "no", images=pixels, at_least=0)


def test_two_answers_are_two_heads_each_with_its_temperature(tmp_path: Path) -> None:
    model = builders.lively(networks.build("tiny", size=16, ferplus=True))
    pixels = images(16, 16)
    first, second = (np.asarray(each) for each in model(pixels.astype(np.float32), training=False).values())
    assert np.abs(first - second).max() > 0.01
    heads = {
        "fer2013": model_files.Head(temperature=2.0),
        "ferplus": model_files.Head(output="ferplus", temperature=0.5),
    }
    made = exporters.write_model(model, card(heads=heads), tmp_path / "two", images=pixels, at_least=0)
    for name, raw, temperature in (("fer2013", first, 2.0), ("ferplus", second, 0.5)):
        chances = raw.astype(np.float64) ** (1 / temperature)
        np.testing.assert_allclose(
            made.run(pixels, head=name), chances / chances.sum(axis=1, keepdims=True), atol=1e-5
        )
    np.testing.assert_array_equal(made.run(pixels), made.run(pixels, head="fer2013"))
    with refused(ModelError, "'votes'", "fer2013, ferplus"):
        made.run(pixels, head="votes")
    known = card(heads=heads, recipe={"network": "tiny"})
    again = exporters.rebuild(exporters.write_model(model, known, tmp_path / "b", images=pixels, at_least=0))
    for weight, expected in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    for kind in ("keras", "litert"):
        written = exporters.write(model, known, kind, tmp_path / kind, images=pixels, at_least=0)
        assert written.parity.largest_difference < 1e-4
    with refused(ModelError, "features"):
        model_files.of((tmp_path / "two" / "model.onnx").read_bytes(), card())


def test_a_network_trained_in_bfloat16_is_exported_in_float32(tiny: Any, tmp_path: Path) -> None:
    pixels = images(16, 16)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = networks.build("tiny", size=16)
    finally:
        keras.config.set_dtype_policy(before)
    mixed.set_weights(tiny.get_weights())
    assert mixed.get_layer("stem_conv").compute_dtype == "bfloat16"
    made = exporters.write_model(mixed, card(), tmp_path / "mixed", images=pixels, at_least=0)
    np.testing.assert_allclose(made.run(pixels), answers(tiny, pixels), atol=1e-5)
    assert np.abs(answers(mixed, pixels) - made.run(pixels)).max() > 1e-4
    assert exporters.in_float32(tiny) is tiny
    file = exporters.write(mixed, card(), "keras", tmp_path / "mixed.keras", images=pixels, at_least=0).path
    assert keras.models.load_model(file).get_layer("stem_conv").compute_dtype == "float32"


def test_a_file_that_answers_otherwise_is_not_written(tmp_path: Path) -> None:
    class Rescaling(layers.Rescaling):
        """Under a known name, something that the writer does not know of."""

        def call(self, inputs: Any) -> Any:
            return super().call(inputs) * 1.05

    pixels = layers.Input((16, 16, 1))
    x = Rescaling(1 / 255)(pixels)
    x = layers.Conv2D(4, 3, name="features")(x)
    x = layers.Dense(7, activation="softmax")(layers.Flatten()(x))
    model = keras.Model(pixels, x)
    with refused(exporters.Unlike):
        exporters.write_model(model, card(), tmp_path / "wrong", images=images(8, 16), at_least=0)
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("value", [np.nan, 2e-4])
def test_parity_refuses_differences_and_no_numbers(value: float) -> None:
    expected = np.full((3, 2), 0.5, np.float32)
    assert exporters.compare(expected + 5e-5, expected, "itself").largest_difference == pytest.approx(
        5e-5, 1e-2
    )
    with refused(exporters.Unlike):
        exporters.compare(expected + np.float32(value), expected, "itself")


def test_cards_and_images_must_be_the_networks(tiny: Any, tmp_path: Path) -> None:
    with refused(ModelError, 7, 3):
        exporters.write_model(tiny, card(count=3), tmp_path / "x", images=images(4, 16))
    with refused(ModelError, "[16, 16, 1]", "[20, 20, 1]"):
        exporters.write_model(tiny, card(size=20), tmp_path / "x", images=images(4, 20))
    for wrong in (images(4, 20), images(4, 16).astype(np.float32)):
        with refused(ModelError, "uint8"):
            exporters.write_model(tiny, card(), tmp_path / "x", images=wrong)
    assert not (tmp_path / "x").exists()


def network(*middle: Any, top: Any = None, shape: tuple[int, ...] = (16, 16, 1)) -> Any:
    pixels = layers.Input(shape)
    x = layers.Conv2D(4, 3, name="features")(pixels)
    for layer in middle:
        x = layer(x)
    if len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, (top or layers.Dense(7, activation="softmax"))(x))


def shared() -> Any:
    layer = layers.Conv2D(4, 3, padding="same", name="shared")
    return network(layer, layer)


def two_outputs() -> Any:
    model = network()
    return keras.Model(model.inputs, [model.outputs[0], model.get_layer("features").output])


def nameless() -> Any:
    pixels = layers.Input((16, 16, 1))
    return keras.Model(pixels, layers.Dense(7, activation="softmax")(layers.Flatten()(pixels)))


def bare_operation() -> Any:
    pixels = layers.Input((16, 16, 1))
    x = layers.Conv2D(4, 3, name="features")(pixels)
    x = layers.Flatten()(x + x)
    return keras.Model(pixels, layers.Dense(7, activation="softmax")(x))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: network(layers.UpSampling2D(name="up")), ["'up'", "UpSampling2D"]),
        (bare_operation, ["'add", "Add"]),
        (lambda: network(layers.Conv2D(4, 3, activation="gelu", name="odd")), ["'odd'", "'gelu'"]),
        (lambda: network(layers.ReLU(negative_slope=0.1, name="leaky")), ["'leaky'", "ReLU"]),
        (lambda: network(layers.BatchNormalization(axis=1, name="rows")), ["'rows'", "axis 1"]),
        (lambda: network(layers.Dense(4, name="deep")), ["'deep'"]),
        (lambda: network(layers.Softmax(name="soft")), ["'soft'"]),
        (
            lambda: network(layers.AveragePooling2D(2, data_format="channels_first", name="cf")),
            ["channels_first"],
        ),
        (shared, ["'shared'"]),
        (two_outputs, ["outputs"]),
        (nameless, ["'features'"]),
        (lambda: network(top=layers.Dense(7)), ["softmax"]),
        (lambda: network(shape=(16, 16, 3)), []),
        (lambda: network(shape=(16, 20, 1)), []),
    ],
)
def test_what_cannot_be_exported_is_named(make: Any, says: list[str]) -> None:
    with refused(ModelError, *says):
        exporters.serialise(make())


@pytest.mark.parametrize(("kind", "suffix"), [("keras", ".keras"), ("h5", ".h5")])
def test_keras_files_load_in_plain_keras(
    kind: str, suffix: str, tiny: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = images(8, 16)
    file = exporters.write(tiny, card(), kind, tmp_path / "out", images=pixels, at_least=0).path
    assert file == tmp_path / "out" / f"model{suffix}"
    assert sorted(each.name for each in file.parent.iterdir()) == ["labels.txt", file.name]
    assert (tmp_path / "out" / "labels.txt").read_text().splitlines() == list(labels(7))
    read = keras.models.load_model(file, compile=False)
    assert [type(layer) for layer in read.layers] == [type(layer) for layer in tiny.layers]
    assert (answers(read, pixels) == answers(tiny, pixels)).all()
    assert "legacy" not in caplog.text


def test_the_seeds_h5_holds_the_seeds_layers(tmp_path: Path) -> None:
    model = networks.build("seed", size=16)
    file = exporters.write(model, card(), "h5", tmp_path / "seed.h5", images=images(2, 16), at_least=0).path
    read = keras.models.load_model(file, compile=False)
    kinds = [type(layer).__name__ for layer in read.layers]
    block = ["Conv2D", "BatchNormalization", "MaxPooling2D", "Dropout"]
    assert read.name == "fer_model"
    assert kinds == [
        *["InputLayer", "Rescaling", "Conv2D"],
        *block * 4,
        *["Flatten", "Dense", "BatchNormalization", "Dropout", "Dense"],
    ]


def test_litert_answers_as_keras_and_holds_the_temperature(tiny: Any, tmp_path: Path) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    pixels = images(8, 16)
    soft = card(heads=at(2.0))
    file = exporters.write(tiny, soft, "litert", tmp_path / "phone.tflite", images=pixels, at_least=0).path
    assert file == tmp_path / "phone.tflite"
    assert (tmp_path / "labels.txt").is_file()
    running = interpreter.Interpreter(model_path=str(file))
    source = running.get_input_details()[0]
    running.resize_tensor_input(source["index"], pixels.shape)
    running.allocate_tensors()
    running.set_tensor(source["index"], pixels.astype(np.float32))
    running.invoke()
    found = running.get_tensor(running.get_output_details()[0]["index"])
    expected = exporters.write_model(tiny, soft, tmp_path / "b", images=pixels, at_least=0).run(pixels)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def run_litert(file: Path, pixels: np.ndarray) -> np.ndarray:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    running = interpreter.Interpreter(model_path=str(file))
    source, target = running.get_input_details()[0], running.get_output_details()[0]
    running.resize_tensor_input(source["index"], pixels.shape)
    running.allocate_tensors()
    running.set_tensor(source["index"], pixels.astype(np.float32))
    running.invoke()
    return np.array(running.get_tensor(target["index"]))


def varied(tiny: Any, pixels: np.ndarray) -> Any:
    """A copy of `tiny` that predicts every class for some of these images."""
    network = keras.models.clone_model(tiny)
    network.set_weights(tiny.get_weights())
    answer = network.get_layer("answer")
    kernel, _ = answer.get_weights()
    pooled = answers(keras.Model(network.inputs[0], network.get_layer("pool").output), pixels)
    answer.set_weights([5 * kernel, -5 * (pooled @ kernel).mean(axis=0)])
    assert len(set(answers(network, pixels).argmax(axis=1))) == 7
    return network


def test_int8_litert_is_near_the_network_and_answers_each_image_alone(tiny: Any, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    pixels = images(400, 16)
    network = varied(tiny, pixels)
    known = card(
        heads={"labels": model_files.Head(temperature=2.0, logit_bias=(0.5, 0, 0, -0.5, 0, 0.25, 0))}
    )
    onnx_file = exporters.write_model(network, known, tmp_path / "b", images=pixels, at_least=0)
    first, second = np.sort(onnx_file.run(pixels), axis=1)[:, :-3:-1].T
    pixels = pixels[first - second > 0.06]  # an untrained network is undecided about many
    expected = onnx_file.run(pixels)
    made = exporters.write(network, known, "litert", tmp_path, int8=True, images=pixels, at_least=0)
    found = run_litert(made.path, pixels)
    assert (found == np.concatenate([run_litert(made.path, each[np.newaxis]) for each in pixels])).all()
    rounding = made.rounding
    assert rounding is not None
    assert rounding.images == made.parity.images == len(pixels) > 200
    assert rounding.same == (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.985
    # Rounding is visible, and changes much less than the calibration.
    plain = exporters.write_model(network, card(), tmp_path / "c", images=pixels, at_least=0).run(pixels)
    assert 1e-5 < np.abs(found - expected).mean() < 0.1 * np.abs(plain - expected).mean()
    assert rounding.mean_difference == pytest.approx(np.abs(found - expected).mean(), abs=1e-5)
    assert rounding.largest_difference == made.parity.largest_difference
    assert rounding.largest_difference == pytest.approx(np.abs(found - expected).max(), abs=1e-5)


def test_a_network_that_int8_changes_is_refused(tiny: Any, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    pixels = images(64, 16)
    network = varied(tiny, pixels)
    answer = network.get_layer("answer")
    kernel, bias = answer.get_weights()
    # The same weight for every class changes no probability, and leaves int8 no steps for the others.
    kernel[0] = 1e4
    answer.set_weights([kernel, bias])
    with refused(exporters.Unlike, "--int8", "98.5%"):
        exporters.write(network, card(), "litert", tmp_path / "x", int8=True, images=pixels, at_least=0)
    assert not (tmp_path / "x").exists()


def test_int8_for_another_format_is_refused(tiny: Any, tmp_path: Path, capsys: Any) -> None:
    import mien
    from mien import cli

    for kind in ("onnx", "keras", "h5", "web", "triton"):
        with refused(InputError, "--int8", "--format litert", kind):
            mien.export("fast", kind, tmp_path / "x", int8=True)
        assert cli.run(["export", "fast", "--format", kind, "--int8", "--to", str(tmp_path / "x")]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    with refused(InputError, "--int8", "--format litert"):
        exporters.write(tiny, card(), "keras", tmp_path / "x", int8=True, images=images(4, 16), at_least=0)
    assert not (tmp_path / "x").exists()


def test_int8_without_the_quantizer_names_the_extra(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ai_edge_litert.interpreter")
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with refused(MissingExtra, "mien[litert]"):
        exporters.write(tiny, card(), "litert", tmp_path / "x", int8=True, images=images(4, 16), at_least=0)
    assert not (tmp_path / "x").exists()


def test_a_shipped_model_becomes_litert_in_int8(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    made = exporters.convert(
        model_files.load("fast"), "litert", tmp_path / "fast.tflite", int8=True, at_least=200
    )
    assert made.rounding is not None
    assert made.agreement is not None
    assert made.rounding.same >= 0.985
    assert made.rounding.mean_difference < made.agreement.mean_difference
    assert made.path.stat().st_size < 600_000
    pixels = images(32, 48)
    found = run_litert(made.path, pixels)
    assert np.abs(found - model_files.load("fast").run(pixels)).mean() < 0.01
    assert (run_litert(made.path, pixels[5:6]) == found[5:6]).all()
    # The outermost pixels are cropped off in the file.
    edges = pixels.copy()
    edges[:, :4] = edges[:, -4:] = edges[:, :, :4] = edges[:, :, -4:] = 0
    assert (run_litert(made.path, edges) == found).all()


def test_litert_without_its_own_package_is_asked_through_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.release import exporters

    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    if keras.backend.backend() == "tensorflow":
        assert exporters._interpreter().__module__.startswith("tensorflow")
    monkeypatch.setitem(sys.modules, "tensorflow.lite.python.interpreter", None)
    with refused(MissingExtra, "mien[litert]"):
        exporters._interpreter()


def test_onnx_goes_into_a_folder_or_one_file(tiny: Any, tmp_path: Path) -> None:
    pixels = images(4, 16)
    soft = card(heads=at(1.5))
    whole = exporters.write(tiny, soft, "onnx", tmp_path / "out", images=pixels, at_least=0).path
    alone = exporters.write(
        tiny, soft, "onnx", tmp_path / "one" / "mine.onnx", images=pixels, at_least=0
    ).path
    assert whole == tmp_path / "out" / "model.onnx"
    assert sorted(each.name for each in alone.parent.iterdir()) == ["labels.txt", "mine.onnx"]
    assert model_files.load(whole.parent).card == model_files.load(alone).card
    assert model_files.load(alone).card.head().temperature == 1.5


@pytest.fixture(scope="module")
def finished(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A run's folder as a training leaves it, as far as exporting reads it."""
    made = runs.create(
        recipes.Recipe(name="made", network="tiny", size=16), {}, out=tmp_path_factory.mktemp("r") / "r"
    )
    known = card(recipe=recipes.to_dict(made.recipe()), licence="CC0", heads=at(1.5))
    exporters.write_model(tiny, known, made.model_folder, images=images(4, 16), at_least=0)
    return made


def test_a_runs_model_becomes_keras_and_onnx(finished: runs.Run, tiny: Any, tmp_path: Path) -> None:
    pixels, before = images(8, 16), model_files.load(finished.model_folder)
    seen: list[tuple[int, int]] = []
    made = exporters.convert(finished, "keras", progress=lambda *each: seen.append(each))
    assert made.path == finished.path / "export" / "model.keras"
    assert made.parity.images == seen[-1][0] == seen[-1][1] == 1000
    np.testing.assert_allclose(
        answers(keras.models.load_model(made.path), pixels), before.run(pixels), atol=1e-5
    )
    again = model_files.load(exporters.convert(finished, "onnx", tmp_path / "copy", at_least=7).path)
    assert again.card.licence == "CC0"
    np.testing.assert_allclose(again.run(pixels), before.run(pixels), atol=1e-6)
    shipped = (finished.model_folder / "model.onnx").read_bytes()
    anew = exporters.convert(finished, "onnx", at_least=7)
    assert model_files.load(anew.path.parent).card == again.card
    assert anew.path == finished.path / "export" / "model.onnx"
    for place in (finished.model_folder, finished.model_folder / "model.onnx"):
        with refused(ModelError, "model"):
            exporters.convert(finished, "onnx", place, at_least=7)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "labels.txt").write_text("my annotations")
    with refused(ModelError, "labels.txt"):
        exporters.convert(finished, "h5", tmp_path / "mine", at_least=7)
    with refused(ModelError, "labels.txt", ".keras"):
        exporters.convert(finished, "keras", tmp_path / "mine" / "labels.txt", at_least=7)
    assert (tmp_path / "mine" / "labels.txt").read_text() == "my annotations"
    assert (finished.model_folder / "model.onnx").read_bytes() == shipped


def test_a_model_becomes_its_network_again(finished: runs.Run, tiny: Any, tmp_path: Path) -> None:
    loaded = model_files.load(finished.model_folder)
    model = exporters.rebuild(loaded)
    assert model.trainable_weights
    assert all((a == b).all() for a, b in zip(model.get_weights(), tiny.get_weights(), strict=True))
    other = dataclasses.replace(loaded, card=dataclasses.replace(loaded.card, recipe={"network": "small"}))
    with refused(ModelError, "'small'"):
        exporters.rebuild(other)
    nameless = dataclasses.replace(loaded, card=dataclasses.replace(loaded.card, recipe={}))
    with refused(ModelError, "'made'"):
        exporters.rebuild(nameless)
    copied = model_files.write(loaded.read(), loaded.card, tmp_path / "copy")
    model_files.write(loaded.read(), dataclasses.replace(loaded.card, licence="other"), tmp_path / "copy")
    with refused(ModelError, "copy"):
        exporters.rebuild(copied)


def test_a_run_without_a_model_is_refused(tmp_path: Path, finished: runs.Run) -> None:
    made = runs.create(recipes.get("quick"), {}, out=tmp_path / "young")
    with refused(RunError, "young", "mien train --resume"):
        exporters.convert(made, "keras")
    with refused(ModelError, "'pickle'"):
        exporters.convert(finished, "pickle")


def test_unknown_formats_and_unwritable_places(tiny: Any, tmp_path: Path) -> None:
    with refused(ModelError, "'pickle'", "onnx, keras, h5, litert"):
        exporters.write(tiny, card(), "pickle", tmp_path, images=images(4, 16))
    (tmp_path / "file").write_text("x")
    with refused(ModelError, "file", ".keras"):
        exporters.write(tiny, card(), "keras", tmp_path / "file", images=images(4, 16), at_least=0)


def test_without_onnx_the_extra_is_named(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with refused(MissingExtra, "mien[train]"):
        exporters.serialise(tiny)


def test_litert_on_another_backend_says_what_to_do(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with refused(ModelError, "jax", "KERAS_BACKEND=tensorflow") as caught:
        exporters.write(tiny, card(), "litert", tmp_path, images=images(4, 16), at_least=0)
    assert "pip" not in str(caught.value)

    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with refused(ModelError, "jax", 'pip install "mien[cpu]"', "KERAS_BACKEND=tensorflow"):
        exporters.write(tiny, card(), "litert", tmp_path, images=images(4, 16), at_least=0)


def test_importing_export_loads_neither_keras_nor_onnx() -> None:
    script = (
        "import sys, mien.release.exporters; assert not {'keras', 'tensorflow', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_large_logits_are_allowed_more_and_not_everything(tiny: Any, tmp_path: Path) -> None:
    wild = keras.models.clone_model(tiny)
    wild.set_weights(tiny.get_weights())
    answer = wild.get_layer("answer")
    kernel, bias = answer.get_weights()
    answer.set_weights([kernel * 3e4, bias])
    made = exporters.write_model(wild, card(), tmp_path / "wild", images=images(400, 16), at_least=0)
    assert made.card.parity is not None
    assert exporters._largest_logit(wild, images(16, 16)) > 1000
    assert exporters._largest_logit(tiny, images(16, 16)) < 20
    one, other = np.array([[0.6, 0.4]], np.float32), np.array([[0.601, 0.399]], np.float32)
    assert exporters.compare(one, other, "it", largest_logit=lambda: 1e3).largest_difference < 0.002
    for largest, difference in ((20, 0.001), (1e9, 0.02)):
        with refused(exporters.Unlike):
            exporters.compare(one, one + np.float32(difference), "it", largest_logit=lambda at=largest: at)


@pytest.mark.parametrize("kind", ["onnx", "keras", "h5", "litert"])
def test_a_shipped_model_is_exported_with_its_calibration(kind: str, tmp_path: Path) -> None:
    shipped = model_files.load("fast")
    made = exporters.convert(shipped, kind, tmp_path / "out", at_least=64)
    assert made.parity.largest_difference < 1e-4
    beside = made.agreement
    assert beside is not None
    assert beside.images == 64
    assert beside.same > 0.9
    assert beside.mean_difference < 0.02
    if kind == "onnx":
        again = model_files.load(made.path.parent)
        assert again.card.precision == "float32"
        assert again.card.made_from == shipped.card.sha256
        assert again.card.metrics == {}
        assert again.card.heads == shipped.card.heads
        pixels = images(64, 48)
        for head in shipped.card.heads:
            assert np.abs(again.run(pixels, head=head) - shipped.run(pixels, head=head)).mean() < 0.02


def test_the_command_exports_by_name_and_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mien import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        exporters.convert, "__kwdefaults__", {"int8": False, "at_least": 32, "progress": None}
    )
    assert cli.run(["export", "fast", "--format", "keras"]) == 0
    assert Path("fast-export/model.keras").is_file()
    said = capsys.readouterr().out
    assert "float32" in said
    assert re.search(r"\b32\b", said), "the faces that the two files were compared on"
    for name in ("fast.onnx", "fast.weights.npz", "fast.json"):
        Path(name).write_bytes((model_files.MODELS / name).read_bytes())
    assert cli.run(["export", "fast.onnx", "--format", "onnx", "--to", "fast.onnx"]) == 2
    assert "fast.onnx" in capsys.readouterr().err
    assert cli.run(["export", "fast.onnx", "--format", "onnx", "--to", "plain.onnx", "--json"]) == 0
    assert '"int8": {' in capsys.readouterr().out
    assert model_files.load("plain.onnx").card.precision == "float32"
    Path("fast.weights.npz").unlink()
    assert cli.run(["export", "fast.onnx"]) == 2
    assert "'fast.weights.npz'" in capsys.readouterr().err
    assert cli.run(["export", "defualt"]) == 2
    assert "'default'" in capsys.readouterr().err
