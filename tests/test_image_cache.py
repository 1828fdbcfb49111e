"""The cache of images on disk: the same data as in memory, whatever happens to the files."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import builders
from mien.data import contents, datasets, division, duplicates, image_cache
from mien.data.image_cache import ImageStore, LockedError, key_of
from mien.errors import OutputError

CLASSES = ("happy", "sad", "fear")


@pytest.fixture(scope="module", name="photos")
def fixture_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("cache") / "faces")


def make_folder(root: Path, splits: tuple[str, ...] = ("test", "train", "val"), each: int = 4) -> Path:
    """Write class folders whose order by name is not that of the splits, with a damaged file."""
    rng = np.random.default_rng(3)
    for split in splits:
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(each):
                pixels = rng.integers(0, 256, (20, 24), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    (root / splits[0] / "sad" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    return root


def assert_same(one: datasets.Dataset, other: datasets.Dataset) -> None:
    assert one.fingerprint == other.fingerprint
    assert one.labels == other.labels
    assert one.problems == other.problems
    assert one.notes == other.notes
    for mine, theirs in zip(one.splits, other.splits, strict=True):
        assert mine.files == theirs.files
        np.testing.assert_array_equal(mine.images, theirs.images)
        np.testing.assert_array_equal(mine.labels, theirs.labels)


def files_of(cache: Path, pattern: str) -> list[Path]:
    return sorted(path for path in cache.rglob(pattern) if path.is_file())


class Decoded:
    """Counts the images that are decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from mien.vision import images

        self.count = 0
        real = images.read

        def read(*args: Any, **options: Any) -> Any:
            self.count += 1
            return real(*args, **options)

        monkeypatch.setattr(images, "read", read)


@pytest.fixture(name="decoded")
def fixture_decoded(monkeypatch: pytest.MonkeyPatch) -> Decoded:
    return Decoded(monkeypatch)


# The same data


def test_a_cache_has_the_same_data_as_memory(photos: Path, tmp_path: Path) -> None:
    plain = datasets.load(photos, size=16)
    kept = datasets.load(photos, size=16, cache=tmp_path)
    assert_same(plain, kept)
    assert image_cache.is_mapped(kept.split("train").images)
    assert not image_cache.is_mapped(plain.split("train").images)
    assert not kept.split("train").images.flags.writeable


def test_the_second_load_decodes_nothing(photos: Path, tmp_path: Path, decoded: Decoded) -> None:
    first = datasets.load(photos, size=16, cache=tmp_path)
    assert decoded.count == 37
    written = [path.stat().st_mtime_ns for path in files_of(tmp_path, "*.u8")]
    again = datasets.load(photos, size=16, cache=tmp_path)
    assert decoded.count == 37
    assert [path.stat().st_mtime_ns for path in files_of(tmp_path, "*.u8")] == written
    assert_same(first, again)


def test_the_file_has_the_order_of_the_splits_and_nothing_else(photos: Path, tmp_path: Path) -> None:
    kept = datasets.load(photos, size=16, cache=tmp_path)
    (file,) = files_of(tmp_path, "*.u8")
    assert file.read_bytes() == b"".join(split.images.tobytes() for split in kept.splits)


@pytest.mark.parametrize("kind", ["zip", "csv", "label-from", "label-from in zip"])
def test_other_sources_are_cached(kind: str, tmp_path: Path, photos: Path) -> None:
    options: dict[str, Any] = {"size": 16}
    if kind == "csv":
        source, _ = builders.faces_csv(tmp_path)
    else:
        source = photos
        if "zip" in kind:
            source = Path(shutil.make_archive(str(tmp_path / "faces"), "zip", photos))
        if "label-from" in kind:
            options["label_from"] = "(?P<label>happy|sad|fear)/"
    plain = datasets.load(source, **options)
    for _ in range(2):
        assert_same(plain, datasets.load(source, cache=tmp_path / "cache", **options))
    with_counts = len(files_of(tmp_path / "cache", "*.u8"))
    assert with_counts == 1


