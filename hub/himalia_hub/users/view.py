"""From rows to JupyterHub's user model, cut down to what the caller may see. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from himalia_hub.clock import iso
from himalia_hub.rbac import roles
from himalia_hub.rbac.identity import Identity
from himalia_hub.servers.models import Server
from himalia_hub.servers.store import unstarted
from himalia_hub.servers.view import pending, ready, server_model, server_url, stopped
from himalia_hub.settings import HubSettings
from himalia_hub.users.models import User

SHOWN = frozenset({"kind", "name"})
NAME = SHOWN | {"admin", "user_info"}
KEYS: dict[str, frozenset[str]] = {
    "read:users": NAME | {"roles", "groups", "server", "pending", "created", "last_activity"},
    "read:users:name": NAME,
    "read:users:groups": SHOWN | {"groups"},
    "read:users:activity": SHOWN | {"last_activity"},
    "read:servers": SHOWN | {"servers"},
    "read:roles:users": SHOWN | {"roles", "admin"},
    "admin:auth_state": SHOWN | {"auth_state"},
}
"""Which keys each scope shows, as in JupyterHub."""


def user_model(
    user: User,
    servers: Iterable[Server],
    identity: Identity,
    settings: HubSettings,
    *,
    groups: Sequence[str] = (),
    role_names: Sequence[str] | None = None,
    stopped_too: bool = False,
) -> dict[str, Any]:
    """The model with the keys that the caller may see; empty when there are none."""
    every = list(servers)
    if stopped_too and not any(not server.name for server in every):
        every.insert(0, unstarted(user.id))
    readable = [s for s in every if identity.allows("read:servers", user=user.name, server=s.name)]
    keys: set[str] = set()
    for scope, shown in KEYS.items():
        if identity.allows(scope, user=user.name):
            keys |= shown
    if readable:
        keys |= KEYS["read:servers"]
    default = next((server for server in every if not server.name), None)
    model = {
        "kind": "user",
        "name": user.name,
        "admin": user.admin,
        "roles": list(role_names if role_names is not None else roles.of_user(admin=user.admin)),
        "groups": list(groups),
        "server": server_url(settings, user.name, "") if default and ready(default) else None,
        "pending": pending(default) if default else None,
        "created": iso(user.created),
        "last_activity": iso(user.last_activity),
        "servers": {
            server.name: server_model(
                server,
                user.name,
                settings,
                state_too=identity.allows("admin:server_state", user=user.name, server=server.name),
            )
            for server in readable
            if stopped_too or not stopped(server)
        },
        "auth_state": None,
        "user_info": _info(user.display_name),
    }
    return {key: value for key, value in model.items() if key in keys}


def _info(name: str | None) -> dict[str, str] | None:
    """What single-user servers show of a person (JupyterHub's `user_info`); None where only the user name is known."""
    return {"name": name, "display_name": name} if name else None
