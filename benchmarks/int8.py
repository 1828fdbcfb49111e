"""Compare mien's int8 rounding with `onnxruntime.quantization` on the shipped networks.

    python benchmarks/int8.py fer2013.csv default=student-best.npz fast=student-small.npz

The weights are those of docs/lab-book/27-students-on-a-gpu.md, in float32. Each copy is made from the same
512 training images and measured on PublicTest: agreement with float32 for each head, accuracy and cross
entropy of the head `fer2013`, file size, and the time of one face and of 64 relative to float32, on one
thread and measured in turns. `basic` is the agreement where the runtime does not fuse operations. A setting
of `onnxruntime.quantization` has the calibration method, the bits of a weight, and `kernels` if only
convolutions and dense layers are rounded.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from mien.data import datasets
from mien.models import model_files, networks
from mien.release import exporters, quantization

NETWORKS = {"default": "xlarge", "fast": "small"}
#: Images that ranges are chosen on. Histograms of all activations of more images do not fit in memory.
IMAGES, HISTOGRAM_IMAGES = 512, 128
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
#: Method, bits of a weight, and whether only kernels are rounded.
SETTINGS = (
    ("minmax", 7, False),
    ("percentile", 7, False),
    ("entropy", 7, False),
    ("percentile", 7, True),
    ("percentile", 8, False),
)
Pixels = NDArray[np.uint8]


class Reader(CalibrationDataReader):
    """Calibration images, one at a time."""

    def __init__(self, images: Pixels) -> None:
        self.images = iter(images)

    def get_next(self) -> dict[str, Pixels] | None:
        """Return the next image as the runtime takes it."""
        image = next(self.images, None)
        return None if image is None else {"images": image[np.newaxis]}


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", nargs="+", metavar="NAME=WEIGHTS.npz")
    options = parser.parse_args()
    data = datasets.load(options.data)
    train, val = data.split("train").images, data.split("val")
    chosen = train[np.sort(np.random.default_rng(0).permutation(len(train))[:IMAGES])]
    for name, _, file in (each.partition("=") for each in options.weights):
        content, plain = in_float32(name, Path(file), val.images)
        makers: dict[str, Callable[[], bytes]] = {
            "mien": lambda content=content: quantization.quantise(content, chosen)
        }
        for method, bits, kernels in SETTINGS:
            label = f"onnxruntime {method}, {bits} bit{', kernels' if kernels else ''}"
            makers[label] = lambda m=method, b=bits, k=kernels, content=content: by_onnxruntime(
                content, chosen, m, bits=b, kernels=k
            )
        measure(name, content, plain, makers, val)


def in_float32(name: str, weights: Path, images: Pixels) -> tuple[bytes, model_files.Model]:
    """Return a shipped network with its weights as they were trained and the shipped calibration."""
    network = networks.build(NETWORKS[name], ferplus=True)
    with np.load(weights) as arrays:
        network.set_weights([arrays[key].astype(np.float32) for key in sorted(arrays) if key[:3].isdigit()])
    card = replace(model_files.load(name).card, precision="float32", fusion=None, parity=None, metrics={})
    with tempfile.TemporaryDirectory() as folder:
        made = exporters.write_model(network, card, folder, images=images[: exporters.IMAGES])
        content = made.read()
        return content, model_files.of(content, made.card, path=Path(folder) / "model.onnx", threads=1)


def by_onnxruntime(file: bytes, images: Pixels, method: str, *, bits: int, kernels: bool) -> bytes:
    """Return the copy that `onnxruntime.quantization` makes of a float32 file."""
    with tempfile.TemporaryDirectory() as folder:
        before, ready, after = (Path(folder) / f"{name}.onnx" for name in ("before", "ready", "after"))
        before.write_bytes(file)
        quant_pre_process(str(before), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(after),
            Reader(images if method == "minmax" else images[:: IMAGES // HISTOGRAM_IMAGES]),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=METHODS[method],
            op_types_to_quantize=["Conv", "Gemm"] if kernels else None,
            nodes_to_exclude=["probabilities", "ferplus"],
        )
        return after.read_bytes()


def measure(
    name: str,
    file: bytes,
    plain: model_files.Model,
    makers: dict[str, Callable[[], bytes]],
    val: datasets.Split,
) -> None:
    """Print how each copy does beside the float32 file."""
    print(f"\n{name}: {len(file):,} bytes in float32, {len(val)} images")
    print("| copy | agreement fer2013, ferplus | basic | accuracy | cross entropy | bytes | 1 face | 64 |")
    expected = {head: plain.run(val.images, head=head) for head in plain.card.heads}
    print(f"| float32 | | | {figures(expected['fer2013'], val.labels)} | | | |", flush=True)
    for label, make in makers.items():
        start = time.process_time()
        try:
            content = make()
            copy, basic = (
                model_files.of(content, plain.card, threads=1, optimization=o) for o in ("all", "basic")
            )
        except Exception as error:  # a setting that fails is a finding
            print(f"| {label} | {type(error).__name__}: {str(error)[:150]} |", flush=True)
            continue
        seconds = time.process_time() - start
        found = {head: copy.run(val.images, head=head) for head in plain.card.heads}
        same = [agreement(found[head], expected[head]) for head in found]
        apart = agreement(basic.run(val.images), expected["fer2013"])
        times = [ratio(copy, plain, val.images[:n]) for n in (1, 64)]
        cells = [
            label,
            f"{same[0]:.2%}, {same[1]:.2%}",
            f"{apart:.2%}",
            figures(found["fer2013"], val.labels),
        ]
        cells += [f"{len(content):,}", f"{times[0]:.2f}", f"{times[1]:.2f}"]
        print(f"| {' | '.join(cells)} | made in {seconds:.0f} s of CPU", flush=True)


def agreement(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the share of images with the same answer."""
    return float((one.argmax(axis=1) == other.argmax(axis=1)).mean())


def figures(found: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    """Return accuracy and cross entropy as cells."""
    loss = -np.log(np.maximum(found[np.arange(len(labels)), labels], 1e-12)).mean()
    return f"{(found.argmax(axis=1) == labels).mean():.2%} | {loss:.4f}"


def ratio(copy: model_files.Model, plain: model_files.Model, images: Pixels) -> float:
    """Return the median time of a copy over that of the float32 file, measured in turns."""
    times: list[float] = []
    for _ in range(60):
        taken = []
        for each in (copy, plain):
            start = time.perf_counter()
            each.run(images, batch_size=64)
            taken.append(time.perf_counter() - start)
        times.append(taken[0] / taken[1])
    return statistics.median(times)


if __name__ == "__main__":
    main()
