"""Training faces before and after augmentation."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.text import Text
from PIL import Image

from mien.errors import DataError
from mien.reports.plots import formatting as words
from mien.reports.plots.canvas import DPI, SOFT, page, save

Images = npt.NDArray[np.uint8]

#: Pairs on one sheet; of more, so many are taken at even distances.
MOST = 120
# Lengths of the sheet in pixels of the PNG, so that each pixel of a face is a square of whole pixels.
_FACE, _BETWEEN, _GUTTER, _LABEL, _MARGIN, _HEAD = 144, 6, 30, 44, 40, 124


@dataclass(frozen=True)
class _Grid:
    """Where pairs stand, in pixels."""

    columns: int
    rows: int
    face: int

    @property
    def width(self) -> int:
        # The title needs this much.
        return max(2 * _MARGIN + self.columns * (2 * self.face + _BETWEEN + _GUTTER) - _GUTTER, 880)

    @property
    def height(self) -> int:
        return _HEAD + self.rows * (self.face + _LABEL) + _MARGIN // 2

    def corner(self, place: int) -> tuple[int, int]:
        """Return left and top of a pair."""
        row, column = divmod(place, self.columns)
        return _MARGIN + column * (2 * self.face + _BETWEEN + _GUTTER), _HEAD + row * (self.face + _LABEL)


def samples(before: Images, after: Images, labels: Sequence[str], to: str | os.PathLike[str]) -> list[Path]:
    """Draw a sheet of training images, each beside what augmentation made of it.

    Args:
        before: Images `(n, size, size, 1)` uint8, 0..255.
        after: The same images augmented, of the same shape.
        labels: The n class names.
        to: The folder to write into.

    Returns:
        `samples.png` and `samples.svg` in `to`.

    Raises:
        DataError: There are no images, or shapes or numbers do not fit together.
        TrainingError: A file cannot be written.
    """
    shape = before.shape
    fits = len(shape) == 4 and shape[1] == shape[2] > 0 and shape[3] == 1 and shape == after.shape
    if not fits or not 0 < shape[0] == len(labels) or not before.dtype == after.dtype == np.uint8:
        raise DataError(
            f"{len(labels)} labels with images {before.dtype} {shape} before and {after.dtype} {after.shape} "
            "after are no pairs; two equal shapes (n, size, size, 1) of uint8 and n labels are needed"
        )
    chosen = np.unique(np.linspace(0, shape[0] - 1, min(shape[0], MOST)).round().astype(int))
    grid = _lay_out(len(chosen), shape[1])
    with page(grid.width / DPI, grid.height / DPI) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, grid.width), ylim=(grid.height, 0))
        axes.set_axis_off()
        paper = np.full((grid.height, grid.width), 255, np.uint8)
        for place, index in enumerate(chosen):
            left, top = grid.corner(place)
            for picture, start in ((before, left), (after, left + grid.face + _BETWEEN)):
                paper[top : top + grid.face, start : start + grid.face] = _resize(picture[index], grid.face)
            label = axes.text(left, top + grid.face + 8, "", size=8.5, va="top")
            _fit(label, words.plain(labels[index]), 2 * grid.face + _BETWEEN)
        extent = (0, grid.width, grid.height, 0)
        # As colours: a colour map would round some greys to their neighbours.
        axes.imshow(paper[..., None].repeat(3, axis=2), extent=extent, interpolation="nearest", aspect="auto")
        _heads(axes, grid, len(chosen), shape[0])
        return save(figure, to, "samples", tight=False)


def _lay_out(pairs: int, size: int) -> _Grid:
    # Twice as wide as tall a pair is; an even number of columns keeps two of a class side by side.
    columns = min(pairs, 2 * math.ceil(math.sqrt(0.55 * pairs) / 2))
    face = size * max(1, round(_FACE / size)) if size <= 1.5 * _FACE else _FACE
    return _Grid(columns=columns, rows=math.ceil(pairs / columns), face=face)


def _resize(image: Images, side: int) -> Images:
    size = len(image)
    if side % size == 0:
        return image[..., 0].repeat(side // size, axis=0).repeat(side // size, axis=1)
    return np.asarray(Image.fromarray(image[..., 0]).resize((side, side), Image.Resampling.BOX))


def _fit(label: Text, text: str, width: float) -> None:
    """Write `text`, shortened until it is at most `width` pixels wide."""
    for most in range(min(len(text), 60), 0, -1):
        label.set_text(words.shorten(text, most))
        if label.get_window_extent().width <= width:
            return


def _heads(axes: Axes, grid: _Grid, shown: int, of: int) -> None:
    note = f"{shown:,} of {words.images(of)}" if shown < of else words.images(of)
    axes.text(_MARGIN, 44, "Training images before and after augmentation", size=12, weight="bold")
    axes.text(_MARGIN, 76, note, size=9, color=SOFT)
    for column in range(grid.columns):
        left, top = grid.corner(column)
        for start, text in ((left, "before"), (left + grid.face + _BETWEEN, "after")):
            axes.text(start, top - 8, text, size=8, color=SOFT)
