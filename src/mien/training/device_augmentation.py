"""The changes of `mien.training.augmentation`, applied by JAX on the device that trains.

`draw_epoch` chooses the changes on the host, with the same hash as `augment_batch`. `change_images` applies
them inside a jitted step. 99.9 % of the pixels are within one grey level of OpenCV's.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mien.training import augmentation
from mien.training.recipes import Augment

#: Arrays of one number or row for each image, by name.
Draws = dict[str, Any]

_CUBIC = -0.75
_KERNEL_SUM = 256


def draw_epoch(
    indices: NDArray[np.integer[Any]], settings: Augment, *, size: int, seed: int, epoch: int
) -> dict[str, NDArray[Any]]:
    """Choose what happens to each image of `indices`, as arrays for `change_images`.

    Example:
        >>> import numpy as np
        >>> from mien.training import device_augmentation, recipes
        >>> draws = device_augmentation.draw_epoch(
        ...     np.arange(4), recipes.Augment(rotation=10), size=48, seed=0, epoch=0
        ... )
        >>> sorted(draws), draws["matrix"].shape
        (['matrix'], (4, 2, 3))

    Args:
        indices: Integers `(n,)`, at least 0.
        settings: Ranges and probabilities.
        size: Side of the images in pixels.
        seed: The run's, at least 0.
        epoch: Counted from any start, at least 0.

    Returns:
        Arrays with n rows. Changes that `settings` never makes have no array.

    Raises:
        RecipeError: As `augmentation.draw_changes`.
    """
    changes = augmentation.draw_changes(indices, settings, size=size, seed=seed, epoch=epoch)
    draws: dict[str, NDArray[Any]] = {}
    if settings.rotation or settings.zoom or settings.aspect or settings.shift or settings.flip:
        draws["matrix"] = augmentation.affine_matrices(changes, size).astype(np.float32)
    if settings.blur:
        draws["blur"] = _gaussian_kernels(changes.blur, settings.blur * size)
    if settings.resolution:
        draws["side"] = augmentation.shrunk_sides(changes, size).astype(np.int32)
    if settings.gamma:
        draws["gamma"] = changes.gamma.astype(np.float32)
    if settings.gamma or settings.contrast or settings.brightness:
        draws["contrast"] = changes.contrast.astype(np.float32)
        draws["brightness"] = changes.brightness.astype(np.float32)
    if settings.noise:
        draws["grain"] = changes.grain.astype(np.float32)
        draws["grain_noise"] = _halves(changes.grain_noise)
    if settings.erase:
        draws["box"] = changes.box.astype(np.int32)
        draws["box_noise"] = _halves(changes.noise)
    return draws


def change_images(images: Any, draws: Mapping[str, Any], settings: Augment) -> Any:
    """Apply changes to images; this function can be jitted.

    Args:
        images: JAX array `(b, s, s)` uint8 in [0, 255].
        draws: Of `draw_epoch`, for these images.
        settings: The settings of `draw_epoch`.

    Returns:
        New images `(b, s, s)` uint8.
    """
    faces = images.astype(jnp.float32)
    if "matrix" in draws:
        faces = _rounded(
            warp(faces, draws["matrix"], fill=settings.fill, interpolation=settings.interpolation)
        )
    if "blur" in draws:
        faces = _blur(faces, draws["blur"])
    if "side" in draws:
        faces = _shrink(faces, draws["side"])
    if "contrast" in draws:
        faces = _relight(faces, draws)
    if "grain" in draws:
        faces = _add_grain(faces, draws)
    if "box" in draws:
        faces = _erase(faces, draws)
    return faces.astype(jnp.uint8)


def blend(images: Any, share: Any, other: Any) -> Any:
    """Blend images with others of their batch, as `mien.training.targets.mix_images` does.

    Args:
        images: `(b, s, s)` uint8.
        share: The other image's share `(b,)` in [0, 0.5].
        other: The other image's index in the batch `(b,)`.
    """
    levels, wide = images.astype(jnp.float32), share[:, None, None]
    return _rounded(levels * (1 - wide) + levels[other] * wide).astype(jnp.uint8)


def warp(faces: Any, matrices: Any, *, fill: str, interpolation: str) -> Any:
    """Return faces `(b, s, s)` float32, each looked up through its matrix `(2, 3)`; not rounded."""
    count, size = faces.shape[0], faces.shape[1]
    grid = jnp.arange(size, dtype=jnp.float32)
    entries = [matrices[:, row, column, None, None] for row in (0, 1) for column in (0, 1, 2)]
    x = entries[0] * grid[None, None, :] + entries[1] * grid[None, :, None] + entries[2]
    y = entries[3] * grid[None, None, :] + entries[4] * grid[None, :, None] + entries[5]
    left, top = jnp.floor(x), jnp.floor(y)
    taps = (0, 1) if interpolation == "linear" else (-1, 0, 1, 2)
    weigh = _linear_weights if interpolation == "linear" else _cubic_weights
    across, down = weigh(x - left), weigh(y - top)
    flat = faces.reshape(count, size * size)
    result = jnp.zeros((count, size, size), jnp.float32)
    for row_weight, row in zip(down, taps, strict=True):
        at_y, in_y = _inside(top.astype(jnp.int32) + row, size, fill)
        line = jnp.zeros((count, size, size), jnp.float32)
        for weight, column in zip(across, taps, strict=True):
            at_x, in_x = _inside(left.astype(jnp.int32) + column, size, fill)
            found = jnp.take_along_axis(flat, (at_y * size + at_x).reshape(count, -1), axis=1)
            found = found.reshape(count, size, size)
            line += weight * (found if in_x is None else jnp.where(in_x & in_y, found, 0.0))
        result += row_weight * line
    return result


def _inside(place: Any, size: int, fill: str) -> tuple[Any, Any]:
    """Return places inside the image, and for `black` which of them were inside before."""
    if fill == "reflect":
        place = jnp.mod(place, 2 * size)
        return jnp.minimum(place, 2 * size - 1 - place), None
    clipped = jnp.clip(place, 0, size - 1)
    return clipped, (clipped == place) if fill == "black" else None


def _linear_weights(fraction: Any) -> tuple[Any, ...]:
    return 1 - fraction, fraction


def _cubic_weights(fraction: Any) -> tuple[Any, ...]:
    """Return the weights of four neighbours.

    Source: Keys 1981, doi:10.1109/TASSP.1981.1163711, with OpenCV's factor of -0.75.
    """

    def near(x: Any) -> Any:
        return ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1

    def far(x: Any) -> Any:
        return ((_CUBIC * x - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC

    return far(1 + fraction), near(fraction), near(1 - fraction), far(2 - fraction)


def _rounded(levels: Any) -> Any:
    return jnp.clip(jnp.rint(levels), 0, 255)


def _blur(faces: Any, kernel: Any) -> Any:
    """Convolve rows and columns with each face's kernel `(b, taps)`; all sums are exact."""
    size, reach = faces.shape[1], kernel.shape[1] // 2
    padded = jnp.pad(faces, ((0, 0), (0, 0), (reach, reach)), mode="edge")
    half = sum(kernel[:, tap, None, None] * padded[:, :, tap : tap + size] for tap in range(2 * reach + 1))
    padded = jnp.pad(half, ((0, 0), (reach, reach), (0, 0)), mode="edge")
    whole = sum(kernel[:, tap, None, None] * padded[:, tap : tap + size] for tap in range(2 * reach + 1))
    return jnp.floor(whole / _KERNEL_SUM**2 + 0.5)


