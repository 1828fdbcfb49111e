"""Keep the images of a data set in files instead of memory.

with ImageStore("cache/faces", size=48) as store:
    face = store.get(key)                        # (48, 48, 1) uint8, why it failed, or None
    face = store.add(key, face)                  # the same image, in the file
    images = store.arrange(faces)                # (n, 48, 48, 1) uint8, mapped from the file

A store is a folder with `images-N.u8`, the pixels of one image after another; `index-N.bin`, a record for
each image; and `reasons-N.jsonl`, why others failed. All grow at their ends, so a process that is killed
loses one image. Records and images have checksums. `arrange` writes the files again in the order of the
splits, with the next number N. One process at a time writes; others wait.
"""

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import struct
import sys
import tempfile
import time
import zlib
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

import filelock
import numpy as np
from numpy.typing import NDArray

from mien import _files
from mien.errors import OutputError

#: Bytes of pixels above which `mien.data.datasets.load` keeps images in a file: 466,000 images of 48 × 48.
AUTO_CACHE_BYTES = 2**30

#: Key, place or failure, checksum of the image, and checksum of the record.
_RECORD = struct.Struct("<16sqII")
_KEY_BYTES = 16
#: Bytes of the file that are mapped at a time while it grows, and that are read before they are released.
_BLOCK_BYTES = 64 * 2**20
_FIRST_BLOCK = 256
_SECONDS_BETWEEN_TRIES = 0.2


class TooLargeForMemory(Exception):
    """The images should be kept in a file; `mien.data.datasets.load` then begins again with one."""


class LockedError(Exception):
    """Another process writes into a folder."""


class _Map(mmap.mmap):
    """Pages of a file of this module, which can be dropped from memory at any time.

    Args:
        folder: The folder of the file.
    """

    folder: Path


def _map(file: IO[bytes], start: int, length: int, folder: Path) -> NDArray[np.uint8]:
    """Return bytes of a file, which cannot be written to and are read when used."""
    spare = start % mmap.ALLOCATIONGRANULARITY
    pages = _Map(file.fileno(), length + spare, access=mmap.ACCESS_READ, offset=start - spare)
    pages.folder = folder
    return np.frombuffer(pages, np.uint8, count=length, offset=spare)


def default_folder() -> Path:
    """Return the folder for caches if the user names none.

    It is the value of the environment variable `MIEN_CACHE`; else `mien` in the cache folder of the user:
    `$XDG_CACHE_HOME` or `~/.cache`, on Windows `%LOCALAPPDATA%`, on macOS `~/Library/Caches`.
    """
    if named := os.environ.get("MIEN_CACHE"):
        return Path(named)
    if base := os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"):
        return Path(base) / "mien"
    usual = "Library/Caches" if sys.platform == "darwin" else "AppData/Local" if os.name == "nt" else ".cache"
    return Path.home() / usual / "mien"


def key_of(*parts: bytes | str) -> bytes:
    """Return the key of an image: 16 bytes that depend on all parts."""
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    for part in parts:
        data = part.encode(errors="surrogateescape") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()


def release(images: NDArray[np.uint8]) -> None:
    """Drop the pages of mapped images from memory; they are read again when used.

    Does nothing for images in memory, and on systems that cannot drop pages.
    """
    if (mapped := _map_of(images)) is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def is_mapped(images: NDArray[np.uint8]) -> bool:
    """Return whether images are in a file of this module."""
    return _map_of(images) is not None


class Pages:
    """Drops the pages of mapped images from memory each time that 64 MiB of them were read.

    Args:
        images: `(n, s, s, 1)`; nothing is done for images in memory.
    """

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._images = images if is_mapped(images) else None
        self._read = 0

    def read(self, count: int) -> None:
        """Count images that were read, and drop pages after each 64 MiB."""
        if self._images is not None:
            self._read += count * self._images[:1].nbytes
            if self._read > _BLOCK_BYTES:
                release(self._images)
                self._read = 0


