"""Names of classes: numbers, emotions, renamed and left out classes, labels from file names."""

import inspect
import json
from functools import partial

import numpy as np
import pytest

import mien
from mien import cli
from mien.cli import common
from mien.data import datasets
from mien.data.class_names import LABEL_ORDERS, Naming, name_classes
from mien.errors import DataError, InputError
from mien.labels import EMOTIONS
from test_datasets import face, lay, png, row, zipped


def flat(names: list[str]) -> dict[str, bytes]:
    return {name: png(face(number)) for number, name in enumerate(names)}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("0 1 2 3 4 5 6", dict(enumerate(EMOTIONS))),
        (
            "1 2 3 4 5 6 7",
            {1: "surprise", 2: "fear", 3: "disgust", 6: "angry", 7: "neutral"},
        ),
        ("0 1 2 3 4 5 6 7", {0: "neutral", 1: "happy", 2: "sad", 3: "surprise", 6: "angry", 7: "contempt"}),
        ("01 07", {1: "surprise", 7: "neutral"}),
    ],
)
def test_numbers_have_the_meaning_of_the_data_set_that_uses_them(labels, expected):
    classes = name_classes(labels.split())
    for number, name in expected.items():
        index = classes.index.get(str(number), classes.index.get(f"0{number}"))
        assert classes.names[index] == name
    assert any("numbers" in note for note in classes.notes)


def test_other_numbers_are_own_classes():
    assert name_classes(["0", "12"]).names == ("0", "12")


def test_every_public_order_has_the_seven_emotions():
    for order in LABEL_ORDERS.values():
        assert set(EMOTIONS) <= set(order.values())


@pytest.mark.parametrize(
    ("order", "labels", "expected"),
    [
        ("sad,happy", "0 1", {"0": "sad", "1": "happy"}),
        ("sad,happy", "1 2", {"1": "sad", "2": "happy"}),
        ("5=sad,9=happy", "5 09", {"5": "sad", "09": "happy"}),
        ("0=sad,1=happy,2=fear", "1 2", {"1": "happy", "2": "fear"}),
    ],
)
def test_a_labels_order_names_numbers(order, labels, expected):
    classes = name_classes(labels.split(), Naming.parse(order, None))
    assert {label: classes.names[index] for label, index in classes.index.items()} == expected


@pytest.mark.parametrize(
    ("order", "rename", "labels", "named"),
    [
        ("sad,happy,fear", None, "1 2", "labels-order"),
        ("sad,happy", None, "0 2", "labels-order"),
        ("sad,happy", None, "sad happy", "labels-order"),
        ("sad,sad", None, "0 1", "labels-order"),
        ("sad,,fear", None, "0 1", "labels-order"),
        ("x=sad", None, "0 1", "labels-order"),
        (None, "sad", "sad happy", "map"),
        (None, "a=b,a=c", "a b", "map"),
        (None, "nobody=sad", "happy fear", "'nobody'"),
        (None, "a=,b=", "a b", "map"),
    ],
)
def test_names_that_do_not_fit_are_refused(order, rename, labels, named):
    with pytest.raises(DataError) as caught:
        name_classes(labels.split(), Naming.parse(order, rename))
    assert named in str(caught.value)


def test_classes_are_renamed_merged_and_left_out(tmp_path):
    folders = ("Contempt", "joy", "Sadness", "down")
    files = flat([f"{folder}/{i}.png" for folder in folders for i in range(4)])
    data = datasets.load(lay(tmp_path / "a", files), rename="contempt=,down=sad")
    assert data.labels == ("happy", "sad")
    counts = np.sum([np.bincount(split.labels, minlength=2) for split in data.splits], axis=0)
    assert counts.tolist() == [4, 8]
    assert any("4 images" in note for note in data.notes)
    same = datasets.load(zipped(tmp_path / "a.zip", files), rename={"contempt": "", "down": "sad"})
    assert same.fingerprint == data.fingerprint
    assert (
        datasets.load(source=data.origin["source"], rename=data.origin["rename"]).fingerprint
        == data.fingerprint
    )


def test_a_csv_of_pixels_takes_another_order_and_names(tmp_path):
    path = tmp_path / "a.csv"
    rows = [row(n % 3, face(n), "Training") for n in range(12)]
    path.write_text("emotion,pixels,Usage\n" + "\n".join(rows) + "\n")
    data = datasets.load(path, labels_order=("neutral", "happy", "contempt"), rename={"contempt": ""})
    assert data.labels == ("happy", "neutral")
    assert len(data.split("train")) + len(data.split("val")) == 8
    rows_there = {int(name.split()[1]) for split in data.splits for name in split.files}
    assert rows_there == {n for n in range(12) if n % 3 != 2}


