"""A video file to write: pictures with the times of the ones they were made from, and the sound as it was."""

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from mien import _files
from mien.errors import InputError, VideoError

if TYPE_CHECKING:
    from av.packet import Packet

    from mien.inference.video.clip import Clip

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
