import dataclasses
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from builders import refused
from hand_models import LABELS, MODEL, SIZE, convolution
from mien import _files
from mien.errors import ModelError, OutputError, RunError
from mien.models import checks, model_files

PIXELS = np.random.default_rng(1).integers(0, 256, (70, SIZE, SIZE, 1), np.uint8)


def card(**changes: object) -> model_files.Card:
    return dataclasses.replace(model_files.Card(name="hand", labels=LABELS, size=SIZE), **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model_files.write(MODEL, card(), tmp_path / "hand")
    return tmp_path / "hand"


def test_a_folder_and_its_onnx_file_alone_are_the_same_model(folder: Path) -> None:
    whole, alone = model_files.load(folder), model_files.load(folder / "model.onnx")
    assert whole.card == alone.card
    assert (whole.run(PIXELS) == alone.run(PIXELS)).all()
    assert (folder / "labels.txt").read_text() == "happy\nsad\nsurprise\n"
    assert sorted(each.name for each in folder.iterdir()) == ["card.json", "labels.txt", "model.onnx"]


def test_answers_are_the_functions_the_weights_say() -> None:
    answers = model_files.of(MODEL, card()).run(PIXELS[:5])
    weights = {each.name: numpy_helper.to_array(each) for each in convolution().graph.initializer}
    padded = np.pad(PIXELS[:5, ..., 0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    features = np.maximum(np.einsum("nhwij,cij->nhwc", windows, weights["conv/kernel"][:, 0]), 0)
    logits = features.mean(axis=(1, 2)) @ weights["answer/kernel"] + weights["answer/bias"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(answers, powers / powers.sum(axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(model_files.of(MODEL, card()).features(PIXELS[:5]), features, atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 7, 70, 1000])
def test_batch_size_changes_no_answer(batch_size: int) -> None:
    loaded = model_files.of(MODEL, card())
    np.testing.assert_allclose(loaded.run(PIXELS, batch_size=batch_size), loaded.run(PIXELS), atol=1e-6)
    np.testing.assert_allclose(
        loaded.features(PIXELS, batch_size=batch_size), loaded.features(PIXELS), atol=1e-3
    )


def test_answers_are_float32_probabilities_and_the_same_every_time() -> None:
    loaded = model_files.of(MODEL, card(), threads=2)
    answers = loaded.run(PIXELS)
    assert answers.dtype == np.float32
    assert answers.shape == (70, 3)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)
    assert np.ptp(answers, axis=0).min() > 1e-4
    assert (model_files.of(MODEL, card(), threads=2).run(PIXELS) == answers).all()
    with ThreadPoolExecutor(8) as threads:
        assert all((each == answers).all() for each in threads.map(loaded.run, [PIXELS] * 16))


class _Counted:
    """A session that counts how often it runs."""

    def __init__(self, session: object) -> None:
        self.session, self.runs = session, 0

    def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.runs += 1
        return self.session.run(outputs, inputs)


def test_all_heads_answer_in_one_run_as_each_does_alone() -> None:
    loaded = model_files.load("fast")
    images = np.random.default_rng(2).integers(0, 256, (40, 48, 48, 1), np.uint8)
    counted = _Counted(loaded._session)
    found = dataclasses.replace(loaded, _session=counted).run_heads(images, balance=0.5)
    assert counted.runs == 2  # batches of 32 images
    assert list(found) == list(loaded.card.heads) == ["fer2013", "ferplus"]
    for head, answers in found.items():
        assert (answers == loaded.run(images, head=head, balance=0.5)).all()
    assert not np.allclose(*found.values(), atol=0.01)
    assert list(loaded.run_heads(images[:0], heads=["ferplus"])) == ["ferplus"]
    with refused(ModelError, "'votes'", "fer2013, ferplus"):
        loaded.run_heads(images, heads=["fer2013", "votes"])
    with refused(ModelError, "no head", "fer2013, ferplus"):
        loaded.run_heads(images, heads=[])


def test_no_images_give_no_answers() -> None:
    loaded = model_files.of(MODEL, card())
    assert loaded.run(PIXELS[:0]).shape == (0, 3)
    assert loaded.features(PIXELS[:0]).shape == (0, SIZE, SIZE, 4)


def test_progress_counts_images() -> None:
    seen: list[tuple[int, int]] = []
    model_files.of(MODEL, card()).run(PIXELS, batch_size=32, progress=lambda *each: seen.append(each))
    assert seen == [(32, 70), (64, 70), (70, 70)]


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (PIXELS.astype(np.float32), "float32"),
        (PIXELS[..., 0], "(70, 16, 16)"),
        (PIXELS[:, :8], "(70, 8, 16, 1)"),
        (PIXELS[0], "(16, 16, 1)"),
        (np.uint8(3), "uint8"),
        ([[1]], "list"),
        (PIXELS.tolist(), "list"),
        (None, "NoneType"),
    ],
)
def test_images_of_another_kind_are_refused(images: object, says: str) -> None:
    with refused(ModelError, says):
        model_files.of(MODEL, card()).run(images)  # type: ignore[arg-type]
    with refused(ModelError, says):
        model_files.of(MODEL, card()).features(images)  # type: ignore[arg-type]


def test_senseless_settings_are_refused() -> None:
    with refused(ModelError, "batch_size", 0):
        model_files.of(MODEL, card()).run(PIXELS, batch_size=0)
    with refused(ModelError, "threads", 0):
        model_files.of(MODEL, card(), threads=0)
    with refused(ModelError, "optimization", "'none'"):
        model_files.of(MODEL, card(), optimization="none")  # type: ignore[arg-type]


FULL = model_files.Card(
    name="quick-1",
    labels=LABELS,
    size=SIZE,
    heads={"labels": model_files.Head(about="their own", temperature=1.25, threshold=0.4)},
    recipe={"name": "quick", "epochs": 8, "augment": {"flip": True, "erase_area": [0.02, 0.2]}},
    data=model_files.Data(
        name="archive (4).zip",
        fingerprint="a" * 64,
        splits={"val": model_files.Part(n=3589, fingerprint="b" * 64)},
    ),
    excluded={"blank": 12},
    metrics={
        "val": model_files.Measured(n=3589, values={"accuracy": 0.6}, intervals={"accuracy": (0.58, 0.62)})
    },
    parity=model_files.Parity(images=1000, largest_difference=1e-6, against="Keras in float32"),
    licence="CC0",
    versions={"mien": "0.1"},
)


def test_a_card_reads_back_equal(tmp_path: Path) -> None:
    assert model_files.parse(model_files.to_json(FULL)) == FULL
    written = model_files.write(MODEL, FULL, tmp_path / "full")
    loaded = model_files.load(tmp_path / "full").card
    assert loaded == written.card == dataclasses.replace(FULL, sha256=loaded.sha256)
    inside = checks.read_entry((tmp_path / "full/model.onnx").read_bytes(), model_files.KEY)
    assert inside is not None
    assert model_files.parse(inside) == FULL


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "schema"),
        ({"labels": ["happy"]}, "labels"),
        ({"labels": ["happy", "happy"]}, "'happy'"),
        ({"labels": ["happy", "so/so"]}, "labels"),
        ({"size": "48"}, "size"),
        ({"size": 100_000}, "size"),
        ({"colour": "rgb"}, "colour"),
        ({"pixel_range": [0, 1]}, "pixel_range"),
        ({"heads": {}}, "heads"),
        ({"heads": {"labels": {"temperature": 0}}}, "temperature"),
        ({"heads": {"labels": {"logit_bias": [1.0, 2.0]}}}, "2"),
        ({"heads": {"labels": {"threshold": 1.5}}}, "threshold"),
        ({"heads": {"labels": {"output": "features"}}}, "output"),
        ({"sha256": "abc"}, "sha256"),
        ({"name": "/srv/models/quick"}, "name"),
        ({"data": {"name": "C:\\faces", "fingerprint": "a" * 64}}, "data.name"),
        ({"data": {"name": "faces", "fingerprint": "?"}}, "data.fingerprint"),
        ({"excluded": {"blank": -1}}, "excluded"),
        ({"parity": {"images": 1, "largest_difference": 0.0}}, "parity.against"),
        ({"author": "me"}, "author"),
        ({"metrics": {"val": {"n": 1.5}}}, "metrics"),
    ],
)
def test_a_card_that_does_not_hold_is_refused_by_its_place(change: dict[str, object], says: str) -> None:
    document = json.loads(model_files.to_json(card())) | change
    with refused(ModelError, says):
        model_files.parse(json.dumps(document))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 5000, '{"size": NaN}', b"\xff\xfe", " " * (1 << 20) + "{"]
)
def test_what_is_no_card_is_refused(text: str | bytes) -> None:
    with refused(ModelError):
        model_files.parse(text)


