"""What is wrong with a data set, and the list of images that training is better without.

report = audit.inspect(dataset.load("archive (4).zip"))
report.counts["test_in_train"]
report.findings[0].evidence
audit.exclude(report, Path("exclusions.csv"))      # for mien train --exclude
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien import duplicates
from mien.audit import copies, exclusion, pictures, votes
from mien.audit.finding import SEVERITIES, Case, Finding, Material, Removal, Severity, gather
from mien.dataset import Dataset, Exclusion
from mien.errors import DataError

__all__ = [
    "SEVERITIES",
    "AuditReport",
    "Case",
    "Finding",
    "Removal",
    "Severity",
    "exclude",
    "inspect",
    "worst",
]


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
        material: The images, for pictures and copies.
    """

    root: str
    fingerprint: str
    counts: dict[str, int]
    findings: tuple[Finding, ...]
    removals: tuple[Removal, ...]
    material: Material

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
            "counts": self.counts,
            "findings": [item.to_dict() for item in self.findings],
        }


def inspect(
    dataset: Dataset,
    *,
    near: float = duplicates.NEAR,
    progress: Callable[[int, int], None] | None = None,
) -> AuditReport:
    """Look for everything that makes a score wrong or a training worse.

    Args:
        dataset: What `dataset.load` returned; with votes, images without a face are found by them.
        near: Correlation in (0, 1) above which two images count as copies.
        progress: Called with (done, total) steps.

    Returns:
        Counts and findings; the images that training is better without.

    Raises:
        DataError: `near` is out of its range, or the images are smaller than 12 pixels.
    """
    material = gather(dataset)
    found = duplicates.find(material.images, near=near, progress=progress)
    measures = pictures.measure(material)
    told = [
        *copies.findings(material, found),
        *pictures.findings(material, measures),
        *votes.findings(material),
    ]
    return AuditReport(
        root=dataset.root,
        fingerprint=dataset.fingerprint,
        counts={
            "images": len(material.images),
            **copies.count(material, found),
            **pictures.count(measures),
            **votes.count(material),
        },
        findings=tuple(sorted(told, key=lambda item: SEVERITIES.index(item.severity))),
        removals=(
            *pictures.removals(material, measures),
            *votes.removals(material),
            *copies.removals(material, found),
        ),
        material=material,
    )


def exclude(report: AuditReport, path: Path, *, also: Path | None = None) -> tuple[Exclusion, ...]:
    """Write the list of training images to leave out, as `mien train --exclude` takes it.

    Args:
        report: What was found.
        path: The csv to write: columns `row` for a csv source or `file` for folders, `reason`, `evidence`.
        also: A list that was there before, whose lines come first.

    Returns:
        How many lines carry each reason.

    Raises:
        DataError: `also` cannot be used, or the list cannot be written.
    """
    counts = exclusion.write(path, report.removals, also=also)
    return tuple(Exclusion(reason, counts[reason]) for reason in sorted(counts))


def worst(name: str) -> Severity:
    """Return the severity that `name` spells.

    Raises:
        DataError: There is none.
    """
    for severity in SEVERITIES:
        if severity == name:
            return severity
    raise DataError(f"'{name}' is no severity; choose error, warning or note")
