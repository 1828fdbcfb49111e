"""YuNet from a file: a network that answers as YuNet does, of noise, decoded as OpenCV decodes it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders import refused
from mien import cli
from mien.errors import InputError, ModelError
from mien.inference.predictor import Predictor
from mien.models import model_files
from mien.vision import detectors
from mien.vision.detectors import yunet

onnx = pytest.importorskip("onnx", reason="making a network by hand needs mien[train]")

#: What OpenCV 4.14 finds with `made(320)` in `noise()`, the surest twelve of 48: left, top, width, height,
#: score.
#: cv2.FaceDetectorYN.create(file, "", (290, 193), 0.8, 0.3, 5000).detect(noise()[:, :, ::-1])
OPENCV = (
    (87.384, 2.432, 24.617, 11.771, 1.0),
    (2.726, 109.572, 37.429, 8.898, 1.0),
    (161.004, 155.719, 19.01, 16.856, 1.0),
    (215.926, 1.528, 20.749, 18.708, 1.0),
    (5.543, 125.862, 24.591, 11.17, 0.999),
    (169.162, 46.795, 14.995, 13.644, 0.999),
    (133.292, 57.084, 27.761, 11.846, 0.999),
    (119.194, 158.591, 41.041, 24.387, 0.998),
    (85.773, 75.148, 27.15, 18.323, 0.998),
    (168.035, 69.459, 24.231, 14.613, 0.995),
    (245.058, 168.07, 14.784, 8.83, 0.994),
    (22.594, -8.398, 20.39, 13.391, 0.993),
)
#: By part, the numbers it says of a cell, how far its weights reach, and what it says of nothing.
PARTS = {"cls": (1, 6.0, -9.0), "obj": (1, 6.0, -9.0), "bbox": (4, 0.5, 0.0), "kps": (10, 0.5, 0.0)}


def made(side: int | None) -> bytes:
    """A network with YuNet's inputs and outputs, for images of one size or of any, with random weights."""
    helper, random = onnx.helper, np.random.default_rng(0)
    nodes, weights, outputs = [], [], []

    def hold(name: str, value: np.ndarray) -> str:
        weights.append(onnx.numpy_helper.from_array(value, name))
        return name

    for part, (count, _, _) in PARTS.items():
        hold(f"shape_{part}", np.array([1, -1, count], np.int64))
    for grid in yunet.GRIDS:
        for part, (count, reach, nothing) in PARTS.items():
            name, sure = f"{part}_{grid}", count == 1
            drawn = random.normal(size=(count, 3, grid, grid)) * reach / (grid * 255 * 3**0.5) * 3
            kernel = hold(f"kernel_{name}", drawn.astype(np.float32))
            bias = hold(f"bias_{name}", np.full(count, nothing, np.float32))
            sizes = {"kernel_shape": [grid, grid], "strides": [grid, grid]}
            nodes.append(helper.make_node("Conv", ["input", kernel, bias], [f"cells_{name}"], **sizes))
            nodes.append(
                helper.make_node("Transpose", [f"cells_{name}"], [f"last_{name}"], perm=[0, 2, 3, 1])
            )
            rows = f"rows_{name}" if sure else name
            nodes.append(helper.make_node("Reshape", [f"last_{name}", f"shape_{part}"], [rows]))
            nodes += [helper.make_node("Sigmoid", [rows], [name])] if sure else []
            outputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, None, count]))
    source = helper.make_tensor_value_info(
        "input", onnx.TensorProto.FLOAT, [1, 3, side or "height", side or "width"]
    )
    graph = helper.make_graph(nodes, "made", [source], outputs, weights)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 11)])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def noise() -> np.ndarray:
    """`(193, 290, 3)` uint8: squares of ten pixels, each of one colour."""
    squares = np.random.default_rng(1).integers(0, 256, (20, 30, 3))
    return np.kron(squares, np.ones((10, 10, 1))).astype(np.uint8)[:193, :290]


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("yunet") / "fixed.onnx"
    path.write_bytes(made(320))
    return path


@pytest.mark.parametrize("side", [320, None])
def test_it_is_decoded_as_opencv_decodes_it(side: int | None, tmp_path: Path) -> None:
    path = tmp_path / "made.onnx"
    path.write_bytes(made(side))
    detector = detectors.load(str(path))
    assert detector.name == str(path)
    found = yunet.load(path).detect(noise(), 24)
    assert len(found) == 48
    rows = [(face.left, face.top, face.width, face.height, face.score) for face in found[: len(OPENCV)]]
    np.testing.assert_allclose(rows, OPENCV, atol=2e-3)


def test_what_is_larger_than_the_network_takes_is_shrunk_and_boxes_stay_the_images(fixed: Path) -> None:
    look = yunet.load(fixed).detect
    large = np.kron(noise(), np.ones((3, 3, 1), np.uint8))
    size = int(870 * 320 / 870), int(579 * 320 / 870)
    small = look(np.asarray(Image.fromarray(large).resize(size, Image.Resampling.BILINEAR)), 24)
    assert small
    for one, other in zip(look(large, 24), small, strict=True):
        assert one.left == pytest.approx(other.left * 870 / size[0])
        assert one.height == pytest.approx(other.height * 579 / size[1])


def test_an_image_that_holds_nothing_has_no_face(fixed: Path) -> None:
    assert detectors.load(str(fixed)).find(np.zeros((40, 1, 3), np.uint8), smallest=30) == []


def test_a_predictor_takes_it(fixed: Path) -> None:
    found = Predictor("fast", detector=str(fixed)).image(noise()).faces
    assert len(found) > 10


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with refused(InputError, "none.onnx"):
        detectors.load(str(tmp_path / "none.onnx"))
    (tmp_path / "text.onnx").write_text("no network")
    with refused(ModelError, "text.onnx"):
        detectors.load(str(tmp_path / "text.onnx"))
    packaged = model_files.MODELS / "fast.onnx"
    with refused(ModelError, "fast.onnx", "bbox_16"):
        detectors.load(str(packaged))
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(65 << 20)
    with refused(ModelError, "65 MiB"):
        detectors.load(str(tmp_path / "large.onnx"))
    Image.fromarray(noise()).save(tmp_path / "a.png")
    assert cli.run(["predict", str(tmp_path / "a.png"), "--detector", str(tmp_path / "none.onnx")]) == 2
    assert "none.onnx'" in capsys.readouterr().err
