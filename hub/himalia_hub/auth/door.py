"""The configured ways to sign in, side by side, and going through one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

import sqlalchemy as sa
from aiohttp import web
from sqlalchemy.orm import Session

from himalia_hub import clock
from himalia_hub.auth import admit, backoff, second
from himalia_hub.auth.base import Context, PasswordWay, Person, RedirectWay, Way
from himalia_hub.auth.password import MAX_LENGTH
from himalia_hub.auth.registry import find_plugin
from himalia_hub.auth.settings import MethodSection
from himalia_hub.auth.vault import Vault
from himalia_hub.db.engine import Database
from himalia_hub.db.prepared import Prepared
from himalia_hub.errors import BadRequest, ConfigError, Conflict, NotAuthenticated, NotFound
from himalia_hub.settings import HubSettings
from himalia_hub.users import store as users
from himalia_hub.users.models import User

T = TypeVar("T")

_NAMED = Prepared(sa.select(User.id).where(User.name == sa.bindparam("name")))

LOCAL = "local"
DEFAULT = {LOCAL: MethodSection(kind=LOCAL)}
"""What there is when the configuration names no way: the hub's own accounts."""

DOOR: web.AppKey[Door] = web.AppKey("door")


class WrongPassword(NotAuthenticated):
    """Name or password is wrong; which of them is not said."""

    code = "wrong-password"

    def __init__(self) -> None:
        super().__init__("Wrong user name or password.")


@dataclass(frozen=True, slots=True)
class Entrance:
    """One way, under its name in the configuration."""

    name: str
    section: MethodSection
    way: Way

    @property
    def title(self) -> str:
        """How people call it."""
        return self.section.title or ("Account of this hub" if self.section.kind == LOCAL else self.name)


class Door:
    """Every configured way, in the order of the configuration."""

    def __init__(self, entrances: list[Entrance], vault: Vault | None = None) -> None:
        self.vault = vault
        self._set({each.name: each for each in entrances})

    def _set(self, entrances: dict[str, Entrance]) -> None:
        self._all = entrances
        # Looked at once: whether an object has the methods of a Protocol takes 10 µs to find out.
        self.asking = [each for each in entrances.values() if isinstance(each.way, PasswordWay)]
        """Those with a form on our page."""
        self.leading_away = [each for each in entrances.values() if isinstance(each.way, RedirectWay)]
        """Those with a button that leads to another site."""

    @property
    def only_local(self) -> bool:
        """Whether nobody comes in but by the hub's own accounts."""
        return all(each.section.kind == LOCAL for each in self._all.values())

    @property
    def has_local(self) -> bool:
        """Whether the hub's own accounts can sign in."""
        return any(each.section.kind == LOCAL for each in self._all.values())

    def by_password(self, name: str) -> tuple[Entrance, PasswordWay]:
        """The way of this name that asks for a password; the first one when no name is given. NotFound."""
        asking = self.asking
        found = (
            next((each for each in asking if each.name == name), None) if name else next(iter(asking), None)
        )
        if found is None:
            raise NotFound(f"there is no way to sign in called {name[:40]!r} with a password")
        return found, cast("PasswordWay", found.way)

    def by_redirect(self, name: str) -> tuple[Entrance, RedirectWay]:
        """The way of this name that leads to another site. NotFound."""
        found = self._all.get(name)
        if found is None or not isinstance(found.way, RedirectWay):
            raise NotFound(f"there is no way to sign in called {name[:40]!r}")
        return found, found.way

    async def replace_by(self, other: Door) -> None:
        """Let in by the other's ways from now on, and let go of what these held."""
        before = self._all
        self._set(other._all)
        for each in before.values():
            await each.way.close()

    async def close(self) -> None:
        """Let go of everything."""
        for each in self._all.values():
            await each.way.close()


def make_door(settings: HubSettings, database: Database, vault: Vault | None = None) -> Door:
    """Every way that the configuration names, ready for use; ConfigError names the first that cannot be."""
    entrances = []
    for name, section in configured(settings).items():
        plugin = find_plugin(section.kind)
        context = Context(name, database, settings.data_dir, section.groups_from)
        way = plugin.make(plugin.validate(name, section.model_extra or {}), context)
        if section.groups_from and not way.traits.tells:
            raise ConfigError(
                f"auth.methods.{name}.groups_from: the kind {section.kind!r} tells of no groups"
            )
        entrances.append(Entrance(name, section, way))
    return Door(entrances, vault)


