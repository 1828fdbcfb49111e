"""The command about a data set's faults: `audit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli import screen
from mien.cli.data import Json
from mien.cli.training import load

if TYPE_CHECKING:
    from mien.audit import AuditReport

#: Exit code for findings at or above --fail-on.
FINDINGS = 1


def audit(
    data: Annotated[Path, typer.Argument(help="A folder, zip, tar or fer2013.csv.")],
    votes: Annotated[Path | None, typer.Option(help="FER+ votes, for csv data.")] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(help="A csv of training images that are left out already: row, file or sha256."),
    ] = None,
    exclusions: Annotated[
        Path | None, typer.Option(help="Write the training images to leave out, for mien train --exclude.")
    ] = None,
    fail_on: Annotated[
        str, typer.Option(help="Exit with 1 from this severity on: error, warning or note.")
    ] = "error",
    split_seed: Annotated[int, typer.Option(help="Decides splits that the data does not bring.")] = 42,
    json: Json = False,
) -> int:
    """Find what is wrong with a data set: copies across splits, blank images, wrong labels."""
    from mien import audit as room

    timer = screen.Timer()
    severity = room.worst(fail_on)
    dataset = load(data, size=48, votes=votes, exclude=exclude, seed=split_seed)
    with screen.bar("comparing images") as progress:
        report = room.inspect(dataset, progress=progress)
    document: dict[str, Any] = report.to_dict()
    if exclusions is not None:
        listed = room.exclude(report, exclusions, also=exclude)
        document["exclusions"] = {item.reason: item.count for item in listed}
    if json:
        screen.emit(document | timer.seconds())
    else:
        _tell(report, document)
    return FINDINGS if report.at_least(severity) else 0


def _tell(report: "AuditReport", document: dict[str, Any]) -> None:
    splits = ", ".join(f"{name} {count:,}" for name, count in document["splits"].items())
    screen.table(
        f"{report.root}: {splits}",
        ("what", "images"),
        [(name.replace("_", " "), f"{count:,}") for name, count in report.counts.items()],
    )
    for item in report.findings:
        screen.out.print(f"{item.severity}: {item.kind}", style="bold", markup=False)
        screen.out.print(f"    {item.evidence}", markup=False)
        screen.out.print(f"    {item.advice}", markup=False)
    if listed := document.get("exclusions"):
        screen.table(
            "Left out by the list that was written",
            ("reason", "lines"),
            [(reason, f"{count:,}") for reason, count in listed.items()],
        )
