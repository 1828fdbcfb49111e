"""The check of the language of code and documentation."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

CODE = '''
"""Say what
stands here."""

# A bundle, for it is
# no model.
x = f"the {0} lies"
stands = "`stands` in code"
y = ("it began "
     "from here")
'''
PAGE = """
# A page

It knows it by heart, and there is no other.

```
stands
```

It is
no page.
"""

TEMPLATE = """
{# It stands
here. #}
{{ title if stands else "no title" }}
{% set done = ["a", 'what
ships'] %}
The rest {{ lies }} `lies`, and is none.
"""


def check(folder: Path, *paths: str) -> subprocess.CompletedProcess[str]:
    tool = REPOSITORY / "tools" / "language.py"
    return subprocess.run(
        [sys.executable, tool, *paths], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        (
            "code.py",
            CODE,
            [(2, "Say"), (3, "stands"), (5, "is no"), (5, ", for it"), (7, "lies"), (9, "began from")],
        ),
        ("page.md", PAGE, [(4, "by heart"), (10, "is no")]),
        ("page.md.j2", TEMPLATE, [(2, "stands"), (5, "what ships"), (7, "is none")]),
        ("clean.py", '"""Return what is here; there is no other, and it is no longer here."""', []),
    ],
)
def test_markers_are_found_with_their_lines(
    tmp_path: Path, name: str, text: str, found: list[tuple[int, str]]
) -> None:
    (tmp_path / name).write_text(text)
    done = check(tmp_path, ".")
    assert done.returncode == bool(found)
    lines = re.findall(rf"^{name}:(\d+): '([^']*)'", done.stdout, re.MULTILINE)
    assert sorted((int(line), marker) for line, marker in lines) == sorted(found)


def test_the_files_that_make_checks_have_none() -> None:
    paths = re.search(r"^PLAIN := ((?:.*\\\n)*.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert paths is not None
    done = check(REPOSITORY, *paths[1].replace("\\\n", " ").split())
    assert done.stdout == ""
    assert done.returncode == 0
