"""What an audit says: findings, each with the images that show it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mien.data.datasets import Dataset, Split

Severity: TypeAlias = Literal["error", "warning", "note"]

#: From the worst to the least.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Case:
    """Images that show a finding together, such as an image and its copy.

    Args:
        files: The images' names, as in `Split.files`.
        says: What there is to see, in a few words.
        images: Their places in `Material.images`; empty for files that could not be read.
    """

    files: tuple[str, ...]
    says: str
    images: tuple[int, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One thing that is notable about a data set.

    Args:
        kind: What it is, always in the same words: `equal across splits`.
        severity: `error` makes scores wrong, `warning` costs accuracy or trust, `note` is good to know.
        evidence: What was measured, in one sentence with numbers.
        advice: What to do about it.
        cases: Every case, the worst first.
    """

    kind: str
    severity: Severity
    evidence: str
    advice: str
    cases: tuple[Case, ...] = ()

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Every file that a case names, once, in the order of the cases."""
        return tuple(dict.fromkeys(file for case in self.cases for file in case.files))

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "evidence": self.evidence,
            "advice": self.advice,
            "files": [_plain(file) for file in self.files],
            "cases": [
                {"files": [_plain(file) for file in case.files], "says": _plain(case.says)}
                for case in self.cases
            ],
        }


@dataclass(frozen=True)
class Removal:
    """A training image that training is better without.

    Args:
        file: Its name, as in `Split.files`.
        reason: Why, in words that many share, so that reasons can be counted.
        evidence: What shows it, such as the name of the image that it repeats.
        sha256: Of its pixels as loaded, for names that a csv cannot hold.
    """

    file: str
    reason: str
    evidence: str
    sha256: str


@dataclass(frozen=True)
class Material:
    """A data set as one row of images, which is how it is audited.

    Args:
        dataset: What is audited.
        images: `(n, s, s, 1)` uint8, split after split.
        labels: `(n,)` int64.
        files: The images' names.
        splits: `(n,)` the place of each image's split in `dataset.splits`.
        votes: `(n, 10)` float32, FER+ votes, or None.
    """

    dataset: Dataset
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    files: tuple[str, ...]
    splits: NDArray[np.intp]
    votes: NDArray[np.float32] | None
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(split.name for split in self.dataset.splits))

    def members(self, split: str) -> NDArray[np.intp]:
        """Return the places of a split's images; none where there is no such split."""
        if split not in self.names:
            return np.empty(0, np.intp)
        return np.flatnonzero(self.splits == self.names.index(split))

    def case(self, images: Sequence[int] | NDArray[np.integer[Any]], says: str) -> Case:
        """Return a case of the images at these places."""
        places = tuple(int(place) for place in images)
        return Case(tuple(self.files[place] for place in places), says, places)

    def removal(self, place: int, reason: str, evidence: str) -> Removal:
        """Return the removal of the image at `place`."""
        digest = hashlib.sha256(self.images[place].tobytes()).hexdigest()
        return Removal(self.files[place], reason, evidence, digest)

    def label(self, place: int) -> str:
        """Return the name of the class that an image is labelled with."""
        return self.dataset.labels[int(self.labels[place])]

    def tell(self, place: int) -> str:
        """Return an image's split and class: `train: happy`."""
        return f"{self.names[int(self.splits[place])]}: {self.label(place)}"


def gather(dataset: Dataset) -> Material:
    """Put the splits of a data set into one row."""
    splits: tuple[Split, ...] = dataset.splits
    return Material(
        dataset=dataset,
        images=np.concatenate([split.images for split in splits]),
        labels=np.concatenate([split.labels for split in splits]),
        files=tuple(file for split in splits for file in split.files),
        splits=np.repeat(np.arange(len(splits)), [len(split) for split in splits]),
        votes=None if splits[0].votes is None else np.concatenate([_votes(split) for split in splits]),
    )


def _votes(split: Split) -> NDArray[np.float32]:
    assert split.votes is not None
    return split.votes


def _plain(text: str) -> str:
    """Names that are no UTF-8 on disk, in characters that every file can hold."""
    return text.encode(errors="backslashreplace").decode()
