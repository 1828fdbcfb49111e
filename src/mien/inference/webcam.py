"""Classify the emotions of faces in front of a camera, live.

    with webcam.Live(webcam.camera("0"), Predictor()) as live:
        for look in live:
            print(look.time, [(person.track, person.emotion) for person in look.people], look.latency)

Only the newest picture is analyzed: pictures that arrive during an analysis replace each other. So a
prediction is never older than one analysis, at any speed.
"""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien import _files
from mien.errors import InputError, MienError, MissingExtra, OutputError
from mien.types import Prediction
from mien.vision import annotation
from mien.vision.tracking import MAX_GAP, SMOOTHING, Tracked, Tracker

try:
    # The camera needs it, and only here its absence is reported.
    import av
    import av.device
    import av.logging
except ImportError as error:
    raise MissingExtra("webcam", "video") from error


if TYPE_CHECKING:
    from av.container import InputContainer

    from mien.inference.predictor import Predictor


from mien.inference.video_files import Clip

Pixels: TypeAlias = Callable[[], NDArray[np.uint8]]
#: Pictures as they arrive: the time of each in seconds after the first, or None for now; and a callable that
#: returns its pixels `(h, w, 3)` RGB, 0..255, so that only analyzed pictures are converted.
Frames: TypeAlias = Iterable[tuple[float | None, Pixels]]

# Settings to try in turn, because some cameras refuse a rate or size.
_WISHES: tuple[dict[str, str], ...] = ({"framerate": "30", "video_size": "640x480"}, {"framerate": "30"}, {})
_SYSTEMS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
_ADVICE = "connect one, or play a video file with --camera FILE"


class Picture(Protocol):
    """A picture of a video file."""

    @property
    def time(self) -> float:
        """Seconds."""

    def pixels(self) -> NDArray[np.uint8]:
        """Return `(h, w, 3)` RGB, 0..255."""


def camera(name: str = "0") -> Frames:
    """Open a camera.

    Args:
        name: The number from 0, the name or a part of it, or the device file.

    Returns:
        The pictures for one iteration, after which the camera is closed.

    Raises:
        InputError: The camera does not exist or cannot be opened.
    """
    av.logging.set_level(None)  # errors are raised; FFmpeg must not print them too
    system = _SYSTEMS.get(sys.platform)
    if system is None:
        raise InputError(f"cameras are not supported on {sys.platform}; play a video file with --camera FILE")
    return _pictures(_open(_address(system, name), system, name), name)


def open_source(name: str, stack: ExitStack) -> tuple[Frames, str]:
    """Return the frames of a camera, or of a video file as if it came from a camera, and a name for them.

    Args:
        name: As `camera` takes it, or a video file.
        stack: Closes the video file.

    Raises:
        InputError: The camera does not exist or cannot be opened.
        VideoError: The file does not exist or is not a video.
    """
    path = Path(name)
    device = name.startswith("/dev/") or name.isdigit()
    if path.is_file() or (not device and (path.suffix or len(path.parts) > 1)):
        clip = stack.enter_context(Clip(path))
        return play(clip.pictures()), path.name
    return camera(name), f"camera {name}"


def limit(frames: Frames, seconds: float) -> Frames:
    """Yield the frames of the first seconds."""
    begin: float | None = None
    for due, pixels in frames:
        begin = time.monotonic() if begin is None else begin
        if (time.monotonic() - begin if due is None else due) >= seconds:
            return
        yield due, pixels


def play(pictures: Iterable[Picture]) -> Frames:
    """Play a video as if it were a camera: each picture at its time after the first.

    Args:
        pictures: As `mien.inference.video_files.Clip.pictures` gives them.
    """
    first: float | None = None
    for picture in pictures:
        first = picture.time if first is None else first
        yield picture.time - first, picture.pixels


