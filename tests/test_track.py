"""People keep their numbers through crossings, losses and uneven frames, and flicker is taken out in time."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from mien.types import Box, Face
from mien.vision import tracking

EVEN = {"angry": 0.25, "happy": 0.75}


def face(x: float, y: float = 100, width: float = 60, scores: dict[str, float] | None = None) -> Face:
    """A face whose middle is at (x, y)."""
    side = max(1, round(width))
    return Face(Box(round(x - side / 2), round(y - side / 2), side, side), 0.9, scores or EVEN)


def numbers(tracker: tracking.Tracker, time: float, *faces: Face) -> tuple[int, ...]:
    return tuple(each.track for each in tracker.update(time, faces))


def test_numbers_count_from_one_in_the_order_given() -> None:
    tracker = tracking.Tracker()
    assert numbers(tracker, 0, face(100), face(300)) == (1, 2)
    assert numbers(tracker, 0.04, face(302), face(101)) == (2, 1)
    assert numbers(tracker, 0.08, face(500), face(101), face(303)) == (3, 1, 2)
    assert numbers(tracker, 0.12) == ()


@pytest.mark.parametrize("rate", [10, 25, 60])
@pytest.mark.parametrize("apart", [0, 25])
@pytest.mark.parametrize("seed", range(4))
def test_two_who_cross_keep_their_numbers_though_one_hides_the_other(
    rate: int, apart: float, seed: int
) -> None:
    """The one behind is not found while the faces overlap by half; the boxes jitter as a detector's do."""
    random = np.random.default_rng(seed)
    tracker, found = tracking.Tracker(), []
    for step in range(4 * rate):
        time = step / rate
        one, other = 100 + 100 * time, 500 - 100 * time
        here = [face(one + random.normal(0, 1.5), 100 + random.normal(0, 1.5), 60)]
        if abs(one - other) > 40:
            here.append(face(other + random.normal(0, 1.5), 100 + apart, 60))
        found.append(numbers(tracker, time, *here))
    assert found[0] == found[-1] == (1, 2)
    assert set(found) == {(1, 2), (1,)}


@pytest.mark.parametrize("lost", [0.1, 0.5, 0.9])
def test_short_losses_keep_the_number_and_long_ones_end_it(lost: float) -> None:
    tracker = tracking.Tracker()
    for step in range(25):
        assert numbers(tracker, step / 25, face(100 + 2 * step)) == (1,)
    for step in range(25, 25 + round(25 * lost)):
        assert numbers(tracker, step / 25) == ()
    after = 25 + round(25 * lost)
    assert numbers(tracker, after / 25, face(100 + 2 * after)) == (1,)
    for step in range(after + 1, after + 29):
        numbers(tracker, step / 25)
    assert numbers(tracker, (after + 29) / 25, face(100 + 2 * after)) == (2,)


def test_one_who_leaves_does_not_take_the_number_of_one_who_stays() -> None:
    tracker = tracking.Tracker()
    for step in range(20):
        numbers(tracker, step / 25, face(100 + 3 * step), face(400))
    for step in range(20, 40):
        assert numbers(tracker, step / 25, face(400)) == (2,)


def test_frames_far_apart_still_keep_a_person() -> None:
    tracker = tracking.Tracker()
    assert [numbers(tracker, 2.0 * step, face(100 + 20 * step))[0] for step in range(6)] == [1] * 6
    assert numbers(tracker, 10 + 10.1 * tracker.max_gap, face(200)) == (2,)


def test_one_far_away_or_of_another_size_is_somebody_else() -> None:
    tracker = tracking.Tracker()
    numbers(tracker, 0, face(100))
    assert numbers(tracker, 0.5, face(100, width=130)) == (2,)
    assert numbers(tracker, 1.0, face(100 + 2.6 * 130, width=130)) == (3,)


def test_time_that_runs_backwards_is_another_recording() -> None:
    tracker = tracking.Tracker()
    assert numbers(tracker, 5, face(100)) == (1,)
    assert numbers(tracker, 1, face(100)) == (2,)


def test_looks_in_vain_change_nothing_but_how_long_one_is_missed() -> None:
    first, second = tracking.Tracker(), tracking.Tracker()
    for tracker in (first, second):
        for step in range(5):
            tracker.update(step / 25, [face(100 + 4 * step)])
    for step in range(5, 9):
        first.update(step / 25, [])
    assert first.expect(0.4, width=640, height=360) == second.expect(0.4, width=640, height=360)
    assert first.update(0.4, [face(140)]) == second.update(0.4, [face(140)])


def test_expected_boxes_follow_the_motion_and_stay_inside_the_frame() -> None:
    tracker = tracking.Tracker()
    for step in range(26):
        tracker.update(step / 25, [face(100 + 4 * step, width=60)])
    assert tracker.expect(1.0, width=640, height=360)[1].left == pytest.approx(170, abs=2)
    assert tracker.expect(1.5, width=640, height=360)[1].left == pytest.approx(220, abs=4)
    cut = tracker.expect(1.5, width=250, height=90)[1]
    assert cut.left + cut.width == 250
    assert cut.top + cut.height == 90
    assert tracker.expect(1.5, width=100, height=90) == {}
    assert tracker.expect(12, width=640, height=360) == {}


