"""The page of `mien serve` in headless Chromium: answers, webcam, token, and the switch to the browser."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import mien
from builders import refused
from chromium import Chromium, Page
from http_clients import ask
from mien.errors import InputError
from mien.server.processes import RunningServer, serve
from mien.server.settings import Settings
from web_fixtures import astronaut, needs_chromium

pytestmark = needs_chromium

TOKEN = "a-token-of-this-test-0123456789"
READY = "document.getElementById('status').textContent === 'Ready.'"
BARS = "document.querySelectorAll('article .bars').length"


@pytest.fixture(scope="module")
def server(site: Path, predictor: mien.Predictor) -> Iterator[RunningServer]:
    settings = Settings(site=site, threads=1)
    running = serve(None, detector=predictor.detector, port=0, block=False, settings=settings)
    assert running is not None
    with running:
        yield running


@pytest.fixture
def page(browser: Chromium, server: RunningServer) -> Iterator[Page]:
    opened = browser.page()
    opened.open(f"{server.url}/")
    opened.wait(READY)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(astronaut()).save(to)
    return to


def shares(page: Page) -> list[int]:
    return list(page.run("[...document.querySelectorAll('.share')].map(each => parseInt(each.textContent))"))


def test_the_server_answers_a_photo_and_the_browser_the_same(
    page: Page, server: RunningServer, photo: Path, predictor: mien.Predictor
) -> None:
    page.choose_files("#files", photo)
    page.wait(f"{BARS} === 1")
    expected = [100 * score for score in predictor.image(photo).faces[0].scores.values()]
    assert shares(page) == pytest.approx(expected, abs=0.6)
    assert any("/v1/predict" in request for request in page.requests)
    page.requests.clear()
    page.run("document.getElementById('browser').click()")
    page.wait("/ found\\.$/.test(document.getElementById('status').textContent)")
    assert shares(page) == pytest.approx(expected, abs=1.6)
    assert any(request.endswith("/browser/models/model.onnx") for request in page.requests)
    assert not any("/v1/" in request for request in page.requests)
    own = (f"{server.url}/", f"blob:{server.url}/")
    assert [request for request in page.requests if not request.startswith(own)] == []
    assert not page.errors


def test_frames_of_the_webcam_go_over_a_socket(page: Page, server: RunningServer) -> None:
    page.run("document.getElementById('camera-switch').click()")
    page.wait("document.getElementById('camera-now').textContent.startsWith('happy')")
    page.wait("document.getElementById('camera-rate').textContent.includes('answers a second')")
    # A change of the settings opens another socket with other options.
    page.run("(head => { head.value = 'fer2013'; head.onchange(); })(document.getElementById('head'))")
    time.sleep(0.5)
    page.wait("document.getElementById('camera-now').textContent.startsWith('happy')")
    page.run("document.getElementById('camera-switch').click()")
    page.wait("document.getElementById('table-body').rows.length > 2")
    assert not page.errors
    assert page.run("document.getElementById('problem').textContent") == ""


def test_an_unreadable_photo_has_its_reason(page: Page, tmp_path: Path) -> None:
    (tmp_path / "thesis.png").write_bytes(b"no image")
    page.choose_files("#files", tmp_path / "thesis.png")
    page.wait("document.getElementById('cards').textContent.includes('not an image')")


def test_the_page_asks_for_the_token(browser: Chromium, predictor: mien.Predictor, photo: Path) -> None:
    settings = Settings(tokens=(TOKEN,), threads=1)
    running = serve("fast", detector=predictor.detector, port=0, block=False, settings=settings)
    assert running is not None
    page = browser.page()
    with running:
        page.open(f"{running.url}/")
        page.wait("!document.getElementById('token-form').hidden")
        assert page.run("document.getElementById('browser-label').hidden")
        page.run("document.getElementById('token').value = 'another-token'")
        page.run("document.getElementById('token-form').requestSubmit()")
        page.wait("document.getElementById('problem').textContent.includes('does not know')")
        page.run(f"document.getElementById('token').value = {TOKEN!r}")
        page.run("document.getElementById('token-form').requestSubmit()")
        page.wait(READY)
        page.choose_files("#files", photo)
        page.wait(f"{BARS} === 1")
        page.run("document.getElementById('camera-switch').click()")
        page.wait("document.getElementById('camera-now').textContent.startsWith('happy')")
        page.run("document.getElementById('camera-switch').click()")
        # The link needs no token.
        page.run("document.querySelector('#links a').click()")
        page.wait("location.protocol === 'blob:' && document.body.textContent.includes('ferplus')")
    page.close()


def test_a_server_that_is_gone_is_reported(browser: Chromium, predictor: mien.Predictor, photo: Path) -> None:
    running = serve("fast", detector=predictor.detector, port=0, block=False)
    assert running is not None
    page = browser.page()
    with running:
        page.open(f"{running.url}/")
        page.wait(READY)
    page.choose_files("#files", photo)
    page.wait("document.querySelector('article .warning')?.textContent.includes('cannot be reached')")
    page.close()


def test_the_webcam_can_be_closed_while_it_opens(page: Page) -> None:
    page.run("{ const button = document.getElementById('camera-switch'); button.click(); button.click(); }")
    time.sleep(1)
    assert page.run("document.getElementById('camera').hidden")
    assert page.run("document.getElementById('video').srcObject === null")
    assert page.run("document.getElementById('problem').textContent") == ""
    page.run("document.getElementById('camera-switch').click()")
    page.wait("document.getElementById('camera-now').textContent.startsWith('happy')")
    assert not page.errors


def test_a_site_is_served_below_browser(server: RunningServer, site: Path) -> None:
    manifest = json.loads((site / "site.json").read_text())
    for name in manifest["sha256"]:
        reply = ask(server.url, f"/browser/{name}")
        assert (reply.status, reply.body) == (200, (site / name).read_bytes()), name
    assert ask(server.url, "/browser/").body == (site / "index.html").read_bytes()
    kind = ask(server.url, "/browser/ort/ort-wasm-simd-threaded.wasm").headers["content-type"]
    assert kind == "application/wasm"
    for name in ("../site.json", "..%2f..%2fetc%2fpasswd", "nothing.js", ".hidden.js", "assets"):
        assert ask(server.url, f"/browser/{name}").status == 404, name


def test_a_folder_that_is_not_a_site_is_refused(tmp_path: Path) -> None:
    with refused(InputError, "--site", tmp_path):
        Settings(site=tmp_path)
