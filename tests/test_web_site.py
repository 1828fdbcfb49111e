"""`mien export --format web`: the files of a site, and what is refused."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

import mien
from builders import refused
from mien.errors import InputError, MissingExtra
from mien.models.model_files import Model
from mien.release import web_site


def test_a_site_has_the_page_the_models_the_runtime_and_licences(site: Path) -> None:
    manifest = json.loads((site / "site.json").read_text())
    files = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert files == {"site.json", *manifest["sha256"]}
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((site / name).read_bytes()).hexdigest() == digest
    assert {f"ort/{name}" for name in web_site.RUNTIME_FILES} <= files
    assert {name for name in files if name.startswith("licences/")} == {
        "licences/index.html",
        "licences/mien-LICENSE.txt",
        "licences/mtcnn-LICENSE.txt",
        "licences/onnxruntime-LICENSE.txt",
        "licences/onnxruntime-ThirdPartyNotices.txt",
    }
    assert (site / "models/model.onnx").read_bytes() == mien.load_model().read()
    assert manifest["card"] == json.loads((site / "card.json").read_text())
    assert 'data-mode="browser"' in (site / "index.html").read_text()


def test_a_site_is_small_enough(site: Path) -> None:
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 21e6


def test_the_package_has_no_runtime() -> None:
    assert not any(path.suffix == ".wasm" for path in web_site.PAGE.parents[0].rglob("*"))


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_the_command_writes_a_site_again(
    site: Path, runtime: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mien import cli

    command = ["export", "fast", "--format", "web", "--to", str(site.parent / "fast"), "--ort", str(runtime)]
    assert cli.run(command) == 0
    capsys.readouterr()
    assert cli.run([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["images"] == 2 * web_site.IMAGES
    assert document["largest_difference"] < 1e-6


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_a_run_gets_its_site_in_its_folder(tiny_run_votes: Path, runtime: Path) -> None:
    made = mien.export(tiny_run_votes, "web", ort=runtime)
    assert made.path == tiny_run_votes / "site"
    assert made.parity.largest_difference < 1e-5
    card = json.loads((made.path / "site.json").read_text())["card"]
    assert list(card["heads"]) == ["fer2013", "ferplus"]


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with refused(InputError, "--to", tmp_path):
        mien.export("fast", "web", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with refused(InputError, "--to", "thesis.txt"):
        mien.export("fast", "web", tmp_path / "thesis.txt")


def test_a_runtime_that_is_missing_or_another_version_is_refused(runtime: Path, tmp_path: Path) -> None:
    with refused(InputError, "--ort", tmp_path):
        mien.export("fast", "web", tmp_path / "site", ort=tmp_path)
    for name in web_site.RUNTIME_FILES:
        (tmp_path / name).write_bytes((runtime / name).read_bytes())
    (tmp_path / "ort.wasm.min.mjs").write_bytes(b"export {};")
    with refused(InputError, "ort.wasm.min.mjs", web_site.RUNTIME):
        mien.export("fast", "web", tmp_path / "site", ort=tmp_path)
    assert not (tmp_path / "site").exists()


def test_ort_is_for_sites_only(tmp_path: Path) -> None:
    with refused(InputError, "--ort"):
        mien.export("fast", "onnx", tmp_path, ort=tmp_path)


def test_without_npm_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with refused(InputError, "npm pack", "--ort", web_site.RUNTIME):
        mien.export("fast", "web", tmp_path / "site")


def test_without_a_network_the_error_has_the_reason_of_npm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with refused(InputError, "ECONNREFUSED", "--ort"):
        mien.export("fast", "web", tmp_path / "site")


def test_another_package_from_the_registry_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack(command: list[str], *, cwd: str, **_: object) -> None:
        Path(cwd, "onnxruntime-web.tgz").write_bytes(b"something else")

    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda _: "npm")
    monkeypatch.setattr(subprocess, "run", pack)
    with refused(InputError, "sha512", web_site.PACKAGE_SHA512):
        mien.export("fast", "web", tmp_path / "site")
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow  # TensorFlow takes long to load
def test_an_int8_model_that_differs_is_exported_in_float32(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("keras", reason="the network is rebuilt with Keras")
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    compare = web_site._compare

    def differs(model: Model, *given: object) -> web_site.Parity:
        found = compare(model, *given)
        different = model.card.precision == "int8"
        return dataclasses.replace(found, largest_difference=0.01) if different else found

    monkeypatch.setattr(web_site, "_compare", differs)
    made = mien.export("fast", "web", tmp_path / "site", ort=runtime)
    card = json.loads((tmp_path / "site/site.json").read_text())["card"]
    assert card["precision"] == "float32"
    assert made.parity.largest_difference < 1e-5
    assert made.agreement is not None


def test_float32_needs_keras_and_the_error_names_the_extra(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(*_: object, **__: object) -> None:
        raise MissingExtra("training", "train")

    monkeypatch.setattr(shutil, "which", lambda _: None)
    model = mien.load_model(shutil.copy(mien.load_model("fast").path, tmp_path / "mine.onnx"))
    monkeypatch.setattr(web_site.exporters, "convert", convert)
    with refused(MissingExtra, "mien[train]", "float32"):
        web_site.write(model, tmp_path / "site", ort=runtime)
