"""What each person showed, from first to last: how long, how sure, how often it changed."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mien.vision.tracking import Tracked


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
        return tuple(_person(track, course) for track, course in sorted(self._courses.items()))

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


def _person(track: int, course: _Course) -> Person:
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
