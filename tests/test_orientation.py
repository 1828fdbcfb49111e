"""Photos whose faces are not upright."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.data import astronaut, chelsea

from mien import _tables, cli
from mien.inference import batches
from mien.inference.predictor import Predictor
from mien.types import Prediction
from mien.vision import detectors
from mien.vision.detectors import Detection, orientation

PHOTO = astronaut()


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("fast")


@pytest.mark.parametrize("turns", range(4))
def test_a_turned_photo_gets_the_answer_of_the_upright_one(predictor: Predictor, turns: int) -> None:
    upright = predictor.image(PHOTO)
    found = predictor.image(np.ascontiguousarray(np.rot90(PHOTO, turns)))
    assert found.rotation == 90 * turns
    assert (found.width, found.height) == (512, 512)
    (face,), (expected,) = found.faces, upright.faces
    assert face.scores == expected.scores
    assert face.flags == expected.flags
    box = Detection(face.box.left, face.box.top, face.box.width, face.box.height, 1.0)
    back = orientation.turned(box, turns, (512, 512))
    assert (back.left, back.top) == (expected.box.left, expected.box.top)
    assert (back.width, back.height) == (expected.box.width, expected.box.height)


def test_without_the_search_a_turned_photo_is_read_as_it_is(predictor: Predictor) -> None:
    turned = np.ascontiguousarray(np.rot90(PHOTO, 2))
    assert predictor.image(turned, auto_rotate=False).rotation == 0
    assert Predictor("fast", auto_rotate=False).image(turned).rotation == 0


def test_a_sure_face_costs_no_further_look() -> None:
    class Once:
        def __getattr__(self, name: str) -> None:
            raise AssertionError(f"the detector's {name} was used")

    sure = [Detection(10, 10, 50, 50, orientation.UPRIGHT_SCORE)]
    image = np.zeros((100, 100, 3), np.uint8)
    assert orientation.quarter_turns(Once(), image, sure, smallest=30) == 0  # type: ignore[arg-type]


def test_a_cat_stays_as_it_is() -> None:
    assert Predictor("fast").image(chelsea()).rotation == 0


def test_an_image_without_a_face_stays_as_it_is() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160), np.uint8)
    assert orientation.quarter_turns(detectors.load(), noise, [], smallest=30) == 0


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 9), st.integers(1, 9), st.integers(-4, 8))
def test_boxes_turn_with_their_pixels(left: int, top: int, width: int, height: int, turns: int) -> None:
    image = np.zeros((120, 100), np.uint8)
    image[top : top + height, left : left + width] = 1
    box = orientation.turned(Detection(left, top, width, height, 0.5), turns, (100, 120))
    rows, columns = np.nonzero(np.rot90(image, -turns))
    assert (box.left, box.top) == (columns.min(), rows.min())
    assert (box.left + box.width - 1, box.top + box.height - 1) == (columns.max(), rows.max())


def test_a_prediction_keeps_its_rotation(tmp_path: Path) -> None:
    with _tables.ResumableLog(tmp_path / "kept", {}, batches._parse, resume=False) as record:
        record.add(Prediction("a.png", 5, 4, (), rotation=270).to_dict())
        assert [item.rotation for item in record.items() if isinstance(item, Prediction)] == [270]


def test_the_command_turns_a_photo_and_can_be_told_not_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.rot90(PHOTO, 1)).save("side.png")
    assert cli.run(["predict", "side.png", "--json", "--save", "marked"]) == 0
    told = capsys.readouterr()
    (document,) = json.loads(told.out)
    assert document["rotation"] == 90
    assert "side.png (90°)" in told.err
    assert "--no-auto-rotate" in told.err
    with Image.open("marked/side.png.face1.png") as face:
        box = document["faces"][0]["box"]
        assert face.size == (box["height"], box["width"])
    assert cli.run(["predict", "side.png", "--json", "--no-auto-rotate"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["rotation"] == 0
    assert cli.run(["predict", "side.png", "--whole-image", "--no-auto-rotate"]) == 2
    capsys.readouterr()
    assert cli.run(["explain", "side.png", "--json", "--method", "cam"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rotation"] == 90
    assert document["faces"][0]["answer"] == "happy"
