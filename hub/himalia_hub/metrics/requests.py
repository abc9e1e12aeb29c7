"""Counting a request once it is answered."""

from __future__ import annotations

from aiohttp import web

from himalia_hub.keys import FIGURES

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SIGN_IN, SIGN_OUT = "himalia_hub.auth.login.login", "himalia_hub.auth.login.logout"


def count(request: web.Request, status: int, seconds: float) -> None:
    """Under the name of the function that answered; a path that nobody answers is `unknown`."""
    figures, name = request.app[FIGURES], _name(request)
    method = request.method if request.method in METHODS else "other"  # anybody may make a word up
    figures.requests.labels(method, name, str(status)).observe(seconds)
    if name == SIGN_IN:
        figures.logins.labels("success" if status < 400 else "failure").observe(seconds)
    elif name == SIGN_OUT:
        figures.logouts.observe(seconds)


def _name(request: web.Request) -> str:
    route = request.match_info.route
    if route.resource is None:
        return "unknown"
    return f"{route.handler.__module__}.{getattr(route.handler, '__qualname__', '?')}"
