"""Commands about a trained model: `evaluate`, `plot`, `export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli import screen
from mien.cli.data import Json
from mien.cli.training import SOME_BAD, load, load_again
from mien.errors import InputError, TrainingError

if TYPE_CHECKING:
    from mien.bundle import Bundle
    from mien.dataset import Dataset

#: Classes whose confusion still fits a terminal.
_MOST_COLUMNS = 9


def evaluate(
    context: typer.Context,
    models: Annotated[
        list[Path], typer.Argument(help="Runs, bundles, model.onnx files; several are averaged.")
    ],
    data: Annotated[Path | None, typer.Option(help="Data to score on; a run knows its own.")] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    labels: Annotated[
        str | None, typer.Option(help="Which reading answers, such as fer2013 or consensus.")
    ] = None,
    probabilities: Annotated[
        Path | None, typer.Option(help="Keep the answers in this .npz file, to distil from.")
    ] = None,
    votes: Annotated[Path | None, typer.Option(help="FER+ votes, for csv data.")] = None,
    split_seed: Annotated[int, typer.Option(help="Decides splits that the data does not bring.")] = 42,
    json: Json = False,
) -> int:
    """Score what ships on a split: one model, or the mean of several."""
    from mien import bundle

    timer = screen.Timer()
    first = models[0]
    loaded = [bundle.load(path / "bundle" if is_run(path) else path) for path in models]
    if is_run(first) and (data is None or len(models) == 1):
        dataset = _data_of_run(context, first, data, split)
    elif data is None:
        raise InputError(f"{first} does not know its data; name it with --data")
    else:
        dataset = load(data, size=loaded[0].card.size, votes=votes, seed=split_seed)
    document = score(loaded, dataset, split, labels)
    if len(models) == 1 and is_run(first):
        _keep(first, document)
    if probabilities is not None:
        _keep_answers(loaded, dataset, split, probabilities)
    if json:
        screen.emit(document | timer.seconds())
    else:
        tell(document)
    return SOME_BAD if dataset.problems else 0


def _data_of_run(context: typer.Context, path: Path, data: Path | None, split: str) -> "Dataset":
    """Load the data that a run was trained on; `train` as it was, without what was left out."""
    from mien import run

    if given := screen.given(context, "votes", "split_seed"):
        raise InputError(f"{path} is a run, which knows how its data was read; it takes no {given}")
    made = run.open_run(path)
    origin = made.facts()["data"]["origin"]
    if split != "train":  # what was left out of training changes neither val nor test
        origin |= {"exclude": None}
    return load_again(made, data, origin | ({"votes": None} if data else {}))


def _keep_answers(loaded: list["Bundle"], dataset: "Dataset", split: str, to: Path) -> None:
    from mien import evaluate as room
    from mien import probabilities

    part = dataset.split(split)
    answers: dict[str, Any] = {}
    for name, reading in loaded[0].card.readings.items():
        if all(name in each.card.readings for each in loaded):
            with screen.bar(f"asking for {name}") as progress:
                answers[reading.output] = room.ask(loaded, part.images, reading=name, progress=progress)
    about = " + ".join(each.card.name for each in loaded)
    probabilities.write(
        to, probabilities.Stored(part.fingerprint, loaded[0].card.labels, answers, f"{about}, asked directly")
    )


def is_run(path: Path) -> bool:
    """Say whether `path` is a run's folder rather than a bundle."""
    return (path / "recipe.toml").is_file()


def score(loaded: list["Bundle"], dataset: "Dataset", split: str, labels: str | None) -> dict[str, Any]:
    """Score bundles on one split, with a progress bar; returns the report as plain values.

    The other readings of the model are scored too, and stand under `readings`.
    """
    from mien import evaluate as room

    shared = [name for name in loaded[0].card.readings if all(name in each.card.readings for each in loaded)]
    chosen = labels or next(iter(loaded[0].card.readings))
    others = [name for name in shared if name != chosen]
    reports = {}
    for name in (chosen, *others):
        with screen.bar(f"scoring {split} as {name}") as progress:
            reports[name] = room.score(
                loaded,
                dataset.split(split),
                labels=dataset.labels,
                reading=name if labels or len(shared) > 1 else None,
                data=dataset.root,
                progress=progress,
            ).to_dict()
    return reports[chosen] | {"readings": {name: reports[name] for name in others}}


