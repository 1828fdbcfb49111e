"""Find labelled images in NumPy archives, and in arrays or lists that Python gives."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import _arrays
from mien._text import shorten
from mien.data.class_names import find_part
from mien.data.contents import MAX_PIXEL_BYTES, ReadOptions, check_room, split_named
from mien.data.listings import Entry, Listing, group_entries, without_doubtful
from mien.errors import DataError, ImageError
from mien.vision import images as vision_images

#: Names of arrays, without case and with or without the name of a split: `x_train`, `train_images`.
_NAMES = {
    "images": ("images", "image", "x", "faces", "imgs", "pixels", "data"),
    "labels": ("labels", "label", "y", "emotions", "emotion", "targets", "target"),
    "groups": ("groups", "group", "persons", "person", "subjects", "subject"),
    "splits": ("splits", "split", "usage"),
    "class_names": ("class_names", "classes", "label_names", "names"),
}
_ROLES = {name: role for role, names in _NAMES.items() for name in names}

#: Images whose range of values is checked at a time.
_BLOCK = 4096

_SHAPES = "(n, height, width), with 1 or 3 channels as a last axis, or (n, 48*48)"


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Arrays of the same images.

    Args:
        name: The name of the images, for messages.
        split: The split of all of them; `""` if there is none.
        images: One image each.
        labels: One label each; None if they are read from the names of images.
        groups: One group each.
        splits: One split each.
    """

    name: str
    split: str
    images: Any
    labels: Any = None
    groups: Any = None
    splits: Any = None


def list_npz(path: str | os.PathLike[str], options: ReadOptions) -> Listing:
    """List the images of a NumPy archive.

    Raises:
        DataError: It is damaged, too large, has pickled objects, or lacks images or labels.
    """
    path = Path(path)
    try:
        headers = _arrays.headers(path)
    except ValueError as error:
        raise DataError(f"'{path.name}' cannot be read: {error}") from error
    roles: dict[tuple[str, str], str] = {}
    unused: list[str] = []
    for name in headers:
        role, split = _role(name)
        if not role:
            unused.append(name)
        elif (other := roles.get((role, split))) is not None:
            raise DataError(f"'{path.name}' has {role} twice: {other!r} and {name!r}; leave one")
        else:
            roles[role, split] = name
    splits = [split for role, split in roles if role == "images"]
    if not splits:
        raise DataError(
            f"'{path.name}' has no array named images, X, or x_train "
            f"(it has {shorten(list(headers), 8) or 'none'}); rename it"
        )
    if "" in splits and len(splits) > 1:
        raise DataError(
            f"'{path.name}' has {roles['images', '']!r} beside arrays of splits; leave one of the two"
        )
    if missing := [split for split in splits if ("labels", split) not in roles]:
        raise DataError(
            f"'{path.name}' has no labels for {roles['images', missing[0]]!r}; name them "
            f"{'labels' if not missing[0] else f'y_{missing[0]}'}"
        )
    for (role, split), name in list(roles.items()):
        if role == "class_names" and not split:
            continue
        if split not in splits:
            if role == "labels" and not split:
                unused.append(roles.pop((role, split)))
                continue
            there = [roles["images", each] for each in splits]
            raise DataError(
                f"'{path.name}' has {name!r} beside {shorten(there)}, and no images to which it "
                "belongs; name it after these images, as in groups_train, or remove it"
            )
        if role == "class_names":
            unused.append(roles.pop((role, split)))
    for split in splits:
        count = headers[roles["images", split]].shape[:1]
        check_room(count[0] if count else 0, options)
    try:
        arrays = _arrays.unpack(path, MAX_PIXEL_BYTES, names=set(roles.values()))
    except ValueError as error:
        raise DataError(f"'{path.name}' cannot be read: {error}; save the images as uint8") from error
    parts = [
        _Part(
            name=roles["images", split],
            split=split,
            **{
                role: arrays[roles[role, split]]
                for role in ("images", "labels", "groups", "splits")
                if (role, split) in roles
            },
        )
        for split in splits
    ]
    names = arrays.get(roles.get(("class_names", ""), ""))
    are_named = all(part.labels.dtype.kind in "US" for part in parts)
    if names is not None and (are_named or options.naming.numbers or options.naming.names):
        unused.append(roles["class_names", ""])
    read = ", ".join(f"{part.name!r} with {roles['labels', part.split]!r}" for part in parts)
    notes = [f"arrays that are not used: {shorten(unused)}"] if unused else []
    return _list(parts, options, how=f"NumPy archive: {read}", class_names=names, notes=notes)


def _role(name: str) -> tuple[str, str]:
    """Return what an array holds, and its split; nothing if its name is not known."""
    words = name.lower()
    if words in _ROLES:
        return _ROLES[words], ""
    for first, _, second in (words.partition("_"), words.rpartition("_")):
        for word, other in ((first, second), (second, first)):
            split = split_named(word)
            if split and other in _ROLES:
                return _ROLES[other], split
    return "", ""


