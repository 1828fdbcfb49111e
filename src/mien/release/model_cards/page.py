"""The model card: its sections, in the order of Mitchell et al. 2019."""

import json
from collections.abc import Callable, Sequence

from mien.evaluation import evaluator as evaluate
from mien.evaluation.evaluation import Evaluation
from mien.labels import EMOTIONS
from mien.models.model import Base
from mien.release.evidence import Evidence
from mien.release.model_cards import header
from mien.release.model_cards import statements as words
from mien.release.model_cards import tables as figures
from mien.release.model_cards.markdown import NONE, bullets, code, count, listed, paragraph, plain, table

#: Images of FER2013's PublicTest.
_PUBLIC_TEST = 3589


def write(models: Sequence[Evidence]) -> str:
    """Return the page about one model or several, as Markdown with the model hub's header."""
    blocks = [
        header.write(models),
        f"# Model card: {', '.join(code(model.card.name) for model in models)}",
        paragraph(
            "Written by `mien card` from the models' own cards and the evaluations of their files, where "
            "every figure stands. Change those, not this page.",
            words.FORM,
        ),
    ]
    for title, section in _SECTIONS:
        blocks += [f"## {title}", *(block for block in section(models) if block)]
    return "\n\n".join(blocks) + "\n"


def excluded(reasons: Sequence[str], counts: Sequence[dict[str, int]], names: Sequence[str]) -> str:
    """Return the table of what was left out of training, by reason, a column for each of `names`."""
    rows = [
        (plain(reason), *(count(each[reason]) if reason in each else NONE for each in counts))
        for reason in reasons
    ]
    total = ("**all of these**", *(count(sum(each.values())) for each in counts))
    return table(("left out because", *names), [*rows, total], numbers=True)


def _details(models: Sequence[Evidence]) -> list[str]:
    rows: list[tuple[str, Callable[[Evidence], str]]] = [
        ("file", lambda model: f"{code(model.file)}, {count(model.bytes)} bytes"),
        ("sha256", lambda model: code(model.card.sha256 or "")),
        ("network", _network),
        ("computes in", lambda model: model.card.precision),
        (
            "takes",
            lambda model: (
                f"grey images of {model.card.size} × {model.card.size} pixels, uint8 from "
                f"{model.card.pixel_range[0]} to {model.card.pixel_range[1]}"
            ),
        ),
        ("framing", lambda model: plain(model.card.framing)),
        ("answers", lambda model: f"how likely: {', '.join(map(plain, model.card.labels))}"),
        ("heads", lambda model: ", ".join(map(code, model.card.heads))),
        ("exported", _parity),
        ("begun from", lambda model: _others(model.card.base)),
        ("averaged with", lambda model: _others(model.card.averaged)),
        ("also learnt from", _teachers),
        ("knows again", _hashed),
        ("made with", lambda model: ", ".join(map(_version, model.card.versions.items()))),
        ("licence", lambda model: plain(model.card.licence) or "none named by its maker"),
    ]
    cells = [(what, *(of(model) for model in models)) for what, of in rows]
    columns = ("what", *(code(model.card.name) for model in models))
    return [
        table(columns, [row for row in cells if any(row[1:])]),
        "The whole recipe stands in the card inside the file.",
        *_heads(models),
    ]


def _teachers(model: Evidence) -> str:
    """Name whose probabilities it was distilled from, and those that it was made from before it."""
    own = [plain(model.teacher)] if model.teacher else []
    others = {base.name: base.teacher for base in (*model.card.base, *model.card.averaged) if base.teacher}
    return "; ".join([*own, *(f"through {code(name)} from {plain(said)}" for name, said in others.items())])


def _hashed(model: Evidence) -> str:
    if model.hashed is None:
        return ""
    return f"{count(model.hashed.n)} images that it learnt from, by {code(model.hashed.file)} beside it"


def _others(bases: Sequence[Base]) -> str:
    named = []
    for base in bases:
        recipe = base.recipe.get("name")
        named.append(code(base.name) + (f" (recipe {code(str(recipe))})" if recipe else ""))
    return ", ".join(named)


