"""Augmentation: pure, exact where nothing is interpolated, and spread as the settings say."""

import hashlib
import json
import subprocess
import sys
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from builders import refused
from mien.errors import DataError, MissingExtra, RecipeError
from mien.training import augmentation
from mien.training.recipes import Augment

SEED_SET = Augment(rotation=10, zoom=0.1, flip=True)
EVERYTHING = Augment(
    rotation=20,
    zoom=0.2,
    shift=0.1,
    flip=True,
    brightness=0.2,
    contrast=0.3,
    blur=0.02,
    gamma=0.3,
    resolution=0.5,
    noise=0.05,
    erase=0.5,
    fill="reflect",
    interpolation="cubic",
)


def noise(count: int, size: int = 48) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, size, size, 1), np.uint8)


def still(count: int) -> augmentation.Changes:
    """Changes that change nothing."""
    return augmentation.draw_changes(np.arange(count), Augment(), size=48, seed=0, epoch=0)


def draw(chosen: Augment, count: int = 20_000, seed: int = 1, epoch: int = 0) -> augmentation.Changes:
    return augmentation.draw_changes(np.arange(count), chosen, size=48, seed=seed, epoch=epoch)


def dot(x: int, y: int, size: int = 49) -> np.ndarray:
    """One image with a bright spot five pixels wide, soft enough to interpolate well, about (x, y)."""
    rows, columns = np.mgrid[:size, :size]
    spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 4.0)
    return np.rint(spot).astype(np.uint8)[np.newaxis, ..., np.newaxis]


def place(face: np.ndarray) -> tuple[float, float]:
    """Where the light of a face is centred: (x, y)."""
    y, x = ndimage.center_of_mass(face[..., 0].astype(float))
    return float(x), float(y)


def spread_evenly(values: np.ndarray, low: float, high: float) -> bool:
    return bool(stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-4)


# Purity


@pytest.mark.parametrize("chosen", [SEED_SET, EVERYTHING])
def test_an_image_changes_alike_in_every_batch(chosen):
    images = noise(60)
    whole = augmentation.augment_batch(images, np.arange(60), chosen, seed=3, epoch=2)
    order = np.random.default_rng(0).permutation(60)
    shuffled = augmentation.augment_batch(images, order, chosen, seed=3, epoch=2)
    assert np.array_equal(shuffled, whole[order])
    for index in (0, 17, 59):
        alone = augmentation.augment_batch(images, np.array([index]), chosen, seed=3, epoch=2)
        assert np.array_equal(alone[0], whole[index])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 39), max_size=50), st.integers(0, 2**63 - 1), st.integers(0, 10_000))
def test_any_choice_of_indices_is_the_same_rows_of_the_whole(chosen, seed, epoch):
    images = noise(40, 16)
    whole = augmentation.augment_batch(images, np.arange(40), EVERYTHING, seed=seed, epoch=epoch)
    indices = np.array(chosen, np.int32)
    assert np.array_equal(
        augmentation.augment_batch(images, indices, EVERYTHING, seed=seed, epoch=epoch), whole[indices]
    )


def test_another_process_makes_the_same_pixels():
    code = """
import hashlib, json, numpy as np
from mien.training import augmentation
from mien.training.recipes import Augment
images = np.random.default_rng(7).integers(0, 256, (50, 48, 48, 1), np.uint8)
light = {"brightness": 0.2, "contrast": 0.3, "blur": 0.02, "noise": 0.05, "erase": 0.5}
light |= {"gamma": 0.3, "resolution": 0.5}
settings = Augment(rotation=20, zoom=0.2, shift=0.1, flip=True, **light)
made = augmentation.augment_batch(images, np.arange(50)[::-1], settings, seed=5, epoch=9)
print(json.dumps(hashlib.sha256(made[::-1].tobytes()).hexdigest()))
"""
    answers = [
        json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
        for _ in range(2)
    ]
    chosen = replace(EVERYTHING, fill="nearest", interpolation="linear")
    here = augmentation.augment_batch(noise(50), np.arange(50), chosen, seed=5, epoch=9)
    assert answers == [hashlib.sha256(here.tobytes()).hexdigest()] * 2


