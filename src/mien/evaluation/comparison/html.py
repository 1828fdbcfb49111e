"""A comparison as one page of HTML that needs nothing beside itself."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mien import labels as emotions
from mien.data.audit.html import document, escaped, picture, table, ticks
from mien.evaluation.comparison.paired_tests import Difference
from mien.evaluation.comparison.results import Comparison, Disagreement, Winner
from mien.evaluation.comparison.wording import SEEN, between, chance, points

#: Images shown of each kind of disagreement; the JSON names them all.
_MOST = 24

_PAIRED = ("A less B", "95 % interval")

#: What the house's style does not have.
_STYLE = """
.verdict { font-size: 1.15rem; } .a { color: var(--a); } .b { color: var(--b); }
p.warning { background: var(--card); border-left: .3rem solid var(--warning); padding: .6rem 1rem; }
th, td { white-space: nowrap; } h3 { margin: 1.5rem 0 .75rem; }
.parting svg { max-width: 32rem; } .parting text { fill: var(--ink); font-size: 13px; }
.parting line { stroke: var(--faint); stroke-width: 2; }
.parting line.axis { stroke: var(--faint); stroke-width: 1; }
.parting line.grid { stroke: var(--line); stroke-width: 1; }
.parting circle { fill: var(--faint); } .parting text.end { fill: var(--faint); }
.parting line.a { stroke: var(--a); } .parting circle.a { fill: var(--a); }
.parting line.b { stroke: var(--b); } .parting circle.b { fill: var(--b); }
figcaption span.a { color: var(--a); } figcaption span.b { color: var(--b); }
figcaption span.label { color: var(--ink); }
"""


def write(found: Comparison, images: npt.NDArray[np.uint8]) -> str:
    """Return the page: the verdict, figures, differences by class, and the images that they part on.

    Args:
        found: What was compared.
        images: `(n, size, size, 1)` uint8, the split's.
    """
    notes = "".join(f"<li>{escaped(each)}</li>" for each in found.notes)
    parts = [
        f'<h1><span class="a">{escaped(found.a.name)}</span> against '
        f'<span class="b">{escaped(found.b.name)}</span></h1>',
        f'<p class="verdict">{escaped(found.verdict)}</p>',
        *(f'<p class="warning">{escaped(each)}</p>' for each in found.warnings),
        f"<ul>{notes}</ul>" if notes else "",
        f'<p class="faint">{escaped(found.data)}, split {escaped(found.split)}, {found.n:,} images, '
        f"fingerprint {found.split_fingerprint}</p>",
        *_sides(found),
        "<h2>Figures</h2>",
        table(*figures(found)),
        "<h2>Each class</h2>",
        '<p class="faint">Recall of A less recall of B, with 95 % intervals. Of many intervals one in twenty '
        "misses by chance; a class is coloured where its p holds up to all of them (Holm).</p>",
        _chart(found),
        table(*classes(found)),
        "<h2>Where they part</h2>",
        *_parting(found, images),
    ]
    return document(f"{found.a.name} against {found.b.name}", "".join(parts), style=_STYLE)


def figures(found: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of the main figures."""
    rows = [_row("accuracy", found.n, found.accuracy, found.mcnemar.p)]
    rows.append(_row("macro F1", found.n, found.macro_f1, None))
    for what, part in (
        ("as most of ten people", found.agreement),
        ("without copies", found.without_copies),
    ):
        if part is not None:
            rows.append(_row(what, part.n, part.share, part.mcnemar.p))
    return ("what", "n", found.a.name, found.b.name, *_PAIRED, "p"), rows


def classes(found: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of the classes' figures."""
    rows = [_row(label, each.n, each.recall, each.p_held) for label, each in found.per_class.items()]
    return ("recall of", "n", found.a.name, found.b.name, *_PAIRED, "p of many"), rows


def _row(what: str, n: int, each: Difference, p: float | None) -> tuple[str, ...]:
    shown = "" if p is None else chance(p).removeprefix("= ")
    return what, f"{n:,}", f"{each.a:.1%}", f"{each.b:.1%}", points(each.difference), between(each), shown


def _sides(found: Comparison) -> Iterator[str]:
    for letter, side in (("a", found.a), ("b", found.b)):
        model = f", sha256 {side.model}" if side.model else ""
        reading = f", read as {escaped(side.reading)}" if side.reading else ""
        yield (
            f'<p class="faint"><span class="{letter}">{letter.upper()}: {escaped(side.name)}</span>{reading}'
            f"{model}</p>"
        )


def _chart(found: Comparison) -> str:
    """Draw each class's difference as a point with its interval, about a line at 0; ticks are in points."""
    ends = [abs(end) for each in found.per_class.values() for end in each.recall.interval]
    most = max(*ends, 0.01)
    step, height = 30, 30 * len(found.per_class) + 80
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
    names = emotions.brief(list(found.per_class), 11)
    for place, (label, each) in enumerate(found.per_class.items()):
        y = 18 + step * place
        low, high = each.recall.interval
        held = each.p_held < SEEN
        side = ("a" if each.recall.difference > 0 else "b") if held else "mark"
        drawn.append(
            f'<text x="0" y="{y + 5}"><title>{escaped(label)}</title>{escaped(names[place])}</text>'
            f'<line class="{side}" x1="{x(low)}" x2="{x(high)}" y1="{y}" y2="{y}"/>'
            f'<circle class="{side}" cx="{x(each.recall.difference)}" cy="{y}" r="4"/>'
        )
    for value, words, anchor, line in (
        (-most, "← B better", "start", 38),
        (most, "A better →", "end", 38),
        (0, "recall of A less recall of B, points", "middle", 60),
    ):
        drawn.append(
            f'<text class="end" x="{x(value)}" y="{foot + line}" text-anchor="{anchor}">{words}</text>'
        )
    return (
        f'<div class="parting"><svg viewBox="0 0 360 {height}" role="img" aria-label="difference in recall '
        f'by class">{"".join(drawn)}</svg></div>'
    )


def _signed(value: float) -> str:
    """Return a difference of shares in points, with its sign: `+2.5`, `−10`, `0`."""
    shown = f"{100 * value:+.3g}".replace("-", "\N{MINUS SIGN}")
    return "0" if float(f"{100 * value:.3g}") == 0 else shown


def _parting(found: Comparison, images: npt.NDArray[np.uint8]) -> Iterator[str]:
    kinds: tuple[tuple[Winner | None, str], ...] = (
        ("a", f"Only {found.a.name} is right"),
        ("b", f"Only {found.b.name} is right"),
        (None, "Neither is right"),
    )
    for right, title in kinds:
        cases = [each for each in found.disagreements if each.right == right]
        more = len(cases) - _MOST
        yield f"<h3>{escaped(title)}: {len(cases):,}</h3>"
        yield f'<div class="cases">{"".join(_case(each, images) for each in cases[:_MOST])}</div>'
        if more > 0:
            yield f'<p class="faint">and {more:,} more, all in the JSON</p>'


def _case(each: Disagreement, images: npt.NDArray[np.uint8]) -> str:
    return (
        f'<figure><img src="{picture(images[each.place])}" alt="{escaped(each.file)}"><figcaption>'
        f'<span class="label">label {escaped(each.truth)}</span>'
        f'<span class="a">A {escaped(each.a)} {each.confidence_a:.0%}</span>'
        f'<span class="b">B {escaped(each.b)} {each.confidence_b:.0%}</span>'
        f"<span>{escaped(each.file)}</span></figcaption></figure>"
    )
