"""Images a second of both engines of training, on the JAX backend.

    KERAS_BACKEND=jax python benchmarks/device_training.py --network small --network vgg

Trains on made-up images, so it needs no data. Each engine compiles and makes two turns first, which do not
count.
"""

import argparse
import statistics
import time

import numpy as np

from mien.data.datasets import Split
from mien.models.networks import load_keras
from mien.training import batches, checkpoints, optimization, recipes, targets, trainer


def measure(network: str, options: argparse.Namespace) -> None:
    """Print the images a second of both engines for one network."""
    from mien.training import device

    recipe = recipes.override(
        recipes.get("teacher"),
        [
            f"network={network}",
            f"batch_size={options.batch_size}",
            f"precision={options.precision}",
            "epochs=1000",
        ],
    )
    random = np.random.default_rng(0)
    n, steps = options.images, options.steps
    images = random.integers(0, 256, (n, recipe.size, recipe.size, 1)).astype(np.uint8)
    labels = random.integers(0, 7, n)
    split = Split("train", images, labels, None, tuple(f"row {row}" for row in range(n)))
    shares = targets.one_hot(labels, 7)
    wanted = {"answer": shares, "ferplus": shares}
    policy = trainer.choose_precision(recipe.precision)

    def compiled(tabulate):
        model = trainer.build_network(recipe, classes=7, policy=policy)
        model.compile(
            optimizer=optimization.make_optimizer(recipe.optimizer, model, steps=10**5, tabulate=tabulate),
            **optimization.loss_settings(recipe.targets, distils=False, frequencies=[1 / 7] * 7),
        )
        return model

    feed = batches.BatchLoader(split, wanted, recipe)
    rates: dict[str, list[float]] = {"host": [], "device": []}

    def measure_host() -> None:
        """Time each epoch of one call of fit."""
        host = compiled(None)
        began: list[float] = []
        keras = load_keras()
        host.fit(
            feed.batches(0, 0),
            steps_per_epoch=steps,
            epochs=options.turns + 2,
            verbose=0,
            shuffle=False,
            callbacks=[
                keras.callbacks.LambdaCallback(
                    on_epoch_begin=lambda epoch, logs: began.append(time.perf_counter()),
                    on_epoch_end=lambda epoch, logs: rates["host"].append(
                        steps * feed.batch_size / (time.perf_counter() - began[-1])
                    ),
                )
            ],
        )
        del rates["host"][:2]

    with device.on_host():
        on = compiled(device.Tabulated)
        checkpoints.build_metrics(on, wanted)
    validation = images[:256], {name: target[:256] for name, target in wanted.items()}
    loop = device.Loop(
        on,
        feed,
        validation,
        policy=policy,
        about=(),
    )
    loop.pull()
    blocks = device.Blocks(feed, streams=options.stream)

    def on_device(epoch: int) -> float:
        began, done = time.perf_counter(), 0
        for step in loop.train(epoch, 0, blocks):
            done = step
            if done >= steps:
                break
        return done * feed.batch_size / (time.perf_counter() - began)

    for turn in range(-2, options.turns):
        rate = on_device(turn + 2)
        if turn >= 0:
            rates["device"].append(rate)
    if not options.device_only:
        measure_host()
    blocks.close()
    found = {name: statistics.median(values) for name, values in rates.items() if values}
    ratio = f", ratio {found['device'] / found['host']:.2f}" if len(found) == 2 else ""
    print(
        f"{network}, batch {feed.batch_size}, {policy}: "
        + ", ".join(f"{name} {rate:,.0f} images/s" for name, rate in found.items())
        + ratio
        + (f", {loop.memory() / 2**30:.1f} GiB" if loop.memory() else ""),
        flush=True,
    )


def main() -> None:
    """Measure the networks that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", action="append", help="a network of mien; may be given several times")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--images", type=int, default=28_709)
    parser.add_argument("--steps", type=int, default=100, help="steps of each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device-only", action="store_true")
    parser.add_argument("--stream", action="store_true", help="copy the images block by block")
    options = parser.parse_args()
    if load_keras().backend.backend() != "jax":
        parser.error("this needs the JAX backend; set the environment variable KERAS_BACKEND=jax")
    for network in options.network or ["small"]:
        measure(network, options)


if __name__ == "__main__":
    main()
