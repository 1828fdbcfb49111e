"""Find problems of a data set (duplicates across splits, blank images, wrong labels), and write a clean copy.

`images` checks pixels, `labels` labels and votes, `copies` duplicates across splits, and `people` persons in
two splits; `inspect` runs all of them.

report = audit.inspect(datasets.load("archive (4).zip"))
report.counts["test_in_train"]
report.findings[0].evidence
audit.exclude(report, "exclusions.csv")            # for mien train --exclude
audit.fix(report, "archive (4).zip", "clean")
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data import duplicates
from mien.data.audit import cleaning, copies, images, labels, people
from mien.data.audit.cleaning import Change
from mien.data.audit.copies import SplitRecrops
from mien.data.audit.findings import SEVERITIES, Case, Finding, Material, Removal, Severity, gather
from mien.data.audit.images import Header, Measures, seek, survey
from mien.data.datasets import Dataset
from mien.data.duplicates import Duplicates
from mien.data.exclusions import Exclusion
from mien.data.probabilities import SavedPredictions
from mien.errors import DataError

__all__ = [
    "SEVERITIES",
    "AuditReport",
    "Case",
    "Change",
    "Finding",
    "Header",
    "Removal",
    "Severity",
    "SplitRecrops",
    "check_fix",
    "exclude",
    "fix",
    "inspect",
    "parse_severity",
    "seek",
    "survey",
]

#: Percent of the work that finds exact and near duplicates; the rest finds re-cropped duplicates.
_SEARCH = 15


@dataclass(frozen=True)
class AuditReport:
    """The result of an audit.

    Args:
        root: The source's name, without its folder.
        fingerprint: Of the data set.
        counts: Number of images and groups of each kind; `docs/audit.md` lists the names.
        findings: The worst first.
        removals: Training images to leave out; if an image occurs more than once, its first reason counts.
        material: The images.
        measures: Sharpness, brightness and contrast of each image.
        copies: Exact and near duplicates.
        recrops: Re-cropped duplicates across splits.
    """

    root: str
    fingerprint: str
    counts: dict[str, int]
    findings: tuple[Finding, ...]
    removals: tuple[Removal, ...]
    material: Material
    measures: Measures
    copies: Duplicates
    recrops: tuple[SplitRecrops, ...] = ()

    def at_least(self, severity: Severity) -> tuple[Finding, ...]:
        """Return the findings of at least this severity."""
        return tuple(
            item for item in self.findings if SEVERITIES.index(item.severity) <= SEVERITIES.index(severity)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return counts and findings as plain values."""
        return {
            "data": self.root,
            "fingerprint": self.fingerprint,
            "splits": {split.name: len(split) for split in self.material.dataset.splits},
            "classes": labels.classes(self.material),
            "counts": self.counts,
            "findings": [item.to_dict() for item in self.findings],
        }


