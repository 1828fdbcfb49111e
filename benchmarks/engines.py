"""Engines for predictions on many machines, beside `mien predict --workers`: Dask, Daft and Ray Data.

    python benchmarks/engines.py --daft daft/bin/python --ray ray/bin/python

DAFT and RAY are interpreters of environments with mien's dependencies and the engine. Each engine gets two
processes of one thread, predicts the same JPEG files, one in 20 of which is broken, and writes one Parquet
file. The engines alternate, each run is a new process, and all must find the same faces. Prints JSON: seconds
and CPU seconds with those of all child processes (smallest, median, largest of the rounds) and each
round's ratio to `--workers 2`.
"""

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

#: Processes, and files in a task.
PROCESSES, BLOCK = 2, 32


def rows_of(items: Iterable[Any]) -> list[tuple[str, int]]:
    """Return the name and the number of faces of each image that can be read."""
    return [(item.source, len(item.faces)) for item in items if hasattr(item, "faces")]


def with_workers(files: list[str]) -> list[tuple[str, int]]:
    from mien.inference.batches import spread
    from mien.inference.predictor import Predictor

    return rows_of(spread(Predictor(), files, workers=PROCESSES))


def with_dask(files: list[str]) -> list[tuple[str, int]]:
    import distributed

    from mien.inference.predictor import Predictor

    class Load(distributed.WorkerPlugin):
        name = "predictor"

        def setup(self, worker: Any) -> None:
            self.predictor = Predictor()

    def predict(block: list[str]) -> list[tuple[str, int]]:
        return rows_of(distributed.get_worker().plugins["predictor"].predictor.images(block))

    with (
        distributed.LocalCluster(
            n_workers=PROCESSES, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.register_plugin(Load())
        blocks = [files[start : start + BLOCK] for start in range(0, len(files), BLOCK)]
        return [row for rows in client.gather(client.map(predict, blocks, pure=False)) for row in rows]


def with_daft(files: list[str]) -> list[tuple[str, int]]:
    import daft

    @daft.cls(max_concurrency=PROCESSES, use_process=True)
    class Predict:
        def __init__(self) -> None:
            from mien.inference.predictor import Predictor

            self.predictor = Predictor()

        @daft.method.batch(return_dtype=daft.DataType.int64(), batch_size=BLOCK)
        def __call__(self, path: daft.Series) -> list[int | None]:
            return [
                len(item.faces) if hasattr(item, "faces") else None
                for item in self.predictor.images(path.to_pylist())
            ]

    frame = daft.from_pydict({"path": files}).into_batches(BLOCK)
    found = frame.with_column("faces", Predict()(daft.col("path"))).to_pydict()
    pairs = zip(found["path"], found["faces"], strict=True)
    return [(path, count) for path, count in pairs if count is not None]


def with_ray(files: list[str]) -> list[tuple[str, int]]:
    import ray

    class Predict:
        def __init__(self) -> None:
            from mien.inference.predictor import Predictor

            self.predictor = Predictor()

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            found = dict(rows_of(self.predictor.images([str(path) for path in batch["item"]])))
            return {"path": list(found), "faces": list(found.values())}

    ray.init(
        num_cpus=PROCESSES + 1, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    data = ray.data.from_items(files).map_batches(
        Predict, batch_size=BLOCK, compute=ray.data.ActorPoolStrategy(size=PROCESSES)
    )
    return [(row["path"], int(row["faces"])) for row in data.take_all()]


ENGINES = {"workers": with_workers, "dask": with_dask, "daft": with_daft, "ray": with_ray}


def write_files(folder: Path, count: int) -> list[str]:
    """Write JPEG files of 200 × 200 pixels with a face, one in 20 of which is broken."""
    import numpy as np
    from PIL import Image
    from skimage.data import astronaut

    face = Image.fromarray(astronaut()[:320, 60:380]).resize((200, 200))
    files = []
    for number in range(count):
        held = io.BytesIO()
        Image.fromarray(np.roll(np.asarray(face), number % 40, axis=1)).save(held, "JPEG", quality=90)
        path = folder / f"{number:05}.jpg"
        path.write_bytes(held.getvalue()[:200] if number % 20 == 19 else held.getvalue())
        files.append(str(path))
    return files


def measure(python: str, engine: str, folder: Path, to: Path) -> tuple[float, float]:
    """Run an engine in a new process; return seconds and CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    environment = os.environ | {"DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [python, __file__, "--run", engine, str(folder), str(to)],
        check=True,
        env=environment,
        capture_output=True,
    )
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def summary(values: list[float]) -> list[float]:
    """Return the smallest, the median and the largest."""
    return [round(value, 2) for value in (min(values), statistics.median(values), max(values))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--daft", metavar="PYTHON")
    parser.add_argument("--ray", metavar="PYTHON")
    parser.add_argument("--run", nargs=3, metavar=("ENGINE", "FOLDER", "FILE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        engine, folder, to = asked.run
        found = ENGINES[engine]([str(path) for path in sorted(Path(folder).iterdir())])
        Path(to).write_text(json.dumps(sorted(found)))
        return
    pythons = {"workers": sys.executable, "dask": sys.executable, "daft": asked.daft, "ray": asked.ray}
    engines = {name: python for name, python in pythons.items() if python}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    cpu: dict[str, list[float]] = {name: [] for name in engines}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "photos")
        folder.mkdir()
        write_files(folder, asked.files)
        expected = None
        for _ in range(asked.rounds):
            for name, python in engines.items():
                to = Path(place, "found.json")
                wall, used = measure(python, name, folder, to)
                seconds[name].append(wall)
                cpu[name].append(used)
                found = json.loads(to.read_text())
                expected = expected or found
                assert found == expected, f"{name} finds other faces"
    report = {
        name: {
            "seconds": summary(seconds[name]),
            "cpu_seconds": summary(cpu[name]),
            "seconds_to_workers": summary(
                [a / b for a, b in zip(seconds[name], seconds["workers"], strict=True)]
            ),
            "cpu_to_workers": summary([a / b for a, b in zip(cpu[name], cpu["workers"], strict=True)]),
        }
        for name in engines
    }
    print(json.dumps({"files": asked.files, "images": len(expected or []), "engines": report}, indent=2))


if __name__ == "__main__":
    main()
