"""Tables of paths: columns, delimiters, encodings, places of images, and what cannot be used."""

from pathlib import Path

import numpy as np
import pytest

from builders import has_line, refused
from mien.data import audit, datasets, tables
from mien.errors import DataError
from mien.labels import EMOTIONS, FERPLUS_COLUMNS, VOTES
from mien.vision import images
from test_datasets import face, lay, png, row, tarred, written, zipped

NAMES = [f"{number}.png" for number in range(12)]
LABELS = [("sad", "happy")[number % 2] for number in range(12)]


def files(folder: str = "images") -> dict[str, bytes]:
    return {f"{folder}/{name}" if folder else name: png(face(n)) for n, name in enumerate(NAMES)}


def table(
    *columns: tuple[str, list[object]], delimiter: str = ",", paths: str = "images/", end: str = "\n"
) -> str:
    """Rows of a path and a label, and more columns."""
    every = [("path", [paths + name for name in NAMES]), ("label", LABELS), *columns]
    rows = zip(*(values for _, values in every), strict=True)
    lines = [[name for name, _ in every], *rows]
    return "".join(delimiter.join(map(str, line)) + end for line in lines)


def laid(root: Path, text: str | bytes, name: str = "labels.csv", folder: str = "images") -> Path:
    data = text if isinstance(text, bytes) else text.encode()
    return lay(root, files(folder) | {name: data})


def everything(data: datasets.Dataset) -> dict[str, tuple[str, bytes]]:
    """The label and pixels of each file."""
    return {
        name: (data.labels[label], pixels.tobytes())
        for split in data.splits
        for name, label, pixels in zip(split.files, split.labels, split.images, strict=True)
    }


EXPECTED = {
    f"images/{name}": (label, face(n).tobytes())
    for n, (name, label) in enumerate(zip(NAMES, LABELS, strict=True))
}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_ends_of_lines_and_encodings(tmp_path, delimiter, end, encoding):
    root = laid(tmp_path, table(delimiter=delimiter, end=end).encode(encoding))
    for source in (root, root / "labels.csv"):
        data = datasets.load(source)
        assert everything(data) == EXPECTED
        assert has_line("\n".join(data.notes), "'path'", "'label'", tables.DELIMITERS[delimiter])
        assert not data.problems


@pytest.mark.parametrize("name", ["labels.csv", "a.tsv", "notes/list.txt"])
@pytest.mark.parametrize("wrap", ["", "outer/"])
def test_folders_and_archives_agree(tmp_path, name, wrap):
    text = table()
    inside = {wrap + each: data for each, data in (files() | {name: text.encode()}).items()}
    whole = datasets.load(lay(tmp_path / "a", inside))
    assert {each.removeprefix(wrap): what for each, what in everything(whole).items()} == EXPECTED
    for archive in (zipped(tmp_path / "a.zip", inside), tarred(tmp_path / "a.tar.gz", inside)):
        assert datasets.load(archive).fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    "header",
    [
        "Image Name,Emotion",
        "FILE_NAME,expression",
        "subDirectory_filePath,Class",
        "img,target",
        '"image","labels"',
        "name,label",
    ],
)
def test_usual_names_of_columns(tmp_path, header):
    data = datasets.load(laid(tmp_path, table().replace("path,label", header)))
    assert everything(data) == EXPECTED


def test_quoted_newlines_and_a_separator_line(tmp_path):
    text = "sep=;\n" + table(("comment", ['"two\nlines; and ""quotes"""'] * 12), delimiter=";")
    assert everything(datasets.load(laid(tmp_path, text))) == EXPECTED


def test_splits_and_persons(tmp_path):
    usage = ["Training"] * 6 + ["PublicTest"] * 2 + ["PrivateTest"] * 4
    persons = [f"p{n // 2}" for n in range(12)]
    data = datasets.load(laid(tmp_path, table(("Usage", usage), ("Subject", persons))))
    assert {split.name: len(split) for split in data.splits} == {"train": 6, "val": 2, "test": 4}
    assert data.split("val").groups == ("p3", "p3")
    other = datasets.load(
        laid(tmp_path, table(("Usage", usage), ("Subject", persons))), group_from=r"(\d)\.png"
    )
    assert other.split("val").groups == ("6", "7")


