"""Name the classes of a data set: what numbers mean, which names are emotions, which classes are renamed."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mien._text import shorten
from mien.errors import DataError
from mien.labels import canonical, order


def _numbered(names: str, first: int = 0) -> Mapping[str, str]:
    return {str(number): name for number, name in enumerate(names.split(), start=first)}


#: What the numbers of published data sets mean. Sources: fer2013.csv and ExpW's and RAF-DB's read-me files;
#: AffectNet (Mollahosseini et al. 2017, section 3); CK+ (Lucey et al. 2010, emotion labels).
LABEL_ORDERS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "FER2013": _numbered("angry disgust fear happy sad surprise neutral"),
        "RAF-DB": _numbered("surprise fear disgust happy sad angry neutral", first=1),
        "AffectNet": _numbered("neutral happy sad surprise fear disgust angry contempt"),
        "CK+": _numbered("neutral angry contempt disgust fear happy sad surprise"),
        "ExpW": _numbered("angry disgust fear happy sad surprise neutral"),
    }
)


@dataclass(frozen=True)
class Naming:
    """What a user says about the names of classes.

    Args:
        numbers: The class that each number stands for.
        names: The classes in the order of their numbers, which begin at 0 or 1; not together with `numbers`.
        renames: New names of classes; `""` leaves a class out.
    """

    numbers: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether the user says anything."""
        return bool(self.numbers or self.names or self.renames)

    @classmethod
    def parse(cls, labels_order: str | None, rename: str | None) -> "Naming":
        """Parse `neutral,happy,…` or `1=neutral,2=happy,…`; and `sadness=sad,contempt=`.

        Raises:
            DataError: A text has another form, or names a class or number twice.
        """
        numbers: dict[str, str] = {}
        names: tuple[str, ...] = ()
        if labels_order is not None:
            if "=" in labels_order:
                numbers = _pairs(labels_order, "labels-order", "1=neutral,2=happy")
                if wrong := [key for key in numbers if not key.isdecimal()]:
                    raise DataError(
                        f"labels-order has {shorten(wrong)}, which is not a number; write it "
                        "as 1=neutral,2=happy"
                    )
                numbers = {str(int(key)): name for key, name in numbers.items()}
            else:
                names = tuple(name.strip() for name in labels_order.split(","))
            if not all(names or numbers.values()) or len(set(names)) < len(names):
                raise DataError(
                    "labels-order has an empty name or the same name twice; write neutral,happy or 1=neutral"
                )
        renames = {} if rename is None else _pairs(rename, "map", "sadness=sad,contempt=")
        return cls(numbers, names, renames)

    def meanings(self, labels: Iterable[str]) -> dict[str, str]:
        """Return the class of each number among `labels` by `numbers` or `names`.

        Raises:
            DataError: A label is not a number, or has no name.
        """
        labels = sorted(set(labels))
        if wrong := [label for label in labels if not label.isdecimal()]:
            raise DataError(
                f"labels-order is for labels that are numbers, and {shorten(wrong)} is not a number; use "
                "map instead"
            )
        known = dict(self.numbers)
        if self.names:
            found = sorted(int(label) for label in labels)
            first = 0 if found[0] == 0 else 1
            if found[0] > 0 and found[-1] < len(self.names):
                raise DataError(
                    f"the labels are {found[0]} to {found[-1]} and labels-order has {len(self.names)} names, "
                    f"so the first name could mean 0 or 1; write 0={self.names[0]},… or 1={self.names[0]},…"
                )
            known = {str(number): name for number, name in enumerate(self.names, start=first)}
        if missing := [label for label in labels if str(int(label)) not in known]:
            raise DataError(f"labels-order has no name for the label {shorten(missing)}; add one")
        return {label: known[str(int(label))] for label in labels}


