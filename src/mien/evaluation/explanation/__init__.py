"""Which pixels made a model say so, from the bundle alone.

    explanation = explain.face(bundle, images.fit(pixels, 48))
    explanation.emotion, explanation.score, explanation.map     # (48, 48), 0..1
    explain.sheet(face, explanation).save("why.png")

Two methods answer. `cam` reads off what each cell of the last feature map added to the answer; it needs a
head that is dense over the mean of the features, as most of mien's networks have. `occlusion` hides one spot
after the other and sees how far the answer falls; it works with every model and is slower.
"""

from mien.evaluation.explanation.maps import METHODS, NEAR_ZERO, Explanation, Method, face, hide
from mien.evaluation.explanation.rendering import LEGEND, SIDE, colours, legend, note, overlay, sheet

__all__ = [
    "LEGEND",
    "METHODS",
    "NEAR_ZERO",
    "SIDE",
    "Explanation",
    "Method",
    "colours",
    "face",
    "hide",
    "legend",
    "note",
    "overlay",
    "sheet",
]
