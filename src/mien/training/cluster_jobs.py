"""Trainings on the workers of a Dask cluster: the same call on each, in a child process of the worker.

The calls share their work through the folder of a study or of folds, as processes on one machine do. So a
worker that dies costs the steps since the last saved state, and another one continues. Folder and data are on
storage that all machines mount at the same path.

    python -m mien.training.cluster_jobs    the child process, which a worker starts

The child reads a pickled call from stdin, and writes pickled messages to stdout. When stdin is closed, it
saves its state and ends as after SIGTERM; so it does if the work is cancelled, or if the worker dies.

Needs the extra `cluster`, except in the child.
"""

import contextlib
import importlib
import importlib.util
import io
import logging
import os
import pickle  # noqa: TID251 between a worker and its own child
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mien import __version__, _dask
from mien._processes import StopRequest, claim_process, cores
from mien._text import pluralize
from mien.errors import InputError, MienError, TrainingError
from mien.models import networks
from mien.training.trials import Failure

if TYPE_CHECKING:
    from distributed import Client

#: Seconds that children have to save their state after a signal.
_SAVE = 90.0
#: Seconds between two messages about the progress of a child, and between two looks at it.
_PROGRESS_SECONDS, _POLL_SECONDS = 0.5, 0.2
#: Children that die in succession, without an error of their own, before the work ends.
_MOST_DEATHS = 3
#: The signal of a system that is out of memory.
_KILLED = 9
#: How the work is continued after an error.
_AGAIN = "continue with the same command"
#: Held by a worker process while it has a child, because a training uses all threads, or the GPU.
_one_child = threading.Lock()


@dataclass(frozen=True)
class Call:
    """A call in a child process.

    Args:
        module: The module of the function.
        function: Its name. It takes `on_progress`, called with (what, done, total), and `on_note`.
        arguments: Its other arguments, picklable.
        needs: What a worker must have.
    """

    module: str
    function: str
    arguments: Mapping[str, Any]
    needs: "Needs"


@dataclass(frozen=True)
class Needs:
    """What a worker must have to take part.

    Args:
        paths: Absolute paths that it must see.
        packages: Packages that it must be able to import.
        version: The version of mien.
    """

    paths: Sequence[str]
    packages: Sequence[str] = ()
    version: str = __version__

    def missing(self) -> str:
        """Return what this process lacks and what to do, as the end of a sentence; empty for nothing."""
        if __version__ != self.version:
            return f"has mien {__version__}; install mien {self.version} on all machines"
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                return f"lacks the package {package}; install the same packages on all machines"
        for path in self.paths:
            if not Path(path).exists():
                return (
                    f"does not see '{path}'; put data and --out on storage that all machines mount at the "
                    "same path"
                )
        return ""


@dataclass(frozen=True)
class _Death:
    """A child that died without an error of its own, such as one that the system killed."""

    code: int


@dataclass(frozen=True)
class _Unfit:
    """A worker that lacks something."""

    worker: str
    missing: str


def check_workers(
    client: "Client",
    origin: Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    files: Sequence[str] = (),
    packages: Sequence[str] = (),
) -> Needs:
    """Check that all workers have what they need, and return it for those that join later.

    Args:
        client: The client.
        origin: `Dataset.origin` of the data.
        folder: The folder of the work, absolute.
        files: Other paths that the work reads, absolute.
        packages: Packages that it imports.

    Raises:
        InputError: The data have no path, or a worker lacks something.
    """
    if not origin.get("source"):
        raise InputError("workers of a cluster load the data themselves; give the path of the data")
    named = [origin["source"], origin.get("votes"), *(origin.get("exclude") or ()), os.fspath(folder), *files]
    needs = Needs([path for path in named if path], packages)
    _dask.wait_for_worker(client, str(client.scheduler.address))
    _dask.check_versions(client)
    for worker, missing in client.run(needs.missing, on_error="return").items():
        if missing != "":
            raise InputError(f"the worker {worker} {missing}")
    return needs


def run(
    client: "Client",
    call: Call,
    *,
    most: int,
    stop: StopRequest,
    saved: str,
    on_progress: Callable[[str, int, int], None],
    on_note: Callable[[str], None],
) -> None:
    """Make a call on several workers at once, one on each, and return when all calls have returned.

    Workers that join later get a call too, as long as none has returned. Those that lack something are not
    used. What a worker loses because it dies or gets a signal is given to another one.

    Args:
        client: The client.
        call: The call; each one does what the others have not begun.
        most: Number of workers at most.
        stop: Whether to stop. The children save their state then.
        saved: What is saved, for the message.
        on_progress: Called with (what is done, done, total) of all calls together.
        on_note: Called with their messages, once each.

    Raises:
        InputError: The cluster lost all workers, or the connection.
        MienError: What a call raised; the others are stopped.
        TrainingError: Children died in succession.
        Stopped: A signal came.
    """
    jobs = _Jobs(client, call, on_progress, on_note)
    try:
        jobs.run(most, stop)
    except BaseException:
        jobs.stop()
        raise
    finally:
        jobs.close()
    if jobs.count_alive():
        saved = f"{pluralize(jobs.count_alive(), 'training')} may not be saved yet on the workers"
    stop.check(saved)