def test_the_numbers_are_those_of_splitmix64():
    """Python's own integers, which round nowhere, must give the same hash."""

    def mix(word):
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
        return word ^ word >> 31

    weyl = 0x9E3779B97F4A7C15
    # The first output of SplitMix64 from state 0, as its authors' reference code prints it.
    assert mix(weyl) == 0xE220A8397B1DCDAF
    state = 0
    for part in (42, 3, 28_708):
        state = mix(((state ^ part) + weyl) % 2**64)
    rotation = mix((state + weyl) % 2**64) / 2**64
    changes = augmentation.draw_changes(np.array([28_708]), Augment(rotation=180), size=48, seed=42, epoch=3)
    assert changes.rotation[0] == pytest.approx(180 * (2 * rotation - 1), abs=1e-12)


def test_seeds_and_epochs_differ_and_the_images_given_stay_as_they_were():
    images = noise(30)
    before = images.copy()
    made = {
        key: augmentation.augment_batch(images, np.arange(30), EVERYTHING, seed=key[0], epoch=key[1])
        for key in [(0, 0), (0, 1), (1, 0), (1, 1), (2**31 - 1, 0)]
    }
    assert np.array_equal(images, before)
    keys = list(made)
    for number, first in enumerate(keys):
        for second in keys[number + 1 :]:
            assert (made[first] != made[second]).any(axis=(1, 2, 3)).all()


def test_the_same_image_twice_in_a_batch_is_changed_alike():
    made = augmentation.augment_batch(noise(4), np.array([2, 2]), EVERYTHING, seed=0, epoch=0)
    assert np.array_equal(made[0], made[1])


def test_threads_agree_and_opencv_gets_its_threads_back():
    images = noise(200)
    alone = augmentation.augment_batch(images, np.arange(200), EVERYTHING, seed=0, epoch=0)
    before = cv2.getNumThreads()
    made: list[np.ndarray] = []

    def work() -> None:
        made.extend(
            augmentation.augment_batch(images, np.arange(200), EVERYTHING, seed=0, epoch=0) for _ in range(5)
        )

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(made) == 20
    assert all(np.array_equal(alone, faces) for faces in made)
    assert cv2.getNumThreads() == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_no_thread_is_started():
    code = """
import os, cv2, numpy as np
from mien.training import augmentation
from mien.training.recipes import Augment
cv2.setNumThreads(4)
before = len(os.listdir("/proc/self/task"))
images = np.zeros((64, 48, 48, 1), np.uint8)
settings = Augment(rotation=10, contrast=0.1, erase=1)
augmentation.augment_batch(images, np.arange(64), settings, seed=0, epoch=0)
print(len(os.listdir("/proc/self/task")) - before, cv2.getNumThreads())
"""
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout.split() == ["0", "4"]


# Geometry


def test_no_settings_leave_every_bit_and_still_copy():
    images = noise(20)
    made = augmentation.augment_batch(images, np.arange(20), Augment(), seed=0, epoch=0)
    assert np.array_equal(made, images)
    assert not np.shares_memory(made, images)


@pytest.mark.parametrize("size", [16, 47, 48, 130])
def test_flipping_mirrors_every_bit(size):
    images = noise(40, size)
    made = augmentation.augment_batch(images, np.arange(40), Augment(flip=True), seed=0, epoch=0)
    flipped = draw(Augment(flip=True), 40, seed=0).flip
    assert 5 < flipped.sum() < 35
    assert np.array_equal(made[flipped], images[flipped][:, :, ::-1])
    assert np.array_equal(made[~flipped], images[~flipped])


@pytest.mark.parametrize("size", [48, 49])
@pytest.mark.parametrize(("degrees", "turns"), [(90.0, -1), (180.0, 2), (-90.0, 1)])
def test_quarter_turns_are_exact_and_clockwise(size, degrees, turns):
    images = noise(3, size)
    made = augmentation.apply_changes(images, replace(still(3), rotation=np.full(3, degrees)))
    assert np.array_equal(made, np.rot90(images, turns, axes=(1, 2)))


