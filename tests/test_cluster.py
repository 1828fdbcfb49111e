"""Predictions on a Dask cluster: the rows of the local command, whatever dies on the way."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

import mien
from builders import encoded, has_line, refused
from mien import _dask, cli
from mien.errors import InputError, MissingExtra
from mien.inference import cluster, parts, tables
from mien.inference.merging import merge_parts
from mien.inference.predictor import Predictor
from mien.types import Prediction, Problem
from mien.vision.detectors import CropTransform, Detection

distributed = pytest.importorskip("distributed", reason="it comes with mien[cluster]")
parquet = pytest.importorskip("pyarrow.parquet", reason="it comes with mien[cluster]")

FACE = Image.fromarray(np.ascontiguousarray(astronaut()[:320, 60:380])).resize((200, 200))


def write_photos(folder: Path, count: int) -> list[str]:
    """Write JPEG files with a face, 5 % of which are broken, to a folder with subfolders."""
    files = []
    for number in range(count):
        data = encoded(Image.fromarray(np.roll(np.asarray(FACE), number % 50, axis=1)), "JPEG", quality=90)
        path = folder / ("", "a", "a/deep", "z")[number % 4] / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[:200] if number % 20 == 7 else data)
        files.append(str(path))
    return files


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A cluster with two workers on this machine."""
    with cluster.connect("local", workers=2) as client:
        yield client


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("fast")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster") / "photos"
    write_photos(folder, 80)
    (folder / "notes.txt").write_text("nothing")
    return folder


def run(*words: object) -> int:
    return cli.run([str(word) for word in words])


