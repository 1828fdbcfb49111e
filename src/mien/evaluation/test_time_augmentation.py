"""Several views of the same images: the mean of the answers to them is steadier, and costs as much more."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mien.errors import InputError

#: Numbers of views there are: as it is; its mirror image too; those and both moved to four corners.
VIEWS = (1, 2, 10)

#: How far an image is moved towards a corner, as a share of its side: 2 pixels of 48.
_MOVED = 1 / 24
_CORNERS = ((-1, -1), (1, -1), (-1, 1), (1, 1))


def of(images: npt.NDArray[np.uint8], number: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield views of images, the images themselves first.

    Args:
        images: `(n, size, size, 1)` uint8 in [0, 255].
        number: One of `VIEWS`.

    Yields:
        `number` arrays of the same shape and type. What a moved image leaves free holds its border pixels.

    Raises:
        InputError: There is no such number of views.
    """
    if number not in VIEWS:
        numbers = ", ".join(map(str, VIEWS[:-1]))
        raise InputError(f"an image has {numbers} or {VIEWS[-1]} views, not {number}")
    size = images.shape[1]
    wide = max(1, round(size * _MOVED))
    placed = [(0, 0), *_CORNERS] if number > 2 else [(0, 0)]
    framed = (
        np.pad(images, ((0, 0), (wide, wide), (wide, wide), (0, 0)), mode="edge") if number > 2 else images
    )
    for right, down in placed:
        view = images
        if (right, down) != (0, 0):
            left, top = wide * (1 - right), wide * (1 - down)
            view = framed[:, top : top + size, left : left + size]
        yield np.ascontiguousarray(view)
        if number > 1:
            yield np.ascontiguousarray(view[:, :, ::-1])
