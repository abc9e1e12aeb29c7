"""What a browser or a proxy says about where a request comes from."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from aiohttp import web

from himalia_hub.keys import SETTINGS


def scheme(request: web.Request) -> str:
    """`https` when the visitor came so, to us or to the proxy in front."""
    forwarded = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
    return forwarded if forwarded in ("http", "https") else request.scheme


def site(request: web.Request) -> str:
    """Scheme and host by which the visitor came; empty for a host that is none, which nobody's browser sends.

    For what its visitor alone is told: others may be led astray by it.
    """
    host = request.host
    return (
        f"{scheme(request)}://{host}"
        if re.fullmatch(r"[\w.-]+(:\d+)?|\[[\da-fA-F:.]+\](:\d+)?", host)
        else ""
    )


def own_hosts(request: web.Request) -> frozenset[str]:
    """The names (with port) under which this hub is visited."""
    public = urlsplit(request.app[SETTINGS].public_url).netloc
    forwarded = request.headers.get("X-Forwarded-Host", "").partition(",")[0].strip()
    return frozenset(host.lower() for host in (request.host, forwarded, public) if host)


def comes_from_elsewhere(request: web.Request) -> bool:
    """Whether the browser says that another site made this request.

    `Sec-Fetch-Site` decides where there is one; plain HTTP has none, there `Origin` does. No script can set
    either. A client that is not a browser sends neither, and has no cookies that others could misuse.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site.lower() not in ("same-origin", "none")
    origin = request.headers.get("Origin")
    try:
        return origin is not None and urlsplit(origin).netloc.lower() not in own_hosts(request)
    except ValueError:  # "http://[" is no address, and so none of ours
        return True


def user_agent(request: web.Request) -> str:
    """What the visitor's program calls itself, with question marks for bytes that no UTF-8 has and nobody can keep."""
    return request.headers.get("User-Agent", "").encode(errors="replace").decode()


def address(request: web.Request) -> str:
    """The visitor's network address: for IPv6 the /64, which is what one subscriber holds.

    The last entry of X-Forwarded-For is the one that our own proxy wrote; those before it anybody can invent.
    Loopback entries are skipped, for a TLS front on the same host.
    """
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    for hop in [*reversed(hops), request.remote or ""]:
        try:
            found = ip_address(hop)
        except ValueError:
            continue
        if isinstance(found, IPv6Address):
            mapped = found.ipv4_mapped
            if mapped is None and not found.is_loopback:
                return str(IPv6Address(int(found) >> 64 << 64)) + "/64"
            found = mapped or found
        if not found.is_loopback:
            return str(found)
    return "127.0.0.1"
