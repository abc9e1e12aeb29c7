"""Working a job off: one short transaction for each server, with its own line in the audit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit.models import AuditRow
from himalia_hub.audit.record import CHANGE
from himalia_hub.bulk import store
from himalia_hub.bulk.models import BulkItem
from himalia_hub.errors import BadRequest, HimaliaError, NotFound, TooMany
from himalia_hub.keys import DB, DOORBELL
from himalia_hub.pages import wish
from himalia_hub.rbac.identity import Identity
from himalia_hub.servers import store as servers
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import stopped
from himalia_hub.usage.store import OverQuota

log = structlog.get_logger()

RIGHTS = {"start": "start:servers", "stop": "delete:servers", "remove": "delete:servers"}
ACTIONS = tuple(RIGHTS)
TASKS: web.AppKey[set[asyncio.Task[None]]] = web.AppKey("bulk_tasks")
FULL_FOR_S, TRIES = 2.0, 30
"""A hub that starts no more just now is asked again: after so long, so often."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asked, and from where, for the rights and for the audit."""

    identity: Identity
    address: str
    request_id: str


def install(app: web.Application) -> None:
    """Let jobs go on in the background, and end with the hub; what is left then shows as not asked."""
    app[TASKS] = set()

    async def ending(app: web.Application) -> AsyncIterator[None]:
        yield
        for task in app[TASKS]:
            task.cancel()
        await asyncio.gather(*app[TASKS], return_exceptions=True)

    app.cleanup_ctx.append(ending)


def begin(app: web.Application, job_id: int, action: str, asker: Asker) -> None:
    """Work the job off in the background."""
    task = asyncio.create_task(_work(app, job_id, action, asker), name=f"bulk.{job_id}")
    app[TASKS].add(task)
    task.add_done_callback(app[TASKS].discard)


async def _work(app: web.Application, job_id: int, action: str, asker: Asker) -> None:
    try:
        async with app[DB].read() as db:
            left = await store.waiting(db, job_id)
        for item_id in left:
            for turn in range(TRIES):
                if await _ask(app, item_id, action, asker, last=turn == TRIES - 1):
                    break
                await asyncio.sleep(FULL_FOR_S)
        log.info("bulk.asked", action=action, count=len(left), job=job_id)
    except (SQLAlchemyError, OSError) as error:
        log.warning("bulk.broken_off", job=job_id, error=type(error).__name__)


async def _ask(app: web.Application, item_id: int, action: str, asker: Asker, *, last: bool) -> bool:
    """Write the wish of one item, or why not; False when the hub is full just now and may be asked again."""
    status, server = 202, None
    async with app[DB].begin() as db:
        item = await db.get(BulkItem, item_id)
        if item is None or item.asked is not None:
            return True
        try:
            server = await _wish(app, db, item, action, asker.identity)
            item.asked = clock.now()
            item.server_id, item.generation = (server.id, server.generation) if server else (None, None)
        except TooMany as full:
            # Room in the hub comes by waiting; a quota that is used up does not, and 40 people may be beyond theirs.
            if not last and not isinstance(full, OverQuota):
                return False
            said = " ".join(part for part in (full.message, full.remedy) if part)
            item.problem, status = f"{said} (request {asker.request_id})", full.status
        except HimaliaError as error:
            said = "; ".join(part for part in (error.message, error.remedy) if part)
            item.problem, status = f"{said} (request {asker.request_id})", error.status
        db.add(_line(item, action, asker, status))
    if server is not None:
        app[DOORBELL].ring(server.id)
    return True


async def _wish(
    app: web.Application, db: AsyncSession, item: BulkItem, action: str, identity: Identity
) -> Server | None:
    user, name = item.username, item.server_name
    if not identity.allows(RIGHTS[action], user=user, server=name):
        raise NotFound("There is no such server, or it is not yours to change.")
    if action == "start":
        return await wish.start_in(app, db, user, name, None)
    server = await servers.find(db, user, name)
    if action == "remove" and not name:
        raise BadRequest("the default server cannot be removed", remedy="stop it")
    if server is None or (action == "stop" and stopped(server)):
        return None
    await servers.want_stopped(db, server, now=clock.now(), doomed=action == "remove")
    return server


def _line(item: BulkItem, action: str, asker: Asker, status: int) -> AuditRow:
    return AuditRow(
        at=clock.now(),
        kind=CHANGE,
        action=f"POST admin/do ({action})",
        actor=asker.identity.name,
        on_behalf_of="",
        token_id=None,
        address=asker.address,
        target_user=item.username,
        target=item.server_name,
        status=status,
        change={"after": {"wish": action}},
        request_id=asker.request_id,
    )
