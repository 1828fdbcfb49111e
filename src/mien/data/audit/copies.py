"""Images that stand more than once: across splits, with other labels, or simply again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.data.audit.findings import Case, Finding, Material, Removal
from mien.data.duplicates import Duplicates
from mien.data.recrops import SMALLEST, recut

#: Splits that a choice or a score is made on, each with its key among the counts.
_JUDGES = {"val": "val_in_train", "test": "test_in_train"}

#: Cases listed of near images.
_MOST_CASES = 1000


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
        "near_groups": sum(1 for _ in _near(found)),
        "near_conflicting": int(_unlike(material, found).sum()),
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
        *_near_conflicts(material, found),
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
    told += _nears(material, found)
    return told


def _nears(material: Material, found: Duplicates) -> list[Finding]:
    """Tell of near images, a case a group: the pairs of a still film's frames grow with their square."""
    groups = sorted(_near(found), key=lambda group: -len(group))
    if not groups:
        return []
    root = np.empty(len(found.first), np.int64)
    for number, group in enumerate(groups):
        root[group] = number
    low, high = np.ones(len(groups)), np.zeros(len(groups))
    of = root[found.pairs[:, 0]]
    np.minimum.at(low, of, found.similarity)
    np.maximum.at(high, of, found.similarity)
    mirrored = set(of[found.mirrored].tolist())
    return [
        Finding(
            kind="near",
            severity="note",
            evidence=f"{sum(map(len, groups)):,} images are near one another, in {len(groups):,} groups: "
            f"shifted, brightened, re-encoded or mirrored copies.{_left_out(len(groups))}",
            advice="Keep one of each group, or keep all of it in one split.",
            cases=tuple(
                material.case(
                    group,
                    f"{len(group)} images, {_correlation(low[number], high[number])}"
                    f"{', mirrored' if number in mirrored else ''}",
                )
                for number, group in enumerate(groups[:_MOST_CASES])
            ),
        )
    ]


def _near(found: Duplicates) -> Iterator[NDArray[np.int64]]:
    """Yield the groups that hold near images, each of the equal once."""
    for group in found.groups():
        firsts = group[found.first[group] == group]
        if len(firsts) > 1:
            yield firsts


def _correlation(low: float, high: float) -> str:
    return f"correlation {low:.4f}" if low == high else f"correlation {low:.4f} to {high:.4f}"


def _left_out(cases: int) -> str:
    more = cases - _MOST_CASES
    return f" The first {_MOST_CASES:,} are listed, {more:,} are not." if more > 0 else ""


def _unlike(material: Material, found: Duplicates) -> NDArray[np.bool_]:
    """Say which near pairs carry two labels."""
    labels = material.labels[found.pairs]
    return np.asarray(labels[:, 0] != labels[:, 1])


def _near_conflicts(material: Material, found: Duplicates) -> list[Finding]:
    places = np.flatnonzero(_unlike(material, found))
    if not places.size:
        return []
    order = places[np.argsort(-found.similarity[places], kind="stable")]
    return [
        Finding(
            kind="near with conflicting labels",
            severity="warning",
            evidence=f"{len(order):,} of the {len(found.pairs):,} pairs of near images carry two labels."
            f"{_left_out(len(order))}",
            advice="Look at them and mend the labels, or leave one of each pair out: --fix leaves them as "
            "they are.",
            cases=tuple(_pair(material, found, int(place)) for place in order[:_MOST_CASES]),
        )
    ]


def _pair(material: Material, found: Duplicates, place: int) -> Case:
    turned = ", mirrored" if found.mirrored[place] else ""
    names = ", ".join(material.label(int(each)) for each in found.pairs[place])
    return material.case(found.pairs[place], f"{names}; correlation {found.similarity[place]:.4f}{turned}")


#: Which split is asked about, which it is held against, and the key among the counts.
_PAIRS = (
    ("val", "train", "val_in_train_recut"),
    ("test", "train", "test_in_train_recut"),
    ("test", "val", "test_in_val_recut"),
)


@dataclass(frozen=True, eq=False)
class Recut:
    """Pairs of images of two splits that show one photograph and are neither equal to nor near each other.

    Args:
        asked: The split of `one`: `val` or `test`.
        home: The split of `other`: `train` or `val`.
        one: `(m,)` places in `Material.images`.
        other: `(m,)` places of their partners.
        likeness: `(m,)` correlation of the details.
    """

    asked: str
    home: str
    one: NDArray[np.int64]
    other: NDArray[np.int64]
    likeness: NDArray[np.float32]


