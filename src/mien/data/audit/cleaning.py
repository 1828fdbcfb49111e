"""A clean copy of a data set, and the list of training images to exclude."""

import contextlib
import csv
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien import _files
from mien._text import escape_formula, quote
from mien.data import archives, exclusions
from mien.data.audit.copies import SplitRecrops
from mien.data.audit.findings import Material, Removal
from mien.data.audit.images import Measures
from mien.data.audit.labels import faceless
from mien.data.duplicates import Duplicates
from mien.errors import DataError
from mien.labels import EMOTIONS, FERPLUS_COLUMNS, VOTES
from mien.vision import images


@dataclass(frozen=True)
class Change:
    """One change between a data set and its clean copy.

    Args:
        file: The image's name, as in `Split.files`.
        change: `drop`, `move` or `relabel`.
        was: Its split or label in the data set.
        becomes: Its split or label in the copy; empty if it is dropped.
        reason: Why.
    """

    file: str
    change: str
    was: str
    becomes: str
    reason: str


@dataclass(frozen=True, eq=False)
class Plan:
    """The contents of a clean copy.

    Args:
        kept: `(n,)` bool, whether each image of `Material.images` stays.
        splits: `(n,)` the index of each image's split in `Material.names`.
        labels: `(n,)` each image's label.
        changes: Every change, and why.
    """

    kept: NDArray[np.bool_]
    splits: NDArray[np.intp]
    labels: NDArray[np.int64]
    changes: tuple[Change, ...]


def plan(
    material: Material,
    measures: Measures,
    found: Duplicates,
    recrops: tuple[SplitRecrops, ...] = (),
    *,
    regroup: bool = False,
) -> Plan:
    """Decide what a clean copy contains, in this order.

    1. Drop images that cannot be read, that a list leaves out of training, that are blank, or that most
       annotators call no face.
    2. Give exact duplicates one label: the one of theirs with most annotator votes, or without votes the most
       frequent one. Drop all of them if two labels tie.
    3. Drop duplicates across splits from train, and duplicates of test images from val; or with `regroup`
       move them to train, and those of val and test to val.
    4. Of exact duplicates in one split keep the first.

    Args:
        material: The images.
        measures: Their measures.
        found: Their exact and near duplicates.
        recrops: Their re-cropped duplicates across splits.
        regroup: Whether to move duplicates into one split instead of dropping them.
    """
    work = _Work(material)
    for problem in material.dataset.problems:
        work.changes.append(Change(problem.file, "drop", "", "", f"unreadable: {problem.reason}"))
    for item in material.dataset.excluded:
        reason = f"excluded by a list: {item.reason}"
        work.changes += [Change(file, "drop", "train", "", reason) for file in item.files]
    for place in np.flatnonzero(~measures.has_content).tolist():
        work.drop(place, "constant" if measures.contrast[place] == 0 else "nearly blank")
    for place in faceless(material).tolist():
        work.drop(place, "not a face by votes")
    for group in found.groups(near=False):
        _agree(work, group)
    if regroup:
        _regroup(work, _linking(found, recrops))
    else:
        _separate(work, found, _linking(found, recrops))
    for group in found.groups(near=False):
        seen: dict[int, int] = {}
        for place in work.of(group):
            first = seen.setdefault(int(work.splits[place]), place)
            if first != place:
                work.drop(place, f"exact duplicate of {material.files[first]}")
    return Plan(work.kept, work.splits, work.labels, tuple(work.changes))


class _Work:
    """An unfinished plan."""

    def __init__(self, material: Material) -> None:
        self.material = material
        self.kept = np.ones(len(material.images), bool)
        self.splits = material.splits.copy()
        self.labels = material.labels.copy()
        self.changes: list[Change] = []

    def of(self, places: NDArray[np.int64]) -> list[int]:
        return [place for place in places.tolist() if self.kept[place]]

    def members(self, split: str) -> NDArray[np.intp]:
        if split not in self.material.names:
            return np.empty(0, np.intp)
        return np.flatnonzero(self.kept & (self.splits == self.material.names.index(split)))

    def drop(self, place: int, reason: str) -> None:
        if self.kept[place]:
            self.kept[place] = False
            self._note(place, "drop", self._split(place), "", reason)

    def move(self, place: int, split: int, reason: str) -> None:
        if self.splits[place] != split:
            was = self._split(place)
            self.splits[place] = split
            self._note(place, "move", was, self._split(place), reason)

    def relabel(self, place: int, label: int, reason: str) -> None:
        if self.labels[place] != label:
            names = self.material.dataset.labels
            was = names[self.labels[place]]
            self.labels[place] = label
            self._note(place, "relabel", was, names[label], reason)

    def _split(self, place: int) -> str:
        return str(self.material.names[int(self.splits[place])])

    def _note(self, place: int, change: str, was: str, becomes: str, reason: str) -> None:
        self.changes.append(Change(self.material.files[place], change, was, becomes, reason))


