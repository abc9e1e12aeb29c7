"""A guest comes by a link into somebody's server, by the hub's OAuth, and is out again within five seconds of the end."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

import official
from hubs import PASSWORD, Client, Hub, Launch
from support import eventually

SHARERS = "[[roles]]\nname = 'user'\nscopes = ['self', 'shares!user', 'list:users']\n"
OFFICIAL = [official.singleuser(), "--allow-root", "--HubOAuth.cache_max_age=3"]
SERVERS = {"ours": "", "official": f"[spawner]\ncommand = {json.dumps(OFFICIAL)}\n"}
WITHIN_S = 5.0

pytestmark = pytest.mark.timeout(180)


def xsrf_of(text: str) -> str:
    found = re.search(r'name="_xsrf" value="([^"]*)"', text)
    assert found, text[:2000]
    return found[1]


@asynccontextmanager
async def browser_of(hub: Hub, name: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        async with session.get(f"{hub.url}/hub/login") as page:
            form = {"username": name, "password": PASSWORD, "_xsrf": xsrf_of(await page.text())}
        async with session.post(f"{hub.url}/hub/login", data=form) as answer:
            assert answer.url.path == "/hub/home", await answer.text()
        yield session


async def ready(admin: Client) -> bool:
    return bool((await admin.server("ann"))["ready"])


async def shared(hub: Hub, admin: Client) -> str:
    """ann's server runs; the link with which she shares it."""
    hub.add_user("ann")
    hub.add_user("bob")
    assert (await admin.call("POST", "/users/ann/server"))[0] in (201, 202)
    await eventually(lambda: ready(admin), within_s=60, what="ann's server is ready")
    status, code = await admin.call("POST", "/share-codes/ann/", json={})
    assert status == 200, code
    return hub.url + str(code["accept_url"])


async def enter(bob: aiohttp.ClientSession, link: str) -> None:
    """Accept, agree to be known there, and be in."""
    async with bob.get(link) as page:
        form = {"_xsrf": xsrf_of(await page.text()), "code": link.rpartition("=")[2]}
    async with bob.post(link, data=form) as question:
        text = await question.text()
        if question.url.path.startswith("/user/ann/"):
            return  # asked before
        assert question.url.path == "/hub/api/oauth2/authorize", text[:2000]
    agreed = [("_xsrf", xsrf_of(text)), ("scopes", "access:servers!server=ann/")]
    async with bob.post(question.url, data=agreed) as inside:
        assert (inside.status, inside.url.path.startswith("/user/ann/")) == (200, True), await inside.text()


async def is_in(session: aiohttp.ClientSession, hub: Hub) -> bool:
    async with session.get(f"{hub.url}/user/ann/api/contents", allow_redirects=False) as answer:
        return answer.status == 200


async def closes(socket: aiohttp.ClientWebSocketResponse) -> None:
    while (await socket.receive()).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
        pass


async def revoke(hub: Hub, admin: Client) -> None:
    """The share ends."""
    assert (await admin.call("PATCH", "/shares/ann/", json={"user": "bob"})) == (200, {})


async def sign_out_elsewhere(hub: Hub, admin: Client) -> None:
    """bob signs in with another browser, and ends all sign-ins but that one."""
    async with browser_of(hub, "bob") as other, other.get(f"{hub.url}/hub/account") as page:
        form = {"_xsrf": xsrf_of(await page.text()), "login": "others"}
        async with other.post(f"{hub.url}/hub/account/sign-out", data=form) as done:
            assert done.status == 200


async def suspend(hub: Hub, admin: Client) -> None:
    """An administrator suspends bob, and lets him come back afterwards."""
    assert (await admin.call("PUT", "/users/bob/suspension"))[0] == 204


async def is_soon_out(
    session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, hub: Hub
) -> None:
    began = time.monotonic()
    async with asyncio.timeout(WITHIN_S):
        await closes(socket)

    async def is_out() -> bool:
        return not await is_in(session, hub)

    await eventually(is_out, within_s=began + WITHIN_S - time.monotonic(), what="requests are refused")


async def token_is_in_and_out(hub: Hub, admin: Client) -> None:
    """bob's program opens a WebSocket with a token, which is revoked."""
    assert (await admin.call("POST", "/shares/ann/", json={"user": "bob"}))[0] == 200
    _, token = await admin.call("POST", "/users/bob/tokens", json={"scopes": ["access:servers!server=ann/"]})
    async with aiohttp.ClientSession(headers={"Authorization": f"token {token['token']}"}) as script:
        assert await is_in(script, hub)
        async with script.ws_connect(f"{hub.url}/user/ann/api/events/subscribe") as socket:
            assert (await admin.call("DELETE", f"/users/bob/tokens/{token['id']}"))[0] == 204
            await is_soon_out(script, socket, hub)
    await revoke(hub, admin)


@pytest.mark.parametrize(
    ("server", "ends"), [("ours", (revoke, sign_out_elsewhere, suspend)), ("official", (revoke,))]
)
async def test_a_guest_is_in_by_a_link_and_a_program_by_a_token_and_out_within_five_seconds(
    launch: Launch, server: str, ends: tuple[Callable[[Hub, Client], Awaitable[None]], ...]
) -> None:
    hub, admin = await launch(SHARERS + SERVERS[server])
    link = await shared(hub, admin)
    await token_is_in_and_out(hub, admin)
    for end in ends:
        async with browser_of(hub, "bob") as bob:
            await enter(bob, link)
            assert await is_in(bob, hub)
            async with bob.ws_connect(f"{hub.url}/user/ann/api/events/subscribe") as socket:
                await end(hub, admin)
                await is_soon_out(bob, socket, hub)
