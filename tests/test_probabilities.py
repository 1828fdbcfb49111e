"""Probabilities on disk."""

import dataclasses
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import refused
from mien.data import probabilities
from mien.data.probabilities import SavedPredictions
from mien.errors import DataError, OutputError

LABELS = ("angry", "happy", "sad")


def stored(n: int = 20, *, seed: int = 0, **changes: Any) -> SavedPredictions:
    rng = np.random.default_rng(seed)
    answers = {name: rng.dirichlet(np.ones(3), n).astype(np.float32) for name in ("probabilities", "ferplus")}
    return dataclasses.replace(SavedPredictions("f" * 64, LABELS, answers, "made up"), **changes)


def test_a_file_reads_back_and_its_rows_sum_to_one(tmp_path: Path) -> None:
    kept = stored(1000)
    probabilities.write(tmp_path / "p.npz", kept)
    found = probabilities.read(tmp_path / "p.npz")
    assert (found.fingerprint, found.labels, found.about) == (kept.fingerprint, LABELS, "made up")
    for name, array in found.answers.items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, kept.answers[name], atol=1e-3)
        np.testing.assert_allclose(array.sum(axis=1), 1, atol=1e-6)
    assert found.sha256 == probabilities.read(tmp_path / "p.npz").sha256 != kept.sha256


def test_seven_classes_of_fer2013_take_little_room(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    answers = {"probabilities": rng.dirichlet(np.ones(7), 28_709).astype(np.float32)}
    probabilities.write(tmp_path / "p.npz", SavedPredictions("f" * 64, tuple("abcdefg"), answers))
    assert (tmp_path / "p.npz").stat().st_size < 420_000


def test_a_mean_is_over_what_all_have() -> None:
    one, two = stored(), stored(seed=1)
    mean = probabilities.average([one, two])
    assert set(mean.answers) == {"probabilities", "ferplus"}
    np.testing.assert_allclose(
        mean.answers["ferplus"], (one.answers["ferplus"] + two.answers["ferplus"]) / 2, rtol=1e-6
    )
    alone = dataclasses.replace(two, answers={"probabilities": two.answers["probabilities"]})
    assert set(probabilities.average([one, alone]).answers) == {"probabilities"}
    with refused(DataError):
        probabilities.average([one, stored(fingerprint="e" * 64)])
    with refused(DataError):
        probabilities.average([])


def test_files_that_are_not_alike_have_no_mean() -> None:
    first = stored()
    turned = dataclasses.replace(stored(seed=1), labels=("sad", "happy", "angry"))
    with refused(DataError, "angry, happy, sad", "sad, happy, angry"):
        probabilities.average([first, turned])
    with refused(DataError):
        probabilities.average([first, stored(labels=("angry", "happy", "calm"))])
    with refused(DataError, 20, 19):
        probabilities.average([first, stored(19)])


def test_a_row_for_every_image() -> None:
    assert len(stored().of("f" * 64, LABELS, n=20)["ferplus"]) == 20
    for n in (0, 19, 21):
        with refused(DataError, "'probabilities'", 20, n):
            stored().of("f" * 64, LABELS, n=n)


def test_what_a_file_says_of_itself_is_kept_short_and_on_one_line(tmp_path: Path) -> None:
    probabilities.write(tmp_path / "p.npz", stored(about="one\ntwo\x1b[31m\u202e three" + "é" * 1000))
    about = probabilities.read(tmp_path / "p.npz").about
    assert about.startswith("onetwo[31m threeéé")
    assert len(about) == 300


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"probabilities": 0.5}, ["'probabilities'", "float64"]),
        ({"probabilities": [0.5, 0.5]}, ["float64", "(2,)"]),
        ({"probabilities": [[[0.5, 0.5]]]}, ["float64", "(1, 1, 2)"]),
        ({"probabilities": [[0.5 + 0j, 0.5]]}, ["complex128"]),
        ({"probabilities": [["0.5", "0.5"]]}, ["<U3"]),
        ({"probabilities": [[True, False]]}, ["bool"]),
        ({"probabilities": [[1e300, 0.0]]}, []),
        ({"probabilities": [[3e38, 3e38]]}, []),
        ({"probabilities": [[np.nan, 1]]}, []),
        ({"ferplus": [[0.5, 0.5], [0.5, 0.5]]}, ["'ferplus'"]),
        ({"ferplus": 1}, ["'ferplus'", "int64"]),
        ({"labels": "ab"}, ["'labels'"]),
        ({"labels": [1, 2]}, ["'labels'"]),
        ({"labels": ["a", "b\n"]}, []),
        ({"fingerprint": "\x1b[2J"}, []),
        ({"fingerprint": ["f", "f"]}, ["'fingerprint'"]),
        ({"about": 7}, ["'about'"]),
    ],
)
def test_odd_arrays_are_refused_in_one_sentence(
    tmp_path: Path, changes: dict[str, Any], says: list[str]
) -> None:
    good = {"fingerprint": "f", "labels": ["a", "b"], "about": "", "probabilities": [[0.5, 0.5]]}
    np.savez(tmp_path / "p.npz", **{name: np.array(value) for name, value in (good | changes).items()})
    with refused(DataError, "p.npz", *says) as caught:
        probabilities.read(tmp_path / "p.npz")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("table", [np.array(0.5), np.array([0.5, 0.5]), np.array([[0.5 + 0j, 0.25, 0.25]])])
