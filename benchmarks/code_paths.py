"""Count what a reader must open to follow a command: files, functions and lines of mien that it runs.

    python benchmarks/code_paths.py

Each command runs in a process of its own on small made-up data. A file counts if one of its functions runs
during the command. Module bodies do not count. Lines are the lines of these functions.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
SOURCE = str(ROOT / "src" / "mien")
COMMANDS = {
    "predict photo.png": ["predict", "photo.png"],
    "evaluate default": ["evaluate", "default", "--data", "data", "--split", "val"],
    "train data": ["train", "data", "--set", "network=tiny", "--set", "epochs=1", "--out", "run"],
    "ship run": ["ship", "run", "--to", "shipped"],
    "video film.mp4": ["video", "film.mp4"],
    "extract faces.zip": ["extract", "faces.zip", "--to", "unpacked"],
}


def main() -> None:
    """Print a Markdown table; with an argument, run that command and print its counts as JSON."""
    if len(sys.argv) > 1:
        print(json.dumps(count(COMMANDS[sys.argv[1]])))
        return
    print("| command | files | functions | lines |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for name in COMMANDS:
            words = [sys.executable, str(Path(__file__).resolve()), name]
            environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
            done = subprocess.run(
                words, cwd=folder, env=environment, check=True, capture_output=True, text=True
            )
            files, functions, lines = json.loads(done.stdout.splitlines()[-1])
            print(f"| `{name}` | {files} | {functions} | {lines} |", flush=True)


def count(words: list[str]) -> tuple[int, int, int]:
    """Run a command and return how many files, functions and lines of mien it runs."""
    seen: dict[tuple[str, int, str], int] = {}

    def note(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(SOURCE) and code.co_name != "<module>":
            key = (code.co_filename, code.co_firstlineno, code.co_qualname)
            if key not in seen:
                last = max((line for *_, line in code.co_lines() if line), default=code.co_firstlineno)
                seen[key] = last - code.co_firstlineno + 1

    from mien import cli

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        sys.setprofile(note)
        code = cli.run(words)
        sys.setprofile(None)
    if code not in (0, 3):
        sys.exit(f"{words} ended with {code}: {out.getvalue()[-500:]}")
    # A comprehension or an inner function lies inside another function's lines.
    outer = [lines for (_, _, name), lines in seen.items() if "<" not in name]
    return len({file for file, *_ in seen}), len(outer), sum(outer)


def prepare(folder: Path) -> None:
    """Write a photo, class folders, a zip of them and a film of twelve frames."""
    import zipfile

    import av
    import numpy as np
    from PIL import Image
    from skimage.data import astronaut

    Image.fromarray(astronaut()).save(folder / "photo.png")
    generator = np.random.default_rng(5)
    with zipfile.ZipFile(folder / "faces.zip", "w") as archive:
        for split, images in (("train", 24), ("val", 16)):
            for label in ("happy", "sad", "neutral"):
                place = folder / "data" / split / label
                place.mkdir(parents=True)
                for index in range(images):
                    pixels = generator.integers(0, 256, (48, 48)).astype(np.uint8)
                    Image.fromarray(pixels).save(place / f"{index}.png")
                    archive.write(place / f"{index}.png", f"{split}/{label}/{index}.png")
    with av.open(str(folder / "film.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=6)
        stream.width, stream.height, stream.pix_fmt = 512, 512, "yuv420p"
        for _ in range(12):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(astronaut(), format="rgb24")))
        film.mux(stream.encode())


if __name__ == "__main__":
    main()
