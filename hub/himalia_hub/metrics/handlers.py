"""`metrics`: the figures of this hub, for Prometheus; and the two that are taken all the time."""

from __future__ import annotations

import asyncio
import time
from typing import NoReturn

import sqlalchemy as sa
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from himalia_hub import clock
from himalia_hub.keys import DB, FIGURES
from himalia_hub.metrics.figures import PERIODS, Figures
from himalia_hub.rbac.guard import scoped
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Phase
from himalia_hub.users.models import User

TICK_S = 0.1


def routes(prefix: str) -> list[web.RouteDef]:
    """Beside the pages and under the API, as JupyterHub has it."""
    return [web.get(prefix + "metrics", get_metrics), web.get(prefix + "api/metrics", get_metrics)]


@scoped("read:metrics", tokens=True, unless=lambda settings: settings.hub.open_metrics)
async def get_metrics(request: web.Request) -> web.Response:
    """200 text format 0.0.4. People and servers are counted now; the rest is what this replica saw."""
    figures, now = request.app[FIGURES], clock.now()
    counts = [
        sa.select(sa.func.count()).select_from(Server).where(Server.phase == Phase.READY).scalar_subquery(),
        sa.select(sa.func.count()).select_from(User).scalar_subquery(),
        *(
            sa.select(sa.func.count())
            .select_from(User)
            .where(User.last_activity >= now - period)
            .scalar_subquery()
            for period in PERIODS.values()
        ),
    ]
    async with request.app[DB].read() as db:
        running, people, *active = (await db.execute(sa.select(*counts))).one()
    figures.running.set(running)
    figures.users.set(people)
    for name, count in zip(PERIODS, active, strict=True):
        figures.active.labels(name).set(count)
    body = generate_latest(figures.registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


async def tick(figures: Figures) -> NoReturn:
    """Measure how late the event loop is, until cancelled."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(TICK_S)
        figures.ticks.observe(time.perf_counter() - began)
