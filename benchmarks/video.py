"""How fast a video is read, how well faces are found in a shrunk picture, and how much memory an hour takes.

    python benchmarks/video.py speed            frames a second, a row for each, by the size looked at
    python benchmarks/video.py sizes            faces found by their width and the size looked at
    python benchmarks/video.py memory           memory in the first minute of a video and over 60 minutes

The clip is made: the astronaut's face (NASA, public domain) wanders over a soft pattern, 640 × 360 pixels,
25 frames a second, H.264, with sound.

`memory` repeats a minute of it by copying its packets. It decodes every frame, and to come to an end in
minutes looks at a few of them, shrunk to 160 pixels, which finds this face as well; `--film` writes the
annotated video too. Memory is that of the process, every half second.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from mien.inference import video
from mien.inference.video_files import Clip

WIDE, HIGH, RATE = 640, 360, 25
LOOKS = (160, 240, 320, 400, 480, 640)
WIDTHS = (20, 30, 40, 60, 90, 120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["speed", "sizes", "memory"])
    parser.add_argument("--seconds", type=int, default=12, help="length of the clip for speed")
    parser.add_argument("--minutes", type=int, default=60, help="length of the video for memory")
    parser.add_argument("--every", type=int, default=25, help="which frames memory looks at")
    parser.add_argument("--film", action="store_true", help="memory with an annotated video")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "speed":
            print(speed(Path(folder), options.seconds))
        elif options.what == "sizes":
            print(sizes())
        else:
            print(memory(Path(folder), options.minutes, options.every, film=options.film))


def head(width: int) -> Image.Image:
    """The astronaut's head, its face `width` pixels wide as the detector's box has it."""
    found = Image.fromarray(data.astronaut()).crop((150, 0, 310, 200))
    scale = width / 89
    return found.resize((round(160 * scale), round(200 * scale)), Image.Resampling.LANCZOS)


def background(seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    coarse = random.integers(60, 190, (9, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((WIDE, HIGH), Image.Resampling.BICUBIC)


def pictures(seconds: int) -> Iterator[NDArray[np.uint8]]:
    face, ground = head(90), background(0)
    for number in range(seconds * RATE):
        turn = number / RATE
        picture = ground.copy()
        x, y = 240 + 150 * math.sin(turn * 0.9), 80 + 60 * math.sin(turn * 0.7)
        picture.paste(face, (round(x), round(y)))
        yield np.asarray(picture)


def make(path: Path, seconds: int) -> Path:
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDE, HIGH, "yuv420p"
        tone: Any = out.add_stream("aac", rate=16000)
        for number, pixels in enumerate(pictures(seconds)):
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        for start in range(0, seconds * 16000, 1024):
            wave = (8000 * np.sin(np.arange(start, start + 1024) * 0.17)).astype(np.int16)[None]
            piece = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = 16000, start, Fraction(1, 16000)
            out.mux(tone.encode(piece))
        out.mux(tone.encode())
    return path


def repeat(source: Path, to: Path, times: int) -> Path:
    """Put a clip after itself, its packets copied as they are, a fifth of a second between."""
    with av.open(str(to), "w") as out:
        streams: dict[int, Any] = {}
        for turn in range(times):
            with av.open(str(source)) as clip:
                for stream in clip.streams:
                    if turn == 0:
                        streams[stream.index] = out.add_stream_from_template(stream)
                for packet in clip.demux():
                    if packet.dts is None or packet.pts is None:
                        continue
                    shift = round(turn * (clip.duration / av.time_base + 0.2) / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.index]
                    out.mux(packet)
    return to


def speed(folder: Path, seconds: int) -> str:
    clip = make(folder / "clip.mp4", seconds)
    lines = ["| longer side looked at | frames | rows | seconds | CPU ms a frame | frames a second |"]
    lines.append("|---|---|---|---|---|---|")
    with Clip(clip) as source:
        wall, cpu = time.perf_counter(), time.process_time()
        count = sum(picture.pixels().size > 0 for picture in source.pictures())
        lines.append(_line("decoding and turning into RGB alone", count, 0, wall, cpu))
    for look in LOOKS:
        predictor = video.make_predictor(look=look)
        predictor.image(np.zeros((HIGH, WIDE, 3), np.uint8))
        rows = frames = 0
        wall, cpu = time.perf_counter(), time.process_time()
        with video.track(clip, predictor=predictor) as reading:
            for frame in reading:
                frames, rows = frames + 1, rows + len(frame.people)
        lines.append(_line(f"{look} px", frames, rows, wall, cpu))
    return "\n".join(lines)


def _line(what: str, frames: int, rows: int, wall: float, cpu: float) -> str:
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return f"| {what} | {frames} | {rows} | {wall:.1f} | {1000 * cpu / frames:.1f} | {frames / wall:.1f} |"


def sizes(repeats: int = 40) -> str:
    """Faces found out of `repeats`, by their width in a picture of 640 pixels, and their middles' jitter."""
    lines = ["| face | " + " | ".join(f"{look} px" for look in LOOKS) + " |", "|---" * (len(LOOKS) + 1) + "|"]
    for width in WIDTHS:
        face, cells = head(width), []
        for look in LOOKS:
            finder = video.make_predictor(look=look).detector
            random, off = np.random.default_rng(width), []
            for number in range(repeats):
                picture = background(number)
                x, y = (int(random.integers(0, space)) for space in (WIDE - face.width, HIGH - face.height))
                picture.paste(face, (x, y))
                for found in finder.find(np.asarray(picture), smallest=20)[:1]:
                    middle = found.left + found.width / 2 - x - face.width / 2
                    if abs(middle) < width:
                        off.append(middle / width)
            cells.append(f"{len(off)} ± {np.std(off):.3f}" if off else "0")
        lines.append(f"| {width} px | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def memory(folder: Path, minutes: int, every: int, *, film: bool) -> str:
    clip = repeat(make(folder / "minute.mp4", 60), folder / "long.mp4", minutes)
    outputs = [f"--to={folder / 'rows'}.{kind}" for kind in ("csv", "jsonl", "parquet")]
    outputs += [f"--save={folder / 'film.mp4'}"] if film else []
    command = [
        sys.executable,
        "-m",
        "mien",
        "video",
        str(clip),
        "--look=160",
        f"--every={every}",
        "--json",
        *outputs,
    ]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    journal, seen = folder / ".rows.csv.log", []

    def watch() -> None:
        while process.poll() is None:
            held = _resident(process.pid)
            size = journal.stat().st_size if journal.exists() else 0
            seen.append((size, held))
            time.sleep(0.5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    document = json.loads(process.communicate()[0])
    watcher.join()
    longest = max(size for size, _ in seen)
    first = max(held for size, held in seen if 0 < size <= longest / minutes)
    whole = max(held for size, held in seen if size > 0)
    return (
        f"{minutes} minutes, {document['frames']:,} frames, {document['faces']:,} rows, "
        f"{time.perf_counter() - began:.0f} s\n"
        f"most memory in the first minute {first / 2**20:.0f} MiB, over all {whole / 2**20:.0f} MiB "
        f"({whole / first - 1:+.1%})"
    )


def _resident(process: int) -> int:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
