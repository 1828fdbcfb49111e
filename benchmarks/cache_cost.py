"""Measure what writing a cache costs beside reading photographs, in CPU seconds, block by block in turn.

python benchmarks/large_data.py photographs photographs --images 10000
python benchmarks/cache_cost.py photographs cache --images 10000
"""

import argparse
import time
from pathlib import Path

import numpy as np

from mien.data import face_crops, image_cache, listings

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("photographs", type=Path)
parser.add_argument("cache", type=Path)
parser.add_argument("--images", type=int, default=10_000)
parser.add_argument("--size", type=int, default=96)
options = parser.parse_args()

plain = face_crops.FaceReader(options.size)
spent = {"memory": 0.0, "cache": 0.0}
kept: dict[str, list[np.ndarray]] = {"memory": [], "cache": []}
with image_cache.ImageStore(options.cache, options.size) as store:
    store.expect(options.images)
    cached = face_crops.FaceReader(options.size, store=store)
    files = sorted(options.photographs.rglob("*.jpg"))[: options.images]
    for number, start in enumerate(range(0, len(files), 100)):
        for name in sorted(kept, reverse=bool(number % 2)):
            begun = time.process_time()
            for path in files[start : start + 100]:
                if name == "memory":
                    face = plain.read(path.read_bytes)
                else:
                    face = cached.read(path.read_bytes, known_as=listings.file_state(path, path.name))
                kept[name].append(face)
            spent[name] += time.process_time() - begun
    order = np.random.default_rng(0).permutation(len(kept["memory"])).tolist()
    for name, reader in (("memory", plain), ("cache", cached)):
        begun = time.process_time()
        arranged = reader.arrange(kept[name], order)
        spent[name] += time.process_time() - begun
        kept[name] = [arranged]
assert np.array_equal(kept["memory"][0], kept["cache"][0])
print(
    f"{len(order):,} photographs: {spent['memory']:.1f} CPU seconds in memory, {spent['cache']:.1f} with a "
    f"cache; speed {spent['memory'] / spent['cache']:.1%}"
)
