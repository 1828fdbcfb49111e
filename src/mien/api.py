"""One function for each command that joins several stages; `mien` exports all of them.

Functions that need one stage are in its package, such as `mien.inference.batches.predict_files`.
A function that takes long reports to `progress`, called with (what is done, done, total), and to `on_note`,
called with a sentence.
"""

import contextlib
import importlib
import importlib.util
import inspect
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from mien import _files
from mien._text import pluralize
from mien.errors import DataError, InputError, MissingExtra, OutputError, RecipeError, RunError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy as np
    from distributed import Client
    from numpy.typing import NDArray
    from PIL import Image

    from mien.data.audit import AuditReport
    from mien.data.datasets import Dataset, Split
    from mien.data.probabilities import SavedPredictions
    from mien.evaluation.comparison import Comparison, SidePredictions
    from mien.evaluation.evaluation import Evaluation, Example, Memorised, SplitUse
    from mien.evaluation.evaluator import Predictions
    from mien.evaluation.explanation import Explanation
    from mien.evaluation.metrics import GroupList
    from mien.inference.video import VideoSummary
    from mien.models.model_files import Model, Subject
    from mien.release.exporters import Exported
    from mien.release.shipping import Shipped
    from mien.training.checkpoints import Status
    from mien.training.recipes import Recipe
    from mien.training.runs import Run
    from mien.training.search_spaces import SearchSpace
    from mien.training.studies import StudyResult
    from mien.training.teachers import Teachers
    from mien.vision.images import Source

AnyPath = str | os.PathLike[str]
Progress = Callable[[str, int, int], None]
Note = Callable[[str], None]

#: Seed of the split, if the data has no splits of its own.
SPLIT_SEED = 42
#: Trials of a search, seeds that confirm its result, and what trials are compared by.
TRIALS, CONFIRM = 20, 3
METRIC = "val_accuracy"
#: Version of the JSON of `audit`, `compare`, `explain`, `export`, `extract` and `card`; it increases when a
#: key changes its meaning or is removed.
SCHEMA = 1
#: Files in a run's folder that only the run itself writes.
_RUN_FILES = ("model", "checkpoints", "weights", "recipe.toml", "run.json", "history.csv", "scored.json")
_Square = tuple[float, float, float]
#: Arguments of `mien.load_dataset` that only say where files are, so they can differ from those of a run.
_PLACES = ("images_dir", "cache")


@dataclass(frozen=True)
class Listener:
    """Receives progress and notes of a function.

    Args:
        progress: Called with (what is done, done, total).
        note: Called with a sentence.
    """

    progress: Progress = lambda stage, done, total: None
    note: Note = lambda sentence: None

    def stage(self, name: str) -> Callable[[int, int], None]:
        """Return a callable of (done, total) for one stage."""
        return partial(self.progress, name)


def _listener(progress: Progress | None, on_note: Note | None) -> Listener:
    given = {"progress": progress, "note": on_note}
    return Listener(**{name: call for name, call in given.items() if call is not None})  # type: ignore[arg-type]


# Data


def load_data(
    source: AnyPath, /, *, size: int, listener: Listener, listed: str = "", **origin: Any
) -> "Dataset":
    """Load a data set, and note what is notable about it.

    Args:
        source: The data set.
        size: Side of the images in pixels.
        listener: Gets progress and notes.
        listed: The file that lists all skipped images, for the note: `run.json`.
        origin: Other arguments of `mien.data.datasets.load`; `source` and `teacher` are ignored.
    """
    found = _read(source, size, listener, origin)
    _announce(found, listener, listed)
    return found


def _read(source: AnyPath, size: int, listener: Listener, origin: Mapping[str, Any]) -> "Dataset":
    """Load a data set with the arguments that a run records; a seed of None is the default."""
    from mien.data import datasets

    options = {key: value for key, value in origin.items() if key not in ("source", "teacher")}
    if options.get("seed", SPLIT_SEED) is None:
        options["seed"] = SPLIT_SEED
    progress = listener.stage(f"reading {Path(source).name}")
    return datasets.load(source, size=size, progress=progress, **options)


def _announce(found: "Dataset", listener: Listener, listed: str = "") -> None:
    from mien.data.face_crops import NO_FACE

    for sentence in (*found.notes, *found.stored):
        listener.note(sentence)
    # A note has named the images without a face.
    if problems := [problem for problem in found.problems if problem.reason != NO_FACE]:
        some = "; ".join(f"{problem.file}: {problem.reason}" for problem in problems[:3])
        where = f" (all are listed in {listed})" if listed else ""
        more = f"; and {len(problems) - 3} more{where}" if len(problems) > 3 else ""
        listener.note(f"skipped {pluralize(len(problems), 'image')}: {some}{more}")


def load_run_data(
    run: "Run", data: AnyPath | None, origin: Mapping[str, Any], *, listener: Listener
) -> "Dataset":
    """Load the data that a run was trained on, from `data` if it has moved.

    Raises:
        InputError: The data is not where the run says, and `data` is None; or its images or lists of excluded
            images have moved.
        OutputError: The cache of the run cannot be used.
    """
    if data is None:
        if origin.get("source", "") is None:
            raise InputError(
                f"{run.name} was trained on images in memory, which have no source; give data with --data "
                "(in Python: data=)"
            )
        if "source" not in origin:
            raise InputError(
                f"{run.name} does not record where its data is; give it with --data (in Python: data=)"
            )
        data = Path(origin["source"])
        if not data.exists():
            raise InputError(
                f"the data of {run.name} is no longer at {data}; give it with --data (in Python: data=)"
            )
    _check_places(run, origin)
    with _naming_cache(origin):
        return load_data(data, size=run.recipe().size, listener=listener, **origin)


def _check_places(run: "Run", origin: Mapping[str, Any]) -> None:
    """Check that the folder of images and the lists of excluded images are where a run says."""
    images, listed = origin.get("images_dir"), origin.get("exclude") or []
    if images is not None and not Path(images).is_dir():
        raise InputError(
            f"the folder of images of {run.name} is no longer at {images}; give it with --images to "
            "evaluate, compare or train --resume (in Python: reading={'images_dir': ...}), or move it back"
        )
    for each in [listed] if isinstance(listed, str | os.PathLike) else listed:
        if not Path(each).is_file():
            raise InputError(
                f"a list of the images that {run.name} excluded is no longer at {each}; give it with "
                "--exclude to train --resume (in Python: exclude=), or move it back"
            )


@contextlib.contextmanager
def _naming_cache(origin: Mapping[str, Any]) -> Iterator[None]:
    """Name the option of a cache that cannot be used."""
    try:
        yield
    except OutputError as error:
        if not origin.get("cache"):
            raise
        raise OutputError(
            f"{error}; evaluate, compare and train --resume take another folder with --cache"
        ) from error


def _as_trained(run: "Run", data: AnyPath | None, origin: dict[str, Any], *, listener: Listener) -> "Dataset":
    """Load the data of a run without the excluded training images; of other data load all of it.

    Exclusions name rows or files, so they are valid only for the data of the run.
    """
    if data is None or not origin.get("exclude"):
        return load_run_data(run, data, origin, listener=listener)
    name = Path(data).name
    learnt = run.facts()["data"].get("splits", {}).get("train", {}).get("fingerprint")
    try:
        _check_places(run, origin)
        with _naming_cache(origin):
            found = _read(data, run.recipe().size, listener, origin)
        if found.train is not None and found.train.fingerprint == learnt:
            _announce(found, listener)
            return found
        why = f"its images are not those that {run.name} was trained on"
    except InputError as error:
        why = str(error)
    listener.note(f"images that {run.name} excluded from training are included from {name}: {why}")
    return load_run_data(run, data, origin | {"exclude": None}, listener=listener)


def run_inputs(path: AnyPath) -> Iterator[Path]:
    """Yield the files and folders that a run was made from, as far as it records them."""
    from mien.training import runs

    origin = runs.open_run(path).facts().get("data", {}).get("origin", {})
    for key in ("source", "votes", "exclude", "teacher"):
        value = origin.get(key) or ()
        yield from map(Path, [value] if isinstance(value, str) else value)


def check_outputs(outputs: Mapping[str, AnyPath | None], inputs: Iterable[AnyPath | None]) -> None:
    """Refuse outputs that would overwrite an input; of a run's folder only its own files are inputs.

    Raises:
        InputError: As `mien._files.check_outputs`.
    """
    from mien.models.model_files import is_run

    protected: list[Path] = []
    for path in inputs:
        if path is not None:
            protected += [Path(path, name) for name in _RUN_FILES] if is_run(path) else [Path(path)]
    _files.check_outputs(
        {what: None if path is None else Path(path) for what, path in outputs.items()}, protected
    )


def _count_use(subject: "Subject", *, what: str, listener: Listener, **scored: Any) -> "SplitUse | None":
    """Count an evaluation in the run of a model; None if it belongs to none or cannot be counted."""
    from mien.evaluation.evaluation_log import log_evaluation
    from mien.training import runs

    if subject.home is None:
        return None
    try:
        return log_evaluation(runs.open_run(subject.home), subject.model.card, **scored)
    except (RunError, OutputError) as error:
        listener.note(f"{what} is not counted: {error}")
        return None


def _draw(run: "Run", dataset: "Dataset | None", listener: Listener) -> list[str]:
    """Plot all figures of a run, and return their paths; without Matplotlib only note that."""
    try:
        from mien.reports import plots

        own = run.facts()["data"]["splits"]["train"]["fingerprint"]
        if dataset is not None and (dataset.train is None or dataset.train.fingerprint != own):
            listener.note(f"no training images are plotted: {run.name} was not trained on {dataset.root}")
            dataset = None
        paths = plots.draw_run(run, dataset)
    except MissingExtra as error:
        listener.note(str(error))
        return []
    return [str(path) for path in paths]


# Arguments


def _paths(name: str, value: Any, *also: type) -> list[Any]:
    """Return one path, or object of the types `also`, or several as a list; None for none."""
    given = [value] if isinstance(value, (str, os.PathLike, *also)) else value
    if not isinstance(given, Iterable | None) or isinstance(given, bytes):
        _files.check_path(name, given, *also)
    listed = list(given or ())
    for each in listed:
        _files.check_path(name, each, *also)
    return listed


def _check_loaded(data: Any, **given: Any) -> None:
    """Refuse arguments that say how to read data if the data is loaded."""
    from mien.data.datasets import Dataset

    names = [name for name, value in given.items() if value is not None and value not in ([], {})]
    if isinstance(data, Dataset) and names:
        raise InputError(
            f"a loaded data set cannot be combined with {', '.join(names)}; give load_dataset these arguments"
        )


# Training


