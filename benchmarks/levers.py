"""Does a lever that is no setting of a recipe help at a recipe's budget?

    python benchmarks/levers.py fer2013.csv --lever swa --votes VOTES --exclude LIST [--set KEY=VALUE]

Trains a recipe (`quick`) as `mien train` does, with one thing changed, and scores the network on val with a
temperature and logit biases fitted across five folds, as `mien ship` does. One JSON line at the end. Levers:

    plain        nothing changed; the control
    swa          the mean of the weights after each epoch of the last quarter (arXiv:1803.05407)
    sam          sharpness-aware minimisation, radius 0.05, two passes a step (arXiv:2010.01412)
    cutmix       half of the batches carry a rectangle from another image (arXiv:1905.04899)
    progressive  the first half of the epochs at 32/48 of the side
    squeeze      a squeeze-and-excitation gate before each block's sum (arXiv:1709.01507)

Needs mien[cpu]; `sam` needs Keras on TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mien.data import datasets
from mien.evaluation import calibration, evaluator
from mien.evaluation.metrics import compute_metrics
from mien.models import networks
from mien.models.networks import load_keras
from mien.training import recipes
from mien.training.recipes import Recipe

LEVERS = ("plain", "swa", "sam", "cutmix", "progressive", "squeeze")
RADIUS = 0.05


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--lever", required=True, choices=LEVERS)
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--votes", type=Path)
    parser.add_argument("--exclude", type=Path, action="append", default=[])
    options = parser.parse_args()
    recipe = recipes.override(recipes.get(options.recipe), options.set)
    if recipe.optimizer.ema:
        # An epoch is a call of `fit` here, and each ends in writing the mean over the weights.
        parser.error("optimizer.ema is measured with mien train, which trains on from the weights themselves")
    data = datasets.load(options.data, votes=options.votes, exclude=options.exclude)
    print(json.dumps({"lever": options.lever, "set": options.set} | _train(options.lever, data, recipe)))


def _train(lever: str, data: datasets.Dataset, recipe: Recipe) -> dict[str, Any]:
    from mien.training import optimization, targets
    from mien.training.batches import BatchLoader

    began = time.process_time()
    keras = load_keras(recipe.network)
    keras.utils.set_random_seed(recipe.seed)
    wanted = targets.make_targets(data, recipe, None)
    feed = BatchLoader(data.split("train"), wanted.train, recipe)
    settings = optimization.loss_settings(recipe.targets, distils=False, frequencies=wanted.frequencies)
    build = {"sam": _sharp, "squeeze": _squeezing}.get(lever, _plain)

    def compiled(size: int) -> Any:
        model = build(recipe, len(data.labels), size)
        model.compile(
            optimizer=optimization.make_optimizer(recipe.optimizer, model, steps=feed.steps * recipe.epochs),
            **settings,
            jit_compile=False,
        )
        return model

    model = compiled(recipe.size * 2 // 3 if lever == "progressive" else recipe.size)
    mean, averaged = None, 0
    for epoch in range(recipe.epochs):
        if lever == "progressive" and epoch == recipe.epochs // 2:
            model = _moved(model, compiled(recipe.size))
        seen = model.fit(
            _batches(lever, feed, epoch, model.input_shape[1]),
            steps_per_epoch=feed.steps,
            shuffle=False,
            verbose=0,
        )
        print(f"epoch {epoch + 1}/{recipe.epochs}  loss {seen.history['loss'][0]:.4f}", file=sys.stderr)
        if lever == "swa" and epoch >= recipe.epochs - max(2, recipe.epochs // 4):
            averaged += 1
            now = model.get_weights()
            mean = now if mean is None else [a + (b - a) / averaged for a, b in zip(mean, now, strict=True)]
    if mean is not None:
        model.set_weights(mean)
        _renormalise(model, feed, recipe.epochs - 1)
    spent = time.process_time() - began
    return _score(model, data) | {"cpu_seconds": round(spent, 1)}


def _plain(recipe: Recipe, classes: int, size: int) -> Any:
    return networks.build(recipe.network, size=size, classes=classes, ferplus=recipe.targets.ferplus > 0)


def _squeezing(recipe: Recipe, classes: int, size: int) -> Any:
    """Build the recipe's network with a gate on what each block adds: a factor a channel, from its mean."""
    keras = load_keras()
    plain = _plain(recipe, classes, size)

    def gated(tensor: Any, name: str) -> Any:
        channels = tensor.shape[-1]
        x = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(tensor)
        x = keras.layers.Conv2D(max(8, channels // 8), 1, activation="relu", name=f"{name}_squeeze")(x)
        x = keras.layers.Conv2D(channels, 1, activation="sigmoid", name=f"{name}_excite")(x)
        return keras.layers.Multiply(name=f"{name}_gate")([tensor, x])

    def call(layer: Any, *inputs: Any, **named: Any) -> Any:
        if layer.name.endswith("_add"):
            added, short = inputs[0]
            return layer([gated(added, layer.name), short])
        return layer(*inputs, **named)

    return keras.models.clone_model(plain, call_function=call)


def _sharp(recipe: Recipe, classes: int, size: int) -> Any:
    """Build the recipe's network with SAM's two passes a step."""
    import tensorflow as tf

    keras = load_keras()

    class Sharp(keras.Model):  # type: ignore[misc, name-defined]
        def train_step(self, data: Any) -> Any:
            images, wanted = data
            with tf.GradientTape() as tape:
                answers = self(images, training=True)
                loss = self.compute_loss(images, wanted, answers)
            variables = self.trainable_variables
            uphill = tape.gradient(loss, variables)
            norm = tf.linalg.global_norm(uphill)
            moves = [RADIUS * each / (norm + 1e-12) for each in uphill]
            for variable, move in zip(variables, moves, strict=True):
                variable.assign_add(move)
            with tf.GradientTape() as tape:
                loss = self.compute_loss(images, wanted, self(images, training=True))
            downhill = tape.gradient(loss, variables)
            for variable, move in zip(variables, moves, strict=True):
                variable.assign_sub(move)
            self.optimizer.apply_gradients(zip(downhill, variables, strict=True))
            self._loss_tracker.update_state(loss)
            return self.compute_metrics(images, wanted, answers)

    plain = _plain(recipe, classes, size)
    return Sharp(plain.inputs[0], plain.output)


def _moved(model: Any, to: Any) -> Any:
    """Give weights and the optimizer's state to a model of another input size."""
    to.set_weights(model.get_weights())
    for old, new in zip(model.optimizer.variables, to.optimizer.variables, strict=True):
        new.assign(old)
    return to


def _batches(lever: str, feed: Any, epoch: int, size: int) -> Iterator[Any]:
    """Yield one epoch of batches, changed as the lever wants it."""
    import cv2

    batches = feed.batches(epoch, 0)
    for step in range(feed.steps):
        images, wanted = next(batches)
        if lever == "cutmix":
            images, wanted = _cut(images, wanted, np.random.default_rng([feed.recipe.seed, epoch, step]))
        if size != images.shape[1]:
            small = [cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA) for face in images]
            images = np.stack(small)[..., np.newaxis]
        yield images, wanted


def _cut(images: Any, wanted: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """Give every image of half the batches the same rectangle of another, and its share of the target."""
    if rng.random() < 0.5:
        return images, wanted
    size = images.shape[1]
    side = size * np.sqrt(rng.random())
    x, y = rng.integers(0, size, 2)
    left, right = (int(np.clip(x + sign * side / 2, 0, size)) for sign in (-1, 1))
    top, bottom = (int(np.clip(y + sign * side / 2, 0, size)) for sign in (-1, 1))
    other = rng.permutation(len(images))
    images = images.copy()
    images[:, top:bottom, left:right] = images[other, top:bottom, left:right]
    share = np.float32((right - left) * (bottom - top) / size**2)

    def mixed(target: Any) -> Any:
        return (1 - share) * target + share * target[other]

    if isinstance(wanted, dict):
        return images, {name: mixed(target) for name, target in wanted.items()}
    return images, mixed(wanted)


def _renormalise(model: Any, feed: Any, epoch: int) -> None:
    """Estimate the statistics of batch normalisation anew, for averaged weights have none of their own."""
    keras = load_keras()
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    batches = _batches("plain", feed, epoch, model.input_shape[1])
    for step, (images, _) in zip(range(min(feed.steps, 100)), batches, strict=False):
        for layer in layers:
            layer.momentum = step / (step + 1)
        model(images.astype(np.float32), training=True)


def _score(model: Any, data: datasets.Dataset) -> dict[str, Any]:
    val = data.split("val")
    answers = model.predict(val.images, batch_size=256, verbose=0)
    first = np.asarray(answers["answer"] if isinstance(answers, dict) else answers)
    report = compute_metrics(first, val.labels, data.labels)
    fitted = calibration.measure(first, val.labels, logit_bias=True)
    found: dict[str, Any] = {
        "n": report.n,
        "accuracy": round(report.accuracy, 4),
        "macro_f1": round(report.macro_f1, 4),
        "nll": round(report.nll, 4),
        "accuracy_calibrated": round(fitted.accuracy_after, 4),
        "nll_calibrated": round(fitted.nll_after, 4),
    }
    if isinstance(answers, dict) and val.votes is not None:
        agreed = evaluator.compute_agreement(np.asarray(answers["ferplus"]), val.votes, data.labels)
        found["with_most_people"] = None if agreed is None else round(agreed.share, 4)
    return found


if __name__ == "__main__":
    main()
