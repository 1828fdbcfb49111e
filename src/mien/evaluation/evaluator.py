"""Evaluate model files on a split of a data set.

Accuracy counts every image once. Balanced accuracy and macro F1 count every class once, and so show what
accuracy hides if classes differ in size. Every figure that has a 95 % interval comes with it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from mien.errors import DataError, InputError, ModelError
from mien.evaluation import calibration, corruptions
from mien.evaluation.clusters import number_groups, share_interval, with_group_intervals
from mien.evaluation.evaluation import (
    Agreement,
    CorruptionScore,
    EvaluatedData,
    EvaluatedModel,
    EvaluatedSplit,
    Evaluation,
    Example,
    Figures,
    Robustness,
    SelectivePrediction,
    SplitUse,
    TemperatureCheck,
    TrainingOverlap,
)
from mien.evaluation.evaluation_log import find_role
from mien.evaluation.memorised import (
    TrainingDuplicates,
    count_memorised,
    find_training_duplicates,
    warn_of_memorised,
)
from mien.evaluation.metrics import (
    GroupList,
    compute_metrics,
    evaluate_groups,
    expected_calibration_error,
    find_plurality,
    measure_selective_prediction,
    risk_coverage_area,
    wilson_interval,
)
from mien.models.model_files import Card, Model
from mien.models.priors import Adjustment, as_groups, as_prior

if TYPE_CHECKING:
    from mien.data.datasets import Dataset, Split


#: Numbers of views there are: as it is; its mirror image too; those and both moved to four corners.
VIEWS = (1, 2, 10)

#: How far an image is moved towards a corner, as a share of its side: 2 pixels of 48.
_MOVED = 1 / 24
_CORNERS = ((-1, -1), (1, -1), (-1, 1), (1, 1))


def make_views(images: npt.NDArray[np.uint8], number: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield views of images, the images themselves first.

    Args:
        images: `(n, size, size, 1)` uint8 in [0, 255].
        number: One of `VIEWS`.

    Yields:
        `number` arrays of the same shape and type. What a moved image leaves free holds its border pixels.

    Raises:
        InputError: There is no such number of views.
    """
    if number not in VIEWS:
        numbers = ", ".join(map(str, VIEWS[:-1]))
        raise InputError(f"views is {number}; it must be {numbers} or {VIEWS[-1]}")
    size = images.shape[1]
    wide = max(1, round(size * _MOVED))
    placed = [(0, 0), *_CORNERS] if number > 2 else [(0, 0)]
    framed = (
        np.pad(images, ((0, 0), (wide, wide), (wide, wide), (0, 0)), mode="edge") if number > 2 else images
    )
    for right, down in placed:
        view = images
        if (right, down) != (0, 0):
            left, top = wide * (1 - right), wide * (1 - down)
            view = framed[:, top : top + size, left : left + size]
        yield np.ascontiguousarray(view)
        if number > 1:
            yield np.ascontiguousarray(view[:, :, ::-1])


