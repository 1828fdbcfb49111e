"""Throughput of a local Dask cluster beside processes of `--workers`, on the same cores, after the start.

    python benchmarks/cluster.py

Both get two processes of one thread and the same JPEG files, one in 20 of which is broken, in alternating
rounds. The clock starts after the first 128 predictions, so that the start of processes does not count.
Prints JSON: images a second, CPU milliseconds an image of all processes, and their ratios in each round
(smallest, median, largest), and seconds and CPU seconds of the start. With `--parts`: CPU microseconds an
image of collecting, merging and listing, and the bytes of a Parquet row.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from engines import summary, write_files
from mien.inference import batches, cluster, image_files, parts
from mien.inference.merging import merge_parts
from mien.inference.predictor import Predictor
from mien.types import Box, Face, Prediction

#: Predictions before the clock starts.
_START = 128


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and all its living descendants."""
    whole = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        times = process.cpu_times()
        whole += times.user + times.system
    return whole


def timed(items: Iterator[Any], count: int) -> dict[str, float]:
    """Return images a second and CPU milliseconds an image after the start, and what the start took."""
    begun, used = time.perf_counter(), cpu_seconds()
    for _ in range(_START):
        next(items)
    started, used_by_start = time.perf_counter(), cpu_seconds()
    for _ in range(count - _START - 1):
        next(items)
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - used_by_start
    list(items)
    images = count - _START - 1
    return {
        "images_a_second": images / seconds,
        "cpu_ms_an_image": 1000 * cpu / images,
        "start_seconds": started - begun,
        "start_cpu_seconds": used_by_start - used,
    }


def clustered(files: list[str], predictor: Predictor, workers: int) -> Iterator[Any]:
    """Yield predictions of a new local cluster."""
    with cluster.connect("local", workers=workers) as client:
        yield from cluster.predict(files, client=client, predictor=predictor)


def parts_of_cost(files: list[str], predictor: Predictor, place: Path) -> dict[str, float]:
    """Return what an image costs besides its prediction; the listing is of 100,000 files."""
    from distributed.protocol.pickle import dumps, loads

    def cpu_us(work: Callable[[], object]) -> float:
        begun = time.process_time()
        work()
        return 1e6 * (time.process_time() - begun)

    random = np.random.default_rng(0)

    def varied(face: Face) -> Face:
        """Return a face with other numbers, because equal ones would be compressed."""
        box = Box(*random.integers(1, 600, 4).tolist())
        return replace(
            face,
            box=box,
            scores=dict(zip(face.scores, random.dirichlet(np.ones(len(face.scores))), strict=True)),
        )

    read = [item for item in predictor.images(files[:64]) if isinstance(item, Prediction)]
    items = [
        replace(item, source=f"{number:05}.jpg", faces=tuple(map(varied, item.faces)))
        for number, item in enumerate(read * 32)
    ]
    blocks = [items[start : start + cluster.BLOCK] for start in range(0, len(items), cluster.BLOCK)]
    packed = [dumps(block) for block in blocks]
    images = 10 * len(items)

    def collect() -> None:
        with parts.PartsWriter(place / "parts", predictor.facts, predictor.names, resume=False) as writer:
            for repeat in range(10):
                for block in packed:
                    for item in loads(block):
                        writer.add(replace(item, source=f"{repeat:03}/{item.source}"))
            writer.finish()

    costs = {"collect_cpu_us_an_image": cpu_us(collect) / images}
    stored = sum(path.stat().st_size for path in parts.files_of(place / "parts"))
    costs["parquet_bytes_an_image"] = stored / images
    costs["merge_cpu_us_an_image"] = (
        cpu_us(lambda: merge_parts([place / "parts"], place / "a.parquet")) / images
    )
    listed = place / "listed"
    for folder in range(100):
        (listed / str(folder)).mkdir(parents=True)
        for number in range(1000):
            (listed / str(folder) / f"{number}.jpg").touch()
    costs["list_cpu_us_a_file"] = cpu_us(lambda: image_files.find([str(listed)])) / 100_000
    shard = image_files.Shard(1, 100)
    costs["list_shard_cpu_us_a_file"] = (
        cpu_us(lambda: image_files.find([str(listed)], keep=shard.has)) / 100_000
    )
    return {name: round(value, 1) for name, value in costs.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--parts", action="store_true", help="measure what is not prediction")
    asked = parser.parse_args()
    predictor = Predictor()
    found: dict[str, list[dict[str, float]]] = {"workers": [], "cluster": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "photos")
        folder.mkdir()
        files = write_files(folder, asked.files)
        if asked.parts:
            print(json.dumps(parts_of_cost(files, predictor, Path(place)), indent=2))
            return
        for _ in range(asked.rounds):
            pool = batches.spread(predictor, files, workers=asked.workers)
            found["workers"].append(timed(pool, len(files)))
            found["cluster"].append(timed(clustered(files, predictor, asked.workers), len(files)))
    report: dict[str, Any] = {
        name: {key: summary([each[key] for each in rounds]) for key in rounds[0]}
        for name, rounds in found.items()
    }
    for key in ("images_a_second", "cpu_ms_an_image"):
        pairs = zip(found["cluster"], found["workers"], strict=True)
        report[f"{key}, cluster / workers"] = summary([one[key] / other[key] for one, other in pairs])
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
