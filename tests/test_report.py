import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as judge

from builders import has_line, refused
from html_pages import Page, without_pictures
from mien import _files, cli
from mien.data import datasets, recrops, synthetic
from mien.errors import InputError, OutputError
from mien.evaluation import calibration, corruptions, evaluator
from mien.evaluation.evaluation import CorruptionScore, Evaluation, Robustness, SplitUse
from mien.evaluation.evaluation_log import LOG_FILE
from mien.evaluation.metrics import GroupList, compute_metrics
from mien.labels import EMOTIONS
from mien.models import model_files
from mien.release import model_cards
from mien.reports import evaluation_report, rendering
from mien.training import recipes, runs

BAD = "<script>alert(1)</script> $x^2$ & =1+1 \"q\" 'r'"


@pytest.fixture(scope="module")
def model() -> model_files.Model:
    return model_files.load()


@pytest.fixture(scope="module")
def data() -> datasets.Dataset:
    """Drawn faces; of the test split's, ten stand in training too, and ten mirrored."""
    images, labels, _ = synthetic.sample(420, seed=3, size=48)
    parts = {}
    for name, start, stop in (("train", 0, 140), ("val", 140, 280), ("test", 280, 420)):
        files = tuple(f"{name}/{BAD} {place}.png" for place in range(stop - start))
        votes = np.zeros((stop - start, 10), np.float32)
        votes[:, 0] = 10
        parts[name] = datasets.Split(name, images[start:stop].copy(), labels[start:stop], votes, files)
    parts["test"].images[:10] = parts["train"].images[:10]
    parts["test"].images[10:20] = parts["train"].images[10:20, :, ::-1]
    return datasets.Dataset(f"faces {BAD}", EMOTIONS, **parts, problems=(), notes=(BAD,))


@pytest.fixture(scope="module")
def answers(model: model_files.Model, data: datasets.Dataset) -> evaluator.Predictions:
    return evaluator.predict(model, data.split("test"), labels=data.labels, data=data.root)


@pytest.fixture(scope="module")
def found(model: model_files.Model, data: datasets.Dataset, answers: evaluator.Predictions) -> Evaluation:
    files = answers.split.files
    groups = {file: BAD if place < 20 else "others" for place, file in enumerate(files[:100])}
    listing = GroupList("ages <b>.csv", BAD, groups)
    second = evaluator.predict(model, data.split("test"), labels=data.labels, head="ferplus", data=data.root)
    first = replace(
        evaluator.evaluate_predictions(answers), heads={"ferplus": evaluator.evaluate_predictions(second)}
    )
    return evaluator.measure_all([model], data, answers, evaluation=first, groups=listing)


def test_it_holds_what_json_prints_and_more(found: Evaluation, answers: evaluator.Predictions) -> None:
    plain, document = evaluator.evaluate_predictions(answers).to_dict(), found.to_dict()
    assert {key: document[key] for key in plain} == plain
    assert Evaluation.from_dict(document) == found
    assert Evaluation.from_dict(json.loads(json.dumps(document, allow_nan=False))) == found
    assert found.models[0].sha256 == model_files.load().card.sha256
    assert found.dataset.splits["test"].fingerprint == found.split_fingerprint
    assert set(found.heads) == {"ferplus"}


def test_copies_are_left_out_and_counted(found: Evaluation, answers: evaluator.Predictions) -> None:
    told = found.training_overlap
    assert (told.checked, told.exact) == (True, 10)
    assert told.near >= 10
    assert told.learned_from is False
    given = answers.probabilities.argmax(axis=1)
    assert told.without_exact.n == len(answers) - 10
    assert told.without_exact.accuracy == pytest.approx(judge.accuracy_score(answers.truth[10:], given[10:]))
    assert (told.recrops, told.without_recrops) == (None, None)
    rest = told.without_near
    assert rest.n == len(answers) - told.exact - told.near
    assert rest.accuracy_interval[0] <= rest.accuracy <= rest.accuracy_interval[1]


