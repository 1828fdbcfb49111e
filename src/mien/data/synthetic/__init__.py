"""A built-in data set of synthetic faces that are drawn from action units.

Grey faces of the seven emotions, each painted from about seventy numbers: the action units of its emotion, a
head, a pose and a light. With them everything in mien runs, and is tested, without a photograph. Results on
synthetic faces do not predict scores on real ones.
"""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien import _files
from mien.data.synthetic.faces import (
    PROTOTYPES,
    Actions,
    Face,
    Head,
    Light,
    Prototype,
    View,
    check_seed,
    describe,
    landmarks,
)
from mien.data.synthetic.painting import check_size, paint
from mien.errors import DataError
from mien.labels import EMOTIONS

__all__ = [
    "LABEL_NOISE",
    "PROTOTYPES",
    "Actions",
    "Face",
    "Head",
    "Light",
    "Prototype",
    "View",
    "describe",
    "face",
    "landmarks",
    "paint",
    "sample",
    "write_archive",
]


#: Share of faces whose label is not the emotion drawn.
LABEL_NOISE = 0.04

_TICK = 100


def face(emotion: str, *, seed: int, size: int = 48) -> NDArray[np.uint8]:
    """Draw one face.

    Args:
        emotion: One of `mien.labels.EMOTIONS`.
        seed: At least 0; determines everything else.
        size: Side of the square image in pixels.

    Returns:
        `(size, size)` grey levels in [0, 255].

    Raises:
        DataError: The emotion is unknown, the seed is negative or the size is not positive.
    """
    return paint(describe(emotion, seed=seed), size=size)


def sample(
    count: int,
    *,
    seed: int,
    size: int = 48,
    label_noise: float = LABEL_NOISE,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Draw `count` faces with their labels.

    Face i and its label depend only on (seed, i), so that a longer sample begins with the shorter one. The
    emotions take turns in the order of `mien.labels.EMOTIONS`, so that class counts differ by at most 1.

    Args:
        count: Number of faces.
        seed: At least 0.
        size: Side of the square images in pixels.
        label_noise: Probability in [0, 1] that a label is not the emotion drawn but one of the others, with
            equal probabilities; it does not change pixels.
        progress: Called with (done, total) as faces are drawn.

    Returns:
        Images `(count, size, size, 1)` uint8 in [0, 255]; labels `(count,)` int64 with noise; and the
        emotions drawn `(count,)` int64. Both are indices into `mien.labels.EMOTIONS`.

    Raises:
        DataError: The count or the seed is negative, the size is not positive, or the label noise is not in
            [0, 1].
    """
    if count < 0:
        raise DataError(
            f"the number of faces is {count}; it must be at least 0, or at least 7 to have every emotion"
        )
    if not 0 <= label_noise <= 1:
        raise DataError(f"the label noise is {label_noise}; give a probability in [0, 1], such as 0.04")
    check_seed(seed)
    check_size(size)
    images = np.empty((count, size, size, 1), np.uint8)
    truth = np.arange(count, dtype=np.int64) % len(EMOTIONS)
    labels = truth.copy()
    for index in range(count):
        images[index, :, :, 0] = paint(describe(EMOTIONS[truth[index]], seed=(seed, index)), size=size)
        # A separate stream, so that the label noise does not change the pixels.
        rng = np.random.default_rng((seed, index, 1))
        if rng.random() < label_noise:
            labels[index] = (truth[index] + rng.integers(1, len(EMOTIONS))) % len(EMOTIONS)
        if progress is not None and ((index + 1) % _TICK == 0 or index + 1 == count):
            progress(index + 1, count)
    return images, labels, truth


def write_archive(
    path: str | os.PathLike[str],
    *,
    train: int,
    val: int,
    test: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write synthetic faces as a zip of class folders, `data/{train,val,test}/<emotion>/<number>.png`.

    The faces are `sample(train + val + test, seed=seed)` in this order, in the folders of their labels. The
    same arguments give the same bytes. The file appears whole or not at all.

    Args:
        path: The zip to write; an existing file is replaced, and a missing folder is created.
        train: Number of training faces.
        val: Number of validation faces.
        test: Number of test faces.
        seed: At least 0.
        progress: Called with (done, total) as faces are drawn.

    Returns:
        `path`.

    Raises:
        DataError: A count or the seed is negative.
    """
    counts = {"train": train, "val": val, "test": test}
    if min(counts.values()) < 0:
        raise DataError(
            f"a split has {min(counts.values())} faces; it must have at least 0, or at least 7 to have "
            "every emotion"
        )
    images, labels, _ = sample(sum(counts.values()), seed=seed, progress=progress)
    splits = np.repeat(list(counts), list(counts.values()))

    def zip_up(beside: Path) -> None:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
            for index, (split, label) in enumerate(zip(splits, labels, strict=True)):
                # ZipInfo's own date, 1980, is the same on every day.
                name = zipfile.ZipInfo(f"data/{split}/{EMOTIONS[label]}/{index:06}.png")
                name.external_attr = 0o644 << 16
                name.create_system = 3
                archive.writestr(name, _png(images[index, :, :, 0]))

    _files.fill(path, zip_up)
    return Path(path)


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", compress_level=6)
    return buffer.getvalue()
