"""The operations on pixels in the browser equal those of Pillow and mien.vision.images bit by bit."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from mien.release import web_site
from mien.vision import images
from web_fixtures import needs_node, node

BILINEAR = Image.Resampling.BILINEAR


class Tasks:
    """Operations to run in JavaScript, each with the result of Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tasks: list[dict[str, object]] = []
        self.expected: list[bytes] = []

    def add(self, operation: str, image: np.ndarray, *arguments: object, expected: object) -> None:
        file, to = (self.folder / f"{kind}{len(self.tasks)}" for kind in ("in", "out"))
        file.write_bytes(image.tobytes())
        channels = 1 if image.ndim == 2 else 3
        facts = {"width": image.shape[1], "height": image.shape[0], "channels": channels, "file": str(file)}
        self.tasks.append(
            {"operation": operation, "image": facts, "arguments": list(arguments), "to": str(to)}
        )
        self.expected.append(np.asarray(expected).tobytes())

    def check(self) -> None:
        node("pixel_operations.mjs", web_site.PAGE, self.tasks, self.folder)
        different = [
            (task["operation"], task["image"], task["arguments"])
            for task, expected in zip(self.tasks, self.expected, strict=True)
            if Path(str(task["to"])).read_bytes() != expected
        ]
        assert not different


@needs_node
def test_pixels_are_those_of_python(tmp_path: Path) -> None:
    tasks, rng = Tasks(tmp_path), np.random.default_rng(0)
    for number in range(60):
        width, height = (int(side) for side in rng.integers(3, 200, 2))
        image = rng.integers(0, 256, (height, width, 3)[: 2 + number % 2], np.uint8)
        picture = Image.fromarray(image)
        size = tuple(int(side) for side in rng.integers(1, 150, 2))
        tasks.add("resize", image, *size, expected=picture.resize(size, BILINEAR))
        border = int(rng.integers(0, 40))
        (left, right), (top, bottom) = (
            np.sort(rng.uniform(0, side + 2 * border, 2)).tolist() for side in (width, height)
        )
        box = (left, top, right + 1e-3, bottom + 1e-3)
        around = ((border, border), (border, border), (0, 0))[: image.ndim]
        padded = Image.fromarray(np.pad(image, around, constant_values=127))
        box = (left, top, min(right + 1, padded.width), min(bottom + 1, padded.height))
        options = {"box": box, "border": border, "fill": 127}
        tasks.add("resize", image, *size, options, expected=padded.resize(size, BILINEAR, box=box))
        radius = float(rng.uniform(0.1, 8))
        tasks.add("blur", image, radius, expected=picture.filter(ImageFilter.GaussianBlur(radius)))
        square = (float(rng.uniform(-80, width)), float(rng.uniform(-80, height)), float(rng.uniform(1, 200)))
        tasks.add("cut", image, square, 48, expected=images.cut(image, square, 48))
        tasks.add("fit", image, 48, expected=images.fit(image, 48))
        tasks.add("grey", image, expected=images.grey(image))
        turns = number % 4
        tasks.add("turn", image, turns, expected=np.ascontiguousarray(np.rot90(image, -turns)))
    tasks.check()


@needs_node
def test_large_faces_are_reduced_as_in_python(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path)
    image = np.random.default_rng(1).integers(0, 256, (40, 5000), np.uint8)
    tasks.add("fit", image, 48, expected=images.fit(image, 48))
    square = (-100.0, -20.0, 4600.0)
    tasks.add("cut", image, square, 48, expected=images.cut(image, square, 48))
    tasks.check()
