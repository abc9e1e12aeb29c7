"""HTTP/1 heads and the rules of where a body ends: pure, and stricter than the parser beneath.

httptools (llhttp) judges the header lines. What two implementations could read in two ways is refused here,
because a proxy that forwards an ambiguous message lets one request hide inside another.
"""

from __future__ import annotations

import re
from typing import Final

import httptools

from himalia_proxy.errors import BadRequest, BadResponse

Headers = list[tuple[bytes, bytes]]

CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

MAX_HEAD: Final = 64 * 1024

_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_PATH = re.compile(rb"[^\x21-\x7e]|[#\\]")
_NOT_IN_QUERY = re.compile(rb"[^\x21-\x7e]|#")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")


class _Collector:
    """Takes header lines from the parser."""

    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


class RequestHead:
    """One parsed request head; `body` is its length, or CHUNKED."""

    __slots__ = (
        "body",
        "connection",
        "expects",
        "headers",
        "host",
        "keep_alive",
        "method",
        "query",
        "tails",
        "target",
        "upgrade",
        "version",
    )

    def __init__(self, method: bytes, target: bytes, version: int) -> None:
        self.method = method
        self.target = target  # origin form: the path, without the query
        self.query: bytes | None = None
        self.version = version  # minor: 0 or 1
        self.headers: Headers = []
        self.host: bytes | None = None
        self.body = 0
        self.connection: frozenset[bytes] = _NONE
        self.keep_alive = version == 1
        self.upgrade: bytes | None = None
        self.expects = False
        self.tails: dict[object, bytes] = {}  # for `headers.forward_head`; shared by heads with equal fields

    def like(self, method: bytes, target: bytes) -> RequestHead:
        """Another request with the same header fields."""
        other = RequestHead(method, target, self.version)
        other.headers = self.headers
        other.host = self.host
        other.body = self.body
        other.connection = self.connection
        other.keep_alive = self.keep_alive
        other.upgrade = self.upgrade
        other.expects = self.expects
        other.tails = self.tails
        return other

    @property
    def url(self) -> bytes:
        """Path and query as they came."""
        return self.target if self.query is None else self.target + b"?" + self.query


class ResponseHead:
    """One parsed response head; `body` is its length, CHUNKED or UNTIL_CLOSE."""

    __slots__ = ("body", "connection", "headers", "keep_alive", "reason", "status", "version")

    def __init__(self, status: int, reason: bytes, version: int) -> None:
        self.status = status
        self.reason = reason
        self.version = version
        self.headers: Headers = []
        self.body = 0
        self.connection: frozenset[bytes] = _NONE
        self.keep_alive = version == 1


_NONE: Final[frozenset[bytes]] = frozenset()
_MOST_KNOWN: Final = 512
_MOST_KNOWN_SIZE: Final = 4096
_known: dict[tuple[bytes, int], RequestHead] = {}
_collector = _Collector()


