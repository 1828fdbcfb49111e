"""Change what a face's pixels are, where they stand: sharpness, light, grain, erased rectangles."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mien.training.augmentation.random_numbers import random_bytes
from mien.training.augmentation.sampling import Changes

Images = npt.NDArray[np.uint8]

#: Of the sum of four bytes, each from 0 to 255 and all equally likely.
_MEAN_OF_FOUR = 4 * 127.5
_DEVIATION_OF_FOUR = (4 * (256**2 - 1) / 12) ** 0.5


def blur(cv2: Any, faces: Images, changes: Changes) -> None:
    """Blur in place; beyond its edge a face goes on as its edge is."""
    for row in np.flatnonzero(changes.blur):
        deviation = float(changes.blur[row])
        cv2.GaussianBlur(faces[row], (0, 0), deviation, faces[row], borderType=cv2.BORDER_REPLICATE)


def shrink(cv2: Any, faces: Images, changes: Changes) -> None:
    """Take a face's resolution in place: shrink it by areas, and enlarge it again linearly."""
    size = faces.shape[1]
    sides = np.maximum(np.rint(size * changes.resolution), 1).astype(np.int64)
    for row in np.flatnonzero(sides < size):
        side = int(sides[row])
        small = cv2.resize(faces[row], (side, side), interpolation=cv2.INTER_AREA)
        cv2.resize(small, (size, size), faces[row], interpolation=cv2.INTER_LINEAR)


def relight(cv2: Any, faces: Images, changes: Changes) -> None:
    """Change gamma, contrast and brightness in place, through one table of 256 grey levels a face."""
    if not (np.any(changes.contrast != 1.0) or np.any(changes.brightness) or np.any(changes.gamma != 1.0)):
        return
    pixels = faces.shape[1] * faces.shape[2]
    levels = np.broadcast_to(np.arange(256.0), (len(faces), 256))
    if np.any(changes.gamma != 1.0):
        # Rounded, because another processor's power may differ in the last bit.
        levels = np.round(255.0 * (levels / 255.0) ** changes.gamma[:, np.newaxis], 6)
        counts = np.stack([np.bincount(face.ravel(), minlength=256) for face in faces])
        mean = (counts * levels).sum(axis=1) / pixels
    else:
        mean = faces.reshape(len(faces), pixels).sum(axis=1, dtype=np.int64) / pixels
    offset = mean * (1.0 - changes.contrast) + changes.brightness
    levels = levels * changes.contrast[:, np.newaxis] + offset[:, np.newaxis]
    tables = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    look_up = cv2.LUT
    for face, table in zip(faces, tables, strict=True):
        look_up(face, table, face)


def add_grain(faces: Images, changes: Changes) -> None:
    """Add noise to every pixel, in place; four even bytes added up are normal enough, and cheap."""
    chosen = np.flatnonzero(changes.grain)
    if not chosen.size:
        return
    sums = _sums_of_four(random_bytes(changes.grain_noise[chosen], 4 * faces[0].size))
    noise = sums.reshape(len(chosen), *faces.shape[1:]).astype(np.float32)
    noise -= _MEAN_OF_FOUR
    noise *= (changes.grain[chosen] / _DEVIATION_OF_FOUR).astype(np.float32)[:, np.newaxis, np.newaxis]
    noise += faces[chosen]
    faces[chosen] = np.rint(noise, out=noise).clip(0, 255, out=noise).astype(np.uint8)


def _sums_of_four(levels: Images) -> npt.NDArray[np.uint32]:
    """Add up every four neighbours `(b, 4 m)` to `(b, m)`, in words, for NumPy's own sum is slow here."""
    words = np.ascontiguousarray(levels).view("<u4")
    pairs = (words & np.uint32(0x00FF00FF)) + ((words >> np.uint32(8)) & np.uint32(0x00FF00FF))
    return (pairs & np.uint32(0xFFFF)) + (pairs >> np.uint32(16))


def erase(faces: Images, changes: Changes) -> None:
    """Fill each face's rectangle with noise, in place; every grey level is as likely as another."""
    chosen = np.flatnonzero(changes.box[:, 2])
    if not chosen.size:
        return
    areas = changes.box[chosen, 2] * changes.box[chosen, 3]
    noise = random_bytes(changes.noise[chosen], int(areas.max()))
    for row, area, levels in zip(chosen, areas, noise, strict=True):
        left, top, width, height = changes.box[row]
        faces[row, top : top + height, left : left + width] = levels[:area].reshape(height, width)
