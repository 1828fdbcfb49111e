"""The YAML header by which a model hub lists a model and its results."""

import re
from collections.abc import Sequence
from typing import Any

from mien.evaluation.evaluation import Evaluation
from mien.release.evidence import Evidence
from mien.release.model_cards.markdown import as_yaml

#: Licences that the hub knows by these names; any other is `other`.
_LICENCES = frozenset(
    [
        "apache-2.0",
        "mit",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc0-1.0",
        "cc-by-4.0",
        "cc-by-sa-4.0",
        "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0",
        "gpl-3.0",
        "lgpl-3.0",
        "mpl-2.0",
        "unlicense",
    ]
)
_TASK = "image-classification"
#: Digits of a result, which the hub shows as it stands.
_DIGITS = 4


def write(models: Sequence[Evidence]) -> str:
    """Return the header of a page about models, with its two rules."""
    values: dict[str, Any] = _licence(models) | {
        "library_name": "mien",
        "pipeline_tag": _TASK,
        "tags": ["facial-emotion-recognition", "facial-expression-recognition", "onnx"],
    }
    named = [_identifier(name) for model in models for name in _sources(model)]
    if sources := [name for name in dict.fromkeys(named) if name]:
        values["datasets"] = sources
    if indexed := [model for model in models if model.evaluations]:
        values["metrics"] = ["accuracy", "f1"]
        values["model-index"] = [
            {"name": model.card.name, "results": [_result(model, finding) for finding in model.evaluations]}
            for model in indexed
        ]
    return f"---\n{as_yaml(values)}---"


def _licence(models: Sequence[Evidence]) -> dict[str, Any]:
    named = sorted({model.card.licence for model in models})
    if named == [""]:
        return {"license": "unknown"}
    if len(named) == 1 and named[0].lower() in _LICENCES:
        return {"license": named[0].lower()}
    return {"license": "other", "license_name": "; ".join(name or "unknown" for name in named)}


def _sources(model: Evidence) -> list[str]:
    named = [model.data_name(model.card.data.name)] if model.card.data else []
    return [*named, *(["ferplus"] if model.ferplus else [])]


def _result(model: Evidence, finding: Evaluation) -> dict[str, Any]:
    report = finding
    values = [
        ("accuracy", "accuracy", report.accuracy),
        ("f1", "macro F1", report.macro_f1),
    ]
    if report.agreement is not None:
        values.append(("agreement", "agreement with the plurality of FER+'s taggers", report.agreement.share))
    name = model.data_name(report.data)
    return {
        "task": {"type": _TASK, "name": "facial emotion recognition"},
        "dataset": {"type": _identifier(name) or "unnamed", "name": name, "split": report.split},
        "metrics": [
            {"type": kind, "name": f"{what}, head {report.head}", "value": round(value, _DIGITS)}
            for kind, what, value in values
        ],
    }


def _identifier(name: str) -> str:
    """Return a data set's name as the hub takes one."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")
