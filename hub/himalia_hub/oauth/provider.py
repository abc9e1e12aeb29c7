"""The decisions of the code grant (RFC 6749 §4.1, RFC 7636). Pure: no rows, no clock."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlencode

from himalia_hub.rbac import expand
from himalia_hub.rbac.rules import Rules
from himalia_hub.secrets import same
from himalia_hub.servers.spec import client_id

CODE_LIFE_S = 300
CLIENT_PREFIX = "jupyterhub-user-"
CHALLENGE = re.compile(r"[A-Za-z0-9._~-]{43,128}")
MOST_DASHES = 512
NO_RULES = Rules()
MOST_STATE = 4096


@dataclass(frozen=True, slots=True)
class ServerClient:
    """A single-user server in its part as an OAuth client."""

    client_id: str
    redirect_uri: str
    username: str
    server_name: str

    @property
    def access_scope(self) -> str:
        """The right to visit this server, which every token it is issued carries."""
        return f"access:servers!server={self.username}/{self.server_name}"

    @property
    def default_scopes(self) -> tuple[str, ...]:
        """What it gets when it names nothing."""
        return (self.access_scope,)

    @property
    def allowed_scopes(self) -> frozenset[str]:
        """What it may ask for."""
        return frozenset({self.access_scope, f"access:servers!user={self.username}"})

    def asks(self, visitor: str) -> bool:
        """Whether a visitor is asked at their first visit: everybody but the owner."""
        return visitor != self.username


@dataclass(frozen=True, slots=True)
class ServiceClient:
    """A service in its part as an OAuth client. `further` is what it may ask for beside the visit."""

    client_id: str
    redirect_uri: str
    service_name: str
    further: tuple[str, ...] = ()
    no_confirm: bool = False

    @property
    def access_scope(self) -> str:
        """The right to visit this service, which every token it is issued carries."""
        return f"access:services!service={self.service_name}"

    @property
    def default_scopes(self) -> tuple[str, ...]:
        """What it gets when it names nothing: everything that it may ask for."""
        own = f"!service={self.service_name}"
        filled = (
            scope.removesuffix("!service") + own if scope.endswith("!service") else scope
            for scope in self.further
        )
        return tuple(dict.fromkeys((*filled, self.access_scope)))

    @property
    def allowed_scopes(self) -> frozenset[str]:
        """What it may ask for."""
        return frozenset(self.default_scopes)

    def asks(self, visitor: str) -> bool:
        """Whether a visitor is asked at their first visit."""
        return not self.no_confirm


Client = ServerClient | ServiceClient


@dataclass(frozen=True, slots=True)
class Wish:
    """A well-formed request for a code."""

    scopes: tuple[str, ...]
    state: str
    challenge: str | None
    method: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that the client is told through the redirect."""

    error: Literal["invalid_request", "invalid_scope", "unsupported_response_type", "access_denied"]
    description: str
    state: str


def possible_servers(wanted: str) -> list[tuple[str, str]]:
    """The (user, server) pairs that this client id can mean, at most one more than it has dashes.

    JupyterHub's ids are ambiguous: `jupyterhub-user-a-b` is user `a-b`, or user `a` with server `b`. The
    redirect URI or the secret tells which.
    """
    if not wanted.startswith(CLIENT_PREFIX):
        return []
    rest = wanted.removeprefix(CLIENT_PREFIX)
    dashes = [match.start() for match in re.finditer("-", rest)]
    if len(dashes) > MOST_DASHES:
        return []
    pairs = [(unquote(rest), "")] + [(unquote(rest[:at]), unquote(rest[at + 1 :])) for at in dashes]
    return [pair for pair in pairs if client_id(*pair) == wanted]


def read_wish(
    query: Mapping[str, str],
    client: Client,
    *,
    visitor: str = "",
    require_pkce: bool = False,
    rules: Rules = NO_RULES,
) -> Wish | Refusal:
    """What a client asks for, after its redirect URI was found to be right. A role's name stands for its scopes, and
    what it may ask for may be asked for in part, or spelled out for the visitor. `identify` alone is the visit alone.
    """
    state = query.get("state", "")
    if len(state) > MOST_STATE:
        return Refusal("invalid_request", f"state is longer than {MOST_STATE} characters", "")
    if (
        "response_type" not in query
    ):  # RFC 6749 §4.1.2.1: the request lacks something, rather than asks for too much
        return Refusal("invalid_request", "response_type is missing", state)
    if query.get("response_type") != "code":
        return Refusal("unsupported_response_type", "response_type must be code", state)
    challenge, method = query.get("code_challenge"), query.get("code_challenge_method")
    if challenge is None and require_pkce:
        return Refusal("invalid_request", "code_challenge is missing, and PKCE is required here", state)
    if challenge is None and method is not None:
        return Refusal("invalid_request", "code_challenge_method without code_challenge", state)
    if challenge is not None:
        method = method or "plain"
        if method not in ("plain", "S256"):
            return Refusal("invalid_request", "code_challenge_method must be S256 or plain", state)
        if not CHALLENGE.fullmatch(challenge):
            return Refusal("invalid_request", "code_challenge must be 43 to 128 url-safe characters", state)
    words = query.get("scope", "").split()
    named = [name for name in words if name != "identify"]
    scopes = [scope for name in named for scope in rules.scopes_of(name) or (name,)]
    most = expand.expand(tuple(sorted(client.allowed_scopes)), visitor, custom=rules.custom)

    def allowed(scope: str) -> bool:
        part = expand.expand((scope,), visitor, custom=rules.custom)
        return scope in client.allowed_scopes or (bool(part) and expand.covers_all(most, part))

    if not all(map(allowed, scopes)):
        return Refusal("invalid_scope", "a scope is not allowed for this client", state)
    wanted = (*scopes, client.access_scope) if words else client.default_scopes
    return Wish(tuple(dict.fromkeys(wanted)), state, challenge, method)


def verifier_fits(challenge: str | None, method: str | None, verifier: str | None) -> bool:
    """Whether the proof of the code's owner is right. Without a stored challenge none is asked for."""
    if challenge is None:
        return True
    if not verifier or not CHALLENGE.fullmatch(verifier):
        return False
    if method == "S256":
        digest = hashlib.sha256(verifier.encode()).digest()
        verifier = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return same(verifier, challenge.rstrip("="))


def answer_url(redirect_uri: str, **fields: str) -> str:
    """The redirect URI with the answer in its query; empty fields are left out."""
    separator = "&" if "?" in redirect_uri else "?"
    return redirect_uri + separator + urlencode({key: value for key, value in fields.items() if value})
