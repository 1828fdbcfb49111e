"""Evaluation of models: metrics, calibration, comparison, corruptions and explanations.

Needs NumPy and ONNX Runtime.
"""

from mien._lazy import submodules

_MODULES = (
    "balance",
    "calibration",
    "clusters",
    "comparison",
    "corruptions",
    "evaluation",
    "evaluation_log",
    "evaluator",
    "explanation",
    "memorised",
    "metrics",
)

__getattr__, __dir__ = submodules(__name__, _MODULES)
