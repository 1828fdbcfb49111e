"""Batches of a training split, a pure function of (seed, epoch, step)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.data.datasets import Split
from mien.data.image_cache import Pages
from mien.training import augmentation, targets
from mien.training.recipes import Recipe

Target = NDArray[np.float32] | dict[str, NDArray[np.float32]]
Batch = tuple[NDArray[np.uint8], Target]


@dataclass(frozen=True, eq=False)
class BatchLoader:
    """Load the batches of a training split.

    Every epoch uses all images once, in its own order. The epoch's first images fill up its last batch, so
    that all batches have the same size and one compiled step fits them all.

    Args:
        split: Images `(n, s, s, 1)` uint8 in [0, 255].
        targets: Targets of each image, by output.
        recipe: Gives batch size, seed and augmentation.
    """

    split: Split
    targets: dict[str, NDArray[np.float32]]
    recipe: Recipe

    @property
    def batch_size(self) -> int:
        """Images per step: the recipe's `batch_size`, or all images if there are fewer."""
        return min(self.recipe.batch_size, len(self.split))

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return -(-len(self.split) // self.batch_size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the indices of the epoch's images `(steps × batch_size,)`."""
        order = np.random.default_rng([self.recipe.seed, epoch]).permutation(len(self.split))
        return np.resize(order, self.steps * self.batch_size)

    def batches(self, epoch: int, step: int) -> Iterator[Batch]:
        """Yield images `(b, s, s, 1)` uint8 and their targets, from this step to the last epoch's end."""
        recipe, pages = self.recipe, Pages(self.split.images)
        for number in range(epoch, recipe.epochs):
            order = self.order(number)
            for place in range(step * self.batch_size, len(order), self.batch_size):
                indices = order[place : place + self.batch_size]
                images = augmentation.augment_batch(
                    self.split.images, indices, recipe.augment, seed=recipe.seed, epoch=number
                )
                pages.read(len(indices))
                batch_targets = {name: target[indices] for name, target in self.targets.items()}
                if recipe.augment.mixup:
                    rng = np.random.default_rng([recipe.seed, number, place])
                    images, batch_targets = targets.mix_images(
                        images, batch_targets, recipe.augment.mixup, rng
                    )
                yield images, to_keras(batch_targets)
            step = 0


def to_keras(batch_targets: dict[str, NDArray[np.float32]]) -> Target:
    """Return targets as Keras expects them: a dictionary, or one array if there is one output."""
    return batch_targets if len(batch_targets) > 1 else batch_targets["answer"]
