"""An evaluation that one can hand to a reviewer: what was scored on what, and all that its figure hides.

found = evaluator.measure_all([model], data, answers)  # an Evaluation, as report.json holds it
report.write(found, answers, "report")             # report.json and report.html
report.table(found, "latex")                       # the main results, for a paper
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import _files
from mien._text import escape_latex, escape_markdown, format_percent
from mien.errors import InputError
from mien.evaluation import evaluator
from mien.evaluation.evaluation import EvaluatedModel, Evaluation, Example, Figures, Point, SplitUse
from mien.evaluation.metrics import RESAMPLES, SMALL_GROUP
from mien.reports import charts
from mien.reports.rendering import render

__all__ = ["FORMATS", "HTML", "JSON", "render_report", "table", "write"]


JSON, HTML = "report.json", "report.html"


def write(
    found: Evaluation,
    answers: evaluator.Predictions,
    folder: str | os.PathLike[str],
    *,
    maps: Mapping[int, NDArray[np.uint8]] | None = None,
    more: Mapping[str, str] | None = None,
) -> tuple[Path, Path]:
    """Write `report.json` and `report.html`: both or neither, each whole.

    The page needs nothing beside itself, and holds pictures of the data: treat it like the data.

    Args:
        found: What `mien.evaluation.evaluator.measure_all` returned.
        answers: What it was measured on.
        folder: Made if need be; other files in it stay.
        maps: Pictures `(h, w, 3)` RGB that explain the answers to some images, by their places in the split;
            they stand beside those images.
        more: Other texts to write with them, by their files' names.

    Returns:
        The two files.

    Raises:
        OutputError: They cannot be written.
    """
    place = Path(folder)
    # A file name that is no UTF-8 goes in as the escapes that JSON has for it.
    text = json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    texts = {JSON: text, HTML: render_report(found, answers.split.images, maps or {}), **(more or {})}
    contents = {name: each.encode(errors="backslashreplace") for name, each in texts.items()}
    with _files.writing(place):
        if place.exists():
            _replace(place, contents)
        else:
            _make(place, contents)
    return place / JSON, place / HTML


def _make(place: Path, contents: Mapping[str, bytes]) -> None:
    """Make a folder with these files, which appears with all of them."""
    new = [folder for folder in place.parents if not folder.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=place.parent))
        try:
            partial.chmod(0o755)
            for name, content in contents.items():
                _files.write(partial / name, content)
            partial.rename(place)
            _files.sync_folder(place.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        for folder in new:
            with contextlib.suppress(OSError):  # it holds the report
                folder.rmdir()


def _replace(place: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder that is there; none of them changes until all have room and right."""
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=place) as partial:
        for name, content in contents.items():
            if (place / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place / name))
            _files.write(Path(partial) / name, content)
        for name in contents:
            (Path(partial) / name).replace(place / name)
    _files.sync_folder(place)


HEADLINES = ("accuracy", "balanced_accuracy", "macro_f1")
_HEADLINE_NAMES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
_LOSS_NAMES = {"nll": "NLL", "brier": "Brier", "ece": "ECE"}
#: Classes whose confusion matrix fits a page; of more, the most frequent confusions are shown.
_MOST_CLASSES, _MOST_PAIRS = 24, 20
#: Probabilities shown beside an image.
_MOST_PROBABILITIES = 4
#: Shares of images answered whose accuracy is in the table.
_COVERAGES = (0.25, 0.5, 0.75, 0.9, 1.0)


def render_report(found: Evaluation, images: NDArray[np.uint8], maps: Mapping[int, NDArray[np.uint8]]) -> str:
    """Return the page.

    Args:
        found: What `mien.evaluation.evaluator.measure_all` returned.
        images: The images of the split, `(n, size, size, 1)` uint8.
        maps: Explanations `(h, w, 3)` RGB of some images, by their places in the split.
    """
    use = found.split_use or SplitUse(role="unknown")
    selective = found.selective.points if found.selective else ()
    names = " + ".join(model.name for model in found.models)
    confusion = np.array(found.confusion)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    many = len(found.labels) > _MOST_CLASSES
    return render(
        "evaluation_report.html.j2",
        title=f"{names} on {found.data}, {found.split}",
        found=found,
        warnings=[*use.warnings, *_small_groups(found), *_doubtful(found.models)],
        headlines=_HEADLINE_NAMES,
        losses=_LOSS_NAMES,
        without=_without_overlap(found),
        confusion=[
            (label, list(zip(counts, row, strict=True)))
            for label, counts, row in zip(found.labels, confusion.tolist(), shares.tolist(), strict=True)
        ],
        confusion_pairs=_frequent_confusions(found.labels, confusion, shares) if many else None,
        coverage_points=_coverage_points(selective),
        worst=[_example(each, images, maps) for each in found.worst],
        uncertain=[_example(each, images, maps) for each in found.uncertain],
        resamples=RESAMPLES,
        interval_bar=charts.interval_bar,
        reliability_diagram=charts.reliability_diagram,
        coverage_curve=charts.coverage_curve,
    )


def _doubtful(models: Sequence[EvaluatedModel]) -> list[str]:
    """Name models that are at chance, and those worse than what they began from."""
    told = [
        f"on val nothing shows that {each.name} is better than always answering the most frequent label"
        for each in models
        if each.at_chance
    ]
    return told + [
        f"on val {each.name} was worse after training than {began['name']}, which it began from"
        for each in models
        if (began := each.began) and began["worse"]
    ]


