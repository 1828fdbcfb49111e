"""What the muscles of a face do: action units, and which of them show which emotion."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Actions:
    """How strongly each action unit is shown, 0 (not at all) to 1 (as far as it goes).

    Source: Ekman & Friesen, Facial Action Coding System, 1978; the units that move brows, lids, nose,
    cheeks, lips and jaw, under their numbers there.

    Args:
        au1: Inner brow raiser.
        au2: Outer brow raiser.
        au4: Brow lowerer.
        au5: Upper lid raiser.
        au6: Cheek raiser.
        au7: Lid tightener.
        au9: Nose wrinkler.
        au10: Upper lip raiser.
        au12: Lip corner puller.
        au15: Lip corner depressor.
        au17: Chin raiser.
        au20: Lip stretcher.
        au23: Lip tightener.
        au24: Lip pressor.
        au25: Lips part.
        au26: Jaw drop.
    """

    au1: float = 0.0
    au2: float = 0.0
    au4: float = 0.0
    au5: float = 0.0
    au6: float = 0.0
    au7: float = 0.0
    au9: float = 0.0
    au10: float = 0.0
    au12: float = 0.0
    au15: float = 0.0
    au17: float = 0.0
    au20: float = 0.0
    au23: float = 0.0
    au24: float = 0.0
    au25: float = 0.0
    au26: float = 0.0

    def scaled(self, factor: float) -> "Actions":
        """Return the same actions, each `factor` times as strong, at most 1."""
        return Actions(**{name: min(1.0, factor * getattr(self, name)) for name in NAMES})


#: The action units mien draws, in the order of their numbers.
NAMES = tuple(field.name for field in fields(Actions))


@dataclass(frozen=True)
class Prototype:
    """Which action units show an emotion.

    Args:
        always: Units every drawn face of this emotion shows.
        sometimes: Further units, each with the share of faces that show it.
    """

    always: tuple[str, ...]
    sometimes: Mapping[str, float]


#: Each emotion's units, after EMFACS (Friesen & Ekman 1983) as mien draws them.
PROTOTYPES: dict[str, Prototype] = {
    "angry": Prototype(("au4", "au7", "au23"), {"au5": 0.6, "au24": 0.5, "au17": 0.2, "au25": 0.15}),
    "disgust": Prototype(("au9", "au10"), {"au15": 0.5, "au17": 0.5, "au4": 0.3, "au25": 0.3}),
    "fear": Prototype(("au1", "au2", "au4", "au5", "au20", "au25"), {"au26": 0.5}),
    "happy": Prototype(("au6", "au12"), {"au25": 0.6, "au26": 0.15}),
    "sad": Prototype(("au1", "au4", "au15"), {"au17": 0.5, "au7": 0.15}),
    "surprise": Prototype(("au1", "au2", "au5", "au25", "au26"), {}),
    "neutral": Prototype((), {}),
}

_STRENGTH = (0.7, 1.0)
_SPREAD = (0.85, 1.15)
_RESTLESS = 0.04
_TALKING = 0.12


def draw(emotion: str, rng: np.random.Generator) -> Actions:
    """Draw how strongly a face that shows `emotion` shows each unit.

    One strength is drawn for the face and one for each unit about it. Every unit stirs a little on every
    face, and some faces have their lips parted as if they spoke, so that no unit alone gives an emotion away.
    """
    prototype = PROTOTYPES[emotion]
    strength = rng.uniform(*_STRENGTH)
    levels = np.abs(rng.normal(0.0, _RESTLESS, len(NAMES)))
    spread = rng.uniform(*_SPREAD, len(NAMES))
    chance = rng.random(len(NAMES))
    for place, name in enumerate(NAMES):
        if name in prototype.always or chance[place] < prototype.sometimes.get(name, 0.0):
            levels[place] = strength * spread[place]
    if rng.random() < _TALKING:
        parted = NAMES.index("au25")
        levels[parted] = max(levels[parted], rng.uniform(0.2, 0.7))
    return Actions(**dict(zip(NAMES, np.minimum(levels, 1.0).tolist(), strict=True)))
