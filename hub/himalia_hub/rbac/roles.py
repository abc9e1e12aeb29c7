"""The default roles: named lists of raw scopes. Data only; others come from the configuration and from rows."""

from __future__ import annotations

USER = ("self",)
ADMIN = (
    "admin-ui",
    "read:audit",
    "read:logs",
    "announcements",
    "maintenance",
    "links",
    "admin:roles",
    "admin:users",
    "admin:servers",
    "admin:services",
    "tokens",
    "admin:groups",
    "list:services",
    "read:services",
    "read:hub",
    "proxy",
    "shutdown",
    "access:services",
    "access:servers",
    "read:roles",
    "read:metrics",
    "shares",
)
GUEST = ("read:users!user", "users:activity!user", "access:servers!user", "servers!user")
"""Of a throw-away session: to be in it, to report its use, to end it. Nothing else they start is ever furnished."""
SERVER = ("users:activity!user", "access:servers!server")
TOKEN = ("inherit",)
MANAGER = ("groups!group", "list:users!group", "read:users:groups!group", "read:users:activity!group")
"""Of who manages a group. Nothing that reaches into people's servers: managers choose who is in the group."""

DEFAULT_ROLES: dict[str, tuple[str, ...]] = {
    "user": USER,
    "admin": ADMIN,
    "guest": GUEST,
    "server": SERVER,
    "token": TOKEN,
    "manager": MANAGER,
}


def of_user(*, admin: bool, guest: bool = False) -> tuple[str, ...]:
    """The names of a person's roles, sorted as people read them."""
    if guest:
        return ("guest",)
    return ("admin", "user") if admin else ("user",)
