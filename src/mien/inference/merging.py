"""Join the parts that `mien predict --shard` wrote into the table that one run would have written."""

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
from mien.inference import batches
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


def merge_parts(parts: Iterable[str | os.PathLike[str]], to: str | os.PathLike[str]) -> Merged:
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
        parts: The files of all shards, in any order.
        to: The file to write, with the same extension as the parts.

    Raises:
        InputError: A part is missing, given twice, unfinished, or made with another model or other options.
        MissingExtra: The parts are Parquet files, and pyarrow is not installed.
        OutputError: The file cannot be written.
    """
    paths, to = [Path(part) for part in parts], Path(to)
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
        if path.suffix.lower() != f".{kind}":
            raise InputError(f"'{path}' is not a .{kind} file; parts and --to need the same extension")
        if _tables.log_path(path).is_file():
            raise InputError(f"'{path}' is not finished; run its mien predict command again with --resume")
        if not path.is_file():
            raise InputError(f"'{path}' does not exist; run mien predict with its --shard first")
        facts, bad = batches.facts_of(path)
        if facts is None:
            beside = (
                "" if kind == "parquet" else f" (the file '{batches.facts_path(path)}' of its run is needed)"
            )
            raise InputError(f"'{path}' has no valid record of its model and shard{beside}; make it again")
        if "shard" not in facts:
            raise InputError(f"'{path}' was made without --shard, so it is not a part")
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


@dataclass(frozen=True)
class _Image:
    """The rows of an image in a part."""

    place: tuple[tuple[bool, str], ...]
    source: str
    document: Mapping[str, Any]
    rows: list[dict[str, Any]]
    part: Path


def _place(source: str) -> tuple[tuple[bool, str], ...]:
    """Return what sorts paths as a walk does: the files of a folder by name, then its folders."""
    *folders, name = source.replace(os.sep, "/").split("/")
    return (*((True, folder) for folder in folders), (False, name))


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
        batches.keep(table, facts, unreadable)
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

            names = parquet.read_schema(str(path)).names
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
                    yield _Image(_place(source), source, document, faces, path)
            return
        rows = _csv_rows(path) if kind == "csv" else _parquet_rows(path)
        for source, group in itertools.groupby(rows, key=lambda row: row["source"]):
            name = source[1:] if kind == "csv" and _tables.harmless(source[1:]) == source else source
            yield _Image(_place(name), source, {}, list(group), path)
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

    with closing(parquet.ParquetFile(str(path))) as file:
        for batch in file.iter_batches(batch_size=_ROWS):
            yield from batch.to_pylist()


def _damaged(path: Path, error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return error
    return InputError(f"'{path}' is not a part of predictions ({error}); make it again")
