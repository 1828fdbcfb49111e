"""Follow faces through a video: a number for each person, and their emotions, smoothed over time.

    with track("interview.mp4") as tracked:
        for frame in tracked:
            for person in frame.people:
                print(frame.time, person.track, person.emotion, person.face.emotion)

`analyze` also writes tables and an annotated copy, sums up each person, and continues after a stop. Times are
those of the file. Memory does not grow with the length of the video.
"""

import contextlib
import hashlib
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien import _files, _tables
from mien._text import pluralize
from mien.errors import InputError, MissingExtra, VideoError
from mien.types import SCHEMA, Box, Face, check_column_names
from mien.vision import annotation, detectors
from mien.vision.detectors import CropTransform, Detection, Detector
from mien.vision.tracking import MAX_GAP, SMOOTHING, Tracked, Tracker

try:
    # video_files needs it as well, but only this error names the extra.
    import av  # noqa: F401
except ImportError as error:
    raise MissingExtra("video", "video") from error

from mien.inference.batches import parse_face
from mien.inference.predictor import Predictor
from mien.inference.video_files import Clip, Film, Picture, check_ending

if TYPE_CHECKING:
    from av.packet import Packet

    from mien.models.model_files import Model

#: Pixels of the longer side that a frame is shrunk to before detection (measured: docs/video.md).
LOOK = 400
#: Smallest face in a shrunk frame, in pixels of its width; a detector enlarges the frame for smaller ones.
_SMALLEST = 24
#: Tiles along the side of a hidden face: too few to recognise a person.
TILES = 5
#: How much larger than its box the hidden part is, in box widths on each side: ears, hair, a late box.
_MARGIN = 0.25
_FIRST_BYTES = 1 << 20

FrameLog = _tables.ResumableLog[tuple[int, tuple[Face, ...]]]