def search(
    material: Material, found: Duplicates, *, progress: Callable[[int, int], None] | None = None
) -> tuple[Recut, ...]:
    """Look for each image of val and test in train, and of test in val, as `recrops.recut` does."""
    if material.images.shape[1] < SMALLEST:
        return ()
    pairs = [
        (asked, home)
        for asked, home, _ in _PAIRS
        if material.members(asked).size and material.members(home).size
    ]
    told = []
    for number, (asked, home) in enumerate(pairs):

        def step(done: int, of: int, before: int = number) -> None:
            if progress:
                progress(before * of + done, len(pairs) * of)

        mine, theirs = material.members(asked), material.members(home)
        cut = recut(material.images[mine], material.images[theirs], progress=step)
        one, other = mine[cut.one], theirs[cut.other]
        new = ~_copied(found, one, other)
        told.append(Recut(asked, home, one[new], other[new], cut.likeness[new]))
    return tuple(told)


def _copied(found: Duplicates, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which pairs are equal or near, and so told of as copies."""
    firsts = np.sort(found.first[np.stack([one, other], axis=1)], axis=1)
    known = found.pairs @ [len(found.first), 1]
    equal: NDArray[np.bool_] = firsts[:, 0] == firsts[:, 1]
    return equal | np.isin(firsts @ [len(found.first), 1], known)


def count_recrops(material: Material, found: Duplicates, recuts: tuple[Recut, ...]) -> dict[str, int]:
    """Count the images of each split whose photograph stands in another, by the names of the counts.

    Those that have an equal or a near image there are counted as such alone.
    """
    keys = {(asked, home): key for asked, home, key in _PAIRS}
    return {keys[each.asked, each.home]: len(_besides(material, found, each)) for each in recuts}


def _besides(material: Material, found: Duplicates, each: Recut) -> NDArray[np.int64]:
    """Return the images asked about that have neither an equal nor a near one in the other split."""
    asked = np.unique(each.one)
    return asked[~np.logical_or(*found.again(asked, material.members(each.home)))]


def recrop_findings(material: Material, found: Duplicates, recuts: tuple[Recut, ...]) -> list[Finding]:
    """Tell of every pair of splits that shares photographs."""
    told = []
    for each in recuts:
        if not len(each.one):
            continue
        cases = best(each.one, each.other, each.likeness)
        asked, besides = len(material.members(each.asked)), len(_besides(material, found, each))
        told.append(
            Finding(
                kind="cut otherwise across splits",
                severity="error",
                evidence=f"{besides:,} of the {asked:,} images of {each.asked} ({besides / asked:.1%}), "
                f"besides those that stand there unchanged, show a photograph that {each.home} holds too, "
                f"cut out larger, smaller or shifted; {len(np.unique(each.other)):,} images of {each.home} "
                f"show one of {each.asked}'s. So a score on {each.asked} tells in part what was learnt by "
                "heart.",
                advice="Leave them out of training with --exclusions and mien train --exclude, or write a "
                "clean copy with --fix.",
                cases=tuple(
                    material.case(
                        (place, twin),
                        f"{each.asked}: {material.label(place)}; {each.home}: {material.label(twin)}; "
                        f"details correlate {likeness:.2f}",
                    )
                    for place, (twin, likeness) in sorted(cases.items(), key=lambda item: -item[1][1])
                ),
            )
        )
    return told


def recrop_removals(material: Material, recuts: tuple[Recut, ...]) -> list[Removal]:
    """List the training images whose photograph val or test holds too."""
    return [
        material.removal(place, f"cut otherwise from an image of {each.asked}", material.files[twin])
        for each in recuts
        if each.home == "train"
        for place, (twin, _) in best(each.other, each.one, each.likeness).items()
    ]


def best(
    places: NDArray[np.int64], twins: NDArray[np.int64], likeness: NDArray[np.float32]
) -> dict[int, tuple[int, float]]:
    """For each place, ascending, the twin that is likest, and how like it is."""
    order = np.lexsort((twins, -likeness, places))
    known, first = np.unique(places[order], return_index=True)
    chosen = order[first]
    return {
        place: (twin, like)
        for place, twin, like in zip(
            known.tolist(), twins[chosen].tolist(), likeness[chosen].tolist(), strict=True
        )
    }
