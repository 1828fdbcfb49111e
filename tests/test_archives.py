import bz2
import fcntl
import gzip
import itertools
import json
import lzma
import os
import random
import resource
import signal
import struct
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archives import (
    FACE,
    FILE,
    FILES,
    GOOD,
    Zipped,
    named,
    pax,
    tar_of,
    tarred,
    zip_of,
    zipped,
)
from builders import refused
from hostile import BAD_NAMES, HARMLESS, HOSTILE, heavy
from mien._text import quote
from mien.data import archives
from mien.errors import ArchiveError, OutputError
from unpacking import (
    NOTE,
    calls,
    change,
    inside,
    killed_and_run_again,
    many,
    put,
    read_only,
    refusal_alone,
    touches,
    tree,
    worker,
)


@pytest.mark.parametrize("what", GOOD)
def test_good_archives_come_out_as_they_went_in(tmp_path, what):
    data, files = GOOD[what]()
    archive = put(tmp_path, data)
    assert archives.is_archive(archive)
    seen = []
    assert dict(archives.members(archive, progress=lambda *at: seen.append(at))) == files
    total = sum(map(len, files.values()))
    assert seen[-1] == (total, total)
    assert len(seen) == len(files)
    made = archives.unpack(archive, tmp_path / "new" / "out")
    assert tree(tmp_path / "new" / "out") == files
    assert made == archives.Extraction(tmp_path / "new" / "out", len(files), total, False)
    assert inside(tmp_path / "new") == ["out"]


def test_there_are_enough_hostile_archives():
    assert len(HOSTILE) >= 150


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archives_are_refused_and_leave_nothing(tmp_path, what):
    archive = put(tmp_path, HOSTILE[what]())
    with pytest.raises(ArchiveError) as refusal:
        archives.unpack(archive, tmp_path / "new" / "out")
    message = str(refusal.value)
    assert message.isprintable()
    assert message.startswith("'archive (4).zip' ")
    assert ";" in message
    assert inside(tmp_path) == [archive.name]
    with refused(ArchiveError, message):
        list(archives.members(archive))


@pytest.mark.parametrize("what", BAD_NAMES)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_refusal_names_the_member(tmp_path, kind, what):
    with refused(ArchiveError, quote(BAD_NAMES[what])):
        next(archives.members(put(tmp_path, HOSTILE[f"{kind} {what}"]())))


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ("zip encrypted", "encrypted"),
        ("zip strongly encrypted", "encrypted"),
        ("zip AES", "99"),
        ("zip LZMA", "14"),
        ("zip bomb", "ratio"),
        ("zip bombs together", "ratio"),
        ("tar gz bomb", "ratio"),
        ("tar bz2 bomb", "ratio"),
        ("tar xz bomb", "ratio"),
        ("tar xz dictionary", "emory"),
        ("tar xz dictionary of a second stream", "emory"),
        ("tar gz of one file", "gunzip"),
        ("tar 7z", "7z"),
        ("tar rar", "rar"),
        ("zip nested", "inner.zip"),
        ("tar nested", "inner.tgz"),
    ],
)
def test_what_mien_cannot_read_is_named(tmp_path, what, word):
    with refused(ArchiveError, word):
        next(archives.members(put(tmp_path, HOSTILE[what]())))


@pytest.mark.parametrize("what", HARMLESS)
def test_harmless_contradictions_are_read_or_refused(tmp_path, what):
    data, files = HARMLESS[what]()
    archive = put(tmp_path, data)
    try:
        archives.unpack(archive, tmp_path / "new" / "out")
    except ArchiveError:
        assert inside(tmp_path) == [archive.name]
    else:
        assert tree(tmp_path / "new" / "out") == files


def test_every_name_is_checked_before_the_first_file(tmp_path):
    good = [(b"%d" % i, FACE, b"0") for i in range(99)]
    last = Zipped(name=b"../x")
    for data in (
        zip_of(*(Zipped(name=b"%d" % i) for i in range(99)), last),
        tar_of(*good, (b"../x", FACE, b"0")),
        gzip.compress(tar_of(*good, (b"../x", FACE, b"0"))),
    ):
        with refused(ArchiveError, "'../x'"):
            next(archives.members(put(tmp_path, data)))


