"""Commands for release: `export`, `ship` and `card`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien._text import pluralize
from mien.cli import common

if TYPE_CHECKING:
    from mien.evaluation.evaluation import Calibration
    from mien.release.exporters import Agreement, Exported
    from mien.release.shipping import Shipped


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A run's folder, a model file or a shipped model.",
            autocompletion=common.suggest_model,
        ),
    ],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="onnx|keras|h5|litert|web|triton",
            help="The format: a file; web, a site that runs the model in the browser; or triton, a "
            "repository for Triton and KServe.",
            autocompletion=common.suggest("onnx", "keras", "h5", "litert", "web", "triton"),
        ),
    ] = "onnx",
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="PATH",
            help="The file or folder to write; by default in the run, or NAME-export here.",
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="With --format litert: round the weights to int8; the file is a quarter of the size.",
        ),
    ] = False,
    ort: Annotated[
        Path | None,
        typer.Option(
            "--ort",
            metavar="DIR",
            help="With --format web: the folder of onnxruntime-web; by default npm fetches it.",
        ),
    ] = None,
    json: common.Json = False,
) -> int:
    """Convert a model to another format, and check that its probabilities stay the same."""
    from mien import api
    from mien.models.model_files import is_run

    timer = common.Timer()
    with common.bar("comparing probabilities") as progress:
        result = api.export(model, format_, to, int8=int8, ort=ort, progress=progress)
    if json:
        document: dict[str, Any] = {
            "schema": api.SCHEMA,
            "format": format_,
            "path": str(result.path),
            "images": result.parity.images,
            "largest_difference": result.parity.largest_difference,
            "int8": None if result.agreement is None else asdict(result.agreement),
            "rounding": None if result.rounding is None else asdict(result.rounding),
        }
        common.emit(document | timer.seconds())
        return 0
    common.out.print(f"{result.path}: {_differences(result)}", markup=False)
    if result.agreement is not None and not is_run(model):
        common.out.print(_beside_int8(model, result), markup=False)
    return 0


def _differences(result: "Exported") -> str:
    """Return how far an exported file's predictions are from those of its network."""
    if (found := result.rounding) is not None:
        return (
            f"predicts the class of the float32 network for {found.same:.1%} of "
            f"{pluralize(found.images, 'synthetic face')}; {_probabilities(found)}"
        )
    if not result.parity.images:
        return "probabilities were not compared in WebAssembly, because Node.js is not installed"
    largest = result.parity.largest_difference
    return f"probabilities differ by at most {largest:.1e} on {pluralize(result.parity.images, 'image')}"


def _beside_int8(model: str, result: "Exported") -> str:
    """Return how the network that was exported predicts beside the int8 model that it ships as."""
    found = result.agreement
    assert found is not None
    network = "the float32 network" if result.rounding else "it"
    first = "" if result.rounding else "This is the calibrated float32 network. "
    return (
        f"{first}The int8 file of {model} predicts the same class as {network} for {found.same:.1%} of "
        f"{found.images:,} synthetic faces; its {_probabilities(found)}."
    )


def _probabilities(found: "Agreement") -> str:
    return (
        f"probabilities differ by {found.mean_difference:.4f} on average and "
        f"{found.largest_difference:.3f} at most"
    )


def ship(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    to: Annotated[
        Path, typer.Option("--to", metavar="PATH", help="The folder for the model file and its evaluation.")
    ] = Path("models"),
    average: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Average the weights with this run or model, such as default: the one that this run "
            "started from, or one that started from the same weights. Repeatable.",
            autocompletion=common.suggest_model,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The name of the model; by default the name of the run."),
    ] = None,
    licence: Annotated[str, typer.Option(metavar="NAME", help="The licence of the model.")] = "",
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="The data of the run, if it has moved.")
    ] = None,
    votes: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The FER+ votes of the run, if they have moved.")
    ] = None,
    json: common.Json = False,
) -> int:
    """Calibrate a model, quantize it if it stays as accurate, evaluate it, and write one file."""
    from mien import api

    timer = common.Timer()
    with common.live() as (progress, _):
        result = api.ship(
            run,
            to=to,
            average=average or (),
            name=name,
            licence=licence,
            data=data,
            votes=votes,
            progress=progress,
            on_note=common.note,
        )
    shipped = result.shipped
    _warn(shipped)
    if json:
        weights = None if shipped.weights is None else str(shipped.weights)
        paths = {"path": str(shipped.model.path), "weights": weights}
        common.emit(paths | shipped.document | timer.seconds())
    else:
        _print_shipped(shipped)
    return common.SOME_BAD if result.skipped else 0


