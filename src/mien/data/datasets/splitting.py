"""Set validation and test images apart where a source does not, equal images on one side."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from mien.data.datasets.contents import SPLITS, Found
from mien.errors import DataError


def divide(found: Found, seed: int) -> tuple[dict[str, NDArray[np.intp]], tuple[str, ...]]:
    """Say which of the found images are train, val and test.

    Without splits: a tenth of each class is val, a tenth test, the rest train. With train and without
    val: a tenth of train's. Equal images stay together, whatever their labels. At least one image of a
    class stays in train; a class of few images gives val one before test.

    Args:
        found: The images, in an order that does not depend on the file system.
        seed: Decides which images go where.

    Returns:
        Indices into `found` by split, ascending, without the splits that do not exist; and notes.

    Raises:
        DataError: A split that the source names holds nothing readable, or nothing is left for val.
    """
    given = np.array(found.splits, dtype=object)
    if not found.declared:
        parts = _deal(np.arange(len(given)), found, ("val", "test"), seed)
        note = f"the source has no splits: a tenth of each class became val and a tenth test, by seed {seed}"
    else:
        parts = {split: np.flatnonzero(given == split) for split in SPLITS if split in found.declared}
        for split, members in parts.items():
            if not members.size:
                raise DataError(
                    f"the split {split} holds no readable image; fill it or remove it{_why(found, split)}"
                )
        if "train" not in parts or "val" in parts:
            return parts, _missing(parts)
        parts |= _deal(parts["train"], found, ("val",), seed)
        note = f"the source has no val: a tenth of train's images of each class became val, by seed {seed}"
    if not parts["val"].size:
        raise DataError("there are too few images to set some apart for val; give at least two of a class")
    parts = {split: members for split, members in parts.items() if members.size}
    return parts, (note, *_missing(parts))


def _why(found: Found, split: str) -> str:
    """Return the first problem of a split, for a message; those of other splits do not explain it."""
    first = next((problem for problem in found.problems if problem.split == split), None)
    return "" if first is None else f" (its first problem: {first.file}: {first.reason})"


def _missing(parts: dict[str, NDArray[np.intp]]) -> tuple[str, ...]:
    absent = [split for split in SPLITS if split not in parts]
    return (f"there is no {' and no '.join(absent)} split",) if absent else ()


def _deal(
    members: NDArray[np.intp], found: Found, others: tuple[str, ...], seed: int
) -> dict[str, NDArray[np.intp]]:
    groups: dict[bytes, list[int]] = {}
    for member in members.tolist():
        key = hashlib.blake2b(found.faces[member].tobytes(), digest_size=16).digest()
        groups.setdefault(key, []).append(member)
    dealt: dict[str, list[int]] = {split: [] for split in ("train", *others)}
    random = np.random.default_rng(seed)
    for label in range(len(found.classes)):
        # A group of equal images with unequal labels counts for the first one's class.
        mine = [group for group in groups.values() if found.labels[group[0]] == label]
        quota = max(1, round(sum(map(len, mine)) / 10))
        room = dict.fromkeys(others, quota)
        for turn, place in enumerate(random.permutation(len(mine)).tolist()):
            group = mine[place]
            # The first one dealt is train's, so that no class leaves it empty.
            fits = [split for split in others if turn and room[split] >= len(group)]
            split = fits[0] if fits else "train"
            dealt[split] += group
            if fits:
                room[split] -= len(group)
    return {split: np.array(sorted(chosen), np.intp) for split, chosen in dealt.items()}
