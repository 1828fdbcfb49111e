"""Ship a finished run as one file: calibrated, in int8 if that keeps the accuracy, and evaluated.

    shipped = shipping.make(runs.open_run("runs/release-1"), data, to="models", name="default")
    shipped.model.card.precision            # "int8" or "float32"

The temperatures, the logit biases, the thresholds and the choice of int8 are fitted on val. The figures of
the calibration are cross-fitted for that reason.
"""

import json
import os
import tempfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import _files
from mien.data import recrops
from mien.data.datasets import Dataset, Split
from mien.errors import DataError, ModelError
from mien.evaluation import calibration, evaluator
from mien.evaluation.balance import balance_table
from mien.evaluation.evaluation import Calibration, Evaluation, Quantization
from mien.evaluation.evaluation_log import find_role
from mien.evaluation.memorised import TrainingDuplicates, find_training_duplicates
from mien.evaluation.metrics import add_thresholds, find_plurality
from mien.models import initial_weights, model_files, priors, training_hashes
from mien.models.model_files import Base, Card, Fusion, Model
from mien.release import exporters, onnx_graph, quantization
from mien.training.runs import Run
from mien.training.targets import frequencies

#: Version of the document beside a model file.
SCHEMA = 2

#: Training images that the ranges of int8 are taken from.
CALIBRATING = 4096

#: How much accuracy on val the balance for photographs may cost
#: (docs/decisions/0009-balance-for-photographs.md).
CONCESSION = 0.01

#: A head's answers without their calibration, and the right ones.
_Raw = tuple[NDArray[np.float64], NDArray[np.int64]]

_STAGES = 5

#: Kinds of characters that no name of a model holds, and how many bytes it has at most, for files are called
#: by it: control characters, and those that end a line.
_UNSHOWABLE = ("Cc", "Zl", "Zp")
_LONGEST = 200


@dataclass(frozen=True, eq=False)
class Shipped:
    """A model that is ready to ship.

    Args:
        model: The file, loaded.
        evaluation: The JSON file beside it, with every figure of its card.
        weights: The file beside an int8 model from which a training can begin; a float32 model holds them.
        document: What that file holds.
        evaluations: What it holds of each output head.
    """

    model: Model
    evaluation: Path
    weights: Path | None
    document: dict[str, Any]
    evaluations: dict[str, Evaluation]


