"""A stream that was opened by right ends with the right."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from component.hub.hub_site import Client, Site, site
from component.hub.test_followed_table import Remembering
from himalia_hub import clock
from himalia_hub.pages import streaming
from himalia_hub.rbac import still
from himalia_hub.routes.feed import Feed
from himalia_hub.servers import store as servers
from himalia_hub.servers.state import Phase

WITHIN_S = 5.0


async def ends(stream: aiohttp.ClientResponse, end: Callable[[], Awaitable[object]]) -> None:
    """It is open, and after `end` it is not."""
    assert stream.status == 200, await stream.text()
    assert await stream.content.readline()
    await end()
    async with asyncio.timeout(WITHIN_S):
        await stream.content.read()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    assert still.EVERY_S + 1 <= WITHIN_S
    assert streaming.LOOK_S + 1 <= WITHIN_S
    monkeypatch.setattr(still, "EVERY_S", 0.05)
    monkeypatch.setattr(streaming, "LOOK_S", 0.05)


async def test_the_story_of_a_start_the_proxies_table_and_the_pages_news_end_for_who_may_not_read_them_any_more(
    tmp_path: Path,
) -> None:
    async with site(tmp_path, proxy_client=Feed(Remembering())) as hub:
        ann = await hub.person("ann")
        server = await hub.server(ann, phase=Phase.STARTING)
        async with hub.db.begin() as db:
            servers.add_event(db, server, "info", 50, "half way", now=clock.now())
        root = await hub.token(await hub.person("root", admin=True))
        async with hub.client(root) as admin, hub.client() as browser:
            await browser.login("ann")
            await the_services_stream_ends(hub, admin, "/hub/api/proxy/follow", "proxy")
            await the_services_stream_ends(hub, admin, "/hub/api/users/ann/server/progress", "read:servers")
            page = await browser("GET", "/hub/home")
            news = await browser.session.get(f"/hub/home/events?_xsrf={page.xsrf}&at=x")

            async def suspended() -> None:
                assert (await admin("PUT", "/hub/api/users/ann/suspension")).status == 204

            await ends(news, suspended)


async def the_services_stream_ends(hub: Site, admin: Client, path: str, scope: str) -> None:
    """It is a service that follows, by a role that is taken from it."""
    secret, its = "the token of the follower", {"services": ["follower"]}
    await admin("POST", "/hub/api/services/follower", json={"api_token": secret})
    await admin("PUT", "/hub/api/roles/following", json={"scopes": [scope]})
    await admin("POST", "/hub/api/roles/following/members", json=its)

    async def taken() -> None:
        assert (await admin("DELETE", "/hub/api/roles/following/members", json=its)).status == 200

    async with hub.client(secret) as follower, follower.session.get(path) as stream:
        await ends(stream, taken)
