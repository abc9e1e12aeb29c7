"""Target URLs of routes: read and refused once, when the route is added. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from himalia_proxy.errors import BadTarget

_SCHEMES = {"http": 80, "https": 443, "http+unix": None, "unix+http": None}
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")
MAX_SOCKET_PATH = 107


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and what is put before the request's path."""

    url: str
    origin: str  # equal for targets that may share connections
    host: str
    port: int
    socket: str | None
    tls: bool
    path: bytes  # without a final slash
    query: bytes
    netloc: bytes  # as a Host header names it

    @property
    def authority(self) -> tuple[bytes, bytes]:
        """Host in small letters and port, to compare a URL's with."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return shown.lower().encode(), b"%d" % (self.port or 80)


def parse_target(url: str) -> Target:
    """Read `http(s)://host[:port][/path]` or `http+unix://%2Fsocket[/path]`; BadTarget says what is wrong."""
    if any(not "!" <= letter <= "~" for letter in url):
        raise BadTarget(f"target {url!r} contains a space, a control character or a letter that is not ASCII")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadTarget(f"target {url!r} is not a URL: {error}") from None
    if parts.scheme not in _SCHEMES:
        raise BadTarget(f"target {url!r} must begin with http://, https:// or http+unix://")
    if "@" in parts.netloc:
        raise BadTarget("a target must not contain a user name or password")
    if parts.fragment or "#" in url:
        raise BadTarget(f"target {url!r} must not contain a fragment")
    path, query = parts.path.rstrip("/").encode(), parts.query.encode()
    if _SCHEMES[parts.scheme] is None:
        return _unix_target(url, parts.netloc, path, query)
    host = parts.hostname or ""
    if not _HOST.fullmatch(host):
        raise BadTarget(f"target {url!r} names no valid host")
    if port == 0:
        raise BadTarget(f"target {url!r} has port 0")
    tls = parts.scheme == "https"
    port = port or (443 if tls else 80)
    shown = f"[{host}]" if ":" in host else host
    netloc = shown if port == _SCHEMES[parts.scheme] else f"{shown}:{port}"
    origin = f"{parts.scheme}://{shown}:{port}"
    return Target(url, origin, host, port, None, tls, path, query, netloc.encode())


def _unix_target(url: str, netloc: str, path: bytes, query: bytes) -> Target:
    socket = unquote(netloc)
    if not socket.startswith("/") or "\0" in socket:
        raise BadTarget(f"target {url!r} must name a socket by its absolute path, with '/' written as %2F")
    if len(socket.encode()) > MAX_SOCKET_PATH:
        raise BadTarget(f"target {url!r} names a socket path longer than {MAX_SOCKET_PATH} bytes")
    return Target(url, f"unix:{socket}", "localhost", 0, socket, False, path, query, b"localhost")