def _gaussian_kernels(deviation: NDArray[np.float64], largest: float) -> NDArray[np.float32]:
    """Return kernels `(n, taps)` of integers that sum to 256, rounded as OpenCV rounds them for 8-bit images.

    The number of taps also is OpenCV's. The rounding error of a tap is added to the next tap.
    """
    reach = (int(np.rint(largest * 6 + 1)) | 1) // 2
    own = (np.rint(deviation * 6 + 1).astype(np.int64) | 1) // 2
    taps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (taps / np.maximum(deviation, 1e-3)[:, np.newaxis]) ** 2)
    weights *= np.abs(taps) <= own[:, np.newaxis]
    weights *= _KERNEL_SUM / weights.sum(axis=1, keepdims=True)
    kernels, error = np.zeros(weights.shape), np.zeros(len(weights))
    for tap in range(reach):
        exact = weights[:, tap] + error
        kernels[:, tap] = kernels[:, -1 - tap] = np.rint(exact)
        error = exact - kernels[:, tap]
    kernels[:, reach] = _KERNEL_SUM - kernels.sum(axis=1)
    return kernels.astype(np.float32)


def _shrink(faces: Any, side: Any) -> Any:
    """Shrink each face to its side by areas, and enlarge it again linearly, in OpenCV's integers."""
    size = faces.shape[1]
    tables = _resizing(size)
    down = jnp.asarray(tables.down)[side]
    small = jnp.einsum("bij,bjk,blk->bil", down, faces, down, precision="highest")
    # OpenCV has its own way to halve an image, which rounds halves up.
    small = jnp.where((2 * side == size)[:, None, None], jnp.floor(small + 0.5), jnp.rint(small))
    small = small.astype(jnp.int32)
    first, second = (jnp.asarray(table)[side] for table in (tables.first, tables.second))
    weights = jnp.asarray(tables.weights)[side]

    def of_columns(places: Any) -> Any:
        return jnp.take_along_axis(small, jnp.broadcast_to(places[:, None, :], small.shape), axis=2)

    wide = of_columns(first) * weights[:, 0, None, :] + of_columns(second) * weights[:, 1, None, :]

    def of_rows(places: Any) -> Any:
        return jnp.take_along_axis(wide, jnp.broadcast_to(places[:, :, None], wide.shape), axis=1) >> 4

    sums = (of_rows(first) * weights[:, 0, :, None] >> 16) + (of_rows(second) * weights[:, 1, :, None] >> 16)
    return jnp.where((side < size)[:, None, None], jnp.clip(sums + 2 >> 2, 0, 255), faces)


