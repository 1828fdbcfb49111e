"""A comparison in words: does one beat the other, and what makes that doubtful."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mien.evaluation.comparison.paired_tests import POWER, Difference, McNemar, turned
from mien.evaluation.comparison.predictions import Answers
from mien.evaluation.comparison.results import Comparison, Winner
from mien.models.model import ONE_HEAD, TWO_HEADS

if TYPE_CHECKING:
    from mien.data.datasets import Split

_PAIRED = ("A less B", "95 % interval")

#: Probability below which a difference counts as seen.
SEEN = 0.05


def winner(accuracy: Difference, test: McNemar) -> Winner | None:
    """Return who beats whom on accuracy: by McNemar's test, and by an interval that leaves 0 out."""
    low, high = accuracy.interval
    if test.p >= SEEN or low <= 0 <= high:
        return None
    return "a" if accuracy.difference > 0 else "b"


def kept(found: Comparison) -> Winner | None:
    """Return the winner, if it wins without the images that a model learnt from too."""
    if not found.known:
        return found.winner
    rest = found.without_known
    return found.winner if rest and winner(rest.share, rest.mcnemar) == found.winner else None


def known(found: Comparison) -> Iterator[str]:
    """Say how many of the images a model learnt from, and how the two do on the others."""
    if not found.known:
        return
    said = (
        f"{found.known:,} of the {found.n:,} images are, or nearly are, images that {found.a.name} or "
        f"{found.b.name} learnt from"
    )
    if found.without_known is None:
        yield f"{said}, so nothing is decided here; compare on other images"
        return
    part = found.without_known
    yield f"{said}; on the other {part.n:,} accuracy is {_both(part.share)}, p {chance(part.mcnemar.p)}"


def verdict(found: Comparison) -> str:
    """Say in one or two sentences whether one beats the other."""
    where = f"{found.data}, split {found.split}" if found.data else f"split {found.split}"
    test = f"McNemar p {chance(found.mcnemar.p)} ({found.mcnemar.method})"
    if found.winner is None and found.known and (ahead := winner(found.accuracy, found.mcnemar)):
        better, worse, apart = found.a.name, found.b.name, found.accuracy
        if ahead == "b":
            better, worse, apart = worse, better, turned(apart)
        return (
            f"{better} is ahead of {worse} on {where}: accuracy {_both(apart)}, {test}; but a model learnt "
            f"from {found.known:,} of the {found.n:,} images, and without them nothing shows it."
        )
    if found.winner is None:
        return (
            f"Nothing here shows that {found.a.name} or {found.b.name} beats the other on {where}: accuracy "
            f"{_both(found.accuracy)}, {test}. {_power(found)}"
        )
    better, worse, apart, macro = found.a.name, found.b.name, found.accuracy, found.macro_f1
    if found.winner == "b":
        better, worse, apart, macro = worse, better, turned(apart), turned(macro)
    sentence = f"{better} beats {worse} on {where}: accuracy {_both(apart)}, {test}."
    if macro.interval[1] < 0:
        return f"{sentence} On macro F1 it is the other way round: {_both(macro)}."
    if macro.interval[0] <= 0:
        return f"{sentence} On macro F1 nothing shows it: {_both(macro)}."
    return sentence


def _power(found: Comparison) -> str:
    if found.visible is None:
        return f"With {_images(found.n)} no difference at all could have been seen."
    return (
        f"With {_images(found.n)} a difference of {100 * found.visible:.1f} points would have been seen "
        f"{POWER:.0%} of the time; a smaller one may well be there."
    )


def warnings(a: Answers, b: Answers, split: "Split", data: str) -> Iterator[str]:
    """Say what makes the comparison doubtful, as far as names and fingerprints tell."""
    sides = (a, b)
    roles = [_roles(side, split, data) for side in sides]
    if learnt := [side.name for side, role in zip(sides, roles, strict=True) if "train" in role]:
        yield (
            f"{' and '.join(learnt)} learnt from these images, so what is said of them is no measure; "
            "compare on images that neither learnt from"
        )
    chosen = [side for side, role in zip(sides, roles, strict=True) if "val" in role and "train" not in role]
    for what, some in (
        ("epoch and settings", [side.name for side in chosen if side.selected is not False]),
        ("settings", [side.name for side in chosen if side.selected is False]),
    ):
        if some:
            yield (
                f"{' and '.join(some)} had these images as val, so {what} may have been chosen on them, "
                f"which favours {'it' if len(some) == 1 else 'both'}; compare on images that chose nothing"
            )
    if unknown := [side.name for side in sides if not side.made_with]:
        yield (
            f"what {' and '.join(unknown)} learnt from is not known here, so nothing was checked: these "
            "images may be among it"
        )
    if _question(a.head) != _question(b.head):
        yield (
            f"{a.name} answers as {a.head or 'its file has it'} and {b.name} as "
            f"{b.head or 'its file has it'}: two questions, not one; name one with --head"
        )