def test_a_card_has_a_largest_size() -> None:
    with refused(ModelError):
        model_files.parse(model_files.to_json(card()) + " " * (1 << 20))


def test_a_card_with_wrong_values_is_not_written(tmp_path: Path) -> None:
    with refused(ModelError, "size"):
        model_files.write(MODEL, card(size=3), tmp_path / "bad")
    with refused(ModelError):
        model_files.write(
            MODEL,
            card(recipe={"rate": float("nan")}, heads={"labels": model_files.Head(temperature=float("inf"))}),
            tmp_path / "bad",
        )
    assert not (tmp_path / "bad").exists()


def test_an_older_model_and_foreign_files_beside_it(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    old = model_files.load(folder).card
    new = model_files.write(
        (folder / "model.onnx").read_bytes(), dataclasses.replace(old, licence="CC0"), folder
    )
    assert model_files.load(folder).card == new.card
    assert new.card.sha256 != old.sha256
    assert (folder / "notes.txt").read_text() == "mine"
    model = onnx.load(folder / "model.onnx")
    keys = [each.key for each in model.metadata_props]
    assert keys == [model_files.KEY, checks.MODEL_KEY, checks.CARD_KEY]


def test_one_file_alone_can_be_written(tmp_path: Path) -> None:
    written = model_files.write(MODEL, card(), tmp_path / "new" / "one.onnx")
    assert model_files.load(tmp_path / "new" / "one.onnx").card == written.card
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["one.onnx"]


@pytest.mark.parametrize("moment", [0, 1, 2])
def test_a_write_stopped_at_any_moment_leaves_the_old_or_the_new(
    folder: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = _files.write, []

    def stop(file: Path, content: bytes) -> None:
        if len(written) == moment:
            raise KeyboardInterrupt
        written.append(file)
        write(file, content)

    old = model_files.load(folder).card
    monkeypatch.setattr(_files, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        model_files.write(MODEL, card(licence="new"), folder)
    found = model_files.load(folder).card
    assert found == old if moment == 0 else found.licence == "new"


def test_places_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        model_files.write(MODEL, card(), tmp_path / "file" / "below")
    (tmp_path / "taken" / "model.onnx").mkdir(parents=True)
    with pytest.raises(OutputError):
        model_files.write(MODEL, card(), tmp_path / "taken")
    assert [each.name for each in (tmp_path / "taken").iterdir()] == ["model.onnx"]


def test_no_model_no_answer(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(ModelError, "nowhere"):
        model_files.load(tmp_path / "nowhere")
    with refused(ModelError, tmp_path.name):
        model_files.load(tmp_path)
    for name in ("x" * 5000, "x\0"):
        with refused(ModelError) as caught:
            model_files.load(name)
        assert len(str(caught.value)) < 300
    (tmp_path / "bare.onnx").write_bytes(MODEL)
    with refused(ModelError, "bare.onnx"):
        model_files.load(tmp_path / "bare.onnx")
    monkeypatch.setattr(model_files, "MAX_BYTES", 100)
    with refused(ModelError, "model.onnx", 100):
        model_files.load(folder)


def test_a_runs_folder_is_its_model(away: Path) -> None:
    made = Path("runs/quick-1")
    made.mkdir(parents=True)
    (made / "recipe.toml").touch()
    with refused(RunError, "mien train --resume runs/quick-1"):
        model_files.load("runs/quick-1")
    written = model_files.write(MODEL, card(), made / "model")
    for name in ("runs/quick-1", made, "runs/quick-1/model", "runs/quick-1/model/model.onnx"):
        assert model_files.load(name).card == written.card
    assert model_files.load("runs/quick-1").path == made / "model"
    assert model_files.load("runs/quick-1").read() == written.read()
    (made / "model").rename(made / "bundle")
    with refused(RunError, "runs/quick-1/bundle", "runs/quick-1/model"):
        model_files.resolve("runs/quick-1")


def test_a_name_of_the_package_goes_before_a_folder_of_that_name(away: Path) -> None:
    (away / "fast").mkdir()
    (away / "fast" / "recipe.toml").touch()
    mine = model_files.write(MODEL, card(), away / "fast" / "model")
    assert model_files.load("fast").path == model_files.find("fast") == model_files.MODELS / "fast.onnx"
    assert not model_files.is_run("fast")
    assert model_files.is_run("./fast")
    assert model_files.load("./fast").card == mine.card


def test_optimization_is_passed_on_when_a_model_is_loaded() -> None:
    loaded = model_files.load("fast", optimization="basic")
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), np.uint8)
    assert loaded._optimization == "basic"
    same = model_files.of(loaded.read(), loaded.card, optimization="basic")
    assert (loaded.run(images) == same.run(images)).all()
    assert (pickle.loads(pickle.dumps(loaded)).run(images) == same.run(images)).all()
    with refused(ModelError, "optimization", "'most'"):
        model_files.load("fast", optimization="most")  # type: ignore[arg-type]


def test_a_card_of_another_file_is_refused(folder: Path) -> None:
    file = folder / "card.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps(document | {"licence": "CC0"}))
    with refused(ModelError, "card.json", "'hand'"):
        model_files.load(folder)
    file.write_text(json.dumps(document | {"sha256": "0" * 64}))
    with refused(ModelError, "'hand'"):
        model_files.load(folder)
    file.write_text(json.dumps(document | {"sha256": None}))
    with refused(ModelError, "'hand'"):
        model_files.load(folder)


def changed(change: str) -> bytes:
    """The hand-written model with one planted fault."""
    model = convolution()
    graph, node = model.graph, model.graph.node
    if change == "operation":
        node[3].op_type = "ConstantOfShape"
    elif change == "custom":
        node[3].domain = "evil.ops"
    elif change == "contributed":
        node[3].op_type, node[3].domain = "Relu", "com.microsoft"
    elif change == "subgraph":
        node[3].attribute.append(helper.make_attribute("body", helper.make_graph([], "inner", [], [])))
    elif change == "tensors":
        value = numpy_helper.from_array(np.zeros(1, np.float32))
        node[3].attribute.append(helper.make_attribute("values", [value]))
    elif change == "function":
        model.functions.add().name = "own"
    elif change == "training":
        model.training_info.add()
    elif change == "sparse":
        graph.sparse_initializer.add().dims.append(3)
    elif change == "external":
        tensor = graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
    elif change == "external in a node":
        tensor = numpy_helper.from_array(np.zeros(1, np.float32))
        tensor.external_data.add(key="location", value="/etc/passwd")
        node[3].attribute.append(helper.make_attribute("value", tensor))
    elif change == "huge weight":
        graph.initializer[0].dims[:] = [1 << 20, 1 << 20, 1 << 20, 1 << 20]
    elif change == "negative weight":
        graph.initializer[0].dims[:] = [-4, 1, 3, 3]
    elif change == "huge pads":
        node[2].attribute[0].ints[:] = [100_000, 100_000, 100_000, 100_000]
    elif change == "huge axis":
        node[8].attribute[0].i = 1 << 40
    elif change == "many nodes":
        graph.node.extend(helper.make_node("Relu", ["bent"], [f"r{i}"]) for i in range(10_001))
    elif change == "two inputs":
        graph.input.append(helper.make_tensor_value_info("more", TensorProto.UINT8, [1]))
    elif change == "float input":
        graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    elif change == "other size":
        graph.input[0].type.tensor_type.shape.dim[1].dim_value = 20
    elif change == "one at a time":
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    elif change == "no features":
        del graph.output[1]
    elif change == "other label count":
        graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4
        graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones((4, 4), np.float32), "answer/kernel"))
        graph.initializer[2].CopyFrom(numpy_helper.from_array(np.ones(4, np.float32), "answer/bias"))
    elif change == "logits":
        node[8].op_type = "Identity"
        del node[8].attribute[:]
    elif change == "not a number":
        graph.initializer[2].CopyFrom(numpy_helper.from_array(np.full(3, np.nan, np.float32), "answer/bias"))
    elif change == "cannot run":
        graph.initializer.append(numpy_helper.from_array(np.array([5, 3]), "shape"))
        node[7].output[0] = "raw"
        node.insert(8, helper.make_node("Reshape", ["raw", "shape"], ["logits"]))
    return model.SerializeToString()


