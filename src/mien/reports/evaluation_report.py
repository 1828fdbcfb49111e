"""Write an evaluation as a report: a page and a JSON file with the metrics and how they were measured.

answers = evaluator.predict(model, data.split("test"), labels=data.labels)
found = evaluator.measure_all([model], data, answers)      # an Evaluation, as in report.json
evaluation_report.write(found, answers, "report")          # report.json and report.html
evaluation_report.table(found, "latex")                    # the main results, for a paper
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
    """Write `report.json` and `report.html`, either both or neither.

    The page needs no other file. It contains images of the data set, so treat it like the data set.

    Args:
        found: What `mien.evaluation.evaluator.measure_all` returned.
        answers: The answers that it measured.
        folder: Created if it does not exist; other files in it stay.
        maps: Explanations `(h, w, 3)` RGB of some images, by their places in the split.
        more: Other texts to write, by the names of their files.

    Returns:
        The two files.

    Raises:
        OutputError: They cannot be written.
    """
    place = Path(folder)
    # A file name that is not UTF-8 is written with the escapes that JSON has for it.
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
    """Create a folder that appears with all of these files."""
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
            with contextlib.suppress(OSError):  # it contains the report
                folder.rmdir()


def _replace(place: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into an existing folder; replace none of them before all are written."""
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=place) as partial:
        for name, content in contents.items():
            if (place / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place / name))
            _files.write(Path(partial) / name, content)
        for name in contents:
            (Path(partial) / name).replace(place / name)
    _files.sync_folder(place)


_HEADLINES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
_LOSSES = {"nll": "NLL", "brier": "Brier", "ece": "ECE"}
#: Classes whose confusion matrix fits a page; of more, the most frequent confusions are shown.
_MOST_CLASSES, _MOST_PAIRS = 24, 20
#: Probabilities shown beside an image.
_MOST_PROBABILITIES = 4
#: Shares of images answered whose accuracy is in the table.
_COVERAGES = (0.25, 0.5, 0.75, 0.9, 1.0)


def render_report(found: Evaluation, images: NDArray[np.uint8], maps: Mapping[int, NDArray[np.uint8]]) -> str:
    """Return the page of a report.

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
        use=use,
        warnings=[*use.warnings, *_small_groups(found), *_doubtful(found.models)],
        headlines=_HEADLINES,
        losses=_LOSSES,
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
    """Warn of models that are at chance, and of models that are worse than what they started from."""
    warnings = [
        f"on val, {each.name} is not significantly better than always predicting the most frequent label"
        for each in models
        if each.at_chance
    ]
    return warnings + [
        f"on val, {each.name} is worse after training than {began['name']}, which it started from"
        for each in models
        if (began := each.began) and began["worse"]
    ]


def _small_groups(found: Evaluation) -> list[str]:
    groups = found.groups.groups if found.groups else []
    names = [group.name for group in groups if group.few]
    if not names:
        return []
    return [f"groups with fewer than {SMALL_GROUP} images, whose figures are unreliable: {', '.join(names)}"]


def _without_overlap(found: Evaluation) -> dict[str, Evaluation | Figures]:
    """Return the figures on all images, and without those that training contains too."""
    overlap = found.training_overlap
    if overlap is None or not overlap.checked:
        return {}
    columns: dict[str, Evaluation | Figures | None] = {
        "all images": found,
        "without exact duplicates": overlap.without_exact,
        "without exact and near duplicates": overlap.without_near,
        "without any duplicates": overlap.without_recrops,
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


#: Table formats, and the file extension of each.
FORMATS = {"md": ".md", "latex": ".tex"}

_COLUMNS = ("split", "n", "accuracy", "balanced accuracy", "macro F1", "NLL", "Brier", "ECE")
_CLASS_COLUMNS = ("class", "n", "precision", "recall", "F1")
_NOTE = "Percent with 95 % intervals; NLL, Brier and ECE are not in percent."

#: Which duplicates figures leave out, by their names in `training_overlap`.
_WITHOUT = {
    "without_exact": "exact",
    "without_near": "exact and near",
    "without_recrops": "exact, near and re-cropped",
}


def table(found: Evaluation, form: str) -> str:
    """Return two tables: the main metrics, and those of each class.

    Args:
        found: An evaluation; heads and training overlap are used if they were measured.
        form: One of `FORMATS`.

    Returns:
        The text of the tables, which ends with a line break; markup in names is escaped.

    Raises:
        InputError: The format is unknown.
    """
    if form not in FORMATS:
        raise InputError(f"{form!r} is not a table format; choose {' or '.join(FORMATS)}")
    rows = [_table_row(found, _what_was_scored(found))]
    rows += [_table_row(other, _what_was_scored(other)) for other in found.heads.values()]
    for key, words in _WITHOUT.items():
        if (figures := getattr(found.training_overlap, key, None)) is not None:
            rows.append(
                _table_row(
                    figures, f"{_what_was_scored(found)}, without {words} duplicates of training images"
                )
            )
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
    return f"{found.data} {found.split}{head}{found.conditions}".strip()


def _table_row(found: Evaluation | Figures, what: str) -> tuple[str, ...]:
    shares = (
        format_percent(getattr(found, key), getattr(found, f"{key}_interval"), unit="") for key in _HEADLINES
    )
    return (what, str(found.n), *shares, *(f"{getattr(found, key):.3f}" for key in ("nll", "brier", "ece")))


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(map(escape_markdown, row))} |" for row in (columns, *rows)]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(columns) - 1), *lines[1:], ""])


def _latex_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"{' & '.join(map(escape_latex, row))} \\\\" for row in (columns, *rows)]
    begin = r"\begin{tabular}{l" + "r" * (len(columns) - 1) + "}"
    return "\n".join([begin, r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}", ""])