def choose_recipe(
    recipe: "Recipe | AnyPath | None" = None,
    settings: Mapping[str, Any] | Sequence[str] = (),
    base: "Model | None" = None,
) -> "Recipe":
    """Return a recipe with its changes.

    Args:
        recipe: A recipe, its name or a TOML file; None for `quick`, or `tune` with a base.
        settings: Changes, such as `{"epochs": 5}` or `["epochs=5"]`.
        base: The model that the training starts from; a recipe that is named gets its network and size.

    Raises:
        RecipeError: There is no such recipe, or a setting is unknown or out of range.
        InputError: The TOML file cannot be read, or an argument has a wrong type.
    """
    from mien.training import recipes

    if recipe is None:
        recipe = "quick" if base is None else "tune"
    _files.check_path("recipe", recipe, recipes.Recipe)
    if isinstance(settings, Mapping):
        settings = [f"{key}={_toml(value)}" for key, value in settings.items()]
    elif isinstance(settings, str) or not isinstance(settings, Sequence):
        raise InputError(
            f"settings is of type {type(settings).__name__}; give a dict, such as {{'epochs': 5}}"
        )
    if isinstance(recipe, recipes.Recipe):
        return recipes.override(recipe, settings)
    path = Path(recipe)
    if path.suffix == ".toml":
        text = _read_toml(path, "the recipe")
        try:
            found = recipes.parse(text)
        except RecipeError as error:
            raise RecipeError(f"{recipe}: {error}") from None
    elif path.is_file():
        raise InputError(
            f"'{path}' does not end in .toml; give a recipe as a TOML file, or the name of a recipe"
        )
    else:
        found = recipes.get(os.fspath(recipe))
    if base is not None:
        network = base.card.recipe.get("network", found.network)
        found = replace(found, network=network, size=base.card.size)
    return recipes.override(found, settings)


def _toml(value: Any) -> str:
    """Return a value as `--set` takes it: text without quotes, the others as TOML."""
    if isinstance(value, bool | list | tuple):
        return json.dumps(value)
    return str(value)


def train(
    data: "AnyPath | Dataset",
    recipe: "Recipe | AnyPath | None" = None,
    *,
    settings: Mapping[str, Any] | Sequence[str] = (),
    out: AnyPath | None = None,
    runs: AnyPath = "runs",
    base: "Model | AnyPath | None" = None,
    teacher: "SavedPredictions | Model | AnyPath | Sequence[Model | AnyPath] | None" = None,
    votes: AnyPath | None = None,
    exclude: AnyPath | Sequence[AnyPath] | None = None,
    split_seed: int | None = None,
    reading: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    on_dataset: "Callable[[Dataset], None] | None" = None,
    on_status: "Callable[[Status], None] | None" = None,
    on_note: Note | None = None,
) -> "Run":
    """Train a network, and write a run with its history, figures and model file.

    Sets the global seeds of Python, NumPy and Keras' backend. SIGINT and SIGTERM save the training and
    raise `Stopped`; `resume` continues it.

    Example:
        >>> import mien
        >>> settings = {"epochs": 1, "network": "tiny", "size": 16}
        >>> run = mien.train("faces.zip", "quick", settings=settings, out="mine")
        >>> len(run.history())
        1

    Args:
        data: A folder, zip, tar, table, Parquet or npz file, or a loaded data set with images of the
            recipe's size.
        recipe: A recipe, its name or a TOML file; None for `quick`, or `tune` with `base`.
        settings: Changes of the recipe, such as `{"epochs": 5, "augment.rotation": 15}` or `["epochs=5"]`.
        out: The run's folder; None for the next free number in `runs`.
        runs: The folder of numbered runs.
        base: The model whose weights the training starts from, as `mien.resolve` takes it. A recipe that is
            named gets its network and size.
        teacher: What to distil from: one model or several, as `mien.resolve` takes them, which answer the
            recipe's views; or probabilities, loaded or in npz files. Several are averaged.
        votes: The file of FER+ votes; for a path.
        exclude: Files that list training images to exclude; for a path.
        split_seed: Seed of the split, if the data has no splits of its own; None for 42; for a path.
        reading: Other arguments of `mien.load_dataset`, such as `{"rename": "contempt="}`; for a path.
        progress: Called with (what is done, done, total).
        on_dataset: Called with the data set before the training begins.
        on_status: Called a few times a second with the loss, the accuracy and the speed of the training.
        on_note: Called with a sentence.

    Raises:
        DataError: The data cannot be read, has no train or val, or does not fit the recipe or the teacher.
        InputError: An argument has a wrong type, or options conflict.
        RecipeError: There is no such recipe or setting, or its network is not that of `base`.
        RunError: `out` is not empty.
        ModelError: `base` does not exist, or its weights are missing.
        MissingExtra: Keras is not installed.
        TrainingError: The loss is not a number any more; what was learnt is saved.
        OutputError: A file cannot be written.
        Stopped: A signal stopped the training.
    """
    from mien.data import datasets
    from mien.models import model_files, networks
    from mien.training.runs import check_empty

    _files.check_path("data", data, datasets.Dataset, error=DataError)
    _files.check_path("out", out, NoneType)
    _files.check_path("runs", runs)
    _files.check_path("base", base, model_files.Model, NoneType)
    origin = _training_origin(data, votes, exclude, split_seed, reading)
    networks.require_keras()
    listener = _listener(progress, on_note)
    started = None if base is None else model_files.resolve(base).model
    chosen = choose_recipe(recipe, settings, started)
    if out is not None:
        check_empty(out)
    networks.get(chosen.network)
    taught, files = _read_teacher(teacher)
    dataset = _training_data(data, origin, chosen.size, listener, on_dataset, listed="run.json")
    networks.load_keras(chosen.network)
    from mien.training import trainer

    run = trainer.fit(
        dataset,
        chosen,
        out=out,
        runs=runs,
        teacher=taught,
        base=started,
        origin={**dataset.origin, **({"teacher": files} if files else {})},
        on_status=_report_epochs(listener, on_status),
        on_note=listener.note,
        on_progress=listener.progress,
    )
    _draw(run, dataset, listener)
    return run


def resume(
    run: "Run | AnyPath",
    data: "AnyPath | Dataset | None" = None,
    *,
    teacher: "SavedPredictions | Model | AnyPath | Sequence[Model | AnyPath] | None" = None,
    votes: AnyPath | None = None,
    exclude: AnyPath | Sequence[AnyPath] | None = None,
    reading: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    on_dataset: "Callable[[Dataset], None] | None" = None,
    on_status: "Callable[[Status], None] | None" = None,
    on_note: Note | None = None,
) -> "Run":
    """Continue a training that was stopped or killed, from its last saved state.

    The finished run equals that of an uninterrupted training bit for bit.

    Example:
        >>> import mien
        >>> settings = {"epochs": 1, "network": "tiny", "size": 16}
        >>> run = mien.train("faces.zip", "quick", settings=settings, out="mine")
        >>> mien.resume(run).facts()["status"]
        'done'

    Args:
        run: The run, or its folder.
        data: The data of the run, if it has moved; or the loaded data set.
        teacher: The models or probabilities that the run distils from, if they have moved; as `train` takes
            them.
        votes: The file of FER+ votes, if it has moved; for a path.
        exclude: The files of excluded images, if they have moved; for a path.
        reading: `images_dir` and `cache` of `mien.load_dataset`, if they have moved; for a path.
        progress: As in `train`.
        on_dataset: As in `train`.
        on_status: As in `train`.
        on_note: As in `train`.

    Raises:
        DataError: The data, their votes or the teacher are not those of the run.
        InputError: The data is not found, or an argument has a wrong type.
        RunError: The run is damaged, or another process trains it.
        MissingExtra: Keras is not installed.
        TrainingError: As in `train`.
        OutputError: As in `train`.
        Stopped: As in `train`.
    """
    from mien.data import datasets
    from mien.models import networks
    from mien.training import runs

    _files.check_path("run", run, runs.Run)
    _files.check_path("data", data, datasets.Dataset, NoneType, error=DataError)
    moved = _training_origin(data, votes, exclude, None, reading)
    if options := _named_options(
        {key: value for key, value in (reading or {}).items() if key not in _PLACES}
    ):
        raise InputError(f"--resume continues a run unchanged, so it cannot be combined with {options}")
    networks.require_keras()
    listener = _listener(progress, on_note)
    opened = run if isinstance(run, runs.Run) else runs.open_run(run)
    origin = opened.facts()["data"]["origin"]
    origin |= {key: moved[key] for key in ("votes", "exclude", *_PLACES) if moved.get(key)}
    taught, _ = _read_teacher(origin.get("teacher") if teacher is None else teacher)
    if isinstance(data, datasets.Dataset):
        dataset = data
    else:
        dataset = load_run_data(opened, data, origin, listener=listener)
    if on_dataset is not None:
        on_dataset(dataset)
    networks.load_keras(opened.recipe().network)
    from mien.training import trainer

    report = _report_epochs(listener, on_status)
    trainer.resume(
        opened,
        dataset,
        teacher=taught,
        on_status=report,
        on_note=listener.note,
        on_progress=listener.progress,
    )
    _draw(opened, dataset, listener)
    return opened


