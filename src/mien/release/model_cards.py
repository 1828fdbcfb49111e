"""Model cards and datasheets, written from measured figures.

model_cards.models(model_cards.shipped("models"))         # the models that mien ship wrote, on one page
model_cards.of_run(runs.open_run("runs/quick-1"))         # a run and its reports
model_cards.datasheet(runs.open_run("runs/quick-1"))      # its training data

Every figure comes from the evaluation or from the card inside the model file.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mien import _text
from mien.errors import InputError
from mien.evaluation.calibration import FEW
from mien.evaluation.evaluation import Evaluation, Figures
from mien.evaluation.evaluation_log import find_choices
from mien.labels import EMOTIONS
from mien.models.model_files import Model
from mien.release import evidence
from mien.release.evidence import Evidence, Known
from mien.reports.rendering import code, render
from mien.training.runs import Run

__all__ = ["DATASHEET", "MODEL_CARD", "datasheet", "model", "models", "of_run", "shipped"]

#: What the two pages about a run are called.
MODEL_CARD, DATASHEET = "model-card.md", "datasheet.md"

#: Licences that the model hub knows by these names; any other is `other`.
_HUB_LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0"),
    *("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "gpl-3.0", "lgpl-3.0", "mpl-2.0", "unlicense"),
)
#: Digits of a result in the header.
_DIGITS = 4
#: Images of FER2013's PublicTest.
_PUBLIC_TEST = 3589
#: Classes whose confusion matrix is a readable table, and groups whose figures are.
_MOST_COLUMNS, _MOST_GROUPS = 12, 24
#: Unreadable files that a datasheet names; the others are counted.
_MOST_NAMED = 10

#: A model and what is known of one of its heads on one split.
_Scored = tuple[Evidence, Evaluation]


def model(model: Model, document: Mapping[str, Any]) -> str:
    """Return the model card of a shipped model.

    Args:
        model: The model; only its card and its file's name are used.
        document: Its evaluation, as `mien ship` writes it beside the file.

    Returns:
        Markdown, beginning with the YAML header of the model hub.

    Raises:
        ModelError: The document is not an evaluation, or belongs to another file.

    Source: Mitchell et al. 2019, arXiv:1810.03993.
    """
    return models([(model, document)])


def models(pairs: Sequence[tuple[Model, Mapping[str, Any]]]) -> str:
    """Return one model card about several shipped models, as `model` does about one.

    Raises:
        InputError: No model is given.
        ModelError: As `model`.
    """
    if not pairs:
        raise InputError("no model was given; give at least one")
    return _render_card([evidence.of_model(*pair) for pair in pairs])


def of_run(made: Run) -> str:
    """Return the model card of a run: its model, with every report in its folder.

    Args:
        made: A finished run, of any classes.

    Raises:
        RunError: The run has no model yet; or a report is damaged, or scores another file than the model's.
        ModelError: The model is damaged.
    """
    return _render_card([evidence.of_run(made)])


def datasheet(made: Run) -> str:
    """Return the datasheet of a run's data: what the run records about them, and what people must answer.

    Args:
        made: A finished run, of any classes.

    Raises:
        RunError: As `of_run`; or `run.json` does not contain the data.
        ModelError: The model is damaged.

    Source: Gebru et al. 2021, arXiv:1803.09010.
    """
    return _render_datasheet(evidence.data_of(made), evidence.of_run(made))


def shipped(path: str | os.PathLike[str]) -> list[tuple[Model, dict[str, Any]]]:
    """Load models that `mien ship` wrote, each with its evaluation.

    Args:
        path: An `.onnx` file with its `.json` in the same folder; a folder of such pairs; or the name of a
            model in the package.

    Returns:
        The pairs; of a folder those that the package names first, then the others by name.

    Raises:
        InputError: No model is found.
        ModelError: A file is damaged, or its evaluation is missing.
    """
    return evidence.shipped(Path(path))


def _render_card(models: Sequence[Evidence]) -> str:
    """Return the card of one model or several, in the order of Mitchell et al. 2019."""
    scored = [(model, evaluation) for model in models for evaluation in model.evaluations]
    calibrated = [(model, evaluation) for model, evaluation in scored if evaluation.calibration]
    fits = [evaluation.calibration for _, evaluation in scored if evaluation.calibration]
    biased = [pair for pair, fit in zip(calibrated, fits, strict=True) if fit.logit_bias]
    heads = {name: head for model in models for name, head in model.card.heads.items()}
    default = next(iter(models[0].card.heads))
    any_head_threshold = any(
        head.threshold is not None for model in models for head in model.card.heads.values()
    )
    groups = [evaluation.groups.column for _, evaluation in scored if evaluation.groups]
    return render(
        "model_card.md.j2",
        models=models,
        names=[code(model.card.name) for model in models],
        hub=_hub(models),
        hub_name=_hub_name,
        digits=_DIGITS,
        all_heads=heads,
        default_head=default,
        other_head=next((name for name in heads if name != default), None),
        unscored=_unscored(models),
        group_columns=list(dict.fromkeys(groups)),
        any_agreement=any(evaluation.agreement for _, evaluation in scored),
        any_threshold=any_head_threshold or bool(calibrated),
        any_head_threshold=any_head_threshold,
        any_test=any(evaluation.split == "test" for _, evaluation in scored),
        # Only runs have no calibration, and a card is about one run.
        selected_on_val=bool({model.card.recipe.get("select", "") for model in models} - {"last", ""}),
        rarest=_rarest(scored),
        bins=_text.join_words(sorted({str(len(evaluation.reliability)) for _, evaluation in scored})),
        **_choices_on_val(scored),
        sizes=sorted({str(model.card.size) for model in models}),
        fer2013=any(model.fer2013 for model in models),
        ferplus=any(model.ferplus for model in models),
        seven_emotions=any(set(model.card.labels) == set(EMOTIONS) for model in models),
        evaluated=_evaluated(scored),
        by_group=list(
            dict.fromkeys(
                (each.data, each.split, each.interval_note) for _, each in scored if each.interval_note
            )
        ),
        training=_training_splits(models),
        left_out=[dict(model.card.excluded) for model in models],
        scored=scored,
        calibrated=calibrated,
        biased=biased,
        bias_labels=list(biased[0][0].card.labels) if biased else [],
        folds=_text.join_words(sorted({str(fit.folds) for fit in fits})),
        few=FEW,
        new=[
            (model, evaluation, *rest)
            for model, evaluation in scored
            if (rest := _without_training(model, evaluation))
        ],
        quantized=[(model, evaluation) for model, evaluation in scored if evaluation.quantization],
        most_columns=_MOST_COLUMNS,
        most_groups=_MOST_GROUPS,
    )


def _render_datasheet(data: Known, model: Evidence) -> str:
    """Return a datasheet in the order of Gebru et al. 2021."""
    return render(
        "datasheet.md.j2",
        data=data,
        model=model,
        class_counts=_class_counts(data, model),
        reasons=Counter(problem.reason for problem in data.problems),
        most_named=_MOST_NAMED,
    )


def _hub(models: Sequence[Evidence]) -> dict[str, Any]:
    """Return the values of the model hub's header: licence and data sets."""
    licences = sorted({model.card.licence for model in models})
    named = [name for model in models for name in _data_sets(model)]
    found: dict[str, Any] = {"license": "other", "license_name": None}
    if licences == [""]:
        found["license"] = "unknown"
    elif len(licences) == 1 and licences[0].lower() in _HUB_LICENCES:
        found["license"] = licences[0].lower()
    else:
        found["license_name"] = "; ".join(name or "unknown" for name in licences)
    return found | {"datasets": [name for name in dict.fromkeys(map(_hub_name, named)) if name]}


