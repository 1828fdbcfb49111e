"""Numbers, words and escapes in messages, tables and reports."""

import doctest

import pytest

from mien import _text


def test_examples_are_right() -> None:
    result = doctest.testmod(_text)
    assert result.attempted > 10
    assert result.failed == 0


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0s"), (59.4, "59s"), (59.6, "1m 00s"), (125, "2m 05s"), (7325, "2h 02m"), (float("inf"), "long")],
)
def test_durations_have_two_units(seconds: float, shown: str) -> None:
    assert _text.format_duration(seconds) == shown


def test_percent_of_a_table_has_no_sign() -> None:
    assert _text.format_percent(0.12345, digits=2, unit="") == "12.35"
    assert _text.format_percent(None, (0, 1)) == "–"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0004, "0.0"), (-0.0004, "0.0"), (0.013, "+1.3"), (-1, "−100.0")]
)
def test_points_have_a_sign_unless_they_are_zero(value: float, shown: str) -> None:
    assert _text.format_points(value) == shown


@pytest.mark.parametrize(
    ("p", "shown"), [(0, "< 0.0001"), (0.0123, "= 0.012"), (0.0999, "= 0.1"), (0.5, "= 0.50")]
)
def test_p_values_keep_two_digits(p: float, shown: str) -> None:
    assert _text.format_p_value(p) == shown


def test_lists_of_words() -> None:
    assert _text.join_words([]) == ""
    assert _text.join_words(["a"]) == "a"
    assert _text.join_words(["a", "b"], "or") == "a or b"


def test_a_quoted_name_fits_a_line() -> None:
    assert _text.quote("é\x1b[2J\udcff") == "'\\xe9\\x1b[2J\\udcff'"
    assert len(_text.quote("n" * 300)) <= 100


def test_what_cannot_be_shown_becomes_an_escape() -> None:
    odd = "é\x1b[2J\n\u202e\udcff"
    assert _text.escape_terminal(odd) == "é\\x1b[2J\\n\u202e\udcff"
    assert _text.escape_terminal(odd, keep="\n") == "é\\x1b[2J\n\u202e\udcff"
    assert _text.make_encodable(odd) == "é\x1b[2J\n\u202e\\udcff"
    assert _text.make_printable(odd) == "é\\x1b[2J\\n\\u202e\\udcff"
    assert _text.join_lines(" a\n\tb ") == "a b"


@pytest.mark.parametrize("text", ["=1+1", " =1", "+1", "-1", "@x", "\tx", "\rx"])
def test_spreadsheets_run_no_formula(text: str) -> None:
    assert _text.escape_formula(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "-", "a", "a=1", "1"])
def test_other_cells_stay(text: str) -> None:
    assert _text.escape_formula(text) == text


def test_markup_stays_text() -> None:
    assert _text.escape_markdown("# <b>`x`|$y$") == "\\# \\<b\\>\\`x\\`\\|\\$y\\$"
    assert _text.escape_latex("a_b–c|\\") == r"a\_b--c\textbar{}\textbackslash{}"
