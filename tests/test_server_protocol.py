"""The Open Inference Protocol: by hand, and with Triton's own client where it is installed."""

import base64
import copy
import gzip
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import mien
from http_clients import ask
from mien.data import synthetic
from mien.server.processes import RunningServer, serve
from mien.server.settings import Limits, Settings

MODEL = "/v2/models/fast"
CROPS = synthetic.sample(5, seed=8, size=48)[0]


@pytest.fixture(scope="module")
def model() -> Any:
    return mien.load_model("fast", threads=1)


@pytest.fixture(scope="module")
def server(model: Any) -> Iterator[RunningServer]:
    running = serve(model, port=0, block=False, settings=Settings(limits=Limits(crops=40)))
    assert running is not None
    with running:
        yield running


def document(crops: np.ndarray = CROPS, **more: Any) -> dict[str, Any]:
    tensor = {
        "name": "images",
        "datatype": "UINT8",
        "shape": list(crops.shape),
        "data": crops.ravel().tolist(),
    }
    return {"inputs": [tensor], **more}


def infer(server: RunningServer, content: Any, **headers: str) -> Any:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return ask(server.url, f"{MODEL}/infer", body, "application/json", headers=headers)


def test_server_and_model_are_described(server: RunningServer) -> None:
    assert ask(server.url, "/v2").json["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/health/live", "/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/1/ready"):
        assert ask(server.url, path).status == 200
    about = ask(server.url, MODEL).json
    assert about == ask(server.url, f"{MODEL}/versions/1").json
    assert about["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 48, 48, 1]}]
    assert [each["name"] for each in about["outputs"]] == ["probabilities", "ferplus"]
    for path in ("/v2/models/default", f"{MODEL}/versions/2", "/v2/models/default/ready"):
        assert ask(server.url, path).status == 404


@pytest.mark.parametrize("nested", [False, True])
def test_json_numbers_are_answered_as_the_model_does(server: RunningServer, model: Any, nested: bool) -> None:
    asked = document(id="seven")
    if nested:
        asked["inputs"][0]["data"] = CROPS.tolist()
    found = infer(server, asked).json
    assert (found["model_name"], found["model_version"], found["id"]) == ("fast", "1", "seven")
    outputs = {each["name"]: each for each in found["outputs"]}
    for name, head in (("probabilities", "fer2013"), ("ferplus", "ferplus")):
        assert outputs[name]["shape"] == [5, 7]
        answer = np.array(outputs[name]["data"], np.float32).reshape(5, 7)
        assert np.array_equal(answer, model.run(CROPS, head=head))


def test_bytes_behind_the_json_are_read_and_written(server: RunningServer, model: Any) -> None:
    asked = document(
        outputs=[{"name": "ferplus", "parameters": {"binary_data": True}}, {"name": "probabilities"}]
    )
    del asked["inputs"][0]["data"]
    asked["inputs"][0]["parameters"] = {"binary_data_size": CROPS.size}
    text = json.dumps(asked).encode()
    reply = infer(server, text + CROPS.tobytes(), **{"Inference-Header-Content-Length": str(len(text))})
    assert reply.headers["content-type"] == "application/octet-stream"
    split = int(reply.headers["inference-header-content-length"])
    first, second = json.loads(reply.body[:split])["outputs"]
    assert first["parameters"]["binary_data_size"] == len(reply.body) - split == 5 * 7 * 4
    answer = np.frombuffer(reply.body[split:], np.float32).reshape(5, 7)
    assert np.array_equal(answer, model.run(CROPS, head="ferplus"))
    assert len(second["data"]) == 35


def test_many_crops_and_compressed_bodies_are_answered(server: RunningServer, model: Any) -> None:
    many = synthetic.sample(40, seed=2, size=48)[0]
    reply = infer(server, gzip.compress(json.dumps(document(many)).encode()), **{"Content-Encoding": "gzip"})
    answer = np.array(reply.json["outputs"][1]["data"], np.float32).reshape(40, 7)
    assert np.array_equal(answer, model.run(many, head="ferplus"))


def changed(**of_input: Any) -> dict[str, Any]:
    asked = document()
    asked["inputs"][0] |= of_input
    return asked


BINARY = {"parameters": {"binary_data_size": CROPS.size}}
REFUSED: dict[str, tuple[Any, dict[str, str], int]] = {
    "no JSON": (b"{", {}, 400),
    "no object": (b"[]", {}, 400),
    "no inputs": ({}, {}, 400),
    "two inputs": ({"inputs": document()["inputs"] * 2}, {}, 400),
    "a number as input": ({"inputs": [1]}, {}, 400),
    "another input": (changed(name="image"), {}, 400),
    "another type": (changed(datatype="FP32"), {}, 400),
    "another shape": (changed(shape=[5, 48, 48]), {}, 400),
    "another size": (changed(shape=[5, 64, 64, 1]), {}, 400),
    "no crop": (changed(shape=[0, 48, 48, 1], data=[]), {}, 400),
    "a true shape": (changed(shape=[True, 48, 48, 1]), {}, 400),
    "too many crops": (changed(shape=[41, 48, 48, 1]), {}, 413),
    "too few numbers": (changed(data=[1, 2, 3]), {}, 400),
    "numbers that are none": (changed(data=["a"] * CROPS.size), {}, 400),
    "fractions": (changed(data=[0.5] * CROPS.size), {}, 400),
    "numbers below 0": (changed(data=[-1] * CROPS.size), {}, 400),
    "numbers above 255": (changed(data=[256] * CROPS.size), {}, 400),
    "huge numbers": (changed(data=[10**30] * CROPS.size), {}, 400),
    "lists of different lengths": (changed(data=[[1], [1, 2]]), {}, 400),
    "no data": (changed(data=None), {}, 400),
    "bytes that do not follow": (changed(data=None, **BINARY), {}, 400),
    "a size that is no number": (changed(data=None, parameters={"binary_data_size": "9"}), {}, 400),
    "another output": (document(outputs=[{"name": "features"}]), {}, 400),
    "an output that is a number": (document(outputs=[1]), {}, 400),
    "a class": (document(outputs=[{"name": "ferplus", "parameters": {"classification": 2}}]), {}, 400),
    "an output without a name": (document(outputs=[{"name": []}]), {}, 400),
    "shared memory": (changed(parameters={"shared_memory_region": "a"}), {}, 400),
    "an answer in shared memory": (
        document(outputs=[{"name": "ferplus", "parameters": {"shared_memory_region": "a"}}]),
        {},
        400,
    ),
    "an id that is a number": (document(id=5), {}, 400),
    "a length beyond the body": (document(), {"Inference-Header-Content-Length": "999999999"}, 400),
    "a length below 0": (document(), {"Inference-Header-Content-Length": "-1"}, 400),
    "a length of words": (document(), {"Inference-Header-Content-Length": "ten"}, 400),
    "values without end": (b"[" * 1_000_000, {}, 413),
    "no gzip": (b"no gzip", {"Content-Encoding": "gzip"}, 400),
    "another encoding": (b"x", {"Content-Encoding": "zstd"}, 415),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_request_gets_a_status_and_a_sentence(server: RunningServer, name: str) -> None:
    content, headers, status = REFUSED[name]
    reply = infer(server, content, **headers)
    assert (reply.status, list(reply.json)) == (status, ["error"])


def replaced(document: Any, values: Sequence[Any]) -> Iterator[Any]:
    """Yield a document with each of its values, at any depth, replaced by each of some values."""
    yield from values
    if isinstance(document, dict | list):
        for key in document if isinstance(document, dict) else range(min(2, len(document))):
            for value in replaced(document[key], values):
                whole = copy.copy(document)
                whole[key] = value
                yield whole


def test_values_of_any_type_are_refused_or_answered(server: RunningServer) -> None:
    values = [None, True, -1, 10**30, 0.5, "", "\ud800", [], [[]], [{}], {}, {"name": []}]
    asked = document(
        id="a",
        parameters={"binary_data_output": False},
        outputs=[{"name": "probabilities", "parameters": {"binary_data": False, "classification": 0}}],
    )
    asked["inputs"][0]["parameters"] = {"binary_data_size": CROPS.size}
    tried = Counter(infer(server, each).status for each in replaced(asked, values))
    image = base64.b64encode(b"no image").decode()
    fields = {"images": [image], "balance": 0.5, "head": "fer2013", "min_face": 20, "whole_image": True}
    for each in replaced(fields, values):
        tried[ask(server.url, "/v1/predict", json.dumps(each).encode(), "application/json").status] += 1
    assert max(tried) < 500, tried
    assert sum(tried.values()) > 200


def test_tritons_own_client_is_answered(server: RunningServer, model: Any) -> None:
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    client = triton.InferenceServerClient(server.url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("fast")
    assert client.is_model_ready("fast", "1")
    assert client.get_server_metadata()["name"] == "mien"
    assert client.get_model_metadata("fast", "1")["platform"] == "onnxruntime_onnx"
    for binary_in in (False, True):
        for binary_out in (False, True, None):
            for packed in (None, "gzip", "deflate"):
                tensor = triton.InferInput("images", CROPS.shape, "UINT8")
                tensor.set_data_from_numpy(CROPS, binary_data=binary_in)
                outputs = None
                if binary_out is not None:
                    outputs = [triton.InferRequestedOutput("ferplus", binary_data=binary_out)]
                result = client.infer(
                    "fast",
                    [tensor],
                    outputs=outputs,
                    request_id="a",
                    request_compression_algorithm=packed,
                    response_compression_algorithm=packed,
                )
                assert np.array_equal(result.as_numpy("ferplus"), model.run(CROPS, head="ferplus"))
                assert result.get_response()["id"] == "a"
    wrong = triton.InferInput("images", [1, 2, 2, 1], "UINT8")
    wrong.set_data_from_numpy(np.zeros((1, 2, 2, 1), np.uint8))
    with pytest.raises(Exception, match="shape"):
        client.infer("fast", [wrong])
    client.close()
