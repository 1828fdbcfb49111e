"""Every network through the same battery."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import refused
from mien.errors import MissingBackend, MissingExtra, RecipeError
from mien.models import networks
from mien.models.model_files import Card
from mien.release import exporters

keras = pytest.importorskip("keras", reason="building networks needs mien[train]")

NAMES = sorted(networks.NETWORKS)
#: Networks for a GPU: a processor is shown small images, and not every time.
TEACHERS = {"resnet18", "vgg", "densenet"}
LIGHT = [
    pytest.param(name, marks=[pytest.mark.slow] if name in TEACHERS else [])
    for name in NAMES
    if name != "seed"
]


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    keras.utils.set_random_seed(0)
    return {name: networks.build(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_every_network_takes_raw_pixels_and_answers_probabilities(models: dict[str, Any], name: str) -> None:
    model = models[name]
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)
    answers = model.predict(images, verbose=0)
    assert answers.shape == (4, 7)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)
    assert model.input_shape == (None, 48, 48, 1)
    scaled = next(layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling))
    ends = np.asarray(scaled(np.array([0.0, 255.0], np.float32)))
    assert -1.001 <= ends[0] < ends[1] <= 1.001


@pytest.mark.parametrize("name", NAMES)
def test_every_network_names_its_last_feature_map(models: dict[str, Any], name: str) -> None:
    features = models[name].get_layer("features").output
    assert len(features.shape) == 4
    following = [type(layer).__name__ for layer in models[name].layers]
    place = [layer.name for layer in models[name].layers].index("features")
    assert not {"Conv2D", "MaxPooling2D"} & set(following[place + 1 :])


# The others are wider or deeper, or for a GPU.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "tiny" else [pytest.mark.slow])
        for name in NAMES
        if name != "seed"
    ],
)
def test_every_network_learns_one_batch(name: str) -> None:
    keras.utils.set_random_seed(1)
    size = 16 if name in TEACHERS else 24
    model = networks.build(name, size=size, classes=3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, size, size, 1), dtype=np.uint8)
    labels = np.arange(12) % 3
    model.compile(
        keras.optimizers.Adam(0.003),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    history = model.fit(images, labels, batch_size=12, epochs=30, verbose=0).history
    assert history["loss"][-1] < 0.3 * history["loss"][0]


@pytest.mark.parametrize("name", LIGHT)
def test_every_network_survives_saving(tmp_path: Path, models: dict[str, Any], name: str) -> None:
    model = models[name]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), dtype=np.uint8)
    np.testing.assert_array_equal(again.predict(images, verbose=0), model.predict(images, verbose=0))


@pytest.mark.parametrize("name", NAMES)
def test_every_network_exports_alike(tmp_path: Path, models: dict[str, Any], name: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)
    card = Card(name=name, labels=tuple("abcdefg"), size=48)
    shipped = exporters.write_model(models[name], card, tmp_path / "model", images=images, at_least=4)
    assert shipped.card.parity is not None
    assert shipped.card.parity.largest_difference <= 1e-4


def test_a_second_answer_stands_beside_the_first() -> None:
    model = networks.build("tiny", ferplus=True)
    answers = model.predict(np.zeros((2, 48, 48, 1), np.uint8), verbose=0)
    assert {name: answer.shape for name, answer in answers.items()} == {
        "answer": (2, 7),
        "ferplus": (2, 7),
    }
    alone = networks.build("tiny")
    assert model.count_params() - alone.count_params() == (64 + 1) * 7


def test_the_seeds_network_is_the_readmes_layer_for_layer(models: dict[str, Any]) -> None:
    model = models["seed"]
    assert model.name == "fer_model"
    assert model.count_params() == 5_173_959
    kinds = [type(layer).__name__ for layer in model.layers]
    block = ["Conv2D", "BatchNormalization", "MaxPooling2D", "Dropout"]
    assert kinds == [
        "InputLayer",
        "Rescaling",
        "Conv2D",
        *block * 4,
        "Flatten",
        "Dense",
        "BatchNormalization",
        "Dropout",
        "Dense",
    ]
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [256, 512, 384, 192, 384]
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert {layer.padding for layer in convolutions} == {"same"}
    assert {layer.activation.__name__ for layer in convolutions} == {"relu"}
    dropouts = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert dropouts == [0.4, 0.4, 0.4, 0.4, 0.3]
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert [(layer.units, layer.activation.__name__) for layer in dense] == [(256, "relu"), (7, "softmax")]


def test_flops_are_those_counted_by_hand(models: dict[str, Any]) -> None:
    convolutions = [(48, 1, 256), (48, 256, 512), (24, 512, 384), (12, 384, 192), (6, 192, 384)]
    by_hand = sum(2 * side * side * 9 * before * after for side, before, after in convolutions)
    by_hand += 2 * (3 * 3 * 384 * 256 + 256 * 7)
    assert networks.flops(models["seed"]) == by_hand


def test_no_convolution_is_of_the_kind_that_crashes(models: dict[str, Any]) -> None:
    for name in NAMES:
        for layer in models[name].layers:
            if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1):
                assert layer.strides == (1, 1), f"{name}: {layer.name}"


def test_an_unknown_network_or_too_small_an_input_is_refused() -> None:
    with refused(RecipeError, "'alexnet'", "seed, small"):
        networks.build("alexnet")
    with refused(RecipeError, 16):
        networks.build("tiny", size=8)


@pytest.mark.parametrize(
    ("network", "users", "expected"),
    [("'small'", None, "1"), ("'seed'", None, "None"), ("None", None, "1"), ("None", "0", "0")],
)
def test_kernels_are_chosen_before_keras_is_imported(
    tmp_path: Path, network: str, users: str | None, expected: str
) -> None:
    # A Keras that only says which kernels TensorFlow would start with.
    (tmp_path / "keras.py").write_text(
        "import os, types; print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))\n"
        "class config:\n"
        "    set_image_data_format = set_floatx = set_epsilon = staticmethod(lambda value: None)\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from mien.models import networks\n"
    code += f"networks.load_keras({network}); networks.load_keras()"
    environment = {key: value for key, value in os.environ.items() if key != "TF_ENABLE_ONEDNN_OPTS"}
    if users is not None:
        environment["TF_ENABLE_ONEDNN_OPTS"] = users
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("claim", "backend", "expected"),
    [
        ("", "tensorflow", "jax scipy sklearn"),
        ("_processes.claim_process();", "tensorflow", ""),
        ("_processes.claim_process();", "jax", "jax scipy"),
    ],
)
def test_keras_does_not_import_what_mien_does_not_use_in_its_own_process(
    tmp_path: Path, claim: str, backend: str, expected: str
) -> None:
    (tmp_path / "keras.py").write_text(
        "import importlib\n"
        "def can(name):\n"
        "    try: return importlib.import_module(name)\n"
        "    except ImportError: return None\n"
        "print(*filter(can, ['jax', 'scipy', 'sklearn']))\n"
        "class config:\n"
        "    set_image_data_format = set_floatx = set_epsilon = staticmethod(lambda value: None)\n"
    )
    for name in ("jax", "scipy", "sklearn"):
        (tmp_path / f"{name}.py").touch()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from mien import _processes\n"
    code += f"from mien.models import networks; {claim} networks.load_keras()\n"
    code += "import jax, scipy, sklearn; print(sklearn.__file__)"
    command = [sys.executable, "-c", code]
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split("\n")[:2] == [expected, str(tmp_path / "sklearn.py")]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_network_says_of_its_size_is_so(models: dict[str, Any], name: str) -> None:
    known = networks.get(name)
    assert known.parameters == models[name].count_params()
    assert known.flops == networks.flops(models[name])


def run_with(home: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script where the user's keras.json is that of `home`."""
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    environment |= {"HOME": str(home), "USERPROFILE": str(home), **variables}
    environment.pop("KERAS_HOME", None)
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )


