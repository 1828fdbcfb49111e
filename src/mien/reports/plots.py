"""Draw trainings, evaluations and videos as PNG and SVG with Matplotlib.

Equal numbers give equal bytes. Figures contain no date and no path, and files are complete or absent.
pyplot, its current figure, and the backend and settings of the user do not change.
"""

import functools
import io
import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mien import _files
from mien._text import pluralize
from mien.data.datasets import Dataset, Split
from mien.errors import DataError, MissingExtra, RunError
from mien.evaluation.metrics import wilson_interval
from mien.training import augmentation
from mien.training.runs import Run

try:
    import matplotlib
    from matplotlib import font_manager
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap, Normalize, to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.text import Text
    from matplotlib.ticker import (
        FixedLocator,
        FuncFormatter,
        Locator,
        LogLocator,
        MaxNLocator,
        MultipleLocator,
        NullLocator,
        PercentFormatter,
        ScalarFormatter,
    )
except ImportError as error:
    raise MissingExtra("plotting", "plot") from error

# Blue and vermilion stay apart for every kind of colour vision: Okabe & Ito 2008, Color Universal Design.
_BLUE, _VERMILION = "#0072B2", "#D55E00"
_INK, _SOFT, _FAINT = "#1B1E23", "#5A626E", "#DDE1E6"

_DPI = 150
#: Points to an inch.
_POINTS = 72
#: Inches around what is drawn.
_MARGIN = 0.18

_STYLE = {
    "figure.dpi": _DPI,
    "savefig.dpi": _DPI,
    "figure.facecolor": "white",
    "font.size": 9.5,
    "text.color": _INK,
    # Hinting makes DejaVu's figures look like another typeface at some sizes.
    "text.hinting": "none",
    # A class may be called $2$.
    "text.parse_math": False,
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.unicode_minus": True,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "ytick.major.size": 0,
    "grid.color": _FAINT,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    # The same drawing has the same element names, and letters as outlines look alike in every viewer.
    "svg.hashsalt": "mien",
    "svg.fonttype": "path",
}

# matplotlib's settings are one for the whole process; two drawings at once would restore each other's.
_settings = threading.Lock()


@contextmanager
def _open_figure(width: float, height: float) -> Iterator[Figure]:
    """Open a page of inches in mien's style; the user's settings of matplotlib come back afterwards."""
    style: dict[Any, Any] = dict(matplotlib.rcParamsDefault) | _STYLE
    style |= {"font.family": list(families())}
    # The backend is the user's: setting it, even to what it is, can start a window system.
    del style["backend"]
    with _settings, matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), dpi=_DPI)
        FigureCanvasAgg(figure)
        yield figure


def _write_headline(axes: Axes, title: str, notes: Sequence[str], *, rise: float = 12) -> None:
    """Write a title and smaller notes above `axes`, the lowest line `rise` points above its left edge."""
    for note in reversed(notes):
        _annotate(axes, note, (0, 1), (0, rise), xycoords="axes fraction", fontsize=9.5, color=_SOFT)
        rise += 14
    _annotate(axes, title, (0, 1), (0, rise + 3), xycoords="axes fraction", fontsize=13, fontweight="bold")


def _annotate(
    axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], **look: Any
) -> None:
    """Write a text `shift` points from a place, also outside the axes."""
    axes.annotate(text, at, shift, textcoords="offset points", annotation_clip=False, **look)


