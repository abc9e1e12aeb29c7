"""With subdomains: requests at a person's, or a service's, host that no server there took, and so reached the hub.

The hub's pages live at the hub's own host alone: elsewhere they would be of the origin of code that people run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from aiohttp import web

from himalia_hub import domains
from himalia_hub.errors import NotFound, Unavailable
from himalia_hub.keys import DB, SETTINGS
from himalia_hub.pages.paths import redirect, with_query
from himalia_hub.pages.user_url import counted, is_program, not_running_there
from himalia_hub.rbac.guard import is_api, public
from himalia_hub.services import store as services
from himalia_hub.settings import HubSettings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + "services/{service}/{path:.*}", to_service)]


@web.middleware
async def lead_home(request: web.Request, handler: Handler) -> web.StreamResponse:
    """302 to the hub's own host for people; programs are told at once: 424 for a server, 404 for anything else.

    The REST API answers at every host: it goes by tokens there, for the hub's cookies are its own host's alone.
    """
    settings = request.app[SETTINGS]
    if not domains.is_beside(settings, request.host) or is_api(request):
        return await handler(request)
    kind, name, rest = _meant(settings, request.rel_url.raw_path)
    if request.method not in ("GET", "HEAD") or is_program(request, rest):
        if kind == "user":
            return not_running_there(settings, name)
        body = {"status": 404, "message": "nothing answers here", "code": "not-found"}
        return web.json_response(body, status=404, headers={"Cache-Control": "no-store"})
    home = with_query(settings.subdomain_host + "/" + request.rel_url.raw_path.lstrip("/\\"), request)
    return redirect(counted(home, request) if kind else home)


def _meant(settings: HubSettings, path: str) -> tuple[str, str, str]:
    """Whether a path is below `user` or `services`, whose, and what comes after."""
    kind, _, rest = path.removeprefix(settings.base_url).partition("/")
    name, _, rest = rest.partition("/")
    return (kind, unquote(name), rest) if kind in ("user", "services") else ("", "", path)


@public
async def to_service(request: web.Request) -> web.Response:
    """302 to the service's own host, where services have one; 404 for no service, 503 when it has no route there."""
    settings, name = request.app[SETTINGS], request.match_info["service"]
    async with request.app[DB].read() as db:
        service = await services.by_name(db, name)
    if service is None or not service.url or not settings.subdomain_host:
        raise NotFound("There is no such service.")
    if "redirects" in request.query:
        raise Unavailable(
            f"The service {name} is not reached at its address.", remedy="Try again in a moment."
        )
    path = request.rel_url.raw_path.removeprefix(settings.hub_prefix)
    return redirect(with_query(f"{domains.service_origin(settings, name)}{settings.base_url}{path}", request))
