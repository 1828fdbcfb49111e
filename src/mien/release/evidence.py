"""The sources of a model card: the card in the model file and the evaluations of the file, read strictly."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from mien.errors import DataError, InputError, ModelError, RunError
from mien.evaluation.evaluation import Evaluation
from mien.models import model_files
from mien.models.model_files import Card, Model, Part
from mien.training.runs import Run


@dataclass(frozen=True, kw_only=True)
class Hashed:
    """The file of hashes of the images that a model was trained on.

    Args:
        file: Its name.
        n: How many images they are.
    """

    file: str
    n: int


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that a page shows about one model.

    Args:
        card: Its own card; `sha256` is set.
        file: The name of its file.
        bytes: The file's size.
        evaluations: One per output head and split, the default head first.
        teacher: What it was trained from in addition to its data; empty if nothing or unknown.
        hashed: The file with the hashes of its training images; None if it has none.
    """

    card: Card
    file: str
    bytes: int
    evaluations: tuple[Evaluation, ...]
    teacher: str = ""
    hashed: "Hashed | None" = None

    @property
    def fer2013(self) -> bool:
        """Whether FER2013 is in its training data, according to its heads or the names of its data."""
        names = [data.name.lower() for data in self.card.learnt_from]
        return "fer2013" in self.card.heads or any(name.startswith(_FER2013) for name in names)

    @property
    def ferplus(self) -> bool:
        """Whether it was trained on the votes of FER+."""
        targets = self.card.recipe.get("targets", {})
        return "ferplus" in self.card.heads or bool(targets.get("votes", 0))

    @property
    def base_teachers(self) -> dict[str, str]:
        """The teachers of the models that it was made from, by their names."""
        return {base.name: base.teacher for base in (*self.card.base, *self.card.averaged) if base.teacher}

    def split_name(self, evaluation: Evaluation) -> str:
        """Return the name of a split, with its data if these are not the model's own."""
        own = self.card.data is not None and evaluation.data == self.card.data.name
        return evaluation.split if own else f"{evaluation.split} of {evaluation.data}"

    def data_name(self, name: str) -> str:
        """Return the usual name of the data set that its files call `name`."""
        own = self.card.data is not None and name == self.card.data.name
        return "FER2013" if own and self.fer2013 else name


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An input that could not be used."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Known:
    """The part of `run.json` about a run's data.

    `classes` has the images of each class by split; it is empty for runs from before mien counted them.
    """

    name: str
    fingerprint: str
    splits: dict[str, Part]
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    excluded: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Teacher:
    about: str


@dataclass(frozen=True, kw_only=True)
class _Facts:
    data: Known
    teacher: _Teacher | None = None


@dataclass(frozen=True, kw_only=True)
class _Document:
    schema: Literal[2]
    sha256: str
    bytes: int
    evaluation: dict[str, Any]
    training_hashes: Hashed | None = None


_FER2013 = ("fer2013", "icml_face_data")

_T = TypeVar("_T")

_DOCUMENT = TypeAdapter(_Document)
_FACTS = TypeAdapter(_Facts)


def of_model(model: Model, document: Mapping[str, Any]) -> Evidence:
    """Pair a model with the evaluation that `mien ship` wrote beside it.

    Raises:
        ModelError: The document is not an evaluation, or belongs to another file.
    """
    name = model.path.name
    what = f"the evaluation of {name!r}"
    found = _read(_DOCUMENT, document, ModelError(what))
    if found.sha256 != model.card.sha256:
        raise ModelError(
            f"the evaluation in the folder of {name!r} belongs to another file: it has the sha256 "
            f"{found.sha256[:12]}, the model has {(model.card.sha256 or '')[:12]}; ship the model again "
            "with mien ship"
        )
    evaluations = _evaluations(found.evaluation, model.card, ModelError(what))
    heads = [each.head for each in evaluations]
    if heads != list(model.card.heads):
        raise ModelError(
            f"{what} has the heads {', '.join(heads)}, but its card has {', '.join(model.card.heads)}; ship "
            "the model again with mien ship"
        )
    return Evidence(
        card=model.card,
        file=name,
        bytes=found.bytes,
        evaluations=evaluations,
        teacher=model.card.teacher,
        hashed=found.training_hashes,
    )


def of_run(made: Run) -> Evidence:
    """Pair a run's model with the reports in its folder.

    Raises:
        RunError: There is no model yet; or a report is damaged, or belongs to another file.
        ModelError: The model is damaged.
    """
    if not (made.model_folder / model_files.MODEL).is_file():
        raise model_files.unfinished(made.path)
    model = model_files.load(made.model_folder)
    facts = _facts(made)
    return Evidence(
        card=model.card,
        file=model_files.MODEL,
        bytes=(made.model_folder / model_files.MODEL).stat().st_size,
        evaluations=tuple(_reports(made, model.card)),
        teacher=facts.teacher.about if facts.teacher else "",
    )


