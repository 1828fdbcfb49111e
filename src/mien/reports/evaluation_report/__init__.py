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
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mien
from mien import _files as disk
from mien.data.datasets import Dataset
from mien.errors import DataError
from mien.evaluation import evaluator as evaluate
from mien.models.model import Bundle
from mien.reports.evaluation_report import html as page
from mien.reports.evaluation_report.measurements import (
    against_training,
    calibrations,
    examples,
    robustness,
    selection,
)
from mien.reports.evaluation_report.tables import FORMATS, table

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
        others: The same images as other readings of the model answer them.
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
        "readings": {each.reading: evaluate.judge(each).to_dict() for each in others},
        "versions": {"mien": mien.__version__, "onnxruntime": metadata.version("onnxruntime")},
        "models": [_model(each, answers.reading) for each in models],
        "dataset": _dataset(dataset),
        "preprocessing": f"grey, {card.size} × {card.size} pixels of 0 to 255, framing: {card.framing}; "
        f"{_inside(models, answers.reading)} are in the model file",
        "uses": asdict(told),
        "known": None if known is None else asdict(known),
        "selective": selection(answers),
        "calibration": calibrations(models, dataset, answers, told, progress=progress),
        "against_training": against_training(card, dataset, answers, told, recut=recut, progress=progress),
        "groups": None if groups is None else asdict(groups),
        "robustness": robustness(models, answers, progress=progress) if robust else None,
        "worst": examples(answers, "worst", _SHOWN),
        "uncertain": examples(answers, "uncertain", _SHOWN),
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
        DataError: They cannot be written.
    """
    place = Path(folder)
    # A file name that is no UTF-8 goes in as the escapes that JSON has for it.
    text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    texts = {JSON: text, HTML: page.write(found, answers, maps or {}), **(more or {})}
    contents = {name: each.encode(errors="backslashreplace") for name, each in texts.items()}
    try:
        if place.exists():
            _replace(place, contents)
        else:
            _make(place, contents)
    except OSError as error:
        raise DataError(f"no report can be written to {str(place)!r}: {disk.reason(error)}") from None
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
                disk.write(partial / name, content)
            partial.rename(place)
            disk.sync_folder(place.parent)
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
            disk.write(Path(partial) / name, content)
        for name in contents:
            (Path(partial) / name).replace(place / name)
    disk.sync_folder(place)


def _inside(models: Sequence[Bundle], reading: str) -> str:
    used = [each.card.reading(reading if reading in each.card.readings else None) for each in models]
    parts = {
        "temperature": any(each.temperature != 1 for each in used),
        "offsets": any(each.offsets for each in used),
    }
    return ", ".join(["rescaling", *(name for name, there in parts.items() if there)]) + " and softmax"


def _model(model: Bundle, reading: str) -> dict[str, Any]:
    card = model.card
    learnt = None if card.data is None else {"name": card.data.name, "fingerprint": card.data.fingerprint}
    # Of several models, those without the first one's reading answer by their own first.
    used = card.reading(reading if reading in card.readings else None)
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
