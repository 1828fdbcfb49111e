"""Train a recipe on a data set; the result is a run's folder with the model file.

A training depends on data, recipe, machine and software only. If it is killed at any moment and resumed, its
weights, history and metrics are equal bit for bit to those of an uninterrupted training.
"""

import contextlib
import importlib
import importlib.util
import os
import platform
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien import __version__, _files
from mien._processes import listen
from mien.data import datasets
from mien.data.datasets import Dataset, Split
from mien.data.probabilities import SavedPredictions
from mien.errors import DataError, ModelError, OutputError, RecipeError, RunError, Stopped, TrainingError
from mien.evaluation import evaluator
from mien.evaluation.evaluation import Evaluation
from mien.evaluation.metrics import add_thresholds, find_plurality, majority_share, wilson_interval
from mien.models import model_files, networks
from mien.models.model_files import Model
from mien.models.networks import install_command, load_keras, set_random_seed
from mien.release import exporters
from mien.training import checkpoints, initialization, normalization, optimization, targets, teachers
from mien.training import folds as fold_division
from mien.training.batches import Batch, BatchLoader, to_keras
from mien.training.checkpoints import CheckpointCallback, Status, best_epoch, is_over
from mien.training.recipes import Recipe, from_dict, get, to_dict
from mien.training.runs import Row, Run, State, create
from mien.training.teachers import Teachers, ViewAnswers

if TYPE_CHECKING:
    from distributed import Client

#: Called with the row of an epoch; the training is pruned if it returns True.
OnEpoch = Callable[[Row], bool | None]


def describe_run(
    dataset: Dataset,
    policy: str,
    *,
    origin: Mapping[str, Any],
    teacher: SavedPredictions | Teachers | None,
    bases: Sequence[Mapping[str, Any]],
    began: Mapping[str, Any] | None = None,
    engine: str = "host",
) -> dict[str, Any]:
    """Return the first content of `run.json`.

    Args:
        dataset: The data of the training.
        policy: The dtype policy of Keras.
        origin: How to load the data again.
        teacher: The probabilities that it distils from; None for no distillation.
        bases: The models that it starts from, as fields of `mien.models.model_files.Base`.
        began: The result of `initialization.evaluate_base` for the first of them.
        engine: `host` or `device`.
    """
    return {
        "schema": 1,
        "status": "training",
        "labels": list(dataset.labels),
        "precision": policy,
        "engine": engine,
        "data": describe_data(dataset) | {"origin": dict(origin)},
        "teacher": None if teacher is None else {"about": teacher.about, "sha256": teacher.sha256},
        "base": list(bases),
        "began": None if began is None else dict(began),
        "environment": describe_environment(),
    }


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """Return names, counts by split and class, and fingerprints of a data set."""
    splits = {split.name: split for split in (dataset.train, dataset.val, dataset.test) if split is not None}
    k = len(dataset.labels)
    return {
        # A folder's name may contain bytes that are not UTF-8.
        "name": dataset.root.encode(errors="replace").decode(),
        "fingerprint": dataset.fingerprint,
        "votes": dataset.votes_fingerprint,
        "splits": {
            name: {"n": len(split), "fingerprint": split.fingerprint} for name, split in splits.items()
        },
        "classes": {
            name: dict(zip(dataset.labels, np.bincount(split.labels, minlength=k).tolist(), strict=True))
            for name, split in splits.items()
        },
        "problems": [{"file": problem.file, "reason": problem.reason} for problem in dataset.problems],
        "excluded": {item.reason: item.count for item in dataset.excluded},
        "notes": list(dataset.notes),
    }


def make_card(name: str, known: Mapping[str, Any], dataset: Dataset, recipe: Recipe) -> model_files.Card:
    """Return the card of a trained model, without figures.

    Args:
        name: The run's name.
        known: The content of its `run.json`.
        dataset: The data of the training.
        recipe: Its recipe.
    """
    data, environment, teacher = describe_data(dataset), known["environment"], known.get("teacher")
    return model_files.Card(
        name=name,
        labels=dataset.labels,
        size=recipe.size,
        heads=dict(model_files.TWO_HEADS if recipe.targets.ferplus else model_files.ONE_HEAD),
        recipe=to_dict(recipe),
        teacher=teacher["about"] if teacher else "",
        data=_parse_data(data),
        base=tuple(_parse_base(base) for base in known.get("base", [])),
        excluded=data["excluded"],
        versions={name: environment[name] for name in ("mien", "python", "keras", "backend", "numpy")},
    )


def _parse_base(known: Mapping[str, Any]) -> model_files.Base:
    return model_files.Base(
        name=known["name"],
        sha256=known["sha256"],
        data=_parse_data(known["data"]),
        recipe=known.get("recipe", {}),
        teacher=known.get("teacher", ""),
    )


