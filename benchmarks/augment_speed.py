"""How many faces a second of one processor augments, beside Keras' legacy ImageDataGenerator.

    python benchmarks/augment_speed.py --json

Time is the process's CPU time, over all its threads. The contestants take turns, so that a machine that slows
down in between slows down all of them; each line gives the slowest, median and fastest of the repeats. The
generator is left out, with a word, where tensorflow or scipy is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from mien.training import augmentation, recipes

_FULL = recipes.Augment(rotation=10, zoom=0.1, shift=0.1, flip=True, brightness=0.2, contrast=0.2, erase=0.5)
SETS = {
    "seed's set": recipes.Augment(rotation=10, zoom=0.1, flip=True),
    "full set": _FULL,
    "full set, cubic": replace(_FULL, interpolation="cubic"),
    "full set, cubic, noise": replace(_FULL, interpolation="cubic", noise=0.03),
    "full set, cubic, noise, blur": replace(_FULL, interpolation="cubic", noise=0.03, blur=0.02),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4096, help="faces a repeat")
    parser.add_argument("--batch", type=int, default=128, help="faces a batch")
    parser.add_argument("--size", type=int, default=48, help="side of a face in pixels")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--without-keras", action="store_true", help="leave ImageDataGenerator out")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()

    shape = (options.images, options.size, options.size, 1)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    contestants = {f"mien, {name}": _mien(images, settings, options.batch) for name, settings in SETS.items()}
    if not options.without_keras:
        generator = _image_data_generator(images, options.batch)
        if generator is not None:
            contestants["ImageDataGenerator, seed's set"] = generator
    speeds = _measure(contestants, options.images, options.repeats)
    document = {
        "unit": "images per CPU-second",
        "images": options.images,
        "batch": options.batch,
        "size": options.size,
        "repeats": options.repeats,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "speeds": speeds,
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return
    print(f"{'images per CPU-second':36}{'slowest':>10}{'median':>10}{'fastest':>10}")
    for name, values in speeds.items():
        print(f"{name:36}{values['min']:10,.0f}{values['median']:10,.0f}{values['max']:10,.0f}")


def _mien(images: np.ndarray, settings: recipes.Augment, size: int) -> Callable[[int], None]:
    def run(epoch: int) -> None:
        order = np.random.default_rng(epoch).permutation(len(images))
        for start in range(0, len(images), size):
            augmentation.augment_batch(images, order[start : start + size], settings, seed=42, epoch=epoch)

    return run


def _image_data_generator(images: np.ndarray, size: int) -> Callable[[int], None] | None:
    """Return the seed's generator over the same faces in memory: no file is read and nothing rescaled."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import scipy  # noqa: F401
        from tensorflow.keras.preprocessing.image import ImageDataGenerator
    except ImportError as error:
        print(f"ImageDataGenerator is left out: {error}", file=sys.stderr)
        return None
    generator = ImageDataGenerator(rotation_range=10, zoom_range=0.1, horizontal_flip=True)
    faces = images[:512].astype(np.float32)

    def run(epoch: int) -> None:
        flow = generator.flow(faces, batch_size=size, shuffle=True, seed=epoch)
        for _ in range(len(flow)):
            next(flow)

    # Fewer faces than the others, and counted as such, because it is that much slower.
    run.share = len(faces) / len(images)  # type: ignore[attr-defined]
    return run


def _measure(
    contestants: dict[str, Callable[[int], None]], images: int, repeats: int
) -> dict[str, dict[str, float]]:
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for repeat in range(repeats + 1):
        for name, run in contestants.items():
            start = time.process_time()
            run(repeat)
            spent = time.process_time() - start
            # The first round warms caches and lets libraries load what they load late.
            if repeat:
                speeds[name].append(images * getattr(run, "share", 1.0) / spent)
    return {
        name: {"min": min(values), "median": statistics.median(values), "max": max(values)}
        for name, values in speeds.items()
    }


if __name__ == "__main__":
    main()
