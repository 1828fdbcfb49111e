"""A clean copy of a data set, and the list of training images to leave out."""

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
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mien import _files
from mien import labels as emotions
from mien.data import archives as extract
from mien.data import sources
from mien.data.audit.copies import Recut
from mien.data.audit.findings import Material, Removal
from mien.data.audit.images import Measures
from mien.data.audit.labels import faceless
from mien.data.duplicates import Duplicates
from mien.errors import DataError
from mien.labels import VOTES


@dataclass(frozen=True)
class Change:
    """One change between a data set and its clean copy.

    Args:
        file: The image's name, as in `Split.files`.
        change: `drop`, `move` or `relabel`.
        was: The split that it was in, or its label.
        becomes: The split or label that it has in the copy; empty for what is dropped.
        reason: Why.
    """

    file: str
    change: str
    was: str
    becomes: str
    reason: str


@dataclass(frozen=True, eq=False)
class Plan:
    """What a clean copy holds.

    Args:
        kept: `(n,)` bool, whether each image of `Material.images` stays.
        splits: `(n,)` the place of each image's split in `Material.names`.
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
    recuts: tuple[Recut, ...] = (),
    *,
    regroup: bool = False,
) -> Plan:
    """Decide what a clean copy holds.

    In this order: images that cannot be read, that a list left out of training, that are blank or that
    taggers call no face are dropped. Equal images get one label: the one among theirs that has most votes, or
    without votes the most frequent; where two have as many, all of them are dropped. Copies across splits,
    and photographs cut otherwise, are dropped from train and, where they stand in test, from val; or, to
    `regroup`, all of them move to train, and those of val and test to val. Of equal images in one split the
    first stays.

    Args:
        material: The images.
        measures: What was measured of them.
        found: Their copies.
        recuts: Photographs that stand in two splits, cut otherwise.
        regroup: Move copies into one split instead of dropping them.
    """
    work = _Work(material)
    for problem in material.dataset.problems:
        work.changes.append(Change(problem.file, "drop", "", "", f"unreadable: {problem.reason}"))
    for item in material.dataset.excluded:
        reason = f"left out by a list: {item.reason}"
        work.changes += [Change(file, "drop", "train", "", reason) for file in item.files]
    for place in np.flatnonzero(~measures.telling).tolist():
        work.drop(place, "constant" if measures.contrast[place] == 0 else "nearly blank")
    for place in faceless(material).tolist():
        work.drop(place, "not a face by votes")
    for group in found.groups(near=False):
        _agree(work, group)
    if regroup:
        _regroup(work, _linking(found, recuts))
    else:
        _part(work, found, _linking(found, recuts))
    for group in found.groups(near=False):
        seen: dict[int, int] = {}
        for place in work.of(group):
            first = seen.setdefault(int(work.splits[place]), place)
            if first != place:
                work.drop(place, f"equal to {material.files[first]}")
    return Plan(work.kept, work.splits, work.labels, tuple(work.changes))


class _Work:
    """A plan in the making."""

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
    """Give equal images one label, or drop them where none is better than another."""
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
            work.drop(place, f"equal images are labelled {names_of}, and none is more frequent")
        else:
            by = "most frequent" if votes is None else "voted for most"
            work.relabel(place, best, f"equal images are labelled {names_of}; this is {by}")


def _linking(found: Duplicates, recuts: tuple[Recut, ...]) -> Duplicates:
    """Return copies among which photographs cut otherwise count as near."""
    pairs = [found.first[np.stack([each.one, each.other], axis=1)] for each in recuts]
    return replace(found, pairs=np.concatenate([found.pairs, *pairs]))


def _part(work: _Work, found: Duplicates, linking: Duplicates) -> None:
    """Drop from val what stands in test, and from train what stands in either."""
    for here, there in (("val", "test"), ("train", "test"), ("train", "val")):
        asked = work.members(here)
        equal, near = found.again(asked, work.members(there))
        cut = linking.again(asked, work.members(there))[1] & ~near
        for word, hits in (("equal to", equal), ("near", near), ("cut otherwise from", cut)):
            for place in asked[hits].tolist():
                work.drop(place, f"{word} an image of {there}")


def _regroup(work: _Work, found: Duplicates) -> None:
    """Move what is linked by copies into one split: train where one of them is there, else val."""
    for places in _linked(work, found):
        # Splits stand in the order train, val, test.
        target = min(int(work.splits[place]) for place in places)
        for place in places:
            work.move(place, target, f"a copy stands in {work.material.names[target]}")


def _linked(work: _Work, found: Duplicates) -> Iterator[list[int]]:
    for group in found.groups():
        places = work.of(group)
        if places:
            yield places


#: How fer2013.csv spells the splits.
_USAGES = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}

#: Bytes that a file's name may have on nearly every system.
_LONGEST = 255

_Progress = Callable[[int, int], None] | None


def write_copy(
    material: Material, plan: Plan, source: Path, out: Path, *, progress: _Progress = None
) -> None:
    """Write what `plan` keeps into the new folder `out`, with the list of changes as `changes.csv`.

    Class folders and archives of them become `out/train/happy/1.png`, each file with the bytes it had. A csv
    becomes `out/fer2013.csv`, and its votes `out/fer2013new.csv`, rows in their order without those dropped.
    The folder appears whole or not at all, and the source is only read.

    Raises:
        DataError: `out` is there already or overlaps with the source; the source has changed since it was
            looked at; or train would lack a class that another split has.
        OutputError: `out` cannot be written.
    """
    check_copy(source, out)
    _check_classes(material, plan)
    # Made anew each time, for another process may be writing a copy of the same name.
    new = [folder for folder in out.parents if not folder.exists()]
    try:
        with _files.writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=out.parent))
            try:
                partial.chmod(0o755)
                if re.fullmatch(r"row \d+", material.files[0]):
                    _table(material, plan, partial)
                else:
                    _folders(material, plan, source, partial, progress)
                (partial / "changes.csv").write_bytes(_list(plan.changes))
                _claim(partial, out)
                _files.sync_folder(out.parent)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    finally:
        for folder in new:
            with contextlib.suppress(OSError):  # it holds the copy, or what others put there
                folder.rmdir()


def _claim(partial: Path, out: Path) -> None:
    try:
        partial.rename(out)
    except OSError as error:
        if not out.exists():
            raise
        raise DataError(
            f"'{out}' was made by another process meanwhile; name a folder that is not"
        ) from error


def spreadsheet(text: str) -> str:
    """Return `text` so that a spreadsheet shows it, and never takes it for a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def check_copy(source: Path, out: Path) -> None:
    """Refuse a folder that is there already or overlaps with the source.

    Raises:
        DataError: It is, or does.
    """
    here, there = source.resolve(), out.resolve()
    if there == here or here in there.parents or there in here.parents:
        raise DataError(f"the copy '{out}' would overlap with its source '{source}'; name another folder")
    if out.exists():
        raise DataError(f"'{out}' is there already; name a folder that is not")


