"""Subdomains: each person's servers, and each service, at a host of their own below the hub's. Pure.

Code that people run serves pages too. At the hub's own host such a page would be of the hub's origin, and could act
there in its visitor's name; at another host the browser keeps them apart. Without `subdomain_host` all share one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from himalia_hub.settings import HubSettings

LONGEST = 63
"""Octets in one label of a host's name (RFC 1035 §2.3.4)."""
PLAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
SERVICE = "--service"
DIGITS = 20
"""Of a name's hash. People choose their names, and punctuation leaves them many that read alike: with half as many
digits one could be found that has somebody else's label, and so their host.
"""


def label(name: str, *, longest: int = LONGEST) -> str:
    """A label of letters, digits and dashes (RFC 1123 §2.1) for a name, at most `longest`; no two names have the same.

    A name that is such a label stands for itself, unless it has two dashes in a row: those mark the labels made here,
    of what can be read of the name and DIGITS of its hash (and names in other alphabets, RFC 5890 §2.3.1).
    """
    if PLAIN.fullmatch(name) and "--" not in name and len(name) <= longest:
        return name
    hashed = hashlib.sha256(name.encode()).hexdigest()[:DIGITS]
    shown = re.sub(r"[^a-z0-9]+", "-", name.lower())[: longest - DIGITS - 2].strip("-")
    return f"{shown or 'x'}--{hashed}"


def _site(settings: HubSettings) -> SplitResult | None:
    return urlsplit(settings.subdomain_host) if settings.subdomain_host else None


def _person(name: str) -> str:
    return label(name)


def _service(name: str) -> str:
    return label(name, longest=LONGEST - len(SERVICE)) + SERVICE


def _origin(settings: HubSettings, beside: str) -> str:
    site = _site(settings)
    return f"{site.scheme}://{beside}.{site.netloc}" if site else ""


def person_origin(settings: HubSettings, username: str) -> str:
    """Scheme, host and port of a person's servers, such as `https://ann.hub.example.org`; empty without subdomains."""
    return _origin(settings, _person(username))


def service_origin(settings: HubSettings, name: str) -> str:
    """The same of a service."""
    return _origin(settings, _service(name))


def _route(settings: HubSettings, beside: Callable[[str], str], name: str, path: str) -> str:
    site = _site(settings)
    return f"/{beside(name)}.{site.hostname}{path}" if site else path


def person_route(settings: HubSettings, username: str, path: str) -> str:
    """A routespec for a path at a person's host; proxies put the host before the path."""
    return _route(settings, _person, username, path)


def service_route(settings: HubSettings, name: str, path: str) -> str:
    """The same at a service's host."""
    return _route(settings, _service, name, path)


def hub_route(settings: HubSettings) -> str:
    """The hub's routespec. With subdomains it is the root of every host, for what no server answers."""
    return "/" if settings.subdomain_host else settings.base_url


def is_beside(settings: HubSettings, host: str) -> bool:
    """Whether a request's Host (with or without a port) is below the hub's, and not the hub's own."""
    site = _site(settings)
    if site is None:
        return False
    name = host.lower().rpartition(":")[0] if re.search(r":\d*$", host) else host.lower()
    return name.rstrip(".").endswith(f".{site.hostname}")


def pattern(settings: HubSettings) -> str:
    """All of these origins, as a Content-Security-Policy names them; empty without subdomains."""
    return _origin(settings, "*")


def cookies_keep_to_their_host(settings: HubSettings) -> bool:
    """Whether cookies get names that browsers take from their own host alone (`__Host-`): that needs TLS."""
    return settings.subdomain_host.startswith("https:")


def site_of(settings: HubSettings) -> str:
    """What hubs on one database must have in common of where they are found."""
    return settings.subdomain_host + settings.base_url
