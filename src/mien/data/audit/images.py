"""How images look, which files they come from, and whether a detector finds a face in them."""

import io
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien._text import agree, pluralize
from mien.data import archives, image_cache
from mien.data.audit.findings import Case, Finding, Material, Removal
from mien.data.audit.labels import faceless
from mien.data.datasets import Dataset
from mien.data.duplicates import FLAT, blocks
from mien.errors import DataError
from mien.vision.detectors import Detector
from mien.vision.images import FORMATS

#: Sharpness below which an image of 48 pixels is blurred; 0.1 % of FER2013's images are.
BLURRED = 0.35

#: How fast sharpness falls with the size of sharp images; docs/lab-book/36-blur-at-larger-sizes.md.
_FALL = 0.42
_USUAL_SIZE = 48

#: In a dark image 95 % of the pixels are below this grey level, in a light image above; 0.2 % and 0.1 % of
#: FER2013's images are.
DARK, LIGHT = 80, 165

#: Distance between two distributions, in [0, 1], from which the audit reports two splits. FER2013's splits
#: are at most 0.013 apart, and 0.79 if one of them is blurred with a Gaussian of 0.6 pixels.
UNLIKE = 0.1

#: Multiple of the distance that chance causes, which must be exceeded too: about once in 8,000 comparisons.
_CHANCE = 2.2


@dataclass(frozen=True, eq=False)
class Measures:
    """Measures of every image, each `(n,)`.

    Args:
        sharpness: Root mean square of the Laplacian over the standard deviation, so that neither brightness
            nor contrast changes it; about 0.8 for a face of 48 pixels.
        brightness: Mean grey level, 0..255.
        contrast: Standard deviation in grey levels.
        low: Grey level of the 5th percentile.
        high: Grey level of the 95th percentile.
        size: Side of the images in pixels.
    """

    sharpness: NDArray[np.float32]
    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    low: NDArray[np.uint8]
    high: NDArray[np.uint8]
    size: int = _USUAL_SIZE

    @property
    def has_content(self) -> NDArray[np.bool_]:
        """Whether each image shows anything."""
        return self.contrast >= FLAT


def measure(material: Material) -> Measures:
    """Measure every image."""
    n = len(material.images)
    pixels = material.images.reshape(n, -1)
    twentieth = pixels.shape[1] // 20
    sharp, brightness, contrast = (np.zeros(n, np.float32) for _ in range(3))
    low, high = np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    for part in blocks(n):
        image = material.images[part, :, :, 0].astype(np.float32)
        brightness[part] = image.mean(axis=(1, 2))
        contrast[part] = image.std(axis=(1, 2))
        sharp[part] = sharpness(image)
        ordered = np.partition(pixels[part], (twentieth, -1 - twentieth), axis=1)
        low[part], high[part] = ordered[:, twentieth], ordered[:, -1 - twentieth]
        image_cache.release(pixels)
    return Measures(sharp, brightness, contrast, low, high, material.images.shape[1])


