"""Commands about a trained model: `plot`, `export`; `evaluate` is in `scoring`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mien.cli import screen
from mien.cli.data import Json
from mien.cli.training import SOME_BAD, load_again
from mien.errors import InputError


def is_run(path: Path) -> bool:
    """Say whether `path` is a run's folder rather than a bundle."""
    return os.path.isfile(path / "recipe.toml")  # noqa: PTH113 - of names that no system holds, too


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