def _check_classes(material: Material, plan: Plan) -> None:
    """Make sure that the copy can be loaded again."""
    if "train" not in material.names:
        return
    here = plan.splits == material.names.index("train")
    names = material.dataset.labels
    left = set(plan.labels[plan.kept & here].tolist())
    if missing := [names[label] for label in sorted({*plan.labels[plan.kept].tolist()} - left)]:
        raise DataError(
            f"the clean copy would have no image of the class {', '.join(missing)} in train, and has some in "
            "val or test; add some to train that are no copies, or take the class out of val and test"
        )


def _folders(material: Material, plan: Plan, source: Path, out: Path, progress: _Progress) -> None:
    targets = _targets(material, plan)
    total = len(targets)
    for name, data in _contents(source, targets):
        target = out / targets.pop(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        if progress:
            progress(total - len(targets), total)
    if targets:
        raise DataError(f"'{next(iter(targets))}' is gone from '{source.name}'; audit it again")


def _targets(material: Material, plan: Plan) -> dict[str, PurePosixPath]:
    """Where each kept file goes; two of one name in one class are told apart by a hash."""
    targets: dict[str, PurePosixPath] = {}
    # Names that differ in case alone are one file on some systems.
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
        for name, data in extract.members(source, limits=extract.Limits()):
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
            label = emotions.EMOTIONS.index(material.dataset.labels[plan.labels[place]])
            pixels = " ".join(map(str, material.images[place].ravel().tolist()))
            file.write(f"{label},{pixels},{_USAGES[material.names[plan.splits[place]]]}\n")
    if material.votes is None:
        return
    with (out / "fer2013new.csv").open("w", encoding="ascii", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["Usage", *emotions.FERPLUS_COLUMNS])
        columns = [emotions.VOTES.index(name) for name in emotions.FERPLUS_COLUMNS.values()]
        for _, place in rows:
            usage = _USAGES[material.names[plan.splits[place]]]
            table.writerow([usage, *(f"{vote:g}" for vote in material.votes[place, columns].tolist())])


def _list(changes: tuple[Change, ...]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "change", "was", "becomes", "reason"])
    for each in changes:
        cells = (each.file, each.change, each.was, each.becomes, each.reason)
        table.writerow([spreadsheet(cell) for cell in cells])
    return text.getvalue().encode(errors="backslashreplace")


