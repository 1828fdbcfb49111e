"""MTCNN: a cascade of three small networks, each of which rejects most candidates of the one before.

The first network scans the image in several sizes; the second and third check the remaining candidates at a
higher resolution. The package contains them as ONNX files, written by benchmarks/mtcnn_onnx.py.

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
from mien.vision.detectors import CropTransform, Detection, TiledDetector

FOLDER = Path(__file__).parents[2] / "models" / "weights" / "mtcnn"
SHA256 = {
    "pnet": "8b18cef87eb0faf6045e8c77ff67e023c9b438568464a7de46276447bb78615e",
    "rnet": "56e7d3811192b013e311fc17ada9e6bf5913495f529430dbe75a7ede6d9b2540",
    "onet": "0bee4ee4bc7b944dd6c345b42e2a679fc09e1cd531b8a5fb2d78206ca49fe540",
}
#: Minimum probability of a face in each network. The third network runs twice, the second time on its own
#: boxes, and each time on the mirrored image as well. This stabilises the boxes and removes all false faces
#: in generated textures (measured: docs/decisions/0006-detectors.md).
MIN_SCORES = (0.6, 0.7, 0.6, 0.85)
#: Conversion from its boxes to the crops of FER2013 (measured: docs/lab-book/08-crop-from-box.md).
CROP = CropTransform(right=-0.003, down=-0.003, scale=1.074)
#: Side of the smallest square to find, in widths of the smallest face: faces are higher than wide.
SQUARE = 1.4
#: Factor between the image sizes for the first network: half the area.
STEP = 0.709
#: Side of the input of the first network, and its stride, in pixels.
CELL, STRIDE = 12, 2
#: Grey level beyond the border, which the networks take as 0.
PADDING = 127
#: Maximum number of squares in one run, which limits the memory.
BATCH = 128

#: For the second opinion: side of the crop divided by the radius of the blur, and sizes relative to the box.
BLUR, SIZES = 28, (1.0, 1.15)

Rows = NDArray[np.float64]


def load() -> TiledDetector:
    """Load the detector.

    Raises:
        ModelError: One of its files is missing or damaged.
    """
    cascade = Cascade(*(_network(name) for name in SHA256))
    return TiledDetector("mtcnn", CROP, cascade.find, min_width=12)


@dataclass(frozen=True)
class Cascade:
    """The three networks; they exchange rows of left, top, right, bottom (pixels) and score."""

    first: Any
    second: Any
    third: Any

    def find(self, image: NDArray[np.uint8], smallest: float) -> list[Detection]:
        """Return the faces of an RGB image `(h, w, 3)` that are at least about `smallest` pixels wide."""
        rows = self._propose(image, max(smallest * SQUARE, float(CELL)))
        rows = _refine(self.second, 24, image, rows, MIN_SCORES[1])
        rows = _suppress(rows, 0.7)
        for score in MIN_SCORES[2:]:
            rows = _refine(self.third, 48, image, rows, score, mirrored=True)
            rows = _suppress(rows, 0.7, of_smaller=True)
        return [
            Detection(float(left), float(top), float(right - left), float(lower - top), float(score))
            for left, top, right, lower, score in rows
            if right > left and lower > top
        ]

    def _propose(self, image: NDArray[np.uint8], smallest: float) -> Rows:
        """Return the candidates of the first network."""
        found = [np.empty((0, 5))]
        for size in _sizes(image.shape[1], image.shape[0], CELL / smallest):
            scales = np.tile(np.divide(image.shape[1::-1], size), 2)
            shrunk = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
            offsets, faces = self.first.run(["boxes", "faces"], {"images": shrunk[np.newaxis]})
            down, across = np.nonzero(faces[0, :, :, 1] > MIN_SCORES[0])
            corners = np.stack([across, down, across, down], axis=1) * STRIDE + [0, 0, CELL, CELL]
            boxes = (corners + offsets[0, down, across] * CELL) * scales
            rows = np.column_stack([boxes, faces[0, down, across, 1]]).astype(np.float64)
            found.append(_suppress(rows, 0.5))
        return _suppress(np.concatenate(found), 0.7)


def _refine(
    network: Any, side: int, image: NDArray[np.uint8], rows: Rows, score: float, *, mirrored: bool = False
) -> Rows:
    """Return a network's boxes with a score above `score`; `mirrored`, the mean with the mirror image."""
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
        kept.append(np.column_stack([moved, faces[:, 1]])[faces[:, 1] > score])
    return np.concatenate(kept)


@dataclass(frozen=True)
class SecondOpinion:
    """The last network of MTCNN, used to verify the box of another detector.

    It sees the box blurred, because noise hides faces from it, and in two sizes; the higher value counts.
    """

    network: Any

    def likelihood(self, image: NDArray[np.uint8], face: Detection) -> float:
        """Return the likelihood in [0, 1] that a box of an RGB image `(h, w, 3)` shows a face."""
        side = max(face.width, face.height)
        left, top = int(face.left - side), int(face.top - side)
        around = (left, top, int(face.left + face.width + side), int(face.top + face.height + side))
        soft = Image.fromarray(image).crop(around).filter(ImageFilter.GaussianBlur(side / BLUR))
        middle = np.array([face.left + face.width / 2 - left, face.top + face.height / 2 - top])
        half = np.array([face.width, face.height]) / 2
        rows = np.array([[*(middle - half * size), *(middle + half * size), 0.0] for size in SIZES])
        rows = _refine(self.network, 48, np.asarray(soft), rows, -1.0, mirrored=True)
        return float(rows[:, 4].max()) if len(rows) else 0.0


def second_opinion() -> SecondOpinion:
    """Load the network that verifies boxes of other detectors.

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
    # More threads slow such small networks down.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _sizes(width: int, height: int, scale: float) -> Iterator[tuple[int, int]]:
    """Yield the image sizes for the first network, from the largest to the one that a face fills."""
    while min(width, height) * scale >= CELL:
        yield round(width * scale), round(height * scale)
        scale *= STEP


def _squares(rows: Rows) -> Rows:
    """Return squares with the centre and the longer side of each box."""
    middles = (rows[:, :2] + rows[:, 2:4]) / 2
    halves = (rows[:, 2:4] - rows[:, :2]).max(axis=1, keepdims=True) / 2
    squares = np.concatenate([middles - halves, middles + halves], axis=1)
    return np.asarray(squares[halves[:, 0] >= 0.5])


def _patches(image: NDArray[np.uint8], squares: Rows, side: int) -> NDArray[np.uint8]:
    """Return the squares `(n, 4)` of an image, resized: `(n, side, side, 3)`."""
    height, width = image.shape[:2]
    out = int(np.ceil(max(0.0, -squares[:, :2].min(), (squares[:, 2:] - [width, height]).max()))) + 1
    padded = Image.fromarray(np.pad(image, ((out, out), (out, out), (0, 0)), constant_values=PADDING))
    return np.stack(
        [
            np.asarray(padded.resize((side, side), Image.Resampling.BILINEAR, box=tuple(square)))
            for square in squares + out
        ]
    )


def _suppress(rows: Rows, most: float, *, of_smaller: bool = False) -> Rows:
    """Return the best box of those that overlap by more than `most` of their union, or of the smaller box."""
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
