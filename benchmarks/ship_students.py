"""Ship networks that another program trained: from arrays of weights to a model of the package.

    python benchmarks/ship_students.py default WEIGHTS.npz --data fer2013.csv --votes VOTES --exclude LIST \
        --to src/mien/models/weights

The weights are those of docs/lab-book/27-students-on-a-gpu.md: arrays named `NNN:path` in the order of Keras'
`get_weights` of the network with its second head. Everything after that is what `mien ship` does.
"""

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import mien
from mien.data import datasets
from mien.models import model_files, networks
from mien.release import exporters, shipping
from mien.training import trainer

#: What the training had in common, by docs/lab-book/27-students-on-a-gpu.md.
_RECIPE = {
    "size": 48,
    "batch_size": 256,
    "precision": "bfloat16",
    "select": "last",
    "targets": {
        "smoothing": 0.05,
        "votes": 0.0,
        "ferplus": 1.0,
        "teacher": 0.85,
        "temperature": 1.0,
        "balance": 0.0,
    },
    "optimizer": {
        "name": "sgd",
        "learning_rate": 0.25,
        "schedule": "one-cycle",
        "warmup": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.0002,
        "ema": 0.0,
        "clip_norm": 5.0,
    },
    # As near as a recipe's settings come to it; the page of the experiment has the rest.
    "augment": {
        "rotation": 15.0,
        "zoom": 0.16,
        "zoom_together": True,
        "aspect": 0.08,
        "shift": 4 / 48,
        "flip": True,
        "gamma": 0.3,
        "contrast": 0.45,
        "brightness": 0.12,
        "blur": 1.5 / 48,
        "noise": 16 / 255,
        "erase": 0.2,
        "erase_area": [0.02, 0.2],
        "interpolation": "cubic",
        "fill": "nearest",
    },
    "about": "Learns from degraded views of each face what four teachers answer to the clean view.",
    "command": "",
    "measured": "",
}
_OWN = {
    "default": {"name": "patient-distillation", "network": "xlarge", "epochs": 276, "seed": 11},
    "fast": {"name": "patient-distillation", "network": "small", "epochs": 98, "seed": 13},
}
_TEACHER = (
    "the mean of four networks (two vgg, two residual of 7.7 M parameters, 56 to 100 epochs) on 60 augmented "
    "views of every training image; docs/experiments.md, number 27"
)
#: What trained them, read from the training's log; the rest of the versions is of this program.
_TRAINED_WITH = {"keras": "3.15.1", "backend": "jax 0.11.2 on one NVIDIA H200"}


def main() -> int:
    """Build the network, give it the weights, and ship it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=_OWN)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--votes", type=Path, required=True)
    parser.add_argument("--exclude", type=Path, action="append", default=[])
    parser.add_argument("--to", type=Path, required=True)
    o = parser.parse_args()

    data = datasets.load(o.data, votes=o.votes, exclude=o.exclude)
    recipe = _OWN[o.name] | _RECIPE
    network = networks.build(str(recipe["network"]), ferplus=True)
    with np.load(o.weights) as arrays:
        # By order, because the files name the second head's layer otherwise.
        found = [arrays[key].astype(np.float32) for key in sorted(arrays) if key[:3].isdigit()]
    if [array.shape for array in found] != [tuple(variable.shape) for variable in network.weights]:
        sys.exit(f"{o.weights} does not hold the weights of {recipe['network']}")
    network.set_weights(found)
    described = trainer.describe_data(data)
    card = model_files.Card(
        name=o.name,
        labels=data.labels,
        size=48,
        heads=dict(model_files.TWO_HEADS),
        recipe=recipe,
        teacher=_TEACHER,
        data=trainer._parse_data(described),
        excluded=described["excluded"],
        versions={
            "mien": mien.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        }
        | _TRAINED_WITH,
    )
    with tempfile.TemporaryDirectory() as aside:
        trained = exporters.write_model(
            network, card, aside, images=data.split("val").images[: exporters.IMAGES]
        )
        made = shipping.make(trained, data, to=o.to, name=o.name, licence="Apache-2.0")
    for head, found in made.evaluations.items():
        print(head, found.accuracy, found.agreement, found.ece, found.quantization)
    print(made.model.card.precision, made.document["bytes"], f"{time.process_time():.0f} s of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