@pytest.mark.parametrize(
    ("names", "values"),
    [
        ("x y w h", (4, 6, 20, 20)),
        ("face_x face_y face_width face_height", (4, 6, 20, 20)),
        ("left top width height", (4, 6, 20, 20)),
        ("left top right bottom", (4, 6, 24, 26)),
        ("xmin ymin xmax ymax", (4, 6, 24, 26)),
        ("face_box_left face_box_top face_box_right face_box_bottom", (4, 6, 24, 26)),
        ("bbox_x1 bbox_y1 bbox_x2 bbox_y2", (4, 6, 24, 26)),
    ],
)
@pytest.mark.parametrize("comma", [False, True])
def test_face_boxes(tmp_path, names, values, comma):
    texts = [f"{value},0" if comma else str(value) for value in values]
    columns = [(name, [text] * 12) for name, text in zip(names.split(), texts, strict=True)]
    data = datasets.load(laid(tmp_path, table(*columns, delimiter=";" if comma else ",")))
    for name, (_, pixels) in everything(data).items():
        whole = face(NAMES.index(name.rpartition("/")[2]))
        assert pixels == images.cut(whole, (4, 6, 20), 48).tobytes()


def test_pascal_voc_rows_have_a_size_too(tmp_path):
    names = ("width", "height", "xmin", "ymin", "xmax", "ymax")
    columns = [(name, [value] * 12) for name, value in zip(names, (48, 48, 4, 6, 24, 26), strict=True)]
    data = datasets.load(laid(tmp_path, table(*columns)))
    assert everything(data)["images/0.png"][1] == images.cut(face(0), (4, 6, 20), 48).tobytes()


def test_several_faces_of_one_image(tmp_path):
    text = "path,label,x,y,w,h\n" + "".join(
        f"images/{name},{('sad', 'happy')[side]},{20 * side},0,20,20\n" for name in NAMES for side in (0, 1)
    )
    data = datasets.load(laid(tmp_path, text))
    assert sum(map(len, data.splits)) == 24


def test_annotators_agree_by_majority(tmp_path):
    first = [*LABELS[:10], "sad", ""]
    second = ["sad"] * 10 + ["happy", ""]
    text = table(("label_1", first), ("label_2", second), ("label_3", first)).replace(
        "path,label,", "path,note,"
    )
    data = datasets.load(laid(tmp_path, text))
    assert everything(data).keys() == {f"images/{name}" for name in NAMES[:11]}
    assert {name: label for name, (label, _) in everything(data).items()} == {
        f"images/{name}": label for name, label in zip(NAMES[:11], first[:11], strict=True)
    }
    assert [problem.file for problem in data.problems] == ["row 11"]
    tie = table(("label_1", LABELS), ("label_2", LABELS[::-1])).replace("path,label,", "path,note,")
    with refused(DataError, "labels.csv"):
        datasets.load(laid(tmp_path, tie))


def test_columns_named_like_emotions_count_annotators(tmp_path):
    names = list(FERPLUS_COLUMNS)
    counts = [
        [7 if FERPLUS_COLUMNS[name] == label else n % 3 for n, label in enumerate(LABELS)] for name in names
    ]
    columns = list(zip(names, counts, strict=True))
    data = datasets.load(laid(tmp_path, table(*columns).replace("path,label,", "path,note,")))
    assert {name: label for name, (label, _) in everything(data).items()} == {
        name: label for name, (label, _) in EXPECTED.items()
    }
    votes = data.split("train").votes
    assert votes.shape == (len(data.split("train")), len(VOTES))
    assert votes.max() == 7
    some = datasets.load(laid(tmp_path, table(*columns[:7]).replace("path,label,", "path,note,")))
    assert some.split("train").votes is None
    assert everything(some).keys() == EXPECTED.keys()


