"""Write npz files with facts beside the arrays, and read npz files that may be damaged or hostile."""

import hashlib
import io
import json
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

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
_FACTS = "__facts__"


def pack(arrays: Mapping[str, NDArray[np.generic]], facts: Mapping[str, Any]) -> bytes:
    """Return an npz file of arrays and of facts, which are plain JSON values; `read` returns both."""
    buffer = io.BytesIO()
    packed = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(buffer, **{_FACTS: packed}, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def read(path: Path, most: int) -> tuple[dict[str, NDArray[np.generic]], Any]:
    """Return the arrays and the facts of a file that `pack` made.

    Args:
        path: The file.
        most: As in `unpack`.

    Raises:
        OSError: The file cannot be read.
        ValueError: As in `unpack`, or the facts are not JSON.
        KeyError: There are no facts.
    """
    with path.open("rb") as file:
        arrays = unpack(file.read(most + 1), most)
    return arrays, json.loads(arrays.pop(_FACTS).tobytes())


def digest(arrays: Mapping[str, NDArray[np.generic]], start: str = "") -> str:
    """Return the SHA-256 of a text and of arrays with their names, types and shapes, in hexadecimal."""
    found = hashlib.sha256(start.encode())
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Header:
    """What an npz file declares about an array.

    Args:
        shape: Its shape.
        dtype: Its type.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def headers(path: Path) -> dict[str, Header]:
    """Return what an npz file declares about its arrays by name, before they are read.

    Raises:
        ValueError: The file is damaged or not an npz file, an array needs pickle, or an array has fewer bytes
            than it declares; the message is the reason.
    """
    found: dict[str, Header] = {}
    try:
        with zipfile.ZipFile(path) as packed:
            for entry in packed.infolist():
                name = entry.filename.removesuffix(".npy")
                if name == entry.filename:
                    raise ValueError(f"{name[:_LONGEST]!r} is not an array")
                if name in found:
                    raise ValueError(f"it has the array {name[:_LONGEST]!r} twice")
                with packed.open(entry) as stream:
                    found[name] = header = _header(stream)
                if header.dtype.hasobject:
                    raise ValueError(
                        f"the array {name[:_LONGEST]!r} has Python objects, which are not loaded"
                    )
                if math.prod(header.shape) * header.dtype.itemsize > entry.file_size:
                    raise ValueError(f"the array {name[:_LONGEST]!r} declares more values than it has")
    except (ValueError, *_DAMAGE) as error:
        raise ValueError(_reason(error)) from error
    return found


def _header(stream: IO[bytes]) -> Header:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"the array has the format {version[0]}.{version[1]}")
    shape, _, dtype = readers[version](stream)
    return Header(shape, dtype)


def unpack(
    content: bytes | Path, most: int, *, names: Collection[str] | None = None
) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of an npz file by name.

    Args:
        content: The file's bytes, or its path.
        most: Maximum size in bytes, both of the file and of its unpacked content.
        names: Arrays to return; None for all. Only these count for the unpacked content.

    Raises:
        ValueError: The file is larger, damaged, or not an npz file; the message is the reason.
    """
    try:
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        if size > most:
            raise ValueError(f"it is larger than {most} bytes")
        with zipfile.ZipFile(content if isinstance(content, Path) else io.BytesIO(content)) as packed:
            chosen = [
                entry
                for entry in packed.infolist()
                if names is None or entry.filename.removesuffix(".npy") in names
            ]
            total = sum(entry.file_size for entry in chosen)
        if total > most:
            raise ValueError(f"it unpacks to more than {most} bytes")
        source = content if isinstance(content, Path) else io.BytesIO(content)
        with np.load(source, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files if names is None or name in names}
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
