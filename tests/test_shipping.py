"""From a run to the file that ships."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("keras", reason="shipping needs mien[train]")

import dying
from builders import has_line, refused
from mien.cli import release
from mien.data import synthetic
from mien.data.datasets import Dataset, Split
from mien.errors import DataError, ModelError, OutputError, RunError
from mien.evaluation import calibration, evaluator
from mien.evaluation.balance import GEOMETRIC_MEAN
from mien.evaluation.evaluation import Evaluation
from mien.evaluation.metrics import compute_metrics, find_plurality
from mien.labels import EMOTIONS, VOTES
from mien.models import initial_weights, model_files, priors, training_hashes
from mien.release import exporters, model_cards, shipping
from mien.training import initialization, recipes, runs, trainer


def noisy() -> Dataset:
    """The images of `dying.data`, every tenth with a wrong label and every fourth with wrong votes."""
    data = dying.data()
    for split in data.splits:
        labels = np.where(np.arange(len(split)) % 10 == 0, (split.labels + 1) % 3, split.labels)
        split.votes[::4] = np.roll(split.votes[::4], 1, axis=1)
        object.__setattr__(split, "labels", labels)
    return data


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """Two heads, trained until they know something."""
    recipe = dying.recipe("targets.ferplus=1", "epochs=4", "augment.flip=false", "optimizer.ema=0")
    return trainer.fit(noisy(), recipe, out=tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def shipped(trained: runs.Run, tmp_path_factory: pytest.TempPathFactory) -> shipping.Shipped:
    stages: list[tuple[int, int]] = []
    made = shipping.make(
        trained,
        noisy(),
        to=tmp_path_factory.mktemp("models"),
        name="tried",
        licence="CC0-1.0",
        progress=lambda *each: stages.append(each),
    )
    assert stages == [(done, 5) for done in range(6)]
    return made


def test_the_file_answers_as_the_run_does_at_its_temperature(
    trained: runs.Run, shipped: shipping.Shipped
) -> None:
    before, val = model_files.load(trained.model_folder), noisy().split("val")
    alone = model_files.load(shipped.model.path)
    assert alone.card == shipped.model.card
    assert (alone.card.name, alone.card.licence) == ("tried", "CC0-1.0")
    for name, head in alone.card.heads.items():
        raw = before.run(val.images, head=name)
        expected = calibration.apply(raw, head.temperature, head.logit_bias)
        tolerance = 1e-4 if alone.card.precision == "float32" else 0.1
        np.testing.assert_allclose(alone.run(val.images, head=name), expected, atol=tolerance)
        assert head.threshold is not None
    assert len({head.temperature for head in alone.card.heads.values()}) == 2


def test_frequencies_are_those_of_the_training_targets(shipped: shipping.Shipped) -> None:
    data, card = noisy(), shipped.model.card
    trainer, val = data.split("train"), data.split("val")
    labels, people = card.heads["fer2013"], card.heads["ferplus"]
    counts = np.bincount(trainer.labels, minlength=len(card.labels))
    np.testing.assert_allclose(labels.frequencies, counts / counts.sum(), atol=1e-6)
    columns = [VOTES.index(label) for label in card.labels]
    votes = trainer.votes[:, columns]
    total = votes.sum(axis=1, keepdims=True)
    seen = np.where(total > 0, votes / np.maximum(total, 1), np.eye(len(card.labels))[trainer.labels])
    np.testing.assert_allclose(people.frequencies, seen.mean(axis=0), atol=1e-6)
    for name, head in card.heads.items():
        truth = val.labels if name == "fer2013" else find_plurality(val.votes, card.labels)[1]
        right = np.ones(len(val), bool) if name == "fer2013" else find_plurality(val.votes, card.labels)[0]
        scores = {
            each: (shipped.model.run(val.images, head=name, balance=each).argmax(1) == truth)[right].mean()
            for each in priors.OFFERED
        }
        # Rounding to int8 moves some answers after the balance was chosen in float32.
        slack = 0.0 if card.precision == "float32" else 0.02
        assert scores[head.balance] >= scores[0.0] - shipping.CONCESSION - slack
        assert list(head.thresholds) == ["0.25", "0.5", "0.75", "1"]
        sure = shipped.model.run(val.images, head=name, balance=1).max(axis=1)
        tolerance = 0.02 if card.precision == "float32" else 0.15
        assert (sure >= head.thresholds["1"]).mean() == pytest.approx(0.8, abs=tolerance)
    rows = shipped.evaluations["fer2013"].balance_table
    assert {row.head for row in rows} == {"fer2013", "ferplus", GEOMETRIC_MEAN}


def test_the_training_images_are_known_again(shipped: shipping.Shipped) -> None:
    found = training_hashes.read(model_files.load(shipped.model.path))
    trainer = noisy().split("train")
    assert found is not None
    assert found.n == len(trainer) == shipped.document["training_hashes"]["n"]
    assert found.find(trainer.images)[0].all()


def test_a_training_begins_from_what_ships(shipped: shipping.Shipped, tmp_path: Path) -> None:
    assert shipped.weights == shipped.model.path.with_name("tried.weights.npz")
    recipe = dying.recipe("targets.ferplus=1", "epochs=1", "optimizer.learning_rate=1e-3")
    made = trainer.fit(noisy(), recipe, out=tmp_path / "run", base=model_files.load(shipped.model.path))
    assert made.facts()["base"][0]["name"] == "tried"
    card = model_files.load(made.model_folder).card
    assert card.base[0].sha256 == shipped.model.card.sha256
    assert card.base[0].data == shipped.model.card.data
    mean = shipping.make(made, noisy(), to=tmp_path, average=[shipped.model], name="mean")
    one, two = exporters.weights_of(model_files.load(made.model_folder)), exporters.weights_of(shipped.model)
    for name, array in exporters.weights_of(mean.model).items():
        tolerance = max(np.abs(each[name]).max() for each in (one, two)) / 125 + 1e-7
        np.testing.assert_allclose(array, (one[name] + two[name]) / 2, atol=tolerance, rtol=0, err_msg=name)
    assert [each.name for each in mean.model.card.averaged] == ["tried"]
    with refused(ModelError):
        shipping.make(made, noisy(), to=tmp_path, average=[shipped.model, shipped.model], name="twice")
    chance = trainer.fit(noisy(), recipe, out=tmp_path / "chance")
    assert made.history()[0]["accuracy"] > 0.1 + chance.history()[0]["accuracy"]


def test_the_weights_beside_a_model_are_the_networks_to_a_byte(
    trained: runs.Run, shipped: shipping.Shipped
) -> None:
    network = exporters.rebuild(model_files.load(trained.model_folder))
    expected = {variable.path: variable.numpy() for variable in network.weights}
    found = initial_weights.read(shipped.model.path, shipped.model.card.sha256 or "")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        tolerance = np.abs(array).max() / 250 if array.ndim > 1 else 0
        np.testing.assert_allclose(found[name], array, atol=tolerance, rtol=0, err_msg=name)
    val = noisy().split("val")
    before = network.predict(val.images, verbose=0)["answer"]
    assert initialization.assign(initialization.load(shipped.model), network, noisy().labels) == ()
    after = network.predict(val.images, verbose=0)["answer"]
    np.testing.assert_allclose(after, before, atol=0.1)
    assert (after.argmax(axis=1) == before.argmax(axis=1)).mean() > 0.97


@pytest.fixture(scope="module")
def gone_on(trained: runs.Run, tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """Another epoch from where `trained` ended."""
    recipe = dying.recipe("targets.ferplus=1", "epochs=1", "optimizer.ema=0")
    out = tmp_path_factory.mktemp("gone") / "on"
    return trainer.fit(noisy(), recipe, out=out, base=model_files.load(trained.model_folder))


def test_the_weights_of_two_runs_are_averaged(trained: runs.Run, gone_on: runs.Run, tmp_path: Path) -> None:
    made = shipping.make(gone_on, noisy(), to=tmp_path, average=[trained], name="mean")
    models = [model_files.load(each.model_folder) for each in (gone_on, trained)]
    one, two = (exporters.weights_of(model) for model in models)
    for name, array in initialization.load(made.model).weights.items():
        expected = (one[name] + two[name]) / 2
        tolerance = np.abs(expected).max() / 250 + 1e-7
        np.testing.assert_allclose(array, expected, atol=tolerance, rtol=0, err_msg=name)
    card = made.model.card
    assert [each.name for each in card.averaged] == [trained.name]
    assert card.averaged[0].sha256 == models[1].card.sha256
    assert [each.name for each in card.base] == [trained.name]
    assert card.base[0].recipe == card.averaged[0].recipe == models[1].card.recipe
    assert card.name == "mean"
    assert model_files.load(gone_on.model_folder).card == models[0].card


def test_what_ships_is_known_as_the_run_it_was_made_of(
    trained: runs.Run, gone_on: runs.Run, shipped: shipping.Shipped, tmp_path: Path
) -> None:
    assert shipped.model.card.made_from == model_files.load(trained.model_folder).card.sha256
    with refused(ModelError):
        shipping.make(trained, noisy(), to=tmp_path, average=[shipped.model])
    made = shipping.make(gone_on, noisy(), to=tmp_path, average=[shipped.model], name="mean")
    assert [each.name for each in made.model.card.averaged] == ["tried"]
    lone = shutil.copy(shipped.model.path, tmp_path / "lone.onnx")
    with refused(ModelError, "'lone.weights.npz'"):
        shipping.make(gone_on, noisy(), to=tmp_path, average=[model_files.load(lone)])


def test_networks_that_have_no_mean_are_refused(trained: runs.Run, gone_on: runs.Run, tmp_path: Path) -> None:
    def together(other: model_files.Card) -> None:
        one = model_files.load(gone_on.model_folder)
        images = noisy().split("val").images
        shipping.average([one, dataclasses.replace(one, card=other)], tmp_path / "mean", images=images)

    card = model_files.load(trained.model_folder).card
    with refused(ModelError, "'on'", "'run'"):
        together(dataclasses.replace(card, sha256="0" * 64))
    with refused(ModelError, "'on'", "'run'"):
        together(dataclasses.replace(card, recipe=card.recipe | {"network": "light"}))
    with refused(ModelError, "labels"):
        together(dataclasses.replace(card, labels=("a", "b", "c")))
    with refused(ModelError, "data"):
        together(dataclasses.replace(card, data=None))
    assert not (tmp_path / "mean").exists()
    unfinished = runs.create(trained.recipe(), {"data": {}}, out=tmp_path / "unfinished")
    with refused(RunError, "unfinished", "mien train --resume"):
        shipping.make(trained, noisy(), to=tmp_path, average=[unfinished])


def test_weights_that_are_not_the_models_are_named(shipped: shipping.Shipped, tmp_path: Path) -> None:
    for path in shipped.model.path.parent.glob("tried.*"):
        shutil.copy(path, tmp_path)
    model, file = model_files.load(tmp_path / "tried.onnx"), tmp_path / "tried.weights.npz"
    content = file.read_bytes()
    with refused(ModelError, "tried.weights.npz"):
        initial_weights.read(model.path, "0" * 64)
    for spoilt in (content[:-100], content[: len(content) // 2], b"", b"PK" + content[2:400], b"[1]"):
        file.write_bytes(spoilt)
        with refused(ModelError, "tried.weights.npz"):
            initialization.load(model)
    changed = bytearray(content)
    place = content.index(b"conv/kernel.npy") + 400
    changed[place] ^= 1
    file.write_bytes(changed)
    with refused(ModelError, "tried.weights.npz"):
        initialization.load(model)
    file.unlink()
    with refused(ModelError, "'tried.onnx'", "'tried.weights.npz'", "mien ship"):
        initialization.load(model)
    with refused(ModelError, "'tried"):
        initialization.load(dataclasses.replace(model, card=dataclasses.replace(model.card, data=None)))


def test_a_float32_model_holds_its_weights_itself_and_none_of_old_stay(
    trained: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping.quantization, "AGREEMENT", 1.1)
    old = tmp_path / "run.weights.npz"
    old.write_bytes(b"an older model's")
    made = shipping.make(trained, noisy(), to=tmp_path)
    assert (made.weights, old.exists()) == (None, False)
    network = exporters.rebuild(model_files.load(trained.model_folder))
    assert initialization.load(made.model).weights.keys() == {variable.path for variable in network.weights}


def test_offsets_ship_where_they_are_worth_it_on_images_they_did_not_see(
    trained: runs.Run, shipped: shipping.Shipped
) -> None:
    val = noisy().split("val")
    raw = model_files.load(trained.model_folder).run(val.images, head="fer2013")
    alone, shifted = (
        calibration.measure(raw, val.labels, logit_bias=logit_bias) for logit_bias in (False, True)
    )
    worth = shifted.nll_after < alone.nll_after
    assert bool(shipped.model.card.head("fer2013").logit_bias) == worth
    # The figures are of the answers that ship, be they in int8.
    has = shipped.model.card.head("fer2013")
    own = calibration.undo(shipped.model.run(val.images, head="fer2013"), has.temperature, has.logit_bias)
    measured = calibration.measure(own, val.labels, logit_bias=worth)
    for name in ("ece_before", "ece_after", "nll_after", "accuracy_after", "accuracy_answered"):
        found = getattr(shipped.evaluations["fer2013"].calibration, name)
        assert found == pytest.approx(getattr(measured, name), abs=1e-6)


def test_every_figure_of_the_card_stands_in_the_evaluation(shipped: shipping.Shipped) -> None:
    document = json.loads(shipped.evaluation.read_text())
    assert document == json.loads(json.dumps(shipped.document))
    card = shipped.model.card
    assert document["sha256"] == card.sha256
    assert document["bytes"] == shipped.model.path.stat().st_size
    first = shipped.evaluations["fer2013"]
    others = {name: each for name, each in shipped.evaluations.items() if name != "fer2013"}
    assert Evaluation.from_dict(document["evaluation"]) == dataclasses.replace(first, heads=others)
    for name, head in card.heads.items():
        found = shipped.evaluations[name]
        assert found.calibration.temperature == head.temperature
        assert found.calibration.logit_bias == head.logit_bias
        assert found.calibration.threshold == head.threshold
        assert found.summary() == card.metrics[f"val as {name}"]
    # Images of 16 pixels a side show too little to search training for them.
    assert first.training_overlap is None
    val = noisy().split("val")
    report = evaluator.evaluate(shipped.model, val, labels=noisy().labels)
    assert first.accuracy == report.accuracy


def test_what_training_holds_is_left_out_of_the_figures_on_new_images() -> None:
    faces, labels, _ = synthetic.sample(16, seed=4, size=96)
    whole, part = (
        np.stack(
            [Image.fromarray(face).resize((48, 48), Image.Resampling.BOX, box) for face in faces[..., 0]]
        )
        for box in (None, (6, 8, 92, 94))
    )
    images = {"train": whole[:8], "val": np.concatenate([whole[:1], part[1:4], whole[8:]])}
    truth = {"train": labels[:8], "val": np.concatenate([labels[:4], labels[8:]])}
    splits = {
        name: Split(
            name, images[name][..., np.newaxis], truth[name], None, tuple(map(str, range(len(truth[name]))))
        )
        for name in images
    }
    data = Dataset("made", EMOTIONS, splits["train"], splits["val"], None)
    answers = evaluator.predict(model_files.load(), splits["val"], labels=data.labels)
    alone = dataclasses.replace(model_files.load().card, data=None, base=(), averaged=())
    known = shipping._known(data, alone)
    # Of what a model before it learnt, the images are not here to be looked at.
    assert shipping._known(data, model_files.load().card) is None
    assert known is not None
    overlap = evaluator.measure_overlap(answers, known)
    new = overlap.without_recrops
    assert new is not None
    assert (overlap.exact, overlap.near, overlap.recrops, new.n) == (1, 0, 3, 8)
    hit = answers.probabilities[4:].argmax(axis=1) == answers.truth[4:]
    assert (new.accuracy, new.agreement) == (hit.mean(), None)
    assert new.ece == compute_metrics(answers.probabilities[4:], answers.truth[4:], answers.names).ece
    voted = dataclasses.replace(answers.split, votes=np.eye(10, dtype=np.float32)[np.arange(12) % 7])
    agreement = evaluator.measure_overlap(
        dataclasses.replace(answers, split=voted), known
    ).without_recrops.agreement
    classes = [answers.names.index(VOTES[place % 7]) for place in range(12)]
    # Against votes, its confidence is held against the plurality.
    assert (
        agreement.ece == compute_metrics(answers.probabilities[4:], np.array(classes[4:]), answers.names).ece
    )


def test_int8_ships_only_where_it_is_good_enough(
    trained: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for agreement, precision in ((0.0, "int8"), (1.1, "float32")):
        monkeypatch.setattr(shipping.quantization, "AGREEMENT", agreement)
        monkeypatch.setattr(shipping.quantization, "LOSS", 1.0)
        made = shipping.make(trained, noisy(), to=tmp_path / precision)
        assert made.model.card.precision == made.document["precision"] == precision
        assert made.model.path.name == f"{trained.name}.onnx"


def test_what_cannot_ship(
    trained: runs.Run, tmp_path: Path, make_blobs: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = runs.create(recipes.get("quick"), {}, out=tmp_path / "run")
    with refused(RunError, "mien train --resume"):
        shipping.make(unfinished, noisy(), to=tmp_path)
    data = noisy()
    # One from before votes were noted.
    unnoted = runs.Run(shutil.copytree(trained.path, tmp_path / "unnoted"))
    facts = unnoted.facts()["data"]
    del facts["votes"]
    unnoted.update(data=facts)
    with refused(DataError, "'val'"):
        shipping.make(trained, dataclasses.replace(data, val=None), to=tmp_path)
    voteless = dataclasses.replace(data.split("val"), votes=None)
    with refused(DataError, "--votes"):
        shipping.make(trained, dataclasses.replace(data, val=voteless), to=tmp_path)
    with refused(DataError, "'ferplus'"):
        shipping.make(unnoted, dataclasses.replace(data, val=voteless), to=tmp_path)
    others = noisy()
    others.split("val").votes[::2] = np.roll(others.split("val").votes[::2], 1, axis=1)
    assert others.fingerprint == data.fingerprint
    with refused(DataError, "votes"):
        shipping.make(trained, others, to=tmp_path)
    with refused(DataError, "'run'"):
        shipping.make(trained, make_blobs({"train": 60, "val": 30}), to=tmp_path)
    with refused(DataError, "'run'"):
        shipping.make(trained, dying.data(), to=tmp_path)
    with refused(ModelError):
        shipping.make(trained, data, to=tmp_path, average=[trained])
    (tmp_path / "taken.json").mkdir()
    with refused(ModelError, "taken.json'"):
        shipping.make(trained, data, to=tmp_path, name="taken")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        shipping.make(trained, data, to=tmp_path / "file")
    for name in ("a/b", "a\nb", "a\x9bb", "a\ud800", "n" * 300):
        with refused(ModelError):
            shipping.make(trained, data, to=tmp_path / "odd", name=name)
    assert not (tmp_path / "odd").exists()

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(shipping.tempfile, "TemporaryFile", refuse)
        with refused(OutputError, tmp_path.name):
            shipping.make(trained, data, to=tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


def test_nothing_is_calibrated_on_what_a_model_before_it_learnt(
    trained: runs.Run, gone_on: runs.Run, tmp_path: Path
) -> None:
    data = noisy()
    shutil.copytree(gone_on.path, tmp_path / "on")
    model = model_files.load(gone_on.model_folder)
    learnt = dataclasses.replace(
        model.card.base[0].data,
        splits={"train": model_files.Part(n=1, fingerprint=data.split("val").fingerprint)},
    )
    base = dataclasses.replace(model.card.base[0], data=learnt)
    for change in ({"base": (base,)}, {"averaged": (base,)}):
        model_files.write(model.read(), dataclasses.replace(model.card, **change), tmp_path / "on" / "model")
        with refused(DataError, "val"):
            shipping.make(runs.open_run(tmp_path / "on"), data, to=tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


def said_of(shipped: shipping.Shipped, capsys: pytest.CaptureFixture[str], **changes: float) -> str:
    """What `mien ship` says of a model with other figures of calibration."""
    same = dict.fromkeys(("accuracy_before", "accuracy_after", "ece_before", "ece_after", "prior"), 0.0)
    own = same | changes
    evaluations = {
        name: dataclasses.replace(found, calibration=dataclasses.replace(found.calibration, **own))
        for name, found in shipped.evaluations.items()
    }
    release._warn(dataclasses.replace(shipped, evaluations=evaluations))
    return capsys.readouterr().err


def test_a_calibration_that_costs_accuracy_is_told(
    shipped: shipping.Shipped, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said_of(shipped, capsys) == ""
    assert said_of(shipped, capsys, accuracy_before=0.01, accuracy_after=0.02) == ""
    said = said_of(shipped, capsys, accuracy_before=0.02, accuracy_after=0.01)
    assert has_line(said, "fer2013:", "2.00%", "1.00%")
    # Of the file as it ships, where the folds show no loss.
    accuracy = shipped.evaluations["fer2013"].accuracy
    said = said_of(shipped, capsys, accuracy_before=1.0, accuracy_after=1.0)
    assert has_line(said, "fer2013:", "100.00%", f"{accuracy:.2%}")
    agreement = shipped.evaluations["ferplus"].agreement.share
    assert has_line(said, "ferplus:", "100.00%", f"{agreement:.2%}")


def test_offsets_that_cost_accuracy_are_told_of_what_ships(
    trained: runs.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folds show no loss, and the file that ships has one: with this bias it never says `angry`."""
    plain = shipping._calibration

    def spoilt(raw: np.ndarray, truth: np.ndarray) -> calibration.Calibration:
        return dataclasses.replace(plain(raw, truth), logit_bias=(-50.0, 0.0, 0.0))

    monkeypatch.setattr(shipping, "_calibration", spoilt)
    made = shipping.make(trained, noisy(), to=tmp_path)
    val = noisy().split("val")
    raw = model_files.load(trained.model_folder).run(val.images, head="fer2013")
    assert (raw.argmax(axis=1) == val.labels).mean() > 0.8
    assert (made.model.run(val.images, head="fer2013").argmax(axis=1) != 0).all()
    release._warn(made)
    assert has_line(capsys.readouterr().err, "fer2013:", f"{made.evaluations['fer2013'].accuracy:.2%}")


