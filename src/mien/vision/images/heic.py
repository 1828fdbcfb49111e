"""HEIC and HEIF, which Pillow does not read: told by their first bytes, decoded by pillow-heif."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

#: Brands of files whose pictures are HEVC; those of AVIF are Pillow's.
_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_EITHER = {b"mif1", b"msf1", b"mif2"}
_AVIF = {b"avif", b"avis"}


def is_heic(start: bytes) -> bool:
    """Say whether a file is HEIC or HEIF by its first bytes, of which 64 do.

    Source: ISO/IEC 23008-12, 10.2; ISO/IEC 14496-12, 4.3 (box `ftyp`).
    """
    if start[4:8] != b"ftyp":
        return False
    end = min(len(start), int.from_bytes(start[:4]))
    brands = {start[place : place + 4] for place in (8, *range(16, end - 3, 4))}
    if start[8:12] in _AVIF:
        return False
    return bool(brands & _BRANDS) or (start[8:12] in _EITHER and not brands & _AVIF)


@dataclass(frozen=True)
class Opened:
    """A file whose header is read and whose pixels are not.

    Args:
        width: Pixels, as the file is turned.
        height: Pixels.
        depth: Bits a channel.
        turned: EXIF's orientation, as far as the decoder does not turn the picture by itself.
        image: pillow-heif's.
    """

    width: int
    height: int
    depth: int
    turned: int
    image: Any

    def pillow(self) -> "Image.Image":
        """Decode it."""
        image: Image.Image = self.image.to_pillow()
        return image

    def array(self) -> NDArray[np.uint8]:
        """Decode it without a second copy: `(h, w)` grey, `(h, w, 3)` or `(h, w, 4)`."""
        return np.asarray(self.image)


def open_bytes(data: bytes) -> Opened:
    """Read the header of a file's main picture.

    The file's own turns and mirrors are applied by the decoder, and EXIF's orientation is then only a note of
    them, as the standard says. A file that has none is turned by EXIF, because converters leave it so.

    Raises:
        ImportError: pillow-heif is not installed.
        Exception: Whatever pillow-heif raises on damaged data.
    """
    import pillow_heif  # only here: it loads 20 MB of libraries

    file = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
    image = file[file.primary_index]
    turned = 1
    if not _turns(data):
        turned = pillow_heif.misc.set_orientation(dict(image.info)) or 1
    width, height = image.size
    return Opened(width, height, int(image.info["bit_depth"]), turned, image)


def _turns(data: bytes) -> bool:
    """Say whether the file turns or mirrors its pictures."""
    end = 0
    while end + 8 <= len(data):
        size, kind = int.from_bytes(data[end : end + 4]), data[end + 4 : end + 8]
        if kind == b"meta":
            meta = data[end : end + size] if size else data[end:]
            return b"irot" in meta or b"imir" in meta
        if size < 8:
            break
        end += size
    return False