def test_a_list_without_a_header(tmp_path):
    lines = [f"{name} {label}" for name, label in zip(NAMES, LABELS, strict=True)]
    for ending, text in {
        "txt": "\n".join(lines),
        "lst": "\r\n".join(lines) + "\r\n",
        "csv": "\n".join(lines).replace(" ", ","),
        "tsv": "\n".join(f"{line}\ttrain" for line in "\n".join(lines).replace(" ", "\t").split("\n")),
    }.items():
        data = datasets.load(laid(tmp_path / ending, text, f"list.{ending}"))
        assert everything(data) == EXPECTED
        assert any("no header" in note for note in data.notes)
    assert not data.split("train").groups
    assert data.test is None


def test_names_with_spaces_in_a_list(tmp_path):
    inside = {f"a b {name}": data for name, data in files("").items()}
    text = "\n".join(f"a b {name} {label}" for name, label in zip(NAMES, LABELS, strict=True))
    data = datasets.load(lay(tmp_path, inside | {"list.txt": text.encode()}))
    assert sum(map(len, data.splits)) == 12


@pytest.mark.parametrize("paths", ["images/", "", ".\\images\\", "./images//"])
def test_images_are_found_where_the_table_says_or_in_one_folder(tmp_path, paths):
    root = laid(tmp_path, table(paths=paths))
    for source in (root, root / "labels.csv"):
        data = datasets.load(source)
        assert everything(data) == EXPECTED
        assert has_line("\n".join(data.notes), "'images'") == (paths == "")


def test_extensions_can_be_missing(tmp_path):
    data = datasets.load(laid(tmp_path, table().replace(".png", "")))
    assert everything(data) == EXPECTED
    assert any(".png" in note for note in data.notes)


def test_images_dir(tmp_path):
    root = laid(tmp_path / "a", table(paths=""), folder="deep/er")
    (tmp_path / "b").mkdir()
    moved = (root / "labels.csv").rename(tmp_path / "b" / "labels.csv")
    with refused(DataError, "--images", "labels.csv"):
        datasets.load(moved)
    data = datasets.load(moved, images_dir=root / "deep/er")
    assert sum(map(len, data.splits)) == 12
    assert datasets.load(**data.origin).fingerprint == data.fingerprint
    assert (
        datasets.load(
            zipped(tmp_path / "b.zip", {"labels.csv": moved.read_bytes()}), images_dir=root / "deep/er"
        ).fingerprint
        == data.fingerprint
    )
    with refused(DataError, "--images"):
        datasets.load(moved, images_dir=tmp_path / "none")
    with refused(DataError, "--images"):
        datasets.load(
            lay(
                tmp_path / "c",
                {f"sad/{n}.png": png(face(n)) for n in range(4)}
                | {f"happy/{n}.png": png(face(n + 4)) for n in range(4)},
            ),
            images_dir=root,
        )


def test_absolute_paths_inside_are_read_and_others_are_problems(tmp_path):
    root = lay(tmp_path / "a", files())
    outside = lay(tmp_path / "b", files())
    text = "path,label\n" + "".join(
        f"{(outside if n in (3, 5) else root) / 'images' / name},{label}\n"
        for n, (name, label) in enumerate(zip(NAMES, LABELS, strict=True))
    )
    written(root / "labels.csv", text)
    for source in (root, root / "labels.csv"):
        data = datasets.load(source)
        assert {Path(problem.file).name for problem in data.problems} == {"3.png", "5.png"}
        assert everything(data) == {
            f"images/{name}": EXPECTED[f"images/{name}"] for name in NAMES if name not in ("3.png", "5.png")
        }
    with refused(DataError, "--images"):
        datasets.load(written(tmp_path / "a" / "other.csv", text.replace(str(root), str(tmp_path / "c"))))


def test_several_tables_are_splits_or_refused(tmp_path):
    lines = table().splitlines(keepends=True)
    inside = files() | {
        "train.csv": "".join(lines[:9]).encode(),
        "test.csv": "".join([lines[0], *lines[9:]]).encode(),
    }
    data = datasets.load(lay(tmp_path / "a", inside))
    assert set(data.split("test").files) == {f"images/{name}" for name in NAMES[8:]}
    assert len(data.split("train")) + len(data.split("val")) == 8
    with refused(DataError, "one.csv", "two.csv"):
        datasets.load(
            lay(tmp_path / "b", files() | {"one.csv": table().encode(), "two.csv": table().encode()})
        )


