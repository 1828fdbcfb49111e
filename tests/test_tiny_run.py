"""The finished runs in tests/data/ are small, whole, and what the script beside them makes."""

import json
from pathlib import Path
from typing import Any

import pytest

import make_tiny_run
from mien.models import model_files
from mien.training import runs

NAMES = ("tiny-run", "tiny-run-votes")


def test_they_are_finished_and_small(tiny_run: Path, tiny_run_votes: Path) -> None:
    for path in (tiny_run, tiny_run_votes):
        made = runs.open_run(path)
        assert made.facts()["status"] == "done"
        state, complaints = made.load()
        assert (state is not None, complaints) == (True, [])
        assert model_files.load(made.model_folder).card.sha256 == made.facts()["shipped"]["sha256"]
    assert [len(model_files.load(path / "model").card.heads) for path in (tiny_run, tiny_run_votes)] == [
        1,
        2,
    ]
    size = sum(path.stat().st_size for path in make_tiny_run.HERE.rglob("*") if path.is_file())
    assert size < 300_000


@pytest.mark.slow
def test_the_script_makes_them_again(tmp_path: Path) -> None:
    pytest.importorskip("keras", reason="training needs mien[train]")
    make_tiny_run.make(tmp_path)
    for name in NAMES:
        for file in ("model/card.json", "run.json", "evaluation/val.json"):
            kept, again = (
                json.loads((root / name / file).read_text()) for root in (make_tiny_run.HERE, tmp_path)
            )
            assert outline(again) == outline(kept), f"{name}/{file}"
        kept, again = (
            json.loads((root / name / "evaluation/val.json").read_text())["accuracy"]
            for root in (make_tiny_run.HERE, tmp_path)
        )
        # Other processors round otherwise, and so may a few of 42 or 21 answers.
        assert again == pytest.approx(kept, abs=0.15)


def outline(value: Any) -> Any:
    """Return the keys of a JSON document, without its values."""
    if isinstance(value, dict):
        return {key: outline(each) for key, each in value.items()}
    return None