@pytest.mark.parametrize("degrees", [-33.0, 10.0, 77.0])
def test_a_turned_dot_lands_where_trigonometry_says(degrees):
    made = augmentation.apply_changes(dot(34, 24), replace(still(1), rotation=np.array([degrees])))
    angle = np.radians(degrees)
    expected = 24 + 10 * np.cos(angle), 24 + 10 * np.sin(angle)
    assert place(made[0]) == pytest.approx(expected, abs=0.05)


def test_a_zoom_above_one_draws_the_dot_towards_the_centre():
    made = augmentation.apply_changes(dot(34, 14), replace(still(1), zoom=np.array([[1.25, 0.8]])))
    assert place(made[0]) == pytest.approx((24 + 10 / 1.25, 24 - 10 / 0.8), abs=0.05)


def test_a_shift_moves_right_and_down_in_whole_pixels_exactly():
    images = noise(1)
    made = augmentation.apply_changes(images, replace(still(1), shift=np.array([[3.0, 5.0]])), fill="black")
    assert np.array_equal(made[:, 5:, 3:], images[:, :-5, :-3])
    assert not made[:, :5].any()
    assert not made[:, :, :3].any()


def test_all_together_turn_then_scale_then_mirror_then_shift():
    changes = replace(
        still(1),
        rotation=np.array([30.0]),
        zoom=np.array([[1.1, 0.9]]),
        flip=np.array([True]),
        shift=np.array([[4.0, -3.0]]),
    )
    x = 10 * np.cos(np.radians(30)) / 1.1
    y = 10 * np.sin(np.radians(30)) / 0.9
    assert place(augmentation.apply_changes(dot(34, 24), changes)[0]) == pytest.approx(
        (24 - x + 4, 24 + y - 3), abs=0.05
    )


def test_a_mirrored_face_with_mirrored_changes_is_the_mirrored_result():
    images = noise(50)
    changes = draw(replace(EVERYTHING, noise=0, erase=0, flip=False), 50)
    opposite = replace(changes, rotation=-changes.rotation, shift=changes.shift * [-1, 1])
    made = augmentation.apply_changes(images, changes).astype(int)
    mirrored = augmentation.apply_changes(images[:, :, ::-1], opposite)[:, :, ::-1].astype(int)
    assert np.abs(made - mirrored).max() <= 2


@pytest.mark.parametrize(
    ("fill", "mode"), [("nearest", "nearest"), ("reflect", "reflect"), ("black", "grid-constant")]
)
def test_pixels_are_those_of_scipy_in_keras_convention(fill, mode):
    """ImageDataGenerator's matrix, turn times zoom on (row, column) about (s - 1) / 2, through SciPy."""
    images = noise(12)
    changes = draw(Augment(rotation=25, zoom=0.3), 12)
    made = augmentation.apply_changes(images, changes, fill=fill)
    for row in range(12):
        angle = np.radians(changes.rotation[row])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.diag(changes.zoom[row, ::-1])
        offset = 23.5 - matrix @ [23.5, 23.5]
        expected = ndimage.affine_transform(
            images[row, ..., 0].astype(float), matrix, offset, order=1, mode=mode
        )
        # OpenCV before 5 looks up positions to 1/32 pixel, which noise of full contrast makes visible.
        assert np.abs(made[row, ..., 0] - expected).mean() < 3


@pytest.mark.parametrize("fill", ["nearest", "reflect", "black"])
def test_cubic_pixels_are_those_of_keys_kernel(fill):
    """Bicubic convolution (Keys 1981, a = -0.75 as OpenCV has it), looked up pixel by pixel."""
    images = noise(4)
    changes = draw(Augment(rotation=25, zoom=0.1), 4)
    made = augmentation.apply_changes(images, changes, fill=fill, interpolation="cubic").astype(float)

    def weight(at):
        at, a = np.abs(at), -0.75
        near = (a + 2) * at**3 - (a + 3) * at**2 + 1
        far = a * at**3 - 5 * a * at**2 + 8 * a * at - 4 * a
        return np.where(at <= 1, near, np.where(at < 2, far, 0.0))

    rows, columns = np.mgrid[12:36, 12:36] - 23.5
    for row, face in enumerate(images[..., 0].astype(float)):
        angle = np.radians(changes.rotation[row])
        zoom_x, zoom_y = changes.zoom[row]
        x = 23.5 + np.cos(angle) * zoom_x * columns + np.sin(angle) * zoom_y * rows
        y = 23.5 - np.sin(angle) * zoom_x * columns + np.cos(angle) * zoom_y * rows
        across = weight(x[..., np.newaxis] - np.arange(48))
        down = weight(y[..., np.newaxis] - np.arange(48))
        expected = np.einsum("ijy,ijx,yx->ij", down, across, face).clip(0, 255)
        assert np.abs(made[row, 12:36, 12:36, 0] - expected).mean() < 3


