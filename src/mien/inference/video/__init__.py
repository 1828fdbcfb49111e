"""Faces through a video: who is who, what each shows, at the file's own times, in constant memory.

    with video.read("interview.mp4") as reading:
        for frame in reading:
            for person in frame.people:
                print(frame.time, person.track, person.emotion, person.face.emotion)

Afterwards `reading.problems` says what of the file could not be read; it is empty for a whole one.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.errors import InputError, MissingExtra
from mien.types import Box
from mien.vision import detectors
from mien.vision.detectors import Detector, Found, Framing
from mien.vision.tracking import PATIENCE, SETTLE, Tracked, Tracker

try:
    # Every file behind this door needs it, and here alone its absence is told.
    import av  # noqa: F401
except ImportError as error:
    raise MissingExtra("video", "video") from error

from mien.inference.video.blur import hide
from mien.inference.video.clip import Clip, Picture
from mien.inference.video.journal import Journal, fingerprint
from mien.inference.video.people import People, Person, Span
from mien.inference.video.rows import Lines, Rows, row
from mien.inference.video.writer import Film, check_ending

if TYPE_CHECKING:
    import os

    from av.packet import Packet

    from mien.inference.predictor import Predictor
    from mien.models.model import Bundle

__all__ = [
    "LOOK",
    "Clip",
    "Film",
    "Frame",
    "Journal",
    "Lines",
    "People",
    "Person",
    "Picture",
    "Reading",
    "Rows",
    "Span",
    "check_ending",
    "fingerprint",
    "hide",
    "predictor",
    "read",
    "row",
]

#: Pixels of the longer side that a picture is shrunk to before the search (measured: docs/video.md).
LOOK = 400
#: Width in pixels of the shrunk picture that a detector is asked for: for smaller ones it would enlarge again
#: what was shrunk for speed.
_SMALLEST = 24


@dataclass(frozen=True)
class Frame:
    """One frame of a video and who is in it.

    Args:
        number: Frames of the file before it, counted from 0 whether they were looked at or not.
        time: Seconds, its presentation timestamp as the file has it.
        pts: The timestamp in the stream's own unit.
        looked: Whether faces were looked for; always so unless `between` was asked for.
        people: Those found, the largest face first.
        lost: Where those should be who are not found in it but were a moment ago, by track number.
    """

    number: int
    time: float
    pts: int
    looked: bool
    people: tuple[Tracked, ...]
    lost: Mapping[int, Box]
    _picture: Picture = field(repr=False, compare=False)

    def pixels(self) -> NDArray[np.uint8]:
        """Return the frame, `(h, w, 3)` RGB, 0..255, upright, its pixels square."""
        return self._picture.pixels()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, upright."""
        return self._picture.size


@dataclass(frozen=True)
class _Glance:
    """A detector that looks at a picture shrunk to `side` pixels."""

    detector: Detector
    side: int

    @property
    def name(self) -> str:
        return self.detector.name

    @property
    def framing(self) -> Framing:
        return self.detector.framing

    def find(self, image: NDArray[np.uint8], *, smallest: int) -> list[Found]:
        height, width = image.shape[:2]
        scale = min(1.0, self.side / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        if scale < 1:
            image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        across, down = width / size[0], height / size[1]
        return [
            Found(face.left * across, face.top * down, face.width * across, face.height * down, face.score)
            for face in self.detector.find(image, smallest=max(_SMALLEST, round(smallest * scale)))
        ]


def predictor(
    model: "Bundle | str | os.PathLike[str] | None" = None,
    *,
    detector: Detector | str | None = None,
    labels: str | None = None,
    look: int = LOOK,
    **options: Any,
) -> "Predictor":
    """Return a predictor that suits video: it searches a shrunk picture, and cuts faces from the full one.

    Args:
        model: As `mien.inference.predictor.Predictor` takes it.
        detector: As `mien.inference.predictor.Predictor` takes it.
        labels: Which of the model's readings answers.
        look: Pixels of the longer side that pictures are shrunk to before faces are looked for. The more, the
            smaller the faces that are found, and the slower.
        options: Whatever else `mien.inference.predictor.Predictor` takes.

    Raises:
        InputError: `look` is below 64.
    """
    from mien.inference.predictor import Predictor

    if look < 64:
        raise InputError(f"look is {look}; it is the longer side in pixels of what is looked at, at least 64")
    if detector is None or isinstance(detector, str):
        detector = detectors.load(detector)
    return Predictor(model, detector=_Glance(detector, look), labels=labels, **options)


class Reading:
    """The frames of a video, to be iterated over once. `read` makes one.

    `problems` fills as the file is read, and is complete once the frames are at their end.
    """

    def __init__(
        self,
        clip: Clip,
        look: Callable[[Picture], tuple[Any, ...]],
        tracker: Tracker,
        *,
        wanted: Callable[[int, float], bool],
        between: bool,
    ) -> None:
        self.clip = clip
        #: Seconds at which the last frame ends, as far as it was read.
        self.until = clip.begin
        #: Frames decoded so far, looked at or not.
        self.count = 0
        self._look, self._tracker, self._wanted, self._between = look, tracker, wanted, between

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clip.close()

    @property
    def problems(self) -> list[str]:
        """What of the file could not be read, a sentence each."""
        return self.clip.problems

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, *, on_packet: "Callable[[Packet[Any]], None] | None" = None) -> Iterator[Frame]:
        """Give one frame after the other.

        Args:
            on_packet: Called with each packet of the file's other streams, such as `Film.copy`.
        """
        for picture in self.clip.pictures(on_packet=on_packet):
            self.count += 1
            self.until = max(self.until, picture.time + picture.seconds)
            if self._wanted(picture.number, picture.time):
                people = self._tracker.update(picture.time, self._look(picture))
                width, height = picture.size
                seen = {person.track for person in people}
                lost = {
                    number: box
                    for number, box in self._tracker.expect(picture.time, width=width, height=height).items()
                    if number not in seen
                }
                yield Frame(picture.number, picture.time, picture.pts, True, people, lost, picture)
            elif self._between:
                yield Frame(picture.number, picture.time, picture.pts, False, (), {}, picture)