@dataclass(frozen=True)
class FoldsResult:
    """What `train_folds` wrote.

    Args:
        path: The file of probabilities for all training images (`mien.data.probabilities`).
        folds: Number of folds.
        images: Number of training images.
        fingerprint: Fingerprint of the training images.
        recipe: The recipe of each network.
    """

    path: Path
    folds: int
    images: int
    fingerprint: str
    recipe: "Recipe"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold."""
        return {key: value for key, value in vars(self).items() if key != "recipe"} | {"path": str(self.path)}


def train_folds(
    data: "AnyPath | Dataset",
    recipe: "Recipe | AnyPath | None" = None,
    *,
    folds: int = 5,
    settings: Mapping[str, Any] | Sequence[str] = (),
    out: AnyPath | None = None,
    runs: AnyPath = "runs",
    votes: AnyPath | None = None,
    exclude: AnyPath | Sequence[AnyPath] | None = None,
    split_seed: int | None = None,
    reading: Mapping[str, Any] | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    on_dataset: "Callable[[Dataset], None] | None" = None,
    on_status: "Callable[[Status], None] | None" = None,
    on_note: Note | None = None,
) -> FoldsResult:
    """Train a network for each fold of the training images, and predict the fold with the network without it.

    The same call continues stopped folds, and processes that use the same folder share the folds. The
    probabilities can teach another network, or show wrong labels.

    Example:
        >>> import mien
        >>> settings = {"epochs": 1, "network": "tiny", "size": 16}
        >>> result = mien.train_folds("faces.zip", settings=settings, folds=2, out="folds")
        >>> result.path.name
        'out-of-fold.npz'

    Args:
        data: As `train` takes it.
        recipe: A recipe, its name or a TOML file; None for `quick`.
        folds: Number of folds, at least 2.
        settings: As in `train`.
        out: The folder of the folds' runs; None for `<recipe>-folds` in `runs`.
        runs: The parent of that folder.
        votes: As in `train`.
        exclude: As in `train`.
        split_seed: As in `train`.
        reading: As in `train`.
        cluster: Train the folds on the workers of the Dask scheduler at this address, such as
            `tcp://10.0.0.1:8786`; `local` starts a cluster on this machine. Data and folder must be on
            storage that all machines mount at the same path.
        workers: With `cluster="local"`, the number of its processes; None for one for each core.
        progress: As in `train`.
        on_dataset: As in `train`.
        on_status: As in `train`; not called with `cluster`.
        on_note: As in `train`.

    Raises:
        DataError: A class has fewer distinct images than there are folds; or as in `train`.
        InputError: There are fewer than 2 folds, an argument has a wrong type, options conflict, or the
            cluster cannot be used.
        RecipeError: There is no such recipe or setting.
        RunError: The folder holds runs of another recipe or other data.
        MissingExtra: Keras is not installed, or Dask.
        TrainingError: As in `train`.
        OutputError: As in `train`.
        Stopped: As in `train`; the same call continues.
    """
    from mien.data import datasets
    from mien.models import networks

    _files.check_path("data", data, datasets.Dataset, error=DataError)
    _files.check_path("out", out, NoneType)
    _files.check_path("runs", runs)
    if not isinstance(folds, int) or isinstance(folds, bool) or folds < 2:
        raise InputError(f"--folds is {folds}; it must be a whole number of at least 2, such as 5")
    _check_cluster(cluster, workers)
    origin = _training_origin(data, votes, exclude, split_seed, reading)
    networks.require_keras()
    listener = _listener(progress, on_note)
    chosen = choose_recipe(recipe, settings)
    networks.get(chosen.network)
    from mien.training import trainer

    with _connected(cluster, workers) as client:
        dataset = _training_data(data, origin, chosen.size, listener, on_dataset)
        path = trainer.train_folds(
            dataset,
            chosen,
            folds=folds,
            out=out,
            runs=runs,
            client=client,
            on_status=on_status,
            on_note=listener.note,
            on_progress=listener.progress,
        )
    whole = dataset.split("train")
    return FoldsResult(path, folds, len(whole), whole.fingerprint, chosen)


def tune(
    data: "AnyPath | Dataset",
    recipe: "Recipe | AnyPath | None" = None,
    *,
    trials: int = TRIALS,
    space: Mapping[str, Any] | AnyPath | None = None,
    metric: str = METRIC,
    prune: bool = True,
    confirm: int = CONFIRM,
    seed: int = 0,
    settings: Mapping[str, Any] | Sequence[str] = (),
    out: AnyPath | None = None,
    runs: AnyPath = "runs",
    base: "Model | AnyPath | None" = None,
    teacher: "SavedPredictions | Model | AnyPath | Sequence[Model | AnyPath] | None" = None,
    votes: AnyPath | None = None,
    exclude: AnyPath | Sequence[AnyPath] | None = None,
    split_seed: int | None = None,
    reading: Mapping[str, Any] | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    on_dataset: "Callable[[Dataset], None] | None" = None,
    on_note: Note | None = None,
) -> "StudyResult":
    """Search for settings of a recipe that do better on val, and write the best recipe and a page.

    Trials are chosen by TPE and ended early by Hyperband (Optuna). Each is trained in a process of its own,
    so a script that calls this needs `if __name__ == "__main__":`. The same call continues a search that was
    stopped or killed, or extends it to more trials. Processes that use the same folder share a study; threads
    cannot. The test split is not used.

    Example:
        >>> import mien
        >>> settings = {"epochs": 1, "network": "tiny", "size": 16}
        >>> space = {"optimizer": {"learning_rate": {"low": 0.05, "high": 0.5, "log": True}}}
        >>> options = {"settings": settings, "space": space, "trials": 2, "confirm": 1}
        >>> found = mien.tune("faces.zip", "quick", out="study", **options)
        >>> len(found.trials), found.best_file.name
        (2, 'best.toml')

    Args:
        data: As `train` takes it.
        recipe: A recipe, its name or a TOML file; None for `quick`, or `tune` with `base`.
        trials: Number of trials in all, at least 1. The first one has the recipe's own settings, if they are
            in the space.
        space: A TOML file of ranges and choices, or the same as dictionaries; None for the learning rate, the
            weight decay, label smoothing, rotation and erasing (`mien.training.search_spaces.default`).
        metric: What trials are compared by, on val: `val_accuracy` or `val_loss`.
        prune: Whether trials that are worse than others end early.
        confirm: Number of other seeds with which the best recipe is trained; 0 for none.
        seed: Seed of the search.
        settings: As in `train`; the same for all trials.
        out: The folder of the study; None for `<recipe>-study` in `runs`.
        runs: The parent of that folder.
        base: As in `train`.
        teacher: As in `train`.
        votes: As in `train`.
        exclude: As in `train`.
        split_seed: As in `train`.
        reading: As in `train`.
        cluster: Train the trials on the workers of the Dask scheduler at this address, such as
            `tcp://10.0.0.1:8786`; `local` starts a cluster on this machine. Data, folder and models must be
            on storage that all machines mount at the same path.
        workers: With `cluster="local"`, the number of its processes; None for one for each core.
        progress: Called with (what is done, done, total).
        on_dataset: Called with the data set before the search begins.
        on_note: Called with a sentence, among others after each trial.

    Returns:
        The trials, the best one, and its recipe. `best.toml` in the study's folder is for `train`, and
        `report.html` shows the history and the importance of the settings.

    Raises:
        DataError: The data cannot be read, has no train or val, or does not fit the recipe or the teacher.
        InputError: An argument has a wrong type or is out of range, options conflict, or the cluster cannot
            be used.
        RecipeError: There is no such recipe or setting, or the space does not fit the recipe.
        RunError: The folder holds another search.
        ModelError: `base` does not exist, or its weights are missing.
        MissingExtra: Optuna or Keras is not installed, or Dask.
        TrainingError: No trial was completed, or three failed in succession.
        OutputError: A file cannot be written.
        Stopped: A signal stopped the search; the same call continues.
    """
    from mien.data import datasets
    from mien.models import model_files, networks

    _files.check_path("data", data, datasets.Dataset, error=DataError)
    _files.check_path("out", out, NoneType)
    _files.check_path("runs", runs)
    _files.check_path("base", base, model_files.Model, NoneType)
    _check_cluster(cluster, workers)
    origin = _training_origin(data, votes, exclude, split_seed, reading)
    from mien.training import tuning

    networks.require_keras()
    listener = _listener(progress, on_note)
    started = None if base is None else model_files.resolve(base).model
    chosen = choose_recipe(recipe, settings, started)
    networks.get(chosen.network)
    searched = choose_space(space, chosen, metric)
    tuning.check_options(
        trials=trials, confirm=confirm, seed=seed, metric=metric, space=searched, base=started
    )
    taught, files = _read_teacher(teacher)
    # Matplotlib is not needed, because the page has its own charts.
    from mien.reports import pages

    with _connected(cluster, workers) as client:
        dataset = _training_data(data, origin, chosen.size, listener, on_dataset)
        return tuning.search(
            dataset,
            chosen,
            Path(runs) / f"{chosen.name}-study" if out is None else out,
            trials=trials,
            space=searched,
            metric=metric,
            prune=prune,
            confirm=confirm,
            seed=seed,
            teacher=taught,
            base=started,
            client=client,
            origin={**dataset.origin, **({"teacher": files} if files else {})},
            on_trial=lambda found: pages.write_study_page(found, found.report),
            on_progress=listener.progress,
            on_note=listener.note,
        )


def _check_cluster(cluster: str | None, workers: int | None) -> None:
    """Check the options of a cluster before the data are read."""
    from mien import _dask

    _dask.check_options(cluster, workers)
    if workers is not None and cluster is None:
        raise InputError("--workers is the number of processes of --cluster local; omit it")


def _connected(cluster: str | None, workers: int | None) -> "AbstractContextManager[Client | None]":
    """Return a context with a client of a cluster, if there is one.

    It is entered before the data are read, so that a wrong address is an error at once.
    """
    from contextlib import nullcontext

    from mien import _dask

    return nullcontext() if cluster is None else _dask.connect(cluster, workers=workers, threads=None)


def choose_space(
    space: Mapping[str, Any] | AnyPath | None, recipe: "Recipe", metric: str = METRIC
) -> "SearchSpace":
    """Return a search space.

    Args:
        space: A TOML file, or nested dictionaries in its form; None for the default of the recipe.
        recipe: The recipe whose settings it changes.
        metric: What trials are compared by; the default space depends on it.

    Raises:
        RecipeError: The space does not fit the recipe.
        InputError: The file cannot be read, or the argument has a wrong type.
    """
    from mien.training import search_spaces

    if space is None:
        return search_spaces.default(recipe, targets=metric != "val_loss")
    if isinstance(space, Mapping):
        return search_spaces.from_dict(space, recipe)
    _files.check_path("space", space)
    text = _read_toml(Path(space), "the search space")
    try:
        return search_spaces.parse(text, recipe)
    except RecipeError as error:
        raise RecipeError(f"{space}: {error}") from None


def _read_toml(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {_files.reason(error)}; name another file") from None
    except UnicodeDecodeError:
        raise InputError(f"{what} {path} is not UTF-8 text; save it as UTF-8") from None


def _training_origin(
    data: "AnyPath | Dataset | None",
    votes: AnyPath | None,
    exclude: AnyPath | Sequence[AnyPath] | None,
    split_seed: int | None,
    reading: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Check how data is to be read, and return the arguments that read it; nothing if it is loaded."""
    from mien.data import datasets

    _files.check_path("votes", votes, NoneType)
    if not isinstance(split_seed, int | None) or isinstance(split_seed, bool):
        raise InputError(f"split_seed is {split_seed!r}; give a whole number")
    excluded = _paths("exclude", exclude)
    _check_loaded(data, votes=votes, exclude=excluded, split_seed=split_seed, reading=reading)
    if isinstance(data, datasets.Dataset):
        return {}
    return {
        "votes": None if votes is None else str(Path(votes).resolve()),
        "exclude": [str(Path(each).resolve()) for each in excluded] or None,
        "seed": SPLIT_SEED if split_seed is None else split_seed,
        **(reading or {}),
    }


def _training_data(
    data: "AnyPath | Dataset",
    origin: Mapping[str, Any],
    size: int,
    listener: Listener,
    on_dataset: "Callable[[Dataset], None] | None",
    *,
    listed: str = "",
) -> "Dataset":
    """Load the data if it is a path, and return it."""
    if isinstance(data, str | os.PathLike):
        data = load_data(data, size=size, listener=listener, listed=listed, **origin)
    if on_dataset is not None:
        on_dataset(data)
    return data