def list_arrays(
    images: Any,
    labels: Sequence[Any] | NDArray[Any] | None,
    groups: Sequence[Any] | NDArray[Any] | None,
    splits: Sequence[Any] | NDArray[Any] | None,
    options: ReadOptions,
) -> Listing:
    """List images that Python gives.

    Args:
        images: An array of images, or a list of paths, arrays, bytes or PIL images.
        labels: A number or name for each; None if `label_from` finds them in paths.
        groups: The person or other group of each.
        splits: The split of each.
        options: How to read them.

    Raises:
        DataError: There is not one of each for every image, or a value is unsuitable.
    """
    if isinstance(images, str | bytes | os.PathLike | Mapping) or not hasattr(images, "__len__"):
        raise DataError(
            f"images is of type {type(images).__name__}; give an array, or a list of paths or arrays"
        )
    if not isinstance(images, np.ndarray | list | tuple) and hasattr(images, "__array__"):
        images = np.asarray(images)
    if isinstance(images, np.ndarray) and images.dtype.kind in "OUS":
        images = images.tolist()
    if labels is None and options.label_from is None:
        raise DataError("labels is missing; give a label for each image")
    part = _Part(name="images", split="", images=images, labels=labels, groups=groups, splits=splits)
    return _list([part], options, how="images from Python", class_names=None, notes=[])


def _list(
    parts: Sequence[_Part],
    options: ReadOptions,
    *,
    how: str,
    class_names: NDArray[Any] | None,
    notes: list[str],
) -> Listing:
    readers: dict[str, Callable[[], Any]] = {}
    entries: list[Entry] = []
    arrays = [np.asarray(part.images) for part in parts if isinstance(part.images, np.ndarray)]
    scale, found = _scale(arrays, parts[0].name)
    named: list[str] = []
    names = None if options.naming.numbers or options.naming.names else _class_names(class_names)
    for part in parts:
        prefix = f"{part.name} row " if len(parts) > 1 else "row "
        count = len(part.images)
        check_room(count, options)
        if isinstance(part.images, np.ndarray):
            read, paths = _array_reader(part.images, scale), [""] * count
        else:
            read = _list_reader(part.images)
            paths = [os.fspath(each) if isinstance(each, str | os.PathLike) else "" for each in part.images]
        files = [path or f"{prefix}{place}" for place, path in enumerate(paths)]
        readers |= {file: partial(read, place) for place, file in enumerate(files)}
        labels = _labels(part, paths, options, names)
        named += paths
        groups = _groups(part)
        each_split = _splits(part)
        entries += [
            Entry(file, label, split, group)
            for file, label, split, group in zip(files, labels, each_split, groups, strict=True)
        ]
    entries, named, problems = without_doubtful(entries, named)
    entries, more = group_entries(entries, named, options)
    return Listing(
        entries=entries,
        open=lambda file: readers[file](),
        how=", ".join(part for part in (how, found) if part),
        problems=problems,
        notes=(*notes, *more),
    )


def _scale(arrays: Sequence[NDArray[Any]], name: str) -> tuple[float, str]:
    """Return the factor from the values of arrays to grey levels, and what it is; check the values.

    Raises:
        DataError: Values are not numbers, or not in 0..1 or 0..255.
    """
    low, high = np.inf, -np.inf
    fractions = False
    for array in arrays:
        _check_shape(array, name)
        fractions = fractions or array.dtype.kind == "f"
        for start in range(0, len(array), _BLOCK):
            block = array[start : start + _BLOCK]
            low, high = min(low, float(block.min())), max(high, float(block.max()))
            # NaN makes every comparison false.
            if not (np.isfinite(block.min()) and np.isfinite(block.max())):
                raise DataError(f"{name} has values that are not finite; remove or replace these images")
    if not arrays or low > high:
        return 1.0, ""
    if low < 0 or high > 255:
        raise DataError(
            f"{name} has values from {low:g} to {high:g}; scale them to 0..255, or as fractions to 0..1"
        )
    if fractions and high <= 1:
        return 255.0, "fractions in 0..1 are multiplied by 255"
    if not fractions and high == 1:
        raise DataError(
            f"{name} has only the whole numbers 0 and 1; give fractions, or grey levels in 0..255"
        )
    return 1.0, "grey levels in 0..255"


def _check_shape(array: NDArray[Any], name: str) -> None:
    if array.dtype.kind not in "uif":
        raise DataError(f"{name} has the type {array.dtype}; give numbers, such as uint8")
    shape = array.shape
    square = len(shape) == 2 and round(shape[1] ** 0.5) ** 2 == shape[1]
    if len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        raise DataError(f"{name} has the shape {shape}; move the channels to the last axis")
    if not (square or len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))) or 0 in shape[1:]:
        raise DataError(f"{name} has the shape {shape}; give {_SHAPES}")