def test_class_folders_win_and_name_the_table(tmp_path):
    inside = {
        f"{label}/{name}": png(face(n)) for n, (name, label) in enumerate(zip(NAMES, LABELS, strict=True))
    }
    text = "path,label\n" + "".join(f"{name},fear\n" for name in inside)
    for source in (
        lay(tmp_path / "a", inside | {"labels.csv": text.encode()}),
        zipped(tmp_path / "a.zip", inside | {"labels.csv": text.encode()}),
    ):
        data = datasets.load(source)
        assert data.labels == ("happy", "sad")
        assert has_line("\n".join(data.notes), "labels.csv")
    plain = datasets.load(lay(tmp_path / "b", inside))
    assert plain.fingerprint == data.fingerprint
    assert not any("labels.csv" in note for note in plain.notes)


def test_a_folder_with_a_table_decodes_each_image_once(tmp_path, monkeypatch):
    root = laid(tmp_path, table())
    calls = []
    read = images.read
    monkeypatch.setattr(images, "read", lambda *given, **more: calls.append(1) or read(*given, **more))
    datasets.load(root)
    assert len(calls) == 12


def test_numbers_keep_their_meaning_and_decimals(tmp_path):
    text = table().replace(",sad", ",4.0").replace(",happy", ",3.0")
    data = datasets.load(laid(tmp_path, text))
    assert everything(data) == EXPECTED
    assert any("FER" in note or "fer2013" in note for note in data.notes)


def test_images_that_the_table_does_not_list_are_counted(tmp_path):
    text = "".join(table().splitlines(keepends=True)[:9])
    data = datasets.load(laid(tmp_path, text))
    assert has_line("\n".join(data.notes), "4 images", "images/8.png")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_pixels_with_other_delimiters(tmp_path, delimiter, encoding):
    rows = [row(n % 7, face(n), usage) for usage in ("Training", "PublicTest") for n in range(14)]
    plain = datasets.load(written(tmp_path / "a.csv", "\n".join(["emotion,pixels,Usage", *rows, ""])))
    text = "\n".join(["emotion,pixels,Usage", *rows, ""]).replace(",", delimiter)
    (tmp_path / "b.csv").write_bytes(text.encode(encoding))
    data = datasets.load(tmp_path / "b.csv")
    assert data.fingerprint == plain.fingerprint
    assert plain.labels == EMOTIONS
    assert not plain.notes[:-1]
    assert has_line("\n".join(data.notes), tables.DELIMITERS[delimiter])


BROKEN = {
    "empty": ("", ["labels.csv"]),
    "header only": ("path,label\n", ["labels.csv"]),
    "no label": (table().replace("path,label", "path,size"), ["labels.csv", "'label'"]),
    "no path": (table().replace("path,label", "when,label"), ["labels.csv", "'path'"]),
    "two labels": (table(("emotion", LABELS)), ["'label'", "'emotion'"]),
    "two paths": (table(("file", NAMES)), ["'path'", "'file'"]),
    "one column twice": (table(("label", LABELS)), ["'label'"]),
    "two boxes": (
        table(*((name, [1] * 12) for name in (*"xywh", "face_x", "face_y", "face_w", "face_h"))),
        ["labels.csv"],
    ),
    "boxes are fractions": (table(*((name, [0.5] * 12) for name in "xywh")), ["labels.csv", "pixels"]),
    "all missing": (table(paths="elsewhere/x"), ["--images", "labels.csv"]),
    "all absolute": (table(paths="/etc/"), ["--images", "labels.csv"]),
    "all above": (table(paths="../"), ["--images", "labels.csv"]),
    "drive": (table(paths="C:\\faces\\"), ["--images", "labels.csv"]),
    "not text": (table().encode() + b"images/1.png,\xff\xfe\xfa\n", ["labels.csv", "UTF-8"]),
    "cut quote": (table() + '"images/1.png,sad\n' + "x\n" * 100_000, ["labels.csv", "quote"]),
    "a list of four columns": ("\n".join(f"images/{name},sad,1,2" for name in NAMES), ["labels.csv"]),
    "fer+": (
        "Usage,Image name," + ",".join(FERPLUS_COLUMNS) + "\nTraining,images/1.png" + ",1" * 10,
        ["--votes"],
    ),
    "one label": (table().replace("happy", "sad"), ["'sad'"]),
    "empty labels": (table().replace("happy", "").replace("sad", ""), ["labels.csv"]),
}