def _name_what_was_scored(report: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return what was scored, for a title, and on how many images, for the line under it."""
    what = shorten(make_drawable(report.get("split") or name), 40)
    source = shorten(make_drawable(base_name(report.get("data", ""))), 48)
    return what, pluralize(report["n"], "image") + (f" of {source}" if source else "")


def _save_figure(figure: Figure, to: str | os.PathLike[str], stem: str, *, tight: bool = True) -> list[Path]:
    """Write a figure as PNG and SVG into a folder; if `tight`, the page has the size of what is drawn."""
    if stem != Path(stem).name or "\\" in stem or "\0" in stem:
        raise DataError(f"{stem!r} is not a valid file name for a figure; give a name without separators")
    # Measured once: print_figure's own "tight" would arrange every text again for each file.
    box = figure.get_tightbbox().padded(_MARGIN) if tight else None
    drawn = {}
    for ending, canvas, metadata in (
        ("png", FigureCanvasAgg, {"Software": None}),
        ("svg", FigureCanvasSVG, {"Creator": None, "Date": None}),
    ):
        buffer = io.BytesIO()
        canvas(figure).print_figure(buffer, dpi=_DPI, format=ending, metadata=metadata, bbox_inches=box)
        drawn[Path(to) / f"{stem}.{ending}"] = buffer.getvalue()
    for path, data in drawn.items():
        _files.write(path, data)
    return list(drawn)


#: matplotlib brings this one, so that figures look alike everywhere.
_FONT = "DejaVu Sans"
#: Asked in this order, where installed, for characters that `_FONT` lacks.
_FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei", "PingFang SC"),
    *("Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
    *("Arial Unicode MS", "Nirmala UI", "Noto Sans JP", "Noto Sans KR", "Noto Serif CJK SC"),
    *("Noto Serif CJK JP", "WenQuanYi Zen Hei", "Droid Sans Fallback", "IPAGothic", "IPAexGothic"),
    *("TakaoGothic", "MS Gothic", "SimHei", "Noto Sans", "Noto Sans Arabic", "Noto Sans Devanagari"),
    *("Noto Sans Hebrew", "Noto Sans Thai", "Noto Emoji", "Segoe UI Symbol", "Segoe UI Emoji", "STIXGeneral"),
)


@functools.cache
def families() -> tuple[str, ...]:
    """Return the font families to draw with, best first; all of them are installed."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return (_FONT, *(name for name in _FALLBACKS if name in installed))


@functools.cache
def _known() -> frozenset[int]:
    """Return the code points that can be drawn, upright and bold."""
    weights = []
    for weight in ("normal", "bold"):
        known: set[int] = set()
        for family in families():
            wanted = font_manager.FontProperties(family=family, weight=weight)
            known.update(font_manager.get_font(font_manager.findfont(wanted)).get_charmap())
        weights.append(known)
    return frozenset(weights[0] & weights[1])


def make_drawable(text: str) -> str:
    r"""Return `text` on one line, with what no font can draw written as an escape: `\u5feb`.

    Folders have names with line breaks, undecodable bytes and scripts that no installed font knows. Empty
    boxes would make two such classes look alike; escapes keep them apart.
    """
    line = " ".join(text.split())
    return "".join(
        character
        if character.isprintable() and ord(character) in _known()
        else character.encode("unicode_escape").decode("ascii")
        for character in line
    )


def shorten(text: str, most: int) -> str:
    """Cut the middle out of `text` so that `most` characters remain, the ellipsis among them."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 3
    return text[: most - 1 - tail] + "…" + (text[-tail:] if tail else "")


def shorten_names(labels: Sequence[str], most: int = 28) -> list[str]:
    """Return class names to draw, each at most `most` characters or little more, no two of them alike."""
    shown = [shorten(make_drawable(label), most) for label in labels]
    return [
        f"{text} ({number})" if shown.count(text) > 1 else text for number, text in enumerate(shown, start=1)
    ]


def base_name(path: str) -> str:
    """Return what follows the last separator, so that no figure tells where a machine keeps its files."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def format_decimal(value: float) -> str:
    """Return a loss in four digits or so: `0.987`, `1.2e+06`."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    return f"{value:.3f}" if value == 0 or 0.001 <= abs(value) < 1000 else f"{value:.2g}"


def format_percent(value: float) -> str:
    """Return a fraction as percent with one decimal."""
    return f"{value:.1%}" if math.isfinite(value) else format_decimal(value)


def format_count(count: int) -> str:
    """Return a count in at most five characters, so that it fits a narrow bar: `987`, `12.3k`, `4M`."""
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}" if count < 999.5 * size else f"{count // size}{letter}"
    return str(count)


Floats = npt.NDArray[np.float64]

_CURVE_WIDTH, _CURVE_HEIGHT, _RATE_GAP, _RATE_STRIP = 6.6, 3.7, 0.22, 0.55
#: Points from one direct label to the next.
_LINE = 13.0
# Losses are float32: values beyond its range are close to infinity, and no axis can show them.
_LARGEST = float(np.finfo(np.float32).max)
#: A loss whose largest value is so many times its median is drawn on a logarithmic axis.
_SKEWED = 20.0


@dataclass(frozen=True)
class _Measure:
    """What one figure shows: a column, the same on validation (`val_`), and how its numbers are written."""

    name: str
    write: Callable[[float], str]
    percent: bool


@dataclass(frozen=True, eq=False)
class _Curve:
    name: str
    values: Floats
    colour: str
    width: float


_MEASURES = (
    _Measure("loss", format_decimal, percent=False),
    _Measure("accuracy", format_percent, percent=True),
)


def draw_history(
    rows: Sequence[Mapping[str, float]], to: str | os.PathLike[str], *, title: str, best: int | None = None
) -> list[Path]:
    """Draw training and validation loss, and accuracy, over epochs.

    Values that are infinite or no number are crosses at the upper edge. The learning rate has a strip of its
    own if it changes.

    Args:
        rows: A row an epoch, as `Run.history` returns them: `epoch` from 1, `loss`, `accuracy`, `val_loss`,
            `val_accuracy`, `learning_rate`; accuracy as a fraction. What has no
            column is not drawn.
        to: The folder to write into.
        title: The run's name.
        best: the selected epoch, from 1; None if none does yet.

    Returns:
        `loss.png`, `loss.svg`, `accuracy.png` and `accuracy.svg` in `to`.

    Raises:
        RunError: No epoch was finished, or `best` is not one of the epochs.
        OutputError: A file cannot be written.
    """
    if not rows:
        raise RunError("the history has no rows, because no epoch is finished")
    epochs = _column(rows, "epoch")
    if np.isnan(epochs).any():
        epochs = np.arange(1, len(rows) + 1, dtype=np.float64)
    if best is not None and best not in epochs:
        raise RunError(f"the best epoch is {best}, but the history has {_span(epochs)}")
    rate = _column(rows, "learning_rate")
    paths = []
    for measure in _MEASURES:
        if curves := _curves_of(measure, rows):
            paths += _draw_curves(measure, epochs, curves, rate, to, title=title, best=best)
    return paths


def _draw_curves(
    measure: _Measure,
    epochs: Floats,
    curves: list[_Curve],
    rate: Floats,
    to: str | os.PathLike[str],
    *,
    title: str,
    best: int | None,
) -> list[Path]:
    changes = _drawable(rate).all() and rate.min() < rate.max()
    below = _RATE_GAP + _RATE_STRIP if changes else 0.0
    height = _CURVE_HEIGHT + below
    notes = [_summary(measure, epochs, curves, best)]
    if not all(_drawable(curve.values).all() for curve in curves):
        notes.append("× infinite or not a number")
    with _open_figure(_CURVE_WIDTH, height) as figure:
        axes = figure.add_axes((0, below / height, 1, _CURVE_HEIGHT / height))
        axes.grid(axis="y")
        _loss_scale(axes, measure, np.concatenate([curve.values for curve in curves]))
        _epoch_axis(axes, epochs)
        for curve in curves:
            _draw_curve(axes, epochs, curve)
        _label_ends(axes, curves, measure)
        if best is not None:
            _mark_epoch(axes, best, epochs, curves)
        name = shorten(make_drawable(title), 44)
        _write_headline(axes, f"{measure.name.capitalize()}, {name}", notes, rise=12 if best is None else 24)
        if changes:
            axes.tick_params(axis="x", labelbottom=False)
            _draw_rate(figure.add_axes((0, 0, 1, _RATE_STRIP / height)), epochs, rate)
        else:
            axes.set_xlabel("epoch")
        return _save_figure(figure, to, measure.name)


def _curves_of(measure: _Measure, rows: Sequence[Mapping[str, float]]) -> list[_Curve]:
    return [
        _Curve(name, _column(rows, key), colour, width)
        for name, key, colour, width in (
            ("training", measure.name, _BLUE, 1.5),
            ("validation", f"val_{measure.name}", _VERMILION, 2.2),
        )
        if any(key in row for row in rows)
    ]


def _column(rows: Sequence[Mapping[str, float]], key: str) -> Floats:
    return np.array([row.get(key, np.nan) for row in rows], np.float64)


def _drawable(values: Floats) -> npt.NDArray[np.bool_]:
    return np.isfinite(values) & (np.abs(values) <= _LARGEST)


def _span(epochs: Floats) -> str:
    return f"epoch {epochs[0]:g}" if len(epochs) == 1 else f"epochs {epochs[0]:g} to {epochs[-1]:g}"


def _loss_scale(axes: Axes, measure: _Measure, values: Floats) -> None:
    shown = values[_drawable(values)]
    low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 1.0)
    if not measure.percent and low > 0 and high > _SKEWED * float(np.median(shown)):
        axes.set_yscale("log")
        room = (high / low) ** 0.06
        axes.set_ylim(low / room, high * room)
        many = np.log10(high / low) > 3
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if many else (1.0, 2.0, 5.0), numticks=7))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        # A flat line still needs an axis with some height.
        least = 0.04 if measure.percent else max(0.04 * abs(high), 1e-6)
        room = 0.06 * (high - low) + max(0.0, least - (high - low)) / 2
        floor = 0.0 if low >= 0 else -np.inf
        ceiling = 1.0 if measure.percent and high <= 1 else np.inf
        axes.set_ylim(max(low - room, floor), min(high + room, ceiling))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    if measure.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    elif axes.get_yscale() == "log" or high >= 1e5:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        plain = ScalarFormatter(useOffset=False)
        plain.set_scientific(False)
        axes.yaxis.set_major_formatter(plain)


def _draw_curve(axes: Axes, epochs: Floats, curve: _Curve) -> None:
    width = curve.width
    look: dict[str, Any] = {"color": curve.colour, "clip_on": False}
    there = _drawable(curve.values)
    shown = np.where(there, curve.values, np.nan)
    axes.plot(epochs, shown, linewidth=width, solid_capstyle="round", zorder=3, **look)
    # A line needs two points; a single point between gaps would vanish.
    alone = there & ~np.append(False, there[:-1]) & ~np.append(there[1:], False)
    dots = there if len(epochs) <= 30 else alone
    axes.plot(epochs[dots], shown[dots], "o", markersize=2 + width, zorder=3, **look)
    look |= {"markersize": 5 + width, "markeredgewidth": width, "transform": axes.get_xaxis_transform()}
    axes.plot(epochs[~there], np.full(np.count_nonzero(~there), 0.975), "x", zorder=4, **look)


def _epoch_axis(axes: Axes, epochs: Floats) -> None:
    first, last = float(epochs[0]), float(epochs[-1])
    room = 0.5 if first == last else 0.015 * (last - first)
    axes.set_xlim(first - room, last + room)
    step = next(
        size for size in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10 ** len(f"{last:.0f}")) if last <= 12 * size
    )
    ticks = [tick for tick in range(0, int(last) + 1, step) if tick > first + 0.4 * step]
    axes.xaxis.set_major_locator(FixedLocator([first, *ticks]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _label_ends(axes: Axes, curves: list[_Curve], measure: _Measure) -> None:
    """Write each curve's name and last value beside its end, moved apart where they would overlap."""
    top = axes.get_ylim()[1]
    ends = [float(curve.values[-1]) for curve in curves]
    heights = [end if abs(end) <= _LARGEST else top for end in ends]
    places = [float(axes.transData.transform((1, height))[1]) * _POINTS / _DPI for height in heights]
    moved = list(places)
    if len(places) == 2 and abs(places[0] - places[1]) < _LINE:
        middle, upper = sum(places) / 2, int(places[1] >= places[0])
        moved[upper], moved[1 - upper] = middle + _LINE / 2, middle - _LINE / 2
    for number, curve in enumerate(curves):
        text, shift = f"{curve.name} {measure.write(ends[number])}", (8, moved[number] - places[number])
        look = {"color": curve.colour, "fontweight": "bold", "va": "center"}
        _annotate(axes, text, (1, heights[number]), shift, xycoords=("axes fraction", "data"), **look)


def _summary(measure: _Measure, epochs: Floats, curves: list[_Curve], best: int | None) -> str:
    if best is None:
        return pluralize(len(epochs), "epoch")
    values = ", ".join(
        f"{curve.name} {measure.write(float(curve.values[epochs == best][0]))}" for curve in curves
    )
    return f"epoch {best:,} of {int(epochs[-1]):,} selected: {values}"


def _mark_epoch(axes: Axes, best: int, epochs: Floats, curves: list[_Curve]) -> None:
    axes.axvline(best, color=_INK, linewidth=0.9, linestyle=(0, (2, 2)), zorder=2)
    above = ("data", "axes fraction")
    _annotate(axes, "used", (best, 1), (0, 5), xycoords=above, ha="center", fontsize=8.5)
    for curve in curves:
        there = (epochs == best) & _drawable(curve.values)
        axes.plot(
            epochs[there],
            curve.values[there],
            "o",
            color="white",
            markeredgecolor=curve.colour,
            markeredgewidth=curve.width,
            markersize=7,
            clip_on=False,
            zorder=5,
        )


def _draw_rate(axes: Axes, epochs: Floats, rate: Floats) -> None:
    axes.plot(epochs, rate, color=_SOFT, linewidth=1.2, clip_on=False)
    _epoch_axis(axes, epochs)
    top = float(rate.max())
    axes.set_ylim(min(0.0, float(rate.min())), top * 1.08)
    axes.yaxis.set_major_locator(FixedLocator([0.0, top]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(axis="y")
    axes.set_xlabel("epoch")
    text, beside = f"learning rate {rate[-1]:.2g}", ("axes fraction", "data")
    _annotate(axes, text, (1, rate[-1]), (8, 0), xycoords=beside, color=_SOFT, va="center")


Counts = npt.NDArray[np.int64]

#: Points; smaller type is not legible.
_SMALLEST = 5.5
#: Up to so many classes: inches of a cell, and points of names, counts and percents in it. The seven emotions
#: make a matrix of some five inches; none is larger than fourteen.
_SIZES = (
    (4, 1.1, 10.5, 12.0, 9.5),
    (12, 0.74, 10.0, 10.0, 8.0),
    (26, 0.48, 8.5, 7.0, 6.0),
    (40, 0.32, 7.5, 0.0, 6.5),
    (70, 0.2, 7.0, 0.0, 0.0),
)
#: Width of a figure in `words.FONT`, as a share of its size.
_DIGIT = 0.64
#: Height of a line, as a share of its size.
_SPACING = 1.2


@dataclass(frozen=True)
class _MatrixLayout:
    """How a matrix of k classes is laid out: cells in inches, type in points (0 for none)."""

    k: int
    cell: float
    names: float
    count: float
    share: float
    #: Every so many classes have their name written.
    step: int

    @property
    def side(self) -> float:
        """Inches of the whole matrix."""
        return self.k * self.cell


def draw_confusion_matrix(report: Mapping[str, Any], to: str | os.PathLike[str], *, name: str) -> list[Path]:
    """Draw a confusion matrix: one row per true class, one column per prediction.

    Colour is the share of the row, so that small classes read like large ones. Cells hold images and share
    of the row, as long as there is room for readable type.

    Args:
        report: An evaluation as `Evaluation.to_dict` gives it, or as JSON brings it back.
        to: The folder to write into.
        name: What was scored, for the files' names: `val`.

    Returns:
        `confusion-<name>.png` and `.svg` in `to`.

    Raises:
        DataError: The report has no confusion matrix of its labels, or `name` is not a file name.
        OutputError: A file cannot be written.
    """
    labels = report.get("labels", ())
    counts = np.array(report.get("confusion", ()))
    if not len(labels) or counts.shape != (len(labels), len(labels)) or counts.dtype.kind not in "iu":
        raise DataError(
            f"a report with {len(labels)} labels and a confusion of shape {counts.shape} cannot be drawn; "
            "give counts of images, with a row and a column for each label"
        )
    names = shorten_names(labels)
    grid = _lay_out_matrix(counts, max(map(len, names)))
    colours = matplotlib.colormaps["Blues"]
    with _open_figure(grid.side, grid.side) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        totals = counts.sum(axis=1, keepdims=True)
        # A class without images has no shares.
        shares = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
        _draw_cells(axes, shares, grid, colours)
        _class_axes(axes, names, counts.sum(axis=1), grid)
        if grid.share:
            _write_cells(axes, counts, shares, grid, colours)
        else:
            _color_scale(figure, grid, colours)
        _matrix_headline(axes, report, name, grid)
        return _save_figure(figure, to, f"confusion-{name}")


def _lay_out_matrix(counts: Counts, longest: int) -> _MatrixLayout:
    k = len(counts)
    cell, names, count, share = next(
        sizes for most, *sizes in (*_SIZES, (k, 14 / k, 7.0, 0.0, 0.0)) if k <= most
    )
    # A few classes may have wider cells, so that their names need not be slanted.
    cell = max(cell, min(0.66 * names * longest / _POINTS, 7 / k, 2.0))
    digits = len(f"{counts.max():,}")
    count = min(count, 0.9 * cell * _POINTS / (_DIGIT * digits))
    return _MatrixLayout(
        k=k,
        cell=cell,
        names=names,
        count=count if count >= _SMALLEST else 0.0,
        share=share,
        step=max(1, math.ceil(1.3 * names / (cell * _POINTS))),
    )


def _draw_cells(axes: Axes, shares: Floats, grid: _MatrixLayout, colours: Colormap) -> None:
    axes.imshow(
        np.ma.masked_invalid(shares),
        cmap=colours.with_extremes(bad=_FAINT),
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(0, grid.k, grid.k, 0),
        aspect="auto",
    )
    if grid.share:
        edges = np.arange(1, grid.k)
        axes.hlines(edges, 0, grid.k, color="white", linewidth=2.5 * grid.cell)
        axes.vlines(edges, 0, grid.k, color="white", linewidth=2.5 * grid.cell)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=grid.names, labelcolor="black", pad=5)


def _write_cells(axes: Axes, counts: Counts, shares: Floats, grid: _MatrixLayout, colours: Colormap) -> None:
    for row, column in np.ndindex(counts.shape):
        share, count = shares[row, column], counts[row, column]
        if math.isnan(share):
            continue
        lines = [(f"{count:,}", grid.count)] if grid.count else []
        if count:
            # A narrow cell has room for a number alone, and none to spare for zeros.
            text = f"{share:.0%}" if grid.cell > 0.4 else f"{100 * share:.0f}".removeprefix("0")
            lines.append((text, grid.share))
        ink = _readable(colours(float(share)))
        offset = -0.5 * _SPACING * sum(size for _, size in lines)
        for text, size in lines:
            offset += 0.5 * _SPACING * size
            axes.text(
                column + 0.5,
                row + 0.5 + offset / (grid.cell * _POINTS),
                text,
                ha="center",
                va="center_baseline",
                fontsize=size,
                color=ink,
                family=_FONT,
                # Texts inside the matrix cannot change the edge of the page, so they are not measured.
                in_layout=False,
            )
            offset += 0.5 * _SPACING * size
    for row in np.flatnonzero(np.isnan(shares[:, 0])):
        axes.text(grid.k / 2, row + 0.5, "no images", ha="center", va="center", color=_SOFT, size=grid.names)


def _readable(colour: tuple[float, float, float, float]) -> str:
    """Return black or white, whichever has more contrast: at least 4.5 to 1 on any colour.

    Source: contrast ratio, WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio.
    """
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"


def _class_axes(axes: Axes, names: list[str], n: Counts, grid: _MatrixLayout) -> None:
    places = np.arange(0, grid.k, grid.step)
    shown = [names[place] for place in places]
    axes.set_xticks(places + 0.5, shown)
    axes.set_yticks(places + 0.5, shown)
    axes.set_xlabel("answer", fontsize=10)
    axes.set_ylabel("truth", fontsize=10)
    room = 0.94 * grid.step * grid.cell * _DPI
    if max(label.get_window_extent().width for label in axes.get_xticklabels()) > room:
        # Slanted names need 1.4 times their height from one to the next.
        slant = 45 if grid.step == 1 and grid.cell * _POINTS > 1.5 * grid.names else 90
        for label in axes.get_xticklabels():
            label.set(rotation=slant, ha="right", va="center", rotation_mode="anchor")
    header = -9 / (grid.cell * _POINTS)
    for row, text in [(header, "n"), *((place + 0.5, f"{n[place]:,}") for place in places)]:
        look = {"va": "center_baseline", "color": _SOFT, "fontsize": grid.names}
        _annotate(axes, text, (grid.k, row), (7, 0), **look)


def _color_scale(figure: Figure, grid: _MatrixLayout, colours: Colormap) -> None:
    height = min(1.0, 2.4 / grid.side)
    axes = figure.add_axes((1 + 0.85 / grid.side, 1 - height, 0.13 / grid.side, height))
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), colours), cax=axes)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    bar.set_label("share of the row")


