"""Faces through a video: who is who, what each shows, at the file's own times, in constant memory.

    with video.read("interview.mp4") as reading:
        for frame in reading:
            for person in frame.people:
                print(frame.time, person.track, person.emotion, person.face.emotion)

Afterwards `reading.problems` says what of the file could not be read; it is empty for a whole one.
"""

import contextlib
import csv
import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien import _files
from mien.errors import InputError, MissingExtra, VideoError
from mien.types import SCHEMA, Box, Face
from mien.vision import detectors
from mien.vision.detectors import CropTransform, Detection, Detector
from mien.vision.tracking import MAX_GAP, SMOOTHING, Tracked, Tracker

try:
    # Every file behind this door needs it, and here alone its absence is told.
    import av  # noqa: F401
except ImportError as error:
    raise MissingExtra("video", "video") from error

from mien.inference import batches
from mien.inference.video_files import Clip, Picture

if TYPE_CHECKING:
    from av.packet import Packet

    from mien.inference.predictor import Predictor
    from mien.models.model import Bundle


#: Tiles along a hidden face's side. Of so few nobody can be told, and no filter brings more back.
TILES = 5
#: How much larger than the box the hidden part is, in box widths on each side: ears, hair, a box that lags.
_MARGIN = 0.25


def hide(pixels: NDArray[np.uint8], boxes: Iterable[Box]) -> NDArray[np.uint8]:
    """Return a picture in which what lies in `boxes`, and a quarter around, is averaged to a few soft tiles.

    Args:
        pixels: `(h, w, 3)` RGB, 0..255; it stays as it is.
        boxes: In pixels of the picture.
    """
    hidden = pixels.copy()
    height, width = pixels.shape[:2]
    for box in boxes:
        across, down = round(_MARGIN * box.width), round(_MARGIN * box.height)
        left, top = max(0, box.left - across), max(0, box.top - down)
        right = min(width, box.left + box.width + across)
        bottom = min(height, box.top + box.height + down)
        part = Image.fromarray(hidden[top:bottom, left:right])
        tiles = part.resize((TILES, TILES), Image.Resampling.BOX)
        hidden[top:bottom, left:right] = np.asarray(tiles.resize(part.size, Image.Resampling.BICUBIC))
    return hidden


_VERSION = 1
_FIRST_BYTES = 1 << 20


def fingerprint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what tells one video file from another: its size, and the hash of its first MiB."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256(file.read(_FIRST_BYTES)).hexdigest()
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256_of_first_mib": digest}