@pytest.mark.parametrize("what", BROKEN)
def test_tables_that_cannot_be_used_are_refused(tmp_path, what):
    text, named = BROKEN[what]
    root = laid(tmp_path, text)
    with refused(DataError, *named):
        datasets.load(root / "labels.csv")
    with refused(DataError):
        datasets.load(root)


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("images/none.png,sad", "images/none.png"),
        ("/etc/passwd,sad", "/etc/passwd"),
        ("../labels.csv,sad", "../labels.csv"),
        ("images/../../a.png,sad", "images/../../a.png"),
        ("images/link.png,sad", "images/link.png"),
        ("images/linked/1.png,sad", "images/linked/1.png"),
        ("images,sad", "images"),
        ("images/1\0.png,sad", "images/1\0.png"),
        ("images/" + "x" * 300 + ".png,sad", "images/" + "x" * 193),
        ("http://a.example/1.png,sad", "http:/a.example/1.png"),
        (",sad", "row 12"),
        ("images/1.png,", "row 12"),
        ("images/1.png,nan", "row 12"),
        ("images/1.png,s\x07d", "row 12"),
        ("images/1.png,sad,3", "row 12"),
        ("images/1.png", "row 12"),
        ('"images/1.png","happy\n\n"', None),
        ('images/1.png,"sad\nimages/2.png,sad\n"', "row 12"),
        ("images/broken.png,sad", "images/broken.png"),
        ("images/text.png,sad", "images/text.png"),
    ],
)
def test_a_bad_row_is_a_problem(tmp_path, line, file):
    (tmp_path / "far").mkdir()
    (tmp_path / "far/1.png").write_bytes(png(face(99)))
    root = laid(tmp_path / "a", table() + line + "\n")
    (root / "images/link.png").symlink_to(tmp_path / "far/1.png")
    (root / "images/linked").symlink_to(tmp_path / "far")
    (root / "images/broken.png").write_bytes(png(face(1))[:90])
    (root / "images/text.png").write_text("words")
    for source in (root, root / "labels.csv"):
        data = datasets.load(source)
        assert [problem.file for problem in data.problems] == ([] if file is None else [file])
        assert all(problem.reason for problem in data.problems)
        assert everything(data) == EXPECTED


def test_repeated_rows_and_two_labels_for_one_image(tmp_path):
    text = table() + "images/1.png,happy\nimages/2.png,happy\nimages/./3.png,happy\n"
    data = datasets.load(laid(tmp_path, text))
    assert {problem.file for problem in data.problems} == {"images/2.png"}
    assert "images/2.png" not in everything(data)
    assert has_line("\n".join(data.notes), "2 rows")


def test_links_inside_the_folder_are_read(tmp_path):
    root = laid(tmp_path, table())
    (root / "images/0.png").rename(root / "kept.png")
    (root / "images/0.png").symlink_to(root / "kept.png")
    assert everything(datasets.load(root)) == EXPECTED


def test_a_table_that_is_a_link_to_another_folder_is_not_read(tmp_path):
    root = lay(tmp_path / "a", files())
    (root / "labels.csv").symlink_to(written(tmp_path / "labels.csv", table()))
    with refused(DataError):
        datasets.load(root)


def test_an_unknown_split_is_a_problem_and_a_column_without_splits_is_not_used(tmp_path):
    data = datasets.load(laid(tmp_path / "a", table(("set", ["train"] * 11 + ["tryout"]))))
    assert [problem.file for problem in data.problems] == ["row 11"]
    data = datasets.load(laid(tmp_path / "b", table(("set", list("abcabcabcabc")))))
    assert not data.problems
    assert has_line("\n".join(data.notes), "'set'")


def test_a_wrong_box_is_a_problem(tmp_path):
    boxes = [(0, 0, 20, 20)] * 8 + [(0, 0, 0, 9), ("a", 0, 9, 9), (90, 0, 9, 9), ("", "", "", "")]
    columns = [(name, [box[n] for box in boxes]) for n, name in enumerate("xywh")]
    data = datasets.load(laid(tmp_path, table(*columns)))
    assert {problem.file for problem in data.problems} == {"row 8", "row 9", "images/10.png"}
    assert has_line("\n".join(data.notes), "1 images")


