"""Out means out: what has to happen besides deleting the rows of a sign-in."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from aiohttp import web

from himalia_hub.keys import PROXY
from himalia_proxy.base import CutsTunnels, ProxyError

log = structlog.get_logger()


async def cut(request: web.Request, session_ids: Iterable[str]) -> None:
    """Have the proxy cut the open WebSockets of these browser sign-ins. Called after their rows are gone.

    A proxy that cannot be asked is logged: the rows are gone in any case, and nothing new opens.
    """
    proxy = request.app.get(PROXY)
    if not isinstance(proxy, CutsTunnels):
        return
    for session_id in session_ids:
        try:
            count = await proxy.cut(session_id)
        except ProxyError as error:
            log.warning("tunnels.not_cut", cause=str(error))
        else:
            log.info("tunnels.cut", count=count)
