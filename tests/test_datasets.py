"""Loading: every layout FER2013 is passed around in, one order, and a clear word for what cannot be used."""

import csv
import gzip
import hashlib
import io
import lzma
import os
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from builders import has_line, refused
from mien import cli
from mien.cli import common
from mien.data import contents, csv_lists, datasets, exclusions, pixel_tables, sources
from mien.errors import DataError
from mien.labels import EMOTIONS, FERPLUS_COLUMNS, VOTES

SEVEN = EMOTIONS


def face(number: int, side: int = 48) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (side, side), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def small(splits=("train", "val", "test"), classes=("happy", "sad"), each=3, wrap="") -> dict[str, bytes]:
    """Distinct faces in class folders; a split of "" is none."""
    names = [
        "/".join(part for part in (wrap, split, name, f"{index}.png") if part)
        for split in splits
        for name in classes
        for index in range(each)
    ]
    return {name: png(face(number)) for number, name in enumerate(names)}


def lay(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name, data in files.items():
            out.writestr(name, data)
    return path


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    return path


def row(label: object, pixels: np.ndarray, usage: str) -> str:
    return f"{label},{' '.join(map(str, pixels.ravel().tolist()))},{usage}"


USAGES = (
    "Training",
    "Training",
    "Training",
    "Training",
    "PublicTest",
    "PublicTest",
    "PrivateTest",
    "PrivateTest",
)


def table(usages=USAGES, header="emotion,pixels,Usage") -> str:
    rows = [row((3, 4)[index % 2], face(index), usage) for index, usage in enumerate(usages)]
    return "\n".join([header, *rows]) + "\n"


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def sizes(data: datasets.Dataset) -> dict[str, int]:
    return {split.name: len(split) for split in data.splits}


# Class folders


def test_the_size_has_a_limit(tmp_path):
    for size in (0, datasets.MAX_SIZE + 1, 10**9):
        with pytest.raises(DataError) as caught:
            datasets.load(tmp_path, size=size)
        assert "size" in str(caught.value)
    for size in (datasets.MAX_SIZE + 1, 10**9):
        assert cli.run(["audit", str(tmp_path), "--size", str(size)]) == 2
    common.check_ranges(size=datasets.MAX_SIZE)


def test_a_folder_is_loaded_in_the_order_of_class_then_name(tmp_path):
    files = small(classes=("sad", "happy"))
    data = datasets.load(lay(tmp_path / "faces", files))
    assert data.root == "faces"
    assert data.labels == ("happy", "sad")
    assert sizes(data) == {"train": 6, "val": 6, "test": 6}
    assert data.problems == data.excluded == data.notes == ()
    train = data.split("train")
    assert train.files == tuple(f"train/{name}/{index}.png" for name in data.labels for index in range(3))
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.labels.dtype == np.int64
    assert train.votes is None
    for split in data.splits:
        assert split.images.shape == (6, 48, 48, 1)
        assert split.images.dtype == np.uint8
        for pixels, name in zip(split.images, split.files, strict=True):
            assert png(pixels[:, :, 0]) == files[name]


def test_the_splits_are_views_of_one_array_that_cannot_be_written_to(tmp_path):
    data = datasets.load(lay(tmp_path, small()))
    whole = data.train.images.base
    assert whole is not None
    assert all(split.images.base is whole for split in data.splits)
    assert len(whole) == sum(map(len, data.splits))
    with pytest.raises(ValueError, match="read-only"):
        data.train.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        data.train.labels[0] = 0


@pytest.mark.parametrize("wrap", ["", "data", "data/data", "images/faces 2013"])
@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Training", "validation", "testing"),
        ("TRAIN", "valid", "Test"),
        ("training", "PublicTest", "PrivateTest"),
        ("train_set", "dev", "Private Test"),
    ],
)
def test_usual_spellings_beneath_wrapping_folders(tmp_path, wrap, names):
    plain = datasets.load(lay(tmp_path / "plain", small()))
    data = datasets.load(zipped(tmp_path / "a.zip", small(splits=names, wrap=wrap)))
    assert data.fingerprint == plain.fingerprint
    assert data.notes == ()


def test_classes_may_be_wrapped_within_their_split(tmp_path):
    files = {name.replace("/", "/images/", 1): data for name, data in small().items()}
    assert sizes(datasets.load(lay(tmp_path, files))) == {"train": 6, "val": 6, "test": 6}


def test_what_lies_deeper_belongs_to_its_class(tmp_path):
    files = {name.replace("/0.png", "/person 1/0.png"): data for name, data in small().items()}
    data = datasets.load(lay(tmp_path, files))
    assert data.labels == ("happy", "sad")
    assert sizes(data) == {"train": 6, "val": 6, "test": 6}


