"""The proxy part of the REST API."""

from __future__ import annotations

from aiohttp import web

from himalia_hub import paging
from himalia_hub.errors import Unavailable
from himalia_hub.keys import PROXY, WORLD
from himalia_hub.rbac.guard import scoped
from himalia_hub.routes.sync import check
from himalia_proxy.base import ProxyError


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + "api/proxy", get_routes), web.post(prefix + "api/proxy", check_routes)]


@scoped("proxy")
async def get_routes(request: web.Request) -> web.Response:
    """200 the proxy's table, by page: routespec → `{routespec, target, data}`."""
    page = paging.asked_page(request)
    try:
        table = await request.app[PROXY].routes()
    except ProxyError as error:
        raise Unavailable(f"the proxy cannot be asked: {error}", remedy="see its log") from None
    shown = sorted(table)[page.offset : page.offset + page.limit]
    items = {
        spec: {"routespec": spec, "target": table[spec].target, "data": dict(table[spec].data)}
        for spec in shown
    }
    body = paging.content(request, page, list(items), len(table))
    # Of this list alone the items are an object, with or without the envelope, as in JupyterHub.
    return web.json_response(body | {"items": items} if page.enveloped else items)


@scoped("proxy")
async def check_routes(request: web.Request) -> web.Response:
    """Compare the table with the rows now, and repair it. 200."""
    try:
        await check(request.app[WORLD])
    except ProxyError as error:
        raise Unavailable(f"the proxy cannot be asked: {error}", remedy="see its log") from None
    return web.Response()
