"""Whether a model is as often right as it is sure."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

from mien.errors import DataError
from mien.evaluation.evaluator import wilson
from mien.reports.plots import formatting as words
from mien.reports.plots.canvas import BLUE, FAINT, POINTS, SOFT, VERMILION, headline, page, save, scored

_FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_SIDE, _GAP, _STRIP = 4.6, 0.2, 1.0


def reliability(report: Mapping[str, Any], to: str | os.PathLike[str], *, name: str) -> list[Path]:
    """Draw how often answers are right against how sure they are, bin by bin, with the images in each bin.

    Args:
        report: A report as `Report.to_dict` gives it, or as JSON brings it back.
        to: The folder to write into.
        name: What was scored, for the files' names: `val`.

    Returns:
        `reliability-<name>.png` and `.svg` in `to`.

    Raises:
        DataError: The report has no bins, or `name` is no file's name.
        TrainingError: A file cannot be written.
    """
    bins = report.get("reliability", ())
    if not bins:
        raise DataError("the report has no reliability bins, so it cannot be drawn; score the split again")
    height = _SIDE + _GAP + _STRIP
    with page(_SIDE, height) as figure:
        axes = figure.add_axes((0, 1 - _SIDE / height, 1, _SIDE / height))
        _bins(axes, bins)
        counts = figure.add_axes((0, 0, 1, _STRIP / height))
        _counts(counts, [each["n"] for each in bins])
        for each in (axes, counts):
            each.set_xlim(0, 1)
            each.xaxis.set_major_locator(FixedLocator(_FIFTHS))
            each.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.tick_params(axis="x", labelbottom=False)
        what, on = scored(name, report.get("split", ""), report.get("data", ""), report["n"])
        headline(
            axes,
            f"Reliability, {what}: ECE {report['ece']:.3f}",
            [on, "whiskers: 95% intervals, grey where they reach the diagonal"],
        )
        return save(figure, to, f"reliability-{name}")


def _bins(axes: Axes, bins: list[Mapping[str, Any]]) -> None:
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_locator(FixedLocator(_FIFTHS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_ylabel("answers that are right")
    axes.grid(True)
    axes.plot((0, 1), (0, 1), color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
    for (x, y), side, text, colour in (
        ((0.02, 0.97), "left", "right more often\nthan it is sure", BLUE),
        ((0.98, 0.03), "right", "surer than\nit is right", VERMILION),
    ):
        axes.text(
            x,
            y,
            text,
            ha=side,
            va="top" if side == "left" else "bottom",
            color=colour,
            size=9,
            linespacing=1.3,
        )
    for each in bins:
        if not each["n"]:
            continue
        sure, right = each["confidence"], each["accuracy"]
        low, high = wilson(round(right * each["n"]), each["n"])
        colour = SOFT if low <= sure <= high else VERMILION if sure > right else BLUE
        axes.plot((sure, sure), (low, high), color=colour, linewidth=1.4, alpha=0.55, clip_on=False, zorder=3)
        axes.plot(
            sure, right, "o", color=colour, markersize=7, markeredgecolor="white", clip_on=False, zorder=4
        )


def _counts(axes: Axes, counts: list[int]) -> None:
    width = 1 / len(counts)
    axes.bar(np.arange(len(counts)) * width, counts, 0.9 * width, align="edge", color="#9AA3AF")
    axes.set_ylim(0, 1.25 * max(*counts, 1))
    axes.yaxis.set_major_locator(FixedLocator([]))
    axes.set_ylabel("images", labelpad=30)
    axes.set_xlabel("probability of the answer")
    axes.axhline(0, color=FAINT)
    size = min(8.0, width * _SIDE * POINTS / 3.2)
    if size < 5:
        return
    for number, count in enumerate(counts):
        if count:
            axes.annotate(
                words.brief(count),
                xy=((number + 0.45) * width, count),
                xytext=(0, 2.5),
                textcoords="offset points",
                ha="center",
                color=SOFT,
                fontsize=size,
            )