def test_folder_zip_and_tar_agree_in_any_order(tmp_path):
    files = small(wrap="data")
    backwards = dict(reversed(files.items()))
    loaded = [
        datasets.load(lay(tmp_path / "folder", files)),
        datasets.load(zipped(tmp_path / "archive (4).zip", files)),
        datasets.load(zipped(tmp_path / "backwards.zip", backwards)),
        datasets.load(tarred(tmp_path / "faces.tar.gz", backwards)),
    ]
    assert len({data.fingerprint for data in loaded}) == 1
    assert len({data.train.files for data in loaded}) == 1
    assert loaded[1].root == "archive (4).zip"


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("Happiness", "SADNESS", "anger"), ("angry", "happy", "sad")),
        (("3_happy", "0_angry", "6-neutral"), ("angry", "happy", "neutral")),
        (("cat", "Ant", "bee"), ("Ant", "bee", "cat")),
        (("happy", "joy", "thrilled"), ("happy", "joy", "thrilled")),
        (SEVEN[::-1], SEVEN),
    ],
)
def test_class_names(tmp_path, folders, expected):
    assert datasets.load(lay(tmp_path, small(classes=folders))).labels == expected


def test_numbered_folders_are_fer2013s_labels_and_said_to_be(tmp_path):
    data = datasets.load(lay(tmp_path, small(classes=("0", "3"))))
    assert data.labels == ("angry", "happy")
    assert "0 angry, 3 happy" in data.notes[0]


def test_one_folder_that_spells_no_emotion_makes_all_own_classes_and_is_named(tmp_path):
    data = datasets.load(lay(tmp_path, small(classes=("hapy", "Sadness", "fear"))))
    assert data.labels == ("Sadness", "fear", "hapy")
    assert any("'hapy'" in note for note in data.notes)


def test_splits_may_spell_an_emotion_differently(tmp_path):
    files = small(splits=("train",), classes=("happy", "sad")) | small(
        splits=("val",), classes=("Joy", "sadness")
    )
    data = datasets.load(lay(tmp_path, files))
    assert data.labels == ("happy", "sad")
    assert sizes(data) == {"train": 6, "val": 6}


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (small(classes=("happy", "Happiness", "sad")), ["'Happiness'", "'happy'", "test"]),
        (small(splits=("",), classes=("happy", "joy", "sad")), ["'happy'", "'joy'"]),
        (small() | {"old/train/happy/9.png": png(face(99))}, ["'train'", "'old/train'"]),
        (small() | {"Training/sad/9.png": png(face(99))}, ["'Training'", "'train'"]),
        (small() | {"val/fear/9.png": png(face(99))}, ["train", "fear"]),
        (small(classes=("cat", "dog")) | {"test/Lion/9.png": png(face(99))}, ["train", "Lion"]),
        (small(classes=("happy",)), ["'happy'"]),
        ({"train/happy/1.png": png(face(1))}, ["'faces"]),
        ({"1.png": png(face(1)), "2.png": png(face(2))}, ["'faces"]),
        ({"train/1.png": png(face(1)), "test/2.png": png(face(2))}, ["'test'", "'train'"]),
        ({"happy/train/1.png": png(face(1)), "sad/train/2.png": png(face(2))}, ["'train'"]),
        ({"notes.txt": b"hello"}, ["'notes.txt'"]),
        ({"train/happy/1.png": b"x", "train/sad/1.png": b"x"}, ["2", "'faces"]),
        (
            small() | {f"val/{name}/{i}.png": b"" for name in ("happy", "sad") for i in range(3)},
            ["val", "val/happy/0.png"],
        ),
        (small() | {f"train/happy/{i}.png": b"" for i in range(3)}, ["train", "happy"]),
    ],
)
def test_folders_that_cannot_be_used_are_refused(tmp_path, files, names):
    for source in (lay(tmp_path / "faces", files), zipped(tmp_path / "faces.zip", files)):
        with refused(DataError, *names):
            datasets.load(source)


def test_an_empty_class_or_split_folder_is_refused(tmp_path):
    lay(tmp_path / "a", small())
    (tmp_path / "a/train/fear").mkdir()
    with refused(DataError, "'fear'"):
        datasets.load(tmp_path / "a")
    lay(tmp_path / "b", small(splits=("train",)))
    (tmp_path / "b/val").mkdir()
    with refused(DataError, "val"):
        datasets.load(tmp_path / "b")
    (tmp_path / "c").mkdir()
    with refused(DataError, "'c'"):
        datasets.load(tmp_path / "c")
    with refused(DataError, "absent"):
        datasets.load(tmp_path / "absent")


def test_a_class_missing_in_val_is_a_note(tmp_path):
    files = small() | small(splits=("train",), classes=("fear",))
    data = datasets.load(lay(tmp_path, files))
    assert [note.split()[0] for note in data.notes] == ["val", "test"]
    assert all("fear" in note for note in data.notes)
    (tmp_path / "val/fear").mkdir()
    assert datasets.load(tmp_path).fingerprint == data.fingerprint


def test_a_copy_of_a_split_by_its_names_is_left_out_and_said(tmp_path):
    files = small()
    doubled = files | {f"images/{name}": data for name, data in files.items()}
    data = datasets.load(lay(tmp_path / "doubled", doubled))
    assert data.fingerprint == datasets.load(lay(tmp_path / "plain", files)).fingerprint
    assert any(has_line(note, "'images/test'", "'test'") for note in data.notes)


