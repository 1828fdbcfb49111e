"""Three small networks, each of which throws out most of what the one before took for a face.

The first looks at every place in several sizes of the image, the second and third at what is left, larger.
They stand in the package as ONNX files, which benchmarks/mtcnn_onnx.py wrote.

Source: Zhang et al. 2016, arXiv:1604.02878; weights of github.com/ipazc/mtcnn, MIT (models/mtcnn/LICENSE).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mien.errors import ModelError
from mien.vision.detectors import Found, Framing, Sight

FOLDER = Path(__file__).parents[2] / "models" / "weights" / "mtcnn"
SHA256 = {
    "pnet": "8b18cef87eb0faf6045e8c77ff67e023c9b438568464a7de46276447bb78615e",
    "rnet": "56e7d3811192b013e311fc17ada9e6bf5913495f529430dbe75a7ede6d9b2540",
    "onet": "0bee4ee4bc7b944dd6c345b42e2a679fc09e1cd531b8a5fb2d78206ca49fe540",
}
#: How likely each network must find a face. The third looks twice, the second time at the box it gave, and
#: each time at the mirror image as well: that steadies its boxes and leaves nothing of what it saw in made
#: textures (measured: docs/decisions/0006-detectors.md).
SURE = (0.6, 0.7, 0.6, 0.85)
#: How its boxes lie about a face (measured: docs/experiments.md#8).
FRAMING = Framing(right=-0.003, down=-0.003, scale=1.074)
#: Side of the smallest square looked for, in widths of the smallest face: faces are higher than wide.
SQUARE = 1.4
#: Factor between the sizes of the image that the first network looks at: half the area.
STEP = 0.709
#: Side of the square that the first network looks at, and pixels between two of its places.
CELL, STRIDE = 12, 2
#: Grey beyond the border, which the networks see as 0.
BEYOND = 127
#: Squares that one run takes, so that a crowd does not fill the memory.
BATCH = 128

#: For a second opinion: a crop is softened by its side over this, and looked at in these sizes of the box.
SOFTENED, SIZES = 28, (1.0, 1.15)

Rows = NDArray[np.float64]


def load() -> Sight:
    """Return the detector.

    Raises:
        ModelError: One of its files is missing or damaged.
    """
    cascade = Cascade(*(_network(name) for name in SHA256))
    return Sight("mtcnn", FRAMING, cascade.look, seen=12)


@dataclass(frozen=True)
class Cascade:
    """The three networks. Between them go rows of left, top, right and lower edge in pixels, and a score."""

    first: Any
    second: Any
    third: Any

    def look(self, image: NDArray[np.uint8], smallest: float) -> list[Found]:
        """Return the faces of an image `(h, w, 3)` RGB that are about `smallest` pixels wide or wider."""
        rows = self._places(image, max(smallest * SQUARE, float(CELL)))
        rows = _looked_at(self.second, 24, image, rows, SURE[1])
        rows = _apart(rows, 0.7)
        for sure in SURE[2:]:
            rows = _looked_at(self.third, 48, image, rows, sure, mirrored=True)
            rows = _apart(rows, 0.7, of_smaller=True)
        return [
            Found(float(left), float(top), float(right - left), float(lower - top), float(score))
            for left, top, right, lower, score in rows
            if right > left and lower > top
        ]

    def _places(self, image: NDArray[np.uint8], smallest: float) -> Rows:
        """Let the first network look everywhere."""
        found = [np.empty((0, 5))]
        for size in _sizes(image.shape[1], image.shape[0], CELL / smallest):
            scales = np.tile(np.divide(image.shape[1::-1], size), 2)
            shrunk = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
            offsets, faces = self.first.run(["boxes", "faces"], {"images": shrunk[np.newaxis]})
            down, across = np.nonzero(faces[0, :, :, 1] > SURE[0])
            corners = np.stack([across, down, across, down], axis=1) * STRIDE + [0, 0, CELL, CELL]
            boxes = (corners + offsets[0, down, across] * CELL) * scales
            rows = np.column_stack([boxes, faces[0, down, across, 1]]).astype(np.float64)
            found.append(_apart(rows, 0.5))
        return _apart(np.concatenate(found), 0.7)


def _looked_at(
    network: Any,
    side: int,
    image: NDArray[np.uint8],
    rows: Rows,
    sure: float,
    *,
    mirrored: bool = False,
) -> Rows:
    """Let a network look at squares about the boxes; keep what it takes for faces, moved as it says.

    What is looked at mirrored as well has the mean of both answers.
    """
    kept = [np.empty((0, 5))]
    squares = _squares(rows)
    for start in range(0, len(squares), BATCH):
        batch = squares[start : start + BATCH]
        patches = _patches(image, batch, side)
        offsets, faces = network.run(["boxes", "faces"], {"images": patches})
        if mirrored:
            turned = np.ascontiguousarray(patches[:, :, ::-1])
            others, again = network.run(["boxes", "faces"], {"images": turned})
            offsets = (offsets + others[:, [2, 1, 0, 3]] * [-1, 1, -1, 1]) / 2
            faces = (faces + again) / 2
        moved = batch + offsets * (batch[:, 2:3] - batch[:, 0:1])
        kept.append(np.column_stack([moved, faces[:, 1]])[faces[:, 1] > sure])
    return np.concatenate(kept)


@dataclass(frozen=True)
class SecondOpinion:
    """MTCNN's last network, asked whether another detector's box is a face.

    It sees the box softened, because grain hides faces from it, and at two sizes; the surer answer counts.
    """

    network: Any

    def likelihood(self, image: NDArray[np.uint8], found: Found) -> float:
        """Return how likely a box of an RGB image `(h, w, 3)` is a face, in [0, 1]."""
        side = max(found.width, found.height)
        left, top = int(found.left - side), int(found.top - side)
        around = (left, top, int(found.left + found.width + side), int(found.top + found.height + side))
        soft = Image.fromarray(image).crop(around).filter(ImageFilter.GaussianBlur(side / SOFTENED))
        middle = np.array([found.left + found.width / 2 - left, found.top + found.height / 2 - top])
        half = np.array([found.width, found.height]) / 2
        rows = np.array([[*(middle - half * size), *(middle + half * size), 0.0] for size in SIZES])
        answers = _looked_at(self.network, 48, np.asarray(soft), rows, -1.0, mirrored=True)
        return float(answers[:, 4].max()) if len(answers) else 0.0


def second_opinion() -> SecondOpinion:
    """Return what checks the doubtful boxes of another detector.

    Raises:
        ModelError: The network's file is missing or damaged.
    """
    return SecondOpinion(_network("onet"))


def _network(name: str) -> Any:
    try:
        content = (FOLDER / f"{name}.onnx").read_bytes()
    except OSError:
        content = b""
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        raise ModelError(
            f"the package's file mtcnn/{name}.onnx is missing or damaged: its sha256 is {digest}, "
            f"not {SHA256[name]}; install mien again"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # The networks are too small to share; more threads cost more than they bring.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _sizes(width: int, height: int, scale: float) -> Iterator[tuple[int, int]]:
    """Yield each width and height to look at, from the largest to the one that a face fills."""
    while min(width, height) * scale >= CELL:
        yield round(width * scale), round(height * scale)
        scale *= STEP


def _squares(rows: Rows) -> Rows:
    """Return squares as large as each box's longer side about its middle."""
    middles = (rows[:, :2] + rows[:, 2:4]) / 2
    halves = (rows[:, 2:4] - rows[:, :2]).max(axis=1, keepdims=True) / 2
    squares = np.concatenate([middles - halves, middles + halves], axis=1)
    return np.asarray(squares[halves[:, 0] >= 0.5])


