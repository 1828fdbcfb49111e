"""What calibration images show of a network, and how its numbers are rounded by it.

Activations get a range each, weights are rounded so that what their layer gives changes least.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from mien.release.exporters.onnx_folding import Net

#: Largest whole number of a weight. Processors without VNNI add two products of an activation (0 to 255) and
#: a weight in 16 bits: 2 × 255 × 64 fits, 2 × 255 × 127 does not, and what does not is cut off without a
#: word. With 64 every processor computes the same (measured: docs/experiments.md).
LARGEST = 64
#: Images run at once; every activation of a batch is held in memory.
BATCH = 8
#: Windows of an image that are looked at in each convolution, and values in each activation.
WINDOWS, VALUES = 24, 256
#: Share of the mean square that is added to every input's own, so that inputs which are always 0 do no harm.
DAMPING = 0.01
#: Columns rounded before what they leave is spread over the rest; it changes speed, never the result.
BLOCK = 128

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass
class Range:
    """What values an activation took: the smallest and largest of all, never beyond 0, and some between."""

    low: float = 0.0
    high: float = 0.0
    some: list[Array] = field(default_factory=list)

    def add(self, values: Array, random: np.random.Generator) -> None:
        """Take note of one batch."""
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        places = random.integers(0, values.size, VALUES * len(values))
        self.some.append(values.reshape(-1)[places])

    def scale(self) -> tuple[np.float32, np.uint8]:
        """Return the step and the zero point whose rounding and clipping cost the least squared error."""
        if self.high == self.low:
            return np.float32(1.0), np.uint8(0)
        values = np.concatenate(self.some).astype(np.float64)
        best, chosen = np.inf, (np.float32(1.0), np.uint8(0))
        for share in np.linspace(0.3, 1.0, 36):
            step = np.float32((self.high - self.low) * share / 255)
            zero = round(-self.low * share / float(step))
            kept = (np.clip(np.round(values / step) + zero, 0, 255) - zero) * step
            error = float(((kept - values) ** 2).sum())
            if error < best:
                best, chosen = error, (step, np.uint8(zero))
        return chosen


@dataclass
class Inputs:
    """What a kernel is given: the sum of its inputs, of their products with each other, and their number."""

    sums: Floats
    products: Floats
    n: int = 0

    def add(self, rows: Array) -> None:
        """Take note of `(n, inputs)` rows, one a window."""
        self.sums += rows.sum(axis=0, dtype=np.float64)
        self.products += rows.T @ rows
        self.n += len(rows)


def observe(
    net: Net,
    activations: Sequence[str],
    kernels: Sequence[Any],
    images: npt.NDArray[np.uint8],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Range], dict[str, Inputs]]:
    """Run the network in float32 and take note of what goes through it.

    Args:
        net: The network; its activations are looked at by name.
        activations: Those that need a range.
        kernels: Nodes whose inputs are looked at as well; grouped convolutions are passed over.
        images: `(n, size, size, 1)` uint8.
        progress: Called with (images done, images in all).

    Returns:
        A range by activation, and what goes into a kernel by the name of its output.
    """
    names = list(dict.fromkeys([*activations, *(node.input[0] for node in kernels)]))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(net.serialise(names), options, providers=["CPUExecutionProvider"])
    (pixels,) = (each.name for each in session.get_inputs())
    random = np.random.default_rng(0)
    ranges, inputs = {name: Range() for name in activations}, dict[str, Inputs]()
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        values = dict(zip(names, session.run(names, {pixels: batch}), strict=True))
        for name, range_ in ranges.items():
            range_.add(values[name], random)
        for node in kernels:
            rows = _rows(net, node, values[node.input[0]], random)
            if rows is not None:
                k = rows.shape[1]
                inputs.setdefault(node.output[0], Inputs(np.zeros(k), np.zeros((k, k)))).add(rows)
        if progress is not None:
            progress(start + len(batch), len(images))
    return ranges, inputs


def _rows(net: Net, node: Any, values: Array, random: np.random.Generator) -> Array | None:
    """Return what some windows of a convolution see, `(windows, inputs)`; a dense layer sees whole rows."""
    if node.op_type == "Gemm":
        return values
    settings = {
        "strides": (1, 1),
        "dilations": (1, 1),
        "pads": (0, 0, 0, 0),
        "group": 1,
        **net.settings(node),
    }
    if settings["group"] != 1:
        return None
    top, left, bottom, right = settings["pads"]
    (down, across), (rate_y, rate_x) = settings["strides"], settings["dilations"]
    height, width = net.constants[node.input[1]].shape[2:]
    reach = ((height - 1) * rate_y + 1, (width - 1) * rate_x + 1)
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, ::down, ::across, ::rate_y, ::rate_x]
    n = WINDOWS * len(values)
    image, row, column = (random.integers(0, windows.shape[axis], n) for axis in (0, 2, 3))
    return windows[image, :, row, column].reshape(n, -1)


def round_weights(weights: Floats, scales: Floats, inputs: Inputs | None) -> tuple[Floats, Floats]:
    """Round weights to whole numbers of their scales, so that their sums over the inputs seen change least.

    Weights are rounded one input after another; what each leaves is made up for by the inputs not rounded
    yet, as far as they move together with it. What is left on the average goes into the bias.

    Args:
        weights: `(outputs, inputs)`.
        scales: `(outputs,)`, one step of each output's weights.
        inputs: What the weights are given; None rounds each weight to the nearest.

    Returns:
        Whole numbers `(outputs, inputs)` in ±64, and what to add to the bias `(outputs,)`.

    Source: Frantar et al. 2023, arXiv:2210.17323, algorithm 1; biases, Nagel et al. 2019, arXiv:1906.04721.
    """
    if inputs is None:
        return np.clip(np.round(weights / scales[:, None]), -LARGEST, LARGEST), np.zeros(len(weights))
    n_inputs = weights.shape[1]
    products = inputs.products / inputs.n
    products[np.diag_indices(n_inputs)] += DAMPING * np.diag(products).mean() + 1e-9
    spread = np.linalg.cholesky(np.linalg.inv(products)).T
    left, whole = weights.copy(), np.empty_like(weights)
    for start in range(0, n_inputs, BLOCK):
        end = min(start + BLOCK, n_inputs)
        errors = np.empty((len(weights), end - start))
        for index in range(start, end):
            whole[:, index] = np.clip(np.round(left[:, index] / scales), -LARGEST, LARGEST)
            error = (left[:, index] - whole[:, index] * scales) / spread[index, index]
            left[:, index:end] -= np.outer(error, spread[index, index:end])
            errors[:, index - start] = error
        left[:, end:] -= errors @ spread[start:end, end:]
    return whole, (weights - whole * scales[:, None]) @ (inputs.sums / inputs.n)
