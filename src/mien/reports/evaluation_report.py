"""An evaluation that one can hand to a reviewer: what was scored on what, and all that its figure hides.

found = report.measure([model], data, answers)     # plain values, as report.json holds them
report.write(found, answers, "report")             # report.json and report.html
report.table(found, "latex")                       # the main results, for a paper
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

import mien
from mien import _files
from mien._text import escape_latex, escape_markdown, format_percent
from mien.data.datasets import Dataset, Split
from mien.errors import InputError
from mien.evaluation import calibration as calibrate
from mien.evaluation import corruptions as corrupt
from mien.evaluation import evaluator as evaluate
from mien.models.model import Bundle, Card
from mien.reports import charts
from mien.reports.rendering import render

__all__ = ["FORMATS", "HTML", "JSON", "SCHEMA", "measure", "robustness", "table", "write"]


#: Version of `report.json`; it rises when a key changes its meaning or goes.
SCHEMA = 1

JSON, HTML = "report.json", "report.html"

#: Images shown of the worst and of the most uncertain.
_SHOWN = 12


def measure(
    models: Sequence[Bundle],
    dataset: Dataset,
    answers: evaluate.Answers,
    *,
    uses: evaluate.Uses | None = None,
    known: evaluate.Known | None = None,
    listing: evaluate.Listing | None = None,
    robust: bool = False,
    recut: bool = False,
    others: Sequence[evaluate.Answers] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure all that a report holds.

    Args:
        models: Whose answers these are; of several, the mean.
        dataset: Where the split comes from; its training split is compared with it, its validation split
            gives a temperature to models that have none.
        answers: As `evaluate.answer` gives them.
        uses: How often the split was scored, as `evaluate.count` says; else what the card tells of it.
        known: Which of the images the models learnt from, as `evaluate.known` says; looked up if None.
        listing: Groups to be measured by themselves.
        robust: Whether to measure under each disturbance of `corruptions` too, which takes as many times
            as long.
        recut: Whether to leave out photographs that training holds cut otherwise too, which takes minutes.
        others: The same images as other heads of the model answer them.
        progress: Called with (what is done, done, total).

    Returns:
        Plain values: those of `evaluate.Report` at the top, and more.

    Raises:
        DataError: The listing does not fit the images, or these are smaller than 12 pixels a side; 24, for
            `recut`.
    """
    card, split = models[0].card, answers.split
    found = evaluate.judge(answers).to_dict()
    known = known or evaluate.known(models, answers)
    told = uses or evaluate.warned(evaluate.role(card, split.fingerprint, split.name, answers.data), known)
    groups = None
    if listing is not None:
        groups = evaluate.separate(listing, split.files, answers.probabilities, answers.truth, answers.names)
    return found | {
        "schema": SCHEMA,
        "heads": {each.head: evaluate.judge(each).to_dict() for each in others},
        "versions": {"mien": mien.__version__, "onnxruntime": metadata.version("onnxruntime")},
        "models": [_model(each, answers.head) for each in models],
        "dataset": _dataset(dataset),
        "preprocessing": f"grey, {card.size} × {card.size} pixels of 0 to 255, framing: {card.framing}; "
        f"{_inside(models, answers.head)} are in the model file",
        "uses": asdict(told),
        "known": None if known is None else asdict(known),
        "selective": _selection(answers),
        "calibration": _calibrations(models, dataset, answers, told, progress=progress),
        "against_training": _against_training(card, dataset, answers, told, recut=recut, progress=progress),
        "groups": None if groups is None else asdict(groups),
        "robustness": robustness(models, answers, progress=progress) if robust else None,
        "worst": _examples(answers, "worst", _SHOWN),
        "uncertain": _examples(answers, "uncertain", _SHOWN),
    }


