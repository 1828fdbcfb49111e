"""Which of the images scored stand in training as well: on those a score tells what was learnt by heart."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mien import duplicates


@dataclass(frozen=True, eq=False)
class Copies:
    """Images that stand in training too.

    Args:
        equal: `(n,)` whether a training image has the same pixels.
        near: `(n,)` whether one is near and none equal: shifted, brightened, re-encoded or mirrored.
    """

    equal: npt.NDArray[np.bool_]
    near: npt.NDArray[np.bool_]


def copies(
    images: npt.NDArray[np.uint8],
    train: npt.NDArray[np.uint8],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Copies:
    """Find the images that stand in training, as `mien.duplicates` finds them.

    Args:
        images: `(n, size, size, 1)` uint8 in [0, 255]: those scored.
        train: `(m, size, size, 1)` uint8: those learnt from.
        progress: Called with (done, total) in percent.

    Raises:
        DataError: The images are smaller than 12 pixels a side.
    """
    found = duplicates.find(np.concatenate([train, images]), progress=progress)
    learnt = np.arange(len(train))
    equal, near = found.again(np.arange(len(train), len(train) + len(images)), learnt)
    return Copies(equal, near)
