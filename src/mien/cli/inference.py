"""Commands for inference: `predict`, `merge`, `video` and `webcam`."""

import json as codec
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien._text import format_duration, pluralize, shorten
from mien.cli import common
from mien.errors import ImageError, InputError, Stopped

if TYPE_CHECKING:
    from mien.inference.batches import FilePredictions
    from mien.inference.video import Frame, Person, VideoSummary
    from mien.inference.webcam import Live, Look, Window
    from mien.types import Prediction

#: Rows of the tables that are shown; the others are counted.
_MOST, _MOST_PEOPLE = 200, 20
#: Side in pixels up to which a square image may be a cropped face.
_CROP = 128


def predict(
    context: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Image files, folders or patterns; - reads an image from stdin."),
    ],
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
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Write the predictions to this .jsonl, .csv or .parquet file, or to a folder of Parquet.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --to: continue where an earlier run stopped.")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Write each image with its faces marked, and each face, to this folder."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Number of processes that detect faces; by default 1.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="With --to: predict only part I of N of the images; mien merge joins the parts.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Predict on the Dask cluster at this address; local starts one with --workers processes, by "
            "default one for each core. Paths can be URLs.",
        ),
    ] = None,
    json: common.Json = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Print each prediction as a line of JSON as soon as it is ready.")
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print one csv row per face.")] = False,
) -> int:
    """Detect faces in images and classify their emotions."""
    from mien import _tables
    from mien.inference import parts
    from mien.inference.batches import predict_files
    from mien.inference.predictor import Predictor

    common.check_one_format(json=json, jsonl=jsonl, csv=csv)
    if resume and to is None:
        raise InputError("--resume continues a file; name it with --to FILE")
    if shard is not None:
        _check_shard(shard, paths, to)
    common.check_whole_image(context, whole_image)
    common.check_ranges(min_face=min_face, min_confidence=min_confidence, workers=workers)
    frequent = common.prior_options(balance, prior, group)
    if cluster is not None and "-" in paths:
        raise InputError("- reads an image from stdin, which workers cannot; leave out --cluster")
    if to is not None and not parts.is_folder(to):
        _tables.format_of(to)
    predictor = Predictor(
        model,
        detector=detector,
        head=head,
        smallest=min_face,
        whole_image=whole_image,
        min_confidence=min_confidence,
        auto_rotate=auto_rotate,
        **frequent,
    )
    with common.bar("images") as progress:
        found = predict_files(
            [_stdin() if path == "-" else path for path in dict.fromkeys(paths)],
            predictor=predictor,
            to=to,
            resume=resume,
            redo=json or jsonl or csv or save is not None,
            save=save,
            workers=workers,
            shard=shard,
            cluster=cluster,
            progress=progress,
            on_note=common.note,
        )
        counts = _Counts(found)
        if json:
            common.emit([_tables.rounded(each.to_dict()) for each in counts])
        elif jsonl or csv:
            _print_lines(counts, "csv" if csv else "jsonl", predictor.names)
        else:
            _print_predictions(counts)
    return _report_problems(counts)


def _check_shard(shard: str, paths: Sequence[str], to: Path | None) -> None:
    from mien.inference.image_files import Shard

    common.parse_option("--shard", Shard.parse, shard)
    if to is None:
        raise InputError("--shard writes a part for mien merge; name its file with --to FILE")
    if "-" in paths:
        raise InputError("- reads one image from stdin, which cannot be divided; leave out --shard")


class _Stdin(bytes):
    """An image's bytes from stdin."""

    name = "-"


def _stdin() -> _Stdin:
    from mien.vision import images

    if sys.stdin is None:
        raise InputError("- reads an image from stdin, but stdin is closed; name a file")
    return _Stdin(sys.stdin.buffer.read(images.MAX_BYTES + 1))


