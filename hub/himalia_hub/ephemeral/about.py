"""What monitors of a Binder ask for beside the hub's own health: versions, and whether there is room."""

from __future__ import annotations

from importlib.metadata import version

import sqlalchemy as sa
from aiohttp import web

from himalia_hub.ephemeral.models import Environment, Launch
from himalia_hub.ephemeral.store import QUEUE
from himalia_hub.keys import DB, SETTINGS
from himalia_hub.rbac.guard import public


def routes(base_url: str) -> list[web.RouteDef]:
    """Handler paths beside the hub's prefix."""
    return [web.get(base_url + "versions", versions), web.get(base_url + "health", health)]


@public
async def versions(request: web.Request) -> web.Response:
    """200 `builder` (what makes environments) and `binderhub` (this hub's own), readable from any site."""
    in_images = request.app[SETTINGS].spawner.kind == "docker"
    builder = "docker" if in_images else f"uv {version('uv')}"
    body = {"builder": builder, "binderhub": f"himalia {version('himalia')}"}
    return web.json_response(body, headers={"Access-Control-Allow-Origin": "*"})


@public
async def health(request: web.Request) -> web.Response:
    """200 `ok` and `checks`: sessions, builds and who waits, each with its limit; 503 when the queue is full."""
    section = request.app[SETTINGS].ephemeral
    async with request.app[DB].read() as db:
        seated = await db.scalar(sa.select(sa.func.count()).select_from(Launch).where(Launch.seated)) or 0
        waiting = await db.scalar(sa.select(sa.func.count()).select_from(Launch).where(QUEUE)) or 0
        made = sa.and_(Environment.ready.is_(None), Environment.failure.is_(None))
        building = await db.scalar(sa.select(sa.func.count()).select_from(Environment).where(made)) or 0
    room = waiting < section.queue_limit + section.total_limit
    checks = [
        {"service": "JupyterHub API", "ok": True},
        {
            "service": "Sessions",
            "ok": room,
            "total": seated,
            "quota": section.total_limit,
            "waiting": waiting,
        },
        {"service": "Builds", "ok": True, "total": building, "quota": section.build_limit},
    ]
    ok = all(check["ok"] for check in checks)
    return web.json_response(
        {"ok": ok, "checks": checks}, status=200 if ok else 503, headers={"Cache-Control": "no-store"}
    )
