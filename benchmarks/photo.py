"""A photo's faces and emotions by mien and by the package fer, each with its own detector, in turns.

    python -m venv fer
    fer/bin/pip install "opencv-contrib-python-headless<5" tensorflow-cpu pandas requests tqdm "moviepy<2"
    fer/bin/pip install --no-deps fer==25.10.3
    python benchmarks/photo.py --fer fer/bin/python

fer's detector is OpenCV's Haar cascade, which OpenCV 5 no longer has; its other one needs torch. deepface
cannot take part without a network: it fetches its weights when it is first used. Each answers in fresh
processes; printed are the smallest, median and largest of all repeats: seconds and CPU seconds from before
the imports to the first answer, then CPU milliseconds a photo, and peak memory.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from predict import scene

#: Makes `answer`, which takes a photo's path and returns how many faces it found.
READY = {
    "mien": """
import mien
predictor = mien.Predictor()
answer = lambda path: len(predictor.image(path).faces)
""",
    "fer": """
import cv2
from fer.fer import FER
judge = FER(mtcnn=False)
answer = lambda path: len(judge.detect_emotions(cv2.imread(path)))
""",
}
TIMED = """
import json, re, sys, time
began, spent = time.perf_counter(), time.process_time()
{ready}
faces = answer(sys.argv[1])
found = {{"faces": faces, "first, s": time.perf_counter() - began}}
found["first, CPU s"] = time.process_time() - spent
spent = time.process_time()
for _ in range(40):
    answer(sys.argv[1])
found["a photo, CPU ms"] = (time.process_time() - spent) / 40 * 1000
found["peak, MiB"] = int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(json.dumps(found))
"""


def ask(python: str, name: str, photo: str) -> dict[str, float]:
    """Return what one fresh process measured."""
    command = [python, "-W", "ignore", "-c", TIMED.format(ready=READY[name]), photo]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fer", metavar="PYTHON", help="the interpreter of an environment with fer")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    pythons = {"mien": sys.executable} | ({"fer": asked.fer} if asked.fer else {})
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in pythons}
    with tempfile.TemporaryDirectory() as place:
        photo = Path(place, "photo.jpg")
        photo.write_bytes(scene())
        for _ in range(asked.repeats):
            for name, python in pythons.items():
                rounds[name].append(ask(python, name, str(photo)))
    for name, found in rounds.items():
        for what in found[0]:
            values = [each[what] for each in found]
            print(f"{name}: {what}: {min(values):.3g}, {statistics.median(values):.3g}, {max(values):.3g}")


if __name__ == "__main__":
    main()
