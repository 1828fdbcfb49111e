"""The scripts in examples/ run, and print what they promise."""

import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mien
from mien.data import synthetic
from test_api import make_video

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.fixture
def run(away: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run an example in a folder with photo.jpg, photos and faces; return what it prints."""
    from skimage.data import astronaut

    Image.fromarray(astronaut()[:320, :400]).save("photo.jpg", quality=95)
    Path("photos").mkdir()
    shutil.copy("photo.jpg", "photos/smile.jpg")
    Path("photos/broken.jpg").write_bytes(b"\xff\xd8\xff")

    def call(name: str, *arguments: str) -> str:
        monkeypatch.setattr("sys.argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return call


def needs(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")


def test_every_example_is_short_and_listed():
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for name in SCRIPTS:
        assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 40
        assert f"({name})" in listed


def test_photo(run):
    face = mien.predict("photo.jpg").faces[0]
    assert run("photo.py", "photo.jpg", "marked.png").startswith(f"{face.emotion} {face.confidence:.0%}")
    with Image.open("marked.png") as marked:
        assert marked.size == (400, 320)


def test_folder_to_pandas(run):
    needs("pandas")
    shown = run("folder_to_pandas.py", "photos")
    assert "photos/smile.jpg" in shown
    assert "happy" in shown.splitlines()[-2]


def test_video_timeline(run):
    needs("av", "matplotlib")
    make_video(Path("interview.mp4"))
    shown = run("video_timeline.py", "interview.mp4", "timeline.png")
    assert shown.startswith("person 1, 0.0 s to 0.2 s: happy")
    with Image.open("timeline.png") as timeline:
        assert timeline.size[0] > 400
    assert Path("faces.csv").read_text().count("\n") > 1


def test_webcam_takes_a_film(run):
    needs("av", "cv2")
    make_video(Path("interview.mp4"))
    lines = run("webcam.py", "interview.mp4", "--headless").splitlines()
    assert len(lines) == 6
    assert all(line.startswith("happy") for line in lines)


@pytest.mark.long
def test_own_classes(run):
    needs("tensorflow")
    faces, labels, _ = synthetic.sample(60, seed=3, size=48)
    for number, (face, label) in enumerate(zip(faces, labels, strict=True)):
        path = Path("faces") / ("smile" if label == 3 else "other") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face[:, :, 0]).save(path)
    assert "test images" in run("own_classes.py", "faces", "runs/mine", "fast")
    assert mien.load_model("runs/mine").card.labels == ("other", "smile")


@pytest.mark.slow
def test_ray_data(run):
    """In a network of its own with loopback only, by the command of the guide."""
    needs("ray", "pyarrow")
    guide = (EXAMPLES.parent / "docs" / "guides" / "many-machines.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"```text\n(unshare .*?)\n```", guide, re.DOTALL)
    if subprocess.run(["unshare", "--map-root-user", "--net", "true"], check=False).returncode:
        pytest.skip("this machine lets nobody make a network namespace")
    for number in range(70):
        shutil.copy("photo.jpg", f"photos/{number:02}.jpg")
    command = command.replace("python examples", f"{sys.executable} {EXAMPLES}")
    subprocess.run(["bash", "-c", command], check=True, timeout=300)
    from pyarrow import parquet

    rows = parquet.read_table("predictions").to_pylist()
    expected = [
        row
        for item in mien.predict_files("photos")
        if isinstance(item, mien.Prediction)
        for row in item.rows()
    ]
    assert len(rows) == 71
    for found, row in zip(sorted(rows, key=lambda row: row["source"]), expected, strict=True):
        assert Path(found["source"]) == Path(row["source"]).absolute()
        assert found["emotion"] == row["emotion"] == "happy"
        assert found["confidence"] == np.float32(row["confidence"])
        assert all(found[name] == row[name] for name in ("face", "left", "top", "width", "height", "flags"))


@pytest.mark.parametrize(("name", "int8"), [("onnx", False), ("litert", False), ("litert", True)])
def test_exported_models_need_no_mien(run, tiny_run, name, int8):
    if name == "litert":
        needs("tensorflow", "ai_edge_litert", *(["ai_edge_quantizer"] if int8 else []))
    model = mien.load_model(tiny_run)
    target = f"model.{'tflite' if name == 'litert' else 'onnx'}"
    mien.export(tiny_run, name, target, int8=int8)
    pixels = synthetic.sample(1, seed=5, size=model.card.size)[0]
    Image.fromarray(pixels[0, :, :, 0]).save("face.png")
    lines = [line.split() for line in run(f"plain_{name}.py", target, "face.png").splitlines()]
    assert [label for label, _ in lines] == list(model.card.labels)
    shown = [float(probability) for _, probability in lines]
    assert np.abs(np.array(shown) - model.run(pixels)[0]).max() < (2e-2 if int8 else 2e-3)


#: Packages of each example, and arguments that name a text file instead of an image, a film, data or a model.
USES = {
    "folder_to_pandas.py": (("pandas",), ("broken",)),
    "own_classes.py": ((), ("broken", "runs/mine")),
    "photo.py": ((), ("broken", "marked.png")),
    "plain_litert.py": (("ai_edge_litert",), ("broken", "photo.jpg")),
    "plain_onnx.py": ((), ("broken", "photo.jpg")),
    # For a whole folder, a file that cannot be read is skipped and not an error.
    "ray_data.py": (("ray",), ("nowhere", "predictions")),
    "video_timeline.py": (("av", "matplotlib"), ("broken", "timeline.png")),
    "webcam.py": (("cv2",), ("broken",)),
}


@pytest.mark.parametrize("given", ["none", "broken", "missing"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_bad_arguments_end_with_a_usage_line(run, capsys, name, given):
    packages, arguments = USES[name]
    needs(*packages)
    Path("broken").write_text("this is text")
    Path("labels.txt").write_text("happy\n")
    # Without arguments, the webcam's script opens the first camera, which a machine may have.
    changed = {"none": ["--what"] if name == "webcam.py" else [], "broken": arguments}
    with pytest.raises(SystemExit) as left:
        run(name, *changed.get(given, ["nowhere", *arguments[1:]]))
    shown = capsys.readouterr().err
    assert left.value.code == 2
    assert f"usage: {name}" in shown
    assert "Traceback" not in shown
    if given == "missing":
        assert "nowhere" in shown
