"""Who is who from frame to frame, and what each of them shows once the flicker is taken out.

    tracker = track.Tracker()
    for time, prediction in ...:
        for person in tracker.update(time, prediction.faces):
            person.track, person.face.emotion, person.emotion

A number belongs to a person for as long as the person is seen, and through short losses. It is given by
where a face is, how large it is and how it moves, never by who it looks like: somebody who comes back
after more than `Tracker.patience` is somebody new.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mien.types import Box, Face

#: Seconds after which a person who is not seen is gone.
PATIENCE = 1.0
#: Seconds in which a smoothed score goes 63 % of the way to a new one.
SETTLE = 0.5

# Lengths below are in widths of the face, so that they hold at any distance from the camera.
_MEASURED = 0.06**2  # variance of a detector's box about the face (measured: docs/video.md)
_AGITATION = 6.0  # how fast motion changes, width²/s³: half a width of doubt after half a second unseen
_FIRST_SPEED = 2.0**2  # variance of the speed of somebody new, (width/s)²
_SIZE_MEASURED, _SIZE_CHANGE = 0.12**2, 0.25  # variance of the logarithm of the size, and its growth a second
_GATE = 18.0  # squared standard deviations; beyond, it is somebody else
_REACH = 2.5  # widths; beyond, it is somebody else whatever the doubt
_LARGER = 2.0  # times as large; beyond, it is somebody else
_CROWDED = 0.15  # overlap of a face with another's place from which on the box says little about whose it is
_CROWDED_DOUBT = 20.0  # how much less a box moves the motion then
_MISSES = 3  # looks in vain before somebody may be gone, however far apart the looks are
_LONGEST = 10.0  # times the patience, after which somebody is gone however few the looks


@dataclass(frozen=True)
class Tracked:
    """A face of one frame, whose it is, and what its person has shown of late.

    Args:
        track: The person's number, from 1 in the order of appearance.
        face: As the frame alone shows it.
        smoothed: Probability of each emotion over the person's last moments; they sum to 1.
        uncertain: Whether the smoothed answer is uncertain: its probability is below the tracker's threshold.
    """

    track: int
    face: Face
    smoothed: Mapping[str, float]
    uncertain: bool = False

    @property
    def emotion(self) -> str:
        """The likeliest smoothed emotion; of equal ones the first."""
        return max(self.smoothed, key=self.smoothed.__getitem__)

    @property
    def confidence(self) -> float:
        """The likeliest smoothed emotion's probability."""
        return self.smoothed[self.emotion]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds: the face's own dict, the number, and the smoothed answer beside the raw."""
        return {
            "track": self.track,
            **self.face.to_dict(),
            "smoothed": {
                "emotion": self.emotion,
                "confidence": self.confidence,
                "scores": dict(self.smoothed),
                "uncertain": self.uncertain,
            },
        }


def smooth(
    before: Mapping[str, float], now: Mapping[str, float], seconds: float, *, settle: float = SETTLE
) -> dict[str, float]:
    """Carry smoothed scores on to a new answer.

    The past counts exp(-seconds / settle), so that the same course of time gives the same scores at any frame
    rate, also an uneven one; after a long gap only the new answer counts.

    Args:
        before: Smoothed probabilities so far.
        now: The new answer, of the same labels.
        seconds: Time between the two, at least 0.
        settle: Seconds in which the scores go 63 % of the way; 0 smooths nothing.

    Returns:
        Probabilities that sum to 1, in the order of `now`.
    """
    past = math.exp(-seconds / settle) if settle > 0 else 0.0
    return {label: past * before[label] + (1 - past) * score for label, score in now.items()}


