"""The stated corruptions: what each does to an image, and what it never does."""

import io

import numpy as np
import pytest
from PIL import Image

from builders import refused
from mien.errors import ImageError, InputError
from mien.evaluation import corruptions
from mien.evaluation.corruptions import CORRUPTIONS, KINDS, Corruption

#: A strength at which a kind changes nothing.
NEUTRAL = {
    "brightness": 0,
    "contrast": 1,
    "blur": 0.1,
    "noise": 0,
    "shift": 0,
    "rotation": 0,
    "scale": 1,
    "occlusion": 0,
}
RANDOM = {"noise", "shift", "rotation", "occlusion"}


def faces(n: int = 5, size: int = 48, seed: int = 0) -> np.ndarray:
    """Smooth random images, of which no two are alike."""
    coarse = np.random.default_rng(seed).integers(60, 196, (n, 6, 6), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((size, size), Image.BICUBIC)) for image in coarse]
    return np.stack(large)[..., None]


def flat(level: int, n: int = 3, size: int = 48) -> np.ndarray:
    return np.full((n, size, size, 1), level, np.uint8)


def dot(size: int = 49, *, x: int = 24, y: int = 24, n: int = 1) -> np.ndarray:
    images = np.zeros((n, size, size, 1), np.uint8)
    images[:, y, x] = 255
    return images


def test_every_kind_that_the_table_needs_is_there_at_some_strength() -> None:
    kinds = ["brightness", "contrast", "blur", "noise", "jpeg", "shift", "rotation", "scale", "occlusion"]
    assert list(KINDS) == kinds
    assert {each.kind for each in CORRUPTIONS.values()} == set(kinds)
    assert Corruption("rotation", 15) == CORRUPTIONS["rotation 15"]
    assert all(name == each.name for name, each in CORRUPTIONS.items())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_a_pure_function_that_keeps_shape_and_type(name: str) -> None:
    images = faces()
    kept = images.copy()
    images.flags.writeable = False
    once, again = corruptions.corrupt(images, name, seed=4), corruptions.corrupt(images, name, seed=4)
    assert once.shape == images.shape
    assert once.dtype == np.uint8
    assert not np.shares_memory(once, images)
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(images, kept)
    assert all((one != image).any() for one, image in zip(once, images, strict=True))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_alike_however_many_follow(name: str) -> None:
    images = faces(corruptions._BLOCK + 3, size=16)
    many = corruptions.corrupt(images, name, seed=1)
    for n in (0, 1, 7, corruptions._BLOCK + 1):
        np.testing.assert_array_equal(corruptions.corrupt(images[:n], name, seed=1), many[:n])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_seed_decides_where_there_is_chance_and_only_there(name: str) -> None:
    images = faces(16)
    differ = (corruptions.corrupt(images, name, seed=0) != corruptions.corrupt(images, name, seed=1)).any()
    assert differ == (CORRUPTIONS[name].kind in RANDOM)


@pytest.mark.parametrize("kind", NEUTRAL)
def test_at_its_neutral_strength_a_kind_changes_no_bit(kind: str) -> None:
    images = faces()
    np.testing.assert_array_equal(corruptions.corrupt(images, Corruption(kind, NEUTRAL[kind])), images)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"jpeg"}))
def test_more_strength_takes_the_image_further_from_itself(kind: str) -> None:
    images = faces(16).astype(float)
    signed = [each for each in CORRUPTIONS.values() if each.kind == kind]
    for side in (
        [each for each in signed if each.strength > NEUTRAL[kind]],
        [each for each in signed if each.strength < NEUTRAL[kind]],
    ):
        by_strength = sorted(side, key=lambda each: abs(each.strength - NEUTRAL[kind]))
        changes = [np.abs(corruptions.corrupt(faces(16), each) - images).mean() for each in by_strength]
        assert changes == sorted(set(changes))
        assert all(change > 0 for change in changes)


def test_brightness_adds_grey_levels_and_stops_at_black_and_white() -> None:
    assert (corruptions.corrupt(flat(100), "brightness 32") == 132).all()
    assert (corruptions.corrupt(flat(100), "brightness -64") == 36).all()
    assert (corruptions.corrupt(flat(20), "brightness -64") == 0).all()
    assert (corruptions.corrupt(flat(230), "brightness 64") == 255).all()


def test_contrast_keeps_the_mean_and_halves_the_distance_to_it() -> None:
    image = flat(60, n=1)
    image[:, :24] = 180
    halved = corruptions.corrupt(image, "contrast 0.5")
    assert (halved[:, :24] == 150).all()
    assert (halved[:, 24:] == 90).all()
    assert (corruptions.corrupt(image, Corruption("contrast", 0)) == 120).all()


def test_blur_spreads_a_dot_as_the_gaussian_does() -> None:
    blurred = corruptions.corrupt(dot(), Corruption("blur", 1.0))[0, :, :, 0].astype(int)
    assert blurred.sum() == pytest.approx(255, abs=8)  # each pixel is rounded
    assert blurred[24, 24] == round(255 / (2 * np.pi))
    assert blurred[24, 25] == round(255 / (2 * np.pi) * np.exp(-0.5))
    assert blurred[25, 25] == round(255 / (2 * np.pi) * np.exp(-1))
    np.testing.assert_array_equal(blurred, blurred.T)
    np.testing.assert_array_equal(blurred, blurred[::-1, ::-1])