@dataclass(frozen=True)
class Frame:
    """One frame of a video and the people in it.

    Args:
        number: Number of the frame in the file, from 0.
        time: Presentation timestamp in seconds, as in the file.
        pts: The timestamp in the stream's unit.
        analyzed: Whether faces were detected; False only for frames between, with `between`.
        people: The people found, the largest face first.
        lost: Expected boxes of people who were found a moment ago but not in this frame, by track number.
    """

    number: int
    time: float
    pts: int
    analyzed: bool
    people: tuple[Tracked, ...]
    lost: Mapping[int, Box]
    _picture: Picture = field(repr=False, compare=False)

    def pixels(self) -> NDArray[np.uint8]:
        """Return the upright frame with square pixels, `(h, w, 3)` RGB, 0..255."""
        return self._picture.pixels()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright frame in pixels."""
        return self._picture.size


@dataclass(frozen=True)
class _Shrinking:
    """A detector that searches a picture shrunk to `side` pixels."""

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


def make_predictor(
    model: "Model | str | os.PathLike[str] | None" = None,
    *,
    detector: Detector | str | None = None,
    look: int = LOOK,
    **options: Any,
) -> Predictor:
    """Return a predictor for video, which detects faces in a shrunk frame and crops them from the full one.

    Args:
        model: As `Predictor` takes it.
        detector: As `Predictor` takes it.
        look: Pixels of the longer side that frames are shrunk to before detection. A larger value finds
            smaller faces and takes longer.
        options: Other arguments of `Predictor`.

    Raises:
        InputError: `look` is below 64.
    """
    if look < 64:
        raise InputError(f"look is {look}; use at least 64 pixels")
    if detector is None or isinstance(detector, str):
        detector = detectors.load(detector)
    return Predictor(model, detector=_Shrinking(detector, look), **options)


class TrackedVideo:
    """The frames of a video with the people in them; `track` makes one. Iterate over it once."""

    def __init__(
        self,
        clip: Clip,
        find: Callable[[Picture], tuple[Face, ...]],
        tracker: Tracker,
        *,
        wanted: Callable[[int, float], bool],
        between: bool,
    ) -> None:
        self.clip = clip
        #: Seconds at which the last frame ends, as far as the file was read.
        self.until = clip.begin
        #: Number of frames decoded so far.
        self.count = 0
        self._find, self._tracker, self._wanted, self._between = find, tracker, wanted, between

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clip.close()

    @property
    def problems(self) -> list[str]:
        """What could not be read, one sentence each; complete after the last frame."""
        return self.clip.problems

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, *, on_packet: "Callable[[Packet[Any]], None] | None" = None) -> Iterator[Frame]:
        """Yield the frames.

        Args:
            on_packet: Called with each packet of the file's other streams, such as `Film.copy`.
        """
        for picture in self.clip.pictures(on_packet=on_packet):
            self.count += 1
            self.until = max(self.until, picture.time + picture.seconds)
            if self._wanted(picture.number, picture.time):
                people = self._tracker.update(picture.time, self._find(picture))
                width, height = picture.size
                seen = {person.track for person in people}
                expected = self._tracker.expect(picture.time, width=width, height=height)
                lost = {track: box for track, box in expected.items() if track not in seen}
                yield Frame(picture.number, picture.time, picture.pts, True, people, lost, picture)
            elif self._between:
                yield Frame(picture.number, picture.time, picture.pts, False, (), {}, picture)


def track(
    path: str | os.PathLike[str],
    *,
    predictor: Predictor | None = None,
    every: int = 1,
    rate: float | None = None,
    max_gap: float = MAX_GAP,
    smoothing: float = SMOOTHING,
    log: FrameLog | None = None,
    between: bool = False,
) -> TrackedVideo:
    """Open a video, and follow the people in it frame by frame.

    Args:
        path: A video file.
        predictor: Detects and classifies the faces; None for `make_predictor()`.
        every: Analyze every Nth frame, beginning with the first.
        rate: Analyze at most this many frames per second; not together with `every`.
        max_gap: Seconds after which a person who is not found is gone.
        smoothing: Time constant of the smoothed scores in seconds; 0 turns smoothing off.
        log: Faces that an earlier run found; new ones are added.
        between: Yield the frames that are not analyzed, too.

    Returns:
        An iterable of `Frame`; use it in a `with`.

    Raises:
        VideoError: The file does not exist or is not a video. While iterating: no frame can be decoded, or
            `log` belongs to another video.
        InputError: An option is out of range, or `every` and `rate` are combined.
    """
    wanted = _sampling(every, rate)
    if not (0 <= max_gap < math.inf and 0 <= smoothing < math.inf):
        raise InputError(f"max_gap is {max_gap} and smoothing {smoothing}; both must be at least 0 seconds")
    clip = Clip(path)
    used = predictor or make_predictor()

    def find(picture: Picture) -> tuple[Face, ...]:
        logged = None if log is None else log.take()
        if log is not None and logged is not None:
            if logged[0] != picture.number:
                raise VideoError(f"'{log.path}' belongs to another video; delete it, or omit --resume")
            return logged[1]
        name = f"{Path(path).name}:{picture.number}"
        faces = used.image(picture.pixels(), name=name, auto_rotate=False).faces
        if log is not None:
            log.add({"frame": picture.number, "faces": [face.to_dict() for face in faces]})
        return faces

    tracker = Tracker(max_gap=max_gap, smoothing=smoothing, threshold=used.threshold)
    return TrackedVideo(clip, find, tracker, wanted=wanted, between=between)


def _sampling(every: int, rate: float | None) -> Callable[[int, float], bool]:
    if every < 1:
        raise InputError(f"every is {every}; use at least 1 frame")
    if rate is None:
        return lambda number, _: number % every == 0
    if every != 1:
        raise InputError("--every and --fps both choose frames; use one of them")
    if not 0 < rate < math.inf:
        raise InputError(f"rate is {rate}; use a number of frames per second above 0")
    pace, first, due = rate, 0.0, -1

    def wanted(number: int, time: float) -> bool:
        nonlocal first, due
        if number == 0 or time < first:
            first, due = time, -1
        # A small tolerance, because 0.1 × 30 is slightly below 3 in floating point.
        reached = int((time - first) * pace + 1e-6)
        if reached <= due:
            return False
        due = reached
        return True

    return wanted


@dataclass(frozen=True)
class Span:
    """A time span in which a person was found and the smoothed emotion did not change.

    Args:
        begin: Start in seconds.
        end: End in seconds.
        emotion: The smoothed emotion.
        uncertain: Whether it was uncertain.
    """

    begin: float
    end: float
    emotion: str
    uncertain: bool = False


@dataclass(frozen=True)
class Person:
    """One person of a video.

    Args:
        track: The track number.
        frames: Number of analyzed frames with the person.
        first: Time of the first such frame in seconds.
        last: End of the last such frame in seconds.
        seconds: Total time; each frame lasts until the next analyzed frame.
        emotions: Seconds of each smoothed emotion, the longest first; they sum to `seconds`.
        changes: Number of changes of the smoothed emotion.
        confidence: Mean probability of the smoothed emotion, in [0, 1].
        spans: The time spans, in the order of time.
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
        """Return plain values, which JSON can hold; seconds are rounded to milliseconds."""
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
    """Sums up each person, frame by frame, in memory that does not grow with the number of frames."""

    def __init__(self) -> None:
        self._courses: dict[int, _Course] = {}
        self._pending: tuple[float, tuple[Tracked, ...]] | None = None

    def add(self, time: float, tracked: Iterable[Tracked]) -> None:
        """Add the next analyzed frame.

        Args:
            time: Seconds.
            tracked: The people found; an empty list ends the time of the frame before.
        """
        self._close(time)
        self._pending = (time, tuple(tracked))

    def end(self, time: float) -> tuple[Person, ...]:
        """End the last frame at `time`, and return the people in the order of their numbers."""
        self._close(time)
        self._pending = None
        return tuple(_summary(track, course) for track, course in sorted(self._courses.items()))

    def _close(self, time: float) -> None:
        if self._pending is None:
            return
        begin, tracked = self._pending
        end = max(begin, time)  # time may run backwards in a damaged file
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


