"""One folder in several parts: which files belong to a part, and parts joined again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

import mien
from builders import has_line, refused
from mien import cli
from mien._tables import log_path
from mien.errors import InputError, OutputError
from mien.inference import image_files, tables
from mien.inference.image_files import Shard
from mien.inference.merging import merge_parts

PHOTO: np.ndarray = np.ascontiguousarray(astronaut()[:320, :400][::2, ::2])


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with subfolders, 40 photos, odd names, and three files that cannot be read."""
    root = tmp_path_factory.mktemp("many") / "photos"
    for place in ("", "a", "a.b", "a/deep", "z"):
        (root / place).mkdir(parents=True, exist_ok=True)
        for number in range(8):
            photo = np.roll(PHOTO, number, axis=1) if number else np.zeros((60, 60, 3), np.uint8)
            Image.fromarray(photo).save(root / place / f"{number}.png")
    for name in ("=1+1.png", "a,b\n.png", "-x.png", "'q.png", "ß😀.png", os.fsdecode(b"caf\xe9.png")):
        shutil.copy(root / "1.png", root / "z" / name)
    for name in ("bad.jpg", "a/bad.jpg", "z/worse.png"):
        (root / name).write_bytes(b"no image")
    (root / "notes.txt").write_text("nothing")
    return root


def run(*words: object) -> int:
    return cli.run([str(word) for word in words])


def predict(*words: object) -> int:
    return run("predict", *words, "--whole-image", "--model", "fast")


def parts_of(folder: Path, count: int, suffix: str = "csv", at: Path | None = None) -> list[Path]:
    parts = [(at or Path()) / f"part-{number}.{suffix}" for number in range(1, count + 1)]
    for number, part in enumerate(parts, start=1):
        assert predict(folder, "--shard", f"{number}/{count}", "--to", part) in (0, 3)
    return parts


def test_every_file_is_in_one_shard_whatever_else_is_in_the_folder(many: Path, away: Path) -> None:
    whole = image_files.find([str(many)])
    for count in (1, 2, 7):
        shards = [Shard(number, count) for number in range(1, count + 1)]
        found = [image_files.find([str(many)], keep=shard.has) for shard in shards]
        assert sorted(file for files in found for file in files) == sorted(whole)
        # Elsewhere, with other files around it, each is in the same shard.
        for number, place in enumerate(("one", "two/three")):
            there = away / str(count) / place
            for file in whole[number::2]:
                copy = there / Path(file).relative_to(many)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(b"")
            for shard, files in zip(shards, found, strict=True):
                kept = image_files.find([str(there)], keep=shard.has)
                expected = [
                    str(there / Path(file).relative_to(many)) for file in files if file in whole[number::2]
                ]
                assert sorted(kept) == sorted(expected)


def test_shards_are_about_equally_large() -> None:
    counts = Counter(
        next(number for number in range(1, 9) if Shard(number, 8).has(f"2026/{name}.jpg"))
        for name in range(8000)
    )
    assert min(counts.values()) > 900
    # Which shard has a file must never change, because parts of different days belong together.
    assert [Shard(3, 8).has(name) for name in ("a.jpg", "b.jpg", "deep/c.jpg")] == [True, True, False]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_merged_parts_are_what_one_run_writes(suffix: str, many: Path, away: Path) -> None:
    assert predict(many, "--to", f"whole.{suffix}") == 3
    parts = parts_of(many, 3, suffix)
    assert run("merge", *reversed(parts), "--to", f"all.{suffix}") == 3
    if suffix == "parquet":
        from pyarrow import parquet

        whole, merged = (parquet.read_table(f"{name}.parquet") for name in ("whole", "all"))
        assert whole.num_rows == 46
        assert merged.schema.equals(whole.schema)
        for one, other in zip(whole.to_pylist(), merged.to_pylist(), strict=True):
            assert one == other
    else:
        lines = [Path(f"{name}.{suffix}").read_bytes().split(b"\n") for name in ("whole", "all")]
        for one, other in zip(*lines, strict=True):
            assert one == other
    # The result is as complete as that of one run, and records as much.
    assert tables.facts_of(f"all.{suffix}") == tables.facts_of(f"whole.{suffix}")
    assert tables.facts_of(f"all.{suffix}")[1] == {
        str(many / name) for name in ("bad.jpg", "a/bad.jpg", "z/worse.png")
    }
    made = Path(f"all.{suffix}").stat().st_mtime_ns
    assert predict(many, "--to", f"all.{suffix}", "--resume") == 3
    assert Path(f"all.{suffix}").stat().st_mtime_ns == made


