"""Sessions kept warm for the links that are opened most: running before anybody clicks, and nobody's until then.

A warm session is a launch without a visitor, in the stage WARM: its own guest, account, folder and server, with a
kernel that has answered. Whoever opens its link takes it over by deleting its row, which only one transaction can do;
from then on it is theirs and ends with them. None is ever given back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import aiohttp
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.ephemeral import bans, session, store
from himalia_hub.ephemeral.models import OVER, Launch, Stage
from himalia_hub.ephemeral.settings import EphemeralSection
from himalia_hub.ephemeral.store import POOL
from himalia_hub.ephemeral.warmth import Bounds, Warmth, read
from himalia_hub.faults import async_fault
from himalia_hub.secrets import mint
from himalia_hub.servers.kernels import asking
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import server_prefix
from himalia_hub.servers.world import World

REMEMBERED = timedelta(days=7)
LOOKED_AT = 2000
AFTER_FAILURE = timedelta(minutes=1)
LAB_S = 20.0

Link = tuple[str, str, str, str]
"""Provider, spec, commit, environment: what a session must agree in to be the one that was asked for."""


@dataclass(frozen=True, slots=True)
class Demand:
    """How often a link was opened lately, the launch of the last time, and how many are to be warm whatever happens."""

    link: Link
    recent: int
    last: Launch
    bounds: Bounds

    @property
    def wanted(self) -> int:
        """As many as were opened lately, within the bounds."""
        more = max(self.recent, self.bounds.least)
        return more if self.bounds.most is None else min(more, self.bounds.most)


def link_of(launch: Launch) -> Link:
    """What makes it the same session as another."""
    return launch.provider, launch.spec, launch.commit, launch.environment


def desired(demands: Sequence[Demand], *, total: int) -> dict[Link, int]:
    """How many sessions to keep warm for each link. Pure.

    Where `total` is not enough, every link gets one before any gets a second, the most wanted first.
    """
    wanted = {demand.link: demand.wanted for demand in demands}
    order = sorted(demands, key=lambda demand: -demand.recent)
    given: Counter[Link] = Counter()
    while sum(given.values()) < total:
        short = [demand.link for demand in order if given[demand.link] < wanted[demand.link]]
        if not short:
            break
        for link in short[: total - sum(given.values())]:
            given[link] += 1
    return dict(given)


async def demands(db: AsyncSession, warmth: Warmth, *, now: datetime) -> list[Demand]:
    """What was opened in the last days, each link as it was the last time: an older commit of it is not wanted more."""
    # Not while it starts: a person's own start and the next one's would share the processor.
    became = sa.and_(
        Launch.visitor != POOL, Launch.guest != "", Launch.stage != Stage.LAUNCHING,
        Launch.created > now - REMEMBERED,
    )  # fmt: skip
    rows = await db.scalars(sa.select(Launch).where(became).order_by(Launch.id.desc()).limit(LOOKED_AT))
    last: dict[tuple[str, str], Launch] = {}
    recent: Counter[tuple[str, str]] = Counter()
    since = now - timedelta(seconds=warmth.section.pool_window_s)
    banned = await bans.addresses(db)
    for launch in rows:
        if bans.address_of(launch.url) in banned:
            continue
        name = (launch.provider, launch.spec)
        last.setdefault(name, launch)
        recent[name] += launch.created > since
    return [Demand(link_of(launch), recent[name], launch, warmth.of(*name)) for name, launch in last.items()]


async def in_pool(db: AsyncSession) -> list[Launch]:
    """The sessions that are warm, or about to be."""
    alive = sa.and_(Launch.visitor == POOL, Launch.stage.not_in([*OVER, Stage.ENDING]))
    return list(await db.scalars(sa.select(Launch).where(alive).order_by(Launch.id)))


async def reconcile(
    db: AsyncSession, section: EphemeralSection, *, now: datetime, made: Callable[[str], bool]
) -> None:
    """One step towards what is desired: let go of what is too many, begin at most one more.

    `made` says whether an environment is there: the pool has none built. Call it where nobody else can.
    """
    there, warmth = await in_pool(db), await read(db, section)
    if not there and not warmth.total:
        return
    wish: Mapping[Link, int] = {}
    asked: list[Demand] = []
    if warmth.total:
        asked = [one for one in await demands(db, warmth, now=now) if made(one.last.environment)]
        wish = desired(asked, total=warmth.total)
    kept: Counter[Link] = Counter()
    for launch in there:
        stale = launch.stage is Stage.WARM and launch.stage_since < now - timedelta(seconds=section.max_age_s)
        if kept[link_of(launch)] < wish.get(link_of(launch), 0) and not stale:
            kept[link_of(launch)] += 1
        elif launch.stage is Stage.WARM:
            await store.move(db, launch, Stage.ENDING, now=now, ended_because="not wanted any more")
    if any(launch.stage is Stage.LAUNCHING for launch in there):
        return  # one at a time: people's own starts come first
    failed = sa.and_(
        Launch.visitor == POOL, Launch.stage == Stage.FAILED, Launch.stage_since > now - AFTER_FAILURE
    )
    lately = {link_of(launch) for launch in await db.scalars(sa.select(Launch).where(failed))}
    for one in asked:
        if kept[one.link] < wish.get(one.link, 0) and one.link not in lately:
            db.add(_begun(one.last, now=now))
            return


def _begun(last: Launch, *, now: datetime) -> Launch:
    names = ("provider", "spec", "stem", "url", "label", "ref", "commit", "opening", "environment")
    same = {name: getattr(last, name) for name in names}
    return Launch(key=mint(15), visitor=POOL, created=now, stage=Stage.LAUNCHING, stage_since=now, **same)


async def claim(db: AsyncSession, launch: Launch, *, now: datetime) -> bool:
    """Give this launch, which has its place, a session that is warm; False when there is none.

    One statement takes it: of two that want the same, the second finds another or none.
    """
    same = sa.and_(
        Launch.visitor == POOL, Launch.stage == Stage.WARM, Launch.provider == launch.provider,
        Launch.spec == launch.spec, Launch.commit == launch.commit, Launch.environment == launch.environment,
    )  # fmt: skip
    # One that somebody else is just taking is passed over, not waited for and then missed.
    free = sa.select(Launch.id).where(same).order_by(Launch.id).limit(1).with_for_update(skip_locked=True)
    columns = (Launch.key, Launch.home, Launch.guest, Launch.guest_id, Launch.server_id, Launch.uid)
    taken = (
        sa.delete(Launch)
        .where(Launch.id == free.scalar_subquery(), Launch.stage == Stage.WARM)
        .returning(*columns)
    )
    # The database alone knows what was there; no object of this transaction is one of them.
    row = (await db.execute(taken, execution_options={"synchronize_session": False})).one_or_none()
    server = await db.get(Server, row.server_id) if row is not None and row.server_id else None
    if row is None or server is None:
        return False
    server.started = server.last_activity = now  # as a session it begins here
    values = {
        "home": row.home or row.key, "guest": row.guest, "guest_id": row.guest_id, "server_id": row.server_id,
        "uid": row.uid,
    }  # fmt: skip
    await async_fault("launch.claimed")
    if not await store.move(db, launch, Stage.READY, now=now, **values):
        await db.rollback()
        return False
    await session.share(db, launch, server)
    store.say(db, launch.id, "launching", "A session was warm already", now=now)
    return True


async def warm_up(world: World, launch: Launch, server: Server) -> None:
    """Have the server show what the link opens, so that it starts the kernel that comes next. Failing is no harm."""
    token = world.secrets.server_token(server.id, server.incarnation)
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(LAB_S), asking(server.url, token, total_s=LAB_S) as (client, base):
            url = f"{base}{server_prefix(world.settings, launch.guest, '')}{launch.opening or 'lab'}"
            async with client.get(url) as answer:
                await answer.read()
