"""Loss and accuracy over epochs."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
    ScalarFormatter,
)

from mien.errors import RunError
from mien.reports.plots import formatting as words
from mien.reports.plots.canvas import BLUE, DPI, INK, POINTS, SOFT, VERMILION, headline, page, save

Floats = npt.NDArray[np.float64]

_WIDTH, _HEIGHT, _GAP, _STRIP = 6.6, 3.7, 0.22, 0.55
#: Points from one direct label to the next.
_LINE = 13.0
# Losses are float32: what lies beyond its range is on its way to infinity, and no axis can show it.
_LARGEST = float(np.finfo(np.float32).max)
#: A loss whose largest value is so many times its median is drawn on a logarithmic axis.
_SKEWED = 20.0


@dataclass(frozen=True)
class _Measure:
    """What one figure shows: its columns, and how its numbers are written."""

    name: str
    training: str
    validation: str
    write: Callable[[float], str]
    percent: bool


@dataclass(frozen=True, eq=False)
class _Curve:
    name: str
    values: Floats
    colour: str
    width: float


_MEASURES = (
    _Measure("loss", "loss", "val_loss", words.decimal, percent=False),
    _Measure("accuracy", "accuracy", "val_accuracy", words.percent, percent=True),
)


def history(
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
        best: The epoch that ships, from 1; None if none does yet.

    Returns:
        `loss.png`, `loss.svg`, `accuracy.png` and `accuracy.svg` in `to`.

    Raises:
        RunError: There are no rows, or `best` is none of their epochs.
        TrainingError: A file cannot be written.
    """
    if not rows:
        raise RunError("the history has no rows: no epoch was finished, so there is nothing to draw")
    epochs = _column(rows, "epoch")
    if np.isnan(epochs).any():
        epochs = np.arange(1, len(rows) + 1, dtype=np.float64)
    if best is not None and best not in epochs:
        raise RunError(f"epoch {best} is said to ship, and the history holds {_span(epochs)}")
    rate = _column(rows, "learning_rate")
    paths = []
    for measure in _MEASURES:
        if curves := _curves(measure, rows):
            paths += _draw(measure, epochs, curves, rate, to, title=title, best=best)
    return paths


