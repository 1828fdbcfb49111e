"""An evaluation that one can hand to a reviewer: what was scored on what, and all that its figure hides.

found = report.measure([model], data, answers)     # plain values, as report.json holds them
report.write(found, answers, "report")             # report.json and report.html
report.table(found, "latex")                       # the main results, for a paper
"""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from numpy.typing import NDArray

import mien
from mien import _files
from mien.data.audit import html as web
from mien.data.audit.html import escaped
from mien.data.datasets import Dataset, Split
from mien.errors import InputError
from mien.evaluation import calibration as calibrate
from mien.evaluation import corruptions as corrupt
from mien.evaluation import evaluator as evaluate
from mien.models.model import Bundle, Card
from mien.reports import charts

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
    texts = {JSON: text, HTML: _page(found, answers, maps or {}), **(more or {})}
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


_STYLE = """
p.warning { border-left: .3rem solid var(--warning); background: var(--card); padding: .6rem 1rem;
  max-width: none; }
.lead { font-size: 1.15rem; } .lead b { font-size: 1.5rem; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .2rem 1rem; margin: 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
:root { --heat: 43 92 138; } @media (prefers-color-scheme: dark) { :root { --heat: 110 175 235; } }
th, td { white-space: nowrap; vertical-align: middle; }
td:first-child, th:first-child { white-space: normal; min-width: 7rem; overflow-wrap: break-word;
  position: sticky; left: 0; background: var(--paper); }
td small { color: var(--faint); font-size: .8rem; }
table.confusion td, table.confusion th { padding: .35rem .5rem; text-align: center; }
table.confusion td:first-child, table.confusion th:first-child { text-align: left; }
table.confusion th:not(:first-child) { font-size: .85rem; }
table.confusion td.cell { background: rgb(var(--heat) / calc(var(--p) * .55)); min-width: 3.6rem; }
table.confusion td.cell small { display: block; color: inherit; opacity: .85; }
table.confusion td.right { outline: 1px solid var(--faint); outline-offset: -2px; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dt { margin-top: .5rem; } }
svg.interval { width: 7.5rem; height: .9rem; vertical-align: middle; }
.charts > div { max-width: 24rem; min-width: 0; }
.beside { grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.beside > div { max-width: 32rem; } .more { margin-top: 1.5rem; }
 .grid, .axis { stroke: var(--line); stroke-width: 1; }
.bar { fill: var(--a); opacity: .75; } .gap { fill: none; stroke: var(--b); stroke-width: 1.2; }
.many { fill: var(--ink); opacity: .35; }
.ideal { stroke: var(--faint); stroke-dasharray: 4 4; stroke-width: 1.2; }
.band { fill: var(--a); opacity: .2; stroke: none; } .dot { fill: var(--a); } .thick { stroke-width: 3; }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.2rem 1rem; }
.examples figure { display: grid; grid-template-columns: auto 1fr; gap: 0 .8rem; align-items: start; }
.examples .faces { grid-row: span 2; display: flex; flex-direction: column; gap: 4px; }
.examples img { width: 84px; height: 84px; margin: 0; display: block; }
.shares { display: grid; grid-template-columns: minmax(0, max-content) 1fr max-content; gap: 0 .5rem;
  align-items: center; margin-top: .3rem; }
.shares i { display: block; height: .5rem; background: var(--a); border-radius: 2px; min-width: 1px; }
.shares .true { font-weight: 600; } figcaption .shares span { display: inline; }
"""


