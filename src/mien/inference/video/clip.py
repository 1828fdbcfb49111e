"""A video file, decoded picture by picture: upright, in square pixels, each with its own time."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from mien.errors import VideoError
from mien.vision import images

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

#: What is opened, by FFmpeg's names. Playlists, which name other files and addresses, are not; sound files
#: are, so that they can be told from damaged ones.
FORMATS = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo"),
    *("asf", "flv", "gif", "ogg", "mxf", "dv", "h264", "hevc", "m4v", "ivf", "nut"),
    *("mp3", "wav", "flac", "aac"),
)
#: Seconds, and share of the length, by which a file may end before it says without being called cut off.
_SLACK, _SLACK_SHARE = 0.5, 0.01
#: Pixel shapes beyond this are a damaged header rather than a format.
_OBLONG = 4.0
_RATE = 25.0
_WANTED = "mien reads video such as mp4, mkv, webm, mov and avi"


#: a, b, c, d of a display matrix: (x, y) is shown at (a x + c y, b x + d y).
Matrix: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True)
class Picture:
    """One decoded picture of a video.

    Args:
        number: Pictures decoded before it.
        time: Seconds, its presentation timestamp as the file has it.
        pts: The timestamp in the stream's own unit.
        seconds: How long it is shown, as far as the file says; otherwise what the frame rate gives.
        damaged: Whether the decoder had to make up parts of it.
    """

    number: int
    time: float
    pts: int
    seconds: float
    damaged: bool
    _shape: float = field(repr=False)
    _matrix: Matrix = field(repr=False)
    _reformatter: VideoReformatter = field(repr=False, compare=False)
    _frame: "VideoFrame" = field(repr=False, compare=False)

    def pixels(self) -> NDArray[np.uint8]:
        """Return the picture, `(h, w, 3)` RGB, 0..255, upright, its pixels square."""
        frame = self._frame
        plain = self._reformatter.reformat(frame, self._wide, frame.height, "rgb24", threads=1)
        return _upright(np.asarray(plain.to_ndarray(), np.uint8), self._matrix)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of `pixels`."""
        a, b, _, _ = self._matrix
        size = self._wide, self._frame.height
        return size[::-1] if abs(b) > abs(a) else size

    @property
    def _wide(self) -> int:
        return max(1, round(self._frame.width * self._shape))


class Clip:
    """An open video file. Close it, or use it in a `with`.

    Args:
        path: The file. Addresses and playlists are not opened: nothing but this file is read.

    Raises:
        VideoError: There is no such file, it is no video, or its pictures have more than `images.MAX_PIXELS`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.problems: list[str] = []
        # One for all pictures, on one thread: each picture's own would start threads anew.
        self._reformatter = VideoReformatter()
        self._matrices: dict[int, Matrix] = {}
        self._container = _open(self.path)
        try:
            self._stream = _video_of(self._container, self.path)
            self._stream.thread_type = "AUTO"
            context = self._stream.codec_context
            _check_size(context.width, context.height, self.path)
        except BaseException:
            self.close()
            raise
        container = self._container
        begin = (container.start_time or 0) / av.time_base
        #: Seconds at which the file says it ends; None where it does not say.
        self.end = begin + container.duration / av.time_base if container.duration else None
        self.begin = begin

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def stream(self) -> "VideoStream":
        """PyAV's video stream."""
        return self._stream

    @property
    def rate(self) -> float:
        """Pictures a second, about: what the file says, 25 where it says nothing sensible."""
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        return rate if 0.01 <= rate <= 1000 else _RATE

    def sounds(self) -> "Sequence[AudioStream]":
        """PyAV's audio streams."""
        return self._container.streams.audio

    def pictures(self, *, on_packet: "Callable[[Packet[Any]], None] | None" = None) -> Iterator[Picture]:
        """Decode one picture after the other. What cannot be decoded is left out, and told in `problems`.

        Args:
            on_packet: Called with each packet of another stream, in the file's order.

        Raises:
            VideoError: Not one picture could be decoded.
        """
        damaged = lost = packets = number = 0
        reached, last = -math.inf, -math.inf
        broken = ""
        for packet in self._packets():
            if isinstance(packet, str):
                broken = packet
                break
            reached = max(reached, _end_of(packet))
            if packet.stream is not self._stream:
                if on_packet is not None and packet.size:
                    on_packet(packet)
                continue
            packets += bool(packet.size)
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                lost += 1
                continue
            for frame in frames:
                picture = self._picture(number, frame, last)
                damaged += picture.damaged
                number, last = number + 1, picture.time
                yield picture
        if not number:
            raise VideoError(f"no picture of '{self.path}' can be decoded; the file is damaged, save it anew")
        self._tell(broken, damaged=damaged, lost=lost, packets=packets, reached=reached)

    def _packets(self) -> Iterator["Packet[Any] | str"]:
        """Give every packet, and at last, where reading failed, what FFmpeg said."""
        try:
            yield from self._container.demux()
        except (av.error.FFmpegError, OSError) as error:
            yield getattr(error, "strerror", None) or type(error).__name__

    def _picture(self, number: int, frame: "VideoFrame", last: float) -> Picture:
        _check_size(frame.width, frame.height, self.path)
        unit = frame.time_base or self._stream.time_base
        assert unit is not None
        pts = frame.pts
        if pts is None:  # Bare streams have no timestamps; all there is to go by is the rate.
            time = number / self.rate if number == 0 else last + 1 / self.rate
            pts = round(time / unit)
        else:
            time = float(pts * unit)
        seconds = float(frame.duration * unit) if frame.duration else 1 / self.rate
        return Picture(
            number,
            time,
            pts,
            seconds,
            bool(frame.is_corrupt),
            _shape(self._stream),
            self._turn(frame),
            self._reformatter,
            frame,
        )

    def _turn(self, frame: "VideoFrame") -> Matrix:
        # A frame whose side data was asked for refers to itself, and stays until the collector runs
        # (PyAV 18.1), so it is asked once for each rotation that occurs.
        turned = frame.rotation
        if turned not in self._matrices:
            self._matrices[turned] = _matrix(frame)
        return self._matrices[turned]

    def _tell(self, broken: str, *, damaged: int, lost: int, packets: int, reached: float) -> None:
        told = self._stream.frames
        slack = max(_SLACK, _SLACK_SHARE * ((self.end or 0) - self.begin))
        if broken:
            self.problems.append(f"reading stopped at {reached:.2f} s: {broken}")
        elif self.end is not None and reached < self.end - slack:
            self.problems.append(
                f"the file ends at {reached:.2f} s, but says it lasts until {self.end:.2f} s"
            )
        elif told > packets:
            self.problems.append(f"the file holds {packets} of the {told} pictures it says it has")
        if lost:
            self.problems.append(f"{lost} of {packets} packets could not be decoded")
        if damaged:
            self.problems.append(f"{damaged} pictures are damaged in parts")


