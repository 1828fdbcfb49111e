"""Persons and other groups: splits and folds that keep each on one side, audit, intervals by group."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import builders
from mien import api, cli
from mien.data import datasets, division, synthetic
from mien.data.contents import Contents
from mien.errors import DataError, InputError
from mien.evaluation import clusters, comparison
from mien.evaluation.evaluation import Evaluation
from mien.evaluation.metrics import compute_metrics, wilson_interval
from mien.labels import EMOTIONS
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
    assert any("test" in note for note in notes)


def test_a_person_for_each_class_cannot_be_divided():
    found = contents(range(12), [0] * 4 + [1] * 4 + [2] * 4, ["one"] * 4 + ["two"] * 4 + ["three"] * 4)
    with pytest.raises(DataError) as caught:
        division.divide(found, 1)
    assert "--split-by" in str(caught.value)
    assert set(division.divide(found, 1, "image")[0]) == {"train", "val", "test"}


def test_one_person_is_counted_in_the_refusal():
    with builders.refused(DataError, "1 person", "--split-by"):
        division.divide(contents(range(12), [0, 1] * 6, ["one"] * 12), 1)


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


def test_a_clean_copy_keeps_persons(tmp_path):
    source = lay(tmp_path / "a", pictures({"": range(20)}))
    result = api.audit(
        source, reading={"group_from": GROUP_FROM}, fix=tmp_path / "b", exclusions=tmp_path / "x.csv", size=16
    )
    copied = datasets.load(tmp_path / "b" / "persons.csv", size=16)
    assert copied.problems == ()
    material = result.report.material
    assert {name for split in copied.splits for name in persons(split)} <= {*material.groups}
    of_pixels = {image.tobytes(): name for image, name in zip(material.images, material.groups, strict=True)}
    for split in copied.splits:
        for image, name in zip(split.images, split.groups, strict=True):
            assert of_pixels[image.tobytes()] == name
    folder = datasets.load(tmp_path / "b", size=16)  # the table beside class folders does not disturb them
    assert sum(map(len, folder.splits)) == sum(map(len, copied.splits))


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


# Intervals by group


def test_images_without_a_group_are_groups_of_their_own():
    assert clusters.number_groups(("b", "a", "", "b", "")).tolist() == [0, 1, 2, 0, 3]
    assert clusters.number_groups(None) is None
    assert clusters.number_groups(("a", "a")) is None


def test_a_group_counts_like_one_image():
    right = np.random.default_rng(0).random(80) < 0.7
    single = clusters.share_interval(right, np.arange(80))
    for each in (2, 7):
        assert clusters.share_interval(right.repeat(each), np.arange(80).repeat(each)) == single
    assert single == pytest.approx(wilson_interval(int(right.sum()), 80), abs=0.03)


def test_known_intervals_of_two_groups():
    right = np.array([True] * 50 + [False] * 50)
    # Of two draws, a quarter are all right and a quarter all wrong.
    assert clusters.share_interval(right, np.repeat([0, 1], 50)) == (0.0, 1.0)
    assert clusters.share_interval(np.ones(100, bool), np.repeat([0, 1], 50)) == wilson_interval(2, 2)


def test_the_width_is_that_of_the_ratio_estimator():
    random = np.random.default_rng(3)
    sizes = random.integers(5, 40, 60)
    groups = np.repeat(np.arange(60), sizes)
    right = random.random(len(groups)) < np.repeat(random.beta(4, 2, 60), sizes)
    hits = np.bincount(groups, right)
    error = np.sqrt(((hits - right.mean() * sizes) ** 2).sum()) / sizes.sum()
    low, high = clusters.share_interval(right, groups)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert (low + high) / 2 == pytest.approx(right.mean(), abs=error / 2)


def test_intervals_by_group_hold_the_truth_where_intervals_by_image_do_not():
    random = np.random.default_rng(4)
    groups = np.arange(30).repeat(20)
    held = np.zeros(2)
    for turn in range(60):
        right = random.random(600) < random.beta(4, 12 / 7, 30).repeat(20)
        by_group, by_image = (
            clusters.share_interval(right, groups, seed=turn),
            wilson_interval(right.sum(), 600),
        )
        held += [low <= 0.7 <= high for low, high in (by_group, by_image)]
    assert held[0] >= 50
    assert held[1] <= 48


def test_percentiles_are_those_of_students_t():
    from scipy import stats

    for groups, tolerance in ((5, 0.03), (10, 0.005), (40, 0.001)):
        t = stats.t.ppf(0.975, groups - 1) * np.sqrt(groups / (groups - 1))
        assert clusters.percentiles(groups)[0] == pytest.approx(100 * stats.norm.cdf(-t), rel=tolerance)
    low, high = clusters.percentiles(10**6)
    assert (low, high) == pytest.approx((2.5, 97.5), abs=1e-4)


@given(st.integers(2, 30), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_groups_change_intervals_alone(count, seed):
    chances, labels = builders.random_answers(90, 4, seed)
    groups = np.random.default_rng(seed).integers(0, count, 90)
    numbers = clusters.number_groups([f"p{group}" for group in groups])
    if numbers is None:
        return
    found = compute_metrics(chances, labels, "abcd")
    by_group = clusters.with_group_intervals(found, chances.argmax(axis=1), labels, numbers)
    assert by_group == clusters.with_group_intervals(found, chances.argmax(axis=1), labels, numbers)
    assert by_group.interval_groups == len(set(groups.tolist()))
    assert ("unreliable" in by_group.interval_note) == (by_group.interval_groups < 10)
    named = (by_group.accuracy_interval, by_group.macro_f1_interval, by_group.balanced_accuracy_interval)
    for low, high in named:
        assert 0 <= low <= high <= 1
    for score in by_group.per_class.values():
        for low, high in filter(None, (score.recall_interval, score.precision_interval, score.f1_interval)):
            assert 0 <= low <= high <= 1
    restored = replace(
        by_group,
        interval_by="image",
        interval_groups=None,
        per_class=found.per_class,
        **{f"{name}_interval": getattr(found, f"{name}_interval") for name in ("accuracy", "macro_f1")},
        balanced_accuracy_interval=found.balanced_accuracy_interval,
    )
    assert restored == found
    assert Evaluation.from_dict(json.loads(json.dumps(by_group.to_dict()))) == by_group


@pytest.fixture(scope="module")
def photographed(tmp_path_factory) -> Path:
    """Synthetic faces in class folders, with persons p00 to p11 in their names."""
    images, labels, _ = synthetic.sample(120, seed=9)
    files: dict[str, bytes] = {}
    for number, (image, label) in enumerate(zip(images[..., 0], labels, strict=True)):
        files[f"test/{EMOTIONS[label]}/p{number % 12:02}_{number}.png"] = png(image)
    return lay(tmp_path_factory.mktemp("people") / "data", files)


def test_evaluate_resamples_groups_if_they_are_known(photographed, capsys, tmp_path):
    data = datasets.load(photographed, group_from=GROUP_FROM)
    found = api.evaluate("fast", data=data, split="test").evaluation
    assert (found.interval_by, found.interval_groups) == ("group", 12)
    by_image = api.evaluate("fast", data=data, split="test", interval_by="image").evaluation
    assert by_image.interval_by == "image"
    assert "interval_groups" not in by_image.to_dict()
    assert by_image == api.evaluate("fast", data=photographed, split="test").evaluation
    assert by_image.accuracy == found.accuracy
    assert by_image.accuracy_interval != found.accuracy_interval
    asked = ["evaluate", "fast", "--data", str(photographed), "--split", "test", "--group-from", GROUP_FROM]
    assert cli.run([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy_interval"] == list(found.accuracy_interval)
    assert cli.run(asked) == 0
    assert found.interval_note in " ".join(capsys.readouterr().out.split())
    written = api.evaluate("fast", data=data, split="test", report=tmp_path / "report").files
    page = next(Path(file) for file in written if file.endswith(".html")).read_text()
    assert found.interval_note in " ".join(page.split())
    assert cli.run([*asked, "--interval-by", "image"]) == 0
    assert "by group" not in capsys.readouterr().out


def test_intervals_by_group_need_groups(photographed):
    data = datasets.load(photographed, group_from=GROUP_FROM)
    with builders.refused(InputError, "--interval-by", "--group-from"):
        api.evaluate("fast", data=photographed, split="test", interval_by="group")
    with builders.refused(InputError, "--interval-by"):
        api.evaluate("fast", data=data, split="test", interval_by="person")
    one = replace(data, test=replace(data.split("test"), groups=("p",) * 120))
    with builders.refused(InputError, "--interval-by"):
        api.evaluate("fast", data=one, split="test", interval_by="group")
    notes: list[str] = []
    assert (
        api.evaluate("fast", data=one, split="test", on_note=notes.append).evaluation.interval_by == "image"
    )
    assert notes
    few = replace(data, test=replace(data.split("test"), groups=("p", "q", "r") * 40))
    api.evaluate("fast", data=few, split="test", on_note=notes.append)
    assert builders.has_line(notes[-1], 3)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_one_image_in_each_group_gives_mcnemars_test(only_a, only_b, neither):
    right_a = np.array([True] * only_a + [False] * (only_b + neither))
    right_b = np.array([False] * only_a + [True] * only_b + [False] * neither)
    if not len(right_a):
        return
    found = comparison.mcnemar_by_group(right_a, right_b, np.arange(len(right_a)))
    known = comparison.mcnemar(only_a, only_b)
    assert found.p == pytest.approx(known.p, rel=1e-9)
    assert (found.only_a, found.only_b, found.method) == (only_a, only_b, known.method)
    assert found.groups == only_a + only_b


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_test_by_group_counts_all_signs(seed):
    random = np.random.default_rng(seed)
    differences, groups = random.integers(-1, 2, 40), random.integers(0, 8, 40)
    sums = np.bincount(groups, differences)
    signed = [abs(np.dot(signs, sums)) for signs in itertools.product((1, -1), repeat=len(sums))]
    exact, middle, count = clusters.sign_flip_test(differences, groups)
    assert exact == pytest.approx(np.mean(np.array(signed) >= abs(sums.sum()) - 1e-9))
    assert middle <= exact
    assert count == np.count_nonzero(sums)


def test_comparisons_are_by_group_if_groups_are_known(photographed, capsys):
    data = datasets.load(photographed, group_from=GROUP_FROM)
    by_group = api.compare("default", "fast", data=data, split="test").comparison
    by_image = api.compare("default", "fast", data=data, split="test", interval_by="image").comparison
    assert by_image == api.compare("default", "fast", data=photographed, split="test").comparison
    assert (by_group.interval_by, by_group.interval_groups, by_image.interval_by) == ("group", 12, "image")
    assert by_group.mcnemar.groups is not None
    assert by_group.mcnemar.only_a == by_image.mcnemar.only_a
    assert by_group.a.evaluation.interval_by == "group"
    assert by_group.accuracy.difference == by_image.accuracy.difference
    assert by_group.accuracy.interval != by_image.accuracy.interval
    swapped = api.compare("fast", "default", data=data, split="test").comparison
    assert swapped.accuracy == comparison.reverse(by_group.accuracy)
    assert swapped.mcnemar.p == by_group.mcnemar.p
    asked = ["compare", "default", "fast", "--data", str(photographed), "--split", "test"]
    assert cli.run([*asked, "--group-from", GROUP_FROM]) == 0
    assert "by group: 12 groups" in " ".join(capsys.readouterr().out.split())
    with builders.refused(InputError, "--interval-by", "--group-from"):
        api.compare("default", "fast", data=photographed, split="test", interval_by="group")


def test_models_that_always_agree_have_an_interval_with_a_width():
    right = np.array([True, False] * 20)
    found = comparison.compare_shares(right, right, np.repeat(np.arange(10), 4))
    assert found == comparison.compare_shares(right[:10], right[:10])
    assert found.interval[0] < 0 < found.interval[1]