UNSAFE = (
    *("operation", "custom", "contributed", "subgraph", "tensors", "function", "training", "sparse"),
    *(
        "external",
        "external in a node",
        "huge weight",
        "negative weight",
        "huge pads",
        "huge axis",
        "many nodes",
    ),
)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("operation", "'ConstantOfShape'"),
        ("custom", "'evil.ops'"),
        ("contributed", "'com.microsoft'"),
        ("subgraph", ""),
        ("tensors", ""),
        ("function", ""),
        ("training", ""),
        ("sparse", "sparse"),
        ("external", ""),
        ("external in a node", ""),
        ("huge weight", ""),
        ("negative weight", ""),
        ("huge pads", "100000"),
        ("huge axis", str(1 << 40)),
        ("many nodes", 10_010),
        ("two inputs", ""),
        ("float input", ""),
        ("other size", ""),
        ("one at a time", ""),
        ("no features", "features"),
        ("other label count", 4),
        ("logits", "probabilities"),
        ("not a number", "probabilities"),
        ("cannot run", ""),
    ],
)
def test_planted_faults_are_refused_in_one_sentence(
    change: str, says: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # What the external weights name is there to be read: refusing must not depend on its absence.
    (tmp_path / "weights.bin").write_bytes(bytes(4 * 9 * 4))
    with refused(ModelError, says):
        model_files.write(changed(change), card(), tmp_path / "bad")
    if change in UNSAFE:  # ONNX Runtime must not see it
        with refused(ModelError, says):
            checks.check(changed(change))
    assert not (tmp_path / "bad").exists()


def test_the_hand_written_model_is_fine_without_a_fault() -> None:
    assert changed("nothing") == MODEL
    assert model_files.of(changed("nothing"), card()).card.sha256


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\x08",
        b"not a model at all",
        MODEL + MODEL,
        MODEL[:-1],
        b"\x0b" + MODEL,  # a group
        b"\x80" * 20,  # a number without an end
        b"\x00\x00" + MODEL,  # field 0
        b"\xba\x80\x80\x80\x10\x00" + MODEL,  # field 14 with bits beyond the 32 of a tag
        b"\x0d\x00\x00",
        b"\x08",
    ],
)
def test_what_is_no_onnx_file_is_refused(content: bytes) -> None:
    with refused(ModelError):
        checks.check(content)