def inspect(
    dataset: Dataset,
    *,
    headers: Mapping[str, Header] | None = None,
    probabilities: SavedPredictions | None = None,
    faces: NDArray[np.bool_] | None = None,
    near: float = duplicates.NEAR,
    recrops: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> AuditReport:
    """Find everything that makes a score wrong or a training worse.

    Args:
        dataset: A loaded data set; annotator votes find images without a face.
        headers: The result of `survey`, which finds unusual files.
        probabilities: Predictions for the training images by models that did not learn from them, as
            `mien train --folds` writes them; they find labels that are probably wrong.
        faces: The result of `seek`, which finds images without a face.
        near: Correlation in (0, 1) above which two images are near duplicates.
        recrops: Whether to look for re-cropped duplicates across splits, which takes most of the time.
        progress: Called with (done, total) in percent.

    Raises:
        DataError: `near` is out of range, images are smaller than 12 pixels a side, or `probabilities` or
            `faces` are for other images.
    """
    material = gather(dataset)
    doubts = [] if probabilities is None else labels.doubts(material, probabilities)
    images.check_faces(material, faces)
    measures = images.measure(material)
    tell = progress or (lambda done, total: None)
    share = _SEARCH if recrops else 100
    found = duplicates.find(
        material.images, near=near, progress=lambda done, total: tell(share * done // total, 100)
    )
    recropped: tuple[SplitRecrops, ...] = ()
    if recrops:
        recropped = copies.search(
            material, found, progress=lambda done, total: tell(share + (100 - share) * done // total, 100)
        )
    headers = headers or {}
    duplicated = copies.count(material, found, recropped)
    results = [
        *copies.findings(material, found, recropped),
        *people.findings(material, duplicated),
        *images.findings(material, measures),
        *images.file_findings(material, headers),
        *images.faceless_findings(material, measures, faces),
        *labels.findings(material),
        *doubts,
    ]
    counts = {
        "images": len(material.images),
        **people.count(material),
        **duplicated,
        **images.count(measures),
        **images.count_files(material, headers),
        **labels.count(material),
        **images.count_faceless(measures, faces),
    }
    if probabilities is not None:
        counts["label_errors"] = sum(len(item.cases) for item in doubts)
    return AuditReport(
        root=dataset.root,
        fingerprint=dataset.fingerprint,
        counts=counts,
        findings=tuple(sorted(results, key=lambda item: SEVERITIES.index(item.severity))),
        removals=(
            *images.removals(material, measures),
            *labels.removals(material),
            *copies.removals(material, found, recropped),
        ),
        material=material,
        measures=measures,
        copies=found,
        recrops=recropped,
    )


def exclude(
    report: AuditReport, path: str | os.PathLike[str], *, also: str | os.PathLike[str] | None = None
) -> tuple[Exclusion, ...]:
    """Write the list of training images to leave out, as `mien train --exclude` takes it.

    Args:
        report: The audit.
        path: The csv to write: columns `row` for a csv source or `file` for folders, `reason`, `evidence`.
        also: An existing list, whose lines come first.

    Returns:
        The number of lines with each reason.

    Raises:
        DataError: `also` cannot be used.
        OutputError: The list cannot be written.
    """
    counts = cleaning.write_exclusions(Path(path), report.removals, also=None if also is None else Path(also))
    return tuple(Exclusion(reason, counts[reason]) for reason in sorted(counts))


def fix(
    report: AuditReport,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    regroup: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Change, ...]:
    """Write a clean copy of a data set into a new folder, with the list of changes as `changes.csv`.

    `cleaning.plan` documents the rules. Class folders and archives of them become `out/train/happy/1.png`,
    with unchanged files. A csv becomes `out/fer2013.csv`, with images of the size at which it was loaded, and
    its votes become `out/fer2013new.csv`. If persons (groups) are known, `out/persons.csv` is a table of the
    copy's images with their persons; load it in place of `out` to divide by person. The source is only read.

    Args:
        report: The audit.
        source: The file or folder that the data set was loaded from.
        out: The folder to create; it is complete or absent.
        regroup: Whether to move duplicates into one split instead of dropping them.
        progress: Called with (done, total) files.

    Returns:
        Every change, with its reason.

    Raises:
        DataError: `out` exists or overlaps with the source; the source has changed since the audit; or train
            would lack a class that another split has.
        OutputError: `out` cannot be written.
    """
    plan = cleaning.plan(report.material, report.measures, report.copies, report.recrops, regroup=regroup)
    cleaning.write_copy(report.material, plan, Path(source), Path(out), progress=progress)
    return plan.changes


def check_fix(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Check before an audit that `fix` can write to a folder.

    Raises:
        DataError: `out` exists, or overlaps with the source.
    """
    cleaning.check_copy(Path(source), Path(out))


def parse_severity(name: str) -> Severity:
    """Return the severity of this name.

    Raises:
        DataError: The name is not a severity.
    """
    for severity in SEVERITIES:
        if severity == name:
            return severity
    raise DataError(f"'{name}' is not a severity; choose error, warning or note")
