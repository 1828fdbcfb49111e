"""Commands for release: `export`, `ship` and `card`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien import _files
from mien.cli import common
from mien.errors import InputError

if TYPE_CHECKING:
    from mien.evaluation.evaluation import Calibration
    from mien.release.shipping import Shipped
    from mien.training.runs import Run


def _called(text: str) -> Path:

    return common.model_path(text)


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
    json: common.Json = False,
) -> int:
    """Write the model in another format, and prove that it gives equal answers."""
    from mien.models import model as bundle
    from mien.release import exporters
    from mien.training import runs

    timer = common.Timer()
    made: runs.Run | bundle.Bundle
    made = runs.open_run(model) if common.is_run(model) else bundle.load(model)
    if not isinstance(made, runs.Run):
        common.spare({} if to is None else {f"--to {to}": exporters.file_for(to, format_)}, [made.path])
    with common.bar("comparing answers") as progress:
        result = exporters.convert(made, format_, to, progress=progress)
    document: dict[str, Any] = {
        "format": format_,
        "path": str(result.path),
        "images": result.parity.images,
        "largest_difference": result.parity.largest_difference,
        "int8": None if result.agreement is None else asdict(result.agreement),
        **timer.seconds(),
    }
    if json:
        common.emit(document)
        return 0
    common.out.print(
        f"{result.path}: probabilities differ by at most {result.parity.largest_difference:.1e} "
        f"on {result.parity.images} images",
        markup=False,
    )
    if (beside := result.agreement) is not None and not isinstance(made, runs.Run):
        common.out.print(
            f"it is the network in float32, calibrated; the int8 file of {made.card.name} gives the same "
            f"answer to {beside.same:.1%} of {beside.images:,} drawn faces, with probabilities "
            f"{beside.mean_difference:.4f} apart in the mean and {beside.largest_difference:.3f} at most",
            markup=False,
        )
    return 0


def ship(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    to: Annotated[Path, typer.Option("--to", help="The folder of the file and its evaluation.")] = Path(
        "models"
    ),
    average: Annotated[
        list[Path] | None,
        typer.Option(
            parser=common.model_path,
            metavar="<list[Path]>",
            help="Average the weights with this run's, or with a model's (default), that it began from, or "
            "that began as it did. Repeatable.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the model is called; its run's name if not said.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Under what terms the model may be used.")] = "",
    data: Annotated[Path | None, typer.Option(help="The run's data, if it moved.")] = None,
    votes: Annotated[Path | None, typer.Option(help="The run's FER+ votes, if they moved.")] = None,
    json: common.Json = False,
) -> int:
    """Calibrate a model on val, quantise it where that costs nothing, measure it, and write one file."""
    from mien.models import model, networks
    from mien.training import runs

    timer = common.Timer()
    networks.require_keras()
    made = runs.open_run(run)
    _spare_ship_inputs(made, to, name or made.name, average or [])
    others = [model.load(path) for path in average or ()]
    origin = made.facts()["data"]["origin"] | ({} if votes is None else {"votes": votes})
    dataset = common.load_again(made, data, origin)
    from mien.release import shipping

    with common.bar("shipping") as progress:
        shipped = shipping.make(
            made, dataset, to=to, average=others, name=name, licence=licence, progress=progress
        )
    _warn(shipped)
    if json:
        weights = None if shipped.weights is None else str(shipped.weights)
        common.emit(
            {"path": str(shipped.bundle.path), "weights": weights, **shipped.document, **timer.seconds()}
        )
    else:
        _print_shipped(shipped)
    return common.SOME_BAD if dataset.problems else 0


def _spare_ship_inputs(made: "Run", to: Path, name: str, average: list[Path]) -> None:
    """Refuse to write over the models that are averaged, and over what the run was made from."""
    from mien.models import initial_weights, model

    read = [model.MODELS / f"{path}.onnx" if str(path) in model.SHIPPED else path for path in average]
    beside = [initial_weights.beside(path) for path in read if path.suffix == ".onnx"]
    written = [to / f"{name}{suffix}" for suffix in (".onnx", ".json", ".weights.npz")]
    common.spare(
        {f"{path}, of --name {name},": path for path in written},
        [*read, *beside, made.path, *common.of_run(made.path)],
    )


def _warn(shipped: "Shipped") -> None:
    """Say where few images were fitted on, what is at chance, and where the calibration costs accuracy."""
    for name, found in shipped.evaluations.items():
        calibration = found.calibration
        if calibration is None:
            continue
        if calibration.prior:
            common.note(f"{name}: {_few(calibration, len(shipped.bundle.card.labels))}")
        before, after = calibration.accuracy_before, calibration.accuracy_after
        if shipped.bundle.card.head(name).at_chance:
            common.note(
                f"{name}: on val nothing shows that the model is better than always answering the most "
                "frequent label; all its answers are flagged uncertain"
            )
        # Cross-fitted, and as the file answers with what was fitted on all of val.
        for how, right in ((", cross-fitted,", after), ("", _accuracy(shipped, name))):
            if right < before:
                common.note(
                    f"{name}: the calibration lowers the accuracy on val{how} from {before:.2%} to "
                    f"{right:.2%}: logit biases change answers so that probabilities fit the labels better"
                )
        if calibration.ece_after > calibration.ece_before:
            common.note(
                f"{name}: the calibration error (ECE) on val, cross-fitted, rises from "
                f"{calibration.ece_before:.2%} to {calibration.ece_after:.2%}; do not rely on the "
                "probabilities, and add images to val"
            )


def _few(calibration: "Calibration", k: int) -> str:
    """Say that a temperature was fitted on few images, and how it was kept from varying."""
    from mien.evaluation.calibration import FEW

    n = calibration.n
    return (
        f"the calibration was fitted on {n} images, {n / k:.1f} per class; below {FEW} per class the "
        f"temperature is drawn towards 1 by a prior that counts as {calibration.prior:g} images (T = "
        f"{calibration.temperature:.2f}), and no logit biases are fitted; add images to val"
    )


def _accuracy(shipped: "Shipped", name: str) -> float:
    """Return the share that a head of the file names right, of the images that it was calibrated on."""
    found = shipped.evaluations[name]
    if shipped.bundle.card.head(name).output == "ferplus" and found.agreement is not None:
        return found.agreement.share
    return found.accuracy


def _print_shipped(shipped: "Shipped") -> None:
    rows = []
    for name, found in shipped.evaluations.items():
        rows += [
            (f"{name}: accuracy, n = {found.n}", f"{found.accuracy:.2%}"),
            (f"{name}: macro F1", f"{found.macro_f1:.2%}"),
        ]
        if found.agreement is not None:
            rows.append((f"{name}: with most of ten people", f"{found.agreement.share:.2%}"))
        if (calibration := found.calibration) is not None:
            rows += [
                (
                    f"{name}: accuracy before and after "
                    f"{'logit biases' if calibration.logit_bias else 'no logit biases'}, cross-fitted",
                    f"{calibration.accuracy_before:.2%}, {calibration.accuracy_after:.2%}",
                ),
                (
                    f"{name}: ECE before and after T = {calibration.temperature:.2f}, cross-fitted",
                    f"{calibration.ece_before:.2%}, {calibration.ece_after:.2%}",
                ),
            ]
        if found.quantization is not None:
            rows.append((f"{name}: int8 answers as float32 on", f"{found.quantization.agreement:.2%}"))
    rows.append(("precision", shipped.document["precision"]))
    if shipped.weights is not None:
        rows.append(("weights to train from", shipped.weights.name))
    learnt = shipped.document["training_hashes"]
    rows.append((f"hashes of {learnt['n']:,} images learnt from", learnt["file"]))
    common.table(f"{shipped.bundle.path}, {shipped.document['bytes']:,} bytes", ("what", "value"), rows)


def card(
    path: Annotated[
        Path,
        typer.Argument(parser=common.model_path, help="A run; an .onnx of mien ship's, or a folder of them."),
    ],
    to: Annotated[
        Path | None, typer.Option("--to", help="The model card's file, instead of the run's own or stdout.")
    ] = None,
    json: common.Json = False,
) -> int:
    """Write a model card from what was measured; of a run, its data's datasheet too."""
    document = _of_run(path, to) if common.is_run(path) else _of_models(path, to, json=json)
    if json:
        common.emit(document)
    else:
        for name in ("model_card", "datasheet"):
            if document[name] is not None:
                common.out.print(document[name], markup=False)
    return 0


def _of_run(path: Path, to: Path | None) -> dict[str, Any]:
    from mien.release import model_cards
    from mien.training import runs

    made = runs.open_run(path)
    page = to or made.path / model_cards.MODEL_CARD
    sheet = page.parent / model_cards.DATASHEET
    if page.name == sheet.name:
        raise InputError(f"{page} is where the datasheet goes; give the model card another name")
    texts = {page: model_cards.of_run(made), sheet: model_cards.datasheet(made)}
    for file, text in texts.items():
        _files.write(file, text.encode())
    return {"models": [made.name], "model_card": str(page), "datasheet": str(sheet)}


def _of_models(path: Path, to: Path | None, *, json: bool) -> dict[str, Any]:
    from mien.models import model as bundle
    from mien.release import model_cards

    if not path.is_dir():
        bundle.find(path)  # raises an error if there is no model
    pairs = model_cards.shipped(path)
    text = model_cards.models(pairs)
    document = {
        "models": [model.card.name for model, _ in pairs],
        "model_card": None if to is None else str(to),
        "datasheet": None,
    }
    if to is not None:
        _files.write(to, text.encode())
    elif json:
        document["text"] = text
    else:
        sys.stdout.write(text)
    return document