def test_photographs_cut_otherwise_are_left_out_where_that_is_asked_for(
    model: model_files.Model,
    data: datasets.Dataset,
    answers: evaluator.Predictions,
    found: Evaluation,
    tmp_path: Path,
) -> None:
    train, images = data.split("train"), data.split("train").images.copy()
    for place, image in enumerate(answers.split.images[20:25, :, :, 0], start=100):
        larger = Image.fromarray(image).resize((60, 60), Image.Resampling.BICUBIC)
        images[place] = np.asarray(larger.crop((7, 5, 55, 53)))[..., np.newaxis]
    planted = replace(data, train=replace(train, images=images))
    told = evaluator.measure_all([model], planted, answers, recrops=True)
    held = told.training_overlap
    assert held.recrops >= 5
    assert held.without_recrops.n == held.without_near.n - held.recrops
    assert held.without_near == found.training_overlap.without_near
    assert f"| {held.without_recrops.n} |" in evaluation_report.table(told, "md")
    evaluation_report.write(told, answers, tmp_path)
    page = (tmp_path / evaluation_report.HTML).read_text(encoding="utf-8")
    assert f"{held.recrops:,} more ({held.recrops / len(answers):.1%})" in page


def test_copies_that_cannot_be_looked_for_are_said(
    model: model_files.Model, data: datasets.Dataset, answers: evaluator.Predictions
) -> None:
    alone = datasets.Dataset("alone", data.labels, train=None, val=None, test=data.test)
    told = evaluator.measure_all([model], alone, answers)
    assert told.training_overlap.checked is False
    assert told.training_overlap.why
    known = replace(evaluator.evaluate_predictions(answers), split_use=SplitUse(role="train"))
    learnt = evaluator.measure_all([model], data, answers, evaluation=known)
    assert learnt.training_overlap.why
    everywhere = datasets.Dataset("all", data.labels, train=data.test, val=None, test=data.test)
    told = evaluator.measure_all([model], everywhere, answers).training_overlap
    assert (told.exact, told.without_exact, told.without_near) == (len(answers), None, None)


def test_calibration_with_and_without_temperature(
    model: model_files.Model, data: datasets.Dataset, answers: evaluator.Predictions, found: Evaluation
) -> None:
    shipped, bare = found.temperatures
    temperature = model.card.head().temperature
    assert (shipped.temperature, bare.temperature) == (temperature, 1)
    assert shipped.ece == found.ece
    back = compute_metrics(
        calibration.apply(calibration.apply(answers.probabilities, 1 / temperature), temperature),
        answers.truth,
        answers.names,
    )
    assert back.nll == pytest.approx(shipped.nll, abs=1e-4)
    assert bare.nll != shipped.nll
    shifted = replace(model.card.head(), logit_bias=(0.5, *[0.0] * (len(model.card.labels) - 1)))
    offset = replace(model, card=replace(model.card, heads=model.card.heads | {"fer2013": shifted}))
    told = evaluator.measure_all([offset], data, answers).temperatures
    assert [each.name for each in told] == ["as shipped", "without its temperature and logit biases"]
    both = evaluator.measure_all([model, model], data, answers).temperatures
    assert [each.name for each in both] == ["as shipped", "with a temperature fitted on val"]
    val = evaluator.predict(model, data.split("val"), labels=data.labels)
    assert both[1].temperature == pytest.approx(calibration.fit(val.probabilities, val.truth))
    folded = evaluator.measure_all([model, model], data, val).temperatures
    assert folded[1].brier is None
    assert "other of 5 folds" in folded[1].name
    # The 42 images of val are fewer than 25 for each of seven classes.
    assert (both[0].prior, both[1].prior, folded[1].prior) == (0, calibration.PRIOR, calibration.PRIOR)
    single = evaluator.measure_all([model, model], data, val.take(np.arange(1))).temperatures
    assert len(single) == 1


