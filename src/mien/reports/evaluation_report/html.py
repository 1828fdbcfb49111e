"""A report as one page of HTML that needs nothing beside itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.audit import html as web
from mien.data.audit.html import escaped
from mien.evaluation import evaluator as evaluate
from mien.reports.evaluation_report import charts
from mien.reports.evaluation_report import sections as parts

_STYLE = """
p.warning { border-left: .3rem solid var(--warning); background: var(--card); padding: .6rem 1rem;
  max-width: none; }
.lead { font-size: 1.15rem; } .lead b { font-size: 1.5rem; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .2rem 1rem; margin: 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
:root { --heat: 43 92 138; } @media (prefers-color-scheme: dark) { :root { --heat: 110 175 235; } }
th, td { white-space: nowrap; vertical-align: middle; }
td:first-child, th:first-child { white-space: normal; min-width: 7rem; overflow-wrap: break-word;
  position: sticky; left: 0; background: var(--paper); }
td small { color: var(--faint); font-size: .8rem; }
table.confusion td, table.confusion th { padding: .35rem .5rem; text-align: center; }
table.confusion td:first-child, table.confusion th:first-child { text-align: left; }
table.confusion th:not(:first-child) { font-size: .85rem; }
table.confusion td.cell { background: rgb(var(--heat) / calc(var(--p) * .55)); min-width: 3.6rem; }
table.confusion td.cell small { display: block; color: inherit; opacity: .85; }
table.confusion td.right { outline: 1px solid var(--faint); outline-offset: -2px; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dt { margin-top: .5rem; } }
svg.interval { width: 7.5rem; height: .9rem; vertical-align: middle; }
.charts > div { max-width: 24rem; min-width: 0; }
.beside { grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.beside > div { max-width: 32rem; } .more { margin-top: 1.5rem; }
 .grid, .axis { stroke: var(--line); stroke-width: 1; }
.bar { fill: var(--a); opacity: .75; } .gap { fill: none; stroke: var(--b); stroke-width: 1.2; }
.many { fill: var(--ink); opacity: .35; }
.ideal { stroke: var(--faint); stroke-dasharray: 4 4; stroke-width: 1.2; }
.band { fill: var(--a); opacity: .2; stroke: none; } .dot { fill: var(--a); } .thick { stroke-width: 3; }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.2rem 1rem; }
.examples figure { display: grid; grid-template-columns: auto 1fr; gap: 0 .8rem; align-items: start; }
.examples .faces { grid-row: span 2; display: flex; flex-direction: column; gap: 4px; }
.examples img { width: 84px; height: 84px; margin: 0; display: block; }
.shares { display: grid; grid-template-columns: minmax(0, max-content) 1fr max-content; gap: 0 .5rem;
  align-items: center; margin-top: .3rem; }
.shares i { display: block; height: .5rem; background: var(--a); border-radius: 2px; min-width: 1px; }
.shares .true { font-weight: 600; } figcaption .shares span { display: inline; }
"""


def write(found: Mapping[str, Any], answers: evaluate.Answers, maps: Mapping[int, NDArray[np.uint8]]) -> str:
    """Return the page.

    Args:
        found: What `report.measure` returned.
        answers: What it was measured on; its images are shown.
        maps: Pictures beside some of them, by place.
    """
    about = " + ".join(each["name"] for each in found["models"])
    title = f"{about} on {found['data']}, {found['split']}"
    low, high = found["accuracy_interval"]
    warnings = [*found["uses"]["warnings"], *_few(found), *_doubtful(found["models"])]
    body = [
        f"<h1>{escaped(title)}</h1>",
        f'<p class="lead"><b>{found["accuracy"]:.1%}</b> ({100 * low:.1f} to {100 * high:.1f}) of '
        f"{found['n']:,} images are named as their labels say.</p>",
        *(f'<p class="warning">{escaped(_sentence(each))}</p>' for each in warnings),
        "<h2>What was scored on what</h2>",
        parts.origin(found),
        "<h2>Main figures</h2>",
        parts.main(found),
        parts.readings(found),
        "<h2>Without images that also stand in training</h2>",
        parts.training(found["against_training"], found),
        "<h2>Each class</h2>",
        parts.classes(found),
        "<h2>What was answered</h2>",
        parts.confusion(found),
        "<h2>How far confidence can be believed</h2>",
        _calibration(found["calibration"]),
        "<h2>Answering only where the model is sure</h2>",
        _selective(found["selective"]),
        *_optional(found),
        "<h2>The worst answers</h2>",
        '<p class="faint">Answered wrongly, with the least probability for the label.</p>',
        parts.examples(found["worst"], answers.split.images, maps),
        "<h2>The most uncertain answers</h2>",
        '<p class="faint">The least probability for what was answered.</p>',
        parts.examples(found["uncertain"], answers.split.images, maps),
        "<h2>How these figures are made</h2>",
        parts.method(found),
    ]
    return web.document(title, "".join(body), style=_STYLE)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _doubtful(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name models that are at chance, and those worse than what they began from."""
    told = [
        f"on val nothing shows that {each['name']} is better than always answering the most frequent label"
        for each in models
        if each.get("at_chance")
    ]
    return told + [
        f"on val {each['name']} was worse after training than {began['name']}, which it began from"
        for each in models
        if (began := each.get("began")) and began["worse"]
    ]


def _few(found: Mapping[str, Any]) -> list[str]:
    groups = found["groups"]["groups"] if found["groups"] else []
    names = [group["name"] for group in groups if group["few"]]
    if not names:
        return []
    return [f"fewer than {evaluate.FEW} images are in {', '.join(names)}: their figures say little"]


def _calibration(told: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            each["name"],
            "–" if each["temperature"] is None else f"{each['temperature']:.3f}",
            *("–" if each[key] is None else f"{each[key]:.4f}" for key in ("ece", "nll", "brier")),
        )
        for each in told
    ]
    drawn = "".join(
        f"<div><h3>{escaped(each['name'])}</h3>"
        f"{charts.reliability(each['reliability'], 'reliability ' + escaped(each['name']))}</div>"
        for each in told
        if each["reliability"] is not None
    )
    return (
        web.table(("the model", "temperature", "ECE", "NLL", "Brier"), rows)
        + '<p class="faint">Bars: share of images named right, by confidence; on the dashed line confidence '
        "would be right. Framed: the distance to it. Grey, at the foot: how many images.</p>"
        + "".join(
            f'<p class="faint">{escaped(_sentence(each["name"]))[:-1]}: because the images are few, it was '
            f"drawn towards 1 by a prior that counts as {each['prior']:g} images.</p>"
            for each in told
            if each.get("prior")
        )
        + f'<div class="charts">{drawn}</div>'
    )


