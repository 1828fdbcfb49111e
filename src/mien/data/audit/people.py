"""Persons, or other groups, with images in two splits: as the source names them, or as copies suggest."""

from collections.abc import Iterator, Mapping

import numpy as np

from mien.data import division
from mien.data.audit.findings import Case, Finding, Material

#: Persons listed.
_MOST_CASES = 1000

#: Images of val or test with a near or re-cropped duplicate in train, and their share of the split, from
#: which persons are probably in both splits.
_CLEAR, _CLEAR_SHARE = 20, 0.02


def count(material: Material) -> dict[str, int]:
    """Count persons in two splits, if the source names persons."""
    return {} if material.groups is None else {"person_in_two_splits": len(_shared(material))}


def findings(material: Material, counts: Mapping[str, int]) -> Iterator[Finding]:
    """Yield persons in two splits; without names of persons, evidence of them.

    Args:
        material: The images.
        counts: Numbers of duplicates, as `copies.count` returns them.
    """
    if material.groups is None:
        yield from _suspected(material, counts)
    elif shared := _shared(material):
        yield _found(material, shared)


def _shared(material: Material) -> dict[str, tuple[str, ...]]:
    parts = {split: material.members(split) for split in material.names}
    return division.shared_groups(parts, material.groups)


def _found(material: Material, shared: Mapping[str, tuple[str, ...]]) -> Finding:
    assert material.groups is not None
    groups = np.array(material.groups)
    known = len(set(material.groups) - {""})
    parts = []
    for split in ("val", "test"):
        mine, train = groups[material.members(split)], groups[material.members("train")]
        if hits := int(np.isin(mine, train[train != ""]).sum()):
            parts.append(f"{hits:,} of the {len(mine):,} images of {split} show a person of train")
    listed = sorted(shared, key=lambda group: -int((groups == group).sum()))[:_MOST_CASES]
    more = len(shared) - len(listed)
    return Finding(
        kind="person in two splits",
        severity="error",
        evidence=f"{len(shared):,} of {known:,} persons (groups) have images in two or more splits"
        f"{''.join(f'; {part}' for part in parts)}. So scores on val and test are too high for new persons."
        f"{f' The {_MOST_CASES:,} with most images are listed, {more:,} are not.' if more else ''}",
        advice="Give each person to one split: --split-by group makes val and test again by person.",
        cases=tuple(_case(material, groups, group, shared[group]) for group in listed),
    )


def _case(
    material: Material, groups: np.ndarray[tuple[int], np.dtype[np.str_]], group: str, splits: tuple[str, ...]
) -> Case:
    """Return the first image of a person in each split."""
    held = [(split, found) for split in splits for found in [material.members(split)]]
    mine = [(split, members[groups[members] == group]) for split, members in held]
    text = ", ".join(f"{split} {len(members):,}" for split, members in mine)
    return material.case([int(members[0]) for _, members in mine], f"{group}: {text}")


def _suspected(material: Material, counts: Mapping[str, int]) -> Iterator[Finding]:
    for split in ("val", "test"):
        near = counts.get(f"{split}_in_train_near", 0)
        recrops = counts.get(f"{split}_in_train_recrops", 0)
        total = len(material.members(split))
        if near + recrops < _CLEAR or near + recrops < _CLEAR_SHARE * total:
            continue
        yield Finding(
            kind="persons probably in two splits",
            severity="warning",
            evidence=f"{near + recrops:,} of the {total:,} images of {split} "
            f"({(near + recrops) / total:.1%}) have a copy in train that is not exact ({near:,} near, "
            f"{recrops:,} re-cropped), as frames of a film and series of photos of one person have. The "
            "source names no persons, so other images of the same persons cannot be found.",
            advice="Name the persons by a column, or by --group-from from the names of files, and use "
            "--split-by group.",
        )
