"""The scripts that make the tables, on a network whose answers are known: it reads how bright a face is."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from mien.data import synthetic
from mien.evaluation import calibration
from mien.evaluation.memorised import TrainingDuplicates
from mien.labels import EMOTIONS
from mien.models import model_files

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
#: Each emotion's grey level.
LEVELS = 30 + 30 * np.arange(len(EMOTIONS))


def by_brightness() -> bytes:
    """A network that answers with the emotion whose grey level is nearest to the image's mean."""
    weights = {
        "weight": (2 * LEVELS[None] / 100).astype(np.float32),
        "bias": (-(LEVELS**2) / 100).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["features"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["features"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["planes"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 48, 48, 1])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", len(EMOTIONS)]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 48, 48, 1]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model and a csv in which every face is one even grey."""
    model_files.write(
        by_brightness(), model_files.Card(name="grey", labels=EMOTIONS, size=48), tmp_path / "model"
    )
    rows = ["emotion,pixels,Usage"]
    for usage in ("Training", "PublicTest"):
        rows += [f"{label},{' '.join([str(level)] * 48 * 48)},{usage}" for label, level in enumerate(LEVELS)]
    (tmp_path / "fer2013.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def run(script: str, folder: Path, *words: str) -> tuple[str, dict]:
    command = [sys.executable, BENCHMARKS / script, f"one={folder / 'model'}", "--without-fer"]
    command += ["--data", folder / "fer2013.csv", "--json", folder / "figures.json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "figures.json").read_text())


def test_robustness_counts_who_is_right_under_each_corruption(folder: Path) -> None:
    table, figures = run("robustness.py", folder, "--only", "brightness -64", "scale 0.75")
    rights = [row["scores"]["one"]["right"] for row in figures["rows"]]
    # Darker by 64, all but the darkest are taken for another.
    assert rights == [7, 1, 7]
    assert figures["mean_of_kinds"]["one"] == pytest.approx((1 / 7 + 1) / 2)
    assert figures["n"] == 7
    assert "| brightness -64 | 14.3 (2.6–51.3) |" in table  # Wilson, 1 of 7
    assert str(folder) not in table + json.dumps(figures)


def test_inference_times_one_face_and_batches_and_scores_them(folder: Path) -> None:
    words = ["--threads", "1", "--repeats", "1", "--seconds", "0.05"]
    table, figures = run("inference.py", folder, *words, f"two={folder / 'model' / 'model.onnx'}")
    tasks = [(row["contender"], row["task"]) for row in figures["figures"]]
    assert tasks == [("one", "batch"), ("one", "one"), ("two", "batch"), ("two", "one")]
    for row in figures["figures"]:
        assert 0 < row["fastest_ms"]["min"] <= row["ms"]["min"] <= row["ms"]["median"] <= row["ms"]["max"]
        assert 10 < row["peak_mb"]["median"] < 1000
        assert row["against_fer"] is None
    assert {score["right"] for score in figures["accuracy"]["scores"].values()} == {7}
    assert figures["files"]["one"] == figures["files"]["two"]
    assert "100.0 (64.6–100.0)" in table  # Wilson, 7 of 7
    assert str(folder) not in table + json.dumps(figures)


def test_two_contenders_of_one_name_are_told_apart_or_refused(folder: Path) -> None:
    command = [sys.executable, BENCHMARKS / "inference.py", "--without-fer"]
    for words, reason in (
        ([folder / "model"] * 2, "two contenders are called grey; give each a name, as in NAME=PATH"),
        ([], "nobody takes part; name a model"),
        ([folder / "nothing"], "there is no"),
    ):
        done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode != 0
        assert reason in done.stderr


def test_a_photo_is_answered_and_measured() -> None:
    command = [sys.executable, str(BENCHMARKS / "photo.py"), "--repeats", "1"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "mien: faces: 1, 1, 1" in said
    assert "mien: peak, MiB: " in said


@pytest.fixture
def levers() -> ModuleType:
    return script("levers")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cutmix_mixes_targets_as_it_mixes_pixels(levers: ModuleType) -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(3), 40).astype(np.float32)
    images = np.repeat(np.rint(250 * shares[:, :1]).astype(np.uint8), 48 * 48, axis=1).reshape(40, 48, 48, 1)
    untouched = 0
    for seed in range(20):
        made, wanted = levers._cut(images, {"answer": shares}, np.random.default_rng(seed))
        untouched += made is images
        np.testing.assert_allclose(made.mean(axis=(1, 2, 3)) / 250, wanted["answer"][:, 0], atol=0.003)
        np.testing.assert_allclose(wanted["answer"].sum(axis=1), 1, atol=1e-6)
    assert 2 < untouched < 18


def test_a_model_that_knows_all_has_no_calibration_error_and_needs_none(folder: Path) -> None:
    command = [sys.executable, BENCHMARKS / "calibration_floor.py", folder / "fer2013.csv", folder / "model"]
    said = subprocess.run([*map(str, command), "--draws", "20"], check=True, capture_output=True, text=True)
    own, perfect = re.search(r"model: ([\d.]+)% across folds, n = 7; ([\d.]+)% \(", said.stdout).groups()
    # By brightness it names every face with certainty, so chance has nothing to draw.
    assert float(own) < 1
    assert float(perfect) == pytest.approx(float(own), abs=1)


def test_offsets_pulled_once_are_those_that_ship_takes() -> None:
    fits = script("calibration_fits")
    random = np.random.default_rng(0)
    chances, truth = random.dirichlet(np.ones(4), 300), random.integers(0, 4, 300)
    temperature, logit_bias = calibration.fit_logit_bias(chances, truth)
    found = fits.pulled(1.0)(chances, truth)
    assert found[0] == pytest.approx(temperature, rel=0.01)
    assert found[1] == pytest.approx(logit_bias, abs=0.01)
    assert np.abs(fits.pulled(1e6)(chances, truth)[1]).max() < 1e-3
    parts = list(calibration._folds(truth, 5, 0))
    assert (np.sum(parts, axis=0) == 1).all()


def test_own_faces_are_of_the_class_that_their_emotion_belongs_to(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = script("own_faces")
    monkeypatch.setattr(own, "TRAIN", 3)
    monkeypatch.setattr(own, "VAL", 1)

    def copies(images: np.ndarray, train: np.ndarray, *, include_recrops: bool) -> TrainingDuplicates:
        assert include_recrops
        none = np.zeros(len(images), bool)
        return TrainingDuplicates(none, none, images.mean(axis=(1, 2, 3)) == LEVELS[0])

    monkeypatch.setattr(own, "find_training_duplicates", copies)
    words = ["own_faces.py", str(folder / "fer2013.csv"), "--to", str(folder / "own")]
    monkeypatch.setattr(sys, "argv", words)
    own.main()
    assert capsys.readouterr().out.endswith("own: 3 train, 1 val, 1 test\n")
    wanted = dict(zip(LEVELS.tolist(), EMOTIONS, strict=True))
    made = sorted((folder / "own").glob("*/*/*.png"))
    assert [path.parent.parent.name for path in made].count("train") == 3
    emotions = [wanted[int(np.asarray(Image.open(path)).mean())] for path in made]
    # Of the first emotion's face training holds the photograph.
    assert sorted(emotions) == sorted(set(EMOTIONS) - {EMOTIONS[0], "surprise"})
    assert [path.parent.name for path in made] == [own.CLASSES[emotion] for emotion in emotions]


@pytest.mark.parametrize(
    "lever",
    ["sam", *(pytest.param(name, marks=pytest.mark.slow) for name in ("progressive", "swa", "squeeze"))],
)
def test_levers_train_and_are_scored(
    levers: ModuleType,
    lever: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("keras", reason="training needs mien[train]")
    synthetic.write_archive(tmp_path / "faces.zip", train=128, val=14, test=0, seed=1)
    words = ["--lever", lever, "--recipe", "demo", "--set", "epochs=6", "--set", "augment.flip=false"]
    monkeypatch.setattr(sys, "argv", ["levers.py", str(tmp_path / "faces.zip"), *words])
    levers.main()
    said = capsys.readouterr()
    figures = json.loads(said.out)
    losses = [float(line.split()[-1]) for line in said.err.splitlines() if line.startswith("epoch")]
    assert len(losses) == 6
    assert losses[-1] < 0.95 * losses[0]
    assert figures["n"] == 14
    assert figures["lever"] == lever
    assert figures["cpu_seconds"] > 0


def test_balances_are_tabled_for_a_model_without_frequencies(folder: Path) -> None:
    words = ["--data", folder / "fer2013.csv", "--json", folder / "figures.json"]
    command = [sys.executable, BENCHMARKS / "balance.py", folder / "model", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads((folder / "figures.json").read_text()).values()
    assert len(found["balance"]) == 5
    assert len(found["shift"]) == 5 * (1 + len(EMOTIONS))
    assert all(row["accuracy"] == pytest.approx(1) for row in (*found["balance"], *found["shift"]))
    assert "T = 0.25" in done.stdout


def test_tables_of_paths_are_listed_and_timed() -> None:
    command = [sys.executable, BENCHMARKS / "sources.py", "tables", "--rows", "1500"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    there, absent = done.stdout.splitlines()[-2:]
    assert there.split()[:3] == ["there", "1,500", "images"]
    assert absent.split()[:2] == ["absent", "refused"]