def _matrix_headline(axes: Axes, report: Mapping[str, Any], name: str, grid: _MatrixLayout) -> None:
    what, on = _name_what_was_scored(report, name)
    share, low, high = map(format_percent, (report["accuracy"], *report["accuracy_interval"]))
    notes = [on, f"accuracy {share} (95% interval {low} to {high})"]
    if grid.count:
        notes.append("in each cell: images, and their share of the row")
    elif grid.share:
        notes.append("in each cell: percent of the row")
    _write_headline(axes, f"Confusion, {what}", notes, rise=24)


_FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_RELIABILITY_SIDE, _COUNTS_GAP, _COUNTS_STRIP = 4.6, 0.2, 1.0


def draw_reliability(report: Mapping[str, Any], to: str | os.PathLike[str], *, name: str) -> list[Path]:
    """Draw how often answers are right against how sure they are, bin by bin, with the images in each bin.

    Arguments are as in `draw_confusion_matrix`.

    Returns:
        `reliability-<name>.png` and `.svg` in `to`.

    Raises:
        DataError: The report has no bins, or `name` is not a file name.
        OutputError: A file cannot be written.
    """
    bins = report.get("reliability", ())
    if not bins:
        raise DataError("the report has no reliability bins, so it cannot be drawn; evaluate the split again")
    height = _RELIABILITY_SIDE + _COUNTS_GAP + _COUNTS_STRIP
    with _open_figure(_RELIABILITY_SIDE, height) as figure:
        axes = figure.add_axes((0, 1 - _RELIABILITY_SIDE / height, 1, _RELIABILITY_SIDE / height))
        _draw_bins(axes, bins)
        counts = figure.add_axes((0, 0, 1, _COUNTS_STRIP / height))
        _draw_counts(counts, [each["n"] for each in bins])
        for each in (axes, counts):
            each.set_xlim(0, 1)
            each.xaxis.set_major_locator(FixedLocator(_FIFTHS))
            each.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.tick_params(axis="x", labelbottom=False)
        what, on = _name_what_was_scored(report, name)
        notes = [on, "whiskers: 95% intervals, grey where they reach the diagonal"]
        _write_headline(axes, f"Reliability, {what}: ECE {report['ece']:.3f}", notes)
        return _save_figure(figure, to, f"reliability-{name}")


