"""What every test stands on: no network, and small data sets made on the spot."""

import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mien.data.datasets import Dataset, Split


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


class NoNetwork(OSError):
    """A test tried to reach the network."""


@pytest.fixture(autouse=True)
def _blocked_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and not str(address).startswith("('127."):
            raise NoNetwork(f"a test tried to connect to {address}")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blobs(
    counts: dict[str, int],
    *,
    size: int = 16,
    labels: tuple[str, ...] = ("left", "middle", "right"),
    seed: int = 0,
) -> Dataset:
    """A data set that a network learns in seconds: where a bright bar stands tells the class."""
    rng = np.random.default_rng(seed)

    def split(name: str) -> Split | None:
        n = counts.get(name, 0)
        if not n:
            return None
        truth = np.arange(n) % len(labels)
        images = rng.integers(0, 120, (n, size, size, 1), dtype=np.uint8)
        width = size // len(labels)
        for index, label in enumerate(truth):
            images[index, :, label * width : (label + 1) * width] += 100
        return Split(
            name=name,
            images=images,
            labels=truth.astype(np.int64),
            votes=None,
            files=tuple(f"{name}/{labels[label]}/{index}.png" for index, label in enumerate(truth)),
        )

    return Dataset(
        root="blobs",
        labels=labels,
        train=split("train"),
        val=split("val"),
        test=split("test"),
        problems=(),
        excluded=(),
        notes=(),
    )


@pytest.fixture
def make_blobs() -> Callable[..., Dataset]:
    return blobs