def _draw(
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
    below = _GAP + _STRIP if changes else 0.0
    height = _HEIGHT + below
    notes = [_summary(measure, epochs, curves, best)]
    if not all(_drawable(curve.values).all() for curve in curves):
        notes.append("× infinite or not a number")
    with page(_WIDTH, height) as figure:
        axes = figure.add_axes((0, below / height, 1, _HEIGHT / height))
        axes.grid(axis="y")
        _scale(axes, measure, np.concatenate([curve.values for curve in curves]))
        _epochs(axes, epochs)
        for curve in curves:
            _line(axes, epochs, curve)
        _ends(axes, curves, measure)
        if best is not None:
            _mark(axes, best, epochs, curves)
        name = words.shorten(words.plain(title), 44)
        headline(axes, f"{measure.name.capitalize()}, {name}", notes, rise=12 if best is None else 24)
        if changes:
            axes.tick_params(axis="x", labelbottom=False)
            _rate(figure.add_axes((0, 0, 1, _STRIP / height)), epochs, rate)
        else:
            axes.set_xlabel("epoch")
        return save(figure, to, measure.name)


def _curves(measure: _Measure, rows: Sequence[Mapping[str, float]]) -> list[_Curve]:
    return [
        _Curve(name, _column(rows, key), colour, width)
        for name, key, colour, width in (
            ("training", measure.training, BLUE, 1.5),
            ("validation", measure.validation, VERMILION, 2.2),
        )
        if any(key in row for row in rows)
    ]


def _column(rows: Sequence[Mapping[str, float]], key: str) -> Floats:
    return np.array([row.get(key, np.nan) for row in rows], np.float64)


def _drawable(values: Floats) -> npt.NDArray[np.bool_]:
    return np.isfinite(values) & (np.abs(values) <= _LARGEST)


def _span(epochs: Floats) -> str:
    return f"epoch {epochs[0]:g}" if len(epochs) == 1 else f"epochs {epochs[0]:g} to {epochs[-1]:g}"


def _scale(axes: Axes, measure: _Measure, values: Floats) -> None:
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


def _line(axes: Axes, epochs: Floats, curve: _Curve) -> None:
    colour, width = curve.colour, curve.width
    there = _drawable(curve.values)
    shown = np.where(there, curve.values, np.nan)
    axes.plot(epochs, shown, color=colour, linewidth=width, solid_capstyle="round", clip_on=False, zorder=3)
    # A line needs two points; one that stands between gaps would vanish.
    alone = there & ~np.append(False, there[:-1]) & ~np.append(there[1:], False)
    dots = there if len(epochs) <= 30 else alone
    axes.plot(epochs[dots], shown[dots], "o", color=colour, markersize=2 + width, clip_on=False, zorder=3)
    axes.plot(
        epochs[~there],
        np.full(np.count_nonzero(~there), 0.975),
        "x",
        color=colour,
        markersize=5 + width,
        markeredgewidth=width,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
        zorder=4,
    )


def _epochs(axes: Axes, epochs: Floats) -> None:
    first, last = float(epochs[0]), float(epochs[-1])
    room = 0.5 if first == last else 0.015 * (last - first)
    axes.set_xlim(first - room, last + room)
    step = next(
        size for size in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10 ** len(f"{last:.0f}")) if last <= 12 * size
    )
    ticks = [tick for tick in range(0, int(last) + 1, step) if tick > first + 0.4 * step]
    axes.xaxis.set_major_locator(FixedLocator([first, *ticks]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _ends(axes: Axes, curves: list[_Curve], measure: _Measure) -> None:
    """Write each curve's name and last value beside its end, moved apart where they would overlap."""
    top = axes.get_ylim()[1]
    ends = [float(curve.values[-1]) for curve in curves]
    heights = [end if abs(end) <= _LARGEST else top for end in ends]
    places = [float(axes.transData.transform((1, height))[1]) * POINTS / DPI for height in heights]
    moved = list(places)
    if len(places) == 2 and abs(places[0] - places[1]) < _LINE:
        middle, upper = sum(places) / 2, int(places[1] >= places[0])
        moved[upper], moved[1 - upper] = middle + _LINE / 2, middle - _LINE / 2
    for number, curve in enumerate(curves):
        axes.annotate(
            f"{curve.name} {measure.write(ends[number])}",
            xy=(1, heights[number]),
            xycoords=("axes fraction", "data"),
            xytext=(8, moved[number] - places[number]),
            textcoords="offset points",
            color=curve.colour,
            fontweight="bold",
            va="center",
            annotation_clip=False,
        )


def _summary(measure: _Measure, epochs: Floats, curves: list[_Curve], best: int | None) -> str:
    if best is None:
        return "1 epoch" if len(epochs) == 1 else f"{len(epochs):,} epochs"
    values = ", ".join(
        f"{curve.name} {measure.write(float(curve.values[epochs == best][0]))}" for curve in curves
    )
    return f"epoch {best:,} of {int(epochs[-1]):,} ships: {values}"


def _mark(axes: Axes, best: int, epochs: Floats, curves: list[_Curve]) -> None:
    axes.axvline(best, color=INK, linewidth=0.9, linestyle=(0, (2, 2)), zorder=2)
    axes.annotate(
        "ships",
        xy=(best, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 5),
        textcoords="offset points",
        ha="center",
        fontsize=8.5,
        annotation_clip=False,
    )
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


def _rate(axes: Axes, epochs: Floats, rate: Floats) -> None:
    axes.plot(epochs, rate, color=SOFT, linewidth=1.2, clip_on=False)
    _epochs(axes, epochs)
    top = float(rate.max())
    axes.set_ylim(min(0.0, float(rate.min())), top * 1.08)
    axes.yaxis.set_major_locator(FixedLocator([0.0, top]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(axis="y")
    axes.set_xlabel("epoch")
    axes.annotate(
        f"learning rate {rate[-1]:.2g}",
        xy=(1, rate[-1]),
        xycoords=("axes fraction", "data"),
        xytext=(8, 0),
        textcoords="offset points",
        color=SOFT,
        va="center",
        annotation_clip=False,
    )
