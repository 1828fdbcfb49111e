"""The datasheet of the data that a run learnt from, in the order of Gebru et al. 2021."""

from collections import Counter
from collections.abc import Callable, Sequence

from mien.release.evidence import Evidence, Known
from mien.release.model_cards import page
from mien.release.model_cards import statements as words
from mien.release.model_cards.markdown import bullets, code, count, paragraph, plain, table

#: Files that could not be read that are named; the others are counted.
_NAMED = 10


def write(known: Known, model: Evidence) -> str:
    """Return the datasheet as Markdown: what the run knows, and questions where only people do."""
    blocks = [
        f"# Datasheet: {plain(model.data_name(known.name))}",
        paragraph(
            f"Written by `mien card` from the run {code(model.card.name)}, which was trained on these data.",
            words.SHEET_FORM,
            ""
            if model.fer2013
            else "Points in italics no file can answer: answer them, or say that nobody knows.",
        ),
    ]
    for title, section in _SECTIONS:
        asked = words.FER2013_ANSWERS if model.fer2013 else words.QUESTIONS
        told = asked.get(title, ())
        blocks += [
            f"## {_TITLES.get(title, title)}",
            *(block for block in section(known, model) if block),
            *([paragraph(told)] if isinstance(told, str) else [bullets(f"*{each}*" for each in told)]),
        ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _nothing(known: Known, model: Evidence) -> list[str]:
    return []


def _composition(known: Known, model: Evidence) -> list[str]:
    size = model.card.size
    blocks = [
        paragraph(
            f"Grey images of faces, read as {size} × {size} pixels, each with one of the labels "
            f"{', '.join(map(plain, model.card.labels))}."
        ),
        table(
            ("split", "images", "fingerprint (sha256)"),
            [(plain(name), count(part.n), code(part.fingerprint)) for name, part in known.splits.items()],
        ),
        paragraph(f"Fingerprint of all splits: {code(known.fingerprint)}."),
        _counts(known, model),
    ]
    if known.notes:
        blocks.append(bullets(map(plain, known.notes)))
    return blocks


def _counts(known: Known, model: Evidence) -> str:
    """Return how many images each class has in each split; of older runs in those that were scored."""
    counts = {name: known.classes[name] for name in known.splits if name in known.classes}
    if not counts:
        own = model.card.data.name if model.card.data else ""
        reports = {each.split: each for each in model.evaluations if each.data == own}
        counts = {
            name: {label: each.n for label, each in report.per_class.items()}
            for name, report in reports.items()
        }
    if not counts:
        return ""
    rows = [
        (plain(label), *(count(split.get(label, 0)) for split in counts.values()))
        for label in model.card.labels
    ]
    rows.append(("all", *(count(sum(split.values())) for split in counts.values())))
    return table(("class", *map(plain, counts)), rows, numbers=True)


def _cleaning(known: Known, model: Evidence) -> list[str]:
    blocks = [
        paragraph(
            "Images were turned upright, made grey and fitted to the size above; labels were matched by "
            "name. Values were scaled inside the model."
        )
    ]
    if known.excluded:
        blocks += [
            "Left out of training:",
            page.excluded(list(known.excluded), [dict(known.excluded)], ["images"]),
        ]
    else:
        blocks.append("No image was left out of training.")
    if known.problems:
        reasons = Counter(problem.reason for problem in known.problems)
        named = [f"{code(problem.file)}: {plain(problem.reason)}" for problem in known.problems[:_NAMED]]
        blocks += [
            "Could not be read, and were skipped:",
            table(("reason", "files"), [(plain(why), count(n)) for why, n in reasons.items()], numbers=True),
            "The first of them:" if len(known.problems) > _NAMED else "",
            bullets(named),
        ]
    return [*blocks, paragraph(words.FERPLUS) if model.ferplus else ""]


def _uses(known: Known, model: Evidence) -> list[str]:
    return [paragraph(f"The run {code(model.card.name)} learnt to name expressions from them.")]


def _ethics(known: Known, model: Evidence) -> list[str]:
    return [bullets(words.ETHICS)]


_SECTIONS: Sequence[tuple[str, Callable[[Known, Evidence], list[str]]]] = (
    ("Motivation", _nothing),
    ("Composition", _composition),
    ("Collection", _nothing),
    ("Labels", _cleaning),
    ("Uses", _uses),
    ("Distribution", _nothing),
    ("Maintenance", _nothing),
    ("Ethics", _ethics),
)
_TITLES = {
    "Collection": "Collection process",
    "Labels": "Preprocessing, cleaning and labelling",
    "Ethics": "Ethical considerations",
}