_Progress = Callable[[str, int, int], None] | None
#: Images shown of the worst and of the most uncertain.
_SHOWN = 12


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of a model for a split, and the true labels.

    Args:
        split: The images; its labels are numbers into the data set's class names, not into `names`.
        names: The model's k class names.
        probabilities: `(n, k)` float32, a column for each of `names`.
        truth: `(n,)` int64, numbers into `names`.
        head: The output head that answered.
        model: sha256 of the model file; of several, one after the other.
        data: The data set's name.
        views: Of how many views of each image the probabilities are the mean.
        balance: At which they were answered.
        prior: With which they were answered; empty for none.
        class_groups: Classes whose probabilities were added up, for each of `names` that is a group.
    """

    split: "Split"
    names: tuple[str, ...]
    probabilities: npt.NDArray[np.float32]
    truth: npt.NDArray[np.int64]
    head: str = ""
    model: str = ""
    data: str = ""
    views: int = 1
    balance: float = 0.0
    prior: Mapping[str, float] = field(default_factory=dict)
    class_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def adjustment(self) -> Adjustment:
        """What was done to the probabilities of the model."""
        return Adjustment(balance=self.balance, prior=self.prior, groups=self.class_groups)

    def take(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> "Predictions":
        """Return the predictions for some images, by a mask `(n,)` or indices."""
        return replace(
            self,
            split=self.split.take(which),
            probabilities=self.probabilities[which],
            truth=self.truth[which],
        )

    def group(self, groups: Mapping[str, Sequence[str]] | str | None) -> "Predictions":
        """Return the predictions for groups of classes, which also replace the true labels.

        Args:
            groups: Classes by the name of their group, as `mien.models.priors.as_groups` takes them. A class
                in no group stays as it is.

        Raises:
            InputError: A group cannot be used, as `mien.models.priors.Adjustment` says, or these predictions
                are of groups already.
        """
        if groups and self.class_groups:
            raise InputError("the predictions are of groups already; group the predictions of the classes")
        adjustment = Adjustment(groups=as_groups(groups))
        adjustment.check(self.names, ())
        if not adjustment.groups:
            return self
        return replace(
            self,
            names=adjustment.names(self.names),
            probabilities=adjustment.group(self.probabilities, self.names),
            truth=adjustment.members(self.names).argmax(axis=1)[self.truth],
            class_groups=adjustment.groups,
        )


def evaluate(
    model: Model | Sequence[Model], split: "Split", *, labels: Sequence[str], **options: Any
) -> Evaluation:
    """Measure how often `model` names the right class on `split`; arguments and errors as in `predict`."""
    return evaluate_predictions(predict(model, split, labels=labels, **options))


def predict(
    model: Model | Sequence[Model],
    split: "Split",
    *,
    labels: Sequence[str],
    head: str | None = None,
    data: str = "",
    views: int = 1,
    progress: Callable[[int, int], None] | None = None,
    balance: float = 0.0,
    prior: Mapping[str, float] | str | None = None,
) -> Predictions:
    """Return the predictions for every image of a split.

    Args:
        model: The model as shipped; or several with the same classes, whose probabilities are averaged.
        split: Images `(n, size, size, 1)` uint8 in [0, 255], and a number into `labels` for each.
        labels: The data set's class names, in its own order; they are matched with the model's by name.
        head: Which of the model's heads answers; None for its first.
        data: The data set's name, for the report.
        views: Of each image, one of `VIEWS`: as it is; mirrored too; those and both moved to four corners.
            The probabilities are their mean.
        progress: Called with (images done, images in all).
        balance: As `mien.models.model_files.Model.run` takes it.
        prior: As `mien.models.model_files.Model.run` takes it.

    Raises:
        InputError: There is no such number of views, or balance or prior cannot be used with a model.
        ModelError: The data has a class that the model cannot answer, or images of another size; the model
            has no such head; or several models have different classes.
        DataError: The split has no images.
    """
    (found,) = predict_heads(
        model,
        split,
        heads=[head],
        labels=labels,
        data=data,
        views=views,
        progress=progress,
        balance=balance,
        prior=prior,
    )
    return found


def predict_heads(
    model: Model | Sequence[Model],
    split: "Split",
    *,
    heads: Sequence[str | None],
    labels: Sequence[str],
    data: str = "",
    views: int = 1,
    progress: Callable[[int, int], None] | None = None,
    balance: float = 0.0,
    prior: Mapping[str, float] | str | None = None,
) -> list[Predictions]:
    """Return the predictions of several heads for every image of a split, and run each network only once.

    Args:
        model: As in `predict`.
        split: As in `predict`.
        heads: The heads, each as in `predict`.
        labels: As in `predict`.
        data: As in `predict`.
        views: As in `predict`.
        progress: As in `predict`.
        balance: As in `predict`.
        prior: As in `predict`.

    Returns:
        The predictions of each head, in the order of `heads`.

    Raises:
        InputError: As in `predict`.
        ModelError: As in `predict`.
        DataError: As in `predict`.
    """
    models = [model] if isinstance(model, Model) else list(model)
    classes = models[0].card.labels
    strange = [label for label in labels if label not in classes]
    if strange:
        raise ModelError(
            f"the data has the class {strange[0]!r}, which the model does not have; "
            f"its classes are {', '.join(classes)}; rename or remove the class with --map (rename=)"
        )
    order = np.array([classes.index(label) for label in labels], np.int64)
    if len(split.labels) == 0:
        raise DataError(f"split {split.name!r} has no images; name a split with images")
    if split.labels.min() < 0 or split.labels.max() >= len(order):
        raise DataError(f"split {split.name!r} has labels above the number of its classes, {len(order)}")
    means = _means(
        models,
        split.images,
        heads,
        views=views,
        progress=progress,
        adjustment=Adjustment(balance=balance, prior=as_prior(prior)),
    )
    return [
        Predictions(
            split=split,
            names=classes,
            probabilities=probabilities,
            truth=order[split.labels],
            head=head or next(iter(models[0].card.heads)),
            model=" ".join(each.card.sha256 or "" for each in models),
            data=data,
            views=views,
            balance=balance,
            prior=as_prior(prior),
        )
        for head, probabilities in zip(heads, means, strict=True)
    ]


def evaluate_predictions(answers: Predictions) -> Evaluation:
    """Compute the figures of predictions, with intervals by group if the split has two groups or more.

    Raises:
        DataError: The predictions are empty.
    """
    split = answers.split
    found = compute_metrics(answers.probabilities, answers.truth, answers.names)
    named = number_groups(split.groups)
    if named is not None:
        found = with_group_intervals(found, answers.probabilities.argmax(axis=1), answers.truth, named)
    return replace(
        found,
        agreement=None
        if split.votes is None
        else compute_agreement(
            answers.probabilities,
            split.votes,
            answers.names,
            clusters=named,
            class_groups=answers.class_groups,
        ),
        head=answers.head,
        model=answers.model,
        split=split.name,
        split_fingerprint=split.fingerprint,
        data=answers.data,
        views=answers.views,
        balance=answers.balance,
        prior=dict(answers.prior),
        class_groups=dict(answers.class_groups),
    )


def predict_mean(
    models: Sequence[Model],
    images: npt.NDArray[np.uint8],
    *,
    head: str | None = None,
    views: int = 1,
    progress: Callable[[int, int], None] | None = None,
    adjustment: Adjustment | None = None,
) -> npt.NDArray[np.float32]:
    """Return the mean of several models' probabilities `(n, k)`, in the order of the first one's labels.

    Arguments are as in `predict`; images are `(n, size, size, 1)` uint8 in [0, 255]. Without a head, the
    first of each model answers. `progress` counts all models and views together. `adjustment` has the balance
    and the prior.

    Raises:
        InputError: There is no such number of views, or balance or prior cannot be used with a model.
        ModelError: There is no model, the models have different classes or sizes, or no such head.
    """
    (found,) = _means(
        models, images, [head], views=views, progress=progress, adjustment=adjustment or Adjustment()
    )
    return found


def _means(
    models: Sequence[Model],
    images: npt.NDArray[np.uint8],
    heads: Sequence[str | None],
    *,
    views: int,
    progress: Callable[[int, int], None] | None,
    adjustment: Adjustment,
) -> list[npt.NDArray[np.float32]]:
    """Return what `predict_mean` does for each of several heads."""
    if not models:
        raise ModelError("no model was named; name at least one")
    first = models[0].card.labels
    for model in models:
        if sorted(model.card.labels) != sorted(first):
            raise ModelError(
                f"the models have different classes, {', '.join(first)} and {', '.join(model.card.labels)}; "
                "average models with the same classes"
            )
    totals = [np.zeros((len(images), len(first)), np.float32) for _ in heads]
    asked = views * len(models)
    for number, view in enumerate(make_views(images, views)):
        for place, model in enumerate(models):

            def done(count: int, of: int, before: int = (number * len(models) + place) * len(images)) -> None:
                if progress is not None:
                    progress(before + count, of * asked)

            names = [next(iter(model.card.heads)) if head is None else head for head in heads]
            answers = model.run_heads(
                view, heads=names, progress=done, balance=adjustment.balance, prior=adjustment.prior
            )
            order = [model.card.labels.index(label) for label in first]
            for total, name in zip(totals, names, strict=True):
                total += answers[name][:, order]
    for total in totals:
        total /= asked
    return totals


def compute_agreement(
    probabilities: npt.NDArray[np.floating[Any]],
    votes: npt.NDArray[np.floating[Any]],
    names: Sequence[str],
    *,
    clusters: npt.NDArray[np.intp] | None = None,
    class_groups: Mapping[str, Sequence[str]] | None = None,
) -> Agreement | None:
    """Measure how often answers are what most of FER+'s annotators chose.

    Args:
        probabilities: `(n, k)`.
        votes: `(n, 10)`, how many annotators chose each of `labels.VOTES`.
        names: The k class names.
        clusters: `(n,)` the group of each image, for an interval by group; None for one by image.
        class_groups: Classes whose votes are added up, for each of `names` that is a group.

    Returns:
        The agreement; None where no image's plurality is one of `names`.
    """
    decided, seen = find_plurality(votes, names, class_groups)
    n = int(decided.sum())
    if n == 0:
        return None
    hits = (probabilities.argmax(axis=1) == seen)[decided]
    right = int(hits.sum())
    ece = expected_calibration_error(probabilities[decided], seen[decided])
    interval = wilson_interval(right, n) if clusters is None else share_interval(hits, clusters[decided])
    return Agreement(n=n, share=right / n, interval=interval, left_out=len(votes) - n, ece=ece)


def measure_all(
    models: Sequence[Model],
    dataset: "Dataset",
    answers: Predictions,
    *,
    evaluation: Evaluation | None = None,
    groups: GroupList | None = None,
    robustness: bool = False,
    recrops: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Measure all that a report holds.

    Args:
        models: Whose answers these are; of several, the mean.
        dataset: Where the split comes from; its training split is compared with it, its validation split
            gives a temperature to models that have none.
        answers: As `predict` gives them.
        evaluation: What is measured already; what it holds of `heads`, `split_use` and `memorised` stays.
        groups: Which group each image belongs to.
        robustness: Whether to measure under each corruption of `corruptions` too, which takes as many times
            as long.
        recrops: Whether to leave out re-cropped duplicates of training images too, which takes minutes.
        progress: Called with (what is done, done, total).

    Raises:
        DataError: The listing does not fit the images, or these are smaller than 12 pixels a side; 24, for
            `recrops`.
        InputError: The predictions have a balance, a prior or groups.
    """
    import mien

    if not answers.adjustment.is_identity:
        raise InputError("a report needs predictions without a balance, without a prior and without groups")

    card, split = models[0].card, answers.split
    found = evaluation or evaluate_predictions(answers)
    memorised = found.memorised or count_memorised(models, answers)
    use = found.split_use or warn_of_memorised(
        find_role(card, split.fingerprint, split.name, answers.data), memorised
    )
    grouped = None
    if groups is not None:
        grouped = evaluate_groups(groups, split.files, answers.probabilities, answers.truth, answers.names)
    risk, best = risk_coverage_area(answers.probabilities, answers.truth)
    return replace(
        found,
        versions={"mien": mien.__version__, "onnxruntime": metadata.version("onnxruntime")},
        models=tuple(_model(each, answers.head) for each in models),
        dataset=_dataset(dataset),
        preprocessing=f"grey, {card.size} × {card.size} pixels of 0 to 255, framing: {card.framing}; "
        f"{_inside(models, answers.head)} are in the model file",
        split_use=use,
        memorised=memorised,
        selective=SelectivePrediction(
            points=measure_selective_prediction(answers.probabilities, answers.truth),
            area=risk,
            best_area=best,
        ),
        temperatures=tuple(_temperatures(models, dataset, answers, use, progress=progress)),
        training_overlap=_overlap(card, dataset, answers, use, recrops=recrops, progress=progress),
        groups=grouped,
        robustness=measure_robustness(models, answers, progress=progress) if robustness else None,
        worst=_examples(answers, "worst"),
        uncertain=_examples(answers, "uncertain"),
    )


