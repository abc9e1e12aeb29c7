"""Accidents by chance, one after the other, while people start, save and stop: `make fault-long` runs it, the suite does not.

FAULT_SEED repeats a storm as far as processes let themselves be repeated; a failure says its seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from hubs import Client, Hub, client
from long import lasting
from support import eventually
from witness import nothing_lost

pytestmark = pytest.mark.timeout(1800)
PEOPLE = [f"u{number}" for number in range(5)]
ACCIDENTS = 15


@pytest.fixture
async def place(tmp_path: Path, database_url: str) -> AsyncIterator[tuple[Hub, Client]]:
    url = None if database_url.startswith("sqlite") else database_url
    hub = Hub(
        tmp_path / "data",
        db_url=url,
        config="[servers]\nslow_start_s = 0\nslow_stop_s = 0\nactive_limit = 4\n",
    )
    try:
        await asyncio.to_thread(hub.add_user, "root", admin=True)
        async with client(hub, await asyncio.to_thread(hub.token, "root")) as admin:
            await hub.start()
            assert (await admin.call("POST", "/users", json={"usernames": PEOPLE}))[0] == 201
            yield hub, admin
    finally:
        hub.clean_up()


async def person(admin: Client, name: str, chance: random.Random, over: asyncio.Event) -> None:
    """Starts, saves and stops, in no order; whatever comes back is in the client's history."""
    while not over.is_set():
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            match chance.choice(["start", "start", "save", "stop"]):
                case "save":
                    await admin.save(name, f"notes-of-{name}.txt", str(chance.random()))
                case "start":
                    await admin.call("POST", f"/users/{name}/server")
                case _:
                    await admin.call("DELETE", f"/users/{name}/server")
        await lasting(chance.random() / 2)


async def accident(hub: Hub, chance: random.Random) -> str:
    """One of them, and its end; what it was."""
    what = chance.choice(["hub killed", "hub held up", "proxy killed", "nest killed", "server killed"])
    match what:
        case "hub killed":
            hub.kill()
            await lasting(chance.random())
            await hub.start()
        case "hub held up":
            assert hub.process is not None
            hub.process.send_signal(signal.SIGSTOP)
            await lasting(3 * chance.random())
            hub.process.send_signal(signal.SIGCONT)
        case "proxy killed":
            with contextlib.suppress(OSError, ValueError):
                os.kill(json.loads((hub.data / "proxy.json").read_text())["pid"], signal.SIGKILL)
        case "nest killed":
            with contextlib.suppress(AssertionError, ProcessLookupError):
                os.kill(hub.nest(), signal.SIGKILL)
        case _:
            for pid, _ in chance.sample(living := hub.processes(), min(1, len(living))):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    return what


async def test_after_a_storm_of_accidents_nothing_that_was_acknowledged_is_lost(
    place: tuple[Hub, Client],
) -> None:
    hub, admin = place
    seed = int(os.environ.get("FAULT_SEED", random.randrange(2**32)))
    chance, over, told = random.Random(seed), asyncio.Event(), []
    people = [
        asyncio.create_task(person(admin, name, random.Random(f"{seed} {name}"), over)) for name in PEOPLE
    ]
    try:
        for _ in range(ACCIDENTS):
            await lasting(2 * chance.random())
            told.append(await accident(hub, chance))
        over.set()
        await asyncio.gather(*people)
        await eventually(lambda: any(one.acknowledged for one in admin.history), within_s=1)
        await nothing_lost(admin, hub, within_s=180)
    except BaseException as error:
        error.add_note(f"FAULT_SEED={seed}: {told}")
        raise
    finally:
        over.set()
        await asyncio.gather(*people, return_exceptions=True)
