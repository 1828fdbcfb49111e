"""The options that several commands share: how frequent emotions are, and which faces are looked for."""

import math
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from mien.errors import InputError

_T = TypeVar("_T")

Balance = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="0: emotions are as frequent as in training; 1: all equally frequent; by default the card's.",
    ),
]
Prior = Annotated[
    str | None,
    typer.Option(
        metavar="EMOTION=SHARE,...",
        help="How frequent emotions are in the images; one that is not named is left out.",
    ),
]
Group = Annotated[
    str | None,
    typer.Option(metavar="NAME=EMOTION+...,...", help="Add up the probabilities of several emotions."),
]
AutoRotate = Annotated[
    bool,
    typer.Option(
        "--auto-rotate/--no-auto-rotate",
        help="If no sure face is found, look at the image in four orientations.",
    ),
]
MinFace = Annotated[
    int | None,
    typer.Option(help="Width in pixels of the smallest face to look for, instead of 30 or a fortieth."),
]
MinConfidence = Annotated[
    float, typer.Option(help="Leave out faces that the detector is less sure of, from 0 to 1.")
]
#: What numbers an option takes: the least, the most, and the words for it.
_RANGES: dict[str, tuple[float, float, str]] = {
    "min_face": (1, math.inf, "the width of a face in pixels, at least 1"),
    "min_confidence": (0, 1, "a number from 0 to 1"),
    "balance": (0, 1, "a number from 0 to 1"),
    "workers": (1, math.inf, "a number of processes, at least 1"),
    "look": (64, math.inf, "the longer side in pixels of what is searched, at least 64"),
    "every": (1, math.inf, "a number of frames, at least 1"),
    "fps": (math.ulp(0.0), math.inf, "frames a second, a number above 0"),
    "seconds": (math.ulp(0.0), math.inf, "a number of seconds above 0"),
    "settle": (0, math.inf, "a number of seconds, at least 0"),
    "patience": (0, math.inf, "a number of seconds, at least 0"),
    "size": (1, math.inf, "the side of an image in pixels, at least 1"),
}


def check(**given: float | None) -> None:
    """Refuse a number that an option does not take, by the name of the option; None passes.

    Raises:
        InputError: A number is out of range, infinite or not a number.
    """
    for name, value in given.items():
        least, most, words = _RANGES[name]
        if value is not None and not (least <= value <= most and value < math.inf):
            raise InputError(f"--{name.replace('_', '-')} is {value}; it must be {words}")


def options(balance: float | None, prior: str | None, group: str | None = None) -> dict[str, Any]:
    """Return what `mien.inference.predictor.Predictor` takes of them.

    Raises:
        InputError: One of them cannot be read, or they do not go together.
    """
    from mien.models import priors

    check(balance=balance)
    if balance and prior is not None:
        raise InputError("--balance and --prior both state how frequent emotions are; give one of them")
    read: dict[str, Any] = {
        "balance": balance,
        "prior": None if prior is None else _read("--prior", priors.parse_prior, prior),
        "groups": None if group is None else _read("--group", priors.parse_groups, group),
    }
    # What can be refused without a model is refused before one is loaded.
    priors.Adjustment(balance=balance or 0.0, prior=read["prior"] or {}, groups=read["groups"] or {})
    return read


def _read(option: str, parse: Callable[[str], _T], text: str) -> _T:
    try:
        return parse(text)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None