class Tracker:
    """Gives each face of a stream of frames its person's number. One a stream; not for several threads.

    Args:
        patience: Seconds after which a person who is not seen is gone. Where frames are so far apart that
            fewer than three fall into it, three looks in vain are waited for, up to ten times as long.
        settle: Seconds in which smoothed scores go 63 % of the way to new ones; 0 smooths nothing.
        threshold: Probability in [0, 1] below which a smoothed answer is uncertain, such as
            `mien.inference.predictor.Predictor.threshold`; None if no answer is.
    """

    def __init__(
        self, *, patience: float = PATIENCE, settle: float = SETTLE, threshold: float | None = None
    ) -> None:
        self.patience, self.settle, self.threshold = patience, settle, threshold
        self._people: list[_Person] = []
        self._given = 0
        self._time = -math.inf

    def update(self, time: float, faces: Sequence[Face]) -> tuple[Tracked, ...]:
        """Take the next frame's faces and say whose they are.

        The same frames give the same numbers. Time that runs backwards means another recording: everybody
        in it is new.

        Args:
            time: Seconds, on any clock that goes with the frames.
            faces: What was found at that time; none is a look in vain.

        Returns:
            One for each face, in the order given.
        """
        if time < self._time:
            self._people = []
        self._time = time
        people = [person for person in self._people if not self._is_gone(person, time)]
        expected = [person.expect(time) for person in people]
        pairs = _assign([[place.cost(face.box) for face in faces] for place in expected], len(faces))
        tracked: dict[int, Tracked] = {}
        seen = set()
        for index, number in pairs:
            person, face = people[index], faces[number]
            others = expected[:index] + expected[index + 1 :]
            crowded = any(overlap(face.box, other.box()) > _CROWDED for other in others)
            person.smoothed = smooth(person.smoothed, face.scores, time - person.time, settle=self.settle)
            person.see(time, expected[index], face.box, crowded=crowded)
            tracked[number] = self._tracked(person.number, face, person.smoothed)
            seen.add(index)
        for index, person in enumerate(people):
            person.misses += index not in seen
        for number, face in enumerate(faces):
            if number not in tracked:
                self._given += 1
                people.append(_Person(self._given, time, face))
                tracked[number] = self._tracked(self._given, face, dict(face.scores))
        self._people = people
        return tuple(tracked[number] for number in range(len(faces)))

    def expect(self, time: float, *, width: int, height: int) -> dict[int, Box]:
        """Return where everybody who is not gone should be, by the last motion.

        Args:
            time: Seconds, not before the last update.
            width: Of the frame in pixels; boxes are cut to it, and those outside left out.
            height: Of the frame in pixels.

        Returns:
            Boxes by track number.
        """
        places = {
            person.number: person.expect(time) for person in self._people if not self._is_gone(person, time)
        }
        boxes = {number: _cut(place.box(), width, height) for number, place in places.items()}
        return {number: box for number, box in boxes.items() if box is not None}

    def _tracked(self, number: int, face: Face, smoothed: Mapping[str, float]) -> Tracked:
        uncertain = self.threshold is not None and max(smoothed.values()) < self.threshold
        return Tracked(number, face, smoothed, uncertain)

    def _is_gone(self, person: "_Person", time: float) -> bool:
        unseen = time - person.time
        return unseen > self.patience * (1 if person.misses >= _MISSES else _LONGEST)


def overlap(one: Box, other: Box) -> float:
    """Return the share of two boxes' union that both cover, in [0, 1]."""
    width = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    height = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (one.area + other.area - both)


@dataclass(frozen=True)
class _Axis:
    """A place and a speed along one axis, and how sure both are: variances and their covariance."""

    at: float
    speed: float
    doubt: float
    both: float
    speed_doubt: float

    def after(self, seconds: float, agitation: float) -> "_Axis":
        """Return what is to be expected later: even motion that changes at random."""
        return _Axis(
            self.at + self.speed * seconds,
            self.speed,
            self.doubt + 2 * self.both * seconds + self.speed_doubt * seconds**2 + agitation * seconds**3 / 3,
            self.both + self.speed_doubt * seconds + agitation * seconds**2 / 2,
            self.speed_doubt + agitation * seconds,
        )

    def seen(self, at: float, noise: float) -> "_Axis":
        """Return what is to be believed after a measurement."""
        total = self.doubt + noise
        gain, speed_gain = self.doubt / total, self.both / total
        error = at - self.at
        return _Axis(
            self.at + gain * error,
            self.speed + speed_gain * error,
            self.doubt * (1 - gain),
            self.both * (1 - gain),
            self.speed_doubt - speed_gain * self.both,
        )


