"""Read the labelled images of a source, after finding which kind of source it is."""

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mien._text import shorten
from mien.data import archives, array_sources, huggingface, layouts, tables
from mien.data.class_names import find_part
from mien.data.contents import Contents, ReadOptions, check_room, split_named
from mien.data.folders import find_classes, is_junk, may_be_image, understand
from mien.data.listings import (
    LINK_OUTSIDE,
    Entry,
    FolderReader,
    Listing,
    file_state,
    find_groups,
    group_entries,
    is_in,
    read_file,
    read_listing,
)
from mien.data.pixel_tables import is_table, read_table
from mien.errors import DataError, ImageError
from mien.vision import images

_Progress = Callable[[int, int], None] | None


@dataclass(frozen=True)
class _Tree:
    """The files in a folder, by sorted names relative to it.

    Args:
        names: Files and links to files.
        hidden: Hidden files.
        empty: Folders without files or folders.
        outside: Links to files and folders outside, which are not followed.
        allowed: Whether a link leads into the folder of images.
    """

    names: list[str]
    hidden: list[str]
    empty: list[str]
    outside: list[str]
    allowed: bool


def read(
    source: str | os.PathLike[str],
    options: ReadOptions,
    progress: _Progress = None,
) -> Contents:
    """Read every image of a folder, an archive or a csv.

    Args:
        source: The folder or file.
        options: How to read it.
        progress: Called with (done, total), in files or bytes.

    Raises:
        DataError: No image was found, or the folders, columns or votes cannot be used.
        ArchiveError: The archive is damaged, unsafe or beyond `limits`.
    """
    try:
        return _read(Path(source), options, progress)
    except OSError as error:
        raise DataError(f"'{source}' cannot be read: {error.strerror}; check its permissions") from error


def read_objects(listing: Listing, options: ReadOptions, progress: _Progress = None) -> Contents:
    """Read the images of a listing of objects in memory.

    Args:
        listing: The images.
        options: How to read them.
        progress: Called with (done, total) images.

    Raises:
        DataError: There is no image, or names of classes or votes do not fit.
    """
    if options.votes is not None:
        raise DataError("votes belong to rows of a csv of pixels; leave them out")
    _check_images(options, "the images are in memory")
    return read_listing(listing, options, progress)


def _read(source: Path, options: ReadOptions, progress: _Progress) -> Contents:
    if source.is_dir():
        return _folder(source, options, progress)
    if not source.is_file():
        raise DataError(f"'{source}' does not exist; give a folder, an archive or a csv of labelled faces")
    if (listing := huggingface.list_file(source, options)) is not None:
        return _listed(source, listing, options, progress)
    if source.suffix.lower() == ".npz":
        _check_images(options, f"'{source.name}' holds the images itself")
        return _listed(source, array_sources.list_npz(source, options), options, progress)
    if archives.is_archive(source):
        if options.label_from is not None:
            return _unpacked(source, options, progress)
        return _archive(source, options, progress)
    if _is_table(source):
        return _csv(source, source.name, options, progress)
    listing = _list_layout(source, options) or _list_file(source, options, progress)
    if listing is not None:
        return _grouped(_listed(source, listing, options, progress), options)
    tables.explain(source, source.name)
    return _csv(source, source.name, options, progress)


def _list_layout(source: Path, options: ReadOptions) -> Listing | None:
    """List the images of the list of a public data set; None if the file is another one."""
    if source.name.lower() not in layouts.LISTS:
        return None
    folder = options.images or source.parent
    return layouts.find_list(source, folder, _walk(folder).names)


def _list_file(source: Path, options: ReadOptions, progress: _Progress) -> Listing | None:
    """List the images of a table of paths; None if the file is another one."""
    table = tables.open_table(source, source.name, "", tables.files_of(source.parent, (), options))
    return None if table is None else tables.read_tables(source.parent, [table], options, progress=progress)


def _csv(path: Path, name: str, options: ReadOptions, progress: _Progress) -> Contents:
    _check_images(options, f"'{name}' is not one")
    with path.open("rb") as stream:
        total = path.stat().st_size
        return read_table(stream, name=name, total=total, options=options, progress=progress)


