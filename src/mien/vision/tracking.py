"""Track faces from frame to frame, and smooth their emotions over time.

    tracker = tracking.Tracker()
    for time, prediction in ...:
        for person in tracker.update(time, prediction.faces):
            person.track, person.face.emotion, person.emotion

A track number belongs to a person while the face is found, with gaps of up to `Tracker.max_gap` seconds. The
tracker uses the position, size and motion of faces and never their appearance: a person who returns after a
longer gap gets a new number.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mien.types import Box, Face

#: Seconds without a detection after which a track ends.
MAX_GAP = 1.0
#: Time constant of the smoothing in seconds: a smoothed score moves 63 % of the way to a new one.
SMOOTHING = 0.5

# Lengths are in widths of the face, so they are valid at any distance from the camera.
_MEASURED = 0.06**2  # variance of the box of a detector around the face (measured: docs/video.md)
_MOTION_NOISE = 6.0  # change of motion, width²/s³: deviation of half a width after half a second unseen
_FIRST_SPEED = 2.0**2  # variance of the speed in a new track, (width/s)²
_SIZE_MEASURED, _SIZE_CHANGE = 0.12**2, 0.25  # variance of the log size, and its growth a second
_GATE = 18.0  # squared standard deviations; beyond, it is another person
_REACH = 2.5  # widths; beyond, it is another person at any uncertainty
_LARGER = 2.0  # times as large; beyond, it is another person
_CROWDED = 0.15  # overlap with the expected place of another face from which the box is unreliable
_CROWDED_NOISE = 20.0  # factor of the variance of such a box
_MISSES = 3  # frames without the face before a track can end, at any frame rate
_LONGEST = 10.0  # times `max_gap`, after which a track ends even with fewer frames


@dataclass(frozen=True)
class Tracked:
    """A face of one frame with its track and smoothed emotion.

    Args:
        track: Number of the person, from 1 in the order of appearance.
        face: The prediction for this frame only.
        smoothed: Smoothed probability of each emotion; they sum to 1.
        uncertain: Whether the smoothed probability is below the threshold of the tracker.
    """

    track: int
    face: Face
    smoothed: Mapping[str, float]
    uncertain: bool = False

    @property
    def emotion(self) -> str:
        """The emotion with the highest smoothed probability; the first one if several are equal."""
        return max(self.smoothed, key=self.smoothed.__getitem__)

    @property
    def confidence(self) -> float:
        """The smoothed probability of `emotion`."""
        return self.smoothed[self.emotion]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: those of the face, the track number, and the smoothed prediction."""
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
    before: Mapping[str, float], now: Mapping[str, float], seconds: float, *, smoothing: float = SMOOTHING
) -> dict[str, float]:
    """Return smoothed scores, updated by a new prediction.

    The weight of the past is exp(-seconds / smoothing), so the result does not depend on the frame rate.
    After a long gap only the new prediction counts.

    Args:
        before: Smoothed probabilities so far.
        now: The new probabilities of the same labels.
        seconds: Time between the two, at least 0.
        smoothing: Time constant in seconds; 0 turns smoothing off.

    Returns:
        Probabilities that sum to 1, in the order of `now`.
    """
    past = math.exp(-seconds / smoothing) if smoothing > 0 else 0.0
    return {label: past * before[label] + (1 - past) * score for label, score in now.items()}


