"""How small a face each detector finds, and what a look costs.

    python benchmarks/detectors.py

Scenes of 640 × 480 pixels: generated texture, and in it the face of NASA's astronaut (scikit-image, public
domain), scaled to a width, anywhere, every second one mirrored, darker or paler by up to a third. A face is
found where a box overlaps the true one by 0.4 of their union or more; any other box is false, as is any in
textures and noise without a face. CPU ms are of the whole process, for one scene.
"""

import argparse
import time

import numpy as np
from PIL import Image
from skimage import data

from mien.vision import detectors

#: The astronaut's face by hand, and what is cut out with it: left, top, width, height.
FACE = (180, 68, 90, 110)
HEAD = (136, 12, 172, 172)
WIDTHS = (20, 30, 40, 60, 120)
HEIGHT, WIDTH = 480, 640


def textured(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return `(height, width, 3)` uint8 of blots in every size, which hold no face."""
    image = np.zeros((height, width, 3))
    for side in (4, 8, 16, 32, 64, 128):
        small = rng.normal(size=(height // side + 2, width // side + 2, 3)) * rng.uniform(0.2, 1)
        small[:] = small.mean(axis=2, keepdims=True) + 0.4 * small
        for channel in range(3):
            layer = Image.fromarray(small[:, :, channel].astype(np.float32)).resize(
                (width, height), Image.Resampling.BICUBIC
            )
            image[:, :, channel] += np.asarray(layer)
    image *= rng.uniform(20, 45) / image.std()
    return np.clip(image + rng.uniform(80, 170), 0, 255).astype(np.uint8)


def scene(rng: np.random.Generator, face_width: float) -> tuple[np.ndarray, tuple[float, ...]]:
    """Return a scene with one face, and the face's true left, top, width and height."""
    image = textured(rng, HEIGHT, WIDTH)
    scale = face_width / FACE[2]
    left, top, wide, high = HEAD
    side = round(wide * scale)
    head = Image.fromarray(data.astronaut()).crop((left, top, left + wide, top + high))
    head = head.resize((side, side), Image.Resampling.BILINEAR)
    mirrored = rng.random() < 0.5
    if mirrored:
        head = head.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.clip(np.asarray(head) * rng.uniform(0.67, 1.1) + rng.uniform(-20, 20), 0, 255)
    x, y = (int(rng.integers(0, room - side)) for room in (WIDTH, HEIGHT))
    down, across = np.abs(np.indices((side, side)) - (side - 1) / 2) / (side / 2)
    mask = np.clip((1 - np.maximum(down, across)) * 12, 0, 1)[:, :, np.newaxis]
    part = image[y : y + side, x : x + side]
    image[y : y + side, x : x + side] = part * (1 - mask) + pixels * mask
    inner = FACE[0] - left
    if mirrored:
        inner = wide - inner - FACE[2]
    return image, (x + inner * scale, y + (FACE[1] - top) * scale, FACE[2] * scale, FACE[3] * scale)


def overlap(found: detectors.Detection, box: tuple[float, ...]) -> float:
    """Return the intersection of two boxes over their union."""
    left, top, width, height = box
    across = min(found.left + found.width, left + width) - max(found.left, left)
    down = min(found.top + found.height, top + height) - max(found.top, top)
    shared = max(across, 0) * max(down, 0)
    return shared / (found.width * found.height + width * height - shared)


def measured(name: str, smallest: int, count: int) -> str:
    detector = detectors.load(name)
    cells, false, spent = [], 0, 0.0
    for width in WIDTHS:
        hits = 0
        for number in range(count):
            image, truth = scene(np.random.default_rng([width, number]), width)
            start = time.process_time()
            faces = detector.find(image, smallest=smallest)
            spent += time.process_time() - start
            right = [overlap(face, truth) >= 0.4 for face in faces]
            hits += any(right)
            false += len(right) - any(right)
        cells.append(f"{hits / count:.0%}".replace("%", " %"))
    empty = 0
    for number in range(count):
        rng = np.random.default_rng(number)
        noise = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        for image in (textured(rng, HEIGHT, WIDTH), noise):
            empty += len(detector.find(image, smallest=smallest))
    cost = spent / count / len(WIDTHS) * 1000
    return f"| {name} | {smallest} | {' | '.join(cells)} | {false} | {empty} | {cost:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=40, help="scenes of each width")
    parser.add_argument("--smallest", type=int, nargs="+", default=[32, 24, 16], help="widths to demand")
    options = parser.parse_args()
    widths = " | ".join(f"{width} px" for width in WIDTHS)
    print(f"| detector | smallest | {widths} | false | in {2 * options.count} without | CPU ms |")
    print("|---" * (len(WIDTHS) + 5) + "|")
    for name in detectors.NAMES:
        for smallest in options.smallest:
            print(measured(name, smallest, options.count), flush=True)


if __name__ == "__main__":
    main()
