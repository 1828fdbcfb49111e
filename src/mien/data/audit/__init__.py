"""What is wrong with a data set: copies across splits, blank images, wrong labels; and a clean copy of it.

report = audit.inspect(dataset.load("archive (4).zip"))
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
from mien.data.audit import cleaning, copies, images, labels
from mien.data.audit.cleaning import Change
from mien.data.audit.copies import Recut
from mien.data.audit.findings import SEVERITIES, Case, Finding, Material, Removal, Severity, gather
from mien.data.audit.images import Header, Measures, seek, survey
from mien.data.datasets import Dataset
from mien.data.duplicates import Duplicates
from mien.data.exclusions import Exclusion
from mien.data.probabilities import Stored
from mien.errors import DataError

__all__ = [
    "SEVERITIES",
    "AuditReport",
    "Case",
    "Change",
    "Finding",
    "Header",
    "Recut",
    "Removal",
    "Severity",
    "check_fix",
    "exclude",
    "fix",
    "inspect",
    "seek",
    "survey",
    "worst",
]

#: Percent of the work that is done when equal and near images are known, if recuts are looked for too.
_COPIES = 15


@dataclass(frozen=True)
class AuditReport:
    """What was found.

    Args:
        root: The source's name, without its folder.
        fingerprint: Of the data set.
        counts: How many images and groups of each kind; `docs/audit.md` lists the names.
        findings: The worst first.
        removals: Training images that training is better without; an image may stand here more than once,
            and its first reason counts.
        material: The images.
        measures: What was measured of each.
        copies: Which of them are equal or near.
        recuts: Which show a photograph that another split holds too, cut otherwise.
    """

    root: str
    fingerprint: str
    counts: dict[str, int]
    findings: tuple[Finding, ...]
    removals: tuple[Removal, ...]
    material: Material
    measures: Measures
    copies: Duplicates
    recuts: tuple[Recut, ...] = ()

    def at_least(self, severity: Severity) -> tuple[Finding, ...]:
        """Return the findings that are as bad as `severity` or worse."""
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
    probabilities: Stored | None = None,
    faces: NDArray[np.bool_] | None = None,
    near: float = duplicates.NEAR,
    recut: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> AuditReport:
    """Look for everything that makes a score wrong or a training worse.

    Args:
        dataset: What `dataset.load` returned; with votes, images without a face are found by them.
        headers: What `survey` returned, to tell of odd files.
        probabilities: Of train's images, by models that did not learn from the image they speak of, as
            `mien train --folds` writes them; tells of labels that are probably wrong.
        faces: What `seek` returned, to tell of images in which a detector finds none.
        near: Correlation in (0, 1) above which two images count as copies.
        recut: Look for photographs that two splits hold, cut otherwise; it takes most of the time.
        progress: Called with (done, total) in percent.

    Raises:
        DataError: `near` is out of range, images are below 12 pixels, or something is for other images.
    """
    material = gather(dataset)
    doubts = [] if probabilities is None else labels.doubts(material, probabilities)
    images.check_faces(material, faces)
    measures = images.measure(material)
    found, cut = _compare(material, near, recut, progress)
    told = [
        *copies.findings(material, found),
        *copies.recrop_findings(material, found, cut),
        *images.findings(material, measures),
        *images.file_findings(material, headers or {}),
        *labels.vote_findings(material),
        *images.faceless_findings(material, measures, faces),
        *labels.findings(material),
        *doubts,
    ]
    counts = _counts(material, measures, found, cut, headers or {}) | images.count_faceless(measures, faces)
    if probabilities is not None:
        counts["label_errors"] = sum(len(item.cases) for item in doubts)
    return AuditReport(
        root=dataset.root,
        fingerprint=dataset.fingerprint,
        counts=counts,
        findings=tuple(sorted(told, key=lambda item: SEVERITIES.index(item.severity))),
        removals=(
            *images.removals(material, measures),
            *labels.vote_removals(material),
            *copies.removals(material, found),
            *copies.recrop_removals(material, cut),
        ),
        material=material,
        measures=measures,
        copies=found,
        recuts=cut,
    )


def _compare(
    material: Material, near: float, recut: bool, progress: Callable[[int, int], None] | None
) -> tuple[Duplicates, tuple[Recut, ...]]:
    """Find what stands more than once: equal, near and, if asked for, cut otherwise."""
    tell = progress or (lambda done, total: None)
    share = _COPIES if recut else 100
    found = duplicates.find(
        material.images, near=near, progress=lambda done, total: tell(share * done // total, 100)
    )
    if not recut:
        return found, ()
    rest = 100 - share
    return found, copies.search(
        material, found, progress=lambda done, total: tell(share + rest * done // total, 100)
    )


def _counts(
    material: Material,
    measures: Measures,
    found: Duplicates,
    cut: tuple[Recut, ...],
    headers: Mapping[str, Header],
) -> dict[str, int]:
    return {
        "images": len(material.images),
        **copies.count(material, found),
        **copies.count_recrops(material, found, cut),
        **images.count(measures),
        **images.count_files(material, headers),
        **labels.count_votes(material),
    }


def exclude(
    report: AuditReport, path: str | os.PathLike[str], *, also: str | os.PathLike[str] | None = None
) -> tuple[Exclusion, ...]:
    """Write the list of training images to leave out, as `mien train --exclude` takes it.

    Args:
        report: What was found.
        path: The csv to write: columns `row` for a csv source or `file` for folders, `reason`, `evidence`.
        also: A list that was there before, whose lines come first.

    Returns:
        How many lines carry each reason.

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

    Images that are unreadable, blank or no face by votes are dropped. Equal images get one label: the one
    among theirs that has most votes, or without votes the most frequent; where two have as many, all of them
    are dropped. Copies across splits are dropped from train, and those of val and test from val. Of equal
    images in one split the first stays.

    Class folders and archives of them become `out/train/happy/1.png`, each file with the bytes it had. A csv
    becomes `out/fer2013.csv` with images of the size that it was loaded in, and its votes
    `out/fer2013new.csv`. The source is only read.

    Args:
        report: What was found.
        source: Where the data set was loaded from.
        out: The folder to make: complete in the end, or absent.
        regroup: Move copies into train, and those of val and test into val, instead of dropping them.
        progress: Called with (done, total) files.

    Returns:
        Every change, and why.

    Raises:
        DataError: `out` is there already or overlaps with the source; the source has changed since it was
            looked at; or train would lack a class that another split has.
        OutputError: `out` cannot be written.
    """
    plan = cleaning.plan(report.material, report.measures, report.copies, report.recuts, regroup=regroup)
    cleaning.write_copy(report.material, plan, Path(source), Path(out), progress=progress)
    return plan.changes


def check_fix(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Refuse what `fix` would refuse to write to, before anything is audited.

    Raises:
        DataError: `out` is there already, or overlaps with the source.
    """
    cleaning.check_copy(Path(source), Path(out))


def worst(name: str) -> Severity:
    """Return the severity that `name` spells.

    Raises:
        DataError: There is none.
    """
    for severity in SEVERITIES:
        if severity == name:
            return severity
    raise DataError(f"'{name}' is no severity; choose error, warning or note")