def _parse_data(known: Mapping[str, Any]) -> model_files.Data:
    return model_files.Data(
        name=known["name"],
        fingerprint=known["fingerprint"],
        splits={name: model_files.Part(**part) for name, part in known["splits"].items()},
    )


def check_names(name: str, known: Mapping[str, Any], dataset: Dataset, recipe: Recipe) -> None:
    """Check before a training that its model can have a card.

    Raises:
        DataError: A card cannot hold the name of a class, of the data or of the run, or it is too large.
    """
    try:
        model_files.to_json(make_card(name, known, dataset, recipe))
    except ModelError as error:
        raise DataError(
            f"the model of {describe_data(dataset)['name']!r} cannot have a card: {error}; rename the "
            "class, the data or the run, or use fewer reasons in the exclusion lists"
        ) from None


def describe_environment() -> dict[str, Any]:
    """Return versions and hardware of this machine."""
    library = load_keras()
    backend = library.backend.backend()
    module = {"tensorflow": "tensorflow", "jax": "jax"}.get(backend)
    version = importlib.import_module(module).__version__ if module else ""
    return {
        "mien": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "keras": library.version(),
        "backend": f"{backend} {version}".strip(),
        "numpy": np.__version__,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "TensorFlow's default"),
    }


#: The file in which Linux lists processor features.
CPUINFO = Path("/proc/cpuinfo")

_CPU_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")


def choose_precision(precision: str) -> str:
    """Return the Keras dtype policy for a recipe's precision.

    `auto` is mixed bfloat16 on a GPU and on processors with bfloat16 instructions, else float32, because
    emulated bfloat16 is several times slower.
    """
    if precision == "bfloat16" or (precision == "auto" and _computes_bfloat16()):
        return "mixed_bfloat16"
    return "float32"


def _computes_bfloat16() -> bool:
    if any("gpu" in device or "cuda" in device for device in load_keras().distribution.list_devices()):
        return True
    if not CPUINFO.exists():
        return False
    lines = CPUINFO.read_text(errors="replace").splitlines()
    # Linux calls them flags on x86 and Features on ARM.
    found = {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}
    return not found.isdisjoint(_CPU_FLAGS)


def choose_engine(engine: str) -> str:
    """Return where batches are made, `host` or `device`, for a recipe's engine.

    `auto` is the device if Keras runs on JAX and JAX has a GPU or TPU.

    Raises:
        RecipeError: The device is asked for, and Keras runs on another backend.
    """
    backend = load_keras().backend.backend()
    if engine == "host" or (engine == "auto" and backend != "jax"):
        return "host"
    if backend != "jax":
        remedy = "set the environment variable KERAS_BACKEND=jax"
        if install := install_command("jax"):
            remedy = f"run: {install}, and {remedy}"
        raise RecipeError(f"engine=device needs Keras on JAX, and Keras runs on {backend}; {remedy}")
    from mien.training import device

    return "device" if engine == "device" or device.is_accelerator() else "host"


def _memory_of(engine: str) -> AbstractContextManager[None]:
    """Return the context in which the arrays of a network are made."""
    if engine == "host":
        return contextlib.nullcontext()
    from mien.training import device

    return device.on_host()


def build_network(recipe: Recipe, *, classes: int, policy: str) -> Any:
    """Build the recipe's network under a dtype policy; Keras' global policy does not change."""
    keras = load_keras()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return networks.build(
            recipe.network, size=recipe.size, classes=classes, ferplus=recipe.targets.ferplus > 0
        )
    finally:
        keras.config.set_dtype_policy(before)


def _build_for_training(recipe: Recipe, *, classes: int, policy: str) -> Any:
    """Build the recipe's network with layers that train faster; its weights are those of the plain one."""
    model = build_network(recipe, classes=classes, policy=policy)
    # Wide networks spend all but a few percent of the time in convolutions.
    return model if networks.get(recipe.network).wide else normalization.fuse(model)


#: Validation images per batch; this changes memory and speed, not the result.
_VALIDATION_BATCH = 256


