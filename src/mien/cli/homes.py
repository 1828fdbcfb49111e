"""The run that a model is of: its data as it learnt from them, and the count of its scorings."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.cli import screen
from mien.cli.model import is_run
from mien.cli.training import announce, load, load_again
from mien.errors import InputError, RunError, TrainingError

if TYPE_CHECKING:
    from mien.data.datasets import Dataset
    from mien.evaluation.evaluator import Uses
    from mien.models.model import Bundle
    from mien.training.runs import Run


def home(path: Path) -> Path | None:
    """Return the folder of the run whose model `path` names, if it names one.

    That is a run's folder, the `bundle` in it, or the file in that. What merely stands in a run's folder, and
    a model of the package whatever the folder, are no models of the run's.
    """
    from mien.models import model as bundle

    if is_run(path):
        return path
    if str(path) in bundle.SHIPPED or not path.exists():
        return None
    place = path.resolve()
    inside = place.parent if place.is_file() and place.name == bundle.MODEL else place
    return inside.parent if inside.name == "bundle" and is_run(inside.parent) else None


def count(path: Path, model: "Bundle", report: Mapping[str, Any], *, what: str) -> "Uses | None":
    """Count a scoring in the run that a model is of; None where it is of none or that cannot be.

    Args:
        path: What the model was called by.
        model: It.
        report: As `evaluate.count` takes it.
        what: What was done, for the note where it cannot be counted: `the scoring`.
    """
    from mien.evaluation import evaluator as evaluate
    from mien.training import runs as run

    place = home(path)
    if place is None:
        return None
    try:
        return evaluate.count(run.open_run(place), model.card, report)
    except (RunError, TrainingError) as error:
        screen.note(f"{what} is not counted: {error}")
        return None


def as_trained(made: "Run", data: Path | None, origin: dict[str, Any]) -> "Dataset":
    """Load the data of a run with its training split as it learnt from it; of other data, all of it.

    Args:
        made: The run.
        data: Where its data are, if they moved; or other data.
        origin: How the run's data were read. What it left out of training is listed by row or by file, and
            so says nothing about other data.
    """
    from mien.data import datasets as dataset

    if data is None or not origin.get("exclude"):
        return load_again(made, data, origin)
    options = {key: value for key, value in origin.items() if key not in ("source", "teacher")}
    learnt = made.facts()["data"].get("splits", {}).get("train", {}).get("fingerprint")
    try:
        with screen.bar(f"reading {data.name}") as progress:
            found = dataset.load(data, size=made.recipe().size, progress=progress, **options)
        if found.train is not None and found.train.fingerprint == learnt:
            announce(found)
            return found
        why = f"its images are not those that {made.name} learnt from"
    except InputError as error:
        why = str(error)
    screen.note(f"what {made.name} left out of training stays in {data.name}: {why}")
    return load(data, size=made.recipe().size, **(origin | {"exclude": None}))
