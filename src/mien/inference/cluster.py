"""Predictions on the workers of a Dask cluster, on one machine or many.

    with connect("tcp://scheduler:8786") as client:
        for item in predict(["photos/a.jpg", "s3://bucket/b.jpg"], client=client):
            print(item)

A task is a block of files, so a worker that dies costs its block, which another worker predicts again. Each
worker process loads the predictor once. Workers need the same version of mien, and the files at the same
paths, or URLs that fsspec can open.

Needs the extra `cluster`.
"""

import os
import queue
import re
import uuid
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mien._dask import WorkerWatch, check_versions, connect, load, result_of, wait_for_worker
from mien.errors import ImageError, InputError
from mien.inference import image_files
from mien.inference.predictor import Predictor
from mien.types import Prediction, Problem

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["BLOCK", "connect", "find", "is_url", "predict"]

#: Files in a task. Smaller blocks cost more messages, larger ones lose more with a worker.
BLOCK = 32
#: Blocks for each thread of the cluster that are begun before the first of them is finished.
_AHEAD = 4
#: Blocks after which the threads of the cluster are counted again, because workers come and go.
_RECOUNT = 50
#: How predictions are continued after an error.
_AGAIN = "continue with the same command and --resume"
#: Seconds between two looks at the workers, if no block is finished.
_LOOK = 1.0
#: The beginning of a URL, such as `s3://`; drive letters of Windows have one character.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(path: str) -> bool:
    """Return whether a path is a URL, and not a file that exists."""
    return _URL.match(path) is not None and not os.path.lexists(path)


def predict(
    files: Sequence[str | os.PathLike[str]], *, client: "Client", predictor: Predictor | None = None
) -> Generator[Prediction | Problem, None, None]:
    """Yield the predictions of files in their order, computed by the workers of a Dask cluster.

    The predictions are those of `Predictor.images` on a worker. Ending the iteration early cancels the tasks.

    Example:
        >>> from mien.inference import cluster
        >>> with cluster.connect("local", workers=1) as client:
        ...     [len(found.faces) for found in cluster.predict(["photo.jpg"], client=client)]
        [1]

    Args:
        files: Paths that every worker can read, relative ones to the current folder of this process; and
            URLs such as `s3://bucket/photo.jpg`, if the workers have the package that fsspec needs for them.
        client: A client, of `connect` or of your own.
        predictor: The predictor; None for `Predictor()`. Your own detector must be picklable.

    Returns:
        An iterator with a prediction for each file, or a problem if it cannot be read.

    Raises:
        InputError: `files` is one path, the cluster has no workers, a worker has another version of mien or
            does not see the files, the predictor cannot be sent, or a block killed several workers.
    """
    image_files.check_sources(files)
    return _predict(list(map(os.fsdecode, files)), client, predictor or Predictor())


def _predict(
    files: list[str], client: "Client", predictor: Predictor
) -> Generator[Prediction | Problem, None, None]:
    if not files:
        return
    wait_for_worker(client, str(client.scheduler.address))
    _check_workers(client, files)
    run = f"mien-{uuid.uuid4().hex}"
    try:
        client.register_plugin(_plugin(predictor, run))
    except Exception as error:  # pickling a user's detector may raise anything, here or on a worker
        raise InputError(
            f"the predictor cannot be sent to the workers ({type(error).__name__}: {error}); use a detector "
            "that they can import, and the same packages on all machines"
        ) from None
    blocks = [files[start : start + BLOCK] for start in range(0, len(files), BLOCK)]
    try:
        yield from _in_order(client, run, blocks)
    finally:
        # If the connection is lost, the error of the block says so.
        with suppress(OSError, RuntimeError):
            client.unregister_worker_plugin(run)


def _in_order(
    client: "Client", run: str, blocks: Sequence[Sequence[str]]
) -> Generator[Prediction | Problem, None, None]:
    """Yield the predictions of blocks in their order, and fetch each block as soon as it is finished."""
    pending: dict[Any, int] = {}
    finished: dict[int, list[Prediction | Problem]] = {}
    completed: queue.SimpleQueue[Any] = queue.SimpleQueue()
    watch = WorkerWatch(client, _AGAIN)
    threads = begun = yielded = 0
    try:
        while yielded < len(blocks):
            if yielded % _RECOUNT == 0 or not threads:
                threads = max(1, sum(client.nthreads().values()))
            while begun < min(len(blocks), yielded + _AHEAD * threads):
                block = [
                    (name, None if is_url(name) else str(Path(name).absolute())) for name in blocks[begun]
                ]
                future = client.submit(_work, run, block, key=f"{run}-{begun}", pure=False)
                pending[future] = begun
                future.add_done_callback(completed.put)
                begun += 1
            future = _next(completed, watch)
            number = pending.pop(future)
            finished[number] = result_of(future, _describe(blocks[number]), _AGAIN)
            while yielded in finished:
                yield from finished.pop(yielded)
                yielded += 1
    finally:
        with suppress(OSError, RuntimeError):
            if pending:
                client.cancel(list(pending))