def _keep(path: Path, report: dict[str, Any]) -> None:
    """Keep a report and its figures in the run; where that cannot be, the report is shown all the same."""
    from mien import run
    from mien.cli import figures

    made = run.open_run(path)
    try:
        figures.draw_report(made, made.keep_report(report))
    except TrainingError as error:
        screen.note(f"the report is not kept: {error}")


def tell(report: dict[str, Any]) -> None:
    """Print a report's figures as two tables."""
    rows: list[tuple[str, str, str]] = []
    for key, label in (
        ("accuracy", "accuracy"),
        ("balanced_accuracy", "balanced accuracy"),
        ("macro_f1", "macro F1"),
    ):
        low, high = report[f"{key}_interval"]
        rows.append((label, f"{report[key]:.2%}", f"{low:.2%} to {high:.2%}"))
    rows += [
        (name, f"{report[key]:.4f}", "") for key, name in (("nll", "NLL"), ("brier", "Brier"), ("ece", "ECE"))
    ]
    rows += _agreement(report)
    for name, other in report.get("readings", {}).items():
        low, high = other["accuracy_interval"]
        rows.append((f"read as {name}: accuracy", f"{other['accuracy']:.2%}", f"{low:.2%} to {high:.2%}"))
        rows += [(f"read as {name}: {what}", value, between) for what, value, between in _agreement(other)]
    screen.table(
        f"{report['data']}, split {report['split']}, read as {report['reading']}, n = {report['n']}",
        ("what", "value", "95 % interval"),
        rows,
    )
    screen.table(
        "Each class",
        ("class", "n", "precision", "recall", "F1"),
        [
            (name, str(figures["n"]), *(share(figures[key]) for key in ("precision", "recall", "f1")))
            for name, figures in report["per_class"].items()
        ],
    )
    if len(report["labels"]) <= _MOST_COLUMNS:
        screen.table(
            "Images by what they are (rows) and what was answered (columns)",
            ("class", *(label[:8] for label in report["labels"])),
            [
                (name, *map(str, counts))
                for name, counts in zip(report["labels"], report["confusion"], strict=True)
            ],
        )
    if report["absent"]:
        screen.note(f"without images, and left out of the means: {', '.join(report['absent'])}")


def _agreement(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = report.get("agreement")
    if found is None:
        return []
    low, high = found["interval"]
    return [
        (f"with most of ten people, n = {found['n']}", f"{found['share']:.2%}", f"{low:.2%} to {high:.2%}")
    ]


def share(value: float | None) -> str:
    """Return a fraction as percent, or a dash where it is undefined."""
    return "–" if value is None else f"{value:.1%}"


def plot(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    data: Annotated[Path | None, typer.Option(help="The run's data, if it moved.")] = None,
    json: Json = False,
) -> int:
    """Draw a run's figures anew: loss, accuracy, confusion, training samples; PNG and SVG."""
    from mien import run as room
    from mien.cli import figures

    made = room.open_run(run)
    try:
        dataset = load_again(made, data, made.facts()["data"]["origin"])
    except InputError as error:
        screen.note(f"no samples are drawn: {error}")
        dataset = None
    drawn = figures.draw(made, dataset)
    if json:
        screen.emit({"run": str(made.path), "figures": drawn})
    else:
        for path in drawn:
            screen.out.print(path, markup=False)
    return SOME_BAD if dataset is not None and dataset.problems else 0


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    format_: Annotated[str, typer.Option("--format", help="onnx, keras, h5 or litert.")] = "onnx",
    to: Annotated[
        Path | None, typer.Option("--to", help="Where to; by default into the run's folder.")
    ] = None,
    json: Json = False,
) -> int:
    """Write the model in another format, and prove that it gives equal answers."""
    from mien import export as room
    from mien import run as runs

    timer = screen.Timer()
    made = runs.open_run(run)
    with screen.bar("comparing answers") as progress:
        result = room.convert(made, format_, to, progress=progress)
    document = {
        "format": format_,
        "path": str(result.path),
        "images": result.parity.images,
        "largest_difference": result.parity.largest_difference,
        **timer.seconds(),
    }
    if json:
        screen.emit(document)
    else:
        screen.out.print(
            f"{result.path}: probabilities differ by at most {result.parity.largest_difference:.1e} "
            f"on {result.parity.images} images",
            markup=False,
        )
    return 0