def _pairs(text: str, option: str, example: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (each.strip() for each in part.partition("="))
        if not equals or not key:
            raise DataError(f"{option} has {part.strip()!r}; write it as {example}")
        if key in pairs:
            raise DataError(f"{option} names {key!r} twice; remove one")
        pairs[key] = value
    return pairs


@dataclass(frozen=True)
class Classes:
    """The classes of a data set.

    Args:
        names: In the order of the outputs of a model.
        index: The index into `names` of each label of the source; a label that is left out is missing.
        renamed: Labels that the user renamed or left out.
        notes: How the labels were read.
    """

    names: tuple[str, ...]
    index: Mapping[str, int]
    renamed: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def name_classes(
    labels: Iterable[str],
    naming: Naming | None = None,
    *,
    known: str = "",
    kind: str = "labels",
) -> Classes:
    """Return the classes that the labels of a source mean.

    If all labels are numbers they have the meaning that `naming` or `known` gives them; else 0 to 6 mean the
    emotions of FER2013, 1 to 7 those of RAF-DB and 0 to 7 those of AffectNet, with a note. If every name
    spells an emotion, the classes are the emotions; otherwise every name is a class of the user's own.

    Args:
        labels: The labels, as the source writes them.
        naming: What the user says about names.
        known: A key of `LABEL_ORDERS`, if the source is known to be this data set.
        kind: What the labels are, for notes: `labels`, or `folders`.

    Raises:
        DataError: `naming` does not fit the labels, or leaves no class.
    """
    raw = sorted(set(labels))
    naming = naming or Naming()
    notes: list[str] = []
    meanings = {label: label for label in raw}
    if raw and (naming.numbers or naming.names):
        meanings = naming.meanings(raw)
        notes.append(f"the numbers mean (by labels-order): {_read(meanings)}")
    elif raw and all(label.isdecimal() for label in raw):
        source = known or _guess({str(int(label)) for label in raw})
        if source:
            meanings = {label: LABEL_ORDERS[source].get(str(int(label)), label) for label in raw}
            what = "fer2013.csv's labels" if source == "FER2013" else f"the labels of {source}"
            notes.append(f"{kind} named by numbers are read as {what}: {_read(meanings)}")
    renamed = _rename(meanings, naming.renames)
    if raw and not any(meanings.values()):
        raise DataError("map removes every class; keep at least two")
    named = {label: name for label, name in meanings.items() if name}
    spelled = {label: canonical(name) for label, name in named.items()}
    if own := [name for label, name in named.items() if spelled[label] is None]:
        if emotions := [name for label, name in named.items() if spelled[label] is not None]:
            notes.append(
                f"{shorten(sorted(set(own)))}: not an emotion, so all {kind} are own classes, also "
                f"{shorten(sorted(set(emotions)))}"
            )
    else:
        named = {label: emotion for label, emotion in spelled.items() if emotion is not None}
    names = order(sorted(set(named.values())))
    return Classes(
        names, {label: names.index(name) for label, name in named.items()}, frozenset(renamed), tuple(notes)
    )


def _read(meanings: Mapping[str, str]) -> str:
    return ", ".join(f"{label} {meanings[label]}" for label in sorted(meanings, key=int))


def _guess(numbers: set[str]) -> str:
    """Return the data set whose labels these numbers can be, or nothing."""
    if numbers <= LABEL_ORDERS["FER2013"].keys():
        return "FER2013"
    if numbers <= LABEL_ORDERS["RAF-DB"].keys():
        return "RAF-DB"
    if numbers == LABEL_ORDERS["AffectNet"].keys():
        return "AffectNet"
    return ""


def _rename(meanings: dict[str, str], renames: Mapping[str, str]) -> set[str]:
    """Rename classes in `meanings`; return the labels that have another name now."""
    renamed: dict[str, str] = {}
    for key, new in renames.items():
        exact = [label for label, name in meanings.items() if key.lower() in (label.lower(), name.lower())]
        same = canonical(key)
        found = exact or [label for label, name in meanings.items() if same and canonical(name) == same]
        if not found:
            raise DataError(
                f"map renames {key!r}, which the data does not have; "
                f"it has {shorten(sorted(set(meanings.values())), 12)}"
            )
        renamed |= dict.fromkeys(found, new)
    meanings |= renamed
    return set(renamed)


def note_removed(count: int) -> str:
    """Return the note about images of classes that the user removes."""
    return f"{count:,} images of classes that map removes are skipped"


def compile_pattern(text: str | None, option: str, group: str) -> re.Pattern[str] | None:
    """Compile a pattern that finds a part of a file's name.

    Args:
        text: A regular expression with the named group `group`, or with one unnamed group; or None.
        option: The option that it comes from, for errors.
        group: The name of the group.

    Raises:
        DataError: It is not a regular expression, or has no such group.
    """
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise DataError(
            f'{option} is not a regular expression: {error}; write it as "(?P<{group}>[a-z]+)_"'
        ) from None
    if group not in pattern.groupindex and pattern.groups != 1:
        raise DataError(f'{option} has no group named {group}; write it as "(?P<{group}>[a-z]+)_"')
    return pattern


def find_part(pattern: re.Pattern[str], group: str, name: str) -> str | None:
    """Return what the group of a pattern matches anywhere in `name`, or None."""
    match = pattern.search(name)
    if match is None:
        return None
    return match.group(group if group in pattern.groupindex else 1)
