import dataclasses
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from builders import refused
from mien.data import synthetic
from mien.errors import DataError, OutputError
from mien.labels import EMOTIONS

# One head at rest, so that what differs between two faces is their actions.
REST = dataclasses.replace(synthetic.describe("neutral", seed=11), actions=synthetic.Actions())
REST = dataclasses.replace(
    REST,
    head=dataclasses.replace(REST.head, lopsided=0.0, mouth_bow=0.0, glasses=0.0, beard=0.0, hair="none"),
    view=dataclasses.replace(REST.view, roll=0.0, yaw=0.0, pitch=0.0, right=0.0, down=0.0, cover=None),
    light=dataclasses.replace(
        REST.light, toward=(0.0, 0.0, 1.0), background=(128.0, 128.0), noise=0.0, blur=0.0
    ),
)


def acting(**actions):
    return dataclasses.replace(REST, actions=synthetic.Actions(**actions))


def move(point, axis, **actions):
    """How far a landmark moves when the face at rest acts: axis 0 to the right, 1 down."""
    return synthetic.landmarks(acting(**actions))[point][axis] - synthetic.landmarks(REST)[point][axis]


def height(face, upper, lower):
    at = synthetic.landmarks(face)
    return at[lower][1] - at[upper][1]


def smile(face):
    """How far the mouth's corners lie above its middle."""
    at = synthetic.landmarks(face)
    corners = (at["left_mouth"][1] + at["right_mouth"][1]) / 2
    return (at["lip_upper"][1] + at["lip_lower"][1]) / 2 - corners


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_face_is_grey_levels_that_use_the_range(emotion):
    image = synthetic.face(emotion, seed=3)
    assert image.shape == (48, 48)
    assert image.dtype == np.uint8
    assert image.std() > 20
    assert image.max() - image.min() > 100


def test_same_seed_draws_the_same_face_and_another_seed_another():
    first = synthetic.face("happy", seed=5)
    assert np.array_equal(first, synthetic.face("happy", seed=5))
    assert not np.array_equal(first, synthetic.face("happy", seed=6))


def test_emotion_alone_changes_the_face():
    assert not np.array_equal(synthetic.face("happy", seed=5), synthetic.face("sad", seed=5))


@pytest.mark.parametrize("size", [16, 48, 96])
def test_size_scales_the_same_face(size):
    quiet = dataclasses.replace(REST, actions=synthetic.Actions(au12=1.0, au25=1.0))
    image = synthetic.paint(quiet, size=size)
    assert image.shape == (size, size)
    small = Image.fromarray(image).resize((16, 16), Image.Resampling.BOX)
    wanted = Image.fromarray(synthetic.paint(quiet, size=64)).resize((16, 16), Image.Resampling.BOX)
    difference = np.asarray(small, float) - np.asarray(wanted, float)
    assert np.abs(difference).mean() < 8


@pytest.mark.parametrize(
    ("hair", "beard", "glasses"), [("none", 0, 0), ("long", 0.8, 0), ("fringe", 0, 0.04)]
)
def test_symmetric_face_in_frontal_light_is_its_own_mirror_image(hair, beard, glasses):
    face = acting(au1=0.7, au5=0.5, au12=0.8, au25=0.6)
    head = dataclasses.replace(face.head, gaze=(0.0, 0.0), hair=hair, beard=beard, glasses=glasses)
    face = dataclasses.replace(face, head=head)
    image = synthetic.paint(face).astype(float)
    # The painted strokes round half a fine pixel to one side; the eyes' glints lie to the right.
    assert np.abs(image - image[:, ::-1]).mean() < 1.5
    light = dataclasses.replace(face.light, toward=(0.8, 0.0, 0.6))
    lit = synthetic.paint(dataclasses.replace(face, light=light)).astype(float)
    assert np.abs(lit - lit[:, ::-1]).mean() > 12
    assert lit[18:30, 30:40].mean() > lit[18:30, 8:18].mean() + 20


def test_yaw_and_roll_turn_the_head():
    def painted(**view):
        return synthetic.paint(dataclasses.replace(REST, view=dataclasses.replace(REST.view, **view)))

    straight = painted()
    turned_right, turned_left = painted(yaw=0.4).astype(float), painted(yaw=-0.4).astype(float)
    assert np.abs(turned_right - straight).mean() > 5
    assert np.abs(turned_right - turned_left[:, ::-1]).mean() < 8
    assert np.abs(painted(roll=0.3).astype(float) - straight).mean() > 5


