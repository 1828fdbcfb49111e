"""What a prediction is made of: Box, Face, Prediction.

A prediction's dict is the one JSON of mien: of commands, of Python, of whatever serves or writes predictions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

#: Version of the JSON of a prediction; it rises when a key changes its meaning or goes.
SCHEMA = 1

Flag = Literal["uncertain", "small", "blurred", "cut"]
FLAGS: tuple[Flag, ...] = get_args(Flag)


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels inside the upright image.

    Args:
        left: Pixels from the image's left edge, at least 0.
        top: Pixels from the image's top edge, at least 0.
        width: Pixels, at least 1.
        height: Pixels, at least 1.
    """

    left: int
    top: int
    width: int
    height: int

    @property
    def area(self) -> int:
        """Pixels."""
        return self.width * self.height


@dataclass(frozen=True)
class Face:
    """A face, and what it shows.

    Args:
        box: Where it is.
        detected: How sure the detector is, in [0, 1]; None where the whole image was taken for a face.
        scores: Probability of each emotion, in the model's order; they sum to 1.
        flags: Reasons to trust the answer less, in the order of `FLAGS`.
    """

    box: Box
    detected: float | None
    scores: Mapping[str, float]
    flags: tuple[Flag, ...] = ()

    @property
    def emotion(self) -> str:
        """The likeliest emotion; of equal ones the first."""
        return max(self.scores, key=self.scores.__getitem__)

    @property
    def confidence(self) -> float:
        """The likeliest emotion's probability."""
        return self.scores[self.emotion]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds of a face."""
        box = self.box
        return {
            "box": {"left": box.left, "top": box.top, "width": box.width, "height": box.height},
            "detected": self.detected,
            "emotion": self.emotion,
            "confidence": self.confidence,
            "scores": dict(self.scores),
            "flags": list(self.flags),
        }


@dataclass(frozen=True)
class Prediction:
    """The faces of one image.

    Args:
        source: What the image was called: the path as given, or a name.
        width: Of the upright image in pixels.
        height: Of the upright image in pixels.
        faces: The largest first; none where no face was found.
        rotation: By how many degrees clockwise the image was turned for its faces to be upright: 0, 90, 180
            or 270. Width, height and boxes are those of the image before it was turned.
    """

    source: str
    width: int
    height: int
    faces: tuple[Face, ...]
    rotation: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds of a prediction; `json.dumps` takes it as it is."""
        return {
            "schema": SCHEMA,
            "source": self.source,
            "width": self.width,
            "height": self.height,
            "rotation": self.rotation,
            "faces": [face.to_dict() for face in self.faces],
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return a flat row for each face, as a data frame or a csv takes it.

        Faces are numbered from 1. An image without a face has one row, in which only `source` is filled.
        Flags are in one cell, joined by spaces; a score is under its emotion's name.
        """
        if not self.faces:
            return [{"source": self.source}]
        return [
            {
                "source": self.source,
                "face": number,
                "left": face.box.left,
                "top": face.box.top,
                "width": face.box.width,
                "height": face.box.height,
                "detected": face.detected,
                "emotion": face.emotion,
                "confidence": face.confidence,
                **face.scores,
                "flags": " ".join(face.flags),
            }
            for number, face in enumerate(self.faces, start=1)
        ]
