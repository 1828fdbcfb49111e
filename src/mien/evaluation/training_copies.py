"""Which of the images scored stand in training as well: on those a score tells what was learnt by heart."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mien.data import duplicates, recrops

#: Percent of the work that is done when equal and near images are known, if others are looked for too.
_COPIES = 15


@dataclass(frozen=True, eq=False)
class Copies:
    """Images that stand in training too.

    Args:
        equal: `(n,)` whether a training image has the same pixels.
        near: `(n,)` whether one is near and none equal: shifted, brightened, re-encoded or mirrored.
        recut: `(n,)` whether one shows the same photograph, cut otherwise, and none is equal or near; None
            where it was not asked for.
    """

    equal: npt.NDArray[np.bool_]
    near: npt.NDArray[np.bool_]
    recut: npt.NDArray[np.bool_] | None = None

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whether training holds the image in any of the ways that were looked for."""
        copied = self.equal | self.near
        return copied if self.recut is None else copied | self.recut


def copies(
    images: npt.NDArray[np.uint8],
    train: npt.NDArray[np.uint8],
    *,
    recut: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Copies:
    """Find the images that stand in training, as `mien.data.duplicates` finds them.

    Args:
        images: `(n, size, size, 1)` uint8 in [0, 255]: those scored.
        train: `(m, size, size, 1)` uint8: those learnt from.
        recut: Look for photographs that were cut otherwise too, which takes ten times as long.
        progress: Called with (done, total) in percent.

    Raises:
        DataError: The images are smaller than 12 pixels a side; or 24, to look for those cut otherwise.
    """
    share = _COPIES if recut else 100

    def part(begin: int, size: int) -> Callable[[int, int], None]:
        return lambda done, total: progress(begin + size * done // total, 100) if progress else None

    found = duplicates.find(np.concatenate([train, images]), progress=part(0, share))
    learnt = np.arange(len(train))
    equal, near = found.again(np.arange(len(train), len(train) + len(images)), learnt)
    if not recut:
        return Copies(equal, near)
    cut = np.zeros(len(images), bool)
    cut[recrops.recut(images, train, progress=part(share, 100 - share)).one] = True
    return Copies(equal, near, cut & ~equal & ~near)
