"""The default roles: named lists of scopes. Roles from configuration and API come with the full rights."""

from __future__ import annotations

USER = ("self",)
ADMIN = (
    "admin-ui",
    "read:audit",
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
SERVER = ("users:activity!user", "access:servers!server")
TOKEN = ("inherit",)

DEFAULT_ROLES: dict[str, tuple[str, ...]] = {"user": USER, "admin": ADMIN, "server": SERVER, "token": TOKEN}


def of_user(*, admin: bool) -> tuple[str, ...]:
    """The names of a person's roles, sorted as people read them."""
    return ("admin", "user") if admin else ("user",)


def scopes_of_user(*, admin: bool) -> tuple[str, ...]:
    """The raw scopes that a person's roles give."""
    return tuple(scope for role in of_user(admin=admin) for scope in DEFAULT_ROLES[role])
