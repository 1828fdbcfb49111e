"""All stages on synthetic faces: draw, extract, train, evaluate, plot, export.

Figures on synthetic faces show that the stages work; they do not predict scores on real faces.
"""

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien import _files
from mien.data import archives, datasets, synthetic
from mien.errors import InputError, MissingBackend, MissingExtra
from mien.evaluation import evaluator
from mien.models import model_files, networks
from mien.training import recipes, runs

if TYPE_CHECKING:
    from mien.training.checkpoints import Status

#: Number of synthetic faces in each split.
TRAIN, VAL, TEST = 4_900, 700, 700
_MARK = ".mien-demo"


@dataclass(frozen=True)
class Made:
    """A file or folder that the demo made.

    Args:
        what: What it is.
        path: Its path.
        size: Its size in words.
    """

    what: str
    path: Path
    size: str


@dataclass(frozen=True)
class Demo:
    """What the demo made, and the evaluation of its model on the synthetic test split.

    Args:
        made: Files and folders, in the order they were made.
        report: The evaluation as plain values.
    """

    made: tuple[Made, ...]
    report: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold."""
        made = [{"what": item.what, "path": str(item.path), "size": item.size} for item in self.made]
        return {"data": "synthetic", "made": made, "test": self.report}


def show(
    to: str | os.PathLike[str],
    *,
    train_images: int = TRAIN,
    val_images: int = VAL,
    test_images: int = TEST,
    settings: tuple[str, ...] = (),
    progress: Callable[[str, int, int], None] | None = None,
    on_status: "Callable[[Status], None] | None" = None,
    on_note: Callable[[str], None] | None = None,
) -> Demo:
    """Run all stages on synthetic faces, and write everything to the folder `to`.

    Args:
        to: A new or empty folder, or one that an earlier demo made, which is emptied first.
        train_images: Number of synthetic training faces.
        val_images: Number of synthetic faces that select the epoch.
        test_images: Number of synthetic test faces.
        settings: Changes to the recipe `demo`, `key=value` each.
        progress: Called with (stage, done, total).
        on_status: Called while training, as `train.fit` does.
        on_note: Called with a sentence whenever there is something to say.

    Raises:
        InputError: `to` holds something that no demo made.
        MissingExtra: Keras, its backend or Matplotlib is not installed; all missing extras are named.
        Stopped: A signal came while training.
    """
    _require()
    from mien.release import exporters
    from mien.reports import plots
    from mien.training import trainer

    move = progress or (lambda stage, done, total: None)
    to = Path(to)
    _empty(to)

    def stage(name: str) -> Callable[[int, int], None]:
        move(name, 0, 1)
        return lambda done, total: move(name, done, total)

    archive = synthetic.write_archive(
        to / "archive (synthetic).zip",
        train=train_images,
        val=val_images,
        test=test_images,
        seed=0,
        progress=stage("drawing faces"),
    )
    folder = archives.unpack(archive, to / "data", progress=stage("extracting"))
    faces = datasets.load(folder.root, progress=stage("reading"))
    made = trainer.fit(
        faces,
        recipes.override(recipes.get("demo"), settings),
        out=to / "run",
        origin={"source": str(folder.root.resolve())},
        on_status=on_status,
        on_note=on_note,
    )
    report = _score(made, faces, progress=stage("scoring"))
    stage("drawing figures")
    figures = plots.draw_run(made, faces)
    keras_file = exporters.convert(made, "keras", to / "export", progress=stage("exporting")).path
    return Demo(_list(archive, folder, made, figures, keras_file, report), report)


def _require() -> None:
    """Check that all packages are installed, so that one error names all extras."""
    extras = []
    try:
        networks.require_keras()
        if any(importlib.util.find_spec(name) is None for name in ("cv2", "onnx")):
            extras.append("train")
    except MissingBackend:
        raise
    except MissingExtra as error:
        extras.append(error.extra)
    if importlib.util.find_spec("matplotlib") is None:
        extras.append("plot")
    if extras:
        raise MissingExtra("mien demo", ",".join(extras))


def _score(
    made: runs.Run, faces: datasets.Dataset, *, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    report = evaluator.evaluate(
        model_files.load(made.model_folder),
        faces.split("test"),
        labels=faces.labels,
        data="synthetic faces",
        progress=progress,
    ).to_dict()
    made.keep_report(report)
    return report


def _list(
    archive: Path,
    folder: archives.Extraction,
    made: runs.Run,
    figures: list[Path],
    keras_file: Path,
    report: dict[str, Any],
) -> tuple[Made, ...]:
    low, high = report["accuracy_interval"]
    return (
        Made("synthetic faces, as an archive", archive, _bytes(archive)),
        Made("the extracted archive", folder.root, f"{folder.files:,} files"),
        Made("the run with recipe, history and weights", made.path, f"{len(made.history())} epochs"),
        Made(
            "the model file with its card", made.model_folder, _bytes(made.model_folder / model_files.MODEL)
        ),
        Made("the model for Keras", keras_file, _bytes(keras_file)),
        Made("figures", made.figures, f"{len(figures)} files"),
        Made(
            "the evaluation on test",
            made.evaluation / "test.json",
            f"accuracy {report['accuracy']:.1%} ({low:.1%} to {high:.1%}), n = {report['n']}",
        ),
    )


def _bytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


def _empty(to: Path) -> None:
    """Make `to` an empty folder with the mark of a demo; empty only a folder that has it."""
    if to.exists() and (not to.is_dir() or (any(to.iterdir()) and not (to / _MARK).exists())):
        raise InputError(f"{to} has files that are not from a demo; name a new folder with --to")
    with _files.writing(to):
        to.mkdir(parents=True, exist_ok=True)
        (to / _MARK).touch()
        for child in to.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            elif child.name != _MARK:
                child.unlink()