def each(faces: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Yield images, and drop pages of mapped ones from memory after their use."""
    maps: dict[int, NDArray[np.uint8]] = {}
    used = 0
    for face in faces:
        yield face
        if (mapped := _map_of(face)) is not None:
            maps[id(mapped)] = face
            used += face.nbytes
            if used > _BLOCK_BYTES:
                for one in maps.values():
                    release(one)
                maps.clear()
                used = 0


def digests(faces: Iterable[NDArray[np.uint8]]) -> Iterator[bytes]:
    """Yield 16 bytes for each image that are the same for the same pixels, and drop pages after use."""
    for face in each(faces):
        yield hashlib.blake2b(face.tobytes(), digest_size=16).digest()


def blocks(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield images `(n, s, s, 1)` in parts of up to 64 MiB, and drop the pages of mapped ones after use."""
    step = max(1, _BLOCK_BYTES // max(1, images[:1].nbytes))
    for start in range(0, len(images), step):
        yield images[start : start + step]
        release(images)


def join(parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return images of several arrays as one.

    Images in memory are copied. Neighbours in one file are a view; other mapped images are copied into a
    temporary file in the folder of the first.

    Args:
        parts: Arrays `(n, s, s, 1)` of images of one size.

    Raises:
        OutputError: The temporary file cannot be written.
    """
    first = parts[0]
    base = first
    while isinstance(base.base, np.ndarray):
        base = base.base
    address, neighbours = _address(first), is_mapped(first)
    for part in parts:
        neighbours = neighbours and _map_of(part) is _map_of(first) and _address(part) == address
        neighbours = neighbours and part.flags.c_contiguous
        address += part.nbytes
    if not neighbours:
        mapped = next((found for part in parts if (found := _map_of(part)) is not None), None)
        return np.concatenate(parts) if mapped is None else _copied(parts, mapped.folder)
    start = _address(first) - _address(base)
    count = sum(map(len, parts))
    flat = base.reshape(-1)[start : start + count * first[0].nbytes] if len(first) else base[:0]
    return flat.reshape(count, *first.shape[1:])


def _copied(parts: Sequence[NDArray[np.uint8]], folder: Path) -> NDArray[np.uint8]:
    """Copy images into a temporary file that is deleted when they are no longer used."""
    with _files.writing(folder), tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for part in parts:
            for block in blocks(part):
                _write_all(file, np.ascontiguousarray(block).data.cast("B"))
        count = sum(map(len, parts))
        flat = _map(file, 0, count * parts[0][:1].nbytes, folder)
    return flat.reshape(count, *parts[0].shape[1:])


def _map_of(images: NDArray[np.uint8]) -> _Map | None:
    base: object = images
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = base.obj if isinstance(base, memoryview) else base
    return mapped if isinstance(mapped, _Map) else None


def _address(array: NDArray[np.uint8]) -> int:
    return int(array.__array_interface__["data"][0])


class ImageStore:
    """Square grey images of one size in a folder, by key.

    It is opened by `with`, which waits while another process writes in the folder. A folder that cannot be
    written to is read if it exists.

    Args:
        folder: The folder; it is created if it does not exist.
        size: Side of the images in pixels.
        about: What the folder is for, which is written into `about.json` for people.
        lock: What to do if another process writes in the folder: `wait`, or raise LockedError `now`; `never`
            only reads.

    Raises:
        OutputError: The folder cannot be created or written to, and holds no images.
        LockedError: Another process writes in it, and `lock` is `now`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        size: int,
        about: str = "",
        *,
        lock: Literal["wait", "now", "never"] = "wait",
    ) -> None:
        self.folder, self.size, self.about, self._mode = Path(folder), size, about, lock
        #: Number of images and records whose checksum was wrong.
        self.damaged = 0
        self._bytes = size * size
        self._lock: filelock.BaseFileLock | None = None
        self._files: list[IO[bytes]] = []
        # Place and checksum of each image in one number, because there can be a million.
        self._index: dict[bytes, int] = {}
        self._reasons: list[str] = []
        self._number = self._count = self._room = self._expected = self._read = 0
        # Mapped parts of the file: the place of the first image of each, and the same by address.
        self._starts: list[int] = []
        self._blocks: list[NDArray[np.uint8]] = []
        self._addresses: list[tuple[int, int, int]] = []

    def __enter__(self) -> "ImageStore":
        with _files.writing(self.folder):
            self._lock = self._wait_for_lock()
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the number of images in the file."""
        return self._count

    @property
    def writable(self) -> bool:
        """Whether images can be added."""
        return self._lock is not None

    @property
    def nbytes(self) -> int:
        """Size of the files in bytes."""
        return sum(self._path(name).stat().st_size for name in _NAMES if self._path(name).exists())

    def get(self, key: bytes) -> NDArray[np.uint8] | str | None:
        """Return an image `(size, size, 1)`, the reason of its failure, or None if it is not there.

        The image is a view of the file that cannot be written to.
        """
        found = self._index.get(key)
        if found is None:
            return None
        place, check = found >> 32, found & 0xFFFFFFFF
        if place < 0:
            return self._reasons[-place - 1]
        image = self._view(place)
        self._read += self._bytes
        intact = zlib.crc32(image.data) == check
        if self._read > _BLOCK_BYTES:
            self._release()
        if not intact:
            self.damaged += 1
            del self._index[key]
            return None
        return image

    def add(self, key: bytes, face: NDArray[np.uint8] | str) -> NDArray[np.uint8] | str:
        """Add an image, or the reason why it cannot be used, and return it as it is in the file.

        Raises:
            OutputError: The files cannot be written, or the disk has too little space.
        """
        if self._lock is None:
            raise OutputError(f"'{self.folder}' cannot be written; choose a folder that you can write to")
        with _files.writing(self.folder):
            return self._add(key, face)

    def expect(self, images: int) -> None:
        """Set how many images will be in the store, for the check of the free space."""
        self._expected = max(self._expected, images)

    def arrange(
        self,
        faces: Sequence[NDArray[np.uint8]],
        others: Iterable[NDArray[np.uint8]] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.uint8]:
        """Return images as one array that is mapped from the file, in this order.

        If the file has another order, it is written again.

        Args:
            faces: Images of this store, or in memory.
            others: Images of this store that are kept after them.
            progress: Called with (done, total) images while the file is written.

        Returns:
            `(n, size, size, 1)`, which cannot be written to.

        Raises:
            OutputError: The files cannot be written, or the disk has too little space.
        """
        places = [self._place(face) for face in faces]
        repairs = self.damaged > 0 and self._lock is not None
        if repairs or places != list(range(len(places))):
            rest = [self._place(face) for face in others]
            with _files.writing(self.folder):
                self._rewrite([*places, *rest], progress)
        return self._mapped(0, len(places))

    def repair(self) -> None:
        """Write the files again if something in them is damaged."""
        if self.damaged and self._lock is not None:
            with _files.writing(self.folder):
                self._rewrite(sorted(found >> 32 for found in self._index.values() if found >= 0))

    def close(self) -> None:
        """Close the files, and let other processes write. Images that were returned stay valid."""
        if self._files and self._lock is not None:
            length = self._count * self._bytes
            with contextlib.suppress(OSError):  # Windows cannot shorten a file that is mapped
                if os.fstat(self._files[0].fileno()).st_size != length:
                    self._files[0].truncate(length)
        for file in self._files:
            file.close()
        self._files = []
        if self._lock is not None:
            _files.let_go(self._lock)
            self._lock = None

    def _wait_for_lock(self) -> filelock.BaseFileLock | None:
        if self._mode == "never":
            return None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            while (lock := _files.hold(self.folder / "lock")) is None:
                if self._mode == "now":
                    raise LockedError
                time.sleep(_SECONDS_BETWEEN_TRIES)
        except OSError:
            if not self._numbers():
                raise
            return None
        return lock

    def _path(self, name: str, number: int | None = None) -> Path:
        stem, _, suffix = name.partition(".")
        return self.folder / f"{stem}-{self._number if number is None else number}.{suffix}"

    def _numbers(self) -> list[int]:
        found = []
        for path in self.folder.glob("index-*.bin"):
            number = path.stem.removeprefix("index-")
            if number.isdecimal():
                found.append(int(number))
        return sorted(found)

    def _open(self) -> None:
        """Open the files with the highest number."""
        self._number = max(self._numbers(), default=0)
        with _files.writing(self.folder):
            if self._lock is not None:
                self._sweep()
                if self.about and not (self.folder / "about.json").exists():
                    _files.write(self.folder / "about.json", self.about.encode())
            mode = "rb" if self._lock is None else "a+b"
            self._files = [self._path(name).open(mode, buffering=0) for name in _NAMES]
            if self._lock is not None:
                # Opened for appending, a file cannot be written at a place.
                self._files[0].close()
                self._files[0] = self._path(_NAMES[0]).open("r+b", buffering=0)
            for file in self._files:
                file.seek(0)
            self._read_index()

    def _sweep(self) -> None:
        """Delete files of other numbers, and those that a killed process left."""
        keep = {self._path(name) for name in _NAMES}
        stale = [path for name in _NAMES for path in self.folder.glob(name.replace(".", "-*."))]
        for path in [*(each for each in stale if each not in keep), *self.folder.glob(".partial-*")]:
            with contextlib.suppress(OSError):  # another process has it open on Windows
                path.unlink()

    def _read_index(self) -> None:
        images, index, reasons = self._files
        whole = os.fstat(images.fileno()).st_size // self._bytes
        lines = reasons.read().split(b"\n")
        self._reasons = []
        for line in lines[:-1]:
            try:
                self._reasons.append(str(json.loads(line)))
            except ValueError:
                self._reasons.append("")
        data = index.read()
        self._index, self._count = {}, 0
        for start in range(0, len(data) - _RECORD.size + 1, _RECORD.size):
            key, place, check, own = _RECORD.unpack_from(data, start)
            intact = zlib.crc32(data[start : start + _RECORD.size - 4]) == own
            if intact and place < 0:
                line = lines[-place - 1] if -place <= len(self._reasons) else b""
                intact = zlib.crc32(line) == check and bool(self._reasons[-place - 1])
            elif intact:
                self._count = max(self._count, place + 1)
                intact = place < whole
            if intact:
                self._index[key] = place << 32 | check
            else:
                self.damaged += 1
        if self._lock is not None:
            index.truncate(len(data) - len(data) % _RECORD.size)
            reasons.truncate(sum(len(line) + 1 for line in lines[:-1]))
        self._starts, self._blocks, self._addresses = [], [], []
        self._room = self._count = min(self._count, whole)
        if self._count:
            self._map(0, self._count)

    def _map(self, start: int, count: int) -> None:
        block = self._mapped(start, count)
        self._starts.append(start)
        self._blocks.append(block)
        insort(self._addresses, (_address(block), start, block.nbytes))

    def _mapped(self, start: int, count: int) -> NDArray[np.uint8]:
        """Return a number of images from a place in the file, `(count, size, size, 1)`."""
        if not count:
            return np.empty((0, self.size, self.size, 1), np.uint8)
        with self._path(_NAMES[0]).open("rb") as file:
            flat = _map(file, start * self._bytes, count * self._bytes, self.folder)
        return flat.reshape(count, self.size, self.size, 1)

    def _view(self, place: int) -> NDArray[np.uint8]:
        number = bisect_right(self._starts, place) - 1
        view: NDArray[np.uint8] = self._blocks[number][place - self._starts[number]]
        return view

    def _release(self) -> None:
        self._read = 0
        for block in self._blocks:
            release(block)

    def _add(self, key: bytes, face: NDArray[np.uint8] | str) -> NDArray[np.uint8] | str:
        if isinstance(face, str):
            line = json.dumps(face).encode()
            _write_all(self._files[2], line + b"\n")
            self._reasons.append(face)
            self._record(key, -len(self._reasons), zlib.crc32(line))
            return face
        if self._count == self._room:
            self._grow()
        self._files[0].seek(self._count * self._bytes)
        pixels = np.ascontiguousarray(face)
        _write_all(self._files[0], pixels.data.cast("B"))
        self._record(key, self._count, zlib.crc32(pixels.data))
        self._count += 1
        return self._view(self._count - 1)

    def _record(self, key: bytes, place: int, check: int) -> None:
        _write_all(self._files[1], _record(key, place, check))
        self._index[key] = place << 32 | check

    def _grow(self) -> None:
        """Map the pages after the last image, which are not written yet."""
        more = max(1, min(_BLOCK_BYTES // self._bytes, max(_FIRST_BLOCK, self._count)))
        left = max(more, self._expected - self._count)
        # What is arranged is written once more.
        self._check_space(left + self._expected)
        self._room = self._count + more
        if os.fstat(self._files[0].fileno()).st_size < self._room * self._bytes:
            self._files[0].truncate(self._room * self._bytes)
        self._map(self._count, more)

    def _check_space(self, images: int) -> None:
        needed, free = images * self._bytes, shutil.disk_usage(self.folder).free
        if needed > free:
            raise OutputError(
                f"'{self.folder}' needs {_shown(needed)} for the images, and {_shown(free)} are free; free "
                "some space or name another folder for the cache"
            )

    def _place(self, face: NDArray[np.uint8]) -> int:
        """Return the place of an image in the file; one in memory is added."""
        address = _address(face)
        near = bisect_right(self._addresses, address, key=lambda each: each[0]) - 1
        if near >= 0:
            first, start, length = self._addresses[near]
            if address - first < length:
                return start + (address - first) // self._bytes
        key = key_of(face.tobytes())
        known = self.get(key)
        if known is None:
            known = self.add(key, face)
        assert not isinstance(known, str)
        return self._place(known)

    def _rewrite(self, places: Sequence[int], progress: Callable[[int, int], None] | None = None) -> None:
        """Write the files with the next number, with images in the order of their places."""
        if self._lock is None:
            raise OutputError(f"'{self.folder}' cannot be written; choose a folder that you can write to")
        self._check_space(len(places))
        keys = {found >> 32: (key, found & 0xFFFFFFFF) for key, found in self._index.items()}
        number = self._number + 1
        targets = [self._path(name, number) for name in _NAMES]

        def write_images(path: Path) -> None:
            with path.open("wb", buffering=0) as file:
                step = max(1, 2**20 // self._bytes)
                for start in range(0, len(places), step):
                    part = places[start : start + step]
                    _write_all(file, b"".join(self._view(place).data for place in part))
                    self._read += step * self._bytes
                    if self._read > _BLOCK_BYTES:
                        self._release()
                    if progress:
                        progress(start + len(part), len(places))
            self._release()

        failures = [(key, place) for place, (key, _) in sorted(keys.items(), reverse=True) if place < 0]
        lines = [json.dumps(self._reasons[-place - 1]).encode() for _, place in failures]
        records = [_record(*_with_place(keys[place], new)) for new, place in enumerate(places)]
        for new, ((key, _), line) in enumerate(zip(failures, lines, strict=True)):
            records.append(_record(key, -new - 1, zlib.crc32(line)))
        _files.fill(targets[0], write_images)
        _files.write(targets[2], b"".join(line + b"\n" for line in lines))
        # Last, because the number counts from now on.
        _files.write(targets[1], b"".join(records))
        for file in self._files:
            file.close()
        self._open()


_NAMES = ("images.u8", "index.bin", "reasons.jsonl")


def _record(key: bytes, place: int, check: int) -> bytes:
    start = _RECORD.pack(key, place, check, 0)[:-4]
    return start + zlib.crc32(start).to_bytes(4, "little")


def _with_place(known: tuple[bytes, int], place: int) -> tuple[bytes, int, int]:
    key, check = known
    return key, place, check


def _write_all(file: IO[bytes], data: bytes | memoryview) -> None:
    """Write all bytes; an unbuffered file can take fewer if the disk is nearly full."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _shown(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