def fit(
    dataset: Dataset,
    recipe: Recipe | str,
    *,
    out: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = Path("runs"),
    teacher: SavedPredictions | Teachers | None = None,
    base: Model | None = None,
    origin: Mapping[str, Any] | None = None,
    fold: bool = False,
    views: str | os.PathLike[str] | None = None,
    on_status: Callable[[Status], None] | None = None,
    on_epoch: OnEpoch | None = None,
    on_note: Callable[[str], None] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Run:
    """Train `recipe` on `dataset`.

    Sets the global seeds of Python, NumPy and Keras' backend. SIGINT and SIGTERM save the training and
    raise `Stopped`.

    Example:
        >>> from mien.data import datasets
        >>> from mien.training import recipes, trainer
        >>> recipe = recipes.override(recipes.get("quick"), ["epochs=1", "network=tiny", "size=16"])
        >>> run = trainer.fit(datasets.load("faces.zip", size=16), recipe, out="mine")
        >>> len(run.history())
        1

    Args:
        dataset: Images `(n, size, size, 1)` uint8 in [0, 255], with the recipe's size; train and val.
        recipe: The recipe, or the name of one of mien's recipes, such as `"quick"`.
        out: The run's folder; None for the next free `runs/<recipe>-<number>`.
        runs: The parent of numbered run folders.
        teacher: What to distil from, as `recipe.targets` weighs it: probabilities for the training images; or
            models, which answer the views of `recipe.views`.
        base: A model whose weights the training starts from; None for random weights. It must have the
            recipe's network. Output layers for other classes keep random weights.
        origin: How to load the data again (arguments of `datasets.load`); kept in `run.json`.
        fold: Whether it is a fold of `train_folds`, which resumes it by itself.
        views: The folder for the answers of teachers, which several runs can share; None for the run's own.
        on_status: Called a few times a second with the progress.
        on_epoch: Called with the row of `history.csv` of each epoch, once each and in order, when the epoch
            is saved. If it returns True before the last epoch, the training ends: the run has the status
            `pruned` and no model, and `resume` would continue it. An exception passes through.
        on_note: Called with messages.
        on_progress: Called with (task, images done, images in all) while `base` is evaluated on val, and
            while teachers answer views.

    Returns:
        The run; its model has the weights of the epoch that the recipe's `select` names. A pruned run has no
        model.

    Raises:
        DataError: A split is missing, or its images do not have the recipe's size; the recipe needs votes
            and the data has none; or the teacher's probabilities are not for the training images.
        RecipeError: The recipe's network does not exist, does not support the size, or differs from that of
            `base`.
        RunError: `out` is not empty.
        ModelError: The weights of `base` are missing or damaged.
        TrainingError: The loss is not a number any more; what was learnt is saved.
        OutputError: A file cannot be written; what was saved before is unchanged.
        Stopped: A signal stopped the training; continue with `resume`.
    """
    recipe = get(recipe) if isinstance(recipe, str) else recipe
    targets.check_images(dataset, recipe)
    wanted = teachers.make_targets(dataset, recipe, teacher)
    start = None if base is None else initialization.load(base)
    if start is not None:
        initialization.check_recipe(start, recipe)
    engine = choose_engine(recipe.engine)
    set_random_seed(recipe.seed)
    policy = choose_precision(recipe.precision)
    with _memory_of(engine):
        model = _build_for_training(recipe, classes=len(dataset.labels), policy=policy)
    bases = start.base if start else ()
    if start is not None:
        _load_weights(start, model, dataset, on_note)
    began = None if base is None else _score_base(base, dataset, on_progress)
    known = describe_run(
        dataset, policy, origin=origin or {}, teacher=teacher, bases=bases, began=began, engine=engine
    )
    check_names(Path(out).name if out is not None else recipe.name, known, dataset, recipe)
    made = create(recipe, known, out=out, runs=runs)
    calls = _Calls(on_status, _EpochReporter(on_epoch), on_note or _ignore, on_progress)
    with made.lock():
        return _train(made, model, dataset, recipe, wanted, teacher, calls, fold=fold, views=views)


def resume(
    made: Run,
    dataset: Dataset,
    *,
    teacher: SavedPredictions | Teachers | None = None,
    fold: bool = False,
    views: str | os.PathLike[str] | None = None,
    on_status: Callable[[Status], None] | None = None,
    on_epoch: OnEpoch | None = None,
    on_note: Callable[[str], None] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Run:
    """Resume a training that was stopped or killed, from its last saved state.

    Args:
        made: The run.
        dataset: The same data, bit for bit.
        teacher: The same probabilities to distil from, if there were any.
        fold: As in `fit`.
        views: As in `fit`.
        on_status: As in `fit`.
        on_epoch: As in `fit`. Called first with the rows of the epochs before the resume; of these, the
            answer for the last one counts.
        on_note: As in `fit`.
        on_progress: Called with (task, images done, images in all) while teachers answer views.

    Raises:
        DataError: The data, their votes, or the teacher differ from those of the run.
        RunError: The run is damaged, or another process trains it.
        TrainingError: As `fit`.
        OutputError: As `fit`.
        Stopped: As `fit`.
    """
    recipe = made.recipe()
    known = made.facts()
    _check_unchanged(made, recipe, known["recipe"])
    targets.check_images(dataset, recipe)
    with made.lock():
        if known["data"]["fingerprint"] != dataset.fingerprint:
            raise DataError(
                f"{dataset.root} is not the data that {made.name} was trained on: its fingerprint is "
                f"{dataset.fingerprint[:12]}, not {known['data']['fingerprint'][:12]}; name the same data"
            )
        made.check_votes(dataset.votes_fingerprint)
        _check_teacher(made, known.get("teacher"), teacher)
        _check_begun(made, known.get("base"))
        wanted = teachers.make_targets(dataset, recipe, teacher)
        engine = _engine_of(made)
        set_random_seed(recipe.seed)
        with _memory_of(engine):
            model = _build_for_training(recipe, classes=len(dataset.labels), policy=known["precision"])
        calls = _Calls(on_status, _EpochReporter(on_epoch), on_note or _ignore, on_progress)
        return _train(made, model, dataset, recipe, wanted, teacher, calls, fold=fold, views=views)


def train_folds(
    dataset: Dataset,
    recipe: Recipe,
    *,
    folds: int = 5,
    out: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = Path("runs"),
    client: "Client | None" = None,
    on_status: Callable[[Status], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Train one network per fold of the training images, and predict each fold with the network without it.

    The same call resumes stopped folds. Processes that use the same folder share the folds. The validation
    images are not used.

    Args:
        dataset: Its train split is divided into folds; exact and near duplicates stay in one fold.
        recipe: The recipe of every network; `select` uses the fold that is left out.
        folds: Number of folds.
        out: The folder of the folds' runs; None for `runs/<recipe>-folds`.
        runs: The parent of that folder.
        client: A client of a Dask cluster, whose workers train the folds and load the data again from
            `dataset.origin`; None for this process.
        on_status: As in `fit`; not called with `client`.
        on_note: As in `fit`.
        on_progress: Called with (fold and epoch, steps done, steps in the epoch).

    Returns:
        `out-of-fold.npz` in that folder: probabilities for every training image (`mien.data.probabilities`).

    Raises:
        DataError: A class has fewer distinct images than there are folds; or as in `fit`.
        RunError: The folder holds runs of another recipe or other data.
        InputError: The workers do not see the folder or the data.
        Stopped: A signal stopped the training; the same call resumes it.
    """
    to = Path(runs) / f"{recipe.name}-folds" if out is None else Path(out)
    if client is not None:
        _spread_folds(client, dataset, recipe, folds, to, on_note or _ignore, on_progress or _ignore)
    parts, made = _train_each_fold(dataset, recipe, folds, to, on_status, on_note, on_progress)
    fold_division.predict_out_of_fold(dataset, recipe, to, parts, made)
    return to / fold_division.FILE


def _train_each_fold(
    dataset: Dataset,
    recipe: Recipe,
    folds: int,
    to: Path,
    on_status: Callable[[Status], None] | None,
    on_note: Callable[[str], None] | None,
    on_progress: Callable[[str, int, int], None] | None,
) -> tuple[list[NDArray[np.intp]], list[Run]]:
    """Train the folds that no other process trains, and wait for the others."""

    def calls(path: Path) -> dict[str, Any]:
        load_keras(recipe.network)  # takes seconds, and only a training needs it

        def report(status: Status) -> None:
            if on_progress is not None:
                on_progress(f"{path.name}, epoch {status.epoch}/{status.epochs}", status.step, status.steps)
            if on_status is not None:
                on_status(status)

        return {"fold": True, "on_status": report, "on_note": lambda said: say(f"{path.name}: {said}")}

    say = on_note or _ignore

    return fold_division.train_folds(
        dataset,
        recipe,
        folds,
        to,
        fit=lambda part, path: fit(part, recipe, out=path, **calls(path)),
        resume=lambda made, part: resume(made, part, **calls(made.path)),
        say=say,
    )


def _spread_folds(
    client: "Client",
    dataset: Dataset,
    recipe: Recipe,
    folds: int,
    to: Path,
    on_note: Callable[[str], None],
    on_progress: Callable[[str, int, int], None],
) -> None:
    """Train the folds on the workers of a cluster."""
    from mien.training import cluster_jobs

    if not (left := fold_division.count_unfinished(folds, to)):
        return
    targets.check_images(dataset, recipe)
    teachers.make_targets(dataset, recipe, None)
    fold_division.check_folder(to, folds)
    with _files.writing(to):
        to.mkdir(parents=True, exist_ok=True)
    place = to.resolve()
    needs = cluster_jobs.check_workers(client, dataset.origin, place, packages=["keras"])
    arguments = {
        "origin": dict(dataset.origin),
        "fingerprints": (dataset.fingerprint, dataset.votes_fingerprint),
        "recipe": recipe,
        "folds": folds,
        "to": place,
    }
    with listen() as stop:
        cluster_jobs.run(
            client,
            cluster_jobs.Call(__name__, "join_folds", arguments, needs),
            most=left,
            stop=stop,
            saved="the folds are saved",
            on_progress=on_progress,
            on_note=on_note,
        )


def join_folds(
    *,
    origin: Mapping[str, Any],
    fingerprints: tuple[str, str | None],
    recipe: Recipe,
    folds: int,
    to: str | os.PathLike[str],
    on_progress: Callable[[str, int, int], None],
    on_note: Callable[[str], None],
) -> None:
    """Train folds that no other process trains, on a worker of a cluster.

    Args:
        origin: The arguments of `datasets.load` that load the data.
        fingerprints: Those of the data and of their votes.
        recipe: As for `train_folds`.
        folds: As for `train_folds`.
        to: The folder of the folds' runs.
        on_progress: As for `train_folds`.
        on_note: As for `train_folds`.

    Raises:
        DataError: The data are others than those of the client.
    """
    dataset = datasets.load(size=recipe.size, **origin)
    if (dataset.fingerprint, dataset.votes_fingerprint) != fingerprints:
        raise DataError(
            f"a worker finds other data in '{origin['source']}' than this process has; use the same files on "
            "all machines, and give the path of the data instead of a changed data set"
        )
    _train_each_fold(dataset, recipe, folds, Path(to), None, on_note, on_progress)


def _ignore(*arguments: Any) -> None:
    pass


def _train(
    made: Run,
    model: Any,
    dataset: Dataset,
    recipe: Recipe,
    wanted: targets.Targets,
    teacher: SavedPredictions | Teachers | None,
    calls: "_Calls",
    *,
    fold: bool,
    views: str | os.PathLike[str] | None,
) -> Run:
    """Train from the last saved state, or from the beginning, to the end."""
    again = "the same command" if fold else f"mien train --resume {made.path}"
    made.sweep()
    engine, say, report = _engine_of(made), calls.say, calls.report
    feed = BatchLoader(dataset.split("train"), wanted.train, recipe)
    with _memory_of(engine):
        _compile(made, model, feed, recipe, wanted, engine=engine)
    if made.facts().get("base") and made.load()[0] is None:
        # The recipe cannot recreate these weights, unlike random ones, and teachers answer for minutes.
        _watch(made, model, recipe, feed, None, calls, again).save()
    try:
        taught = _answer_views(made, views, dataset, recipe, teacher, engine, calls)
    except KeyboardInterrupt:
        raise Stopped(
            f"stopped, and finished views are saved; continue with: {again}", signal.SIGINT
        ) from None
    except OutputError as error:
        error.args = (f"{error}; then continue with: {again}",)
        raise
    feed = replace(feed, taught=taught)
    validation = dataset.split("val").images, to_keras(wanted.val)
    with _memory_of(engine):
        loop = _device_loop(made, model, feed, validation, wanted) if engine == "device" else None
    trained = False
    try:
        while True:
            state, complaints = made.load()
            for complaint in complaints:
                say(complaint)
            callback = _watch(made, model, recipe, feed, state, calls, again)
            # Here too, because a process may have been killed between the save and the call.
            pruned = report(callback.history)
            if is_over(callback.history, recipe):
                if not trained:
                    say("every epoch is trained already; only the model file and its figures are made again")
                break
            trained = True
            if pruned:
                say(f"pruned after epoch {len(callback.history)} of {recipe.epochs}")
                made.update(status="pruned")
                return made
            with _memory_of(engine):
                callback.restore()
            callbacks = _callbacks(made, recipe, callback.history, say)
            if loop is None:
                _fit_part(model, callback, validation, callbacks=callbacks)
            else:
                loop.fit_part(callback, callbacks)
    except OutputError as error:
        error.args = (f"{error}; then continue with: {again}",)
        raise
    except TrainingError as error:
        if fold and callback.diverged:
            error.args = (f"{error} and another --out, because all folds share one recipe",)
        _fail(made, callback, dataset, recipe, error)
        raise
    _finish(made, callback, dataset, recipe, say=say)
    made.update(status="done")
    return made


class _EpochReporter:
    """Calls `on_epoch` once for each epoch, in order.

    Args:
        on_epoch: As in `fit`.
    """

    def __init__(self, on_epoch: OnEpoch | None) -> None:
        self._on_epoch = on_epoch
        self._reported = 0
        self._pruned = False

    def __call__(self, history: Sequence[Row]) -> bool:
        """Report the epochs that were not yet reported, and return whether the training is pruned."""
        while self._on_epoch is not None and self._reported < len(history):
            self._reported += 1
            self._pruned = self._on_epoch(dict(history[self._reported - 1])) is True
        return self._pruned


@dataclass(frozen=True)
class _Calls:
    """What a training calls, as in `fit`.

    Args:
        on_status: Gets the progress of steps.
        report: Gets the epochs.
        say: Gets messages.
        on_progress: Gets the progress of other tasks.
    """

    on_status: Callable[[Status], None] | None
    report: _EpochReporter
    say: Callable[[str], None]
    on_progress: Callable[[str, int, int], None] | None


def _engine_of(made: Run) -> str:
    """Return where a run makes its batches; runs before version 0.1.0 do not say it.

    Raises:
        RunError: It was started on a device, and Keras does not run on JAX.
    """
    engine = str(made.facts().get("engine", "host"))
    if engine == "device" and load_keras().backend.backend() != "jax":
        raise RunError(
            f"{made.name} was started with Keras on JAX; set the environment variable KERAS_BACKEND=jax"
        )
    return engine


def _watch(
    made: Run,
    model: Any,
    recipe: Recipe,
    feed: BatchLoader,
    state: State | None,
    calls: "_Calls",
    again: str,
) -> CheckpointCallback:
    """Return the callback that saves the training of a model, from a state on."""
    callback = CheckpointCallback(made, recipe, feed, state, calls.on_status, calls.report, again=again)
    callback.set_model(model)
    return callback


def _compile(
    made: Run, model: Any, feed: BatchLoader, recipe: Recipe, wanted: targets.Targets, *, engine: str
) -> None:
    """Compile the model."""
    library = load_keras()
    if recipe.optimizer.ema:
        first = None if made.facts().get("base") else next(feed.batches(0, 0))[0]
        optimization.average_statistics(model, recipe.optimizer.ema, first)
    tabulate = None
    if engine == "device":
        from mien.training import device

        tabulate = device.Tabulated
    steps = feed.steps * recipe.epochs
    model.compile(
        optimizer=optimization.make_optimizer(recipe.optimizer, model, steps=steps, tabulate=tabulate),
        **optimization.loss_settings(recipe.targets, distils=wanted.distils, frequencies=wanted.frequencies),
        # On CPUs, XLA makes the training of these networks 25 % slower.
        jit_compile=False if library.backend.backend() == "tensorflow" else "auto",
    )


def _device_loop(made: Run, model: Any, feed: BatchLoader, validation: Batch, wanted: targets.Targets) -> Any:
    """Return the loop that trains a compiled model on a device."""
    from mien.training import device

    frequencies = wanted.frequencies if feed.recipe.targets.balance else ()
    about = (wanted.distils, frequencies)
    return device.Loop(model, feed, validation, policy=made.facts()["precision"], about=about)


def _load_weights(
    start: initialization.InitialWeights, model: Any, dataset: Dataset, on_note: Callable[[str], None] | None
) -> None:
    """Assign the initial weights to the model, and report which outputs keep random weights."""
    fresh = initialization.assign(start, model, dataset.labels)
    why = "does not have this output" if dataset.labels == start.labels else "has other classes"
    rest = f"; {' and '.join(fresh)} starts with random weights, because the model {why}" if fresh else ""
    if on_note is not None:
        on_note(f"starts from the weights of {start.name}{rest}")
        if len(start.heads) > len(model.outputs):
            on_note(
                f"{start.name} has the heads {' and '.join(start.heads)}; the model trained here has only "
                "the first, because its recipe does not learn from votes; to keep both, give --votes "
                "and --set targets.ferplus=1"
            )


def _score_base(
    base: Model, dataset: Dataset, on_progress: Callable[[str, int, int], None] | None
) -> dict[str, Any] | None:
    def move(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(f"evaluating {base.card.name} on val", done, total)

    return initialization.evaluate_base(base, dataset, progress=move)


def _answer_views(
    made: Run,
    shared: str | os.PathLike[str] | None,
    dataset: Dataset,
    recipe: Recipe,
    teacher: SavedPredictions | Teachers | None,
    engine: str,
    calls: _Calls,
) -> ViewAnswers | None:
    """Return what teacher models answer to the views; None if there are none."""
    if not isinstance(teacher, Teachers):
        return None
    answer_with = None
    if engine == "device":
        from mien.training import device

        answer_with = device.make_answerer
    count = teachers.effective(recipe.views).count
    calls.say(f"the teacher ({teacher.about}) answers {count} views of each training image, once")

    def move(done: int, total: int) -> None:
        if calls.on_progress is not None:
            calls.on_progress("asking the teacher", done, total)

    return teachers.answer_views(
        teacher,
        dataset.split("train"),
        dataset.labels,
        recipe,
        made.views if shared is None else shared,
        lock=None if shared is None else f"{os.fspath(shared)}.lock",
        answer_with=answer_with,
        progress=move,
    )


def _check_begun(made: Run, base: Any) -> None:
    if base and made.load()[0] is None:
        raise RunError(
            f"{made.name} was stopped before its initial weights were saved; start a new training with "
            f"--from and {base[0]['name']}"
        )


def _check_teacher(
    made: Run, begun: Mapping[str, Any] | None, teacher: SavedPredictions | Teachers | None
) -> None:
    had, has = begun and begun["sha256"], teacher and teacher.sha256
    if had != has:
        was = f"a teacher ({begun['about']})" if begun else "no teacher"
        raise DataError(
            f"{made.name} was started with {was}; name the same files with --teacher"
            if begun
            else f"{made.name} was started without a teacher; omit --teacher"
        )


def _fit_part(model: Any, callback: CheckpointCallback, validation: Batch, *, callbacks: list[Any]) -> None:
    """Train to the end; or, from inside an epoch, to the end of that epoch.

    Keras cannot begin inside an epoch, so the caller continues from the state that is saved at its end. That
    also restores weights with a moving average, which Keras changes at the end of `fit`.
    """
    feed, recipe = callback.feed, callback.recipe
    inside = callback.step > 0
    with checkpoints.listen_for_signals(callback.save_last, callback.again) as callback.stop:
        model.fit(
            feed.batches(callback.epoch, callback.step),
            steps_per_epoch=feed.steps - callback.step,
            initial_epoch=callback.epoch,
            epochs=callback.epoch + 1 if inside else recipe.epochs,
            validation_data=validation,
            validation_batch_size=_VALIDATION_BATCH,
            # Callbacks end in their order: the callback sees validated weights before they are swapped back.
            callbacks=[callback, *callbacks],
            shuffle=False,
            verbose=0,
        )


def _callbacks(made: Run, recipe: Recipe, history: Sequence[Row], say: Callable[[str], None]) -> list[Any]:
    library = load_keras()
    callbacks = []
    if recipe.optimizer.ema:
        callbacks.append(library.callbacks.SwapEMAWeights())
    if importlib.util.find_spec("tensorboard"):
        from mien.training.tensorboard_logs import TensorBoardCallback

        callbacks.append(TensorBoardCallback(made.tensorboard, history))
    else:
        say("TensorBoard is not installed, so there are no logs for it; history.csv has the same numbers")
    return callbacks


def _finish(
    made: Run, callback: CheckpointCallback, dataset: Dataset, recipe: Recipe, *, say: Callable[[str], None]
) -> None:
    """Export the selected weights, evaluate the file on val, and store both."""
    made.write_history(callback.history)
    index = best_epoch(callback.history, recipe.select)
    row = callback.history[index]
    if len(callback.history) < recipe.epochs:
        say(
            f"stopped early after epoch {len(callback.history)}: the validation loss has not fallen for "
            f"{recipe.stopping.patience} epochs"
        )
    say(
        f"the model file has the weights of epoch {index + 1} of {len(callback.history)}: val_loss "
        f"{row['val_loss']:.4f}"
    )
    better = _find_better_epoch(callback.history, index)
    if better is not None:
        other = callback.history[better]
        say(
            f"epoch {better + 1} was better on val, in loss ({other['val_loss']:.4f}, not "
            f"{row['val_loss']:.4f}) and in accuracy ({other['val_accuracy']:.2%}, not "
            f"{row['val_accuracy']:.2%}); the recipe keeps the last epoch; add --set select=val_loss to "
            "keep the best"
        )
    model = build_network(recipe, classes=len(dataset.labels), policy="float32")
    model.set_weights(callback.best)
    val = dataset.split("val")
    card = make_card(made.name, made.facts(), dataset, recipe)
    try:
        shipped = exporters.write_model(model, card, made.model_folder, images=val.images[: exporters.IMAGES])
    except exporters.Unlike as error:
        raise _diverged(made, error, row, f"epoch {index + 1} of {len(callback.history)}") from error
    predicted = evaluator.predict_heads(
        shipped, val, heads=list(card.heads), labels=dataset.labels, data=dataset.root
    )
    answers = {each.head: each for each in predicted}
    report = evaluator.evaluate_predictions(predicted[0])
    began = _compare_with_base(made, report)
    card = replace(
        shipped.card,
        metrics={"val": report.summary()},
        heads=_finish_heads(card, answers, dataset.split("train"), say),
        began=began,
    )
    shipped = model_files.write((made.model_folder / model_files.MODEL).read_bytes(), card, made.model_folder)
    if began is not None:
        made.update(began=asdict(began) | {"worse": began.worse})
        if began.worse:
            say(began.sentence)
    made.update(
        shipped={
            "epoch": index + 1,
            "of": len(callback.history),
            "better_epoch": None if better is None else better + 1,
            "at_chance": [name for name, head in card.heads.items() if head.at_chance],
            "sha256": shipped.card.sha256,
        }
    )
    made.keep_report(replace(report, model=shipped.card.sha256 or "").to_dict())


def _find_better_epoch(history: Sequence[Mapping[str, float]], index: int) -> int | None:
    """Return the epoch with the lowest validation loss, if its accuracy is higher too."""
    best = min(range(len(history)), key=lambda place: history[place]["val_loss"])
    row, other = history[index], history[best]
    beats = other["val_loss"] < row["val_loss"] and other["val_accuracy"] > row["val_accuracy"]
    return best if beats else None


def _compare_with_base(made: Run, report: Evaluation) -> model_files.Began | None:
    """Compare the trained model with the one that it started from, if that was evaluated."""
    known = made.facts().get("began")
    if known is None:
        return None
    return model_files.Began(
        name=known["name"],
        n=known["n"],
        accuracy=known["accuracy"],
        accuracy_interval=tuple(known["accuracy_interval"]),
        learnt=known["learnt"],
        after=report.accuracy,
        after_interval=report.accuracy_interval,
    )


def _finish_heads(
    card: model_files.Card,
    answers: Mapping[str, evaluator.Predictions],
    train: Split,
    say: Callable[[str], None],
) -> dict[str, model_files.Head]:
    """Return the heads with frequencies and thresholds, and report those at chance."""
    heads = {}
    for name, found in answers.items():
        head, right = card.head(name), found.truth
        chances = found.probabilities
        if head.output == "ferplus" and found.split.votes is not None:
            decided, seen = find_plurality(found.split.votes, card.labels)
            chances, right = chances[decided], seen[decided]
        shares = targets.frequencies(card, name, train)
        heads[name] = add_thresholds(head, chances, right, card.labels, shares)
        if heads[name].at_chance:
            say(_at_chance(name, card, chances, right))
    return heads


def _at_chance(
    name: str, card: model_files.Card, chances: NDArray[np.float32], right: NDArray[np.int64]
) -> str:
    called = f"the head {name}" if len(card.heads) > 1 else "the model"
    if not len(right):
        return f"{called} cannot be evaluated on val, so all its predictions are marked uncertain"
    hits = int((chances.argmax(axis=1) == right).sum())
    low, high = wilson_interval(hits, len(right))
    commonest = card.labels[int(np.bincount(right).argmax())]
    return (
        f"{called} is not better than chance: its accuracy on val is {hits / len(right):.1%} ({low:.1%} to "
        f"{high:.1%}), and always predicting {commonest} has {majority_share(right):.1%}; all its "
        "predictions are marked uncertain"
    )


def _diverged(made: Run, error: exporters.Unlike, row: Mapping[str, float], epoch: str) -> TrainingError:
    """Keep the file of a network that does not answer like Keras, and return the error."""
    place = made.path / "diverged"
    place.mkdir(exist_ok=True)
    _files.write(place / model_files.MODEL, error.content)
    reason = str(error).removesuffix(", so nothing was written")
    made.update(status="failed", reason=reason)
    return TrainingError(
        f"{reason}: {epoch} has probably diverged (val_loss {row['val_loss']:,.4g}); its file is kept in "
        f"{place} for inspection only; train again with a smaller step, such as "
        f"--set optimizer.learning_rate={made.recipe().optimizer.learning_rate / 4:g} or --set "
        "optimizer.clip_norm=1"
    )


def _fail(
    made: Run, callback: CheckpointCallback, dataset: Dataset, recipe: Recipe, error: TrainingError
) -> None:
    """If the training diverged, note that in the run and export the best epoch before."""
    if not callback.diverged:
        return
    made.update(status="failed", reason=str(error))
    if callback.best:
        try:
            _finish(made, callback, dataset, recipe, say=_ignore)
        except (TrainingError, OutputError) as second:
            error.args = (f"{error}; of the best epoch before that: {second}",)
            return
        error.args = (f"{error}; the best epoch before that is in {made.model_folder}",)


def _check_unchanged(made: Run, recipe: Recipe, begun: dict[str, Any]) -> None:
    try:
        # Settings that are newer than the run have their defaults, as in the run.
        was, now = to_dict(from_dict(begun)), to_dict(recipe)
    except RecipeError as error:
        raise RunError(f"{made.path / 'run.json'} is damaged: {error}") from None
    changed = [key for key in now if now[key] != was[key]]
    if changed:
        raise RunError(
            f"recipe.toml has changed since the run began ({', '.join(changed)}); undo that, or start a new "
            "training with --recipe and the file"
        )
