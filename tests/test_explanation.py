"""Explanations: maps that follow the weights, mark what matters, and lie where they belong."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as make
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from PIL import Image
from scipy.stats import spearmanr

from builders import has_line, refused
from mien import cli
from mien.data import datasets, synthetic
from mien.errors import InputError, ModelError
from mien.evaluation import explanation
from mien.evaluation import explanation as explain
from mien.inference.predictor import predict
from mien.models import checks, model_files
from mien.models.card import FeatureMap, Head
from mien.models.model_files import Card, Model
from mien.release import onnx_graph
from mien.vision import detectors, images

skimage_data = pytest.importorskip("skimage.data", reason="scikit-image brings the astronaut")

LABELS = ("left", "middle", "right")


@cache
def shipped() -> Model:
    return model_files.load(threads=1)


@cache
def astronaut() -> NDArray[np.uint8]:
    return np.asarray(skimage_data.astronaut())


def astronaut_face(*, shift: tuple[float, float] = (0, 0), scale: float = 1.0) -> NDArray[np.uint8]:
    side = 112 * scale
    square = (168 + 56 - side / 2 + shift[0], 62 + 56 - side / 2 + shift[1], side)
    return images.cut(astronaut(), square, 48)


@cache
def variations() -> tuple[NDArray[np.uint8], ...]:
    """The astronaut's face moved, scaled, mirrored and lit in other ways."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(16):
        one = astronaut_face(shift=tuple(rng.uniform(-8, 8, 2)), scale=rng.uniform(0.9, 1.2))
        one = one[:, ::-1] if number % 2 else one
        light = np.clip(one * rng.uniform(0.6, 1.2) + rng.uniform(-15, 15), 0, 255)
        made.append(light.astype(np.uint8))
    return tuple(made)