def _read_teacher(
    teacher: "SavedPredictions | Model | AnyPath | Sequence[Model | AnyPath] | None",
) -> "tuple[SavedPredictions | Teachers | None, list[str]]":
    """Return what to distil from, and the names by which it is found again."""
    from mien.data import probabilities
    from mien.models import model_files
    from mien.training.teachers import Teachers

    if isinstance(teacher, probabilities.SavedPredictions):
        return teacher, []
    several = _paths("teacher", teacher, model_files.Model)
    files = [item for item in several if not isinstance(item, model_files.Model) and _is_npz(item)]
    if len(files) not in (0, len(several)):
        raise InputError(
            "files of probabilities and models cannot teach together; let the models answer the images with "
            "mien evaluate --probabilities, and name the files"
        )
    if files:
        places = [str(Path(file).resolve()) for file in files]
        return probabilities.average([probabilities.read(file) for file in places]), places
    if not several:
        return None, []
    models = [item if isinstance(item, model_files.Model) else model_files.load(item) for item in several]
    return Teachers(tuple(models)), [_name_again(item) for item in several]


def _name_again(model: "Model | AnyPath") -> str:
    """Return the name of a shipped model, or the absolute path of another one."""
    from mien.models import model_files

    if isinstance(model, model_files.Model):
        return str(model.path.resolve())
    return str(model) if model in model_files.SHIPPED else str(Path(model).resolve())


def _is_npz(path: AnyPath) -> bool:
    """Return whether a path is a file of probabilities, and not a model."""
    return os.fspath(path).endswith(".npz")


def _report_epochs(
    listener: Listener, on_status: "Callable[[Status], None] | None"
) -> "Callable[[Status], None]":
    """Return a callable that reports the status of a training as progress too."""

    def report(status: "Status") -> None:
        listener.progress(f"epoch {status.epoch}/{status.epochs}", status.step, status.steps)
        if on_status is not None:
            on_status(status)

    return report


def plot_run(
    run: "Run | AnyPath",
    data: "AnyPath | Dataset | None" = None,
    *,
    progress: Progress | None = None,
    on_dataset: "Callable[[Dataset], None] | None" = None,
    on_note: Note | None = None,
) -> list[str]:
    """Plot the figures of a run again, and return their paths.

    Without its data, the figures of training images are omitted.

    Args:
        run: The run, or its folder.
        data: The data of the run, if it has moved; or the loaded data set.
        progress: Called with (what is done, done, total).
        on_dataset: Called with the data set, if it is found.
        on_note: Called with a sentence if something is omitted.

    Raises:
        RunError: It is not a run, or no epoch is finished.
        MissingExtra: Matplotlib is not installed.
        OutputError: A figure cannot be written.
    """
    from mien.data import datasets
    from mien.training import runs

    _files.check_path("run", run, runs.Run)
    _files.check_path("data", data, datasets.Dataset, NoneType, error=DataError)
    listener = _listener(progress, on_note)
    # Without Matplotlib this raises an error before the data is read.
    importlib.import_module("mien.reports.plots")
    opened = run if isinstance(run, runs.Run) else runs.open_run(run)
    origin = opened.facts()["data"]["origin"]
    dataset = None
    if isinstance(data, datasets.Dataset):
        dataset = data
    else:
        try:
            dataset = load_run_data(opened, data, origin, listener=listener)
        except InputError as error:
            listener.note(f"no training images are plotted: {error}")
    if dataset is not None and on_dataset is not None:
        on_dataset(dataset)
    return _draw(opened, dataset, listener)


# Audit


@dataclass(frozen=True)
class AuditResult:
    """What `audit` found and wrote.

    Args:
        report: The findings.
        files: What was written, by option, as `to_dict` returns it: `exclusions`, `html`, `fix`.
    """

    report: "AuditReport"
    files: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold."""
        return {"schema": SCHEMA, **self.report.to_dict(), **self.files}


def audit(
    data: "AnyPath | Dataset",
    *,
    votes: AnyPath | None = None,
    probabilities: AnyPath | None = None,
    detector: str | None = None,
    exclude: AnyPath | None = None,
    exclusions: AnyPath | None = None,
    html: AnyPath | None = None,
    fix: AnyPath | None = None,
    regroup: bool = False,
    recrops: bool = True,
    size: int = 48,
    seed: int = SPLIT_SEED,
    reading: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    on_note: Note | None = None,
) -> AuditResult:
    """Check a data set for duplicates across splits, blank images, wrong labels and other faults.

    Example:
        >>> import mien
        >>> result = mien.audit("faces.zip", html="audit.html")
        >>> result.files["html"]
        'audit.html'

    Args:
        data: A folder, zip, tar, table, Parquet or npz file, or a loaded data set; the headers of its files
            are not checked, and `votes`, `exclude` and `fix` need a path.
        votes: The file of FER+ votes.
        probabilities: Out-of-fold probabilities, as `mien train --folds` writes them, to find wrong labels.
        detector: Name of a detector that looks for a face in each image.
        exclude: A csv of training images that are excluded already.
        exclusions: A csv to write with the training images to exclude.
        html: A page to write, with the worst cases.
        fix: A new folder to write a clean copy to.
        regroup: Move duplicates into one split of the copy, instead of dropping them.
        recrops: Look for re-cropped duplicates.
        size: Side in pixels that images are resized to.
        seed: Seed of the split, if the data has no splits of its own.
        reading: Other arguments of `mien.load_dataset`, such as `{"rename": "contempt="}`; for a path.
        progress: Called with (what is done, done, total).
        on_note: Called with a sentence.

    Raises:
        DataError: The data cannot be read.
        InputError: An option is wrong, or an output is an input.
        OutputError: A file cannot be written.
    """
    from mien.data import audit as checks
    from mien.data import datasets
    from mien.data import probabilities as stored_probabilities
    from mien.vision import detectors

    listener = _listener(progress, on_note)
    _files.check_path("data", data, datasets.Dataset, error=DataError)
    given = {"votes": votes, "exclude": exclude, "fix": fix, "probabilities": probabilities}
    for name, path in {**given, "exclusions": exclusions, "html": html}.items():
        _files.check_path(name, path, NoneType)
    source = None if isinstance(data, datasets.Dataset) else data
    if source is None and (votes or exclude or fix or reading):
        raise InputError("votes, exclude, fix and reading need data that is a path, not a loaded data set")
    if regroup and fix is None:
        raise InputError("--regroup changes what --fix does with duplicates; add --fix FOLDER")
    outputs = {"--exclusions": exclusions, "--html": html, "--fix": fix}
    check_outputs(
        {f"{option} {path}": path for option, path in outputs.items()},
        (source, votes, exclude, probabilities),
    )
    if source is not None and fix is not None:
        checks.check_fix(source, fix)
    finder = None if detector is None else detectors.load(detector)
    stored = None if probabilities is None else stored_probabilities.read(probabilities)
    origin = {"votes": votes, "exclude": exclude, "seed": seed, **(reading or {})}
    headers = None
    if isinstance(data, datasets.Dataset):
        dataset = data
    else:
        dataset = load_data(data, size=size, listener=listener, listed="the findings", **origin)
        names = [file for split in dataset.splits for file in split.files]
        headers = checks.survey(data, names, progress=listener.stage("reading headers"))
    faces = None
    if finder is not None:
        faces = checks.seek(dataset, finder, progress=listener.stage("detecting faces"))
    report = checks.inspect(
        dataset,
        headers=headers,
        probabilities=stored,
        faces=faces,
        recrops=recrops,
        progress=listener.stage("comparing images"),
    )
    files: dict[str, Any] = {}
    if exclusions is not None:
        listed = checks.exclude(report, exclusions, also=exclude)
        files["exclusions"] = {item.reason: item.count for item in listed}
    if html is not None:
        from mien.reports import pages

        pages.write_audit_page(report, html)
        files["html"] = str(html)
    if source is not None and fix is not None:
        copying = listener.stage("writing a clean copy")
        changes = checks.fix(report, source, fix, regroup=regroup, progress=copying)
        files["fix"] = {"path": str(fix), **Counter(item.change for item in changes)}
    return AuditResult(report, files)


# Evaluation


@dataclass(frozen=True)
class EvaluationResult:
    """What `evaluate` measured and wrote.

    Args:
        evaluation: The figures.
        table: The main figures for a paper, if a format was given.
        files: The files of the report.
        skipped: Number of images that could not be read.
    """

    evaluation: "Evaluation"
    table: str | None = None
    files: tuple[str, ...] = ()
    skipped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold."""
        found = self.evaluation.to_dict()
        found |= {} if self.table is None else {"table": self.table}
        return found | ({"report": list(self.files)} if self.files else {})


