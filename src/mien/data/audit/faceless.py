"""Images in which a detector finds no face."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.data.audit.annotator_votes import faceless
from mien.data.audit.findings import Finding, Material
from mien.data.audit.image_quality import Measures
from mien.data.datasets import Dataset
from mien.errors import DataError
from mien.vision.detectors import Detector

#: Sides in pixels that an image is enlarged to, one after the other until a face is found. The first finds
#: 19 of 20 faces of FER2013 in a third of the time of the last.
_SIDES = (96, 144, 192, 240)

#: Width of the plain frame about it, in sides: detectors learnt from faces with something around them.
_FRAME = 1 / 3
_GREY = 128

#: Width in sides below which a box is no face that the image is of.
_NARROWEST = 0.3


def seek(
    dataset: Dataset, detector: Detector, *, progress: Callable[[int, int], None] | None = None
) -> NDArray[np.bool_]:
    """Ask a detector for a face in every image.

    An image that a face fills is enlarged and set into a plain grey frame first, in up to four sizes and
    at last mirrored, until a face is found.

    Args:
        dataset: Its images.
        detector: What `detect.load` returned.
        progress: Called with (images done, images in all).

    Returns:
        `(n,)` whether a face was found, split after split.
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
    return np.pad(np.asarray(enlarged), round(_FRAME * side), constant_values=_GREY)


def check(material: Material, found: NDArray[np.bool_] | None) -> None:
    """Make sure that faces were sought in these images.

    Raises:
        DataError: They were sought in more or fewer.
    """
    if found is not None and len(found) != len(material.images):
        raise DataError(f"faces were sought in {len(found):,} images; the data has {len(material.images):,}")


def count(measures: Measures, found: NDArray[np.bool_] | None) -> dict[str, int]:
    """Count the images that show something, and no face that was found."""
    return {} if found is None else {"no_face_found": int((measures.telling & ~found).sum())}


def findings(material: Material, measures: Measures, found: NDArray[np.bool_] | None) -> list[Finding]:
    """Tell of images in which no face was found."""
    places = np.empty(0, np.intp) if found is None else np.flatnonzero(measures.telling & ~found)
    if not places.size:
        return []
    by_votes = np.isin(places, faceless(material))
    voted = f", {by_votes.sum():,} of which are none by votes either" if material.votes is not None else ""
    order = np.argsort(~by_votes, kind="stable")
    return [
        Finding(
            kind="no face found",
            severity="note",
            evidence=f"A detector finds no face in {len(places):,} images "
            f"({len(places) / len(material.images):.1%}){voted}.",
            advice="Look at them: many are faces that are turned away, cut or lying, which detectors miss. "
            "Nothing is left out for this alone.",
            cases=tuple(material.case([place], material.tell(place)) for place in places[order].tolist()),
        )
    ]