def test_cubic_keeps_a_turned_face_sharper_than_linear():
    images = np.tile(np.array([0, 255], np.uint8), (1, 48, 24))[..., np.newaxis]
    moved = replace(still(1), shift=np.array([[0.25, 0.0]]))
    linear, cubic = (
        augmentation.apply_changes(images, moved, interpolation=kind)[:, 8:-8, 8:-8].std()
        for kind in ("linear", "cubic")
    )
    assert 0.4 * 127.5 < linear < cubic - 10


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_what_does_not_move_is_not_interpolated(interpolation):
    images = noise(40)
    chosen = Augment(flip=True, interpolation=interpolation)
    made = augmentation.augment_batch(images, np.arange(40), chosen, seed=0, epoch=0)
    flipped = draw(chosen, 40, seed=0).flip
    assert np.array_equal(made[flipped], images[flipped][:, :, ::-1])
    assert np.array_equal(made[~flipped], images[~flipped])


def test_fills_differ_only_where_the_face_was_moved_away():
    images = np.full((1, 48, 48, 1), 200, np.uint8)
    images[:, :, :2] = [[100], [180]]
    changes = replace(still(1), shift=np.array([[4.0, 0.0]]))
    row = {
        fill: augmentation.apply_changes(images, changes, fill=fill)[0, 10, :6, 0].tolist()
        for fill in ("nearest", "reflect", "black")
    }
    assert row == {
        "nearest": [100, 100, 100, 100, 100, 180],
        "reflect": [200, 200, 180, 100, 100, 180],
        "black": [0, 0, 0, 0, 100, 180],
    }


# Distributions


def test_every_number_is_spread_evenly_over_its_range():
    changes = draw(replace(EVERYTHING, erase=0))
    assert spread_evenly(changes.rotation, -20, 20)
    assert spread_evenly(changes.zoom[:, 0], 0.8, 1.2)
    assert spread_evenly(changes.zoom[:, 1], 0.8, 1.2)
    assert spread_evenly(changes.shift[:, 0], -4.8, 4.8)
    assert spread_evenly(changes.shift[:, 1], -4.8, 4.8)
    assert spread_evenly(changes.brightness, -51, 51)
    assert spread_evenly(changes.contrast, 0.7, 1.3)
    assert spread_evenly(changes.grain, 0, 255 * 0.05)
    assert changes.flip.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(20_000))


@pytest.mark.parametrize("axis", ["index", "epoch", "seed"])
def test_numbers_are_independent_of_each_other_and_of_their_neighbours(axis):
    if axis == "index":
        changes = draw(EVERYTHING)
        columns = [
            changes.rotation,
            *changes.zoom.T,
            *changes.shift.T,
            changes.flip,
            changes.brightness,
            changes.contrast,
            np.maximum(changes.blur, 0),
            changes.gamma,
            changes.resolution,
            changes.box[:, 2] > 0,
            changes.noise >> np.uint64(11),
            changes.grain,
            changes.grain_noise >> np.uint64(11),
        ]
    else:
        draws = [
            augmentation.draw_changes(
                np.array([5, 6]), EVERYTHING, size=48, **{"seed": 1, "epoch": 1, axis: value}
            )
            for value in range(3_000)
        ]
        columns = [*np.array([change.rotation for change in draws]).T]
    table = np.array(columns, np.float64)
    table = np.vstack([table[:, 1:], table[:, :-1]])
    off_diagonal = np.corrcoef(table)[np.triu_indices(len(table), 1)]
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(table.shape[1])


