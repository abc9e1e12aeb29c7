"""Ways to sign in, as plug-ins: the Protocols, what they give, and what they are given.

A way only says *who* somebody is. Whether they may come in, under which name and with which rights is the hub's
affair (`auth/admit.py`), the same for every way. Proof of fit: `auth/contract.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from himalia_hub.db.engine import Database
from himalia_hub.errors import Unavailable


class WayDown(Unavailable):
    """Whoever knows the passwords cannot be asked just now; the message says who and why, for people."""

    code = "sign-in-unavailable"


@dataclass(frozen=True, slots=True)
class Person:
    """Who a way says this is.

    `subject` is what never changes for one person within the way's realm, and is never given to another; `name`
    is the user name they would like. `account` is the row of an account of the hub's own, for ways that keep
    those, and `hashed` what its password was checked against. `state` is kept encrypted for spawners and hooks
    (auth_state). `groups` and `display_name` are what the place says of them at this moment, for ways whose traits
    say that they tell.
    """

    subject: str
    name: str
    account: int | None = None
    hashed: str | None = field(default=None, repr=False)
    state: Mapping[str, Any] | None = None
    groups: frozenset[str] = frozenset()
    display_name: str = ""


@dataclass(frozen=True, slots=True)
class Departure:
    """Where a browser goes to sign in elsewhere, and what it must bring back (kept in its signed cookie)."""

    url: str
    kept: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Context:
    """What a way is made with besides its settings: its name in the configuration, the hub's rows, and the claim or
    attribute that names people's groups, if there is one.
    """

    name: str
    db: Database
    data_dir: Path
    groups_from: str = ""


@dataclass(frozen=True, slots=True)
class Traits:
    """What the hub must know of a kind of way.

    `vouches`: the way knows its people one by one; if not (one password for all), nobody becomes or is an
    administrator through it. `claims`: names are given out by an authority, so an account made beforehand may be
    taken over by name where the configuration allows it. `instant`: a password is compared in microseconds and
    nobody is asked, so that the attempt is counted, looked at and answered in one transaction. `tells`: besides who
    somebody is, the way gives `Person.groups` and `Person.display_name`.
    """

    vouches: bool = True
    claims: bool = True
    instant: bool = False
    tells: bool = False


@runtime_checkable
class PasswordWay(Protocol):
    """A name and a password, asked for on the hub's own page."""

    traits: Traits
    realm: str
    """Whose names these are, such as `ldap:ldaps://ldap.example.org`: a subject means nothing without it."""

    async def check(self, name: str, password: str) -> Person | None:
        """Who this is; None when name or password are wrong, whichever. WayDown when nobody can be asked.

        The name is stripped, not empty, at most 255 printable characters; the password as typed, at most
        1,024. An empty password is never right. Takes about as long for unknown names as for known ones.
        """

    async def close(self) -> None:
        """Let go of connections and processes."""


@runtime_checkable
class RedirectWay(Protocol):
    """Signing in at another site, which sends the browser back."""

    traits: Traits
    realm: str

    async def begin(self, callback: str) -> Departure:
        """Where to send the browser. Keeps nothing here: strangers may ask as often as they like."""

    async def finish(self, callback: str, query: Mapping[str, str], kept: Mapping[str, str]) -> Person | None:
        """Who came back; None when what they bring does not prove it. WayDown when nobody can be asked."""

    async def close(self) -> None:
        """Let go of connections."""


Way = PasswordWay | RedirectWay
