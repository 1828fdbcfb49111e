"""What every request passes: the bound on requests in the server, the token, deadlines and headers.

A request beyond the bound is refused with 503 before its body is read, because reading costs more than
answering (measured: docs/serve.md).
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mien.server.metrics import Metrics
from mien.server.payloads import RequestError
from mien.server.settings import Settings

_log = logging.getLogger("mien.server")
#: Only the page's own files, for the page and everything else.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; worker-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
#: Paths that answer without a token: health, and what a browser loads before it can send one.
_OPEN = (
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/docs.css",
    "/",
    "/v2/health/live",
    "/v2/health/ready",
)
_OPEN_FOLDERS = ("/assets/", "/browser/")
_RETRY_AFTER = "1"
#: Key of the place of a request in its scope.
PLACE = "mien.place"
#: Characters of an error's sentence at most.
_LONGEST = 400


class Gate:
    """Counts what is in the server, and the bytes of bodies that it holds, up to bounds.

    Args:
        most: Requests, or streams.
        most_bytes: Bytes of all bodies together.
    """

    def __init__(self, most: int, most_bytes: int = 0) -> None:
        self.most, self.most_bytes = most, most_bytes
        self.inside = self.bytes = 0

    @contextmanager
    def enter(self, what: str) -> Iterator["Place"]:
        """Take a place for a request or stream.

        Raises:
            RequestError: None is free, or there is no room for another body.
        """
        if self.inside >= self.most or (self.most_bytes and self.bytes >= self.most_bytes):
            raise busy(what)
        self.inside += 1
        place = Place(self)
        try:
            yield place
        finally:
            self.inside -= 1
            self.bytes -= place.bytes


class Place:
    """The place of one request."""

    def __init__(self, gate: Gate) -> None:
        self._gate, self.bytes = gate, 0

    def hold(self, count: int) -> None:
        """Count bytes of the body, until the request leaves the server.

        Raises:
            RequestError: The bodies of all requests together are too large.
        """
        self.bytes += count
        self._gate.bytes += count
        if self._gate.bytes > self._gate.most_bytes:
            raise busy("the server has no room for the body")


class Admission:
    """ASGI middleware around all routes.

    Args:
        app: The routes.
        settings: The settings of the server.
        metrics: Where requests are counted.
        gate: Counts POST requests in the server.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: Metrics, gate: Gate) -> None:
        self._app, self._settings, self._metrics, self._gate = app, settings, metrics, gate
        # A client that knows the limit does not send a request while the connection is being closed.
        self._headers = (*_HEADERS, (b"keep-alive", b"timeout=%d" % settings.times.keep_alive))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        root = scope.get("root_path", "")
        if root and scope["path"].startswith(f"{root}{root}/"):
            # uvicorn adds the root path. This proxy has left it in the path.
            scope = {**scope, "path": scope["path"].removeprefix(root)}
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer, path = _Answer(send, self._headers), path_of(scope)
        try:
            if not is_open(path) and not has_token(scope["headers"], self._settings.tokens):
                raise RequestError(
                    401,
                    "the request needs a token; send the header Authorization: Bearer TOKEN",
                    {"WWW-Authenticate": "Bearer"},
                )
            if scope["method"] == "POST":
                await self._post(scope, receive, answer)
            else:
                await self._app(scope, receive, answer)
        except RequestError as error:
            if error.status == 503:
                self._metrics.refused.add()
            await error_response(error)(scope, receive, answer)
        except asyncio.CancelledError:  # the server stops, and this request has not ended in time
            if not answer.status:
                await error_response(busy("the server stops"))(scope, receive, answer)
        except Exception:
            _log.exception("a request failed")
            if not answer.status:
                fault = RequestError(500, "internal error; the log of the server says more")
                await error_response(fault)(scope, receive, answer)
        finally:
            self._metrics.requests.add(known(path), str(answer.status or 500))

    async def _post(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        began = time.perf_counter()
        with self._gate.enter("the server is busy") as scope[PLACE]:
            try:
                async with asyncio.timeout(self._settings.times.answer):
                    await self._app(scope, receive, answer)
            except TimeoutError:
                if not answer.status:
                    raise busy("the answer took too long") from None
        self._metrics.seconds.observe(time.perf_counter() - began)


class _Answer:
    """Sends the messages of a response, with the headers that every response has, and keeps its status."""

    def __init__(self, send: Send, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._send, self._headers, self.status = send, headers, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name.lower() for name, _ in message.get("headers", ())}
            added = [(name, value) for name, value in self._headers if name not in present]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await self._send(message)


def busy(what: str) -> RequestError:
    """Return the error for a request that the server has no room or time for."""
    return RequestError(503, f"{what}; try again later", {"Retry-After": _RETRY_AFTER})


def error_response(error: RequestError) -> Response:
    """Return the response for an error: JSON with one sentence."""
    sentence = str(error)
    shown = sentence if len(sentence) <= _LONGEST else f"{sentence[:_LONGEST]}…"
    return JSONResponse({"error": shown}, status_code=error.status, headers=error.headers)


def header(scope: Scope, name: str) -> str:
    """Return a header of a request, or an empty text.

    Starlette's `Headers` take 10 times as long (measured: docs/serve.md).
    """
    raw = name.lower().encode("latin-1")
    for key, value in scope["headers"]:
        if key == raw:
            found: str = value.decode("latin-1")
            return found
    return ""


def path_of(scope: Scope) -> str:
    """Return the path of a request without the root path of the server."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def is_open(path: str) -> bool:
    """Return whether a path answers without a token."""
    return path in _OPEN or path.startswith(_OPEN_FOLDERS)


def has_token(headers: Iterable[tuple[bytes, bytes]], tokens: Sequence[str]) -> bool:
    """Return whether a request has one of the tokens, or none is needed."""
    if not tokens:
        return True
    given = next((value for name, value in headers if name == b"authorization"), b"")
    scheme, _, token = given.partition(b" ")
    return is_token(token.strip() if scheme.lower() == b"bearer" else b"", tokens)


def is_token(given: bytes, tokens: Sequence[str]) -> bool:
    """Return whether bytes are one of the tokens, in a time that does not depend on how far they agree."""
    # All are compared, so that the time does not tell which one it is either.
    equal = [hmac.compare_digest(given, token.encode()) for token in tokens]
    return not equal or any(equal)


def known(path: str) -> str:
    """Return a path for the metrics; paths that clients invent share one name."""
    if path.startswith("/v2/"):
        return "/v2/infer" if path.endswith("/infer") else "/v2"
    if path.startswith(_OPEN_FOLDERS):
        return f"/{path.split('/')[1]}"
    listed = ("/v1/predict", "/v1/annotate", "/v1/model", "/metrics", "/v2", *_OPEN)
    return path if path in listed else "other"
