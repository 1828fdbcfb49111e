"""Record what a refactoring must not change, and compare it later.

    python benchmarks/guard.py record guard.json
    python benchmarks/guard.py compare guard.json

Record and compare on one machine, because int8 kernels differ between processors. The record holds:

- the SHA-256 of the shipped model files and of their raw answers to random images,
- the predictions of a photo, of the photo turned, and of a whole image, as float32 (Parquet),
- the evaluation of the shipped models on small made-up images: all figures, without their names,
- a training of two epochs, done twice: the history without clocks and the answers of the model,
- the exit code for each hostile archive of the tests, and that nothing is left behind,
- the exit code of a list of commands, right and wrong.

Since decision 0011, mien reads the archives of `HARMLESS` in tests/hostile.py (exit code 0,
not 2), because they contradict themselves without harm. Five archives are new.

Commands run through the command line, so that modules can move.
"""

import argparse
import contextlib
import csv
import hashlib
import io
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from skimage.data import astronaut

ROOT = Path(__file__).resolve().parent.parent
CLOCKS = {"seconds", "cpu_seconds", "images_per_second"}
WRONG = (
    ("predict", "nowhere.jpg"),
    ("predict", "photo.png", "--model", "nowhere"),
    ("predict", "photo.png", "--balance", "2"),
    ("predict", "photo.png", "--min-face", "0"),
    ("predict", "photo.png", "--nonsense"),
    ("evaluate", "nowhere", "--data", "data"),
    ("evaluate", "default", "--data", "nowhere"),
    ("train", "nowhere"),
    ("train", "data", "--set", "epochs=-1"),
    ("train", "data", "--set", "nothing=1"),
    ("train", "data", "--recipe", "nothing"),
    ("train", "--resume", "nowhere"),
    ("export", "nowhere"),
    ("ship", "nowhere", "--to", "out"),
    ("card", "nowhere"),
    ("compare", "default", "nowhere", "--data", "data"),
    ("audit", "nowhere"),
    ("extract", "photo.png"),
    ("explain", "nowhere.png"),
    ("video", "photo.png"),
    ("plot", "nowhere"),
    ("nothing",),
)
RIGHT = (
    ("--version",),
    ("predict", "photo.png"),
    ("explain", "photo.png"),
    ("networks",),
    ("recipes",),
    ("audit", "data"),
    ("compare", "default", "fast", "--data", "data", "--split", "val"),
    ("card", "run"),
    ("export", "run"),
    ("plot", "run"),
)


def main() -> None:
    """Record, or compare and exit with 1 if something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    file = options.file.resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        found = observe()
    if options.what == "record":
        file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        print(f"{len(found)} observations are in {file.name}")
        return
    known = json.loads(file.read_text())
    differing = sorted(name for name in {*known, *found} if known.get(name) != found.get(name))
    for name in differing:
        before, now = known.get(name), found.get(name)
        if name.startswith("evaluate ") and before and now:
            gone, new = (Counter(a[1]) - Counter(b[1]) for a, b in ((before, now), (now, before)))
            before, now = list(gone.elements()), list(new.elements())
        print(f"{name}: {before} before, {now} now")
    print(f"{len(known) - len(differing)} of {len(known)} observations are equal")
    sys.exit(1 if differing else 0)


def observe() -> dict[str, object]:
    """Return the observations by name; runs in an empty folder."""
    found: dict[str, object] = {}
    Image.fromarray(astronaut()).save("photo.png")
    Image.fromarray(np.rot90(astronaut())).save("turned.png")
    _models(found)
    for name, arguments in {
        "photo": ("photo.png",),
        "turned": ("turned.png",),
        "whole": ("photo.png", "--whole-image"),
        "fast": ("photo.png", "--model", "fast", "--balance", "1"),
    }.items():
        code, _ = run("predict", *arguments, "--to", f"{name}.parquet")
        found[f"predict {name}"] = [code, _table(Path(f"{name}.parquet"))]
    _data()
    for model in ("default", "fast"):
        code, out = run("evaluate", model, "--data", "data", "--split", "val", "--json")
        found[f"evaluate {model}"] = [code, _numbers(_steady(json.loads(out)))]
    _training(found)
    _archives(found)
    for arguments in (*RIGHT, *WRONG):
        found["exit code: mien " + " ".join(arguments)] = run(*arguments)[0]
    return found


def run(*arguments: str) -> tuple[int, str]:
    """Return a command's exit code and its stdout."""
    from mien import cli

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = cli.run(list(arguments))
    return code, out.getvalue()


