"""Find the images of data sets in the layouts of Hugging Face.

- Parquet or Arrow files, with splits in the names of files or folders, as on the hub.
- Folders that `datasets.save_to_disk` wrote.
- Folders of images with a metadata.jsonl.
- `datasets.Dataset` and `datasets.DatasetDict` objects; mien does not import `datasets`.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable

from mien._text import shorten
from mien.data import column_names, columnar
from mien.data.class_names import find_part
from mien.data.columnar import BadRowError, Shard
from mien.data.contents import Problem, ReadOptions, check_room, split_named
from mien.data.listings import (
    Entry,
    FolderReader,
    Listing,
    check_boxes,
    group_entries,
    without_doubtful,
)
from mien.errors import DataError, ImageError
from mien.vision import images

METADATA = "metadata.jsonl"
_DICT, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"

#: Maximum size in bytes of a JSON file, and of a line of JSON lines.
_MAX_JSON = 16 * 2**20
#: Rows of an object that are taken at a time: labels, and images.
_LABEL_ROWS, _IMAGE_ROWS = 65_536, 64


@runtime_checkable
class TableDataset(Protocol):
    """What mien uses of a `datasets.Dataset`."""

    @property
    def features(self) -> Any:
        """The features, with `arrow_schema`."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""

    def with_format(self, type: str) -> Any:  # noqa: A002 the library's name
        """Return the same data set, whose slices are pyarrow tables if `type` is `arrow`."""

    def select_columns(self, column_names: list[str]) -> Any:
        """Return the same data set with some of its columns."""


def is_dataset(given: object) -> bool:
    """Return whether an object is a data set of `datasets`, or a dictionary of these by split."""
    if isinstance(given, Mapping):
        return bool(given) and all(_is_table(each) for each in given.values())
    return _is_table(given)


def _is_table(given: object) -> bool:
    return isinstance(given, TableDataset) or type(given).__name__ == "IterableDataset"


def name_of(given: TableDataset | Mapping[str, TableDataset]) -> str:
    """Return the name of a data set of `datasets`, or a general one."""
    first = next(iter(given.values())) if isinstance(given, Mapping) else given
    info = getattr(first, "info", None)
    name = getattr(info, "dataset_name", None) or getattr(info, "builder_name", None)
    return name if isinstance(name, str) else "dataset"


def list_dataset(given: TableDataset | Mapping[str, TableDataset], options: ReadOptions) -> Listing:
    """List the images of a data set of `datasets`, or of a dictionary of these by split.

    Raises:
        DataError: It has no columns of images and labels, or can only be read as a stream.
        MissingExtra: pyarrow is not installed.
    """
    columnar.import_arrow("A Hugging Face data set")
    parts = given if isinstance(given, Mapping) else {"": given}
    if streams := [name for name, each in parts.items() if not isinstance(each, TableDataset)]:
        where = f" of the split {streams[0]!r}" if streams[0] else ""
        raise DataError(f"the data set{where} is a stream; load it without streaming=True")
    shards = []
    for name, each in parts.items():
        split = split_named(name) or "" if name else ""
        shards.append(_object_shard(each, name, split))
    return columnar.list_rows(shards, options, "a Hugging Face data set")


def _object_shard(given: TableDataset, name: str, split: str) -> Shard:
    tables = given.with_format("arrow")

    def batches(columns: Sequence[str], start: int) -> Iterator[tuple[int, Any]]:
        chosen = list(dict.fromkeys(column.partition(".")[0] for column in columns))
        part = tables.select_columns(chosen)
        step = _IMAGE_ROWS if len(chosen) == 1 else _LABEL_ROWS
        for first in range(start, given.num_rows, step):
            at = first
            for batch in part[first : first + step].to_batches():
                yield at, batch
                at += batch.num_rows

    schema = given.features.arrow_schema
    return Shard(
        name=name,
        split=split,
        rows=given.num_rows,
        schema=schema,
        batches=batches,
        read_file=_read_local,
        class_names=columnar.class_names_of(schema),
    )


