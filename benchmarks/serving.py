"""What the server adds to a prediction, and what it does under load.

    python benchmarks/serving.py crops photos single     # throughput beside the same work without HTTP
    python benchmarks/serving.py storm --seconds 60      # 200 clients that ask for three times the capacity
    python benchmarks/serving.py soak --seconds 600      # memory and file handles over time
    python benchmarks/serving.py size multipart memory

Client and server share the machine. Rounds of what is compared alternate, so that other work on the machine
hits both; ratios are medians of the rounds with their smallest and largest. Prints JSON.
"""

import argparse
import asyncio
import json
import math
import os
import random
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mien
from mien.data import synthetic
from predict import scene

TICKS = os.sysconf("SC_CLK_TCK")


def crop_files(count: int) -> list[bytes]:
    """Return cropped synthetic faces of 48 pixels as PNG files."""
    import io

    from PIL import Image

    files = []
    for image in synthetic.sample(count, seed=5, size=48)[0]:
        file = io.BytesIO()
        Image.fromarray(image[:, :, 0]).save(file, "PNG")
        files.append(file.getvalue())
    return files


def request(path: str, body: bytes, kind: str) -> bytes:
    """Return the bytes of a request on a connection that stays open."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def form(files: Sequence[bytes], path: str) -> bytes:
    """Return a request with several images."""
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    body = b"".join(part + file + b"\r\n" for file in files) + b"--b--\r\n"
    return request(path, body, "multipart/form-data; boundary=b")


class Client(asyncio.Protocol):
    """A connection that sends requests one after the other and reads the answers with little work."""

    def __init__(self) -> None:
        self._buffer, self._need = b"", -1
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._until = math.inf
        self.transport: Any = None

    def is_usable(self) -> bool:
        """Return whether another request can be sent, at least a second before the server closes it."""
        return not self.transport.is_closing() and time.perf_counter() < self._until - 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport

    def ask(self, content: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        """Send a request; the result is the status and the body."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(content)
        return self._answer

    def data_received(self, data: bytes) -> None:
        """End the answer once it is complete."""
        self._buffer += data
        if self._need < 0 and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = head.index(b"content-length:") + 15
            self._need = end + 4 + int(head[length:].split(b"\r\n", 1)[0])
            if (place := head.find(b"\r\nkeep-alive: timeout=")) >= 0:
                idle = int(head[place + 22 :].split(b"\r\n", 1)[0])
                self._until = time.perf_counter() + idle
        if 0 <= self._need <= len(self._buffer) and self._answer is not None:
            status, body = int(self._buffer[9:12]), self._buffer[self._buffer.find(b"\r\n\r\n") + 4 :]
            self._buffer, self._need = b"", -1
            if not self._answer.done():
                self._answer.set_result((status, body))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the answer that was waited for."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())


@dataclass
class Load:
    """What clients saw.

    Args:
        seconds: How long they asked.
        took: Seconds of each answer with status 200.
        refusals: Seconds of each answer with status 503.
        statuses: How often each status came; 0 means that the connection was lost.
    """

    seconds: float = 0.0
    took: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def ms(self, share: float) -> float:
        """Return a quantile of the answers' times in milliseconds."""
        return round(sorted(self.took)[min(len(self.took) - 1, int(share * len(self.took)))] * 1000, 1)

    def refused_ms(self, share: float) -> float:
        """Return a quantile of the refusals' times in milliseconds."""
        refusals = sorted(self.refusals)
        return (
            round(refusals[min(len(refusals) - 1, int(share * len(refusals)))] * 1000, 1) if refusals else 0.0
        )


