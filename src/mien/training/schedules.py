"""What a recipe's optimizer settings mean in Keras."""

from typing import Any

from mien.models.networks import load_keras
from mien.training.recipes import Optimizer

keras = load_keras()

#: Where a falling learning rate ends and a rising one begins, as a share of its peak.
_FLOOR = 0.01


class Warmup(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc, name-defined]
    """Rise in a straight line for `steps` steps to `peak`, then follow the schedule `after`."""

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
        """Return what `__init__` takes."""
        return {"peak": self.peak, "steps": self.steps, "after": self.after}


def make_optimizer(settings: Optimizer, model: Any, *, steps: int) -> Any:
    """Make the Keras optimizer for a training of `steps` steps; kernels alone decay.

    The learning rate is a function of the step alone, so that a resumed training follows it to the bit.
    """
    options: dict[str, Any] = {
        "learning_rate": _rate(settings, steps=steps),
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
    return optimizer


def average_statistics(model: Any, ema: float, start: Any = None) -> None:
    """Let batch normalisation average its statistics over as many steps as the weights are averaged over.

    Its statistics are a moving average already, over ten steps or a hundred. Those of the newest weights do
    not fit the mean of many: while the learning rate is high, such a network named 25 % of faces right.

    Args:
        model: The network, before it is compiled.
        ema: Momentum of the weights' average; statistics that are averaged over more steps stay so.
        start: Images `(n, s, s, 1)` of a training that begins from chance. The average of the weights begins
            at the first weights, that of the statistics begins at what these weights make of the images.
    """
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [max(layer.momentum, ema) for layer in layers]
    if start is not None:
        for layer in layers:
            layer.momentum = 0.0
        model(start, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _rate(settings: Optimizer, *, steps: int) -> Any:
    """Return a learning rate, or the Keras schedule that `settings` describe."""
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
