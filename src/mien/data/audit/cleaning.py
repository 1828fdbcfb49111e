"""A clean copy of a data set: what to drop, move and relabel, by rules."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mien.data.audit.annotator_votes import faceless
from mien.data.audit.findings import Material
from mien.data.audit.image_quality import Measures
from mien.data.audit.recrops import Recut
from mien.data.duplicates import Duplicates
from mien.labels import VOTES


@dataclass(frozen=True)
class Change:
    """One change between a data set and its clean copy.

    Args:
        file: The image's name, as in `Split.files`.
        change: `drop`, `move` or `relabel`.
        was: The split that it was in, or its label.
        becomes: The split or label that it has in the copy; empty for what is dropped.
        reason: Why.
    """

    file: str
    change: str
    was: str
    becomes: str
    reason: str


@dataclass(frozen=True, eq=False)
class Plan:
    """What a clean copy holds.

    Args:
        kept: `(n,)` bool, whether each image of `Material.images` stays.
        splits: `(n,)` the place of each image's split in `Material.names`.
        labels: `(n,)` each image's label.
        changes: Every change, and why.
    """

    kept: NDArray[np.bool_]
    splits: NDArray[np.intp]
    labels: NDArray[np.int64]
    changes: tuple[Change, ...]


def plan(
    material: Material,
    measures: Measures,
    found: Duplicates,
    recuts: tuple[Recut, ...] = (),
    *,
    regroup: bool = False,
) -> Plan:
    """Decide what a clean copy holds.

    In this order: images that cannot be read, that a list left out of training, that are blank or that
    taggers call no face are dropped. Equal images get one label: the one among theirs that has most votes, or
    without votes the most frequent; where two have as many, all of them are dropped. Copies across splits,
    and photographs cut otherwise, are dropped from train and, where they stand in test, from val; or, to
    `regroup`, all of them move to train, and those of val and test to val. Of equal images in one split the
    first stays.

    Args:
        material: The images.
        measures: What was measured of them.
        found: Their copies.
        recuts: Photographs that stand in two splits, cut otherwise.
        regroup: Move copies into one split instead of dropping them.
    """
    work = _Work(material)
    for problem in material.dataset.problems:
        work.changes.append(Change(problem.file, "drop", "", "", f"unreadable: {problem.reason}"))
    for item in material.dataset.excluded:
        reason = f"left out by a list: {item.reason}"
        work.changes += [Change(file, "drop", "train", "", reason) for file in item.files]
    for place in np.flatnonzero(~measures.telling).tolist():
        work.drop(place, "constant" if measures.contrast[place] == 0 else "nearly blank")
    for place in faceless(material).tolist():
        work.drop(place, "not a face by votes")
    for group in found.groups(near=False):
        _agree(work, group)
    if regroup:
        _regroup(work, _linking(found, recuts))
    else:
        _part(work, found, _linking(found, recuts))
    for group in found.groups(near=False):
        seen: dict[int, int] = {}
        for place in work.of(group):
            first = seen.setdefault(int(work.splits[place]), place)
            if first != place:
                work.drop(place, f"equal to {material.files[first]}")
    return Plan(work.kept, work.splits, work.labels, tuple(work.changes))


class _Work:
    """A plan in the making."""

    def __init__(self, material: Material) -> None:
        self.material = material
        self.kept = np.ones(len(material.images), bool)
        self.splits = material.splits.copy()
        self.labels = material.labels.copy()
        self.changes: list[Change] = []

    def of(self, places: NDArray[np.int64]) -> list[int]:
        return [place for place in places.tolist() if self.kept[place]]

    def members(self, split: str) -> NDArray[np.intp]:
        if split not in self.material.names:
            return np.empty(0, np.intp)
        return np.flatnonzero(self.kept & (self.splits == self.material.names.index(split)))

    def drop(self, place: int, reason: str) -> None:
        if self.kept[place]:
            self.kept[place] = False
            self._note(place, "drop", self._split(place), "", reason)

    def move(self, place: int, split: int, reason: str) -> None:
        if self.splits[place] != split:
            was = self._split(place)
            self.splits[place] = split
            self._note(place, "move", was, self._split(place), reason)

    def relabel(self, place: int, label: int, reason: str) -> None:
        if self.labels[place] != label:
            names = self.material.dataset.labels
            was = names[self.labels[place]]
            self.labels[place] = label
            self._note(place, "relabel", was, names[label], reason)

    def _split(self, place: int) -> str:
        return str(self.material.names[int(self.splits[place])])

    def _note(self, place: int, change: str, was: str, becomes: str, reason: str) -> None:
        self.changes.append(Change(self.material.files[place], change, was, becomes, reason))


def _agree(work: _Work, group: NDArray[np.int64]) -> None:
    """Give equal images one label, or drop them where none is better than another."""
    places = work.of(group)
    labels = Counter(int(work.labels[place]) for place in places)
    if len(labels) < 2:
        return
    votes = work.material.votes
    weight: dict[int, float] = dict(labels)
    if votes is not None:
        names = work.material.dataset.labels
        ballots = votes[places].sum(axis=0)
        weight = {label: float(ballots[VOTES.index(names[label])]) for label in labels}
    best, *others = sorted(weight, key=lambda label: -weight[label])
    names_of = ", ".join(sorted(work.material.dataset.labels[label] for label in labels))
    for place in places:
        if weight[best] == weight[others[0]]:
            work.drop(place, f"equal images are labelled {names_of}, and none is more frequent")
        else:
            by = "most frequent" if votes is None else "voted for most"
            work.relabel(place, best, f"equal images are labelled {names_of}; this is {by}")


def _linking(found: Duplicates, recuts: tuple[Recut, ...]) -> Duplicates:
    """Return copies among which photographs cut otherwise count as near."""
    pairs = [found.first[np.stack([each.one, each.other], axis=1)] for each in recuts]
    return replace(found, pairs=np.concatenate([found.pairs, *pairs]))


def _part(work: _Work, found: Duplicates, linking: Duplicates) -> None:
    """Drop from val what stands in test, and from train what stands in either."""
    for here, there in (("val", "test"), ("train", "test"), ("train", "val")):
        asked = work.members(here)
        equal, near = found.again(asked, work.members(there))
        cut = linking.again(asked, work.members(there))[1] & ~near
        for word, hits in (("equal to", equal), ("near", near), ("cut otherwise from", cut)):
            for place in asked[hits].tolist():
                work.drop(place, f"{word} an image of {there}")


def _regroup(work: _Work, found: Duplicates) -> None:
    """Move what is linked by copies into one split: train where one of them is there, else val."""
    for places in _linked(work, found):
        # Splits stand in the order train, val, test.
        target = min(int(work.splits[place]) for place in places)
        for place in places:
            work.move(place, target, f"a copy stands in {work.material.names[target]}")


def _linked(work: _Work, found: Duplicates) -> Iterator[list[int]]:
    for group in found.groups():
        places = work.of(group)
        if places:
            yield places
