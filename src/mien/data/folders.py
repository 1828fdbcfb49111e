"""Find the splits and classes of images by the folders that they are in."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mien._text import shorten
from mien.data.class_names import Naming, name_classes, note_removed
from mien.data.contents import Contents, Problem, split_named
from mien.errors import DataError
from mien.labels import canonical

_SUFFIXES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".avif",
    ".heic",
    ".heif",
    "",
}

_SHOWN = " ".join(sorted(_SUFFIXES - {""}))

_JUNK = {"__macosx", "thumbs.db", "desktop.ini"}

_Folders: TypeAlias = tuple[str, ...]


def is_junk(name: str) -> bool:
    """Return whether a file is hidden or made by an operating system."""
    return any(part.startswith(".") or part.lower() in _JUNK for part in name.split("/"))


def may_be_image(name: str) -> bool:
    """Return whether a file has the extension of an image, or none."""
    return _suffix(name) in _SUFFIXES


def find_classes(names: Iterable[str], others: Collection[str] = ()) -> set[str]:
    """Return the class folders that the names of images have, before an image is read.

    Args:
        names: Images, relative to the source, separated by `/`.
        others: Other files; images beside those of a training by mien do not count.

    Returns:
        Names of folders; empty if no image is in a class folder.

    Raises:
        DataError: Two folders name one split.
    """
    runs = _runs(others)
    names = [name for name in names if not _within(name, runs)]
    if not names or (not _tops(names) and _misplaced_splits(names)):
        return set()
    return {folder for _, folder in _locate_all(names, _roots(names, [])).values()}


def understand(
    faces: Mapping[str, NDArray[np.uint8] | str],
    *,
    others: Collection[str] = (),
    hidden: Collection[str] = (),
    empty: Collection[str] = (),
    is_image: Callable[[str], bool] = lambda _: False,
    naming: Naming | None = None,
) -> Contents | None:
    """Sort faces into splits and classes by the folders in their names.

    A split is the deepest folder that has the name of a split and contains folders. A class is a folder
    directly in a split, or in the outer folder of everything; deeper files belong to that class.

    Args:
        faces: By name relative to the source, separated by `/`: the face, or why it could not be read.
        others: Files without the extension of an image. In a class folder they are a problem if their content
            is an image, else a note; elsewhere they are ignored.
        hidden: Hidden files and those that systems leave behind: a note in a class folder.
        empty: Empty folders.
        is_image: Returns whether one of `others`, or an unreadable file without an extension, begins like an
            image.
        naming: What the user says about the names of classes.

    Returns:
        Faces in the order of class, then name; None if no file is in a class folder.

    Raises:
        DataError: Two folders name one split, or one emotion within a split; a class folder of train is
            empty; or class folders have the names of splits.
    """
    notes: list[str] = []
    if runs := _runs(others):
        notes.append(f"{shorten(sorted('/'.join(run) for run in runs))} was trained by mien and is skipped")
        faces = {name: face for name, face in faces.items() if not _within(name, runs)}
        others = [name for name in others if not _within(name, runs)]
        empty = [folder for folder in empty if not _within(f"{folder}/", runs)]
    # A file without an extension may be a README, so it counts only if no other file does.
    telling = [name for name in faces if _suffix(name)]
    telling = telling or [name for name, face in faces.items() if not isinstance(face, str)]
    roots = _roots(telling, notes)
    unlike = {name for name, face in faces.items() if isinstance(face, str) and not _suffix(name)}
    unlike = {name for name in unlike if not is_image(name)}
    located = _locate_all(sorted(faces.keys() - unlike), roots) if telling else {}
    if not located:
        return None
    hollow = set(_locate_all((f"{folder}/" for folder in empty), roots).values()) - set(located.values())
    if bare := sorted(folder for split, folder in hollow if split in ("", "train")):
        raise DataError(f"the class folder {shorten(bare)} is empty; put images into it or remove it")
    classes, index = _classes({*located.values(), *hollow}, naming, notes)
    if left := sorted(faces.keys() - located.keys() - unlike):
        notes.append(f"{len(left):,} images outside the class folders are skipped: {shorten(left)}")
    left_out = {name for name, (_, folder) in located.items() if folder not in index}
    if left_out:
        notes.append(note_removed(len(left_out)))
        located = {name: at for name, at in located.items() if name not in left_out}
    order = sorted(located, key=lambda name: (index[located[name][1]], name))
    good = [(name, face) for name in order if not isinstance(face := faces[name], str)]
    bad = {name: why for name in located if isinstance(why := faces[name], str)}
    strays = set(_locate_all({*unlike, *hidden}, roots))
    within = {name: split for name, (split, _) in located.items()}
    for name, (split, _) in _locate_all(others, roots).items():
        if is_image(name):
            within[name] = split
            bad[name] = f"its name has none of the extensions {_SHOWN}"
        else:
            strays.add(name)
    if strays:
        one = len(strays) == 1
        count = "1 file that is not an image is" if one else f"{len(strays):,} files that are not images are"
        notes.append(f"{count} skipped: {shorten(sorted(strays))}")
    declared = {split for split, _ in located.values()} | {split_named(_leaf(folder)) for folder in empty}
    return Contents(
        classes=classes,
        faces=[face for _, face in good],
        labels=np.array([index[located[name][1]] for name, _ in good], np.int64),
        splits=[located[name][0] for name, _ in good],
        files=[name for name, _ in good],
        declared=frozenset(split for split in declared if split),
        problems=tuple(Problem(name, bad[name], within.get(name, "")) for name in sorted(bad)),
        notes=tuple(notes),
    )


def _runs(names: Collection[str]) -> set[_Folders]:
    """Return the folders of trainings, which may be among the images if someone trained there."""
    marks = (
        {_folders(name) for name in names if _leaf(name) == mark} for mark in ("run.json", "recipe.toml")
    )
    return set.intersection(*marks) - {()}


def _within(name: str, places: set[_Folders]) -> bool:
    folders = _folders(name)
    return any(folders[:depth] in places for depth in range(1, len(folders) + 1))


def _suffix(name: str) -> str:
    _, dot, suffix = _leaf(name).lower().rpartition(".")
    return dot + suffix if dot else ""


def _folders(name: str) -> _Folders:
    return tuple(name.split("/")[:-1])


def _leaf(name: str) -> str:
    return name.rpartition("/")[2]


def _locate_all(names: Iterable[str], roots: Mapping[_Folders, str]) -> dict[str, tuple[str, str]]:
    """Return the split and class folder of each file that is in one."""
    located = {}
    for name in names:
        folders = _folders(name)
        for depth in range(len(folders) - 1, -1, -1):
            if (split := roots.get(folders[:depth])) is not None:
                located[name] = split, folders[depth]
                break
    return located


def _roots(names: list[str], notes: list[str]) -> dict[_Folders, str]:
    """Return the folders whose subfolders are the classes, each with its split (`""` for none)."""
    places = {_folders(name) for name in names}
    tops = _tops(names)
    if not tops and (wrong := _misplaced_splits(names)):
        raise DataError(
            f"the folders {shorten(wrong)} are named like splits and contain no class folders; "
            "arrange the images as in train/happy/1.png"
        )
    roots = _one_folder_a_split(tops, names, notes) if tops else {(): ""}
    below = [folders[len(top) :] for folders in places for top in roots if folders[: len(top)] == top]
    wrapping: _Folders = ()
    while True:
        depth = len(wrapping)
        firsts = {folders[depth] for folders in below if len(folders) > depth}
        goes_on = any(len(folders) > depth + 1 for folders in below)
        # A single folder that is named like an emotion is a class with any content.
        if len(firsts) != 1 or not goes_on or canonical(next(iter(firsts))):
            return {(*top, *wrapping): split for top, split in roots.items()}
        wrapping += (firsts.pop(),)


def _tops(names: Iterable[str]) -> dict[_Folders, str]:
    """Return the folders that are named like splits and contain folders of images."""
    tops: dict[_Folders, str] = {}
    for folders in {_folders(name) for name in names}:
        for depth in range(len(folders) - 1, 0, -1):
            if split := split_named(folders[depth - 1]):
                tops[folders[:depth]] = split
                break
    return tops


def _misplaced_splits(names: Iterable[str]) -> list[str]:
    return sorted({part for name in names for part in _folders(name) if split_named(part)})


def _one_folder_a_split(tops: dict[_Folders, str], names: list[str], notes: list[str]) -> dict[_Folders, str]:
    """Refuse two folders for one split, unless their files have the same names."""
    kept: dict[_Folders, str] = {}
    for top in sorted(tops, key=lambda top: (len(top), top)):
        twin = next((other for other, split in kept.items() if split == tops[top]), None)
        if twin is None:
            kept[top] = tops[top]
            continue
        if _inside(top, names) != _inside(twin, names):
            raise DataError(
                f"the folders '{'/'.join(twin)}' and '{'/'.join(top)}' contain the split {tops[top]} and "
                "differ; merge them or remove one"
            )
        notes.append(f"'{'/'.join(top)}' contains the same names as '{'/'.join(twin)}' and is skipped")
    return kept


def _inside(top: _Folders, names: list[str]) -> set[str]:
    start = "/".join(top) + "/"
    return {name.removeprefix(start) for name in names if name.startswith(start)}


def _classes(
    located: set[tuple[str, str]], naming: Naming | None, notes: list[str]
) -> tuple[tuple[str, ...], Mapping[str, int]]:
    """Return the class names in order, and the index of each class folder."""
    classes = name_classes({folder for _, folder in located}, naming, kind="folders")
    notes += classes.notes
    for split in sorted({split for split, _ in located}):
        seen: dict[int, str] = {}
        for folder in sorted(folder for at, folder in located if at == split):
            if folder in classes.renamed or folder not in classes.index:
                continue
            if (other := seen.setdefault(classes.index[folder], folder)) != folder:
                where = f" in {split}" if split else ""
                meaning = classes.names[classes.index[folder]]
                raise DataError(
                    f"the folders '{other}' and '{folder}' both mean {meaning}{where}; merge them"
                )
    return classes.names, classes.index
