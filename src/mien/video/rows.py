"""A row for each frame and person, as csv, JSON lines or Parquet; a file appears whole or not at all."""

import contextlib
import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from mien import disk
from mien.errors import InputError, MissingExtra
from mien.faces import SCHEMA
from mien.track import Tracked

if TYPE_CHECKING:
    from mien.video import Frame

#: Rows that Parquet writes at once; they are held in memory until then.
_GROUP = 1000
FORMATS = ("csv", "jsonl", "parquet")


def row(frame: "Frame", person: Tracked) -> dict[str, Any]:
    """Return a flat row, as a data frame or a csv takes it.

    The raw answer stands under `emotion`, `confidence` and each label, the smoothed one under the same names
    with `smoothed_` before them.
    """
    face, box = person.face, person.face.box
    return {
        "frame": frame.number,
        "time": frame.time,
        "track": person.track,
        "left": box.left,
        "top": box.top,
        "width": box.width,
        "height": box.height,
        "detected": face.detected,
        "emotion": face.emotion,
        "confidence": face.confidence,
        **face.scores,
        "flags": " ".join(face.flags),
        "smoothed_emotion": person.emotion,
        "smoothed_confidence": person.confidence,
        **{f"smoothed_{label}": score for label, score in person.smoothed.items()},
    }


def document(frame: "Frame", person: Tracked) -> dict[str, Any]:
    """Return what a JSON line holds: the same, nested as in a prediction's JSON."""
    return {"schema": SCHEMA, "frame": frame.number, "time": frame.time, **person.to_dict()}


class Rows:
    """Writes rows; they are at `path` once `keep` was called. Use it in a `with`.

    Args:
        path: Where to.
        kind: One of `FORMATS`.
        labels: The model's labels, in order.

    Raises:
        MissingExtra: Parquet is wanted and pyarrow is not installed.
        InputError: The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], kind: str, labels: Sequence[str]) -> None:
        if kind not in FORMATS:
            raise InputError(f"{kind!r} is no format of rows; mien knows {', '.join(FORMATS)}")
        self.path, self._kind = Path(path), kind
        self._partial = self.path.with_name(f".partial-rows-{self.path.name}")
        self._file: IO[str] | None = None
        self._table: Any = None
        self._held: list[dict[str, Any]] = []
        names = _columns(labels)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "parquet":
                self._table = _parquet(self._partial, names)
                return
            self._file = self._partial.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise self._unwritable(error) from None
        if kind == "csv":
            self._csv = csv.DictWriter(self._file, names, lineterminator="\n")
            self._csv.writeheader()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whatever led here is the error to tell, not that half a file cannot be finished.
        with contextlib.suppress(OSError):
            self._close()
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def add(self, frame: "Frame") -> None:
        """Write a row for each of a frame's people."""
        try:
            for person in frame.people:
                if self._table is not None:
                    self._held.append(row(frame, person))
                    if len(self._held) >= _GROUP:
                        self._flush()
                elif self._kind == "csv":
                    self._csv.writerow(row(frame, person))
                elif self._file is not None:
                    self._file.write(json.dumps(document(frame, person), ensure_ascii=False) + "\n")
        except OSError as error:
            raise self._unwritable(error) from None

    def keep(self) -> None:
        """Finish the file and put it in its place.

        Raises:
            InputError: It cannot be written.
        """
        try:
            if self._held:
                self._flush()
            self._close()
            disk.fill(self.path, self._partial.replace)
        except OSError as error:
            raise self._unwritable(error) from None

    def _flush(self) -> None:
        import pyarrow

        self._table.write_table(pyarrow.Table.from_pylist(self._held, schema=self._table.schema))
        self._held = []

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._table is not None:
            self._table.close()

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"'{self.path}' cannot be written: {disk.reason(error)}")


def _columns(labels: Sequence[str]) -> list[str]:
    where = ["frame", "time", "track", "left", "top", "width", "height", "detected"]
    raw = ["emotion", "confidence", *labels]
    return [*where, *raw, "flags", *(f"smoothed_{name}" for name in raw)]


def _parquet(path: Path, names: Sequence[str]) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("Parquet", "parquet") from error
    whole = {"frame", "track", "left", "top", "width", "height"}
    text = {"emotion", "smoothed_emotion", "flags"}
    kinds = {name: pyarrow.int64() for name in whole} | {name: pyarrow.string() for name in text}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float64())) for name in names])
    return parquet.ParquetWriter(str(path), schema)