def test_zoom_together_keeps_proportions():
    together = draw(Augment(zoom=0.2, zoom_together=True), 100).zoom
    assert np.array_equal(together[:, 0], together[:, 1])
    apart = draw(Augment(zoom=0.2), 100).zoom
    assert (apart[:, 0] != apart[:, 1]).all()
    assert np.array_equal(apart[:, 0], together[:, 0])


def test_one_setting_leaves_the_draws_of_the_others():
    few, many = draw(SEED_SET, 100), draw(replace(EVERYTHING, rotation=10, zoom=0.1), 100)
    assert np.array_equal(few.rotation, many.rotation)
    assert np.array_equal(few.zoom, many.zoom)
    assert np.array_equal(few.flip, many.flip)
    assert not few.shift.any()
    assert not few.box.any()


# Light


def test_brightness_adds_and_stops_at_black_and_white():
    images = np.tile(np.array([0, 10, 128, 250, 255, 255, 0, 1], np.uint8), 288).reshape(1, 48, 48, 1)
    for added in (40.0, -40.0):
        made = augmentation.apply_changes(images, replace(still(1), brightness=np.array([added])))
        assert np.array_equal(made, np.clip(images.astype(int) + int(added), 0, 255))


def test_contrast_keeps_the_mean_and_scales_about_it():
    images = np.random.default_rng(0).integers(80, 120, (1, 48, 48, 1), np.uint8)
    made = augmentation.apply_changes(images, replace(still(1), contrast=np.array([1.5]))).astype(float)
    assert made.mean() == pytest.approx(images.mean(), abs=0.1)
    assert made.std() == pytest.approx(1.5 * images.std(), rel=0.01)


# Blur


def test_every_second_face_is_blurred_up_to_the_setting():
    deviations = draw(Augment(blur=0.02)).blur
    assert (deviations == 0).mean() == pytest.approx(0.5, abs=0.02)
    some = deviations[deviations > 0] / (0.02 * 48)
    assert stats.kstest(some, "uniform").pvalue > 0.01


@pytest.mark.parametrize("deviation", [0.6, 1.0, 2.0])
def test_a_blurred_spot_spreads_by_its_deviation_and_stays_where_it_is(deviation):
    image = dot(24, 20)
    made = augmentation.apply_changes(image, replace(still(1), blur=np.array([deviation])))
    expected = ndimage.gaussian_filter(image[0, ..., 0].astype(float), deviation, mode="nearest")
    np.testing.assert_allclose(made[0, ..., 0], expected, atol=3)
    assert place(made[0]) == pytest.approx(place(image[0]), abs=0.05)


def test_blur_spares_faces_without_and_keeps_an_even_face_to_its_edge():
    images = noise(4)
    made = augmentation.apply_changes(images, replace(still(4), blur=np.array([0, 1.0, 0, 1.0])))
    assert [np.array_equal(*pair) for pair in zip(made, images, strict=True)] == [True, False, True, False]
    even = np.full((1, 48, 48, 1), 200, np.uint8)
    np.testing.assert_array_equal(
        augmentation.apply_changes(even, replace(still(1), blur=np.array([2.0]))), even
    )


# Noise


def test_noise_is_normal_enough_has_its_deviation_and_no_mean():
    images = np.full((40, 48, 48, 1), 128, np.uint8)
    changes = replace(still(40), grain=np.repeat([4.0, 20.0], 20), grain_noise=np.arange(40, dtype=np.uint64))
    made = augmentation.apply_changes(images, changes)[..., 0].astype(float) - 128
    for some, deviation in ((made[:20], 4.0), (made[20:], 20.0)):
        count = some.size
        assert some.mean() == pytest.approx(0, abs=4 * deviation / np.sqrt(count))
        # Rounding to whole grey levels adds a twelfth to the variance.
        assert some.std() == pytest.approx(np.sqrt(deviation**2 + 1 / 12), rel=0.01)
        # Four even numbers added up have a kurtosis of -0.3.
        assert stats.kurtosis(some.ravel()) == pytest.approx(-0.3, abs=0.05)
        assert abs(stats.skew(some.ravel())) < 0.05
    for shift in ((0, 1), (1, 0)):
        neighbour = np.roll(made, shift, axis=(1, 2))
        assert abs(np.corrcoef(made[20:].ravel(), neighbour[20:].ravel())[0, 1]) < 0.02
    assert len({face.tobytes() for face in made}) == 40


