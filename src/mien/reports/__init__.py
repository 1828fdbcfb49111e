"""Plots of a run, the report of an evaluation, and pages of audits and comparisons.

`plots` needs Matplotlib (extra `plot`); the others do not.
"""

from mien._lazy import submodules

_MODULES = ("charts", "evaluation_report", "pages", "plots", "rendering")

__getattr__, __dir__ = submodules(__name__, _MODULES)
