"""The administrators' pages: the list of people and servers, and what is done from it."""

from __future__ import annotations

from aiohttp import web


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    from himalia_hub.pages.admin import (
        act,
        audit,
        columns,
        grouping,
        health,
        links,
        listpage,
        logs,
        notices,
        people,
        quotas,
        roles,
        signups,
        spent,
        stream,
    )

    return [
        *listpage.routes(prefix),
        *act.routes(prefix),
        *columns.routes(prefix),
        *stream.routes(prefix),
        *people.routes(prefix),
        *signups.routes(prefix),
        *grouping.routes(prefix),
        *notices.routes(prefix),
        *quotas.routes(prefix),
        *roles.routes(prefix),
        *spent.routes(prefix),
        *links.routes(prefix),
        *audit.routes(prefix),
        *health.routes(prefix),
        *logs.routes(prefix),
    ]
