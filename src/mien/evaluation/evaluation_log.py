"""The log of the evaluations of a run.

A test score is valid only if nothing was selected by it. If you evaluate on a test split, change something
and evaluate again, you select by this split, and the better score is too high by an unknown amount. Therefore
a run logs, in `scored.json`, each evaluation on images that it did not use for training or selection.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import filelock

from mien import _files
from mien.errors import RunError
from mien.evaluation.evaluation import Role, SplitUse
from mien.models.model_files import Card, Data
from mien.training.runs import Run, open_run

#: The file in a run's folder.
LOG_FILE = "scored.json"

#: Seconds to wait for another process that counts in the same run.
_PATIENCE = 10.0


def find_role(card: Card, fingerprint: str, split: str = "", name: str = "") -> SplitUse:
    """Return what the images of a split were to a model, from its card; nothing is counted.

    Args:
        card: The card of the model.
        fingerprint: Of the split.
        split: The split's name, for the warning if it differs from its role.
        name: Of the data it is a split of. A split of the same name in data of the same name, of other
            images, may hold the training images of the model: the training images that a fold is cut from do.
    """
    if card.data is None:
        why = (
            "the model card does not name its data, so it is unknown whether the model was trained on "
            "these images"
        )
        return SplitUse(role="unknown", warnings=(why,))
    roles: tuple[Role, Role] = ("train", "val")
    for known in roles:
        for data in card.learnt_from:
            part = data.splits.get(known)
            if part is not None and part.fingerprint == fingerprint:
                what = f"the split {split} is {known}, which" if split not in ("", known) else known
                return SplitUse(role=known, warnings=(f"{what} {_why(known, card, fingerprint)}",))
    for data in card.learnt_from:
        if split in ("train", "val") and split in data.splits and data.name == name:
            why = (
                f"the split {split} of {name} was used in training with other images, so it is unknown on "
                "which of these images the model was trained"
            )
            return SplitUse(role="unknown", warnings=(why,))
    return SplitUse(role="other")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a validation split decided about a model, as the card's recipes and heads say.

    Args:
        epoch: Whether it selected the epoch of the model, or of one that it was made from; None
            where a recipe does not say.
        ended: Whether it could end the training early, though the last epoch ships.
        calibration: Whether it fitted a temperature or a logit bias.
        threshold: Whether it fitted the threshold of `uncertain`, which changes no score.
    """

    epoch: bool | None
    ended: bool
    calibration: bool
    threshold: bool

    @property
    def any(self) -> bool:
        """Whether it decided, or may have decided, anything that changes a score."""
        return self.epoch is not False or self.ended or self.calibration


def find_choices(card: Card, fingerprint: str) -> Choices | None:
    """Return what the images of a split decided about a model.

    Args:
        card: The model's.
        fingerprint: Of a split.

    Returns:
        None where they are the validation split neither of the model nor of one that it was made from.
    """
    own = [] if card.data is None else [(card.data, card.recipe)]
    others = [(base.data, base.recipe) for base in (*card.base, *card.averaged)]

    def held(pairs: list[tuple[Data, dict[str, Any]]]) -> list[dict[str, Any]]:
        return [
            recipe
            for data, recipe in pairs
            if (part := data.splits.get("val")) is not None and part.fingerprint == fingerprint
        ]

    recipes = held(own + others)
    if not recipes:
        return None
    selects = [recipe.get("select") for recipe in recipes]
    known = any(select not in (None, "last") for select in selects)
    heads = card.heads.values() if held(own) else ()
    return Choices(
        epoch=True if known else None if None in selects else False,
        ended=any(
            recipe.get("select") == "last" and recipe.get("stopping", {}).get("patience", 0) > 0
            for recipe in recipes
        ),
        calibration=any(head.temperature != 1 or head.logit_bias for head in heads),
        threshold=any(head.threshold is not None for head in heads),
    )


