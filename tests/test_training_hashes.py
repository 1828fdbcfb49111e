"""Hashes of training images: what they know again, what they do not, and how they are kept."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders import has_line, refused
from hand_models import LABELS, SIZE, meter, split_of
from mien import cli
from mien.data import synthetic
from mien.data.datasets import Dataset
from mien.errors import ModelError
from mien.evaluation import evaluator
from mien.evaluation.evaluation import SplitUse
from mien.evaluation.memorised import count_memorised, warn_of_memorised
from mien.evaluation.metrics import wilson_interval
from mien.models import model_files, training_hashes
from mien.reports import evaluation_report
from mien.vision import images


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return synthetic.sample(400, seed=0, size=48)[0]


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    packed = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(packed, "JPEG", quality=quality)
    return images.fit(images.read(packed.getvalue()), 48)


def test_equal_and_near_images_are_known_and_others_are_not(faces: np.ndarray) -> None:
    made = training_hashes.of(faces[:200])
    exact, near = made.find(faces)
    assert exact[:200].all()
    assert not exact[200:].any()
    assert not near[:200].any()
    assert near[200:].mean() < 0.02
    moved = np.pad(faces[:200], ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")[:, :48, 1:49]
    changed = {
        "jpeg": np.stack([jpeg(image, 60) for image in faces[:200]]),
        "mirrored": faces[:200, :, ::-1],
        "moved": moved,
        "darker": (faces[:200] * 0.8).astype(np.uint8),
    }
    for way, copies in changed.items():
        exact, near = made.find(np.ascontiguousarray(copies))
        assert (exact | near).mean() >= 0.95, way
        assert near.mean() > 0.9, way


def test_a_png_of_an_image_is_the_image(faces: np.ndarray) -> None:
    packed = io.BytesIO()
    Image.fromarray(faces[3, :, :, 0]).save(packed, "PNG")
    again = images.fit(images.read(packed.getvalue()), 48)[np.newaxis]
    assert training_hashes.of(faces[:10]).find(again)[0].all()


def test_images_that_show_nothing_are_known_when_they_are_equal() -> None:
    blank = np.full((3, 48, 48, 1), 7, np.uint8)
    made = training_hashes.of(blank)
    assert (made.n, len(made.hashes), len(made.signatures)) == (3, 1, 0)
    exact, near = made.find(np.concatenate([blank, blank + 1]))
    assert exact.tolist() == [True] * 3 + [False] * 3
    assert not near.any()


def test_small_images_are_known_by_their_pixels_alone(faces: np.ndarray) -> None:
    small = np.stack([images.fit(image[:, :, 0], 12) for image in faces[:20]])
    exact, near = training_hashes.of(small[:10]).find(small)
    assert exact.tolist() == [True] * 10 + [False] * 10
    assert not near.any()


def test_what_cannot_be_hashed_or_looked_up_is_refused(faces: np.ndarray) -> None:
    for wrong in (faces[0], faces.astype(np.float32), faces[:, :40], faces[:0]):
        with pytest.raises(ModelError):
            training_hashes.of(wrong)
    with refused(ModelError, 48):
        training_hashes.of(faces[:5]).find(faces[:5, :40, :40])


def shipped(folder: Path, name: str = "hand") -> model_files.Model:
    """A model of known answers with an evaluation beside it, as `mien ship` writes them."""
    card = model_files.Card(name=name, labels=LABELS, size=SIZE)
    made = model_files.write(meter(name, (85, 170)), card, folder / f"{name}.onnx")
    document = {"schema": 2, "name": name, "sha256": made.card.sha256, "bytes": 1, "evaluation": {}}
    (folder / f"{name}.json").write_text(json.dumps(document))
    return model_files.load(folder / f"{name}.onnx")


def test_models_that_learnt_the_same_share_a_file(tmp_path: Path) -> None:
    learnt = split_of([10, 20, 100, 110], [0, 0, 1, 1]).images
    one, other = shipped(tmp_path, "one"), shipped(tmp_path, "other")
    assert training_hashes.read(one) is None
    paths = {training_hashes.write(each.path, learnt) for each in (one, other)}
    assert len(paths) == 1
    assert paths.pop().name.startswith("training-hashes-")
    found = training_hashes.read(model_files.load(tmp_path / "one.onnx"))
    assert found is not None
    assert (found.size, found.n, len(found.hashes)) == (SIZE, 4, 4)
    assert json.loads((tmp_path / "one.json").read_text())["training_hashes"]["n"] == 4


def test_a_model_without_an_evaluation_gets_no_hashes(tmp_path: Path) -> None:
    with refused(ModelError, "'none.json'"):
        training_hashes.write(tmp_path / "none.onnx", split_of([1], [0]).images)


def test_damaged_hashes_are_named(tmp_path: Path) -> None:
    model = shipped(tmp_path)
    path = training_hashes.write(model.path, split_of([10, 20], [0, 0]).images)
    whole = path.read_bytes()
    other = training_hashes.pack(training_hashes.of(split_of([30], [0]).images))[1]
    for content in (b"", whole[:-30], whole[:200] + b"x" + whole[201:], other):
        path.write_bytes(content)
        with refused(ModelError, path.name):
            training_hashes.read(model)
    path.unlink()
    with refused(ModelError, path.name):
        training_hashes.read(model)
    for named in ("training-hashes.npz", {"file": "../training-hashes-00000000.npz", "n": 1}, {"n": 1}, 5):
        document = json.loads((tmp_path / "hand.json").read_text()) | {"training_hashes": named}
        (tmp_path / "hand.json").write_text(json.dumps(document))
        with refused(ModelError, "training_hashes"):
            training_hashes.read(model)


def test_a_score_says_how_many_images_were_learnt_from(tmp_path: Path) -> None:
    model = shipped(tmp_path)
    # Of six images the model answers 40, 120 and 220 rightly and 84, 90 and 169 wrongly.
    scored = split_of([40, 120, 220, 84, 90, 169], [0, 1, 2, 1, 0, 2])
    answers = evaluator.predict(model, scored, labels=LABELS)
    assert count_memorised(model, answers) is None
    assert warn_of_memorised(SplitUse(role="other"), None) == SplitUse(role="other")
    training_hashes.write(model.path, scored.images[:2])
    found = count_memorised([model], answers)
    assert found is not None
    assert (found.exact, found.near, found.n, found.accuracy) == (2, 0, 4, 0.25)
    assert found.accuracy_interval == wilson_interval(1, 4)
    told = warn_of_memorised(SplitUse(role="other"), found)
    assert told.role == "other"
    assert has_line(told.warnings[0], 2, 6, "25.00% (4.56% to 69.94%)")
    training_hashes.write(model.path, scored.images)
    found = count_memorised(model, answers)
    assert found is not None
    assert (found.exact, found.n, found.accuracy, found.accuracy_interval) == (6, 0, None, None)
    told = warn_of_memorised(SplitUse(role="other"), found)
    assert told.role == "train"
    assert len(told.warnings) == 1
    assert warn_of_memorised(SplitUse(role="train"), found).warnings == ()


def test_a_report_says_how_many_images_were_learnt_from(tmp_path: Path) -> None:
    model = shipped(tmp_path)
    scored = split_of([40, 120, 220, 84, 90, 169], [0, 1, 2, 1, 0, 2])
    data = Dataset("faces", LABELS, train=None, val=scored, test=None)
    answers = evaluator.predict(model, scored, labels=LABELS, data="faces")
    evaluation_report.write(evaluator.measure_all([model], data, answers), answers, tmp_path / "none")
    assert "hashes" in (tmp_path / "none" / evaluation_report.HTML).read_text()
    training_hashes.write(model.path, scored.images[:2])
    told = evaluator.measure_all([model], data, answers)
    assert told.memorised.exact == 2
    evaluation_report.write(told, answers, tmp_path / "told")
    page = (tmp_path / "told" / evaluation_report.HTML).read_text()
    assert "2 of the 6 images" in page


def test_commands_warn_of_images_that_a_model_learnt_from(
    away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    levels = {"train": (30, 110, 210), "val": (40, 120, 220)}
    for part, greys in levels.items():
        for label, level in zip(LABELS, greys, strict=True):
            for more in range(4):
                file = away / "data" / part / label / f"{more}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((SIZE, SIZE), level + more, np.uint8)).save(file)
    pixels = [level + more for level in levels["val"] for more in range(4)]
    for name, count in (("one", 3), ("other", 8)):
        training_hashes.write(shipped(away, name).path, split_of(pixels[:count], [0] * count).images)
    few = ["evaluate", "one.onnx", "--data", "data"]
    assert cli.run([*few, "--json"]) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert (told["memorised"]["exact"], told["memorised"]["n"], told["split_use"]["role"]) == (
        3,
        9,
        "unknown",
    )
    assert has_line(captured.err, 3, 12)
    assert cli.run(few) == 0
    assert has_line(capsys.readouterr().out, 9)
    assert cli.run(["evaluate", "one.onnx", "other.onnx", "--data", "data", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["memorised"]["exact"], told["split_use"]["role"]) == (8, "train")
    assert cli.run(["compare", "one.onnx", "other.onnx", "--data", "data", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["known"], told["without_known"]["n"], told["winner"]) == (8, 4, None)
    assert any(has_line(each, 8, 12) for each in told["warnings"])


@pytest.mark.parametrize("name", model_files.SHIPPED)
def test_models_of_the_package_have_hashes(name: str) -> None:
    model = model_files.load(name)
    found = training_hashes.read(model)
    assert found is not None
    learnt = {part.n for data in model.card.learnt_from for part in [data.splits["train"]]}
    assert learnt == {found.n}
    assert (model_files.MODELS / training_hashes.pack(found)[0]).stat().st_size < 1_000_000
