"""Public data sets in the folders in which they are published, drawn small, and broken twins of each."""

import io

import numpy as np
import pytest

from builders import has_line, refused
from mien.data import datasets
from mien.data.class_names import LABEL_ORDERS
from mien.errors import DataError
from mien.vision import images
from test_datasets import face, lay, png, tarred, zipped
from test_tables import everything


def npy(value: object) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array(value), allow_pickle=True)
    return out.getvalue()


def raf_db(
    suffix: str = "_aligned", *, listed: str = "", labels: str = "EmoLabel/list_patition_label.txt"
) -> dict[str, bytes]:
    files, lines = {}, []
    for number in range(28):
        name = f"{'train' if number < 14 else 'test'}_{number:05d}"
        files[f"Image/aligned/{name}{suffix}.jpg"] = png(face(number))
        files[f"Image/original/{name}.jpg"] = png(face(100 + number))
        lines.append(f"{name}{listed}.jpg {number % 7 + 1}")
    return files | {labels: "\n".join(lines).encode() + b"\n"}


HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
)


def affectnet_csv() -> dict[str, bytes]:
    files = {}
    for first, name in ((0, "training.csv"), (100, "validation.csv")):
        lines = [HEADER]
        for number in range(first, first + 22):
            path = f"{number % 5}/{number}.jpg"
            files[f"Manually_Annotated_Images/{path}"] = png(face(number))
            lines.append(f"{path},4,4,40,40,1.5;2;3,{number % 11},0.1,-0.2")
        files[name] = ("\n".join(lines) + "\n").encode()
    return files


def affectnet_files() -> dict[str, bytes]:
    files = {}
    for first, folder in ((0, "train_set"), (100, "val_set")):
        for number in range(first, first + 16):
            value = (number - first) % 8
            files[f"{folder}/images/{number}.jpg"] = png(face(number))
            files[f"{folder}/annotations/{number}_exp.npy"] = npy(str(value) if number % 2 else value)
            files[f"{folder}/annotations/{number}_val.npy"] = npy(0.5)
    return files


def ck() -> dict[str, bytes]:
    files = {}
    for person in range(5, 26):
        for sequence in (1, 2):
            folder = f"S{person:03d}/{sequence:03d}"
            for frame in (1, 2, 3):
                number = 100 * person + 10 * sequence + frame
                files[f"cohn-kanade-images/{folder}/{folder.replace('/', '_')}_{frame:08d}.png"] = png(
                    face(number)
                )
            if sequence == 1:
                name = f"Emotion/{folder}/{folder.replace('/', '_')}_{3:08d}_emotion.txt"
                files[name] = f"   {(person - 5) % 7 + 1}.0000000e+00\n".encode()
    return files


def jaffe() -> dict[str, bytes]:
    codes = ("AN", "DI", "FE", "HA", "SA", "SU", "NE")
    return {
        f"{person}.{code}{turn}.{39 + number}.tiff": png(face(1000 * turn + 10 * number + place))
        for place, person in enumerate(("KA", "KL", "KM", "KR"))
        for number, code in enumerate(codes)
        for turn in (1, 2)
    } | {"README": b"words"}


def expw() -> dict[str, bytes]:
    files, lines = {}, []
    for number in range(14):
        name = f"happy_actor {number}.jpg"
        files[f"image/origin/{name}"] = png(face(number, 60))
        lines += [
            f"{name} {each} 4 {6 + each} {36 + each} 34 0.{number + 10} {(number + each) % 7}"
            for each in (0, 1)
        ]
    return files | {"label/label.lst": ("\n".join(lines) + "\n").encode()}


LAYOUTS = {
    "RAF-DB": raf_db,
    "AffectNet csv": affectnet_csv,
    "AffectNet files": affectnet_files,
    "CK+": ck,
    "JAFFE": jaffe,
    "ExpW": expw,
}


