"""Which precision this machine computes in."""

from pathlib import Path
from typing import Any

from mien.models import networks
from mien.models.networks import load_keras
from mien.training.recipes import Recipe

#: Where Linux says what the processor can do.
CPUINFO = Path("/proc/cpuinfo")

_CPU_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")


def choose(precision: str) -> str:
    """Return the Keras dtype policy for a recipe's precision.

    `auto` is mixed bfloat16 on a GPU and on processors that multiply in bfloat16, else float32: without such
    instructions bfloat16 is emulated and several times slower.
    """
    if precision == "bfloat16" or (precision == "auto" and _computes_bfloat16()):
        return "mixed_bfloat16"
    return "float32"


def _computes_bfloat16() -> bool:
    if any("gpu" in device or "cuda" in device for device in load_keras().distribution.list_devices()):
        return True
    if not CPUINFO.exists():
        return False
    lines = CPUINFO.read_text(errors="replace").splitlines()
    # Linux calls them flags on x86 and Features on ARM.
    found = {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}
    return not found.isdisjoint(_CPU_FLAGS)


def build(recipe: Recipe, *, classes: int, policy: str) -> Any:
    """Build the recipe's network under a dtype policy, and leave Keras' own policy as it was."""
    keras = load_keras()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return networks.build(
            recipe.network, size=recipe.size, classes=classes, ferplus=recipe.targets.ferplus > 0
        )
    finally:
        keras.config.set_dtype_policy(before)
