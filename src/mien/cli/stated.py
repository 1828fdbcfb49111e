"""Options that several commands share: `--balance`, `--prior`, `--group` and `--no-auto-rotate`."""

from typing import Annotated, Any

import typer

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


def options(balance: float | None, prior: str | None, group: str | None = None) -> dict[str, Any]:
    """Return what `mien.predict.Predictor` takes of them.

    Raises:
        InputError: One of them cannot be read, or they do not go together.
    """
    from mien import priors

    read: dict[str, Any] = {
        "balance": balance,
        "prior": None if prior is None else priors.parse_prior(prior),
        "groups": None if group is None else priors.parse_groups(group),
    }
    # What can be refused without a model is refused before one is loaded.
    priors.Adjustment(balance=balance or 0.0, prior=read["prior"] or {}, groups=read["groups"] or {})
    return read