def _agree(work: _Work, group: NDArray[np.int64]) -> None:
    """Set one label for exact duplicates, or drop them if their labels tie."""
    places = work.of(group)
    labels = Counter(int(work.labels[place]) for place in places)
    if len(labels) < 2:
        return
    votes = work.material.votes
    weight: dict[int, float] = dict(labels)
    if votes is not None:
        names = work.material.dataset.labels
        ballots = votes[places].sum(axis=0)
        weight = {label: float(ballots[VOTES.index(names[label])]) for label in labels}
    best, *others = sorted(weight, key=lambda label: -weight[label])
    names_of = ", ".join(sorted(work.material.dataset.labels[label] for label in labels))
    for place in places:
        if weight[best] == weight[others[0]]:
            work.drop(place, f"exact duplicates have the labels {names_of}, equally often")
        else:
            by = "most frequent" if votes is None else "most voted"
            work.relabel(place, best, f"exact duplicates have the labels {names_of}; kept the {by} label")


def _linking(found: Duplicates, recrops: tuple[SplitRecrops, ...]) -> Duplicates:
    """Return the duplicates, with re-cropped ones counted as near."""
    pairs = [found.first[np.stack([each.one, each.other], axis=1)] for each in recrops]
    return replace(found, pairs=np.concatenate([found.pairs, *pairs]))


def _separate(work: _Work, found: Duplicates, linking: Duplicates) -> None:
    """Drop duplicates of test from val, and duplicates of either from train."""
    for here, there in (("val", "test"), ("train", "test"), ("train", "val")):
        asked = work.members(here)
        exact, near = found.again(asked, work.members(there))
        recropped = linking.again(asked, work.members(there))[1] & ~near
        for word, hits in (("exact", exact), ("near", near), ("re-cropped", recropped)):
            for place in asked[hits].tolist():
                work.drop(place, f"{word} duplicate of an image of {there}")


def _regroup(work: _Work, found: Duplicates) -> None:
    """Move linked duplicates into one split: train if one of them is there, else val."""
    for group in found.groups():
        images = work.of(group)
        # Splits are in the order train, val, test.
        target = min((int(work.splits[image]) for image in images), default=0)
        for image in images:
            work.move(image, target, f"a duplicate is in {work.material.names[target]}")


#: Names of the splits in fer2013.csv.
_USAGES = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}

#: The table of a copy's images with their persons.
PERSONS = "persons.csv"

#: Characters of the name of an image that is written as PNG, without its extension.
_LONGEST_LEAF = 60

#: Bytes of a file's name that nearly every file system allows.
_LONGEST = 255

_Progress = Callable[[int, int], None] | None

#: The name of a row of a table: `row 17`, or `data/train.parquet row 17`.
_ROW = re.compile(r"(?:^|(?<= ))row \d+$")


def write_copy(
    material: Material, plan: Plan, source: Path, out: Path, *, progress: _Progress = None
) -> None:
    """Write the clean copy that `audit.fix` documents into the new folder `out`, whole or not at all."""
    check_copy(source, out)
    _check_classes(material, plan)
    _check_names(material.dataset.labels)
    new = [folder for folder in out.parents if not folder.exists()]
    try:
        with _files.writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=out.parent))
            try:
                partial.chmod(0o755)
                rows = _ROW.fullmatch(material.files[0]) and set(material.dataset.labels) <= {*EMOTIONS}
                if rows and (material.groups is None or material.votes is not None):
                    _table(material, plan, partial)
                else:
                    if _ROW.search(material.files[0]) or not _has_whole_files(material, source):
                        paths = _pictures(material, plan, partial)
                    else:
                        paths = _folders(material, plan, source, partial, progress)
                    if material.groups is not None:
                        (partial / PERSONS).write_bytes(_persons(material, plan, material.groups, paths))
                (partial / "changes.csv").write_bytes(_list(plan.changes))
                _claim(partial, out)
                _files.sync_folder(out.parent)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    finally:
        for folder in new:
            with contextlib.suppress(OSError):  # it contains the copy or files of others
                folder.rmdir()