def data_of(made: Run) -> Known:
    """Return what a run records about its data.

    Raises:
        RunError: Its `run.json` is missing, damaged, or has no data.
    """
    return _facts(made).data


def shipped(path: str | os.PathLike[str]) -> list[tuple[Model, dict[str, Any]]]:
    """Load the models that `mien ship` wrote, each with its evaluation.

    Args:
        path: An `.onnx` file with its `.json` in the same folder; a folder of such pairs; or the name of a
            shipped model.

    Returns:
        The pairs. In a folder, the shipped models are first, then the others by name.

    Raises:
        InputError: There is no model.
        ModelError: A file is damaged, or has no evaluation.
    """
    if str(path) in model_files.SHIPPED:
        path = model_files.find(path)
    path = Path(path)
    if path.is_dir():
        ranks = {name: rank for rank, name in enumerate(model_files.SHIPPED)}
        files = sorted(path.glob("*.onnx"), key=lambda file: (ranks.get(file.stem, len(ranks)), file.name))
        if not files:
            raise InputError(
                f"{str(path)!r} is neither a run nor a folder with models; name a run, or the folder with "
                "the .onnx and .json files of mien ship"
            )
    else:
        files = [path]
    return [(model_files.load(file.absolute()), _beside(file)) for file in files]


def _beside(file: Path) -> dict[str, Any]:
    """Read the evaluation beside a model."""
    path = file.with_suffix(".json")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{file.name!r} has no evaluation {path.name!r} in the same folder; create both with mien ship"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name!r} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise ModelError(f"{path.name!r} is not an evaluation; create it with mien ship")
    return document


def _facts(made: Run) -> _Facts:
    return _read(_FACTS, made.facts(), RunError(f"run.json of {made.name!r}"))


def _reports(made: Run, card: Card) -> Iterator[Evaluation]:
    """Yield what a run's reports hold: val, test, then others; of each the default head first."""
    order = ("val", "test")
    files = sorted(
        (file for file in made.evaluation.glob("*.json") if not file.name.startswith(".")),
        key=lambda file: (order.index(file.stem) if file.stem in order else len(order), file.name),
    )
    ranks = {name: rank for rank, name in enumerate(card.heads)}
    for file in files:
        fault = RunError(f"{file.name!r} in {made.evaluation.name!r} of {made.name!r}")
        evaluations = _evaluations(_kept(file), card, fault)
        for each in evaluations:
            if each.model != card.sha256:
                raise RunError(
                    f"{fault} is the evaluation of another model file; evaluate again with mien evaluate "
                    f"{made.path} --split {each.split}"
                )
        yield from sorted(evaluations, key=lambda each: ranks[each.head])


def _evaluations(values: Mapping[str, Any], card: Card, fault: InputError) -> tuple[Evaluation, ...]:
    """Return an evaluation and those of its other heads, all on this card's classes and heads.

    `fault` names the document in its message and is raised if it does not fit.
    """
    try:
        found = Evaluation.from_dict(values)
    except DataError as error:
        raise type(fault)(f"{fault} cannot be used: {error}; create it again") from None
    evaluations = (found, *found.heads.values())
    for each in evaluations:
        if not list(each.labels) == list(each.per_class) == list(card.labels):
            raise type(fault)(
                f"{fault} has the classes {', '.join(each.labels)}, but the model has "
                f"{', '.join(card.labels)}; create it again"
            )
        if {len(each.confusion), *map(len, each.confusion)} != {len(card.labels)}:
            raise type(fault)(
                f"{fault} has a confusion matrix that does not fit its classes; create it again"
            )
        if each.head not in card.heads:
            raise type(fault)(
                f"{fault} has the head {each.head!r}, but the model has {', '.join(card.heads)}; create it "
                "again"
            )
    return evaluations


def _kept(file: Path) -> dict[str, Any]:
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{file.name!r} is damaged: {error}; evaluate that split again") from None
    if not isinstance(report, dict):
        raise RunError(f"{file.name!r} is not a report; evaluate that split again")
    return report


def _read(adapter: TypeAdapter[_T], values: Mapping[str, Any], fault: InputError) -> _T:
    """Return plain values as what they should be; `fault` names them in its message and is raised if not."""
    try:
        return adapter.validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        said = first["msg"][0].lower() + first["msg"][1:]
        raise type(fault)(f"{fault} is not valid at {place!r}: {said}; create it again") from None