def test_numbers_may_stand_packed_or_apart() -> None:
    """Protobuf allows both for a list, and other writers use the other one."""
    apart = b"\x08\x03\x08\x05"
    packed = b"\x0a\x02\x03\x05"
    for dims in (apart, packed):
        checks._check_tensor(memoryview(dims), 8)
        with refused(ModelError):
            checks._check_tensor(memoryview(dims), 7)


def test_metadata_of_others_stays() -> None:
    model = convolution()
    model.metadata_props.add(key="theirs", value="x" * 300)
    file = checks.write_entry(model.SerializeToString(), model_files.KEY, b"one")
    file = checks.write_entry(file, model_files.KEY, b"two")
    assert checks.read_entry(file, model_files.KEY) == b"two"
    assert checks.read_entry(file, "theirs") == b"x" * 300
    assert checks.read_entry(file, "nobody's") is None
    read = onnx.load_from_string(file)
    assert {each.key: each.value for each in read.metadata_props} == {
        "theirs": "x" * 300,
        model_files.KEY: "two",
    }
    del read.metadata_props[:]
    assert read == convolution()


def mutate(content: bytes, random: np.random.Generator) -> bytes:
    """Flip, drop, repeat or insert bytes in one to three places."""
    mutated = bytearray(content)
    for _ in range(random.integers(1, 4)):
        place, length = int(random.integers(len(mutated))), int(random.integers(1, 9))
        kind = random.integers(5)
        if kind == 0:
            mutated[place] ^= 1 << random.integers(8)
        elif kind == 1:
            del mutated[place : place + length]
        elif kind == 2:
            mutated[place:place] = mutated[place : place + length]
        elif kind == 3:
            mutated[place:place] = random.bytes(length)
        else:
            del mutated[max(place, 1) :]
    return bytes(mutated)


