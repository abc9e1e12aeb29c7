"""Scope names: what each allows, in words, and what it includes. Data only; the algebra is in expand.py.

Names and hierarchy are JupyterHub's (its docs: "Scopes in JupyterHub").
"""

from __future__ import annotations

from dataclasses import dataclass

from himalia_hub.languages import later


@dataclass(frozen=True, slots=True)
class Scope:
    """One right. `includes` are the scopes that come with it, one level down."""

    description: str
    includes: tuple[str, ...] = ()


SCOPES: dict[str, Scope] = {
    "admin-ui": Scope(later("Open the admin page.")),
    "read:audit": Scope(later("Read who did what.")),
    "read:logs": Scope(later("Read what the hub and servers write to their logs, without secrets.")),
    "announcements": Scope(later("Announce something to everybody.")),
    "maintenance": Scope(later("Begin and end maintenance, during which no server is started.")),
    "links": Scope(later("See and end throw-away sessions, clear their environments, ban repositories.")),
    "admin:users": Scope(
        later("Create, change and delete people."),
        ("admin:auth_state", "users", "read:roles:users", "delete:users"),
    ),
    "admin:auth_state": Scope(later("Read the sign-in state kept for a person.")),
    "users": Scope(later("Read and change people's models."), ("read:users", "list:users", "users:activity")),
    "delete:users": Scope(later("Delete people.")),
    "list:users": Scope(later("List people."), ("read:users:name",)),
    "read:users": Scope(
        later("Read people's models."), ("read:users:name", "read:users:groups", "read:users:activity")
    ),
    "read:users:name": Scope(later("Read people's names.")),
    "read:users:groups": Scope(later("Read people's groups.")),
    "read:users:activity": Scope(later("Read when people were last active.")),
    "users:activity": Scope(later("Report people's activity."), ("read:users:activity",)),
    "admin:roles": Scope(later("Make roles, and give and take them."), ("read:roles",)),
    "read:roles": Scope(
        later("Read roles."), ("read:roles:users", "read:roles:services", "read:roles:groups")
    ),
    "read:roles:users": Scope(later("Read people's roles.")),
    "read:roles:services": Scope(later("Read services' roles.")),
    "read:roles:groups": Scope(later("Read groups' roles.")),
    "admin:servers": Scope(
        later("Everything about servers, and their kept state."), ("admin:server_state", "servers")
    ),
    "admin:server_state": Scope(later("Read what the spawner keeps about a server.")),
    "servers": Scope(
        later("Start, stop and read servers."), ("read:servers", "start:servers", "delete:servers")
    ),
    "read:servers": Scope(later("Read servers' models."), ("read:users:name",)),
    "start:servers": Scope(later("Start servers.")),
    "delete:servers": Scope(later("Stop and remove servers.")),
    "tokens": Scope(later("Make, read and revoke API tokens."), ("read:tokens",)),
    "read:tokens": Scope(later("Read API tokens (never their secrets).")),
    "admin:groups": Scope(
        later("Create, change and delete groups."), ("groups", "read:roles:groups", "delete:groups")
    ),
    "groups": Scope(later("Read and change groups."), ("read:groups", "list:groups")),
    "delete:groups": Scope(later("Delete groups.")),
    "list:groups": Scope(later("List groups."), ("read:groups:name",)),
    "read:groups": Scope(later("Read groups."), ("read:groups:name",)),
    "read:groups:name": Scope(later("Read groups' names.")),
    "admin:services": Scope(
        later("Create and delete services."), ("list:services", "read:services", "read:roles:services")
    ),
    "list:services": Scope(later("List services."), ("read:services:name",)),
    "read:services": Scope(later("Read services."), ("read:services:name",)),
    "read:services:name": Scope(later("Read services' names.")),
    "shares": Scope(
        later("Share servers."), ("access:servers", "read:shares", "users:shares", "groups:shares")
    ),
    "read:shares": Scope(later("Read how servers are shared.")),
    "users:shares": Scope(later("Read and leave what is shared with a person."), ("read:users:shares",)),
    "read:users:shares": Scope(later("Read what is shared with a person.")),
    "groups:shares": Scope(later("Read and leave what is shared with a group."), ("read:groups:shares",)),
    "read:groups:shares": Scope(later("Read what is shared with a group.")),
    "read:hub": Scope(later("Read what the hub is made of.")),
    "access:servers": Scope(later("Visit servers.")),
    "access:services": Scope(later("Visit services.")),
    "proxy": Scope(later("Read and repair the proxy's table.")),
    "shutdown": Scope(later("Shut the hub down.")),
    "read:metrics": Scope(later("Read metrics.")),
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

FILTERS = (later("user"), later("group"), later("server"), later("service"))

ON_ONE_SERVER = {
    "access:servers": later("Open this server: notebooks, files, terminals."),
    "read:servers": later("See how this server is."),
    "start:servers": later("Start this server."),
    "delete:servers": later("Stop and remove this server."),
    "servers": later("See, start, stop and remove this server."),
}
"""What these rights let somebody do who has them on a single server, as who is asked to accept them reads it."""