def _address(system: str, name: str) -> str:
    """Return the address of a camera for FFmpeg."""
    if system == "v4l2" and name.isdigit():
        name = f"/dev/video{name}"
    if system == "v4l2" and name.startswith("/dev/"):
        if not Path(name).exists():
            raise InputError(f"no camera at {name}; {_ADVICE}")
        return name
    if system == "avfoundation" and name.isdigit():
        return name
    devices = _devices(system)
    if name.isdigit():
        found = [devices[int(name)]] if int(name) < len(devices) else []
    else:
        found = [each for each in devices if name.lower() in f"{each.name} {each.description}".lower()]
    if not found:
        known = ", ".join(repr(each.description or each.name) for each in devices)
        raise InputError(f"no camera {name!r}; {f'choose one of {known}' if devices else _ADVICE}")
    return f"video={found[0].name}" if system == "dshow" else str(found[0].name)


def _devices(system: str) -> list[Any]:
    try:
        devices = av.device.enumerate_input_devices(system)
    except (av.error.FFmpegError, OSError, ValueError):
        return []  # the system cannot list its cameras
    return [each for each in devices if "video" in (getattr(each, "media_types", None) or ["video"])]


def _open(address: str, system: str, name: str) -> "InputContainer":
    reason: Exception | None = None
    for wishes in _WISHES:
        try:
            container = av.open(address, format=system, options=dict(wishes))
        except PermissionError:
            raise InputError(
                f"no permission to use the camera {name!r}; allow this user or program to use it"
            ) from None
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = error
            continue
        if container.streams.video:
            return container
        container.close()
    said = getattr(reason, "strerror", None) or "it sends no pictures"
    raise InputError(
        f"the camera {name!r} cannot be opened: {said}; close other programs that use it, or {_ADVICE}"
    )


def _pictures(container: "InputContainer", name: str) -> Iterator[tuple[None, Pixels]]:
    with container:
        frames = container.decode(video=0)
        while True:
            try:
                frame = next(frames, None)
            except (av.error.FFmpegError, OSError) as error:
                said = getattr(error, "strerror", None) or "it sends no more pictures"
                raise InputError(f"the camera {name!r} stopped: {said}") from None
            if frame is None:
                raise InputError(f"the camera {name!r} stopped: it sends no more pictures")
            yield None, _converter(frame)


def _converter(frame: Any) -> Pixels:
    return lambda: np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


#: Seconds without a picture after which a camera is lost.
SILENCE = 10.0
#: Seconds over which the rate is measured.
_SPAN = 2.0

T = TypeVar("T")


class Slot(Generic[T]):
    """A queue of length 1 in which a new item replaces the old one. It is thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> None:
        """Put an item; drop the old one."""
        with self._changed:
            self._item = item
            self._changed.notify()

    def close(self) -> None:
        """End the queue."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether the queue has ended; it may still have an item."""
        return self._closed

    def take(self, timeout: float) -> T | None:
        """Take the item, or wait for one.

        Args:
            timeout: Most seconds to wait.

        Returns:
            None after the timeout or the end of the queue.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout)
            item, self._item = self._item, None
            return item


@dataclass(frozen=True)
class Look:
    """The analysis of one picture.

    Args:
        number: Number of pictures that the camera sent before it.
        time: Seconds from the first picture to this one.
        pixels: The picture, `(h, w, 3)` RGB, 0..255.
        prediction: The faces of this picture alone.
        people: The same faces with track numbers and smoothed emotions.
        latency: Seconds from the capture to the prediction.
        rate: Recent analyses per second.
        captured: Time of the capture on the clock of `time.monotonic`.
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
        """Return plain values: those of a prediction, times, and the people."""
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
    """Analyze the newest picture of a camera; use it in a `with`, and iterate over it once.

    Args:
        frames: Pictures from `camera` or `play`.
        predictor: Detects and classifies the faces.
        name: Name of the source in predictions.
        mirror: Swap left and right; boxes refer to the mirrored picture.
        max_gap: Seconds after which somebody who is not seen is gone.
        smoothing: Seconds in which smoothed scores go 63 % of the way to new ones; 0 smooths nothing.
        silence: Seconds without a picture after which the camera is lost.
    """

    def __init__(
        self,
        frames: "Frames",
        predictor: "Predictor",
        *,
        name: str = "camera",
        mirror: bool = False,
        max_gap: float = MAX_GAP,
        smoothing: float = SMOOTHING,
        silence: float = SILENCE,
    ) -> None:
        self.name, self.captured, self.looked = name, 0, 0
        #: The reason if the pictures ended with an error.
        self.problem: str | None = None
        self._frames, self._predictor, self._mirror, self._silence = frames, predictor, mirror, silence
        self._tracker = Tracker(max_gap=max_gap, smoothing=smoothing, threshold=predictor.threshold)
        self._slot: Slot[_Shot] = Slot()
        self._stop = threading.Event()
        self._fault: BaseException | None = None
        self._begin = 0.0
        # A camera may hang in its driver, which must not prevent the program's end.
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
        """End the iteration after the current picture. It is thread-safe."""
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
        except BaseException as error:  # raised again in the thread of the iteration
            self._fault = error
        finally:
            self._slot.close()
            # Closes the camera in the thread that reads it.
            close = getattr(self._frames, "close", None)
            if close is not None:
                close()