def find_head(data: bytes, most: int = MAX_HEAD) -> int:
    """Where the body begins, or 0 if the head is not complete. A bare line feed is refused at once."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > most:
            raise BadRequest(f"The request head is larger than {most} bytes.", 431)
        if data.count(b"\n") != data.count(b"\r\n"):
            raise BadRequest("Lines of a request must end with CR LF.")
        return 0
    if end > most:
        raise BadRequest(f"The request head is larger than {most} bytes.", 431)
    return end + 4


def parse_request(head: bytes) -> RequestHead:
    """Read a complete head, from the request line to the empty line; BadRequest if it may not be forwarded.

    Each head has a parser of its own. Reusing one would save a microsecond and let what one client sends
    (a body, `Proxy-Connection: close`) decide how the next client's head is read. Browsers repeat their header
    fields byte for byte: what was read from equal bytes before is taken again, which is safe as it depends on them
    alone.
    """
    end = head.index(b"\r\n")
    line = head[:end].split(b" ")
    if len(line) != 3:
        raise BadRequest("The request line is malformed.")
    method, target, version = line
    if version == b"HTTP/1.1":
        request = RequestHead(method, target, 1)
    elif version == b"HTTP/1.0":
        request = RequestHead(method, target, 0)
    else:
        raise BadRequest("Only HTTP/1.1 and HTTP/1.0 are spoken here.", 505)
    # The parser passes over line ends before a method, which would then be forwarded with it.
    if method not in _METHODS and not _METHOD.fullmatch(method):
        raise BadRequest("The request method is malformed.")
    if method == b"CONNECT":
        raise BadRequest("CONNECT is not offered here.", 405)
    fields = (head[end:], request.version)
    known = _known.get(fields)
    if known is not None and method in _METHODS:
        request = known.like(method, target)
    else:
        _parse_fields(request, head)
        if len(fields[0]) <= _MOST_KNOWN_SIZE:
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[fields] = request
    _split_target(request)
    return request


def _parse_fields(request: RequestHead, head: bytes) -> None:
    _collector.headers = request.headers
    try:
        httptools.HttpRequestParser(_collector).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise BadRequest(f"The request head is malformed: {error}.") from None
    _judge_request(request)


def _judge_request(request: RequestHead) -> None:
    """Fill in what the headers say of framing and connection."""
    length: bytes | None = None
    coding: bytes | None = None
    upgrade: bytes | None = None
    connection: bytes | None = None
    hosts = 0
    for name, value in request.headers:
        size = len(name)
        # Names of other lengths cannot be one of those below; most headers are passed by this line.
        if size not in _JUDGED_SIZES:
            continue
        lower = name.lower()
        if lower == b"host":
            hosts += 1
            request.host = value.strip()
        elif lower == b"content-length":
            if length is not None:
                raise BadRequest("More than one Content-Length.")
            length = value.strip(b" \t")
        elif lower == b"transfer-encoding":
            if coding is not None:
                raise BadRequest("More than one Transfer-Encoding.")
            coding = value.strip(b" \t")
        elif lower == b"connection":
            connection = value if connection is None else connection + b"," + value
        elif lower == b"upgrade":
            upgrade = value.strip()
        elif lower == b"expect":
            request.expects = value.strip().lower() == b"100-continue"
    if hosts > 1 or (hosts == 0 and request.version == 1):
        raise BadRequest("Exactly one Host is needed.")
    if request.host is not None and not _HOST.fullmatch(request.host):
        raise BadRequest("The Host is not a host name.")
    request.body = _request_body(request, length, coding)
    if connection is not None:
        request.connection = _tokens(connection)
    request.keep_alive = request.version == 1 and b"close" not in request.connection
    asked = upgrade and b"upgrade" in request.connection and request.version == 1 and not request.body
    # h2c would carry requests past the table unseen; a server may always ignore an Upgrade.
    if asked and upgrade is not None and b"h2c" not in _tokens(upgrade):
        request.upgrade = upgrade


_JUDGED_SIZES: Final = frozenset(
    len(name)
    for name in (b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect")
)


def _request_body(request: RequestHead, length: bytes | None, coding: bytes | None) -> int:
    if coding is not None:
        if length is not None:
            raise BadRequest("Transfer-Encoding and Content-Length exclude each other.")
        if request.version == 0:
            raise BadRequest("HTTP/1.0 has no Transfer-Encoding.")
        if coding.lower() != b"chunked":
            raise BadRequest("The only Transfer-Encoding understood is chunked.", 501)
        return CHUNKED
    if length is None:
        return 0
    if not length.isdigit() or len(length) > 18:
        raise BadRequest("The Content-Length is not a number.")
    return int(length)


def _split_target(request: RequestHead) -> None:
    """Reduce the target to origin form, path and query apart."""
    target = request.target
    if not target.startswith(b"/"):
        target = _from_absolute(request, target)
    path, mark, query = target.partition(b"?")
    if _NOT_IN_PATH.search(path) or (mark and _NOT_IN_QUERY.search(query)):
        raise BadRequest("The request target contains a character that must be percent-encoded.")
    request.target = path
    request.query = query if mark else None


def _from_absolute(request: RequestHead, target: bytes) -> bytes:
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise BadRequest("The request target must begin with '/'.")
    cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    # RFC 9112 3.2.2 lets the target win over Host. Two names in one request help only an attacker.
    if request.host is not None and authority.lower() != request.host.lower():
        raise BadRequest("The request target and Host name different hosts.")
    return path if path.startswith(b"/") else b"/" + path


def parse_response(head: bytes, *, to_head: bool) -> ResponseHead:
    """Read a complete response head; BadResponse if its end cannot be told. `to_head`: it answers a HEAD."""
    matched = _STATUS_LINE.fullmatch(head, 0, head.index(b"\r\n"))
    if matched is None:
        raise BadResponse("its status line is malformed")
    response = ResponseHead(int(matched[2]), matched[3] or b"", 1 if matched[1] == b"1" else 0)
    _collector.headers = response.headers
    try:
        httptools.HttpResponseParser(_collector).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise BadResponse(f"its head is malformed: {error}") from None
    _judge_response(response, to_head=to_head)
    return response


def _judge_response(response: ResponseHead, *, to_head: bool) -> None:
    length: bytes | None = None
    coding: bytes | None = None
    connection: bytes | None = None
    for name, value in response.headers:
        if len(name) not in _JUDGED_SIZES:
            continue
        lower = name.lower()
        if lower == b"content-length":
            if length is not None and length != value.strip(b" \t"):
                raise BadResponse("it has two Content-Lengths")
            length = value.strip(b" \t")
        elif lower == b"transfer-encoding":
            coding = value.strip(b" \t") if coding is None else coding + b"," + value
        elif lower == b"connection":
            connection = value if connection is None else connection + b"," + value
    if connection is not None:
        response.connection = _tokens(connection)
    response.keep_alive = (
        b"close" not in response.connection if response.version else b"keep-alive" in response.connection
    )
    if response.status < 200 or response.status in (204, 304) or to_head:
        response.body = 0
    elif coding is not None:
        if length is not None:
            raise BadResponse("it has both Transfer-Encoding and Content-Length")
        if coding.lower() != b"chunked":
            raise BadResponse("its Transfer-Encoding is not chunked")
        response.body = CHUNKED
    elif length is None:
        response.body = UNTIL_CLOSE
        response.keep_alive = False
    elif not length.isdigit() or len(length) > 18:
        raise BadResponse("its Content-Length is not a number")
    else:
        response.body = int(length)


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip() for token in value.lower().split(b","))
