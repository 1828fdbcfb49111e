"""Make faces unrecognisable."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.types import Box

#: Tiles along a hidden face's side. Of so few nobody can be told, and no filter brings more back.
TILES = 5
#: How much larger than the box the hidden part is, in box widths on each side: ears, hair, a box that lags.
_MARGIN = 0.25


def hide(pixels: NDArray[np.uint8], boxes: Iterable[Box]) -> NDArray[np.uint8]:
    """Return a picture in which what lies in `boxes`, and a quarter around, is averaged to a few soft tiles.

    Args:
        pixels: `(h, w, 3)` RGB, 0..255; it stays as it is.
        boxes: In pixels of the picture.
    """
    hidden = pixels.copy()
    height, width = pixels.shape[:2]
    for box in boxes:
        across, down = round(_MARGIN * box.width), round(_MARGIN * box.height)
        left, top = max(0, box.left - across), max(0, box.top - down)
        right = min(width, box.left + box.width + across)
        bottom = min(height, box.top + box.height + down)
        part = Image.fromarray(hidden[top:bottom, left:right])
        tiles = part.resize((TILES, TILES), Image.Resampling.BOX)
        hidden[top:bottom, left:right] = np.asarray(tiles.resize(part.size, Image.Resampling.BICUBIC))
    return hidden
