"""Charts of a report as inline SVG; colours are the page's, so that light and dark need one drawing."""

from collections.abc import Mapping, Sequence
from typing import Any

from mien.data.audit.html import begin, ticks

_SIDE = 260
#: Room at the left and below for numbers and words.
_LEFT, _BELOW = 48, 40
_TOP = 8
#: Height that the bin with the most images gets for their number.
_MANY = 48


def reliability(bins: Sequence[Mapping[str, Any]], name: str) -> str:
    """Draw how often the model is right against how sure it is, and how many images are how sure.

    Args:
        bins: As `evaluate.Bin` in plain values.
        name: What it is the diagram of, as HTML.
    """
    width, most = _SIDE / len(bins), max(each["n"] for each in bins)
    drawn = []
    for place, each in enumerate(bins):
        if not each["n"]:
            continue
        left = _LEFT + place * width
        height = _SIDE * each["accuracy"]
        gap = _SIDE * each["confidence"]
        low, high = sorted((_TOP + _SIDE - height, _TOP + _SIDE - gap))
        drawn.append(
            f'<rect class="bar" x="{left + 1:.1f}" y="{_TOP + _SIDE - height:.1f}" width="{width - 2:.1f}" '
            f'height="{height:.1f}"/>'
            f'<rect class="gap" x="{left + 1:.1f}" y="{low:.1f}" width="{width - 2:.1f}" '
            f'height="{high - low:.1f}"/>'
            f'<rect class="many" x="{left + 1:.1f}" y="{_TOP + _SIDE - _MANY * each["n"] / most:.1f}" '
            f'width="{width - 2:.1f}" height="{_MANY * each["n"] / most:.1f}"/>'
        )
    drawn.append(f'<path class="ideal" d="M{_LEFT} {_TOP + _SIDE} L{_LEFT + _SIDE} {_TOP}"/>')
    return _framed("".join(drawn), name, "confidence", "share named right", (0, 1), (0, 1))


def selective(points: Sequence[Mapping[str, Any]], name: str) -> str:
    """Draw accuracy against the share of images answered, with its 95 % band.

    Args:
        points: As `evaluate.Point` in plain values.
        name: What it is the chart of, as HTML.
    """
    low = min(point["interval"][0] for point in points)
    bottom = begin(min(low, 0.9), 1)
    span = 1 - bottom

    def at(coverage: float, share: float) -> str:
        return f"{_LEFT + _SIDE * coverage:.1f} {_TOP + _SIDE * (1 - share) / span:.1f}"

    upper = [at(point["coverage"], point["interval"][1]) for point in points]
    lower = [at(point["coverage"], point["interval"][0]) for point in reversed(points)]
    line = [at(point["coverage"], point["accuracy"]) for point in points]
    dots = "".join(
        f'<circle class="dot" cx="{place.split()[0]}" cy="{place.split()[1]}" r="2.2"/>' for place in line
    )
    band = f'<path class="band" d="M{" L".join([*upper, *lower])} Z"/>'
    drawn = f'{band}<path class="s0" d="M{" L".join(line)}"/>{dots}'
    return _framed(drawn, name, "share of images answered", "share named right", (0, 1), (bottom, 1))


def interval(value: float, ends: Sequence[float], name: str) -> str:
    """Draw a share and its interval on a line from 0 to 1.

    Args:
        value: In [0, 1].
        ends: The interval's lower and upper end.
        name: What it is the share of, as HTML.
    """
    low, high = ends
    return (
        f'<svg class="interval" viewBox="0 0 120 14" role="img" aria-label="{name}">'
        '<path class="axis" d="M1 7 L119 7"/>'
        f'<path class="s0 thick" d="M{1 + 118 * low:.1f} 7 L{1 + 118 * high:.1f} 7"/>'
        f'<circle class="dot" cx="{1 + 118 * value:.1f}" cy="7" r="4"/></svg>'
    )


def _framed(
    drawn: str,
    name: str,
    across: str,
    up: str,
    x: tuple[float, float],
    y: tuple[float, float],
) -> str:
    """Put axes around a drawing of `_SIDE` by `_SIDE`."""
    drawn_ticks = []
    for value in ticks(*y):
        top = _TOP + _SIDE * (1 - (value - y[0]) / (y[1] - y[0]))
        drawn_ticks.append(
            f'<path class="grid" d="M{_LEFT} {top:.1f} H{_LEFT + _SIDE}"/>'
            f'<text x="{_LEFT - 5}" y="{top + 4:.1f}" text-anchor="end">{100 * value:.3g}</text>'
        )
    for value in ticks(*x):
        left = _LEFT + _SIDE * (value - x[0]) / (x[1] - x[0])
        drawn_ticks.append(
            f'<text x="{left:.1f}" y="{_TOP + _SIDE + 15}" text-anchor="middle">{100 * value:.3g}</text>'
        )
    middle = _TOP + _SIDE / 2
    return (
        f'<svg viewBox="0 0 {_LEFT + _SIDE + 14} {_TOP + _SIDE + _BELOW}" role="img" aria-label="{name}">'
        f"{''.join(drawn_ticks)}{drawn}"
        f'<text x="{_LEFT + _SIDE / 2}" y="{_TOP + _SIDE + 33}" text-anchor="middle">{across}, percent</text>'
        f'<text x="10" y="{middle}" text-anchor="middle" transform="rotate(-90 10 {middle})">{up}, '
        "percent</text></svg>"
    )
