"""Persons and other groups: splits and folds that keep each on one side, audit, intervals by group."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.data import datasets, division
from mien.data.contents import Contents
from mien.errors import DataError
from mien.training import folds
from test_datasets import face, lay, png

GROUP_FROM = r"(p\d+)_"


def contents(pixels, labels, groups, splits=None) -> Contents:
    """Return images; those with the same number are identical."""
    splits = splits or [""] * len(labels)
    return Contents(
        classes=("a", "b", "c"),
        faces=[np.array([[number]]).view(np.uint8) for number in pixels],
        labels=np.array(labels, np.int64),
        splits=splits,
        files=[str(place) for place in range(len(labels))],
        declared=frozenset(split for split in splits if split),
        groups=groups,
    )


def splits_of(parts, names) -> dict[str, set[str]]:
    """Return the splits of every name but the empty one."""
    found: dict[str, set[str]] = {}
    for split, members in parts.items():
        for member in members.tolist():
            found.setdefault(names[member], set()).add(split)
    found.pop("", None)
    return found


IMAGES = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 2), st.sampled_from(["", *map(str, range(12))])),
    min_size=4,
    max_size=120,
)


@given(IMAGES, st.integers(0, 2**31), st.sampled_from(["", "train"]), st.sampled_from([None, "group"]))
@settings(max_examples=150, deadline=None)
def test_a_split_keeps_people_and_identical_images_whole(images, seed, split, split_by):
    pixels, labels, groups = ([image[place] for image in images] for place in range(3))
    found = contents(pixels, labels, groups, [split] * len(images))
    try:
        parts, notes = division.divide(found, seed, split_by)
    except DataError:
        return
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(images)))
    assert all(len(splits) == 1 for splits in splits_of(parts, groups).values())
    assert all(len(splits) == 1 for splits in splits_of(parts, pixels).values())
    assert set(found.labels[parts["train"]].tolist()) == set(labels)
    assert parts["val"].size
    assert ("test" in parts) <= (split == "")
    assert not any(note.startswith("warning") for note in notes)
    again, same = division.divide(found, seed, split_by)
    assert {name: each.tolist() for name, each in again.items()} == {
        name: each.tolist() for name, each in parts.items()
    }
    assert same == notes


@given(st.integers(10, 60), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_shares_of_alike_people_are_a_tenth(people, each, seed):
    labels = [label for _ in range(people) for label in (0, 1, 2) for _ in range(each)]
    groups = [f"p{number}" for number in range(people) for _ in range(3 * each)]
    found = contents(range(len(labels)), labels, groups)
    parts, _ = division.divide(found, seed)
    for split in ("val", "test"):
        persons = len({groups[member] for member in parts[split].tolist()})
        assert abs(persons - people / 10) <= 0.5
        assert len(set(np.bincount(found.labels[parts[split]]).tolist())) == 1


@given(IMAGES, st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_a_split_exceeds_its_share_by_little_more_than_a_person(images, seed):
    pixels, labels, groups = ([image[place] for image in images] for place in range(3))
    found = contents(pixels, labels, groups)
    try:
        parts, _ = division.divide(found, seed)
    except DataError:
        return
    units = division.connect(len(images), (*division.sets_of(groups), *division.sets_of(pixels)))
    largest = max(map(len, units)) / len(images)
    for split in set(parts) - {"train"}:
        assert len(parts[split]) / len(images) <= 0.2 + largest


def test_seeds_select_other_people():
    groups = [f"p{number // 3}" for number in range(180)]
    found = contents(range(180), [number % 3 for number in range(180)], groups)
    drawn = {tuple(division.divide(found, seed)[0]["test"].tolist()) for seed in range(5)}
    assert len(drawn) > 1


def test_two_people_give_no_test_split():
    found = contents(range(12), [0, 1, 2] * 4, ["one"] * 6 + ["two"] * 6)
    parts, notes = division.divide(found, 1)
    assert {name: len(each) for name, each in parts.items()} == {"train": 6, "val": 6}
    assert "there is no test split" in notes


def test_a_person_for_each_class_cannot_be_divided():
    found = contents(range(12), [0] * 4 + [1] * 4 + [2] * 4, ["one"] * 4 + ["two"] * 4 + ["three"] * 4)
    with pytest.raises(DataError) as caught:
        division.divide(found, 1)
    assert "--split-by" in str(caught.value)
    assert set(division.divide(found, 1, "image")[0]) == {"train", "val", "test"}


def pictures(splits: dict[str, range], each: int = 2) -> dict[str, bytes]:
    """Return pictures of persons in split folders: `train/sad/p3_0.png`."""
    names = [
        f"{split}/{label}/p{person}_{number}.png"
        for split, persons in splits.items()
        for label in ("sad", "happy")
        for person in persons
        for number in range(each)
    ]
    return {name.removeprefix("/"): png(face(place)) for place, name in enumerate(names)}


def persons(split: datasets.Split) -> set[str]:
    assert split.groups is not None
    return set(split.groups)


def test_groups_divide_by_default_and_images_on_request(tmp_path):
    source = lay(tmp_path / "a", pictures({"": range(20)}))
    data = datasets.load(source, group_from=GROUP_FROM)
    counts = Counter(person for split in data.splits for person in persons(split))
    assert len(counts) == 20
    assert set(counts.values()) == {1}
    assert [len(split) for split in data.splits] == [64, 8, 8]
    images = datasets.load(source, group_from=GROUP_FROM, split_by="image")
    assert any(note.startswith("warning: ") and "--split-by" not in note for note in images.notes)
    assert images.fingerprint == datasets.load(source).fingerprint
    assert images.origin["split_by"] == "image"
    with pytest.raises(DataError) as caught:
        datasets.load(source, split_by="group")
    assert "--group-from" in str(caught.value)
    with pytest.raises(DataError):
        datasets.load(source, group_from=GROUP_FROM, split_by="person")  # type: ignore[arg-type]


def test_own_splits_with_a_person_on_two_sides_are_told_and_drawn_again(tmp_path):
    source = lay(tmp_path / "a", pictures({"train": range(17), "test": range(15, 20)}))
    data = datasets.load(source, group_from=GROUP_FROM)
    warning = next(note for note in data.notes if note.startswith("warning: "))
    assert "2 groups" in warning
    assert "'p15'" in warning
    assert "--split-by group" in warning
    assert persons(data.split("test")) == {f"p{person}" for person in range(15, 20)}
    assert not persons(data.split("val")) & persons(data.split("train"))
    again = datasets.load(source, group_from=GROUP_FROM, split_by="group")
    assert not any(note.startswith("warning: ") for note in again.notes)
    assert any("2 groups" in note and "drawn from all images" in note for note in again.notes)
    assert sum(len(persons(split)) for split in again.splits) == 20
    assert len(again.split("test")) < 20


def test_own_splits_without_a_shared_person_stay(tmp_path):
    source = lay(tmp_path / "a", pictures({"train": range(8), "val": range(8, 12), "test": range(12, 16)}))
    data = datasets.load(source, group_from=GROUP_FROM)
    assert data.fingerprint == datasets.load(source, group_from=GROUP_FROM, split_by="group").fingerprint
    assert data.fingerprint == datasets.load(source).fingerprint
    assert not any("group" in note for note in data.notes)


def split_of(labels, groups, pixels=None) -> datasets.Split:
    """Return a split of noise; images with the same number in `pixels` are identical."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (len(labels), 12, 12, 1), dtype=np.uint8)
    images = images[list(pixels if pixels is not None else range(len(labels)))]
    files = tuple(map(str, range(len(labels))))
    return datasets.Split("train", images, np.array(labels, np.int64), None, files, tuple(groups))


