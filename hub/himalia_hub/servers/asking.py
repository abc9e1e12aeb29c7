"""Asking for a start: everything that its own transaction decides. The API and the pages both go through here."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.groups import store as groups
from himalia_hub.notices import maintenance
from himalia_hub.profiles.choice import checked_options, resolve
from himalia_hub.servers import queue, store
from himalia_hub.servers.limits import check_named
from himalia_hub.servers.models import Server
from himalia_hub.settings import HubSettings
from himalia_hub.usage import store as usage
from himalia_hub.usage.quota import Asked
from himalia_hub.users.models import User


async def ask(
    db: AsyncSession,
    settings: HubSettings,
    user: User,
    name: str,
    options: dict[str, Any] | None,
    *,
    refuse_when_full: bool = False,
    safe_mode: bool = False,
) -> Server:
    """Wish that it runs, now or in its turn, with a home of its own in `safe_mode`.

    UnderMaintenance while nothing is started; BadRequest when this person may not choose that, or has too many named
    servers; OverQuota when it is more than they, or one of their groups, may use; TooMany when all places are taken and
    a refusal is wanted.
    """
    now = clock.now()
    await maintenance.must_be_over(db, now=now)
    await check_named(db, user, name, settings.servers)
    member_of = await groups.of_user(db, user.id)
    options = checked_options(settings, member_of, options)
    server = await store.find(db, user.name, name)
    reserve = await _reserve(db, settings, user, server, options, member_of)
    wait = await queue.must_wait(db, settings.servers, refuse=refuse_when_full)
    return await store.want_running(
        db, user, name, options=options, now=now, wait=wait, reserve=reserve, safe_mode=safe_mode
    )


async def _reserve(
    db: AsyncSession,
    settings: HubSettings,
    user: User,
    server: Server | None,
    options: dict[str, Any] | None,
    member_of: list[str],
) -> Asked:
    """What the start counts for in quotas. OverQuota when that is too much."""
    as_last_time = server.user_options if server is not None else {}
    limits = resolve(settings, user.name, member_of, as_last_time if options is None else options).limits
    asked = Asked(limits.memory, limits.cpus)
    if await usage.has_limits(db, settings, user):
        await queue.lock(db)
        await usage.check(
            db, settings, user, asked, now=clock.now(), but=server.id if server is not None else None
        )
    return asked
