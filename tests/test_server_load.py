"""The server under load, with slow and hostile clients: nothing hangs, nothing grows, no status above 503."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import mien
from http_clients import Stream, ask, base64_json, form, raw
from mien.errors import InputError
from mien.server.processes import RunningServer, serve
from mien.server.service import Service
from mien.server.settings import Limits, Settings, Times
from mien.vision.detectors import CropTransform, Detection, TiledDetector
from test_server import file_of

PHOTO = file_of(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))


@dataclass
class HeldDetector:
    """A detector that finds nothing, and waits while it is held."""

    name: str = "held"
    crop: CropTransform = field(default_factory=lambda: CropTransform(0.0, 0.0, 1.0))
    free: threading.Event = field(default_factory=threading.Event)
    calls: int = 0

    def find(self, image: object, *, smallest: int) -> list[Detection]:
        self.calls += 1
        assert self.free.wait(60)
        return []


@pytest.fixture(scope="module")
def model() -> Any:
    return mien.load_model("fast", threads=1)


@pytest.fixture
def held(model: Any) -> Iterator[Callable[..., tuple[RunningServer, HeldDetector]]]:
    """Start a server whose detector can be held."""
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> tuple[RunningServer, HeldDetector]:
            detector = HeldDetector()
            detector.free.set()  # while the server warms up
            running = serve(model, detector=detector, port=0, block=False, settings=Settings(**settings))
            assert running is not None
            stack.enter_context(running)
            stack.callback(detector.free.set)
            detector.free.clear()
            detector.calls = 0
            return running, detector

        yield start


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def inside(server: RunningServer) -> int:
    found: int = server.app.state.server.gate.inside
    return found


def post(server: RunningServer, path: str = "/v1/predict?auto_rotate=0") -> int:
    return ask(server.url, "/v1/predict", PHOTO, "image/png").status


def opened(server: RunningServer, content: bytes) -> socket.socket:
    host = urlsplit(server.url)
    sender = socket.create_connection((host.hostname or "", host.port or 0), timeout=30)
    sender.sendall(content)
    return sender


def head(body: int, **headers: str) -> bytes:
    lines = {"Host": "a", "Content-Type": "image/png", "Content-Length": str(body), **headers}
    shown = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST /v1/predict HTTP/1.1\r\n{shown}\r\n".encode()


def test_a_full_server_refuses_before_the_body_and_answers_all_that_it_took(held: Any) -> None:
    server, detector = held(queue=3, threads=1)
    with ThreadPoolExecutor(3) as pool:
        taken = [pool.submit(post, server) for _ in range(3)]
        wait_for(lambda: inside(server) == 3)
        # The body is never sent.
        with opened(server, head(1_000_000)) as sender:
            refused = sender.recv(4096).decode()
        assert refused.startswith("HTTP/1.1 503 ")
        assert "retry-after: 1" in refused.lower()
        assert ask(server.url, "/healthz").status == 200
        detector.free.set()
        assert [each.result() for each in taken] == [200, 200, 200]
    assert post(server) == 200
    assert inside(server) == 0
    assert "mien_refused_total 1\n" in ask(server.url, "/metrics").body.decode()


def test_a_client_that_leaves_frees_its_place_and_its_work_is_not_done(held: Any) -> None:
    server, detector = held(queue=2, threads=1)
    for _ in range(5):
        with opened(server, head(len(PHOTO)) + PHOTO), opened(server, head(len(PHOTO)) + PHOTO):
            wait_for(lambda: inside(server) == 2)
        wait_for(lambda: inside(server) == 0)
    detector.free.set()
    assert post(server) == 200
    # The first of the ten began before its client left; the others never did.
    assert detector.calls <= 2 * 4
    assert "mien_disconnected_total 10\n" in ask(server.url, "/metrics").body.decode()


def test_a_large_image_is_left_between_two_of_its_parts(model: Any) -> None:
    calls, free = [], threading.Event()

    def detect(image: np.ndarray, smallest: float) -> list[Detection]:
        calls.append(image.shape)
        assert free.wait(60)
        return []

    free.set()  # while the server warms up
    detector = TiledDetector("held", CropTransform(0.0, 0.0, 1.0), detect, 20)
    large = file_of(np.zeros((3000, 3000), np.uint8))
    running = serve(model, detector=detector, port=0, block=False, settings=Settings(threads=1))
    assert running is not None
    with running as server:
        calls.clear()
        assert ask(server.url, "/v1/predict", large, "image/png").status == 200
        assert len(calls) == 4  # one for each orientation
        calls.clear()
        free.clear()
        with opened(server, head(len(large)) + large):
            wait_for(lambda: len(calls) == 1)
        wait_for(lambda: inside(server) == 0)
        free.set()
        assert post(server) == 200  # in the same thread, after the large image was left
        assert [shape for shape in calls[1:] if shape[0] > 500] == []


def test_an_answer_that_takes_too_long_is_503(held: Any) -> None:
    server, _ = held(threads=1, times=Times(answer=0.4))
    reply = ask(server.url, "/v1/predict", PHOTO, "image/png")
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert inside(server) == 0


def test_the_bodies_of_all_requests_are_bounded(held: Any) -> None:
    server, _ = held(limits=Limits(body=1 << 20, bodies=1 << 20))
    with opened(server, head(1 << 20) + bytes(900_000)), contextlib.suppress(ConnectionResetError):
        wait_for(lambda: server.app.state.server.gate.bytes == 900_000)
        assert ask(server.url, "/v1/predict", bytes(1 << 20), "image/png").status == 503
    wait_for(lambda: server.app.state.server.gate.bytes == 0)


def test_overload_loses_no_request(model: Any) -> None:
    running = serve(model, port=0, block=False, settings=Settings(queue=8, threads=1))
    assert running is not None
    with running as server, ThreadPoolExecutor(40) as pool:
        statuses = Counter(pool.map(lambda _: post(server), range(200)))
        assert set(statuses) == {200, 503}
        assert post(server) == 200


def test_large_images_do_not_hold_up_crops(held: Any, model: Any) -> None:
    server, _ = held(threads=1)
    large = file_of(np.zeros((2000, 2000), np.uint8))
    assert len(large) < 1 << 14
    body, kind = form([large] * 50, whole_image="1")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, server.url, "/v1/predict", body, kind)
        wait_for(lambda: inside(server) == 1)
        crops = [ask(server.url, "/v1/predict?whole_image=1", PHOTO, "image/png") for _ in range(5)]
        assert [reply.status for reply in crops] == [200] * 5
        assert not slow.done()
        answers = slow.result().json
    predicted = mien.Predictor(model, whole_image=True).image(large, name="0.png").to_dict()
    assert [len(answers), answers[0]["faces"][0]["emotion"]] == [50, predicted["faces"][0]["emotion"]]


def started(*options: str) -> tuple["subprocess.Popen[str]", str]:
    """Start `mien serve` as a process; return it and its URL."""
    command = [sys.executable, "-m", "mien", "serve", "--model", "fast", "--port", "0", "--json", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    shown = ""
    while not shown.endswith("}\n"):
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        shown += line
    return process, json.loads(shown)["url"]


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    try:
        _, said = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, said


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_finishes_what_has_begun_and_exits_with_0(workers: str) -> None:
    process, url = started("--drain", "20", "--workers", workers)
    # Nothing that a client sends is logged.
    damaged = b"--b\r\nContent-Disposition\xbf: form-data\r\n\r\n--b--"
    assert ask(url, "/v1/predict", damaged, "multipart/form-data; boundary=b").status == 400
    host = urlsplit(url)
    address = (host.hostname or "", host.port or 0)
    with socket.create_connection(address, timeout=30) as sender, socket.create_connection(address) as idle:
        sender.sendall(head(len(PHOTO)) + PHOTO[:100])
        if workers == "1":
            wait_for(lambda: "mien_requests 1\n" in ask(url, "/metrics").body.decode())
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        idle.settimeout(30)
        assert idle.recv(1) == b""  # a connection without a request is closed at once
        wait_for(lambda: not is_open(address))
        sender.sendall(PHOTO[100:])
        assert sender.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert ended(process) == (0, "")


def is_open(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_server_ends_in_time_although_a_thread_computes(workers: str) -> None:
    script = Path(__file__).with_name("stuck_server.py")
    process = subprocess.Popen(
        [sys.executable, str(script), workers, "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url, process.communicate()[1]
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(ask, url, "/v1/predict", PHOTO, "image/png")
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (0, "")
        assert reply.result().status == 503


def children(process: "subprocess.Popen[str]") -> list[int]:
    """Return the numbers of the worker processes, the oldest first."""
    found = []
    for task in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it has ended since
            if b"spawn_main" in Path(f"/proc/{task}/cmdline").read_bytes():
                found.append(int(task))
    return found


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/cmdline").exists(), reason="processes are listed in /proc"
)


@needs_proc
def test_ctrl_c_while_workers_start_ends_the_server() -> None:
    command = [sys.executable, "-m", "mien", "serve", "--model", "fast", "--port", "0", "--workers", "2"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: bool(children(process)))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert ended(process) == (0, "")


@needs_proc
def test_a_worker_that_dies_is_replaced_even_while_it_starts() -> None:
    process, url = started("--workers", "2")
    first = children(process)
    os.kill(first[0], signal.SIGKILL)
    wait_for(lambda: len(children(process)) == 2 and first[0] not in children(process))
    os.kill(children(process)[-1], signal.SIGKILL)  # the new one
    wait_for(lambda: len(children(process)) == 2)
    assert ask(url, "/v1/predict", PHOTO, "image/png").status == 200
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0


@pytest.mark.parametrize("block", [True, False])
def test_a_server_that_cannot_start_says_so(
    model: Any, block: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Service) -> None:
        raise MemoryError("no memory")

    monkeypatch.setattr(Service, "start", fail)
    with pytest.raises(InputError):
        serve(model, port=0, block=block)
    assert "no memory" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_workers_answer_and_end_within_the_limit_whatever_clients_do() -> None:
    process, url = started("--workers", "2", "--drain", "1", "--host", "127.0.0.1")
    for _ in range(4):
        assert ask(url, "/v1/predict?whole_image=1", PHOTO, "image/png").status == 200
    host = urlsplit(url)
    with socket.create_connection((host.hostname or "", host.port or 0)) as sender:
        sender.sendall(head(1000))
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (0, "")


CHUNKED = (
    b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
)
HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
#: Requests, what is sent twice a second after them, and the statuses that are right; 0 means closed.
PROBES: dict[str, tuple[bytes, bytes, tuple[int, ...]]] = {
    "nothing": (b"", b"", (0,)),
    "empty lines": (b"", b"\r\n", (0, 408)),
    "half a head": (b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nX-A: ", b"", (408,)),
    "a head byte by byte": (b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nX-A: ", b"a", (408,)),
    "half a body": (head(1000) + b"abc", b"", (408,)),
    "a body byte by byte": (head(1000) + b"abc", b"a", (408,)),
    "endless chunks": (
        b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\na\r\n",
        (408,),
    ),
    "a length and chunks": (head(3, **{"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n", b"", (400,)),
    "two lengths": (head(3, **{"Content-length": "4"}) + b"abcd", b"", (400,)),
    "a negative length": (head(-3), b"", (400,)),
    "a huge length": (head(10**30), b"", (400,)),
    "a long header": (head(0, **{"X-A": "a" * (1 << 20)}), b"", (431,)),
    "20,000 headers": (head(0, **{f"X-{n}": "a" for n in range(20_000)}), b"", (431,)),
    "endless trailers": (
        CHUNKED + b"0\r\n",
        b"X-A: " + b"a" * 1000 + b"\r\n",
        (408,),
    ),
    "a tunnel": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", b"", (400, 404, 405)),
    "another protocol": (
        head(3, Upgrade="h2c", Connection="Upgrade") + b"abc",
        b"",
        (400, 408),
    ),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"", (400,)),
    "a request for a proxy": (b"GET http://127.0.0.1:1/a HTTP/1.1\r\nHost: a\r\n\r\n", b"", (404,)),
    "half a handshake": (
        b"GET /v1/stream HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"",
        (400, 404, 426, 500),
    ),
}


@pytest.fixture(scope="module")
def strict(model: Any) -> Iterator[RunningServer]:
    """A server with little patience."""
    times = Times(head=0.7, body=0.7, idle=0.7, write=0.5, answer=20.0)
    settings = Settings(times=times, limits=Limits(body=1 << 20), connections=60)
    running = serve(model, port=0, block=False, settings=settings)
    assert running is not None
    with running:
        yield running


def test_slow_and_damaged_requests_are_closed(strict: RunningServer) -> None:
    def probe(name: str) -> tuple[str, int, float]:
        content, drip, _ = PROBES[name]
        began = time.monotonic()
        got = raw(strict.url, content, drip=drip)
        return name, int(got.split(b" ", 2)[1]) if got else 0, time.monotonic() - began

    with ThreadPoolExecutor(len(PROBES)) as pool:
        for name, status, seconds in pool.map(probe, PROBES):
            assert status in PROBES[name][2], (name, status)
            assert seconds < 15, name
    said = raw(strict.url, PROBES["TLS"][0]).partition(b"\r\n\r\n")[2]
    assert list(json.loads(said)) == ["error"]
    assert ask(strict.url, "/healthz").status == 200
    wait_for(lambda: inside(strict) == 0)


def test_a_body_that_never_ends_is_cut_off(strict: RunningServer) -> None:
    with opened(strict, CHUNKED) as sender:
        sent = 0
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while sent < 64 << 20:
                sender.sendall(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
                sent += 1 << 16
    assert sent < 16 << 20
    wait_for(lambda: inside(strict) == 0)


def test_a_client_that_does_not_read_is_cut_off(strict: RunningServer) -> None:
    with opened(strict, b"") as sender:
        sender.settimeout(0.5)
        with contextlib.suppress(OSError):
            for _ in range(40):
                sender.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
        wait_for(lambda: not strict._server.server_state.connections)
        sender.settimeout(30)
        with contextlib.suppress(ConnectionResetError):
            while sender.recv(1 << 20):
                pass  # what was on the way
    assert ask(strict.url, "/healthz").status == 200


def test_more_connections_than_allowed_are_refused(strict: RunningServer) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(opened(strict, b"")) for _ in range(60)]
        assert idle
        last = stack.enter_context(opened(strict, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"))
        assert last.recv(4096).startswith(b"HTTP/1.1 503 ")
    wait_for(lambda: ask(strict.url, "/healthz").status == 200)


def test_pings_and_frames_of_a_client_that_does_not_read_do_not_pile_up(strict: RunningServer) -> None:
    with Stream(strict.url) as stream:
        ping = b"\x89\xfd" + bytes(4) + bytes(125)
        stream.socket.settimeout(0.5)
        with contextlib.suppress(OSError):
            for _ in range(400):
                stream.socket.sendall(ping * 1000)
    assert ask(strict.url, "/healthz").status == 200


def test_a_stream_stays_open_beyond_the_times_of_requests(strict: RunningServer) -> None:
    with Stream(strict.url) as stream:
        for number in range(4):
            stream.send(PHOTO)
            assert stream.answer()["frame"] == number
            time.sleep(0.6)  # all together longer than a head, a body or an idle connection may take
    # The same on a connection that has answered a request before.
    with opened(strict, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n") as sender:
        assert sender.recv(4096).startswith(b"HTTP/1.1 200 ")
        sender.sendall(HANDSHAKE)
        assert sender.recv(4096).startswith(b"HTTP/1.1 101 ")
        sender.settimeout(2)
        with pytest.raises(TimeoutError):
            sender.recv(1)


def mutated(content: bytes, dice: random.Random) -> bytes:
    """Return bytes with a few changes: bytes replaced, parts removed, repeated or cut off."""
    changed = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(changed) + 1)
        length = dice.choice((1, 2, 8, 64))
        kind = dice.randrange(6)
        if kind == 0:
            changed[place : place + length] = dice.randbytes(length)
        elif kind == 1:
            del changed[place : place + length]
        elif kind == 2:
            changed[place:place] = changed[place : place + length] * dice.choice((1, 2, 50))
        elif kind == 3:
            changed[place : place + 1] = dice.choice(
                (b"\0", b"\r\n", b"--", b'"', b"%00", b"{", b"[", b",", b"-1")
            )
        elif kind == 4:
            del changed[place:]
        else:
            changed[place:place] = dice.choice((b"9" * 40, b"\xff\xfe", b"nan", b"1e999", b";" * 30))
    return bytes(changed)


def requests() -> list[bytes]:
    """Return one valid request of each kind."""
    form_body, form_kind = form([PHOTO, PHOTO], ["a.png", "b.png"], balance="0.5", whole_image="1")
    bodies = [
        ("/v1/predict?whole_image=1&balance=0.5&head=ferplus", PHOTO, "image/png"),
        ("/v1/predict?min_face=30", PHOTO, "application/octet-stream"),
        ("/v1/predict", form_body, form_kind),
        ("/v1/predict", base64_json([PHOTO], balance=0.5, whole_image=True), "application/json"),
        ("/v1/annotate?format=jpeg&whole_image=1", PHOTO, "image/png"),
    ]
    made = [
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n\r\n".encode()
        + body
        for path, body, kind in bodies
    ]
    return [*made, b"GET /v1/model?a=b HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nOrigin: http://b\r\n\r\n"]


def send_mutations(server: RunningServer, count: int, seed: int) -> Counter[int]:
    """Send mutated requests, each on its own connection, and return how often each status came."""
    dice = random.Random(seed)
    valid = requests()

    def status(content: bytes) -> int:
        got = b""
        with opened(server, b"") as sender, contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sender.sendall(content)
            while chunk := sender.recv(1 << 16):
                got += chunk
        return int(got.split(b" ", 2)[1]) if got.startswith(b"HTTP/1.1 ") else 0

    with ThreadPoolExecutor(16) as pool:
        return Counter(pool.map(status, (mutated(dice.choice(valid), dice) for _ in range(count))))


def test_mutated_requests_never_cause_an_error_of_the_server(model: Any) -> None:
    # The server closes connections soon, because a mutated request may state a length that never arrives.
    running = serve(model, port=0, block=False, settings=Settings(times=Times(head=0.3, body=0.3, idle=0.3)))
    assert running is not None
    with running as server:
        statuses = send_mutations(server, 600, seed=1)
        assert max(statuses) < 500, statuses
        assert len(statuses) > 4
        assert ask(server.url, "/v1/predict", PHOTO, "image/png").status == 200
        wait_for(lambda: inside(server) == 0)