def _folder(source: Path, options: ReadOptions, progress: _Progress) -> Contents:
    tree = _walk(source, options.images)
    names = tree.names
    if listing := huggingface.list_saved(source, names, options):
        return _listed(source, listing, options, progress)
    if options.label_from is not None and any(map(_named_as_image, names)):
        return read_listing(_named_files(source, tree, options), options, progress)
    if (listing := layouts.find(source, names, options, progress)) is not None:
        return _grouped(_listed(source, listing, options, progress), options)
    outside = set(tree.outside)
    # The folder of a table's images says that a table is meant.
    has_classes = options.images is None and _has_classes(source, names)
    if not has_classes:
        pixels = next(
            (name for name in _best_first(names) if name not in outside and _is_table(source / name)), None
        )
        if pixels is not None:
            return _csv(source / pixels, pixels, options, progress)
        if listing := huggingface.list_tables(source, names, options):
            return _listed(source, listing, options, progress)
        if found_tables := tables.find_tables(source, names, options):
            listing = tables.read_tables(source, found_tables, options, names=names, progress=progress)
            return _grouped(_listed(source, listing, options, progress), options)
    if options.label_from is not None:
        return read_listing(_named_files(source, tree, options), options, progress)
    candidates = [name for name in names if may_be_image(name)]
    check_room(len(candidates), options)
    faces: dict[str, NDArray[np.uint8] | str] = {}
    for done, name in enumerate(candidates, start=1):
        faces[name] = LINK_OUTSIDE if name in outside else _face_in(source, name, options)
        if progress:
            progress(done, len(candidates))
    others = [name for name in names if not may_be_image(name) and name not in outside]
    found = understand(
        faces,
        others=others,
        hidden=tree.hidden,
        empty=tree.empty,
        is_image=lambda name: _may_be_image(source / name),
        naming=options.naming,
    )
    if has_classes:
        unused = dict.fromkeys(filter(huggingface.may_be_table, names), False)
        unused |= tables.find_unused(source, names)
        found = _noted(found, tables.beside_classes(unused, names))
    unread = [] if has_classes else tables.explain_unread(source, names)
    _check_links(source, tree)
    if tree.outside:
        unread = [_explain_links(tree.outside), *unread]
    if tree.allowed:
        options = replace(options, images=None)
    return _grouped(_chosen(source, found, names, options, unread), options)


def _check_links(source: Path, tree: _Tree) -> None:
    """Refuse links to folders outside, because a class or split would be missing without them."""
    if folders := [name for name in tree.outside if (source / name).is_dir()]:
        raise DataError(_explain_links(folders))


def _explain_links(outside: Sequence[str]) -> str:
    return (
        f"{shorten(outside)} {'is a link' if len(outside) == 1 else 'are links'} out of the folder and not "
        "followed: name the folder with the images by images-dir (--images), or copy the images"
    )


def _named_as_image(name: str) -> bool:
    """Return whether a file has the extension of an image; files without one may be a README."""
    return may_be_image(name) and "." in name.rpartition("/")[2]


def _noted(found: Contents | None, unused: Sequence[str]) -> Contents | None:
    """Add a note about tables that class folders make useless."""
    if found is None or not unused:
        return found
    note = (
        f"class folders are used, so labels are the names of folders; {shorten(unused)} beside them "
        f"{'is' if len(unused) == 1 else 'are'} not read: give a table itself as the data to use its labels"
    )
    return replace(found, notes=(*found.notes, note))


def _has_classes(source: Path, names: list[str]) -> bool:
    """Return whether a folder has two or more class folders, by names."""
    candidates = [name for name in names if may_be_image(name)]
    # A file without an extension counts only if no other file does.
    telling = [name for name in candidates if _named_as_image(name)]
    telling = telling or [name for name in candidates if images.is_image_file(source / name)]
    return len(find_classes(telling, [name for name in names if not may_be_image(name)])) > 1