def _page(found: Mapping[str, Any], answers: evaluate.Answers, maps: Mapping[int, NDArray[np.uint8]]) -> str:
    """Return the page.

    Args:
        found: What `report.measure` returned.
        answers: What it was measured on; its images are shown.
        maps: Pictures beside some of them, by place.
    """
    about = " + ".join(each["name"] for each in found["models"])
    title = f"{about} on {found['data']}, {found['split']}"
    low, high = found["accuracy_interval"]
    warnings = [*found["uses"]["warnings"], *_few(found), *_doubtful(found["models"])]
    body = [
        f"<h1>{escaped(title)}</h1>",
        f'<p class="lead"><b>{found["accuracy"]:.1%}</b> ({100 * low:.1f} to {100 * high:.1f}) of '
        f"{found['n']:,} images are named as their labels say.</p>",
        *(f'<p class="warning">{escaped(_sentence(each))}</p>' for each in warnings),
        "<h2>What was scored on what</h2>",
        _origin(found),
        "<h2>Main figures</h2>",
        _main_figures(found),
        _heads(found),
        "<h2>Without images that also stand in training</h2>",
        _training_section(found["against_training"], found),
        "<h2>Each class</h2>",
        _classes(found),
        "<h2>What was answered</h2>",
        _confusion(found),
        "<h2>How far confidence can be believed</h2>",
        _calibration_section(found["calibration"]),
        "<h2>Answering only where the model is sure</h2>",
        _selective_section(found["selective"]),
        *_optional(found),
        "<h2>The worst answers</h2>",
        '<p class="faint">Answered wrongly, with the least probability for the label.</p>',
        _examples_section(found["worst"], answers.split.images, maps),
        "<h2>The most uncertain answers</h2>",
        '<p class="faint">The least probability for what was answered.</p>',
        _examples_section(found["uncertain"], answers.split.images, maps),
        "<h2>How these figures are made</h2>",
        _method(found),
    ]
    return web.document(title, "".join(body), style=_STYLE)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


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


def _few(found: Mapping[str, Any]) -> list[str]:
    groups = found["groups"]["groups"] if found["groups"] else []
    names = [group["name"] for group in groups if group["few"]]
    if not names:
        return []
    return [f"fewer than {evaluate.FEW} images are in {', '.join(names)}: their figures say little"]


def _calibration_section(told: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            each["name"],
            "–" if each["temperature"] is None else f"{each['temperature']:.3f}",
            *("–" if each[key] is None else f"{each[key]:.4f}" for key in ("ece", "nll", "brier")),
        )
        for each in told
    ]
    drawn = "".join(
        f"<div><h3>{escaped(each['name'])}</h3>"
        f"{charts.reliability_diagram(each['reliability'], 'reliability ' + each['name'])}</div>"
        for each in told
        if each["reliability"] is not None
    )
    return (
        web.table(("the model", "temperature", "ECE", "NLL", "Brier"), rows)
        + '<p class="faint">Bars: share of images named right, by confidence; on the dashed line confidence '
        "would be right. Framed: the distance to it. Grey, at the foot: how many images.</p>"
        + "".join(
            f'<p class="faint">{escaped(_sentence(each["name"]))[:-1]}: because the images are few, it was '
            f"drawn towards 1 by a prior that counts as {each['prior']:g} images.</p>"
            for each in told
            if each.get("prior")
        )
        + f'<div class="charts">{drawn}</div>'
    )


def _selective_section(told: Mapping[str, Any]) -> str:
    points = told["points"]
    # The first point at or beyond each share, once, for few images make few points.
    shown = {
        place: points[place]
        for share in (0.25, 0.5, 0.75, 0.9, 1.0)
        for place in [next(i for i, each in enumerate(points) if each["coverage"] >= share - 1e-9)]
    }
    rows: list[tuple[str, ...]] = [
        (
            f"{point['coverage']:.1%}",
            f"{point['n']:,}",
            f"{point['threshold']:.3f}",
            _percent(point["accuracy"], point["interval"]),
        )
        for point in shown.values()
    ]
    return (
        '<div class="charts beside"><div>'
        f"{charts.coverage_curve(points, 'accuracy against the share of images answered')}</div><div>"
        f"{web.table(('answered', 'images', 'confidence from', 'accuracy'), rows)}"
        f'<p class="faint">Area under the curve of risk: {told["area"]:.4f}; {told["best_area"]:.4f} for a '
        "model of the same accuracy that is least sure wherever it is wrong.</p></div></div>"
    )


