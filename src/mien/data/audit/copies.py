"""Exact, near and re-cropped duplicates: across splits, with other labels, or within one split."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien._text import agree, pluralize
from mien.data import recrops
from mien.data.audit.findings import Case, Finding, Material, Removal
from mien.data.duplicates import Duplicates

#: Splits that select or score a model, each with its key among the counts.
_EVALUATED = {"val": "val_in_train", "test": "test_in_train"}

#: The split whose images are looked for, the split they are looked for in, and the key among the counts.
_PAIRS = (
    ("val", "train", "val_in_train_recrops"),
    ("test", "train", "test_in_train_recrops"),
    ("test", "val", "test_in_val_recrops"),
)

#: Cases listed of near duplicates.
_MOST_CASES = 1000

#: What duplicates of images in a split do to scores, and what to do about them, by that split.
_EFFECTS = {
    "train": "scores on {} partly measure memorisation",
    "val": "scores on {} are too high for a model that was selected on val",
}
_ADVICE = {
    "train": "Exclude the duplicates from training with --exclusions and mien train --exclude, or write a "
    "clean copy with --fix.",
    "val": "Write a clean copy with --fix, which removes the duplicates from val.",
}


@dataclass(frozen=True, eq=False)
class SplitRecrops:
    """Re-cropped duplicates of two splits that are neither exact nor near duplicates.

    Args:
        asked: The split of `one`: `val` or `test`.
        home: The split of `other`: `train` or `val`.
        one: `(m,)` indices into `Material.images`.
        other: `(m,)` indices of their partners.
        similarity: `(m,)` correlation of the details.
    """

    asked: str
    home: str
    one: NDArray[np.int64]
    other: NDArray[np.int64]
    similarity: NDArray[np.float32]


def search(
    material: Material, found: Duplicates, *, progress: Callable[[int, int], None] | None = None
) -> tuple[SplitRecrops, ...]:
    """Look for re-cropped duplicates of val and test in train, and of test in val."""
    if material.images.shape[1] < recrops.SMALLEST:
        return ()
    pairs = [pair[:2] for pair in _PAIRS if all(material.members(split).size for split in pair[:2])]
    results = []
    for number, (asked, home) in enumerate(pairs):

        def step(done: int, of: int, before: int = number) -> None:
            if progress:
                progress(before * of + done, len(pairs) * of)

        mine, theirs = material.members(asked), material.members(home)
        alike = recrops.find(material.images[mine], material.images[theirs], progress=step)
        one, other = mine[alike.one], theirs[alike.other]
        new = ~_is_copy(found, one, other)
        results.append(SplitRecrops(asked, home, one[new], other[new], alike.similarity[new]))
    return tuple(results)


def _is_copy(found: Duplicates, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which pairs are exact or near duplicates."""
    firsts = np.sort(found.first[np.stack([one, other], axis=1)], axis=1)
    known = found.pairs @ [len(found.first), 1]
    exact: NDArray[np.bool_] = firsts[:, 0] == firsts[:, 1]
    return exact | np.isin(firsts @ [len(found.first), 1], known)


def count(material: Material, found: Duplicates, recropped: tuple[SplitRecrops, ...]) -> dict[str, int]:
    """Count duplicates, by the names that `AuditReport.counts` has.

    An image with an exact or a near duplicate in the other split is not counted as re-cropped too.
    """
    groups = found.groups(near=False)
    counts = {
        "exact_groups": len(groups),
        "exact_beyond_first": sum(len(group) - 1 for group in groups),
        "exact_across_splits": sum(len(set(material.splits[group].tolist())) > 1 for group in groups),
        "exact_conflicting": sum(len(set(material.labels[group].tolist())) > 1 for group in groups),
        "near_pairs": len(found.pairs),
        "near_groups": sum(1 for _ in _near_groups(found)),
        "near_conflicting": int(_conflicting(material, found).sum()),
    }
    for split, key in _EVALUATED.items():
        exact, near = found.again(material.members(split), material.members("train"))
        counts[key] = int(exact.sum())
        counts[f"{key}_near"] = int(near.sum())
    keys = {(asked, home): key for asked, home, key in _PAIRS}
    return counts | {keys[each.asked, each.home]: len(_only(material, found, each)) for each in recropped}


def findings(material: Material, found: Duplicates, recropped: tuple[SplitRecrops, ...]) -> list[Finding]:
    """Return leaks between splits, duplicates with conflicting labels, and repetitions."""
    return [
        *_leaks(material, found),
        *_conflicts(material, found),
        *_near_conflicts(material, found),
        *_repetitions(material, found),
        *_near_duplicates(material, found),
        *_recrops(material, found, recropped),
    ]


