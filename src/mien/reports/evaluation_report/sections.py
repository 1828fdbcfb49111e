"""The parts of a report's page: tables and pictures, as HTML."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.audit import html as web
from mien.data.audit.html import escaped
from mien.evaluation import evaluator as evaluate
from mien.reports.evaluation_report import charts
from mien.reports.evaluation_report.measurements import HEADLINES

_NAMES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
_LOSSES = {"nll": "NLL", "brier": "Brier", "ece": "ECE"}
#: Classes whose confusion still fits a page, and pairs shown of more.
_MOST_CLASSES, _MOST_PAIRS = 24, 20
#: Probabilities shown beside an image.
_MOST_SHARES = 4

Report = Mapping[str, Any]


def share(value: float | None, interval: Sequence[float] | None = None) -> str:
    """Return a fraction as percent, with its interval."""
    if value is None:
        return "–"
    if interval is None:
        return f"{value:.1%}"
    return f"{value:.1%} ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})"


def origin(found: Report) -> str:
    """Say what was scored on what."""
    data, uses = found["dataset"], found["uses"]
    rows = []
    for model in found["models"]:
        rows.append(("model", _listed(model["name"], _named("recipe", model["recipe"]), model["precision"])))
        rows.append(("model file", f"sha256 {model['sha256']}"))
        if model["learnt_from"]:
            learnt = model["learnt_from"]
            rows.append(("learnt from", f"{learnt['name']}, fingerprint {learnt['fingerprint']}"))
        if began := model.get("began"):
            rows.append(("began from", _began(began)))
        if model["excluded"]:
            left = ", ".join(f"{count:,} {reason}" for reason, count in model["excluded"].items())
            rows.append(("left out of training", left))
    split = f"{found['split']}, {found['n']:,} images, fingerprint {found['split_fingerprint']}"
    rows += [
        ("data", f"{data['name']}, fingerprint {data['fingerprint']}"),
        ("split", split),
        ("read as", found["reading"]),
        ("preprocessing", found["preprocessing"]),
        ("scored so far", _scored(uses)),
        ("images learnt from", _known(found.get("known"))),
        ("made with", ", ".join(f"{name} {version}" for name, version in found["versions"].items())),
    ]
    if data["unreadable"]:
        rows.append(("unreadable", f"{data['unreadable']:,} images were skipped"))
    rows += [("note", note) for note in data["notes"]]
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{escaped(value)}</dd>' for name, value in rows)}</dl>"


def _began(told: Report) -> str:
    """Say how the trained model did beside the one that it began from."""
    return (
        f"{told['name']}: on the same {told['n']:,} images of val it has "
        f"{share(told['accuracy'], told['accuracy_interval'])}, and the trained model "
        f"{share(told['after'], told['after_interval'])}"
        f"{': the trained model is worse' if told['worse'] else ''}"
        f"{'; it learnt from these images' if told['learnt'] else ''}"
    )


def _known(told: Report | None) -> str:
    """Say how many of the images the model learnt from, by the hashes that it ships with."""
    if told is None:
        return "not looked up: the model ships with no hashes of the images that it learnt from"
    said = f"{told['exact']:,} of the images, and {told['near']:,} nearly, by the hashes that it ships with"
    if not told["exact"] + told["near"] or told["accuracy_without"] is None:
        return said
    return f"{said}; of the other {told['n']:,} {share(told['accuracy_without'], told['interval'])} are right"


def _named(what: str, name: str | None) -> str:
    return f"{what} {name}" if name else ""


def _listed(*words: str) -> str:
    return ", ".join(word for word in words if word)


def _scored(uses: Report) -> str:
    if uses["role"] in ("train", "val"):
        return f"not counted: the images are those of {uses['role']}"
    if uses["times"] is None:
        return "not counted: this is no run's folder, or it could not be written"
    files = "1 model file" if uses["models"] == 1 else f"{uses['models']} model files"
    times = "once" if uses["times"] == 1 else f"{uses['times']} times"
    beside = f", and by the runs beside it: {', '.join(uses['beside'])}" if uses["beside"] else ""
    return f"{times}, with {files}{beside}"


def main(found: Report) -> str:
    """Return accuracy and the like, with intervals."""
    rows = [
        (
            _NAMES[key],
            share(found[key], found[f"{key}_interval"]),
            charts.interval(found[key], found[f"{key}_interval"], _NAMES[key]),
        )
        for key in HEADLINES
    ]
    rows += [(name, f"{found[key]:.4f}", "") for key, name in _LOSSES.items()]
    return _drawn(("figure", "value (95 %)", "0 to 100 %"), rows)


def readings(found: Report) -> str:
    """Return the same figures for the model's other readings."""
    if not found["readings"]:
        return ""
    rows = [
        (f"read as {name}", *(share(other[key], other[f"{key}_interval"]) for key in HEADLINES))
        for name, other in found["readings"].items()
    ]
    return f'<div class="more">{web.table(("other readings", *_NAMES.values()), rows)}</div>'


