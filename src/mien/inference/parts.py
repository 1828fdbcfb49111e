"""Predictions as a folder of Parquet files, each of which is complete and never made again."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mien import _files, _tables
from mien._text import make_encodable
from mien.errors import InputError
from mien.inference import tables
from mien.types import Prediction, Problem

#: The format of the files.
KIND = "parquet"
#: Images in a file.
SIZE = 2000
#: The file in the folder whose presence says that predictions are missing.
_UNFINISHED = ".unfinished"


def is_folder(to: str | os.PathLike[str]) -> bool:
    """Return whether a path means a folder of parts: a folder that exists, or a path without an extension."""
    return Path(to).is_dir() or not Path(to).suffix


def files_of(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the files of a folder of parts in their order."""
    return sorted(Path(folder).glob("part-*.parquet"), key=lambda path: (len(path.name), path.name))


def is_finished(folder: str | os.PathLike[str]) -> bool:
    """Return whether the run that writes a folder of parts has ended."""
    return Path(folder).is_dir() and not (Path(folder) / _UNFINISHED).exists()


class PartsWriter:
    """Write predictions to files `part-00001.parquet` and so on in a folder. Use it in a `with`.

    Args:
        folder: The folder; it is created if it does not exist.
        facts: What the predictions depend on, by the name of the option that sets it.
        labels: The model's labels.
        resume: Keep the files of an earlier run, and add to them.

    Raises:
        InputError: The folder has predictions and `resume` is False, the predictions have other facts, a file
            is damaged, or another run writes to the folder.
        OutputError: The folder cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        facts: Mapping[str, Any],
        labels: Sequence[str],
        *,
        resume: bool,
    ) -> None:
        self.folder, self._facts, self._columns = Path(folder), dict(facts), Prediction.columns(labels)
        #: Number of files, and sources that an earlier run could not read.
        self.count, self.unreadable = 0, set[str]()
        self._known: set[str] = set()
        self._table: _tables.Table | None = None
        self._images, self._problems = 0, list[str]()
        self._lock = _tables.lock(self.folder / ".parts", self.folder)
        try:
            self._read(resume=resume)
            document = json.dumps(self._facts, sort_keys=True) + "\n"
            _files.write(self.folder / _UNFINISHED, document.encode())
        except BaseException:
            _files.let_go(self._lock)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._table is not None:
            self._table.__exit__(kind, error, trace)
        _files.let_go(self._lock)

    def has(self, name: str) -> bool:
        """Return whether an earlier run has predicted a source, or could not read it."""
        return make_encodable(name) in self._known or name in self.unreadable

    def add(self, item: Prediction | Problem) -> None:
        """Add a prediction, or the source of a problem.

        Raises:
            OutputError: It cannot be written.
        """
        if self._table is None:
            self._table = _tables.Table(self._path(), list(self._columns), self._columns).__enter__()
        if isinstance(item, Prediction):
            self._table.add(item.to_dict(), item.rows())
        else:
            self._problems.append(item.source)
        self._images += 1
        if self._images == SIZE:
            self._end()

    def finish(self) -> None:
        """Write what is left, and mark the folder as complete.

        Raises:
            OutputError: It cannot be written.
        """
        if self._table is None and not self.count:
            self._table = _tables.Table(self._path(), list(self._columns), self._columns).__enter__()
        if self._table is not None:
            self._end()
        with suppress(FileNotFoundError):
            (self.folder / _UNFINISHED).unlink()

    def _path(self) -> Path:
        return self.folder / f"part-{self.count + 1:05}.parquet"

    def _end(self) -> None:
        assert self._table is not None
        with self._table as table:
            tables.keep(table, self._facts, self._problems)
        self._table, self._images, self._problems = None, 0, []
        self.count += 1

    def _read(self, *, resume: bool) -> None:
        """Read what an earlier run has done."""
        files = files_of(self.folder)
        if files and not resume:
            raise InputError(
                f"'{self.folder}' has predictions of an earlier run; continue it with --resume, or choose "
                "another folder"
            )
        for facts, path in self._earlier(files):
            if others := _tables.differing(facts, self._facts):
                raise InputError(
                    f"'{path}' was made with another {', '.join(others)}; use the same, or choose another "
                    "folder"
                )
        if files:
            self.count = int(files[-1].stem.removeprefix("part-"))

    def _earlier(self, files: Sequence[Path]) -> Iterator[tuple[dict[str, Any], Path]]:
        for path in files:
            facts, unreadable = tables.facts_of(path)
            if facts is None or not path.stem.removeprefix("part-").isdecimal():
                raise InputError(f"'{path}' is not a part of predictions; move it, or choose another folder")
            yield facts, path
            self._known |= tables.sources(path)
            self.unreadable |= unreadable
