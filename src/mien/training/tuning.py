"""Search for settings of a recipe that do better on val: TPE and Hyperband of Optuna.

    STUDY/study.json       what is searched: recipe, space, metric, data
    STUDY/space.toml       the search space
    STUDY/journal.log      Optuna's journal of all trials
    STUDY/trials/trial-1   the run of each trial
    STUDY/confirm/         the runs of the best recipe with other seeds
    STUDY/claims/          the locks of trials
    STUDY/views/           what teachers answer to views, until the search ends
    STUDY/best.toml        the best recipe, with its measured score

A search that is killed continues with the same call: a trial whose process has died is claimed by the next
process, which resumes its run. Several processes can share a study, also on several machines with one file
system. The test split is never read. Trials are compared on val, so their scores are optimistic.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import filelock
import numpy as np

from mien import _files
from mien._processes import StopRequest, listen
from mien._text import format_setting, join_words, pluralize
from mien.data.datasets import Dataset
from mien.data.probabilities import SavedPredictions
from mien.errors import InputError, MissingExtra, RecipeError, RunError, TrainingError
from mien.models import model_files, networks
from mien.models.model_files import Model
from mien.training import cluster_jobs, recipes, runs, search_spaces, targets, teachers, trials
from mien.training.recipes import Recipe
from mien.training.search_spaces import Choices, Range, SearchSpace
from mien.training.studies import Confirmation, Metric, StudyResult, Trial, format_score
from mien.training.teachers import Teachers
from mien.training.trials import Epoch, Failure, Outcome, Progress, Task

if TYPE_CHECKING:
    from distributed import Client

try:
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
    from optuna.trial import FrozenTrial, TrialState
except ImportError as error:
    raise MissingExtra("the search for hyperparameters", "tune") from error

#: The folder of what teachers answer to views: the same for all trials, unless the space changes views.
_VIEWS = "views"
#: The name of the study in Optuna's journal; Hyperband's brackets depend on it.
_NAME = "mien"
#: Hyperband compares a trial with others after 1/9 and 1/3 of the epochs, and keeps a third.
_REDUCTION = 3
#: Trials that fail in succession before the search ends.
_MOST_FAILURES = 3
#: Completed trials that the importance of settings needs at least, and trials among the best ones.
_LEAST_TRIALS, _BEST_TRIALS = 8, 5
_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}
_CONTINUE = "continue with the same command"


def search(
    dataset: Dataset,
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    trials: int,
    space: SearchSpace,
    metric: str,
    prune: bool,
    confirm: int,
    seed: int,
    teacher: SavedPredictions | Teachers | None = None,
    base: Model | None = None,
    origin: Mapping[str, Any] | None = None,
    client: "Client | None" = None,
    on_trial: Callable[[StudyResult], None] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> StudyResult:
    """Search for settings of a recipe that do better on val, or continue a search.

    Each trial is trained in a process of its own. SIGINT and SIGTERM save the trial and raise `Stopped`.
    Never call this in several threads; start several processes with the same folder instead.

    Args:
        dataset: Images of the recipe's size; train and val. The test split is not used.
        recipe: The recipe. The first trial has its own settings, if they are in the space.
        out: The folder of the study; a study there continues.
        trials: Number of trials in all, at least 1.
        space: The settings to change.
        metric: What trials are compared by: `val_accuracy` or `val_loss`.
        prune: Whether Hyperband ends trials early that are worse than others.
        confirm: Number of other seeds with which the best recipe is trained.
        seed: Seed of the search.
        teacher: As in `trainer.fit`.
        base: As in `trainer.fit`.
        origin: As in `trainer.fit`.
        client: A client of a Dask cluster, whose workers train the trials and load the data again from
            `origin`; None for this machine.
        on_trial: Called with the results so far after each trial and each training with another seed.
        on_progress: Called with (what is trained, steps done, steps in the epoch).
        on_note: Called with messages.

    Returns:
        The results.

    Raises:
        InputError: A number is out of range, the metric does not exist, or the workers of the cluster lack
            something.
        RecipeError: The space does not fit the metric or the base.
        DataError: A split is missing, or the data do not have the votes that the space needs.
        RunError: The folder holds another search.
        TrainingError: No trial was completed, or three failed in succession.
        OutputError: A file cannot be written.
        Stopped: A signal stopped the search; the same call continues.
    """
    check_options(trials=trials, confirm=confirm, seed=seed, metric=metric, space=space, base=base)
    data = replace(dataset, test=None)
    _check_targets(data, recipe, space, teacher)
    settings = _describe(data, recipe, space, metric, prune=prune, seed=seed, teacher=teacher, base=base)
    path = Path(out)
    _open(path, settings, space)
    with _quiet(), listen() as stop:
        found = _Search(
            path=path,
            data=data,
            recipe=recipe,
            space=space,
            metric="val_loss" if metric == "val_loss" else "val_accuracy",
            wanted=trials,
            prune=prune,
            seed=seed,
            teacher=teacher,
            base=base,
            origin=dict(origin or {}),
            on_trial=on_trial or _ignore,
            on_progress=on_progress or _ignore,
            on_note=on_note or _ignore,
            stop=stop,
        )
        if client is not None:
            found.spread(client, confirm)
        return found.run(confirm)


def join(
    *,
    origin: Mapping[str, Any],
    recipe: Recipe,
    base: str | None,
    on_progress: Callable[[str, int, int], None],
    on_note: Callable[[str], None],
    **arguments: Any,
) -> None:
    """Take part in a search, on a worker of a cluster.

    Args:
        origin: The arguments of `datasets.load` that load the data; `teacher` is ignored.
        recipe: As for `search`.
        base: The name of a shipped model, or an absolute path.
        on_progress: As for `search`.
        on_note: As for `search`.
        arguments: Other arguments of `search`.
    """
    search(
        trials.load(origin, recipe.size),
        recipe,
        base=None if base is None else model_files.load(base),
        origin=origin,
        on_progress=on_progress,
        on_note=on_note,
        **arguments,
    )


def _ignore(*arguments: Any) -> None:
    pass


def check_options(
    *, trials: int, confirm: int, seed: int, metric: str, space: SearchSpace, base: Model | None
) -> None:
    """Check the arguments of `search` that need no data.

    Raises:
        InputError: A number is out of range, or the metric does not exist.
        RecipeError: The space does not fit the metric or the base.
    """
    for name, value, least in (("trials", trials, 1), ("confirm", confirm, 0), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"--{name} is {value}; it must be a whole number of at least {least}")
    if metric not in ("val_accuracy", "val_loss"):
        raise InputError(f"--metric is {metric!r}; choose val_accuracy or val_loss")
    strange = [key for key in space if key.startswith("targets.")]
    if metric == "val_loss" and strange:
        raise RecipeError(
            f"the search space has {strange[0]!r}, which changes what the validation loss measures, so it "
            "cannot compare trials; remove it, or use --metric val_accuracy"
        )
    if base is not None and "network" in space:
        raise RecipeError(
            "the search space has 'network', and a training from a model has its network; remove it, or omit "
            "--from"
        )


def _check_targets(
    data: Dataset, recipe: Recipe, space: SearchSpace, teacher: SavedPredictions | Teachers | None
) -> None:
    """Check that the data have what each recipe in the space needs, such as votes."""
    targets.check_images(data, recipe)
    teachers.make_targets(data, recipe, teacher)
    for key, changed in search_spaces.bounds(recipe, space):
        if key.startswith(("targets.", "views.")):
            teachers.make_targets(data, changed, teacher)


def _describe(
    data: Dataset,
    recipe: Recipe,
    space: SearchSpace,
    metric: str,
    *,
    prune: bool,
    seed: int,
    teacher: SavedPredictions | Teachers | None,
    base: Model | None,
) -> dict[str, Any]:
    """Return the content of `study.json`: everything that must be equal if a search continues."""
    plain = recipes.from_dict(recipes.to_dict(recipes.without_texts(recipe)))
    return {
        "schema": 1,
        "recipe": recipes.to_dict(plain),
        "space": search_spaces.to_dict(space),
        "metric": metric,
        "prune": prune,
        "seed": seed,
        "data": {"fingerprint": data.fingerprint, "votes": data.votes_fingerprint},
        "teacher": None if teacher is None else teacher.sha256,
        "base": None if base is None else base.card.sha256,
    }


def _open(path: Path, settings: Mapping[str, Any], space: SearchSpace) -> None:
    """Make the folder of a study, or check that it holds the same one."""
    file = path / "study.json"
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; name another folder with --out")
    own = {"claims", "trials", "confirm", "space.toml"}  # of a search that was killed at once
    strange = path.is_dir() and any(each.name not in own for each in path.iterdir())
    if strange and not file.exists():
        raise RunError(f"{path} has files that are not of a search; name another folder with --out")
    with _files.writing(path):
        for name in ("claims", "trials", "confirm"):
            (path / name).mkdir(parents=True, exist_ok=True)
    with _files.hold_when_free(path / "claims" / "study.lock"):
        if not file.exists():
            _files.write(path / "space.toml", search_spaces.to_toml(space).encode())
            text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
            _files.write(file, text.encode(errors="backslashreplace"))
            return
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
            # Settings that are newer than the study have their defaults, as in the study.
            known["recipe"] = recipes.to_dict(recipes.from_dict(known["recipe"]))
            changed = [name for name, value in settings.items() if known.get(name) != value]
        except (ValueError, TypeError, KeyError, RecipeError):
            raise RunError(f"{file} is damaged; restore it from a copy, or name another folder") from None
    if changed:
        raise RunError(
            f"{path} is a search with another {join_words(changed)}; repeat its command unchanged, or name "
            "another folder with --out"
        )


def _hold(place: Path) -> filelock.BaseFileLock | None:
    with _files.writing(place):
        return _files.hold(place)


class _JournalLock(JournalFileOpenLock):
    """A lock of the journal that is free as soon as its process has died.

    Optuna's own locks are files, which a killed process leaves behind for 30 seconds.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal
        self._file_lock = filelock.FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        """Lock the journal, and cut off a line that a full disk or a power cut left incomplete."""
        self._file_lock.acquire()
        with self._journal.open("rb+") as file:
            size = end = file.seek(0, os.SEEK_END)
            while end:
                file.seek(end - 1)
                if file.read(1) == b"\n":
                    break
                end -= 1
            if end < size:
                file.truncate(end)
        return True

    def release(self) -> None:
        """Release the lock."""
        self._file_lock.release()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's log and its warnings of experimental features off the terminal."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


