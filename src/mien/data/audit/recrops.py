"""Photographs that stand in two splits, cut out otherwise in each."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.data.audit.findings import Finding, Material, Removal
from mien.data.duplicates import SMALLEST, Duplicates, recut

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
    """Look for each image of val and test in train, and of test in val, as `duplicates.recut` does."""
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


def count(material: Material, found: Duplicates, recuts: tuple[Recut, ...]) -> dict[str, int]:
    """Count the images of each split whose photograph stands in another, by the names of the counts.

    Those that have an equal or a near image there are counted as such alone.
    """
    keys = {(asked, home): key for asked, home, key in _PAIRS}
    return {keys[each.asked, each.home]: len(_besides(material, found, each)) for each in recuts}


def _besides(material: Material, found: Duplicates, each: Recut) -> NDArray[np.int64]:
    """Return the images asked about that have neither an equal nor a near one in the other split."""
    asked = np.unique(each.one)
    return asked[~np.logical_or(*found.again(asked, material.members(each.home)))]


def findings(material: Material, found: Duplicates, recuts: tuple[Recut, ...]) -> list[Finding]:
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


def removals(material: Material, recuts: tuple[Recut, ...]) -> list[Removal]:
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