@dataclass(frozen=True)
class VideoSummary:
    """What `analyze` found in a video.

    Args:
        source: Path of the video.
        frames: Number of frames in the file.
        analyzed: Number of frames in which faces were detected.
        begin: Time of the first frame in seconds.
        end: Time at which the last frame ends, in seconds.
        faces: Number of faces in all analyzed frames.
        people: The people, by track number.
        problems: What could not be read, one sentence each.
        files: The files that were written.
    """

    source: str
    frames: int
    analyzed: int
    begin: float
    end: float
    faces: int
    people: tuple[Person, ...]
    problems: tuple[str, ...]
    files: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold."""
        return {
            **asdict(self),
            "people": [person.to_dict() for person in self.people],
            "problems": list(self.problems),
            "files": list(self.files),
        }


def analyze(
    path: str | os.PathLike[str],
    *,
    predictor: Predictor | None = None,
    to: Sequence[str | os.PathLike[str]] = (),
    save: str | os.PathLike[str] | None = None,
    blur: bool = False,
    every: int = 1,
    rate: float | None = None,
    max_gap: float = MAX_GAP,
    smoothing: float = SMOOTHING,
    resume: bool = False,
    on_frame: Callable[[Frame], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> VideoSummary:
    """Follow the people in a video to its end, write the files asked for, and sum up each person.

    Args:
        path: A video file.
        predictor: As `track` takes it.
        to: Tables to write, with a row for each person in each analyzed frame: .jsonl, .csv or .parquet.
        save: A copy of the video to write, with boxes and emotions.
        blur: Make the faces in the copy unrecognisable.
        every: As `track` takes it.
        rate: As `track` takes it.
        max_gap: As `track` takes it.
        smoothing: As `track` takes it.
        resume: Continue what a stopped run with the same files began.
        on_frame: Called with each analyzed frame.
        progress: Called with (seconds done, seconds in all).
        on_note: Called with sentences about the log of an earlier run.

    Raises:
        VideoError: The file does not exist or is not a video, or no frame can be decoded.
        InputError: An option is out of range or conflicts with another, or an output is the input.
        OutputError: A file cannot be written.
    """
    path, tables = Path(path), [Path(each) for each in to]
    film = None if save is None else Path(save)
    outputs = [*tables, *([film] if film else [])]
    check_files(path, tables, film, blur=blur, resume=resume)
    check_sampling(every, rate, blur=blur)
    used = predictor or make_predictor()
    with contextlib.ExitStack() as stack:
        log = None
        if outputs:
            facts = used.facts | {"every": every, "fps": rate}
            if isinstance(used.detector, _Shrinking):
                facts |= {"look": used.detector.side}
            log = stack.enter_context(_open_log(path, outputs, facts, resume, on_note or (lambda note: None)))
        options: dict[str, Any] = {"max_gap": max_gap, "smoothing": smoothing, "between": film is not None}
        tracked = stack.enter_context(track(path, predictor=used, every=every, rate=rate, log=log, **options))
        rows = [stack.enter_context(_tables.Table(each, columns(used.names), _TYPES)) for each in tables]
        copy = None if film is None else stack.enter_context(Film(film, tracked.clip))
        people, analyzed, faces, clip = People(), 0, 0, tracked.clip
        length = max(1, round((clip.end or clip.begin) - clip.begin))
        for frame in _filmed(tracked, copy, blur):
            if frame.analyzed:
                analyzed, faces = analyzed + 1, faces + len(frame.people)
                people.add(frame.time, frame.people)
                for table in rows:
                    for person in frame.people:
                        table.add(document(frame, person), [row(frame, person)])
                if on_frame is not None:
                    on_frame(frame)
            if progress is not None:
                progress(min(length, round(frame.time - clip.begin)), length)
        for table in rows:
            table.keep()
        if copy is not None:
            copy.keep()
        if log is not None:
            log.delete()
        return VideoSummary(
            source=str(path),
            frames=tracked.count,
            analyzed=analyzed,
            begin=clip.begin,
            end=tracked.until,
            faces=faces,
            people=people.end(tracked.until),
            problems=tuple(tracked.problems),
            files=tuple(map(str, outputs)),
        )


def check_files(
    path: str | os.PathLike[str],
    to: Sequence[str | os.PathLike[str]],
    save: str | os.PathLike[str] | None,
    *,
    blur: bool = False,
    resume: bool = False,
) -> None:
    """Check the files of `analyze` before a model is loaded.

    Raises:
        InputError: An option needs a file that is missing, or an output is the input.
        MissingExtra: A file is Parquet, and pyarrow is not installed.
        VideoError: The extension of `save` names no video format.
    """
    for each in to:
        _tables.format_of(each)
    if blur and save is None:
        raise InputError("--blur changes the video that --save writes; add --save FILE")
    if resume and not to and save is None:
        raise InputError("--resume continues a file; add --to FILE or --save FILE")
    if save is not None:
        check_ending(save)
    files: dict[str, Path | None] = {f"--to {each}": Path(each) for each in to}
    if len(files) < len(to):
        raise InputError("--to names the same file twice; choose different names")
    _files.check_outputs(files | {f"--save {save}": None if save is None else Path(save)}, [Path(path)])


def check_sampling(every: int = 1, rate: float | None = None, *, blur: bool = False) -> None:
    """Check which frames `analyze` is to analyze, before a model is loaded.

    Raises:
        InputError: A number is out of range, or options conflict.
    """
    if blur and (every != 1 or rate is not None):
        raise InputError("--blur must analyze every frame; omit --every and --fps")
    _sampling(every, rate)


@contextlib.contextmanager
def _open_log(
    path: Path, outputs: Sequence[Path], facts: dict[str, Any], resume: bool, note: Callable[[str], None]
) -> Iterator[FrameLog]:
    """Open the log of a run beside its first output, and lock the other outputs."""
    with Clip(path):  # raises an error if it is not a video, before there is a log
        facts = facts | {"video": fingerprint(path)}
    beside = _tables.log_path(outputs[0])
    left = beside.is_file()
    with contextlib.ExitStack() as stack:
        for other in outputs[1:]:
            stack.callback(_files.let_go, _tables.lock(_tables.log_path(other), other))
        log = stack.enter_context(open_log(beside, facts, resume=resume, output=outputs[0]))
        if left and not resume:
            note("deleted the log of an earlier run; --resume would have continued it")
        if resume:
            note(f"{pluralize(log.known, 'frame')} analyzed in an earlier run")
        if log.damaged:
            note(f"part of the log of '{outputs[0]}' is damaged; these frames are analyzed again")
        try:
            yield log
        except (KeyboardInterrupt, SystemExit):
            note("finished frames are kept; run the same command with --resume to continue")
            raise


def open_log(
    path: str | os.PathLike[str],
    facts: Mapping[str, Any],
    *,
    resume: bool,
    output: str | os.PathLike[str] | None = None,
) -> FrameLog:
    """Return a log of the faces in each frame, from which a stopped run continues.

    A resumed run decodes the video again and takes the faces from the log, so its results are equal to those
    of a run that was never stopped.

    Args:
        path: The file of the log.
        facts: What the faces depend on: the video, the model, the options.
        resume: As `ResumableLog` takes it.
        output: As `ResumableLog` takes it.

    Raises:
        InputError: The log belongs to another video, model or options, or another process writes it.
        OutputError: It cannot be written.
    """
    return _tables.ResumableLog(path, facts, _parse_frame, resume=resume, output=output)


def _parse_frame(document: Mapping[str, Any]) -> tuple[int, tuple[Face, ...]]:
    return document["frame"], tuple(parse_face(face) for face in document["faces"])


def fingerprint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what identifies a video file: its size and the hash of its first MiB."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256(file.read(_FIRST_BYTES)).hexdigest()
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256_of_first_mib": digest}


def _filmed(tracked: TrackedVideo, film: Film | None, blur: bool) -> Iterator[Frame]:
    """Yield the frames, and write each to the film; a frame between shows the people of the last analyzed."""
    if film is None:
        yield from tracked
        return
    people: tuple[Tracked, ...] = ()
    places = annotation.Places()
    for frame in tracked.frames(on_packet=film.copy):
        people = frame.people if frame.analyzed else people
        pixels = frame.pixels()
        if blur:
            # A person who is lost for a moment can still be recognised.
            pixels = hide(pixels, [*(person.face.box for person in people), *frame.lost.values()])
        film.add(frame.pts, annotation.draw(pixels, people, places=places))
        yield frame


#: Parquet types of the columns. Times of hours need more digits than float32 has.
_TYPES = {
    **dict.fromkeys(("frame", "track", "left", "top", "width", "height"), "int64"),
    **dict.fromkeys(("emotion", "smoothed_emotion", "flags"), "string"),
    "time": "float64",
}


def columns(labels: Sequence[str]) -> list[str]:
    """Return the names of the columns of a table of people in frames.

    Raises:
        InputError: A label has the name of another column.
    """
    check_column_names(labels)
    where = ["frame", "time", "track", "left", "top", "width", "height", "detected"]
    raw = ["emotion", "confidence", *labels]
    return [*where, *raw, "flags", *(f"smoothed_{name}" for name in raw)]


def row(frame: "Frame", person: Tracked) -> dict[str, Any]:
    """Return a flat row for csv, Parquet or a data frame.

    `emotion`, `confidence` and each label hold the scores of the frame; columns that begin with `smoothed_`
    hold the smoothed scores.
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
    """Return the same as nested values, as in the JSON of a prediction."""
    return {"schema": SCHEMA, "frame": frame.number, "time": frame.time, **person.to_dict()}


def hide(pixels: NDArray[np.uint8], boxes: Iterable[Box]) -> NDArray[np.uint8]:
    """Return a picture in which the boxes, enlarged by a quarter, are averaged to a few soft tiles.

    Args:
        pixels: `(h, w, 3)` RGB, 0..255; it is not changed.
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