def training(told: Report, found: Report) -> str:
    """Return the figures without images that stand in training too."""
    if not told["checked"]:
        return f'<p class="warning">This could not be checked: {escaped(told["why"])}.</p>'
    known = {
        True: "It is the very split that the model learnt from.",
        False: "It is not the very split that the model learnt from: images were left out of that, or this "
        "is other data.",
        None: "Whether the model learnt from it is unknown, for its card does not say.",
    }[told["learnt_from"]]
    n, equal, near = found["n"], told["equal"], told["near"]
    head = (
        f"<p>{equal:,} of the {n:,} images ({equal / n:.1%}) stand byte for byte among the "
        f"{told['compared_with']:,} of the training split, and {near:,} more ({near / n:.1%}) almost "
        f"unchanged{_recut(told, n)}. {known}</p>"
    )
    columns = {
        "all images": found,
        "without equal": told["without_equal"],
        "without equal and near": told["without_either"],
        "without these and cut otherwise": told["without_any"],
    }
    columns = {name: each for name, each in columns.items() if each is not None}
    rows = [("images", *(f"{each['n']:,}" for each in columns.values()))]
    rows += [
        (_NAMES[key], *(share(each[key], each[f"{key}_interval"]) for each in columns.values()))
        for key in HEADLINES
    ]
    rows += [(name, *(f"{each[key]:.4f}" for each in columns.values())) for key, name in _LOSSES.items()]
    if found["agreement"] is not None:
        shared = (each["agreement"] for each in columns.values())
        cells = (share(each["share"], each["interval"]) if each else "–" for each in shared)
        rows.append(("with most of ten people", *cells))
    return head + web.table(("figure", *columns), rows)


def _recut(told: Report, n: int) -> str:
    if told["recut"] is None:
        return "; whether others show a photograph that training holds cut otherwise was not looked for"
    return f"; {told['recut']:,} more ({told['recut'] / n:.1%}) show a photograph that it holds cut otherwise"


def classes(found: Report) -> str:
    """Return each class's figures."""
    rows: list[tuple[str, ...]] = []
    for name, each in found["per_class"].items():
        cells = [share(each[key], each[f"{key}_interval"]) for key in ("precision", "recall", "f1")]
        drawn = ""
        if each["recall"] is not None:
            drawn = charts.interval(each["recall"], each["recall_interval"], f"recall of {escaped(name)}")
        rows.append((name, f"{each['n']:,}", *cells, drawn))
    absent = ""
    if found["absent"]:
        names = escaped(", ".join(found["absent"]))
        absent = f'<p class="faint">Without images, and left out of the means: {names}.</p>'
    return _drawn(("class", "n", "precision", "recall", "F1", "recall, 0 to 100 %"), rows) + absent


def confusion(found: Report) -> str:
    """Return the confusion as counts and as shares of each row; of many classes the largest cells alone."""
    labels, counts = found["labels"], np.array(found["confusion"])
    sums = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = counts / sums
    if len(labels) > _MOST_CLASSES:
        wrong = counts * (1 - np.eye(len(labels), dtype=np.int64))
        order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_PAIRS]
        rows: list[tuple[str, ...]] = [
            (labels[i], labels[j], f"{counts[i, j]:,}", f"{shares[i, j]:.1%}")
            for i, j in zip(*np.unravel_index(order, counts.shape), strict=True)
            if wrong[i, j]
        ]
        return web.table(("is", "answered", "images", "of its class"), rows)
    head = "".join(f"<th>{escaped(label)}</th>" for label in labels)
    body = []
    for i, label in enumerate(labels):
        cells = "".join(
            f'<td class="cell{" right" if i == j else ""}" style="--p:{shares[i, j]:.3f}">{counts[i, j]:,}'
            f"<small>{shares[i, j]:.0%}</small></td>"
            for j in range(len(labels))
        )
        body.append(f"<tr><td>{escaped(label)}</td>{cells}</tr>")
    return (
        '<p class="faint">Rows: what images are. Columns: what was answered. Images, and their share of the '
        'row.</p><div class="scroll"><table class="confusion"><tr><th></th>'
        f"{head}</tr>{''.join(body)}</table></div>"
    )


def agreement(found: Report) -> str:
    """Say how often the answers are what most of FER+'s taggers saw."""
    told = found["agreement"]
    others = {name: other["agreement"] for name, other in found["readings"].items() if other["agreement"]}
    rows: list[tuple[str, ...]] = [
        (name, share(each["share"], each["interval"]))
        for name, each in {found["reading"]: told, **others}.items()
    ]
    return (
        f"<p>How often the answer is what most of FER+'s ten taggers saw, on {told['n']:,} images. On "
        f"{told['left_out']:,} more another thing got the most votes: contempt, no face, unknown, or a class "
        "that the model does not have.</p>" + web.table(("read as", "as most of ten people"), rows)
    )