def test_unreadable_files_are_listed_and_skipped(tmp_path):
    bad = {
        "train/happy/broken.png": png(face(50))[:200],
        "train/happy/empty.jpg": b"",
        "val/sad/text.png": b"no image",
        "val/sad/saved.bak": png(face(51)),
        "val/sad/cut off": png(face(52))[:200],
    }
    ignored = {
        "README.md": b"words",
        ".cache/train/happy/1.png": png(face(1)),
        "__MACOSX/train/happy/._0.png": b"x",
        "LICENSE": b"words",
    }
    good = datasets.load(lay(tmp_path / "good", small()))
    for source in (
        lay(tmp_path / "bad", small() | bad | ignored),
        zipped(tmp_path / "bad.zip", small() | bad | ignored),
    ):
        data = datasets.load(source)
        assert data.fingerprint == good.fingerprint
        assert [problem.file for problem in data.problems] == sorted(bad)
        reasons = {problem.file: problem.reason for problem in data.problems}
        assert "empty" in reasons["train/happy/empty.jpg"]
        assert "extensions" in reasons["val/sad/saved.bak"]
        assert data.notes == good.notes


def test_files_that_are_not_images_are_a_note_and_no_problem(tmp_path):
    strays = {
        "train/happy/README": b"words",
        "train/about/README": b"a folder that is not a class",
        "train/happy/list.csv": b"file,emotion\n",
        "train/sad/about.json": b"{}",
        "val/sad/notes.txt": b"words",
        "val/sad/notes2.txt": b"BM, GIF and RIFF are formats of images, and this is not one of their files",
    }
    good = datasets.load(lay(tmp_path / "good", small()))
    left_behind = dict.fromkeys(
        ["train/happy/.DS_Store", "train/sad/Thumbs.db", "test/sad/.hidden.png"], b"x"
    )
    for source, count in (
        (lay(tmp_path / "stray", small() | strays | left_behind), 9),
        (zipped(tmp_path / "stray.zip", small() | strays), 6),
    ):
        data = datasets.load(source)
        assert data.fingerprint == good.fingerprint
        assert data.problems == ()
        (note,) = set(data.notes) - set(good.notes)
        assert note.split()[0] == str(count)
    assert "'train/happy/.DS_Store'" in " ".join(datasets.load(tmp_path / "stray").notes)
    one = datasets.load(lay(tmp_path / "one", small() | {"train/sad/about.json": b"{}"}))
    assert any(has_line(note, 1, "'train/sad/about.json'") for note in one.notes)


def test_images_outside_class_folders_are_left_out_and_said(tmp_path):
    data = datasets.load(lay(tmp_path, small() | {"cover.png": png(face(70)), "test/1.png": png(face(71))}))
    assert sizes(data) == {"train": 6, "val": 6, "test": 6}
    assert len(data.notes) == 1
    assert has_line(data.notes[0], 2, "'cover.png'", "'test/1.png'")


