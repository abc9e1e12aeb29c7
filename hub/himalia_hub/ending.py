"""Ending the hub over the API, as JupyterHub's administrators can."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from aiohttp import web

from himalia_hub.rbac.guard import scoped
from himalia_hub.schemas import Body, read, takes

log = structlog.get_logger()


@dataclass(slots=True)
class Ending:
    """The wish that this hub ends. What is None is as it would be at Ctrl-C. `lost` is a file without which it cannot
    go on.
    """

    wished: asyncio.Event = field(default_factory=asyncio.Event)
    servers: bool | None = None
    proxy: bool | None = None
    lost: Path | None = None


ENDING: web.AppKey[Ending] = web.AppKey("ending")


class Shutdown(Body):
    """POST /shutdown: whether people's servers and the proxy are ended too."""

    servers: bool | None = None
    proxy: bool | None = None


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.post(prefix + "api/shutdown", shutdown)]


@scoped("shutdown")
@takes(Shutdown)
async def shutdown(request: web.Request) -> web.Response:
    """202, then this hub ends; of several only this one. A supervisor may start it again."""
    body, ending = await read(request, Shutdown), request.app[ENDING]
    ending.servers, ending.proxy = body.servers, body.proxy
    ending.wished.set()
    log.warning("hub.shutdown_asked", servers=body.servers, proxy=body.proxy)
    return web.json_response({"message": "Shutting down Hub"}, status=202)