async def closed_loop(url: str, requests: Sequence[bytes], clients: int, seconds: float) -> Load:
    """Let clients ask one request after the other, for a time."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    load, loop = Load(), asyncio.get_running_loop()
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        _, connection = await loop.create_connection(Client, host, port)
        place = number
        while time.perf_counter() < end:
            began = time.perf_counter()
            status, _ = await connection.ask(requests[place % len(requests)])
            load.statuses[status] += 1
            load.took.append(time.perf_counter() - began)
            place += clients
        connection.transport.close()

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    load.seconds = time.perf_counter() - began
    return load


def light_loop(url: str, requests: Sequence[bytes], clients: int, seconds: float) -> Load:
    """Do what `closed_loop` does with a third of its CPU time, which the server needs for short answers."""
    load = Load()
    poll, waiting = select.epoll(), {}
    for number in range(clients):
        connection = socket.create_connection((urlsplit(url).hostname or "", urlsplit(url).port or 0))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(connection.fileno(), select.EPOLLIN)
        waiting[connection.fileno()] = [connection, number, 0.0, b""]
    began = now = time.perf_counter()
    for state in waiting.values():
        state[2] = time.perf_counter()
        state[0].sendall(requests[state[1] % len(requests)])
    left = clients
    while left:
        for handle, _ in poll.poll():
            state = waiting[handle]
            state[3] += state[0].recv(1 << 16)
            end = state[3].find(b"\r\n\r\n")
            length = state[3].find(b"content-length: ", 0, end) + 16
            if end < 0 or len(state[3]) < end + 4 + int(state[3][length : state[3].find(b"\r\n", length)]):
                continue
            now = time.perf_counter()
            load.took.append(now - state[2])
            load.statuses[int(state[3][9:12])] += 1
            if now > began + seconds:
                poll.unregister(handle)
                state[0].close()
                left -= 1
                continue
            state[1] += clients
            state[2], state[3] = now, b""
            state[0].sendall(requests[state[1] % len(requests)])
    load.seconds = now - began
    return load


async def open_loop(url: str, content: bytes, clients: int, rate: float, seconds: float) -> Load:
    """Let clients ask at random times, together `rate` times a second, whatever the server does."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    load, loop = Load(), asyncio.get_running_loop()
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        dice = random.Random(number)
        connection = None
        due = time.perf_counter() + dice.expovariate(rate / clients)
        while due < end:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due = max(due, time.perf_counter() - 1) + dice.expovariate(rate / clients)
            began = time.perf_counter()
            try:
                if connection is None or not connection.is_usable():
                    if connection is not None:
                        connection.transport.close()
                    _, connection = await loop.create_connection(Client, host, port)
                    began = time.perf_counter()
                async with asyncio.timeout(60):
                    status, _ = await connection.ask(content)
            except (OSError, TimeoutError):
                load.statuses[0] += 1
                connection = None
                continue
            load.statuses[status] += 1
            (load.took if status == 200 else load.refusals).append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    load.seconds = time.perf_counter() - began
    return load


class Served:
    """A server in a process of its own."""

    def __init__(self, url: str, process: int) -> None:
        self.url, self._process = url, process

    def _all(self) -> list[int]:
        found = [self._process]
        for each in found:
            for listed in Path(f"/proc/{each}/task").glob("*/children"):
                found += [int(child) for child in listed.read_text().split()]
        return found

    def cpu(self) -> float:
        """Return the CPU seconds of the server's processes."""
        total = 0
        for each in self._all():
            numbers = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += int(numbers[11]) + int(numbers[12])
        return total / TICKS

    def memory(self) -> float:
        """Return the resident MiB of the server's processes."""
        total = 0
        for each in self._all():
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1])
        return total * os.sysconf("SC_PAGE_SIZE") / 2**20

    def handles(self) -> int:
        """Return the open file handles of the server's processes."""
        return sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in self._all())


@contextmanager
def served(*options: str) -> Iterator[Served]:
    """Run `mien serve`."""
    command = [sys.executable, "-m", "mien", "serve", "--port", "0", "--json", *options]
    with _process(command) as (process, line):
        document = line
        while not document.endswith("}\n"):
            document += process.stdout.readline()  # type: ignore[union-attr]
        yield Served(json.loads(document)["url"], process.pid)


@contextmanager
def plain(model: str) -> Iterator[Served]:
    """Run a server of one process that answers each request in a thread, with one inference."""
    with _process([sys.executable, __file__, "--plain", model]) as (process, line):
        yield Served(line.strip(), process.pid)


