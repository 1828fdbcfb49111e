"""Faces are found where they are, in the image's own pixels, and nowhere else."""

import numpy as np
import pytest
from skimage import data

from mien import detect


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return data.astronaut()


def test_the_astronaut_is_found(astronaut: np.ndarray) -> None:
    (face,) = detect.load().find(astronaut, smallest=20)
    assert abs(face.left + face.width / 2 - 223) < 12
    assert abs(face.top + face.height / 2 - 118) < 15
