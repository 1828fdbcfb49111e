"""The demo: the whole chain, small."""

import importlib.util
import json
from pathlib import Path

import pytest

from builders import refused
from mien import cli, demo
from mien.errors import InputError, MissingExtra
from mien.models import model_files

pytest.importorskip("keras", reason="training needs mien[train]")


@pytest.mark.long
def test_the_demo_leaves_what_it_lists(tmp_path: Path) -> None:
    to = tmp_path / "demo"
    stages: list[str] = []
    shown = demo.show(
        to,
        train_images=70,
        val_images=21,
        test_images=21,
        settings=("epochs=1", "network=toy"),
        progress=lambda stage, done, total: stages.append(stage),
    )
    assert all(item.path.exists() for item in shown.made)
    assert {path.stem for path in (to / "run" / "figures").iterdir()} >= {
        "loss",
        "accuracy",
        "confusion-test",
        "samples",
    }
    assert shown.report["n"] == 21
    assert list(dict.fromkeys(stages))[:3] == ["drawing faces", "extracting", "reading"]
    document = json.loads(json.dumps(shown.to_dict()))
    assert document["data"] == "synthetic"
    assert model_files.load(to / "run" / "model").card.recipe["name"] == "demo"

    (to / "run" / "leftover").touch()
    again = demo.show(
        to, train_images=70, val_images=21, test_images=21, settings=("epochs=1", "network=toy")
    )
    assert again.report["accuracy"] == shown.report["accuracy"]
    assert not (to / "run" / "leftover").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_what_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with refused(InputError, "--to"):
        demo.show(tmp_path / "photos")
    (tmp_path / "file").touch()
    with refused(InputError, "--to"):
        demo.show(tmp_path / "file")
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_all_missing_extras_are_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find, missing = importlib.util.find_spec, {"keras", "matplotlib"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    with refused(MissingExtra, "mien[cpu,plot]"):
        demo.show(tmp_path / "demo")
    missing.remove("keras")
    with refused(MissingExtra, "mien[plot]"):
        demo.show(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
def test_the_demos_network_reaches_its_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["demo", "--to", str(tmp_path / "demo"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert 0.85 <= document["test"]["accuracy"] <= 0.97
    assert document["seconds"] < 180