def make(
    run: Run | Model,
    dataset: Dataset,
    *,
    to: str | os.PathLike[str],
    average: Sequence[Run | Model] = (),
    name: str | None = None,
    licence: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Shipped:
    """Calibrate, quantise and measure a run's model; write it as one ONNX file with its evaluation beside it.

    Args:
        run: A finished run, or a trained model in float32 whose card names its data and network.
        dataset: The data that it was trained on, image for image and vote for vote.
        to: The folder of `<name>.onnx` and `<name>.json`, of `<name>.weights.npz` where it is int8, and of
            the hashes of the training images, a file named after its content.
        average: Runs and models to average the weights with; one started from the other, or all from one
            model.
        name: What the model is called; its run's name where none is given.
        licence: Under what terms the model may be used.
        progress: Called with (stages done, stages in all).

    Raises:
        RunError: A run has no model yet.
        DataError: Train or val is missing, the data or their votes are not those that the run was trained on,
            or val has training images of a model that it was made from.
        ModelError: The model and the data do not fit together, the runs have no mean, or the files cannot be
            written.
    """
    name, folder = name or (run.name if isinstance(run, Run) else run.card.name), Path(to)
    _check_places(folder, name)
    with tempfile.TemporaryDirectory() as aside:
        trained = _trained([run, *average], dataset.split("val"), Path(aside))
        _check_data(run, dataset)
        _check_val(trained, dataset)
        tell = progress or (lambda done, total: None)
        return _make(trained, dataset, folder, name=name, licence=licence, tell=tell)


def _check_places(folder: Path, name: str) -> None:
    """Refuse what could not be written, before anything is worked out."""
    if not _can_be_called(name):
        raise ModelError(
            f"{name[:40]!r}{'...' if name[40:] else ''} is not a valid name of a model; use at most "
            f"{_LONGEST} bytes, without slashes and control characters"
        )
    with _files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    for suffix in (".onnx", ".json", ".weights.npz"):
        if (folder / f"{name}{suffix}").is_dir():
            raise ModelError(
                f"{str(folder / f'{name}{suffix}')!r} is a folder; choose another name or folder"
            )


def _can_be_called(name: str) -> bool:
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError:
        return False
    odd = any(letter in "/\\" or unicodedata.category(letter) in _UNSHOWABLE for letter in name)
    return 0 < size <= _LONGEST and not odd


def _check_data(run: Run | Model, dataset: Dataset) -> None:
    """Refuse data or votes that are not those that a run or model was trained on."""
    if isinstance(run, Run):
        name, seen = f"run {run.name!r}", run.facts()["data"]["fingerprint"]
    elif run.card.data is not None:
        name, seen = f"model {run.card.name!r}", run.card.data.fingerprint
    else:
        raise ModelError(f"the card of {run.card.name!r} does not name its data; ship a run of mien train")
    if dataset.fingerprint != seen:
        raise DataError(
            f"this is not the data that {name} was trained on: its fingerprint is "
            f"{dataset.fingerprint[:12]}, and that of the training data was {seen[:12]}; give the right "
            "data with --data"
        )
    if isinstance(run, Run):
        run.check_votes(dataset.votes_fingerprint)


def _check_val(trained: Model, dataset: Dataset) -> None:
    """Refuse to calibrate a model on images that it, or a model that it was made from, was trained on."""
    val = dataset.split("val")
    if find_role(trained.card, val.fingerprint, val.name, dataset.root).role == "train":
        raise DataError(
            f"val of {dataset.root} has training images of {trained.card.name!r} or of a model that it was "
            "made from, so calibration and evaluation on it would not be valid for new images; train with "
            "another val"
        )


def _trained(parts: Sequence[Run | Model], val: Split, aside: Path) -> Model:
    """Load the model of a run; with others, make the mean of their weights in the folder `aside`."""
    for each in parts:
        if isinstance(each, Run) and not (each.model_folder / model_files.MODEL).is_file():
            raise model_files.unfinished(each.path)
    models = [model_files.load(each.model_folder) if isinstance(each, Run) else each for each in parts]
    named = [digest for model in models for digest in hashes_of(model.card)]
    if len(set(named)) < len(named):
        raise ModelError("--average names a model twice; name each model once")
    return average(models, aside, images=val.images[: exporters.IMAGES]) if models[1:] else models[0]


def _make(
    trained: Model, dataset: Dataset, to: Path, *, name: str, licence: str, tell: Callable[[int, int], None]
) -> Shipped:
    """Do what `make` says with a run's model, or with the mean of several."""
    train, val = dataset.split("train"), dataset.split("val")
    tell(0, _STAGES)
    raw = _raw(trained, val)
    calibrations = {head: _calibration(*found) for head, found in raw.items()}
    tell(1, _STAGES)
    card = replace(
        _stated(_calibrated(trained.card, calibrations), raw, train),
        name=name,
        licence=licence,
        made_from=trained.card.sha256,
        metrics={},
    )
    plain = _in_float32(trained, card, val)
    tell(2, _STAGES)
    small = _in_int8(plain, train, val)
    tell(3, _STAGES)
    verdicts = _verdicts(plain.model, small.model, val)
    chosen = small if all(verdict.accepted for verdict in verdicts.values()) else plain
    if chosen is small:
        calibrations = _as_rounded(small.model, val, calibrations)
    tell(4, _STAGES)
    made, found = _write(chosen, dataset, calibrations, verdicts, to)
    first, *others = found.values()
    document = {
        "schema": SCHEMA,
        "name": made.card.name,
        "sha256": made.card.sha256,
        "bytes": made.path.stat().st_size,
        "precision": made.card.precision,
        "training_hashes": training_hashes.put(to, training_hashes.of(train.images)),
        "evaluation": replace(first, heads={each.head: each for each in others}).to_dict(),
    }
    path = to / f"{card.name}.json"
    _files.write(path, (json.dumps(document, indent=1) + "\n").encode())
    beside = _put_weights(trained, made)
    tell(_STAGES, _STAGES)
    return Shipped(made, path, beside, document, found)


@dataclass(frozen=True, eq=False)
class _File:
    """An ONNX file in memory and the loaded model."""

    content: bytes
    model: Model


def _write(
    chosen: _File,
    dataset: Dataset,
    calibrations: dict[str, Calibration],
    verdicts: dict[str, Quantization],
    folder: Path,
) -> tuple[Model, dict[str, Evaluation]]:
    """Score the model file and write it; returns it with the evaluation of each output head."""
    card, val = chosen.model.card, dataset.split("val")
    predicted = evaluator.predict_heads(
        chosen.model, val, heads=list(card.heads), labels=dataset.labels, data=dataset.root
    )
    answers = {each.head: each for each in predicted}
    reports = {head: evaluator.evaluate_predictions(each) for head, each in answers.items()}
    held = _known(dataset, card)
    metrics = {f"val as {head}": report.summary() for head, report in reports.items()}
    file = folder / f"{card.name}.onnx"
    # Without its evaluation a file counts alone, so that no moment pairs it with another's.
    (folder / f"{card.name}.json").unlink(missing_ok=True)
    made = model_files.write(chosen.content, replace(card, metrics=metrics), file)
    found = {
        head: replace(
            report,
            model=made.card.sha256 or "",
            calibration=calibrations[head],
            quantization=verdicts[head],
            training_overlap=None if held is None else evaluator.measure_overlap(answers[head], held),
        )
        for head, report in reports.items()
    }
    first = next(iter(found))
    shares = {name: head.frequencies for name, head in made.card.heads.items()}
    table = balance_table(list(answers.values()), shares)
    return made, found | {first: replace(found[first], balance_table=table)}


def _known(dataset: Dataset, card: Card) -> TrainingDuplicates | None:
    """Return which images of val are also in training; None if they are too small or training had others."""
    train, val = dataset.split("train"), dataset.split("val")
    learnt = {data.splits["train"].fingerprint for data in card.learnt_from if "train" in data.splits}
    if train.images.shape[1] < recrops.SMALLEST or learnt - {train.fingerprint}:
        return None
    return find_training_duplicates(val.images, train.images, include_recrops=True)


def _truth(head: str, card: Card, val: Split) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which images say something about a head, and the right answer to each."""
    if card.head(head).output == "probabilities":
        return np.ones(len(val), bool), val.labels
    if val.votes is None:
        raise DataError(f"split {val.name!r} has no votes, which the evaluation of the head {head!r} needs")
    return find_plurality(val.votes, card.labels)


def _calibration(raw: NDArray[np.float64], truth: NDArray[np.int64]) -> Calibration:
    """Fit a temperature, and logit biases if, across folds, cross entropy falls and accuracy does not."""
    alone, shifted = (calibration.measure(raw, truth, logit_bias=logit_bias) for logit_bias in (False, True))
    better = shifted.nll_after < alone.nll_after and shifted.accuracy_after >= alone.accuracy_after
    return shifted if better else alone


def _as_rounded(small: Model, val: Split, calibrations: Mapping[str, Calibration]) -> dict[str, Calibration]:
    """Measure by the int8 file's own answers what was fitted on those in float32."""
    measured = {}
    for head, (raw, truth) in _raw(small, val).items():
        found = calibrations[head]
        own = calibration.measure(raw, truth, logit_bias=bool(found.logit_bias))
        measured[head] = replace(
            own, temperature=found.temperature, logit_bias=found.logit_bias, threshold=found.threshold
        )
    return measured


def _raw(model: Model, val: Split) -> dict[str, _Raw]:
    """Return by head what a model says without the calibration that it has, and the right answers."""
    found = {}
    for head, answers in model.run_heads(val.images).items():
        decided, truth = _truth(head, model.card, val)
        has = model.card.head(head)
        found[head] = calibration.undo(answers, has.temperature, has.logit_bias)[decided], truth[decided]
    return found


def _calibrated(card: Card, calibrations: dict[str, Calibration]) -> Card:
    heads = {}
    for name, head in card.heads.items():
        found = calibrations[name]
        heads[name] = replace(
            head, temperature=found.temperature, logit_bias=found.logit_bias, threshold=found.threshold
        )
    return replace(card, heads=heads)


def _stated(card: Card, raw: Mapping[str, _Raw], train: Split) -> Card:
    """Return a calibrated card with frequencies, thresholds, the balance for photos, and heads at chance."""
    heads = {}
    for name, head in card.heads.items():
        shares = frequencies(card, name, train)
        uncalibrated, truth = raw[name]
        chances = calibration.apply(uncalibrated, head.temperature, head.logit_bias)
        adjusted = {
            offered: priors.Adjustment(balance=offered).apply(chances, card.labels, shares)
            for offered in priors.OFFERED
        }
        found = add_thresholds(head, chances, truth, card.labels, shares)
        heads[name] = replace(found, threshold=head.threshold, balance=_balance(adjusted, truth))
    return replace(card, heads=heads)


def _balance(adjusted: Mapping[float, NDArray[np.floating[Any]]], truth: NDArray[np.int64]) -> float:
    """Return the largest offered balance with which accuracy on val falls by at most `CONCESSION`."""
    accuracy = {balance: float((each.argmax(axis=1) == truth).mean()) for balance, each in adjusted.items()}
    return max(balance for balance, found in accuracy.items() if found >= accuracy[0.0] - CONCESSION)


def _in_float32(trained: Model, card: Card, val: Split) -> _File:
    model = exporters.rebuild(trained)
    with tempfile.TemporaryDirectory() as aside:
        made = exporters.write_model(model, card, aside, images=val.images[: exporters.IMAGES])
        return _File(made.read(), made)


def _in_int8(plain: _File, train: Split, val: Split) -> _File:
    chosen = np.random.default_rng(0).permutation(len(train))[:CALIBRATING]
    content = quantization.quantise(plain.content, train.images[np.sort(chosen)])
    card = replace(plain.model.card, precision="int8")
    fused = model_files.of(content, card)
    found = _fusion(fused, model_files.of(content, card, optimization="basic"), val)
    return _File(content, replace(fused, card=replace(fused.card, fusion=found)))


def _fusion(fused: Model, unfused: Model, val: Split) -> Fusion:
    """Compare an int8 model's answers where its operations are fused with those where they are not."""
    one, other = (np.concatenate([*model.run_heads(val.images).values()]) for model in (fused, unfused))
    apart = np.abs(one - other)
    return Fusion(
        images=len(val),
        agreement=float((one.argmax(axis=1) == other.argmax(axis=1)).mean()),
        largest_difference=float(apart.max()),
        mean_difference=float(apart.mean()),
    )


def _verdicts(plain: Model, small: Model, val: Split) -> dict[str, Quantization]:
    theirs, verdicts = small.run_heads(val.images), {}
    for head, ours in plain.run_heads(val.images).items():
        decided, truth = _truth(head, plain.card, val)
        verdicts[head] = quantization.acceptable(ours[decided], theirs[head][decided], truth[decided])
    return verdicts


def _put_weights(trained: Model, made: Model) -> Path | None:
    """Write what a training can start from beside an int8 file; beside another leave no older file's."""
    path = initial_weights.beside(made.path)
    if made.card.precision == "int8":
        _files.write(path, initial_weights.pack(onnx_graph.weights(trained.read()), made.card.sha256 or ""))
        return path
    with _files.writing(path):
        path.unlink(missing_ok=True)
    return None


def average(models: Sequence[Model], to: str | os.PathLike[str], *, images: NDArray[np.uint8]) -> Model:
    """Write the network whose weights are the mean of the weights of several models as a model file.

    Networks that started from one another, or from the same one, and trained on for a while are close enough
    for their mean to work too, often better than either (arXiv:2109.01903, arXiv:2203.05482).

    Args:
        models: Two or more trained models; the first in float32, as a run holds it, the others may be in int8
            if their weights are beside them. Heads that the first does not have are left out.
        to: The folder of the model.
        images: Images to compare file and network on, `(n, size, size, 1)` uint8.

    Returns:
        The model; its card is that of the first model, with the others in `averaged` and the models that
            all started from, or were averaged with before, in `base`.

    Raises:
        ModelError: They differ in network, labels or origin; or as in
            `exporters.weights_of` or `exporters.write_model`.
    """
    first, *others = models
    for other in others:
        _check_alike(first.card, other.card)
    averaged = tuple(map(_as_base, others))
    network = exporters.rebuild(first)
    found = [exporters.weights_of(model) for model in models]
    for model, own in zip(models, found, strict=True):
        shapes = {path: array.shape for path, array in own.items()}
        if any(shapes.get(variable.path) != tuple(variable.shape) for variable in network.weights):
            raise ModelError(f"the weights of {model.card.name!r} do not fit the network that its card names")
    for variable in network.weights:
        same = [each[variable.path] for each in found]
        variable.assign(np.mean(same, axis=0, dtype=np.float64).astype(np.float32))
    # Of one that started from another of them, the other's own card knows most.
    bases = {base.sha256: base for each in models for base in (*each.card.base, *each.card.averaged)}
    bases |= {base.sha256: base for base in averaged if base.sha256 in bases}
    card = replace(first.card, base=tuple(bases.values()), averaged=averaged, began=None, metrics={})
    return exporters.write_model(network, card, to, images=images)


def hashes_of(card: Card) -> set[str | None]:
    """Return the hashes that a model goes by: its file's, and that of what it was made of to ship."""
    return {card.sha256, card.made_from} - {None}


def _check_alike(first: Card, other: Card) -> None:
    # Calibrations may differ, because the mean is calibrated again.
    outputs = [{head.output for head in card.heads.values()} for card in (first, other)]
    for what, alike in (
        ("labels", first.labels == other.labels),
        ("size", first.size == other.size),
        ("heads", outputs[0] <= outputs[1]),
    ):
        if not alike:
            raise ModelError(
                f"{first.name!r} and {other.name!r} differ in their {what}, so their weights cannot be "
                "averaged; average runs with the same settings"
            )
    asked = [card.recipe.get("network") for card in (first, other)]
    origins = [hashes_of(card) | {base.sha256 for base in card.base} for card in (first, other)]
    if asked[0] != asked[1] or not origins[0] & origins[1]:
        raise ModelError(
            f"{first.name!r} and {other.name!r} did not start from the same weights, so their weights "
            "cannot be averaged; average a run of mien train --from with the model that it started from, or "
            "several runs that started from the same model"
        )


def _as_base(model: Model) -> Base:
    card = model.card
    if card.data is None or card.sha256 is None:
        raise ModelError(f"the card of {card.name!r} does not name its data; average runs of mien train")
    return Base(name=card.name, sha256=card.sha256, data=card.data, recipe=card.recipe, teacher=card.teacher)
