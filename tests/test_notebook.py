"""The notebooks, run as a reader runs them: all cells, on drawn faces, with mien from its wheel.

Their kernel is that of a new environment, which sees the packages of this one but not mien: the cell that
installs really installs the wheel.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import types
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import PIL
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

from mien.data import synthetic
from mien.models import model_files
from mien.training import runs

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "colab.ipynb"
KAGGLE = ROOT / "notebooks" / "kaggle.ipynb"
both = pytest.mark.parametrize("path", [NOTEBOOK, KAGGLE], ids=lambda path: path.stem)
ARCHIVE = "archive (drawn).zip"


def read(path: Path = NOTEBOOK) -> Any:
    return nbformat.read(path, as_version=4)


def source(name: str) -> str:
    return str(next(cell.source for cell in read().cells if cell.id == name))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="the build backend is in the extra dev")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("mien-*.whl"))


def execute(folder: Path, *notebooks: Any) -> None:
    """Run the cells of notebooks in `folder`, in one kernel; no kernel or setting of the user has a say."""
    if not (folder / "kernels").exists():
        venv.create(folder / "environment", symlinks=os.name != "nt")
        python = folder / "environment" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        site = subprocess.check_output(
            [python, "-c", "import site; print(site.getsitepackages()[0])"], text=True
        )
        # A path in a .pth file: the packages there are seen, and its own .pth files, such as mien's, are not.
        (Path(site.strip()) / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
        spec = {
            "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "mien",
            "language": "python",
        }
        (folder / "kernels" / "python3").mkdir(parents=True)
        (folder / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    joined = nbformat.v4.new_notebook()
    for number, notebook in enumerate(notebooks):
        if number:  # TensorFlow is loaded once; all names are forgotten
            joined.cells.append(nbformat.v4.new_code_cell("%reset -f", id=f"reset-{number}"))
        joined.cells += notebook.cells
    client = NotebookClient(
        joined, kernel_name="python3", timeout=300, resources={"metadata": {"path": str(folder)}}
    )
    specs = KernelSpecManager(kernel_dirs=[str(folder / "kernels")], ensure_native_kernel=False)
    client.create_kernel_manager().kernel_spec_manager = specs
    client.execute()


def colab(*, again: str | None = None, without: str | None = None) -> Any:
    """Return the notebook for Colab without a cell, and with another one once more at its end."""
    notebook = read()
    notebook.cells = [cell for cell in notebook.cells if cell.id != without]
    if again:
        notebook.cells.append(nbformat.v4.new_code_cell(source(again), id=f"{again}-again"))
    return notebook


def text(notebook: Any, name: str) -> str:
    cell = next(cell for cell in notebook.cells if cell.id == name)
    shown = (output.get("text") or output.data.get("text/markdown", "") for output in cell.outputs)
    return "".join(shown)


def pictures(notebook: Any) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheel: Path) -> Path:
    """An empty folder to run in, whose `mien-drive` and `input` have an archive and mien's wheel."""
    synthetic.write_archive(tmp_path / "mien-drive" / ARCHIVE, train=140, val=70, test=70, seed=1)
    (tmp_path / "input" / "mien").mkdir(parents=True)
    shutil.copy(tmp_path / "mien-drive" / ARCHIVE, tmp_path / "input")
    for folder in ("mien-drive", "input/mien"):
        shutil.copy(wheel, tmp_path / folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("MIEN_NOTEBOOK_BASE", "")
    monkeypatch.setenv("MIEN_NOTEBOOK_RECIPE", "quick")
    monkeypatch.setenv("MIEN_NOTEBOOK_ARCHIVE", ARCHIVE)
    monkeypatch.setenv("MIEN_NOTEBOOK_SETTINGS", "network=tiny epochs=2 precision=float32")
    monkeypatch.delenv("MIEN_NOTEBOOK_DRIVE", raising=False)
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


@pytest.mark.long
@pytest.mark.parametrize("disconnects", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_trains_measures_saves_and_shows_then_goes_on_after_a_disconnect(
    place: Path, disconnects: bool
) -> None:
    first, kaggle = colab(), read(KAGGLE)
    execute(place, first, kaggle)
    drive = place / "mien-drive"
    made = runs.open_run(drive / "mien-runs" / "quick-1")
    facts = made.facts()
    assert facts["status"] == "done"
    assert facts["shipped"]["epoch"] == len(made.history()) == made.recipe().epochs == 2
    for split, n in (("val", 70), ("test", 70)):
        report = json.loads((made.evaluation / f"{split}.json").read_text())
        assert report["n"] == n
        assert f"{split}: {report['accuracy']:.2%} of {n} images are right" in text(first, "evaluate")

    saved = drive / "mien-models" / "quick-1"
    files = {"card.json", "labels.txt", "model.h5", "model.keras", "model.onnx"}
    assert {path.name for path in saved.iterdir()} == files
    assert model_files.load(saved).card.sha256 == facts["shipped"]["sha256"]
    drawn_figures = {path.stem for path in made.figures.glob("*.png")}
    assert {"loss", "accuracy", "confusion-val", "confusion-test", "samples"} <= drawn_figures
    assert pictures(first) == len(drawn_figures)
    check_kaggle(place / "working", kaggle)

    if not disconnects:
        return
    # What is left on Drive when the machine is lost after the first epoch.
    history = made.history()
    (made.model_folder / model_files.MODEL).unlink()
    max((made.path / "checkpoints").glob("state-*.npz")).unlink()
    made.update(status="training", shipped={})
    second = colab(again="train", without="save")
    execute(place, second)
    assert made.facts()["status"] == "done"
    assert made.facts()["shipped"] == facts["shipped"]
    assert [drop_clocks(row) for row in made.history()] == [drop_clocks(row) for row in history]
    assert made.history()[0] == history[0], "the first epoch was trained again"
    assert "epoch 2 of 2, step" in text(second, "train")
    # What is done is not trained again: its line never moves.
    assert text(second, "train-again").startswith(
        "preparing" + "the model file has the weights of epoch 2 of 2"
    )
    assert pictures(second) == pictures(first)
    assert text(second, "evaluate") == text(first, "evaluate")


def check_kaggle(working: Path, notebook: Any) -> None:
    made = runs.open_run(working / "runs" / "kaggle-1")
    assert made.facts()["status"] == "done"
    assert model_files.load(working / "model").card.sha256 == made.facts()["shipped"]["sha256"]
    assert "test: " in text(notebook, "evaluate")
    assert text(notebook, "use").count("the label is") == 5
    assert (working / "audit.html").is_file()


def drop_clocks(row: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in row.items() if key not in runs.CLOCKS}


@both
def test_is_stored_without_results_and_names_no_other_place(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert cell.cell_type in ("code", "markdown")
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    paths = set(re.findall(r"(?<![\w./])(?:/|[A-Za-z]:\\|~/)[\w.-]+(?:/[\w.-]+)*", path.read_text()))
    colab = {"/content/drive", "/content/drive/MyDrive"}
    assert paths == (colab if path == NOTEBOOK else {"/kaggle/input", "/kaggle/working"})


@both
def test_is_in_plain_english(path: Path, tmp_path: Path) -> None:
    cells = read(path).cells
    (tmp_path / "page.md").write_text(
        "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    )
    (tmp_path / "code.py").write_text("\n\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    command = [sys.executable, str(ROOT / "tools" / "language.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_on_colab_drive_is_mounted_and_local_settings_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    mounted: list[str] = []
    colab: Any = types.ModuleType("google.colab")
    colab.drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setenv("MIEN_NOTEBOOK_DRIVE", "elsewhere")
    monkeypatch.setenv("MIEN_NOTEBOOK_SETTINGS", "epochs=1")
    names: dict[str, Any] = {}
    exec(source("settings"), names)
    assert mounted == ["/content/drive"]
    assert names["DRIVE"] == Path("/content/drive/MyDrive")
    assert names["SETTINGS"] == []


def install(monkeypatch: pytest.MonkeyPatch, drive: Path) -> list[list[str]]:
    """Run the cell that installs as if mien were not there; returns the commands it would have run."""
    real, ran = importlib.util.find_spec, []

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == "mien" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(subprocess, "run", lambda command, check: ran.append(command))
    exec(source("install"), {"DRIVE": drive, "MIEN": "mien-*.whl"})
    return ran


def test_installs_the_newest_wheel_beside_the_tensorflow_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, name in enumerate(("mien-0.10.0-py3-none-any.whl", "mien-0.9.0-py3-none-any.whl")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    ran = install(monkeypatch, tmp_path)
    wheel = f"{tmp_path / 'mien-0.10.0-py3-none-any.whl'}[train,plot]"
    assert ran == [[sys.executable, "-m", "pip", "install", "--quiet", wheel]]

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    brought = [*project["dependencies"], *extras["train"], *extras["plot"]]
    assert not [name for name in brought if re.match("tensorflow|jax|torch|mien", name)]


def test_asks_for_a_restart_when_a_loaded_package_was_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mien-0.1.0-py3-none-any.whl").touch()
    monkeypatch.setattr(PIL, "__version__", "11.3.0")
    assert version("pillow") != "11.3.0"
    with pytest.raises(RuntimeError, match="pillow"):
        install(monkeypatch, tmp_path)


def test_says_where_to_put_mien_when_it_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"make wheel"):
        install(monkeypatch, tmp_path)
