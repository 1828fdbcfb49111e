"""Recognise the folders in which public data sets are published: RAF-DB, AffectNet, CK+, JAFFE and ExpW.

Each reader needs marks that nobody's own folder has by chance, such as the name and the form of a list, and
returns None without them. docs/dataset.md has a table of the layouts with their sources.
"""

import io
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mien._text import shorten
from mien.data import tables
from mien.data.class_names import LABEL_ORDERS
from mien.data.contents import Problem, ReadOptions, check_room
from mien.data.folders import may_be_image
from mien.data.listings import Entry, FolderReader, Listing
from mien.errors import DataError, ImageError
from mien.labels import canonical

_Progress = Callable[[int, int], None] | None

#: Names of lists that are recognised as files too.
RAF_DB_LISTS = ("list_patition_label.txt", "list_partition_label.txt")
EXPW_LIST = "label.lst"
LISTS = (*RAF_DB_LISTS, EXPW_LIST)

_AFFECTNET_TABLES = ("training.csv", "validation.csv", "automatically_annotated.csv")
_AFFECTNET_FILE = re.compile(
    r"^(?P<top>(?:.*/)?)(?P<set>train|val)_set/annotations/(?P<number>\d+)_exp\.npy$"
)
_CK_IMAGE = re.compile(
    r"(?:^|/)cohn-kanade-images/(?P<person>S\d{3})/(?P<sequence>\d{3})/S\d{3}_\d{3}_(?P<frame>\d{8})\.\w+$"
)
#: An image of CK+ in folders of persons that are not in `cohn-kanade-images`.
_CK_PERSON = re.compile(
    r"^(?P<top>(?:[^/]+/)*)(?P<person>S\d{3})/(?P<sequence>\d{3})/(?P=person)_(?P=sequence)_\d{8}\.\w+$"
)
_CK_LABEL = re.compile(
    r"(?:^|/)Emotion(?:_labels)?/(?P<person>S\d{3})/(?P<sequence>\d{3})/S\d{3}_\d{3}_(?P<frame>\d{8})"
    r"_emotion\.txt$"
)
_JAFFE_IMAGE = re.compile(r"^(?P<person>[A-Z]{2})\.(?P<label>AN|DI|FE|HA|SA|SU|NE)\d\.\d{1,3}\.\w+$")
#: Images of other names that a folder of JAFFE can have: one in ten.
_JAFFE_SHARE = 0.9
#: Bytes of an annotation, and characters of a line.
_LONGEST_FILE, _LONGEST_LINE = 4096, 4096


@dataclass(frozen=True)
class _Tree:
    """A folder with the names of its files.

    Args:
        root: The folder.
        names: Its files, relative to it.
    """

    root: Path
    names: Sequence[str]

    @property
    def images(self) -> list[str]:
        """The files with the extension of an image."""
        return [name for name in self.names if "." in _leaf(name) and may_be_image(name)]


def may_describe(names: Iterable[str]) -> bool:
    """Return whether names of files are like those of a public data set."""
    return any(
        _leaf(name).lower() in (*LISTS, *_AFFECTNET_TABLES)
        or _AFFECTNET_FILE.match(name)
        or _CK_IMAGE.search(name)
        or _CK_PERSON.match(name)
        or (_JAFFE_IMAGE.match(_leaf(name)) and may_be_image(name))
        for name in names
    )


def find(
    source: str | os.PathLike[str], names: Sequence[str], options: ReadOptions, progress: _Progress = None
) -> Listing | None:
    """List the images of a folder that has the layout of a public data set; None for other folders.

    Args:
        source: The folder.
        names: Its files, relative to it and separated by `/`.
        options: How to read it.
        progress: Called with (done, total), in files or bytes.

    Raises:
        DataError: It is a public data set, and a part is missing or damaged.
    """
    source = Path(source)
    if not may_describe(names):
        return None
    tree = _Tree(source, names)
    if (listing := _affectnet_tables(tree, options, progress)) is not None:
        return listing
    if options.images is None:
        for reader in (_raf_db_folder, _expw_folder, _affectnet_files, _ck, _jaffe):
            if (listing := reader(tree, progress)) is not None:
                return listing
    return None


