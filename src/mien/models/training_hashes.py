"""Hashes of the training images of a model, to find these images again. They do not contain the images.

    made = training_hashes.of(train.images)                   # uint8 (n, size, size, 1)
    exact, near = made.find(images)                           # whether each was in training or looks like it
    training_hashes.write("models/mine.onnx", train.images)   # training-hashes-1a2b3c4d.npz
    training_hashes.read(model.load("models/mine.onnx"))      # the same, or None if there is no such file

The file is named after its content, so that models of the same training images share one.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mien import _arrays, _files
from mien.data import duplicates, image_cache
from mien.errors import ModelError

if TYPE_CHECKING:
    from mien.models.model_files import Model

#: Bits of a signature, and how many of them may differ between images that count as near. How both were
#: chosen: docs/model-file.md.
BITS, LIMIT = 128, 14

#: How many bits may differ, at no shift, for a pair to be looked at more closely.
_LOOSE = 32

#: Pixels by which an image is moved along each axis when it is looked for.
_SHIFTS = (-1, 0, 1)

#: Smallest side in pixels of an image that has a signature.
SMALLEST = 16

#: Largest file in bytes that is read, and most that it may unpack to.
_MAX_BYTES = 1 << 26
_NAME = re.compile(r"training-hashes-[0-9a-f]{8}\.npz")
_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Known:
    """What is kept of the images that a model was trained on.

    Args:
        size: Their side in pixels.
        n: How many they were.
        hashes: `(m,)` uint64, ascending: the first 8 bytes of sha256 over the pixels of each, once.
        signatures: `(k, BITS / 8)` uint8: a signature of each that shows enough to have one, once.
        medians: `(BITS,)` float32: above which a coefficient counts as 1.
    """

    size: int
    n: int
    hashes: npt.NDArray[np.uint64]
    signatures: npt.NDArray[np.uint8]
    medians: npt.NDArray[np.float32]

    def find(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return which images the model was trained on.

        Args:
            images: `(n, size, size, 1)` uint8 in [0, 255], as the model sees them.

        Returns:
            `(n,)` whether a training image has the same pixels; `(n,)` whether one is near and none
            equal: encoded again, brightened, blurred, mirrored, or moved by a pixel.

        Raises:
            ModelError: The images have another size.
        """
        self._check(images)
        exact = np.isin(_hashes(images), self.hashes)
        near = np.zeros(len(images), bool)
        asked = np.flatnonzero(~exact)
        near[asked] = self.apart(images[asked]) <= LIMIT
        return exact, near

    def apart(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Return in how many bits the signature of each image differs from the nearest one.

        Images and errors are as in `find`.

        Returns:
            `(n,)` the least of all shifts, upright and mirrored; `BITS` where none is close, or where an
            image shows too little to have a signature.
        """
        self._check(images)
        least = np.full(len(images), BITS, np.int64)
        asked = np.flatnonzero(_telling(images)) if len(self.signatures) else np.empty(0, np.int64)
        there = _signs(self.signatures)
        for start in range(0, len(asked), _BLOCK):
            part = asked[start : start + _BLOCK]
            pixels = images[part, :, :, 0]
            least[part] = np.minimum(self._apart(pixels, there), self._apart(pixels[:, :, ::-1], there))
        return least

    def _check(self, images: npt.NDArray[np.uint8]) -> None:
        if images.dtype != np.uint8 or images.shape[1:] != (self.size, self.size, 1):
            raise ModelError(
                f"the hashes are for uint8 images of shape "
                f"{('n', self.size, self.size, 1)}, not {images.dtype} of shape {images.shape}"
            )

    def _apart(self, pixels: npt.NDArray[np.uint8], there: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Return the same for images as they are, compared at every shift if no shift is close."""
        middle = _signs(_signed(pixels, self.medians))
        one, other = np.nonzero(middle @ there.T >= BITS - 2 * _LOOSE)
        least = np.full(len(pixels), BITS, np.int64)
        if not len(one):
            return least
        few, place = np.unique(one, return_inverse=True)
        padded = np.pad(pixels[few], ((0, 0), (1, 1), (1, 1)), mode="edge")
        for down in _SHIFTS:
            for across in _SHIFTS:
                moved = padded[:, 1 + down :, 1 + across :][:, : self.size, : self.size]
                here = _signed(moved, self.medians)[place]
                bits = np.bitwise_count(here ^ self.signatures[other]).sum(axis=1, dtype=np.int64)
                np.minimum.at(least, one, bits)
        return least


def of(images: npt.NDArray[np.uint8]) -> Known:
    """Take the hashes of the images that a model learns from.

    Args:
        images: `(n, size, size, 1)` uint8 in [0, 255], as the model sees them, at least one.

    Raises:
        ModelError: They have another shape.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (images.shape[1],) * 2 + (1,):
        raise ModelError(f"the images are {images.dtype} of shape {images.shape}; give uint8 (n, s, s, 1)")
    if not len(images):
        raise ModelError("there are no images to compute hashes of")
    size, chosen = images.shape[1], np.flatnonzero(_telling(images))
    medians = np.zeros(BITS, np.float32)
    signatures = np.empty((0, BITS // 8), np.uint8)
    if size >= SMALLEST and len(chosen):
        found = _coefficients(images[:, :, :, 0], chosen)
        medians = np.median(found, axis=0).astype(np.float32)
        signatures = np.unique(np.packbits(found > medians, axis=1), axis=0)
    return Known(size, len(images), np.unique(_hashes(images)), signatures, medians)


def pack(found: Known) -> tuple[str, bytes]:
    """Return the name of the file that keeps hashes, after its content, and that content."""
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "hashes": found.hashes,
        "signatures": found.signatures,
        "medians": found.medians,
    }
    digest = _digest(arrays, found.size, found.n)
    facts = {"schema": 1, "size": found.size, "n": found.n, "sha256": digest}
    return f"training-hashes-{digest[:8]}.npz", _arrays.pack(arrays, facts)


def put(folder: str | os.PathLike[str], found: Known) -> dict[str, Any]:
    """Write the file of hashes into a folder, and return its entry in the evaluation of a model there.

    Raises:
        OutputError: It cannot be written.
    """
    name, content = pack(found)
    _files.write(Path(folder) / name, content)
    return {"file": name, "n": found.n}


def write(model: str | os.PathLike[str], images: npt.NDArray[np.uint8]) -> Path:
    """Write hashes of the training images of a shipped model to its folder, and name them in its evaluation.

    Args:
        model: The ONNX file; its evaluation, which `mien ship` wrote, is beside it.
        images: `(n, size, size, 1)` uint8 in [0, 255], as the model sees them.

    Returns:
        The file of hashes.

    Raises:
        ModelError: The evaluation does not exist.
        OutputError: A file cannot be written.
    """
    beside = Path(model).with_suffix(".json")
    document = _document(beside)
    if document is None:
        raise ModelError(
            f"{Path(model).name!r} has no {beside.name!r} in its folder; create both with mien ship"
        )
    named = put(beside.parent, of(images))
    _files.write(beside, (json.dumps(document | {"training_hashes": named}, indent=1) + "\n").encode())
    return beside.with_name(str(named["file"]))


def read(model: "Model") -> Known | None:
    """Read the hashes of the images that a model was trained on, where it ships with some.

    Raises:
        ModelError: Its evaluation names a file that is gone, damaged, or of images of another size.
    """
    if model.path.suffix != ".onnx":
        return None
    beside = model.path.with_suffix(".json")
    document = _document(beside)
    # In memory a model is called by a name that may be another file's.
    named = None if document is None else document.get("training_hashes")
    if document is None or document.get("sha256") != model.card.sha256 or named is None:
        return None
    name = named.get("file") if isinstance(named, dict) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ModelError(f"{beside.name!r} has no file name under 'training_hashes'; ship the model again")
    found = _read(beside.with_name(name))
    if found.size != model.card.size:
        raise ModelError(
            f"{name!r} was made from images of another size than the input of {model.path.name!r}"
        )
    return found


def _document(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # who loads the model judges it
    return document if isinstance(document, dict) else None


def _read(path: Path) -> Known:
    try:
        arrays, facts = _arrays.read(path, _MAX_BYTES)
        size, n, digest = int(facts["size"]), int(facts["n"]), str(facts["sha256"])
        if digest != _digest(arrays, size, n) or not path.name.startswith(f"training-hashes-{digest[:8]}."):
            raise ValueError("its checksum does not match")
        return _checked(arrays, size, n)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = _files.reason(error) if isinstance(error, OSError) else error
        raise ModelError(
            f"{path.name!r}, the hashes of the training images, is missing or damaged: {why}; ship the "
            "model again, or install mien again"
        ) from None


def _checked(arrays: Mapping[str, npt.NDArray[np.generic]], size: int, n: int) -> Known:
    wanted = {"hashes": (np.uint64, 1), "signatures": (np.uint8, 2), "medians": (np.float32, 1)}
    if {name: (array.dtype.type, array.ndim) for name, array in arrays.items()} != wanted:
        raise ValueError("it has other arrays than hashes, signatures and medians")
    if arrays["signatures"].shape[1] != BITS // 8 or len(arrays["medians"]) != BITS:
        raise ValueError(f"its signatures do not have {BITS} bits")
    return Known(size, n, **arrays)  # type: ignore[arg-type]


def _digest(arrays: Mapping[str, npt.NDArray[np.generic]], size: int, n: int) -> str:
    return _arrays.digest(arrays, f"{size} {n}\n")


def _hashes(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    first = [hashlib.sha256(image.tobytes()).digest()[:8] for image in image_cache.each(images)]
    return np.frombuffer(b"".join(first), "<u8").astype(np.uint64)


def _telling(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return which images have enough contrast to be compared with others."""
    spread = np.empty(len(images))
    for start in range(0, len(images), _BLOCK):
        spread[start : start + _BLOCK] = images[start : start + _BLOCK].std(axis=(1, 2, 3))
        image_cache.release(images)
    return spread >= duplicates.FLAT


def _signs(signatures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the bits as -1 and 1: their product is `BITS` less twice the bits that differ."""
    return np.unpackbits(signatures, axis=1).astype(np.float32) * 2 - 1


def _signed(pixels: npt.NDArray[np.uint8], medians: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return np.packbits(_coefficients(pixels) > medians, axis=1)


def _coefficients(
    pixels: npt.NDArray[np.uint8], chosen: npt.NDArray[np.intp] | None = None
) -> npt.NDArray[np.float32]:
    """Return the `BITS` lowest frequencies (DCT-II) of images `(n, s, s)` but the mean, as unit vectors.

    Args:
        pixels: The images.
        chosen: Indices of those that are wanted; None for all.
    """
    size = pixels.shape[1]
    pairs = sorted(
        ((down, across) for down in range(SMALLEST) for across in range(SMALLEST) if down + across),
        key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair),
    )[:BITS]
    rows, columns = np.array(pairs).T
    place = np.arange(size)[None] * 2 + 1
    waves = np.cos(np.pi * np.arange(rows.max() + 1)[:, None] * place / (2 * size)).astype(np.float32)
    chosen = np.arange(len(pixels)) if chosen is None else chosen
    found = np.empty((len(chosen), BITS), np.float32)
    for start in range(0, len(chosen), _BLOCK):
        each = waves @ pixels[chosen[start : start + _BLOCK]].astype(np.float32) @ waves.T
        found[start : start + _BLOCK] = each[:, rows, columns]
        image_cache.release(pixels)
    lengths = np.sqrt((found * found).sum(axis=1, keepdims=True))
    found /= np.maximum(lengths, np.float32(1e-6))
    return found