def _persons(
    material: Material, plan: Plan, groups: Sequence[str], paths: Mapping[int, PurePosixPath]
) -> bytes:
    """Return the table of a copy's images with their persons, which can be loaded in place of the folder."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "label", "split", "person"])
    for place, path in paths.items():
        label = material.dataset.labels[plan.labels[place]]
        split = material.names[plan.splits[place]]
        table.writerow([path, escape_formula(label), split, escape_formula(groups[place])])
    return text.getvalue().encode(errors="backslashreplace")


def _pictures(material: Material, plan: Plan, out: Path) -> dict[int, PurePosixPath]:
    """Write rows of tables and parts of images as class folders of PNG files, in the size of the audit."""
    taken: set[str] = set()
    paths: dict[int, PurePosixPath] = {}
    for place in np.flatnonzero(plan.kept).tolist():
        folder = out / material.names[plan.splits[place]] / material.dataset.labels[plan.labels[place]]
        folder.mkdir(parents=True, exist_ok=True)
        leaf = re.sub(r"[^\w.-]+", "-", material.files[place])[-_LONGEST_LEAF:]
        if str(folder / leaf).casefold() in taken:
            leaf += f"-{place}"
        taken.add(str(folder / leaf).casefold())
        Image.fromarray(material.images[place, :, :, 0]).save(folder / f"{leaf}.png")
        paths[place] = PurePosixPath((folder / f"{leaf}.png").relative_to(out).as_posix())
    return paths


def _claim(partial: Path, out: Path) -> None:
    try:
        partial.rename(out)
    except OSError as error:
        if not out.exists():
            raise
        raise DataError(f"another process has created '{out}'; name a new folder") from error


def check_copy(source: Path, out: Path) -> None:
    """Refuse to write to a folder that exists or overlaps with the source.

    Raises:
        DataError: `out` exists, or one of the two contains the other.
    """
    here, there = source.resolve(), out.resolve()
    if there == here or here in there.parents or there in here.parents:
        raise DataError(f"the copy '{out}' would overlap with its source '{source}'; name another folder")
    if out.exists():
        raise DataError(f"'{out}' exists; name a new folder")


def _check_classes(material: Material, plan: Plan) -> None:
    """Check that the copy can be loaded again."""
    if "train" not in material.names:
        return
    here = plan.splits == material.names.index("train")
    names = material.dataset.labels
    left = set(plan.labels[plan.kept & here].tolist())
    if missing := [names[label] for label in sorted({*plan.labels[plan.kept].tolist()} - left)]:
        raise DataError(
            f"the clean copy would have the class {', '.join(missing)} in val or test but not in train; add "
            "images that are not duplicates to train, remove the class from val and test, or list the images "
            "to exclude with --exclusions instead"
        )


def _check_names(classes: Sequence[str]) -> None:
    """Refuse classes, which a table can name freely, that would lead out of the copy as folders."""
    marks = "/\\:\0" if os.name == "nt" else "/\0"
    for name in classes:
        if name.startswith(".") or any(mark in name for mark in marks):
            raise DataError(f"the class {quote(name)} cannot be the name of a folder; rename it with --map")


#: Files that are compared with the images before a copy.
_COMPARED = 64


def _has_whole_files(material: Material, source: Path) -> bool:
    """Return whether each image is a whole file of the source, and not a face in one."""
    if len(set(material.files)) < len(material.files) or not (source.is_dir() or archives.is_archive(source)):
        return False
    if "crop" in material.dataset.origin:
        return True
    places = dict(zip(material.files[:_COMPARED], range(_COMPARED), strict=False))
    return all(
        np.array_equal(images.fit(images.read(data), material.images.shape[1]), material.images[places[name]])
        for name, data in islice(_contents(source, places), len(places))
    )


def _folders(
    material: Material, plan: Plan, source: Path, out: Path, progress: _Progress
) -> dict[int, PurePosixPath]:
    targets = _targets(material, plan)
    paths = {place: targets[file] for place, file in enumerate(material.files) if file in targets}
    total = len(targets)
    for name, data in _contents(source, targets):
        target = out / targets.pop(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        if progress:
            progress(total - len(targets), total)
    if targets:
        raise DataError(f"'{next(iter(targets))}' is missing from '{source.name}'; audit it again")
    return paths


def _targets(material: Material, plan: Plan) -> dict[str, PurePosixPath]:
    """Return the new path of each kept file; a hash distinguishes files of one name in one class."""
    targets: dict[str, PurePosixPath] = {}
    # Names that differ only in case are one file on some systems.
    taken: set[str] = set()
    for place, file in enumerate(material.files):
        if not plan.kept[place]:
            continue
        folder = PurePosixPath(
            material.names[plan.splits[place]], material.dataset.labels[plan.labels[place]]
        )
        leaf = PurePosixPath(file).name
        if str(folder / leaf).casefold() in taken:
            mark = hashlib.sha256(file.encode(errors="surrogateescape")).hexdigest()[:12]
            leaf = f"{mark}-{leaf}"
            if len(os.fsencode(leaf)) > _LONGEST:
                leaf = mark + PurePosixPath(leaf).suffix
        taken.add(str(folder / leaf).casefold())
        targets[file] = folder / leaf
    return targets


def _contents(source: Path, names: Mapping[str, object]) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        for name in tuple(names):
            yield name, (source / name).read_bytes()
    else:
        for name, data in archives.members(source):
            if name in names:
                yield name, data


def _table(material: Material, plan: Plan, out: Path) -> None:
    rows = sorted(
        (int(material.files[place].removeprefix("row ")), place)
        for place in range(len(material.files))
        if plan.kept[place]
    )
    with (out / "fer2013.csv").open("w", encoding="ascii", newline="") as file:
        file.write("emotion,pixels,Usage\n")
        for _, place in rows:
            label = EMOTIONS.index(material.dataset.labels[plan.labels[place]])
            pixels = " ".join(map(str, material.images[place].ravel().tolist()))
            file.write(f"{label},{pixels},{_USAGES[material.names[plan.splits[place]]]}\n")
    if material.votes is None:
        return
    with (out / "fer2013new.csv").open("w", encoding="ascii", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["Usage", *FERPLUS_COLUMNS])
        columns = [VOTES.index(name) for name in FERPLUS_COLUMNS.values()]
        for _, place in rows:
            usage = _USAGES[material.names[plan.splits[place]]]
            table.writerow([usage, *(f"{vote:g}" for vote in material.votes[place, columns].tolist())])


def _list(changes: tuple[Change, ...]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "change", "was", "becomes", "reason"])
    for each in changes:
        cells = (each.file, each.change, each.was, each.becomes, each.reason)
        table.writerow([escape_formula(cell) for cell in cells])
    return text.getvalue().encode(errors="backslashreplace")


def write_exclusions(path: Path, removals: Sequence[Removal], *, also: Path | None = None) -> dict[str, int]:
    """Write the list that `audit.exclude` documents, and return the number of lines with each reason."""
    lines = [] if also is None else _read_exclusions(also)
    known = {(key, value) for key, value, _, _ in lines}
    for removal in removals:
        name = _name(removal)
        if name not in known:
            known.add(name)
            lines.append((*name, removal.reason, removal.evidence))
    keys = [key for key in exclusions.KEYS if any(line[0] == key for line in lines)] or ["file"]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*keys, "reason", "evidence"])
    for key, value, reason, evidence in lines:
        table.writerow(
            [*(value if key == column else "" for column in keys), reason, escape_formula(evidence)]
        )
    _files.write(path, text.getvalue().encode(errors="backslashreplace"))
    return dict(Counter(reason for _, _, reason, _ in lines))


def _name(removal: Removal) -> tuple[str, str]:
    if row := re.fullmatch(r"row (\d+)", removal.file):
        return "row", row[1]
    # train --exclude reads UTF-8 lines without spaces at their ends, which may have been in a spreadsheet.
    plain = removal.file.splitlines() == [removal.file.strip()] and removal.file == escape_formula(
        removal.file
    )
    if plain and removal.file.encode(errors="replace").decode() == removal.file:
        return "file", removal.file
    return "sha256", removal.sha256


def _read_exclusions(path: Path) -> list[tuple[str, str, str, str]]:
    """Return key, value, reason and evidence of each line of an existing list."""
    return [
        (key, value, exclusions.reason(record), record.get("evidence", ""))
        for _, key, value, record in exclusions.read(path)
    ]
