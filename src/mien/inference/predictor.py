"""Images in, faces with emotions out.

    prediction = predict("photo.jpg")
    for face in prediction.faces:                    # the largest first; none where there is no face
        print(face.box, face.emotion, face.confidence, face.flags)

`predict` and `predict_many` make a `Predictor` for the call; make one yourself for many calls.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError, InputError
from mien.inference.image_files import check_sources
from mien.models import model as bundles
from mien.models.model import Model
from mien.models.priors import Adjustment, as_groups, as_prior, is_number
from mien.types import Box, Face, Flag, Prediction, Problem
from mien.vision import detectors
from mien.vision import images as door
from mien.vision.detectors import Detection, Detector, orientation
from mien.vision.images import Picture, Source

#: Sharpness of a crop below which it is called blurred. One of FER2013's 3,589 validation faces lies below,
#: and nineteen of twenty once a Gaussian of 1.5 pixels went over them (measured: docs/predict.md).
BLURRED = 0.2
#: Share of the frame's side that may lie beyond the image before a face is called cut.
CUT = 0.05


def flags_of(
    confidence: float,
    crop: NDArray[np.uint8],
    square: tuple[float, float, float],
    size: tuple[int, int],
    *,
    threshold: float | None,
) -> tuple[Flag, ...]:
    """Return the flags of a face, in the order of `mien.types.FLAGS`.

    - `uncertain`: the likeliest emotion is less likely than the card's threshold, above which the model
      answers four fifths of its validation images; never without one.
    - `small`: the frame has fewer pixels in the original than the model looks at, so that the crop is
      enlarged and holds less than any face that the model learnt from.
    - `blurred`: the crop's sharpness is below `BLURRED`.
    - `cut`: more than `CUT` of the frame's side lies beyond the image, and was made up from its edge.

    Args:
        confidence: The likeliest emotion's probability.
        crop: What the model looked at, `(s, s, 1)`, 0..255.
        square: Left, top and side of the frame in pixels of the image.
        size: Width and height of the image in pixels.
        threshold: The head's at the balance in use, from the card.
    """
    left, top, side = square
    beyond = max(-left, -top, left + side - size[0], top + side - size[1])
    told: dict[Flag, bool] = {
        "uncertain": threshold is not None and confidence < threshold,
        "small": side < crop.shape[0],
        "blurred": sharpness(crop) < BLURRED,
        "cut": beyond > CUT * side,
    }
    return tuple(flag for flag, holds in told.items() if holds)


def sharpness(crop: NDArray[np.uint8]) -> float:
    """Return how large a crop's second differences are beside its contrast.

    Args:
        crop: `(s, s, 1)`, 0..255.

    Returns:
        Standard deviation of the Laplacian over that of the pixels; 0 for an even crop.

    Source: variance of the Laplacian, Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548.
    """
    x = crop[:, :, 0].astype(np.float32)
    rough = 4 * x[1:-1, 1:-1] - x[:-2, 1:-1] - x[2:, 1:-1] - x[1:-1, :-2] - x[1:-1, 2:]
    return float(rough.std() / max(float(x.std()), 1.0))


#: The smallest face that is looked for unless told otherwise: its width in pixels, or as a share of the
#: image's longer side, whichever is more. So one look at 960 pixels or fewer does for any photo.
SMALLEST, SHARE = 30, 1 / 40
#: Faces that are classified at once, and images that wait for one another at most.
BATCH = 32


@dataclass(frozen=True)
class _Seen:
    """An image whose faces are found and cut, and not yet classified.

    Boxes are of the upright original, and so is `size`. Squares and `looked` are of the pixels that were
    looked at, of which a large picture has fewer. Both are of the image as it was read; `rotation` is how
    far it was turned for the faces to be upright.
    """

    source: str
    size: tuple[int, int]
    looked: tuple[int, int]
    boxes: tuple[Box, ...]
    sure: tuple[float | None, ...]
    squares: tuple[tuple[float, float, float], ...]
    crops: NDArray[np.uint8]
    rotation: int = 0


class Predictor:
    """A model and a detector, ready for any number of images and threads.

    Threads that share one get the same bits as serial calls would: a model runs on one thread of its own a
    call, and an answer does not depend on what else is in its batch.

    Example:
        >>> import mien
        >>> predictor = mien.Predictor("fast", min_confidence=0.8)
        >>> [face.emotion for face in predictor.image("photo.jpg").faces]
        ['happy']

    Args:
        model: A loaded bundle; a shipped model's name or a bundle's path; None for the shipped default.
        detector: What finds faces, or its name; None for the default of `mien.vision.detectors`.
        head: Which of the model's heads answers; None for `ferplus`, what people see, where the model
            has it, else the first of its card (docs/decisions/0004).
        smallest: Width in pixels below which faces need not be found; None for 30, or a fortieth of the
            image's longer side where that is more.
        whole_image: Take each image for one face, already cropped, and look for none.
        min_confidence: Leave out faces that the detector is less sure of, in [0, 1].
        auto_rotate: Look at images in four orientations if no sure face is found as they are, and read the
            faces upright. Boxes stay those of the image as it is; `Prediction.rotation` is the angle.
        balance: From 0, as frequent as in training, to 1, all emotions equally frequent; None for the card's
            choice for photographs (docs/priors.md).
        prior: How frequent each emotion is in the images, instead of a balance; numbers by emotion, or the
            command line's text `angry=0.3,neutral=0.7`.
        groups: Emotions whose probabilities are added up, by the name of the group; or the command line's
            text `positive=happy,negative=angry+sad`.

    Raises:
        ModelError: There is no such model or head.
        InputError: There is no such detector, an argument is of another type or out of range, or balance,
            prior or groups cannot be used with the model.
    """

    def __init__(
        self,
        model: Model | str | os.PathLike[str] | None = None,
        *,
        detector: Detector | str | None = None,
        head: str | None = None,
        smallest: int | None = None,
        whole_image: bool = False,
        min_confidence: float = 0.0,
        auto_rotate: bool = True,
        balance: float | None = None,
        prior: Mapping[str, float] | str | None = None,
        groups: Mapping[str, Sequence[str]] | str | None = None,
    ) -> None:
        if smallest is not None and not (is_number(smallest) and smallest >= 1):
            raise InputError(f"smallest is {smallest!r}; it is the width of a face in pixels, at least 1")
        if not (is_number(min_confidence) and 0 <= min_confidence <= 1):
            raise InputError(f"min_confidence is {min_confidence!r}; it must be a number from 0 to 1")
        self.model = model if isinstance(model, Model) else bundles.load(model, threads=1)
        self.head = self.model.card.photo_head(head)
        stated = self.model.card.head(self.head)
        prior, groups = as_prior(prior), as_groups(groups)
        balance = stated.balance_for(balance, prior)
        self.adjustment = Adjustment(balance=balance, prior=prior, groups=groups)
        self.adjustment.check(self.model.card.labels, stated.frequencies)
        #: What the scores of a face are called: the model's labels, or groups of them.
        self.names = self.adjustment.names(self.model.card.labels)
        self.threshold = stated.threshold_at(balance)
        self.smallest, self.whole_image = smallest, whole_image
        self.min_confidence, self.auto_rotate = min_confidence, auto_rotate
        self.detector: Detector | None = None
        if not whole_image:
            named = detector is None or isinstance(detector, str)
            self.detector = detectors.load(detector) if named else detector  # type: ignore[arg-type, assignment]

    def __repr__(self) -> str:
        finder = self.detector.name if self.detector else None
        return f"Predictor({self.model!r}, head={self.head!r}, detector={finder!r})"

    @property
    def facts(self) -> dict[str, Any]:
        """What predictions depend on, by the name of the option that sets it."""
        stated = self.adjustment.to_dict()
        facts: dict[str, Any] = {"model": self.model.card.sha256, "head": self.head}
        facts |= {"balance": stated["balance"], "prior": stated["prior"], "group": stated["groups"]}
        if self.detector is None:
            return facts | {"whole_image": True}
        facts |= {"detector": self.detector.name, "min_face": self.smallest}
        return facts | {"min_confidence": self.min_confidence, "auto_rotate": self.auto_rotate}

    def image(
        self,
        source: Source,
        *,
        name: str | None = None,
        channels: Literal["rgb", "bgr"] = "rgb",
        auto_rotate: bool | None = None,
    ) -> Prediction:
        """Return the faces of one image.

        Args:
            source: A path, bytes, a binary file, an array or a PIL image, as `images.read` takes them.
            name: What the prediction calls the image; None for its path, or `image`.
            channels: Order of colours in an array of three or four channels.
            auto_rotate: For this image, instead of the setting of the predictor.

        Raises:
            ImageError: It cannot be read.
        """
        seen = self._see(source, name or name_of(source), channels, auto_rotate)
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

        Returns:
            An iterator that gives for each source a prediction, or a problem if it could not be read.

        Raises:
            InputError: `sources` is one image, not a list.
        """
        check_sources(sources)
        return self._images(sources, channels, begin)

    def _images(
        self, sources: Iterable[Source], channels: Literal["rgb", "bgr"], begin: int
    ) -> Iterator[Prediction | Problem]:
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

    def _see(
        self,
        source: Source,
        name: str,
        channels: Literal["rgb", "bgr"],
        auto_rotate: bool | None = None,
    ) -> _Seen:
        """Read an image, find its faces and cut them out."""
        picture = door.picture(source, channels=channels)
        pixels, size = picture.pixels, (picture.width, picture.height)
        looked = (pixels.shape[1], pixels.shape[0])
        side = self.model.card.size
        if self.detector is None:
            crops = door.fit(pixels, side)[np.newaxis]
            square = (0.0, 0.0, min(looked))
            return _Seen(name, size, looked, (Box(0, 0, *size),), (None,), (square,), crops)
        seen = find_faces(
            self.detector,
            picture,
            smallest=self.smallest,
            min_confidence=self.min_confidence,
            auto_rotate=self.auto_rotate if auto_rotate is None else auto_rotate,
        )
        upright = (seen.pixels.shape[1], seen.pixels.shape[0])
        squares, crops = [], np.empty((len(seen.faces), side, side, 1), np.uint8)
        for number, (_, face) in enumerate(seen.faces):
            left, top, wide = self.detector.crop.square(face)
            crops[number] = door.cut(seen.pixels, (left, top, wide), side)
            back = Detection(left, top, wide, wide, face.score)
            back = orientation.turned(back, -seen.rotation // 90, upright)
            squares.append((back.left, back.top, wide))
        boxes = tuple(box for box, _ in seen.faces)
        sure = tuple(face.score for _, face in seen.faces)
        return _Seen(name, size, looked, boxes, sure, tuple(squares), crops, seen.rotation)

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
            head=self.head,
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
            predictions.append(Prediction(each.source, *each.size, tuple(faces), each.rotation))
        return predictions


def predict(source: Source, **options: Any) -> Prediction:
    """Return the faces of one image.

    Example:
        >>> import mien
        >>> for face in mien.predict("photo.jpg").faces:
        ...     print(face.emotion, face.flags)
        happy ()

    Args:
        source: A path, bytes, a binary file, an array or a PIL image, as `images.read` takes them.
        options: What `Predictor` takes, and `name` and `channels` of `Predictor.image`.

    Raises:
        ImageError: It cannot be read.
    """
    call = {key: options.pop(key) for key in ("name", "channels") if key in options}
    return Predictor(**options).image(source, **call)


def predict_many(sources: Iterable[Source], **options: Any) -> Iterator[Prediction | Problem]:
    """Give the faces of one image after the other, as `Predictor.images` does.

    Example:
        >>> import mien
        >>> [len(item.faces) for item in mien.predict_many(["photo.jpg", "photo.jpg"])]
        [1, 1]

    Args:
        sources: Paths, arrays and the like.
        options: What `Predictor` takes, and `channels` of `Predictor.images`.

    Raises:
        InputError: `sources` is one image, not a list.
    """
    check_sources(sources)
    call = {key: options.pop(key) for key in ("channels",) if key in options}
    return Predictor(**options).images(sources, **call)


@dataclass(frozen=True)
class Detected:
    """The faces of a picture before they are classified.

    Args:
        pixels: The picture's pixels, turned so that the faces are upright.
        faces: The largest first: each face's box in the original, and where it is in `pixels`.
        rotation: By how many degrees clockwise the pixels were turned: 0, 90, 180 or 270.
    """

    pixels: NDArray[np.uint8]
    faces: tuple[tuple[Box, Detection], ...]
    rotation: int


def find_faces(
    detector: Detector,
    picture: Picture,
    *,
    smallest: int | None = None,
    min_confidence: float = 0.0,
    auto_rotate: bool = True,
) -> Detected:
    """Return the faces of a picture in the order in which a prediction numbers them.

    Args:
        detector: What finds them.
        picture: The picture, as `mien.vision.images.picture` reads it.
        smallest: As `Predictor` takes it, in pixels of the original.
        min_confidence: As `Predictor` takes it.
        auto_rotate: As `Predictor` takes it.

    Returns:
        The faces inside the image that the detector is sure enough of.
    """
    pixels, size, scale = picture.pixels, (picture.width, picture.height), picture.scale
    wanted = smallest or max(SMALLEST, math.ceil(SHARE * max(size)))
    width = max(1, math.floor(wanted / max(scale)))
    found = detector.find(pixels, smallest=width)
    turns = orientation.quarter_turns(detector, pixels, found, smallest=width) if auto_rotate else 0
    if turns:
        pixels = np.ascontiguousarray(np.rot90(pixels, -turns))
        found = detector.find(pixels, smallest=width)
    upright = (pixels.shape[1], pixels.shape[0])
    faces = [
        (box, face)
        for face in found
        if face.score >= min_confidence
        and (box := _inside(orientation.turned(face, -turns, upright), size, scale)) is not None
    ]
    return Detected(pixels, tuple(sorted(faces, key=lambda pair: -pair[0].area)), 90 * turns)


def name_of(source: Source, number: int | None = None) -> str:
    """Return what a prediction calls a source: its path as given, a file's name, or a number from 0."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    named = getattr(source, "filename", None) or getattr(source, "name", None)
    if isinstance(named, str) and named:
        return named
    return "image" if number is None else f"image {number}"


def _inside(face: Detection, size: tuple[int, int], scale: tuple[float, float]) -> Box | None:
    """Return a detector's box in whole pixels of the original, as far as it lies inside the image."""
    (width, height), (across, down) = size, scale
    left, top = max(0, round(face.left * across)), max(0, round(face.top * down))
    right = min(width, round((face.left + face.width) * across))
    bottom = min(height, round((face.top + face.height) * down))
    if right <= left or bottom <= top:
        return None
    return Box(left, top, right - left, bottom - top)