def test_the_second_load_of_an_archive_or_a_csv_decodes_nothing(
    tmp_path: Path, photos: Path, decoded: Decoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.data import pixel_tables

    source = Path(shutil.make_archive(str(tmp_path / "faces"), "zip", photos))
    table, _ = builders.faces_csv(tmp_path)
    for path in (source, table):
        datasets.load(path, size=16, cache=tmp_path / "cache")
    count = decoded.count
    monkeypatch.setattr(pixel_tables, "_pixels", None)
    for path in (source, table):
        datasets.load(path, size=16, cache=tmp_path / "cache")
    assert decoded.count == count


def test_equal_images_and_equal_rows_have_places_of_their_own(tmp_path: Path, decoded: Decoded) -> None:
    table, _ = builders.faces_csv(tmp_path)
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *rows, *rows, *rows]) + "\n")
    plain = datasets.load(table, size=16)
    kept = datasets.load(table, size=16, cache=tmp_path / "cache")
    written = [path.stat().st_mtime_ns for path in files_of(tmp_path, "*.u8")]
    assert_same(plain, kept)
    assert_same(plain, datasets.load(table, size=16, cache=tmp_path / "cache"))
    assert [path.stat().st_mtime_ns for path in files_of(tmp_path, "*.u8")] == written


def test_another_division_arranges_without_decoding(tmp_path: Path, decoded: Decoded) -> None:
    root = make_folder(tmp_path / "faces", splits=(".",), each=12)
    for seed in (1, 2, 1):
        count = decoded.count
        plain = datasets.load(root, size=16, seed=seed)
        decoded.count = count
        assert_same(plain, datasets.load(root, size=16, seed=seed, cache=tmp_path / "cache"))
    assert decoded.count == 37
    assert len(files_of(tmp_path / "cache", "*.u8")) == 1


def test_exclusions_by_hash_name_and_reason(photos: Path, tmp_path: Path, decoded: Decoded) -> None:
    plain = datasets.load(photos, size=16)
    train = plain.split("train")
    import hashlib

    listed = tmp_path / "list.csv"
    listed.write_text(
        f"sha256,file\n{hashlib.sha256(train.images[1].tobytes()).hexdigest()},\n,{train.files[4]}\n"
    )
    left = datasets.load(photos, size=16, exclude=listed)
    assert len(left.split("train")) == len(train) - 2
    decoded.count = 0
    for _ in range(2):
        assert_same(left, datasets.load(photos, size=16, exclude=listed, cache=tmp_path / "cache"))
        # The images that were left out are not lost.
        assert_same(plain, datasets.load(photos, size=16, cache=tmp_path / "cache"))
    assert decoded.count == 37


def test_changed_new_and_missing_files_are_seen(tmp_path: Path, decoded: Decoded) -> None:
    root = make_folder(tmp_path / "faces")
    datasets.load(root, size=16, cache=tmp_path / "cache")
    decoded.count = 0
    Image.fromarray(np.full((9, 9), 77, np.uint8)).save(root / "train" / "happy" / "0.png")
    shutil.copy(root / "val" / "fear" / "1.png", root / "val" / "fear" / "new.png")
    (root / "test" / "sad" / "2.png").unlink()
    kept = datasets.load(root, size=16, cache=tmp_path / "cache")
    assert decoded.count == 2
    assert_same(datasets.load(root, size=16), kept)
    assert_same(kept, datasets.load(root, size=16, cache=tmp_path / "cache"))


def test_another_size_or_source_has_files_of_its_own(photos: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(photos, tmp_path / "copy" / "faces"))
    for source in (photos, copy):
        for size in (16, 17):
            kept = datasets.load(source, size=size, cache=tmp_path / "cache")
            assert_same(datasets.load(source, size=size), kept)
    assert len(files_of(tmp_path / "cache", "*.u8")) == 4


