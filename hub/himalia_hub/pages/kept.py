"""A page that is drawn and packed once for all who would see the same, until anything is committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any

from aiohttp import web

from himalia_hub import clock
from himalia_hub.auth.xsrf import masked, xsrf_token
from himalia_hub.keys import MEMO, SETTINGS
from himalia_hub.languages import spoken
from himalia_hub.notices import board
from himalia_hub.pages.packing import Packed
from himalia_hub.pages.render import as_page, render
from himalia_hub.secrets import mint

OLD_S = 10
"""A kept page's "3 min ago" is at most so much behind; our script writes it anew every now and then anyway."""
HOLE = mint(24)
"""Stands for the token of forms. Of this process alone, so nothing that people wrote can be taken for it."""


async def kept_page(
    request: web.Request,
    template: str,
    seen_by: Hashable,
    context: Callable[[], Awaitable[Mapping[str, Any]]],
) -> web.Response:
    """A template as an HTML answer, as `render.page` gives it, packed where the browser takes that.

    `context()` is asked only where nothing is kept, and follows from rows, the address, the language, the time within
    OLD_S and `seen_by`, which must name all else: who looks, with what rights.
    """
    announcements = tuple(await board.shown_if_readable(request.app))

    async def draw() -> Packed:
        about = {**await context(), "announcements": announcements, "xsrf": HOLE}
        return Packed.of(render(request, template, about), HOLE)

    if request.app[SETTINGS].pages.template_paths:
        drawn = await draw()  # a site's own templates may show anything, such as the request's id
    else:
        moment = int(clock.now().timestamp()) // OLD_S
        key = (template, request.path_qs, spoken().tag, announcements, moment, seen_by)
        drawn = await request.app[MEMO].get(key, draw)
    token = masked(xsrf_token(request))
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        return as_page(request, drawn.filled(token))
    response = as_page(request, drawn.filled_and_packed(token))
    response.headers["Content-Encoding"] = "gzip"
    return response
