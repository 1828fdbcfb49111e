"""Find and load a labelled set of faces: class folders, an archive of them, or fer2013.csv.

data = datasets.load("archive (4).zip")
data.labels                  # ("angry", "disgust", ...)
data.split("val").images     # (n, 48, 48, 1) uint8
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import _files
from mien._text import shorten
from mien.data import (
    archives,
    array_sources,
    exclusions,
    face_crops,
    huggingface,
    image_cache,
    sources,
)
from mien.data.class_names import Naming, compile_pattern
from mien.data.contents import SPLITS, Contents, Problem, ReadOptions
from mien.data.division import SplitBy, divide, find_unplaced
from mien.data.exclusions import Exclusion
from mien.data.face_crops import Crop
from mien.data.huggingface import TableDataset
from mien.data.image_cache import TooLargeForMemory
from mien.data.listings import Listing
from mien.errors import DataError
from mien.vision.images import Source

__all__ = ["SPLITS", "Dataset", "Exclusion", "Problem", "Split", "load"]


#: Largest side of images in pixels, far above that of the recipes.
MAX_SIZE = 1024


@dataclass(frozen=True, eq=False)
class Split:
    """One split's images with their labels. The arrays cannot be written to.

    Example:
        >>> import mien
        >>> split = mien.load_dataset("faces.zip").split("val")
        >>> split.images.shape, split.images.dtype
        ((42, 48, 48, 1), dtype('uint8'))

    Args:
        name: `train`, `val` or `test`.
        images: `(n, size, size, 1)` uint8, 0..255, grey.
        labels: `(n,)` int64, indices into the data set's `labels`.
        votes: `(n, 10)` float32, number of FER+ annotators that chose each of `labels.VOTES`; or None.
        files: The file of each image, relative to the source, or `row 17` of a csv.
        groups: The person or other group of each image, `""` if unknown; None if the source names none.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    votes: NDArray[np.float32] | None
    files: tuple[str, ...]
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        lengths = {"images": len(self.images), "labels": len(self.labels), "files": len(self.files)}
        if self.votes is not None:
            lengths["votes"] = len(self.votes)
        if self.groups is not None:
            lengths["groups"] = len(self.groups)
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{count} {name}" for name, count in lengths.items())
            raise DataError(f"split {self.name!r} has {counts}; give one of each for every image")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> "Split":
        """Return a split with the images of a mask `(n,)` or of indices."""
        indices = np.arange(len(self))[which]
        return Split(
            name=self.name,
            images=self.images[indices],
            labels=self.labels[indices],
            votes=None if self.votes is None else self.votes[indices],
            files=tuple(self.files[index] for index in indices),
            groups=None if self.groups is None else tuple(self.groups[index] for index in indices),
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the images' shape, pixels and labels, in their order."""
        digest = hashlib.sha256(json.dumps(self.images.shape).encode())
        for part in image_cache.blocks(self.images):
            digest.update(np.ascontiguousarray(part).data)
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled set of faces.

    Example:
        >>> import mien
        >>> mien.load_dataset("faces.zip").labels
        ('angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral')

    Args:
        root: The source's name, without its folder.
        labels: Class names in order.
        train: Training images, or None.
        val: Validation images, or None.
        test: Test images, or None.
        problems: Skipped files and rows that could not be read.
        excluded: Training images that a list leaves out, by reason.
        notes: Remarks about results: splits that were made, classes that are missing.
        origin: The arguments of `load` that load these data again; empty if they were not loaded.
        stored: Remarks about files that keep the images.
    """

    root: str
    labels: tuple[str, ...]
    train: Split | None
    val: Split | None
    test: Split | None
    problems: tuple[Problem, ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    notes: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    stored: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that exist, in the order train, val, test."""
        return tuple(split for split in (self.train, self.val, self.test) if split is not None)

    def split(self, name: str) -> Split:
        """Return the split called `name`.

        Raises:
            DataError: The split does not exist; the message names those that do.
        """
        for split in self.splits:
            if split.name == name:
                return split
        there = ", ".join(split.name for split in self.splits)
        raise DataError(f"'{self.root}' has no split '{name}'; it has {there}")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of class names, pixels and labels in every split, in their order."""
        parts = {split.name: split.fingerprint for split in self.splits}
        return hashlib.sha256(json.dumps([self.labels, parts]).encode()).hexdigest()

    @cached_property
    def votes_fingerprint(self) -> str | None:
        """SHA-256 of the votes of train and val, in their order; None if neither has votes.

        The other fingerprints do not include the votes.
        """
        votes = {
            split.name: np.ascontiguousarray(split.votes, "<f4")
            for split in (self.train, self.val)
            if split is not None and split.votes is not None
        }
        if not votes:
            return None
        digest = hashlib.sha256(json.dumps({name: each.shape for name, each in votes.items()}).encode())
        for each in votes.values():
            digest.update(each.data)
        return digest.hexdigest()


def load(
    source: str | os.PathLike[str] | TableDataset | Mapping[str, TableDataset] | None = None,
    *,
    images: NDArray[Any] | Sequence[Source] | None = None,
    labels: NDArray[Any] | Sequence[int | str] | None = None,
    groups: NDArray[Any] | Sequence[int | str] | None = None,
    splits: NDArray[Any] | Sequence[str] | None = None,
    size: int = 48,
    votes: str | os.PathLike[str] | None = None,
    exclude: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    seed: int = 42,
    labels_order: str | Sequence[str] | Mapping[int, str] | None = None,
    rename: str | Mapping[str, str] | None = None,
    label_from: str | None = None,
    group_from: str | None = None,
    images_dir: str | os.PathLike[str] | None = None,
    split_by: SplitBy | None = None,
    crop: Crop = "none",
    detector: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    limits: archives.Limits | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Load a data set into one array.

    Images of class folders are in the order of class, then name; those of a csv in the order of rows. The
    order does not depend on the file system or the archive. `exclude` does not change which images are val or
    test.

    Example:
        >>> import mien
        >>> [split.name for split in mien.load_dataset("faces.zip").splits]
        ['train', 'val', 'test']
        >>> import numpy as np
        >>> faces = np.random.default_rng(0).integers(0, 256, (20, 48, 48), dtype=np.uint8)
        >>> mien.load_dataset(images=faces, labels=["happy", "sad"] * 10).train.images.shape
        (16, 48, 48, 1)

    Args:
        source: A folder or an archive of class folders, with or without splits. Or fer2013.csv or
            icml_face_data.csv, also in a folder or archive. Or a table of paths and labels. Or the folder of
            a public data set. Or a Parquet file, a folder of these, an .npz file, or a folder that `datasets`
            saved. Or a `datasets.Dataset` or `DatasetDict` of Hugging Face. docs/dataset.md describes all of
            them. None with `images`.
        images: Images in place of a source: an array `(n, h, w)`, `(n, h, w, 1)`, `(n, h, w, 3)` or
            `(n, h * h)` with values in 0..255, or fractions in 0..1; or a list of paths, arrays, bytes or PIL
            images.
        labels: The class of each of `images`: names, or numbers, which mean what `labels_order` says.
        groups: The person, or another group that a split keeps together, of each of `images`.
        splits: The split of each of `images`: `train`, `val` or `test`; None to draw val and test.
        size: Side in pixels, at most `MAX_SIZE` (1024); images are resized to it.
        votes: FER+'s csv of annotator votes for the rows of a csv source, plain, `.xz` or `.gz`.
        exclude: Csv files of training images to leave out, by `row`, `file` or `sha256`.
        seed: Selects the images of val and test if the source has no such splits.
        labels_order: What the numbers that serve as labels mean: the names of the classes in the order of
            their numbers, as a sequence or as `"neutral,happy,…"`; or names by number, as a dictionary or as
            `"1=neutral,2=happy,…"`.
        rename: New names of classes by their names, as a dictionary or as `"sadness=sad,contempt="`; an empty
            name leaves the class out.
        label_from: A regular expression with a group `label`, which finds the label in the path of each
            image below the source, such as `r"(?P<label>[a-z]+)_[0-9]+"`.
        group_from: A regular expression with a group `group`, which finds the person, or another group that a
            split keeps together, in the path of each image.
        split_by: `group` keeps the images of a group in one split, even if the source's own splits do not.
            `image` ignores groups. None keeps the source's own splits; in splits that mien makes, groups that
            are known stay together.
        images_dir: The folder that the paths of a table are relative to, if it is not that of the table; or
            the folder that links in class folders lead to.
        crop: `faces` cuts the largest face of each photograph, or the box that the source gives, as
            `mien.predict` does; images without a face are skipped. `none` takes images as they are.
        detector: The detector for `crop`, as `mien.Predictor` takes its name or file.
        cache: A folder for images and crops. Splits are then mapped from a file there, and a second call
            reads only what has changed. None caches crops in `image_cache.default_folder()`, and keeps images
            in memory up to `image_cache.AUTO_CACHE_BYTES` of pixels, else there too.
        limits: What an archive may contain.
        progress: Called with (done, total), in files or bytes.

    Returns:
        The data set; its splits are views of one array. If it has no path, `origin` says so.

    Raises:
        DataError: There is neither a source nor images, or both; there are no usable images; or splits,
            classes, votes or exclusions do not fit.
        ArchiveError: The archive is damaged, unsafe or beyond `limits`.
    """
    arrays = _Arrays(images, labels, groups, splits)
    _check_source(source, arrays)
    for name, number, least in (("size", size, 1), ("seed", seed, 0)):
        if not isinstance(number, int | np.integer) or number < least:
            raise DataError(f"{name} is {number!r}; give a whole number of at least {least}")
    if size > MAX_SIZE:
        raise DataError(f"size is {size}; give at most {MAX_SIZE} pixels")
    face_crops.check_options(crop, detector, cache)
    options = ReadOptions(
        size=size,
        votes=None if votes is None else Path(votes),
        limits=limits,
        label_from=compile_pattern(label_from, "label-from", "label"),
        group_from=compile_pattern(group_from, "group-from", "group"),
        images=_folder_of_images(images_dir),
        naming=Naming.parse(_text_of(labels_order), _text_of(rename)),
    )
    path: Path | None = None
    tables: TableDataset | Mapping[str, TableDataset] | None = None
    if isinstance(source, str | os.PathLike):
        path, root = Path(source), Path(source).resolve().name
    elif source is None:
        root = "images"
    else:
        tables, root = source, huggingface.name_of(source)
    lists = [exclude] if isinstance(exclude, str | os.PathLike) else exclude or []
    origin = _origin(
        path,
        votes=votes,
        exclude=lists,
        seed=seed,
        labels_order=_text_of(labels_order),
        rename=_text_of(rename),
        label_from=label_from,
        group_from=group_from,
        split_by=split_by,
        images_dir=None if images_dir is None else str(Path(images_dir).resolve()),
        crop=None if crop == "none" else crop,
        detector=None if detector is None else _as_recorded(detector),
        cache=None if cache is None else str(Path(cache).resolve()),
    )

    def load_with(reader: face_crops.FaceReader) -> Dataset:
        own = replace(options, reader=reader)
        if path is not None:
            found = sources.read(path, own, progress)
        else:
            listing = arrays.listing(own) if tables is None else huggingface.list_dataset(tables, own)
            found = sources.read_objects(listing, own, progress)
        _check_enough(found, root)
        parts, notes = divide(found, seed, split_by)
        unplaced, more = find_unplaced(found, parts)
        notes += more
        excluded: tuple[Exclusion, ...] = ()
        if lists:
            if "train" not in parts:
                raise DataError(f"'{root}' has no train split, and exclusions apply to train only")
            parts["train"], excluded, more = exclusions.exclude([Path(each) for each in lists], found, parts)
            notes += more
        notes += _check_classes(found, parts, left_out=sum(item.count for item in excluded))
        made = _gather(found, parts, reader, progress)
        return Dataset(
            root=root,
            labels=found.classes,
            train=made.get("train"),
            val=made.get("val"),
            test=made.get("test"),
            problems=(*found.problems, *unplaced),
            excluded=excluded,
            notes=found.notes + notes + _faceless(found),
            origin=origin,
            stored=tuple(reader.describe()),
        )

    files: dict[str, Any] = {"crop": crop, "detector": detector, "cache": cache}
    try:
        with face_crops.open_reader(path or root, size, **files) as reader:
            return load_with(reader)
    except TooLargeForMemory:
        with face_crops.open_reader(path or root, size, large=True, **files) as reader:
            return load_with(reader)


def _as_recorded(detector: str | os.PathLike[str]) -> str:
    """Return a detector for `run.json`: its name, or the absolute path of its file."""
    name = os.fspath(detector)
    return str(Path(name).resolve()) if name.lower().endswith(".onnx") else name


def _faceless(found: Contents) -> tuple[str, ...]:
    names = [problem.file for problem in found.problems if problem.reason == face_crops.NO_FACE]
    if not names:
        return ()
    return (f"{len(names):,} images are skipped because {face_crops.NO_FACE}: {shorten(names)}",)


@dataclass(frozen=True, eq=False)
class _Arrays:
    """The arguments of `load` that take the place of a source."""

    images: Any
    labels: Any
    groups: Any
    splits: Any

    def given(self) -> list[str]:
        """Return the names of those that are given."""
        return [each.name for each in fields(self) if getattr(self, each.name) is not None]

    def listing(self, options: ReadOptions) -> Listing:
        return array_sources.list_arrays(self.images, self.labels, self.groups, self.splits, options)


def _check_source(source: object, arrays: _Arrays) -> None:
    """Refuse both a source and images, neither of them, and a source of another type."""
    given = arrays.given()
    if source is None:
        if "images" not in given:
            raise DataError("source is missing; give a path, or images and labels")
        return
    if given:
        raise DataError(
            f"source and {' and '.join(given)} cannot be combined; give a source, or images with their labels"
        )
    if not huggingface.is_dataset(source):
        _files.check_path("source", source, error=DataError)


def _folder_of_images(given: str | os.PathLike[str] | None) -> Path | None:
    if given is None:
        return None
    _files.check_path("images_dir", given, error=DataError)
    if not Path(given).is_dir():
        raise DataError(f"images_dir (--images) is '{given}', which is not a folder")
    return Path(given)


def _text_of(given: str | Sequence[str] | Mapping[Any, str] | None) -> str | None:
    """Return names of classes as the text of their option."""
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, Mapping):
        return ",".join(f"{key}={value}" for key, value in given.items())
    return ",".join(given)