@pytest.mark.parametrize(
    ("action", "point", "axis", "sign"),
    [
        ("au1", "left_brow_inner", 1, -1),
        ("au2", "left_brow_outer", 1, -1),
        ("au4", "left_brow_inner", 1, 1),
        ("au4", "left_brow_inner", 0, 1),
        ("au4", "right_brow_inner", 0, -1),
        ("au5", "left_lid_upper", 1, -1),
        ("au6", "left_lid_lower", 1, -1),
        ("au7", "left_lid_upper", 1, 1),
        ("au7", "left_lid_lower", 1, -1),
        ("au9", "left_nostril", 1, -1),
        ("au10", "lip_top", 1, -1),
        ("au12", "left_mouth", 1, -1),
        ("au12", "left_mouth", 0, -1),
        ("au12", "right_mouth", 0, 1),
        ("au15", "left_mouth", 1, 1),
        ("au17", "lip_lower", 1, -1),
        ("au20", "left_mouth", 0, -1),
        ("au23", "left_mouth", 0, 1),
        ("au23", "lip_top", 1, 1),
        ("au24", "lip_bottom", 1, -1),
        ("au25", "lip_lower", 1, 1),
        ("au26", "chin", 1, 1),
    ],
)
def test_action_moves_what_its_muscle_moves(action, point, axis, sign):
    half, full = move(point, axis, **{action: 0.5}), move(point, axis, **{action: 1.0})
    assert sign * half > 0.005
    assert sign * full > sign * half


@pytest.mark.parametrize("action", [field.name for field in dataclasses.fields(synthetic.Actions)])
def test_every_action_shows_in_the_pixels(action):
    difference = synthetic.paint(acting(**{action: 1.0})).astype(float) - synthetic.paint(REST)
    assert np.abs(difference).max() > 15


def test_stronger_half_moves_further():
    face = acting(au12=0.6)
    face = dataclasses.replace(face, head=dataclasses.replace(face.head, lopsided=0.2))
    at = synthetic.landmarks(face)
    assert at["right_mouth"][1] < at["left_mouth"][1]
    assert at["right_mouth"][0] > -at["left_mouth"][0]


def test_emotions_look_as_their_prototypes_say():
    faces = {emotion: [synthetic.describe(emotion, seed=(7, i)) for i in range(40)] for emotion in EMOTIONS}

    def mean(measure, emotion):
        return np.mean([measure(face) for face in faces[emotion]])

    assert all(smile(face) > 0.05 for face in faces["happy"])
    assert mean(smile, "sad") < -0.05
    assert abs(mean(smile, "neutral")) < 0.06
    for part in ("left", "right"):

        def eye(face, part=part):
            return height(face, f"{part}_lid_upper", f"{part}_lid_lower")

        def tilt(face, part=part):
            return height(face, f"{part}_brow_inner", f"{part}_brow_middle")

        assert mean(eye, "surprise") > 1.3 * mean(eye, "neutral") > 1.3 * mean(eye, "happy")
        assert mean(tilt, "sad") > mean(tilt, "neutral") + 0.05
        assert mean(tilt, "angry") < mean(tilt, "neutral") - 0.03
    assert all(height(face, "lip_upper", "lip_lower") > 0.2 for face in faces["surprise"])


def test_drawn_actions_show_the_prototype_and_stay_in_range():
    for emotion, prototype in synthetic.PROTOTYPES.items():
        for index in range(30):
            levels = dataclasses.asdict(synthetic.describe(emotion, seed=(1, index)).actions)
            assert all(0 <= level <= 1 for level in levels.values())
            assert all(levels[name] > 0.4 for name in prototype.always)
            others = set(levels) - set(prototype.always) - set(prototype.sometimes) - {"au25"}
            assert all(levels[name] < 0.3 for name in others)


def test_prototypes_cover_every_emotion_and_differ():
    assert tuple(sorted(synthetic.PROTOTYPES)) == tuple(sorted(EMOTIONS))
    assert len({prototype.always for prototype in synthetic.PROTOTYPES.values()}) == len(EMOTIONS)


def test_sample_is_balanced_and_its_types_are_a_data_sets():
    images, labels, truth = synthetic.sample(50, seed=0)
    assert images.shape == (50, 48, 48, 1)
    assert images.dtype == np.uint8
    assert labels.dtype == truth.dtype == np.int64
    counts = np.bincount(truth, minlength=7)
    assert counts.max() - counts.min() <= 1


def test_face_of_an_index_follows_from_seed_and_index_alone():
    short, long = synthetic.sample(9, seed=4), synthetic.sample(20, seed=4)
    for few, many in zip(short, long, strict=True):
        assert np.array_equal(few, many[:9])
    other = synthetic.sample(9, seed=5)[0]
    assert all(not np.array_equal(one, two) for one, two in zip(short[0], other, strict=True))
    assert len({image.tobytes() for image in long[0]}) == 20
    again = synthetic.paint(synthetic.describe(EMOTIONS[19 % 7], seed=(4, 19)))
    assert np.array_equal(long[0][19, :, :, 0], again)