def _draw_bins(axes: Axes, bins: list[Mapping[str, Any]]) -> None:
    axes.set(ylim=(0, 1), ylabel="correct predictions")
    axes.yaxis.set_major_locator(FixedLocator(_FIFTHS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.grid(True)
    axes.plot((0, 1), (0, 1), color=_SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
    look: dict[str, Any] = {"size": 9, "linespacing": 1.3}
    axes.text(0.02, 0.97, "underconfident", ha="left", va="top", color=_BLUE, **look)
    axes.text(0.98, 0.03, "overconfident", ha="right", va="bottom", color=_VERMILION, **look)
    for each in bins:
        if not each["n"]:
            continue
        sure, right = each["confidence"], each["accuracy"]
        low, high = wilson_interval(round(right * each["n"]), each["n"])
        colour = _SOFT if low <= sure <= high else _VERMILION if sure > right else _BLUE
        axes.plot((sure, sure), (low, high), color=colour, linewidth=1.4, alpha=0.55, clip_on=False, zorder=3)
        axes.plot(
            sure, right, "o", color=colour, markersize=7, markeredgecolor="white", clip_on=False, zorder=4
        )


def _draw_counts(axes: Axes, counts: list[int]) -> None:
    width = 1 / len(counts)
    axes.bar(np.arange(len(counts)) * width, counts, 0.9 * width, align="edge", color="#9AA3AF")
    axes.set_ylim(0, 1.25 * max(*counts, 1))
    axes.yaxis.set_major_locator(FixedLocator([]))
    axes.set_ylabel("images", labelpad=30)
    axes.set_xlabel("probability of the prediction")
    axes.axhline(0, color=_FAINT)
    size = min(8.0, width * _RELIABILITY_SIDE * _POINTS / 3.2)
    if size < 5:
        return
    for number, count in enumerate(counts):
        if count:
            at, look = ((number + 0.45) * width, count), {"ha": "center", "color": _SOFT, "fontsize": size}
            _annotate(axes, format_count(count), at, (0, 2.5), **look)


Images = npt.NDArray[np.uint8]

#: Pairs on one sheet; of more, so many are taken at even distances.
_MOST_PAIRS = 120
# Lengths of the sheet in pixels of the PNG, so that each pixel of a face is a square of whole pixels.
_FACE, _BETWEEN, _GUTTER, _LABEL, _SHEET_MARGIN, _HEAD = 144, 6, 30, 44, 40, 124


@dataclass(frozen=True)
class _SheetLayout:
    """Position of each pair, in pixels."""

    columns: int
    rows: int
    face: int

    @property
    def width(self) -> int:
        # The title needs this much.
        return max(2 * _SHEET_MARGIN + self.columns * (2 * self.face + _BETWEEN + _GUTTER) - _GUTTER, 880)

    @property
    def height(self) -> int:
        return _HEAD + self.rows * (self.face + _LABEL) + _SHEET_MARGIN // 2

    def corner(self, place: int) -> tuple[int, int]:
        """Return left and top of a pair."""
        row, column = divmod(place, self.columns)
        return _SHEET_MARGIN + column * (2 * self.face + _BETWEEN + _GUTTER), _HEAD + row * (
            self.face + _LABEL
        )


def draw_samples(
    before: Images, after: Images, labels: Sequence[str], to: str | os.PathLike[str]
) -> list[Path]:
    """Draw a sheet of training images, each beside what augmentation made of it.

    Args:
        before: Images `(n, size, size, 1)` uint8, 0..255.
        after: The same images augmented, of the same shape.
        labels: The n class names.
        to: The folder to write into.

    Returns:
        `samples.png` and `samples.svg` in `to`.

    Raises:
        DataError: No images are given, or shapes or numbers do not match.
        OutputError: A file cannot be written.
    """
    shape = before.shape
    fits = len(shape) == 4 and shape[1] == shape[2] > 0 and shape[3] == 1 and shape == after.shape
    if not fits or not 0 < shape[0] == len(labels) or not before.dtype == after.dtype == np.uint8:
        raise DataError(
            f"{len(labels)} labels with images {before.dtype} {shape} before and {after.dtype} "
            f"{after.shape} after do not form pairs; give two uint8 arrays of the same shape (n, size, "
            "size, 1) and n labels"
        )
    chosen = np.unique(np.linspace(0, shape[0] - 1, min(shape[0], _MOST_PAIRS)).round().astype(int))
    grid = _lay_out_sheet(len(chosen), shape[1])
    with _open_figure(grid.width / _DPI, grid.height / _DPI) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, grid.width), ylim=(grid.height, 0))
        axes.set_axis_off()
        paper = np.full((grid.height, grid.width), 255, np.uint8)
        for place, index in enumerate(chosen):
            left, top = grid.corner(place)
            for picture, start in ((before, left), (after, left + grid.face + _BETWEEN)):
                paper[top : top + grid.face, start : start + grid.face] = _enlarge(picture[index], grid.face)
            label = axes.text(left, top + grid.face + 8, "", size=8.5, va="top")
            _fit_label(label, make_drawable(labels[index]), 2 * grid.face + _BETWEEN)
        extent = (0, grid.width, grid.height, 0)
        # As colours: a colour map would round some greys to their neighbours.
        axes.imshow(paper[..., None].repeat(3, axis=2), extent=extent, interpolation="nearest", aspect="auto")
        _sheet_headings(axes, grid, len(chosen), shape[0])
        return _save_figure(figure, to, "samples", tight=False)


def _lay_out_sheet(pairs: int, size: int) -> _SheetLayout:
    # Twice as wide as tall a pair is; an even number of columns keeps two of a class side by side.
    columns = min(pairs, 2 * math.ceil(math.sqrt(0.55 * pairs) / 2))
    face = size * max(1, round(_FACE / size)) if size <= 1.5 * _FACE else _FACE
    return _SheetLayout(columns=columns, rows=math.ceil(pairs / columns), face=face)


def _enlarge(image: Images, side: int) -> Images:
    size = len(image)
    if side % size == 0:
        return image[..., 0].repeat(side // size, axis=0).repeat(side // size, axis=1)
    return np.asarray(Image.fromarray(image[..., 0]).resize((side, side), Image.Resampling.BOX))


def _fit_label(label: Text, text: str, width: float) -> None:
    """Write `text`, shortened until it is at most `width` pixels wide."""
    for most in range(min(len(text), 60), 0, -1):
        label.set_text(shorten(text, most))
        if label.get_window_extent().width <= width:
            return


def _sheet_headings(axes: Axes, grid: _SheetLayout, shown: int, of: int) -> None:
    note = f"{shown:,} of {pluralize(of, 'image')}" if shown < of else pluralize(of, "image")
    axes.text(_SHEET_MARGIN, 44, "Training images before and after augmentation", size=12, weight="bold")
    axes.text(_SHEET_MARGIN, 76, note, size=9, color=_SOFT)
    for column in range(grid.columns):
        left, top = grid.corner(column)
        for start, text in ((left, "before"), (left + grid.face + _BETWEEN, "after")):
            axes.text(start, top - 8, text, size=8, color=_SOFT)


#: People on one drawing, those seen longest.
_MOST_PEOPLE = 12
#: Stretches of one person that are drawn as they are; of more, each column takes what fills it most.
_STRETCHES, _COLUMNS = 300, 900
# Apart for every kind of colour vision: Okabe & Ito 2008, Color Universal Design. Neutral is grey.
_COLOURS = {
    "angry": "#D55E00",
    "disgust": "#009E73",
    "fear": "#CC79A7",
    "happy": "#E69F00",
    "sad": "#0072B2",
    "surprise": "#56B4E9",
    "neutral": "#B8BEC7",
}
_OTHERS = ("#F0E442", *_COLOURS.values())
_TIMELINE_WIDTH, _ROW, _BAR_HEIGHT = 9.0, 0.42, 0.72
_UNDER = 0.42  # inches from the axes to the legend
#: Seconds between marks, of which the first is taken that leaves no more than `_MARKS`.
_STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
_MOST_MARKS = 9
_LETTER_WIDTH = 0.085  # inches that a letter takes in a bar, about

#: Begin and end in seconds, the emotion, and whether it is uncertain.
Stretch = tuple[float, float, str, bool]
#: How uncertain stretches are drawn: share of white in the colour, and lines in the colour itself.
_PALE, _HATCH = 0.7, "////"
_DOUBT = "#6E747D"


def draw_timeline(
    people: Sequence[Mapping[str, Any]],
    to: str | os.PathLike[str],
    *,
    name: str,
    begin: float,
    end: float,
    title: str = "",
) -> list[Path]:
    """Draw a bar for each person, coloured by the emotion shown at that time; gaps are times unseen.

    Stretches in which the emotion is uncertain are pale and hatched.

    Args:
        people: As `mien.inference.video.Person.to_dict` gives them.
        to: The folder to write into.
        name: The files' name without its ending.
        begin: Seconds at which the video begins.
        end: Seconds at which it ends.
        title: What the video is called.

    Returns:
        `<name>.png` and `.svg` in `to`.

    Raises:
        DataError: `name` is not a file name, or the video does not end after it begins.
        OutputError: A file cannot be written.
    """
    if not (math.isfinite(begin) and math.isfinite(end) and end > begin):
        raise DataError(f"a video from {begin} to {end} s has no length, so it cannot be drawn")
    longest = sorted(people, key=lambda person: -person["seconds"])[:_MOST_PEOPLE]
    shown = sorted(longest, key=lambda person: person["track"])
    rows = max(1, len(shown))
    with _open_figure(_TIMELINE_WIDTH, _ROW * rows) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(begin, end), ylim=(rows - 0.5, -0.5))
        axes.yaxis.set_major_locator(FixedLocator(range(len(shown))))
        axes.set_yticklabels([f"person {person['track']}" for person in shown])
        axes.xaxis.set_major_locator(_time_marks(end - begin))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda second, _: _clock(second, end - begin)))
        axes.grid(True, axis="x")
        colours, doubted = _emotion_colors(shown), False
        for number, person in enumerate(shown):
            spans = [
                (span["begin"], span["end"], span["emotion"], bool(span.get("uncertain", False)))
                for span in person["spans"]
            ]
            doubted = doubted or any(uncertain for *_, uncertain in spans)
            if len(spans) > _STRETCHES:
                spans = _thin_out(spans, begin, end)
            _draw_bars(axes, number, spans, colours, _TIMELINE_WIDTH / (end - begin))
        notes = [_people_note(len(people), len(shown))]
        _write_headline(axes, shorten(make_drawable(title), 60) or "Emotions over time", notes)
        if colours:
            handles = [Patch(color=colour, label=make_drawable(name)) for name, colour in colours.items()]
            if doubted:
                look = _bar_style(_DOUBT, uncertain=True)
                handles.append(Patch(**look, label="uncertain"))
            axes.legend(
                handles=handles,
                loc="upper left",
                bbox_to_anchor=(0, -_UNDER / (_ROW * rows)),
                borderaxespad=0,
                borderpad=0,
                ncols=8,
                frameon=False,
                handlelength=1,
                labelcolor=_INK,
            )
        return _save_figure(figure, to, name)


