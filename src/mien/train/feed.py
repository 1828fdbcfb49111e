"""Batches of a training split, a pure function of (seed, epoch, step)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien import augment
from mien.dataset import Split
from mien.recipes import Recipe

Batch = tuple[NDArray[np.uint8], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Feed:
    """The training split in the order a recipe gives it.

    Every epoch goes through all images once, in an order of its own. The last batch of an epoch is filled up
    with the epoch's first images, so that all batches are equally large and a compiled step fits them all.

    Args:
        split: Images `(n, s, s, 1)` uint8 in [0, 255] and labels `(n,)`.
        classes: Number of classes.
        recipe: Gives batch size, seed and augmentation.
    """

    split: Split
    classes: int
    recipe: Recipe

    @property
    def batch_size(self) -> int:
        """Images a step: the recipe's, or all where there are fewer."""
        return min(self.recipe.batch_size, len(self.split))

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return -(-len(self.split) // self.batch_size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the indices of the epoch's images `(steps × batch_size,)`."""
        order = np.random.default_rng([self.recipe.seed, epoch]).permutation(len(self.split))
        return np.resize(order, self.steps * self.batch_size)

    def batches(self, epoch: int, step: int) -> Iterator[Batch]:
        """Yield images `(b, s, s, 1)` uint8 and targets `(b, classes)`, from a step on to the very end."""
        targets = one_hot(self.split.labels, self.classes)
        for number in range(epoch, self.recipe.epochs):
            order = self.order(number)
            for place in range(step * self.batch_size, len(order), self.batch_size):
                indices = order[place : place + self.batch_size]
                images = augment.batch(
                    self.split.images, indices, self.recipe.augment, seed=self.recipe.seed, epoch=number
                )
                yield images, targets[indices]
            step = 0


def one_hot(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Return labels `(n,)` as rows `(n, classes)` with a single 1."""
    return np.eye(classes, dtype=np.float32)[labels]
