"""The house itself: where things live, how large they are, what they may not touch."""

import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from mien import cli, errors

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = sorted(path.parent.name for path in (ROOT / "src" / "mien").glob("*/__init__.py"))
COMMANDS = {
    *("audit", "card", "compare", "demo", "evaluate", "explain", "export", "extract", "networks", "plot"),
    *("merge", "predict", "recipes", "serve", "ship", "train", "tune", "video", "webcam"),
}


def commands() -> dict[str, object]:
    return {command.callback.__name__: command.callback for command in cli.app.registered_commands}


def test_the_commands_are_these() -> None:
    assert set(commands()) == COMMANDS


def test_the_architecture_page_lists_every_package_and_no_other() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert sorted(re.findall(r"^\| `mien\.(\w+)` \|", page, re.MULTILINE)) == PACKAGES


def test_the_layers_of_the_linter_contain_every_package() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    named = set(re.findall(r"mien\.(\w+)", " ".join(contracts[0]["layers"])))
    modules = {path.stem for path in (ROOT / "src" / "mien").glob("*.py")} - {"__init__", "__main__"}
    assert named == {*PACKAGES, *modules}


@pytest.mark.parametrize("package", [name for name in PACKAGES if name != "cli"])
def test_a_package_names_its_modules_and_says_what_it_needs(package: str) -> None:
    loaded = importlib.import_module(f"mien.{package}")
    files = [path for path in (ROOT / "src" / "mien" / package).iterdir() if not path.name.startswith("_")]
    modules = {path.stem for path in files if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set(loaded._MODULES) == modules
    assert "need" in (loaded.__doc__ or "").lower()
    for name in modules:
        assert inspect.ismodule(getattr(loaded, name))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = loaded.nonsense


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout


HEAVY = ("keras", "tensorflow", "torch", "jax", "matplotlib", "cv2", "onnx", "scipy", "pandas")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["recipes", "--json"]])
def test_light_commands_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, contextlib, io\nfrom mien import cli\n"
        f"with contextlib.redirect_stdout(io.StringIO()): code = cli.run({arguments!r})\n"
        f"print(code, [name for name in {(*HEAVY, 'onnxruntime', 'numpy')!r} if name in sys.modules])"
    )
    assert run_python(code) == "0 []\n"


def test_using_a_model_loads_nothing_that_trains() -> None:
    modules = [
        *("data.archives", "data.audit", "data.datasets", "data.duplicates", "data.probabilities"),
        *("evaluation.comparison", "evaluation.corruptions", "evaluation.evaluator", "inference.predictor"),
        *("models.model_files", "release.model_cards", "reports.evaluation_report", "training.runs"),
        *("vision.annotation", "vision.detectors", "vision.images"),
    ]
    code = (
        f"import sys, importlib\nfor name in {modules!r}: importlib.import_module('mien.' + name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert run_python(code) == "[]\n"


def test_importing_mien_loads_no_package() -> None:
    code = "import sys, mien; print([name for name in sys.modules if name.startswith('mien.')])"
    assert run_python(code) == "[]\n"


def test_onnx_runtime_keeps_no_usage_data(tmp_path: Path) -> None:
    # It would write an identifier and a database below the home folder, and then send the database.
    code = "import mien, os; mien.load_model('fast'); print(os.environ.get('ORT_DISABLE_TELEMETRY'))"
    wanted = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    for chosen, expected in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "true"}, "true")):
        answer = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=wanted | chosen
        )
        assert answer.stdout == f"{expected}\n"
        assert not list(tmp_path.iterdir())


def test_every_public_name_loads_and_is_documented() -> None:
    import mien

    assert set(mien.__all__) >= {"__version__", *mien._PUBLIC}
    for name in set(mien.__all__) - {"__version__"}:
        assert inspect.getdoc(getattr(mien, name)), name
    assert {*mien.__all__, *PACKAGES} - {"cli"} <= set(dir(mien))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = mien.nonsense


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = errors.__doc__ or ""
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.MienError):
            assert re.search(rf"(^| ){name}( |$)", drawn, re.MULTILINE), f"{name} is not in the drawing"


def defaults_of(command: object) -> dict[str, object]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(command).parameters.items()  # type: ignore[arg-type]
        if parameter.default is not inspect.Parameter.empty
    }


def test_command_line_and_python_have_the_same_defaults() -> None:
    from mien.data import datasets
    from mien.training import trainer

    of_train = defaults_of(commands()["train"])
    assert of_train["runs"] == inspect.signature(trainer.fit).parameters["runs"].default
    assert of_train["split_seed"] == inspect.signature(datasets.load).parameters["seed"].default
    assert defaults_of(commands()["evaluate"])["split_seed"] == of_train["split_seed"]


def test_every_command_takes_json() -> None:
    for name, command in commands().items():
        assert "json" in inspect.signature(command).parameters, name  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_answers_help_and_refuses_an_unknown_option(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert name in shown
    assert not re.search(r"<(list|str|int|float|path|file|bool)", shown), "give the option a metavar"
    assert cli.run([name, "--nonsense"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_the_tree_is_small_and_names_no_machine() -> None:
    files = tracked()
    assert sum(path.stat().st_size for path in files) < 16_000_000
    for path in files:
        if path.suffix in {".py", ".md", ".toml", ".ipynb", ".yml", ""} and path != Path(__file__):
            text = path.read_text(encoding="utf-8", errors="ignore")
            found = re.search(r"(?<![\w./-])/(?:work|root|home|Users)/\w+", text)
            assert not found, f"{path.name}: {found and found[0]}"
            assert (
                "registry" not in text or "http" not in text or not re.search(r"https?://\S*/simple/", text)
            )


def test_the_version_is_said_once() -> None:
    import mien

    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", mien.__version__)
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]
    assert cli.FAULT == 70
    assert issubclass(typer.BadParameter, typer.TyperException)
