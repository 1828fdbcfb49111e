"""A row for each frame and person, as csv, JSON lines or Parquet; a file appears whole or not at all."""

import contextlib
import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from mien import _files
from mien.errors import InputError
from mien.inference import predictor
from mien.types import SCHEMA
from mien.vision.tracking import Tracked

if TYPE_CHECKING:
    from mien.inference.video import Frame

#: Rows that Parquet writes at once; they are held in memory until then.
_GROUP = 1000


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


class Lines:
    """Writes rows to an open text stream as they come.

    Args:
        stream: Where to; it is opened and closed by whoever gives it.
        kind: `csv`, which begins with a header, or `jsonl`.
        labels: The model's labels, in order.
    """

    def __init__(self, stream: IO[str], kind: str, labels: Sequence[str]) -> None:
        self._stream = stream
        self._csv = None
        if kind == "csv":
            self._csv = csv.DictWriter(stream, _columns(labels), lineterminator="\n")
            self._csv.writerow({name: predictor.harmless(name) for name in _columns(labels)})

    def add(self, frame: "Frame") -> None:
        """Write a row for each of a frame's people."""
        for person in frame.people:
            if self._csv is not None:
                cells = row(frame, person)
                self._csv.writerow(
                    {name: predictor.short(predictor.harmless(cell)) for name, cell in cells.items()}
                )
            else:
                line = predictor.rounded(document(frame, person))
                self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")


class Rows:
    """Writes a file of rows; it is at `path` once `keep` was called. Use it in a `with`.

    Args:
        path: Where to; its suffix is the format: .csv, .jsonl or .parquet.
        labels: The model's labels, in order.

    Raises:
        MissingExtra: Parquet is wanted and pyarrow is not installed.
        InputError: The suffix is no format, or the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], labels: Sequence[str]) -> None:
        self.path = Path(path)
        kind = predictor.format_of(self.path)
        self._partial = self.path.with_name(f".partial-rows-{self.path.name}")
        self._file: IO[str] | None = None
        self._table: Any = None
        self._held: list[dict[str, Any]] = []
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "parquet":
                self._table = _parquet(self._partial, _columns(labels))
                return
            self._file = self._partial.open("w", encoding="utf-8", newline="")
            self._lines = Lines(self._file, kind, labels)
        except OSError as error:
            raise self._unwritable(error) from None

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
            if self._table is None:
                self._lines.add(frame)
                return
            self._held += [row(frame, person) for person in frame.people]
            if len(self._held) >= _GROUP:
                self._flush()
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
            _files.fill(self.path, self._partial.replace)
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
        return InputError(f"'{self.path}' cannot be written: {_files.reason(error)}")


def _columns(labels: Sequence[str]) -> list[str]:
    where = ["frame", "time", "track", "left", "top", "width", "height", "detected"]
    raw = ["emotion", "confidence", *labels]
    return [*where, *raw, "flags", *(f"smoothed_{name}" for name in raw)]


def _parquet(path: Path, names: Sequence[str]) -> Any:
    import pyarrow
    from pyarrow import parquet

    whole = {"frame", "track", "left", "top", "width", "height"}
    text = {"emotion", "smoothed_emotion", "flags"}
    kinds = {name: pyarrow.int64() for name in whole} | {name: pyarrow.string() for name in text}
    # Probabilities are float32, as the model gives them; a time of hours has digits beyond that.
    kinds["time"] = pyarrow.float64()
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float32())) for name in names])
    return parquet.ParquetWriter(str(path), schema)
