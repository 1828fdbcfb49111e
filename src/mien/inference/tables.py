"""Tables of predictions as files, and the record of what they depend on."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mien import _files, _tables
from mien.errors import InputError
from mien.types import Prediction, Problem


def write(
    path: str | os.PathLike[str],
    items: Iterable[Prediction | Problem],
    labels: Sequence[str],
    *,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write predictions to a .jsonl, .csv or .parquet file; leave out problems.

    Args:
        path: The file.
        items: Predictions and problems.
        labels: The model's labels, which name columns of csv and Parquet.
        facts: What the predictions depend on, as `Predictor.facts` returns it; it is recorded with the
            sources of the problems.

    Raises:
        InputError: The extension names no format.
        MissingExtra: It is Parquet, and pyarrow is not installed.
        OutputError: The file cannot be written.
    """
    columns = Prediction.columns(labels)
    unreadable = []
    with _tables.Table(path, list(columns), columns) as table:
        for item in items:
            if isinstance(item, Prediction):
                table.add(item.to_dict(), item.rows())
            else:
                unreadable.append(item.source)
        keep(table, facts, unreadable)


def sources(path: str | os.PathLike[str]) -> set[str]:
    """Return the sources that a table of predictions names, with or without faces.

    Raises:
        InputError: It cannot be read, or `write` did not make it.
        MissingExtra: It is Parquet, and pyarrow is not installed.
    """
    try:
        return _tables.column(path, "source")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"'{path}' is not a file of predictions ({error}); run without --resume, or choose another file"
        ) from None


def keep(table: "_tables.Table", facts: Mapping[str, Any] | None, unreadable: Iterable[str]) -> None:
    """Finish a table of predictions, and record what it depends on.

    The record is in the metadata of a Parquet file, and beside another file as `.NAME.facts`.

    Args:
        table: The table, whose rows are complete.
        facts: As `Predictor.facts` returns them; None records nothing.
        unreadable: Sources that the table lacks because they could not be read.

    Raises:
        OutputError: A file cannot be written.
    """
    document: dict[str, Any] = {"facts": facts, "unreadable": sorted(unreadable)}
    table.keep(None if facts is None else json.dumps(document, sort_keys=True))
    if facts is not None and _tables.format_of(table.path) != "parquet":
        document["sha256"] = _digest(table.path)
        _files.write(facts_path(table.path), (json.dumps(document, sort_keys=True) + "\n").encode())


def facts_of(to: str | os.PathLike[str]) -> tuple[dict[str, Any] | None, set[str]]:
    """Return what `keep` recorded about a table: the facts, and the sources that could not be read.

    The facts are None if there is no record, or if a csv or JSON lines file has changed since.
    """
    try:
        if _tables.format_of(to) == "parquet":
            document = json.loads(_tables.record_of(to) or "{}")
        else:
            document = json.loads(facts_path(to).read_bytes())
            if document["sha256"] != _digest(to):
                return None, set()
        if not isinstance(document["facts"], dict):
            return None, set()
        return document["facts"], {str(source) for source in document["unreadable"]}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None, set()


def facts_path(to: str | os.PathLike[str]) -> Path:
    """Return the path of the record beside a csv or JSON lines file."""
    place = Path(to)
    return place.with_name(f".{place.name}.facts")


def _digest(path: str | os.PathLike[str]) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
