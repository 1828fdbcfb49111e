"""Commands about training: `train`, `networks`, `recipes`."""

import importlib
import shlex
from dataclasses import replace
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
    from mien.models.model import Model
    from mien.training.recipes import Recipe
    from mien.training.runs import Run

#: Training images under which a training from chance is told of `--from`.
FEW = 3000
#: Training images of a class under which a note names the class.
FEW_OF_A_CLASS = 10
#: Classes in the table that stands before a training; the others are counted.
_MOST_CLASSES = 30
#: Recipes of networks that teach, and what learns from them.
_TEACHERS, _STUDENT = ("teacher", "teacher-vgg", "teacher-dense"), "release"


def train(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Argument(help="A folder, zip, tar or fer2013.csv; with --resume only if it moved.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="A name (mien recipes), or a TOML file; quick if none is named, tune with --from."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change one setting: --set epochs=5. Repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder, instead of the next free one.")] = None,
    runs: Annotated[Path, typer.Option(help="Where numbered run folders stand.")] = Path("runs"),
    resume: Annotated[Path | None, typer.Option(help="Go on with this run.")] = None,
    votes: common.Votes = None,
    exclude: common.Exclude = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(help="Distil from this file of probabilities; of several, from their mean. Repeatable."),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Begin from the weights of this run or model (default), not from chance.",
        ),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Train so many times without a part, and keep what is said of it.")
    ] = None,
    split_seed: common.SplitSeed = 42,
    json: common.Json = False,
) -> int:
    """Train a recipe; leave a run's folder with history, figures and the bundle that ships."""
    from mien.models.networks import require_keras

    timer = common.Timer()
    require_keras()
    if resume is not None:
        if given := common.given_options(
            context, "recipe", "set_", "out", "runs", "split_seed", "folds", "from_"
        ):
            raise InputError(f"--resume goes on with a run as it was; it takes no {given}")
        made, dataset = _go_on(resume, data, votes=votes, exclude=exclude, teacher=teacher)
    else:
        if data is None:
            raise InputError("no data was named; try: mien train 'archive (4).zip' --recipe quick")
        origin = {"votes": _absolute(votes), "exclude": _all_absolute(exclude), "seed": split_seed}
        base = None if from_ is None else _base(from_)
        chosen = _recipe(recipe or ("tune" if base else "quick"), set_ or [], base)
        if folds is not None:
            _check_folds(folds, common.given_options(context, "teacher", "from_"))
            asked = [recipe or "quick", *(word for each in set_ or () for word in ("--set", each))]
            return _cross(data, chosen, folds, out, runs, origin, asked=asked, json=json)
        if teacher:
            origin["teacher"] = _all_absolute(teacher)
        made, dataset = _begin(data, chosen, base, out, runs, origin)
    document = _document(made, dataset) | timer.seconds()
    common.emit(document) if json else _tell(document, data if resume else None)
    return common.SOME_BAD if dataset.problems else 0


def _base(path: str) -> "Model":
    from mien.models import model  # here, because it loads ONNX Runtime

    return model.load(path)


def _check_folds(folds: int, given: str) -> None:
    if folds < 2:
        raise InputError(f"--folds is {folds}; give 2 or more, such as 5")
    if given:
        raise InputError(
            f"--folds asks networks about images that nothing they come from has seen; it takes no {given}"
        )


def _document(made: "Run", dataset: "Dataset") -> dict[str, Any]:
    """Draw a finished run's figures, and return all that is known of it."""
    import json

    report = json.loads((made.evaluation / "val.json").read_text(encoding="utf-8"))
    drawn = api.plot_run(made, dataset, on_note=common.note)
    return {"run": str(made.path), **made.facts(), "val": report, "figures": drawn}


