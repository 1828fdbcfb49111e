"""Save the probabilities of a split's images, for distillation, audits and comparisons.

stored = probabilities.read("out-of-fold.npz")
stored.answers["probabilities"]        # (n, labels) float32, each row summing to 1

A file contains the fingerprint of its split. 28,709 images × 7 classes take 0.4 MB.
"""

import hashlib
import io
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import _arrays, _files
from mien.errors import DataError

#: Largest file in bytes, and largest array in it: a million images of 32 classes.
MAX_BYTES = 256 << 20

_OUTPUTS = ("probabilities", "ferplus")
_FACTS = ("fingerprint", "labels", "about")
#: Most characters of a file's description that are read, because it goes into cards and messages.
_LONGEST = 300
#: Unicode categories that no name may have: control, surrogate, and line and paragraph separator.
_UNSHOWABLE = ("Cc", "Cs", "Zl", "Zp")


@dataclass(frozen=True, eq=False)
class SavedPredictions:
    """Probabilities for every image of one split.

    Args:
        fingerprint: Fingerprint of the split.
        labels: Class names, in the order of the columns.
        answers: Arrays `(n, labels)` float32 by a model's output: `probabilities`, and `ferplus` where the
            model gives a second answer.
        about: Short description of their origin.
    """

    fingerprint: str
    labels: tuple[str, ...]
    answers: Mapping[str, NDArray[np.float32]]
    about: str = ""

    @property
    def sha256(self) -> str:
        """SHA-256 of the fingerprint, the labels and the arrays."""
        digest = hashlib.sha256(repr((self.fingerprint, self.labels)).encode())
        for name in sorted(self.answers):
            digest.update(name.encode() + self.answers[name].astype("<f4").tobytes())
        return digest.hexdigest()

    def of(
        self, fingerprint: str, labels: Sequence[str], *, n: int | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Return the arrays for the split with this fingerprint, their columns in the order of `labels`.

        Args:
            fingerprint: Fingerprint of the split.
            labels: Class names.
            n: Number of images of the split, if it is to be checked.

        Raises:
            DataError: They are for another split, other classes or another number of images.
        """
        if self.fingerprint != fingerprint:
            raise DataError(
                f"the probabilities are for images with the fingerprint {self.fingerprint[:12]}, but these "
                f"images have {fingerprint[:12]}; use the data, size and exclusions that they were made with"
            )
        if sorted(self.labels) != sorted(labels):
            raise DataError(
                f"the probabilities are for the classes {', '.join(self.labels)}, the data has "
                f"{', '.join(labels)}"
            )
        for name, array in self.answers.items():
            if n is not None and len(array) != n:
                raise DataError(
                    f"the array {name!r} has {len(array):,} rows of probabilities for {n:,} images; the file "
                    "is damaged; make it again"
                )
        order = [self.labels.index(label) for label in labels]
        return {name: np.ascontiguousarray(array[:, order]) for name, array in self.answers.items()}


def write(path: str | os.PathLike[str], stored: SavedPredictions) -> None:
    """Write probabilities in float16; the file appears whole or not at all.

    Raises:
        DataError: They are not rows that sum to 1.
        OutputError: The file cannot be written.
    """
    _check(stored, str(path))
    halves: dict[str, Any] = {name: array.astype(np.float16) for name, array in stored.answers.items()}
    content = io.BytesIO()
    np.savez_compressed(
        content,
        fingerprint=np.array(stored.fingerprint),
        labels=np.array(stored.labels),
        about=np.array(stored.about),
        **halves,
    )
    _files.write(path, content.getvalue())


def read(path: str | os.PathLike[str]) -> SavedPredictions:
    """Read a file of probabilities; rows sum to 1 again.

    Raises:
        DataError: The file cannot be read, or contains something else.
    """
    name = Path(path).name
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {_files.reason(error)}") from None
    try:
        stored = _unpack(content)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{name!r} has no probabilities ({error}); mien train --folds and "
            "mien evaluate --probabilities write such files"
        ) from None
    _check(stored, name)
    return stored


def average(stored: Sequence[SavedPredictions]) -> SavedPredictions:
    """Return the mean of several models' probabilities, for the output heads that all of them have.

    Raises:
        DataError: No files are given, or they differ in split, number of images, classes or their order.
    """
    if not stored:
        raise DataError("no probabilities are given; name at least one file")
    first = stored[0]
    for other in stored[1:]:
        _check_alike(first, other)
    shared = [name for name in _OUTPUTS if all(name in each.answers for each in stored)]
    answers = {name: np.mean([each.answers[name] for each in stored], axis=0) for name in shared}
    about = first.about if len(stored) == 1 else f"mean of {len(stored)}: {first.about}"
    return SavedPredictions(first.fingerprint, first.labels, answers, about)


def _check_alike(first: SavedPredictions, other: SavedPredictions) -> None:
    """Check that two files are for the same images and classes."""
    if other.fingerprint != first.fingerprint:
        raise DataError(
            f"probabilities for different data cannot be averaged; the fingerprints are "
            f"{first.fingerprint[:12]} and {other.fingerprint[:12]}"
        )
    if other.labels != first.labels:
        what = "another order of" if sorted(other.labels) == sorted(first.labels) else "other"
        raise DataError(
            f"probabilities cannot be averaged if one file has {what} classes than the other: "
            f"{', '.join(first.labels)}; and {', '.join(other.labels)}; make both with the same labels"
        )
    rows = [len(each.answers["probabilities"]) for each in (first, other)]
    if rows[0] != rows[1]:
        raise DataError(
            f"probabilities of {rows[0]:,} and of {rows[1]:,} images cannot be averaged; one of the files is "
            "damaged; make it again"
        )


def _unpack(content: bytes) -> SavedPredictions:
    found = _arrays.unpack(content, MAX_BYTES)
    fingerprint, labels, about = (found[name] for name in _FACTS)
    for name, array, ndim in (("fingerprint", fingerprint, 0), ("labels", labels, 1), ("about", about, 0)):
        if array.dtype.kind != "U" or array.ndim != ndim:
            raise ValueError(f"{name!r} is not a {'list of names' if ndim else 'text'}")
    names = tuple(str(label) for label in labels)
    if any(unicodedata.category(letter) in _UNSHOWABLE for letter in "".join((str(fingerprint), *names))):
        raise ValueError("its fingerprint or labels have control characters")
    if len(set(names)) < len(names):
        raise ValueError("its labels contain a class twice")
    answers = {name: _rows(name, found[name]) for name in _OUTPUTS if name in found}
    said = "".join(letter for letter in str(about) if letter.isprintable())
    return SavedPredictions(str(fingerprint), names, answers, said[:_LONGEST])


def _rows(name: str, array: NDArray[Any]) -> NDArray[np.float32]:
    if array.dtype.kind not in "fiu" or array.ndim != 2:
        raise ValueError(f"{name!r} is {array.dtype} of shape {array.shape}, not a table of real numbers")
    # Numbers beyond float32 become infinite; `_check` refuses them, and rows of zeros.
    with np.errstate(all="ignore"):
        rows = array.astype(np.float32)
        # The sums of float16 rows are a few thousandths off.
        summed: NDArray[np.float32] = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-6)
    return summed


def _check(stored: SavedPredictions, name: str) -> None:
    if "probabilities" not in stored.answers:
        raise DataError(f"{name!r} has no array 'probabilities'; make the file again")
    n = stored.answers["probabilities"].shape[:1]
    for output, array in stored.answers.items():
        if (
            array.dtype.kind != "f"
            or array.shape != (*n, len(stored.labels))
            or not (
                np.isfinite(array).all()
                and (array >= 0).all()
                and np.allclose(array.sum(axis=1), 1, atol=1e-2)
            )
        ):
            raise DataError(
                f"the array {output!r} of {name!r} is not a table of probabilities: rows must sum to 1, "
                f"with a column for each of {len(stored.labels)} labels"
            )