def test_a_model_of_few_images_is_calibrated_with_a_prior_and_says_so(
    shipped: shipping.Shipped, capsys: pytest.CaptureFixture[str]
) -> None:
    """40 images of three classes are fewer than 25 per class."""
    val = noisy().split("val")
    assert len(val) < 3 * calibration.FEW
    for head in shipped.model.card.heads.values():
        assert head.logit_bias == ()
    for name, found in shipped.evaluations.items():
        assert found.calibration.prior == calibration.PRIOR
        assert found.calibration.temperature == shipped.model.card.heads[name].temperature
    release._warn(shipped)
    assert has_line(capsys.readouterr().err, "fer2013:", 40, 13.3)
    assert re.search(r"\b40\b", model_cards.model(shipped.model, shipped.document))


def test_a_head_at_chance_is_told_and_marked(
    shipped: shipping.Shipped, trained: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    made = shipped.model.card
    assert not any(head.at_chance for head in made.heads.values())
    release._warn(shipped)
    before = capsys.readouterr().err.splitlines()
    split = noisy().split("train")
    raw = {name: (np.tile([0.5, 0.3, 0.2], (30, 1)), np.arange(30) % 3) for name in made.heads}
    poor = shipping._stated(made, raw, split)
    assert all(head.at_chance for head in poor.heads.values())
    bare = dataclasses.replace(shipped.model, card=poor)
    release._warn(dataclasses.replace(shipped, model=bare))
    told = [line for line in capsys.readouterr().err.splitlines() if line not in before]
    assert [re.findall(r"\w+", line)[0] for line in told] == list(made.heads)


def test_plenty_of_images_are_fitted_as_without_a_prior() -> None:
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(3), 75)
    truth = np.array([rng.choice(3, p=row) for row in chances])
    bare = [calibration.measure(chances, truth, logit_bias=each, prior=0.0) for each in (False, True)]
    assert shipping._calibration(chances, truth) in bare
    assert shipping._calibration(chances[:74], truth[:74]) == calibration.measure(
        chances[:74], truth[:74], prior=calibration.PRIOR
    )
