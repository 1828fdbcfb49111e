"""Load the modules of a package when they are first used."""

import importlib
import sys
from collections.abc import Callable, Sequence
from types import ModuleType


def submodules(
    package: str, names: Sequence[str]
) -> tuple[Callable[[str], ModuleType], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__`, which import submodules by name.

    Args:
        package: The package's `__name__`.
        names: Its public submodules.

    Source: PEP 562.
    """

    def get(name: str) -> ModuleType:
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names})

    return get, listed