class Journal:
    """A file of one JSON line a frame, deleted by `done` and where it has none. Use it in a `with`.

    Args:
        path: Where it is.
        facts: What the faces depend on: the video, the model, the options; JSON values.
        resume: Take what an earlier run left there; otherwise, or where it left nothing, start anew.

    Raises:
        VideoError: The journal is of another video, model or options.
        InputError: It cannot be written, or another process writes it.
    """

    def __init__(self, path: str | os.PathLike[str], facts: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path = Path(path)
        #: How many frames an earlier run left.
        self.kept = 0
        #: Whether lines of it were damaged, as a power cut leaves them; they and what follows are given up.
        self.damaged = False
        header = json.dumps({"journal": _VERSION, **facts}, sort_keys=True).encode() + b"\n"
        self._lock = batches.hold(path)
        try:
            end = self._check(header) if resume and path.is_file() else 0
            self._file: IO[bytes] = path.open("r+b" if end else "w+b")
            self._file.truncate(end)
            if not end:
                self._file.write(header)
                self._file.flush()
                end = len(header)
        except BaseException as error:
            _files.let_go(self._lock)
            if isinstance(error, OSError):
                raise self._unwritable(error) from None
            raise
        self._place, self._end, self._written = len(header), end, False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # a full disk was told when it was written to
            self._file.close()
        if not (self.kept or self._written):
            self.path.unlink(missing_ok=True)
        _files.let_go(self._lock)

    def get(self, number: int) -> tuple[Face, ...] | None:
        """Return the faces that an earlier run found in a frame, or None; ask in the frames' order."""
        if self._place >= self._end:
            return None
        self._file.seek(self._place)
        frame, faces = _parsed(self._file.readline())
        self._place = self._file.tell()
        if frame != number:
            raise VideoError(f"'{self.path}' does not fit the video: delete it, or start without --resume")
        return faces

    def put(self, number: int, faces: Sequence[Face]) -> None:
        """Keep the faces of a frame.

        Raises:
            InputError: It cannot be written.
        """
        line = json.dumps({"frame": number, "faces": [face.to_dict() for face in faces]})
        try:
            self._file.seek(0, os.SEEK_END)
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from None
        self._written = True

    def done(self) -> None:
        """Delete the file; all that came of it is in its place."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _check(self, header: bytes) -> int:
        """Return how many bytes of an earlier run are whole; 0 where it left nothing."""
        with self.path.open("rb") as file:
            first = file.readline()
            if not first.endswith(b"\n"):
                return 0
            if first != header:
                raise VideoError(
                    f"'{self.path}' was begun on another video, or with another model or options; "
                    "give the same ones, or start without --resume"
                )
            end = file.tell()
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    for face in _parsed(line)[1]:
                        face.to_dict()  # it cannot say what it shows where its scores are damaged
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    self.damaged = True
                    break
                self.kept += 1
                end += len(line)
        return end

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"'{self.path}' cannot be written: {_files.reason(error)}")


def _parsed(line: bytes) -> tuple[int, tuple[Face, ...]]:
    """Return a frame's number and faces, as `put` wrote them."""
    document = json.loads(line)
    faces = tuple(
        Face(Box(**each["box"]), each["detected"], each["scores"], tuple(each["flags"]))
        for each in document["faces"]
    )
    return document["frame"], faces


@dataclass(frozen=True)
class Span:
    """A stretch of time in which a person was seen and the smoothed answer stayed the same.

    Args:
        begin: Seconds.
        end: Seconds.
        emotion: Which.
        uncertain: Whether the smoothed answer was uncertain.
    """

    begin: float
    end: float
    emotion: str
    uncertain: bool = False


@dataclass(frozen=True)
class Person:
    """One person of a video.

    Args:
        track: The person's number.
        frames: In how many frames that were looked at the person was found.
        first: Seconds at which the person was found first.
        last: Seconds up to which the person was found last.
        seconds: For how long the person was seen in all: each frame counts until the next one looked at.
        emotions: Seconds in which each smoothed emotion was likeliest, longest first; they sum to `seconds`.
        changes: How often the smoothed emotion changed.
        confidence: Mean probability of the smoothed emotion over the frames, in [0, 1].
        spans: The stretches, in the order of time.
    """

    track: int
    frames: int
    first: float
    last: float
    seconds: float
    emotions: dict[str, float]
    changes: int
    confidence: float
    spans: tuple[Span, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds of a person; seconds are rounded to milliseconds."""
        return {
            "track": self.track,
            "frames": self.frames,
            "first": round(self.first, 3),
            "last": round(self.last, 3),
            "seconds": round(self.seconds, 3),
            "emotions": {name: round(seconds, 3) for name, seconds in self.emotions.items()},
            "changes": self.changes,
            "confidence": round(self.confidence, 4),
            "spans": [
                {
                    "begin": round(span.begin, 3),
                    "end": round(span.end, 3),
                    "emotion": span.emotion,
                    "uncertain": span.uncertain,
                }
                for span in self.spans
            ],
        }


@dataclass
class _Course:
    frames: int = 0
    confidence: float = 0.0
    spans: list[Span] = field(default_factory=list)


class People:
    """Keeps count of what each person shows, frame by frame, in memory that does not grow with the frames."""

    def __init__(self) -> None:
        self._courses: dict[int, _Course] = {}
        self._pending: tuple[float, tuple[Tracked, ...]] | None = None

    def add(self, time: float, tracked: Iterable[Tracked]) -> None:
        """Take in the next frame that was looked at.

        Args:
            time: Seconds.
            tracked: Who was found in it; nobody is told too, for it ends the time of the frame before.
        """
        self._settle(time)
        self._pending = (time, tuple(tracked))

    def end(self, time: float) -> tuple[Person, ...]:
        """Say that the last frame lasts until `time`, and return everybody in the order of their numbers."""
        self._settle(time)
        self._pending = None
        return tuple(_summary(track, course) for track, course in sorted(self._courses.items()))

    def _settle(self, time: float) -> None:
        if self._pending is None:
            return
        begin, tracked = self._pending
        end = max(begin, time)  # a clock that runs backwards gives a frame no time
        for each in tracked:
            course = self._courses.setdefault(each.track, _Course())
            course.frames += 1
            course.confidence += each.confidence
            last = course.spans[-1] if course.spans else None
            shown = each.emotion, each.uncertain
            if last is not None and last.end == begin and (last.emotion, last.uncertain) == shown:
                course.spans[-1] = Span(last.begin, end, *shown)
            else:
                course.spans.append(Span(begin, end, *shown))


def _summary(track: int, course: _Course) -> Person:
    spans = course.spans
    emotions: dict[str, float] = {}
    for span in spans:
        emotions[span.emotion] = emotions.get(span.emotion, 0.0) + span.end - span.begin
    changes = sum(one.emotion != other.emotion for one, other in itertools.pairwise(spans))
    return Person(
        track,
        course.frames,
        spans[0].begin,
        spans[-1].end,
        sum(emotions.values()),
        dict(sorted(emotions.items(), key=lambda item: -item[1])),
        changes,
        course.confidence / course.frames,
        tuple(spans),
    )


#: Rows that Parquet writes at once; they are held in memory until then.
_ROW_GROUP = 1000


def row(frame: "Frame", person: Tracked) -> dict[str, Any]:
    """Return a flat row, as a data frame or a csv takes it.

    The raw answer stands under `emotion`, `confidence` and each label, the smoothed one under the same names
    with `smoothed_` before them.
    """
    face, box = person.face, person.face.box
    return {
        "frame": frame.number,
        "time": frame.time,
        "track": person.track,
        "left": box.left,
        "top": box.top,
        "width": box.width,
        "height": box.height,
        "detected": face.detected,
        "emotion": face.emotion,
        "confidence": face.confidence,
        **face.scores,
        "flags": " ".join(face.flags),
        "smoothed_emotion": person.emotion,
        "smoothed_confidence": person.confidence,
        **{f"smoothed_{label}": score for label, score in person.smoothed.items()},
    }


def document(frame: "Frame", person: Tracked) -> dict[str, Any]:
    """Return what a JSON line holds: the same, nested as in a prediction's JSON."""
    return {"schema": SCHEMA, "frame": frame.number, "time": frame.time, **person.to_dict()}


class Lines:
    """Writes rows to an open text stream as they come.

    Args:
        stream: Where to; it is opened and closed by whoever gives it.
        kind: `csv`, which begins with a header, or `jsonl`.
        labels: The model's labels, in order.
    """

    def __init__(self, stream: IO[str], kind: str, labels: Sequence[str]) -> None:
        self._stream = stream
        self._csv = None
        if kind == "csv":
            self._csv = csv.DictWriter(stream, _columns(labels), lineterminator="\n")
            self._csv.writerow({name: batches.harmless(name) for name in _columns(labels)})

    def add(self, frame: "Frame") -> None:
        """Write a row for each of a frame's people."""
        for person in frame.people:
            if self._csv is not None:
                cells = row(frame, person)
                self._csv.writerow(
                    {name: batches.short(batches.harmless(cell)) for name, cell in cells.items()}
                )
            else:
                line = batches.rounded(document(frame, person))
                self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")


class Rows:
    """Writes a file of rows; it is at `path` once `keep` was called. Use it in a `with`.

    Args:
        path: Where to; its suffix is the format: .csv, .jsonl or .parquet.
        labels: The model's labels, in order.

    Raises:
        MissingExtra: Parquet is wanted and pyarrow is not installed.
        InputError: The suffix is no format, or the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], labels: Sequence[str]) -> None:
        self.path = Path(path)
        kind = batches.format_of(self.path)
        self._partial = self.path.with_name(f".partial-rows-{self.path.name}")
        self._file: IO[str] | None = None
        self._table: Any = None
        self._held: list[dict[str, Any]] = []
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "parquet":
                self._table = _open_parquet(self._partial, _columns(labels))
                return
            self._file = self._partial.open("w", encoding="utf-8", newline="")
            self._lines = Lines(self._file, kind, labels)
        except OSError as error:
            raise self._unwritable(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whatever led here is the error to tell, not that half a file cannot be finished.
        with contextlib.suppress(OSError):
            self._close()
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def add(self, frame: "Frame") -> None:
        """Write a row for each of a frame's people."""
        try:
            if self._table is None:
                self._lines.add(frame)
                return
            self._held += [row(frame, person) for person in frame.people]
            if len(self._held) >= _ROW_GROUP:
                self._flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def keep(self) -> None:
        """Finish the file and put it in its place.

        Raises:
            InputError: It cannot be written.
        """
        try:
            if self._held:
                self._flush()
            self._close()
            _files.fill(self.path, self._partial.replace)
        except OSError as error:
            raise self._unwritable(error) from None

    def _flush(self) -> None:
        import pyarrow

        self._table.write_table(pyarrow.Table.from_pylist(self._held, schema=self._table.schema))
        self._held = []

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._table is not None:
            self._table.close()

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"'{self.path}' cannot be written: {_files.reason(error)}")


def _columns(labels: Sequence[str]) -> list[str]:
    where = ["frame", "time", "track", "left", "top", "width", "height", "detected"]
    raw = ["emotion", "confidence", *labels]
    return [*where, *raw, "flags", *(f"smoothed_{name}" for name in raw)]


def _open_parquet(path: Path, names: Sequence[str]) -> Any:
    import pyarrow
    from pyarrow import parquet

    whole = {"frame", "track", "left", "top", "width", "height"}
    text = {"emotion", "smoothed_emotion", "flags"}
    kinds = {name: pyarrow.int64() for name in whole} | {name: pyarrow.string() for name in text}
    # Probabilities are float32, as the model gives them; a time of hours has digits beyond that.
    kinds["time"] = pyarrow.float64()
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float32())) for name in names])
    return parquet.ParquetWriter(str(path), schema)


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
    def crop(self) -> CropTransform:
        return self.detector.crop

    def find(self, image: NDArray[np.uint8], *, smallest: int) -> list[Detection]:
        height, width = image.shape[:2]
        scale = min(1.0, self.side / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        if scale < 1:
            image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        across, down = width / size[0], height / size[1]
        return [
            Detection(
                face.left * across, face.top * down, face.width * across, face.height * down, face.score
            )
            for face in self.detector.find(image, smallest=max(_SMALLEST, round(smallest * scale)))
        ]


def predictor(
    model: "Bundle | str | os.PathLike[str] | None" = None,
    *,
    detector: Detector | str | None = None,
    head: str | None = None,
    look: int = LOOK,
    **options: Any,
) -> "Predictor":
    """Return a predictor that suits video: it searches a shrunk picture, and cuts faces from the full one.

    Args:
        model: As `mien.inference.predictor.Predictor` takes it.
        detector: As `mien.inference.predictor.Predictor` takes it.
        head: Which of the model's heads answers.
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
    return Predictor(model, detector=_Glance(detector, look), head=head, **options)


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
    max_gap: float = MAX_GAP,
    smoothing: float = SMOOTHING,
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
        max_gap: Seconds after which somebody who is not seen is gone.
        smoothing: Seconds in which smoothed scores go 63 % of the way to new ones.
        journal: Keeps what is found, and knows what an earlier run found.
        between: Give the frames that are not looked at as well.

    Returns:
        An iterable of `Frame`; use it in a `with`.

    Raises:
        VideoError: There is no such file, or it is no video. While iterating: nothing of it can be decoded.
        InputError: `every` or `rate` is out of range, or both are given.
    """
    wanted = _sampling(every, rate)
    if not (0 <= max_gap < math.inf and 0 <= smoothing < math.inf):
        raise InputError(f"max_gap is {max_gap} and smoothing {smoothing}; both are seconds, at least 0")
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

    tracker = Tracker(max_gap=max_gap, smoothing=smoothing, threshold=asked.threshold)
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
