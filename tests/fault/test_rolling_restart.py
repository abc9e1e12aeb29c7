"""Two hubs on one PostgreSQL are restarted one after the other while people sign in and start: nobody notices.

A client here never tries again: whatever answer is no answer of the hub, or a refusal, is a failure.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from replicas import Replica, Site, two_hubs
from support import eventually
from witness import nothing_lost

pytestmark = pytest.mark.postgres

WORD = "a word for all of us"
CONFIG = f"[auth.methods.all]\nkind = 'shared-password'\npassword = '{WORD}'\nallow_all = true\n"
PEOPLE = 6


@dataclass
class Load:
    """People who come through the proxy, one request after the other, until told to stop."""

    site: Site
    over: asyncio.Event = field(default_factory=asyncio.Event)
    signed_in: int = 0
    started: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)

    async def sign_in_and_out(self, name: str) -> None:
        """The form, the password, and home: a new session each time."""
        url = f"{self.site.proxied.hub.url}/hub"
        while not self.over.is_set():
            jar, connector = aiohttp.CookieJar(unsafe=True), aiohttp.TCPConnector(force_close=True)
            try:
                async with aiohttp.ClientSession(cookie_jar=jar, connector=connector) as browser:
                    async with browser.get(f"{url}/login") as form:
                        found = re.search(r'name="_xsrf" value="([^"]+)"', await form.text())
                    assert found, f"GET /login: {form.status}"
                    fields = {"_xsrf": found.group(1), "method": "all", "username": name, "password": WORD}
                    async with browser.post(f"{url}/login?next=/hub/token", data=fields) as page:
                        assert (page.status, page.url.path) == (200, "/hub/token"), await page.text()
                self.signed_in += 1
            except (aiohttp.ClientError, AssertionError) as error:
                self.failed.append(f"{name} signs in: {error!r}")
                return

    async def start_and_read(self, name: str) -> None:
        """A start, then its row again and again."""
        try:
            status, answer = await self.site.proxied.call("POST", f"/users/{name}/server")
            assert status in (201, 202), answer
            self.started.add(name)
            while not self.over.is_set():
                await self.site.proxied.server(name)
        except (aiohttp.ClientError, AssertionError) as error:
            self.failed.append(f"{name} starts: {error!r}")


@pytest.fixture
async def site(tmp_path: Path, postgres_database: str) -> AsyncIterator[Site]:
    async with two_hubs(tmp_path / "s", postgres_database, CONFIG) as made:
        yield made


async def test_a_rolling_restart_fails_no_request_and_loses_no_start(site: Site) -> None:
    await site.first.start()
    await site.second.start()
    names = [f"u{number}" for number in range(PEOPLE)]
    assert (await site.proxied.call("POST", "/users", json={"usernames": names}))[0] == 201
    load = Load(site)
    visitors = [asyncio.create_task(load.sign_in_and_out(f"v{number}")) for number in range(2)]
    try:
        for hub, some in ((site.first, names[::2]), (site.second, names[1::2])):
            await eventually(lambda hub=hub: _all_come_by(site, hub), within_s=30, what=hub.url)
            visitors += [asyncio.create_task(load.start_and_read(name)) for name in some]
            await eventually(lambda some=some: _asked_for(site, some[0]), within_s=30, what=some[0])
            await _restarted_under(load, hub)
    finally:
        load.over.set()
        await asyncio.gather(*visitors)
    assert load.failed == []
    assert load.started == set(names)
    for name in names:
        await eventually(lambda name=name: _ready(site, name), within_s=60, what=name)
    await nothing_lost(site.proxied, site.first, site.second)


async def _restarted_under(load: Load, hub: Replica) -> None:
    """Ended and started again, with sign-ins in between and after."""
    for step in (hub.stop, hub.start):
        before = load.signed_in
        await step()
        await eventually(lambda before=before: load.signed_in > before or load.failed, within_s=60)


async def _all_come_by(site: Site, hub: Replica) -> bool:
    status, routes = await site.proxied.call("GET", "/proxy")
    assert status == 200, routes
    return bool(routes["/"]["target"] == hub.url)


async def _asked_for(site: Site, name: str) -> bool:
    return (await site.proxied.call("GET", f"/users/{name}/server"))[0] == 200


async def _ready(site: Site, name: str) -> bool:
    return bool((await site.proxied.server(name))["ready"])
