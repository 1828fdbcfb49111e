"""Read video files as upright pictures with their timestamps, and write pictures with the original sound."""

import contextlib
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

from mien import _files
from mien.errors import InputError, VideoError
from mien.vision import images

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


#: Formats that are opened, by FFmpeg's names. Playlists are not, because they name other files and addresses.
#: Sound files are, so that their error differs from that of damaged files.
FORMATS = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo"),
    *("asf", "flv", "gif", "ogg", "mxf", "dv", "h264", "hevc", "m4v", "ivf", "nut"),
    *("mp3", "wav", "flac", "aac"),
)
#: Seconds, and share of the length, by which a complete file may end before the time in its header.
_SLACK, _SLACK_SHARE = 0.5, 0.01
#: Aspect ratio of pixels beyond which the header is damaged.
_OBLONG = 4.0
_RATE = 25.0
_WANTED = "mien reads videos such as mp4, mkv, webm, mov and avi"


#: a, b, c, d of a display matrix: (x, y) is shown at (a x + c y, b x + d y).
Matrix: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True)
class Picture:
    """One decoded picture of a video.

    Args:
        number: Number of pictures decoded before it.
        time: Presentation timestamp in seconds, as in the file.
        pts: The timestamp in the stream's unit.
        seconds: Duration in the file, or else that of the frame rate.
        damaged: Whether the decoder had to guess parts of it.
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
        """Return the upright picture with square pixels, `(h, w, 3)` RGB, 0..255."""
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
        VideoError: The file does not exist, is not a video, or its pictures have too many pixels.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.problems: list[str] = []
        # One for all pictures, because each would start threads.
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
        #: End of the video in seconds, as in the header; None if it has none.
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
        """Approximate pictures per second from the header; 25 if that is implausible."""
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        return rate if 0.01 <= rate <= 1000 else _RATE

    def sounds(self) -> "Sequence[AudioStream]":
        """PyAV's audio streams."""
        return self._container.streams.audio

    def pictures(self, *, on_packet: "Callable[[Packet[Any]], None] | None" = None) -> Iterator[Picture]:
        """Yield the pictures; `problems` lists what cannot be decoded.

        Args:
            on_packet: Called with each packet of another stream, in the file's order.

        Raises:
            VideoError: No picture can be decoded.
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
            raise VideoError(f"no picture of '{self.path}' can be decoded; the file is damaged")
        self._tell(broken, damaged=damaged, lost=lost, packets=packets, reached=reached)

    def _packets(self) -> Iterator["Packet[Any] | str"]:
        """Yield every packet, and the message of FFmpeg if reading fails."""
        try:
            yield from self._container.demux()
        except (av.error.FFmpegError, OSError) as error:
            yield getattr(error, "strerror", None) or type(error).__name__

    def _picture(self, number: int, frame: "VideoFrame", last: float) -> Picture:
        _check_size(frame.width, frame.height, self.path)
        unit = frame.time_base or self._stream.time_base
        assert unit is not None
        pts = frame.pts
        if pts is None:  # Raw streams have no timestamps, only a rate.
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
        # Reading side data makes a frame refer to itself until the collector runs (PyAV 18.1), so it is read
        # once for each rotation.
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
            self.problems.append(f"the file ends at {reached:.2f} s, but its header says {self.end:.2f} s")
        elif told > packets:
            self.problems.append(f"the file has {packets} of the {told} pictures that its header states")
        if lost:
            self.problems.append(f"{lost} of {packets} packets could not be decoded")
        if damaged:
            self.problems.append(f"{damaged} pictures are partly damaged")


def _open(path: Path) -> "InputContainer":
    av.logging.set_level(None)  # errors are raised; FFmpeg must not print them too
    if not path.exists():
        raise VideoError(f"'{path}' does not exist; check the path")
    if not path.is_file():
        raise VideoError(f"'{path}' is not a file; {_WANTED}")
    rules = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
    try:
        # "file:" prevents FFmpeg from interpreting a name such as "concat:a|b".
        return av.open(f"file:{path}", container_options=rules, metadata_errors="replace")
    except PermissionError as error:
        raise VideoError(f"'{path}' cannot be read: {error.strerror}; check its permissions") from None
    except (av.error.FFmpegError, OSError, ValueError):
        raise VideoError(f"'{path}' is damaged or is not a video; {_WANTED}") from None


def _video_of(container: "InputContainer", path: Path) -> "VideoStream":
    cover = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & cover:
            if stream.codec_context is None:
                raise VideoError(
                    f"the codec of '{path}' is not supported by this FFmpeg; convert the video to mp4"
                )
            return stream
    raise VideoError(f"'{path}' has no video stream; {_WANTED}")


def _check_size(width: int, height: int, path: Path) -> None:
    if width * height > images.MAX_PIXELS:
        raise VideoError(
            f"the pictures of '{path}' are {width} × {height} pixels; mien reads up to "
            f"{images.MAX_PIXELS:,} pixels; make them smaller first"
        )


def _end_of(packet: "Packet[Any]") -> float:
    stamp = packet.pts if packet.pts is not None else packet.dts
    if stamp is None or packet.time_base is None:
        return -math.inf
    return float((stamp + (packet.duration or 0)) * packet.time_base)


def _shape(stream: "VideoStream") -> float:
    """Return the width of a pixel divided by its height."""
    ratio = stream.sample_aspect_ratio
    return float(ratio) if ratio and 1 / _OBLONG <= ratio <= _OBLONG else 1.0


def _matrix(frame: "VideoFrame") -> Matrix:
    """Return the display matrix of a picture. Source: ISO/IEC 14496-12, 8.3.2."""
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(cast(Any, found)), np.int32)[:5].tolist()
    return a, b, c, d


def _upright(pixels: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """Rotate and mirror a picture by its display matrix, to the nearest quarter turn."""
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


#: Extensions, and the encoder and its settings for each.
_H264 = ("libx264", {"crf": "20", "preset": "veryfast"})
_VP9 = ("libvpx-vp9", {"crf": "32", "b": "0", "deadline": "realtime", "cpu-used": "6"})
ENDINGS = {".mp4": _H264, ".m4v": _H264, ".mov": _H264, ".mkv": _H264, ".webm": _VP9}
# ITU-R BT.709 in the narrow range, the default of players.
_BT709, _NARROW = 1, 1


def check_ending(path: str | os.PathLike[str]) -> None:
    """Check that a file's extension is one of `ENDINGS`.

    Raises:
        VideoError: It is not.
    """
    if Path(path).suffix.lower() not in ENDINGS:
        raise VideoError(f"'{path}' must end in {', '.join(ENDINGS)}; the extension sets the video format")


class Film:
    """Write a video, which is at `path` after `keep`.

    Args:
        path: The file; its extension, one of `ENDINGS`, sets the format.
        clip: The video with the times and the sound.

    Raises:
        VideoError: The extension is wrong, or the format cannot contain the sound.
    """

    def __init__(self, path: str | os.PathLike[str], clip: "Clip") -> None:
        self.path, self._clip = Path(path), clip
        check_ending(self.path)
        self._partial = self.path.with_name(f".partial-film-{self.path.name}")
        self._reformatter = VideoReformatter()  # one for all, as in a clip
        self._out: Any = None
        self._stream: Any = None
        self._from_zero = self.path.suffix.lower() in (".mkv", ".webm")
        self._sounds: dict[int, Any] = {}
        self._early: list[Packet[Any]] = []
        self._last: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # If the block failed, its error is the one to report.
        with contextlib.suppress(OSError, av.error.FFmpegError):
            if self._out is not None:
                self._out.close()
        self._out = None
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def add(self, pts: int, pixels: NDArray[np.uint8]) -> None:
        """Write a picture.

        Args:
            pts: Its time in the unit of the clip's stream; it is increased if it is not after the last one.
            pixels: `(h, w, 3)` RGB, 0..255. Pictures of another size than the first are stretched to it.
        """
        if self._out is None:
            self._begin(pixels.shape[1], pixels.shape[0])
        frame = av.VideoFrame.from_ndarray(_even(pixels))
        frame = self._reformatter.reformat(
            frame,
            width=self._stream.width,
            height=self._stream.height,
            format="yuv420p",
            dst_colorspace=_BT709,
            dst_color_range=_NARROW,
            threads=1,
        )
        frame.pts = pts if self._last is None else max(pts, self._last + 1)
        frame.time_base = self._clip.stream.time_base
        self._last = frame.pts
        self._write(self._stream.encode(frame))

    def copy(self, packet: "Packet[Any]") -> None:
        """Copy a packet of the clip's sound; ignore packets of other streams."""
        if self._out is None:
            self._early.append(packet)
            return
        stream = self._sounds.get(packet.stream.index)
        # Matroska has no negative times and would shift all packets by those of a codec's unheard start.
        unheard = self._from_zero and packet.pts is not None and packet.pts < 0
        if stream is not None and packet.dts is not None and not unheard:
            packet.stream = stream
            self._write(packet)

    def keep(self) -> None:
        """Finish the file and move it to `path`.

        Raises:
            InputError: It cannot be written.
        """
        if self._out is None:
            return
        self._write(self._stream.encode())
        try:
            self._out.close()
            self._out = None
            _files.fill(self.path, self._partial.replace)
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def _begin(self, width: int, height: int) -> None:
        encoder, settings = ENDINGS[self.path.suffix.lower()]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._out = av.open(str(self._partial.absolute()), "w")
        except OSError as error:
            raise _unwritable(self.path, error) from None
        unit = self._clip.stream.time_base
        stream = self._out.add_stream(encoder, options=settings)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.time_base = stream.codec_context.time_base = unit
        stream.codec_context.colorspace = stream.codec_context.color_primaries = _BT709
        stream.codec_context.color_trc, stream.codec_context.color_range = _BT709, _NARROW
        self._stream = stream
        try:
            for sound in self._clip.sounds():
                self._sounds[sound.index] = self._out.add_stream_from_template(sound)
            self._out.start_encoding()
        except (av.error.FFmpegError, ValueError):
            names = ", ".join(sound.codec_context.name for sound in self._clip.sounds())
            raise VideoError(
                f"{self.path.suffix} cannot contain the sound of '{self._clip.path}' ({names}) as it is; "
                "name a file that ends in .mkv"
            ) from None
        early, self._early = self._early, []
        for packet in early:
            self.copy(packet)

    def _write(self, packets: Any) -> None:
        try:
            self._out.mux(packets)
        except OSError as error:
            raise _unwritable(self.path, error) from None


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"'{path}' cannot be written: {_files.reason(error)}")


def _even(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the last row or column of odd sides, because colours are stored for pairs of pixels."""
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(pixels)
