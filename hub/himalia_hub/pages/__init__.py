"""The web pages: handlers that render templates, and the assets those need."""

from __future__ import annotations

from aiohttp import web


def routes(prefix: str, base_url: str) -> list[web.RouteDef]:
    """Every page; register them after the API, for the last ones match any path."""
    # Imported late: the sign-in pages import `pages.render`, and some pages below import what sign-in offers.
    from himalia_hub.pages import admin, assets, home, pending, redirects, spawn, user_url

    table: list[web.RouteDef] = []
    for feature in (assets, home, spawn, pending, admin, user_url):
        table += feature.routes(prefix)
    return table + redirects.routes(prefix, base_url)
