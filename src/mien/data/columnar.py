"""Read tables whose rows hold images: Parquet files, and Arrow tables of Hugging Face's `datasets`.

The labels of all rows are read first, then the images in batches of rows, so that memory stays small.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien._text import shorten
from mien.data import column_names
from mien.data.class_names import find_part
from mien.data.column_names import BoxColumns
from mien.data.contents import Problem, ReadOptions, check_room, split_named
from mien.data.listings import Entry, Listing, check_boxes, group_entries, without_doubtful
from mien.errors import DataError, ImageError, MissingExtra

#: Target size in bytes of a batch of images, and the maximum of its rows.
_BATCH_BYTES, _BATCH_ROWS = 32 * 2**20, 1024
#: Rows of a batch of labels.
_LABEL_ROWS = 65_536
#: Bytes of a file that are read at a time, so that a large group of rows is not read whole.
_BUFFER = 2**20
#: Maximum size in bytes of the labels and other small columns of a file.
_MAX_SMALL = 2**30

#: Record batches with the number of their first row.
_Batches = Iterator[tuple[int, Any]]


class BadRowError(Exception):
    """A row cannot be used; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Rows of one file, or of one table in memory.

    Args:
        name: The file relative to the source, for messages; `""` if it is the source itself.
        split: Its split; `""` if the name tells none.
        rows: Number of rows; None if it is not known.
        schema: The pyarrow schema.
        batches: Returns record batches of some columns, from the one with a given row.
        read_file: Returns the content of a file that a row names.
        class_names: Names of the classes by column, if the table has them.
    """

    name: str
    split: str
    rows: int | None
    schema: Any
    batches: Callable[[Sequence[str], int], _Batches]
    read_file: Callable[[str], bytes]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def row(self, number: int) -> str:
        """Return the name of a row."""
        return f"{self.name} row {number}" if self.name else f"row {number}"


@dataclass(frozen=True, kw_only=True)
class _Columns:
    image: str
    label: str | None
    split: str | None
    group: str | None
    box: str | BoxColumns | None

    @property
    def small(self) -> tuple[str, ...]:
        """The columns that are read before the images."""
        box = self.box.names if isinstance(self.box, BoxColumns) else (self.box,)
        return tuple(name for name in (self.label, self.split, self.group, *box) if name is not None)


def import_arrow(what: str) -> Any:
    """Return pyarrow.

    Args:
        what: What needs it, as the subject of a sentence.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra(what, "parquet") from error
    return pyarrow


