"""Images that stand more than once: across splits, with other labels, or simply again."""

import numpy as np
from numpy.typing import NDArray

from mien.audit.finding import Case, Finding, Material, Removal
from mien.duplicates import Duplicates

#: Splits that a choice or a score is made on, each with its key among the counts.
_JUDGES = {"val": "val_in_train", "test": "test_in_train"}


def count(material: Material, found: Duplicates) -> dict[str, int]:
    """Count images that stand again, by the names that `AuditReport.counts` has."""
    groups = found.groups(near=False)
    train = material.members("train")
    counts = {
        "equal_groups": len(groups),
        "equal_beyond_first": sum(len(group) - 1 for group in groups),
        "equal_across_splits": sum(len(set(material.splits[group].tolist())) > 1 for group in groups),
        "equal_conflicting": sum(len(set(material.labels[group].tolist())) > 1 for group in groups),
        "near_pairs": len(found.pairs),
    }
    for split, key in _JUDGES.items():
        equal, near = found.again(material.members(split), train)
        counts[key] = int(equal.sum())
        counts[f"{key}_near"] = int(near.sum())
    return counts


def findings(material: Material, found: Duplicates) -> list[Finding]:
    """Tell of leaks between splits, of equal images with conflicting labels, and of repetitions."""
    return [
        *_leaks(material, found),
        *_conflicts(material, found),
        *_repetitions(material, found),
    ]


def removals(material: Material, found: Duplicates) -> list[Removal]:
    """List the training images that stand again in val or test."""
    train = material.members("train")
    listed = []
    for split in _JUDGES:
        equal, near = found.again(train, material.members(split))
        for word, hits in (("equal to", equal), ("near", near)):
            twins = _twins(material, found, train[hits], split, near=word == "near")
            listed += [
                material.removal(place, f"{word} an image of {split}", material.files[twin])
                for place, twin in zip(train[hits].tolist(), twins, strict=True)
            ]
    return listed


def _twins(
    material: Material, found: Duplicates, places: NDArray[np.intp], split: str, *, near: bool
) -> list[int]:
    """For each place, the first image of `split` that is equal to it, or with `near` the most alike."""
    of_first: dict[int, int] = {}
    for member in material.members(split).tolist():
        of_first.setdefault(int(found.first[member]), member)
    if not near:
        return [of_first[first] for first in found.first[places].tolist()]
    best: dict[int, tuple[float, int]] = {}
    for (one, other), alike in zip(found.pairs.tolist(), found.similarity.tolist(), strict=True):
        for here, there in ((one, other), (other, one)):
            if there in of_first and alike > best.get(here, (0.0, 0))[0]:
                best[here] = alike, of_first[there]
    return [best[first][1] for first in found.first[places].tolist()]


def _leaks(material: Material, found: Duplicates) -> list[Finding]:
    told = []
    train = material.members("train")
    pairs = [("train", split, material.members(split), train) for split in _JUDGES]
    pairs.append(("val", "test", material.members("test"), material.members("val")))
    for home, split, asked, there in pairs:
        equal, near = found.again(asked, there)
        for word, hits in (("equal", equal), ("near", near)):
            if not hits.any():
                continue
            twins = _twins(material, found, asked[hits], home, near=word == "near")
            told.append(
                Finding(
                    kind=f"{word} across splits",
                    severity="error",
                    evidence=f"{hits.sum():,} of the {len(asked):,} images of {split} ({hits.mean():.1%}) "
                    f"stand {'byte for byte' if word == 'equal' else 'almost unchanged'} in {home} too, so a "
                    f"score on {split} tells in part what was learnt by heart.",
                    advice="Leave the copies out of training with --exclusions and mien train --exclude, or "
                    "write a clean copy with --fix.",
                    cases=tuple(
                        material.case(
                            (place, twin), f"{split}: {material.label(place)}; {home}: {material.label(twin)}"
                        )
                        for place, twin in zip(asked[hits].tolist(), twins, strict=True)
                    ),
                )
            )
    return told


def _conflicts(material: Material, found: Duplicates) -> list[Finding]:
    cases = []
    for group in found.groups(near=False):
        names = [material.label(place) for place in group]
        if len(set(names)) > 1:
            cases.append(material.case(group, ", ".join(names)))
    if not cases:
        return []
    return [
        Finding(
            kind="equal with conflicting labels",
            severity="warning",
            evidence=f"{len(cases):,} groups of equal images carry more than one label.",
            advice="Keep one label of each group: with --fix the most frequent one, or the votes' choice.",
            cases=tuple(cases),
        )
    ]


def _repetitions(material: Material, found: Duplicates) -> list[Finding]:
    told = []
    groups = found.groups(near=False)
    if groups:
        beyond = sum(len(group) - 1 for group in groups)
        told.append(
            Finding(
                kind="equal",
                severity="note",
                evidence=f"{beyond:,} images are equal to an earlier one, in {len(groups):,} groups.",
                advice="Keep the first of each group, so that no image counts more than others.",
                cases=tuple(material.case(group, f"{len(group)} times") for group in groups),
            )
        )
    if len(found.pairs):
        order = np.argsort(-found.similarity, kind="stable")
        told.append(
            Finding(
                kind="near",
                severity="note",
                evidence=f"{len(found.pairs):,} pairs of images are near: shifted, brightened, re-encoded or "
                "mirrored copies.",
                advice="Keep one of each pair, or keep both in one split.",
                cases=tuple(_pair(material, found, int(place)) for place in order),
            )
        )
    return told


def _pair(material: Material, found: Duplicates, place: int) -> Case:
    turned = ", mirrored" if found.mirrored[place] else ""
    return material.case(found.pairs[place], f"correlation {found.similarity[place]:.4f}{turned}")
