"""What was measured, in tables: the sections on metrics and on their values."""

from collections.abc import Iterator, Sequence

from mien.evaluation.calibration import FEW
from mien.evaluation.evaluation import Calibration, Evaluation, Figures
from mien.release.evidence import Evidence
from mien.release.model_cards.markdown import (
    NONE,
    bullets,
    code,
    count,
    listed,
    measured,
    paragraph,
    plain,
    share,
    table,
)
from mien.release.model_cards.statements import ECE, INTERVAL

#: Classes whose confusion is still a readable table.
_MOST_COLUMNS = 12
#: Groups whose figures still are.
_MOST_GROUPS = 24


def metrics(models: Sequence[Evidence]) -> list[str]:
    """Say what is measured, and how sure the figures are."""
    findings = [finding for model in models for finding in model.evaluations]
    bins = listed(sorted({str(len(finding.reliability)) for finding in findings}))
    points = [
        "**accuracy**: share of images answered with the label of the data set, every image counting once.",
        "**balanced accuracy, macro F1**: means of recall and of F1 over classes, every class counting once, "
        f"and so showing what accuracy hides in rare ones.{_rarest(findings)}",
        "**NLL, Brier**: how surprising the labels are to the probabilities (nats), and their squared error.",
        f"**ECE**: how far confidence is from accuracy, over {bins or 'equal'} bins of equal width ({ECE}).",
    ]
    if any(finding.agreement for finding in findings):
        points.insert(
            1,
            "**agreement**: share of images answered with what most of FER+'s taggers saw; images where "
            "that is none of the classes do not count.",
        )
    if any(finding.calibration for finding in findings) or any(
        head.threshold is not None for model in models for head in model.card.heads.values()
    ):
        points.append(
            "**threshold**: confidence under which an answer counts as uncertain; chosen for the share of "
            "images that it answers."
        )
    return [
        bullets(points),
        paragraph(
            f"Intervals are {INTERVAL}, in parentheses: Wilson's for shares of images, bootstrapped over "
            "images for means over classes."
        ),
    ]


def analyses(models: Sequence[Evidence]) -> list[str]:
    """Give every figure: of heads, of confidence, of int8, of each class."""
    if not any(model.evaluations for model in models):
        return ["Nothing was scored yet: `mien evaluate RUN` does that."]
    return [
        *_scores(models),
        *_missing(models),
        *_began(models),
        *_new(models),
        *_calibrations(models),
        *_int8(models),
        *_groups(models),
        *(block for model in models for block in _classes(model)),
    ]


def _each(models: Sequence[Evidence]) -> Iterator[tuple[Evidence, Evaluation, tuple[str, str, str]]]:
    """Yield every finding with the cells that name it."""
    for model in models:
        for finding in model.evaluations:
            report = finding
            yield model, finding, (code(model.card.name), code(report.head), plain(_split(model, report)))


def _split(model: Evidence, report: Evaluation) -> str:
    """Name a split, with its data where these are not the model's own."""
    own = model.card.data is not None and report.data == model.card.data.name
    return report.split if own else f"{report.split} of {report.data}"


def _rarest(findings: Sequence[Evaluation]) -> str:
    """Give an example of what accuracy hides."""
    for finding in findings:
        there = {name: each.n for name, each in finding.per_class.items() if each.n}
        name = min(there, key=lambda label: there[label], default="")
        return name and f" The rarest here, {plain(name)}, is {count(there[name])} of {count(finding.n)}."
    return ""


def _scores(models: Sequence[Evidence]) -> list[str]:
    rows, more = [], []
    for _, finding, named in _each(models):
        report, agreement = finding, finding.agreement
        rows.append(
            (
                *named,
                count(report.n),
                measured(report.accuracy, report.accuracy_interval),
                measured(agreement.share, agreement.interval) if agreement else NONE,
                count(agreement.n) if agreement else NONE,
            )
        )
        more.append(
            (
                *named,
                measured(report.balanced_accuracy, report.balanced_accuracy_interval),
                measured(report.macro_f1, report.macro_f1_interval),
                f"{report.nll:.3f}",
                f"{report.brier:.3f}",
                share(report.ece, 2),
            )
        )
    head = ("model", "head", "split")
    return [
        "### Heads",
        table((*head, "n", "accuracy", "agreement with people", "n of these"), rows),
        "Against the labels of the data set, whatever the head:",
        table((*head, "balanced accuracy", "macro F1", "NLL", "Brier", "ECE"), more),
    ]


def missing(models: Sequence[Evidence]) -> list[str]:
    """Return the heads that no report is about, each with its model."""
    return [
        f"{code(name)} of {code(model.card.name)}"
        for model in models
        for name in model.card.heads
        if name not in {finding.head for finding in model.evaluations}
    ]


