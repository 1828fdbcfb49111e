"""HTML pages about an audit and about the comparison of two models; each is one self-contained file.

The pages show images of the data set, so treat them like the data set.
"""

import os
from collections.abc import Mapping

from mien.data.audit import AuditReport
from mien.data.audit.labels import classes
from mien.data.datasets import Split
from mien.evaluation.comparison import SEEN, Comparison, class_rows, figure_rows
from mien.reports import charts
from mien.reports.rendering import render, write_page

#: Cases shown of each finding of an audit, and images of each case; the JSON has all of them.
_MOST_CASES, _MOST_IMAGES = 12, 6
#: Images shown of each kind of disagreement of two models; the JSON has all of them.
_MOST_DISAGREEMENTS = 24


def write_audit_page(report: AuditReport, path: str | os.PathLike[str]) -> None:
    """Write an audit: findings with images of the worst cases, counts, classes, and how the splits look.

    Args:
        report: What `audit.inspect` returned.
        path: The file.

    Raises:
        OutputError: The file cannot be written.
    """
    write_page(path, render_audit(report))


def write_comparison_page(found: Comparison, split: Split, path: str | os.PathLike[str]) -> None:
    """Write a comparison: the verdict, figures, differences by class, and images that the models disagree on.

    Args:
        found: What `mien.evaluation.comparison.compare` returned.
        split: The images it was measured on.
        path: The file.

    Raises:
        OutputError: The file cannot be written.
    """
    write_page(path, render_comparison(found, split))


def render_audit(report: AuditReport) -> str:
    """Return the page that `write_audit_page` writes."""
    material, measures = report.material, report.measures
    shown = {name: getattr(measures, name) for name in ("sharpness", "brightness", "contrast")}
    inside = [(material.splits == place) & measures.has_content for place in range(len(material.names))]
    splits = classes(material)
    return render(
        "audit.html.j2",
        root=material.dataset.root,
        fingerprint=material.dataset.fingerprint,
        splits=material.dataset.splits,
        summary=_summary(report),
        findings=report.findings,
        images=material.images,
        files=material.files,
        counts=[(name.replace("_", " "), f"{n:,}") for name, n in report.counts.items()],
        class_columns=("class", *splits),
        class_rows=[
            (label, *(_share(counts, label) for counts in splits.values()))
            for label in material.dataset.labels
        ],
        charts={
            name: charts.distributions([values[own] for own in inside], f"{name} in each split")
            if measures.has_content.any()
            else None
            for name, values in shown.items()
        },
        most_cases=_MOST_CASES,
        most_images=_MOST_IMAGES,
    )


def render_comparison(found: Comparison, split: Split) -> str:
    """Return the page that `write_comparison_page` writes."""
    return render(
        "comparison.html.j2",
        found=found,
        images=split.images,
        figures=figure_rows(found),
        classes=class_rows(found),
        chart=charts.recall_differences(
            {
                label: (each.recall.difference, each.recall.interval, each.p_held < SEEN)
                for label, each in found.per_class.items()
            }
        ),
        most_cases=_MOST_DISAGREEMENTS,
    )


def _share(counts: Mapping[str, int], label: str) -> str:
    return f"{counts[label]:,} ({counts[label] / sum(counts.values()):.1%})"


def _summary(report: AuditReport) -> str:
    numbers = [
        f"{n} {name}{'s' if n > 1 else ''}"
        for name in ("error", "warning", "note")
        if (n := sum(each.severity == name for each in report.findings))
    ]
    return f"{', '.join(numbers)}." if numbers else "No findings."
