"""Random changes to training faces, a pure function of (seed, epoch, index).

`augment_batch` is what training calls. It calls `draw_changes`, which chooses the changes, and
`apply_changes`, which makes them.

Random numbers come from a counter: each is a hash of seed, epoch, index and the number's position, so that
the changes of a face do not depend on its batch. All geometric changes of an image are one affine warp with
one interpolation.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.errors import DataError, MissingExtra, RecipeError
from mien.training.recipes import Augment

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]

#: Each number's place in the hash. A new one takes the next place, so that old runs stay as they were.
PLACES = (
    "rotation",
    "zoom_x",
    "zoom_y",
    "shift_x",
    "shift_y",
    "flip",
    "brightness",
    "contrast",
    "erase",
    "area",
    "aspect",
    "left",
    "top",
    "noise",
    "grain",
    "grain_noise",
    "blur",
    "aspect_ratio",
    "gamma",
    "resolution",
)
#: Increment, shifts and factors of SplitMix64; see `random_words`.
WEYL = np.uint64(0x9E3779B97F4A7C15)
MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def checked_key(value: int, what: str) -> np.uint64:
    """Return a seed or an epoch as the hash takes it.

    Raises:
        RecipeError: It is not an integer in [0, 2**63).
    """
    if not 0 <= value < 2**63 or value != int(value):
        raise RecipeError(f"the {what} of augmentation is {value}; give an integer from 0 to 2**63 - 1")
    return np.uint64(value)


def random_words(indices: npt.NDArray[np.integer[Any]], seed: np.uint64, epoch: np.uint64) -> Words:
    """Hash (seed, epoch, index, place) to uint64 `(places, b)`.

    Source: the output function and increment of SplitMix64, Steele, Lea and Flood 2014,
    doi:10.1145/2660193.2660195; one round for each thing that goes in.
    """
    state = _mix(np.full(1, seed) + WEYL)
    state = _mix((state ^ epoch) + WEYL)
    state = _mix((state ^ indices.astype(np.uint64)) + WEYL)
    places = np.arange(1, len(PLACES) + 1, dtype=np.uint64) * WEYL
    return _mix(state + places[:, np.newaxis])


def random_bytes(seeds: Words, count: int) -> npt.NDArray[np.uint8]:
    """Return `(b, count)` bytes, all values equally likely, each row a function of its seed alone."""
    counters = np.arange(1, -(-count // 8) + 1, dtype=np.uint64) * WEYL
    words = _mix(seeds[:, np.newaxis] + counters)
    # Explicitly little-endian, so that the order of bytes is the same on every machine.
    return words.astype("<u8").view(np.uint8)[:, :count]


def _mix(words: Words) -> Words:
    for shift, factor in MIX:
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words ^ (words >> np.uint64(31))


_LARGEST_ASPECT = 1 / 0.3


@dataclass(frozen=True)
class Changes:
    """What happens to each of b faces, in this order.

    Args:
        rotation: Degrees `(b,)`; positive turns the face clockwise as one looks at it.
        zoom: Factors `(b, 2)` for x and y, in Keras' sense: a pixel of the result stands for that many of
            the original, so that 1.1 shows the face smaller, by 1 / 1.1, and 0.9 larger.
        flip: Booleans `(b,)`: mirrored left to right.
        shift: Pixels `(b, 2)` in the result; positive x moves the face right, positive y down.
        blur: Standard deviation `(b,)` of a Gaussian, in pixels; 0 for none.
        resolution: Share of the side `(b,)`, above 0, that the face is shrunk to before it is enlarged again;
            1 leaves it as it is.
        gamma: Exponents `(b,)` of the grey levels in [0, 1]; 1 changes nothing.
        contrast: Factors `(b,)` about the face's own mean.
        brightness: Grey levels `(b,)` to add.
        box: Rectangles `(b, 4)` to erase: left, top, width, height in pixels; width 0 for none.
        noise: One uint64 `(b,)` a face, from which the grey levels inside the rectangle follow.
        grain: Standard deviation `(b,)`, in grey levels, of the noise over the whole face.
        grain_noise: One uint64 `(b,)` a face, from which that noise follows.
    """

    rotation: Floats
    zoom: Floats
    flip: npt.NDArray[np.bool_]
    shift: Floats
    blur: Floats
    resolution: Floats
    gamma: Floats
    contrast: Floats
    brightness: Floats
    box: npt.NDArray[np.int64]
    noise: Words
    grain: Floats
    grain_noise: Words


def draw_changes(
    indices: npt.NDArray[np.integer[Any]], settings: Augment, *, size: int, seed: int, epoch: int
) -> Changes:
    """Choose what happens to each image of `indices` in `epoch`.

    Every number has its own place in the hash, so that turning one setting on leaves the others' draws as
    they were.

    Args:
        indices: Integers `(b,)`, at least 0.
        settings: Ranges and probabilities.
        size: Side of the images in pixels.
        seed: The run's, at least 0.
        epoch: Counted from any start, at least 0.

    Raises:
        RecipeError: `settings.erase_area` has its smallest share above its largest, or `seed` or `epoch`
            is not an integer in [0, 2**63).
    """
    smallest, largest = settings.erase_area
    if smallest > largest:
        raise RecipeError(
            f"augment.erase_area is ({smallest:g}, {largest:g}); the smallest share must be first, "
            f"so write ({largest:g}, {smallest:g})"
        )
    hashed = random_words(indices, checked_key(seed, "seed"), checked_key(epoch, "epoch"))
    # The upper 53 bits make a float in [0, 1) with nothing rounded, the same everywhere.
    chances = (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    chance = dict(zip(PLACES, chances, strict=True))
    even = dict(zip(PLACES, 2.0 * chances - 1.0, strict=True))
    zoom_y = even["zoom_x" if settings.zoom_together else "zoom_y"]
    scale = 1.0 + settings.zoom * np.stack([even["zoom_x"], zoom_y], axis=1)
    ratio = 1.0 + settings.aspect * even["aspect_ratio"]
    return Changes(
        rotation=settings.rotation * even["rotation"],
        zoom=scale * np.stack([ratio, 1.0 / ratio], axis=1),
        flip=(chance["flip"] < 0.5) & settings.flip,
        shift=settings.shift * size * np.stack([even["shift_x"], even["shift_y"]], axis=1),
        blur=settings.blur * size * np.maximum(even["blur"], 0.0),
        resolution=1.0 - settings.resolution * np.maximum(even["resolution"], 0.0),
        # Rounded, because another processor's exp may differ in the last bit.
        gamma=np.round(np.exp(settings.gamma * even["gamma"]), 9),
        contrast=1.0 + settings.contrast * even["contrast"],
        brightness=255.0 * settings.brightness * even["brightness"],
        box=_draw_boxes(chance, settings, size),
        noise=hashed[PLACES.index("noise")],
        grain=255.0 * settings.noise * chance["grain"],
        grain_noise=hashed[PLACES.index("grain_noise")],
    )


def _draw_boxes(chance: dict[str, Floats], settings: Augment, size: int) -> npt.NDArray[np.int64]:
    """Choose rectangles `(b, 4)`: left, top, width, height; width 0 where nothing is erased.

    The aspect, height by width, is spread evenly on a logarithmic scale, so that tall is as frequent as
    wide, and no further than the image is: a large share must be nearly square.
    """
    count = len(chance["erase"])
    if not settings.erase:
        return np.zeros((count, 4), np.int64)
    smallest, largest = settings.erase_area
    share = np.maximum(smallest + (largest - smallest) * chance["area"], 1.0 / size**2)
    bound = np.log(np.minimum(_LARGEST_ASPECT, 1.0 / share))
    # Rounded, because another processor's exp or log may differ in the last bit.
    aspect = np.round(np.exp(bound * (2.0 * chance["aspect"] - 1.0)), 9)
    height = np.clip(np.rint(size * np.sqrt(share * aspect)), 1, size)
    width = np.clip(np.rint(size * size * share / height), 1, size)
    left = np.floor(chance["left"] * (size - width + 1))
    top = np.floor(chance["top"] * (size - height + 1))
    boxes = np.stack([left, top, width, height], axis=1)
    return (boxes * (chance["erase"] < settings.erase)[:, np.newaxis]).astype(np.int64)


_FRAMED_AT_ONCE = 16
_IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

_lock = threading.Lock()
_inside = 0
_threads_before = 0


def affine_matrices(changes: Changes, size: int) -> Floats:
    """Return `(b, 2, 3)` maps from a result's pixel (x, y) to the original's.

    A face is rotated, scaled, mirrored, then shifted; these maps are the inverse.
    """
    angle = np.deg2rad(changes.rotation)
    cosine, sine = np.cos(angle), np.sin(angle)
    step_x = changes.zoom[:, 0] * np.where(changes.flip, -1.0, 1.0)
    step_y = changes.zoom[:, 1]
    linear = np.empty((len(angle), 2, 2))
    linear[:, 0, 0] = cosine * step_x
    linear[:, 0, 1] = sine * step_y
    linear[:, 1, 0] = -sine * step_x
    linear[:, 1, 1] = cosine * step_y
    centre = (size - 1) / 2
    matrices = np.empty((len(angle), 2, 3))
    # Rounded, because another processor's sine may differ in the last bit; and it makes quarter turns exact.
    matrices[:, :, :2] = np.round(linear, 9)
    moved = matrices[:, :, :2] @ (centre + changes.shift)[:, :, np.newaxis]
    matrices[:, :, 2] = np.round(centre - moved[:, :, 0], 9)
    return matrices


def warp(cv2: Any, faces: Images, matrices: Floats, *, fill: str, interpolation: str) -> Images:
    """Return new `(b, s, s)` faces, each looked up through its matrix."""
    moves = (matrices != _IDENTITY).any(axis=(1, 2))
    if not moves.any():
        return faces.copy()
    border = {
        "nearest": cv2.BORDER_REPLICATE,
        "reflect": cv2.BORDER_REFLECT,
        "black": cv2.BORDER_CONSTANT,
    }[fill]
    between = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}[interpolation]
    flags = between | cv2.WARP_INVERSE_MAP
    side = faces.shape[1:]
    results = np.empty(faces.shape, np.uint8)
    sources: Iterable[Images] = faces
    if fill == "nearest":
        wide = side[0] // 6
        sources = _pad_frames(faces, wide)
        matrices = matrices + np.array([0.0, 0.0, wide])
    look_up = cv2.warpAffine
    # The one loop over images in Python: what it calls is bound outside, and passed by position.
    for face, matrix, result in zip(sources, matrices, results, strict=True):
        look_up(face, matrix, side, result, flags, border)
    return results


def _pad_frames(faces: Images, wide: int) -> Iterator[Images]:
    """Yield each face in a frame of its border pixels, which holds until the next one is asked for.

    OpenCV is slow where it looks up a pixel outside the image; the frame saves more than it costs. Its width
    must follow from the size alone, so that a face's sums round alike in every batch. What reaches beyond
    it is OpenCV's to fill, with the same pixels. A few faces at a time keep the memory small, and so the
    allocator from freeing and allocating it for every batch.
    """
    size = faces.shape[1]
    end = wide + size
    buffer = np.empty((_FRAMED_AT_ONCE, end + wide, end + wide), np.uint8)
    for start in range(0, len(faces), _FRAMED_AT_ONCE):
        some = faces[start : start + _FRAMED_AT_ONCE]
        framed = buffer[: len(some)]
        framed[:, wide:end, wide:end] = some
        framed[:, wide:end, :wide] = some[:, :, :1]
        framed[:, wide:end, end:] = some[:, :, -1:]
        framed[:, :wide] = framed[:, wide : wide + 1]
        framed[:, end:] = framed[:, end - 1 : end]
        yield from framed


@contextmanager
def one_thread(cv2: Any) -> Iterator[None]:
    """Use one OpenCV thread during the block.

    For small images, waking OpenCV's worker threads costs more than they save. The number of threads is
    global to the process: the first caller sets it to one, and the last one restores it.
    """
    global _inside, _threads_before
    with _lock:
        if _inside == 0:
            _threads_before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                cv2.setNumThreads(_threads_before)


def load_opencv() -> Any:
    """Import OpenCV.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("training", "train") from error
    return cv2


