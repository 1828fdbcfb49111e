"""Batches of a training split, a pure function of (seed, epoch, step)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.data.datasets import Split
from mien.training import augmentation, targets
from mien.training.recipes import Recipe

Target = NDArray[np.float32] | dict[str, NDArray[np.float32]]
Batch = tuple[NDArray[np.uint8], Target]


@dataclass(frozen=True, eq=False)
class BatchLoader:
    """The training split in the order a recipe gives it.

    Every epoch goes through all images once, in an order of its own. The last batch of an epoch is filled up
    with the epoch's first images, so that all batches are equally large and a compiled step fits them all.

    Args:
        split: Images `(n, s, s, 1)` uint8 in [0, 255].
        targets: What the network should answer to each, by output.
        recipe: Gives batch size, seed and augmentation.
    """

    split: Split
    targets: dict[str, NDArray[np.float32]]
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
        """Yield images `(b, s, s, 1)` uint8 and their targets, from a step on to the very end."""
        recipe = self.recipe
        for number in range(epoch, recipe.epochs):
            order = self.order(number)
            for place in range(step * self.batch_size, len(order), self.batch_size):
                indices = order[place : place + self.batch_size]
                images = augmentation.augment_batch(
                    self.split.images, indices, recipe.augment, seed=recipe.seed, epoch=number
                )
                wanted = {name: target[indices] for name, target in self.targets.items()}
                if recipe.augment.mixup:
                    rng = np.random.default_rng([recipe.seed, number, place])
                    images, wanted = targets.mix_images(images, wanted, recipe.augment.mixup, rng)
                yield images, to_keras(wanted)
            step = 0


def to_keras(wanted: dict[str, NDArray[np.float32]]) -> Target:
    """Return targets as a network takes them: by output, or alone where it has a single one."""
    return wanted if len(wanted) > 1 else wanted["answer"]
