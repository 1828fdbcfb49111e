"""Pictures from a camera, or from a video played as if it were one."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import av
import av.device
import av.logging
import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError

if TYPE_CHECKING:
    from av.container import InputContainer

Pixels: TypeAlias = Callable[[], NDArray[np.uint8]]
#: Pictures as they come: when each is due, in seconds after the first, or None for at once; and what gives
#: its pixels `(h, w, 3)` RGB, 0..255, so that only pictures that are looked at cost a conversion.
Frames: TypeAlias = Iterable[tuple[float | None, Pixels]]

# What is asked of a camera, in turn; some refuse a rate or size that they do not have.
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
        name: Its number from 0, its name or a part of it, or its device file.

    Returns:
        Its pictures, for one iteration; the camera is closed where that ends.

    Raises:
        InputError: There is no such camera, or it cannot be opened.
    """
    av.logging.set_level(None)  # what goes wrong is told in words; nothing is to stand on stderr as well
    system = _SYSTEMS.get(sys.platform)
    if system is None:
        raise InputError(f"mien knows no cameras on {sys.platform}; play a video file with --camera FILE")
    return _pictures(_open(_address(system, name), system, name), name)


def play(pictures: Iterable[Picture]) -> Frames:
    """Play a video as if it were a camera: each picture at its time after the first.

    Args:
        pictures: As `mien.inference.video.Clip.pictures` gives them.
    """
    first: float | None = None
    for picture in pictures:
        first = picture.time if first is None else first
        yield picture.time - first, picture.pixels


def _address(system: str, name: str) -> str:
    """Return what FFmpeg opens for a camera's number or name."""
    if system == "v4l2" and name.isdigit():
        name = f"/dev/video{name}"
    if system == "v4l2" and name.startswith("/dev/"):
        if not Path(name).exists():
            raise InputError(f"there is no camera at {name}; {_ADVICE}")
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
        raise InputError(f"there is no camera {name!r} here; {f'there are {known}' if devices else _ADVICE}")
    return f"video={found[0].name}" if system == "dshow" else str(found[0].name)


def _devices(system: str) -> list[Any]:
    try:
        devices = av.device.enumerate_input_devices(system)
    except (av.error.FFmpegError, OSError, ValueError):
        return []  # a system that cannot list its cameras has none to choose from
    return [each for each in devices if "video" in (getattr(each, "media_types", None) or ["video"])]


def _open(address: str, system: str, name: str) -> "InputContainer":
    reason: Exception | None = None
    for wishes in _WISHES:
        try:
            container = av.open(address, format=system, options=dict(wishes))
        except PermissionError:
            raise InputError(f"the camera {name!r} may not be used; allow this user or program to") from None
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = error
            continue
        if container.streams.video:
            return container
        container.close()
    said = getattr(reason, "strerror", None) or "it sends no pictures"
    raise InputError(f"the camera {name!r} cannot be opened: {said}; close what else uses it, or {_ADVICE}")


def _pictures(container: "InputContainer", name: str) -> Iterator[tuple[None, Pixels]]:
    with container:
        frames = container.decode(video=0)
        while True:
            try:
                frame = next(frames, None)
            except (av.error.FFmpegError, OSError) as error:
                said = getattr(error, "strerror", None) or "it sends no more pictures"
                raise InputError(f"the camera {name!r} is gone: {said}") from None
            if frame is None:
                raise InputError(f"the camera {name!r} is gone: it sends no more pictures")
            yield None, _converter(frame)


def _converter(frame: Any) -> Pixels:
    return lambda: np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
