"""Networks by name: Keras functional models that take raw pixels.

Every network takes images `(n, size, size, 1)` with pixels in [0, 255], rescales them inside, and ends in a
softmax over the classes, computed in float32. The layer called `features` is the last feature map
`(n, h, w, c)`; mien explains predictions with it. Importing this module does not import Keras; building does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien._processes import is_own_process
from mien.errors import MissingBackend, MissingExtra, RecipeError

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Network:
    """A named architecture.

    Args:
        name: Its name in recipes.
        about: A description in one line.
        build: Builds the Keras model from the side of the input in pixels and the number of classes.
        smallest: The smallest side of the input in pixels.
        parameters: Number of parameters, with 48 pixels and seven classes; a test checks it.
        flops: Floating-point operations of one forward pass, also at 48 pixels and seven classes.
        wide: Whether its convolutions are so wide that TensorFlow's default kernels are the fastest.
    """

    name: str
    about: str
    build: Callable[[int, int], keras.Model]
    smallest: int = 16
    parameters: int = field(kw_only=True)
    flops: int = field(kw_only=True)
    wide: bool = False


def build(name: str, *, size: int = 48, classes: int = 7, ferplus: bool = False) -> keras.Model:
    """Build the network called `name`, with fresh weights from Keras' global seed.

    Args:
        name: One of `NETWORKS`.
        size: Side of the square grey input in pixels.
        classes: Number of classes.
        ferplus: Add a second output, from the same features.

    Returns:
        A model from `(n, size, size, 1)` pixels in [0, 255] to `(n, classes)` probabilities; with a second
        answer to a dict of two of them, `answer` and `ferplus`.

    Raises:
        RecipeError: The network does not exist, or the input is too small for it.
        MissingExtra: Keras is not installed.
    """
    network = get(name)
    if size < network.smallest:
        raise RecipeError(
            f"network {name!r} takes images of at least {network.smallest} pixels a side, not {size}; "
            f"set size={network.smallest} or larger"
        )
    with quietly():
        model = network.build(size, classes)
        return _with_ferplus(model, classes) if ferplus else model


def _with_ferplus(model: keras.Model, classes: int) -> keras.Model:
    keras = load_keras()
    answer = model.layers[-1]
    second = keras.layers.Dense(classes, activation="softmax", dtype="float32", name="ferplus")
    outputs = {"answer": answer.output, "ferplus": second(answer.input)}
    return keras.Model(model.inputs[0], outputs, name=model.name)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Hold back what TensorFlow writes to stderr as it starts or converts, at any log level.

    It is shown when something fails, and to who sets TF_CPP_MIN_LOG_LEVEL to 0 or 1.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2") < "2":
        yield
        return
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


def get(name: str) -> Network:
    """Return the network called `name`.

    Raises:
        RecipeError: The network does not exist.
    """
    if name not in NETWORKS:
        raise RecipeError(f"there is no network {name!r}; choose from {', '.join(NETWORKS)}")
    return NETWORKS[name]


def flops(model: keras.Model) -> int:
    """Count the floating-point operations of one forward pass on one image.

    A multiplication and an addition count as two. Convolutions and dense layers are counted, which is
    where all but some percent of the work is; the rest is left out, as is usual.
    """
    total = 0
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "Conv2D":
            height, width, channels = layer.output.shape[1:]
            total += 2 * height * width * channels * _fan_in(layer)
        elif kind == "Dense":
            total += 2 * layer.output.shape[-1] * _fan_in(layer)
    return int(total)


def _fan_in(layer: Any) -> int:
    fan_in = 1
    for side in layer.kernel.shape[:-1]:
        fan_in *= int(side)
    return fan_in


def load_keras(network: str | None = None) -> Any:
    """Import Keras, the one way mien does.

    TensorFlow takes oneDNN's kernels by default only on processors with AVX-512 VNNI or better. Elsewhere
    they are 1.5 times as fast all the same for narrow networks, and slower for wide ones
    (docs/lab-book/01-onednn.md), so they are asked for before TensorFlow starts, unless a wide network is
    named. A user's own TF_ENABLE_ONEDNN_OPTS wins.

    Keras and TensorFlow import other packages if they are installed. In a process of mien alone they do not,
    because mien does not use those packages through them.

    If only JAX is installed, Keras runs on it, unless KERAS_BACKEND names another backend.

    Keras reads its defaults from the user's keras.json. mien's networks need their own: pixels with channels
    last and float32. So they are set here, each time, and the file stays as it is.

    Args:
        network: What will be trained, where that is known; it counts when Keras is first imported.

    Raises:
        MissingExtra: Keras, or the backend it is configured to use, is not installed.
        RecipeError: Keras is configured to use a backend that does not exist.
    """
    if "keras" not in sys.modules and not (network and get(network).wide):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "keras" not in sys.modules and find_backend() == "jax":
        os.environ["KERAS_BACKEND"] = "jax"  # Keras would import TensorFlow, which may be missing
    try:
        with quietly(), _hidden(_optional_packages()):
            import keras
    except (ImportError, ValueError) as error:
        raise _no_keras(error) from error
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    return keras


#: Packages that Keras imports if they are installed, and those that TensorFlow imports too. JAX needs SciPy.
_OPTIONAL = ("IPython", "matplotlib", "pandas", "sklearn")
_OPTIONAL_FOR_TENSORFLOW = ("jax", "scipy")


def set_random_seed(seed: int) -> None:
    """Seed the random numbers of Python, NumPy and Keras.

    With any backend, Keras imports TensorFlow for this if it is installed, which takes seconds. In a process
    of mien alone, TensorFlow is hidden meanwhile if another backend is used.

    Args:
        seed: The seed.

    Raises:
        MissingExtra: As in `load_keras`.
        RecipeError: As in `load_keras`.
    """
    keras = load_keras()
    with _hidden(() if keras.backend.backend() == "tensorflow" else ("tensorflow",)):
        keras.utils.set_random_seed(seed)


def _optional_packages() -> tuple[str, ...]:
    """Return what Keras need not import; hiding it halves the time of the import."""
    if "keras" in sys.modules:
        return ()
    return _OPTIONAL + (_OPTIONAL_FOR_TENSORFLOW if find_backend() == "tensorflow" else ())


@contextlib.contextmanager
def _hidden(names: tuple[str, ...]) -> Iterator[None]:
    """Let packages look as if they were not installed, in a process of mien alone."""
    hidden = [name for name in names if name not in sys.modules] if is_own_process() else []
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


#: Backends that Keras knows, the package of each, and what installs it.
_BACKENDS = {
    "tensorflow": ("tensorflow", '"mien[cpu]"'),
    "jax": ("jax", '"mien[jax]"'),
    "torch": ("torch", "torch"),
}


#: What needs Keras, for the sentence of an error.
_WHAT = "Keras, which trains, exports and ships models,"


def require_keras() -> None:
    """Check that Keras and its backend are installed, without importing them.

    Call it before work that `load_keras` follows, so that a missing package is reported at once.

    Raises:
        MissingExtra: Keras, or the backend it is configured to use, is not installed.
        RecipeError: Keras is configured to use a backend that does not exist.
    """
    backend, _, _ = _asked_backend()
    package = _BACKENDS.get(backend, ("keras",))[0]
    if not (_is_installed("keras") and _is_installed(package)):
        raise _no_keras(ImportError(package))


def find_backend() -> str:
    """Return the name of the backend that Keras is configured to use, without importing it.

    If TensorFlow is the default and not installed, it is an installed JAX.
    """
    return _asked_backend()[0]


def install_command(backend: str) -> str:
    """Return the command that installs a backend of Keras, or an empty string if it is installed.

    It imports nothing.

    Args:
        backend: `tensorflow`, `jax` or `torch`.
    """
    package, install = _BACKENDS[backend]
    return "" if _is_installed(package) else f"pip install {install}"


def _no_keras(error: ImportError | ValueError) -> Exception:
    """Return what to raise where Keras cannot be imported."""
    if not _is_installed("keras"):
        return MissingExtra(_WHAT, "cpu")
    backend, asked, undo = _asked_backend()
    if backend not in _BACKENDS:
        if asked:
            return RecipeError(
                f"{asked} selects the Keras backend {backend!r}, which mien does not support; it supports "
                f"{', '.join(_BACKENDS)}: {undo}"
            )
        return error
    install = install_command(backend)
    if isinstance(error, ValueError) or not install:
        # It is there and does not start; what it says itself is all there is to say.
        return error if isinstance(error, ValueError) else MissingExtra(_WHAT, "cpu")
    if not asked or (backend == "tensorflow" and asked != "KERAS_BACKEND"):
        # The extra `train` alone has no backend; users who want another one know the extras (README).
        return MissingExtra(_WHAT, "cpu")
    return MissingBackend(backend, asked, f"run: {install}, or {undo}")


def _keras_json() -> Path:
    """Return the path of the file that Keras reads its settings from, by Keras' own rule."""
    home = os.environ.get("KERAS_HOME")
    if home is None:
        base = Path("~").expanduser()
        home = os.fspath((base if os.access(base, os.W_OK) else Path("/tmp")) / ".keras")  # noqa: S108
    return Path(home, "keras.json").expanduser()