def test_labels_and_groups_from_file_names(tmp_path):
    names = [
        f"{split}/p{person}_{label}_{number}.png"
        for split in ("train", "test")
        for person in range(3)
        for label in ("sad", "happy")
        for number in range(2)
    ]
    files = flat(names) | {"train/readme.png": png(face(99))}
    options = {"label_from": r"_(?P<label>[a-z]+)_", "group_from": r"(p\d)_"}
    data = datasets.load(lay(tmp_path / "a", files), **options)
    assert data.labels == ("happy", "sad")
    assert set(data.split("test").groups) == {"p0", "p1", "p2"}
    test = data.split("test")
    for name, label, group in zip(test.files, test.labels, test.groups, strict=True):
        assert name.startswith(f"test/{group}_{data.labels[label]}_")
    assert any("readme.png" in note for note in data.notes)
    assert datasets.load(zipped(tmp_path / "a.zip", files), **options).fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"label_from": "("}, "label-from"),
        ({"label_from": "[a-z]+"}, "label-from"),
        ({"label_from": "(?P<label>q+)"}, "label-from"),
        ({"group_from": "(?P<group>q+)"}, "group-from"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(tmp_path, options, named):
    source = lay(tmp_path / "a", flat(["sad/1.png", "sad/2.png", "happy/3.png", "happy/4.png"]))
    with pytest.raises(DataError) as caught:
        datasets.load(source, **options)
    assert named in str(caught.value)


def test_a_run_records_how_its_data_were_read(tmp_path, monkeypatch, capsys, small_exports):
    pytest.importorskip("tensorflow")
    names = [f"p{n % 5}_{label}_{n}.png" for n in range(20) for label in ("sad", "joy", "contempt")]
    lay(tmp_path / "a", flat(names))
    monkeypatch.chdir(tmp_path)
    reading = ["--label-from", "_(?P<label>[a-z]+)_", "--group-from", "(p[0-9])_", "--map", "contempt="]
    settings = [word for each in ("network=toy", "size=16", "epochs=1") for word in ("--set", each)]
    assert cli.run(["train", "a", *reading, *settings, "--out", "run"]) == 0
    shown = capsys.readouterr().err
    assert "contempt" not in shown.split("Examples")[1].split("·")[0]
    assert sum(name in shown for name in names) == 6
    assert cli.run(["evaluate", "run", "--json"]) == 0
    known = json.loads((tmp_path / "run/run.json").read_text())["data"]
    data = datasets.load(**known["origin"], size=16)
    assert known["splits"]["train"]["fingerprint"] == data.split("train").fingerprint
    assert data.labels == ("happy", "sad")
    # A loaded data set is found again too.
    run = mien.train(data, "quick", settings={"network": "toy", "size": 16, "epochs": 1}, out="other")
    assert mien.evaluate(run.path).evaluation.n == len(data.split("val"))


def test_options_of_reading_are_refused_where_the_data_are_loaded(tmp_path):
    names = [f"{folder}/{number}.png" for folder in ("sad", "joy") for number in range(4)]
    data = datasets.load(lay(tmp_path / "a", flat(names)))
    for call in (mien.audit, mien.train, partial(mien.compare, "fast", "default")):
        with pytest.raises(InputError) as caught:
            call(data=data, reading={"rename": "sad="})
        assert "reading" in str(caught.value)


def test_options_of_reading_are_arguments_of_load_dataset():
    arguments = set(inspect.signature(datasets.load).parameters)
    elsewhere = {"source", "images", "labels", "groups", "splits", "size", "votes", "exclude", "seed"}
    options = {common._ARGUMENTS.get(name, name) for name in common._READING}
    assert options == arguments - elsewhere - {"limits", "progress"}
    given = {"rename": "a=b", "crop_detector": "mtcnn", "votes": "x"}
    assert common.reading_words(given) == ["--map", "a=b", "--crop-detector", "mtcnn"]


def test_a_resumed_run_is_read_as_it_was(tmp_path, capsys):
    assert cli.run(["train", "--resume", str(tmp_path), "--map", "a=b", "--crop", "faces"]) == 2
    assert "--map, --crop" in capsys.readouterr().err