class _Resizing(NamedTuple):
    """Tables for each side from 0 to the size of the images.

    Args:
        down: Matrices `(size + 1, size, size)` that shrink an axis by areas.
        first: The first neighbour of each enlarged pixel `(size + 1, size)`.
        second: The second one.
        weights: Their weights `(size + 1, 2, size)`, of 2,048.
    """

    down: NDArray[np.float32]
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    weights: NDArray[np.int32]


@lru_cache(maxsize=4)
def _resizing(size: int) -> _Resizing:
    down = np.zeros((size + 1, size, size), np.float32)
    first, second = np.zeros((2, size + 1, size), np.int32)
    weights = np.zeros((size + 1, 2, size), np.int32)
    for side in range(1, size + 1):
        step = size / side
        for row in range(side):
            low, high = row * step, (row + 1) * step
            for column in range(int(low), min(size, int(np.ceil(high - 1e-9)))):
                down[side, row, column] = (min(high, column + 1) - max(low, column)) / step
        places = np.clip((np.arange(size) + 0.5) / step - 0.5, 0, side - 1)
        first[side] = np.floor(places)
        second[side] = np.minimum(first[side] + 1, side - 1)
        weights[side, 1] = np.rint(2048 * (places - first[side]))
        weights[side, 0] = 2048 - weights[side, 1]
    return _Resizing(down, first, second, weights)


