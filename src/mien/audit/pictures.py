"""Images that show little: constant and nearly blank ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.audit.finding import Finding, Material, Removal
from mien.duplicates import FLAT

_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Measures:
    """What is measured of every image.

    Args:
        contrast: `(n,)` float32, standard deviation in grey levels.
    """

    contrast: NDArray[np.float32]


def measure(material: Material) -> Measures:
    """Measure every image."""
    contrast = np.empty(len(material.images), np.float32)
    for start in range(0, len(contrast), _BLOCK):
        part = slice(start, start + _BLOCK)
        contrast[part] = material.images[part].std(axis=(1, 2, 3))
    return Measures(contrast)


def count(measures: Measures) -> dict[str, int]:
    """Count images that show nothing, by the names that `AuditReport.counts` has."""
    constant = measures.contrast == 0
    return {
        "constant": int(constant.sum()),
        "nearly_blank": int(((measures.contrast < FLAT) & ~constant).sum()),
    }


def findings(material: Material, measures: Measures) -> list[Finding]:
    """Tell of images that show nothing."""
    told = []
    constant = measures.contrast == 0
    blank = (measures.contrast < FLAT) & ~constant
    for kind, hits, what in (
        ("constant", constant, "hold one grey level only"),
        ("nearly blank", blank, f"deviate by less than {FLAT:g} grey levels"),
    ):
        if hits.any():
            told.append(
                Finding(
                    kind=kind,
                    severity="warning",
                    evidence=f"{hits.sum():,} images {what}, and show no face.",
                    advice="Leave them out: --exclusions lists those of train, --fix drops all.",
                    cases=tuple(
                        material.case(
                            [place],
                            f"{material.where(place)}: {material.label(place)}, "
                            f"deviation {measures.contrast[place]:.1f}",
                        )
                        for place in np.flatnonzero(hits).tolist()
                    ),
                )
            )
    return told


def removals(material: Material, measures: Measures) -> list[Removal]:
    """List the training images that show nothing."""
    train = material.members("train")
    return [
        material.removal(
            place,
            "constant" if measures.contrast[place] == 0 else "nearly blank",
            f"deviation {measures.contrast[place]:.1f}",
        )
        for place in train[measures.contrast[train] < FLAT].tolist()
    ]
