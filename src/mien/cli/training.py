"""Commands for training: `train`, `tune`, `plot`, `networks` and `recipes`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien import api
from mien._text import format_command, format_duration, format_setting, pluralize
from mien.cli import common
from mien.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mien.data.datasets import Dataset
    from mien.training.recipes import Recipe
    from mien.training.runs import Row, Run
    from mien.training.studies import StudyResult

#: Number of training images below which a note recommends `--from`.
FEW = 5000
#: The shipped model that the note recommends.
_BASE = "default"
#: Number of training images of a class below which a note names the class.
FEW_OF_A_CLASS = 10
#: Classes in the table before a training; the others are counted.
_MOST_CLASSES = 30
#: Options that only say where files are, so that --resume takes them.
_MOVED = ("--images", "--cache")
#: Recipes of teachers, and the recipe of their student.
_TEACHERS, _STUDENT = ("teacher", "teacher-vgg", "teacher-dense"), "release"


Teacher = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODEL",
        help="Distil from this model, such as default, or file of probabilities; or from the mean of "
        "several: MODEL,MODEL. Repeatable.",
    ),
]


def _match_recipes(incomplete: str) -> list[str]:
    """Complete the name of a recipe in a shell."""
    from mien.training import recipes

    return [name for name in recipes.RECIPES if name.startswith(incomplete)]


RecipeOption = Annotated[
    str | None,
    typer.Option(
        metavar="RECIPE",
        help="A recipe's name or TOML file; by default quick, or tune with --from.",
        autocompletion=_match_recipes,
    ),
]

ClusterOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Train on the workers of the Dask cluster at this address; local starts one with --workers "
        "processes. All machines need the data and the folder at the same paths.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Number of processes of --cluster local; by default one for each processor core."
    ),
]


@common.reads_data
def train(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="A folder, zip, tar, csv or other table, Parquet or npz file; "
            "with --resume, only if it has moved.",
        ),
    ] = None,
    recipe: RecipeOption = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Change a setting of the recipe, such as epochs=5. Repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="The folder of the run; by default the next free number in --runs."
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(metavar="PATH", help="The folder of numbered runs.")] = Path("runs"),
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Continue this run.")] = None,
    votes: common.Votes = None,
    exclude: common.Exclude = None,
    teacher: Teacher = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start from the weights of this run or model, such as default.",
            autocompletion=common.suggest_model,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(metavar="N", help="Train this many folds, and write out-of-fold probabilities."),
    ] = None,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    split_seed: common.SplitSeed = 42,
    reading: common.Reading = None,
    json: common.Json = False,
) -> int:
    """Train a network, and write a run with its history, figures and model file."""
    timer = common.Timer()
    if resume is not None:
        given = common.given_options(
            context, "recipe", "set_", "out", "runs", "split_seed", "folds", "from_", "cluster", "workers"
        )
        named = common.reading_words(context.params)[::2]
        refused = [*([given] if given else []), *(name for name in named if name not in _MOVED)]
        if refused:
            raise InputError(
                f"--resume continues a run unchanged, so it cannot be combined with {', '.join(refused)}"
            )
    elif data is None:
        raise InputError('DATA is missing; try: mien train "archive (4).zip" --recipe quick')
    if folds is not None and (given := common.given_options(context, "teacher", "from_")):
        raise InputError(f"--folds needs networks that were not trained on the held-out images; omit {given}")
    if folds is None and (given := common.given_options(context, "cluster", "workers")):
        raise InputError(f"{given} is for several trainings; add --folds, or use mien tune")
    skipped = 0

    def on_dataset(dataset: "Dataset") -> None:
        nonlocal skipped
        skipped = len(dataset.problems)
        if resume is None:
            _show_classes(dataset)
        if resume is None and folds is None and from_ is None:
            _recommend_base(dataset, context.params)

    options: dict[str, Any] = {"votes": votes, "exclude": exclude, "on_dataset": on_dataset}
    new: dict[str, Any] = {"settings": set_ or (), "out": out, "runs": runs, "split_seed": split_seed}
    new["reading"] = reading
    with common.live() as (progress, on_status):
        options |= {"progress": progress, "on_status": on_status, "on_note": common.note}
        made: Run | api.FoldsResult
        if data is None or resume is not None:
            assert resume is not None
            made = api.resume(resume, data, teacher=_taught(teacher), reading=reading, **options)
        elif folds is not None:
            new |= {"cluster": cluster, "workers": workers}
            made = api.train_folds(data, recipe or None, folds=folds, **new, **options)
        else:
            made = api.train(data, recipe or None, base=from_, teacher=_taught(teacher), **new, **options)
    if isinstance(made, api.FoldsResult):
        common.emit(made.to_dict() | timer.seconds()) if json else _tell_folds(made, context.params)
    else:
        document = _document(made) | timer.seconds()
        if json:
            common.emit(document)
        elif resume is None:
            _tell(document)
        else:
            _tell(document, data, made.history())
    return common.SOME_BAD if skipped else 0


def _taught(teacher: list[str] | None) -> list[str] | None:
    """Return the teachers that the option names."""
    names = [name for each in teacher or () for name in _divide(each)]
    if teacher and not all(names):
        raise InputError("--teacher has an empty name; write MODEL,MODEL without spaces and empty names")
    return names or None


def _divide(names: str) -> list[str]:
    """Return the models in a list with commas; a path that exists may have commas itself."""
    return [names] if Path(names).exists() else names.split(",")


def _document(made: "Run") -> dict[str, Any]:
    """Return the facts of a finished run, with its evaluation on val."""
    import json

    report = json.loads((made.evaluation / "val.json").read_text(encoding="utf-8"))
    figures = sorted(map(str, made.figures.glob("*")))
    return {"run": str(made.path), **made.facts(), "val": report, "figures": figures}


def _recommend_base(dataset: "Dataset", given: Mapping[str, Any]) -> None:
    """Note that a training on few images should start from a trained model."""
    from mien.models import model_files

    if (n := len(dataset.split("train"))) >= FEW:
        return
    known = set(dataset.labels) <= set(model_files.load(_BASE).card.labels)
    fits = "has these classes" if known else "can learn these classes"
    words = ["mien", "train", *_data_words(given), "--from", _BASE]
    common.note(
        f"{n:,} training images are few; the shipped model {_BASE} {fits}, and a training that starts from "
        f"it is usually much more accurate: {format_command(words)}"
    )


def _data_words(given: Mapping[str, Any]) -> list[str]:
    """Return the data and the options that read it, among the parameters of the command, as words."""
    words = [str(given["data"])]
    words += [] if given["votes"] is None else ["--votes", str(given["votes"].resolve())]
    words += [word for path in given["exclude"] or () for word in ("--exclude", str(path.resolve()))]
    words += ["--split-seed", str(given["split_seed"])] if given["split_seed"] != api.SPLIT_SEED else []
    return words + common.reading_words(given)


def _show_classes(dataset: "Dataset") -> None:
    """Print the classes and their counts on stderr, because each folder of images counts as a class."""
    from mien import labels

    counts = {split.name: [int(n) for n in _counts(split.labels, dataset)] for split in dataset.splits}
    rows = [(name, *(count[label] for count in counts.values())) for label, name in enumerate(dataset.labels)]
    common.table(f"{dataset.root}: classes", ("class", *counts), rows[:_MOST_CLASSES], on=common.err)
    if len(rows) > _MOST_CLASSES:
        common.note(f"{len(rows) - _MOST_CLASSES:,} more classes are not shown")
    common.table("Examples", ("image", "class"), _examples(dataset), whole="image", on=common.err)
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


#: Images that are shown before a training, with their classes.
_EXAMPLES = 6


def _examples(dataset: "Dataset") -> list[tuple[str, str]]:
    """Return the names of a few training images of different classes, and their classes."""
    import numpy as np

    split = dataset.split("train")
    places = [np.flatnonzero(split.labels == label) for label in range(len(dataset.labels))]
    found: list[int] = []
    for turn in range(_EXAMPLES):
        found += [int(own[turn]) for own in places if turn < len(own)]
    return [(split.files[place], dataset.labels[split.labels[place]]) for place in found[:_EXAMPLES]]


def _counts(labels: "NDArray[np.int64]", dataset: "Dataset") -> "NDArray[np.int64]":
    import numpy as np

    return np.bincount(labels, minlength=len(dataset.labels))


def _tell_folds(made: "api.FoldsResult", given: Mapping[str, Any]) -> None:
    """Print where the probabilities are, and the command that trains a student with them.

    Args:
        made: What was trained.
        given: The parameters of the command.
    """
    common.out.print(f"{made.path}: probabilities for {made.images:,} images", markup=False)
    if made.recipe.name in _TEACHERS:
        learner = _student(made.recipe)
    else:
        learner = [given["recipe"] or "quick"]
        learner += [word for each in given["set_"] or () for word in ("--set", each)]
    source, *reading = _data_words(given)
    words = ["mien", "train", source, "--recipe", *learner, "--teacher", str(made.path), *reading]
    common.out.print(f"next: {format_command(words)}", markup=False)


def _student(teacher: "Recipe") -> list[str]:
    """Return the options of a student with the size and the heads of its teacher."""
    from mien.training import recipes

    words, student = [_STUDENT], recipes.get(_STUDENT)
    if student.size != teacher.size:
        words += ["--set", f"size={teacher.size}"]
    if not teacher.targets.ferplus:
        words += ["--set", "targets.ferplus=0"]
    return words


def _tell(document: dict[str, Any], moved: Path | None = None, epochs: "list[Row] | None" = None) -> None:
    """Print a finished run and the next command.

    Args:
        document: The run.
        moved: The new place of its data, if they have moved.
        epochs: The history of a resumed run, whose epochs took longer than this command.
    """
    report = document["val"]
    low, high = report["accuracy_interval"]
    groups = report.get("interval_groups")
    by_group = f" of {groups:,} groups" if groups else ""
    common.table(
        f"{document['run']}",
        ("figure", "value"),
        [
            ("trained on", pluralize(document["data"]["splits"]["train"]["n"], "image")),
            ("epoch of the model", f"{document['shipped']['epoch']} of {document['shipped']['of']}"),
            (
                f"accuracy on val, n = {report['n']}{by_group}",
                f"{report['accuracy']:.2%} ({low:.2%} to {high:.2%})",
            ),
            ("macro F1 on val", f"{report['macro_f1']:.2%}"),
            *_beside(document.get("began")),
            *_times(document, epochs),
        ],
    )
    words = ["mien", "evaluate", document["run"]]
    words += ["--split", "test"] if "test" in document["data"]["splits"] else []
    origin = document["data"]["origin"]
    votes = origin.get("votes")
    if moved is None and votes and not Path(votes).exists():  # votes are not asked for where data is named
        moved = Path(origin["source"])
    words += [] if moved is None else ["--data", str(moved)]
    common.out.print(f"next: {format_command(words)}", markup=False)


def _times(document: dict[str, Any], epochs: "list[Row] | None") -> list[tuple[str, str]]:
    """Return the rows about the time of a command, and of all epochs if it has resumed a run."""
    seconds, cpu_seconds = (format_duration(document[clock]) for clock in ("seconds", "cpu_seconds"))
    if epochs is None:
        return [("time", seconds), ("processor time", cpu_seconds)]
    wall, cpu = (format_duration(sum(row[clock] for row in epochs)) for clock in ("seconds", "cpu_seconds"))
    return [
        ("time of this command", seconds),
        ("processor time of this command", cpu_seconds),
        ("time of all epochs", wall),
        ("processor time of all epochs", cpu),
    ]


def _beside(began: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return the row about the model that the training started from, if it was evaluated."""
    if began is None or "worse" not in began:
        return []
    (low, high), worse = began["accuracy_interval"], began["worse"]
    said = f"{began['accuracy']:.2%} ({low:.2%} to {high:.2%})"
    verdict = "; the trained model is worse" if worse else ""
    return [(f"accuracy on val of {began['name']}, the start", f"{said}{verdict}")]


