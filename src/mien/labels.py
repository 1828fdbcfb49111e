"""The seven emotions: names, order and other spellings.

The order is that of fer2013.csv, so the numbers in that file are indices of `EMOTIONS`.
"""

from collections.abc import Sequence

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

#: Columns of FER+ votes in mien: the seven emotions, then the other choices of the FER+ annotators.
VOTES = (*EMOTIONS, "contempt", "unknown", "not a face")

#: Columns of fer2013new.csv (microsoft/FERPlus), and their names in `VOTES`.
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

    Case, surrounding space and a leading number with its separator are ignored: `Happy`, `happiness` and
    `3_happy` are happy. A bare number from 0 to 6 is a label of fer2013.csv.
    """
    word = name.strip().lower()
    if word.isdecimal():
        number = int(word)
        return EMOTIONS[number] if number < len(EMOTIONS) else None
    return _MEANING.get(word.lstrip("0123456789").lstrip(" ._-"))


def order(names: Sequence[str]) -> tuple[str, ...]:
    """Return class names in the order of the outputs of a model.

    If every name spells a different emotion, the result is the canonical names in the order of `EMOTIONS`.
    Other names are sorted alphabetically.
    """
    meanings = [canonical(name) for name in names]
    found = {meaning for meaning in meanings if meaning is not None}
    if len(found) == len(meanings) > 0:
        return tuple(emotion for emotion in EMOTIONS if emotion in found)
    return tuple(sorted(names))


def brief(names: Sequence[str], most: int) -> list[str]:
    """Return names shortened for a table or chart, so that different names stay different.

    An ellipsis replaces the end of a long name, or its middle if several names begin the same way. If names
    would still be equal, they end with their number in the list, from 1.

    Args:
        names: Names of classes.
        most: Maximum number of characters, at least 3; numbers of more than one digit can exceed it.
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
