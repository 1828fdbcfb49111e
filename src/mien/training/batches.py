"""Batches of a training split, a pure function of (seed, epoch, step)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.data.datasets import Split
from mien.data.image_cache import Pages
from mien.training import augmentation, targets
from mien.training.recipes import Recipe
from mien.training.teachers import ViewAnswers, view_images

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
        taught: What teachers answer to the views, whose columns follow those of `targets`; None if no teacher
            answers views.
    """

    split: Split
    targets: dict[str, NDArray[np.float32]]
    recipe: Recipe
    taught: ViewAnswers | None = None

    def some_targets(self) -> dict[str, NDArray[np.float32]]:
        """Return the targets of one image, with all columns of a batch."""
        return self._targets(np.zeros(1, np.int64), 0)

    def _targets(self, indices: NDArray[np.int64], epoch: int) -> dict[str, NDArray[np.float32]]:
        found = {name: target[indices] for name, target in self.targets.items()}
        if self.taught is None:
            return found
        view = self.taught.at(epoch)
        return {
            name: np.hstack([target, self.taught.answers[name][view, indices].astype(np.float32)])
            for name, target in found.items()
        }

    def _images(self, indices: NDArray[np.int64], epoch: int) -> NDArray[np.uint8]:
        settings, seed = self.recipe.augment, self.recipe.seed
        if self.taught is None:
            return augmentation.augment_batch(self.split.images, indices, settings, seed=seed, epoch=epoch)
        view = view_images(self.split.images, indices, self.taught.views, self.taught.at(epoch))
        changes = augmentation.draw_changes(indices, settings, size=view.shape[1], seed=seed, epoch=epoch)
        return augmentation.apply_changes(
            view, changes, fill=settings.fill, interpolation=settings.interpolation
        )

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

    def mixing_generator(self, epoch: int, place: int) -> np.random.Generator:
        """Return the generator for mixup of the batch that begins at a place of the epoch's order."""
        return np.random.default_rng([self.recipe.seed, epoch, place])

    def batches(self, epoch: int, step: int) -> Iterator[Batch]:
        """Yield images `(b, s, s, 1)` uint8 and their targets, from this step to the last epoch's end."""
        recipe, pages = self.recipe, Pages(self.split.images)
        for number in range(epoch, recipe.epochs):
            order = self.order(number)
            for place in range(step * self.batch_size, len(order), self.batch_size):
                indices = order[place : place + self.batch_size]
                images = self._images(indices, number)
                pages.read(len(indices))
                batch_targets = self._targets(indices, number)
                if recipe.augment.mixup:
                    rng = self.mixing_generator(number, place)
                    images, batch_targets = targets.mix_images(
                        images, batch_targets, recipe.augment.mixup, rng
                    )
                yield images, to_keras(batch_targets)
            step = 0


def to_keras(batch_targets: dict[str, NDArray[np.float32]]) -> Target:
    """Return targets as Keras expects them: a dictionary, or one array if there is one output."""
    return batch_targets if len(batch_targets) > 1 else batch_targets["answer"]
