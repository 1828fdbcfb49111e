"""A report's figures as tables for people."""

from typing import Any

from mien import labels as emotions
from mien.cli import screen

#: Classes whose confusion still fits a terminal.
_MOST_COLUMNS = 9


def tell(report: dict[str, Any]) -> None:
    """Print a report's figures as tables for people; or, where one was asked for, the table for a paper."""
    if "table" in report:
        screen.out.print(report["table"], markup=False, end="")
        return
    rows: list[tuple[str, str, str]] = []
    for key, label in (
        ("accuracy", "accuracy"),
        ("balanced_accuracy", "balanced accuracy"),
        ("macro_f1", "macro F1"),
    ):
        low, high = report[f"{key}_interval"]
        rows.append((label, f"{report[key]:.2%}", f"{low:.2%} to {high:.2%}"))
    rows += [
        (name, f"{report[key]:.4f}", "") for key, name in (("nll", "NLL"), ("brier", "Brier"), ("ece", "ECE"))
    ]
    rows += _agreement(report)
    if (known := report.get("known")) and known["exact"] + known["near"]:
        low, high = known["interval"] or (None, None)
        rows.append(
            (
                f"accuracy without {known['exact'] + known['near']:,} learnt from, n = {known['n']}",
                "–" if known["accuracy_without"] is None else f"{known['accuracy_without']:.2%}",
                "" if low is None else f"{low:.2%} to {high:.2%}",
            )
        )
    for name, other in report.get("readings", {}).items():
        low, high = other["accuracy_interval"]
        rows.append((f"read as {name}: accuracy", f"{other['accuracy']:.2%}", f"{low:.2%} to {high:.2%}"))
        rows += [(f"read as {name}: {what}", value, between) for what, value, between in _agreement(other)]
    views = f", mean of {report['views']} views" if report["views"] > 1 else ""
    if report["balance"]:
        views += f", balance {report['balance']:g}"
    if report["prior"]:
        views += ", prior " + " ".join(f"{name} {share:g}" for name, share in report["prior"].items())
    screen.table(
        f"{report['data']}, split {report['split']}, read as {report['reading']}, n = {report['n']}{views}",
        ("what", "value", "95 % interval"),
        rows,
    )
    screen.table(
        "Each class",
        ("class", "n", "precision", "recall", "F1"),
        [
            (name, str(figures["n"]), *(_share(figures[key]) for key in ("precision", "recall", "f1")))
            for name, figures in report["per_class"].items()
        ],
    )
    if len(report["labels"]) <= _MOST_COLUMNS:
        screen.table(
            "Images by what they are (rows) and what was answered (columns)",
            ("class", *emotions.brief(report["labels"], 8)),
            [
                (name, *map(str, counts))
                for name, counts in zip(report["labels"], report["confusion"], strict=True)
            ],
        )
    _tell_more(report)
    if report["absent"]:
        screen.note(f"without images, and left out of the means: {', '.join(report['absent'])}")


def _tell_more(report: dict[str, Any]) -> None:
    """Print what was asked for besides, and how often these images were scored."""
    if found := report.get("groups"):
        screen.table(
            f"By {found['column']} of {found['file']}; {found['unlisted']:,} images have none",
            ("group", "n", "accuracy", "95 % interval", "macro F1", "few"),
            [
                (
                    group["name"],
                    str(group["n"]),
                    f"{group['accuracy']:.2%}",
                    "{:.2%} to {:.2%}".format(*group["accuracy_interval"]),
                    f"{group['macro_f1']:.2%}",
                    "too few to tell" if group["few"] else "",
                )
                for group in found["groups"]
            ],
        )
    _tell_balances(report.get("balance_table", []), report["labels"])
    if found := report.get("robustness"):
        rows = [
            (
                row["disturbance"],
                f"{row['accuracy']:.2%}",
                "{:.2%} to {:.2%}".format(*row["interval"]),
                f"{-100 * row['loss']:+.1f}",
            )
            for row in found["rows"]
        ]
        rows.append(("mean of the kinds", f"{found['mean_of_kinds']:.2%}", "", ""))
        screen.table("Disturbed images", ("images", "accuracy", "95 % interval", "points"), rows)
    if found := report.get("against_training"):
        screen.out.print(_without_copies(found), markup=False)
    if times := report["uses"]["times"]:
        files = report["uses"]["models"]
        screen.out.print(
            f"scored on these images {'once' if times == 1 else f'{times} times'} so far, with {files} model "
            f"file{'s' if files > 1 else ''}",
            markup=False,
        )
    for path in report.get("report", ()):
        screen.out.print(path, markup=False)


def _tell_balances(rows: list[dict[str, Any]], labels: list[str]) -> None:
    """Print a table for each reading: the figures at each balance, then the recall of each class."""
    kinds = dict.fromkeys((row["reading"], row["against"], row["n"]) for row in rows)
    for reading, against, n in kinds:
        right = "what most of ten people saw" if against == "votes" else "the labels"
        screen.table(
            f"Read as {reading} at balance T, against {right}, n = {n}; recall of each class",
            ("T", "right", "mean", "ECE", *emotions.brief(labels, 7)),
            [
                (
                    f"{row['balance']:g}",
                    f"{row['accuracy']:.1%}",
                    f"{row['balanced_accuracy']:.1%}",
                    f"{row['ece']:.1%}",
                    *(_share(each) for each in row["recall"].values()),
                )
                for row in rows
                if (row["reading"], row["against"]) == (reading, against)
            ],
        )


def _without_copies(found: dict[str, Any]) -> str:
    if not found["checked"]:
        return f"copies in training could not be looked for: {found['why']}"
    text = f"{found['equal']:,} images stand in training too, and {found['near']:,} nearly"
    if found["recut"] is not None:
        text += f", and {found['recut']:,} cut otherwise"
    rest = found["without_either"] if found["recut"] is None else found["without_any"]
    if rest and found["equal"] + found["near"] + (found["recut"] or 0):
        low, high = rest["accuracy_interval"]
        text += f"; without them {rest['accuracy']:.2%} ({low:.2%} to {high:.2%}) of {rest['n']:,} are right"
    return text


def _agreement(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = report.get("agreement")
    if found is None:
        return []
    low, high = found["interval"]
    return [
        (f"with most of ten people, n = {found['n']}", f"{found['share']:.2%}", f"{low:.2%} to {high:.2%}")
    ]


def _share(value: float | None) -> str:
    """Return a fraction as percent, or a dash where it is undefined."""
    return "–" if value is None else f"{value:.1%}"