def _models(found: dict[str, object]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (64, 48, 48, 1)).astype(np.uint8)
    for name in ("default", "fast"):
        (file,) = (ROOT / "src" / "mien").rglob(f"{name}.onnx")
        content = file.read_bytes()
        found[f"file {name}"] = hashlib.sha256(content).hexdigest()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        answers = session.run(None, {"images": images})
        found[f"answers {name}"] = [hashlib.sha256(each.tobytes()).hexdigest() for each in answers]


def _table(path: Path) -> str:
    from pyarrow import parquet

    return _digest([list(row.values()) for row in parquet.read_table(str(path)).to_pylist()])


def _data() -> None:
    """Make a small data set as class folders: noise with a bright bar, whose place is the class."""
    generator = np.random.default_rng(5)
    for split, count in (("train", 24), ("val", 8)):
        for number, label in enumerate(("happy", "sad", "neutral")):
            folder = Path("data") / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 60, (48, 48)) + 60 * number
                pixels[10 + 8 * number : 20 + 8 * number] += 60
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")


def _training(found: dict[str, object]) -> None:
    settings = ["network=tiny", "epochs=2", "batch_size=16", "precision=float32"]
    settings = [word for setting in settings for word in ("--set", setting)]
    code, _ = run("train", "data", *settings, "--out", "run")
    code_again, _ = run("train", "data", *settings, "--out", "again")
    found["train"] = [code, code_again, _history("run"), _answers("run")]
    same = _history("run") == _history("again") and _answers("run") == _answers("again")
    found["train is repeatable"] = same


def _history(folder: str) -> str:
    rows = list(csv.DictReader((Path(folder) / "history.csv").open()))
    return _digest([[row[key] for key in row if key not in CLOCKS] for row in rows])


def _answers(folder: str) -> str:
    images = np.random.default_rng(1).integers(0, 256, (8, 48, 48, 1)).astype(np.uint8)
    (file,) = Path(folder).rglob("model.onnx")
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    answers = session.run(None, {"images": images})
    return hashlib.sha256(b"".join(each.tobytes() for each in answers)).hexdigest()


def _archives(found: dict[str, object]) -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from hostile import HARMLESS, HOSTILE

    contents = HOSTILE | {name: content for name, (content, _) in HARMLESS.items()}
    for number, (name, content) in enumerate(sorted(contents.items())):
        home = Path("hostile") / str(number)
        home.mkdir(parents=True)
        (home / "faces.zip").write_bytes(content)
        code, _ = run("extract", str(home / "faces.zip"), "--to", str(home / "out"))
        found[f"archive {name}"] = [code, sorted(path.name for path in home.iterdir())]


def _steady(value: object) -> object:
    """Leave out what differs between two runs: times and paths."""
    if isinstance(value, dict):
        return {k: _steady(v) for k, v in value.items() if "seconds" not in k and k not in ("path", "when")}
    return [_steady(each) for each in value] if isinstance(value, list) else value


def _numbers(value: object) -> list[str]:
    """Return all figures in order of size, without their names, because names may change."""
    if isinstance(value, dict | list):
        each = value.values() if isinstance(value, dict) else value
        return sorted(number for one in each for number in _numbers(one))
    return [repr(value)] if isinstance(value, float) else []


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


if __name__ == "__main__":
    main()
