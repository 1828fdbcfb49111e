"""A model repository for Triton and servers like it."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest

import mien
from builders import refused
from mien.data import synthetic
from mien.errors import InputError, ModelError, OutputError
from mien.models import model_files
from mien.release import triton

pytest.importorskip("onnx", reason="a model repository needs mien[train]")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("triton") / "repository"
    made = triton.write_repository(mien.load_model("fast"), place, at_least=64)
    assert made.path == place
    assert made.parity.largest_difference == 0
    return place


@pytest.fixture(scope="module")
def schema() -> ModuleType:
    """Triton's schema of config.pbtxt. Its package imports grpc, which is not needed for that."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        pytest.skip("tritonclient brings Triton's schema")
    path = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_head_is_a_model_that_answers_as_the_model_does(repository: Path) -> None:
    model = mien.load_model("fast")
    faces = synthetic.sample(30, seed=3)[0]
    assert {each.name for each in repository.iterdir()} == {"fast-fer2013-48", "fast-ferplus-48"}
    for head in model.card.heads:
        folder = repository / f"fast-{head}-48"
        session = onnxruntime.InferenceSession(folder / "1" / "model.onnx")
        [output] = session.get_outputs()
        assert output.name == model.card.heads[head].output
        np.testing.assert_array_equal(session.run(None, {"images": faces})[0], model.run(faces, head=head))
        assert (folder / "labels.txt").read_text().split() == list(model.card.labels)
        card = json.loads((folder / "card.json").read_text())
        assert list(card["heads"]) == [head]
        assert card["made_from"] == model.card.sha256


def test_the_configuration_fits_the_schema_of_triton_and_the_file(
    repository: Path, schema: ModuleType
) -> None:
    from google.protobuf import text_format

    for folder in repository.iterdir():
        config = text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())
        session = onnxruntime.InferenceSession(folder / "1" / "model.onnx")
        assert config.name == folder.name
        assert config.backend == "onnxruntime"
        assert config.max_batch_size > 1
        assert config.HasField("dynamic_batching")
        kinds = {"tensor(uint8)": schema.TYPE_UINT8, "tensor(float)": schema.TYPE_FP32}
        # The first dimension of the file is the batch, which the configuration leaves out.
        for stated, real in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
            assert [(each.name, each.data_type, list(each.dims)) for each in stated] == [
                (each.name, kinds[each.type], each.shape[1:]) for each in real
            ]
        assert (folder / config.output[0].label_filename).is_file()


def test_odd_names_are_quoted(tiny_run: Path, tmp_path: Path, schema: ModuleType) -> None:
    from google.protobuf import text_format

    model = mien.load_model(tiny_run)
    odd = model_files.of(model.content, replace(model.card, name='a "run" é'))
    made = triton.write_repository(odd, tmp_path, at_least=2)
    for folder in made.path.iterdir():
        config = text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())
        assert config.name == folder.name


def test_export_writes_a_repository_of_a_run_and_keeps_what_else_is_there(
    tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "other" / "1").mkdir(parents=True)
    for _ in range(2):
        made = mien.export(tiny_run, "triton", tmp_path)
        assert made.path == tmp_path
        assert made.parity.largest_difference == 0
    folders = sorted(each.name for each in tmp_path.iterdir())
    assert folders == ["other", "tiny-run-labels-48"]


def test_bad_places_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("words")
    with refused(ModelError, "file"):
        mien.export(tiny_run, "triton", tmp_path / "file")
    with refused(OutputError):
        mien.export(tiny_run, "triton", tmp_path / "file" / "below")
    with refused(InputError, "triton"):
        mien.export(tiny_run, "tritn", tmp_path)
