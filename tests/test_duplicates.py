"""Near-duplicate search: planted copies are found, nothing else is, and flat images say nothing."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from builders import refused
from mien.data import datasets, duplicates, synthetic
from mien.errors import DataError

Change = Callable[[np.ndarray], np.ndarray]


def clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def jpeg(quality: int) -> Change:
    def encode(image: np.ndarray) -> np.ndarray:
        packed = io.BytesIO()
        Image.fromarray(image).save(packed, "JPEG", quality=quality)
        return np.asarray(Image.open(packed))

    return encode


def shifted(down: int, across: int, border: str = "edge") -> Change:
    def shift(image: np.ndarray) -> np.ndarray:
        height, width = image.shape
        padded = np.pad(image, 6, mode=border)  # type: ignore[call-overload]
        return padded[6 - down : 6 - down + height, 6 - across : 6 - across + width]

    return shift


def mirrored(image: np.ndarray) -> np.ndarray:
    return image[:, ::-1]


CHANGES: dict[str, Change] = {
    "jpeg 60": jpeg(60),
    "jpeg 75": jpeg(75),
    "jpeg 95": jpeg(95),
    "brighter by 10 %": lambda image: clipped(image * 1.1),
    "darker by 10 %": lambda image: clipped(image * 0.9),
    "lighter by 25": lambda image: clipped(image + 25.0),
    "contrast 0.8": lambda image: clipped((image - image.mean()) * 0.8 + image.mean()),
    "contrast 1.2": lambda image: clipped((image - image.mean()) * 1.2 + image.mean()),
    "down 2, right 2": shifted(2, 2),
    "up 2, right 2, black border": shifted(-2, 2, "constant"),
    "left 1": shifted(0, -1),
    "mirrored": mirrored,
    "mirrored, up 2, left 2": lambda image: shifted(-2, -2)(mirrored(image)),
    "mirrored, down 1, brighter, jpeg 75": lambda image: jpeg(75)(
        clipped(shifted(1, 0)(mirrored(image)) * 1.05)
    ),
}


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return synthetic.sample(400, seed=5)[0]


def planted(faces: np.ndarray, change: Change, count: int) -> np.ndarray:
    copies = np.stack([change(face) for face in faces[:count, :, :, 0]])
    return np.concatenate([faces, copies[..., np.newaxis]])


def hits(found: duplicates.Duplicates, originals: int, count: int) -> int:
    """How many of the first `count` images are told to stand again behind the originals."""
    pairs = set(map(tuple, found.pairs.tolist()))
    return sum(
        found.first[originals + index] == index or (index, originals + index) in pairs
        for index in range(count)
    )


@pytest.mark.parametrize("name", CHANGES)
def test_planted_copies_are_found_and_nothing_else(faces: np.ndarray, name: str) -> None:
    found = duplicates.find(planted(faces, CHANGES[name], 120))
    assert hits(found, len(faces), 120) >= 119
    assert len(found.pairs) + (found.first != np.arange(520)).sum() <= 120
    # A drawn face may be its own mirror image.
    if name.startswith("mirrored"):
        assert found.mirrored.mean() > 0.9


def test_cells_lose_next_to_nothing(faces: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_FEW", 0)
    found = duplicates.find(planted(faces, CHANGES["mirrored, up 2, left 2"], 400), seed=1)
    assert hits(found, 400, 400) >= 396


def test_counting_in_steps_changes_nothing(faces: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    images = planted(faces, CHANGES["left 1"], 100)
    whole = duplicates.find(images)
    for module in (duplicates, duplicates):
        monkeypatch.setattr(module, "_BLOCK", 7)
    stepwise = duplicates.find(images)
    assert np.array_equal(stepwise.pairs, whole.pairs)
    assert stepwise.similarity == pytest.approx(whole.similarity, abs=1e-5)


def test_equal_images_are_told_by_the_first_of_them(faces: np.ndarray) -> None:
    images = np.concatenate([faces[:5], faces[3:4], faces[1:2], faces[1:2]])
    found = duplicates.find(images)
    assert found.first.tolist() == [0, 1, 2, 3, 4, 3, 1, 1]
    assert found.pairs.shape == (0, 2)
    assert [group.tolist() for group in found.groups()] == [[1, 6, 7], [3, 5]]


def test_groups_are_linked_by_near_pairs(faces: np.ndarray) -> None:
    chain = [faces[7, :, :, 0], jpeg(75)(faces[7, :, :, 0]), shifted(2, 0)(faces[7, :, :, 0])]
    images = np.stack([*faces[:3, :, :, 0], *chain, faces[7, :, :, 0]])[..., np.newaxis]
    found = duplicates.find(images)
    assert [group.tolist() for group in found.groups()] == [[3, 4, 5, 6]]
    assert [group.tolist() for group in found.groups(near=False)] == [[3, 6]]
    assert (found.pairs[:, 0] < found.pairs[:, 1]).all()
    assert (found.similarity > duplicates.NEAR).all()


def test_a_still_film_is_one_group_of_few_pairs(faces: np.ndarray) -> None:
    noise = np.random.default_rng(0).integers(-2, 3, (300, *faces[0].shape))
    frames = np.clip(faces[0].astype(int) + noise, 0, 255).astype(np.uint8)
    images = np.concatenate([faces[1:61], frames, faces[1:2, :, ::-1]])
    found = duplicates.find(images)
    film, pair = sorted(found.groups(), key=len, reverse=True)
    assert film.tolist() == list(range(60, 360))
    assert pair.tolist() == [0, 360], "a crowd beside it hides no copy"
    assert len(found.pairs) < 300 * 4 * 32
    assert len(found.pairs) < 300 * 299 / 2 / 2
    ours = found.again(np.arange(200, 360), np.arange(60, 200))[1]
    assert ours.all(), "every frame is known to stand on the other side too"


def test_again_parts_equal_from_near(faces: np.ndarray) -> None:
    train = faces[:4]
    val = np.stack([faces[2, :, :, 0], jpeg(75)(faces[0, :, :, 0]), faces[9, :, :, 0]])[..., np.newaxis]
    found = duplicates.find(np.concatenate([train, val]))
    equal, near = found.again(np.arange(4, 7), np.arange(4))
    assert equal.tolist() == [True, False, False]
    assert near.tolist() == [False, True, False]
    equal, near = found.again(np.arange(4), np.arange(4, 7))
    assert equal.tolist() == [False, False, True, False]
    assert near.tolist() == [True, False, False, False]


def test_flat_images_match_by_their_bytes_alone() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(126, 130, (40, 48, 48, 1), dtype=np.uint8)
    slope = np.broadcast_to(np.linspace(120, 130, 48)[np.newaxis, :, np.newaxis], (48, 48, 1))
    slopes = clipped(slope + rng.normal(0, 0.3, (20, 48, 48, 1)))
    black = np.zeros((3, 48, 48, 1), np.uint8)
    found = duplicates.find(np.concatenate([noise, slopes, black]))
    assert len(found.pairs) == 0
    assert [group.tolist() for group in found.groups()] == [[60, 61, 62]]


def test_a_flat_overlap_under_unlike_borders_is_no_match() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(126, 130, (6, 48, 48, 1), dtype=np.uint8)
    images[:, :1] = 255
    images[:, :, :1] = 0
    # Where only noise overlaps nothing is told; at shift 0 the shared frame is what they show.
    assert duplicates._best(
        images[:1, :, :, 0].astype(np.float32), images[1:2, ::-1, ::-1, 0].astype(np.float32), 2, 6.0
    ) == pytest.approx(0, abs=0.5)


def test_an_image_is_no_copy_of_itself() -> None:
    half = np.random.default_rng(0).integers(0, 256, (48, 24), dtype=np.uint8)
    symmetric = np.concatenate([half, half[:, ::-1]], axis=1)[np.newaxis, :, :, np.newaxis]
    assert len(duplicates.find(symmetric).pairs) == 0


@pytest.mark.parametrize("size", [12, 16, 64, 96])
def test_other_sizes(size: int) -> None:
    faces = synthetic.sample(60, seed=2, size=size)[0]
    shift = size // 24
    found = duplicates.find(planted(faces, shifted(-shift, shift), 20), shift=shift)
    assert hits(found, 60, 20) == 20


def test_correlation_is_numpys(faces: np.ndarray) -> None:
    one, other = faces[:30, :, :, 0].astype(np.float32), faces[30:60, :, :, 0].astype(np.float32)
    expected = [
        max(
            np.corrcoef(
                a[max(0, -down) : 48 - max(0, down), max(0, -across) : 48 - max(0, across)].ravel(),
                b[max(0, down) : 48 + min(0, down), max(0, across) : 48 + min(0, across)].ravel(),
            )[0, 1]
            for down in range(-2, 3)
            for across in range(-2, 3)
        )
        for a, b in zip(one, other, strict=True)
    ]
    assert duplicates._best(one, other, 2, 0.0) == pytest.approx(expected, abs=1e-4)


def test_progress_rises_to_its_total(faces: np.ndarray) -> None:
    seen: list[tuple[int, int]] = []
    duplicates.find(planted(faces, mirrored, 100), progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (100, 100)


def test_the_same_seed_finds_the_same(faces: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_FEW", 0)
    images = planted(faces, jpeg(75), 50)
    one, other = duplicates.find(images), duplicates.find(images)
    assert np.array_equal(one.pairs, other.pairs)
    assert np.array_equal(one.similarity, other.similarity)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.zeros((2, 48, 48), np.uint8), {}, "shape"),
        (np.zeros((2, 48, 40, 1), np.uint8), {}, "shape"),
        (np.zeros((0, 48, 48, 1), np.uint8), {}, ""),
        (np.zeros((2, 48, 48, 1), np.float32), {}, "float32"),
        (np.zeros((2, 8, 8, 1), np.uint8), {}, "8"),
        (np.zeros((2, 48, 48, 1), np.uint8), {"shift": 3}, "3"),
        (np.zeros((2, 48, 48, 1), np.uint8), {"near": 1.0}, "1"),
    ],
)
def test_what_cannot_be_searched_is_refused(images: np.ndarray, options: dict, message: str) -> None:
    with refused(DataError, message):
        duplicates.find(images, **options)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("name", CHANGES)
def test_recall_and_precision_on_fer2013(fer2013: datasets.Dataset, name: str) -> None:
    images = fer2013.split("train").images[:6000]
    own = duplicates.find(images)
    alone = np.setdiff1d(np.flatnonzero(own.first == np.arange(len(images))), own.pairs)
    alone = alone[images[alone].std(axis=(1, 2, 3)) >= duplicates.FLAT]
    found = duplicates.find(planted(images[alone], CHANGES[name], 500))
    recalled = hits(found, len(alone), 500)
    told = len(found.pairs) + int((found.first != np.arange(len(alone) + 500)).sum())
    assert recalled / 500 >= 0.99
    assert recalled / told >= 0.99
