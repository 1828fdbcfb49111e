"""The HTTP server: routes, formats of requests, options, tokens, streams and pages."""

import io
import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mien
from http_clients import Stream, ask, base64_json, form
from mien import cli
from mien.data import synthetic
from mien.errors import InputError
from mien.server import app as server_app
from mien.server import pages
from mien.server.processes import RunningServer, serve
from mien.server.settings import Limits, Settings, Times, read_tokens
from mien.vision import images

TOKEN = "a-token-of-this-test-0123456789"


def file_of(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A photo with one face, as JPEG."""
    data = pytest.importorskip("skimage.data", reason="its astronaut is the photo")
    return file_of(data.astronaut()[20:260, 60:380], "JPEG", quality=90)


@pytest.fixture(scope="module")
def crops() -> list[bytes]:
    """Cropped synthetic faces, as PNG."""
    return [file_of(image[:, :, 0]) for image in synthetic.sample(40, seed=3, size=48)[0]]


@pytest.fixture(scope="module")
def model() -> mien.models.model_files.Model:
    return mien.load_model("fast", threads=1)


@pytest.fixture(scope="module")
def server(model: mien.models.model_files.Model) -> Iterator[RunningServer]:
    settings = Settings(limits=Limits(body=8 << 20, images=64, pixels=4_000_000))
    running = serve(model, port=0, block=False, settings=settings)
    assert running is not None
    with running:
        yield running


def printed(content: bytes, name: str = "image", **options: object) -> dict[str, object]:
    """Return what the command line prints for an image."""
    found = mien.Predictor("fast", **options).image(content, name=name).to_dict()  # type: ignore[arg-type]
    return mien._tables.rounded(found)


def test_answers_equal_those_of_the_command_line(
    server: RunningServer, photo: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(photo)
    assert cli.run(["predict", str(file), "--model", "fast", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    body, kind = form([photo], [str(file)])
    reply = ask(server.url, "/v1/predict", body, kind)
    assert reply.status == 200
    assert reply.json == expected
    assert list(reply.json[0]) == list(expected[0])
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("kind", ["raw", "octets", "json", "form"])
def test_an_image_is_read_from_each_kind_of_body(server: RunningServer, photo: bytes, kind: str) -> None:
    bodies = {
        "raw": (photo, "image/jpeg"),
        "octets": (photo, "application/octet-stream"),
        "json": (base64_json([photo]), "application/json; charset=utf-8"),
        "form": form([photo]),
    }
    reply = ask(server.url, "/v1/predict", *bodies[kind])
    name = {"json": "image 0", "form": "0.png"}.get(kind, "image")
    assert reply.json == [printed(photo, name)]


def test_options_come_from_the_query_the_form_and_json(server: RunningServer, crops: list[bytes]) -> None:
    expected = [printed(crops[0], whole_image=True, balance=1.0, head="fer2013")]
    assert expected != [printed(crops[0], whole_image=True)]
    path = "/v1/predict?whole_image=1&balance=1&head=fer2013"
    assert ask(server.url, path, crops[0], "image/png").json == expected
    options = {"whole_image": "true", "balance": "1.0", "head": "fer2013"}
    body, kind = form(crops[:1], ["image"], **options)
    assert ask(server.url, "/v1/predict", body, kind).json == expected
    body = base64_json(crops[:1], whole_image=True, balance=1, head="fer2013", min_face=None)
    (found,) = ask(server.url, "/v1/predict", body, "application/json").json
    assert found | {"source": "image"} == expected[0]


def test_min_face_is_an_option_of_the_detector(server: RunningServer, photo: bytes) -> None:
    reply = ask(server.url, "/v1/predict?min_face=12", photo, "image/jpeg")
    assert reply.json == [printed(photo, smallest=12)]


def test_several_images_are_answered_in_order_with_the_problems_among_them(
    server: RunningServer, crops: list[bytes]
) -> None:
    body, kind = form([crops[0], b"no image", crops[1]], ["a.png", "b.png", "c.png"], whole_image="1")
    first, problem, last = ask(server.url, "/v1/predict", body, kind).json
    assert [first["source"], problem["source"], last["source"]] == ["a.png", "b.png", "c.png"]
    assert set(problem) == {"source", "problem"}
    assert last == printed(crops[1], "c.png", whole_image=True)


def test_answers_of_many_clients_are_those_of_serial_calls(
    server: RunningServer, crops: list[bytes], photo: bytes
) -> None:
    predictor = mien.Predictor("fast", whole_image=True)
    expected = [[mien._tables.rounded(predictor.image(crop).to_dict())] for crop in crops]
    faces = [printed(photo)]

    def client(number: int) -> bool:
        if number % 8 == 0:
            return bool(ask(server.url, "/v1/predict", photo, "image/jpeg").json == faces)
        place = number % len(crops)
        reply = ask(server.url, "/v1/predict?whole_image=1", crops[place], "image/png")
        return bool(reply.json == expected[place])

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(client, range(160)))


def test_annotate_returns_the_image_that_predict_saves(
    server: RunningServer, photo: bytes, tmp_path: Path
) -> None:
    from mien.inference import image_files

    found = mien.Predictor("fast").image(photo)
    marked = image_files.mark(images.picture(photo), found)
    reply = ask(server.url, "/v1/annotate", photo, "image/jpeg")
    assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    assert np.array_equal(images.read(reply.body), marked)
    for reply in (
        ask(server.url, "/v1/annotate?format=jpeg", photo, "image/jpeg"),
        ask(server.url, "/v1/annotate", photo, "image/jpeg", headers={"Accept": "image/jpeg"}),
    ):
        assert reply.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(reply.body)).format == "JPEG"
        assert images.read(reply.body).shape == marked.shape


def test_the_card_the_health_and_the_counters_are_served(
    server: RunningServer, model: mien.models.model_files.Model
) -> None:
    card = ask(server.url, "/v1/model").json
    assert (card["name"], card["sha256"]) == (model.card.name, model.card.sha256)
    assert ask(server.url, "/healthz").status == ask(server.url, "/readyz").status == 200
    text = ask(server.url, "/metrics").body.decode()
    for name in (
        "mien_requests_total",
        "mien_request_seconds_bucket",
        "mien_batch_items_count",
        "mien_requests",
    ):
        assert re.search(rf"^{name}(\{{.*\}})? [0-9.e+]+$", text, re.MULTILINE), name
    assert re.search(r'^mien_requests_total\{path="/healthz",status="200"\} [1-9]', text, re.MULTILINE)


#: A request and the status of its answer.
REFUSED = {
    "no image": ("/v1/predict", b"", "image/png", 400),
    "no content type": ("/v1/predict", b"x", "", 415),
    "text": ("/v1/predict", b"x", "text/plain", 415),
    "unreadable": ("/v1/predict", b"x" * 99, "image/png", 422),
    "cut off": ("/v1/predict", b"\x89PNG\r\n\x1a\n" + bytes(40), "image/png", 422),
    "no boundary": ("/v1/predict", b"x", "multipart/form-data", 400),
    "no part": ("/v1/predict", b"--b\r\n", "multipart/form-data; boundary=b", 400),
    "no end": ("/v1/predict", form([b"x"])[0][:-20], form([b"x"])[1], 400),
    "another field": ("/v1/predict", *form([b"x"], model="default"), 400),
    "another option": ("/v1/predict?balanse=1", b"x", "image/png", 400),
    "a balance of 2": ("/v1/predict?balance=2", b"x", "image/png", 400),
    "a balance that is no number": ("/v1/predict?balance=nan", b"x", "image/png", 400),
    "a balance of words": ("/v1/predict?balance=half", b"x", "image/png", 400),
    "a face of 0 pixels": ("/v1/predict?min_face=0", b"x", "image/png", 400),
    "a head that does not exist": ("/v1/predict?head=raf", b"x", "image/png", 400),
    "a truth that is none": ("/v1/predict?whole_image=perhaps", b"x", "image/png", 400),
    "a form without end": (
        "/v1/predict",
        b'--b\r\nContent-Disposition: form-data; name="balance"\r\n\r\n1\r\n' * 10_000,
        "multipart/form-data; boundary=b",
        413,
    ),
    "a side without end": ("/v1/predict", file_of(np.zeros((1, 65_536), np.uint8)), "image/png", 422),
    "no JSON": ("/v1/predict", b"{", "application/json", 400),
    "a list": ("/v1/predict", b"[]", "application/json", 400),
    "no base64": ("/v1/predict", b'{"images": ["*"]}', "application/json", 400),
    "a number as image": ("/v1/predict", b'{"images": [1]}', "application/json", 400),
    "an option in a list": ("/v1/predict", b'{"images": ["eA=="], "balance": [1]}', "application/json", 400),
    "a URL": ("/v1/predict", b'{"images": ["http://127.0.0.1/a.png"]}', "application/json", 400),
    "deep JSON": ("/v1/predict", b"[" * 9000, "application/json", 413),
    "two to annotate": ("/v1/annotate", *form([b"x", b"y"]), 400),
    "another format": ("/v1/annotate?format=gif", b"x", "image/png", 400),
    "nothing to annotate": ("/v1/annotate", b"x", "image/png", 422),
    "another path": ("/v1/nothing", b"x", "image/png", 404),
    "another method": ("/v1/model", b"x", "image/png", 405),
    "a stream without a WebSocket": ("/v1/stream", None, "", 426),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_request_gets_a_status_and_a_sentence(server: RunningServer, name: str) -> None:
    path, body, kind, status = REFUSED[name]
    reply = ask(server.url, path, body, kind)
    assert reply.status == status, reply.body
    sentence = reply.json["error"]
    assert list(reply.json) == ["error"]
    assert sentence == " ".join(sentence.split())
    assert not sentence.endswith(".")


def test_many_faces_are_answered(
    server: RunningServer, crops: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_app, "_FEW_FACES", 2)
    body, kind = form(crops[:5], whole_image="1")
    many = ask(server.url, "/v1/predict", body, kind)
    assert (many.status, len(many.json)) == (200, 5)
    monkeypatch.undo()
    assert many.body == ask(server.url, "/v1/predict", body, kind).body


def test_limits_are_checked_before_decoding(server: RunningServer, crops: list[bytes]) -> None:
    large = file_of(np.zeros((2001, 2000), np.uint8))
    assert len(large) < 9000
    for option in ("", "?whole_image=1"):
        reply = ask(server.url, f"/v1/predict{option}", large, "image/png")
        assert reply.status == 422
        assert "4,000,000 pixels" in reply.json["error"]
    body, kind = form(crops * 2)
    assert ask(server.url, "/v1/predict", body, kind).status == 413
    assert ask(server.url, "/v1/predict", base64_json(crops * 2), "application/json").status == 413
    assert ask(server.url, "/v1/predict", bytes((8 << 20) + 1), "image/png").status == 413
    noise = np.random.default_rng(0).integers(0, 255, (150, 8, 8, 3), np.uint8)
    frames = [Image.fromarray(each) for each in noise]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    reply = ask(server.url, "/v1/predict", file.getvalue(), "image/webp")
    assert (reply.status, "frames" in reply.json["error"]) == (422, True)


def test_compressed_bodies_are_decompressed_within_the_limit(server: RunningServer, photo: bytes) -> None:
    import gzip
    import zlib

    for name, packed in (("gzip", gzip.compress(photo)), ("deflate", zlib.compress(photo))):
        reply = ask(server.url, "/v1/predict", packed, "image/jpeg", headers={"Content-Encoding": name})
        assert reply.json == [printed(photo)]
    bomb = gzip.compress(bytes(64 << 20))
    twice = gzip.compress(photo[:100]) + gzip.compress(photo[100:])
    for content, name, status in (
        (twice, "gzip", 400),
        (bomb, "gzip", 413),
        (b"x", "gzip", 400),
        (photo, "br", 415),
    ):
        reply = ask(server.url, "/v1/predict", content, "image/jpeg", headers={"Content-Encoding": name})
        assert reply.status == status


def test_the_description_covers_every_route(server: RunningServer) -> None:
    described = ask(server.url, "/openapi.json").json
    routes = {route.path.replace("{name}", "{model}") for route in server.app.routes}  # type: ignore[attr-defined]
    pages_and_streams = {
        "/",
        "/assets/{path:path}",
        "/browser/{path:path}",
        "/docs",
        "/docs.css",
        "/v1/stream",
    }
    assert set(described["paths"]) == {path for path in routes if "{version}" not in path} - pages_and_streams
    page = ask(server.url, "/docs").body.decode()
    for path in described["paths"]:
        assert path in page
    assert not re.search(r"https?://|<script|style=", page)


def test_the_page_and_its_files_are_served_and_nothing_else(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = tmp_path / "web"
    (web / "deep").mkdir(parents=True)
    monkeypatch.setattr(pages, "WEB", web)
    assert b'href="docs"' in ask(server.url, "/").body
    (web / "index.html").write_text("<!doctype html>the page")
    for name in ("app.mjs", "ort.wasm", "model.onnx", "deep/style.css", ".hidden.js", "notes.py"):
        (web / name).write_bytes(b"content")
    (tmp_path / "secret.js").write_text("secret")
    (web / "link.js").symlink_to(tmp_path / "secret.js")
    reply = ask(server.url, "/")
    assert reply.body == b"<!doctype html>the page"
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval';")
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["keep-alive"] == "timeout=5"
    assert reply.headers["referrer-policy"] == "no-referrer"
    kinds = {
        "app.mjs": "text/javascript; charset=utf-8",
        "ort.wasm": "application/wasm",
        "model.onnx": "application/octet-stream",
        "deep/style.css": "text/css; charset=utf-8",
    }
    for name, kind in kinds.items():
        reply = ask(server.url, f"/assets/{name}")
        assert (reply.status, reply.headers["content-type"]) == (200, kind)
    hidden = (
        "../secret.js",
        "%2e%2e/secret.js",
        "..%2fsecret.js",
        "deep/../../secret.js",
        ".hidden.js",
        "notes.py",
    )
    for name in (*hidden, "", "deep", "/etc/passwd", "a\\..\\b.js", "app.mjs%00", "link.js"):
        assert ask(server.url, f"/assets/{name}").status == 404, name
    assert ask(server.url, "/assets/app.mjs", b"x", "text/plain").status == 405


@pytest.fixture(scope="module")
def guarded(model: mien.models.model_files.Model) -> Iterator[RunningServer]:
    """A server with a token, an origin, a root path, and little room and time."""
    settings = Settings(
        tokens=(TOKEN, TOKEN[::-1]),
        origins=("https://example.org",),
        root_path="/faces",
        streams=1,
        times=Times(frame=1.0),
    )
    running = serve(model, port=0, block=False, settings=settings)
    assert running is not None
    with running:
        yield running


def test_a_token_is_needed_where_there_is_one(guarded: RunningServer, crops: list[bytes]) -> None:
    path = "/v1/predict?whole_image=1"
    for given in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"):
        headers = {"Authorization": given} if given else {}
        reply = ask(guarded.url, path, crops[0], "image/png", headers=headers)
        assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
    for token in (TOKEN, TOKEN[::-1]):
        for scheme in ("Bearer", "bearer"):
            headers = {"Authorization": f"{scheme} {token}"}
            assert ask(guarded.url, path, crops[0], "image/png", headers=headers).status == 200
    for open_path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/"):
        assert ask(guarded.url, open_path).status == 200
    for closed in ("/v1/model", "/metrics", "/nothing"):
        assert ask(guarded.url, closed).status == 401


def test_only_an_allowed_origin_may_read_answers(guarded: RunningServer, server: RunningServer) -> None:
    allowed = ask(guarded.url, "/healthz", headers={"Origin": "https://example.org"})
    assert allowed.headers["access-control-allow-origin"] == "https://example.org"
    other = ask(guarded.url, "/healthz", headers={"Origin": "https://example.com"})
    assert "access-control-allow-origin" not in other.headers
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    assert ask(guarded.url, "/v1/predict", method="OPTIONS", headers=asked).status == 200
    binary = {**asked, "Access-Control-Request-Headers": "inference-header-content-length"}
    assert ask(guarded.url, "/v2/models/fast/infer", method="OPTIONS", headers=binary).status == 200
    assert "Inference-Header-Content-Length" in allowed.headers["access-control-expose-headers"]
    off = ask(server.url, "/healthz", headers={"Origin": "https://example.org"})
    assert "access-control-allow-origin" not in off.headers


def test_the_root_path_of_a_proxy_is_stated(guarded: RunningServer) -> None:
    assert ask(guarded.url, "/openapi.json").json["servers"] == [{"url": "/faces"}]
    assert ask(guarded.url, "/healthz").status == 200  # a proxy removes the path
    assert ask(guarded.url, "/faces/healthz").status == 200  # or leaves it
    assert ask(guarded.url, "/faces/v1/model").status == 401
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert ask(guarded.url, "/faces/v1/model", headers=headers).status == 200
    assert ask(guarded.url, "/faces/faces/v1/model", headers=headers).status == 404
    with Stream(guarded.url, "/faces/v1/stream", headers=headers) as stream:
        assert stream.status == 101


def test_a_stream_answers_frames(server: RunningServer, photo: bytes, crops: list[bytes]) -> None:
    with Stream(server.url) as stream:
        assert stream.status == 101
        for number in range(3):
            stream.send(photo)
            assert stream.answer() == printed(photo) | {"frame": number}
        stream.send(b"no image")
        assert set(stream.answer()) == {"error", "frame"}
        stream.send("text")
        assert set(stream.answer()) == {"error", "frame"}
    with Stream(server.url, "/v1/stream?whole_image=1&balance=1") as stream:
        stream.send(crops[0])
        assert stream.answer() == printed(crops[0], whole_image=True, balance=1.0) | {"frame": 0}


def test_a_stream_answers_only_the_newest_frame(server: RunningServer, photo: bytes) -> None:
    with Stream(server.url) as stream:
        for _ in range(30):
            stream.send(photo)
        numbers = [stream.answer()["frame"]]
        while numbers[-1] != 29:
            numbers.append(stream.answer()["frame"])
        assert numbers == sorted(set(numbers))
        assert len(numbers) < 15


def test_a_stream_is_refused_to_other_origins_and_without_a_token(
    server: RunningServer, guarded: RunningServer
) -> None:
    host = server.url.removeprefix("http://")
    for origin, status in ((f"http://{host}", 101), ("http://evil.example", 403), ("null", 403)):
        with Stream(server.url, headers={"Origin": origin}) as stream:
            assert stream.status == status
    for protocols, chosen in (
        (["mien", f"bearer.{TOKEN}"], "mien"),
        ([f"bearer.{TOKEN}"], f"bearer.{TOKEN}"),
    ):
        with Stream(guarded.url, protocols=protocols, headers={"Origin": "https://example.org"}) as stream:
            assert (stream.status, stream.protocol) == (101, chosen)
        time.sleep(0.2)
    for path, protocols in ((f"/v1/stream?token={TOKEN}", []), ("/v1/stream", ["bearer.wrong"])):
        with Stream(guarded.url, path, protocols=protocols) as stream:
            assert stream.status == 401
    with Stream(server.url, "/v1/stream?balance=3") as stream:
        assert stream.status == 400
        assert "balance" in json.loads(stream.body)["error"]


def test_a_stream_without_room_or_without_frames_is_closed(guarded: RunningServer) -> None:
    protocols = ["mien", f"bearer.{TOKEN}"]
    with Stream(guarded.url, protocols=protocols) as first:
        assert first.status == 101
        with Stream(guarded.url, protocols=protocols) as second:
            assert second.status == 503
        event = first.receive()
        assert getattr(event, "code", None) == 1001


def test_a_message_that_is_too_large_ends_the_stream(server: RunningServer) -> None:
    with Stream(server.url) as stream:
        stream.send(bytes((8 << 20) + 1))
        event = stream.receive()
        assert event is None or getattr(event, "code", None) == 1009


def test_settings_are_checked(tmp_path: Path) -> None:
    for wrong in (
        {"tokens": ("short",)},
        {"tokens": ("with spaces in its middle",)},
        {"origins": ("example.org",)},
        {"origins": ("https://example.org/page",)},
        {"root_path": "faces"},
        {"queue": 0},
        {"threads": 0},
        {"forwarded_from": ("proxy",)},
        {"limits": Limits(body=0)},
        {"limits": Limits(body=300 << 20)},
        {"limits": Limits(pixels=10**9)},
        {"times": Times(answer=float("nan"))},
    ):
        with pytest.raises(InputError):
            Settings(**wrong)  # type: ignore[arg-type]
    assert Settings(forwarded_from=("*", "::1", "10.0.0.1/8")).threads_of(1000) == 1
    file = tmp_path / "tokens"
    file.write_text(f"\n{TOKEN}\n {TOKEN[::-1]} \n")
    assert read_tokens(file) == (TOKEN, TOKEN[::-1])
    file.write_text("\n")
    for path in (file, tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError):
            read_tokens(path)


def test_what_cannot_be_served_is_refused() -> None:
    for wrong in ({"workers": 0}, {"port": 70000}, {"host": "256.1.1.1"}, {"workers": 2, "block": False}):
        with pytest.raises(InputError):
            serve("fast", **{"port": 0, **wrong})  # type: ignore[arg-type]
    with pytest.raises(mien.ModelError):
        serve("absent", port=0)


def test_the_commands_of_the_guide_run(server: RunningServer, photo: bytes, away: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    page = (Path(__file__).parents[1] / "docs" / "serve.md").read_text(encoding="utf-8")
    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        Path(name).write_bytes(photo)
    commands = re.findall(r"^    (curl .*)$", page, re.MULTILINE)
    assert len(commands) > 3
    for command in commands:
        words = shlex.split(command.replace("http://127.0.0.1:8000", server.url))
        done = subprocess.run([*words, "--fail"], capture_output=True, timeout=60, check=True)
        assert done.stdout.startswith((b"[{", b"{")) or Path("marked.png").is_file()