def _open(path: Path) -> "InputContainer":
    av.logging.set_level(None)  # what goes wrong is told in words; nothing is to stand on stderr as well
    if not path.exists():
        raise VideoError(f"'{path}' does not exist; check the path")
    if not path.is_file():
        raise VideoError(f"'{path}' is not a file; {_WANTED}")
    rules = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
    try:
        # "file:" keeps a name such as "concat:a|b" from being taken for an instruction.
        return av.open(f"file:{path}", container_options=rules, metadata_errors="replace")
    except PermissionError as error:
        raise VideoError(f"'{path}' cannot be read: {error.strerror}; check its permissions") from None
    except (av.error.FFmpegError, OSError, ValueError):
        raise VideoError(f"'{path}' is not a video mien can read, or is damaged; {_WANTED}") from None


def _video_of(container: "InputContainer", path: Path) -> "VideoStream":
    cover = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & cover:
            if stream.codec_context is None:
                raise VideoError(f"the video in '{path}' is coded in a way that FFmpeg here does not know")
            return stream
    raise VideoError(f"'{path}' has no video in it; {_WANTED}")


def _check_size(width: int, height: int, path: Path) -> None:
    if width * height > images.MAX_PIXELS:
        raise VideoError(
            f"the pictures of '{path}' are {width} × {height} pixels; mien reads up to "
            f"{images.MAX_PIXELS:,} pixels, shrink them first"
        )


def _end_of(packet: "Packet[Any]") -> float:
    stamp = packet.pts if packet.pts is not None else packet.dts
    if stamp is None or packet.time_base is None:
        return -math.inf
    return float((stamp + (packet.duration or 0)) * packet.time_base)


def _shape(stream: "VideoStream") -> float:
    """Width of a pixel in heights."""
    ratio = stream.sample_aspect_ratio
    return float(ratio) if ratio and 1 / _OBLONG <= ratio <= _OBLONG else 1.0


def _matrix(frame: "VideoFrame") -> Matrix:
    """Return how a picture is to be shown. Source: ISO/IEC 14496-12, 8.3.2."""
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(cast(Any, found)), np.int32)[:5].tolist()
    return a, b, c, d


def _upright(pixels: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """Turn and mirror a picture as its display matrix asks, to the nearest quarter."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        pixels, right, down = pixels.swapaxes(0, 1), c, b
    else:
        right, down = a, d
    if right < 0:
        pixels = pixels[:, ::-1]
    if down < 0:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