@common.reads_data
def tune(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="The data, as mien train takes it.")
    ] = None,
    recipe: RecipeOption = None,
    trials: Annotated[
        int, typer.Option(metavar="N", help="Number of trials in all, with those of earlier runs.")
    ] = api.TRIALS,
    space: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A TOML file with ranges and choices of settings; by default --show-space."
        ),
    ] = None,
    show_space: Annotated[
        bool, typer.Option("--show-space", help="Print the search space as TOML, and exit.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Change a setting of the recipe for all trials, such as epochs=5. Repeatable.",
        ),
    ] = None,
    metric: Annotated[
        str, typer.Option(metavar="NAME", help="Compare trials by val_accuracy or val_loss.")
    ] = api.METRIC,
    prune: Annotated[
        bool, typer.Option("--prune/--no-prune", help="End trials early that are worse than others.")
    ] = True,
    confirm: Annotated[
        int, typer.Option(metavar="N", help="Train the best recipe with this many other seeds.")
    ] = api.CONFIRM,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the search.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The folder of the study; by default RECIPE-study in --runs."),
    ] = None,
    runs: Annotated[Path, typer.Option(metavar="PATH", help="The parent of that folder.")] = Path("runs"),
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start each trial from the weights of this run or model, such as default.",
            autocompletion=common.suggest_model,
        ),
    ] = None,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    votes: common.Votes = None,
    exclude: common.Exclude = None,
    teacher: Teacher = None,
    split_seed: common.SplitSeed = 42,
    reading: common.Reading = None,
    json: common.Json = False,
) -> int:
    """Search for settings of a recipe that do better on val, and write the best recipe and a page.

    The same command continues a search that was stopped or killed. Several processes can share a study.
    """
    timer = common.Timer()
    if show_space:
        return _show_space(recipe or None, set_ or (), space, metric, from_, json=json)
    if data is None:
        raise InputError('DATA is missing; try: mien tune "archive (4).zip" --recipe quick')
    skipped = 0

    def on_dataset(dataset: "Dataset") -> None:
        nonlocal skipped
        skipped = len(dataset.problems)

    with common.live() as (progress, _):
        found = api.tune(
            data,
            recipe or None,
            trials=trials,
            space=space,
            metric=metric,
            prune=prune,
            confirm=confirm,
            seed=seed,
            cluster=cluster,
            workers=workers,
            settings=set_ or (),
            out=out,
            runs=runs,
            base=from_,
            teacher=_taught(teacher),
            votes=votes,
            exclude=exclude,
            split_seed=split_seed,
            reading=reading,
            progress=progress,
            on_dataset=on_dataset,
            on_note=common.note,
        )
    common.emit(found.to_dict() | timer.seconds()) if json else _tell_study(found, context.params)
    return common.SOME_BAD if skipped else 0