@pytest.mark.parametrize("each", [1, 3])
def test_photos_beside_one_folder_are_named_in_the_refusal(tmp_path, each):
    root = lay(tmp_path, small(splits=("",), classes=("sub dir",), each=each) | {"beach.png": png(face(90))})
    with refused(DataError, tmp_path.name, "beach.png"):
        datasets.load(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_problem(tmp_path):
    lay(tmp_path, small())
    (tmp_path / "train/happy/0.png").chmod(0)
    assert [problem.file for problem in datasets.load(tmp_path).problems] == ["train/happy/0.png"]


def test_a_broken_link_is_a_problem_and_a_loop_of_links_ends(tmp_path):
    lay(tmp_path, small())
    (tmp_path / "train/happy/gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "train/happy/pipe.png")
    (tmp_path / "train/happy/again").symlink_to(tmp_path)
    data = datasets.load(tmp_path)
    assert sizes(data) == {"train": 6, "val": 6, "test": 6}
    assert [problem.file for problem in data.problems] == ["train/happy/gone.png", "train/happy/pipe.png"]


def test_links_out_of_the_folder_are_read_only_if_the_user_names_where_they_lead(tmp_path):
    far = lay(tmp_path / "far", small())
    root = lay(tmp_path / "a", small())
    (root / "train/happy/link.png").symlink_to(far / "train/happy/0.png")
    (root / "val/happy/near.png").symlink_to(root / "train/happy/0.png")
    data = datasets.load(root)
    assert [problem.file for problem in data.problems] == ["train/happy/link.png"]
    assert "val/happy/near.png" in data.val.files
    (root / "train/sad").rename(tmp_path / "sad")
    (root / "train/sad").symlink_to(far / "train/sad")
    with refused(DataError, "train/sad", "--images"):
        datasets.load(root)
    data = datasets.load(root, images_dir=far)
    assert not data.problems
    assert "train/happy/link.png" in data.train.files
    assert [name for name in data.train.files if name.startswith("train/sad/")]
    with refused(DataError, "--images"):
        datasets.load(root, images_dir=tmp_path / "sad")


def test_links_out_of_the_folder_with_labels_in_the_names(tmp_path):
    far = lay(tmp_path / "far", {"happy_1.png": png(face(99))})
    numbers = enumerate(
        f"{split}/{name}_{n}.png" for split in ("train", "val") for name in ("sad", "happy") for n in (2, 3)
    )
    root = lay(tmp_path / "a", {name: png(face(number)) for number, name in numbers})
    (root / "train/happy_1.png").symlink_to(far / "happy_1.png")
    pattern = r"(?P<label>[a-z]+)_\d"
    data = datasets.load(root, label_from=pattern)
    assert [problem.file for problem in data.problems] == ["train/happy_1.png"]
    assert not datasets.load(root, label_from=pattern, images_dir=far).problems
    (root / "train/more").symlink_to(far)
    with refused(DataError, "train/more", "--images"):
        datasets.load(root, label_from=pattern)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(tmp_path):
    lay(tmp_path, small())
    (tmp_path / "train/happy").chmod(0)
    with refused(DataError, "train/happy"):
        datasets.load(tmp_path)
    (tmp_path / "train/happy").chmod(0o755)


def test_a_link_in_a_circle_is_a_problem(tmp_path):
    lay(tmp_path, small())
    (tmp_path / "train/happy/loop.png").symlink_to(tmp_path / "train/happy/loop.png")
    assert [problem.file for problem in datasets.load(tmp_path).problems] == ["train/happy/loop.png"]


def test_a_broken_link_to_a_csv_is_passed_over(tmp_path):
    (tmp_path / "fer2013.csv").symlink_to(tmp_path / "nowhere.csv")
    with refused(DataError, "'fer2013.csv'"):
        datasets.load(tmp_path)
    written(tmp_path / "other.csv", table())
    assert sizes(datasets.load(tmp_path)) == {"train": 4, "val": 2, "test": 2}


def test_a_disk_that_fails_is_named(tmp_path, monkeypatch):
    source = written(tmp_path / "a.csv", table())
    # A failing disk cannot be had in a test.
    monkeypatch.setattr(
        sources, "read_table", lambda *_, **__: (_ for _ in ()).throw(OSError(5, "I/O error"))
    )
    with refused(DataError, "a.csv'", "I/O error"):
        datasets.load(source)


def test_other_sizes_and_modes_go_through_the_one_door(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    data = datasets.load(lay(tmp_path, small() | {"train/happy/x.png": png(colour)}), size=32)
    assert data.train.images.shape == (7, 32, 32, 1)


# Splits that the source does not have


def test_without_splits_a_tenth_each_is_set_apart_by_class(tmp_path):
    data = datasets.load(zipped(tmp_path / "a.zip", small(splits=("",), each=40, wrap="data")))
    assert {split.name: np.bincount(split.labels).tolist() for split in data.splits} == {
        "train": [32, 32],
        "val": [4, 4],
        "test": [4, 4],
    }
    assert "seed 42" in data.notes[0]
    assert datasets.load(tmp_path / "a.zip").fingerprint == data.fingerprint
    assert datasets.load(tmp_path / "a.zip", seed=43).fingerprint != data.fingerprint


def test_a_missing_val_is_a_tenth_of_train_and_test_stays(tmp_path):
    files = small(splits=("train", "test"), each=20)
    whole = datasets.load(lay(tmp_path, files))
    assert sizes(whole) == {"train": 36, "val": 4, "test": 40}
    assert set(whole.val.files) < {name for name in files if name.startswith("train")}
    assert set(whole.val.files).isdisjoint(whole.train.files)
    assert "val" in whole.notes[0]


def test_missing_splits_are_none(tmp_path):
    data = datasets.load(lay(tmp_path / "a", small(splits=("train", "val"))))
    assert data.test is None
    assert len(data.notes) == 1
    assert "test" in data.notes[0]
    with refused(DataError, "'a'", "'test'", "train, val"):
        data.split("test")
    data = datasets.load(lay(tmp_path / "b", small(splits=("test",))))
    assert sizes(data) == {"test": 6}
    assert data.train is None
    assert len(data.notes) == 1
    assert has_line(data.notes[0], "train", "val")


def test_too_few_images_to_set_apart(tmp_path):
    with refused(DataError):
        datasets.load(lay(tmp_path / "a", small(splits=("",), each=1)))
    data = datasets.load(lay(tmp_path / "b", small(splits=("",), each=2)))
    assert sizes(data) == {"train": 2, "val": 2}


def pictures(numbers: list[int], labels: list[int], splits: list[str]) -> contents.Contents:
    return contents.Contents(
        classes=("a", "b", "c"),
        faces=[np.full((2, 2, 1), number, np.uint8) for number in numbers],
        labels=np.array(labels, np.int64),
        splits=splits,
        files=[str(place) for place in range(len(numbers))],
        declared=frozenset(split for split in splits if split),
    )


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=6, max_size=150),
    st.integers(0, 2**31),
    st.sampled_from(["", "train"]),
)
@settings(max_examples=100, deadline=None)
def test_equal_images_are_never_parted(images, seed, split):
    numbers, labels = [number for number, _ in images], [label for _, label in images]
    try:
        parts, notes = datasets.divide(pictures(numbers, labels, [split] * len(images)), seed)
    except DataError:
        return
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(images)))
    seen = [{numbers[member] for member in members} for members in parts.values()]
    assert sum(map(len, seen)) == len(set(numbers))
    assert notes
    assert ("test" in parts) <= (split == "")
    again, _ = datasets.divide(pictures(numbers, labels, [split] * len(images)), seed)
    assert {name: members.tolist() for name, members in again.items()} == {
        name: members.tolist() for name, members in parts.items()
    }


