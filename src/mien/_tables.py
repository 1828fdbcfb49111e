"""Tables as csv, JSON lines or Parquet files, and a log from which a stopped run continues."""

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, Self, TypeVar

import filelock

from mien import _files
from mien._text import escape_formula, make_encodable
from mien.errors import InputError, MissingExtra

FORMATS = ("jsonl", "csv", "parquet")
#: Rows in a group of a Parquet file; they are in memory until they are written.
_GROUP = 1000
#: Key of the metadata of a Parquet file under which mien keeps a record.
_RECORD = "mien"

T = TypeVar("T")


def format_of(path: str | os.PathLike[str]) -> str:
    """Return the format that a file's extension names, one of `FORMATS`.

    Raises:
        InputError: The extension names none of them.
        MissingExtra: It is Parquet, and pyarrow is not installed.
    """
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError(f"'{path}' must end in .jsonl, .csv or .parquet; the extension sets the format")
    if kind == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise MissingExtra("Parquet", "parquet") from error
    return kind


def rounded(document: Any) -> Any:
    """Return a document of plain values with probabilities of at most 6 significant digits.

    A number in [0, 1] counts as a probability, so times after the first second keep all digits.
    """
    if isinstance(document, float):
        return float(f"{document:.6g}") if 0 <= document <= 1 else document
    if isinstance(document, dict):
        return {key: rounded(value) for key, value in document.items()}
    return [rounded(each) for each in document] if isinstance(document, list) else document


def harmless(cell: Any) -> Any:
    """Return a csv cell with a quote before text that a spreadsheet would run as a formula."""
    return escape_formula(cell) if isinstance(cell, str) else cell


def _short(cell: Any) -> Any:
    """Return a probability as text of at most 6 significant digits, other cells unchanged."""
    return f"{cell:.6g}" if isinstance(cell, float) and 0 <= cell <= 1 else cell