def test_odd_sizes_cross_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images do not begin where pages do, and the file grows in many small parts."""
    monkeypatch.setattr(image_cache, "_BLOCK_BYTES", 3 * 61 * 61)
    monkeypatch.setattr(image_cache, "_FIRST_BLOCK", 1)
    images = np.random.default_rng(0).integers(0, 256, (50, 61, 61, 1), dtype=np.uint8)
    with ImageStore(tmp_path / "store", 61) as store:
        views = [store.add(key_of(str(number)), image) for number, image in enumerate(images)]
        np.testing.assert_array_equal(np.stack(views), images)  # type: ignore[arg-type]
        order = np.random.default_rng(1).permutation(50)
        arranged = store.arrange([views[place] for place in order])  # type: ignore[misc]
        np.testing.assert_array_equal(arranged, images[order])
        np.testing.assert_array_equal(np.concatenate(list(image_cache.blocks(arranged))), images[order])
    with ImageStore(tmp_path / "store", 61) as store:
        for number, image in enumerate(images):
            np.testing.assert_array_equal(store.get(key_of(str(number))), image)  # type: ignore[arg-type]


def test_neighbours_join_without_a_copy(photos: Path, tmp_path: Path) -> None:
    kept = datasets.load(photos, size=16, cache=tmp_path)
    parts = [split.images for split in kept.splits]
    joined = image_cache.join(parts)
    np.testing.assert_array_equal(joined, np.concatenate(parts))
    assert image_cache.is_mapped(joined)
    assert not image_cache.is_mapped(image_cache.join([part.copy() for part in parts]))
    np.testing.assert_array_equal(image_cache.join(parts[1:]), np.concatenate(parts[1:]))
    # Others are copied into a file, which is gone afterwards.
    for some in ([parts[0], parts[2]], parts[::-1], [parts[1].copy(), parts[0]]):
        np.testing.assert_array_equal(image_cache.join(some), np.concatenate(some))
        assert image_cache.is_mapped(image_cache.join(some))
    assert len(files_of(tmp_path, "*")) == 4


# Large data sets


def test_a_large_data_set_is_cached_by_itself(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path))
    plain = datasets.load(photos, size=16)
    assert not plain.stored
    monkeypatch.setattr(contents, "AUTO_CACHE_BYTES", 10 * 16 * 16)
    monkeypatch.setattr(contents, "MAX_PIXEL_BYTES", 10 * 16 * 16)
    kept = datasets.load(photos, size=16)
    assert_same(plain, kept)
    assert image_cache.is_mapped(kept.split("val").images)
    assert any(str(tmp_path) in sentence for sentence in kept.stored)
    assert "cache" not in kept.origin


def test_without_a_default_folder_images_stay_in_memory(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = datasets.load(photos, size=16)
    (tmp_path / "file").touch()
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(contents, "AUTO_CACHE_BYTES", 10 * 16 * 16)
    kept = datasets.load(photos, size=16)
    assert_same(plain, kept)
    assert len(kept.stored) == 1


def test_the_default_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "mine"))
    assert image_cache.default_folder() == tmp_path / "mine"
    monkeypatch.delenv("MIEN_CACHE")
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    monkeypatch.setenv(variable, str(tmp_path))
    assert image_cache.default_folder() == tmp_path / "mien"
    monkeypatch.delenv(variable)
    assert image_cache.default_folder().name == "mien"


def test_a_run_records_the_cache(photos: Path, tmp_path: Path) -> None:
    kept = datasets.load(photos, size=16, cache=tmp_path)
    assert kept.origin["cache"] == str(tmp_path.resolve())
    assert_same(kept, datasets.load(size=16, **kept.origin))


# Kills, damage and full disks

DYING = """
import os, sys
sys.path.insert(0, {tests!r})
from mien import _files
from mien.data import datasets, image_cache
moment, left = {moment!r}, {left}
def dies(function, after=False):
    def call(*args, **options):
        global left
        left -= 1
        if left < 0 and not after:
            os._exit(9)
        result = function(*args, **options)
        if left < 0:
            os._exit(9)
        return result
    return call
store = image_cache.ImageStore
if moment == "image":
    store._add = dies(store._add)
elif moment == "record":
    store._record = dies(store._record)