def find_list(
    path: str | os.PathLike[str], images: str | os.PathLike[str], names: Sequence[str]
) -> Listing | None:
    """List the images of RAF-DB's or ExpW's list; None if the file has another form.

    Args:
        path: The list.
        images: The folder of the images.
        names: Its files, relative to it.

    Raises:
        DataError: None of the images exists.
    """
    images = Path(images)
    path = Path(path)
    tree = _Tree(images, names)
    expw = path.name.lower() == EXPW_LIST
    listing = (_read_expw if expw else _read_raf_db)(path, path.name, tree)
    if listing is None and _looks_like(path, fields=8 if expw else 2):
        raise DataError(
            f"none of the images of '{path.name}' is in '{images.resolve().name}'; give the folder of the "
            "images with images_dir (--images)"
        )
    return listing


def _leaf(name: str) -> str:
    return name.rpartition("/")[2]


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _stem(name: str) -> str:
    leaf = _leaf(name)
    return leaf.rpartition(".")[0] or leaf


def _lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """Yield the number from 0 and the text of each line that is not empty."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), "")):
                if number % 65536 == 0:
                    check_room(number, ReadOptions(size=48))
                if line.strip():
                    yield number, line.strip()
    except UnicodeDecodeError as error:
        raise DataError(f"'{name}' is not text in UTF-8: {error.reason}; download it again") from None


def _looks_like(path: Path, *, fields: int) -> bool:
    """Return whether the first line of a list has a number of fields."""
    first = next(_lines(path, path.name), (0, ""))[1]
    return len(first.split()) >= fields


def _best_list(tree: _Tree, wanted: Sequence[str]) -> str | None:
    """Return the list in a folder; that of RAF-DB's basic expressions is preferred.

    Raises:
        DataError: There are several.
    """
    found = [name for name in tree.names if _leaf(name).lower() in wanted]
    if len(found) > 1:
        found = [name for name in found if "compound" not in name.lower()] or found
    if len(found) > 1:
        raise DataError(
            f"'{tree.root.resolve().name}' has several lists: {shorten(found)}; give the folder of one"
        )
    return found[0] if found else None


class _Collected:
    """The images of a list, without repeated lines and without images that have two labels.

    Args:
        order: The key of `LABEL_ORDERS` that has the labels.
    """

    def __init__(self, order: str) -> None:
        self._order = LABEL_ORDERS[order]
        self._entries: dict[tuple[object, ...], Entry] = {}
        self._doubtful: set[tuple[object, ...]] = set()
        self._repeats = 0
        self.listed: set[str] = set()
        self.problems: list[Problem] = []

    def is_label(self, label: str, where: str, split: str = "") -> bool:
        """Return whether a label is known, and record it as a problem if not."""
        if label in self._order:
            return True
        self.fail(where, f"the label is '{label[:20]}'; it is {', '.join(self._order)}", split)
        return False

    def fail(self, where: str, reason: str, split: str = "") -> None:
        """Record a problem."""
        self.problems.append(Problem(where, reason, split))

    def add(self, entry: Entry) -> None:
        """Add an image."""
        key = (entry.file, entry.box)
        before = self._entries.setdefault(key, entry)
        if before is not entry:
            if before.label == entry.label:
                self._repeats += 1
            else:
                self._doubtful.add(key)

    def finish(self) -> tuple[list[Entry], tuple[Problem, ...], list[str]]:
        """Return the images, the problems and notes."""
        for key in self._doubtful:
            entry = self._entries.pop(key)
            self.fail(entry.file, "it has several labels", entry.split)
        notes = [f"{self._repeats:,} lines repeat another one and are skipped"] if self._repeats else []
        return list(self._entries.values()), tuple(self.problems), notes


def _spare(tree: _Tree, listed: Collection[str], folder: str, what: str) -> list[str]:
    """Return a note about images of a folder that are not listed."""
    spare = [name for name in tree.images if _parent(name) == folder and name not in listed]
    return [f"{len(spare):,} images {what} are left out: {shorten(spare)}"] if spare else []


def _raf_db_folder(tree: _Tree, _: _Progress) -> Listing | None:
    name = _best_list(tree, RAF_DB_LISTS)
    if name is None:
        return None
    path = _path(tree, name)
    if not tree.images and _looks_like(path, fields=2):
        packed = [each for each in tree.names if each.lower().endswith("aligned.zip")]
        advice = f"unpack '{packed[0]}' where it is" if packed else "put the folder of its images beside it"
        raise DataError(f"'{name}' is the list of RAF-DB, and its images are missing; {advice}")
    # The compound expressions of RAF-DB have the same tree and names.
    top = _parent(_parent(name)) if _leaf(_parent(name)).lower() == "emolabel" else _parent(name)
    below = _Tree(tree.root, [each for each in tree.names if not top or each.startswith(f"{top}/")])
    listing = _read_raf_db(path, name, below)
    if (
        listing is None
        and _leaf(_parent(name)).lower() == "emolabel"
        and not _in_classes(map(_parent, tree.images))
    ):
        raise DataError(f"'{name}' is the list of RAF-DB and names none of its images; download it again")
    return listing


def _in_classes(folders: Iterable[str]) -> bool:
    """Return whether one of some folders is named like an emotion or by a number."""
    return any(canonical(_leaf(folder)) or _leaf(folder).isdecimal() for folder in folders)


def _path(tree: _Tree, name: str) -> Path:
    try:
        return FolderReader(tree.root).path(name)
    except ImageError as error:
        raise DataError(f"'{name}' cannot be read: {error}") from error


def _read_raf_db(path: Path, name: str, tree: _Tree) -> Listing | None:
    lines = {}
    for number, line in _lines(path, name):
        lines[number] = line.rsplit(None, 1)
    wanted = {_key(fields[0]) for fields in lines.values()}
    places = _find_images(tree, wanted, _key, first="aligned")
    if places is None:
        return None
    folder, found = places
    collected = _Collected("RAF-DB")
    for number, fields in lines.items():
        where = f"row {number}"
        file = found.get(_key(fields[0]))
        collected.listed.update((file,) if file else ())
        if len(fields) != 2:
            collected.fail(where, f"the line is '{fields[0][:40]}'; it is the name of an image and its label")
            continue
        split = next((each for each in ("train", "test") if fields[0].startswith(f"{each}_")), "")
        if not split:
            collected.fail(where, f"the image '{fields[0][:40]}' is not called train_ or test_")
        elif collected.is_label(fields[1], where, split):
            if file is None:
                collected.fail(fields[0][:200], f"the file does not exist (row {number} of '{name}')", split)
            else:
                collected.add(Entry(file, fields[1], split))
    entries, problems, notes = collected.finish()
    notes += _spare(tree, collected.listed, folder, "that the list does not name")
    if not _stem(next(iter(found.values()))).endswith("_aligned") and _leaf(folder).lower() == "original":
        notes.append("the images of RAF-DB are whole photographs; its folder 'aligned' has the faces")
    return Listing(
        entries=entries,
        open=FolderReader(tree.root),
        how=f"read as RAF-DB: labels of '{name}', images in '{folder or '.'}', splits by train_ and test_",
        known="RAF-DB",
        problems=problems,
        notes=tuple(notes),
    )


def _key(name: str) -> str:
    """Return the name of an image of RAF-DB without its extension and `_aligned`."""
    return _stem(name).removesuffix("_aligned")


def _find_images(
    tree: _Tree, wanted: set[str], key: Callable[[str], str], *, first: str
) -> tuple[str, dict[str, str]] | None:
    """Return the folder with most of the images of a list, and its images by their keys.

    Args:
        tree: The folder that contains the images.
        wanted: The keys of the list.
        key: Returns the key of a name.
        first: The folder that is preferred.

    Returns:
        None if no image has a key, or images are in class folders.
    """
    folders: dict[str, dict[str, str]] = {}
    for name in tree.images:
        if (found := key(name)) in wanted:
            folders.setdefault(_parent(name), {}).setdefault(found, name)
    if not folders or _in_classes(folders):
        return None
    best = max(folders, key=lambda each: (_leaf(each).lower() == first, len(folders[each]), each))
    return best, folders[best]


def _expw_folder(tree: _Tree, _: _Progress) -> Listing | None:
    name = _best_list(tree, (EXPW_LIST,))
    return None if name is None else _read_expw(_path(tree, name), name, tree)


def _read_expw(path: Path, name: str, tree: _Tree) -> Listing | None:
    lines = {number: line.rsplit(None, 7) for number, line in _lines(path, name)}
    first = next(iter(lines.values()), [])
    if len(first) != 8 or not all(map(_is_number, first[1:])):
        return None
    places = _find_images(tree, {fields[0] for fields in lines.values()}, _leaf, first="origin")
    if places is None:
        return None
    folder, found = places
    collected = _Collected("ExpW")
    for number, fields in lines.items():
        where = f"row {number}"
        file = found.get(fields[0])
        collected.listed.update((file,) if file else ())
        if len(fields) != 8 or not all(map(_is_number, fields[1:7])):
            collected.fail(where, "the line is not a name, a face, its box, a confidence and a label")
            continue
        top, left, right, bottom = map(float, fields[2:6])
        if right <= left or bottom <= top:
            collected.fail(where, f"the face box {' '.join(fields[2:6])} is empty")
        elif collected.is_label(fields[7], where):
            if file is None:
                collected.fail(fields[0][:200], f"the file does not exist (row {number} of '{name}')")
            else:
                collected.add(Entry(file, fields[7], box=(left, top, right - left, bottom - top)))
    entries, problems, notes = collected.finish()
    return Listing(
        entries=entries,
        open=FolderReader(tree.root),
        how=f"read as ExpW: labels and face boxes (top left right bottom) of '{name}', images in "
        f"'{folder or '.'}'",
        known="ExpW",
        problems=problems,
        notes=(*notes, *_spare(tree, collected.listed, folder, "that the list does not name")),
    )


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _affectnet_tables(tree: _Tree, options: ReadOptions, progress: _Progress) -> Listing | None:
    """List AffectNet as its first release has it: training.csv and validation.csv."""
    names = [name for name in tree.names if _leaf(name).lower() in _AFFECTNET_TABLES]
    found = [
        table
        for table in tables.open_tables(tree.root, names, tree.names, options)
        if table.columns.is_affectnet
    ]
    if not any(tables.finds_images(tree.root, table, tree.names, options) for table in found):
        return None
    split = {"training": "train", "automatically_annotated": "train", "validation": "val"}
    found = [replace(table, split=split[_stem(table.name).lower()]) for table in found]
    return tables.read_tables(tree.root, found, options, names=tree.names, progress=progress)


def _affectnet_files(tree: _Tree, progress: _Progress) -> Listing | None:
    """List AffectNet as its later release has it: an annotation file beside each image."""
    found = [match for name in tree.names if (match := _AFFECTNET_FILE.match(name))]
    pictures = set(tree.images)
    folders = {f"{match['top']}{match['set']}_set/images" for match in found}
    if not any(_parent(name) in folders for name in pictures):
        return None
    if len(tops := {match["top"] for match in found}) > 1:
        raise DataError(
            f"'{tree.root.resolve().name}' has AffectNet twice: {shorten(sorted(tops))}; give one"
        )
    reader = FolderReader(tree.root)
    collected = _Collected("AffectNet")
    others: Counter[str] = Counter()
    found.sort(key=lambda match: (match["set"], int(match["number"])))
    for done, match in enumerate(found, start=1):
        split = match["set"]
        stem = f"{match['top']}{split}_set/images/{match['number']}"
        file = next((name for end in (".jpg", ".png", ".jpeg") if (name := stem + end) in pictures), "")
        collected.listed.add(file)
        try:
            label = _read_expression(reader, match.string)
            if not file:
                collected.fail(f"{stem}.jpg", "the file does not exist, and its annotation does", split)
            elif label in tables.AFFECTNET_OTHERS:
                others[label] += 1
            elif collected.is_label(label, match.string, split):
                collected.add(Entry(file, label, split))
        except ImageError as error:
            collected.fail(match.string, str(error), split)
        if progress and (done % 1024 == 0 or done == len(found)):
            progress(done, len(found))
    entries, problems, notes = collected.finish()
    if others:
        notes.append(tables.describe_others(others))
    for folder in sorted(folders):
        notes += _spare(tree, collected.listed, folder, "without an annotation")
    return Listing(
        entries=entries,
        open=reader,
        how="read as AffectNet: labels of annotations/*_exp.npy, images in train_set and val_set",
        known="AffectNet",
        problems=problems,
        notes=tuple(notes),
    )


def _read_expression(reader: FolderReader, name: str) -> str:
    """Return the label in an annotation of AffectNet, a NumPy array of one number or text.

    Raises:
        ImageError: The file cannot be read, or contains something else.
    """
    try:
        with reader.path(name).open("rb") as file:
            data = file.read(_LONGEST_FILE)
        array = np.load(io.BytesIO(data), allow_pickle=False)
        number = float(array.item())
    except OSError as error:
        raise ImageError(f"the annotation cannot be read: {error.strerror}") from error
    except ImageError:
        raise
    # NumPy raises errors of many kinds for damaged headers.
    except Exception as error:
        raise ImageError("the annotation is not a NumPy array of one number") from error
    return str(int(number)) if number.is_integer() else str(number)


def _ck(tree: _Tree, _: _Progress) -> Listing | None:
    frames: dict[tuple[str, str], dict[str, str]] = {}
    for name in tree.images:
        if match := _CK_IMAGE.search(name):
            frames.setdefault((match["person"], match["sequence"]), {})[match["frame"]] = name
    if not frames:
        _refuse_persons(tree)
        return None
    labels: dict[tuple[str, str], list[re.Match[str]]] = {}
    for name in tree.names:
        if match := _CK_LABEL.search(name):
            labels.setdefault((match["person"], match["sequence"]), []).append(match)
    if not labels:
        raise DataError(
            f"'{tree.root.resolve().name}' has the images of CK+ and not its labels; put its folder Emotion "
            "beside cohn-kanade-images"
        )
    reader = FolderReader(tree.root)
    collected = _Collected("CK+")
    for key, matches in sorted(labels.items()):
        _add_sequence(collected, reader, key, matches, frames.get(key, {}))
    entries, problems, notes = collected.finish()
    unlabelled = len(frames.keys() - labels.keys())
    if unlabelled:
        notes.append(f"{unlabelled:,} sequences without a label are left out")
    return Listing(
        entries=entries,
        open=reader,
        how="read as CK+: the last frame of each labelled sequence has its label, the first is neutral, and "
        "the person is the folder of the subject",
        known="CK+",
        problems=problems,
        notes=tuple(notes),
    )


def _refuse_persons(tree: _Tree) -> None:
    """Refuse folders of CK+'s persons without labels, which would be classes."""
    matches = [_CK_PERSON.match(name) for name in tree.images]
    tops = {match and match["top"] for match in matches}
    if len(tops) == 1 and (top := tops.pop()) is not None and not _in_classes([top.rstrip("/")]):
        raise DataError(
            f"the folders of '{tree.root.resolve().name}' look like the persons of CK+, not like classes; "
            "give the folder above, which has cohn-kanade-images and Emotion beside each other"
        )


