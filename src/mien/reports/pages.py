"""HTML pages about an audit, the comparison of two models, and a search; each is one self-contained file.

The pages of audits and comparisons show images of the data set, so treat them like the data set.
"""

import math
import os
from collections.abc import Mapping

from mien._text import format_setting
from mien.data.audit import AuditReport
from mien.data.audit.labels import classes
from mien.data.datasets import Split
from mien.evaluation.comparison import SEEN, Comparison, class_rows, figure_rows
from mien.reports import charts
from mien.reports.rendering import render, write_page
from mien.training.studies import StudyResult, Trial

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


def write_study_page(found: StudyResult, path: str | os.PathLike[str]) -> None:
    """Write a search: the best recipe, the history, the importance of settings, and all trials.

    Args:
        found: What `mien.training.tuning.search` returned, or what it found so far.
        path: The file.

    Raises:
        OutputError: The file cannot be written.
    """
    write_page(path, render_study(found))


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


def render_study(found: StudyResult) -> str:
    """Return the page that `write_study_page` writes."""
    accuracy = found.metric == "val_accuracy"
    scale, up = (100, "accuracy on val, percent") if accuracy else (1, "loss on val")
    best = found.best
    own = found.recipe_values

    def kind(trial: Trial) -> str:
        return "best" if best and trial.number == best.number else trial.state

    ranked = sorted(found.trials, key=lambda trial: kind(trial) == "best")
    names = list(found.space)
    return render(
        "study.html.j2",
        found=found,
        best_rows=[]
        if best is None
        else [(name, format_setting(own[name]), format_setting(best.values[name])) for name in names],
        confirmed=[
            (each.seed, "–" if each.score is None else found.format(each.score)) for each in found.confirmed
        ],
        history=charts.trial_history(
            [
                (scale * each.score, True)
                if each.score is not None
                else (scale * each.epochs[-1] if each.epochs else math.nan, False)
                for each in found.trials
            ],
            "scores of the trials, and the best one so far",
            up,
            larger_is_better=accuracy,
        ),
        curves=charts.trial_curves(
            [
                ([scale * value for value in each.epochs], kind(each))
                for each in ranked
                if each.copied is None
            ],
            "score of each trial after each epoch",
            up,
            found.recipe.epochs,
        ),
        importance=charts.share_bars(found.importance, "importance of each setting")
        if found.importance
        else None,
        columns=("trial", "state", up, "epochs", "seconds", *names),
        rows=[
            (
                each.number,
                each.state if each.copied is None else f"as trial {each.copied}",
                "–" if each.score is None else found.format(each.score),
                len(each.epochs),
                "–" if each.seconds is None else f"{each.seconds:,.0f}",
                *(format_setting(each.values[name]) if name in each.values else "–" for name in names),
            )
            for each in found.trials
        ],
        reasons=[(each.number, each.reason) for each in found.trials if each.reason],
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
