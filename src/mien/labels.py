"""The seven emotions: their names, their one order, and how others spell them.

The order angry, disgust, fear, happy, sad, surprise, neutral is fer2013.csv's, so that its numbers are
indices here. Nothing in mien writes this order a second time.
"""

from collections.abc import Sequence

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

#: Columns of FER+ votes in mien: the seven emotions, then what FER+ taggers could choose besides.
VOTES = (*EMOTIONS, "contempt", "unknown", "not a face")

#: FER+'s header (microsoft/FERPlus, fer2013new.csv), each column under the name it has in `VOTES`.
FERPLUS_COLUMNS = {
    "neutral": "neutral",
    "happiness": "happy",
    "surprise": "surprise",
    "sadness": "sad",
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "contempt": "contempt",
    "unknown": "unknown",
    "nf": "not a face",
}

_SPELLINGS = {
    "angry": ("anger", "ang", "an"),
    "disgust": ("disgusted", "dis", "di"),
    "fear": ("fearful", "afraid", "scared", "fea", "fe"),
    "happy": ("happiness", "joy", "joyful", "hap", "ha"),
    "sad": ("sadness", "sa"),
    "surprise": ("surprised", "sur", "su"),
    "neutral": ("neutrality", "calm", "neu", "ne"),
}

_MEANING = {name: name for name in EMOTIONS} | {
    spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings
}


def canonical(name: str) -> str | None:
    """Return the emotion that `name` spells, or None.

    Case, surrounding space and a leading number with its separator are ignored, so that `Happy`,
    `happiness` and `3_happy` are happy. A bare number 0 to 6 is fer2013.csv's label.
    """
    word = name.strip().lower()
    if word.isdecimal():
        number = int(word)
        return EMOTIONS[number] if number < len(EMOTIONS) else None
    return _MEANING.get(word.lstrip("0123456789").lstrip(" ._-"))


def order(names: Sequence[str]) -> tuple[str, ...]:
    """Put class names into mien's order.

    Emotions stand in the order of `EMOTIONS` under their canonical names when every name spells a
    different one of them; any other set of names is a user's own, kept as spelt, in alphabetical order.
    """
    meanings = [canonical(name) for name in names]
    found = {meaning for meaning in meanings if meaning is not None}
    if len(found) == len(meanings) > 0:
        return tuple(emotion for emotion in EMOTIONS if emotion in found)
    return tuple(sorted(names))


def brief(names: Sequence[str], most: int) -> list[str]:
    """Return names shortened to fit a table's head or a chart, so that different names stay different.

    A long name loses its end, or its middle where names begin alike; an ellipsis takes the place. Where
    neither tells names apart, they end with their number in the list, from 1.

    Args:
        names: Names of classes.
        most: Characters that a short name has at most, at least 3; more only for the numbers of many names.
    """
    different = len(set(names))
    shown: list[str] = []
    for tail in range(most // 2 + 1):
        shown = [name if len(name) <= most else _cut(name, most, name[len(name) - tail :]) for name in names]
        if len(set(shown)) == different:
            return shown
    numbered = []
    for number, (name, short) in enumerate(zip(names, shown, strict=True), start=1):
        alike = {other for other, text in zip(names, shown, strict=True) if text == short}
        numbered.append(short if len(alike) == 1 else _cut(name, most, str(number)))
    return numbered


def _cut(name: str, most: int, end: str) -> str:
    return f"{name[: max(1, most - 1 - len(end))]}…{end}"
