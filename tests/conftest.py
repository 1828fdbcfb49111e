"""What every test uses: no network, small synthetic data sets, and golden files."""

import difflib
import importlib.machinery
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import builders
from mien import _processes
from mien.data import datasets

#: Fixtures of the tests of the web page, shared by several files.
pytest_plugins = ("web_fixtures",)

GOLDEN = Path(__file__).parent / "golden"


#: Where packages are installed. Below it nothing is measured.
_PACKAGES = str(Path(pytest.__file__).parent.parent) + os.sep
_execute = importlib.machinery.SourceFileLoader.exec_module


def _execute_untraced(loader: importlib.machinery.SourceFileLoader, module: ModuleType) -> None:
    """Import a module of an installed package without the tracer of coverage.

    The tracer sees each line before it knows that none of them counts. TensorFlow takes half as long again.
    """
    trace = sys.gettrace()
    if trace is None or not loader.path.startswith(_PACKAGES):
        _execute(loader, module)
        return
    sys.settrace(None)
    try:
        _execute(loader, module)
    finally:
        sys.settrace(trace)


importlib.machinery.SourceFileLoader.exec_module = _execute_untraced  # type: ignore[method-assign]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write what the tests get to tests/golden/ instead of comparing it; then read git diff",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


class NoNetwork(OSError):
    """A test tried to reach the network."""


@pytest.fixture(autouse=True)
def _blocked_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and not str(address).startswith("('127."):
            raise NoNetwork(f"a test tried to connect to {address}")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(scope="session", autouse=True)
def _toy_network() -> None:
    _processes.claim_process()
    builders.add_toy_network()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep crops out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def _full_comparisons() -> Iterator[None]:
    """Make sure that a module leaves no smaller work to those that this process runs after it."""
    yield
    if (exporters := sys.modules.get("mien.release.exporters")) is not None:
        assert exporters.write_model.__kwdefaults__["at_least"] == exporters.IMAGES


@pytest.fixture(scope="module")
def small_exports() -> Iterator[None]:
    """Compare exports on few images in a module, and write placeholders for figures."""
    with builders.few_comparisons(), builders.placeholder_figures():
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of that name in tests/golden/, or rewrite the file.

    The test first replaces what differs between machines and runs: paths, dates, seconds, versions.
    """

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            return
        update = f"if this is right, run: pytest --update-golden {request.node.nodeid!r}, and read git diff"
        if not path.is_file():
            pytest.fail(f"tests/golden/{name} does not exist; {update}", pytrace=False)
        expected = path.read_text(encoding="utf-8")
        if text != expected:
            lines = difflib.unified_diff(
                expected.splitlines(), text.splitlines(), f"tests/golden/{name}", "this test", lineterm=""
            )
            change = "\n".join(lines) or "the files differ in white space at the end of a line"
            pytest.fail(f"{change}\n\n{update}", pytrace=False)

    return compare


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def fer2013() -> datasets.Dataset:
    """FER2013, for tests marked real."""
    source = os.environ.get("MIEN_FER2013")
    if not source:
        pytest.skip("set MIEN_FER2013 to fer2013.csv with the rows of Training and PublicTest")
    return datasets.load(source)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the runs in tests/data/ were trained on: faces.zip, fer2013.csv and ferplus.csv."""
    folder = tmp_path_factory.mktemp("faces")
    builders.faces_archive(folder / "faces.zip")
    builders.faces_csv(folder)
    return folder


@pytest.fixture
def tiny_run(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with one output head, trained on faces.zip."""
    return builders.tiny_run("tiny-run", tmp_path_factory.mktemp("runs") / "tiny-run", faces)


@pytest.fixture
def tiny_run_votes(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with two output heads, trained on fer2013.csv and ferplus.csv."""
    return builders.tiny_run("tiny-run-votes", tmp_path_factory.mktemp("runs") / "tiny-run-votes", faces)


@pytest.fixture
def make_blobs() -> Callable[..., datasets.Dataset]:
    return builders.blobs