def _inside(models: Sequence[Model], head: str) -> str:
    used = [each.card.head(head if head in each.card.heads else None) for each in models]
    parts = {
        "temperature": any(each.temperature != 1 for each in used),
        "logit_bias": any(each.logit_bias for each in used),
    }
    return ", ".join(["rescaling", *(name for name, there in parts.items() if there)]) + " and softmax"


def _model(model: Model, head: str) -> EvaluatedModel:
    card = model.card
    # Of several models, those without the first one's head answer by their own first.
    used = card.head(head if head in card.heads else None)
    return EvaluatedModel(
        name=card.name,
        sha256=card.sha256,
        precision=card.precision,
        recipe=card.recipe.get("name"),
        learned_from=None
        if card.data is None
        else {"name": card.data.name, "fingerprint": card.data.fingerprint},
        excluded=dict(card.excluded),
        temperature=used.temperature,
        logit_bias=tuple(used.logit_bias),
        threshold=used.threshold,
        at_chance=used.at_chance,
        began=None if card.began is None else asdict(card.began) | {"worse": card.began.worse},
        licence=card.licence,
    )


def _dataset(dataset: "Dataset") -> EvaluatedData:
    return EvaluatedData(
        name=dataset.root,
        fingerprint=dataset.fingerprint,
        splits={
            part.name: EvaluatedSplit(n=len(part), fingerprint=part.fingerprint) for part in dataset.splits
        },
        unreadable=len(dataset.problems),
        notes=tuple(dataset.notes),
    )


