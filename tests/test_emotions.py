"""Names of emotions, their one order, and how others spell them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.labels import EMOTIONS, FERPLUS_COLUMNS, VOTES, brief, canonical, order


def test_the_order_is_that_of_fer2013() -> None:
    assert EMOTIONS == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert [canonical(str(number)) for number in range(7)] == list(EMOTIONS)


@pytest.mark.parametrize(
    ("spelling", "emotion"),
    [
        ("Happy", "happy"),
        (" happiness ", "happy"),
        ("3_happy", "happy"),
        ("3. Happiness", "happy"),
        ("03-joy", "happy"),
        ("Anger", "angry"),
        ("DISGUSTED", "disgust"),
        ("scared", "fear"),
        ("Sadness", "sad"),
        ("surprised", "surprise"),
        ("calm", "neutral"),
        ("00", "angry"),
    ],
)
def test_usual_spellings_are_known(spelling: str, emotion: str) -> None:
    assert canonical(spelling) == emotion


@pytest.mark.parametrize("word", ["", "7", "99", "contempt", "cat", "happy face", "_", "3_", "²"])
def test_anything_else_is_no_emotion(word: str) -> None:
    assert canonical(word) is None


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    assert canonical(text) in {None, *EMOTIONS}


@given(st.permutations(["Anger", "disgust", "Fear", "happiness", "sad", "Surprise", "neutral"]))
def test_emotions_come_into_their_order_however_they_are_spelt(names: list[str]) -> None:
    assert order(names) == EMOTIONS


def test_other_classes_are_kept_as_spelt_in_alphabetical_order() -> None:
    assert order(["tired", "Awake"]) == ("Awake", "tired")
    assert order(["happy", "tired"]) == ("happy", "tired")
    assert order(["happy", "joy"]) == ("happy", "joy")
    assert order(["sad", "happy"]) == ("happy", "sad")
    assert order([]) == ()


def test_votes_are_the_emotions_and_what_ferplus_adds() -> None:
    assert VOTES[:7] == EMOTIONS
    assert sorted(FERPLUS_COLUMNS.values()) == sorted(VOTES)


def test_short_names_stay_as_they_are() -> None:
    assert brief(EMOTIONS, 8) == list(EMOTIONS)
    assert brief(["contemptuous", "happy"], 8) == ["contemp…", "happy"]


def test_names_that_begin_alike_stay_different() -> None:
    shown = brief(["surprised_low", "surprised_high", "sad"], 8)
    assert shown == ["surpri…w", "surpri…h", "sad"]
    same_ends = brief(["surprised_a_face", "surprised_b_face"], 8)
    assert same_ends == ["surpri…1", "surpri…2"]


@given(st.lists(st.text("abc_", min_size=1, max_size=30), max_size=40, unique=True), st.integers(5, 12))
def test_shortened_names_are_different_and_short(names: list[str], most: int) -> None:
    shown = brief(names, most)
    assert len(set(shown)) == len(names)
    for name, short in zip(names, shown, strict=True):
        assert len(short) <= most
        assert short == name or "…" in short
