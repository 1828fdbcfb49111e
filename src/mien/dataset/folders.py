"""Class folders: from files' names to splits and classes."""

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mien import emotions
from mien.dataset.found import Found, Problem, shorten, split_named
from mien.errors import DataError

_SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_JUNK = {"__macosx", "thumbs.db", "desktop.ini"}

_Folders: TypeAlias = tuple[str, ...]


def is_junk(name: str) -> bool:
    """Whether a file is hidden, or what an operating system leaves behind."""
    return any(part.startswith(".") or part.lower() in _JUNK for part in PurePosixPath(name).parts)


def may_be_image(name: str) -> bool:
    """Whether a file may be an image by its name: it has an image's suffix, or none."""
    return PurePosixPath(name).suffix.lower() in _SUFFIXES | {""}


def understand(faces: Mapping[str, NDArray[np.uint8] | str], *, empty: Collection[str] = ()) -> Found | None:
    """Sort faces into splits and classes by the folders in their names.

    A split is the deepest folder that spells one and has folders below it. A class is a folder directly
    in a split, or in the folder that everything is wrapped in; what lies deeper belongs to that class.

    Args:
        faces: By name relative to the source, parted by `/`: the face, or why it could not be read.
        empty: Folders that hold nothing.

    Returns:
        Faces in the order of class, then name; None where no file stands in a class folder.

    Raises:
        DataError: Two folders spell one split, or one emotion within a split; or a class folder of train
            is empty.
    """
    notes: list[str] = []
    # A file without a suffix may be a README as well as an image, so it has no say if others can speak.
    telling = [name for name in faces if PurePosixPath(name).suffix] or list(faces)
    roots = _roots([_folders(name) for name in telling], telling, notes)
    located = {name: at for name in faces if (at := _locate(_folders(name), roots)) is not None}
    if not located:
        return None
    hollow = {at for folder in empty if (at := _locate(PurePosixPath(folder).parts, roots)) is not None}
    hollow -= set(located.values())
    classes, index = _classes({*located.values(), *hollow}, notes)
    if alone := sorted(folder for split, folder in hollow if split in ("", "train")):
        raise DataError(f"the class folder {shorten(alone)} is empty; put images into it or remove it")
    if left := sorted(faces.keys() - located.keys()):
        notes.append(f"{len(left):,} images outside the class folders were left out: {shorten(left)}")
    order = sorted(located, key=lambda name: (index[located[name][1]], name))
    good = [(name, face) for name in order if not isinstance(face := faces[name], str)]
    bare = {split_named(PurePosixPath(folder).name) for folder in empty}
    return Found(
        classes=classes,
        faces=[face for _, face in good],
        labels=np.array([index[located[name][1]] for name, _ in good], np.int64),
        splits=[located[name][0] for name, _ in good],
        files=[name for name, _ in good],
        declared=frozenset(split for split in {*(split for split, _ in located.values()), *bare} if split),
        problems=tuple(Problem(name, why) for name in sorted(located) if isinstance(why := faces[name], str)),
        notes=tuple(notes),
    )


def _folders(name: str) -> _Folders:
    return PurePosixPath(name).parent.parts


def _locate(folders: _Folders, roots: Mapping[_Folders, str]) -> tuple[str, str] | None:
    """The split and class folder that these folders lie in, or None."""
    for depth in range(len(folders) - 1, -1, -1):
        if (split := roots.get(folders[:depth])) is not None:
            return split, folders[depth]
    return None


def _roots(places: list[_Folders], names: list[str], notes: list[str]) -> dict[_Folders, str]:
    """The folders whose subfolders are the classes, and the split each stands for (`""` for none)."""
    tops: dict[_Folders, str] = {}
    for folders in set(places):
        for depth in range(len(folders) - 1, 0, -1):
            if split := split_named(folders[depth - 1]):
                tops[folders[:depth]] = split
                break
    roots = _one_folder_a_split(tops, names, notes) if tops else {(): ""}
    below = [f[len(top) :] for f in set(places) for top in roots if f[: len(top)] == top]
    wrapping: _Folders = ()
    while True:
        depth = len(wrapping)
        firsts = {folders[depth] for folders in below if len(folders) > depth}
        if len(firsts) != 1 or not any(len(folders) > depth + 1 for folders in below):
            return {(*top, *wrapping): split for top, split in roots.items()}
        wrapping += (firsts.pop(),)


def _one_folder_a_split(tops: dict[_Folders, str], names: list[str], notes: list[str]) -> dict[_Folders, str]:
    """Refuse two folders for one split, unless one is a copy of the other by its files' names."""
    kept: dict[_Folders, str] = {}
    for top in sorted(tops, key=lambda top: (len(top), top)):
        twin = next((other for other, split in kept.items() if split == tops[top]), None)
        if twin is None:
            kept[top] = tops[top]
            continue
        if _inside(top, names) != _inside(twin, names):
            raise DataError(
                f"the folders '{'/'.join(twin)}' and '{'/'.join(top)}' both hold the split {tops[top]} and "
                "differ; merge them or remove one"
            )
        notes.append(f"'{'/'.join(top)}' holds the same names as '{'/'.join(twin)}' and was left out")
    return kept


def _inside(top: _Folders, names: list[str]) -> set[str]:
    start = "/".join(top) + "/"
    return {name.removeprefix(start) for name in names if name.startswith(start)}


def _classes(located: set[tuple[str, str]], notes: list[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Class names in order, and the index that each class folder's name stands for."""
    folders = sorted({folder for _, folder in located})
    spelt = {folder: emotions.canonical(folder) for folder in folders}
    if None in spelt.values():
        classes = emotions.order(folders)
        return classes, {folder: classes.index(folder) for folder in folders}
    for split in sorted({split for split, _ in located}):
        seen: dict[str | None, str] = {}
        for folder in sorted(folder for at, folder in located if at == split):
            if (other := seen.setdefault(spelt[folder], folder)) != folder:
                where = f" in {split}" if split else ""
                raise DataError(
                    f"the folders '{other}' and '{folder}' both spell {spelt[folder]}{where}; merge them"
                )
    meanings = {folder: meaning for folder, meaning in spelt.items() if meaning is not None}
    classes = emotions.order(sorted(set(meanings.values())))
    if all(folder.isdecimal() for folder in folders):
        read = ", ".join(f"{folder} {meaning}" for folder, meaning in meanings.items())
        notes.append(f"folders named by numbers were read as fer2013.csv's labels: {read}")
    return classes, {folder: classes.index(meaning) for folder, meaning in meanings.items()}
