"""Connections that are closed if their client is too slow.

uvicorn keeps connections that send nothing, half a head or a body byte by byte for longer than 40 seconds
(measured: docs/serve.md). These subclasses of its protocols close them.
"""

import asyncio
import json
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from uvicorn.server import ServerState

from mien.server.settings import Settings

#: Bytes of the head of a request at most, and bytes of a body for which it gets one more second.
_HEAD_BYTES, _RATE = 1 << 15, 1 << 16
_REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class ServerConfig(Config):
    """The configuration of uvicorn, with the settings of the server for its connections."""

    settings = Settings()


class _Joined:
    """A transport that sends what is written in one turn of the event loop at once.

    uvicorn writes the head and the body of a response separately. Each write is a system call, after which
    the thread waits for Python's lock while others compute.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send bytes at the end of this turn."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """Send what is left, and close the connection."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._waiting:
            content = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting = []
            self._transport.write(content)


class HttpConnection(HttpToolsProtocol):
    """A connection of uvicorn with deadlines."""

    config: ServerConfig

    def __init__(
        self,
        config: ServerConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.times = config.settings.times
        # Chunks of a few bytes take several times their content.
        self._most_bytes = 2 * config.settings.limits.body + _HEAD_BYTES
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        #: Bytes of the current head or body, which of both it is, and until when the body has time.
        self._bytes, self._in_head, self._until = 0, True, 0.0
        #: Whether a request has begun and is not complete, and whether a WebSocket has the connection now.
        self._begun = self._handed_over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, or refuse the connection."""
        super().connection_made(_Joined(transport, self.loop))  # type: ignore[arg-type]
        if len(self.connections) > self.config.settings.connections:
            self._refuse(503, "there are too many connections; try again later")
            return
        self._wait(self.times.head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._wait(None)
        self._stop_writing_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count bytes; refuse a head that is too long, and a body far beyond what the application reads."""
        self._bytes += len(data)
        if self._in_head and self._bytes > _HEAD_BYTES and b"\r\n\r\n" not in data[:_HEAD_BYTES]:
            self._refuse(431, "the head of the request is too long; send fewer headers")
            return
        if self._bytes > self._most_bytes:
            self._refuse(413, "the body is too large; send less")
            return
        super().data_received(data)
        if self._timer is None and self._is_idle() and not self._handed_over:
            self._wait(self.times.idle)

    def on_message_begin(self) -> None:
        """Wait for the head of a request."""
        self._in_head, self._bytes, self._begun = True, 0, True
        self._wait(self.times.head)
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the head; trailers after the body are dropped."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Wait for the body of a request."""
        self._in_head, self._bytes = False, 0
        self._until = self.loop.time() + self.times.body
        self._wait(self.times.body)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for nothing: the application has its own deadline."""
        self._wait(None)
        self._in_head, self._bytes, self._begun = True, 0, False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(400, "the request is not valid HTTP/1.1; check it")

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to a WebSocket, which has deadlines of its own."""
        self._wait(None)
        self._handed_over = True
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """Wait for a client that does not read."""
        super().pause_writing()
        self._writing = self.loop.call_later(self.times.write, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop waiting for the client to read."""
        self._stop_writing_clock()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection without a request, also if its client does not read the last answer."""
        self._close()

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._late)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _late(self) -> None:
        """Close the connection, unless enough of a body has arrived for more time."""
        left = self._until + self._bytes / _RATE - self.loop.time()
        if not self._in_head and left > 0:
            self._wait(left)
        elif not self._begun:
            self._close()
        else:
            self._refuse(408, "the request took too long; send it faster")

    def _refuse(self, status: int, sentence: str) -> None:
        """Close the connection with an error, if it does not belong to a response that has begun."""
        if not self.transport.is_closing() and (self._is_idle() or not self.cycle.response_started):
            body = json.dumps({"error": sentence}).encode()
            lines = [
                f"HTTP/1.1 {status} {_REASONS[status]}",
                "connection: close",
                "content-type: application/json",
                f"content-length: {len(body)}",
                *(["retry-after: 1"] if status == 503 else []),
            ]
            self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self._close()

    def _close(self) -> None:
        """Close the connection, also if the client does not read what was written."""
        self._wait(None)
        self._stop_writing_clock()
        if not self.transport.is_closing():
            self.transport.close()
            self._writing = self.loop.call_later(self.times.write, self.transport.abort)

    def _stop_writing_clock(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None


class StreamConnection(WSProtocol):
    """A WebSocket of uvicorn that stops reading from a client that does not read."""

    config: ServerConfig
    _writing: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """Stop reading until the client reads; close the connection if it does not."""
        super().pause_writing()
        self.transport.pause_reading()
        seconds = self.config.settings.times.write
        self._writing = self.loop.call_later(seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Read on."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
        if not self.read_paused:
            self.transport.resume_reading()
