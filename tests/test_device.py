"""Training on a device of JAX: its changes to images, its steps, and its stops."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
import on_device
from mien.data import synthetic
from mien.errors import RecipeError, RunError
from mien.training import augmentation, runs, trainer
from mien.training.recipes import Augment
from test_train import assert_same, ending

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs mien[jax]")

_MOVED = {"rotation": 12.0, "zoom": 0.12, "aspect": 0.08, "shift": 0.0625, "flip": True}
_LIT = {"contrast": 0.5, "brightness": 0.15}


_SETTINGS = [
    Augment(**_MOVED),
    Augment(**_MOVED, interpolation="cubic"),
    Augment(rotation=180, zoom=0.5, shift=0.5, fill="reflect"),
    Augment(rotation=180, zoom=0.5, shift=0.5, fill="black"),
    Augment(rotation=180, zoom=0.5, shift=0.5, fill="nearest", interpolation="cubic"),
    Augment(blur=0.02),
    Augment(blur=0.2),
    Augment(resolution=0.9),
    Augment(**_LIT),
    Augment(**_LIT, gamma=0.4),
    Augment(noise=0.1),
    Augment(erase=0.9),
    Augment(
        **_MOVED,
        **_LIT,
        interpolation="cubic",
        blur=0.02,
        noise=0.03,
        erase=0.5,
        gamma=0.3,
        resolution=0.5,
    ),
]


def _name(case: Augment | int) -> str:
    if isinstance(case, int):
        return str(case)
    return "-".join(name for name, value in vars(case).items() if value not in (0, False))


# The odd size with all changes at once, because each case is compiled for seconds.
@pytest.mark.parametrize(
    ("size", "settings"),
    [(48, each) for each in _SETTINGS] + [(33, _SETTINGS[2]), (33, _SETTINGS[-1])],
    ids=_name,
)
def test_images_change_as_opencv_changes_them(size: int, settings: Augment) -> None:
    import jax

    from mien.training import device_augmentation

    faces = synthetic.sample(120, seed=0, size=size)[0]
    rows = np.arange(len(faces))[::-1]
    expected = augmentation.augment_batch(faces, rows, settings, seed=3, epoch=5)[..., 0]
    draws = device_augmentation.draw_epoch(rows, settings, size=size, seed=3, epoch=5)
    change = jax.jit(lambda images, draws: device_augmentation.change_images(images, draws, settings))
    found = np.asarray(change(faces[rows, ..., 0], draws))
    assert found.dtype == np.uint8
    assert (np.abs(expected.astype(int) - found) <= 1).mean() >= 0.999
    assert (found != faces[rows, ..., 0]).mean() > 0.05


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `on_device.py` found, with its folder."""
    folder = tmp_path_factory.mktemp("device")
    # What runs on a device runs only there.
    command = builders.measured([sys.executable, on_device.__file__, str(folder)])
    subprocess.run(command, env=os.environ | on_device.ENVIRONMENT, check=True)
    return {"folder": folder, **json.loads((folder / "found.json").read_text())}


@pytest.mark.long
def test_both_engines_give_the_same_history(found: dict[str, Any]) -> None:
    assert found["engines"]["auto"] == "host"  # a CPU does not count as an accelerator
    for host, device in zip(found["engines"]["host"], found["engines"]["device"], strict=True):
        assert host.keys() == device.keys()
        assert host == pytest.approx(device, abs=1e-3)
    assert runs.open_run(found["folder"] / "device" / "run").facts()["engine"] == "device"


@pytest.mark.long
def test_both_engines_learn_the_same_from_teachers(found: dict[str, Any]) -> None:
    taught = found["taught"]
    assert taught["outputs"] == ["ferplus", "probabilities"]
    assert taught["off"] < 1e-4
    for host, device in zip(taught["host"], taught["device"], strict=True):
        assert host == pytest.approx(device, abs=1e-3)


@pytest.mark.long
def test_a_stopped_training_goes_on_to_the_bit(found: dict[str, Any]) -> None:
    assert found["stopped"][0] == "epoch 2"
    assert "mien train --resume" in found["stopped"][1]
    assert_same(ending(found["folder"] / "stopped" / "run"), ending(found["folder"] / "device" / "run"))


@pytest.mark.long
def test_images_may_come_block_by_block(found: dict[str, Any]) -> None:
    assert_same(ending(found["folder"] / "streamed" / "run"), ending(found["folder"] / "device" / "run"))


@pytest.mark.long
def test_several_devices_share_a_batch_that_they_cannot_divide(found: dict[str, Any]) -> None:
    assert max(found["first_steps"].values()) < 1e-6
    assert len(found["first_steps"]) == 4
    assert found["several"]["partitions"]
    assert found["several"]["reduces"]


@pytest.mark.long
def test_seeds_and_folds_share_what_is_compiled(found: dict[str, Any]) -> None:
    assert found["folds"] == {"kept": 1, "compiled": 1}


def test_a_device_needs_jax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with builders.refused(RecipeError, "engine=device", "KERAS_BACKEND=jax") as caught:
        trainer.choose_engine("device")
    assert "pip" not in str(caught.value)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "jax", None)
        with builders.refused(RecipeError, 'pip install "mien[jax]"', "KERAS_BACKEND=jax"):
            trainer.choose_engine("device")
    made = runs.open_run(builders.tiny_run("tiny-run", tmp_path / "run", tmp_path))
    made.update(engine="device")
    with builders.refused(RunError, "KERAS_BACKEND=jax"):
        trainer._engine_of(made)
