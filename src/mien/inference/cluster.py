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
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mien.errors import ImageError, InputError, MissingExtra
from mien.inference import image_files
from mien.inference.predictor import Predictor
from mien.types import Prediction, Problem

if TYPE_CHECKING:
    from distributed import Client

#: Files in a task. Smaller blocks cost more messages, larger ones lose more with a worker.
BLOCK = 32
#: Blocks for each thread of the cluster that are begun before the first of them is finished.
_AHEAD = 4
#: Blocks after which the threads of the cluster are counted again, because workers come and go.
_RECOUNT = 50
#: Seconds to wait for a scheduler, and for its first worker.
_CONNECT, _JOIN = 10, 60
#: Seconds without a finished block after which the workers are counted.
_CHECK = 10
#: Settings of a local cluster: no process samples its stacks 100 times a second, or measures its event loop
#: 50 times a second. A cluster of two workers that wait costs 2 % of a processor core then, and not 17 %.
_SETTINGS = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}
#: The beginning of a URL, such as `s3://`; drive letters of Windows have one character.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(path: str) -> bool:
    """Return whether a path is a URL, and not a file that exists."""
    return _URL.match(path) is not None and not os.path.lexists(path)


@contextmanager
def connect(address: str, *, workers: int | None = None) -> "Iterator[Client]":
    """Yield a client of a Dask cluster.

    Args:
        address: The address of a scheduler, such as `tcp://10.0.0.1:8786`; or `local`, which starts a cluster
            on this machine and ends it. It listens on the loopback interface only, without a dashboard.
        workers: With `local`, the number of worker processes with one thread each; None for one for each
            processor core.

    Raises:
        MissingExtra: Dask is not installed.
        InputError: No scheduler answers, it has no workers, or `workers` is out of range.
    """
    distributed = _load()
    if workers is not None and (address != "local" or workers < 1):
        raise InputError(
            f"workers is {workers}; it must be at least 1"
            if address == "local"
            else "a cluster that runs has its own number of workers; give workers only for 'local'"
        )
    if address == "local":
        with _local(distributed, workers or cores()) as client:
            yield client
        return
    try:
        client = distributed.Client(address, timeout=_CONNECT)
    except (OSError, ValueError, TypeError) as error:  # a TimeoutError is an OSError
        raise InputError(
            f"no Dask scheduler answers at '{address}' ({error}); give an address such as "
            "tcp://10.0.0.1:8786, or local"
        ) from None
    with client:
        _wait(client, address)
        yield client


def _load() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingExtra("a cluster", "cluster") from error
    return distributed


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _local(distributed: Any, workers: int) -> "Iterator[Client]":
    import dask

    from mien.inference.batches import uninterrupted

    # The tracker's start would end what `uninterrupted` does: only this process handles Ctrl-C.
    resource_tracker.ensure_running()
    with dask.config.set(_SETTINGS), uninterrupted():
        cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs="CRITICAL",
        )
    try:
        cluster.scheduler.http_server.stop()
        with distributed.Client(cluster, timeout=_CONNECT) as client:
            client.register_plugin(_without_pages())
            yield client
    finally:
        cluster.close()


def _wait(client: "Client", address: str) -> None:
    """Wait for the first worker of a cluster."""
    try:
        client.wait_for_workers(1, timeout=_JOIN)
    except TimeoutError:
        raise InputError(
            f"no worker joined the cluster at '{address}' within {_JOIN} seconds; start some with: "
            f"dask worker {address} --nthreads 1 --nworkers auto"
        ) from None


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
    _wait(client, str(client.scheduler.address))
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
            future = _next(completed, client)
            number = pending.pop(future)
            finished[number] = _result(future, blocks[number])
            while yielded in finished:
                yield from finished.pop(yielded)
                yielded += 1
    finally:
        with suppress(OSError, RuntimeError):
            if pending:
                client.cancel(list(pending))


def _next(completed: "queue.SimpleQueue[Any]", client: "Client") -> Any:
    """Return the next finished block, and wait for workers as long as for the first one."""
    deadline = None
    while True:
        try:
            return completed.get(timeout=_CHECK)
        except queue.Empty:
            with suppress(OSError):
                if client.status == "running" and client.nthreads():
                    deadline = None
                    continue
            deadline = deadline or time.monotonic() + _JOIN
            if time.monotonic() > deadline:
                raise InputError(
                    f"the cluster has had no workers for {_JOIN} seconds; start some, and continue with "
                    "resume"
                ) from None


def _plugin(predictor: Predictor, run: str) -> Any:
    """Return a plugin that gives every worker process the predictor, also those that join later."""
    from distributed import WorkerPlugin

    class Predictors(WorkerPlugin):  # type: ignore[misc]
        name = run

        def __init__(self) -> None:
            self.predictor = predictor

    return Predictors()


def _without_pages() -> Any:
    """Return a plugin that closes the port on which a worker answers HTTP."""
    from distributed import WorkerPlugin

    class WithoutPages(WorkerPlugin):  # type: ignore[misc]
        name = "mien-without-pages"

        def setup(self, worker: Any) -> None:
            worker.http_server.stop()

    return WithoutPages()


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


def _result(future: Any, block: Sequence[str]) -> list[Prediction | Problem]:
    """Return the predictions of a block."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        found: list[Prediction | Problem] = future.result()
    except KilledWorker as error:
        raise InputError(
            f"{error.allowed_failures + 1} workers died on the {len(block)} files from '{block[0]}' on, "
            "perhaps because memory ran out; give workers more memory, or fewer processes a machine"
        ) from None
    except (FutureCancelledError, CancelledError, OSError) as error:
        raise InputError(
            f"the connection to the cluster is lost ({type(error).__name__}: {error}); start it again, and "
            "continue with resume"
        ) from None
    finally:
        future.release()
    return found


def _version() -> str:
    """Return the version of mien in a worker."""
    import mien

    return mien.__version__


def _sees(path: str) -> bool:
    return Path(path).is_file()


def _check_workers(client: "Client", files: Sequence[str]) -> None:
    """Check that all workers have this version of mien, and can read the files."""
    for worker, version in client.run(_version, on_error="return").items():
        if version != _version():
            said = f"has mien {version}" if isinstance(version, str) else f"cannot import mien ({version})"
            raise InputError(f"the worker {worker} {said}; install mien {_version()} on all machines")
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
    _load()
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
