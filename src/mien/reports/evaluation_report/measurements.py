"""What a report measures beyond the figures of `evaluate`, as plain values."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mien.data.datasets import Dataset, Split
from mien.evaluation import calibration as calibrate
from mien.evaluation import corruptions as corrupt
from mien.evaluation import evaluator as evaluate
from mien.models.model import Bundle, Card

#: The figures that are told again without copies.
HEADLINES = ("accuracy", "balanced_accuracy", "macro_f1")
_CALIBRATION = ("nll", "brier", "ece")

_Progress = Callable[[str, int, int], None] | None


def selection(answers: evaluate.Answers) -> dict[str, Any]:
    """Measure accuracy where the model is sure, and how well it knows where it is wrong."""
    area, best = evaluate.area(answers.probabilities, answers.truth)
    points = evaluate.selective(answers.probabilities, answers.truth)
    return {"points": [asdict(point) for point in points], "area": area, "best_area": best}


def calibrations(
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
    reading = card.reading(answers.reading if answers.reading in card.readings else None)
    shares = answers.probabilities
    if len(models) == 1 and (reading.temperature != 1 or reading.offsets):
        bare = calibrate.undo(shares, reading.temperature, reading.offsets)
        without = "without its temperature and offsets" if reading.offsets else "without its temperature"
        return [
            _calibration("as it ships", reading.temperature, shares, answers),
            _calibration(without, 1.0, bare, answers),
        ]
    told = [_calibration("as it ships", None if len(models) > 1 else 1.0, shares, answers)]
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
    by_val = _calibration("with a temperature fitted on val", fitted, softened, answers)
    return [*told, by_val | {"prior": prior}]


def _calibration(
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
    shared = all(answers.reading in each.card.readings for each in models)
    return evaluate.answer(
        models,
        dataset.val,
        labels=dataset.labels,
        reading=answers.reading if shared else None,
        progress=_stage(progress, "fitting a temperature on val"),
    )


def against_training(
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
    shared = all(answers.reading in each.card.readings for each in models)
    clean = float((answers.probabilities.argmax(axis=1) == answers.truth).mean())
    rows: list[dict[str, Any]] = []
    for number, (name, disturbance) in enumerate(corrupt.DISTURBANCES.items(), start=1):
        images = corrupt.apply(answers.split.images, disturbance, seed=seed)
        chances = evaluate.ask(models, images, reading=answers.reading if shared else None)
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


def examples(
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