class _Counts:
    """Iterate over predictions, and count what the summary needs; problems are collected."""

    def __init__(self, found: "FilePredictions") -> None:
        self.found = found
        self.unreadable: list[str] = []
        self.images = self.faces = self.empty = self.crops = 0
        self.turned: list[str] = []

    def __iter__(self) -> "Iterator[Prediction]":
        from mien.types import Problem

        for item in self.found:
            if isinstance(item, Problem):
                self.unreadable.append(item.reason)
                continue
            self.images += 1
            self.faces += len(item.faces)
            self.empty += not item.faces
            self.crops += item.width == item.height <= _CROP
            if item.rotation:
                self.turned.append(f"{item.source} ({item.rotation}°)")
            yield item


def _print_lines(predictions: "Iterable[Prediction]", kind: str, labels: Sequence[str]) -> None:
    from mien import _tables
    from mien.types import Prediction

    lines = _tables.Lines(sys.stdout, kind, list(Prediction.columns(labels)))
    for each in predictions:
        lines.add(each.to_dict(), each.rows())
        sys.stdout.flush()


def _print_predictions(counts: _Counts) -> None:
    rows: list[tuple[object, ...]] = []
    hidden = 0
    for each in counts:
        found: list[tuple[object, ...]] = [] if each.faces else [(each.source, "", "", "no face", "", "")]
        for number, face in enumerate(each.faces, start=1):
            box = f"{face.box.left}, {face.box.top}, {face.box.width}×{face.box.height}"
            found.append(
                (each.source, number, box, face.emotion, f"{face.confidence:.0%}", ", ".join(face.flags))
            )
        hidden += max(0, len(rows) + len(found) - _MOST)
        rows += found[: _MOST - len(rows)]
    if counts.images:
        common.table(
            f"{pluralize(counts.faces, 'face')} in {pluralize(counts.images, 'image')}",
            ("image", "face", "box", "emotion", "confidence", "flags"),
            rows,
            whole="box",
        )
    if hidden:
        common.note(f"{hidden:,} more rows are not shown; use --to FILE or --csv to get all of them")


def _report_problems(counts: _Counts) -> int:
    """Print what went wrong and advice on stderr; return the exit code."""
    found = counts.found
    for reason in (*found.problems, *counts.unreadable):
        common.note(reason)
    if turned := counts.turned:
        more = f" and {len(turned) - 3:,} more" if len(turned) > 3 else ""
        common.note(
            f"{pluralize(len(turned), 'image')} rotated clockwise because the faces were not upright: "
            f"{', '.join(turned[:3])}{more}; --no-auto-rotate turns this off"
        )
    if found.predictor.detector is not None and 0 < counts.crops == counts.images and counts.empty:
        common.note(
            f"no face found in {counts.empty:,} of {counts.crops:,} images, which are all small squares; if "
            "they are cropped faces, add --whole-image"
        )
    if found.save is not None:
        common.note(f"wrote {pluralize(found.saved, 'file')} to {found.save}")
    if counts.unreadable and not counts.images and found.shard is None:
        raise ImageError("no image could be read (see above)")
    return common.SOME_BAD if found.problems or counts.unreadable else 0


def merge(
    parts: Annotated[
        list[Path],
        typer.Argument(
            metavar="PART", help="The files or folders that mien predict --shard wrote, of all shards."
        ),
    ],
    to: Annotated[
        Path,
        typer.Option(
            metavar="PATH", help="Write all predictions to this file; its extension is that of the parts."
        ),
    ],
    json: common.Json = False,
) -> int:
    """Join the parts that predict --shard wrote into one file."""
    from mien.inference import merging

    merged = merging.merge_parts(parts, to)
    if json:
        common.emit(merged.to_dict())
    else:
        common.note(
            f"wrote {to}: {pluralize(merged.faces, 'face')} in {pluralize(merged.images, 'image')}, from "
            f"{pluralize(merged.parts, 'part')}"
        )
    if merged.unreadable:
        common.note(
            f"{pluralize(len(merged.unreadable), 'image')} could not be read: {shorten(merged.unreadable)}"
        )
    return common.SOME_BAD if merged.unreadable else 0


