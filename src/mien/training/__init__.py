"""From a data set and a recipe to a run: augmentation, targets, the training loop, checkpoints and folds.

`recipes`, `runs`, `search_spaces`, `studies` and `augmentation` need no training library. `tuning` needs
Optuna, and trains in other processes. `device_augmentation` needs JAX, `device` needs Keras on JAX, and
`tensorboard_logs` TensorBoard and Keras. `trainer` and the others need Keras.
"""

from mien._lazy import submodules

_MODULES = (
    "augmentation",
    "batches",
    "checkpoints",
    "cluster_jobs",
    "device",
    "device_augmentation",
    "folds",
    "initialization",
    "normalization",
    "optimization",
    "recipes",
    "runs",
    "search_spaces",
    "studies",
    "targets",
    "teachers",
    "tensorboard_logs",
    "trainer",
    "trials",
    "tuning",
)

__getattr__, __dir__ = submodules(__name__, _MODULES)