def sharpness(images: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return `(n,)` the root mean square of the Laplacian over the standard deviation.

    Args:
        images: `(n, s, s)` grey levels.
    """
    image = images.astype(np.float32)
    inner = image[:, 1:-1, 1:-1]
    around = image[:, :-2, 1:-1] + image[:, 2:, 1:-1] + image[:, 1:-1, :-2] + image[:, 1:-1, 2:]
    rough = np.sqrt(np.square(4 * inner - around).mean(axis=(1, 2)))
    values: NDArray[np.float32] = rough / np.maximum(image.std(axis=(1, 2)), 1)
    return values


def blurred_below(size: int) -> float:
    """Return the sharpness below which an image of `size` pixels a side is blurred.

    From 48 to 224 pixels, about 0.1 % of sharp images are expected to be below. Smaller sizes, for which
    nothing is measured, have the threshold of 48.
    """
    return BLURRED * min(1.0, float((_USUAL_SIZE / size) ** _FALL))


def count(measures: Measures) -> dict[str, int]:
    """Count images that show little, by the names that `AuditReport.counts` has."""
    return {kind.replace(" ", "_"): int(fault.hits.sum()) for kind, fault in _faults(measures).items()}


def findings(material: Material, measures: Measures) -> list[Finding]:
    """Return images that show little, and splits that look different from each other."""
    faults = [
        Finding(
            kind=kind,
            severity="warning" if fault.blank else "note",
            evidence=agree(int(fault.hits.sum()), f"images {fault.what}."),
            advice=_DROP if fault.blank else _LOOK,
            cases=tuple(_cases(material, fault)),
        )
        for kind, fault in _faults(measures).items()
        if fault.hits.any()
    ]
    return [*faults, *_unlike(material, measures)]


def removals(material: Material, measures: Measures) -> Iterator[Removal]:
    """Yield the training images that show nothing."""
    train = material.members("train")
    for image in train[~measures.has_content[train]].tolist():
        kind = "constant" if measures.contrast[image] == 0 else "nearly blank"
        yield material.removal(image, kind, f"deviation {measures.contrast[image]:.1f}")


def unlikeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the largest difference of two cumulative distributions, in [0, 1].

    Source: the Kolmogorov–Smirnov statistic.
    """
    values = np.concatenate([one, other])
    below = [np.searchsorted(np.sort(each), values, side="right") / len(each) for each in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


@dataclass(frozen=True, eq=False)
class _Fault:
    hits: NDArray[np.bool_]
    what: str
    name: str
    amount: NDArray[np.generic]
    #: 1 if small amounts are the worst, -1 if large ones are.
    order: int = 1
    #: Whether the images show nothing.
    blank: bool = False


_DROP = "Exclude them: --exclusions lists those in train, --fix removes all of them."
_LOOK = "Check them, and exclude those in which no expression can be recognised."


def _faults(measures: Measures) -> dict[str, _Fault]:
    visible = measures.has_content
    constant = measures.contrast == 0
    blurred = blurred_below(measures.size)
    usual = "faces have about 0.8" if measures.size == _USUAL_SIZE else "faces of 48 pixels have about 0.8"
    return {
        "constant": _Fault(
            constant,
            "have only one grey level and show no face",
            "grey level",
            measures.brightness,
            blank=True,
        ),
        "nearly blank": _Fault(
            ~visible & ~constant,
            f"have a standard deviation below {FLAT:g} grey levels and show no face",
            "deviation",
            measures.contrast,
            blank=True,
        ),
        "blurred": _Fault(
            visible & (measures.sharpness < blurred),
            f"have a sharpness below {blurred:.2g}; {usual}",
            "sharpness",
            measures.sharpness,
        ),
        "too dark": _Fault(
            visible & (measures.high < DARK),
            f"are darker than {DARK} of 255 almost everywhere",
            "95th percentile",
            measures.high,
        ),
        "too light": _Fault(
            visible & (measures.low > LIGHT),
            f"are lighter than {LIGHT} of 255 almost everywhere",
            "5th percentile",
            measures.low,
            order=-1,
        ),
    }


def _cases(material: Material, fault: _Fault) -> Iterator[Case]:
    images = np.flatnonzero(fault.hits)
    amounts = fault.amount[images].astype(np.float64) * fault.order
    for image in images[np.argsort(amounts, kind="stable")].tolist():
        amount = float(fault.amount[image])
        yield material.case([image], f"{material.describe(image)}; {fault.name} {amount:.3g}")


def _unlike(material: Material, measures: Measures) -> Iterator[Finding]:
    splits = {name: material.members(name) for name in material.names}
    splits = {name: images[measures.has_content[images]] for name, images in splits.items()}
    splits = {name: images for name, images in splits.items() if images.size}
    for what in ("sharpness", "brightness", "contrast"):
        values = getattr(measures, what)
        apart = {
            (one, other): unlikeness(values[splits[one]], values[splits[other]])
            for one, other in combinations(splits, 2)
            if unlikeness(values[splits[one]], values[splits[other]])
            > max(UNLIKE, _CHANCE * np.sqrt(1 / len(splits[one]) + 1 / len(splits[other])))
        }
        if not apart:
            continue
        medians = {name: float(np.median(values[images])) for name, images in splits.items()}
        (one, other), distance = max(apart.items(), key=lambda item: item[1])
        middle = [images[np.argsort(values[images])[len(images) // 2]] for images in splits.values()]
        yield Finding(
            kind=f"splits differ in {what}",
            severity="warning",
            evidence=f"The distributions of {what} in {one} and {other} differ by {distance:.2f}, from 0 to "
            f"1; medians: {', '.join(f'{name} {value:.3g}' for name, value in medians.items())}.",
            advice="Download the data again, or find out how the splits were processed, because a model "
            "would be trained on one kind of image and evaluated on another.",
            cases=(material.case(middle, f"the median {what} of {', '.join(splits)}"),),
        )


_SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "PNG": {".png"},
    "WEBP": {".webp"},
    "BMP": {".bmp"},
    "GIF": {".gif"},
    "TIFF": {".tif", ".tiff"},
    "AVIF": {".avif"},
}

#: Share of the images that must have the most frequent size or colour for the others to be unusual.
_USUAL = 0.9

_GREY_MODES = {"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L"}


@dataclass(frozen=True)
class Header:
    """The header of an image's file.

    Args:
        format: One of `images.FORMATS`.
        width: Pixels, before resizing.
        height: Pixels.
        grey: Whether it has no colours.
    """

    format: str
    width: int
    height: int
    grey: bool


def survey(
    source: str | os.PathLike[str],
    names: Collection[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Header]:
    """Read the headers of a source's images.

    Args:
        source: The folder or archive that the names are relative to; a csv has no headers.
        names: Names of the images that could be read.
        progress: Called with (done, total), in files or bytes.

    Returns:
        Headers by name, without files that have none.

    Raises:
        ArchiveError: The archive is damaged, unsafe or too large.
    """
    source, wanted = Path(source), set(names)
    found = {}
    if source.is_dir():
        for done, name in enumerate(names, start=1):
            found[name] = _header(source / name)
            if progress:
                progress(done, len(names))
    elif archives.is_archive(source):
        for name, data in archives.members(source, progress=progress):
            if name in wanted:
                found[name] = _header(io.BytesIO(data))
    return {name: header for name, header in found.items() if header is not None}


def count_files(material: Material, headers: Mapping[str, Header]) -> dict[str, int]:
    """Count unusual files, by the names that `AuditReport.counts` has."""
    counts = {"unreadable": len(material.dataset.problems)}
    if headers:
        counts |= {kind.replace(" ", "_"): len(odd) for kind, odd in _odd(material, headers).items()}
    return counts


def file_findings(material: Material, headers: Mapping[str, Header]) -> Iterator[Finding]:
    """Yield files that could not be read, or that are unusual."""
    if problems := material.dataset.problems:
        yield Finding(
            kind="unreadable",
            severity="warning",
            evidence=f"{pluralize(len(problems), 'image')} could not be used; the reasons are listed.",
            advice="Correct the files or the lines that name them, or delete them.",
            cases=tuple(Case((problem.file,), problem.reason) for problem in problems),
        )
    images = {name: image for image, name in enumerate(material.files)}
    for kind, odd in _odd(material, headers).items():
        evidence, advice = _FILE_TEXTS[kind]
        if odd:
            yield Finding(
                kind=kind,
                severity="note",
                evidence=agree(len(odd), evidence),
                advice=advice,
                cases=tuple(material.case([images[name]], text) for name, text in odd.items()),
            )


_FILE_TEXTS = {
    "wrong suffix": (
        "files have an extension that does not match the content.",
        "Rename them: mien reads them, but other programs may not.",
    ),
    "odd size": (
        "images differ in size from at least 90 % of the images.",
        "Check whether they come from another source; a model may learn the source instead of the face.",
    ),
    "odd colour": (
        "images are grey in a data set with at least 90 % colour images, or the reverse.",
        "Check whether they come from another source; a model may learn the source instead of the face.",
    ),
    "not square": ("images are not square, and were padded.", "Crop them to the face."),
    "enlarged": (
        "images are smaller than the network's input, and were enlarged.",
        "Use a smaller input size, or larger images.",
    ),
}


def _odd(material: Material, headers: Mapping[str, Header]) -> dict[str, dict[str, str]]:
    """Return for each unusual property the files that have it, with a description."""
    odd: dict[str, dict[str, str]] = {kind: {} for kind in _FILE_TEXTS}
    sizes = _usual(Counter((header.width, header.height) for header in headers.values()))
    colours = _usual(Counter(header.grey for header in headers.values()))
    for name, header in sorted(headers.items()):
        size = f"{header.width} × {header.height} pixels"
        suffix = PurePosixPath(name).suffix.lower()
        if suffix and suffix not in _SUFFIXES[header.format]:
            odd["wrong suffix"][name] = f"it is {header.format}"
        if sizes and (header.width, header.height) not in sizes:
            odd["odd size"][name] = size
        if colours and header.grey not in colours:
            odd["odd colour"][name] = "grey" if header.grey else "colours"
        if header.width != header.height:
            odd["not square"][name] = size
        if max(header.width, header.height) < material.images.shape[1]:
            odd["enlarged"][name] = size
    return odd


def _usual(counts: Counter[object]) -> set[object]:
    """Return the most frequent value if nearly all have it."""
    ((value, most),) = counts.most_common(1) or [(None, 0)]
    return {value} if most >= _USUAL * counts.total() > 0 else set()


def _header(file: Path | io.BytesIO) -> Header | None:
    try:
        with Image.open(file, formats=FORMATS) as image:
            return Header(image.format or "", image.width, image.height, image.mode in _GREY_MODES)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


#: Sides in pixels that an image is enlarged to, in this order until a face is found. The first finds 95 % of
#: FER2013's faces in a third of the time of the last.
_SIDES = (96, 144, 192, 240)

#: Width of the grey frame around it, in sides: detectors learned from faces with a background.
_FRAME = 1 / 3
_FRAME_GREY = 128

#: Width in sides below which a box is not the face that the image shows.
_NARROWEST = 0.3


def seek(
    dataset: Dataset, detector: Detector, *, progress: Callable[[int, int], None] | None = None
) -> NDArray[np.bool_]:
    """Return `(n,)` whether a detector finds a face in each image, split after split.

    Each image is enlarged and framed in grey, in up to four sizes and at last mirrored, until the detector
    finds a face.

    Args:
        dataset: Its images.
        detector: The result of `mien.vision.detectors.load`.
        progress: Called with (images done, images in all).
    """
    total = sum(len(split) for split in dataset.splits)
    found = np.zeros(total, bool)
    done = 0
    for split in dataset.splits:
        for image in split.images[:, :, :, 0]:
            found[done] = _has_face(image, detector)
            done += 1
            if progress is not None:
                progress(done, total)
    return found


def _has_face(image: NDArray[np.uint8], detector: Detector) -> bool:
    if image.min() == image.max():
        return False
    views = [(image, side) for side in _SIDES]
    views.append((image[:, ::-1], _SIDES[1]))
    return any(
        face.width >= _NARROWEST * side
        for view, side in views
        for face in detector.find(_framed(view, side), smallest=round(_NARROWEST * side))
    )


def _framed(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    enlarged = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    return np.pad(np.asarray(enlarged), round(_FRAME * side), constant_values=_FRAME_GREY)


def check_faces(material: Material, found: NDArray[np.bool_] | None) -> None:
    """Check that a detector has seen these images.

    Raises:
        DataError: It has seen more or fewer.
    """
    if found is not None and len(found) != len(material.images):
        raise DataError(
            f"the detector ran on {len(found):,} images, but the data set has {len(material.images):,}; run "
            "the detector on this data set"
        )


def count_faceless(measures: Measures, found: NDArray[np.bool_] | None) -> dict[str, int]:
    """Count the images that show something in which no face was found."""
    return {} if found is None else {"no_face_found": int((measures.has_content & ~found).sum())}


def faceless_findings(
    material: Material, measures: Measures, found: NDArray[np.bool_] | None
) -> Iterator[Finding]:
    """Yield the images in which no face was found."""
    images = np.empty(0, np.intp) if found is None else np.flatnonzero(measures.has_content & ~found)
    if not images.size:
        return
    by_votes = np.isin(images, faceless(material))
    voted = (
        f"; for {by_votes.sum():,} of them most annotators also chose 'no face'"
        if material.votes is not None
        else ""
    )
    order = np.argsort(~by_votes, kind="stable")
    yield Finding(
        kind="no face found",
        severity="note",
        evidence=f"A detector finds no face in {len(images):,} images "
        f"({len(images) / len(material.images):.1%}){voted}.",
        advice="Check them: detectors miss many faces that are turned away, cropped or tilted. No image is "
        "excluded for this reason alone.",
        cases=tuple(material.case([image], material.describe(image)) for image in images[order].tolist()),
    )
