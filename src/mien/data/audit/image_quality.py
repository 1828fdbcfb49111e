"""How images look: blank, blurred, too dark or too light; and whether splits look alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mien.data.audit.findings import Case, Finding, Material, Removal, Severity
from mien.data.duplicates import FLAT

#: Sharpness below which an image is called blurred; a thousandth of FER2013's are.
BLURRED = 0.35

#: Grey levels that nineteen of twenty pixels stay below in an image that is too dark, and above in one that
#: is too light; two and one of a thousand of FER2013's do.
DARK, LIGHT = 80, 165

#: Distance between two distributions, in [0, 1], from which splits are called unlike. FER2013's lie at 0.013
#: and less, and at 0.79 when one of them is blurred with a Gaussian of 0.6 pixels.
UNLIKE = 0.1

#: Times the standard size of chance by which they have to differ besides: about once in 8,000 comparisons.
_CHANCE = 2.2

_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Measures:
    """What is measured of every image, each `(n,)`.

    Args:
        sharpness: Size of the second differences (root mean square of the Laplacian) over the deviation, so
            that neither brightness nor contrast changes it; about 0.8 for a face of 48 pixels.
        brightness: Mean grey level, 0..255.
        contrast: Standard deviation in grey levels.
        low: Grey level below which one pixel of twenty lies.
        high: Grey level below which nineteen of twenty lie.
    """

    sharpness: NDArray[np.float32]
    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    low: NDArray[np.uint8]
    high: NDArray[np.uint8]

    @property
    def telling(self) -> NDArray[np.bool_]:
        """Whether each image shows anything."""
        return self.contrast >= FLAT


def measure(material: Material) -> Measures:
    """Measure every image."""
    n = len(material.images)
    pixels = material.images.reshape(n, -1)
    twentieth = pixels.shape[1] // 20
    sharpness, brightness, contrast = (np.zeros(n, np.float32) for _ in range(3))
    low, high = np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    for start in range(0, n, _BLOCK):
        part = slice(start, start + _BLOCK)
        image = material.images[part, :, :, 0].astype(np.float32)
        brightness[part] = image.mean(axis=(1, 2))
        contrast[part] = image.std(axis=(1, 2))
        inner = image[:, 1:-1, 1:-1]
        around = image[:, :-2, 1:-1] + image[:, 2:, 1:-1] + image[:, 1:-1, :-2] + image[:, 1:-1, 2:]
        rough = np.sqrt(np.square(4 * inner - around).mean(axis=(1, 2)))
        sharpness[part] = rough / np.maximum(contrast[part], 1)
        ordered = np.partition(pixels[part], (twentieth, -1 - twentieth), axis=1)
        low[part], high[part] = ordered[:, twentieth], ordered[:, -1 - twentieth]
    return Measures(sharpness, brightness, contrast, low, high)


def count(measures: Measures) -> dict[str, int]:
    """Count images that show little, by the names that `AuditReport.counts` has."""
    return {kind.replace(" ", "_"): int(fault.hits.sum()) for kind, fault in _faults(measures).items()}


def findings(material: Material, measures: Measures) -> list[Finding]:
    """Tell of images that show little, and of splits that look unlike each other."""
    told = [
        Finding(
            kind=kind,
            severity=fault.severity,
            evidence=f"{fault.hits.sum():,} images {fault.what}.",
            advice=fault.advice,
            cases=tuple(_cases(material, fault)),
        )
        for kind, fault in _faults(measures).items()
        if fault.hits.any()
    ]
    return [*told, *_unlike(material, measures)]


def removals(material: Material, measures: Measures) -> list[Removal]:
    """List the training images that show nothing."""
    train = material.members("train")
    return [
        material.removal(
            place,
            "constant" if measures.contrast[place] == 0 else "nearly blank",
            f"deviation {measures.contrast[place]:.1f}",
        )
        for place in train[~measures.telling[train]].tolist()
    ]


def unlikeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the largest difference of two cumulative distributions, in [0, 1].

    Source: the statistic of Kolmogorov and Smirnov.
    """
    values = np.concatenate([one, other])
    below = [np.searchsorted(np.sort(each), values, side="right") / len(each) for each in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


@dataclass(frozen=True, eq=False)
class _Fault:
    hits: NDArray[np.bool_]
    severity: Severity
    what: str
    advice: str
    name: str
    amount: NDArray[np.generic]
    #: 1 where a small amount is the worst, -1 where a large one is.
    order: int = 1


def _faults(measures: Measures) -> dict[str, _Fault]:
    drop = "Leave them out: --exclusions lists those of train, --fix drops all."
    look = "Look at them, and leave out those on which people would name no expression."
    told = measures.telling
    constant = measures.contrast == 0
    return {
        "constant": _Fault(
            constant,
            "warning",
            "hold one grey level only, and show no face",
            drop,
            "grey level",
            measures.brightness,
        ),
        "nearly blank": _Fault(
            ~told & ~constant,
            "warning",
            f"deviate by less than {FLAT:g} grey levels, and show no face",
            drop,
            "deviation",
            measures.contrast,
        ),
        "blurred": _Fault(
            told & (measures.sharpness < BLURRED),
            "note",
            f"have a sharpness below {BLURRED:g}, where faces have about 0.8",
            look,
            "sharpness",
            measures.sharpness,
        ),
        "too dark": _Fault(
            told & (measures.high < DARK),
            "note",
            f"are darker than {DARK} of 255 almost everywhere",
            look,
            "nineteen of twenty pixels below",
            measures.high,
        ),
        "too light": _Fault(
            told & (measures.low > LIGHT),
            "note",
            f"are lighter than {LIGHT} of 255 almost everywhere",
            look,
            "nineteen of twenty pixels above",
            measures.low,
            order=-1,
        ),
    }


def _cases(material: Material, fault: _Fault) -> Iterator[Case]:
    places = np.flatnonzero(fault.hits)
    amounts = fault.amount[places].astype(np.float64) * fault.order
    for place in places[np.argsort(amounts, kind="stable")].tolist():
        amount = float(fault.amount[place])
        yield material.case([place], f"{material.tell(place)}; {fault.name} {amount:.3g}")


def _unlike(material: Material, measures: Measures) -> Iterator[Finding]:
    """Tell of the measures by which some two splits differ."""
    splits = {name: material.members(name) for name in material.names}
    splits = {name: places[measures.telling[places]] for name, places in splits.items()}
    splits = {name: places for name, places in splits.items() if places.size}
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
        medians = {name: float(np.median(values[places])) for name, places in splits.items()}
        (one, other), distance = max(apart.items(), key=lambda item: item[1])
        middle = [places[np.argsort(values[places])[len(places) // 2]] for places in splits.values()]
        yield Finding(
            kind=f"splits unlike in {what}",
            severity="warning",
            evidence=f"The {what} of {one} and {other} is distributed unlike, {distance:.2f} apart from 0 "
            f"to 1; medians: {', '.join(f'{name} {value:.3g}' for name, value in medians.items())}.",
            advice="Get the data again from its source, or find out what was done to one split: a model "
            "trained on one look is scored on another.",
            cases=(material.case(middle, f"the median {what} of {', '.join(splits)}"),),
        )
