"""Look at the newest picture, always: capture in one thread, looking in another, one place between them."""

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from mien.errors import MienError
from mien.types import Prediction
from mien.vision.tracking import PATIENCE, SETTLE, Tracked, Tracker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mien.inference.predictor import Predictor
    from mien.inference.webcam.capture import Frames, Pixels

#: Seconds without a picture after which a camera counts as gone.
SILENCE = 10.0
#: Seconds over which frames are counted.
_SPAN = 2.0

T = TypeVar("T")


class Slot(Generic[T]):
    """A place for one thing; a newer one takes the older one's place. For any number of threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> None:
        """Put the newest thing here; what nobody took is dropped."""
        with self._changed:
            self._item = item
            self._changed.notify()

    def close(self) -> None:
        """Say that nothing comes any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether nothing comes any more; something may still be here."""
        return self._closed

    def take(self, timeout: float) -> T | None:
        """Take the newest thing, waiting for it where none is here.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            None where nothing came in that time or comes any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout)
            item, self._item = self._item, None
            return item


@dataclass(frozen=True)
class Look:
    """What was seen in one picture.

    Args:
        number: Pictures that the camera gave before it, looked at or not.
        time: Seconds from the first picture to this one.
        pixels: The picture, `(h, w, 3)` RGB, 0..255.
        prediction: The faces of this picture alone.
        people: The same faces, each with its person's number and smoothed emotion.
        latency: Seconds from the picture's capture to the answer.
        rate: Pictures looked at a second, of late.
        captured: When the picture was captured, on the clock of `time.monotonic`.
    """

    number: int
    time: float
    pixels: NDArray[np.uint8] = field(repr=False, compare=False)
    prediction: Prediction
    people: tuple[Tracked, ...]
    latency: float
    rate: float
    captured: float

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds: a prediction's own dict, times, and each face's person."""
        return {
            **self.prediction.to_dict(),
            "frame": self.number,
            "time": round(self.time, 3),
            "latency": round(self.latency, 3),
            "faces": [person.to_dict() for person in self.people],
        }


@dataclass(frozen=True)
class _Shot:
    number: int
    captured: float
    pixels: "Pixels"


class Live:
    """Looks at what a camera gives, the newest picture first; use it in a `with`, and iterate over it once.

    Args:
        frames: Pictures, as `camera` and `play` give them.
        predictor: Finds and reads the faces.
        name: What predictions call the source.
        mirror: Turn left and right, as a mirror does; boxes are those of the mirrored picture.
        patience: Seconds after which somebody who is not seen is gone.
        settle: Seconds in which smoothed scores go 63 % of the way to new ones; 0 smooths nothing.
        silence: Seconds without a picture after which the camera counts as gone.
    """

    def __init__(
        self,
        frames: "Frames",
        predictor: "Predictor",
        *,
        name: str = "camera",
        mirror: bool = False,
        patience: float = PATIENCE,
        settle: float = SETTLE,
        silence: float = SILENCE,
    ) -> None:
        self.name, self.captured, self.looked = name, 0, 0
        #: Why the pictures ended, where they did not end by themselves.
        self.problem: str | None = None
        self._frames, self._predictor, self._mirror, self._silence = frames, predictor, mirror, silence
        self._tracker = Tracker(patience=patience, settle=settle, threshold=predictor.threshold)
        self._slot: Slot[_Shot] = Slot()
        self._stop = threading.Event()
        self._fault: BaseException | None = None
        self._begin = 0.0
        # A camera may hang in its driver, and must not keep the program from ending.
        self._thread = threading.Thread(target=self._capture, name="mien-camera", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join(timeout=3)

    def stop(self) -> None:
        """End the iteration after the picture that is being looked at. Any thread may call it."""
        self._stop.set()
        self._slot.close()

    def __iter__(self) -> "Iterator[Look]":
        times: deque[float] = deque()
        while not self._stop.is_set():
            shot = self._slot.take(self._silence)
            if shot is None:
                if not self._slot.closed:
                    self.problem = f"{self.name} sent no picture for {self._silence:g} seconds"
                break
            look = self._look(shot, times)
            self.looked += 1
            yield look
        if self._fault is not None:
            raise self._fault

    def _look(self, shot: _Shot, times: "deque[float]") -> Look:
        pixels = shot.pixels()
        if self._mirror:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        prediction = self._predictor.image(pixels, name=self.name, auto_rotate=False)
        moment = shot.captured - self._begin
        people = self._tracker.update(moment, prediction.faces)
        now = time.monotonic()
        times.append(now)
        while now - times[0] > _SPAN and len(times) > 2:
            times.popleft()
        rate = (len(times) - 1) / (now - times[0]) if now > times[0] else 0.0
        return Look(shot.number, moment, pixels, prediction, people, now - shot.captured, rate, shot.captured)

    def _capture(self) -> None:
        try:
            for due, pixels in self._frames:
                if not self.captured:
                    self._begin = time.monotonic()
                if due is not None:
                    self._stop.wait(max(0.0, self._begin + due - time.monotonic()))
                if self._stop.is_set():
                    break
                self._slot.put(_Shot(self.captured, time.monotonic(), pixels))
                self.captured += 1
        except MienError as error:
            self.problem = str(error)
        except BaseException as error:  # raised again where the pictures are looked at
            self._fault = error
        finally:
            self._slot.close()
            # A generator closes its camera here, in the thread that reads it.
            close = getattr(self._frames, "close", None)
            if close is not None:
                close()
