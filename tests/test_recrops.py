"""One photograph cut out twice is found whatever its part and size, and two photographs are not."""

import io

import numpy as np
import pytest
import skimage.data
from PIL import Image

from builders import refused
from mien.data import datasets, duplicates, recrops, synthetic
from mien.data.recrops import align
from mien.errors import DataError

#: Left, top and side of what is cut out of a photograph of 144 pixels, as parts of its side.
WHOLE = (0.0, 0.0, 1.0)
CUTS = {
    "a tenth larger": (0.05, 0.05, 0.9),
    "a quarter larger": (0.1, 0.12, 0.8),
    "larger, to the left": (0.02, 0.1, 0.85),
    "larger, upwards": (0.08, 0.0, 0.88),
    "the lower right": (0.14, 0.14, 0.86),
}


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    return synthetic.sample(70, seed=8, size=144)[0][:, :, :, 0]


def cut(photograph: np.ndarray, part: tuple[float, float, float], size: int = 48) -> np.ndarray:
    left, top, side = (value * len(photograph) for value in part)
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(photograph).resize((size, size), Image.Resampling.BICUBIC, box=box))


def cuts(photographs: np.ndarray, part: tuple[float, float, float], size: int = 48) -> np.ndarray:
    return np.stack([cut(photograph, part, size) for photograph in photographs])[..., np.newaxis]


def own(found: recrops.Recrops) -> tuple[int, int]:
    """How many images found their own photograph, and how many another's."""
    mine = found.one == found.other
    return len(np.unique(found.one[mine])), int((~mine).sum())


@pytest.mark.parametrize("name", CUTS)
def test_a_photograph_cut_otherwise_is_found_from_both_sides(photographs: np.ndarray, name: str) -> None:
    wide, close = cuts(photographs, WHOLE), cuts(photographs, CUTS[name])
    for images, among in ((wide, close), (close, wide)):
        right, wrong = own(recrops.find(images, among))
        assert right >= 0.97 * len(photographs)
        # Faces that are drawn share some of their features to the pixel.
        assert wrong <= 0.04 * len(photographs)


def test_light_jpeg_and_mirror_hide_nothing(photographs: np.ndarray) -> None:
    changed = []
    for face in cuts(photographs, CUTS["a tenth larger"])[:, :, ::-1, 0]:
        packed = io.BytesIO()
        Image.fromarray((face * 0.8 + 20).astype(np.uint8)).save(packed, "JPEG", quality=75)
        changed.append(np.asarray(Image.open(packed)))
    found = recrops.find(np.stack(changed)[..., np.newaxis], cuts(photographs, WHOLE))
    assert own(found)[0] >= 0.97 * len(photographs)
    assert found.mirrored[found.one == found.other].mean() > 0.9


def test_cells_lose_next_to_nothing(photographs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    wide, close = cuts(photographs, WHOLE), cuts(photographs, CUTS["a tenth larger"])
    monkeypatch.setattr(recrops, "_FEW", 0)
    monkeypatch.setattr(recrops, "_CHUNK", 50)
    first, second = (recrops.find(close, wide) for _ in range(2))
    assert own(first)[0] >= 0.95 * len(photographs)
    assert np.array_equal(first.similarity, second.similarity)


def test_pairs_are_ascending_and_equal_images_are_among_them(photographs: np.ndarray) -> None:
    wide = cuts(photographs[:20], WHOLE)
    found = recrops.find(wide[[3, 3, 7]], wide)
    pairs = list(zip(found.one.tolist(), found.other.tolist(), strict=True))
    assert pairs == sorted(pairs)
    assert {(0, 3), (1, 3), (2, 7)} <= set(pairs)
    assert found.similarity[found.one == 0].max() > 0.999


def test_a_flat_image_is_like_nothing() -> None:
    grey = np.full((3, 48, 48, 1), 90, np.uint8)
    found = recrops.find(grey, grey)
    assert len(found.one) == len(found.similarity) == len(found.mirrored) == 0


def test_a_side_of_96_pixels_is_searched_alike(photographs: np.ndarray) -> None:
    wide, close = (cuts(photographs[:40], part, 96) for part in (WHOLE, CUTS["a quarter larger"]))
    assert own(recrops.find(close, wide))[0] >= 38


def test_the_map_found_is_the_one_that_was_planted() -> None:
    photograph = skimage.data.camera()[60:204, 180:324]
    part = CUTS["a tenth larger"]
    close, wide = cut(photograph, part), cut(photograph, WHOLE)
    start = np.array([[[1.1, 0, -2], [0, 1.1, -3]]], np.float32)
    found = align(close[np.newaxis], wide[np.newaxis], start)
    # A pixel of the whole lies at (x + 0.5) / 48 of the photograph, and there the part has its own.
    scale = 1 / part[2]
    left = (0.5 / 48 - part[0]) * scale * 48 - 0.5
    expected = np.array([[scale, 0, left], [0, scale, left]], np.float32)
    assert found.maps[0] == pytest.approx(expected, abs=0.2)
    assert found.similarity[0] > 0.98


def test_progress_rises_to_its_total(photographs: np.ndarray) -> None:
    seen: list[tuple[int, int]] = []
    wide = cuts(photographs[:30], WHOLE)
    recrops.find(wide[:3], wide, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (100, 100)


def test_what_cannot_be_searched_is_refused() -> None:
    small = np.zeros((2, 20, 20, 1), np.uint8)
    large = np.zeros((2, 48, 48, 1), np.uint8)
    with refused(DataError, 20):
        recrops.find(small, small)
    with refused(DataError, 48, 64):
        recrops.find(large, np.zeros((2, 64, 64, 1), np.uint8))
    with refused(DataError, 0, 1):
        recrops.find(large, large, same=1.0)


@pytest.mark.slow
@pytest.mark.real
def test_planted_cuts_of_fer2013_are_found(fer2013: datasets.Dataset) -> None:
    faces = fer2013.split("train").images[:3000]
    faces = faces[faces.std(axis=(1, 2, 3)) >= duplicates.FLAT]
    close = cuts(faces[:300, :, :, 0], (0.06, 0.08, 0.86))
    found = recrops.find(close, faces)
    assert own(found)[0] >= 0.97 * 300