def _optional(found: Mapping[str, Any]) -> list[str]:
    told = []
    if found["agreement"] is not None:
        told += ["<h2>What ten people saw</h2>", _agreement(found)]
    if found["groups"] is not None:
        told += [f"<h2>By {escaped(found['groups']['column'])}</h2>", _groups(found["groups"])]
    if found["robustness"] is not None:
        told += ["<h2>Disturbed images</h2>", _robustness_section(found["robustness"], found)]
    return told


_NAMES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
_LOSSES = {"nll": "NLL", "brier": "Brier", "ece": "ECE"}
#: Classes whose confusion still fits a page, and pairs shown of more.
_MOST_CLASSES, _MOST_PAIRS = 24, 20
#: Probabilities shown beside an image.
_MOST_SHARES = 4

Report = Mapping[str, Any]


def _percent(value: float | None, interval: Sequence[float] | None = None) -> str:
    """Return a fraction as percent, with its interval."""
    if value is None:
        return "–"
    if interval is None:
        return f"{value:.1%}"
    return f"{value:.1%} ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})"


def _origin(found: Report) -> str:
    """Say what was scored on what."""
    data, uses = found["dataset"], found["uses"]
    rows = []
    for model in found["models"]:
        rows.append(("model", _listed(model["name"], _named("recipe", model["recipe"]), model["precision"])))
        rows.append(("model file", f"sha256 {model['sha256']}"))
        if model["learnt_from"]:
            learnt = model["learnt_from"]
            rows.append(("learnt from", f"{learnt['name']}, fingerprint {learnt['fingerprint']}"))
        if began := model.get("began"):
            rows.append(("began from", _began(began)))
        if model["excluded"]:
            left = ", ".join(f"{count:,} {reason}" for reason, count in model["excluded"].items())
            rows.append(("left out of training", left))
    split = f"{found['split']}, {found['n']:,} images, fingerprint {found['split_fingerprint']}"
    rows += [
        ("data", f"{data['name']}, fingerprint {data['fingerprint']}"),
        ("split", split),
        ("head", found["head"]),
        ("preprocessing", found["preprocessing"]),
        ("scored so far", _scored_before(uses)),
        ("images learnt from", _known_images(found.get("known"))),
        ("made with", ", ".join(f"{name} {version}" for name, version in found["versions"].items())),
    ]
    if data["unreadable"]:
        rows.append(("unreadable", f"{data['unreadable']:,} images were skipped"))
    rows += [("note", note) for note in data["notes"]]
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{escaped(value)}</dd>' for name, value in rows)}</dl>"


def _began(told: Report) -> str:
    """Say how the trained model did beside the one that it began from."""
    return (
        f"{told['name']}: on the same {told['n']:,} images of val it has "
        f"{_percent(told['accuracy'], told['accuracy_interval'])}, and the trained model "
        f"{_percent(told['after'], told['after_interval'])}"
        f"{': the trained model is worse' if told['worse'] else ''}"
        f"{'; it learnt from these images' if told['learnt'] else ''}"
    )


def _known_images(told: Report | None) -> str:
    """Say how many of the images the model learnt from, by the hashes that it ships with."""
    if told is None:
        return "not looked up: the model ships with no hashes of the images that it learnt from"
    said = f"{told['exact']:,} of the images, and {told['near']:,} nearly, by the hashes that it ships with"
    if not told["exact"] + told["near"] or told["accuracy_without"] is None:
        return said
    return (
        f"{said}; of the other {told['n']:,} {_percent(told['accuracy_without'], told['interval'])} are right"
    )


def _named(what: str, name: str | None) -> str:
    return f"{what} {name}" if name else ""


def _listed(*words: str) -> str:
    return ", ".join(word for word in words if word)


def _scored_before(uses: Report) -> str:
    if uses["role"] in ("train", "val"):
        return f"not counted: the images are those of {uses['role']}"
    if uses["times"] is None:
        return "not counted: this is no run's folder, or it could not be written"
    files = "1 model file" if uses["models"] == 1 else f"{uses['models']} model files"
    times = "once" if uses["times"] == 1 else f"{uses['times']} times"
    beside = f", and by the runs beside it: {', '.join(uses['beside'])}" if uses["beside"] else ""
    return f"{times}, with {files}{beside}"


