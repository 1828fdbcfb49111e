"""Trainings on devices of JAX, for `test_device.py`: run in a process of their own, which has four devices.

    python tests/on_device.py FOLDER

writes FOLDER/found.json. The process needs `ENVIRONMENT`.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "KERAS_BACKEND": "jax",
    # Four devices; and it compiles in a hurry, each program once.
    "XLA_FLAGS": "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}


#: Settings whose steps have all of 62 images, and no moving average.
WHOLE_BATCH = ("batch_size=62", "optimizer.ema=0")


def main() -> None:
    folder = Path(sys.argv[1])
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
    import builders
    import dying
    from mien import _processes

    _processes.claim_process()
    builders.add_toy_network()
    dying.compare_few()
    found = {
        "first_steps": first_steps(),
        "several": several(),
        "engines": engines(folder),
        "stopped": stopped(folder),
        "streamed": streamed(folder),
        "folds": folds(),
        "taught": taught(folder),
    }
    (folder / "found.json").write_text(json.dumps(found))


def use(count: int) -> None:
    """Let trainings use this many of the four devices."""
    import jax

    from mien.training import device

    device.find_devices = lambda: jax.local_devices()[:count]


def loop_of(count: int, *settings: str, train: int = 62, val: int = 141) -> Any:
    """A loop whose model has the same first weights each time."""
    import dying
    from mien.models import networks
    from mien.training import batches, checkpoints, device, optimization, recipes, targets, trainer

    use(count)
    recipe = recipes.override(dying.recipe("precision=float32", *settings), ["epochs=2"])
    data = dying.data(train=train, val=val)
    wanted = targets.make_targets(data, recipe, None)
    networks.set_random_seed(0)
    with device.on_host():
        model = trainer.build_network(recipe, classes=3, policy="float32")
        feed = batches.BatchLoader(data.split("train"), wanted.train, recipe)
        model.compile(
            optimizer=optimization.make_optimizer(
                recipe.optimizer, model, steps=2 * feed.steps, tabulate=device.Tabulated
            ),
            **optimization.loss_settings(recipe.targets, distils=False, frequencies=wanted.frequencies),
        )
        checkpoints.build_metrics(model, wanted.train)
    validation = data.split("val").images, batches.to_keras(wanted.val)
    return device.Loop(model, feed, validation, policy="", about=())


def weights_after(loop: Any, steps: int) -> list[Any]:
    from mien.training import device

    device.CALL_SECONDS = 0.0
    loop.pull()
    blocks = device.Blocks(loop.feed, streams=False)
    for step in loop.train(0, 0, blocks):
        if step == steps:
            break
    blocks.close()
    device.CALL_SECONDS = 0.5
    loop.sync()
    return list(loop.model.get_weights())


def first_steps() -> dict[str, float]:
    """The largest difference of a weight after one step on several devices, and of validation."""
    import numpy as np

    found = {}
    one = loop_of(1, *WHOLE_BATCH)
    weights, validated = weights_after(one, 1), one.validate()
    for count in (3, 4):
        other = loop_of(count, *WHOLE_BATCH)
        pairs = zip(weights, weights_after(other, 1), strict=True)
        found[f"weights on {count}"] = max(float(np.abs(a - b).max()) for a, b in pairs)
        now = other.validate()
        found[f"validation on {count}"] = max(abs(validated[name] - now[name]) for name in validated)
    return found


def several() -> dict[str, Any]:
    """Whether the compiled step is divided among devices."""
    loop = loop_of(4, *WHOLE_BATCH)
    loop.pull()
    from mien.training import device

    blocks = device.Blocks(loop.feed, streams=False)
    block = next(blocks.of(0, 0))
    state, draws = tuple(loop._state), loop._put(block.draws)
    arguments = (state, loop._images, loop._targets, loop._taught, draws, loop._rates, 0, 0, 1)
    lowered = loop.functions.train.lower(*arguments)
    blocks.close()
    text = lowered.compile().as_text()
    return {"partitions": text.count("num_partitions=4"), "reduces": text.count("all-reduce")}


def train(to: Path, *settings: str, on_status: Any = None) -> Any:
    import dying
    from mien.training import trainer

    recipe = dying.recipe(*dying.MORE, *settings)
    return trainer.fit(dying.data(), recipe, out=to, on_status=on_status)


def rows_of(run: Any) -> list[dict[str, float]]:
    from mien.training import runs

    return [{name: value for name, value in row.items() if name not in runs.CLOCKS} for row in run.history()]


def engines(folder: Path) -> dict[str, Any]:
    """The histories of both engines."""
    use(1)
    return {
        "host": rows_of(train(folder / "host" / "run", "engine=host")),
        "device": rows_of(train(folder / "device" / "run", "engine=device")),
        "auto": trainer_choice("auto"),
    }


def trainer_choice(engine: str) -> str:
    from mien.training import trainer

    return trainer.choose_engine(engine)


def stopped(folder: Path) -> list[str]:
    """Stop a training by SIGINT in its second epoch, and resume it with other lengths of calls."""
    use(1)
    import dying
    from mien.errors import Stopped
    from mien.training import device, runs, trainer

    seen = []

    def interrupt(status: Any) -> None:
        if status.epoch == 2 and not seen:
            seen.append(f"epoch {status.epoch}")
            os.kill(os.getpid(), signal.SIGINT)

    device.CALL_SECONDS = 0.0
    try:
        train(folder / "stopped" / "run", "engine=device", on_status=interrupt)
    except Stopped as error:
        seen.append(str(error))
    device.CALL_SECONDS = 0.5
    trainer.resume(runs.open_run(folder / "stopped" / "run"), dying.data())
    return seen


def streamed(folder: Path) -> dict[str, Any]:
    """Train with images that come block by block."""
    use(1)
    from mien.training import device

    before = device.RESIDENT_BYTES, device.BLOCK_BYTES
    device.RESIDENT_BYTES, device.BLOCK_BYTES = 0, 16 * 16 * 32 * 2
    train(folder / "streamed" / "run", "engine=device")
    device.RESIDENT_BYTES, device.BLOCK_BYTES = before
    return {}


def folds() -> dict[str, int]:
    """How many functions two seeds, and folds of other sizes, compile."""
    from mien.training import device

    device._functions.clear()
    for seed, count in ((1, 62), (2, 62), (2, 70)):
        loop = loop_of(1, *WHOLE_BATCH, f"seed={seed}", train=count)
        weights_after(loop, 1)
    return {"kept": len(device._functions), "compiled": loop.functions.train._cache_size()}


def taught(folder: Path) -> dict[str, Any]:
    """The histories of both engines with a teacher, and how far its answers on the device are off."""
    use(1)
    import numpy as np

    import dying
    from mien.models import model_files
    from mien.training import device, teachers, trainer

    settings = (
        "targets.ferplus=0.5",
        "views.count=2",
        "views.augment.rotation=20",
        "augment.noise=0.1",
        "epochs=2",
    )
    model = model_files.load(folder / "device" / "run")
    images = dying.data().split("train").images
    mine, theirs = device.make_answerer(model)(images), teachers.by_onnx(model)(images)
    found: dict[str, Any] = {
        "outputs": sorted(mine),
        "off": max(float(np.abs(mine[name] - theirs[name]).max()) for name in theirs),
    }
    for engine in ("host", "device"):
        made = trainer.fit(
            dying.data(),
            dying.recipe(*settings, f"engine={engine}"),
            out=folder / f"taught-{engine}",
            teacher=teachers.Teachers((model,)),
        )
        found[engine] = rows_of(made)
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
