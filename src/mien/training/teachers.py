"""Teachers that answer augmented views of the training images, which a student learns from worse copies.

A view is a changed copy of every training image; view 0 is the image itself. Views are a pure function of
their settings, so only the teachers' probabilities are kept: one file for each view, in the run's folder. In
epoch e, the student learns view e modulo their number, changed further by the recipe's `augment`.

Source: distillation that is patient and consistent, Beyer et al. 2022, arXiv:2106.05237.
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import _arrays, _files
from mien._text import shorten
from mien.data.datasets import Dataset, Split
from mien.data.probabilities import SavedPredictions
from mien.errors import DataError, RecipeError
from mien.models.model_files import Model
from mien.training import augmentation, targets
from mien.training.recipes import Recipe, Views

#: Most bytes of all probabilities, which are in memory and on disk.
MAX_BYTES = 1 << 30

#: A model's output, by the student's output that learns it.
OUTPUTS = {"answer": "probabilities", "ferplus": "ferplus"}

_BLOCK = 2048
#: Seconds between two looks at a folder that another process writes to.
_WAIT = 0.5
_FILE = "view-{:04d}.npz"

#: Returns a model's probabilities `(n, labels)` by output for images `(n, s, s, 1)`.
Answer = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]


@dataclass(frozen=True, eq=False)
class Teachers:
    """Models that a training distils from; the student learns the mean of their probabilities.

    Args:
        models: One or more models.
    """

    models: tuple[Model, ...]

    @property
    def about(self) -> str:
        """A description in one line."""
        names = shorten([model.card.name for model in self.models])
        return names if len(self.models) == 1 else f"mean of {len(self.models)} models: {names}"

    @property
    def sha256(self) -> str:
        """SHA-256 of the models' checksums."""
        return hashlib.sha256(" ".join(model.card.sha256 or "" for model in self.models).encode()).hexdigest()

    def outputs(self) -> list[str]:
        """Return the outputs that all models have: `probabilities`, and perhaps `ferplus`."""
        found = [{head.output for head in model.card.heads.values()} for model in self.models]
        return [name for name in OUTPUTS.values() if all(name in each for each in found)]


@dataclass(frozen=True, eq=False)
class ViewAnswers:
    """What the teachers answer to the views of a training split.

    Args:
        views: The settings of the views.
        answers: Probabilities `(views, n, labels)` float16 by the student's output.
    """

    views: Views
    answers: dict[str, NDArray[np.float16]]

    def at(self, epoch: int) -> int:
        """Return the number of the view that an epoch uses."""
        return epoch % len(self.answers["answer"])


def effective(views: Views) -> Views:
    """Return the settings with at least one view; one view is the images themselves."""
    return views if views.count else Views(count=1)


def view_images(
    images: NDArray[np.uint8], indices: NDArray[np.integer[Any]], views: Views, number: int
) -> NDArray[np.uint8]:
    """Return the images of a view, `(b, s, s, 1)` uint8.

    Args:
        images: All training images `(n, s, s, 1)` uint8.
        indices: Those that are wanted.
        views: The settings.
        number: The view; 0 changes nothing.
    """
    if number == 0:
        whole: NDArray[np.uint8] = images[indices]
        return whole
    return augmentation.augment_batch(images, indices, views.augment, seed=views.seed, epoch=number)


def check(teachers: Teachers, labels: Sequence[str], recipe: Recipe, images: int) -> None:
    """Check that teachers fit a training.

    Args:
        teachers: The models.
        labels: The classes of the data.
        recipe: The recipe.
        images: Number of training images.

    Raises:
        DataError: A model has other classes, another input size, or lacks an output.
        RecipeError: The probabilities would need more than `MAX_BYTES`.
    """
    for model in teachers.models:
        card = model.card
        if sorted(card.labels) != sorted(labels):
            raise DataError(
                f"the teacher {card.name} has the classes {', '.join(card.labels)}, the data has "
                f"{', '.join(labels)}; use a teacher with the classes of the data"
            )
        if card.size != recipe.size:
            raise DataError(
                f"the teacher {card.name} takes images of {card.size} pixels, the recipe has size="
                f"{recipe.size}; add --set size={card.size}, or use another teacher"
            )
    outputs = teachers.outputs()
    if recipe.targets.ferplus and "ferplus" not in outputs:
        raise DataError(
            "the recipe trains a second output, and not all teachers have one; set targets.ferplus=0, or "
            "name teachers with both"
        )
    heads = 2 if recipe.targets.ferplus else 1
    count = effective(recipe.views).count
    size = count * images * len(labels) * heads * 2
    if size > MAX_BYTES:
        most = MAX_BYTES // (size // count)
        raise RecipeError(
            f"the answers to {count} views of {images:,} images need {size / 2**30:.1f} GiB, more than "
            f"{MAX_BYTES / 2**30:g}; set views.count={most}"
        )


