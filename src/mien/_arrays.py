"""Archives of NumPy arrays that come from a file: read within bounds, or refused in a few words."""

import io
import lzma
import struct
import tokenize
import zipfile
import zlib

import numpy as np
from numpy.typing import NDArray

#: What zipfile and NumPy raise over damaged, encrypted, oddly compressed and lying archives.
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
#: Most characters of a reason in other programs' words.
_LONGEST = 120


def unpack(content: bytes, most: int) -> dict[str, NDArray[np.generic]]:
    """Return every array of an npz file by its name.

    Args:
        content: The file's bytes.
        most: Bytes that the file may have, and that it may unpack to.

    Raises:
        ValueError: It is larger, or no such archive; with the reason in a few words.
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
        # What is no array in an archive, NumPy hands over as bytes.
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name[:_LONGEST]!r} is no array")
    return found


def _reason(error: Exception) -> str:
    """Return what an error says, unless that is no words, or quotes what was read at whatever length."""
    said = str(error)
    if said[:1] not in ("", "(") and len(said) <= _LONGEST and said.isprintable() and "\\" not in said:
        return said
    return f"it is damaged: {type(error).__name__}"