def _roles(side: Answers, split: "Split", data: str) -> set[str]:
    """Return the splits that these images were when the model was made."""
    ours = {split.fingerprint, side.fingerprint}
    roles = {name for fingerprint, name in side.made_with.items() if fingerprint in ours}
    # What was left out of training changes the fingerprint of train, and of nothing else.
    if split.name == "train" and side.data == data != "":
        roles.add("train")
    return roles


def _question(head: str) -> str:
    """Return which of a model's answers a head is: of some models the first has another name."""
    known = ONE_HEAD | TWO_HEADS
    return known[head].output if head in known else "probabilities"


def notes(found: Comparison) -> Iterator[str]:
    """Name the classes in which one is better, and what copies and votes say."""
    names = found.a.name, found.b.name
    for side, sign in ((found.a, 1), (found.b, -1)):
        ahead = [
            f"{label} ({points(sign * each.recall.difference)})"
            for label, each in found.per_class.items()
            if each.p_held < SEEN and sign * each.recall.difference > 0
        ]
        if ahead:
            yield f"{side.name} names more right of {', '.join(ahead)}"
    if found.agreement is not None:
        better, worse, apart = _ordered(names, found.agreement.share)
        p = found.agreement.mcnemar.p
        says = f"{better} agrees more often with most of ten people than {worse}"
        if p >= SEEN:
            says = f"nothing shows that {better} or {worse} agrees more often with most of ten people"
        yield f"{says}: {_both(apart)}, p {chance(p)}"
    if found.without_copies is not None:
        part = found.without_copies
        better, worse, apart = _ordered(names, part.share)
        where = "in training" if found.copies_learnt else "in the data's training split"
        yield (
            f"without the {found.n - part.n:,} images that stand {where} too, {better} against {worse}: "
            f"{_both(apart)}, p {chance(part.mcnemar.p)}"
        )


def _ordered(names: tuple[str, str], apart: Difference) -> tuple[str, str, Difference]:
    """Return the better, the worse, and the difference as the better's less the worse's."""
    return (*names, apart) if apart.difference > 0 else (*names[::-1], turned(apart))


def points(value: float) -> str:
    """Return a difference of fractions in points of a hundred: `+1.3`."""
    shown = f"{100 * value:+.1f}"
    return "0.0" if shown in {"+0.0", "-0.0"} else shown.replace("-", "−")


def between(difference: Difference) -> str:
    """Return an interval in points of a hundred: `0.4 to 2.2`."""
    return " to ".join(points(end).removeprefix("+") for end in difference.interval)


def chance(p: float) -> str:
    """Return a p-value after its sign: `= 0.004`."""
    return "< 0.0001" if p < 0.0001 else f"= {p:.2g}" if p < 0.1 else f"= {p:.2f}"


def _both(each: Difference) -> str:
    return f"{each.a:.1%} against {each.b:.1%}, {points(each.difference)} points ({between(each)})"


def _images(n: int) -> str:
    return f"{n:,} images" if n > 1 else "one image"


def figure_rows(found: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of the main figures."""
    rows = [_row("accuracy", found.n, found.accuracy, found.mcnemar.p)]
    rows.append(_row("macro F1", found.n, found.macro_f1, None))
    for what, part in (
        ("as most of ten people", found.agreement),
        ("without copies", found.without_copies),
    ):
        if part is not None:
            rows.append(_row(what, part.n, part.share, part.mcnemar.p))
    return ("what", "n", found.a.name, found.b.name, *_PAIRED, "p"), rows


def class_rows(found: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of the classes' figures."""
    rows = [_row(label, each.n, each.recall, each.p_held) for label, each in found.per_class.items()]
    return ("recall of", "n", found.a.name, found.b.name, *_PAIRED, "p of many"), rows


def _row(what: str, n: int, each: Difference, p: float | None) -> tuple[str, ...]:
    shown = "" if p is None else chance(p).removeprefix("= ")
    return what, f"{n:,}", f"{each.a:.1%}", f"{each.b:.1%}", points(each.difference), between(each), shown