def is_refused(place: Path, expected: model_files.Card | None = None) -> bool:
    """Load and ask; anything but a good answer or one sentence fails the test."""
    try:
        loaded = model_files.load(place)
        answers = loaded.run(PIXELS[:4])
    except ModelError as error:
        message = str(error)
    else:
        np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-3)
        assert expected is None or loaded.card == expected
        return False
    assert message
    assert "\n" not in message
    return True


def test_200_mutated_cards_and_models(folder: Path) -> None:
    """A mutation is refused in one sentence, or, in a card's blank space, changes nothing."""
    random = np.random.default_rng(42)
    whole = model_files.load(folder).card
    found = 0
    for count in range(200):
        file = folder / ("card.json" if count % 2 else "model.onnx")
        content = file.read_bytes()
        mutated = mutate(content, random)
        file.write_bytes(mutated)
        found += is_refused(folder, whole)
        file.write_bytes(content)
    assert found > 180


def unsealed(about: model_files.Card) -> bytes:
    """A file from before there were hashes inside."""
    return checks.write_entry(MODEL, model_files.KEY, model_files.to_json(about).encode())


def test_200_mutated_models_that_hold_no_hash(folder: Path) -> None:
    """Such a file has only its content to be judged by: it is refused, or gives probabilities."""
    random = np.random.default_rng(7)
    content = unsealed(card())
    # The card takes most of so small a file; mutations are to hit the graph.
    graph = len(MODEL)
    found = 0
    for _ in range(200):
        (folder / "mutated.onnx").write_bytes(mutate(content[:graph], random) + content[graph:])
        found += is_refused(folder / "mutated.onnx")
    assert found > 100