class _Jobs:
    """The calls on the workers, seen from the client."""

    def __init__(
        self,
        client: "Client",
        call: Call,
        on_progress: Callable[[str, int, int], None],
        on_note: Callable[[str], None],
    ) -> None:
        self._client, self._on_progress, self._on_note = client, on_progress, on_note
        self._topic = f"mien-{uuid.uuid4().hex}"
        self._payload = pickle.dumps(call)
        self._environment = {"KERAS_BACKEND": networks.find_backend()}
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._watch = _dask.WorkerWatch(client, _AGAIN)
        #: The worker that each unfinished job was given to, by future; the workers with a child, by job.
        self._pending: dict[Any, str] = {}
        self._alive: dict[int, str] = {}
        self._number = self._deaths = 0
        self._progress: dict[int, tuple[str, int, int]] = {}
        self._said: set[str] = set()
        self._unfit: dict[str, str] = {}
        client.subscribe_topic(self._topic, lambda event: self._events.put(event[1]))

    def run(self, most: int, stop: StopRequest) -> None:
        """Start jobs and report their messages until they have ended, or a signal came."""
        begins = True
        while True:
            if begins:
                self._begin(most)
            if self._report(_POLL_SECONDS):
                self._watch.seen()
            for future in [each for each in self._pending if each.done()]:
                self._pending.pop(future)
                begins = self._end(future)
            if not self._pending and not begins:
                return
            if stop.number:
                self.stop()
                return
            self._watch.check()

    def _begin(self, most: int) -> None:
        """Start a job on each worker that has none."""
        with contextlib.suppress(OSError):
            workers = set(self._client.nthreads())
            if workers and not self._pending and workers <= self._unfit.keys():
                worker = min(workers)
                raise InputError(f"no worker can be used: the worker {worker} {self._unfit[worker]}")
            for worker in sorted(workers - self._unfit.keys() - set(self._pending.values())):
                if len(self._pending) < most:
                    self._number += 1
                    future = self._client.submit(
                        _work,
                        self._payload,
                        self._topic,
                        self._number,
                        self._environment,
                        key=f"{self._topic}-{self._number}",
                        pure=False,
                        workers=[worker],
                        allow_other_workers=True,
                    )
                    self._pending[future] = worker

    def _end(self, future: Any) -> bool:
        """Take the result of a job; return whether another one may have work to do."""
        found: Failure | _Death | _Unfit | None = _dask.result_of(future, "a training", _AGAIN)
        if isinstance(found, Failure):
            if found.kind == "Stopped":  # a signal for the child alone, such as from a batch system
                self._on_note("a signal stopped a training on its worker; it continues")
                return True
            if found.is_own:
                raise found.error()
            raise TrainingError(f"a training on the cluster failed: {found.kind}: {found.message}")
        if isinstance(found, _Unfit):
            self._unfit[found.worker] = found.missing
            self._on_note(f"the worker {found.worker} is not used, because it {found.missing}")
            return True
        if found is None:
            self._deaths = 0
            return False
        self._deaths += 1
        memory = ", perhaps because memory ran out" if found.code == -_KILLED else ""
        if self._deaths >= _MOST_DEATHS:
            raise TrainingError(
                f"{_MOST_DEATHS} trainings on the cluster died in succession, the last one with code "
                f"{found.code}{memory}; see the logs of the workers, or give each one more memory"
            )
        self._on_note(f"a training died with code {found.code}{memory}; it continues")
        return True

    def _report(self, seconds: float) -> bool:
        """Report the messages that have arrived, and wait for the first one; return whether one came."""
        try:
            event = self._events.get(timeout=seconds)
        except queue.Empty:
            return False
        while True:
            self._take(event)
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                break
        if self._progress:
            latest = list(self._progress.values())
            more = f" and {len(latest) - 2} more" if len(latest) > 2 else ""
            self._on_progress(
                "; ".join(what for what, _, _ in latest[:2]) + more,
                sum(done for _, done, _ in latest),
                sum(total for _, _, total in latest),
            )
        return True

    def _take(self, event: Mapping[str, Any]) -> None:
        number = event["job"]
        if event["kind"] == "begun":
            self._alive[number] = event["worker"]
        elif event["kind"] == "ended":
            self._alive.pop(number, None)
            self._progress.pop(number, None)
        elif event["kind"] == "progress":
            self._progress[number] = event["what"], event["done"], event["total"]
        elif event["sentence"] not in self._said:
            self._said.add(event["sentence"])
            self._on_note(event["sentence"])

    def stop(self) -> None:
        """Cancel all jobs, and wait until their children have saved their state."""
        if self._alive:
            self._on_note("the workers save their trainings")
        with contextlib.suppress(OSError, RuntimeError):
            self._client.cancel(list(self._pending))
        end = time.monotonic() + _SAVE
        with contextlib.suppress(OSError):
            while self._alive and time.monotonic() < end and self._client.status == "running":
                self._report(_POLL_SECONDS)
                workers = self._client.nthreads()
                self._alive = {job: worker for job, worker in self._alive.items() if worker in workers}

    def count_alive(self) -> int:
        """Return the number of children that have not ended, as far as is known."""
        return len(self._alive)

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self._client.unsubscribe_topic(self._topic)