def test_examples_are_the_worst_and_the_most_uncertain(
    found: Evaluation, answers: evaluator.Predictions
) -> None:
    shares = answers.probabilities[np.arange(len(answers)), answers.truth]
    wrong = answers.probabilities.argmax(axis=1) != answers.truth
    assert found.worst[0].place == np.flatnonzero(wrong)[shares[wrong].argmin()]
    assert found.uncertain[0].place == answers.probabilities.max(axis=1).argmin()
    for each in (*found.worst, *found.uncertain):
        assert each.answer == max(each.probabilities, key=each.probabilities.__getitem__)
        assert each.confidence == each.probabilities[each.answer]
    assert all(each.answer != each.label for each in found.worst)


def test_robustness_is_the_score_on_corrupted_images(
    model: model_files.Model, answers: evaluator.Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: corruptions.CORRUPTIONS[name] for name in ("blur 1", "blur 2", "noise 8")}
    monkeypatch.setattr(corruptions, "CORRUPTIONS", few)
    part = answers.take(np.arange(40))
    seen: list[tuple[str, int, int]] = []
    told = evaluator.measure_robustness([model], part, seed=1, progress=lambda *each: seen.append(each))
    assert [row.corruption for row in told.rows] == list(few)
    assert [each[1:] for each in seen] == [(1, 3), (2, 3), (3, 3)]
    images = corruptions.corrupt(part.split.images, "noise 8", seed=1)
    right = model.run(images).argmax(axis=1) == part.truth
    assert told.rows[2].accuracy == right.mean()
    blur = (told.rows[0].accuracy + told.rows[1].accuracy) / 2
    assert told.mean_of_kinds == pytest.approx((blur + right.mean()) / 2)


def test_the_page_needs_nothing_and_escapes_all(
    found: Evaluation, answers: evaluator.Predictions, tmp_path: Path
) -> None:
    paths = evaluation_report.write(found, answers, tmp_path / "made" / "here")
    assert sorted(path.name for path in (tmp_path / "made" / "here").iterdir()) == [
        evaluation_report.HTML,
        evaluation_report.JSON,
    ]
    assert Evaluation.from_dict(json.loads(paths[0].read_text())) == found
    page = Page(paths[1].read_text(encoding="utf-8"))
    assert len(page.addresses) == len(found.worst) + len(found.uncertain)
    assert page.text.count("<script>alert(1)</script>") > 20
    assert f"{found.accuracy:.1%}" in page.text
    place = found.worst[0].place
    red = np.full((48, 48, 3), (255, 0, 0), np.uint8)
    paths = evaluation_report.write(found, answers, tmp_path / "made" / "here", maps={place: red})
    more = Page(paths[1].read_text(encoding="utf-8")).addresses
    assert len(more) > len(page.addresses)
    assert sum(address == rendering.picture(red) for address in more) == len(more) - len(page.addresses)


def test_a_report_of_given_answers_is_the_golden_page(
    model: model_files.Model,
    data: datasets.Dataset,
    answers: evaluator.Predictions,
    golden: Callable[[str, str], None],
) -> None:
    random = np.random.default_rng(7)
    logits = random.normal(0, 1.2, (140, 7))
    logits[np.arange(140), answers.truth] += 2
    shares = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    given = replace(answers, probabilities=shares)
    groups = {file: BAD if place < 20 else "others" for place, file in enumerate(given.split.files[:100])}
    listing = GroupList("ages <b>.csv", BAD, groups)
    found = evaluator.measure_all([model], data, given, groups=listing)
    row = CorruptionScore(
        corruption="blur 1", kind="blur", strength=1.0, accuracy=0.5, interval=(0.4, 0.6), loss=0.1234
    )
    found = replace(
        found,
        robustness=Robustness(seed=0, size=48, rows=(row,), mean_of_kinds=0.5),
        models=tuple(replace(each, sha256="0" * 64) for each in found.models),
        versions={"mien": "1.2.3"},
    )
    text = evaluation_report.render_report(found, given.split.images, {})
    assert Page(text).tags.count("svg") == 3 + 7 + 2 + 1 + 2 + 2
    golden("evaluation_report.html", without_pictures(text))


