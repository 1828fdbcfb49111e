"""The figures of the server in full: storms, a long run, 50,000 mutated requests, and schemathesis."""

import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mien
from http_clients import ask
from mien.server.processes import serve
from mien.server.settings import Settings, Times
from test_server_load import PHOTO, inside, send_mutations, wait_for

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def serving() -> ModuleType:
    """The module benchmarks/serving.py."""
    if not Path("/proc/self/statm").is_file():
        pytest.skip("needs /proc for memory and file handles")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        found = importlib.util.spec_from_file_location("serving", BENCHMARKS / "serving.py")
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        patch.setitem(sys.modules, "serving", module)
        found.loader.exec_module(module)
        return module


@pytest.mark.slow
def test_a_storm_loses_nothing(serving: ModuleType) -> None:
    found = serving.storm("fast", 60.0)
    assert set(found["statuses"]) == {"200", "503"}
    before, peak, _ = found["MiB before, peak, at the end"]
    assert peak <= 1.05 * before
    assert found["seconds of the first request afterwards"] <= 1
    assert found["its status"] == [200]


@pytest.mark.slow
def test_a_long_run_leaks_nothing(serving: ModuleType) -> None:
    found = serving.soak("fast", 600.0)
    assert set(found["statuses"]) == {"200", "400", "404", "422"}
    assert found["growth of memory"] <= 0.02
    before, after = found["file handles before and after"]
    assert after <= before


def resident() -> float:
    """Return the resident pages of this process."""
    return float(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.slow
def test_fifty_thousand_mutated_requests_cause_no_error_of_the_server() -> None:
    times = Times(head=0.3, body=0.3, idle=0.3)
    running = serve("fast", port=0, block=False, settings=Settings(times=times))
    assert running is not None
    with running as server:
        statuses: Counter[int] = send_mutations(server, 5_000, seed=2)
        before = resident()
        for seed in range(3, 12):
            statuses += send_mutations(server, 5_000, seed=seed)
        assert max(statuses) < 500, statuses
        assert resident() <= 1.1 * before
        assert ask(server.url, "/v1/predict", PHOTO, "image/png").status == 200
        wait_for(lambda: inside(server) == 0)


@pytest.mark.slow
def test_schemathesis_finds_no_error_of_the_server() -> None:
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed (extra conformance)")
    running: Any = serve(mien.load_model("fast", threads=1), port=0, block=False)
    with running as server:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
        checks = (
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
        )
        command += ["--max-examples", "100", "--generation-database", "none", "--checks", checks]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
        assert done.returncode == 0, done.stdout[-4000:]
