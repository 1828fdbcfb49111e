"""A model as a file: its networks by name, its card, its checks and checksums, and how to load and run it.

ONNX Runtime runs a model. Only `networks` needs Keras, and only if it builds a network.
The shipped models are in the folder `weights`.
"""

from mien._lazy import submodules

_MODULES = (
    "card",
    "checks",
    "checksums",
    "initial_weights",
    "known_images",
    "model",
    "networks",
    "priors",
)

__getattr__, __dir__ = submodules(__name__, _MODULES)