def _archive(source: Path, options: ReadOptions, progress: _Progress) -> Contents:
    """Read an archive without unpacking it, unless it is like a folder that a table or layout describes."""
    limits = options.limits or archives.Limits()
    faces: dict[str, NDArray[np.uint8] | str] = {}
    csvs: dict[str, bytes] = {}
    names: list[str] = []
    hidden: list[str] = []
    unused: dict[str, bool] = {}
    pictures: set[str] = set()
    state = file_state(source, source.name)
    streamed = True

    def is_streamed(every: Sequence[str]) -> bool:
        nonlocal streamed
        streamed = not _needs_folder([name for name in every if not is_junk(name)])
        return streamed

    for name, data in archives.members(source, limits=limits, only_if=is_streamed, progress=progress):
        if is_junk(name):
            if not is_junk(name.rpartition("/")[0]):
                hidden.append(name)
            continue
        names.append(name)
        if images.starts_like_image(data[:64]):
            pictures.add(name)
        if may_be_image(name):
            check_room(len(faces) + 1, options)
            faces[name] = options.faces.read(partial(bytes, data), known_as=f"{state}\n{name}")
        elif _best_first([name, *csvs])[:1] == [name] and is_table(io.BytesIO(data)):
            # Only one is kept, because each may be large.
            csvs = {name: data}
        if huggingface.may_be_table(name) or tables.is_like_table(name, data[: 2**16]):
            unused[name] = tables.may_be_table(name) and tables.is_headed(data[: 2**16])
    if not streamed:
        return _unpacked(source, options, progress)
    others = [name for name in names if name not in faces]
    found = understand(
        faces, others=others, hidden=hidden, is_image=pictures.__contains__, naming=options.naming
    )
    if found is None or len(found.classes) < 2:
        if csvs:
            ((name, data),) = csvs.items()
            return read_table(io.BytesIO(data), name=name, total=len(data), options=options)
        if any(unused.values()):
            return _unpacked(source, options, progress)
    return _grouped(
        _chosen(source, _noted(found, tables.beside_classes(unused, names)), names, options), options
    )


def _needs_folder(names: Sequence[str]) -> bool:
    """Return whether files of an archive can describe its images, other than by class folders."""
    if layouts.may_describe(names):
        return True
    pictures = [name for name in names if _named_as_image(name)]
    others = [name for name in names if not may_be_image(name)]
    described = any(map(huggingface.may_be_table, others))
    described = described or (bool(pictures) and any(map(tables.may_be_table, others)))
    return described and len(find_classes(pictures, others)) < 2


def _listed(source: Path, listing: Listing, options: ReadOptions, progress: _Progress) -> Contents:
    _check_votes(options, f"'{source.resolve().name}' has none")
    return read_listing(listing, options, progress)


def _unpacked(source: Path, options: ReadOptions, progress: _Progress) -> Contents:
    """Unpack an archive into a temporary folder, and read that."""
    with tempfile.TemporaryDirectory(prefix="mien-") as folder:
        unpacked = archives.unpack(
            source, Path(folder) / source.name, limits=options.limits or archives.Limits(), progress=progress
        )
        options.faces.by_content = True  # the times of the files are new
        return _folder(unpacked.root, options, progress)


def _named_files(source: Path, tree: _Tree, options: ReadOptions) -> Listing:
    """List the images of a folder by the labels in their names."""
    label_from = options.label_from
    assert label_from is not None
    _check_links(source, tree)
    if not tree.allowed:
        _check_images(options, f"label-from reads the names of the files of '{source.resolve().name}'")
    entries: list[Entry] = []
    unlike: list[str] = []
    for name in tree.names:
        if not may_be_image(name):
            continue
        label = find_part(label_from, "label", name)
        if not label:
            unlike.append(name)
            continue
        split = next((found for part in reversed(name.split("/")[:-1]) if (found := split_named(part))), "")
        entries.append(Entry(name, label, split))
    notes = (
        []
        if not unlike
        else [f"{len(unlike):,} images whose names do not match label-from are skipped: {shorten(unlike)}"]
    )
    if not entries:
        raise DataError(
            f"label-from matches none of the {len(unlike):,} images of '{source.resolve().name}' "
            f"({shorten(unlike)}); correct the pattern"
        )
    how = f"labels are read from file names by {label_from.pattern}"
    entries, more = group_entries(entries, [entry.file for entry in entries], options)
    return Listing(
        entries=entries, open=FolderReader(source, images_dir=options.images), how=how, notes=(*notes, *more)
    )


def _grouped(found: Contents, options: ReadOptions) -> Contents:
    """Add the groups that the names of files tell."""
    if options.group_from is None:
        return found
    groups, notes = find_groups(options, found.files, found.groups or [""] * len(found.files))
    return replace(found, groups=groups, notes=(*found.notes, *notes))