def _show_space(
    recipe: str | None,
    settings: Sequence[str],
    space: Path | None,
    metric: str,
    base: str | None,
    *,
    json: bool,
) -> int:
    """Print the space that a search would use."""
    from mien.models import model_files
    from mien.training import search_spaces

    chosen = api.choose_recipe(recipe, settings, None if base is None else model_files.resolve(base).model)
    found = api.choose_space(space, chosen, metric)
    if json:
        common.emit({"recipe": chosen.name, "space": search_spaces.to_dict(found)})
    else:
        common.out.print(search_spaces.to_toml(found), markup=False, end="")
    return 0


#: Trials in the table after a search; the page has all of them.
_MOST_TRIALS = 10


def _tell_study(found: "StudyResult", given: Mapping[str, Any]) -> None:
    """Print the best trials, what the best recipe scores with other seeds, and the next command.

    Args:
        found: What was found.
        given: The parameters of the command.
    """
    from mien.training import studies

    done = [(each.score, each) for each in found.trials if each.score is not None]
    done.sort(key=lambda pair: pair[0], reverse=found.metric == "val_accuracy")
    common.table(
        f"{found.path}: {len(found.trials)} trials, {found.count('pruned')} pruned",
        ("trial", found.metric, *found.space),
        [
            (
                each.number,
                studies.format_score(found.metric, score),
                *(format_setting(value) for value in each.values.values()),
            )
            for score, each in done[:_MOST_TRIALS]
        ],
    )
    if found.importance:
        common.table(
            "Importance of the settings",
            ("setting", "share"),
            [(name, f"{share:.0%}") for name, share in found.importance.items()],
        )
    if found.best is not None:
        common.out.print(f"best: trial {found.best.number}; {found.measured}", markup=False)
    common.out.print(f"page: {found.report}", markup=False)
    if found.best_file.exists():
        source, *reading = _data_words(given)
        words = ["mien", "train", source, "--recipe", str(found.best_file)]
        words += ["--from", given["from_"]] if given["from_"] else []
        words += [word for each in given["teacher"] or () for word in ("--teacher", each)]
        words += reading
        common.out.print(f"next: {format_command(words)}", markup=False)


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
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Print this recipe as TOML, to start your own from.",
            autocompletion=_match_recipes,
        ),
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
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="The data of the run, if it has moved.")
    ] = None,
    json: common.Json = False,
) -> int:
    """Plot the figures of a run again as PNG and SVG: loss, accuracy, confusion matrix, training images."""
    skipped = 0

    def on_dataset(dataset: "Dataset") -> None:
        nonlocal skipped
        skipped = len(dataset.problems)

    with common.live() as (progress, _):
        drawn = api.plot_run(run, data, progress=progress, on_dataset=on_dataset, on_note=common.note)
    if json:
        common.emit({"run": str(run), "figures": drawn})
    else:
        for path in drawn:
            common.out.print(path, markup=False)
    return common.SOME_BAD if skipped else 0
