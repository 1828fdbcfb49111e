"""Which class was taken for which."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from mien.errors import DataError
from mien.reports.plots import formatting as words
from mien.reports.plots.canvas import DPI, FAINT, POINTS, SOFT, headline, page, save, scored

Counts = npt.NDArray[np.int64]

#: Points; smaller type is no help.
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
class _Grid:
    """How a matrix of k classes is laid out.

    Args:
        k: Classes.
        cell: Inches.
        names: Size of the class names, in points.
        count: Size of the counts in the cells, in points; 0 for none.
        share: Size of the percents in the cells, in points; 0 for none.
        step: Every so many classes have their name written.
    """

    k: int
    cell: float
    names: float
    count: float
    share: float
    step: int

    @property
    def side(self) -> float:
        """Inches of the whole matrix."""
        return self.k * self.cell


def confusion(report: Mapping[str, Any], to: str | os.PathLike[str], *, name: str) -> list[Path]:
    """Draw a confusion matrix: a row a true class, a column an answer.

    Colour is the share of the row, so that small classes read like large ones. Cells hold images and share
    of the row, as long as there is room for readable type.

    Args:
        report: A report as `Report.to_dict` gives it, or as JSON brings it back.
        to: The folder to write into.
        name: What was scored, for the files' names: `val`.

    Returns:
        `confusion-<name>.png` and `.svg` in `to`.

    Raises:
        DataError: The report has no confusion matrix of its labels, or `name` is no file's name.
        TrainingError: A file cannot be written.
    """
    labels = report.get("labels", ())
    counts = np.array(report.get("confusion", ()))
    if not len(labels) or counts.shape != (len(labels), len(labels)) or counts.dtype.kind not in "iu":
        raise DataError(
            f"a report with {len(labels)} labels and a confusion of shape {counts.shape} cannot be drawn; "
            "counts of images are needed, a row and a column for each label"
        )
    names = words.names(labels)
    grid = _lay_out(counts, max(map(len, names)))
    colours = matplotlib.colormaps["Blues"]
    with page(grid.side, grid.side) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        shares = _shares(counts)
        _cells(axes, shares, grid, colours)
        _classes(axes, names, counts.sum(axis=1), grid)
        if grid.share:
            _numbers(axes, counts, shares, grid, colours)
        else:
            _scale(figure, grid, colours)
        _headline(axes, report, name, grid)
        return save(figure, to, f"confusion-{name}")


def _lay_out(counts: Counts, longest: int) -> _Grid:
    k = len(counts)
    cell, names, count, share = next(
        sizes for most, *sizes in (*_SIZES, (k, 14 / k, 7.0, 0.0, 0.0)) if k <= most
    )
    # A few classes may have wider cells, so that their names need not be slanted.
    cell = max(cell, min(0.66 * names * longest / POINTS, 7 / k, 2.0))
    digits = len(f"{counts.max():,}")
    count = min(count, 0.9 * cell * POINTS / (_DIGIT * digits))
    return _Grid(
        k=k,
        cell=cell,
        names=names,
        count=count if count >= _SMALLEST else 0.0,
        share=share,
        step=max(1, math.ceil(1.3 * names / (cell * POINTS))),
    )


def _shares(counts: Counts) -> npt.NDArray[np.float64]:
    """Return each row's shares; NaN where a class has no images."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)


def _cells(axes: Axes, shares: npt.NDArray[np.float64], grid: _Grid, colours: Colormap) -> None:
    axes.imshow(
        np.ma.masked_invalid(shares),
        cmap=colours.with_extremes(bad=FAINT),
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


def _numbers(
    axes: Axes, counts: Counts, shares: npt.NDArray[np.float64], grid: _Grid, colours: Colormap
) -> None:
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
                row + 0.5 + offset / (grid.cell * POINTS),
                text,
                ha="center",
                va="center_baseline",
                fontsize=size,
                color=ink,
                family=words.FONT,
                # It stands inside the matrix; thousands of texts need not be measured for the page's edge.
                in_layout=False,
            )
            offset += 0.5 * _SPACING * size
    for row in np.flatnonzero(np.isnan(shares[:, 0])):
        axes.text(grid.k / 2, row + 0.5, "no images", ha="center", va="center", color=SOFT, size=grid.names)


def _readable(colour: tuple[float, float, float, float]) -> str:
    """Return black or white, whichever stands out more: at least 4.5 to 1 on any colour.

    Source: contrast ratio, WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio.
    """
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"


def _classes(axes: Axes, names: list[str], n: Counts, grid: _Grid) -> None:
    places = np.arange(0, grid.k, grid.step)
    shown = [names[place] for place in places]
    axes.set_xticks(places + 0.5, shown)
    axes.set_yticks(places + 0.5, shown)
    axes.set_xlabel("answer", fontsize=10)
    axes.set_ylabel("truth", fontsize=10)
    room = 0.94 * grid.step * grid.cell * DPI
    if max(label.get_window_extent().width for label in axes.get_xticklabels()) > room:
        # Slanted names need 1.4 times their height from one to the next.
        slant = 45 if grid.step == 1 and grid.cell * POINTS > 1.5 * grid.names else 90
        for label in axes.get_xticklabels():
            label.set(rotation=slant, ha="right", va="center", rotation_mode="anchor")
    header = -9 / (grid.cell * POINTS)
    for row, text in [(header, "n"), *((place + 0.5, f"{n[place]:,}") for place in places)]:
        axes.annotate(
            text,
            xy=(grid.k, row),
            xytext=(7, 0),
            textcoords="offset points",
            va="center_baseline",
            color=SOFT,
            fontsize=grid.names,
            annotation_clip=False,
        )


def _scale(figure: Figure, grid: _Grid, colours: Colormap) -> None:
    height = min(1.0, 2.4 / grid.side)
    axes = figure.add_axes((1 + 0.85 / grid.side, 1 - height, 0.13 / grid.side, height))
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), colours), cax=axes)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    bar.set_label("share of the row")


def _headline(axes: Axes, report: Mapping[str, Any], name: str, grid: _Grid) -> None:
    what, on = scored(name, report.get("split", ""), report.get("data", ""), report["n"])
    low, high = report["accuracy_interval"]
    notes = [
        on,
        f"accuracy {words.percent(report['accuracy'])} "
        f"(95% interval {words.percent(low)} to {words.percent(high)})",
    ]
    if grid.count:
        notes.append("in each cell: images, and their share of the row")
    elif grid.share:
        notes.append("in each cell: percent of the row")
    headline(axes, f"Confusion, {what}", notes, rise=24)
