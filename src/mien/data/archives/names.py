"""Which names are safe, and which can stand side by side on every disk."""

import re
import unicodedata
from dataclasses import dataclass

from mien.data.archives.limits import Limits
from mien.errors import ArchiveError

# mien's own note in an unpacked folder; a folder that was packed again carries it along.
NOTE = ".mien-extract.json"
REPACK = "pack the archive again without it"
FETCH = "fetch the archive again"

_PART_BYTES = 255  # the longest that ext4, APFS and NTFS all take
_JUNK = frozenset({".ds_store", "thumbs.db", "desktop.ini", NOTE})
_DRIVE = re.compile(r"[A-Za-z]:")
# Cc control, Cs half a surrogate pair, Zl and Zp line ends: none can be shown in one line.
_UNSHOWABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
# These turn the direction of writing, so that a name reads as another one.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive.

    Args:
        name: Relative, posix, safe.
        size: Bytes, unpacked.
        offset: Where it starts: in a zip its header in the file, in a tar its bytes in the unpacked stream.
    """

    name: str
    size: int
    offset: int


def shown(name: str) -> str:
    """Quote a name so that it fits one line and hides nothing."""
    text = ascii(name)
    return text if len(text) <= 100 else f"{text[:70]}...{text[-20:]}"


def refused(name: str, why: str, advice: str = REPACK) -> ArchiveError:
    """Make the error for the member `name`: `why` completes the sentence, `advice` says what to do."""
    return ArchiveError(f"member {shown(name)} {why}; {advice}")


def raise_limit(field: str) -> str:
    """Say how to let a trusted archive through."""
    return f"if you trust it, raise {field} in mien.data.archives.Limits"


def decode(raw: bytes) -> str:
    """Decode a name that must be UTF-8.

    Raises:
        ArchiveError: It is not.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise refused(raw.decode(errors="backslashreplace"), "has a name that is not UTF-8") from error


def safe(name: str, limits: Limits) -> str:
    """Check one member's name; strip a leading `./` and a folder's last `/`.

    Returns:
        The relative posix path; empty for the archive's own root (`./`).

    Raises:
        ArchiveError: The name leads elsewhere, cannot be shown, or is too long or too deep.
    """
    if not name.isprintable():
        for character in name:
            if unicodedata.category(character) in _UNSHOWABLE or character in _TURNING:
                raise refused(name, f"has the control character {character!a} in its name")
    if "\\" in name:
        raise refused(name, "has a backslash in its name, which some systems take for a folder")
    if name.startswith("/"):
        raise refused(name, "has an absolute path")
    if not name:
        raise refused(name, "has an empty name")
    path = name.removesuffix("/")
    while path.startswith("./"):
        path = path[2:]
    if path == ".":
        return ""
    parts = path.split("/")
    for part in parts:
        _check_part(part, name)
    if len(parts) > limits.depth:
        raise refused(
            name, f"lies {len(parts)} folders deep, of {limits.depth} at most", raise_limit("depth")
        )
    if len(path.encode()) > limits.path_bytes:
        raise refused(name, f"has a name of more than {limits.path_bytes} bytes", raise_limit("path_bytes"))
    return path


def _check_part(part: str, name: str) -> None:
    if part == "..":
        raise refused(name, "leads out of the folder with '..'")
    if not part.strip(" ."):
        raise refused(name, f"has the part {part!r} in its path, which is no name")
    if _DRIVE.match(part):
        raise refused(name, "names a drive")
    if len(part) > _PART_BYTES or (not part.isascii() and len(part.encode()) > _PART_BYTES):
        raise refused(name, f"has a name of more than {_PART_BYTES} bytes")


def is_junk(path: str) -> bool:
    """Tell whether a safe path is what a system leaves behind and no part of the data."""
    name = path.rpartition("/")[2]
    return name.lower() in _JUNK or name.startswith("._") or "__MACOSX" in path.split("/")


def _folded(path: str) -> str:
    """Make the key under which the most forgiving disk files this path."""
    if path.isascii():
        key = path.lower()
    else:
        # Canonical caseless match, Unicode 15 section 3.13, D145.
        key = unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())
    if "./" in key or " /" in key or key[-1] in " .":
        key = "/".join(part.rstrip(" .") for part in key.split("/"))
    return key


class Tree:
    """What an archive's names and sizes add up to; refuses what cannot stand in one folder on every disk.

    Args:
        limits: The caps.

    Attributes:
        folders: Every folder, implied ones included, a parent before its children.
        bytes: All files so far, unpacked.
    """

    def __init__(self, limits: Limits) -> None:
        self.folders: dict[str, None] = {}
        self.bytes = 0
        self._limits = limits
        self._names_bytes = 0
        self._spelled: dict[str, str] = {}

    def add_file(self, path: str, size: int) -> None:
        """Add a file by its safe path.

        Raises:
            ArchiveError: It is beyond a limit, or another member takes its place.
        """
        if size > self._limits.file_bytes:
            raise refused(
                path,
                f"has {size:,} bytes, of {self._limits.file_bytes:,} at most",
                raise_limit("file_bytes"),
            )
        self.bytes += size
        if self.bytes > self._limits.bytes:
            raise ArchiveError(
                f"it unpacks to more than {self._limits.bytes:,} bytes; {raise_limit('bytes')}"
            )
        self._add_parent(path)
        self._add(path, folder=False)

    def add_folder(self, path: str) -> None:
        """Add a folder by its safe path; once more is no fault.

        Raises:
            ArchiveError: As for a file.
        """
        if path not in self.folders:
            self._add_parent(path)
            self._add(path, folder=True)
            self.folders[path] = None

    def _add_parent(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent:
            self.add_folder(parent)

    def _add(self, path: str, *, folder: bool) -> None:
        key = _folded(path)
        other = self._spelled.get(key)
        if other is not None:
            if other != path:
                raise refused(path, f"and {shown(other)} are one name on many disks", "rename one of the two")
            both = folder or path in self.folders
            raise refused(path, "is both a file and a folder" if both else "is there twice")
        self._spelled[key] = path
        self._names_bytes += len(path.encode())
        if len(self._spelled) > self._limits.entries:
            raise ArchiveError(
                f"it holds more than {self._limits.entries:,} files and folders; {raise_limit('entries')}"
            )
        if self._names_bytes > self._limits.names_bytes:
            raise ArchiveError(
                f"its names take more than {self._limits.names_bytes:,} bytes; {raise_limit('names_bytes')}"
            )