elif moment == "half":
    def half(file, data):
        global left
        left -= 1
        if left < 0:
            file.write(memoryview(data)[: len(data) // 2])
            os._exit(9)
        file.write(data)
    image_cache._write_all = half
elif moment == "arrange":
    _files.fill = dies(_files.fill)
elif moment == "arranged":
    _files.fill = dies(_files.fill, after=True)
datasets.load({source!r}, size=16, cache={cache!r})
os._exit(0)
"""


@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("image", 20),
        ("record", 35),
        ("half", 1),
        ("half", 41),
        ("arrange", 1),
        ("arranged", 2),
        ("arranged", 3),
        ("arrange", 3),
    ],
)
def test_a_killed_load_goes_on(
    moment: str, left: int, photos: Path, tmp_path: Path, decoded: Decoded
) -> None:
    code = DYING.format(
        tests=str(Path(__file__).parent), moment=moment, left=left, source=str(photos), cache=str(tmp_path)
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, timeout=120)
    assert killed.returncode == 9, killed.stderr
    kept = datasets.load(photos, size=16, cache=tmp_path)
    assert not any("damaged entries" in sentence for sentence in kept.stored)
    # What was kept before is not decoded again.
    done = {"image": left, "record": left, "half": left // 2}.get(moment, 37 if left else 0)
    assert decoded.count == 37 - done
    assert_same(datasets.load(photos, size=16), kept)
    assert len(files_of(tmp_path, "*.u8")) == 1
    assert not files_of(tmp_path, ".partial-*")
    assert not files_of(tmp_path, "lock")


@pytest.mark.parametrize("file", ["images-*.u8", "index-*.bin", "reasons-*.jsonl"])
@pytest.mark.parametrize("damage", ["flip", "shorten", "delete", "zeros", "longer"])
def test_damaged_files_are_made_again(file: str, damage: str, photos: Path, tmp_path: Path) -> None:
    plain = datasets.load(photos, size=16)
    datasets.load(photos, size=16, cache=tmp_path)
    (path,) = files_of(tmp_path, file)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 0x10
    elif damage == "shorten":
        del content[len(content) // 2 :]
    elif damage == "zeros":
        content[len(content) // 3 :] = bytes(len(content) - len(content) // 3)
    elif damage == "longer":
        content += b"\x01" * 70
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(content)
    kept = datasets.load(photos, size=16, cache=tmp_path)
    assert_same(plain, kept)
    if damage in ("flip", "zeros"):
        assert any("damaged entries" in sentence for sentence in kept.stored)
    again = datasets.load(photos, size=16, cache=tmp_path)
    assert_same(plain, again)
    assert not any("damaged entries" in sentence for sentence in again.stored)


def test_a_full_disk_is_reported_and_nothing_is_lost(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: Decoded
) -> None:
    real, left = image_cache._write_all, [30]

    def full(file: Any, data: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(file, data)

    monkeypatch.setattr(image_cache, "_write_all", full)
    with builders.refused(OutputError, tmp_path):
        datasets.load(photos, size=16, cache=tmp_path)
    monkeypatch.setattr(image_cache, "_write_all", real)
    decoded.count = 0
    kept = datasets.load(photos, size=16, cache=tmp_path)
    assert decoded.count == 37 - 15
    assert_same(datasets.load(photos, size=16), kept)


def test_a_write_that_takes_fewer_bytes_goes_on(tmp_path: Path) -> None:
    class Few:
        def __init__(self) -> None:
            self.data = b""

        def write(self, data: bytes) -> int:
            self.data += bytes(data[:3])
            return min(3, len(data))

    file = Few()
    image_cache._write_all(file, b"0123456789")  # type: ignore[arg-type]
    assert file.data == b"0123456789"


def test_space_is_checked_before_anything_is_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    # 37 images of the folder, each twice.
    free = 2 * 37 * 16 * 16 - 1
    monkeypatch.setattr(image_cache, "_FIRST_BLOCK", 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    with builders.refused(OutputError, "faces-", "MiB"):
        datasets.load(photos, size=16, cache=tmp_path)
    assert not any(path.stat().st_size for path in files_of(tmp_path, "*.u8"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free + 1))
    datasets.load(photos, size=16, cache=tmp_path)
    # A complete cache needs no space.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    datasets.load(photos, size=16, cache=tmp_path)


def make_read_only(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Refuse to write below a folder, also to the superuser, who ignores permissions."""
    real = os.open

    def refuse(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(folder) in os.fsdecode(path):
            raise OSError(30, "Read-only file system", str(path))
        return real(path, flags, *args, **options)

    from mien import _files

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(_files, "hold", lambda path: os.close(os.open(path, os.O_CREAT | os.O_RDWR)))


def test_a_read_only_folder_is_read(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: Decoded
) -> None:
    root = Path(shutil.copytree(photos, tmp_path / "faces"))
    cache = tmp_path / "cache"
    kept = datasets.load(root, size=16, cache=cache)
    decoded.count = 0
    with monkeypatch.context() as patch:
        make_read_only(patch, cache)
        assert_same(kept, datasets.load(root, size=16, cache=cache))
        assert decoded.count == 0
        Image.fromarray(np.full((9, 9), 7, np.uint8)).save(root / "train" / "happy" / "new.png")
        with builders.refused(OutputError, "cache"):
            datasets.load(root, size=16, cache=cache)
        with builders.refused(OutputError, "cache"):
            datasets.load(root, size=17, cache=cache)


def test_a_cache_that_is_a_file_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with builders.refused(OutputError, "file"):
        datasets.load(photos, size=16, cache=tmp_path / "file")


# Several processes


def test_two_processes_make_one_cache(photos: Path, tmp_path: Path) -> None:
    code = (
        "from mien.data import datasets\n"
        f"print(datasets.load({str(photos)!r}, size=16, cache={str(tmp_path)!r}).fingerprint)"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = {process.communicate(timeout=120)[0].strip() for process in both}
    assert said == {datasets.load(photos, size=16).fingerprint}
    assert len(files_of(tmp_path, "*.u8")) == 1


def test_a_second_writer_waits(tmp_path: Path) -> None:
    first = ImageStore(tmp_path / "store", 16).__enter__()
    with pytest.raises(LockedError):
        ImageStore(tmp_path / "store", 16, lock="now").__enter__()
    found: list[object] = []

    def second() -> None:
        with ImageStore(tmp_path / "store", 16) as store:
            found.append(store.get(key_of("a")))

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    first.add(key_of("a"), "the reason")
    first.close()
    thread.join(30)
    assert found == ["the reason"]


def test_images_stay_valid_while_others_arrange(photos: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(photos, tmp_path / "faces"))
    kept = datasets.load(root, size=16, cache=tmp_path / "cache")
    before = kept.fingerprint
    (root / "train" / "happy" / "0.png").unlink()
    datasets.load(root, size=16, cache=tmp_path / "cache")
    image_cache.release(kept.split("train").images)
    assert datasets.Dataset(kept.root, kept.labels, kept.train, kept.val, kept.test).fingerprint == before


# Training and evaluation


def test_a_training_has_the_same_bits(tmp_path: Path) -> None:
    from mien.training import recipes, trainer

    builders.add_toy_network()
    source = builders.faces_archive(tmp_path / "faces.zip")
    recipe = recipes.override(
        recipes.get("quick"), ["epochs=2", "network=toy", "size=16", "augment.mixup=0.2"]
    )
    weights = []
    for cache in (None, tmp_path / "cache"):
        data = datasets.load(source, size=16, cache=cache)
        assert image_cache.is_mapped(data.split("train").images) == (cache is not None)
        run = trainer.fit(data, recipe, out=tmp_path / str(cache is None) / "run")
        weights.append((run.model_folder / "model.onnx").read_bytes())
        facts = json.loads((run.path / "run.json").read_text())
        assert facts["data"]["fingerprint"] == data.fingerprint
    assert weights[0] == weights[1]


def test_duplicates_are_the_same(tmp_path: Path) -> None:
    source = builders.faces_archive(tmp_path / "faces.zip")
    plain, kept = datasets.load(source), datasets.load(source, cache=tmp_path / "cache")
    one, other = (duplicates.find(image_cache.join([s.images for s in d.splits])) for d in (plain, kept))
    np.testing.assert_array_equal(one.first, other.first)
    np.testing.assert_array_equal(one.pairs, other.pairs)


def test_pages_are_dropped_after_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all images leaves few of them in memory."""
    if not Path("/proc/self/smaps").exists():
        pytest.skip("the system does not say what is in memory")
    monkeypatch.setattr(image_cache, "_BLOCK_BYTES", 2**20)
    images = np.random.default_rng(0).integers(0, 256, (1000, 96, 96, 1), dtype=np.uint8)
    with ImageStore(tmp_path / "store", 96) as store:
        arranged = store.arrange([store.add(key_of(str(n)), image) for n, image in enumerate(images)])  # type: ignore[misc]

    def resident() -> int:
        found, there = 0, False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if "-" in line.split(" ")[0]:
                there = "images-" in line
            elif there and line.startswith("Rss:"):
                found += int(line.split()[1]) * 1024
        return found

    assert sum(int(part.sum()) for part in image_cache.blocks(arranged)) == int(images.sum())
    assert resident() < 2**21
    for image in image_cache.each(arranged):
        image.sum()
    assert resident() < 2**22
    assert int(arranged.sum()) == int(images.sum())
    assert resident() > 8 * 2**20
    image_cache.release(arranged)
    assert resident() < 2**17


def test_division_hashes_in_order(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 2, (300, 2, 2, 1), dtype=np.uint8)
    found = contents.Contents(
        classes=("a", "b"),
        faces=images,
        labels=np.arange(300) % 2,
        splits=[""] * 300,
        files=[str(number) for number in range(300)],
        declared=frozenset(),
    )
    parts, _ = division.divide(found, 1)
    seen = {split: {images[place].tobytes() for place in members} for split, members in parts.items()}
    assert not seen["train"] & seen["val"]