def test_a_bit_that_flipped_in_a_file_alone_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    model_files.write(MODEL, card(), tmp_path / "whole.onnx")
    content, random = (tmp_path / "whole.onnx").read_bytes(), np.random.default_rng(3)
    alone = tmp_path / "alone.onnx"
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        alone.write_bytes(damaged)
        with refused(ModelError, "'alone.onnx'"):
            model_files.load(alone)


@pytest.mark.parametrize("key", [model_files.KEY, checks.MODEL_KEY, checks.CARD_KEY])
def test_what_was_changed_in_a_file_alone_is_named(tmp_path: Path, key: str) -> None:
    file = tmp_path / "one.onnx"
    model_files.write(MODEL, card(), file)
    whole = file.read_bytes()
    edited = model_files.to_json(card(licence="CC0")).encode()
    file.write_bytes(checks.write_entry(whole, key, edited))
    what = "model" if key == checks.MODEL_KEY else "card"
    with refused(ModelError, "'one.onnx'", what):
        model_files.load(file)
    file.write_bytes(whole.replace(key.encode(), key.encode()[::-1]))
    with refused(ModelError, "'one.onnx'", what):
        model_files.load(file)


def test_weights_of_another_model_under_a_card_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "one.onnx"
    model_files.write(MODEL, card(), file)
    model = onnx.load(file)
    kernel = model.graph.initializer[1]
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * 2, kernel.name))
    onnx.save(model, file)
    with refused(ModelError, "'one.onnx'", "model"):
        model_files.load(file)


