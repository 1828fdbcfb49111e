"""Measure how the memory of one process grows over many trainings; `mien tune` starts a process for each.

    python benchmarks/training_memory.py --trainings 20
    python benchmarks/training_memory.py --trainings 20 --clear

The network `tiny` learns 2,000 images of 24 × 24 pixels for two epochs. `--clear` calls Keras' clear_session
and Python's garbage collector after each training. Linux only.
"""

import argparse
import gc
import tempfile
from pathlib import Path

import numpy as np

from mien.data.datasets import Dataset, Split
from mien.models import networks
from mien.release import exporters
from mien.training import recipes, trainer


def make_split(name: str, n: int) -> Split:
    """Return images whose class is the place of a bright bar."""
    labels = np.arange(n) % 3
    images = np.random.default_rng(0).integers(0, 120, (n, 24, 24, 1), dtype=np.uint8)
    for index, label in enumerate(labels):
        images[index, :, label * 8 : label * 8 + 8] += 100
    return Split(name, images, labels, None, tuple(map(str, range(n))))


def measure_resident() -> float:
    """Return the resident memory of this process in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trainings", type=int, default=20)
    parser.add_argument("--clear", action="store_true")
    options = parser.parse_args()
    exporters.write_model.__kwdefaults__["at_least"] = 64
    data = Dataset("bars", ("a", "b", "c"), make_split("train", 2000), make_split("val", 400), None)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, options.trainings + 1):
            settings = ["epochs=2", "network=tiny", "size=24", f"optimizer.learning_rate={0.01 * number}"]
            trainer.fit(
                data, recipes.override(recipes.get("quick"), settings), out=Path(folder) / str(number)
            )
            if options.clear:
                networks.load_keras().backend.clear_session()
                gc.collect()
            print(f"{number:3} trainings: {measure_resident():6.0f} MB", flush=True)


if __name__ == "__main__":
    main()
