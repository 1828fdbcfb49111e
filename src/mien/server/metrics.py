"""Counters of a server, as the text that Prometheus reads.

Source: the Prometheus text format, version 0.0.4.
"""

import bisect
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Counter:
    """A number for each combination of labels, which only grows."""

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        self.name, self.about, self.labels = name, about, tuple(labels)
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}
        self._lock = threading.Lock()

    def add(self, *values: str, by: float = 1.0) -> None:
        """Add to the number of these values of the labels."""
        with self._lock:
            self._values[values] = self._values.get(values, 0.0) + by

    def lines(self) -> Iterator[str]:
        """Yield the lines of the text."""
        yield from _head(self.name, self.about, "counter")
        for values, number in sorted(self._values.copy().items()):
            yield f"{self.name}{_labels(self.labels, values)} {number:.15g}"


class Histogram:
    """How often numbers were up to each of some bounds."""

    def __init__(self, name: str, about: str, bounds: Sequence[float]) -> None:
        self.name, self.about, self._bounds = name, about, tuple(bounds)
        self._counts, self._sum = [0] * (len(bounds) + 1), 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Count a number."""
        with self._lock:
            self._counts[bisect.bisect_left(self._bounds, value)] += 1
            self._sum += value

    def lines(self) -> Iterator[str]:
        """Yield the lines of the text."""
        yield from _head(self.name, self.about, "histogram")
        with self._lock:
            counts, total = list(self._counts), self._sum
        so_far = 0
        for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
            so_far += count
            shown = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield f'{self.name}_bucket{{le="{shown}"}} {so_far}'
        yield f"{self.name}_sum {total:.15g}"
        yield f"{self.name}_count {so_far}"


class Gauge:
    """A number that is read when it is asked for."""

    def __init__(self, name: str, about: str, read: Callable[[], float]) -> None:
        self.name, self.about, self._read = name, about, read

    def lines(self) -> Iterator[str]:
        """Yield the lines of the text."""
        yield from _head(self.name, self.about, "gauge")
        yield f"{self.name} {self._read():.15g}"


class Metrics:
    """What one server process counts."""

    def __init__(self) -> None:
        self.requests = Counter("mien_requests_total", "Requests that were answered.", ("path", "status"))
        self.seconds = Histogram("mien_request_seconds", "Time to answer a POST request.", _SECONDS)
        self.refused = Counter("mien_refused_total", "Requests that were refused because the queue was full.")
        self.gone = Counter("mien_disconnected_total", "Clients that left before their answer.")
        self.images = Counter("mien_images_total", "Images that were predicted.")
        self.faces = Counter("mien_faces_total", "Faces that were found.")
        self.frames = Counter("mien_stream_frames_total", "Frames of streams.", ("outcome",))
        self.batches = Histogram("mien_batch_items", "Items that were computed in one batch.", _SIZES)
        self.gauges: list[Gauge] = []
        self._began = time.time()
        self.gauge(
            "mien_start_time_seconds", "When the process began, in seconds since 1970.", lambda: self._began
        )

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Add a number that is read for each text."""
        self.gauges.append(Gauge(name, about, read))

    def text(self) -> str:
        """Return the text."""
        counted: tuple[Counter | Histogram, ...] = (
            self.requests,
            self.seconds,
            self.refused,
            self.gone,
            self.images,
            self.faces,
        )
        lines = [
            line for each in (*counted, self.frames, self.batches, *self.gauges) for line in each.lines()
        ]
        lines += [*_head("mien_process_info", "The process that answers.", "gauge")]
        lines += [f'mien_process_info{{pid="{os.getpid()}"}} 1']
        return "\n".join(lines) + "\n"


def _head(name: str, about: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    shown = ",".join(
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for name, value in zip(names, values, strict=True)
    )
    return f"{{{shown}}}"
