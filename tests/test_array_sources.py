"""NumPy archives, arrays and lists are read as images; broken ones are refused in one sentence."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mien
from mien.data import datasets
from mien.errors import DataError, InputError
from mien.labels import EMOTIONS
from test_datasets import face, lay, png

NAMES = np.array(["sad", "happy"])


def faces(count: int = 8, first: int = 0) -> np.ndarray:
    return np.stack([face(first + number) for number in range(count)])


def labels(count: int = 8) -> np.ndarray:
    return NAMES[np.arange(count) % 2]


def packed(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def check(data: datasets.Dataset) -> None:
    """Image n is face n, and its class is that of n."""
    for split in data.splits:
        for place, file in enumerate(split.files):
            row = int(file.rpartition(" ")[2])
            assert data.labels[split.labels[place]] == NAMES[row % 2]
            np.testing.assert_array_equal(split.images[place, :, :, 0], face(row))


def refused(*names: str, **options: Any) -> None:
    with pytest.raises(DataError) as caught:
        datasets.load(**options)
    text = str(caught.value)
    assert "\n" not in text
    assert all(name in text for name in names), text


@pytest.mark.parametrize(
    "images",
    [
        faces(),
        faces()[..., None],
        np.repeat(faces()[..., None], 3, axis=3),
        faces().reshape(8, -1),
        faces() / np.float32(255),
        faces() / 255.0,
        faces().astype(np.float32),
        faces().astype(np.float16),
        faces().astype(np.int64),
    ],
    ids=["grey", "channel", "colour", "flat", "float32", "float64", "levels", "float16", "int64"],
)
def test_every_form_of_images_gives_the_same_pixels(tmp_path, images):
    check(datasets.load(packed(tmp_path / "x.npz", images=images, labels=labels())))
    check(datasets.load(images=images, labels=labels()))


@pytest.mark.parametrize(
    "names",
    [
        ("X", "y"),
        ("x", "Y"),
        ("images", "labels"),
        ("faces", "emotions"),
    ],
)
def test_names_of_arrays(tmp_path, names):
    check(datasets.load(packed(tmp_path / "x.npz", **dict(zip(names, (faces(), labels()), strict=True)))))


@pytest.mark.parametrize("form", ["x_{}/y_{}", "X_{}/y_{}", "{}_images/{}_labels", "images_{}/labels_{}"])
@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_arrays_of_splits(tmp_path, form, val):
    arrays: dict[str, np.ndarray] = {}
    for number, split in enumerate(("train", val, "test")):
        image, label = form.format(split, split).split("/")
        arrays |= {image: faces(4, 10 * number), label: labels(4)[:, None]}
    data = datasets.load(packed(tmp_path / "x.npz", **arrays))
    assert [(split.name, len(split)) for split in data.splits] == [("train", 4), ("val", 4), ("test", 4)]
    np.testing.assert_array_equal(data.test.images[2, :, :, 0], face(22))


def test_images_dir_is_for_tables_of_paths(tmp_path):
    np.savez(tmp_path / "faces.npz", images=faces(), labels=labels())
    for given in ({"source": tmp_path / "faces.npz"}, {"images": faces(), "labels": labels()}):
        refused("--images", images_dir=tmp_path, **given)


def test_groups_splits_and_class_names(tmp_path):
    rest = {
        "groups": np.array([1, 1, 2, 2, 3, 3, 4, 4]),
        "splits": np.array(["train"] * 4 + ["val"] * 2 + ["test"] * 2),
        "class_names": np.array(["tired", "awake"]),
        "made": np.array("today"),
    }
    path = packed(tmp_path / "x.npz", images=faces(), labels=np.arange(8) % 2, **rest)
    data = datasets.load(path)
    assert data.labels == ("awake", "tired")
    assert data.labels[data.train.labels[0]] == "tired"
    assert data.train.groups == ("1", "1", "2", "2")
    assert [len(split) for split in data.splits] == [4, 2, 2]
    assert any("'made'" in note for note in data.notes)
    assert datasets.load(path, labels_order="sad,happy").labels == ("happy", "sad")


def test_numbers_as_labels_are_the_emotions():
    data = datasets.load(images=faces(28), labels=np.arange(28) % 7)
    assert data.labels == EMOTIONS
    assert datasets.load(images=faces(28), labels=(np.arange(28) % 7).astype(float)).labels == EMOTIONS


def test_a_note_says_how_values_were_read(tmp_path):
    assert any("fractions" in note for note in datasets.load(images=faces() / 255, labels=labels()).notes)
    assert any("0..255" in note for note in datasets.load(images=faces(), labels=labels()).notes)


def test_a_list_can_have_paths_arrays_bytes_and_pictures(tmp_path):
    lay(tmp_path, {"3.png": png(face(3))})
    images = [face(0), face(1)[..., None], face(2) / 255, str(tmp_path / "3.png"), png(face(4))]
    images += [Image.fromarray(face(5)), io.BytesIO(png(face(6))), face(7, side=64)]
    data = datasets.load(images=images, labels=labels().tolist(), splits=["train"] * 6 + ["val"] * 2)
    for number in range(6):
        np.testing.assert_array_equal(data.train.images[number, :, :, 0], face(number))
    assert data.train.files[2:4] == ("row 2", str(tmp_path / "3.png"))


def test_paths_can_carry_labels_and_groups(tmp_path):
    files = {f"{name}_p{number}.png": png(face(number)) for number, name in enumerate(labels(16))}
    lay(tmp_path, files)
    paths = [tmp_path / name for name in files]
    data = datasets.load(images=paths, label_from="(happy|sad)_", group_from="_(p[0-9]+)")
    assert data.labels == ("happy", "sad")
    assert data.train.groups is not None
    refused("label-from", images=paths, label_from="(angry)_")


def test_group_from_needs_names_of_files(tmp_path):
    persons = np.arange(16) % 4
    source = packed(tmp_path / "x.npz", images=faces(16), labels=labels(16), groups=persons)
    refused("group-from", "groups", source=source, group_from="(p)")
    refused("group-from", "groups", images=faces(16), labels=labels(16), groups=persons, group_from="(p)")
    pixels = " ".join(["7"] * 4)
    rows = "".join(f"{number % 2},{pixels}\n" for number in range(16))
    lay(tmp_path, {"fer.csv": f"emotion,pixels\n{rows}".encode()})
    refused("group-from", "fer.csv", source=tmp_path / "fer.csv", group_from="(p)")
    files = {f"p{number}.png": png(face(number)) for number in range(16)}
    lay(tmp_path, files)
    given = {"images": [tmp_path / name for name in files], "labels": labels(16), "groups": persons}
    refused("group-from", group_from="(q)", **given)
    data = datasets.load(group_from="(p9)", **given)
    assert {group for split in data.splits for group in split.groups or ()} == {"p9", "0", "1", "2", "3"}


@pytest.mark.parametrize("name", ["groups", "splits", "groups_test", "y_test"])
def test_arrays_of_no_images_are_refused(tmp_path, name):
    arrays = {"x_train": faces(16), "y_train": labels(16), name: np.arange(16)}
    refused(name, "x_train", source=packed(tmp_path / "x.npz", **arrays))


def test_unused_labels_and_class_names_are_noted(tmp_path):
    arrays = {"x_train": faces(16), "y_train": labels(16), "train_names": labels(16), "labels": NAMES}
    data = datasets.load(packed(tmp_path / "x.npz", **arrays))
    assert any("train_names" in note and "'labels'" in note for note in data.notes)
    path = packed(tmp_path / "y.npz", images=faces(16), labels=labels(16), class_names=NAMES)
    assert any("'class_names'" in note for note in datasets.load(path).notes)
    assert data.labels == ("happy", "sad")


def test_images_that_cannot_be_read_are_problems(tmp_path):
    images = [*faces(), tmp_path / "gone.png", b"nothing", "a\0b", 7, None]
    data = datasets.load(images=images, labels=["happy", "sad"] * 6 + ["sad"])
    assert len(data.problems) == 5
    assert all("\n" not in problem.reason for problem in data.problems)


def test_images_have_no_origin_but_options():
    data = datasets.load(images=faces(), labels=labels(), seed=3, rename="sad=tired")
    assert data.origin["source"] is None
    assert data.origin["seed"] == 3
    assert data.labels == ("happy", "tired")
    assert data.root == "images"


def test_sizes_and_notes_of_seeds_are_those_of_files(tmp_path):
    path = packed(tmp_path / "x.npz", images=faces(40), labels=labels(40))
    one, other = (
        datasets.load(path, size=32, seed=5),
        datasets.load(images=faces(40), labels=labels(40), size=32, seed=5),
    )
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("named", "options"),
    [
        ("source", {}),
        ("source", {"labels": labels()}),
        ("images", {"source": "x", "images": faces()}),
        ("labels", {"source": "x", "labels": labels()}),
        ("labels", {"images": faces()}),
        ("images", {"images": "faces.zip", "labels": labels()}),
        ("images", {"images": 3, "labels": labels()}),
        ("labels", {"images": faces(), "labels": 3}),
        ("votes", {"images": faces(), "labels": labels(), "votes": "votes.csv"}),
    ],
)
def test_one_of_source_and_images_is_needed(named, options):
    refused(named, **options)


BROKEN = [
    ({"labels": labels()}, "images"),
    ({"images": faces()}, "labels"),
    ({"x_train": faces(), "y_train": labels(), "x_test": faces()}, "'x_test'"),
    ({"x_train": faces(), "y_train": labels(), "X": faces(), "y": labels()}, "'X'"),
    ({"X": faces(), "images": faces(), "y": labels()}, "'images'"),
    ({"nothing": faces()}, "'nothing'"),
    ({"images": faces(), "labels": labels(7)}, "7"),
    ({"images": faces(), "labels": np.eye(8)}, "argmax"),
    ({"images": faces(), "labels": np.full(8, np.nan)}, "labels"),
    ({"images": faces(), "labels": np.arange(8) / 2}, "labels"),
    ({"images": faces(), "labels": np.arange(8) + 1j}, "labels"),
    ({"images": faces(), "labels": np.array([""] * 8)}, "labels"),
    ({"images": faces(), "labels": np.arange(8), "class_names": NAMES}, "class_names"),
    ({"images": faces(), "labels": np.arange(8) % 2 - 1, "class_names": NAMES}, "class_names"),
    ({"images": faces(), "labels": labels(), "class_names": np.arange(2)}, "class_names"),
    ({"images": faces(), "labels": labels(), "groups": np.arange(3)}, "groups"),
    ({"images": faces(), "labels": labels(), "splits": np.array(["train"] * 7 + ["mine"])}, "'mine'"),
    ({"images": faces(), "labels": labels(), "splits": np.array(["train"] * 7)}, "splits"),
    ({"images": faces() - 128.0, "labels": labels()}, "-128"),
    ({"images": faces() * 2.0, "labels": labels()}, "0..255"),
    ({"images": np.where(faces() > 9, np.nan, faces()), "labels": labels()}, "finite"),
    ({"images": np.where(faces() > 9, np.inf, faces()), "labels": labels()}, "finite"),
    ({"images": faces() > 9, "labels": labels()}, "bool"),
    ({"images": (faces() > 9).astype(np.uint8), "labels": labels()}, "images"),
    ({"images": faces().reshape(8, 2, -1)[:, :, :, None, None], "labels": labels()}, "shape"),
    ({"images": faces()[:, :, :20].reshape(8, -1), "labels": labels()}, "shape"),
    ({"images": np.zeros((8, 3, 48, 48), np.uint8), "labels": labels()}, "channels"),
    ({"images": np.zeros((8, 48, 48, 4), np.uint8), "labels": labels()}, "shape"),
    ({"images": np.zeros((8, 0, 0), np.uint8), "labels": labels()}, "shape"),
    ({"images": np.zeros(8, np.uint8), "labels": labels()}, "shape"),
    ({"images": np.array(3), "labels": labels()}, "images"),
    ({"images": faces(0 + 1)[:0], "labels": labels(0)}, "image"),
    ({"images": np.array(["a"] * 8), "labels": labels()}, "images"),
]


@pytest.mark.parametrize(("arrays", "named"), BROKEN)
def test_unsuitable_arrays_are_refused(tmp_path, arrays, named):
    refused(named, source=packed(tmp_path / "x.npz", **arrays))
    if "images" in arrays and "labels" in arrays and not {"X", "class_names"} & set(arrays):
        with pytest.raises(DataError):
            datasets.load(**arrays)


def test_pickled_objects_are_not_loaded(tmp_path):
    class Attack:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "attacked",))

    np.savez(tmp_path / "x.npz", images=faces(), labels=np.array([Attack()] * 8, dtype=object))
    refused("'labels'", source=tmp_path / "x.npz")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("kept", [0, 3, 100, -30, -1])
def test_truncated_archives_are_refused(tmp_path, kept):
    path = packed(tmp_path / "x.npz", images=faces(), labels=labels())
    path.write_bytes(path.read_bytes()[:kept])
    refused("'x.npz'", source=path)


def test_flipped_bytes_are_read_or_refused(tmp_path):
    path = packed(tmp_path / "x.npz", images=faces() // 100 * 100, labels=labels())
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 2):
            damaged[place] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(damaged)
        try:
            datasets.load(path)
        except DataError as error:
            message = str(error)
            if "\n" in message:
                pytest.fail(message)


def test_declared_sizes_are_checked_before_memory_is_taken(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 48, 48)}
    )
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as out:
        out.writestr("images.npy", header.getvalue())
        out.writestr("labels.npy", header.getvalue())
    refused("'images'", source=tmp_path / "x.npz")


def test_archives_above_the_limit_are_refused(tmp_path, monkeypatch):
    path = packed(tmp_path / "x.npz", images=np.zeros((100, 48, 48), np.uint8), labels=labels(100))
    monkeypatch.setattr("mien.data.array_sources.MAX_PIXEL_BYTES", 1000)
    refused("1000", source=path)
    monkeypatch.setattr("mien.data.contents.MAX_PIXEL_BYTES", 1000)
    refused("limit", images=np.zeros((100, 48, 48), np.uint8), labels=labels(100))


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    lay(tmp_path, {"x.npz": b"text", "y.npz": png(face(1))})
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as out:
        out.writestr("readme.txt", "text")
    for name in ("x.npz", "y.npz", "z.npz"):
        refused(f"'{name}'", source=tmp_path / name)


def test_a_run_records_that_its_data_have_no_source(tmp_path, monkeypatch):
    pytest.importorskip("keras", reason="training needs mien[train]")
    monkeypatch.chdir(tmp_path)
    data = mien.load_dataset(images=faces(40), labels=labels(40), size=16)
    run = mien.train(data, settings={"epochs": 1, "network": "toy", "size": 16}, out="run")
    assert run.facts()["data"]["origin"]["source"] is None
    with pytest.raises(InputError) as caught:
        mien.evaluate(run.path)
    assert "data" in str(caught.value)
    assert mien.evaluate(run.path, data=data).evaluation.n == len(data.val)