def test_equal_images_of_unequal_labels_stay_together():
    numbers = [*range(40), *range(20)]
    labels = [0] * 20 + [1] * 20 + [2] * 20
    parts, _ = datasets.divide(pictures(numbers, labels, [""] * 60), 1)
    assert {"train", "val", "test"} == set(parts)
    for members in parts.values():
        counts = Counter(numbers[member] for member in members)
        assert all(count == numbers.count(number) for number, count in counts.items())


# Csv


def test_fer2013_csv(tmp_path):
    data = datasets.load(written(tmp_path / "fer2013.csv", table()))
    assert data.labels == ("happy", "sad")
    assert sizes(data) == {"train": 4, "val": 2, "test": 2}
    assert data.val.files == ("row 4", "row 5")
    assert data.val.labels.tolist() == [0, 1]
    for split in data.splits:
        for pixels, name in zip(split.images, split.files, strict=True):
            np.testing.assert_array_equal(pixels[:, :, 0], face(int(name.removeprefix("row "))))


def icml(text: str) -> str:
    rows = [line.split(",") for line in text.splitlines()[1:]]
    return "\n".join(
        ["emotion, Usage, pixels", *(f"{label},{usage},{pixels}" for label, pixels, usage in rows)]
    )


@pytest.mark.parametrize(
    "other",
    [
        icml(table()),
        table().replace("\n", "\r\n"),
        "\ufeff" + table(),
        table().replace("\n", "\n\n"),
        table(header="Emotion,PIXELS,usage"),
        table().replace("\n3,", "\nHappiness,").replace("\n4,", "\nsad,"),
        "\n".join(",".join(f'"{field}"' for field in line.split(",")) for line in table().splitlines()),
        table().replace(",Training", " ,training").replace(" ", "  "),
    ],
    ids=["icml", "crlf", "bom", "blank", "case", "names", "quoted", "spaces"],
)
def test_csv_dialects_agree(tmp_path, other):
    plain = datasets.load(written(tmp_path / "a.csv", table()))
    data = datasets.load(written(tmp_path / "b.csv", other))
    assert data.fingerprint == plain.fingerprint
    assert data.train.files == plain.train.files


def test_a_csv_is_found_in_archives_and_folders(tmp_path):
    plain = datasets.load(written(tmp_path / "a.csv", table()))
    files = {
        "challenge/example_submission.csv": b"id,emotion\n1,2\n",
        "challenge/fer2013/fer2013.csv": table().encode(),
        "challenge/icml_face_data.csv": icml(table()).encode(),
        "challenge/train.csv": table(header="emotion,pixels,fold").encode(),
        "challenge/README": b"words",
        "challenge/about/cover.png": png(face(1)),
    }
    for source in (
        lay(tmp_path / "folder", files),
        zipped(tmp_path / "a.zip", files),
        zipped(tmp_path / "b.zip", dict(reversed(files.items()))),
        tarred(tmp_path / "fer2013.tar.gz", files),
    ):
        assert datasets.load(source).fingerprint == plain.fingerprint
    with refused(DataError, "'a.csv'"):
        datasets.load(lay(tmp_path / "other", {"a.csv": b"x,y\n"}))


def test_a_csv_without_usage_is_divided(tmp_path):
    lines = [line.rpartition(",")[0] for line in table(USAGES * 10).splitlines()]
    data = datasets.load(written(tmp_path / "a.csv", "\n".join(lines)))
    assert sizes(data) == {"train": 64, "val": 8, "test": 8}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(3, face(1).ravel()[:-1], "Training"), "2303"),
        (row(3, np.array([]), "Training"), "0 pixels"),
        (row(7, face(1), "Training"), "'7'"),
        (row("joyless", face(1), "Training"), "'joyless'"),
        (row(3, face(1), "Training").replace(" ", " x ", 1), "pixel"),
        (row(3, face(1), "Training").replace(" ", " 1.5 ", 1), "pixel"),
        ("3, ,Training", "0 pixels"),
        (row(3, np.full(4, 256), "Training"), "256"),
        (row(3, np.array([0, 1, 2, -1]), "Training"), "-1"),
        (row(3, face(1), "Holiday"), "'holiday'"),
        ("3,1 2 3 4", "2"),
        ('3,"1 2 3 4', "2"),
        ('3,"' + "1 " * 100_000 + '",Training', "csv"),
        ("3,\udcff,Training", "csv"),
    ],
)
def test_bad_rows_are_problems_by_number(tmp_path, bad, reason):
    lines = table().splitlines()
    lines.insert(3, bad)
    path = tmp_path / "a.csv"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    data = datasets.load(path)
    assert [problem.file for problem in data.problems] == ["row 2"]
    assert reason in data.problems[0].reason
    assert data.train.files == ("row 0", "row 1", "row 3", "row 4")