def configured(settings: HubSettings) -> Mapping[str, MethodSection]:
    """The ways by name, in order."""
    return settings.auth.methods or DEFAULT


async def sign_in_by_password(
    database: Database,
    door: Door,
    name: str,
    given: str,
    *,
    method: str = "",
    address: str,
    then: Callable[[Session, User], None] | None = None,
) -> User:
    """The person with this name and password. CodeNeeded when their account asks for a second step as well.

    WrongPassword, TooMany while a back-off is on, WayDown when nobody can be asked, NotAdmitted when the hub
    does not let them in. `then` is done in the transaction that lets them in, and no more than that counts.
    """
    entrance, way = door.by_password(method)
    attempt = _Attempt(entrance, name.strip(), backoff.address_key(address), door.vault, then)
    possible = attempt.name.isprintable() and 0 < len(attempt.name) <= 255 and 0 < len(given) <= MAX_LENGTH
    if not way.traits.instant:
        await database.write(attempt.charge)
    # No transaction is open while somebody else is asked.
    attempt.person = await way.check(attempt.name, given) if possible else None
    try:
        user = await _twice(database, entrance, attempt.judge)
    except (admit.NotAdmitted, WrongPassword):
        if way.traits.instant:  # what was counted in that transaction went with it
            await database.write(attempt.charge)
        raise
    if user is None:
        raise WrongPassword
    if attempt.code_needed:
        raise second.CodeNeeded(user)
    return user


async def enter(
    database: Database, entrance: Entrance, person: Person, *, vault: Vault | None = None
) -> User:
    """The account of a proven person. NotAdmitted when the hub does not let them in."""
    return await _twice(database, entrance, lambda db: _admit(db, entrance, person, vault))


async def _twice(database: Database, entrance: Entrance, work: Callable[[Session], T]) -> T:
    """Two first visits at once end in one account: who loses the race looks again, and finds what was made."""
    try:
        return await database.write(work)
    except (sa.exc.IntegrityError, Conflict, admit.NotAdmitted):
        pass
    try:
        return await database.write(work)
    except admit.NotAdmitted:
        if entrance.way.traits.vouches:
            raise
        raise WrongPassword from None  # who knows one shared password shall not find out names with it


def _admit(db: Session, entrance: Entrance, person: Person, vault: Vault | None) -> User:
    way = entrance.way
    return admit.admit(db, entrance.section, way.traits, way.realm, person, vault=vault, now=clock.now())


@dataclass(slots=True)
class _Attempt:
    """One password on its way through the door; each method is a step of a transaction."""

    entrance: Entrance
    name: str
    address: str
    vault: Vault | None
    then: Callable[[Session, User], None] | None
    person: Person | None = None
    code_needed: bool = False

    def charge(self, db: Session) -> None:
        """Count it on the account before it is looked at. TooMany."""
        backoff.charge(db, self._account(db), self.address, now=clock.now())

    def judge(self, db: Session) -> User | None:
        """Let the person in; None when the password was wrong."""
        account, dirty = self._account(db), True
        if self.entrance.way.traits.instant:
            if self.person is None:
                backoff.charge(db, account, self.address, now=clock.now())
            else:
                dirty = backoff.hold(db, account, self.address, now=clock.now()).last is not None
        if self.person is None:
            backoff.failed(db, self.address, now=clock.now())
            return None
        user = _admit(db, self.entrance, self.person, self.vault)
        if dirty:
            backoff.succeeded(db, account)
        self.code_needed = self.entrance.section.kind == LOCAL and second.is_on(db, user.id)
        if self.then is not None and not self.code_needed:
            self.then(db, user)
        return user

    def _account(self, db: Session) -> str:
        """The row that counts failures of this account: known ones have their own, unknown ones share some."""
        try:
            clean = users.normalise(self.name)
        except BadRequest:
            clean = ""
        if self.entrance.section.kind == LOCAL:
            known = bool(clean) and _NAMED.row(db, {"name": clean}) is not None
            return backoff.account_key(clean, known=known)
        who = {"realm": self.entrance.way.realm, "subject": clean}
        known = bool(clean) and admit.KNOWN.row(db, who) is not None
        return f"{self.entrance.name}/{backoff.account_key(clean, known=known)}"