def test_what_other_programs_note_in_the_metadata_does_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "one.onnx"
    answers = model_files.write(MODEL, card(), file).run(PIXELS)
    model = onnx.load(file)
    model.metadata_props.insert(0, onnx.StringStringEntryProto(key="seen by", value="another program"))
    onnx.save(model, file)
    assert (model_files.load(file).run(PIXELS) == answers).all()


def test_a_file_without_hashes_loads_and_has_them_once_it_is_written_again(tmp_path: Path) -> None:
    file = tmp_path / "old.onnx"
    file.write_bytes(unsealed(card()))
    old = model_files.load(file)
    answers = old.run(PIXELS)
    new = model_files.write(old.read(), old.card, file)
    again = model_files.load(file)
    assert again.card == new.card != old.card
    assert dataclasses.replace(again.card, sha256=old.card.sha256) == old.card
    assert (again.run(PIXELS) == answers).all()
    assert checks.read_entry(again.read(), checks.MODEL_KEY)
    with refused(ModelError, "old.onnx"):
        old.read()
    content = file.read_bytes()
    model_files.write(again.read(), again.card, file)
    assert file.read_bytes() == content
    renamed = file.rename(tmp_path / "new.onnx")
    assert model_files.load(renamed).card == again.card


def evaluation(sha256: object) -> str:
    return json.dumps({"schema": 2, "name": "one", "sha256": sha256, "bytes": 1, "evaluation": {}})


@pytest.mark.parametrize("says", ["0" * 64, None, 7, "no\nhash" * 100])
def test_a_file_beside_the_evaluation_of_another_is_refused(tmp_path: Path, says: object) -> None:
    model_files.write(MODEL, card(), tmp_path / "one.onnx")
    (tmp_path / "one.json").write_text(evaluation(says))
    with refused(ModelError, "'one.json'", "'one.onnx'") as caught:
        model_files.load(tmp_path / "one.onnx")
    assert len(str(caught.value)) < 250


def test_a_file_beside_its_own_evaluation_or_what_is_none_loads(tmp_path: Path) -> None:
    made = model_files.write(MODEL, card(), tmp_path / "one.onnx")
    for text in (evaluation(made.card.sha256), "", "{", "[]", "[" * 100_000, '{"sha256": "0"}', '"name"'):
        (tmp_path / "one.json").write_text(text)
        assert model_files.load(tmp_path / "one.onnx").card == made.card
    # A card has a name and a hash as well, and is of the file that stands beside it as model.onnx.
    (tmp_path / "one.json").write_text(model_files.to_json(dataclasses.replace(made.card, sha256="0" * 64)))
    assert model_files.load(tmp_path / "one.onnx").card == made.card
    (tmp_path / "one.json").unlink()
    (tmp_path / "one.json").mkdir()
    assert model_files.load(tmp_path / "one.onnx").card == made.card


def test_using_a_model_needs_nothing_that_trains(folder: Path) -> None:
    script = (
        "import sys\n"
        "from mien.models import model_files\n"
        f"model_files.load({str(folder)!r})\n"
        "heavy = {'keras', 'tensorflow', 'onnx', 'matplotlib', 'cv2', 'torch', 'jax'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_target_is_a_run_a_model_or_a_shipped_name(away: Path) -> None:
    content = (model_files.MODELS / "fast.onnx").read_bytes()
    for folder in ("mine", "mine/model", "fast"):
        Path(folder).mkdir(parents=True)
    for file in ("mine/model/model.onnx", "mine/copy.onnx", "fast/model.onnx"):
        Path(file).write_bytes(content)
    Path("mine/recipe.toml").write_text("")
    name = model_files.load("fast").card.name
    subject = model_files.resolve("mine")
    assert (subject.run, subject.name, subject.home) == (Path("mine"), "mine", Path("mine"))
    for file in ("mine/model", "mine/model/model.onnx"):
        subject = model_files.resolve(file)
        assert (subject.run, subject.name, subject.home) == (None, name, Path("mine").resolve())
    for target in ("mine/copy.onnx", "fast", "./fast", None, subject.model):
        assert model_files.resolve(target).home is None
    assert model_files.resolve("fast").model.path == model_files.MODELS / "fast.onnx"
    assert model_files.resolve("./fast").model.path == Path("fast")
