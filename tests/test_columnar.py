"""Parquet, Arrow and Hugging Face data sets are read as they are; broken ones are refused in one sentence."""

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mien
from mien import cli
from mien.data import columnar, datasets, huggingface
from mien.errors import DataError, MissingExtra
from mien.labels import EMOTIONS
from test_datasets import face, lay, png, zipped

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

NAMES = ["sad", "happy"]


def struct(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Images as `datasets` stores them; image n is face n."""
    return [
        {"bytes": png(face(first + number)), "path": f"p{number % 3}_{number}.png"} for number in range(count)
    ]


def labels(count: int) -> list[int]:
    return [number % 2 for number in range(count)]


def hub(columns: dict[str, Any], names: list[str] | None = NAMES, label: str = "label") -> Any:
    """A table with the metadata that `datasets` writes."""
    made = pa.table(columns)
    if names is None:
        return made
    features = {label: {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(
    path: Path, columns: dict[str, Any] | None = None, count: int = 8, first: int = 0, **options: Any
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"image": struct(count, first), "label": labels(count)} if columns is None else columns
    names = options.pop("names", NAMES)
    pq.write_table(hub(columns, names), path, **options)
    return path


def save(folder: Path, count: int = 8, first: int = 0, *, batch: int = 3, files: int = 1) -> Path:
    """What `datasets.save_to_disk` writes of one split."""
    folder.mkdir(parents=True, exist_ok=True)
    table = hub({"image": struct(count, first), "label": labels(count)})
    names = [f"data-{number:05}-of-{files:05}.arrow" for number in range(files)]
    for number, name in enumerate(names):
        with pa.ipc.new_stream(str(folder / name), table.schema) as stream:
            stream.write_table(table.slice(number * count // files, count // files), max_chunksize=batch)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    features = {"label": {"names": NAMES, "_type": "ClassLabel"}}
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


def save_splits(folder: Path, splits: tuple[str, ...] = ("train", "test")) -> Path:
    for number, split in enumerate(splits):
        save(folder / split, first=100 * number)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


def shown(data: datasets.Dataset) -> dict[str, tuple[str, np.ndarray]]:
    """The class and pixels of each image by its name."""
    return {
        f"{split.name}/{file}": (data.labels[split.labels[place]], split.images[place, :, :, 0])
        for split in data.splits
        for place, file in enumerate(split.files)
    }


def check(data: datasets.Dataset, first: int = 0) -> None:
    """Image n is face n, and its class is that of n."""
    assert data.labels == ("happy", "sad")
    for name, (label, pixels) in shown(data).items():
        row = int(name.rpartition("row ")[2])
        assert label == NAMES[row % 2]
        np.testing.assert_array_equal(pixels, face(first + row))


def refused(source: Any, *names: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        datasets.load(source, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert all(name in text for name in names), text
    return text


def test_images_dir_is_for_tables_of_paths(tmp_path):
    for path in (write(tmp_path / "faces.parquet"), save(tmp_path / "saved")):
        with pytest.raises(DataError) as caught:
            datasets.load(path, images_dir=tmp_path)
        assert "--images" in str(caught.value)


def test_the_list_of_an_audit_leaves_rows_out(tmp_path):
    table = write(tmp_path / "faces.parquet", count=40)
    first = datasets.load(table)
    (tmp_path / "leave.csv").write_text(f"row\n{first.train.files[3].removeprefix('row ')}\n")
    found = datasets.load(table, exclude=tmp_path / "leave.csv")
    assert found.excluded[0].files == (first.train.files[3],)
    assert found.val.fingerprint == first.val.fingerprint


def test_a_file_is_read(tmp_path):
    data = datasets.load(write(tmp_path / "faces.parquet", count=20))
    assert sum(map(len, data.splits)) == 20
    check(data)
    assert any("Parquet" in note and "'image'" in note for note in data.notes)


def test_a_hub_folder_has_the_splits_of_its_file_names(tmp_path):
    lay(tmp_path, {"README.md": b"# faces", ".gitattributes": b"*.parquet"})
    write(tmp_path / "data" / "train-00000-of-00002.parquet")
    write(tmp_path / "data" / "train-00001-of-00002.parquet", first=50)
    write(tmp_path / "data" / "validation-00000-of-00001-0123abcd.parquet", count=4, first=80)
    write(tmp_path / "data" / "test-00000-of-00001.parquet", count=6, first=90)
    data = datasets.load(tmp_path)
    assert {split.name: len(split) for split in data.splits} == {"train": 16, "val": 4, "test": 6}
    assert data.train.files[8] == "data/train-00001-of-00002.parquet row 0"
    np.testing.assert_array_equal(data.train.images[8, :, :, 0], face(50))


def test_folders_of_splits_are_splits(tmp_path):
    for split, count in (("train", 8), ("validation", 4)):
        write(tmp_path / "default" / split / "0000.parquet", count=count)
    assert [split.name for split in datasets.load(tmp_path).splits] == ["train", "val"]


def test_several_configurations_are_refused_by_name(tmp_path):
    for name in ("raw", "aligned"):
        write(tmp_path / name / "train-00000-of-00001.parquet")
    refused(tmp_path, "'raw'", "'aligned'")
    check(datasets.load(tmp_path / "raw"))


def test_files_of_other_splits_are_skipped_with_a_note(tmp_path):
    write(tmp_path / "train.parquet")
    write(tmp_path / "test.parquet", first=50)
    write(tmp_path / "extra.parquet", first=90)
    data = datasets.load(tmp_path)
    assert sum(map(len, data.splits)) == 16
    assert any("extra.parquet" in note for note in data.notes)


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("image", [png(face(number)) for number in range(8)]),
        ("face", [face(number).tolist() for number in range(8)]),
        ("pixels", [face(number).ravel().tolist() for number in range(8)]),
        ("pixels", [" ".join(map(str, face(number).ravel())) for number in range(8)]),
        ("unusual", [png(face(number)) for number in range(8)]),
        ("path", [f"faces/{number}.png" for number in range(8)]),
    ],
)
def test_images_are_bytes_pixels_or_paths(tmp_path, column, cells):
    lay(tmp_path, {f"faces/{number}.png": png(face(number)) for number in range(8)})
    check(datasets.load(write(tmp_path / "x.parquet", {column: cells, "label": labels(8)})))


def test_a_table_of_paths_wins_over_a_folder_of_unlabelled_images(tmp_path):
    lay(tmp_path, {f"faces/{number}.png": png(face(number)) for number in range(8)})
    paths = [f"faces/{number}.png" for number in range(8)]
    write(tmp_path / "x.parquet", {"file_name": paths, "label": labels(8)})
    check(datasets.load(tmp_path))


def lay_classes(folder: Path) -> None:
    numbers = {"fear": range(4), "sad": range(4, 8)}
    lay(folder, {f"{name}/{number}.png": png(face(number)) for name in numbers for number in numbers[name]})


def test_class_folders_win_over_a_table(tmp_path):
    lay(
        tmp_path,
        {
            f"{name}/{number}.png": png(face(number + len(name)))
            for name in ("fear", "sad")
            for number in range(4, 20)
        },
    )
    write(tmp_path / "x.parquet")
    assert datasets.load(tmp_path).labels == ("fear", "sad")


@pytest.mark.parametrize(
    ("cells", "names", "expected"),
    [
        (["happy", "sad"] * 4, None, ("happy", "sad")),
        ([0, 3] * 4, None, ("angry", "happy")),
        ([0.0, 3.0] * 4, None, ("angry", "happy")),
        ([1, 7] * 4, None, ("surprise", "neutral")),
        ([0, 1] * 4, ["happiness", "sadness"], ("happy", "sad")),
        ([True, False] * 4, None, ("False", "True")),
        (pa.array(["yes", "no"] * 4).dictionary_encode(), None, ("no", "yes")),
    ],
)
def test_labels_are_names_or_numbers(tmp_path, cells, names, expected):
    path = write(tmp_path / "x.parquet", {"image": struct(8), "label": cells}, names=names)
    assert datasets.load(path).labels == expected


def test_numbers_without_names_that_are_many_are_the_emotions(tmp_path):
    columns = {"image": struct(14), "emotion": [number % 7 for number in range(14)]}
    assert datasets.load(write(tmp_path / "x.parquet", columns, names=None)).labels == EMOTIONS


def test_a_labels_order_overrides_the_names_of_the_table(tmp_path):
    path = write(tmp_path / "x.parquet")
    assert datasets.load(path, labels_order="fear,neutral").labels == ("fear", "neutral")
    assert datasets.load(path, rename="sad=tired").labels == ("happy", "tired")


def test_splits_groups_and_boxes_have_columns(tmp_path):
    photo = np.zeros((60, 100), np.uint8)
    photo[10:58, 40:88] = face(5)
    columns = {
        "image": [png(photo)] * 4 + [png(face(number)) for number in range(4)],
        "label": labels(8),
        "split": ["train", "train", "val", "val"] * 2,
        "subject_id": [1, 2, 1, 2, 3, 4, None, 5],
        "bbox": [[40, 10, 48, 48]] * 4 + [None] * 4,
    }
    data = datasets.load(write(tmp_path / "x.parquet", columns))
    assert data.train.groups == ("1", "2", "3", "4")
    assert [len(split) for split in data.splits] == [4, 4]
    assert data.split("val").groups == ("1", "2", "", "5")
    np.testing.assert_array_equal(data.train.images[0, :, :, 0], face(5))
    corners = {"xmin": [40] * 8, "ymin": [10] * 8, "xmax": [88] * 8, "ymax": [58] * 8}
    columns = {
        "image": [png(photo)] * 8,
        "label": labels(8),
        "split": ["train", "train", "val", "val"] * 2,
        **corners,
    }
    data = datasets.load(write(tmp_path / "corners.parquet", columns))
    np.testing.assert_array_equal(data.train.images[0, :, :, 0], face(5))


def test_labels_and_groups_are_read_from_the_names_of_images(tmp_path):
    path = write(tmp_path / "x.parquet", {"image": struct(12)}, names=None)
    data = datasets.load(path, label_from=r"(p[01])_", group_from=r"_(\d+)", rename="p0=sad,p1=happy")
    assert data.labels == ("happy", "sad")
    assert len(data.problems) == 4
    assert {group for split in data.splits for group in split.groups} <= {str(number) for number in range(12)}
    refused(
        write(tmp_path / "y.parquet", {"image": [png(face(1))] * 4}, names=None),
        "label-from",
        label_from="(a)",
    )


def test_small_batches_and_groups_of_rows_give_the_same_images(tmp_path, monkeypatch):
    path = write(tmp_path / "x.parquet", count=50, row_group_size=7)
    whole = datasets.load(path)
    monkeypatch.setattr(columnar, "_BATCH_BYTES", 9000)
    assert datasets.load(path).fingerprint == whole.fingerprint
    check(whole)


def test_rows_can_be_read_in_any_order(tmp_path):
    shard = columnar.open_parquet(
        write(tmp_path / "x.parquet", count=30, row_group_size=4), "x", "", lambda _: b""
    )
    listing = columnar.list_rows([shard], datasets.ReadOptions(size=48), "Parquet")
    for row in (29, 3, 4, 0, 17):
        assert listing.open(f"x row {row}") == png(face(row))


def test_archives_and_outer_folders_have_the_same_images(tmp_path):
    inside = tmp_path / "outer" / "faces"
    save_splits(inside)
    whole = datasets.load(inside)
    assert datasets.load(tmp_path / "outer").fingerprint == whole.fingerprint
    files = {
        f"a/{path.relative_to(inside)}": path.read_bytes() for path in inside.rglob("*") if path.is_file()
    }
    assert datasets.load(zipped(tmp_path / "x.zip", files)).fingerprint == whole.fingerprint
    path = write(tmp_path / "x.parquet", count=20)
    packed = zipped(tmp_path / "y.zip", {"README.md": b"# faces", "data/x.parquet": path.read_bytes()})
    assert datasets.load(packed).fingerprint == datasets.load(path).fingerprint
    save(tmp_path / "outer" / "more")
    refused(tmp_path / "outer", "'faces'", "'more'")


@pytest.mark.parametrize("names", [NAMES, ["tired", "awake"]])
def test_the_clean_copy_of_a_table_can_be_loaded(tmp_path, names):
    columns = {"image": [*struct(20), *struct(2)], "label": labels(22), "split": ["train"] * 14 + ["val"] * 8}
    path = write(tmp_path / "x.parquet", columns, names=names)
    mien.audit(path, fix=tmp_path / "clean", recrops=False)
    clean = datasets.load(tmp_path / "clean")
    assert set(clean.labels) == set(names)
    assert [len(split) for split in clean.splits] == [12, 8]


@pytest.mark.parametrize("name", ["../../outside", "/outside", "..", ".hidden", "a/b"])
def test_classes_that_lead_out_of_the_clean_copy_are_refused(tmp_path, name):
    path = write(tmp_path / "x.parquet", {"image": struct(20), "label": ["sad", name] * 10}, names=None)
    lay(tmp_path, {f"{number}.png": png(face(number)) for number in range(20)})
    text = "\n".join(["file,label", *(f"{number}.png,{('sad', name)[number % 2]}" for number in range(20))])
    (tmp_path / "x.csv").write_text(text)
    for source in (path, tmp_path / "x.csv"):
        with pytest.raises(DataError):
            mien.audit(source, fix=tmp_path / "copies" / "clean", recrops=False)
    assert not (tmp_path / "copies").exists()


def test_a_saved_data_set_is_read(tmp_path):
    check(datasets.load(save(tmp_path / "one", count=20)))
    assert sum(map(len, datasets.load(save(tmp_path / "parts", count=20, files=2)).splits)) == 20
    data = datasets.load(save_splits(tmp_path / "splits", ("train", "validation", "test")))
    assert [len(split) for split in data.splits] == [8, 8, 8]
    np.testing.assert_array_equal(data.test.images[3, :, :, 0], face(203))


@pytest.mark.parametrize("where", ["", "train/"])
def test_lines_of_json_describe_images(tmp_path, where):
    lay(tmp_path, {f"{where}{number}.png": png(face(number)) for number in range(8)})
    rows = [
        {"file_name": f"{number}.png", "emotion": NAMES[number % 2], "person": number} for number in range(8)
    ]
    text = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    lay(tmp_path, {f"{where}metadata.jsonl": text.encode("utf-8-sig")})
    data = datasets.load(tmp_path)
    assert data.labels == ("happy", "sad")
    assert data.train.groups is not None
    for name, (label, pixels) in shown(data).items():
        number = int(Path(name).stem)
        assert label == NAMES[number % 2]
        np.testing.assert_array_equal(pixels, face(number))
    assert datasets.load(tmp_path / f"{where}metadata.jsonl").labels == data.labels


def described(folder: Path, count: int = 20, **columns: Any) -> Path:
    """Images `{person}_{number}.png` with a metadata.jsonl; a column has a value for each image."""
    names = [f"p{number % 4}_{number}.png" for number in range(count)]
    lay(folder, {name: png(face(number)) for number, name in enumerate(names)})
    given = {"label": [NAMES[number % 2] for number in range(count)], **columns}
    rows = [
        {"file_name": name, **{column: cells[number] for column, cells in given.items()}}
        for number, name in enumerate(names)
    ]
    lay(folder, {"metadata.jsonl": "\n".join(map(json.dumps, rows)).encode()})
    return folder


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "label-from"])
def test_group_from_that_matches_nothing_is_refused_and_known_persons_stay(tmp_path, kind):
    persons = [f"own{number % 5}" for number in range(20)]
    label_from = {}
    if kind == "parquet":
        columns = {"image": struct(20), "label": labels(20), "person": persons}
        source = write(tmp_path / "faces.parquet", columns)
    elif kind == "jsonl":
        source = described(tmp_path, person=persons)
    else:
        lay(
            tmp_path,
            {f"p{number % 4}_{NAMES[number % 2]}{number}.png": png(face(number)) for number in range(20)},
        )
        source, label_from = tmp_path, {"label_from": "(sad|happy)"}
    refused(source, "group-from", group_from="(q+)_", **label_from)
    data = datasets.load(source, group_from="(p0)_", **label_from)
    groups = {group for split in data.splits for group in split.groups or ()}
    assert groups == ({"p0", ""} if label_from else {"p0", *persons})
    assert any("group-from" in note for note in data.notes)


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "label-from"])
def test_images_without_a_split_beside_others_are_problems(tmp_path, kind):
    splits = (["train"] * 10 + ["val"] * 4 + ["test"] * 4 + [None] * 2) if kind != "label-from" else []
    label_from = {}
    if kind == "parquet":
        source = write(tmp_path / "x.parquet", {"image": struct(20), "label": labels(20), "split": splits})
    elif kind == "jsonl":
        source = described(tmp_path, split=splits)
    else:
        folders = ["train"] * 10 + ["test"] * 8 + ["extra"] * 2
        names = [f"{folder}/{NAMES[number % 2]}{number}.png" for number, folder in enumerate(folders)]
        source = lay(tmp_path, {name: png(face(number)) for number, name in enumerate(names)})
        label_from = {"label_from": "(sad|happy)"}
    data = datasets.load(source, **label_from)
    assert sum(map(len, data.splits)) == 18
    assert len(data.problems) == 2
    assert all("split" in problem.reason for problem in data.problems)
    name = data.problems[0].file
    assert any(name in note and "2 images" in note for note in data.notes)


def test_an_image_with_two_labels_is_a_problem(tmp_path):
    source = described(tmp_path / "lines")
    lines = (source / "metadata.jsonl").read_text()
    other = json.dumps({"file_name": "p0_0.png", "label": "happy"})
    (source / "metadata.jsonl").write_text(f"{lines}\n{other}\n")
    cells = [f"p{number % 4}_{number}.png" for number in range(20)]
    columns = {"file_name": [*cells, cells[0]], "label": [*labels(20), 1]}
    table = write(source / "x.parquet", columns)
    paths = [source / name for name in columns["file_name"]]
    for data in (
        datasets.load(source / "metadata.jsonl"),
        datasets.load(table),
        datasets.load(images=paths, labels=[NAMES[number] for number in columns["label"]]),
    ):
        assert sum(map(len, data.splits)) == 19
        assert len(data.problems) == 2
        assert all("p0_0.png" in problem.reason for problem in data.problems)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_face_boxes_in_fractions_are_refused(tmp_path, kind):
    boxes = [[0.1, 0.1, 0.5, 0.5]] * 20
    if kind == "parquet":
        source = write(tmp_path / "x.parquet", {"image": struct(20), "label": labels(20), "bbox": boxes})
    else:
        source = described(tmp_path, bbox=boxes)
    refused(source, "face boxes", "fractions")


def test_two_columns_of_labels_are_refused(tmp_path):
    refused(described(tmp_path / "lines", emotion=["sad", "happy"] * 10), "'label'", "'emotion'")
    columns = {"image": struct(8), "label": labels(8), "emotion": labels(8)}
    refused(write(tmp_path / "x.parquet", columns), "'label'", "'emotion'")


def test_the_note_of_lines_states_the_columns(tmp_path):
    splits = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    source = described(tmp_path, fold=[1] * 20, usage=splits, subject=range(20), bbox=[[0, 0, 40, 40]] * 20)
    note = next(note for note in datasets.load(source).notes if "metadata.jsonl" in note)
    assert all(f"'{name}'" in note for name in ("label", "usage", "subject", "bbox"))


def test_lines_without_labels_leave_class_folders_as_they_are(tmp_path):
    lay(
        tmp_path,
        {
            f"{name}/{number}.png": png(face(number + len(name)))
            for name in ("fear", "sad")
            for number in range(4, 20)
        },
    )
    lay(tmp_path, {"metadata.jsonl": b'{"file_name": "fear/1.png", "text": "a face"}\n'})
    assert datasets.load(tmp_path).labels == ("fear", "sad")


# Objects


@dataclass
class Features:
    arrow_schema: Any


class Table:
    """What mien uses of `datasets.Dataset`; the test with the library itself runs if that is installed."""

    def __init__(self, table: Any, arrow: bool = False) -> None:
        self.table, self.arrow = table, arrow
        self.features, self.num_rows = Features(table.schema), table.num_rows

    def with_format(self, type: str) -> "Table":  # noqa: A002 the library's name
        return Table(self.table, type == "arrow")

    def select_columns(self, column_names: list[str]) -> "Table":
        return Table(self.table.select(column_names), self.arrow)

    def __getitem__(self, rows: slice) -> Any:
        assert self.arrow
        return self.table[rows]


class IterableDataset:
    """A stream, which mien refuses by the name of its class."""


def table_of(count: int = 8, first: int = 0) -> Table:
    return Table(hub({"image": struct(count, first), "label": labels(count)}))


def test_an_object_is_read(monkeypatch):
    check(datasets.load(table_of(200)))
    monkeypatch.setattr(huggingface, "_LABEL_ROWS", 7)
    monkeypatch.setattr(huggingface, "_IMAGE_ROWS", 3)
    data = datasets.load(table_of(20))
    check(data)
    assert data.origin["source"] is None


def test_a_dictionary_of_objects_has_splits():
    data = datasets.load({"train": table_of(), "validation": table_of(4, 50), "test": table_of(6, 80)})
    assert [len(split) for split in data.splits] == [8, 4, 6]
    np.testing.assert_array_equal(data.test.images[5, :, :, 0], face(85))


def test_an_object_can_name_files_anywhere_but_no_addresses(tmp_path):
    lay(tmp_path, {f"{number}.png": png(face(number)) for number in range(8)})
    cells = [{"bytes": None, "path": str(tmp_path / f"{number}.png")} for number in range(8)]
    cells += [
        {"bytes": None, "path": "hf://faces/9.png"},
        {"bytes": None, "path": str(tmp_path / "gone.png")},
    ]
    data = datasets.load(Table(hub({"image": cells, "label": labels(10)})))
    check(data)
    assert [problem.file for problem in data.problems] == ["row 8", "row 9"]


@pytest.mark.parametrize(
    "given",
    [
        IterableDataset(),
        {"train": IterableDataset()},
        Table(pa.table({"image": struct(2)})),
        Table(pa.table({"label": [1, 2]})),
        {},
        {"train": 3},
        [1],
    ],
    ids=["stream", "streams", "no labels", "no images", "empty", "number", "list"],
)
def test_other_objects_are_refused(given):
    refused(given)


def test_the_library_itself(tmp_path):
    library = pytest.importorskip("datasets")
    features = library.Features({"image": library.Image(), "label": library.ClassLabel(names=NAMES)})
    images = [{"bytes": png(face(number)), "path": None} for number in range(20)]
    made = library.Dataset.from_dict({"image": images, "label": labels(20)}, features=features)
    check(datasets.load(made))
    parts = library.DatasetDict({"train": made, "test": made.select([3, 1])})
    np.testing.assert_array_equal(datasets.load(parts).test.images[0, :, :, 0], face(3))
    parts.save_to_disk(tmp_path / "saved")
    assert datasets.load(tmp_path / "saved").fingerprint == datasets.load(parts).fingerprint
    made.to_parquet(tmp_path / "x.parquet")
    assert datasets.load(tmp_path / "x.parquet").fingerprint == datasets.load(made).fingerprint


# Broken twins


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"label": [0, 1]}, "image"),
        ({"image": struct(2)}, "label"),
        ({"image": [1, 2], "label": [0, 1]}, "image"),
        ({"image": struct(2), "label": [[0], [1]]}, "'label'"),
        ({"image": struct(2), "label": [b"a", b"b"]}, "'label'"),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, "rows"),
        ({}, "image"),
    ],
)
def test_unsuitable_columns_are_refused(tmp_path, columns, named):
    refused(write(tmp_path / "x.parquet", columns, names=None), named)


@pytest.mark.parametrize(
    ("column", "cells", "reason"),
    [
        ("label", [0, 1] * 3 + [9, -1], "label"),
        ("label", [0, 1] * 3 + [None, None], "label"),
        ("image", [*struct(6), None, {"bytes": None, "path": None}], "image"),
        (
            "image",
            [*struct(6), {"bytes": None, "path": "/etc/passwd"}, {"bytes": None, "path": "../x.png"}],
            "outside",
        ),
        ("image", [*struct(6), {"bytes": b"no image", "path": "a"}, {"bytes": b"", "path": "gone.png"}], ""),
        ("split", ["train", "train", "val"] * 2 + ["elsewhere", "7"], "split"),
        ("bbox", [[0, 0, 48, 48]] * 6 + [[1, 2], [0, 0, -5, 3]], "box"),
        ("bbox", [[0.0, 0, 48, 48]] * 6 + [[float("nan")] * 4, [900.0, 0, 3, 3]], "box"),
    ],
)
def test_rows_that_cannot_be_used_are_problems(tmp_path, column, cells, reason):
    columns = {"image": struct(8), "label": labels(8)} | {column: cells}
    data = datasets.load(write(tmp_path / "x.parquet", columns))
    assert sum(map(len, data.splits)) == 6
    assert [problem.file for problem in data.problems] == ["row 6", "row 7"]
    assert all(reason in problem.reason and "\n" not in problem.reason for problem in data.problems)


def test_pixels_that_are_not_numbers_of_a_square_are_problems(tmp_path):
    good = [face(number).ravel().astype(float).tolist() for number in range(6)]
    columns = {"pixels": [*good, [1.0, 2.0], [float("nan")] * 4], "label": labels(8)}
    data = datasets.load(write(tmp_path / "x.parquet", columns))
    assert [problem.file for problem in data.problems] == ["row 6", "row 7"]
    columns = {"pixels": [f"{number} 2 3 4" for number in range(7)] + ["1 2 x 4"], "label": labels(8)}
    assert len(datasets.load(write(tmp_path / "y.parquet", columns)).problems) == 1


@pytest.mark.parametrize("kept", [0, 3, 4, 100, -1, -9])
def test_truncated_files_are_refused(tmp_path, kept):
    path = write(tmp_path / "x.parquet")
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, "'x.parquet'")


@pytest.mark.parametrize("kept", [0, 3, 200, -400])
def test_truncated_arrow_files_are_refused(tmp_path, kept):
    save(tmp_path / "one")
    path = tmp_path / "one" / "data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:kept])
    refused(tmp_path / "one", "data-00000-of-00001.arrow")


@pytest.mark.parametrize("build", ["parquet", "arrow"])
def test_flipped_bytes_are_read_or_refused(tmp_path, build):
    """Damage anywhere gives a data set, perhaps with problems, or one sentence."""
    source = tmp_path / "one"
    path = write(source / "x.parquet") if build == "parquet" else save(source) / "data-00000-of-00001.arrow"
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            damaged[place] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):
            datasets.load(source)


def test_tables_that_declare_too_many_rows_are_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "x.parquet")
    monkeypatch.setattr("mien.data.contents.MAX_PIXEL_BYTES", 4 * 48 * 48)
    refused(path, "limit")


def test_a_column_twice_is_refused(tmp_path):
    table = pa.table([struct(2), [0, 1], [0, 1]], names=["image", "label", "label"])
    pq.write_table(table, tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", "'label'")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("state.json", None),
        ("state.json", "{"),
        ("state.json", "[]"),
        ("state.json", "{}"),
        ("state.json", '{"_data_files": []}'),
        ("state.json", '{"_data_files": [{"filename": "../../x.arrow"}]}'),
        ("state.json", '{"_data_files": [{"filename": "/etc/passwd"}]}'),
        ("state.json", '{"_data_files": [{"filename": "gone.arrow"}]}'),
        ("state.json", '{"_data_files": [{"filename": "a"}], "_indices_data_files": [{"filename": "b"}]}'),
        ("dataset_info.json", "nothing"),
    ],
)
def test_a_damaged_saved_data_set_is_refused(tmp_path, file, text):
    save_splits(tmp_path / "x")
    path = tmp_path / "x" / "train" / file
    path.unlink()
    if text is not None:
        path.write_text(text)
    refused(tmp_path / "x")


@pytest.mark.parametrize("text", ["{}", '{"splits": []}', '{"splits": ["../train"]}', '{"splits": "train"}'])
def test_a_damaged_list_of_splits_is_refused(tmp_path, text):
    save_splits(tmp_path / "x")
    (tmp_path / "x" / "dataset_dict.json").write_text(text)
    refused(tmp_path / "x")


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        '"text"',
        '{"file_name": "x.png"}',
        '{"label": "sad"}',
        '{"file_name": 3, "label": "sad"}',
        '{"file_name": "1.png", "label": ["sad"]}',
        '{"file_name": "/etc/passwd", "label": "sad"}',
        '{"file_name": "../1.png", "label": "sad"}',
        '{"file_name": "gone.png", "label": "sad"}',
        '{"file_name": "1.png", "label": "sad", "split": "mine"}',
        '{"file_name": "1.png", "label": "sad", "bbox": "all"}',
    ],
)
def test_lines_that_cannot_be_used_are_problems(tmp_path, line):
    lay(tmp_path, {f"{number}.png": png(face(number)) for number in range(8)})
    rows = [json.dumps({"file_name": f"{number}.png", "label": NAMES[number % 2]}) for number in range(8)]
    lay(tmp_path, {"metadata.jsonl": "\n".join([*rows, line]).encode()})
    data = datasets.load(tmp_path)
    assert sum(map(len, data.splits)) == 8
    assert len(data.problems) == 1
    lay(tmp_path, {"metadata.jsonl": line.encode()})
    refused(tmp_path / "metadata.jsonl")


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    lay(tmp_path / "outside", {"secret.png": png(face(1))})
    inside = lay(tmp_path / "inside", {"0.png": png(face(0)), "1.png": png(face(1)), "2.png": png(face(2))})
    (inside / "3.png").symlink_to(tmp_path / "outside" / "secret.png")
    write(inside / "x.parquet", {"path": [f"{number}.png" for number in range(4)], "label": labels(4)})
    data = datasets.load(inside / "x.parquet")
    assert [problem.file for problem in data.problems] == ["row 3"]


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch, capsys):
    path = write(tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra) as caught:
        datasets.load(path)
    assert caught.value.extra == "parquet"


def test_votes_are_refused(tmp_path):
    (tmp_path / "votes.csv").write_text("x")
    refused(write(tmp_path / "x.parquet"), "votes.csv", votes=tmp_path / "votes.csv")


def test_a_command_exits_with_2_for_a_damaged_file(tmp_path, capsys):
    path = write(tmp_path / "x.parquet")
    path.write_bytes(path.read_bytes()[:50])
    assert cli.run(["audit", str(path)]) == 2
    assert "x.parquet" in capsys.readouterr().err
