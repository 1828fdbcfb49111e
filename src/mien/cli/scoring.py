"""The command that scores a model: `evaluate`."""

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli import bases, homes, outputs, scores, screen, stated
from mien.cli.data import Exclude, Json, SplitSeed, Votes
from mien.cli.model import is_run
from mien.cli.training import SOME_BAD, load
from mien.errors import InputError, TrainingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mien.data.datasets import Dataset
    from mien.evaluation.evaluator import Answers, Known, Listing, Uses
    from mien.models.model import Bundle

#: What of a report is for looking at, and no part of what a run keeps.
_SHOWN = ("worst", "uncertain", "report", "table", "balance_table")


def evaluate(
    context: typer.Context,
    models: Annotated[
        list[Path],
        typer.Argument(parser=bases.called, help="Runs, bundles, model.onnx files; several are averaged."),
    ],
    data: Annotated[Path | None, typer.Option(help="Data to score on; a run knows its own.")] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    labels: Annotated[
        str | None, typer.Option(help="Which reading answers, such as fer2013 or consensus.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write report.json and report.html into this folder.")
    ] = None,
    groups: Annotated[
        str | None, typer.Option(metavar="FILE[:COLUMN]", help="Score the groups of this csv by themselves.")
    ] = None,
    recuts: Annotated[
        bool, typer.Option("--recuts", help="In a report, look for photographs cut otherwise; takes minutes.")
    ] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Score disturbed images too; takes 20 times as long.")
    ] = False,
    table: Annotated[
        str | None, typer.Option(help="Print the main results for a paper: md or latex.")
    ] = None,
    views: Annotated[
        int, typer.Option(metavar="1|2|10", help="Average over mirrored, or mirrored and moved, images too.")
    ] = 1,
    balance: Annotated[
        float,
        typer.Option(
            metavar="T", help="0: emotions are as frequent as in training; 1: all equally frequent."
        ),
    ] = 0.0,
    prior: stated.Prior = None,
    balance_table: Annotated[
        bool, typer.Option("--balance-table", help="Show every reading at every balance that is offered.")
    ] = False,
    probabilities: Annotated[
        Path | None, typer.Option(help="Keep the answers in this .npz file, to distil from.")
    ] = None,
    votes: Votes = None,
    exclude: Exclude = None,
    split_seed: SplitSeed = 42,
    json: Json = False,
) -> int:
    """Score what ships on a split: one model, or the mean of several."""
    from mien.evaluation import evaluator as room
    from mien.models import model as bundle

    timer = screen.Timer()
    _check(table, report, views, robustness=robustness, recuts=recuts)
    frequent = stated.options(balance, prior)
    shipped = balance == 0 and prior is None
    _check_stated(models, report, probabilities, shipped=shipped, robustness=robustness, table=balance_table)
    _spare(report, probabilities, models, (data, votes, *(exclude or ())), groups=groups)
    listed = None if groups is None else room.listing(groups)
    loaded = [bundle.load(path) for path in models]
    _check_models(models, loaded, probabilities, recuts=recuts)
    origin = {"votes": votes, "exclude": exclude, "seed": split_seed}
    dataset = _data(context, models, loaded, data, origin, whole=bool(report) or split == "train")
    if listed is not None:
        room.members(listed, dataset.split(split).files)
    document = _judge(answers := _ask(loaded, dataset, split, labels, views, frequent))
    if balance_table:
        document["balance_table"] = _balances(loaded[0], answers)
    uses = _count(models, loaded, document, known := room.known(loaded, answers[0]))
    _keep_answers(loaded, answers, probabilities)
    asked: dict[str, Any] = {
        "robustness": robustness,
        "recuts": recuts,
        "report": report,
        "table": table,
        "known": known,
    }
    document |= _more(loaded, dataset, answers, document, uses, listed=listed, **asked)
    _keep(models, document)
    _tell(document, timer, (*uses.warnings, *_strangers(models, loaded)), json=json)
    return SOME_BAD if dataset.problems else 0