def _temperatures(
    models: Sequence[Model],
    dataset: "Dataset",
    answers: Predictions,
    use: SplitUse,
    *,
    progress: _Progress = None,
) -> list[TemperatureCheck]:
    """Measure calibration as the model ships, and without its own temperature or with a fitted one."""
    card = models[0].card
    head = card.head(answers.head if answers.head in card.heads else None)
    shares = answers.probabilities
    if len(models) == 1 and (head.temperature != 1 or head.logit_bias):
        bare = calibration.undo(shares, head.temperature, head.logit_bias)
        without = "without its temperature and logit biases" if head.logit_bias else "without its temperature"
        return [
            _calibration("as shipped", head.temperature, shares, answers),
            _calibration(without, 1.0, bare, answers),
        ]
    told = [_calibration("as shipped", None if len(models) > 1 else 1.0, shares, answers)]
    if use.role == "train":
        return told
    if use.role == "val" or answers.split.name == "val":
        return [*told, *_cross_fitted(answers)]
    val = _answers_on_val(models, dataset, answers, progress)
    if val is None:
        return told
    prior = calibration.weight(*val.probabilities.shape)
    fitted = calibration.fit(val.probabilities, val.truth, prior=prior)
    softened = calibration.apply(shares, fitted)
    by_val = _calibration("with a temperature fitted on val", fitted, softened, answers)
    return [*told, replace(by_val, prior=prior)]


