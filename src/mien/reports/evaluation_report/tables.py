"""The main results as tables for a paper or a README: LaTeX and Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mien.errors import InputError

#: Names of the formats, and the suffix of a file of each.
FORMATS = {"md": ".md", "latex": ".tex"}

_HEADS = ("split", "n", "accuracy", "balanced accuracy", "macro F1", "NLL", "Brier", "ECE")
_CLASS_HEADS = ("class", "n", "precision", "recall", "F1")
_NOTE = "Percent with 95 % intervals; NLL, Brier and ECE as they are."

_IN_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~$&])")
_IN_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    **{char: f"\\{char}" for char in "&%$#_{}"},
}

#: The figures without copies, by their keys in `against_training`.
_WITHOUT = {
    "without_equal": "equal",
    "without_either": "equal and near",
    "without_any": "equal, near and otherwise cut",
}


def table(report: Mapping[str, Any], form: str) -> str:
    """Return the main results, and those of each class, as two tables.

    Args:
        report: What `evaluate.Report.to_dict` returns, or `measure`.
        form: One of `FORMATS`.

    Returns:
        The tables' text, with a line's end; names that hold markup or formulas are escaped.

    Raises:
        InputError: There is no such format.
    """
    if form not in FORMATS:
        raise InputError(f"{form!r} is no format of tables; choose {' or '.join(FORMATS)}")
    rows = [_row(report, _what(report))]
    rows += [_row(other, _what(other)) for other in report.get("readings", {}).values()]
    bare = report.get("against_training") or {}
    for key, words in _WITHOUT.items():
        if bare.get(key):
            rows.append(_row(bare[key], f"{_what(report)}, without {words} images of training"))
    classes = [
        (
            name,
            str(each["n"]),
            *(_share(each[key], each.get(f"{key}_interval")) for key in ("precision", "recall", "f1")),
        )
        for name, each in report["per_class"].items()
    ]
    draw = _markdown if form == "md" else _latex
    return "\n".join([draw(_HEADS, rows), draw(_CLASS_HEADS, classes), _note(form)])


def _what(report: Mapping[str, Any]) -> str:
    reading = f", read as {report['reading']}" if report["reading"] not in ("", "labels") else ""
    views = f", mean of {report['views']} views" if report.get("views", 1) > 1 else ""
    return f"{report['data']} {report['split']}{reading}{views}".strip()


def _row(report: Mapping[str, Any], what: str) -> tuple[str, ...]:
    shares = (
        _share(report[key], report[f"{key}_interval"])
        for key in ("accuracy", "balanced_accuracy", "macro_f1")
    )
    return (what, str(report["n"]), *shares, *(f"{report[key]:.3f}" for key in ("nll", "brier", "ece")))


def _share(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "–"
    if interval is None:
        return f"{100 * value:.1f}"
    low, high = interval
    return f"{100 * value:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = "|---|" + "---:|" * (len(heads) - 1)
    escaped = ([_IN_MARKDOWN.sub(r"\\\1", _line(cell)) for cell in row] for row in (heads, *rows))
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return "\n".join([lines[0], rule, *lines[1:], ""])


def _latex(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [
        " & ".join("".join(_IN_LATEX.get(char, char) for char in _line(cell)) for cell in row) + r" \\"
        for row in (heads, *rows)
    ]
    begin = r"\begin{tabular}{l" + "r" * (len(heads) - 1) + "}"
    return "\n".join([begin, r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}", ""])


def _note(form: str) -> str:
    return f"{_NOTE}\n" if form == "md" else f"% {_NOTE}\n"


def _line(text: str) -> str:
    """Return a name on one line, with what a text cannot hold as an escape."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(shown.split()))