@dataclass(frozen=True)
class _Place:
    """Where somebody should be: the middle of the box, its size in pixels, and for how long unseen."""

    x: _Axis
    y: _Axis
    width: float
    height: float
    seconds: float

    def box(self) -> Box:
        wide, high = max(1, round(self.width)), max(1, round(self.height))
        return Box(round(self.x.at - self.width / 2), round(self.y.at - self.height / 2), wide, high)

    def cost(self, box: Box) -> float:
        """Return how unlikely this is the same person: squared deviations and the doubt's own; inf if not."""
        unit = self.width
        noise = _MEASURED * unit**2
        x, y = _middle(box)
        wide_x, wide_y = self.x.doubt + noise, self.y.doubt + noise
        far = (x - self.x.at) ** 2 / wide_x + (y - self.y.at) ** 2 / wide_y
        larger = math.log(box.area / (self.width * self.height)) / 2
        far += larger**2 / (_SIZE_MEASURED + _SIZE_CHANGE * self.seconds)
        reach = math.hypot(x - self.x.at, y - self.y.at) / unit
        if far > _GATE or reach > _REACH or abs(larger) > math.log(_LARGER):
            return math.inf
        # Without this, somebody long unseen, who may be anywhere, would take a face from its own person.
        return far + math.log(wide_x * wide_y / noise**2)


class _Person:
    """What is known of one person."""

    def __init__(self, number: int, time: float, face: Face) -> None:
        box = face.box
        x, y = _middle(box)
        unit = box.width**2
        self.number, self.time, self.misses = number, time, 0
        self.smoothed: dict[str, float] = dict(face.scores)
        self.x = _Axis(x, 0.0, _MEASURED * unit, 0.0, _FIRST_SPEED * unit)
        self.y = _Axis(y, 0.0, _MEASURED * unit, 0.0, _FIRST_SPEED * unit)
        self.width, self.height = float(box.width), float(box.height)

    def expect(self, time: float) -> _Place:
        # From the last time seen in one step, so that looks in vain change nothing.
        seconds = max(0.0, time - self.time)
        agitation = _AGITATION * self.width**2
        return _Place(
            self.x.after(seconds, agitation),
            self.y.after(seconds, agitation),
            self.width,
            self.height,
            seconds,
        )

    def see(self, time: float, expected: _Place, box: Box, *, crowded: bool) -> None:
        noise = _MEASURED * self.width**2 * (_CROWDED_DOUBT if crowded else 1)
        x, y = _middle(box)
        self.x, self.y = expected.x.seen(x, noise), expected.y.seen(y, noise)
        share = 0.1 if crowded else 0.5
        self.width += share * (box.width - self.width)
        self.height += share * (box.height - self.height)
        self.time, self.misses = time, 0


def _middle(box: Box) -> tuple[float, float]:
    return box.left + box.width / 2, box.top + box.height / 2


def _cut(box: Box, width: int, height: int) -> Box | None:
    left, top = max(0, box.left), max(0, box.top)
    right, bottom = min(width, box.left + box.width), min(height, box.top + box.height)
    return Box(left, top, right - left, bottom - top) if right > left and bottom > top else None


def _assign(costs: Sequence[Sequence[float]], columns: int) -> list[tuple[int, int]]:
    """Pair rows with columns: as many as can be, of those the cheapest in sum; inf is no pair.

    Source: the Hungarian method with potentials, Kuhn 1955 and Munkres 1957, one row at a time.
    """
    rows, size = len(costs), len(costs) + columns
    never = 1e6
    # Each row has a column of its own that means "nobody", dearer than any true pair.
    nobody = 1e3

    def cost(row: int, column: int) -> float:
        if column >= columns:
            return nobody if column - columns == row else never
        value = costs[row][column]
        return never if math.isinf(value) else value

    of_row, of_column = [0.0] * rows, [0.0] * size
    holder = [-1] * size
    for row in range(rows):
        least, way, done = [math.inf] * size, [-1] * size, [False] * size
        column, current = -1, row
        while True:
            for each in range(size):
                if not done[each]:
                    reduced = cost(current, each) - of_row[current] - of_column[each]
                    if reduced < least[each]:
                        least[each], way[each] = reduced, column
            column = min((each for each in range(size) if not done[each]), key=least.__getitem__)
            step = least[column]
            of_row[row] += step
            for each in range(size):
                if done[each]:
                    of_row[holder[each]] += step
                    of_column[each] -= step
                else:
                    least[each] -= step
            done[column] = True
            if holder[column] < 0:
                break
            current = holder[column]
        while column >= 0:
            before = way[column]
            holder[column] = holder[before] if before >= 0 else row
            column = before
    return [(holder[column], column) for column in range(columns) if holder[column] >= 0]
