"""Files for others from a trained model: export formats, int8 quantization, shipping and model cards.

`exporters` and `shipping` need Keras; `model_cards` does not.
"""

from mien._lazy import submodules

_MODULES = ("exporters", "evidence", "model_cards", "onnx_graph", "quantization", "shipping")

__getattr__, __dir__ = submodules(__name__, _MODULES)
