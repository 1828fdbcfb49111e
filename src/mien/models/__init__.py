"""Model files: loading, running, cards, checks, networks by name, and hashes of training images.

ONNX Runtime runs a model. Only `networks` needs Keras, and only if it builds a network.
The shipped models are in the folder `weights`.
"""

from mien._lazy import submodules

_MODULES = ("card", "checks", "initial_weights", "model_files", "networks", "priors", "training_hashes")

__getattr__, __dir__ = submodules(__name__, _MODULES)
