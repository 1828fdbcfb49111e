"""Does `mien.training.trainer.fit` learn what the script that mien grew out of learns, step for step?

    python benchmarks/train_agree.py FER2013.csv --network small --steps 300 --batch 64 --seeds 3

Both train the same network with recipe `seed` (Adam 0.001, rotation 10°, zoom 0.1, flip) for one epoch of
steps × batch images, from the same PNG files, with several seeds, and are scored on the same val images.
Initial weights, order and augmentation differ between the two as they do between seeds, so the question is
whether the two means lie within the spread of the seeds. Needs mien[cpu] and scipy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

VALIDATION = 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--network", default="small", choices=("seed", "small", "tiny"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        side, seed = options.child
        print("\n" + json.dumps(_child(side, int(seed), options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        _write(options.data, Path(folder), train=options.steps * options.batch)
        found: dict[str, list[float]] = {"script": [], "mien": []}
        for seed in range(options.seeds):
            for side in found:
                loss = _ask(side, seed, Path(folder), options)
                found[side].append(loss)
                print(f"{side}, seed {seed}: val_loss {loss:.4f}", flush=True)
    for side, losses in found.items():
        spread = statistics.stdev(losses) if len(losses) > 1 else float("nan")
        print(f"{side}: mean {statistics.mean(losses):.4f}, standard deviation {spread:.4f}")


def _write(source: Path, to: Path, *, train: int) -> None:
    """Write the first images of train and val as class folders of PNG files."""
    from PIL import Image

    from mien.data import datasets

    faces = datasets.load(source)
    for name, count in (("train", train), ("val", VALIDATION)):
        split = faces.split(name)
        for index in range(min(count, len(split))):
            folder = to / name / faces.labels[split.labels[index]]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(split.images[index, :, :, 0]).save(folder / f"{index:06d}.png")


def _ask(side: str, seed: int, data: Path, options: argparse.Namespace) -> float:
    command = [sys.executable, __file__, str(data), "--child", side, str(seed)]
    for name in ("network", "steps", "batch"):
        command += [f"--{name}", str(getattr(options, name))]
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def _child(side: str, seed: int, options: argparse.Namespace) -> float:
    with tempfile.TemporaryDirectory() as out:
        if side == "script":
            return _script(seed, Path(out), options)
        from mien.data import datasets
        from mien.training import recipes, trainer

        recipe = recipes.override(
            recipes.get("seed"),
            [f"network={options.network}", f"batch_size={options.batch}", f"seed={seed}", "epochs=1"],
        )
        made = trainer.fit(datasets.load(options.data), recipe, out=Path(out) / "run")
        return made.history()[-1]["val_loss"]


def _script(seed: int, out: Path, options: argparse.Namespace) -> float:
    import keras

    from train_speed import seed_script

    keras.utils.set_random_seed(seed)
    fit = keras.Model.fit
    losses: list[float] = []

    def one_epoch(model: Any, x: Any, **rest: Any) -> Any:
        history = fit(model, x, **(rest | {"epochs": 1, "verbose": 0}))
        losses.append(history.history["val_loss"][-1])
        return history

    keras.Model.fit = one_epoch
    seed_script(options.data, out, batch_size=options.batch, network=options.network, seed=seed)
    return losses[-1]


if __name__ == "__main__":
    main()