def _network(model: Evidence) -> str:
    recipe = model.card.recipe
    told = {key: recipe.get(key) for key in ("network", "name", "epochs", "batch_size", "seed")}
    if None in told.values():
        return ""
    return (
        f"convolutional, {code(str(told['network']))}, trained by recipe {code(str(told['name']))}: epochs "
        f"{told['epochs']}, batches of {told['batch_size']}, seed {told['seed']}"
    )


def _parity(model: Evidence) -> str:
    parity = model.card.parity
    if parity is None:
        return ""
    return (
        f"probabilities within {parity.largest_difference:.1e} of {plain(parity.against)} on "
        f"{count(parity.images)} images"
    )


def _version(item: tuple[str, str]) -> str:
    return plain(" ".join(item))


def _heads(models: Sequence[Evidence]) -> list[str]:
    """Return what the heads answer, which one is the default, and why."""
    first = models[0]
    default = next(iter(first.card.heads))
    known = {name: head for model in models for name, head in model.card.heads.items()}
    if len(known) == 1:
        return [paragraph(f"An answer says one thing: {plain(known[default].about)}.")]
    points = [
        f"{code(name)}{' (the default)' if name == default else ''}: {plain(head.about)}."
        for name, head in known.items()
    ]
    names = listed([code(name) for name in known])
    why = [f"The model has the output heads {names}, because they answer different questions."]
    if default == "fer2013":
        why.append(
            f"{code(default)} is the default because its figures are those that can be set beside what "
            "others measured."
        )
    if "ferplus" in known:
        why.append(
            "A photograph of your own deserves `ferplus`, what most people would call it: ask for it by name."
        )
    if not figures.missing(models):
        why.append("Every head is scored below, for every file.")
    asked = next(name for name in known if name != default)
    return [
        paragraph("**Heads.**", *why),
        bullets(points),
        "```python\nimport mien\n\n"
        f"model = mien.load_model({json.dumps(first.file, ensure_ascii=False)})\n"
        f"model.run(images)  # as {default}\n"
        f"model.run(images, head={json.dumps(asked, ensure_ascii=False)})\n```",
    ]


def _intended(models: Sequence[Evidence]) -> list[str]:
    return [bullets(words.USES)]


def _factors(models: Sequence[Evidence]) -> list[str]:
    columns = [
        plain(finding.groups.column) for model in models for finding in model.evaluations if finding.groups
    ]
    if not columns:
        return [bullets(words.FACTORS)]
    return [
        bullets((*words.FACTORS[:-1], words.FACTORS_OF_GROUPS.format(listed(list(dict.fromkeys(columns))))))
    ]


def _evaluation(models: Sequence[Evidence]) -> list[str]:
    scored = {
        (model.data_name(finding.data), finding.split, finding.split_fingerprint): (finding.n)
        for model in models
        for finding in model.evaluations
    }
    if not scored:
        return ["Nothing was scored yet: `mien evaluate RUN` does that."]
    return [
        table(
            ("data", "split", "images", "fingerprint (sha256)"),
            [
                (plain(data), plain(split), count(n), code(fingerprint))
                for (data, split, fingerprint), n in scored.items()
            ],
        ),
        paragraph(*_choice(models)),
        _crops(models),
    ]


def _choice(models: Sequence[Evidence]) -> list[str]:
    """Say what was chosen on the images of val, if figures here are of these."""
    pairs = [(model, finding) for model in models for finding in model.evaluations]
    found = [
        (model, finding, choices)
        for model, finding in pairs
        if (choices := evaluate.choices(model.card, finding.split_fingerprint)) is not None
    ]
    said = _chosen(found) if found else []
    if any(finding.split == "test" for _, finding in pairs):
        said.append("`test` is worth more as long as nothing was chosen by it.")
    elif len(found) == len(pairs) and any(_chose(*each) for each in found):
        said.append("No split that was kept out of every choice stands on this page.")
    return said


def _chose(model: Evidence, finding: Evaluation, choices: evaluate.Choices) -> bool:
    """Say whether anything was chosen on val that changes a figure."""
    return choices.any or _compared(model, finding) or finding.calibration is not None


def _compared(model: Evidence, finding: Evaluation) -> bool:
    """Say whether the images are FER2013's PublicTest, on which the package's own recipes were compared."""
    return model.fer2013 and finding.n == _PUBLIC_TEST