def _work(
    payload: bytes, topic: str, number: int, environment: Mapping[str, str]
) -> "Failure | _Death | _Unfit | None":
    """Make the call in a child of this worker, and pass on its messages."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    call: Call = pickle.loads(payload)  # noqa: S301
    if missing := call.needs.missing():
        return _Unfit(worker.address, missing)
    # A worker with several threads may get the task of a dead one.
    while not _one_child.acquire(timeout=_POLL_SECONDS):
        if not _is_wanted(worker, key):
            return None
    try:
        worker.log_event(topic, {"job": number, "kind": "begun", "worker": worker.address})
        return _run_child(worker, key, payload, topic, number, environment)
    finally:
        worker.log_event(topic, {"job": number, "kind": "ended"})
        _one_child.release()


def _run_child(
    worker: Any, key: str, payload: bytes, topic: str, number: int, environment: Mapping[str, str]
) -> "Failure | _Death | None":
    """Start a child, and follow it to its end."""
    threads = str(worker.state.nthreads)
    limits = {"TF_NUM_INTRAOP_THREADS": threads} if worker.state.nthreads < cores() else {}
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,
            env={**os.environ, **limits, **environment},
        )
        with child:
            found = _follow(
                child,
                payload,
                lambda **event: worker.log_event(topic, {"job": number, **event}),
                lambda: _is_wanted(worker, key),
            )
        if found is not None and not (isinstance(found, Failure) and found.is_own):
            log.seek(0)
            logging.getLogger("distributed.worker").error(log.read().decode(errors="replace"))
    return _Death(child.returncode) if isinstance(found, _Death) else found


def _is_wanted(worker: Any, key: str) -> bool:
    """Return whether a task that runs has not been cancelled, and its worker is not closing."""
    task = worker.state.tasks.get(key)
    is_open = worker.status.name in ("running", "paused")
    return is_open and task is not None and task.state in ("executing", "long-running")


def _follow(
    child: "subprocess.Popen[bytes]",
    payload: bytes,
    send: Callable[..., None],
    is_wanted: Callable[[], bool],
) -> "Failure | _Death | None":
    """Send the call to a child, pass on its messages, and return its result."""
    assert child.stdin is not None
    assert child.stdout is not None
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    output = io.BufferedReader(child.stdout)  # type: ignore[type-var]
    threading.Thread(target=_read, args=(output, messages), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):  # it has died already
        left = memoryview(payload)
        while left:
            left = left[child.stdin.write(left) :]
    found: Failure | _Death | None = _Death(0)
    while True:
        try:
            message = messages.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            if not is_wanted():
                child.stdin.close()
            continue
        if message is _END:
            child.wait()
            return found
        if isinstance(message, dict):
            send(**message)
        else:
            found = message


#: The end of a child's messages.
_END = object()


def _read(file: IO[bytes], messages: "queue.SimpleQueue[Any]") -> None:
    """Put the messages of a child into a queue, until it has ended."""
    try:
        # A killed child may leave half a message.
        with contextlib.suppress(EOFError, pickle.UnpicklingError):
            while True:
                messages.put(pickle.load(file))  # noqa: S301
    finally:
        messages.put(_END)


class _Client:
    """The messages of a child to the client."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._lock = file, threading.Lock()
        self._last = 0.0

    def send(self, message: Any) -> None:
        """Send a message; nobody reads it if the worker has died, and a signal follows."""
        with self._lock, contextlib.suppress(BrokenPipeError):
            pickle.dump(message, self._file)
            self._file.flush()

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Report the progress, not too often."""
        if time.monotonic() - self._last >= _PROGRESS_SECONDS:
            self._last = time.monotonic()
            self.send({"kind": "progress", "what": what, "done": int(done), "total": int(total)})

    def on_note(self, sentence: str) -> None:
        """Report a message."""
        self.send({"kind": "note", "sentence": sentence})


def _end_with_worker() -> None:
    """Stop as after a signal when stdin is closed."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Make the call of stdin, and report to stdout."""
    # What libraries print goes to the log.
    client = _Client(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    claim_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the client gets the Ctrl-C, and stops the work
    call: Call = pickle.load(sys.stdin.buffer)  # noqa: S301
    threading.Thread(target=_end_with_worker, daemon=True).start()
    try:
        function = getattr(importlib.import_module(call.module), call.function)
        function(**call.arguments, on_progress=client.on_progress, on_note=client.on_note)
    except MienError as error:
        client.send(Failure(type(error).__name__, str(error), is_own=True))
    except Exception as error:
        import traceback

        traceback.print_exc()
        client.send(Failure(type(error).__name__, str(error), is_own=False))
    else:
        client.send(None)


if __name__ == "__main__":
    main()