@contextmanager
def _process(command: Sequence[str]) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def run_plain(model: str) -> None:
    """Serve one inference for each request: what a short script with Starlette does."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from mien.server.processes import bind, url_of

    predictor = mien.Predictor(model, whole_image=True)

    async def answer(asked: Request) -> JSONResponse:
        found = await run_in_threadpool(predictor.image, await asked.body())
        return JSONResponse([found.to_dict()])

    listener = bind("127.0.0.1", 0)
    print(url_of(listener), flush=True)
    app = Starlette(routes=[Route("/v1/predict", answer, methods=["POST"])])
    uvicorn.Server(uvicorn.Config(app, log_level="error", http="httptools", ws="none")).run([listener])


def spread_of(values: Sequence[float], digits: int = 2) -> list[float]:
    """Return the smallest, median and largest."""
    return [round(each, digits) for each in (min(values), statistics.median(values), max(values))]


def crops(model: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Compare crops in requests of 64 with `Predictor.images`."""
    files = crop_files(64)
    predictor = mien.Predictor(model, whole_image=True)
    content = form(files, "/v1/predict?whole_image=1")
    bare, http, cpu, bare_cpu = [], [], [], []
    with served("--model", model) as server:
        for _ in range(rounds):
            began, used, count = time.perf_counter(), time.process_time(), 0
            while time.perf_counter() < began + seconds:
                count += len(list(predictor.images(files)))
            bare.append(count / (time.perf_counter() - began))
            bare_cpu.append((time.process_time() - used) / count * 1000)
            used = server.cpu()
            load = asyncio.run(closed_loop(server.url, [content], 3, seconds))
            http.append(64 * load.statuses[200] / load.seconds)
            cpu.append((server.cpu() - used) / (64 * load.statuses[200]) * 1000)
    return {
        "without HTTP, crops a second": spread_of(bare, 0),
        "over HTTP, crops a second": spread_of(http, 0),
        "ratio": spread_of([one / two for one, two in zip(http, bare, strict=True)]),
        "CPU ms a crop, without and over HTTP": [spread_of(bare_cpu, 3), spread_of(cpu, 3)],
    }