def _relight(faces: Any, draws: Mapping[str, Any]) -> Any:
    contrast, brightness = (draws[name][:, None, None] for name in ("contrast", "brightness"))
    if "gamma" in draws:
        faces = 255.0 * (faces / 255.0) ** draws["gamma"][:, None, None]
    mean = faces.mean(axis=(1, 2), keepdims=True)
    return _rounded(faces * contrast + (mean * (1 - contrast) + brightness))


def _add_grain(faces: Any, draws: Mapping[str, Any]) -> Any:
    """Add the sum of four hashed bytes to each pixel, scaled to the face's standard deviation."""
    pixels = faces.shape[1] * faces.shape[2]
    words = _hash_words(draws["grain_noise"], -(-4 * pixels // 8))[:, :pixels]
    sums = sum((words >> shift) & 0xFF for shift in (0, 8, 16, 24)).astype(jnp.float32)
    noise = (sums.reshape(faces.shape) - augmentation.MEAN_OF_FOUR) * (
        draws["grain"] / augmentation.DEVIATION_OF_FOUR
    )[:, None, None]
    return _rounded(faces + noise)


def _erase(faces: Any, draws: Mapping[str, Any]) -> Any:
    """Fill each face's rectangle with hashed bytes, row by row."""
    size = faces.shape[1]
    left, top, width, height = (draws["box"][:, place, None, None] for place in range(4))
    rows, columns = jnp.arange(size)[None, :, None] - top, jnp.arange(size)[None, None, :] - left
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    place = jnp.where(inside, rows * width + columns, 0)
    words = _hash_words(draws["box_noise"], -(-size * size // 8))
    found = jnp.take_along_axis(words, (place // 4).reshape(len(faces), -1), axis=1).reshape(place.shape)
    level = (found >> (8 * (place % 4)).astype(jnp.uint32)) & 0xFF
    return jnp.where(inside, level.astype(jnp.float32), faces)


def _halves(words: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return uint64 `(n,)` as uint32 `(n, 2)`: the upper and the lower half."""
    return np.stack([words >> np.uint64(32), words & np.uint64(0xFFFFFFFF)], axis=1).astype(np.uint32)


def _hash_words(seeds: Any, count: int) -> Any:
    """Return the bytes of `augmentation.random_bytes` as little-endian uint32 `(b, 2 × count)`.

    JAX has no 64-bit integers by default, so a number is two arrays of uint32, the upper and the lower half.
    """
    counters = np.arange(1, count + 1, dtype=np.uint64) * augmentation.WEYL
    steps = jnp.asarray(_halves(counters))
    low = seeds[:, 1, None] + steps[None, :, 1]
    high = seeds[:, 0, None] + steps[None, :, 0] + (low < steps[None, :, 1]).astype(jnp.uint32)
    for shift, factor in augmentation.MIX:
        high, low = high ^ (high >> shift), low ^ ((low >> shift) | (high << (32 - shift)))
        high, low = _multiply(high, low, factor)
    high, low = high ^ (high >> 31), low ^ ((low >> 31) | (high << 1))
    return jnp.stack([low, high], axis=2).reshape(len(seeds), 2 * count)


def _multiply(high: Any, low: Any, factor: int) -> tuple[Any, Any]:
    """Multiply a number in two halves with a constant, modulo 2**64."""
    factor_high, factor_low = jnp.uint32(factor >> 32), jnp.uint32(factor & 0xFFFFFFFF)
    carried = _upper_product(low, factor_low)
    return carried + high * factor_low + low * factor_high, low * factor_low


def _upper_product(one: Any, two: Any) -> Any:
    """Return the upper 32 bits of the product of two uint32, from products of 16-bit halves."""
    a, b, c, d = one >> 16, one & 0xFFFF, two >> 16, two & 0xFFFF
    middle = a * d + ((b * d) >> 16)
    rest = (middle & 0xFFFF) + b * c
    return a * c + (middle >> 16) + (rest >> 16)
