"""Reasons to trust an answer less."""

import numpy as np
from numpy.typing import NDArray

from mien.types import Flag

#: Sharpness of a crop below which it is called blurred. One of FER2013's 3,589 validation faces lies below,
#: and nineteen of twenty once a Gaussian of 1.5 pixels went over them (measured: docs/predict.md).
BLURRED = 0.2
#: Share of the frame's side that may lie beyond the image before a face is called cut.
CUT = 0.05


def flags_of(
    confidence: float,
    crop: NDArray[np.uint8],
    square: tuple[float, float, float],
    size: tuple[int, int],
    *,
    threshold: float | None,
) -> tuple[Flag, ...]:
    """Return the flags of a face, in the order of `mien.types.FLAGS`.

    - `uncertain`: the likeliest emotion is less likely than the card's threshold, above which the model
      answers four fifths of its validation images; never without one.
    - `small`: the frame has fewer pixels in the original than the model looks at, so that the crop is
      enlarged and holds less than any face that the model learnt from.
    - `blurred`: the crop's sharpness is below `BLURRED`.
    - `cut`: more than `CUT` of the frame's side lies beyond the image, and was made up from its edge.

    Args:
        confidence: The likeliest emotion's probability.
        crop: What the model looked at, `(s, s, 1)`, 0..255.
        square: Left, top and side of the frame in pixels of the image.
        size: Width and height of the image in pixels.
        threshold: The reading's at the balance in use, from the card.
    """
    left, top, side = square
    beyond = max(-left, -top, left + side - size[0], top + side - size[1])
    told: dict[Flag, bool] = {
        "uncertain": threshold is not None and confidence < threshold,
        "small": side < crop.shape[0],
        "blurred": sharpness(crop) < BLURRED,
        "cut": beyond > CUT * side,
    }
    return tuple(flag for flag, holds in told.items() if holds)


def sharpness(crop: NDArray[np.uint8]) -> float:
    """Return how large a crop's second differences are beside its contrast.

    Args:
        crop: `(s, s, 1)`, 0..255.

    Returns:
        Standard deviation of the Laplacian over that of the pixels; 0 for an even crop.

    Source: variance of the Laplacian, Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548.
    """
    x = crop[:, :, 0].astype(np.float32)
    rough = 4 * x[1:-1, 1:-1] - x[:-2, 1:-1] - x[2:, 1:-1] - x[1:-1, :-2] - x[1:-1, 2:]
    return float(rough.std() / max(float(x.std()), 1.0))
