"""Find memorised images: by the hashes of a shipped model, and by the training split of the data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mien.data import duplicates, image_cache, recrops
from mien.evaluation.evaluation import Memorised, SplitUse
from mien.evaluation.metrics import wilson_interval
from mien.models import training_hashes
from mien.models.model_files import Model

if TYPE_CHECKING:
    from mien.evaluation.evaluator import Predictions


def find_memorised(
    models: Model | Sequence[Model], images: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None:
    """Return which images at least one of the models learned from.

    Args:
        models: One model or more.
        images: `(n, size, size, 1)` uint8 in [0, 255], in their input size.

    Returns:
        `(n,)` whether a model was trained on the same pixels; `(n,)` whether one was trained on a near
        duplicate, but none on the same pixels. None if no model has hashes of its training data.

    Raises:
        ModelError: The hashes of one are gone or damaged.
    """
    read = [training_hashes.read(each) for each in ([models] if isinstance(models, Model) else models)]
    # Models that were trained on the same images have the same hashes.
    kept = {training_hashes.pack(each)[0]: each for each in read if each is not None}
    if not kept:
        return None
    exact, near = np.zeros((2, len(images)), bool)
    for each in kept.values():
        equal, alike = each.find(images)
        exact |= equal
        near |= alike
    return exact, near & ~exact


def count_memorised(models: Model | Sequence[Model], answers: "Predictions") -> Memorised | None:
    """Count the images that the models were trained on, and score the others.

    Args:
        models: Whose answers these are.
        answers: As `evaluator.predict` returns them.

    Returns:
        The counts; None where no model has hashes of its training data.

    Raises:
        ModelError: The hashes of one are gone or damaged.
    """
    found = find_memorised(models, answers.split.images)
    if found is None:
        return None
    exact, near = found
    new = ~(exact | near)
    n = int(new.sum())
    right = int((answers.probabilities.argmax(axis=1) == answers.truth)[new].sum())
    return Memorised(
        exact=int(exact.sum()),
        near=int(near.sum()),
        n=n,
        accuracy=right / n if n else None,
        accuracy_interval=wilson_interval(right, n) if n else None,
    )


def warn_of_memorised(uses: SplitUse, found: Memorised | None) -> SplitUse:
    """Add the warning about memorised images; if they are the majority, the role is `train`."""
    if found is None or not found.total or uses.role == "train":
        return uses
    role = "train" if found.most else uses.role
    return replace(uses, role=role, warnings=(*uses.warnings, found.warning))


#: Percent of the work for exact and near duplicates, if re-cropped ones are searched for too.
_COPIES = 15


@dataclass(frozen=True, eq=False)
class TrainingDuplicates:
    """Images that the training split has too.

    Args:
        exact: `(n,)` whether a training image has the same pixels.
        near: `(n,)` whether only a near duplicate exists: shifted, brightened, re-encoded or mirrored.
        recrops: `(n,)` whether only a re-cropped duplicate exists; None if they were not searched for.
    """

    exact: npt.NDArray[np.bool_]
    near: npt.NDArray[np.bool_]
    recrops: npt.NDArray[np.bool_] | None = None

    @property
    def any(self) -> npt.NDArray[np.bool_]:
        """Whether training has a duplicate of any kind that was searched for."""
        copied = self.exact | self.near
        return copied if self.recrops is None else copied | self.recrops


def find_training_duplicates(
    images: npt.NDArray[np.uint8],
    train: npt.NDArray[np.uint8],
    *,
    include_recrops: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingDuplicates:
    """Find the images that a training split has too, with `mien.data.duplicates`.

    Args:
        images: `(n, size, size, 1)` uint8 in [0, 255]: the evaluated images.
        train: `(m, size, size, 1)` uint8: the training images.
        include_recrops: Search for re-cropped duplicates too, which takes ten times as long.
        progress: Called with (done, total) in percent.

    Raises:
        DataError: The images are smaller than 12 pixels a side; or 24 for re-cropped duplicates.
    """
    share = _COPIES if include_recrops else 100

    def part(begin: int, size: int) -> Callable[[int, int], None]:
        return lambda done, total: progress(begin + size * done // total, 100) if progress else None

    found = duplicates.find(image_cache.join([train, images]), progress=part(0, share))
    learnt = np.arange(len(train))
    equal, near = found.again(np.arange(len(train), len(train) + len(images)), learnt)
    if not include_recrops:
        return TrainingDuplicates(equal, near)
    cut = np.zeros(len(images), bool)
    cut[recrops.find(images, train, progress=part(share, 100 - share)).one] = True
    return TrainingDuplicates(equal, near, cut & ~equal & ~near)