#: Of the sum of four bytes, each from 0 to 255 and all equally likely.
MEAN_OF_FOUR = 4 * 127.5
DEVIATION_OF_FOUR = (4 * (256**2 - 1) / 12) ** 0.5


def blur(cv2: Any, faces: Images, changes: Changes) -> None:
    """Blur in place; beyond its edge a face goes on as its edge is."""
    for row in np.flatnonzero(changes.blur):
        deviation = float(changes.blur[row])
        cv2.GaussianBlur(faces[row], (0, 0), deviation, faces[row], borderType=cv2.BORDER_REPLICATE)


def shrunk_sides(changes: Changes, size: int) -> npt.NDArray[np.int64]:
    """Return the side `(b,)` in pixels that each face is shrunk to, at least 1."""
    return np.maximum(np.rint(size * changes.resolution), 1).astype(np.int64)


def shrink(cv2: Any, faces: Images, changes: Changes) -> None:
    """Take a face's resolution in place: shrink it by areas, and enlarge it again linearly."""
    size = faces.shape[1]
    sides = shrunk_sides(changes, size)
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
    noise -= MEAN_OF_FOUR
    noise *= (changes.grain[chosen] / DEVIATION_OF_FOUR).astype(np.float32)[:, np.newaxis, np.newaxis]
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