def _main_figures(found: Report) -> str:
    """Return accuracy and the like, with intervals."""
    rows = [
        (
            _NAMES[key],
            _percent(found[key], found[f"{key}_interval"]),
            charts.interval_bar(found[key], found[f"{key}_interval"], _NAMES[key]),
        )
        for key in HEADLINES
    ]
    rows += [(name, f"{found[key]:.4f}", Markup("")) for key, name in _LOSSES.items()]
    return _drawn(("figure", "value (95 %)", "0 to 100 %"), rows)


def _heads(found: Report) -> str:
    """Return the same figures for the model's other heads."""
    if not found["heads"]:
        return ""
    rows = [
        (f"head {name}", *(_percent(other[key], other[f"{key}_interval"]) for key in HEADLINES))
        for name, other in found["heads"].items()
    ]
    return f'<div class="more">{web.table(("other heads", *_NAMES.values()), rows)}</div>'


def _training_section(told: Report, found: Report) -> str:
    """Return the figures without images that stand in training too."""
    if not told["checked"]:
        return f'<p class="warning">This could not be checked: {escaped(told["why"])}.</p>'
    known = {
        True: "It is the very split that the model learnt from.",
        False: "It is not the very split that the model learnt from: images were left out of that, or this "
        "is other data.",
        None: "Whether the model learnt from it is unknown, for its card does not say.",
    }[told["learnt_from"]]
    n, equal, near = found["n"], told["equal"], told["near"]
    head = (
        f"<p>{equal:,} of the {n:,} images ({equal / n:.1%}) stand byte for byte among the "
        f"{told['compared_with']:,} of the training split, and {near:,} more ({near / n:.1%}) almost "
        f"unchanged{_recut(told, n)}. {known}</p>"
    )
    columns = {
        "all images": found,
        "without equal": told["without_equal"],
        "without equal and near": told["without_either"],
        "without these and cut otherwise": told["without_any"],
    }
    columns = {name: each for name, each in columns.items() if each is not None}
    rows = [("images", *(f"{each['n']:,}" for each in columns.values()))]
    rows += [
        (_NAMES[key], *(_percent(each[key], each[f"{key}_interval"]) for each in columns.values()))
        for key in HEADLINES
    ]
    rows += [(name, *(f"{each[key]:.4f}" for each in columns.values())) for key, name in _LOSSES.items()]
    if found["agreement"] is not None:
        shared = (each["agreement"] for each in columns.values())
        cells = (_percent(each["share"], each["interval"]) if each else "–" for each in shared)
        rows.append(("with most of ten people", *cells))
    return head + web.table(("figure", *columns), rows)


def _recut(told: Report, n: int) -> str:
    if told["recut"] is None:
        return "; whether others show a photograph that training holds cut otherwise was not looked for"
    return f"; {told['recut']:,} more ({told['recut'] / n:.1%}) show a photograph that it holds cut otherwise"


def _classes(found: Report) -> str:
    """Return each class's figures."""
    rows: list[tuple[str, ...]] = []
    for name, each in found["per_class"].items():
        cells = [_percent(each[key], each[f"{key}_interval"]) for key in ("precision", "recall", "f1")]
        drawn = ""
        if each["recall"] is not None:
            drawn = charts.interval_bar(each["recall"], each["recall_interval"], f"recall of {name}")
        rows.append((name, f"{each['n']:,}", *cells, drawn))
    absent = ""
    if found["absent"]:
        names = escaped(", ".join(found["absent"]))
        absent = f'<p class="faint">Without images, and left out of the means: {names}.</p>'
    return _drawn(("class", "n", "precision", "recall", "F1", "recall, 0 to 100 %"), rows) + absent