def test_no_head_of_a_row_or_column_breaks_inside_a_word(
    found: Evaluation, answers: evaluator.Predictions, tmp_path: Path
) -> None:
    page = evaluation_report.write(found, answers, tmp_path)[1].read_text(encoding="utf-8")
    page = page.partition("</style>")[0]  # the pictures that follow are long to search
    heads = re.findall(r"[^}]*\bt[dh]:first-child[^{]*\{[^}]*\}", page)
    assert any("overflow-wrap: break-word" in rule for rule in heads)
    assert not any("overflow-wrap: anywhere" in rule for rule in heads), "it would break words to save room"


def test_odd_names_and_odd_reports_make_pages(
    model: model_files.Model, data: datasets.Dataset, tmp_path: Path
) -> None:
    split = data.split("test").take(np.arange(3))
    odd = datasets.Split("test", split.images, split.labels, None, ("a\udcff\n.png", "\x00", "=HYPERLINK()"))
    only = datasets.Dataset("\udcfe", data.labels, train=None, val=None, test=odd)
    asked = evaluator.predict(model, odd, labels=data.labels, data=only.root)
    told = evaluator.measure_all([model], only, asked)
    json_file, page = evaluation_report.write(told, asked, tmp_path)
    assert json.loads(json_file.read_text())["n"] == 3
    assert "a\\udcff" in page.read_text()
    right = evaluator.Predictions(odd, asked.names, np.eye(7, dtype=np.float32)[asked.truth], asked.truth)
    told = evaluator.measure_all([model, model], only, right)
    assert told.worst == ()
    evaluation_report.write(told, right, tmp_path)
    assert Page(page.read_text(encoding="utf-8")).tags.count("img") == len(told.uncertain)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        evaluation_report.write(told, right, tmp_path / "file")


def test_many_classes_list_their_worst_mistakes(
    found: Evaluation, answers: evaluator.Predictions, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    names = [f"class {index}" for index in range(40)]
    chances, truth = random.dirichlet(np.ones(40), 300), random.integers(0, 39, 300)
    many = compute_metrics(chances, truth, names)
    keep = ("heads", "versions", "models", "dataset", "preprocessing", "split_use", "selective")
    keep += ("temperatures", "training_overlap", "worst", "uncertain", "split", "split_fingerprint")
    odd = replace(many, **{key: getattr(found, key) for key in (*keep, "data", "head")})
    page = Page(evaluation_report.write(odd, answers, tmp_path)[1].read_text(encoding="utf-8"))
    confusion = np.array(many.confusion) * (1 - np.eye(40, dtype=int))
    label, prediction = np.unravel_index(confusion.argmax(), confusion.shape)
    assert re.search(rf"class {label}\s*class {prediction}\s*{confusion.max()}", page.text)
    assert many.absent == ("class 39",)


def cells(row: str, apart: str) -> list[str]:
    return [cell.strip() for cell in re.split(apart, row)]


def test_tables_hold_the_figures_and_escape_names(found: Evaluation) -> None:
    text = evaluation_report.table(found, "md")
    lines = text.splitlines()
    first = cells(lines[2].strip("|"), r"(?<!\\)\|")
    assert f"{100 * found.accuracy:.1f} (" in first[2]
    assert first[1] == str(found.n)
    assert "<script>" not in text.replace(r"\<script\>", "")
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 9 for line in lines[:6])
    assert f"| {found.training_overlap.without_near.n} |" in text
    assert all(label in text for label in found.labels)

    text = evaluation_report.table(found, "latex")
    assert r"\textless{}script\textgreater{}alert(1)" in text
    assert r"\$x\textasciicircum{}2\$ \&" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(cells(row, r"(?<!\\)&")) for row in rows} == {8, 5}
    with refused(InputError, "'csv'"):
        evaluation_report.table(found, "csv")


