"""Read the images of a listing: the files of a source with their labels, splits, people and face boxes."""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien._text import shorten
from mien.data.class_names import find_part, name_classes, note_removed
from mien.data.contents import Contents, Problem, ReadOptions, check_room
from mien.errors import DataError, ImageError
from mien.vision import images


@dataclass(frozen=True)
class Entry:
    """One labelled image that is not read yet.

    Args:
        file: Its name relative to the source, separated by `/`.
        label: Its label, as the source writes it.
        split: `train`, `val` or `test`; `""` if the source names none.
        group: The person, or other group that one split keeps together; `""` if unknown.
        box: Left, top, width and height of the face in pixels; None for the whole image.
        votes: Number of annotators for each of `labels.VOTES`; None if the source has none.
    """

    file: str
    label: str
    split: str = ""
    group: str = ""
    box: tuple[float, float, float, float] | None = None
    votes: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The labelled images of a source, before they are read.

    Args:
        entries: In the order of the source.
        open: Returns the content of an entry's file, or its pixels as `images.read` takes them.
        how: How the source was read, for a note.
        known: A key of `class_names.LABEL_ORDERS`, if labels are numbers of this data set.
        problems: Files or rows that cannot be entries.
        notes: Other remarks.
    """

    entries: Sequence[Entry]
    open: Callable[[str], bytes | NDArray[Any]]
    how: str
    known: str = ""
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = field(default=())


def find_groups(
    options: ReadOptions, names: Sequence[str], known: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
    """Return the group of each image by `group_from`, and notes.

    Args:
        options: How to read the source.
        names: The file name of each image; `""` if it has none.
        known: The group that the source names for each image, which stays if the pattern does not match.

    Raises:
        DataError: The pattern matches no image.
    """
    pattern = options.group_from
    if pattern is None or not names:
        return list(known), ()
    if not any(names):
        raise DataError(
            "group-from needs the names of files, and these images have none; give their groups, or omit it"
        )
    told = [find_part(pattern, "group", name) or "" for name in names]
    if not any(told):
        raise DataError(f"group-from matches no image ({shorten(names)}); correct the pattern")
    groups = [group or other for group, other in zip(told, known, strict=True)]
    notes = []
    if kept := [name for name, one, group in zip(names, told, groups, strict=True) if group and not one]:
        notes.append(
            f"{len(kept):,} images keep the group that the source names, because group-from does not match: "
            f"{shorten(kept)}"
        )
    if missing := [name for name, group in zip(names, groups, strict=True) if not group]:
        notes.append(
            f"{len(missing):,} images have no group, because group-from does not match: {shorten(missing)}"
        )
    return groups, tuple(notes)


def group_entries(
    entries: Sequence[Entry], names: Sequence[str], options: ReadOptions
) -> tuple[list[Entry], tuple[str, ...]]:
    """Return entries with the groups that `find_groups` finds in their names, and its notes.

    Raises:
        DataError: As `find_groups`.
    """
    groups, notes = find_groups(options, names, [entry.group for entry in entries])
    return [
        entry if entry.group == group else replace(entry, group=group)
        for entry, group in zip(entries, groups, strict=True)
    ], notes


def check_boxes(boxes: Iterable[tuple[float, float, float, float] | None], name: str) -> None:
    """Refuse face boxes that are fractions of the image.

    Args:
        boxes: Left, top, width and height of each face; None for the whole image.
        name: What has the boxes, for the message.

    Raises:
        DataError: No box is wider or higher than a pixel.
    """
    given = [box for box in boxes if box is not None]
    if given and all(width <= 1 and height <= 1 for _, _, width, height in given):
        raise DataError(f"the face boxes of {name} are fractions of the image; write them in pixels")


def without_doubtful(
    entries: Sequence[Entry], names: Sequence[str]
) -> tuple[list[Entry], list[str], tuple[Problem, ...]]:
    """Leave out images that have several labels in one split.

    Args:
        entries: The images.
        names: The file of each, which tells whether two are the same image; `""` if it is not known.

    Returns:
        The other images, their names, and those left out as problems.
    """
    labels: dict[object, set[str]] = {}
    keys = [(name, entry.box, entry.split) for name, entry in zip(names, entries, strict=True)]
    for key, entry in zip(keys, entries, strict=True):
        if key[0]:
            labels.setdefault(key, set()).add(entry.label)
    doubtful = {key for key, given in labels.items() if len(given) > 1}
    good = [place for place, key in enumerate(keys) if key not in doubtful]
    problems = [
        Problem(entry.file, f"'{key[0][-60:]}' has several labels ({entry.label})", entry.split)
        for key, entry in zip(keys, entries, strict=True)
        if key in doubtful
    ]
    return [entries[place] for place in good], [names[place] for place in good], tuple(problems)


#: Why a file that a link names is not read.
LINK_OUTSIDE = "the path leads outside the folder by a link; only files in it are read"


def file_state(path: str | os.PathLike[str], name: str) -> str:
    """Return text that changes if a file does: its name, size and time of change.

    Raises:
        ImageError: The file cannot be read.
    """
    path = Path(path)
    try:
        facts = path.stat()
    except OSError as error:
        raise ImageError(f"the file cannot be read: {error.strerror}") from error
    return f"{name}\n{facts.st_size}\n{facts.st_mtime_ns}"


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the content of an image file, at most a byte more than `images.MAX_BYTES`.

    Raises:
        ImageError: The file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(images.MAX_BYTES + 1)
    except OSError as error:
        raise ImageError(f"the file cannot be read: {error.strerror}") from error


def is_in(path: str, folder: str) -> bool:
    """Return whether a real path is a folder or inside it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


