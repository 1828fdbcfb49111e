"""A WebSocket that answers frames of a webcam: only the newest one, so that answers are never late."""

import asyncio
import json
import logging
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.websockets import WebSocket, WebSocketDisconnect

from mien.errors import InputError
from mien.server.admission import Gate, error_response, has_token, is_token
from mien.server.metrics import Metrics
from mien.server.payloads import Options, RequestError, options, query_fields
from mien.server.service import Service, document
from mien.server.settings import Settings
from mien.types import Problem

_log = logging.getLogger("mien.server")
#: Begin of the subprotocol that has the token, because a page cannot send other headers.
_BEARER = "bearer."
#: Codes that a WebSocket is closed with (RFC 6455, section 7.4.1).
_LEFT, _FAULT = 1001, 1011


class Streams:
    """Answers WebSockets.

    Args:
        service: The model and its threads.
        settings: The settings.
        metrics: Where frames are counted.
    """

    def __init__(self, service: Service, settings: Settings, metrics: Metrics) -> None:
        self._service, self._settings, self._metrics = service, settings, metrics
        self._gate = Gate(settings.streams)
        metrics.gauge("mien_streams", "WebSockets that are open.", lambda: self._gate.inside)

    async def answer(self, socket: WebSocket) -> None:
        """Answer one WebSocket until it is closed."""
        try:
            chosen = self._check(socket)
            with self._gate.enter("the server has no room for another stream"):
                await self._serve(socket, chosen)
        except RequestError as error:
            await socket.send_denial_response(error_response(error))

    async def _serve(self, socket: WebSocket, chosen: Options) -> None:
        await socket.accept(subprotocol=_subprotocol(socket))
        stream = _Stream(socket)
        reading = asyncio.ensure_future(stream.read(self._settings.times.frame))
        try:
            with suppress(WebSocketDisconnect, OSError):  # the client has left
                await self._answer_frames(stream, chosen)
        except Exception:
            _log.exception("a stream failed")
            await socket.close(_FAULT)
        finally:
            reading.cancel()

    def _check(self, socket: WebSocket) -> Options:
        """Return the options of a stream.

        Raises:
            RequestError: Its origin, token or options are refused.
        """
        if not _is_allowed(socket, self._settings.origins):
            raise RequestError(
                403, "pages of this origin may not use the server; start it with --allow-origin"
            )
        protocols = socket.scope.get("subprotocols", ())
        given = next((each.removeprefix(_BEARER) for each in protocols if each.startswith(_BEARER)), "")
        tokens = self._settings.tokens
        if not (has_token(socket.scope["headers"], tokens) or is_token(given.encode(), tokens)):
            raise RequestError(
                401,
                f"the stream needs a token; send it as the subprotocol {_BEARER}TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )
        chosen = options(query_fields(socket.scope["query_string"]))
        try:
            self._service.predictor(chosen)
        except InputError as error:
            raise RequestError(400, str(error)) from None
        return chosen

    async def _answer_frames(self, stream: "_Stream", chosen: Options) -> None:
        while (taken := await stream.newest()) is not None:
            number, frame = taken
            if isinstance(frame, str):
                answer = {"error": frame, "frame": number}
            else:
                found = await self._service.frame(frame, chosen)
                if isinstance(found, Problem):
                    self._metrics.frames.add("unreadable")
                    answer = {"error": found.reason, "frame": number}
                else:
                    self._metrics.frames.add("answered")
                    answer = document(found) | {"frame": number}
            await stream.send(answer)
        self._metrics.frames.add("dropped", by=stream.dropped)


class _Stream:
    """The newest frame of a WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._frame: tuple[int, bytes | str] | None = None
        self._changed = asyncio.Event()
        self._ended = False
        self.dropped = 0

    async def read(self, seconds: float) -> None:
        """Receive frames, of which the newest is kept, until the client leaves or sends none for a time."""
        number = 0
        try:
            while True:
                async with asyncio.timeout(seconds):
                    message = await self._socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                content = message.get("bytes")
                self.dropped += self._frame is not None
                self._frame = (number, content if content else "send each frame as one binary message")
                self._changed.set()
                number += 1
        except TimeoutError:
            await self._socket.close(_LEFT, "no frame arrived")
        finally:
            self._ended = True
            self._changed.set()

    async def newest(self) -> tuple[int, bytes | str] | None:
        """Return the number and content of the newest frame, or what is wrong with it; None at the end."""
        while self._frame is None:
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        taken, self._frame = self._frame, None
        return taken

    async def send(self, answer: dict[str, object]) -> None:
        """Send an answer."""
        await self._socket.send_text(json.dumps(answer, ensure_ascii=False, separators=(",", ":")))


def _is_allowed(socket: WebSocket, origins: tuple[str, ...]) -> bool:
    """Return whether the origin of a page, if a page opens the WebSocket, may use the server."""
    origin = socket.headers.get("origin")
    if origin is None or "*" in origins or origin in origins:
        return True
    return urlsplit(origin).netloc.lower() == socket.headers.get("host", "").lower()


def _subprotocol(socket: WebSocket) -> str | None:
    """Return the subprotocol to answer with: browsers close a WebSocket if they offered some and get none."""
    offered: list[str] = list(socket.scope.get("subprotocols", ()))
    return next((each for each in offered if not each.startswith(_BEARER)), offered[0] if offered else None)