def write(
    found: Mapping[str, Any],
    answers: evaluate.Answers,
    folder: str | os.PathLike[str],
    *,
    maps: Mapping[int, NDArray[np.uint8]] | None = None,
    more: Mapping[str, str] | None = None,
) -> tuple[Path, Path]:
    """Write `report.json` and `report.html`: both or neither, each whole.

    The page needs nothing beside itself, and holds pictures of the data: treat it like the data.

    Args:
        found: What `measure` returned.
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
    text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
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


def _inside(models: Sequence[Bundle], head: str) -> str:
    used = [each.card.head(head if head in each.card.heads else None) for each in models]
    parts = {
        "temperature": any(each.temperature != 1 for each in used),
        "offsets": any(each.offsets for each in used),
    }
    return ", ".join(["rescaling", *(name for name, there in parts.items() if there)]) + " and softmax"


def _model(model: Bundle, head: str) -> dict[str, Any]:
    card = model.card
    learnt = None if card.data is None else {"name": card.data.name, "fingerprint": card.data.fingerprint}
    # Of several models, those without the first one's head answer by their own first.
    used = card.head(head if head in card.heads else None)
    return {
        "name": card.name,
        "sha256": card.sha256,
        "precision": card.precision,
        "recipe": card.recipe.get("name"),
        "learnt_from": learnt,
        "excluded": dict(card.excluded),
        "temperature": used.temperature,
        "offsets": list(used.offsets),
        "threshold": used.threshold,
        "at_chance": used.at_chance,
        "began": None if card.began is None else asdict(card.began) | {"worse": card.began.worse},
        "licence": card.licence,
    }


def _dataset(dataset: Dataset) -> dict[str, Any]:
    splits = {part.name: {"n": len(part), "fingerprint": part.fingerprint} for part in dataset.splits}
    return {
        "name": dataset.root,
        "fingerprint": dataset.fingerprint,
        "splits": splits,
        "unreadable": len(dataset.problems),
        "notes": list(dataset.notes),
    }


#: The figures that are told again without copies.
HEADLINES = ("accuracy", "balanced_accuracy", "macro_f1")
_CALIBRATION = ("nll", "brier", "ece")

_Progress = Callable[[str, int, int], None] | None


def _selection(answers: evaluate.Answers) -> dict[str, Any]:
    """Measure accuracy where the model is sure, and how well it knows where it is wrong."""
    area, best = evaluate.area(answers.probabilities, answers.truth)
    points = evaluate.selective(answers.probabilities, answers.truth)
    return {"points": [asdict(point) for point in points], "area": area, "best_area": best}


def _calibrations(
    models: Sequence[Bundle],
    dataset: Dataset,
    answers: evaluate.Answers,
    uses: evaluate.Uses,
    *,
    progress: _Progress = None,
) -> list[dict[str, Any]]:
    """Measure how far confidence can be believed, with a temperature and without.

    A model that ships with one, or with offsets, is told without too. To one that has none, a temperature is
    fitted: on the validation split; or, where that is what is scored, fold by fold, each judged by what the
    others taught. On few images the fit has a prior, whose weight is under `prior`.
    """
    card = models[0].card
    head = card.head(answers.head if answers.head in card.heads else None)
    shares = answers.probabilities
    if len(models) == 1 and (head.temperature != 1 or head.offsets):
        bare = calibrate.undo(shares, head.temperature, head.offsets)
        without = "without its temperature and offsets" if head.offsets else "without its temperature"
        return [
            _calibration_of("as it ships", head.temperature, shares, answers),
            _calibration_of(without, 1.0, bare, answers),
        ]
    told = [_calibration_of("as it ships", None if len(models) > 1 else 1.0, shares, answers)]
    if uses.role == "train":
        return told
    if uses.role == "val" or answers.split.name == "val":
        return [*told, *_cross_fitted(answers)]
    val = _answers_on_val(models, dataset, answers, progress)
    if val is None:
        return told
    prior = calibrate.weight(*val.probabilities.shape)
    fitted = calibrate.fit(val.probabilities, val.truth, prior=prior)
    softened = calibrate.apply(shares, fitted)
    by_val = _calibration_of("with a temperature fitted on val", fitted, softened, answers)
    return [*told, by_val | {"prior": prior}]


def _calibration_of(
    name: str, temperature: float | None, shares: npt.NDArray[np.floating[Any]], answers: evaluate.Answers
) -> dict[str, Any]:
    report = evaluate.metrics(shares, answers.truth, answers.names)
    return {
        "name": name,
        "temperature": temperature,
        "prior": 0.0,
        **{key: getattr(report, key) for key in _CALIBRATION},
        "reliability": [asdict(each) for each in report.reliability],
    }


def _cross_fitted(answers: evaluate.Answers) -> list[dict[str, Any]]:
    folds = min(5, len(answers))
    if folds < 2:
        return []
    found = calibrate.measure(answers.probabilities, answers.truth, folds=folds)
    return [
        {
            "name": f"with a temperature fitted on the other folds of {folds}",
            "temperature": found.temperature,
            "prior": found.prior,
            "nll": found.nll_after,
            "brier": None,
            "ece": found.ece_after,
            "reliability": None,
        }
    ]


def _answers_on_val(
    models: Sequence[Bundle], dataset: Dataset, answers: evaluate.Answers, progress: _Progress
) -> evaluate.Answers | None:
    if dataset.val is None:
        return None
    shared = all(answers.head in each.card.heads for each in models)
    return evaluate.answer(
        models,
        dataset.val,
        labels=dataset.labels,
        head=answers.head if shared else None,
        progress=_stage(progress, "fitting a temperature on val"),
    )


def _against_training(
    card: Card,
    dataset: Dataset,
    answers: evaluate.Answers,
    uses: evaluate.Uses,
    *,
    recut: bool = False,
    progress: _Progress = None,
) -> dict[str, Any]:
    """Score again without the images that stand in training too; or say why that could not be.

    Returns:
        `checked`; where it is true, `equal`, `near` and `recut`, numbers of images, and the figures without
        the first, without the first two and without all, None where no image is left. `recut` and
        `without_any` are None where it was not asked for.

    Raises:
        DataError: Photographs that were cut otherwise are asked for of images smaller than 24 pixels a side.
    """
    if uses.role == "train":
        return {"checked": False, "why": "these are the images that the model learnt from"}
    train = dataset.train
    if train is None:
        return {
            "checked": False,
            "why": f"{dataset.root} has no training split; score with data that has one",
        }
    if train.images.shape[1] < 12:
        return {"checked": False, "why": "copies are looked for from 12 pixels a side"}
    found = evaluate.copies(
        answers.split.images,
        train.images,
        recut=recut,
        progress=_stage(progress, "comparing with training"),
    )
    return {
        "checked": True,
        "compared_with": len(train),
        "learnt_from": _learnt(card, train),
        "equal": int(found.equal.sum()),
        "near": int(found.near.sum()),
        "recut": None if found.recut is None else int(found.recut.sum()),
        "without_equal": _rest(answers, ~found.equal),
        "without_either": _rest(answers, ~(found.equal | found.near)),
        "without_any": None if found.recut is None else _rest(answers, ~found.known),
    }


def _learnt(card: Card, train: Split) -> bool | None:
    """Say whether this is the very training split of the model; None where its card does not tell."""
    parts = [data.splits["train"] for data in card.learnt_from if "train" in data.splits]
    return any(part.fingerprint == train.fingerprint for part in parts) if parts else None


def _rest(answers: evaluate.Answers, which: npt.NDArray[np.bool_]) -> dict[str, Any] | None:
    if not which.any():
        return None
    rest = answers.take(which)
    report = evaluate.judge(rest)
    intervals = {f"{key}_interval": getattr(report, f"{key}_interval") for key in HEADLINES}
    figures = {key: getattr(report, key) for key in (*HEADLINES, *_CALIBRATION)}
    shared = None if report.agreement is None else asdict(report.agreement)
    return {"n": report.n, **figures, **intervals, "agreement": shared}


def robustness(
    models: Sequence[Bundle], answers: evaluate.Answers, *, seed: int = 0, progress: _Progress = None
) -> dict[str, Any]:
    """Score the same images under each of `mien.evaluation.corruptions`'s stated disturbances.

    Args:
        models: Those that gave the answers.
        answers: On the images as they are.
        seed: Decides noise, directions and places.
        progress: Called with (what is done, done, total).

    Returns:
        A row for each disturbance: its kind, strength, accuracy with its interval, and how much that is below
        the accuracy on the images as they are; and the mean over kinds, each the mean of its strengths.
    """
    shared = all(answers.head in each.card.heads for each in models)
    clean = float((answers.probabilities.argmax(axis=1) == answers.truth).mean())
    rows: list[dict[str, Any]] = []
    for number, (name, disturbance) in enumerate(corrupt.DISTURBANCES.items(), start=1):
        images = corrupt.apply(answers.split.images, disturbance, seed=seed)
        chances = evaluate.ask(models, images, head=answers.head if shared else None)
        right = int((chances.argmax(axis=1) == answers.truth).sum())
        rows.append(
            {
                "disturbance": name,
                "kind": disturbance.kind,
                "strength": disturbance.strength,
                "accuracy": right / len(answers),
                "interval": evaluate.wilson(right, len(answers)),
                "loss": clean - right / len(answers),
            }
        )
        if progress is not None:
            progress("disturbing images", number, len(corrupt.DISTURBANCES))
    kinds: dict[str, list[float]] = {}
    for row in rows:
        kinds.setdefault(row["kind"], []).append(row["accuracy"])
    return {
        "seed": seed,
        "size": int(answers.split.images.shape[1]),
        "rows": rows,
        "mean_of_kinds": float(np.mean([np.mean(values) for values in kinds.values()])),
    }


def _examples(
    answers: evaluate.Answers, kind: Literal["worst", "uncertain"], most: int
) -> list[dict[str, Any]]:
    """Choose images to look at.

    Args:
        answers: What is chosen from.
        kind: `worst` are those answered wrongly whose true label got the least probability, `uncertain` those
            whose highest probability is the least.
        most: How many.

    Returns:
        The first of them; `place` is an image's place in the split.
    """
    shares, truth = answers.probabilities, answers.truth
    given, told = shares.argmax(axis=1), shares.max(axis=1)
    if kind == "worst":
        order = np.argsort(shares[np.arange(len(truth)), truth], kind="stable")
        order = order[(given != truth)[order]]
    else:
        order = np.argsort(told, kind="stable")
    return [
        {
            "place": place,
            "file": answers.split.files[place].encode(errors="backslashreplace").decode(),
            "label": answers.names[int(truth[place])],
            "answer": answers.names[int(given[place])],
            "confidence": float(told[place]),
            "probabilities": {
                name: float(share) for name, share in zip(answers.names, shares[place], strict=True)
            },
        }
        for place in order[:most].tolist()
    ]


def _stage(progress: _Progress, what: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    move = progress
    return lambda done, total: move(what, done, total)


_HEADLINE_NAMES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
_LOSS_NAMES = {"nll": "NLL", "brier": "Brier", "ece": "ECE"}
#: Classes whose confusion matrix fits a page; of more, the most frequent confusions are shown.
_MOST_CLASSES, _MOST_PAIRS = 24, 20
#: Probabilities shown beside an image.
_MOST_PROBABILITIES = 4
#: Shares of images answered whose accuracy is in the table.
_COVERAGES = (0.25, 0.5, 0.75, 0.9, 1.0)


def render_report(
    found: Mapping[str, Any], images: NDArray[np.uint8], maps: Mapping[int, NDArray[np.uint8]]
) -> str:
    """Return the page.

    Args:
        found: What `measure` returned.
        images: The images of the split, `(n, size, size, 1)` uint8.
        maps: Explanations `(h, w, 3)` RGB of some images, by their places in the split.
    """
    names = " + ".join(model["name"] for model in found["models"])
    confusion = np.array(found["confusion"])
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    many = len(found["labels"]) > _MOST_CLASSES
    return render(
        "evaluation_report.html.j2",
        title=f"{names} on {found['data']}, {found['split']}",
        found=found,
        warnings=[*found["uses"]["warnings"], *_small_groups(found), *_doubtful(found["models"])],
        headlines=_HEADLINE_NAMES,
        losses=_LOSS_NAMES,
        without=_without_overlap(found),
        confusion=[
            (label, list(zip(counts, row, strict=True)))
            for label, counts, row in zip(found["labels"], confusion.tolist(), shares.tolist(), strict=True)
        ],
        confusion_pairs=_frequent_confusions(found["labels"], confusion, shares) if many else None,
        coverage_points=_coverage_points(found["selective"]["points"]),
        worst=[_example(each, images, maps) for each in found["worst"]],
        uncertain=[_example(each, images, maps) for each in found["uncertain"]],
        resamples=evaluate.RESAMPLES,
        interval_bar=charts.interval_bar,
        reliability_diagram=charts.reliability_diagram,
        coverage_curve=charts.coverage_curve,
    )


def _doubtful(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name models that are at chance, and those worse than what they began from."""
    told = [
        f"on val nothing shows that {each['name']} is better than always answering the most frequent label"
        for each in models
        if each.get("at_chance")
    ]
    return told + [
        f"on val {each['name']} was worse after training than {began['name']}, which it began from"
        for each in models
        if (began := each.get("began")) and began["worse"]
    ]