@given(
    st.lists(
        st.tuples(
            st.floats(0, 0.5),
            st.lists(st.tuples(st.integers(0, 600), st.integers(0, 300), st.integers(1, 200)), max_size=5),
        ),
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_comes_no_frame_has_a_number_twice_and_scores_sum_to_one(
    frames: list[tuple[float, list[tuple[int, int, int]]]],
) -> None:
    tracker, again, time = tracking.Tracker(), tracking.Tracker(), 0.0
    for gap, places in frames:
        time += gap
        faces = [face(x, y, width) for x, y, width in places]
        people = tracker.update(time, faces)
        assert people == again.update(time, faces)
        assert [each.face for each in people] == faces
        assert len({each.track for each in people}) == len(faces)
        for each in people:
            assert sum(each.smoothed.values()) == pytest.approx(1)


def test_smoothing_goes_by_time_and_not_by_frames() -> None:
    start, new = {"angry": 1.0, "happy": 0.0}, {"angry": 0.0, "happy": 1.0}
    for rate in (5, 30, 120):
        scores = start
        for _ in range(rate):
            scores = tracking.smooth(scores, new, 1 / rate, smoothing=0.5)
        assert scores["happy"] == pytest.approx(1 - math.exp(-2))
    assert tracking.smooth(start, new, 1e9) == new
    assert tracking.smooth(start, new, 0) == start
    assert tracking.smooth(start, new, 0.01, smoothing=0) == new


def test_flicker_is_taken_out_and_the_raw_answer_kept() -> None:
    tracker = tracking.Tracker()
    happy, angry = {"angry": 0.1, "happy": 0.9}, {"angry": 0.8, "happy": 0.2}
    seen = []
    for step in range(50):
        (person,) = tracker.update(step / 25, [face(100, scores=angry if step == 25 else happy)])
        seen.append((person.face.emotion, person.emotion))
    assert [raw for raw, _ in seen].count("angry") == 1
    assert {smoothed for _, smoothed in seen} == {"happy"}
    document = person.to_dict()
    assert document["emotion"] == document["smoothed"]["emotion"] == "happy"
    assert document["track"] == 1
    assert document["smoothed"]["confidence"] == document["smoothed"]["scores"]["happy"] == person.confidence


def test_a_smoothed_answer_below_the_threshold_is_uncertain() -> None:
    happy, angry = {"angry": 0.1, "happy": 0.9}, {"angry": 0.9, "happy": 0.1}
    tracker, without = tracking.Tracker(threshold=0.8), tracking.Tracker()
    seen = []
    for step, scores in enumerate([happy, happy, angry, angry, angry, angry]):
        (person,) = tracker.update(0.5 * step, [face(100, scores=scores)])
        (other,) = without.update(0.5 * step, [face(100, scores=scores)])
        assert person.uncertain == (person.confidence < 0.8)
        assert person.to_dict()["smoothed"]["uncertain"] == person.uncertain
        assert not other.uncertain
        seen.append(person.uncertain)
    # On the way from one sure answer to the other, the smoothed answer is unsure.
    assert seen == [False, False, True, True, False, False]


def test_overlap_is_the_shared_part_of_the_union() -> None:
    one = Box(0, 0, 10, 10)
    assert tracking.overlap(one, one) == 1
    assert tracking.overlap(one, Box(5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert tracking.overlap(one, Box(10, 0, 10, 10)) == tracking.overlap(one, Box(0, 30, 5, 5)) == 0


@pytest.mark.parametrize("seed", range(30))
def test_pairs_are_as_many_and_as_cheap_as_another_implementation_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, columns = random.integers(0, 7, 2)
    costs = random.uniform(0, 20, (rows, columns))
    costs[random.random(costs.shape) < 0.4] = np.inf
    pairs = tracking._assign(costs.tolist(), columns)
    assert len(dict(pairs)) == len({column for _, column in pairs}) == len(pairs)
    padded = np.hstack([np.where(np.isinf(costs), 1e6, costs), np.full((rows, rows), 1e6)])
    for row in range(rows):
        padded[row, columns + row] = 1e3
    best = padded[linear_sum_assignment(padded)].sum()
    ours = sum(costs[row, column] for row, column in pairs) + 1e3 * (rows - len(pairs))
    assert ours == pytest.approx(best)


def test_many_people_at_once_keep_their_numbers() -> None:
    tracker = tracking.Tracker()
    places = list(itertools.product(range(50, 1000, 100), range(50, 500, 100)))
    first = numbers(tracker, 0, *(face(x, y) for x, y in places))
    moved = [face(x + 9, y - 9) for x, y in reversed(places)]
    assert numbers(tracker, 0.04, *moved) == tuple(reversed(first))
