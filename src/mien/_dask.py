"""Dask clusters: start or connect to one, check its workers, and collect what they finish.

Needs the extra `cluster`.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from mien._processes import cores, log_level, uninterrupted
from mien.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from distributed import Client

#: Seconds to wait for a scheduler, and for its first worker.
_CONNECT, _JOIN = 10, 60
#: Seconds without a finished task after which the workers are counted, and after which they are counted again
#: if there were none.
_CHECK, _SOON = 10, 1
#: Settings of a local cluster: no process samples its stacks 100 times a second, or measures its event loop
#: 50 times a second. A cluster of two workers that wait costs 2 % of a processor core then, and not 17 %.
_SETTINGS = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}


def check_options(address: str | None, workers: int | None) -> None:
    """Check the options of a cluster, before anything else is read or started.

    Args:
        address: As in `connect`; None for no cluster.
        workers: As in `connect`, or the number of processes without a cluster.

    Raises:
        InputError: One of them is of another type, `workers` is out of range, or `address` is of a cluster
            that has its own workers.
    """
    if not isinstance(address, str | None):
        raise InputError(f"cluster is {address!r}; give an address such as tcp://10.0.0.1:8786, or 'local'")
    if workers is None:
        return
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
        raise InputError(f"--workers is {workers}; it must be a whole number of at least 1")
    if address not in (None, "local"):
        raise InputError(f"--workers is for --cluster local; the cluster at {address} has its own workers")


@contextmanager
def connect(address: str, *, workers: int | None = None, threads: int | None = 1) -> "Iterator[Client]":
    """Yield a client of a Dask cluster.

    The processes of `local` import the main module again, so a script that calls this needs
    `if __name__ == "__main__":`.

    Args:
        address: The address of a scheduler, such as `tcp://10.0.0.1:8786`; or `local`, which starts a cluster
            on this machine and ends it. It listens on the loopback interface only, without a dashboard.
        workers: With `local`, the number of worker processes; None for one for each processor core.
        threads: With `local`, the threads of each process; None to divide the processor cores among them.

    Raises:
        MissingExtra: Dask is not installed.
        InputError: No scheduler answers, it has no workers, or `workers` is out of range.
    """
    distributed = load()
    check_options(address, workers)
    if address == "local":
        count = workers or cores()
        with _quiet(), _local(distributed, count, threads or max(1, cores() // count)) as client:
            yield client
        return
    try:
        client = _client_class()(address, timeout=_CONNECT)
    except Exception as error:  # another service, such as ssh, may send anything
        reason = str(error).rstrip(".") or type(error).__name__
        if isinstance(error, MemoryError):  # what it sends is not a length
            reason = "another service answers"
        raise InputError(
            f"no Dask scheduler answers at '{address}' ({reason}); give an address such as "
            "tcp://10.0.0.1:8786, or local"
        ) from None
    with _quiet(), client:
        wait_for_worker(client, address)
        yield client


def _client_class() -> "type[Client]":
    """Return a class of clients that give up if they cannot connect, and are closed then.

    Dask waits without end for a service that is not a scheduler. It leaves some clients to garbage
    collection, for instance if the address has no port. That closes the client in any thread, also in one
    that holds the lock which closing needs, so the process can hang.
    """
    from distributed import Client

    class ClosingClient(Client):  # type: ignore[misc]
        def start(self, **options: Any) -> None:
            try:
                # Dask passes it on to `distributed.utils.sync`.
                super().start(callback_timeout=2 * _CONNECT, **options)
            except BaseException:
                with suppress(Exception):  # the first error is the one to report
                    self.close()
                raise

    return ClosingClient


def _quiet() -> AbstractContextManager[None]:
    """Keep tracebacks about a lost connection off the terminal; an error in one sentence follows them."""
    return log_level("distributed.client", logging.CRITICAL)


def load() -> Any:
    """Return the package `distributed`.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import distributed
    except ImportError as error:
        raise MissingExtra("a cluster", "cluster") from error
    return distributed


@contextmanager
def _local(distributed: Any, workers: int, threads: int) -> "Iterator[Client]":
    import dask

    # The tracker's start would end what `uninterrupted` does: only this process handles Ctrl-C.
    resource_tracker.ensure_running()
    with dask.config.set(_SETTINGS), uninterrupted():
        cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs="CRITICAL",
        )
    try:
        cluster.scheduler.http_server.stop()
        with _client_class()(cluster, timeout=_CONNECT) as client:
            client.register_plugin(_without_pages())
            yield client
    finally:
        cluster.close()


def wait_for_worker(client: "Client", address: str) -> None:
    """Wait for the first worker of a cluster."""
    try:
        client.wait_for_workers(1, timeout=_JOIN)
    except TimeoutError:
        raise InputError(
            f"no worker joined the cluster at '{address}' within {_JOIN} seconds; start some with: "
            f"dask worker {address} --nthreads 1 --nworkers auto"
        ) from None


def _without_pages() -> Any:
    """Return a plugin that closes the port on which a worker answers HTTP."""
    from distributed import WorkerPlugin

    class WithoutPages(WorkerPlugin):  # type: ignore[misc]
        name = "mien-without-pages"

        def setup(self, worker: Any) -> None:
            worker.http_server.stop()

    return WithoutPages()


def _version() -> str:
    """Return the version of mien in a worker."""
    import mien

    return mien.__version__


def check_versions(client: "Client") -> None:
    """Check that all workers have this version of mien.

    Raises:
        InputError: A worker has another version, or cannot import mien.
    """
    for worker, version in client.run(_version, on_error="return").items():
        if version != _version():
            said = f"has mien {version}" if isinstance(version, str) else f"cannot import mien ({version})"
            raise InputError(f"the worker {worker} {said}; install mien {_version()} on all machines")


class WorkerWatch:
    """Waits for workers of a cluster that has lost them all, as long as for the first one.

    Args:
        client: The client.
        again: How the work is continued, as the message of an error says it.
    """

    def __init__(self, client: "Client", again: str) -> None:
        self._client, self._again = client, again
        self._deadline: float | None = None
        self.seen()

    def seen(self) -> None:
        """Note that a worker has done something."""
        self._looked = time.monotonic()

    def check(self) -> None:
        """Count the workers, if none has done anything for a while.

        Raises:
            InputError: The cluster had no workers for a minute.
        """
        now = time.monotonic()
        # Without workers the looks are close together, to see one that lives for a short time.
        if now - self._looked < (_CHECK if self._deadline is None else _SOON):
            return
        self._looked = now
        with suppress(OSError):
            if self._client.status == "running" and self._client.nthreads():
                self._deadline = None
                return
        self._deadline = self._deadline or now + _JOIN
        if now > self._deadline:
            raise InputError(
                f"the cluster has had no workers for {_JOIN} seconds; start some, and {self._again}"
            ) from None


def result_of(future: Any, subject: str, again: str) -> Any:
    """Return the result of a future, and release it.

    Args:
        future: A finished future.
        subject: What its task worked on, for the error if that killed several workers.
        again: How the work is continued, as the message of an error says it.

    Raises:
        InputError: Several workers died on it, or the connection to the cluster is lost.
    """
    from concurrent.futures import CancelledError

    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        return future.result()
    except KilledWorker as error:
        raise InputError(
            f"{error.allowed_failures + 1} workers died on {subject}, perhaps because memory ran out; give "
            "workers more memory, or fewer processes a machine"
        ) from None
    except (FutureCancelledError, CancelledError, OSError):
        raise InputError(f"the connection to the cluster is lost; start it again, and {again}") from None
    finally:
        future.release()