def _array_reader(array: NDArray[Any], scale: float) -> Callable[[int], Any]:
    def pixels(row: int) -> NDArray[np.uint8]:
        image = array[row]
        if image.ndim == 1:
            side = round(image.size**0.5)
            image = image.reshape(side, side)
        grey: NDArray[np.uint8] = (
            image if image.dtype == np.uint8 else np.rint(image.astype(np.float64) * scale).astype(np.uint8)
        )
        return grey

    return pixels


def _list_reader(given: Sequence[Any]) -> Callable[[int], Any]:
    def content(row: int) -> Any:
        image = given[row]
        try:
            return vision_images.read(image)
        except ImageError:
            raise
        except (TypeError, ValueError) as error:
            raise ImageError(f"a {type(image).__name__} is not an image; give a path or an array") from error

    return content


def _column(values: Any, what: str, part: _Part) -> NDArray[Any]:
    """Return one value for each image.

    Raises:
        DataError: There are more or fewer, or they have another shape.
    """
    count = len(part.images)
    try:
        column = np.asarray(values if isinstance(values, np.ndarray) else list(values))
    except (TypeError, ValueError):
        raise DataError(f"{what} is not a list with one value for each image") from None
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim == 2 and what.startswith("labels"):
        raise DataError(
            f"{what} has the shape {column.shape}; give one number or name for each image, "
            "of one-hot labels their argmax"
        )
    if column.ndim != 1:
        raise DataError(f"{what} has the shape {column.shape}; give one value for each image")
    if len(column) != count:
        raise DataError(f"{what} has {len(column):,} values for {count:,} images; give one for each image")
    return column


def _labels(
    part: _Part, paths: Sequence[str], options: ReadOptions, class_names: tuple[str, ...] | None
) -> list[str]:
    if options.label_from is not None:
        found = [find_part(options.label_from, "label", path) or "" for path in paths]
        if missing := [place for place, label in enumerate(found) if not label]:
            raise DataError(
                f"label-from does not match image {missing[0]} ({paths[missing[0]]!r}); correct the pattern, "
                "or give labels"
            )
        return found
    what = _called("labels", part)
    column = _column(part.labels, what, part)
    texts = _texts(column, what)
    if missing := [place for place, text in enumerate(texts) if not text]:
        raise DataError(f"{what} has no label for image {missing[0]}; give one for each image")
    if class_names is None or column.dtype.kind in "US":
        return texts
    if wrong := [text for text in texts if not (text.isdecimal() and int(text) < len(class_names))]:
        raise DataError(
            f"{what} has {wrong[0]}, and class_names names 0 to {len(class_names) - 1}; add its name"
        )
    return [class_names[int(text)] for text in texts]


def _called(role: str, part: _Part) -> str:
    return role if not part.split else f"{role} of {part.name}"


def _texts(column: NDArray[Any], what: str) -> list[str]:
    """Return values as text, whole numbers without a fraction; `""` for None."""
    if column.dtype.kind == "f":
        if not np.isfinite(column).all():
            raise DataError(f"{what} has a value that is not finite; give whole numbers or names")
        if (column != np.rint(column)).any():
            raise DataError(f"{what} has fractions; give whole numbers or names")
        column = column.astype(np.int64)
    if column.dtype.kind == "S":
        return [value.decode("utf-8", errors="replace").strip() for value in column.tolist()]
    if column.dtype.kind == "O" and (
        odd := [value for value in column.tolist() if not isinstance(value, str | int | np.integer | None)]
    ):
        raise DataError(f"{what} has a value of type {type(odd[0]).__name__}; give whole numbers or names")
    if column.dtype.kind not in "USuibO":
        raise DataError(f"{what} has the type {column.dtype}; give whole numbers or names")
    return ["" if value is None else str(value).strip() for value in column.tolist()]


def _class_names(given: NDArray[Any] | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    if given.ndim != 1 or given.dtype.kind not in "US" or not len(given):
        raise DataError("class_names is not a list of names; give text in the order of the labels")
    return tuple(_texts(given, "class_names"))


def _groups(part: _Part) -> list[str]:
    if part.groups is None:
        return [""] * len(part.images)
    what = _called("groups", part)
    return _texts(_column(part.groups, what, part), what)


def _splits(part: _Part) -> list[str]:
    if part.splits is None:
        return [part.split] * len(part.images)
    what = _called("splits", part)
    names = _texts(_column(part.splits, what, part), what)
    meanings = {name: split_named(name) for name in set(names)}
    if wrong := sorted(name for name, split in meanings.items() if split is None):
        raise DataError(f"{what} has {shorten(wrong)}; name each train, val or test")
    return [meanings[name] or "" for name in names]
