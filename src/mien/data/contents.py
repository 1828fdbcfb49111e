"""The labelled images that a source has, and the names of splits."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data.archives import Limits
from mien.data.class_names import Naming
from mien.data.face_crops import FaceReader
from mien.data.image_cache import AUTO_CACHE_BYTES, TooLargeForMemory
from mien.errors import DataError

#: The three splits, in this order everywhere.
SPLITS = ("train", "val", "test")

#: Bytes of pixels above which a data set is refused if it is kept in memory: 3.7 million images of 48 × 48.
MAX_PIXEL_BYTES = 8 * 2**30

_SPELLINGS = {
    "train": ("train", "training", "trainset", "trainingset", "traindata", "trainingdata"),
    "val": ("val", "valid", "validate", "validation", "validationset", "valset", "dev", "publictest"),
    "test": ("test", "testing", "testset", "testdata", "privatetest", "eval", "evaluation"),
}

_MEANING = {spelling: split for split, spellings in _SPELLINGS.items() for spelling in spellings}


@dataclass(frozen=True)
class Problem:
    """A file or row that could not be used, and was skipped.

    Args:
        file: Its name relative to the source, or `row 17`.
        reason: Why, in one sentence.
        split: Its split; `""` if the source or the row names none.
    """

    file: str
    reason: str
    split: str = ""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Every readable image of a source, in the source's own deterministic order.

    Args:
        classes: Class names; labels are indices into them.
        faces: Images `(size, size, 1)` uint8.
        labels: The label of each face.
        splits: The split of each face; `""` if the source has no splits.
        files: The file or row of each face.
        declared: The splits that the source names, even if they have no readable image.
        rows: For csv sources, the 0-based data row of each face.
        votes: FER+ annotator votes `(n, 10)` float32.
        groups: The person or other group of each face, which a split keeps together; `""` if unknown.
        problems: Skipped files and rows.
        notes: Remarks for the user.
    """

    classes: tuple[str, ...]
    faces: Sequence[NDArray[np.uint8]]
    labels: NDArray[np.int64]
    splits: Sequence[str]
    files: Sequence[str]
    declared: frozenset[str]
    rows: Sequence[int] | None = None
    votes: NDArray[np.float32] | None = None
    groups: Sequence[str] | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read a source.

    Args:
        size: Side of the images in pixels.
        votes: FER+ annotator votes for the rows of a csv of pixels.
        limits: What an archive may contain.
        images: The folder that the paths of a table are relative to, or that links lead to; None for the
            folder of the table.
        label_from: Finds the label in the path of each image.
        group_from: Finds the person or other group in the path of each image.
        naming: What the user says about the names of classes.
        reader: Reads images and keeps the faces; None for faces in memory.
    """

    size: int
    votes: Path | None = None
    limits: Limits | None = None
    images: Path | None = None
    label_from: re.Pattern[str] | None = None
    group_from: re.Pattern[str] | None = None
    naming: Naming = field(default_factory=Naming)
    reader: FaceReader | None = None

    @cached_property
    def faces(self) -> FaceReader:
        """What reads the images and keeps the faces."""
        return self.reader or FaceReader(self.size)


def split_named(name: str) -> str | None:
    """Return the split of a name, or None; case, spaces, `_`, `-` and `.` do not matter."""
    return _MEANING.get(re.sub(r"[\s._-]+", "", name.lower()))


def check_room(images: int, options: ReadOptions) -> None:
    """Refuse a data set whose pixels would not fit in memory, before they are all read.

    A file for the images gets their number, so that it can check the free space.

    Raises:
        DataError: The faces are kept in memory, and `images` of them are more than `MAX_PIXEL_BYTES`.
        TooLargeForMemory: They should be kept in a file.
    """
    size, reader = options.size, options.faces
    if reader.store is not None:
        reader.store.expect(images)
        return
    if reader.automatic and images * size * size > AUTO_CACHE_BYTES:
        raise TooLargeForMemory
    if images * size * size > MAX_PIXEL_BYTES:
        raise DataError(
            f"the data set has {images:,} images or more, which at {size} × {size} pixels is above the limit "
            f"of {MAX_PIXEL_BYTES // 2**30} GiB; take fewer images or a smaller size"
        )
