"""Hub, nest or engine is killed with SIGKILL while twenty people start, and nobody's wish or process is lost.

After it nothing is lost by any witness, and everyone can go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

import docker_lab
from docker_lab import Lab
from hubs import Client, Hub, client
from support import eventually
from witness import Living, nothing_lost

pytestmark = pytest.mark.timeout(600)
PEOPLE = [f"u{number}" for number in range(20)]


@asynccontextmanager
async def class_of_twenty(folder: Path, config: str = "") -> AsyncIterator[tuple[Hub, Client]]:
    """A running hub with twenty people, and its administrator's client."""
    hub = Hub(folder / "data", config=config)
    async with AsyncExitStack() as stack:
        stack.callback(hub.clean_up)
        hub.add_user("root", admin=True)
        admin = await stack.enter_async_context(client(hub, hub.token("root")))
        await hub.start()
        assert (await admin.call("POST", "/users", json={"usernames": PEOPLE}))[0] == 201
        yield hub, admin


async def ask_for_all(admin: Client) -> set[str]:
    """Everyone presses Start at once; who was told 201 or 202."""

    async def ask(user: str) -> str | None:
        with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
            status, _ = await admin.call("POST", f"/users/{user}/server")
            return user if status in (201, 202) else None
        return None

    return {user for user in await asyncio.gather(*map(ask, PEOPLE)) if user}


async def models(admin: Client) -> dict[str, dict[str, object]]:
    """Everyone's default server; unanswered requests count as not there yet."""
    with contextlib.suppress(aiohttp.ClientError):
        return {user: await admin.server(user) for user in PEOPLE}
    return {}


async def all_rest(admin: Client) -> dict[str, dict[str, object]] | None:
    """The models, once nothing is pending."""
    seen = await models(admin)
    return seen if seen and all(model["pending"] is None for model in seen.values()) else None


async def settle(admin: Client, hub: Hub, asked: set[str], living: Living | None = None) -> None:
    """Wait for the end of it all. A start that failed has a cause, and a second one works."""
    seen = await eventually(
        lambda: all_rest(admin), within_s=120, what=f"all rest; the hub said {hub.said()}"
    )
    for user in asked:
        if not seen[user]["ready"]:
            status, body = await admin.call("POST", f"/users/{user}/server")
            assert status in (201, 202), body
    seen = await eventually(lambda: all_rest(admin), within_s=120, what="the second tries rest")
    ready = {user for user, model in seen.items() if model["ready"]}
    assert asked <= ready, f"a start was lost: {sorted(asked - ready)}\n{hub.said()}"
    await nothing_lost(admin, hub, living=living)


async def some_run(hub: Hub) -> None:
    """A few servers have a process, most have none yet or do not answer yet."""
    await eventually(lambda: len(hub.processes()) >= 3, within_s=60, what="the first processes")


@pytest.mark.parametrize("victim", ["hub", "nest"])
async def test_killed_during_twenty_starts_every_person_has_one_server(tmp_path: Path, victim: str) -> None:
    async with class_of_twenty(tmp_path) as (hub, admin):
        asking = asyncio.create_task(ask_for_all(admin))
        await some_run(hub)
        if victim == "hub":
            hub.kill()
            asked = await asking
            await hub.start()
        else:
            os.kill(hub.nest(), signal.SIGKILL)
            asked = await asking

        await settle(admin, hub, asked)


async def test_an_engine_killed_during_twenty_starts_ends_with_one_container_a_person(
    docker_engine: Lab, tmp_path: Path
) -> None:
    docker_engine.build(docker_lab.SERVER_IMAGE)
    table = {"url": docker_engine.url, "image": docker_lab.SERVER_IMAGE, "pull": "never", "stop_timeout_s": 5}
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in table.items())

    config = f'[spawner]\nkind = "docker"\n[spawner.docker]\n{lines}\n'
    try:
        async with class_of_twenty(tmp_path, config) as (hub, admin):
            asking = asyncio.create_task(ask_for_all(admin))
            await eventually(lambda: len(docker_engine.containers()) >= 3, within_s=60)
            await asyncio.to_thread(docker_engine.stop, signal.SIGKILL)
            await asyncio.to_thread(docker_engine.start)
            asked = await asking

            await settle(admin, hub, asked, docker_engine.lives)
    finally:
        docker_engine.remove_containers()