def video(
    file: Annotated[
        Path, typer.Argument(metavar="VIDEO", help="A video file, such as mp4, mkv, webm, mov or avi.")
    ],
    to: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Write one row per frame and person to this .jsonl, .csv or .parquet file. Repeatable.",
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Write a copy of the video with boxes and emotions; the sound is kept."
        ),
    ] = None,
    blur: Annotated[
        bool, typer.Option("--blur", help="With --save: blur the faces, so that people cannot be recognised.")
    ] = False,
    timeline: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Plot each person's emotions over time to this .png file, and to an .svg file.",
        ),
    ] = None,
    every: Annotated[int, typer.Option(metavar="N", help="Analyze every Nth frame.")] = 1,
    fps: Annotated[
        float | None, typer.Option(metavar="N", help="Analyze at most this many frames per second.")
    ] = None,
    model: common.ModelOption = None,
    head: common.Head = None,
    detector: common.DetectorName = None,
    min_confidence: common.MinConfidence = 0.0,
    balance: common.Balance = None,
    prior: common.Prior = None,
    group: common.Group = None,
    look: common.Look = 400,
    smoothing: common.Smoothing = 0.5,
    max_gap: common.MaxGap = 1.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --to or --save: continue where an earlier run stopped.")
    ] = False,
    json: common.Json = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print each row as a line of JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the rows as csv.")] = False,
) -> int:
    """Follow faces through a video and classify their emotions."""
    from mien import _tables, api
    from mien.inference import video as videos

    timer = common.Timer()
    common.check_one_format(json=json, jsonl=jsonl, csv=csv)
    common.check_ranges(every=every, fps=fps, look=look, smoothing=smoothing, max_gap=max_gap)
    common.check_ranges(min_confidence=min_confidence)
    frequent = common.prior_options(balance, prior, group)
    api.check_timeline(timeline)
    videos.check_files(file, to or (), save, blur=blur, resume=resume)
    videos.check_sampling(every, fps, blur=blur)
    predictor = videos.make_predictor(
        model, detector=detector, head=head, look=look, min_confidence=min_confidence, **frequent
    )
    on_frame: Callable[[Frame], None] | None = None
    if jsonl or csv:
        lines = _tables.Lines(sys.stdout, "csv" if csv else "jsonl", videos.columns(predictor.names))

        def print_rows(frame: "Frame") -> None:
            for person in frame.people:
                lines.add(videos.document(frame, person), [videos.row(frame, person)])
            sys.stdout.flush()

        on_frame = print_rows
    with common.bar("seconds of video") as progress:
        summary = api.analyze_video(
            file,
            predictor=predictor,
            to=to or (),
            save=save,
            blur=blur,
            timeline=timeline,
            every=every,
            fps=fps,
            smoothing=smoothing,
            max_gap=max_gap,
            resume=resume,
            on_frame=on_frame,
            progress=progress,
            on_note=common.note,
        )
    if json:
        common.emit(summary.to_dict() | timer.seconds())
    elif not (jsonl or csv):
        _print_people(summary)
    for problem in summary.problems:
        common.note(problem)
    return common.SOME_BAD if summary.problems else 0


def _print_people(summary: "VideoSummary") -> None:
    source = Path(summary.source).name
    length = format_duration(summary.end - summary.begin)
    people = sorted(summary.people, key=lambda person: -person.seconds)
    if not people:
        common.out.print(f"{source}: no face in {summary.analyzed:,} frames ({length})", markup=False)
    else:
        common.table(
            f"{source}: {length}, {summary.analyzed:,} of {summary.frames:,} frames analyzed",
            ("person", "from", "to", "seen s", "frames", "changes", "confidence", "emotions"),
            [_person_cells(person) for person in people[:_MOST_PEOPLE]],
        )
    if len(people) > _MOST_PEOPLE:
        common.out.print(f"and {len(people) - _MOST_PEOPLE:,} more people, seen for less time", markup=False)
    for path in summary.files:
        common.out.print(path, markup=False)


def _person_cells(person: "Person") -> tuple[object, ...]:
    whole = person.seconds or 1.0
    emotions = ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in person.emotions.items())
    return (
        person.track,
        f"{person.first:.2f}",
        f"{person.last:.2f}",
        f"{person.seconds:.2f}",
        f"{person.frames:,}",
        person.changes,
        f"{person.confidence:.0%}",
        emotions,
    )


