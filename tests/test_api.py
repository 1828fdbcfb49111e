"""The public names of mien: each is documented, and its example runs."""

import contextlib
import doctest
import importlib.util
import inspect
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

import builders
import mien
from builders import refused
from mien.training.recipes import get, override, to_toml

NEEDS = {"analyze_video": "av", "audit": "jinja2", "ship": "keras", "train": "keras", "tune": "optuna"}


@pytest.fixture
def place(away: Path, faces: Path, tiny_run: Path) -> Path:
    """A folder with what the examples name: photo.jpg, photos, faces.zip and a finished run."""
    Path("photos").mkdir()
    photo = Image.fromarray(astronaut()[:320, :400])
    for name in ("photo.jpg", "photos/smile.jpg"):
        photo.save(name, quality=95)
    shutil.copy(faces / "faces.zip", "faces.zip")
    shutil.copytree(tiny_run, "runs/tiny-run")
    return away


@pytest.fixture
def small() -> Iterator[None]:
    """Small exports and placeholders for figures."""
    with builders.few_comparisons(), builders.placeholder_figures():
        yield


def make_video(path: Path) -> None:
    import av
    import numpy as np

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 400, 320, "yuv420p"
        for _ in range(6):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(astronaut()[:320, :400]))
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


@pytest.mark.parametrize("name", [*sorted(mien._PUBLIC), "MienError"])
def test_the_example_of_a_public_name_runs(name: str, place: Path) -> None:
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"needs {NEEDS[name]}")
    if name == "analyze_video":
        make_video(place / "interview.mp4")
    text = inspect.getdoc(getattr(mien, name)) or ""
    assert "Example:" in text
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    assert example.examples
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    trains = NEEDS.get(name) == "keras" or name in ("export", "resume", "train_folds", "tune")
    with builders.small_work() if trains else contextlib.nullcontext():
        assert runner.run(example, out=report.append).failed == 0, "".join(report)


def test_every_error_is_a_public_name() -> None:
    defined = {name for name, each in vars(mien.errors).items() if inspect.isclass(each)}
    assert defined == set(mien._ERRORS) <= set(mien.__all__)
    assert all(getattr(mien, name) is getattr(mien.errors, name) for name in defined)


def test_train_takes_a_data_set_a_recipe_file_and_a_base(place: Path, small: None) -> None:
    pytest.importorskip("keras", reason="training needs mien[train]")
    chosen = override(get("quick"), ["epochs=1", "network=toy", "size=16"])
    Path("mine.toml").write_text(to_toml(chosen), encoding="utf-8")
    stages: set[str] = set()
    first = mien.train(
        "faces.zip", "mine.toml", split_seed=7, progress=lambda stage, done, total: stages.add(stage)
    )
    assert first.recipe() == chosen
    assert first.facts()["data"]["origin"]["seed"] == 7
    assert {"reading faces.zip", "epoch 1/1"} <= stages
    dataset = mien.load_dataset("faces.zip", size=16)
    second = mien.train(dataset, settings={"epochs": 1, "batch_size": 8}, base=first.path, out="second")
    assert (second.recipe().network, second.recipe().size, second.recipe().batch_size) == ("toy", 16, 8)
    assert second.facts()["began"]["name"]


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("data", {"data": 3}),
        ("recipe", {"recipe": 3}),
        ("settings", {"settings": 3}),
        ("out", {"out": 3}),
        ("runs", {"runs": None}),
        ("votes", {"votes": 3}),
        ("exclude", {"exclude": [3]}),
        ("teacher", {"teacher": 3}),
        ("split_seed", {"split_seed": "x"}),
        ("base", {"base": 3}),
    ],
)
def test_train_names_an_argument_of_a_wrong_type(argument: str, options: dict[str, Any]) -> None:
    pytest.importorskip("keras", reason="training needs mien[train]")
    functions = [mien.train] if argument in ("base", "teacher") else [mien.train, mien.train_folds]
    for function in functions:
        with pytest.raises(mien.InputError, match=rf"^{argument}\b"):
            function(**{"data": "faces.zip", **options})


