"""Read an archive safely; unpack it into a folder that is complete or absent.

`members(archive)` yields the files of a zip or tar one at a time, without a folder; `unpack(archive, to)`
writes them. Archives are recognised by what they hold, never by their name. Everything that an archive can
lie about is checked before the first file is handed out, or while it is decompressed; docs/extract.md lists
the refusals.

Both formats are parsed here rather than by `zipfile` and `tarfile`, which hold a million entries in memory
before they can be counted, cut names at NUL, rename `..` quietly, and set no limit to the size of a header
or a dictionary.
"""

from mien.data.archives.limits import Limits
from mien.data.archives.reading import is_archive, members
from mien.data.archives.unpacking import Extraction, unpack

__all__ = ["Extraction", "Limits", "is_archive", "members", "unpack"]
