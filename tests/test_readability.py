"""The measure of readability, and the pages that a newcomer reads first."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
FIRST = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs/index.md", "docs/start.md")),
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
    *sorted((ROOT / "docs" / "explanation").glob("*.md")),
]


@pytest.fixture(scope="module")
def readability() -> ModuleType:
    place = importlib.util.spec_from_file_location("readability", ROOT / "tools" / "readability.py")
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    sys.modules["readability"] = module
    place.loader.exec_module(module)
    return module


def test_a_known_text_has_the_grade_of_the_formula(readability: ModuleType) -> None:
    # 6 words of 1 syllable in 1 sentence
    assert readability.measure("The cat sat on the mat.").grade == pytest.approx(0.39 * 6 + 11.8 - 15.59)
    text = "Predictions are probabilities. Use them with caution."
    found = readability.measure(f"# A heading\n\n| a | table |\n\n{text}\n\n```text\nnot counted here\n```\n")
    assert found.words == 7
    assert found.longest == "Use them with caution."


@pytest.mark.parametrize("page", FIRST, ids=lambda page: page.name)
def test_first_pages_are_easy_to_read(readability: ModuleType, page: Path) -> None:
    found = readability.measure(page.read_text(encoding="utf-8"))
    assert found.grade <= 9
    assert len(found.longest.split()) <= 35, found.longest