def single(model: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Compare one crop a request, 16 connections: two processes with batches, and one inference a request."""
    requests = [request("/v1/predict?whole_image=1", file, "image/png") for file in crop_files(64)]
    kinds: dict[str, Any] = {"one inference a request": [], "two processes": [], "one process": []}
    with (
        plain(model) as naive,
        served("--model", model, "--workers", "2") as two,
        served("--model", model) as one,
    ):
        for server in (naive, two, one):
            light_loop(server.url, requests, 16, 1.0)
        for _ in range(rounds):
            for name, server in zip(kinds, (naive, two, one), strict=True):
                used = server.cpu()
                load = light_loop(server.url, requests, 16, seconds)
                assert set(load.statuses) == {200}, load.statuses
                each = (server.cpu() - used) / load.statuses[200] * 1000
                kinds[name].append((load.statuses[200] / load.seconds, load.ms(0.5), load.ms(0.99), each))
    found: dict[str, Any] = {}
    for name, values in kinds.items():
        rate, median, late, cpu = zip(*values, strict=True)
        found[name] = {
            "requests a second": spread_of(rate, 0),
            "p50 ms": spread_of(median, 1),
            "p99 ms": spread_of(late, 1),
            "CPU ms": spread_of(cpu, 3),
        }
    naive_rates = [value[0] for value in kinds["one inference a request"]]
    for name in ("two processes", "one process"):
        rates = [value[0] for value in kinds[name]]
        found[name]["ratio"] = spread_of([a / b for a, b in zip(rates, naive_rates, strict=True)])
    return found


def photos(model: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Compare photos of 640 × 480 pixels and 16 clients with two threads without HTTP."""
    photo = scene()
    predictor = mien.Predictor(model)
    content = request("/v1/predict", photo, "image/jpeg")
    bare, bare_cpu, kinds = [], [], {"one process": [], "two processes": []}  # type: ignore[var-annotated]
    with (
        served("--model", model, "--threads", "2") as one,
        served("--model", model, "--workers", "2") as two,
        ThreadPoolExecutor(2) as pool,
    ):
        for _ in range(rounds):
            began, used = time.perf_counter(), time.process_time()
            end = began + seconds

            def work(end: float = end) -> int:
                count = 0
                while time.perf_counter() < end:
                    predictor.image(photo)
                    count += 1
                return count

            count = sum(pool.map(lambda run: run(), (work, work)))
            bare.append(count / (time.perf_counter() - began))
            bare_cpu.append((time.process_time() - used) / count * 1000)
            for name, server in zip(kinds, (one, two), strict=True):
                used = server.cpu()
                load = asyncio.run(closed_loop(server.url, [content], 16, seconds))
                assert set(load.statuses) == {200}, load.statuses
                each = (server.cpu() - used) / load.statuses[200] * 1000
                kinds[name].append((load.statuses[200] / load.seconds, load.ms(0.5), load.ms(0.99), each))
    found: dict[str, Any] = {
        "two threads, photos a second": spread_of(bare, 1),
        "CPU ms": spread_of(bare_cpu, 1),
    }
    for name, values in kinds.items():
        rate, median, late, cpu = zip(*values, strict=True)
        found[name] = {
            "photos a second": spread_of(rate, 1),
            "ratio": spread_of([a / b for a, b in zip(rate, bare, strict=True)]),
            "p50 ms": spread_of(median, 0),
            "p99 ms": spread_of(late, 0),
            "p99 / p50": spread_of([a / b for a, b in zip(late, median, strict=True)]),
            "CPU ms": spread_of(cpu, 1),
        }
    return found


def storm(model: str, seconds: float, clients: int = 200) -> dict[str, Any]:
    """Ask for three times the capacity, and look at losses, refusals, memory and the time afterwards."""
    content = request("/v1/predict", scene(), "image/jpeg")
    with served("--model", model, "--threads", "2") as server:
        calm = asyncio.run(closed_loop(server.url, [content], 8, max(3.0, seconds / 10)))
        capacity = calm.statuses[200] / calm.seconds
        asyncio.run(open_loop(server.url, content, clients, 3 * capacity, max(2.0, seconds / 10)))
        before = server.memory()
        peak = [before]
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.5):
                peak.append(server.memory())

        watching = threading.Thread(target=watch)
        watching.start()
        load = asyncio.run(open_loop(server.url, content, clients, 3 * capacity, seconds))
        began = time.perf_counter()
        status = light_loop(server.url, [content], 1, 0.0).statuses
        after = time.perf_counter() - began
        done.set()
        watching.join()
        return {
            "capacity, photos a second": round(capacity, 1),
            "asked a second": round(sum(load.statuses.values()) / load.seconds, 1),
            "answered a second": round(load.statuses[200] / load.seconds, 1),
            "statuses": {str(each): count for each, count in sorted(load.statuses.items())},
            "p50, p99 and largest ms of answers": [load.ms(0.5), load.ms(0.99), load.ms(1.0)],
            "p50, p99 and largest ms of refusals": [load.refused_ms(each) for each in (0.5, 0.99, 1.0)],
            "MiB before, peak, at the end": [round(each, 1) for each in (before, max(peak), peak[-1])],
            "seconds of the first request afterwards": round(after, 3),
            "its status": list(status),
        }


def soak(model: str, seconds: float) -> dict[str, Any]:
    """Send a mix of good, bad and abandoned requests for a long time, and look at memory and file handles."""
    files = crop_files(64)
    photo = scene()
    mix = [
        request("/v1/predict", photo, "image/jpeg"),
        request("/v1/predict?whole_image=1", files[0], "image/png"),
        form(files[:16], "/v1/predict?whole_image=1"),
        request("/v1/annotate?format=jpeg", photo, "image/jpeg"),
        request("/v1/predict", b"no image", "image/png"),
        request("/v1/predict?balance=7", files[0], "image/png"),
        request("/v1/nothing", files[0], "image/png"),
    ]
    with served("--model", model, "--threads", "2") as server:
        host, port = urlsplit(server.url).hostname or "", urlsplit(server.url).port or 0

        async def abandon(end: float) -> int:
            """Open connections and leave in the middle of a request or of an answer."""
            count = 0
            while time.perf_counter() < end:
                _, writer = await asyncio.open_connection(host, port)
                writer.write(mix[0] if count % 2 else mix[0][:5000])
                await asyncio.sleep(0.05)
                writer.close()
                count += 1
            return count

        async def both(duration: float) -> tuple[Load, int]:
            return await asyncio.gather(
                closed_loop(server.url, mix, 6, duration), abandon(time.perf_counter() + duration)
            )

        asyncio.run(both(max(5.0, seconds / 10)))
        time.sleep(6)  # until idle connections are closed
        memory, handles = [server.memory()], server.handles()
        statuses: Counter[int] = Counter()
        left = 0
        for _ in range(10):
            load, abandoned = asyncio.run(both(seconds / 10))
            statuses += load.statuses
            left += abandoned
            memory.append(server.memory())
        time.sleep(6)
        memory.append(server.memory())
        return {
            "statuses": {str(each): count for each, count in sorted(statuses.items())},
            "abandoned": left,
            "MiB over time": [round(each, 1) for each in memory],
            "growth of memory": round(memory[-1] / memory[0] - 1, 4),
            "file handles before and after": [handles, server.handles()],
        }


