"""The web pages: handlers that render templates, and the assets those need."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web


def routes(prefix: str, base_url: str) -> list[web.RouteDef]:
    """Every page; register them after the API, for the last ones match any path."""
    # Imported late: the sign-in pages import `pages.render`, and some pages below import what sign-in offers.
    from himalia_hub.pages import (
        admin,
        assets,
        beside,
        home,
        pending,
        redirects,
        share,
        spawn,
        tokens,
        user_url,
    )

    return [
        *assets.routes(prefix),
        *home.routes(prefix),
        *share.routes(prefix),
        *tokens.routes(prefix),
        *spawn.routes(prefix),
        *pending.routes(prefix),
        *admin.routes(prefix),
        *user_url.routes(prefix),
        *beside.routes(prefix),
        *redirects.routes(prefix, base_url),
    ]
