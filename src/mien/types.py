"""The types of a prediction: Box, Face, Prediction, and Problem for an image that cannot be read.

`Prediction.to_dict` is the JSON format of predictions in all commands and files.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mien.errors import InputError

#: Version of the JSON format; it increases when a key changes its meaning or is removed.
SCHEMA = 1

#: Types of columns in Parquet by their pyarrow names.
_PARQUET = {int: "int64", float: "float32", str: "string"}

Flag = Literal["uncertain", "small", "blurred", "cut"]
FLAGS: tuple[Flag, ...] = get_args(Flag)

#: Columns of the tables of predictions and of video; no class and no group can have these names there.
_COLUMNS = frozenset(
    {
        "source",
        "face",
        "frame",
        "time",
        "track",
        "left",
        "top",
        "width",
        "height",
        "detected",
        "emotion",
        "confidence",
        "flags",
        "smoothed_emotion",
        "smoothed_confidence",
    }
)
#: What to do about a class with such a name.
_RENAME = "rename it with --group (in Python: groups=)"


def check_column_names(names: Iterable[str], *, what: str = "class", remedy: str = _RENAME) -> None:
    """Make sure that names can be columns beside those that each table of predictions has.

    Args:
        names: The names.
        what: What they are, for the message: `"class"`.
        remedy: What to do about a name that is taken, for the message.

    Raises:
        InputError: A table has another column of that name.
    """
    for name in names:
        if name in _COLUMNS or name.startswith("smoothed_"):
            raise InputError(
                f"the {what} {name!r} has the name of another column in tables of predictions; {remedy}"
            )


@dataclass(frozen=True)
class Box:
    """A rectangle inside the upright image.

    Example:
        >>> import mien
        >>> mien.Box(left=10, top=20, width=30, height=40).area
        1200

    Args:
        left: Pixels from the left edge of the image, at least 0.
        top: Pixels from the top edge of the image, at least 0.
        width: Pixels, at least 1.
        height: Pixels, at least 1.
    """

    left: int
    top: int
    width: int
    height: int

    @property
    def area(self) -> int:
        """Area in pixels."""
        return self.width * self.height


@dataclass(frozen=True)
class Face:
    """A face and its emotion.

    Example:
        >>> import mien
        >>> face = mien.Face(mien.Box(0, 0, 30, 30), 0.99, {"happy": 0.9, "sad": 0.1})
        >>> face.emotion, face.confidence
        ('happy', 0.9)

    Args:
        box: Its position in the image.
        detected: Confidence of the detector in [0, 1]; None if the whole image is treated as one face.
        scores: Probability of each emotion, in the order of the model; they sum to 1.
        flags: Reasons to trust the prediction less, in the order of `FLAGS`.
    """

    box: Box
    detected: float | None
    scores: Mapping[str, float]
    flags: tuple[Flag, ...] = ()

    @property
    def emotion(self) -> str:
        """The emotion with the highest probability; the first one if several are equal."""
        return max(self.scores, key=self.scores.__getitem__)

    @property
    def confidence(self) -> float:
        """The probability of `emotion`."""
        return self.scores[self.emotion]

    def to_dict(self) -> dict[str, Any]:
        """Return the face as JSON values."""
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

    Example:
        >>> import mien
        >>> prediction = mien.predict("photo.jpg")
        >>> [face.emotion for face in prediction.faces]
        ['happy']

    Args:
        source: The path of the image as given, or its name.
        width: Width of the upright image in pixels.
        height: Height of the upright image in pixels.
        faces: The faces, largest first.
        rotation: Clockwise rotation in degrees that made the faces upright: 0, 90, 180 or 270. Width, height
            and boxes refer to the image before this rotation.
    """

    source: str
    width: int
    height: int
    faces: tuple[Face, ...]
    rotation: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as JSON values."""
        return {
            "schema": SCHEMA,
            "source": self.source,
            "width": self.width,
            "height": self.height,
            "rotation": self.rotation,
            "faces": [face.to_dict() for face in self.faces],
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return a flat row for each face, for a data frame or a csv file.

        Faces are numbered from 1. An image without a face has one row that holds only `source`. Flags are
        joined by spaces; the column of a score is the name of its emotion.

        Raises:
            InputError: An emotion has the name of another column.
        """
        if not self.faces:
            return [{"source": self.source}]
        for face in self.faces:
            check_column_names(face.scores)
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

    @classmethod
    def columns(cls, labels: Iterable[str]) -> dict[str, str]:
        """Return the columns of `rows` for a model with these labels, and their types in Parquet by name.

        Raises:
            InputError: A label has the name of another column.
        """
        face = Face(Box(0, 0, 1, 1), 0.0, dict.fromkeys(labels, 0.0))
        (row,) = cls("", 1, 1, (face,)).rows()
        return {name: _PARQUET[type(value)] for name, value in row.items()}


@dataclass(frozen=True)
class Problem:
    """An image that could not be read.

    Example:
        >>> import mien
        >>> list(mien.predict_many(["nowhere.jpg"]))[0].source
        'nowhere.jpg'

    Args:
        source: The image's name, as in a prediction.
        reason: Why it could not be read, in one sentence.
    """

    source: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Return plain values, which JSON can hold."""
        return {"source": self.source, "problem": self.reason}
