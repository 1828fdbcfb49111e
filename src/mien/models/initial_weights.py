"""The weights of a network, in a file beside its int8 model file, so that training can continue from them.

An int8 file has no weights for training, because normalization is merged into its convolutions. So
`mien ship` writes `<name>.weights.npz` beside such an `<name>.onnx`: kernels as signed bytes with a scale for
each output channel, which makes it as large as the model, and everything else in float32.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mien import _arrays
from mien.errors import ModelError

_SCALE = ":scale"
#: Largest file in bytes that is read, and most that it may unpack to.
_MAX_BYTES = 1 << 28


def beside(model: str | os.PathLike[str]) -> Path:
    """Return the path of the weights of `<name>.onnx`: `<name>.weights.npz`."""
    return Path(model).with_suffix(".weights.npz")


def pack(weights: Mapping[str, npt.NDArray[np.float32]], model: str) -> bytes:
    """Return the content of a file of weights.

    Args:
        weights: Arrays by the names that Keras has for them; the last axis of a kernel is its output's.
        model: sha256 of the ONNX file that they ship as.
    """
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for name, array in weights.items():
        if array.ndim < 2:
            arrays[name] = array.astype(np.float32)
            continue
        scale = np.abs(array).max(axis=tuple(range(array.ndim - 1))) / 127
        scale = np.where(scale == 0, 1, scale).astype(np.float32)
        arrays[name] = np.rint(array / scale).astype(np.int8)
        arrays[name + _SCALE] = scale
    return _arrays.pack(arrays, {"schema": 1, "model": model, "sha256": _arrays.digest(arrays)})


def read(model: str | os.PathLike[str], digest: str) -> dict[str, npt.NDArray[np.float32]]:
    """Load the weights beside a model file.

    Args:
        model: The ONNX file.
        digest: Its sha256.

    Returns:
        Float32 arrays by the names that Keras has for them: `stem_conv/kernel`.

    Raises:
        ModelError: They do not exist, are damaged, or belong to another model.
    """
    path = beside(model)
    if not path.is_file():
        raise ModelError(
            f"{Path(model).name!r} has no {path.name!r} with the float32 weights in its folder; create both "
            "with mien ship, or name the run of the model"
        )
    try:
        arrays, facts = _arrays.read(path, _MAX_BYTES)
        owner = str(facts["model"])
        if facts["sha256"] != _arrays.digest(arrays):
            raise ValueError("its checksum does not match")
        scales = {
            name.removesuffix(_SCALE): array.astype(np.float32)
            for name, array in arrays.items()
            if name.endswith(_SCALE)
        }
        found = {
            name: array.astype(np.float32) * scales.get(name, np.float32(1))
            for name, array in arrays.items()
            if not name.endswith(_SCALE)
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path.name!r} is damaged: {error}; ship the model again") from None
    if owner != digest:
        raise ModelError(
            f"{path.name!r} belongs to another model: it has the sha256 {owner[:12]}, {Path(model).name!r} "
            f"has {digest[:12]}; ship the model again"
        )
    return found
