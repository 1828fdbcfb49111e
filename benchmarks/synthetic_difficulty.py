"""How hard synthetic faces are: for a linear model on pixels, and for the demo's network.

    python benchmarks/synthetic_difficulty.py --train 4900 --val 700 --epochs 8 --seeds 0 1 2

Both learn from noisy labels and are scored on held-out faces, once against the labels as they stand and once
against the emotions drawn.
"""

import argparse
import json
import os
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from mien.data import synthetic


def linear(images, labels, truth, *, train):
    """Score logistic regression on pixels in [0, 1]; 100 steps are where the held-out score has settled."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    pixels = images.reshape(len(images), -1) / np.float32(255)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(max_iter=100).fit(pixels[:train], labels[:train])
    return _scores("linear", model.predict(pixels[train:]), labels[train:], truth[train:])


def network(images, labels, truth, *, train, name, epochs, batch, peak, seed):
    """Score the network after one-cycle SGD with flips and shifts of up to 2 pixels."""
    import keras

    from mien.models import networks

    keras.utils.set_random_seed(seed)
    model = networks.build(name, size=images.shape[1], classes=7)
    steps = -(-train // batch)
    model.compile(
        keras.optimizers.SGD(
            _one_cycle(peak, epochs * steps), momentum=0.9, nesterov=True, weight_decay=5e-4
        ),
        "sparse_categorical_crossentropy",
        jit_compile=False,
    )
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(train)
        for step in range(steps):
            rows = order[step * batch : (step + 1) * batch]
            model.train_on_batch(_moved(images[rows], rng), labels[rows])
    answers = np.argmax(model.predict(images[train:], batch_size=256, verbose=0), axis=1)
    return _scores("network", answers, labels[train:], truth[train:])


def _one_cycle(peak, steps):
    import keras

    class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            share = keras.ops.cast(step, "float32") / steps
            return peak * keras.ops.maximum(0.01, keras.ops.minimum(share / 0.25, (1 - share) / 0.75))

    return OneCycle()


def _moved(images, rng):
    side = images.shape[1]
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    moved = np.empty_like(images)
    for index, (down, right) in enumerate(rng.integers(0, 5, (len(images), 2))):
        moved[index] = padded[index, down : down + side, right : right + side]
    flip = rng.random(len(images)) < 0.5
    moved[flip] = moved[flip, :, ::-1]
    return moved


def _scores(what, answers, labels, truth):
    recalls = [round(float(np.mean(answers[truth == c] == c)), 3) for c in range(7)]
    return {
        f"{what}_accuracy": round(float(np.mean(answers == labels)), 4),
        f"{what}_accuracy_on_truth": round(float(np.mean(answers == truth)), 4),
        f"{what}_recalls": recalls,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--train", type=int, default=4900)
    parser.add_argument("--val", type=int, default=700)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--network", default="tiny")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--peak", type=float, default=0.1, help="highest learning rate")
    parser.add_argument("--skip-linear", action="store_true")
    args = parser.parse_args()
    for seed in args.seeds:
        row = {"seed": seed}
        begin = time.process_time()
        images, labels, truth = synthetic.sample(args.train + args.val, seed=seed)
        row["faces_per_cpu_second"] = round(len(images) / (time.process_time() - begin))
        row["wrong_labels"] = round(float(np.mean(labels != truth)), 4)
        if not args.skip_linear:
            row |= linear(images, labels, truth, train=args.train)
        begin, wall = time.process_time(), time.perf_counter()
        row |= network(
            images, labels, truth, train=args.train, name=args.network, epochs=args.epochs, batch=args.batch,
            peak=args.peak, seed=seed,
        )  # fmt: skip
        row["network_cpu_seconds"] = round(time.process_time() - begin, 1)
        row["network_seconds"] = round(time.perf_counter() - wall, 1)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
