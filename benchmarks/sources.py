"""How long it takes to find labelled images: tables of paths, and fer2013.csv in two versions of mien.

    python benchmarks/sources.py tables [--rows 300000]
    python benchmarks/sources.py fer2013 FER2013_CSV --against OTHER/src [--rounds 5]

`tables` writes a folder of empty images, 1,000 in a subfolder, and a csv of their paths with a label, a
split, a person and a face box; then a process lists the rows and checks that each file exists. It does the
same for a table of files that do not exist. `fer2013` loads the csv, plain and in a tar.gz, in a process of
its own with this version and another one in turns, and gives the ratio of their CPU seconds.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

SRC = Path(__file__).resolve().parent.parent / "src"


def make(folder: Path, rows: int) -> None:
    lines = ["path,label,usage,person,x,y,w,h\n"]
    for number in range(rows):
        inside = folder / "images" / str(number // 1000)
        if number % 1000 == 0:
            inside.mkdir(parents=True)
        (inside / f"{number}.jpg").touch()
        usage = ("Training", "PublicTest", "PrivateTest")[number % 3]
        lines.append(f"images/{number // 1000}/{number}.jpg,{number % 7},{usage},p{number % 997},1,2,30,40\n")
    (folder / "there.csv").write_text("".join(lines))
    (folder / "absent.csv").write_text("".join(lines).replace(".jpg", ".png"))


def list_table(path: Path) -> None:
    from mien.data import contents, tables
    from mien.errors import DataError

    options = contents.ReadOptions(size=48)
    wall, cpu = time.perf_counter(), time.process_time()
    table = tables.open_table(path, path.name, "", tables.files_of(path.parent, (), options))
    assert table is not None
    try:
        found = f"{len(tables.read_tables(path.parent, [table], options).entries):,} images"
    except DataError:
        found = "refused"
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"{path.stem:>7} {found:>15} {wall:>8.1f} {cpu:>7.1f} {memory:>6.0f}", flush=True)


def load(path: Path) -> None:
    from mien.data import datasets

    start = time.process_time()
    data = datasets.load(path)
    print(json.dumps([time.process_time() - start, data.fingerprint]))


def run(source: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(
        [sys.executable, __file__, *words], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def compare(csv: Path, other: Path, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "fer2013.tar.gz"
        with tarfile.open(packed, "w:gz", compresslevel=1) as out:
            out.add(csv, "fer2013/fer2013.csv")
        for path in (csv, packed):
            seconds: dict[Path, list[float]] = {SRC: [], other: []}
            prints = set()
            for turn in range(rounds):
                for source in (SRC, other) if turn % 2 else (other, SRC):
                    taken, fingerprint = json.loads(run(source, "load", str(path)))
                    seconds[source].append(taken)
                    prints.add(fingerprint)
            ratios = [mine / theirs for mine, theirs in zip(seconds[SRC], seconds[other], strict=True)]
            least = [min(seconds[source]) for source in (SRC, other)]
            print(
                f"{path.name}: {least[0]:.2f} CPU s, the other {least[1]:.2f}; ratio of pairs: median "
                f"{statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}; "
                f"{'same' if len(prints) == 1 else 'OTHER'} fingerprint",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["tables", "fer2013", "list", "load"])
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.what == "list":
        list_table(arguments.path)
    elif arguments.what == "load":
        load(arguments.path)
    elif arguments.what == "fer2013":
        compare(arguments.path, arguments.against.resolve(), arguments.rounds)
    else:
        print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
        print("  table           found  seconds   CPU s    MiB")
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), arguments.rows)
            for name in ("there.csv", "absent.csv"):
                print(run(SRC, "list", str(Path(folder) / name)), end="")


if __name__ == "__main__":
    main()
