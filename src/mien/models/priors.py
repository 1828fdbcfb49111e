"""Adjust probabilities to images with other frequencies of the emotions than the training data.

    adjustment = priors.Adjustment(balance=1)
    adjustment.apply(probabilities, labels, frequencies)

A model answers as if the emotions in its images were as frequent as in its training data. If they are not,
its probabilities can be corrected outside the model: each is divided by the frequency in training and
multiplied by the frequency in the images, and the sum is made 1 again.
"""

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError
from mien.types import check_column_names

#: The values of `balance` that tables show and cards keep a threshold for.
OFFERED = (0.0, 0.25, 0.5, 0.75, 1.0)
#: The probability that stands for 0, whose logarithm is not finite: the smallest of float32.
_FLOOR = float(np.finfo(np.float32).tiny)

#: Examples of the text form of a prior and of groups, for messages.
_PRIOR, _GROUPS = "angry=0.3,neutral=0.7", "positive=happy,negative=angry+sad"

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Adjustment:
    """What is done to a model's probabilities.

    Args:
        balance: In [0, 1]. Probabilities are divided by the frequency in training to this power. 0 answers
            for images in which emotions are as frequent as in training, 1 for images in which all are
            equally frequent.
        prior: How frequent each emotion is in the images, at least 0; the numbers need not sum to 1. An
            emotion with 0 or without a number is left out. Empty for no prior.
        groups: Emotions whose probabilities are added up, by the name of the group. Emotions in no group
            keep their own names.

    Raises:
        InputError: An argument has another type; the balance is not in [0, 1]; a number of the prior is
            negative or not finite, or all are 0; both are given; a group is empty, has no name or the name of
            another column of tables; or an emotion is in two groups.
    """

    balance: float = 0.0
    prior: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prior", as_prior(self.prior))
        object.__setattr__(self, "groups", as_groups(self.groups))
        if not (is_number(self.balance) and 0 <= self.balance <= 1):
            raise InputError(f"the balance is {self.balance!r}; it must be a number from 0 to 1")
        if self.balance and self.prior:
            raise InputError("balance and prior both set the frequencies of emotions; use one of them")
        for name, share in self.prior.items():
            if not 0 <= share < math.inf:
                raise InputError(f"the prior of {name!r} is {share}; it must be a number of at least 0")
        if self.prior and not any(self.prior.values()):
            raise InputError("the prior is 0 for all emotions; give at least one a number above 0")
        owner: dict[str, str] = {}
        check_column_names(self.groups, what="group", remedy="choose another name")
        for group, members in self.groups.items():
            if not members:
                raise InputError(f"the group {group!r} has no emotion; name at least one")
            for name in members:
                if name in owner:
                    raise InputError(
                        f"the emotion {name!r} is in two groups, {owner[name]!r} and {group!r}; name it once"
                        if owner[name] != group
                        else f"the group {group!r} names the emotion {name!r} twice; name it once"
                    )
                owner[name] = group

    @property
    def changes(self) -> bool:
        """Whether `apply` changes any probability."""
        return bool(self.balance or self.prior)

    @property
    def is_identity(self) -> bool:
        """Whether `apply` and `group` leave the probabilities of a model as they are."""
        return not (self.changes or self.groups)

    def check(self, labels: Sequence[str], frequencies: Sequence[float]) -> None:
        """Make sure that this can be done to a model's answers.

        Args:
            labels: The model's k labels.
            frequencies: Of its training targets `(k,)`; empty if unknown.

        Raises:
            InputError: The prior or a group names an emotion that the model does not answer; a group has the
                name of an emotion outside it; the frequencies are needed and unknown; or the prior is above 0
                only for emotions that training did not hold.
        """
        known = ", ".join(labels)
        for name in (*self.prior, *(name for members in self.groups.values() for name in members)):
            if name not in labels:
                raise InputError(f"the model has no emotion {name!r}; choose from {known}")
        grouped = {name for members in self.groups.values() for name in members}
        for group in self.groups:
            if group in labels and group not in grouped:
                raise InputError(
                    f"the group {group!r} has the name of an emotion that is in no group; add the emotion "
                    "to a group, or choose another name"
                )
        if not self.changes:
            return
        if len(frequencies) != len(labels):
            raise InputError(
                "the model card has no frequencies of the emotions in training, so balance and prior cannot "
                "be used; create the model again with mien train or mien ship"
            )
        if self.prior and not any(
            self.prior.get(name, 0) and share for name, share in zip(labels, frequencies, strict=True)
        ):
            raise InputError(
                "the prior is 0 for every emotion that the training data has; set one of these above 0"
            )

    def apply(self, probabilities: Floats, labels: Sequence[str], frequencies: Sequence[float]) -> Floats:
        """Return the probabilities for images with other frequencies; groups are left to `group`.

        An emotion that training did not hold gets 0, because nothing is known about it.

        Args:
            probabilities: `(n, k)` in [0, 1], each row summing to 1.
            labels: The k labels.
            frequencies: Of the training targets `(k,)`, summing to 1; empty if unknown.

        Returns:
            `(n, k)` of the same type, each row summing to 1; the same array if nothing changes.

        Raises:
            InputError: As `check`.

        Source: Saerens et al. 2002, doi:10.1162/089976602753284446, equation 2.4.
        """
        self.check(labels, frequencies)
        if not self.changes:
            return probabilities
        had = np.asarray(frequencies, np.float64)
        if self.prior:
            wanted = np.array([self.prior.get(name, 0.0) for name in labels])
            kept = (had > 0) & (wanted > 0)
            shift = np.log(wanted[kept]) - np.log(had[kept])
        else:
            kept = had > 0
            shift = -self.balance * np.log(had[kept])
        logits = np.full(probabilities.shape, -np.inf)
        logits[:, kept] = np.log(np.maximum(probabilities[:, kept], _FLOOR)) + shift
        logits -= logits.max(axis=1, keepdims=True)
        chances = np.exp(logits)
        chances /= chances.sum(axis=1, keepdims=True)
        adjusted: Floats = chances.astype(probabilities.dtype)
        return adjusted

    def names(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Return what `group` answers: the groups, then the emotions that are in none."""
        grouped = {name for members in self.groups.values() for name in members}
        return (*self.groups, *(label for label in labels if label not in grouped))

    def members(self, labels: Sequence[str]) -> NDArray[np.float64]:
        """Return which labels each of `names` adds up, `(k, names)` of 0 and 1."""
        names = self.names(labels)
        table = np.zeros((len(labels), len(names)))
        for column, name in enumerate(names):
            for label in self.groups.get(name, (name,)):
                table[labels.index(label), column] = 1
        return table

    def group(self, probabilities: Floats, labels: Sequence[str]) -> Floats:
        """Return the probabilities `(n, names)` of the groups and of emotions in none."""
        if not self.groups:
            return probabilities
        sums = probabilities @ self.members(labels)
        added: Floats = np.minimum(sums, 1).astype(probabilities.dtype)  # a rounded sum can exceed 1
        return added

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "balance": self.balance,
            "prior": dict(self.prior),
            "groups": {name: list(members) for name, members in self.groups.items()},
        }


def is_number(value: object) -> bool:
    """Return whether a value is a real number of Python or NumPy, which can be compared with others."""
    return isinstance(value, numbers.Real)


def as_prior(prior: Mapping[str, float] | str | None) -> dict[str, float]:
    """Return a prior as numbers by emotion.

    Args:
        prior: Numbers by emotion; or the text that `parse_prior` reads; None for no prior, `{}`.

    Raises:
        InputError: It has another form. `Adjustment` checks the range of the numbers.
    """
    if prior is None:
        return {}
    if isinstance(prior, str):
        return parse_prior(prior)
    if not isinstance(prior, Mapping):
        raise InputError(
            f"the prior is {prior!r}; give numbers by emotion such as {{'angry': 0.3, 'neutral': 0.7}}, or "
            f"text such as {_PRIOR}"
        )
    for name, share in prior.items():
        if not is_number(share):
            raise InputError(f"the prior of {name!r} is {share!r}; it must be a number of at least 0")
    return dict(prior)


def as_groups(groups: Mapping[str, Sequence[str]] | str | None) -> dict[str, tuple[str, ...]]:
    """Return groups as emotions by the name of the group.

    Args:
        groups: Emotions by group, a group with one emotion may be a str; or the text that `parse_groups`
            reads; None for no groups, `{}`.

    Raises:
        InputError: It has another form.
    """
    if groups is None:
        return {}
    if isinstance(groups, str):
        return parse_groups(groups)
    wrong = InputError(
        f"the groups are {groups!r}; give emotions by group such as {{'negative': ('angry', 'sad')}}, or "
        f"text such as {_GROUPS}"
    )
    if not isinstance(groups, Mapping):
        raise wrong
    found: dict[str, tuple[str, ...]] = {}
    for name, members in groups.items():
        if not (isinstance(name, str) and name.strip() and isinstance(members, Iterable)):
            raise wrong
        found[name] = (members,) if isinstance(members, str) else tuple(members)
        if not all(isinstance(each, str) for each in found[name]):
            raise wrong
    return found


def parse_prior(text: str) -> dict[str, float]:
    """Read a prior such as `angry=0.3,neutral=0.7`.

    Raises:
        InputError: It is not of that form, or names an emotion twice.
    """
    found: dict[str, float] = {}
    for name, value in _pairs(text, _PRIOR):
        if name in found:
            raise InputError(f"the prior names the emotion {name!r} twice; name it once")
        try:
            found[name] = float(value)
        except ValueError:
            raise InputError(f"the prior of {name!r} is {value!r}; it must be a number") from None
    return found


def parse_groups(text: str) -> dict[str, tuple[str, ...]]:
    """Read groups such as `positive=happy,negative=angry+sad`.

    Raises:
        InputError: It is not of that form, names a group twice, or has nothing on one side of a +.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, value in _pairs(text, _GROUPS):
        if name in found:
            raise InputError(f"the group {name!r} is named twice; join its emotions with +")
        found[name] = tuple(each.strip() for each in value.split("+"))
        if not all(found[name]):
            raise InputError(f"{text!r} cannot be read; write it like {_GROUPS}")
    return found


def _pairs(text: str, example: str) -> list[tuple[str, str]]:
    pairs = []
    for part in text.split(","):
        name, sign, value = (each.strip() for each in part.partition("="))
        if not (name and sign and value):
            raise InputError(f"{text!r} cannot be read; write it like {example}")
        pairs.append((name, value))
    return pairs
