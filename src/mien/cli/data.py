"""Commands that make data: `demo` and `extract`."""

from pathlib import Path
from typing import Annotated

import typer

from mien.cli import screen

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")]
Votes = Annotated[Path | None, typer.Option(help="FER+ votes, for csv data.")]
Exclude = Annotated[
    list[Path] | None,
    typer.Option(help="A csv of training images to leave out: row, file or sha256. Repeatable."),
]
SplitSeed = Annotated[int, typer.Option(min=0, help="Decides splits that the data does not bring.")]


def extract(
    archive: Annotated[Path, typer.Argument(help="A zip, tar, tar.gz, tar.bz2 or tar.xz file.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to make: complete in the end, or absent.")],
    json: Json = False,
) -> int:
    """Unpack an archive safely into a folder."""
    from mien.data import archives as room

    timer = screen.Timer()
    with screen.bar("unpacking") as progress:
        result = room.unpack(archive, to, progress=progress)
    document = {
        "root": str(result.root),
        "files": result.files,
        "bytes": result.bytes,
        "found_done": result.found_done,
        **timer.seconds(),
    }
    if json:
        screen.emit(document)
    else:
        done = "was unpacked before" if result.found_done else "unpacked"
        screen.out.print(f"{result.root}: {result.files} files, {result.bytes:,} bytes, {done}", markup=False)
    return 0


def demo(
    to: Annotated[Path, typer.Option("--to", help="Where everything that the demo makes goes.")] = Path(
        "mien-demo"
    ),
    json: Json = False,
) -> int:
    """Run the whole chain on drawn faces: extract, train, evaluate, plot, export."""
    from mien import demo as room

    timer = screen.Timer()
    with screen.live() as (progress, on_status):
        result = room.show(to, progress=progress, on_status=on_status, on_note=screen.note)
    if json:
        screen.emit(result.to_dict() | timer.seconds())
    else:
        rows = [(item.what, str(item.path), item.size) for item in result.made]
        screen.table("What was made of drawn faces", ("what", "where", "how much"), rows, whole="where")
        screen.out.print(f"done in {screen.clock(timer.seconds()['seconds'])}", markup=False)
    return 0
