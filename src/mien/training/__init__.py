"""From a data set and a recipe to a run: augmentation, targets, the training loop, checkpoints and folds.

`recipes`, `runs` and `augmentation` need no training library; `trainer` and the others need Keras.
"""

from mien._lazy import submodules

_MODULES = (
    "augmentation",
    "batches",
    "checkpoints",
    "folds",
    "initialization",
    "optimization",
    "recipes",
    "runs",
    "targets",
    "trainer",
)

__getattr__, __dir__ = submodules(__name__, _MODULES)