def test_label_noise_is_the_share_asked_for_and_leaves_pixels_alone():
    clean = synthetic.sample(280, seed=2, size=16, label_noise=0.0)
    noisy = synthetic.sample(280, seed=2, size=16, label_noise=0.3)
    assert np.array_equal(clean[1], clean[2])
    assert np.array_equal(clean[0], noisy[0])
    wrong = noisy[1] != noisy[2]
    assert 0.2 < wrong.mean() < 0.4
    # Every other emotion is given, not only a neighbour.
    assert len({(int(a - b)) % 7 for a, b in zip(noisy[1][wrong], noisy[2][wrong], strict=True)}) == 6
    all_wrong = synthetic.sample(70, seed=2, size=16, label_noise=1.0)
    assert not np.any(all_wrong[1] == all_wrong[2])


def test_progress_ends_at_the_total():
    calls = []
    synthetic.sample(130, seed=0, size=16, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(100, 130), (130, 130)]


def test_archive_has_the_layout_and_holds_the_sample(tmp_path):
    path = synthetic.write_archive(tmp_path / "new" / "drawn.zip", train=14, val=7, test=8, seed=1)
    images, labels, _ = synthetic.sample(29, seed=1)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        for index, name in enumerate(names):
            split = "train" if index < 14 else "val" if index < 21 else "test"
            assert name == f"data/{split}/{EMOTIONS[labels[index]]}/{index:06}.png"
            with Image.open(io.BytesIO(archive.read(name))) as image:
                assert image.mode == "L"
                assert np.array_equal(np.asarray(image), images[index, :, :, 0])
    assert len(names) == 29
    assert [file.name for file in path.parent.iterdir()] == ["drawn.zip"]


def test_archive_bytes_follow_from_the_arguments(tmp_path):
    one = synthetic.write_archive(tmp_path / "one.zip", train=7, val=0, test=7, seed=1).read_bytes()
    two = synthetic.write_archive(tmp_path / "two.zip", train=7, val=0, test=7, seed=1).read_bytes()
    other = synthetic.write_archive(tmp_path / "one.zip", train=7, val=0, test=7, seed=2).read_bytes()
    assert one == two
    assert one != other
    assert (tmp_path / "one.zip").read_bytes() == other


def test_archive_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "drawn.zip").mkdir()
    with refused(OutputError, "drawn.zip"):
        synthetic.write_archive(tmp_path / "drawn.zip", train=7, val=0, test=0, seed=0)
    assert [file.name for file in tmp_path.iterdir()] == ["drawn.zip"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: synthetic.face("contempt", seed=0), "'contempt'"),
        (lambda path: synthetic.face("happy", seed=-1), "-1"),
        (lambda path: synthetic.describe("happy", seed=(0, -2)), "-2"),
        (lambda path: synthetic.face("happy", seed=0, size=0), "size"),
        (lambda path: synthetic.sample(7, seed=-1), "-1"),
        (lambda path: synthetic.sample(0, seed=-1), "-1"),
        (lambda path: synthetic.sample(-1, seed=0), "-1"),
        (lambda path: synthetic.sample(7, seed=0, size=0), "size"),
        (lambda path: synthetic.sample(7, seed=0, label_noise=1.5), "1.5"),
        (lambda path: synthetic.sample(7, seed=0, label_noise=float("nan")), "nan"),
        (
            lambda path: synthetic.write_archive(path, train=7, val=-2, test=0, seed=0),
            "-2",
        ),
    ],
)
def test_bad_arguments_are_named(tmp_path, call, message):
    with refused(DataError, message):
        call(tmp_path / "drawn.zip")
    assert not list(tmp_path.iterdir())


def test_empty_sample_is_empty():
    images, labels, truth = synthetic.sample(0, seed=0)
    assert images.shape == (0, 48, 48, 1)
    assert len(labels) == len(truth) == 0


@pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.{ConvergenceWarning.__name__}")
def test_linear_model_does_not_see_the_emotions():
    images, labels, _ = synthetic.sample(1000, seed=0)
    pixels = images.reshape(len(images), -1) / np.float32(255)
    model = LogisticRegression(max_iter=20).fit(pixels[:700], labels[:700])
    assert model.score(pixels[700:], labels[700:]) < 0.45


@pytest.mark.slow
def test_demos_network_sees_them():
    script = Path(__file__).parent.parent / "benchmarks" / "synthetic_difficulty.py"
    done = subprocess.run(
        [sys.executable, script, "--seeds", "0"], capture_output=True, text=True, check=True
    )
    row = json.loads(done.stdout)
    assert row["linear_accuracy"] < 0.45
    assert 0.85 < row["network_accuracy"] < 0.97
