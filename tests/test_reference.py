"""The reference pages and the site."""

import functools
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@functools.cache
def _pages() -> dict[str, str]:
    place = importlib.util.spec_from_file_location("make_reference", ROOT / "tools" / "make_reference.py")
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        place.loader.exec_module(module)
    return module.make_pages()


@pytest.mark.parametrize("name", ["api.md", "commands.md", "errors.md"])
def test_the_reference_is_that_of_the_code(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"../../docs/reference/{name}", _pages()[name])


def test_the_schemas_are_those_of_the_code(golden: Callable[[str, str], None]) -> None:
    page = (ROOT / "docs/reference/formats.md").read_text(encoding="utf-8")
    names = {name for name in _pages() if name.startswith("schemas/")}
    assert names == {f"schemas/{path.name}" for path in ROOT.glob("docs/reference/schemas/*.json")}
    for name in sorted(names):
        golden(f"../../docs/reference/{name}", _pages()[name])
        assert f"({name})" in page


def _named(nav: object) -> set[str]:
    if isinstance(nav, str):
        return {nav}
    return set().union(*map(_named, nav.values() if isinstance(nav, dict) else nav))


def test_every_page_is_in_the_navigation() -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    # The card of the shipped models names experiments.md, which leads to the lab book.
    assert _named(nav) == {
        page for page in pages if not page.startswith("decisions/0") and page != "experiments.md"
    }


def test_the_site_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("needs zensical")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    build = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "build" / "site"
    elsewhere = re.compile(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=\"?(https?://[^\"> ]+)")
    for page in site.rglob("*.html"):
        loaded = elsewhere.findall(page.read_text(encoding="utf-8"))
        assert not loaded, f"{page.name} loads {loaded}"
    assert "Analyse a folder of photos" in (site / "search.json").read_text(encoding="utf-8")
