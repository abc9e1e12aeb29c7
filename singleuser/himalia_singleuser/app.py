"""The only place where the parts are joined."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from functools import cache

from aiohttp import BaseConnector, ClientSession, DummyCookieJar, TCPConnector, UnixConnector, web
from aiohttp.web_urldispatcher import UrlDispatcher

from himalia_singleuser import activity, convert, metrics, middleware, status, status_bar
from himalia_singleuser.auth import handlers as auth
from himalia_singleuser.auth.keys import AUTH, make_auth
from himalia_singleuser.contents import handlers as contents
from himalia_singleuser.events import handlers as events
from himalia_singleuser.files import handlers as files
from himalia_singleuser.frontend import handlers as frontend
from himalia_singleuser.hub import HubClient
from himalia_singleuser.keeper import keeping
from himalia_singleuser.kernels import handlers as kernels
from himalia_singleuser.keys import ACTIVITY, SETTINGS, SHUTDOWN, SOCKETS, Activity
from himalia_singleuser.lsp import handlers as lsp
from himalia_singleuser.prefix import BelowPrefix
from himalia_singleuser.recorder import recorder, takeover
from himalia_singleuser.sessions import handlers as sessions
from himalia_singleuser.settings import HubSettings, Settings
from himalia_singleuser.terminals import handlers as terminals

LARGEST_BODY = 1024 * 2**20
"""A whole notebook travels in one request; files come in chunks of a megabyte."""

Lifetime = Callable[[web.Application], AsyncIterator[None]]

FEATURES = (
    *(auth, status, metrics, events, contents, files, recorder, kernels, sessions, takeover, keeping),
    *(terminals, lsp, convert, frontend, status_bar),
)


def make_app(settings: Settings) -> web.Application:
    """The application of one person's server; nothing runs before it is started."""
    app = web.Application(middlewares=middleware.MIDDLEWARES, client_max_size=LARGEST_BODY)
    app[SETTINGS] = settings
    app[ACTIVITY] = Activity()
    app[SOCKETS] = set()
    app[SHUTDOWN] = []
    app.on_response_prepare.append(middleware.add_headers)
    app.router.register_resource(BelowPrefix(settings.base_url, route_table()))
    app.cleanup_ctx.extend([open_auth, *lifetimes(), *activity.lifetimes])
    return app


def lifetimes() -> list[Lifetime]:
    """What lives as long as the server, in the order of the features."""
    return [lifetime for feature in FEATURES for lifetime in getattr(feature, "lifetimes", [])]


@cache
def route_table() -> UrlDispatcher:
    """The routes of all features, one table for all applications of this process and of those forked from it."""
    table = UrlDispatcher()
    table.add_routes(all_routes())
    table.freeze()
    return table


def all_routes() -> list[web.RouteDef]:
    """What the features offer, below the base URL."""
    return [route for feature in FEATURES for route in feature.routes]


def hub_connector(hub: HubSettings) -> BaseConnector:
    """To the hub's socket or address. With https: by the authorities that the system knows, read here (`lean`)."""
    if hub.api_socket:
        return UnixConnector(hub.api_socket)
    is_https = hub.api_url.startswith("https:")
    return TCPConnector(ssl=ssl.create_default_context() if is_https else True)


async def open_auth(app: web.Application) -> AsyncIterator[None]:
    """The connection to the hub, if there is one, and the keys of the cookies."""
    settings = app[SETTINGS]
    if settings.hub is None:
        app[AUTH] = make_auth(settings, None)
        yield
        return
    async with ClientSession(cookie_jar=DummyCookieJar(), connector=hub_connector(settings.hub)) as session:
        app[AUTH] = make_auth(settings, HubClient(settings.hub, session))
        yield