@pytest.mark.parametrize("kind", ["contrast", "blur", "shift", "rotation", "scale"])
def test_an_even_image_stays_even(kind: str) -> None:
    for corruption in (each for each in CORRUPTIONS.values() if each.kind == kind):
        np.testing.assert_array_equal(corruptions.corrupt(flat(93), corruption), flat(93))


def test_noise_has_the_stated_deviation_and_no_mean() -> None:
    noise = corruptions.corrupt(flat(128, n=20), "noise 16").astype(float) - 128
    assert noise.mean() == pytest.approx(0, abs=0.3)  # 46,080 pixels: standard error 0.07
    assert noise.std() == pytest.approx(16, rel=0.02)
    assert np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1] == pytest.approx(0, abs=0.1)


def test_jpeg_is_what_a_jpeg_file_of_this_quality_holds() -> None:
    image = faces(1)
    file = io.BytesIO()
    Image.fromarray(image[0, :, :, 0]).save(file, "JPEG", quality=10)
    with Image.open(file) as opened:
        np.testing.assert_array_equal(corruptions.corrupt(image, "jpeg 10")[0, :, :, 0], np.asarray(opened))


def test_a_lower_jpeg_quality_keeps_less() -> None:
    images = faces(8)
    lost = [
        np.abs(corruptions.corrupt(images, name) - images.astype(float)).mean()
        for name in ("jpeg 30", "jpeg 10")
    ]
    assert 0 < lost[0] < lost[1]


def test_shift_moves_by_whole_pixels_in_all_four_directions() -> None:
    moved = corruptions.corrupt(dot(n=64), "shift 4")[..., 0]
    ways = {tuple(int(v) - 24 for v in np.argwhere(image == 255)[0]) for image in moved}
    assert ways == {(4, 0), (-4, 0), (0, 4), (0, -4)}
    assert (moved.sum(axis=(1, 2)) == 255).all()


def test_beyond_the_edge_its_last_pixel_goes_on() -> None:
    ramp = np.broadcast_to(np.arange(48, dtype=np.uint8)[:, None], (1, 48, 48, 1)).copy()
    sideways = [corruptions.corrupt(ramp, "shift 8", seed=seed)[0, 24, :, 0] for seed in range(16)]
    right = np.maximum(np.arange(48) - 8, 0)
    left = np.minimum(np.arange(48) + 8, 47)
    found = {tuple(row.tolist()) for row in sideways}
    assert found == {tuple(right), tuple(left), tuple(np.arange(48))}


def test_rotation_turns_about_the_centre_both_ways() -> None:
    images = dot(x=36, n=32)
    turned = corruptions.corrupt(images, Corruption("rotation", 90))[..., 0]
    places = {tuple(int(v) for v in np.argwhere(image == 255)[0]) for image in turned}
    assert places == {(36, 24), (12, 24)}
    half = corruptions.corrupt(faces(), Corruption("rotation", 180))
    np.testing.assert_array_equal(half, faces()[:, ::-1, ::-1])


def test_scale_enlarges_and_shrinks_about_the_centre() -> None:
    image = flat(0, n=1, size=49)
    image[:, 14:35, 14:35] = 200  # 21 pixels
    for factor in (0.75, 1.25):
        mass = corruptions.corrupt(image, Corruption("scale", factor)).sum() / 200
        assert mass == pytest.approx((21 * factor) ** 2, rel=0.05)
    grown = corruptions.corrupt(image, "scale 1.25")
    np.testing.assert_array_equal(grown, grown[:, ::-1, ::-1])


@pytest.mark.parametrize("share", [0.1, 0.25, 1.0])
def test_occlusion_covers_one_square_of_the_stated_area(share: float) -> None:
    images = flat(10, n=40)
    covered = corruptions.corrupt(images, Corruption("occlusion", share))[..., 0] == corruptions.COVER
    side = round(48 * share**0.5)
    corners = set()
    for mask in covered:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert len(rows) == len(columns) == side
        assert mask.sum() == side * side
        assert side**2 / 48**2 == pytest.approx(share, rel=0.05)
        corners.add((int(rows[0]), int(columns[0])))
    assert len(corners) > 20 or share == 1


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    for images in (
        faces()[..., 0],
        faces().astype(np.float32),
        faces()[:, :, :40],
        faces().repeat(3, axis=3),
    ):
        with refused(ImageError, "uint8", "(n, size, size, 1)"):
            corruptions.corrupt(images, "blur 1")
    with refused(InputError, "'fog'", "brightness -64,"):
        corruptions.corrupt(faces(), "fog")
    with refused(InputError, "'fog'", "brightness"):
        Corruption("fog", 1)
    with refused(InputError, "jpeg", 0, 1, 95):
        Corruption("jpeg", 0)
    with refused(InputError, "blur", "nan"):
        Corruption("blur", float("nan"))
    with refused(InputError, "seed", -1):
        corruptions.corrupt(faces(), "blur 1", seed=-1)