def test_tables_of_a_bare_report_need_nothing_more(answers: evaluator.Predictions) -> None:
    bare = compute_metrics(np.eye(3)[:2], np.array([0, 0]), ["a_b", "c|d", "e\nf"])
    assert r"a\_b" in evaluation_report.table(bare, "md")
    assert r"c\textbar{}d" in evaluation_report.table(bare, "latex")
    assert "e f" in evaluation_report.table(bare, "md")
    assert "–" in evaluation_report.table(bare, "md")
    assert "--" in evaluation_report.table(bare, "latex")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as training leaves it, without the training: the package's model over drawn faces."""
    place = tmp_path_factory.mktemp("reports")
    archive = synthetic.write_archive(place / "faces.zip", train=140, val=42, test=42, seed=5)
    data = datasets.load(archive)
    model = model_files.load()
    splits = {each.name: model_files.Part(n=len(each), fingerprint=each.fingerprint) for each in data.splits}
    facts = {
        "data": {
            "name": data.root,
            "fingerprint": data.fingerprint,
            "origin": {"source": str(archive), "votes": None, "exclude": None, "seed": 42},
            "splits": {name: vars(part) for name, part in splits.items()},
        }
    }
    runs.create(recipes.get("quick"), facts, out=place / "runs" / "one")
    about = model_files.Data(name=data.root, fingerprint=data.fingerprint, splits=splits)
    model_files.write(model.read(), replace(model.card, data=about), place / "runs" / "one" / "model")
    return place / "runs" / "one"


