"""The settings of a server, and what a request may contain."""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mien._processes import cores
from mien.errors import InputError

#: Largest limit of pixels; Pillow warns of larger images.
MAX_PIXELS = 80_000_000
#: The file by which a web site of `mien export --format web` is recognised.
SITE_FILE = "site.json"
#: Characters of a bearer token (RFC 6750, section 2.1), and the least number of them.
_TOKEN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=")
_SHORTEST_TOKEN = 16
#: Largest token file in bytes.
_TOKEN_BYTES = 1 << 16


#: Options of `mien serve` that set a limit or time.
_OPTIONS = {
    "body": "--max-mib",
    "pixels": "--max-pixels",
    "images": "--max-images",
    "answer": "--deadline",
    "drain": "--drain",
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may contain; more is refused before it is decoded.

    Args:
        body: Bytes of a body, also after decompression.
        bodies: Bytes of all bodies that a process holds.
        frame: Bytes of a frame of a stream.
        pixels: Pixels of an image, as its header states them.
        frames: Frames of an animated WebP, AVIF or PNG file, of which the first is read.
        images: Images of a request.
        crops: Crops of a request of the Open Inference Protocol.
    """

    body: int = 32 << 20
    bodies: int = 256 << 20
    frame: int = 8 << 20
    pixels: int = 40_000_000
    frames: int = 100
    images: int = 128
    crops: int = 256


@dataclass(frozen=True, kw_only=True)
class Times:
    """How long the server waits, in seconds.

    Args:
        head: For the complete head of a request, from its first byte or from the start of the connection.
        body: For the body, and 1 s more for each 64 KiB that have arrived.
        answer: From the head of a request to its answer.
        idle: Between two requests of a connection.
        write: For a client that does not read its answer.
        drain: For the requests in the server after SIGTERM.
        frame: For the next frame of a stream.
    """

    head: float = 5.0
    body: float = 8.0
    answer: float = 30.0
    idle: float = 5.0
    write: float = 10.0
    drain: float = 20.0
    frame: float = 60.0

    @property
    def keep_alive(self) -> int:
        """Whole seconds that an idle connection stays open, as HTTP states them."""
        return max(1, round(self.idle))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server runs.

    Args:
        threads: Threads that detect faces; None for the processor's cores divided by the processes.
        queue: Requests that are in a process at once; more are refused with 503.
        streams: WebSockets that are open in a process at once.
        connections: Connections that are open in a process at once.
        limits: What a request may contain.
        times: How long the server waits.
        tokens: Bearer tokens, one of which a request must have; empty to need none.
        origins: Origins whose pages may use the server from a browser (CORS), or `*`; empty for only its own.
        root_path: Path under which a proxy makes the server available, such as `/faces`.
        site: Folder that `mien export --format web` wrote, with which the page can analyse photos in the
            browser; its files need no token. None for the server alone.
        forwarded_from: Addresses or networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto`
            count.

    Raises:
        InputError: A number is out of range, or a token, an origin or an address is not valid.
    """

    threads: int | None = None
    queue: int = 64
    streams: int = 16
    connections: int = 512
    limits: Limits = field(default_factory=Limits)
    times: Times = field(default_factory=Times)
    tokens: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    root_path: str = ""
    site: Path | None = None
    forwarded_from: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads is {self.threads}; it must be at least 1")
        for name in ("queue", "streams", "connections"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for group in (self.limits, self.times):
            for name, value in vars(group).items():
                if not 0 < value < float("inf"):
                    option = f" ({_OPTIONS[name]})" if name in _OPTIONS else ""
                    raise InputError(f"the limit {name!r}{option} is {value}; it must be above 0")
        if self.limits.bodies < self.limits.body:
            raise InputError(
                f"the limit 'bodies' is {self.limits.bodies:,}; it must be at least that of one body, "
                f"{self.limits.body:,}"
            )
        if self.limits.pixels > MAX_PIXELS:
            raise InputError(
                f"the limit 'pixels' is {self.limits.pixels:,}; it must be at most {MAX_PIXELS:,}"
            )
        for token in self.tokens:
            if len(token) < _SHORTEST_TOKEN or not _TOKEN.issuperset(token):
                raise InputError(
                    f"a token must have at least {_SHORTEST_TOKEN} characters, all letters, digits or "
                    "-._~+/=; create one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
                )
        for origin in self.origins:
            _check_origin(origin)
        for address in self.forwarded_from:
            _check_address(address)
        if self.site is not None and not (self.site / SITE_FILE).is_file():
            raise InputError(
                f"--site '{self.site}' is not a web site: it has no {SITE_FILE}; write one with: "
                "mien export MODEL --format web --to FOLDER"
            )
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise InputError(f"the root path is {self.root_path!r}; write it like /faces")

    def threads_of(self, processes: int = 1) -> int:
        """Return the number of threads that detect faces in one of several processes."""
        return self.threads or max(1, cores() // processes)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that users of the server see, as JSON values."""
        return {"queue": self.queue, "limits": dict(vars(self.limits)), "deadline": self.times.answer}


def read_tokens(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read bearer tokens from a file, one a line; empty lines are skipped.

    Raises:
        InputError: The file cannot be read, or has no token.
    """
    place = Path(path)
    try:
        with place.open("rb") as file:
            content = file.read(_TOKEN_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"the token file '{place}' cannot be read: {reason}; check the path") from None
    if len(content) > _TOKEN_BYTES:
        raise InputError(f"the token file '{place}' is larger than {_TOKEN_BYTES:,} bytes")
    lines = content.decode("ascii", errors="replace").splitlines()
    tokens = tuple(line.strip() for line in lines if line.strip())
    if not tokens:
        raise InputError(f"the token file '{place}' has no token; write one a line")
    return tokens


def is_loopback(host: str) -> bool:
    """Return whether a host that a server listens on can be reached from this machine only."""
    return host == "localhost" or host.startswith("127.") or host in ("::1", "[::1]")


def _check_origin(origin: str) -> None:
    scheme, separator, host = origin.partition("://")
    valid = origin == "*" or (scheme in ("http", "https") and separator and host and "/" not in host)
    if not valid:
        raise InputError(f"the origin {origin!r} is not valid; write it like https://example.org")


def _check_address(address: str) -> None:
    try:
        if address != "*":
            ipaddress.ip_network(address, strict=False)
    except ValueError:
        raise InputError(
            f"the proxy {address!r} is not valid; write its address, such as 127.0.0.1 or 10.0.0.0/8, or *"
        ) from None


def parts(values: Sequence[str] | None) -> tuple[str, ...]:
    """Return the values of an option that can be repeated or separated by commas."""
    return tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())