@pytest.mark.parametrize("count", [80, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_rows_are_those_of_the_local_command(
    count: int, client: Any, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photos(Path("photos"), count)
    local = ["predict", "photos", "--model", "fast"]
    spread = [*local, "--cluster", client.scheduler.address]
    assert run(*local, "--to", "local.parquet") == 3
    told = capsys.readouterr().err
    assert run(*spread, "--to", "one.parquet") == 3
    assert capsys.readouterr().err == told.replace("local.parquet", "one.parquet")
    assert run(*spread, "--to", "many") == 3
    assert run("merge", "many", "--to", "merged.parquet") == 3
    expected = parquet.read_table("local.parquet")
    assert expected.num_rows == count - count // 20
    for path in ("one.parquet", "merged.parquet"):
        for row, other in zip(expected.to_pylist(), parquet.read_table(path).to_pylist(), strict=True):
            assert row == other
        assert tables.facts_of(path) == tables.facts_of("local.parquet")
        assert len(tables.facts_of(path)[1]) == count // 20
    capsys.readouterr()
    printed = []
    for command in (local, spread):
        assert run(*command, "--jsonl") == 3
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_python_gets_the_predictions_in_order(client: Any, predictor: Predictor, photos: Path) -> None:
    files = sorted(photos.rglob("*.jpg"), reverse=True)
    expected = list(predictor.images(map(str, files)))
    assert sum(isinstance(item, Problem) for item in expected) == 4
    assert list(cluster.predict(files, client=client, predictor=predictor)) == expected
    assert list(cluster.predict([], client=client, predictor=predictor)) == []
    with refused(InputError):
        cluster.predict("photo.jpg", client=client)  # type: ignore[arg-type]


def test_relative_paths_are_those_of_this_process(
    client: Any, predictor: Predictor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    files = ["./00000.jpg", "a/../00004.jpg", "a/deep/00002.jpg", "gone.jpg", "z/00007.jpg"]
    assert list(cluster.predict(files, client=client, predictor=predictor)) == list(predictor.images(files))


def test_ending_early_cancels_the_other_tasks(client: Any, predictor: Predictor, photos: Path) -> None:
    files = [str(path) for path in photos.rglob("*.jpg")] * 30
    items = cluster.predict(files, client=client, predictor=predictor)
    assert isinstance(next(items), Prediction | Problem)
    items.close()
    deadline = time.monotonic() + 60
    while any(client.processing().values()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    plugins = client.run(
        lambda dask_worker: [name for name in dask_worker.plugins if name.startswith("mien-")]
    )
    assert all(names == ["mien-without-pages"] for names in plugins.values())


def _listening(process: int) -> list[tuple[str, int]]:
    """Return the addresses on which a process accepts connections."""
    sockets = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets |= set(re.findall(r"socket:\[(\d+)\]", str(descriptor.readlink())))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                host, port = fields[1].split(":")
                found.append((host, int(port, 16)))
    return found


@pytest.mark.skipif(not Path("/proc/self/net").exists(), reason="asks Linux which ports are open")
def test_a_local_cluster_listens_on_loopback_only_and_answers_no_browser(client: Any) -> None:
    processes = [os.getpid(), *client.run(os.getpid).values()]
    ports = [place for process in processes for place in _listening(process)]
    assert len(ports) >= 3
    for host, port in ports:
        assert host == "0100007F", f"port {port} is open on {host}"
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with contextlib.suppress(TimeoutError, ConnectionError):
                assert b"HTTP/" not in connection.recv(4096)


class Counting:
    """A detector that writes down each image that it gets, and can be slow."""

    name, crop = "counting", CropTransform(0, 0, 1)

    def __init__(self, log: Path, *, deadly: bool = False) -> None:
        self.log, self.deadly = str(log), deadly

    def find(self, image: np.ndarray, *, smallest: int) -> list[Detection]:
        if self.deadly:
            os._exit(1)
        time.sleep(0.02)
        with Path(self.log).open("ab") as file:  # one write, so that processes can share the file
            file.write(b"%d %d\n" % (os.getpid(), image.shape[0] * 1000 + image.shape[1]))
        return [Detection(10, 10, 20, 20, 0.9)]


@contextlib.contextmanager
def with_tests_on_the_path() -> Iterator[None]:
    """Let new worker processes import this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}")
        yield


@pytest.mark.long
def test_a_killed_worker_costs_its_block_and_no_more(tmp_path: Path) -> None:
    """Each image has a size of its own, by which the log tells it."""
    files = []
    for number in range(6 * cluster.BLOCK):
        path = tmp_path / f"{number:04}.png"
        Image.new("L", (40 + number, 40)).save(path)
        files.append(str(path))
    log = tmp_path / "log"
    slow = Predictor("fast", detector=Counting(log), auto_rotate=False)
    with with_tests_on_the_path(), cluster.connect("local", workers=2) as client:
        items = cluster.predict(files, client=client, predictor=slow)
        found = [next(items)]
        victim = next(iter(client.run(os.getpid).values()))
        os.kill(victim, signal.SIGKILL)
        found += list(items)
    assert [item.source for item in found] == files
    assert all(isinstance(item, Prediction) and len(item.faces) == 1 for item in found)
    seen = [line.split() for line in log.read_text().splitlines()]
    assert len({process for process, _ in seen}) >= 2
    times = Counter(image for _, image in seen)
    assert len(times) == len(files)
    # What the dead worker had finished was fetched; what it was doing is done again.
    assert sum(times.values()) <= len(files) + 2 * cluster.BLOCK
    assert {process for process, image in seen if times[image] > 1} & {str(victim)} or max(
        times.values()
    ) == 1


@pytest.mark.slow
def test_images_that_kill_every_worker_are_an_error(tmp_path: Path) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    deadly = Predictor("fast", detector=Counting(tmp_path / "log", deadly=True), auto_rotate=False)
    with (
        with_tests_on_the_path(),
        cluster.connect("local", workers=1) as client,
        refused(InputError, "workers died", "memory"),
    ):
        list(cluster.predict([str(tmp_path / "a.png")], client=client, predictor=deadly))


def test_a_stopped_run_continues_after_its_last_part(
    client: Any, photos: Path, away: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parts, "SIZE", 10)
    words = ["predict", photos, "--model", "fast", "--cluster", client.scheduler.address, "--to", "out"]
    found = mien.predict_files(
        photos, predictor=Predictor("fast"), cluster=client.scheduler.address, to="out", workers=None
    )
    items = iter(found)
    for _ in range(35):
        next(items)
    items.close()  # type: ignore[attr-defined]
    made = {path: path.stat().st_mtime_ns for path in Path("out").glob("part-*")}
    assert len(made) == 3
    assert run("merge", "out", "--to", "all.parquet") == 2
    assert has_line(capsys.readouterr().err, "out", "--resume")
    for other, option in ((["--model", "default"], "--model"), (["--shard", "1/2"], "--shard")):
        assert run(*words, *other, "--resume") == 2
        assert has_line(capsys.readouterr().err, option)
    assert run(*words) == 2
    assert has_line(capsys.readouterr().err, "out", "--resume")
    assert run(*words, "--resume") == 3
    assert has_line(capsys.readouterr().err, 30)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert sorted(path.name for path in Path("out").iterdir()) == [
        f"part-{number:05}.parquet" for number in range(1, 9)
    ]
    assert merge_parts(["out"], "all.parquet").images == 76
    assert run("predict", photos, "--model", "fast", "--to", "whole.parquet") == 3
    assert parquet.read_table("all.parquet").equals(parquet.read_table("whole.parquet"))
    capsys.readouterr()
    assert run(*words, "--resume") == 3  # complete, and what could not be read is said again
    assert has_line(capsys.readouterr().err, 4, "earlier")
    assert sorted(path.name for path in Path("out").iterdir()) == [
        f"part-{number:05}.parquet" for number in range(1, 9)
    ]


def test_shards_can_be_folders(client: Any, photos: Path, away: Path) -> None:
    words = ["predict", photos, "--model", "fast"]
    for number in (1, 2):
        more = ["--cluster", client.scheduler.address] if number == 1 else []
        assert run(*words, *more, "--shard", f"{number}/2", "--to", f"part-{number}") == 3
    assert run("merge", "part-1", "part-2", "--to", "all.parquet") == 3
    assert run(*words, "--to", "whole.parquet") == 3
    assert parquet.read_table("all.parquet").equals(parquet.read_table("whole.parquet"))
    with refused(InputError, "2/2"):
        merge_parts(["part-1"], "x.parquet")
    with refused(InputError, ".csv"):
        merge_parts(["part-1", "part-2"], "x.csv")
    Path("part-1/part-00009.parquet").write_bytes(b"PAR1")
    with refused(InputError, "part-00009"):
        merge_parts(["part-1", "part-2"], "x.parquet")
    with refused(InputError, "part-00009"):
        list(mien.predict_files(photos, predictor=Predictor("fast"), to="part-1", shard="1/2", resume=True))


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks Linux which processes there are")
def test_ctrl_c_ends_every_process_and_the_run_goes_on(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 300)
    code = (
        "from mien.inference import parts; parts.SIZE = 20\nfrom mien.__main__ import main\n"
        "if __name__ == '__main__': main()"
    )
    (tmp_path / "small.py").write_text(code)
    command = [sys.executable, "small.py", "predict", "photos", "--model", "fast", "--cluster", "local"]
    command += ["--workers", "2", "--to", "out"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
    )
    deadline = time.monotonic() + 200
    while not (tmp_path / "out" / "part-00002.parquet").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert b"Traceback" not in err
    assert b"--resume" in err
    assert out == b""
    assert _group(process.pid) == []
    done = subprocess.run([*command, "--resume"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "distributed" not in done.stderr
    assert merge_parts([tmp_path / "out"], tmp_path / "all.parquet").images == 285


def _group(group: int) -> list[int]:
    """Return the living processes of a group."""
    found = []
    for place in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(place.name))
    return found


def test_urls_are_read_by_the_workers(
    client: Any, photos: Path, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = photos.as_uri()
    words = ["predict", url, "--model", "fast", "--cluster", client.scheduler.address]
    assert run(*words, "--to", "all.jsonl") == 3
    told = capsys.readouterr().err
    assert has_line(told, "notes.txt")
    assert run("predict", photos, "--model", "fast", "--to", "local.jsonl") == 3
    assert Path("all.jsonl").read_text() == Path("local.jsonl").read_text().replace(str(photos), url)
    for number in (1, 2):  # the shards of a URL are those of the folder
        assert run(*words, "--shard", f"{number}/2", "--to", f"{number}.jsonl") == 3
        assert (
            run("predict", photos, "--model", "fast", "--shard", f"{number}/2", "--to", f"l{number}.jsonl")
            == 3
        )
        assert Path(f"{number}.jsonl").read_text() == Path(f"l{number}.jsonl").read_text().replace(
            str(photos), url
        )
    assert run("predict", f"{url}/0*.jpg", f"{url}/a/00001.jpg", *words[2:], "--to", "some.jsonl") == 0
    assert len(Path("some.jsonl").read_text().splitlines()) == 21
    gone = list(cluster.predict([f"{url}/gone.jpg"], client=client, predictor=Predictor("fast")))
    assert isinstance(gone[0], Problem)
    assert "gone.jpg" in gone[0].reason


def test_bad_urls_are_one_sentence(
    client: Any, photos: Path, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", "fast", "--cluster", client.scheduler.address, "--to", "x.csv"]
    for url, named in (
        ("nonsense://a/b", "nonsense"),
        ("s3://bucket/photos", "s3fs"),
        (f"{photos.as_uri()}/gone", "gone"),
        (f"{photos.as_uri()}/*.gif", "*.gif"),
        ("zip://*.jpg::file:///a.zip", "::"),
    ):
        if url.startswith("s3") and shutil.which("aws"):
            continue
        assert run("predict", url, *words) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert named in said
    assert run("predict", "s3://bucket/photos", "--model", "fast") == 2
    assert has_line(capsys.readouterr().err, "s3://bucket/photos", "--cluster local")
    assert list(away.iterdir()) == []


@contextlib.contextmanager
def _other_service(greeting: bytes) -> Iterator[str]:
    """Yield the address of a service that greets, and then waits."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as connections:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = connections.enter_context(server.accept()[0])
                    connection.sendall(greeting)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("nonsense", id="no port"),
        pytest.param("", id="empty"),
        pytest.param("nonsense://1:2", id="no protocol"),
        pytest.param("tls://127.0.0.1:1", id="no certificate"),
        pytest.param("tcp://127.0.0.1:1", id="nobody"),
        pytest.param(b"", id="silent service"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="ssh"),
    ],
)
def test_a_client_that_cannot_connect_is_closed_at_once(
    address: str | bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Garbage collection would close it while Dask holds a lock, and wait for that lock forever."""
    monkeypatch.setattr(_dask, "_CONNECT", 1)
    made: list[Any] = []
    begin = distributed.Client.start
    monkeypatch.setattr(
        distributed.Client, "start", lambda self, **options: (made.append(self), begin(self, **options))[1]
    )
    with contextlib.ExitStack() as stack:
        if isinstance(address, bytes):
            address = stack.enter_context(_other_service(address))
        with refused(InputError, "scheduler", address), cluster.connect(address):
            pass
    assert [each.status for each in made] == ["closed"]


def test_bad_clusters_are_one_sentence(
    client: Any, photos: Path, away: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = client.scheduler.address
    monkeypatch.setattr(_dask, "_CONNECT", 2)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        for words, named in (
            (["--cluster", nobody], nobody),
            (["--cluster", "nonsense"], "nonsense"),
            (["--cluster", "nonsense://1:2"], "nonsense"),
            (["--cluster", address, "--workers", "2"], "--workers"),
            (["--cluster", "local", "--workers", "0"], "--workers"),
            (["--cluster", "local", "-"], "stdin"),
        ):
            assert run("predict", photos, "--model", "fast", *words) == 2
            assert has_line(capsys.readouterr().err, named)
    with refused(InputError):
        mien.predict_files([np.zeros((9, 9), np.uint8)], cluster=address)
    for worker_counts in (0, -1):
        with refused(InputError, "workers"), cluster.connect("local", workers=worker_counts):
            pass
    files = [str(next(photos.rglob("*.jpg")))]
    with monkeypatch.context() as patch:
        patch.setattr(mien, "__version__", "99.0")
        with refused(InputError, "99.0", "tcp://"):
            list(cluster.predict(files, client=client))
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "_sees", lambda path: False)
        with refused(InputError, files[0], "storage"):
            list(cluster.predict(files, client=client))

    class Local:
        """A detector that workers cannot get."""

        name, crop, lock = "local", CropTransform(0, 0, 1), threading.Lock()

        def __reduce__(self) -> Any:
            raise TypeError("no copies of me")

    with refused(InputError, "no copies of me"):
        list(cluster.predict(files, client=client, predictor=Predictor("fast", detector=Local())))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with refused(MissingExtra, "mien[cluster]"), cluster.connect("local"):
        pass
    assert run("predict", photos, "--cluster", "local") == 2
    assert "mien[cluster]" in capsys.readouterr().err


def test_a_cluster_that_loses_all_its_workers_is_not_waited_for_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dask, "_CHECK", 0.2)
    monkeypatch.setattr(_dask, "_JOIN", 2)
    files = write_photos(tmp_path, 20 * cluster.BLOCK)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as lost,
        distributed.Client(lost) as client,
    ):
        items = cluster.predict(files, client=client, predictor=Predictor("fast"))
        next(items)
        lost.scale(0)
        with refused(InputError, "no workers", "resume"):
            list(items)


def test_a_cluster_without_workers_is_waited_for_and_then_refused(
    away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dask, "_JOIN", 1)
    with (
        distributed.LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as empty,
        refused(InputError, empty.scheduler_address, "dask worker"),
        cluster.connect(empty.scheduler_address),
    ):
        pass