def _confusion(found: Report) -> str:
    """Return the confusion as counts and as shares of each row; of many classes the largest cells alone."""
    labels, counts = found["labels"], np.array(found["confusion"])
    sums = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = counts / sums
    if len(labels) > _MOST_CLASSES:
        wrong = counts * (1 - np.eye(len(labels), dtype=np.int64))
        order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_PAIRS]
        rows: list[tuple[str, ...]] = [
            (labels[i], labels[j], f"{counts[i, j]:,}", f"{shares[i, j]:.1%}")
            for i, j in zip(*np.unravel_index(order, counts.shape), strict=True)
            if wrong[i, j]
        ]
        return web.table(("is", "answered", "images", "of its class"), rows)
    head = "".join(f"<th>{escaped(label)}</th>" for label in labels)
    body = []
    for i, label in enumerate(labels):
        cells = "".join(
            f'<td class="cell{" right" if i == j else ""}" style="--p:{shares[i, j]:.3f}">{counts[i, j]:,}'
            f"<small>{shares[i, j]:.0%}</small></td>"
            for j in range(len(labels))
        )
        body.append(f"<tr><td>{escaped(label)}</td>{cells}</tr>")
    return (
        '<p class="faint">Rows: what images are. Columns: what was answered. Images, and their share of the '
        'row.</p><div class="scroll"><table class="confusion"><tr><th></th>'
        f"{head}</tr>{''.join(body)}</table></div>"
    )


def _agreement(found: Report) -> str:
    """Say how often the answers are what most of FER+'s taggers saw."""
    told = found["agreement"]
    others = {name: other["agreement"] for name, other in found["heads"].items() if other["agreement"]}
    rows: list[tuple[str, ...]] = [
        (name, _percent(each["share"], each["interval"]))
        for name, each in {found["head"]: told, **others}.items()
    ]
    return (
        f"<p>How often the answer is what most of FER+'s ten taggers saw, on {told['n']:,} images. On "
        f"{told['left_out']:,} more another thing got the most votes: contempt, no face, unknown, or a class "
        "that the model does not have.</p>" + web.table(("head", "as most of ten people"), rows)
    )


def _groups(told: Report) -> str:
    """Return each group's figures."""
    rows = [
        (
            f"{each['name']}{' (few images)' if each['few'] else ''}",
            f"{each['n']:,}",
            *(_percent(each[key], each[f"{key}_interval"]) for key in HEADLINES),
            charts.interval_bar(each["accuracy"], each["accuracy_interval"], f"accuracy of {each['name']}"),
        )
        for each in told["groups"]
    ]
    rest = f" {told['unlisted']:,} images have no group there." if told["unlisted"] else ""
    return (
        _drawn(("group", "n", *_NAMES.values(), "accuracy, 0 to 100 %"), rows)
        + f'<p class="faint">Groups from {escaped(told["file"])}, column {escaped(told["column"])}.{rest} '
        "Classes without images in a group are left out of its means.</p>"
    )


def _robustness_section(told: Report, found: Report) -> str:
    """Return accuracy under each disturbance."""
    low, high = found["accuracy_interval"]
    clean = charts.interval_bar(found["accuracy"], (low, high), "as they are")
    rows = [("as they are", _percent(found["accuracy"], (low, high)), "", clean)]
    rows += [
        (
            each["disturbance"],
            _percent(each["accuracy"], each["interval"]),
            f"{-100 * each['loss']:+.1f}",
            charts.interval_bar(each["accuracy"], each["interval"], each["disturbance"]),
        )
        for each in told["rows"]
    ]
    rows.append(("mean of the kinds", _percent(told["mean_of_kinds"]), "", Markup("")))
    return (
        _drawn(("images", "accuracy (95 %)", "points", "0 to 100 %"), rows)
        + f'<p class="faint">Disturbed at {told["size"]} pixels a side, seed {told["seed"]}; strengths as '
        "mien.evaluation.corruptions states them.</p>"
    )


def _examples_section(
    told: Sequence[Report], images: NDArray[np.uint8], maps: Mapping[int, NDArray[np.uint8]]
) -> str:
    """Return images with what they are, what was answered, how sure, and why where there is a map."""
    if not told:
        return "<p>There are none.</p>"
    key = ""
    if any(each["place"] in maps for each in told):
        key = (
            '<p class="faint">Below each image: what spoke for the answer that was given, from dark (little) '
            "to bright (most).</p>"
        )
    shown = "".join(_example(each, images[each["place"]], maps.get(each["place"])) for each in told)
    return f'{key}<div class="examples">{shown}</div>'