def evaluate(
    models: "Model | AnyPath | Sequence[Model | AnyPath]",
    *,
    data: "AnyPath | Dataset | None" = None,
    split: str = "val",
    head: str | None = None,
    report: AnyPath | None = None,
    groups: AnyPath | None = None,
    recrops: bool = False,
    robustness: bool = False,
    table: str | None = None,
    views: int = 1,
    balance: float = 0.0,
    prior: Mapping[str, float] | None = None,
    class_groups: Mapping[str, Sequence[str]] | str | None = None,
    balance_table: bool = False,
    probabilities: AnyPath | None = None,
    votes: AnyPath | None = None,
    exclude: AnyPath | Sequence[AnyPath] | None = None,
    seed: int | None = None,
    reading: Mapping[str, Any] | None = None,
    interval_by: str | None = None,
    progress: Progress | None = None,
    on_note: Note | None = None,
) -> EvaluationResult:
    """Evaluate a model, or the mean of several, on a split of a data set.

    Example:
        >>> import mien
        >>> result = mien.evaluate("fast", data="faces.zip", split="val")
        >>> result.evaluation.n
        42

    Args:
        models: A run's folder, model file or shipped model, or several, whose probabilities are averaged.
        data: A data set, loaded or not; None uses the data of the first run.
        split: `train`, `val` or `test`.
        head: The output head; None for the first.
        report: A folder to write report.json and report.html to.
        groups: A csv of groups to evaluate separately, `FILE` or `FILE:COLUMN`.
        recrops: With `report`, look for re-cropped duplicates, which takes minutes.
        robustness: Evaluate corrupted images too, which takes 20 times as long.
        table: Format of a table for a paper, `md` or `latex`.
        views: Views of each image whose probabilities are averaged: 1, 2 (mirrored) or 10 (shifted too).
        balance: As `Model.run` takes it.
        prior: As `Model.run` takes it.
        class_groups: Emotions to evaluate as one, by the name of their group, such as
            `{"negative": ("angry", "sad")}`. Their probabilities and votes are added up.
        balance_table: Evaluate each head at several balances.
        probabilities: An .npz file to write the probabilities to.
        votes: The file of FER+ votes.
        exclude: Files that list training images to exclude.
        seed: Seed of the split, if the data has no splits of its own; None for 42.
        reading: Other arguments of `mien.load_dataset`, such as `{"rename": "contempt="}`; for a path. For
            the data of a run only `images_dir` and `cache`, if they have moved.
        interval_by: What intervals resample: `image`, or `group` for persons or other groups; None for
            `group` if the split names two groups or more.
        progress: Called with (what is done, done, total).
        on_note: Called with a sentence.

    Raises:
        InputError: Options conflict, an output is an input, or intervals by group need groups.
        DataError: The data cannot be used.
        ModelError: A model cannot be used, or does not fit the data.
        OutputError: A file cannot be written.
    """
    from mien.data import datasets
    from mien.evaluation import balance as balances
    from mien.evaluation import evaluator, memorised, metrics
    from mien.models import model_files, priors

    listener = _listener(progress, on_note)
    one = isinstance(models, str | os.PathLike | model_files.Model) or not isinstance(models, Iterable)
    targets: list[Any] = [models] if one else list(models)  # type: ignore[arg-type]
    if not targets:
        raise InputError("models is empty; name at least one model")
    for target in targets:
        _files.check_path("models", target, model_files.Model)
    _files.check_path("data", data, datasets.Dataset, type(None), error=DataError)
    if isinstance(groups, Mapping):
        raise InputError("groups is a csv file with groups of images; groups of emotions are class_groups")
    options: dict[str, Any] = {"groups": groups, "report": report, "probabilities": probabilities}
    for name, path in {**options, "votes": votes}.items():
        _files.check_path(name, path, NoneType)
    exclude = _paths("exclude", exclude) or None
    _check_loaded(data, votes=votes, exclude=exclude, seed=seed, reading=reading)
    adjustment = priors.Adjustment(
        balance=balance, prior=priors.as_prior(prior), groups=priors.as_groups(class_groups)
    )
    _check_interval_by(interval_by)
    _check_evaluation_options(table, report, views, robustness=robustness, recrops=recrops)
    special = report is not None or probabilities is not None or robustness or balance_table
    if special and not adjustment.is_identity:
        raise InputError(
            "--report, --robustness, --probabilities and --balance-table evaluate the shipped calibration; "
            "omit --balance, --prior and --group"
        )
    if balance_table and len(targets) > 1:
        raise InputError("--balance-table evaluates one model; name only one")
    source = None if isinstance(data, datasets.Dataset) else data
    _check_evaluation_outputs(targets, report, probabilities, groups, data, [votes, *(exclude or ())])
    listed = None if groups is None else _read_groups(groups)
    subjects = [model_files.resolve(target) for target in targets]
    loaded = [subject.model for subject in subjects]
    _check_evaluation_models(targets, loaded, probabilities, recrops=recrops)
    for each in loaded:
        adjustment.check(each.card.labels, each.card.head(head).frequencies)
    if isinstance(data, datasets.Dataset):
        dataset = data
    else:
        given = {"votes": votes, "exclude": exclude, "seed": seed, **(reading or {})}
        whole = bool(report) or split == "train"
        dataset = _evaluation_data(subjects, targets, source, given, whole=whole, listener=listener)
    part = _with_intervals_by(dataset.split(split), interval_by, listener)
    if listed is not None:
        metrics.assign_groups(listed, part.files)
    heads = loaded[0].card.heads
    shared = [name for name in heads if all(name in each.card.heads for each in loaded)]
    chosen = head or next(iter(heads))
    wanted = [chosen, *(name for name in shared if name != chosen)]
    answers = evaluator.predict_heads(
        loaded,
        part,
        # Models whose first heads have different names answer with these.
        heads=wanted if head or len(shared) > 1 else [None],
        labels=dataset.labels,
        data=dataset.root,
        views=views,
        progress=listener.stage(f"evaluating {split}"),
        balance=balance,
        prior=prior,
    )
    answers = [each.group(adjustment.groups) for each in answers]
    first = answers[0]
    figures, *others = (evaluator.evaluate_predictions(each) for each in answers)
    found: Evaluation = replace(figures, heads={each.head: each for each in others})
    if balance_table:
        frequencies = {name: each.frequencies for name, each in heads.items()}
        found = replace(found, balance_table=balances.balance_table(answers, frequencies))
    found = _count_evaluation(subjects, found, memorised.count_memorised(loaded, first), listener)
    if probabilities is not None:
        _write_probabilities(loaded, answers, probabilities)
    if report is not None:
        options = {"groups": listed, "robustness": robustness, "recrops": recrops}
        found = evaluator.measure_all(
            loaded, dataset, first, evaluation=found, progress=listener.progress, **options
        )
    else:
        if listed is not None:
            parts = metrics.evaluate_groups(listed, part.files, first.probabilities, first.truth, first.names)
            found = replace(found, groups=parts)
        if robustness:
            measured = evaluator.measure_robustness(loaded, first, progress=listener.progress)
            found = replace(found, robustness=measured)
    result = _write_evaluation(loaded, first, found, report, table)
    _keep_evaluation(subjects, found, listener)
    for sentence in _changed_models(subjects):
        listener.note(sentence)
    return replace(result, skipped=len(dataset.problems))


def _read_groups(groups: AnyPath) -> "GroupList":
    """Return which image belongs to which group; an error for what `class_groups` takes mentions it."""
    from mien.evaluation import metrics

    try:
        return metrics.read_groups(groups)
    except DataError as error:
        if "=" not in str(groups):
            raise
        raise DataError(f"{error}; to evaluate several emotions as one, use --group") from None


def _check_interval_by(interval_by: str | None) -> None:
    if interval_by not in (None, "image", "group"):
        raise InputError(f"--interval-by is {interval_by!r}; choose image or group")


def _with_intervals_by(part: "Split", interval_by: str | None, listener: Listener) -> "Split":
    """Return the split with its groups if intervals are to be by group, and without them if by image."""
    from mien.evaluation import clusters
    from mien.evaluation.evaluation import FEW_GROUPS

    if interval_by == "image":
        return part if part.groups is None else replace(part, groups=None)
    if part.groups is None:
        if interval_by == "group":
            raise InputError(
                "--interval-by group needs groups, and the data name none; name persons by a column, or by "
                "--group-from"
            )
        return part
    numbers = clusters.number_groups(part.groups)
    if numbers is None:
        if interval_by == "group":
            raise InputError(
                f"--interval-by group needs two groups or more, and split {part.name!r} has one; use "
                "--interval-by image"
            )
        listener.note(f"split {part.name!r} has one group, so intervals are by image and probably too narrow")
        return replace(part, groups=None)
    if (count := int(numbers.max()) + 1) < FEW_GROUPS:
        listener.note(
            f"split {part.name!r} has only {count} groups (persons); fewer than {FEW_GROUPS} make intervals "
            "by group unreliable, and they can be too narrow"
        )
    return part


def _check_evaluation_options(
    table: str | None, report: AnyPath | None, views: int, *, robustness: bool, recrops: bool
) -> None:
    """Refuse what would only fail after the work is done."""
    from mien.evaluation import evaluator
    from mien.reports import evaluation_report

    if views not in evaluator.VIEWS:
        raise InputError(f"--views is {views}; it must be 1, 2 or 10")
    if views > 1 and (report is not None or robustness):
        raise InputError("--report and --robustness use one view of each image; omit --views")
    if recrops and report is None:
        raise InputError("--recrops adds to the report; add --report FOLDER")
    if table is not None and table not in evaluation_report.FORMATS:
        raise InputError(f"--table is {table!r}; it must be {' or '.join(evaluation_report.FORMATS)}")
    if report is not None and Path(report).exists() and not Path(report).is_dir():
        raise InputError(f"--report {report} is a file; name a folder")


def _check_evaluation_outputs(
    targets: Sequence[Any],
    report: AnyPath | None,
    probabilities: AnyPath | None,
    groups: AnyPath | None,
    data: Any,
    others: Sequence[AnyPath | None],
) -> None:
    from mien.models.model_files import is_run
    from mien.reports import evaluation_report

    # os.path, because Path.is_dir raises an error for a name that is too long.
    if probabilities is not None and os.path.isdir(probabilities):  # noqa: PTH112
        raise InputError(f"--probabilities {probabilities} is a folder; name a file")
    outputs: dict[str, AnyPath | None] = {f"--probabilities {probabilities}": probabilities}
    if report is not None:
        tables = (f"table{suffix}" for suffix in evaluation_report.FORMATS.values())
        for name in (evaluation_report.JSON, evaluation_report.HTML, *tables):
            outputs[f"{Path(report, name)} (--report)"] = Path(report, name)
    paths = [target for target in targets if isinstance(target, str | os.PathLike)]
    inputs: list[AnyPath | None] = [*paths, *others]
    inputs += [data] if isinstance(data, str | os.PathLike) else []
    if groups is not None:  # with or without the name of a column
        inputs += [name for name in (groups, os.fspath(groups).rpartition(":")[0]) if name]
    if data is None and paths and is_run(paths[0]):
        inputs += run_inputs(paths[0])
    check_outputs(outputs, inputs)


def _check_evaluation_models(
    targets: Sequence[Any], loaded: "Sequence[Model]", probabilities: AnyPath | None, *, recrops: bool
) -> None:
    """Refuse what these models cannot give, before they are run."""
    from mien.data.recrops import SMALLEST

    if recrops and (size := loaded[0].card.size) < SMALLEST:
        raise InputError(
            f"--recrops needs images of at least {SMALLEST} pixels a side, but the model takes "
            f"{size}; omit --recrops"
        )
    if probabilities is None:
        return
    names = [
        next((name for name, head in each.card.heads.items() if head.output == "probabilities"), "")
        for each in loaded
    ]
    for target, name in zip(targets, names, strict=True):
        if name != names[0]:
            raise InputError(
                f"--probabilities needs models with the same heads, but {targets[0]} has the head "
                f"{names[0]!r} and {target} has {name!r}; write one file for each and give both to --teacher"
            )


def _evaluation_data(
    subjects: "Sequence[Subject]",
    targets: Sequence[Any],
    data: AnyPath | None,
    given: Mapping[str, Any],
    *,
    whole: bool,
    listener: Listener,
) -> "Dataset":
    """Load the data to evaluate on: the data named, or that of the run.

    Exclusions change only train, so without `whole` their files need not exist.
    """
    from mien.models import model_files
    from mien.training import runs

    run = subjects[0].run
    if run is None or (data is not None and len(subjects) > 1):
        if data is None:
            raise InputError(f"{targets[0]} is not a run, so --data is needed")
        return load_data(data, size=subjects[0].model.card.size, listener=listener, **given)
    places = {key: given[key] for key in _PLACES if given.get(key) is not None}
    if options := _named_options({key: value for key, value in given.items() if key not in places}):
        raise InputError(
            f"{run} is a run, which records how its data was read, so it cannot be combined with {options}; "
            f"evaluate {run / model_files.IN_RUN} with --data instead"
        )
    opened = runs.open_run(run)
    origin = opened.facts()["data"]["origin"] | places
    origin |= {} if whole else {"exclude": None}
    return _as_trained(opened, data, origin | ({"votes": None} if data else {}), listener=listener)