def test_resume_takes_data_that_has_moved_and_calls_back(place: Path, small: None) -> None:
    pytest.importorskip("keras", reason="training needs mien[train]")
    run = mien.train("faces.zip", settings=["epochs=1", "network=toy", "size=16"])
    dataset, seen = mien.load_dataset("faces.zip", size=16), []
    Path("faces.zip").rename("moved.zip")
    with pytest.raises(mien.InputError, match="--data"):
        mien.resume(run)
    for data in ("moved.zip", dataset):
        assert mien.resume(run.path, data, on_dataset=seen.append).facts() == run.facts()
    assert [each.fingerprint for each in seen] == [dataset.fingerprint] * 2
    for argument, options in {"run": {"run": 3}, "data": {"data": 3}, "teacher": {"teacher": 3}}.items():
        with pytest.raises(mien.InputError, match=rf"^{argument}\b"):
            mien.resume(**{"run": run, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("folds", [1, 2.5, True])
def test_folds_are_at_least_two(folds: Any) -> None:
    with pytest.raises(mien.InputError, match="--folds"):
        mien.train_folds("faces.zip", folds=folds)


@pytest.mark.parametrize(
    ("argument", "function", "given", "options"),
    [
        ("models", "evaluate", [[]], {"data": "faces.zip"}),
        ("models", "evaluate", [3], {"data": "faces.zip"}),
        ("groups", "evaluate", ["fast"], {"data": "faces.zip", "groups": {"a": "b"}}),
        ("data", "audit", [None], {}),
        ("size", "audit", ["faces.zip"], {"size": "x"}),
        ("source", "load_dataset", [None], {}),
        ("path", "load_model", [3], {}),
        ("target", "resolve", [3], {}),
        ("model", "predict", ["photo.jpg"], {"model": 3}),
        ("b", "compare", ["fast", 3], {"data": "faces.zip"}),
        ("average", "ship", ["runs/tiny-run"], {"average": 3}),
        ("target", "export", [3], {}),
        ("target", "write_card", [3], {}),
    ],
)
def test_an_argument_of_a_wrong_type_is_named(
    argument: str, function: str, given: list[Any], options: dict[str, Any], place: Path
) -> None:
    with pytest.raises(mien.InputError, match=rf"^{argument}\b"):
        getattr(mien, function)(*given, **options)


@pytest.mark.parametrize("name", ["predict", "predict_many", "analyze_video"])
def test_an_unknown_keyword_names_the_function(name: str) -> None:
    with refused(TypeError, f"{name}()", "'modell'"):
        getattr(mien, name)(["photo.jpg"], modell="fast")


def test_functions_take_what_is_loaded(place: Path) -> None:
    dataset, model = mien.load_dataset("faces.zip"), mien.load_model("fast")
    assert mien.compare("default", model, data=dataset).comparison.n == 42
    assert mien.write_card(model).text == mien.write_card("fast").text
    run = mien.load_model("runs/tiny-run")
    assert mien.write_card(run).models == ("tiny-run",)
    counts = mien.audit(dataset, exclusions="exclude.csv").report.counts
    assert counts.items() <= mien.audit("faces.zip").report.counts.items()
    with pytest.raises(mien.InputError, match="fix"):
        mien.audit(dataset, fix="clean")
    pixels = np.asarray(Image.open("photo.jpg"))
    for image in (pixels, Path("photo.jpg").read_bytes()):
        assert mien.explain(image, to="why", model=model).faces[0].why.answer == "happy"


@pytest.mark.parametrize(
    "given", [{"votes": "v.csv"}, {"exclude": "x.csv"}, {"seed": 0}, {"seed": 1, "exclude": ["x.csv"]}]
)
@pytest.mark.parametrize("function", ["evaluate", "compare"])
def test_a_loaded_data_set_is_not_read_in_another_way(
    function: str, given: dict[str, Any], place: Path
) -> None:
    dataset = mien.load_dataset("faces.zip")
    with refused(mien.InputError, *given, "load_dataset"):
        getattr(mien, function)(
            *(["fast"] if function == "evaluate" else ["fast", "fast"]), data=dataset, **given
        )


def test_a_video_takes_a_model_and_a_rate(place: Path) -> None:
    pytest.importorskip("av")
    make_video(place / "interview.mp4")
    summary = mien.analyze_video("interview.mp4", model="fast", fps=5)
    assert 0 < summary.analyzed < summary.frames


def test_import_takes_less_than_50_ms() -> None:
    code = "import time; begin = time.process_time(); import mien; print(time.process_time() - begin)"
    seconds = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )
    assert seconds < 0.05


def test_a_shipped_model_is_not_shipped_again() -> None:
    with pytest.raises(mien.InputError, match="fast"):
        mien.ship("fast")


def test_a_recipe_file_must_be_toml(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text("{}")
    with pytest.raises(mien.InputError, match=r"recipe\.json"):
        mien.api.choose_recipe(file)
