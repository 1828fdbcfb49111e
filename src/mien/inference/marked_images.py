"""Images with their faces marked, and the faces by themselves, as files."""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien import _files
from mien.errors import ImageError, InputError
from mien.inference.image_paths import lasting
from mien.types import Box, Prediction
from mien.vision import annotation, images
from mien.vision.images import Source

_QUALITY = 92
#: Bytes of a source's name that a file's name keeps; with what is put around it, it stays under 255.
_LONGEST = 160
#: How the names end that `save` gives.
_SAVED = re.compile(r"\.(faces\.jpg|face\d+\.png)$")


def save(source: Source, prediction: Prediction, folder: str | os.PathLike[str]) -> list[Path]:
    """Write `NAME.faces.jpg`, the image with its faces marked, and each face as `NAME.face1.png` and so on.

    NAME is the source's name; where that has folders in it, or what file names cannot hold, a hash of the
    whole name follows, so that no two sources share files. A large picture is written as it is read, at a
    reduced size. The faces of an image that was turned are written upright.

    Args:
        source: The image, to be read again.
        prediction: What was found in it.
        folder: Where to; it is made if need be.

    Returns:
        The files, each whole.

    Raises:
        ImageError: The image can no longer be read, or gives itself but once, as a pipe does.
        InputError: A file cannot be written.
    """
    if isinstance(source, str | os.PathLike) and not lasting(Path(source)):
        raise ImageError(f"'{source}' is a pipe or a device, which gives an image but once; name a file")
    picture, folder = images.picture(source), Path(folder)
    pixels, name = picture.pixels, _name(prediction.source)
    seen = [replace(face, box=_scaled(face.box, picture.scale)) for face in prediction.faces]
    faces = {
        folder / f"{name}.face{number}.png": _part(pixels, face.box, prediction.rotation)
        for number, face in enumerate(seen, start=1)
    }
    written: dict[Path, NDArray[np.uint8]] = {
        folder / f"{name}.faces.jpg": annotation.draw(pixels, seen),
        **faces,
    }
    for path, content in written.items():
        try:
            _files.fill(path, _writer(content))
        except OSError as error:
            raise InputError(f"'{path}' cannot be written: {_files.reason(error)}") from None
    return list(written)


def is_saved(prediction: Prediction, folder: str | os.PathLike[str]) -> bool:
    """Say whether all the files that `save` makes of a prediction are in `folder`."""
    name = _name(prediction.source)
    faces = (f"{name}.face{number}.png" for number in range(1, len(prediction.faces) + 1))
    return all((Path(folder) / file).is_file() for file in (f"{name}.faces.jpg", *faces))


def saved(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Say whether a path is, or leads to, a file in `folder` with a name that `save` gives."""
    given, home = Path(path), Path(folder).resolve()
    return any(
        _SAVED.search(place.name) and place.parent.resolve() == home
        for place in (given, Path(os.path.realpath(given)))
    )


def _writer(pixels: NDArray[np.uint8]) -> Callable[[Path], None]:
    return lambda partial: Image.fromarray(pixels).save(partial, quality=_QUALITY)


def _part(pixels: NDArray[np.uint8], box: Box, rotation: int) -> NDArray[np.uint8]:
    part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
    return np.ascontiguousarray(np.rot90(part, -rotation // 90))


def _scaled(box: Box, scale: tuple[float, float]) -> Box:
    """Return a box of the original in the pixels that were read; at least one pixel."""
    if max(scale) == 1:
        return box
    (across, down), (left, top) = scale, (int(box.left / scale[0]), int(box.top / scale[1]))
    return Box(left, top, max(1, round(box.width / across)), max(1, round(box.height / down)))


def _name(source: str) -> str:
    """Return a file's name that no other source has."""
    plain = re.sub(r"[^\w.() -]", "_", source.lstrip("./\\"))
    if plain == source and len(plain.encode()) <= _LONGEST:
        return plain
    digest = hashlib.sha256(source.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{plain.encode()[-_LONGEST:].decode(errors='ignore')}.{digest}"
