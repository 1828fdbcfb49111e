"""What a detector finds, how its boxes lie about a face, and what every detector can do."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Found:
    """A face that a detector found, in pixels of the image it was given, perhaps reaching over its edges.

    Args:
        left: Pixels from the image's left edge.
        top: Pixels from the image's top edge.
        width: Pixels.
        height: Pixels.
        score: How sure the detector is, in [0, 1].
    """

    left: float
    top: float
    width: float
    height: float
    score: float


@dataclass(frozen=True)
class Framing:
    """The way from a detector's box to the square that shows a face as FER2013 does.

    Args:
        right: How far the square's middle lies right of the box's, in box widths.
        down: How far the square's middle lies below the box's, in box heights.
        scale: The square's side in geometric means of the box's width and height.
    """

    right: float
    down: float
    scale: float

    def square(self, found: Found) -> tuple[float, float, float]:
        """Return the square's left, top and side in pixels; it may reach over the image's edges."""
        side = self.scale * (found.width * found.height) ** 0.5
        middle = found.left + found.width * (0.5 + self.right), found.top + found.height * (0.5 + self.down)
        return middle[0] - side / 2, middle[1] - side / 2, side


class Detector(Protocol):
    """What finds faces. Threads may share one."""

    @property
    def name(self) -> str:
        """What `load` and the command line call it."""

    @property
    def framing(self) -> Framing:
        """How its boxes lie about a face."""

    def find(self, image: NDArray[np.uint8], *, smallest: int) -> list[Found]:
        """Return the faces of an upright image, the largest first.

        Args:
            image: `(h, w)` grey or `(h, w, 3)` RGB, 0..255.
            smallest: Width in pixels below which faces need not be found.
        """
