"""What was found in each frame, kept while the work goes on, so that a killed one goes on where it stopped.

A resumed run decodes the video anew and takes faces from here instead of looking for them. Numbers, smoothing
and every output come out of the same steps in the same order, so they are equal to those of a run that was
never stopped.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from mien import _files
from mien.errors import InputError, VideoError
from mien.inference import predictor
from mien.types import Box, Face

_VERSION = 1
_FIRST_BYTES = 1 << 20


def fingerprint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what tells one video file from another: its size, and the hash of its first MiB."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256(file.read(_FIRST_BYTES)).hexdigest()
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256_of_first_mib": digest}


class Journal:
    """A file of one JSON line a frame, deleted by `done` and where it has none. Use it in a `with`.

    Args:
        path: Where it is.
        facts: What the faces depend on: the video, the model, the options; JSON values.
        resume: Take what an earlier run left there; otherwise, or where it left nothing, start anew.

    Raises:
        VideoError: The journal is of another video, model or options.
        InputError: It cannot be written, or another process writes it.
    """

    def __init__(self, path: str | os.PathLike[str], facts: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path = Path(path)
        #: How many frames an earlier run left.
        self.kept = 0
        #: Whether lines of it were damaged, as a power cut leaves them; they and what follows are given up.
        self.damaged = False
        header = json.dumps({"journal": _VERSION, **facts}, sort_keys=True).encode() + b"\n"
        self._lock = predictor.hold(path)
        try:
            end = self._check(header) if resume and path.is_file() else 0
            self._file: IO[bytes] = path.open("r+b" if end else "w+b")
            self._file.truncate(end)
            if not end:
                self._file.write(header)
                self._file.flush()
                end = len(header)
        except BaseException as error:
            _files.let_go(self._lock)
            if isinstance(error, OSError):
                raise self._unwritable(error) from None
            raise
        self._place, self._end, self._written = len(header), end, False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # a full disk was told when it was written to
            self._file.close()
        if not (self.kept or self._written):
            self.path.unlink(missing_ok=True)
        _files.let_go(self._lock)

    def get(self, number: int) -> tuple[Face, ...] | None:
        """Return the faces that an earlier run found in a frame, or None; ask in the frames' order."""
        if self._place >= self._end:
            return None
        self._file.seek(self._place)
        frame, faces = _parsed(self._file.readline())
        self._place = self._file.tell()
        if frame != number:
            raise VideoError(f"'{self.path}' does not fit the video: delete it, or start without --resume")
        return faces

    def put(self, number: int, faces: Sequence[Face]) -> None:
        """Keep the faces of a frame.

        Raises:
            InputError: It cannot be written.
        """
        line = json.dumps({"frame": number, "faces": [face.to_dict() for face in faces]})
        try:
            self._file.seek(0, os.SEEK_END)
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from None
        self._written = True

    def done(self) -> None:
        """Delete the file; all that came of it is in its place."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _check(self, header: bytes) -> int:
        """Return how many bytes of an earlier run are whole; 0 where it left nothing."""
        with self.path.open("rb") as file:
            first = file.readline()
            if not first.endswith(b"\n"):
                return 0
            if first != header:
                raise VideoError(
                    f"'{self.path}' was begun on another video, or with another model or options; "
                    "give the same ones, or start without --resume"
                )
            end = file.tell()
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    for face in _parsed(line)[1]:
                        face.to_dict()  # it cannot say what it shows where its scores are damaged
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    self.damaged = True
                    break
                self.kept += 1
                end += len(line)
        return end

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"'{self.path}' cannot be written: {_files.reason(error)}")


def _parsed(line: bytes) -> tuple[int, tuple[Face, ...]]:
    """Return a frame's number and faces, as `put` wrote them."""
    document = json.loads(line)
    faces = tuple(
        Face(Box(**each["box"]), each["detected"], each["scores"], tuple(each["flags"]))
        for each in document["faces"]
    )
    return document["frame"], faces