def test_noise_stops_at_black_and_white_and_spares_faces_without():
    images = np.tile(np.array([0, 255], np.uint8), (6, 48, 24))[..., np.newaxis]
    changes = replace(still(6), grain=np.array([0, 9.0, 0, 9.0, 0, 0]))
    made = augmentation.apply_changes(images, changes)
    assert [np.array_equal(face, image) for face, image in zip(made, images, strict=True)] == [
        True, False, True, False, True, True
    ]  # fmt: skip
    assert (made[1, :, ::2] < 64).all()
    assert (made[1, :, 1::2] > 191).all()
    grains = draw(Augment(noise=0.04), 20_000).grain
    assert 0 <= grains.min() < grains.max() <= 0.04 * 255


# Erasing


@pytest.mark.parametrize("share", [(0.02, 0.2), (0.3, 0.9), (1.0, 1.0), (0.0, 0.0)])
def test_rectangles_cover_their_share_and_stay_inside(share):
    boxes = draw(Augment(erase=1.0, erase_area=share), 5_000).box
    left, top, width, height = boxes.T
    assert (boxes >= 0).all()
    assert (width >= 1).all()
    assert (height >= 1).all()
    assert (left + width <= 48).all()
    assert (top + height <= 48).all()
    # A side is whole pixels, so an area is off by at most half the other side.
    slack = 0.5 * np.maximum(width, height)
    assert (width * height >= share[0] * 48**2 - slack).all()
    assert (width * height <= np.maximum(share[1] * 48**2, 1) + slack).all()


def test_rectangles_are_as_often_tall_as_wide_within_their_aspect_and_everywhere():
    boxes = draw(Augment(erase=1.0, erase_area=(0.05, 0.2))).box
    left, top, width, height = boxes.T
    aspect = np.log(height / width)
    assert aspect.mean() == pytest.approx(0, abs=0.03)
    # Half a pixel of rounding on the shorter side, at least 5 pixels here.
    assert np.abs(aspect).max() < np.log(1 / 0.3) + 0.2
    assert (width * height).mean() / 48**2 == pytest.approx(0.125, abs=0.002)
    centres = (left + width / 2).mean(), (top + height / 2).mean()
    assert centres == pytest.approx((24, 24), abs=0.3)
    covered = np.zeros((48, 48), bool)
    for x, y, w, h in boxes[:2_000]:
        covered[y : y + h, x : x + w] = True
    assert covered.all()


def test_erasing_happens_as_often_as_asked():
    erased = draw(Augment(erase=0.3)).box[:, 2] > 0
    assert erased.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 20_000))


def test_noise_fills_the_rectangle_and_nothing_else():
    chosen = Augment(erase=0.7, erase_area=(0.1, 0.4))
    images = np.zeros((500, 48, 48, 1), np.uint8)
    made = augmentation.augment_batch(images, np.arange(500), chosen, seed=2, epoch=0)[..., 0]
    boxes = draw(chosen, 500, seed=2).box
    assert 0 < np.count_nonzero(boxes[:, 2]) < 500
    inside = []
    for face, (left, top, width, height) in zip(made, boxes, strict=True):
        box = face[top : top + height, left : left + width]
        assert face.sum(dtype=int) == box.sum(dtype=int)
        inside.append(box.ravel())
    levels = np.bincount(np.concatenate(inside), minlength=256)
    assert stats.chisquare(levels).pvalue > 1e-4
    assert not np.array_equal(inside[0][:50], inside[1][:50])


# Errors


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 48, 48, 1), np.float32),
        np.zeros((2, 48, 48), np.uint8),
        np.zeros((2, 48, 47, 1), np.uint8),
        np.zeros((2, 48, 48, 3), np.uint8),
        np.zeros(3, np.uint8),
    ],
)
def test_images_of_another_shape_or_type_are_refused(images):
    with refused(DataError, "uint8", "(n, size, size, 1)"):
        augmentation.augment_batch(images, np.arange(1), Augment(), seed=0, epoch=0)
    with refused(DataError, "uint8", "(n, size, size, 1)"):
        augmentation.apply_changes(images, still(2))


