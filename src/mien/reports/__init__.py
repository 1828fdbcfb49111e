"""Figures and pages for people: plots of a run and the report of an evaluation.

`plots` needs Matplotlib (extra `plot`); `evaluation_report` does not.
"""

from mien._lazy import submodules

_MODULES = (
    "charts",
    "evaluation_report",
    "plots",
)

__getattr__, __dir__ = submodules(__name__, _MODULES)
