"""Repositories that administrators banned while the hub runs. The configuration's patterns are asked beside them."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.ephemeral.models import OVER, Launch, LinkBan, Stage
from himalia_hub.ephemeral.store import POOL
from himalia_hub.errors import BadRequest, NotAuthorized, NotFound

LONGEST_WHY = 500
WAITING = (Stage.RESOLVING, Stage.FETCHING, Stage.WAITING, Stage.BUILDING)
"""What a ban ends in any case; those that run by now, only where that is asked for."""


def address_of(url: str) -> str:
    """What is equal for every way to name one repository: host and path, without the scheme and `.git`. Pure."""
    path = re.sub(r"^[a-z]+://", "", url.strip().lower()).rstrip("/")
    return path.removesuffix(".git").rstrip("/")


async def every(db: AsyncSession) -> list[LinkBan]:
    """All of them, the newest first."""
    return list(await db.scalars(sa.select(LinkBan).order_by(LinkBan.id.desc())))


async def addresses(db: AsyncSession) -> frozenset[str]:
    """What is banned, as `address_of` gives it."""
    return frozenset(await db.scalars(sa.select(LinkBan.address)))


async def check(db: AsyncSession, url: str) -> None:
    """NotAuthorized, with the words of the ban, when this repository is banned."""
    for refusal in (await refusals(db, {url})).values():
        raise refusal


async def refusals(db: AsyncSession, urls: Collection[str]) -> dict[str, NotAuthorized]:
    """Of these repositories the banned ones, with what whoever opens them is told."""
    named = {url: address_of(url) for url in urls}
    rows = await db.scalars(sa.select(LinkBan).where(LinkBan.address.in_(set(named.values()))))
    banned = {row.address: row for row in rows}
    return {
        url: NotAuthorized(words(banned[address]), remedy="ask the hub's administrators")
        for url, address in named.items()
        if address in banned
    }


def words(banned: LinkBan) -> str:
    """What people read."""
    if not banned.why:
        return f"This hub does not open {banned.label}."
    return f"This hub does not open {banned.label}: {banned.why}"


async def ban(
    db: AsyncSession, url: str, label: str, why: str, *, author: str, now: datetime, running: bool
) -> list[int]:
    """Ban it, and end what is under way for it; ids of those launches. With `running` its sessions, too.

    BadRequest when it is banned already, or the words are too long.
    """
    if len(why) > LONGEST_WHY:
        raise BadRequest(f"the reason has {len(why)} characters; {LONGEST_WHY} are allowed")
    banned = LinkBan(address=address_of(url), label=label, why=why, author=author, created=now)
    if await db.scalar(sa.select(LinkBan.id).where(LinkBan.address == banned.address)) is not None:
        raise BadRequest(f"{label} is banned already", remedy="lift that ban first")
    db.add(banned)
    await db.flush()
    stages = [*WAITING, *((Stage.LAUNCHING, Stage.READY) if running else ())]
    going = sa.or_(
        Launch.stage.in_(stages),
        sa.and_(Launch.visitor == POOL, Launch.stage.not_in([*OVER, Stage.ENDING])),
    )
    rows = await db.execute(sa.select(Launch.id, Launch.url).where(going))
    theirs = [row.id for row in rows if address_of(row.url) == banned.address]
    failure = {"message": words(banned), "remedy": "Ask the hub's administrators."}
    await db.execute(
        sa.update(Launch)
        .where(Launch.id.in_(theirs), going)
        .values(stage=Stage.ENDING, stage_since=now, failure=failure)
    )
    return theirs


async def lift(db: AsyncSession, ban_id: int) -> LinkBan:
    """Open it again. NotFound when there is no such ban."""
    found = await db.get(LinkBan, ban_id)
    if found is None:
        raise NotFound("There is no such ban; it was lifted already.")
    await db.delete(found)
    return found