def augment_batch(
    images: Images, indices: npt.NDArray[np.integer[Any]], settings: Augment, *, seed: int, epoch: int
) -> Images:
    """Return changed copies of `images[indices]`.

    Image i gets the same change in an epoch in any batch, order, process and platform. (OpenCV interpolates:
    another version or processor may round a few pixels to the neighbouring grey level.)

    Args:
        images: Faces `(n, s, s, 1)` uint8 in [0, 255]; not modified.
        indices: `(b,)` integers in [0, n); repetitions are allowed.
        settings: The possible changes and their ranges.
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
    changes = draw_changes(indices, settings, size=images.shape[1], seed=seed, epoch=epoch)
    return apply_changes(images[indices], changes, fill=settings.fill, interpolation=settings.interpolation)


def apply_changes(
    images: Images, changes: Changes, *, fill: str = "nearest", interpolation: str = "linear"
) -> Images:
    """Make `changes` on `images`, one for one.

    Rotation, scaling and mirroring are about the image's centre, (s - 1) / 2 in both directions. If a face is
    not moved, or only mirrored, no pixel is interpolated.

    Args:
        images: Faces `(b, s, s, 1)` uint8 in [0, 255]; not modified.
        changes: The changes of each face.
        fill: `nearest`, `reflect` or `black`: how uncovered pixels are filled.
        interpolation: `linear`, or `cubic`, which keeps a face sharp.

    Returns:
        New faces `(b, s, s, 1)` uint8.

    Raises:
        DataError: The images are not of that shape or type, or not as many as the changes.
        MissingExtra: OpenCV is not installed.
    """
    _check_images(images)
    if len(images) != len(changes.flip):
        raise DataError(
            f"{len(images)} images came with {len(changes.flip)} changes; give one change per image"
        )
    cv2 = load_opencv()
    matrices = affine_matrices(changes, images.shape[1])
    with one_thread(cv2):
        faces = warp(cv2, images[..., 0], matrices, fill=fill, interpolation=interpolation)
        blur(cv2, faces, changes)
        shrink(cv2, faces, changes)
        relight(cv2, faces, changes)
    add_grain(faces, changes)
    erase(faces, changes)
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