def _add_sequence(
    collected: _Collected,
    reader: FolderReader,
    key: tuple[str, str],
    matches: Sequence[re.Match[str]],
    frames: Mapping[str, str],
) -> None:
    """Add the first and the last frame of a sequence of CK+."""
    person, sequence = key
    name = matches[0].string
    if len(matches) > 1:
        collected.fail(f"{person}/{sequence}", f"the sequence has {len(matches)} labels")
        return
    try:
        with reader.path(name).open("rb") as file:
            text = file.read(_LONGEST_FILE).decode("ascii", errors="replace").strip()
    except (ImageError, OSError) as error:
        collected.fail(name, str(error))
        return
    number = float(text) if _is_number(text) else -1.0
    label = str(int(number)) if number.is_integer() else text
    if not collected.is_label(label, name):
        return
    last = frames.get(matches[0]["frame"])
    if last is None:
        collected.fail(name, "the frame that the label names does not exist")
        return
    first = frames[min(frames)]
    if first != last:
        collected.add(Entry(first, "0", group=person))
    collected.add(Entry(last, label, group=person))


def _jaffe(tree: _Tree, _: _Progress) -> Listing | None:
    found = {name: match for name in tree.images if (match := _JAFFE_IMAGE.match(_leaf(name)))}
    folders = {_parent(name) for name in found}
    labels = {match["label"] for match in found.values()}
    if len(labels) < 2 or len(folders) != 1 or len(found) < _JAFFE_SHARE * len(tree.images):
        return None
    entries = [
        Entry(name, canonical(match["label"]) or match["label"], group=match["person"])
        for name, match in found.items()
    ]
    spare = [name for name in tree.images if name not in found]
    return Listing(
        entries=entries,
        open=FolderReader(tree.root),
        how="read as JAFFE: the name of each image has its person and label, as KA.AN1.39.tiff has",
        notes=(f"{len(spare):,} images with other names are left out: {shorten(spare)}",) if spare else (),
    )
