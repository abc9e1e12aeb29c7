"""Scope names: what each allows, in words, and what it includes. Data only; the algebra is in expand.py.

Names and hierarchy are JupyterHub's (its docs: "Scopes in JupyterHub").
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """One right. `includes` are the scopes that come with it, one level down."""

    description: str
    includes: tuple[str, ...] = ()


SCOPES: dict[str, Scope] = {
    "admin-ui": Scope("Open the admin page."),
    "read:audit": Scope("Read who did what."),
    "read:logs": Scope("Read what the hub and servers write to their logs, without secrets."),
    "announcements": Scope("Announce something to everybody."),
    "maintenance": Scope("Begin and end maintenance, during which no server is started."),
    "links": Scope("See and end throw-away sessions, clear their environments, ban repositories."),
    "admin:users": Scope(
        "Create, change and delete people.",
        ("admin:auth_state", "users", "read:roles:users", "delete:users"),
    ),
    "admin:auth_state": Scope("Read the sign-in state kept for a person."),
    "users": Scope("Read and change people's models.", ("read:users", "list:users", "users:activity")),
    "delete:users": Scope("Delete people."),
    "list:users": Scope("List people.", ("read:users:name",)),
    "read:users": Scope(
        "Read people's models.", ("read:users:name", "read:users:groups", "read:users:activity")
    ),
    "read:users:name": Scope("Read people's names."),
    "read:users:groups": Scope("Read people's groups."),
    "read:users:activity": Scope("Read when people were last active."),
    "users:activity": Scope("Report people's activity.", ("read:users:activity",)),
    "admin:roles": Scope("Make roles, and give and take them.", ("read:roles",)),
    "read:roles": Scope("Read roles.", ("read:roles:users", "read:roles:services", "read:roles:groups")),
    "read:roles:users": Scope("Read people's roles."),
    "read:roles:services": Scope("Read services' roles."),
    "read:roles:groups": Scope("Read groups' roles."),
    "admin:servers": Scope(
        "Everything about servers, and their kept state.", ("admin:server_state", "servers")
    ),
    "admin:server_state": Scope("Read what the spawner keeps about a server."),
    "servers": Scope("Start, stop and read servers.", ("read:servers", "start:servers", "delete:servers")),
    "read:servers": Scope("Read servers' models.", ("read:users:name",)),
    "start:servers": Scope("Start servers."),
    "delete:servers": Scope("Stop and remove servers."),
    "tokens": Scope("Make, read and revoke API tokens.", ("read:tokens",)),
    "read:tokens": Scope("Read API tokens (never their secrets)."),
    "admin:groups": Scope(
        "Create, change and delete groups.", ("groups", "read:roles:groups", "delete:groups")
    ),
    "groups": Scope("Read and change groups.", ("read:groups", "list:groups")),
    "delete:groups": Scope("Delete groups."),
    "list:groups": Scope("List groups.", ("read:groups:name",)),
    "read:groups": Scope("Read groups.", ("read:groups:name",)),
    "read:groups:name": Scope("Read groups' names."),
    "admin:services": Scope(
        "Create and delete services.", ("list:services", "read:services", "read:roles:services")
    ),
    "list:services": Scope("List services.", ("read:services:name",)),
    "read:services": Scope("Read services.", ("read:services:name",)),
    "read:services:name": Scope("Read services' names."),
    "shares": Scope("Share servers.", ("access:servers", "read:shares", "users:shares", "groups:shares")),
    "read:shares": Scope("Read how servers are shared."),
    "users:shares": Scope("Read and leave what is shared with a person.", ("read:users:shares",)),
    "read:users:shares": Scope("Read what is shared with a person."),
    "groups:shares": Scope("Read and leave what is shared with a group.", ("read:groups:shares",)),
    "read:groups:shares": Scope("Read what is shared with a group."),
    "read:hub": Scope("Read what the hub is made of."),
    "access:servers": Scope("Visit servers."),
    "access:services": Scope("Visit services."),
    "proxy": Scope("Read and repair the proxy's table."),
    "shutdown": Scope("Shut the hub down."),
    "read:metrics": Scope("Read metrics."),
}

SELF = (
    "read:users",
    "users:shares",
    "read:shares",
    "users:activity",
    "servers",
    "tokens",
    "access:servers",
)
"""What `self` stands for, each filtered to the owner."""

META = ("self", "inherit", "(no_scope)", "identify")
"""Names that stand for others. `identify` adds nothing: every token may read its own owner's name."""

FILTERS = ("user", "group", "server", "service")
