"""Errors: one base, and what a message says."""

import pytest

from mien import errors


def test_one_base_catches_all_and_bad_input_exits_with_2() -> None:
    for name in ("ImageError", "ArchiveError", "DataError", "RecipeError", "RunError", "ModelError"):
        kind = getattr(errors, name)
        assert issubclass(kind, errors.InputError)
        assert kind("said").exit_code == 2
    for kind in (errors.OutputError, errors.TrainingError, errors.InputError):
        assert issubclass(kind, errors.MienError)
        assert kind("said").exit_code == 2


def test_a_missing_extra_says_what_to_install() -> None:
    error = errors.MissingExtra("plotting", "plot")
    assert 'pip install "mien[plot]"' in str(error)
    assert error.extra == "plot"
    assert error.exit_code == 2


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_being_stopped_exits_with_the_signals_code(number: int, code: int) -> None:
    assert errors.Stopped("stopped", number).exit_code == code