def _tell(document: dict[str, Any], timer: screen.Timer, notes: tuple[str, ...], *, json: bool) -> None:
    if json:
        screen.emit(document | timer.seconds())
    else:
        scores.tell(document)
    for sentence in notes:
        screen.note(sentence)


def _check(table: str | None, report: Path | None, views: int, *, robustness: bool, recuts: bool) -> None:
    """Refuse what would only fail after the work is done."""
    from mien.evaluation import evaluator as evaluate
    from mien.reports import evaluation_report as room

    if views not in evaluate.VIEWS:
        raise InputError(f"--views takes {', '.join(map(str, evaluate.VIEWS))}, not {views}")
    if views > 1 and (report is not None or robustness):
        raise InputError(
            "--report and --robustness are of a model that is asked once an image; leave --views out"
        )

    if recuts and report is None:
        raise InputError("--recuts changes what a report holds; name a folder for it with --report")
    if table is not None and table not in room.FORMATS:
        raise InputError(f"--table takes {' or '.join(room.FORMATS)}, not {table!r}")
    if report is not None and report.exists() and not report.is_dir():
        raise InputError(f"--report {report} is a file; name a folder for the report")


def _check_models(
    models: list[Path], loaded: list["Bundle"], probabilities: Path | None, *, recuts: bool
) -> None:
    """Refuse what these models cannot give, before they are asked."""
    from mien.data import duplicates

    if recuts and (size := loaded[0].card.size) < duplicates.SMALLEST:
        raise InputError(
            f"--recuts looks at images of {duplicates.SMALLEST} pixels a side or more, and the model takes "
            f"{size}; leave --recuts out"
        )
    if probabilities is None:
        return
    by_labels = [
        next((name for name, reading in each.card.readings.items() if reading.output == "probabilities"), "")
        for each in loaded
    ]
    for path, name in zip(models, by_labels, strict=True):
        if name != by_labels[0]:
            raise InputError(
                f"--probabilities keeps what all models say, but {models[0]} reads a face as "
                f"{by_labels[0]!r} and {path} as {name!r}; keep a file of each and name both to --teacher"
            )


def _spare(
    report: Path | None,
    probabilities: Path | None,
    models: list[Path],
    read: tuple[Path | None, ...],
    *,
    groups: str | None,
) -> None:
    """Refuse outputs that cannot be written, or would be over what is scored or what it is scored on."""
    from mien.reports import evaluation_report as room

    # Path.is_dir raises over a name that no system holds; whoever opens it says so.
    if probabilities is not None and os.path.isdir(probabilities):  # noqa: PTH112
        raise InputError(f"--probabilities {probabilities} is a folder; name a file for the answers")
    written = {f"--probabilities {probabilities}": probabilities}
    if report is not None:
        names = (room.JSON, room.HTML, *(f"table{suffix}" for suffix in room.FORMATS.values()))
        written |= {f"{report / name}, of --report,": report / name for name in names}
    inputs = [*models, *read]
    if groups is not None:  # with a column's name after it, or without
        inputs += [Path(name) for name in (groups, groups.rpartition(":")[0]) if name]
    if read[0] is None and is_run(models[0]):
        inputs += outputs.of_run(models[0])
    outputs.spare(written, inputs)


def _data(
    context: typer.Context,
    models: list[Path],
    loaded: list["Bundle"],
    data: Path | None,
    origin: dict[str, Any],
    *,
    whole: bool,
) -> "Dataset":
    """Load the data to score on: those that were named, or those that a run knows."""
    if is_run(models[0]) and (data is None or len(models) == 1):
        return _data_of_run(context, models[0], data, whole=whole)
    if data is None:
        raise InputError(f"{models[0]} does not know its data; name it with --data")
    return load(data, size=loaded[0].card.size, **origin)