def removals(material: Material, found: Duplicates, recropped: tuple[SplitRecrops, ...]) -> Iterator[Removal]:
    """Yield the training images that are duplicates of val or test images."""
    train = material.members("train")
    for split in _EVALUATED:
        exact, near = found.again(train, material.members(split))
        for word, hits in (("exact", exact), ("near", near)):
            twins = _twins(material, found, train[hits], split, near=word == "near")
            for image, twin in zip(train[hits].tolist(), twins, strict=True):
                yield material.removal(
                    image, f"{word} duplicate of an image of {split}", material.files[twin]
                )
    for each in recropped:
        if each.home == "train":
            reason = f"re-cropped duplicate of an image of {each.asked}"
            for image, (twin, _) in _best(each.other, each.one, each.similarity).items():
                yield material.removal(image, reason, material.files[twin])


def _twins(
    material: Material, found: Duplicates, images: NDArray[np.intp], split: str, *, near: bool
) -> list[int]:
    """Return for each image the first exact duplicate in `split`, or with `near` the most similar one."""
    of_first: dict[int, int] = {}
    for member in material.members(split).tolist():
        of_first.setdefault(int(found.first[member]), member)
    if not near:
        return [of_first[first] for first in found.first[images].tolist()]
    best: dict[int, tuple[float, int]] = {}
    for (one, other), similarity in zip(found.pairs.tolist(), found.similarity.tolist(), strict=True):
        for here, there in ((one, other), (other, one)):
            if there in of_first and similarity > best.get(here, (0.0, 0))[0]:
                best[here] = similarity, of_first[there]
    return [best[first][1] for first in found.first[images].tolist()]


def _leaks(material: Material, found: Duplicates) -> Iterator[Finding]:
    for split, home in (("val", "train"), ("test", "train"), ("test", "val")):
        asked = material.members(split)
        exact, near = found.again(asked, material.members(home))
        for word, how, hits in (
            ("exact", "with the same pixels", exact),
            ("near", "with small changes", near),
        ):
            if not hits.any():
                continue
            twins = _twins(material, found, asked[hits], home, near=word == "near")
            yield Finding(
                kind=f"{word} duplicates across splits",
                severity="error",
                evidence=f"{_share(int(hits.sum()), len(asked), split)} also in {home}, {how}, so "
                f"{_EFFECTS[home].format(split)}.",
                advice=_ADVICE[home],
                cases=tuple(
                    material.case(
                        (image, twin), f"{split}: {material.label(image)}; {home}: {material.label(twin)}"
                    )
                    for image, twin in zip(asked[hits].tolist(), twins, strict=True)
                ),
            )


def _share(count: int, total: int, split: str) -> str:
    return (
        f"{count:,} of the {total:,} images of {split} ({count / total:.1%}) {'is' if count == 1 else 'are'}"
    )


def _conflicts(material: Material, found: Duplicates) -> Iterator[Finding]:
    cases = []
    for group in found.groups(near=False):
        names = [material.label(image) for image in group]
        if len(set(names)) > 1:
            cases.append(material.case(group, ", ".join(names)))
    if cases:
        yield Finding(
            kind="exact duplicates with conflicting labels",
            severity="warning",
            evidence=agree(len(cases), "groups of exact duplicates have more than one label."),
            advice="Keep one label of each group; --fix keeps the label with the most annotator votes, or "
            "the most frequent one.",
            cases=tuple(cases),
        )


def _repetitions(material: Material, found: Duplicates) -> Iterator[Finding]:
    groups = found.groups(near=False)
    if groups:
        beyond = sum(len(group) - 1 for group in groups)
        yield Finding(
            kind="exact duplicates",
            severity="note",
            evidence=agree(
                beyond,
                f"images are exact duplicates of an earlier image, in {pluralize(len(groups), 'group')}.",
            ),
            advice="Keep the first of each group, so that each image counts once.",
            cases=tuple(material.case(group, f"{len(group)} times") for group in groups),
        )


