"""Video files: decode pictures upright with their own times, and write pictures with the sound as it was."""

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


#: Endings, and the encoder and its settings for each.
_H264 = ("libx264", {"crf": "20", "preset": "veryfast"})
_VP9 = ("libvpx-vp9", {"crf": "32", "b": "0", "deadline": "realtime", "cpu-used": "6"})
ENDINGS = {".mp4": _H264, ".m4v": _H264, ".mov": _H264, ".mkv": _H264, ".webm": _VP9}
# ITU-R BT.709, in the narrow range that players expect where nothing is said.
_BT709, _NARROW = 1, 1


def check_ending(path: str | os.PathLike[str]) -> None:
    """Make sure that a file's ending is one of `ENDINGS`.

    Raises:
        VideoError: It is not.
    """
    if Path(path).suffix.lower() not in ENDINGS:
        raise VideoError(f"'{path}' is no video mien writes; name a file that ends in {', '.join(ENDINGS)}")


class Film:
    """Writes a video, whole or not at all: it is at `path` once `keep` was called.

    Args:
        path: Where to; its ending, one of `ENDINGS`, says in what format.
        clip: Where the pictures and the sound come from.

    Raises:
        VideoError: The ending is none of these, or the format cannot hold the clip's sound.
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
        # Whatever led here is the error to tell, not that half a file cannot be finished.
        with contextlib.suppress(OSError, av.error.FFmpegError):
            if self._out is not None:
                self._out.close()
        self._out = None
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def add(self, pts: int, pixels: NDArray[np.uint8]) -> None:
        """Write a picture.

        Args:
            pts: Its time in the unit of the clip's stream. One not after the last is put one after it.
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
        """Write a packet of the clip's sound as it is; those of other streams are left out."""
        if self._out is None:
            self._early.append(packet)
            return
        stream = self._sounds.get(packet.stream.index)
        # Matroska knows no time before 0, where some codecs warm up unheard, and would shift all by it.
        unheard = self._from_zero and packet.pts is not None and packet.pts < 0
        if stream is not None and packet.dts is not None and not unheard:
            packet.stream = stream
            self._write(packet)

    def keep(self) -> None:
        """Finish the file and put it in its place.

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
                f"{self.path.suffix} cannot hold the sound of '{self._clip.path}' ({names}) as it is; "
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
    """Repeat the last row or column where a side is odd; colours are stored for two pixels at once."""
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(pixels)