Ask = Callable[..., dict]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    def call(*arguments: object) -> dict:
        assert cli.run(["evaluate", *map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


def test_a_run_counts_how_often_its_test_was_scored(made: Path, tmp_path: Path, ask: Ask) -> None:
    home = tmp_path / "runs" / "one"
    shutil.copytree(made, home)
    on_val = ask(home)
    assert on_val["split_use"]["role"] == "val"
    assert len(on_val["split_use"]["warnings"]) == 1
    assert not (home / LOG_FILE).exists()
    first = ask(home, "--split", "test")["split_use"]
    assert (first["role"], first["times"], first["models"], first["warnings"]) == ("other", 1, 1, [])
    again = ask(home, "--split", "test", "--report", tmp_path / "out")
    assert (again["split_use"]["times"], again["split_use"]["models"], again["split_use"]["warnings"]) == (
        2,
        1,
        [],
    )
    alone = ask(home / "model" / "model.onnx", "--data", made.parent.parent / "faces.zip", "--split", "test")
    assert alone["split_use"]["times"] == 3
    entries = json.loads((home / LOG_FILE).read_text())
    assert [entry["split_fingerprint"] for entry in entries] == [again["split_fingerprint"]] * 3
    document = json.loads((tmp_path / "out" / evaluation_report.JSON).read_text())
    assert document["split_use"]["times"] == 2
    assert document["training_overlap"]["learned_from"] is True
    other = tmp_path / "runs" / "two"
    shutil.copytree(made, other)
    assert has_line(ask(other, "--split", "test")["split_use"]["warnings"][0], "one", "two")


def test_only_a_runs_own_model_counts_in_it(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    home, archive = tmp_path / "one", made.parent.parent / "faces.zip"
    shutil.copytree(made, home)
    shutil.copy(made / "model" / "model.onnx", home / "other.onnx")
    (home / "deep").mkdir()
    monkeypatch.chdir(home)
    for name in ("default", "other.onnx"):
        assert ask(name, "--data", archive, "--split", "test")["split_use"]["times"] is None
    assert not (home / LOG_FILE).exists()
    for times, name in enumerate((".", "model", "model/model.onnx", "deep/../model"), start=1):
        own = [] if name == "." else ["--data", archive]
        assert ask(name, *own, "--split", "test")["split_use"]["times"] == times


def test_what_was_asked_for_is_kept_in_the_run(made: Path, tmp_path: Path, ask: Ask) -> None:
    home = tmp_path / "one"
    shutil.copytree(made, home)
    files = datasets.load(made.parent.parent / "faces.zip").split("test").files
    (tmp_path / "g.csv").write_text("file,half\n" + "".join(f"{f},h{i % 2}\n" for i, f in enumerate(files)))
    asked = [home, "--split", "test", "--groups", tmp_path / "g.csv"]
    for more in ([], ["--report", tmp_path / "out", "--table", "md"]):
        told = ask(*asked, *more)
        kept = json.loads((home / "evaluation" / "test.json").read_text())
        assert kept["groups"] == told["groups"]
        assert kept["split_use"] == told["split_use"]
        assert not {"worst", "uncertain", "report", "table"} & kept.keys()
    assert kept["training_overlap"] == told["training_overlap"]
    assert (tmp_path / "out" / "table.md").read_text() == told["table"]
    assert "### By half: " in model_cards.of_run(runs.open_run(home))


def test_groups_of_other_images_are_refused_before_the_count(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "one"
    shutil.copytree(made, home)
    (tmp_path / "g.csv").write_text("file,half\nnone.png,h\n")
    groups = ["--groups", str(tmp_path / "g.csv")]
    assert cli.run(["evaluate", str(home), "--split", "test", *groups]) == 2
    assert "g.csv" in capsys.readouterr().err
    assert not (home / LOG_FILE).exists()


def test_a_report_is_written_whole_or_not_at_all(
    found: Evaluation, answers: evaluator.Predictions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there" / evaluation_report.HTML).mkdir(parents=True)
    with refused(OutputError, tmp_path / "there"):
        evaluation_report.write(found, answers, tmp_path / "there")
    assert [path.name for path in (tmp_path / "there").iterdir()] == [evaluation_report.HTML]
    real = _files.write

    def full(path: Path, data: bytes) -> None:
        if path.name == evaluation_report.HTML:
            raise OSError(28, "No space left on device")
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(_files, "write", full)
        with refused(OutputError, tmp_path / "new"):
            evaluation_report.write(found, answers, tmp_path / "new" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    evaluation_report.write(found, answers, tmp_path / "new" / "out", more={"table.md": "|"})
    names = sorted(path.name for path in (tmp_path / "new" / "out").iterdir())
    assert names == sorted([evaluation_report.JSON, evaluation_report.HTML, "table.md"])


def excluding(place: Path, made: Path) -> Path:
    """The run `made`, had it left out three training images of its archive, listed by their names."""
    archive = shutil.copy(made.parent.parent / "faces.zip", place / "faces.zip")
    (place / "gone.csv").write_text(
        "file\n" + "".join(f"{file}\n" for file in datasets.load(archive).split("train").files[:3])
    )
    data = datasets.load(archive, exclude=place / "gone.csv")
    splits = {each.name: model_files.Part(n=len(each), fingerprint=each.fingerprint) for each in data.splits}
    origin = {"source": str(archive), "votes": None, "exclude": [str(place / "gone.csv")], "seed": 42}
    facts = {"data": {"origin": origin, "splits": {name: vars(part) for name, part in splits.items()}}}
    runs.create(recipes.get("quick"), facts, out=place / "runs" / "two")
    model = model_files.load()
    about = model_files.Data(name=data.root, fingerprint=data.fingerprint, splits=splits)
    model_files.write(model.read(), replace(model.card, data=about), place / "runs" / "two" / "model")
    return place / "runs" / "two"


def test_what_a_run_left_out_stays_in_other_data(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ask: Ask
) -> None:
    home = excluding(tmp_path, made)
    assert ask(home, "--split", "train")["n"] == 137
    moved = shutil.copy(tmp_path / "faces.zip", tmp_path / "moved.zip")
    assert ask(home, "--split", "train", "--data", moved)["n"] == 137
    names = datasets.load(moved).split("train").files
    for other, seed in ((tmp_path / "others", 9), (tmp_path / "strangers", 10)):
        images = synthetic.sample(140, seed=seed, size=48)[0]
        for place, name in enumerate(names):
            # Of the second set no image has a name that the list has.
            file = other / (name if seed == 9 else name.replace(Path(name).name, f"{place}-other.png"))
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[place, :, :, 0]).save(file)
        assert cli.run(["evaluate", str(home), "--split", "train", "--data", str(other), "--json"]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["n"] == len(datasets.load(other).split("train")) == 126
        assert has_line(captured.err, "two", other.name)


def test_words_tables_groups_and_pages_come_from_the_command(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ask: Ask
) -> None:
    files = datasets.load(made.parent.parent / "faces.zip").split("test").files
    with (tmp_path / "g.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file", "half"), *((f, f"h{i % 2}") for i, f in enumerate(files))])
    arguments = ["evaluate", str(made), "--split", "test", "--groups", str(tmp_path / "g.csv")]
    assert cli.run([*arguments, "--report", str(tmp_path / "out"), "--recrops"]) == 0
    shown = capsys.readouterr().out
    assert "half" in shown
    assert "report.html" in shown
    assert cli.run([*arguments, "--table", "latex", "--report", str(tmp_path / "out")]) == 0
    table = capsys.readouterr().out
    assert table == (tmp_path / "out" / "table.tex").read_text()
    assert table.startswith(r"\begin{tabular}")
    plain = ask(*arguments[1:], "--table", "md")
    assert {group["n"] for group in plain["groups"]["groups"]} == {21}
    assert plain["table"].startswith("| split |")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--table", "csv"], "--table"),
        (["--report", "{file}"], "--report"),
        (["--probabilities", "{folder}"], "--probabilities"),
        (["--recrops"], "--report"),
        (["--groups", "{file}"], "'file'"),
        (["--groups", "absent.csv"], "absent.csv"),
    ],
)
def test_bad_input_is_refused_before_the_work(
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:
    (tmp_path / "file").write_text("a,b\n")
    words = [word.format(file=tmp_path / "file", folder=tmp_path) for word in arguments]
    monkeypatch.setattr(evaluator, "predict", None)
    assert cli.run(["evaluate", str(made), *words]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1


def test_models_of_small_images_are_asked_for_no_recrops(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recrops, "SMALLEST", 64)
    assert cli.run(["evaluate", str(made), "--report", str(tmp_path / "out"), "--recrops"]) == 2
    assert "64 pixels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_that_is_read_is_written_over(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, model = made.parent.parent / "faces.zip", made / "model" / "model.onnx"
    groups = tmp_path / "g.csv"
    groups.write_text("file,age\nx,1\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / evaluation_report.JSON).symlink_to(archive)
    before = [path.read_bytes() for path in (archive, model, groups)]
    for arguments in (
        [made, "--probabilities", archive],
        [made, "--probabilities", model],
        [made, "--probabilities", made / "run.json"],
        [made, "--probabilities", groups, "--groups", f"{groups}:age"],
        [made, "--report", tmp_path / "out"],
        [model, "--data", archive, "--probabilities", model],
        [model, "--data", archive, "--probabilities", archive],
    ):
        assert cli.run(["evaluate", *map(str, arguments)]) == 2
        said = capsys.readouterr().err
        assert ("--report" if "--report" in arguments else "--probabilities") in said
        assert said.count("\n") == 1
    assert [path.read_bytes() for path in (archive, model, groups)] == before


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_the_page_opens_offline_without_a_word_on_the_console(
    found: Evaluation, answers: evaluator.Predictions, tmp_path: Path
) -> None:
    page = evaluation_report.write(found, answers, tmp_path)[1]
    done = subprocess.run(
        [
            "chromium",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            f"--screenshot={tmp_path / 'page.png'}",
            f"file://{page}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "CONSOLE" not in done.stderr
    assert (tmp_path / "page.png").stat().st_size > 10_000