def _near_duplicates(material: Material, found: Duplicates) -> Iterator[Finding]:
    """Yield near duplicates, one case per group: the number of pairs can grow with the square of images."""
    groups = sorted(_near_groups(found), key=lambda group: -len(group))
    if not groups:
        return
    root = np.empty(len(found.first), np.int64)
    for number, group in enumerate(groups):
        root[group] = number
    low, high = np.ones(len(groups)), np.zeros(len(groups))
    of = root[found.pairs[:, 0]]
    np.minimum.at(low, of, found.similarity)
    np.maximum.at(high, of, found.similarity)
    mirrored = set(of[found.mirrored].tolist())
    cases = []
    for number, group in enumerate(groups[:_MOST_CASES]):
        span = f"{low[number]:.4f}" + (f" to {high[number]:.4f}" if low[number] != high[number] else "")
        turned = ", mirrored" if number in mirrored else ""
        cases.append(material.case(group, f"{len(group)} images, correlation {span}{turned}"))
    yield Finding(
        kind="near duplicates",
        severity="note",
        evidence=f"{sum(map(len, groups)):,} images are near duplicates, in "
        f"{pluralize(len(groups), 'group')}: shifted, "
        f"brightened, re-encoded or mirrored copies.{_not_listed(len(groups))}",
        advice="Keep one image of each group, or keep the whole group in one split.",
        cases=tuple(cases),
    )


def _near_groups(found: Duplicates) -> Iterator[NDArray[np.int64]]:
    """Yield the groups of near duplicates, with one image of each set of exact duplicates."""
    for group in found.groups():
        firsts = group[found.first[group] == group]
        if len(firsts) > 1:
            yield firsts


def _not_listed(cases: int) -> str:
    more = cases - _MOST_CASES
    return f" The first {_MOST_CASES:,} are listed, {more:,} are not." if more > 0 else ""


def _conflicting(material: Material, found: Duplicates) -> NDArray[np.bool_]:
    """Return which near pairs have two labels."""
    labels = material.labels[found.pairs]
    return np.asarray(labels[:, 0] != labels[:, 1])


def _near_conflicts(material: Material, found: Duplicates) -> Iterator[Finding]:
    pairs = np.flatnonzero(_conflicting(material, found))
    if not pairs.size:
        return
    order = pairs[np.argsort(-found.similarity[pairs], kind="stable")]
    yield Finding(
        kind="near duplicates with conflicting labels",
        severity="warning",
        evidence=f"{len(order):,} of the {len(found.pairs):,} pairs of near duplicates have different "
        f"labels.{_not_listed(len(order))}",
        advice="Check them and correct the labels, or exclude one image of each pair; --fix does not "
        "change them.",
        cases=tuple(_pair(material, found, int(pair)) for pair in order[:_MOST_CASES]),
    )


def _pair(material: Material, found: Duplicates, pair: int) -> Case:
    turned = ", mirrored" if found.mirrored[pair] else ""
    names = ", ".join(material.label(int(image)) for image in found.pairs[pair])
    return material.case(found.pairs[pair], f"{names}; correlation {found.similarity[pair]:.4f}{turned}")


def _recrops(material: Material, found: Duplicates, recropped: tuple[SplitRecrops, ...]) -> Iterator[Finding]:
    for each in recropped:
        if not len(each.one):
            continue
        asked, only = len(material.members(each.asked)), len(_only(material, found, each))
        best = _best(each.one, each.other, each.similarity)
        yield Finding(
            kind="re-cropped duplicates across splits",
            severity="error",
            evidence=f"{_share(only, asked, each.asked)} re-crops of photographs in {each.home}, without "
            "exact and near duplicates; "
            f"{agree(len(np.unique(each.other)), f'images of {each.home} are re-crops of photographs in ')}"
            f"{each.asked}. So {_EFFECTS[each.home].format(each.asked)}.",
            advice=_ADVICE[each.home],
            cases=tuple(
                material.case(
                    (image, twin),
                    f"{each.asked}: {material.label(image)}; {each.home}: {material.label(twin)}; "
                    f"correlation of details {similarity:.2f}",
                )
                for image, (twin, similarity) in sorted(best.items(), key=lambda item: -item[1][1])
            ),
        )


def _only(material: Material, found: Duplicates, each: SplitRecrops) -> NDArray[np.int64]:
    """Return the images that have neither an exact nor a near duplicate in the other split."""
    asked = np.unique(each.one)
    return asked[~np.logical_or(*found.again(asked, material.members(each.home)))]


def _best(
    images: NDArray[np.int64], twins: NDArray[np.int64], similarity: NDArray[np.float32]
) -> dict[int, tuple[int, float]]:
    """Return for each image, in ascending order, the most similar twin and its similarity."""
    order = np.lexsort((twins, -similarity, images))
    known, first = np.unique(images[order], return_index=True)
    chosen = order[first]
    return {
        image: (twin, alike)
        for image, twin, alike in zip(
            known.tolist(), twins[chosen].tolist(), similarity[chosen].tolist(), strict=True
        )
    }
