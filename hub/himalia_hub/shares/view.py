"""From rows to JupyterHub's models of shares and share codes, and which rights can be shared. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from himalia_hub.clock import iso
from himalia_hub.errors import BadRequest
from himalia_hub.rbac import expand
from himalia_hub.rbac.rules import Rules
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import full_url, quoted, ready, server_url
from himalia_hub.settings import HubSettings
from himalia_hub.shares.models import Share, ShareCode

DEFAULT_SCOPES = ("access:servers",)
SHAREABLE = expand.subscopes("admin:servers") | {"access:servers"}
"""Rights that say something of one server; others would mean nothing with its filter, or more than one thinks."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A share with the names that its rows stand for now."""

    row: Share
    owner: str
    server: Server
    user: str | None
    group: str | None


def server_filter(owner: str, server: str) -> str:
    """What follows a scope that is narrowed to this server."""
    return f"!server={owner}/{server}"


def names_of(scopes: Iterable[str] | None, owner: str, server: str, rules: Rules) -> list[str]:
    """The names of scopes as they are sent, with this server's filter or with none, sorted.

    BadRequest for one that is unknown, that is not of servers, or that is narrowed to something else.
    """
    found: set[str] = set()
    custom = {name for name, _ in rules.custom}
    for scope in scopes or DEFAULT_SCOPES:
        name, mark, _ = scope.partition("!")
        rules.check(name)
        if name not in SHAREABLE | custom:
            raise BadRequest(
                f"the scope {scope[:80]!r} cannot be shared", remedy=f"one of {', '.join(sorted(SHAREABLE))}"
            )
        if mark and scope != name + server_filter(owner, server):
            raise BadRequest(f"the filter of {scope[:120]!r} is not {server_filter(owner, server)!r}")
        found.add(name)
    return sorted(found)


def with_filter(names: Iterable[str], owner: str, server: str) -> list[str]:
    """The same as scopes that are narrowed to the server."""
    return [name + server_filter(owner, server) for name in names]


def share_model(shared: Shared, settings: HubSettings) -> dict[str, Any]:
    """JupyterHub's model, and `expires_at`."""
    return {
        "server": _server_model(shared.server, shared.owner, settings),
        "scopes": with_filter(shared.row.scopes, shared.owner, shared.server.name),
        "user": None if shared.user is None else {"name": shared.user},
        "group": None if shared.group is None else {"name": shared.group},
        "kind": "user" if shared.group is None else "group",
        "created_at": iso(shared.row.created),
        "expires_at": iso(shared.row.expires_at),
    }


def code_model(
    row: ShareCode, server: Server, owner: str, settings: HubSettings, *, code: str | None = None
) -> dict[str, Any]:
    """JupyterHub's model; with `code`, which is known only when it is made, also where it is accepted."""
    model = {
        "server": _server_model(server, owner, settings),
        "scopes": with_filter(row.scopes, owner, server.name),
        "id": f"sc_{row.id}",
        "created_at": iso(row.created),
        "expires_at": iso(row.expires_at),
        "exchange_count": row.exchange_count,
        "last_exchanged_at": iso(row.last_exchanged),
    }
    if code is not None:
        path, public = (
            f"{settings.hub_prefix}accept-share?code={quoted(code)}",
            settings.public_url.rstrip("/"),
        )
        model |= {"code": code, "accept_url": path, "full_accept_url": public + path if public else None}
    return model


def _server_model(server: Server, owner: str, settings: HubSettings) -> dict[str, Any]:
    url = server_url(settings, owner, server.name)
    return {
        "user": {"name": owner},
        "name": server.name,
        "url": url,
        "full_url": full_url(settings, url),
        "ready": ready(server),
    }
