"""The proxy part of the REST API."""

from __future__ import annotations

from typing import Any

import structlog
from aiohttp import web

from himalia_hub import paging
from himalia_hub.audit.record import tell
from himalia_hub.errors import BadRequest, Unavailable
from himalia_hub.keys import PROXY, WORLD
from himalia_hub.rbac.guard import scoped
from himalia_hub.routes.schemas import OtherProxy
from himalia_hub.routes.sync import check
from himalia_hub.schemas import read, takes
from himalia_proxy.base import Moves, ProxyError, Route

log = structlog.get_logger()


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    path = prefix + "api/proxy"
    return [web.get(path, get_routes), web.post(path, check_routes), web.patch(path, change_proxy)]


@scoped("proxy")
@takes(query=("offset", "limit"))
async def get_routes(request: web.Request) -> web.Response:
    """200 the proxy's table, by page: routespec → `{routespec, target, data}`."""
    page = paging.asked_page(request)
    try:
        table = await request.app[PROXY].routes()
    except ProxyError as error:
        raise Unavailable(f"the proxy cannot be asked: {error}", remedy="see its log") from None
    shown = sorted(table)[page.offset : page.offset + page.limit]
    items = {
        spec: {"routespec": spec, "target": table[spec].target, "data": _shown(table[spec])} for spec in shown
    }
    body = paging.content(request, page, list(items), len(table))
    # Of this list alone the items are an object, with or without the envelope, as in JupyterHub.
    return web.json_response(body | {"items": items} if page.enveloped else items)


def _shown(route: Route) -> dict[str, Any]:
    """What a route is for. That it is ours, which is all the proxy is told by the mark, goes without saying here."""
    return {key: value for key, value in route.data.items() if key != "jupyterhub"}


@scoped("proxy")
async def check_routes(request: web.Request) -> web.Response:
    """200 once the table was compared with the rows, and repaired."""
    return await _check(request)


@scoped("proxy")
@takes(OtherProxy)
async def change_proxy(request: web.Request) -> web.Response:
    """200; this hub speaks to another proxy from now on, until it ends, and has filled its table. An empty object only
    compares the table, as in JupyterHub. 400, and nothing has changed, when none answers there.
    """
    body = await read(request, OtherProxy, needed=True)
    if body.api_url is None and body.auth_token is None:
        return await _check(request)
    proxy = request.app[PROXY]
    if not isinstance(proxy, Moves):
        raise Unavailable(
            "this hub's proxy cannot be exchanged while it runs", remedy="configure it: [proxy]"
        )
    try:
        await proxy.move(api_url=body.api_url, auth_token=body.auth_token)
    except ProxyError as error:
        raise BadRequest(f"no proxy answers there: {error}") from None
    tell(
        request,
        change={"after": {"api_url": body.api_url, "auth_token": "new" if body.auth_token else "kept"}},
    )
    log.info("proxy.moved", api_url=body.api_url)
    return await _check(request)


async def _check(request: web.Request) -> web.Response:
    try:
        await check(request.app[WORLD])
    except ProxyError as error:
        raise Unavailable(f"the proxy cannot be asked: {error}", remedy="see its log") from None
    return web.Response()
