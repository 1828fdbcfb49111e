"""The command `ship`: from a finished run to the file that ships."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli import bases, outputs, screen
from mien.cli.data import Json
from mien.cli.training import SOME_BAD, load_again

if TYPE_CHECKING:
    from mien.release.shipping import Shipped
    from mien.training.runs import Run


def ship(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    to: Annotated[Path, typer.Option("--to", help="The folder of the file and its evaluation.")] = Path(
        "models"
    ),
    average: Annotated[
        list[Path] | None,
        typer.Option(
            parser=bases.called,
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
    json: Json = False,
) -> int:
    """Calibrate a model on val, quantise it where that costs nothing, measure it, and write one file."""
    from mien.models import model as bundle
    from mien.models import networks
    from mien.training import runs

    timer = screen.Timer()
    networks.require_keras()
    made = runs.open_run(run)
    _spare(made, to, name or made.name, average or [])
    others = [bundle.load(path) for path in average or ()]
    origin = made.facts()["data"]["origin"] | ({} if votes is None else {"votes": votes})
    dataset = load_again(made, data, origin)
    from mien.release import shipping as room

    with screen.bar("shipping") as progress:
        shipped = room.make(
            made, dataset, to=to, average=others, name=name, licence=licence, progress=progress
        )
    _warn(shipped)
    if json:
        weights = None if shipped.weights is None else str(shipped.weights)
        screen.emit(
            {"path": str(shipped.bundle.path), "weights": weights, **shipped.document, **timer.seconds()}
        )
    else:
        _tell(shipped)
    return SOME_BAD if dataset.problems else 0


def _spare(made: "Run", to: Path, name: str, average: list[Path]) -> None:
    """Refuse to write over the models that are averaged, and over what the run was made from."""
    from mien.models import initial_weights as weights
    from mien.models import model as bundle

    read = [bundle.MODELS / f"{path}.onnx" if str(path) in bundle.SHIPPED else path for path in average]
    beside = [weights.beside(path) for path in read if path.suffix == ".onnx"]
    written = [to / f"{name}{suffix}" for suffix in (".onnx", ".json", ".weights.npz")]
    outputs.spare(
        {f"{path}, of --name {name},": path for path in written},
        [*read, *beside, made.path, *outputs.of_run(made.path)],
    )


def _warn(shipped: "Shipped") -> None:
    """Say where few images were fitted on, what is at chance, and where the calibration costs accuracy."""
    for name, found in shipped.document["readings"].items():
        calibration = found["calibration"]
        if calibration["prior"]:
            screen.note(f"{name}: {_few(calibration, len(shipped.bundle.card.labels))}")
        before, after = (calibration[f"accuracy_{when}"] for when in ("before", "after"))
        if shipped.bundle.card.reading(name).at_chance:
            screen.note(
                f"{name}: on val nothing shows that the model is better than always answering the most "
                "frequent label; all its answers are flagged uncertain"
            )
        # Cross-fitted, and as the file answers with what was fitted on all of val.
        for how, right in ((", cross-fitted,", after), ("", _accuracy(shipped, name))):
            if right < before:
                screen.note(
                    f"{name}: the calibration lowers the accuracy on val{how} from {before:.2%} to "
                    f"{right:.2%}: offsets change answers so that the probabilities fit the labels better"
                )
        if calibration["ece_after"] > calibration["ece_before"]:
            screen.note(
                f"{name}: the calibration error (ECE) on val, cross-fitted, rises from "
                f"{calibration['ece_before']:.2%} to {calibration['ece_after']:.2%}; do not rely on the "
                "probabilities, and add images to val"
            )


def _few(calibration: dict[str, Any], k: int) -> str:
    """Say that a temperature was fitted on few images, and how it was kept from varying."""
    from mien.evaluation.calibration import FEW

    n = calibration["n"]
    return (
        f"the calibration was fitted on {n} images, {n / k:.1f} per class; below {FEW} per class the "
        f"temperature is drawn towards 1 by a prior that counts as {calibration['prior']:g} images (T = "
        f"{calibration['temperature']:.2f}), and no offsets are fitted; add images to val"
    )


def _accuracy(shipped: "Shipped", name: str) -> float:
    """Return the share that a reading of the file names right, of the images that it was calibrated on."""
    report = shipped.document["readings"][name]["report"]
    if shipped.bundle.card.reading(name).output == "consensus":
        share: float = report["agreement"]["share"]
        return share
    accuracy: float = report["accuracy"]
    return accuracy


def _tell(shipped: "Shipped") -> None:
    rows = []
    for name, found in shipped.document["readings"].items():
        report, calibration, copy = found["report"], found["calibration"], found["int8"]
        rows += [
            (f"{name}: accuracy, n = {report['n']}", f"{report['accuracy']:.2%}"),
            (f"{name}: macro F1", f"{report['macro_f1']:.2%}"),
        ]
        if report["agreement"] is not None:
            rows.append((f"{name}: with most of ten people", f"{report['agreement']['share']:.2%}"))
        rows += [
            (
                f"{name}: accuracy before and after {'offsets' if calibration['offsets'] else 'no offsets'}, "
                "cross-fitted",
                f"{calibration['accuracy_before']:.2%}, {calibration['accuracy_after']:.2%}",
            ),
            (
                f"{name}: ECE before and after T = {calibration['temperature']:.2f}, cross-fitted",
                f"{calibration['ece_before']:.2%}, {calibration['ece_after']:.2%}",
            ),
            (f"{name}: int8 answers as float32 on", f"{copy['agreement']:.2%}"),
        ]
    rows.append(("precision", shipped.document["precision"]))
    if shipped.weights is not None:
        rows.append(("weights to train from", shipped.weights.name))
    learnt = shipped.document["known"]
    rows.append((f"hashes of {learnt['n']:,} images learnt from", learnt["file"]))
    screen.table(f"{shipped.bundle.path}, {shipped.document['bytes']:,} bytes", ("what", "value"), rows)