def _data_sets(model: Evidence) -> list[str]:
    named = [model.data_name(model.card.data.name)] if model.card.data else []
    return [*named, *(["ferplus"] if model.ferplus else [])]


def _hub_name(name: str) -> str:
    """Return a data set's name as the hub takes one."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")


def _unscored(models: Sequence[Evidence]) -> list[str]:
    """Return the heads without an evaluation, each with its model, as Markdown."""
    return [
        code(name) + " of " + code(model.card.name)
        for model in models
        for name in model.card.heads
        if name not in {evaluation.head for evaluation in model.evaluations}
    ]


def _rarest(scored: Sequence[_Scored]) -> dict[str, Any] | None:
    """Return the class with the fewest images, as an example of what accuracy hides."""
    for _, evaluation in scored:
        counts = {name: each.n for name, each in evaluation.per_class.items() if each.n}
        if counts:
            name = min(counts, key=counts.__getitem__)
            return {"name": name, "n": counts[name], "of": evaluation.n}
        return None
    return None


def _without_training(model: Evidence, evaluation: Evaluation) -> tuple[Figures, float | None] | None:
    """Return the figures on images that training does not contain, and the calibration error there.

    The error is against what the head is to say: the label, or the plurality of the votes.
    """
    overlap = evaluation.training_overlap
    if overlap is None or overlap.without_recrops is None or evaluation.calibration is None:
        return None
    figures = overlap.without_recrops
    if model.card.head(evaluation.head).output == "probabilities":
        return figures, figures.ece
    return figures, None if figures.agreement is None else figures.agreement.ece


def _evaluated(scored: Sequence[_Scored]) -> list[tuple[str, str, int, str]]:
    """Return data, split, number of images and fingerprint of what was scored, each once."""
    splits = {
        (model.data_name(evaluation.data), evaluation.split, evaluation.split_fingerprint): (evaluation.n)
        for model, evaluation in scored
    }
    return [(data, split, n, fingerprint) for (data, split, fingerprint), n in splits.items()]


def _training_splits(models: Sequence[Evidence]) -> list[tuple[str, str, int, str]]:
    """Return data, split, number of images and fingerprint of the training data, each once."""
    splits = {
        (model.data_name(data.name), split, part.fingerprint): part.n
        for model in models
        for data in model.card.learnt_from
        for split, part in data.splits.items()
        if split == "train"
    }
    return [(data, split, n, fingerprint) for (data, split, fingerprint), n in splits.items()]


def _choices_on_val(scored: Sequence[_Scored]) -> dict[str, Any]:
    """Return what was chosen on the images of val, if figures of the card are of these."""
    found = [
        (model, evaluation, choices)
        for model, evaluation in scored
        if (choices := find_choices(model.card, evaluation.split_fingerprint)) is not None
    ]
    all_chosen = len(found) == len(scored) and any(
        choices.any or _on_public_test(model, evaluation) or evaluation.calibration is not None
        for model, evaluation, choices in found
    )
    if not found:
        return {"val": None, "only_chosen": all_chosen}
    calibrations = [evaluation.calibration for _, evaluation, _ in found if evaluation.calibration]
    fitted = [
        "temperatures",
        *(["logit biases"] if any(not each.prior for each in calibrations) else []),
        "thresholds",
    ]
    epochs = [choices.epoch for _, _, choices in found]
    val: dict[str, Any] = {
        "compared": any(_on_public_test(model, evaluation) for model, evaluation, _ in found),
        "epoch": any(epochs),
        "maybe_epoch": not any(epochs) and None in epochs,
        "ended": any(choices.ended for _, _, choices in found),
        "fitted": _text.join_words(fitted) if calibrations else "",
        "int8": any(evaluation.quantization for _, evaluation, _ in found),
    }
    val["chosen"] = any(val.values())
    val["threshold"] = not calibrations and any(choices.threshold for _, _, choices in found)
    return {"val": val, "only_chosen": all_chosen}


def _on_public_test(model: Evidence, evaluation: Evaluation) -> bool:
    """Return whether the images are FER2013's PublicTest, on which mien's own recipes were compared."""
    return model.fer2013 and evaluation.n == _PUBLIC_TEST


def _class_counts(data: Known, model: Evidence) -> dict[str, dict[str, int]]:
    """Return the images of each class by split; of older runs only for splits that were scored."""
    counts = {name: data.classes[name] for name in data.splits if name in data.classes}
    if counts:
        return counts
    own = model.card.data.name if model.card.data else ""
    evaluations = {each.split: each for each in model.evaluations if each.data == own}
    return {
        name: {label: each.n for label, each in evaluation.per_class.items()}
        for name, evaluation in evaluations.items()
    }
