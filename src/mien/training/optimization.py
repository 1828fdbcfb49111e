"""Losses, optimizers and learning rate schedules of a recipe, for Keras."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mien.models.networks import load_keras
from mien.training.recipes import Optimizer, TargetSettings

keras = load_keras()


class Distillation(keras.losses.Loss):  # type: ignore[misc, name-defined]
    """Cross-entropy with the data's targets, and with a teacher's probabilities at a temperature.

    Rows of targets `(n, 2 k)` hold the data's distribution, then the teacher's; zeros mean no teacher.

    Args:
        smoothing: Share of the data's target that is spread evenly over all classes.
        share: The teacher's share of the loss, in [0, 1].
        temperature: Divides the logits of both; its square keeps the size of the gradient.
        logit_bias: Added to the k logits in training only (logit adjustment), so that the network does not
            learn the frequencies of the classes.

    Source: Hinton et al. 2015, arXiv:1503.02531; logit adjustment, Menon et al. 2021, arXiv:2007.07314.
    """

    def __init__(
        self,
        *,
        smoothing: float,
        share: float,
        temperature: float,
        logit_bias: Sequence[float] | None = None,
    ) -> None:
        super().__init__(name="distillation")
        self.smoothing = smoothing
        self.share = share
        self.temperature = temperature
        self.logit_bias = logit_bias

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each image `(n,)` for probabilities `(n, k)`."""
        ops = keras.ops
        k = y_pred.shape[-1]
        y_true = ops.cast(y_true, y_pred.dtype)
        hard, teacher = y_true[:, :k], y_true[:, k:]
        logits = ops.log(ops.maximum(y_pred, 1e-7))
        if self.logit_bias is not None:
            logits = ops.log_softmax(logits + ops.convert_to_tensor([self.logit_bias], y_pred.dtype), axis=-1)
        hard = hard * (1 - self.smoothing) + self.smoothing / k
        with_data = -ops.sum(hard * logits, axis=-1)
        if not self.share:
            return with_data
        softened = ops.log_softmax(logits / self.temperature, axis=-1)
        with_teacher = -ops.sum(_soften_probabilities(teacher, self.temperature) * softened, axis=-1)
        return (1 - self.share) * with_data + self.share * self.temperature**2 * with_teacher


def _soften_probabilities(probabilities: Any, temperature: float) -> Any:
    """Return probabilities with logits divided by a temperature; zeros stay zeros."""
    powered = keras.ops.power(probabilities, 1 / temperature)
    total = keras.ops.sum(powered, axis=-1, keepdims=True)
    return powered / keras.ops.maximum(total, 1e-7)


def loss_settings(targets: TargetSettings, *, distils: bool, frequencies: Sequence[float]) -> dict[str, Any]:
    """Return `loss`, `loss_weights` and `metrics` for `Model.compile`.

    Args:
        targets: The recipe's settings.
        distils: Whether rows of targets hold a teacher's probabilities too.
        frequencies: Of the k classes among the training labels, summing to 1.
    """
    if distils or targets.balance:
        loss: Any = Distillation(
            smoothing=targets.smoothing,
            share=targets.teacher if distils else 0.0,
            temperature=targets.temperature,
            logit_bias=_log_frequencies(frequencies, targets.balance) if targets.balance else None,
        )
        metrics: list[Any] = [_accuracy]
    else:
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=targets.smoothing)
        metrics = ["accuracy"]
    if not targets.ferplus:
        return {"loss": loss, "metrics": metrics}
    # Vote shares need no label smoothing.
    votes = (
        Distillation(smoothing=0.0, share=targets.teacher, temperature=targets.temperature)
        if distils
        else keras.losses.CategoricalCrossentropy()
    )
    return {
        "loss": {"answer": loss, "ferplus": votes},
        "loss_weights": {"answer": 1.0, "ferplus": targets.ferplus},
        "metrics": {"answer": metrics, "ferplus": metrics},
    }


def _log_frequencies(frequencies: Sequence[float], balance: float) -> list[float]:
    """Return what is added to each logit in training; the smallest frequency is 1 in 10,000."""
    return [float(balance * np.log(max(frequency, 1e-4))) for frequency in frequencies]


