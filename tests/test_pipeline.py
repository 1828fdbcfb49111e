"""From an archive to a scored, exported model, through the command line, as a user would."""

import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import builders
from builders import has_line
from mien import _files, cli
from mien._text import format_command, format_duration
from mien.data import datasets, probabilities, synthetic
from mien.errors import OutputError
from mien.models import model_files
from mien.training import runs

pytest.importorskip("keras", reason="training needs mien[train]")

Json = Callable[..., tuple[int, Any]]
SETTINGS = ["--set", "epochs=2", "--set", "network=toy", "--set", "batch_size=32"]


@pytest.fixture(scope="session")
def archive(faces: Path) -> Path:
    return faces / "faces.zip"


@pytest.fixture
def trained(tiny_run: Path) -> Path:
    return tiny_run


@pytest.fixture
def full_work() -> None:
    """Ask for figures, and for comparisons of exports on all images."""


@pytest.fixture(autouse=True)
def _small_work(request: pytest.FixtureRequest) -> Iterator[None]:
    if "full_work" in request.fixturenames:
        yield
    else:
        with builders.few_comparisons(), builders.placeholder_figures():
            yield


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Json:
    """Run a command with --json; stdout must hold one document and nothing else."""

    def call(*arguments: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = cli.run([*arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must end with code 2, one line on stderr and nothing on stdout."""

    def call(*arguments: str) -> str:
        capsys.readouterr()
        assert cli.run(list(arguments)) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        lines = [line for line in captured.err.splitlines() if line.startswith("mien: ")]
        assert len(lines) == 1
        assert "Traceback" not in captured.err
        return lines[0]

    return call


@pytest.fixture
def follow(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run a command; returns the words of the one that it says comes next."""

    def call(*arguments: str) -> list[str]:
        capsys.readouterr()
        assert cli.run(list(arguments)) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: mien ")]
        return shlex.split(line)[2:]

    return call


def test_archive_to_prediction(away: Path, archive: Path, ask: Json, full_work: None) -> None:
    shutil.copy(archive, away / "archive (4).zip")

    code, unpacked = ask("extract", "archive (4).zip", "--to", "data")
    assert code == 0
    assert unpacked["files"] == 224
    assert not unpacked["found_done"]
    code, again = ask("extract", "archive (4).zip", "--to", "data")
    assert (code, again["found_done"]) == (0, True)

    code, document = ask("train", "data", "--recipe", "quick", *SETTINGS)
    assert code == 0
    assert document["run"] == str(Path("runs") / "quick-1")
    assert document["status"] == "done"
    assert document["val"]["n"] == 42
    made = runs.open_run(Path("runs/quick-1"))
    assert {path.suffix for path in made.figures.iterdir()} == {".png", ".svg"}
    assert {path.stem for path in made.figures.iterdir()} >= {"loss", "accuracy", "confusion-val", "samples"}
    assert all(Path(path).is_file() for path in document["figures"])

    code, scored = ask("evaluate", "runs/quick-1", "--split", "test")
    assert code == 0
    for key in ("n", "accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece"):
        assert isinstance(scored[key], int | float)
    low, high = scored["accuracy_interval"]
    assert 0 <= low <= scored["accuracy"] <= high <= 1
    assert json.loads((made.evaluation / "test.json").read_text())["accuracy"] == scored["accuracy"]
    assert (made.figures / "confusion-test.png").is_file()

    code, alone = ask(
        "evaluate", str(made.model_folder / "model.onnx"), "--data", "archive (4).zip", "--split", "test"
    )
    assert code == 0
    assert alone["accuracy"] == scored["accuracy"]
    assert alone["split_fingerprint"] == scored["split_fingerprint"]

    code, figures = ask("plot", "runs/quick-1")
    assert code == 0
    assert any(path.endswith("confusion-test.svg") for path in figures["figures"])

    image = np.zeros((1, 48, 48, 1), np.uint8)
    assert model_files.load(made.model_folder).run(image).shape == (1, 7)


@pytest.mark.parametrize("format_", ["onnx", "keras", "h5", "litert"])
def test_every_format_is_written_where_asked(
    trained: Path, tmp_path: Path, ask: Json, format_: str, full_work: None
) -> None:
    if format_ == "litert":
        pytest.importorskip("tensorflow")
    code, document = ask("export", str(trained), "--format", format_, "--to", str(tmp_path / "out"))
    assert code == 0
    assert Path(document["path"]).is_file()
    assert document["images"] >= 1000
    assert document["largest_difference"] <= 1e-4
    assert (tmp_path / "out" / "labels.txt").read_text().split() == list(runs.Run(trained).facts()["labels"])


def test_words_for_people_stand_on_stdout_without_json(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["evaluate", str(trained)]) == 0
    output = capsys.readouterr().out
    assert has_line(output, 42)
    assert "disgust" in output
    assert cli.run(["export", str(trained), "--format", "h5"]) == 0
    assert "model.h5" in capsys.readouterr().out
    assert cli.run(["plot", str(trained)]) == 0
    assert "loss.png" in capsys.readouterr().out
    assert cli.run(["networks"]) == 0
    assert "5,173,959" in capsys.readouterr().out
    assert cli.run(["recipes"]) == 0
    assert "quick" in capsys.readouterr().out
    assert cli.run(["recipes", "seed"]) == 0
    assert "rotation = 10.0" in capsys.readouterr().out


def test_networks_and_recipes_as_json(ask: Json) -> None:
    code, networks = ask("networks")
    assert code == 0
    seed = next(row for row in networks["networks"] if row["name"] == "seed")
    assert (seed["parameters"], seed["input"]) == (5_173_959, [48, 48, 1])
    assert seed["mflop"] == pytest.approx(7725.5, abs=0.1)
    code, recipes = ask("recipes")
    assert {recipe["name"] for recipe in recipes["recipes"]} >= {"seed", "quick"}
    assert ask("recipes", "seed")[1]["augment"]["rotation"] == 10


def test_a_printed_recipe_trains_again(
    away: Path, archive: Path, ask: Json, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.run(["recipes", "quick"])
    Path("mine.toml").write_text(capsys.readouterr().out)
    code, document = ask("train", str(archive), "--recipe", "mine.toml", *SETTINGS, "--set", "name=mine")
    assert code == 0
    assert document["run"] == str(Path("runs") / "mine-1")


def test_unreadable_images_are_skipped_listed_and_told_by_exit_code_3(
    away: Path, archive: Path, ask: Json
) -> None:
    cli.run(["extract", str(archive), "--to", "data"])
    broken = sorted(Path("data").rglob("train/happy/*.png"))[0]
    broken.write_bytes(broken.read_bytes()[:60])
    code, document = ask("train", "data", "--out", "run", *SETTINGS)
    assert code == 3
    assert [problem["file"].split("/")[-1] for problem in document["data"]["problems"]] == [broken.name]
    assert document["data"]["splits"]["train"]["n"] == 139
    classes = document["data"]["classes"]["train"]
    assert sum(classes.values()) == 139
    assert classes["happy"] == len(list(Path("data").rglob("train/happy/*.png"))) - 1
    assert ask("evaluate", "run")[0] == 3


def test_exclusions_go_into_the_run_and_the_card(
    away: Path, archive: Path, ask: Json, refuse: Callable[..., str]
) -> None:
    cli.run(["extract", str(archive), "--to", "data"])
    names = [
        path.relative_to("data").as_posix() for path in sorted(Path("data").rglob("train/sad/*.png"))[:3]
    ]
    with Path("leave.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["file", "reason"], *([name, "odd"] for name in names)])
    code, document = ask("train", "data", "--out", "run", "--exclude", "leave.csv", *SETTINGS)
    assert code == 0
    assert document["data"]["excluded"] == {"odd": 3}
    assert document["data"]["splits"]["train"]["n"] == 137
    assert model_files.load("run/model").card.excluded == {"odd": 3}
    assert ask("train", "--resume", "run")[1]["status"] == "done"
    Path("leave.csv").rename("moved.csv")
    assert ask("evaluate", "run")[1]["n"] == 42
    assert "--exclude" in refuse("train", "--resume", "run")
    assert (
        ask("train", "--resume", "run", "--exclude", "moved.csv", "--cache", "cache")[1]["status"] == "done"
    )
    shutil.copytree("data", "others")
    shutil.rmtree("others/data/train")
    assert ask("evaluate", "run", "--data", "others")[1]["n"] == 42


def test_a_teacher_is_asked_about_the_images_that_training_keeps(
    away: Path, trained: Path, archive: Path, ask: Json, refuse: Callable[..., str]
) -> None:
    split = datasets.load(archive).split("train")
    rows = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in split.images[:3]]
    Path("leave.csv").write_text("sha256\n" + "\n".join(rows) + "\n")
    left_out = ["--exclude", "leave.csv"]
    file_ = str(trained / "model")
    asked = ["evaluate", file_, "--data", str(archive), "--split", "train", "--probabilities", "taught.npz"]
    code, scored = ask(*asked, *left_out)
    assert code == 0
    kept = scored["n"]
    assert kept < 140
    student = ["train", str(archive), "--out", "student", "--teacher", "taught.npz", *SETTINGS]
    assert "fingerprint" in refuse(*student)
    code, made = ask(*student, *left_out)
    assert code == 0
    assert made["data"]["splits"]["train"]["n"] == kept
    beside = ["compare", "taught.npz", file_, "--data", str(archive), "--split", "train"]
    assert "taught.npz" in refuse(*beside)
    assert ask(*beside, *left_out)[1]["n"] == kept
    assert "--exclude" in refuse("evaluate", str(trained), *left_out)
    assert has_line(refuse("compare", str(trained), file_, *left_out), "--exclude", "--data")
    assert "leave.csv" in refuse(*asked[:-1], "leave.csv", *left_out)


def test_a_resumed_run_has_the_time_of_all_epochs(
    away: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", "--resume", str(trained)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = runs.Run(trained).history()
    for words, clock in (("time", "seconds"), ("processor time", "cpu_seconds")):
        (line,) = [line for line in lines if line.startswith(f" {words} of all epochs ")]
        assert line.split("epochs")[1].strip() == format_duration(sum(row[clock] for row in rows))
        assert any(line.startswith(f" {words} of this command ") for line in lines)


def test_votes_may_move_and_not_change(
    away: Path, ask: Json, refuse: Callable[..., str], follow: Callable[..., list[str]]
) -> None:
    faces, votes = builders.faces_csv(away)
    builders.tiny_run("tiny-run-votes", Path("run"), away)
    text = votes.read_text()
    votes.rename("moved.csv")
    assert "ferplus.csv" in refuse("train", "--resume", "run")
    assert ask("train", "--resume", "run", "--votes", "moved.csv")[1]["status"] == "done"
    words = follow("train", "--resume", "run", "--votes", "moved.csv")
    assert words == ["evaluate", "run", "--split", "test", "--data", str(faces)]
    assert cli.run(words) == 0
    assert ask("ship", "run", "--votes", "moved.csv", "--name", "moved")[0] == 0
    Path("other.csv").write_text(text.replace("PublicTest,face.png,10,0", "PublicTest,face.png,0,10"))
    for command in (["train", "--resume", "run"], ["ship", "run"]):
        assert "--votes" in refuse(*command, "--votes", "other.csv")


def test_a_run_begins_from_another(
    away: Path, trained: Path, archive: Path, ask: Json, refuse: Callable[..., str]
) -> None:
    code, made = ask("train", str(archive), "--from", str(trained), "--set", "epochs=1")
    assert code == 0
    assert made["run"] == str(Path("runs") / "tune-1")
    assert (made["recipe"]["network"], made["recipe"]["name"]) == ("toy", "tune")
    assert [each["name"] for each in made["base"]] == [trained.name]
    assert ask("train", "--resume", made["run"])[1]["status"] == "done"
    assert ask("card", made["run"], "--to", "card.md")[0] == 0
    assert f"| started from | `{trained.name}` (recipe `quick`) |" in Path("card.md").read_text()
    assert has_line(refuse("ship", made["run"], "--average", "fast"), "tune-1", "fast")
    assert "absent" in refuse("ship", made["run"], "--average", "absent")
    assert "xxx" in refuse("ship", made["run"], "--average", "x" * 300)
    assert "'./fast'" in refuse("ship", made["run"], "--average", "./fast")
    averaged = ["ship", made["run"], "--to", "models", "--name", "mean"]
    code, shipped = ask(*averaged, "--average", str(trained))
    assert code == 0
    assert [each.name for each in model_files.load(shipped["path"]).card.averaged] == [trained.name]
    kept = Path(shipped["path"]).read_bytes()
    assert "models/mean.onnx" in refuse(*averaged, "--average", shipped["path"])
    assert Path(shipped["path"]).read_bytes() == kept
    assert ask("card", "models", "--to", "models.md")[0] == 0
    assert f"| averaged with | `{trained.name}` (recipe `quick`) |" in Path("models.md").read_text()


@pytest.mark.slow
def test_a_run_begins_from_a_shipped_model(away: Path, archive: Path, ask: Json) -> None:
    code, tuned = ask("train", str(archive), "--from", "fast", "--set", "epochs=1")
    assert (code, tuned["recipe"]["network"]) == (0, "small")
    assert tuned["base"][0]["sha256"] == model_files.load("fast").card.sha256
    code, mean = ask("ship", tuned["run"], "--average", "fast", "--to", "models", "--name", "tuned-mean")
    assert code == 0
    card = model_files.load(mean["path"]).card
    assert ([each.name for each in card.averaged], list(card.heads)) == (["fast"], ["labels"])


def test_what_comes_next_can_be_done(away: Path, archive: Path, follow: Callable[..., list[str]]) -> None:
    words = follow("train", str(archive), "--out", "a run", *SETTINGS)
    assert words == ["evaluate", "a run", "--split", "test"]
    assert cli.run(words) == 0
    shutil.copy(archive, "moved.zip")
    words = follow("train", "moved.zip", "--resume", "a run")
    assert words == ["evaluate", "a run", "--split", "test", "--data", "moved.zip"]
    assert cli.run(words) == 0
    untested = str(synthetic.write_archive(Path("untested.zip"), train=70, val=14, test=0, seed=1))
    words = follow("train", untested, "--out", "untested", *SETTINGS)
    assert words == ["evaluate", "untested"]
    assert cli.run(words) == 0


def test_after_folds_comes_a_student_of_the_recipe_that_was_asked_for(
    away: Path, monkeypatch: pytest.MonkeyPatch, follow: Callable[..., list[str]]
) -> None:
    from mien.training import recipes, trainer

    def crossed(data: datasets.Dataset, recipe: recipes.Recipe, **options: Any) -> Path:
        return Path("folds/out-of-fold.npz")

    monkeypatch.setattr(trainer, "train_folds", crossed)
    data = str(synthetic.write_archive(Path("faces.zip"), train=70, val=14, test=0, seed=1))
    Path("mine.toml").write_text(recipes.to_toml(recipes.override(recipes.get("quick"), ["name=my"])))
    folds, teacher = ["--folds", "2"], ["--teacher", "folds/out-of-fold.npz"]
    assert follow("train", data, *folds) == ["train", data, "--recipe", "quick", *teacher]
    mine = ["train", data, "--recipe", "mine.toml", "--set", "epochs=2", "--set", "size=32"]
    assert follow(*mine, *folds) == [*mine, *teacher]
    for name in ("teacher", "teacher-vgg", "teacher-dense"):
        asked = ["train", data, "--recipe", name, "--set", "epochs=9", *folds]
        release = ["train", data, "--recipe", "release"]
        assert follow(*asked) == [*release, *teacher]
        asked += ["--set", "targets.ferplus=0", "--set", "size=32"]
        less = ["--set", "size=32", "--set", "targets.ferplus=0"]
        assert follow(*asked) == [*release, *less, *teacher]


@pytest.mark.long
def test_folds_teach_a_student_and_several_models_are_averaged(
    away: Path, trained: Path, archive: Path, ask: Json, refuse: Callable[..., str]
) -> None:
    code, made = ask("train", str(archive), "--folds", "2", "--out", "folds", *SETTINGS)
    assert code == 0
    assert made["path"] == "folds/out-of-fold.npz"
    assert made["images"] == 140
    weights = Path("folds/fold-2/model/model.onnx").read_bytes()
    assert ask("train", str(archive), "--folds", "2", "--out", "folds", *SETTINGS)[0] == 0
    assert Path("folds/fold-2/model/model.onnx").read_bytes() == weights
    assert "fold-1" in refuse("train", str(archive), "--folds", "2", "--out", "folds")
    assert "--teacher" in refuse("train", str(archive), "--folds", "2", "--teacher", "folds/out-of-fold.npz")

    assert ask("evaluate", str(trained), "--split", "train", "--probabilities", "direct.npz")[0] == 0
    taught = ["--teacher", "folds/out-of-fold.npz", "--teacher", "direct.npz"]
    code, student = ask("train", str(archive), "--out", "student", *taught, *SETTINGS)
    assert code == 0
    assert student["teacher"]["about"].startswith("mean of 2")
    assert ask("train", "--resume", "student")[1]["status"] == "done"
    assert "--teacher" in refuse("train", "--resume", "student", "--teacher", "direct.npz")
    assert "--teacher" in refuse("train", "--resume", str(trained), *taught)
    synthetic.write_archive(Path("other.zip"), train=70, val=14, test=0, seed=1)
    assert "fingerprint" in refuse("train", "other.zip", *taught)

    code, both = ask("evaluate", str(trained), "student/model", "--data", str(archive))
    assert code == 0
    one, two = model_files.load(trained / "model"), model_files.load("student/model")
    val = datasets.load(archive).split("val")
    mean = one.run(val.images) + two.run(val.images)
    assert both["accuracy"] == (mean.argmax(axis=1) == val.labels).mean()
    assert both["model"].split() == [one.card.sha256, two.card.sha256]


def test_the_mean_of_views_is_told_as_such_and_not_kept_for_the_run(
    trained: Path, tmp_path: Path, ask: Json, refuse: Callable[..., str]
) -> None:
    kept = trained / "evaluation" / "val.json"
    plain = ask("evaluate", str(trained))[1]
    before = kept.read_bytes()
    to = tmp_path / "views.npz"
    code, document = ask(
        "evaluate", str(trained), "--views", "10", "--table", "md", "--probabilities", str(to)
    )
    assert (code, plain["views"], document["views"]) == (0, 1, 10)
    assert document["nll"] != plain["nll"]
    assert has_line(document["table"], "val", 10)
    assert re.search(r"\b10\b", probabilities.read(to).about)
    assert kept.read_bytes() == before
    several = ("evaluate", "default", str(trained / "model"), "--data", "nowhere.zip")
    assert "'fer2013'" in refuse(*several, "--probabilities", str(to))
    assert "--views" in refuse("evaluate", str(trained), "--views", "3")
    assert "--views" in refuse("evaluate", str(trained), "--views", "2", "--robustness")


def test_any_other_classes_train_too(away: Path, archive: Path, ask: Json) -> None:
    cli.run(["extract", str(archive), "--to", "unpacked"])
    for number, emotion in enumerate(("happy", "sad", "neutral")):
        for file in Path("unpacked").rglob(f"train/{emotion}/*.png"):
            place = Path("own") / ("tired", "Awake", "élan")[number] / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    code, document = ask("train", "own", "--out", "run", *SETTINGS)
    assert code == 0
    assert document["labels"] == ["Awake", "tired", "élan"]
    assert (Path("run/model") / "labels.txt").read_text(encoding="utf-8").split() == document["labels"]


def test_a_run_with_another_model_than_it_shipped_says_so(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(trained, tmp_path / "run")
    assert cli.run(["evaluate", str(copy)]) == 0
    before = capsys.readouterr().err.splitlines()
    packaged = model_files.MODELS / "fast.onnx"
    model_files.write(packaged.read_bytes(), model_files.load("fast").card, copy / "model")
    assert cli.run(["evaluate", str(copy)]) == 0
    (told,) = [line for line in capsys.readouterr().err.splitlines() if line not in before]
    assert str(copy) in told


def test_a_run_whose_data_moved_asks_for_it_and_takes_it(
    away: Path, archive: Path, ask: Json, refuse: Callable[..., str]
) -> None:
    shutil.copy(archive, "here.zip")
    assert ask("train", "here.zip", "--out", "run", *SETTINGS)[0] == 0
    Path("here.zip").rename("there.zip")
    assert "--data" in refuse("evaluate", "run")
    assert ask("evaluate", "run", "--data", "there.zip")[1]["n"] == 42
    assert "here.zip" in refuse("train", "--resume", "run")
    assert ask("train", "there.zip", "--resume", "run")[1]["status"] == "done"
    assert ask("plot", "run")[0] == 0
    synthetic.write_archive(Path("other.zip"), train=70, val=14, test=14, seed=9)
    assert "fingerprint" in refuse("train", "other.zip", "--resume", "run")
    before = (Path("run/figures") / "samples.png").read_bytes()
    assert not any("samples" in path for path in ask("plot", "run", "--data", "other.zip")[1]["figures"])
    assert (Path("run/figures") / "samples.png").read_bytes() == before
    assert ask("evaluate", "run", "--data", "other.zip")[1]["n"] == 14
    names = sorted(path.name for path in Path("run/evaluation").iterdir())
    assert names[-1] == "val.json"
    assert names[0].startswith("val-")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train"], "DATA"),
        (["train", "absent.zip"], "absent.zip"),
        (["train", "{archive}", "--recipe", "quik"], "'quick'"),
        (["train", "{archive}", "--recipe", "absent.toml"], "absent.toml"),
        (["train", "{archive}", "--set", "epocs=3"], "'epochs'"),
        (["train", "{archive}", "--set", "network=alexnet"], "alexnet"),
        (["train", "{archive}", "--set", "size=16000"], "size"),
        (["train", "{archive}", "--votes", "votes.csv"], "votes"),
        (["train", "{archive}", "--exclude", "absent.csv"], "absent.csv"),
        (["train", "--resume", "absent"], "absent"),
        (["train", "--resume", "empty"], "empty"),
        (["train", "--resume", "{run}", "--set", "epochs=3"], "--resume"),
        (["train", "--resume", "{run}", "--recipe", "seed", "--split-seed", "3"], "--recipe, --split-seed"),
        (["train", "--resume", "{run}", "--from", "{run}"], "--from"),
        (["train", "{archive}", "--from", "absent"], "absent"),
        (["train", "{archive}", "--from", "full"], "full"),
        (["train", "{archive}", "--from", "{run}", "--folds", "2"], "--folds"),
        (["train", "{archive}", "--from", "{run}", "--set", "network=seed"], "--set network=toy"),
        (["train", "{archive}", "--out", "full"], "full"),
        (["train", "{archive}", "--set", "epochs=999999999999999999999"], "epochs"),
        (["evaluate", "{run}", "--votes", "votes.csv"], "--votes"),
        (["evaluate", "full/cat.jpg"], "cat.jpg"),
        (["evaluate", "absent"], "absent"),
        (["evaluate", "{run}/model"], "--data"),
        (["evaluate", "{run}", "--split", "dev"], "dev"),
        (["evaluate", "{run}/recipe.toml", "--data", "{archive}"], "recipe.toml"),
        (["plot", "empty"], "empty"),
        (["export", "{run}", "--format", "pickle"], "pickle"),
        (["export", "empty"], "empty"),
        (["extract", "full/cat.jpg", "--to", "out"], "cat.jpg"),
        (["extract", "{archive}", "--to", "full"], "full"),
        (["recipes", "nonsense"], "nonsense"),
        (["--json"], "--json"),
        (["demo", "--to", "full"], "--to"),
        (["fly"], "fly"),
        (["train", "--epochs", "3"], "--epochs"),
        (["evaluate"], "model"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    away: Path, archive: Path, trained: Path, refuse: Callable[..., str], arguments: list[str], says: str
) -> None:
    (away / "empty").mkdir()
    (away / "full").mkdir()
    (away / "full" / "cat.jpg").write_bytes(b"meow")
    (away / "votes.csv").write_text("Usage,Image name\n")
    words = [word.replace("{archive}", str(archive)).replace("{run}", str(trained)) for word in arguments]
    assert says.lower() in refuse(*words).lower()
    assert (away / "full" / "cat.jpg").read_bytes() == b"meow"
    assert sorted(path.name for path in away.iterdir()) == ["empty", "full", "votes.csv"]


def test_stdout_holds_one_document_whatever_native_code_writes(archive: Path, away: Path) -> None:
    command = builders.mien_command("train", str(archive), "--json", *SETTINGS)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["status"] == "done"


def test_a_read_only_run_is_scored_all_the_same(
    trained: Path, monkeypatch: pytest.MonkeyPatch, ask: Json, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise OutputError("the file system is read-only")

    monkeypatch.setattr(_files, "write", refuse)
    code, report = ask("evaluate", str(trained))
    assert (code, report["n"]) == (0, 42)


def test_few_images_are_told_of_a_start(
    away: Path, archive: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", str(archive), "--set", "epochs=1", "--set", "network=toy"]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(r"\b140\b", told)
    assert format_command(["mien", "train", str(archive), "--from", "default"]) in told
    assert cli.run(["train", str(archive), "--from", str(trained), "--set", "epochs=1"]) == 0
    assert "--from default" not in capsys.readouterr().err


def test_classes_are_shown_before_a_training(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for album, count in (("2019 Italy", 6), ("Birthday", 30)):
        Path("albums", album).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full((48, 48), 7 * number + count, np.uint8)).save(
                f"albums/{album}/{number}.png"
            )
    assert cli.run(["train", "albums", "--set", "network=none"]) == 2
    assert cli.run(["train", "albums", "--set", "network=toy", "--set", "epochs=1", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["labels"] == ["2019 Italy", "Birthday"]
    rows = [line.split() for line in captured.err.splitlines()]
    assert ["class", "train", "val", "test"] in rows
    assert ["2019", "Italy", "4", "1", "1"] in rows
    assert ["Birthday", "24", "3", "3"] in rows
    before, _, _ = captured.err.partition("epoch 1/1")
    assert "'2019 Italy' (4)" in before


def test_a_damaged_run_is_refused_once_by_plot(
    away: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, "run")
    Path("run/run.json").write_text("{")
    assert cli.run(["plot", "run"]) == 2
    assert capsys.readouterr().err.count("run.json") == 1


def test_plotting_without_matplotlib_is_refused(trained: Path) -> None:
    code = (
        "import sys\nsys.modules['matplotlib'] = None\nfrom mien import cli\n"
        f"sys.exit(cli.run(['plot', {str(trained)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "mien[plot]" in done.stderr


def test_a_file_of_another_format_is_refused(away: Path, trained: Path, refuse: Callable[..., str]) -> None:
    assert "--format h5" in refuse("export", str(trained), "--format", "keras", "--to", "out.h5")
    assert "--format keras" in refuse("export", str(trained), "--to", "deep/out.keras")
    assert not Path("out.h5").exists()
    assert not Path("deep").exists()
    Path("folder.h5").mkdir()
    assert cli.run(["export", str(trained), "--format", "keras", "--to", "folder.h5"]) == 0
    assert Path("folder.h5", "model.keras").is_file()


def test_litert_keeps_tensorflow_quiet(away: Path, trained: Path) -> None:
    pytest.importorskip("ai_edge_litert.interpreter")
    command = builders.mien_command("export", str(trained), "--format", "litert", "--to", "phone")
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stderr.strip() == ""
    assert Path("phone", "model.tflite").is_file()


def test_litert_in_int8_states_how_near_it_is(
    away: Path, trained: Path, ask: Json, full_work: None, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ai_edge_quantizer")
    command = ["export", str(trained), "--format", "litert", "--int8", "--to", "phone"]
    code, document = ask(*command)
    assert code == 0
    rounding = document["rounding"]
    assert rounding["images"] == document["images"] > 0
    assert rounding["same"] >= 0.985
    assert 0 < rounding["mean_difference"] < rounding["largest_difference"] == document["largest_difference"]
    assert cli.run(command) == 0
    said = capsys.readouterr().out
    for figure in (f"{rounding['same']:.1%}", f"{rounding['mean_difference']:.4f}"):
        assert figure in said


def test_a_killed_run_names_how_to_finish_it(
    away: Path, trained: Path, archive: Path, refuse: Callable[..., str]
) -> None:
    shutil.copytree(trained, "young", ignore=shutil.ignore_patterns("model"))
    assert "young" in refuse("evaluate", "young")
    runs.open_run("young").update(status="training")
    words = "mien train --resume young"
    assert words in refuse("evaluate", "young")
    assert words in refuse("compare", "young", "fast")
    assert words in refuse("predict", "x.png", "--model", "young")
    assert words in refuse("explain", "x.png", "--model", "young")
    assert words in refuse("ship", "young")
    assert words in refuse("export", "young")
    assert words in refuse("card", "young")
    assert words in refuse("train", str(archive), "--from", "young")
    assert words in refuse("predict", "x.png", "--model", "young/model")
    with runs.open_run(Path("young")).lock():
        assert words not in refuse("evaluate", "young"), "it is being trained"
    assert "young" in refuse("explain", "young")
