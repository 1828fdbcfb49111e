"""The paper: colours, type, and the way from a drawing to its two files."""

import io
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from mien.errors import DataError
from mien.reports.plots import formatting as words
from mien.training.runs import write_file

# Blue and vermilion stay apart for every kind of colour vision: Okabe & Ito 2008, Color Universal Design.
BLUE, VERMILION = "#0072B2", "#D55E00"
INK, SOFT, FAINT = "#1B1E23", "#5A626E", "#DDE1E6"

DPI = 150
#: Points to an inch.
POINTS = 72
#: Inches around what is drawn.
_MARGIN = 0.18

_STYLE = {
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.facecolor": "white",
    "font.size": 9.5,
    "text.color": INK,
    # Hinting makes DejaVu's figures look like another typeface at some sizes.
    "text.hinting": "none",
    # A class may be called $2$.
    "text.parse_math": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.unicode_minus": True,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "ytick.major.size": 0,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    # The same drawing has the same element names, and letters as outlines look alike in every viewer.
    "svg.hashsalt": "mien",
    "svg.fonttype": "path",
}

# matplotlib's settings are one for the whole process; two drawings at once would restore each other's.
_settings = threading.Lock()


@contextmanager
def page(width: float, height: float) -> Iterator[Figure]:
    """Open a page in mien's style, whatever the user's matplotlib settings are; they come back afterwards.

    Args:
        width: Inches that the axes fill; what stands outside, such as labels, widens the file.
        height: Inches.
    """
    style: dict[Any, Any] = dict(matplotlib.rcParamsDefault) | _STYLE
    style |= {"font.family": list(words.families())}
    # The backend is the user's: setting it, even to what it is, can start a window system.
    del style["backend"]
    with _settings, matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), dpi=DPI)
        FigureCanvasAgg(figure)
        yield figure


def headline(axes: Axes, title: str, notes: Sequence[str], *, rise: float = 12) -> None:
    """Write a title and notes above `axes`, from its left edge.

    Args:
        axes: The topmost axes.
        title: One line.
        notes: Smaller lines under it.
        rise: Points between the axes and the lowest line.
    """
    for note in reversed(notes):
        _above(axes, note, rise, size=9.5, color=SOFT, weight="normal")
        rise += 14
    _above(axes, title, rise + 3, size=13, color=INK, weight="bold")


def _above(axes: Axes, text: str, rise: float, *, size: float, color: str, weight: str) -> None:
    axes.annotate(
        text,
        xy=(0, 1),
        xycoords="axes fraction",
        xytext=(0, rise),
        textcoords="offset points",
        fontsize=size,
        color=color,
        fontweight=weight,
        annotation_clip=False,
    )


def scored(report_name: str, split: str, data: str, n: int) -> tuple[str, str]:
    """Return what was scored, for a title, and on how many images, for the line under it."""
    what = words.shorten(words.plain(split or report_name), 40)
    source = words.shorten(words.plain(words.last_part(data)), 48)
    return what, words.images(n) + (f" of {source}" if source else "")


def save(figure: Figure, to: str | os.PathLike[str], stem: str, *, tight: bool = True) -> list[Path]:
    """Write a drawing as PNG and SVG.

    Args:
        figure: A page's figure, inside its `with`.
        to: The folder; it is made if need be.
        stem: The file's name without its ending.
        tight: Widen or cut the page to what is drawn, and a margin.

    Raises:
        DataError: The name is none that a file in `to` can have.
        TrainingError: A file cannot be written.
    """
    if stem != Path(stem).name or "\\" in stem or "\0" in stem:
        raise DataError(f"{stem!r} cannot be a figure's file name; give a name without separators")
    # Measured once: print_figure's own "tight" would lay out every text anew for each file.
    box = figure.get_tightbbox().padded(_MARGIN) if tight else None
    drawn = {}
    for ending, canvas, metadata in (
        ("png", FigureCanvasAgg, {"Software": None}),
        ("svg", FigureCanvasSVG, {"Creator": None, "Date": None}),
    ):
        buffer = io.BytesIO()
        canvas(figure).print_figure(buffer, dpi=DPI, format=ending, metadata=metadata, bbox_inches=box)
        drawn[Path(to) / f"{stem}.{ending}"] = buffer.getvalue()
    for path, data in drawn.items():
        write_file(path, data)
    return list(drawn)