@dataclass
class _Seen:
    """Latencies and people for the summary."""

    latencies: list[float] = field(default_factory=list)
    people: set[int] = field(default_factory=set)
    began: float = field(default_factory=time.monotonic)

    def add(self, look: "Look") -> None:
        # The last hour at 30 frames per second, so that memory is bounded.
        del self.latencies[:-108_000]
        self.latencies.append(look.latency)
        self.people.update(person.track for person in look.people)


def webcam(
    camera: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="A camera's number or name, or a video file to play like a camera."
        ),
    ] = "0",
    headless: Annotated[
        bool,
        typer.Option("--headless", help="Print each analyzed frame as a line of JSON, without a window."),
    ] = False,
    mirror: Annotated[bool, typer.Option("--mirror", help="Swap left and right, like a mirror.")] = False,
    seconds: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Stop after this many seconds.")
    ] = None,
    save: Annotated[
        Path, typer.Option(metavar="PATH", help="The folder for pictures that the key s saves.")
    ] = Path(),
    model: common.ModelOption = None,
    head: common.Head = None,
    detector: common.DetectorName = None,
    min_confidence: common.MinConfidence = 0.0,
    balance: common.Balance = None,
    prior: common.Prior = None,
    group: common.Group = None,
    look: common.Look = 400,
    smoothing: common.Smoothing = 0.5,
    max_gap: common.MaxGap = 1.0,
    json: common.Json = False,
) -> int:
    """Show the emotions of faces in front of a camera, live."""
    if headless and json:
        raise InputError("--headless and --json cannot be combined; use one of them")
    common.check_ranges(seconds=seconds, smoothing=smoothing, max_gap=max_gap, look=look)
    common.check_ranges(min_confidence=min_confidence)
    frequent = common.prior_options(balance, prior, group)
    from mien import _tables
    from mien.inference import webcam as webcams
    from mien.inference.video import make_predictor

    seen = _Seen()
    with ExitStack() as stack:
        predictor = make_predictor(
            model, detector=detector, head=head, look=look, min_confidence=min_confidence, **frequent
        )
        frames, name = webcams.open_source(camera, stack)
        window = None if headless else _open_window(name, save, required=json)
        live = stack.enter_context(
            webcams.Live(
                frames if seconds is None else webcams.limit(frames, seconds),
                predictor,
                name=name,
                mirror=mirror,
                max_gap=max_gap,
                smoothing=smoothing,
            )
        )
        try:
            if window is None:
                for each in live:
                    seen.add(each)
                    sys.stdout.write(codec.dumps(_tables.rounded(each.to_dict())) + "\n")
                    sys.stdout.flush()
            else:
                window.run(live, on_look=seen.add)
        except KeyboardInterrupt:
            raise Stopped(f"stopped; {name} is closed", signal.SIGINT) from None
    _print_camera(live, seen, json=json)
    return common.SOME_BAD if live.problem else 0


def _open_window(name: str, save: Path, *, required: bool) -> "Window | None":
    """Open a window; if that fails and it is not required, note it and return None."""
    from mien.inference import webcam as webcams

    try:
        return webcams.Window(f"mien: {name}", folder=save)
    except InputError as error:
        if required:
            raise InputError(f"{error}; use --headless, without --json, to print JSON lines") from None
        common.note(f"{error}; printing JSON lines instead, as with --headless")
        return None


def _print_camera(live: "Live", seen: _Seen, *, json: bool) -> None:
    delays = sorted(seen.latencies)
    document: dict[str, Any] = {
        "source": live.name,
        "seconds": round(time.monotonic() - seen.began, 3),
        "frames": live.captured,
        "analyzed": live.looked,
        "latency": round(delays[len(delays) // 2], 4) if delays else None,
        "latency_95": round(delays[int(len(delays) * 0.95)], 4) if delays else None,
        "people": len(seen.people),
        "problem": live.problem,
    }
    if json:
        common.emit(document)
        return
    median = f", median latency {1000 * document['latency']:.0f} ms" if delays else ""
    common.note(f"{live.name}: {live.looked:,} of {live.captured:,} frames analyzed{median}")
    if live.problem:
        common.note(live.problem)
