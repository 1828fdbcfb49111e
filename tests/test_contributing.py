"""The pages for contributors: their commands and files exist, and the glossary explains terms in use."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
TERMS = re.findall(r"^\*\*(.+)\*\*$", GLOSSARY, re.MULTILINE)


def test_the_commands_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make (\w+)|`make (\w+)`", PAGE, re.MULTILINE))
    assert len(named) >= 4
    assert {first or second for first, second in named} <= targets


def test_the_files_exist() -> None:
    paths = re.findall(r"(?:src|tests|docs|tools|benchmarks)/[\w./-]*[\w/]", PAGE)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [link for link in re.findall(r"\]\(([^)h][^)]*)\)", PAGE) if not (ROOT / link).exists()] == []


def test_the_named_definitions_exist() -> None:
    assert "NETWORKS" in (ROOT / "src/mien/models/networks.py").read_text()
    assert "COMMANDS" in (ROOT / "tests/test_house.py").read_text()
    for kind in ("Finding", "Removal"):
        assert f"class {kind}" in (ROOT / "src/mien/data/audit/findings.py").read_text()


def test_the_citation_names_the_licence_and_no_version() -> None:
    # The version is in src/mien/__init__.py alone (docs/decisions/0022-release.md).
    citation = (ROOT / "CITATION.cff").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "\nversion:" not in citation
    assert f"\nlicense: {project['license']}\n" in citation


def test_the_glossary_has_each_term_once_with_a_meaning() -> None:
    assert len(TERMS) > 40
    assert len(set(TERMS)) == len(TERMS)
    assert len(re.findall(r"^\*\*.+\*\*\n: [A-Z]", GLOSSARY, re.MULTILINE)) == len(TERMS)


@pytest.fixture(scope="module")
def text() -> str:
    pages = [*ROOT.glob("docs/*.md"), ROOT / "README.md", *ROOT.glob("src/mien/**/*.py")]
    return "\n".join(page.read_text() for page in pages if page.name != "glossary.md").lower()


@pytest.mark.parametrize("term", TERMS)
def test_the_terms_of_the_glossary_are_used(text: str, term: str) -> None:
    assert [word for word in term.lower().split() if not re.search(rf"\b{word}", text)] == []
