"""The command `card`: model cards and datasheets, from what was measured."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mien.cli import bases, screen
from mien.cli.data import Json
from mien.cli.model import is_run
from mien.errors import InputError


def card(
    path: Annotated[
        Path,
        typer.Argument(parser=bases.called, help="A run; an .onnx of mien ship's, or a folder of them."),
    ],
    to: Annotated[
        Path | None, typer.Option("--to", help="The model card's file, instead of the run's own or stdout.")
    ] = None,
    json: Json = False,
) -> int:
    """Write a model card from what was measured; of a run, its data's datasheet too."""
    document = _of_run(path, to) if is_run(path) else _of_models(path, to, json=json)
    if json:
        screen.emit(document)
    else:
        for name in ("model_card", "datasheet"):
            if document[name] is not None:
                screen.out.print(document[name], markup=False)
    return 0


def _of_run(path: Path, to: Path | None) -> dict[str, Any]:
    from mien.release import model_cards as room
    from mien.training import runs as run

    made = run.open_run(path)
    page = to or made.path / room.MODEL_CARD
    sheet = page.parent / room.DATASHEET
    if page.name == sheet.name:
        raise InputError(f"{page} is where the datasheet goes; give the model card another name")
    texts = {page: room.of_run(made), sheet: room.datasheet(made)}
    for file, text in texts.items():
        _write(file, text)
    return {"models": [made.name], "model_card": str(page), "datasheet": str(sheet)}


def _of_models(path: Path, to: Path | None, *, json: bool) -> dict[str, Any]:
    from mien.models import model as bundle
    from mien.release import model_cards as room

    if not path.is_dir():
        bundle.find(path)  # raises an error if there is no model
    pairs = room.shipped(path)
    text = room.models(pairs)
    document = {
        "models": [model.card.name for model, _ in pairs],
        "model_card": None if to is None else str(to),
        "datasheet": None,
    }
    if to is not None:
        _write(to, text)
    elif json:
        document["text"] = text
    else:
        sys.stdout.write(text)
    return document


def _write(path: Path, text: str) -> None:
    from mien import _files as disk

    try:
        disk.write(path, text.encode())
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be written: {disk.reason(error)}") from None
