"""Images in, faces with emotions out.

    prediction = predict.image("photo.jpg")
    for face in prediction.faces:                    # the largest first; none where there is no face
        print(face.box, face.emotion, face.confidence, face.flags)

`image` and `images` make a `Predictor` for the call; keep one of your own where there are many calls.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mien import bundle as bundles
from mien import detect
from mien import images as door
from mien.bundle import Bundle
from mien.detect import Detector, Found
from mien.errors import ImageError, InputError
from mien.faces import Box, Face, Prediction
from mien.images import Source
from mien.predict.flags import BLURRED, flags_of
from mien.predict.paths import SUFFIXES, find
from mien.predict.record import (
    Record,
    as_csv,
    as_jsonl,
    differing,
    facts_of,
    format_of,
    harmless,
    hold,
    keep_facts,
    rounded,
    short,
    sources,
    write,
)
from mien.predict.saving import is_saved, save, saved
from mien.predict.spread import spread
from mien.priors import Adjustment

__all__ = [
    "BATCH",
    "BLURRED",
    "SHARE",
    "SMALLEST",
    "SUFFIXES",
    "Predictor",
    "Problem",
    "Record",
    "as_csv",
    "as_jsonl",
    "differing",
    "facts_of",
    "find",
    "format_of",
    "harmless",
    "hold",
    "image",
    "images",
    "is_saved",
    "keep_facts",
    "name_of",
    "rounded",
    "save",
    "saved",
    "short",
    "sources",
    "spread",
    "write",
]

#: The smallest face that is looked for unless told otherwise: its width in pixels, or as a share of the
#: image's longer side, whichever is more. So one look at 960 pixels or fewer does for any photo.
SMALLEST, SHARE = 30, 1 / 40
#: Faces that are classified at once, and images that wait for one another at most.
BATCH = 32


@dataclass(frozen=True)
class Problem:
    """A source that could not be read.

    Args:
        source: What the source was called.
        reason: Why, in one sentence.
    """

    source: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Return what JSON holds of it."""
        return {"source": self.source, "problem": self.reason}


@dataclass(frozen=True)
class _Seen:
    """An image whose faces are found and cut, and not yet classified.

    Boxes are of the upright original, and so is `size`. Squares and `looked` are of the pixels that were
    looked at, of which a large picture has fewer.
    """

    source: str
    size: tuple[int, int]
    looked: tuple[int, int]
    boxes: tuple[Box, ...]
    sure: tuple[float | None, ...]
    squares: tuple[tuple[float, float, float], ...]
    crops: NDArray[np.uint8]