def _example(each: Report, image: NDArray[np.uint8], why: NDArray[np.uint8] | None) -> str:
    ordered = sorted(each["probabilities"].items(), key=lambda item: -item[1])
    shown = ordered[:_MOST_SHARES]
    if each["label"] not in dict(shown):
        shown = [*shown[:-1], (each["label"], each["probabilities"][each["label"]])]
    bars = "".join(
        f'<span class="{"true" if name == each["label"] else "other"}">{escaped(name)}</span>'
        f'<i style="width:{100 * chance:.1f}%"></i><span>{chance:.1%}</span>'
        for name, chance in shown
    )
    beside = "" if why is None else f'<img src="{web.picture(why)}" alt="what spoke for the answer">'
    return (
        f'<figure><div class="faces"><img src="{web.picture(image)}" '
        f'alt="{escaped(each["file"])}">{beside}</div><figcaption><b>{escaped(each["answer"])}</b>, labelled '
        f"<b>{escaped(each['label'])}</b><span>{escaped(each['file'])}</span>"
        f'<div class="shares">{bars}</div></figcaption></figure>'
    )


def _method(found: Report) -> str:
    """Say how the figures are made, for those who check them."""
    return (
        "<p>Accuracy, precision and recall have Wilson's interval; that of F1 is Wilson's of the share right "
        "among images of the class or answered with it, carried over to F1. Balanced accuracy and macro F1 "
        f"are bootstrapped: {evaluate.RESAMPLES:,} draws of the images from a fixed seed. All are 95 %, and "
        "of the sampling of images alone: another training seed, or other people's labels, move figures "
        f"besides. ECE has {len(found['reliability'])} bins of equal width (Guo et al. 2017). NLL is in "
        "nats. Equal copies are found by their pixels; near ones by correlation at the best shift, upright "
        "and mirrored (mien.data.duplicates).</p>"
        '<p class="faint">This page holds pictures of the data; treat it like the data. A label of an '
        "emotion is what people saw in a picture, not what its person felt.</p>"
    )


def _drawn(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose last cells are charts, and all others plain text."""
    head = "".join(f"<th>{escaped(name)}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in row[:-1])}<td>{row[-1]}</td></tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


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
            *(_share(each[key], each.get(f"{key}_interval")) for key in ("precision", "recall", "f1")),
        )
        for name, each in report["per_class"].items()
    ]
    draw = _markdown_table if form == "md" else _latex_table
    return "\n".join([draw(_HEADS, rows), draw(_CLASS_HEADS, classes), _note(form)])


def _what_was_scored(report: Mapping[str, Any]) -> str:
    head = f", head {report['head']}" if report["head"] not in ("", "labels") else ""
    views = f", mean of {report['views']} views" if report.get("views", 1) > 1 else ""
    return f"{report['data']} {report['split']}{head}{views}".strip()


def _table_row(report: Mapping[str, Any], what: str) -> tuple[str, ...]:
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


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = "|---|" + "---:|" * (len(heads) - 1)
    escaped = ([_IN_MARKDOWN.sub(r"\\\1", _one_line(cell)) for cell in row] for row in (heads, *rows))
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return "\n".join([lines[0], rule, *lines[1:], ""])


def _latex_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [
        " & ".join("".join(_IN_LATEX.get(char, char) for char in _one_line(cell)) for cell in row) + r" \\"
        for row in (heads, *rows)
    ]
    begin = r"\begin{tabular}{l" + "r" * (len(heads) - 1) + "}"
    return "\n".join([begin, r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}", ""])


def _note(form: str) -> str:
    return f"{_NOTE}\n" if form == "md" else f"% {_NOTE}\n"


def _one_line(text: str) -> str:
    """Return a name on one line, with what a text cannot hold as an escape."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(shown.split()))
