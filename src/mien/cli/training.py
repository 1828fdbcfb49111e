"""Commands for training: `train`, `plot`, `networks` and `recipes`."""

import importlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien import api
from mien._text import format_duration
from mien.cli import common
from mien.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mien.data.datasets import Dataset
    from mien.data.probabilities import SavedPredictions
    from mien.models.model_files import Model
    from mien.training.recipes import Recipe
    from mien.training.runs import Run

#: Number of training images below which a note recommends `--from`.
FEW = 3000
#: Number of training images of a class below which a note names the class.
FEW_OF_A_CLASS = 10
#: Classes in the table before a training; the others are counted.
_MOST_CLASSES = 30
#: Recipes of teachers, and the recipe of their student.
_TEACHERS, _STUDENT = ("teacher", "teacher-vgg", "teacher-dense"), "release"


def train(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(help="A folder, zip, tar or fer2013.csv; with --resume only if it has moved."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="A recipe's name or TOML file; by default quick, or tune with --from."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting of the recipe, such as epochs=5. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder of the run; by default the next free number in --runs.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="The folder of numbered runs.")] = Path("runs"),
    resume: Annotated[Path | None, typer.Option(help="Continue this run.")] = None,
    votes: common.Votes = None,
    exclude: common.Exclude = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(help="Distil from this file of probabilities, or from the mean of several. Repeatable."),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start from the weights of this run or model, such as default.",
        ),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Train this many folds, and write out-of-fold probabilities.")
    ] = None,
    split_seed: common.SplitSeed = 42,
    json: common.Json = False,
) -> int:
    """Train a network, and write a run with its history, figures and model file."""
    from mien.models.networks import require_keras
    from mien.training.runs import check_empty

    timer = common.Timer()
    require_keras()
    if resume is not None:
        if given := common.given_options(
            context, "recipe", "set_", "out", "runs", "split_seed", "folds", "from_"
        ):
            raise InputError(f"--resume continues a run unchanged, so it cannot be combined with {given}")
        made, dataset = _go_on(resume, data, votes=votes, exclude=exclude, teacher=teacher)
    else:
        if data is None:
            raise InputError("DATA is missing; try: mien train 'archive (4).zip' --recipe quick")
        origin = {"votes": _absolute(votes), "exclude": _all_absolute(exclude), "seed": split_seed}
        base = None if from_ is None else _base(from_)
        chosen = api.choose_recipe(recipe or None, set_ or [], base)
        if folds is not None:
            _check_folds(folds, common.given_options(context, "teacher", "from_"))
            asked = [recipe or "quick", *(word for each in set_ or () for word in ("--set", each))]
            return _cross(data, chosen, folds, out, runs, origin, asked=asked, json=json)
        if teacher:
            origin["teacher"] = _all_absolute(teacher)
        if out is not None:
            check_empty(out)
        made, dataset = _begin(data, chosen, base, out, runs, origin)
    document = _document(made, dataset) | timer.seconds()
    common.emit(document) if json else _tell(document, data if resume else None)
    return common.SOME_BAD if dataset.problems else 0


def _base(path: str) -> "Model":
    from mien.models import model_files  # here, because it loads ONNX Runtime

    return model_files.load(path)


def _check_folds(folds: int, given: str) -> None:
    if folds < 2:
        raise InputError(f"--folds is {folds}; it must be at least 2, such as 5")
    if given:
        raise InputError(f"--folds needs networks that have not seen the held-out images; omit {given}")


def _document(made: "Run", dataset: "Dataset") -> dict[str, Any]:
    """Plot the figures of a finished run, and return its facts."""
    import json

    report = json.loads((made.evaluation / "val.json").read_text(encoding="utf-8"))
    drawn = api.plot_run(made, dataset, on_note=common.note)
    return {"run": str(made.path), **made.facts(), "val": report, "figures": drawn}


def _begin(
    data: Path,
    recipe: "Recipe",
    base: "Model | None",
    out: Path | None,
    runs: Path,
    origin: dict[str, Any],
) -> tuple["Run", "Dataset"]:
    from mien.models import networks

    networks.get(recipe.network)
    taught = _teacher(origin)
    dataset = _load(data, recipe, origin, "run.json")
    _show_classes(dataset)
    if base is None and (n := len(dataset.split("train"))) < FEW:
        common.note(
            f"{n:,} training images are few; a shipped model as the start usually gives better accuracy: "
            "add --from default"
        )
    networks.load_keras(recipe.network)
    from mien.training import trainer

    with common.live() as (move, on_status):
        made = trainer.fit(
            dataset,
            recipe,
            out=out,
            runs=runs,
            teacher=taught,
            base=base,
            origin={"source": str(data.resolve()), **origin},
            on_status=on_status,
            on_note=common.note,
            on_progress=move,
        )
    return made, dataset


