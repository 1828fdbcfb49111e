"""An audit as one page of HTML that needs nothing beside itself."""

import base64
import io
import math
import re
from collections.abc import Iterator, Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.data.audit.findings import Case, Finding, Material
from mien.data.audit.images import Measures
from mien.data.audit.labels import classes

#: Cases shown of each finding, and images of each case; the JSON has them all.
_MOST_CASES, _MOST_IMAGES = 12, 6

_BINS = 40

#: How the house's pages look: light and dark, wide and narrow.
STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --paper: #ffffff; --faint: #646b73; --line: #d9dde1;
  --card: #f6f7f9; --error: #b3261e; --warning: #8a5a00; --note: #2b5c8a; --a: #2b5c8a; --b: #c2571a;
  --c: #3d7a3f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --paper: #14171a; --faint: #9aa2aa;
  --line: #343a40; --card: #1d2125; --error: #ff9d94; --warning: #f0c060; --note: #8fc1f0; --a: #8fc1f0;
  --b: #f0a070; --c: #8fcf90; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin: 0; } p { max-width: 45rem; } .faint { color: var(--faint); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem 1rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
section.finding { background: var(--card); border-left: .3rem solid var(--line); padding: 1rem;
  margin: 1rem 0; border-radius: .25rem; }
section.error { border-color: var(--error); } section.warning { border-color: var(--warning); }
section.note { border-color: var(--note); } .error b { color: var(--error); }
.warning b { color: var(--warning); } .note b { color: var(--note); }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.7rem, 1fr)); gap: 1rem; }
code { font: inherit; white-space: nowrap; }
figure { margin: 0; } figure img { width: 72px; height: 72px; image-rendering: pixelated;
  margin-right: 4px; background: #808080; }
figcaption { font-size: .8rem; line-height: 1.35; } figcaption span { color: var(--faint); display: block; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1.5rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
path { fill: none; stroke-width: 1.8; } .s0 { stroke: var(--a); } .s1 { stroke: var(--b); }
.s2 { stroke: var(--c); } .key span { margin-right: 1rem; } .k0 { color: var(--a); } .k1 { color: var(--b); }
.k2 { color: var(--c); }
"""


def write(
    material: Material, measures: Measures, counts: Mapping[str, int], findings: tuple[Finding, ...]
) -> str:
    """Return the page: findings with pictures of the worst cases, counts, classes, histograms per split."""
    root = escaped(material.dataset.root)
    splits = ", ".join(f"{split.name} {len(split):,}" for split in material.dataset.splits)
    parts = [
        f"<h1>Audit of {root}</h1><p>{escape(_summary(findings))} {escape(splits)}.</p>",
        f'<p class="faint">fingerprint {material.dataset.fingerprint}</p>',
        "<h2>Findings</h2>",
        *(_finding(material, each) for each in findings),
        "<h2>Counts</h2>",
        table(("what", "count"), [(name.replace("_", " "), f"{n:,}") for name, n in counts.items()]),
        "<h2>Classes</h2>",
        _classes(material),
        "<h2>How the splits look</h2>",
        _charts(material, measures),
    ]
    return document(f"Audit of {material.dataset.root}", "".join(parts))


def document(title: str, body: str, *, style: str = "") -> str:
    """Return a page that loads nothing, for its policy forbids it.

    Args:
        title: Plain text.
        body: HTML.
        style: CSS after the house's own.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escaped(title)}</title><style>{STYLE}{style}</style></head><body>{body}</body></html>\n"
    )


def _summary(findings: tuple[Finding, ...]) -> str:
    if not findings:
        return "Nothing was found."
    numbers = [
        f"{n} {name}{'s' if n > 1 else ''}"
        for name in ("error", "warning", "note")
        if (n := sum(each.severity == name for each in findings))
    ]
    return f"{', '.join(numbers)}."


def escaped(text: str) -> str:
    """Return text as HTML shows it as it is, with what no page can hold made visible."""
    shown = text.encode(errors="backslashreplace").decode()
    return escape("".join(char if char.isprintable() else ascii(char)[1:-1] for char in shown))


def _finding(material: Material, finding: Finding) -> str:
    more = len(finding.cases) - _MOST_CASES
    rest = f'<p class="faint">and {more:,} more, all in the JSON</p>' if more > 0 else ""
    cases = "".join(_case(material, case) for case in finding.cases[:_MOST_CASES])
    return (
        f'<section class="finding {finding.severity}">'
        f"<h3><b>{finding.severity}</b> {escaped(finding.kind)}</h3>"
        f"<p>{escaped(finding.evidence)}</p><p>{_options(escaped(finding.advice))}</p>"
        f'<div class="cases">{cases}</div>{rest}</section>'
    )


def _options(text: str) -> str:
    """Keep options such as --fix from being broken across lines."""
    return re.sub(r"--[a-z][a-z-]*", r"<code>\g<0></code>", text)


def _case(material: Material, case: Case) -> str:
    shown = "".join(
        f'<img src="{picture(material.images[place])}" alt="{escaped(material.files[place])}">'
        for place in case.images[:_MOST_IMAGES]
    )
    names = "".join(f"<span>{escaped(file)}</span>" for file in case.files[:_MOST_IMAGES])
    return f"<figure>{shown}<figcaption>{escaped(case.says)}{names}</figcaption></figure>"


def picture(image: NDArray[np.uint8]) -> str:
    """Return an image, grey `(h, w, 1)` or RGB `(h, w, 3)`, as an address with its pixels, without loss."""
    packed = io.BytesIO()
    Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0]).save(packed, "PNG")
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table of plain texts, which scrolls where it is wider than the page."""
    head = "".join(f"<th>{escaped(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _classes(material: Material) -> str:
    counted = classes(material)
    rows = []
    for label in material.dataset.labels:
        cells = [
            f"{counts[label]:,} ({counts[label] / sum(counts.values()):.1%})" for counts in counted.values()
        ]
        rows.append((label, *cells))
    return table(("class", *counted), rows)


def _charts(material: Material, measures: Measures) -> str:
    key = "".join(
        f'<span class="k{place}">{escaped(name)}</span>' for place, name in enumerate(material.names)
    )
    drawn = "".join(
        f"<div><h3>{what}</h3>{_chart(what, getattr(measures, what), material, measures.telling)}</div>"
        for what in ("sharpness", "brightness", "contrast")
    )
    return f'<p class="key">Share of images: {key}</p><div class="charts">{drawn}</div>'


def _chart(what: str, values: NDArray[np.float32], material: Material, telling: NDArray[np.bool_]) -> str:
    """Draw one measure's distribution in each split, as lines over bins."""
    if not telling.any():
        return '<p class="faint">no image shows anything</p>'
    low, high = np.percentile(values[telling], (0.1, 99.9)).tolist()
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    shares = list(_shares(values, material, telling, edges))
    top = max(float(share.max()) for _, share in shares) or 1.0
    lines = []
    for place, share in shares:
        points = (
            f"{4 + 292 * i / (_BINS - 1):.1f},{112 - 104 * y / top:.1f}" for i, y in enumerate(share.tolist())
        )
        lines.append(f'<path class="s{place}" d="M{" L".join(points)}"/>')
    return (
        f'<svg viewBox="0 0 300 132" role="img" aria-label="{what} in each split">{"".join(lines)}'
        f'<text x="4" y="128">{edges[0]:.3g}</text>'
        f'<text x="296" y="128" text-anchor="end">{edges[-1]:.3g}</text></svg>'
    )


def _shares(
    values: NDArray[np.float32], material: Material, telling: NDArray[np.bool_], edges: NDArray[np.float64]
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    for place in range(len(material.names)):
        own = values[(material.splits == place) & telling]
        if own.size:
            counts, _ = np.histogram(np.clip(own, edges[0], edges[-1]), edges)
            yield place, counts / own.size


def ticks(low: float, high: float, most: int = 6) -> list[float]:
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
    return [(first + number) * step for number in range(_many(low, high, step))]


def begin(low: float, high: float, most: int = 6) -> float:
    """Return where an axis begins so that its first tick is there: the next round number below `low`."""
    while True:
        step = _step(low, high, most)
        round_low = math.floor(low / step + 1e-9) * step
        # A longer axis may need larger steps.
        if _step(round_low, high, most) == step:
            return round_low
        low = round_low


def _step(low: float, high: float, most: int) -> float:
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    return next(
        size * unit for size in (1, 2, 2.5, 5, 10, 20, 25, 50) if _many(low, high, size * unit) <= most
    )


def _many(low: float, high: float, step: float) -> int:
    """Return how many multiples of `step` are from `low` to `high`."""
    return math.floor(high / step + 1e-9) - math.ceil(low / step - 1e-9) + 1
