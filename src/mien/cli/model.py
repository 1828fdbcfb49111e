"""Commands about a trained model: `plot`, `export`; `evaluate` is in `scoring`."""

import importlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from mien.cli import screen
from mien.cli.data import Json
from mien.cli.training import SOME_BAD, load_again
from mien.errors import InputError


def is_run(path: Path) -> bool:
    """Say whether `path` is a run's folder rather than a bundle."""
    from mien.models import model as bundle  # here, because it loads ONNX Runtime

    return bundle.is_run(path)


def _called(text: str) -> Path:
    from mien.cli import bases

    return bases.called(text)


def plot(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    data: Annotated[Path | None, typer.Option(help="The run's data, if it moved.")] = None,
    json: Json = False,
) -> int:
    """Draw a run's figures anew: loss, accuracy, confusion, training samples; PNG and SVG."""
    from mien.cli import figures
    from mien.training import runs as room

    # Without matplotlib this raises here, before the data is read.
    importlib.import_module("mien.reports.plots")
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
    model: Annotated[
        Path,
        typer.Argument(
            parser=_called, metavar="MODEL", help="A run's folder, a shipped model's name, or its .onnx file."
        ),
    ],
    format_: Annotated[str, typer.Option("--format", help="onnx, keras, h5 or litert.")] = "onnx",
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Where to; by default into the run's folder, or NAME-export here."),
    ] = None,
    json: Json = False,
) -> int:
    """Write the model in another format, and prove that it gives equal answers."""
    from mien.cli import outputs
    from mien.models import model as bundle
    from mien.release import exporters as room
    from mien.training import runs

    timer = screen.Timer()
    made: runs.Run | bundle.Bundle
    made = runs.open_run(model) if is_run(model) else bundle.load(model)
    if not isinstance(made, runs.Run):
        outputs.spare({} if to is None else {f"--to {to}": room.file_for(to, format_)}, [made.path])
    with screen.bar("comparing answers") as progress:
        result = room.convert(made, format_, to, progress=progress)
    document: dict[str, Any] = {
        "format": format_,
        "path": str(result.path),
        "images": result.parity.images,
        "largest_difference": result.parity.largest_difference,
        "int8": None if result.agreement is None else asdict(result.agreement),
        **timer.seconds(),
    }
    if json:
        screen.emit(document)
        return 0
    screen.out.print(
        f"{result.path}: probabilities differ by at most {result.parity.largest_difference:.1e} "
        f"on {result.parity.images} images",
        markup=False,
    )
    if (beside := result.agreement) is not None and not isinstance(made, runs.Run):
        screen.out.print(
            f"it is the network in float32, calibrated; the int8 file of {made.card.name} gives the same "
            f"answer to {beside.same:.1%} of {beside.images:,} drawn faces, with probabilities "
            f"{beside.mean_difference:.4f} apart in the mean and {beside.largest_difference:.3f} at most",
            markup=False,
        )
    return 0