@pytest.mark.parametrize("what", LAYOUTS)
@pytest.mark.parametrize("wrap", ["", "outer/"])
def test_folders_and_archives_agree_and_a_note_names_the_data_set(tmp_path, what, wrap):
    inside = {wrap + name: data for name, data in LAYOUTS[what]().items()}
    data = datasets.load(lay(tmp_path / "a", inside))
    assert not data.problems
    name = what.partition(" ")[0]
    assert any(name in note for note in data.notes)
    order = LABEL_ORDERS.get(name)
    if order:
        note = next(note for note in data.notes if "numbers" in note)
        assert all(f"{number} {meaning}" in note for number, meaning in order.items())
    for archive in (zipped(tmp_path / "a.zip", inside), tarred(tmp_path / "a.tar.gz", inside)):
        packed = datasets.load(archive)
        assert packed.fingerprint == data.fingerprint
        assert packed.notes == data.notes


@pytest.mark.parametrize(
    "files",
    [
        raf_db(),
        raf_db(""),
        raf_db(listed="_aligned"),
        raf_db(labels="list_patition_label.txt"),
        {f"basic/{name}": data for name, data in raf_db().items()}
        | {f"compound/{name}": data.replace(b" 1\n", b" 9\n") for name, data in raf_db("_x").items()},
    ],
)
def test_raf_db(tmp_path, files):
    data = datasets.load(lay(tmp_path, files))
    assert data.labels == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert len(data.split("test")) == 14
    for name, (label, pixels) in everything(data).items():
        number = int(name.rpartition("/")[2].split("_")[1].partition(".")[0])
        assert LABEL_ORDERS["RAF-DB"][str(number % 7 + 1)] == label
        assert pixels == face(number).tobytes()
        assert "aligned/" in name
    test = {int(name.rpartition("/")[2].split("_")[1].partition(".")[0]) for name in data.split("test").files}
    assert test == set(range(14, 28))


def test_raf_db_in_class_folders_stays_class_folders(tmp_path):
    files = {
        f"{split}/{label}/{split}_{number:05d}_aligned.jpg": png(face(number))
        for number, (split, label) in enumerate(
            (split, label) for split in ("train", "test") for label in range(1, 8) for _ in range(2)
        )
    }
    listed = "".join(f"{name.rpartition('/')[2]} 3\n" for name in files)
    data = datasets.load(lay(tmp_path, files | {"list_patition_label.txt": listed.encode()}))
    assert len(data.labels) == 7
    assert len(set(data.split("test").labels.tolist())) == 7


def test_lists_can_be_given_with_the_folder_of_the_images(tmp_path):
    for name, make, listed, folder in (
        ("a", raf_db, "EmoLabel/list_patition_label.txt", "Image/aligned"),
        ("b", expw, "label/label.lst", "image/origin"),
    ):
        root = lay(tmp_path / name, make())
        whole = datasets.load(root)
        data = datasets.load(root / listed, images_dir=root / folder)
        assert data.fingerprint == whole.fingerprint
        assert datasets.load(**data.origin).fingerprint == data.fingerprint
        with refused(DataError, "--images"):
            datasets.load(root / listed)


def test_affectnet_tables(tmp_path):
    root = lay(tmp_path, affectnet_csv())
    data = datasets.load(root)
    assert set(data.labels) == set(LABEL_ORDERS["AffectNet"].values())
    assert data.test is None
    assert {int(name.rpartition("/")[2][:-4]) for name in data.split("val").files} == {
        number for number in range(100, 122) if number % 11 < 8
    }
    for name, (label, pixels) in everything(data).items():
        number = int(name.rpartition("/")[2][:-4])
        assert LABEL_ORDERS["AffectNet"][str(number % 11)] == label
        assert pixels == images.cut(face(number), (4, 4, 40), 48).tobytes()
    assert has_line("\n".join(data.notes), "none", "uncertain", "no face")
    alone = datasets.load(root / "training.csv")
    assert sum(map(len, alone.splits)) == 16


def test_a_table_of_affectnet_without_a_header_has_the_columns_of_the_other(tmp_path):
    files = affectnet_csv()
    files["validation.csv"] = files["validation.csv"].partition(b"\n")[2]
    data = datasets.load(lay(tmp_path / "a", files))
    assert data.fingerprint == datasets.load(lay(tmp_path / "b", affectnet_csv())).fingerprint