def _small_groups(found: Mapping[str, Any]) -> list[str]:
    groups = found["groups"]["groups"] if found["groups"] else []
    names = [group["name"] for group in groups if group["few"]]
    if not names:
        return []
    return [f"fewer than {evaluate.FEW} images are in {', '.join(names)}: their figures say little"]


def _without_overlap(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the figures on all images, and without those that training contains too."""
    overlap = found["against_training"]
    if not overlap["checked"]:
        return {}
    columns = {
        "all images": found,
        "without equal": overlap["without_equal"],
        "without equal and near": overlap["without_either"],
        "without these and cut otherwise": overlap["without_any"],
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


def _coverage_points(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the first point at or beyond each of `_COVERAGES`, once, because few images make few points."""
    places = [
        next(i for i, point in enumerate(points) if point["coverage"] >= share - 1e-9) for share in _COVERAGES
    ]
    return [points[place] for place in dict.fromkeys(places)]


def _example(
    each: Mapping[str, Any], images: NDArray[np.uint8], maps: Mapping[int, NDArray[np.uint8]]
) -> dict[str, Any]:
    ordered = sorted(each["probabilities"].items(), key=lambda item: -item[1])
    shown = ordered[:_MOST_PROBABILITIES]
    if each["label"] not in dict(shown):
        shown = [*shown[:-1], (each["label"], each["probabilities"][each["label"]])]
    return {
        **each,
        "probabilities": shown,
        "image": images[each["place"]],
        "map": maps.get(each["place"]),
    }


#: Names of the formats, and the suffix of a file of each.
FORMATS = {"md": ".md", "latex": ".tex"}

_COLUMNS = ("split", "n", "accuracy", "balanced accuracy", "macro F1", "NLL", "Brier", "ECE")
_CLASS_COLUMNS = ("class", "n", "precision", "recall", "F1")
_NOTE = "Percent with 95 % intervals; NLL, Brier and ECE as they are."

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
        The tables' text, which ends with a line break; names that hold markup or formulas are escaped.

    Raises:
        InputError: There is no such format.
    """
    if form not in FORMATS:
        raise InputError(f"{form!r} is no format of tables; choose {' or '.join(FORMATS)}")
    rows = [_table_row(report, _what_was_scored(report))]
    rows += [_table_row(other, _what_was_scored(other)) for other in report.get("heads", {}).values()]
    bare = report.get("against_training") or {}
    for key, words in _WITHOUT.items():
        if bare.get(key):
            rows.append(
                _table_row(bare[key], f"{_what_was_scored(report)}, without {words} images of training")
            )
    classes = [
        (
            name,
            str(each["n"]),
            *(
                format_percent(each[key], each.get(f"{key}_interval"), unit="")
                for key in ("precision", "recall", "f1")
            ),
        )
        for name, each in report["per_class"].items()
    ]
    draw = _markdown_table if form == "md" else _latex_table
    note = f"{_NOTE}\n" if form == "md" else f"% {_NOTE}\n"
    return "\n".join([draw(_COLUMNS, rows), draw(_CLASS_COLUMNS, classes), note])


def _what_was_scored(report: Mapping[str, Any]) -> str:
    head = f", head {report['head']}" if report["head"] not in ("", "labels") else ""
    views = f", mean of {report['views']} views" if report.get("views", 1) > 1 else ""
    return f"{report['data']} {report['split']}{head}{views}".strip()


def _table_row(report: Mapping[str, Any], what: str) -> tuple[str, ...]:
    shares = (format_percent(report[key], report[f"{key}_interval"], unit="") for key in HEADLINES)
    return (what, str(report["n"]), *shares, *(f"{report[key]:.3f}" for key in ("nll", "brier", "ece")))


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(map(escape_markdown, row))} |" for row in (columns, *rows)]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(columns) - 1), *lines[1:], ""])


def _latex_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"{' & '.join(map(escape_latex, row))} \\\\" for row in (columns, *rows)]
    begin = r"\begin{tabular}{l" + "r" * (len(columns) - 1) + "}"
    return "\n".join([begin, r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}", ""])
