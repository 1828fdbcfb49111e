"""Every public function that takes a path takes text as well."""

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from builders import refused
from mien import _files, _tables
from mien.data import audit, datasets, synthetic
from mien.data.datasets import Dataset
from mien.errors import DataError, InputError, ModelError, RunError
from mien.inference import image_files, tables
from mien.models import model_files
from mien.reports import pages
from mien.training import runs
from mien.training.recipes import get, override
from mien.types import Prediction

STAGES = ("data", "evaluation", "inference", "models", "release", "reports", "training", "vision")
MODULES = ["demo", "errors", "labels", "types"] + [
    f"{stage}.{name}" for stage in STAGES for name in importlib.import_module(f"mien.{stage}")._MODULES
]


def _public() -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield what a program can call: functions, classes and methods of every public module."""
    for path in MODULES:
        module = importlib.import_module(f"mien.{path}")
        names = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "").startswith(f"mien.{path}")
        ]
        for name in names:
            value = getattr(module, name)
            if inspect.isclass(value):
                for method, function in vars(value).items():
                    function = getattr(function, "__func__", function)
                    built = method == "__init__" and not dataclasses.is_dataclass(value)
                    if inspect.isfunction(function) and (built or not method.startswith("_")):
                        yield f"{path}.{name}.{method}", function
            elif inspect.isfunction(value):
                yield f"{path}.{name}", value


def _takes_path_alone(function: Callable[..., object]) -> list[str]:
    """Return the parameters of a function that take a Path and no text."""
    found = []
    for parameter in inspect.signature(function).parameters.values():
        kind = parameter.annotation if isinstance(parameter.annotation, str) else str(parameter.annotation)
        kind = re.sub(r"Callable\[\[[^\]]*\], [\w.]+\]", "", kind)  # what a callback is given
        if re.search(r"\bPath\b", kind) and not re.search(r"\bstr \| (os\.)?PathLike\[str\]", kind):
            found.append(parameter.name)
    return found


PUBLIC = dict(_public())


def test_the_search_finds_what_takes_paths() -> None:
    some = {
        "training.runs.open_run",
        "models.model_files.load",
        "training.trainer.fit",
        "reports.plots.draw_history",
    }
    assert {*some, "inference.batches.predict_files"} <= set(PUBLIC)
    assert len(PUBLIC) > 150

    def wrong(path: Path, other: Path | None = None, *, many: "list[Path]", right: str | int = 0) -> None: ...

    assert _takes_path_alone(wrong) == ["path", "other", "many"]


def test_every_public_function_that_takes_a_path_takes_text() -> None:
    # mypy, which checks the sources strictly, makes sure that the function can use what it says it takes.
    assert not {name: found for name, function in PUBLIC.items() if (found := _takes_path_alone(function))}, (
        "take str | os.PathLike[str]"
    )


def test_text_works_as_a_path(away: Path) -> None:
    made = runs.create(get("quick"), {}, runs="runs")
    assert runs.open_run("runs/quick-1") == runs.open_run(Path("runs/quick-1")) == made
    assert runs.create(get("quick"), {}, out="mine").path == Path("mine")
    with refused(RunError, "nowhere"):
        runs.open_run("nowhere")
    _files.write("below/file", b"2")
    lock = _files.hold("below/lock")
    assert lock is not None
    _files.let_go(lock)
    _files.sync_folder("below")
    _files.sweep("below")
    assert synthetic.write_archive("drawn.zip", train=14, val=7, test=7, seed=0) == Path("drawn.zip")
    faces = datasets.load("drawn.zip")
    report = audit.inspect(faces, headers=audit.survey("drawn.zip", faces.train.files), recrops=False)
    pages.write_audit_page(report, "audit.html")
    audit.exclude(report, "list.csv")
    audit.exclude(report, "more.csv", also="list.csv")
    audit.check_fix("drawn.zip", "clean")
    with refused(DataError, "drawn.zip"):
        audit.check_fix("drawn.zip", "drawn.zip")
    audit.fix(report, "drawn.zip", "clean")
    assert datasets.load("clean").labels == faces.labels
    with refused(InputError, "a.txt"):
        tables.write("a.txt", [], ("one", "two"))
    tables.write("a.csv", [], ("one", "two"))
    assert tables.sources("a.csv") == set()
    with _tables.ResumableLog("a.jsonl", {}, str, resume=False) as log:
        assert log.known == 0
    with pytest.raises(ModelError):
        model_files.find("nowhere")


def test_a_photo_is_saved_to_a_folder_named_by_text(away: Path) -> None:
    pixels = np.full((60, 80, 3), 127, np.uint8)
    found = Prediction("photo.png", 80, 60, ())
    written = image_files.save(pixels, found, "marked")
    assert written == [Path("marked/photo.png.faces.jpg")]
    assert image_files.is_saved(found, "marked")
    assert image_files.saved("marked/photo.png.faces.jpg", "marked")


def test_figures_are_drawn_to_a_folder_named_by_text(away: Path) -> None:
    pytest.importorskip("matplotlib")
    from mien.reports import plots

    rows = [
        {"epoch": 1.0, "loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5, "learning_rate": 1}
    ]
    assert Path("figures/loss.png") in plots.draw_history(rows, "figures", title="one epoch")


def test_a_run_is_trained_into_a_folder_named_by_text(away: Path, make_blobs: Callable[..., Dataset]) -> None:
    pytest.importorskip("keras")
    from mien.training import trainer

    recipe = override(get("quick"), ("epochs=1", "network=tiny", "size=16"))
    made = trainer.fit(make_blobs({"train": 30, "val": 9}, size=16), recipe, out="mine")
    assert made.path == Path("mine")
    assert model_files.load("mine").card.labels == ("left", "middle", "right")