def test_affectnet_with_images_elsewhere(tmp_path):
    files = affectnet_csv()
    tables_only = {name: data for name, data in files.items() if name.endswith(".csv")}
    root = lay(tmp_path / "a", files)
    data = datasets.load(lay(tmp_path / "b", tables_only), images_dir=root / "Manually_Annotated_Images")
    assert data.fingerprint == datasets.load(root).fingerprint


def test_affectnet_annotations(tmp_path):
    files = affectnet_files()
    files |= {
        "train_set/annotations/3_exp.npy": npy("8"),
        "train_set/annotations/4_exp.npy": npy(11),
        "train_set/annotations/5_exp.npy": npy([1, 2]),
        "train_set/annotations/6_exp.npy": npy({"a": 1}),
        "train_set/annotations/7_exp.npy": b"\x93NUMPY",
        "val_set/annotations/900_exp.npy": npy(1),
        "val_set/images/901.jpg": png(face(901)),
    }
    data = datasets.load(lay(tmp_path, files))
    assert {problem.file for problem in data.problems} == {
        *(f"train_set/annotations/{number}_exp.npy" for number in (4, 5, 6, 7)),
        "val_set/images/900.jpg",
    }
    assert len(data.split("train")) == 11
    assert has_line("\n".join(data.notes), "1 none")
    assert has_line("\n".join(data.notes), "val_set/images/901.jpg")
    for name, (label, _) in everything(data).items():
        number = int(name.rpartition("/")[2][:-4])
        assert LABEL_ORDERS["AffectNet"][str(number % 100 % 8)] == label


def test_no_annotation_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    files = affectnet_files() | {"train_set/annotations/3_exp.npy": npy(Trap())}
    data = datasets.load(lay(tmp_path, files))
    assert [problem.file for problem in data.problems] == ["train_set/annotations/3_exp.npy"]


def test_ck(tmp_path):
    data = datasets.load(lay(tmp_path, ck()))
    assert set(data.labels) == set(LABEL_ORDERS["CK+"].values())
    found = everything(data)
    assert len(found) == 42
    for name, (label, _) in found.items():
        person, frame = int(name.split("/")[1][1:]), int(name[-12:-4])
        assert frame in (1, 3)
        assert label == ("neutral" if frame == 1 else LABEL_ORDERS["CK+"][str((person - 5) % 7 + 1)])
    for split in data.splits:
        assert all(group == name.split("/")[1] for group, name in zip(split.groups, split.files, strict=True))
    assert has_line("\n".join(data.notes), "first", "last")
    assert has_line("\n".join(data.notes), "21 sequences")


def test_jaffe(tmp_path):
    data = datasets.load(lay(tmp_path, jaffe()))
    assert data.labels == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    codes = dict(zip(("AN", "DI", "FE", "HA", "SA", "SU", "NE"), data.labels, strict=True))
    for split in data.splits:
        for name, label, group in zip(split.files, split.labels, split.groups, strict=True):
            assert name.startswith(f"{group}.")
            assert codes[name.split(".")[1][:2]] == data.labels[label]


def test_jaffe_in_class_folders_stays_class_folders(tmp_path):
    files = {
        f"{('joy', 'sad')[n % 2]}/{name}": data
        for n, (name, data) in enumerate(sorted(jaffe().items()))
        if "." in name
    }
    assert datasets.load(lay(tmp_path, files)).labels == ("happy", "sad")


def test_expw(tmp_path):
    data = datasets.load(lay(tmp_path, expw()))
    assert sum(map(len, data.splits)) == 28
    for split in data.splits:
        for name, label, pixels in zip(split.files, split.labels, split.images, strict=True):
            number = int(name.split()[-1][:-4])
            assert data.labels[label] in [LABEL_ORDERS["ExpW"][str((number + each) % 7)] for each in (0, 1)]
            assert pixels.shape == (48, 48, 1)
    first = next(
        pixels
        for split in data.splits
        for name, label, pixels in zip(split.files, split.labels, split.images, strict=True)
        if name.endswith(" 3.jpg") and data.labels[label] == "happy"
    )
    # Top 4, left 6, right 36, bottom 34: 30 wide and 30 high.
    assert np.array_equal(first, images.cut(face(3, 60), (6, 4, 30), 48))