def _recipe(name: str, settings: list[str], base: "Model | None" = None) -> "Recipe":
    """Find the recipe and change it; the network is the base's, where there is one."""
    from mien.training import recipes

    path = Path(name)
    if path.suffix == ".toml":
        try:
            found = recipes.parse(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the recipe {name} cannot be read: {error}") from None
    else:
        found = recipes.get(name)
    if base is not None:
        network = base.card.recipe.get("network", found.network)
        found = replace(found, network=network, size=base.card.size)
    return recipes.override(found, settings)


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
            f"{n:,} images are few to begin from chance with; a training that begins from a model of "
            "the package mostly gets further: --from default"
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
    """Print the classes and their counts on stderr before a training begins.

    Any folder of images is taken for a class, so that a folder of photo albums trains albums.
    """
    from mien import labels

    counts = {split.name: [int(n) for n in _counts(split.labels, dataset)] for split in dataset.splits}
    rows = [(name, *(count[label] for count in counts.values())) for label, name in enumerate(dataset.labels)]
    common.table(f"{dataset.root}: classes", ("class", *counts), rows[:_MOST_CLASSES], on=common.err)
    if len(rows) > _MOST_CLASSES:
        common.note(f"{len(rows) - _MOST_CLASSES:,} more classes are not shown")
    if not any(labels.canonical(name) for name in dataset.labels):
        common.note(
            "no class has the name of an emotion; every folder of images is taken for a class, so stop and "
            "arrange the folders if these are not your labels"
        )
    scarce = [row for row in zip(dataset.labels, counts["train"], strict=True) if row[1] < FEW_OF_A_CLASS]
    if scarce:
        named = ", ".join(f"{name!r} ({n})" for name, n in scarce[:3])
        more = f" and {len(scarce) - 3} more" if len(scarce) > 3 else ""
        common.note(
            f"fewer than {FEW_OF_A_CLASS} training images: {named}{more}; a model learns little about such "
            "classes, so add images or remove the folders"
        )


def _counts(labels: "NDArray[np.int64]", dataset: "Dataset") -> "NDArray[np.int64]":
    import numpy as np

    return np.bincount(labels, minlength=len(dataset.labels))


def _teacher(origin: dict[str, Any]) -> "SavedPredictions | None":
    """Read the files that a training distils from, if it does."""
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
    """Train the folds, one after the other, and say where the probabilities are.

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
    """Return the words for what learns from a teacher: of its size, with no more answers than it gives."""
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
    """Show a finished run, and what comes next; `moved` is where its data are now, where that was said."""
    report = document["val"]
    low, high = report["accuracy_interval"]
    common.table(
        f"{document['run']}",
        ("what", "value"),
        [
            ("trained on", f"{document['data']['splits']['train']['n']} images"),
            ("ships epoch", f"{document['shipped']['epoch']} of {document['shipped']['of']}"),
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
    """Return the row about the model that a training began from, if that was scored."""
    if began is None or "worse" not in began:
        return []
    (low, high), worse = began["accuracy_interval"], began["worse"]
    said = f"{began['accuracy']:.2%} ({low:.2%} to {high:.2%})"
    verdict = "; the trained model is worse" if worse else ""
    return [(f"accuracy on val of {began['name']}, where it began", f"{said}{verdict}")]


def networks(json: common.Json = False) -> int:
    """List the networks: parameters, work for one image, input."""
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
            f"Networks, on grey images of {side}×{side} pixels and seven classes",
            ("name", "parameters", "MFLOP", "about"),
            [(row["name"], f"{row['parameters']:,}", f"{row['mflop']:,}", row["about"]) for row in rows],
        )
    return 0


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe as TOML.")] = None,
    json: common.Json = False,
) -> int:
    """List the recipes in short, or print one as TOML: all of it, to start a recipe of your own from."""
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
        common.out.print("Time is of two processor cores. The rest: mien recipes NAME", markup=False)
    return 0


def plot(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    data: Annotated[Path | None, typer.Option(help="The run's data, if it moved.")] = None,
    json: common.Json = False,
) -> int:
    """Draw a run's figures anew: loss, accuracy, confusion, training samples; PNG and SVG."""
    from mien.training import runs

    # Without matplotlib this raises here, before the data is read.
    importlib.import_module("mien.reports.plots")
    made = runs.open_run(run)
    try:
        with common.listening() as listener:
            dataset = api.load_run_data(made, data, made.facts()["data"]["origin"], listener=listener)
    except InputError as error:
        common.note(f"no samples are drawn: {error}")
        dataset = None
    drawn = api.plot_run(made, dataset, on_note=common.note)
    if json:
        common.emit({"run": str(made.path), "figures": drawn})
    else:
        for path in drawn:
            common.out.print(path, markup=False)
    return common.SOME_BAD if dataset is not None and dataset.problems else 0