def test_faces_of_one_photo_stay_together(away: Path) -> None:
    Path("photos").mkdir()
    both = np.hstack([astronaut()[:320, :400], astronaut()[:320, :400][:, ::-1]])
    for number in range(4):
        Image.fromarray(both if number % 2 else both[:, :400]).save(f"photos/{number}.jpg", quality=95)
    assert run("predict", "photos", "--to", "whole.csv") == 0
    for number in (1, 2):
        assert run("predict", "photos", "--to", f"{number}.csv", "--shard", f"{number}/2") == 0
    merged = merge_parts(["2.csv", "1.csv"], "all.csv")
    assert (merged.parts, merged.images, merged.faces, merged.unreadable) == (2, 4, 6, ())
    assert Path("all.csv").read_bytes() == Path("whole.csv").read_bytes()


def test_a_part_in_another_order_is_sorted(many: Path, away: Path) -> None:
    """A run that was resumed with more folders writes them after those that it had."""
    for number in (1, 2):
        facts, found = {}, []
        for name in ("z", "a"):
            to = f"{number}-{name}.jsonl"
            assert predict(many / name, "--shard", f"{number}/2", "--to", to) in (0, 3)
            found += Path(to).read_text().splitlines(keepends=True)
            facts = json.loads(tables.facts_path(to).read_bytes())
        to = f"{number}.jsonl"
        Path(to).write_text("".join(found))
        tables.facts_path(to).write_text(json.dumps(facts | {"sha256": tables._digest(to)}))
    assert merge_parts(["1.jsonl", "2.jsonl"], "all.jsonl").images == 30
    assert predict(many / "a", many / "z", "--to", "whole.jsonl") == 3
    assert Path("all.jsonl").read_text() == Path("whole.jsonl").read_text()