class Lines:
    """Write csv or JSON lines to an open text stream.

    Args:
        stream: The stream; the caller opens and closes it.
        kind: `csv`, which begins with a header, or `jsonl`.
        columns: Names of the csv columns.
    """

    def __init__(self, stream: IO[str], kind: str, columns: Sequence[str]) -> None:
        self._stream = stream
        self._csv = None
        if kind == "csv":
            self._csv = csv.DictWriter(stream, columns, lineterminator="\n")
            self._csv.writerow({name: harmless(name) for name in columns})

    def add(self, document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the document as a JSON line, or its flat rows as csv."""
        if self._csv is None:
            self._stream.write(json.dumps(rounded(document), ensure_ascii=False) + "\n")
            return
        for row in rows:
            self._csv.writerow({name: _short(harmless(cell)) for name, cell in row.items()})


class Table:
    """Write a csv, JSON lines or Parquet file, which is at `path` after `keep`. Use it in a `with`.

    Args:
        path: The file; its extension is one of `FORMATS`.
        columns: Names of the columns of csv and Parquet.
        types: Parquet types of columns by their pyarrow names, such as `int64`; others are `float32`.

    Raises:
        InputError: The extension names no format.
        MissingExtra: It is Parquet, and pyarrow is not installed.
        OutputError: The file cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], columns: Sequence[str], types: Mapping[str, str]
    ) -> None:
        self.path = Path(path)
        kind = format_of(self.path)
        self._partial = self.path.with_name(f".partial-rows-{self.path.name}")
        self._file: IO[str] | None = None
        self._parquet: Any = None
        self._rows: list[Mapping[str, Any]] = []
        with _files.writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "parquet":
                import pyarrow
                from pyarrow import parquet

                kinds = {name: getattr(pyarrow, types.get(name, "float32"))() for name in columns}
                self._parquet = parquet.ParquetWriter(str(self._partial), pyarrow.schema(list(kinds.items())))
            else:
                # Bytes of a file name that are not UTF-8 are escaped, as in JSON.
                self._file = self._partial.open("w", encoding="utf-8", errors="backslashreplace", newline="")
                self._lines = Lines(self._file, kind, columns)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # If the block failed, its error is the one to report.
        with contextlib.suppress(OSError):
            self._close()
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def add(self, document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the document as a JSON line, or its flat rows as csv or Parquet."""
        with _files.writing(self.path):
            if self._parquet is None:
                self._lines.add(document, rows)
                return
            self._rows += [
                {name: make_encodable(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
                for row in rows
            ]
            if len(self._rows) >= _GROUP:
                self._write_group()

    def keep(self, record: str | None = None) -> None:
        """Finish the file and move it to `path`.

        Args:
            record: A text that a Parquet file keeps for `record_of`.

        Raises:
            OutputError: It cannot be written.
        """
        with _files.writing(self.path):
            if self._rows:
                self._write_group()
            if self._parquet is not None and record is not None:
                self._parquet.add_key_value_metadata({_RECORD: record})
            self._close()
            _files.fill(self.path, self._partial.replace)

    def _write_group(self) -> None:
        import pyarrow

        self._parquet.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._parquet.schema))
        self._rows = []

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._parquet is not None:
            self._parquet.close()


def record_of(path: str | os.PathLike[str]) -> str | None:
    """Return the record in a Parquet file that `Table.keep` wrote; None if it has none.

    Raises:
        OSError or ValueError: The file cannot be read or is not a Parquet file.
    """
    from pyarrow import parquet

    found = (parquet.read_metadata(str(path)).metadata or {}).get(_RECORD.encode())
    return None if found is None else found.decode()


def column(path: str | os.PathLike[str], name: str) -> set[Any]:
    """Return the values of a column, or of a key of JSON lines.

    Raises:
        OSError, ValueError, KeyError or TypeError: The file cannot be read or is another kind of file.
    """
    kind = format_of(path)
    if kind == "parquet":
        from pyarrow import parquet

        return set(parquet.read_table(str(path), columns=[name])[name].to_pylist())
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            if kind == "jsonl":
                return {json.loads(line)[name] for line in file}
            return {row[name] for row in csv.DictReader(file)}
    except csv.Error as error:
        raise ValueError(str(error)) from None


class ResumableLog(Generic[T]):
    """A file of JSON lines from which a stopped run continues. Use it in a `with`.

    Leaving the `with` keeps the file if it has lines; `delete` removes it.

    Args:
        path: The file.
        facts: What the lines depend on, such as the model's hash, by the name of the option that sets it.
        parse: Returns what a line holds; for a damaged line it raises a ValueError, TypeError, KeyError or
            AttributeError.
        resume: Keep the lines of an earlier run; otherwise start with an empty file.
        output: The file that the user named, for errors; None for `path`.

    Raises:
        InputError: The earlier run had other facts, or another process writes the file.
        OutputError: The file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        facts: Mapping[str, Any],
        parse: Callable[[Any], T],
        *,
        resume: bool,
        output: str | os.PathLike[str] | None = None,
    ) -> None:
        self.path = path = Path(path)
        self._output = Path(output or path)
        #: Lines of an earlier run, and whether damaged ones after them were dropped.
        self.known, self.damaged = 0, False
        self._parse, self._facts = parse, json.loads(json.dumps({"log": 1, **facts}))
        header = json.dumps(self._facts, sort_keys=True).encode() + b"\n"
        self._begin = self._end = len(header)
        self._lines = 0
        self._lock = lock(path, output)
        try:
            with _files.writing(self._output):
                end = self._check(header) if resume and path.is_file() else 0
                self._file: IO[bytes] = path.open("r+b" if end else "w+b")
                self._file.truncate(end)
                if not end:
                    self._file.write(header)
                    self._file.flush()
        except BaseException:
            _files.let_go(self._lock)
            raise
        self._lines, self._end, self._place = self.known, max(end, self._begin), self._begin

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # `add` has reported a full disk
            self._file.close()
        if not self._lines:
            self.path.unlink(missing_ok=True)
        _files.let_go(self._lock)

    def add(self, document: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            OutputError: It cannot be written.
        """
        with _files.writing(self._output):
            self._file.seek(0, os.SEEK_END)
            self._file.write(json.dumps(document).encode() + b"\n")
            self._file.flush()
        self._lines += 1

    def items(self, *, earlier: bool = False) -> Iterator[T]:
        """Yield what the lines hold, the oldest first; with `earlier` only the lines of an earlier run."""
        with self.path.open("rb") as file:
            file.seek(self._begin)
            while (not earlier or file.tell() < self._end) and (line := file.readline()):
                yield self._parse(json.loads(line))

    def take(self) -> T | None:
        """Return the next line of an earlier run; None after the last one."""
        if self._place >= self._end:
            return None
        self._file.seek(self._place)
        item = self._parse(json.loads(self._file.readline()))
        self._place = self._file.tell()
        return item

    def delete(self) -> None:
        """Delete the file; call it after the results are written."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _check(self, header: bytes) -> int:
        """Return the length of the whole lines of an earlier run; 0 if it left none."""
        with self.path.open("rb") as file:
            first = file.readline()
            if not first.endswith(b"\n"):
                return 0
            if first != header:
                names = differing(_document(first), self._facts)
                raise InputError(
                    f"'{self._output}' was started with another {', '.join(names)}; use the same, or run "
                    "without --resume to start again"
                )
            end = file.tell()
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    self._parse(json.loads(line))
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    self.damaged = True
                    break
                self.known += 1
                end += len(line)
        return end


def log_path(output: str | os.PathLike[str]) -> Path:
    """Return the path of the log of a run that writes the file `output`."""
    path = Path(output)
    return path.with_name(f".{path.name}.log")


def lock(path: str | os.PathLike[str], output: str | os.PathLike[str] | None = None) -> filelock.BaseFileLock:
    """Return a lock on a file, so that no other run writes it; create the file's folder.

    Args:
        path: The file.
        output: The file that the user named, for errors; None for `path`.

    Raises:
        InputError: Another process holds the lock.
        OutputError: The lock cannot be created.
    """
    path, named = Path(path), Path(output or path)
    with _files.writing(named):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = _files.hold(path.with_name(f"{path.name}.lock"))
    if held is None:
        raise InputError(f"another run is writing '{named}'; wait for it, or write to another file")
    return held


def differing(known: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Return the options that set the facts in which two runs differ: `--model`, `--min-face`."""
    names = [*facts, *(name for name in known if name not in facts)]
    return [
        name if name == "video" else f"--{name.replace('_', '-')}"
        for name in names
        if (name in known) != (name in facts) or known.get(name) != facts.get(name)
    ]


def _document(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
