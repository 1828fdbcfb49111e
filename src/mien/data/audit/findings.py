"""Findings of an audit, each with the images that show it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mien._text import make_encodable
from mien.data import image_cache
from mien.data.datasets import Dataset, Split

Severity: TypeAlias = Literal["error", "warning", "note"]

#: From the worst to the least.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Case:
    """Images that show a finding together, such as an image and its copy.

    Args:
        files: The images' names, as in `Split.files`.
        text: A short description.
        images: Their indices into `Material.images`; empty for files that could not be read.
    """

    files: tuple[str, ...]
    text: str
    images: tuple[int, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One notable property of a data set.

    Args:
        kind: A fixed name, such as `exact duplicates across splits`.
        severity: `error` makes scores wrong, `warning` costs accuracy or trust, `note` is good to know.
        evidence: The measurement, in one sentence with numbers.
        advice: What to do.
        cases: Every case, the worst first.
    """

    kind: str
    severity: Severity
    evidence: str
    advice: str
    cases: tuple[Case, ...] = ()

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Every file of the cases once, in their order."""
        return tuple(dict.fromkeys(file for case in self.cases for file in case.files))

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain values."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "evidence": self.evidence,
            "advice": self.advice,
            "files": [make_encodable(file) for file in self.files],
            "cases": [
                {"files": [make_encodable(file) for file in case.files], "text": make_encodable(case.text)}
                for case in self.cases
            ],
        }


@dataclass(frozen=True)
class Removal:
    """A training image to leave out.

    Args:
        file: Its name, as in `Split.files`.
        reason: A fixed text, so that reasons can be counted.
        evidence: A measurement, or the name of the image that it repeats.
        sha256: Hash of its pixels as loaded, for names that a csv cannot contain.
    """

    file: str
    reason: str
    evidence: str
    sha256: str


@dataclass(frozen=True)
class Material:
    """The images of all splits in one array.

    Args:
        dataset: The data set.
        images: `(n, s, s, 1)` uint8, split after split.
        labels: `(n,)` int64.
        files: The images' names.
        splits: `(n,)` the index of each image's split in `dataset.splits`.
        votes: `(n, 10)` float32, FER+ votes, or None.
        groups: The person or other group of each image, `""` if unknown; None if the source names none.
    """

    dataset: Dataset
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    files: tuple[str, ...]
    splits: NDArray[np.intp]
    votes: NDArray[np.float32] | None
    groups: tuple[str, ...] | None
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(split.name for split in self.dataset.splits))

    def members(self, split: str) -> NDArray[np.intp]:
        """Return the indices of a split's images; none if there is no such split."""
        if split not in self.names:
            return np.empty(0, np.intp)
        return np.flatnonzero(self.splits == self.names.index(split))

    def case(self, images: Sequence[int] | NDArray[np.integer[Any]], text: str) -> Case:
        """Return a case of the images with these indices."""
        indices = tuple(int(image) for image in images)
        return Case(tuple(self.files[image] for image in indices), text, indices)

    def removal(self, image: int, reason: str, evidence: str) -> Removal:
        """Return the removal of an image."""
        digest = hashlib.sha256(self.images[image].tobytes()).hexdigest()
        return Removal(self.files[image], reason, evidence, digest)

    def label(self, image: int) -> str:
        """Return an image's class name."""
        return self.dataset.labels[int(self.labels[image])]

    def describe(self, image: int) -> str:
        """Return an image's split and class: `train: happy`."""
        return f"{self.names[int(self.splits[image])]}: {self.label(image)}"


def gather(dataset: Dataset) -> Material:
    """Return the splits of a data set as one array."""
    splits: tuple[Split, ...] = dataset.splits
    return Material(
        dataset=dataset,
        images=image_cache.join([split.images for split in splits]),
        labels=np.concatenate([split.labels for split in splits]),
        files=tuple(file for split in splits for file in split.files),
        splits=np.repeat(np.arange(len(splits)), [len(split) for split in splits]),
        votes=None if splits[0].votes is None else np.concatenate([_votes(split) for split in splits]),
        groups=None
        if all(split.groups is None for split in splits)
        else tuple(group for split in splits for group in split.groups or ("",) * len(split)),
    )


def _votes(split: Split) -> NDArray[np.float32]:
    assert split.votes is not None
    return split.votes
