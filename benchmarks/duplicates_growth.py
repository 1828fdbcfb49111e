"""How the near-duplicate search grows: time, memory, pairs looked at and recall on made images.

    python benchmarks/duplicates_growth.py [--most 250000]

Images are made, not photographed: each is the mean of two drawn faces under clouds whose spectrum falls as
pictures' does, so that many are alike in what all faces share. One in a hundred has a copy: shifted by up to
two pixels, mirrored half of the time, up to 10 % brighter or darker, with noise. Sizes double up to the most;
each is searched in a process of its own, because memory once taken is not given back.
"""

import argparse
import os
import resource
import subprocess
import sys
import time

import numpy as np

SIZE = 48
BLOCK = 5000


def clouds(count: int, rng: np.random.Generator) -> np.ndarray:
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE + 4), np.fft.rfftfreq(SIZE + 4), indexing="ij"))
    frequency[0, 0] = np.inf
    spectrum = rng.normal(size=(2, count, *frequency.shape)) / frequency
    fields = np.fft.irfft2(spectrum[0] + 1j * spectrum[1], s=(SIZE + 4, SIZE + 4))
    return (fields / fields.std(axis=(1, 2), keepdims=True)).astype(np.float32)


def make(count: int) -> tuple[np.ndarray, int]:
    """Images, and how many of the last are copies of the first."""
    from mien.data import synthetic

    rng = np.random.default_rng(0)
    faces = synthetic.sample(700, seed=0, size=SIZE + 4)[0][:, :, :, 0].astype(np.float32)
    copies = count // 100
    images = np.empty((count, SIZE, SIZE, 1), np.uint8)
    for start in range(0, count - copies, BLOCK):
        block = min(BLOCK, count - copies - start)
        mixed = (faces[rng.integers(700, size=block)] + faces[rng.integers(700, size=block)]) / 2
        mixed += 25 * clouds(block, rng)
        if start == 0:
            plant(images[count - copies :, :, :, 0], mixed, rng)
        images[start : start + block, :, :, 0] = np.clip(np.rint(mixed[:, 2:-2, 2:-2]), 0, 255)
    return images, copies


def plant(target: np.ndarray, originals: np.ndarray, rng: np.random.Generator) -> None:
    for index, copy in enumerate(target):
        down, across = rng.integers(0, 5, 2)
        image = originals[index, down : down + SIZE, across : across + SIZE]
        image = np.clip(image, 0, 255) * rng.uniform(0.9, 1.1) + rng.normal(0, 2, image.shape)
        copy[:] = np.clip(np.rint(image[:, :: rng.choice([-1, 1])]), 0, 255)


def one(count: int) -> None:
    from mien.data import duplicates

    images, copies = make(count)
    wall, cpu = time.perf_counter(), time.process_time()
    found = duplicates.find(images)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    pairs = set(map(tuple, found.pairs.tolist()))
    recalled = sum((index, count - copies + index) in pairs for index in range(copies))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{count:>8,} {wall:>8.1f} {cpu:>8.1f} {1e6 * cpu / count:>9.0f} {memory:>6.2f} "
        f"{recalled / copies:>8.2%} {len(pairs) - recalled:>6}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=250_000)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one)
        return
    sizes = [arguments.most]
    while sizes[-1] > 8000:
        sizes.append(sizes[-1] // 2)
    print(f"{os.cpu_count()} cores\n  images  seconds  CPU s  µs/image   GiB   recall  wrong")
    for count in reversed(sizes):
        subprocess.run([sys.executable, __file__, "--one", str(count)], check=True)


if __name__ == "__main__":
    main()