def _selective(told: Mapping[str, Any]) -> str:
    points = told["points"]
    # The first point at or beyond each share, once, for few images make few points.
    shown = {
        place: points[place]
        for share in (0.25, 0.5, 0.75, 0.9, 1.0)
        for place in [next(i for i, each in enumerate(points) if each["coverage"] >= share - 1e-9)]
    }
    rows: list[tuple[str, ...]] = [
        (
            f"{point['coverage']:.1%}",
            f"{point['n']:,}",
            f"{point['threshold']:.3f}",
            parts.share(point["accuracy"], point["interval"]),
        )
        for point in shown.values()
    ]
    return (
        '<div class="charts beside"><div>'
        f"{charts.selective(points, 'accuracy against the share of images answered')}</div><div>"
        f"{web.table(('answered', 'images', 'confidence from', 'accuracy'), rows)}"
        f'<p class="faint">Area under the curve of risk: {told["area"]:.4f}; {told["best_area"]:.4f} for a '
        "model of the same accuracy that is least sure wherever it is wrong.</p></div></div>"
    )


def _optional(found: Mapping[str, Any]) -> list[str]:
    told = []
    if found["agreement"] is not None:
        told += ["<h2>What ten people saw</h2>", parts.agreement(found)]
    if found["groups"] is not None:
        told += [f"<h2>By {escaped(found['groups']['column'])}</h2>", parts.groups(found["groups"])]
    if found["robustness"] is not None:
        told += ["<h2>Disturbed images</h2>", parts.robustness(found["robustness"], found)]
    return told