def read(
    path: "str | os.PathLike[str]",
    *,
    predictor: "Predictor | None" = None,
    every: int = 1,
    rate: float | None = None,
    patience: float = PATIENCE,
    settle: float = SETTLE,
    journal: Journal | None = None,
    between: bool = False,
) -> Reading:
    """Open a video and find out who is in it and what they show, a frame at a time.

    Args:
        path: A video file.
        predictor: Finds and reads the faces; None for `video.predictor()`.
        every: Look at every so manieth frame, the first among them.
        rate: Look at so many frames a second at most: at each multiple of 1 / `rate` seconds after the first
            frame, the first frame from there on. Not together with `every`.
        patience: Seconds after which somebody who is not seen is gone.
        settle: Seconds in which smoothed scores go 63 % of the way to new ones.
        journal: Keeps what is found, and knows what an earlier run found.
        between: Give the frames that are not looked at as well.

    Returns:
        An iterable of `Frame`; use it in a `with`.

    Raises:
        VideoError: There is no such file, or it is no video. While iterating: nothing of it can be decoded.
        InputError: `every` or `rate` is out of range, or both are given.
    """
    wanted = _sampling(every, rate)
    if not (0 <= patience < math.inf and 0 <= settle < math.inf):
        raise InputError(f"patience is {patience} and settle {settle}; both are seconds, at least 0")
    clip = Clip(path)
    asked = predictor if predictor is not None else _default()

    def look(picture: Picture) -> tuple[Any, ...]:
        known = journal.get(picture.number) if journal is not None else None
        if known is None:
            name = f"{Path(path).name}:{picture.number}"
            known = asked.image(picture.pixels(), name=name, auto_rotate=False).faces
            if journal is not None:
                journal.put(picture.number, known)
        return known

    tracker = Tracker(patience=patience, settle=settle, threshold=asked.threshold)
    return Reading(clip, look, tracker, wanted=wanted, between=between)


def _default() -> "Predictor":
    return predictor()


def _sampling(every: int, rate: float | None) -> Callable[[int, float], bool]:
    if every < 1:
        raise InputError(f"every is {every}; it counts frames, at least 1")
    if rate is None:
        return lambda number, _: number % every == 0
    if every != 1:
        raise InputError("every and rate are two ways to choose frames; give one of them")
    if not 0 < rate < math.inf:
        raise InputError(f"rate is {rate}; it is frames a second, a number above 0")
    pace, first, due = rate, 0.0, -1

    def wanted(number: int, time: float) -> bool:
        nonlocal first, due
        if number == 0 or time < first:
            first, due = time, -1
        # A hair of tolerance, or 0.1 × 30 frames would fall just short of 3.
        reached = int((time - first) * pace + 1e-6)
        if reached <= due:
            return False
        due = reached
        return True

    return wanted
