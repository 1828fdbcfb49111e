"""Files for others from a trained model: export formats, int8 quantization, shipping, sites and model cards.

`exporters` and `shipping` need Keras; `model_cards` does not, and `triton` needs onnx. `web_site` needs Keras
only to write float32.
"""

from mien._lazy import submodules

_MODULES = (
    "exporters",
    "evidence",
    "model_cards",
    "onnx_graph",
    "quantization",
    "shipping",
    "triton",
    "web_site",
)

__getattr__, __dir__ = submodules(__name__, _MODULES)
