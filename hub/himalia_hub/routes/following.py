"""Where further proxies follow the table: a stream of it, and what they say in return."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from himalia_hub.errors import NotFound, Unavailable
from himalia_hub.keys import PROXY, SETTINGS
from himalia_hub.rbac.guard import scoped
from himalia_hub.rbac.still import Still
from himalia_hub.routes.feed import Feed
from himalia_hub.schemas import Body, read, takes
from himalia_proxy.base import ProxyError

KEEP_ALIVE_S: Final = 8.0


class Done(Body):
    """What was asked for under that number is done; it cut so many tunnels."""

    n: int
    cut: int = Field(0, ge=0)


class Report(Body):
    """POST /proxy/followers/{id}: what is done, and which routes were used (path → seconds since the epoch)."""

    done: list[Done] = Field(default_factory=list)
    activity: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "api/proxy/follow", follow),
        web.post(prefix + "api/proxy/followers/{id}", report),
    ]


async def end_streams(app: web.Application) -> None:
    """Let followers go to another hub, or to this one once it is started again."""
    if isinstance(app[PROXY], Feed):
        app[PROXY].dismiss()  # type: ignore[attr-defined]


@scoped("proxy")
async def follow(request: web.Request) -> web.StreamResponse:
    """200 `text/event-stream`: `{"report": id}`, then `{"table": {path: route}}`, then `{"change": …, "n": number}` as
    it happens. With a `Last-Event-ID` of this hub's, what changed since instead of the table. It ends when
    the token does, or has the scope no more. 503 if the proxy cannot be asked.
    """
    feed = _feed(request)
    try:
        follower = await feed.join(request.headers.get("Last-Event-ID", ""))
    except ProxyError as error:
        raise Unavailable(f"the proxy cannot be asked: {error}", remedy="see its log") from None
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    )
    every_s = request.app[SETTINGS].proxy.check_interval_s
    looked, still = time.monotonic(), Still(request)
    try:
        await response.prepare(request)
        while not follower.gone and await still.may():
            await response.write(await follower.next(min(KEEP_ALIVE_S, every_s, still.next_s)) or b":\n\n")
            if time.monotonic() - looked >= every_s:
                looked = time.monotonic()
                await _look(feed)
        await response.write_eof()
    except (ConnectionResetError, asyncio.CancelledError):
        if asyncio.current_task() and asyncio.current_task().cancelling():  # type: ignore[union-attr]
            raise
    finally:
        feed.leave(follower)
    return response


async def _look(feed: Feed) -> None:
    """See what other hubs did to the table; a proxy that is away is none of the follower's business."""
    try:
        await feed.routes()
    except ProxyError:
        return


@scoped("proxy")
@takes(Report)
async def report(request: web.Request) -> web.Response:
    """204; 404 for a follower whose stream is not here, or has ended."""
    body, feed = await read(request, Report), request.app[PROXY]
    follower = feed.find(request.match_info["id"]) if isinstance(feed, Feed) else None
    if follower is None or not isinstance(feed, Feed):
        raise NotFound("no proxy follows this hub under that name")
    feed.active(body.activity)
    for one in body.done:
        follower.answered(one.n, one.cut)
    return web.Response(status=204)


def _feed(request: web.Request) -> Feed:
    proxy = request.app[PROXY]
    if not isinstance(proxy, Feed):
        raise Unavailable("this hub's proxy cannot be followed")
    return proxy
