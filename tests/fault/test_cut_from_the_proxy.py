"""The hub cannot reach its proxy for a while: what is routed goes on, what is wished waits, and nothing ends for it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from hubs import Hub, client, free_port
from line import Line
from replicas import TOKEN, proxy
from support import eventually
from witness import nothing_lost


async def test_while_the_proxy_cannot_be_asked_routes_go_on_and_starts_wait_and_afterwards_all_are_there(
    tmp_path: Path,
) -> None:
    port = free_port()
    line = Line(port + 5, port + 1)
    where = f"start = false\napi_url = 'http://127.0.0.1:{port + 5}'\nauth_token = '{TOKEN}'\n"
    async with AsyncExitStack() as stack:
        hub = Hub(tmp_path / "data", port=port, config=where)
        stack.callback(hub.clean_up)
        await stack.enter_async_context(proxy(tmp_path, port))
        await line.connect()
        stack.push_async_callback(line.cut)
        hub.add_user("root", admin=True)
        admin = await stack.enter_async_context(client(hub, hub.token("root")))
        await hub.start()
        assert (await admin.call("POST", "/users", json={"usernames": ["ann", "bob"]}))[0] == 201
        assert (await admin.call("POST", "/users/ann/server"))[0] in (201, 202)
        await admin.until_ready("ann")
        (before,) = {mark for _, mark in hub.processes()}

        await line.cut()
        assert (await admin.call("POST", "/users/bob/server"))[0] in (201, 202)

        async def is_unknown() -> bool:
            waiting = await admin.server("bob")
            return (waiting["ready"], waiting["pending"]) == (False, "check")

        await eventually(is_unknown, what="the hub does not know what became of bob's route")
        assert "server.unknown" in hub.said()
        async with aiohttp.ClientSession() as session, session.get(f"{hub.url}/user/ann/api") as answer:
            assert answer.status == 200
        assert await is_unknown()

        await line.connect()
        await admin.until_ready("bob")
        await admin.until_ready("ann")
        lives = {mark for _, mark in hub.processes()}
        assert (before in lives, len(lives)) == (True, 2)
        assert "Traceback" not in hub.said()  # that a proxy is away is nobody's mistake
        await nothing_lost(admin, hub)
