"""An audit as one page of HTML that needs nothing beside itself."""

import base64
import io
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: How the house's pages look: light and dark, wide and narrow.
STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --paper: #ffffff; --faint: #646b73; --line: #d9dde1;
  --card: #f6f7f9; --error: #b3261e; --warning: #8a5a00; --note: #2b5c8a; --a: #2b5c8a; --b: #c2571a;
  --c: #3d7a3f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --paper: #14171a; --faint: #9aa2aa;
  --line: #343a40; --card: #1d2125; --error: #ff9d94; --warning: #f0c060; --note: #8fc1f0; --a: #8fc1f0;
  --b: #f0a070; --c: #8fcf90; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin: 0; } p { max-width: 45rem; } .faint { color: var(--faint); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem 1rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
section.finding { background: var(--card); border-left: .3rem solid var(--line); padding: 1rem;
  margin: 1rem 0; border-radius: .25rem; }
section.error { border-color: var(--error); } section.warning { border-color: var(--warning); }
section.note { border-color: var(--note); } .error b { color: var(--error); }
.warning b { color: var(--warning); } .note b { color: var(--note); }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.7rem, 1fr)); gap: 1rem; }
code { font: inherit; white-space: nowrap; }
figure { margin: 0; } figure img { width: 72px; height: 72px; image-rendering: pixelated;
  margin-right: 4px; background: #808080; }
figcaption { font-size: .8rem; line-height: 1.35; } figcaption span { color: var(--faint); display: block; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1.5rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
path { fill: none; stroke-width: 1.8; } .s0 { stroke: var(--a); } .s1 { stroke: var(--b); }
.s2 { stroke: var(--c); } .key span { margin-right: 1rem; } .k0 { color: var(--a); } .k1 { color: var(--b); }
.k2 { color: var(--c); }
"""


def document(title: str, body: str, *, style: str = "") -> str:
    """Return a page that loads nothing, for its policy forbids it.

    Args:
        title: Plain text.
        body: HTML.
        style: CSS after the house's own.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escaped(title)}</title><style>{STYLE}{style}</style></head><body>{body}</body></html>\n"
    )


def escaped(text: str) -> str:
    """Return text as HTML shows it as it is, with what no page can hold made visible."""
    shown = text.encode(errors="backslashreplace").decode()
    return escape("".join(char if char.isprintable() else ascii(char)[1:-1] for char in shown))


def picture(image: NDArray[np.uint8]) -> str:
    """Return an image, grey `(h, w, 1)` or RGB `(h, w, 3)`, as an address with its pixels, without loss."""
    packed = io.BytesIO()
    Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0]).save(packed, "PNG")
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table of plain texts, which scrolls where it is wider than the page."""
    head = "".join(f"<th>{escaped(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
