"""Commands for evaluation: `evaluate`, `compare` and `explain`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien import labels
from mien._text import pluralize
from mien.cli import common
from mien.errors import InputError

if TYPE_CHECKING:
    from mien.api import ImageExplanation
    from mien.evaluation.comparison import Comparison
    from mien.evaluation.evaluation import BalanceRow, Evaluation, Interval, TrainingOverlap


IntervalBy = Annotated[
    str | None,
    typer.Option(
        metavar="image|group",
        help="Resample images or groups (persons) for intervals; by default groups if they are known.",
        autocompletion=common.suggest("image", "group"),
    ),
]


@common.reads_data
def evaluate(
    context: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="A run's folder, a model file or a shipped model; several are averaged.",
            autocompletion=common.suggest_model,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="The data set to evaluate on; by default the data of the run."),
    ] = None,
    split: common.SplitName = "val",
    head: common.Head = None,
    report: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write report.json and report.html to this folder.")
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(metavar="FILE[:COLUMN]", help="Evaluate the groups in this csv file separately."),
    ] = None,
    recrops: Annotated[
        bool,
        typer.Option("--recrops", help="In the report, look for re-cropped duplicates; takes minutes."),
    ] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Evaluate corrupted images too; takes 20 times as long.")
    ] = False,
    table: Annotated[
        str | None,
        typer.Option(
            metavar="md|latex",
            help="Print the main figures as a table for a paper.",
            autocompletion=common.suggest("md", "latex"),
        ),
    ] = None,
    views: Annotated[
        int,
        typer.Option(
            metavar="1|2|10",
            help="Average over views: 2 adds mirrored images, 10 also shifts.",
            autocompletion=common.suggest("1", "2", "10"),
        ),
    ] = 1,
    balance: Annotated[
        float,
        typer.Option(
            metavar="T", help="From 0, emotions as frequent as in training, to 1, equally frequent."
        ),
    ] = 0.0,
    prior: common.Prior = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="NAME=EMOTION+...,...", help="Evaluate several emotions as one."),
    ] = None,
    balance_table: Annotated[
        bool, typer.Option("--balance-table", help="Evaluate each output head at several balances.")
    ] = False,
    probabilities: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Write the probabilities to this .npz file, for mien train --teacher."
        ),
    ] = None,
    interval_by: IntervalBy = None,
    votes: common.Votes = None,
    exclude: common.Exclude = None,
    split_seed: common.SplitSeed = 42,
    reading: common.Reading = None,
    json: common.Json = False,
) -> int:
    """Evaluate a model, or the mean of several, on a split of a data set."""
    from mien import api

    others = common.given_options(context, "balance_table", "robustness")
    if table is not None and not json and others:
        raise InputError(f"--table prints one table only, so it cannot be combined with {others}; add --json")
    timer = common.Timer()
    frequent = common.prior_options(balance, prior, group)
    with common.live() as (progress, _):
        result = api.evaluate(
            models,
            data=data,
            split=split,
            head=head,
            report=report,
            groups=groups,
            recrops=recrops,
            robustness=robustness,
            table=table,
            views=views,
            balance=balance,
            prior=frequent["prior"],
            class_groups=frequent["groups"],
            balance_table=balance_table,
            probabilities=probabilities,
            interval_by=interval_by,
            votes=votes,
            exclude=exclude,
            seed=common.if_given(context, "split_seed", split_seed),
            reading=reading,
            progress=progress,
            on_note=common.note,
        )
    found = result.evaluation
    if json:
        common.emit(result.to_dict() | timer.seconds())
    elif result.table is not None:
        common.out.print(result.table, markup=False, end="")
    else:
        print_evaluation(found)
        for path in result.files:
            common.out.print(path, markup=False)
    for sentence in () if found.split_use is None else found.split_use.warnings:
        common.note(sentence)
    return common.SOME_BAD if result.skipped else 0


#: Most classes whose confusion matrix fits a terminal.
_MOST_COLUMNS = 9


def print_evaluation(found: "Evaluation") -> None:
    """Print the figures of an evaluation as tables."""
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
                f"accuracy without {known.total:,} memorised images, n = {known.n}",
                "–" if known.accuracy is None else f"{known.accuracy:.2%}",
                "" if known.accuracy_interval is None else _interval(known.accuracy_interval),
            )
        )
    for name, other in found.heads.items():
        rows.append((f"head {name}: accuracy", f"{other.accuracy:.2%}", _interval(other.accuracy_interval)))
        rows += [(f"head {name}: {what}", value, between) for what, value, between in _agreement(other)]
    common.table(
        f"{found.data}, split {found.split}, head {found.head}, n = {found.n}{found.conditions}",
        ("figure", "value", "95 % interval"),
        rows,
    )
    if found.interval_note:
        common.out.print(f"All {found.interval_note}.", markup=False)
    common.table(
        "By class",
        ("class", "n", "precision", "recall", "F1"),
        [
            (name, str(each.n), *map(_share, (each.precision, each.recall, each.f1)))
            for name, each in found.per_class.items()
        ],
    )
    if len(found.labels) <= _MOST_COLUMNS:
        common.table(
            "Confusion matrix: rows are true classes, columns are predicted classes",
            ("class", *labels.brief(found.labels, 8)),
            [(name, *map(str, counts)) for name, counts in zip(found.labels, found.confusion, strict=True)],
        )
    _print_more(found)
    if found.absent:
        common.note(f"classes without images are not in the means: {', '.join(found.absent)}")


def _print_more(found: "Evaluation") -> None:
    """Print optional measurements, and how often these images were used."""
    if (groups := found.groups) is not None:
        common.table(
            f"By {groups.column} in {groups.file}; {pluralize(groups.unlisted, 'image')} without a group",
            ("group", "n", "accuracy", "95 % interval", "macro F1", "note"),
            [
                (
                    group.name,
                    str(group.n),
                    f"{group.accuracy:.2%}",
                    _interval(group.accuracy_interval),
                    f"{group.macro_f1:.2%}",
                    "too few images" if group.few else "",
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
        rows.append(("mean of all kinds", f"{robustness.mean_of_kinds:.2%}", "", ""))
        common.table("Corrupted images", ("corruption", "accuracy", "95 % interval", "points"), rows)
    if found.training_overlap is not None:
        common.out.print(_without_copies(found.training_overlap), markup=False)
    if found.split_use is not None and (times := found.split_use.times):
        files = found.split_use.models or 0
        common.out.print(
            f"evaluated {pluralize(times, 'time')} on these images so far, "
            f"with {pluralize(files, 'model file')}",
            markup=False,
        )


def _print_balances(rows: "Sequence[BalanceRow]", names: Sequence[str]) -> None:
    """Print a table for each output head: the figures at each balance, then the recall of each class."""
    kinds = dict.fromkeys((row.head, row.against, row.n) for row in rows)
    for head, against, n in kinds:
        truth = "the majority of annotators" if against == "votes" else "the labels"
        common.table(
            f"Head {head} at balance T against {truth}, n = {n}; recall by class",
            ("T", "accuracy", "balanced", "ECE", *labels.brief(names, 8)),
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
        return f"duplicates in the training split were not searched: {found.why}"
    text = f"duplicates in the training split: {found.exact:,} exact, {found.near:,} near"
    if found.recrops is not None:
        text += f", {found.recrops:,} re-cropped"
    rest = found.without_near if found.recrops is None else found.without_recrops
    if rest and found.exact + found.near + (found.recrops or 0):
        between = _interval(rest.accuracy_interval)
        text += f"; accuracy without them {rest.accuracy:.2%} ({between}), n = {rest.n:,}"
    return text


def _agreement(found: "Evaluation") -> list[tuple[str, str, str]]:
    if (agreement := found.agreement) is None:
        return []
    return [
        (
            f"agreement with annotators, n = {agreement.n}",
            f"{agreement.share:.2%}",
            _interval(agreement.interval),
        )
    ]


def _interval(interval: "Interval") -> str:
    low, high = interval
    return f"{low:.2%} to {high:.2%}"


def _share(value: float | None) -> str:
    """Return a fraction in percent, or a dash if it is undefined."""
    return "–" if value is None else f"{value:.1%}"


First = Annotated[
    str,
    typer.Argument(
        metavar="A",
        help="A run's folder, a model file, a shipped model, or probabilities (.npz).",
        autocompletion=common.suggest_model,
    ),
]
Second = Annotated[
    str,
    typer.Argument(
        metavar="B",
        help="The model or probabilities to compare with.",
        autocompletion=common.suggest_model,
    ),
]


@common.reads_data
def compare(
    context: typer.Context,
    a: First,
    b: Second,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA", help="The data set to compare on; by default the data of the first run."
        ),
    ] = None,
    split: common.SplitName = "val",
    head: common.Head = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write a page with the images on which the models disagree."),
    ] = None,
    interval_by: IntervalBy = None,
    votes: common.Votes = None,
    exclude: common.Exclude = None,
    size: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Side of the images in pixels, for two files of probabilities."),
    ] = None,
    split_seed: common.SplitSeed = 42,
    reading: common.Reading = None,
    json: common.Json = False,
) -> int:
    """Compare two models on the same images, with tests of whether the difference is due to chance."""
    from mien import api

    timer = common.Timer()
    common.check_ranges(size=size)
    with common.live() as (progress, _):
        result = api.compare(
            a,
            b,
            data=data,
            split=split,
            head=head,
            html=html,
            interval_by=interval_by,
            votes=votes,
            exclude=exclude,
            size=size,
            seed=common.if_given(context, "split_seed", split_seed),
            reading=reading,
            progress=progress,
            on_note=common.note,
        )
    if json:
        common.emit(result.to_dict() | timer.seconds())
    else:
        _print_comparison(result.comparison)
        if html is not None:
            common.out.print(f"{html}: contains images of the data; protect it like the data", markup=False)
    return common.SOME_BAD if result.skipped else 0


def _print_comparison(found: "Comparison") -> None:
    from mien.evaluation.comparison import class_rows, figure_rows

    # Two models of one name already have letters.
    one, two = (f"{side.name.removesuffix(end)}{end}" for side, end in ((found.a, " (A)"), (found.b, " (B)")))
    common.table(f"{one} and {two}", *figure_rows(found))
    common.table("By class", *class_rows(found))
    both = found.n - len(found.disagreements)
    common.out.print(
        f"The models agree on {both:,} of {pluralize(found.n, 'image')}. Only A is right on "
        f"{found.mcnemar.only_a:,}, only B on {found.mcnemar.only_b:,}.",
        markup=False,
    )
    for note in found.notes:
        common.out.print(f"· {note}", markup=False)
    for warning in found.warnings:
        common.out.print(f"warning: {warning}", markup=False)
    common.out.print(found.verdict, style="bold", markup=False)


def explain(
    context: typer.Context,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="A photo, or a picture of one face with --whole-image.")
    ],
    to: Annotated[Path, typer.Option(metavar="PATH", help="The folder for the pictures.")] = Path(
        "mien-explain"
    ),
    emotion: Annotated[
        str | None,
        typer.Option(metavar="EMOTION", help="Explain this emotion; by default the predicted one."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="cam|occlusion",
            help="cam (fast) or occlusion (sharp, slower); by default cam if the model supports it.",
            autocompletion=common.suggest("cam", "occlusion"),
        ),
    ] = None,
    model: common.ModelOption = None,
    head: common.Head = None,
    detector: common.DetectorName = None,
    min_face: common.MinFace = None,
    min_confidence: common.MinConfidence = 0.0,
    auto_rotate: common.AutoRotate = True,
    whole_image: common.WholeImage = False,
    balance: common.Balance = None,
    prior: common.Prior = None,
    group: common.Group = None,
    json: common.Json = False,
) -> int:
    """Show which pixels of a face support the predicted emotion."""
    from mien import _tables, api

    common.check_whole_image(context, whole_image)
    common.check_ranges(min_face=min_face, min_confidence=min_confidence)
    frequent = common.prior_options(balance, prior, group)
    timer = common.Timer()
    with common.live() as (progress, _):
        found = api.explain(
            image,
            to=to,
            emotion=emotion,
            method=method,
            model=model,
            head=head,
            detector=detector,
            min_face=min_face,
            min_confidence=min_confidence,
            auto_rotate=auto_rotate,
            whole_image=whole_image,
            progress=progress,
            **frequent,
        )
    common.emit(_tables.rounded(found.to_dict()) | timer.seconds()) if json else _print_explanation(found)
    return 0


def _print_explanation(found: "ImageExplanation") -> None:
    from mien.evaluation import explanation

    if not found.faces:
        common.out.print(
            f"{found.source}: no face found; if it is a cropped face, add --whole-image", markup=False
        )
        return
    if found.rotation:
        common.note(
            f"the image was rotated by {found.rotation}° clockwise because the faces were not upright; "
            "--no-auto-rotate turns this off"
        )
    common.table(
        f"{found.source}: explanations",
        ("face", "explained", "score", "predicted", "method", "picture"),
        [
            (
                number,
                face.why.emotion,
                f"{face.why.score:.1%}",
                face.why.answer,
                face.why.method,
                face.file,
            )
            for number, face in enumerate(found.faces, start=1)
        ],
    )
    common.out.print(f"{found.overlay}: the whole image", markup=False)
    for number, face in enumerate(found.faces, start=1):
        if face.why.emotion != face.why.answer and face.why.score < explanation.NEAR_ZERO:
            common.note(
                f"face {number}: the probability of {face.why.emotion} is only {face.why.score:.1%}, so the "
                f"map is almost empty; the prediction is {face.why.answer}"
            )
