"""Asking for a start: everything that its own transaction decides. The API and the pages both go through here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.db.prepared import Prepared
from himalia_hub.groups import store as groups
from himalia_hub.notices import maintenance
from himalia_hub.notices.models import Maintenance
from himalia_hub.profiles.choice import checked_options, resolve
from himalia_hub.servers import queue, store
from himalia_hub.servers.limits import check_named
from himalia_hub.servers.models import Server
from himalia_hub.servers.settings import ServersSection
from himalia_hub.settings import HubSettings
from himalia_hub.usage import store as usage
from himalia_hub.usage.models import Quota
from himalia_hub.usage.quota import Asked
from himalia_hub.users.models import User

_kept: dict[tuple[bool, bool], Prepared] = {}


def _circumstances(settings: ServersSection) -> Prepared:
    """All that stands in the way of hardly any start, in one question."""
    bounds = bool(settings.concurrent_start_limit), bool(settings.active_limit)
    if bounds not in _kept:
        groups_too = sa.or_(Quota.user_id == sa.bindparam("user_id"), Quota.group_id.in_(usage.MINE))
        _kept[bounds] = Prepared(
            sa.select(
                sa.exists(sa.select(Maintenance.id)),
                sa.exists(sa.select(Quota.id).where(groups_too)),
                sa.exists(sa.select(Server.id).where(Server.queued_at.is_not(None))),
                *queue.counted(settings),
            )
        )
    return _kept[bounds]


async def ask(
    db: AsyncSession,
    settings: HubSettings,
    user: User,
    name: str,
    server: Server | None,
    options: dict[str, Any] | None,
    *,
    refuse_when_full: bool = False,
    safe_mode: bool = False,
    display_name: str | None = None,
) -> Server:
    """Wish that it runs, now or in its turn, with a home of its own in `safe_mode`.

    `server` is the row as the same transaction found it; None when there is none yet.

    UnderMaintenance while nothing is started; BadRequest when this person may not choose that, or has too many named
    servers; OverQuota when it is more than they, or one of their groups, may use; TooMany when all places are taken and
    a refusal is wanted.
    """
    now = clock.now()
    await maintenance.hold_off(db)
    if queue.is_bounded(settings.servers):
        await queue.lock(db)
    found = await db.run_sync(_circumstances(settings.servers).row, {"user_id": user.id})
    maintained, has_quota, anybody_waits, starting, active = found
    if maintained:
        await maintenance.must_be_over(db, now=now)
    await check_named(db, user, name, settings.servers, is_there=server is not None)
    member_of = await groups.of_user(db, user.id)
    options = checked_options(settings, member_of, options)
    as_last_time = server.user_options if server is not None else {}
    limits = resolve(settings, user.name, member_of, as_last_time if options is None else options).limits
    if has_quota or usage.says_limits(settings.quotas):
        await _must_fit(db, settings, user, server, Asked(limits.memory, limits.cpus), now=now)
    there = queue.Counts(starting, active, anybody_waits)
    wait = queue.must_wait(there, settings.servers, refuse=refuse_when_full)
    wish = store.Wish(options, wait, limits.memory, limits.cpus, safe_mode, display_name)
    return await store.wish_running(db, user, name, server, wish, now=now)


async def _must_fit(
    db: AsyncSession, settings: HubSettings, user: User, server: Server | None, asked: Asked, *, now: datetime
) -> None:
    """OverQuota when the start is too much."""
    if await usage.has_limits(db, settings, user):
        await queue.lock(db)
        await usage.check(db, settings, user, asked, now=now, but=server.id if server is not None else None)
