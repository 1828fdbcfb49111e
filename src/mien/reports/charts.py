"""Charts as inline SVG; their colours come from the page's style, which has light and dark ones."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mien import labels
from mien._text import make_printable
from mien.evaluation.evaluation import Bin, Point

#: Pixels of a square chart, and the room left of it and below it for numbers and titles.
_SIDE, _LEFT, _BELOW, _TOP = 260, 48, 40, 8
#: Height of the bin with the most images, in the strip that shows how many images each bin has.
_COUNT_HEIGHT = 48
#: Bins of a distribution.
_BINS = 40
#: Numbers at an axis.
_MOST_TICKS = 6


def reliability_diagram(bins: Sequence[Bin], title: str) -> Markup:
    """Draw the share of right answers against confidence, and how many images have that confidence.

    Args:
        bins: As `evaluate.Bin` in plain values.
        title: What the diagram shows, for screen readers.
    """
    width, most = _SIDE / len(bins), max(each.n for each in bins)
    bottom, drawn = _TOP + _SIDE, []
    for place, each in enumerate(bins):
        if each.accuracy is None or each.confidence is None:
            continue
        height, sure = _SIDE * each.accuracy, _SIDE * each.confidence
        count = _COUNT_HEIGHT * each.n / most
        for kind, top, tall in (
            ("bar", bottom - height, height),
            ("gap", bottom - max(height, sure), abs(height - sure)),
            ("many", bottom - count, count),
        ):
            drawn.append(
                f'<rect class="{kind}" x="{_LEFT + place * width + 1:.1f}" y="{top:.1f}" '
                f'width="{width - 2:.1f}" height="{tall:.1f}"/>'
            )
    drawn.append(f'<path class="ideal" d="M{_LEFT} {bottom} L{_LEFT + _SIDE} {_TOP}"/>')
    return _with_axes("".join(drawn), title, "confidence", "correct predictions", (0, 1))


def coverage_curve(points: Sequence[Point], title: str) -> Markup:
    """Draw accuracy against the share of images with a prediction, with its 95 % band.

    Args:
        points: As `evaluate.Point` in plain values.
        title: What the chart shows, for screen readers.
    """
    bottom = axis_start(min(*(point.interval[0] for point in points), 0.9), 1)

    def at(coverage: float, share: float) -> str:
        return f"{_LEFT + _SIDE * coverage:.1f} {_TOP + _SIDE * (1 - share) / (1 - bottom):.1f}"

    upper = [at(point.coverage, point.interval[1]) for point in points]
    lower = [at(point.coverage, point.interval[0]) for point in reversed(points)]
    line = [at(point.coverage, point.accuracy) for point in points]
    dots = "".join('<circle class="dot" cx="{}" cy="{}" r="2.2"/>'.format(*place.split()) for place in line)
    band = f'<path class="band" d="M{" L".join([*upper, *lower])} Z"/>'
    curve = f'{band}<path class="s0" d="M{" L".join(line)}"/>{dots}'
    return _with_axes(curve, title, "share of images with a prediction", "correct predictions", (bottom, 1))


def interval_bar(value: float, interval: Sequence[float], title: str) -> Markup:
    """Draw a fraction in [0, 1] and its interval on a line from 0 to 1."""
    low, high = interval
    return _svg(
        "0 0 120 14",
        title,
        '<path class="axis" d="M1 7 L119 7"/>'
        f'<path class="s0 thick" d="M{1 + 118 * low:.1f} 7 L{1 + 118 * high:.1f} 7"/>'
        f'<circle class="dot" cx="{1 + 118 * value:.1f}" cy="7" r="4"/>',
        kind="interval",
    )


def recall_differences(differences: Mapping[str, tuple[float, tuple[float, float], bool]]) -> Markup:
    """Draw the difference in recall of each class as a point with its interval, about a line at 0.

    Args:
        differences: By class, recall of A minus recall of B, its interval, and whether it is significant.
    """
    most = max(*(abs(end) for _, interval, _ in differences.values() for end in interval), 0.01)
    step, height = 30, 30 * len(differences) + 80
    foot = height - 72

    def x(value: float) -> str:
        return f"{222 + 124 * value / most:.1f}"

    drawn = []
    for value in ticks(-most, most, 7):
        kind = "grid" if round(1000 * value) else "axis"
        drawn.append(
            f'<line class="{kind}" x1="{x(value)}" x2="{x(value)}" y1="4" y2="{foot}"/>'
            f'<text class="end" x="{x(value)}" y="{foot + 16}" text-anchor="middle">{_signed(value)}</text>'
        )
    names = labels.brief(list(differences), 11)
    for place, (label, (difference, (low, high), significant)) in enumerate(differences.items()):
        y = 18 + step * place
        side = ("a" if difference > 0 else "b") if significant else "mark"
        drawn.append(
            Markup('<text x="0" y="{}"><title>{}</title>{}</text>').format(
                y + 5, make_printable(label), make_printable(names[place])
            )
            + Markup(  # noqa: S704 - numbers
                f'<line class="{side}" x1="{x(low)}" x2="{x(high)}" y1="{y}" y2="{y}"/>'
                f'<circle class="{side}" cx="{x(difference)}" cy="{y}" r="4"/>'
            )
        )
    for value, words, anchor, line in (
        (-most, "← B better", "start", 38),
        (most, "A better →", "end", 38),
        (0, "recall of A minus recall of B, points", "middle", 60),
    ):
        drawn.append(
            f'<text class="end" x="{x(value)}" y="{foot + line}" text-anchor="{anchor}">{words}</text>'
        )
    return _svg(f"0 0 360 {height}", "difference in recall by class", "".join(drawn))


def distributions(samples: Sequence[NDArray[np.float32]], title: str) -> Markup:
    """Draw the distribution of one measure in each of several samples, as lines over the same bins.

    Args:
        samples: The values of each sample, at least one of them not empty.
        title: What the chart shows, for screen readers.
    """
    low, high = np.percentile(np.concatenate(samples), (0.1, 99.9)).tolist()
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    shares = {
        place: np.histogram(np.clip(own, edges[0], edges[-1]), edges)[0] / own.size
        for place, own in enumerate(samples)
        if own.size
    }
    top = max(float(share.max()) for share in shares.values()) or 1.0
    lines = []
    for place, share in shares.items():
        points = (
            f"{4 + 292 * i / (_BINS - 1):.1f},{112 - 104 * y / top:.1f}" for i, y in enumerate(share.tolist())
        )
        lines.append(f'<path class="s{place}" d="M{" L".join(points)}"/>')
    return _svg(
        "0 0 300 132",
        title,
        f'{"".join(lines)}<text x="4" y="128">{edges[0]:.3g}</text>'
        f'<text x="296" y="128" text-anchor="end">{edges[-1]:.3g}</text>',
    )


def trial_history(
    scores: Sequence[tuple[float, bool]], title: str, up: str, *, larger_is_better: bool
) -> Markup:
    """Draw the scores of trials in their order, and the best score so far.

    Args:
        scores: The score of each trial, and whether it was completed; NaN for none.
        title: What the chart shows, for screen readers.
        up: The title of the vertical axis.
        larger_is_better: Whether the best score is the largest one.
    """
    known = [score for score, _ in scores if not math.isnan(score)] or [0.0]
    plot = _Plot((1, max(2, len(scores))), (min(known), max(known)))
    dots, line, best = [], [], math.nan
    for number, (score, complete) in enumerate(scores, start=1):
        if math.isnan(score):
            continue
        kind = "dot" if complete else "mark"
        dots.append(
            '<circle class="{}" cx="{}" cy="{}" r="3.5"/>'.format(kind, *plot.at(number, score).split())
        )
        if complete and (math.isnan(best) or (score > best) == larger_is_better):
            if not math.isnan(best):
                line.append(plot.at(number, best))
            best = score
            line.append(plot.at(number, score))
    if line:
        line.append(plot.at(max(2, len(scores)), best))
    return plot.draw(
        f'<path class="s0" d="M{" L".join(line or ["0 0"])}"/>{"".join(dots)}', title, "trial", up
    )


def trial_curves(curves: Sequence[tuple[Sequence[float], str]], title: str, up: str, epochs: int) -> Markup:
    """Draw the score of each trial after each epoch.

    Args:
        curves: The scores of each trial, and its class in the style: `best`, `complete` or `pruned`.
        title: What the chart shows, for screen readers.
        up: The title of the vertical axis.
        epochs: Number of epochs of a complete trial.
    """
    known = [score for scores, _ in curves for score in scores] or [0.0]
    plot = _Plot((1, max(2, epochs)), (min(known), max(known)))
    drawn = []
    for scores, kind in curves:
        points = [plot.at(epoch, score) for epoch, score in enumerate(scores, start=1)]
        if points:
            drawn.append(f'<path class="{kind}" d="M{" L".join(points)}"/>')
            drawn.append('<circle class="{}" cx="{}" cy="{}" r="2.2"/>'.format(kind, *points[-1].split()))
    return plot.draw("".join(drawn), title, "epoch", up)


def share_bars(shares: Mapping[str, float], title: str) -> Markup:
    """Draw shares in [0, 1] as bars with their names.

    Args:
        shares: The share of each name, in the order of the bars.
        title: What the chart shows, for screen readers.
    """
    drawn = []
    for place, (name, share) in enumerate(shares.items()):
        y = 8 + 26 * place
        drawn.append(
            Markup('<text x="0" y="{}">{}</text>').format(y + 12, make_printable(name))
            + Markup(  # noqa: S704 numbers only
                f'<rect class="bar" x="180" y="{y}" width="{220 * share:.1f}" height="16"/>'
                f'<text x="{186 + 220 * share:.1f}" y="{y + 12}">{share:.0%}</text>'
            )
        )
    return _svg(f"0 0 440 {16 + 26 * len(shares)}", title, "".join(drawn))


class _Plot:
    """A square with axes for numbers.

    Args:
        across: First and last number of the horizontal axis.
        up: The smallest and largest number that the vertical axis shows.
    """

    def __init__(self, across: tuple[float, float], up: tuple[float, float]) -> None:
        self.across = across
        low, high = up
        if high <= low:
            low, high = low - 0.5, high + 0.5
        self.up = axis_start(low, high), high

    def at(self, x: float, y: float) -> str:
        """Return the place of a point, as a path has it."""
        (left, right), (bottom, top) = self.across, self.up
        place = (x - left) / (right - left), (top - y) / (top - bottom)
        return f"{_LEFT + _SIDE * place[0]:.1f} {_TOP + _SIDE * place[1]:.1f}"

    def draw(self, drawn: str, title: str, across: str, up: str) -> Markup:
        """Return the chart with its axes."""
        marks = []
        for value in ticks(*self.up):
            _, y = self.at(self.across[0], value).split()
            marks.append(
                f'<path class="grid" d="M{_LEFT} {y} H{_LEFT + _SIDE}"/>'
                f'<text x="{_LEFT - 5}" y="{float(y) + 4:.1f}" text-anchor="end">{value:.3g}</text>'
            )
        for value in ticks(*self.across):
            if value == round(value):
                x, _ = self.at(value, self.up[0]).split()
                marks.append(f'<text x="{x}" y="{_TOP + _SIDE + 15}" text-anchor="middle">{value:.0f}</text>')
        middle = _TOP + _SIDE / 2
        return _svg(
            f"0 0 {_LEFT + _SIDE + 14} {_TOP + _SIDE + _BELOW}",
            title,
            f"{''.join(marks)}{drawn}"
            f'<text x="{_LEFT + _SIDE / 2}" y="{_TOP + _SIDE + 33}" text-anchor="middle">{across}</text>'
            f'<text x="10" y="{middle}" text-anchor="middle" transform="rotate(-90 10 {middle})">{up}</text>',
        )


def ticks(low: float, high: float, most: int = _MOST_TICKS) -> list[float]:
    """Return round numbers to write at an axis: the multiples of 1, 2, 2.5 or 5 times a power of ten.

    Args:
        low: Where the axis begins.
        high: Where it ends, above `low`.
        most: How many numbers there may be, at least 2.

    Returns:
        Those from `low` to `high`, in order; of the steps that give no more than `most`, the smallest.
    """
    step = _step(low, high, most)
    first = math.ceil(low / step - 1e-9)
    return [(first + number) * step for number in range(_ticks_between(low, high, step))]


def axis_start(low: float, high: float) -> float:
    """Return where an axis begins so that its first tick is there: the next round number below `low`."""
    while True:
        step = _step(low, high)
        round_low = math.floor(low / step + 1e-9) * step
        # A longer axis may need larger steps.
        if _step(round_low, high) == step:
            return round_low
        low = round_low


def _step(low: float, high: float, most: int = _MOST_TICKS) -> float:
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    sizes = (size * unit for size in (1, 2, 2.5, 5, 10, 20, 25, 50))
    return next(size for size in sizes if _ticks_between(low, high, size) <= most)


def _ticks_between(low: float, high: float, step: float) -> int:
    """Return how many multiples of `step` are from `low` to `high`."""
    return math.floor(high / step + 1e-9) - math.ceil(low / step - 1e-9) + 1


def _signed(value: float) -> str:
    """Return a difference of fractions in points, with its sign: `+2.5`, `−10`, `0`."""
    shown = f"{100 * value:+.3g}".replace("-", "\N{MINUS SIGN}")
    return "0" if float(f"{100 * value:.3g}") == 0 else shown


def _with_axes(drawn: str, title: str, across: str, up: str, y: tuple[float, float]) -> Markup:
    """Put axes around a drawing of `_SIDE` by `_SIDE`; the horizontal one goes from 0 to 1."""
    marks = []
    for value in ticks(*y):
        top = _TOP + _SIDE * (1 - (value - y[0]) / (y[1] - y[0]))
        marks.append(
            f'<path class="grid" d="M{_LEFT} {top:.1f} H{_LEFT + _SIDE}"/>'
            f'<text x="{_LEFT - 5}" y="{top + 4:.1f}" text-anchor="end">{100 * value:.3g}</text>'
        )
    for value in ticks(0, 1):
        marks.append(
            f'<text x="{_LEFT + _SIDE * value:.1f}" y="{_TOP + _SIDE + 15}" text-anchor="middle">'
            f"{100 * value:.3g}</text>"
        )
    middle = _TOP + _SIDE / 2
    return _svg(
        f"0 0 {_LEFT + _SIDE + 14} {_TOP + _SIDE + _BELOW}",
        title,
        f"{''.join(marks)}{drawn}"
        f'<text x="{_LEFT + _SIDE / 2}" y="{_TOP + _SIDE + 33}" text-anchor="middle">{across}, percent</text>'
        f'<text x="10" y="{middle}" text-anchor="middle" transform="rotate(-90 10 {middle})">{up}, '
        "percent</text>",
    )


def _svg(box: str, title: str, drawn: str, *, kind: str = "") -> Markup:
    """Return an SVG; `drawn` is markup, `title` is text."""
    return Markup('<svg{} viewBox="{}" role="img" aria-label="{}">{}</svg>').format(
        Markup(f' class="{kind}"') if kind else "",  # noqa: S704
        box,
        make_printable(title),
        Markup(drawn),  # noqa: S704
    )