class Tracker:
    """Assigns a track number to each face of one stream of frames. It is not thread-safe.

    Args:
        max_gap: Seconds without a detection after which a track ends. At low frame rates a track ends after
            three frames without the face, and at the latest after ten times `max_gap`.
        smoothing: Time constant of the smoothing in seconds; 0 turns smoothing off.
        threshold: Probability in [0, 1] below which a smoothed prediction is uncertain, such as
            `Predictor.threshold`; None if none is.
    """

    def __init__(
        self, *, max_gap: float = MAX_GAP, smoothing: float = SMOOTHING, threshold: float | None = None
    ) -> None:
        self.max_gap, self.smoothing, self.threshold = max_gap, smoothing, threshold
        self._people: list[_Person] = []
        self._given = 0
        self._time = -math.inf

    def update(self, time: float, faces: Sequence[Face]) -> tuple[Tracked, ...]:
        """Return the tracks of the faces in the next frame.

        The result is deterministic. If the time is earlier than that of the last frame, another recording
        begins and all tracks are new.

        Args:
            time: Time of the frame in seconds.
            faces: The faces of the frame; may be empty.

        Returns:
            One item for each face, in the given order.
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
            person.smoothed = smooth(
                person.smoothed, face.scores, time - person.time, smoothing=self.smoothing
            )
            person.update(time, expected[index], face.box, crowded=crowded)
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
        """Return the expected boxes of all current tracks.

        Args:
            time: Time in seconds, not before the last update.
            width: Width of the frame in pixels; boxes are clipped to it, and those outside are left out.
            height: Height of the frame in pixels.

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
        return unseen > self.max_gap * (1 if person.misses >= _MISSES else _LONGEST)


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes, in [0, 1]."""
    width = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    height = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (one.area + other.area - both)


@dataclass(frozen=True)
class _Axis:
    """Position and speed along one axis with their variances and covariance (a Kalman filter)."""

    at: float
    speed: float
    variance: float
    covariance: float
    speed_variance: float

    def predict(self, seconds: float, motion_noise: float) -> "_Axis":
        """Return the prediction for a later time: constant speed with random changes."""
        return _Axis(
            self.at + self.speed * seconds,
            self.speed,
            self.variance
            + 2 * self.covariance * seconds
            + self.speed_variance * seconds**2
            + motion_noise * seconds**3 / 3,
            self.covariance + self.speed_variance * seconds + motion_noise * seconds**2 / 2,
            self.speed_variance + motion_noise * seconds,
        )

    def update(self, at: float, noise: float) -> "_Axis":
        """Return the estimate after a measurement."""
        total = self.variance + noise
        gain, speed_gain = self.variance / total, self.covariance / total
        error = at - self.at
        return _Axis(
            self.at + gain * error,
            self.speed + speed_gain * error,
            self.variance * (1 - gain),
            self.covariance * (1 - gain),
            self.speed_variance - speed_gain * self.covariance,
        )


@dataclass(frozen=True)
class _Place:
    """Expected place of a face: centre and size in pixels, and seconds since the last detection."""

    x: _Axis
    y: _Axis
    width: float
    height: float
    seconds: float

    def box(self) -> Box:
        wide, high = max(1, round(self.width)), max(1, round(self.height))
        return Box(round(self.x.at - self.width / 2), round(self.y.at - self.height / 2), wide, high)

    def cost(self, box: Box) -> float:
        """Return the cost of assigning a box to this track: squared deviations plus log variance, or inf."""
        unit = self.width
        noise = _MEASURED * unit**2
        x, y = _middle(box)
        wide_x, wide_y = self.x.variance + noise, self.y.variance + noise
        far = (x - self.x.at) ** 2 / wide_x + (y - self.y.at) ** 2 / wide_y
        larger = math.log(box.area / (self.width * self.height)) / 2
        far += larger**2 / (_SIZE_MEASURED + _SIZE_CHANGE * self.seconds)
        reach = math.hypot(x - self.x.at, y - self.y.at) / unit
        if far > _GATE or reach > _REACH or abs(larger) > math.log(_LARGER):
            return math.inf
        # Without the variance, a track that was lost for long would take the face of another one.
        return far + math.log(wide_x * wide_y / noise**2)


class _Person:
    """State of one track."""

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
        # In one step from the last detection, so frames without the face have no effect.
        seconds = max(0.0, time - self.time)
        motion_noise = _MOTION_NOISE * self.width**2
        return _Place(
            self.x.predict(seconds, motion_noise),
            self.y.predict(seconds, motion_noise),
            self.width,
            self.height,
            seconds,
        )

    def update(self, time: float, expected: _Place, box: Box, *, crowded: bool) -> None:
        noise = _MEASURED * self.width**2 * (_CROWDED_NOISE if crowded else 1)
        x, y = _middle(box)
        self.x, self.y = expected.x.update(x, noise), expected.y.update(y, noise)
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
    """Return the assignment of rows to columns with the most pairs and then the lowest total cost.

    A pair with infinite cost is excluded.

    Source: the Hungarian method with potentials, Kuhn 1955 and Munkres 1957, one row at a time.
    """
    rows, size = len(costs), len(costs) + columns
    never = 1e6
    # Each row has an extra column that means "unassigned" and costs more than any pair.
    unassigned = 1e3

    def cost(row: int, column: int) -> float:
        if column >= columns:
            return unassigned if column - columns == row else never
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