def test_odd_arrays_are_not_written(tmp_path: Path, table: np.ndarray) -> None:
    with refused(DataError, "p.npz"):
        probabilities.write(tmp_path / "p.npz", stored(answers={"probabilities": table}))


def test_damage_anywhere_in_a_file_is_told_in_a_short_sentence(tmp_path: Path) -> None:
    probabilities.write(tmp_path / "p.npz", stored())
    content, rng = (tmp_path / "p.npz").read_bytes(), np.random.default_rng(0)
    refusals = []
    for _ in range(500):
        damaged = bytearray(content)
        at = int(rng.integers(len(content)))
        damaged[at : at + 8] = rng.bytes(8)
        (tmp_path / "p.npz").write_bytes(damaged)
        try:
            probabilities.read(tmp_path / "p.npz")
        except DataError as error:
            refusals.append(str(error))
    assert len(refusals) > 400
    assert all(says.isprintable() and "\\x" not in says and len(says) < 300 for says in refusals)


def test_columns_follow_the_data_and_other_data_is_refused() -> None:
    kept = stored()
    found = kept.of("f" * 64, ("sad", "angry", "happy"))
    np.testing.assert_array_equal(found["probabilities"], kept.answers["probabilities"][:, [2, 0, 1]])
    with refused(DataError, 12 * "e"):
        stored().of("e" * 64, LABELS)
    with refused(DataError, "angry, happy, sad"):
        kept.of("f" * 64, ("left", "right"))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "p.npz"),
        (lambda path: path.write_bytes(b"no"), "'p.npz'"),
        (lambda path: path.write_bytes(path.read_bytes()[:400]), "'p.npz'"),
        (lambda path: np.savez(path, labels=np.array(["a"])), "'p.npz'"),
        (lambda path: np.savez(path, fingerprint=np.array([{}], object)), "'p.npz'"),
        (
            lambda path: np.savez(path, fingerprint="f", labels=["a", "b"], about="", ferplus=[[0.5, 0.5]]),
            "'probabilities'",
        ),
        (
            lambda path: np.savez(path, fingerprint="f", labels=["a", "b"], about="", probabilities=[[1, 1]]),
            None,
        ),
        (
            lambda path: np.savez(
                path, fingerprint="f", labels=["a", "b"], about="", probabilities=[[-1.0, 2.0]]
            ),
            "'p.npz'",
        ),
        (
            lambda path: np.savez(
                path, fingerprint="f", labels=["a", "b"], about="", probabilities=[[0.0, 0.0]]
            ),
            "'p.npz'",
        ),
        (
            lambda path: np.savez(path, fingerprint="f", labels=["a", "b"], about="", probabilities=[[1.0]]),
            "'p.npz'",
        ),
    ],
)
def test_files_that_hold_none(tmp_path: Path, spoil: Callable[[Path], Any], says: str | None) -> None:
    path = tmp_path / "p.npz"
    probabilities.write(path, stored())
    spoil(path)
    if says is None:
        np.testing.assert_array_equal(probabilities.read(path).answers["probabilities"], [[0.5, 0.5]])
        return
    with refused(DataError, says):
        probabilities.read(path)


def test_a_file_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probabilities, "MAX_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("probabilities.npy", bytes(100_000))
    with refused(DataError, "bomb.npz"):
        probabilities.read(tmp_path / "bomb.npz")
    (tmp_path / "large.npz").write_bytes(bytes(20_000))
    with refused(DataError, "large.npz"):
        probabilities.read(tmp_path / "large.npz")


def test_what_are_no_probabilities_is_not_written(tmp_path: Path) -> None:
    wrong = stored(answers={"probabilities": np.ones((4, 3), np.float32)})
    with refused(DataError, "p.npz"):
        probabilities.write(tmp_path / "p.npz", wrong)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        probabilities.write(tmp_path / "file" / "p.npz", stored())