class FolderReader:
    """Read files that a listing names, and nothing outside its folder.

    Args:
        root: The folder that names are relative to.
        images_dir: Another folder that links may lead to.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, images_dir: str | os.PathLike[str] | None = None
    ) -> None:
        self.root = Path(root)
        self._real = [os.path.realpath(each) for each in (root, images_dir) if each is not None]
        self._inside: dict[str, bool] = {}

    def path(self, name: str) -> Path:
        """Return the path of a file inside the folder.

        Raises:
            ImageError: The name is absolute, leads outside the folder, also by a link, or is not a file.
        """
        path = self._locate(name)
        if path.is_symlink() and not self._is_inside(path):
            raise ImageError(LINK_OUTSIDE)
        if not path.is_file():
            raise ImageError("the file does not exist" if not os.path.lexists(path) else "it is not a file")
        return path

    def listed(self, folder: str) -> dict[str, bool] | None:
        """Return the names in a folder, and whether each is a file and not a link.

        Returns:
            None if the folder is outside, or cannot be listed.
        """
        try:
            with os.scandir(self._locate(f"{folder}/x" if folder else "x").parent) as found:
                return {entry.name: entry.is_file(follow_symlinks=False) for entry in found}
        except (ImageError, OSError, ValueError):
            return None

    def folders(self, most: int) -> list[str]:
        """Return the names of the first `most` folders directly in the folder, without links."""
        try:
            with os.scandir(self.root) as found:
                folders = (entry.name for entry in found if entry.is_dir(follow_symlinks=False))
                return sorted(islice(folders, most))
        except OSError:
            return []

    def _locate(self, name: str) -> Path:
        """Return the path of a name whose folder is inside the root."""
        name = name.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ":" in parts[0] or ".." in parts or "\0" in name:
            raise ImageError("the path is absolute or leads outside the folder; only files in it are read")
        path = self.root.joinpath(*parts)
        parent = str(path.parent)
        if parent not in self._inside:
            self._inside[parent] = self._is_inside(parent)
        if not self._inside[parent]:
            raise ImageError(LINK_OUTSIDE)
        return path

    def state(self, name: str) -> str:
        """Return text that changes if a file inside the folder does.

        Raises:
            ImageError: As `path`; or the file cannot be read.
        """
        return file_state(self.path(name), name)

    def _is_inside(self, path: str | Path) -> bool:
        real = os.path.realpath(path)
        return any(is_in(real, folder) for folder in self._real)

    def __call__(self, name: str) -> bytes:
        """Return the content of a file inside the folder.

        Raises:
            ImageError: As `path`; or the file cannot be read.
        """
        return read_file(self.path(name))


def read_listing(
    listing: Listing, options: ReadOptions, progress: Callable[[int, int], None] | None = None
) -> Contents:
    """Read the images of a listing.

    Args:
        listing: The labelled images.
        options: Size of the images, and names of the classes.
        progress: Called with (done, total) images.

    Returns:
        The readable images, in the order of the listing; the others are problems.

    Raises:
        DataError: The listing is empty, or names of classes do not fit.
    """
    if not listing.entries:
        first = "".join(f" (the first: {each.file}: {each.reason})" for each in listing.problems[:1])
        raise DataError(f"no labelled image was found; {listing.how}{first}")
    classes = name_classes((entry.label for entry in listing.entries), options.naming, known=listing.known)
    entries = [entry for entry in listing.entries if entry.label in classes.index]
    check_room(len(entries), options)
    notes = [listing.how, *listing.notes, *classes.notes]
    if left := len(listing.entries) - len(entries):
        notes.append(note_removed(left))
    good: list[Entry] = []
    faces: list[NDArray[np.uint8]] = []
    problems = list(listing.problems)
    for done, entry in enumerate(entries, start=1):
        face = _read_face(listing, entry, options)
        if isinstance(face, str):
            problems.append(Problem(entry.file, face, entry.split))
        else:
            faces.append(face)
            good.append(entry)
        if progress:
            progress(done, len(entries))
    have_votes = bool(good) and all(entry.votes is not None for entry in good)
    if not have_votes and any(entry.votes is not None for entry in good):
        notes.append("some images have no annotator votes, so the votes are not used")
    return Contents(
        classes=classes.names,
        faces=faces,
        labels=np.array([classes.index[entry.label] for entry in good], np.int64),
        splits=[entry.split for entry in good],
        files=[entry.file for entry in good],
        declared=frozenset(entry.split for entry in entries if entry.split),
        votes=np.array([entry.votes for entry in good], np.float32) if have_votes else None,
        groups=[entry.group for entry in good] if any(entry.group for entry in good) else None,
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _read_face(listing: Listing, entry: Entry, options: ReadOptions) -> NDArray[np.uint8] | str:
    known_as = ""
    if options.faces.store is not None and isinstance(listing.open, FolderReader):
        # If the file cannot be read, opening it says why.
        with contextlib.suppress(ImageError):
            known_as = listing.open.state(entry.file)
    return options.faces.read(lambda: listing.open(entry.file), known_as=known_as, box=entry.box)