_GROUND, _INK, _FAINT = "#1c1c1e", "#f2f2f2", "#a5a5aa"
_POLL = 8  # milliseconds between checks for a new picture
_SHOWN_SPAN = 1.0  # seconds over which shown pictures are counted
# Tcl aborts the program if another thread deletes its interpreter, which Python's garbage collector may do.
# So the interpreters of closed windows are kept.
_KEPT: list[Any] = []
_LARGEST = 0.9  # share of the screen that the window takes at first, at most


class Window:
    """A window that shows the pictures of a `Live`. The keys q and Esc close it, s saves the picture.

    Args:
        title: The title.
        folder: The folder for saved pictures.

    Raises:
        InputError: A display is missing, or Tk is not installed.
    """

    def __init__(self, title: str = "mien", *, folder: str | os.PathLike[str] = ".") -> None:
        try:
            import tkinter

            from PIL import ImageTk
        except ImportError:
            raise InputError("a window needs Tk; install python3-tk") from None
        try:
            root = tkinter.Tk(className="mien")
        except tkinter.TclError:
            raise InputError("a window needs a display") from None
        _KEPT.append(root)
        self.folder, self._root, self._photos = Path(folder), root, ImageTk
        self._shown: Look | None = None
        self._marked: Image.Image | None = None
        self._places = annotation.Places()
        self._photo: Any = None
        self._said, self._said_until = "", 0.0
        self._times: deque[float] = deque()
        self._latency = 0.0
        self._fault: BaseException | None = None
        self._build(tkinter, title)

    def run(self, live: Live, *, on_look: Callable[[Look], None] | None = None) -> None:
        """Show the pictures until they end or the window is closed.

        Args:
            live: It must be entered; it is stopped when the window closes.
            on_look: Called with each analysis, in another thread.
        """
        looks: Slot[Look] = Slot()

        def work() -> None:
            try:
                for look in live:
                    if on_look is not None:
                        on_look(look)
                    looks.put(look)
            except BaseException as error:  # raised again in the thread of the window
                self._fault = error
            finally:
                looks.close()

        worker = threading.Thread(target=work, name="mien-look", daemon=True)
        worker.start()
        self._root.after(_POLL, self._poll, looks)
        try:
            self._root.mainloop()
        finally:
            live.stop()
            worker.join(timeout=5)
            self._photo = None
            self._root.destroy()
        if self._fault is not None:
            raise self._fault

    def _build(self, tkinter: Any, title: str) -> None:
        root = self._root
        root.title(title)
        root.configure(background=_GROUND)
        root.minsize(360, 240)
        bar = tkinter.Frame(root, background=_GROUND)
        bar.pack(side="bottom", fill="x")
        text = {"background": _GROUND, "font": ("TkDefaultFont", 11), "padx": 10, "pady": 6}
        self._status = tkinter.Label(bar, text="waiting for the camera", foreground=_INK, **text)
        self._status.pack(side="left")
        tkinter.Label(bar, text="s save   q quit", foreground=_FAINT, **text).pack(side="right")
        self._picture = tkinter.Label(root, background=_GROUND, borderwidth=0)
        self._picture.pack(side="top", fill="both", expand=True)
        for key in ("q", "Q", "<Escape>"):
            root.bind(key, lambda event: root.quit())
        for key in ("s", "S"):
            root.bind(key, lambda event: self._save())
        root.protocol("WM_DELETE_WINDOW", root.quit)
        # Otherwise Tk prints errors of callbacks, and Ctrl-C, and continues.
        root.report_callback_exception = self._failed

    def _failed(self, kind: type[BaseException], error: BaseException, trace: "TracebackType | None") -> None:
        self._fault = error
        self._root.quit()

    def _poll(self, looks: Slot[Look]) -> None:
        look = looks.take(0)
        if look is not None:
            self._show(look)
        elif looks.closed:
            self._root.quit()
            return
        self._root.after(_POLL, self._poll, looks)

    def _show(self, look: Look) -> None:
        self._shown, self._marked = (
            look,
            Image.fromarray(annotation.draw(look.pixels, look.people, places=self._places)),
        )
        fitted = self._fitted(self._marked)
        if self._photo is None or (self._photo.width(), self._photo.height()) != fitted.size:
            self._photo = self._photos.PhotoImage(fitted, master=self._root)
            self._picture.configure(image=self._photo)
        else:
            self._photo.paste(fitted)
        now = time.monotonic()
        self._times.append(now)
        while now - self._times[0] > _SHOWN_SPAN and len(self._times) > 2:
            self._times.popleft()
        rate = (len(self._times) - 1) / (now - self._times[0]) if now > self._times[0] else 0.0
        # Averaged, so that it can be read.
        behind = now - look.captured
        self._latency += (behind - self._latency) * (0.2 if self._latency else 1)
        count = len(look.people)
        faces = "1 face" if count == 1 else f"{count or 'no'} faces"
        words = f"{rate:.0f} frames per second   {1000 * self._latency:.0f} ms latency   {faces}"
        self._status.configure(text=self._said if now < self._said_until else words)

    def _fitted(self, picture: Image.Image) -> Image.Image:
        """Scale a picture to the window; the first one sets the size of the window."""
        if self._photo is None:
            root = self._root
            room = _LARGEST * root.winfo_screenwidth(), _LARGEST * root.winfo_screenheight()
            scale = min(1.0, room[0] / picture.width, room[1] / picture.height)
            bar = self._status.master.winfo_reqheight()
            width, height = round(picture.width * scale), round(picture.height * scale)
            root.geometry(f"{max(360, width)}x{max(240, height + bar)}")
            wide, high = width, height
        else:
            wide, high = self._picture.winfo_width(), self._picture.winfo_height()
        scale = min(wide / picture.width, high / picture.height)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        return picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)

    def _save(self) -> None:
        """Save the current picture with its marks under a new name."""
        if self._marked is None:
            return
        stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S")
        names = [
            self.folder / f"mien-{stamp}{extra}.png" for extra in ("", *(f"-{n}" for n in range(2, 100)))
        ]
        path = next(name for name in names if not name.exists())
        picture = self._marked
        try:
            _files.fill(path, lambda place: picture.save(place, "PNG"))
            self._said = f"saved as {path.name}"
        except OutputError as error:
            self._said = str(error)
        self._said_until = time.monotonic() + 2
        self._status.configure(text=self._said)