def open_parquet(
    path: str | os.PathLike[str], name: str, split: str, read_file: Callable[[str], bytes]
) -> Shard:
    """Open a Parquet file.

    Args:
        path: The file.
        name: Its name relative to the source, for messages.
        split: Its split; `""` if its name tells none.
        read_file: Returns the content of a file that a row names.

    Raises:
        DataError: It is not a Parquet file, is damaged, or is too large.
        MissingExtra: pyarrow is not installed.
    """
    path = Path(path)
    arrow = import_arrow("Parquet")
    shown = name or path.name
    with _reading(shown), arrow.parquet.ParquetFile(path) as file:
        metadata, schema = file.metadata, file.schema_arrow
    if metadata.num_rows < 0:
        raise DataError(f"'{shown}' is damaged: it declares {metadata.num_rows} rows; get it again")
    sizes = _sizes(metadata)

    def batches(columns: Sequence[str], start: int) -> _Batches:
        first, group = 0, 0
        while group < metadata.num_row_groups and first + metadata.row_group(group).num_rows <= start:
            first += metadata.row_group(group).num_rows
            group += 1
        groups = list(range(group, metadata.num_row_groups))
        total = sum(sizes.get(column.partition(".")[0], 0) for column in columns)
        mean = max(1, total // max(1, metadata.num_rows))
        rows = max(1, min(_LABEL_ROWS if mean < 256 else _BATCH_ROWS, _BATCH_BYTES // mean))
        with (
            _reading(shown),
            arrow.parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file,
        ):
            for batch in file.iter_batches(
                batch_size=rows, row_groups=groups, columns=list(columns), use_threads=False
            ):
                yield first, batch
                first += batch.num_rows

    return Shard(
        name=name,
        split=split,
        rows=metadata.num_rows,
        schema=schema,
        batches=batches,
        read_file=read_file,
        class_names=class_names_of(schema),
    )


def _sizes(metadata: Any) -> dict[str, int]:
    """Return the unpacked size in bytes of each column of a Parquet file."""
    sizes: Counter[str] = Counter()
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            sizes[column.path_in_schema.partition(".")[0]] += max(0, column.total_uncompressed_size)
    return sizes


def open_arrow(
    path: str | os.PathLike[str], name: str, split: str, read_file: Callable[[str], bytes]
) -> Shard:
    """Open an Arrow file or stream; arguments and errors are those of `open_parquet`."""
    path = Path(path)
    arrow = import_arrow("An Arrow file")
    shown = name or path.name

    def opened() -> Any:
        source = arrow.memory_map(str(path))
        if bytes(source.read(6)) == b"ARROW1":
            file = arrow.ipc.open_file(source)
            return file.schema, (file.get_batch(number) for number in range(file.num_record_batches))
        source.seek(0)
        stream = arrow.ipc.open_stream(source)
        return stream.schema, iter(stream)

    def batches(columns: Sequence[str], start: int) -> _Batches:
        with _reading(shown):
            first = 0
            for batch in opened()[1]:
                if first + batch.num_rows > start:
                    chosen = batch.select([column.partition(".")[0] for column in columns])
                    # Offsets of a damaged file could point outside of its data.
                    chosen.validate(full=True)
                    yield first, chosen
                first += batch.num_rows

    with _reading(shown):
        schema, found = opened()
        rows = sum(batch.num_rows for batch in found)
    return Shard(
        name=name,
        split=split,
        rows=rows,
        schema=schema,
        batches=batches,
        read_file=read_file,
        class_names=class_names_of(schema),
    )


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"'{name}' does not exist") from error
    except PermissionError as error:
        raise DataError(f"'{name}' cannot be read: {error.strerror}; check its permissions") from error
    # Errors of pyarrow are subclasses of these.
    except (OSError, ValueError, KeyError, TypeError, IndexError, MemoryError, NotImplementedError) as error:
        raise DataError(
            f"'{name}' is damaged, incomplete or not a file of tables; get it again from its source"
        ) from error


def class_names_of(schema: Any) -> dict[str, tuple[str, ...]]:
    """Return the names of classes by column, which `datasets` stores in the metadata of a schema."""
    try:
        stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return class_names_in(stored["info"]["features"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def class_names_in(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the names of classes by column, from the features in a file of `datasets`."""
    found = {}
    for column, feature in features.items():
        if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel":
            names = feature.get("names")
            if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
                found[column] = tuple(names)
    return found


def list_rows(shards: Sequence[Shard], options: ReadOptions, kind: str) -> Listing:
    """List the rows of tables as labelled images.

    Args:
        shards: The tables, which have the same columns.
        options: How to read them.
        kind: What they are, for the note, such as `Parquet`.

    Raises:
        DataError: There is no row, no column of images or labels, or a column has an unsuitable type.
    """
    notes: list[str] = []
    lost = [shard.name for shard in shards if not shard.split]
    if 0 < len(lost) < len(shards):
        notes.append(f"not train, val or test by the name, and skipped: {shorten(lost)}")
        shards = [shard for shard in shards if shard.split]
    columns = [_find_columns(shard, options) for shard in shards]
    if options.images is not None and all(map(_has_bytes, shards, columns)):
        raise DataError(
            f"images_dir (--images) belongs to a table of paths, and {_shown(shards[0])} holds the images "
            "itself; leave it out"
        )
    check_room(sum(shard.rows or 0 for shard in shards), options)
    entries: list[Entry] = []
    problems: list[Problem] = []
    paths: list[str] = []
    for shard, chosen in zip(shards, columns, strict=True):
        _list(shard, chosen, options, entries, paths, problems)
    if not entries and not problems:
        raise DataError(f"{_shown(shards[0])} has no rows; give a table with a row for each image")
    check_boxes((entry.box for entry in entries), _shown(shards[0]))
    if _kind(shards[0].schema.field(columns[0].image).type) == "text":
        entries, paths, doubtful = without_doubtful(entries, paths)
        problems += doubtful
    entries, more = group_entries(entries, paths, options)
    notes += more
    pairs = zip(shards, columns, strict=True)
    reader = _RowReader({pair[0].name: pair for pair in pairs})
    return Listing(
        entries=entries,
        open=reader,
        how=_describe(shards, columns[0], kind, options),
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _has_bytes(shard: Shard, columns: _Columns) -> bool:
    """Return whether the first rows of a table have the content or pixels of each image, and no paths."""
    kind = _kind(shard.schema.field(columns.image).type)
    if kind != "struct":
        return kind != "text"
    _, batch = next(iter(shard.batches([columns.image], 0)), (0, None))
    column = None if batch is None else batch.column(columns.image)
    if column is None or not hasattr(column, "field") or column.type.get_field_index("bytes") < 0:
        return False
    return bool(column.field("bytes").null_count == 0)


def _shown(shard: Shard) -> str:
    return f"'{shard.name}'" if shard.name else "the table"


def _describe(shards: Sequence[Shard], columns: _Columns, kind: str, options: ReadOptions) -> str:
    words = [f"images from the column {columns.image!r}"]
    if options.label_from is not None:
        words.append("labels from the names of images by label-from")
    elif columns.label is not None:
        named = columns.label in shards[0].class_names and not _numbered(options)
        words.append(f"labels from {columns.label!r}{' with the names that the table has' if named else ''}")
    if columns.split:
        words.append(f"splits from {columns.split!r}")
    elif any(shard.split for shard in shards):
        words.append("splits from the names of files")
    if options.group_from is not None:
        words.append("groups from the names of images by group-from")
    elif columns.group:
        words.append(f"groups from {columns.group!r}")
    if isinstance(columns.box, str):
        words.append(f"face boxes from {columns.box!r}, as left, top, width and height")
    elif columns.box is not None:
        words.append(f"face boxes from {shorten(columns.box.names, 4)}")
    return f"{kind}: {', '.join(words)}"


def _numbered(options: ReadOptions) -> bool:
    return bool(options.naming.numbers or options.naming.names)


def _find_columns(shard: Shard, options: ReadOptions) -> _Columns:
    names = list(shard.schema.names)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{_shown(shard)} has the column {shorten(twice)} twice; leave one of each")
    kinds = {name: _kind(shard.schema.field(name).type) for name in names}
    suitable = [name for name in names if kinds[name] in ("struct", "binary", "list", "text")]
    image = column_names.find_column(suitable, column_names.IMAGES) or column_names.find_column(
        [name for name in names if kinds[name] == "text"], column_names.PATHS
    )
    if image is None:
        alike = [name for name in names if kinds[name] in ("struct", "binary")]
        if len(alike) != 1:
            raise DataError(
                f"{_shown(shard)} has no column of images; name it image, with bytes or paths "
                f"(the columns are {shorten(names, 8) or 'none'})"
            )
        image = alike[0]
    others = [name for name in names if name != image]
    label = None
    if options.label_from is None:
        label = column_names.find_label(others, _shown(shard))
    if label is None and options.label_from is None and len(shard.class_names) == 1:
        (label,) = shard.class_names
        label = label if label in others else None
    if label is None and options.label_from is None:
        raise DataError(
            f"{_shown(shard)} has no column of labels; name it label (the columns are {shorten(names, 8)})"
        )
    if label is not None and _kind(shard.schema.field(label).type) not in ("", "text"):
        raise DataError(
            f"the column {label!r} of {_shown(shard)} has the type {_type(shard, label)}; "
            "labels are text or whole numbers"
        )
    found_box = column_names.find_column(others, column_names.BOXES)
    box: str | BoxColumns | None = found_box or column_names.find_box(others)
    return _Columns(
        image=image,
        label=label,
        split=column_names.find_column(others, column_names.SPLITS),
        group=column_names.find_column(others, column_names.GROUPS),
        box=box,
    )


def _type(shard: Shard, column: str) -> str:
    return shorten([str(shard.schema.field(column).type)[:60]])


def _kind(kind: Any) -> str:
    """Return how a column can hold images or text: `struct`, `binary`, `text`, `list` or not at all."""
    arrow = import_arrow("Parquet")
    types = arrow.types
    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if isinstance(kind, arrow.BaseExtensionType):
        return _kind(kind.storage_type)
    if types.is_struct(kind):
        there = {kind.field(number).name for number in range(kind.num_fields)}
        return "struct" if there & {"bytes", "path"} else "other"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return "binary"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "list"
    return "other" if types.is_nested(kind) else ""


def _list(
    shard: Shard,
    columns: _Columns,
    options: ReadOptions,
    entries: list[Entry],
    named: list[str],
    problems: list[Problem],
) -> None:
    """Append the rows of a table to entries, with the names of their images, or to problems."""
    wanted = list(columns.small)
    patterns = options.label_from is not None or options.group_from is not None
    named_files = _path_column(shard, columns.image) == columns.image and not _has_pixels(columns.image)
    if patterns:
        path = _path_column(shard, columns.image)
        if path is None:
            raise DataError(
                f"label-from and group-from need the names of images, and the column {columns.image!r} of "
                f"{_shown(shard)} has none; use columns label and person, and omit them"
            )
        wanted.append(path)
    elif named_files:
        wanted.append(columns.image)
    if not wanted:
        return
    for first, batch in shard.batches(wanted, 0):
        cells = {name: batch.column(name).to_pylist() for name in columns.small}
        paths = _paths(batch.column(columns.image)) if patterns or named_files else [""] * batch.num_rows
        for place in range(batch.num_rows):
            row = {name: values[place] for name, values in cells.items()}
            file = shard.row(first + place)
            split = shard.split
            try:
                split = _split(shard, columns, row)
                entries.append(_entry(shard, columns, options, row, file, split, paths[place]))
                named.append(paths[place] or "")
            except BadRowError as error:
                problems.append(Problem(file, str(error), split))


def _path_column(shard: Shard, column: str) -> str | None:
    """Return the column or the part of a column with the paths of images, or None."""
    kind = shard.schema.field(column).type
    if _kind(kind) == "text":
        return column
    if _kind(kind) == "struct" and kind.get_field_index("path") >= 0:
        return f"{column}.path"
    return None


def _paths(column: Any) -> list[str | None]:
    names: list[str | None] = (column.field("path") if hasattr(column, "field") else column).to_pylist()
    return names


def text_of(value: Any) -> str:
    """Return a cell as text, numbers without a fraction as whole ones; `""` for nothing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _split(shard: Shard, columns: _Columns, row: Mapping[str, Any]) -> str:
    if columns.split is None:
        return shard.split
    names = shard.class_names.get(columns.split, ())
    value = row[columns.split]
    given = names[value] if isinstance(value, int) and 0 <= value < len(names) else text_of(value)
    if not given:
        return shard.split
    if (split := split_named(given)) is None:
        raise BadRowError(f"the split is '{given[:20]}'; it is train, val or test")
    return split


def _entry(
    shard: Shard,
    columns: _Columns,
    options: ReadOptions,
    row: Mapping[str, Any],
    file: str,
    split: str,
    path: str | None,
) -> Entry:
    if options.label_from is not None:
        label = find_part(options.label_from, "label", path or "") or ""
        if not label:
            raise BadRowError(f"label-from does not match the image's name '{(path or '')[-60:]}'")
    else:
        assert columns.label is not None
        label = _label(shard, columns.label, row[columns.label], options)
    group = "" if columns.group is None else text_of(row[columns.group])
    return Entry(file, label, split, group, _box(columns, row))


def _label(shard: Shard, column: str, value: Any, options: ReadOptions) -> str:
    names = () if _numbered(options) else shard.class_names.get(column, ())
    label = text_of(value)
    if not label:
        raise BadRowError("the row has no label")
    if not names or not isinstance(value, int):
        return label
    if not 0 <= value < len(names):
        raise BadRowError(f"the label is {value}; the table names 0 to {len(names) - 1}")
    return names[value]


def _box(columns: _Columns, row: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    if columns.box is None:
        return None
    if isinstance(columns.box, str):
        return _box_of(row[columns.box])
    return _numbers([row[name] for name in columns.box.names], columns.box)


def find_box(row: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """Return left, top, width and height of the face box that a row names; None if it names none.

    Raises:
        BadRowError: The box is not four numbers.
    """
    if name := column_names.find_column(list(row), column_names.BOXES):
        return _box_of(row[name])
    shape = column_names.find_box(list(row))
    return None if shape is None else _numbers([row[name] for name in shape.names], shape)


def _box_of(given: Any) -> tuple[float, float, float, float] | None:
    """Return the box of a cell: a list of left, top, width and height, or numbers with names."""
    if isinstance(given, Mapping):
        shape = column_names.find_box(list(given))
        return _numbers(
            list(given.values()) if shape is None else [given[name] for name in shape.names], shape
        )
    # Some tables have a list of boxes for each image.
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], list):
        (given,) = given
    return _numbers(given, None)


def _numbers(given: Any, shape: BoxColumns | None) -> tuple[float, float, float, float] | None:
    if given is None or (isinstance(given, list) and not any(value is not None for value in given)):
        return None
    try:
        left, top, third, fourth = (float(value) for value in given)
    except (TypeError, ValueError):
        raise BadRowError("the face box is not four numbers") from None
    return (left, top, third, fourth) if shape is None else shape.box((left, top, third, fourth))


class _RowReader:
    """Return the image of a row; fast if rows are asked for in their order.

    Args:
        shards: The tables and their columns, by the names of the tables.
    """

    def __init__(self, shards: Mapping[str, tuple[Shard, _Columns]]) -> None:
        self._shards = shards
        self._lock = Lock()
        self._name: str | None = None
        self._batches: _Batches = iter(())
        self._first = self._end = 0
        self._batch: Any = None

    def __call__(self, file: str) -> bytes | NDArray[Any]:
        name, _, number = file.rpartition("row ")
        shard, columns = self._shards[name.rstrip()]
        with self._lock:
            place = self._seek(shard, columns.image, int(number))
            cell = self._batch.column(columns.image)[place].as_py()
        return _content(cell, shard, columns.image)

    def _seek(self, shard: Shard, column: str, row: int) -> int:
        """Read batches up to the one with a row, and return the row's place in it."""
        if shard.name != self._name or row < self._first:
            self._name, self._batches = shard.name, shard.batches([column], row)
            self._first = self._end = 0
        while row >= self._end:
            self._first, self._batch = next(self._batches, (row, None))
            if self._batch is None:
                self._name = None
                raise DataError(f"{_shown(shard)} has fewer rows than it declares; get it again")
            self._end = self._first + self._batch.num_rows
        return row - self._first


def _has_pixels(column: str) -> bool:
    """Return whether the text in a column is the pixels of images, not their paths."""
    return column_names.simplified(column) == "pixels"


def _content(cell: Any, shard: Shard, column: str) -> bytes | NDArray[Any]:
    """Return the image of a cell: the bytes of a file, or pixels."""
    if isinstance(cell, Mapping):
        cell = cell.get("bytes") or cell.get("path")
    if not cell:
        raise ImageError("the row has no image")
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, str):
        if not _has_pixels(column):
            return shard.read_file(cell)
        cell = cell.split()
    try:
        pixels = np.asarray(cell)
        if pixels.dtype.kind == "U":
            pixels = pixels.astype(np.int64)
    except (ValueError, OverflowError):
        raise ImageError("the pixels are not numbers in rows of one length") from None
    if pixels.ndim == 1:
        side = math.isqrt(pixels.size)
        if side * side != pixels.size:
            raise ImageError(f"the row has {pixels.size} pixels, which are not a square image")
        pixels = pixels.reshape(side, side)
    return pixels
