"""What the commands show: JSON on stdout for machines; tables, progress and words for people.

With `--json` stdout carries one document and nothing else; everything for people goes to stderr.
"""

import json
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

if TYPE_CHECKING:
    from mien.training.trainer import Status


class _Screen(Console):
    """Prints text with its control characters escaped: a file's name may hold what moves the cursor."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(
            *(plain(each, but="\n\t") if isinstance(each, str) else each for each in objects), **options
        )


#: For people: progress, notes and errors.
err = _Screen(stderr=True, highlight=False, soft_wrap=True)
#: For people: what a command was asked for, when it was not asked for as JSON.
out = _Screen(highlight=False, soft_wrap=True)


def emit(document: Any) -> None:
    """Write one JSON document to stdout; numbers that are not finite become null."""
    sys.stdout.write(json.dumps(_finite(document), indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def note(sentence: str) -> None:
    """Say something on stderr."""
    err.print(f"· {plain(sentence)}", markup=False)


def plain(text: str, *, but: str = "") -> str:
    """Return text with its control characters escaped, all but those of `but`."""
    return "".join(
        repr(each)[1:-1] if unicodedata.category(each) == "Cc" and each not in but else each for each in text
    )


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    whole: str = "",
    on: Console | None = None,
) -> None:
    """Print a table to stdout; every column but the first is aligned right if it holds numbers.

    Where there is too little room, the column `whole` is folded last. It goes to `on` where that is given.
    """
    drawn = Table(
        title=escape(plain(title)),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, column in enumerate(columns):
        numbers = index > 0 and all(_is_number(row[index]) for row in rows)
        side: Literal["left", "right"] = "right" if numbers else "left"
        drawn.add_column(escape(plain(column)), justify=side, overflow="fold", no_wrap=column == whole)
    for row in rows:
        drawn.add_row(*(escape(plain(str(cell))) for cell in row))
    (on or out).print(drawn)


@contextmanager
def live() -> Iterator[tuple[Callable[[str, int, int], None], Callable[["Status"], None]]]:
    """Show one progress line on stderr, and a lasting line for each epoch done.

    Yields two callables: one for (stage, done, total), one for where a training stands.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("", total=None, numbers="")
        shown = 0.0

        def move(stage: str, done: int, total: int) -> None:
            progress.update(task, description=escape(stage), completed=done, total=total, numbers="")

        def show(status: "Status") -> None:
            nonlocal shown
            progress.update(
                task,
                description=f"epoch {status.epoch}/{status.epochs}",
                completed=status.step,
                total=status.steps,
                numbers=f"loss {status.loss:.3f}  accuracy {status.accuracy:.1%}  "
                f"{status.images_per_second:,.0f} images/s  {clock(status.seconds_left)} left",
            )
            if status.last is not None and status.last["epoch"] > shown:
                shown = status.last["epoch"]
                progress.console.print(epoch_line(status.last, status.epochs), markup=False)

        yield move, show


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr; yields what rooms call with (done, total)."""
    with live() as (move, _):
        move(what, 0, 0)
        yield lambda done, total: move(what, done, total)


def epoch_line(row: Mapping[str, float], epochs: int) -> str:
    """Return one finished epoch in words and numbers."""
    return (
        f"epoch {row['epoch']:.0f}/{epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.2%}  "
        f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.2%}  "
        f"{row['images_per_second']:,.0f} images/s  {clock(row['seconds'])}"
    )


def clock(seconds: float) -> str:
    """Return a span of time as people read it: `4m 05s`."""
    if not seconds < 360_000:
        return "long"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 60}m {whole % 60:02d}s" if whole >= 60 else f"{whole}s"


def given(context: typer.Context, *names: str) -> str:
    """Return those of the options `names` that stand on the command line, as people write them."""
    found = []
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            found.append("--" + name.strip("_").replace("_", "-"))
    return ", ".join(found)


class Timer:
    """Seconds of wall clock and processor since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def seconds(self) -> dict[str, float]:
        """Return both."""
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
    return isinstance(cell, int | float) or str(cell)[:1].isdigit() or cell in ("", "–")