class _Process(Protocol):
    """What a search needs of a process."""

    exitcode: int | None

    def terminate(self) -> None: ...

    def join(self) -> None: ...


def _start(context: Any, connection: Connection, task: Task) -> _Process:
    """Start the process of a trial, which gets its end of a pipe."""
    process: _Process = context.Process(target=trials.run, args=(connection, task), name="mien-trial")
    process.start()  # type: ignore[attr-defined]
    connection.close()
    return process


def _context(recipe: Recipe, space: SearchSpace) -> Any:
    """Return how processes start.

    A server process that has imported TensorFlow, and is copied for each trial, saves the import, 11 seconds
    of CPU time. It cannot be used if a network wants other kernels, or with the threads of JAX.
    """
    named = space.get("network")
    names = {recipe.network, *(named.values if isinstance(named, Choices) else ())}
    wide = any(networks.get(name).wide for name in names)
    if sys.platform != "linux" or wide or networks.find_backend() != "tensorflow":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mien.training.trainer"])
    return context


@dataclass(eq=False, kw_only=True)
class _Search:
    """A search in this process; its arguments are those of `search`."""

    path: Path
    data: Dataset
    recipe: Recipe
    space: SearchSpace
    metric: Metric
    wanted: int
    prune: bool
    seed: int
    teacher: SavedPredictions | Teachers | None
    base: Model | None
    origin: dict[str, Any]
    on_trial: Callable[[StudyResult], None]
    on_progress: Callable[[str, int, int], None]
    on_note: Callable[[str], None]
    stop: StopRequest

    def __post_init__(self) -> None:
        self.context = _context(self.recipe, self.space)
        self.failures = 0
        journal = self.path / "journal.log"
        with _files.writing(self.path), _files.hold_when_free(self.path / "claims" / "study.lock"):
            journal.touch()
            backend = JournalFileBackend(str(journal), lock_obj=_JournalLock(journal))
            self.study = optuna.create_study(
                storage=JournalStorage(backend),
                study_name=_NAME,
                direction="maximize" if self.metric == "val_accuracy" else "minimize",
                load_if_exists=True,
                pruner=self._pruner(),
            )

    def _pruner(self) -> optuna.pruners.BasePruner:
        if not self.prune:
            return optuna.pruners.NopPruner()
        epochs = self.recipe.epochs
        return optuna.pruners.HyperbandPruner(
            min_resource=max(1, epochs // _REDUCTION**2), max_resource=epochs, reduction_factor=_REDUCTION
        )

    def run(self, confirm: int) -> StudyResult:
        """Train trials until there are enough, then the best recipe with other seeds."""
        while (claim := self._claim()) is not None:
            trial, lock = claim
            try:
                self._run_trial(trial)
            finally:
                lock.release()
            self.on_trial(self.result(confirm))
        found = self.result(confirm)
        if others := sum(trial.state == "running" for trial in found.trials):
            if confirm:
                self.on_note(
                    f"other processes train {pluralize(others, 'trial')} of the study; the last one confirms "
                    "the best recipe"
                )
            return found
        if found.best is None:
            reasons = [trial.reason for trial in found.trials if trial.reason]
            raise TrainingError(
                f"no trial was completed{': ' + reasons[-1] if reasons else ''}; use smaller ranges, or a "
                "smaller learning rate"
            )
        self._confirm(found.best, confirm)
        found = self.result(confirm)
        assert found.best_recipe is not None
        _files.write(found.best_file, recipes.to_toml(found.best_recipe).encode())
        if len(found.confirmed) == confirm:  # otherwise another process still trains
            shutil.rmtree(self.path / _VIEWS, ignore_errors=True)
        self.on_trial(found)
        return found

    def spread(self, client: "Client", confirm: int) -> None:
        """Train trials on the workers of a cluster until there are enough, then the best recipe."""
        place = self.path.resolve()
        base, files = None, []
        if self.base is not None:
            base = model_files.shipped_name(self.base) or str(self.base.path.resolve())
            files = [] if base in model_files.SHIPPED else [base]
        needs = cluster_jobs.check_workers(
            client, self.origin, place, files=files, packages=["keras", "optuna"]
        )
        arguments = {
            "origin": self.origin,
            "recipe": self.recipe,
            "out": place,
            "trials": self.wanted,
            "space": self.space,
            "metric": self.metric,
            "prune": self.prune,
            "seed": self.seed,
            "teacher": self.teacher,
            "base": base,
        }

        def on_note(sentence: str) -> None:
            self.on_note(sentence)
            found = self.result(confirm)
            if any(trial.state != "running" for trial in found.trials):
                self.on_trial(found)

        def run(most: int, confirm: int) -> None:
            if most > 0:
                cluster_jobs.run(
                    client,
                    cluster_jobs.Call(__name__, "join", {**arguments, "confirm": confirm}, needs),
                    most=most,
                    stop=self.stop,
                    saved="the trials are saved",
                    on_progress=self.on_progress,
                    on_note=on_note,
                )

        ended = sum(trial.state != "running" for trial in self._trials())
        run(self.wanted - ended, 0)
        found = self.result(confirm)
        if found.best is not None:
            run(confirm - len(found.confirmed), confirm)

    # Claims

    def _claim(self) -> tuple[optuna.Trial, filelock.BaseFileLock] | None:
        """Return a trial to train and its lock; None if there are enough trials.

        A trial that is running in the journal, and whose lock is free, belongs to a process that has died.
        """
        self.stop.check("the trial is saved")
        with _files.writing(self.path), _files.hold_when_free(self.path / "claims" / "study.lock"):
            known = self.study.get_trials(deepcopy=False)
            for frozen in known:
                if frozen.state == TrialState.RUNNING and (lock := _hold(self._lock_of(frozen.number))):
                    if self.study.get_trials(deepcopy=False)[frozen.number].state != TrialState.RUNNING:
                        lock.release()  # its process ended it just now
                        continue
                    self.on_note(f"trial {frozen.number + 1} was stopped; it continues")
                    self.study.sampler = self._sampler(frozen.number)
                    return self._suggest(optuna.Trial(self.study, frozen._trial_id)), lock
            if len(known) >= self.wanted:
                return None
            number = len(known)
            lock = _hold(self._lock_of(number))
            assert lock is not None
            try:
                return self._create(number), lock
            except BaseException:
                lock.release()
                raise

    def _lock_of(self, number: int) -> Path:
        return self.path / "claims" / f"trial-{number + 1}.lock"

    def _create(self, number: int) -> optuna.Trial:
        self.study.sampler = self._sampler(number)
        own = search_spaces.values_of(self.recipe, self.space)
        if number == 0 and all(each.contains(own[key]) for key, each in self.space.items()):
            distributions = {key: _distribution(each) for key, each in self.space.items()}
            params = {key: _encode(value) for key, value in own.items()}
            self.study.add_trial(
                optuna.create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
            )
            [frozen] = self.study.get_trials(deepcopy=False)
            return optuna.Trial(self.study, frozen._trial_id)
        return self._suggest(self.study.ask())

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Return a sampler; its seed depends on the trial, so that a restart does not repeat another one."""
        state = np.random.SeedSequence([self.seed, number]).generate_state(1)
        return optuna.samplers.TPESampler(seed=int(state[0]))

    def _suggest(self, trial: optuna.Trial) -> optuna.Trial:
        """Choose the settings of a trial; those that it has already stay."""
        for key, each in self.space.items():
            if isinstance(each, Choices):
                trial.suggest_categorical(key, [_encode(value) for value in each.values])
            elif each.is_whole:
                step = int(each.step or 1)
                trial.suggest_int(key, int(each.low), int(each.high), step=step, log=each.log)
            else:
                trial.suggest_float(key, each.low, each.high, step=each.step, log=each.log)
        return trial

    # Trials

    def _run_trial(self, trial: optuna.Trial) -> None:
        number, values = trial.number, self._decode(trial.params)
        same = next(
            (each for each in self._trials() if each.state == "complete" and each.values == values), None
        )
        if same is not None:
            self._copy(trial, same)
            return
        reported = max(self._frozen(trial).intermediate_values, default=0)

        def on_epoch(epoch: Epoch) -> bool:
            with _files.writing(self.path):
                if epoch.number > reported:
                    trial.report(epoch.value, epoch.number)
                elif epoch.number < reported:
                    return False
                return trial.should_prune()

        name = f"trial {number + 1} of {self.wanted}"
        recipe = search_spaces.apply(self.recipe, values)
        ended = self._train(f"trials/trial-{number + 1}", recipe, name, on_epoch)
        with _files.writing(self.path):
            if isinstance(ended, Failure):
                trial.set_user_attr("reason", f"{ended.kind}: {ended.message}")
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                for key, value in (
                    ("epoch", ended.epoch),
                    ("seconds", ended.seconds),
                    ("reason", ended.reason),
                ):
                    trial.set_user_attr(key, value)
                done = ended.status == "done"
                # A trial that diverged counts as a bad one, so that the search avoids its neighbours.
                self.study.tell(trial, ended.value, TrialState.COMPLETE if done else TrialState.PRUNED)
        self._announce(name, number)
        self.failures = self.failures + 1 if isinstance(ended, Failure) else 0
        if self.failures >= _MOST_FAILURES:
            reason = self._trials()[number].reason
            raise TrainingError(
                f"{_MOST_FAILURES} trials failed in succession, the last one with: {reason}; correct this, "
                "or use a smaller space"
            )

    def _copy(self, trial: optuna.Trial, same: Trial) -> None:
        """Finish a trial with the result of one with the same settings: training is deterministic."""
        with _files.writing(self.path):
            for key, value in (("epoch", same.epoch), ("seconds", 0.0), ("copied", same.number)):
                trial.set_user_attr(key, value)
            self.study.tell(trial, same.score)
        name = f"trial {trial.number + 1} of {self.wanted}"
        self.on_note(f"{name} has the settings of trial {same.number}, and its result")

    def _announce(self, name: str, number: int) -> None:
        found = self._trials()
        trial, best = found[number], self._best(found)
        after = f"after {pluralize(len(trial.epochs), 'epoch')}"
        ended = {
            "complete": f"{self.metric} {format_score(self.metric, trial.score)}"
            if trial.score is not None
            else "",
            "pruned": f"pruned {after}" if not trial.reason else f"diverged {after}",
        }.get(trial.state, f"failed: {trial.reason}")
        known = ""
        if best is not None and best.score is not None:
            known = f"; the best is trial {best.number} with {format_score(self.metric, best.score)}"
        self.on_note(f"{name}: {ended} ({_name_values(trial.values)}){known}")

    def _frozen(self, trial: optuna.Trial) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[trial.number]

    # Processes

    def _train(
        self, place: str, recipe: Recipe, name: str, on_epoch: Callable[[Epoch], bool]
    ) -> Outcome | Failure:
        """Train in a process; if that dies, in a second one, which continues."""
        for _ in range(2):
            ended, code = self._train_once(place, recipe, name, on_epoch)
            self.stop.check("the trial is saved")
            if isinstance(ended, Failure) and ended.is_own:
                raise ended.error()
            if isinstance(ended, Outcome):
                # The states of many trainings would fill the disk, and what has ended needs none.
                shutil.rmtree(self.path / place / "checkpoints", ignore_errors=True)
            if ended is not None:
                return ended
            self.on_note(f"the process of {name} died with code {code}, perhaps because memory ran out")
        return Failure("RuntimeError", f"its process died twice with code {code}", is_own=False)

    def _train_once(
        self, place: str, recipe: Recipe, name: str, on_epoch: Callable[[Epoch], bool]
    ) -> tuple[Outcome | Failure | None, int | None]:
        kept = replace(recipe.checkpoints, weights="last", keep=1)
        task = Task(
            folder=self.path / place,
            lock=self.path / "claims" / f"{Path(place).name}.process.lock",
            recipe=replace(recipe, checkpoints=kept),
            data=None if trials.is_shared(self.data) else self.data,
            origin=self.origin,
            teacher=self.teacher,
            base=self.base,
            views=self.path / _VIEWS,
            metric=self.metric,
        )
        ended: Outcome | Failure | None = None
        stopped = False
        self.on_progress(f"{name}, starting", 0, 1)
        here, there = self.context.Pipe()
        process = _start(self.context, there, task)
        try:
            while True:
                if self.stop.number and not stopped:
                    process.terminate()
                    stopped = True
                try:
                    if not here.poll(0.2):
                        continue
                    message = here.recv()
                except (EOFError, ConnectionResetError, BrokenPipeError):
                    break
                if isinstance(message, Progress):
                    what = f"{name}, epoch {message.epoch}/{message.epochs}"
                    self.on_progress(what, message.step, message.steps)
                elif isinstance(message, Epoch):
                    answer = on_epoch(message)
                    with contextlib.suppress(BrokenPipeError):
                        here.send(answer)
                elif not (isinstance(message, Failure) and message.kind == "Stopped"):
                    ended = message  # a signal for the process alone is like its death
        except BaseException:
            process.terminate()
            raise
        finally:
            here.close()
            process.join()
        return ended, process.exitcode

    # The best recipe

    def _confirm(self, best: Trial, confirm: int) -> None:
        """Train the best recipe with seeds that the search did not use."""
        for seed in self._seeds(confirm):
            place = self._place(best, seed)
            lock = _hold(self.path / "claims" / f"{Path(place).name}.lock")
            if lock is None:
                self.on_note(f"{place} is being trained by another process")
                continue
            recipe = replace(search_spaces.apply(self.recipe, best.values), seed=seed)
            try:
                if self._score(place)[0] == "training":
                    name = f"the best recipe with seed {seed}"
                    ended = self._train(place, recipe, name, lambda epoch: False)
                    if isinstance(ended, Failure):
                        raise TrainingError(f"{name} failed: {ended.kind}: {ended.message}; {_CONTINUE}")
                    score = "diverged" if ended.value is None else f"{self.metric} {ended.value:.4f}"
                    self.on_note(f"{name}: {score}")
            finally:
                lock.release()
            self.on_trial(self.result(confirm))

    def _seeds(self, confirm: int) -> range:
        return range(self.recipe.seed + 1, self.recipe.seed + 1 + confirm)

    @staticmethod
    def _place(best: Trial, seed: int) -> str:
        return f"confirm/trial-{best.number}-seed-{seed}"

    def _score(self, place: str) -> tuple[str, float | None]:
        """Return the status of a run in the study, and the metric of its model."""
        if not (self.path / place).exists():
            return "training", None
        run = runs.open_run(self.path / place)
        facts = run.facts()
        if facts["status"] != "done":
            return facts["status"], None
        return "done", run.history()[facts["shipped"]["epoch"] - 1][self.metric]

    # Results

    def result(self, confirm: int) -> StudyResult:
        """Return what the study found so far."""
        found = self._trials()
        best = self._best(found)
        scored = (
            [(seed, *self._score(self._place(best, seed))) for seed in self._seeds(confirm)] if best else []
        )
        return StudyResult(
            path=self.path,
            recipe=self.recipe,
            space=self.space,
            metric=self.metric,
            wanted=self.wanted,
            trials=tuple(found),
            best=best,
            confirmed=tuple(
                Confirmation(seed, score) for seed, status, score in scored if status != "training"
            ),
            importance=self._importance(),
            data=self.data.root.encode(errors="replace").decode(),
            images={split.name: len(split) for split in self.data.splits},
        )

    def _trials(self) -> list[Trial]:
        return [self._describe(each) for each in self.study.get_trials(deepcopy=False)]

    def _describe(self, frozen: FrozenTrial) -> Trial:
        known: Any = frozen.user_attrs
        state: Any = _STATES[frozen.state]
        return Trial(
            number=frozen.number + 1,
            state=state,
            values=self._decode(frozen.params),
            score=frozen.value if state == "complete" else None,
            epochs=tuple(value for _, value in sorted(frozen.intermediate_values.items())),
            epoch=known.get("epoch"),
            seconds=known.get("seconds"),
            copied=known.get("copied"),
            reason=known.get("reason", ""),
        )

    def _best(self, found: Sequence[Trial]) -> Trial | None:
        """Return the first of the best complete trials."""
        scored = [(each.score, each) for each in found if each.score is not None]
        sign = 1 if self.metric == "val_accuracy" else -1
        return max(scored, key=lambda pair: sign * pair[0])[1] if scored else None

    def _importance(self) -> dict[str, float]:
        """Return the importance of each setting by PED-ANOVA, which needs no further package."""
        complete = len(self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        if complete < _LEAST_TRIALS:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(
            target_quantile=max(0.1, min(0.5, _BEST_TRIALS / complete))
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dict(optuna.importance.get_param_importances(self.study, evaluator=evaluator))

    def _decode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a trial as a recipe has them, in the order of the space."""
        found = {}
        for key, each in self.space.items():
            if key not in params:
                continue
            value = params[key]
            if isinstance(each, Choices):
                value = next(own for own in each.values if _encode(own) == value)
            found[key] = value
        return found


def _name_values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {format_setting(value)}" for key, value in values.items())


def _encode(value: Any) -> Any:
    """Return a choice as Optuna keeps it: a list becomes text."""
    return json.dumps(value) if isinstance(value, list) else value


def _distribution(each: Range | Choices) -> BaseDistribution:
    if isinstance(each, Choices):
        return CategoricalDistribution([_encode(value) for value in each.values])
    if each.is_whole:
        return IntDistribution(int(each.low), int(each.high), step=int(each.step or 1), log=each.log)
    return FloatDistribution(each.low, each.high, step=each.step, log=each.log)
