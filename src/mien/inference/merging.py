"""Join parts of predictions, of shards or in folders, into the table that one run would have written."""

import csv
import errno
import heapq
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from mien import _files, _tables
from mien.errors import InputError
from mien.inference import image_files, parts, tables
from mien.inference.image_files import Shard
from mien.types import Prediction

#: Numbers of missing parts that an error names.
_NAMED = 5
#: Rows of a Parquet file in memory at a time, for each part.
_ROWS = 500


@dataclass(frozen=True)
class Merged:
    """What `merge_parts` wrote.

    Args:
        path: The table.
        parts: Number of parts.
        images: Number of images in the table.
        faces: Number of faces in the table.
        unreadable: Images that could not be read, in the order of their names.
    """

    path: Path
    parts: int
    images: int
    faces: int
    unreadable: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold."""
        return vars(self) | {"path": str(self.path), "unreadable": list(self.unreadable)}


def merge_parts(files: Iterable[str | os.PathLike[str]], to: str | os.PathLike[str]) -> Merged:
    """Join the parts of sharded predictions into one table.

    The rows are in the order of a run over one folder: the files of a folder by name, then its subfolders.
    Memory does not grow with the number of images.

    Example:
        >>> import mien
        >>> for number in (1, 2):
        ...     for item in mien.predict_files("photos", to=f"part-{number}.csv", shard=f"{number}/2"):
        ...         pass
        >>> mien.merge_parts(["part-1.csv", "part-2.csv"], "faces.csv").images
        1

    Args:
        files: The files of all shards, in any order; or folders of Parquet files, as `predict_files` writes
            them.
        to: The file to write, with the same extension as the parts.

    Raises:
        InputError: A part is missing, given twice, unfinished, or made with another model or other options.
        MissingExtra: The parts are Parquet files, and pyarrow is not installed.
        OutputError: The file cannot be written.
    """
    paths, to = [Path(file) for file in files], Path(to)
    kind = _tables.format_of(to)
    if not paths:
        raise InputError("there are no parts to merge; name the files of all shards")
    _files.check_outputs({f"--to {to}": to}, paths)
    facts, unreadable = _check(paths, kind)
    try:
        first = _header(paths[0], kind)
        for path in paths[1:]:
            if _header(path, kind) != first:
                raise InputError(f"'{path}' has other columns than '{paths[0]}'; make it again")
        images, faces = _write(paths, kind, to, facts, unreadable)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        raise InputError(
            f"{len(paths):,} parts are more files than one process may open; raise the limit with ulimit -n"
        ) from None
    return Merged(to, len(paths), images, faces, tuple(sorted(unreadable)))


def _check(paths: list[Path], kind: str) -> tuple[dict[str, Any], set[str]]:
    """Check that the parts belong together and are complete; return their facts and unreadable images."""
    common: dict[str, Any] = {}
    unreadable: set[str] = set()
    shards: dict[Shard, Path] = {}
    for path in paths:
        facts, bad = _record(path, kind)
        shard = Shard.parse(facts.pop("shard"))
        if shard in shards:
            raise InputError(f"'{shards[shard]}' and '{path}' are both shard {shard}; name each shard once")
        if shards and (others := _tables.differing(common, facts)):
            raise InputError(f"'{path}' was made with another {', '.join(others)} than '{paths[0]}'")
        count = next(iter(shards), shard).count
        if shard.count != count:
            raise InputError(
                f"'{path}' is a shard of {shard.count}, and '{paths[0]}' of {count}; divide once"
            )
        shards[shard] = path
        common, unreadable = facts, unreadable | bad
    missing = sorted({*range(1, count + 1)} - {shard.number for shard in shards})
    if missing:
        named = ", ".join(f"{number}/{count}" for number in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
        raise InputError(f"the parts of shard {named}{more} are missing; name the files of all shards")
    return common, unreadable


def _record(path: Path, kind: str) -> tuple[dict[str, Any], set[str]]:
    """Check that a part is complete; return its facts with its shard, and its unreadable images."""
    folder = path.is_dir()
    if (parts.KIND if folder else path.suffix.lower().removeprefix(".")) != kind:
        raise InputError(f"'{path}' has no .{kind} files; parts and --to need the same extension")
    if not (parts.is_finished(path) if folder else not _tables.log_path(path).is_file()):
        raise InputError(f"'{path}' is not finished; run its mien predict command again with --resume")
    if not path.exists():
        raise InputError(f"'{path}' does not exist; run mien predict with its --shard first")
    facts: dict[str, Any] | None = None
    unreadable: set[str] = set()
    for file in parts.files_of(path) if folder else [path]:
        known, bad = tables.facts_of(file)
        if known is None or (facts is not None and known != facts):
            beside = (
                "" if kind == "parquet" else f" (the file '{tables.facts_path(file)}' of its run is needed)"
            )
            raise InputError(f"'{file}' has no valid record of its model and shard{beside}; make it again")
        facts, unreadable = known, unreadable | bad
    if facts is None:
        raise InputError(f"'{path}' has no parts of predictions; name a folder that mien predict --to wrote")
    if "shard" not in facts and not folder:
        raise InputError(f"'{path}' was made without --shard, so it is not a part")
    return {"shard": "1/1", **facts}, unreadable


@dataclass(frozen=True)
class _Image:
    """The rows of an image in a part."""

    place: tuple[tuple[bool, str], ...]
    source: str
    document: Mapping[str, Any]
    rows: list[dict[str, Any]]
    part: Path


def _write(
    paths: list[Path], kind: str, to: Path, facts: dict[str, Any], unreadable: set[str]
) -> tuple[int, int]:
    """Write the rows of the parts in order; return the numbers of images and faces."""
    columns = _header(paths[0], kind)
    images = faces = 0
    before: _Image | None = None
    # Parts are in order, unless a resumed run found more files.
    streams = [_sorted(path, kind) for path in paths]
    with _tables.Table(to, list(columns), columns) as table:
        for image in heapq.merge(*streams, key=attrgetter("place", "source")):
            if before is not None and before.source == image.source:
                raise InputError(
                    f"{image.source!r} is in '{before.part}' and in '{image.part}'; make both again from the "
                    "same folders"
                )
            table.add(image.document, image.rows)
            images += 1
            faces += sum(row.get("face") is not None for row in image.rows)
            before = image
        tables.keep(table, facts, unreadable)
    return images, faces


def _sorted(path: Path, kind: str) -> Iterator[_Image]:
    key = attrgetter("place", "source")
    if all(key(one) <= key(two) for one, two in itertools.pairwise(_images(path, kind))):
        return _images(path, kind)
    return iter(sorted(_images(path, kind), key=key))


def _header(path: Path, kind: str) -> dict[str, str]:
    """Return the columns of a part, and their types in Parquet."""
    known = Prediction.columns(("",))
    try:
        if kind == "jsonl":
            return {}
        if kind == "csv":
            with path.open(encoding="utf-8", newline="") as file:
                names = next(csv.reader(file))
        else:
            from pyarrow import parquet

            first = next(iter(parts.files_of(path))) if path.is_dir() else path
            names = parquet.read_schema(str(first)).names
    except (OSError, ValueError, csv.Error, StopIteration) as error:
        raise _damaged(path, error) from None
    return {name: known.get(name, "float32") for name in names}


def _images(path: Path, kind: str) -> Iterator[_Image]:
    """Yield the images of a part with their rows."""
    try:
        if kind == "jsonl":
            with path.open(encoding="utf-8") as file:
                for line in file:
                    document = json.loads(line)
                    source = document["source"]
                    faces = [{"face": True} for _ in document["faces"]]
                    yield _Image(image_files.walk_order(source), source, document, faces, path)
            return
        rows = _csv_rows(path) if kind == "csv" else _parquet_rows(path)
        for source, group in itertools.groupby(rows, key=lambda row: row["source"]):
            name = source[1:] if kind == "csv" and _tables.harmless(source[1:]) == source else source
            yield _Image(image_files.walk_order(name), source, {}, list(group), path)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise _damaged(path, error) from None


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    read = {"int64": int, "float32": float, "string": str}
    types = _header(path, "csv")
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: None if cell == "" else read[types[name]](cell) for name, cell in row.items()}


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    from pyarrow import parquet

    for part in parts.files_of(path) if path.is_dir() else [path]:
        with closing(parquet.ParquetFile(str(part))) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                yield from batch.to_pylist()


def _damaged(path: Path, error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return error
    return InputError(f"'{path}' is not a part of predictions ({error}); make it again")