def _read_local(name: str) -> bytes:
    """Return the content of a file that an object of this process names."""
    if "://" in name or "::" in name:
        raise ImageError("the image is not a local file; load the data set with its images")
    try:
        with Path(name).open("rb") as file:
            return file.read(images.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ImageError(f"the file '{name[-60:]}' cannot be read") from error


def list_file(path: str | os.PathLike[str], options: ReadOptions) -> Listing | None:
    """List the images of a Parquet, Arrow or JSON lines file; None for other files.

    Raises:
        DataError: The file is damaged, or lacks a column.
        MissingExtra: pyarrow is not installed.
    """
    path = Path(path)
    reader = FolderReader(options.images or path.parent)
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return _list_metadata({path.name: path}, options, reader)
    if suffix not in _OPENERS:
        return None
    split = ""
    shard = _OPENERS[suffix](path, "", split, reader)
    return columnar.list_rows([shard], options, _KINDS[suffix])


_OPENERS: Mapping[str, Callable[[Path, str, str, Callable[[str], bytes]], Shard]] = {
    ".parquet": columnar.open_parquet,
    ".arrow": columnar.open_arrow,
}
_KINDS = {".parquet": "Parquet", ".arrow": "Arrow"}


def list_saved(source: str | os.PathLike[str], names: Sequence[str], options: ReadOptions) -> Listing | None:
    """List the images of a folder that `save_to_disk` wrote; None for other folders.

    Args:
        source: The folder.
        names: Its files, relative to it and separated by `/`.
        options: How to read it.

    Raises:
        DataError: A file is damaged, or lacks a column.
        MissingExtra: pyarrow is not installed.
    """
    source = Path(source)
    if _DICT in names or (_STATE in names and _INFO in names):
        return _list_saved(source, names, options, FolderReader(options.images or source))
    return None


def may_be_table(name: str) -> bool:
    """Return whether a file of a folder can have or describe images, by its name."""
    return PurePosixPath(name).suffix.lower() in _OPENERS or _leaf(name) == METADATA


def _leaf(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _saved_below(names: Sequence[str]) -> list[str]:
    """Return the folders that `save_to_disk` wrote, without those of splits."""
    there = frozenset(names)
    several = {name.rpartition("/")[0] for name in names if _leaf(name) == _DICT}
    single = {name.rpartition("/")[0] for name in names if _leaf(name) == _STATE}
    single = {folder for folder in single if f"{folder}/{_INFO}" in there}
    return sorted(several | {folder for folder in single if folder.rpartition("/")[0] not in several})


def list_tables(source: str | os.PathLike[str], names: Sequence[str], options: ReadOptions) -> Listing | None:
    """List the images that a metadata.jsonl, Parquet or Arrow files of a folder name; None without these.

    Args:
        source: The folder.
        names: Its files, relative to it and separated by `/`.
        options: How to read it.

    Raises:
        DataError: A file is damaged, or lacks a column, or the folder has several data sets.
        MissingExtra: pyarrow is not installed.
    """
    source = Path(source)
    if saved := _saved_below(names):
        _check_one(source, saved)
        inside = f"{saved[0]}/"
        below = [name.removeprefix(inside) for name in names if name.startswith(inside)]
        return list_saved(source / saved[0], below, options)
    reader = FolderReader(options.images or source)
    described = {name: source / name for name in names if _leaf(name) == METADATA}
    if described and (listing := _list_metadata(described, options, reader, whole=False)):
        return listing
    for suffix, opener in _OPENERS.items():
        tables = [name for name in names if name.lower().endswith(suffix)]
        if not tables:
            continue
        configs = sorted({_config_of(name) for name in tables})
        _check_one(source, configs)
        shards = [opener(reader_path(source, name), name, _split_of(name), reader) for name in tables]
        return columnar.list_rows(shards, options, f"{_KINDS[suffix]} files")
    return None


def _check_one(source: Path, folders: Sequence[str]) -> None:
    if len(folders) > 1:
        raise DataError(
            f"'{source.resolve().name}' has {len(folders)} data sets: {shorten(folders, 8)}; give the "
            "folder of one of them"
        )


def reader_path(source: str | os.PathLike[str], name: str) -> Path:
    """Return the path of a file of a folder.

    Raises:
        DataError: It leads outside the folder, or is not a file.
    """
    source = Path(source)
    try:
        return FolderReader(source).path(name)
    except ImageError as error:
        raise DataError(f"'{name}' cannot be read: {error}") from error


def _split_of(name: str) -> str:
    """Return the split that a file's name, or the folders it is in, tell; or nothing."""
    folders, _, leaf = name.rpartition("/")
    stem = leaf.rpartition(".")[0]
    words = [stem, *re.split(r"[-_.\s]+", stem), *reversed(folders.split("/"))]
    return next((split for word in words if word and (split := split_named(word))), "")


def _config_of(name: str) -> str:
    """Return the folder of a data set that a table belongs to, without the folder of its split."""
    parts = name.split("/")[:-1]
    if parts and split_named(parts[-1].removeprefix("partial-")):
        parts = parts[:-1]
    return "/".join(parts) or "the files beside each other"


def _list_saved(source: Path, names: Sequence[str], options: ReadOptions, reader: FolderReader) -> Listing:
    """List what `save_to_disk` wrote: one data set, or one for each split."""
    if _DICT in names:
        splits = _json(source, _DICT).get("splits")
        if not isinstance(splits, list) or not splits or not all(isinstance(name, str) for name in splits):
            raise DataError(f"'{_DICT}' names no splits; save the data set again")
        folders = {name: f"{name}/" for name in splits}
    else:
        folders = {"": ""}
    shards: list[Shard] = []
    for name, folder in folders.items():
        split = split_named(name) or "" if name else ""
        shards += _saved_shards(source, folder, split, reader)
    return columnar.list_rows(shards, options, "a saved Hugging Face data set")


def _saved_shards(source: Path, folder: str, split: str, reader: FolderReader) -> Iterator[Shard]:
    state = _json(source, f"{folder}{_STATE}")
    if state.get("_indices_data_files"):
        raise DataError(f"'{folder}{_STATE}' selects rows of its tables; load and save the data set again")
    try:
        files = [str(each["filename"]) for each in state["_data_files"]]
    except (KeyError, TypeError):
        files = []
    if not files:
        raise DataError(f"'{folder}{_STATE}' names no files; save the data set again")
    features = _json(source, f"{folder}{_INFO}").get("features")
    class_names = columnar.class_names_in(features) if isinstance(features, Mapping) else {}
    for file in files:
        shard = columnar.open_arrow(reader_path(source, folder + file), folder + file, split, reader)
        yield replace(shard, class_names={**shard.class_names, **class_names})


def _json(source: Path, name: str) -> Mapping[str, Any]:
    path = reader_path(source, name)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_JSON + 1)
        found = json.loads(data) if len(data) <= _MAX_JSON else None
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DataError(f"'{name}' is damaged or not JSON; save the data set again")
    return found


def _list_metadata(
    files: Mapping[str, Path],
    options: ReadOptions,
    reader: FolderReader,
    *,
    whole: bool = True,
) -> Listing | None:
    """List the images that files of JSON lines describe.

    Args:
        files: The files, by their names relative to the source.
        options: How to read them.
        reader: Reads the images.
        whole: Whether they are all that the source has; else None is returned if they have no labels.
    """
    entries: list[Entry] = []
    problems: list[Problem] = []
    columns: dict[str, None] = {}
    for name, path in files.items():
        for number, row in _lines(path, name):
            try:
                entries.append(_described(row, name, options))
                columns |= dict.fromkeys(row)
            except BadRowError as error:
                problems.append(Problem(f"{name} line {number}", str(error)))
            check_room(len(entries), options)
    if not entries:
        if not whole:
            return None
        first = f" (the first: {problems[0].file}: {problems[0].reason})" if problems else ""
        raise DataError(
            f"{shorten(list(files))} describes no labelled image{first}; give each line file_name and label"
        )
    check_boxes((entry.box for entry in entries), shorten(list(files)))
    entries, names, doubtful = without_doubtful(entries, [entry.file for entry in entries])
    entries, notes = group_entries(entries, names, options)
    return Listing(
        entries=entries,
        open=reader,
        how=f"{shorten(list(files))}: {_describe(list(columns), options, entries)}",
        problems=(*problems, *doubtful),
        notes=notes,
    )


def _describe(columns: Sequence[str], options: ReadOptions, entries: Sequence[Entry]) -> str:
    """Return what the columns of JSON lines are used for."""
    if options.label_from is None:
        words = [f"labels from {column_names.find_column(columns, column_names.LABELS)!r}"]
    else:
        words = ["labels from the names of images by label-from"]
    if split := column_names.find_column(columns, column_names.SPLITS):
        words.append(f"splits from {split!r}")
    elif any(entry.split for entry in entries):
        words.append("splits from the names of folders")
    if options.group_from is not None:
        words.append("groups from the names of images by group-from")
    elif group := column_names.find_column(columns, column_names.GROUPS):
        words.append(f"groups from {group!r}")
    if box := column_names.find_column(columns, column_names.BOXES):
        words.append(f"face boxes from {box!r}, as left, top, width and height")
    elif shape := column_names.find_box(columns):
        words.append(f"face boxes from {shorten(shape.names, 4)}")
    return ", ".join(words)


def _lines(path: Path, name: str) -> Iterator[tuple[int, Any]]:
    """Yield the number of each line, from 1, and what it holds; None if it is not JSON."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_MAX_JSON):
            number += 1
            if len(line) == _MAX_JSON:
                raise DataError(
                    f"'{name}' has a line above {_MAX_JSON // 2**20} MiB; give a line for each image"
                )
            if not line.strip():
                continue
            try:
                yield number, json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError):
                yield number, None


def _described(row: Any, table: str, options: ReadOptions) -> Entry:
    """Return the image that a line of JSON describes.

    Raises:
        BadRowError: The line cannot be used.
        DataError: It has several labels.
    """
    folder = table.rpartition("/")[0]
    if not isinstance(row, dict):
        raise BadRowError("the line is not a JSON object")
    names = list(row)
    image = column_names.find_column(names, (*column_names.PATHS, *column_names.IMAGES))
    label = None if options.label_from is not None else column_names.find_label(names, f"'{table}'")
    if image is None or not isinstance(row[image], str) or not row[image]:
        raise BadRowError("the line has no file_name")
    file = row[image].replace("\\", "/")
    # An absolute path stays one, so that it is refused.
    if folder and not file.startswith("/") and ":" not in file.partition("/")[0]:
        file = f"{folder}/{file}"
    if options.label_from is not None:
        given: object = find_part(options.label_from, "label", file)
    else:
        given = None if label is None else row[label]
    if isinstance(given, list | dict):
        raise BadRowError("the label is not text or a number")
    if not (text := columnar.text_of(given)):
        raise BadRowError("the line has no label")
    split_name = column_names.find_column(names, column_names.SPLITS)
    split = split_named(columnar.text_of(row[split_name])) if split_name else None
    if split_name and split is None and row[split_name]:
        raise BadRowError(f"the split is '{str(row[split_name])[:20]}'; it is train, val or test")
    if split is None:
        split = next((found for part in reversed(file.split("/")[:-1]) if (found := split_named(part))), "")
    group_name = column_names.find_column(names, column_names.GROUPS)
    group = columnar.text_of(row[group_name]) if group_name else ""
    return Entry(file, text, split, group, columnar.find_box(row))
