"""Compare the int8 files of LiteRT and ONNX Runtime: speed on one thread, and predictions on PublicTest.

    python benchmarks/litert_int8.py
    MIEN_FER2013=fer2013.csv python benchmarks/litert_int8.py --rounds 0

Four files of each shipped model are run: ONNX and LiteRT, in float32 and in int8. `mien export` makes them,
except the int8 ONNX file, which is the shipped one. All files take turns in each round. Printed are medians
over the rounds: milliseconds and CPU milliseconds a face, and both relative to the int8 ONNX file in the same
round, with the quartiles of the ratio in brackets. With MIEN_FER2013, the predictions of the first head are
compared with those of the float32 ONNX file on PublicTest.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from mien.data import datasets, synthetic
from mien.models import model_files

BASE = "onnx int8"
BATCHES = (1, 32)
#: Seconds that a file runs in one turn.
TURN = 0.05
Pixels = NDArray[np.uint8]
Ask = Callable[[Pixels], NDArray[np.float32]]


def main() -> None:
    """Print the processor, and two tables for each model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=["default", "fast"])
    parser.add_argument("--rounds", type=int, default=60, help="rounds of each batch; 0 to leave them out")
    options = parser.parse_args()
    print(processor())
    data = os.environ.get("MIEN_FER2013")
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            files = export(name, Path(folder))
            head = model_files.load(name).card.head()
            output = head.output
            print(
                f"\n{name}: "
                + ", ".join(f"{key} {file.stat().st_size:,} bytes" for key, file in files.items())
            )
            if options.rounds:
                print(
                    "| file | faces at once | ms a face | CPU ms a face | ms, relative | CPU ms, relative |"
                )
            for n in BATCHES if options.rounds else ():
                measure({key: ask(file, output, n) for key, file in files.items()}, n, options.rounds)
            if data:
                agree({key: ask(file, output, 32) for key, file in files.items()}, datasets.load(data))


def processor() -> str:
    """Return the name of the processor and its widest instructions for whole numbers."""
    facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts["flags"].split()
    names = {"avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX-VNNI", "avx2": "AVX2"}
    best = next((text for flag, text in names.items() if flag in flags), "neither VNNI nor AVX2")
    return f"{facts['model name']}, family {facts['cpu family']}, model {facts['model']}: {best}"


def export(name: str, folder: Path) -> dict[str, Path]:
    """Write the files of a model in another process, so that TensorFlow's threads are not in this one."""
    shipped = model_files.load(name)
    assert shipped.card.precision == "int8"
    files = {BASE: shipped.path}
    for key, words in {
        "onnx float32": ["--format", "onnx"],
        "litert int8": ["--format", "litert", "--int8"],
        "litert float32": ["--format", "litert"],
    }.items():
        target = folder / key.replace(" ", "-") / f"model.{'onnx' if 'onnx' in key else 'tflite'}"
        command = [sys.executable, "-m", "mien", "export", name, *words, "--to", str(target)]
        print(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.replace(
                str(folder), ""
            )
        )
        files[key] = target
    return files


def ask(file: Path, output: str, n: int) -> Ask:
    """Return a function from up to `n` faces to probabilities, which runs a file on one thread."""
    if file.suffix == ".onnx":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        return lambda images: session.run([output], {"images": images})[0]
    interpreter = Interpreter(model_path=str(file), num_threads=1)
    source, target = (
        each()[0]["index"] for each in (interpreter.get_input_details, interpreter.get_output_details)
    )

    def resize(count: int) -> None:
        interpreter.resize_tensor_input(source, (count, 48, 48, 1))
        interpreter.allocate_tensors()

    def run(images: Pixels) -> NDArray[np.float32]:
        nonlocal n
        if len(images) != n:
            resize(n := len(images))
        interpreter.set_tensor(source, images.astype(np.float32))
        interpreter.invoke()
        return interpreter.get_tensor(target)

    resize(n)
    return run


def measure(files: dict[str, Ask], n: int, rounds: int) -> None:
    """Print the time of each file with `n` faces at once."""
    images = synthetic.sample(n, seed=0)[0]
    calls = {}
    for key, run in files.items():
        run(images)
        start = time.process_time()
        run(images)
        calls[key] = max(1, round(TURN / (time.process_time() - start)))
    times: dict[str, list[tuple[float, float]]] = {key: [] for key in files}
    for turn in range(rounds):
        keys = list(files)
        for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(calls[key]):
                files[key](images)
            spent = time.perf_counter() - wall, time.process_time() - cpu
            times[key].append((1000 * spent[0] / calls[key] / n, 1000 * spent[1] / calls[key] / n))
    for key, found in times.items():
        cells = [f"{statistics.median(each[kind] for each in found):.3f}" for kind in (0, 1)]
        for kind in (0, 1):
            ratios = [mine[kind] / base[kind] for mine, base in zip(found, times[BASE], strict=True)]
            low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
            cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
        print(f"| {key} | {n} | {' | '.join(cells)} |", flush=True)


def agree(files: dict[str, Ask], data: datasets.Dataset) -> None:
    """Print how each file predicts on PublicTest beside the float32 ONNX file."""
    val = data.split("val")
    found = {
        key: np.concatenate([run(val.images[at : at + 32]) for at in range(0, len(val), 32)])
        for key, run in files.items()
    }
    expected = found["onnx float32"]
    print(f"\n| file, {len(val)} images | agreement | mean, largest difference | accuracy | cross entropy |")
    for key, answers in found.items():
        difference = np.abs(answers - expected)
        same = (answers.argmax(axis=1) == expected.argmax(axis=1)).mean()
        right = (answers.argmax(axis=1) == val.labels).mean()
        entropy = -np.log(answers[np.arange(len(val)), val.labels].clip(1e-12)).mean()
        print(
            f"| {key} | {same:.2%} | {difference.mean():.4f}, {difference.max():.3f} | {right:.2%} | "
            f"{entropy:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
