"""What no row knows: after a restored backup, a person deleted by hand. Reported when found, ended after a grace.

Servers that run, folders and logs that ended ones left, and tokens; routes are compared by `routes.sync`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.db.prepared import Prepared
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.servers.world import World
from himalia_hub.tokens import store as tokens
from himalia_spawner.base import LeavesTraces, ServerRef
from himalia_spawner.errors import SpawnError

log = structlog.get_logger()

PAGE = 200
"""Rows that are read in one visit to the database."""
REST_S = 0.05
"""Between two visits: nobody is to feel how many rows there are."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """One thing without a row: a server that runs, the trace of one that has ended, or a token's id."""

    what: ServerRef | str | int

    @property
    def kind(self) -> str:
        """The word for the log."""
        return {ServerRef: "server", str: "folder", int: "token"}[type(self.what)]


async def run(world: World) -> None:
    """Look until cancelled. Needs no lease: every replica sees its own backend, and ending twice is fine."""
    found: dict[Orphan, float] = {}
    while True:
        try:
            found = await reap(world, found, now_s=asyncio.get_running_loop().time())
            world.looks.orphans, world.looks.found = clock.now(), [one.kind for one in found]
        except (SpawnError, SQLAlchemyError, OSError) as error:
            log.warning("orphans.not_looked_for", error=str(error) or type(error).__name__)
        await world.pace.pause(lambda: max(world.settings.servers.orphan_grace_s / 2, 0.1))


async def reap(world: World, found: Mapping[Orphan, float], *, now_s: float) -> dict[Orphan, float]:
    """One look. `found` says since when each orphan is known (monotonic seconds); the new `found`."""
    # The backend first: a row is written before its server starts, so what is listed here has its row by now.
    there = {handle.ref for handle in await world.spawner.list()}
    known, at_rest = await _rows(world)
    await _wake(world, [ref.name for ref in there if ref.name in at_rest])
    now = {Orphan(ref) for ref in there if ref.name not in known}
    if isinstance(world.spawner, LeavesTraces):
        # A server started since the list was made has its row, and its trace runs: it is none.
        now |= {Orphan(mark) for mark in await world.spawner.traces(known)}
    async with world.db.read() as db:
        now |= {Orphan(number) for number in await tokens.without_server(db)}
    for orphan in now - found.keys():
        log.warning("orphans.found", kind=orphan.kind, what=str(orphan.what))
    since = {orphan: found.get(orphan, now_s) for orphan in now}
    for orphan in overdue(since, now_s=now_s, grace_s=world.settings.servers.orphan_grace_s):
        await _end(world, orphan)
        log.warning("orphans.ended", kind=orphan.kind, what=str(orphan.what))
        del since[orphan]
    return since


def overdue(orphans: Mapping[Orphan, float], *, now_s: float, grace_s: float) -> list[Orphan]:
    """Those that have been orphans for the whole time of grace."""
    return [orphan for orphan, since_s in orphans.items() if now_s - since_s >= grace_s]


async def _end(world: World, orphan: Orphan) -> None:
    match orphan.what:
        case ServerRef() as ref:
            await world.spawner.stop(ref)
            await world.spawner.purge(ref.name)
        case str() as mark:
            known, _ = await _rows(world)  # somebody of that name may have come since
            if isinstance(world.spawner, LeavesTraces) and mark in await world.spawner.traces(known):
                await world.spawner.remove_trace(mark)
        case int() as number:
            async with world.db.begin() as db:
                await tokens.revoke_orphan(db, number)


_RESTS = sa.and_(Server.phase == Phase.STOPPED, Server.desired == Desired.STOPPED, Server.due_at.is_(None))
_NEXT = Prepared(
    sa.select(Server.id, Server.backend_name, _RESTS.label("rests"))
    .where(Server.id > sa.bindparam("after_id"))
    .order_by(Server.id)
    .limit(sa.bindparam("most"))
)


async def _rows(world: World) -> tuple[Collection[str], Collection[str]]:
    """Backend names of all rows, and of those that are stopped and want nothing."""
    every, at_rest, after_id = set[str](), set[str](), 0

    async def look(db: AsyncSession) -> int:
        found = await db.run_sync(_NEXT.rows, {"after_id": after_id, "most": PAGE})
        every.update(name for _, name, _ in found)
        at_rest.update(name for _, name, rests in found if rests)
        return found[-1][0] if len(found) == PAGE else 0

    # All at once, on the event loop, held it for 150 ms with 6,000 servers. A row made meanwhile comes last.
    while after_id := await world.db.read_in_one(look):
        await asyncio.sleep(REST_S)
    return every, at_rest


async def _wake(world: World, names: Iterable[str]) -> None:
    """A row that believes its server stopped, while it runs, takes a step: which ends it."""
    if wanted := list(names):
        log.info("orphans.row_woken", servers=wanted)
        async with world.db.begin() as db:
            await db.execute(
                sa.update(Server)
                .where(Server.backend_name.in_(wanted), Server.due_at.is_(None))
                .values(due_at=clock.now())
            )
        world.doorbell.ring_all()