def _data_of_run(context: typer.Context, path: Path, data: Path | None, *, whole: bool) -> "Dataset":
    """Load the data that a run was trained on; with `whole`, its training split as it was.

    What was left out of training changes neither val nor test, so that without `whole` the lists of it need
    not be there any more.
    """
    from mien.training import runs as run

    if given := screen.given(context, "votes", "exclude", "split_seed"):
        raise InputError(
            f"{path} is a run, which knows how its data was read; it takes no {given}, and {path / 'bundle'} "
            "with --data does"
        )
    made = run.open_run(path)
    origin = made.facts()["data"]["origin"]
    if not whole:
        origin |= {"exclude": None}
    return homes.as_trained(made, data, origin | ({"votes": None} if data else {}))


def _ask(
    loaded: list["Bundle"],
    dataset: "Dataset",
    split: str,
    labels: str | None,
    views: int,
    frequent: dict[str, Any],
) -> list["Answers"]:
    """Ask about one split, with a progress bar: as the reading that was named, then as the others."""
    from mien.evaluation import evaluator as room

    readings = loaded[0].card.readings
    shared = [name for name in readings if all(name in each.card.readings for each in loaded)]
    chosen = labels or next(iter(readings))
    found = []
    for name in (chosen, *(name for name in shared if name != chosen)):
        with screen.bar(f"scoring {split} as {name}") as progress:
            found.append(
                room.answer(
                    loaded,
                    dataset.split(split),
                    labels=dataset.labels,
                    reading=name if labels or len(shared) > 1 else None,
                    data=dataset.root,
                    views=views,
                    progress=progress,
                    balance=frequent["balance"],
                    prior=frequent["prior"],
                )
            )
    return found


def _check_stated(
    models: list[Path],
    report: Path | None,
    probabilities: Path | None,
    *,
    shipped: bool,
    robustness: bool,
    table: bool,
) -> None:
    """Refuse what is of the model as it ships, together with a balance or a prior."""
    if not shipped and (report is not None or probabilities is not None or robustness or table):
        raise InputError(
            "--report, --robustness, --probabilities and --balance-table are of the model as it ships; leave "
            "--balance and --prior out"
        )
    if table and len(models) > 1:
        raise InputError("--balance-table is of one model; name one alone")


def _balances(model: "Bundle", answers: list["Answers"]) -> list[dict[str, Any]]:
    from mien.evaluation import evaluator as evaluate

    frequencies = {name: reading.frequencies for name, reading in model.card.readings.items()}
    return [row.to_dict() for row in evaluate.balance_table(answers, frequencies)]


def _judge(answers: list["Answers"]) -> dict[str, Any]:
    """Return the report as plain values; those of the other readings stand under `readings`."""
    from mien.evaluation import evaluator as room

    first, *others = (room.judge(each).to_dict() for each in answers)
    return first | {"readings": {each["reading"]: each for each in others}}


def _count(
    paths: list[Path], loaded: list["Bundle"], document: dict[str, Any], learnt: "Known | None"
) -> "Uses":
    """Count the scoring in every run that it is one of; the document is told the worst to know of them."""
    from mien.evaluation import evaluator as room

    found = []
    for path, model in zip(paths, loaded, strict=True):
        known = homes.count(path, model, document, what="the scoring")
        own = (document["split_fingerprint"], document["split"], document["data"])
        found.append(known or room.role(model.card, *own))
    ranks = ("train", "val", "unknown", "other")
    worst = min(found, key=lambda each: (ranks.index(each.role), -(each.times or 0)))
    told = replace(worst, warnings=tuple(dict.fromkeys(text for each in found for text in each.warnings)))
    told = room.warned(told, learnt)
    document |= {"uses": asdict(told), "known": None if learnt is None else asdict(learnt)}
    return told


