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
    from mien.run import Run

#: Classes whose confusion still fits a terminal.
_MOST_COLUMNS = 9


def evaluate(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="A run's folder, a bundle's folder, or a model.onnx.")],
    data: Annotated[Path | None, typer.Option(help="Data to score on; a run knows its own.")] = None,
    split: Annotated[str, typer.Option(help="val or test.")] = "val",
    votes: Annotated[Path | None, typer.Option(help="FER+ votes, for csv data.")] = None,
    split_seed: Annotated[int, typer.Option(help="Decides splits that the data does not bring.")] = 42,
    json: Json = False,
) -> int:
    """Score the bundle that ships on a split."""
    from mien import bundle

    timer = screen.Timer()
    if is_run(model):
        from mien import run

        if given := screen.given(context, "votes", "split_seed"):
            raise InputError(f"{model} is a run, which knows how its data was read; it takes no {given}")
        made = run.open_run(model)
        # What was left out of training changes neither val nor test.
        origin = made.facts()["data"]["origin"] | {"exclude": None}
        dataset = load_again(made, data, origin | ({"votes": None} if data else {}))
        document = score(bundle.load(made.bundle), dataset, split)
        _keep(made, document)
    else:
        loaded = bundle.load(model)
        if data is None:
            raise InputError(f"{model} does not know its data; name it with --data")
        dataset = load(data, size=loaded.card.size, votes=votes, seed=split_seed)
        document = score(loaded, dataset, split)
    if json:
        screen.emit(document | timer.seconds())
    else:
        tell(document)
    return SOME_BAD if dataset.problems else 0


def is_run(path: Path) -> bool:
    """Say whether `path` is a run's folder rather than a bundle."""
    return (path / "recipe.toml").is_file()


def score(loaded: "Bundle", dataset: "Dataset", split: str) -> dict[str, Any]:
    """Score a bundle on one split, with a progress bar; returns the report as plain values."""
    from mien import evaluate as room

    with screen.bar(f"scoring {split}") as progress:
        report = room.score(
            loaded,
            dataset.split(split),
            labels=dataset.labels,
            data=dataset.root,
            progress=progress,
        )
    return report.to_dict()


def _keep(made: "Run", report: dict[str, Any]) -> None:
    """Keep a report and its figures in the run; where that cannot be, the report is shown all the same."""
    from mien.cli import figures

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
    screen.table(
        f"{report['data']}, split {report['split']}, n = {report['n']}",
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