@pytest.mark.parametrize(
    "limits",
    [
        {"entries": 5},
        {"bytes": 9999},
        {"file_bytes": 9999},
        {"names_bytes": 50},
        {"path_bytes": 50},
        {"depth": 2},
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar pax", "tar.gz"])
def test_each_limit_names_itself(tmp_path, limits, kind):
    with refused(ArchiveError, *limits):
        next(archives.members(put(tmp_path, GOOD[kind]()[0]), limits=archives.Limits(**limits)))


def test_a_ratio_can_be_trusted(tmp_path):
    archive = put(tmp_path, named("a", data=bytes(2**21)))
    assert dict(archives.members(archive, limits=archives.Limits(ratio=2000))) == {"a": bytes(2**21)}


def test_folders_that_names_imply_count(tmp_path):
    archive = put(tmp_path, named("a/b/c", "d/e/f"))
    assert len(list(archives.members(archive, limits=archives.Limits(entries=6)))) == 2
    with refused(ArchiveError, 5, "entries"):
        list(archives.members(archive, limits=archives.Limits(entries=5)))


def test_other_files_are_not_archives(tmp_path):
    assert not archives.is_archive(tmp_path)
    assert not archives.is_archive(tmp_path / "none")
    for data in (b"", b"emotion,pixels\n", bytes(9999), FACE, gzip.compress(b"emotion,pixels\n" * 99)):
        assert not archives.is_archive(put(tmp_path, data, "archive.zip"))
    assert archives.is_archive(put(tmp_path, b"\x1f\x8b" + b"damaged" * 99))
    os.mkfifo(tmp_path / "fifo")
    assert not archives.is_archive(tmp_path / "fifo")
    for path in ("none", "", "fifo"):
        with refused(ArchiveError, tmp_path / path):
            archives.unpack(tmp_path / path, tmp_path / "out")


def test_a_second_run_finds_it_done_under_any_name(tmp_path):
    archive = put(tmp_path, zipped())
    first = archives.unpack(archive, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    (tmp_path / "out" / ".DS_Store").touch()
    second = archives.unpack(archive.rename(tmp_path / "other"), str(tmp_path / "out"))
    assert (first.found_done, second.found_done) == (False, True)
    assert (second.files, second.bytes) == (first.files, first.bytes)
    assert all(path.stat().st_mtime_ns == then for path, then in before.items() if path != tmp_path / "out")
    note = json.loads((tmp_path / "out" / NOTE).read_bytes())
    assert str(tmp_path) not in json.dumps(note)


@pytest.mark.parametrize(
    "what",
    [
        "another archive",
        "a file more",
        "a file less",
        "a file changed",
        "a link",
        "no note",
        "a strange note",
    ],
)
def test_a_folder_with_other_content_is_left_alone(tmp_path, what):
    archive = put(tmp_path, zipped())
    root = tmp_path / "out"
    archives.unpack(archive, root)
    change(root, what)
    before = tree(root)
    with refused(ArchiveError, quote(str(root))) as refusal:
        archives.unpack(archive, root)
    assert str(refusal.value).isprintable()
    assert tree(root) == before
    assert inside(tmp_path) == [archive.name, "out"]


def test_targets_to_unpack_into(tmp_path):
    archive = put(tmp_path, zipped())
    (tmp_path / "empty").mkdir()
    archives.unpack(archive, tmp_path / "empty")
    (tmp_path / "link").symlink_to(tmp_path / "behind")
    archives.unpack(archive, tmp_path / "link")
    assert tree(tmp_path / "empty") == tree(tmp_path / "behind") == FILES
    (tmp_path / "file").write_bytes(b"mine")
    for bad, kind in (("file", ArchiveError), ("file/below", OutputError), ("x" * 300, OutputError)):
        with refused(kind, quote(str(tmp_path / bad))):
            archives.unpack(archive, tmp_path / bad)
    assert (tmp_path / "file").read_bytes() == b"mine"
    archives.unpack(archive, tmp_path / ("x" * 255))
    assert inside(tmp_path) == sorted([archive.name, "behind", "empty", "file", "link", "x" * 255])


def test_a_read_only_folder_is_an_archive_error():
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        archive = put(home, zipped())
        with read_only(home), refused(OutputError, home):
            archives.unpack(archive, home / "a" / "b")
        archive.chmod(0)
        with read_only(home), refused(ArchiveError, archive):
            archives.is_archive(archive)
        assert inside(home) == [archive.name]


def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path):
    huge = struct.pack("<2HQ", 1, 8, 2**60)
    archive = put(tmp_path, named("a", size=2**32 - 1, extra=huge))
    trusting = archives.Limits(bytes=2**62, file_bytes=2**62, ratio=2**62)
    with refused(OutputError, f"{2**60:,}"):
        archives.unpack(archive, tmp_path / "new" / "out", limits=trusting)
    assert inside(tmp_path) == [archive.name]


def test_a_disk_that_stops_taking_bytes_leaves_no_folder(tmp_path):
    archive = put(tmp_path, zipped())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with refused(OutputError, tmp_path / "new"):
            archives.unpack(archive, tmp_path / "new" / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert inside(tmp_path) == [archive.name]


@pytest.mark.parametrize("at", range(len(FILES)))
def test_ctrl_c_leaves_no_folder(tmp_path, at):
    archive = put(tmp_path, zipped())
    calls = itertools.count()

    def progress(done, total):
        if next(calls) == at:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        archives.unpack(archive, tmp_path / "new" / "out", progress=progress)
    assert inside(tmp_path) == [archive.name]


def test_folders_above_stay_if_somebody_uses_them(tmp_path):
    archive = put(tmp_path, zipped())

    def progress(done, total):
        (tmp_path / "new" / "mine").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archives.unpack(archive, tmp_path / "new" / "out", progress=progress)
    assert inside(tmp_path / "new") == ["mine"]


def test_another_process_is_waited_for_and_then_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_PATIENCE", 0.1)
    archive = put(tmp_path, zipped())
    with (tmp_path / ".out.mien-lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with refused(ArchiveError, tmp_path / "out"):
            archives.unpack(archive, tmp_path / "out")
    archives.unpack(archive, tmp_path / "out")
    assert inside(tmp_path) == [archive.name, "out"]


def test_a_waiting_process_finds_it_done(tmp_path):
    archive = put(tmp_path, zipped())
    archives.unpack(archive, tmp_path / "made")
    with ThreadPoolExecutor(1) as pool, (tmp_path / ".out.mien-lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = pool.submit(archives.unpack, archive, tmp_path / "out" / ".." / "out")
        time.sleep(0.2)
        (tmp_path / "made").rename(tmp_path / "out")
        fcntl.flock(other, fcntl.LOCK_UN)
        assert waiting.result().found_done
    assert inside(tmp_path) == [archive.name, "out"]


def test_each_file_is_synced_where_one_sync_for_all_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_SYNC", False)
    archives.unpack(put(tmp_path, zipped()), tmp_path / "out")
    assert tree(tmp_path / "out") == FILES


def test_kill_at_any_touch_of_the_disk_then_run_again(tmp_path):
    files = many(20)
    archive = put(tmp_path, zipped(files))
    total = touches(archive, tmp_path)
    middle = random.Random(7).sample(range(2, total - 5), 4)
    for at in (*middle, *range(total - 3, total + 1)):
        assert killed_and_run_again(tmp_path / str(at), archive, files, at, None) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("pack", [zipped, lambda files: gzip.compress(tarred(files))], ids=["zip", "tar.gz"])
def test_kill_at_fifty_moments_then_run_again(tmp_path, pack):
    files = many(400)
    archive = put(tmp_path, pack(files))
    total = touches(archive, tmp_path)
    started = time.perf_counter()
    archives.unpack(archive, tmp_path / "timed")
    whole = time.perf_counter() - started
    draw = random.Random(8)
    for at in draw.sample(range(1, total + 1), 25):
        assert killed_and_run_again(tmp_path / f"touch {at}", archive, files, at, None) == -signal.SIGKILL
    for turn in range(25):
        ended = killed_and_run_again(tmp_path / f"time {turn}", archive, files, 0, draw.uniform(0, whole))
        assert ended in (0, -signal.SIGKILL)


def test_two_at_once_make_one_folder(tmp_path):
    files = many(300)
    archive = put(tmp_path, zipped(files))
    both = [worker(archive, tmp_path / "out") for _ in range(2)]
    for process in both:
        process.stdout.readline()
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    found = [process.communicate()[0].split()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(found) == ["False", "True"]
    assert tree(tmp_path / "out") == files
    assert inside(tmp_path) == [archive.name, "out"]


@pytest.mark.parametrize(
    ("what", "entries", "says", "mebibytes"),
    [
        ("zip", 200_000, "53,000,000", 10),
        ("zip that lies", 200_000, "53,000,000", 10),
        ("zip of long names", 50_000, "twice", 60),
        ("tar.gz", 50_000, "50,000", 25),  # twice as much if tarfile kept the members
        ("bombs", 200_000, "damaged", 10),
    ],
)
def test_many_entries_take_no_memory(tmp_path, what, entries, says, mebibytes):
    archive = heavy(tmp_path / "archive.zip", what)
    said, grown = refusal_alone(archive, tmp_path / "out", entries)
    assert says in said
    assert grown < mebibytes
    assert inside(tmp_path) == [archive.name]


@pytest.mark.parametrize("pack", [zipped, lambda files: gzip.compress(tarred(files))], ids=["zip", "tar.gz"])
def test_work_grows_with_the_entries_and_ends_at_the_limit(tmp_path, pack):
    def scan(entries, limit):
        archive = put(tmp_path, pack({f"{number}.png": b"" for number in range(entries)}))
        limits = archives.Limits(entries=limit)
        return lambda: list(archives.members(archive, limits=limits, only_if=lambda names: False))

    few, more = calls(scan(500, 10_000)), calls(scan(2_000, 10_000))
    assert more < 4.4 * few
    beyond = scan(5_000, 500)

    def refusal():
        with refused(ArchiveError, "500"):
            beyond()

    assert calls(refusal) < 1.1 * few


PARTS = ["..", ".", "", "a", "A", "C:", "\\", "\0", "\n", "é", "e\u0301", "CON", "~", "x" * 256, " ", "a."]
PATHS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=5).map(lambda parts: "/".join(parts).encode())
TEXTS = st.text(max_size=9).map(lambda text: text.encode(errors="surrogatepass"))
NAMES = st.lists(PATHS | TEXTS | st.binary(max_size=9), min_size=1, max_size=3)


@settings(max_examples=50, deadline=None)
@given(NAMES, st.booleans())
def test_no_name_writes_outside_the_folder(names, as_tar):
    members = [member for name in names for member in (pax(path=name), FILE)]
    with tempfile.TemporaryDirectory() as folder:
        home, refusal = Path(folder), None
        archive = put(home, tar_of(*members) if as_tar else named(*names))
        try:
            made = archives.unpack(archive, home / "above" / "out")
        except ArchiveError as error:
            refusal = str(error)
        if refusal:
            assert refusal.isprintable()
            assert inside(home) == [archive.name]
        else:
            assert inside(home) == ["above", archive.name]
            assert inside(home / "above") == ["out"]
            assert set(tree(home / "above" / "out").values()) == {FACE}
            assert len(tree(home / "above" / "out")) == made.files <= len(names)


ZIP, TAR = zip_of(Zipped(), Zipped(name=b"b/c", method=0)), tar_of(FILE, pax(path=b"b/c"), FILE)
WHOLE = [ZIP, TAR, gzip.compress(TAR, mtime=0), lzma.compress(TAR, preset=0), bz2.compress(TAR)]
WOUNDS = st.lists(st.tuples(st.integers(0, 2**16), st.binary(min_size=1, max_size=4)), max_size=3)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(WHOLE), WOUNDS, st.integers(0, 30))
def test_damage_is_refused_or_harmless(whole, wounds, cut):
    data = bytearray(whole)
    for at, wound in wounds:
        start = at % len(data)
        data[start : start + len(wound)] = wound
    with tempfile.TemporaryDirectory() as folder:
        archive, refusal, found = put(Path(folder), bytes(data[: len(data) - cut])), None, {}
        archives.is_archive(archive)
        try:
            found = dict(archives.members(archive))
        except ArchiveError as error:
            refusal = str(error)
    assert refusal is None or refusal.isprintable()
    # A plain tar has no checksum over its files; every other kind has.
    assert whole is TAR or set(found.values()) <= {FACE}