def planted(
    folder: Path,
    head: str,
    *,
    weights: NDArray[np.float32] | None = None,
    bias: float = 0.0,
    size: int = 48,
) -> Model:
    """A network whose features are known: means over 4 × 4 pixels of the brightness, and of the darkness.

    `mean` answers from the mean of the features, `most` from their largest, `dense` from every cell apart.
    """
    name, shape = make.make_node, [size // 4, size // 4]
    kernel = np.stack([np.full((1, 4, 4), 1 / 16), np.full((1, 4, 4), -1 / 16)]).astype(np.float32)
    nodes = [
        name("Transpose", ["images"], ["up"], perm=[0, 3, 1, 2]),
        name("Cast", ["up"], ["floats"], to=TensorProto.FLOAT),
        name("Div", ["floats", "most"], ["shares"]),
        name("Conv", ["shares", "kernel", "offset"], ["map"], kernel_shape=[4, 4], strides=[4, 4]),
        name("Transpose", ["map"], ["features"], perm=[0, 2, 3, 1]),
    ]
    pools = {"mean": ["GlobalAveragePool"], "most": ["GlobalMaxPool"], "dense": []}[head]
    for kind in pools:
        nodes.append(name(kind, ["map"], ["pooled"]))
    nodes.append(name("Flatten", ["pooled" if pools else "map"], ["flat"]))
    channels = 2 if pools else 2 * shape[0] * shape[1]
    if weights is None:
        weights = np.zeros((channels, 3), np.float32)
        weights[: channels // 2, 0] = 16 / channels
    nodes.append(name("Gemm", ["flat", "weights", "bias"], ["logits"]))
    nodes.append(name("Softmax", ["logits"], ["probabilities"], axis=-1))
    constants = {
        "most": np.float32(255),
        "kernel": kernel,
        "offset": np.array([0, 1], np.float32),
        "weights": weights.astype(np.float32),
        "bias": np.full(3, bias, np.float32),
    }
    graph = make.make_graph(
        nodes,
        "planted",
        [make.make_tensor_value_info("images", TensorProto.UINT8, ["n", size, size, 1])],
        [
            make.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3]),
            make.make_tensor_value_info("features", TensorProto.FLOAT, ["n", *shape, 2]),
        ],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    file = model.SerializeToString()
    named = Head(weights=onnx_graph.mean_weights(file).get("probabilities", ""))
    card = Card(
        name="planted",
        labels=LABELS,
        size=size,
        heads={"labels": named},
        feature_map=onnx_graph.feature_map(file),
    )
    return model_files.write(file, card, folder / "planted.onnx")


def spotted(*, row: int, column: int, side: int = 8, size: int = 48) -> NDArray[np.uint8]:
    """A dark image with a bright spot."""
    image = np.full((size, size, 1), 20, np.uint8)
    image[row : row + side, column : column + side] = 240
    return image


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def marked(map_: NDArray[np.float32], share: float = 0.2) -> NDArray[np.float64]:
    """The share of pixels that a map marks the most, as 1."""
    chosen = np.zeros(map_.size)
    chosen[np.argsort(-map_.ravel(), kind="stable")[: int(map_.size * share)]] = 1
    return chosen.reshape(map_.shape)


def elsewhere(where: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """As many pixels, in blobs as large, none of them in `where`."""
    rough = np.random.default_rng(seed).normal(size=(6, 6)).astype(np.float32)
    smooth = np.asarray(Image.fromarray(rough).resize(where.shape, Image.Resampling.BICUBIC))
    return marked(np.where(where > 0, -np.inf, smooth), where.mean())


def falls(model: Model, faces: Any, method: explain.Method, head: str) -> tuple[list[float], list[float]]:
    """By how much the log-odds of the answer fall when the marked fifth is hidden, and another fifth."""
    inside, outside = [], []
    index = model.card.labels.index
    for seed, image in enumerate(faces):
        why = explain.face(model, image, method=method, head=head)
        where = marked(why.map)
        hidden = [image, explain.hide(image, where), explain.hide(image, elsewhere(where, seed))]
        odds = explanation._log_odds(model.run(np.stack(hidden), head=head), index(why.emotion))
        inside.append(float(odds[0] - odds[1]))
        outside.append(float(odds[0] - odds[2]))
    return inside, outside


# What the maps say


@pytest.mark.parametrize("head", ["fer2013", "ferplus"])
def test_the_weights_that_the_card_names_turn_features_into_the_prediction(head: str) -> None:
    model = shipped()
    stated = model.card.head(head)
    weights = checks.read_weights(model.read(), stated.weights)
    faces = np.stack(variations())
    logits = model.features(faces).mean(axis=(1, 2)) @ weights
    biased = np.log(model.run(faces, head=head)) - logits / stated.temperature
    # What is left is one bias a class, and the logarithm of the softmax's sum, one number an image.
    assert np.ptp(biased - biased.mean(axis=1, keepdims=True), axis=0).max() < 0.15


def test_each_head_has_weights_of_its_own() -> None:
    model = shipped()
    one, other = (checks.read_weights(model.read(), head.weights) for head in model.card.heads.values())
    assert one.shape == other.shape
    assert not np.allclose(one, other)
    with refused(ModelError, "nothing"):
        checks.read_weights(model.read(), "nothing")


@pytest.mark.parametrize(("row", "column"), [(4, 4), (20, 32), (36, 12)])
def test_cam_marks_the_spot_that_a_planted_model_answers_by(tmp_path: Path, row: int, column: int) -> None:
    model = planted(tmp_path, "mean")
    why = explain.face(model, spotted(row=row, column=column))
    assert (why.method, why.answer, why.head) == ("cam", "left", "labels")
    inside = why.map[row : row + 8, column : column + 8]
    assert inside.min() > 0.4
    assert why.map.max() == inside.max() == 1
    middle = np.average(np.indices(why.map.shape), weights=np.stack([why.map > 0.5] * 2), axis=(1, 2))
    assert middle == pytest.approx((row + 3.5, column + 3.5), abs=0.5)


@pytest.mark.parametrize("head", ["most", "dense", "mean"])
def test_occlusion_marks_the_spot_too_whatever_the_head(tmp_path: Path, head: str) -> None:
    method = "occlusion" if head == "mean" else None
    why = explain.face(planted(tmp_path, head), spotted(row=12, column=28), method=method)
    assert why.method == "occlusion"
    peak = np.unravel_index(why.map.argmax(), why.map.shape)
    assert 11 <= peak[0] <= 20
    assert 27 <= peak[1] <= 36


def test_what_no_softmax_sees_changes_no_map(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
    image = spotted(row=8, column=8)
    one = explain.face(planted(tmp_path, "mean", weights=weights), image, emotion="left")
    moved = planted(tmp_path, "mean", weights=weights + np.float32([[3], [-5]]), bias=2.0)
    other = explain.face(moved, image, emotion="left")
    assert other.scores == pytest.approx(one.scores, abs=1e-5)
    assert other.map == pytest.approx(one.map, abs=1e-4)


@pytest.mark.parametrize("method", explain.METHODS)
def test_a_map_is_empty_where_nothing_speaks_for_the_answer(tmp_path: Path, method: explain.Method) -> None:
    weights = np.float32([[-8, 0, 0], [0, 0, 0]])
    why = explain.face(
        planted(tmp_path, "mean", weights=weights), spotted(row=8, column=8), emotion="left", method=method
    )
    # Whatever is hidden of the bright spot speaks for it; its dark surroundings may.
    assert why.map[10:14, 10:14].max() == 0
    if method == "cam":
        assert why.map.max() == 0


@pytest.mark.parametrize("method", explain.METHODS)
def test_a_map_is_as_large_as_the_face_and_in_range(method: explain.Method) -> None:
    image = astronaut_face()
    why = explain.face(shipped(), image, method=method)
    assert why.map.shape == (48, 48)
    assert why.map.dtype == np.float32
    assert why.map.min() >= 0
    assert why.map.max() == 1
    assert why.emotion == why.answer == "happy"
    assert sum(why.scores.values()) == pytest.approx(1, abs=1e-5)
    again = explain.face(shipped(), image, method=method)
    assert np.array_equal(again.map, why.map)
    assert json.loads(json.dumps(why.to_dict()))["score"] == why.score == why.scores["happy"]


def test_every_answer_has_a_map_of_its_own_and_scores_do_not_depend_on_it() -> None:
    image = astronaut_face()
    found = [explain.face(shipped(), image, emotion=name) for name in shipped().card.labels]
    assert {why.emotion for why in found} == set(shipped().card.labels)
    assert all(why.scores == found[0].scores and why.answer == "happy" for why in found)
    # Where nothing speaks for an answer at all its map is empty.
    maps_ = [why.map.tobytes() for why in found if why.map.max() > 0]
    assert len(set(maps_)) == len(maps_) >= 4


def test_it_explains_the_head_that_predictions_are_of() -> None:
    from mien.inference.predictor import Predictor

    prediction = Predictor(shipped()).image(astronaut())
    finder = detectors.load()
    found = finder.find(astronaut(), smallest=24)[0]
    why = explain.face(shipped(), images.cut(astronaut(), finder.crop.square(found), 48))
    assert why.head == "ferplus"
    assert why.scores == pytest.approx(dict(prediction.faces[0].scores), abs=1e-5)


# Sanity: maps follow the weights, and hiding what they mark matters


def shuffled(model: Model, folder: Path, *, seed: int, only: str = "") -> Model:
    """The same network with each weight's numbers in random order, in all layers or those named."""
    rng = np.random.default_rng(seed)
    proto = onnx.load_from_string(model.read())
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if "kernel" in tensor.name and values.ndim > 1 and only in tensor.name:
            mixed = rng.permutation(values.ravel()).reshape(values.shape)
            tensor.CopyFrom(numpy_helper.from_array(mixed, tensor.name))
    return model_files.write(proto.SerializeToString(), model.card, folder / f"shuffled-{seed}-{only}.onnx")


@pytest.mark.parametrize("method", explain.METHODS)
@pytest.mark.parametrize("only", ["answer", ""], ids=["head", "all layers"])
def test_random_weights_give_another_map(tmp_path: Path, method: explain.Method, only: str) -> None:
    """Adebayo et al. 2018, arXiv:1810.03292: a map that survives this shows the image, not the model."""
    faces = variations()[:4]
    kept, ranks = shipped(), []
    for seed in range(4 if method == "cam" else 3):
        other = shuffled(kept, tmp_path, seed=seed, only=only)
        for image in faces if method == "cam" else faces[:1]:
            options: dict[str, Any] = {"emotion": "happy", "head": "fer2013", "method": method}
            one, two = (explain.face(each, image, **options).map for each in (kept, other))
            if two.max() > 0:
                ranks.append(spearmanr(one.ravel(), two.ravel()).statistic)
    assert len(ranks) >= 2
    assert np.mean(ranks) < 0.4


@pytest.mark.parametrize("method", explain.METHODS)
@pytest.mark.parametrize("head", ["fer2013", "ferplus"])
def test_hiding_what_is_marked_lowers_the_score_more_than_hiding_as_much_elsewhere(
    method: explain.Method, head: str
) -> None:
    faces = variations()[: 16 if method == "cam" else 6]
    inside, outside = falls(shipped(), faces, method, head)
    assert np.mean(inside) > np.mean(outside) + 0.3
    assert np.mean(np.array(inside) > np.array(outside)) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("method", explain.METHODS)
def test_the_same_on_drawn_faces(method: explain.Method) -> None:
    faces = [synthetic.face("happy", seed=seed)[..., np.newaxis] for seed in range(40)]
    inside, outside = falls(shipped(), faces, method, "ferplus")
    assert np.mean(inside) > np.mean(outside)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("method", explain.METHODS)
def test_the_same_on_fer2013(fer2013: datasets.Dataset, method: explain.Method) -> None:
    faces = fer2013.split("val").images[:: 90 if method == "occlusion" else 18]
    inside, outside = falls(shipped(), faces, method, "fer2013")
    assert np.mean(inside) > 2 * np.mean(outside)


# Where the cells look


def windows(*, slow_way: bool) -> onnx.ModelProto:
    """A cut image, two windows of stride 2 with pads as Keras has them, and another way around the second."""
    name, size = make.make_node, 36
    nodes = [
        name("Transpose", ["images"], ["up"], perm=[0, 3, 1, 2]),
        name("Cast", ["up"], ["floats"], to=TensorProto.FLOAT),
        name("Slice", ["floats", "starts", "ends", "axes"], ["cut"]),
        name("Conv", ["cut", "kernel"], ["one"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        name("Conv", ["one", "kernel"], ["two"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        name("AveragePool", ["one"], ["short"], kernel_shape=[2, 2], strides=[2, 2]),
        name("Add", ["two", "short"], ["map"]) if slow_way else name("Identity", ["two"], ["map"]),
        name("Relu", ["map"], ["positive"]),
        name("Transpose", ["positive"], ["features"], perm=[0, 2, 3, 1]),
    ]
    constants = {
        "starts": np.array([2, 4]),
        "ends": np.array([34, 36]),
        "axes": np.array([2, 3]),
        "kernel": np.float32([[1, 2, 1], [2, 4, 2], [1, 2, 1]])[np.newaxis, np.newaxis] / 16,
    }
    graph = make.make_graph(
        nodes,
        "windows",
        [make.make_tensor_value_info("images", TensorProto.UINT8, ["n", size, size, 1])],
        [make.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 8, 8, 1])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)


#: 8 × 8 cells over 36 × 36 pixels.
EVEN = FeatureMap(first=(1.75, 1.75), step=(4.5, 4.5))


@pytest.mark.parametrize("slow_way", [False, True])
def test_cells_look_where_a_change_of_a_pixel_moves_them(slow_way: bool) -> None:
    file = windows(slow_way=slow_way).SerializeToString()
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    pixels = np.zeros((36 * 36, 36, 36, 1), np.uint8)
    pixels.reshape(36 * 36, -1)[np.arange(36 * 36), np.arange(36 * 36)] = 200
    (features,) = session.run(["features"], {"images": pixels})
    grid = onnx_graph.feature_map(file)
    assert grid.step == (4, 4)
    for cell in (2, 4):
        moved = features[:, cell, cell, 0].reshape(36, 36)
        rows, columns = np.indices((36, 36))
        middle = np.average(rows, weights=moved), np.average(columns, weights=moved)
        expected = [first + step * cell for first, step in zip(grid.first, grid.step, strict=True)]
        # Each way adds the same in all to a cell, so that the middle of their middles is the middle of all.
        assert middle == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("node", "key", "values"),
    [(2, "axes", [1, 2]), (2, "starts", [-2, 4]), (0, "perm", [0, 1, 2, 3]), (3, "op_type", "MatMul")],
)
def test_if_a_graph_does_not_tell_the_cells_share_the_image_evenly(node: int, key: str, values: Any) -> None:
    model = windows(slow_way=True)
    if key in ("axes", "starts"):
        for tensor in model.graph.initializer:
            if tensor.name == key:
                tensor.CopyFrom(numpy_helper.from_array(np.array(values), key))
    elif key == "perm":
        model.graph.node[node].attribute[0].ints[:] = values
    else:
        model.graph.node[node].op_type = values
    assert onnx_graph.feature_map(model.SerializeToString()) == EVEN


def test_branches_of_different_steps_share_the_image_evenly() -> None:
    model = windows(slow_way=True)
    model.graph.node[6].input[1] = "one"
    assert onnx_graph.feature_map(model.SerializeToString()) == EVEN


def test_a_planted_grid_is_known(tmp_path: Path) -> None:
    card = planted(tmp_path, "mean").card
    assert card.feature_map == FeatureMap(first=(1.5, 1.5), step=(4.0, 4.0))
    assert card.head().weights == "weights"
    assert planted(tmp_path, "most").card.head().weights == ""


# Hiding and painting


def test_hiding_changes_what_it_hides_and_nothing_else() -> None:
    image = astronaut_face()
    where = np.zeros((48, 48))
    assert np.array_equal(explain.hide(image, where), image)
    where[10:20, 10:30] = 1
    hidden = explain.hide(image, where)
    assert np.array_equal(hidden[where == 0], image[where == 0])
    assert hidden[where == 1].std() < 0.5 * image[where == 1].std()
    flat = np.full((48, 48, 1), 77, np.uint8)
    assert np.array_equal(explain.hide(flat, np.ones((48, 48))), flat)


def oklab(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    cone = np.cbrt(
        linear
        @ np.array(
            [
                [0.4122214708, 0.2119034982, 0.0883024619],
                [0.5363325363, 0.6806995451, 0.2817188376],
                [0.0514459929, 0.1073969566, 0.6299787005],
            ]
        )
    )
    return cone @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )


def test_equal_steps_of_a_map_look_equally_large() -> None:
    table = explain.colours()
    assert table.shape == (256, 3)
    places = oklab(table)
    steps = np.linalg.norm(np.diff(places[::15], axis=0), axis=1)
    assert steps.max() < 1.15 * steps.min()
    assert (np.diff(places[::5, 0]) > 0).all()
    grey = np.asarray(Image.fromarray(table[np.newaxis]).convert("L"), int)[0]
    assert (np.diff(grey[::5]) > 0).all()


def explained(map_: NDArray[np.float32]) -> explain.Explanation:
    return explain.Explanation("happy", {"happy": 0.8, "sad": 0.2}, map_, "cam", "labels")


def test_what_did_nothing_stays_as_it_is() -> None:
    image = astronaut()
    empty = explain.overlay(image, [((100, 100, 50), explained(np.zeros((48, 48), np.float32)))])
    grey = images.grey(image)
    assert np.array_equal(empty, np.stack([grey] * 3, axis=-1))
    assert np.array_equal(explain.overlay(image, []), empty)
    assert np.array_equal(explain.overlay(grey, []), empty)


@pytest.mark.parametrize("square", [(100, 60, 96), (-40, -30, 96), (470.5, 480.25, 96), (0, 0, 512)])
def test_a_map_lies_in_its_square_and_nowhere_else(square: tuple[float, float, float]) -> None:
    ground = np.full((512, 512), 128, np.uint8)
    painted = explain.overlay(ground, [(square, explained(np.ones((48, 48), np.float32)))])
    touched = (painted != 128).any(axis=-1)
    left, top, side = square
    expected = np.zeros((512, 512), bool)
    rows, columns = (slice(max(0, round(start)), min(512, round(start + side))) for start in (top, left))
    expected[rows, columns] = True
    assert (touched != expected).mean() < 0.002
    mirrored = explain.overlay(
        ground, [((512 - left - side, top, side), explained(np.ones((48, 48), np.float32)))]
    )
    assert np.array_equal(mirrored, painted[:, ::-1])


def test_a_spot_of_the_map_is_painted_where_the_face_was_cut() -> None:
    spot = np.zeros((48, 48), np.float32)
    spot[30:36, 6:12] = 1
    painted = explain.overlay(np.full((200, 300), 128, np.uint8), [((50, 20, 144), explained(spot))])
    rows, columns = np.nonzero((painted != 128).any(axis=-1))
    assert rows.mean() == pytest.approx(20 + 3 * 33, abs=1)
    assert columns.mean() == pytest.approx(50 + 3 * 9, abs=1)
    strongest = painted[20 + 3 * 33, 50 + 3 * 9].astype(int)
    assert strongest[0] > strongest[2] + 50


def test_an_emotion_is_painted_as_strongly_as_the_model_believes_it() -> None:
    ground = np.full((96, 96), 128, np.uint8)
    whole = np.ones((48, 48), np.float32)

    def colour(emotion: str, scores: dict[str, float]) -> float:
        why = explain.Explanation(emotion, scores, whole, "cam", "labels")
        assert why.to_dict()["strength"] == why.strength
        painted = explain.overlay(ground, [((0, 0, 96), why)])
        return float(np.abs(painted.astype(int) - 128).max())

    scores = {"happy": 0.8, "sad": 0.2, "fear": 0.0}
    assert explain.Explanation("happy", scores, whole, "cam", "labels").strength == 1
    assert explain.Explanation("sad", scores, whole, "cam", "labels").strength == pytest.approx(0.25)
    assert colour("happy", scores) > colour("sad", scores) > 10
    assert colour("fear", scores) == 0
    # The answer itself is painted in full, however unsure it is.
    assert colour("sad", {"sad": 0.4, "happy": 0.3, "fear": 0.3}) == colour("happy", scores)


def test_a_smile_shows_next_to_nothing_for_fear() -> None:
    image = astronaut_face()
    answer, fear = (explain.face(shipped(), image, emotion=each) for each in (None, "fear"))
    assert fear.score < explain.NEAR_ZERO
    assert fear.map.max() == 1
    grey = np.repeat(image, 3, axis=-1).astype(int)
    painted, empty = (
        explain.overlay(image[:, :, 0], [((0, 0, 48), why)]).astype(int) for why in (answer, fear)
    )
    assert np.abs(painted - grey).max() > 60
    assert np.abs(empty - grey).max() <= 2
    assert explain.note(answer) == ""
    assert "fear" in explain.note(fear)
    doubted = explain.Explanation("sad", {"happy": 0.8, "sad": 0.2}, answer.map, "cam", "labels")
    assert "25%" in explain.note(doubted)


def test_a_legend_ends_where_the_map_does() -> None:
    full, part, none = (np.asarray(explain.legend(400, reach))[12] for reach in (1.0, 0.25, 0.0))
    np.testing.assert_array_equal(part[:100], full[:100])
    assert (part[100:] == part[-1]).all()
    assert (none == part[-1]).all()
    assert (part[-1] != full[-1]).any()


def test_a_sheet_shows_the_face_the_map_and_a_legend() -> None:
    image = astronaut_face()
    one = explain.sheet(image, explain.face(shipped(), image))
    other = explain.sheet(image, explain.face(shipped(), image, emotion="sad"))
    assert one.size == other.size
    assert one.mode == "RGB"
    assert one.tobytes() != other.tobytes()
    strip = np.asarray(explain.legend(320))
    assert strip.shape == (explain.LEGEND, 320, 3)
    assert {tuple(each) for each in strip[12]} >= {tuple(explain.colours()[0]), tuple(explain.colours()[-1])}
    assert np.asarray(explain.legend(20)).shape == (explain.LEGEND, 20, 3)


# What cannot be


def test_errors_say_what_there_is(tmp_path: Path) -> None:
    image = astronaut_face()
    with refused(InputError, "'bored'", "angry"):
        explain.face(shipped(), image, emotion="bored")
    with refused(InputError, "'magic'", "cam, occlusion"):
        explain.face(shipped(), image, method="magic")  # type: ignore[arg-type]
    with refused(InputError, "occlusion"):
        explain.face(planted(tmp_path, "most"), image, method="cam")
    with refused(ModelError, "'x'"):
        explain.face(shipped(), image, head="x")
    with refused(ModelError, "shape"):
        explain.face(shipped(), image[:20])
    with pytest.raises(ModelError):
        checks.read_weights(b"no onnx", "answer/kernel")


def test_a_file_without_a_feature_map_has_to_be_exported_again(tmp_path: Path) -> None:
    model = planted(tmp_path, "mean")
    old = model_files.of(model.read(), replace(model.card, feature_map=None), threads=1)
    for method in (None, "cam"):
        with refused(InputError, "export"):
            explain.face(old, spotted(row=8, column=8), method=method)
    assert explain.face(old, spotted(row=8, column=8), method="occlusion").map.max() == 1


def test_progress_comes_to_its_end() -> None:
    for method in explain.METHODS:
        seen: list[tuple[int, int]] = []
        explain.face(
            shipped(), astronaut_face(), method=method, progress=lambda *step, seen=seen: seen.append(step)
        )
        assert seen[-1][0] == seen[-1][1]
        assert (len(seen) > 1) == (method == "occlusion")


# The command


@pytest.fixture
def photo(away: Path) -> Path:
    """Two faces, beside one another."""
    side = np.concatenate([astronaut(), astronaut()[:, ::-1]], axis=1)
    Image.fromarray(side).save(away / "photo.png")
    return away / "photo.png"


def test_the_command_explains_every_face(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explain", "photo.png", "--to", "why", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [face["emotion"] for face in document["faces"]] == ["happy", "happy"]
    for face in document["faces"]:
        assert all(score == float(f"{score:.6g}") for score in face["scores"].values())
    assert {face["method"] for face in document["faces"]} == {"cam"}
    assert (document["width"], document["height"]) == (1024, 512)
    for face in document["faces"]:
        assert images.read(face["file"]).shape[1] > 2 * explain.SIDE
    assert images.read(document["overlay"]).shape[1::-1] == (1024, 512 + explain.LEGEND)
    assert cli.run(["explain", "photo.png", "--emotion", "sad", "--method", "occlusion"]) == 0
    shown = capsys.readouterr().out
    assert "mien-explain/photo-2.png" in shown.replace("\\", "/")
    assert shown.count("occlusion") == 2


def test_the_command_says_that_an_emotion_is_close_to_nothing(
    photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["explain", "photo.png", "--emotion", "fear"]) == 0
    assert has_line(" ".join(capsys.readouterr().err.split()), "face 2", "fear", "0.0%")
    assert cli.run(["explain", "photo.png"]) == 0
    assert "face 2" not in capsys.readouterr().err


def test_faces_have_the_numbers_that_predict_gives_them(
    away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The small face is on the left, and the large one has more pixels.
    picture = Image.new("RGB", (512 + 300, 512))
    picture.paste(Image.fromarray(astronaut()).resize((300, 300)), (0, 0))
    picture.paste(Image.fromarray(astronaut()), (300, 0))
    picture.save(away / "two.png")
    assert cli.run(["explain", "two.png", "--json"]) == 0
    squares = [face["square"] for face in json.loads(capsys.readouterr().out)["faces"]]
    faces = predict("two.png").faces
    assert len(squares) == len(faces) == 2
    assert faces[0].box.left > faces[1].box.left
    for square, face in zip(squares, faces, strict=True):
        middle = square["left"] + square["side"] / 2
        assert face.box.left < middle < face.box.left + face.box.width


def test_the_command_without_a_face(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (200, 100), 90).save(away / "wall.png")
    assert cli.run(["explain", "wall.png"]) == 0
    assert "wall.png" in capsys.readouterr().out
    assert cli.run(["explain", "wall.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["faces"] == []
    assert not (away / "mien-explain").exists()


@pytest.mark.parametrize("size", [(48, 48), (60, 91), (90, 61)])
def test_a_whole_image_is_the_face_that_training_sees(
    away: Path, capsys: pytest.CaptureFixture[str], size: tuple[int, int]
) -> None:
    picture = Image.fromarray(astronaut()[62:174, 168:280]).resize(size)
    picture.save(away / "face.png")
    assert cli.run(["explain", "face.png", "--whole-image", "--head", "fer2013", "--json"]) == 0
    (face,) = json.loads(capsys.readouterr().out)["faces"]
    fitted = images.fit(images.read(away / "face.png"), 48)
    balance = shipped().card.head("fer2013").balance
    chances = shipped().run(fitted[np.newaxis], head="fer2013", balance=balance)[0]
    assert list(face["scores"].values()) == pytest.approx(chances, abs=1e-4)
    assert face["square"]["side"] == max(size)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "magic"], "--method"),
        (["--emotion", "bored"], "--emotion"),
        (["--head", "x"], "'x'"),
        (["--whole-image", "--min-face", "30"], "--min-face"),
        (["--whole-image", "--min-confidence", "0.5"], "--min-confidence"),
        (["--min-face", "0"], "--min-face"),
        (["--min-confidence", "1.5"], "--min-confidence"),
        (["--model", "nowhere"], "'nowhere'"),
        (["--to", "photo.png"], "photo.png"),
    ],
)
def test_the_command_refuses_in_one_sentence(
    photo: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert cli.run(["explain", "photo.png", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.strip().count("\n") == 0
    assert captured.out == ""


def test_faces_below_min_confidence_are_not_explained(
    photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["explain", "photo.png", "--json", "--min-confidence", "0"]) == 0
    assert len(json.loads(capsys.readouterr().out)["faces"]) == 2
    assert cli.run(["explain", "photo.png", "--json", "--min-confidence", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["faces"] == []


def test_the_command_wants_an_image(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explain", "nowhere.png"]) == 2
    assert "nowhere.png" in capsys.readouterr().err
