"""How much an archive may ask for."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Caps on one archive; each default leaves room for the largest public sets of cropped faces.

    Args:
        entries: Files and folders, folders that are only implied by a file's name included.
        bytes: All files together, unpacked.
        file_bytes: One file, unpacked; `fer2013.csv` has 301 million bytes.
        ratio: Unpacked bytes per packed byte, of one file and of the whole; files below 1 MiB, and archives
            that unpack to less, are exempt. Photographs reach 2, csv files of pixels 4, deflate at most 1032.
        names_bytes: All names together, in UTF-8; it bounds the memory that names can take.
        path_bytes: One name, in UTF-8. One part of it is never longer than 255 bytes.
        depth: Parts of one name.
    """

    entries: int = 200_000
    bytes: int = 16 * 2**30
    file_bytes: int = 512 * 2**20
    ratio: int = 100
    names_bytes: int = 16 * 2**20
    path_bytes: int = 1024
    depth: int = 32


DEFAULTS = Limits()
# Below this size a high ratio is harmless and happens: one black bitmap packs a thousandfold.
RATIO_EXEMPT = 2**20


def is_bomb(unpacked: int, packed: int, limits: Limits) -> bool:
    """Tell whether `packed` bytes that become `unpacked` bytes are beyond the ratio."""
    return unpacked >= RATIO_EXEMPT and unpacked > limits.ratio * packed