def _why(known: str, card: Card, fingerprint: str) -> str:
    """Return what a split decided about a model, as the end of a sentence."""
    found = find_choices(card, fingerprint)
    if known == "train" or found is None:
        return "is the training data of the model, so this score does not measure the accuracy on new images"
    calibration = " and fitted the calibration" if found.calibration else ""
    if found.epoch:
        return f"selected the checkpoint{calibration}, so this score is slightly too high to report"
    if found.epoch is None:
        return (
            f"may have selected the checkpoint (the card does not say){calibration}, so this score may be "
            "slightly too high"
        )
    if found.ended:
        return f"could stop the training early{calibration}, so this score may be slightly too high to report"
    if found.calibration:
        return "fitted the calibration, so this score is slightly too high; it did not select the checkpoint"
    return "did not select the checkpoint, because the recipe keeps the last epoch"


def log_evaluation(
    made: Run, card: Card, *, split: str, fingerprint: str, data: str, n: int, sha256: str
) -> SplitUse:
    """Log the evaluation of a run's model, and return how often it was evaluated on these images.

    Evaluations on train and val are not logged.

    Args:
        made: The run.
        card: The model's.
        split: The name of the split scored.
        fingerprint: Of that split.
        data: The name of the data set it is part of.
        n: Images.
        sha256: Of the model file; of several, one after the other.

    Raises:
        RunError: The count is damaged, or another process holds it for long.
        OutputError: It cannot be written.
    """
    known = find_role(card, fingerprint, split, data)
    if known.role in ("train", "val"):
        return known
    entry = {
        "split_fingerprint": fingerprint,
        "split": split,
        "data": data,
        "n": n,
        "model": sha256,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path = made.path / LOG_FILE
    with _files.writing(path):
        try:
            with filelock.FileLock(made.path / f".{LOG_FILE}.lock", timeout=_PATIENCE):
                entries = [*_entries(made), entry]
                _files.write(path, (json.dumps(entries, indent=2, ensure_ascii=False) + "\n").encode())
        except filelock.Timeout:
            raise RunError(f"{path.name} of {made.name} is locked by another process; try again") from None
        except NotImplementedError:
            raise RunError(f"{path} cannot be locked, because its drive does not support locks") from None
    here = [each for each in entries if each["split_fingerprint"] == fingerprint]
    models = len({each["model"] for each in here})
    beside, damaged = _beside(made, fingerprint)
    return SplitUse(
        role=known.role,
        times=len(here),
        models=models,
        beside=beside,
        warnings=(*known.warnings, *_warnings(made, len(here), models, beside), *damaged),
    )


def _warnings(made: Run, times: int, models: int, beside: tuple[str, ...]) -> tuple[str, ...]:
    told = []
    if models > 1:
        told.append(
            f"{made.name} evaluated {models} different model files on these images, {times} times in total; "
            "if you chose a model by this, its score is too high; choose with val"
        )
    if beside:
        more = f" and {len(beside) - 3} more" if len(beside) > 3 else ""
        were = "were" if len(beside) > 1 else "was"
        told.append(
            f"{', '.join(beside[:3])}{more}, in the folder of {made.name}, {were} also evaluated on these "
            "images; if you chose a run by this, its score is too high; choose with val"
        )
    return tuple(told)


def _beside(made: Run, fingerprint: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the runs in the same folder that were scored on the images, and warnings about damaged logs."""
    names, damaged = [], []
    own = made.path.resolve()
    for path in sorted(own.parent.glob(f"*/{LOG_FILE}")):
        if path.parent == own or not (path.parent / "recipe.toml").is_file():
            continue
        try:
            entries = _entries(open_run(path.parent))
        except RunError as error:
            damaged.append(
                f"it is unknown whether {path.parent.name} was also evaluated on these images: {error}"
            )
            continue
        if any(each["split_fingerprint"] == fingerprint for each in entries):
            names.append(path.parent.name)
    return tuple(names), tuple(damaged)


def _entries(made: Run) -> list[dict[str, Any]]:
    try:
        entries = json.loads((made.path / LOG_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RunError(f"{LOG_FILE} of {made.name} is damaged: {error}; move it away") from None
    if not isinstance(entries, list) or not all(
        isinstance(each, dict)
        and all(isinstance(each.get(key), str) for key in ("split_fingerprint", "model"))
        for each in entries
    ):
        raise RunError(f"{LOG_FILE} of {made.name} does not have a list of evaluations; move it away")
    return entries