def _warn(shipped: "Shipped") -> None:
    """Note a calibration on few images, a head at chance, and a loss of accuracy or calibration."""
    for name, found in shipped.evaluations.items():
        calibration = found.calibration
        if calibration is None:
            continue
        if calibration.prior:
            common.note(f"{name}: {_few(calibration, len(shipped.model.card.labels))}")
        before, after = calibration.accuracy_before, calibration.accuracy_after
        if shipped.model.card.head(name).at_chance:
            common.note(
                f"{name}: on val the model is not significantly better than predicting the most frequent "
                "label; all its predictions get the flag uncertain"
            )
        # Cross-fitted, and of the file, whose calibration was fitted on all of val.
        for how, right in ((", cross-fitted,", after), ("", _accuracy(shipped, name))):
            if right < before:
                common.note(
                    f"{name}: the calibration lowers the accuracy on val{how} from {before:.2%} to "
                    f"{right:.2%}: logit biases change predictions so that probabilities fit better"
                )
        if calibration.ece_after > calibration.ece_before:
            common.note(
                f"{name}: the calibration error (ECE) on val, cross-fitted, rises from "
                f"{calibration.ece_before:.2%} to {calibration.ece_after:.2%}; the probabilities are not "
                "reliable; add images to val"
            )


def _few(calibration: "Calibration", k: int) -> str:
    """Return a note about a temperature that was fitted on few images."""
    from mien.evaluation.calibration import FEW

    n = calibration.n
    return (
        f"calibrated on only {n} images, {n / k:.1f} per class; below {FEW} per class a prior "
        f"of {calibration.prior:g} images keeps the temperature near 1 (T = {calibration.temperature:.2f}) "
        "and no logit biases are fitted; add images to val"
    )


def _accuracy(shipped: "Shipped", name: str) -> float:
    """Return the accuracy of a head of the file on the images that it was calibrated on."""
    found = shipped.evaluations[name]
    if shipped.model.card.head(name).output == "ferplus" and found.agreement is not None:
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
            rows.append((f"{name}: agreement with annotators", f"{found.agreement.share:.2%}"))
        if (calibration := found.calibration) is not None:
            rows += [
                (
                    f"{name}: accuracy before and after calibration"
                    f"{'' if calibration.logit_bias else ' (without logit biases)'}, cross-fitted",
                    f"{calibration.accuracy_before:.2%}, {calibration.accuracy_after:.2%}",
                ),
                (
                    f"{name}: ECE before and after T = {calibration.temperature:.2f}, cross-fitted",
                    f"{calibration.ece_before:.2%}, {calibration.ece_after:.2%}",
                ),
            ]
        if found.quantization is not None:
            rows.append((f"{name}: same class in int8 and float32", f"{found.quantization.agreement:.2%}"))
    rows.append(("precision", shipped.document["precision"]))
    if shipped.weights is not None:
        rows.append(("weights for training", shipped.weights.name))
    learnt = shipped.document["training_hashes"]
    rows.append((f"hashes of {learnt['n']:,} training images", learnt["file"]))
    common.table(f"{shipped.model.path}, {shipped.document['bytes']:,} bytes", ("figure", "value"), rows)


def card(
    path: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A run's folder; a model that mien ship wrote, or a folder of such models."
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="PATH", help="The file of the model card; by default the run's own, or stdout."
        ),
    ] = None,
    json: common.Json = False,
) -> int:
    """Write a model card from measured figures; for a run, also the datasheet of its data."""
    from mien import api

    written = api.write_card(path, to)
    if json:
        common.emit(written.to_dict())
    elif written.model_card is None:
        sys.stdout.write(written.text)
    else:
        for name in (written.model_card, written.datasheet):
            if name is not None:
                common.out.print(name, markup=False)
    return 0