def _small_groups(found: Evaluation) -> list[str]:
    groups = found.groups.groups if found.groups else []
    names = [group.name for group in groups if group.few]
    if not names:
        return []
    return [f"fewer than {SMALL_GROUP} images are in {', '.join(names)}: their figures say little"]


def _without_overlap(found: Evaluation) -> dict[str, Evaluation | Figures]:
    """Return the figures on all images, and without those that training contains too."""
    overlap = found.training_overlap
    if overlap is None or not overlap.checked:
        return {}
    columns: dict[str, Evaluation | Figures | None] = {
        "all images": found,
        "without equal": overlap.without_exact,
        "without equal and near": overlap.without_near,
        "without these and cut otherwise": overlap.without_recrops,
    }
    return {name: figures for name, figures in columns.items() if figures is not None}


def _frequent_confusions(
    labels: Sequence[str], counts: NDArray[np.int64], shares: NDArray[np.float64]
) -> list[tuple[str, ...]]:
    wrong = counts * (1 - np.eye(len(labels), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_PAIRS]
    return [
        (labels[i], labels[j], f"{counts[i, j]:,}", f"{shares[i, j]:.1%}")
        for i, j in zip(*np.unravel_index(order, counts.shape), strict=True)
        if wrong[i, j]
    ]


def _coverage_points(points: Sequence[Point]) -> list[Point]:
    """Return the first point at or beyond each of `_COVERAGES`, once, because few images make few points."""
    if not points:
        return []
    places = [
        next(i for i, point in enumerate(points) if point.coverage >= share - 1e-9) for share in _COVERAGES
    ]
    return [points[place] for place in dict.fromkeys(places)]


def _example(
    each: Example, images: NDArray[np.uint8], maps: Mapping[int, NDArray[np.uint8]]
) -> dict[str, Any]:
    ordered = sorted(each.probabilities.items(), key=lambda item: -item[1])
    shown = ordered[:_MOST_PROBABILITIES]
    if each.label not in dict(shown):
        shown = [*shown[:-1], (each.label, each.probabilities[each.label])]
    return {
        "answer": each.answer,
        "label": each.label,
        "file": each.file,
        "probabilities": shown,
        "image": images[each.place],
        "map": maps.get(each.place),
    }


#: Names of the formats, and the suffix of a file of each.
FORMATS = {"md": ".md", "latex": ".tex"}

_COLUMNS = ("split", "n", "accuracy", "balanced accuracy", "macro F1", "NLL", "Brier", "ECE")
_CLASS_COLUMNS = ("class", "n", "precision", "recall", "F1")
_NOTE = "Percent with 95 % intervals; NLL, Brier and ECE as they are."

#: The figures without copies, by their keys in `training_overlap`.
_WITHOUT = {
    "without_exact": "equal",
    "without_near": "equal and near",
    "without_recrops": "equal, near and otherwise cut",
}


def table(found: Evaluation, form: str) -> str:
    """Return the main results, and those of each class, as two tables.

    Args:
        found: With as much as was measured.
        form: One of `FORMATS`.

    Returns:
        The tables' text, which ends with a line break; names that hold markup or formulas are escaped.

    Raises:
        InputError: There is no such format.
    """
    if form not in FORMATS:
        raise InputError(f"{form!r} is no format of tables; choose {' or '.join(FORMATS)}")
    rows = [_table_row(found, _what_was_scored(found))]
    rows += [_table_row(other, _what_was_scored(other)) for other in found.heads.values()]
    for key, words in _WITHOUT.items():
        if (figures := getattr(found.training_overlap, key, None)) is not None:
            rows.append(_table_row(figures, f"{_what_was_scored(found)}, without {words} images of training"))
    classes = [
        (
            name,
            str(each.n),
            *(
                format_percent(getattr(each, key), getattr(each, f"{key}_interval"), unit="")
                for key in ("precision", "recall", "f1")
            ),
        )
        for name, each in found.per_class.items()
    ]
    draw = _markdown_table if form == "md" else _latex_table
    note = f"{_NOTE}\n" if form == "md" else f"% {_NOTE}\n"
    return "\n".join([draw(_COLUMNS, rows), draw(_CLASS_COLUMNS, classes), note])


def _what_was_scored(found: Evaluation) -> str:
    head = f", head {found.head}" if found.head not in ("", "labels") else ""
    views = f", mean of {found.views} views" if found.views > 1 else ""
    return f"{found.data} {found.split}{head}{views}".strip()


def _table_row(found: Evaluation | Figures, what: str) -> tuple[str, ...]:
    shares = (
        format_percent(getattr(found, key), getattr(found, f"{key}_interval"), unit="") for key in HEADLINES
    )
    return (what, str(found.n), *shares, *(f"{getattr(found, key):.3f}" for key in ("nll", "brier", "ece")))


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(map(escape_markdown, row))} |" for row in (columns, *rows)]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(columns) - 1), *lines[1:], ""])


def _latex_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"{' & '.join(map(escape_latex, row))} \\\\" for row in (columns, *rows)]
    begin = r"\begin{tabular}{l" + "r" * (len(columns) - 1) + "}"
    return "\n".join([begin, r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}", ""])
