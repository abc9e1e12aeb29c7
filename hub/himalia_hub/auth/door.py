"""The configured ways to sign in, side by side, and going through one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.auth import admit, backoff, second, state
from himalia_hub.auth.base import Context, PasswordWay, Person, RedirectWay, Way
from himalia_hub.auth.models import ExternalIdentity
from himalia_hub.auth.password import MAX_LENGTH
from himalia_hub.auth.registry import find_plugin
from himalia_hub.auth.settings import MethodSection
from himalia_hub.auth.vault import Vault
from himalia_hub.db.engine import Database
from himalia_hub.errors import BadRequest, Conflict, NotAuthenticated, NotFound
from himalia_hub.settings import HubSettings
from himalia_hub.users import store as users
from himalia_hub.users.models import User

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
        self._all = {each.name: each for each in entrances}

    @property
    def asking(self) -> list[Entrance]:
        """Those with a form on our page."""
        return [each for each in self._all.values() if isinstance(each.way, PasswordWay)]

    @property
    def leading_away(self) -> list[Entrance]:
        """Those with a button that leads to another site."""
        return [each for each in self._all.values() if isinstance(each.way, RedirectWay)]

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
        if found is None or not isinstance(found.way, PasswordWay):
            raise NotFound(f"there is no way to sign in called {name[:40]!r} with a password")
        return found, found.way

    def by_redirect(self, name: str) -> tuple[Entrance, RedirectWay]:
        """The way of this name that leads to another site. NotFound."""
        found = self._all.get(name)
        if found is None or not isinstance(found.way, RedirectWay):
            raise NotFound(f"there is no way to sign in called {name[:40]!r}")
        return found, found.way

    async def close(self) -> None:
        """Let go of everything."""
        for each in self._all.values():
            await each.way.close()


def make_door(settings: HubSettings, database: Database, vault: Vault | None = None) -> Door:
    """Every way that the configuration names, ready for use; ConfigError names the first that cannot be."""
    entrances = []
    for name, section in configured(settings).items():
        plugin = find_plugin(section.kind)
        context = Context(name=name, db=database, data_dir=settings.data_dir)
        way = plugin.make(plugin.validate(name, section.model_extra or {}), context)
        entrances.append(Entrance(name, section, way))
    return Door(entrances, vault)


def configured(settings: HubSettings) -> Mapping[str, MethodSection]:
    """The ways by name, in order."""
    return settings.auth.methods or DEFAULT


async def sign_in_by_password(
    database: Database, door: Door, name: str, given: str, *, method: str = "", address: str
) -> User:
    """The person with this name and password. CodeNeeded when their account asks for a second step as well.

    WrongPassword, TooMany while a back-off is on, WayDown when nobody can be asked, NotAdmitted when the hub
    does not let them in.
    """
    entrance, way = door.by_password(method)
    name = name.strip()
    from_address = backoff.address_key(address)
    async with database.begin() as db:
        account = await _account_key(db, entrance, way.realm, name)
        await backoff.charge(db, account, from_address, now=clock.now())
    # No transaction is open while somebody else is asked.
    possible = name.isprintable() and 0 < len(name) <= 255 and 0 < len(given) <= MAX_LENGTH
    person = await way.check(name, given) if possible else None
    if person is None:
        async with database.begin() as db:
            await backoff.failed(db, from_address, now=clock.now())
        raise WrongPassword
    user = await enter(database, entrance, person, vault=door.vault)
    async with database.begin() as db:
        await backoff.succeeded(db, account)
        code_needed = entrance.section.kind == LOCAL and await second.is_on(db, user.id)
    if code_needed:
        raise second.CodeNeeded(user)
    return user


async def enter(
    database: Database, entrance: Entrance, person: Person, *, vault: Vault | None = None
) -> User:
    """The account of a proven person. NotAdmitted when the hub does not let them in.

    Two first visits at once end in one account: who loses the race looks again, and then finds what was made.
    """
    way = entrance.way
    try:
        return await _admit(database, entrance, person, vault)
    except (sa.exc.IntegrityError, Conflict, admit.NotAdmitted):
        pass
    try:
        return await _admit(database, entrance, person, vault)
    except admit.NotAdmitted:
        if way.traits.vouches:
            raise
        raise WrongPassword from None  # who knows one shared password shall not find out names with it


async def _admit(database: Database, entrance: Entrance, person: Person, vault: Vault | None) -> User:
    way = entrance.way
    async with database.begin() as db:
        user = await admit.admit(db, entrance.section, way.traits, way.realm, person, now=clock.now())
        if vault is not None and person.account is None:
            await state.keep(db, vault, way.realm, person)
        return user


async def _account_key(db: AsyncSession, entrance: Entrance, realm: str, name: str) -> str:
    """The row that counts failures of this account: known ones have their own, unknown ones share some."""
    try:
        clean = users.normalise(name)
    except BadRequest:
        clean = ""
    if entrance.section.kind == LOCAL:
        known = bool(clean) and await users.by_name(db, clean) is not None
        return backoff.account_key(clean, known=known)
    tied = sa.select(ExternalIdentity.id).where(
        ExternalIdentity.realm == realm, ExternalIdentity.subject == clean
    )
    known = bool(clean) and await db.scalar(tied) is not None
    return f"{entrance.name}/{backoff.account_key(clean, known=known)}"
