"""Activity reports of single-user servers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import sqlalchemy as sa
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.body import json_object
from himalia_hub.db.prepared import Prepared
from himalia_hub.errors import BadRequest, NotFound
from himalia_hub.keys import DB
from himalia_hub.rbac.guard import scoped
from himalia_hub.schemas import Anything, takes
from himalia_hub.servers import store
from himalia_hub.users.models import User

FUTURE_LIMIT = timedelta(minutes=59)
_USERS = cast("sa.Table", User.__table__)
_AT = sa.bindparam("at", type_=_USERS.c.last_activity.type)
_USED = Prepared(
    sa.update(_USERS)
    .where(
        _USERS.c.id == sa.bindparam("of_user"),
        sa.or_(_USERS.c.last_activity.is_(None), _USERS.c.last_activity < _AT),
    )
    .values(last_activity=_AT)
)
"""Built once: of 10,000 servers 33 report each second, and building it takes longer than carrying it out."""


def parse_moment(value: Any, key: str, *, now: datetime) -> datetime:
    """An ISO 8601 moment; naive means UTC. BadRequest for anything else, and for what is an hour ahead."""
    moment = read_moment(value, key)
    if moment > now + FUTURE_LIMIT:
        raise BadRequest(f"{key} is {value!r}, which lies in the future; check the clock")
    return moment


def read_moment(value: Any, key: str) -> datetime:
    """An ISO 8601 moment in UTC; naive means UTC. BadRequest for anything else."""
    try:
        moment = datetime.fromisoformat(value)
        # OverflowError: the first and the last day of the calendar, in other zones
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise BadRequest(
            f"{key} is {value!r}; it must be an ISO 8601 time such as 2026-01-31T12:00:00Z"
        ) from None


@scoped("users:activity")
@takes(Anything)
async def report_activity(request: web.Request) -> web.Response:
    """POST `{last_activity?, servers?: {name: {last_activity}}}`: 200; older than what is stored is ignored."""
    username, now = request.match_info["user"], clock.now()
    body = await json_object(request)
    servers = body.get("servers", {})
    if not isinstance(servers, dict) or not (body.get("last_activity") or servers):
        raise BadRequest("the body must have last_activity, servers, or both")
    own = parse_moment(body["last_activity"], "last_activity", now=now) if body.get("last_activity") else None

    async def note(db: AsyncSession) -> None:
        user_id, theirs = await store.whose(db, username)
        if user_id is None:
            raise NotFound(f"there is no user {username!r}")
        for name, facts in servers.items():
            if not name and not theirs.get(name):  # everybody has a default server, started or not
                made = await store.get_or_create(db, await db.get_one(User, user_id), name, now=now)
                theirs[name] = made.id
            if name not in theirs:
                raise BadRequest(f"{username} has no server named {name!r}")
            at = facts.get("last_activity") if isinstance(facts, dict) else None
            await store.touch(db, theirs[name], parse_moment(at, f"servers.{name}.last_activity", now=now))
        if own is not None:
            await db.run_sync(_USED.run, {"of_user": user_id, "at": own})

    # In one visit to SQLite's thread, with whatever else waits for it: each of 10,000 servers reports.
    await request.app[DB].begin_in_one(note)
    return web.Response()