def _draw_bars(
    axes: Axes, number: int, spans: Sequence[Stretch], colours: Mapping[str, str], scale: float
) -> None:
    bars: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for first, last, emotion, uncertain in spans:
        bars.setdefault((emotion, uncertain), []).append((first, last - first))
    for (emotion, uncertain), pieces in bars.items():
        look = _bar_style(colours[emotion], uncertain=uncertain)
        axes.broken_barh(pieces, (number - _BAR_HEIGHT / 2, _BAR_HEIGHT), **look)
    for first, last, emotion, uncertain in spans:
        text = make_drawable(emotion) + ("?" if uncertain else "")
        if (last - first) * scale > _LETTER_WIDTH * (len(text) + 1):
            dark = emotion == "sad" and not uncertain
            axes.text(
                (first + last) / 2,
                number,
                text,
                ha="center",
                va="center",
                size=8,
                color="white" if dark else _INK,
                # The lines of an uncertain bar would run through the letters.
                bbox={"facecolor": _pale(colours[emotion]), "linewidth": 0, "pad": 1} if uncertain else None,
            )


def _bar_style(colour: str, *, uncertain: bool) -> dict[str, Any]:
    """Return how a bar is filled."""
    if not uncertain:
        return {"facecolor": colour, "linewidth": 0}
    return {"facecolor": _pale(colour), "edgecolor": colour, "hatch": _HATCH, "linewidth": 0}


