"""Rights that end by themselves: what a role, a share or a program's token allowed for a time is cut when it is over.

New requests are refused by the clock alone. But official servers ask nobody about a WebSocket that is open, so the
proxy is told, as when a right is taken (out.py).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import sqlalchemy as sa
import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.auth import out
from himalia_hub.auth.accounts import Ended, presented
from himalia_hub.auth.cutting import Put, routes_of
from himalia_hub.db.base import UtcDateTime
from himalia_hub.groups.models import Membership
from himalia_hub.keys import DB, SETTINGS
from himalia_hub.rbac.models import Role, RoleAssignment
from himalia_hub.rbac.rules import Rules
from himalia_hub.servers import view
from himalia_hub.servers.models import Server
from himalia_hub.shares.models import Share
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import User

EVERY_S = 2.0
AHEAD = timedelta(seconds=10)
"""So long before its end a row is known: it may be swept away in the moment that it is over."""
BACK = timedelta(minutes=10)
"""What ended so long ago is looked at by a hub that starts, and tried again with a proxy that was away. Rows that are
over are kept for as long."""

_SPAN = sa.bindparam("after", type_=UtcDateTime()), sa.bindparam("until", type_=UtcDateTime())


def _within(moment: sa.orm.InstrumentedAttribute[datetime | None]) -> sa.ColumnElement[bool]:
    after, until = _SPAN
    return sa.and_(moment > after, moment <= until)


_ROLES = (
    sa.select(
        RoleAssignment.expires_at,
        RoleAssignment.user_id,
        RoleAssignment.group_id,
        RoleAssignment.service_id,
        Role.scopes,
    )
    .join(Role, Role.id == RoleAssignment.role_id)
    .where(_within(RoleAssignment.expires_at))
)
_SHARES = sa.select(Share.expires_at, Share.user_id, Share.group_id, Share.server_id).where(
    _within(Share.expires_at)
)
_TOKENS = sa.select(ApiToken.expires_at, ApiToken.session_id, ApiToken.client_id, ApiToken.hashed).where(
    _within(ApiToken.expires_at)
)
"""Built once: every hub asks them again and again."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ending:
    """A right that ends: of a person, of a group, of a service, on one server or wherever it is held; or of a token
    (`hashed`), which a browser sign-in may have made for a program (`client_id`).
    """

    at: datetime
    user_id: int | None = None
    group_id: int | None = None
    server_id: int | None = None
    service_id: int | None = None
    session_id: str | None = None
    client_id: str = ""
    hashed: str = ""


async def rights(db: AsyncSession, rules: Rules, *, after: datetime, until: datetime) -> set[Ending]:
    """Roles, shares and tokens that end in (after, until] and may have let anybody in somewhere."""
    span = {"after": after, "until": until}
    roles = await db.execute(_ROLES, span)
    found = {
        Ending(at, user, group, service_id=service)
        for at, user, group, service, scopes in roles
        if at and rules.lets_in(scopes)
    }
    shares = await db.execute(_SHARES, span)
    found |= {Ending(at, user, group, server) for at, user, group, server in shares if at}
    return found | await tokens(db, after=after, until=until)


async def tokens(db: AsyncSession, *, after: datetime, until: datetime) -> set[Ending]:
    """Tokens that end in (after, until]."""
    found = await db.execute(_TOKENS, {"after": after, "until": until})
    return {
        Ending(at, session_id=session, client_id=client, hashed=hashed)
        for at, session, client, hashed in found
        if at
    }


class Watch:
    """What one hub knows of what ends soon.

    Every hub does this by itself: none has to inherit it from one that died, each reaches the proxies that follow it,
    and who is cut twice and may still be there comes back twice.
    """

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._looked = clock.now() - BACK
        self._soon: set[Ending] = set()

    async def look(self) -> None:
        """Have cut what is over since the last look. What the proxy could not be told is told the next time."""
        now, db, settings = clock.now(), self._app[DB], self._app[SETTINGS]
        limits = partial(rights, rules=settings.rules, after=self._looked, until=now + AHEAD)
        found = await db.read_in_one(limits)
        over = {one for one in self._soon | found if one.at <= now}
        self._looked, self._soon = now, found | over
        for one in sorted(over, key=lambda one: one.at):
            if await self._cut(one) or one.at <= now - BACK:
                self._soon.discard(one)

    async def _cut(self, one: Ending) -> bool:
        app, route = self._app, None
        if one.hashed:
            alone = [Ended(tokens=frozenset({one.hashed}))]
            done = not presented(one.client_id) or await out.cut_here(app, Put(alone))
            if one.session_id is not None:
                ended = Ended(one.session_id, frozenset({one.client_id}))
                async with app[DB].read() as db:
                    routes = await routes_of(db, app[SETTINGS], [one.client_id])
                for route in sorted(routes):
                    done &= await out.cut_here(app, Put([ended], route=route))
            return done
        if one.service_id is not None:
            return await out.cut_here(app, Put(services=[one.service_id]))
        async with app[DB].read() as db:
            if one.server_id is not None:
                server = sa.select(User.name, Server.name).join(Server, Server.user_id == User.id)
                named = (await db.execute(server.where(Server.id == one.server_id))).one_or_none()
                if named is None:
                    return True
                route = view.routespec(app[SETTINGS], *named)
            members = sa.select(Membership.user_id).where(Membership.group_id == one.group_id)
            people = [one.user_id] if one.user_id is not None else list(await db.scalars(members))
        return await out.cut_here(app, Put(people=people, route=route))


async def run(app: web.Application) -> None:
    """Look every EVERY_S until cancelled."""
    watch = Watch(app)
    while True:
        try:
            await watch.look()
        except (SQLAlchemyError, OSError) as error:
            log.warning("run_out.failed", error=type(error).__name__)
        await asyncio.sleep(EVERY_S)