def _face_in(source: Path, name: str, options: ReadOptions) -> NDArray[np.uint8] | str:
    path = source / name
    if not path.is_file():
        return "it is not a file, or a broken link"
    known_as = ""
    if options.faces.store is not None:
        # If the file cannot be read, opening it says why.
        with contextlib.suppress(ImageError):
            known_as = file_state(path, name)
    return options.faces.read(partial(read_file, path), known_as=known_as)


def _may_be_image(path: Path) -> bool:
    """Return whether a file is an image by its content, or by its missing extension if it cannot be read."""
    found = images.is_image_file(path)
    return not path.suffix if found is None else found


def _walk(source: Path, images_dir: Path | None = None) -> _Tree:
    """List the files in a folder. Linked folders inside are followed once, hidden ones never.

    Args:
        source: The folder.
        images_dir: Another folder that links may lead to.
    """
    home = os.path.realpath(source)
    other = None if images_dir is None else os.path.realpath(images_dir)
    tree = _Tree([], [], [], [], allowed=False)
    allowed = False
    seen: set[str] = set()
    waiting = [PurePosixPath()]
    while waiting:
        inside = waiting.pop()
        real = os.path.realpath(source / inside)
        if real in seen:
            continue
        seen.add(real)
        folders: list[PurePosixPath] = []
        empty = True
        for entry in _entries(source, inside):
            name = str(inside / entry.name)
            path = source / inside / entry.name
            # An entry of a link that leads in a circle raises an error; its path does not.
            is_folder = path.is_dir() if entry.is_symlink() else entry.is_dir()
            if is_junk(entry.name):
                if not is_folder:
                    tree.hidden.append(name)
                continue
            empty = False
            if entry.is_symlink() and path.exists():
                target = os.path.realpath(path)
                if other is not None and is_in(target, other):
                    allowed = True
                elif not is_in(target, home):
                    tree.outside.append(name)
                    if is_folder:
                        continue
            if is_folder:
                folders.append(inside / entry.name)
            else:
                tree.names.append(name)
        waiting += sorted(folders, reverse=True)
        if empty:
            tree.empty.append(str(inside))
    for names in (tree.names, tree.hidden, tree.empty, tree.outside):
        names.sort()
    return replace(tree, allowed=allowed)


def _entries(source: Path, inside: PurePosixPath) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(source / inside) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(
            f"the folder '{inside}' in '{source.resolve().name}' cannot be read: {error.strerror}; check its "
            "permissions"
        ) from error


def _best_first(names: list[str]) -> list[str]:
    """Return the csv files, those that most likely contain images first."""

    def rank(name: str) -> tuple[int, str]:
        word = name.lower().rpartition("/")[2]
        return (0 if "fer2013" in word else 1 if "icml" in word else 2, name)

    return sorted((name for name in names if name.lower().endswith(".csv")), key=rank)


def _is_table(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return is_table(stream)


def _chosen(
    source: Path,
    found: Contents | None,
    names: list[str],
    options: ReadOptions,
    unread: Sequence[str] = (),
) -> Contents:
    """Return the class folders, if there are two or more and nothing needs a csv.

    Args:
        source: The folder or archive.
        found: The class folders, or None.
        names: The files.
        options: How to read them.
        unread: Why tables are not read.

    Raises:
        DataError: There are too few classes, or options belong to a csv.
    """
    why = "".join(f"; {reason}" for reason in unread[:3])
    if found is None:
        held = f"it contains {shorten(names)}" if names else "it is empty"
        raise DataError(
            f"'{source.resolve().name}' has no images in class folders (as in train/happy/1.png) and no "
            f"fer2013.csv; {held}{why}"
        )
    _check_votes(options, "the source has class folders")
    _check_images(options, f"'{source.resolve().name}' contains none")
    if len(found.classes) == 1 and len(found.faces) > 1:
        raise DataError(
            f"'{source.resolve().name}' has only the class '{found.classes[0]}'; give two or more, each in "
            f"its own folder{why}" + "".join(f"; {note}" for note in found.notes[:2])
        )
    return found


def _check_images(options: ReadOptions, why: str) -> None:
    if options.images is not None:
        raise DataError(f"images_dir (--images) belongs to a table of paths, and {why}; leave it out")


def _check_votes(options: ReadOptions, why: str) -> None:
    if options.votes is not None:
        raise DataError(
            f"the votes '{options.votes.name}' belong to rows of a csv, and {why}; "
            "give fer2013.csv or icml_face_data.csv, or leave the votes out"
        )
