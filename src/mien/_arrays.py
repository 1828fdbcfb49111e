"""Read npz files that may be damaged or hostile."""

import io
import lzma
import struct
import tokenize
import zipfile
import zlib

import numpy as np
from numpy.typing import NDArray

#: Errors of zipfile and NumPy on archives that are damaged, encrypted or inconsistent.
_DAMAGE = (
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
#: Maximum length of a reason that comes from another library.
_LONGEST = 120


def unpack(content: bytes, most: int) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of an npz file by name.

    Args:
        content: The file's bytes.
        most: Maximum size in bytes, both of the file and of its unpacked content.

    Raises:
        ValueError: The file is larger, damaged, or not an npz file; the message is the reason.
    """
    if len(content) > most:
        raise ValueError(f"it is larger than {most} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            total = sum(entry.file_size for entry in packed.infolist())
        if total > most:
            raise ValueError(f"it unpacks to more than {most} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (ValueError, *_DAMAGE) as error:
        raise ValueError(_reason(error)) from error
    for name, array in found.items():
        # NumPy returns members that are not arrays as bytes.
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name[:_LONGEST]!r} is not an array")
    return found


def _reason(error: Exception) -> str:
    """Return the message of an error if it is short text, else a general reason."""
    said = str(error)
    if said[:1] not in ("", "(") and len(said) <= _LONGEST and said.isprintable() and "\\" not in said:
        return said
    return f"it is damaged: {type(error).__name__}"