def _named_options(given: Mapping[str, Any]) -> str:
    names = {"seed": "--split-seed", "rename": "--map", "images_dir": "--images"}
    options = {key: names.get(key, f"--{key.replace('_', '-')}") for key in given}
    return ", ".join(options[key] for key, value in given.items() if value is not None)


def _count_evaluation(
    subjects: "Sequence[Subject]", found: "Evaluation", memorised: "Memorised | None", listener: Listener
) -> "Evaluation":
    """Count the evaluation in the run of each model, and add the worst that is known about the images."""
    from mien.evaluation.evaluation_log import find_role
    from mien.evaluation.memorised import warn_of_memorised

    uses = []
    for subject in subjects:
        counted = _count_use(
            subject,
            what="the evaluation",
            listener=listener,
            split=found.split,
            fingerprint=found.split_fingerprint,
            data=found.data,
            n=found.n,
            sha256=found.model,
        )
        role = find_role(subject.model.card, found.split_fingerprint, found.split, found.data)
        uses.append(counted or role)
    ranks = ("train", "val", "unknown", "other")
    worst = min(uses, key=lambda each: (ranks.index(each.role), -(each.times or 0)))
    use = replace(worst, warnings=tuple(dict.fromkeys(text for each in uses for text in each.warnings)))
    return replace(found, split_use=warn_of_memorised(use, memorised), memorised=memorised)


def _write_probabilities(loaded: "Sequence[Model]", answers: "Sequence[Predictions]", to: AnyPath) -> None:
    from mien.data import probabilities

    card = loaded[0].card
    kept: dict[str, Any] = {
        card.head(each.head).output: each.probabilities
        for each in answers
        if all(each.head in model.card.heads for model in loaded)
    }
    about = " + ".join(each.card.name for each in loaded)
    if answers[0].views > 1:
        about += f", {answers[0].views} views"
    fingerprint = answers[0].split.fingerprint
    probabilities.write(
        to, probabilities.SavedPredictions(fingerprint, card.labels, kept, f"{about}, computed directly")
    )


def _write_evaluation(
    loaded: "Sequence[Model]",
    answers: "Predictions",
    found: "Evaluation",
    report: AnyPath | None,
    table: str | None,
) -> EvaluationResult:
    """Write the folder of the report, and make the table for a paper."""
    from mien.reports import evaluation_report

    text = None if table is None else evaluation_report.table(found, table)
    if report is None:
        return EvaluationResult(found, text)
    more = {} if table is None or text is None else {f"table{evaluation_report.FORMATS[table]}": text}
    maps = _explain_examples(loaded, answers, (*found.worst, *found.uncertain))
    written = evaluation_report.write(found, answers, report, maps=maps, more=more)
    return EvaluationResult(found, text, tuple(map(str, written)))


def _explain_examples(
    loaded: "Sequence[Model]", answers: "Predictions", examples: "Sequence[Example]"
) -> "dict[int, NDArray[np.uint8]]":
    """Explain the answers to some images, by their places; a mean of models has no explanation."""
    from mien.evaluation import explanation

    if len(loaded) > 1:
        return {}
    maps = {}
    for each in examples:
        image = answers.split.images[each.place]
        why = explanation.face(loaded[0], image, emotion=each.answer, head=answers.head or None)
        maps[each.place] = explanation.overlay(image[:, :, 0], [((0.0, 0.0, float(len(image))), why)])
    return maps


def _keep_evaluation(subjects: "Sequence[Subject]", found: "Evaluation", listener: Listener) -> None:
    """Keep the evaluation of a run's model as it ships, and its figures, in the run's folder."""
    from mien.training import runs

    run = subjects[0].run
    if len(subjects) > 1 or found.conditions or run is None:
        return
    opened = runs.open_run(run)
    try:
        report = replace(found, worst=(), uncertain=(), balance_table=()).to_dict()
        path = opened.keep_report(report)
        from mien.reports import plots

        plots.draw_confusion_matrix(report, opened.figures, name=path.stem)
        plots.draw_reliability(report, opened.figures, name=path.stem)
    except OutputError as error:
        listener.note(f"the evaluation is not kept in the run: {error}")
    except MissingExtra as error:
        listener.note(str(error))


def _changed_models(subjects: "Sequence[Subject]") -> Iterator[str]:
    """Note runs whose model file is not the one that their training wrote."""
    from mien.training import runs

    for subject in subjects:
        shipped = {} if subject.run is None else runs.open_run(subject.run).facts().get("shipped", {})
        if shipped.get("sha256", subject.model.card.sha256) != subject.model.card.sha256:
            yield (
                f"{subject.model.path} is not the file that the training wrote; the figures are for this file"
            )


@dataclass(frozen=True)
class ComparisonResult:
    """What `compare` found and wrote.

    Args:
        comparison: The comparison.
        html: The page that was written.
        skipped: Number of images that could not be read.
    """

    comparison: "Comparison"
    html: str | None = None
    skipped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold."""
        html = {} if self.html is None else {"html": self.html}
        return {"schema": SCHEMA, **self.comparison.to_dict(), **html}


def compare(
    a: "Model | AnyPath",
    b: "Model | AnyPath",
    *,
    data: "AnyPath | Dataset | None" = None,
    split: str = "val",
    head: str | None = None,
    html: AnyPath | None = None,
    votes: AnyPath | None = None,
    exclude: AnyPath | Sequence[AnyPath] | None = None,
    size: int | None = None,
    seed: int | None = None,
    reading: Mapping[str, Any] | None = None,
    interval_by: str | None = None,
    progress: Progress | None = None,
    on_note: Note | None = None,
) -> ComparisonResult:
    """Compare two models on the same images, with tests of whether the difference is due to chance.

    Example:
        >>> import mien
        >>> result = mien.compare("default", "fast", data="faces.zip", split="val")
        >>> result.comparison.n
        42

    Args:
        a: A run's folder, model file, shipped model, or an .npz file of probabilities.
        b: Another one.
        data: A data set, loaded or not; None uses the data of the first run. A path is read with the options
            that the first run records, except for those that are given.
        split: `train`, `val` or `test`.
        head: The output head; None for the first.
        html: A page to write, with images on which the models disagree.
        votes: The file of FER+ votes.
        exclude: Files that list training images to exclude.
        size: Side of the images in pixels, for two files of probabilities.
        seed: Seed of the split, if the data has no splits of its own; None for 42.
        reading: Other arguments of `mien.load_dataset`, such as `{"rename": "contempt="}`; for a path.
        interval_by: As in `evaluate`; the test is by group too.
        progress: Called with (what is done, done, total).
        on_note: Called with a sentence.

    Raises:
        InputError: Options conflict, no data is known, the output is an input, or there are no groups.
        DataError: The data cannot be used, or probabilities belong to other images.
        ModelError: A model cannot be used, or does not fit the data.
        OutputError: The page cannot be written.
    """
    from mien.data import datasets
    from mien.evaluation import comparison
    from mien.models.model_files import Model, is_run

    listener = _listener(progress, on_note)
    for name, target in {"a": a, "b": b}.items():
        _files.check_path(name, target, Model)
    _files.check_path("data", data, datasets.Dataset, type(None), error=DataError)
    for name, path in {"html": html, "votes": votes}.items():
        _files.check_path(name, path, NoneType)
    exclude = _paths("exclude", exclude) or None
    _check_loaded(data, votes=votes, exclude=exclude, seed=seed, reading=reading)
    paths = [side for side in (a, b) if isinstance(side, str | os.PathLike)]
    run = next((path for path in paths if is_run(path)), None)
    source = None if isinstance(data, datasets.Dataset) else data
    recorded = run_inputs(run) if run is not None and data is None else ()
    inputs = [*paths, source, votes, *(exclude or ()), *recorded]
    check_outputs({f"--html {html}": html}, inputs)
    _check_interval_by(interval_by)
    sides = [_open_side(side) for side in (a, b)]
    sizes = _side_sizes(sides, size)
    given = {"votes": votes, "exclude": exclude, "seed": seed, **(reading or {})}
    sets = _comparison_data((a, b), run, data, sizes, given, split=split, listener=listener)
    first = sets[sizes[0]]
    part = _with_intervals_by(first.split(split), interval_by, listener)
    parts = [sets[own].split(split) for own in sizes]
    one, other = (
        _predict_side(side, each, path, head, listener)
        for side, each, path in zip(sides, parts, (a, b), strict=True)
    )
    learnt = [
        (train := sets[own].train) is not None and each.made_with.get(train.fingerprint) == "train"
        for each, own in zip((one, other), sizes, strict=True)
    ]
    found = comparison.compare(
        one,
        other,
        part,
        labels=first.labels,
        data=first.root,
        copies=_exact_duplicates(first, part),
        learnt=all(learnt),
        known=_memorised(sides, parts),
    )
    found = _count_comparison(found, list(zip(sides, (one, other), strict=True)), listener)
    if html is not None:
        from mien.reports import pages

        pages.write_comparison_page(found, part, html)
    return ComparisonResult(found, None if html is None else str(html), len(first.problems))


def _open_side(target: "Model | AnyPath") -> "Subject | SavedPredictions":
    from mien.data import probabilities
    from mien.models import model_files

    if isinstance(target, str | os.PathLike) and Path(target).suffix == ".npz":
        return probabilities.read(target)
    return model_files.resolve(target)


def _side_sizes(sides: "Sequence[Subject | SavedPredictions]", size: int | None) -> list[int]:
    """Return the size of the images for each side; probabilities use that of the model beside them."""
    from mien.models.model_files import Subject

    own = [side.model.card.size if isinstance(side, Subject) else None for side in sides]
    if size is not None and None not in own:
        raise InputError("--size is for files of probabilities; omit it, because models know their size")
    other = size or next((each for each in own if each is not None), 48)
    return [each or other for each in own]


def _comparison_data(
    targets: tuple[Any, Any],
    run: AnyPath | None,
    data: "AnyPath | Dataset | None",
    sizes: Sequence[int],
    given: Mapping[str, Any],
    *,
    split: str,
    listener: Listener,
) -> "dict[int, Dataset]":
    """Load the data in each size that is needed.

    The first run says how data is read, except for the options that are given.
    """
    from mien.data import datasets
    from mien.training import runs

    if isinstance(data, datasets.Dataset):
        return dict.fromkeys(sizes, data)
    if run is None:
        if data is None:
            raise InputError(f"neither {targets[0]} nor {targets[1]} is a run, so --data is needed")
        return {size: load_data(data, size=size, listener=listener, **given) for size in dict.fromkeys(sizes)}
    opened = runs.open_run(run)
    known = opened.facts()["data"]["origin"]
    chosen = {key: value for key, value in given.items() if value is not None}
    if data is not None:
        known = known | {"votes": None} | chosen
        if "exclude" in chosen:
            own = load_data(data, size=opened.recipe().size, listener=listener, **known)
        else:
            own = _as_trained(opened, data, known, listener=listener)
            known["exclude"] = own.origin.get("exclude")
    else:
        others = {key: value for key, value in chosen.items() if key not in _PLACES}
        if options := _named_options(others):
            raise InputError(f"{run} is a run, which records how its data was read; {options} needs --data")
        known |= chosen
        listed = known.get("exclude") or []
        gone = [
            each for each in ([listed] if isinstance(listed, str) else listed) if not Path(each).is_file()
        ]
        if gone and split != "train":  # exclusions change only train
            listener.note(f"{gone[0]} no longer exists, so train includes the images that it excluded")
            known |= {"exclude": None}
        own = load_run_data(opened, None, known, listener=listener)
    usual = opened.recipe().size
    source = known["source"] if data is None else data
    more = {*sizes} - {usual}
    return {usual: own} | {size: load_data(source, size=size, listener=listener, **known) for size in more}


def _predict_side(
    side: "Subject | SavedPredictions", part: "Split", target: Any, head: str | None, listener: Listener
) -> "SidePredictions":
    from mien.evaluation import comparison
    from mien.models.model_files import Subject

    if isinstance(side, Subject):
        progress = listener.stage(f"predicting with {side.name}")
        return comparison.predict_side(side.model, part, head=head, name=side.name, progress=progress)
    path = Path(target)
    try:
        return comparison.read_side(side, part, head=head, name=path.stem)
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from error


def _count_comparison(
    found: "Comparison",
    sides: "Sequence[tuple[Subject | SavedPredictions, SidePredictions]]",
    listener: Listener,
) -> "Comparison":
    """Count the comparison as an evaluation in the run of each model, and warn if it is not the first."""
    from mien.models.model_files import Subject

    warnings: list[str] = []
    for side, answers in sides:
        if not isinstance(side, Subject):
            continue
        use = _count_use(
            side,
            what="the comparison",
            listener=listener,
            split=found.split,
            fingerprint=answers.fingerprint,
            data=found.data,
            n=found.n,
            sha256=answers.model,
        )
        if use is not None and use.role not in ("train", "val"):
            warnings += use.warnings
    return replace(found, warnings=(*found.warnings, *dict.fromkeys(warnings)))


def _memorised(
    sides: "Sequence[Subject | SavedPredictions]", parts: "Sequence[Split]"
) -> "NDArray[np.bool_] | None":
    """Return which images a model was trained on, by the hashes that it ships with; None if none has any."""
    from mien.evaluation.memorised import find_memorised
    from mien.models.model_files import Subject

    known = None
    for side, part in zip(sides, parts, strict=True):
        found = find_memorised(side.model, part.images) if isinstance(side, Subject) else None
        if found is not None:
            own = found[0] | found[1]
            known = own if known is None else known | own
    return known


def _exact_duplicates(dataset: "Dataset", part: "Split") -> "NDArray[np.bool_] | None":
    """Return which images of the split are exact duplicates of training images; None for train itself."""
    import numpy as np

    from mien.data.image_cache import digests

    if dataset.train is None or part.name == "train":
        return None
    there = set(digests(dataset.train.images))
    return np.array([digest in there for digest in digests(part.images)], bool)


# Explanation


@dataclass(frozen=True)
class ExplainedFace:
    """The explanation of one face.

    Args:
        square: Left, top and side of the square that the model saw, in pixels of the original image.
        why: The explanation.
        file: The picture that was written.
    """

    square: _Square
    why: "Explanation"
    file: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold."""
        square = dict(zip(("left", "top", "side"), (round(each, 2) for each in self.square), strict=True))
        return {"square": square, **self.why.to_dict(), "file": self.file}