def _strangers(paths: list[Path], loaded: list["Bundle"]) -> list[str]:
    """Name the runs whose bundle is another file than their training shipped."""
    from mien.training import runs as run

    found = []
    for path, model in zip(paths, loaded, strict=True):
        shipped = run.open_run(path).facts().get("shipped", {}) if is_run(path) else {}
        if shipped.get("sha256", model.card.sha256) != model.card.sha256:
            found.append(f"{path / 'bundle'} is not the model that this training shipped; the scores are its")
    return found


def _keep(paths: list[Path], report: dict[str, Any]) -> None:
    """Keep a run's report and its figures in it; where that cannot be, the report is shown all the same.

    What a run keeps is of its model as it ships, asked once an image.
    """
    from mien.cli import figures
    from mien.training import runs as run

    stated_otherwise = report["balance"] or report["prior"]
    if len(paths) > 1 or report["views"] > 1 or stated_otherwise or not is_run(paths[0]):
        return
    made = run.open_run(paths[0])
    try:
        figures.draw_report(made, made.keep_report({key: report[key] for key in report if key not in _SHOWN}))
    except TrainingError as error:
        screen.note(f"the report is not kept: {error}")


def _keep_answers(loaded: list["Bundle"], answers: list["Answers"], to: Path | None) -> None:
    """Keep what the models say of the images, if a file was named for it."""
    from mien.data import probabilities

    if to is None:
        return
    card = loaded[0].card
    kept: dict[str, Any] = {
        card.reading(each.reading).output: each.probabilities
        for each in answers
        if all(each.reading in model.card.readings for model in loaded)
    }
    about = " + ".join(each.card.name for each in loaded)
    if answers[0].views > 1:
        about += f", {answers[0].views} views"
    probabilities.write(
        to,
        probabilities.Stored(answers[0].split.fingerprint, card.labels, kept, f"{about}, asked directly"),
    )


def _more(
    loaded: list["Bundle"],
    dataset: "Dataset",
    answers: list["Answers"],
    document: dict[str, Any],
    uses: "Uses",
    *,
    listed: "Listing | None",
    robustness: bool,
    recuts: bool,
    report: Path | None,
    table: str | None,
    known: "Known | None",
) -> dict[str, Any]:
    """Measure what was asked for beyond the report's figures, and write the report's folder."""
    from mien.evaluation import evaluator as evaluate
    from mien.reports import evaluation_report as room

    first, *others = answers
    found: dict[str, Any] = {}
    with screen.live() as (move, _):
        if report is not None:
            found = room.measure(
                loaded,
                dataset,
                first,
                uses=uses,
                known=known,
                listing=listed,
                robust=robustness,
                recut=recuts,
                others=others,
                progress=move,
            )
        else:
            if listed is not None:
                shares = first.probabilities
                parted = evaluate.separate(listed, first.split.files, shares, first.truth, first.names)
                found["groups"] = asdict(parted)
            if robustness:
                found["robustness"] = room.robustness(loaded, first, progress=move)
        told = {} if table is None else {"table": room.table(document | found, table)}
        if report is None:
            return found | told
        texts = {f"table{room.FORMATS[str(table)]}": text for text in told.values()}
        maps = _maps(loaded, first, found["worst"] + found["uncertain"])
        written = room.write(found, first, report, maps=maps, more=texts)
        return found | told | {"report": [str(path) for path in written]}


def _maps(
    loaded: list["Bundle"], answers: "Answers", told: "list[dict[str, Any]]"
) -> "dict[int, NDArray[np.uint8]]":
    """Show which pixels made a model answer so, by the images' places; a mean of models has no such map."""
    from mien.evaluation import explanation as explain

    if len(loaded) > 1:
        return {}
    maps = {}
    for each in told:
        image = answers.split.images[each["place"]]
        why = explain.face(loaded[0], image, emotion=each["answer"], labels=answers.reading or None)
        maps[each["place"]] = explain.overlay(image[:, :, 0], [((0.0, 0.0, float(len(image))), why)])
    return maps