@given(IMAGES, st.integers(2, 5), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_a_fold_keeps_people_and_copies_whole(images, number, seed):
    copies, labels, groups = ([image[place] for image in images] for place in range(3))
    pixels = [copies.index(each) for each in copies]
    split = split_of(labels, groups, pixels)
    names = ("a", "b", "c")
    if len(set(labels)) < 3:
        return
    try:
        parts = folds.assign_folds(split, names, number, seed=seed)
    except DataError:
        return
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(images)))
    by_name = {str(place): part for place, part in enumerate(parts)}
    assert all(len(found) == 1 for found in splits_of(by_name, groups).values())
    assert all(len(found) == 1 for found in splits_of(by_name, pixels).values())
    for part in parts:
        assert set(np.delete(split.labels, part).tolist()) == {0, 1, 2}
        assert part.size
    again = folds.assign_folds(split, names, number, seed=seed)
    assert [part.tolist() for part in again] == [part.tolist() for part in parts]


def test_folds_of_alike_people_are_even():
    labels = [label for _ in range(20) for label in (0, 1, 2)]
    parts = folds.assign_folds(
        split_of(labels, [f"p{place // 3}" for place in range(60)]), ("a", "b", "c"), 5, seed=3
    )
    assert [len(part) for part in parts] == [12] * 5
    assert all(np.bincount(np.array(labels)[part]).tolist() == [4, 4, 4] for part in parts)


@pytest.mark.parametrize(
    ("labels", "groups"),
    [([0, 1, 2] * 4, ["one"] * 6 + ["two"] * 6), ([0] * 6 + [1, 2] * 6, ["p"] * 6 + list("abcdef") * 2)],
)
def test_folds_need_enough_groups_of_every_class(labels, groups):
    with pytest.raises(DataError) as caught:
        folds.assign_folds(split_of(labels, groups), ("a", "b", "c"), 3, seed=0)
    assert "folds" in str(caught.value)
