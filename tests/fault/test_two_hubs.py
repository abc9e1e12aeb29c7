"""Two hubs on one PostgreSQL: either does the other's work, at once when it can, after the lease when it must.

`resync_s` is so long that a wish that is acted upon in time was heard through LISTEN/NOTIFY and by nothing else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from component.proxy.parts import RunningProxy, raw_target, read_head, running, until_closed
from component.proxy.test_proxy_limits import switching
from hubs import PASSWORD, Client, Hub
from replicas import Site, two_hubs
from support import eventually
from witness import nothing_lost

pytestmark = pytest.mark.postgres

CONFIG = "[servers]\nresync_s = 3600\nlease_s = 3\nslow_start_s = 0\n[spawner]\nconcurrent_steps = 1\n"
PEOPLE = 4


@pytest.fixture
async def site(tmp_path: Path, postgres_database: str) -> AsyncIterator[Site]:
    async with two_hubs(tmp_path / "s", postgres_database, CONFIG) as made:
        yield made


async def _people(hub: Client) -> list[str]:
    names = [f"u{number}" for number in range(PEOPLE)]
    assert (await hub.call("POST", "/users", json={"usernames": names}))[0] == 201
    return names


async def _ready(site: Site, user: str) -> bool:
    return bool((await site.to_second.server(user))["ready"])


async def test_a_wish_written_at_a_stuck_hub_is_heard_and_done_by_the_other(site: Site) -> None:
    # The first hub serves requests, but hangs for ever in its first claim: that one is taken over when its lease
    # ends, and all later ones are the second's, which has nothing but the notification to know of them.
    await site.first.start(env={"HIMALIA_FAULT": "claim.after_commit:hang"})
    await site.second.start()
    names = await _people(site.to_second)
    for user in names:
        status, _ = await site.to_first.call("POST", f"/users/{user}/server")
        assert status in (201, 202)
        await eventually(
            lambda name=user: _ready(site, name), within_s=60, what=f"{user}: {site.second.said()}"
        )
        status, answer = await site.proxied.call("GET", f"/users/{user}/server")
        assert (status, answer["ready"]) == (200, True)
    assert site.second.worked == names
    assert site.first.worked == []
    await nothing_lost(site.to_second, site.first, site.second, others=[site.to_first, site.proxied])


async def test_a_hub_killed_in_a_start_is_overtaken_when_its_lease_ends_and_one_process_serves(
    site: Site,
) -> None:
    # The second hub starts when the first is dead: before, it would be luck which of the two does the step.
    await site.first.start(env={"HIMALIA_FAULT": "spawner.after_fork:exit137"})
    process = site.first.process
    assert process is not None
    user = (await _people(site.to_first))[0]
    with suppress(aiohttp.ClientError):
        await site.to_first.call("POST", f"/users/{user}/server")
    await eventually(lambda: process.poll() == 137, within_s=60, what=site.first.said())

    await site.second.start()
    await eventually(lambda: _ready(site, user), within_s=60, what=site.second.said())
    assert len(site.second.processes()) == 1
    # The default route was the dead hub's, perhaps: its successor takes it over, and people come in again.
    await eventually(lambda: _comes_in(site), within_s=30)
    await nothing_lost(site.to_second, site.second, others=[site.to_first])


async def _comes_in(site: Site) -> bool:
    with suppress(aiohttp.ClientError):
        return (await site.proxied.call("GET", "/user"))[0] == 200
    return False


async def test_who_is_put_out_at_one_hub_is_cut_at_the_proxy_that_follows_the_other_also_when_the_first_dies_of_it(
    tmp_path: Path, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(raw_target(switching))
        service = f"[[services]]\nname = 'echo'\nurl = '{target.url}'\napi_token = '{'7' * 32}'\n"
        made = two_hubs(tmp_path / "s", postgres_database, CONFIG.replace("[spawner]", service + "[spawner]"))
        site = await stack.enter_async_context(made)
        site.first.add_user("ann")
        await site.first.start()
        await site.second.start(env={"HIMALIA_FAULT": "cut.after_commit:exit137"})
        monkeypatch.setenv("HIMALIA_HUB_TOKEN", site.first.token("root"))
        for at, other, put_out in (
            (site.first, site.second, _sign_out),
            (site.second, site.first, _suspend),
        ):
            follow = running(tmp_path, "--follow-hub", f"{other.url}/hub/api")
            async with follow as proxy, _browser(at, "ann") as session:
                cookie = session.cookie_jar.filter_cookies(URL(at.url))["jupyterhub-session-id"].value
                reader, writer = await eventually(lambda p=proxy, c=cookie: _opened(p, c), within_s=30)
                await put_out(session, at, site.to_first if at is site.first else site.to_second)
                async with asyncio.timeout(5):
                    assert await until_closed(reader) == b""
                writer.close()
        await nothing_lost(site.to_first, site.first, others=[site.to_second, site.proxied])


async def _opened(
    proxy: RunningProxy, cookie: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """A WebSocket through this proxy, once it knows the service's route."""
    reader, writer = await proxy.connect()
    writer.write(
        b"GET /services/echo/ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Cookie: jupyterhub-session-id=%s\r\n\r\n" % cookie.encode()
    )
    if b" 101 " in await read_head(reader):
        return reader, writer
    writer.close()
    return None


@asynccontextmanager
async def _browser(hub: Hub, name: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Signed in at this hub."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        async with session.get(f"{hub.url}/hub/login") as page:
            found = re.search(r'name="_xsrf" value="([^"]+)"', await page.text())
        assert found
        form = {"_xsrf": found[1], "username": name, "password": PASSWORD}
        async with session.post(f"{hub.url}/hub/login", data=form, allow_redirects=False) as answer:
            assert answer.status == 302, await answer.text()
        yield session


async def _sign_out(session: aiohttp.ClientSession, hub: Hub, _: Client) -> None:
    async with session.get(f"{hub.url}/hub/logout", allow_redirects=False) as answer:
        assert answer.status == 302


async def _suspend(_session: aiohttp.ClientSession, hub: Hub, root: Client) -> None:
    """The hub dies between the end of the person's sign-in and its cut."""
    with suppress(aiohttp.ClientError):
        await root.call("PUT", "/users/ann/suspension")
    assert await hub.died() == 137