class Predictor:
    """A model and a detector, ready for any number of images and threads.

    Threads that share one get the same bits as serial calls would: a model runs on one thread of its own a
    call, and an answer does not depend on what else is in its batch.

    Args:
        model: A loaded bundle; a shipped model's name or a bundle's path; None for the shipped default.
        detector: What finds faces, or its name; None for the default of `mien.detect`.
        labels: Which of the model's readings answers; None for `consensus`, what people see, where the model
            has it, else the first of its card (docs/decisions/0004).
        smallest: Width in pixels below which faces need not be found; None for 30, or a fortieth of the
            image's longer side where that is more.
        whole_image: Take each image for one face, already cropped, and look for none.
        min_confidence: Leave out faces that the detector is less sure of, in [0, 1].
        balance: From 0, as frequent as in training, to 1, all emotions equally frequent; None for the card's
            choice for photographs (docs/priors.md).
        prior: How frequent each emotion is in the images, instead of a balance.
        groups: Emotions whose probabilities are added up, by the name of the group.

    Raises:
        ModelError: There is no such model or reading.
        InputError: There is no such detector, `smallest` is below 1, or balance, prior or groups cannot be
            used with the model.
    """

    def __init__(
        self,
        model: Bundle | str | os.PathLike[str] | None = None,
        *,
        detector: Detector | str | None = None,
        labels: str | None = None,
        smallest: int | None = None,
        whole_image: bool = False,
        min_confidence: float = 0.0,
        balance: float | None = None,
        prior: Mapping[str, float] | None = None,
        groups: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        if smallest is not None and smallest < 1:
            raise InputError(f"smallest is {smallest}; it is the width of a face in pixels, at least 1")
        if not 0 <= min_confidence <= 1:
            raise InputError(f"min_confidence is {min_confidence}; it must be a number from 0 to 1")
        self.model = model if isinstance(model, Bundle) else bundles.load(model, threads=1)
        if labels is None:
            readings = self.model.card.readings
            labels = "consensus" if "consensus" in readings else next(iter(readings))
        self.labels = labels
        self.reading = self.model.card.reading(self.labels)
        if balance is None:
            balance = 0.0 if prior else self.reading.balance
        self.adjustment = Adjustment(balance=balance, prior=prior or {}, groups=groups or {})
        self.adjustment.check(self.model.card.labels, self.reading.frequencies)
        #: What the scores of a face are called: the model's labels, or groups of them.
        self.names = self.adjustment.names(self.model.card.labels)
        self.threshold = self.reading.threshold_at(balance)
        self.smallest, self.whole_image = smallest, whole_image
        self.min_confidence = min_confidence
        self.detector: Detector | None = None
        if not whole_image:
            named = detector is None or isinstance(detector, str)
            self.detector = detect.load(detector) if named else detector  # type: ignore[arg-type, assignment]

    def __repr__(self) -> str:
        finder = self.detector.name if self.detector else None
        return f"Predictor({self.model!r}, labels={self.labels!r}, detector={finder!r})"

    def image(
        self, source: Source, *, name: str | None = None, channels: Literal["rgb", "bgr"] = "rgb"
    ) -> Prediction:
        """Return the faces of one image.

        Args:
            source: A path, bytes, a binary file, an array or a PIL image, as `mien.images.read` takes them.
            name: What the prediction calls the image; None for its path, or `image`.
            channels: Order of colours in an array of three or four channels.

        Raises:
            ImageError: It cannot be read.
        """
        seen = self._see(source, name or name_of(source), channels)
        return self._answer([seen])[0]

    def images(
        self, sources: Iterable[Source], *, channels: Literal["rgb", "bgr"] = "rgb", begin: int = 0
    ) -> Iterator[Prediction | Problem]:
        """Give the faces of one image after the other, in the order of the sources, in constant memory.

        The faces of several images are classified at once, so an answer may wait until `BATCH` faces or
        images are there.

        Args:
            sources: As for `image`; an endless iterable is fine.
            channels: Order of colours in arrays.
            begin: The number of the first source, where it has no name of its own.

        Yields:
            For each source a prediction, or a problem where it could not be read.
        """
        waiting: list[_Seen | Problem] = []
        faces = 0
        for number, source in enumerate(sources, start=begin):
            name = name_of(source, number)
            try:
                seen = self._see(source, name, channels)
            except ImageError as error:
                waiting.append(Problem(name, str(error)))
            else:
                waiting.append(seen)
                faces += len(seen.boxes)
            if faces >= BATCH or len(waiting) >= BATCH:
                yield from self._answers(waiting)
                waiting, faces = [], 0
        yield from self._answers(waiting)

    def _see(self, source: Source, name: str, channels: Literal["rgb", "bgr"]) -> _Seen:
        """Read an image, find its faces and cut them out."""
        picture = door.picture(source, channels=channels)
        pixels, size = picture.pixels, (picture.width, picture.height)
        looked = (pixels.shape[1], pixels.shape[0])
        side = self.model.card.size
        if self.detector is None:
            crops = door.fit(pixels, side)[np.newaxis]
            square = (0.0, 0.0, min(looked))
            return _Seen(name, size, looked, (Box(0, 0, *size),), (None,), (square,), crops)
        found: list[tuple[Box, Found]] = []
        smallest = self.smallest or max(SMALLEST, math.ceil(SHARE * max(size)))
        smallest = max(1, math.floor(smallest / max(picture.scale)))
        for face in self.detector.find(pixels, smallest=smallest):
            box_inside = _inside(face, size, picture.scale)
            if box_inside is not None and face.score >= self.min_confidence:
                found.append((box_inside, face))
        found.sort(key=lambda pair: -pair[0].area)
        squares = tuple(self.detector.framing.square(face) for _, face in found)
        crops = np.empty((len(found), side, side, 1), np.uint8)
        for number, square in enumerate(squares):
            crops[number] = door.cut(pixels, square, side)
        sure = tuple(face.score for _, face in found)
        return _Seen(name, size, looked, tuple(box for box, _ in found), sure, squares, crops)

    def _answers(self, waiting: list[_Seen | Problem]) -> Iterator[Prediction | Problem]:
        answered = iter(self._answer([each for each in waiting if isinstance(each, _Seen)]))
        for each in waiting:
            yield each if isinstance(each, Problem) else next(answered)

    def _answer(self, seen: list[_Seen]) -> list[Prediction]:
        """Classify the faces of several images at once."""
        side, adjustment = self.model.card.size, self.adjustment
        crops = (
            np.concatenate([each.crops for each in seen]) if seen else np.empty((0, side, side, 1), np.uint8)
        )
        chances = self.model.run(
            crops,
            labels=self.labels,
            batch_size=BATCH,
            balance=adjustment.balance,
            prior=adjustment.prior,
        )
        scores = adjustment.group(chances, self.model.card.labels)
        predictions, place = [], 0
        for each in seen:
            faces = []
            for number, box in enumerate(each.boxes):
                named = {label: float(score) for label, score in zip(self.names, scores[place], strict=True)}
                flags = flags_of(
                    max(named.values()),
                    crops[place],
                    each.squares[number],
                    each.looked,
                    threshold=self.threshold,
                )
                faces.append(Face(box, each.sure[number], named, flags))
                place += 1
            predictions.append(Prediction(each.source, *each.size, tuple(faces)))
        return predictions


def image(source: Source, **options: Any) -> Prediction:
    """Return the faces of one image.

    Args:
        source: A path, bytes, a binary file, an array or a PIL image, as `mien.images.read` takes them.
        options: What `Predictor` takes, and `name` and `channels` of `Predictor.image`.

    Raises:
        ImageError: It cannot be read.
    """
    call = {key: options.pop(key) for key in ("name", "channels") if key in options}
    return Predictor(**options).image(source, **call)


def images(sources: Iterable[Source], **options: Any) -> Iterator[Prediction | Problem]:
    """Give the faces of one image after the other, as `Predictor.images` does.

    Args:
        sources: Paths, arrays and the like.
        options: What `Predictor` takes, and `channels` of `Predictor.images`.
    """
    call = {key: options.pop(key) for key in ("channels",) if key in options}
    return Predictor(**options).images(sources, **call)


def name_of(source: Source, number: int | None = None) -> str:
    """Return what a prediction calls a source: its path as given, a file's name, or a number from 0."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    named = getattr(source, "filename", None) or getattr(source, "name", None)
    if isinstance(named, str) and named:
        return named
    return "image" if number is None else f"image {number}"


def _inside(face: Found, size: tuple[int, int], scale: tuple[float, float]) -> Box | None:
    """Return a detector's box in whole pixels of the original, as far as it lies inside the image."""
    (width, height), (across, down) = size, scale
    left, top = max(0, round(face.left * across)), max(0, round(face.top * down))
    right = min(width, round((face.left + face.width) * across))
    bottom = min(height, round((face.top + face.height) * down))
    if right <= left or bottom <= top:
        return None
    return Box(left, top, right - left, bottom - top)
