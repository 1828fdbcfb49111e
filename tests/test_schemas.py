"""The published JSON schemas describe what commands print and write, with no key missing."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import builders
from mien import cli
from mien.data import synthetic
from mien.models import model_files

av = pytest.importorskip("av", reason="videos need mien[video]")
jsonschema = pytest.importorskip("jsonschema", reason="it comes with nbformat")

ROOT = Path(__file__).parents[1]
SCHEMAS = {path.stem: json.loads(path.read_text()) for path in ROOT.glob("docs/reference/schemas/*.json")}
FACES = ROOT / "docs" / "pictures" / "faces.png"


def _closed(schema: Any) -> Any:
    """Return the schema with all keys named that a document may have."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def _check(name: str, document: Any) -> None:
    from referencing import Registry, Resource

    closed = {f"{each}.json": Resource.from_contents(_closed(schema)) for each, schema in SCHEMAS.items()}
    registry = Registry().with_resources(closed.items())
    kind = jsonschema.Draft202012Validator
    kind({"$ref": f"{name}.json"}, registry=registry).validate(document)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a photo, a film and a data set."""
    place = tmp_path_factory.mktemp("documents")
    synthetic.write_archive(place / "faces.zip", train=140, val=42, test=42, seed=0)
    builders.tiny_run("tiny-run", place / "run", place)
    picture = Image.open(FACES).convert("RGB").crop((0, 0, 480, 280))
    picture.save(place / "photo.png")
    with av.open(str(place / "film.mp4"), "w") as out:
        stream: Any = out.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = *picture.size, "yuv420p"
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_image(picture)))
        out.mux(stream.encode())
    return place


@pytest.fixture
def printed(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command in the folder, and return what it prints."""
    monkeypatch.chdir(made)

    def run(*words: str) -> str:
        assert cli.run(list(words)) in (0, 1), words
        return capsys.readouterr().out

    return run


def test_every_schema_is_valid() -> None:
    assert SCHEMAS
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_a_missing_key_a_further_key_and_a_wrong_type_are_found(printed: Callable[..., str]) -> None:
    [found] = json.loads(printed("predict", "photo.png", "--json"))
    for change in ({"rotation": 45}, {"width": "480"}, {"new": 1}):
        with pytest.raises(jsonschema.ValidationError):
            _check("prediction", found | change)
    with pytest.raises(jsonschema.ValidationError):
        _check("prediction", {key: value for key, value in found.items() if key != "faces"})


def test_predictions(printed: Callable[..., str], made: Path) -> None:
    [found] = json.loads(printed("predict", "photo.png", "--json"))
    assert len(found["faces"]) == 2
    _check("prediction", found)
    _check("prediction", json.loads(printed("predict", "photo.png", "--jsonl", "--whole-image")))
    printed("predict", "photo.png", "--to", "out.jsonl")
    _check("prediction", json.loads((made / "out.jsonl").read_text()))


def test_videos_and_cameras(printed: Callable[..., str]) -> None:
    for line in printed("video", "film.mp4", "--jsonl").splitlines():
        _check("video-row", json.loads(line))
    lines = printed("webcam", "--camera", "film.mp4", "--headless", "--look", "280").splitlines()
    assert lines
    for line in lines:
        _check("camera", json.loads(line))


def test_audits(printed: Callable[..., str]) -> None:
    _check("audit", json.loads(printed("audit", "faces.zip", "--no-recrops", "--json")))
    files = ("--exclusions", "out.csv", "--html", "audit.html", "--fix", "clean")
    _check("audit", json.loads(printed("audit", "faces.zip", "--no-recrops", "--json", *files)))


def test_archives(printed: Callable[..., str]) -> None:
    _check("extract", json.loads(printed("extract", "faces.zip", "--to", "extracted", "--json")))


def test_runs(printed: Callable[..., str], made: Path) -> None:
    facts = json.loads((made / "run" / "run.json").read_text())
    _check("run", facts)
    val = json.loads((made / "run" / "evaluation" / "val.json").read_text())
    _check("evaluation", val)
    _check(
        "run", facts | {"run": "run", "val": val, "figures": ["a.png"], "seconds": 1.0, "cpu_seconds": 1.0}
    )
    _check("model-card", json.loads((made / "run" / "model" / "card.json").read_text()))


def test_evaluations_with_all_sections(printed: Callable[..., str]) -> None:
    asked = ("--table", "latex", "--report", "report", "--robustness", "--json")
    _check("evaluation", json.loads(printed("evaluate", "run", "--split", "test", *asked)))
    table = printed("evaluate", "fast", "--data", "faces.zip", "--balance-table", "--json")
    found = json.loads(table)
    assert found["heads"]
    assert found["balance_table"]
    _check("evaluation", found)


def test_comparisons(printed: Callable[..., str]) -> None:
    asked = ("--data", "faces.zip", "--split", "test", "--html", "compare.html", "--json")
    _check("comparison", json.loads(printed("compare", "run", "fast", *asked)))


def test_explanations(printed: Callable[..., str]) -> None:
    _check(
        "explanation", json.loads(printed("explain", "photo.png", "--model", "fast", "--to", "why", "--json"))
    )


def test_exports_and_cards(printed: Callable[..., str], made: Path) -> None:
    with builders.small_work():
        _check("export", json.loads(printed("export", "run", "--format", "onnx", "--to", "out", "--json")))
    _check("card-files", json.loads(printed("card", "run", "--json")))
    _check("card-files", json.loads(printed("card", "fast", "--to", "fast.md", "--json")))


def test_shipped_models() -> None:
    for name in ("default", "fast"):
        document = json.loads((model_files.MODELS / f"{name}.json").read_text())
        _check("shipped", document)
        _check("shipped", document | {"path": "a.onnx", "weights": None, "seconds": 1.0, "cpu_seconds": 1.0})
        changed = copy.deepcopy(document)
        changed["evaluation"]["n"] = "many"
        with pytest.raises(jsonschema.ValidationError):
            _check("shipped", changed)
        card = model_files.load(model_files.MODELS / f"{name}.onnx").card
        _check("model-card", json.loads(model_files.to_json(card)))
