"""Fit a recipe to a data set, and leave a run's folder with the bundle that ships.

A training is a function of data, recipe, machine and software alone: killed at any moment and resumed, it
ends in the same weights, history and metrics, to the bit, as if nothing had happened.
"""

import importlib
import importlib.util
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import __version__, _files
from mien.data.datasets import Dataset, Split
from mien.data.probabilities import Stored
from mien.errors import DataError, ModelError, OutputError, RecipeError, RunError, TrainingError
from mien.evaluation import evaluator
from mien.evaluation.evaluation import Evaluation
from mien.evaluation.metrics import add_thresholds, find_plurality, majority_share, wilson_interval
from mien.models import model as bundle
from mien.models import networks
from mien.models.model import Bundle
from mien.models.networks import load_keras
from mien.release import exporters
from mien.training import checkpoints, initialization, optimization, targets
from mien.training.batches import Batch, BatchLoader, to_keras
from mien.training.checkpoints import CheckpointCallback, Status, best_epoch, is_over
from mien.training.folds import FILE, predict_out_of_fold
from mien.training.recipes import Recipe, from_dict, get, to_dict
from mien.training.runs import Run, create


def describe_run(
    dataset: Dataset,
    policy: str,
    *,
    origin: Mapping[str, Any],
    teacher: Stored | None,
    bases: Sequence[Mapping[str, Any]],
    began: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a run's `run.json` begins with.

    Args:
        dataset: What is trained on.
        policy: The dtype policy that it is trained in.
        origin: How the data can be loaded again.
        teacher: What it distils from, if it does.
        bases: The runs that it begins from, if it does, as `mien.models.model.Base` has them.
        began: How the first of them does on val, as `start.score` has it.
    """
    return {
        "schema": 1,
        "status": "training",
        "labels": list(dataset.labels),
        "precision": policy,
        "data": describe_data(dataset) | {"origin": dict(origin)},
        "teacher": None if teacher is None else {"about": teacher.about, "sha256": teacher.sha256},
        "base": list(bases),
        "began": None if began is None else dict(began),
        "environment": describe_environment(),
    }


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """Return what a run keeps of its data: names, counts by split and class, and fingerprints."""
    splits = {split.name: split for split in (dataset.train, dataset.val, dataset.test) if split is not None}
    k = len(dataset.labels)
    return {
        # What is no UTF-8 in a folder's name stands in no JSON.
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


def make_card(name: str, known: Mapping[str, Any], dataset: Dataset, recipe: Recipe) -> bundle.Card:
    """Return the card of what a run has trained, before anything was measured.

    Args:
        name: The run's.
        known: Its facts.
        dataset: What it was trained on.
        recipe: What it was trained by.
    """
    data, describe_environment, teacher = describe_data(dataset), known["environment"], known.get("teacher")
    return bundle.Card(
        name=name,
        labels=dataset.labels,
        size=recipe.size,
        heads=dict(bundle.TWO_HEADS if recipe.targets.ferplus else bundle.ONE_HEAD),
        recipe=to_dict(recipe),
        teacher=teacher["about"] if teacher else "",
        data=_parse_data(data),
        base=tuple(_parse_base(base) for base in known.get("base", [])),
        excluded=data["excluded"],
        versions={
            name: describe_environment[name] for name in ("mien", "python", "keras", "backend", "numpy")
        },
    )


def _parse_base(known: Mapping[str, Any]) -> bundle.Base:
    return bundle.Base(
        name=known["name"],
        sha256=known["sha256"],
        data=_parse_data(known["data"]),
        recipe=known.get("recipe", {}),
        teacher=known.get("teacher", ""),
    )


def _parse_data(known: Mapping[str, Any]) -> bundle.Data:
    return bundle.Data(
        name=known["name"],
        fingerprint=known["fingerprint"],
        splits={name: bundle.Part(**part) for name, part in known["splits"].items()},
    )


def check_names(name: str, known: Mapping[str, Any], dataset: Dataset, recipe: Recipe) -> None:
    """Make sure, before anything is trained, that what is trained can have a card.

    Raises:
        DataError: A class, the data or the run has a name that a card cannot hold, or there is too much.
    """
    try:
        bundle.to_json(make_card(name, known, dataset, recipe))
    except ModelError as error:
        raise DataError(
            f"what is trained on {describe_data(dataset)['name']!r} could not be kept: {error}; rename the "
            "class, the data or the run, or leave fewer reasons in the exclusion lists"
        ) from None


def describe_environment() -> dict[str, Any]:
    """Return what a training computes with."""
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


#: Where Linux says what the processor can do.
CPUINFO = Path("/proc/cpuinfo")

_CPU_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")


def choose_precision(precision: str) -> str:
    """Return the Keras dtype policy for a recipe's precision.

    `auto` is mixed bfloat16 on a GPU and on processors that multiply in bfloat16, else float32: without such
    instructions bfloat16 is emulated and several times slower.
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


def build_network(recipe: Recipe, *, classes: int, policy: str) -> Any:
    """Build the recipe's network under a dtype policy, and leave Keras' own policy as it was."""
    keras = load_keras()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return networks.build(
            recipe.network, size=recipe.size, classes=classes, ferplus=recipe.targets.ferplus > 0
        )
    finally:
        keras.config.set_dtype_policy(before)


#: Validation images scored at once: changes memory and speed, never the result.
_VALIDATION_BATCH = 256


def fit(
    dataset: Dataset,
    recipe: Recipe | str,
    *,
    out: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = Path("runs"),
    teacher: Stored | None = None,
    base: Bundle | None = None,
    origin: Mapping[str, Any] | None = None,
    fold: bool = False,
    on_status: Callable[[Status], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Run:
    """Train `recipe` on `dataset`.

    Sets the global seeds of Python, NumPy and Keras' backend. SIGINT and SIGTERM save the training and
    raise `Stopped`.

    Example:
        >>> import mien
        >>> from mien.training.recipes import get, override
        >>> recipe = override(get("quick"), ["epochs=1", "network=tiny", "size=16"])
        >>> run = mien.train(mien.load_dataset("faces.zip", size=16), recipe, out="mine")
        >>> len(run.history())
        1

    Args:
        dataset: Images `(n, size, size, 1)` uint8 in [0, 255], with the recipe's size; train and val.
        recipe: What to train, and how; or the name of a recipe of mien, such as `"quick"`.
        out: The run's folder; without it the next free `runs/<recipe>-<number>`.
        runs: Where numbered run folders stand.
        teacher: Probabilities for the training images to distil from, as `recipe.targets` weighs them.
        base: A trained model to begin from: its weights, instead of chance. The recipe trains the same
            network; an answer in other classes begins anew.
        origin: How the data can be loaded again (arguments of `dataset.load`), kept in `run.json`.
        fold: It is one of those of `cross`, which goes on by the same call and not by `resume`.
        on_status: Called a few times a second with where the training stands.
        on_note: Called with a sentence whenever there is something to say.
        on_progress: Called with (what is done, images done, images in all) while `base` is scored on val, to
            compare the result with.

    Returns:
        The run; its bundle holds the epoch that the recipe's `select` names.

    Raises:
        DataError: A split is missing, or its images have another size than the recipe's; the recipe wants
            votes that are not there; or the teacher's probabilities are not for the training images.
        RecipeError: The recipe's network does not exist, cannot take the size, or is not that of `base`.
        RunError: `out` holds something already.
        ModelError: `base` has no weights, or they are damaged.
        TrainingError: The loss is not a number any more; what was learnt is saved.
        OutputError: A file cannot be written; what was saved before is unchanged.
        Stopped: A signal came; go on with `resume`.
    """
    recipe = get(recipe) if isinstance(recipe, str) else recipe
    _check_data(dataset, recipe)
    wanted = targets.make_targets(dataset, recipe, teacher)
    start = None if base is None else initialization.load(base)
    if start is not None:
        initialization.check_recipe(start, recipe)
    load_keras().utils.set_random_seed(recipe.seed)
    policy = choose_precision(recipe.precision)
    model = build_network(recipe, classes=len(dataset.labels), policy=policy)
    bases = start.base if start else ()
    if start is not None:
        _load_weights(start, model, dataset, on_note)
    began = None if base is None else _score_base(base, dataset, on_progress)
    known = describe_run(dataset, policy, origin=origin or {}, teacher=teacher, bases=bases, began=began)
    check_names(Path(out).name if out is not None else recipe.name, known, dataset, recipe)
    made = create(recipe, known, out=out, runs=runs)
    say = on_note or _ignore
    with made.lock():
        return _train(made, model, dataset, recipe, wanted, fold=fold, on_status=on_status, say=say)


def resume(
    made: Run,
    dataset: Dataset,
    *,
    teacher: Stored | None = None,
    fold: bool = False,
    on_status: Callable[[Status], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Run:
    """Go on with a training that was stopped or killed, from its last saved state.

    Args:
        made: The run.
        dataset: The data it was trained on, to the bit.
        teacher: The probabilities it distils from, where it does.
        fold: As in `fit`.
        on_status: Called a few times a second with where the training stands.
        on_note: Called with a sentence whenever there is something to say.

    Raises:
        DataError: The data, their votes, or the teacher are not what the run was trained on.
        RunError: The run is damaged, or another process trains it.
        TrainingError: As `fit`.
        OutputError: As `fit`.
        Stopped: As `fit`.
    """
    recipe = made.recipe()
    known = made.facts()
    _check_unchanged(made, recipe, known["recipe"])
    _check_data(dataset, recipe)
    with made.lock():
        if known["data"]["fingerprint"] != dataset.fingerprint:
            raise DataError(
                f"{dataset.root} is not the data that {made.name} was trained on: its fingerprint is "
                f"{dataset.fingerprint[:12]}, not {known['data']['fingerprint'][:12]}; name the same data"
            )
        made.check_votes(dataset.votes_fingerprint)
        _check_teacher(made, known.get("teacher"), teacher)
        _check_begun(made, known.get("base"))
        wanted = targets.make_targets(dataset, recipe, teacher)
        load_keras().utils.set_random_seed(recipe.seed)
        model = build_network(recipe, classes=len(dataset.labels), policy=known["precision"])
        say = on_note or _ignore
        return _train(made, model, dataset, recipe, wanted, fold=fold, on_status=on_status, say=say)


def train_folds(
    dataset: Dataset,
    recipe: Recipe,
    *,
    folds: int = 5,
    out: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = Path("runs"),
    on_status: Callable[[Status], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Path:
    """Train one network a fold of the training images, and ask each about the fold it did not learn from.

    Called again it goes on where it was stopped. The validation images take no part.

    Args:
        dataset: Its train split is cut into folds, images that are equal or near together.
        recipe: What each network is trained by; `select` sees the fold that is left out.
        folds: How many.
        out: The folder of the folds' runs; without it `runs/<recipe>-folds`.
        runs: Where that folder stands.
        on_status: As in `fit`.
        on_note: As in `fit`.

    Returns:
        `out-of-fold.npz` in that folder: probabilities for every training image (`mien.data.probabilities`).

    Raises:
        DataError: A class has fewer images that are no copies of one another than there are folds; or as in
            `fit`.
        RunError: The folder holds runs of another recipe or other data.
        Stopped: A signal came; the same call goes on.
    """
    to = Path(runs) / f"{recipe.name}-folds" if out is None else Path(out)

    def begin(part: Dataset, path: Path) -> Run:
        return fit(part, recipe, out=path, fold=True, on_status=on_status, on_note=on_note)

    def go_on(made: Run, part: Dataset) -> Run:
        return resume(made, part, fold=True, on_status=on_status, on_note=on_note)

    predict_out_of_fold(dataset, recipe, folds, to, fit=begin, resume=go_on, say=on_note or _ignore)
    return to / FILE


def _ignore(sentence: str) -> None:
    pass


def _train(
    made: Run,
    model: Any,
    dataset: Dataset,
    recipe: Recipe,
    wanted: targets.Targets,
    *,
    fold: bool,
    on_status: Callable[[Status], None] | None,
    say: Callable[[str], None],
) -> Run:
    """Train from the last saved state, or from the beginning, to the end."""
    again = "the same command" if fold else f"mien train --resume {made.path}"
    made.sweep()
    feed = BatchLoader(dataset.split("train"), wanted.train, recipe)
    validation = dataset.split("val").images, to_keras(wanted.val)
    library = load_keras()
    if recipe.optimizer.ema:
        first = None if made.facts().get("base") else next(feed.batches(0, 0))[0]
        optimization.average_statistics(model, recipe.optimizer.ema, first)
    model.compile(
        optimizer=optimization.make_optimizer(recipe.optimizer, model, steps=feed.steps * recipe.epochs),
        **optimization.loss_settings(recipe.targets, distils=wanted.distils, frequencies=wanted.frequencies),
        # On processors XLA trains these networks 25 % slower than TensorFlow does without it.
        jit_compile=False if library.backend.backend() == "tensorflow" else "auto",
    )
    try:
        while True:
            state, complaints = made.load()
            for complaint in complaints:
                say(complaint)
            recorder = CheckpointCallback(made, recipe, feed, state, on_status, again=again)
            recorder.set_model(model)
            if is_over(recorder.history, recipe):
                break
            recorder.restore()
            if state is None and made.facts().get("base"):
                # What it begins from cannot be had from the recipe again, as chance can.
                recorder.save()
            _fit_part(model, recorder, validation, callbacks=_callbacks(made, recipe, say))
    except OutputError as error:
        error.args = (f"{error}; then go on with: {again}",)
        raise
    except TrainingError as error:
        if fold and recorder.diverged:
            error.args = (f"{error} and another --out, for all folds are of one recipe",)
        _fail(made, recorder, dataset, recipe, error)
        raise
    _finish(made, recorder, dataset, recipe, say=say)
    made.update(status="done")
    return made


def _load_weights(
    start: initialization.InitialWeights, model: Any, dataset: Dataset, on_note: Callable[[str], None] | None
) -> None:
    """Give the model the weights it begins from, and say which of its answers begin anew."""
    fresh = initialization.assign(start, model, dataset.labels)
    why = "has no such answer" if dataset.labels == start.labels else "answers in other classes"
    anew = f"; {' and '.join(fresh)} from chance, for it {why}" if fresh else ""
    if on_note is not None:
        on_note(f"begins from the weights of {start.name}{anew}")
        if len(start.heads) > len(model.outputs):
            on_note(
                f"{start.name} has the heads {' and '.join(start.heads)}; the model trained here has only "
                "the first, because its recipe does not learn from votes; to keep both, give --votes "
                "and --set targets.ferplus=1"
            )


def _score_base(
    base: Bundle, dataset: Dataset, on_progress: Callable[[str, int, int], None] | None
) -> dict[str, Any] | None:
    def move(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(f"scoring {base.card.name} on val", done, total)

    return initialization.evaluate_base(base, dataset, progress=move)


def _check_begun(made: Run, base: Any) -> None:
    if base and made.load()[0] is None:
        raise RunError(
            f"{made.name} was stopped before the weights that it begins from were saved; train anew, with "
            f"--from and {base[0]['name']}"
        )


def _check_teacher(made: Run, begun: Mapping[str, Any] | None, teacher: Stored | None) -> None:
    had, has = begun and begun["sha256"], teacher and teacher.sha256
    if had != has:
        was = f"a teacher ({begun['about']})" if begun else "no teacher"
        raise DataError(
            f"{made.name} was begun with {was}, and goes on with the same alone; name the files it was begun "
            "with by --teacher"
            if begun
            else f"{made.name} was begun with no teacher; leave --teacher out"
        )


def _fit_part(model: Any, recorder: CheckpointCallback, validation: Batch, *, callbacks: list[Any]) -> None:
    """Train to the end; or, from within an epoch, to that epoch's end, for Keras cannot begin inside one.

    The caller goes on from the state that was saved there. That also undoes what Keras does to the weights
    at the end of `fit` when they have a moving average.
    """
    feed, recipe = recorder.feed, recorder.recipe
    inside = recorder.step > 0
    with checkpoints.listen_for_signals(recorder.save_last, recorder.again) as recorder.stop:
        model.fit(
            feed.batches(recorder.epoch, recorder.step),
            steps_per_epoch=feed.steps - recorder.step,
            initial_epoch=recorder.epoch,
            epochs=recorder.epoch + 1 if inside else recipe.epochs,
            validation_data=validation,
            validation_batch_size=_VALIDATION_BATCH,
            # Callbacks end in their order: the recorder sees validated weights before they are swapped back.
            callbacks=[recorder, *callbacks],
            shuffle=False,
            verbose=0,
        )


def _callbacks(made: Run, recipe: Recipe, say: Callable[[str], None]) -> list[Any]:
    library = load_keras()
    callbacks = []
    if recipe.optimizer.ema:
        callbacks.append(library.callbacks.SwapEMAWeights())
    if all(importlib.util.find_spec(name) for name in ("tensorboard", "tensorflow")):
        callbacks.append(library.callbacks.TensorBoard(made.tensorboard, write_graph=False))
    else:
        say("TensorBoard is not installed, so no logs are written for it; history.csv holds the same numbers")
    return callbacks


def _finish(
    made: Run, recorder: CheckpointCallback, dataset: Dataset, recipe: Recipe, *, say: Callable[[str], None]
) -> None:
    """Export the weights that ship, score the file on val, and write both down."""
    made.write_history(recorder.history)
    index = best_epoch(recorder.history, recipe.select)
    row = recorder.history[index]
    if len(recorder.history) < recipe.epochs:
        say(
            f"stopped early after epoch {len(recorder.history)}: the validation loss has not fallen for "
            f"{recipe.stopping.patience} epochs"
        )
    say(f"ships epoch {index + 1} of {len(recorder.history)}: val_loss {row['val_loss']:.4f}")
    better = _find_better_epoch(recorder.history, index)
    if better is not None:
        other = recorder.history[better]
        say(
            f"epoch {better + 1} was better on val, in loss ({other['val_loss']:.4f}, not "
            f"{row['val_loss']:.4f}) and in accuracy ({other['val_accuracy']:.2%}, not "
            f"{row['val_accuracy']:.2%}); the recipe keeps the last epoch: --set select=val_loss ships the "
            "best"
        )
    model = build_network(recipe, classes=len(dataset.labels), policy="float32")
    model.set_weights(recorder.best)
    val = dataset.split("val")
    card = make_card(made.name, made.facts(), dataset, recipe)
    try:
        shipped = exporters.bundle(model, card, made.bundle, images=val.images[: exporters.IMAGES])
    except exporters.Unlike as error:
        raise _diverged(made, error, row, f"epoch {index + 1} of {len(recorder.history)}") from error
    answers = {
        head: evaluator.predict(shipped, val, labels=dataset.labels, head=head, data=dataset.root)
        for head in card.heads
    }
    report = evaluator.evaluate_predictions(next(iter(answers.values())))
    began = _compare_with_base(made, report)
    card = replace(
        shipped.card,
        metrics={"val": report.summary()},
        heads=_finish_heads(card, answers, dataset.split("train"), say),
        began=began,
    )
    shipped = bundle.write((made.bundle / bundle.MODEL).read_bytes(), card, made.bundle)
    if began is not None:
        made.update(began=asdict(began) | {"worse": began.worse})
        if began.worse:
            say(began.sentence)
    made.update(
        shipped={
            "epoch": index + 1,
            "of": len(recorder.history),
            "better_epoch": None if better is None else better + 1,
            "at_chance": [name for name, head in card.heads.items() if head.at_chance],
            "sha256": shipped.card.sha256,
        }
    )
    made.keep_report(replace(report, model=shipped.card.sha256 or "").to_dict())


def _find_better_epoch(history: Sequence[Mapping[str, float]], index: int) -> int | None:
    """Return the epoch with the lowest validation loss, if it beats the one that ships in accuracy too."""
    best = min(range(len(history)), key=lambda place: history[place]["val_loss"])
    row, other = history[index], history[best]
    beats = other["val_loss"] < row["val_loss"] and other["val_accuracy"] > row["val_accuracy"]
    return best if beats else None


def _compare_with_base(made: Run, report: Evaluation) -> bundle.Began | None:
    """Compare the trained model with the one that it began from, if that was scored."""
    known = made.facts().get("began")
    if known is None:
        return None
    return bundle.Began(
        name=known["name"],
        n=known["n"],
        accuracy=known["accuracy"],
        accuracy_interval=tuple(known["accuracy_interval"]),
        learnt=known["learnt"],
        after=report.accuracy,
        after_interval=report.accuracy_interval,
    )


def _finish_heads(
    card: bundle.Card, answers: Mapping[str, evaluator.Predictions], train: Split, say: Callable[[str], None]
) -> dict[str, bundle.Head]:
    """Return the heads with frequencies and thresholds, and say which are at chance."""
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


def _at_chance(name: str, card: bundle.Card, chances: NDArray[np.float32], right: NDArray[np.int64]) -> str:
    called = f"as {name}, the model" if len(card.heads) > 1 else "the model"
    if not len(right):
        return f"{called} could not be scored on val, so all its answers are flagged uncertain"
    hits = int((chances.argmax(axis=1) == right).sum())
    low, high = wilson_interval(hits, len(right))
    commonest = card.labels[int(np.bincount(right).argmax())]
    return (
        f"{called} is hardly better than chance: it names {hits / len(right):.1%} of val right ({low:.1%} to "
        f"{high:.1%}), and always answering {commonest} would name {majority_share(right):.1%} right; all "
        "its answers are flagged uncertain"
    )


def _diverged(made: Run, error: exporters.Unlike, row: Mapping[str, float], epoch: str) -> TrainingError:
    """Keep the file of a network that no file can stand for, and return what to say of it."""
    place = made.path / "diverged"
    place.mkdir(exist_ok=True)
    _files.write(place / bundle.MODEL, error.content)
    reason = str(error).removesuffix(", so nothing was written")
    made.update(status="failed", reason=reason)
    return TrainingError(
        f"{reason}: {epoch} has probably diverged (val_loss {row['val_loss']:,.4g}); its file is kept in "
        f"{place} and is no model to use; train anew with a smaller step, such as "
        f"--set optimizer.learning_rate={made.recipe().optimizer.learning_rate / 4:g} or --set "
        "optimizer.clip_norm=1"
    )


def _fail(
    made: Run, recorder: CheckpointCallback, dataset: Dataset, recipe: Recipe, error: TrainingError
) -> None:
    """Note in the run that the training diverged, and export the best epoch before that."""
    if not recorder.diverged:
        return
    made.update(status="failed", reason=str(error))
    if recorder.best:
        try:
            _finish(made, recorder, dataset, recipe, say=_ignore)
        except (TrainingError, OutputError) as second:
            error.args = (f"{error}; of the best epoch before that: {second}",)
            return
        error.args = (f"{error}; the best epoch before that is in {made.bundle}",)


def _check_unchanged(made: Run, recipe: Recipe, begun: dict[str, Any]) -> None:
    try:
        # Settings that are newer than the run stand at their defaults, which is what it had.
        was, now = to_dict(from_dict(begun)), to_dict(recipe)
    except RecipeError as error:
        raise RunError(f"{made.path / 'run.json'} is damaged: {error}") from None
    changed = [key for key in now if now[key] != was[key]]
    if changed:
        raise RunError(
            f"recipe.toml was changed since the run began ({', '.join(changed)}); a run goes on as it began: "
            "undo that, or train anew with --recipe and the file"
        )


def _check_data(dataset: Dataset, recipe: Recipe) -> None:
    for name in ("train", "val"):
        split = dataset.split(name)
        if split.images.shape[1:] != (recipe.size, recipe.size, 1):
            raise DataError(
                f"split {name!r} has images of shape {split.images.shape[1:]}, the recipe's size is "
                f"{recipe.size}; load the data with size={recipe.size}"
            )