def _next(completed: "queue.SimpleQueue[Any]", watch: WorkerWatch) -> Any:
    """Return the next finished block."""
    while True:
        try:
            future = completed.get(timeout=_LOOK)
        except queue.Empty:
            watch.check()
        else:
            watch.seen()
            return future


def _plugin(predictor: Predictor, run: str) -> Any:
    """Return a plugin that gives every worker process the predictor, also those that join later."""
    from distributed import WorkerPlugin

    class Predictors(WorkerPlugin):  # type: ignore[misc]
        name = run

        def __init__(self) -> None:
            self.predictor = predictor

    return Predictors()


def _work(run: str, block: list[tuple[str, str | None]]) -> list[Prediction | Problem]:
    """Predict a block on a worker; an item has a name, and the absolute path of a file."""
    from distributed import get_worker

    worker = get_worker()
    if run not in worker.plugins:
        raise InputError(f"the worker {worker.address} could not load the predictor; see its log")
    sources: list[Any] = [_Remote(name) if path is None else path for name, path in block]
    found = worker.plugins[run].predictor.images(sources)
    return [_renamed(item, name, path) for item, (name, path) in zip(found, block, strict=True)]


def _renamed(item: Prediction | Problem, name: str, path: str | None) -> Prediction | Problem:
    """Return an item with the name of its source as the user gave it."""
    if isinstance(item, Problem) and path is not None:
        return Problem(name, item.reason.replace(f"'{path}'", f"'{Path(name)}'"))
    return replace(item, source=name)


@dataclass
class _Remote:
    """A file behind a URL, read when its turn comes."""

    name: str

    def read(self, size: int = -1) -> bytes:
        import fsspec

        try:
            with fsspec.open(self.name, "rb") as file:
                data: bytes = file.read(size)
                return data
        except Exception as error:  # each driver has errors of its own
            raise OSError(f"{type(error).__name__}: {error}") from error


def _describe(block: Sequence[str]) -> str:
    return f"the {len(block)} files from '{block[0]}' on"


def _sees(path: str) -> bool:
    return Path(path).is_file()


def _check_workers(client: "Client", files: Sequence[str]) -> None:
    """Check that all workers have this version of mien, and can read the files."""
    check_versions(client)
    first = next(
        (str(Path(name).absolute()) for name in files if not is_url(name) and Path(name).is_file()), None
    )
    if first is None:
        return
    for worker, seen in client.run(_sees, first, on_error="return").items():
        if seen is not True:
            raise InputError(
                f"the worker {worker} does not see '{first}'; put the files on storage that all machines "
                "mount at the same path, or give URLs"
            )


def find(
    url: str,
    *,
    on_skipped: Callable[[str], None],
    on_other: Callable[[str], None],
    keep: Callable[[str], bool] | None = None,
) -> tuple[list[str], str]:
    """Return the URLs of the images that a URL names, and the reason if it names none.

    A URL is a file, a folder or a pattern. Folders are searched as `image_files.find` searches them, by the
    extensions of files.

    Args:
        url: Such as `s3://bucket/photos`.
        on_skipped: Called with images that mien cannot read.
        on_other: Called with hidden files and those that are not images.
        keep: As for `image_files.find`.

    Raises:
        ImageError: It does not exist, or cannot be listed.
        InputError: fsspec needs another package for it.
    """
    load()
    import fsspec

    if "::" in url:
        raise InputError(f"{url!r} is a chain of URLs, which mien does not read; name a single URL")
    try:
        system, root = fsspec.core.url_to_fs(url)
        if any(sign in root for sign in "*?["):
            paths = [path for path in system.glob(root) if system.isfile(path)]
        elif system.isdir(root):
            paths = system.find(root)
        elif system.exists(root):
            return ([url] if keep is None or keep(url) else []), ""
        else:
            raise ImageError(f"{url!r} does not exist; check the URL")
    except (ImportError, ValueError) as error:
        raise InputError(f"{url!r} cannot be opened: {error}") from None
    except ImageError:
        raise
    except Exception as error:  # each driver has errors of its own
        raise ImageError(f"{url!r} cannot be listed: {type(error).__name__}: {error}") from None
    return _choose(system, root, paths, on_skipped, on_other, keep), f"{url!r} has no images"


def _choose(
    system: Any,
    root: str,
    paths: Iterable[str],
    on_skipped: Callable[[str], None],
    on_other: Callable[[str], None],
    keep: Callable[[str], bool] | None,
) -> list[str]:
    """Return the URLs of images among paths, in the order of a walk."""
    found = []
    for path in sorted(paths, key=image_files.walk_order):
        inside = path.removeprefix(root).lstrip("/")
        if keep is not None and not keep(inside):
            continue
        named, suffix = system.unstrip_protocol(path), PurePosixPath(path).suffix.lower()
        *folders, name = inside.split("/")
        if any(folder.startswith(".") for folder in folders):
            continue
        if suffix in image_files.UNREAD and not name.startswith("."):
            on_skipped(named)
        elif suffix in image_files.SUFFIXES and not name.startswith("."):
            found.append(named)
        else:
            on_other(named)
    return found
