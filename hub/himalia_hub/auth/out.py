"""Out means out: what has to happen besides deleting the rows of a sign-in, of a token, or of a right.

Two halves: `note` in the transaction that deletes them, `cut` once that is committed. Between the two this hub may die,
and others do the second.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from himalia_hub import clock
from himalia_hub.auth.accounts import Ended
from himalia_hub.auth.cutting import CUTTER, Put, asked_of_proxies, behind, once_more, tell
from himalia_hub.faults import fault
from himalia_hub.keys import DB
from himalia_hub.replicas.models import CutRow


def note(
    db: AsyncSession | Session,
    ended: Iterable[Ended] = (),
    *,
    people: Collection[int] = (),
    services: Collection[int] = (),
    everybody: bool = False,
    route: str | None = None,
    left: Collection[int] = (),
    groups: Collection[str] = (),
) -> CutRow | None:
    """Write down that the open WebSockets of these browser sign-ins and tokens are to be cut, and all of these people
    and services, who stay and have lost a right; or of `everybody` on a route; or what others have open at people who
    `left` these groups. None where there is nobody.
    """
    known = [one for one in ended if one.session_id or one.tokens]
    put = Put(known, people, services, everybody, route, left, groups)
    if not put:
        return None
    row = CutRow(at=clock.now(), what=put.as_json(), done=False)
    db.add(row)
    return row


async def cut(app: web.Application, *rows: CutRow | None) -> None:
    """Have it done at all proxies that this hub can reach; the other hubs have theirs do it."""
    noted = [row for row in rows if row is not None]
    if noted:
        fault("cut.after_commit")
    for row in noted:
        await app[CUTTER].do(row)


async def cut_people(app: web.Application, people: Collection[int], services: Collection[int] = ()) -> None:
    """Both halves, where what took a right from these people and services is no row."""
    async with app[DB].begin() as db:
        row = note(db, people=people, services=services)
    await cut(app, row)


async def cut_noted(app: web.Application) -> None:
    """Have done whatever was noted, here or elsewhere."""
    await app[CUTTER].settle()


async def cut_here(app: web.Application, put: Put) -> bool:
    """The same at the proxies that this hub reaches, where every hub finds out by itself. False when the first one
    cannot be asked.
    """
    wanted = await asked_of_proxies(app, put)
    count = await tell(app, wanted)
    if count:
        behind(once_more(app, wanted), "hub.cut_again")
    return count is not None
