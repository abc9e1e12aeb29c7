"""The head that is forwarded and the head that is relayed: which headers cross, which are added. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from himalia_proxy.framing import CHUNKED, UNTIL_CLOSE, Headers, RequestHead, ResponseHead
from himalia_proxy.target import Target

Network = IPv4Network | IPv6Network

# RFC 9110 7.6.1, and the older names that some clients still mean hop by hop.
HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
# Written anew from what was understood, so that no header can contradict the framing. `Connection` may
# name any of them in vain.
_OWN: Final = HOP_BY_HOP | {b"host", b"content-length"}
_SAID_OF_HOPS: Final = frozenset(
    (
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-real-ip",
    )
)
REDIRECTS: Final = frozenset((201, 301, 302, 307, 308))
_MOST_TAILS: Final = 8
_FORWARDED: Final = frozenset((b"x-forwarded-for", b"x-forwarded-port", b"x-forwarded-proto"))


@dataclass(frozen=True, slots=True, eq=False)
class ForwardRules:
    """The options that shape a forwarded head."""

    x_forward: bool = True
    change_origin: bool = False
    auto_rewrite: bool = False
    protocol_rewrite: bytes | None = None
    custom: tuple[tuple[bytes, bytes], ...] = ()
    trusted: tuple[Network, ...] | None = None  # None: what everybody says of forwarding is passed on
    forwarded: bool = False

    def trusts(self, client: bytes) -> bool:
        """Whether what a client says of earlier hops is passed on. One on a unix socket is of this machine."""
        if self.trusted is None or not client:
            return True
        address = ip_address(client.decode("ascii").partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.trusted)

    @property
    def rewrites(self) -> bool:
        """Whether redirects may need another form."""
        return self.auto_rewrite or self.protocol_rewrite is not None


def forward_head(
    request: RequestHead, path: bytes, target: Target, rules: ForwardRules, *, client: bytes, tls: bool
) -> bytes:
    """The head sent to the target. `client` is the peer's address, empty on a unix socket."""
    host = target.netloc if rules.change_origin or not request.host else request.host
    # Requests with equal header fields share what is made of them for a client.
    key = (client, tls, rules)
    tail = request.tails.get(key)
    if tail is None:
        if len(request.tails) >= _MOST_TAILS:
            request.tails.clear()
        tail = request.tails[key] = _tail(request, rules, client=client, tls=tls)
    line = (
        request.method,
        b" ",
        _with_query(path, request, target),
        b" HTTP/1.1\r\nHost: ",
        host,
        b"\r\n",
        tail,
    )
    return b"".join(line)


def _tail(request: RequestHead, rules: ForwardRules, *, client: bytes, tls: bool) -> bytes:
    """Everything behind the Host: it depends on the header fields, not on method and path."""
    out: list[bytes] = []
    seen: dict[bytes, bytes] = {}
    overridden = {name.lower() for name, _ in rules.custom}
    named_host = False
    dropped = _OWN if rules.trusts(client) else _OWN | _SAID_OF_HOPS
    for name, value in request.headers:
        lower = name.lower()
        if lower in dropped or lower in request.connection or lower in overridden:
            continue
        if rules.x_forward and lower in _FORWARDED:
            seen[lower] = seen[lower] + b"," + value if lower in seen else value
            continue
        named_host = named_host or lower == b"x-forwarded-host"
        out += (name, b": ", value, b"\r\n")
    if request.body == CHUNKED:
        out.append(b"Transfer-Encoding: chunked\r\n")
    elif request.body or _says_length(request):
        out.append(b"Content-Length: %d\r\n" % request.body)
    if request.upgrade is not None:
        out += (b"Connection: Upgrade\r\nUpgrade: ", request.upgrade, b"\r\n")
    if rules.x_forward:
        _add_forwarded(out, seen, request, client=client, tls=tls, named_host=named_host)
    if rules.forwarded:
        out.append(b"Forwarded: " + _hop(request, client=client, tls=tls) + b"\r\n")
    for name, value in rules.custom:
        out += (name, b": ", value, b"\r\n")
    out.append(b"\r\n")
    return b"".join(out)


def _with_query(path: bytes, request: RequestHead, target: Target) -> bytes:
    if target.query:
        return path + b"?" + target.query + (b"&" + request.query if request.query else b"")
    return path if request.query is None else path + b"?" + request.query


