"""Write a clean copy: class folders with the files as they were, or a csv like fer2013.csv."""

import contextlib
import csv
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from mien import _files as disk
from mien import labels as emotions
from mien.data import archives as extract
from mien.data.audit.cleaning import Change, Plan
from mien.data.audit.findings import Material
from mien.errors import DataError

#: How fer2013.csv spells the splits.
_USAGES = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}

#: Bytes that a file's name may have on nearly every system.
_LONGEST = 255

_Progress = Callable[[int, int], None] | None


def write(material: Material, plan: Plan, source: Path, out: Path, *, progress: _Progress = None) -> None:
    """Write what `plan` keeps into the new folder `out`, with the list of changes as `changes.csv`.

    Class folders and archives of them become `out/train/happy/1.png`, each file with the bytes it had. A csv
    becomes `out/fer2013.csv`, and its votes `out/fer2013new.csv`, rows in their order without those dropped.
    The folder appears whole or not at all, and the source is only read.

    Raises:
        DataError: `out` is there already, overlaps with the source or cannot be written; the source has
            changed since it was looked at; or train would lack a class that another split has.
    """
    check(source, out)
    _check_classes(material, plan)
    # Made anew each time, for another process may be writing a copy of the same name.
    new = [folder for folder in out.parents if not folder.exists()]
    try:
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
            disk.sync_folder(out.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(f"the clean copy cannot be written to '{out}': {disk.reason(error)}") from error
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


def check(source: Path, out: Path) -> None:
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
