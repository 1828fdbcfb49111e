"""Measure memory and time of a data set that is larger than memory: 500,000 made-up images of 96 pixels.

    python benchmarks/large_data.py write large --images 500000
    python benchmarks/large_data.py load large --cache large-cache
    python benchmarks/large_data.py train large --cache large-cache --out large-run

`load` and `train` print one line of JSON with seconds, CPU seconds and the peak of resident memory in MiB.
Without `--cache`, images are in memory. `photographs` writes JPEG files of 640 × 480 pixels instead, for
`load`.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIZE = 96
FILES_PER_FOLDER = 2000


def write(root: Path, images: int) -> None:
    """Write grey BMP files in class folders: noise, with a bar whose place tells the class."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 156, (SIZE + 64, SIZE * 64), dtype=np.uint8)
    header = None
    for number in range(images):
        split = "val" if number % 10 == 9 else "train"
        label = number % len(CLASSES)
        top, left = number % 64, number * 7 % (SIZE * 63)
        pixels = noise[top : top + SIZE, left : left + SIZE].copy()
        pixels[:, label * 13 : label * 13 + 13] += 100
        pixels[0, :4] = np.frombuffer(number.to_bytes(4, "little"), np.uint8)
        folder = root / split / CLASSES[label] / f"{number // FILES_PER_FOLDER:04d}"
        if header is None:
            first = root / "first.bmp"
            root.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(first)
            header = first.read_bytes()[: -SIZE * SIZE]
            first.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:06d}.bmp").write_bytes(header + pixels[::-1].tobytes())


def write_photographs(root: Path, images: int) -> None:
    """Write JPEG files of 640 × 480 pixels in two class folders."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((1280, 960), Image.Resampling.BICUBIC)
    for number in range(images):
        folder = root / CLASSES[number % 2] / f"{number // FILES_PER_FOLDER:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        left, top = number * 13 % 640, number * 29 % 480
        part = picture.crop((left, top, left + 640, top + 480))
        part.save(folder / f"{number:06d}.jpg", quality=85)


def report(begun: float, **facts: object) -> None:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    facts["seconds"] = round(time.perf_counter() - begun, 1)
    facts["cpu_seconds"] = round(sum(each.ru_utime + each.ru_stime for each in used), 1)
    facts["peak_mib"] = used[0].ru_maxrss // 1024
    print(json.dumps(facts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("task", choices=("write", "photographs", "load", "train"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=500_000)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    begun = time.perf_counter()
    if options.task == "write":
        write(options.data, options.images)
        return
    if options.task == "photographs":
        write_photographs(options.data, options.images)
        return
    from mien.data import contents, datasets

    if options.cache is None:
        # Images in memory, whatever their size.
        contents.AUTO_CACHE_BYTES = sys.maxsize
    loading = time.perf_counter()
    data = datasets.load(options.data, size=options.size, cache=options.cache)
    facts: dict[str, object] = {
        "task": options.task,
        "images": sum(map(len, data.splits)),
        "cache": options.cache is not None,
        "load_seconds": round(time.perf_counter() - loading, 1),
        "load_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if options.task == "load":
        report(begun, **facts)
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import builders
    from mien.training import recipes, trainer

    builders.add_toy_network()
    changes = ["epochs=1", "network=toy", f"size={options.size}", "batch_size=256"]
    run = trainer.fit(data, recipes.override(recipes.get("quick"), changes), out=options.out)
    report(begun, **facts, fingerprint=data.fingerprint[:16], history=run.history())


if __name__ == "__main__":
    main()
