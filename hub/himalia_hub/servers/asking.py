"""Asking for a start: everything that its own transaction decides. The API and the pages both go through here."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.groups import store as groups
from himalia_hub.profiles.choice import checked_options
from himalia_hub.servers import queue, store
from himalia_hub.servers.limits import check_named
from himalia_hub.servers.models import Server
from himalia_hub.settings import HubSettings
from himalia_hub.users.models import User


async def ask(
    db: AsyncSession,
    settings: HubSettings,
    user: User,
    name: str,
    options: dict[str, Any] | None,
    *,
    refuse_when_full: bool = False,
) -> Server:
    """Wish that it runs, now or in its turn.

    BadRequest when this person may not choose that, or has too many named servers; TooMany when all places are taken
    and a refusal is wanted.
    """
    await check_named(db, user, name, settings.servers)
    options = checked_options(settings, await groups.of_user(db, user.id), options)
    wait = await queue.must_wait(db, settings.servers, refuse=refuse_when_full)
    return await store.want_running(db, user, name, options=options, now=clock.now(), wait=wait)