@dataclass(frozen=True)
class ImageExplanation:
    """What `explain` found in an image, and the pictures that it wrote.

    Args:
        source: The image.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        rotation: Degrees clockwise by which it was rotated for the faces to be upright.
        faces: The explanation of each face, the largest face first.
        overlay: The picture of the whole image; None without a face.
    """

    source: str
    height: int
    width: int
    rotation: int
    faces: tuple[ExplainedFace, ...] = ()
    overlay: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold."""
        return {"schema": SCHEMA, **vars(self), "faces": [face.to_dict() for face in self.faces]}


def explain(
    image: "Source",
    *,
    to: AnyPath = "mien-explain",
    emotion: str | None = None,
    method: str | None = None,
    model: "Model | AnyPath | None" = None,
    head: str | None = None,
    detector: str | None = None,
    min_face: int | None = None,
    min_confidence: float = 0.0,
    auto_rotate: bool = True,
    whole_image: bool = False,
    balance: float | None = None,
    prior: Mapping[str, float] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    progress: Progress | None = None,
) -> ImageExplanation:
    """Explain which pixels of each face support the predicted emotion, and write pictures of that.

    Example:
        >>> import mien
        >>> explanation = mien.explain("photo.jpg", to="why")
        >>> explanation.faces[0].why.answer
        'happy'

    Args:
        image: A photo, or a picture of one face with `whole_image`; as `mien.predict` takes it.
        to: The folder for the pictures.
        emotion: The emotion to explain; None for the predicted one.
        method: `cam` (fast) or `occlusion` (sharp, slower); None for `cam` if the model supports it.
        model: As `mien.Predictor` takes it.
        head: As `mien.Predictor` takes it.
        detector: Name of the detector.
        min_face: Width in pixels of the smallest face to detect; None for 30 or 1/40 of the longer side.
        min_confidence: Ignore faces with a lower confidence of the detector.
        auto_rotate: If no upright face is found, try other orientations.
        whole_image: Treat the image as one cropped face.
        balance: As `mien.Predictor` takes it.
        prior: As `mien.Predictor` takes it.
        groups: As `mien.Predictor` takes it.
        progress: Called with (what is done, done, total).

    Raises:
        ImageError: The image cannot be read.
        InputError: An option is wrong.
        OutputError: A picture cannot be written.
    """
    from mien.evaluation import explanation
    from mien.inference.predictor import name_of
    from mien.models import model_files, priors
    from mien.vision import detectors, images
    from mien.vision.faces import find_faces

    listener = _listener(progress, None)
    if method is not None and method not in explanation.METHODS:
        raise InputError(f"--method is {method!r}; it must be {' or '.join(explanation.METHODS)}")
    _files.check_path("model", model, model_files.Model, NoneType)
    _files.check_path("to", to)
    source = name_of(image)
    if isinstance(image, str | os.PathLike) and Path(image).is_dir():
        raise InputError(f"'{source}' is a folder; name one image")
    loaded = model_files.resolve(model).model
    loaded.card.head(head)
    prior, groups = priors.as_prior(prior) or None, priors.as_groups(groups)
    grouping = priors.Adjustment(groups=groups)
    grouping.check(loaded.card.labels, ())
    names = grouping.names(loaded.card.labels)
    if emotion is not None and emotion not in names:
        raise InputError(f"--emotion is {emotion!r}; the model has {', '.join(names)}")
    picture = images.picture(image)
    pixels, scale, rotation = picture.pixels, max(picture.scale), 0
    if whole_image:
        squares = [_whole(pixels.shape)]
    else:
        finder = detectors.load(detector)
        found = find_faces(
            finder, picture, smallest=min_face, min_confidence=min_confidence, auto_rotate=auto_rotate
        )
        pixels, rotation = found.pixels, found.rotation
        squares = [finder.crop.square(face) for _, face in found.faces]
    seen = []
    for number, square in enumerate(squares, start=1):
        face = images.cut(pixels, square, loaded.card.size)
        why = explanation.face(
            loaded,
            face,
            emotion=emotion,
            head=head,
            method=method,
            progress=listener.stage(f"face {number} of {len(squares)}"),
            balance=balance,
            prior=prior,
            groups=groups or None,
        )
        seen.append((square, face, why))
    result = ImageExplanation(source, picture.height, picture.width, rotation)
    if not seen:
        return result
    chosen = loaded.card.head(loaded.card.photo_head(head))
    threshold = chosen.threshold_at(chosen.balance_for(balance, prior))
    return _write_explanations(result, pixels, seen, Path(to), scale, threshold)


def _whole(shape: tuple[int, ...]) -> _Square:
    """Return the square that `images.fit` makes of a whole image, which extends beyond its shorter side."""
    height, width = shape[:2]
    longer = max(height, width)
    return -float((longer - width) // 2), -float((longer - height) // 2), float(longer)


def _write_explanations(
    result: ImageExplanation,
    pixels: "NDArray[np.uint8]",
    seen: "Sequence[tuple[_Square, NDArray[np.uint8], Explanation]]",
    to: Path,
    scale: float,
    threshold: float | None,
) -> ImageExplanation:
    """Write a picture of each face, and the photo with all maps."""
    import numpy as np
    from PIL import Image

    from mien.evaluation import explanation
    from mien.vision import annotation

    stem = Path(result.source).stem
    faces, marks = [], []
    for number, (square, face, why) in enumerate(seen, start=1):
        file = _write_png(to / f"{stem}-{number}.png", explanation.sheet(face, why))
        left, top, side = square
        faces.append(ExplainedFace((left * scale, top * scale, side * scale), why, file))
        box = _inside(square, pixels.shape)
        # A mark on the whole image would only hide some of it.
        if (box.height, box.width) != pixels.shape[:2]:
            marks.append(
                annotation.mark(
                    box,
                    why.emotion,
                    why.score,
                    before=f"{number}: ",
                    uncertain=threshold is not None and why.scores[why.answer] < threshold,
                    classes=tuple(why.scores),
                )
            )
    painted = annotation.draw(explanation.overlay(pixels, [(square, why) for square, _, why in seen]), marks)
    height, width = painted.shape[:2]
    photo = Image.fromarray(np.pad(painted, ((0, explanation.LEGEND), (0, 0), (0, 0))))
    photo.paste(explanation.legend(width, max(why.strength for _, _, why in seen)), (0, height))
    return replace(result, faces=tuple(faces), overlay=_write_png(to / f"{stem}.png", photo))


def _write_png(path: Path, picture: "Image.Image") -> str:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    _files.write(path, stream.getvalue())
    return str(path)


def _inside(square: _Square, shape: tuple[int, ...]) -> Any:
    """Return the part of a square that is inside the image, as a Box."""
    from mien.types import Box

    left, top = max(0, round(square[0])), max(0, round(square[1]))
    right = min(shape[1], round(square[0] + square[2]))
    bottom = min(shape[0], round(square[1] + square[2]))
    return Box(left, top, max(1, right - left), max(1, bottom - top))


# Release


def export(
    target: "Run | Model | AnyPath",
    format: str = "onnx",  # noqa: A002 the word of the command line
    to: AnyPath | None = None,
    *,
    int8: bool = False,
    ort: AnyPath | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> "Exported":
    """Convert a model to another format, and check that its probabilities stay the same.

    Example:
        >>> import mien
        >>> mien.export("fast", "onnx", "export").path.name
        'model.onnx'

    Args:
        target: A run's folder, a model file or a shipped model, loaded or not.
        format: `onnx`, `keras`, `h5`, `litert`; `web` for a web site that runs the model in the browser; or
            `triton` for a model repository of Triton and KServe.
        to: The file or folder to write; None for the run's folder, or NAME-export here. For `web` and
            `triton`, a folder; None for `site` or `triton` in the run, or NAME-site or NAME-triton here.
        int8: For `litert`: round the weights to int8, for a file of a quarter of the size; its predictions
            differ slightly, and `rounding` of the result states by how much.
        ort: For `web`: a folder with the files of onnxruntime-web; None fetches them with npm.
        progress: Called with (images done, images in all).

    Raises:
        InputError: The format is unknown, an option is for another format, the output is the input, or
            onnxruntime-web cannot be fetched.
        ModelError: The model cannot be converted, or its probabilities change; or an int8 file predicts
            another class for more than 1.5 % of the images.
        MissingExtra: A package for the format is not installed.
        OutputError: The file cannot be written.
    """
    from mien.models import model_files
    from mien.release import exporters, triton, web_site
    from mien.training import runs

    _files.check_path("target", target, runs.Run, model_files.Model)
    if ort is not None and format != "web":
        raise InputError("--ort is for --format web; leave it out")
    exporters.check_int8(format, int8=int8)
    if format in ("web", "triton"):
        subject = model_files.resolve(target.path if isinstance(target, runs.Run) else target)
        kind = "site" if format == "web" else format
        place = to or (Path(f"{subject.name}-{kind}") if subject.run is None else subject.run / kind)
        if format == "triton":
            return triton.write_repository(subject.model, place, progress=progress)
        return web_site.write(subject.model, place, ort=ort, progress=progress)
    source: Run | Model
    if isinstance(target, str | os.PathLike):
        source = runs.open_run(target) if model_files.is_run(target) else model_files.load(target)
    else:
        source = target
    if isinstance(source, model_files.Model) and to is not None:
        check_outputs({f"--to {os.fspath(to)}": exporters.file_for(to, format)}, [source.path])
    return exporters.convert(source, format, to, int8=int8, progress=progress)


@dataclass(frozen=True)
class ShipResult:
    """What `ship` wrote.

    Args:
        shipped: The model file and its evaluation.
        skipped: Number of images that could not be read.
    """

    shipped: "Shipped"
    skipped: int = 0


def ship(
    run: AnyPath,
    *,
    to: AnyPath = "models",
    average: AnyPath | Sequence[AnyPath] = (),
    name: str | None = None,
    licence: str = "",
    data: AnyPath | None = None,
    votes: AnyPath | None = None,
    progress: Progress | None = None,
    on_note: Note | None = None,
) -> ShipResult:
    """Calibrate the model of a run, quantize it if that costs nothing, evaluate it, and write one file.

    Example:
        >>> import mien
        >>> result = mien.ship("runs/tiny-run", to="models", name="faces-1")
        >>> result.shipped.model.path.name
        'faces-1.onnx'

    Args:
        run: The folder of a finished run.
        to: The folder for the model file and its evaluation.
        average: A model or run, or several, to average the weights with: one that this run started from, or
            that started from the same weights.
        name: The name of the model; None for the name of the run.
        licence: The licence of the model.
        data: The data of the run, if it has moved.
        votes: The FER+ votes of the run, if they have moved.
        progress: Called with (what is done, done, total).
        on_note: Called with a sentence.

    Raises:
        RunError: The run is not finished.
        InputError: The data is not found, or an output is an input.
        ModelError: The weights cannot be averaged.
        MissingExtra: Keras is not installed.
        OutputError: A file cannot be written.
    """
    from mien.models import initial_weights, model_files, networks
    from mien.training import runs

    listener = _listener(progress, on_note)
    _files.check_path("run", run)
    _files.check_path("to", to)
    average = _paths("average", average)
    networks.require_keras()
    opened = runs.open_run(run)
    called = name or opened.name
    others = [model_files.load(each) for each in average]
    read = [model_files.find(each) for each in average]
    beside = [initial_weights.beside(path) for path in read if path.suffix == ".onnx"]
    written = [Path(to, f"{called}{suffix}") for suffix in (".onnx", ".json", ".weights.npz")]
    check_outputs(
        {f"{path} (--name {called})": path for path in written},
        [*average, *read, *beside, opened.path, *run_inputs(opened.path)],
    )
    origin = opened.facts()["data"]["origin"] | ({} if votes is None else {"votes": votes})
    dataset = load_run_data(opened, data, origin, listener=listener)
    from mien.release import shipping

    shipped = shipping.make(
        opened,
        dataset,
        to=to,
        average=others,
        name=name,
        licence=licence,
        progress=listener.stage("shipping"),
    )
    return ShipResult(shipped, len(dataset.problems))


@dataclass(frozen=True)
class CardResult:
    """What `write_card` wrote.

    Args:
        models: Names of the models.
        text: The model card in Markdown.
        model_card: Its file, if it was written.
        datasheet: The file of the datasheet, for a run.
    """

    models: tuple[str, ...]
    text: str
    model_card: str | None = None
    datasheet: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold; the text only if no file has it."""
        paths = {"model_card": self.model_card, "datasheet": self.datasheet}
        text = {"text": self.text} if self.model_card is None else {}
        return {"schema": SCHEMA, "models": list(self.models), **paths, **text}


