"""Whether the hub that answers does its background work: what only the running process knows."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import sqlalchemy as sa

from himalia_hub import clock
from himalia_hub.health.finding import Finding, advice, ok, problem
from himalia_hub.languages import counted
from himalia_hub.servers.models import Server
from himalia_hub.servers.world import World

LATE = timedelta(minutes=1)
REMEMBERED = timedelta(hours=1)
"""How long stray routes are told of after they were removed."""


async def examine(world: World) -> list[Finding]:
    """Whether servers' rows are worked on in time, and what runs or lies about that no row knows."""
    return [await _rows(world), _orphans(world), _routes(world)]


async def _rows(world: World) -> Finding:
    now, about = clock.now(), "reconcile"
    late = sa.and_(
        Server.due_at < now - LATE, sa.or_(Server.lease_until.is_(None), Server.lease_until < now - LATE)
    )
    async with world.db.read() as db:
        count = await db.scalar(sa.select(sa.func.count()).select_from(Server).where(late)) or 0
    last = world.looks.rows
    if last is None:
        return ok(about, "this hub has not looked at the servers' rows yet")
    ago = int((now - last).total_seconds())
    longest = max(LATE, 2 * timedelta(seconds=world.settings.servers.resync_s))
    if now - last > longest or count:
        return problem(
            about,
            counted(
                "this hub looked at the servers' rows %(ago)s s ago; %(num)s waits for more than a minute",
                "this hub looked at the servers' rows %(ago)s s ago; %(num)s wait for more than a minute",
                count,
                ago=ago,
            ),
            "look into the hub's log for server.step_failed and database.unreachable, then restart the hub",
        )
    return ok(about, f"this hub looked at the servers' rows {ago} s ago; none is overdue")


def _orphans(world: World) -> Finding:
    about, looks = "orphans", world.looks
    if looks.orphans is None:
        return ok(about, "not looked for yet")
    ago = int((clock.now() - looks.orphans).total_seconds())
    if not looks.found:
        return ok(about, f"no server, folder or token without a row ({ago} s ago)")
    found = Counter(looks.found)
    return advice(
        about,
        f"without a row: servers {found['server']}, folders {found['folder']}, tokens {found['token']} ({ago} s ago)",
        f"nothing: they are ended after servers.orphan_grace_s = {world.settings.servers.orphan_grace_s:g};"
        " the log says orphans.found with their names",
    )


def _routes(world: World) -> Finding:
    about, looks, now = "routes", world.looks, clock.now()
    if looks.routes is None:
        return ok(
            about, "this hub has not compared the proxy's routes with the servers yet; another may do it"
        )
    if looks.cleared is not None and now - looks.cleared < REMEMBERED:
        ago = int((now - looks.cleared).total_seconds())
        shown = ", ".join(looks.stray[:3]) + ", …" * (len(looks.stray) > 3)
        return advice(
            about,
            counted(
                "%(num)s that led to no server was removed %(ago)s s ago: %(routes)s",
                "%(num)s that led to no server were removed %(ago)s s ago: %(routes)s",
                len(looks.stray),
                ago=ago,
                routes=shown,
            ),
            "nothing, once; if it comes again, something else writes to this proxy: give the proxy another token",
        )
    ago = int((now - looks.routes).total_seconds())
    return ok(about, f"the proxy's lead to the servers and nowhere else ({ago} s ago)")
