"""Clients of the server that tests use: HTTP requests, raw sockets and WebSockets."""

import base64
import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import wsproto
from wsproto import events


@dataclass(frozen=True)
class Reply:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    url: str,
    path: str,
    body: bytes | None = None,
    kind: str = "",
    *,
    method: str = "",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send one request on its own connection."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    given = dict(headers or {})
    if kind:
        given["Content-Type"] = kind
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, given)
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def form(images: Sequence[bytes], names: Sequence[str] = (), **fields: str) -> tuple[bytes, str]:
    """Return a multipart body and its content type."""
    boundary = "bound-4f2a"
    parts = []
    for number, image in enumerate(images):
        name = names[number] if names else f"{number}.png"
        head = f'Content-Disposition: form-data; name="image"; filename="{name}"\r\nContent-Type: image/png'
        parts.append(head.encode() + b"\r\n\r\n" + image)
    for field, value in fields.items():
        parts.append(f'Content-Disposition: form-data; name="{field}"\r\n\r\n{value}'.encode())
    line = f"--{boundary}".encode()
    body = b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"
    return body, f"multipart/form-data; boundary={boundary}"


def base64_json(images: Sequence[bytes], **fields: Any) -> bytes:
    """Return a JSON body with images."""
    return json.dumps({"images": [base64.b64encode(each).decode() for each in images], **fields}).encode()


def raw(url: str, content: bytes, *, seconds: float = 30.0, drip: bytes = b"") -> bytes:
    """Send bytes, then some more twice a second, and return what arrives until the connection is closed."""
    host = urlsplit(url)
    got = b""
    with socket.create_connection((host.hostname or "", host.port or 0), timeout=seconds) as sender:
        sender.sendall(content)
        sender.settimeout(0.5 if drip else seconds)
        while True:
            try:
                chunk = sender.recv(1 << 16)
                if not chunk:
                    return got
                got += chunk
            except TimeoutError:
                if not drip:
                    raise
                sender.sendall(drip)
            except (ConnectionResetError, BrokenPipeError):
                return got


class Stream:
    """A WebSocket."""

    def __init__(
        self,
        url: str,
        path: str = "/v1/stream",
        *,
        protocols: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        host = urlsplit(url)
        self.socket = socket.create_connection((host.hostname or "", host.port or 0), timeout=60)
        self._connection = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        more = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        request = events.Request(host.netloc, path, subprotocols=list(protocols), extra_headers=more)
        self.socket.sendall(self._connection.send(request))
        #: Status of the handshake: 101 if it was accepted.
        self.status, self.protocol, self.body = 101, None, b""
        first = self.receive()
        if isinstance(first, events.AcceptConnection):
            self.protocol = first.subprotocol
        elif isinstance(first, events.RejectConnection):
            self.status = first.status_code
            while not isinstance(data := self.receive(), events.RejectData) or not data.body_finished:
                self.body += getattr(data, "data", b"")
            self.body += data.data
        self._waiting = ""

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, content: bytes | str) -> None:
        """Send one message."""
        self.socket.sendall(self._connection.send(events.Message(data=content)))

    def receive(self) -> events.Event | None:
        """Return the next event; None if the connection is closed."""
        while True:
            for event in self._connection.events():
                if isinstance(event, events.Ping):
                    self.socket.sendall(self._connection.send(event.response()))
                    continue
                return event
            data = self.socket.recv(1 << 16)
            if not data:
                return None
            self._connection.receive_data(data)

    def answer(self) -> Any:
        """Return the next text message as JSON."""
        text = ""
        while True:
            event = self.receive()
            assert isinstance(event, events.TextMessage), event
            text += event.data
            if event.message_finished:
                return json.loads(text)
