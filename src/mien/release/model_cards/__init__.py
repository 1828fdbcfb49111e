"""Model cards and datasheets, written from what was measured.

card.model(bundle.load("models/default.onnx"), evaluation)   # a model that ships
card.models(card.shipped("models"))                          # several, on one page
card.of_run(run.open_run("runs/quick-1"))                    # a run and its reports
card.datasheet(run.open_run("runs/quick-1"))                 # the data it learnt from

No figure is written by hand: each stands in the evaluation or in the card inside the model's file.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mien.errors import InputError
from mien.models.model import Bundle
from mien.release import evidence
from mien.release.model_cards import datasheets as sheet
from mien.release.model_cards import page
from mien.training.runs import Run

__all__ = ["DATASHEET", "MODEL_CARD", "datasheet", "model", "models", "of_run", "shipped"]

#: What the two pages about a run are called.
MODEL_CARD, DATASHEET = "model-card.md", "datasheet.md"


def model(bundle: Bundle, document: Mapping[str, Any]) -> str:
    """Return the model card of a model that ships.

    Args:
        bundle: The model; only its card and its file's name are used.
        document: Its evaluation, as `mien ship` writes it beside the file.

    Returns:
        Markdown, beginning with the YAML header of the model hub.

    Raises:
        ModelError: The document is no evaluation, or is another file's.

    Source: Mitchell et al. 2019, arXiv:1810.03993.
    """
    return models([(bundle, document)])


def models(pairs: Sequence[tuple[Bundle, Mapping[str, Any]]]) -> str:
    """Return one model card about several models that ship, as `model` does about one.

    Raises:
        InputError: There are none.
        ModelError: As `model`.
    """
    if not pairs:
        raise InputError("no model was given; a model card is about one at least")
    return page.write([evidence.of_model(*pair) for pair in pairs])


def of_run(made: Run) -> str:
    """Return the model card of a run: its bundle, with every report in its folder.

    Args:
        made: A finished run, of any classes.

    Raises:
        RunError: There is no model yet; or a report is damaged, or scores another file than the bundle's.
        ModelError: The bundle is damaged.
    """
    return page.write([evidence.of_run(made)])


def datasheet(made: Run) -> str:
    """Return the datasheet of a run's data: what the run knows of them, and what people must add.

    Args:
        made: A finished run, of any classes.

    Raises:
        RunError: As `of_run`; or `run.json` says nothing of the data.
        ModelError: The bundle is damaged.

    Source: Gebru et al. 2021, arXiv:1803.09010.
    """
    return sheet.write(evidence.data_of(made), evidence.of_run(made))


def shipped(path: str | os.PathLike[str]) -> list[tuple[Bundle, dict[str, Any]]]:
    """Load models that `mien ship` wrote, each with its evaluation.

    Args:
        path: An `.onnx` file whose `.json` stands beside it; a folder of such pairs; or the name of a
            model in the package.

    Returns:
        The pairs; of a folder those that the package names first, then the others by name.

    Raises:
        InputError: There is none.
        ModelError: A file is damaged, or stands without its evaluation.
    """
    return evidence.shipped(Path(path))