def test_many_rows_that_name_nothing_are_refused(tmp_path):
    root = lay(tmp_path, files())
    with (root / "labels.csv").open("w") as out:
        out.write("path,label\n")
        out.writelines(f"images/{n}.jpg,sad\n" for n in range(100_000))
    with refused(DataError, "--images"):
        datasets.load(root)


def test_votes_do_not_belong_to_a_table(tmp_path):
    root = laid(tmp_path, table())
    with refused(DataError, "votes"):
        datasets.load(root, votes=written(tmp_path / "votes.csv", "a"))


def test_the_order_is_that_of_the_rows(tmp_path):
    lines = table(("split", ["train"] * 6 + ["val"] * 6)).splitlines(keepends=True)
    root = laid(tmp_path, "".join([lines[0], *lines[:0:-1]]))
    data = datasets.load(root)
    assert data.split("train").files == tuple(f"images/{name}" for name in NAMES[5::-1])
    assert np.array_equal(data.split("val").images[0, :, :, 0], face(11))


def test_rows_are_counted_while_they_are_read(tmp_path):
    seen: list[tuple[int, int]] = []
    root = laid(tmp_path, table())
    datasets.load(root, progress=lambda done, total: seen.append((done, total)))
    assert (12, 12) in seen
    assert ((root / "labels.csv").stat().st_size,) * 2 in seen


def test_a_clean_copy_has_whole_files_or_the_faces_in_them(tmp_path):
    root = laid(tmp_path / "a", table(("split", ["train"] * 10 + ["val"] * 2)))
    boxes = [(name, [value] * 12) for name, value in zip("xywh", (4, 6, 20, 20), strict=True)]
    twice = "path,label,x,y,w,h\n" + "".join(
        f"images/{name},{label},{10 * side},0,20,20\n"
        for name, label in zip(NAMES, LABELS, strict=True)
        for side in (0, 1)
    )
    sources = (root, root / "labels.csv", laid(tmp_path / "b", table(*boxes)), laid(tmp_path / "c", twice))
    for number, source in enumerate(sources):
        data = datasets.load(source)
        audit.fix(audit.inspect(data, recrops=False), source, tmp_path / f"copy{number}")
        again = datasets.load(tmp_path / f"copy{number}")
        assert faces_of(again) == faces_of(data)


def faces_of(data: datasets.Dataset) -> list[tuple[str, bytes]]:
    """The label and pixels of every image."""
    return sorted(
        (data.labels[label], pixels.tobytes())
        for split in data.splits
        for label, pixels in zip(split.labels, split.images, strict=True)
    )


@pytest.mark.parametrize("separate", [False, True])
def test_two_labels_are_a_problem_in_any_split_and_two_splits_are_noted(tmp_path, separate):
    train = [f"images/{name},{label}" for name, label in zip(NAMES, LABELS, strict=True)]
    val = ["images/1.png,sad", "images/2.png,sad"]
    if separate:
        tables_of = {"train.csv": train, "val.csv": val}
        made = {name: "\n".join(["path,label", *lines]).encode() for name, lines in tables_of.items()}
    else:
        lines = [f"{line},train" for line in train] + [f"{line},val" for line in val]
        made = {"labels.csv": "\n".join(["path,label,split", *lines]).encode()}
    data = datasets.load(lay(tmp_path, files() | made))
    assert [problem.file for problem in data.problems] == ["images/1.png"] * 2
    assert {split.name: len(split) for split in data.splits} == {"train": 11, "val": 1}
    assert has_line("\n".join(data.notes), "images/2.png", "splits")


def test_images_of_bad_rows_are_listed(tmp_path):
    text = table() + "images/12.png,\nimages/13.png,sad\nimages/13.png,happy\n"
    more = {f"images/{number}.png": png(face(number)) for number in (12, 13, 14)}
    data = datasets.load(lay(tmp_path, files() | more | {"labels.csv": text.encode()}))
    assert has_line("\n".join(data.notes), "1 images", "'images/14.png'")


