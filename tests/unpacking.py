"""Processes that unpack, are killed, have no rights, or are measured; and what they leave behind."""

import itertools
import json
import os
import random
import subprocess
import sys
import time
from contextlib import contextmanager

from archives import LONG
from mien.data import archives

NOTE = ".mien-extract.json"


def tree(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != NOTE
    }


def inside(folder):
    return sorted(path.name for path in folder.iterdir())


def put(folder, data, name="archive (4).zip"):
    path = folder / name
    path.write_bytes(data)
    return path


def change(root, what):
    """Do to an unpacked folder what its user might."""
    note = root / NOTE
    if what == "another archive":
        note.write_text(note.read_text().replace('"archive": "', '"archive": "0'))
    elif what == "a file more":
        (root / "mine.png").touch()
    elif what == "a file less":
        (root / LONG).unlink()
    elif what == "a file changed":
        (root / LONG).write_bytes(b"longer")
    elif what == "a link":
        (root / LONG).unlink()
        (root / LONG).symlink_to("/etc/passwd")
    elif what == "no note":
        note.unlink()
    elif what == "a strange note":
        note.write_text("[]")


@contextmanager
def read_only(folder):
    """Take from this process the right to write in `folder`; root becomes somebody else meanwhile."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


WORKER = """
import os, signal, sys
from mien.data import archives
left = int(sys.argv[3])
def count(event, args):
    global left
    if event == "open" or event.startswith(("os.", "shutil.", "fcntl.")):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
print("ready", flush=True)
sys.stdin.readline()
sys.addaudithook(count)
made = archives.unpack(sys.argv[1], sys.argv[2])
print(made.found_done, -left, flush=True)
"""


def worker(archive, to, kill_at=0):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, archive, to, str(kill_at)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def many(count):
    draw = random.Random(count)
    return {f"data/train/{i % 7}/{i}.png": draw.randbytes(draw.randrange(4000)) for i in range(count)}


def killed_and_run_again(home, archive, files, kill_at, seconds):
    """Kill one run at its `kill_at`-th touch of the disk, or after `seconds`; then run again."""
    home.mkdir()
    with worker(archive, home / "out", kill_at) as process:
        process.stdout.readline()
        process.stdin.write("\n")
        process.stdin.flush()
        if seconds is not None:
            time.sleep(seconds)
            process.kill()
        process.wait()
    if (home / "out").exists():
        assert tree(home / "out") == files
    made = archives.unpack(archive, home / "out")
    assert made.files == len(files)
    assert tree(home / "out") == files
    assert inside(home) == ["out"]
    return process.returncode


def touches(archive, home):
    with worker(archive, home / "all") as process:
        done, count = process.communicate("\n")[0].split()[1:]
    assert done == "False"
    return int(count)


HEAVY = """
import json, re, sys
from pathlib import Path
from mien.data import archives
from mien.errors import ArchiveError
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
said, before = None, peak()
try:
    archives.unpack(sys.argv[1], sys.argv[2], limits=archives.Limits(entries=int(sys.argv[3])))
except ArchiveError as error:
    said = str(error)
print(json.dumps([said, (peak() - before) / 1024]))
"""


def refusal_alone(archive, to, entries=archives.Limits.entries):
    """Unpack in a process of its own; return what it said, and by how many MiB its peak memory grew.

    The peak is Linux' own: what getrusage calls one has the parent's in it.
    """
    run = [sys.executable, "-c", HEAVY, archive, to, str(entries)]
    # Measuring coverage in there would measure coverage.
    calm = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return json.loads(subprocess.run(run, capture_output=True, check=True, env=calm).stdout)


def calls(run):
    """Run a function; return how many functions of Python and of C it called.

    Unlike seconds, the number is the same on every machine and at every load.
    """
    counter = itertools.count()

    def count(frame, event, argument):
        if event in ("call", "c_call"):
            next(counter)

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(before)
    return next(counter)