def groups(told: Report) -> str:
    """Return each group's figures."""
    rows = [
        (
            f"{each['name']}{' (few images)' if each['few'] else ''}",
            f"{each['n']:,}",
            *(share(each[key], each[f"{key}_interval"]) for key in HEADLINES),
            charts.interval(
                each["accuracy"], each["accuracy_interval"], f"accuracy of {escaped(each['name'])}"
            ),
        )
        for each in told["groups"]
    ]
    rest = f" {told['unlisted']:,} images have no group there." if told["unlisted"] else ""
    return (
        _drawn(("group", "n", *_NAMES.values(), "accuracy, 0 to 100 %"), rows)
        + f'<p class="faint">Groups from {escaped(told["file"])}, column {escaped(told["column"])}.{rest} '
        "Classes without images in a group are left out of its means.</p>"
    )


def robustness(told: Report, found: Report) -> str:
    """Return accuracy under each disturbance."""
    low, high = found["accuracy_interval"]
    clean = charts.interval(found["accuracy"], (low, high), "as they are")
    rows = [("as they are", share(found["accuracy"], (low, high)), "", clean)]
    rows += [
        (
            each["disturbance"],
            share(each["accuracy"], each["interval"]),
            f"{-100 * each['loss']:+.1f}",
            charts.interval(each["accuracy"], each["interval"], escaped(each["disturbance"])),
        )
        for each in told["rows"]
    ]
    rows.append(("mean of the kinds", share(told["mean_of_kinds"]), "", ""))
    return (
        _drawn(("images", "accuracy (95 %)", "points", "0 to 100 %"), rows)
        + f'<p class="faint">Disturbed at {told["size"]} pixels a side, seed {told["seed"]}; strengths as '
        "mien.evaluation.corruptions states them.</p>"
    )


def examples(told: Sequence[Report], images: NDArray[np.uint8], maps: Mapping[int, NDArray[np.uint8]]) -> str:
    """Return images with what they are, what was answered, how sure, and why where there is a map."""
    if not told:
        return "<p>There are none.</p>"
    key = ""
    if any(each["place"] in maps for each in told):
        key = (
            '<p class="faint">Below each image: what spoke for the answer that was given, from dark (little) '
            "to bright (most).</p>"
        )
    shown = "".join(_example(each, images[each["place"]], maps.get(each["place"])) for each in told)
    return f'{key}<div class="examples">{shown}</div>'


def _example(each: Report, image: NDArray[np.uint8], why: NDArray[np.uint8] | None) -> str:
    ordered = sorted(each["probabilities"].items(), key=lambda item: -item[1])
    shown = ordered[:_MOST_SHARES]
    if each["label"] not in dict(shown):
        shown = [*shown[:-1], (each["label"], each["probabilities"][each["label"]])]
    bars = "".join(
        f'<span class="{"true" if name == each["label"] else "other"}">{escaped(name)}</span>'
        f'<i style="width:{100 * chance:.1f}%"></i><span>{chance:.1%}</span>'
        for name, chance in shown
    )
    beside = "" if why is None else f'<img src="{web.picture(why)}" alt="what spoke for the answer">'
    return (
        f'<figure><div class="faces"><img src="{web.picture(image)}" '
        f'alt="{escaped(each["file"])}">{beside}</div><figcaption><b>{escaped(each["answer"])}</b>, labelled '
        f"<b>{escaped(each['label'])}</b><span>{escaped(each['file'])}</span>"
        f'<div class="shares">{bars}</div></figcaption></figure>'
    )


def method(found: Report) -> str:
    """Say how the figures are made, for those who check them."""
    return (
        "<p>Accuracy, precision and recall have Wilson's interval; that of F1 is Wilson's of the share right "
        "among images of the class or answered with it, carried over to F1. Balanced accuracy and macro F1 "
        f"are bootstrapped: {evaluate.RESAMPLES:,} draws of the images from a fixed seed. All are 95 %, and "
        "of the sampling of images alone: another training seed, or other people's labels, move figures "
        f"besides. ECE has {len(found['reliability'])} bins of equal width (Guo et al. 2017). NLL is in "
        "nats. Equal copies are found by their pixels; near ones by correlation at the best shift, upright "
        "and mirrored (mien.data.duplicates).</p>"
        '<p class="faint">This page holds pictures of the data; treat it like the data. A label of an '
        "emotion is what people saw in a picture, not what its person felt.</p>"
    )


def _drawn(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose last cells are charts, and all others plain text."""
    head = "".join(f"<th>{escaped(name)}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in row[:-1])}<td>{row[-1]}</td></tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