def test_rows_of_any_square_are_fitted(tmp_path):
    rows = [row(label, face(label, side), "Training") for label, side in ((3, 48), (4, 64), (3, 10), (4, 48))]
    rows += [row(label, face(9, 48), "PublicTest") for label in (3, 4)]
    data = datasets.load(written(tmp_path / "a.csv", "\n".join(["emotion,pixels,Usage", *rows])))
    assert data.train.images.shape == (4, 48, 48, 1)
    assert "10, 48, 64 pixels" in data.notes[0]


def test_csv_that_cannot_be_used(tmp_path, monkeypatch):
    cases = {
        "emotion,size,Usage\n": ["'pixels'"],
        "emotion,image,Usage\n": ["'a.csv'"],
        "words\n": ["'emotion'", "'pixels'"],
        "": ["'a.csv'"],
        "emotion,pixels,Usage\n": ["'a.csv'"],
        table(("Training",) * 4).replace("\n4,", "\n3,"): ["'happy'"],
        table(("Training",)): ["'a.csv'"],
        table(("Training", "Training", "Training")) + "3,x,PublicTest\n": ["val", "row 3"],
    }
    for text, names in cases.items():
        with refused(DataError, *names):
            datasets.load(written(tmp_path / "a.csv", text))
    monkeypatch.setattr(pixel_tables, "_LONGEST_LINE", 10_000)
    with refused(DataError, "'a.csv'"):
        datasets.load(written(tmp_path / "a.csv", "emotion,pixels,Usage\n3," + "1 " * 10_000))


def test_too_many_pixels_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "MAX_PIXEL_BYTES", 10 * 48 * 48)
    files = small()
    for source in (lay(tmp_path / "a", files), zipped(tmp_path / "a.zip", files)):
        with refused(DataError):
            datasets.load(source)
    tiny = [row((3, 4)[index % 2], face(index, 4), "Training") for index in range(1100)]
    with refused(DataError):
        datasets.load(written(tmp_path / "a.csv", "\n".join(["emotion,pixels,Usage", *tiny])))


def test_progress_rises_to_its_total(tmp_path):
    rows = [row((3, 4)[index % 2], face(index, 4), USAGES[index % 8]) for index in range(1100)]
    sources = [
        lay(tmp_path / "a", small()),
        zipped(tmp_path / "a.zip", small()),
        written(tmp_path / "a.csv", "\n".join(["emotion,pixels,Usage", *rows])),
    ]
    for source in sources:
        calls = []
        datasets.load(source, progress=lambda done, total, calls=calls: calls.append((done, total)))
        assert len(calls) > 1
        assert calls == sorted(calls)
        assert calls[-1][0] == calls[-1][1] > 0


# Votes


def ballots(usages=USAGES, header=("Usage", "Image name", *FERPLUS_COLUMNS)) -> str:
    lines = [
        [usage, f"fer{number * 7:07d}.png", *range(number, number + 10)]
        for number, usage in enumerate(usages)
    ]
    out = io.StringIO()
    csv.writer(out).writerows([header, *lines])
    return out.getvalue()


@pytest.mark.parametrize("pack", [bytes, lzma.compress, gzip.compress])
@pytest.mark.parametrize("change", [str, str.upper])
def test_votes_are_joined_by_row(tmp_path, pack, change):
    header, _, rest = ballots().partition("\n")
    votes = tmp_path / "votes"
    votes.write_bytes(pack(f"{change(header)}\n{rest}".encode()))
    lines = table().splitlines()
    lines[2] = "4,1 2 3,Training"
    data = datasets.load(written(tmp_path / "a.csv", "\n".join(lines)), votes=votes)
    assert data.train.votes.dtype == np.float32
    assert data.train.votes.shape == (3, 10)
    for split in data.splits:
        for vote, name in zip(split.votes, split.files, strict=True):
            number = int(name.removeprefix("row "))
            expected = dict(zip(FERPLUS_COLUMNS.values(), range(number, number + 10), strict=True))
            assert vote.tolist() == [expected[column] for column in VOTES]


@pytest.mark.parametrize(
    ("votes", "names"),
    [
        (ballots(USAGES[:-1]), [7, 8]),
        (ballots(USAGES[::-1]), ["row 0"]),
        (ballots().replace("surprise", "shock"), ["'surprise'"]),
        (ballots().replace("0,1,2", "0,x,2", 1), ["row 0"]),
        (ballots().replace("0,1,2", "0,-1,2", 1), []),
        (ballots().replace("0,1,2", "0,nan,2", 1), []),
        ("", []),
    ],
)
def test_votes_that_do_not_fit_are_refused(tmp_path, votes, names):
    source = written(tmp_path / "a.csv", table())
    with refused(DataError, "votes.csv", *names):
        datasets.load(source, votes=written(tmp_path / "votes.csv", votes))


def test_votes_may_lack_the_usage_and_csvs_too(tmp_path):
    votes = written(tmp_path / "votes.csv", ballots().replace("Usage", "Use"))
    assert datasets.load(written(tmp_path / "a.csv", table()), votes=votes).test.votes.shape == (2, 10)