def test_a_folder_that_is_not_there_fails_in_every_shard(
    many: Path, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    for folder in ("nowhere", "empty"):
        for number in (1, 2, 3):
            assert (
                predict(
                    many if folder == "nowhere" else folder, folder, "--shard", f"{number}/3", "--to", "x.csv"
                )
                == 2
            )
            assert has_line(capsys.readouterr().err, folder)
    assert [path.name for path in away.iterdir()] == ["empty"]


def test_a_shard_without_images_is_an_empty_part(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos").mkdir()
    Image.fromarray(PHOTO).save("photos/a.png")
    parts = parts_of(Path("photos"), 4, "parquet")
    assert "has no images" in capsys.readouterr().err
    assert merge_parts(parts, "all.parquet").images == 1
    Path("empty").mkdir()
    for number in (1, 2):
        assert predict("empty", "--shard", f"{number}/2", "--to", "x.csv") == 2
    # A shard in which nothing can be read is done, so that a job is not repeated forever.
    Path("photos/a.png").write_bytes(b"bad")
    assert [predict("photos", "--shard", f"{n}/2", "--to", f"{n}.csv") for n in (1, 2)].count(3) == 1


@pytest.mark.parametrize(
    "shard", ["0/4", "5/4", "1", "1/0", "-1/4", "a/b", "1/4/2", "", " 1/2", "1.0/2", "٣/8"]
)
def test_a_bad_shard_is_refused(
    shard: str, many: Path, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(many, "--to", "x.csv", f"--shard={shard}") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--shard" in said
    with refused(InputError, shard):
        mien.predict_files(many, to="x.csv", shard=shard)


def test_a_shard_needs_a_file_and_paths(many: Path, away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(many, "--shard", "1/2") == 2
    assert has_line(capsys.readouterr().err, "--shard", "--to")
    assert predict("-", "--shard", "1/2", "--to", "x.csv") == 2
    assert has_line(capsys.readouterr().err, "stdin", "--shard")
    with refused(InputError, "to"):
        mien.predict_files(many, shard="1/2")
    with refused(InputError):
        mien.predict_files([PHOTO], shard="1/2", to="x.csv")
    assert list(away.iterdir()) == []


def test_a_part_is_resumed_only_as_the_same_shard(
    many: Path, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (part, _) = parts_of(many, 2)
    made = part.stat().st_mtime_ns
    assert predict(many, "--shard", "1/2", "--to", part, "--resume") in (0, 3)
    assert part.stat().st_mtime_ns == made
    log_path(part).write_text(
        json.dumps({"log": 1, **(tables.facts_of(part)[0] or {})}, sort_keys=True) + "\n"
    )
    capsys.readouterr()
    for other in (["--shard", "1/3"], ["--shard", "2/2"], []):
        assert predict(many, *other, "--to", part, "--resume") == 2
        assert has_line(capsys.readouterr().err, part, "--shard")
    assert part.stat().st_mtime_ns == made


def test_a_killed_shard_goes_on_and_unfinished_parts_are_not_merged(
    many: Path, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--shard", "1/2", "--to", "part-1.parquet", "--whole-image", "--model", "fast"]
    shutil.copytree(many, "photos")
    for number in range(200):
        os.link("photos/1.png", f"photos/more-{number}.png")
    process = subprocess.Popen([sys.executable, "-m", "mien", "predict", "photos", *options])
    kept = log_path("part-1.parquet")
    deadline = time.monotonic() + 120
    while not (kept.exists() and kept.read_bytes().count(b"\n") > 1):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert predict("photos", "--shard", "2/2", "--to", "part-2.parquet") in (0, 3)
    merge = ("merge", "part-1.parquet", "part-2.parquet", "--to", "all.parquet")
    assert run(*merge) == 2
    assert has_line(capsys.readouterr().err, "part-1.parquet", "--resume")
    assert run("predict", "photos", *options, "--resume") in (0, 3)
    assert "in an earlier run" in capsys.readouterr().err
    assert run(*merge, "--json") == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["parts"], document["images"], len(document["unreadable"])) == (2, 246, 3)
    assert predict("photos", "--to", "whole.parquet") == 3
    from pyarrow import parquet

    assert parquet.read_table("all.parquet").to_pylist() == parquet.read_table("whole.parquet").to_pylist()


def test_parts_that_do_not_belong_together_are_refused(
    many: Path, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = parts_of(many, 3)
    options = ["--whole-image", "--shard", "3/3", "--to", "other.csv"]
    assert run("predict", many, *options, "--model", "default") in (0, 3)
    assert predict(many, "--shard", "1/4", "--to", "four.csv") in (0, 3)
    assert predict(many, "--to", "whole.csv") == 3
    shutil.copy(one, "copy.csv")
    shutil.copy(f".{one}.facts", ".copy.csv.facts")
    shutil.copy(three, "alone.csv")
    Path("changed.csv").write_text(three.read_text() + "x")
    shutil.copy(f".{three}.facts", ".changed.csv.facts")
    Path("running.csv").write_text(three.read_text())
    log_path("running.csv").write_text("{}\n")
    capsys.readouterr()
    for parts, named in (
        ([one, two], ["3/3"]),
        ([two], ["1/3", "3/3"]),
        ([one, two, three, "copy.csv"], ["part-1.csv", "copy.csv", "1/3"]),
        ([one, one, two, three], ["part-1.csv", "1/3"]),
        ([one, two, "other.csv"], ["other.csv", "--model"]),
        ([one, two, "four.csv"], ["four.csv", "4", "3"]),
        ([one, two, "whole.csv"], ["whole.csv", "--shard"]),
        ([one, two, "alone.csv"], ["alone.csv", ".alone.csv.facts"]),
        ([one, two, "changed.csv"], ["changed.csv"]),
        ([one, two, "running.csv"], ["running.csv", "--resume"]),
        ([one, two, "gone.csv"], ["gone.csv"]),
        ([one, two, "part-3.jsonl"], ["part-3.jsonl", ".csv"]),
    ):
        assert run("merge", *parts, "--to", "all.csv") == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert has_line(said.err, *named)
    for to in (two, "all.txt"):
        before = two.read_bytes()
        assert run("merge", one, two, three, "--to", to) == 2
        assert str(to) in capsys.readouterr().err
        assert two.read_bytes() == before
    assert not Path("all.csv").exists()
    with refused(InputError):
        merge_parts([], "all.csv")
    Path("file").write_text("")
    with refused(OutputError, "file"):
        merge_parts([one, two, three], "file/all.csv")


def test_an_image_in_two_parts_is_refused(many: Path, away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named alone, a file may be in another shard than below its folder."""
    shutil.copytree(many, "photos")
    one, _ = parts_of(Path("photos"), 2)
    twice = next(
        f"photos/{number}.png"
        for number in range(8)
        if Shard(1, 2).has(f"{number}.png") and Shard(2, 2).has(f"photos/{number}.png")
    )
    assert predict(twice, "--shard", "2/2", "--to", "two.csv") == 0
    assert run("merge", one, "two.csv", "--to", "all.csv") == 2
    assert has_line(capsys.readouterr().err, twice, one, "two.csv")
    assert not Path("all.csv").exists()


def test_a_damaged_part_is_refused(many: Path, away: Path) -> None:
    parts = parts_of(many, 2, "parquet")
    whole = parts[0].read_bytes()
    for damaged in (b"", b"PAR1", whole[: len(whole) // 2], whole[:300] + b"\0" * 300 + whole[600:]):
        parts[0].write_bytes(damaged)
        with refused(InputError, "part-1.parquet"):
            merge_parts(parts, "all.parquet")
    assert not Path("all.parquet").exists()


def test_a_merge_takes_constant_memory(away: Path) -> None:
    from mien.types import Box, Face, Prediction

    labels = mien.Predictor("fast").names
    face = Face(Box(1, 2, 30, 40), 0.5, dict.fromkeys(labels, 1 / len(labels)))
    peaks = []
    for images in (500, 4_000):
        for number in (1, 2):
            items = (Prediction(f"p/{i:06}.jpg", 9, 9, (face,)) for i in range(number, images, 2))
            tables.write(f"{number}.jsonl", items, labels, facts={"shard": f"{number}/2"})
        code = (
            "import re; from pathlib import Path; from mien.inference.merging import merge_parts\n"
            "print(merge_parts(['1.jsonl', '2.jsonl'], 'all.jsonl').images,"
            " re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])"
        )
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        found, kibibytes = map(int, told.split())
        assert found == images - 1
        peaks.append(kibibytes)
    assert peaks[1] < peaks[0] + 8_000


GUIDE = (Path(__file__).parents[1] / "docs" / "guides" / "many-machines.md").read_text(encoding="utf-8")


def few(folder: Path) -> None:
    """Write four photos and a broken one, of which each of two shards has some."""
    folder.mkdir()
    for number in range(4):
        Image.fromarray(np.roll(PHOTO, number, axis=1)).save(folder / f"{number}.png")
    (folder / "bad.jpg").write_bytes(b"no image")


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script with the `mien` of these tests."""
    Path("bin").mkdir(exist_ok=True)
    mien_here = Path("bin/mien")
    mien_here.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mien "$@"\n')
    mien_here.chmod(0o755)
    path = f"{mien_here.parent.resolve()}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", script], env=os.environ | {"PATH": path, **environment}, check=False, text=True
    )


def test_the_slurm_array_of_the_guide(away: Path) -> None:
    array, merge = re.findall(r"```slurm\n(.*?)```", GUIDE, re.DOTALL)
    few(Path("photos"))
    facts = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "1"}
    for task in ("1", "2", "2"):  # again, as after a timeout
        assert shell(array, SLURM_ARRAY_TASK_ID=task, **facts).returncode == 0
    assert shell(merge).returncode == 0
    assert run("predict", "photos", "--to", "whole.parquet") == 3
    from pyarrow import parquet

    assert parquet.read_table("faces.parquet").equals(parquet.read_table("whole.parquet"))
    lost = array.replace("photos/", "nowhere/")
    assert shell(lost, SLURM_ARRAY_TASK_ID="1", **facts).returncode == 1


def test_the_kubernetes_job_of_the_guide(away: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="it comes with dask")
    (manifest,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    job = yaml.safe_load(manifest)["spec"]
    (container,) = job["template"]["spec"]["containers"]
    (script,) = container["args"]
    assert container["command"] == ["sh", "-c"]
    assert f"/{job['completions']}" in script
    few(Path("photos"))
    script = script.replace(f"/{job['completions']}", "/2").replace("--workers 2", "--workers 1")
    for index in ("0", "1"):
        assert shell(script, JOB_COMPLETION_INDEX=index).returncode == 0
    merged = merge_parts(Path("parts").iterdir(), "all.parquet")
    assert (merged.parts, merged.images, len(merged.unreadable)) == (2, 4, 1)