def _missing(models: Sequence[Evidence]) -> list[str]:
    unscored = missing(models)
    return [paragraph(f"Not scored yet: {listed(unscored)}; `mien evaluate` does that.")] if unscored else []


def _began(models: Sequence[Evidence]) -> list[str]:
    """Compare models with those that their trainings began from."""
    return [
        paragraph(
            f"**Beside the model it began from**, {code(model.card.name)} as it was trained: "
            f"{plain(began.sentence)}."
        )
        for model in models
        if (began := model.card.began) is not None
    ]


def _new(models: Sequence[Evidence]) -> list[str]:
    """Give the figures without what training holds, which a model may know by heart."""
    rows = [
        (
            *named,
            count(new.n),
            measured(new.accuracy, new.accuracy_interval),
            measured(new.macro_f1, new.macro_f1_interval),
            measured(new.agreement.share, new.agreement.interval) if new.agreement else NONE,
            NONE if (ece := _ece(model, finding.head, new)) is None else share(ece, 2),
            f"{count(overlap.exact + overlap.near)}, {count(overlap.recrops or 0)}",
        )
        for model, finding, named in _each(models)
        if (overlap := finding.training_overlap) is not None
        and finding.calibration is not None
        and (new := overlap.without_recrops) is not None
    ]
    if not rows:
        return []
    head = ("model", "head", "split", "n", "accuracy", "macro F1", "agreement with people", "ECE")
    return [
        "### Images that training does not hold",
        table((*head, "left out: copies, cut otherwise"), rows),
        paragraph(
            "Left out are images that stand in training too: unchanged or nearly so, or as another part or "
            "size of the same photograph, which `mien audit` finds. A model may know those by heart, so of "
            "the figures on this page these say most about new faces. ECE is held against what the head "
            "is to say, the label or what most people saw; the temperature and offsets in the file were "
            "fitted on all images.",
        ),
    ]


def _ece(model: Evidence, head: str, figures: Figures) -> float | None:
    """Return the calibration error against what the head is to say: the label, or the votes' plurality."""
    if model.card.head(head).output == "probabilities":
        return figures.ece
    return None if figures.agreement is None else figures.agreement.ece


def _calibrations(models: Sequence[Evidence]) -> list[str]:
    fitted = [
        (finding.head, found, named, model)
        for model, finding, named in _each(models)
        if (found := finding.calibration) is not None
    ]
    if not fitted:
        return ["### Confidence", *_uncalibrated(models), *_at_chance(models)]
    folds = listed(sorted({str(found.folds) for _, found, _, _ in fitted}))
    fits = [
        (
            *named[:2],
            "most people" if model.card.head(head).output == "ferplus" else "the label",
            count(found.n),
            f"{found.temperature:.3f}",
            *(share(right) for right in (found.accuracy_before, found.accuracy_after)),
            *(share(ece, 2) for ece in (found.ece_before, found.ece_after)),
            *(f"{nll:.3f}" for nll in (found.nll_before, found.nll_after)),
        )
        for head, found, named, model in fitted
    ]
    answers = [
        (
            *named[:2],
            f"{found.threshold:.3f}",
            share(found.answered),
            measured(found.accuracy_answered, found.accuracy_answered_interval),
        )
        for _, found, named, _ in fitted
    ]
    before_and_after = [
        f"{name} {when}" for name in ("accuracy", "ECE", "NLL") for when in ("before", "after")
    ]
    offsets = _offsets(fitted)
    return [
        "### Confidence",
        paragraph(
            "A temperature is folded into each file, one a head; it changes no answer.",
            "Offsets, added to the logits after it, mend a network that favours some classes more than the "
            "labels do, and change answers."
            if offsets
            else "",
            "What stands under `after`, and the share answered and its accuracy, are cross-fitted: each of "
            f"{folds} parts of the images was judged with what the others gave.",
        ),
        *_few(fitted),
        table(("model", "head", "right is", "n", "temperature", *before_and_after), fits),
        *offsets,
        paragraph("Where an answer less sure than the threshold counts as uncertain:"),
        table(("model", "head", "threshold", "answered", "accuracy on those"), answers),
        *_at_chance(models),
    ]