def _pale(colour: str) -> tuple[float, ...]:
    return tuple(part + _PALE * (1 - part) for part in to_rgb(colour))


def _emotion_colors(people: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the colour of each emotion that appears, in mien's order; other names get the free colours."""
    found = {name for person in people for name in person["emotions"]}
    named = {name: colour for name, colour in _COLOURS.items() if name in found}
    others = sorted(found - set(_COLOURS))
    free = [colour for colour in _OTHERS if colour not in named.values()] or list(_OTHERS)
    return named | {name: free[number % len(free)] for number, name in enumerate(others)}


def _thin_out(spans: Sequence[Stretch], begin: float, end: float) -> list[Stretch]:
    """Take for each column of the drawing what fills most of it, and join neighbours that agree."""
    width = (end - begin) / _COLUMNS
    filled: list[dict[tuple[str, bool], float]] = [{} for _ in range(_COLUMNS)]
    for first, last, emotion, uncertain in spans:
        shown = emotion, uncertain
        low = max(0, min(_COLUMNS - 1, int((first - begin) / width)))
        high = max(0, min(_COLUMNS - 1, int((last - begin) / width)))
        for column in range(low, high + 1):
            left = begin + column * width
            inside = min(last, left + width) - max(first, left)
            if inside > 0:
                filled[column][shown] = filled[column].get(shown, 0.0) + inside
    joined: list[Stretch] = []
    for column, times in enumerate(filled):
        if not times:
            continue
        left, (emotion, uncertain) = begin + column * width, max(times, key=times.__getitem__)
        if joined and joined[-1][2:] == (emotion, uncertain) and abs(joined[-1][1] - left) < width / 2:
            joined[-1] = (joined[-1][0], left + width, emotion, uncertain)
        else:
            joined.append((left, left + width, emotion, uncertain))
    return joined


def _people_note(people: int, shown: int) -> str:
    if people < 2:
        return "one person" if people else "no face was found"
    return f"{shown} of {people} people, the ones seen longest" if shown < people else f"{people} people"


def _time_marks(length: float) -> Locator:
    if length < 2:
        return MaxNLocator(_MOST_MARKS)
    return MultipleLocator(
        next((step for step in _STEPS if length / step <= _MOST_MARKS), length / _MOST_MARKS)
    )


def _clock(second: float, length: float) -> str:
    if length < 10:
        return f"{second:.1f} s"
    whole = round(abs(second))
    minutes = f"{whole // 60}" if length < 3600 else f"{whole // 3600}:{whole % 3600 // 60:02d}"
    return f"{'-' if second < 0 else ''}{minutes}:{whole % 60:02d}"


#: Pairs of images on the sheet of training samples, for each class.
_PAIRS_PER_CLASS = 2


def draw_run(made: Run, dataset: Dataset | None = None) -> list[Path]:
    """Draw a run's history, its samples, and the confusion and reliability of every split it was scored on.

    Args:
        made: The run; its figures are replaced.
        dataset: The run's data, for a sheet of its training images before and after augmentation.

    Returns:
        The files, in the order they were written.

    Raises:
        RunError: No epoch was finished yet, or a report is damaged.
        OutputError: A file cannot be written.
        MissingExtra: There is a data set, and OpenCV is not installed to augment its images.
    """
    rows = made.history()
    # A training that was killed has a history, and no model file.
    best = made.facts().get("shipped", {}).get("epoch")
    paths = draw_history(rows, made.figures, title=made.name, best=best)
    for file in sorted(made.evaluation.glob("*.json")):
        try:
            report = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{file} is damaged: {error}; evaluate the split again") from None
        paths += draw_confusion_matrix(report, made.figures, name=file.stem)
        paths += draw_reliability(report, made.figures, name=file.stem)
    if dataset is not None and dataset.train is not None:
        paths += _run_samples(made, dataset, dataset.train)
    return paths


def _run_samples(made: Run, dataset: Dataset, split: Split) -> list[Path]:
    chosen = np.concatenate(
        [np.flatnonzero(split.labels == number)[:_PAIRS_PER_CLASS] for number in range(len(dataset.labels))]
    )
    recipe = made.recipe()
    after = augmentation.augment_batch(split.images, chosen, recipe.augment, seed=recipe.seed, epoch=0)
    names = [dataset.labels[number] for number in split.labels[chosen]]
    return draw_samples(split.images[chosen], after, names, made.figures)