def _origin(
    source: Path | None, *, seed: int, exclude: Sequence[Any], votes: Any, **options: Any
) -> dict[str, Any]:
    """Return the arguments of `load` for `run.json`: with absolute paths, and without unused options."""
    return {
        "source": None if source is None else str(source.resolve()),
        "votes": None if votes is None else str(Path(votes).resolve()),
        "exclude": [str(Path(each).resolve()) for each in exclude] or None,
        "seed": int(seed),
        **{name: value for name, value in options.items() if value is not None},
    }


def _check_enough(found: Contents, root: str) -> None:
    first = f" (the first: {found.problems[0].file}: {found.problems[0].reason})" if found.problems else ""
    if not len(found.faces) and not found.problems:
        raise DataError(f"'{root}' has no image; add a row for each image, below the names of the columns")
    if not len(found.faces):
        raise DataError(f"none of the {len(found.problems):,} images of '{root}' can be read{first}")
    if len(found.faces) == 1:
        raise DataError(
            f"'{root}' has only one readable image; give at least two for each of two classes{first}"
            # Such as images outside the class folders.
            + "".join(f"; {note}" for note in found.notes[:2])
        )
    if len(found.classes) == 1:
        raise DataError(f"'{root}' has only the class '{found.classes[0]}'; give images of two or more")