def memory(model: str) -> dict[str, Any]:
    """Return the memory of a server that starts, and that reads images of 40 megapixels."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((8000, 5000), 40).convert("RGB").save(file, "JPEG", quality=70)
    content = request("/v1/predict", file.getvalue(), "image/jpeg")
    with served("--model", model, "--threads", "2") as server:
        start = server.memory()
        peak = [start]
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                peak.append(server.memory())

        watching = threading.Thread(target=watch)
        watching.start()
        load = asyncio.run(closed_loop(server.url, [content], 8, 10.0))
        done.set()
        watching.join()
        return {
            "MiB at the start": round(start, 1),
            "bytes of the image": len(file.getvalue()),
            "statuses": dict(load.statuses),
            "peak MiB with 8 clients": round(max(peak), 1),
        }


def multipart() -> dict[str, Any]:
    """Compare mien's reading of multipart bodies with python-multipart, if that is installed."""
    from mien.server import payloads
    from mien.server.settings import Limits

    found: dict[str, Any] = {}
    for name, files in (
        ("64 crops", crop_files(64)),
        ("1 photo", [scene()]),
        ("1 of 8 MiB", [bytes(8 << 20)]),
    ):
        body = form(files, "/").partition(b"\r\n\r\n")[2]

        def own(body: bytes = body) -> int:
            return len(payloads.read("multipart/form-data; boundary=b", b"", body, Limits())[0])

        def other(body: bytes = body) -> int:
            from python_multipart import MultipartParser

            parts: list[bytearray] = []
            callbacks: Any = {
                "on_part_begin": lambda: parts.append(bytearray()),
                "on_part_data": lambda data, start, end: parts[-1].extend(data[start:end]),
            }
            parser = MultipartParser(b"b", callbacks)
            parser.write(body)
            parser.finalize()
            return len(parts)

        found[name] = {"mien, ms": _each(own)}
        try:
            found[name]["python-multipart, ms"] = _each(other)
        except ImportError:
            continue
    return found


def _each(work: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(20):
        began = time.process_time()
        work()
        times.append((time.process_time() - began) * 1000)
    return spread_of(times, 3)


def size() -> dict[str, Any]:
    """Return how many MB the extra `serve` adds to a new environment with the base."""
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        sizes = []
        for extra in ("", "[serve]"):
            subprocess.run([python, "-m", "pip", "install", "-q", f"{root}{extra}"], check=True)
            sizes.append(sum(each.stat().st_size for each in Path(folder).rglob("*") if each.is_file()) / 1e6)
    return {"MB of the base": round(sizes[0], 1), "MB that serve adds": round(sizes[1] - sizes[0], 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ("crops", "single", "photos", "storm", "soak", "memory", "multipart", "size")
    parser.add_argument("what", nargs="*", metavar="|".join(kinds))
    parser.add_argument("--model", default="fast")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--plain", metavar="MODEL", help="serve one inference a request; used by `single`")
    given = parser.parse_args()
    if given.plain:
        run_plain(given.plain)
        return
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "crops": lambda: crops(given.model, given.rounds, given.seconds),
        "single": lambda: single(given.model, given.rounds, given.seconds),
        "photos": lambda: photos(given.model, given.rounds, given.seconds),
        "storm": lambda: storm(given.model, given.seconds),
        "soak": lambda: soak(given.model, given.seconds),
        "memory": lambda: memory(given.model),
        "multipart": multipart,
        "size": size,
    }
    for name in given.what:
        found = work[name]()
        load = [round(each, 1) for each in os.getloadavg()]
        print(
            json.dumps({"what": name, "model": given.model, **found, "load of the machine": load}, indent=1)
        )


if __name__ == "__main__":
    main()
