"""The pages of the server: the page at /, its files, and the description of the routes."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from mien import __version__
from mien.server.payloads import RequestError

#: Files of the page, in the package.
WEB = Path(__file__).parents[1] / "web"
_TEMPLATES = Path(__file__).parent / "templates"
#: Content types by file extension; other files are not served.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".ico": "image/vnd.microsoft.icon",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".webmanifest": "application/manifest+json",
}
#: A path below the folder: names without a leading dot.
_PATH = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")
#: What the page says if it can also analyse photos in the browser, and if it cannot.
_SITE, _NO_SITE = 'data-browser="browser/"', 'data-browser=""'
_NO_CACHE = {"Cache-Control": "no-cache"}


async def index(request: Request) -> Response:
    """Return the page, or links to the routes if the package has none."""
    page = WEB / "index.html"
    if not page.is_file():
        return HTMLResponse(_render("index.html.j2"), headers=_NO_CACHE)
    text = page.read_text(encoding="utf-8")
    if _site(request) is not None:
        text = text.replace(_NO_SITE, _SITE, 1)
    return HTMLResponse(text, headers=_NO_CACHE)


async def asset(request: Request) -> Response:
    """Return a file of the page."""
    return _file(WEB, request.path_params["path"])


async def site_file(request: Request) -> Response:
    """Return a file of the web site that runs the model in the browser."""
    site = _site(request)
    if site is None:
        raise RequestError(404, "the server has no web site; start it with --site")
    return _file(site, request.path_params["path"] or "index.html")


def _site(request: Request) -> Path | None:
    site: Path | None = request.app.state.server.settings.site
    return site


def _file(folder: Path, path: str) -> Response:
    """Return a file of a folder, if its name and type are those of a page."""
    file = folder / path
    known = _PATH.fullmatch(path) and file.suffix in _TYPES and file.is_file()
    if not known or not file.resolve().is_relative_to(folder.resolve()):
        raise RequestError(404, "there is no such file")
    return FileResponse(file, media_type=_TYPES[file.suffix], headers=_NO_CACHE)


async def style(request: Request) -> Response:
    """Return the style sheet of the descriptions."""
    return FileResponse(_TEMPLATES / "docs.css", media_type=_TYPES[".css"], headers=_NO_CACHE)


def docs(openapi: dict[str, Any]) -> Response:
    """Return the description of the routes as a page."""
    return HTMLResponse(_render("docs.html.j2", openapi=openapi), headers=_NO_CACHE)


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _render(name: str, **values: Any) -> str:
    return _environment().get_template(name).render(version=__version__, **values)
