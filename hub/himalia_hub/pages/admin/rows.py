"""From what the query found to what a row of the list shows, and what this viewer may do with it. Pure."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from himalia_hub.languages import later
from himalia_hub.pages.admin.listing import Found
from himalia_hub.pages.cards import Card, card, never_started
from himalia_hub.profiles.choice import image_of
from himalia_hub.rbac.expand import split as split_scope
from himalia_hub.rbac.identity import Identity
from himalia_hub.settings import HubSettings

COLUMNS = {
    "server": (later("Server"), "server"),
    "state": (later("State"), "state"),
    "since": (later("In this state since"), "since"),
    "activity": (later("Last activity"), "activity"),
    "started": (later("Up for"), "started"),
    "memory": (later("Memory"), "memory"),
    "cpu": (later("CPU"), "cpu"),
    "profile": (later("Profile"), ""),
    "groups": (later("Groups"), ""),
    "image": (later("Image"), ""),
    "node": (later("Node"), "node"),
    "address": (later("Address"), ""),
}
"""Every column that can be hidden: its title, and what it sorts by. The person's name and the actions always show."""
SHOWN = ("server", "state", "activity", "started", "memory", "cpu", "groups")


@dataclass(frozen=True, slots=True)
class May:
    """What a viewer may do with one row. Hashable: rows that look alike to several viewers are drawn once."""

    see: bool
    start: bool
    stop: bool
    open: bool
    manage: bool

    @property
    def change(self) -> bool:
        """Anything at all."""
        return self.start or self.stop


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the list. `on` names it in forms: `person/server`."""

    id: str
    on: str
    card: Card
    admin: bool
    suspended: bool
    groups: tuple[str, ...]
    last: datetime | None
    node: str
    image: str = ""
    address: str = ""

    @property
    def can(self) -> str:
        """What could be done with it as it is, for the script that greys out buttons."""
        able = {"start": self.card.can_start, "stop": self.card.can_stop, "remove": bool(self.card.name)}
        return " ".join(name for name, yes in able.items() if yes)


def row_id(user_id: int, server_id: int | None, name: str) -> str:
    """The row's name on the page; a person's default server keeps it when it is started for the first time."""
    return f"s{server_id}" if name else f"u{user_id}"


_ASKED = ("list:users", "read:servers", "start:servers", "delete:servers", "access:servers", "admin:users")


def rights_in_rows(identity: Identity) -> Hashable:
    """Equal for viewers who may see and do the same in every row."""
    groups = tuple(sorted((name, frozenset(people)) for name, people in identity.members.items()))
    return _about_rows(identity.scopes), groups


@functools.lru_cache(maxsize=256)
def _about_rows(scopes: frozenset[str]) -> frozenset[str]:
    return frozenset(scope for scope in scopes if split_scope(scope)[0] in _ASKED)


def may(identity: Identity, user: str, name: str) -> May:
    """The rights of a viewer on one row."""
    return May(
        see=identity.allows("read:servers", user=user, server=name),
        start=identity.allows("start:servers", user=user, server=name),
        stop=identity.allows("delete:servers", user=user, server=name),
        open=identity.allows("access:servers", user=user, server=name),
        manage=identity.allows("admin:users", user=user),
    )


def row(found: Found, settings: HubSettings) -> Row:
    """What is shown of it."""
    user, server = found.user, found.server
    shown = (
        card(server, user.name, settings, found.groups, use=found.use)
        if server
        else never_started(user.name, settings, found.groups)
    )
    return Row(
        id=row_id(user.id, server.id if server else None, shown.name),
        on=f"{user.name}/{shown.name}",
        card=shown,
        admin=user.admin,
        suspended=user.suspended is not None,
        groups=found.groups,
        last=(server.last_activity if server else None) or (None if shown.name else user.last_activity),
        node=(server.node if server else None) or "",
        image=image_of(settings, user.name, found.groups, server.user_options if server else {}),
        address=_address(server.url) if server and shown.state == "ready" else "",
    )


def _address(url: str) -> str:
    """Where a server listens: an address with its port, or that it has a socket instead."""
    parts = urlsplit(url)
    return "a socket" if parts.scheme == "http+unix" else parts.netloc


def split(on: str) -> tuple[str, str]:
    """`person/server` as a form sends it; no name holds a slash."""
    user, _, name = on.partition("/")
    return user, name