def test_votes_have_a_fingerprint_that_their_place_and_the_test_split_do_not_change(tmp_path):
    source = written(tmp_path / "a.csv", table())

    def load(name, text):
        data = datasets.load(source, votes=written(tmp_path / name, text))
        return data.votes_fingerprint, data.fingerprint

    one, images = load("votes.csv", ballots())
    assert load("elsewhere.csv", ballots()) == (one, images)
    assert load("votes.csv", ballots().replace("7,8,9,10,11,12,13,14,15,16", "9" + ",0" * 9))[0] == one
    assert datasets.load(source).votes_fingerprint is None
    for row in ("0,1,2,3,4,5,6,7,8,9", "4,5,6,7,8,9,10,11,12,13"):  # of train, of val
        other, same = load("votes.csv", ballots().replace(row, "9" + ",0" * 9))
        assert other != one
        assert same == images


def test_unreadable_votes_are_refused(tmp_path, monkeypatch):
    source = written(tmp_path / "a.csv", table())
    votes = tmp_path / "votes.csv.xz"
    with refused(DataError, "votes.csv.xz"):
        datasets.load(source, votes=votes)
    for data in (
        lzma.compress(ballots().encode())[:-20],
        gzip.compress(ballots().encode())[:-20],
        b"\xff\xfe\xff",
    ):
        votes.write_bytes(data)
        with refused(DataError, "votes.csv.xz"):
            datasets.load(source, votes=votes)
    votes.write_bytes(lzma.compress(b" " * 2000))
    monkeypatch.setattr(csv_lists, "_LARGEST_VOTES", 1000)
    with refused(DataError, "votes.csv.xz"):
        datasets.load(source, votes=votes)


def test_votes_need_a_csv_source(tmp_path):
    votes = written(tmp_path / "votes.csv", ballots())
    for source in (lay(tmp_path / "a", small()), zipped(tmp_path / "a.zip", small())):
        with refused(DataError):
            datasets.load(source, votes=votes)


# Exclusion


def test_rows_are_excluded_from_train_alone(tmp_path):
    source = written(tmp_path / "a.csv", table())
    listed = written(tmp_path / "leaks.csv", "row,kind\n0,near\n 01 ,exact\n5,exact\n7,near\n99,exact\n")
    data = datasets.load(source, exclude=listed)
    assert data.train.files == ("row 2", "row 3")
    assert data.excluded == (exclusions.Exclusion("exact", 1), exclusions.Exclusion("near", 1))
    assert any(has_line(note, 1, "'leaks.csv'", "'row 99'") for note in data.notes)
    assert any(has_line(note, 2, "'leaks.csv'", "train") for note in data.notes)
    plain = datasets.load(source)
    assert data.val.fingerprint == plain.val.fingerprint
    assert data.test.fingerprint == plain.test.fingerprint
    assert data.train.fingerprint != plain.train.fingerprint


def test_several_lists_exclude_together_and_the_first_gives_the_reason(tmp_path):
    source = written(tmp_path / "images.csv", table())
    first = written(tmp_path / "a.csv", "row,reason\n0,early\n")
    second = written(tmp_path / "b.csv", "row,reason\n0,late\n1,late\n")
    data = datasets.load(source, exclude=[first, second])
    assert data.excluded == (exclusions.Exclusion("early", 1), exclusions.Exclusion("late", 1))


def test_files_and_hashes_are_excluded(tmp_path):
    same = png(face(500))
    source = lay(
        tmp_path / "a", small() | {"train/happy/x.png": same, "train/sad/x.png": same, "val/sad/x.png": same}
    )
    plain = datasets.load(source)
    digest = hashlib.sha256(
        plain.train.images[plain.train.files.index("train/happy/x.png")].tobytes()
    ).hexdigest()
    listed = written(
        tmp_path / "b.csv", f"file,sha256,Reason\n,{digest.upper()},copy\ntrain/sad/1.png,,blank\n,,\n"
    )
    data = datasets.load(source, exclude=listed)
    gone = {"train/happy/x.png", "train/sad/x.png", "train/sad/1.png"}
    assert set(plain.train.files) - set(data.train.files) == gone
    assert data.excluded == (exclusions.Exclusion("blank", 1), exclusions.Exclusion("copy", 2))
    assert data.val.files == plain.val.files


def test_a_name_with_a_line_separator_is_one_line_of_a_list(tmp_path):
    odd = "train/happy/a\u2028b.png"
    source = lay(tmp_path / "a", small() | {odd: png(face(500))})
    listed = written(tmp_path / "b.csv", f"file,reason\r\n{odd},odd\r\n")
    assert datasets.load(source, exclude=listed).excluded == (exclusions.Exclusion("odd", 1),)


def test_exclusion_never_moves_images_between_splits(tmp_path):
    source = lay(tmp_path / "a", small(splits=("",), each=30))
    plain = datasets.load(source)
    listed = written(tmp_path / "b.csv", "\n".join(["file", *plain.train.files[:5]]))
    data = datasets.load(source, exclude=listed)
    assert data.train.files == plain.train.files[5:]
    assert data.excluded == (exclusions.Exclusion("listed", 5),)
    assert data.val.fingerprint == plain.val.fingerprint
    assert data.test.fingerprint == plain.test.fingerprint


