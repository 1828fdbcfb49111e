"""The comparison with golden files itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

import conftest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(conftest, "GOLDEN", tmp_path)
    return tmp_path


@pytest.fixture
def updating(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[[bool], None]:
    return lambda on: monkeypatch.setattr(request.config.option, "update_golden", on)


def test_an_update_writes_what_a_comparison_then_accepts(
    folder: Path, golden: Callable[[str, str], None], updating: Callable[[bool], None]
) -> None:
    updating(True)
    golden("deep/table.txt", "a × b\n1\n")
    updating(False)
    golden("deep/table.txt", "a × b\n1\n")
    assert (folder / "deep" / "table.txt").read_bytes() == "a × b\n1\n".encode()


def test_a_difference_is_shown_as_a_diff_with_the_command_that_accepts_it(
    folder: Path, golden: Callable[[str, str], None], updating: Callable[[bool], None]
) -> None:
    updating(False)
    (folder / "table.txt").write_text("one\ntwo\n")
    for name, text, says in (
        ("table.txt", "one\nthree\n", "-two\n+three"),
        ("table.txt", "one\ntwo", "white space"),
        ("absent.txt", "", "does not exist"),
    ):
        with pytest.raises(pytest.fail.Exception) as caught:
            golden(name, text)
        assert says in str(caught.value)
        assert "pytest --update-golden 'tests/test_golden.py::" in str(caught.value)
