"""How fast photos become predictions, stages apart, and what a first answer costs.

    python benchmarks/predict.py

One process. The photo is scikit-image's astronaut, placed into a 640 × 480 scene and saved as JPEG. Prints
JSON: CPU milliseconds a photo for reading, finding, cutting and classifying (smallest, median, largest of the
rounds), photos a second end to end, and seconds and CPU seconds of fresh processes: import, first answer in
Python, `mien predict`.
"""

import argparse
import io
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import astronaut

from mien import images, predict


def scene() -> bytes:
    """Return the photo's JPEG bytes."""
    ground = np.full((480, 640, 3), 96, np.uint8)
    ground[:, 80:560] = astronaut()[:480, :480]
    held = io.BytesIO()
    Image.fromarray(ground).save(held, "JPEG", quality=92)
    return held.getvalue()


def cpu_ms(work: Callable[[], object], times: int) -> float:
    """Return CPU milliseconds a call."""
    begin = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begin) * 1000 / times


def fresh(code: list[str]) -> dict[str, float]:
    """Return seconds, CPU seconds and peak MiB of a fresh process."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 2), "cpu_seconds": round(used, 2), "peak_mib": after.ru_maxrss // 1024}


def spread(values: list[float]) -> list[float]:
    """Return the smallest, the median and the largest."""
    return [round(value, 2) for value in (min(values), statistics.median(values), max(values))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=int, default=20)
    asked = parser.parse_args()
    photo = scene()
    predictor = predict.Predictor()
    detector = predictor.detector
    assert detector is not None
    pixels = images.read(photo)
    found = detector.find(pixels, smallest=predict.SMALLEST)
    square, side = detector.framing.square(found[0]), predictor.model.card.size
    crop = images.cut(pixels, square, side)[np.newaxis]
    stages: dict[str, Callable[[], object]] = {
        "read": lambda: images.read(photo),
        "find": lambda: detector.find(pixels, smallest=predict.SMALLEST),
        "cut": lambda: images.cut(pixels, square, side),
        "classify": lambda: predictor.model.run(crop, labels=predictor.labels),
        "all": lambda: predictor.image(photo),
    }
    times: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(asked.rounds):
        for name, work in stages.items():
            times[name].append(cpu_ms(work, asked.photos))
    begin, count = time.perf_counter(), 0
    for item in predictor.images([photo] * asked.photos * 2):
        count += isinstance(item, predict.Prediction)
    streamed = count / (time.perf_counter() - begin)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "photo.jpg")
        path.write_bytes(photo)
        cold = {
            "import mien.predict": fresh(["-c", "import mien.predict"]),
            "first answer": fresh(["-c", f"from mien import predict; predict.image({str(path)!r})"]),
            "mien predict": fresh(["-m", "mien", "predict", str(path)]),
        }
    document = {
        "processor": platform.processor() or platform.machine(),
        "detector": detector.name,
        "faces": len(found),
        "cpu_ms_a_photo": {name: spread(values) for name, values in times.items()},
        "photos_a_second": round(streamed, 1),
        "fresh_processes": cold,
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
