"""Make the finished runs in tests/data/ again: python tests/make_tiny_run.py [FOLDER]

`tiny-run` was trained on an archive of synthetic faces and has one output head. `tiny-run-votes` was
trained on such faces as fer2013.csv, with FER+ votes, and has two heads. Tests that need a finished training
use a copy (the fixtures `tiny_run` and `tiny_run_votes`), so that only the tests of training train.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import builders
from mien import cli
from mien.training import runs

HERE = Path(__file__).resolve().parent / "data"
SETTINGS = ["network=toy", "epochs=8", "batch_size=16", "precision=float32", "optimizer.learning_rate=0.01"]


def make(to: Path) -> None:
    """Train both runs into `to`, in place of what is there."""
    builders.add_toy_network()
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            builders.faces_archive(Path("faces.zip"))
            builders.faces_csv(Path())
            train(["faces.zip", "--out", "tiny-run", *settings])
            votes = ["--votes", "ferplus.csv", "--set", "targets.ferplus=1"]
            train(["fer2013.csv", "--out", "tiny-run-votes", *votes, *settings])
            for name in ("tiny-run", "tiny-run-votes"):
                shutil.rmtree(to / name, ignore_errors=True)
                made = runs.open_run(Path(name))
                data = made.facts()["data"]
                made.update(data=data | {"origin": builders.origin(data["origin"], Path())})
                *older, _ = sorted(Path(name, "checkpoints").iterdir())
                left_out = ("figures", "tensorboard", "weights", "*.lock", *(path.name for path in older))
                shutil.copytree(name, to / name, ignore=shutil.ignore_patterns(*left_out))
        finally:
            os.chdir(before)


def train(words: list[str]) -> None:
    if code := cli.run(["train", *words]):
        sys.exit(code)


if __name__ == "__main__":
    make(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE)