@pytest.mark.parametrize("header", [True, False])
def test_bare_names_are_in_the_folder_of_the_split(tmp_path, header):
    made: dict[str, bytes] = {}
    for first, split in ((0, "train"), (100, "test")):
        made |= {f"{split}/{name}": png(face(first + n)) for n, name in enumerate(NAMES)}
        lines = [f"{name},{label}" for name, label in zip(NAMES, LABELS, strict=True)]
        made[f"{split}.csv"] = "\n".join(["path,label"] * header + lines).encode()
    data = datasets.load(lay(tmp_path, made))
    assert set(data.split("test").files) == {f"test/{name}" for name in NAMES}
    assert all(name.startswith("train/") for name in data.split("train").files)
    assert set(datasets.load(tmp_path / "test.csv").split("train").files) < set(data.split("test").files)


def test_names_in_refusals_have_one_pair_of_quotes(tmp_path):
    made = {f"{folder}/{name}": data for folder in "ab" for name, data in files("").items()}
    root = lay(tmp_path, made | {"labels.csv": table(paths="").encode()})
    with pytest.raises(DataError) as caught:
        datasets.load(root / "labels.csv")
    assert "''" not in str(caught.value)


@pytest.mark.parametrize("name", ["subjects", "person name", "participant_number"])
def test_columns_of_persons_have_many_names_and_can_have_gaps(tmp_path, name):
    whole = [f"p{n // 2}" for n in range(12)]
    data = datasets.load(laid(tmp_path / "a", table((name, whole))))
    assert data.split("train").groups is not None
    data = datasets.load(laid(tmp_path / "b", table((name, [*whole[:9], "", "", ""]))))
    assert has_line("\n".join(data.notes), "3 of 12", f"'{name}'")
    data = datasets.load(laid(tmp_path / "c", table((name, [""] * 12))))
    assert data.split("train").groups is None
    assert not has_line("\n".join(data.notes), "persons in")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "filepath,emo\np1/0.png,sad\n"),
        ("list.txt", "p1/0.png sad\np2/1.png happy\n"),
        ("list.csv", "p1/0.png,sad\np2/1.png,happy\n"),
        ("metadata.jsonl", '{"file_name": "p1/0.png", "label": "sad"}\n'),
    ],
)
def test_any_table_beside_class_folders_is_named(tmp_path, name, text):
    inside = {f"p{n % 2}/{n}.png": png(face(n)) for n in range(12)} | {name: text.encode()}
    for source in (lay(tmp_path / "a", inside), zipped(tmp_path / "a.zip", inside)):
        data = datasets.load(source)
        assert data.labels == ("p0", "p1")
        assert has_line("\n".join(data.notes), f"'{name}'", "class folders")


def test_a_text_without_images_is_not_a_table(tmp_path):
    inside = {f"p{n % 2}/{n}.png": png(face(n)) for n in range(12)}
    data = datasets.load(lay(tmp_path, inside | {"readme.txt": b"some faces, and more\nof two people\n"}))
    assert not has_line("\n".join(data.notes), "readme.txt")


@pytest.mark.parametrize(
    "text", ["", "path\nimages/0.png\n", "filepath,emo\nimages/0.png,sad\n", "# faces\npath,label\n"]
)
def test_an_unusable_table_is_named_with_the_reason(tmp_path, text):
    root = laid(tmp_path / "a", text)
    for source in (root, zipped(tmp_path / "a.zip", files() | {"labels.csv": text.encode()})):
        with refused(DataError, "'images'", "'labels.csv'"):
            datasets.load(source)


@pytest.mark.parametrize("text", ["", "path\nimages/0.png\n", "path,emo\nimages/0.png,sad\n"])
def test_an_unusable_table_of_a_split_is_noted(tmp_path, text):
    data = datasets.load(lay(tmp_path, files() | {"train.csv": table().encode(), "test.csv": text.encode()}))
    assert has_line("\n".join(data.notes), "'test.csv'")


def test_one_class_of_a_table_needs_no_folder(tmp_path):
    with pytest.raises(DataError) as caught:
        datasets.load(laid(tmp_path, table().replace("happy", "sad")))
    assert "folder" not in str(caught.value)