def _load(data: Path, recipe: "Recipe", origin: dict[str, Any], listed: str = "") -> "Dataset":
    with common.listening() as listener:
        return api.load_data(data, size=recipe.size, listener=listener, listed=listed, **origin)


def _show_classes(dataset: "Dataset") -> None:
    """Print the classes and their counts on stderr, because each folder of images counts as a class."""
    from mien import labels

    counts = {split.name: [int(n) for n in _counts(split.labels, dataset)] for split in dataset.splits}
    rows = [(name, *(count[label] for count in counts.values())) for label, name in enumerate(dataset.labels)]
    common.table(f"{dataset.root}: classes", ("class", *counts), rows[:_MOST_CLASSES], on=common.err)
    if len(rows) > _MOST_CLASSES:
        common.note(f"{len(rows) - _MOST_CLASSES:,} more classes are not shown")
    if not any(labels.canonical(name) for name in dataset.labels):
        common.note(
            "no class has the name of an emotion; each folder of images counts as a class, so stop and move "
            "the folders if these are not your labels"
        )
    scarce = [row for row in zip(dataset.labels, counts["train"], strict=True) if row[1] < FEW_OF_A_CLASS]
    if scarce:
        named = ", ".join(f"{name!r} ({n})" for name, n in scarce[:3])
        more = f" and {len(scarce) - 3} more" if len(scarce) > 3 else ""
        common.note(
            f"fewer than {FEW_OF_A_CLASS} training images: {named}{more}; add images of these classes or "
            "remove their folders"
        )


def _counts(labels: "NDArray[np.int64]", dataset: "Dataset") -> "NDArray[np.int64]":
    import numpy as np

    return np.bincount(labels, minlength=len(dataset.labels))


def _teacher(origin: dict[str, Any]) -> "SavedPredictions | None":
    """Return the probabilities to distil from, if any."""
    from mien.data import probabilities

    files = origin.get("teacher")
    return probabilities.average([probabilities.read(file) for file in files]) if files else None


def _cross(
    data: Path,
    recipe: "Recipe",
    folds: int,
    out: Path | None,
    runs: Path,
    origin: dict[str, Any],
    *,
    asked: list[str],
    json: bool,
) -> int:
    """Train the folds one after the other, and print where the probabilities are.

    `asked` is the recipe in the words of the command line.
    """
    from mien.models import networks

    timer = common.Timer()
    networks.get(recipe.network)
    dataset = _load(data, recipe, origin)
    _show_classes(dataset)
    networks.load_keras(recipe.network)
    from mien.training import trainer

    with common.live() as (_, on_status):
        made = trainer.train_folds(
            dataset, recipe, folds=folds, out=out, runs=runs, on_status=on_status, on_note=common.note
        )
    train = dataset.split("train")
    if json:
        document = {"path": str(made), "folds": folds, "images": len(train), "fingerprint": train.fingerprint}
        common.emit(document | timer.seconds())
    else:
        common.out.print(f"{made}: probabilities for {len(train):,} images", markup=False)
        learner = _student(recipe) if recipe.name in _TEACHERS else asked
        words = ["mien", "train", str(data), "--recipe", *learner, "--teacher", str(made)]
        words += [] if origin["votes"] is None else ["--votes", origin["votes"]]
        words += [word for path in origin["exclude"] or () for word in ("--exclude", path)]
        words += ["--split-seed", str(origin["seed"])] if origin["seed"] != 42 else []
        common.out.print(f"next: {shlex.join(words)}", markup=False)
    return common.SOME_BAD if dataset.problems else 0


def _student(teacher: "Recipe") -> list[str]:
    """Return the options of a student with the size and the heads of its teacher."""
    from mien.training import recipes

    words, student = [_STUDENT], recipes.get(_STUDENT)
    if student.size != teacher.size:
        words += ["--set", f"size={teacher.size}"]
    if not teacher.targets.ferplus:
        words += ["--set", "targets.ferplus=0"]
    return words


def _go_on(
    path: Path,
    data: Path | None,
    *,
    votes: Path | None,
    exclude: list[Path] | None,
    teacher: list[Path] | None,
) -> tuple["Run", "Dataset"]:
    from mien.models import networks
    from mien.training import runs

    made = runs.open_run(path)
    moved = {"votes": _absolute(votes), "exclude": _all_absolute(exclude)}
    moved["teacher"] = _all_absolute(teacher)
    origin = made.facts()["data"]["origin"] | {key: value for key, value in moved.items() if value}
    taught = _teacher(origin)
    with common.listening() as listener:
        dataset = api.load_run_data(made, data, origin, listener=listener)
    networks.load_keras(made.recipe().network)
    from mien.training import trainer

    with common.live() as (_, on_status):
        trainer.resume(made, dataset, teacher=taught, on_status=on_status, on_note=common.note)
    return made, dataset


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _all_absolute(paths: list[Path] | None) -> list[str] | None:
    return [str(path.resolve()) for path in paths] if paths else None


