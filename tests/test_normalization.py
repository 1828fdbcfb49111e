"""Fused batch normalisation trains as Keras' own layer does, and no file shows it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dying
from mien.models import networks
from mien.training import normalization, trainer

keras = networks.load_keras()
if keras.backend.backend() != "tensorflow":
    pytest.skip("the operation is TensorFlow's", allow_module_level=True)
tf = pytest.importorskip("tensorflow")


def layer(kind: Any, shape: tuple[int, ...], **settings: Any) -> Any:
    """A built layer whose weights are all different."""
    made = kind(momentum=0.9, epsilon=1e-5, **settings)
    made.build((None, *shape[1:]))
    random = np.random.default_rng(1)
    made.set_weights([random.uniform(0.5, 2, weight.shape) for weight in made.weights])
    return made


def trained(made: Any, x: np.ndarray[Any, Any], *, graph: bool = False) -> list[np.ndarray[Any, Any]]:
    """Outputs, gradients of input and weights, and moving statistics after one step of training."""
    weigh = tf.constant(np.random.default_rng(2).normal(size=x.shape), tf.float32)

    def step(pixels: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            y = made(pixels, training=True)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * weigh) / len(x)
        variables = [variable.value for variable in made.trainable_variables]
        return [y, *tape.gradient(loss, [pixels, *variables])]

    run = step
    if graph:  # with any number of images
        run = tf.function(step, input_signature=[tf.TensorSpec([None, *x.shape[1:]], tf.float32)])
    found = [np.asarray(tf.cast(each, tf.float32)) for each in run(tf.constant(x))]
    return [*found, *(np.asarray(variable) for variable in made.non_trainable_variables)]


def pixels(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(0).normal(size=shape) * 2 + 1).astype(np.float32)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("shape", [(16, 5, 7, 24), (3, 1, 2, 5), (2, 1, 1, 4)])
def test_a_step_is_that_of_keras(shape: tuple[int, ...], graph: bool) -> None:
    x = pixels(shape)
    ours = trained(layer(normalization.BatchNormalization, shape), x, graph=graph)
    theirs = trained(layer(keras.layers.BatchNormalization, shape), x, graph=graph)
    assert len(ours) == 6
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


def test_one_value_has_no_variance() -> None:
    shape = (1, 1, 1, 4)
    ours, theirs = (
        trained(layer(kind, shape), pixels(shape))
        for kind in (normalization.BatchNormalization, keras.layers.BatchNormalization)
    )
    # Keras' output is a difference of two large numbers here.
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-4)
    for mine, other in zip(ours[-2:], theirs[-2:], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6)


def test_a_step_in_bfloat16_is_that_of_keras() -> None:
    shape = (16, 5, 7, 24)
    ours, theirs = (
        trained(layer(kind, shape, dtype="mixed_bfloat16"), pixels(shape))
        for kind in (normalization.BatchNormalization, keras.layers.BatchNormalization)
    )
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        # A last digit of bfloat16.
        np.testing.assert_allclose(mine, other, rtol=2**-7, atol=1e-2)
    for mine, other in zip(ours[2:], theirs[2:], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((16, 24), {}),
        ((8, 5, 3), {}),
        ((8, 3, 4, 6), {"axis": 1}),
        ((8, 3, 4, 6), {"scale": False}),
        ((8, 3, 4, 6), {"center": False}),
        ((8, 3, 4, 6), {"trainable": False}),
        ((8, 3, 4, 6), {"dtype": "float64"}),
    ],
)
def test_what_the_operation_does_not_have_is_left_to_keras(
    shape: tuple[int, ...], settings: dict[str, Any]
) -> None:
    random = pixels(shape)
    ours, theirs = (
        layer(kind, shape, **settings)
        for kind in (normalization.BatchNormalization, keras.layers.BatchNormalization)
    )
    for training in (True, False):
        np.testing.assert_array_equal(ours(random, training=training), theirs(random, training=training))
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def operations(model: Any) -> list[str]:
    """The operations of a step's forward pass."""
    side = model.inputs[0].shape[1]
    step = tf.function(lambda x: model(x, training=True))
    concrete = step.get_concrete_function(tf.TensorSpec((None, side, side, 1), tf.float32))
    return [operation.type for operation in concrete.graph.get_operations()]


@pytest.mark.parametrize("name", ["small", "seed"])
def test_a_training_fuses_narrow_networks_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dying.recipe(f"network={name}", "targets.ferplus=0.5")
    keras.utils.set_random_seed(3)
    model = trainer._build_for_training(recipe, classes=3, policy="float32")
    keras.utils.set_random_seed(3)
    plain = trainer.build_network(recipe, classes=3, policy="float32")
    norms = [each for each in plain.layers if isinstance(each, keras.layers.BatchNormalization)]
    assert operations(plain).count("FusedBatchNormV3") == 0
    assert operations(model).count("FusedBatchNormV3") == (len(norms) if name == "small" else 0)

    # Variables include the random states of dropout.
    for mine, other in zip(model.variables, plain.variables, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert [weight.path for weight in model.weights] == [weight.path for weight in plain.weights]
    assert list(model.output) == list(plain.output) == ["answer", "ferplus"]


def test_a_training_step_of_a_network_is_that_of_keras() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (16, 24, 24, 1)).astype(np.uint8)
    wanted = np.eye(7, dtype=np.float32)[random.integers(0, 7, 16)]
    plain = networks.build("tiny", size=24)
    fused = normalization.fuse(plain)
    for model in (plain, fused):
        keras.utils.set_random_seed(5)
        model.compile(optimizer=keras.optimizers.SGD(1e-2), loss="categorical_crossentropy")
        model.train_on_batch(images, wanted)
    for mine, other in zip(fused.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


LOAD = """
import sys
import numpy as np
import keras
model = keras.models.load_model(sys.argv[1])
model.load_weights(sys.argv[2])
assert not any(name.split(".")[0] == "mien" for name in sys.modules)
kinds = {type(layer).__module__.split(".")[0] for layer in model.layers}
assert kinds == {"keras"}, kinds
np.save(sys.argv[4], model.predict(np.load(sys.argv[3]), verbose=0))
"""


def test_keras_without_mien_loads_what_a_training_writes(tmp_path: Path, small_exports: None) -> None:
    from mien.models import model_files
    from mien.release import exporters

    data = dying.data()
    made = trainer.fit(data, dying.recipe("network=tiny", "epochs=1"), out=tmp_path / "run")
    file = exporters.convert(made, "keras", tmp_path / "model.keras", at_least=8).path
    images = data.split("val").images
    np.save(tmp_path / "images.npy", images.astype(np.float32))
    weights = next(made.weights.glob("ep001-*"))
    places = [str(each) for each in (file, weights, tmp_path / "images.npy", tmp_path / "found.npy")]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *places], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = model_files.load(made.model_folder).run(images)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-4)