def _chosen(found: Sequence[tuple[Evidence, Evaluation, evaluate.Choices]]) -> list[str]:
    calibrated = [finding.calibration for _, finding, _ in found if finding.calibration]
    offsets = ["offsets"] if any(not each.prior for each in calibrated) else []
    kinds = ["temperatures", *offsets, "thresholds"]
    public = any(_compared(model, finding) for model, finding, _ in found)
    epochs = [choices.epoch for _, _, choices in found]
    done = {
        "networks, recipes and their settings were compared": public,
        "the epoch that ships was chosen": any(epochs),
        "the epoch that ships may have been chosen, which the card does not say": not any(epochs)
        and None in epochs,
        "the end of training could be chosen": any(choices.ended for _, _, choices in found),
        f"{listed(kinds)} were fitted": bool(calibrated),
        "int8 was judged against float32": any(finding.quantization for _, finding, _ in found),
    }
    chosen = [what for what, holds in done.items() if holds]
    thresholds = not calibrated and any(choices.threshold for _, _, choices in found)
    return [
        "**`val` chose the model.**" if chosen else "**`val` chose nothing that changes these figures.**",
        "It is FER2013's PublicTest." if public else "",
        f"On it {listed(chosen)}; so its figures flatter a little."
        if chosen
        else "The recipe keeps the last epoch, and no temperature was fitted.",
        "The threshold under which an answer counts as uncertain was fitted on it." if thresholds else "",
        "The figures of calibration are cross-fitted, which takes from them the flattery of "
        f"{listed(kinds)}, and of nothing else that was chosen here."
        if calibrated
        else "",
    ]


def _crops(models: Sequence[Evidence]) -> str:
    sizes = listed(sorted({str(model.card.size) for model in models}))
    if any(model.fer2013 for model in models):
        return paragraph(
            f"**Everything here was measured on {sizes}-pixel grey crops of images from the web**, framed as "
            "FER2013 frames them. How well other crops, sizes and cameras do was not measured."
        )
    return paragraph(
        f"Everything here was measured on {sizes}-pixel grey images framed as these data frame them. How "
        "well other crops, sizes and cameras do was not measured."
    )


def _training(models: Sequence[Evidence]) -> list[str]:
    parts = {
        (model.data_name(data.name), split, part.fingerprint): (model.card.name, part.n)
        for model in models
        for data in model.card.learnt_from
        for split, part in data.splits.items()
        if split == "train"
    }
    reasons = list(dict.fromkeys(reason for model in models for reason in model.card.excluded))
    names = [code(model.card.name) for model in models]
    return [
        table(
            ("data", "split", "images", "fingerprint (sha256)"),
            [
                (plain(name), plain(split), count(n), code(print_))
                for (name, split, print_), (_, n) in parts.items()
            ],
        )
        if parts
        else "What it was trained on is not recorded.",
        provenance(models),
        paragraph(
            "**Left out of training**, by the reasons that the exclusion lists give; the count above is "
            "without them:"
        )
        if reasons
        else "No image was left out of training.",
        excluded(reasons, [dict(model.card.excluded) for model in models], names) if reasons else "",
    ]


def provenance(models: Sequence[Evidence]) -> str:
    """Say where the images come from, as far as that is known."""
    if any(model.fer2013 for model in models):
        return paragraph(words.FER2013, words.FERPLUS if any(model.ferplus for model in models) else "")
    seven = any(set(model.card.labels) == set(EMOTIONS) for model in models)
    return paragraph(words.UNKNOWN_DATA, words.FER2013_PERHAPS if seven else "")


def _ethics(models: Sequence[Evidence]) -> list[str]:
    return [bullets(words.ETHICS)]


def _caveats(models: Sequence[Evidence]) -> list[str]:
    return [bullets(words.CAVEATS)]


_SECTIONS: tuple[tuple[str, Callable[[Sequence[Evidence]], list[str]]], ...] = (
    ("Model details", _details),
    ("Intended use", _intended),
    ("Factors", _factors),
    ("Metrics", figures.metrics),
    ("Evaluation data", _evaluation),
    ("Training data", _training),
    ("Quantitative analyses", figures.analyses),
    ("Ethical considerations", _ethics),
    ("Caveats and recommendations", _caveats),
)