def _calibration(
    name: str, temperature: float | None, shares: npt.NDArray[np.floating[Any]], answers: Predictions
) -> TemperatureCheck:
    report = compute_metrics(shares, answers.truth, answers.names)
    return TemperatureCheck(
        name=name,
        temperature=temperature,
        prior=0.0,
        nll=report.nll,
        brier=report.brier,
        ece=report.ece,
        reliability=report.reliability,
    )


def _cross_fitted(answers: Predictions) -> list[TemperatureCheck]:
    folds = min(5, len(answers))
    if folds < 2:
        return []
    found = calibration.measure(answers.probabilities, answers.truth, folds=folds)
    return [
        TemperatureCheck(
            name=f"with a temperature fitted on the other of {folds} folds",
            temperature=found.temperature,
            prior=found.prior,
            nll=found.nll_after,
            brier=None,
            ece=found.ece_after,
            reliability=None,
        )
    ]


def _answers_on_val(
    models: Sequence[Model], dataset: "Dataset", answers: Predictions, progress: _Progress
) -> Predictions | None:
    if dataset.val is None:
        return None
    shared = all(answers.head in each.card.heads for each in models)
    return predict(
        models,
        dataset.val,
        labels=dataset.labels,
        head=answers.head if shared else None,
        progress=_stage(progress, "fitting a temperature on val"),
    )


def _overlap(
    card: Card,
    dataset: "Dataset",
    answers: Predictions,
    use: SplitUse,
    *,
    recrops: bool = False,
    progress: _Progress = None,
) -> TrainingOverlap:
    """Score again without the images that the training split holds too, if it can be searched."""
    if use.role == "train":
        return TrainingOverlap(checked=False, why="these are the training images of the model")
    train = dataset.train
    if train is None:
        return TrainingOverlap(
            checked=False, why=f"{dataset.root} has no training split; use data that has one"
        )
    if train.images.shape[1] < 12:
        return TrainingOverlap(checked=False, why="the search for duplicates needs at least 12 pixels a side")
    found = find_training_duplicates(
        answers.split.images,
        train.images,
        include_recrops=recrops,
        progress=_stage(progress, "comparing with training images"),
    )
    return replace(
        measure_overlap(answers, found), compared_with=len(train), learned_from=_learnt(card, train)
    )


