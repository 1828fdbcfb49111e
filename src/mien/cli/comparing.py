"""The command about two models: `compare`."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli import bases, homes, outputs, screen, stated
from mien.cli.data import Exclude, Json, SplitSeed, Votes
from mien.cli.model import is_run
from mien.cli.training import SOME_BAD, load, load_again
from mien.errors import DataError, InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mien.data.datasets import Dataset, Split
    from mien.data.probabilities import Stored
    from mien.evaluation.comparison import Answers, Comparison
    from mien.models.model import Bundle


First = Annotated[
    Path,
    typer.Argument(
        parser=bases.called, help="A run, a bundle, a model.onnx, a shipped name, or probabilities (.npz)."
    ),
]
Second = Annotated[Path, typer.Argument(parser=bases.called, help="What to compare it with: any of these.")]


def compare(
    context: typer.Context,
    a: First,
    b: Second,
    data: Annotated[Path | None, typer.Option(help="Data to compare on; a run knows its own.")] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    labels: Annotated[
        str | None, typer.Option(help="Which reading answers, such as fer2013 or consensus.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with pictures of where the two part.")
    ] = None,
    votes: Votes = None,
    exclude: Exclude = None,
    size: Annotated[
        int | None, typer.Option(help="Pixels a side that two files of probabilities were made with.")
    ] = None,
    split_seed: SplitSeed = 42,
    json: Json = False,
) -> int:
    """Say whether one model beats another, on the same images."""
    from mien.evaluation import comparison as room

    timer = screen.Timer()
    stated.check(size=size)
    home = next((path for path in (a, b) if data is None and is_run(path)), None)
    own = () if home is None else outputs.of_run(home)
    outputs.spare({f"--html {html}": html}, (a, b, data, votes, *(exclude or ()), *own))
    sides = [_open(path) for path in (a, b)]
    sizes = _sizes(sides, size)
    origin = {"votes": votes, "exclude": exclude, "seed": split_seed}
    sets = _read(context, (a, b), data, sizes, origin, split=split)
    first = sets[sizes[0]]
    part = first.split(split)
    one, other = (
        _ask(side, path, sets[own].split(split), labels)
        for side, path, own in zip(sides, (a, b), sizes, strict=True)
    )
    learnt = [_learnt(each, sets[own]) for each, own in zip((one, other), sizes, strict=True)]
    found = room.weigh(
        one,
        other,
        part,
        labels=first.labels,
        data=first.root,
        copies=_copies(first, part),
        learnt=all(learnt),
        known=_known(sides, [sets[own].split(split) for own in sizes]),
    )
    found = _count(found, zip((a, b), sides, (one, other), strict=True))
    document: dict[str, Any] = found.to_dict()
    if html is not None:
        room.page(found, part, html)
        document["html"] = str(html)
    if json:
        screen.emit(document | timer.seconds())
    else:
        _tell(found, html)
    return SOME_BAD if first.problems else 0


def _open(path: Path) -> "Bundle | Stored":
    from mien.data import probabilities
    from mien.models import model as bundle

    if path.suffix == ".npz":
        return probabilities.read(path)
    return bundle.load(path)


def _sizes(sides: list["Bundle | Stored"], size: int | None) -> list[int]:
    """Return the size of the images that each is asked about; probabilities go by the model beside them."""
    from mien.models.model import Bundle

    own = [side.card.size if isinstance(side, Bundle) else None for side in sides]
    if size is not None and None not in own:
        raise InputError("--size is for files of probabilities; models know the size they take")
    other = size or next((each for each in own if each is not None), 48)
    return [each or other for each in own]


def _read(
    context: typer.Context,
    paths: tuple[Path, Path],
    data: Path | None,
    sizes: list[int],
    origin: dict[str, Any],
    *,
    split: str,
) -> dict[int, "Dataset"]:
    """Load the data in each size that is needed."""
    if data is not None:
        return {size: load(data, size=size, **origin) for size in dict.fromkeys(sizes)}
    path = next((path for path in paths if is_run(path)), None)
    if path is None:
        raise InputError(f"neither {paths[0]} nor {paths[1]} knows its data; name it with --data")
    if given := screen.given(context, "votes", "exclude", "split_seed"):
        raise InputError(f"{path} is a run, which knows how its data was read; {given} needs --data")
    from mien.training import runs as run

    made = run.open_run(path)
    known = made.facts()["data"]["origin"]
    listed = known.get("exclude") or []
    gone = [each for each in ([listed] if isinstance(listed, str) else listed) if not Path(each).is_file()]
    if gone and split != "train":  # what was left out of training changes neither val nor test
        screen.note(f"{gone[0]} is gone, so training is looked at with what was left out of it")
        known |= {"exclude": None}
    own = load_again(made, None, known)
    usual = made.recipe().size
    more = {size: load(Path(known["source"]), size=size, **known) for size in {*sizes} - {usual}}
    return {usual: own, **more}


def _ask(side: "Bundle | Stored", path: Path, part: "Split", labels: str | None) -> "Answers":
    from mien.evaluation import comparison as room
    from mien.models.model import Bundle

    if isinstance(side, Bundle):
        name = path.resolve().name if is_run(path) else side.card.name
        with screen.bar(f"asking {name}") as progress:
            return room.ask(side, part, reading=labels, name=name, progress=progress)
    try:
        return room.stored(side, part, reading=labels, name=path.stem)
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from error


def _count(found: "Comparison", sides: Iterable[tuple[Path, "Bundle | Stored", "Answers"]]) -> "Comparison":
    """Count the comparison as a scoring in each run that it was of, and warn where it is not the first."""
    from mien.models.model import Bundle

    told: list[str] = []
    for path, side, answers in sides:
        if not isinstance(side, Bundle):
            continue
        facts = {"split": found.split, "data": found.data, "n": found.n, "bundle": answers.model}
        facts |= {"split_fingerprint": answers.fingerprint}
        uses = homes.count(path, side, facts, what="the comparison")
        if uses is not None and uses.role not in ("train", "val"):
            told += uses.warnings
    return replace(found, warnings=(*found.warnings, *dict.fromkeys(told)))


def _learnt(answers: "Answers", dataset: "Dataset") -> bool:
    """Say whether a model learnt from this very training split, as far as its card tells."""
    return dataset.train is not None and answers.made_with.get(dataset.train.fingerprint) == "train"


def _known(sides: "list[Bundle | Stored]", parts: "list[Split]") -> "npt.NDArray[np.bool_] | None":
    """Say which images a model learnt from, by the hashes that it ships with; None where neither has any."""
    from mien.evaluation.evaluator import knows
    from mien.models.model import Bundle

    known = None
    for side, part in zip(sides, parts, strict=True):
        found = knows(side, part.images) if isinstance(side, Bundle) else None
        if found is not None:
            own = found[0] | found[1]
            known = own if known is None else known | own
    return known


def _copies(dataset: "Dataset", part: "Split") -> "npt.NDArray[np.bool_] | None":
    """Say which images of the split stand in train too, to the last bit."""
    import numpy as np

    if dataset.train is None or part.name == "train":
        return None
    there = {image.tobytes() for image in dataset.train.images}
    return np.array([image.tobytes() in there for image in part.images], bool)


def _tell(found: "Comparison", html: Path | None) -> None:
    from mien.evaluation.comparison import html as web

    # Two of one name were told apart by their letters already.
    one, two = (f"{side.name.removesuffix(end)}{end}" for side, end in ((found.a, " (A)"), (found.b, " (B)")))
    screen.table(f"{one} against {two}", *web.figures(found))
    screen.table("Each class", *web.classes(found))
    both = found.n - len(found.disagreements)
    screen.out.print(
        f"They name {both:,} of {found.n:,} images alike; {found.mcnemar.only_a:,} only A names right, "
        f"{found.mcnemar.only_b:,} only B.",
        markup=False,
    )
    for note in found.notes:
        screen.out.print(f"· {note}", markup=False)
    for warning in found.warnings:
        screen.out.print(f"warning: {warning}", markup=False)
    screen.out.print(found.verdict, style="bold", markup=False)
    if html is not None:
        screen.out.print(f"{html}: a page with pictures of the data; treat it like the data", markup=False)