def broken(make, files):
    """The files of a layout with others in their places; None removes one."""
    return {name: data for name, data in (make() | files).items() if data is not None}


RAF_LIST, EXPW_LIST = "EmoLabel/list_patition_label.txt", "label/label.lst"
CK_LABEL = "Emotion/S005/001/S005_001_00000003_emotion.txt"


@pytest.mark.parametrize(
    ("make", "files", "problems"),
    [
        (raf_db, {RAF_LIST: raf_db()[RAF_LIST] + b"train_99999.jpg 1\n"}, ["train_99999.jpg"]),
        (raf_db, {RAF_LIST: raf_db()[RAF_LIST] + b"train_00001.jpg 9\n"}, ["row 28"]),
        (raf_db, {RAF_LIST: raf_db()[RAF_LIST] + b"words\n"}, ["row 28"]),
        (raf_db, {RAF_LIST: raf_db()[RAF_LIST] + b"picture.jpg 1\n"}, ["row 28"]),
        (raf_db, {RAF_LIST: raf_db()[RAF_LIST] + b"../../a.jpg 1\n"}, ["row 28"]),
        (raf_db, {RAF_LIST: raf_db()[RAF_LIST] + b"train_1\0.jpg 1\n"}, ["train_1\0.jpg"]),
        (raf_db, {RAF_LIST: raf_db()[RAF_LIST] + b"train_00000.jpg 1\n"}, []),
        (
            raf_db,
            {RAF_LIST: raf_db()[RAF_LIST] + b"train_00000.jpg 2\n"},
            ["Image/aligned/train_00000_aligned.jpg"],
        ),
        (raf_db, {"Image/aligned/train_00000_aligned.jpg": b"x"}, ["Image/aligned/train_00000_aligned.jpg"]),
        (expw, {EXPW_LIST: expw()[EXPW_LIST] + b"none.jpg 0 1 1 9 9 0.5 3\n"}, ["none.jpg"]),
        (expw, {EXPW_LIST: expw()[EXPW_LIST] + b"happy_actor 1.jpg 0 9 9 1 1 0.5 3\n"}, ["row 28"]),
        (expw, {EXPW_LIST: expw()[EXPW_LIST] + b"happy_actor 1.jpg 0 1 1 9 9 0.5 7\n"}, ["row 28"]),
        (expw, {EXPW_LIST: expw()[EXPW_LIST] + b"happy_actor 1.jpg 0 1 1 nan 9 0.5 3\n"}, ["row 28"]),
        (expw, {EXPW_LIST: expw()[EXPW_LIST] + b"happy_actor 1.jpg 3\n"}, ["row 28"]),
        (
            expw,
            {EXPW_LIST: expw()[EXPW_LIST] + b"happy_actor 1.jpg 2 900 900 990 990 0.5 3\n"},
            ["image/origin/happy_actor 1.jpg"],
        ),
        (ck, {CK_LABEL: b"9.0"}, [CK_LABEL]),
        (ck, {CK_LABEL: b"words"}, [CK_LABEL]),
        (ck, {CK_LABEL: b""}, [CK_LABEL]),
        (ck, {CK_LABEL: b"1.5"}, [CK_LABEL]),
        (ck, {CK_LABEL.replace("003_e", "004_e"): b"1.0"}, ["S005/001"]),
        (
            ck,
            {"Emotion/S099/001/S099_001_00000003_emotion.txt": b"1.0"},
            ["Emotion/S099/001/S099_001_00000003_emotion.txt"],
        ),
        (
            affectnet_csv,
            {"training.csv": affectnet_csv()["training.csv"] + b"9/none.jpg,1,1,9,9,,3,0,0\n"},
            ["9/none.jpg"],
        ),
        (
            affectnet_csv,
            {"training.csv": affectnet_csv()["training.csv"] + b"1/1.jpg,1,1,9,9,,12,0,0\n"},
            ["row 22"],
        ),
        (
            affectnet_csv,
            {"training.csv": affectnet_csv()["training.csv"] + b"/etc/passwd,1,1,9,9,,3,0,0\n"},
            ["/etc/passwd"],
        ),
        (jaffe, {"KA.AN1.39.tiff": b"x"}, ["KA.AN1.39.tiff"]),
    ],
)
def test_a_bad_part_is_a_problem(tmp_path, make, files, problems):
    data = datasets.load(lay(tmp_path, broken(make, files)))
    assert [problem.file for problem in data.problems] == problems
    good = datasets.load(lay(tmp_path / "good", make()))
    assert data.labels == good.labels


