"""A PostgreSQL that is away, slow, or does not say whether a commit was one: nothing is lost, nothing happens twice."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import sqlalchemy as sa

from hubs import Client, Hub, client
from line import Line
from support import eventually
from witness import nothing_lost

pytestmark = pytest.mark.postgres
SOCKET = ".s.PGSQL.5432"


@pytest.fixture
async def place(tmp_path: Path, postgres_database: str) -> AsyncIterator[tuple[Hub, Client, Line]]:
    """A hub with root and four people, whose every word to PostgreSQL goes over the line."""
    url = sa.make_url(postgres_database)
    with tempfile.TemporaryDirectory(prefix="line-", dir="/tmp") as folder:
        line = Line(f"{folder}/{SOCKET}", f"{url.query['host']}/{SOCKET}")
        await line.connect()
        ours = url.set(query={"host": folder}).render_as_string(hide_password=False)
        hub = Hub(tmp_path / "data", db_url=ours)
        try:
            await asyncio.to_thread(hub.add_user, "root", admin=True)
            async with client(hub, await asyncio.to_thread(hub.token, "root")) as admin:
                await hub.start()
                people = {"usernames": ["ann", "bob", "cleo", "dan"]}
                assert (await admin.call("POST", "/users", json=people))[0] == 201
                yield hub, admin, line
        finally:
            hub.clean_up()
            await line.cut()


async def answered(hub: Hub, path: str, **options: str) -> tuple[int, str]:
    """Status and `Retry-After` of a request through the proxy."""
    async with aiohttp.ClientSession() as session, session.get(hub.url + path, headers=options) as answer:
        await answer.read()
        return answer.status, answer.headers.get("Retry-After", "")


async def test_while_it_is_away_servers_go_on_and_the_hub_says_so_and_afterwards_all_is_as_before(
    place: tuple[Hub, Client, Line],
) -> None:
    hub, admin, line = place
    assert (await admin.call("POST", "/users/ann/server"))[0] in (201, 202)
    await admin.until_ready("ann")

    await line.cut()
    status, wait = await answered(hub, "/hub/api/users", Authorization=f"token {admin.token}")
    assert (status, bool(wait)) == (503, True)
    status, said = await admin.call("POST", "/users/bob/server")
    assert (status, "database" in said["message"]) == (503, True), said
    assert (await answered(hub, "/hub/health"))[0] == 200, "it is alive: nobody has to restart it"
    assert (await answered(hub, "/user/ann/api"))[0] == 200
    await eventually(lambda: "database.unreachable" in hub.said(), within_s=30)
    await line.connect()

    async def taken() -> bool:
        return (await admin.call("POST", "/users/bob/server"))[0] in (201, 202)

    await eventually(taken, within_s=60, what="a start is taken again")
    await admin.until_ready("bob")
    assert (await admin.server("ann"))["ready"]
    assert "Traceback" not in hub.said()
    await nothing_lost(admin, hub)


async def test_while_it_is_slow_everything_is_answered_and_what_needs_no_row_at_once(
    place: tuple[Hub, Client, Line],
) -> None:
    hub, admin, line = place
    line.slow_s = 1.0

    start = asyncio.create_task(admin.call("POST", "/users/ann/server"))
    assert (await answered(hub, "/hub/health"))[0] == 200
    assert not start.done(), "its answers take seconds"

    line.slow_s = 0.1
    assert (await start)[0] in (201, 202)
    await admin.until_ready("ann")
    assert (await answered(hub, "/hub/login"))[0] == 200
    assert (await admin.call("GET", "/users"))[0] == 200
    assert "server.step_failed" not in hub.said()
    await nothing_lost(admin, hub)


async def test_a_commit_whose_answer_is_lost_is_read_again_and_done_once(
    place: tuple[Hub, Client, Line],
) -> None:
    hub, admin, line = place
    for nth, name in enumerate(["ann", "bob", "cleo", "dan"], start=1):
        line.commits_left = nth

        status, said = await admin.call("POST", f"/users/{name}/server")

        assert status in (201, 202, 503), said
        await eventually(lambda: line.commits_left is None, within_s=60, what="an answer is lost")
        if status == 503:

            async def taken(name: str = name) -> bool:
                return (await admin.call("POST", f"/users/{name}/server"))[0] in (201, 202, 400)

            await eventually(taken, within_s=60, what="the start is taken, or was")
        await admin.until_ready(name)
        lives = [mark for mark in {mark for _, mark in hub.processes()} if f"/{name}-" in mark]
        assert len(lives) == 1, lives
    await nothing_lost(admin, hub)