def _asked_backend() -> tuple[str, str, str]:
    """Return the backend that Keras is configured to use, by what, and how to undo that."""
    backend = os.environ.get("KERAS_BACKEND")
    if backend:
        installed = next((name for name, (each, _) in _BACKENDS.items() if _is_installed(each)), "")
        other = f"set KERAS_BACKEND={installed}" if installed else "unset KERAS_BACKEND for TensorFlow"
        return backend, "KERAS_BACKEND", other
    file = _keras_json()
    try:
        named = json.loads(file.read_text(encoding="utf-8")).get("backend")
    except (OSError, ValueError, AttributeError, RecursionError):
        named = None
    # Keras itself writes TensorFlow into the file.
    if named in (None, "tensorflow") and not _is_installed("tensorflow") and _is_installed("jax"):
        return "jax", "", ""
    if isinstance(named, str) and named:
        return named, f"'{file}'", 'change "backend" in it to an installed one'
    return "tensorflow", "", ""


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _seed(size: int, classes: int) -> keras.Model:
    """The seed's network: five convolutions of 256 to 512 channels, layer for layer."""
    layers = load_keras().layers
    pixels = layers.Input((size, size, 1), name="pixels")
    x = layers.Rescaling(1 / 255.0, name="rescale")(pixels)
    x = layers.Conv2D(256, 3, activation="relu", padding="same", name="conv1")(x)
    for block, filters in enumerate((512, 384, 192, 384), start=2):
        x = layers.Conv2D(filters, 3, activation="relu", padding="same", name=f"conv{block}")(x)
        x = layers.BatchNormalization(name=f"norm{block}")(x)
        x = layers.MaxPooling2D(2, name="features" if block == 5 else f"pool{block}")(x)
        x = layers.Dropout(0.4, name=f"dropout{block}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(256, activation="relu", name="dense6")(x)
    x = layers.BatchNormalization(name="norm6")(x)
    x = layers.Dropout(0.3, name="dropout6")(x)
    answer = layers.Dense(classes, activation="softmax", dtype="float32", name="answer")(x)
    return load_keras().Model(pixels, answer, name="fer_model")


def _classifier(name: str, body: Callable[[Any], Any], dropout: float) -> Callable[[int, int], keras.Model]:
    """Return a builder: pixels in [-1, 1], maps by `body`, and a softmax over the mean of the last map."""

    def make(size: int, classes: int) -> keras.Model:
        layers = load_keras().layers
        pixels = layers.Input((size, size, 1), name="pixels")
        x = body(layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(pixels))
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dropout(dropout, name="dropout")(x)
        answer = layers.Dense(classes, activation="softmax", dtype="float32", name="answer")(x)
        return load_keras().Model(pixels, answer, name=name)

    return make


def _residual(
    name: str,
    widths: tuple[int, ...],
    *,
    blocks: int | tuple[int, ...] = 1,
    dropout: float,
    crop: bool = False,
    stem: int = 2,
) -> Callable[[int, int], keras.Model]:
    """Return a builder of residual networks: a stem of stride `stem`, then one stage a width.

    With `crop` the network looks at the middle ten twelfths of the image alone: the outermost pixels of a
    face crop hold hair and background, and leaving them out saves 30 % of the work.

    Every stage but the first halves the map: average-pool, then 1×1 on the short way, which avoids the
    1×1 convolution of stride 2 whose weight gradient crashes with few channels (uxlfoundation/oneDNN
    issue 6035, oneDNN as in TensorFlow 2.21).

    Source: He et al. 2016, arXiv:1603.05027; the pooled short way is ResNet-D's, arXiv:1812.01187.
    """

    def body(x: Any) -> Any:
        layers = load_keras().layers
        if crop:
            x = layers.Cropping2D(x.shape[1] // 12, name="crop")(x)
        x = _convolve(x, widths[0], "stem", stride=stem)
        x = layers.ReLU(name="stem_relu")(x)
        for stage, filters in enumerate(widths, start=1):
            deep = blocks if isinstance(blocks, int) else blocks[stage - 1]
            for index in range(deep):
                last = stage == len(widths) and index == deep - 1
                stride = 2 if stage > 1 and index == 0 else 1
                x = _block(x, filters, f"stage{stage}_{index + 1}", stride=stride, last=last)
        return x

    return _classifier(name, body, dropout)


def _convolve(x: Any, filters: int, label: str, *, kernel: int = 3, stride: int = 1) -> Any:
    layers = load_keras().layers
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{label}_conv",
    )(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{label}_norm")(x)


def _block(x: Any, filters: int, label: str, *, stride: int, last: bool) -> Any:
    layers = load_keras().layers
    short = x
    if stride > 1:
        short = layers.AveragePooling2D(2, padding="same", name=f"{label}_short_pool")(short)
    if short.shape[-1] != filters:
        short = _convolve(short, filters, f"{label}_short", kernel=1)
    x = _convolve(x, filters, f"{label}a", stride=stride)
    x = layers.ReLU(name=f"{label}a_relu")(x)
    x = _convolve(x, filters, f"{label}b")
    x = layers.Add(name=f"{label}_add")([x, short])
    return layers.ReLU(name="features" if last else f"{label}_relu")(x)


def _stacked(
    name: str, stages: tuple[tuple[int, int], ...], *, dropout: float
) -> Callable[[int, int], keras.Model]:
    """Return a builder of plain stacks of 3×3 convolutions: a stage is (channels, convolutions) and a pool.

    Source: Simonyan & Zisserman 2015, arXiv:1409.1556, with batch normalisation.
    """

    def body(x: Any) -> Any:
        layers = load_keras().layers
        for stage, (filters, count) in enumerate(stages, start=1):
            for index in range(1, count + 1):
                x = _convolve(x, filters, f"stage{stage}_{index}")
                last = (stage, index) == (len(stages), count)
                x = layers.ReLU(name="features" if last else f"stage{stage}_{index}_relu")(x)
            if stage < len(stages):
                x = layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
        return x

    return _classifier(name, body, dropout)


def _dense(
    name: str, blocks: tuple[int, ...], *, growth: int, dropout: float
) -> Callable[[int, int], keras.Model]:
    """Return a builder of densely connected networks: every layer sees all maps before it in its block.

    Source: Huang et al. 2017, arXiv:1608.06993 (bottlenecks of four times the growth, maps halved between
        blocks).
    """

    def body(x: Any) -> Any:
        layers = load_keras().layers
        x = _convolve(x, 2 * growth, "stem")
        x = layers.ReLU(name="stem_relu")(x)
        for block, count in enumerate(blocks, start=1):
            for index in range(1, count + 1):
                label = f"block{block}_{index}"
                new = _convolve(x, 4 * growth, f"{label}a", kernel=1)
                new = layers.ReLU(name=f"{label}a_relu")(new)
                new = _convolve(new, growth, f"{label}b")
                new = layers.ReLU(name=f"{label}b_relu")(new)
                x = layers.Concatenate(name=f"{label}_join")([x, new])
            last = block == len(blocks)
            x = _convolve(x, x.shape[-1] // 2, f"block{block}_halve", kernel=1)
            x = layers.ReLU(name="features" if last else f"block{block}_relu")(x)
            if not last:
                x = layers.AveragePooling2D(2, name=f"block{block}_pool")(x)
        return x

    return _classifier(name, body, dropout)


#: Every named network.
NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network(
            "seed",
            "baseline: five wide convolutions",
            _seed,
            parameters=5_173_959,
            flops=7_725_518_336,
            wide=True,
        ),
        Network(
            "small",
            "residual, 24 to 160 channels, central crop; the network of `fast`",
            _residual("small", (24, 48, 96, 160), dropout=0.2, crop=True),
            parameters=560_927,
            flops=28_283_840,
        ),
        Network(
            "medium",
            "residual, 32 to 224 channels, central crop; about twice the operations of small",
            _residual("medium", (32, 64, 128, 224), dropout=0.3, crop=True),
            parameters=1_050_695,
            flops=51_206_208,
        ),
        Network(
            "large",
            "residual, 32 to 256 channels, five blocks, central crop; half the size of xlarge",
            _residual("large", (32, 64, 128, 256), blocks=(1, 1, 2, 1), dropout=0.3, crop=True),
            parameters=1_526_439,
            flops=69_177_856,
        ),
        Network(
            "xlarge",
            "residual, 32 to 256 channels, seven blocks, no stride in the stem; the network of `default`",
            _residual("xlarge", (32, 64, 128, 256), blocks=(1, 2, 2, 2), dropout=0.2, crop=True, stem=1),
            parameters=2_782_375,
            flops=374_480_384,
        ),
        Network(
            "light",
            "residual, 16 to 160 channels, central crop; for video and slow machines",
            _residual("light", (16, 40, 88, 160), dropout=0.2, crop=True),
            parameters=506_423,
            flops=19_890_240,
        ),
        Network(
            "resnet18",
            "residual, 64 to 512 channels, two blocks a stage, no stride in the stem; a teacher for a GPU",
            _residual("resnet18", (64, 128, 256, 512), blocks=2, dropout=0.4, stem=1),
            parameters=11_180_871,
            flops=2_494_077_952,
            wide=True,
        ),
        Network(
            "vgg",
            "ten plain convolutions of 64 to 512 channels; a teacher for a GPU",
            _stacked("vgg", ((64, 2), (128, 2), (256, 3), (512, 3)), dropout=0.5),
            parameters=7_645_767,
            flops=1_276_681_216,
            wide=True,
        ),
        Network(
            "densenet",
            "densely connected, 3 blocks of 8 to 16 layers, growth 24; a teacher for a GPU",
            _dense("densenet", (8, 12, 16), growth=24, dropout=0.3),
            parameters=2_035_345,
            flops=2_398_433_556,
        ),
        Network(
            "tiny",
            "residual, 16 to 64 channels, one block a stage; for synthetic faces and tests",
            _residual("tiny", (16, 32, 64), dropout=0.1),
            parameters=78_231,
            flops=13_732_736,
        ),
    )
}
