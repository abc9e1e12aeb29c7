"""One open answer of server-sent events: what a viewer may see of what `live.py` found, at most four times a second."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.auth import cookies
from himalia_hub.keys import DB, MEMO, SETTINGS
from himalia_hub.notices import board
from himalia_hub.notices.notice import Notice
from himalia_hub.pages.live import LIVE, PAUSE_S, Change, sse
from himalia_hub.pages.render import moment_of_rows, render
from himalia_hub.rbac.identity import Identity, from_logins
from himalia_hub.rbac.resolve import resolve
from himalia_hub.secrets import hash_token

BEAT_S = 8.0
"""A page that hears nothing for three of these takes the line for dead."""
LOOK_S = 4.0
"""Between two looks at who watches, where nothing happens that they would be told."""

RETRY_MS = (500, 2500)
"""When a page comes back whose line was cut: hundreds that lost it together come one after the other."""

Draw = Callable[[Identity, list[Change] | None, Hashable], Awaitable[str]]
"""Makes the events for these changes; None stands for "anything may have changed". The third names them within a round,
for what is drawn once for several viewers (`Live.once`).
"""


async def stream(request: web.Request, draw: Draw) -> web.StreamResponse:
    """200 `text/event-stream`: `hello` once, then what `draw` makes, `banner` when another thing is announced,
    `beat` in between, `out` when signed out.

    The rights are looked up anew before each event, and every LOOK_S: so soon shows a right taken away, or a sign-in
    ended.
    """
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    try:
        await response.prepare(request)
        login = hash_token(cookies.login_secret(request) or "")
        async with request.app[LIVE].watching(login):
            async for text in _events(request, login, draw):
                await response.write(text.encode())
        await response.write_eof()
    except (ConnectionResetError, asyncio.CancelledError):
        if asyncio.current_task() and asyncio.current_task().cancelling():  # type: ignore[union-attr]
            raise
    return response


async def _events(request: web.Request, login: str, draw: Draw) -> AsyncIterator[str]:
    live = request.app[LIVE]
    last = request.headers.get("Last-Event-ID") or request.query.get("after", "")
    here, rev = live.event_id, live.rev
    missed, span = live.since(last) if last else await _since_page(request), (last, here)
    said: list[Notice] | None = None
    quiet_s = 0.0
    yield f"retry: {random.randint(*RETRY_MS)}\n" + sse("hello", "", here)  # noqa: S311
    while not live.closing:
        identity = await _who(request, login)
        if identity is None:
            yield sse("out", "")
            return
        if (news := await board.shown_if_readable(request.app)) != said:
            yield sse("banner", render(request, "fragment_notices.html", {"announcements": news}))
            said = news
        if missed is None or missed:
            text = await draw(identity, missed, span)
            if text:
                yield text + sse("beat", "", here)
            await asyncio.sleep(PAUSE_S)
        await live.later(rev, at_most_s=LOOK_S)
        quiet_s += LOOK_S
        before, here, rev = here, live.event_id, live.rev
        missed, span = live.since(before), (before, here)
        if missed is None or missed:
            quiet_s = 0.0
        elif before != here or quiet_s >= BEAT_S:
            quiet_s = 0.0
            yield sse("beat", "", here)


async def _who(request: web.Request, login: str) -> Identity | None:
    """Who watches now: asked for all open streams at once, whenever anything was committed."""
    live, rules, now = request.app[LIVE], request.app[SETTINGS].rules, clock.now()
    asked = tuple(live.logins)

    async def read(db: AsyncSession) -> dict[str, Identity | None]:
        found = await from_logins(db, asked, rules, now=now)
        return {one: found.get(one) for one in asked}

    everybody = await request.app[MEMO].get("watchers", lambda: request.app[DB].read_in_one(read))
    found = everybody.get(login)
    if login in everybody and (found is None or found.ends is None or found.ends > now):
        return found
    return await resolve(request, tokens_too=False)


async def _since_page(request: web.Request) -> list[Change] | None:
    """Nothing when the rows are still those of which the page was drawn (`at`); else anything."""
    return [] if request.query.get("at") == await moment_of_rows(request) else None