def keras_json(home: Path, text: str) -> Path:
    file = home / ".keras" / "keras.json"
    file.parent.mkdir()
    file.write_text(text)
    return file


def test_a_keras_json_from_an_old_tutorial_changes_nothing(tmp_path: Path) -> None:
    text = '{"floatx": "float64", "epsilon": 0.1, "image_data_format": "channels_first"}'
    file = keras_json(tmp_path, text)
    script = """
import sys
sys.path.insert(0, "tests")
import numpy as np
import dying
from mien.models import model_files, networks
from mien.training import trainer
dying.compare_few()
made = trainer.fit(dying.data(), dying.recipe("epochs=1"))
assert model_files.load(made.model_folder).card.parity.largest_difference < 1e-4
keras = networks.load_keras()
assert keras.config.epsilon() == 1e-7
model = networks.build("tiny", size=16)
assert {str(weight.dtype) for weight in model.weights} == {"float32"}
assert model.get_layer("stem_conv").data_format == "channels_last"
"""
    script = f"import os; here = os.getcwd(); os.chdir({str(tmp_path)!r})\n" + script.replace(
        '"tests"', "here + '/tests'"
    )
    done = run_with(tmp_path, script)
    assert done.returncode == 0, done.stderr
    assert file.read_text() == text


MISSING = """
import importlib.util, sys
from mien import errors
from mien.models import networks
for name in {missing!r}:
    sys.modules[name] = None
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {missing!r} else real(name, *rest)
try:
    print("runs on", networks.load_keras().backend.backend())
except errors.MienError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("missing", "variables", "text", "said"),
    [
        (
            ["torch"],
            {"KERAS_BACKEND": "torch"},
            None,
            "MissingBackend KERAS_BACKEND selects the Keras backend torch, which is not installed; "
            "run: pip install torch, or set KERAS_BACKEND=tensorflow",
        ),
        (
            ["jax", "tensorflow"],
            {"KERAS_BACKEND": "jax"},
            None,
            "MissingBackend KERAS_BACKEND selects the Keras backend jax, which is not installed; "
            'run: pip install "mien[jax]", or',
        ),
        (
            ["torch"],
            {},
            '{"backend": "torch"}',
            "keras.json' selects the Keras backend torch, which is not installed",
        ),
        (
            ["tensorflow", "jax"],
            {},
            '{"backend": "tensorflow"}',
            "MissingExtra Keras, which trains",
        ),
        # Keras writes this file when it is first imported.
        (["tensorflow"], {}, '{"backend": "tensorflow"}', "runs on jax"),
        (["tensorflow"], {}, None, "runs on jax"),
        (
            ["tensorflow"],
            {"KERAS_BACKEND": "tensorflow"},
            None,
            "MissingBackend KERAS_BACKEND selects the Keras backend tensorflow, which is not installed; "
            'run: pip install "mien[cpu]", or set KERAS_BACKEND=jax',
        ),
        (
            ["keras"],
            {"KERAS_BACKEND": "torch"},
            None,
            "MissingExtra Keras, which trains",
        ),
        (
            [],
            {"KERAS_BACKEND": "theano"},
            None,
            "RecipeError KERAS_BACKEND selects the Keras backend 'theano', which mien does not support; it "
            "supports tensorflow, jax, torch: set KERAS_BACKEND=tensorflow",
        ),
    ],
)
def test_a_backend_that_is_missing_is_named_with_who_asked_for_it(
    tmp_path: Path, missing: list[str], variables: dict[str, str], text: str | None, said: str
) -> None:
    if text is not None:
        keras_json(tmp_path, text)
    done = run_with(tmp_path, MISSING.format(missing=missing), **variables)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert issubclass(MissingBackend, MissingExtra)


@pytest.mark.parametrize(
    ("variable", "writable", "expected"),
    [
        (None, True, "{home}/.keras/keras.json"),
        (None, False, "/tmp/.keras/keras.json"),
        ("~/own", True, "{home}/own/keras.json"),
        ("/etc/keras", False, "/etc/keras/keras.json"),
        ("", True, "keras.json"),
    ],
)
def test_settings_are_looked_for_where_keras_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, writable: bool, expected: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: writable)
    if variable is None:
        monkeypatch.delenv("KERAS_HOME", raising=False)
    else:
        monkeypatch.setenv("KERAS_HOME", variable)
    assert networks._keras_json() == Path(expected.format(home=tmp_path))


def test_networks_are_listed_without_keras_in_80_columns(tmp_path: Path) -> None:
    script = "import sys\nfor name in ('keras', 'tensorflow'):\n    sys.modules[name] = None\n"
    script += "from mien import cli\nsys.exit(cli.run(sys.argv[1:] or ['networks']))"
    done = run_with(tmp_path, script, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert "5,173,959" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