def _accuracy(y_true: Any, y_pred: Any) -> Any:
    """Return accuracy against the data's half of the targets."""
    return keras.metrics.categorical_accuracy(y_true[:, : y_pred.shape[-1]], y_pred)


_accuracy.__name__ = "accuracy"


#: The lowest learning rate of a schedule, as a share of its peak.
_FLOOR = 0.01


class Warmup(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc, name-defined]
    """Rise linearly for `steps` steps to `peak`, then follow the schedule `after`."""

    def __init__(self, peak: float, steps: int, after: Any) -> None:
        self.peak = peak
        self.steps = steps
        self.after = after

    def __call__(self, step: Any) -> Any:
        """Return the learning rate at `step`, counted from 0."""
        step = keras.ops.cast(step, "float32")
        rising = self.peak * (_FLOOR + (1 - _FLOOR) * step / self.steps)
        return keras.ops.where(step < self.steps, rising, self.after(step - self.steps))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `__init__`."""
        return {"peak": self.peak, "steps": self.steps, "after": self.after}


def make_optimizer(
    settings: Optimizer, model: Any, *, steps: int, tabulate: Callable[[Any, int], Any] | None = None
) -> Any:
    """Make the Keras optimizer for a training of `steps` steps; weight decay applies to kernels only.

    The learning rate depends on the step only, so that a resumed training is equal bit for bit.

    Args:
        settings: The recipe's settings.
        model: The network.
        steps: Number of steps of the training.
        tabulate: Called with schedule and steps; its result replaces the schedule, and is the attribute
            `schedule` of the optimizer.
    """
    schedule = _learning_rate(settings, steps=steps)
    if tabulate is not None:
        schedule = tabulate(schedule, steps)
    options: dict[str, Any] = {
        "learning_rate": schedule,
        "weight_decay": settings.weight_decay or None,
        "global_clipnorm": settings.clip_norm or None,
        "use_ema": settings.ema > 0,
    }
    if settings.ema:
        options["ema_momentum"] = settings.ema
    if settings.name == "sgd":
        optimizer = keras.optimizers.SGD(momentum=settings.momentum, nesterov=True, **options)
    elif settings.name == "adamw":
        optimizer = keras.optimizers.AdamW(**(options | {"weight_decay": settings.weight_decay}))
    else:
        optimizer = keras.optimizers.Adam(**options)
    if settings.weight_decay:
        spared = [variable for variable in model.trainable_variables if variable.name != "kernel"]
        optimizer.exclude_from_weight_decay(var_list=spared)
    optimizer.build(model.trainable_variables)
    if tabulate is not None:
        optimizer.schedule = schedule
    return optimizer


def average_statistics(model: Any, ema: float, start: Any = None) -> None:
    """Average the statistics of batch normalisation over as many steps as the weights.

    Statistics of the newest weights do not fit averaged weights: while the learning rate is high, such a
    network had an accuracy of 25 %.

    Args:
        model: The network, before it is compiled.
        ema: Momentum of the weights' average; a larger momentum of a layer stays.
        start: Images `(n, s, s, 1)` that give the first statistics, if the weights are random.
    """
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [max(layer.momentum, ema) for layer in layers]
    if start is not None:
        for layer in layers:
            layer.momentum = 0.0
        model(start, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _learning_rate(settings: Optimizer, *, steps: int) -> Any:
    """Return a learning rate, or the Keras schedule of `settings`."""
    peak = settings.learning_rate
    warm = round(steps * settings.warmup)
    left = max(1, steps - warm)
    schedules = keras.optimizers.schedules
    falling = {
        "constant": schedules.PolynomialDecay(peak, left, end_learning_rate=peak),
        "cosine": schedules.CosineDecay(peak, left, alpha=_FLOOR),
        "one-cycle": schedules.PolynomialDecay(peak, left, end_learning_rate=peak * _FLOOR),
    }[settings.schedule]
    if warm:
        return Warmup(peak, warm, falling)
    return peak if settings.schedule == "constant" else falling