def _patches(image: NDArray[np.uint8], squares: Rows, side: int) -> NDArray[np.uint8]:
    """Cut squares `(n, 4)` out of an image: `(n, side, side, 3)`."""
    height, width = image.shape[:2]
    out = int(np.ceil(max(0.0, -squares[:, :2].min(), (squares[:, 2:] - [width, height]).max()))) + 1
    padded = Image.fromarray(np.pad(image, ((out, out), (out, out), (0, 0)), constant_values=BEYOND))
    return np.stack(
        [
            np.asarray(padded.resize((side, side), Image.Resampling.BILINEAR, box=tuple(square)))
            for square in squares + out
        ]
    )


def _apart(rows: Rows, most: float, *, of_smaller: bool = False) -> Rows:
    """Keep the surest of boxes that overlap by more than `most` of their union, or of the smaller one."""
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    areas = (rows[:, 2] - rows[:, 0]) * (rows[:, 3] - rows[:, 1])
    left, kept = np.arange(len(rows)), []
    while len(left):
        one, left = left[0], left[1:]
        kept.append(one)
        corners = np.maximum(rows[one, :2], rows[left, :2]), np.minimum(rows[one, 2:4], rows[left, 2:4])
        shared = np.maximum(corners[1] - corners[0], 0).prod(axis=1)
        whole = np.minimum(areas[one], areas[left]) if of_smaller else areas[one] + areas[left] - shared
        left = left[shared <= most * whole]
    return rows[kept]
