"""From a trained model to files for others: export formats, int8 quantization, shipping and model cards.

`exporters` and `shipping` need Keras; `model_cards` does not.
"""

from mien._lazy import submodules

_MODULES = (
    "averaging",
    "exporters",
    "model_cards",
    "shipping",
)

__getattr__, __dir__ = submodules(__name__, _MODULES)
