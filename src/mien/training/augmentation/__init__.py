"""Random changes to training faces, a pure function of (seed, epoch, index).

`batch` is what training calls. It is `draw`, which chooses the changes, and `apply`, which makes them; both
stand open so that a figure can show, and a test can check, what was done to a face.

Chance comes from a counter, not from a generator with a state: each number is a hash of seed, epoch, index
and the number's place, so that a face's change does not depend on what else stands in its batch. The
geometry is one affine warp an image, with one interpolation.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from mien.errors import DataError
from mien.training.augmentation import geometry, pixels
from mien.training.augmentation.sampling import Changes, draw
from mien.training.recipes import Augment

__all__ = ["Changes", "apply", "batch", "draw"]

Images = npt.NDArray[np.uint8]


def batch(
    images: Images, indices: npt.NDArray[np.integer[Any]], settings: Augment, *, seed: int, epoch: int
) -> Images:
    """Return changed copies of `images[indices]`.

    Image i gets the same change in an epoch whatever batch it stands in, and in whatever order, process or
    platform. (Interpolation itself is OpenCV's: another version, or a processor with other vector
    instructions, may round a few pixels to the neighbouring grey level.)

    Args:
        images: Faces `(n, s, s, 1)` uint8 in [0, 255]; left as they are.
        indices: Which ones, `(b,)` integers in [0, n); one may stand there twice.
        settings: What may change, and by how much.
        seed: The run's, at least 0.
        epoch: Counted from any start, at least 0.

    Returns:
        New faces `(b, s, s, 1)` uint8 in the order of `indices`.

    Raises:
        DataError: The images or indices are not of that shape or type, or an index is out of range.
        RecipeError: `settings.erase_area`, `seed` or `epoch` is out of range.
        MissingExtra: OpenCV is not installed.
    """
    _check_images(images)
    _check_indices(indices, len(images))
    changes = draw(indices, settings, size=images.shape[1], seed=seed, epoch=epoch)
    return apply(images[indices], changes, fill=settings.fill, interpolation=settings.interpolation)


def apply(
    images: Images, changes: Changes, *, fill: str = "nearest", interpolation: str = "linear"
) -> Images:
    """Make `changes` on `images`, one for one.

    All turning, scaling, mirroring and shifting is about the image's centre, (s - 1) / 2 in both
    directions. Where nothing moves, and where a face is only mirrored, no pixel is interpolated.

    Args:
        images: Faces `(b, s, s, 1)` uint8 in [0, 255]; left as they are.
        changes: What happens to each of them.
        fill: `nearest`, `reflect` or `black`: what stands where the face was moved away.
        interpolation: `linear`, or `cubic`, which keeps a face as sharp as it came.

    Returns:
        New faces `(b, s, s, 1)` uint8.

    Raises:
        DataError: The images are not of that shape or type, or not as many as the changes.
        MissingExtra: OpenCV is not installed.
    """
    _check_images(images)
    if len(images) != len(changes.flip):
        raise DataError(
            f"{len(images)} images came with {len(changes.flip)} changes; give one change an image"
        )
    cv2 = geometry.opencv()
    matrices = geometry.matrices(changes, images.shape[1])
    with geometry.one_thread(cv2):
        faces = geometry.warp(cv2, images[..., 0], matrices, fill=fill, interpolation=interpolation)
        pixels.blur(cv2, faces, changes)
        pixels.shrink(cv2, faces, changes)
        pixels.relight(cv2, faces, changes)
    pixels.add_grain(faces, changes)
    pixels.erase(faces, changes)
    return faces[..., np.newaxis]


def _check_images(images: Images) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (images.shape[1],) * 2 + (1,):
        raise DataError(
            f"images to augment came as {images.dtype} {images.shape}; give uint8 (n, size, size, 1)"
        )


def _check_indices(indices: npt.NDArray[np.integer[Any]], count: int) -> None:
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise DataError(f"indices to augment came as {indices.dtype} {indices.shape}; give integers (b,)")
    outside = indices[(indices < 0) | (indices >= count)]
    if outside.size:
        raise DataError(
            f"index {outside[0]} is outside the {count} images; give indices from 0 to {count - 1}"
        )