@pytest.mark.parametrize("text", ["file,reason\n", "file,reason\n\n", "file,reason\n,exact\n"])
def test_an_empty_list_excludes_nothing_and_a_note_says_so(tmp_path, text):
    source = lay(tmp_path / "a", small())
    data, plain = datasets.load(source, exclude=written(tmp_path / "b.csv", text)), datasets.load(source)
    assert data.fingerprint == plain.fingerprint
    assert data.excluded == ()
    assert data.notes[:-1] == plain.notes
    assert "'b.csv'" in data.notes[-1]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("file\nfaces/1.png\nfaces/2.png\n", ["'b.csv'"]),
        ("name\ntrain/happy/0.png\n", ["row, file or sha256"]),
        ("", ["row, file or sha256"]),
        ("row\n1\n", ["'b.csv'"]),
        ("row,file\n1,\n", ["'b.csv'"]),
        ("file\ntrain/sad/0.png\ntrain/sad/1.png\ntrain/sad/2.png\n", ["train", "sad", 3]),
    ],
)
def test_exclusions_that_cannot_be_used_are_refused(tmp_path, text, names):
    source = lay(tmp_path / "a", small())
    with refused(DataError, *names):
        datasets.load(source, exclude=written(tmp_path / "b.csv", text))


def test_exclusion_needs_a_train_split(tmp_path):
    source = lay(tmp_path / "a", small(splits=("test",)))
    with refused(DataError, "train"):
        datasets.load(source, exclude=written(tmp_path / "b.csv", "file\ntest/happy/0.png\n"))


# Fingerprint


def test_the_fingerprint_follows_pixels_labels_order_and_names():
    images = np.arange(4 * 16, dtype=np.uint8).reshape(4, 4, 4, 1)
    labels = np.array([0, 1, 0, 1])

    def made(images=images, labels=labels, names=("happy", "sad"), split="train"):
        part = datasets.Split(split, images, labels, None, ("a", "b", "c", "d"))
        places = dict.fromkeys(("train", "val", "test")) | {split: part}
        return datasets.Dataset("x", names, **places).fingerprint

    changed = images.copy()
    changed[3, 3, 3] ^= 1
    variants = [
        made(),
        made(images=changed),
        made(images=images.reshape(4, 2, 8, 1)),
        made(labels=labels[::-1]),
        made(images=images[::-1]),
        made(names=("sad", "happy")),
        made(split="val"),
    ]
    assert len(set(variants)) == len(variants)
    assert made() == made(images=images[::-1].copy()[::-1], labels=labels.astype(">i8"))


# The real thing


@pytest.mark.real
def test_fer2013_has_its_published_counts():
    source = os.environ.get("MIEN_FER2013")
    if not source:
        pytest.skip("MIEN_FER2013 names no fer2013.csv or archive")
    data = datasets.load(source)
    assert data.labels == SEVEN
    assert data.problems == ()
    assert np.bincount(data.val.labels).tolist() == [467, 56, 496, 895, 653, 415, 607]
    training = np.bincount(data.train.labels, minlength=7)
    if source.endswith(".csv"):
        # Read again, the slowest and plainest way.
        with Path(source).open(newline="") as file:
            lines = csv.reader(file)
            assert next(lines) == ["emotion", "pixels", "Usage"]
            for number, (label, pixels, _) in zip(range(300), lines, strict=False):
                assert data.train.labels[number] == int(label)
                assert data.train.images[number].ravel().tolist() == [int(pixel) for pixel in pixels.split()]
    else:
        training += np.bincount(data.test.labels, minlength=7)
    assert training.tolist() == [3995, 436, 4097, 7215, 4830, 3171, 4965]


def test_a_run_among_the_images_is_no_class(tmp_path: Path) -> None:
    for number, emotion in enumerate(("happy", "sad")):
        for place in range(10):
            path = tmp_path / emotion / f"{place}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8), 100 * number + place, np.uint8)).save(path)
    before = datasets.load(tmp_path)
    figures = tmp_path / "runs" / "quick-1" / "figures"
    figures.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(figures / "loss.png")
    for name in ("run.json", "recipe.toml"):
        (figures.parent / name).write_text("{}")
    after = datasets.load(tmp_path)
    assert after.fingerprint == before.fingerprint
    assert any("runs/quick-1" in note for note in after.notes)


def test_an_empty_split_names_a_problem_of_its_own(tmp_path):
    lines = [
        "emotion,pixels,Usage",
        "9," + " ".join(["1"] * 4) + ",Training",
        *(row(label, face(label), "Training") for label in (3, 4) for _ in range(3)),
        "3,1 2,PublicTest",
    ]
    with refused(DataError, "val", "row 7", "2 pixels"):
        datasets.load(written(tmp_path / "a.csv", "\n".join(lines)))
    files = small() | {f"val/{name}/0.png": b"" for name in ("happy", "sad")}
    files = {name: data for name, data in files.items() if not name.startswith("val/") or not data}
    files |= {"train/happy/bad.png": b"x"}
    with refused(DataError, "val", "val/happy/0.png"):
        datasets.load(lay(tmp_path / "folders", files))