def _uncalibrated(models: Sequence[Evidence]) -> list[str]:
    """Say what is known of the confidence of models that `mien ship` did not write."""
    rows = [
        (code(model.card.name), code(name), f"{head.threshold:.3f}")
        for model in models
        for name, head in model.card.heads.items()
        if head.threshold is not None
    ]
    said = paragraph(
        "No temperature was fitted: confidence is what the network says, and the ECE above says how far that "
        "is off. `mien ship` fits one.",
        "" if rows else "No threshold was fitted either.",
    )
    if not rows:
        return [said]
    # Runs alone have no calibration, and a page is about one run.
    selects = {model.card.recipe.get("select", "") for model in models}
    return [
        said,
        paragraph(
            "An answer less sure than the threshold counts as uncertain; four fifths of val reach it."
            + (" The same images selected the epoch that ships." if selects - {"last", ""} else "")
        ),
        table(("model", "head", "threshold"), rows),
    ]


def _at_chance(models: Sequence[Evidence]) -> list[str]:
    """Name the heads of which all answers count as uncertain."""
    return [
        paragraph(
            f"**Hardly better than chance**: on val nothing shows that {code(model.card.name)} with head "
            f"{code(name)} is better than always answering the most frequent label (the lower end of its "
            "accuracy's interval is not above that label's share). All its answers count as uncertain."
        )
        for model in models
        for name, head in model.card.heads.items()
        if head.at_chance
    ]


def _few(fitted: Sequence[tuple[str, Calibration, tuple[str, str, str], Evidence]]) -> list[str]:
    """Say which temperatures were fitted on few images."""
    return [
        paragraph(
            f"**Few images**: {named[0]} with head {named[1]} was calibrated on {count(found.n)} images, "
            f"fewer than {FEW} per class. Its temperature was drawn towards 1 by a prior that counts as "
            f"{found.prior:g} images, and no offsets were fitted."
        )
        for _, found, named, _ in fitted
        if found.prior
    ]


def _offsets(fitted: Sequence[tuple[str, Calibration, tuple[str, str, str], Evidence]]) -> list[str]:
    """Return a table of the offsets that are folded in; of models of one page, whose labels are the same."""
    rows = [
        (*named[:2], *(f"{offset:+.2f}" for offset in found.offsets))
        for _, found, named, _ in fitted
        if found.offsets
    ]
    return [table(("offsets of", "head", *fitted[0][3].card.labels), rows)] if rows else []


def _int8(models: Sequence[Evidence]) -> list[str]:
    rows = [
        (
            *named[:2],
            count(found.n),
            share(found.agreement, 2),
            share(found.accuracy_float32, 2),
            share(found.accuracy_int8, 2),
            model.card.precision,
        )
        for model, finding, named in _each(models)
        if (found := finding.quantization) is not None
    ]
    if not rows:
        return []
    return [
        "### int8 beside float32",
        table(("model", "head", "n", "same answer", "right in float32", "right in int8", "ships in"), rows),
    ]


def _groups(models: Sequence[Evidence]) -> list[str]:
    """Give the figures of groups; of many only how many there are."""
    blocks = []
    for _, finding, (name, head, split) in _each(models):
        if (found := finding.groups) is None:
            continue
        blocks.append(f"### By {plain(found.column)}: {name} with head {head} on {split}")
        if len(found.groups) > _MOST_GROUPS:
            blocks.append(paragraph(f"{count(len(found.groups))} groups, too many for this page."))
            continue
        rows = [
            (
                plain(group.name),
                f"{count(group.n)}{', too few to tell' if group.few else ''}",
                measured(group.accuracy, group.accuracy_interval),
                measured(group.balanced_accuracy, group.balanced_accuracy_interval),
                measured(group.macro_f1, group.macro_f1_interval),
            )
            for group in found.groups
        ]
        blocks += [
            table(("group", "n", "accuracy", "balanced accuracy", "macro F1"), rows),
            paragraph(
                f"Groups from {code(found.file)}; {count(found.unlisted)} images have none. Classes without "
                "images in a group are left out of its means."
            ),
        ]
    return blocks


def _classes(model: Evidence) -> list[str]:
    """Give the figures of each class; and what is taken for what, by the default head."""
    blocks = []
    for place, finding in enumerate(model.evaluations):
        report = finding
        title = f"{code(model.card.name)} with head {code(report.head)} on {plain(_split(model, report))}"
        rows = [
            (
                plain(name),
                count(each.n),
                share(each.precision),
                measured(each.recall, each.recall_interval),
                share(each.f1),
            )
            for name, each in report.per_class.items()
        ]
        blocks += [f"### Each class: {title}", table(("class", "n", "precision", "recall", "F1"), rows)]
        if place == 0 and len(report.labels) <= _MOST_COLUMNS:
            counts = [
                (plain(name), *map(count, row))
                for name, row in zip(report.labels, report.confusion, strict=True)
            ]
            blocks += [
                "Images by label (rows) and answer (columns):",
                table(("label", *map(plain, report.labels)), counts, numbers=True),
            ]
    return blocks