_KEYS = ("row", "file", "sha256")


def write_exclusions(path: Path, removals: Sequence[Removal], *, also: Path | None = None) -> dict[str, int]:
    """Write the list.

    Args:
        path: The csv to write: columns `row` for a csv source or `file` for folders, `reason`, `evidence`.
        removals: The images, one line each; the first reason of an image counts.
        also: A list that was there before, whose lines come first.

    Returns:
        How many lines carry each reason.

    Raises:
        DataError: `also` cannot be used.
        OutputError: The list cannot be written.
    """
    lines = [] if also is None else _read_exclusions(also)
    known = {(key, value) for key, value, _, _ in lines}
    for removal in removals:
        name = _name(removal)
        if name not in known:
            known.add(name)
            lines.append((*name, removal.reason, removal.evidence))
    keys = [key for key in _KEYS if any(line[0] == key for line in lines)] or ["file"]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*keys, "reason", "evidence"])
    for key, value, reason, evidence in lines:
        table.writerow([*(value if key == column else "" for column in keys), reason, spreadsheet(evidence)])
    _files.write(path, text.getvalue().encode(errors="backslashreplace"))
    return dict(Counter(reason for _, _, reason, _ in lines))


def _name(removal: Removal) -> tuple[str, str]:
    if row := re.fullmatch(r"row (\d+)", removal.file):
        return "row", row[1]
    # What train --exclude reads is cut at line ends and stripped of outer space, is UTF-8, and may pass
    # through a spreadsheet.
    plain = removal.file.splitlines() == [removal.file.strip()] and removal.file == spreadsheet(removal.file)
    if plain and removal.file.encode(errors="replace").decode() == removal.file:
        return "file", removal.file
    return "sha256", removal.sha256


def _read_exclusions(path: Path) -> list[tuple[str, str, str, str]]:
    """Key, value, reason and evidence of each line of a list that was there before."""
    columns, records = sources.read_list(sources.text_of(path), path.name)
    keys = [key for key in _KEYS if key in columns]
    if not keys:
        raise DataError(f"'{path.name}' has no column row, file or sha256; name the images by one of them")
    lines = []
    for _, record in records:
        for key in keys:
            if value := record.get(key):
                reason = record.get("reason") or record.get("kind") or "listed"
                lines.append((key, value, reason, record.get("evidence", "")))
                break
    return lines