def make_targets(
    dataset: Dataset, recipe: Recipe, teacher: SavedPredictions | Teachers | None
) -> targets.Targets:
    """Return the targets of a training, and check that its teacher fits it.

    The columns of teachers that answer views are not among the targets of train.

    Raises:
        DataError: As `check`, or as `targets.make_targets`.
        RecipeError: As `check`; or the recipe has views, and no models answer them.
    """
    if isinstance(teacher, Teachers):
        check(teacher, dataset.labels, recipe, len(dataset.split("train")))
        return targets.make_targets(dataset, recipe, None, views=True)
    if recipe.views.count:
        raise RecipeError(
            f"the recipe learns from what models answer to {recipe.views.count} views of each image, which "
            "no file of probabilities has; name models with --teacher, or set views.count=0"
        )
    return targets.make_targets(dataset, recipe, teacher)


def answer_views(
    teachers: Teachers,
    split: Split,
    labels: Sequence[str],
    recipe: Recipe,
    folder: str | os.PathLike[str],
    *,
    lock: str | os.PathLike[str] | None = None,
    answer_with: Callable[[Model], Answer] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ViewAnswers:
    """Let teachers answer all views of a split, or read the answers that an earlier call kept.

    Processes can share the folder with a lock; the first one writes the answers, and the others wait for it.

    Args:
        teachers: The models.
        split: The training images.
        labels: The classes of the data.
        recipe: Gives views, and whether the second output is needed.
        folder: Where the answers are kept, one file for each view.
        lock: A file that is locked meanwhile; None if no other process uses the folder.
        answer_with: Returns how a model answers; None for ONNX Runtime.
        progress: Called with (images done, images in all).

    Raises:
        OutputError: A file cannot be written.
        ModelError: A model cannot be run.
    """
    views = effective(recipe.views)
    outputs = OUTPUTS if recipe.targets.ferplus else {"answer": OUTPUTS["answer"]}
    about = hashlib.sha256(
        repr((teachers.sha256, split.fingerprint, tuple(labels), sorted(outputs), views)).encode()
    ).hexdigest()
    answerers: list[Answer] = []
    shape = views.count, len(split), len(labels)
    found = {name: np.empty(shape, np.float16) for name in outputs}
    with _files.writing(folder):
        Path(folder).mkdir(exist_ok=True)

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, views.count * len(split))

    with nullcontext() if lock is None else _files.hold_when_free(lock, seconds=_WAIT):
        for number in range(views.count):
            file = Path(folder) / _FILE.format(number)
            kept = _read(file, about, shape[1:], outputs)
            if kept is None:
                answerers = answerers or [(answer_with or by_onnx)(model) for model in teachers.models]
                kept = _ask(teachers, answerers, split, labels, views, number, outputs, tell)
                _write(file, about, kept)
            for name, rows in kept.items():
                found[name][number] = rows
            tell((number + 1) * len(split))
    return ViewAnswers(views, found)


def _ask(
    teachers: Teachers,
    answerers: Sequence[Answer],
    split: Split,
    labels: Sequence[str],
    views: Views,
    number: int,
    outputs: Mapping[str, str],
    tell: Callable[[int], None],
) -> dict[str, NDArray[np.float16]]:
    """Return the mean of the models' probabilities for one view; `tell` gets how many images are done."""
    orders = [[model.card.labels.index(label) for label in labels] for model in teachers.models]
    found = {name: np.empty((len(split), len(labels)), np.float16) for name in outputs}
    for start in range(0, len(split), _BLOCK):
        if start:
            tell(number * len(split) + start)
        rows = np.arange(start, min(start + _BLOCK, len(split)))
        images = view_images(split.images, rows, views, number)
        answers = [answer(images) for answer in answerers]
        for name, output in outputs.items():
            parts = [each[output][:, order] for each, order in zip(answers, orders, strict=True)]
            found[name][rows] = np.mean(parts, axis=0)
    return found


def by_onnx(model: Model) -> Answer:
    """Return how a model answers images in ONNX Runtime."""

    def answer(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        found = model.run_heads(images)
        return {head.output: found[name] for name, head in model.card.heads.items()}

    return answer


def _write(file: Path, about: str, rows: Mapping[str, NDArray[np.float16]]) -> None:
    _files.write(file, _arrays.pack(rows, {"about": about}))


def _read(
    file: Path, about: str, shape: tuple[int, ...], outputs: Mapping[str, str]
) -> dict[str, NDArray[np.float16]] | None:
    """Return the kept answers to a view; None if they are missing, damaged or of other teachers."""
    try:
        rows, facts = _arrays.read(file, MAX_BYTES)
    except (OSError, ValueError, KeyError):
        return None
    if facts != {"about": about} or rows.keys() != outputs.keys():
        return None
    if any(each.dtype != np.float16 or each.shape != shape for each in rows.values()):
        return None
    return {name: each.astype(np.float16) for name, each in rows.items()}
