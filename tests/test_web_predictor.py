"""The modules of an exported site, run by Node.js, predict as Python does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mien
from mien.vision import images
from mien.vision.faces import find_faces
from web_fixtures import needs_node, node, photos

pytestmark = needs_node


def predict(
    site: Path, found: list[np.ndarray], tmp_path: Path, options: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Return what the site answers to each photo with its options."""
    tasks = []
    for number, photo in enumerate(found):
        file = tmp_path / f"{number}.rgb"
        file.write_bytes(np.ascontiguousarray(photo).tobytes())
        facts = {"width": photo.shape[1], "height": photo.shape[0], "file": str(file)}
        tasks.append({"image": facts, "options": options[number] if options else {}})
    answers: list[dict[str, Any]] = json.loads(node("predict_pixels.mjs", site, tasks, tmp_path))
    return answers


def check_photos(site: Path, predictor: mien.Predictor, drawn: int, tmp_path: Path) -> int:
    """Compare photos, and return the number of faces."""
    found, faces, same = photos(drawn), 0, 0
    distances: list[float] = []
    for photo, answer in zip(found, predict(site, found, tmp_path), strict=True):
        expected, prediction = predictor.image(photo).to_dict(), answer["prediction"]
        assert len(prediction["faces"]) == len(expected["faces"])
        for key in ("schema", "width", "height", "rotation"):
            assert prediction[key] == expected[key]
        seen = find_faces(predictor.detector, images.picture(photo))
        for (_, face), other in zip(seen.faces, answer["detections"], strict=True):
            sides = ("left", "top", "width", "height")
            distances.append(max(abs(getattr(face, side) - other[side]) for side in sides))
            assert other["score"] == pytest.approx(face.score, abs=1e-3)
        for face, other in zip(expected["faces"], prediction["faces"], strict=True):
            faces += 1
            same += face["emotion"] == other["emotion"]
            assert max(abs(face["box"][side] - other["box"][side]) for side in sides) <= 1
            # A box that differs by a hundredth of a pixel changes grey levels of the crop.
            assert list(other["scores"].values()) == pytest.approx(list(face["scores"].values()), abs=0.05)
    assert same / faces >= 0.995
    # ONNX Runtime in Python differs as much from itself, with and without its optimisations.
    assert np.mean(np.array(distances) < 0.05) >= 0.98
    assert max(distances) < 0.15
    return faces


def test_photos_are_answered_as_in_python(site: Path, predictor: mien.Predictor, tmp_path: Path) -> None:
    assert check_photos(site, predictor, 4, tmp_path) > 10


@pytest.mark.slow
def test_many_photos_are_answered_as_in_python(site: Path, predictor: mien.Predictor, tmp_path: Path) -> None:
    assert check_photos(site, predictor, 150, tmp_path) > 300


def test_the_same_crop_gets_the_same_answer(site: Path, tmp_path: Path) -> None:
    faces, _, _ = mien.data.synthetic.sample(8, seed=3, size=48)
    wanted, python = [], []
    for head in ("fer2013", "ferplus"):
        for balance in (None, 0.0, 0.6, 1.0):
            chosen = mien.Predictor(head=head, whole_image=True, balance=balance)
            for face in faces:
                python.append(chosen.image(face[:, :, 0]).to_dict())
                wanted.append({"wholeImage": True, "head": head, "balance": balance})
    crops = [np.repeat(face, 3, axis=2) for face in faces] * (len(wanted) // len(faces))
    for expected, answer in zip(python, predict(site, crops, tmp_path, wanted), strict=True):
        (face,), (other,) = expected["faces"], answer["prediction"]["faces"]
        assert other["scores"] == pytest.approx(face["scores"], abs=1e-6)
        assert {**other, "scores": 0, "confidence": 0} == {**face, "scores": 0, "confidence": 0}
