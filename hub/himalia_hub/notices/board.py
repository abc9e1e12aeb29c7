"""What hangs at the board just now: read once for all who look, until anything is committed."""

from __future__ import annotations

import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from himalia_hub import clock
from himalia_hub.keys import MEMO
from himalia_hub.notices import store
from himalia_hub.notices.notice import LEVELS, Notice

log = structlog.get_logger()
GRAVITY = list(LEVELS)


async def shown(app: web.Application) -> list[Notice]:
    """What everybody sees at this moment: the maintenance first, then the gravest."""
    memo, now = app[MEMO], clock.now()

    announcements, maintenance = await memo.get("notices", lambda: memo.db.read_in_one(store.everything))
    told = sorted(announcements, key=lambda one: -GRAVITY.index(one.level))
    return [one for one in ((maintenance, *told) if maintenance else told) if one.holds(now)]


async def shown_if_readable(app: web.Application) -> list[Notice]:
    """The same for pages, which must come out without a database too: then nothing is said."""
    try:
        return await shown(app)
    except (SQLAlchemyError, OSError) as error:
        log.warning("notices.database", error=type(error).__name__)
        return []