def _tell(document: dict[str, Any], moved: Path | None) -> None:
    """Print a finished run and the next command; `moved` is the new place of its data, if it has moved."""
    report = document["val"]
    low, high = report["accuracy_interval"]
    common.table(
        f"{document['run']}",
        ("figure", "value"),
        [
            ("trained on", f"{document['data']['splits']['train']['n']} images"),
            ("epoch of the model", f"{document['shipped']['epoch']} of {document['shipped']['of']}"),
            (f"accuracy on val, n = {report['n']}", f"{report['accuracy']:.2%} ({low:.2%} to {high:.2%})"),
            ("macro F1 on val", f"{report['macro_f1']:.2%}"),
            *_beside(document.get("began")),
            ("time", format_duration(document["seconds"])),
            ("processor time", format_duration(document["cpu_seconds"])),
        ],
    )
    words = ["mien", "evaluate", document["run"]]
    words += ["--split", "test"] if "test" in document["data"]["splits"] else []
    origin = document["data"]["origin"]
    votes = origin.get("votes")
    if moved is None and votes and not Path(votes).exists():  # votes are not asked for where data is named
        moved = Path(origin["source"])
    words += [] if moved is None else ["--data", str(moved)]
    common.out.print(f"next: {shlex.join(words)}", markup=False)


def _beside(began: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return the row about the model that the training started from, if it was evaluated."""
    if began is None or "worse" not in began:
        return []
    (low, high), worse = began["accuracy_interval"], began["worse"]
    said = f"{began['accuracy']:.2%} ({low:.2%} to {high:.2%})"
    verdict = "; the trained model is worse" if worse else ""
    return [(f"accuracy on val of {began['name']}, the start", f"{said}{verdict}")]


def networks(json: common.Json = False) -> int:
    """List the networks with their parameters and operations per image."""
    from mien.models import networks

    side = 48
    rows: list[dict[str, Any]] = [
        {
            "name": network.name,
            "parameters": network.parameters,
            "mflop": round(network.flops / 1e6, 1),
            "input": [side, side, 1],
            "about": network.about,
        }
        for network in networks.NETWORKS.values()
    ]
    if json:
        common.emit({"networks": rows})
    else:
        common.table(
            f"Networks for grey images of {side}×{side} pixels and 7 classes",
            ("name", "parameters", "MFLOP", "about"),
            [(row["name"], f"{row['parameters']:,}", f"{row['mflop']:,}", row["about"]) for row in rows],
        )
    return 0


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Print this recipe as TOML, to start your own from.")
    ] = None,
    json: common.Json = False,
) -> int:
    """List the recipes, or print one as TOML."""
    from mien.training import recipes

    if name is not None:
        recipe = recipes.get(name)
        if json:
            common.emit(recipes.to_dict(recipe))
        else:
            common.out.print(recipes.to_toml(recipe), markup=False, end="")
        return 0
    if json:
        common.emit({"recipes": [recipes.to_dict(recipe) for recipe in recipes.RECIPES.values()]})
    else:
        common.table(
            "Recipes",
            ("name", "network", "epochs", "time", "score"),
            [
                (recipe.name, recipe.network, recipe.epochs, brief.time or "–", brief.score or "–")
                for recipe in recipes.RECIPES.values()
                for brief in (recipes.BRIEF[recipe.name],)
            ],
        )
        common.out.print(
            "Times are for two processor cores. For all settings: mien recipes NAME", markup=False
        )
    return 0


def plot(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    data: Annotated[Path | None, typer.Option(help="The data of the run, if it has moved.")] = None,
    json: common.Json = False,
) -> int:
    """Plot the figures of a run again as PNG and SVG: loss, accuracy, confusion matrix, training images."""
    from mien.training import runs

    # Without Matplotlib this raises an error before the data is read.
    importlib.import_module("mien.reports.plots")
    made = runs.open_run(run)
    try:
        with common.listening() as listener:
            dataset = api.load_run_data(made, data, made.facts()["data"]["origin"], listener=listener)
    except InputError as error:
        common.note(f"no training images are plotted: {error}")
        dataset = None
    drawn = api.plot_run(made, dataset, on_note=common.note)
    if json:
        common.emit({"run": str(made.path), "figures": drawn})
    else:
        for path in drawn:
            common.out.print(path, markup=False)
    return common.SOME_BAD if dataset is not None and dataset.problems else 0