@pytest.mark.parametrize(
    ("make", "files", "named"),
    [
        (raf_db, {RAF_LIST: b""}, [RAF_LIST]),
        (raf_db, {RAF_LIST: b"\xff\xfe\xfa train_1.jpg 1"}, [RAF_LIST, "UTF-8"]),
        (raf_db, {"labels/list_patition_label.txt": raf_db()[RAF_LIST]}, ["list_patition_label.txt"]),
        (ck, {name: None for name in ck() if name.startswith("Emotion")}, ["Emotion"]),
        (affectnet_files, {f"more/{name}": data for name, data in affectnet_files().items()}, ["more/"]),
    ],
)
def test_a_broken_layout_is_refused(tmp_path, make, files, named):
    with refused(DataError, *named):
        datasets.load(lay(tmp_path, broken(make, files)))


def test_packed_images_of_raf_db_are_named(tmp_path):
    for packed, named in (({"Image/aligned.zip": b"PK"}, "aligned.zip"), ({}, "list_patition_label.txt")):
        root = lay(tmp_path / named, packed | {RAF_LIST: raf_db()[RAF_LIST]})
        with refused(DataError, "RAF-DB", named):
            datasets.load(root)


def test_nothing_outside_the_folder_is_read_by_a_link(tmp_path):
    far = lay(tmp_path / "far", raf_db())
    root = lay(tmp_path / "a", raf_db())
    (root / "Image/aligned/train_00001_aligned.jpg").unlink()
    (root / "Image/aligned/train_00001_aligned.jpg").symlink_to(far / "Image/aligned/train_00001_aligned.jpg")
    data = datasets.load(root)
    assert [problem.file for problem in data.problems] == ["Image/aligned/train_00001_aligned.jpg"]
    (root / RAF_LIST).unlink()
    (root / RAF_LIST).symlink_to(far / RAF_LIST)
    with refused(DataError, RAF_LIST):
        datasets.load(root)


def test_the_user_can_rename_the_classes_of_a_layout(tmp_path):
    data = datasets.load(lay(tmp_path, affectnet_files()), rename="contempt=")
    assert data.labels == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.mark.parametrize("name", ["training.csv", "label.lst", "list_patition_label.txt"])
def test_own_class_folders_beside_a_file_of_that_name(tmp_path, name):
    files = {f"{label}/{number}.png": png(face(number)) for number, label in enumerate(["sad", "happy"] * 6)}
    plain = datasets.load(lay(tmp_path / "a", files))
    for content in (
        b"",
        b"words\n",
        b"path,label\n",
        b"1.png 1\n",
        HEADER.encode() + b"\na.jpg,1,1,2,2,,3,0,0\n",
    ):
        assert datasets.load(lay(tmp_path / "b", files | {name: content})).fingerprint == plain.fingerprint
        assert (
            datasets.load(zipped(tmp_path / "b.zip", files | {name: content})).fingerprint
            == plain.fingerprint
        )


def test_persons_of_ck_alone_are_not_classes(tmp_path):
    files = {
        f"S{person:03}/001/S{person:03}_001_{frame:08}.png": png(face(10 * person + frame))
        for person in (5, 6, 7)
        for frame in (1, 2)
    }
    for source in (lay(tmp_path / "a", files), zipped(tmp_path / "a.zip", files)):
        with refused(DataError, "Emotion"):
            datasets.load(source)
    named = [f"{label}/{name}" for label in ("sad", "happy") for name in files]
    inside = {name: png(face(number)) for number, name in enumerate(named)}
    assert set(datasets.load(lay(tmp_path / "b", inside)).labels) == {"sad", "happy"}