def _says_length(request: RequestHead) -> bool:
    """An explicit length of 0 is repeated: some servers answer 411 to a POST without one."""
    return any(len(name) == 14 and name.lower() == b"content-length" for name, _ in request.headers)


def _add_forwarded(
    out: list[bytes],
    seen: dict[bytes, bytes],
    request: RequestHead,
    *,
    client: bytes,
    tls: bool,
    named_host: bool,
) -> None:
    websocket = request.upgrade is not None and request.upgrade.lower() == b"websocket"
    scheme = (b"wss" if tls else b"ws") if websocket else (b"https" if tls else b"http")
    port = port_of(request.host) or (b"443" if tls else b"80")
    for name, shown, value in (
        (b"x-forwarded-for", b"X-Forwarded-For: ", client),
        (b"x-forwarded-port", b"X-Forwarded-Port: ", port),
        (b"x-forwarded-proto", b"X-Forwarded-Proto: ", scheme),
    ):
        earlier = seen.get(name)
        if earlier and value:
            out += (shown, earlier, b",", value, b"\r\n")
        elif earlier or value:
            out += (shown, earlier or value, b"\r\n")
    if request.host and not websocket and not named_host:
        out += (b"X-Forwarded-Host: ", request.host, b"\r\n")


def _hop(request: RequestHead, *, client: bytes, tls: bool) -> bytes:
    """This hop, as RFC 7239 writes it; a further header line is appended to earlier ones by whoever reads them."""
    address = b'"[%s]"' % client if b":" in client else client or b"unknown"
    host = b';host="%s"' % request.host if request.host else b""
    return b"for=%s%s;proto=%s" % (address, host, b"https" if tls else b"http")


def port_of(host: bytes | None) -> bytes:
    """The port a Host header names, or nothing."""
    if not host:
        return b""
    return host[host.rfind(b"]") + 1 :].partition(b":")[2]


def without_port(host: bytes) -> bytes:
    """The name or address in a Host header."""
    port = port_of(host)
    return host[: -len(port) - 1] if port else host.removesuffix(b":")


def moved(location: bytes, target: Target, host: bytes | None, rules: ForwardRules) -> bytes:
    """A redirect as the client should see it: one to the target itself names the proxy instead, if so asked."""
    scheme, mark, rest = location.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        return location
    cut = min((at for at in map(rest.find, (b"/", b"?", b"#")) if at >= 0), default=len(rest))
    default = b"443" if scheme.lower() == b"https" else b"80"
    if (without_port(rest[:cut]).lower(), port_of(rest[:cut]) or default) != target.authority:
        return location
    authority = host if rules.auto_rewrite and host else rest[:cut]
    return (rules.protocol_rewrite or scheme) + b"://" + authority + rest[cut:]


def relay_head(response: ResponseHead, *, version: int, close: bool) -> bytes:
    """The head sent to the client: HTTP/1.1, framed for a client of this minor version."""
    out = [b"HTTP/1.1 %d " % response.status, response.reason, b"\r\n"]
    bodiless = response.status == 204 or response.status < 200
    chunked = version == 1 and response.body in (CHUNKED, UNTIL_CLOSE)
    for name, value in response.headers:
        lower = name.lower()
        if lower in HOP_BY_HOP:
            if not (lower == b"trailer" and chunked) and not (lower == b"upgrade" and response.status == 426):
                continue
        elif lower == b"content-length":
            if bodiless:
                continue
        elif lower in response.connection:
            continue
        out += (name, b": ", value, b"\r\n")
    if chunked:
        out.append(b"Transfer-Encoding: chunked\r\n")
    if response.status == 101:
        out += (b"Connection: Upgrade\r\nUpgrade: ", _value(response.headers, b"upgrade"), b"\r\n")
    elif close:
        out.append(b"Connection: close\r\n")
    out.append(b"\r\n")
    return b"".join(out)


def _value(headers: Headers, wanted: bytes) -> bytes:
    return next((value for name, value in headers if name.lower() == wanted), b"")


def reason(status: int) -> str:
    """The phrase that belongs to a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def own_head(status: int, headers: Headers, length: int, *, close: bool) -> bytes:
    """The head of an answer the proxy gives itself."""
    out = [f"HTTP/1.1 {status} {reason(status)}\r\n".encode()]
    for name, value in headers:
        out += (name, b": ", value, b"\r\n")
    if status != 204:
        out.append(b"Content-Length: %d\r\n" % length)
    if close:
        out.append(b"Connection: close\r\n")
    out.append(b"\r\n")
    return b"".join(out)
