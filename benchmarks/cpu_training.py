"""Images per CPU-second of training steps: what mien does, beside other ways to do it.

    python benchmarks/cpu_training.py --network small --rounds 9 --images 512 > steps.json
    python benchmarks/cpu_training.py --variant fused:64 --variant frozen:64

Each variant (`name:batch`) has a process of its own. The processes train in turns, one block of images each;
the order turns round with every round. A process builds the network of recipe `fast`, compiles it as
`mien train` does, and gives Keras' fit the same batch of noise again and again, so the input costs nothing.
CPU time is that of all threads of the process from the beginning of a block to its end. Ratios compare a
variant with `keras:64` in the same round: the smallest, the median and the largest. Needs mien[cpu].

What the names mean:
    keras             Keras' own layer for batch normalisation
    fused             TensorFlow's fused operation for it, as `mien train` has it
    frozen            without statistics of the batch (layers not trainable): an upper bound
    padded            keras, with all channels rounded up to multiples of 16 (a larger network)
    xla               fused, with jit_compile=True
    steps             fused, with steps_per_execution=8
    memory            fused, with TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE=0: oneDNN keeps its primitives
    one-op            fused, with one operation at a time (TF_NUM_INTEROP_THREADS=1)
    caller            fused, with TF_ONEDNN_THREADPOOL_USE_CALLER_THREAD=1
    tensorflow        fused, with TensorFlow's own kernels (TF_ENABLE_ONEDNN_OPTS=0)
    tensorflow-keras  keras, with TensorFlow's own kernels
    torch             keras, on Keras' torch backend (needs torch, which no extra of mien installs)
    jax               keras, on Keras' JAX backend
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

#: Settings of each variant; keys in capitals are environment variables.
VARIANTS: dict[str, dict[str, Any]] = {
    "keras": {},
    "fused": {"fused": True},
    "frozen": {"frozen": True},
    "padded": {"padded": True},
    "xla": {"fused": True, "compile": True},
    "steps": {"fused": True, "together": 8},
    "memory": {"fused": True, "TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE": "0"},
    "one-op": {"fused": True, "TF_NUM_INTEROP_THREADS": "1"},
    "caller": {"fused": True, "TF_ONEDNN_THREADPOOL_USE_CALLER_THREAD": "1"},
    "tensorflow": {"fused": True, "TF_ENABLE_ONEDNN_OPTS": "0"},
    "tensorflow-keras": {"TF_ENABLE_ONEDNN_OPTS": "0"},
    "torch": {"KERAS_BACKEND": "torch"},
    "jax": {"KERAS_BACKEND": "jax", "compile": "auto"},
}
#: Variants that need more than mien[cpu], which are measured only if --variant names them.
OTHER_BACKENDS = ("torch", "jax")
#: What the ratios compare with.
BASE = "keras:64"
#: What is measured without --variant.
PLAN = (
    BASE,
    *(f"{name}:64" for name in VARIANTS if name not in ("keras", *OTHER_BACKENDS)),
    "keras:256",
    "fused:256",
)


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="small")
    parser.add_argument("--variant", action="append", metavar="NAME:BATCH", help=f"default: {' '.join(PLAN)}")
    parser.add_argument("--images", type=int, default=1024, help="images of a block: a multiple of 8 x 64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(*_parse(options.variant[0]), options)
        return
    plan = list(dict.fromkeys([BASE, *(options.variant or PLAN)]))
    for variant in plan:
        _parse(variant)
    with contextlib.ExitStack() as stack:
        children = {variant: stack.enter_context(_start(variant, options)) for variant in plan}
        rounds = []
        for number in range(options.rounds):
            order = plan if number % 2 == 0 else plan[::-1]
            rounds.append({variant: _ask(children[variant], variant) for variant in order})
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        for child in children.values():
            assert child.stdin is not None
            child.stdin.close()
    document = {
        "network": options.network,
        "images": options.images,
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "images_per_cpu_second": {key: _three([each[key] for each in rounds]) for key in plan},
        "ratio": {key: _three([each[key] / each[BASE] for each in rounds]) for key in plan},
        "rounds": rounds,
    }
    print(json.dumps(document, indent=2))


def _parse(variant: str) -> tuple[str, int]:
    name, _, batch = variant.partition(":")
    if name not in VARIANTS or not batch.isdigit():
        sys.exit(f"{variant!r}: give NAME:BATCH, such as fused:64, with a name of {', '.join(VARIANTS)}")
    return name, int(batch)


def _three(values: list[float]) -> list[float]:
    """Return the smallest, the median and the largest."""
    return [round(value, 3) for value in (min(values), statistics.median(values), max(values))]


def _start(variant: str, options: argparse.Namespace) -> subprocess.Popen[str]:
    """Start the process of a variant, and wait until its network is compiled."""
    name, _ = _parse(variant)
    command = [sys.executable, __file__, "--child", "--variant", variant]
    command += ["--network", options.network, "--images", str(options.images)]
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_ENABLE_ONEDNN_OPTS", None)  # as `mien train` starts TensorFlow
    environment |= {key: value for key, value in VARIANTS[name].items() if key.isupper()}
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    _ask(child, variant)  # the first block traces and warms up
    print(f"{variant} is ready", file=sys.stderr)
    return child


def _ask(child: subprocess.Popen[str], variant: str) -> float:
    """Let a process train one block, and return its images per CPU-second."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    answer = child.stdout.readline()
    if not answer:
        sys.exit(f"{variant} failed; see above")
    return float(answer)


def _child(name: str, batch: int, options: argparse.Namespace) -> None:
    """Train one block of images for each line of the standard input."""
    from mien.models import networks

    keras = networks.load_keras(options.network)
    from mien.training import normalization, optimization, recipes, targets, trainer

    settings = VARIANTS[name]
    recipe = recipes.override(
        recipes.get("fast"), [f"network={options.network}", f"batch_size={batch}", "precision=float32"]
    )
    keras.utils.set_random_seed(recipe.seed)
    model = trainer.build_network(recipe, classes=7, policy="float32")
    if settings.get("padded"):
        model = _pad(model)
    if settings.get("fused"):
        model = normalization.fuse(model)
    if settings.get("frozen"):
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    model.compile(
        optimizer=optimization.make_optimizer(recipe.optimizer, model, steps=10**5),
        **optimization.loss_settings(recipe.targets, distils=False, frequencies=[1 / 7] * 7),
        jit_compile=settings.get("compile", False),
        steps_per_execution=settings.get("together", 1),
    )
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch, recipe.size, recipe.size, 1)).astype(np.uint8)
    shares = targets.one_hot(random.integers(0, 7, batch), 7)
    wanted = {"answer": shares, "ferplus": shares} if len(model.outputs) > 1 else shares
    steps = options.images // batch

    class Blocks(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
        began = 0.0

        def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            if not sys.stdin.readline():
                sys.exit()
            self.began = time.process_time()

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            print(steps * batch / (time.process_time() - self.began), flush=True)

    def batches() -> Iterator[Any]:
        while True:
            yield images, wanted

    model.fit(batches(), steps_per_epoch=steps, epochs=10**6, shuffle=False, verbose=0, callbacks=[Blocks()])


def _pad(model: Any) -> Any:
    """Return the network with the channels of its convolutions rounded up to multiples of 16."""
    from mien.models.networks import load_keras

    def pad(layer: Any) -> Any:
        config = layer.get_config()
        if type(layer).__name__ == "Conv2D":
            config["filters"] = -(-config["filters"] // 16) * 16
        return type(layer).from_config(config)

    return load_keras().models.clone_model(model, clone_function=pad)


if __name__ == "__main__":
    main()