def write_card(target: "Run | Model | AnyPath", to: AnyPath | None = None) -> CardResult:
    """Write a model card from measured figures; for a run, also the datasheet of its data.

    Example:
        >>> import mien
        >>> mien.write_card("fast").text.startswith("---")
        True

    Args:
        target: A run or a model that `mien ship` wrote, loaded or not; or a folder of such models.
        to: The file of the card; None for the run's own, or no file for a model.

    Raises:
        ModelError: The model does not exist.
        InputError: The card would overwrite the datasheet.
        OutputError: A file cannot be written.
    """
    from mien.models import model_files
    from mien.release import model_cards
    from mien.training import runs

    _files.check_path("target", target, runs.Run, model_files.Model)
    _files.check_path("to", to, NoneType)
    if isinstance(target, model_files.Model):
        target = model_files.run_of(target.path) or target.path
    elif isinstance(target, runs.Run):
        target = target.path
    if model_files.is_run(target):
        run = runs.open_run(target)
        page = run.path / model_cards.MODEL_CARD if to is None else Path(to)
        sheet = page.parent / model_cards.DATASHEET
        if page.name == sheet.name:
            raise InputError(f"{page} is the file of the datasheet; choose another name for the model card")
        text = model_cards.of_run(run)
        _files.write(page, text.encode())
        _files.write(sheet, model_cards.datasheet(run).encode())
        return CardResult((run.name,), text, str(page), str(sheet))
    if not Path(target).is_dir():
        target = model_files.find(target)
    pairs = model_cards.shipped(target)
    text = model_cards.models(pairs)
    if to is not None:
        _files.write(to, text.encode())
    names = tuple(found.card.name for found, _ in pairs)
    return CardResult(names, text, None if to is None else os.fspath(to))


# Video


def analyze_video(
    path: str | os.PathLike[str],
    *,
    model: "Model | AnyPath | None" = None,
    fps: float | None = None,
    timeline: AnyPath | None = None,
    to: AnyPath | Sequence[AnyPath] = (),
    **options: Any,
) -> "VideoSummary":
    """Follow the people in a video, and return what each of them showed.

    Example:
        >>> import mien
        >>> summary = mien.analyze_video("interview.mp4", to="faces.csv", every=5)
        >>> [person.track for person in summary.people]
        [1]

    Args:
        path: A video file.
        model: As `mien.Predictor` takes it; for other settings, give a `predictor`.
        fps: Analyze at most this many frames per second; not together with `every`.
        timeline: A .png file to plot, with each person's emotions over time; an .svg file goes beside it.
        to: A table to write, or several: .jsonl, .csv or .parquet.
        options: Other arguments of `mien.inference.video.analyze`: predictor, save, blur, every,
            smoothing, max_gap, resume, on_frame, progress and on_note.

    Raises:
        VideoError: The file does not exist or is not a video, or no frame can be decoded.
        InputError: An option is out of range or conflicts with another, or an output is the input.
        MissingExtra: A package is not installed: PyAV, or Matplotlib for `timeline`.
        OutputError: A file cannot be written.
    """
    from mien.inference import video

    known = {*inspect.signature(video.analyze).parameters} - {"path", "to", "rate"}
    if unknown := sorted({*options} - known):
        raise TypeError(f"analyze_video() got an unexpected keyword argument {unknown[0]!r}")
    _files.check_path("path", path)
    _files.check_path("timeline", timeline, NoneType)
    check_timeline(timeline)
    tables = _paths("to", to)
    if model is not None:
        if options.get("predictor") is not None:
            raise InputError("model and predictor cannot be combined; give the model to the predictor")
        options["predictor"] = video.make_predictor(model)
    if timeline is not None:
        plot = Path(timeline)
        outputs: dict[str, Path | None] = {f"--to {each}": Path(each) for each in tables}
        outputs |= {"--timeline": plot, "the .svg file of --timeline": plot.with_suffix(".svg")}
        outputs["--save"] = None if options.get("save") is None else Path(options["save"])
        _files.check_outputs(outputs, [Path(path)])
    summary = video.analyze(path, to=tables, rate=fps, **options)
    if timeline is None:
        return summary
    from mien.reports import plots

    drawn = plots.draw_timeline(
        [person.to_dict() for person in summary.people],
        plot.parent,
        name=plot.stem,
        begin=summary.begin,
        end=summary.end,
        title=Path(path).name,
    )
    return replace(summary, files=(*summary.files, *map(str, drawn)))


def check_timeline(path: str | os.PathLike[str] | None) -> None:
    """Check the file of a timeline before the video is analyzed.

    Raises:
        InputError: It does not end in .png.
        MissingExtra: Matplotlib is not installed.
    """
    if path is None:
        return
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"--timeline is '{path}'; it must end in .png")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtra("--timeline", "plot")