def measure_overlap(answers: Predictions, found: TrainingDuplicates) -> TrainingOverlap:
    """Return the figures without the images that the training split holds too."""
    return TrainingOverlap(
        exact=int(found.exact.sum()),
        near=int(found.near.sum()),
        recrops=None if found.recrops is None else int(found.recrops.sum()),
        without_exact=_rest(answers, ~found.exact),
        without_near=_rest(answers, ~(found.exact | found.near)),
        without_recrops=None if found.recrops is None else _rest(answers, ~found.any),
    )


def _learnt(card: Card, train: "Split") -> bool | None:
    """Return whether the model learned from this training split; None if its card does not say."""
    parts = [data.splits["train"] for data in card.learnt_from if "train" in data.splits]
    return any(part.fingerprint == train.fingerprint for part in parts) if parts else None


def _rest(answers: Predictions, which: npt.NDArray[np.bool_]) -> Figures | None:
    return evaluate_predictions(answers.take(which)).figures() if which.any() else None


def measure_robustness(
    models: Sequence[Model], answers: Predictions, *, seed: int = 0, progress: _Progress = None
) -> Robustness:
    """Score the same images under each of `mien.evaluation.corruptions.CORRUPTIONS`.

    Args:
        models: Those that gave the answers.
        answers: On the images as they are.
        seed: Decides noise, directions and places.
        progress: Called with (what is done, done, total).
    """
    shared = all(answers.head in each.card.heads for each in models)
    named = number_groups(answers.split.groups)
    adjustment = answers.adjustment
    clean = float((answers.probabilities.argmax(axis=1) == answers.truth).mean())
    rows = []
    for number, (name, corruption) in enumerate(corruptions.CORRUPTIONS.items(), start=1):
        images = corruptions.corrupt(answers.split.images, corruption, seed=seed)
        chances = predict_mean(models, images, head=answers.head if shared else None, adjustment=adjustment)
        chances = adjustment.group(chances, models[0].card.labels)
        hits = chances.argmax(axis=1) == answers.truth
        right = int(hits.sum())
        rows.append(
            CorruptionScore(
                corruption=name,
                kind=corruption.kind,
                strength=corruption.strength,
                accuracy=right / len(answers),
                interval=wilson_interval(right, len(answers))
                if named is None
                else share_interval(hits, named),
                loss=clean - right / len(answers),
            )
        )
        if progress is not None:
            progress("corrupting images", number, len(corruptions.CORRUPTIONS))
    kinds: dict[str, list[float]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row.accuracy)
    return Robustness(
        seed=seed,
        size=int(answers.split.images.shape[1]),
        rows=tuple(rows),
        mean_of_kinds=float(np.mean([np.mean(values) for values in kinds.values()])),
    )


def _examples(answers: Predictions, kind: Literal["worst", "uncertain"]) -> tuple[Example, ...]:
    """Choose wrong answers with the least probability of the label, or answers with the least confidence."""
    shares, truth = answers.probabilities, answers.truth
    given, told = shares.argmax(axis=1), shares.max(axis=1)
    if kind == "worst":
        order = np.argsort(shares[np.arange(len(truth)), truth], kind="stable")
        order = order[(given != truth)[order]]
    else:
        order = np.argsort(told, kind="stable")
    return tuple(
        Example(
            place=place,
            file=answers.split.files[place].encode(errors="backslashreplace").decode(),
            label=answers.names[int(truth[place])],
            answer=answers.names[int(given[place])],
            confidence=float(told[place]),
            probabilities={
                name: float(share) for name, share in zip(answers.names, shares[place], strict=True)
            },
        )
        for place in order[:_SHOWN].tolist()
    )


def _stage(progress: _Progress, what: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    move = progress
    return lambda done, total: move(what, done, total)