@pytest.mark.parametrize("indices", [np.array([0.0]), np.array([[0]]), np.array([True]), np.array(0)])
def test_indices_of_another_shape_or_type_are_refused(indices):
    with refused(DataError, "(b,)"):
        augmentation.augment_batch(noise(2), indices, Augment(), seed=0, epoch=0)


@pytest.mark.parametrize("index", [-1, 2, 2**40])
def test_an_index_outside_is_refused(index):
    with refused(DataError, index, 2):
        augmentation.augment_batch(noise(2), np.array([0, index]), Augment(), seed=0, epoch=0)


@pytest.mark.parametrize("value", [-1, 2**63, 0.5])
@pytest.mark.parametrize("what", ["seed", "epoch"])
def test_seeds_and_epochs_are_integers_from_0(what, value):
    keys = {"seed": 0, "epoch": 0, what: value}
    with refused(RecipeError, what, value):
        augmentation.augment_batch(noise(1), np.arange(1), SEED_SET, **keys)


def test_shares_the_wrong_way_round_are_refused():
    with refused(RecipeError, "(0.1, 0.2)"):
        draw(Augment(erase=0.5, erase_area=(0.2, 0.1)), 2)


def test_as_many_changes_as_images():
    with refused(DataError, 3, 2):
        augmentation.apply_changes(noise(3), still(2))


def test_an_empty_batch_is_empty():
    made = augmentation.augment_batch(noise(2), np.arange(0), EVERYTHING, seed=0, epoch=0)
    assert made.shape == (0, 48, 48, 1)
    assert made.dtype == np.uint8


def test_without_opencv_the_extra_is_named():
    code = """
import sys
sys.modules["cv2"] = None
import numpy as np
from mien.training import augmentation
from mien.training.recipes import Augment
try:
    augmentation.augment_batch(np.zeros((1, 48, 48, 1), np.uint8), np.arange(1), Augment(), seed=0, epoch=0)
except Exception as error:
    print(type(error).__name__, error)
"""
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == f"MissingExtra {MissingExtra('training', 'train')}"


def test_importing_the_room_does_not_import_opencv():
    code = "import sys, mien.training.augmentation; print('cv2' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "False"


def test_gamma_raises_grey_levels_to_its_power():
    image = np.full((1, 48, 48, 1), 128, np.uint8)
    made = augmentation.apply_changes(image, replace(still(1), gamma=np.array([2.0])))
    assert (made == round(255 * (128 / 255) ** 2)).all()
    exponents = np.log(draw(Augment(gamma=0.3)).gamma)
    assert spread_evenly(exponents, -0.3, 0.3)


def test_contrast_after_gamma_keeps_the_mean_that_gamma_made():
    images = noise(1)
    changes = replace(still(1), gamma=np.array([1.4]))
    bright = augmentation.apply_changes(images, changes).mean()
    softened = augmentation.apply_changes(images, replace(changes, contrast=np.array([0.5]))).mean()
    assert softened == pytest.approx(bright, abs=0.6)


def test_aspect_scales_the_axes_by_inverse_factors():
    zoom = draw(Augment(aspect=0.1)).zoom
    np.testing.assert_allclose(zoom.prod(axis=1), 1.0, atol=1e-12)
    assert spread_evenly(zoom[:, 0], 0.9, 1.1)


def test_every_second_face_is_shrunk_and_enlarged_again():
    shares = draw(Augment(resolution=0.5)).resolution
    assert (shares == 1).mean() == pytest.approx(0.5, abs=0.02)
    assert spread_evenly(shares[shares < 1], 0.5, 1.0)
    stripes = np.zeros((2, 48, 48, 1), np.uint8)
    stripes[:, :, ::2] = 255
    made = augmentation.apply_changes(stripes, replace(still(2), resolution=np.array([1.0, 0.5])))
    np.testing.assert_array_equal(made[0], stripes[0])
    assert (np.abs(made[1].astype(int) - 128) <= 1).all()
