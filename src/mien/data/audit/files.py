"""The files that images come in: unreadable ones, wrong suffixes, odd sizes and colours."""

import io
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from mien.data import archives as extract
from mien.data.audit.findings import Case, Finding, Material, Severity
from mien.vision.images import FORMATS

_SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "PNG": {".png"},
    "WEBP": {".webp"},
    "BMP": {".bmp"},
    "GIF": {".gif"},
    "TIFF": {".tif", ".tiff"},
    "AVIF": {".avif"},
}

#: Share of the images that has to have the commonest size or colour for the others to be odd.
_USUAL = 0.9

_GREY = {"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L"}


@dataclass(frozen=True)
class Header:
    """What an image's file says of itself.

    Args:
        format: One of `images.FORMATS`.
        width: Pixels, before it was fitted.
        height: Pixels.
        grey: Whether it is stored without colours.
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
        names: Of the images that could be read.
        progress: Called with (done, total), in files or bytes.

    Returns:
        Headers by name, without those that have none.

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
    elif extract.is_archive(source):
        for name, data in extract.members(source, limits=extract.Limits(), progress=progress):
            if name in wanted:
                found[name] = _header(io.BytesIO(data))
    return {name: header for name, header in found.items() if header is not None}


def count(material: Material, headers: Mapping[str, Header]) -> dict[str, int]:
    """Count what is odd about files, by the names that `AuditReport.counts` has."""
    counts = {"unreadable": len(material.dataset.problems)}
    if headers:
        counts |= {kind.replace(" ", "_"): len(odd) for kind, odd in _odd(material, headers).items()}
    return counts


def findings(material: Material, headers: Mapping[str, Header]) -> list[Finding]:
    """Tell of files that could not be read, or are unlike what they should be."""
    told = []
    if problems := material.dataset.problems:
        told.append(
            Finding(
                kind="unreadable",
                severity="warning",
                evidence=f"{len(problems):,} images could not be read, and were skipped.",
                advice="Get them again from where they came, or delete them.",
                cases=tuple(Case((problem.file,), problem.reason) for problem in problems),
            )
        )
    places = {name: place for place, name in enumerate(material.files)}
    for kind, odd in _odd(material, headers).items():
        severity, evidence, advice = _WORDS[kind]
        if odd:
            told.append(
                Finding(
                    kind=kind,
                    severity=severity,
                    evidence=evidence.format(len(odd)),
                    advice=advice,
                    cases=tuple(material.case([places[name]], says) for name, says in odd.items()),
                )
            )
    return told


_WORDS: dict[str, tuple[Severity, str, str]] = {
    "wrong suffix": (
        "note",
        "{:,} files hold another format than their suffix says.",
        "Rename them: mien reads them all the same, other programs may not.",
    ),
    "odd size": (
        "note",
        "{:,} images have another size than nine of ten have.",
        "See whether they come from elsewhere; a model may learn the source instead of the face.",
    ),
    "odd colour": (
        "note",
        "{:,} images are stored grey where nine of ten have colours, or the other way round.",
        "See whether they come from elsewhere; a model may learn the source instead of the face.",
    ),
    "not square": (
        "note",
        "{:,} images are not square, and were padded.",
        "Crop them to the face.",
    ),
    "enlarged": (
        "note",
        "{:,} images are smaller than the network's input, and were enlarged.",
        "Take a smaller input size, or larger images.",
    ),
}


def _odd(material: Material, headers: Mapping[str, Header]) -> dict[str, dict[str, str]]:
    """For each kind of oddity, the files that have it and what they are."""
    odd: dict[str, dict[str, str]] = {kind: {} for kind in _WORDS}
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
    """The commonest value, where nearly all have it."""
    ((value, most),) = counts.most_common(1) or [(None, 0)]
    return {value} if most >= _USUAL * counts.total() > 0 else set()


def _header(file: Path | io.BytesIO) -> Header | None:
    try:
        with Image.open(file, formats=FORMATS) as image:
            return Header(image.format or "", image.width, image.height, image.mode in _GREY)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
