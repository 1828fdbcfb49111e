"""Divide images into splits or folds: by class, with identical images and the images of a person together.

parts, notes = divide(contents, seed=42)              # {"train": indices, "val": ..., "test": ...}
connect(4, [[0, 2]])                                  # [[0, 2], [1], [3]]
deal([[0, 2], [1], [3]], labels, shares, seed=42)     # a part for each of the three
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mien._text import shorten
from mien.data import image_cache
from mien.data.contents import SPLITS, Contents, Problem
from mien.errors import DataError

SplitBy = Literal["image", "group"]

#: Share of the images that val and test get.
_SHARE = 0.1
#: Orders of the groups that are tried, and the number of groups in all orders from which fewer are tried.
_TRIES, _MOST_TURNS = 16, 64_000
#: Least share of the images that stays in train if few groups leave a choice.
_LEAST_TRAIN = 0.5

Parts = dict[str, NDArray[np.intp]]


def divide(found: Contents, seed: int, split_by: str | None = None) -> tuple[Parts, tuple[str, ...]]:
    """Divide images into train, val and test, with identical images in one split.

    A source without splits gives a tenth of each class to val and a tenth to test. A source with train and
    without val gives a tenth of train to val. At least one image of a class stays in train; a class of few
    images gives val one before test. Whole groups are divided if groups are known.

    Args:
        found: The images, in an order that does not depend on the file system.
        seed: Selects the images.
        split_by: `group` keeps the images of a group in one split, also if the source's own splits do not:
            val and test are then drawn from all images. `image` divides images without regard to groups. None
            keeps the source's own splits, and divides groups if they are known.

    Returns:
        Indices into `found` by split, ascending, without missing splits; and notes.

    Raises:
        DataError: A split that the source names has nothing readable, nothing is left for val, `split_by` is
            not one of these, or it is `group` and no group is known.
    """
    if split_by not in (None, *get_args(SplitBy)):
        raise DataError(f"split-by is {split_by!r}; choose image or group")
    if split_by == "group" and found.groups is None:
        raise DataError(
            "split-by is group, but the source names no persons or groups; add a column, or use --group-from"
        )
    whole = found.groups is not None and split_by != "image"
    draw = _draw_groups if whole else _draw_images
    parts = _named_splits(found)
    notes: tuple[str, ...] = ()
    if parts and split_by == "group" and (shared := shared_groups(parts, found.groups)):
        parts = {}
        notes = (
            f"the source's own splits are not used, because {_have(len(shared), 'group')} images in two of "
            f"them ({_examples(shared)}); val and test are drawn from all images",
        )
    if not parts:
        parts, shares = draw(np.arange(len(found.labels)), found, ("val", "test"), seed)
        why = "" if notes else "the source has no splits: "
        notes += (f"{why}10 % of each class is val and 10 % test{shares}, with seed {seed}",)
    elif "train" in parts and "val" not in parts:
        drawn, shares = draw(parts["train"], found, ("val",), seed)
        parts |= drawn
        why = "the source has no val: 10 % of each class in train is val"
        notes += (f"{why}{shares}, with seed {seed}",)
    if "val" in parts and not parts["val"].size:
        if whole:
            raise DataError(_explain_few_groups(found))
        raise DataError("there are too few images for a val split; give at least two of a class")
    parts = {split: members for split, members in parts.items() if members.size}
    if shared := shared_groups(parts, found.groups):
        notes += (_warn(shared, split_by),)
    return parts, (*notes, *_missing(parts))


def _explain_few_groups(found: Contents) -> str:
    """Return why no group can leave train, for an error."""
    count = len(set(found.groups or ()) - {""})
    if count == 1:
        why = "only 1 person is known, so a val split without that person cannot be made"
    else:
        why = (
            f"only {count:,} persons are known, and train would lose a class without any one of them, so "
            "none is left for a val split"
        )
    return f"{why}; give more persons or use --split-by image"


def find_unplaced(found: Contents, parts: Parts) -> tuple[tuple[Problem, ...], tuple[str, ...]]:
    """Return the images that are in no split, as problems, and a note about them.

    These are images for which the source names no split although it names splits for others.

    Args:
        found: The images.
        parts: Indices of images by split, as `divide` returns them.
    """
    placed = np.zeros(len(found.labels), bool)
    for members in parts.values():
        placed[members] = True
    names = [found.files[place] for place in np.flatnonzero(~placed).tolist()]
    if not names:
        return (), ()
    note = (
        f"{len(names):,} images are not used, because the source names splits, but none for these: "
        f"{shorten(names)}; name their split, or remove them"
    )
    return tuple(Problem(name, "it has no split, and other images have one") for name in names), (note,)


def shared_groups(parts: Parts, groups: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """Return the groups with images in two or more splits, and these splits, by the name of the group.

    Args:
        parts: Indices of images by split.
        groups: The group of each image, `""` if unknown; None without groups.
    """
    splits: dict[str, list[str]] = {}
    for split, members in parts.items() if groups is not None else ():
        for group in {groups[member] for member in members.tolist()} - {""}:  # type: ignore[index]
            splits.setdefault(group, []).append(split)
    return {group: tuple(splits[group]) for group in sorted(splits) if len(splits[group]) > 1}


def connect(count: int, sets: Iterable[Sequence[int]]) -> list[list[int]]:
    """Return the smallest groups of 0 .. count - 1 that keep the members of every set together.

    Args:
        count: Number of members.
        sets: Members that belong together; sets that share a member are joined.

    Returns:
        Every member in one group; groups are ascending, and in the order of their first members.
    """
    parents = list(range(count))

    def root(member: int) -> int:
        while parents[member] != member:
            parents[member] = member = parents[parents[member]]
        return member

    for each in sets:
        first = root(int(each[0]))
        for member in each[1:]:
            other = root(int(member))
            first, last = min(first, other), max(first, other)
            parents[last] = first
    groups: dict[int, list[int]] = {}
    for member in range(count):
        groups.setdefault(root(member), []).append(member)
    return list(groups.values())


def sets_of(keys: Iterable[object]) -> Iterable[list[int]]:
    """Return the places of each key that occurs; of the key `""` none."""
    places: dict[object, list[int]] = {}
    for place, key in enumerate(keys):
        if key != "":
            places.setdefault(key, []).append(place)
    return places.values()


def deal(
    groups: Sequence[Sequence[int]],
    labels: NDArray[np.int64],
    shares: Sequence[float],
    *,
    seed: int,
    complete: bool = False,
) -> NDArray[np.intp]:
    """Deal whole groups to parts, with about the same share of each class in a part.

    The groups are taken in a random order. Each goes to the part that most reduces the sum of
    `(share of the class - share)² / share` over parts and classes, and over parts for all images. Of several
    orders the best result counts. This is the criterion of a stratified division with groups, as
    scikit-learn's StratifiedGroupKFold has it, for parts of any size.

    Args:
        groups: Members of each group.
        labels: `(n,)` the class of each member.
        shares: Share of each part, summing to 1.
        seed: Selects the orders.
        complete: Whether the first part must have every class. Then another part is empty if it could only
            get a group that the first part needs, or that leaves the first part with less than half.

    Returns:
        `(len(groups),)` the part of each group.
    """
    classes = int(labels.max()) + 1
    # Images of any class count like one more class, so that parts have their share of the images too.
    counts = np.array([np.bincount(labels[list(group)], minlength=classes + 1) for group in groups], np.int64)
    counts[:, classes] = counts.sum(axis=1)
    wanted = np.array(shares)
    random = np.random.default_rng(seed)
    best: tuple[float, NDArray[np.intp]] | None = None
    for _ in range(min(_TRIES, max(1, _MOST_TURNS // len(groups)))):
        parts = _deal_once(counts, wanted, random.permutation(len(groups)), complete=complete)
        if complete:
            _fill(parts, counts, wanted)
        cost = _cost(parts, counts, wanted)
        if best is None or cost < best[0]:
            best = cost, parts
    assert best is not None
    return best[1]


def _deal_once(
    counts: NDArray[np.int64], wanted: NDArray[np.float64], order: NDArray[np.intp], *, complete: bool
) -> NDArray[np.intp]:
    sizes = counts / np.maximum(counts.sum(axis=0), 1)
    squares = (sizes**2).sum(axis=1)
    slopes = np.full((len(wanted), counts.shape[1]), -2.0)
    missing = counts.any(axis=0) if complete else np.zeros(counts.shape[1], bool)
    parts = np.empty(len(counts), np.intp)
    for group in order.tolist():
        size = sizes[group]
        part = int(np.argmin(slopes @ size + squares[group] / wanted))
        if missing.any() and (counts[group] > 0)[missing].any():
            part = 0
            missing &= counts[group] == 0
        parts[group] = part
        slopes[part] += 2 * size / wanted[part]
    return parts


def _fill(parts: NDArray[np.intp], counts: NDArray[np.int64], wanted: NDArray[np.float64]) -> None:
    """Fill every empty part with the best group of the first part, if that can spare one."""
    for part in range(1, len(wanted)):
        if (parts == part).any():
            continue
        held = np.flatnonzero(parts == 0)
        total = counts[held].sum(axis=0)
        rest = total - counts[held]
        free = (rest[:, total > 0] > 0).all(axis=1)
        if part > 1:
            free &= rest.sum(axis=1) >= _LEAST_TRAIN * counts.sum()
        costs = {}
        for group in held[free].tolist():
            parts[group] = part
            costs[group] = _cost(parts, counts, wanted)
            parts[group] = 0
        if costs:
            parts[min(costs, key=costs.__getitem__)] = part


def _cost(parts: NDArray[np.intp], counts: NDArray[np.int64], wanted: NDArray[np.float64]) -> float:
    held = np.array([counts[parts == part].sum(axis=0) for part in range(len(wanted))])
    shares = held / np.maximum(counts.sum(axis=0), 1)
    return float((((shares - wanted[:, None]) ** 2).sum(axis=1) / wanted).sum())


def _named_splits(found: Contents) -> Parts:
    """Return the splits that the source names."""
    given = np.array(found.splits, dtype=object)
    parts = {split: np.flatnonzero(given == split) for split in SPLITS if split in found.declared}
    for split, members in parts.items():
        if not members.size:
            raise DataError(
                f"the split {split} has no readable image; add images or remove it{_why(found, split)}"
            )
    return parts


def _why(found: Contents, split: str) -> str:
    """Return the first problem of a split, for a message."""
    first = next((problem for problem in found.problems if problem.split == split), None)
    return "" if first is None else f" (its first problem: {first.file}: {first.reason})"


def _missing(parts: Mapping[str, object]) -> tuple[str, ...]:
    absent = [split for split in SPLITS if split not in parts]
    return (f"there is no {' and no '.join(absent)} split",) if absent else ()


def _have(count: int, noun: str) -> str:
    return f"one {noun} has" if count == 1 else f"{count:,} {noun}s have"


def _examples(shared: Mapping[str, tuple[str, ...]]) -> str:
    some = [f"{group!r} in {' and '.join(splits)}" for group, splits in list(shared.items())[:3]]
    return ", ".join(some) + (", …" if len(shared) > 3 else "")


def _warn(shared: Mapping[str, tuple[str, ...]], split_by: str | None) -> str:
    more = "" if split_by == "image" else "; --split-by group draws val and test by group"
    return (
        f"warning: {_have(len(shared), 'group')} images in two splits ({_examples(shared)}), so scores on "
        f"val and test are probably too high for new people{more}"
    )


def _pixel_keys(found: Contents, members: NDArray[np.intp]) -> list[bytes]:
    return list(image_cache.digests(found.faces[member] for member in members.tolist()))


def _draw_groups(
    members: NDArray[np.intp], found: Contents, others: tuple[str, ...], seed: int
) -> tuple[Parts, str]:
    """Draw whole groups; return the splits, and the shares reached for a note."""
    assert found.groups is not None
    names = [found.groups[member] for member in members.tolist()]
    pixels = _pixel_keys(found, members)
    groups = connect(len(members), (*sets_of(names), *sets_of(pixels)))
    labels = found.labels[members]
    shares = [1 - _SHARE * len(others), *[_SHARE] * len(others)]
    dealt = np.empty(len(members), np.intp)
    for group, part in zip(groups, deal(groups, labels, shares, seed=seed, complete=True), strict=True):
        dealt[group] = part
    parts = {split: members[dealt == number] for number, split in enumerate(("train", *others))}
    return parts, f", as far as whole groups allow ({_reached(parts, found, members)})"


def _reached(parts: Parts, found: Contents, members: NDArray[np.intp]) -> str:
    """Return the shares of images and classes that the drawn splits have, and their numbers of groups."""
    assert found.groups is not None
    totals = np.bincount(found.labels[members])
    there = totals > 0
    said = []
    for split, held in list(parts.items())[1:]:
        if not held.size:
            continue
        shares = np.bincount(found.labels[held], minlength=len(totals))[there] / totals[there]
        named = {found.groups[member] for member in held.tolist()} - {""}
        said.append(
            f"{split} {len(held) / len(members):.1%} of the images, {shares.min():.1%} to {shares.max():.1%} "
            f"of a class, {len(named):,} group{'' if len(named) == 1 else 's'}"
        )
    return "; ".join(said)


def _draw_images(
    members: NDArray[np.intp], found: Contents, others: tuple[str, ...], seed: int
) -> tuple[Parts, str]:
    groups: dict[bytes, list[int]] = {}
    for member, key in zip(members.tolist(), _pixel_keys(found, members), strict=True):
        groups.setdefault(key, []).append(member)
    drawn: dict[str, list[int]] = {split: [] for split in ("train", *others)}
    random = np.random.default_rng(seed)
    for label in range(len(found.classes)):
        # A group of identical images with different labels counts for the first one's class.
        mine = [group for group in groups.values() if found.labels[group[0]] == label]
        quota = max(1, round(sum(map(len, mine)) * _SHARE))
        room = dict.fromkeys(others, quota)
        for turn, place in enumerate(random.permutation(len(mine)).tolist()):
            group = mine[place]
            # The first one goes to train, so that train has every class.
            fits = [split for split in others if turn and room[split] >= len(group)]
            split = fits[0] if fits else "train"
            drawn[split] += group
            if fits:
                room[split] -= len(group)
    return {split: np.array(sorted(chosen), np.intp) for split, chosen in drawn.items()}, ""