def _check_classes(found: Contents, parts: dict[str, NDArray[np.intp]], *, left_out: int) -> tuple[str, ...]:
    """Refuse a class that train lacks; return notes about classes that other splits lack."""
    notes = []
    for split, members in parts.items():
        there = set(found.labels[members].tolist())
        missing = [name for label, name in enumerate(found.classes) if label not in there]
        if missing and split == "train":
            after = f" after {left_out:,} were excluded" if left_out else ""
            raise DataError(
                f"train has no image of the class {', '.join(missing)}{after}; add images of it to train"
            )
        if missing:
            notes.append(f"{split} has no image of the class {', '.join(missing)}")
    return tuple(notes)


def _gather(
    found: Contents,
    parts: dict[str, NDArray[np.intp]],
    reader: face_crops.FaceReader,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Split]:
    """Arrange the faces in one array, split after split, and return views of it."""
    order = np.concatenate([parts[name] for name in SPLITS if name in parts])
    images = reader.arrange(found.faces, order.tolist(), progress)
    labels = found.labels[order]
    votes = None if found.votes is None else found.votes[order]
    for array in (labels, votes):
        if array is not None:
            array.flags.writeable = False
    splits = {}
    start = 0
    for name in SPLITS:
        if name in parts:
            cut = slice(start, start := start + len(parts[name]))
            files = tuple(found.files[member] for member in order[cut].tolist())
            own = None if found.groups is None else tuple(found.groups[each] for each in order[cut].tolist())
            ballots = None if votes is None else votes[cut]
            splits[name] = Split(name, images[cut], labels[cut], ballots, files, own)
    return splits
